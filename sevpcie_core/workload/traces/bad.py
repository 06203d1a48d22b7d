"""What becomes of a record that is not replayed: an error, or a count and some examples.

Rule: a reader reports every record that it cannot use here, and drops none by itself. What is sound and yet
not replayed, or not as it was, is counted here too.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from ...errors import FormatError

# Smaller copies are as fast as those of pinned memory, or lie in the commands (data/traces/gpu/README.md).
PAGEABLE_BYTES: Final = 1 << 16
EXAMPLES: Final = 5
_SHOWN: Final = 8
"""Most drives that are named."""


class Bad:
    """Malformed records of one trace.

    Attributes
    ----------
    skip : whether they are left out; else the first one raises. count : how many were.
    examples : messages of the first of them, EXAMPLES at most.
    place : how to name record i of the batch that a reader has just yielded, such as `trace.csv:17`; None
    where the reader does not say. `collect` speaks of order and span with it.
    aside : sound packets that are of another adapter, how many by why. gpus : whose work was found; drives :
    whose requests, as major and minor number. large, largest : frames that no Ethernet carries as one, and
    the bytes of the largest. pageable : copies of PAGEABLE_BYTES or more of a GPU from or to pageable memory.
    They are counted as far as the file was read, which may be shortly behind the last record that is taken.
    """

    def __init__(self, skip: bool = False) -> None:
        self.skip = skip
        self.count = 0
        self.examples: list[str] = []
        self.place: Callable[[int], str] | None = None
        self.aside: Counter[str] = Counter()
        self.gpus: set[int] = set()
        self.drives: set[tuple[int, int]] = set()
        self.pageable = 0
        self.large = self.largest = 0

    def report(self, message: str, count: int = 1) -> None:
        """Leave out `count` records, of which `message` is about the first: file, place, field and reason.

        Raises: FormatError: unless bad records are skipped.
        """
        if not self.skip:
            raise FormatError(message)
        self.count += count
        if len(self.examples) < EXAMPLES:
            self.examples.append(message)

    def notes(self) -> Iterator[str]:
        """Yield in what a replay of the sound records is not what was recorded."""
        for why, count in self.aside.items():
            yield f"left out: {count} {'packet' if count == 1 else 'packets'} {why}"
        if self.large:
            frames = "1 frame" if self.large == 1 else f"{self.large} frames"
            made = "which segmentation offload or a loopback made"
            yield f"{frames} of up to {self.largest} B, {made}: an adapter has several on its line for each"
        if len(self.gpus) > 1:
            gpus = f"{len(self.gpus)} GPUs ({_listed(sorted(self.gpus))})"
            yield f"work of {gpus} is replayed as that of one GPU, on one link"
        if self.pageable:
            copies = f"{self.pageable} {'copy' if self.pageable == 1 else 'copies'}"
            large = f"{copies} of {PAGEABLE_BYTES >> 10} KiB or more"
            yield f"{large} of pageable memory, which cores of the host move too, take the link's time alone"
        if len(self.drives) > 1:
            drives = ", ".join(f"{major}:{minor}" for major, minor in sorted(self.drives)[:_SHOWN])
            more = ", ..." if len(self.drives) > _SHOWN else ""
            named = f"{len(self.drives)} drives ({drives}{more})"
            yield f"requests of {named} are replayed as those of one drive, on one link"


def _listed(numbers: list[int]) -> str:
    """Return numbers in order as text: `0 to 7` where none between them is missing."""
    if len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers))
