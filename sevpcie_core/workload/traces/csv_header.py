"""The first line of a CSV trace: which column is where.

Rule: a column is found by name, never by position.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

from ...errors import FormatError
from .lines import header


class Header:
    """Names of the columns. Raises FormatError: a required one is missing, or there twice."""

    def __init__(self, path: Path, required: Sequence[str]) -> None:
        try:
            self.names = [name.strip() for name in next(csv.reader([header(path)], strict=True), [])]
        except csv.Error as error:
            raise FormatError(f"{path}:1: header: {error}; expected columns {', '.join(required)}") from None
        check(path, self.names, required)
        self.width = len(self.names)

    def column(self, name: str) -> int:
        """Return the index of a column, -1 if there is none of this name."""
        return self.names.index(name) if name in self.names else -1


def check(path: Path, names: Sequence[str], required: Sequence[str]) -> None:
    """Raise FormatError if a required column is missing or there twice."""
    missing = [name for name in required if name not in names]
    if missing:
        raise FormatError(
            f"{path}:1: header: no column {', '.join(map(repr, missing))}; expected {', '.join(required)}"
        )
    twice = [name for name in required if names.count(name) > 1]
    if twice:
        raise FormatError(f"{path}:1: header: column {twice[0]!r} twice; expected each once")
