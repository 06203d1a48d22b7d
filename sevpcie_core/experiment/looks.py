"""What a workload consists of, as a document: for `sevpcie workload show`, its tables and its pictures.

Rule: the programs are those that a comparison runs, built by the same function; nothing is simulated.
Everything that a table or a picture shows is in the document.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..policy import decide, draw_map
from ..workload.look import Look, look
from ..workload.program import Program, until
from ..workload.tlps import Capture, capture
from ..workload.traces import TLP_DTYPE
from .fingerprint import versions
from .named import Found, find
from .programs import Recording, build, recorded, trace_of, warnings_of, without_effect
from .quick import QUICK_REQUESTS
from .resolved import DeviceRun, GpuIdleTraffic, Resolved, TraceFile, WorkloadRun
from .runner import region_shares
from .told import SCHEMA_VERSION, Document, distribution, told
from .traffic import SAMPLE

_NS: Final = 1e-3
# Operations of a device that are looked at where time ends a run.
_MOST: Final = 1_000_000
# Records of a trace that are looked at together.
_PIECE: Final = 1 << 16


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
    name, link, reading : see `named.find`. requests : of each device that generates; quick : at most
        QUICK_REQUESTS.
    protect : protected share of the buffers of each class, instead of the scenario's.
    """
    progress("reading", 0, 0)
    found = find(name, link, **reading)
    found = found._replace(scenario=found.scenario.with_options(seed=seed, regions=protect))
    resolved = found.scenario.resolve()
    views = list(views_of(found, resolved, requests, quick))
    generated = any(trace_of(view.run.traffic) is None for view in views)
    out: list[Document] = []
    for at, view in enumerate(views):
        progress("looking", at, len(views))
        if not out or out[-1]["workload"] != view.workload.name:
            out.append({"workload": view.workload.name, "devices": []})
        counted = told(view.look(), view.shares, view.timed)
        ends = view.ends(counted["operations"]["count"])
        out[-1]["devices"].append({**view.facts(), **counted, "ends": ends})
    return {
        "schema_version": SCHEMA_VERSION,
        "command": "workload show",
        "versions": versions(),
        "options": {"name": name, "requests": requests, "quick": quick, "seed": resolved.seed},
        "scenario": resolved.name,
        "title": resolved.title,
        "warnings": [
            *without_effect(requests, [] if generated else [f"{name} (replays recordings)"]),
            *warnings_of(resolved, [w["workload"] for w in out]),
        ],
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
