"""Devices whose data lie in the memory of a GPU: what a scenario may say, and what comes of it."""

# A case is a row of a table: what is replaced, by what, the line and the message.
# ruff: noqa: E501

from collections.abc import Callable
from pathlib import Path

import pytest

from sevpcie_core import cli, compare
from sevpcie_core.errors import ConfigError
from sevpcie_core.experiment.runner import Task
from sevpcie_core.experiment.scenario import Scenario, load_scenario, load_scheme

TEXT = """\
name = "mine"
link = "gen5x16"
requests = 200
seeds = 1

[[workload]]
name = "w"

[workload.switch.leaf]
uplink = "gen5x16"
latency = "110ns"

[workload.device.nic]
preset = "nic-400g"
switch = "leaf"
peer = "gpu"
traffic = { kind = "nic", direction = "both", sizes = 1514, rate = "50Gb/s" }

[workload.device.gpu]
preset = "gpu-gen5"
switch = "leaf"
traffic = { kind = "gpu", job = "idle" }
"""

Load = Callable[..., Scenario]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(text: str, *changes: tuple[str, str]) -> Scenario:
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "my.toml"
        path.write_text(text)
        return load_scenario(path)

    return load


def median(scenario: Scenario, scheme: str = "none", policy: str = "off") -> float:
    """Return the median latency of frames that are received, ns."""
    resolved = scenario.resolve()
    task = Task.prepare(resolved, resolved.workloads[0], resolved.seed)
    outcome = task.simulate(load_scheme(scheme), policy)
    (received,) = [c for c in outcome.classes if c.name == "rx"]
    return (received.latency.percentile_ps(50) or 0) / 1000


def test_a_turn_at_the_switch_is_shorter_than_one_at_the_root_complex(load: Load) -> None:
    below = median(load(TEXT))
    above = median(load(TEXT, ('"110ns"', '"110ns"\nacs_redirect = true')))
    # Two links of 100 ns, the switch once more, and 100 ns from port to port.
    assert above - below == pytest.approx(2 * 100 + 110 + 100, abs=60)
    direct = median(
        load(
            TEXT,
            ('switch = "leaf"\n', ""),
            (TEXT[TEXT.index("[workload.switch") : TEXT.index("[workload.device.nic")], ""),
        )
    )
    # The completion entry goes to the host, by the uplink too.
    assert below - direct == pytest.approx(110 - 100 + 110 + 100, abs=40)


def test_a_stream_from_device_to_device_costs_half_of_one_that_ends_at_root_ports(load: Load) -> None:
    scheme, policy = "sev-pcie", "all"
    one, more = load(TEXT), load(TEXT, ('"110ns"', '"110ns"\nacs_redirect = true'))
    below = median(one, scheme, policy) - median(one)
    above = median(more, scheme, policy) - median(more)
    assert below > 0
    assert above == pytest.approx(2 * below, rel=0.4)


def test_the_rows_are_those_of_who_does_something(load: Load) -> None:
    rows = compare(load(TEXT)).record.results
    assert {row.class_ for row in rows} == {"all", "nic", "nic/rx", "nic/tx"}
    # A bounce buffer has no way from device to device.
    assert {row.scheme for row in rows} == {"none", "sev-pcie", "pcie-ide"}
    assert load(TEXT).with_options(seeds=2).seeds == 2


ERRORS = [
    (
        'peer = "gpu"',
        'peer = "gup"',
        16,
        "workload[0].device.nic.peer: 'gup'; expected 'gpu'; did you mean 'gpu'?",
    ),
    ('peer = "gpu"', 'peer = "nic"', 16, "workload[0].device.nic.peer: 'nic'; expected 'gpu'"),
    (
        'switch = "leaf"\ntraffic = { kind = "gpu", job = "idle" }',
        'switch = "leaf"\npeer = "gpu"\ntraffic = { kind = "gpu", job = "decode" }',
        22,
        "workload[0].device.gpu.peer: 'gpu'; expected no such key, for the workload has no other GPU",
    ),
    (
        'preset = "gpu-gen5"\nswitch = "leaf"',
        'preset = "gpu-gen5"\nlink = { base = "gen5x16", mps = 128 }',
        16,
        "workload[0].device.nic.peer: mps 256 on gen5x16, 128 on gpu's link gen5x16-custom; expected the same",
    ),
    (
        "seeds = 1\n",
        'seeds = 1\n[[arm]]\nscheme = "bounce-buffer"\npolicy = "all"\n',
        6,
        "arm[0].scheme: 'bounce-buffer' stages data in the host's memory, and those of nic lie in another device; expected no such arm",
    ),
    ('latency = "110ns"', 'latency = "110ns"\nacs_redirect = "yes"', 12, "acs_redirect"),
]


@pytest.mark.parametrize(
    ("old", "new", "line", "message"), ERRORS, ids=[new[-30:] for _, new, _, _ in ERRORS]
)
def test_what_cannot_be(load: Load, old: str, new: str, line: int, message: str) -> None:
    with pytest.raises(ConfigError) as failed:
        load(TEXT, (old, new))
    assert f"my.toml:{line}: " in str(failed.value)
    assert message in str(failed.value)


STORES = """\
name = "mine"
link = "gen5x16"
duration = "100us"
seeds = 1

[[workload]]
name = "w"

[workload.device.a]
preset = "gpu-gen5"
peer = "c"
traffic = { kind = "gpu", job = "zero-copy", access = "store", size = "64B", concurrency = 64 }

[workload.device.b]
preset = "gpu-gen5"
peer = "c"
traffic = { kind = "gpu", job = "zero-copy", access = "store", size = "64B", concurrency = 64 }

[workload.device.c]
preset = "gpu-gen5"
link = "gen5x1"
traffic = { kind = "gpu", job = "idle" }
"""


def test_a_closed_loop_of_stores_to_a_slow_peer_is_closed(load: Load) -> None:
    """Latency is not how long the run was, and a wire is never in use for longer than the run."""
    found = []
    for text in (STORES, STORES.replace("100us", "400us")):
        resolved = load(text).resolve()
        outcome = Task.prepare(resolved, resolved.workloads[0], 1).simulate(load_scheme("none"), "off")
        found.append([c.latency.percentile_ps(50) for c in outcome.classes if c.requests])
        # Of what is shared: the way down to the slow one.
        assert [0.95 < busy["link"] <= 1 for busy in outcome.busy] == [True, True, True]
    assert found[0] == pytest.approx(found[1], rel=0.05)


def test_a_wire_counts_for_the_run_where_others_use_it_too(load: Load) -> None:
    """One device ends early, and its peer's link is busy long after: not for more than all of the time."""
    text = STORES.replace('duration = "100us"\n', "requests = 2000\n").replace(
        'peer = "c"\ntraffic', 'peer = "c"\nrequests = 20\ntraffic', 1
    )
    resolved = load(text).resolve()
    outcome = Task.prepare(resolved, resolved.workloads[0], 1).simulate(load_scheme("none"), "off")
    assert outcome.span_ps == max(outcome.job_ps) > 10 * min(outcome.job_ps[:2])
    assert all(share <= 1 for busy in outcome.busy for share in busy.values())


def test_its_record_can_be_kept_and_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "my.toml", tmp_path / "run"
    path.write_text(TEXT)
    assert cli.main(["compare", str(path), "-q", "--out", str(out)]) in (0, 1)
    assert cli.main(["rerun", str(out), "-q"]) == 0
    assert "bounce" not in load_scenario(path).to_toml()
    capsys.readouterr()


def test_only_idle_devices_would_never_end(load: Load) -> None:
    nic = TEXT[TEXT.index("[workload.device.nic]") : TEXT.index("[workload.device.gpu]")]
    with pytest.raises(ConfigError, match="every device is in the background"):
        load(TEXT, (nic, ""))


def test_a_look_leaves_idle_devices_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "my.toml"
    path.write_text(TEXT)
    assert cli.main(["workload", "show", str(path), "-q"]) == 0
    out = capsys.readouterr().out
    assert "nic-400g" in out
    assert "gpu-gen5" not in out
