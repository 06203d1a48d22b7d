"""Rows of the results: what the samples of all seeds say of one group of one workload under one arm.

Rule: every number of a row comes from samples of all seeds, and what is added from pairs of them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..stats.hist import Histogram
from . import overhead
from .limits import in_bursts, limited_by
from .runner import Sample
from .runs import ENDS, Cell, arm_key

_NS = 1e-3


def _percentiles(histogram: Histogram) -> dict[str, float | None]:
    def ns(percent: float) -> float | None:
        value = histogram.percentile_ps(percent)
        return None if value is None else value * _NS

    mean = histogram.mean_ps * _NS if histogram.samples else None
    return {"p50": ns(50), "p90": ns(90), "p99": ns(99), "p999": ns(99.9), "mean": mean}


def _cdf(histogram: Histogram) -> dict[str, list[float]]:
    value, fraction = histogram.cdf()
    return {"ns": [float(v) * _NS for v in value], "p": [float(p) for p in fraction]}


def _ledger(samples: Sequence[Sample]) -> dict[str, float]:
    """Return the mean time of a request by place, ns; the sum is the mean latency."""
    requests = sum(s.requests for s in samples)
    if not requests:
        return {}
    return {
        place: sum(s.ledger_ps[place] for s in samples) * _NS / requests for place in samples[0].ledger_ps
    }


def _limit(samples: Sequence[Sample]) -> str:
    """Return the resource that limits, over all seeds."""
    return limited_by(_busy(samples), samples[0].open_loop, _ledger(samples))


def _busy(samples: Sequence[Sample]) -> list[dict[str, float]]:
    """Return per device the share of its time in which each resource is in use, mean over the seeds."""
    return [
        {name: sum(s.busy[d][name] for s in samples) / len(samples) for name in device}
        for d, device in enumerate(samples[0].busy)
    ]


def _limited_at(samples: Sequence[Sample], limit: str) -> str | None:
    """Return, of a row of one device, which wire of its way limits, or for what a load queues in bursts."""
    if len(samples[0].wires) > 1 or limit not in ("link", "load"):
        return None
    shares = {name: sum(s.wires[0][name] for s in samples) for name in samples[0].wires[0]}
    wire = max(shares, key=lambda name: shares[name])
    if limit == "link":
        return wire
    queued = in_bursts(_busy(samples)[0], _ledger(samples))
    return queued and f"{wire if queued == 'link' else queued} in bursts"


def _saturated(base: Sequence[Sample], runs: Mapping[str, Sequence[Sample]]) -> list[str]:
    """Return the variants that carry less than arrives; where any device sets its own pace, none."""
    out = []
    if _overloaded(base):
        return list(runs)
    for variant, samples in runs.items():
        pairs = list(zip(base, samples, strict=True))
        medians = [(_of_seed(b.latency, 50), _of_seed(p.latency, 50)) for b, p in pairs]
        known = [(b, p) for b, p in medians if b is not None and p is not None]
        spans = [(float(b.span_ps), float(p.span_ps)) for b, p in pairs]
        outgrown = len(known) == len(pairs) and overhead.outgrown(spans, known)
        if base[0].paced and (outgrown or _grows(samples)):
            out.append(variant)
    return out


def _overloaded(base: Sequence[Sample]) -> bool:
    """Return whether more arrives than the baseline carries."""
    return base[0].paced and _grows(base)


def _grows(samples: Sequence[Sample]) -> bool:
    """Return whether latencies of a device whose arrivals are given grow as long as the run."""
    for seeds in zip(*(s.courses for s in samples), strict=True):
        if overhead.grows([course for course, _ in seeds], [span for _, span in seeds]):
            return True
    return False


def _throughput_gbps(sample: Sample) -> float:
    # Bits per ps are Tb/s.
    return 8000.0 * sample.application_bytes / sample.span_ps if sample.span_ps > 0 else 0.0


def _of_seed(histogram: Histogram, percent: float) -> float | None:
    """Return a percentile of one seed: in a paired difference one sample above it is enough."""
    return histogram.percentile_ps(percent, least_above=1)


# Metric of a row -> (what it is in one sample, ns per unit or None, whether more is worse).
METRICS: dict[str, tuple[Callable[[Sample], float | None], float | None, bool]] = {
    "latency_p50": (lambda s: _of_seed(s.latency, 50), _NS, True),
    "latency_p99": (lambda s: _of_seed(s.latency, 99), _NS, True),
    "io_path_p50": (lambda s: _of_seed(s.io_path, 50), _NS, True),
    "io_path_p99": (lambda s: _of_seed(s.io_path, 99), _NS, True),
    "throughput": (_throughput_gbps, None, False),
    "job": (lambda s: s.job_ps, _NS, True),
}
END_TO_END = ("latency_p50", "latency_p99")
IO_PATH = ("io_path_p50", "io_path_p99")


def _changes(
    base: Sequence[Sample],
    protected: Sequence[Sample],
    ends: Sequence[Sequence[Sample]],
    reported: dict[str, Any],
) -> dict[str, overhead.Change | None]:
    """Return the change of every metric; None where the metric itself is not reported."""
    out: dict[str, overhead.Change | None] = {}
    for name, (value, unit, more_is_worse) in METRICS.items():
        if reported.get(name, True) is None:
            out[name] = None
            continue
        series = [[value(s) for s in samples] for samples in (base, protected, *ends)]
        numbers = [[v for v in values if v is not None] for values in series]
        if any(len(known) < len(base) for known in numbers):
            out[name] = None
            continue
        out[name] = overhead.change(
            numbers[0], numbers[1], numbers[2:], time_unit_ns=unit, more_is_worse=more_is_worse
        )
    return out


def _row(cell: Cell, arm_index: int, group: str) -> dict[str, Any]:
    """Return one row of the results, without its verdict's reason."""
    arm = cell.arms[arm_index]
    samples = [s[group] for s in cell.samples[arm_index]]
    latency = samples[0].latency.merge(*[s.latency for s in samples[1:]])
    io_path = samples[0].io_path.merge(*[s.io_path for s in samples[1:]])
    seeds = len(samples)
    payload = sum(s.payload_bytes for s in samples)
    wire = sum(s.wire_bytes for s in samples)
    link = sum(s.link_bytes for s in samples)
    ide = sum(s.ide_bytes for s in samples)
    jobs = [s.job_ps for s in samples if s.job_ps is not None]
    row: dict[str, Any] = {
        "scenario": cell.scenario.name,
        "workload": cell.workload.name,
        "class": group,
        "scheme": arm.scheme.name,
        "policy": arm_key(arm)[1],
        "requests": sum(s.requests for s in samples),
        "latency_ns": _percentiles(latency),
        "io_path_ns": _percentiles(io_path),
        "throughput_gbps": sum(_throughput_gbps(s) for s in samples) / seeds,
        "job_ms": sum(jobs) / len(jobs) * 1e-9 if jobs else None,
        "wire": {
            "payload_bytes": payload,
            "wire_bytes": wire,
            "tlps": sum(s.tlps for s in samples),
            "efficiency": payload / wire if wire else 0.0,
            "header_bytes": wire - payload - link - ide,
            "link_bytes": link,
            "ide_bytes": ide,
        },
        "ledger_ns": _ledger(samples),
        "overhead": None,
        "verdict": None,
        "decided_by": None,
        "limited_by": (limit := _limit(samples)),
        "limited_at": _limited_at(samples, limit),
        "saturated": [],
        "cdf": _cdf(latency),
        "io_path_cdf": _cdf(io_path),
    }
    if arm_index > 0:
        base = [s[group] for s in cell.samples[0]]
        ends = [[s[group] for s in seeds] for seeds in cell.ends[arm_index]]
        reported = {
            "latency_p50": row["latency_ns"]["p50"],
            "latency_p99": row["latency_ns"]["p99"],
            "io_path_p50": row["io_path_ns"]["p50"],
            "io_path_p99": row["io_path_ns"]["p99"],
        }
        changes = _changes(base, samples, ends, reported)
        row["overhead"] = {name: asdict(c) if c else None for name, c in changes.items()}
        at_ends = dict(zip(ENDS, ends, strict=False))
        row["saturated"] = _saturated(base, {"typical": samples} | at_ends)
        words = {}
        reasons = []
        for name, metrics in (("end_to_end", END_TO_END), ("io_path", IO_PATH)):
            words[name], reason = overhead.verdict([changes[m] for m in metrics], cell.scenario.budget_pct)
            reasons.append(reason)
        row["verdict"] = words
        # The reason of the end-to-end verdict, or else of the io path's; "" asks for a parameter's name.
        row["decided_by"] = reasons[0] if reasons[0] is not None else reasons[1]
        if _overloaded(base):
            row["verdict"] = dict.fromkeys(words, "inconclusive")
            row["decided_by"] = overhead.LOAD
    return row


def results_of(cells: Sequence[Cell]) -> Iterator[dict[str, Any]]:
    """Yield a row for each group that had requests, under each arm, without the reasons of open verdicts."""
    for cell in cells:
        for group in cell.first.groups:
            if not any(sample[group.name].requests for sample in cell.samples[0]):
                continue
            for arm_index in range(len(cell.arms)):
                yield _row(cell, arm_index, group.name)
