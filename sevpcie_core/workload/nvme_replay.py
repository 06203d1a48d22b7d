"""NVMe: recorded commands, at their times.

Rule: a recording is read chunk by chunk, so that it may be larger than memory.
"""

from collections.abc import Iterator
from itertools import count
from typing import Final

import numpy as np

from .nvme_steps import TRIM_BYTES, Controller, Driver
from .nvme_work import READ, WRITE, ZEROES, Work, commands_of
from .program import Program

# Requests per chunk: the ring of steps in flight should stay in the cache.
CHUNK: Final = 512
# Buffers of an open loop, used in turn.
BUFFERS: Final = 1024
# A drive knows so many streams of reads that go on where the last one ended.
_STREAMS: Final = 32


class _Streams:
    """Which recorded reads go on where an earlier one ended: a drive that follows so many of them."""

    def __init__(self) -> None:
        self._ends: dict[int, None] = {}

    def go_on(self, operations: np.ndarray, offsets: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Return bool[n] for consecutive commands."""
        out = np.zeros(len(operations), np.bool_)
        for i in np.flatnonzero(operations == READ).tolist():
            begin = int(offsets[i])
            out[i] = begin in self._ends
            self._ends.pop(begin, None)
            self._ends[begin + int(sizes[i])] = None
            if len(self._ends) > _STREAMS:
                # Whoever has been silent for longest.
                del self._ends[next(iter(self._ends))]
        return out


def _slices(records: np.ndarray, length: int, together: bool) -> list[slice]:
    """Return records in slices of about a length; together: those of one time are in one slice."""
    total = len(records)
    parts = []
    first = 0
    while first < total:
        end = min(first + length, total)
        while together and end < total and records["t_ps"][end] == records["t_ps"][end - 1]:
            end += 1
        parts.append(slice(first, end))
        first = end
    return parts


def replay(
    controller: Controller,
    records: np.ndarray,
    *,
    within_ps: int = 100_000_000,
    repeat_ps: int = 0,
    seed: int,
    stream: int,
) -> Program:
    """Return an open loop by recorded times; each command rings its own doorbell, unless theirs are recorded.

    Parameters
    ----------
    records : NVME_DTYPE[n], see `traces.records`, ascending; it is read chunk by chunk. NVME_RUNG_DTYPE[n]:
        commands of a recorded doorbell share one, which is rung at its time.
    repeat_ps : they start over after so long, for ever; 0: they do not.
    """
    total = len(records)
    rung = "bell" in (records.dtype.names or ())
    parts = _slices(records, CHUNK, rung)
    # Where requests are cut, what moves nothing must not count: it may name any number of bytes.
    ops = WRITE if controller.most else ZEROES
    largest = max(
        (int(records["bytes"][part].max(where=records["op"][part] <= ops, initial=0)) for part in parts),
        default=0,
    )
    if controller.most:
        parts = _slices(records, max(CHUNK // commands_of(largest, controller.most), 1), rung)
    batch = 1
    if rung:
        together = (np.unique(records["bell"][part], return_counts=True)[1].max() for part in parts)
        batch = int(max(together, default=1))
    kinds = sorted(set().union(*(np.unique(records["op"][part]).tolist() for part in parts)))
    driver = Driver(
        controller,
        buffers=BUFFERS,
        largest=max(largest, TRIM_BYTES),
        offset=0,
        depth=0,
        within_ps=within_ps,
        batch=batch,
        seed=seed,
        stream=stream,
    )

    def rounds() -> Iterator[tuple[int, slice, bool]]:
        for turn in count() if repeat_ps else range(1):
            for part in parts:
                yield turn, part, not repeat_ps and part.stop >= total

    def work() -> Iterator[Work]:
        streams = _Streams()
        for turn, part, last in rounds():
            taken = records[part]
            if rung:
                taken = taken[np.lexsort((taken["bell"], taken["t_ps"]))]
            n = len(taken)
            known = "queue" in (taken.dtype.names or ())
            queues = taken["queue"] % controller.queues if known else np.zeros(n, np.int64)
            begins = np.arange(n)
            if rung:
                begins = np.flatnonzero(np.diff(taken["bell"], prepend=-1))
            counts = np.diff(begins, append=n)
            yield Work(
                np.stack([counts, queues[begins].astype(np.int64)], axis=1),
                taken["op"].astype(np.uint8),
                np.where(taken["op"] <= WRITE, taken["bytes"], 0).astype(np.int64),
                np.zeros(n, np.int64),
                (turn * total + part.start + np.arange(n)) % BUFFERS,
                taken["t_ps"].astype(np.int64) + turn * repeat_ps,
                last,
                streams.go_on(taken["op"], taken["offset"], taken["bytes"])
                if controller.media_read_ahead
                else np.zeros(n, np.bool_),
            )

    return driver.program(work, kinds, True)
