"""Keys of drives that say how requests become commands, and what they refuse."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sevpcie_core.errors import ConfigError, FormatError
from sevpcie_core.experiment.programs import build
from sevpcie_core.experiment.runner import Task
from sevpcie_core.experiment.scenario import Scenario, load_scenario, load_scheme
from sevpcie_core.spec import BUFFER_DATA
from sevpcie_core.workload.program import DELAY, READ_UP, WRITE_DOWN, WRITE_UP

TEXT = """\
name = "reads"
link = "gen5x4"
requests = 300
seeds = 1

[[workload]]
name = "w"

[workload.device.ssd]
preset = { base = "nvme-dram", PRESET }
traffic = { kind = "nvme", TRAFFIC }
"""

Load = Callable[[str, str], Scenario]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(preset: str, traffic: str) -> Scenario:
        path = tmp_path / "my.toml"
        path.write_text(TEXT.replace("PRESET", preset).replace("TRAFFIC", traffic))
        return load_scenario(path)

    return load


def steps_of(scenario: Scenario) -> np.ndarray:
    resolved = scenario.resolve()
    program = build(resolved.workloads[0].devices[0], 0, resolved.seed, 0)
    return np.concatenate([chunk.steps for chunk in program.chunks()])


def test_a_drive_takes_so_much_in_one_command(load: Load) -> None:
    steps = steps_of(load('mdts = "128KiB"', 'block = "1MiB", queue_depth = 16'))
    data = steps[(steps["buffer"] == BUFFER_DATA) & (steps["kind"] != DELAY)]
    assert len(data) == 300 * 8
    assert set(data["bytes"].tolist()) == {131_072}
    assert ((steps["kind"] == WRITE_DOWN) & (steps["address"] % 8 == 0)).sum() == 300


@pytest.mark.parametrize("traffic", ["queue_depth = 8", "iops = 20000", "queue_depth = 8, batch = 4"])
@pytest.mark.parametrize(
    "preset", ["", ", coalesce = 3", ", data_pointers = 'sgl', queues = 2, shadow_every = 2"]
)
def test_every_arm_moves_it_all(load: Load, preset: str, traffic: str) -> None:
    mix = f'{traffic}, read_share = 0.5, flush_share = 0.1, block = [[2, "4KiB"], [1, "300KiB"]]'
    resolved = load(f'mdts = "64KiB"{preset}', mix).resolve()
    task = Task.prepare(resolved, resolved.workloads[0], 1)
    moved = set()
    for scheme, policy in (("none", "off"), ("sev-pcie", "all"), ("bounce-buffer", "selective")):
        outcome = task.simulate(load_scheme(scheme), policy)
        assert sum(c.requests for c in outcome.classes) == 300
        moved.add(sum(c.application_bytes for c in outcome.classes))
    assert len(moved) == 1


def test_writes_may_have_blocks_of_their_own(load: Load) -> None:
    steps = steps_of(
        load("fetch = 1", 'read_share = 0.5, block = "8KiB", write_block = [[1, "4KiB"], [2, "64KiB"]]')
    )
    data = steps[(steps["buffer"] == BUFFER_DATA) & (steps["kind"] != DELAY)]
    assert set(data["bytes"][data["kind"] == WRITE_UP].tolist()) == {8192}
    assert set(data["bytes"][data["kind"] == READ_UP].tolist()) == {4096, 65_536}


def test_what_is_not_said_is_not_in_the_digest(load: Load) -> None:
    plain = load("mdts = 0", "queue_depth = 8").digest()
    assert plain == load("fetch = 1", "queue_depth = 8").digest()
    assert plain == load("fetch = 1", "queue_depth = 8, sequential_share = 0").digest()
    assert plain != load("mdts = '4KiB'", "queue_depth = 8").digest()
    split = "queue_depth = 8, read_share = 0.5"
    other = {load("fetch = 1", f"{split}{more}").digest() for more in ("", ", write_block = '8KiB'")}
    assert len(other) == 2
    ahead = "media_read_ahead = '3us'"
    assert plain != load(ahead, "queue_depth = 8").digest()
    assert load(ahead, "queue_depth = 8").digest() != load(ahead, "iops = 5, sequential_share = 1").digest()


@pytest.mark.parametrize(
    ("preset", "traffic", "said"),
    [
        (
            "fetch = 1",
            "sequential_share = 0.5",
            "sequential_share: 0.5 on nvme-dram-custom, which reads nothing ahead; expected 0, or a device",
        ),
        (
            "fetch = 1",
            "write_block = '8KiB'",
            "write_block: beside read_share = 1, with which there are reads only; expected no such key",
        ),
        (
            "fetch = 1",
            "iops = 5, read_share = 0, write_block = '8KiB'",
            "write_block: beside read_share = 0, with which there are writes only; expected no such key",
        ),
        ("fetch = 1", "read_share = 0.5, write_block = 100", "write_block: 100; expected a size from 512"),
        (
            "fetch = 1",
            "read_share = 0.5, write_block = '64KiB', window = '32KiB'",
            "window: 32KiB, too small for a request of 64KiB; expected that at least",
        ),
        (
            "mdts = '4KiB', queue_entries = 64",
            "queue_depth = 8, read_share = 0.5, write_block = '64KiB'",
            "queue_depth: 8 per queue of 16 commands each; expected at most 3: one less than its 64 entries",
        ),
        ("media_read_ahead = 3", "iops = 5", "preset.media_read_ahead: 3: no unit; expected a time"),
        ("mdts = '5KiB'", "queue_depth = 8", "preset.mdts: '5KiB'; expected 0, 4096, 8192, "),
        ("mdts = '128MiB'", "queue_depth = 8", "preset.mdts: '128MiB'; expected 0, 4096, 8192, "),
        (
            "mdts = '4KiB', queue_entries = 64",
            "queue_depth = 8, block = '64KiB'",
            "queue_depth: 8 per queue of 16 commands each; expected at most 3: one less than its 64 entries",
        ),
        (
            "mdts = '4KiB'",
            "queue_depth = 64, block = '16MiB'",
            "64 per queue of 4096 commands each; expected at most 15: one less than its 65536 entries",
        ),
    ],
)
def test_one_line_says_what_is_wrong(load: Load, preset: str, traffic: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(preset, traffic).resolve()
    assert said in str(caught.value)
    assert "my.toml:10: " in str(caught.value) or "my.toml:11: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_recording_of_larger_requests_needs_a_drive_that_cuts_them(load: Load, tmp_path: Path) -> None:
    trace = tmp_path / "big.csv"
    trace.write_text("time_us,event,address,length\n1,read,0,4096\n2,read,8,134217728\n3,write,8,1000448\n")
    with pytest.raises(FormatError, match=r"a command of 134217728 bytes; expected at most 64MiB, .* mdts"):
        steps_of(load("fetch = 1", 'trace = "big.csv"'))
    steps = steps_of(load("mdts = '1MiB'", 'trace = "big.csv"'))
    data = steps[(steps["buffer"] == BUFFER_DATA) & (steps["kind"] != DELAY)]
    assert np.bincount(data["request"]).tolist() == [1, 128, 1]
    said = r"a request of 134217728 bytes is 32768 commands of mdts \(4KiB\); expected at most 16384"
    with pytest.raises(FormatError, match=said):
        steps_of(load("mdts = '4KiB'", 'trace = "big.csv"'))
