"""The tables of preset files, one model each: keys, rules, defaults, and what they become.

Rule: a model holds what a file says, in base units; `build` turns it into the frozen values of
`resolved.py`. What one key alone can break is its rule's affair (`fields.py`); what keys break together is
named by `problems`.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, model_validator

from .. import spec
from ..link.params import (
    MAX_BIT_ERROR_RATE,
    MAX_HEADERS,
    MAX_REPLAY_BYTES,
    MAX_WALKERS,
    MIN_BIT_ERROR_RATE,
    NO_IOMMU,
    Credits,
    DataLink,
    Iommu,
    RootPort,
)
from ..units import format_bytes, format_time
from ..workload.gpu_commands import Engine
from . import resolved
from .fields import Choice, Flag, Name, Number, Several, Text, Whole
from .problems import check_table, shown
from .quantities import Interval, PowerSize, Rate, Size, Spread, Time

# Longer than any link or root complex takes for one TLP.
_MS = 10**9


class Table(BaseModel):
    """A table of a file. Raises ValueError, for what it is given, with a text of `problems.py`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, data: Any) -> Any:
        if not isinstance(data, cls):
            required = [name for name, field in cls.model_fields.items() if field.is_required()]
            check_table(data, list(cls.model_fields), required)
        return data

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, tail) for what keys break together."""
        yield from ()


class Preset(Table):
    """A table that a preset file may hold alone. Numbers have a source each."""

    title: Annotated[str, Text()] = ""
    source: dict[str, Annotated[str, Text()]] = {}

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield sources of keys that do not exist."""
        for key in self.source:
            if key not in type(self).model_fields:
                yield "source", f"source of {key!r}; expected the name of a key of this table"


class DataLinkTable(Preset):
    """What a link carries beside TLPs, and what its ends keep for that."""

    ack_every: Annotated[int, Whole(0, 4096)] = 0
    update_every: Annotated[int, Whole(0, 4096)] = 0
    credit: Annotated[int, Time(_MS)] = 0
    skip_every: Annotated[int, Size(0, 1 << 20)] = 0
    skip_bytes: Annotated[int, Size(0, 1 << 16)] = 0
    replay_bytes: Annotated[int, Size(0, MAX_REPLAY_BYTES)] = 0
    bit_error_rate: Annotated[float, Number(0, MAX_BIT_ERROR_RATE)] = 0.0
    nak: Annotated[int, Time(_MS)] = 0

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield an error rate that no draw can tell from none."""
        yield from super().problems()
        if self.bit_error_rate and self.bit_error_rate < MIN_BIT_ERROR_RATE:
            yield "bit_error_rate", f"{self.bit_error_rate:g}; expected 0, or {MIN_BIT_ERROR_RATE:g} at least"

    def build(self) -> DataLink:
        """Return the simulator's values."""
        return DataLink(
            ack_every=self.ack_every,
            update_every=self.update_every,
            credit_ps=self.credit,
            skip_every=self.skip_every,
            skip_bytes=self.skip_bytes,
            replay_bytes=self.replay_bytes,
            bit_error_rate=self.bit_error_rate,
            nak_ps=self.nak,
        )


_Headers: TypeAlias = Annotated[int, Whole(0, MAX_HEADERS)]
# PCIe Base r6.x, section 2.6.1: 2047 units without scaling, 16 times as many with the largest scale.
_Units: TypeAlias = Annotated[int, Whole(0, 32768)]


class PostedTable(Preset):
    """A receiver's buffer for posted requests, as credits; 0 is infinite."""

    posted_headers: _Headers = 0
    posted_data: _Units = 0

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield headers without data, and the reverse."""
        yield from super().problems()
        for kind in ("posted", "completion"):
            headers, data = getattr(self, f"{kind}_headers", 0), getattr(self, f"{kind}_data", 0)
            if bool(headers) != bool(data):
                yield f"{kind}_headers", f"{headers} with {kind}_data {data}; expected both or neither"


class HostCreditsTable(PostedTable):
    """Buffers of a root port. No completions go up to it: the host reads nothing from devices."""

    non_posted_headers: _Headers = 0

    def build(self) -> Credits:
        """Return the simulator's values."""
        return Credits(self.posted_headers, self.posted_data, self.non_posted_headers)


class DeviceCreditsTable(PostedTable):
    """Buffers of a device. An endpoint has infinite ones for completions (PCIe Base r6.x, section 2.6.1)."""

    completion_headers: _Headers = 0
    completion_data: _Units = 0

    def build(self) -> Credits:
        """Return the simulator's values."""
        return Credits(
            self.posted_headers, self.posted_data, 0, self.completion_headers, self.completion_data
        )


class RootPortTable(Preset):
    """What becomes of posted writes."""

    drain_tlp: Annotated[int, Time(_MS)] = 0
    drain_line: Annotated[int, Time(_MS)] = 0
    write_latency: Annotated[int, Time(_MS)] = 0
    ordered: Annotated[bool, Flag()] = True

    def build(self) -> RootPort:
        """Return the simulator's values."""
        return RootPort(self.drain_tlp, self.drain_line, self.write_latency, self.ordered)


class IommuTable(Preset):
    """Address translation; without entries there is none."""

    entries: Annotated[int, Whole(0, 1 << 16)]
    ways: Annotated[int, Whole(1, 1 << 16)]
    page: Annotated[int, Choice((1 << 12, 1 << 21, 1 << 30))] = 1 << 12
    walkers: Annotated[int, Whole(1, MAX_WALKERS)]
    walk: Annotated[int, Time(_MS)]

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield sets that are not a power of two."""
        yield from super().problems()
        sets = self.entries // self.ways
        if self.entries and (sets * self.ways != self.entries or sets & (sets - 1)):
            yield "ways", f"{self.ways} of {self.entries} entries; expected 1, 2, 4 ... whole sets"

    def build(self, walk: resolved.Quantiles | None = None) -> Iommu:
        """Return the simulator's values; `walk` replaces the constant time of one."""
        return Iommu(
            entries=self.entries,
            ways=self.ways,
            page_shift=self.page.bit_length() - 1,
            walkers=self.walkers,
            walk=walk or ((0.0, self.walk), (1.0, self.walk)),
        )


class LinkShape(Preset):
    """Rate and sizes of a PCIe link."""

    gen: Annotated[int, Whole(min(spec.GIGATRANSFERS), max(spec.GIGATRANSFERS))]
    lanes: Annotated[int, Choice(spec.LANES)]
    mps: Annotated[int, PowerSize(min(spec.PAYLOAD_SIZES), max(spec.PAYLOAD_SIZES))]
    mrrs: Annotated[int, PowerSize(min(spec.PAYLOAD_SIZES), max(spec.PAYLOAD_SIZES))]
    rcb: Annotated[int, PowerSize(*spec.READ_COMPLETION_BOUNDARIES)]
    completion_bytes: Annotated[int | None, Size(1, max(spec.PAYLOAD_SIZES))] = None
    propagation: Annotated[int, Time(_MS)]
    flit_check: Annotated[int, Time(_MS)] = 0

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield what is wrong with completion_bytes, and a check of flits that there are not."""
        yield from super().problems()
        if self.flit_check and self.gen < spec.FIRST_FLIT_GENERATION:
            expected = f"expected no such key before generation {spec.FIRST_FLIT_GENERATION}"
            yield "flit_check", f"{format_time(self.flit_check)!r} at generation {self.gen}; {expected}"
        size = self.completion_bytes
        if size is not None and (size > self.mps or size % self.rcb):
            allowed = f"a multiple of rcb ({self.rcb}) of at most mps ({self.mps})"
            yield "completion_bytes", f"{format_bytes(size)}; expected {allowed}"


class LinkTable(LinkShape):
    """A PCIe link, with what it carries beside TLPs."""

    data_link: DataLinkTable = DataLinkTable()

    def build(self, name: str) -> resolved.Link:
        """Return the frozen link."""
        return resolved.Link(
            gen=self.gen,
            lanes=self.lanes,
            mps=self.mps,
            mrrs=self.mrrs,
            rcb=self.rcb,
            completion_bytes=self.mps if self.completion_bytes is None else self.completion_bytes,
            propagation_ps=self.propagation,
            flit_check_ps=self.flit_check,
            flit=self.gen >= spec.FIRST_FLIT_GENERATION,
            data_link=self.data_link.build(),
            name=name,
        )


class HostTable(Preset):
    """A root complex and its memory."""

    read_latency: Annotated[resolved.Quantiles, Spread()]
    read_interval: Annotated[int, Time(_MS)]
    numa_hop: Annotated[int, Time(_MS)] = 0
    peer_latency: Annotated[int, Time(_MS)] = 0
    root_port: RootPortTable = RootPortTable()
    credits: HostCreditsTable = HostCreditsTable()
    iommu: IommuTable | None = None

    def build(self, name: str) -> resolved.Host:
        """Return the frozen host: a hop to memory of another socket comes to every read and write."""
        port = self.root_port.build()
        hop = self.numa_hop
        return resolved.Host(
            read_latency=tuple((p, time + 2 * hop) for p, time in self.read_latency),
            read_interval_ps=self.read_interval,
            root_port=replace(port, write_latency_ps=port.write_latency_ps + hop),
            credits=self.credits.build(),
            iommu=NO_IOMMU if self.iommu is None else self.iommu.build(),
            peer_latency_ps=self.peer_latency,
            name=name,
        )


_Tags: TypeAlias = Annotated[int, Whole(1, spec.MAX_TAGS)]


# Memory pages of a controller, and so the least that lies together.
_PAGE: Final = 4096


def _unless(value: int, usual: int) -> int:
    """Return a number, 0 for the usual one: what a digest leaves out."""
    return 0 if value == usual else value


class NvmeTable(Preset):
    """An NVMe controller."""

    kind: Annotated[Literal["nvme"], Choice(("nvme",))]
    tags: _Tags
    media_read: Annotated[resolved.Quantiles, Spread()]
    media_write: Annotated[resolved.Quantiles, Spread()]
    dies: Annotated[int, Whole(0, 65536)]
    controller: Annotated[int, Time()]
    msi: Annotated[bool, Flag()]
    relaxed_ordering: Annotated[bool, Flag()] = False
    id_based_ordering: Annotated[bool, Flag()] = False
    coalesce: Annotated[int, Whole(1, 256)] = 1
    fetch: Annotated[int, Whole(1, 64)] = 1
    queues: Annotated[int, Whole(1, 1024)] = 1
    queue_entries: Annotated[int | None, Whole(2, 65536)] = None
    data_pointers: Annotated[Literal["prp", "sgl"], Choice(("prp", "sgl"))] = "prp"
    sgl_segment: Annotated[int | None, Size(4096, 2**24, 4096)] = None
    shadow_every: Annotated[int, Whole(0, 65536)] = 0
    media_read_ahead: Annotated[resolved.Quantiles | None, Spread()] = None
    # NVM Express Base Specification 2.0, section 5.17.2.1: MDTS, a power of two of memory pages; 0: no limit.
    mdts: Annotated[int, PowerSize(4096, 1 << 26, none=True)] = 0
    credits: DeviceCreditsTable = DeviceCreditsTable()

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield a segment where nothing has any."""
        yield from super().problems()
        if self.data_pointers == "prp" and self.sgl_segment is not None:
            found = format_bytes(self.sgl_segment)
            yield "sgl_segment", f"{found}; expected no such key with data_pointers 'prp'"

    def build(self, name: str) -> resolved.NvmeDevice:
        """Return the frozen device."""
        return resolved.NvmeDevice(
            tags=self.tags,
            media_read=self.media_read,
            media_write=self.media_write,
            dies=self.dies,
            controller_ps=self.controller,
            msi=self.msi,
            relaxed_ordering=self.relaxed_ordering,
            id_based_ordering=self.id_based_ordering,
            credits=self.credits.build(),
            coalesce=_unless(self.coalesce, 1),
            fetch=_unless(self.fetch, 1),
            queues=_unless(self.queues, 1),
            entries=self.queue_entries or 0,
            segment=(self.sgl_segment or _PAGE) if self.data_pointers == "sgl" else 0,
            shadow_every=self.shadow_every,
            mdts=self.mdts,
            media_read_ahead=self.media_read_ahead or (),
            name=name,
        )


# Frames to send that a program makes together.
_MOST_WAITING: Final = 4096


class NicRingTable(Preset):
    """How one direction of an adapter uses its ring: keys that differ from the adapter's own."""

    doorbell_batch: Annotated[int | None, Whole(1, 1024)] = None
    descriptor_bytes: Annotated[int | None, Size(4, 4096, 4)] = None
    descriptor_batch: Annotated[int | None, Whole(1, 1024)] = None
    completion_bytes: Annotated[int | None, Size(4, 4096, 4)] = None
    completion_batch: Annotated[int | None, Whole(1, 1024)] = None
    msi_batch: Annotated[int | None, Whole(0, 65536)] = None
    status_batch: Annotated[int, Whole(0, 65536)] = 0

    def build(self, usual: resolved.NicRing) -> resolved.NicRing:
        """Return the frozen ring, given the usual one."""
        names = [field.name for field in fields(resolved.NicRing)]
        given = {name: getattr(self, name, None) for name in names}
        return replace(usual, **{name: value for name, value in given.items() if value is not None})


class NicReceiveTable(NicRingTable):
    """The receive ring."""


class NicTransmitTable(NicRingTable):
    """The transmit ring: it may do without write-backs, and wait for a batch of descriptors."""

    completion_batch: Annotated[int | None, Whole(0, 1024)] = None
    whole_fetches: Annotated[bool, Flag()] = False


class NicTable(Preset):
    """A network adapter."""

    kind: Annotated[Literal["nic"], Choice(("nic",))]
    tags: _Tags
    line_rate: Annotated[int, Rate()]
    descriptor_bytes: Annotated[int, Size(4, 4096, 4)]
    descriptor_batch: Annotated[int, Whole(1, 1024)]
    completion_bytes: Annotated[int, Size(4, 4096, 4)]
    completion_batch: Annotated[int, Whole(1, 1024)]
    msi_batch: Annotated[int, Whole(0, 65536)]
    pipeline: Annotated[int, Time()]
    relaxed_ordering: Annotated[bool, Flag()] = False
    id_based_ordering: Annotated[bool, Flag()] = False
    ring_entries: Annotated[int | None, Whole(2, 65536)] = None
    header_split: Annotated[int, Size(0, 4096)] = 0
    msi_time: Annotated[int, Time()] = 0
    rx: NicReceiveTable | None = None
    tx: NicTransmitTable | None = None
    credits: DeviceCreditsTable = DeviceCreditsTable()

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield batches that a ring has no room for."""
        yield from super().problems()
        rings = self._rings()
        batches = ("doorbell_batch", "descriptor_batch", "completion_batch")
        largest = max(getattr(ring, name) for ring in rings for name in batches)
        if self.ring_entries is not None and self.ring_entries < largest:
            yield "ring_entries", f"{self.ring_entries}; expected at least the largest batch, {largest}"
        tx = rings[1]
        even = math.lcm(tx.doorbell_batch, tx.descriptor_batch)
        if tx.whole_fetches and even > _MOST_WAITING:
            found = f"whole_fetches: doorbells and reads come out even after {even} frames"
            yield "tx", f"{found}; expected {_MOST_WAITING} at most"

    def _rings(self) -> list[resolved.NicRing]:
        """Return the receive and the transmit ring."""
        rings = [self._usual() if ring is None else ring.build(self._usual()) for ring in (self.rx, self.tx)]
        usual = self.descriptor_bytes
        return [replace(ring, descriptor_bytes=_unless(ring.descriptor_bytes, usual)) for ring in rings]

    def _usual(self) -> resolved.NicRing:
        return resolved.NicRing(
            doorbell_batch=self.descriptor_batch,
            descriptor_batch=self.descriptor_batch,
            whole_fetches=False,
            completion_bytes=self.completion_bytes,
            completion_batch=self.completion_batch,
            msi_batch=self.msi_batch,
            status_batch=0,
        )

    def build(self, name: str) -> resolved.NicDevice:
        """Return the frozen device."""
        usual = self._usual()
        rx, tx = self._rings()
        return resolved.NicDevice(
            tags=self.tags,
            line_rate_bps=self.line_rate,
            descriptor_bytes=self.descriptor_bytes,
            descriptor_batch=self.descriptor_batch,
            completion_bytes=self.completion_bytes,
            completion_batch=self.completion_batch,
            msi_batch=self.msi_batch,
            pipeline_ps=self.pipeline,
            relaxed_ordering=self.relaxed_ordering,
            id_based_ordering=self.id_based_ordering,
            credits=self.credits.build(),
            rx=None if rx == usual else rx,
            tx=None if tx == usual else tx,
            entries=self.ring_entries or 0,
            header=self.header_split,
            moderation_ps=self.msi_time,
            name=name,
        )


class GpuTable(Preset):
    """A GPU."""

    kind: Annotated[Literal["gpu"], Choice(("gpu",))]
    tags: _Tags
    read_bytes: Annotated[int, PowerSize(min(spec.PAYLOAD_SIZES), max(spec.PAYLOAD_SIZES))]
    h2d_setup: Annotated[int, Time()]
    d2h_setup: Annotated[int, Time()]
    d2h_pause: Annotated[int, Time()] = 0
    small_copy: Annotated[int, Size(0, 1 << 20)] = 0
    small_setup: Annotated[int, Time()] = 0
    doorbells: Annotated[int, Whole(1, 8)]
    entry_bytes: Annotated[int, Size(4, 256, 4)]
    copy_command_bytes: Annotated[int, Size(4, 65536, 4)]
    launch_command_bytes: Annotated[int, Size(4, 65536, 4)]
    launch_fences: Annotated[int, Whole(0, 8)]
    semaphore_bytes: Annotated[int, Size(4, 4096, 4)]
    launch_lead: Annotated[int, Time()]
    front_end: Annotated[int, Time()]
    peer_read: Annotated[int, Time(_MS)] = 0
    peer_interval: Annotated[int, Time(_MS)] = 0
    relaxed_ordering: Annotated[bool, Flag()] = False
    id_based_ordering: Annotated[bool, Flag()] = False
    credits: DeviceCreditsTable = DeviceCreditsTable()

    def build(self, name: str) -> resolved.GpuDevice:
        """Return the frozen device."""
        return resolved.GpuDevice(
            tags=self.tags,
            read_bytes=self.read_bytes,
            engine=Engine(
                h2d_setup_ps=self.h2d_setup,
                d2h_setup_ps=self.d2h_setup,
                small_bytes=self.small_copy,
                small_setup_ps=self.small_setup,
                d2h_pause_ps=self.d2h_pause,
                front_end_ps=self.front_end,
                launch_lead_ps=self.launch_lead,
                doorbells=self.doorbells,
                entry_bytes=self.entry_bytes,
                copy_command_bytes=self.copy_command_bytes,
                launch_command_bytes=self.launch_command_bytes,
                semaphore_bytes=self.semaphore_bytes,
                launch_fences=self.launch_fences,
            ),
            peer_read_ps=self.peer_read,
            peer_interval_ps=self.peer_interval,
            relaxed_ordering=self.relaxed_ordering,
            id_based_ordering=self.id_based_ordering,
            credits=self.credits.build(),
            name=name,
        )


class TlpTable(Preset):
    """A device whose TLPs were recorded."""

    kind: Annotated[Literal["tlp"], Choice(("tlp",))]
    tags: _Tags
    relaxed_ordering: Annotated[bool, Flag()] = False
    id_based_ordering: Annotated[bool, Flag()] = False
    credits: DeviceCreditsTable = DeviceCreditsTable()

    def build(self, name: str) -> resolved.TlpDevice:
        """Return the frozen device."""
        return resolved.TlpDevice(
            tags=self.tags,
            relaxed_ordering=self.relaxed_ordering,
            id_based_ordering=self.id_based_ordering,
            credits=self.credits.build(),
            name=name,
        )


DeviceTable: TypeAlias = NvmeTable | NicTable | GpuTable | TlpTable
DEVICES: dict[str, type[DeviceTable]] = {
    "nvme": NvmeTable,
    "nic": NicTable,
    "gpu": GpuTable,
    "tlp": TlpTable,
}


def _interval(name: str, low: int, high: int) -> Any:
    engine = resolved.ENGINE_PARAMETERS | resolved.SHARED_PARAMETERS
    better = engine | resolved.BOUNCE_PARAMETERS | resolved.HOST_PARAMETERS
    return Interval(low, high, better[name])


_AT_PORT: Final = resolved.Range(0, 0, 0, "low", "an engine at its port has no fabric before it")


class EngineTable(Table):
    """A cipher engine, as ranges, and where the host has it: at each port, or one for all ports."""

    clock_mhz: Annotated[resolved.Range, _interval("clock_mhz", 1, 100_000)]
    bytes_per_clock: Annotated[resolved.Range, _interval("bytes_per_clock", 1, 65536)]
    initiation_cycles: Annotated[resolved.Range, _interval("initiation_cycles", 1, 10_000)]
    keystream_ahead: Annotated[resolved.Range, _interval("keystream_ahead", 0, 1)]
    xor_cycles: Annotated[resolved.Range, _interval("xor_cycles", 0, 10_000)]
    mac_cycles: Annotated[resolved.Range, _interval("mac_cycles", 0, 10_000)]
    switch_cycles: Annotated[resolved.Range, _interval("switch_cycles", 0, 10_000)]
    key_miss_cycles: Annotated[resolved.Range, _interval("key_miss_cycles", 0, 10_000)]
    key_entries: Annotated[resolved.Range, _interval("key_entries", 1, 65536)]
    placement: Annotated[Literal["port", "shared"], Choice(("port", "shared"))] = "port"
    fabric_hop_ns: Annotated[resolved.Range, _interval("fabric_hop_ns", 0, 10**6)] = _AT_PORT

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield a way to an engine that stands where it is needed."""
        if self.placement == "port" and self.fabric_hop_ns.high:
            found = f"{self.fabric_hop_ns.high} with placement 'port'"
            yield "fabric_hop_ns", f"{found}; expected no such key, or placement 'shared'"

    def build(self) -> dict[str, resolved.Range]:
        """Return the ranges."""
        names = [*resolved.ENGINE_PARAMETERS]
        if self.placement == "shared":
            names += resolved.SHARED_PARAMETERS
        return {name: getattr(self, name) for name in names}


class BounceTable(Table):
    """What cores of the host do for a bounce buffer, as ranges; rates in 10^6 bytes per second of a core."""

    cores: Annotated[resolved.Range, _interval("cores", 1, 4096)]
    copy_mb_per_s: Annotated[resolved.Range, _interval("copy_mb_per_s", 1, 10**9)]
    copy_setup_ns: Annotated[resolved.Range, _interval("copy_setup_ns", 0, 10**9)]
    cipher_mb_per_s: Annotated[resolved.Range, _interval("cipher_mb_per_s", 1, 10**9)]
    cipher_setup_ns: Annotated[resolved.Range, _interval("cipher_setup_ns", 0, 10**9)]


_FREE: Final = resolved.Range(0, 0, 0, "low")


class HostWorkTable(Table):
    """What a scheme on the link asks of the host, as ranges; nothing unless a file says so."""

    rmp_check_ns: Annotated[resolved.Range, _interval("rmp_check_ns", 0, 10**6)] = _FREE
    hook_ns: Annotated[resolved.Range, _interval("hook_ns", 0, 10**9)] = _FREE


_Unit: TypeAlias = Annotated[int, Choice(spec.IDE_AGGREGATIONS)]


class AggregationTable(Table):
    """How many TLPs of each sub-stream share a MAC at most."""

    posted: _Unit = 1
    non_posted: _Unit = 1
    completion: _Unit = 1

    def build(self) -> tuple[int, ...]:
        """Return (posted, non-posted, completion), nothing where each TLP has its own."""
        units = (self.posted, self.non_posted, self.completion)
        return units if max(units) > 1 else ()


_ON_THE_LINK: Final = (
    "key_bits",
    "tag_bytes",
    "prefix_bytes",
    "pcrc",
    "mac_rule",
    "stream_kind",
    "aggregation",
    "engine",
    "host",
)
_IN_MEMORY: Final = ("cipher_devices", "bounce")
# Of each mechanism: words for it, the keys that mean nothing there, and what it has instead.
_MEANINGLESS: Final[dict[str, tuple[str, tuple[str, ...], str]]] = {
    "none": ("without a mechanism", (*_ON_THE_LINK, *_IN_MEMORY), ""),
    "ide": (
        "with mechanism 'ide', which copies nothing",
        _IN_MEMORY,
        " (it has [engine], [host] and [aggregation])",
    ),
    "bounce": (
        "with mechanism 'bounce', whose link is plain and has no engine",
        _ON_THE_LINK,
        f" (it has cipher_devices and [bounce] with {', '.join(resolved.BOUNCE_PARAMETERS)})",
    ),
}


class SchemeTable(Preset):
    """A protection scheme."""

    name: Annotated[str | None, Name()] = None
    mechanism: Annotated[Literal["none", "ide", "bounce"], Choice(("none", "ide", "bounce"))]
    key_bits: Annotated[int, Choice((0, *spec.AES_ROUNDS))] = 0
    tag_bytes: Annotated[int, Size(0, spec.AES_BLOCK_BYTES, spec.DW_BYTES)] = 0
    prefix_bytes: Annotated[int, Size(0, 16, spec.DW_BYTES)] = 0
    pcrc: Annotated[bool, Flag()] = False
    mac_rule: Annotated[Literal["hold", "skid"], Choice(("hold", "skid"))] = "hold"
    stream_kind: Annotated[Literal["selective", "link"], Choice(("selective", "link"))] = "selective"
    aggregation: AggregationTable | None = None
    engine: EngineTable | None = None
    host: HostWorkTable | None = None
    cipher_devices: Annotated[tuple[resolved.Kind, ...], Several(resolved.KINDS)] = ()
    bounce: BounceTable | None = None

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield what a mechanism needs and does not have, or has and cannot use."""
        yield from super().problems()
        given = {key: getattr(self, key) for key in type(self).model_fields}
        # A default that is written out changes nothing.
        yield from self.meaningless(
            {key: value for key, value in given.items() if value != type(self).model_fields[key].default}
        )
        if self.mechanism == "bounce" and self.bounce is None:
            yield "bounce", f"nothing; expected a table with {', '.join(resolved.BOUNCE_PARAMETERS)}"
        if self.mechanism == "ide":
            if not self.key_bits:
                yield "key_bits", "0; expected 128 or 256"
            for key, only in (("tag_bytes", spec.IDE_MAC_BYTES), ("prefix_bytes", spec.IDE_PREFIX_BYTES)):
                if getattr(self, key) != only:
                    yield key, f"{getattr(self, key)}; expected {only}"
            if self.engine is None:
                yield "engine", f"nothing; expected a table with {', '.join(resolved.ENGINE_PARAMETERS)}"

    @staticmethod
    def meaningless(keys: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield those of a scheme's keys, its mechanism among them, that mean nothing to it."""
        words, without, instead = _MEANINGLESS.get(str(keys.get("mechanism")), ("", (), ""))
        for key in without:
            if keys.get(key) is not None:
                found = "a table" if isinstance(keys[key], Table) else shown(keys[key])
                yield key, f"{found} {words}; expected no such key{instead}"

    def build(self, name: str) -> resolved.Scheme:
        """Return the frozen scheme."""
        engine, bounce = self.engine, self.bounce
        return resolved.Scheme(
            name=self.name or name,
            title=self.title,
            mechanism=self.mechanism,
            key_bits=self.key_bits,
            tag_bytes=self.tag_bytes,
            prefix_bytes=self.prefix_bytes,
            pcrc=self.pcrc,
            mac_rule=self.mac_rule,
            stream_kind=self.stream_kind,
            aggregation=() if self.aggregation is None else self.aggregation.build(),
            engine={} if engine is None else engine.build(),
            shared_engine=engine is not None and engine.placement == "shared",
            bounce={}
            if bounce is None
            else {key: getattr(bounce, key) for key in resolved.BOUNCE_PARAMETERS},
            cipher_devices=self.cipher_devices,
            host={}
            if self.host is None
            else {key: getattr(self.host, key) for key in resolved.HOST_PARAMETERS},
        )
