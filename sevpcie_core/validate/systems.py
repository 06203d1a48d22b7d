"""Platforms of kind `system` against the figures that they list; of a projection, what the model says.

Rule: a figure is run in plaintext as a scenario of this platform would run; nothing is fitted here.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from ..errors import ConfigError, NothingMeasuredError
from ..experiment.problems import Origin, Place
from ..experiment.resolved import Resolved
from ..experiment.runner import Task
from ..experiment.scenario import Scenario, load_scheme
from ..experiment.systems import ENDS, LEAST_FOR_MEDIAN, End, FigureTable, System
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
    """Run every figure of a platform. A projection also runs with each free number at both ends.

    Raises ConfigError, before anything is run: a figure does not go with the platform, or not with a free
    number at an end. NothingMeasuredError: no figure, or one without requests that its quantity is about.
    """
    figures = system.table.figure
    if not figures:
        raise NothingMeasuredError(f"{system.origin.name}: no [[figure]]; expected one to compare with")
    prepared = [_prepare(system, i) for i in range(len(figures))]
    out = []
    for i, (one, (typical, ends)) in enumerate(zip(figures, prepared, strict=True)):
        progress("comparing", i, len(figures))
        modelled = typical.run()
        others = [end.run() for end in ends]
        out.append(
            Compared(
                one.what,
                one.quantity,
                one.value,
                modelled,
                min(modelled, *others) if others else None,
                max(modelled, *others) if others else None,
                one.fixes,
                one.source,
            )
        )
    return out


def _prepare(system: System, position: int) -> "tuple[_Run, list[_Run]]":
    """Return what a figure takes: its run, and those at the ends of the free numbers of a projection."""
    one = system.table.figure[position]
    file = {"name": system.origin.name, "text": system.origin.text}
    typical = _Run.of(one, system.references, _Figure(**file, position=position))
    ends = []
    if one.value is None:
        for i, free in enumerate(system.free):
            for end in ENDS:
                references = system.changed(free, getattr(free, end))
                ends.append(_Run.of(one, references, End(**file, position=i, end=end, free=free)))
    return typical, ends


@dataclass(frozen=True, kw_only=True)
class _Figure(Origin):
    """A platform's file of which a figure is a scenario: errors stand where the file says it."""

    position: int

    def error(self, place: Place, tail: str, key: str = "") -> ConfigError:
        """Return the error for a place of the scenario."""
        figure: Place = ("figure", self.position)
        match place:
            case ("workload", _, "device", _, "traffic", *rest):
                place = (*figure, "traffic", *rest)
            case ("workload", _, "device", _, "preset", *_):
                place, key = ("device",), ""
            case ("link" | "host" as part, *_):
                place, key = (part,), ""
            case _:
                place, key = figure, ""
        return super().error(place, tail, key)


@dataclass(frozen=True)
class _Run:
    """A figure on the presets of a platform, found to go together."""

    figure: FigureTable
    scenario: Resolved
    origin: Origin

    @classmethod
    def of(cls, figure: FigureTable, references: Mapping[str, Reference], origin: Origin) -> "_Run":
        """Return the run. Raises ConfigError, where `origin` says it."""
        traffic = figure.traffic.model_dump(exclude_none=True)
        data: dict[str, Any] = {
            "name": "figure",
            "link": references["link"],
            "host": references["host"],
            "requests": figure.requests,
            "workload": [
                {"name": "figure", "device": {"one": {"preset": references["device"], "traffic": traffic}}}
            ],
        }
        return cls(figure, Scenario.from_table(data, origin).resolve(), origin)

    def run(self) -> float:
        """Return what the model says of the figure, in its quantity."""
        found = self.scenario
        outcome = Task.prepare(found, found.workloads[0], found.seed).simulate(load_scheme("none"), "off")
        classes = [c for c in outcome.classes if c.pooled and c.requests]
        if not classes:
            raise self._nothing("no request that counts, as kernel launches do not; expected some")
        if self.figure.quantity == "us":
            median = classes[0].latency.merge(*[c.latency for c in classes[1:]]).percentile_ps(50)
            if median is None:
                few = sum(c.requests for c in classes)
                raise self._nothing(f"a median over {few}; expected at least {LEAST_FOR_MEDIAN} requests")
            return median / 1e6
        span = max(c.last_end_ps for c in classes) - min(c.first_start_ps for c in classes)
        if span <= 0:
            raise self._nothing("requests that take no time; expected some that do, for a rate")
        if self.figure.quantity == "kIOPS":
            return sum(c.requests for c in classes) * 1e9 / span
        return sum(c.application_bytes for c in classes) * 1e3 / span

    def _nothing(self, tail: str) -> NothingMeasuredError:
        """Return the error for traffic that says nothing of the figure's quantity."""
        return NothingMeasuredError(str(self.origin.error(_TRAFFIC, tail)))


# Where a figure's traffic stands in its scenario.
_TRAFFIC: Final[Place] = ("workload", 0, "device", "one", "traffic")
