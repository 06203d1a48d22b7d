"""Rows of a small CSV table by the names in its header.

Rule: a column is found by name, never by position; a row with another number of fields is an error.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...errors import FormatError
from .csv_header import check
from .source import lines


class Table:
    """A CSV file opened for reading. Iterate for (line number, fields); `column` finds a field's index.

    Raises: FormatError: from the constructor when the header lacks a required column or names one twice,
    from the iteration when a row is malformed.
    """

    def __init__(self, path: Path, required: Sequence[str]) -> None:
        self._path = path
        self._reader = csv.reader(lines(path), strict=True)
        try:
            self.header = [name.strip() for name in next(self._reader)]
        except csv.Error as error:
            raise FormatError(f"{path}:1: header: {error}; expected columns {', '.join(required)}") from None
        check(path, self.header, required)

    def column(self, name: str) -> int:
        """Return the index of a column, -1 if there is none of this name."""
        return self.header.index(name) if name in self.header else -1

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        width = len(self.header)
        try:
            for row in self._reader:
                if len(row) == width:
                    yield self._reader.line_num, row
                elif row:
                    raise FormatError(
                        f"{self._path}:{self._reader.line_num}: {len(row)} fields; "
                        f"expected {width} as in the header"
                    )
        except csv.Error as error:
            raise FormatError(f"{self._path}:{self._reader.line_num}: {error}; expected a CSV row") from None
