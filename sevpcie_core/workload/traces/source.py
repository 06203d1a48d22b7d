"""Opening a trace file: gzip or not, found by content, read piece by piece.

Rule: whatever is wrong with the bytes (missing, empty, truncated, not text) leaves this module as one
FormatError that names the file; nothing else escapes.
"""

import codecs
import gzip
import io
import math
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from ...errors import FormatError

GZIP_MAGIC = b"\x1f\x8b"
MAX_LINE = 1 << 16
MAX_BACKSTEP_PS = 10**12
"""Several queues mix records by microseconds; a second means another clock or a broken file."""
MAX_SPAN_PS = 2 * 3600 * 10**12
"""Longest trace: the wire position of the simulator counts fractions of a picosecond in 64 bits."""
MAX_CLOCK_PS = 50 * 86400 * 10**12
"""Farthest a record may lie from the first of its file: differences of two such fit in 64 bits."""
MAX_RECORD_BYTES = 2**40
# Below it a float of microseconds still tells picoseconds apart.
_EXACT_PS = 2**53
# Programs such as pandas write 7 as 7.0 where a column has gaps.
_WHOLE = re.compile(r"\s*0*([0-9]+)(?:\.0*)?\s*", re.ASCII)


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading its (unzipped) bytes; errors while it is open become FormatError."""
    try:
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            # It would be read more than once, and a pipe cannot be.
            raise FormatError(f"{path}: a pipe or device; expected a regular file")
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
            where = _not_utf8(path) or number + 1
            raise FormatError(f"{path}:{where}: bytes that are not UTF-8; expected text") from None
    if number == 0:
        raise FormatError(f"{path}: empty file; expected a trace")


def _not_utf8(path: Path) -> int:
    """Return the number of the first line that is not UTF-8, 0 if there is none."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    line = 1
    with opened(path) as file:
        while True:
            piece = file.read(1 << 16)
            try:
                decoder.decode(piece, final=not piece)
            except UnicodeDecodeError as error:
                return line + error.object.count(b"\n", 0, error.start)
            if not piece:
                return 0
            line += piece.count(b"\n")


def whole_numbers(
    path: Path, text: list[str], rows: list[int], field: str, most: int = 2**62
) -> NDArray[np.int64]:
    """Return `text` as int64[n], each a decimal number from 0 to `most`; decimals of a whole number may be 0.

    Parameters: rows: line number of each text, for the message. field: the column's name.
    Raises: FormatError: naming the first line that breaks the rule.
    """
    try:
        values = np.array(text, dtype=np.int64)
        good = _plain(text) and bool(((values >= 0) & (values <= most)).all())
    except (ValueError, OverflowError):
        good = False
    if good:
        return values
    numbers = []
    for row, item in zip(rows, text, strict=True):
        match = _WHOLE.fullmatch(item)
        if match is None:
            raise FormatError(f"{path}:{row}: {field}: {item[:40]!r}; expected a whole number of 0 or more")
        # Far more digits than `most` has: Python would refuse thousands.
        number = int(match[1][:30])
        if number > most:
            raise FormatError(f"{path}:{row}: {field}: {item[:40]!r}; expected at most {most}")
        numbers.append(number)
    return np.array(numbers, dtype=np.int64)


def _plain(text: list[str]) -> bool:
    """Return whether no text has what Python takes for a part of a number and nobody else does: 4_096."""
    joined = "".join(text)
    return joined.isascii() and "_" not in joined


def _microseconds(
    path: Path, text: list[str], rows: list[int], field: str, most: float, expected: str
) -> NDArray[np.float64]:
    """Return `text` as microseconds from 0 to below `most`; parameters and errors as `whole_numbers`."""
    try:
        values = np.array(text, dtype=np.float64)
        good = _plain(text) and bool(((values >= 0) & (values < most)).all())
    except ValueError:
        good = False
    if not good:
        for row, item in zip(rows, text, strict=True):
            try:
                fine = _plain([item]) and 0 <= float(item) < most
            except ValueError:
                fine = False
            if not fine:
                raise FormatError(f"{path}:{row}: {field}: {item[:40]!r}; expected {expected}")
    return values


def durations_ps(path: Path, text: list[str], rows: list[int], field: str) -> NDArray[np.int64]:
    """Return microseconds, fractions allowed, as ps, int64[n]; parameters and errors as `whole_numbers`."""
    expected = "microseconds of 0 or more, less than 2 h"
    values = _microseconds(path, text, rows, field, MAX_SPAN_PS / 1e6, expected)
    return np.rint(values * 1e6).astype(np.int64)


def times_ps(path: Path, text: list[str], rows: list[int], field: str) -> NDArray[np.int64]:
    """Return the microseconds of a clock of any start as ps since the earliest of them, int64[n].

    Parameters and errors as `whole_numbers`; also refused: one more than MAX_CLOCK_PS after the earliest.
    """
    expected = "microseconds of 0 or more, less than 10^18"
    values = _microseconds(path, text, rows, field, 1e18, expected)
    earliest = int(np.argmin(values))
    late = (values - values[earliest]) * 1e6 > MAX_CLOCK_PS
    if late.any():
        last = int(np.argmax(values))
        span = (float(values[last]) - float(values[earliest])) * 1e6
        raise FormatError(f"{path}:{rows[int(np.argmax(late))]}: {field}: {span_problem(span)}")
    if values.max() * 1e6 < _EXACT_PS:
        t_ps = np.rint(values * 1e6).astype(np.int64)
        return cast(NDArray[np.int64], t_ps - t_ps.min())
    # A clock that began long ago has no room for picoseconds in a float.
    exact = [int((Decimal(item.strip()) * 10**6).to_integral_value()) for item in text]
    start = min(exact)
    return np.array([t - start for t in exact], dtype=np.int64)


def span_problem(span_ps: float) -> str:
    """Return the tail about a trace that takes too long."""
    hours = math.ceil(span_ps / 3.6e15 * 100) / 100
    most = f"{MAX_SPAN_PS / 3.6e15:g} h"
    return f"spans {hours:g} h; expected at most {most} (cut it with limit, or replay it faster with speed)"
