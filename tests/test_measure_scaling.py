"""`sevpcie measure scaling`: its JSON, its tables, its bar, and that it counts what it says."""

import json

import pytest

from sevpcie_core import cli
from sevpcie_core._jit import JIT_DISABLED
from sevpcie_core.errors import ConfigError, MisuseError
from sevpcie_core.measure import scaling
from sevpcie_core.measure.scaling import Plan, Result, Row, measure

compiled = pytest.mark.skipif(JIT_DISABLED, reason="measures compiled code")


@compiled
def test_json(capsys, monkeypatch):
    # The peak is that of the process, which may have run other tests.
    monkeypatch.setattr(scaling, "MEMORY_BAR_MB", 1e6)
    assert (
        cli.main(["measure", "scaling", "--tlps", "200000", "--depth", "1,64,4096", "--json", "--quiet"]) == 0
    )
    document = json.loads(capsys.readouterr().out)
    assert document["command"] == "measure scaling"
    lengths, depths = document["lengths"], document["depths"]
    # Lengths below the least one are one.
    assert [row["tlps"] for row in lengths] == [9988, 19998, 199980]
    assert [row["queue_depth"] for row in lengths] == [32] * 3
    assert [(row["queue_depth"], row["tlps"]) for row in depths] == [
        (depth, tlps) for depth in (1, 64, 4096) for tlps in (9988, 19998)
    ]
    for row in lengths + depths:
        assert row["ns_per_tlp"] == pytest.approx(1e9 * row["seconds"] / row["tlps"])
        assert row["seconds"] > 0
    peaks = [row["peak_mb"] for row in lengths + depths]
    assert peaks == sorted(peaks)
    assert document["peak_mb"] == lengths[-1]["peak_mb"] < document["bar_mb"]
    assert document["growth_mb"] >= 0


@compiled
def test_tables(capsys, monkeypatch):
    monkeypatch.setattr(scaling, "MEMORY_BAR_MB", 1e6)
    assert cli.main(["measure", "scaling", "--tlps", "10000", "--depth", "2", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].split()[:2] == ["depth", "TLPs"]
    assert "ns per TLP by depth and million TLPs" in out
    assert "9,988 TLPs: " in out


@compiled
def test_too_much_memory_ends_with_99(capsys, monkeypatch):
    monkeypatch.setattr(scaling, "MEMORY_BAR_MB", 1.0)
    assert cli.main(["measure", "scaling", "--tlps", "10000", "--depth", "2", "--quiet"]) == 99
    assert "(bar 1 MB)" in capsys.readouterr().out


@compiled
def test_progress_counts_tlps(monkeypatch):
    monkeypatch.setattr(scaling, "_MILLION", 1000)
    seen = []
    measure(Plan(tlps=100_000, depths=[4], rounds=1), lambda *told: seen.append(told))
    counts = [done for stage, done, total in seen if total == 100]
    assert counts == sorted(counts)
    assert counts[0] == 0
    # What the last chunk holds is told when it is done.
    assert 80 < counts[-1] < 100
    assert {stage for stage, *_ in seen} == {
        "compiling",
        "queue depth 32, million TLPs",
        "queue depth 4, million TLPs",
    }


@compiled
def test_memory_does_not_grow_with_the_length():
    """A hundred times as many TLPs: no more than what the pages of histograms and rings come to."""
    result = measure(Plan(tlps=2_000_000, depths=[], rounds=1))
    assert result.growth_mb < 20


def test_the_bar():
    assert scaling.MEMORY_BAR_MB == 500


def test_growth_is_from_a_hundredth_to_all():
    rows = [
        Row(32, tlps, 1.0, 1.0, peak) for tlps, peak in ((1, 90.0), (10, 100.0), (100, 130.0), (999, 141.0))
    ]
    result = Result(Plan(), 0, [], rows)
    assert result.growth_mb == pytest.approx(41)
    assert Result(Plan(), 0, [], rows[-1:]).growth_mb == 0


def test_of_short_runs_the_best_counts(monkeypatch):
    from types import SimpleNamespace

    times = iter([3.0, 1.0, 2.0, 5.0, 4.0])
    monkeypatch.setattr(
        scaling,
        "reads",
        lambda depth, requests: SimpleNamespace(programs=(), tlps=22 * requests),
    )

    class Task:
        def simulate(self, scheme, policy):
            return SimpleNamespace(seconds=next(times), tlps=2200)

    monkeypatch.setattr(scaling, "_watched", lambda task, told: Task())
    assert scaling._run(1, 2200, 3, print).seconds == 1.0
    # A long one is run once.
    assert scaling._run(1, scaling._SHORT + 1, 3, print).seconds == 5.0


@pytest.mark.parametrize(
    "argv",
    [["--tlps", "0"], ["--tlps", "9999"], ["--tlps", "99999999999"], ["--depth", "0"], ["--depth", "5000"],
     ["--depth", "x"], ["--depth", ""]],
)  # fmt: skip
def test_bad_input(argv, capsys):
    assert cli.main(["measure", "scaling", *argv]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1


def test_plans_that_cannot_be():
    with pytest.raises(MisuseError, match="rounds 0"):
        Plan(rounds=0).check()


def test_interpreted_kernels_are_not_measured(monkeypatch):
    monkeypatch.setattr("sevpcie_core.measure.timing.JIT_DISABLED", True)
    with pytest.raises(ConfigError, match="NUMBA_DISABLE_JIT"):
        Plan().check()
