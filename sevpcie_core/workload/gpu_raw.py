"""Raw traffic of a GPU: loads and stores of its threads straight over the link, and copies back to back.

Rule: nothing but the transfer and what it takes to ask for it. Zero-copy accesses are the DMA device of
`dma.py`, which the measurements of a GPU were compared with; here it only gets a GPU's names. Copies go
through the copy engines as those of jobs do (`gpu.py`): doorbell, command, front end, set-up, data,
semaphore.

A direction has one copy engine, which does one copy at a time: the set-up of a copy begins when the data of
the one before have been read, or been accepted by the port. With a queue the commands of later copies are
there by then. A slot of the queue rings for its next copy when the host sees the semaphore of its last one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np

from .._jit import kernel
from ..spec import BUFFER_DATA, BUFFER_MMIO, BUFFER_QUEUE
from .buffers import Allocator
from .dma import MOST, Dma, Kind, Pattern
from .gpu import BUFFERS, COMMAND_ENTRIES, D2H, DOORBELL, DOORBELL_BYTES, H2D, SEMAPHORES
from .program import (
    BEGIN,
    DELAY,
    EARLY1,
    EARLY2,
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

Access = Literal["load", "store", "both"]
Direction = Literal["h2d", "d2h", "both"]

# A load of a thread fetches one sector of its cache line at least (CUDA C++ Programming Guide, device memory
# accesses: transactions of 32 bytes).
SECTOR_BYTES: Final = 32
_KINDS: Final[dict[Access, Kind]] = {"load": "read", "store": "write", "both": "both"}

# Copies per chunk: the ring of steps in flight should stay in the cache.
_CHUNK: Final = 256
# Doorbell, command, front end, set-up, data, semaphore.
_STEPS: Final = 6
_SETUP: Final = 3
_DATA: Final = 4
_SEMAPHORE: Final = 5


@dataclass(frozen=True)
class ZeroCopy:
    """Loads and stores of a GPU's threads to memory of the host.

    Attributes
    ----------
    access : both: as many stores as loads. size : bytes of each; a load moves a sector at least.
    concurrency : accesses at once. A thread's next one starts when its last one ends, a store's when the port
        has accepted it. In an open loop these threads take accesses in turn, and an access waits for its own.
    pattern, window : where they go, as in `Dma`.
    read_issue_ps, write_issue_ps, read_setup_ps, write_setup_ps : as in `Dma`.
    inside_ps : of a load, what a round trip takes inside the GPU.
    gap : of an open loop, mean time from one intended start to the next, in 1/1024 ps; 0: a closed loop.
    """

    access: Access
    size: int
    concurrency: int
    pattern: Pattern
    window: int
    read_issue_ps: int
    write_issue_ps: int
    read_setup_ps: int
    write_setup_ps: int
    inside_ps: int
    gap: int = field(default=0, metadata={"sparse": True})

    def moved(self) -> int:
        """Return the bytes that an access moves."""
        return self.size if self.access == "store" else max(self.size, SECTOR_BYTES)

    def dma(self, count: int, request_bytes: int, seed: int, stream: int) -> Dma:
        """Return what `dma.py` does for it. Raises ConfigError, as `Dma`."""
        return Dma(
            kind=_KINDS[self.access],
            size=self.moved(),
            count=min(count, MOST),
            outstanding=self.concurrency,
            read_issue_ps=self.read_issue_ps,
            write_issue_ps=self.write_issue_ps,
            read_setup_ps=self.read_setup_ps,
            write_setup_ps=self.write_setup_ps,
            request_bytes=request_bytes,
            finish_ps=self.inside_ps,
            gap=self.gap,
            pattern=self.pattern,
            window=self.window,
            seed=seed,
            stream=stream,
        )

    def program(self, count: int, request_bytes: int, seed: int, stream: int) -> Program:
        """Return the steps of so many accesses. Parameters: request_bytes : MRRS; seed, stream : of draws."""
        return replace(self.dma(count, request_bytes, seed, stream).program(), stats=("load", "store"))


@dataclass(frozen=True)
class Copies:
    """Copies back to back.

    Attributes
    ----------
    direction : of both, copies to the device and from it by turns, a queue each.
    sizes : bytes, which the copies of a direction have by turns.
    queue_depth : copies that are rung in at once, per direction.
    """

    direction: Direction
    sizes: tuple[int, ...]
    queue_depth: int

    def program(
        self,
        count: int,
        *,
        copy_setup_ps: int,
        semaphore_bytes: int,
        pushbuffer_bytes: int,
        front_end_ps: int,
    ) -> Program:
        """Return the steps of so many copies; the device's numbers are those of `gpu.job`."""
        memory = Allocator()
        slots = self.queue_depth * (2 if self.direction == "both" else 1)
        buffers = min(count, max(slots, BUFFERS))
        addresses = np.array(
            [
                memory.queue(COMMAND_ENTRIES * pushbuffer_bytes),
                memory.queue(SEMAPHORES * semaphore_bytes),
                *memory.data(buffers, max(self.sizes)),
                buffers,
            ]
        )
        device = np.array([copy_setup_ps, semaphore_bytes, pushbuffer_bytes, front_end_ps])
        sizes = np.array(self.sizes, np.int64)
        both = self.direction == "both"
        only = D2H if self.direction == "d2h" else H2D

        def chunks() -> Iterator[Chunk]:
            first = 0
            while first < count:
                # All root steps are in the first chunk.
                n = min(max(_CHUNK, slots if first == 0 else 0), count - first)
                out = np.empty(n * _STEPS, STEP)
                _fill(out, first, n, both, only, sizes, slots, addresses, device)
                yield Chunk(out, FOREVER)
                first += n

        return Program(
            stats=("h2d", "d2h"),
            pooled=2,
            chunks=chunks,
            regions=memory.regions(),
            reach=slots * _STEPS,
            servers=0,
            open_loop=False,
        )


@kernel
def _fill(out, first, count, both, only, sizes, slots, addresses, device):
    """Write the steps of consecutive copies.  Modified in place: out, STEP[6 * count].

    sizes : int64[k], bytes, by turns.
    both : directions take turns, to the device first; else `only` one. slots : distance of a slot's copies.
    addresses : int64[5], command queue, semaphores, first buffer, distance of buffers, their number.
    device : int64[4], set-up ps, semaphore bytes, command bytes, front end ps.
    """
    setup, semaphore, command, front_end = device
    turn = 2 if both else 1
    at = 0
    for i in range(count):
        copy = first + i
        stat = copy & 1 if both else only
        # The host sees the semaphore of the slot's last copy.
        after = slots * _STEPS - _SEMAPHORE if copy >= slots else 0
        at = put(out, at, WRITE_DOWN, BUFFER_MMIO, DOORBELL, DOORBELL_BYTES, copy, stat, BEGIN, after, 0)
        entry = addresses[0] + copy % COMMAND_ENTRIES * command
        at = put(out, at, READ_UP, BUFFER_QUEUE, entry, command, copy, stat, 0, 1, 0)
        at = put(out, at, DELAY, 0, 0, 0, copy, stat, 0, 1, front_end)
        # The engine is free behind the data before. What it has written it hears no more of.
        at = put(out, at, DELAY, 0, 0, 0, copy, stat, EARLY2 if stat == D2H else 0, 1, setup)
        out[at - 1]["after2"] = turn * _STEPS + _SETUP - _DATA if copy >= turn else 0
        buffer = addresses[2] + copy % addresses[4] * addresses[3]
        kind = READ_UP if stat == H2D else WRITE_UP
        size = sizes[copy // turn % len(sizes)]
        at = put(out, at, kind, BUFFER_DATA, buffer, size, copy, stat, 0, 1, 0)
        done = addresses[1] + copy % SEMAPHORES * semaphore
        early = EARLY1 if stat == D2H else 0
        at = put(out, at, WRITE_UP, BUFFER_QUEUE, done, semaphore, copy, stat, END | early, 1, 0)
    return at
