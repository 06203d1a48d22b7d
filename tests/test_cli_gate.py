"""`sevpcie gate` and `sevpcie report`: what is done with a record that exists."""

import json
import os
import subprocess
import sys

import pytest

from sevpcie_core import cli


@pytest.fixture
def saved(record, tmp_path):
    record.save(tmp_path / "r.json")
    return str(tmp_path / "r.json")


def gate(saved, tmp_path, text, *options):
    limits = tmp_path / "limits.txt"
    limits.write_text(text)
    return cli.main(["gate", saved, "--thresholds", str(limits), *options])


PASS = "nvme[scheme=sev-pcie].latency_p50.overhead < 90%\n"
FAIL = "nvme[workload=mix70_30,class=dram].latency_p99 < 1ns\n"
OPEN = "nvme[scheme=pcie-ide,workload=randread4k,class=dram].latency_p50.overhead < 0.9%\n"


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (PASS, 0, ["✓ pass: nvme[scheme=sev-pcie]", "more"]),
        (FAIL, 99, ["✗ fail: nvme[workload=mix70_30", "nvme/mix70_30/dram/sev-pcie/selective: "]),
        (OPEN, 4, ["? inconclusive: ", " to ", "the limit lies inside the interval"]),
        (PASS + OPEN, 4, ["✓ pass", "? inconclusive"]),
        (PASS + OPEN + FAIL, 99, ["✓ pass", "? inconclusive", "✗ fail"]),
    ],
)
def test_outcomes(saved, tmp_path, text, code, words, capsys):
    assert gate(saved, tmp_path, text) == code
    out = capsys.readouterr().out
    for word in words:
        assert word in out


def test_json(saved, tmp_path, capsys):
    assert gate(saved, tmp_path, PASS + FAIL, "--json") == 99
    data = json.loads(capsys.readouterr().out)
    assert (data["command"], data["outcome"]) == ("gate", "fail")
    passed, failed = data["thresholds"]
    assert (passed["outcome"], passed["unit"], passed["limit"]) == ("pass", "%", 90.0)
    assert (failed["outcome"], failed["unit"], failed["limit"]) == ("fail", "ns", 1.0)
    row = failed["rows"][0]
    assert row["row"]["workload"] == "mix70_30"
    assert row["value"] > row["low"] - 1
    assert row["outcome"] == "fail"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "limits.txt: no thresholds"),
        ("nvme.latency_p98 < 5us", "limits.txt:1: 'nvme.latency_p98 < 5us': unknown metric"),
        ("nvme[scheme=x].latency_p99 < 5us", "no row with scheme 'x'; there are: pcie-ide, sev-pcie"),
    ],
)
def test_errors_are_2(saved, tmp_path, text, words, capsys):
    assert gate(saved, tmp_path, text) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""


def test_missing_and_binary_thresholds(saved, tmp_path, capsys):
    assert cli.main(["gate", saved, "-t", str(tmp_path / "no")]) == 2
    assert "no: cannot be read" in capsys.readouterr().err
    (tmp_path / "bin").write_bytes(b"\xff\xfe")
    assert cli.main(["gate", saved, "-t", str(tmp_path / "bin")]) == 2
    assert "bin: byte 0: not UTF-8 text" in capsys.readouterr().err


def test_without_utf8_the_words_stand_alone(saved, tmp_path):
    (tmp_path / "limits").write_text(PASS)
    done = subprocess.run(
        [sys.executable, "-m", "sevpcie_core.cli", "gate", saved, "-t", str(tmp_path / "limits")],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("pass: nvme")


def test_report_prints_the_table_or_writes_html(saved, tmp_path, capsys):
    assert cli.main(["report", saved]) == 0
    assert "randread4k" in capsys.readouterr().out
    page = tmp_path / "page.html"
    assert cli.main(["report", saved, "-o", str(page)]) == 0
    assert capsys.readouterr().out == ""
    assert "randread4k" in page.read_text()
    assert cli.main(["report", saved, "-o", str(tmp_path / "no" / "page.html")]) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["report"], ["rerun"], ["gate", "-t", "limits"]])
def test_bad_records_are_one_line(command, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "limits").write_text(PASS)
    (tmp_path / "cut.json").write_text('{"schema_version": 1, "comma')
    for name, words in {"cut.json": "is the file cut off?", "no.json": "cannot be read"}.items():
        assert cli.main([*command, name]) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith(f"sevpcie: error: {name}")
        assert words in captured.err
        assert captured.err.count("\n") == 1


@pytest.mark.parametrize(("text", "code"), [(PASS, 0), (FAIL, 99), (OPEN, 4)])
@pytest.mark.parametrize("how", ["reader has gone", "closed"])
def test_the_outcome_stands_though_nobody_reads_it(saved, tmp_path, text, code, how):
    limits = tmp_path / "limits.txt"
    limits.write_text(text)
    command = [sys.executable, "-m", "sevpcie_core.cli", "gate", saved, "-t", str(limits)]
    if how == "closed":
        shell = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *command]
        assert subprocess.run(shell, check=False).returncode == code
        return
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (code, "")


def test_a_width_of_zero_is_none(saved, monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert cli.main(["report", saved]) == 0
    usual = capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "0")
    assert cli.main(["report", saved]) == 0
    assert capsys.readouterr().out == usual != ""


def test_a_name_that_is_too_long(saved, tmp_path, capsys):
    assert cli.main(["report", "n" * 300]) == 2
    assert cli.main(["report", saved, "--out", str(tmp_path / ("n" * 300))]) == 2
    assert capsys.readouterr().err.count("File name too long") == 2
