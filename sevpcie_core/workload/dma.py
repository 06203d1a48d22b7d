"""A raw DMA device: transfers of one size, in a closed loop as benchmarks drive a link, or at a rate.

Rule: nothing but the transfer. A read is four steps (issue, the engine's set-up, the read, the move inside
the device), a write three (issue, the engine's set-up and move, the write). What the device does before the
first TLP and after the last byte counts into the latency, not into the link.

A slot starts its next transfer when the last one ends: a read when its data have been moved, a write when its
port has accepted the last TLP (posted: the device hears no more of it). In an open loop transfers also have
an intended start, from which their latency counts: those that find no free slot wait. Slots are taken in
turn, so a slow transfer keeps back the next one of its own slot only. Units of the window that would cross a
4 KiB boundary are not used, as in pcie-bench (Neugebauer et al., SIGCOMM 2018, section 5).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from .._jit import kernel
from ..errors import ConfigError
from ..spec import BUFFER_DATA, REGION, REQUEST_BOUNDARY
from ..stats.draw import below, draw_u64, exponential_table, quantile
from .buffers import HOST_MEMORY
from .program import (
    BEGIN,
    DELAY,
    EARLY1,
    EARLY2,
    END,
    FOREVER,
    READ_UP,
    STEP,
    WRITE_UP,
    Chunk,
    Program,
    put,
)

Kind = Literal["read", "write", "both"]
Pattern = Literal["random", "sequential"]
KINDS: Final[tuple[Kind, ...]] = ("read", "write", "both")
PATTERNS: Final[tuple[Pattern, ...]] = ("random", "sequential")

# Units of a window start at multiples of their size, rounded up to this (pcie-bench, address set-up).
LINE_BYTES: Final = 64
LOW_MEMORY: Final = 1 << 30
# Bytes of a window, and transfers, that 31 bits of a draw can number.
MOST: Final = (1 << 31) - 1

# Transfers per chunk: the ring of steps in flight should stay in the cache.
_CHUNK: Final = 256
# Both kinds have as many, so that a slot's last transfer is found at a fixed distance; an open loop one more.
_STEPS: Final = 4
# Mean gaps between intended starts, in 1/1024 ps: what a table of draws can hold (1 ms).
MOST_GAP: Final = 10**9 << 10
# Device servers: the issue of reads, of writes, and what moves data inside the device.
_ISSUE_READ: Final = 0
_ISSUE_WRITE: Final = 1
_MOVER: Final = 2

READ: Final = 0
WRITE: Final = 1


@dataclass(frozen=True)
class Dma:
    """A DMA device and what it is asked to do.

    Attributes
    ----------
    kind : read, write, or both: as many writes as reads, a write first.
    size : bytes of a transfer. count : how many transfers. outstanding : how many at once.
    apart : of both: reads and writes have slots of their own (two streams), else each slot alternates.
    read_issue_ps, write_issue_ps : least time between the starts of two.
    read_setup_ps, write_setup_ps : from there to the first TLP (part of the latency, any number at once).
    request_bytes : reads are cut at multiples of this by the device (the link's MRRS).
    read_request_ps, beat_ps : what moves data inside the device is taken by a read for this much per request
        and per beat of `beat` bytes begun; write_beat_ps : by a write, per beat, before it goes out.
    finish_ps, finish_ps_per_kib : from a read's last byte to its end, and more per byte (in 1/1024 ps).
    gap : of an open loop, mean time from one intended start to the next, in 1/1024 ps, exponential; 0: a
        closed loop.
    pattern, window, stride : transfers begin at units of `stride` bytes (0: the size rounded up to 64 B) in a
        window, in random order or one after the other. base : address of the window.
    seed, stream : key of the draws.
    """

    kind: Kind
    size: int
    count: int
    outstanding: int = 1
    apart: bool = False
    read_issue_ps: int = 0
    write_issue_ps: int = 0
    read_setup_ps: int = 0
    write_setup_ps: int = 0
    request_bytes: int = 512
    beat: int = LINE_BYTES
    read_request_ps: int = 0
    beat_ps: int = 0
    write_beat_ps: int = 0
    finish_ps: int = 0
    finish_ps_per_kib: int = 0
    gap: int = 0
    pattern: Pattern = "random"
    window: int = 1 << 13
    stride: int = 0
    base: int = HOST_MEMORY
    seed: int = 1
    stream: int = 0

    def __post_init__(self) -> None:
        """Raise ConfigError, which names the field, for what cannot be."""
        for name, allowed in (("kind", KINDS), ("pattern", PATTERNS)):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name}: {getattr(self, name)!r}; expected one of {', '.join(allowed)}")
        for name, low in (("size", 1), ("count", 1), ("outstanding", 1), ("request_bytes", 1), ("beat", 1)):
            if not low <= getattr(self, name) <= MOST:
                raise ConfigError(f"{name}: {getattr(self, name)}; expected {low} to {MOST}")
        for name in _TIMES:
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}: {getattr(self, name)}; expected 0 or more")
        if not 0 <= self.gap <= MOST_GAP:
            raise ConfigError(f"gap: {self.gap}; expected 0 to {MOST_GAP}")
        if self.stride and self.stride < self.size:
            raise ConfigError(f"stride: {self.stride}; expected the size ({self.size}) or more, or 0")
        if self.base < 0 or self.base % REQUEST_BOUNDARY:
            raise ConfigError(f"base: {self.base:#x}; expected a multiple of {REQUEST_BOUNDARY}")
        if not 0 < self.window // self.unit <= MOST:
            raise ConfigError(f"window: {self.window}; expected {self.unit} bytes or more, one unit")

    @property
    def unit(self) -> int:
        """Bytes from one place that a transfer can begin at to the next."""
        return self.stride or -(-self.size // LINE_BYTES) * LINE_BYTES

    @property
    def slots(self) -> int:
        """Transfers at once, and the distance of a slot's next one.

        Reads and writes alternate, so in slots of both kinds it is odd, else even: rounded down, but 1 or 2
        at least.
        """
        if self.kind != "both":
            return self.outstanding
        return max(self.outstanding // 2 * 2, 2) if self.apart else (self.outstanding - 1) | 1

    def places(self) -> tuple[np.ndarray, int, int]:
        """Return where transfers may begin, as a pattern that repeats along the window.

        Units that would cross a 4 KiB boundary are left out unless each does (they are longer).

        Returns
        -------
        Unit numbers in the first period, int64[n]; units in a period; places in the whole window.
        """
        units = self.window // self.unit
        period = REQUEST_BOUNDARY // math.gcd(self.unit, REQUEST_BOUNDARY)
        number = np.arange(period, dtype=np.int64)
        whole = number[REQUEST_BOUNDARY - number * self.unit % REQUEST_BOUNDARY >= self.size]
        if not len(whole):
            whole = number
        full, rest = divmod(units, period)
        count = full * len(whole) + int(np.count_nonzero(whole < rest))
        # A window too short for any of them has its first unit.
        return (whole, period, count) if count else (number, period, units)

    def program(self) -> Program:
        """Return the steps of all transfers; request classes are "read" and "write"."""
        places, period, choices = self.places()
        moves = np.array([getattr(self, name) for name in _TIMES], np.int64)
        first_kind = READ if self.kind == "read" else WRITE
        steps = _STEPS + (self.gap > 0)
        gaps = exponential_table(self.gap)
        key = np.array([self.seed, self.stream], np.int64)

        def chunks() -> Iterator[Chunk]:
            first = now = 0
            while first < self.count:
                # All root steps of a closed loop are in the first chunk.
                n = min(max(_CHUNK, 0 if first or self.gap else self.slots), self.count - first)
                out = np.empty(n * steps, STEP)
                starts = np.empty(n if self.gap else 0, np.int64)
                now = _draw_starts(starts, first, now, gaps, key)
                _fill(
                    out,
                    first,
                    n,
                    first_kind,
                    self.kind == "both",
                    self.size,
                    self.slots,
                    self.request_bytes,
                    self.beat,
                    moves,
                    places,
                    period,
                    choices,
                    self.unit,
                    self.base,
                    self.pattern == "random",
                    starts,
                    key,
                )
                first += n
                yield Chunk(out, FOREVER if first == self.count or not self.gap else int(starts[-1]))

        top = self.base + -(-self.window // REQUEST_BOUNDARY) * REQUEST_BOUNDARY
        return Program(
            stats=("read", "write"),
            pooled=2,
            chunks=chunks,
            regions=np.array([(self.base, top, BUFFER_DATA, False)], REGION),
            reach=self.slots * steps,
            servers=3,
            open_loop=self.gap > 0,
        )


# In the order in which the kernel reads them.
_TIMES: Final = (
    "read_issue_ps",
    "write_issue_ps",
    "read_setup_ps",
    "write_setup_ps",
    "read_request_ps",
    "beat_ps",
    "write_beat_ps",
    "finish_ps",
    "finish_ps_per_kib",
)


@kernel
def _draw_starts(starts, first, now, gaps, key):
    """Draw the intended starts of consecutive transfers, ps; return the last.  Modified in place: starts.

    now, and what is returned, in 1/1024 ps, as gaps, int64[4097].
    """
    for i in range(len(starts)):
        now += quantile(gaps, draw_u64(key[0], key[1] + 1, first + i))
        starts[i] = now >> 10
    return now


@kernel
def _fill(
    out,
    first,
    count,
    first_kind,
    alternate,
    size,
    outstanding,
    request_bytes,
    beat,
    times,
    places,
    period,
    choices,
    unit,
    base,
    random,
    starts,
    key,
):
    """Write the steps of consecutive transfers.  Modified in place: out, STEP[4 * count] (open loop: 5).

    times : int64[9], ps, in the order of `_TIMES`; places, period, choices : see `Dma.places`; unit : bytes;
    starts : int64[count], intended, ps; empty in a closed loop. key : int64[2], seed and stream of the draws.
    """
    open_loop = len(starts) > 0
    steps = 5 if open_loop else 4
    at = 0
    for i in range(count):
        transfer = first + i
        write = (transfer & 1 == 0) if alternate else first_kind == WRITE
        stat = WRITE if write else READ
        place = below(draw_u64(key[0], key[1], transfer), choices) if random else transfer % choices
        number = place // len(places) * period + places[place % len(places)]
        address = base + number * unit
        beats = (address % beat + size + beat - 1) // beat
        # The slot's last transfer: its last step's end, or a write's acceptance.
        early = False
        # A slot waits for the last step of its last transfer.
        back = 0
        if transfer >= outstanding:
            back = outstanding * steps - 3
            earlier = transfer - outstanding
            early = (earlier & 1 == 0) if alternate else write
        setup = times[3] if write else times[2]
        if open_loop:
            at = put(out, at, DELAY, 0, 0, 0, transfer, stat, BEGIN, 0, 0)
            out[at - 1]["not_before_ps"] = starts[i]
            at = put(out, at, DELAY, 0, 0, 0, transfer, stat, EARLY2 if early else 0, 1, setup)
            out[at - 1]["after2"] = back
        else:
            flags = BEGIN | EARLY1 if early else BEGIN
            at = put(out, at, DELAY, 0, 0, 0, transfer, stat, flags, back, setup)
        out[at - 1]["server"] = _ISSUE_WRITE if write else _ISSUE_READ
        out[at - 1]["occupy_ps"] = times[1] if write else times[0]
        if write:
            at = put(out, at, DELAY, 0, 0, 0, transfer, stat, 0, 1, 0)
            out[at - 1]["server"] = _MOVER
            out[at - 1]["occupy_ps"] = beats * times[6]
            at = put(out, at, DELAY, 0, 0, 0, transfer, stat, 0, 1, 0)
            at = put(out, at, WRITE_UP, BUFFER_DATA, address, size, transfer, stat, END, 1, 0)
        else:
            at = put(out, at, READ_UP, BUFFER_DATA, address, size, transfer, stat, 0, 1, 0)
            requests = (address % request_bytes + size + request_bytes - 1) // request_bytes
            finish = times[7] + (size * times[8] >> 10)
            at = put(out, at, DELAY, 0, 0, 0, transfer, stat, 0, 1, 0)
            out[at - 1]["server"] = _MOVER
            out[at - 1]["occupy_ps"] = requests * times[4] + beats * times[5]
            at = put(out, at, DELAY, 0, 0, 0, transfer, stat, END, 1, finish)
    return at
