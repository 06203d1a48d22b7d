"""Opening a trace file: gzip or not, found by content, read piece by piece.

Rule: whatever is wrong with the bytes (missing, empty, truncated, not text) leaves this module as one
FormatError that names the file; nothing else escapes.
"""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from ...errors import FormatError

GZIP_MAGIC = b"\x1f\x8b"
MAX_LINE = 1 << 16
MAX_BACKSTEP_PS = 10**12
"""Several queues mix records by microseconds; a second means another clock or a broken file."""
MAX_SPAN_PS = 2**62
"""Longest trace, about 53 days: twice of it still fits in int64."""


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading its (unzipped) bytes; errors while it is open become FormatError."""
    try:
        with path.open("rb") as raw:
            magic = raw.read(2)
            raw.seek(0)
            if magic == GZIP_MAGIC:
                with gzip.open(raw) as unzipped:
                    yield cast(BinaryIO, unzipped)
            else:
                yield raw
    except FileNotFoundError:
        raise FormatError(f"{path}: no such file; expected a trace file") from None
    except IsADirectoryError:
        raise FormatError(f"{path}: is a folder; expected a trace file") from None
    except EOFError:
        raise FormatError(f"{path}: gzip data ends early; expected a complete gzip file") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise FormatError(f"{path}: damaged gzip data ({error}); expected a complete gzip file") from None
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}; expected a readable trace file") from None


def head(path: Path, size: int) -> bytes:
    """Return the first `size` unzipped bytes, fewer if the file is shorter.

    Raises: FormatError: the file cannot be read, or holds nothing.
    """
    with opened(path) as file:
        start = file.read(size)
    if not start:
        raise FormatError(f"{path}: empty file; expected a trace")
    return start


def lines(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 text file, with their line ends.

    Raises: FormatError: the file cannot be read, is not UTF-8 text, or has a line of MAX_LINE characters.
    """
    number = 0
    with opened(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        try:
            while line := text.readline(MAX_LINE):
                number += 1
                if len(line) == MAX_LINE:
                    raise FormatError(
                        f"{path}:{number}: a line of {MAX_LINE} characters or more; expected text"
                    )
                if "\0" in line:
                    raise FormatError(f"{path}:{number}: a NUL character; expected text")
                yield line
        except UnicodeDecodeError:
            raise FormatError(f"{path}:{number + 1}: bytes that are not UTF-8; expected text") from None
    if number == 0:
        raise FormatError(f"{path}: empty file; expected a trace")


def whole_numbers(path: Path, text: list[str], rows: list[int], field: str) -> NDArray[np.int64]:
    """Return `text` as int64[n], each a decimal number of 0 or more.

    Parameters: rows: line number of each text, for the message. field: the column's name.
    Raises: FormatError: naming the first line that breaks the rule.
    """
    try:
        values = np.array(text, dtype=np.int64)
        good = bool((values >= 0).all())
    except (ValueError, OverflowError):
        good = False
    if not good:
        for row, item in zip(rows, text, strict=True):
            if not (item.strip().isascii() and item.strip().isdigit()) or int(item) >= 2**62:
                raise FormatError(
                    f"{path}:{row}: {field}: {item[:40]!r}; expected a whole number of 0 or more"
                )
    return values


def times_ps(path: Path, text: list[str], rows: list[int], field: str) -> NDArray[np.int64]:
    """Return microseconds, fractions allowed, as ps, int64[n]; parameters and errors as `whole_numbers`."""
    try:
        values = np.array(text, dtype=np.float64)
        good = bool(((values >= 0) & (values * 1e6 < MAX_SPAN_PS)).all())
    except ValueError:
        good = False
    if not good:
        for row, item in zip(rows, text, strict=True):
            try:
                fine = 0 <= float(item) * 1e6 < MAX_SPAN_PS
            except ValueError:
                fine = False
            if not fine:
                raise FormatError(f"{path}:{row}: {field}: {item[:40]!r}; expected microseconds of 0 or more")
    return np.rint(values * 1e6).astype(np.int64)


def time_order(t_ps: NDArray[np.int64], place: Callable[[int], str]) -> NDArray[np.intp]:
    """Return the stable order of recorded times.

    Parameters: t_ps: int64[n], ps. place: names the field of a record, for the message.
    Raises: FormatError: a record lies more than MAX_BACKSTEP_PS before one above it.
    """
    behind = np.maximum.accumulate(t_ps) - t_ps
    if behind.size and behind.max() > MAX_BACKSTEP_PS:
        first = int(np.argmax(behind > MAX_BACKSTEP_PS))
        raise FormatError(
            f"{place(first)}: {behind[first] / 1e12:.3f} s before an earlier record; expected times in order"
        )
    return np.argsort(t_ps, kind="stable")
