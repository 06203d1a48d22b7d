"""Platforms of kind `system`: presets that belong together, their free numbers, and what is published.

Rule: a platform holds no number of the model. A scenario that names it takes its link, host and device; the
figures are there to be compared with (`validate.systems`), and for a projection to be computed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import ValidationError

from ..errors import ConfigError
from ..stats.hist import MIN_SAMPLES_ABOVE
from ..units import TIME_UNITS, format_time
from . import presets
from .fields import Choice, Number, Text, Whole
from .free import FreeTable, number, platform_file, platform_names, problems, unknown_platform
from .platforms import KIND as MEASURED
from .platforms import Free, load_platform
from .problems import Origin, Place, first_problem, shown
from .quantities import Spread, Time
from .tables import Preset, Table
from .traffic import (
    MAX_REQUESTS,
    GpuTrace,
    NicTrace,
    NvmeTrace,
    PresetName,
    Reference,
    Traffic,
    names_file,
)

KIND: Final = "system"
_UNITS: Final = {"ns": TIME_UNITS["ns"], "us": TIME_UNITS["us"], "B": 1, "accesses": 1}
# Tables of presets that hold numbers of their own.
_INSIDE: Final = ("data_link", "root_port", "credits", "iommu")
# With fewer requests there is no median.
LEAST_FOR_MEDIAN: Final = 2 * MIN_SAMPLES_ABOVE

Quantity = Literal["kIOPS", "GB/s", "us"]


class FoundTable(FreeTable):
    """A number that was found with figures, or that nothing fixes; of a distribution its median."""

    unit: Annotated[str, Choice(tuple(_UNITS))]


class FigureTable(Table):
    """What such a system does. GB/s: payload, 10^9 bytes; us: the median latency.

    requests : those that are generated; recorded traffic has its own number.
    """

    what: Annotated[str, Text()]
    quantity: Annotated[Quantity, Choice(("kIOPS", "GB/s", "us"))]
    value: Annotated[float | None, Number(1e-6, 1e9)] = None
    source: Annotated[str, Text()] = ""
    fixes: Annotated[str, Text()] = ""
    requests: Annotated[int, Whole(1, MAX_REQUESTS)]
    traffic: Traffic


class SystemTable(Table):
    """A platform file of kind `system`.

    link, host, device : names of presets, or paths of their files, which count from the platform's folder.
    """

    title: Annotated[str, Text()] = ""
    kind: Annotated[Literal["system"], Choice((KIND,))]
    basis: Annotated[Literal["published", "projection"], Choice(("published", "projection"))]
    link: PresetName
    host: PresetName
    device: PresetName
    figure: tuple[FigureTable, ...] = ()
    free: tuple[FoundTable, ...] = ()

    def wrong(self) -> Iterator[tuple[Place, str]]:
        """Yield figures without a source or a median, and values where nothing is published."""
        known = {free.key for free in self.free}
        for i, one in enumerate(self.figure):
            place: Place = ("figure", i)
            if self.basis == "projection" and one.value is not None:
                yield (*place, "value"), f"{one.value:g}; expected none in a projection"
            if self.basis == "published" and (one.value is None or not one.source):
                yield place, f"{one.what!r}: no value or no source; expected both, or basis 'projection'"
            if one.fixes and one.fixes not in known:
                yield (*place, "fixes"), f"{one.fixes!r}; expected the key of a [[free]] number"
            generated = not isinstance(one.traffic, NvmeTrace | NicTrace | GpuTrace)
            if generated and one.quantity == "us" and one.requests < LEAST_FOR_MEDIAN:
                expected = f"at least {LEAST_FOR_MEDIAN}, for fewer have no median"
                yield (*place, "requests"), f"{one.requests}; expected {expected}"


@dataclass(frozen=True)
class System:
    """A platform of kind `system`, checked.

    references : link, host and device as scenarios name them. parts : their tables, and those within.
    origin : its file, for errors.
    """

    name: str
    table: SystemTable
    references: Mapping[str, Reference]
    parts: Mapping[str, Preset]
    origin: Origin

    @property
    def free(self) -> tuple[Free, ...]:
        """The free numbers with their values."""
        out = []
        for f in self.table.free:
            table, _, name = f.key.rpartition(".")
            value = number(getattr(self.parts[table], name)) / _UNITS[f.unit]
            out.append(Free(f.key, value, f.unit, f.low, f.high, f.meaning, f.rows))
        return tuple(out)

    def changed(self, free: Free, value: float) -> Mapping[str, Reference]:
        """Return references with another value of a free number, in its unit; a distribution is stretched.

        What the number then is has not been checked.
        """
        table, _, name = free.key.rpartition(".")
        part, _, inside = table.partition(".")
        old = getattr(self.parts[table], name)
        exact = value * _UNITS[free.unit]
        new: Any = exact if isinstance(old, float) else round(exact)
        if isinstance(old, tuple):
            # A constant of 0 cannot be stretched, and need not be.
            constant = old[0][1] == old[-1][1]
            new = Spread().text(
                tuple((p, round(exact if constant else time * value / free.value)) for p, time in old)
            )
        elif isinstance(type(self.parts[table]).model_fields[name].metadata[0], Time):
            new = format_time(new)
        keys = {inside: {name: new}} if inside else {name: new}
        return {**self.references, part: {"base": self.references[part], **keys}}


def names() -> list[str]:
    """Return the shipped platforms of this kind."""
    return list(platform_names(KIND))


def load_system(reference: str, folder: Path | None = None) -> System:
    """Return a shipped platform of this kind by name, or one from a .toml file.

    folder : where a relative path starts; the current one by default.

    Raises ConfigError: no such platform, or a file that breaks a rule.
    """
    name, content, origin = platform_file(reference, KIND, folder=folder)
    try:
        table = SystemTable.model_validate(content, context={"folder": Path(origin.name).parent})
    except ValidationError as error:
        raise first_problem(error, content, origin) from None
    references = {part: getattr(table, part) for part in PARTS}
    parts: dict[str, Preset] = {}
    for part in PARTS:
        parts[part] = _READ[part](references[part], origin, (part,))[0]
        for inside in _INSIDE:
            if isinstance(found := getattr(parts[part], inside, None), Preset):
                parts[f"{part}.{inside}"] = found
    for place, tail in chain(table.wrong(), _free_problems(table.free, parts)):
        raise origin.error(place, tail)
    system = System(name, table, references, parts, origin)
    for i, free in enumerate(system.free):
        for end in ENDS:
            part = free.key.partition(".")[0]
            at_end = End(name=origin.name, text=origin.text, position=i, end=end, free=free)
            _READ[part](system.changed(free, getattr(free, end))[part], at_end, (part,))
    return system


PARTS: Final = ("link", "host", "device")
_READ: Final = {"link": presets.link, "host": presets.host, "device": presets.device}
ENDS: Final = ("low", "high")


@dataclass(frozen=True, kw_only=True)
class End(Origin):
    """A platform's file with a free number at an end of its range, where errors say so."""

    position: int
    end: str
    free: Free

    def error(self, place: Place, tail: str, key: str = "") -> ConfigError:
        """Return the error of the end, whatever of the platform does not go with it."""
        value = f"{self.free.key} = {getattr(self.free, self.end):g} {self.free.unit}"
        return super().error(("free", self.position, self.end), f"{value}: {tail}")


# A number that is not there has been raised by the time that the others are looked at.
def _free_problems(free: Sequence[FoundTable], parts: Mapping[str, Preset]) -> Iterator[tuple[Place, str]]:
    """Yield what is wrong with the list of free numbers."""
    for i, tail in problems(free, parts, _UNITS):
        yield ("free", i), tail
    for i, one in enumerate(free):
        table, _, name = one.key.rpartition(".")
        old = getattr(parts[table], name)
        if isinstance(old, tuple) and old[-1][1] and not number(old):
            yield ("free", i), f"{one.key} has a median of 0; expected one that can be stretched"


def _check_devices(data: Mapping[str, Any], origin: Origin) -> None:
    """Raise ConfigError for a device without a preset, where the platform brings none."""
    workloads = data.get("workload")
    for i, entry in enumerate(workloads if isinstance(workloads, list | tuple) else ()):
        devices = entry.get("device") if isinstance(entry, Mapping) else None
        for name, one in devices.items() if isinstance(devices, Mapping) else ():
            if isinstance(one, Mapping) and "preset" not in one:
                brings = f"platform {shown(data['platform'])} is of kind {MEASURED!r}: link and host"
                raise origin.error(
                    ("workload", i, "device", name), f"no key 'preset'; expected one ({brings})"
                )


def with_platform(data: Mapping[str, Any], origin: Origin, folder: Path | None = None) -> Mapping[str, Any]:
    """Return a scenario's table with what its platform brings, where it names nothing itself.

    One of kind `system` brings link, host and device; one that was measured (`dma`) link and host.
    folder : where a relative path of the platform starts; the current one by default.

    Raises ConfigError: no such platform, or a device that nobody names.
    """
    if "platform" not in data:
        return data
    reference = data["platform"]
    kinds = (KIND, MEASURED)
    shipped = isinstance(reference, str) and any(reference in platform_names(kind) for kind in kinds)
    if not (shipped or (isinstance(reference, str) and names_file(reference))):
        raise origin.error(("platform",), unknown_platform(reference, *kinds))
    references: Mapping[str, Reference]
    if platform_file(reference, *kinds, folder=folder)[1]["kind"] == MEASURED:
        references = load_platform(reference, folder).references()
        _check_devices(data, origin)
    else:
        references = load_system(reference, folder).references
    out = {key: value for key, value in data.items() if key != "platform"}
    out = {"link": references["link"], "host": references["host"], **out}
    if "device" not in references:
        return out

    def device(entry: Any) -> Any:
        return {"preset": references["device"], **entry} if isinstance(entry, Mapping) else entry

    def workload(entry: Any) -> Any:
        devices = entry.get("device") if isinstance(entry, Mapping) else None
        if not isinstance(devices, Mapping):
            return entry
        return {**entry, "device": {name: device(one) for name, one in devices.items()}}

    if isinstance(out.get("workload"), list | tuple):
        out["workload"] = [workload(entry) for entry in out["workload"]]
    return out
