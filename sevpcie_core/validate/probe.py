"""What the simulator says of DMA transfers on a platform: rates and latencies under given conditions.

Rule: the simulator runs, with a fixed seed; no formula stands in for it. A rate is that of the steady state:
the time between two numbers of transfers, so that neither the first nor the last ones count.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from ..experiment.platforms import Cache, Platform
from ..link.params import Iommu
from ..link.run import Outcome, simulate
from ..stats.draw import quantile_table
from ..workload.dma import Dma, Kind, Pattern

_SEED: Final = 1
# Transfers until a loop is in its steady state, at least, and those that then count.
_RAMP: Final = 500
_COUNTED: Final = 3000
_NOTHING: Final = Iommu()

# Copies longer than this move as fast as the last half of it.
_LONG: Final = 1 << 26


@dataclass(frozen=True)
class Conditions:
    """Where transfers go and what is set differently from the platform.

    cache : whether the window was in the host's cache. window : bytes. translated : an IOMMU is on.
    mrrs, mps : bytes, None as the platform has them.
    """

    cache: Cache = "warm"
    window: int = 1 << 13
    pattern: Pattern = "random"
    translated: bool = False
    mrrs: int | None = None
    mps: int | None = None


def device(platform: Platform, kind: Kind, size: int, conditions: Conditions, **changes: Any) -> Dma:
    """Return the platform's device with something to do."""
    d = platform.table.device
    options: dict[str, Any] = {
        "outstanding": d.slots,
        "read_issue_ps": d.read_issue,
        "write_issue_ps": d.write_issue,
        "read_setup_ps": d.read_setup,
        "write_setup_ps": d.write_setup,
        "request_bytes": conditions.mrrs or platform.table.link.mrrs,
        "beat": d.beat_bytes,
        "read_request_ps": d.read_request,
        "beat_ps": d.read_beat,
        "write_beat_ps": d.write_beat,
        "finish_ps": d.finish,
        "finish_ps_per_kib": d.finish_per_kib,
        "pattern": conditions.pattern,
        "window": max(conditions.window, -(-size // 64) * 64),
        "seed": _SEED,
    }
    return Dma(kind=kind, size=size, count=1, **(options | changes))


def run(platform: Platform, dma: Dma, conditions: Conditions, keep: int = 0) -> Outcome:
    """Run transfers on a platform."""
    return simulate(
        [dma.program()],
        platform.row(mrrs=conditions.mrrs, mps=conditions.mps)[None],
        host_table=quantile_table(platform.read_latency()),
        read_interval_ps=platform.table.host.read_interval,
        seed=_SEED,
        markers=[lambda steps: np.zeros(len(steps), np.bool_)],
        iommu=platform.translation() if conditions.translated else _NOTHING,
        memory=platform.memory(conditions.cache, conditions.window),
        keep=keep,
    )


def end_ps(platform: Platform, dma: Dma, conditions: Conditions) -> int:
    """Return when the last of some transfers ends, ps."""
    return max(one.last_end_ps for one in run(platform, dma, conditions).classes)


def rate(
    platform: Platform,
    kind: Kind,
    size: int,
    conditions: Conditions,
    counted: int = _COUNTED,
    **changes: Any,
) -> float:
    """Return transfers per second in the steady state; of both kinds, pairs of a write and a read.

    counted : over so many transfers at least; the more, the less chance is in it. changes : of the device,
    see `Dma`.
    """
    dma = device(platform, kind, size, conditions, **changes)
    ramp = max(_RAMP, 2 * dma.outstanding)
    # Each slot starts its transfers some times more.
    counted = max(counted, 4 * dma.outstanding)
    first = end_ps(platform, replace(dma, count=ramp), conditions)
    last = end_ps(platform, replace(dma, count=ramp + counted), conditions)
    return counted * 1e12 / (last - first) / (2 if kind == "both" else 1)


def latencies(
    platform: Platform, kind: Kind, size: int, conditions: Conditions, count: int = _COUNTED, **changes: Any
) -> np.ndarray:
    """Return int64[count], ps, ascending: how long transfers take one after the other."""
    dma = device(platform, kind, size, conditions, **({"outstanding": 1} | changes))
    outcome = run(platform, replace(dma, count=count), conditions, keep=count)
    return np.sort(outcome.kept_ps[0])


def copy_ps(platform: Platform, kind: Kind, size: int) -> float:
    """Return the time of one copy of many, one after the other, ps; of both kinds, of two at the same time.

    Of a copy longer than 64 MiB the rest takes as long as its last half in proportion: nothing changes any
    more by then. Raises ValueError for a platform without a copy engine.
    """
    if size > _LONG:
        long, half = copy_ps(platform, kind, _LONG), copy_ps(platform, kind, _LONG // 2)
        return long + (size - _LONG) / (_LONG // 2) * (long - half)
    engine = platform.table.copy_engine
    if engine is None:
        raise ValueError(f"{platform.name} has no copy engine")
    if kind != "both":
        return _copy_ps(platform, kind, size, 0)
    data_ps = _copy_ps(platform, kind, size, 0) - _copy_ps(platform, kind, 1, 0)
    return _copy_ps(platform, kind, size, round(data_ps))


def _copy_ps(platform: Platform, kind: Kind, size: int, other_ps: int) -> float:
    """Return the same; other_ps : for how long data of the other direction pass, which commands wait for."""
    engine = platform.table.copy_engine
    assert engine is not None
    copies: Mapping[str, Any] = {
        "outstanding": 2 if kind == "both" else 1,
        "apart": True,
        "read_issue_ps": engine.interval,
        "write_issue_ps": engine.interval,
        "read_setup_ps": engine.h2d_setup + min(other_ps, engine.behind_writes),
        "write_setup_ps": engine.d2h_setup + min(other_ps, engine.behind_reads),
        "finish_ps": 0,
        "finish_ps_per_kib": 0,
        "pattern": "sequential",
    }
    conditions = Conditions(window=max(size, 1 << 13))
    dma = device(platform, kind, size, conditions, **copies)
    few, more = (4, 12) if size < 1 << 22 else (2, 4)
    first = end_ps(platform, replace(dma, count=few), conditions)
    last = end_ps(platform, replace(dma, count=more), conditions)
    pairs = (more - few) / (2 if kind == "both" else 1)
    return (last - first) / pairs
