"""Overheads, their intervals and ranges, and the verdict against a budget.

Rule: positive is always worse. A value is the mean over seeds of paired relative differences; its interval
says what the seeds leave open, its range what the unknown engine parameters leave open.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from ..stats.interval import paired_interval

VerdictWord: TypeAlias = Literal["within", "over", "inconclusive"]
# What an inconclusive verdict hangs on, when it is not an engine parameter.
SEEDS = "seeds"
LOAD: Final = "load"
SAMPLES = "samples"

# A queue grows as long as the run if throughput falls by more than a share that no end of a run explains, the
# median at least doubles, and the run ends later by far more than the median does: of a delay that grows from
# nothing to the end of the run, the median is half.
_LOST: Final = 0.01
_LAST_BY_MEDIAN: Final = 1.5
# It grows through the whole run if every part of it is later than the one before.
_PARTS: Final = 3
_LEAST_OF_A_PART: Final = 30
# Or if so large a part of all requests waits at once, mean over the run: by Little's law its latency by its
# length. (What shares a resource by turns is late from the first request on.)
_AT_ONCE: Final = 0.25


@dataclass(frozen=True)
class Change:
    """One metric under protection against its baseline. Per cent of the baseline; ns where it is a time."""

    value_pct: float
    added_ns: float | None
    ci_low_pct: float | None
    ci_high_pct: float | None
    range_low_pct: float | None
    range_high_pct: float | None


def relative_pct(baseline: float, protected: float, more_is_worse: bool) -> float:
    """Return by how many per cent of the baseline the protected value is worse."""
    if baseline == 0:
        return 0.0
    loss = protected - baseline if more_is_worse else baseline - protected
    return 100.0 * loss / baseline


def change(
    baseline: Sequence[float],
    protected: Sequence[float],
    ends: Sequence[Sequence[float]],
    *,
    time_unit_ns: float | None,
    more_is_worse: bool = True,
) -> Change:
    """Compare a metric, seed by seed.

    Parameters
    ----------
    baseline, protected : the metric per seed, paired, in any unit.
    ends : the metric per seed with all unknown parameters at their favourable, and at their unfavourable end.
    time_unit_ns : what one unit of the metric is in ns; None where it is not a time.
    """
    pairs = list(zip(baseline, protected, strict=True))
    relative = [relative_pct(b, p, more_is_worse) for b, p in pairs]
    value = math.fsum(relative) / len(relative)
    interval = paired_interval(relative)
    at_ends = [
        math.fsum(relative_pct(b, e, more_is_worse) for b, e in zip(baseline, end, strict=True)) / len(pairs)
        for end in ends
    ]
    return Change(
        value_pct=value,
        added_ns=None
        if time_unit_ns is None
        else math.fsum(p - b for b, p in pairs) / len(pairs) * time_unit_ns,
        ci_low_pct=interval[1] if interval else None,
        ci_high_pct=interval[2] if interval else None,
        range_low_pct=min(value, *at_ends) if at_ends else None,
        range_high_pct=max(value, *at_ends) if at_ends else None,
    )


def course(latencies: Sequence[float]) -> tuple[float, ...]:
    """Return the mean latency of each of some equal parts of a run, in order; none of few requests.

    latencies : of requests in order of their arrivals.
    """
    if len(latencies) < _PARTS * _LEAST_OF_A_PART:
        return ()
    edges = [len(latencies) * i // _PARTS for i in range(_PARTS + 1)]
    return tuple(math.fsum(latencies[a:b]) / (b - a) for a, b in itertools.pairwise(edges))


def grows(courses: Sequence[Sequence[float]], spans: Sequence[float]) -> bool:
    """Return whether a queue grows as long as the run: mean latencies do, all along and by much of its time.

    courses : of each seed, see `course`. spans : from first start to last end of what they are of, alike.
    """
    if not all(courses):
        return False
    means = [math.fsum(part) for part in zip(*courses, strict=True)]
    if math.fsum(means) / _PARTS > _AT_ONCE * math.fsum(spans):
        return True
    if any(later <= before for before, later in itertools.pairwise(means)) or means[-1] < 2 * means[0]:
        return False
    # From the middle of the first part to that of the last.
    return means[-1] - means[0] > _LOST * math.fsum(spans) * (_PARTS - 1) / _PARTS


def outgrown(spans: Sequence[tuple[float, float]], medians: Sequence[tuple[float, float]]) -> bool:
    """Return whether more arrives than a protected run carries, where arrivals are given.

    spans, medians : first start to last end, and the median latency, of (baseline, protected) per seed, all
    in one unit of time.
    """
    before, after = (math.fsum(side) for side in zip(*spans, strict=True))
    median, added = (math.fsum(side) for side in zip(*((b, p - b) for b, p in medians), strict=True))
    return after - before > _LOST * after and added > median and after - before > _LAST_BY_MEDIAN * added


def _ends(metric: Change) -> tuple[float, float]:
    """Return the smallest and the largest value that interval and range leave open."""
    bounds = (metric.ci_low_pct, metric.range_low_pct, metric.ci_high_pct, metric.range_high_pct)
    known = [b for b in bounds if b is not None]
    return min(known, default=metric.value_pct), max(known, default=metric.value_pct)


def is_open(metric: Change, budget_pct: float) -> bool:
    """Return whether interval and range leave open on which side of the budget a metric lies."""
    low, high = _ends(metric)
    return low <= budget_pct <= high


def verdict(metrics: Sequence[Change | None], budget_pct: float) -> tuple[VerdictWord, str | None]:
    """Judge p50 and p99 against a budget.

    Returns
    -------
    The word, and for `inconclusive` why: SAMPLES (no percentile), SEEDS (no interval, or one that holds the
    budget), or the empty string where an engine parameter has to be named.
    """
    known = [m for m in metrics if m is not None]
    if not known:
        return "inconclusive", SAMPLES
    if any(m.ci_low_pct is None for m in known):
        return "inconclusive", SEEDS
    if any(_ends(m)[0] > budget_pct for m in known):
        return "over", None
    if all(_ends(m)[1] < budget_pct for m in known):
        return "within", None
    open_intervals = [
        m.ci_low_pct is not None and m.ci_high_pct is not None and m.ci_low_pct <= budget_pct <= m.ci_high_pct
        for m in known
    ]
    return "inconclusive", SEEDS if any(open_intervals) else ""
