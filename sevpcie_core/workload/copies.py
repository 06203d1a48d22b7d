"""How long a GPU's copy takes on a host, in closed form: plain, and through a bounce buffer.

Rule: few physical times and rates, no curve and no table by size. The bounce buffer's staging is the scheme's
(`bounce.Staging`); what a host adds to it (shared memory, caches, synchronous calls) stands beside it.

Times are ps, sizes bytes, rates bits per second; results are floats, for they are compared, not simulated.
"""

import math
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from .bounce import Staging

Direction: TypeAlias = Literal["h2d", "d2h"]
Memory: TypeAlias = Literal["pinned", "pageable"]

_PS_PER_S: Final = 10**12
_BISECTIONS: Final = 60


@dataclass(frozen=True)
class PlainCopies:
    """A host without bounce buffers.

    submit_ps : the CPU hands over one copy of many in this time, while earlier ones run.
    setup_ps, rate_bps : of the copy engine, by direction.
    pageable_setup_ps, pageable_rate_bps : of one synchronous copy of memory that the driver has to stage.
    piece_bytes : of the driver's staging of copies to the host.
    inline_bytes, inline_rate_bps : up to this size the CPU writes pageable memory into the command stream.
    """

    submit_ps: int
    setup_ps: dict[Direction, int]
    rate_bps: dict[Direction, int]
    pageable_setup_ps: dict[Direction, int]
    pageable_rate_bps: dict[Direction, int]
    piece_bytes: int
    inline_bytes: int
    inline_rate_bps: int


@dataclass(frozen=True)
class BounceCopies:
    """What a bounce buffer of ciphertext adds.

    staging : what one core does with data in its cache.
    shared_rate_bps : at which what is staged moves between cache and shared memory, beside the cipher.
    cache_bytes : what a copy that is repeated finds in the cache; memory_rate_bps : at which the core takes
    what it does not find there.
    pageable_setup_ps : of a synchronous copy, more than without a bounce buffer.
    """

    staging: Staging
    shared_rate_bps: int
    cache_bytes: int
    memory_rate_bps: int
    pageable_setup_ps: int


def copy_ps(
    plain: PlainCopies, bounce: BounceCopies | None, direction: Direction, memory: Memory, size: int
) -> float:
    """Return how long a copy takes.

    Parameters
    ----------
    bounce : None for a plain copy. direction : to (h2d) or from (d2h) the device.
    memory : pinned: one of many copies of one buffer, which are queued; pageable: one synchronous copy of a
    buffer that is not in the cache.
    """
    dma = _move(size, plain.rate_bps[direction])
    inline = memory == "pageable" and direction == "h2d" and size <= plain.inline_bytes
    if inline:
        dma = _move(size, plain.inline_rate_bps)
    if bounce is None:
        if memory == "pinned":
            return max(plain.submit_ps, plain.setup_ps[direction] + dma)
        setup = plain.pageable_setup_ps[direction]
        if inline:
            return setup + dma
        # The driver stages pieces by copies that are slower than the link, behind which DMA hides: but for
        # the first piece from the device. The last one to it is on its way when the call returns.
        first = _move(min(size, plain.piece_bytes), plain.rate_bps["d2h"]) if direction == "d2h" else 0.0
        return setup + _move(size, plain.pageable_rate_bps[direction]) + first
    # One piece after the other, each staged and then moved: in all, staging plus DMA.
    staged = bounce.staging.time_ps(size, 1) + _move(size, bounce.shared_rate_bps)
    missed = size * (1 - cyclic_hits(size, bounce.cache_bytes) if memory == "pinned" else 1.0)
    fetch = _move(missed, bounce.memory_rate_bps)
    if memory == "pinned":
        return plain.setup_ps[direction] + staged + fetch + dma
    return plain.pageable_setup_ps[direction] + bounce.pageable_setup_ps + staged + fetch + dma


def cyclic_hits(size: int, cache_bytes: int) -> float:
    """Return the share of a buffer that a sweep over it finds in the cache, when sweeps repeat.

    Notes
    -----
    With random replacement a line is still there after a sweep of n lines, of which the share 1 - h missed,
    with the probability (1 - 1/C)^((1 - h) n); of the solutions of h = exp(-(1 - h) n / C) the one below 1 is
    stable where the buffer does not fit. An LRU cache would lose everything at once, which is not what
    measured copies do.
    """
    ratio = size / cache_bytes
    if ratio <= 1:
        return 1.0
    # Below the maximum of h - exp(-(1 - h) ratio) there is one zero.
    low, high = 0.0, 1 - math.log(ratio) / ratio
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if middle < math.exp(-(1 - middle) * ratio):
            low = middle
        else:
            high = middle
    return low


def _move(size: float, rate_bps: int) -> float:
    return 8 * size * _PS_PER_S / rate_bps
