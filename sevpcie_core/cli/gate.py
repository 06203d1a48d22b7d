"""`sevpcie gate`: thresholds on a record, for CI."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from . import options, output

if TYPE_CHECKING:
    from ..gate import Finding, Judgement, Outcome

_TICKS: Final = {"pass": "✓ pass", "fail": "✗ fail", "inconclusive": "? inconclusive"}


def gate(
    record: options.RecordFile,
    thresholds: Annotated[
        Path,
        typer.Option(
            "--thresholds", "-t", metavar="FILE", help="Thresholds: TOML or one per line.", show_default=False
        ),
    ],
    json: options.Json = False,
) -> int:
    """Check the thresholds of a file on a record.

    Ends with 0 if all pass, 99 if one fails, 4 if none fails but one cannot be decided.
    """
    from ..files import read_text
    from ..gate import EXIT_CODES, judge, read_thresholds, worst
    from ..record import RunRecord

    limits = read_thresholds(thresholds, read_text(thresholds, max_bytes=1 << 20))
    judgements = judge(RunRecord.load(record), limits)
    outcome = worst(judgement.outcome for judgement in judgements)
    with output.pipe():
        if json:
            output.print_json(
                {
                    "schema_version": 1,
                    "command": "gate",
                    "record": str(record),
                    "outcome": outcome,
                    "thresholds": [_plain(judgement) for judgement in judgements],
                }
            )
        else:
            for judgement in judgements:
                _print(judgement)
    return EXIT_CODES[outcome]


def _plain(judgement: "Judgement") -> dict[str, object]:
    return {
        "threshold": judgement.threshold.text,
        "unit": judgement.threshold.unit,
        "limit": judgement.threshold.limit,
        "outcome": judgement.outcome,
        "rows": [
            {**asdict(finding), "row": dict(zip(_KEY_NAMES, finding.row, strict=True))}
            for finding in judgement.findings
        ],
    }


_KEY_NAMES: Final = ("scenario", "workload", "class", "scheme", "policy")


def _print(judgement: "Judgement") -> None:
    """Print the threshold, then the rows that do not pass, or the passing one nearest to the limit."""
    print(f"{_mark(judgement.outcome)}: {judgement.threshold.text}")
    findings = judgement.findings
    shown = [f for f in findings if f.outcome != "pass"] or [_tightest(judgement)]
    for finding in shown:
        print(f"    {_mark(finding.outcome)}: {'/'.join(finding.row)}: {_observed(finding, judgement)}")
    if len(shown) < len(findings):
        print(f"    {_mark('pass')}: {len(findings) - len(shown)} more")


def _mark(outcome: "Outcome") -> str:
    """Return a tick or cross and the word; the word alone where the output cannot show the tick."""
    utf = "utf" in (sys.stdout.encoding or "").lower()
    return _TICKS[outcome] if utf else outcome


def _tightest(judgement: "Judgement") -> "Finding":
    """Return the passing row that is nearest to the limit."""
    below = judgement.threshold.op.startswith("<")
    return max(judgement.findings, key=lambda f: (f.high or 0.0) if below else -(f.low or 0.0))


def _figure(value: float) -> str:
    """Return four digits, or all before the point: never a power of ten."""
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def _observed(finding: "Finding", judgement: "Judgement") -> str:
    """Return the observed value with its interval, and why it cannot be decided."""
    unit = judgement.threshold.unit
    if finding.value is None:
        return finding.reason or "no value"
    text = f"{_figure(finding.value)} {unit}"
    if finding.low is not None and finding.high is not None and finding.low < finding.high:
        text += f" ({_figure(finding.low)} to {_figure(finding.high)})"
    return f"{text}: {finding.reason}" if finding.reason else text
