"""The results of a record as a tidy DataFrame: one row per (scenario, workload, class, scheme, policy).

The rule of this module: the columns are those of ``COLUMNS``, in that order, whatever the record holds; the
unit stands at the end of a name; what the record does not hold is missing (NaN), never 0. The distributions
stay in the record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sevpcie_core.link.places import PLACES
from sevpcie_core.report import view
from sevpcie_core.report.view import Record, Row

if TYPE_CHECKING:
    import pandas as pd

PERCENTILES = ("p50", "p90", "p99", "p999", "mean")
METRICS = {
    "latency_p50": "end-to-end latency at p50",
    "latency_p99": "end-to-end latency at p99",
    "io_path_p50": "latency without media and compute time at p50",
    "io_path_p99": "latency without media and compute time at p99",
    "throughput": "throughput (what is lost)",
    "job": "time of a whole GPU job",
}
PARTS = {
    "value_pct": "added with typical parameters, % of the baseline; positive is worse",
    "added_ns": "the same in ns",
    "ci_low_pct": "lower end of the 95 % interval over the paired seeds, %",
    "ci_high_pct": "upper end of that interval, %",
    "range_low_pct": "every unknown parameter at its favourable end, %",
    "range_high_pct": "every unknown parameter at its unfavourable end, %",
}

COLUMNS: dict[str, str] = {
    "scenario": "name of the scenario",
    "workload": "name of the workload",
    "class": "all, or one device or kind of request",
    "scheme": "none, sev-pcie, pcie-ide, bounce-buffer, ...",
    "policy": "off, selective or all",
    "protected": "False for the baseline, True for a row with an overhead",
    "requests": "requests that were measured, over all seeds",
    **{f"latency_{p}_ns": f"end-to-end latency, {p}, ns" for p in PERCENTILES},
    **{f"io_path_{p}_ns": f"latency without media and compute time, {p}, ns" for p in PERCENTILES},
    "throughput_gbps": "payload, Gb/s (10^9 bits per second)",
    "job_ms": "time of a whole GPU job, ms",
    "wire_payload_bytes": "bytes that the application asked for",
    "wire_total_bytes": "bytes of all TLPs on the link, both directions",
    "wire_header_bytes": "of these: TLP headers",
    "wire_link_bytes": "of these: framing, sequence numbers, LCRC",
    "wire_ide_bytes": "of these: what encryption adds (prefix, MAC, PCRC)",
    "wire_tlps": "TLPs on the link",
    "wire_efficiency": "payload bytes / bytes on the link, 0 to 1",
    **{
        f"{metric}_{part}": f"{what}: {how}"
        for metric, what in METRICS.items()
        for part, how in PARTS.items()
    },
    "verdict_end_to_end": "within, over or inconclusive against the budget, from p50 and p99",
    "verdict_io_path": "the same on the latency without media and compute time",
    "decided_by": "what the verdict hangs on: a parameter, seeds, samples, load (more than is carried)",
    "limited_by": "the resource that limits: link, credits, tags, engine, host, iommu, device, load",
    "limited_at": "which link limits, and its direction: link upstream, ...; what a load queues for, bursts",
    "saturated": "where more arrives than is carried and latency grows as long as the run: typical, ...",
    **{f"ledger_{place}_ns": f"mean time of a request in this place, ns: {place}" for place in PLACES},
}
"""Column of the frame: what it holds. Text has pandas' ``str`` dtype, numbers are float64 or int64."""

KEY = ("scenario", "workload", "class", "scheme", "policy")
TEXT = frozenset(
    {*KEY, "verdict_end_to_end", "verdict_io_path", "decided_by", "limited_by", "limited_at", "saturated"}
)
WHOLE = frozenset(
    {"requests", "wire_tlps", *(c for c in COLUMNS if c.startswith("wire_") and c.endswith("_bytes"))}
)


def to_frame(record: Record) -> pd.DataFrame:
    """Return the results as a DataFrame with the columns of ``COLUMNS``, in the order of the record."""
    import pandas as pd

    rows = [_flat(row) for row in record["results"]]
    data = {name: pd.Series([row[name] for row in rows], dtype=_dtype(name)) for name in COLUMNS}
    return pd.DataFrame(data)


def _dtype(name: str) -> str:
    if name in TEXT:
        return "str"
    if name == "protected":
        return "bool"
    return "int64" if name in WHOLE else "float64"


def _flat(row: Row) -> dict[str, Any]:
    wire = row["wire"]
    flat: dict[str, Any] = {name: row[name] for name in KEY}
    flat["protected"] = row.get("overhead") is not None
    flat["requests"] = row["requests"]
    for path in ("latency", "io_path"):
        flat |= {f"{path}_{p}_ns": row[f"{path}_ns"].get(p) for p in PERCENTILES}
    flat |= {
        name: row.get(name)
        for name in ("throughput_gbps", "job_ms", "decided_by", "limited_by", "limited_at")
    }
    flat |= {f"wire_{part}_bytes": wire[f"{part}_bytes"] for part in ("payload", "header", "link", "ide")}
    flat |= {
        "wire_total_bytes": wire["wire_bytes"],
        "wire_tlps": wire["tlps"],
        "wire_efficiency": wire["efficiency"],
    }
    for metric in METRICS:
        entry = view.overhead(row, metric) or {}
        flat |= {f"{metric}_{part}": entry.get(part) for part in PARTS}
    flat["saturated"] = " ".join(row.get("saturated") or ()) or None
    ledger = row.get("ledger_ns") or {}
    flat |= {f"ledger_{place}_ns": ledger.get(place) for place in PLACES}
    flat |= {f"verdict_{path}": view.verdict(row, path) for path in ("end_to_end", "io_path")}
    return flat
