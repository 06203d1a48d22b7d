"""What becomes of a malformed record: an error, or a count and some examples.

Rule: a reader reports every record that it cannot use here, and drops none by itself.
"""

from collections.abc import Callable
from typing import Final

from ...errors import FormatError

EXAMPLES: Final = 5


class Bad:
    """Malformed records of one trace.

    Attributes
    ----------
    skip : whether they are left out; else the first one raises. count : how many were.
    examples : messages of the first of them, EXAMPLES at most.
    place : how to name record i of the batch that a reader has just yielded, such as `trace.csv:17`; None
    where the reader does not say. `collect` speaks of order and span with it.
    """

    def __init__(self, skip: bool = False) -> None:
        self.skip = skip
        self.count = 0
        self.examples: list[str] = []
        self.place: Callable[[int], str] | None = None

    def report(self, message: str, count: int = 1) -> None:
        """Leave out `count` records, of which `message` is about the first: file, place, field and reason.

        Raises: FormatError: unless bad records are skipped.
        """
        if not self.skip:
            raise FormatError(message)
        self.count += count
        if len(self.examples) < EXAMPLES:
            self.examples.append(message)
