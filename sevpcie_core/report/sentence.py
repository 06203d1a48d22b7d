"""The sentences below a table: what it means, and on what it rests.

The rule of this module: nothing is said that the record does not hold, except what is true of every record of
this version (where figures of engines and cores come from, what the profiles are, how far plaintext is
measured).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from sevpcie_core.report import cells, view
from sevpcie_core.report.view import Arm, Line, Record, Row
from sevpcie_core.stats.interval import MIN_SEEDS


def sentence(record: Record) -> str:
    """Say in one paragraph what the record means and on what it rests."""
    return " ".join([*meaning(record), *basis(record)])


def meaning(record: Record) -> list[str]:
    """Say what the record means: verdicts, the largest cost, what decides the open ones."""
    arms = view.arms(record)
    lines = view.all_lines(record)
    if not arms or not lines:
        return ["No protection was compared: the record holds the baseline alone."]
    budget = f"{view.plain_number(view.budget_pct(record))} % budget"
    out = [_verdicts(record, arms, len(lines), budget)]
    # What is added on the link and what copies add differ by orders of magnitude: each has its largest.
    kinds = [[arm for arm in arms if view.on_the_link(record, arm) is sealed] for sealed in (True, False)]
    several = all(kinds)
    largest = []
    for words, kind in zip((" on the link", " beside a plain link"), kinds, strict=True):
        worst = _worst(lines, kind)
        if worst is not None:
            line, arm, percentile, told = worst
            where = f"{line.title} in {view.clean(line.scenario)}, {arm.title}"
            largest.append(f"{words if several else ''}: {told} at {percentile} ({where})")
    if largest:
        out.append(f"Largest added latency{';'.join(largest)}.")
    beside = Counter(
        "lost throughput" if metric == "throughput" else "the I/O path (latency without media and compute)"
        for line in lines
        for row in line.protected.values()
        for _, metric in view.beside_latency(record, row)
    )
    if beside:
        told = ", ".join(f"{name} ({count})" for name, count in beside.items())
        out.append(f"Verdicts judge latency; over the budget where latency is not: {told}.")
    deciders = Counter(
        _decider(record, row)
        for line in lines
        for row in line.protected.values()
        if row.get("decided_by") and view.verdict(row) == "inconclusive"
    )
    reasons = list(dict.fromkeys(reason for (reason, _), _ in deciders.most_common()))
    if reasons:
        what = [
            reason + ", ".join(f"{name} ({n})" for (of, name), n in deciders.most_common() if of == reason)
            for reason in reasons
        ]
        out.append(f"What leaves results inconclusive: {'; '.join(what)}.")
    return out


def _decider(record: Record, row: Row) -> tuple[str, str]:
    """Say what leaves a result open: a kind of reason in words, and which of its kind it is."""
    name = row["decided_by"]
    if name == "samples":
        return "", "too few samples for p50"
    if name == "load":
        return "", "more arrives than plaintext carries"
    if name != "seeds":
        return "unknown parameters, each over its range: ", view.clean(name)
    if len(record["seeds"]) < MIN_SEEDS:
        return "", f"fewer than {MIN_SEEDS} seeds, so no interval"
    kind = "what differs from seed to seed: "
    # Of p50 and p99, whose interval holds the budget; the line may show a range, its own or the other's.
    for percentile in ("p50", "p99"):
        entry = view.overhead(row, f"latency_{percentile}")
        if _holds(entry, "ci", view.budget_pct(record)):
            both = " beside its range" if _holds(entry, "range", view.budget_pct(record)) else ""
            return kind, f"{percentile}{both}"
    return kind, "latency"


def _holds(entry: Mapping[str, Any] | None, ends: str, budget: float) -> bool:
    """Return whether the interval ("ci") or the range of an overhead holds the budget."""
    low, high = ((entry or {}).get(f"{ends}_{end}_pct") for end in ("low", "high"))
    return low is not None and high is not None and low <= budget <= high


def basis(record: Record) -> list[str]:
    """Say on what the numbers rest: seeds, engine ranges, profiles, calibration."""
    seeds = len(record["seeds"])
    out = []
    if not record.get("complete", True):
        out.append("The run was interrupted: the record is INCOMPLETE.")
    if record["options"].get("quick"):
        out.append("A quick run: few requests of what is generated, so tails are missing or rough.")
    arms = view.arms(record)
    if arms:
        paired = f"{seeds} paired seed{'s' if seeds != 1 else ''}"
        sealed = any(view.on_the_link(record, arm) for arm in arms)
        engines = (
            " and on engine figures derived from structure, not measured: no public figure for such an engine"
            " exists, so each"
        )
        out.append(
            f"It rests on {paired} (same arrivals, addresses and device times in every run)"
            f"{engines if sealed else '; each'}"
            " unknown is taken at its favourable and its unfavourable end, which gives the range."
        )
    if any(not view.on_the_link(record, arm) for arm in arms):
        out.append(
            "A bounce buffer leaves the link plain: cores of the host copy protected data, or cipher them for"
            " a device that opens ciphertext, at published rates."
        )
    schemes = {arm.scheme for arm in arms}
    if "sev-pcie" in schemes:
        standard = "; PCIe IDE is the standard" if "pcie-ide" in schemes else ""
        out.append(f"SEV-PCIe is this project's profile of a description, not documented silicon{standard}.")
    out.append(
        "Plaintext times are presets, each number with its source; only some are measured (`sevpcie validate`"
        " compares the GPU's, and platforms that were calibrated, with machines)."
    )
    return out


def _verdicts(record: Record, arms: list[Arm], total: int, budget: str) -> str:
    counts = {arm: view.counts(record, arm) for arm in arms}
    if all(count["within"] == total for count in counts.values()):
        every = "Every protection stays" if len(arms) > 1 else f"{arms[0].title} stays"
        return f"{every} within the {budget} on {_all_of(total)}."
    parts = []
    for arm, count in counts.items():
        told = [f"{name} {count[name]}" for name in view.VERDICTS if count[name]]
        unjudged = total - sum(count.values())
        told += [f"not judged {unjudged}"] if unjudged else []
        parts.append(f"{arm.title}: {', '.join(told)}")
    return f"Against the {budget}, over {total} line{'s' if total != 1 else ''}: {'; '.join(parts)}."


def _all_of(total: int) -> str:
    return "the one line" if total == 1 else f"all {total} lines"


def _worst(lines: list[Line], arms: list[Arm]) -> tuple[Line, Arm, str, str] | None:
    """Return the line, protection and percentile (p50 or p99) with the largest added latency, and that."""
    worst: tuple[Line, Arm, str, str] | None = None
    largest = -math.inf
    for line in lines:
        for arm, row in ((arm, line.protected.get(arm)) for arm in arms):
            for percentile in ("p50", "p99"):
                entry = view.overhead(row, f"latency_{percentile}")
                if row is None or entry is None:
                    continue
                value = math.inf if view.saturates(row) else float(entry["value_pct"])
                if value > largest:
                    largest = value
                    worst = (line, arm, percentile, cells.share(row, f"latency_{percentile}"))
    return worst
