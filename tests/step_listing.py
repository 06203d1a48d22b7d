"""A program's steps as a table for people: what each does, what it waits for, its part in its request."""

from collections.abc import Sequence

import numpy as np

from sevpcie_core.spec import BUFFER_NAMES
from sevpcie_core.units import format_time
from sevpcie_core.workload.program import (
    BEGIN,
    DELAY,
    EARLY1,
    EARLY2,
    END,
    READ_UP,
    WRITE_DOWN,
    WRITE_UP,
    Program,
)

WORDS = {WRITE_UP: "device writes", READ_UP: "device reads", WRITE_DOWN: "host writes"}
COLUMNS = ("step", "", "what", "buffer", "bytes", "waits for", "request")
# What the early moment of a step is.
EARLY = {WRITE_UP: "acceptance", WRITE_DOWN: "acceptance", READ_UP: "last request", DELAY: "begin"}


def row(steps: np.ndarray, i: int, name: str) -> list[str]:
    step = steps[i]
    kind, flags = int(step["kind"]), int(step["flags"])
    waits = []
    for field, early in (("after", EARLY1), ("after2", EARLY2)):
        if step[field]:
            on = i - int(step[field])
            moment = EARLY[int(steps[on]["kind"])] if flags & early else "end"
            waits.append(f"{moment} of {on}")
    if step["not_before_ps"]:
        waits.append(f"time {format_time(int(step['not_before_ps']))}")
    what, buffer, size = WORDS.get(kind, ""), "", ""
    if kind == DELAY:
        what = f"takes {format_time(int(step['delay_ps']))}"
        if step["server"] >= 0 and step["occupy_ps"]:
            what += f", one per {format_time(int(step['occupy_ps']))}"
    else:
        buffer, size = BUFFER_NAMES[step["buffer"]], str(step["bytes"])
        if step["delay_ps"]:
            waits.append(f"{format_time(int(step['delay_ps']))} more")
    part = {BEGIN: " begins", END: " ends", BEGIN | END: " begins, ends"}.get(flags & (BEGIN | END), "")
    number = "" if step["request"] < 0 else f"{int(step['request'])}{part}"
    return [str(i), name, what, buffer, size, ", ".join(waits) or "nothing", number]


def listing(program: Program, names: Sequence[str]) -> str:
    """Return the table of all steps of a program; names : what each is, again and again."""
    steps = np.concatenate([chunk.steps for chunk in program.chunks()])
    rows = [list(COLUMNS), *(row(steps, i, names[i % len(names)]) for i in range(len(steps)))]
    widths = [max(len(r[c]) for r in rows) for c in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(r, widths, strict=True)) for r in rows]
    return "\n".join(line.rstrip() for line in lines) + "\n"
