"""A program: what the application asked of its device, as steps that the simulator and the bits arm both run.

Rule: the simulator knows steps, not devices. A step names what it waits for by the distance back to it.
Requests are numbered from 0 in the order in which they begin; a step without dependencies begins one. Only
steps of the same direction of the same port wait for the early moment of a write, which is when the next
burst may follow it on the wire.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from .._jit import kernel
from ..spec import REGION
from .phase import ALWAYS, Phase
from .phase import FOREVER as FOREVER

# Step kinds.
DELAY: Final = 0
WRITE_UP: Final = 1
READ_UP: Final = 2
WRITE_DOWN: Final = 3

# Flags: which moment of its dependencies a step waits for (default: their end), and its part in its request.
EARLY1: Final = 1
EARLY2: Final = 2
BEGIN: Final = 4
END: Final = 8
MEDIA: Final = 16
# The host's cores copy or cipher.
STAGE: Final = 32

STEP: Final = np.dtype(
    [
        ("address", "i8"),
        ("bytes", "i8"),
        ("not_before_ps", "i8"),
        ("delay_ps", "i8"),
        ("occupy_ps", "i8"),
        ("request", "i8"),
        ("after", "i4"),
        ("after2", "i4"),
        ("server", "i2"),
        ("flags", "u2"),
        ("kind", "u1"),
        ("stat", "u1"),
        ("buffer", "u1"),
        ("pad", "u1"),
    ]
)


@dataclass(frozen=True)
class Chunk:
    """Consecutive steps of a program: whole requests, or a run that stops in between loses what follows.

    steps : STEP[n]; horizon_ps : no step without dependencies in a later chunk starts before it.
    """

    steps: np.ndarray
    horizon_ps: int


@dataclass(frozen=True)
class Program:
    """One device's program.

    stats : names of the request classes that steps' `stat` counts into, in order.
    pooled : how many of the first of them make the device's own row (kernel launches, for one, do not).
    chunks : makes a fresh iterator over the same chunks each time it is called.
    regions : spec.REGION[m] without decisions (`protected` false), ascending.
    reach : no step waits for one further back than this.
    servers : number of servers that DELAY steps occupy. cores : how many of them, the last ones, are not the
        device's but cores of the host.
    open_loop : arrivals are given, so the load and not the device may set the pace.
    phase : when its requests begin.
    peers : the devices that its transfers are with, beside the host.
    background : it runs for as long as the others do: no request of it begins after the end of the last of
        them. Where all are in the background, none of them is.
    """

    stats: tuple[str, ...]
    pooled: int
    chunks: Callable[[], Iterator[Chunk]]
    regions: np.ndarray
    reach: int
    servers: int
    open_loop: bool
    cores: int = 0
    phase: Phase = ALWAYS
    background: bool = False
    peers: frozenset[int] = frozenset()


def idle() -> Program:
    """Return the program of a device that asks for nothing."""
    return Program((), 0, lambda: iter(()), np.zeros(0, REGION), reach=0, servers=0, open_loop=False)


def remembered(program: Program) -> Program:
    """Return the same program with its chunks made once and kept, for several runs; for programs that end."""
    made: list[Chunk] = list(program.chunks())
    return replace(program, chunks=lambda: iter(made))


def until(program: Program, end_ps: int, most: int) -> Program:
    """Return the program without what begins at `end_ps` or later as intended, or after `most` requests.

    Shared steps go with the request that they stand behind.
    """

    def chunks() -> Iterator[Chunk]:
        begun = 0
        for chunk in program.chunks():
            begins = np.flatnonzero(chunk.steps["flags"] & BEGIN)
            late = begins[chunk.steps["not_before_ps"][begins] >= end_ps]
            stops = [*late[:1], *begins[most - begun :][:1]]
            if stops:
                yield Chunk(chunk.steps[: min(stops)], FOREVER)
                return
            begun += len(begins)
            yield chunk

    return replace(program, chunks=chunks)


@kernel
def put(
    out: np.ndarray,
    at: int,
    kind: int,
    buffer: int,
    address: int,
    size: int,
    request: int,
    stat: int,
    flags: int,
    after: int,
    delay_ps: int,
) -> int:
    """Write a step with at most one dependency; return the place of the next.  Modified in place: out."""
    out[at]["kind"] = kind
    out[at]["buffer"] = buffer
    out[at]["address"] = address
    out[at]["bytes"] = size
    out[at]["request"] = request
    out[at]["stat"] = stat
    out[at]["flags"] = flags
    out[at]["after"] = after
    out[at]["after2"] = 0
    out[at]["delay_ps"] = delay_ps
    out[at]["not_before_ps"] = 0
    out[at]["occupy_ps"] = 0
    out[at]["server"] = -1
    return at + 1
