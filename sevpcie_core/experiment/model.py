"""Scenarios: what to compare, as a file says it.

Rule: a Scenario that exists is valid, except for what only a run can find out (a trace may vanish). It
keeps presets by name, so that it stays short and editable; `resolve` looks everything up. Its identity,
`digest`, covers what a run reads and nothing that only people read.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Self, TypeAlias

from pydantic import Field, PrivateAttr, ValidationError

from .. import spec
from ..errors import ConfigError, FormatError, MisuseError
from ..link.layout import most_bytes
from ..units import format_rate
from ..workload import nvme, traces
from . import presets, resolved, shares
from .fields import Choice, Name, Number, Text, Whole
from .gpu_traffic import CopiesTable, GpuIdle
from .hardware import row_of, rows_of, uplink_row
from .problems import Origin, Place, first_problem, suggestion
from .quantities import Time
from .systems import with_platform
from .tables import NicTable, NvmeTable, Table
from .toml_text import dumps
from .traffic import (
    MAX_DEVICES,
    MAX_REQUESTS,
    SAMPLE,
    ArmEntry,
    DeviceEntry,
    GpuTrace,
    HostReference,
    LinkReference,
    NicAtRate,
    NicSampled,
    NicTrace,
    NvmeLoad,
    NvmeLoop,
    NvmeTrace,
    Reference,
    RegionsTable,
    TlpTrace,
    WorkloadEntry,
    names_file,
)

_STAGING = "bounce-buffer"
# What is compared when a scenario names no arms.
_DEFAULT_ARMS = (
    ArmEntry(scheme="sev-pcie", policy="selective"),
    ArmEntry(scheme="sev-pcie", policy="all"),
    ArmEntry(scheme="pcie-ide", policy="all"),
    ArmEntry(scheme=_STAGING, policy="selective"),
)

# Tags of 14 bits exist in flit mode only (PCIe Base r6.x, section 2.2.6.2); before it tags have at most 10
# bits.
_MAX_TAGS_NON_FLIT = 1 << 10

_BY_OTHERS = "; expected no such key: a device in the background runs for as long as the others"
_BY_DURATION = "; expected no such key: the scenario ends by duration; requests are not counted"

_TraceReader: TypeAlias = Callable[[str, Place], resolved.TraceFile]


class Scenario(Table):
    """A set of workloads on devices behind one host, and the protections to compare.

    Made by `load_scenario` or `from_dict`, which raise ConfigError; the constructor raises pydantic's
    ValidationError.
    """

    schema_version: Annotated[int, Choice((1,))] = 1
    name: Annotated[str, Name()]
    title: Annotated[str, Text()] = ""
    link: LinkReference | None = None
    host: HostReference = "server"
    # Names presets that the scenario does not; `from_dict` puts them there, and here nothing stays.
    platform: Annotated[str | None, Text()] = None
    seed: Annotated[int, Whole(0, 2**62)] = 1
    seeds: Annotated[int, Whole(1, 1000)] = 5
    budget_pct: Annotated[float, Number(0, 1000, above=True)] = 5.0
    requests: Annotated[int, Whole(1, MAX_REQUESTS)] = 10000
    duration: Annotated[int, Time()] = 0
    regions: RegionsTable = RegionsTable()
    arm: tuple[ArmEntry, ...] = _DEFAULT_ARMS
    workload: tuple[WorkloadEntry, ...]
    source: dict[str, Annotated[str, Text()]] = Field(default_factory=dict)

    _origin: Origin = PrivateAttr(default=Origin("scenario"))
    # Where its traffic stands, which options do not change.
    _source: Origin = PrivateAttr(default=Origin("scenario"))

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any], *, name: str = "scenario", text: str = "", folder: Path | None = None
    ) -> Self:
        """Return the scenario that a table describes.

        Parameters: data: as TOML or JSON give it. name, text: the document's file and text, for errors.
        folder: where relative paths start; the current one by default.
        Raises: ConfigError: naming file, line, key, value and what is allowed.
        """
        return cls.from_table(data, Origin(name, text), folder)

    @classmethod
    def from_table(cls, data: Mapping[str, Any], origin: Origin, folder: Path | None = None) -> Self:
        """Return the scenario that a table of another document describes, as `from_dict`.

        origin : that document, which errors name.
        """
        data = with_platform(data, origin, folder)
        if shares.are_there(data):
            draft = cls._read(shares.with_placeholders(data, origin), origin, folder)
            data = shares.with_rates(data, draft.workload, origin)
        scenario = cls._read(data, origin, folder)
        object.__setattr__(scenario, "_origin", origin)
        object.__setattr__(scenario, "_source", origin)
        scenario._assemble(
            lambda given, place: resolved.TraceFile(given, scenario._trace_path(given, place), "", "")
        )
        return scenario

    @classmethod
    def _read(cls, data: Mapping[str, Any], origin: Origin, folder: Path | None) -> Self:
        """Return what a table says, each key by itself checked. Raises ConfigError."""
        try:
            return cls.model_validate(data, context={"folder": folder or Path()})
        except ValidationError as error:
            raise first_problem(error, data, origin) from None

    def with_options(
        self,
        *,
        requests: int | None = None,
        seeds: int | None = None,
        seed: int | None = None,
        budget_pct: float | None = None,
        arms: Iterable[tuple[Reference, str]] | None = None,
        regions: Mapping[str, float] | None = None,
    ) -> Self:
        """Return the scenario with some values changed.

        Parameters: requests: for every device that generates; a scenario that ends by duration has none, and
        keeps none. regions: protected shares by buffer class, instead of all of its own.
        Raises: ConfigError: a value is not allowed.
        """
        data = self.to_dict()
        given = {"requests": requests, "seeds": seeds, "seed": seed, "budget_pct": budget_pct}
        data |= {key: value for key, value in given.items() if value is not None}
        if self.duration:
            data.pop("requests", None)
        elif requests is not None:
            for workload in data["workload"]:
                for device in workload["device"].values():
                    device.pop("requests", None)
        if arms is not None:
            data["arm"] = [{"scheme": scheme, "policy": policy} for scheme, policy in arms]
        if regions is not None:
            data["regions"] = dict(regions)
        return self.from_dict(data, name=self._origin.name).with_source(self._source)

    def with_source(self, source: Origin) -> Self:
        """Have errors about its recordings name another document; return the same scenario."""
        object.__setattr__(self, "_source", source)
        return self

    @property
    def origin_name(self) -> str:
        """Return what its document is called."""
        return self._origin.name

    # --- out ------------------------------------------------------------------------------------------------

    def resolve(self) -> resolved.Resolved:
        """Return the scenario with every preset read and every trace found.

        Raises: ConfigError: a trace is missing, unreadable or of another kind.
        """
        return self._assemble(self._trace_file)

    def digest(self) -> str:
        """Return the SHA-256 of what a run reads, hexadecimal.

        Titles, sources and paths do not count; traces count by content. Raises: as `resolve`.
        """
        text = json.dumps(_canonical(self.resolve()), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_dict(self, *, inline: bool = False) -> dict[str, Any]:
        """Return what `from_dict` reads back to an equal scenario, fit for JSON and TOML.

        Parameters: inline: write presets out in full; otherwise shipped ones stay names. Paths are absolute.
        """
        data = self.model_dump(exclude_none=True)
        for key in ("title", "source"):
            if not data[key]:
                del data[key]
        del data["requests" if self.duration else "duration"]

        def written(reference: Reference, kind: str, place: Place) -> Reference:
            if not inline and not names_file(reference):
                return reference
            read = {
                "link": presets.link,
                "host": presets.host,
                "device": presets.device,
                "scheme": presets.scheme,
            }
            table, name = read[kind](reference, self._origin, place)
            out: dict[str, Any] = table.model_dump(exclude_none=True)
            out = {key: value for key, value in out.items() if value not in ("", {}, [])}
            return {"name": name, **out} if kind == "scheme" else out

        if self.link is not None:
            data["link"] = written(self.link, "link", ("link",))
        data["host"] = written(self.host, "host", ("host",))
        data["arm"] = [
            {
                **arm.model_dump(exclude_none=True),
                "scheme": written(arm.scheme, "scheme", ("arm", i, "scheme")),
            }
            for i, arm in enumerate(self._asked())
        ]
        data["workload"] = list(data["workload"])
        for place, entry in self._devices():
            _, i, _, name = place
            out = data["workload"][i]["device"][name]
            out["preset"] = written(entry.preset, "device", (*place, "preset"))
            if entry.link is not None:
                out["link"] = written(entry.link, "link", (*place, "link"))
        for i, workload in enumerate(self.workload):
            for name, switch in workload.switch.items():
                out = data["workload"][i]["switch"][name]
                out["uplink"] = written(switch.uplink, "link", ("workload", i, "switch", name, "uplink"))
            if not workload.switch:
                del data["workload"][i]["switch"]
        return data

    def to_toml(self, *, inline: bool = False) -> str:
        """Return TOML that loads to an equal scenario and can be edited; `inline` as in `to_dict`."""
        return dumps(self.to_dict(inline=inline))

    # --- in -------------------------------------------------------------------------------------------------

    def _devices(self) -> Iterable[tuple[tuple[str, int, str, str], DeviceEntry]]:
        """Yield every device entry with its place."""
        for i, workload in enumerate(self.workload):
            for name, entry in workload.device.items():
                yield ("workload", i, "device", name), entry

    def _assemble(self, trace_file: _TraceReader) -> resolved.Resolved:
        """Build everything, and check what tables say together. Raises ConfigError."""
        fail = self._origin.error
        if not self.workload:
            raise fail(("workload",), "no workload; expected at least one [[workload]]")
        self._check_names()
        if self.duration and "requests" in self.model_fields_set:
            raise fail(("requests",), f"{self.requests}{_BY_DURATION}")
        runs: list[list[resolved.DeviceRun]] = [[] for _ in self.workload]
        for place, entry in self._devices():
            runs[place[1]].append(self._device(place, entry, trace_file))
        self._check_ends(runs)
        table, host_name = presets.host(self.host, self._origin, ("host",))
        host = table.build(host_name)
        for (place, _), run in zip(self._devices(), chain(*runs), strict=True):
            try:
                row_of(host, run)
            except MisuseError as error:
                raise fail(place, f"{error} (link {run.link.name}, host {host_name})") from None
        workloads = tuple(
            resolved.WorkloadRun(workload.name, tuple(devices), self._switches(i, devices, host))
            for i, (workload, devices) in enumerate(zip(self.workload, runs, strict=True))
        )
        for i, workload in enumerate(workloads):
            self._check_peers(i, workload)
            self._check_copies(i, workload, host)
        return resolved.Resolved(
            name=self.name,
            title=self.title,
            seed=self.seed,
            seeds=self.seeds,
            budget_pct=self.budget_pct,
            duration_ps=self.duration,
            host=host,
            arms=self._arms(),
            regions=self.regions.build(),
            workloads=workloads,
        )

    def _check_ends(self, runs: list[list[resolved.DeviceRun]]) -> None:
        """Refuse what would never end: without a duration, devices end by their own requests."""
        if self.duration:
            return
        for i, devices in enumerate(runs):
            front = [run for run in devices if not run.background]
            if not front:
                found = "every device is in the background"
                expected = "one that is not, or a duration at the top of the scenario"
                raise self._origin.error(("workload", i, "device"), f"{found}; expected {expected}")
            for run in front:
                if run.phase and not run.phase.every_ps:
                    place = ("workload", i, "device", run.name, "phase", "every")
                    expected = "a time, a duration at the top of the scenario, or background = true"
                    raise self._origin.error(
                        place, f"'0ns', so not all requests begin in the one phase; expected {expected}"
                    )

    def _switches(
        self, i: int, devices: list[resolved.DeviceRun], host: resolved.Host
    ) -> tuple[resolved.Switch, ...]:
        """Build the switches of a workload, and check what they say together with the devices behind them."""
        fail = self._origin.error
        built: dict[str, resolved.Switch] = {}
        for name, entry in self.workload[i].switch.items():
            place: Place = ("workload", i, "switch", name)
            table, link_name = presets.link(entry.uplink, self._origin, (*place, "uplink"))
            built[name] = entry.build(name, table.build(link_name))
            try:
                uplink_row(host, built[name].uplink, devices[0])
            except MisuseError as error:
                raise fail((*place, "uplink"), f"{error} (link {link_name}, host {host.name})") from None
            if not any(run.switch == name for run in devices):
                raise fail(place, f"no device is behind {name!r}; expected one with switch = {name!r}")
        for run in devices:
            if not run.switch:
                continue
            place = ("workload", i, "device", run.name, "switch")
            if run.switch not in built:
                known = (
                    ", ".join(map(repr, built)) or "no such key, for the workload has no [workload.switch]"
                )
                raise fail(place, f"{run.switch!r}; expected {known}{suggestion(run.switch, list(built))}")
            self._check_same(place, run.link, built[run.switch].uplink, "its uplink")
        return tuple(built.values())

    def _check_same(self, place: Place, link: resolved.Link, other: resolved.Link, called: str) -> None:
        """Refuse links whose TLPs differ: they pass from one to the other as they are."""
        for key in ("mps", "rcb", "completion_bytes", "gen"):
            here, there = getattr(link, key), getattr(other, key)
            if here != there if key != "gen" else link.flit != other.flit:
                found = f"{key} {here} on {link.name}, {there} on {called} {other.name}"
                both = "both with flit mode or both without" if key == "gen" else "the same"
                raise self._origin.error(place, f"{found}; expected {both}")

    def _check_peers(self, i: int, workload: resolved.WorkloadRun) -> None:
        """Check that devices whose data lie in another one name a GPU that they can reach."""
        by_name = {run.name: run for run in workload.devices}
        gpus = [run.name for run in workload.devices if run.device.kind == "gpu"]
        for run in workload.devices:
            if not run.peer:
                continue
            place: Place = ("workload", i, "device", run.name, "peer")
            others = [name for name in gpus if name != run.name]
            if run.peer not in others:
                known = ", ".join(map(repr, others)) or "no such key, for the workload has no other GPU"
                raise self._origin.error(
                    place, f"{run.peer!r}; expected {known}{suggestion(run.peer, others)}"
                )
            self._check_same(place, run.link, by_name[run.peer].link, f"{run.peer}'s link")

    def _check_copies(self, i: int, workload: resolved.WorkloadRun, host: resolved.Host) -> None:
        """Refuse generated copies that are too long for a transfer over the links of their way."""
        gpus = [entry.traffic for entry in self.workload[i].device.values()]
        if not any(isinstance(traffic, CopiesTable) for traffic in gpus):
            return
        # Behind the devices' rows are those of uplinks.
        for run, link, traffic in zip(workload.devices, rows_of(host, workload), gpus, strict=False):
            if isinstance(traffic, CopiesTable) and (problem := traffic.too_long(most_bytes(link))):
                raise self._origin.error(
                    ("workload", i, "device", run.name, "traffic", problem[0]), problem[1]
                )

    def _asked(self) -> tuple[ArmEntry, ...]:
        """Return the arms: of those by default not one that stages data which lie in a device."""
        if self.arm == _DEFAULT_ARMS and self._peer():
            return tuple(arm for arm in self.arm if arm.scheme != _STAGING)
        return self.arm

    def _peer(self) -> str:
        """Return the first device whose data lie in another one, empty for none."""
        return next((place[3] for place, entry in self._devices() if entry.peer), "")

    def _check_names(self) -> None:
        seen: set[str] = set()
        for i, workload in enumerate(self.workload):
            if workload.name in seen:
                raise self._origin.error(
                    ("workload", i, "name"),
                    f"{workload.name!r} twice; expected another name for each workload",
                )
            seen.add(workload.name)
            if not workload.device:
                raise self._origin.error(("workload", i, "device"), "no device; expected at least one")
            if len(workload.device) > MAX_DEVICES:
                raise self._origin.error(
                    ("workload", i, "device"),
                    f"{len(workload.device)} devices; expected at most {MAX_DEVICES}",
                )

    def _arms(self) -> tuple[resolved.Arm, ...]:
        if not self.arm:
            raise self._origin.error(("arm",), "no arm; expected at least one [[arm]], or no key 'arm'")
        arms: list[resolved.Arm] = []
        for i, arm in enumerate(self._asked()):
            place: Place = ("arm", i, "scheme")
            table, name = presets.scheme(arm.scheme, self._origin, place)
            if table.mechanism == "none":
                raise self._origin.error(
                    place,
                    f"{name!r} protects nothing and always runs as baseline; expected a scheme that protects",
                )
            if table.mechanism == "bounce" and (peer := self._peer()):
                found = (
                    f"{name!r} stages data in the host's memory, and those of {peer} lie in another device"
                )
                raise self._origin.error(place, f"{found}; expected no such arm")
            if any((name, arm.policy) == (other.scheme.name, other.policy) for other in arms):
                raise self._origin.error(
                    place, f"{name!r} with policy {arm.policy!r} twice; expected each pair once"
                )
            arms.append(resolved.Arm(table.build(name), arm.policy))
        return tuple(arms)

    def _device(
        self, place: tuple[str, int, str, str], entry: DeviceEntry, trace_file: _TraceReader
    ) -> resolved.DeviceRun:
        """Build one device with its link and traffic, and check what they say together."""
        fail = self._origin.error
        device, device_name = presets.device(entry.preset, self._origin, (*place, "preset"))
        traffic = entry.traffic
        at_traffic: Place = (*place, "traffic")
        if traffic.kind != device.kind:
            found = f"{traffic.kind!r} on {device_name}, which is a {device.kind!r} device"
            raise fail((*at_traffic, "kind"), f"{found}; expected {device.kind!r}")
        for key, tail in traffic.problems():
            raise fail((*at_traffic, key), tail)
        link = self._link(place, entry)
        if not link.flit and device.tags > _MAX_TAGS_NON_FLIT:
            found = f"{device.tags} tags on {link.name}"
            expected = f"at most {_MAX_TAGS_NON_FLIT} before generation {spec.FIRST_FLIT_GENERATION}"
            raise fail((*place, "preset", "tags"), f"{found}; expected {expected}")
        if (
            isinstance(traffic, NicAtRate)
            and isinstance(device, NicTable)
            and traffic.rate > device.line_rate
        ):
            found = f"{format_rate(traffic.rate)!r}, above the line rate of {device_name}"
            raise fail((*at_traffic, "rate"), f"{found}; expected at most {format_rate(device.line_rate)!r}")
        if isinstance(traffic, NvmeLoop | NvmeLoad) and isinstance(device, NvmeTable):
            if traffic.sequential_share and device.media_read_ahead is None:
                found = f"{traffic.sequential_share:g} on {device_name}, which reads nothing ahead"
                expected = "0, or a device with media_read_ahead"
                raise fail((*at_traffic, "sequential_share"), f"{found}; expected {expected}")
            depth = traffic.queue_depth if isinstance(traffic, NvmeLoop) else 0
            commands = nvme.commands_of(max(size for _, size in traffic.blocks), device.mdts)
            entries = nvme.ring_entries(device.queue_entries or 0, depth, device.queues, commands)
            fit = (traffic.batch, device.queues, device.coalesce, entries, depth, commands)
            if problem := nvme.misfit(*fit):
                raise fail((*at_traffic, problem[0]), problem[1])
        if self.duration and entry.requests is not None:
            raise fail((*place, "requests"), f"{entry.requests}{_BY_DURATION}")
        if entry.background and entry.requests is not None:
            raise fail((*place, "requests"), f"{entry.requests}{_BY_OTHERS}")
        if entry.phase and (problem := entry.phase.problem()):
            raise fail((*place, "phase", problem[0]), problem[1])
        # A GPU that does nothing is there for as long as the others.
        background = entry.background or isinstance(traffic, GpuIdle)
        endless = self.duration or background
        trace, requests = None, 0 if endless else entry.requests or self.requests
        key = ""
        if isinstance(traffic, NicSampled):
            key, given = "sizes_of", traffic.sizes_of
        if isinstance(traffic, NvmeTrace | NicTrace | GpuTrace | TlpTrace):
            key, given = "trace", traffic.trace
            if entry.requests is not None:
                found = f"{entry.requests} for a recorded workload"
                raise fail((*place, "requests"), f"{found}; expected no such key (traffic.limit cuts it)")
            requests = 0
        if key:
            trace = trace_file(given, (*at_traffic, key))
            kind = traces.FORMATS.get(trace.format, device.kind)
            if kind != device.kind:
                found = f"{trace.path} is {trace.format}, of kind {kind!r}"
                raise fail((*at_traffic, key), f"{found}; expected a trace of kind {device.kind!r}")
        return resolved.DeviceRun(
            place[3],
            device.build(device_name),
            link,
            traffic.build(trace),
            requests,
            entry.switch or "",
            background,
            entry.phase.build() if entry.phase else None,
            entry.peer or "",
        )

    def _link(self, place: Place, entry: DeviceEntry) -> resolved.Link:
        """Return a device's own link, or the scenario's."""
        if entry.link is not None:
            table, name = presets.link(entry.link, self._origin, (*place, "link"))
        elif self.link is not None:
            table, name = presets.link(self.link, self._origin, ("link",))
        else:
            raise self._origin.error(place, "no key 'link'; expected one here or at the top of the scenario")
        return table.build(name)

    def _trace_path(self, given: str, place: Place) -> Path:
        """Return where a trace lies; whether anything lies there is another question."""
        if not given.startswith(SAMPLE):
            return Path(given)
        try:
            return presets.sample(given.removeprefix(SAMPLE))
        except ConfigError as error:
            raise self._origin.error(place, str(error)) from None

    def _trace_file(self, given: str, place: Place) -> resolved.TraceFile:
        """Find a trace, and read it once for its content hash."""
        path = self._trace_path(given, place)
        try:
            local = self._source.named((*place[:-1], "local"))
            return resolved.TraceFile(given, path, traces.detect(path), traces.content_sha256(path), local)
        except FormatError as error:
            raise self._origin.error(place, str(error)) from None


def _canonical(value: Any) -> Any:
    """Return a resolved value as plain JSON values, without what is cosmetic."""
    if dataclasses.is_dataclass(value):
        out = {
            field.name: _canonical(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if not field.metadata.get("cosmetic")
            and (getattr(value, field.name) or not field.metadata.get("sparse"))
        }
        return out | {"kind": value.kind} if hasattr(value, "kind") else out
    if isinstance(value, Mapping):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_canonical(item) for item in value]
    return value
