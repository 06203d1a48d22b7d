"""From a resolved device to its program: which workload builds it, with which numbers.

Rule: a program depends on the scenario and the seed alone, never on scheme or policy, so that all arms of a
comparison see the same arrivals, addresses and device times.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..errors import ConfigError, FormatError, MisuseError
from ..units import format_bytes
from ..workload import gpu, gpu_jobs, nic, nvme, tlps, traces
from ..workload.mix import period_ps, phased, several
from ..workload.peer import with_peer
from ..workload.program import Program, idle
from .resolved import (
    DeviceRun,
    GpuCopiesTraffic,
    GpuDevice,
    GpuIdleTraffic,
    GpuJobTraffic,
    GpuTraffic,
    GpuZeroCopyTraffic,
    Link,
    NicDevice,
    NicRing,
    NicTraffic,
    NvmeDevice,
    NvmeTraffic,
    Reading,
    Resolved,
    TlpDevice,
    TlpTraffic,
    TraceFile,
    Traffic,
)

# Draw streams of one device; the simulator's own streams lie elsewhere.
_STREAMS_PER_DEVICE = 64
_FIRST_STREAM = 1 << 16
# With a duration, and in the background, programs are as long as it takes.
_ENDLESS = 1 << 40


@dataclass(frozen=True)
class Recording:
    """What was read of a trace: its records, and what was wrong with it."""

    records: np.ndarray
    bad: traces.Bad


@lru_cache(maxsize=32)
def _read(
    reader: str,
    path: Path,
    sha256: str,
    limit: int,
    reading: Reading | None,
    local: str | None,
    rung: bool = False,
) -> Recording:
    """Read a trace once per process; its content hash is part of the key."""
    asked = reading or Reading(0, 1.0, False)
    bad = traces.Bad(asked.skip_bad)
    cut = traces.Cut(asked.offset, limit, asked.speed)
    if reader == "gpu":
        return Recording(traces.read_gpu(path, cut=cut, bad=bad), bad)
    if reader == "nic":
        return Recording(traces.read_nic(path, local=local, cut=cut, bad=bad), bad)
    if reader == "tlp":
        return Recording(traces.read_tlp(path, local=local, cut=cut, bad=bad), bad)
    return Recording(traces.read_nvme(path, cut=cut, bad=bad, rung=rung), bad)


def trace_of(traffic: Traffic) -> TraceFile | None:
    """Return the trace of recorded traffic, None of generated."""
    return getattr(traffic, "trace", None)


def recorded(traffic: Traffic) -> Recording:
    """Return what was read of the trace of recorded traffic.

    Raises: FormatError: it cannot be used, or nothing is left of it. ConfigError: no room to sort it.
    """
    trace = trace_of(traffic)
    if trace is None:
        raise MisuseError(f"{traffic.kind}: generated traffic has no trace")
    # Whatever has a trace has these.
    limit, reading = getattr(traffic, "limit", 0), getattr(traffic, "reading", None)
    local = traffic.local if isinstance(traffic, NicTraffic | TlpTraffic) else None
    rung = isinstance(traffic, NvmeTraffic) and traffic.recorded_batches
    with _named(trace):
        return _read(traffic.kind, trace.path, trace.sha256, limit, reading, local, rung)


@contextmanager
def _named(trace: TraceFile) -> Iterator[None]:
    """Let an error about `local` name the key or the option that says it."""
    try:
        yield
    except ConfigError as error:
        key, said = "local: ", str(error)
        if said.startswith(key) and trace.local_at:
            raise ConfigError(trace.local_at + said.removeprefix(key)) from None
        raise


def warnings_of(scenario: Resolved, workloads: Collection[str] = ()) -> list[str]:
    """Return what there is to warn of in the traces of some workloads, all by default, each trace once.

    How many records were malformed and left out, and the first of them; what else is not replayed as it was.
    """
    found = []
    for workload in scenario.workloads:
        for run in workload.devices if not workloads or workload.name in workloads else ():
            trace = trace_of(run.traffic)
            if trace is None:
                continue
            bad = recorded(run.traffic).bad
            if bad.count:
                records = "1 malformed record" if bad.count == 1 else f"{bad.count} malformed records"
                found.append(f"{trace.spec}: {records} left out; the first: {bad.examples[0]}")
            found += [f"{trace.spec}: {text}" for text in bad.notes()]
            if isinstance(run.traffic, TlpTraffic):
                found += [f"{trace.spec}: {text}" for text in _unlike(captured(run.traffic), run.link)]
    return list(dict.fromkeys(found))


def without_effect(requests: int | None, on: Collection[str]) -> list[str]:
    """Return what to warn of where a number of requests was asked for, and these have none."""
    return [f"requests = {requests} has no effect on {', '.join(on)}"] if requests and on else []


def _unlike(found: tlps.Capture, link: Link) -> Iterator[str]:
    """Yield in what a replay of recorded TLPs is not what was recorded."""
    if found.left_out:
        kinds = ", ".join(f"{count} {name}" for name, count in found.left_out.items())
        yield f"TLPs that the model has no steps for are left out: {kinds}"
    limits = (("read", link.mrrs, "MRRS"), ("write", link.mps, "MPS"), ("doorbell", link.mps, "MPS"))
    for name, size, limit in limits:
        largest = found.classes[name].largest
        if largest > size:
            yield f"{name}s of up to {largest} B are cut at {size} B, {limit} of the link {link.name}"


def _check_longest(records: np.ndarray, mdts: int, name: str) -> None:
    """Raise FormatError for a recorded request that a drive cannot take."""
    moved = records["bytes"][records["op"] <= nvme.WRITE]
    largest = int(moved.max(initial=0))
    if mdts and nvme.commands_of(largest, mdts) > nvme.MAX_COMMANDS:
        found = f"a request of {largest} bytes is {nvme.commands_of(largest, mdts)} commands of mdts"
        raise FormatError(f"{name}: {found} ({format_bytes(mdts)}); expected at most {nvme.MAX_COMMANDS}")
    if not mdts and largest > nvme.MAX_BYTES:
        most = format_bytes(nvme.MAX_BYTES)
        raise FormatError(
            f"{name}: a command of {largest} bytes; expected at most {most}, which no drive takes in one, "
            "or a device with mdts"
        )


def _nvme(
    device: NvmeDevice, traffic: NvmeTraffic, requests: int, seed: int, stream: int, repeats: bool
) -> Program:
    mix = traffic.mix()
    commands = nvme.commands_of(mix.largest(), device.mdts)
    controller = nvme.Controller(
        media_read=device.media_read,
        media_write=device.media_write,
        dies=device.dies,
        controller_ps=device.controller_ps,
        msi=device.msi,
        coalesce=device.coalesce or 1,
        fetch=device.fetch or 1,
        queues=device.queues or 1,
        entries=nvme.ring_entries(device.entries, traffic.queue_depth, device.queues or 1, commands),
        segment=device.segment,
        shadow=device.shadow_every,
        most=device.mdts,
        media_read_ahead=device.media_read_ahead,
    )
    if traffic.trace is not None:
        records = recorded(traffic).records
        _check_longest(records, device.mdts, traffic.trace.spec)
        if again := period_ps(records["t_ps"]) if repeats else 0:
            records, again = several(records, again)
        return nvme.replay(controller, records, repeat_ps=again, seed=seed, stream=stream)
    batch = traffic.batch or 1
    if traffic.rate:
        return nvme.open_loop(
            controller, mix, requests=requests, rate=traffic.rate, batch=batch, seed=seed, stream=stream
        )
    return nvme.closed_loop(
        controller,
        mix,
        requests=requests,
        queue_depth=traffic.queue_depth,
        batch=batch,
        think_ps=traffic.think_ps,
        seed=seed,
        stream=stream,
    )


_DIRECTIONS = {"rx": (nic.RX,), "tx": (nic.TX,), "both": (nic.RX, nic.TX)}
_FRAMES = {"imix": nic.IMIX, "bimodal": nic.BIMODAL}


def _ring(device: NicDevice, ring: NicRing | None) -> nic.Ring:
    if ring is None:
        return nic.Ring(
            doorbell=device.descriptor_batch,
            fetch=device.descriptor_batch,
            completion_bytes=device.completion_bytes,
            completions=device.completion_batch,
            interrupt=device.msi_batch,
        )
    return nic.Ring(
        doorbell=ring.doorbell_batch,
        fetch=ring.descriptor_batch,
        whole=ring.whole_fetches,
        completion_bytes=ring.completion_bytes,
        completions=ring.completion_batch,
        interrupt=ring.msi_batch,
        status=ring.status_batch,
        descriptor_bytes=ring.descriptor_bytes,
    )


def adapter(device: NicDevice) -> nic.Adapter:
    """Return the generator's numbers of a network adapter."""
    return nic.Adapter(
        rx=_ring(device, device.rx),
        tx=_ring(device, device.tx),
        descriptor_bytes=device.descriptor_bytes,
        pipeline_ps=device.pipeline_ps,
        entries=device.entries or nic.ENTRIES,
        header=device.header,
        moderation_ps=device.moderation_ps,
    )


def _sizes(traffic: NicTraffic, direction: int) -> Sequence[tuple[int, int]]:
    """Return weights and bytes of generated frames of a direction.

    Raises: FormatError: a capture to draw them from has none.
    """
    trace = traffic.sizes_of
    if trace is None:
        sizes = traffic.sizes
        return traffic.weighted or (_FRAMES[sizes] if isinstance(sizes, str) else ((1, sizes),))
    with _named(trace):
        frames = _read("nic", trace.path, trace.sha256, 0, None, traffic.local).records
    mine = frames[frames["direction"] == direction]
    if len(mine) == 0:
        name = ("rx", "tx")[direction]
        raise FormatError(f"{trace.spec}: no {name} frame to take sizes from; expected at least one")
    return nic.sizes_of(mine)


def _nic(
    device: NicDevice, traffic: NicTraffic, requests: int, seed: int, stream: int, repeats: bool
) -> Program:
    directions = _DIRECTIONS[traffic.direction]
    if traffic.trace is None:
        load = nic.Load(
            {direction: _sizes(traffic, direction) for direction in directions},
            traffic.rate_bps,
            device.line_rate_bps,
        )
        return nic.open_loop(adapter(device), load, requests=requests, seed=seed, stream=stream)
    records = recorded(traffic).records
    only = None if len(directions) > 1 else directions[0]
    if only is not None and not (records["direction"] == only).any():
        raise FormatError(f"{traffic.trace.spec}: no {traffic.direction} frame; expected at least one")
    # Captures of a loopback are faster than a wire: each direction is spaced to the line rate of the device.
    rate = 0 if traffic.recorded_pace else device.line_rate_bps
    if again := period_ps(records["t_ps"]) if repeats else 0:
        records, again = several(records, again)
    return nic.replay(adapter(device), records, line_rate_bps=rate, only=only, repeat_ps=again)


def _gpu(device: GpuDevice, traffic: GpuTraffic, repeats: bool) -> Program:
    records = recorded(traffic).records
    make = gpu.repeated if repeats else gpu.job
    return make(
        times_ps=records["t_ps"] - records["t_ps"][0],
        durations_ps=records["dur_ps"],
        kinds=records["kind"],
        sizes=records["bytes"],
        streams=records["stream"],
        engine=device.engine,
    )


def _gpu_generated(device: GpuDevice, traffic: GpuJobTraffic | GpuCopiesTraffic, requests: int) -> Program:
    if isinstance(traffic, GpuCopiesTraffic):
        return traffic.copies.program(requests, device.engine)
    return gpu_jobs.program(traffic.job, requests, device.engine)


def captured(traffic: TlpTraffic) -> tlps.Capture:
    """Return what recorded TLPs consist of. Raises: as `recorded`."""
    return _captured(traffic.trace.path, traffic.trace.sha256, traffic)


@lru_cache(maxsize=8)
def _captured(path: Path, sha256: str, traffic: TlpTraffic) -> tlps.Capture:
    """Count a trace once per process."""
    return tlps.capture(recorded(traffic).records)


def _tlp(traffic: TlpTraffic, repeats: bool) -> Program:
    named = [tlps.parse_named(text) for text in traffic.buffers]
    records = recorded(traffic).records
    if again := period_ps(records["t_ps"]) if repeats else 0:
        records, again = several(records, again)
    try:
        return tlps.replay(records, captured(traffic), named, again)
    except FormatError as error:
        raise FormatError(f"{traffic.trace.spec}: {error}") from None


def build(run: DeviceRun, index: int, seed: int, duration_ps: int, peer: int | None = None) -> Program:
    """Return the program of a device.

    Parameters
    ----------
    index : place of the device in its workload; seed : key of its draws.
    peer : place of the device that its data lie in; None for the host.
    duration_ps : 0, or how long the workload runs: then the program does not end by itself.

    Raises
    ------
    FormatError : a trace that cannot be used.
    """
    # What others outlast starts over.
    endless = duration_ps > 0 or run.background
    program = _build(run, index, seed, _ENDLESS if endless else run.requests, run.background)
    if peer is not None:
        program = with_peer(program, peer)
    if run.phase is not None:
        program = phased(program, run.phase)
    return replace(program, background=True) if run.background else program


def _build(run: DeviceRun, index: int, seed: int, requests: int, repeats: bool) -> Program:
    """Return the program of a device, as if it were alone; repeats : a recording starts over."""
    stream = _FIRST_STREAM + index * _STREAMS_PER_DEVICE
    device, traffic = run.device, run.traffic
    if isinstance(device, NvmeDevice) and isinstance(traffic, NvmeTraffic):
        return _nvme(device, traffic, requests, seed, stream, repeats)
    if isinstance(device, NicDevice) and isinstance(traffic, NicTraffic):
        return _nic(device, traffic, requests, seed, stream, repeats)
    if isinstance(device, GpuDevice) and isinstance(traffic, GpuTraffic):
        return _gpu(device, traffic, repeats)
    if isinstance(device, GpuDevice) and isinstance(traffic, GpuJobTraffic | GpuCopiesTraffic):
        return _gpu_generated(device, traffic, requests)
    if isinstance(device, GpuDevice) and isinstance(traffic, GpuIdleTraffic):
        return idle()
    if isinstance(device, GpuDevice) and isinstance(traffic, GpuZeroCopyTraffic):
        return traffic.accesses.program(requests, run.sizes.mrrs, seed, stream)
    if isinstance(device, TlpDevice) and isinstance(traffic, TlpTraffic):
        return _tlp(traffic, repeats)
    raise MisuseError(f"{run.name}: a {device.kind} device cannot run {traffic.kind} traffic")
