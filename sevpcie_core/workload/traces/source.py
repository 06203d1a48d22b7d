"""Opening a trace file: gzip or not, found by content, read piece by piece.

Rule: whatever is wrong with the bytes (missing, empty, truncated, not text) leaves this module as one
FormatError that names the file; nothing else escapes.
"""

import codecs
import gzip
import io
import math
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

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


def span_problem(span_ps: float) -> str:
    """Return the tail about a trace that takes too long."""
    hours = f"{math.ceil(span_ps / 3.6e15 * 100) / 100:.2f}".rstrip("0").rstrip(".")
    most = f"{MAX_SPAN_PS / 3.6e15:g} h"
    return f"spans {hours} h; expected at most {most} (cut it with limit, or replay it faster with speed)"
