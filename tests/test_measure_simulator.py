"""`sevpcie measure simulator`: its JSON, its table, and that it times what it says."""

import json

import pytest

from sevpcie_core import cli
from sevpcie_core._jit import JIT_DISABLED
from sevpcie_core.errors import ConfigError, MisuseError
from sevpcie_core.measure import simulator
from sevpcie_core.measure.simulator import Plan, measure

compiled = pytest.mark.skipif(JIT_DISABLED, reason="measures compiled code")


@compiled
def test_json(capsys):
    assert cli.main(["measure", "simulator", "--quick", "--requests", "200", "--depth", "4,8", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["command"] == "measure simulator"
    rows = document["simulator"]
    assert [(r["queue_depth"], r["scheme"]) for r in rows] == [
        (4, "none"),
        (4, "pcie-ide"),
        (8, "none"),
        (8, "pcie-ide"),
    ]
    for row in rows:
        assert row["scenario"] == "nvme/randread4k"
        assert row["tlps_per_s"] >= row["tlps_per_s_median"] > 0
        assert row["simulated_over_wall"] > 0
        assert ("cipher_engines" in row["mechanisms"]) == (row["scheme"] != "none")
        # 16 or more TLPs bring 4 KiB; doorbell, command, completion entry and the like.
        assert row["tlps"] >= 200 * (16 + 4)


@compiled
def test_table(capsys):
    assert cli.main(["measure", "simulator", "--quick", "--requests", "100", "--depth", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["scenario", "scheme", "depth"]
    assert lines[1].startswith("nvme/randread4k")
    assert "runs of 100 reads" in lines[-1]


@compiled
def test_speed_is_tlps_over_the_time_of_the_event_loop(monkeypatch):
    """A simulator that says it took a millisecond, three times as long each run."""
    real = simulator.Task.simulate
    times = iter([1.0, 0.001, 0.003, 0.009])

    def simulate(self, *arguments):
        from dataclasses import replace

        return replace(real(self, *arguments), seconds=next(times))

    monkeypatch.setattr(simulator.Task, "simulate", simulate)
    monkeypatch.setattr(simulator, "SCHEMES", ("none",))
    [row] = measure(Plan(depths=[4], requests=50, rounds=3)).rows
    assert row.tlps_per_s == pytest.approx(row.tlps / 0.001)
    assert row.tlps_per_s_median == pytest.approx(row.tlps / 0.003)


@pytest.mark.parametrize(
    "argv",
    [["--depth", "0"], ["--depth", "5000"], ["--depth", "x"], ["--requests", "0"], ["--requests", "9999999"]],
)
def test_bad_input(argv, capsys):
    assert cli.main(["measure", "simulator", *argv]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1


def test_plans_that_cannot_be():
    with pytest.raises(MisuseError, match="rounds 0"):
        Plan(rounds=0).check()


def test_interpreted_kernels_are_not_timed(monkeypatch):
    monkeypatch.setattr("sevpcie_core.measure.timing.JIT_DISABLED", True)
    with pytest.raises(ConfigError, match="NUMBA_DISABLE_JIT"):
        Plan().check()
