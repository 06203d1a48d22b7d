"""`sevpcie workload list` and `workload show`: names, numbers, layout, pictures, and what is refused."""

import gzip
import io
import json
import re

import pytest
from told import without_progress

from sevpcie_core import cli
from sevpcie_core.cli import outdir
from sevpcie_core.experiment.looks import document
from sevpcie_core.experiment.named import catalogue
from sevpcie_core.experiment.programs import build
from sevpcie_core.experiment.scenario import load_scenario
from sevpcie_core.report.workload import render
from sevpcie_core.workload.program import BEGIN

MINE = """
name = "mine"
link = "gen5x16"
[[workload]]
name = "two"
[workload.device.a]
preset = "nvme-dram"
traffic = { kind = "nvme", block = "8KiB", read_share = 0.5 }
[workload.device.b]
preset = "nic-400g"
traffic = { kind = "nic", direction = "rx", sizes = 1000, rate = "100Gb/s" }
[[workload]]
name = "one"
[workload.device.nic]
preset = "nic-400g"
traffic = { kind = "nic", direction = "tx", sizes = "imix", rate = "100Gb/s" }
"""


def show(capsys, *argv):
    """Return what `workload show` prints."""
    assert cli.main(["workload", "show", *argv]) == 0
    return capsys.readouterr().out


def shown(capsys, *argv):
    """Return the devices of the JSON, by workload and name."""
    found = json.loads(show(capsys, *argv, "--json"))
    assert found["command"] == "workload show"
    return {(w["workload"], d["device"]): d for w in found["workloads"] for d in w["devices"]}


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    return path


def test_devices_have_numbers_of_requests_of_their_own(capsys, tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(MINE.replace('preset = "nvme-dram"', 'preset = "nvme-dram"\nrequests = 700', 1))
    found = shown(capsys, str(path))
    assert found["two", "a"]["operations"]["count"] == 700
    assert found["two", "b"]["operations"]["count"] == 10_000
    found = shown(capsys, str(path), "--quick")
    # A first look is never longer than the whole.
    assert found["two", "a"]["operations"]["count"] == 700
    assert found["two", "b"]["operations"]["count"] == 1000


# --- list ---------------------------------------------------------------------------------------------------


def test_a_number_of_requests_is_of_what_generates():
    said = "requests = 5 has no effect on sample:redis (replays recordings)"
    assert document("sample:redis", requests=5)["warnings"] == [said]
    assert document("sample:redis", quick=True)["warnings"] == []
    # What ends by duration generates, and so many of it are looked at.
    found = document("mix/mixed/nvme", requests=5)
    assert found["warnings"] == []
    assert found["workloads"][0]["devices"][0]["operations"]["count"] == 5


def test_everything_listed_can_be_shown(capsys):
    assert cli.main(["workload", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed == catalogue()
    names = [entry["name"] for entry in listed["workloads"]]
    assert {"nvme/randread4k", "mix/mixed", "sample:redis"} <= set(names)
    for name in names:
        assert document(name, quick=True)["workloads"]
    assert cli.main(["workload", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in names:
        assert any(line.split()[:1] == [name] for line in lines)


# --- what is told -------------------------------------------------------------------------------------------


def test_a_read_of_4_kib(capsys):
    """Doorbell, command (one read), 4 KiB, completion entry, interrupt, doorbell: counted by hand."""
    found = shown(capsys, "nvme/randread4k", "--requests", "100")
    assert set(found) == {("randread4k", "dram"), ("randread4k", "tlc")}
    device = found["randread4k", "dram"]
    assert device["operations"] == {"count": 100, "by_class": {"nvme": 100}, "with_data": ["nvme"]}
    assert device["data"]["bytes"] == 409_600
    assert (device["doorbells_per_operation"], device["interrupts_per_operation"]) == (2, 1)
    told = [
        (t["kind"], t["direction"], t["buffer"], t["least_bytes"], t["most_bytes"], t["count"])
        for t in device["transactions"]
    ]
    assert told == [
        ("write", "up", "data", 4096, 4096, 100),
        ("write", "up", "queue", 16, 16, 100),
        ("write", "up", "msi", 4, 4, 100),
        ("read", "up", "queue", 64, 64, 100),
        ("write", "down", "mmio", 4, 4, 200),
    ]
    tlps = {(t["kind"], t["direction"]): t for t in device["tlps"]}
    # gen5x4: MPS 256. Headers: 16 B above 4 GiB, 12 B below; 8 B of framing, sequence number and LCRC.
    assert tlps["MWr", "up"]["sizes"] == [
        {"bytes": 4, "count": 100},
        {"bytes": 16, "count": 100},
        {"bytes": 256, "count": 1600},
    ]
    assert tlps["MWr", "up"]["wire_bytes"] == 100 * (16 * (256 + 24) + (16 + 24) + (4 + 20))
    assert tlps["MWr", "down"]["wire_bytes"] == 200 * (4 + 20)
    assert tlps["MRd", "up"]["wire_bytes"] == 100 * 24
    assert tlps["CplD", "down"]["wire_bytes"] == 100 * (64 + 20)
    # Data and queues are protected, 19 of 22 TLPs; each gets a prefix of 4 B and a MAC of 12 B.
    protected = device["protected"]
    assert protected["tlps_pct"] == pytest.approx(100 * 19 / 22)
    assert protected["payload_pct"] == pytest.approx(100 * (4096 + 16 + 64) / (4096 + 16 + 64 + 4 + 8))
    wire = sum(t["wire_bytes"] for t in device["tlps"])
    assert protected["wire_added_pct"] == pytest.approx(100 * 1900 * 16 / wire)
    # Up: data, completion and the request for the command; down: the completion that brings it.
    for way, sealed in (("up", 1800), ("down", 100)):
        mine = sum(t["wire_bytes"] for t in device["tlps"] if t["direction"] == way)
        assert protected[f"wire_added_{way}_pct"] == pytest.approx(100 * sealed * 16 / mine)
    text = " ".join(show(capsys, "nvme/randread4k", "--requests", "100").split())
    assert "a prefix and a MAC on each add 6.3 % to the wire up and 12.1 % down" in text
    # The device sets the pace.
    assert (device["arrivals"], device["gaps"], device["rate"]) == ("closed loop", None, None)
    assert device["sizes"]["bytes"]["p50"] == device["sizes"]["bytes"]["max"] == 4096


def test_arrivals_at_a_rate(capsys, mine):
    device = shown(capsys, str(mine), "--requests", "4000")["two", "b"]
    assert device["arrivals"] == "open loop"
    # 100 Gb/s of line bits: frames of 1000 B and 24 B more.
    assert device["rate"]["operations_per_s"] == pytest.approx(100e9 / 8 / 1024, rel=0.05)
    assert device["rate"]["data_gbps"] == pytest.approx(100 * 1000 / 1024, rel=0.05)
    gaps = device["gaps"]
    assert gaps["samples"] == 3999 == sum(b["count"] for b in gaps["bins"])
    assert gaps["ns"]["mean"] == pytest.approx(1e9 / device["rate"]["operations_per_s"])
    assert (
        gaps["ns"]["min"] <= gaps["ns"]["p1"] <= gaps["ns"]["p50"] <= gaps["ns"]["p99"] <= gaps["ns"]["max"]
    )
    for low, high in zip(gaps["bins"], gaps["bins"][1:], strict=False):
        assert low["to_ns"] == high["from_ns"]


def test_names_of_scenarios_files_and_workloads(capsys, mine):
    assert set(shown(capsys, str(mine), "--quick")) == {("two", "a"), ("two", "b"), ("one", "nic")}
    assert set(shown(capsys, f"{mine}/one", "--quick")) == {("one", "nic")}
    assert shown(capsys, str(mine), "--quick")["one", "nic"]["operations"]["count"] == 1000
    assert shown(capsys, f"{mine}/one", "--requests", "7")["one", "nic"]["operations"]["count"] == 7
    workloads = [w.name for w in load_scenario("nvme").workload]
    assert list(dict.fromkeys(w for w, _ in shown(capsys, "nvme", "--quick"))) == workloads


def test_seeds_are_those_of_a_comparison(capsys, mine):
    one, again, other = (shown(capsys, f"{mine}/one", "--seed", seed, "--quick") for seed in ("1", "1", "2"))
    assert one == again != other


def test_a_workload_that_ends_by_time_is_looked_at_for_some_operations(capsys):
    found = shown(capsys, "mix", "--quick")
    assert [d["operations"]["count"] for (_, name), d in found.items() if name != "gpu"] == [1000, 1000]


def test_what_time_ends_is_looked_at_until_then(capsys):
    found = shown(capsys, "mix")
    nvme, nic, gpu = (found["mixed", name] for name in ("nvme", "nic", "gpu"))
    run = load_scenario("mix").resolve().workloads[0].devices[1]
    # The first frame that is intended for 1 ms or later, counted by hand.
    count = 0
    for chunk in build(run, 1, 1, 10**9).chunks():
        starts = chunk.steps["not_before_ps"][(chunk.steps["flags"] & BEGIN) > 0].tolist()
        count += sum(start < 10**9 for start in starts)
        if starts[-1] >= 10**9:
            break
    assert nic["operations"]["count"] == count
    assert gpu["rate"]["span_ns"] < 1e6
    # Nobody gives the starts of a closed loop, and what is asked for is no more than that.
    assert [d["ends"]["all"] for d in (nvme, nic, gpu)] == [False, True, True]
    assert nvme["operations"]["count"] == 10_000
    few = shown(capsys, "mix", "--requests", "50")
    assert [(d["operations"]["count"], d["ends"]["all"]) for d in few.values()] == [(50, False)] * 3
    told = " ".join(show(capsys, "mix").split())
    assert "2,998 write, the first ones: a run ends after 1.00 ms" in told
    assert f"{count:,}, which begin in the 1.00 ms of a run" in told
    assert shown(capsys, "nvme/randread4k", "--quick")["randread4k", "dram"]["ends"] is None


@pytest.mark.parametrize(
    ("workload", "said"),
    [
        (
            "nic-root",
            "RCB 64 B; data in the memory of gpu, turned at the root complex: over link of nic, link",
        ),
        (
            "nic-switch",
            "behind switch leaf; data in the memory of gpu, turned at switch leaf: over link of nic, link of",
        ),
        (
            "nic-switch-acs",
            "turned at the root complex (ACS redirect): over link of nic, uplink leaf, link of",
        ),
    ],
)
def test_where_data_lie_that_are_not_in_the_memory_of_the_host(capsys, workload, said):
    told = " ".join(show(capsys, f"gpudirect/{workload}/nic", "--quick").split())
    assert said in told
    (device,) = shown(capsys, f"gpudirect/{workload}/nic", "--quick").values()
    assert device["way"]["memory_of"] == "gpu"
    assert shown(capsys, "nic/imix_rx", "--quick").popitem()[1]["way"] is None


def test_a_rate_that_is_a_share_has_three_digits(capsys, tmp_path):
    path = tmp_path / "shares.toml"
    path.write_text(
        MINE.split("[[workload]]")[0]
        + """[[workload]]
name = "w"
load = "60Gb/s"
[workload.device.a]
preset = "nvme-dram"
share = 0.5
traffic = { kind = "nvme", block = "8KiB" }
[workload.device.b]
preset = "nic-400g"
share = 0.5
traffic = { kind = "nic", direction = "rx", sizes = 1514 }
"""
    )
    # 30 Gb/s of data are 1538 / 1514 of that on the line.
    assert shown(capsys, str(path), "--quick")["w", "b"]["traffic"]["rate"] == "30475561427b/s"
    assert "direction rx, rate 30.5 Gb/s, sizes 1514" in show(capsys, str(path), "--quick")


def test_protected_buffers_can_be_chosen(capsys):
    every = shown(capsys, "nvme/randread4k", "--quick", "--protect", "data,queue,mmio,msi")
    assert every["randread4k", "dram"]["protected"]["tlps_pct"] == 100
    none = shown(capsys, "nvme/randread4k", "--quick", "--protect", "none")["randread4k", "dram"]["protected"]
    assert (none["tlps_pct"], none["payload_pct"], none["wire_added_pct"]) == (0, 0, 0)
    assert "by policy selective: nothing" in show(capsys, "nvme/randread4k", "--quick", "--protect", "none")


# --- traces -------------------------------------------------------------------------------------------------


def test_a_trace(capsys, tmp_path):
    path = tmp_path / "disk.csv.gz"
    rows = [f"{10 * i},{'read' if i % 2 else 'write'},{8 * i},4096\n" for i in range(40)]
    path.write_bytes(gzip.compress(("time_us,event,address,length\n" + "".join(rows)).encode()))
    device = shown(capsys, str(path))["trace", "nvme"]
    assert device["trace"]["format"] == "nvme-csv"
    assert (device["trace"]["records"], device["trace"]["span_ns"]) == (40, 390_000.0)
    assert device["operations"]["by_class"] == {"read": 20, "write": 20}
    assert device["arrivals"] == "recorded"
    assert device["gaps"]["ns"]["p50"] == pytest.approx(10_000, rel=2e-3)
    device = shown(capsys, str(path), "--offset", "10", "--limit", "20", "--speed", "10")["trace", "nvme"]
    assert (device["trace"]["records"], device["trace"]["span_ns"]) == (20, 19_000.0)
    assert shown(capsys, str(path), "--link", "gen4x4")["trace", "nvme"]["link"]["name"] == "gen4x4"
    text = show(capsys, str(path), "--limit", "20")
    assert text.splitlines()[2] == "disk"
    assert "nvme-csv, 20 records" in text


def test_malformed_records_are_told(capsys, tmp_path):
    path = tmp_path / "torn.csv"
    path.write_text("time_us,event,address,length\n0,read,0,4096\n9000000,read,0,4096\n1,read,0,4096\n")
    assert cli.main(["workload", "show", str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"sevpcie: error: {path}:4: time: ")
    assert cli.main(["workload", "show", str(path), "--skip-bad"]) == 0
    captured = capsys.readouterr()
    assert f"sevpcie: warning: {path}: 1 malformed record left out; the first: {path}:4" in captured.err
    assert "left out     1 malformed record; the first: " in captured.out
    found = json.loads(show(capsys, str(path), "--skip-bad", "--json", "--quiet"))
    trace = found["workloads"][0]["devices"][0]["trace"]
    assert (trace["records"], trace["bad"], len(trace["bad_examples"])) == (2, 1, 1)


def test_streams_of_a_recording(capsys):
    device = shown(capsys, "sample:kv_swap")["trace", "gpu"]
    assert device["trace"]["file"] == "sample:kv_swap"
    assert device["trace"]["streams"] == 2
    assert "768 records, 2 streams" in show(capsys, "sample:kv_swap")


def test_what_is_planned_and_what_has_no_end_of_its_own_says_so(capsys):
    """Intended starts of a generated job are those of a plan; in the background a number means nothing."""
    found = shown(capsys, "kv-offload")
    assert [d["background"] for d in found.values()] == [False, True]
    lines = show(capsys, "kv-offload").splitlines()
    told = " ".join(" ".join(lines).split())
    assert "10.1 ms as planned (copies take no time)" in told
    assert "time from one arrival to the next as planned (copies take no time)" in told
    assert "; so many are looked at: in the background it goes on as long as the others" in told
    assert told.count("so many are looked at") == 1
    assert "as planned" not in show(capsys, "sample:kv_swap")
    assert "as planned" not in show(capsys, "nic/imix_rx", "--quick")


# --- layout -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [72, 80, 90, 120, 200])
@pytest.mark.parametrize("name", ["nvme", "nic", "sample:train_resnet50", "mix"])
def test_lines_keep_the_width(width, name):
    found = document(name, quick=True)
    for fancy in (False, True):
        lines = [line.plain.rstrip() for line in render(found, width, fancy)]
        assert max(map(len, lines)) <= width
        assert fancy or all(line.isascii() for line in lines)
    assert any("█" in line.plain for line in render(found, width, True))


def test_devices_of_which_the_same_is_told_stand_together():
    lines = [line.plain for line in render(document("nvme/randread4k", quick=True))]
    assert "nvme/randread4k  dram and tlc" in lines
    assert sum("transaction" in line for line in lines) == 1
    assert any("nvme-dram and nvme-tlc on gen5x4" in line for line in lines)


def test_names_cannot_steer_a_terminal():
    found = json.loads(json.dumps(document("sample:redis", limit=50)).replace("redis", "re\\u001b[2Jdis"))
    assert all("\x1b" not in line.plain for line in render(found, 120, True))


def test_a_table_adds_up(capsys):
    """The last row of the transactions is the sum of those above, as the columns say it."""
    lines = show(capsys, "nvme/randread4k", "--quick").splitlines()
    start = next(i for i, line in enumerate(lines) if line.split()[:1] == ["transaction"])
    rows = [line.split() for line in lines[start + 1 : start + 7]]
    assert rows[-1] == ["all", "6", "4,188", "100", "%"]
    assert sum(int(row[5].replace(",", "")) for row in rows[:-1]) == 6
    assert sum(int(row[6].replace(",", "")) for row in rows[:-1]) == 4188


def test_a_recording_of_one_operation(capsys, tmp_path):
    path = tmp_path / "one.csv"
    path.write_text("time_us,event,address,length\n5,flush,0,0\n")
    out = tmp_path / "out"
    text = show(capsys, str(path), "--out", str(out))
    assert "operations   1" in text
    assert (out / "workload.png").read_bytes().startswith(b"\x89PNG")


# --- pictures -----------------------------------------------------------------------------------------------


def test_out(capsys, tmp_path, monkeypatch):
    # Lines are folded to the terminal's width, those of a file to the usual one.
    monkeypatch.setenv("COLUMNS", "120")
    out = tmp_path / "pictures"
    text = show(capsys, "nic/imix_rx", "--quick", "--out", str(out))
    assert sorted(p.name for p in out.iterdir()) == [f"workload.{e}" for e in ("json", "png", "svg", "txt")]
    assert (out / "workload.txt").read_text() == text
    assert json.loads((out / "workload.json").read_text())["options"]["name"] == "nic/imix_rx"
    svg = (out / "workload.svg").read_text()
    assert svg.startswith("<svg")
    assert "nan" not in svg
    files = {p.name: p.read_bytes() for p in out.iterdir()}
    # The same again is the same.
    show(capsys, "nic/imix_rx", "--quick", "--out", str(out))
    assert {p.name: p.read_bytes() for p in out.iterdir()} == files
    assert outdir.COMPARE.ours.fullmatch("workload.json") is None


def test_a_picture_of_each_kind_of_arrivals():
    import matplotlib.image

    from sevpcie_core.report.style import png
    from sevpcie_core.report.workload_figure import fig_workload

    for name in ("mix", "nic", "sample:llm_decode"):
        pixels = matplotlib.image.imread(io.BytesIO(png(fig_workload(document(name, quick=True)), dpi=50)))
        assert pixels.shape[1] == 550
        # There is ink.
        assert pixels[..., :3].min() < 0.2


def test_a_foreign_folder_is_left_alone(capsys, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    assert cli.main(["workload", "show", "nvme", "--out", str(tmp_path)]) == 2
    assert "holds 'letter.txt'" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["nvm"], "'nvm': no such workload; expected one of gpu, mix, nic, nvme"),
        (["nvm"], "did you mean 'nvme'?"),
        (["nvme/randred"], "nvme/randred: no such workload; expected one of randread4k, mix70_30"),
        (["nvme/"], "nvme/: no such workload"),
        (["sample:rdis"], "'sample:rdis'; expected one of kv_swap"),
        (["nowhere.toml"], "nowhere.toml: no such file"),
        (["nowhere.pcap"], "'nowhere.pcap': no such workload"),
        (["./nowhere.pcap"], "nowhere.pcap: no such file"),
        (["nvme", "--limit", "4"], "--limit with the scenario nvme; expected a trace or sample:NAME"),
        (["nvme", "--skip-bad"], "--skip-bad with the scenario nvme"),
        (["nvme", "--link", "gen5x4"], "--link with the scenario nvme"),
        (["sample:kv_swap", "--pace", "line"], "--pace line: sample:kv_swap is gpu-csv"),
        (["sample:redis", "--speed", "-1"], "--speed -1; expected a number from 0.000001"),
        (["nvme", "--requests", "0"], "--requests"),
        (["nvme", "--protect", "all"], "--protect 'all'; expected some of data, queue"),
        ([], "NAME|FILE"),
    ],
)  # fmt: skip
def test_one_clear_line(argv, said, capsys):
    assert cli.main(["workload", "show", *argv]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert without_progress(captured.err).count("\n") == 1


def test_help_has_examples(capsys):
    assert cli.main(["workload"]) == 0
    assert "show" in capsys.readouterr().out
    assert cli.main(["workload", "show", "--help"]) == 0
    out = capsys.readouterr().out
    assert len(re.findall(r"^\s+sevpcie workload show ", out, re.MULTILINE)) >= 4
