"""From what a model refuses to one line that a person can act on: file, line, key, value, what is allowed.

Rule: everything wrong with a scenario or preset leaves as ConfigError made here. Lines are found by
scanning the TOML text, because TOML readers keep no positions; a line that cannot be found is left out,
never guessed.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pydantic import ValidationError

from ..errors import ConfigError

Place: TypeAlias = tuple[str | int, ...]
"""Keys and list positions from the top of a document to a value."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a document comes from."""

    name: str
    """File name, or what to call a document that is none."""
    text: str = field(default="", repr=False)
    """TOML text, to find lines in."""

    def error(self, place: Place, tail: str, key: str = "") -> ConfigError:
        """Return the error for the value at `place`; `tail` is "what was found; expected what is allowed".

        Parameters: key: a key of the table at `place` whose line is meant.
        """
        where = self.where((*place, key)) if key else self.where(place)
        return ConfigError(": ".join(part for part in (where, dotted(place), tail) if part))

    def where(self, place: Place) -> str:
        """Return file and line of a value, the file alone where the line is not found."""
        line = find_line(self.text, place) if self.text else 0
        return f"{self.name}:{line}" if line else self.name

    def named(self, place: Place) -> str:
        """Return how an error of a later time names the value at `place`, which it says next."""
        return f"{self.where(place)}: {dotted(place)}: "


@dataclass(frozen=True, slots=True)
class Options(Origin):
    """Values that were given as options of a command."""

    def named(self, place: Place) -> str:
        """Return the option."""
        return f"--{str(place[-1]).replace('_', '-')} "


_MAX_SHOWN = 60


def shown(value: object) -> str:
    """Return a value as its file might write it, short enough for a message."""
    match value:
        case bool():
            text = str(value).lower()
        case Mapping():
            text = "a table"
        case list() | tuple():
            text = "a list"
        case None:
            text = "nothing"
        case int() if abs(value) >= 10**_MAX_SHOWN:
            # Python refuses to write integers of thousands of digits.
            text = f"a number of more than {_MAX_SHOWN} digits"
        case _:
            text = repr(value)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."


class KeyProblem(ValueError):
    """A tail about one key of the table that is being read."""

    def __init__(self, key: str, tail: str) -> None:
        super().__init__(tail)
        self.key = key


class UnknownKey(KeyProblem):
    """A key that the table does not have."""

    def __init__(self, key: str, allowed: Iterable[str]) -> None:
        names = list(allowed)
        super().__init__(key, f"unknown key {key!r}; allowed: {', '.join(names)}")
        self.near = suggestion(key, names)

    def __str__(self) -> str:
        """Return the tail, with a key of this table that may be meant."""
        return f"{self.args[0]}{self.near}"

    def told(self, data: object) -> str:
        """Return the tail, with the table that the key belongs in, if there is one."""
        # It knows all tables, which know this module.
        from .homes import belongs

        kind = data.get("kind") if isinstance(data, Mapping) else None
        return f"{self.args[0]}{belongs(self.key, kind) or self.near}"


def dotted(place: Place) -> str:
    """Return a place as people write it: workload[0].device.dram."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def suggestion(word: str, names: Sequence[str]) -> str:
    """Return "; did you mean 'x'?" if one of `names` is near (or has the initials: qd), else nothing."""
    close = difflib.get_close_matches(word.lower(), names, n=1)
    if not close:
        close = [n for n in names if "".join(part[:1] for part in re.split("[_-]", n)) == word.lower()]
    return f"; did you mean {close[0]!r}?" if close else ""


_SHAPES = {
    "tuple_type": "a list of tables, each under its [[...]]",
    "dict_type": "tables, each under its [...]",
}
"""Types of pydantic's own refusals that our models can meet: what is expected."""


def first_problem(error: ValidationError, data: object, origin: Origin, base: Place = ()) -> ConfigError:
    """Return the first of a model's refusals as one error; more are counted.

    Parameters: data: what was validated. base: where `data` stands in the document of `origin`.
    """
    problems = error.errors(include_url=False)
    details = problems[0]
    place = base + _within(data, details["loc"])
    cause = details.get("ctx", {}).get("error")
    if details["type"] == "union_tag_not_found":
        # Only traffic is a union, and its kind is missing or none of these.
        kind = details["input"].get("kind") if isinstance(details["input"], Mapping) else None
        result = origin.error(place, f"kind = {shown(kind)}; expected 'nvme', 'nic', 'gpu' or 'tlp'", "kind")
    elif cause is not None:
        tail = cause.told(details["input"]) if isinstance(cause, UnknownKey) else str(cause)
        result = origin.error(place, tail, getattr(cause, "key", ""))
    else:
        expected = _SHAPES.get(details["type"], details["msg"])
        result = origin.error(place, f"{shown(details['input'])}; expected {expected}")
    more = len(problems) - 1
    return ConfigError(f"{result} (and {more} more)") if more else result


def _within(data: object, loc: Sequence[str | int]) -> Place:
    """Drop from a location what is no key of the data: pydantic adds the names of union members."""
    place: list[str | int] = []
    for part in loc:
        inside: Any = None
        if isinstance(data, Mapping):
            inside = data.get(part)
        elif isinstance(data, list | tuple) and isinstance(part, int):
            inside = data[part]
        if inside is not None:
            data = inside
            place.append(part)
    return tuple(place)


_KEY = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_PATH = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_PATH})\s*\]\]?")
_ASSIGNMENT = re.compile(rf"\s*({_PATH})\s*=(.*)")
_INLINE = re.compile(rf"[{{,]\s*({_PATH})\s*=")


def find_line(text: str, place: Place) -> int:
    """Return the line, from 1, where the value at `place` or the table around it stands; 0: not found."""
    found: dict[Place, int] = {}
    for number, where in _assignments(text):
        found.setdefault(where, number)
    for length in range(len(place), 0, -1):
        if place[:length] in found:
            return found[place[:length]]
    return 0


def _assignments(text: str) -> Iterator[tuple[int, Place]]:
    """Yield (line, place) for each table header and each key of a TOML text, as far as lines tell."""
    counts: dict[Place, int] = {}
    table: Place = ()
    for number, line in enumerate(text.splitlines(), start=1):
        header = _HEADER.match(line)
        if header:
            keys = _split(header[2])
            opened = _indexed(keys[:-1], counts) + keys[-1:]
            if header[1] == "[[":
                counts[opened] = counts.get(opened, -1) + 1
                yield number, opened
            table = _indexed(keys, counts)
            yield number, table
            continue
        assignment = _ASSIGNMENT.match(line)
        if assignment:
            key = table + _split(assignment[1])
            yield number, key
            for inner in _INLINE.finditer(assignment[2]):
                yield number, key + _split(inner[1])


def _split(path: str) -> Place:
    """Return the keys of a dotted TOML key."""
    return tuple(part.strip().strip("\"'") for part in re.findall(_KEY, path))


def _indexed(keys: Place, counts: Mapping[Place, int]) -> Place:
    """Insert, after each list of tables, the position of the entry that is open."""
    place: Place = ()
    for key in keys:
        place += (key,)
        if place in counts:
            place += (counts[place],)
    return place


def check_table(data: Any, allowed: Sequence[str], required: Sequence[str]) -> None:
    """Refuse what is no table, has an unknown key or lacks a required one. Raises ValueError, with a tail."""
    if not isinstance(data, Mapping):
        raise ValueError(f"{shown(data)}; expected a table with {', '.join(required or allowed)}")
    for key in data:
        if key not in allowed:
            raise UnknownKey(str(key), allowed)
    for key in required:
        if key not in data:
            raise ValueError(f"no key {key!r}; expected {', '.join(required)} in this table")
