"""Numbers of a platform that were found with data: how a file lists them, and what is wrong with a list.

Rule: a file says of each where it stands, in which range it is plausible, what it means and which rows
fixed it.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from . import presets
from .fields import Number, Text
from .problems import Origin, shown, suggestion
from .tables import Preset, Table
from .toml_text import read_file
from .traffic import names_file


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
    if part is None or name in ("title", "source") or name not in type(part).model_fields:
        return None
    return part, name


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
) -> Iterator[tuple[str, str]]:
    """Yield numbers that are not there, listed twice, or outside of their range.

    parts : the tables of the file that hold numbers; units : base units of each.
    """
    seen: set[str] = set()
    for one in free:
        found = find(parts, one.key)
        if found is None:
            yield "free", f"key = {shown(one.key)}; expected TABLE.KEY of a number in this file"
            continue
        if one.key in seen:
            yield "free", f"key = {shown(one.key)} twice; expected each once"
        seen.add(one.key)
        value = number(getattr(*found)) / units[one.unit]
        if not one.low <= value <= one.high:
            yield "free", f"{one.key} = {value:g} {one.unit}; expected {one.low:g} to {one.high:g}"


def platform_file(reference: str) -> tuple[str, dict[str, Any], Origin]:
    """Return the name, content and origin of a shipped platform, or of a .toml file.

    Raises ConfigError: no such platform, or a file that cannot be read.
    """
    if names_file(reference):
        path = Path(reference)
    else:
        known = presets.names("platforms")
        if reference not in known:
            raise Origin("platform").error(
                (),
                f"{shown(reference)}; expected one of {', '.join(known)}, or the path of a .toml file"
                f"{suggestion(reference, known)}",
            )
        path = presets.ROOT / "platforms" / f"{reference}.toml"
    text, content = read_file(path, "a platform")
    return path.stem, content, Origin(str(path), text)
