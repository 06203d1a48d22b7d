"""One field of a text line as a whole number, or the reason why it is none: the slow path's words.

Rule: what the kernel of `fields` takes, these take with the same value; they also take other ways to write a
number, and every refusal names the field, what was found and what was expected.
"""

import re
from decimal import Context, Decimal
from typing import Final

from .lines import Malformed
from .source import MAX_RECORD_BYTES, MAX_SPAN_PS

_SHOWN: Final = 40
# Programs such as pandas write 7 as 7.0 where a column has gaps.
_WHOLE: Final = re.compile(r"\s*0*([0-9]+)(?:\.0*)?\s*", re.ASCII)
_HEX: Final = re.compile(r"\s*0x0*([0-9a-fA-F]+)\s*", re.ASCII)
_DECIMAL: Final = re.compile(r"\s*\+?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,2})?\s*", re.ASCII)
# No field of fewer than 100 characters is rounded but to its last digit.
_EXACT: Final = Context(prec=250)
MAX_CLOCK: Final = 10**18
"""Units of a clock stay below it."""


def is_whole(text: str) -> bool:
    """Return whether `whole` would take it."""
    return _WHOLE.fullmatch(text) is not None


def whole(text: str, field: str, most: int = 2**62) -> int:
    """Return a decimal number from 0 to `most`; decimals of it may be 0. Raises Malformed."""
    match = _WHOLE.fullmatch(text)
    if match is None:
        raise Malformed(f"{field}: {text[:_SHOWN]!r}; expected a whole number of 0 or more")
    # Far more digits than `most` has: Python would refuse thousands.
    return _at_most(int(match[1][:30]), text, field, most)


def number(text: str, field: str, most: int = 2**62) -> int:
    """Return a decimal or 0x number from 0 to `most`. Raises Malformed."""
    match = _HEX.fullmatch(text)
    if match is None:
        return whole(text, field, most)
    return _at_most(int(match[1][:30], 16), text, field, most)


def _at_most(value: int, text: str, field: str, most: int) -> int:
    if value > most:
        raise Malformed(f"{field}: {text[:_SHOWN]!r}; expected at most {most}")
    return value


def size(text: str, field: str, expected: str = "1 or more bytes") -> int:
    """Return a number of bytes from 1 to MAX_RECORD_BYTES. Raises Malformed."""
    if text.strip("0. ") == "":
        raise Malformed(f"{field}: {text!r}; expected {expected}")
    return whole(text, field, MAX_RECORD_BYTES)


def clock(text: str, field: str, digits: int, unit: str) -> tuple[int, int]:
    """Return a time as whole part and fraction in 10 to the minus `digits`, rounded. Raises Malformed."""
    parts: int = 10**digits
    match = _DECIMAL.fullmatch(text)
    if match is not None and len(text) < 100:
        scaled = int(Decimal(text.strip()).scaleb(digits, _EXACT).to_integral_value(context=_EXACT))
        if scaled < MAX_CLOCK * parts:
            return scaled // parts, scaled % parts
    raise Malformed(f"{field}: {text[:_SHOWN]!r}; expected {unit} of 0 or more, less than 10^18")


def duration_ps(text: str, field: str) -> int:
    """Return microseconds, fractions allowed, as ps. Raises Malformed."""
    try:
        microseconds, fraction = clock(text, field, 6, "microseconds")
        duration = microseconds * 10**6 + fraction
    except Malformed:
        duration = MAX_SPAN_PS
    if duration >= MAX_SPAN_PS:
        raise Malformed(f"{field}: {text[:_SHOWN]!r}; expected microseconds of 0 or more, less than 2 h")
    return duration
