"""Keys of network adapters and their traffic, from the file to the program."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sevpcie_core import cli
from sevpcie_core.errors import ConfigError, FormatError
from sevpcie_core.experiment import presets, programs
from sevpcie_core.experiment.problems import Origin
from sevpcie_core.experiment.resolved import DeviceRun, NicDevice
from sevpcie_core.experiment.runner import Task
from sevpcie_core.experiment.scenario import Scenario, load_scenario, load_scheme
from sevpcie_core.spec import BUFFER_DATA
from sevpcie_core.workload import nic, traces
from sevpcie_core.workload.program import DELAY

TEXT = """\
name = "frames"
link = "gen4x16"
requests = 3000
seeds = 1

[[workload]]
name = "w"

[workload.device.nic]
preset = PRESET
traffic = { kind = "nic", direction = "DIRECTION", SIZES, rate = "50Gb/s" }
"""

Load = Callable[..., Scenario]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(preset: str = '"nic-100g-dpdk"', direction: str = "rx", sizes: str = "sizes = 1514") -> Scenario:
        path = tmp_path / "my.toml"
        text = TEXT.replace("PRESET", preset).replace("DIRECTION", direction).replace("SIZES", sizes)
        path.write_text(text)
        return load_scenario(path)

    return load


def device_of(scenario: Scenario) -> DeviceRun:
    return scenario.resolve().workloads[0].devices[0]


def moved(scenario: Scenario) -> dict[str, np.ndarray]:
    """Return bytes of frames by direction."""
    program = programs.build(device_of(scenario), 0, 1, 0)
    steps = np.concatenate([chunk.steps for chunk in program.chunks()])
    data = steps[(steps["buffer"] == BUFFER_DATA) & (steps["kind"] != DELAY)]
    return {name: data["bytes"][data["stat"] == k] for k, name in enumerate(program.stats)}


def adapter_of(name: str) -> nic.Adapter:
    table, _ = presets.device(name, Origin(name), ())
    device = table.build(name)
    assert isinstance(device, NicDevice)
    return programs.adapter(device)


def test_rings_are_as_the_device_says_unless_they_say_otherwise() -> None:
    usual = adapter_of("nic-400g")
    assert usual.rx == usual.tx == nic.Ring(doorbell=8, fetch=8, completion_bytes=64)
    kernel, dpdk = adapter_of("nic-100g-kernel"), adapter_of("nic-100g-dpdk")
    assert (kernel.rx.doorbell, kernel.tx.doorbell, kernel.rx.interrupt) == (16, 1, 0)
    assert (kernel.moderation_ps, kernel.entries) == (50_000_000, 2048)
    assert (dpdk.tx.doorbell, dpdk.tx.completions, dpdk.tx.completion_bytes) == (32, 32, 16)
    assert (dpdk.moderation_ps, dpdk.rx.interrupt) == (0, 0)
    assert [ring.descriptor_bytes for ring in kernel.rings()] == [32, 16]
    assert [ring.descriptor_bytes for ring in usual.rings()] == [16, 16]


@pytest.mark.parametrize(
    ("sizes", "allowed"),
    [
        ("sizes = 1514", {1514}),
        ('sizes = "imix"', {60, 590, 1514}),
        ('sizes = "bimodal"', {200, 1400}),
        ('sizes = [[3, 64], [1, "9000B"]]', {64, 9000}),
    ],
)
def test_sizes(load: Load, sizes: str, allowed: set[int]) -> None:
    found = moved(load(direction="both", sizes=sizes))
    assert list(found) == ["rx", "tx"]
    assert sum(map(len, found.values())) == 3000
    for one in found.values():
        assert set(one.tolist()) == allowed


def test_sizes_of_a_capture_are_each_directions_own(load: Load) -> None:
    found = moved(load(direction="both", sizes='sizes_of = "sample:redis"'))
    frames = traces.read_nic(presets.sample("redis"))
    for name, direction in (("rx", traces.NIC_RX), ("tx", traces.NIC_TX)):
        mine = frames["bytes"][frames["direction"] == direction]
        assert found[name].mean() == pytest.approx(mine.mean(), rel=0.1)
        assert set(found[name].tolist()) <= set(mine.tolist())


@pytest.mark.parametrize(
    "preset", ['"nic-100g-kernel"', '"nic-simple"', '{ base = "nic-niantic-kernel", line_rate = "100Gb/s" }']
)
def test_every_arm_runs(load: Load, preset: str) -> None:
    text = preset.replace(
        '"nic-simple"', '{ base = "nic-simple", line_rate = "100Gb/s", header_split = 128 }'
    )
    resolved = load(text, "both", 'sizes = "bimodal"').resolve()
    task = Task.prepare(resolved, resolved.workloads[0], 1)
    for scheme, policy in (("none", "off"), ("sev-pcie", "all"), ("bounce-buffer", "selective")):
        outcome = task.simulate(load_scheme(scheme), policy)
        assert sum(c.requests for c in outcome.classes) == 3000


def test_what_is_not_said_is_not_in_the_digest(load: Load) -> None:
    plain = load('{ base = "nic-400g" }').digest()
    for same in (
        "tx = { doorbell_batch = 8 }",
        "tx = { descriptor_bytes = 16 }",
        "rx = { status_batch = 0 }",
        "msi_time = 0",
        "header_split = 0",
    ):
        assert load(f'{{ base = "nic-400g", {same} }}').digest() == plain
    for other in (
        *("tx = { doorbell_batch = 4 }", "tx = { completion_batch = 0 }", "rx = { status_batch = 1 }"),
        *(
            "tx = { descriptor_bytes = 64 }",
            "header_split = 64",
            "ring_entries = 512",
            "tx = { whole_fetches = true }",
        ),
    ):
        assert load(f'{{ base = "nic-400g", {other} }}').digest() != plain


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"preset": '{ base = "nic-400g", ring_entries = 4 }'},
            "ring_entries: 4; expected at least the largest batch, 8",
        ),
        (
            {
                "preset": '{ base = "nic-400g", tx = '
                "{ whole_fetches = true, doorbell_batch = 1023, descriptor_batch = 1022 } }"
            },
            "doorbells and reads come out even after 1045506 frames; expected 4096 at most",
        ),
        (
            {"preset": '{ base = "nic-400g", tx = { descriptor_bytes = 6 } }'},
            "tx.descriptor_bytes: 6; expected",
        ),
        ({"preset": '{ base = "nic-400g", rx = { completion_batch = 0 } }'}, "completion_batch: 0; expected"),
        ({"preset": '{ base = "nic-400g", rx = { whole_fetches = true } }'}, "unknown key 'whole_fetches'"),
        ({"sizes": "sizes = [[1, 40]]"}, "sizes: 40; expected"),
        ({"sizes": "sizes = []"}, "sizes: 0 pairs; expected 1 to 64"),
        ({"sizes": 'sizes_of = "sample:redis", sizes = 60'}, "unknown key 'sizes'"),
        ({"sizes": 'sizes_of = "sample:kv_swap"'}, "of kind 'gpu'; expected a trace of kind 'nic'"),
        ({"sizes": 'sizes_of = "sample:reddis"'}, "did you mean 'redis'"),
        ({"preset": '"nic-niantic-kernel"', "sizes": 'sizes_of = "sample:redis"'}, "above the line rate"),
    ],
)
def test_one_line_says_what_is_wrong(load: Load, changes: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(**changes).resolve()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_capture_without_the_direction_is_refused(load: Load) -> None:
    sizes = 'sizes_of = "sample:redis", local = "10.9.9.9"'
    with pytest.raises((FormatError, ConfigError)) as caught:
        moved(load(direction="tx", sizes=sizes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "device", "trace", "other", "said"),
    [
        ("nic", "nic-400g", "sample:redis", "443", "'443' is no end of any packet in "),
        ("tlp", "endpoint", "TLPS", "99:00.0", "'99:00.0': "),
    ],
)
def test_an_end_that_no_packet_has_is_named_where_it_was_said(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    device: str,
    trace: str,
    other: str,
    said: str,
) -> None:
    (tmp_path / "tlps.csv").write_text("time_ns,direction,tlp\n0,up,4000000101000a0f0000100000000000\n")
    trace = trace.replace("TLPS", str(tmp_path / "tlps.csv"))
    assert cli.main(["workload", "show", trace, "--local", other, "--seed", "2", "--quiet"]) == 2
    assert capsys.readouterr().err.startswith(f"sevpcie: error: --local {said}")
    path = tmp_path / "mine.toml"
    path.write_text(
        f'name = "mine"\nlink = "gen5x16"\n[[workload]]\nname = "w"\n[workload.device.d]\n'
        f'preset = "{device}"\n'
        f'[workload.device.d.traffic]\nkind = "{kind}"\ntrace = "{trace}"\nlocal = "{other}"\n'
    )
    for options in (["--quiet"], ["--quiet", "--seed", "2"]):
        assert cli.main(["workload", "show", str(path), *options]) == 2
        found = capsys.readouterr().err
        assert found.startswith(f"sevpcie: error: {path}:10: workload[0].device.d.traffic.local: {said}")
