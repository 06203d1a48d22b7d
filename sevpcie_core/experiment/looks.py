"""What a workload consists of, as a document: for `sevpcie workload show`, its tables and its pictures.

Rule: the programs are those that a comparison runs, built by the same function; nothing is simulated. Numbers
per operation count operations of all classes. Everything that a table or a picture shows is in the document.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from ..errors import ConfigError
from ..policy import decide, draw_map
from ..stats.hist import Histogram, bucket_bounds
from ..workload.look import Look, look
from ..workload.program import Program, until
from ..workload.tlps import Capture, capture
from ..workload.traces import TLP_DTYPE
from . import presets
from .fingerprint import versions
from .model import Scenario
from .problems import suggestion
from .programs import Recording, build, recorded, trace_of, warnings_of
from .quick import QUICK_REQUESTS
from .resolved import DeviceRun, GpuIdleTraffic, Resolved, TraceFile, WorkloadRun
from .runner import region_shares
from .scenario import load_scenario, scenario_from_trace
from .traffic import SAMPLE, Reference, names_file, user_path

Document: TypeAlias = dict[str, Any]

SCHEMA_VERSION: Final = 1
_NS: Final = 1e-3
# Operations of a device that are looked at where time ends a run.
_MOST: Final = 1_000_000
# Records of a trace that are looked at together.
_PIECE: Final = 1 << 16
_PERCENTILES: Final = (1, 50, 90, 99)
# Lower ends of bins of gaps, ps: 0 alone, below 1 ns, then 1, 2 and 5 of every decade up to 2000 s.
_EDGES_PS: Final = (0, 1, *(step * 10**k for k in range(3, 16) for step in (1, 2, 5)), 10**16)


class Found(NamedTuple):
    """What a name means: a scenario, and the one workload and the one device of it, None for all."""

    scenario: Scenario
    base: str
    """The scenario or trace alone, as it was named."""
    workload: str | None
    device: str | None
    recorded: bool
    """Whether it is a trace, and the scenario the one that replays it."""


def find(name: str, link: str | None = None, **reading: Any) -> Found:
    """Return what a name means.

    Parameters
    ----------
    name : a shipped scenario or a .toml file, with /WORKLOAD or /WORKLOAD/DEVICE behind it or not,
        sample:NAME, or a trace. link, reading : of a trace, as `scenario_from_trace`.

    Raises
    ------
    ConfigError, FormatError : it is none of them, or a scenario with an option that only traces have.
    """
    scenarios = presets.scenario_names()
    base, only = _parts(name, scenarios)
    if base is None:
        if name.startswith(SAMPLE) or user_path(name).exists() or names_file(name):
            return Found(scenario_from_trace(name, None, link, **reading), name, None, None, recorded=True)
        known = [*scenarios, *(f"{SAMPLE}{sample}" for sample in presets.names("samples"))]
        raise ConfigError(
            f"{name!r}: no such workload; expected one of {', '.join(known)}, SCENARIO/WORKLOAD, or the path "
            f"of a .toml file or a trace{suggestion(name, known)}"
        )
    refuse_reading(f"the scenario {base}", {"link": link, **reading})
    scenario = load_scenario(base)
    devices: Mapping[str, Any] = {workload.name: workload.device for workload in scenario.workload}
    for what, part in zip(("workload", "device"), only, strict=False):
        if part not in devices:
            raise ConfigError(
                f"{'/'.join([base, *only])}: no such {what}; expected one of {', '.join(devices)}"
                f"{suggestion(part, list(devices))}"
            )
        devices = devices[part]
    workload, device = [*only, None, None][:2]
    return Found(scenario, base, workload, device, recorded=False)


def _parts(name: str, scenarios: Collection[str]) -> tuple[str | None, list[str]]:
    """Return which scenario a name names, None for none, and what of it: workload, then device."""
    if name in scenarios or names_toml(name):
        return name, []
    if not user_path(name).exists():
        for behind in (1, 2):
            base, *only = name.rsplit("/", behind)
            if len(only) == behind and (base in scenarios or names_toml(base)):
                return base, only
    return None, []


def names_scenario(name: str) -> bool:
    """Return whether a name is that of a scenario or a part of it, and not of a trace."""
    return _parts(name, presets.scenario_names())[0] is not None


def refuse_reading(what: str, reading: Mapping[str, Any]) -> None:
    """Raise ConfigError for options of traces where there is none; None and False are not given."""
    for option, value in reading.items():
        if value is not None and value is not False:
            raise ConfigError(f"--{option.replace('_', '-')} with {what}; expected a trace or sample:NAME")


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
    name, link, reading : see `find`. requests : of each device that generates; quick : at most
        QUICK_REQUESTS.
    protect : protected share of the buffers of each class, instead of the scenario's.
    """
    progress("reading", 0, 0)
    found = find(name, link, **reading)
    found = found._replace(scenario=found.scenario.with_options(seed=seed, regions=protect))
    resolved = found.scenario.resolve()
    views = list(views_of(found, resolved, requests, quick))
    out: list[Document] = []
    for at, view in enumerate(views):
        progress("looking", at, len(views))
        if not out or out[-1]["workload"] != view.workload.name:
            out.append({"workload": view.workload.name, "devices": []})
        told = _told(view.look(), view.shares, view.timed)
        out[-1]["devices"].append({**view.facts(), **told, "ends": view.ends(told["operations"]["count"])})
    return {
        "schema_version": SCHEMA_VERSION,
        "command": "workload show",
        "versions": versions(),
        "options": {"name": name, "requests": requests, "quick": quick, "seed": resolved.seed},
        "scenario": resolved.name,
        "title": resolved.title,
        "warnings": warnings_of(resolved, [w["workload"] for w in out]),
        "workloads": out,
    }


# Keys that a look names whatever they are.
_ALWAYS: Final = ("queue_depth", "iops", "block", "write_block", "read_share")


def _traffic(table: Any) -> dict[str, Any]:
    """Return what a traffic table says, in the words of a scenario file, and what else matters most."""
    said = table.model_dump(exclude_none=True)
    usual = table.model_dump(exclude_none=True, exclude_defaults=True)
    first = [key for key in _ALWAYS if key in said]
    rest = [key for key in said if (key in usual or key == "pace") and key not in (*first, "kind")]
    return {key: said[key] for key in first + rest}


_CLOSED: Final = "closed loop"


@dataclass(frozen=True)
class View:
    """One device of a workload, as it is looked at: generated traffic for so many requests."""

    resolved: Resolved
    workload: WorkloadRun
    index: int
    requests: int
    asked: int
    """Operations that somebody asked for, so that no more are looked at; 0: nobody did."""
    said: dict[str, Any]
    """Its traffic, in the words of a scenario file."""

    @property
    def run(self) -> DeviceRun:
        """Return the device as the scenario has it."""
        return self.workload.devices[self.index]

    @property
    def shares(self) -> dict[str, float]:
        """Return the protected shares of the classes of buffers."""
        return region_shares(self.resolved.regions)

    @cached_property
    def program(self) -> Program:
        """Return its program: what begins in a run that time ends, where the starts are given."""
        duration_ps = self.resolved.duration_ps
        if duration_ps:
            program = build(self.run, self.index, self.resolved.seed, duration_ps)
            if self._arrivals(program) != _CLOSED:
                return until(program, duration_ps, self.asked or _MOST)
        requests = 0 if trace_of(self.run.traffic) else self.requests
        # In the background it goes on for as long as others do: here as long as by itself.
        return build(
            replace(self.run, requests=requests, background=False), self.index, self.resolved.seed, 0
        )

    def _arrivals(self, program: Program) -> str:
        if trace_of(self.run.traffic) is not None:
            return "recorded"
        # A generated job has intended starts as a recorded one has.
        if getattr(self.run.traffic, "job", None) is not None:
            return "generated job"
        return "open loop" if program.open_loop else _CLOSED

    @property
    def arrivals(self) -> str:
        """Return who gives its intended starts."""
        return self._arrivals(self.program)

    @property
    def timed(self) -> bool:
        """Return whether gaps between its intended starts tell something."""
        return self.arrivals != _CLOSED

    def look(self) -> Look:
        """Count what its program consists of."""
        marked = draw_map(self.program.regions, self.shares, self.resolved.seed)
        protect = partial(_selective, marked)
        return look(self.program, self.run.sizes, timed=self.timed, protect=protect)

    def ends(self, count: int) -> Document | None:
        """Return how much of a run that time ends these operations are; None where operations end it."""
        duration_ps = self.resolved.duration_ps
        if not duration_ps:
            return None
        return {
            "duration_ns": duration_ps * _NS,
            "all": self.timed and count < (self.asked or _MOST),
        }

    def _way(self) -> Document | None:
        """Return where its data lie if not in the host's memory, and which way they take."""
        run = self.run
        if not run.peer:
            return None
        peer = next(other for other in self.workload.devices if other.name == run.peer)
        switches = {switch.name: switch for switch in self.workload.switches}
        names = list(dict.fromkeys(name for name in (run.switch, peer.switch) if name))
        same = bool(run.switch) and run.switch == peer.switch
        # PCIe Base r6.x, section 6.12: ACS P2P Request Redirect.
        redirected = same and switches[run.switch].acs_redirect
        below = same and not redirected
        links = [
            f"link of {run.name}",
            *([] if below else [f"uplink {name}" for name in names]),
            f"link of {peer.name}",
        ]
        return {
            "memory_of": peer.name,
            "turned_at": f"switch {run.switch}" if below else "the root complex",
            "acs_redirect": redirected,
            "links": links,
        }

    def facts(self) -> Document:
        """Return what is known of it before it is looked at."""
        run = self.run
        trace = trace_of(run.traffic)
        return {
            "device": run.name,
            "kind": run.device.kind,
            "preset": run.device.name,
            "link": {
                "name": run.link.name,
                **{key: getattr(run.link, key) for key in ("gen", "lanes")},
                **{
                    key: getattr(run.sizes, key) for key in ("mps", "mrrs", "rcb", "completion_bytes", "flit")
                },
            },
            "switch": run.switch or None,
            "way": self._way(),
            "traffic": self.said,
            "trace": None if trace is None else _trace(trace, recorded(run.traffic)),
            "arrivals": self.arrivals,
            "background": run.background,
        }


def views_of(found: Found, resolved: Resolved, requests: int | None, quick: bool) -> Iterator[View]:
    """Yield what a name means, device by device.

    Parameters: resolved : the scenario of `found`; requests, quick : as `document` has them.
    """
    for entry, workload in zip(found.scenario.workload, resolved.workloads, strict=True):
        for index, run in enumerate(workload.devices):
            idle = isinstance(run.traffic, GpuIdleTraffic)
            if not idle and found.workload in (None, workload.name) and found.device in (None, run.name):
                own = run.requests or found.scenario.requests
                count = requests or (min(own, QUICK_REQUESTS) if quick else own)
                asked = requests or (QUICK_REQUESTS if quick else 0)
                yield View(resolved, workload, index, count, asked, _traffic(entry.device[run.name].traffic))


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
            out[plural] = _distinct(records, key)
    if records.dtype == TLP_DTYPE:
        out |= _tlps(capture(records))
    return out


def _tlps(found: Capture) -> Document:
    """Return what of recorded TLPs is not replayed, and how the device's reads were answered."""
    return {
        "left_out": found.left_out,
        "reads": {
            "count": found.classes["read"].count,
            "answered": found.answered,
            "refused": found.refused,
            "completions_of_no_read": found.stray,
            "latency": distribution(found.latency, "ns", _NS),
        },
    }


def _distinct(records: np.ndarray, key: str) -> int:
    """Return how many values a column has; it is read piece by piece, for it may be longer than memory."""
    seen: set[int] = set()
    for first in range(0, len(records), _PIECE):
        seen.update(np.unique(records[key][first : first + _PIECE]).tolist())
    return len(seen)


def _told(found: Look, shares: Mapping[str, float], timed: bool) -> Document:
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
