"""A program's steps as the TLPs that they are on its link.

Rule: what is cut where follows from addresses, sizes and the link alone, by the cuts that the simulator and
the sealed stream make (`tlp.split`, `tlp.size`); there is no time here. TLPs stand in the order of their
steps, each read request before the completions that answer it, which have its request, class and protection.

A step may be larger than memory, so arrays hold MOST TLPs at most, and a step goes on in the next one.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from .._jit import kernel
from ..spec import HEADER_COMPLETION_BYTES
from ..tlp.size import enables_bytes, lower_address_bytes, request_header_bytes
from ..tlp.split import completion_bytes
from .program import DELAY, READ_UP, WRITE_DOWN, Chunk

# Kinds of TLP.
MWR: Final = 0
MRD: Final = 1
CPLD: Final = 2
KINDS: Final = ("MWr", "MRd", "CplD")

# TLPs of an array: it should stay in the second-level cache.
MOST: Final = 1 << 14

TLP: Final = np.dtype(
    [
        ("address", "i8"),
        ("request", "i8"),
        ("bytes", "u2"),
        ("header", "u1"),
        ("kind", "u1"),
        ("down", "u1"),
        ("buffer", "u1"),
        ("protected", "u1"),
        ("stat", "u1"),
    ]
)
"""One TLP: its first byte; the operation, -1 for what belongs to several; bytes that it carries (MWr, CplD)
or asks for (MRd); bytes of its header, in flit mode with the OHC words other than OHC-C; MWR, MRD or CPLD;
whether it goes to the device; the buffer class and the class of operations of its step; whether it is
protected."""


@dataclass(frozen=True)
class Sizes:
    """What a link cuts by, bytes, as negotiated on it; and whether it is in flit mode.

    completion_bytes : most that the root complex puts into one completion.
    """

    mps: int
    mrrs: int
    rcb: int
    completion_bytes: int
    flit: bool = False


@kernel
def _expand(steps, marks, sizes, flit, place, out):
    """Write the TLPs of steps from a place on until `out` is full; return how many.

    Parameters
    ----------
    steps : STEP[n]; marks : bool[n], which are protected, or bool[0] for none.
    sizes : int64[4], bytes: MPS, MRRS, RCB, most of a completion.
    place : int64[3], the step, the bytes of it that are done, those of its last read request that are not yet
        answered.  Modified in place: n when all is done.
    out : TLP[m].  Modified in place.
    """
    mps, mrrs, rcb, most = sizes
    step, done, unanswered = place
    at = 0
    while step < len(steps) and at < len(out):
        kind = steps[step]["kind"]
        size = steps[step]["bytes"]
        if kind == DELAY or done == size:
            step += 1
            done = np.int64(0)
            continue
        start = steps[step]["address"]
        request = steps[step]["request"]
        buffer = steps[step]["buffer"]
        stat = steps[step]["stat"]
        protected = len(marks) > 0 and marks[step]
        reads = kind == READ_UP
        down = kind == WRITE_DOWN
        while done < size and at < len(out):
            address = start + done
            if not reads:
                what = MWR
                part = min(size - done, mps - (address & (mps - 1)))
                header = request_header_bytes(address) + enables_bytes(address, part, flit)
                done += part
            elif unanswered == 0:
                what = MRD
                part = min(size - done, mrrs - (address & (mrrs - 1)))
                header = request_header_bytes(address) + enables_bytes(address, part, flit)
                unanswered = part
            else:
                what = CPLD
                part = completion_bytes(address, unanswered, most, rcb)
                header = HEADER_COMPLETION_BYTES + lower_address_bytes(address, flit)
                done += part
                unanswered -= part
            out[at]["address"] = address
            out[at]["request"] = request
            out[at]["bytes"] = part
            out[at]["header"] = header
            out[at]["kind"] = what
            out[at]["down"] = down or what == CPLD
            out[at]["buffer"] = buffer
            out[at]["protected"] = protected
            out[at]["stat"] = stat
            at += 1
    place[0] = step
    place[1] = done
    place[2] = unanswered
    return at


def expand(
    chunks: Iterable[Chunk], sizes: Sizes, protect: Callable[[np.ndarray], np.ndarray] | None = None
) -> Iterator[np.ndarray]:
    """Yield the TLPs of a program as TLP[1..MOST], in new arrays.

    Parameters
    ----------
    protect : returns bool[n], which of STEP[n] are protected; None: none is.
    """
    for chunk in chunks:
        marks = np.empty(0, np.bool_) if protect is None else protect(chunk.steps)
        yield from expand_steps(chunk.steps, sizes, marks)


def expand_steps(steps: np.ndarray, sizes: Sizes, marks: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the TLPs of STEP[n] as TLP[1..MOST], in new arrays; marks : bool[n], or bool[0] for none."""
    cuts = np.array([sizes.mps, sizes.mrrs, sizes.rcb, sizes.completion_bytes])
    place = np.zeros(3, np.int64)
    while place[0] < len(steps):
        out = np.empty(MOST, TLP)
        n = _expand(steps, marks, cuts, sizes.flit, place, out)
        if n:
            yield out[:n]
