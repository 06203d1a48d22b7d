"""The main job: run scenarios under a baseline and under protections, and make the record.

Rule: arms differ in scheme and policy only. `runs.py` makes the runs, `results.py` rows of their samples.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ..errors import ConfigError, NothingMeasuredError
from ..record import RunRecord, results_digest
from ..units import format_duration, format_time
from . import overhead
from .fingerprint import host_facts, versions
from .hardware import contexts_of
from .model import Scenario
from .programs import recorded, trace_of, warnings_of, without_effect
from .quick import first_look
from .resolved import Arm, Resolved, Scheme, WorkloadRun
from .results import END_TO_END, IO_PATH, METRICS, results_of
from .runner import Sample, Task, ranged, shortened
from .runs import Cell, Meter, Progress, arm_key, in_parallel, run_all
from .scenario import load_scheme


def _baseline_arm(name: str) -> Arm:
    scheme = load_scheme(name)
    return Arm(scheme, "off" if scheme.mechanism == "none" else "all")


def _parameters(scheme: Scheme, workload: WorkloadRun) -> list[str]:
    """Return the unknown parameters that matter: where every key fits the cache, none is ever lost."""
    names = list(ranged(scheme))
    if scheme.mechanism == "ide" and scheme.engine["key_entries"].low >= contexts_of(scheme, workload):
        names = [n for n in names if n not in ("key_entries", "key_miss_cycles")]
    return names


def _name_reasons(
    cells: Sequence[Cell], rows: list[dict[str, Any]], jobs: int, meter: Meter, progress: Progress
) -> None:
    """Name the parameter on which each open verdict hangs most: each alone at one end."""
    lookup = {(c.scenario.name, c.workload.name): c for c in cells}
    wanted: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for row in rows:
        if row["decided_by"] == "":
            cell = lookup[row["scenario"], row["workload"]]
            arm = [arm_key(a) for a in cell.arms].index((row["scheme"], row["policy"]))
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
                return METRICS[name][0](runs[variant][group]) or 0.0

            for row in open_rows:
                budget = cell.scenario.budget_pct
                end_to_end = row["verdict"]["end_to_end"] == "inconclusive"
                name, change = next(
                    (m, c)
                    for m in (END_TO_END if end_to_end else IO_PATH)
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
    in_parallel(jobs, [work_of(k, r) for k, r in wanted.items()], step)


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
    meter = Meter()
    cells = run_all(resolved, base, threads, meter, report)
    rows = list(results_of(cells))
    if not rows:
        raise NothingMeasuredError(
            "nothing was measured: no request ended; expected a longer duration or trace"
        )
    _name_reasons(cells, rows, threads, meter, report)
    all_seeds = sorted({s.seed + i for s in resolved for i in range(s.seeds)})
    arms = list(dict.fromkeys(arm_key(a) for c in cells for a in c.arms))
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
