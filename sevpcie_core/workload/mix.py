"""What makes devices that run together a mix: phases in time, and recordings in the background.

Rule: a program stays as it is, step by step; what changes is when its requests begin. Arrivals that are
given (of an open loop, of a recording) are thinned out by stretching the clock: they go on in the next phase
where they stopped in the last, so that each phase has the rate that was asked for. A request that waits for
another one begins in a phase because the simulator lets it begin in no other time (`program.Phase`).

A recording in the background starts over when it is over, so that its mean rate stays.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..errors import MisuseError
from .phase import FOREVER, Phase
from .program import Chunk, Program


def period_ps(times_ps: np.ndarray) -> int:
    """Return after how long a recording starts over: its span and a mean gap; 0 for one of a single moment.

    times_ps : int64[n], ascending.
    """
    n = len(times_ps)
    span = int(times_ps[-1]) - int(times_ps[0]) if n > 1 else 0
    return span + span // (n - 1) if span else 0


def several(records: np.ndarray, period_ps: int, least: int = 512) -> tuple[np.ndarray, int]:
    """Return a recording as often as it takes to have some records, and its period then.

    Programs are made piece by piece, and many short pieces are slow.
    """
    times = -(-least // len(records))
    if times <= 1:
        return records, period_ps
    out = np.tile(records, times)
    turn = np.repeat(np.arange(times), len(records))
    out["t_ps"] += turn * period_ps
    if "bell" in (out.dtype.names or ()):
        out["bell"] += turn * (int(records["bell"].max()) + 1)
    return out, times * period_ps


def phased(program: Program, phase: Phase) -> Program:
    """Return the same program with its requests in phases.

    Raises: MisuseError: a phase of no length, or one that begins before the last is over.
    """
    if phase.from_ps < 0 or phase.on_ps <= 0 or (phase.every_ps and phase.every_ps < phase.on_ps):
        raise MisuseError(f"{phase}; expected times of 0 or more, and phases that do not overlap")

    def chunks() -> Iterator[Chunk]:
        for chunk in program.chunks():
            steps = chunk.steps.copy()
            given = (steps["not_before_ps"] > 0) | ((steps["after"] == 0) & (steps["after2"] == 0))
            steps["not_before_ps"][given] = stretched(steps["not_before_ps"][given], phase)
            horizon = chunk.horizon_ps
            if horizon < FOREVER:
                horizon = int(stretched(np.array([horizon]), phase)[0])
            yield Chunk(steps, horizon)

    return replace(program, chunks=chunks, phase=phase)


def stretched(times_ps: np.ndarray, phase: Phase) -> np.ndarray:
    """Return when a clock that runs in phases only shows these times, int64[n], ps; FOREVER for never."""
    if phase.on_ps == FOREVER:
        return times_ps + phase.from_ps
    turn = times_ps // phase.on_ps
    if not phase.every_ps:
        return np.where(turn == 0, times_ps + phase.from_ps, FOREVER)
    out: np.ndarray = phase.from_ps + turn * phase.every_ps + times_ps % phase.on_ps
    return out
