"""GPU jobs as recorded: copies, kernels and their commands, as steps.

Rule: events of one stream are ordered. An event starts at the later of its recorded start and its
predecessor's simulated end plus the recorded gap; kernels keep their recorded duration. Each event's command
is rung in ahead of it: a doorbell, a read of the command, and the front end. The host rings at the recorded
time, or later by what the latest event of the stream that had ended by then is late.

Latency: a copy, intended start to completion visible; a launch, doorbell to the front end's having it ready
(waiting for earlier work of the stream is no cost of the link).
"""

from collections.abc import Callable, Iterator
from itertools import count, pairwise
from typing import Final, NamedTuple

import numpy as np

from .._jit import kernel
from ..spec import BUFFER_DATA, BUFFER_MMIO, BUFFER_QUEUE
from .buffers import BAR_ADDRESS, Allocator
from .mix import several
from .program import (
    BEGIN,
    DELAY,
    EARLY1,
    END,
    FOREVER,
    READ_UP,
    STEP,
    WRITE_DOWN,
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

DOORBELL: Final = BAR_ADDRESS + 0x90
DOORBELL_BYTES: Final = 8
COMMAND_ENTRIES: Final = 1024
SEMAPHORES: Final = 1024
# Host buffers that copies use in turn.
BUFFERS: Final = 4096
_STEPS: Final = 8
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
    addresses,
    device,
    order,
    place,
    finish,
    last,
    rank,
    ended,
    so_far,
):
    """Write the steps of events; return (steps, longest distance back).  Modified: out, finish to so_far.

    known : so many events at the start have been written before; later ones may wait for them.
    t, duration : int64[n], ps, in recorded order; kind : uint8[n]; size : int64[n], bytes
    stream : int64[n], numbered from 0.
    addresses : int64[5], command queue, semaphores, first buffer, distance of buffers, their number.
    device : int64[5], copy setup ps, semaphore bytes, command bytes, lead ps, front end ps.
    order : int64[n], events stream by stream; place : int64[n], where each event stands in it.
    finish : int64[n], by place, recorded end of all events up to this one of its stream, ps.
    last, rank : int64[streams], latest event (-1 at first), number so far; ended : int64[n], step of an end,
    counted from the first of `out`. so_far : int64[3], events, copies, requests before those of `out`.
    """
    setup, semaphore, command, lead, front_end = device
    at = 0
    reach = np.int64(_STEPS)
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
        flags = 0 if copy else BEGIN
        stat = kind[i] if copy else _STAT_LAUNCH
        at = put(out, at, WRITE_DOWN, BUFFER_MMIO, DOORBELL, DOORBELL_BYTES, request, stat, flags, 0, 0)
        out[at - 1]["not_before_ps"] = due
        if low > first:
            distance = at - 1 - ended[order[low - 1]]
            reach = max(reach, distance)
            out[at - 1]["after"] = distance
            out[at - 1]["delay_ps"] = due - finish[low - 1]
        entry = addresses[0] + number % COMMAND_ENTRIES * command
        at = put(out, at, READ_UP, BUFFER_QUEUE, entry, command, request, stat, 0, 1, 0)
        at = put(out, at, DELAY, 0, 0, 0, request, stat, 0 if copy else END, 1, front_end)
        ready = at - 1
        if not copy:
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
            at = put(out, at, DELAY, 0, 0, 0, request, stat, 0, at - ready, setup)
        else:
            at = put(out, at, DELAY, 0, 0, 0, -1, stat, 0, at - ready, duration[i])
            out[at - 1]["not_before_ps"] = t[i] if before < 0 else 0
        work = at - 1
        out[work]["after2"] = work - gap if gap >= 0 else 0
        ended[i] = work
        if copy:
            buffer = addresses[2] + copies % addresses[4] * addresses[3]
            copies += 1
            done = addresses[1] + number % SEMAPHORES * semaphore
            if kind[i] == H2D:
                at = put(out, at, READ_UP, BUFFER_DATA, buffer, size[i], request, stat, 0, 1, 0)
                at = put(out, at, WRITE_UP, BUFFER_QUEUE, done, semaphore, request, stat, END, 1, 0)
            else:
                at = put(out, at, WRITE_UP, BUFFER_DATA, buffer, size[i], request, stat, 0, 1, 0)
                at = put(out, at, WRITE_UP, BUFFER_QUEUE, done, semaphore, request, stat, END | EARLY1, 1, 0)
            ended[i] = at - 1
            request += 1
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

    def __init__(self, largest: int, buffers: int, device: tuple[int, int, int, int, int]) -> None:
        """Lay out memory.

        largest, buffers : bytes of the longest copy, and host buffers that copies use in turn.
        device : as in `_fill`.
        """
        _, semaphore_bytes, pushbuffer_bytes, lead, _ = device
        memory = Allocator()
        self._addresses = np.array(
            [
                memory.queue(COMMAND_ENTRIES * pushbuffer_bytes),
                memory.queue(SEMAPHORES * semaphore_bytes),
                *memory.data(buffers, largest),
                buffers,
            ]
        )
        self.regions = memory.regions()
        self._device = np.array(device)
        self._ahead = QUEUED_AHEAD * lead
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
        """Return STEP[k] of the next events, and int64[n]: the step, of these, that each event ends with."""
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
        out = np.empty(new * _STEPS, STEP)
        count, reach = _fill(
            out,
            known,
            t,
            duration,
            kinds,
            sizes,
            dense,
            self._addresses,
            self._device,
            order,
            place,
            finish,
            last,
            rank,
            ended,
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
        return out[:count], ended[known:]


def job(
    *,
    times_ps: np.ndarray,
    durations_ps: np.ndarray,
    kinds: np.ndarray,
    sizes: np.ndarray,
    streams: np.ndarray,
    copy_setup_ps: int,
    semaphore_bytes: int,
    pushbuffer_bytes: int,
    launch_lead_ps: int,
    front_end_ps: int,
) -> Program:
    """Return the program of a recorded job.

    Parameters
    ----------
    times_ps, durations_ps : int64[n], ascending starts; kinds : uint8[n] of H2D, D2H, WORK.
    sizes : int64[n], bytes (copies); streams : int64[n], any numbers.
    copy_setup_ps : from start to the copy engine's first request; front_end_ps : command read to work ready.
    launch_lead_ps : how long before an event's start its command is rung in.
    """
    over_link = (kinds != WORK) & (sizes > 0)
    maker = _Maker(
        int(sizes[over_link].max(initial=1)),
        max(1, min(int(over_link.sum()), BUFFERS)),
        (copy_setup_ps, semaphore_bytes, pushbuffer_bytes, launch_lead_ps, front_end_ps),
    )
    steps, ended = maker.steps(times_ps, durations_ps, kinds, sizes, streams)
    count = len(steps)
    # Chunks end between events; a step without dependencies may stand in any of them.
    ends = np.append(ended[_CHUNK - 1 : -1 : _CHUNK] + 1, count)
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
    copy_setup_ps: int,
    semaphore_bytes: int,
    pushbuffer_bytes: int,
    launch_lead_ps: int,
    front_end_ps: int,
) -> Program:
    """Return the program of a recorded job that starts over when its last event has ended, for ever.

    Parameters as in `job`; the steps are the same until it does. It takes the launch lead at least.
    """
    over_link = (kinds != WORK) & (sizes > 0)
    own = np.empty(len(times_ps), GPU_DTYPE)
    own["t_ps"], own["dur_ps"], own["kind"] = times_ps, durations_ps, kinds
    own["bytes"], own["stream"] = sizes, streams
    records, period_ps = several(own, max(int((times_ps + durations_ps).max()), launch_lead_ps, 1), _CHUNK)
    n = len(records)

    def batches() -> Iterator[np.ndarray]:
        for turn in count():
            for first in range(0, n, _CHUNK):
                batch = records[first : first + _CHUNK].copy()
                batch["t_ps"] += turn * period_ps
                yield batch

    # A doorbell waits for what has ended that long before, at most of the turn before that.
    turns = 3 + QUEUED_AHEAD * launch_lead_ps // period_ps
    return generated(
        batches,
        largest=int(sizes[over_link].max(initial=1)),
        buffers=max(1, min(int(over_link.sum()), BUFFERS)),
        reach_of=turns * n,
        copy_setup_ps=copy_setup_ps,
        semaphore_bytes=semaphore_bytes,
        pushbuffer_bytes=pushbuffer_bytes,
        launch_lead_ps=launch_lead_ps,
        front_end_ps=front_end_ps,
    )


def generated(
    batches: Callable[[], Iterator[np.ndarray]],
    *,
    largest: int,
    buffers: int,
    reach_of: int,
    copy_setup_ps: int,
    semaphore_bytes: int,
    pushbuffer_bytes: int,
    launch_lead_ps: int,
    front_end_ps: int,
) -> Program:
    """Return the program of a job whose records come in batches, without end or with one.

    Parameters
    ----------
    batches : makes a fresh iterator over GPU_DTYPE[n], ascending starts; what `job` is given, in pieces.
    largest, buffers : bytes of the longest copy; host buffers that copies use in turn.
    reach_of : so many records at the start have events that wait for as distant ones as any later.
    The others as in `job`: the steps are the same, too.
    """
    device = (copy_setup_ps, semaphore_bytes, pushbuffer_bytes, launch_lead_ps, front_end_ps)

    def make(maker: _Maker, batch: np.ndarray) -> np.ndarray:
        return maker.steps(batch["t_ps"], batch["dur_ps"], batch["kind"], batch["bytes"], batch["stream"])[0]

    def chunks() -> Iterator[Chunk]:
        maker = _Maker(largest, buffers, device)
        source = batches()
        batch = next(source, None)
        while batch is not None:
            after = next(source, None)
            horizon = FOREVER if after is None else maker.horizon_ps(int(after["t_ps"][0]))
            yield Chunk(make(maker, batch), horizon)
            batch = after

    trial = _Maker(largest, buffers, device)
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
