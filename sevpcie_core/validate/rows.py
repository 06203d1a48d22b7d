"""Rows of reference tables, read cell by cell.

Rule: a cell becomes a number or a FormatError that names file, line and column.
"""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from ..errors import FormatError
from ..workload.traces.table import Table


class Row:
    """Cells of one row, by column; FormatError names file, line and column.

    place : file and line.
    """

    def __init__(self, path: Path, line: int, table: Table, row: list[str]):
        self.place = f"{path}:{line}"
        self._table = table
        self._row = row

    def text(self, name: str) -> str:
        """Return a cell as it stands."""
        return self._row[self._table.column(name)].strip()

    def number(self, name: str, prefix: str = "") -> int:
        """Return a whole number from 0 on, behind a prefix."""
        text = self.text(name).removeprefix(prefix)
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise FormatError(f"{self.place}: {name}: {text!r}; expected a whole number")
        return int(text)

    def size(self, name: str, low: int = 1) -> int:
        """Return a whole number of at least `low`, which may be written 4096.0."""
        text = self.text(name).removesuffix(".0")
        if not (text.isascii() and text.isdigit() and len(text) < 16 and int(text) >= low):
            raise FormatError(
                f"{self.place}: {name}: {self.text(name)!r}; expected a whole number from {low}"
            )
        return int(text)

    def known(self, name: str, value: int, allowed: Collection[int]) -> None:
        """Raise FormatError for a value that is not one of those allowed."""
        if value not in allowed:
            words = ", ".join(map(str, allowed))
            raise FormatError(f"{self.place}: {name}: {value}; expected one of {words}")

    def value(self, name: str, zero: bool = False) -> float:
        """Return a positive number; with `zero`, or 0."""
        text = self.text(name)
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not (0 < value < float("inf") or (zero and value == 0)):
            words = "0 or more" if zero else "above 0"
            raise FormatError(f"{self.place}: {name}: {text!r}; expected a number {words}")
        return value


def rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a table that has these columns. Raises FormatError: it has not, or cannot be read."""
    table = Table(path, columns)
    for line, row in table:
        yield Row(path, line, table, row)
