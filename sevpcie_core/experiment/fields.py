"""Kinds of values in scenario and preset files: what is allowed, how it is read, how it is written back.

Rule: a rule refuses with one ValueError whose text is "what was found; expected what is allowed", and what
`text` writes, `read` reads back to the same value. Models carry a rule as annotation: `Annotated[int,
Whole(1, 65536)]`.
"""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema

from .problems import shown


class Rule(ABC):
    """What one kind of value may be. Pydantic finds the rule in `Annotated`; rules are frozen dataclasses."""

    @abstractmethod
    def expected(self) -> str:
        """Return what is allowed, to stand behind "expected"."""

    @abstractmethod
    def read(self, value: Any) -> Any:
        """Return the checked value. Raises ValueError: it is not allowed."""

    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of what `read` accepts."""

    def text(self, value: Any) -> Any:
        """Return the value as a file writes it."""
        return value

    def refuse(self, value: object) -> ValueError:
        """Return the error for a value that is not allowed."""
        return ValueError(f"{shown(value)}; expected {self.expected()}")

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.read, serialization=core_schema.plain_serializer_function_ser_schema(self.text)
        )

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return self.schema()


@dataclass(frozen=True, slots=True)
class Whole(Rule):
    """A whole number of an interval."""

    low: int
    high: int

    def expected(self) -> str:
        """Return what is allowed."""
        return f"a whole number from {self.low} to {self.high}"

    def read(self, value: Any) -> int:
        """Return the number."""
        if isinstance(value, bool) or not isinstance(value, int) or not self.low <= value <= self.high:
            raise self.refuse(value)
        return value

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True, slots=True)
class Number(Rule):
    """A number of an interval, whole or not."""

    low: float
    high: float
    above: bool = False
    """Whether `low` itself is not allowed."""

    def expected(self) -> str:
        """Return what is allowed."""
        start = f"above {self.low:g} and up" if self.above else f"from {self.low:g}"
        return f"a number {start} to {self.high:g}"

    def read(self, value: Any) -> float:
        """Return the number."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.refuse(value)
        # Of nan neither holds.
        if not self.low <= value <= self.high or (self.above and value == self.low):
            raise self.refuse(value)
        return float(value)

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {
            "type": "number",
            "exclusiveMinimum" if self.above else "minimum": self.low,
            "maximum": self.high,
        }


@dataclass(frozen=True, slots=True)
class Flag(Rule):
    """True or false."""

    def expected(self) -> str:
        """Return what is allowed."""
        return "true or false"

    def read(self, value: Any) -> bool:
        """Return the flag."""
        if not isinstance(value, bool):
            raise self.refuse(value)
        return value

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Choice(Rule):
    """One of a few values, all text or all whole numbers."""

    values: tuple[str | int, ...]

    def expected(self) -> str:
        """Return what is allowed."""
        *most, last = map(repr, self.values)
        return f"{', '.join(most)} or {last}" if most else last

    def read(self, value: Any) -> str | int:
        """Return the value."""
        if isinstance(value, bool) or not isinstance(value, (str, int)) or value not in self.values:
            raise self.refuse(value)
        return value

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {"enum": list(self.values)}


@dataclass(frozen=True, slots=True)
class Several(Rule):
    """A list of some of a few names, each at most once; kept in the order of `values`."""

    values: tuple[str, ...]

    def expected(self) -> str:
        """Return what is allowed."""
        return f"a list of some of {', '.join(map(repr, self.values))}"

    def read(self, value: Any) -> tuple[str, ...]:
        """Return the names."""
        if not isinstance(value, list | tuple) or any(v not in self.values for v in value):
            raise self.refuse(list(value) if isinstance(value, list | tuple) and not value else value)
        if len(set(value)) < len(value):
            raise ValueError(f"{', '.join(map(repr, value))}; expected each once")
        return tuple(name for name in self.values if name in value)

    def text(self, value: tuple[str, ...]) -> list[str]:
        """Return the list."""
        return list(value)

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {"type": "array", "items": {"enum": list(self.values)}, "uniqueItems": True}


@dataclass(frozen=True, slots=True)
class Text(Rule):
    """One line of text."""

    def expected(self) -> str:
        """Return what is allowed."""
        return "one line of text of at most 2000 characters"

    def read(self, value: Any) -> str:
        """Return the text."""
        if not isinstance(value, str) or len(value) > 2000 or any(ord(c) < 32 for c in value):
            raise self.refuse(value)
        return value

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {"type": "string", "maxLength": 2000}


@dataclass(frozen=True, slots=True)
class Name(Rule):
    """A name that results are keyed by."""

    reserved: tuple[str, ...] = ()

    _PATTERN = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"

    def expected(self) -> str:
        """Return what is allowed."""
        but = f", but not {' or '.join(map(repr, self.reserved))}" if self.reserved else ""
        return f"a name of 1 to 64 letters, digits, '_', '-' and '.'{but}"

    def read(self, value: Any) -> str:
        """Return the name."""
        if not isinstance(value, str) or not re.fullmatch(self._PATTERN, value) or value in self.reserved:
            raise self.refuse(value)
        return value

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {"type": "string", "pattern": f"^{self._PATTERN}$"}
