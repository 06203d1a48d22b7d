"""What every report shows of a record: its lines, its protections, and how numbers are written.

The rule of this module: table, figures and page take lines, titles and number formats from here and nowhere
else, so that they cannot disagree. Input is a record as a plain dict (``RunRecord.to_dict()``); nothing here
changes it.

A *line* is one workload, or one device class of a workload that has several devices. A *protection* (arm) is
a scheme under a policy, such as ``sev-pcie`` under ``selective``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Record = Mapping[str, Any]
Row = Mapping[str, Any]

SCHEME_TITLES = {
    "none": "plaintext",
    "sev-pcie": "SEV-PCIe",
    "pcie-ide": "PCIe IDE",
    "bounce-buffer": "bounce buffer",
}
VERDICTS = ("within", "inconclusive", "over")
GPU_CLASSES = frozenset({"h2d", "d2h", "launch"})
# Between a device and one kind of its requests, where a workload has several devices.
KIND_MARK = "/"
NOTHING = "-"


@dataclass(frozen=True)
class Arm:
    """One protection: a scheme under a policy."""

    scheme: str
    policy: str

    @property
    def title(self) -> str:
        """Name the protection for people: ``SEV-PCIe selective``."""
        scheme = scheme_title(self.scheme)
        return scheme if self.policy == "off" else f"{scheme} {clean(self.policy)}"


@dataclass(frozen=True)
class Line:
    """One line of a table: a workload, or one of its classes, under the baseline and every protection."""

    scenario: str
    workload: str
    cls: str
    several: bool  # other lines show other classes of the same workload
    baseline: Row | None
    protected: Mapping[Arm, Row]

    @property
    def class_title(self) -> str:
        """Name the class where it tells something: '' when the workload has one line only."""
        if not self.several:
            return ""
        return clean(self.cls)

    @property
    def title(self) -> str:
        """Name the line: ``randread4k dram``."""
        return f"{clean(self.workload)} {self.class_title}".rstrip()

    @property
    def rows(self) -> Iterator[tuple[Arm | None, Row]]:
        """Yield the rows there are: the baseline (arm None) first, then the protections."""
        if self.baseline is not None:
            yield None, self.baseline
        yield from self.protected.items()


@dataclass(frozen=True)
class ScenarioView:
    """One scenario of a record, with its lines in the order of the record."""

    name: str
    title: str
    lines: tuple[Line, ...]


def clean(text: object) -> str:
    """Return text on one line without control characters (a name must not steer a terminal)."""
    return "".join(c if c.isprintable() else "?" for c in str(text))


def scheme_title(scheme: str) -> str:
    """Name a scheme for people: ``PCIe IDE``; one named after it alike, ``PCIe IDE by-four``."""
    for name, title in SCHEME_TITLES.items():
        if scheme == name or (name != "none" and scheme.startswith(f"{name}-")):
            return clean(f"{title} {scheme.removeprefix(name)[1:]}".rstrip())
    return clean(scheme)


def budget_pct(record: Record) -> float:
    """Return the budget, in per cent of the baseline."""
    return float(record["options"]["budget_pct"])


def baseline_scheme(record: Record) -> str:
    """Return the scheme that everything is compared with."""
    return str(record["options"].get("baseline") or "none")


def baseline_title(record: Record) -> str:
    """Return the name of the baseline for people."""
    return scheme_title(baseline_scheme(record))


def on_the_link(record: Record, arm: Arm) -> bool:
    """Return whether a protection seals TLPs; a bounce buffer leaves the link plain."""
    for entry in record["options"].get("scenarios") or ():
        for told in scenario_source(record, str(entry.get("name"))).get("arm") or ():
            scheme = told.get("scheme")
            if isinstance(scheme, Mapping) and scheme.get("name") == arm.scheme:
                return bool(scheme.get("mechanism") != "bounce")
    return arm.scheme != "bounce-buffer"


def arms(record: Record) -> list[Arm]:
    """Return the protections in the order of the options, then any other that has rows."""
    listed = [Arm(str(a["scheme"]), str(a["policy"])) for a in record["options"].get("arms") or ()]
    seen = [Arm(str(r["scheme"]), str(r["policy"])) for r in record["results"] if not _is_baseline(record, r)]
    present = set(seen)
    return list(dict.fromkeys([a for a in listed if a in present] + seen))


def scenarios(record: Record, every_class: bool = False) -> list[ScenarioView]:
    """Return the scenarios with their lines.

    Args:
        record: the record. every_class: False: the lines that a summary shows, which are one per workload, or
            one per device and per kind of its requests when there are several; one per GPU job (its copies).
            True: every class.
    """
    found: dict[str, dict[str, dict[str, list[Row]]]] = {}
    for row in record["results"]:
        workloads = found.setdefault(str(row["scenario"]), {})
        workloads.setdefault(str(row["workload"]), {}).setdefault(str(row["class"]), []).append(row)
    out = []
    for name, workloads in found.items():
        lines: list[Line] = []
        for workload, classes in workloads.items():
            shown = list(classes) if every_class else _summary_classes(list(classes))
            lines += [_line(record, name, workload, cls, len(shown) > 1, classes[cls]) for cls in shown]
        out.append(ScenarioView(name, clean(scenario_source(record, name).get("title") or ""), tuple(lines)))
    return out


def all_lines(record: Record) -> list[Line]:
    """Return the lines of the summary, over all scenarios."""
    return [line for view in scenarios(record) for line in view.lines]


def scenario_source(record: Record, name: str) -> Mapping[str, Any]:
    """Return the effective scenario of that name as the record holds it, or an empty dict."""
    for entry in record["options"].get("scenarios") or ():
        if entry.get("name") == name and isinstance(entry.get("scenario"), Mapping):
            source: Mapping[str, Any] = entry["scenario"]
            return source
    return {}


def judge(entry: Mapping[str, Any] | None, budget: float) -> str | None:
    """Return the verdict of one percentile alone, by the rule of the whole verdict; None without one."""
    if entry is None:
        return None
    if max(bounds(entry, "high")) < budget:
        return "within"
    return "over" if min(bounds(entry, "low")) > budget else "inconclusive"


def seeds_decide(entry: Mapping[str, Any], budget: float) -> bool:
    """Return whether the interval over the seeds gives another verdict than the range alone would."""
    if entry.get("ci_low_pct") is None or entry.get("ci_high_pct") is None:
        return False
    alone = {**entry, "ci_low_pct": None, "ci_high_pct": None}
    return entry.get("range_low_pct") is None or judge(alone, budget) != judge(entry, budget)


def saturates(row: Row | None, variant: str = "typical") -> bool:
    """Return whether more arrives than a row carries with its unknown parameters there."""
    return variant in ((row or {}).get("saturated") or ())


def beside_latency(record: Record, row: Row) -> list[tuple[str, str]]:
    """Return (name, metric) of what is over the budget although the verdict, which judges latency, is not.

    Of throughput it is only what is over by more than one request of each run: at its end one more or less
    is done, in every seed alike, so that the interval does not show it.
    """
    if verdict(row) in (None, "over"):
        return []

    def is_over(metric: str, budget: float) -> bool:
        entry = overhead(row, metric)
        return entry is not None and entry.get("ci_low_pct") is not None and judge(entry, budget) == "over"

    budget = budget_pct(record)
    one = 100 * _seeds(record, row) / max(row["requests"], 1)
    found = [("throughput", "throughput")] if is_over("throughput", budget + one) else []
    slow = [p for p in ("p50", "p99") if is_over(f"io_path_{p}", budget)]
    return found + [(f"I/O path {p}", f"io_path_{p}") for p in slow[:1]]


def _seeds(record: Record, row: Row) -> int:
    """Return how many runs are in a row; at most, where scenarios of a record differ and do not say it."""
    return int(scenario_source(record, str(row["scenario"])).get("seeds") or len(record["seeds"]))


def tail_note(row: Row, budget: float) -> str:
    """Say what p99 has to do with the verdict where p50 alone would get another one; else return ''."""
    p50, p99 = (judge(overhead(row, f"latency_{p}"), budget) for p in ("p50", "p99"))
    if p50 is None or p99 is None or p50 == p99:
        return ""
    return "p99 decides" if p99 == verdict(row) else "p99 differs"


def bounds(entry: Mapping[str, Any], end: str) -> list[float]:
    """Return the known bounds (interval, range) at one end, ``low`` or ``high``, in %; else the value."""
    found = [entry.get(f"ci_{end}_pct"), entry.get(f"range_{end}_pct")]
    return [float(v) for v in found if v is not None] or [float(entry["value_pct"])]


def overhead(row: Row | None, metric: str) -> Mapping[str, Any] | None:
    """Return one overhead entry of a row (``latency_p50``, ``job``, ...), or None where there is none."""
    entry = ((row or {}).get("overhead") or {}).get(metric)
    return entry if isinstance(entry, Mapping) and entry.get("value_pct") is not None else None


def verdict(row: Row | None, path: str = "end_to_end") -> str | None:
    """Return the verdict of a row on one path (``end_to_end`` or ``io_path``), or None."""
    found = ((row or {}).get("verdict") or {}).get(path)
    return None if found is None else str(found)


def counts(record: Record, arm: Arm) -> dict[str, int]:
    """Count the end-to-end verdicts of a protection over the lines of the summary."""
    found = [verdict(line.protected.get(arm)) for line in all_lines(record)]
    return {name: found.count(name) for name in VERDICTS}


# How numbers are written. All three keep what a reader needs to check a verdict and no more.


def time_text(value_ns: float | None, signed: bool = False, micro: str = "us") -> str:
    """Write nanoseconds with three significant digits and a unit: ``10.3 us``, with a sign ``+81 ns``.

    Below 100 ns no tenths are written: the model does not claim them.
    """
    if value_ns is None:
        return NOTHING
    size = abs(value_ns)
    unit, scale = "ns", 1.0
    for next_unit, next_scale in ((micro, 1e3), ("ms", 1e6), ("s", 1e9)):
        if size >= next_scale * 0.9995:
            unit, scale = next_unit, next_scale
    if unit == "ns" and size >= 9.5:
        return f"{value_ns:{'+' if signed else ''}.0f} ns"
    return f"{_three_digits(value_ns / scale, signed)} {unit}"


def pct_text(value: float | None, signed: bool = True) -> str:
    """Write a percentage without its sign of percentage: ``+0.83``; two decimals below 10, one below 100."""
    if value is None:
        return NOTHING
    return _three_digits(value, signed)


def span_text(low: float | None, high: float | None) -> str:
    """Write a span of percentages: ``0.31..2.94 %``."""
    if low is None or high is None:
        return NOTHING
    return f"{pct_text(low, False)}..{pct_text(high, False)} %"


def plain_number(value: float) -> str:
    """Write a number as short as it goes: ``5`` for 5.0."""
    return f"{value:g}"


def _three_digits(value: float, signed: bool) -> str:
    size = abs(value)
    digits = 2 if size < 9.995 else 1 if size < 99.95 else 0
    text = f"{value:{'+' if signed else ''}.{digits}f}"
    return text.replace("-", "") if float(text) == 0 and not signed else text


def _is_baseline(record: Record, row: Row) -> bool:
    return row["scheme"] == baseline_scheme(record) and row.get("overhead") is None


def _line(record: Record, scenario: str, workload: str, cls: str, several: bool, rows: Sequence[Row]) -> Line:
    baseline = next((r for r in rows if _is_baseline(record, r)), None)
    protected = {Arm(str(r["scheme"]), str(r["policy"])): r for r in rows if not _is_baseline(record, r)}
    return Line(scenario, workload, cls, several, baseline, protected)


def _summary_classes(classes: list[str]) -> list[str]:
    """Return the classes that the summary shows, of like requests: a percentile of unlike ones is of none.

    The copies of a GPU stay together: what they cost stands in the time of the job.
    """
    first = [c for c in classes if KIND_MARK not in c and c != "all"]
    if not first or GPU_CLASSES.issuperset(first):
        return ["all"] if "all" in classes else classes
    out = []
    for one in first:
        kinds = [c for c in classes if c.startswith(one + KIND_MARK)]
        copies = all(c.removeprefix(one + KIND_MARK) in GPU_CLASSES for c in kinds)
        out += [one] if copies else kinds
    return out
