"""The main job: run scenarios under a baseline and under protections, and make the record.

Rule: every number of a row comes from samples of all seeds; arms differ in scheme and policy only.
"""

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

from ..errors import ConfigError, NothingMeasuredError
from ..link.run import warm_up
from ..record import RunRecord, results_digest
from ..stats.hist import Histogram
from ..units import format_duration, format_time
from . import overhead
from .fingerprint import host_facts, versions
from .hardware import contexts_of, engine_of
from .limits import in_bursts, limited_by
from .model import Scenario
from .programs import recorded, trace_of, warnings_of, without_effect
from .quick import first_look
from .resolved import Arm, Resolved, Scheme, WorkloadRun, at_variant
from .runner import Sample, Task, ranged, shortened
from .scenario import load_scheme

Progress: TypeAlias = Callable[[str, int, int], None]


_ENDS = ("favourable", "unfavourable")
_NS = 1e-3


@dataclass(frozen=True)
class Cell:
    """What ran for one workload: samples[arm][seed][group], and ends[arm][end][seed][group]."""

    scenario: Resolved
    workload: WorkloadRun
    first: Task
    arms: tuple[Arm, ...]
    samples: list[list[dict[str, Sample]]]
    ends: list[list[list[dict[str, Sample]]]]


class _Meter:
    """Counts TLPs and the simulator's CPU time over all threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.tlps = 0
        self.seconds = 0.0

    def run(self, task: Task, arm: Arm, variant: str) -> dict[str, Sample]:
        samples, tlps, seconds = task.run(arm, variant)
        with self.lock:
            self.tlps += tlps
            self.seconds += seconds
        return samples


class _Count:
    """Tells how many runs are done, one call at a time: a seed's alone may take minutes."""

    def __init__(self, progress: Progress) -> None:
        self.lock = threading.Lock()
        self.progress = progress
        self.done = 0
        self.total = 0

    def step(self) -> None:
        with self.lock:
            self.done += 1
            self.progress("simulating", self.done, self.total)


def _in_parallel(jobs: int, work: Sequence[Callable[[], None]], step: Callable[[], None]) -> None:
    """Run independent work on threads; an interrupt or an error stops what has not begun."""
    pool = ThreadPoolExecutor(max_workers=jobs)
    try:
        futures: list[Future[None]] = [pool.submit(w) for w in work]
        for future in as_completed(futures):
            future.result()
            step()
    except BaseException:
        # A run in compiled code cannot be stopped; nobody waits for it.
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def _baseline_arm(name: str) -> Arm:
    scheme = load_scheme(name)
    return Arm(scheme, "off" if scheme.mechanism == "none" else "all")


def run_all(
    scenarios: Sequence[Resolved], baseline: Arm, jobs: int, meter: _Meter, progress: Progress
) -> list[Cell]:
    """Run every workload of every scenario under every arm and seed."""
    cells: list[Cell] = []
    work: list[Callable[[], None]] = []
    count = _Count(progress)
    for scenario in scenarios:
        arms = (baseline, *[a for a in scenario.arms if _key(a) != _key(baseline)])
        for workload in scenario.workloads:
            progress("preparing", 0, 0)
            first = Task.prepare(scenario, workload, scenario.seed)
            blank: list[dict[str, Sample]] = [{} for _ in range(scenario.seeds)]
            cell = Cell(
                scenario,
                workload,
                first,
                arms,
                [list(blank) for _ in arms],
                [[list(blank) for _ in _ENDS] if ranged(a.scheme) else [] for a in arms],
            )
            cells.append(cell)
            work.extend(_work_of(cell, i, meter, count.step) for i in range(scenario.seeds))
            count.total += scenario.seeds * sum(1 + len(ends) for ends in cell.ends)
    stop = threading.Event()
    guarded = [_unless(stop, w) for w in work]
    progress("compiling", 0, 0)
    warm_up()
    progress("simulating", 0, count.total)
    # The first piece compiles what is left, before threads would wait for each other's compiler.
    if guarded:
        guarded[0]()
    try:
        _in_parallel(jobs, guarded[1:], lambda: None)
    except BaseException:
        stop.set()
        raise
    return cells


def _unless(stop: threading.Event, work: Callable[[], None]) -> Callable[[], None]:
    return lambda: None if stop.is_set() else work()


def _work_of(cell: Cell, seed_index: int, meter: _Meter, step: Callable[[], None]) -> Callable[[], None]:
    """Return the runs of one seed, which call `step` after each."""

    def work() -> None:
        scenario = cell.scenario
        task = (
            cell.first
            if seed_index == 0
            else Task.prepare(scenario, cell.workload, scenario.seed + seed_index)
        )
        # Arms whose engines and decisions are the same give the same samples.
        known: dict[object, dict[str, Sample]] = {}

        def run(arm: Arm, variant: str) -> dict[str, Sample]:
            scheme = arm.scheme
            key = (
                engine_of(scheme, variant, contexts_of(scheme, cell.workload)),
                tuple(at_variant({**scheme.bounce, **scheme.host}, variant).items()),
                scheme.cipher_devices,
                _key(arm)[1],
                scheme.mechanism,
            )
            if key not in known:
                known[key] = meter.run(task, arm, variant)
            step()
            return known[key]

        for a, arm in enumerate(cell.arms):
            cell.samples[a][seed_index] = run(arm, "typical")
            for end, seeds in zip(_ENDS, cell.ends[a], strict=False):
                seeds[seed_index] = run(arm, end)

    return work


def _key(arm: Arm) -> tuple[str, str]:
    return (arm.scheme.name, "off" if arm.scheme.mechanism == "none" else arm.policy)


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
_METRICS: dict[str, tuple[Callable[[Sample], float | None], float | None, bool]] = {
    "latency_p50": (lambda s: _of_seed(s.latency, 50), _NS, True),
    "latency_p99": (lambda s: _of_seed(s.latency, 99), _NS, True),
    "io_path_p50": (lambda s: _of_seed(s.io_path, 50), _NS, True),
    "io_path_p99": (lambda s: _of_seed(s.io_path, 99), _NS, True),
    "throughput": (_throughput_gbps, None, False),
    "job": (lambda s: s.job_ps, _NS, True),
}
_END_TO_END = ("latency_p50", "latency_p99")
_IO_PATH = ("io_path_p50", "io_path_p99")


def _changes(
    base: Sequence[Sample],
    protected: Sequence[Sample],
    ends: Sequence[Sequence[Sample]],
    reported: dict[str, Any],
) -> dict[str, overhead.Change | None]:
    """Return the change of every metric; None where the metric itself is not reported."""
    out: dict[str, overhead.Change | None] = {}
    for name, (value, unit, more_is_worse) in _METRICS.items():
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
        "policy": _key(arm)[1],
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
        at_ends = dict(zip(_ENDS, ends, strict=False))
        row["saturated"] = _saturated(base, {"typical": samples} | at_ends)
        words = {}
        reasons = []
        for name, metrics in (("end_to_end", _END_TO_END), ("io_path", _IO_PATH)):
            words[name], reason = overhead.verdict([changes[m] for m in metrics], cell.scenario.budget_pct)
            reasons.append(reason)
        row["verdict"] = words
        # The reason of the end-to-end verdict, or else of the io path's; "" asks for a parameter's name.
        row["decided_by"] = reasons[0] if reasons[0] is not None else reasons[1]
        if _overloaded(base):
            row["verdict"] = dict.fromkeys(words, "inconclusive")
            row["decided_by"] = overhead.LOAD
    return row


def _parameters(scheme: Scheme, workload: WorkloadRun) -> list[str]:
    """Return the unknown parameters that matter: where every key fits the cache, none is ever lost."""
    names = list(ranged(scheme))
    if scheme.mechanism == "ide" and scheme.engine["key_entries"].low >= contexts_of(scheme, workload):
        names = [n for n in names if n not in ("key_entries", "key_miss_cycles")]
    return names


def _name_reasons(
    cells: Sequence[Cell], rows: list[dict[str, Any]], jobs: int, meter: _Meter, progress: Progress
) -> None:
    """Name the parameter on which each open verdict hangs most: each alone at one end."""
    lookup = {(c.scenario.name, c.workload.name): c for c in cells}
    wanted: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for row in rows:
        if row["decided_by"] == "":
            cell = lookup[row["scenario"], row["workload"]]
            arm = [_key(a) for a in cell.arms].index((row["scheme"], row["policy"]))
            wanted.setdefault((row["scenario"], row["workload"], arm), []).append(row)

    def work_of(key: tuple[str, str, int], open_rows: list[dict[str, Any]]) -> Callable[[], None]:
        def work() -> None:
            cell = lookup[key[0], key[1]]
            arm = cell.arms[key[2]]
            task = Task.prepare(*shortened(cell.scenario, cell.workload), cell.scenario.seed)
            runs: dict[str, dict[str, Sample]] = {}

            def metric(variant: str, name: str, group: str) -> float:
                if variant not in runs:
                    runs[variant] = meter.run(task, arm, variant)
                return _METRICS[name][0](runs[variant][group]) or 0.0

            for row in open_rows:
                budget = cell.scenario.budget_pct
                end_to_end = row["verdict"]["end_to_end"] == "inconclusive"
                name, change = next(
                    (m, c)
                    for m in (_END_TO_END if end_to_end else _IO_PATH)
                    if (c := row["overhead"][m]) and overhead.is_open(overhead.Change(**c), budget)
                )
                # What is open is the far side of the budget: which parameter leads there?
                end = "unfavourable" if change["value_pct"] <= budget else "favourable"
                typical = metric("typical", name, row["class"])
                effects = {
                    p: abs(metric(f"{end}:{p}", name, row["class"]) - typical)
                    for p in _parameters(arm.scheme, cell.workload)
                }
                decisive = max(effects, key=lambda p: effects[p])
                row["decided_by"] = f"{arm.scheme.table_of(decisive)}.{decisive}"

        return work

    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        progress("asking which parameter decides", done, len(wanted))

    if wanted:
        progress("asking which parameter decides", 0, len(wanted))
    _in_parallel(jobs, [work_of(k, r) for k, r in wanted.items()], step)


def _arms_asked(
    scenario: Scenario, schemes: Sequence[str] | None, policies: Sequence[str] | None
) -> list[tuple[Any, str]] | None:
    """Return the arms when schemes or policies are named: the scenario's own that fit, else all pairs."""
    if not schemes and not policies:
        return None
    # A scheme is a name, or a table that has one.
    tables = {e.scheme["name"]: e.scheme for e in scenario.arm if not isinstance(e.scheme, str)}
    own: list[tuple[str, str]] = [
        (e.scheme if isinstance(e.scheme, str) else e.scheme["name"], e.policy) for e in scenario.arm
    ]
    fit = [(s, p) for s, p in own if (not schemes or s in schemes) and (not policies or p in policies)]
    missing_schemes = [s for s in schemes or () if s not in [f[0] for f in fit]]
    missing_policies = [p for p in policies or () if p not in [f[1] for f in fit]]
    fit += [(s, p) for s in missing_schemes for p in policies or ("selective", "all")]
    fit += [(s, p) for p in missing_policies for s in schemes or list(dict.fromkeys(o[0] for o in own))]
    return [(tables.get(s, s), p) for s, p in dict.fromkeys(fit)]


def _without_effect(requests: int | None, scenarios: Sequence[Resolved]) -> list[str]:
    """Warn where a number of requests was asked for and nothing has one: in one line, of all scenarios."""
    found = []
    for s in scenarios:
        if s.duration_ps:
            found.append(f"{s.name} (ends by its duration, {format_time(s.duration_ps)})")
        elif not any(run.requests for workload in s.workloads for run in workload.devices):
            found.append(f"{s.name} (replays recordings)")
    return without_effect(requests, found)


def compare_scenarios(
    scenarios: Iterable[Scenario],
    *,
    schemes: Sequence[str] | None = None,
    policies: Sequence[str] | None = None,
    baseline: str = "none",
    budget_pct: float | None = None,
    requests: int | None = None,
    seeds: int | None = None,
    seed: int | None = None,
    quick: bool = False,
    jobs: int | None = None,
    regions: Mapping[str, float] | None = None,
    progress: Progress | None = None,
) -> RunRecord:
    """Run scenarios and return their record.

    Parameters
    ----------
    schemes, policies : protections instead of the scenarios' own.
    baseline : scheme that overheads are measured against.
    budget_pct, requests, seeds, seed : instead of the scenarios' own.
    quick : where no number of requests is asked for, few, see `quick.first_look`; traces are replayed whole.
    jobs : threads; all cores by default.
    regions : protected share of the buffers of each class under `selective`, instead of the scenarios' own.

    Raises
    ------
    ConfigError, FormatError : something asked for cannot be used.
    RunError : a run did not finish. NothingMeasuredError : no request ended.
    """
    report = progress or (lambda stage, done, total: None)
    report("reading", 0, 0)
    threads = jobs or (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    few = quick and requests is None
    adjusted = [
        (first_look(s) if few else s).with_options(
            requests=requests,
            seeds=seeds,
            seed=seed,
            budget_pct=budget_pct,
            arms=_arms_asked(s, schemes, policies),
            regions=regions,
        )
        for s in scenarios
    ]
    resolved = [s.resolve() for s in adjusted]
    twice = [name for name, n in Counter(s.name for s in resolved).items() if n > 1]
    if twice:
        raise ConfigError(f"scenario {twice[0]!r} twice; expected different names, which key the results")
    budgets = sorted({s.budget_pct for s in resolved})
    if len(budgets) > 1:
        found = ", ".join(f"{b:g} %" for b in budgets)
        raise ConfigError(f"scenarios with different budgets ({found}); expected one, or a budget for all")
    base = _baseline_arm(baseline)
    meter = _Meter()
    cells = run_all(resolved, base, threads, meter, report)
    rows = list(_rows(cells))
    if not rows:
        raise NothingMeasuredError(
            "nothing was measured: no request ended; expected a longer duration or trace"
        )
    _name_reasons(cells, rows, threads, meter, report)
    all_seeds = sorted({s.seed + i for s in resolved for i in range(s.seeds)})
    arms = list(dict.fromkeys(_key(a) for c in cells for a in c.arms))
    return RunRecord.from_dict(
        {
            "schema_version": 1,
            "command": "compare",
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "complete": True,
            "versions": versions(),
            "host": host_facts().model_dump(),
            "options": {
                "budget_pct": resolved[0].budget_pct,
                "fail_on": None,
                "quick": quick,
                "baseline": baseline,
                "requests": requests,
                "jobs": threads,
                "scenarios": [
                    {"name": s.name, "digest": s.digest(), "scenario": s.to_dict(inline=True)}
                    for s in adjusted
                ],
                "arms": [{"scheme": s, "policy": p} for s, p in arms],
            },
            "seeds": all_seeds,
            "simulator": {
                "tlps": meter.tlps,
                "seconds": meter.seconds,
                "tlps_per_s": meter.tlps / meter.seconds if meter.seconds else 0.0,
                "threads": threads,
            },
            "digest": results_digest(rows),
            "warnings": [
                *_without_effect(requests, resolved),
                *dict.fromkeys(w for s in resolved for w in warnings_of(s)),
                *_slower(cells),
            ],
            "results": rows,
        }
    )


# So much longer than recorded a replayed job may take before a word is said.
_SLOWER = 1.05


def _slower(cells: Sequence[Cell]) -> Iterator[str]:
    """Yield which replayed GPU jobs take longer in the baseline than the recorded ones took."""
    for cell in cells:
        for group in cell.first.groups:
            traffic = None if group.job_device is None else cell.workload.devices[group.job_device].traffic
            trace = None if traffic is None else trace_of(traffic)
            jobs = [ps for seed in cell.samples[0] if (ps := seed[group.name].job_ps) is not None]
            if traffic is None or trace is None or not jobs:
                continue
            records = recorded(traffic).records
            took_ps = int((records["t_ps"] + records["dur_ps"]).max() - records["t_ps"].min())
            takes_ps = sum(jobs) / len(jobs)
            if takes_ps > _SLOWER * took_ps:
                yield (
                    f"{trace.spec}: the replay takes {format_duration(takes_ps)} before anything is added, "
                    f"{format_duration(took_ps)} were recorded: copies are slower on this link, or share it"
                )


def _rows(cells: Sequence[Cell]) -> Iterator[dict[str, Any]]:
    for cell in cells:
        for group in cell.first.groups:
            if not any(sample[group.name].requests for sample in cell.samples[0]):
                continue
            for arm_index in range(len(cell.arms)):
                yield _row(cell, arm_index, group.name)
