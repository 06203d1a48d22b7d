"""GPU jobs as recorded: copies, kernels and their commands, as steps.

Rule: events of one stream are ordered. An event starts at the later of its recorded start and its
predecessor's simulated end plus the recorded gap; kernels keep their recorded duration. Each event's command
is rung in ahead of it: a doorbell, a read of the command, and the front end. The host rings at the recorded
time, kept relative to the latest event of the stream that had begun by then: a slower job is rung in later.

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
_STEPS: Final = 7
# How many times the launch lead queued work is rung in ahead; recordings of the device do not show it.
_QUEUED_AHEAD: Final = 4
_STAT_LAUNCH: Final = 2


@kernel
def _fill(out, t, duration, kind, size, stream, addresses, device, last, started):
    """Write the steps of a whole job; return (steps, longest distance back).  Modified: out, last, started.

    t, duration : int64[n], ps, in recorded order; kind : uint8[n]; size : int64[n], bytes
    stream : int64[n], numbered from 0.
    addresses : int64[4], command queue, semaphores, first buffer, distance of buffers.
    device : int64[5], copy setup ps, semaphore bytes, command bytes, lead ps, front end ps.
    last : int64[streams], the latest event, -1 at first.
    started : int64[n, 3], per event: step of its work, step of its end, its predecessor in the stream.
    """
    setup, semaphore, command, lead, front_end = device
    at = 0
    reach = np.int64(_STEPS)
    request = 0
    copies = 0
    for i in range(len(t)):
        before = last[stream[i]]
        last[stream[i]] = i
        started[i, 2] = before
        copy = kind[i] != WORK
        # The doorbell: at the recorded time, kept relative to the latest event that had begun by then. Work
        # that followed its predecessor within the lead had been queued: its command was there long before.
        queued = before >= 0 and t[i] - t[before] - duration[before] < lead
        due = max(t[i] - (_QUEUED_AHEAD * lead if queued else lead), np.int64(0))
        anchor = before
        while anchor >= 0 and t[anchor] > due:
            anchor = started[anchor, 2]
        flags = 0 if copy else BEGIN
        stat = kind[i] if copy else _STAT_LAUNCH
        at = put(out, at, WRITE_DOWN, BUFFER_MMIO, _DOORBELL, _DOORBELL_BYTES, request, stat, flags, 0, 0)
        if anchor >= 0:
            distance = at - 1 - started[anchor, 0]
            reach = max(reach, distance)
            out[at - 1]["after"] = distance
            out[at - 1]["flags"] = flags | EARLY1
            out[at - 1]["delay_ps"] = due - t[anchor]
        else:
            out[at - 1]["not_before_ps"] = due
        entry = addresses[0] + i % _COMMAND_ENTRIES * command
        at = put(out, at, READ_UP, BUFFER_QUEUE, entry, command, request, stat, 0, 1, 0)
        at = put(out, at, DELAY, 0, 0, 0, request, stat, 0 if copy else END, 1, front_end)
        ready = at - 1
        if not copy:
            request += 1
        gap = -1
        if before >= 0:
            distance = at - started[before, 1]
            reach = max(reach, distance)
            pause = max(t[i] - t[before] - duration[before], np.int64(0))
            at = put(out, at, DELAY, 0, 0, 0, -1, stat, 0, distance, pause)
            gap = at - 1
        if copy:
            at = put(out, at, DELAY, 0, 0, 0, request, stat, BEGIN, at - ready, setup)
        else:
            at = put(out, at, DELAY, 0, 0, 0, -1, stat, 0, at - ready, duration[i])
        work = at - 1
        out[work]["not_before_ps"] = t[i] if copy or before < 0 else 0
        out[work]["after2"] = work - gap if gap >= 0 else 0
        started[i, 0] = work
        started[i, 1] = work
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
            started[i, 1] = at - 1
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
        np.full(int(dense.max(initial=0)) + 1, -1, np.int64),
        np.full((len(kinds), 3), -1, np.int64),
    )
    steps = steps[:count]

    def chunks() -> Iterator[Chunk]:
        yield Chunk(steps, FOREVER)

    return Program(
        stats=("h2d", "d2h", "launch"),
        pooled=2,
        chunks=chunks,
        regions=memory.regions(),
        reach=int(reach),
        servers=0,
        open_loop=False,
    )
