"""Recorded TLPs: what of a capture is replayed, as steps, and what is not, counted.

Rule: each TLP that is replayed is a request of its own, which starts at its recorded time whatever became of
others: a capture does not say what waited for what. Each other TLP is counted, by kind and direction.

Replayed are memory writes of both directions and memory reads of the device. Completions of those reads are
the model's own, so those of the capture are only matched with their reads, by requester ID and tag. Left out
is what the model has no steps for: reads of the host and their completions, I/O, configuration, messages,
AtomicOps, deferrable and locked requests, translation requests. A request without an enabled byte is replayed
as one of one byte, which takes as much on the wire.

An address belongs to one class of buffers: interrupts in the window of x86, what somebody named, registers
where the host writes, data elsewhere. Registers and data are drawn by page, of 4 KiB or, where more than
_MOST_PAGES were touched, of the next power of two that makes fewer.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

import numpy as np

from .._jit import inline_kernel, kernel
from ..errors import ConfigError, FormatError
from ..spec import BUFFER_DATA, BUFFER_MMIO, BUFFER_MSI, BUFFER_NAMES, BUFFER_QUEUE, REGION
from ..stats.hist import BUCKETS, Histogram, bucket
from ..tlp import kinds
from ..units import parse_bytes
from .buffers import MSI_ADDRESS, MSI_WINDOW, PAGE
from .program import BEGIN, END, FOREVER, READ_UP, STEP, WRITE_DOWN, WRITE_UP, Chunk, Program

# Request classes.
READ: Final = 0
WRITE: Final = 1
DOORBELL: Final = 2
NAMES: Final = ("read", "write", "doorbell")
_STEP_KINDS: Final = (READ_UP, WRITE_UP, WRITE_DOWN)
# What else a TLP can be.
ANSWER: Final = 3
LEFT_OUT: Final = 4

# Buffers that somebody may name: registers are where the host writes.
NAMED: Final = (BUFFER_DATA, BUFFER_QUEUE, BUFFER_MSI)

# PCIe Base r6.x, section 2.2.4.1: address types.
_TRANSLATION_REQUEST: Final = 1

# Records of a chunk, and of one look at a trace.
_CHUNK: Final = 1 << 12
_PIECE: Final = 1 << 16
_MOST_PAGES: Final = 1 << 16
_PAGE_SHIFT: Final = PAGE.bit_length() - 1
# Outstanding reads that are told apart by requester ID and tag; what more there are is not matched.
_SLOTS: Final = 1 << 16
# Slots that are looked at for one read; one that is not over and finds none is not followed.
_TRIES: Final = 64
# Addresses are int64.
_ADDRESSES: Final = (1 << 63) - 1
_TAG_BITS: Final = 10

_NUMBER: Final = re.compile(r"0x[0-9a-f]+|[0-9]+", re.IGNORECASE | re.ASCII)
_EXPECTED: Final = "expected ADDRESS+SIZE, such as 0x1f0000000+64KiB"

_MRD32: Final = kinds.MRD32
_MRD64: Final = kinds.MRD64
_MWR32: Final = kinds.MWR32
_MWR64: Final = kinds.MWR64
_CPL: Final = kinds.CPL
_CPLD: Final = kinds.CPLD


@inline_kernel
def _class_of(kind, down, at):
    """Return what a TLP is to the model: a request class, ANSWER or LEFT_OUT."""
    if kind in (_MWR32, _MWR64):
        return DOORBELL if down else WRITE
    if kind in (_MRD32, _MRD64):
        return LEFT_OUT if down or at == _TRANSLATION_REQUEST else READ
    return ANSWER if down and kind in (_CPL, _CPLD) else LEFT_OUT


@kernel
def _classify(records, out):
    """Set uint8[n], what each of TLP_DTYPE[n] is to the model."""
    for i in range(records.size):
        out[i] = _class_of(records[i]["kind"], records[i]["down"] != 0, records[i]["at"])


def classify(records: np.ndarray) -> np.ndarray:
    """Return uint8[n]: what each of TLP_DTYPE[n] is to the model."""
    out = np.empty(len(records), np.uint8)
    _classify(np.asarray(records), out)
    return out


def _pieces(records: np.ndarray, size: int = _PIECE) -> Iterator[np.ndarray]:
    """Yield copies of consecutive records: a long trace lies in a file."""
    for start in range(0, len(records), size):
        yield np.array(records[start : start + size])


# --- What is there ------------------------------------------------------------------------------------------

# Rows of a tally.
_COUNT: Final = 0
_BYTES: Final = 1
_LARGEST: Final = 2
# Of answers.
_ANSWERED: Final = 0
_REFUSED: Final = 1
_STRAY: Final = 2
_LATENCY: Final = 3
# Columns of a slot.
_ID: Final = 0
_LEFT: Final = 1
_SINCE: Final = 2


@kernel
def _tally(records, classes, left_out, answers, slots, latency):
    """Count TLPs and match completions.  Modified in place: all but records.

    Parameters
    ----------
    records : TLP_DTYPE[n], in order of time.
    classes : int64[3, 3], of each request class: how many, bytes, bytes of the largest.
    left_out : int64[2, 2, 256], by direction, whether it asks for a translation, and kind.
    answers : int64[4]: reads that were answered in full, or refused; completions of no known read; ps from
        request to last completion of all that were answered.
    slots : int64[_SLOTS, 3], by hash: requester ID and tag (plus 1, 0: free), bytes that are due, and since.
    latency : int64[BUCKETS], ps, of answered reads.
    """
    mask = slots.shape[0] - 1
    for i in range(records.size):
        record = records[i]
        size = np.int64(record["bytes"])
        what = _class_of(record["kind"], record["down"] != 0, record["at"])
        if what < ANSWER:
            classes[what, _COUNT] += 1
            classes[what, _BYTES] += size
            classes[what, _LARGEST] = max(classes[what, _LARGEST], size)
        elif what == LEFT_OUT:
            translation = record["at"] == _TRANSLATION_REQUEST
            left_out[np.int64(record["down"]), np.int64(translation), np.int64(record["kind"])] += 1
        if what not in (READ, ANSWER):
            continue
        name = (np.int64(record["requester"]) << _TAG_BITS | np.int64(record["tag"])) + 1
        slot = (name * 0x9E3779B1 >> 7) & mask
        over = np.int64(-1)
        tried = 0
        while slots[slot, _ID] not in (0, name) and tried < _TRIES:
            if over < 0 and slots[slot, _LEFT] == 0:
                over = slot
            slot = (slot + 1) & mask
            tried += 1
        if slots[slot, _ID] not in (0, name):
            if what == ANSWER or over < 0:
                answers[_STRAY] += what == ANSWER
                continue
            # That of a read which is over.
            slot = over
        if what == READ:
            slots[slot, _ID] = name
            # One without an enabled byte is answered by a completion all the same.
            slots[slot, _LEFT] = max(size, np.int64(1))
            slots[slot, _SINCE] = record["t_ps"]
        elif slots[slot, _ID] == 0 or slots[slot, _LEFT] == 0:
            answers[_STRAY] += 1
        elif record["kind"] == _CPL:
            answers[_REFUSED] += 1
            slots[slot, _LEFT] = 0
        else:
            slots[slot, _LEFT] = max(slots[slot, _LEFT] - size, np.int64(0))
            if slots[slot, _LEFT] == 0:
                answers[_ANSWERED] += 1
                took = np.int64(record["t_ps"]) - slots[slot, _SINCE]
                answers[_LATENCY] += took
                latency[bucket(took)] += 1


@dataclass(frozen=True)
class Class:
    """TLPs of a request class: how many, their bytes, those of the largest."""

    count: int
    size: int
    largest: int


@dataclass(frozen=True)
class Capture:
    """What a capture consists of.

    Attributes
    ----------
    classes : by name of a request class, all three.
    answered, refused : reads of the device whose completions are all there, or which were completed without
        data. stray : completions to the device that answer no read of the capture.
    latency : ps from a read to its last completion, as captured, of those answered.
    left_out : how many of each kind and direction the model has no steps for, most first.
    """

    classes: dict[str, Class]
    answered: int
    refused: int
    stray: int
    latency: Histogram
    left_out: dict[str, int]


def capture(records: np.ndarray) -> Capture:
    """Return what TLP_DTYPE[n] consists of."""
    classes = np.zeros((len(NAMES), 3), np.int64)
    left_out = np.zeros((2, 2, 256), np.int64)
    answers = np.zeros(4, np.int64)
    latency = np.zeros(BUCKETS, np.int64)
    slots = np.zeros((_SLOTS, 3), np.int64)
    for piece in _pieces(records):
        _tally(piece, classes, left_out, answers, slots, latency)
    named: dict[str, int] = {}
    for down, translation, kind in np.argwhere(left_out).tolist():
        asks = " (translation request)" if translation else ""
        named[f"{kinds.name(kind)}{asks} {'down' if down else 'up'}"] = int(left_out[down, translation, kind])
    return Capture(
        classes={name: Class(*map(int, row)) for name, row in zip(NAMES, classes, strict=True)},
        answered=int(answers[_ANSWERED]),
        refused=int(answers[_REFUSED]),
        stray=int(answers[_STRAY]),
        latency=Histogram.from_dense(latency, int(answers[_LATENCY])),
        left_out=dict(sorted(named.items(), key=lambda item: -item[1])),
    )


# --- Where it lies ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Named:
    """Addresses, bytes [start, end), of one class of buffers."""

    buffer: int
    start: int
    end: int


class _Pages:
    """Pages that were touched: numbers of pages of 2**shift bytes, ascending."""

    def __init__(self) -> None:
        self.shift = _PAGE_SHIFT
        self.numbers = np.empty(0, np.int64)

    def add(self, addresses: np.ndarray) -> None:
        """Add the pages of some addresses, int64[n]; no request crosses the end of one."""
        self.numbers = np.union1d(self.numbers, addresses >> self.shift)
        while len(self.numbers) > _MOST_PAGES:
            self.shift += 1
            self.numbers = np.unique(self.numbers >> 1)

    def rows(self, buffer: int) -> list[tuple[int, int, int]]:
        """Return (start, end, buffer) of each."""
        starts = (self.numbers << self.shift).tolist()
        return [(start, min(start + (1 << self.shift), _ADDRESSES), buffer) for start in starts]


def regions_of(records: np.ndarray, named: Sequence[Named] = ()) -> np.ndarray:
    """Return spec.REGION[m], ascending and undecided, of all that replayed TLPs touch."""
    data, registers = _Pages(), _Pages()
    for piece in _pieces(records):
        what = classify(piece)
        data.add(piece["address"][what <= WRITE])
        registers.add(piece["address"][what == DOORBELL])
    # What is first wins.
    layers = [
        [(MSI_ADDRESS, MSI_ADDRESS + MSI_WINDOW, BUFFER_MSI)],
        *([(one.start, one.end, one.buffer)] for one in named),
        registers.rows(BUFFER_MMIO),
        data.rows(BUFFER_DATA),
    ]
    rows = np.array([row for layer in layers for row in layer], np.int64)
    edges = np.unique(rows[:, :2])
    # From each edge on: whose row it is, -1 for nobody's.
    owner = np.full(len(edges), -1)
    behind = len(rows)
    for layer in reversed(layers):
        if not layer:
            continue
        behind -= len(layer)
        starts, ends, _ = rows[behind : behind + len(layer)].T
        at = np.searchsorted(starts, edges, "right") - 1
        inside = (at >= 0) & (edges < ends[np.maximum(at, 0)])
        owner[inside] = behind + at[inside]
    new = np.flatnonzero(np.append(True, owner[1:] != owner[:-1]))
    used = owner[new] >= 0
    out = np.zeros(int(used.sum()), REGION)
    out["start"] = edges[new[used]]
    out["end"] = edges[np.append(new[1:], len(edges) - 1)[used]]
    out["buffer"] = rows[owner[new[used]], 2]
    return out


# --- Steps --------------------------------------------------------------------------------------------------


def replay(records: np.ndarray, found: Capture, named: Sequence[Named] = (), repeat_ps: int = 0) -> Program:
    """Return the steps of a capture; request classes are those of NAMES that it has.

    Parameters
    ----------
    records : TLP_DTYPE[n], in order of time. found : what they consist of.
    named : addresses of buffers, the first that holds one counts.
    repeat_ps : after so long it starts over, for ever; 0: it ends.

    Raises
    ------
    FormatError : nothing of it can be replayed.
    """
    present = [i for i, name in enumerate(NAMES) if found.classes[name].count]
    if not present:
        kinds_there = ", ".join(f"{count} {name}" for name, count in found.left_out.items())
        there = f"; there are {kinds_there}" if kinds_there else ""
        raise FormatError(f"no memory write, and no memory read of the device; expected at least one{there}")
    regions = regions_of(records, named)
    stats = np.array([present.index(i) if i in present else 0 for i in range(len(NAMES))])
    step_kinds = np.array(_STEP_KINDS)

    def pieces() -> Iterator[tuple[np.ndarray, int]]:
        for turn in count() if repeat_ps else range(1):
            for start in range(0, len(records), _CHUNK):
                piece = np.array(records[start : start + _CHUNK])
                piece["t_ps"] += turn * repeat_ps
                behind = start + _CHUNK
                horizon_ps = (turn + 1) * repeat_ps if repeat_ps else FOREVER
                if behind < len(records):
                    horizon_ps = int(records["t_ps"][behind]) + turn * repeat_ps
                yield piece, horizon_ps

    def chunks() -> Iterator[Chunk]:
        first = 0
        for piece, horizon_ps in pieces():
            what = classify(piece)
            taken = what <= DOORBELL
            piece, what = piece[taken], what[taken]
            if not len(piece):
                continue
            steps = np.zeros(len(piece), STEP)
            steps["address"] = piece["address"]
            steps["bytes"] = np.maximum(piece["bytes"], 1)
            steps["not_before_ps"] = piece["t_ps"]
            steps["request"] = np.arange(first, first + len(piece))
            steps["server"] = -1
            steps["flags"] = BEGIN | END
            steps["kind"] = step_kinds[what]
            steps["stat"] = stats[what]
            steps["buffer"] = regions["buffer"][
                np.searchsorted(regions["start"], piece["address"], "right") - 1
            ]
            first += len(piece)
            yield Chunk(steps, horizon_ps)

    # A doorbell is a moment of the host's; it makes the row of the device only where there is nothing else.
    pooled = len([i for i in present if i != DOORBELL]) or 1
    return Program(
        stats=tuple(NAMES[i] for i in present),
        pooled=pooled,
        chunks=chunks,
        regions=regions,
        reach=1,
        servers=0,
        open_loop=True,
    )


def parse_named(text: str) -> Named:
    """Read CLASS=ADDRESS+SIZE, such as queue=0x1f0000000+64KiB. Raises ValueError."""
    name, _, place = text.partition("=")
    start, _, size = place.partition("+")
    classes = [BUFFER_NAMES[i] for i in NAMED]
    if name not in classes:
        raise ValueError(f"{name[:40]!r}; expected one of {', '.join(classes)}")
    try:
        address = int(start, 0)
        count = int(size, 0) if _NUMBER.fullmatch(size) else parse_bytes(size)
    except (ValueError, ConfigError):
        raise ValueError(f"{place[:40]!r}; {_EXPECTED}") from None
    if address < 0 or count < 1 or address + count > _ADDRESSES:
        raise ValueError(f"{place[:40]!r}; {_EXPECTED}, 1 byte or more below 2^63 - 1")
    return Named(BUFFER_NAMES.index(name), address, address + count)
