"""Plausible made-up records in the exact layout of the record, for tests of everything that reads one.

The rule of this module: numbers come from closed forms and no clock and no draw, so that a record is the same
on every machine; and they agree with each other (a verdict follows from its overheads, wire bytes sum up), so
that a test may compare two views of them. They are not results.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from sevpcie_core.record import results_digest

ARMS = (("sev-pcie", "selective"), ("sev-pcie", "all"), ("pcie-ide", "all"))
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
LIMITS = {"nvme": "device", "nic": "load", "gpu": "link", "mix": "link"}

# scenario -> workload -> class -> (p50 ns, spread, added ns, payload per TLP bytes, requests, Gb/s, job ms)
Shape = tuple[float, float, float, int, int, float, float | None]
SHAPES: dict[str, dict[str, dict[str, Shape]]] = {
    "nvme": {
        "randread4k": {
            "all": (31_000, 0.60, 92, 256, 20_000, 52.1, None),
            "dram": (10_300, 0.12, 94, 256, 10_000, 44.0, None),
            "tlc": (81_500, 0.30, 90, 256, 10_000, 8.1, None),
        },
        "mix70_30": {
            "all": (36_000, 0.60, 171, 256, 20_000, 55.3, None),
            "dram": (14_100, 0.20, 176, 256, 10_000, 47.2, None),
            "tlc": (92_300, 0.45, 160, 256, 10_000, 8.1, None),
        },
    },
    "nic": {
        "imix_rx": {"all": (1_480, 0.25, 79, 64, 10_000, 212.0, None)},
        "imix_tx": {"all": (1_910, 0.22, 330, 64, 10_000, 212.0, None)},
        "mtu1500_rx": {"all": (1_620, 0.10, 60, 256, 10_000, 387.0, None)},
        "mtu1500_tx": {"all": (2_240, 0.12, 83, 256, 10_000, 387.0, None)},
        "http_capture": {"all": (1_540, 0.35, 72, 128, 4_212, 11.9, None)},
    },
    "gpu": {
        "resnet_train": {
            "all": (412_000, 0.90, 1_900, 256, 3_120, 148.0, 812.4),
            "h2d": (455_000, 0.85, 2_050, 256, 2_300, 120.0, 812.4),
            "d2h": (96_000, 0.60, 610, 256, 820, 28.0, 812.4),
            "launch": (1_950, 0.15, 41, 64, 40_000, 0.2, 812.4),
        },
        "llm_decode": {
            "all": (22_400, 0.70, 780, 256, 9_400, 31.0, 1_204.0),
            "h2d": (23_000, 0.70, 800, 256, 5_000, 17.0, 1_204.0),
            "d2h": (21_000, 0.65, 760, 256, 4_400, 14.0, 1_204.0),
            "launch": (1_980, 0.15, 43, 64, 81_000, 0.3, 1_204.0),
        },
        "vit_infer": {
            "all": (61_000, 0.40, 1_000, 256, 2_100, 88.0, 97.3),
            "h2d": (64_000, 0.35, 1_050, 256, 1_800, 80.0, 97.3),
            "d2h": (31_000, 0.30, 420, 256, 300, 8.0, 97.3),
            "launch": (1_960, 0.15, 42, 64, 9_000, 0.2, 97.3),
        },
    },
    "mix": {
        "shared_root": {
            "all": (2_100, 1.20, 95, 256, 24_000, 402.0, 905.0),
            "nvme": (12_800, 0.25, 130, 256, 8_000, 40.1, None),
            "nic": (1_830, 0.30, 40, 256, 12_000, 290.0, None),
            "gpu": (430_000, 0.80, 2_600, 256, 4_000, 71.0, 905.0),
        }
    },
}
TITLES = {
    "nvme": "NVMe reads and writes, DRAM-like and TLC device, Gen5 x4",
    "nic": "400 Gb/s NIC, generated and recorded frames, Gen5 x16",
    "gpu": "recorded GPU jobs, Gen5 x16",
    "mix": "NVMe, NIC and GPU behind one root complex",
}
# how much the added latency grows per nine above p90, relative to that of the median
TAILS = {("mix", "nic"): 1.6}
# factor on the added time, and the favourable and unfavourable ends of the unknowns relative to it
COST = {
    ("sev-pcie", "selective"): (0.85, 0.35, 1.9),
    ("sev-pcie", "all"): (1.0, 0.35, 1.9),
    ("pcie-ide", "all"): (1.04, 0.33, 2.1),
}


def make_record(
    scenarios: Sequence[str] = ("nvme", "nic", "gpu", "mix"),
    arms: Sequence[tuple[str, str]] = ARMS,
    budget_pct: float = 5.0,
    seeds: int = 5,
    quick: bool = False,
    shapes: Mapping[str, Mapping[str, Mapping[str, Shape]]] = SHAPES,
) -> dict[str, Any]:
    """Return a record of those scenarios and protections (an empty ``arms`` leaves the baseline alone)."""
    results: list[dict[str, Any]] = []
    for scenario in scenarios:
        for workload, classes in shapes[scenario].items():
            for cls, shape in classes.items():
                base = make_row(scenario, workload, cls, shape)
                results.append(base)
                results += [protected_row(base, shape, arm, budget_pct) for arm in arms]
    return {
        "schema_version": 1,
        "command": "compare",
        "created": "2026-11-22T12:00:00+00:00",
        "complete": True,
        "versions": {"sevpcie_core": "0.1.0", "python": "3.11.7", "numba": "0.68.1", "numpy": "2.3.5"},
        "host": {
            "cpu": "an example CPU",
            "cores": 2,
            "memory_bytes": 8 << 30,
            "os": "Linux",
            "machine": "x86_64",
            "jit": True,
        },
        "options": {
            "budget_pct": budget_pct,
            "fail_on": None,
            "quick": quick,
            "baseline": "none",
            "requests": None,
            "jobs": 1,
            "scenarios": [_scenario_entry(name, shapes[name], arms, seeds, budget_pct) for name in scenarios],
            "arms": [{"scheme": scheme, "policy": policy} for scheme, policy in arms],
        },
        "seeds": list(range(1, seeds + 1)),
        "simulator": {"tlps": 61_234_567, "seconds": 1.42, "tlps_per_s": 43_122_934.0, "threads": 2},
        "digest": results_digest(results),
        "warnings": [],
        "results": results,
    }


def make_row(scenario: str, workload: str, cls: str, shape: Shape) -> dict[str, Any]:
    """Return a plaintext row of that shape."""
    p50, spread, _, chunk, requests, gbps, job_ms = shape
    media = 0.8 if scenario == "nvme" else 0.0
    return {
        "scenario": scenario,
        "workload": workload,
        "class": cls,
        "scheme": "none",
        "policy": "off",
        "requests": requests,
        "latency_ns": percentiles(p50, spread, requests),
        "io_path_ns": percentiles(p50 * (1 - media), spread * (1 - media), requests),
        "throughput_gbps": gbps,
        "job_ms": job_ms,
        "wire": wire(chunk, requests, ide=0),
        "overhead": None,
        "verdict": None,
        "decided_by": None,
        "limited_by": LIMITS.get(scenario, "link"),
        "ledger_ns": ledger(percentiles(p50, spread, requests)["mean"], media),
        "cdf": cdf(p50, spread),
        "io_path_cdf": cdf(p50 * (1 - media), spread * (1 - media)),
    }


def ledger(mean: float | None, media: float) -> dict[str, float]:
    """Return where the mean time goes, in the order of a request's way."""
    if mean is None:
        return {}
    rest = mean * (1 - media)
    shares = {"device": 0.3, "arbitration": 0.1, "serialisation": 0.2, "wire": 0.1, "hold": 0.0, "host": 0.3}
    return {"media": mean * media} | {place: rest * share for place, share in shares.items()}


def protected_row(
    base: Mapping[str, Any], shape: Shape, arm: tuple[str, str], budget_pct: float
) -> dict[str, Any]:
    """Return the row of a protection beside its plaintext row; derived fields follow from the latencies."""
    p50, _, added, chunk, requests, gbps, job_ms = shape
    factor, favourable, unfavourable = COST.get(arm, (1.0, 0.5, 1.5))
    slower = 1 + factor * added / p50
    tail = TAILS.get((base["scenario"], base["class"]), 0.0)

    def slow(p: float) -> float:
        return 1 + (slower - 1) * (1 + tail * max(0.0, -math.log10(1 - p) - 1))

    row = copy.deepcopy(dict(base))
    row["scheme"], row["policy"] = arm
    row["latency_ns"] = {
        k: None if v is None else v * slow(PERCENTILES.get(k, 0.5)) for k, v in base["latency_ns"].items()
    }
    row["io_path_ns"] = {k: None if v is None else v + factor * added for k, v in base["io_path_ns"].items()}
    points = zip(base["cdf"]["ns"], base["cdf"]["p"], strict=True)
    row["cdf"] = {"ns": [v * slow(p) for v, p in points], "p": base["cdf"]["p"]}
    row["io_path_cdf"] = {
        "ns": [v + factor * added for v in base["io_path_cdf"]["ns"]],
        "p": base["cdf"]["p"],
    }
    before, after = base["latency_ns"]["mean"], row["latency_ns"]["mean"]
    if before is not None and after is not None:
        row["ledger_ns"] = base["ledger_ns"] | {
            "hold": 0.5 * (after - before),
            "serialisation": base["ledger_ns"]["serialisation"] + 0.5 * (after - before),
        }
    row["wire"] = wire(chunk, requests, ide=16 if arm[1] == "all" else 14)
    row["throughput_gbps"] = gbps / (1 + 0.2 * (slower - 1))
    row["job_ms"] = None if job_ms is None else job_ms * (1 + 0.05 * (slower - 1))

    def entry(before: float | None, after: float | None, per_ns: float = 1.0) -> dict[str, Any] | None:
        if before is None or after is None:
            return None
        pct = 100 * (after / before - 1)
        return {
            "value_pct": pct,
            "added_ns": (after - before) * per_ns,
            "ci_low_pct": pct * 0.97,
            "ci_high_pct": pct * 1.03,
            "range_low_pct": pct * favourable,
            "range_high_pct": pct * unfavourable,
        }

    overhead: dict[str, Any] = {
        f"{name}_{p}": entry(base[f"{name}_ns"][p], row[f"{name}_ns"][p])
        for name in ("latency", "io_path")
        for p in ("p50", "p99")
    }
    lost = entry(row["throughput_gbps"], base["throughput_gbps"])
    assert lost is not None
    overhead["throughput"] = lost | {"added_ns": None}
    overhead["job"] = entry(base["job_ms"], row["job_ms"], per_ns=1e6)
    row["overhead"] = overhead
    words = {
        "end_to_end": verdict(overhead["latency_p50"], overhead["latency_p99"], budget_pct),
        "io_path": verdict(overhead["io_path_p50"], overhead["io_path_p99"], budget_pct),
    }
    row["verdict"] = None if None in words.values() else words
    undecided = words["end_to_end"] == "inconclusive"
    row["decided_by"] = "engine.bytes_per_clock" if undecided else None
    if arm[1] == "all" and chunk == 64:
        row["limited_by"] = "engine"
    return row


def verdict(p50: Mapping[str, Any] | None, p99: Mapping[str, Any] | None, budget_pct: float) -> str | None:
    """Apply the verdict rule to the overhead of p50 and of p99."""
    entries = [e for e in (p50, p99) if e is not None]
    if not entries:
        return None
    if all(max(e["ci_high_pct"], e["range_high_pct"]) < budget_pct for e in entries):
        return "within"
    over = any(min(e["ci_low_pct"], e["range_low_pct"]) > budget_pct for e in entries)
    return "over" if over else "inconclusive"


def percentiles(p50: float, spread: float, requests: int) -> dict[str, float | None]:
    """Return the percentiles in ns; one with fewer than 10 samples above it is null."""
    out: dict[str, float | None] = {}
    for name, p in PERCENTILES.items():
        out[name] = quantile(p50, spread, p) if requests * (1 - p) >= 10 - 1e-9 else None
    out["mean"] = p50 * (1 + spread / 4)
    return out


def quantile(p50: float, spread: float, p: float) -> float:
    """Return a latency in ns that grows smoothly from its floor to its tail."""
    nines = -math.log10(1 - min(p, 0.99999))
    return p50 * (1 + spread * (nines - math.log10(2)) / (1.4 if p >= 0.5 else 0.9))


def cdf(p50: float, spread: float) -> dict[str, list[float]]:
    """Return a latency distribution of 120 points."""
    p = [i / 80 for i in range(80)] + [1 - 10 ** (-2 - i / 13) for i in range(40)]
    p = sorted(set(p))
    return {"ns": [quantile(p50, spread, v) for v in p], "p": p}


def wire(chunk: int, requests: int, ide: int) -> dict[str, Any]:
    """Return wire bytes of TLPs with ``chunk`` bytes of payload each and ``ide`` bytes of protection."""
    tlps = requests * 17
    payload, header, link = requests * 16 * chunk, tlps * 16, tlps * 8
    total = payload + header + link + tlps * ide
    return {
        "payload_bytes": payload,
        "wire_bytes": total,
        "tlps": tlps,
        "efficiency": payload / total,
        "header_bytes": header,
        "link_bytes": link,
        "ide_bytes": tlps * ide,
    }


def _scenario_entry(
    name: str,
    shape: Mapping[str, Mapping[str, Shape]],
    arms: Sequence[tuple[str, str]],
    seeds: int,
    budget: float,
) -> dict[str, Any]:
    workloads = []
    for workload, classes in shape.items():
        devices = [c for c in classes if c not in ("all", "h2d", "d2h", "launch")] or [name]
        workloads.append(
            {
                "name": workload,
                "device": {
                    device: {"preset": f"{device}-example", "traffic": _traffic(name, device)}
                    for device in devices
                },
            }
        )
    scenario = {
        "schema_version": 1,
        "name": name,
        "title": TITLES.get(name, name),
        "link": "gen5x4" if name == "nvme" else "gen5x16",
        "host": "server",
        "seed": 1,
        "seeds": seeds,
        "budget_pct": budget,
        "requests": 10_000,
        "arm": [{"scheme": scheme, "policy": policy} for scheme, policy in arms],
        "regions": {"data": 1.0, "queue": 1.0, "mmio": 0.0, "msi": 0.0},
        "workload": workloads,
    }
    return {"name": name, "digest": hashlib.sha256(name.encode()).hexdigest(), "scenario": scenario}


def _traffic(scenario: str, device: str) -> dict[str, Any]:
    kind = device if scenario == "mix" else scenario
    if kind == "nvme":
        return {"kind": "nvme", "queue_depth": 32, "block": "4KiB", "read_share": 1.0}
    if kind == "nic":
        return {"kind": "nic", "direction": "rx", "sizes": "imix", "rate": "200Gb/s"}
    return {"kind": "gpu", "trace": "sample:example"}
