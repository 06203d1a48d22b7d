"""The command line with the real comparison behind it: what it prints, writes, repeats and refuses."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from interrupts import heed_interrupts
from told import without_progress

from sevpcie_core import cli
from sevpcie_core.experiment.scenario import load_scenario
from sevpcie_core.record import RunRecord, results_digest

SMALL = ["--requests", "300", "--seeds", "2"]
COMMAND = [sys.executable, "-m", "sevpcie_core.cli"]


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """Return the folder of a small comparison."""
    out = tmp_path_factory.mktemp("runs") / "nvme"
    assert cli.main(["compare", "nvme", *SMALL, "--scheme", "pcie-ide", "--out", str(out)]) == 0
    return out


def lines_of_error(capsys, code, *argv):
    """Run a command that must fail with one line and print nothing else."""
    assert cli.main(list(argv)) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    err = without_progress(captured.err)
    assert err.startswith("sevpcie: error: ")
    assert err.count("\n") == 1
    return err


def test_the_folder_holds_all_that_was_asked_for(result):
    assert sorted(p.name for p in result.iterdir()) == ["record.json", "report.html", "scenario-nvme.toml"]
    record = RunRecord.load(result)
    assert {row.scheme for row in record.results} == {"none", "pcie-ide"}
    assert record.simulator.tlps > 0
    scenario = load_scenario(result / "scenario-nvme.toml")
    assert scenario.digest() == record.options.scenarios[0].digest
    assert (scenario.seeds, scenario.requests) == (2, 300)


def test_the_written_scenario_gives_the_same_result(result, capsys):
    assert cli.main(["compare", str(result / "scenario-nvme.toml"), "--json", "--jobs", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["digest"] == RunRecord.load(result).digest


def test_two_runs_print_the_same(capsys):
    tables = []
    for jobs in ("1", "2"):
        assert cli.main(["compare", "nvme", *SMALL, "--wide", "--jobs", jobs]) == 0
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1]


def test_rerun_repeats_the_digest(result, capsys):
    assert cli.main(["rerun", str(result)]) == 0
    digest = RunRecord.load(result).digest
    assert capsys.readouterr().out == f"equal: {len(RunRecord.load(result).results)} rows, digest {digest}\n"
    assert cli.main(["rerun", str(result), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["equal"], data["digest"], data["difference"]) == (
        True,
        {"record": digest, "rerun": digest},
        None,
    )


def changed(result, tmp_path, change):
    """Save the record with one change, and the digest that belongs to it."""
    data = RunRecord.load(result).to_dict()
    change(data)
    path = tmp_path / "changed.json"
    RunRecord.from_dict(data | {"digest": results_digest(data["results"])}).save(path)
    return path


def test_rerun_finds_the_first_difference(result, tmp_path, capsys):
    def change(data):
        data["results"][1]["latency_ns"]["p50"] += 0.001
        data["versions"]["numpy"] = "1.0"

    path = changed(result, tmp_path, change)
    assert cli.main(["rerun", str(path)]) == 99
    text = capsys.readouterr().out
    row = RunRecord.load(result).results[1]
    assert text.startswith(f"different: row {'/'.join(row.key)}: latency_ns.p50: ")
    assert text.endswith("(other versions of numpy)\n")
    assert cli.main(["rerun", str(path), "--json"]) == 99
    assert json.loads(capsys.readouterr().out)["equal"] is False


def test_rerun_notices_another_scenario(result, tmp_path, capsys):
    def change(data):
        data["results"][0]["requests"] += 1
        data["options"]["scenarios"][0]["digest"] = "0" * 64

    assert cli.main(["rerun", str(changed(result, tmp_path, change))]) == 99
    assert "scenario 'nvme' is another one now" in capsys.readouterr().out


def test_gate_on_a_real_record(result, tmp_path, capsys):
    limits = tmp_path / "limits.toml"
    limits.write_text('thresholds = ["nvme.latency_p50 < 1s", "nvme.throughput > 1 Mb/s"]')
    assert cli.main(["gate", str(result), "--thresholds", str(limits)]) == 0
    limits.write_text('thresholds = ["nvme.latency_p50 < 1ns"]')
    assert cli.main(["gate", str(result), "--thresholds", str(limits)]) == 99


def test_a_trace_of_ones_own(tmp_path, capsys):
    trace = tmp_path / "jobs.csv"
    lines = ["t_us,dur_us,event,name,bytes"]
    lines += [f"{10 * i},3,memcpy,Memcpy HtoD (Pinned -> Device),4096" for i in range(50)]
    trace.write_text("\n".join(lines) + "\n")
    code = cli.main(["compare", "--trace", str(trace), "--as", "gpu", "--link", "gen4x16", "--json"])
    captured = capsys.readouterr()
    # Progress is told where the machine is slow.
    said = [line for line in captured.err.splitlines() if not line.endswith(" ...")]
    assert (code, said) == (0, [])
    assert json.loads(captured.out)["results"][0]["class"] == "all"


@pytest.mark.parametrize("as_", [[], ["--as", "gpu"], ["--as", "nic"], ["--as", "nvme"]])
@pytest.mark.parametrize(
    "content",
    [None, b"", b"\0\1\2\3" * 100, b"a,b,c\n1,2\n", b"t_us,dur_us,event,name,bytes\n1,2,memcpy,HtoD,-4\n"],
    ids=["missing", "empty", "binary", "other columns", "negative size"],
)
def test_bad_traces_are_one_line(content, as_, tmp_path, capsys):
    trace = tmp_path / "trace.csv"
    if content is not None:
        trace.write_bytes(content)
    out = tmp_path / "out"
    error = lines_of_error(
        capsys, 2, "compare", "--trace", str(trace), *as_, "--link", "gen5x16", "--out", str(out)
    )
    assert str(trace) in error
    assert not out.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such"),
        (b"", "empty"),
        (b"\xff\xfe", "UTF-8"),
        (b"name = ", ":1"),
        (b"schema_version = 1\nname = 'x'\n", "workload"),
    ],
)
def test_bad_scenarios_are_one_line(content, words, tmp_path, capsys):
    path = tmp_path / "my.toml"
    if content is not None:
        path.write_bytes(content)
    error = lines_of_error(capsys, 2, "compare", str(path))
    assert str(path) in error
    assert words in error


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["nvmee"], "'nvmee'"),
        (["nvme", "--scheme", "rot13"], "'rot13'"),
        (["nvme", "--policy", "some"], "'some'"),
        (["nvme", "--baseline", "rot13"], "'rot13'"),
        (["--trace", "x.pcap", "--link", "gen9x3"], "x.pcap"),
    ],
)
def test_names_that_do_not_exist(argv, words, capsys):
    assert words in lines_of_error(capsys, 2, "compare", *argv)


@pytest.mark.slow
# The compiler looks up between two functions; simulations that have begun are not waited for.
@pytest.mark.parametrize(("stage", "patience_s"), [("preparing|compiling", 20), ("simulating", 10)])
def test_interrupt_in_the_middle(stage, patience_s, tmp_path, tmp_path_factory):
    out = tmp_path / "run"
    argv = [*COMMAND, "compare", "nvme", "--requests", "300000", "--out", str(out)]
    # What is cached is not compiled.
    empty = {"NUMBA_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))} if "compiling" in stage else {}
    with subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
        env=os.environ | empty,
    ) as process:
        next(line for line in process.stderr if re.match(f"sevpcie: ({stage})", line))
        process.send_signal(signal.SIGINT)
        begin = time.monotonic()
        text, errors = process.communicate(timeout=60)
    assert time.monotonic() - begin < patience_s
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "sevpcie: interrupted; nothing was written"
    assert "Traceback" not in errors
    assert text == ""
    assert list(tmp_path.iterdir()) == []
