"""NVMe: submission and completion queues in host memory, doorbells, and what a command moves, as steps.

Rule: a request is a command (or several, where it is more than a drive takes in one), whose steps come in the
order of the NVM Express Base Specification 2.0, section 3.4: doorbell, command fetch, decoding, PRP lists or
SGL segments, then media and data (a read) or data and media (a write), completion entry, interrupt,
completion doorbell. Commands of a batch share a doorbell, fetches take several entries, completions may share
an interrupt and a doorbell; none of them crosses the end of its ring.

Latency: doorbell write leaving the CPU (in an open loop: the intended start) to completion entry visible; the
io path leaves out the media.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from .._jit import kernel
from ..errors import ConfigError
from ..stats.draw import below, draw_u64, exponential_table, quantile
from .nvme_data import PAGE
from .nvme_replay import BUFFERS, CHUNK, replay
from .nvme_steps import ENTRIES, TRIM_BYTES, Controller, Driver
from .nvme_work import FLUSH, KINDS, READ, TRIM, WRITE, ZEROES, Work, commands_of
from .program import Program

__all__ = [
    "ENTRIES",
    "FLUSH",
    "KINDS",
    "MAX_BYTES",
    "MAX_COMMANDS",
    "READ",
    "TRIM",
    "WRITE",
    "ZEROES",
    "Controller",
    "Mix",
    "closed_loop",
    "commands_of",
    "misfit",
    "open_loop",
    "replay",
    "ring_entries",
    "submitted",
]

MOST_ENTRIES: Final = 1 << 16
# More than any drive takes in one command (MDTS); with more, lists would fill the simulator.
MAX_BYTES: Final = 64 << 20
# Commands of one request.
MAX_COMMANDS: Final = 1 << 14

_DRAW_KIND: Final = 0
_DRAW_SIZE: Final = 3
_DRAW_GAP: Final = 4
_DRAW_BUFFER: Final = 5
_DRAW_SEQUENTIAL: Final = 6


@kernel
def _draw(operations, sizes, buffers, first, shares, weights, choices, reads, place, key):
    """Draw what consecutive requests are.  Modified in place: operations, sizes, buffers.

    shares : int64[5], in 1/2**20, running sums by operation; weights : int64[k], running sums; choices :
    int64[k], bytes; the first `reads` of both are of reads, the others of writes.
    place : int64[2], buffers, and 1 where they are taken at random.
    """
    for i in range(len(operations)):
        share = np.int64(draw_u64(key[0], key[1] + _DRAW_KIND, first + i) >> np.uint64(44))
        operation = READ
        while operation < ZEROES and share >= shares[operation]:
            operation += 1
        operations[i] = operation
        at, end = (0, reads) if operation == READ else (reads, len(choices))
        if end - at > 1:
            pick = below(draw_u64(key[0], key[1] + _DRAW_SIZE, first + i), weights[end - 1])
            while pick >= weights[at]:
                at += 1
        sizes[i] = choices[at] if operation <= WRITE else 0
        buffers[i] = (first + i) % place[0]
        if place[1]:
            buffers[i] = below(draw_u64(key[0], key[1] + _DRAW_BUFFER, first + i), place[0])


@kernel
def _draw_sequential(ahead, first, share, key):
    """Draw which of consecutive requests go on where another one ended.  Modified: ahead, bool[n].

    share : in 1/2**20.
    """
    for i in range(len(ahead)):
        drawn = np.int64(draw_u64(key[0], key[1] + _DRAW_SEQUENTIAL, first + i) >> np.uint64(44))
        ahead[i] = drawn < share


@kernel
def _draw_starts(starts, first, start_ps, gaps, key):
    """Draw the intended starts of consecutive requests; return the last.  Modified in place: starts.

    gaps : int64[4097], ps.
    """
    now = start_ps
    for i in range(len(starts)):
        now += quantile(gaps, draw_u64(key[0], key[1] + _DRAW_GAP, first + i))
        starts[i] = now
    return now


@dataclass(frozen=True)
class Mix:
    """What is asked of a drive.

    Attributes
    ----------
    sizes : (weight, bytes) of reads and writes; write_sizes : of writes, where they have others.
    read_share : of reads and writes, 0..1.
    flush_share, trim_share, zeroes_share : of all requests, 0..1; the others are reads and writes.
    offset : of the first byte of each buffer in its page.
    window : bytes of all buffers; 0: one buffer per slot. random : they are taken at random, not in turn.
    sequential_share : of reads, those that go on where another one ended, 0..1: a drive may have read ahead.
    """

    sizes: Sequence[tuple[int, int]] = ((1, PAGE),)
    read_share: float = 1.0
    flush_share: float = 0.0
    trim_share: float = 0.0
    zeroes_share: float = 0.0
    offset: int = 0
    window: int = 0
    random: bool = False
    sequential_share: float = 0.0
    write_sizes: Sequence[tuple[int, int]] = ()

    def mean_bytes(self) -> Fraction:
        """Return the mean bytes of reads and writes."""
        reads, writes = (
            Fraction(sum(w * size for w, size in pairs), sum(w for w, _ in pairs))
            for pairs in (self.sizes, self.write_sizes or self.sizes)
        )
        return writes + (reads - writes) * Fraction(str(self.read_share))

    def largest(self) -> int:
        """Return the bytes of the largest request."""
        return max(size for _, size in (*self.sizes, *self.write_sizes))

    def shares(self) -> np.ndarray:
        """Return int64[5], in 1/2**20, the running sums of the shares by operation.

        Raises: ConfigError: more than all.
        """
        moving = 1 - self.flush_share - self.trim_share - self.zeroes_share
        if moving < -1e-9:
            raise ConfigError(f"shares of flush, trim and zeroes: {1 - moving:g} in all; expected at most 1")
        parts = np.array(
            [
                moving * self.read_share,
                moving * (1 - self.read_share),
                self.flush_share,
                self.trim_share,
                self.zeroes_share,
            ]
        )
        sums: np.ndarray = np.rint(np.cumsum(parts) * (1 << 20)).astype(np.int64)
        return sums

    def kinds(self) -> list[int]:
        """Return the operations that there can be."""
        return np.flatnonzero(np.diff(self.shares(), prepend=0)).tolist()


def _batches(first: int, n: int, batch: int, queues: int) -> np.ndarray:
    """Return int64[m, 2] for n requests from request `first` on: batches in turn to each queue."""
    counts = np.full(-(-n // batch), batch, np.int64)
    counts[-1] = n - batch * (len(counts) - 1)
    number = first // batch + np.arange(len(counts))
    return np.stack([counts, number % queues], axis=1)


def _generated(
    mix: Mix, n: int, first: int, buffers: int, key: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return operations, sizes, offsets and buffers of n requests."""
    operations, sizes, places = np.empty(n, np.uint8), np.empty(n, np.int64), np.empty(n, np.int64)
    both = (mix.sizes, mix.write_sizes or mix.sizes)
    weights = np.concatenate([np.cumsum([w for w, _ in pairs]) for pairs in both]).astype(np.int64)
    choices = np.array([size for pairs in both for _, size in pairs], np.int64)
    where = np.array([buffers, mix.random], np.int64)
    _draw(operations, sizes, places, first, mix.shares(), weights, choices, len(mix.sizes), where, key)
    return operations, sizes, np.full(n, mix.offset, np.int64), places


def _sequential(mix: Mix, n: int, first: int, key: np.ndarray) -> np.ndarray:
    """Return bool[n]: which of n requests go on where another one ended, if they are reads."""
    ahead = np.zeros(n, np.bool_)
    if mix.sequential_share:
        _draw_sequential(ahead, first, round(mix.sequential_share * (1 << 20)), key)
    return ahead


def _buffers(mix: Mix, slots: int) -> tuple[int, int]:
    """Return how many buffers there are, and bytes of the largest."""
    largest = max(mix.largest(), TRIM_BYTES)
    stride = -(-(mix.offset + largest) // PAGE) * PAGE
    return max(mix.window // stride, 1) if mix.window else slots, largest


def ring_entries(asked: int, queue_depth: int = 0, queues: int = 1, commands: int = 1) -> int:
    """Return the entries of each queue: those asked for, or with 0 what is usual, more for a deeper loop.

    commands : of the largest request.

    NVM Express Base Specification 2.0, section 3.1.3.1 (CAP.MQES): 65,536 at most.
    """
    own = queue_depth * commands // queues
    return asked or min(max(ENTRIES, 1 << own.bit_length()), MOST_ENTRIES)


def misfit(
    batch: int, queues: int, coalesce: int, entries: int, queue_depth: int = 0, commands: int = 1
) -> tuple[str, str] | None:
    """Return what does not fit together, as a key and what to say of it; None if all does.

    Parameters
    ----------
    queue_depth : of a closed loop; 0: an open one. commands : of the largest request. The others as in
        `Controller` and the loops.
    """
    if not queue_depth:
        if batch > entries - 1:
            return "batch", f"{batch}; expected at most {entries - 1}, one less than the queue's entries"
        return None
    own = queue_depth // queues
    if queue_depth % (batch * queues):
        return "queue_depth", f"{queue_depth}; expected a multiple of batch x queues, {batch * queues}"
    if own * commands > entries - 1:
        cut = f" of {commands} commands each" if commands > 1 else ""
        most = (entries - 1) // commands
        of = f": one less than its {entries} entries" if commands > 1 else ", one less than its entries"
        return "queue_depth", f"{own} per queue{cut}; expected at most {most}{of}"
    # A group that waits for requests which wait for it would never be whole.
    if coalesce > 1 and batch + coalesce - 1 > own:
        least = batch + coalesce - 1
        return "queue_depth", f"{own} per queue; expected {least} or more with batches and shared interrupts"
    return None


def closed_loop(
    controller: Controller,
    mix: Mix,
    *,
    requests: int,
    queue_depth: int,
    batch: int = 1,
    think_ps: int = 0,
    seed: int,
    stream: int,
) -> Program:
    """Return a closed loop: `queue_depth` slots, each submitting its next request when the last is complete.

    With `batch`, so many submit together when all of them are complete. Where completions share an
    interrupt, the host hears of them with it.

    Parameters
    ----------
    seed, stream : key of the draws, with seven streams from `stream` on.

    Raises
    ------
    ConfigError : slots that batches and queues do not divide, or too few of them for a group of completions:
        it would wait for requests that wait for it.
    """
    c = controller
    buffers, largest = _buffers(mix, queue_depth)
    commands = commands_of(largest, c.most)
    if problem := misfit(batch, c.queues, c.coalesce, c.entries, queue_depth, commands):
        raise ConfigError(": ".join(problem))
    driver = Driver(
        c,
        buffers=buffers,
        largest=largest,
        offset=mix.offset,
        depth=queue_depth,
        think_ps=think_ps,
        batch=batch,
        seed=seed,
        stream=stream,
    )
    size = max(CHUNK // (batch * c.queues * commands), 1) * batch * c.queues

    def work() -> Iterator[Work]:
        first = 0
        while first < requests:
            # All root steps are in the first chunk.
            n = min(max(size, queue_depth if first == 0 else 0), requests - first)
            none = np.empty(0, np.int64)
            yield Work(
                _batches(first, n, batch, c.queues),
                *_generated(mix, n, first, buffers, driver.key),
                none,
                first + n == requests,
                _sequential(mix, n, first, driver.key),
            )
            first += n

    return driver.program(work, mix.kinds(), False)


def open_loop(
    controller: Controller,
    mix: Mix,
    *,
    requests: int,
    rate: int,
    batch: int = 1,
    within_ps: int = 100_000_000,
    seed: int,
    stream: int,
) -> Program:
    """Return requests that arrive at a mean rate, whatever the drive does with them.

    Parameters
    ----------
    rate : requests per second, with exponential gaps; batch : so many wait for the last of them.
    within_ps : a group of completions shares no interrupt with one whose request was asked for so much later.

    Raises
    ------
    ConfigError : a batch that no queue holds.
    """
    c = controller
    if problem := misfit(batch, c.queues, c.coalesce, c.entries):
        raise ConfigError(": ".join(problem))
    buffers, largest = _buffers(mix, BUFFERS)
    driver = Driver(
        controller,
        buffers=buffers,
        largest=largest,
        offset=mix.offset,
        depth=0,
        within_ps=within_ps,
        batch=batch,
        seed=seed,
        stream=stream,
    )
    gaps = exponential_table(10**12 // rate)
    size = max(CHUNK // (batch * commands_of(largest, c.most)), 1) * batch

    def work() -> Iterator[Work]:
        now = 0
        for first in range(0, requests, size):
            n = min(size, requests - first)
            starts = np.empty(n, np.int64)
            now = _draw_starts(starts, first, now, gaps, driver.key)
            yield Work(
                _batches(first, n, batch, controller.queues),
                *_generated(mix, n, first, buffers, driver.key),
                starts,
                first + n == requests,
                _sequential(mix, n, first, driver.key),
            )

    return driver.program(work, mix.kinds(), True)


def submitted(
    controller: Controller,
    operations: np.ndarray,
    sizes: np.ndarray,
    offsets: np.ndarray,
    batches: np.ndarray,
) -> np.ndarray:
    """Return STEP[m]: commands as a driver submitted them, none of which waits for another.

    Parameters
    ----------
    operations : uint8[n]; sizes, offsets : int64[n], bytes, of the first one in its page.
    batches : int64[b, 2], how many each doorbell submits, and its queue.
    """
    n = len(operations)
    driver = Driver(
        controller,
        buffers=1,
        largest=max(int(sizes.max(initial=0)), TRIM_BYTES),
        offset=int(offsets.max(initial=0)),
        depth=n,
        batch=n,
    )
    none = np.empty(0, np.int64)
    ahead = np.zeros(n, np.bool_)
    part = Work(batches, operations, sizes, offsets, np.zeros(n, np.int64), none, True, ahead)
    return next(driver.chunks(iter([part]), np.arange(len(KINDS)))).steps
