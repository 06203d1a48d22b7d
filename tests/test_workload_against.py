"""`sevpcie workload show A --against B`: numbers, pairs, options, layout, picture, and what is refused."""

import io
import json

import numpy as np
import pytest

from sevpcie_core import cli
from sevpcie_core.experiment.against import document
from sevpcie_core.experiment.programs import build
from sevpcie_core.experiment.scenario import load_scenario
from sevpcie_core.report.against import render
from sevpcie_core.spec import BUFFER_DATA
from sevpcie_core.stats.twosample import ks_limit
from sevpcie_core.workload import traces
from sevpcie_core.workload.program import BEGIN, DELAY
from sevpcie_core.workload.traces import pace_line

MINE = """
name = "mine"
link = "gen5x4"
[[workload]]
name = "two"
[workload.device.a]
preset = "nvme-dram"
link = "gen4x4"
traffic = { kind = "nvme", block = "8KiB", read_share = 0.5 }
[workload.device.b]
preset = "nic-100g-kernel"
traffic = { kind = "nic", direction = "rx", sizes = "imix", rate = "10Gb/s" }
[[workload]]
name = "drives"
[workload.device.a]
preset = "nvme-dram"
traffic = { kind = "nvme", block = "4KiB" }
[workload.device.b]
preset = "nvme-dram"
traffic = { kind = "nvme", iops = 100000 }
[workload.device.c]
preset = "nvme-dram"
traffic = { kind = "nvme", trim_share = 1 }
"""


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    return str(path)


def disk(path, rows):
    """Write a trace of a drive: (time in us, event, bytes)."""
    lines = [f"{t},{event},0,{size}\n" for t, event, size in rows]
    path.write_text("time_us,event,address,length\n" + "".join(lines))
    return str(path)


@pytest.fixture
def recorded(tmp_path):
    rows = [(10 * i, "write" if i % 4 == 3 else "read", 4096 << (i % 2)) for i in range(40)]
    return disk(tmp_path / "disk.csv", rows)


def classes(found, pair=0):
    """Return the classes of a pair by name."""
    return {told["class"]: told for told in found["pairs"][pair]["classes"]}


# --- numbers ------------------------------------------------------------------------------------------------


def plain_ks(one, other):
    return max(abs((one <= x).mean() - (other <= x).mean()) for x in np.union1d(one, other))


def test_numbers_are_those_of_the_frames_themselves():
    """Against sizes and starts taken from the steps and from the reader, without histograms."""
    found = document("nic/imix_rx", "sample:redis", requests=3000)
    scenario = load_scenario("nic").with_options(requests=3000).resolve()
    steps = np.concatenate([c.steps for c in build(scenario.workloads[0].devices[0], 0, 1, 0).chunks()])
    sizes = steps["bytes"][(steps["buffer"] == BUFFER_DATA) & (steps["kind"] != DELAY)]
    gaps = np.diff(steps["not_before_ps"][(steps["flags"] & BEGIN) > 0])
    frames = traces.read_nic(load_scenario("nic").resolve().workloads[4].devices[0].traffic.trace.path)
    other = frames[frames["direction"] == traces.NIC_RX]
    arrivals = pace_line(other["t_ps"] - frames["t_ps"][0], other["bytes"], 400 * 10**9)
    told = classes(found)["rx"]
    assert told["operations"] == {"one": 3000, "other": len(other)}
    distance = told["sizes"]["distance"]
    assert distance["ks"] == pytest.approx(plain_ks(sizes, other["bytes"]))
    assert distance["ks_limit"] == ks_limit(3000, len(other))
    assert distance["wasserstein"] == pytest.approx(
        np.abs(
            np.quantile(sizes, grid := np.linspace(0, 1, 40_001)) - np.quantile(other["bytes"], grid)
        ).mean(),
        rel=0.01,
    )
    # No frame of the capture has a size of the mix but those of 1,514 B.
    full = [(values == 1514).mean() for values in (sizes, other["bytes"])]
    assert distance["total_variation"] == pytest.approx(1 - min(full))
    # Gaps: the distance is kept where all of one side are shorter; the mean is exact.
    assert told["gaps"]["distance"]["ks"] == pytest.approx(plain_ks(gaps, np.diff(arrivals)), abs=2e-3)
    assert told["gaps"]["one"]["ns"]["mean"] == pytest.approx(gaps.mean() * 1e-3)
    assert told["gaps"]["other"]["ns"]["mean"] == pytest.approx(np.diff(arrivals).mean() * 1e-3)
    shape = [values / values.mean() for values in (gaps, np.diff(arrivals))]
    assert told["gaps"]["over_mean"]["ks"] == pytest.approx(plain_ks(*shape), abs=5e-3)
    # Load in bits of the line, as the key `rate` has it.
    assert told["rate"]["one"]["line_gbps"] == pytest.approx(200, rel=0.05)
    span = int(arrivals[-1] - arrivals[0])
    bits = 8 * (np.maximum(other["bytes"], 60) + 24).mean() * (len(other) - 1)
    assert told["rate"]["other"]["line_gbps"] == pytest.approx(1e3 * bits / span)
    # What only one side has is told of that side alone.
    only = classes(found)["tx"]
    assert only["operations"] == {"one": 0, "other": 2315}
    assert only["sizes"]["one"] is only["sizes"]["distance"] is only["gaps"]["distance"] is None
    assert only["sizes"]["other"]["samples"] == 2315


def test_what_is_the_same_is_at_no_distance():
    for name in ("sample:redis", "sample:kv_swap", "nvme/mix70_30/dram"):
        for told in classes(document(name, name, quick=True)).values():
            for distance in (told["sizes"]["distance"], told["gaps"]["distance"], told["gaps"]["over_mean"]):
                assert distance is None or distance["ks"] == distance["wasserstein"] == 0
            assert all(t["one"] == t["other"] for t in told["transactions"])


def test_gaps_over_their_mean_know_no_rate(tmp_path):
    """Values that lie in buckets of other widths at another rate are the same to it."""
    rng = np.random.default_rng(3)
    times = np.cumsum(rng.integers(1000, 90_000, 400))
    slow, fast = (
        disk(tmp_path / f"{name}.csv", [(int(t) * factor, "read", 4096) for t in times])
        for name, factor in (("fast", 1), ("slow", 37))
    )
    told = classes(document(slow, fast))["read"]["gaps"]
    assert told["distance"]["ks"] > 0.9
    assert told["over_mean"]["ks"] == 0


def test_transactions_of_one_operation_stand_side_by_side(recorded, mine):
    found = document(f"{mine}/two", recorded, requests=200)
    read, write = (classes(found)[name] for name in ("read", "write"))
    by = {(t["kind"], t["direction"], t["buffer"]): t for t in read["transactions"]}
    assert by["write", "up", "data"]["one"] == {"count_per_operation": 1, "bytes_per_operation": 8192}
    assert by["write", "up", "data"]["other"]["bytes_per_operation"] == pytest.approx(
        (20 * 4096 + 10 * 8192) / 30
    )
    for side in ("one", "other"):
        assert by["write", "up", "queue"][side] == {"count_per_operation": 1, "bytes_per_operation": 16}
        assert by["write", "up", "msi"][side]["count_per_operation"] == 1
        assert by["write", "down", "mmio"][side]["count_per_operation"] == 2
    assert ("read", "up", "data") not in by
    assert {t["buffer"] for t in write["transactions"]} == {"data", "queue", "msi", "mmio"}
    whole = found["pairs"][0]["all"]
    assert whole["operations"] == {"one": 200, "other": 40}
    moved = {(t["kind"], t["buffer"]): t for t in whole["transactions"]}
    assert moved["read", "data"]["other"]["bytes_per_operation"] == 10 * 8192 / 40
    assert whole["wire_bytes_per_operation"]["up"]["one"] > 8192 * 0.45


# --- pairs --------------------------------------------------------------------------------------------------


def test_a_trace_is_replayed_on_the_device_of_the_scenario(mine, recorded):
    pair = document(f"{mine}/two", recorded)["pairs"][0]
    assert pair["one"]["link"] == pair["other"]["link"]
    assert (pair["other"]["preset"], pair["other"]["link"]["name"]) == ("nvme-dram", "gen4x4")
    # Also where it is named first.
    pair = document(recorded, f"{mine}/two")["pairs"][0]
    assert (pair["one"]["preset"], pair["one"]["link"]["name"]) == ("nvme-dram", "gen4x4")
    # A link that is asked for is a link of the trace; two traces have the usual device.
    pair = document(recorded, f"{mine}/two", link="gen5x4")["pairs"][0]
    assert pair["one"]["link"]["name"] == "gen5x4"
    pair = document(recorded, recorded)["pairs"][0]
    assert (pair["one"]["preset"], pair["one"]["link"]["name"]) == ("nvme-tlc", "gen5x4")


def test_devices_of_other_kinds_are_passed_over(mine):
    (pair,) = document(f"{mine}/two", "sample:redis", quick=True)["pairs"]
    assert (pair["one"]["name"], pair["kind"]) == ("mine/two/b", "nic")
    (pair,) = document("sample:redis", mine, quick=True)["pairs"]
    assert (pair["other"]["name"], pair["one"]["name"]) == ("mine/two/b", "sample:redis")


def test_several_devices_stand_beside_the_one(mine, recorded):
    found = document(mine, recorded, quick=True)
    names = [(pair["one"]["name"], pair["other"]["name"]) for pair in found["pairs"]]
    assert names == [(f"mine/{part}", "disk.csv") for part in ("two/a", "drives/a", "drives/b")]
    # One has nothing that the recording has.
    (warning,) = found["warnings"]
    assert f"{mine}/drives/c has trim, {recorded} has read and write" in warning


def test_commands_of_one_kind_have_their_name(tmp_path, mine):
    """A drive that only reads is compared by its reads."""
    rows = [(10 * i, ("read", "write", "dsm_trim", "flush")[i % 4], 4096 * (i % 4 < 2)) for i in range(80)]
    trace = disk(tmp_path / "all.csv", rows)
    for device, kind in (("a", "read"), ("b", "read"), ("c", "trim")):
        found = classes(document(f"{mine}/drives/{device}", trace, quick=True))
        assert found[kind]["operations"] == {"one": 1000, "other": 20}
    writes = disk(tmp_path / "writes.csv", [(10 * i, "write", 4096) for i in range(8)])
    assert classes(document(writes, trace))["write"]["operations"] == {"one": 8, "other": 20}


def test_options_of_traces_are_for_each_that_is_one(recorded, mine):
    found = document(recorded, f"{mine}/two", offset=10, limit=20, speed=10.0, requests=100)
    sides = found["pairs"][0]
    assert (sides["one"]["trace"]["records"], sides["one"]["trace"]["span_ns"]) == (20, 19_000)
    assert sides["all"]["operations"] == {"one": 20, "other": 100}
    found = document("sample:redis", "sample:redis", limit=500, pace="recorded", local="6390")
    assert found["pairs"][0]["all"]["operations"] == {"one": 500, "other": 500}


def test_a_loop_that_paces_itself_has_no_gaps(mine, recorded):
    told = classes(document(f"{mine}/two", recorded, quick=True))["read"]
    assert (
        told["gaps"]["one"]
        is told["gaps"]["distance"]
        is told["gaps"]["over_mean"]
        is told["rate"]["one"]
        is None
    )
    assert told["gaps"]["other"]["samples"] == 29
    assert told["sizes"]["distance"] is not None


# --- layout -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [72, 80, 120, 200])
@pytest.mark.parametrize(
    ("one", "other"),
    [("nic/imix_rx", "sample:redis"), ("kv-offload", "sample:kv_swap"), ("nvme/mix70_30", "oltp")],
)
def test_lines_keep_the_width(width, one, other):
    found = document(one, other, quick=True)
    for fancy in (False, True):
        lines = [line.plain.rstrip() for line in render(found, width, fancy)]
        assert max(map(len, lines)) <= width
        assert fancy or all(line.isascii() for line in lines)


def test_names_cannot_steer_a_terminal():
    found = json.loads(
        json.dumps(document("sample:redis", "nic", limit=50)).replace("redis", "re\\u001b[2Jdis")
    )
    assert all("\x1b" not in line.plain for line in render(found, 120, True))


def test_it_prints_tables_json_and_a_picture(capsys, tmp_path, monkeypatch):
    import matplotlib.image

    monkeypatch.delenv("COLUMNS", raising=False)
    out = tmp_path / "out"
    argv = ["workload", "show", "nic/imix_rx", "--against", "sample:redis", "--quick"]
    assert cli.main([*argv, "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert text == (out / "workload.txt").read_text()
    lines = text.splitlines()
    assert lines[0] == "nic/imix_rx against sample:redis"
    for start in (
        "  operations ",
        "  rate ",
        "  gap / mean ",
        "  doorbells ",
        "  wire, up ",
        "  tx ",
        "KS: ",
    ):
        assert any(line.startswith(start) for line in lines), start
    assert cli.main([*argv, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((out / "workload.json").read_text())
    assert found == json.loads(json.dumps(document("nic/imix_rx", "sample:redis", quick=True)))
    pixels = matplotlib.image.imread(io.BytesIO((out / "workload.png").read_bytes()))
    # Both colours are there.
    for colour in ((0xE6, 0x9F, 0x00), (0x00, 0x72, 0xB2)):
        near = np.abs(pixels[..., :3] - np.array(colour) / 255).max(axis=-1) < 0.02
        assert near.sum() > 500


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "options", "said"),
    [
        ("nvme", "sample:redis", [], "nvme is of nvme, sample:redis is of nic; expected two of one kind"),
        ("mix", "oltp", ["--limit", "3"], "--limit with mix and oltp; expected a trace or sample:NAME"),
        ("nic", "nic", [], "--against nic: 5 of kind nic; expected one of nic/imix_rx, nic/imix_tx, "),
        ("nvme", "nvme/randread4k", [], "expected one of nvme/randread4k/dram, nvme/randread4k/tlc"),
        ("nic/imix_rx", "nic/imix_tx", [], "nic/imix_rx has rx, nic/imix_tx has tx; expected some of"),
        ("nvme/randread4k/drm", "oltp", [], "no such device; expected one of dram, tlc; did you mean"),
        ("nvme", "sample:rdis", [], "'sample:rdis'; expected one of kv_swap"),
        ("nvme", "nowhere.csv", [], "'nowhere.csv': no such workload"),
        ("nvme", "sample:kv_swap", ["--pace", "line"], "--pace line: sample:kv_swap is gpu-csv"),
    ],
)  # fmt: skip
def test_one_clear_line(one, other, options, said, capsys):
    assert cli.main(["workload", "show", one, "--against", other, *options]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert captured.err.count("\n") == 1
