"""Reading and writing whole files: one clear line when it fails, and never a half-written file."""

import contextlib
import errno
import json
import os
import secrets
import stat
from pathlib import Path
from typing import Any, Final

from .errors import ConfigError, FormatError, RunError

# A record of the four shipped scenarios has about half a MiB; this stops the read of an endless device file.
_MAX_JSON_BYTES: Final = 1 << 28
# Nothing that is read here needs more than a dozen levels; Python's own limit is far too late.
_MAX_LEVELS: Final = 100
# Python turns no longer numbers into text (sys.get_int_max_str_digits); hexadecimal ones are read.
_MAX_BITS: Final = 14_000
_DISK_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


def write_atomically(path: Path, text: str) -> None:
    """Write `text` under a temporary name in the same folder, flush it to the disk, rename it.

    A reader of `path` sees the old file or the new one, never a part. A link is followed; what is no regular
    file (a pipe, /dev/stdout) is written to as it is.
    Raises ConfigError if the file cannot be written, RunError if the disk is full; nothing is left then.
    """
    try:
        if _is_special(path):
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            return
        target = Path(os.path.realpath(path))
        temporary = target.with_name(f".sevpcie-{os.getpid()}-{secrets.token_hex(4)}.tmp")
        try:
            with open(temporary, "x", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            # An interrupt too must leave nothing behind.
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    except BrokenPipeError:
        raise
    except OSError as error:
        kind = RunError if error.errno in _DISK_FULL else ConfigError
        raise kind(f"{path}: cannot be written: {error.strerror}") from None


def check_writable(path: Path) -> None:
    """Raise ConfigError now rather than after long work if a file could not be written. Nothing is left."""
    try:
        if path.is_dir():
            raise ConfigError(f"{path}: a folder; expected the name of a file")
        if not _is_special(path):
            trial = Path(os.path.realpath(path)).with_name(
                f".sevpcie-{os.getpid()}-{secrets.token_hex(4)}.tmp"
            )
            trial.touch(exist_ok=False)
            trial.unlink()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None


def _is_special(path: Path) -> bool:
    """Return whether a path must be written to rather than replaced: devices, pipes, open files by number."""
    if str(path.absolute()).startswith(("/dev/std", "/dev/fd/", "/proc/")):
        return True
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def unusable(value: object) -> str | None:
    """Return what makes data just read unfit for all that follows: nested too deeply, a number too long."""
    level, depth = [value], 0
    while level:
        if depth > _MAX_LEVELS:
            return f"nested too deeply, more than {_MAX_LEVELS} levels"
        inner: list[object] = []
        for entry in level:
            if isinstance(entry, dict):
                inner += entry.values()
            elif isinstance(entry, list):
                inner += entry
            elif isinstance(entry, int) and entry.bit_length() > _MAX_BITS:
                return "a whole number of more than 4000 digits"
        level, depth = inner, depth + 1
    return None


def read_text(path: Path, max_bytes: int = _MAX_JSON_BYTES) -> str:
    """Return the text of a file.

    Raises ConfigError if it cannot be read, FormatError if it is not UTF-8 text or longer than `max_bytes`.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > max_bytes:
        raise FormatError(f"{path}: longer than {max_bytes} bytes; the wrong file?")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: byte {error.start}: not UTF-8 text") from None


def read_json_object(path: Path, expected: str) -> dict[str, Any]:
    """Return the JSON object in a file; `expected` names it in errors.

    Raises ConfigError if it cannot be read, FormatError (file, line, column) if it is not a JSON object.
    """
    text = read_text(path)
    if not text.strip():
        raise FormatError(f"{path}: empty; expected {expected}")
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        cut = "" if text.rstrip().endswith("}") else "; is the file cut off?"
        raise FormatError(
            f"{path}:{error.lineno}: column {error.colno}: {error.msg}{cut}; expected {expected}"
        ) from None
    except RecursionError:
        raise FormatError(f"{path}: nested too deeply; expected {expected}") from None
    except ValueError:
        raise FormatError(f"{path}: a whole number of more than 4000 digits; expected {expected}") from None
    if not isinstance(value, dict):
        raise FormatError(f"{path}: a JSON {type(value).__name__}; expected {expected}")
    fault = unusable(value)
    if fault:
        raise FormatError(f"{path}: {fault}; expected {expected}")
    return value
