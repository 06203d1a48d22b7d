"""A look at a workload as plain data: counts per operation, shares, percentiles and points of distributions.

Rule: every number follows from the counts of the look alone. Numbers per operation count operations of all
classes.
"""

import math
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import numpy as np

from ..stats.hist import Histogram, bucket_bounds
from ..workload.look import Look

Document: TypeAlias = dict[str, Any]

SCHEMA_VERSION: Final = 1
_NS: Final = 1e-3
_PERCENTILES: Final = (1, 50, 90, 99)
# Lower ends of bins of gaps, ps: 0 alone, below 1 ns, then 1, 2 and 5 of every decade up to 2000 s.
_EDGES_PS: Final = (0, 1, *(step * 10**k for k in range(3, 16) for step in (1, 2, 5)), 10**16)


def told(found: Look, shares: Mapping[str, float], timed: bool) -> Document:
    """Return a look as plain data."""
    count = sum(found.operations.values())
    data = sum(found.data_bytes.values())
    span_ps = found.last_ps - found.first_ps
    pooled = sum(found.operations[name] for name in found.pooled)
    wire, added = (
        {way: sum(getattr(t, key) for t in found.tlps if t.direction == way) for way in ("up", "down")}
        for key in ("wire_bytes", "ide_bytes")
    )
    tlps = sum(t.count for t in found.tlps)
    payload = sum(t.payload_bytes for t in found.tlps)
    moved = sum(t.sizes.total for t in found.transactions)

    def per(value: float) -> float:
        return value / count if count else 0.0

    def percent(part: float, whole: float) -> float:
        return 100 * part / whole if whole else 0.0

    return {
        "operations": {"count": count, "by_class": found.operations, "with_data": list(found.pooled)},
        "data": {"bytes": data, "bytes_per_operation": per(data), "by_class": found.data_bytes},
        "rate": {
            "span_ns": span_ps * _NS,
            "operations_per_s": 1e12 * (pooled - 1) / span_ps,
            "data_gbps": 8e3 * data * (pooled - 1) / pooled / span_ps,
        }
        if timed and span_ps > 0 and pooled > 1
        else None,
        "doorbells_per_operation": per(found.doorbells),
        "interrupts_per_operation": per(found.interrupts),
        "protected": {
            "policy": "selective",
            "shares": dict(shares),
            "tlps_pct": percent(sum(t.protected for t in found.tlps), tlps),
            "payload_pct": percent(sum(t.protected_payload_bytes for t in found.tlps), payload),
            "wire_added_pct": percent(sum(t.ide_bytes for t in found.tlps), sum(wire.values())),
            **{f"wire_added_{way}_pct": percent(added[way], wire[way]) for way in wire},
        },
        "transactions": [
            {
                "kind": t.kind,
                "direction": t.direction,
                "buffer": t.buffer,
                "least_bytes": t.sizes.least,
                "most_bytes": t.sizes.most,
                "count": t.sizes.count,
                "bytes": t.sizes.total,
                "count_per_operation": per(t.sizes.count),
                "bytes_per_operation": per(t.sizes.total),
                "share_pct": percent(t.sizes.total, moved),
            }
            for t in found.transactions
        ],
        "tlps": [
            {
                "kind": t.kind,
                "direction": t.direction,
                "count": t.count,
                "count_per_operation": per(t.count),
                "payload_bytes": t.payload_bytes,
                "wire_bytes": t.wire_bytes,
                "wire_bytes_per_operation": per(t.wire_bytes),
                "efficiency_pct": percent(t.payload_bytes, t.wire_bytes),
                "protected_pct": percent(t.protected, t.count),
                "sizes": [{"bytes": size, "count": n} for size, n in t.sizes.items()],
            }
            for t in found.tlps
        ],
        "sizes": {
            **distribution(found.sizes, "bytes", 1),
            "octaves": [
                {"least_bytes": b.least, "most_bytes": b.most, "count": b.count, "bytes": b.total}
                for b in found.size_octaves
            ],
        },
        "gaps": _gaps(found.gaps) if timed else None,
    }


def distribution(histogram: Histogram, unit: str, scale: float) -> Document:
    """Return percentiles, and points of the cumulative distribution.

    A value is told by the lower end of its bucket, at most 0.1 % away: round sizes stay as they are.
    """
    if histogram.samples == 0:
        return {"samples": 0, unit: {}, "cdf": {unit: [], "p": []}}
    low, width = bucket_bounds(histogram.index)
    cumulative = np.cumsum(histogram.count)
    value, fraction = histogram.cdf()
    drawn = low[np.searchsorted(low + width - 1, value)]

    def percentile(percent: float) -> float:
        rank = max(math.ceil(round(histogram.samples * percent / 100, 6)), 1)
        return float(low[np.searchsorted(cumulative, rank)]) * scale

    return {
        "samples": histogram.samples,
        unit: {
            "mean": histogram.mean_ps * scale,
            "min": float(low[0]) * scale,
            **{f"p{percent}": percentile(percent) for percent in _PERCENTILES},
            "max": float(low[-1]) * scale,
        },
        "cdf": {unit: [float(v) * scale for v in drawn], "p": [float(p) for p in fraction]},
    }


def _gaps(histogram: Histogram) -> Document:
    """Return the distribution of gaps, also in bins of 1, 2, 5, 10, ... ns; below 1 ns, and 0 alone."""
    low, _ = bucket_bounds(histogram.index)
    place = np.searchsorted(_EDGES_PS, low, side="right") - 1
    counts = np.bincount(place, histogram.count, len(_EDGES_PS)).astype(np.int64)
    used = counts.nonzero()[0]
    bins = [
        {"from_ns": _EDGES_PS[i] * _NS, "to_ns": _EDGES_PS[i + 1] * _NS, "count": int(counts[i])}
        for i in (range(int(used[0]), int(used[-1]) + 1) if len(used) else ())
    ]
    return {**distribution(histogram, "ns", _NS), "bins": bins}
