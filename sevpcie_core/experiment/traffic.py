"""The tables below a scenario: what a device is asked to do, workloads, arms, regions.

Rule: as in `tables.py`. Generated and recorded traffic are different models, told apart by the key `trace`,
so that a key which would have no effect is an unknown key.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from ..errors import ConfigError
from ..units import format_bytes, format_time
from ..workload.phase import Phase
from . import resolved
from .fields import Choice, Flag, Name, Number, Rule, Whole
from .gpu_traffic import (
    JOBS,
    GpuCheckpoint,
    GpuCopies,
    GpuDecode,
    GpuIdle,
    GpuKvSwap,
    GpuTraining,
    GpuWeights,
    GpuZeroCopy,
    job_of,
)
from .problems import KeyProblem, shown, suggestion
from .quantities import FrameSize, Load, Offered, Rate, Size, Time, WeightedSizes
from .tables import Table

SAMPLE = "sample:"
MAX_REQUESTS = 10**9
MAX_DEVICES = 16
"""Of one workload: as many as the simulator tells apart (`link.layout`)."""


def user_path(path: str | Path) -> Path:
    """Return a path with its leading `~` replaced. Raises ConfigError: there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        user = Path(path).parts[0]
        raise ConfigError(f"{shown(str(path))}: no home of {user!r}; expected a path") from None


def _absolute(path: str, info: ValidationInfo) -> str:
    """Return a path from the folder of the file that names it."""
    folder = (info.context or {}).get("folder", Path())
    try:
        return str((folder / user_path(path)).absolute())
    except ConfigError as error:
        raise ValueError(str(error)) from None


def _read_trace(value: Any, info: ValidationInfo) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"{shown(value)}; expected the path of a trace or 'sample:NAME'")
    return value if value.startswith(SAMPLE) else _absolute(value, info)


Trace: TypeAlias = Annotated[
    str,
    PlainValidator(_read_trace),
    WithJsonSchema({"type": "string", "description": "path of a trace, or sample:NAME"}),
]
"""`sample:NAME` or a path; relative ones count from the scenario's folder."""

_Limit: TypeAlias = Annotated[int | None, Whole(1, MAX_REQUESTS)]
MIN_SPEED, MAX_SPEED = 1e-6, 1e6
"""Factors by which a trace may be made faster."""
MAX_OFFSET = 10**12
PACES = ("line", "recorded")


@dataclass(frozen=True, slots=True)
class _Speed(Number):
    """A factor that times are divided by exactly."""

    def expected(self) -> str:
        """Return what is allowed."""
        return f"a number from {self.low:g} to {self.high:g}, with fewer than ten digits"

    def read(self, value: Any) -> float:
        """Return the factor, checked."""
        from ..workload.traces import Cut

        found = Number.read(self, value)
        try:
            Cut(speed=found)
        except ConfigError:
            raise self.refuse(value) from None
        return found


@dataclass(frozen=True, slots=True)
class _Local(Rule):
    """One side of a capture."""

    def expected(self) -> str:
        """Return what is allowed."""
        return "ADDRESS, ADDRESS:PORT, [IPV6]:PORT or PORT"

    def read(self, value: Any) -> str:
        """Return the text, checked; a port may be a number."""
        from ..workload.traces.pcap import parse_local

        if isinstance(value, int) and not isinstance(value, bool):
            if abs(value) >= 10**9:
                raise self.refuse(value)
            value = str(value)
        if not isinstance(value, str):
            raise self.refuse(value)
        try:
            parse_local(value)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return value

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 1, "maximum": 65535}]}


class _Recorded(Table):
    """What is said of every trace."""

    kind: str
    trace: Trace
    limit: _Limit = None
    offset: Annotated[int, Whole(0, MAX_OFFSET)] = 0
    speed: Annotated[float, _Speed(MIN_SPEED, MAX_SPEED)] = 1.0
    skip_bad: Annotated[bool, Flag()] = False

    def reading(self) -> resolved.Reading | None:
        """Return how it is read, None: as it stands."""
        found = resolved.Reading(self.offset, self.speed, self.skip_bad)
        return None if found == resolved.Reading(0, 1.0, False) else found


_Blocks: TypeAlias = Annotated[tuple[tuple[int, int], ...], WeightedSizes(Size(512, 2**24, 512))]
_Share: TypeAlias = Annotated[float, Number(0, 1)]


class NvmeRequests(Table):
    """Generated block I/O: what each request is."""

    kind: Annotated[Literal["nvme"], Choice(("nvme",))]
    block: _Blocks = ((1, 4096),)
    write_block: _Blocks | None = None
    read_share: _Share = 1.0
    flush_share: _Share = 0.0
    trim_share: _Share = 0.0
    zeroes_share: _Share = 0.0
    sequential_share: _Share = 0.0
    batch: Annotated[int, Whole(1, 1024)] = 1
    buffer_offset: Annotated[int, Size(0, 4092, 4)] = 0
    window: Annotated[int, Size(0, 2**40)] = 0
    pattern: Annotated[Literal["random", "sequential"], Choice(("random", "sequential"))] = "sequential"

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield shares of more than all, a window that holds no request, and an order of none."""
        yield from super().problems()
        rest = self.flush_share + self.trim_share + self.zeroes_share
        if rest > 1 + 1e-9:
            yield "flush_share", f"{rest:g} with trim_share and zeroes_share; expected 1 at most in all"
        if self.write_block is not None and self.read_share in (0, 1):
            of = "reads" if self.read_share else "writes"
            found = f"beside read_share = {self.read_share:g}, with which there are {of} only"
            yield "write_block", f"{found}; expected no such key"
        largest = self.buffer_offset + max(size for _, size in self.blocks)
        if 0 < self.window < largest:
            found = f"{format_bytes(self.window)}, too small for a request of {format_bytes(largest)}"
            yield "window", f"{found}; expected that at least, or 0: a buffer for each in flight"
        if self.pattern == "random" and not self.window:
            yield "pattern", "'random' without a window; expected window = SIZE to take buffers from"

    @property
    def blocks(self) -> tuple[tuple[int, int], ...]:
        """Return (weight, bytes) of reads, and of writes where they have others."""
        return self.block + (self.write_block or ())

    def _traffic(self, queue_depth: int, think_ps: int, rate: int) -> resolved.NvmeTraffic:
        one = len(self.block) == 1
        return resolved.NvmeTraffic(
            queue_depth=queue_depth,
            block=self.block[0][1] if one else 0,
            read_share=self.read_share,
            think_ps=think_ps,
            trace=None,
            limit=0,
            rate=rate,
            blocks=() if one else self.block,
            write_blocks=self.write_block or (),
            batch=self.batch if self.batch > 1 else 0,
            flush_share=self.flush_share,
            trim_share=self.trim_share,
            zeroes_share=self.zeroes_share,
            sequential_share=self.sequential_share,
            offset=self.buffer_offset,
            window=self.window,
            random=self.pattern == "random",
        )


class NvmeLoop(NvmeRequests):
    """Generated block I/O in a closed loop."""

    queue_depth: Annotated[int, Whole(1, 65536)] = 32
    think: Annotated[int, Time()] = 0

    def build(self, trace: resolved.TraceFile | None) -> resolved.NvmeTraffic:
        """Return the frozen traffic."""
        return self._traffic(self.queue_depth, self.think, 0)


class NvmeLoad(NvmeRequests):
    """Generated block I/O at a rate, in an open loop."""

    iops: Annotated[int, Whole(1, 10**9)]

    def build(self, trace: resolved.TraceFile | None) -> resolved.NvmeTraffic:
        """Return the frozen traffic."""
        return self._traffic(0, 0, self.iops)


class NvmeTrace(_Recorded):
    """Recorded block I/O, issued at its recorded times."""

    kind: Annotated[Literal["nvme"], Choice(("nvme",))]
    batch: Annotated[int | Literal["recorded"], Choice((1, "recorded"))] = 1

    def build(self, trace: resolved.TraceFile | None) -> resolved.NvmeTraffic:
        """Return the frozen traffic."""
        return resolved.NvmeTraffic(
            queue_depth=0,
            block=0,
            read_share=0.0,
            think_ps=0,
            trace=trace,
            limit=self.limit or 0,
            reading=self.reading(),
            recorded_batches=self.batch == "recorded",
        )


class NicAtRate(Table):
    """Generated frames at a rate, of one direction or of each."""

    kind: Annotated[Literal["nic"], Choice(("nic",))]
    direction: Annotated[Literal["rx", "tx", "both"], Choice(("rx", "tx", "both"))]
    rate: Annotated[int, Rate()]


class NicLoad(NicAtRate):
    """Frames of given sizes."""

    sizes: Annotated[int | Literal["imix", "bimodal"] | tuple[tuple[int, int], ...], FrameSize()]

    def build(self, trace: resolved.TraceFile | None) -> resolved.NicTraffic:
        """Return the frozen traffic."""
        one, several = (0, self.sizes) if isinstance(self.sizes, tuple) else (self.sizes, ())
        return resolved.NicTraffic(self.direction, one, self.rate, None, None, 0, weighted=several)


class NicSampled(NicAtRate):
    """Frames of sizes that are drawn from a capture, each direction from its own."""

    sizes_of: Trace
    local: Annotated[str | None, _Local()] = None

    def build(self, trace: resolved.TraceFile | None) -> resolved.NicTraffic:
        """Return the frozen traffic."""
        return resolved.NicTraffic(self.direction, 0, self.rate, None, self.local, 0, sizes_of=trace)


class NicTrace(_Recorded):
    """Recorded frames at their recorded times; pace `line` spaces them as the line would."""

    kind: Annotated[Literal["nic"], Choice(("nic",))]
    direction: Annotated[Literal["rx", "tx", "both"], Choice(("rx", "tx", "both"))] = "both"
    local: Annotated[str | None, _Local()] = None
    pace: Annotated[Literal["line", "recorded"], Choice(PACES)] = "line"

    def build(self, trace: resolved.TraceFile | None) -> resolved.NicTraffic:
        """Return the frozen traffic."""
        return resolved.NicTraffic(
            self.direction,
            0,
            0,
            trace,
            self.local,
            self.limit or 0,
            self.reading(),
            self.pace == "recorded",
        )


class GpuTrace(_Recorded):
    """The recorded copies and kernels of a job."""

    kind: Annotated[Literal["gpu"], Choice(("gpu",))]

    @model_validator(mode="before")
    @classmethod
    def _name_jobs(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and "trace" not in data:
            # Here comes what is neither recorded nor one of the jobs.
            known = ", ".join(map(repr, JOBS))
            if "job" not in data:
                raise ValueError(f"no key 'trace' and no key 'job'; expected a recording, or one of {known}")
            job = data["job"]
            hint = suggestion(job, JOBS) if isinstance(job, str) else ""
            raise KeyProblem("job", f"job = {shown(job)}; expected one of {known}{hint}")
        return data

    def build(self, trace: resolved.TraceFile | None) -> resolved.GpuTraffic:
        """Return the frozen traffic."""
        assert trace is not None
        return resolved.GpuTraffic(trace, self.limit or 0, self.reading())


@dataclass(frozen=True, slots=True)
class _LocalId(Rule):
    """The requester ID of a device."""

    def expected(self) -> str:
        """Return what is allowed."""
        from ..workload.traces.tlps import EXPECTED_LOCAL

        return EXPECTED_LOCAL

    def read(self, value: Any) -> str:
        """Return the text, checked."""
        from ..workload.traces.tlps import parse_local

        if not isinstance(value, str):
            raise self.refuse(value)
        try:
            parse_local(value)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return value

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {"type": "string"}


@dataclass(frozen=True, slots=True)
class _Buffers(Rule):
    """Where buffers lie."""

    def expected(self) -> str:
        """Return what is allowed."""
        return "a list of CLASS=ADDRESS+SIZE, such as 'queue=0x1f0000000+64KiB'"

    def read(self, value: Any) -> tuple[str, ...]:
        """Return the texts, checked."""
        from ..workload.tlps import parse_named

        if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
            raise self.refuse(value)
        for one in value:
            parse_named(one)
        return tuple(value)

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {"type": "array", "items": {"type": "string"}}


class TlpTrace(_Recorded):
    """Recorded TLPs at their recorded times."""

    kind: Annotated[Literal["tlp"], Choice(("tlp",))]
    local: Annotated[str | None, _LocalId()] = None
    buffers: Annotated[tuple[str, ...], _Buffers()] = ()

    def build(self, trace: resolved.TraceFile | None) -> resolved.TlpTraffic:
        """Return the frozen traffic."""
        assert trace is not None
        return resolved.TlpTraffic(trace, self.local, self.buffers, self.limit or 0, self.reading())


def _tag(data: Any) -> str | None:
    """Return which model reads a traffic table; None: nothing does."""
    if isinstance(data, Mapping):
        kind, keys = data.get("kind"), data.keys()
    else:
        kind, keys = getattr(data, "kind", None), type(data).model_fields.keys()
    recorded, paced, sampled = (key in keys for key in ("trace", "iops", "sizes_of"))
    if kind not in resolved.KINDS:
        return None
    if kind == "nvme" and paced and not recorded:
        return "nvme-load"
    if kind == "nic" and not recorded and sampled:
        return "nic-sampled"
    if kind == "gpu" and not recorded and (job := job_of(data)):
        return f"gpu-{job}"
    return f"{kind}-trace" if recorded or kind in ("gpu", "tlp") else str(kind)


Traffic: TypeAlias = Annotated[
    Annotated[NvmeLoop, Tag("nvme")]
    | Annotated[NvmeLoad, Tag("nvme-load")]
    | Annotated[NvmeTrace, Tag("nvme-trace")]
    | Annotated[NicLoad, Tag("nic")]
    | Annotated[NicSampled, Tag("nic-sampled")]
    | Annotated[NicTrace, Tag("nic-trace")]
    | Annotated[GpuTrace, Tag("gpu-trace")]
    | Annotated[GpuTraining, Tag("gpu-training")]
    | Annotated[GpuDecode, Tag("gpu-decode")]
    | Annotated[GpuKvSwap, Tag("gpu-kv-swap")]
    | Annotated[GpuWeights, Tag("gpu-weights")]
    | Annotated[GpuCheckpoint, Tag("gpu-checkpoint")]
    | Annotated[GpuIdle, Tag("gpu-idle")]
    | Annotated[GpuZeroCopy, Tag("gpu-zero-copy")]
    | Annotated[GpuCopies, Tag("gpu-copies")]
    | Annotated[TlpTrace, Tag("tlp-trace")],
    Discriminator(_tag),
]


def names_file(reference: object) -> bool:
    """Return whether a reference to a preset is the path of a file, or a table that changes one."""
    if isinstance(reference, Mapping):
        reference = reference.get("base")
    return isinstance(reference, str) and (reference.endswith(".toml") or "/" in reference)


def _read_reference(value: Any, info: ValidationInfo) -> str | dict[str, Any]:
    if isinstance(value, Mapping):
        if names_file(value):
            return {**value, "base": _absolute(value["base"], info)}
        return dict(value)
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(
            f"{shown(value)}; expected the name of a preset, the path of a .toml file or a table"
        )
    return _absolute(value, info) if names_file(value) else value


def _read_name(value: Any, info: ValidationInfo) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"{shown(value)}; expected the name of a preset or the path of a .toml file")
    return _absolute(value, info) if names_file(value) else value


PresetName: TypeAlias = Annotated[str, PlainValidator(_read_name), WithJsonSchema({"type": "string"})]
"""A preset's name, or the absolute path of its file; relative ones count from the folder of who names it."""

Reference: TypeAlias = str | dict[str, Any]
"""A preset: its name, the absolute path of its file, or a table, which may have `base`."""

REFERENCE_MARK = "sevpcie-reference"
"""Stands in a JSON Schema for the schema of a reference, which pydantic cannot know."""

_read = PlainValidator(_read_reference)
LinkReference: TypeAlias = Annotated[Reference, _read, WithJsonSchema({REFERENCE_MARK: "Link"})]
HostReference: TypeAlias = Annotated[Reference, _read, WithJsonSchema({REFERENCE_MARK: "Host"})]
DeviceReference: TypeAlias = Annotated[Reference, _read, WithJsonSchema({REFERENCE_MARK: "Device"})]
SchemeReference: TypeAlias = Annotated[Reference, _read, WithJsonSchema({REFERENCE_MARK: "Scheme"})]


class PhaseTable(Table):
    """When requests of a device begin: for the time `on` of every `every`, the first time from `start` on."""

    start: Annotated[int, Time()] = 0
    on: Annotated[int, Time()]
    every: Annotated[int, Time()] = 0

    def build(self) -> Phase:
        """Return the phase."""
        return Phase(self.start, self.on, self.every)

    def problem(self) -> tuple[str, str] | None:
        """Return a key and what is wrong with it, if anything is."""
        if self.on == 0:
            return "on", "'0ns'; expected a time above 0"
        if 0 < self.every < self.on:
            return (
                "every",
                f"{format_time(self.every)!r}; expected at least on ({format_time(self.on)}), or 0: once",
            )
        return None


class DeviceEntry(Table):
    """One device of a workload."""

    preset: DeviceReference
    link: LinkReference | None = None
    switch: Annotated[str | None, Name()] = None
    peer: Annotated[str | None, Name()] = None
    requests: Annotated[int | None, Whole(1, MAX_REQUESTS)] = None
    background: Annotated[bool, Flag()] = False
    phase: PhaseTable | None = None
    # Of the workload's load; `shares` makes a rate of it, and here nothing stays.
    share: Annotated[float | None, Number(0, 1, above=True)] = None
    traffic: Traffic


class SwitchTable(Table):
    """What joins the links of some devices to one uplink."""

    uplink: LinkReference
    latency: Annotated[int, Time(10**9)]
    forwarding: Annotated[
        Literal["cut-through", "store-and-forward"], Choice(("cut-through", "store-and-forward"))
    ] = "cut-through"
    acs_redirect: Annotated[bool, Flag()] = False

    def build(self, name: str, uplink: resolved.Link) -> resolved.Switch:
        """Return the frozen switch."""
        through = self.forwarding == "cut-through"
        return resolved.Switch(name, uplink, self.latency, through, self.acs_redirect)


# Names of the rows that a result adds to those of the devices.
_RESERVED = ("all", "h2d", "d2h", "launch")


class WorkloadEntry(Table):
    """Devices that work at the same time."""

    name: Annotated[str, Name()]
    # As `DeviceEntry.share`.
    load: Annotated[Offered | None, Load()] = None
    switch: dict[Annotated[str, Name()], SwitchTable] = Field(default_factory=dict)
    device: dict[Annotated[str, Name(_RESERVED)], DeviceEntry]


class ArmEntry(Table):
    """A scheme under a policy."""

    scheme: SchemeReference
    policy: Annotated[Literal["selective", "all"], Choice(("selective", "all"))]


class RegionsTable(Table):
    """Protected share of the buffers of each class under the policy `selective`."""

    data: Annotated[float, Number(0, 1)] = 1.0
    queue: Annotated[float, Number(0, 1)] = 1.0
    mmio: Annotated[float, Number(0, 1)] = 0.0
    msi: Annotated[float, Number(0, 1)] = 0.0

    def build(self) -> resolved.Regions:
        """Return the frozen shares."""
        return resolved.Regions(self.data, self.queue, self.mmio, self.msi)
