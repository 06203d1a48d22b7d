"""The mixes that are shipped: they run, everything in them, and the page names them all."""

from pathlib import Path

import pytest

from sevpcie_core import cli
from sevpcie_core.experiment import presets
from sevpcie_core.experiment.runner import Task, shortened
from sevpcie_core.experiment.scenario import load_scenario, load_scheme

MIXES = presets.names("mixes")


def test_none_is_run_unasked() -> None:
    assert len(MIXES) == 11
    assert not set(MIXES) & set(presets.names("scenarios"))


@pytest.mark.parametrize("name", MIXES)
def test_every_device_of_a_mix_works(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.name == name
    resolved = scenario.resolve()
    for each in resolved.workloads:
        assert any(run.background for run in each.devices)
        shorter, workload = shortened(resolved, each)
        task = Task.prepare(shorter, workload, resolved.seed)
        outcome = task.simulate(load_scheme("sev-pcie"), "selective")
        front = [d for d, run in enumerate(workload.devices) if not run.background]
        end = max(c.last_end_ps for c in outcome.classes if c.device in front and c.requests)
        for d, run in enumerate(workload.devices):
            mine = [c for c in outcome.classes if c.device == d and c.requests]
            if run.phase is None and task.programs[d].stats:
                assert mine, run.name
            # Requests that had begun come to their end, a large one of a drive at depth within milliseconds.
            assert all(c.last_end_ps < end + 10**10 for c in mine)


@pytest.mark.parametrize("name", MIXES)
def test_every_number_of_a_mix_says_where_it_is_from(name: str, root: Path) -> None:
    source = load_scenario(name).source
    assert len(source) > 2
    page = (root / "docs" / "workloads.md").read_text()
    assert f"| `{name}` |" in page
    assert all(words in page for key, words in source.items() if key not in ("seeds", "budget_pct"))


def test_a_mix_is_found_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show", "oltp"]) == 0
    assert 'name = "oltp"' in capsys.readouterr().out
    assert cli.main(["list", "mixes"]) == 0
    assert "weight-streaming" in capsys.readouterr().out
    assert cli.main(["workload", "show", "kv-offload"]) == 0
    assert "KV-cache offload" in capsys.readouterr().out
    assert cli.main(["compare", "oltpp"]) == 2
    assert "did you mean 'oltp'?" in capsys.readouterr().err
