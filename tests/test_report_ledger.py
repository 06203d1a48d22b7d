"""The ledger of a record as a figure and as text: parts sum to what is added, and nothing is left out."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from records import make_record

from sevpcie_core import cli
from sevpcie_core.api import compare
from sevpcie_core.link.places import PLACES
from sevpcie_core.record import RunRecord, results_digest
from sevpcie_core.report import view
from sevpcie_core.report.html import render_html
from sevpcie_core.report.ledger import COLOURS, MEANINGS, MEDIA, added, fig_ledger, sentences


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    """Return a real record, small."""
    comparison = compare("nvme", schemes=["pcie-ide", "bounce-buffer"], requests=300, seeds=2)
    return comparison.record.to_dict()


def test_every_place_of_the_simulator_has_a_colour() -> None:
    assert set(COLOURS) | {MEDIA} == set(PLACES)
    assert len(set(COLOURS.values())) == len(COLOURS)


def test_the_places_of_every_row_sum_to_its_mean_latency(record: dict[str, Any]) -> None:
    for row in record["results"]:
        assert list(row["ledger_ns"]) == list(PLACES)
        assert min(row["ledger_ns"].values()) >= 0
        assert sum(row["ledger_ns"].values()) == pytest.approx(row["latency_ns"]["mean"], rel=1e-12)


def test_what_protection_costs_stands_where_it_arises(record: dict[str, Any]) -> None:
    """Plaintext has neither engines nor MACs nor copies; IDE has the first two, a bounce buffer the last."""
    for row in record["results"]:
        ledger = row["ledger_ns"]
        sealed = row["scheme"] == "pcie-ide"
        assert (ledger["engine"] > 0) == (ledger["hold"] > 0) == sealed
        assert (ledger["staging"] > 0) == (row["scheme"] == "bounce-buffer")


def test_what_is_added_sums_too(record: dict[str, Any]) -> None:
    for line in view.all_lines(record):
        for arm, row in line.rows:
            if arm is not None:
                assert line.baseline is not None
                mean = row["latency_ns"]["mean"] - line.baseline["latency_ns"]["mean"]
                assert sum(added(line, row).values()) == pytest.approx(mean, rel=1e-9, abs=1e-6)


def test_bars_are_as_long_as_the_mean_without_media() -> None:
    record = make_record(["nvme"])
    left, right = fig_ledger(record).axes
    widths: dict[float, float] = {}
    for patch in left.patches:
        widths[patch.get_y()] = widths.get(patch.get_y(), 0.0) + patch.get_width()
    expected = []
    for line in view.all_lines(record):
        assert line.baseline is not None
        base = sum(ns for place, ns in line.baseline["ledger_ns"].items() if place != MEDIA)
        for _, row in line.rows:
            total = sum(ns for place, ns in row["ledger_ns"].items() if place != MEDIA)
            expected.append(100 * total / base)
    assert [widths[y] for y in sorted(widths)] == pytest.approx(expected)
    assert {patch.get_facecolor() for patch in right.patches} <= {
        patch.get_facecolor() for patch in left.patches
    }


def test_words_name_the_largest_parts_first() -> None:
    record = make_record(["nvme"])
    what, text = next(iter(sentences(record)))
    assert what.startswith("nvme: ")
    total, _, parts = text.partition(" = ")
    assert total.startswith("+")
    assert "hold +" in parts
    assert "serialisation +" in parts
    assert "wire" not in parts


@pytest.mark.parametrize("lost", ["baseline", "protected", "all"])
def test_records_without_a_ledger_are_read_and_drawn(lost: str) -> None:
    data = make_record(["nvme"])
    for row in data["results"]:
        if lost == "all" or (row["scheme"] == "none") == (lost == "baseline"):
            del row["ledger_ns"]
    data["digest"] = results_digest(data["results"])
    record = RunRecord.model_validate(data).to_dict()
    assert list(sentences(record)) == []
    fig_ledger(record)
    assert "Where the time goes" in render_html(record)


def test_compare_says_why_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", "nvme", "--requests", "200", "--seeds", "1", "--scheme", "pcie-ide", "--quiet"]

    def printed(*more: str) -> str:
        assert cli.main([*command, *more]) == 0
        return capsys.readouterr().out

    head = "Where the added mean latency is spent:"
    assert head not in printed()
    told, legend = printed("--why").split(f"{head}\n")[1].split("\n\n")
    lines = told.splitlines()
    assert all(" ns = " in line or " us = " in line for line in lines)
    assert any("hold +" in line for line in lines)
    # Every place that is told is explained, and no other; without a switch its time is no question.
    places = set(re.findall(r"(\w+) [+-][\d.]+ [nu]s", told.replace("other ", ""))) - {"ns", "us"}
    assert {place for place in PLACES if f"{place}: " in legend} >= places > {"hold"}
    assert "wire: " not in legend
    assert all(len(line) <= 120 for line in legend.splitlines())
    assert json.loads(printed("--why", "--json"))["results"][0]["ledger_ns"]["host"] > 0


def test_the_time_of_a_switch_stands_in_wire(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def ledgers(latency: str) -> list[dict[str, float]]:
        path = tmp_path / "s.toml"
        path.write_text(
            'name = "s"\nlink = "gen5x4"\nrequests = 50\nseeds = 1\n[[workload]]\nname = "w"\n'
            f'[workload.switch.s1]\nuplink = "gen5x4"\nlatency = "{latency}"\n'
            '[workload.device.a]\npreset = "nvme-dram"\nswitch = "s1"\n'
            'traffic = { kind = "nvme", queue_depth = 1 }\n'
        )
        assert cli.main(["compare", str(path), "--json", "--quiet", "--scheme", "sev-pcie"]) == 0
        return [row["ledger_ns"] for row in json.loads(capsys.readouterr().out)["results"]]

    for slow, fast in zip(ledgers("210ns"), ledgers("110ns"), strict=True):
        # Doorbell, fetch, its answer, completion entry (data go before it): four passes, 100 ns each.
        moved = {place: slow[place] - fast[place] for place in PLACES}
        assert moved.pop("wire") == pytest.approx(400.0)
        assert moved == pytest.approx(dict.fromkeys(moved, 0.0), abs=1e-6)
    assert cli.main(["compare", str(tmp_path / "s.toml"), "--why", "--quiet", "--scheme", "sev-pcie"]) == 0
    # Lines are folded to the terminal's width.
    assert "wire: flight, and the latency of switches" in " ".join(capsys.readouterr().out.split())


def test_every_place_is_explained() -> None:
    assert tuple(MEANINGS) == PLACES
