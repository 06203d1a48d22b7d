"""`sevpcie measure traces`: its JSON, its table, and that every format is there."""

import json

import pytest

from sevpcie_core import cli
from sevpcie_core._jit import JIT_DISABLED
from sevpcie_core.errors import MisuseError
from sevpcie_core.measure.traces import FORMATS, Plan, write
from sevpcie_core.workload import traces

compiled = pytest.mark.skipif(JIT_DISABLED, reason="measures compiled code")


@compiled
def test_json(capsys):
    arguments = ["--format", "blkparse", "--format", "msr-csv", "--records", "300", "--quick", "--json"]
    assert cli.main(["measure", "traces", *arguments]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["command"] == "measure traces"
    assert [(row["format"], row["records"], row["lines"]) for row in document["traces"]] == [
        ("blkparse", 300, 1500),
        ("msr-csv", 300, 300),
    ]
    for row in document["traces"]:
        assert row["records_per_s"] >= row["records_per_s_median"] > 0


@compiled
def test_table(capsys):
    assert cli.main(["measure", "traces", "--format", "gpu-csv", "--records", "100", "--quick"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("gpu-csv ")


@pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.name)
def test_what_is_measured_is_of_the_format(tmp_path, format):
    write(format, tmp_path / "trace", 10)
    assert traces.detect(tmp_path / "trace") == format.name.split()[0]


def test_unknown_formats():
    with pytest.raises(MisuseError, match="format 'csv': expected fio-iolog, "):
        Plan(formats=["csv"]).check()
