"""NIC: when interrupts come.

Rule: a ring has a counter of frames, a timer, or both. With both, a message is sent for so many frames, or
when so long has passed since the first write-back that none has told of, whichever comes first (Linux,
include/uapi/linux/ethtool.h, struct ethtool_coalesce): the timer only adds messages. A timer alone is
that of Intel's throttle registers (Ethernet Controller I210 datasheet, interrupt moderation, EITR): where
there is something to tell, a message is sent when the interval since the last one has passed, which is at
once where that was long ago.

Which write-backs come before a timer runs out is read off the intended times of the frames; the message then
waits, from the last of them on, for what is left. So on a slower link interrupts move with the write-backs
that they tell of, and never merge.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final, TypeAlias

import numpy as np

from .._jit import kernel
from .program import FOREVER

Frames: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray, int]
"""Intended starts (ps), sizes (bytes), directions, and the start of the next frame after them."""


# Columns of what is kept of a direction: frames counted towards the next interrupt; since when its timer
# runs, ps, which is the last interrupt, or where frames are counted the first write-back that none has told
# of (< 0: there is none).
_COUNTED: Final = 0
_SINCE: Final = 1
NEVER: Final = -1


def untold(moderation_ps: int) -> np.ndarray:
    """Return what is kept of both directions at the start, int64[2, 2]: the first interrupt need not wait."""
    return np.array([[0, -max(moderation_ps, 1)]] * 2)


@kernel
def next_burst(times, directions, i, direction, most, behind):
    """Return when the next frames of a direction come, from frame i on; `behind` where there are none.

    most : of so many that are sent together, the last one tells; 1 in receive.
    """
    n = len(times)
    while i < n and directions[i] != direction:
        i += 1
    last = i
    while last + 1 < n and last + 1 - i < most and directions[last + 1] == direction:
        last += 1
    return times[last] if last < n else behind


@kernel
def wait_to_tell(told, most, count, now, moderation, following):
    """Return how long after what was written last an interrupt follows, ps; NEVER if none does.

    Modified in place: told.

    told : int64[2], of one direction: see the columns above. most : frames of an interrupt; 0: they are not
        counted. moderation : of the timer, ps; 0: there is none.
    count : frames that are written back at `now`. following : when the next ones may be, at the earliest.
    """
    if most == 0 and moderation == 0:
        return np.int64(NEVER)
    counted = told[_COUNTED] + count
    since = told[_SINCE]
    if most > 0:
        if count > 0 and since < 0:
            since = now
        if counted >= most:
            # What is left over is told of, but counts: so many messages in the mean as are asked for.
            told[_COUNTED] = counted % most
            told[_SINCE] = NEVER
            return np.int64(0)
    told[_COUNTED] = counted
    told[_SINCE] = since
    if moderation == 0 or counted == 0 or (most > 0 and since < 0):
        return np.int64(NEVER)
    due = max(since + moderation, now)
    if following < due:
        return np.int64(NEVER)
    told[_COUNTED] = 0
    told[_SINCE] = due if most == 0 else np.int64(NEVER)
    return due - now


def known(frames: Iterator[Frames], bursts: list[int], ahead_ps: int) -> Iterator[tuple[Frames, np.ndarray]]:
    """Yield frames as they are, each with when the next ones of either direction come after them, int64[2].

    What is held is what comes within `ahead_ps`, or before the next frame of the other direction; FOREVER for
    later than that. bursts : frames of each direction that come together.
    """
    held: deque[Frames] = deque()
    # Of each direction: when its next frames come, and how many of those held were searched for them.
    found, searched = [FOREVER, FOREVER], [0, 0]
    for taken in frames:
        held.append(taken)
        while held:
            mine = held[0]
            until = int(mine[0].max(initial=0)) + ahead_ps
            for direction in range(2):
                if searched[direction] <= 1:
                    # What was found is among these; the next ones come behind.
                    found[direction], searched[direction] = FOREVER, 1
                while found[direction] == FOREVER and held[searched[direction] - 1][3] < until:
                    if searched[direction] == len(held):
                        held.append(next(frames))
                    times, _, directions, _ = held[searched[direction]]
                    at = next_burst(times, directions, 0, direction, bursts[direction], np.int64(FOREVER))
                    found[direction] = int(at)
                    searched[direction] += 1
            held.popleft()
            searched = [k - 1 for k in searched]
            yield mine, np.array(found)
