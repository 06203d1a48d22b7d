"""The public Python API: what the command line and the notebooks use, and nothing else.

Rule: thin. Running is `experiment`, looking is `report`; heavy imports happen inside the calls.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import MisuseError
from .experiment.compare import compare_scenarios
from .experiment.scenario import Scenario, load_scenario, scenario_from_trace
from .record import RunRecord

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["Comparison", "Scenario", "compare", "load"]

# The main job, in the order in which people read it.
MAIN_SCENARIOS = ("nvme", "nic", "gpu", "mix")


class Comparison:
    """The result of a comparison: the record, and ways to look at it."""

    def __init__(self, record: RunRecord) -> None:
        self.record = record

    def frame(self) -> "pd.DataFrame":
        """Return a tidy row per workload, class, scheme and policy; `report.frame` documents the columns."""
        from .report.frame import to_frame

        return to_frame(self.record.to_dict())

    def plot_cdf(self, scenario: str | None = None) -> "Figure":
        """Return latency distributions of one scenario (the first by default)."""
        from .report.figures import fig_cdf

        return fig_cdf(self.record.to_dict(), scenario or self.record.results[0].scenario)

    def plot_overhead(self) -> "Figure":
        """Return added latency by workload and protection, with intervals and ranges."""
        from .report.figures import fig_overhead

        return fig_overhead(self.record.to_dict())

    def plot_ledger(self) -> "Figure":
        """Draw where the time of a mean request goes, plaintext beside protected."""
        from .report.ledger import fig_ledger

        return fig_ledger(self.record.to_dict())

    def to_json(self) -> str:
        """Return the record as JSON."""
        return self.record.to_json()

    def save(self, path: str | Path) -> None:
        """Write the record to a file. Raises ConfigError if it cannot be written, RunError on a full disk."""
        self.record.save(path)

    def _repr_html_(self) -> str:
        from .report.html import summary_html

        return summary_html(self.record.to_dict())


def _scenarios(
    asked: str | Path | Scenario | Sequence[str | Path | Scenario] | None,
    trace: str | Path | None,
    as_: str | None,
    link: str | None,
    reading: Mapping[str, Any],
) -> list[Scenario]:
    if trace is not None:
        if asked is not None:
            raise MisuseError("scenarios and a trace together; expected one of them")
        return [scenario_from_trace(trace, as_, link, **reading)]
    if link is not None or as_ is not None:
        raise MisuseError("link or as_ without a trace; a scenario names its own links and devices")
    for key, value in reading.items():
        if value is not None and value is not False:
            raise MisuseError(f"{key} without a trace; a scenario says it of each trace that it names")
    if asked is None:
        return [load_scenario(name) for name in MAIN_SCENARIOS]
    if isinstance(asked, str | Path | Scenario):
        asked = [asked]
    return [s if isinstance(s, Scenario) else load_scenario(s) for s in asked]


def compare(
    scenarios: str | Path | Scenario | Sequence[str | Path | Scenario] | None = None,
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
    trace: str | Path | None = None,
    as_: str | None = None,
    link: str | None = None,
    device: str | None = None,
    limit: int | None = None,
    offset: int | None = None,
    speed: float | None = None,
    skip_bad: bool = False,
    local: str | None = None,
    pace: Literal["line", "recorded"] | None = None,
    buffers: Sequence[str] | None = None,
    protect: Mapping[str, float] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Comparison:
    """Compare protected links with a baseline.

    Parameters
    ----------
    scenarios : shipped names, TOML files or Scenario objects; every shipped one by default.
    schemes, policies : protections instead of the scenarios' own.
    baseline : scheme that overheads are measured against.
    budget_pct, requests, seeds, seed : instead of the scenarios' own values.
    quick : fewer requests; a first look.
    jobs : threads; all cores by default.
    trace : replay this recording instead: a file, or sample:NAME; as_ : gpu, nic, nvme or tlp, by content if
    None; link : like gen5x16; device : like nvme-gen5, or a TOML file.
    limit, offset : of its records, the most that are taken and how many are left out before them.
    speed : its times are divided by it. skip_bad : leave malformed records out, with a warning in the record.
    local, pace : of a capture, which end is the adapter, and "line" (default) or "recorded" spacing.
    buffers : of recorded TLPs, where buffers of a class lie: CLASS=ADDRESS+SIZE each.
    protect : protected share by class of buffers (data, queue, mmio, msi) under `selective`, instead of the
    scenarios' own.
    progress : called as (stage, done, total), from any thread, one call at a time; total 0 means unknown.

    Raises
    ------
    ConfigError, FormatError : something asked for cannot be used; one line says what and where.
    RunError : a run did not finish.
    """
    options: dict[str, Any] = {
        "schemes": schemes,
        "policies": policies,
        "baseline": baseline,
        "budget_pct": budget_pct,
        "requests": requests,
        "seeds": seeds,
        "seed": seed,
        "quick": quick,
        "jobs": jobs,
        "regions": protect,
        "progress": progress,
    }
    reading = {
        "device": device,
        "limit": limit,
        "offset": offset,
        "speed": speed,
        "skip_bad": skip_bad,
        "local": local,
        "pace": pace,
        "buffers": None if buffers is None else list(buffers),
    }
    return Comparison(compare_scenarios(_scenarios(scenarios, trace, as_, link, reading), **options))


def load(path: str | Path) -> Comparison:
    """Read a record that `compare` wrote. Raises ConfigError or FormatError."""
    return Comparison(RunRecord.load(path))
