"""Block I/O as blkparse prints it: `maj,min cpu seq seconds pid action rwbs sector + count [name]`.

Source: blkparse(1), "Default output", and blktrace, blkparse_fmt.c (process_default) and blktrace_api.h. One
action counts: by default D, a request's issue to the driver, or Q where the file has no D at all (a device
mapper or md device); `action` names another one. Sectors are 512 bytes. Of the rwbs letters R is a read, W a
write, D a discard, and F before a request without data a flush; a preflush of a write with data is part of
that write. Left out: other actions, requests without data that are no flush (N), passthrough commands, which
name no sector, messages, and the summary at the end. All devices share one address space.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from ...errors import ConfigError
from .bad import Bad
from .fields import CLOCK, ODD, WHOLE, WORD
from .lines import Clock, Column, Flags, Ints, Layout, Malformed, Row, blocks, records, rows, split
from .records import NVME_DTYPE, NVME_FLUSH, NVME_READ, NVME_TRIM, NVME_WRITE, Records
from .source import MAX_RECORD_BYTES
from .values import clock, is_whole, whole

RECORD: Final = re.compile(r"\s*\d+,\d+\s+\d+\s+\d+\s+\d+\.\d{9}\s+\d+\s+[A-Za-z]{1,2}\s.*", re.ASCII)
"""A line of the output, roughly."""
PREAMBLE: Final = re.compile(r"\A(Input file .* added\s+)+", re.ASCII)
"""What may stand before the first of them."""

ACTIONS: Final = ("D", "Q", "I")
"""Those that may count: issue, queue, insert."""
_OTHERS: Final = ("A", "B", "C", "F", "G", "M", "P", "R", "S", "T", "U", "UT", "W", "X", "a", "d", "m", "@")

# Fields of a line whose commas are separators too.
_MAJOR, _MINOR, _TIME, _ACTION, _RWBS, _SECTOR, _PLUS, _COUNT = 0, 1, 4, 6, 7, 8, 9, 10
_LEAST: Final = 8
_SECOND: Final = 12
_SECTOR_BYTES: Final = 512
_MAX_SECTOR: Final = 2**53 - 1

_LETTERS: Final = re.compile(r"(F?)([RWDN])E?F?A?S?M?")
_OPS: Final = {"R": NVME_READ, "W": NVME_WRITE, "D": NVME_TRIM}
_COMMON: Final = tuple(
    [op + tail for op in "RW" for tail in ("", "S", "M", "A", "SM", "F", "FS", "FSM", "AM")]
    + ["D", "DS", "FW", "FWS", "FWF", "FWFS", "FWSM", "FWFSM"]
)
"""The letters that the fast path knows."""
_COMMON_OPS: Final = np.array([_OPS[word.removeprefix("F")[0]] for word in _COMMON] + [-1], np.int64)
_SUMMARY: Final = re.compile(
    r"(CPU\d+|Total) \(.*\):|Input file .* added|Throughput \(R/W\): .*|Events \(.*\): \d+ entries|Skips: .*"
    r"|(PC )?(Reads?|Writes?|IO|Timer) (Queued|Dispatches|Requeued|Completed|Merges|depth|Disp\.|Req\.|"
    r"Compl\.|unplugs): .*",
    re.ASCII,
)


def batches(path: Path, bad: Bad, action: str | None = None) -> Iterator[Records]:
    """Read the requests of a blkparse listing.

    Parameters: action: one of ACTIONS; None: D, or Q where there is no D.
    Yields: NVME_DTYPE[n], in file order.
    Raises: FormatError: naming file, line and field; ConfigError: an unknown action.
    """
    if action is not None and action not in ACTIONS:
        raise ConfigError(f"action {action!r}; expected {', '.join(ACTIONS[:-1])} or {ACTIONS[-1]}")
    wanted = action or _first_of(path)
    left_out = tuple(word for word in (*ACTIONS, *_OTHERS) if word != wanted)
    columns = [
        Column(_MAJOR, WHOLE),
        Column(_MINOR, WHOLE),
        Column(_ACTION, WORD, (wanted, *left_out), keep=1),
        Column(_TIME, CLOCK, digits=_SECOND),
        Column(_RWBS, WORD, _COMMON),
        Column(_SECTOR, WHOLE),
        Column(_PLUS, WORD, ("+",)),
        Column(_COUNT, WHOLE),
    ]

    def fast(values: Ints, fields: Ints) -> tuple[Ints, Flags, Flags]:
        event = (fields >= _LEAST) & (values[:, 0] >= 0) & (values[:, 1] >= 0)
        ops = _COMMON_OPS[np.where(event, values[:, 5], -1)]
        sectors, counts = values[:, 6], values[:, 8]
        taken = event & (values[:, 2] == 0) & (ops >= 0) & (values[:, 3] != ODD)
        taken &= (fields > _COUNT) & (values[:, 7] == 0)
        taken &= (sectors >= 0) & (sectors <= _MAX_SECTOR)
        taken &= (counts > 0) & (counts <= MAX_RECORD_BYTES // _SECTOR_BYTES)
        table = np.zeros((len(values), 6), np.int64)
        table[:, 0:2] = values[:, 3:5]
        table[:, 2] = ops
        table[:, 3] = np.where(taken, sectors, 0) * _SECTOR_BYTES
        table[:, 4] = np.where(taken, counts, 0) * _SECTOR_BYTES
        drives = values[taken, :2]
        one = (drives == drives[:1]).all()
        bad.drives.update(map(tuple, (drives[:1] if one else np.unique(drives, axis=0)).tolist()))
        return table, taken, np.zeros(len(values), np.bool_)

    def slow(found: list[str]) -> Row | None:
        if len(found) < _LEAST or not (is_whole(found[_MAJOR]) and is_whole(found[_MINOR])):
            if _SUMMARY.fullmatch(" ".join(found)):
                return None
            raise Malformed(f"{' '.join(found)[:60]!r}; expected maj,min cpu seq time pid action rwbs ...")
        if found[_ACTION] != wanted:
            if found[_ACTION] in left_out:
                return None
            raise Malformed(f"action: {found[_ACTION][:40]!r}; expected one letter of blkparse(1)")
        letters = _LETTERS.fullmatch(found[_RWBS])
        if letters is None:
            raise Malformed(f"rwbs: {found[_RWBS][:40]!r}; expected R, W, D or N and flags as in blkparse(1)")
        time = clock(found[_TIME], "time", _SECOND, "seconds")
        bad.drives.add((_plain(found[_MAJOR]), _plain(found[_MINOR])))
        op = _OPS.get(letters[2])
        if len(found) > _COUNT and found[_PLUS] == "+" and op is not None:
            sector = whole(found[_SECTOR], "sector", _MAX_SECTOR)
            count = whole(found[_COUNT], "count", MAX_RECORD_BYTES // _SECTOR_BYTES)
            if count:
                return (*time, op, sector * _SECTOR_BYTES, count * _SECTOR_BYTES, 0)
        elif op is not None and not letters[1]:
            # Passthrough: bytes, then the command in brackets.
            if len(found) > _PLUS and is_whole(found[_SECTOR]) and found[_PLUS].startswith("("):
                return None
            raise Malformed(f"{' '.join(found[_RWBS:])[:60]!r}; expected rwbs sector + count")
        if letters[1]:
            return (*time, NVME_FLUSH, 0, 0, 0)
        if op is None:
            return None
        raise Malformed(f"count: {found[_COUNT]!r}; expected 1 or more sectors")

    parts = rows(path, bad, Layout(" \t,", columns, _LEAST), fast, slow)
    return records(parts, Clock(path, bad, _SECOND, "time"), NVME_DTYPE)


def _plain(text: str) -> int:
    """Return the number of what `is_whole` takes, as far as 64 bits hold it."""
    return min(int(text.strip().partition(".")[0][:30]), 2**63 - 1)


def _first_of(path: Path) -> str:
    """Return D if the file has such an action, else Q. Reads on only as long as it has none."""
    layout = Layout(" \t,", [Column(_ACTION, WORD, ("D",))])
    for block in blocks(path, layout):
        if ((block.fields >= _LEAST) & (block.values[:, 0] == 0)).any():
            return "D"
        for i in np.flatnonzero(block.fields < 0).tolist():
            try:
                found = split(layout, block.line(i))
            except Malformed:
                continue
            if len(found) >= _LEAST and found[_ACTION] == "D":
                return "D"
    return "Q"
