"""Platforms of kind `system`: presets that belong together, their free numbers, and what is published.

Rule: a platform holds no number of the model. A scenario that names it takes its link, host and device; the
figures are there to be compared with (`validate.systems`), and for a projection to be computed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import ValidationError

from ..units import TIME_UNITS, format_time
from . import presets
from .fields import Choice, Number, Text, Whole
from .free import FreeTable, number, platform_file, problems
from .platforms import Free
from .problems import Origin, Place, first_problem, shown, suggestion
from .quantities import Spread, Time
from .tables import Preset, Table
from .toml_text import read_file
from .traffic import MAX_REQUESTS, Reference, Traffic, names_file

KIND: Final = "system"
_UNITS: Final = {"ns": TIME_UNITS["ns"], "us": TIME_UNITS["us"], "B": 1, "accesses": 1}
# Tables of presets that hold numbers of their own.
_INSIDE: Final = ("data_link", "root_port", "credits", "iommu")

Quantity = Literal["kIOPS", "GB/s", "us"]


class FoundTable(FreeTable):
    """A number that was found with figures, or that nothing fixes; of a distribution its median."""

    unit: Annotated[str, Choice(tuple(_UNITS))]


class FigureTable(Table):
    """What such a system does. GB/s: payload, 10^9 bytes; us: the median latency."""

    what: Annotated[str, Text()]
    quantity: Annotated[Quantity, Choice(("kIOPS", "GB/s", "us"))]
    value: Annotated[float | None, Number(0, 1e9, above=True)] = None
    source: Annotated[str, Text()] = ""
    fixes: Annotated[str, Text()] = ""
    requests: Annotated[int, Whole(1, MAX_REQUESTS)]
    traffic: Traffic


class SystemTable(Table):
    """A platform file of kind `system`. link, host, device : names of presets, or paths of their files."""

    title: Annotated[str, Text()] = ""
    kind: Annotated[Literal["system"], Choice((KIND,))]
    basis: Annotated[Literal["published", "projection"], Choice(("published", "projection"))]
    link: Annotated[str, Text()]
    host: Annotated[str, Text()]
    device: Annotated[str, Text()]
    figure: tuple[FigureTable, ...] = ()
    free: tuple[FoundTable, ...] = ()

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield figures without a source, and values where nothing is published."""
        yield from super().problems()
        known = {free.key for free in self.free}
        for one in self.figure:
            if self.basis == "projection" and one.value is not None:
                yield "figure", f"{one.what!r}: value {one.value:g}; expected none in a projection"
            if self.basis == "published" and (one.value is None or not one.source):
                yield "figure", f"{one.what!r}: no value or no source; expected both, or basis 'projection'"
            if one.fixes and one.fixes not in known:
                yield "figure", f"{one.what!r}: fixes {one.fixes!r}; expected the key of a [[free]] number"


@dataclass(frozen=True)
class System:
    """A platform of kind `system`, checked.

    references : link, host and device as scenarios name them. parts : their tables, and those within.
    """

    name: str
    table: SystemTable
    references: Mapping[str, Reference]
    parts: Mapping[str, Preset]

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
        """Return references with another value of a free number, in its unit; a distribution is stretched."""
        table, _, name = free.key.rpartition(".")
        part, _, inside = table.partition(".")
        old = getattr(self.parts[table], name)
        new: Any = round(value * _UNITS[free.unit])
        if isinstance(old, tuple):
            new = Spread().text(tuple((p, round(time * value / free.value)) for p, time in old))
        elif isinstance(type(self.parts[table]).model_fields[name].metadata[0], Time):
            new = format_time(new)
        keys = {inside: {name: new}} if inside else {name: new}
        return {**self.references, part: {"base": self.references[part], **keys}}


def names() -> list[str]:
    """Return the shipped platforms of this kind."""
    found = presets.names("platforms")
    return [
        n
        for n in found
        if read_file(presets.ROOT / "platforms" / f"{n}.toml", "a platform")[1].get("kind") == KIND
    ]


def load_system(reference: str) -> System:
    """Return a shipped platform of this kind by name, or one from a .toml file.

    Raises ConfigError: no such platform, or a file that breaks a rule.
    """
    name, content, origin = platform_file(reference)
    if content.get("kind") != KIND:
        raise origin.error(("kind",), f"{shown(content.get('kind'))}; expected {KIND!r}")
    try:
        table = SystemTable.model_validate(content)
    except ValidationError as error:
        raise first_problem(error, content, origin) from None
    references = {part: getattr(table, part) for part in ("link", "host", "device")}
    parts: dict[str, Preset] = {}
    for part, read in (("link", presets.link), ("host", presets.host), ("device", presets.device)):
        parts[part] = read(references[part], origin, (part,))[0]
        for inside in _INSIDE:
            if isinstance(found := getattr(parts[part], inside, None), Preset):
                parts[f"{part}.{inside}"] = found
    for key, tail in (*table.problems(), *problems(table.free, parts, _UNITS)):
        raise origin.error((key,), tail)
    return System(name, table, references, parts)


def with_platform(data: Mapping[str, Any], origin: Origin) -> Mapping[str, Any]:
    """Return a scenario's table with what its platform names, where it names nothing itself.

    Raises ConfigError: no such platform.
    """
    if "platform" not in data:
        return data
    place: Place = ("platform",)
    reference = data["platform"]
    known = names()
    if not isinstance(reference, str) or not (reference in known or names_file(reference)):
        hint = suggestion(reference, known) if isinstance(reference, str) else ""
        raise origin.error(
            place,
            f"{shown(reference)}; expected one of {', '.join(known)}, or the path of a .toml file{hint}",
        )
    system = load_system(reference)
    out = {key: value for key, value in data.items() if key != "platform"}
    out = {"link": system.references["link"], "host": system.references["host"], **out}

    def device(entry: Any) -> Any:
        return {"preset": system.references["device"], **entry} if isinstance(entry, Mapping) else entry

    def workload(entry: Any) -> Any:
        devices = entry.get("device") if isinstance(entry, Mapping) else None
        if not isinstance(devices, Mapping):
            return entry
        return {**entry, "device": {name: device(one) for name, one in devices.items()}}

    if isinstance(out.get("workload"), list | tuple):
        out["workload"] = [workload(entry) for entry in out["workload"]]
    return out
