"""Switches, link streams and one engine of the host, as scenarios and schemes say them."""

# A case is a row of a table: what is replaced, by what, the line and the message.
# ruff: noqa: E501

import copy
import re
from pathlib import Path
from typing import Any

import pytest

from sevpcie_core.errors import ConfigError
from sevpcie_core.experiment import resolved
from sevpcie_core.experiment.hardware import contexts_of, engine_of
from sevpcie_core.experiment.runner import Task
from sevpcie_core.experiment.scenario import Scenario, load_scenario, load_scheme
from sevpcie_core.link.run import Outcome

TEXT = """\
name = "two"
link = "gen5x4"
requests = 300
seeds = 1

[[workload]]
name = "w"

[workload.switch.s1]
uplink = "gen5x4"
latency = "110ns"
forwarding = "cut-through"

[workload.device.a]
preset = "nvme-dram"
switch = "s1"
traffic = { kind = "nvme", queue_depth = 8 }

[workload.device.b]
preset = "nvme-dram"
switch = "s1"
traffic = { kind = "nvme", queue_depth = 8 }
"""


@pytest.fixture
def load(tmp_path):
    def load(text: str) -> Scenario:
        path = tmp_path / "my.toml"
        path.write_text(text)
        return load_scenario(path)

    return load


def run(scenario: Scenario, scheme: Any = "none", policy: str = "all") -> Outcome:
    if isinstance(scheme, str):
        protected = load_scheme(scheme)
    else:
        protected = scenario.with_options(arms=[(scheme, policy)]).resolve().arms[0].scheme
    found = scenario.resolve()
    return Task.prepare(found, found.workloads[0], 1).simulate(protected, policy, keep=300)


def mean(outcome: Outcome) -> float:
    return float(outcome.kept_ps.mean())


def test_a_switch_is_read(load) -> None:
    workload = load(TEXT).resolve().workloads[0]
    (switch,) = workload.switches
    assert (switch.name, switch.latency_ps, switch.cut_through) == ("s1", 110_000, True)
    assert switch.uplink == workload.devices[0].link
    assert [device.switch for device in workload.devices] == ["s1", "s1"]
    stored = load(TEXT.replace("cut-through", "store-and-forward")).resolve().workloads[0]
    assert not stored.switches[0].cut_through


@pytest.mark.parametrize("inline", [False, True])
def test_a_scenario_with_a_switch_is_written_and_read_again(load, inline: bool) -> None:
    scenario = load(TEXT)
    again = load(scenario.to_toml(inline=inline))
    assert again.digest() == scenario.digest()
    assert again.resolve().workloads[0].switches == scenario.resolve().workloads[0].switches or inline


def test_a_digest_covers_switches_and_the_place_of_the_engine(load) -> None:
    texts = [
        TEXT,
        TEXT.replace("110ns", "111ns"),
        TEXT.replace("cut-through", "store-and-forward"),
        TEXT.replace('uplink = "gen5x4"', 'uplink = "gen5x8"'),
        TEXT.replace('switch = "s1"\n', "", 1),
    ]
    arm = '[[arm]]\nscheme = {}\npolicy = "all"\n'
    texts += [
        TEXT + arm.format('{ base = "sev-pcie", name = "x", engine = { placement = "shared" } }'),
        TEXT + arm.format('{ base = "sev-pcie-shared", name = "x" }'),
        TEXT + arm.format('{ base = "sev-pcie", name = "x", stream_kind = "link" }'),
        TEXT + arm.format('{ base = "sev-pcie", name = "x" }'),
    ]
    assert len({load(text).digest() for text in texts}) == len(texts)


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ('uplink = "gen5x4"\n', "", 9, "workload[0].switch.s1: no key 'uplink'; expected uplink, latency in this table"),
        ('uplink = "gen5x4"', 'uplink = "gen5x3"', 10, "workload[0].switch.s1.uplink: 'gen5x3'; expected one of"),
        ('latency = "110ns"', "latency = 110", 11, "workload[0].switch.s1.latency: 110: no unit; expected a time"),
        ('latency = "110ns"', 'latency = "2ms"', 11, "workload[0].switch.s1.latency: '2ms'; expected a time"),
        ('"cut-through"', '"cut"', 12, "workload[0].switch.s1.forwarding: 'cut'; expected 'cut-through' or 'store-and-forward'"),
        ('forwarding', 'mode', 12, "workload[0].switch.s1: unknown key 'mode'; allowed: uplink, latency, forwarding"),
        ('[workload.device.b]\npreset = "nvme-dram"\nswitch = "s1"', '[workload.device.b]\npreset = "nvme-dram"\nswitch = "s2"', 21, "workload[0].device.b.switch: 's2'; expected 's1'"),
        ('[workload.device.b]\npreset = "nvme-dram"\nswitch = "s1"', '[workload.device.b]\npreset = "nvme-dram"\nswitch = 1', 21, "workload[0].device.b.switch: 1; expected a name"),
        ('uplink = "gen5x4"', 'uplink = { base = "gen5x4", mps = 128, completion_bytes = 128 }', 16, "workload[0].device.a.switch: mps 256 on gen5x4, 128 on its uplink gen5x4-custom; expected the same"),
        ('uplink = "gen5x4"', 'uplink = { base = "gen5x4", data_link = { replay_bytes = "16B" } }', 10, "workload[0].switch.s1.uplink: a replay buffer of 16 B; expected 2304..262144, or 0 (link gen5x4-custom, host server)"),
        ('uplink = "gen5x4"', 'uplink = { base = "gen5x4", rcb = 128 }', 16, "workload[0].device.a.switch: rcb 64 on gen5x4, 128 on its uplink gen5x4-custom; expected the same"),
        ('uplink = "gen5x4"', 'uplink = "gen6x4"', 16, "workload[0].device.a.switch: gen 5 on gen5x4, 6 on its uplink gen6x4; expected both with flit mode or both without"),
        ('[workload.switch.s1]', '[workload.switch.s0]\nuplink = "gen5x4"\nlatency = "1ns"\n[workload.switch.s1]', 9, "workload[0].switch.s0: no device is behind 's0'; expected one with switch = 's0'"),
        ('[workload.switch.s1]\nuplink = "gen5x4"\nlatency = "110ns"\nforwarding = "cut-through"\n', "", 12, "workload[0].device.a.switch: 's1'; expected no such key, for the workload has no [workload.switch]"),
    ],
)  # fmt: skip
def test_one_line_names_everything(load, tmp_path, old: str, new: str, line: int, said: str) -> None:
    assert TEXT.count(old) == 1
    with pytest.raises(ConfigError) as caught:
        load(TEXT.replace(old, new))
    message = str(caught.value)
    assert said in message
    assert "\n" not in message
    assert message.startswith(f"{tmp_path / 'my.toml'}:{line}: ")


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ('{ placement = "core" }', "engine.placement: 'core'; expected 'port' or 'shared'"),
        ("{ fabric_hop_ns = 30 }", "engine.fabric_hop_ns: 30 with placement 'port'; expected no such key, or placement 'shared'"),
        ('{ placement = "shared", fabric_hop_ns = -1 }', "engine.fabric_hop_ns: -1; expected a whole number from 0"),
    ],
)  # fmt: skip
def test_what_an_engine_cannot_be(load, engine: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(f'{TEXT}[[arm]]\nscheme = {{ base = "sev-pcie", engine = {engine} }}\npolicy = "all"\n')
    assert said in str(caught.value)


# --- what they do ---


def test_devices_behind_a_switch_take_longer_and_more_so_where_it_stores(load) -> None:
    cut = load(TEXT)
    direct = load(
        TEXT.replace('switch = "s1"\n', "").replace(
            TEXT[TEXT.index("[workload.switch") :].split("\n\n")[0], ""
        )
    )
    stored = load(TEXT.replace("cut-through", "store-and-forward"))
    wide = load(TEXT.replace('uplink = "gen5x4"', 'uplink = "gen5x8"'))
    assert mean(run(direct)) < mean(run(wide)) < mean(run(cut)) < mean(run(stored))


# Where drives wait for their uplink, few requests scatter by more than protection adds.
ALONE = TEXT.replace("queue_depth = 8", "queue_depth = 1")


def test_link_streams_cost_more_behind_a_switch_and_the_same_without(load) -> None:
    link = {"base": "sev-pcie", "name": "link", "stream_kind": "link"}
    behind = load(ALONE)
    assert mean(run(behind)) < mean(run(behind, "sev-pcie")) < mean(run(behind, link))
    direct = copy.deepcopy(behind.to_dict())
    del direct["workload"][0]["switch"]
    for device in direct["workload"][0]["device"].values():
        del device["switch"]
    direct = Scenario.from_dict(direct)
    assert run(direct, link).kept_ps.tolist() == run(direct, "sev-pcie").kept_ps.tolist()


def test_a_shared_engine_costs_its_hops_and_keys(load) -> None:
    behind = load(ALONE)
    near = {"base": "sev-pcie-shared", "name": "near", "engine": {"fabric_hop_ns": 0}}
    few = {"base": "sev-pcie-shared", "name": "few", "engine": {"key_entries": 2}}
    assert mean(run(behind, "sev-pcie")) < mean(run(behind, near)) < mean(run(behind, "sev-pcie-shared"))
    assert mean(run(behind, few)) > mean(run(behind, "sev-pcie-shared"))


def test_the_profile_with_one_engine_says_what_it_assumes() -> None:
    shared, at_ports = load_scheme("sev-pcie-shared"), load_scheme("sev-pcie")
    assert shared.shared_engine
    assert not at_ports.shared_engine
    assert list(shared.engine) == [*resolved.ENGINE_PARAMETERS, *resolved.SHARED_PARAMETERS]
    changed = {name for name in at_ports.engine if shared.engine[name] != at_ports.engine[name]}
    assert changed == {"bytes_per_clock"}
    for name in (*changed, "fabric_hop_ns"):
        assert shared.engine[name].source.startswith("assumption:")
    assert engine_of(shared).fabric_ps == 30_000
    assert engine_of(at_ports).fabric_ps == 0


def test_keys_count_where_an_engine_has_more_of_them_than_it_holds(load) -> None:
    workload = load(TEXT).resolve().workloads[0]
    selective, shared = load_scheme("sev-pcie"), load_scheme("sev-pcie-shared")
    assert contexts_of(selective, workload) == 2 * 3
    assert contexts_of(shared, workload) == 2 * 2 * 3
    assert engine_of(selective, "unfavourable", 6).key_miss_ps == 0
    assert engine_of(shared, "unfavourable", 12).key_miss_ps > 0


def examples() -> list[str]:
    """Return the examples of the page that are whole scenarios."""
    page = (Path(__file__).resolve().parent.parent / "docs" / "scenarios.md").read_text()
    parts = re.findall(r"^```toml\n(.*?)^```", page, re.M | re.S)
    return [part for part in parts if "[[workload]]" in part]


def latencies(load, example: str) -> list[float]:
    """Run plaintext and every arm of a scenario without waiting in queues; return the means."""
    assert 'link = "gen5x4"\n' in example
    found = load(example.replace('link = "gen5x4"\n', 'link = "gen5x4"\nrequests = 200\n', 1)).resolve()
    task = Task.prepare(found, found.workloads[0], 1)
    arms = [(load_scheme("none"), "off"), *((arm.scheme, arm.policy) for arm in found.arms)]
    return [mean(task.simulate(scheme, policy, keep=200)) for scheme, policy in arms]


def test_the_examples_of_the_page_run(load) -> None:
    # That of one load has a test of its own.
    plain, phases, _, drives, peers, shared = examples()
    assert len(load(phases).resolve().workloads[0].devices) == 2
    assert "switch" not in plain
    assert len(latencies(load, plain)) == 5  # the arms that a scenario has by default
    assert len(load(peers).resolve().arms) == 3  # without a bounce buffer
    # Selective streams pass the switch sealed, link streams do not.
    assert load(drives).resolve().arms[1].scheme.stream_kind == "link"
    taken = latencies(load, drives.replace("queue_depth = 8", "queue_depth = 1"))
    assert taken == sorted(taken)
    assert len(set(taken)) == 3
    # A MAC of four TLPs saves bytes on both links, and opening at the switch costs time.
    arms = load(shared).resolve().arms
    assert [arm.scheme.aggregation for arm in arms[1:]] == [(4, 1, 4)] * 2
    none, each, by_four, opened = latencies(
        load, shared.replace("read_share = 0.7", "read_share = 0.7, queue_depth = 1")
    )
    assert none < by_four < min(each, opened)
