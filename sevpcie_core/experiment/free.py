"""Numbers of a platform that were found with data: how a file lists them, and what is wrong with a list.

Rule: a file says of each where it stands, in which range it is plausible, what it means and which rows
fixed it.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final

from ..units import TIME_UNITS
from . import presets
from .fields import Number, Text
from .problems import Origin, shown, suggestion
from .quantities import Spread, Time
from .tables import Preset, Table
from .toml_text import read_file
from .traffic import names_file, user_path


class FreeTable(Table):
    """A number that was found with data."""

    key: Annotated[str, Text()]
    unit: Annotated[str, Text()]
    low: Annotated[float, Number(0, 1e12)]
    high: Annotated[float, Number(0, 1e12)]
    meaning: Annotated[str, Text()]
    rows: Annotated[str, Text()]


def find(parts: Mapping[str, Preset | None], key: str) -> tuple[Preset, str] | None:
    """Return the table and the name in it that TABLE.KEY means, None if that is no number of the file."""
    table, _, name = key.rpartition(".")
    part = parts.get(table)
    if part is None or name not in type(part).model_fields:
        return None
    value = getattr(part, name)
    return (part, name) if isinstance(value, int | float | tuple) and not isinstance(value, bool) else None


def number(value: Any) -> float:
    """Return a number, of a distribution its median."""
    if not isinstance(value, tuple):
        return float(value)
    below = max((p, time) for p, time in value if p <= 0.5)
    above = min((p, time) for p, time in value if p >= 0.5)
    share = (0.5 - below[0]) / (above[0] - below[0]) if above[0] > below[0] else 0.0
    return float(below[1] + share * (above[1] - below[1]))


def problems(
    free: Sequence[FreeTable], parts: Mapping[str, Preset | None], units: Mapping[str, int]
) -> Iterator[tuple[int, str]]:
    """Yield numbers that are not there, listed twice, or outside of their range: position in `free`, tail.

    parts : the tables of the file that hold numbers; units : base units of each.
    """
    seen: set[str] = set()
    for i, one in enumerate(free):
        found = find(parts, one.key)
        if found is None:
            yield i, f"key = {shown(one.key)}; expected TABLE.KEY of a number in this file"
            continue
        if one.key in seen:
            yield i, f"key = {shown(one.key)} twice; expected each once"
        seen.add(one.key)
        timed = isinstance(type(found[0]).model_fields[found[1]].metadata[0], Time | Spread)
        if timed != (one.unit in TIME_UNITS):
            yield i, f"{one.key} in {one.unit}; expected a unit of time for times, and no other"
        value = number(getattr(*found)) / units[one.unit]
        if not one.low <= value <= one.high:
            yield i, f"{one.key} = {value:g} {one.unit}; expected {one.low:g} to {one.high:g}"


# What else takes a platform of a kind.
_TAKEN_BY: Final = {
    "dma": "measure calibrate and scenarios",
    "system": "validate --platform and scenarios",
}


@cache
def platform_names(kind: str) -> tuple[str, ...]:
    """Return the shipped platforms of a kind."""
    folder = presets.ROOT / "platforms"
    found = presets.names("platforms")
    return tuple(n for n in found if read_file(folder / f"{n}.toml", "a platform")[1].get("kind") == kind)


def unknown_platform(reference: object, *kinds: str) -> str:
    """Return the tail for what is no platform of some kinds."""
    known = sorted(name for kind in kinds for name in platform_names(kind))
    found, hint = shown(reference), ""
    if isinstance(reference, str):
        other = reference in presets.names("platforms")
        found += " is of another kind" if other else ""
        hint = "" if other else suggestion(reference, known)
    of = " or ".join(map(repr, kinds))
    return f"{found}; expected one of {', '.join(known)}, or the path of a .toml file of kind {of}{hint}"


def platform_file(
    reference: str, *kinds: str, folder: Path | None = None
) -> tuple[str, dict[str, Any], Origin]:
    """Return the name, content and origin of a shipped platform of some kinds, or of a .toml file.

    folder : where relative paths start; the current one by default.

    Raises ConfigError: no such platform, one of another kind, or a file that cannot be read.
    """
    if names_file(reference):
        path = (folder or Path()) / user_path(reference)
    else:
        if not any(reference in platform_names(kind) for kind in kinds):
            raise Origin("platform").error((), unknown_platform(reference, *kinds))
        path = presets.ROOT / "platforms" / f"{reference}.toml"
    text, content = read_file(path, "a platform")
    origin = Origin(str(path), text)
    if content.get("kind") not in kinds:
        # Before anything else of a file of another kind looks wrong.
        found, expected = shown(content.get("kind")), " or ".join(map(repr, kinds))
        place = _TAKEN_BY.get(str(content.get("kind")))
        hint = f" ({found} is for {place})" if place else ""
        raise origin.error(("kind",), f"{found}; expected {expected}{hint}")
    return path.stem, content, origin
