"""`sevpcie measure workload`: its JSON, its table, its bar, and that it times what it says."""

import json

import pytest

from sevpcie_core import cli
from sevpcie_core._jit import JIT_DISABLED
from sevpcie_core.errors import ConfigError, MisuseError
from sevpcie_core.measure import workload
from sevpcie_core.measure.timing import Slice
from sevpcie_core.measure.workload import BAR, CASES, Plan, measure

compiled = pytest.mark.skipif(JIT_DISABLED, reason="measures compiled code")


@pytest.fixture
def brief(monkeypatch):
    monkeypatch.setattr(workload, "_SLICE_NS", 1)


@compiled
def test_every_workload_keeps_the_bar(capsys):
    """With slices as short as in a first look; `measure workload` measures for longer."""
    assert cli.main(["measure", "workload", "--quick", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["command"] == "measure workload"
    assert document["within"] is True
    rows = {row["workload"]: row for row in document["workloads"]}
    assert list(rows) == list(CASES)
    for row in rows.values():
        assert row["tlps_per_s"] >= row["tlps_per_s_median"] > 0
        assert row["tlps_per_s"] >= document["bar_tlps_per_s"] == BAR == 20e6
        assert 0 < row["steps_pct"] <= 100
    # Doorbell, command (read and completion), 16 writes, completion entry, interrupt, doorbell.
    assert rows["nvme/randread4k"]["operations"] == 5000
    assert rows["nvme/randread4k"]["tlps"] == 5000 * 22


@compiled
def test_a_workload_below_the_bar_is_exit_code_99(brief, capsys, monkeypatch):
    monkeypatch.setattr(workload, "run_slice", lambda call, ns: Slice(1e9, 1e9, 1))
    assert cli.main(["measure", "workload", "--quick", "--requests", "100"]) == 99
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["workload", "operations"]
    assert [line.split()[0] for line in lines[1 : 1 + len(CASES)]] == list(CASES)
    # 100 reads in a second.
    assert lines[1].split() == ["nvme/randread4k", "100", "2,200", "0.0", "0.0", "100"]


@compiled
def test_speed_is_tlps_over_the_time_of_a_pass(brief, monkeypatch):
    times = iter([4e6, 1e6, 2e6, 1e6])
    monkeypatch.setattr(workload, "run_slice", lambda call, ns: (call(), Slice(next(times), 4e6, 1))[1])
    [row] = measure(Plan(requests=10, rounds=2, cases=["nvme/randread4k"])).rows
    assert row.tlps_per_s == pytest.approx(220 / 2e-3)
    assert row.tlps_per_s_median == pytest.approx(220 / 4e-3)
    assert row.steps_pct == pytest.approx(50)


@pytest.mark.parametrize("requests", ["0", "99999999", "x"])
def test_bad_input(requests, capsys):
    assert cli.main(["measure", "workload", "--requests", requests]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1


def test_plans_that_cannot_be(monkeypatch):
    with pytest.raises(MisuseError, match="rounds 0"):
        Plan(rounds=0).check()
    monkeypatch.setattr("sevpcie_core.measure.timing.JIT_DISABLED", True)
    with pytest.raises(ConfigError, match="NUMBA_DISABLE_JIT"):
        Plan().check()
