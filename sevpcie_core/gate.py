"""Thresholds on a record: parsed, checked against what the record holds, then judged.

    nvme[scheme=sev-pcie,policy=selective,workload=randread4k].latency_p99.overhead < 5%

Scenario, keys of the row, metric, limit. An omitted key means that every protected row must pass. `.overhead`
is the change against the baseline in per cent; without it the metric itself is meant (`.latency_p99 < 120us`,
`.throughput > 5 GB/s`).

Rule: a threshold that names something the record does not have is an error, never a silent pass.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from .errors import ConfigError, SevPcieError
from .record import Change, Overhead, Percentiles, Row, RunRecord
from .units import parse_rate_bps, parse_time_ps

Outcome = Literal["pass", "fail", "inconclusive"]
EXIT_CODES: Final[dict[Outcome, int]] = {"pass": 0, "fail": 99, "inconclusive": 4}

KEYS: Final = ("workload", "class", "scheme", "policy")
_TIMES: Final = tuple(
    f"{path}_{name}" for path in ("latency", "io_path") for name in Percentiles.model_fields
)
METRICS: Final = (*_TIMES, "throughput", "job")
OVERHEADS: Final = tuple(Overhead.model_fields)

_GRAMMAR: Final = re.compile(
    # A scenario made from a trace has dots in its name: the shortest that leaves a metric is taken.
    r"(?P<scenario>[^\s\[\]<>=]+?) (?:\[(?P<keys>[^\]]*)\])? \. (?P<metric>\w+) (?P<overhead>\.overhead)?"
    r"\s* (?P<op><=|>=|<|>) \s* (?P<limit>[^\s<>=].*)",
    re.VERBOSE,
)
_EXAMPLE: Final = "such as 'nvme[scheme=sev-pcie].latency_p99.overhead < 5%'"


@dataclass(frozen=True)
class Threshold:
    """One parsed line. `limit` is in the unit of the record: per cent, ns, Gb/s or ms."""

    text: str
    scenario: str
    keys: dict[str, str]
    metric: str
    overhead: bool
    op: str
    limit: float

    @property
    def unit(self) -> str:
        """The unit of `limit` and of what is compared with it."""
        if self.overhead:
            return "%"
        return {"throughput": "Gb/s", "job": "ms"}.get(self.metric, "ns")


@dataclass(frozen=True)
class Finding:
    """One row against one threshold. Values in the unit of the threshold; low and high span every doubt."""

    row: tuple[str, str, str, str, str]
    outcome: Outcome
    value: float | None
    low: float | None
    high: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Judgement:
    """One threshold and every row that it speaks of."""

    threshold: Threshold
    findings: list[Finding]

    @property
    def outcome(self) -> Outcome:
        """The worst of its rows."""
        return worst(finding.outcome for finding in self.findings)


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """Return `fail` before `inconclusive` before `pass`."""
    seen = set(outcomes)
    return "fail" if "fail" in seen else "inconclusive" if "inconclusive" in seen else "pass"


def parse(text: str) -> Threshold:
    """Parse one threshold. Raises ConfigError: what was found, what is allowed."""
    text = text.strip()
    match = _GRAMMAR.fullmatch(text)
    if match is None:
        raise ConfigError(f"{text!r}; expected SCENARIO[key=value,...].METRIC[.overhead] < LIMIT, {_EXAMPLE}")
    metric, overhead = match["metric"], bool(match["overhead"])
    allowed = OVERHEADS if overhead else METRICS
    if metric not in allowed:
        kind = "overhead of a metric" if overhead else "metric"
        raise ConfigError(f"{text!r}: unknown {kind} {metric!r}; there are: {', '.join(allowed)}")
    keys: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in (match["keys"] or "").split(","))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not (equals and value) or key not in KEYS or key in keys:
            raise ConfigError(
                f"{text!r}: {part!r}; expected each of {', '.join(KEYS)} at most once, as key=value"
            )
        keys[key] = value
    limit = _parse_limit(text, match["limit"], metric, overhead)
    return Threshold(text, match["scenario"], keys, metric, overhead, match["op"], limit)


def read_thresholds(path: Path, text: str) -> list[Threshold]:
    """Return the thresholds of a file: TOML with `thresholds = ["..."]`, or one per line with `#` comments.

    Raises ConfigError: file, line or key, what was found; also if there is not one threshold in it.
    """
    if path.suffix == ".toml":
        places = [(f"{path}: thresholds[{i}]", entry) for i, entry in enumerate(_toml_entries(path, text))]
    else:
        lines = ((number, line.partition("#")[0].strip()) for number, line in enumerate(text.splitlines(), 1))
        places = [(f"{path}:{number}", line) for number, line in lines if line]
    if not places:
        raise ConfigError(f"{path}: no thresholds; expected at least one, {_EXAMPLE}")
    thresholds = []
    for place, entry in places:
        try:
            thresholds.append(parse(entry))
        except ConfigError as error:
            raise ConfigError(f"{place}: {error}") from None
    return thresholds


def judge(record: RunRecord, thresholds: Iterable[Threshold]) -> list[Judgement]:
    """Judge a record.

    Raises ConfigError for a scenario, key or value that the record does not have, before anything is judged.
    """
    if not record.complete:
        raise ConfigError("the record is of an interrupted run (complete: false); a gate needs a whole one")
    chosen = [(threshold, _select(record.results, threshold)) for threshold in thresholds]
    return [Judgement(threshold, [_judge_row(row, threshold) for row in rows]) for threshold, rows in chosen]


def _parse_limit(text: str, limit: str, metric: str, overhead: bool) -> float:
    """Return the limit in the unit of the record."""
    try:
        if overhead:
            number, percent, rest = limit.partition("%")
            if not percent or rest.strip():
                raise ConfigError(f"{limit!r}; expected per cent such as '5%'")
            if not re.fullmatch(r"[+-]?\d+(\.\d*)?|[+-]?\.\d+", number.strip(), re.ASCII):
                raise ConfigError(f"{limit!r}; expected per cent such as '5%'")
            if abs(float(number)) == float("inf"):
                raise ConfigError("a number beyond all limits; expected per cent such as '5%'")
            return float(number)
        if metric == "throughput":
            return parse_rate_bps(limit) / 1e9
        return parse_time_ps(limit) / (1e9 if metric == "job" else 1e3)
    except SevPcieError as error:
        raise ConfigError(f"{text!r}: {error}") from None
    except (ValueError, OverflowError):
        raise ConfigError(f"{text[:60]!r}: a number beyond all limits") from None


def _toml_entries(path: Path, text: str) -> list[str]:
    from .experiment import toml_text

    data = toml_text.parse(text, str(path), "thresholds")
    if set(data) - {"thresholds"}:
        raise ConfigError(f"{path}: unknown key {min(set(data) - {'thresholds'})!r}; allowed: thresholds")
    entries = data.get("thresholds", [])
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise ConfigError(f"{path}: thresholds: {entries!r}; expected a list of texts")
    return entries


def _field(row: Row, key: str) -> str:
    return row.class_ if key == "class" else getattr(row, key)


def _select(rows: list[Row], threshold: Threshold) -> list[Row]:
    """Return the rows that a threshold speaks of; at least one."""
    names = {row.scenario for row in rows}
    if threshold.scenario not in names:
        raise ConfigError(_absent(threshold, "scenario", threshold.scenario, names))
    rows = [row for row in rows if row.scenario == threshold.scenario]
    # The plaintext arm is judged only by its name: an omitted key speaks of protected rows.
    if threshold.keys.get("scheme") != "none":
        rows = [row for row in rows if row.scheme != "none"]
    for key, wanted in threshold.keys.items():
        names = {_field(row, key) for row in rows}
        rows = [row for row in rows if _field(row, key) == wanted]
        if not rows:
            raise ConfigError(_absent(threshold, key, wanted, names))
    if threshold.overhead and "scheme" not in threshold.keys:
        # With another baseline than `none` a protected row can be the baseline itself.
        rows = [row for row in rows if row.overhead is not None]
    if threshold.metric == "job":
        rows = [row for row in rows if row.job_ms is not None]
    if not rows:
        raise ConfigError(f"{threshold.text!r}: no row of the record has this metric")
    if threshold.overhead and any(row.overhead is None for row in rows):
        raise ConfigError(f"{threshold.text!r}: scheme={rows[0].scheme} is the baseline and has no overhead")
    return rows


def _absent(threshold: Threshold, key: str, wanted: str, names: set[str]) -> str:
    there = ", ".join(sorted(names)) or "none"
    return f"{threshold.text!r}: no row with {key} {wanted!r}; there are: {there}"


def _judge_row(row: Row, threshold: Threshold) -> Finding:
    value, low, high, reason = _observe(row, threshold)
    outcome: Outcome = "inconclusive"
    if low is not None and high is not None:
        good, bad = (high, low) if threshold.op.startswith("<") else (low, high)
        if _holds(good, threshold):
            outcome = "pass"
        elif not _holds(bad, threshold):
            outcome = "fail"
        else:
            reason = "the limit lies inside the interval"
    return Finding(row.key, outcome, value, low, high, reason)


def _holds(value: float, threshold: Threshold) -> bool:
    match threshold.op:
        case "<":
            return value < threshold.limit
        case "<=":
            return value <= threshold.limit
        case ">":
            return value > threshold.limit
        case _:
            return value >= threshold.limit


def _observe(row: Row, threshold: Threshold) -> tuple[float | None, float | None, float | None, str | None]:
    """Return value, low, high and why one of them is missing."""
    if threshold.overhead:
        change: Change | None = getattr(row.overhead, threshold.metric)
        if change is None:
            return None, None, None, "too few samples above this percentile"
        ends = (change.ci_low_pct, change.ci_high_pct)
        if ends[0] is None or ends[1] is None:
            return change.value_pct, None, None, "no interval: fewer than 5 seeds"
        spans = [end for end in (*ends, change.range_low_pct, change.range_high_pct) if end is not None]
        return change.value_pct, min(spans), max(spans), None
    value: float | None
    if threshold.metric == "throughput":
        value = row.throughput_gbps
    elif threshold.metric == "job":
        value = row.job_ms
    else:
        path, _, name = threshold.metric.rpartition("_")
        value = getattr(row.latency_ns if path == "latency" else row.io_path_ns, name)
    return value, value, value, None if value is not None else "too few samples above this percentile"
