"""One load for several devices: each has the share of it that the file says, as a rate of its own."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevpcie_core import cli
from sevpcie_core.errors import ConfigError
from sevpcie_core.experiment.programs import build
from sevpcie_core.experiment.scenario import Scenario, json_schema, load_scenario
from sevpcie_core.spec import BUFFER_DATA
from sevpcie_core.workload.nic import IMIX
from sevpcie_core.workload.program import BEGIN, DELAY

TEXT = """\
name = "together"
link = "gen5x16"
requests = 60000
seeds = 1

[[workload]]
name = "w"
load = "60Gb/s"

[workload.device.drive]
preset = "nvme-dram"
link = "gen5x4"
share = 0.25
traffic = { kind = "nvme", block = [[1, "4KiB"], [1, "12KiB"]], flush_share = 0.2 }

[workload.device.nic]
preset = "nic-400g"
share = 0.5
traffic = { kind = "nic", direction = "both", sizes = "imix" }

[workload.device.gpu]
preset = "gpu-gen5"
share = 0.25
traffic = { kind = "gpu", job = "zero-copy", size = "64B" }

[workload.device.other]
preset = "nvme-dram"
traffic = { kind = "nvme", queue_depth = 4 }
"""

Load = Callable[[str], Scenario]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(text: str) -> Scenario:
        path = tmp_path / "my.toml"
        path.write_text(text)
        return load_scenario(path)

    return load


def rates(scenario: Scenario) -> dict[str, object]:
    traffic = {name: entry.traffic for name, entry in scenario.workload[0].device.items()}
    return {name: getattr(of, "iops", None) or getattr(of, "rate", None) for name, of in traffic.items()}


def test_each_device_moves_its_share_of_the_data(load: Load) -> None:
    resolved = load(TEXT).resolve()
    moved = {}
    for i, run in enumerate(resolved.workloads[0].devices[:3]):
        steps = np.concatenate([c.steps for c in build(run, i, resolved.seed, 0).chunks()])
        data = steps["bytes"][(steps["buffer"] == BUFFER_DATA) & (steps["kind"] != DELAY)].sum()
        last = steps["not_before_ps"][steps["flags"] & BEGIN != 0].max()
        moved[run.name] = data * 8 / last * 1000
    assert moved == pytest.approx({"drive": 15, "nic": 30, "gpu": 15}, rel=0.03)


def test_show_prints_the_rates_that_they_come_to(load: Load, tmp_path: Path, capsys) -> None:
    scenario = load(TEXT)
    # 15 Gb/s in 8 KiB of four in five requests; frames of both directions with 24 B more each.
    frames = 30e9 / 8 / (sum(w * s for w, s in IMIX) / 52)
    line = round(frames / 2 * (sum(w * (s + 24) for w, s in IMIX) / 52) * 8)
    assert rates(scenario) == {
        "drive": round(15e9 / 8 / 8192 / 0.8),
        "nic": line,
        "gpu": (15 * 10**9, 0),
        "other": None,
    }
    assert cli.main(["show", str(tmp_path / "my.toml")]) == 0
    shown = capsys.readouterr().out
    assert "iops = 286102" in shown
    assert f'rate = "{line}b/s"' in shown
    assert 'rate = "15Gb/s"' in shown
    assert "\nshare =" not in shown
    again = Scenario.from_dict(tomllib.loads(shown))
    assert again.digest() == scenario.digest()
    # As if the rates had been there from the start.
    by_hand = TEXT.replace('load = "60Gb/s"\n', "").replace("share = 0.25\n", "").replace("share = 0.5\n", "")
    by_hand = by_hand.replace("flush_share = 0.2", "flush_share = 0.2, iops = 286102")
    by_hand = by_hand.replace('"imix"', f'"imix", rate = {line}').replace('"64B"', '"64B", rate = "15Gb/s"')
    assert load(by_hand).digest() == scenario.digest()


def test_writes_of_other_sizes_count_in_the_data(load: Load) -> None:
    both = 'block = [[1, "4KiB"], [1, "12KiB"]], read_share = 0.75, write_block = "64KiB"'
    scenario = load(TEXT.replace('block = [[1, "4KiB"], [1, "12KiB"]]', both))
    assert rates(scenario)["drive"] == round(15e9 / 8 / (0.75 * 8192 + 0.25 * 65_536) / 0.8)


def test_operations_are_shared_too(load: Load) -> None:
    scenario = load(TEXT.replace('"60Gb/s"', '"2Mops/s"'))
    line = round(500_000 * (sum(w * (s + 24) for w, s in IMIX) / 52) * 8)
    assert rates(scenario) == {"drive": 500_000, "nic": line, "gpu": (0, 500_000), "other": None}


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=8), st.integers(10**9, 10**11))
def test_rates_are_all_of_the_load_however_it_is_shared(weights: list[int], bps: int) -> None:
    total = sum(weights)
    shares = [round(w / total, 9) for w in weights]
    devices = {
        f"d{i}": {
            "preset": "gpu-gen5",
            "share": share,
            "traffic": {"kind": "gpu", "job": "zero-copy", "size": "32B"},
        }
        for i, share in enumerate(shares)
        if share
    }
    top = {"name": "s", "link": "gen5x16"}
    scenario = Scenario.from_dict({**top, "workload": [{"name": "w", "load": bps, "device": devices}]})
    found = [entry.traffic.rate.bps for entry in scenario.workload[0].device.values()]
    assert sum(found) == pytest.approx(bps, abs=len(found) + bps * 1e-6)
    assert found == pytest.approx([bps * share for share in shares if share], abs=1)


def test_the_schema_allows_them() -> None:
    jsonschema.validate(tomllib.loads(TEXT), json_schema())


def test_one_knob_turns_all(load: Load) -> None:
    half, whole = (rates(load(TEXT.replace("60Gb/s", rate))) for rate in ("30Gb/s", "60Gb/s"))
    assert half["drive"] == pytest.approx(whole["drive"] / 2, abs=1)
    assert half["nic"] == pytest.approx(whole["nic"] / 2, abs=1)
    assert load(TEXT.replace("60Gb/s", "30Gb/s")).digest() != load(TEXT).digest()


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        (
            "share = 0.5\n",
            "share = 0.6\n",
            13,
            "share: 0.25 (drive) + 0.6 (nic) + 0.25 (gpu) = 1.1 of the load",
        ),
        ("share = 0.5\n", "share = 1.5\n", 18, "nic.share: 1.5; expected a number above 0 and up to 1"),
        ("share = 0.5\n", "share = 0\n", 18, "nic.share: 0; expected a number above 0"),
        ('load = "60Gb/s"\n', "", 12, "drive.share: 0.25 of no load; expected load = RATE in the workload"),
        ('"60Gb/s"', '"60Gbps"', 8, "load: '60Gbps': unknown unit 'Gbps'; expected a rate"),
        ('"60Gb/s"', '"60ops"', 8, "load: '60ops': unknown unit 'ops'; expected a rate of operations"),
        ('"imix" }', '"imix", rate = "1Gb/s" }', 19, "traffic.rate: 'rate' beside a share of the load"),
        ("flush_share = 0.2", "iops = 5", 14, "traffic.iops: 'iops' beside a share of the load; expected no"),
        ("flush_share = 0.2", "queue_depth = 5", 14, "traffic.queue_depth: 'queue_depth' beside a share"),
        (
            "flush_share = 0.2",
            "flush_share = 1",
            14,
            "traffic: moves no data; expected some, or a load in ops/s",
        ),
        ('job = "zero-copy", size = "64B"', 'job = "training"', 24, "'training' has no rate to share"),
        ('sizes = "imix"', 'sizes_of = "sample:redis"', 19, "sizes_of: of a device with a share of the load"),
        ('kind = "gpu"', "kind = []", 24, "kind = a list; expected 'nvme', 'nic', 'gpu' or 'tlp'"),
        ('kind = "gpu"', 'kind = "cpu"', 24, "kind = 'cpu'; expected 'nvme', 'nic', 'gpu' or 'tlp'"),
        ('"60Gb/s"', '"2Tb/s"', 19, "traffic.rate: '531941031941b/s', above the line rate of nic-400g"),
        ('"60Gb/s"', '"1b/s"', 14, "traffic.iops: 0; expected a whole number from 1"),
    ],
)
def test_one_line_names_everything(load: Load, old: str, new: str, line: int, said: str) -> None:
    assert old in TEXT
    with pytest.raises(ConfigError) as error:
        load(TEXT.replace(old, new)).resolve()
    message = str(error.value)
    assert said in message
    assert f"my.toml:{line}: " in message
    assert "\n" not in message


def test_a_load_of_nobody_and_shares_in_two_workloads(load: Load) -> None:
    text = TEXT.replace("share = 0.25\n", "").replace("share = 0.5\n", "")
    text = text.replace('"imix" }', '"imix", rate = "1Gb/s" }')
    with pytest.raises(
        ConfigError, match=r"my.toml:8: workload\[0\]\.load: '60Gb/s' that no device has a sh"
    ):
        load(text)
    second = TEXT[TEXT.index("[[workload]]") :].replace('name = "w"', 'name = "v"').replace("0.5", "0.4")
    with pytest.raises(ConfigError, match=r"my.toml:36: workload\[1\]\.device\.drive\.share: .* = 0.9 of"):
        load(TEXT + second)


def test_the_page_s_example_runs() -> None:
    page = (Path(__file__).resolve().parent.parent / "docs" / "scenarios.md").read_text()
    (text,) = [
        t for t in re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL) if "at-a-load" in t
    ]
    found = rates(Scenario.from_dict(tomllib.loads(text)))
    assert found["drive-a"] == round(15e9 / 8 / 4096)
    assert found["drive-b"] == round(15e9 / 8 / 65536)
    assert found["fabric"] == round(30e9 / 1514 * 1538)
