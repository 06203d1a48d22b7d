"""Where a key belongs that stands in the wrong table of a scenario or preset: the hint behind "unknown key".

Rule: what keys there are is read from the models alone; here they only get the words of a file.
"""

from collections.abc import Iterator
from typing import Final

from . import tables, traffic
from .gpu_traffic import (
    GpuCheckpoint,
    GpuCopies,
    GpuDecode,
    GpuKvSwap,
    GpuTraining,
    GpuWeights,
    GpuZeroCopy,
)
from .model import Scenario

# Keys of nearly every table say nothing.
_EVERYWHERE: Final = frozenset({"kind", "name", "source", "title", "trace"})
# Most homes that one hint names.
_MOST: Final = 2


_JOBS: Final[dict[str, type[tables.Table]]] = {
    "training": GpuTraining,
    "checkpoint": GpuCheckpoint,
    "decode": GpuDecode,
    "kv-swap": GpuKvSwap,
    "weights": GpuWeights,
    "zero-copy": GpuZeroCopy,
    "copies": GpuCopies,
}


def _homes() -> Iterator[tuple[type[tables.Table], str, str]]:
    """Yield (model, kind of device or '', words), the nearest to a user first; {key} in words is the key.

    Of models that extend one another the first has all, and the others only what is their own.
    """
    yield Scenario, "", "at the top of the file"
    yield traffic.WorkloadEntry, "", "in [[workload]]"
    yield traffic.DeviceEntry, "", "in [workload.device.NAME]"
    yield traffic.NvmeRequests, "nvme", "in traffic of kind 'nvme' without trace"
    yield traffic.NvmeLoop, "nvme", "in traffic of kind 'nvme' without iops and trace"
    yield traffic.NvmeLoad, "nvme", "in traffic of kind 'nvme' without queue_depth, think and trace"
    yield traffic.NicAtRate, "nic", "in traffic of kind 'nic' without trace"
    yield traffic.NicLoad, "nic", "in traffic of kind 'nic' without sizes_of and trace"
    yield traffic.NicSampled, "nic", "in traffic of kind 'nic' without sizes and trace"
    yield traffic.NvmeTrace, "", "in traffic with a trace"
    yield traffic.NicTrace, "nic", "in traffic of kind 'nic' with a trace"
    yield traffic.TlpTrace, "tlp", "in traffic of kind 'tlp'"
    for job, model in _JOBS.items():
        yield model, "gpu", f"in traffic of kind 'gpu' with job = '{job}'"
    for kind, device in tables.DEVICES.items():
        yield device, kind, f"in the device of kind '{kind}': preset = {{{{ base = NAME, {{key}} = ... }}}}"
    yield tables.NicRingTable, "nic", "in rx or tx of the device of kind 'nic'"
    yield tables.NicTransmitTable, "nic", "in tx of the device of kind 'nic'"
    yield tables.LinkTable, "", "in the link: link = {{ base = NAME, {key} = ... }}"
    yield tables.DataLinkTable, "", "in data_link of the link"
    yield tables.HostTable, "", "in the host: host = {{ base = NAME, {key} = ... }}"
    yield tables.RootPortTable, "", "in root_port of the host"
    yield tables.IommuTable, "", "in iommu of the host"
    yield tables.HostCreditsTable, "", "in credits of the host"
    yield tables.DeviceCreditsTable, "", "in credits of the device"
    yield tables.SchemeTable, "", "in the scheme: scheme = {{ base = NAME, {key} = ... }}"
    yield tables.EngineTable, "", "in engine of the scheme"
    yield tables.BounceTable, "", "in bounce of the scheme"
    yield tables.HostWorkTable, "", "in host of the scheme"
    yield tables.AggregationTable, "", "in aggregation of the scheme"
    yield traffic.SwitchTable, "", "in [workload.switch.NAME]"
    yield traffic.PhaseTable, "", "in phase of the device"
    yield traffic.RegionsTable, "", "in [regions]"
    yield traffic.ArmEntry, "", "in [[arm]]"


def _found(key: str) -> Iterator[tuple[str, str]]:
    """Yield (kind or '', words) of the tables that have a key."""
    seen: list[type[tables.Table]] = []
    for model, kind, words in _homes():
        if key in model.model_fields and not issubclass(model, tuple(seen)):
            seen.append(model)
            yield kind, words.format(key=key)


def belongs(key: str, kind: object) -> str:
    """Return "; it belongs in ..." for a key that other tables have; else nothing.

    Parameters: kind: of the device that the table is about, if it says so; its own tables come first.
    """
    if key in _EVERYWHERE:
        return ""
    found = list(_found(key))
    mine = [words for of, words in found if of == kind] or [words for of, words in found if not of]
    told = list(dict.fromkeys(mine or [words for _, words in found]))[:_MOST]
    return f"; it belongs {', or '.join(told)}" if told else ""
