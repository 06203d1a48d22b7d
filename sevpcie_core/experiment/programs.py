"""From a resolved device to its program: which workload builds it, with which numbers.

Rule: a program depends on the scenario and the seed alone, never on scheme or policy, so that all arms of a
comparison see the same arrivals, addresses and device times.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np

from ..errors import FormatError, MisuseError
from ..workload import gpu, nic, nvme, traces
from ..workload.program import Program
from .resolved import (
    DeviceRun,
    GpuDevice,
    GpuTraffic,
    NicDevice,
    NicTraffic,
    NvmeDevice,
    NvmeTraffic,
    TraceFile,
)

# Draw streams of one device; the simulator's own streams lie elsewhere.
_STREAMS_PER_DEVICE = 64
_FIRST_STREAM = 1 << 16
# With a duration, programs are as long as it takes.
_ENDLESS = 1 << 40


@lru_cache(maxsize=32)
def _records(reader: str, path: Path, sha256: str, limit: int, local: str | None) -> np.ndarray:
    """Read a trace once per process; its content hash is part of the key."""
    cut = traces.Cut(limit=limit)
    if reader == "gpu":
        return traces.read_gpu(path, cut=cut)
    if reader == "nic":
        return traces.read_nic(path, local=local, cut=cut)
    return traces.read_nvme(path, cut=cut)


def _trace(reader: str, trace: TraceFile, limit: int, local: str | None = None) -> np.ndarray:
    records = _records(reader, trace.path, trace.sha256, limit, local)
    if len(records) == 0:
        raise FormatError(f"{trace.spec}: no record of {reader} traffic; expected at least one")
    return records


def _nvme(device: NvmeDevice, traffic: NvmeTraffic, requests: int, seed: int, stream: int) -> Program:
    common = {
        "media_read": device.media_read,
        "media_write": device.media_write,
        "dies": device.dies,
        "controller_ps": device.controller_ps,
        "msi": device.msi,
        "seed": seed,
        "stream": stream,
    }
    if traffic.trace is None:
        return nvme.closed_loop(
            requests=requests,
            queue_depth=traffic.queue_depth,
            block=traffic.block,
            read_share=traffic.read_share,
            think_ps=traffic.think_ps,
            **common,  # type: ignore[arg-type]
        )
    records = _trace("nvme", traffic.trace, traffic.limit)
    return nvme.replay(
        times_ps=records["t_ps"] - records["t_ps"][0],
        operations=records["op"],
        sizes=records["bytes"],
        **common,  # type: ignore[arg-type]
    )


def _nic(device: NicDevice, traffic: NicTraffic, requests: int, seed: int, stream: int) -> Program:
    common = {
        "descriptor_bytes": device.descriptor_bytes,
        "descriptor_batch": device.descriptor_batch,
        "completion_bytes": device.completion_bytes,
        "completion_batch": device.completion_batch,
        "msi_batch": device.msi_batch,
        "pipeline_ps": device.pipeline_ps,
    }
    if traffic.trace is None:
        return nic.open_loop(
            requests=requests,
            direction={"rx": nic.RX, "tx": nic.TX}[traffic.direction],
            frame_bytes=0 if traffic.sizes == "imix" else traffic.sizes,
            rate_bps=traffic.rate_bps,
            line_rate_bps=device.line_rate_bps,
            seed=seed,
            stream=stream,
            **common,
        )
    records = _trace("nic", traffic.trace, traffic.limit, traffic.local)
    if traffic.direction != "both":
        wanted = traces.NIC_RX if traffic.direction == "rx" else traces.NIC_TX
        records = records[records["direction"] == wanted]
        if len(records) == 0:
            raise FormatError(f"{traffic.trace.spec}: no {traffic.direction} frame; expected at least one")
    times = np.empty(len(records), np.int64)
    # Captures of a loopback are faster than a wire: each direction is spaced to the line rate of the device.
    for direction in (traces.NIC_RX, traces.NIC_TX):
        mine = records["direction"] == direction
        times[mine] = traces.pace_line(
            records["t_ps"][mine] - records["t_ps"][0], records["bytes"][mine], device.line_rate_bps
        )
    order = np.argsort(times, kind="stable")
    return nic.replay(
        times_ps=times[order], sizes=records["bytes"][order], directions=records["direction"][order], **common
    )


def _gpu(device: GpuDevice, traffic: GpuTraffic) -> Program:
    records = _trace("gpu", traffic.trace, traffic.limit)
    return gpu.job(
        times_ps=records["t_ps"] - records["t_ps"][0],
        durations_ps=records["dur_ps"],
        kinds=records["kind"],
        sizes=records["bytes"],
        streams=records["stream"],
        copy_setup_ps=device.copy_setup_ps,
        semaphore_bytes=device.semaphore_bytes,
        pushbuffer_bytes=device.pushbuffer_bytes,
        launch_lead_ps=device.launch_lead_ps,
        front_end_ps=device.front_end_ps,
    )


def build(run: DeviceRun, index: int, seed: int, duration_ps: int) -> Program:
    """Return the program of a device.

    Parameters
    ----------
    index : place of the device in its workload; seed : key of its draws.
    duration_ps : 0, or how long the workload runs: then the program does not end by itself.

    Raises
    ------
    FormatError : a trace that cannot be used.
    """
    requests = _ENDLESS if duration_ps else run.requests
    stream = _FIRST_STREAM + index * _STREAMS_PER_DEVICE
    device, traffic = run.device, run.traffic
    if isinstance(device, NvmeDevice) and isinstance(traffic, NvmeTraffic):
        return _nvme(device, traffic, requests, seed, stream)
    if isinstance(device, NicDevice) and isinstance(traffic, NicTraffic):
        return _nic(device, traffic, requests, seed, stream)
    if isinstance(device, GpuDevice) and isinstance(traffic, GpuTraffic):
        return _gpu(device, traffic)
    raise MisuseError(f"{run.name}: a {device.kind} device cannot run {traffic.kind} traffic")
