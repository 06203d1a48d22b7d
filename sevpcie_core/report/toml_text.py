"""Write plain data as TOML text that ``tomllib`` reads back to equal data.

The rule of this module: only what a record can hold (tables, arrays, text, numbers, booleans); a null has no
TOML and is left out.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

BARE = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(data: Mapping[str, Any]) -> str:
    """Return data as TOML text: values first, then tables, so that it reads like a file made by hand.

    Raises TypeError for a value of another kind.
    """
    return "\n".join(_table(data, ())).strip("\n") + "\n"


def _table(data: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    given = {k: v for k, v in data.items() if v is not None}
    lines = [f"{_key(k)} = {_value(v)}" for k, v in given.items() if not (_is_table(v) or _is_tables(v))]
    for key, value in given.items():
        inner = (*path, key)
        name = ".".join(_key(part) for part in inner)
        if _is_table(value):
            body = _table(value, inner)
            only_tables = bool(value) and all(
                _is_table(v) or _is_tables(v) for v in value.values() if v is not None
            )
            lines += body if only_tables else ["", f"[{name}]", *body]
        elif _is_tables(value):
            for item in value:
                lines += ["", f"[[{name}]]", *_table(item, inner)]
    return lines


def _is_table(value: object) -> bool:
    """Tell whether a value gets a table of its own; small tables of plain values stay in their line."""
    if not isinstance(value, Mapping):
        return False
    small = all(not isinstance(v, Mapping | list | tuple) for v in value.values())
    return not small or len(value) == 0 or len(_value(value)) > 70


def _is_tables(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(v, Mapping) for v in value)


def _key(key: str) -> str:
    return key if BARE.fullmatch(key) else _text(key)


def _text(text: str) -> str:
    # A JSON string is a TOML basic string but for DEL and for surrogates, which JSON may leave alone.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
        text = repr(value)
        return text if "." in text or "e" in text else f"{text}.0"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(str(k))} = {_value(v)}" for k, v in value.items() if v is not None)
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, Sequence):
        return f"[{', '.join(_value(v) for v in value if v is not None)}]"
    raise TypeError(f"{type(value).__name__} has no form in TOML")
