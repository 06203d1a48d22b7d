"""Data in the memory of another device: the same program, with its data there instead of in the host's.

Rule: only data go to the peer; queue entries, interrupts and doorbells stay where they are. What a device
writes to the host to tell of its data (a completion entry, a semaphore) waits until they are there: writes
that take different ways are in no order (PCIe Base r6.x, section 2.4.1, holds on one way), so a correct
device or driver flushes between the two. A request that would begin when data were accepted waits too: the
first port takes in more than the way behind it carries, and a closed loop would not be one.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..spec import BUFFER_DATA, BUFFER_QUEUE
from .program import BEGIN, EARLY1, EARLY2, READ_UP, WRITE_UP, Chunk, Program


def with_peer(program: Program, peer: int) -> Program:
    """Return the program with its data in the memory of a device, given by its number in the run."""

    def chunks() -> Iterator[Chunk]:
        # Of the steps before: data that were written there.
        tail = np.zeros(program.reach, np.bool_)
        for chunk in program.chunks():
            steps = chunk.steps.copy()
            data = steps["buffer"] == BUFFER_DATA
            written = data & (steps["kind"] == WRITE_UP)
            steps["server"][written | (data & (steps["kind"] == READ_UP))] = peer
            known = np.concatenate([tail, written])
            tells = (steps["kind"] == WRITE_UP) & (steps["buffer"] == BUFFER_QUEUE)
            tells |= steps["flags"] & BEGIN != 0
            own = len(tail) + np.arange(len(steps))
            for key, flag in (("after", EARLY1), ("after2", EARLY2)):
                distance = steps[key]
                waits = tells & (distance > 0) & known[own - distance]
                steps["flags"][waits] &= ~np.uint16(flag)
            tail = known[len(known) - program.reach :]
            yield Chunk(steps, chunk.horizon_ps)

    return replace(program, chunks=chunks, peers=frozenset([peer]))
