"""Platforms of kind `system` against the figures that they list; of a projection, what the model says.

Rule: a figure is run in plaintext as a scenario of this platform would run; nothing is fitted here.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from ..experiment.runner import Task
from ..experiment.scenario import Scenario, load_scheme
from ..experiment.systems import FigureTable, System
from ..experiment.traffic import Reference

# Figures of data sheets are rounded, and 'up to'.
BAR_PCT: Final = 10.0


@dataclass(frozen=True)
class Compared:
    """One figure.

    value : published, None for a projection. low, high : over the free numbers of one, each by itself.
    """

    what: str
    quantity: str
    value: float | None
    modelled: float
    low: float | None
    high: float | None
    fixes: str
    source: str

    @property
    def error_pct(self) -> float | None:
        """By how much the model is above what is published, per cent."""
        return None if self.value is None else 100 * (self.modelled / self.value - 1)

    @property
    def ok(self) -> bool | None:
        """Whether a figure is met within the bar; None where there is none."""
        return None if self.error_pct is None else abs(self.error_pct) <= BAR_PCT

    def to_dict(self) -> dict[str, Any]:
        """Return the figure as JSON has it."""
        return {**asdict(self), "error_pct": self.error_pct}


def compare(
    system: System, progress: Callable[[str, int, int], object] = lambda stage, done, total: None
) -> list[Compared]:
    """Run every figure of a platform. A projection also runs with each free number at both ends."""
    figures = system.table.figure
    out = []
    for i, one in enumerate(figures):
        progress("comparing", i, len(figures))
        modelled = _run(system.references, one)
        ends: list[float] = []
        if one.value is None:
            for free in system.free:
                ends += [_run(system.changed(free, end), one) for end in (free.low, free.high)]
        out.append(
            Compared(
                one.what,
                one.quantity,
                one.value,
                modelled,
                min(modelled, *ends) if ends else None,
                max(modelled, *ends) if ends else None,
                one.fixes,
                one.source,
            )
        )
    return out


def _run(references: Mapping[str, Reference], one: FigureTable) -> float:
    """Return what the model says of a figure, in its quantity."""
    data: dict[str, Any] = {
        "name": "figure",
        "link": references["link"],
        "host": references["host"],
        "requests": one.requests,
        "workload": [
            {
                "name": "figure",
                "device": {
                    "one": {
                        "preset": references["device"],
                        "traffic": one.traffic.model_dump(exclude_none=True),
                    }
                },
            }
        ],
    }
    found = Scenario.from_dict(data, name=one.what).resolve()
    outcome = Task.prepare(found, found.workloads[0], found.seed).simulate(load_scheme("none"), "off")
    classes = [c for c in outcome.classes if c.pooled]
    if one.quantity == "us":
        median = classes[0].latency.merge(*[c.latency for c in classes[1:]]).percentile_ps(50)
        assert median is not None
        return median / 1e6
    span = max(c.last_end_ps for c in classes) - min(c.first_start_ps for c in classes)
    if one.quantity == "kIOPS":
        return sum(c.requests for c in classes) * 1e9 / span
    return sum(c.application_bytes for c in classes) * 1e3 / span
