"""NVMe: what requests are, and the commands that they become.

Rule: arrays in the order of the requests, and nothing of queues; a request of more bytes than a drive takes
in one command (MDTS) is several.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

READ: Final = 0
WRITE: Final = 1
FLUSH: Final = 2
TRIM: Final = 3
ZEROES: Final = 4
KINDS: Final = ("read", "write", "flush", "trim", "zeroes")


@dataclass(frozen=True)
class Work:
    """Consecutive requests: what `nvme_steps` reads of them, see there; batches count requests."""

    batches: np.ndarray
    operations: np.ndarray
    sizes: np.ndarray
    offsets: np.ndarray
    buffers: np.ndarray
    starts: np.ndarray
    last: bool
    ahead: np.ndarray

    def parts(self, most: int) -> np.ndarray:
        """Return how many commands of at most `most` bytes (0: of any) each request is, int64[n]."""
        if not most:
            return np.ones(len(self.operations), np.int64)
        return np.where(self.operations <= WRITE, np.maximum(-(-self.sizes // most), 1), 1)


def in_commands(work: Work, parts: np.ndarray, most: int, room: int) -> tuple[Work, np.ndarray, np.ndarray]:
    """Return work whose rows are commands, and of each its request's place in `work`, and its place in that.

    parts : as `Work.parts`. room : commands that a doorbell submits at most; more are rung in by several.
    """
    of = np.repeat(np.arange(len(parts)), parts)
    if len(of) == len(parts) and work.batches[:, 0].max(initial=0) <= room:
        return work, of, np.zeros(len(of), np.int64)
    part = np.arange(len(of)) - np.repeat(np.cumsum(parts) - parts, parts)
    sizes = work.sizes[of]
    if most:
        sizes = np.where(parts[of] > 1, np.minimum(sizes - part * most, most), sizes)
    begins = np.cumsum(work.batches[:, 0]) - work.batches[:, 0]
    counts = np.add.reduceat(parts, begins) if len(begins) else begins
    pieces = -(-counts // room)
    batch = np.repeat(np.arange(len(counts)), pieces)
    piece = np.arange(len(batch)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    commands = Work(
        np.stack([np.minimum(counts[batch] - piece * room, room), work.batches[batch, 1]], axis=1),
        work.operations[of],
        sizes,
        work.offsets[of],
        work.buffers[of],
        work.starts[of] if len(work.starts) else work.starts,
        work.last,
        work.ahead[of],
    )
    return commands, of, part


def commands_of(size: int, most: int) -> int:
    """Return how many commands of at most `most` bytes (0: of any) move so many."""
    return max(-(-size // most), 1) if most else 1
