"""Every recording that is at hand runs: `compare --trace` by its content alone, and `workload show`."""

import json
import os
from pathlib import Path

import pytest

from sevpcie_core import cli
from sevpcie_core.errors import FormatError
from sevpcie_core.experiment import presets
from sevpcie_core.workload import traces

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = Path(os.environ.get("SEVPCIE_REFERENCE_DATA") or ROOT.parent / "shared" / "data") / "traces"
# Beside recordings there are tables of what they hold.
NOT_TRACES = (".md", ".summary.csv")
SAMPLES = [f"sample:{name}" for name in presets.names("samples")]
FOUND = sorted(path for path in REFERENCE.rglob("*") if path.is_file() and not path.name.endswith(NOT_TRACES))
TRACES = [*SAMPLES, *(str(path.relative_to(REFERENCE)) for path in FOUND)]
# Enough that every kind of record of these comes by.
LIMIT = "400"


def place(name):
    """Return what names a trace on the command line."""
    return name if name in SAMPLES else str(REFERENCE / name)


def kind_of(name):
    path = presets.sample(name.removeprefix("sample:")) if name in SAMPLES else REFERENCE / name
    return traces.FORMATS[traces.detect(path)]


@pytest.mark.parametrize("name", TRACES)
def test_compare_replays_it(name, capsys):
    """By its content: on a device of its kind, without a word of it on the command line."""
    argv = ["compare", "--trace", place(name), "--limit", LIMIT, "--quick", "--seeds", "1", "--json"]
    assert cli.main([*argv, "--quiet", "--scheme", "sev-pcie", "--policy", "selective"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["warnings"] == []
    devices = record["options"]["scenarios"][0]["scenario"]["workload"][0]["device"]
    assert list(devices) == [kind_of(name)]
    protected = [row for row in record["results"] if row["class"] == "all" and row["scheme"] == "sev-pcie"]
    assert protected[0]["requests"] > 0
    assert protected[0]["wire"]["ide_bytes"] > 0


@pytest.mark.parametrize("name", TRACES)
def test_it_can_be_looked_at_whole(name, capsys):
    assert cli.main(["workload", "show", place(name), "--json"]) == 0
    captured = capsys.readouterr()
    [workload] = json.loads(captured.out)["workloads"]
    [device] = workload["devices"]
    assert device["kind"] == kind_of(name)
    assert device["trace"]["records"] > 0
    assert device["trace"]["bad"] == 0
    # Every record is an operation; what a GPU does beside copies are launches.
    assert device["operations"]["count"] == device["trace"]["records"]
    assert device["data"]["bytes"] > 0


def test_a_command_larger_than_any_drive_takes_is_one_clear_line(capsys, tmp_path):
    path = tmp_path / "large.csv"
    path.write_text(f"time_us,op,bytes\n0,read,{(64 << 20) + 512}\n1,trim,{1 << 39}\n")
    assert cli.main(["compare", "--trace", str(path), "--quick"]) == 2
    assert "a command of 67109376 bytes; expected at most 64MiB" in capsys.readouterr().err
    path.write_text(f"time_us,op,bytes\n0,read,{64 << 20}\n1,trim,{1 << 39}\n")
    assert cli.main(["workload", "show", str(path)]) == 0


def test_the_reference_traces_are_there(reference_data):
    """Where there is reference data, it has recordings of each kind."""
    assert {kind_of(str(path.relative_to(REFERENCE))) for path in FOUND} == {"gpu", "nic", "nvme"}


@pytest.mark.parametrize("path", sorted(REFERENCE.rglob("*.summary.csv")), ids=lambda path: path.name)
def test_a_table_beside_a_trace_is_no_trace(path):
    with pytest.raises(FormatError):
        traces.detect(path)
