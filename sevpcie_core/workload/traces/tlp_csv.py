"""TLPs as text, one a line: a CSV whose header names the columns, in any order; others are ignored.

    time_ns,direction,tlp
    0,down,40000001 0000000f e0001000 00000020
    812.5,up,20000010 010000ff 00000001 10000000

time_ns or time_us: when the TLP was seen, fractions down to a picosecond count. direction: up, upstream or tx
from the device, down, downstream or rx to it; without the column, or where it is empty, IDs tell (`tlps`).
tlp: its bytes in hexadecimal, as `sevpcie seal` takes them: blanks, colons, underscores and a 0x in front do
not count. Header and prefixes must be there; payload, ECRC and MAC may be left out or cut off.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from ...errors import FormatError
from .bad import Bad
from .csv_header import Header
from .fields import CLOCK, HEX, HEX_WORDS, ODD, WORD
from .lines import Clock, Column, Flags, Ints, Layout, Malformed, Row, records, rows
from .records import TLP_DTYPE, Records
from .tlps import DOWN, UNSAID, UP, Side, read_lines, read_one
from .values import clock

UNITS: Final = {"time_ns": 3, "time_us": 6}
"""The columns of time, and the digits of a fraction that count."""
WORDS: Final = {"up": UP, "upstream": UP, "tx": UP, "down": DOWN, "downstream": DOWN, "rx": DOWN, "": UNSAID}
_FIELDS: Final = (TLP_DTYPE.names or ())[1:]
_WORD_BYTES: Final = 4
_SHOWN: Final = 40


def hex_bytes(text: str) -> bytes:
    """Return the bytes of hex digits. Raises Malformed."""
    digits = re.sub(r"[\s:_]", "", text.strip().removeprefix("0x"))
    wrong = re.search(r"[^0-9a-fA-F]", digits)
    if wrong:
        raise Malformed(f"tlp: {wrong[0]!r} in {text.strip()[:_SHOWN]!r}; expected hexadecimal digits")
    if not digits or len(digits) % 2:
        raise Malformed(f"tlp: {len(digits)} hexadecimal digits; expected a whole number of bytes")
    return bytes.fromhex(digits)


def batches(path: Path, bad: Bad, local: str | None = None) -> Iterator[Records]:
    """Read the TLPs of a file of lines.

    Parameters: local: the device's requester ID, as `tlps.parse_local` reads it.
    Yields: TLP_DTYPE[n], in file order.
    Raises: FormatError: naming file, line and field; ConfigError: `local` is malformed or of no use.
    """
    side = Side(local)
    header = Header(path, ("tlp",))
    times = [name for name in UNITS if header.column(name) >= 0]
    if len(times) != 1:
        found = " and ".join(times) or "no column of time"
        raise FormatError(f"{path}:1: header: {found}; expected time_ns or time_us, direction and tlp")
    (time,) = times
    digits = UNITS[time]
    at_t, at_way, at_tlp = (header.column(name) for name in (time, "direction", "tlp"))
    columns = [Column(at_t, CLOCK, digits=digits), Column(at_tlp, HEX)]
    if at_way >= 0:
        columns.append(Column(at_way, WORD, tuple(WORDS)))
    at_size = 2
    at_word = at_size + 1 + HEX_WORDS
    codes = np.array([*WORDS.values(), UNSAID], np.int64)
    width = _WORD_BYTES * HEX_WORDS

    def fast(values: Ints, fields: Ints) -> tuple[Ints, Flags, Flags]:
        sizes = values[:, at_size]
        good = (fields == header.width) & (values[:, 0] != ODD) & (sizes != ODD)
        ways = np.zeros(len(values), np.int64)
        if at_way >= 0:
            good &= values[:, at_word] >= 0
            ways = codes[np.where(good, values[:, at_word], -1)]
        # The first bytes of each, as they would stand in memory.
        data = values[:, at_size + 1 : at_word].astype(">u4").view(np.uint8).ravel()
        out = np.zeros(len(values), TLP_DTYPE)
        read_lines(
            data,
            width,
            np.ascontiguousarray(sizes),
            ways,
            side.ids,
            side.seen,
            side.scratch,
            side.raw,
            out,
            good,
        )
        table = np.empty((len(values), 2 + len(_FIELDS)), np.int64)
        table[:, 0:2] = values[:, 0:2]
        for place, name in enumerate(_FIELDS):
            table[:, 2 + place] = out[name]
        return table, good, np.zeros(len(values), np.bool_)

    def slow(found: list[str]) -> Row:
        at = clock(found[at_t], time, digits, {3: "nanoseconds", 6: "microseconds"}[digits])
        word = found[at_way].strip() if at_way >= 0 else ""
        if word not in WORDS:
            expected = "up or down (or upstream, tx, downstream, rx)"
            raise Malformed(f"direction: {word[:_SHOWN]!r}; expected {expected}")
        out, wrong = read_one(hex_bytes(found[at_tlp]), WORDS[word], side)
        if wrong:
            raise Malformed(f"tlp: {wrong}")
        return (*at, *(int(out[name][0]) for name in _FIELDS))

    parts = rows(path, bad, Layout(",", columns, header.width), fast, slow, skip=1)
    yield from records(parts, Clock(path, bad, digits, time), TLP_DTYPE)
    side.check(path)
