"""What a run is made of, with every preset read and every unit parsed: frozen values, picoseconds and bytes.

Rule of this module: no parsing, no defaults that a model depends on, no input or output. `scenario.py`
builds these; the runner, the workloads and the link read them. Fields whose metadata says `cosmetic` name
things for people and never enter a digest; those whose metadata says `sparse` enter it unless empty.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

from .. import spec
from ..link.params import Credits, DataLink, Iommu, RootPort
from ..workload import nvme
from ..workload.expand import Sizes
from ..workload.gpu_commands import Engine
from ..workload.gpu_jobs import Job
from ..workload.gpu_raw import Copies, ZeroCopy
from ..workload.phase import Phase

Kind: TypeAlias = Literal["nvme", "nic", "gpu", "tlp"]
KINDS: tuple[Kind, ...] = ("nvme", "nic", "gpu", "tlp")
Policy: TypeAlias = Literal["off", "selective", "all"]

Quantiles: TypeAlias = tuple[tuple[float, int], ...]
"""A distribution of times as points (probability, value in ps).

Probabilities rise strictly from 0.0 to 1.0, values never fall; values between points lie on straight lines.
A constant is ((0.0, v), (1.0, v)).
"""


def _cosmetic(default: Any = "") -> Any:
    return field(default=default, metadata={"cosmetic": True})


@dataclass(frozen=True, slots=True)
class Link:
    """One PCIe link and the sizes negotiated on it. Sizes in bytes."""

    gen: int
    """Generation, 1 to 7."""
    lanes: int
    mps: int
    """Largest payload of one TLP."""
    mrrs: int
    """Largest read request."""
    rcb: int
    """Read completion boundary of the root complex, 64 or 128."""
    completion_bytes: int
    """Most that the root complex puts into one completion; a multiple of rcb, at most mps."""
    propagation_ps: int
    """One way: PHY, data-link and transaction logic of both ends and the flight, without serialisation."""
    flit: bool
    """Flit mode: always on from generation 6."""
    data_link: DataLink
    """What it carries beside TLPs, errors, and the replay buffers."""
    flit_check_ps: int = field(default=0, metadata={"sparse": True})
    """In flit mode, error correction and CRC of a flit at its receiver, one way; else 0."""
    name: str = _cosmetic()

    @property
    def sizes(self) -> Sizes:
        """Return what it cuts TLPs by."""
        return Sizes(self.mps, self.mrrs, self.rcb, self.completion_bytes, self.flit)


@dataclass(frozen=True, slots=True)
class Host:
    """The root complex and the memory behind it."""

    read_latency: Quantiles
    """From a read request delivered at the root complex to its data ready there."""
    read_interval_ps: int
    """Smallest spacing of two reads, shared by all devices: the root complex's pipeline. 0: no limit."""
    root_port: RootPort
    """What becomes of posted writes."""
    credits: Credits
    """The root port's buffers."""
    iommu: Iommu
    peer_latency_ps: int = field(default=0, metadata={"sparse": True})
    """From one root port to another one, for what devices send each other."""
    name: str = _cosmetic()


@dataclass(frozen=True, slots=True)
class NvmeDevice:
    """An NVMe controller."""

    kind: ClassVar[Kind] = "nvme"
    tags: int
    """Outstanding read requests of the device's DMA engine."""
    media_read: Quantiles
    media_write: Quantiles
    dies: int
    """Media servers that work in parallel; 0: unlimited."""
    controller_ps: int
    """Decoding of one command."""
    msi: bool
    """Whether a completion raises an interrupt message."""
    relaxed_ordering: bool
    """Whether its data carry the RO attribute."""
    credits: Credits
    """Its buffers."""
    id_based_ordering: bool = field(default=False, metadata={"sparse": True})
    """Whether all its requests carry the IDO attribute."""
    coalesce: int = field(default=0, metadata={"sparse": True})
    """Completions of a queue that share an interrupt and a doorbell; 0: none do."""
    fetch: int = field(default=0, metadata={"sparse": True})
    """Commands that one read fetches at most; 0: each has its own."""
    queues: int = field(default=0, metadata={"sparse": True})
    """Pairs of queues; 0: one."""
    entries: int = field(default=0, metadata={"sparse": True})
    """Of each queue; 0: as many as usual."""
    segment: int = field(default=0, metadata={"sparse": True})
    """Bytes of memory that one SGL descriptor names; 0: data are named by PRPs."""
    shadow_every: int = field(default=0, metadata={"sparse": True})
    """Batches per MMIO doorbell, where the others are told in memory; 0: each has one."""
    mdts: int = field(default=0, metadata={"sparse": True})
    """Bytes that one command moves at most; requests of more are several. 0: no limit."""
    media_read_ahead: Quantiles = field(default=(), metadata={"sparse": True})
    """Of a read that goes on where another one ended; empty: it is read as any other."""
    name: str = _cosmetic()


@dataclass(frozen=True, slots=True)
class NicRing:
    """How one direction of an adapter uses its ring, where that is not as the device says for both."""

    doorbell_batch: int
    """Frames per tail doorbell."""
    descriptor_batch: int
    """Descriptors fetched by one read."""
    whole_fetches: bool
    """Whether descriptors are read only `descriptor_batch` at a time. Transmit only."""
    completion_bytes: int
    """Bytes of a write-back, per frame in receive."""
    completion_batch: int
    """Frames of a write-back; 0 (transmit only): none."""
    msi_batch: int
    """Frames per interrupt message; 0: they are not counted."""
    status_batch: int
    """Frames per read of a register by the driver; 0: none."""
    descriptor_bytes: int = field(default=0, metadata={"sparse": True})
    """Of one; 0: as the device says."""


@dataclass(frozen=True, slots=True)
class NicDevice:
    """A network adapter."""

    kind: ClassVar[Kind] = "nic"
    tags: int
    line_rate_bps: int
    """Ethernet line rate, bits per second."""
    descriptor_bytes: int
    descriptor_batch: int
    """Descriptors fetched by one read."""
    completion_bytes: int
    """Bytes of one written-back completion."""
    completion_batch: int
    """Completions written back together."""
    msi_batch: int
    """Packets per interrupt message; 0: they are not counted, and without a time none is sent (polling)."""
    pipeline_ps: int
    """Time of a packet inside the device."""
    relaxed_ordering: bool
    """Whether its data carry the RO attribute."""
    credits: Credits
    """Its buffers."""
    id_based_ordering: bool = field(default=False, metadata={"sparse": True})
    """Whether all its requests carry the IDO attribute."""
    rx: NicRing | None = field(default=None, metadata={"sparse": True})
    """The receive ring; None: as above, a doorbell per descriptor batch."""
    tx: NicRing | None = field(default=None, metadata={"sparse": True})
    entries: int = field(default=0, metadata={"sparse": True})
    """Of each ring; 0: as many as usual."""
    header: int = field(default=0, metadata={"sparse": True})
    """Bytes of a received frame that go to a buffer of their own; 0: none."""
    moderation_ps: int = field(default=0, metadata={"sparse": True})
    """With a count of frames, an interrupt for fewer, so long after the first; alone, a throttle; 0: none."""
    name: str = _cosmetic()


@dataclass(frozen=True, slots=True)
class GpuDevice:
    """A GPU: its copy engines and its command front end."""

    kind: ClassVar[Kind] = "gpu"
    tags: int
    read_bytes: int
    """Most that one read request asks for; the link's MRRS may be less."""
    engine: Engine
    """Its copy engines and front end, and what it takes to hand work to them."""
    relaxed_ordering: bool
    """Whether its data carry the RO attribute."""
    credits: Credits
    """Its buffers."""
    id_based_ordering: bool = field(default=False, metadata={"sparse": True})
    """Whether all its requests carry the IDO attribute."""
    peer_read_ps: int = field(default=0, metadata={"sparse": True})
    """From another device's read request delivered there to its data ready."""
    peer_interval_ps: int = field(default=0, metadata={"sparse": True})
    """Smallest spacing of two such reads."""
    name: str = _cosmetic()


@dataclass(frozen=True, slots=True)
class TlpDevice:
    """A device of which nothing is known but its TLPs, as somebody recorded them."""

    kind: ClassVar[Kind] = "tlp"
    tags: int
    relaxed_ordering: bool
    """Whether its data carry the RO attribute."""
    credits: Credits
    """Its buffers."""
    id_based_ordering: bool = field(default=False, metadata={"sparse": True})
    """Whether all its requests carry the IDO attribute."""
    name: str = _cosmetic()


Device: TypeAlias = NvmeDevice | NicDevice | GpuDevice | TlpDevice


@dataclass(frozen=True, slots=True)
class TraceFile:
    """A recorded workload: where it lies and what it holds. Its identity is its content, not its path."""

    spec: str = field(metadata={"cosmetic": True})
    """As the scenario writes it: a path or `sample:NAME`."""
    path: Path = field(metadata={"cosmetic": True})
    """Absolute path of the file."""
    format: str
    """As `workload.traces.detect` names it, such as fio-iolog."""
    sha256: str
    """Of the file's unzipped content, hexadecimal."""
    local_at: str = field(default="", compare=False, metadata={"cosmetic": True})
    """How an error names the key `local` of its traffic, which its packets may not have."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a trace is read, where that is not record by record as it stands."""

    offset: int
    """Records left out at its start."""
    speed: float
    """Times are divided by it."""
    skip_bad: bool
    """Whether malformed records are left out and counted; else they are errors."""


@dataclass(frozen=True, slots=True)
class NvmeTraffic:
    """Closed loop of `queue_depth` requests, or an open one: by rate, or by the recorded times of `trace`."""

    kind: ClassVar[Kind] = "nvme"
    queue_depth: int
    block: int
    """Bytes per request."""
    read_share: float
    """Share of reads, 0 to 1; the others are writes."""
    think_ps: int
    """Pause of the application between a completion and its next request."""
    trace: TraceFile | None
    limit: int
    """Most records taken from the trace; 0: all."""
    rate: int = field(default=0, metadata={"sparse": True})
    """Requests per second of an open loop; 0: a closed one, or a trace."""
    blocks: tuple[tuple[int, int], ...] = field(default=(), metadata={"sparse": True})
    """(weight, bytes) of requests of several sizes; empty: all have `block`."""
    write_blocks: tuple[tuple[int, int], ...] = field(default=(), metadata={"sparse": True})
    """(weight, bytes) of writes; empty: as the others."""
    batch: int = field(default=0, metadata={"sparse": True})
    """Commands per doorbell; 0: one."""
    flush_share: float = field(default=0.0, metadata={"sparse": True})
    """Of all requests, as the next two; reads and writes share the rest."""
    trim_share: float = field(default=0.0, metadata={"sparse": True})
    zeroes_share: float = field(default=0.0, metadata={"sparse": True})
    offset: int = field(default=0, metadata={"sparse": True})
    """Of the first byte of each buffer in its page."""
    window: int = field(default=0, metadata={"sparse": True})
    """Bytes of all buffers; 0: as many as there are requests in flight."""
    random: bool = field(default=False, metadata={"sparse": True})
    """Whether buffers of the window are taken at random, not in turn."""
    sequential_share: float = field(default=0.0, metadata={"sparse": True})
    """Of generated reads, those that go on where another one ended."""
    recorded_batches: bool = field(default=False, metadata={"sparse": True})
    """Whether commands of the trace share a doorbell where they did; else each has its own."""
    reading: Reading | None = field(default=None, metadata={"sparse": True})

    def mix(self) -> nvme.Mix:
        """Return what is asked of the drive, where it is generated."""
        return nvme.Mix(
            sizes=self.blocks or ((1, self.block),),
            write_sizes=self.write_blocks,
            read_share=self.read_share,
            flush_share=self.flush_share,
            trim_share=self.trim_share,
            zeroes_share=self.zeroes_share,
            offset=self.offset,
            window=self.window,
            random=self.random,
            sequential_share=self.sequential_share,
        )


@dataclass(frozen=True, slots=True)
class NicTraffic:
    """Open loop of frames at `rate_bps`, or the frames of `trace`.

    Sizes count the Ethernet header and not the FCS. Rates count line bits: frame, FCS, preamble and gap (24
    bytes more per frame than its size), so that a rate equal to the line rate fills the line.
    """

    kind: ClassVar[Kind] = "nic"
    direction: Literal["rx", "tx", "both"]
    sizes: int | Literal["imix", "bimodal"]
    """Bytes of every frame, or the name of a mix; 0 with a trace, or with `weighted`."""
    rate_bps: int
    """Of each direction; 0 with a trace."""
    trace: TraceFile | None
    local: str | None
    """Which side of a capture is this NIC: ADDRESS, ADDRESS:PORT or PORT; None: the lower port."""
    limit: int
    """Most records taken from the trace; 0: all."""
    reading: Reading | None = field(default=None, metadata={"sparse": True})
    recorded_pace: bool = field(default=False, metadata={"sparse": True})
    """Whether recorded frames keep their times, instead of being spaced to the device's line rate."""
    weighted: tuple[tuple[int, int], ...] = field(default=(), metadata={"sparse": True})
    """(weight, bytes) of frames of several sizes."""
    sizes_of: TraceFile | None = field(default=None, metadata={"sparse": True})
    """The capture whose sizes are drawn, each direction's from its own."""


@dataclass(frozen=True, slots=True)
class GpuTraffic:
    """The copies and kernels of a recorded job."""

    kind: ClassVar[Kind] = "gpu"
    trace: TraceFile
    limit: int
    """Most records taken from the trace; 0: all."""
    reading: Reading | None = field(default=None, metadata={"sparse": True})


@dataclass(frozen=True, slots=True)
class GpuJobTraffic:
    """A generated job of a program."""

    kind: ClassVar[Kind] = "gpu"
    name: str
    """As the key `job` has it."""
    job: Job


@dataclass(frozen=True, slots=True)
class GpuZeroCopyTraffic:
    """Loads and stores of threads straight over the link."""

    kind: ClassVar[Kind] = "gpu"
    accesses: ZeroCopy


@dataclass(frozen=True, slots=True)
class GpuIdleTraffic:
    """Nothing of its own."""

    kind: ClassVar[Kind] = "gpu"


@dataclass(frozen=True, slots=True)
class GpuCopiesTraffic:
    """Copies back to back."""

    kind: ClassVar[Kind] = "gpu"
    copies: Copies


@dataclass(frozen=True, slots=True)
class TlpTraffic:
    """Recorded TLPs."""

    kind: ClassVar[Kind] = "tlp"
    trace: TraceFile
    local: str | None
    """Requester ID of the device, BUS:DEVICE.FUNCTION or BUS:; None: all but those of bus 0."""
    buffers: tuple[str, ...]
    """Where buffers of a class lie, CLASS=ADDRESS+SIZE each; the first that holds an address counts."""
    limit: int
    """Most records taken from the trace; 0: all."""
    reading: Reading | None = field(default=None, metadata={"sparse": True})


Traffic: TypeAlias = (
    NvmeTraffic
    | NicTraffic
    | GpuTraffic
    | GpuJobTraffic
    | GpuZeroCopyTraffic
    | GpuCopiesTraffic
    | GpuIdleTraffic
    | TlpTraffic
)


@dataclass(frozen=True, slots=True)
class Range:
    """A parameter of a scheme that is not known exactly: its plausible interval and the value in between."""

    low: int
    typical: int
    high: int
    better: Literal["low", "high"]
    """Which end makes the scheme cheaper."""
    source: str = _cosmetic()

    @property
    def favourable(self) -> int:
        """Return the end that makes the scheme cheapest."""
        return self.low if self.better == "low" else self.high

    @property
    def unfavourable(self) -> int:
        """Return the end that makes the scheme dearest."""
        return self.high if self.better == "low" else self.low


ENGINE_PARAMETERS: dict[str, Literal["low", "high"]] = {
    "clock_mhz": "high",
    "bytes_per_clock": "high",
    "initiation_cycles": "low",
    "keystream_ahead": "high",
    "xor_cycles": "low",
    "mac_cycles": "low",
    "switch_cycles": "low",
    "key_miss_cycles": "low",
    "key_entries": "high",
}
"""Every engine has exactly these, in this order, each with the end that makes it cheaper; a scheme whose
mechanism is `none` has none of them."""


SHARED_PARAMETERS: dict[str, Literal["low", "high"]] = {"fabric_hop_ns": "low"}
"""What an engine that all ports of the host share has beside them."""


BOUNCE_PARAMETERS: dict[str, Literal["low", "high"]] = {
    "cores": "high",
    "copy_mb_per_s": "high",
    "copy_setup_ns": "low",
    "cipher_mb_per_s": "high",
    "cipher_setup_ns": "low",
}
"""Every bounce buffer has exactly these, in this order, each with the end that makes it cheaper."""


HOST_PARAMETERS: dict[str, Literal["low", "high"]] = {"rmp_check_ns": "low", "hook_ns": "low"}
"""What a scheme on the link may ask of the host, in this order, each with the end that makes it cheaper."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """A way to protect transfers.

    On the link (`ide`): what it adds to a TLP, and the engine that seals and opens. By copies beside a plain
    link (`bounce`): what the host's cores do.
    """

    name: str
    title: str = field(metadata={"cosmetic": True})
    mechanism: Literal["none", "ide", "bounce"]
    key_bits: int
    """128 or 256; 0 without mechanism."""
    tag_bytes: int
    """MAC on every protected TLP."""
    prefix_bytes: int
    pcrc: bool
    """Whether protected TLPs with payload carry the 4-byte PCRC."""
    mac_rule: Literal["hold", "skid"]
    """`hold`: a receiver releases a TLP after its MAC is checked; `skid`: before."""
    stream_kind: Literal["selective", "link"]
    engine: dict[str, Range] = field(hash=False)
    """By the names of ENGINE_PARAMETERS, a shared one's also of SHARED_PARAMETERS; empty unless the mechanism
    is `ide`."""
    bounce: dict[str, Range] = field(default_factory=dict, hash=False, metadata={"sparse": True})
    """By the names of BOUNCE_PARAMETERS; empty unless the mechanism is `bounce`."""
    cipher_devices: tuple[Kind, ...] = field(default=(), metadata={"sparse": True})
    """Kinds of devices that want ciphertext in the bounce buffer; the others want a copy."""

    host: dict[str, Range] = field(default_factory=dict, hash=False, metadata={"sparse": True})
    """By the names of HOST_PARAMETERS; empty unless the mechanism is `ide`."""
    shared_engine: bool = field(default=False, metadata={"sparse": True})
    """Whether the host has one engine for all of its ports, or one at each."""
    aggregation: tuple[int, ...] = field(default=(), metadata={"sparse": True})
    """Most TLPs that share a MAC: posted, non-posted, completion. Empty: none do."""

    @property
    def parameters(self) -> dict[str, Range]:
        """Return all ranges."""
        return {**self.engine, **self.bounce, **self.host}

    def table_of(self, parameter: str) -> str:
        """Return the name of the table of a range: engine, bounce or host."""
        tables = {"engine": self.engine, "bounce": self.bounce, "host": self.host}
        return next(name for name, ranges in tables.items() if parameter in ranges)

    @property
    def rounds(self) -> int:
        """Return the AES rounds of the key size, 0 without key."""
        return spec.AES_ROUNDS[self.key_bits] if self.key_bits else 0


def at_variant(ranges: Mapping[str, Range], variant: str) -> dict[str, int]:
    """Return each parameter where a variant has it.

    variant : "typical", all at one end ("favourable", "unfavourable"), or one of them there
    ("unfavourable:mac_cycles").
    """
    end, _, alone = variant.partition(":")
    return {name: int(getattr(r, end if alone in ("", name) else "typical")) for name, r in ranges.items()}


@dataclass(frozen=True, slots=True)
class Regions:
    """Share of the buffers of each class that is protected under the policy `selective`, 0 to 1."""

    data: float
    queue: float
    mmio: float
    msi: float


@dataclass(frozen=True, slots=True)
class Arm:
    """One protected run, compared with the baseline."""

    scheme: Scheme
    policy: Policy


@dataclass(frozen=True, slots=True)
class DeviceRun:
    """One device of a workload, its link and what it is asked to do."""

    name: str
    """Class name in the results."""
    device: Device
    link: Link
    traffic: Traffic
    requests: int
    """Requests to generate; 0 when the traffic comes from a trace, or a duration or other devices end it."""
    switch: str = field(default="", metadata={"sparse": True})
    """Name of the switch that it is behind; empty for none."""
    background: bool = field(default=False, metadata={"sparse": True})
    """Whether it runs for as long as the devices that are not in the background."""
    phase: Phase | None = field(default=None, metadata={"sparse": True})
    """When its requests begin; None: always."""
    peer: str = field(default="", metadata={"sparse": True})
    """Name of the device whose memory its data lie in; empty for the host."""

    @property
    def sizes(self) -> Sizes:
        """Return what TLPs of its link are cut by: a GPU may ask for less at once than the link allows."""
        if isinstance(self.device, GpuDevice):
            return replace(self.link.sizes, mrrs=min(self.link.mrrs, self.device.read_bytes))
        return self.link.sizes


@dataclass(frozen=True, slots=True)
class Switch:
    """What joins the links of some devices to one uplink."""

    name: str
    uplink: Link
    latency_ps: int
    """From the moment that a TLP may go on to its entry into the next port."""
    cut_through: bool
    """Whether it may go on before its last byte is there."""
    acs_redirect: bool = field(default=False, metadata={"sparse": True})
    """Whether what devices behind it send each other goes up to the root complex."""


@dataclass(frozen=True, slots=True)
class WorkloadRun:
    """Devices that run at the same time behind one root complex."""

    name: str
    devices: tuple[DeviceRun, ...]
    switches: tuple[Switch, ...] = field(default=(), metadata={"sparse": True})


@dataclass(frozen=True, slots=True)
class Resolved:
    """A scenario with nothing left to look up."""

    name: str
    title: str = field(metadata={"cosmetic": True})
    seed: int
    """First seed."""
    seeds: int
    """Number of seeds: seed, seed + 1, ..."""
    budget_pct: float
    duration_ps: int
    """No request starts later than this; 0: no limit."""
    host: Host
    arms: tuple[Arm, ...]
    """Protected runs; the baseline is not among them."""
    regions: Regions
    workloads: tuple[WorkloadRun, ...]
