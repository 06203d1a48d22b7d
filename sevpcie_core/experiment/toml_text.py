"""TOML, read with errors that name file, line and column, and written so that a person can edit it.

Rule: `loads(dumps(x)) == x` for what scenarios hold: tables, lists, text, whole numbers, finite floats,
flags.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..files import unusable

# Thousands of times a long scenario; stops the read of an endless device file.
_MAX_BYTES = 1 << 22
_POSITION = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_PERCENTILE = re.compile(r"p[0-9]+", re.ASCII)


def read_file(path: Path, what: str) -> tuple[str, dict[str, Any]]:
    """Return text and content of a TOML file; `what` it is stands in errors.

    Raises: ConfigError: missing, unreadable, empty, no text, no TOML.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; expected {what}") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder; expected {what}") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; expected {what}") from None
    if len(data) > _MAX_BYTES:
        raise ConfigError(f"{path}: longer than {_MAX_BYTES} bytes; expected {what}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: bytes that are not UTF-8 text; expected {what} in TOML") from None
    if not text.strip():
        raise ConfigError(f"{path}: empty file; expected {what}")
    return text, parse(text, str(path), what)


def parse(text: str, name: str, what: str) -> dict[str, Any]:
    """Return the content of TOML text; `name` and `what` stand in errors. Raises ConfigError: no TOML."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        position = _POSITION.search(message)
        if position:
            message = message[: position.start()]
        if position and position[1]:
            place = f"{name}:{position[1]}:{position[2]}"
        else:
            place = f"{name}:{text.count(chr(10)) + 1}"
        raise ConfigError(f"{place}: {message}; expected {what} in TOML") from None
    except RecursionError:
        raise ConfigError(f"{name}: nested too deeply; expected {what} in TOML") from None
    except ValueError:
        # tomllib lets this one through: int() refuses to read so many digits.
        raise ConfigError(f"{name}: a whole number of more than 4000 digits; expected {what}") from None
    fault = unusable(data)
    if fault:
        raise ConfigError(f"{name}: {fault}; expected {what}")
    return data


def dumps(data: Mapping[str, Any]) -> str:
    """Write a table as TOML: plain values first, then tables and lists of tables."""
    lines: list[str] = []
    _write(data, (), lines)
    return "\n".join(lines).strip("\n") + "\n"


def _write(table: Mapping[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    later: list[tuple[str, Any]] = []
    for key, value in table.items():
        if _is_table(value) or _is_list_of_tables(value):
            later.append((key, value))
        else:
            lines.append(f"{_key(key)} = {_value(value)}")
    for key, value in later:
        where = (*path, key)
        name = ".".join(map(_key, where))
        if isinstance(value, list):
            for entry in value:
                lines += ["", f"[[{name}]]"]
                _write(entry, where, lines)
        else:
            # A table that holds only tables needs no header of its own.
            if not value or not all(_is_table(inner) for inner in value.values()):
                lines += ["", f"[{name}]"]
            _write(value, where, lines)


def _is_table(value: object) -> bool:
    """Return whether a value is written under its own header; percentiles stay on one line."""
    return isinstance(value, Mapping) and not (value and all(_PERCENTILE.fullmatch(key) for key in value))


def _is_list_of_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, Mapping) for entry in value)


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _string(key)


def _string(text: str) -> str:
    # A JSON string is a TOML basic string, but for DEL, which TOML wants escaped (TOML 1.0, "String").
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return _string(value)
        case list() | tuple():
            return f"[{', '.join(map(_value, value))}]"
        case Mapping():
            return f"{{ {', '.join(f'{_key(k)} = {_value(v)}' for k, v in value.items())} }}"
        case _:
            raise TypeError(f"{type(value).__name__}; expected a value that TOML has")
