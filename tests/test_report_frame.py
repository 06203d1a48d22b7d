"""The frame holds the numbers of the record, under documented names."""

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
from records import SHAPES, make_record

from sevpcie_core.report.frame import COLUMNS, METRICS, PARTS, PERCENTILES, to_frame


def test_columns_are_the_documented_ones() -> None:
    assert list(to_frame(make_record()).columns) == list(COLUMNS)
    assert list(to_frame(make_record(["nvme"], arms=())).columns) == list(COLUMNS)
    assert all(COLUMNS.values())


def test_numbers_are_those_of_the_record() -> None:
    record = make_record()
    frame = to_frame(record)
    assert len(frame) == len(record["results"])

    def same(cell: object, value: object) -> bool:
        return cell == value or (value is None and isinstance(cell, float) and math.isnan(cell))

    for told, row in zip(frame.to_dict("records"), record["results"], strict=True):
        for name in (
            "scenario",
            "workload",
            "class",
            "scheme",
            "policy",
            "requests",
            "limited_by",
            "decided_by",
        ):
            assert same(told[name], row[name]), name
        for p in PERCENTILES:
            assert same(told[f"latency_{p}_ns"], row["latency_ns"][p])
            assert same(told[f"io_path_{p}_ns"], row["io_path_ns"][p])
        assert told["wire_total_bytes"] == row["wire"]["wire_bytes"]
        assert told["wire_ide_bytes"] == row["wire"]["ide_bytes"]
        assert told["protected"] == (row["scheme"] != "none")
        for metric in METRICS:
            entry = (row["overhead"] or {}).get(metric) or {}
            for part in PARTS:
                assert same(told[f"{metric}_{part}"], entry.get(part)), (metric, part)
        assert same(told["verdict_io_path"], (row["verdict"] or {}).get("io_path"))


def test_types_do_not_depend_on_what_is_missing() -> None:
    full = to_frame(make_record())
    bare = to_frame(make_record(["nvme"], arms=(), shapes={"nvme": {"one": SHAPES["nvme"]["mix70_30"]}}))
    assert (full.dtypes == bare.dtypes).all()
    assert bare["latency_p50_value_pct"].isna().all()
    assert bare["decided_by"].isna().all()
    empty = make_record() | {"results": []}
    assert (to_frame(empty).dtypes == full.dtypes).all()


def test_it_is_tidy_enough_to_ask() -> None:
    frame = to_frame(make_record())
    key = ["scenario", "workload", "class", "scheme", "policy"]
    assert not frame.duplicated(key).any()
    worst = frame[frame["protected"]].groupby("scheme")["latency_p50_value_pct"].max()
    assert worst["pcie-ide"] == pytest.approx(100 * 330 * 1.04 / 1910)


def test_importing_the_report_package_costs_nothing() -> None:
    code = (
        "import sys, sevpcie_core.report.table, sevpcie_core.report.sentence, sevpcie_core.report.frame;"
        "print([m for m in ('pandas', 'matplotlib', 'numpy', 'rich', 'jinja2') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_book_names_every_column() -> None:
    book = (Path(__file__).resolve().parent.parent / "docs" / "reading-results.md").read_text()
    named: set[str] = set()
    for pattern in re.findall(r"`([a-z0-9_{},]+)`", book):
        for metric in METRICS if pattern.startswith("{metric}") else ("",):
            name = pattern.replace("{metric}", metric)
            choices = re.search(r"\{(.*?)\}", name)
            named |= {name.replace(choices[0], c) for c in choices[1].split(",")} if choices else {name}
    assert set(COLUMNS) <= named
