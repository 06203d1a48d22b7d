"""Text to integers and back: bytes, picoseconds, bits per second.

Rules of this module. Everything inside the package is an integer in one unit; text with units exists at the
edges, and only here is it read or written. Reading is exact: a quantity that is not a whole number of base
units is an error, never rounded. What `format_bytes`, `format_time`, `format_rate` and
`format_operations` write, the parsers read back to the same integer.

Decimal prefixes are powers of 1000, binary ones (Ki, Mi, ...) powers of 1024 (IEC 80000-13); `b` is a bit,
`B` a byte.
"""

import re
from fractions import Fraction

from .errors import ConfigError

# The limits of int64, in which every size and time travels.
INT64_MAX = 2**63 - 1

BYTE_UNITS: dict[str, int] = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
"""Unit of a size: its bytes."""

TIME_UNITS: dict[str, int] = {"ps": 1, "ns": 10**3, "us": 10**6, "µs": 10**6, "ms": 10**9, "s": 10**12}
"""Unit of a time: its picoseconds."""

_RATE_PREFIXES: dict[str, int] = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
}
RATE_UNITS: dict[str, int] = {f"{p}b/s": n for p, n in _RATE_PREFIXES.items()} | {
    f"{p}B/s": 8 * n for p, n in _RATE_PREFIXES.items()
}
"""Unit of a rate: its bits per second."""

OPERATION_UNITS: dict[str, int] = {f"{p}ops/s": 1000**k for k, p in enumerate(("", "k", "M", "G"))}
"""Unit of a rate of operations: so many per second."""

_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-zµ/]*)\s*", re.ASCII)
_MAX_TEXT = 64


def _parse(value: object, units: dict[str, int], default: str | None, base: str, expected: str) -> int:
    """Return `value` in the base unit; `default` is the unit of a number without one, None forbids that."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ConfigError(f"{value!r}; expected {expected}")
    # Python refuses to write integers of thousands of digits.
    text = "9" * (_MAX_TEXT + 1) if isinstance(value, int) and abs(value) >= 10**_MAX_TEXT else str(value)
    match = _QUANTITY.fullmatch(text) if len(text) <= _MAX_TEXT else None
    if match is None:
        raise ConfigError(f"{_shown(value)}; expected {expected}")
    number, unit = match.groups()
    if not unit:
        if default is None and Fraction(number) != 0:
            raise ConfigError(f"{_shown(value)}: no unit; expected {expected}")
        unit = default or base
    if unit not in units:
        raise ConfigError(f"{_shown(value)}: unknown unit {unit!r}; expected {expected}{_meant(unit, units)}")
    exact = Fraction(number) * units[unit]
    if exact.denominator != 1:
        raise ConfigError(f"{_shown(value)}: not a whole number of {base}; expected {expected}")
    if exact.numerator > INT64_MAX:
        raise ConfigError(f"{_shown(value)}: too large; expected {expected}")
    return exact.numerator


def _meant(unit: str, units: dict[str, int]) -> str:
    """Return "; did you mean kB or KiB?" where a unit is one but for case, an i, ps for /s, or a B."""
    wanted = unit[:-2] + "/s" if unit.endswith("ps") and len(unit) > 2 else unit
    # Bits and bytes differ in case alone: who writes one of them means it, if there is such a unit.
    near = [
        known for known in units if known.isascii() and _bare(known) in (_bare(wanted), _bare(wanted) + "b")
    ]
    near = [known for known in near if ("B" in known) == ("B" in wanted)] or near
    if "i" in wanted or wanted.endswith("/s"):
        near = [known for known in near if ("i" in known) == ("i" in wanted)]
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _bare(unit: str) -> str:
    return unit.replace("i", "").lower()


def _shown(value: str | int) -> str:
    """Quote what a user wrote for a one-line message."""
    if isinstance(value, int) and abs(value) >= 10**_MAX_TEXT:
        return f"a number of more than {_MAX_TEXT} digits"
    text = repr(value)
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 3] + "..."


def parse_bytes(value: str | int) -> int:
    """Return a size in bytes.

    Parameters: value: a number of bytes, or text such as "4096", "64KiB", "1.5MB".
    Returns: bytes, 0 or more.
    Raises: ConfigError: negative, unknown unit, a fraction of a byte, not a quantity.
    """
    return _parse(value, BYTE_UNITS, "B", "B", "a size of 0 or more such as 4096, '64KiB' or '1.5MB'")


def parse_time_ps(value: str | int) -> int:
    """Return a time in picoseconds.

    Parameters: value: text such as "350ns", "1.3us" or "2ms"; a number without unit is accepted only when
    it is 0.
    Returns: picoseconds, 0 or more.
    Raises: ConfigError: negative, no or unknown unit, a fraction of a picosecond, not a quantity.
    """
    return _parse(
        value, TIME_UNITS, None, "ps", "a time of 0 or more with its unit such as '350ns' or '10us'"
    )


def parse_rate_bps(value: str | int) -> int:
    """Return a rate in bits per second.

    Parameters: value: a number of bits per second, or text such as "400Gb/s", "55.2GB/s".
    Returns: bits per second, 0 or more.
    Raises: ConfigError: negative, unknown unit, a fraction of a bit, not a quantity.
    """
    return _parse(value, RATE_UNITS, "b/s", "b/s", "a rate of 0 or more such as '400Gb/s' or '50GB/s'")


def parse_operations(value: str | int) -> int:
    """Return a rate of operations per second.

    Parameters: value: text such as "250000ops/s", "1.5Mops/s"; a number without unit only when it is 0.
    Returns: operations per second, 0 or more.
    Raises: ConfigError: negative, no or unknown unit, a fraction of one operation, not a quantity.
    """
    return _parse(value, OPERATION_UNITS, None, "ops/s", "a rate of operations such as '250kops/s'")


def _format(value: int, units: dict[str, int], order: tuple[str, ...]) -> str:
    """Return `value` in the largest unit of `order` that leaves a whole number; the last is the base unit."""
    if value < 0:
        raise ConfigError(f"{value}; expected 0 or more")
    for unit in order:
        if value and value % units[unit] == 0:
            return f"{value // units[unit]}{unit}"
    return f"{value}{order[-1]}"


def format_bytes(value: int) -> str:
    """Write a size so that `parse_bytes` reads it back: 65536 -> "64KiB", 1514 -> "1514B"."""
    return _format(value, BYTE_UNITS, ("TiB", "GiB", "MiB", "KiB", "B"))


def format_time(value_ps: int) -> str:
    """Write a time so that `parse_time_ps` reads it back: 1_300_000 -> "1300ns", 10_000_000 -> "10us"."""
    return _format(value_ps, TIME_UNITS, ("s", "ms", "us", "ns", "ps"))


def format_rate(value_bps: int) -> str:
    """Write a rate so that `parse_rate_bps` reads it back: 400_000_000_000 -> "400Gb/s"."""
    return _format(value_bps, RATE_UNITS, ("Tb/s", "Gb/s", "Mb/s", "kb/s", "b/s"))


def format_operations(value: int) -> str:
    """Write a rate so that `parse_operations` reads it back: 250_000 -> "250kops/s"."""
    return _format(value, OPERATION_UNITS, ("Gops/s", "Mops/s", "kops/s", "ops/s"))


def format_time_ns(value_ps: float, digits: int = 1) -> str:
    """Write a time for reading, in ns with a fixed number of decimals: 1_234_560 -> "1,234.6 ns"."""
    return f"{value_ps / 1e3:,.{digits}f} ns"


def format_duration(value_ps: float) -> str:
    """Write a time for reading with three significant digits: 12_345_678 -> "12.3 us"."""
    magnitude = abs(value_ps)
    for unit in ("s", "ms", "us", "ns"):
        if magnitude >= TIME_UNITS[unit]:
            return f"{_three_digits(value_ps / TIME_UNITS[unit])} {unit}"
    return f"{_three_digits(value_ps)} ps"


def _three_digits(value: float) -> str:
    """Write a number below 1000 with three significant digits and no exponent; larger ones whole."""
    magnitude = abs(value)
    decimals = 2 if magnitude < 9.995 else 1 if magnitude < 99.95 else 0
    return f"{value:.{decimals}f}"
