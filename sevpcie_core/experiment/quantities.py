"""Kinds of values with units, and those made of several numbers: sizes, times, rates, distributions, ranges.

Rule: as in `fields.py`; all text with units goes through `units.py`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from ..errors import ConfigError
from ..units import (
    BYTE_UNITS,
    OPERATION_UNITS,
    RATE_UNITS,
    TIME_UNITS,
    format_bytes,
    format_operations,
    format_rate,
    format_time,
    parse_bytes,
    parse_operations,
    parse_rate_bps,
    parse_time_ps,
)
from .fields import Rule, Text, Whole
from .problems import KeyProblem, UnknownKey, check_table, shown
from .resolved import Quantiles, Range


def _quantity_schema(units: Mapping[str, int], plain: bool, example: str) -> dict[str, Any]:
    """Return the JSON Schema of a number with one of `units`; `plain`: also of a whole number without."""
    unit = "|".join(units)
    text = {"type": "string", "pattern": rf"^\s*[0-9]*\.?[0-9]*\s*({unit})?\s*$", "examples": [example]}
    return {"anyOf": [{"type": "integer", "minimum": 0}, text]} if plain else text


@dataclass(frozen=True, slots=True)
class Size(Rule):
    """Bytes."""

    low: int = 0
    high: int = 2**62
    step: int = 1
    """Sizes are multiples of this."""

    def expected(self) -> str:
        """Return what is allowed."""
        step = f" in steps of {format_bytes(self.step)}" if self.step > 1 else ""
        return f"a size from {format_bytes(self.low)} to {format_bytes(self.high)}{step}, such as '64KiB'"

    def read(self, value: Any) -> int:
        """Return bytes."""
        try:
            size = parse_bytes(value)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        if not self.low <= size <= self.high or size % self.step:
            raise self.refuse(value)
        return size

    def text(self, value: int) -> str:
        """Return the size with its unit."""
        return format_bytes(value)

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return _quantity_schema(BYTE_UNITS, True, "64KiB")


@dataclass(frozen=True, slots=True)
class Sizes(Rule):
    """Bytes of several things that take turns: a list, or one size for all."""

    low: int
    high: int
    most: int = 64

    def expected(self) -> str:
        """Return what is allowed."""
        return f"{Size(self.low, self.high).expected()}, or a list of 1 to {self.most} of them"

    def read(self, value: Any) -> tuple[int, ...]:
        """Return bytes of each."""
        given = list(value) if isinstance(value, list | tuple) else [value]
        if not 0 < len(given) <= self.most:
            raise self.refuse(given)
        return tuple(Size(self.low, self.high).read(size) for size in given)

    def text(self, value: tuple[int, ...]) -> str | list[str]:
        """Return the sizes with their units."""
        written = [format_bytes(size) for size in value]
        return written if len(written) > 1 else written[0]

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        one = _quantity_schema(BYTE_UNITS, True, "64KiB")
        return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1, "maxItems": self.most}]}


@dataclass(frozen=True, slots=True)
class PowerSize(Rule):
    """Bytes, a power of two."""

    low: int
    high: int
    none: bool = False
    """Whether 0 is allowed, too."""

    def expected(self) -> str:
        """Return what is allowed."""
        values = ["0"] if self.none else []
        size = self.low
        while size <= self.high:
            values.append(str(size))
            size *= 2
        return f"{', '.join(values[:-1])} or {values[-1]} bytes"

    def read(self, value: Any) -> int:
        """Return bytes."""
        try:
            size = parse_bytes(value)
        except ConfigError:
            raise self.refuse(value) from None
        if size == 0 and self.none:
            return 0
        if not self.low <= size <= self.high or size & (size - 1):
            raise self.refuse(value)
        return size

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return _quantity_schema(BYTE_UNITS, True, "256")


@dataclass(frozen=True, slots=True)
class Time(Rule):
    """Picoseconds."""

    # An hour: whatever a device does takes less, and sums of many stay inside int64.
    high: int = 3600 * 10**12

    def expected(self) -> str:
        """Return what is allowed."""
        return f"a time from 0 to {format_time(self.high)} with its unit, such as '350ns'"

    def read(self, value: Any) -> int:
        """Return picoseconds."""
        try:
            time = parse_time_ps(value)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        if time > self.high:
            raise self.refuse(value)
        return time

    def text(self, value: int) -> str:
        """Return the time with its unit."""
        return format_time(value)

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return _quantity_schema(TIME_UNITS, False, "350ns")


@dataclass(frozen=True, slots=True)
class Rate(Rule):
    """Bits per second."""

    low: int = 10**6
    high: int = 10**14

    def expected(self) -> str:
        """Return what is allowed."""
        return f"a rate from {format_rate(self.low)} to {format_rate(self.high)}, such as '400Gb/s'"

    def read(self, value: Any) -> int:
        """Return bits per second."""
        try:
            rate = parse_rate_bps(value)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        if not self.low <= rate <= self.high:
            raise self.refuse(value)
        return rate

    def text(self, value: int) -> str:
        """Return the rate with its unit."""
        return format_rate(value)

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return _quantity_schema(RATE_UNITS, True, "400Gb/s")


class Offered(NamedTuple):
    """A load: so much data, or so many operations. One of the two is 0."""

    bps: int
    """Bits of data per second."""
    ops: int
    """Operations per second."""


@dataclass(frozen=True, slots=True)
class Load(Rule):
    """An offered load: data per second, or operations per second."""

    low: int = 1
    high: int = 10**14

    def expected(self) -> str:
        """Return what is allowed."""
        return (
            f"data or operations per second, {self.low} to {format_rate(self.high)}, such as '60Gb/s' or "
            "'250kops/s'"
        )

    def read(self, value: Any) -> Offered:
        """Return the load."""
        operations = isinstance(value, str) and "op" in value
        try:
            amount = parse_operations(value) if operations else parse_rate_bps(value)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        if not self.low <= amount <= self.high:
            raise self.refuse(value)
        return Offered(0, amount) if operations else Offered(amount, 0)

    def text(self, value: Offered) -> str:
        """Return the load with its unit."""
        return format_operations(value.ops) if value.ops else format_rate(value.bps)

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        units = {**RATE_UNITS, **OPERATION_UNITS}
        return _quantity_schema(units, True, "60Gb/s")


_PERCENTILE = re.compile(r"p([0-9]{1,2})([0-9]{0,6})", re.ASCII)


def _probability(key: object) -> float | None:
    """Return 0.5 for p50, 0.999 for p999, 1.0 for p100; None for what is no percentile."""
    if key == "p100":
        return 1.0
    match = _PERCENTILE.fullmatch(str(key))
    if match is None:
        return None
    whole, decimals = match.groups()
    # Two digits are per cent, further ones its decimals; a single digit is whole per cent.
    return float(f"0.{whole.zfill(2)}{decimals}")


def _percentile(probability: float) -> str:
    """Return the key of a probability."""
    if probability in (0.0, 1.0):
        return "p100" if probability else "p0"
    digits = f"{probability:.8f}"[2:].rstrip("0")
    return f"p{digits.ljust(2, '0')}"


@dataclass(frozen=True, slots=True)
class Spread(Rule):
    """A distribution of times: one time, or a table of percentiles from p0 to p100."""

    def expected(self) -> str:
        """Return what is allowed."""
        return (
            "a time such as '350ns', or rising percentiles such as { p0 = '3us', p50 = '4us', p100 = '9us' }"
        )

    def read(self, value: Any) -> Quantiles:
        """Return the points in rising order."""
        if not isinstance(value, Mapping):
            constant = Time().read(value)
            return ((0.0, constant), (1.0, constant))
        points: list[tuple[float, int]] = []
        for key, time in value.items():
            probability = _probability(key)
            if probability is None:
                raise UnknownKey(str(key), ("p0", "p50", "p99", "p999", "p100"))
            try:
                points.append((probability, Time().read(time)))
            except ValueError as error:
                raise ValueError(f"{key} = {error}") from None
        points.sort()
        keys = [p for p, _ in points]
        if not keys or keys[0] != 0.0 or keys[-1] != 1.0:
            raise ValueError(
                f"no {'p100' if keys and keys[0] == 0.0 else 'p0'}; expected percentiles from p0 to p100"
            )
        for (p, a), (q, b) in pairwise(points):
            if p == q:
                raise ValueError(f"{_percentile(p)} twice; expected each percentile once")
            if a > b:
                raise ValueError(
                    f"{_percentile(q)} = {format_time(b)!r} below {_percentile(p)} = {format_time(a)!r}; "
                    "expected percentiles that do not fall"
                )
        return tuple(points)

    def text(self, value: Quantiles) -> str | dict[str, str]:
        """Return the one time, or the table."""
        if len(value) == 2 and value[0][1] == value[1][1]:
            return format_time(value[0][1])
        return {_percentile(p): format_time(time) for p, time in value}

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        time = Time().schema()
        table = {
            "type": "object",
            "patternProperties": {"^p[0-9]{1,8}$": time},
            "additionalProperties": False,
            "required": ["p0", "p100"],
        }
        return {"anyOf": [time, table]}


@dataclass(frozen=True, slots=True)
class WeightedSizes(Rule):
    """One size, or several with the weight of each, as ((weight, bytes), ...)."""

    size: Size
    most: int = 64
    heaviest: int = 10**6

    def expected(self) -> str:
        """Return what is allowed."""
        return f"{self.size.expected()}, or pairs [weight, size], such as [[70, '4KiB'], [30, '64KiB']]"

    def read(self, value: Any) -> tuple[tuple[int, int], ...]:
        """Return weights and bytes."""
        if not isinstance(value, list | tuple):
            return ((1, self.size.read(value)),)
        pairs = []
        for pair in value:
            if not isinstance(pair, list | tuple) or len(pair) != 2:
                raise self.refuse(value)
            weight, size = pair
            if isinstance(weight, bool) or not isinstance(weight, int) or not 1 <= weight <= self.heaviest:
                raise ValueError(
                    f"{shown(weight)}; expected a whole number from 1 to {self.heaviest} as weight"
                )
            pairs.append((weight, self.size.read(size)))
        if not 1 <= len(pairs) <= self.most:
            raise ValueError(f"{len(pairs)} pairs; expected 1 to {self.most}")
        return tuple(pairs)

    def text(self, value: tuple[tuple[int, int], ...]) -> Any:
        """Return it as a file writes it."""
        if len(value) == 1:
            return self.size.text(value[0][1])
        return [[weight, self.size.text(size)] for weight, size in value]

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        pair = {"type": "array", "prefixItems": [{"type": "integer", "minimum": 1}, self.size.schema()]}
        return {"anyOf": [self.size.schema(), {"type": "array", "items": pair, "minItems": 1}]}


@dataclass(frozen=True, slots=True)
class FrameSize(Rule):
    """Bytes of an Ethernet frame without FCS, the name of a mix, or several sizes with the weight of each."""

    low: int = 60
    high: int = 16384

    def expected(self) -> str:
        """Return what is allowed."""
        sizes = f"a frame size from {self.low} to {self.high} bytes (1514 is a full frame at MTU 1500)"
        return f"'imix', 'bimodal', {sizes} or pairs [weight, size]"

    def read(self, value: Any) -> int | str | tuple[tuple[int, int], ...]:
        """Return bytes, the mix, or weights and bytes."""
        if value in ("imix", "bimodal"):
            return str(value)
        if isinstance(value, list | tuple):
            return WeightedSizes(Size(self.low, self.high)).read(value)
        try:
            size = parse_bytes(value)
        except ConfigError:
            raise self.refuse(value) from None
        if not self.low <= size <= self.high:
            raise self.refuse(value)
        return size

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        several = WeightedSizes(Size(self.low, self.high)).schema()
        return {"anyOf": [{"enum": ["imix", "bimodal"]}, *several["anyOf"]]}

    def text(self, value: int | str | tuple[tuple[int, int], ...]) -> Any:
        """Return it as a file writes it."""
        if isinstance(value, tuple):
            return [[weight, size] for weight, size in value]
        return value


@dataclass(frozen=True, slots=True)
class Interval(Rule):
    """An engine parameter: a table low, typical, high, source, or one number when it is known."""

    low: int
    high: int
    better: Literal["low", "high"]

    def expected(self) -> str:
        """Return what is allowed."""
        return f"low <= typical <= high from {self.low} to {self.high} and their source, or one such number"

    def read(self, value: Any) -> Range:
        """Return the range; one number is a range of itself."""
        number = Whole(self.low, self.high)
        if not isinstance(value, Mapping):
            known = number.read(value)
            return Range(known, known, known, self.better, "set as known")
        keys = ("low", "typical", "high", "source")
        check_table(value, keys, keys)
        try:
            low, typical, high = (number.read(value[key]) for key in keys[:3])
            source = Text().read(value["source"])
        except ValueError as error:
            raise ValueError(f"{error} in each of low, typical, high") from None
        if not low <= typical <= high:
            raise ValueError(f"{low}, {typical}, {high}; expected low <= typical <= high")
        if not source:
            raise KeyProblem("source", "empty source; expected where the numbers come from")
        return Range(low, typical, high, self.better, source)

    def text(self, value: Range) -> dict[str, Any]:
        """Return the table."""
        return {"low": value.low, "typical": value.typical, "high": value.high, "source": value.source}

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        number = Whole(self.low, self.high).schema()
        table = {
            "type": "object",
            "properties": {"low": number, "typical": number, "high": number, "source": Text().schema()},
            "additionalProperties": False,
            "required": ["low", "typical", "high", "source"],
        }
        return {"anyOf": [number, table]}
