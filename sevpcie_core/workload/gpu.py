"""GPU jobs as recorded: copies, kernels and their commands, as steps.

Rule: events of one stream are ordered. An event starts at the later of its recorded start and its
predecessor's simulated end plus the recorded gap; kernels keep their recorded duration. Each event's command
is rung in ahead of it (`gpu_commands.py`). The host rings at the recorded time, or later by what the latest
event of the stream that had ended by then is late. Behind a kernel, which nothing waits for, go its fences
and its semaphore.

Latency: a copy, intended start to completion visible; a launch, doorbell to the front end's having it ready
(waiting for earlier work of the stream is no cost of the link).
"""

from collections.abc import Callable, Iterator
from itertools import count, pairwise
from typing import Final, NamedTuple

import numpy as np

from .._jit import kernel
from ..spec import BUFFER_DATA
from .buffers import Allocator
from .gpu_commands import (
    BUFFER_STRIDE,
    D2H_SETUP,
    FIRST_BUFFER,
    H2D_SETUP,
    LEAD,
    SMALL,
    SMALL_SETUP,
    Engine,
    put_commands,
    put_fences,
    put_semaphore,
)
from .gpu_commands import BUFFERS as NUMBER_OF_BUFFERS
from .mix import several
from .program import (
    BEGIN,
    DELAY,
    EARLY1,
    END,
    FOREVER,
    READ_UP,
    STEP,
    WRITE_UP,
    Chunk,
    Program,
    put,
)
from .traces.records import GPU_DTYPE

H2D: Final = 0
D2H: Final = 1
# Work that stays on the device: kernels, copies inside it, memory sets.
WORK: Final = 2

# Host buffers that copies use in turn.
BUFFERS: Final = 4096
# Events per chunk.
_CHUNK: Final = 1024
# How many times the launch lead queued work is rung in ahead; recordings of the device do not show it.
QUEUED_AHEAD: Final = 4
_STAT_LAUNCH: Final = 2


@kernel
def _fill(
    out,
    known,
    t,
    duration,
    kind,
    size,
    stream,
    places,
    numbers,
    order,
    place,
    finish,
    last,
    rank,
    ended,
    closed,
    so_far,
):
    """Write the steps of events; return (steps, longest distance back).  Modified: out, finish to so_far.

    known : so many events at the start have been written before; later ones may wait for them.
    t, duration : int64[n], ps, in recorded order; kind : uint8[n]; size : int64[n], bytes
    stream : int64[n], numbered from 0.
    places, numbers : of `gpu_commands.Engine`.
    order : int64[n], events stream by stream; place : int64[n], where each event stands in it.
    finish : int64[n], by place, recorded end of all events up to this one of its stream, ps.
    last, rank : int64[streams], latest event (-1 at first), number so far; ended, closed : int64[n], step of
    an end and last step of an event, counted from the first of `out`. so_far : int64[3], events, copies,
    requests before those of `out`.
    """
    lead = numbers[LEAD]
    at = 0
    reach = np.int64(0)
    number, copies, request = so_far
    for i in range(known, len(t)):
        before = last[stream[i]]
        last[stream[i]] = i
        copy = kind[i] != WORK
        # The doorbell: at the recorded time, or later by what the stream's latest event that had ended by
        # then is late. Work that followed its predecessor within the lead had been queued: rung in before.
        queued = before >= 0 and t[i] - t[before] - duration[before] < lead
        due = max(t[i] - (QUEUED_AHEAD * lead if queued else lead), np.int64(0))
        first = place[i] - rank[stream[i]]
        if queued and place[before] > first:
            # It was so when its predecessor started, however long that took.
            due = min(due, max(t[before], finish[place[before] - 1]))
        rank[stream[i]] += 1
        low = first
        high = place[i]
        while low < high:
            middle = (low + high) >> 1
            if finish[middle] <= due:
                low = middle + 1
            else:
                high = middle
        finish[place[i]] = max(t[i] + duration[i], finish[place[i] - 1] if place[i] > first else np.int64(0))
        stat = kind[i] if copy else _STAT_LAUNCH
        bell = at
        at = put_commands(out, at, places, numbers, number, not copy, request, stat, not copy, 0)
        out[bell]["not_before_ps"] = due
        if low > first:
            distance = bell - ended[order[low - 1]]
            reach = max(reach, distance)
            out[bell]["after"] = distance
            out[bell]["delay_ps"] = due - finish[low - 1]
        ready = at - 1
        if not copy:
            out[ready]["flags"] = END
            request += 1
        gap = -1
        if before >= 0:
            distance = at - ended[before]
            reach = max(reach, distance)
            pause = max(t[i] - t[before] - duration[before], np.int64(0))
            at = put(out, at, DELAY, 0, 0, 0, -1, stat, 0, distance, pause)
            gap = at - 1
        if copy:
            # Latency counts from here, the intended start, whether the command is there or not.
            at = put(out, at, DELAY, 0, 0, 0, request, stat, BEGIN, 1 if gap >= 0 else 0, 0)
            out[at - 1]["not_before_ps"] = t[i]
            gap = at - 1
            setup = numbers[D2H_SETUP]
            if kind[i] == H2D:
                setup = numbers[SMALL_SETUP] if size[i] <= numbers[SMALL] else numbers[H2D_SETUP]
            at = put(out, at, DELAY, 0, 0, 0, request, stat, 0, at - ready, setup)
        else:
            at = put(out, at, DELAY, 0, 0, 0, -1, stat, 0, at - ready, duration[i])
            out[at - 1]["not_before_ps"] = t[i] if before < 0 else 0
        work = at - 1
        out[work]["after2"] = work - gap if gap >= 0 else 0
        ended[i] = work
        if copy:
            buffer = places[FIRST_BUFFER] + copies % places[NUMBER_OF_BUFFERS] * places[BUFFER_STRIDE]
            copies += 1
            if kind[i] == H2D:
                at = put(out, at, READ_UP, BUFFER_DATA, buffer, size[i], request, stat, 0, 1, 0)
                at = put_semaphore(out, at, places, numbers, number, request, stat, END)
            else:
                at = put(out, at, WRITE_UP, BUFFER_DATA, buffer, size[i], request, stat, 0, 1, 0)
                at = put_semaphore(out, at, places, numbers, number, request, stat, END | EARLY1)
            ended[i] = at - 1
            request += 1
        else:
            at = put_fences(out, at, places, numbers, stat)
            # A posted write follows the fence before on the wire; without one it waits for the kernel.
            at = put_semaphore(out, at, places, numbers, number, -1, stat, EARLY1 if at - 1 > work else 0)
        reach = max(reach, np.int64(at - bell))
        closed[i] = at - 1
        number += 1
    so_far[:] = number, copies, request
    return at, reach


class _Known(NamedTuple):
    """Events that have been written and that later ones may wait for, columns of one length, in order.

    ended : step of the end, counted from the first step to come; finish : see `_fill`.
    """

    t: np.ndarray
    duration: np.ndarray
    stream: np.ndarray
    ended: np.ndarray
    finish: np.ndarray


class _Maker:
    """Makes the steps of a job, batch by batch: the same steps, however its events are cut into batches."""

    def __init__(self, largest: int, buffers: int, engine: Engine) -> None:
        """Lay out memory.

        largest, buffers : bytes of the longest copy, and host buffers that copies use in turn.
        """
        memory = Allocator()
        self._places = engine.places(memory, buffers, largest)
        self.regions = memory.regions()
        self._numbers = engine.numbers
        # Of an event; the others are: gap, start, set-up, data, semaphore of a copy.
        self._most = engine.steps + max(5, engine.launch_fences + 3)
        self._ahead = QUEUED_AHEAD * engine.launch_lead_ps
        nothing = np.empty(0, np.int64)
        self._known = _Known(nothing, nothing, nothing, nothing, nothing)
        self._so_far = np.zeros(3, np.int64)
        self.reach = 0

    def horizon_ps(self, first_ps: int) -> int:
        """Return when the host rings at the earliest for events that start at or after a time."""
        return max(first_ps - self._ahead, 0)

    def steps(
        self, t: np.ndarray, duration: np.ndarray, kinds: np.ndarray, sizes: np.ndarray, streams: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return STEP[k] of the next events, and int64[n]: the last step, of these, of each event."""
        known, new = len(self._known.t), len(t)
        # A copy of nothing moves nothing over the link.
        kinds = kinds.astype(np.uint8)
        kinds = np.where((kinds != WORK) & (sizes == 0), np.uint8(WORK), kinds)
        kinds = np.concatenate([np.zeros(known, np.uint8), kinds])
        t = np.concatenate([self._known.t, np.asarray(t, np.int64)])
        duration = np.concatenate([self._known.duration, np.asarray(duration, np.int64)])
        sizes = np.concatenate([np.zeros(known, np.int64), np.asarray(sizes, np.int64)])
        streams = np.concatenate([self._known.stream, np.asarray(streams, np.int64)])
        dense = np.unique(streams, return_inverse=True)[1].astype(np.int64)
        order = np.argsort(dense, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        finish = np.empty(len(t), np.int64)
        finish[place[:known]] = self._known.finish
        ended = np.empty(len(t), np.int64)
        ended[:known] = self._known.ended
        last = np.full(int(dense.max(initial=0)) + 1, -1, np.int64)
        last[dense[:known]] = np.arange(known)
        rank = np.bincount(dense[:known], minlength=len(last)).astype(np.int64)
        closed = np.zeros(len(t), np.int64)
        out = np.empty(new * self._most, STEP)
        count, reach = _fill(
            out,
            known,
            t,
            duration,
            kinds,
            sizes,
            dense,
            self._places,
            self._numbers,
            order,
            place,
            finish,
            last,
            rank,
            ended,
            closed,
            self._so_far,
        )
        self.reach = max(self.reach, int(reach))
        # Of each stream later events wait for its last one, or for the latest one that has ended when the
        # host rings: not before the last start less the longest lead.
        due = int(t[-1]) - self._ahead if len(t) else 0
        edges = np.searchsorted(dense[order], np.arange(len(last) + 1))
        parts = [np.empty(0, np.int64)]
        for begin, end in pairwise(edges):
            over = int(np.searchsorted(finish[begin:end], due, side="right"))
            parts.append(order[begin + max(over - 1, 0) : end])
        kept = np.concatenate(parts)
        kept.sort()
        self._known = _Known(t[kept], duration[kept], streams[kept], ended[kept] - count, finish[place[kept]])
        return out[:count], closed[known:]


def job(
    *,
    times_ps: np.ndarray,
    durations_ps: np.ndarray,
    kinds: np.ndarray,
    sizes: np.ndarray,
    streams: np.ndarray,
    engine: Engine,
) -> Program:
    """Return the program of a recorded job.

    Parameters
    ----------
    times_ps, durations_ps : int64[n], ascending starts; kinds : uint8[n] of H2D, D2H, WORK.
    sizes : int64[n], bytes (copies); streams : int64[n], any numbers.
    """
    over_link = (kinds != WORK) & (sizes > 0)
    maker = _Maker(
        int(sizes[over_link].max(initial=1)),
        max(1, min(int(over_link.sum()), BUFFERS)),
        engine,
    )
    steps, closed = maker.steps(times_ps, durations_ps, kinds, sizes, streams)
    count = len(steps)
    # Chunks end between events; a step without dependencies may stand in any of them.
    ends = np.append(closed[_CHUNK - 1 : -1 : _CHUNK] + 1, count)
    roots = np.flatnonzero((steps["after"] == 0) & (steps["after2"] == 0))

    def chunks() -> Iterator[Chunk]:
        begin = 0
        for end in ends:
            later = roots[np.searchsorted(roots, end) :]
            horizon = int(steps["not_before_ps"][later].min(initial=FOREVER))
            yield Chunk(steps[begin:end], horizon)
            begin = int(end)

    return Program(
        stats=("h2d", "d2h", "launch"),
        pooled=2,
        chunks=chunks,
        regions=maker.regions,
        reach=maker.reach,
        servers=0,
        open_loop=False,
    )


def repeated(
    *,
    times_ps: np.ndarray,
    durations_ps: np.ndarray,
    kinds: np.ndarray,
    sizes: np.ndarray,
    streams: np.ndarray,
    engine: Engine,
) -> Program:
    """Return the program of a recorded job that starts over when its last event has ended, for ever.

    Parameters as in `job`; the steps are the same until it does. It takes the launch lead at least.
    """
    over_link = (kinds != WORK) & (sizes > 0)
    own = np.empty(len(times_ps), GPU_DTYPE)
    own["t_ps"], own["dur_ps"], own["kind"] = times_ps, durations_ps, kinds
    own["bytes"], own["stream"] = sizes, streams
    span_ps = max(int((times_ps + durations_ps).max()), engine.launch_lead_ps, 1)
    records, period_ps = several(own, span_ps, _CHUNK)
    n = len(records)

    def batches() -> Iterator[np.ndarray]:
        for turn in count():
            for first in range(0, n, _CHUNK):
                batch = records[first : first + _CHUNK].copy()
                batch["t_ps"] += turn * period_ps
                yield batch

    # A doorbell waits for what has ended that long before, at most of the turn before that.
    turns = 3 + QUEUED_AHEAD * engine.launch_lead_ps // period_ps
    return generated(
        batches,
        largest=int(sizes[over_link].max(initial=1)),
        buffers=max(1, min(int(over_link.sum()), BUFFERS)),
        reach_of=turns * n,
        engine=engine,
    )


def generated(
    batches: Callable[[], Iterator[np.ndarray]],
    *,
    largest: int,
    buffers: int,
    reach_of: int,
    engine: Engine,
) -> Program:
    """Return the program of a job whose records come in batches, without end or with one.

    Parameters
    ----------
    batches : makes a fresh iterator over GPU_DTYPE[n], ascending starts; what `job` is given, in pieces.
    largest, buffers : bytes of the longest copy; host buffers that copies use in turn.
    reach_of : so many records at the start have events that wait for as distant ones as any later.
    The steps are those of `job`.
    """

    def make(maker: _Maker, batch: np.ndarray) -> np.ndarray:
        return maker.steps(batch["t_ps"], batch["dur_ps"], batch["kind"], batch["bytes"], batch["stream"])[0]

    def chunks() -> Iterator[Chunk]:
        maker = _Maker(largest, buffers, engine)
        source = batches()
        batch = next(source, None)
        while batch is not None:
            after = next(source, None)
            horizon = FOREVER if after is None else maker.horizon_ps(int(after["t_ps"][0]))
            yield Chunk(make(maker, batch), horizon)
            batch = after

    trial = _Maker(largest, buffers, engine)
    left = reach_of
    for batch in batches():
        make(trial, batch[:left])
        left -= len(batch)
        if left <= 0:
            break
    return Program(
        stats=("h2d", "d2h", "launch"),
        pooled=2,
        chunks=chunks,
        regions=trial.regions,
        reach=trial.reach,
        servers=0,
        open_loop=False,
    )
