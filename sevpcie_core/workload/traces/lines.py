"""Lines of a text trace as rows of whole numbers: a fast path for what is plain, a slow one for the rest.

Rule: the slow path, a format's Python function of the fields of one line, is what the format means. The fast
path takes rows of the kernel's values where they are the same beyond doubt, and leaves every other line to
the slow one, which reads it or says what is wrong with it. A row is a line: no field holds a line end.
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...errors import FormatError
from . import fields as _fields
from .bad import Bad
from .fields import CLOCK, HEX, HEX_WORDS, LEFT_OUT, NEWLINE, ORDINARY, QUOTE, SEPARATOR, STRANGE, WORD
from .records import Records
from .source import MAX_CLOCK_PS, MAX_LINE, opened

Row = tuple[int, ...]
"""Whole part and fraction of the time, then what the format records: one row of `Rows.table`."""

_READ: Final = 1 << 20
_ROOM: Final = 1 << 14
_BOM: Final = b"\xef\xbb\xbf"


class Malformed(Exception):
    """What is wrong with a line, without its place."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column that the kernel reads: its index, and what it holds (`fields.WHOLE` and so on)."""

    index: int
    kind: int
    words: Sequence[str] = ()
    digits: int = 0
    """Of a clock: the fraction counts 10 to the minus `digits`."""
    keep: int = 0
    """Of a word, if it is the gate: how many of the words, the first ones, go on to `Fast` at all."""
    unknown: bool = False
    """Of the gate: whether lines with no word of `words` hold no record; else the slow path sees them."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How lines divide into fields, and which columns are read.

    Attributes
    ----------
    separators : one character for CSV; several for formats with runs of any of them between fields.
    columns : in the order of their slots in `values`; a clock takes two slots, HEX one more than HEX_WORDS.
    One may be a gate: lines with another word than those kept hold no record if the columns before it are
    what they should be.
    width : fields of every line of a CSV; of others, those that a line without a record has at least.
    """

    separators: str
    columns: Sequence[Column]
    width: int = 0
    quoted: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "quoted", len(self.separators) == 1)


def split(layout: Layout, line: bytes) -> list[str]:
    """Return the fields of a line. Raises Malformed."""
    if len(line) >= MAX_LINE:
        raise Malformed(f"a line of {MAX_LINE} bytes or more; expected text")
    if b"\0" in line:
        raise Malformed("a NUL character; expected text")
    try:
        text = line.removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise Malformed("bytes that are not UTF-8; expected text") from None
    if not layout.quoted:
        return text.translate({ord(c): " " for c in layout.separators}).split()
    if not text.strip(" "):
        return []
    try:
        found = next(csv.reader([text], strict=True, delimiter=layout.separators))
    except csv.Error as error:
        raise Malformed(f"{error}; expected a CSV row") from None
    if len(found) != layout.width:
        fields = "1 field" if len(found) == 1 else f"{len(found)} fields"
        raise Malformed(f"{fields}; expected {layout.width} as in the header")
    return found


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of some lines: int64[n, width] and their line numbers, int64[n]."""

    table: NDArray[np.int64]
    lines: NDArray[np.int64]


Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Fast = Callable[[Ints, Ints], tuple[Ints, Flags, Flags]]
"""From values int64[n, slots] and numbers of fields int64[n] to the rows int64[n, width], which of them are
right, and which lines hold no record; the slow path sees all others."""
Slow = Callable[[list[str]], Row | None]
"""From the fields of a line to its row, or None if it holds no record. Raises Malformed."""


def rows(path: Path, bad: Bad, layout: Layout, fast: Fast, slow: Slow, skip: int = 0) -> Iterator[Rows]:
    """Yield the rows of a file in its order. Lines `skip` and fewer are a header and left out.

    With `bad.skip`, malformed lines some thousand lines behind the last row that is used count too.
    """
    for block in blocks(path, layout):
        live = np.flatnonzero((block.fields != LEFT_OUT) & (block.fields != 0))
        if block.first <= skip:
            live = live[live > skip - block.first]
        if not len(live):
            continue
        # Most formats have a record in every line: no copy then.
        whole = len(live) == len(block.fields)
        fields = block.fields if whole else block.fields[live]
        table, taken, none = fast(block.values if whole else block.values[live], fields)
        sound = fields == layout.width if layout.quoted else fields > 0
        taken &= sound
        lines = live + block.first
        for i in np.flatnonzero(~(taken | (none & sound))).tolist():
            try:
                found = split(layout, block.line(int(live[i])))
                row = slow(found) if found else None
            except Malformed as error:
                if not bad.skip:
                    # What lies before it may be all that is wanted.
                    before = taken[:i]
                    yield Rows(table[:i][before], lines[:i][before])
                bad.report(f"{path}:{lines[i]}: {error}")
            else:
                if row is not None:
                    table[i] = row
                    taken[i] = True
        yield Rows(table, lines) if taken.all() else Rows(table[taken], lines[taken])


@dataclass(frozen=True, slots=True)
class Block:
    """Some lines, the number of the first, and what `fields.parse` found in them, until the next block."""

    data: bytes
    first: int
    starts: NDArray[np.int64]
    fields: NDArray[np.int64]
    values: NDArray[np.int64]

    def line(self, i: int) -> bytes:
        """Return line i with its end."""
        return self.data[self.starts[i] : self.starts[i + 1]]


def whole_lines(path: Path) -> Iterator[bytes]:
    """Yield the file in pieces that end with a line, each of some MAX_LINE or _READ bytes.

    A longer line loses what lies behind its first MAX_LINE bytes.
    """
    with opened(path) as file:
        rest = file.read(len(_BOM)).removeprefix(_BOM)
        while piece := file.read(_READ):
            end = piece.rfind(b"\n") + 1
            if end:
                yield rest + piece[:end]
                rest = piece[end:]
            else:
                rest += piece
            if len(rest) > MAX_LINE:
                rest = rest[:MAX_LINE]
        if rest:
            yield rest if rest.endswith(b"\n") else rest + b"\n"


def blocks(path: Path, layout: Layout) -> Iterator[Block]:
    """Parse the lines of a file, block by block."""
    slots: list[tuple[int, ...]] = []
    words: list[bytes] = []
    width = 0
    for column in layout.columns:
        argument = len(words) if column.kind == WORD else column.digits
        gate = column.keep, int(column.unknown)
        slots.append((column.index, column.kind, argument, len(column.words), width, *gate))
        words += [word.encode() for word in column.words]
        width += {CLOCK: 2, HEX: 1 + HEX_WORDS}.get(column.kind, 1)
    joined = np.frombuffer(b"".join(words) or b"\0", np.uint8)
    word_at = np.cumsum([0, *map(len, words)], dtype=np.int64)
    classes = byte_classes(layout)
    columns = max((column.index for column in layout.columns), default=0) + 1
    bounds = np.empty((columns, 2), np.int64)
    table = np.array(slots, np.int64).reshape(-1, 7)
    starts = np.empty(_ROOM + 1, np.int64)
    found = np.empty(_ROOM, np.int64)
    values = np.empty((_ROOM, width), np.int64)
    first = 1
    for data in whole_lines(path):
        octets = np.frombuffer(data, np.uint8)
        at = 0
        while at < len(data):
            count = _fields.parse(  # type: ignore[no-untyped-call]
                octets,
                at,
                layout.quoted,
                layout.width,
                classes,
                table,
                joined,
                word_at,
                bounds,
                starts,
                found,
                values,
            )
            yield Block(data, first, starts[: count + 1], found[:count], values[:count])
            first += count
            at = int(starts[count])


def byte_classes(layout: Layout) -> NDArray[np.uint8]:
    """Return the class of each byte, uint8[256]."""
    classes = np.full(256, STRANGE, np.uint8)
    classes[32:127] = ORDINARY
    classes[ord("\t")] = ORDINARY
    classes[ord("\n")] = NEWLINE
    if layout.quoted:
        classes[ord('"')] = QUOTE
    classes[[ord(c) for c in layout.separators]] = SEPARATOR
    return classes


class Clock:
    """Times of rows as ps since the first row. `digits`: a unit of the whole part is 10 to its power ps."""

    def __init__(self, path: Path, bad: Bad, digits: int, field: str) -> None:
        self._path, self._bad, self._field = path, bad, field
        self._digits = digits
        self._start: tuple[int, int] | None = None

    def times(self, part: Rows) -> tuple[NDArray[np.int64], Rows]:
        """Return t_ps, int64[n], and the rows that have one: none lies MAX_CLOCK_PS from the first.

        Later errors of order and span will name lines of these rows.
        """
        whole, fraction = part.table[:, 0], part.table[:, 1]
        if self._start is None and len(whole):
            self._start = int(whole[0]), int(fraction[0])
        start, start_fraction = self._start or (0, 0)
        near = np.abs(whole - start) < MAX_CLOCK_PS // 10**self._digits
        if not near.all():
            for line in part.lines[~near].tolist():
                days = MAX_CLOCK_PS // (86400 * 10**12)
                self._bad.report(
                    f"{self._path}:{line}: {self._field}: more than {days} days from the first record; "
                    "expected one recording"
                )
            part = Rows(part.table[near], part.lines[near])
            whole, fraction = whole[near], fraction[near]
        self._bad.place = lambda i: f"{self._path}:{part.lines[i]}"
        return (whole - start) * 10**self._digits + (fraction - start_fraction), part


def records(parts: Iterable[Rows], clock: Clock, dtype: np.dtype[np.void]) -> Iterator[Records]:
    """Yield records[n], n >= 1, of rows whose columns behind the time are the fields of `dtype` in order."""
    for part in parts:
        t_ps, part = clock.times(part)
        if not len(t_ps):
            continue
        out = np.empty(len(t_ps), dtype)
        out["t_ps"] = t_ps
        for place, name in enumerate((dtype.names or ())[1:]):
            out[name] = part.table[:, 2 + place]
        yield out


def header(path: Path) -> str:
    """Return the first line without its end. Raises FormatError if it is no text."""
    for piece in whole_lines(path):
        try:
            return piece.split(b"\n", 1)[0].removesuffix(b"\r").decode()
        except UnicodeDecodeError:
            raise FormatError(f"{path}:1: bytes that are not UTF-8; expected text") from None
    raise FormatError(f"{path}: empty file; expected a trace")
