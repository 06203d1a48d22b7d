"""Reading and writing whole files: one clear line when it fails, and never a half-written file."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any, Final

from .errors import ConfigError, FormatError

# A record of the four shipped scenarios has about half a MiB; this stops the read of an endless device file.
_MAX_JSON_BYTES: Final = 1 << 28


def write_atomically(path: Path, text: str) -> None:
    """Write `text` under a temporary name in the same folder, flush it to the disk, rename it.

    A reader of `path` sees the old file or the new one, never a part.
    Raises ConfigError if the file cannot be written; nothing is left behind then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            with open(temporary, "x", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            # An interrupt too must leave nothing behind.
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None


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
    if not isinstance(value, dict):
        raise FormatError(f"{path}: a JSON {type(value).__name__}; expected {expected}")
    return value
