"""One load for the devices of a workload, and the share that each has of it: what they become.

Rule: a load and its shares are gone before anything is looked up. They become the devices' own rates, which
`sevpcie show` prints and everything else reads; nothing below knows that they were shares. A load of data
counts what the application moves: blocks of drives, frames without FCS, preamble and gap, accesses.
"""

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any, Final

from ..units import format_operations, format_rate
from ..workload.nic import BIMODAL, IMIX
from ..workload.traces.pace import LINE_OVERHEAD
from .gpu_traffic import GpuZeroCopy
from .problems import Origin, Place
from .quantities import Load, Offered
from .traffic import DeviceEntry, NicLoad, NicSampled, NvmeLoad, WorkloadEntry

# What stands for the rate of a device, in its own key, until the share is known.
_PLACEHOLDERS: Final[Mapping[str, tuple[str, Any]]] = {
    "nvme": ("iops", 1),
    "nic": ("rate", "1Gb/s"),
    "gpu": ("rate", "1Mops/s"),
}
# Keys that set a pace of their own.
_PACES: Final = ("iops", "queue_depth", "think", "rate", "trace")
_MIXES: Final = {"imix": IMIX, "bimodal": BIMODAL}
_TOLERANCE: Final = Fraction(1, 10**6)


def _entries(data: Mapping[str, Any]) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    """Yield the devices of a scenario's table with their places, as far as it is one."""
    workloads = data.get("workload")
    for i, workload in enumerate(workloads if isinstance(workloads, list | tuple) else ()):
        devices = workload.get("device") if isinstance(workload, Mapping) else None
        for name, entry in devices.items() if isinstance(devices, Mapping) else ():
            if isinstance(entry, Mapping):
                yield ("workload", i, "device", name), entry


def are_there(data: Any) -> bool:
    """Return whether a scenario's table, if it is one, has a load or a share."""
    workloads = data.get("workload") if isinstance(data, Mapping) else None
    if not isinstance(workloads, list | tuple):
        return False
    loads = any("load" in workload for workload in workloads if isinstance(workload, Mapping))
    return loads or any("share" in entry for _, entry in _entries(data))


def with_placeholders(data: Mapping[str, Any], origin: Origin) -> Mapping[str, Any]:
    """Return a scenario's table with a rate, whatever it is, for each device that has a share.

    Raises: ConfigError: such a device has a pace of its own.
    """
    rates: dict[Place, tuple[str, Any]] = {}
    for place, entry in _entries(data):
        traffic = entry.get("traffic")
        if "share" not in entry or not isinstance(traffic, Mapping):
            continue
        for key in _PACES:
            if key in traffic:
                raise origin.error(
                    (*place, "traffic", key),
                    f"{key!r} beside a share of the load; expected no such key: the share sets the rate",
                )
        job = traffic.get("job")
        if traffic.get("kind") == "gpu" and job is not None and job != "zero-copy":
            raise origin.error(
                (*place, "traffic", "job"), f"{job!r} has no rate to share; expected 'zero-copy' or no share"
            )
        kind = traffic.get("kind")
        if isinstance(kind, str) and kind in _PLACEHOLDERS:
            rates[place] = _PLACEHOLDERS[kind]
    return _replaced(data, rates, keep=True)


def with_rates(
    data: Mapping[str, Any], workloads: Iterable[WorkloadEntry], origin: Origin
) -> Mapping[str, Any]:
    """Return a scenario's table with the rates that loads and shares come to, and without them.

    workloads : what was read of it with placeholders.

    Raises: ConfigError: a load without shares or the reverse, shares that are not all, traffic without bytes.
    """
    rates: dict[Place, tuple[str, Any]] = {}
    for i, workload in enumerate(workloads):
        shared = {name: entry for name, entry in workload.device.items() if entry.share is not None}
        if workload.load is None:
            for name, entry in shared.items():
                raise origin.error(
                    ("workload", i, "device", name, "share"),
                    f"{entry.share:g} of no load; expected load = RATE in the workload",
                )
            continue
        if not shared:
            raise origin.error(
                ("workload", i, "load"),
                f"{Load().text(workload.load)!r} that no device has a share of; expected share = ... in some",
            )
        parts = {name: Fraction(str(entry.share)) for name, entry in shared.items()}
        total = sum(parts.values(), Fraction(0))
        if abs(total - 1) > _TOLERANCE:
            found = " + ".join(f"{float(part):g} ({name})" for name, part in parts.items())
            raise origin.error(
                ("workload", i, "device", next(iter(parts)), "share"),
                f"{found} = {float(total):g} of the load; expected 1 in all",
            )
        for name, entry in shared.items():
            place: Place = ("workload", i, "device", name)
            key = _PLACEHOLDERS[entry.traffic.kind][0]
            rates[place] = key, _rate(entry, workload.load, parts[name], origin, place)
    return _replaced(data, rates, keep=False)


def _rate(entry: DeviceEntry, load: Offered, share: Fraction, origin: Origin, place: Place) -> int | str:
    """Return a device's rate as its traffic table writes it."""
    traffic = entry.traffic
    data, operations = load.bps * share, load.ops * share
    if isinstance(traffic, NvmeLoad):
        still = (traffic.flush_share, traffic.trim_share, traffic.zeroes_share)
        moving = 1 - sum((Fraction(str(part)) for part in still), Fraction(0))
        if data and moving <= 0:
            raise origin.error((*place, "traffic"), "moves no data; expected some, or a load in ops/s")
        return round(operations or data / (8 * traffic.build(None).mix().mean_bytes() * moving))
    if isinstance(traffic, NicLoad):
        sizes = traffic.sizes
        pairs = (
            _MIXES[sizes] if isinstance(sizes, str) else ((1, sizes),) if isinstance(sizes, int) else sizes
        )
        mean = _mean(pairs)
        frames = (operations or data / (8 * mean)) / (2 if traffic.direction == "both" else 1)
        return format_rate(round(frames * 8 * (mean + LINE_OVERHEAD)))
    if isinstance(traffic, GpuZeroCopy):
        return format_operations(round(operations)) if operations else format_rate(round(data))
    assert isinstance(traffic, NicSampled)
    raise origin.error(
        (*place, "traffic", "sizes_of"), "of a device with a share of the load; expected sizes = ..."
    )


def _mean(pairs: Iterable[tuple[int, int]]) -> Fraction:
    """Return the mean bytes of (weight, bytes)."""
    weights = [(weight, size) for weight, size in pairs]
    return Fraction(sum(w * size for w, size in weights), sum(w for w, _ in weights))


def _replaced(
    data: Mapping[str, Any], rates: Mapping[Place, tuple[str, Any]], *, keep: bool
) -> Mapping[str, Any]:
    """Return a table with some devices' rates; keep : loads and shares stay."""
    if not isinstance(data.get("workload"), list | tuple):
        return data
    gone = () if keep else ("load", "share")

    def device(place: Place, entry: Any) -> Any:
        if not isinstance(entry, Mapping):
            return entry
        out = {key: value for key, value in entry.items() if key not in gone}
        if place in rates:
            key, value = rates[place]
            out["traffic"] = {**entry["traffic"], key: value}
        return out

    def workload(i: int, entry: Any) -> Any:
        devices = entry.get("device") if isinstance(entry, Mapping) else None
        if not isinstance(devices, Mapping):
            return entry
        out = {key: value for key, value in entry.items() if key not in gone}
        named = {name: device(("workload", i, "device", name), one) for name, one in devices.items()}
        return {**out, "device": named}

    return {**data, "workload": [workload(i, entry) for i, entry in enumerate(data["workload"])]}
