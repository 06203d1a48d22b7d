"""How anything is timed here: one CPU, short slices by turns, the best and the median of many.

Rule: whatever is compared runs within the same second, a slice of each after the other, so that a change of
clock speed or a busy neighbour meets all of them.
"""

import contextlib
import gc
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from .._jit import JIT_DISABLED
from ..errors import ConfigError, MisuseError


def within(name: str, values: Iterable[int], low: int, high: int) -> None:
    """Raise MisuseError for the first of some numbers of a plan that is outside its range."""
    for value in values:
        if not low <= value <= high:
            raise MisuseError(f"{name} {value}: expected {low}..{high}")


def needs_compiled_kernels() -> None:
    """Raise ConfigError where kernels are interpreted."""
    if JIT_DISABLED:
        raise ConfigError("NUMBA_DISABLE_JIT is set: interpreted kernels have no speed worth measuring")


class Slice(NamedTuple):
    """What one slice saw: the shortest and the median pass, in ns, and how many passes there were."""

    best_ns: float
    median_ns: float
    passes: int


def run_slice(call: Callable[[], object], slice_ns: int) -> Slice:
    """Repeat a call for `slice_ns`, once at least, timing each."""
    clock = time.perf_counter_ns
    passes: list[int] = []
    total = 0
    while total < slice_ns or not passes:
        start = clock()
        call()
        took = clock() - start
        passes.append(took)
        # A clock that stands still must not keep us here.
        total += max(took, 1)
    return Slice(float(min(passes)), float(statistics.median(passes)), len(passes))


@dataclass
class Timing:
    """The slices of one measurement.

    Parameters
    ----------
    items : what one pass handles, for example packets; results are ns per item.
    """

    items: int
    slices: list[Slice] = field(default_factory=list)

    @property
    def best_ns(self) -> float:
        """The shortest pass of all slices."""
        return min(s.best_ns for s in self.slices) / self.items

    @property
    def median_ns(self) -> float:
        """The median of the slices' medians."""
        return statistics.median(s.median_ns for s in self.slices) / self.items

    @property
    def spread_pct(self) -> float:
        """How far the slices' medians lie apart: their interquartile range, in per cent of their median."""
        medians = [s.median_ns for s in self.slices]
        if len(medians) < 2:
            return 0.0
        low, middle, high = statistics.quantiles(medians, n=4, method="inclusive")
        return 100 * (high - low) / middle if middle else 0.0

    @property
    def passes(self) -> int:
        """Passes of all slices."""
        return sum(s.passes for s in self.slices)


@contextlib.contextmanager
def pinned() -> Iterator[int]:
    """Keep this thread, and children that it starts, on one CPU: the last one allowed, which it yields.

    The collector of garbage waits meanwhile. Both are as before afterwards.
    """
    allowed = os.sched_getaffinity(0)
    collects = gc.isenabled()
    cpu = max(allowed)
    os.sched_setaffinity(0, {cpu})
    gc.disable()
    try:
        yield cpu
    finally:
        if collects:
            gc.enable()
        os.sched_setaffinity(0, allowed)
