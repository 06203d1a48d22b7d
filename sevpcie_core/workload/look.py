"""What a program asks of its link, counted: operations, transactions, TLPs, sizes and gaps.

Rule: one pass over the chunks in constant memory, so counts are kept by powers of two where there may be many
values, with the smallest and the largest of each. Nothing is simulated: what depends on time (what shares a
coalesced interrupt, which write waits) is as the program has it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from .._jit import kernel
from ..spec import BUFFER_DATA, BUFFER_MMIO, BUFFER_MSI, BUFFER_NAMES, DATA_LINK_BYTES, DATA_LINK_FLIT_BYTES
from ..stats.hist import BUCKETS, Histogram, bucket
from ..tlp.size import ide_bytes, padded_payload_bytes
from .expand import KINDS, MRD, Sizes, expand_steps
from .program import BEGIN, DELAY, READ_UP, WRITE_DOWN, WRITE_UP, Program

# Kinds of transactions and who asks for them: up, the device; down, the host.
_TRANSACTIONS: Final = {
    WRITE_UP: ("write", "up"),
    READ_UP: ("read", "up"),
    WRITE_DOWN: ("write", "down"),
}
_DIRECTIONS: Final = ("up", "down")

# Octaves of an int64.
_OCTAVES: Final = 64
_COUNT, _SUM, _LEAST, _MOST = range(4)
# Of a TLP tally: how many, payload, whole wire bytes, those that are protected, their payload, and what a MAC
# of its own with prefix (and PCRC) adds to them.
_TLPS, _PAYLOAD, _WIRE, _SEALED, _SEALED_PAYLOAD, _IDE = range(6)
_PAYLOADS: Final = 4097


@kernel
def _octave(value: int) -> int:
    """Return the octave of a value that is not negative: 0 alone, then [2**k, 2**(k+1)) from k = 0 on."""
    found = 0
    while value > 0:
        value >>= 1
        found += 1
    return found


@kernel
def _note(bins, value: int) -> None:
    """Count a value.  Modified in place: bins, int64[_OCTAVES, 4]."""
    row = bins[_octave(value)]
    if row[_COUNT] == 0 or value < row[_LEAST]:
        row[_LEAST] = value
    if row[_COUNT] == 0 or value > row[_MOST]:
        row[_MOST] = value
    row[_COUNT] += 1
    row[_SUM] += value


@kernel
def _begin(start: int, starts, gap_counts, totals) -> None:
    """Count the intended start of an operation.  Modified in place: all but start.

    Parameters: starts : int64[2], ps, first and latest, -1 for none; gap_counts : int64[BUCKETS]; totals :
    int64[2], the second in ps between two starts.
    """
    if starts[1] >= 0:
        gap = max(start - starts[1], np.int64(0))
        gap_counts[bucket(gap)] += 1
        totals[1] += gap
    else:
        starts[0] = start
    starts[1] = max(start, starts[1])


@kernel
def _scan(
    steps,
    pooled,
    transactions,
    by_class,
    operations,
    sizes,
    size_counts,
    gap_counts,
    totals,
    first,
    data,
    classes,
    starts,
):
    """Count the steps of a chunk.  Modified in place: all but steps and pooled.

    Of `size_counts`, `gap_counts`, `totals` and `starts`, row 0 is of the device's own operations together,
    and row 1 + stat of those of one class.

    Parameters
    ----------
    steps : STEP[n]. pooled : classes below it are operations of the device's own row.
    transactions : int64[kinds, buffers, _OCTAVES, 4], by size.
    by_class : int64[stats, kinds, buffers, 2], how many transactions, and their bytes.
    operations : int64[stats, 2], begun, and bytes of data.
    sizes : int64[_OCTAVES, 4]; size_counts, gap_counts : int64[1 + stats, BUCKETS]; totals : int64[1 + stats,
        2]: data bytes of an operation, and ps between two intended starts.
    data : int64[m], all 0, by request from `first` on: its bytes of data; classes : uint8[m], its class.
    starts : int64[1 + stats, 2], ps, intended starts, first and latest; -1 for none.
    """
    for i in range(len(steps)):
        kind = steps[i]["kind"]
        flags = steps[i]["flags"]
        stat = steps[i]["stat"]
        if flags & BEGIN:
            operations[stat, 0] += 1
            start = steps[i]["not_before_ps"]
            _begin(start, starts[1 + stat], gap_counts[1 + stat], totals[1 + stat])
            if stat < pooled:
                _begin(start, starts[0], gap_counts[0], totals[0])
            classes[steps[i]["request"] - first] = stat
        if kind != DELAY:
            size = steps[i]["bytes"]
            buffer = steps[i]["buffer"]
            _note(transactions[kind, buffer], size)
            by_class[stat, kind, buffer, 0] += 1
            by_class[stat, kind, buffer, 1] += size
            if buffer == BUFFER_DATA:
                operations[stat, 1] += size
                request = steps[i]["request"] - first
                if 0 <= request < len(data):
                    data[request] += size
    for i in range(len(data)):
        at = bucket(data[i])
        size_counts[1 + classes[i], at] += 1
        totals[1 + classes[i], 0] += data[i]
        if classes[i] < pooled:
            _note(sizes, data[i])
            size_counts[0, at] += 1
            totals[0, 0] += data[i]


@kernel
def _tally(tlps, data_link, pcrc, counts, payloads):
    """Count TLPs.  Modified in place: counts, payloads.

    Parameters
    ----------
    tlps : expand.TLP[n]. data_link : bytes of framing, sequence number and LCRC of each.
    counts : int64[kinds, 2, buffers, 6]. payloads : int64[kinds, 2, _PAYLOADS], by `bytes`.
    """
    for i in range(len(tlps)):
        size = int(tlps[i]["bytes"])
        kind = tlps[i]["kind"]
        down = tlps[i]["down"]
        carried = size if kind != MRD else 0
        padded = padded_payload_bytes(tlps[i]["address"], carried)
        row = counts[kind, down, tlps[i]["buffer"]]
        row[_TLPS] += 1
        row[_PAYLOAD] += carried
        row[_WIRE] += data_link + np.int64(tlps[i]["header"]) + padded
        if tlps[i]["protected"]:
            row[_SEALED] += 1
            row[_SEALED_PAYLOAD] += carried
            row[_IDE] += ide_bytes(True, pcrc and padded > 0)
        payloads[kind, down, size] += 1


@dataclass(frozen=True)
class Bin:
    """Some values of a distribution: how many, their sum, the smallest and the largest."""

    count: int
    total: int
    least: int
    most: int


@dataclass(frozen=True)
class Transaction:
    """Transactions of one kind and class of buffers whose sizes are near each other."""

    kind: str
    """read or write"""
    direction: str
    """up: the device asks; down: the host does."""
    buffer: str
    sizes: Bin


@dataclass(frozen=True)
class Tlps:
    """TLPs of one kind and direction, bytes."""

    kind: str
    direction: str
    count: int
    payload_bytes: int
    wire_bytes: int
    """Header, payload in whole DW, and what the data link layer adds."""
    protected: int
    protected_payload_bytes: int
    ide_bytes: int
    """That a prefix and a MAC on each protected one add."""
    sizes: dict[int, int]
    """How many by their bytes: carried, or asked for."""


@dataclass(frozen=True)
class ClassLook:
    """What the operations of one class are.

    sizes, gaps : as in `Look`, of this class alone. moved : (kind, direction, buffer) to how many
    transactions and their bytes; what operations share counts for the class that the program gives it.
    """

    count: int
    sizes: Histogram
    gaps: Histogram
    moved: dict[tuple[str, str, str], tuple[int, int]]


@dataclass(frozen=True)
class Look:
    """What a program consists of.

    operations : how many by class, of all classes. pooled : the classes that are the device's own operations.
    """

    operations: dict[str, int]
    data_bytes: dict[str, int]
    pooled: tuple[str, ...]
    transactions: tuple[Transaction, ...]
    tlps: tuple[Tlps, ...]
    sizes: Histogram
    """Bytes of data of an operation."""
    size_octaves: tuple[Bin, ...]
    """The same, by powers of two."""
    gaps: Histogram
    """ps between the intended starts of two operations; empty where the program gives none."""
    first_ps: int
    last_ps: int
    """Intended starts of the first and the last operation."""
    open_loop: bool
    """Whether arrivals are given; else the device sets the pace."""
    classes: dict[str, ClassLook]
    """Of all classes that have operations."""

    @property
    def count(self) -> int:
        """Return the number of the device's operations: what all that is told per operation is divided by."""
        return sum(self.operations[name] for name in self.pooled)

    def moved(self, *buffers: int) -> tuple[int, int]:
        """Return (transactions, bytes) of some classes of buffers."""
        names = {BUFFER_NAMES[b] for b in buffers}
        mine = [t.sizes for t in self.transactions if t.buffer in names]
        return sum(b.count for b in mine), sum(b.total for b in mine)

    @property
    def doorbells(self) -> int:
        """Return how many doorbells are rung: writes to registers of the device."""
        return self.moved(BUFFER_MMIO)[0]

    @property
    def interrupts(self) -> int:
        """Return how many interrupt messages are sent."""
        return self.moved(BUFFER_MSI)[0]


@kernel
def _begun(steps):
    """Return the first request that begins among steps, and how many do."""
    first = np.int64(0)
    count = np.int64(0)
    for i in range(len(steps)):
        if steps[i]["flags"] & BEGIN:
            if count == 0:
                first = steps[i]["request"]
            count += 1
    return first, count


def look(
    program: Program,
    sizes: Sizes,
    *,
    timed: bool,
    pcrc: bool = False,
    protect: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Look:
    """Count what a program consists of, cut for a link.

    Parameters
    ----------
    timed : whether its intended starts are given by somebody, so that gaps between them tell something.
    protect : returns bool[n], which of STEP[n] are protected; None: none is. pcrc : of those that are.
    """
    stats = len(program.stats)
    transactions = np.zeros((len(_TRANSACTIONS) + 1, len(BUFFER_NAMES), _OCTAVES, 4), np.int64)
    operations = np.zeros((stats, 2), np.int64)
    by_class = np.zeros((stats, len(_TRANSACTIONS) + 1, len(BUFFER_NAMES), 2), np.int64)
    data_sizes = np.zeros((_OCTAVES, 4), np.int64)
    size_counts = np.zeros((1 + stats, BUCKETS), np.int64)
    gap_counts = np.zeros((1 + stats, BUCKETS), np.int64)
    totals = np.zeros((1 + stats, 2), np.int64)
    counts = np.zeros((len(KINDS), 2, len(BUFFER_NAMES), 6), np.int64)
    payloads = np.zeros((len(KINDS), 2, _PAYLOADS), np.int64)
    starts = np.full((1 + stats, 2), -1, np.int64)
    data_link = DATA_LINK_FLIT_BYTES if sizes.flit else DATA_LINK_BYTES
    for chunk in program.chunks():
        steps = chunk.steps
        first, begun = _begun(steps)
        data, classes = np.zeros(begun, np.int64), np.zeros(begun, np.uint8)
        _scan(
            steps,
            program.pooled,
            transactions,
            by_class,
            operations,
            data_sizes,
            size_counts,
            gap_counts,
            totals,
            first,
            data,
            classes,
            starts,
        )
        marks = np.empty(0, np.bool_) if protect is None else protect(steps)
        for tlps in expand_steps(steps, sizes, marks):
            _tally(tlps, data_link, pcrc, counts, payloads)

    def gaps(row: int) -> Histogram:
        told = BUCKETS if timed else 0
        return Histogram.from_dense(gap_counts[row, :told], totals[row, 1] if timed else 0)

    return Look(
        operations=dict(zip(program.stats, operations[:, 0].tolist(), strict=True)),
        data_bytes=dict(zip(program.stats, operations[:, 1].tolist(), strict=True)),
        pooled=program.stats[: program.pooled],
        transactions=tuple(
            Transaction(*_TRANSACTIONS[kind], BUFFER_NAMES[buffer], found)
            for kind in _TRANSACTIONS
            for buffer in range(len(BUFFER_NAMES))
            for found in _bins(transactions[kind, buffer])
        ),
        tlps=tuple(_tlps(counts, payloads)),
        sizes=Histogram.from_dense(size_counts[0], totals[0, 0]),
        size_octaves=_bins(data_sizes),
        gaps=gaps(0),
        first_ps=max(int(starts[0, 0]), 0),
        last_ps=max(int(starts[0, 1]), 0),
        open_loop=program.open_loop,
        classes={
            name: ClassLook(
                count=int(operations[stat, 0]),
                sizes=Histogram.from_dense(size_counts[1 + stat], totals[1 + stat, 0]),
                gaps=gaps(1 + stat),
                moved=_moved(by_class[stat]),
            )
            for stat, name in enumerate(program.stats)
            if operations[stat, 0]
        },
    )


def _bins(rows: np.ndarray) -> tuple[Bin, ...]:
    return tuple(Bin(*map(int, row)) for row in rows if row[_COUNT])


def _moved(rows: np.ndarray) -> dict[tuple[str, str, str], tuple[int, int]]:
    """Return the transactions of a class, of int64[kinds, buffers, 2]."""
    return {
        (*_TRANSACTIONS[kind], BUFFER_NAMES[buffer]): (int(rows[kind, buffer, 0]), int(rows[kind, buffer, 1]))
        for kind in _TRANSACTIONS
        for buffer in range(len(BUFFER_NAMES))
        if rows[kind, buffer, 0]
    }


def _tlps(counts: np.ndarray, payloads: np.ndarray) -> Iterator[Tlps]:
    for kind, name in enumerate(KINDS):
        for down, direction in enumerate(_DIRECTIONS):
            row = counts[kind, down].sum(axis=0).tolist()
            if row[_TLPS]:
                found = {
                    int(size): int(payloads[kind, down, size]) for size in payloads[kind, down].nonzero()[0]
                }
                yield Tlps(
                    name,
                    direction,
                    count=row[_TLPS],
                    payload_bytes=row[_PAYLOAD],
                    wire_bytes=row[_WIRE],
                    protected=row[_SEALED],
                    protected_payload_bytes=row[_SEALED_PAYLOAD],
                    ide_bytes=row[_IDE],
                    sizes=found,
                )
