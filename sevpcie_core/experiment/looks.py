"""What a workload consists of, as a document: for `sevpcie workload show`, its tables and its pictures.

Rule: the programs are those that a comparison runs, built by the same function; nothing is simulated. Numbers
per operation count operations of all classes. Everything that a table or a picture shows is in the document.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from ..errors import ConfigError
from ..policy import decide, draw_map
from ..stats.hist import Histogram, bucket_bounds
from ..workload.look import Look, look
from . import presets
from .fingerprint import versions
from .model import Scenario
from .problems import suggestion
from .programs import Recording, build, recorded, trace_of, warnings_of
from .resolved import Resolved, TraceFile, WorkloadRun
from .runner import region_shares
from .scenario import load_scenario, scenario_from_trace
from .traffic import SAMPLE, Reference, names_file, user_path

Document: TypeAlias = dict[str, Any]

SCHEMA_VERSION: Final = 1
# Operations of a device that generates: of a first look, and where nobody says how many.
QUICK_REQUESTS: Final = 1000
_NS: Final = 1e-3
_PERCENTILES: Final = (1, 50, 90, 99)
# Lower ends of bins of gaps, ps: 0 alone, below 1 ns, then 1, 2 and 5 of every decade up to 2000 s.
_EDGES_PS: Final = (0, 1, *(step * 10**k for k in range(3, 16) for step in (1, 2, 5)), 10**16)


def find(name: str, link: str | None = None, **reading: Any) -> tuple[Scenario, str | None]:
    """Return the scenario that a name means, and the one workload of it that is meant, None for all.

    Parameters
    ----------
    name : a shipped scenario, SCENARIO/WORKLOAD, sample:NAME, a .toml file (with /WORKLOAD behind it or not),
        or a trace. link, reading : of a trace, as `scenario_from_trace`.

    Raises
    ------
    ConfigError, FormatError : it is none of them, or a scenario with an option that only traces have.
    """
    scenarios = presets.scenario_names()
    left, slash, right = name.rpartition("/")
    path = user_path(name)
    is_scenario = name in scenarios or names_toml(name)
    if not is_scenario and slash and not path.exists() and (left in scenarios or names_toml(left)):
        is_scenario, name, only = True, left, right
    else:
        only = None
    if not is_scenario:
        if name.startswith(SAMPLE) or path.exists() or names_file(name):
            return scenario_from_trace(name, None, link, **reading), None
        known = [*scenarios, *(f"{SAMPLE}{sample}" for sample in presets.names("samples"))]
        raise ConfigError(
            f"{name!r}: no such workload; expected one of {', '.join(known)}, SCENARIO/WORKLOAD, or the path "
            f"of a .toml file or a trace{suggestion(name, known)}"
        )
    given = {"link": link, **reading}
    for option, value in given.items():
        if value is not None and value is not False:
            option = option.replace("_", "-")
            raise ConfigError(f"--{option} with the scenario {name}; expected a trace or sample:NAME")
    scenario = load_scenario(name)
    workloads = [workload.name for workload in scenario.workload]
    if only is not None and only not in workloads:
        raise ConfigError(
            f"{name}/{only}: no such workload; expected one of {', '.join(workloads)}"
            f"{suggestion(only, workloads)}"
        )
    return scenario, only


def catalogue() -> Document:
    """Return what `find` knows by name: the workloads of shipped scenarios, and the recordings."""
    found: list[Document] = []
    for name in presets.scenario_names():
        scenario = load_scenario(name)
        for workload in scenario.workload:
            devices = [f"{device}: {_named(entry.preset)}" for device, entry in workload.device.items()]
            found.append(
                {
                    "name": f"{name}/{workload.name}",
                    "scenario": name,
                    "title": scenario.title,
                    "devices": devices,
                }
            )
    for sample, facts in presets.sample_facts().items():
        found.append(
            {"name": f"{SAMPLE}{sample}", "scenario": None, "title": str(facts["title"]), "devices": []}
        )
    return {"schema_version": SCHEMA_VERSION, "command": "workload list", "workloads": found}


def _named(reference: Reference) -> str:
    """Return what a device is called: its preset's name, or of what it is a change."""
    if isinstance(reference, str):
        return Path(reference).stem if names_file(reference) else reference
    return f"{_named(reference['base'])}, changed" if "base" in reference else "of its own"


def names_toml(name: str) -> bool:
    """Return whether a name is the path of a scenario file."""
    return name.endswith(".toml")


def document(
    name: str,
    *,
    requests: int | None = None,
    quick: bool = False,
    seed: int | None = None,
    protect: Mapping[str, float] | None = None,
    link: str | None = None,
    progress: Callable[[str, int, int], object] = lambda stage, done, total: None,
    **reading: Any,
) -> Document:
    """Return what `sevpcie workload show --json` prints.

    Parameters
    ----------
    name, link, reading : see `find`. requests : of each device that generates; quick : QUICK_REQUESTS.
    protect : protected share of the buffers of each class, instead of the scenario's.
    """
    progress("reading", 0, 0)
    scenario, only = find(name, link, **reading)
    scenario = scenario.with_options(seed=seed, regions=protect)
    asked = requests or (QUICK_REQUESTS if quick else 0)
    resolved = scenario.resolve()
    chosen = [(i, w) for i, w in enumerate(resolved.workloads) if only in (None, w.name)]
    out = []
    for at, (i, workload) in enumerate(chosen):
        progress("looking", at, len(chosen))
        tables = scenario.workload[i].device
        devices = [
            _device(
                resolved,
                workload,
                d,
                asked or run.requests or scenario.requests,
                _traffic(tables[run.name].traffic),
            )
            for d, run in enumerate(workload.devices)
        ]
        out.append({"workload": workload.name, "devices": devices})
    return {
        "schema_version": SCHEMA_VERSION,
        "command": "workload show",
        "versions": versions(),
        "options": {"name": name, "requests": requests, "quick": quick, "seed": resolved.seed},
        "scenario": resolved.name,
        "title": resolved.title,
        "warnings": warnings_of(resolved, [w.name for _, w in chosen]),
        "workloads": out,
    }


# Keys that a look names whatever they are.
_ALWAYS: Final = ("queue_depth", "iops", "block", "read_share")


def _traffic(table: Any) -> dict[str, Any]:
    """Return what a traffic table says, in the words of a scenario file, and what else matters most."""
    said = table.model_dump(exclude_none=True)
    usual = table.model_dump(exclude_none=True, exclude_defaults=True)
    first = [key for key in _ALWAYS if key in said]
    rest = [key for key in said if (key in usual or key == "pace") and key not in (*first, "kind")]
    return {key: said[key] for key in first + rest}


def _device(
    scenario: Resolved, workload: WorkloadRun, index: int, requests: int, traffic: dict[str, Any]
) -> Document:
    """Return what one device of a workload does."""
    run = workload.devices[index]
    trace = trace_of(run.traffic)
    # In the background it goes on for as long as others do: here as long as by itself.
    alone = replace(run, requests=0 if trace else requests, background=False)
    program = build(alone, index, scenario.seed, 0)
    shares = region_shares(scenario.regions)
    marked = draw_map(program.regions, shares, scenario.seed)
    arrivals = "open loop" if program.open_loop else "closed loop"
    # A generated job has intended starts as a recorded one has.
    if getattr(run.traffic, "job", None) is not None:
        arrivals = "generated job"
    if trace is not None:
        arrivals = "recorded"
    timed = arrivals != "closed loop"
    found = look(program, run.sizes, timed=timed, protect=partial(_selective, marked))
    return {
        "device": run.name,
        "kind": run.device.kind,
        "preset": run.device.name,
        "link": {
            "name": run.link.name,
            **{key: getattr(run.link, key) for key in ("gen", "lanes")},
            **{key: getattr(run.sizes, key) for key in ("mps", "mrrs", "rcb", "completion_bytes", "flit")},
        },
        "traffic": traffic,
        "trace": None if trace is None else _trace(trace, recorded(run.traffic)),
        "arrivals": arrivals,
        **_told(found, shares, timed),
    }


def _selective(region_map: np.ndarray, steps: np.ndarray) -> np.ndarray:
    return decide("selective", steps, region_map)


def _trace(trace: TraceFile, found: Recording) -> Document:
    """Return what is known of a recording as a file."""
    records = found.records
    out: Document = {
        "file": trace.spec if trace.spec.startswith(SAMPLE) else Path(trace.path).name,
        "format": trace.format,
        "records": len(records),
        "span_ns": float(int(records["t_ps"].max()) - int(records["t_ps"].min())) * _NS,
        "bad": found.bad.count,
        "bad_examples": list(found.bad.examples),
    }
    for key, plural in (("stream", "streams"), ("queue", "queues")):
        if key in (records.dtype.names or ()):
            out[plural] = len(np.unique(records[key]))
    return out


def _told(found: Look, shares: Mapping[str, float], timed: bool) -> Document:
    """Return a look as plain data."""
    count = sum(found.operations.values())
    data = sum(found.data_bytes.values())
    span_ps = found.last_ps - found.first_ps
    pooled = sum(found.operations[name] for name in found.pooled)
    wire = sum(t.wire_bytes for t in found.tlps)
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
            "wire_added_pct": percent(sum(t.ide_bytes for t in found.tlps), wire),
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
            **_distribution(found.sizes, "bytes", 1),
            "octaves": [
                {"least_bytes": b.least, "most_bytes": b.most, "count": b.count, "bytes": b.total}
                for b in found.size_octaves
            ],
        },
        "gaps": _gaps(found.gaps) if timed else None,
    }


def _distribution(histogram: Histogram, unit: str, scale: float) -> Document:
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
    return {**_distribution(histogram, "ns", _NS), "bins": bins}
