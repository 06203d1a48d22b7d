"""GPU jobs as PyTorch's profiler (Kineto) exports them: Chrome-trace JSON.

The file is an object with an array `traceEvents`, or that array alone (its closing bracket may lack). Taken
are complete events (`ph` X) of the categories gpu_memcpy, gpu_memset and kernel, and Memcpy, Memset and
Kernel as older versions write them; all others are work of the CPU or marks and left out. Fields: `ts` and
`dur` in microseconds, `args.stream`, `args.bytes`; the direction of a copy is read from `name`: HtoD, DtoH,
DtoD, PtoP, HtoH as CUPTI abbreviates them. Events may lie in any order. Source: Chromium, "Trace Event
Format"; libkineto, output_json.cpp.

Malformed events are skipped where asked; behind text that is no JSON nothing says where the next event
begins, so reading ends there. An event, and any value beside the events, has a few MiB at most.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...errors import FormatError
from . import json_scan as scan
from .bad import Bad
from .fields import ODD, WAYS
from .gpu_csv import DIRECTIONS, copy_kind, note_pageable
from .lines import Malformed, Row
from .packets import Window
from .records import GPU_DTYPE, GPU_WORK, MAX_STREAM, Records
from .source import MAX_CLOCK_PS, MAX_RECORD_BYTES, MAX_SPAN_PS, opened
from .values import clock, duration_ps, size, whole

_COPIES: Final = ("gpu_memcpy", "Memcpy")
_CATEGORIES: Final = (*_COPIES, "kernel", "gpu_memset", "Kernel", "Memset")
_CAPACITY = 1 << 22
_ROOM: Final = 1 << 15
_MICROSECOND: Final = 6
_MICROSECOND_PS: Final = 10**_MICROSECOND
_MAX_DURATION_US: Final = MAX_SPAN_PS // _MICROSECOND_PS
_BOM: Final = b"\xef\xbb\xbf"
_PAGEABLE: Final = re.compile(rb"pageable", re.IGNORECASE)
_DEVICE: Final = re.compile(r"\d{1,9}", re.ASCII)

_WORDS: Final = (
    *scan.WORDS,
    b"X",
    *(name.encode() for name in (*_CATEGORIES, *scan.MEMBERS, *scan.ARGUMENTS)),
)
_JOINED: Final = np.frombuffer(b"".join(_WORDS), np.uint8)
_WORD_AT: Final = np.cumsum([0, *map(len, _WORDS)], dtype=np.int64)
_PHASE_AT: Final = len(scan.WORDS)
_PLACES: Final = np.cumsum([_PHASE_AT, 1, len(_CATEGORIES), len(scan.MEMBERS)], dtype=np.int64)


def event_row(text: bytes) -> Row | None:
    """Return whole part and fraction of the start, duration, kind, bytes, stream and GPU of an event.

    The GPU is ODD where it is not said.

    Returns: None if it is no work of the device. Raises: Malformed.
    """
    try:
        # Numbers stay as they are written: no float stands between them and a picosecond.
        event = json.loads(text, parse_float=str, parse_int=str, parse_constant=str, strict=False)
    except (ValueError, RecursionError):
        raise Malformed("event: strings that are no JSON; expected UTF-8 and its escapes") from None
    if not isinstance(event, dict):
        raise Malformed(f"event: {text[:40].decode('utf-8', 'replace')!r}; expected an object")
    category = event.get("cat")
    if category not in _CATEGORIES or event.get("ph") != "X":
        return None
    arguments = event.get("args")
    if not isinstance(arguments, dict):
        arguments = {}

    def field(values: dict[str, object], name: str, named: str) -> str:
        if name not in values:
            raise Malformed(f"{named}: missing; expected a number")
        found = values[name]
        return found if isinstance(found, str) else json.dumps(found)

    kind = copy_kind(field(event, "name", "name")) if category in _COPIES else GPU_WORK
    time = clock(field(event, "ts", "ts"), "ts", _MICROSECOND, "microseconds")
    duration = duration_ps(field(event, "dur", "dur"), "dur")
    stream = whole(field(arguments, "stream", "args.stream"), "args.stream", MAX_STREAM)
    if kind == GPU_WORK:
        moved = whole(
            field(arguments, "bytes", "") if "bytes" in arguments else "0", "args.bytes", MAX_RECORD_BYTES
        )
    else:
        moved = size(
            field(arguments, "bytes", "args.bytes"), "args.bytes", "1 or more for a copy over the link"
        )
    device = arguments.get("device")
    gpu = int(device) if isinstance(device, str) and _DEVICE.fullmatch(device) else ODD
    return (*time, duration, kind, moved, stream, gpu)


class _Text:
    """The JSON text, read from front to end. `at`: where in the window reading goes on."""

    def __init__(self, path: Path, window: Window) -> None:
        self.path, self.window = path, window
        self.at = 0
        if window.bytes(0, len(_BOM)) == _BOM:
            self.at = len(_BOM)

    def refuse(self, at: int, expected: str) -> FormatError:
        """Return the error about the text at `at` of the window."""
        found = self.window.bytes(at, 1)
        shown = repr(found.decode("latin-1")) if found else "the file ends"
        return FormatError(f"{self.path}: offset {self.window.base + at}: {shown}; expected {expected}")

    def more(self) -> None:
        """Let the window begin at `at`. Raises FormatError if nothing is gained."""
        if self.window.ended:
            raise self.refuse(self.window.size, "complete JSON")
        if self.at == 0:
            raise FormatError(
                f"{self.path}: offset {self.window.base}: a value of {self.window.size} bytes or more; "
                "expected a shorter one"
            )
        self.window.advance(self.at)
        self.at = 0

    def peek(self) -> bytes:
        """Return the next byte that is no white space, nothing at the end."""
        while True:
            window = self.window
            self.at = scan.space(window.data, self.at, window.size)  # type: ignore[no-untyped-call]
            if self.at < window.size or window.ended:
                return window.bytes(self.at, 1)
            window.advance(self.at)
            self.at = 0

    def take(self, one_of: bytes, expected: str) -> bytes:
        """Take the next byte, which is one of these."""
        found = self.peek()
        if not found or found not in one_of:
            raise self.refuse(self.at, expected)
        self.at += 1
        return found

    def value(self) -> tuple[int, int]:
        """Take a value; return where it lies in the window."""
        while True:
            self.peek()
            window = self.window
            end: int = scan.value(  # type: ignore[no-untyped-call]
                window.data, self.at, window.size, _JOINED, _WORD_AT
            )
            if end >= 0:
                start, self.at = self.at, end
                return start, end
            if end < scan.MORE:
                raise self.refuse(-2 - end, f"JSON (nested {scan.MAX_DEPTH} deep at most)")
            self.more()

    def key(self) -> bytes:
        """Take a key and its colon."""
        if self.peek() != b'"':
            raise self.refuse(self.at, "a key")
        start, end = self.value()
        key = self.window.bytes(start, end - start)
        self.take(b":", "a colon")
        return key

    def events(self, bad: Bad) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Take the events behind the opening bracket and the closing one.

        Yields: rows int64[n, 7] as `event_row` returns them, and where in the file they begin, int64[n].
        """
        spans = np.zeros((scan.SPANS + 1, 2), np.int64)
        out = np.zeros(3, np.int64)
        state = scan.BEGIN
        table = np.empty((_ROOM, scan.COLUMNS), np.int64)
        while state != scan.CLOSED:
            window = self.window
            why = scan.events(  # type: ignore[no-untyped-call]
                window.data,
                self.at,
                window.size,
                state,
                _JOINED,
                _WORD_AT,
                _PLACES,
                len(_CATEGORIES),
                len(_COPIES),
                spans,
                table,
                out,
            )
            count, self.at, state = out.tolist()
            yield from self._rows(table[:count], bad)
            if why == scan.MORE:
                if window.ended and self.at == window.size:
                    # The end of the file, between events.
                    return
                self.more()
            elif why < 0:
                raise self.refuse(self.at, f"JSON (nested {scan.MAX_DEPTH} deep at most)")

    def _rows(
        self, table: NDArray[np.int64], bad: Bad
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Turn what the kernel found into rows; those that it does not take are asked of `event_row`."""
        offsets = table[:, scan.START] + self.window.base
        category, sizes = table[:, scan.CATEGORY], table[:, scan.BYTES]
        taken = category >= 0
        kinds = np.where(
            taken & (category < len(_COPIES)), DIRECTIONS[np.where(taken, table[:, scan.WAY], -1)], GPU_WORK
        )
        rows = np.empty((len(table), 7), np.int64)
        duration = table[:, scan.DURATION]
        taken &= (duration < _MAX_DURATION_US) & (table[:, scan.STREAM] <= MAX_STREAM)
        taken &= (sizes >= (kinds != GPU_WORK)) & (sizes <= MAX_RECORD_BYTES)
        rows[:, :2] = table[:, scan.TIME : scan.FRACTION + 1]
        rows[:, 2] = np.where(taken, duration, 0) * _MICROSECOND_PS + table[:, scan.DURATION_FRACTION]
        rows[:, 3] = kinds
        rows[:, 4] = sizes
        rows[:, 5] = table[:, scan.STREAM]
        rows[:, 6] = table[:, scan.DEVICE]
        pageable = taken & (category < len(_COPIES)) & (table[:, scan.WAY] >= WAYS)
        for i in np.flatnonzero(~taken).tolist():
            start, end = table[i, scan.START : scan.END + 1].tolist()
            try:
                row = event_row(self.window.bytes(start, end - start))
            except Malformed as error:
                if not bad.skip:
                    # What lies before it may be all that is wanted.
                    yield rows[:i][taken[:i]], offsets[:i][taken[:i]]
                bad.report(f"{self.path}: offset {offsets[i]}: {error}")
            else:
                if row is not None:
                    rows[i] = row
                    taken[i] = True
                    pageable[i] = _PAGEABLE.search(self.window.bytes(start, end - start)) is not None
        note_pageable(bad, rows[taken, 3], rows[taken, 4], pageable[taken])
        yield rows[taken], offsets[taken]


def _parts(path: Path, bad: Bad, window: Window) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield what `_Text.events` yields; the rest of the file is checked to be JSON."""
    text = _Text(path, window)
    if text.take(b"{[", "a JSON object or array") == b"[":
        yield from text.events(bad)
        if text.peek():
            raise text.refuse(text.at, "nothing behind the events")
        return
    found = False
    closing = text.peek()
    if closing == b"}":
        text.take(b"}", "the end of the object")
    while closing != b"}":
        if text.key() == b'"traceEvents"':
            if found:
                text.peek()
                raise text.refuse(text.at, "one traceEvents")
            found = True
            text.take(b"[", "an array of events")
            yield from text.events(bad)
        else:
            text.value()
        closing = text.take(b",}", "a comma or the end of the object")
    if text.peek():
        raise text.refuse(text.at, "nothing behind the object")
    if not found:
        raise FormatError(f"{path}: JSON without traceEvents; expected a Chrome trace")


def batches(path: Path, bad: Bad) -> Iterator[Records]:
    """Read the device work of a GPU job.

    Yields: GPU_DTYPE[n], in file order. Raises: FormatError: naming file, offset and field.
    """
    start: tuple[int, int] | None = None
    with opened(path) as file:
        for rows, offsets in _checked(path, bad, Window(file, _CAPACITY)):
            if not len(rows):
                continue
            if start is None:
                start = int(rows[0, 0]), int(rows[0, 1])
            near = np.abs(rows[:, 0] - start[0]) < MAX_CLOCK_PS // _MICROSECOND_PS
            if not (bad.skip or near.all()):
                # What lies before it may be all that is wanted.
                before = int(np.argmin(near))
                if before:
                    yield _records(path, bad, rows[:before], offsets[:before], start)
            for offset in offsets[~near].tolist():
                days = MAX_CLOCK_PS // (86400 * 10**12)
                bad.report(
                    f"{path}: offset {offset}: ts: more than {days} days from the first record; "
                    "expected one recording"
                )
            if near.any():
                yield _records(path, bad, rows[near], offsets[near], start)


def _records(
    path: Path, bad: Bad, rows: NDArray[np.int64], offsets: NDArray[np.int64], start: tuple[int, int]
) -> Records:
    out = np.empty(len(rows), GPU_DTYPE)
    out["t_ps"] = (rows[:, 0] - start[0]) * _MICROSECOND_PS + (rows[:, 1] - start[1])
    for place, name in enumerate(("dur_ps", "kind", "bytes", "stream"), start=2):
        out[name] = rows[:, place]
    bad.place = lambda i: f"{path}: offset {offsets[i]}"
    bad.gpus.update(set(np.unique(rows[:, 6]).tolist()) - {ODD})
    return out


def _checked(path: Path, bad: Bad, window: Window) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield what `_parts` yields; text that is no JSON ends it and counts as one malformed record."""
    seen = False
    try:
        for part in _parts(path, bad, window):
            seen = seen or len(part[0]) > 0
            yield part
    except FormatError as error:
        if not (bad.skip and seen):
            raise
        bad.report(str(error))
