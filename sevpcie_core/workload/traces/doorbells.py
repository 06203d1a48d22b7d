"""Submission doorbells of a recorded drive: which commands its driver rang in together, and when.

Rule: a doorbell writes the new tail of a ring, so it submits as many commands as the tail has moved by, and a
drive takes the commands of a queue in the order in which they were submitted (NVM Express Base Specification
2.0, section 3.3.1). A command that no doorbell submitted is malformed: then the driver told of it otherwise
(shadow doorbells), and the recording does not say which commands belong together.
"""

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from ...errors import FormatError
from .bad import Bad
from .lines import Malformed, Rows

# NVM Express over PCIe Transport 1.0, section 3.1.2: doorbells start at 0x1000, two of 4 B per queue.
_REGISTERS: Final = 0x1000
_STRIDE: Final = 8
# NVM Express Base Specification 2.0, section 3.3.3.1: an entry of a submission queue.
_ENTRY_BYTES: Final = 64
ENTRIES: Final = 1024
"""Of a ring whose creation was not recorded, as Linux makes them."""
MOST_ENTRIES: Final = 1 << 16
MOST_BYTES: Final = MOST_ENTRIES * _ENTRY_BYTES
MOST_ADDRESS: Final = _REGISTERS + _STRIDE * (1 << 16)

# Operations of rows that are no commands. A driver makes a queue: entries as offset. It rings: the tail.
CREATED: Final = 200
RUNG: Final = 201
ASIDE: Final = 1 << 8
"""Added to the operation of a command that is no record."""


def queue_of(address: int) -> int:
    """Return the submission queue whose doorbell lies at an offset of the registers; 0: administration."""
    return (address - _REGISTERS) // _STRIDE


def submitted(before: int, tail: int, entries: int = ENTRIES) -> int:
    """Return how many commands a doorbell submits."""
    return (tail - before) % entries


def entries_of(size: int) -> int:
    """Return the entries of a ring of so many bytes."""
    return size // _ENTRY_BYTES


@dataclass
class _Queue:
    """A submission queue: its ring, and what was rung in and not taken yet, as [doorbell, time, commands]."""

    entries: int = ENTRIES
    tail: int = 0
    waiting: deque[tuple[int, int, int, int]] = field(default_factory=deque)
    # Commands of the largest doorbell but the first.
    largest: int = 0
    rung: int = 0


class Doorbells:
    """The doorbells of a recording so far, numbered from 0."""

    def __init__(self) -> None:
        self._queues: dict[int, _Queue] = {}
        self._count = 0

    def created(self, queue: int, entries: int) -> None:
        """Note that a driver makes a queue, perhaps anew."""
        self._queues[queue] = _Queue(entries)

    def rung(self, queue: int, tail: int, whole: int, fraction: int) -> None:
        """Note a doorbell and its time. Raises Malformed: the tail lies behind the ring."""
        mine = self._queues.setdefault(queue, _Queue())
        if tail >= mine.entries:
            raise Malformed(f"tail {tail} of queue {queue}; expected less than its {mine.entries} entries")
        count = submitted(mine.tail, tail, mine.entries)
        mine.tail = tail
        if mine.rung:
            mine.largest = max(mine.largest, count)
        mine.rung += 1
        if count:
            mine.waiting.append((self._count, whole, fraction, count))
        self._count += 1

    def taken(self, queue: int) -> tuple[int, int, int]:
        """Return doorbell and its time of the next command of a queue. Raises Malformed: there is none."""
        mine = self._queues.get(queue)
        if mine is None or not mine.waiting:
            raise Malformed(f"a command of queue {queue} that no doorbell submitted; expected one for each")
        bell, whole, fraction, left = mine.waiting.popleft()
        if left > 1:
            mine.waiting.appendleft((bell, whole, fraction, left - 1))
        return bell, whole, fraction

    def left(self) -> Iterator[tuple[int, int]]:
        """Yield queues with commands that nobody took, more than a doorbell submits, and how many."""
        for queue, mine in self._queues.items():
            count = sum(left for *_, left in mine.waiting)
            if count > mine.largest and mine.rung > 1:
                yield queue, count


def with_doorbells(
    parts: Iterator[Rows], path: Path, bad: Bad, takes: Collection[int], leaves_out: Collection[int] = ()
) -> Iterator[Rows]:
    """Give each command the number of its doorbell, in a column behind the others, and the time of that.

    parts : rows of commands, of RUNG and of CREATED. takes : operations that are commands of their own; other
    rows belong to the command before. leaves_out : operations that are no records, beside those with ASIDE.

    Raises FormatError, as `bad` does.
    """
    doorbells = Doorbells()
    now: tuple[int, int, int] | None = None
    queue = 0
    for part in parts:
        kept: list[tuple[int, ...]] = []
        lines: list[int] = []
        for row, line in zip(part.table.tolist(), part.lines.tolist(), strict=True):
            whole, fraction, op, offset, size, of = row
            try:
                if op == CREATED:
                    doorbells.created(of, offset)
                elif op == RUNG:
                    doorbells.rung(of, offset, whole, fraction)
                elif op in takes or op & ASIDE:
                    queue, now = of, None
                    now = doorbells.taken(of)
            except Malformed as error:
                if not bad.skip:
                    # What lies before it may be all that is wanted.
                    yield _rows(kept, lines)
                bad.report(f"{path}:{line}: {error}")
            if now is None or op in (CREATED, RUNG) or op in leaves_out or op & ASIDE:
                continue
            bell, whole, fraction = now
            kept.append((whole, fraction, op, offset, size, queue, bell))
            lines.append(line)
        yield _rows(kept, lines)
    for queue, count in doorbells.left():
        found = f"{count} commands of queue {queue} were submitted and never taken"
        raise FormatError(f"{path}: {found}; expected a recording from the creation of its queues on")


def _rows(kept: list[tuple[int, ...]], lines: list[int]) -> Rows:
    return Rows(np.array(kept, np.int64).reshape(-1, 7), np.array(lines, np.int64))
