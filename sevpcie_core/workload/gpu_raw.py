"""Raw traffic of a GPU: loads and stores of its threads straight over the link, and copies back to back.

Rule: nothing but the transfer and what it takes to ask for it. Zero-copy accesses are the DMA device of
`dma.py`, which the measurements of a GPU were compared with; here it only gets a GPU's names. Copies go
through the copy engines as those of jobs do (`gpu.py`): command (`gpu_commands.py`), set-up, data, semaphore.

A direction has one copy engine, which does one copy at a time: the set-up of a copy begins when the data of
the one before have been read, or been accepted by the port. With a queue the commands of later copies are
there by then. A slot of the queue rings for its next copy when the host sees the semaphore of its last one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np

from .._jit import kernel
from ..spec import BUFFER_DATA
from .buffers import Allocator
from .dma import MOST, Dma, Kind, Pattern
from .gpu import BUFFERS, D2H, H2D
from .gpu_commands import (
    BUFFER_STRIDE,
    D2H_PAUSE,
    D2H_SETUP,
    FIRST_BUFFER,
    H2D_SETUP,
    Engine,
    put_commands,
    put_semaphore,
)
from .gpu_commands import BUFFERS as NUMBER_OF_BUFFERS
from .program import (
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

Access = Literal["load", "store", "both"]
Direction = Literal["h2d", "d2h", "both"]

# A load of a thread fetches one sector of its cache line at least (CUDA C++ Programming Guide, device memory
# accesses: transactions of 32 bytes).
SECTOR_BYTES: Final = 32
_KINDS: Final[dict[Access, Kind]] = {"load": "read", "store": "write", "both": "both"}

# Copies per chunk: the ring of steps in flight should stay in the cache.
_CHUNK: Final = 256
# Of a copy's steps, behind those of its command: set-up, data, semaphore.
_REST: Final = 3


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

    def program(self, count: int, engine: Engine) -> Program:
        """Return the steps of so many copies."""
        memory = Allocator()
        slots = self.queue_depth * (2 if self.direction == "both" else 1)
        places = engine.places(memory, min(count, max(slots, BUFFERS)), max(self.sizes), launches=False)
        each = engine.steps + _REST
        sizes = np.array(self.sizes, np.int64)
        both = self.direction == "both"
        only = D2H if self.direction == "d2h" else H2D

        def chunks() -> Iterator[Chunk]:
            first = 0
            while first < count:
                # All root steps are in the first chunk.
                n = min(max(_CHUNK, slots if first == 0 else 0), count - first)
                out = np.empty(n * each, STEP)
                _fill(out, first, n, both, only, sizes, slots, each, places, engine.numbers)
                yield Chunk(out, FOREVER)
                first += n

        return Program(
            stats=("h2d", "d2h"),
            pooled=2,
            chunks=chunks,
            regions=memory.regions(),
            reach=slots * each,
            servers=0,
            open_loop=False,
        )


@kernel
def _fill(out, first, count, both, only, sizes, slots, each, places, numbers):
    """Write the steps of consecutive copies.  Modified in place: out, STEP[each * count].

    sizes : int64[k], bytes, by turns.
    both : directions take turns, to the device first; else `only` one. slots : distance of a slot's copies.
    each : steps of a copy. places, numbers : of `gpu_commands.Engine`.
    """
    turn = 2 if both else 1
    at = 0
    for i in range(count):
        copy = first + i
        stat = copy & 1 if both else only
        # The host sees the semaphore of the slot's last copy, its last step.
        after = (slots - 1) * each + 1 if copy >= slots else 0
        at = put_commands(out, at, places, numbers, copy, False, copy, stat, True, after)
        # The engine is free behind the data before. What it has written it hears no more of.
        flags = EARLY2 if stat == D2H else 0
        setup = numbers[D2H_PAUSE] + numbers[D2H_SETUP] if stat == D2H else numbers[H2D_SETUP]
        at = put(out, at, DELAY, 0, 0, 0, copy, stat, flags, 1, setup)
        out[at - 1]["after2"] = turn * each - 1 if copy >= turn else 0
        buffer = places[FIRST_BUFFER] + copy % places[NUMBER_OF_BUFFERS] * places[BUFFER_STRIDE]
        kind = READ_UP if stat == H2D else WRITE_UP
        size = sizes[copy // turn % len(sizes)]
        at = put(out, at, kind, BUFFER_DATA, buffer, size, copy, stat, 0, 1, 0)
        early = EARLY1 if stat == D2H else 0
        at = put_semaphore(out, at, places, numbers, copy, copy, stat, END | early)
    return at
