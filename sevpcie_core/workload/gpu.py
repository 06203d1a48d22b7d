"""GPU jobs as recorded: copies, kernels and their commands, as steps.

Rule: events of one stream are ordered. An event starts at the later of its recorded start and its
predecessor's simulated end plus the recorded gap; kernels keep their recorded duration. Each event's command
is rung in ahead of it: a doorbell, a read of the command, and the front end. The host rings at the recorded
time, or later by what the latest event of the stream that had ended by then is late.

Latency: a copy, intended start to completion visible; a launch, doorbell to the front end's having it ready
(waiting for earlier work of the stream is no cost of the link).
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from .._jit import kernel
from ..spec import BUFFER_DATA, BUFFER_MMIO, BUFFER_QUEUE
from .buffers import BAR_ADDRESS, Allocator
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

H2D: Final = 0
D2H: Final = 1
# Work that stays on the device: kernels, copies inside it, memory sets.
WORK: Final = 2

_DOORBELL: Final = BAR_ADDRESS + 0x90
_DOORBELL_BYTES: Final = 8
_COMMAND_ENTRIES: Final = 1024
_SEMAPHORES: Final = 1024
# Host buffers that copies use in turn.
_BUFFERS: Final = 4096
_STEPS: Final = 8
# Events per chunk.
_CHUNK: Final = 1024
# How many times the launch lead queued work is rung in ahead; recordings of the device do not show it.
_QUEUED_AHEAD: Final = 4
_STAT_LAUNCH: Final = 2


@kernel
def _fill(out, t, duration, kind, size, stream, addresses, device, order, place, finish, last, rank, ended):
    """Write the steps of a job; return (steps, longest distance back).  Modified: out, finish to ended.

    t, duration : int64[n], ps, in recorded order; kind : uint8[n]; size : int64[n], bytes
    stream : int64[n], numbered from 0.
    addresses : int64[4], command queue, semaphores, first buffer, distance of buffers.
    device : int64[5], copy setup ps, semaphore bytes, command bytes, lead ps, front end ps.
    order : int64[n], events stream by stream; place : int64[n], where each event stands in it.
    finish : int64[n], by place, recorded end of all events up to this one of its stream, ps.
    last, rank : int64[streams], latest event (-1 at first), number so far; ended : int64[n], step of an end.
    """
    setup, semaphore, command, lead, front_end = device
    at = 0
    reach = np.int64(_STEPS)
    request = 0
    copies = 0
    for i in range(len(t)):
        before = last[stream[i]]
        last[stream[i]] = i
        copy = kind[i] != WORK
        # The doorbell: at the recorded time, or later by what the stream's latest event that had ended by
        # then is late. Work that followed its predecessor within the lead had been queued: rung in before.
        queued = before >= 0 and t[i] - t[before] - duration[before] < lead
        due = max(t[i] - (_QUEUED_AHEAD * lead if queued else lead), np.int64(0))
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
        at = put(out, at, WRITE_DOWN, BUFFER_MMIO, _DOORBELL, _DOORBELL_BYTES, request, stat, flags, 0, 0)
        out[at - 1]["not_before_ps"] = due
        if low > first:
            distance = at - 1 - ended[order[low - 1]]
            reach = max(reach, distance)
            out[at - 1]["after"] = distance
            out[at - 1]["delay_ps"] = due - finish[low - 1]
        entry = addresses[0] + i % _COMMAND_ENTRIES * command
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
            buffer = addresses[2] + copies % _BUFFERS * addresses[3]
            copies += 1
            done = addresses[1] + i % _SEMAPHORES * semaphore
            if kind[i] == H2D:
                at = put(out, at, READ_UP, BUFFER_DATA, buffer, size[i], request, stat, 0, 1, 0)
                at = put(out, at, WRITE_UP, BUFFER_QUEUE, done, semaphore, request, stat, END, 1, 0)
            else:
                at = put(out, at, WRITE_UP, BUFFER_DATA, buffer, size[i], request, stat, 0, 1, 0)
                at = put(out, at, WRITE_UP, BUFFER_QUEUE, done, semaphore, request, stat, END | EARLY1, 1, 0)
            ended[i] = at - 1
            request += 1
    return at, reach


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
    kinds = kinds.astype(np.uint8)
    # A copy of nothing moves nothing over the link.
    kinds = np.where((kinds != WORK) & (sizes == 0), np.uint8(WORK), kinds)
    dense = np.unique(streams, return_inverse=True)[1].astype(np.int64)
    memory = Allocator()
    copies = int((kinds != WORK).sum())
    largest = int(sizes[kinds != WORK].max(initial=1))
    addresses = np.array(
        [
            memory.queue(_COMMAND_ENTRIES * pushbuffer_bytes),
            memory.queue(_SEMAPHORES * semaphore_bytes),
            *memory.data(max(1, min(copies, _BUFFERS)), largest),
        ]
    )
    order = np.argsort(dense, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    ended = np.empty(len(kinds), np.int64)
    steps = np.empty(len(kinds) * _STEPS, STEP)
    count, reach = _fill(
        steps,
        np.ascontiguousarray(times_ps, np.int64),
        np.ascontiguousarray(durations_ps, np.int64),
        kinds,
        np.ascontiguousarray(sizes, np.int64),
        dense,
        addresses,
        np.array([copy_setup_ps, semaphore_bytes, pushbuffer_bytes, launch_lead_ps, front_end_ps]),
        order,
        place,
        np.empty(len(kinds), np.int64),
        np.full(int(dense.max(initial=0)) + 1, -1, np.int64),
        np.zeros(int(dense.max(initial=0)) + 1, np.int64),
        ended,
    )
    steps = steps[:count]
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
        regions=memory.regions(),
        reach=int(reach),
        servers=0,
        open_loop=False,
    )
