"""Scenarios that load: what they resolve to, how they are written, what their digest covers."""

import dataclasses
import json
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sevpcie_core.errors import ConfigError, FormatError
from sevpcie_core.experiment import resolved
from sevpcie_core.experiment.scenario import (
    Scenario,
    json_schema,
    load_scenario,
    load_scheme,
    preset_text,
    scenario_from_trace,
)
from sevpcie_core.experiment.toml_text import dumps
from sevpcie_core.link.params import INFINITE, NO_IOMMU, SINK

SCENARIOS = ["gpu", "mix", "nic", "nvme"]

MINIMAL = {
    "name": "mine",
    "link": "gen5x4",
    "workload": [{"name": "w", "device": {"ssd": {"preset": "nvme-dram", "traffic": {"kind": "nvme"}}}}],
}


NVME = {
    "kind": "nvme",
    "media_read": "1us",
    "media_write": "1us",
    "dies": 0,
    "controller": "1ns",
    "msi": True,
}
IDE = {"name": "x", "mechanism": "ide", "key_bits": 256, "tag_bytes": 12, "prefix_bytes": 4}
PINNED = "8934d38f05a0137e216cc4ca30eb6a53829fcf97ba2e8b0d9c4bff51ecbf817e"


def changed(**keys):
    return {**json.loads(json.dumps(MINIMAL)), **keys}


def with_device(**keys):
    data = changed()
    data["workload"][0]["device"]["ssd"] |= keys
    return data


def first(scenario):
    return scenario.resolve().workloads[0].devices[0]


def test_a_minimal_scenario_takes_the_documented_defaults():
    run = Scenario.from_dict(MINIMAL).resolve()
    assert (run.seed, run.seeds, run.budget_pct, run.duration_ps) == (1, 5, 5.0, 0)
    device = run.workloads[0].devices[0]
    assert device.requests == 10000
    assert device.link.name == "gen5x4"
    assert device.traffic == resolved.NvmeTraffic(32, 4096, 1.0, 0, None, 0)
    assert len(run.arms) == 4


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("inline", [False, True])
def test_what_is_written_loads_to_the_same(name, inline, tmp_path):
    scenario = load_scenario(name)
    path = tmp_path / "again.toml"
    path.write_text(scenario.to_toml(inline=inline))
    again = load_scenario(path)
    assert again.digest() == scenario.digest()
    assert again.to_toml(inline=inline) == scenario.to_toml(inline=inline)
    assert (
        Scenario.from_dict(json.loads(json.dumps(scenario.to_dict(inline=inline)))).digest()
        == scenario.digest()
    )
    if not inline:
        assert again == scenario


def test_an_inline_scenario_names_no_preset():
    data = load_scenario("mix").to_dict(inline=True)
    assert isinstance(data["link"], dict)
    assert isinstance(data["host"], dict)
    assert all(arm["scheme"]["name"] for arm in data["arm"])
    assert all(isinstance(d["preset"], dict) for d in data["workload"][0]["device"].values())
    assert data["host"]["source"]["read_latency"].startswith("assumption")


def test_the_shipped_text_is_a_good_start_to_edit(tmp_path):
    path = tmp_path / "my.toml"
    path.write_text(preset_text("scenarios", "nvme").replace("queue_depth = 32", "queue_depth = 1"))
    assert first(load_scenario(path)).traffic.queue_depth == 1


def test_references_of_every_form(tmp_path):
    (tmp_path / "slow.toml").write_text('base = "gen4x4"\npropagation = "1us"\n')
    (tmp_path / "ours.toml").write_text('base = "sev-pcie"\ntitle = "ours"\n[engine]\nmac_cycles = 7\n')
    data = with_device(
        link="slow.toml", preset={"base": "nvme-dram", "tags": 7, "media_read": {"p0": "1us", "p100": "3us"}}
    )
    data["host"] = {"read_latency": "400ns", "read_interval": "0"}
    data["arm"] = [{"scheme": "./ours.toml", "policy": "all"}, {"scheme": "pcie-ide", "policy": "all"}]
    scenario = Scenario.from_dict(data, folder=tmp_path)
    run = scenario.resolve()
    device = run.workloads[0].devices[0]
    assert (device.link.gen, device.link.lanes, device.link.propagation_ps) == (4, 4, 10**6)
    assert device.link.name == "slow"
    assert device.device.tags == 7
    assert device.device.media_read == ((0.0, 10**6), (1.0, 3 * 10**6))
    assert device.device.controller_ps == 500_000
    assert device.device.name == "nvme-dram-custom"
    assert run.host == resolved.Host(
        read_latency=((0.0, 400_000), (1.0, 400_000)),
        read_interval_ps=0,
        root_port=SINK,
        credits=INFINITE,
        iommu=NO_IOMMU,
        name="custom",
    )
    assert device.device.credits.posted_headers == 64
    ours = run.arms[0].scheme
    assert (ours.name, ours.title) == ("ours", "ours")
    assert dataclasses.astuple(ours.engine["mac_cycles"])[:3] == (7, 7, 7)
    assert ours.engine["clock_mhz"] == load_scheme("sev-pcie").engine["clock_mhz"]
    # A record has to load where the files are not.
    for path in tmp_path.iterdir():
        path.rename(path.with_suffix(".gone"))
    with pytest.raises(ConfigError, match=r"slow.toml: no such file; expected a link"):
        scenario.resolve()


def test_what_files_say_is_written_out(tmp_path):
    (tmp_path / "slow.toml").write_text('base = "gen4x4"\npropagation = "1us"\n')
    (tmp_path / "ours.toml").write_text('base = "sev-pcie"\n[engine]\nmac_cycles = 7\n')
    data = with_device(link="slow.toml") | {"arm": [{"scheme": "ours.toml", "policy": "all"}]}
    scenario = Scenario.from_dict(data, folder=tmp_path)
    digest, written = scenario.digest(), scenario.to_dict()
    assert written["link"] == "gen5x4"
    for path in tmp_path.iterdir():
        path.unlink()
    again = Scenario.from_dict(written)
    assert again.digest() == digest
    assert again.resolve().arms[0].scheme.name == "ours"


def test_a_changed_number_loses_the_source_of_the_old_one():
    data = changed(link={"base": "gen5x4", "mps": 512, "source": {"mps": "ours"}}, host={"base": "server"})
    data["link"]["propagation"] = "1ns"
    written = Scenario.from_dict(data).to_dict(inline=True)
    assert written["link"]["source"]["mps"] == "ours"
    assert "propagation" not in written["link"]["source"]
    assert "mrrs" in written["link"]["source"]


@pytest.mark.parametrize(
    "same",
    [
        changed(title="another"),
        changed(source={"x": "y"}),
        changed(link={"base": "gen5x4", "title": "x"}),
        changed(seeds=5, requests=10000, duration="0ns"),
        with_device(requests=10000),
        with_device(traffic={"kind": "nvme", "block": "4096B", "queue_depth": 32}),
        with_device(link="gen5x4"),
    ],
)
def test_a_digest_covers_nothing_cosmetic(same):
    assert Scenario.from_dict(same).digest() == Scenario.from_dict(MINIMAL).digest()


@pytest.mark.parametrize(
    "other",
    [
        changed(name="other"),
        changed(seed=2),
        changed(seeds=6),
        changed(budget_pct=4),
        changed(requests=9999),
        changed(duration="1ms"),
        changed(link="gen5x8"),
        changed(link={"base": "gen5x4", "propagation": "101ns"}),
        changed(host={"base": "server", "read_interval": "1.4ns"}),
        changed(regions={"mmio": 1.0}),
        changed(arm=[{"scheme": "sev-pcie", "policy": "all"}]),
        with_device(preset="nvme-tlc"),
        with_device(traffic={"kind": "nvme", "think": "1ns"}),
    ],
)
def test_a_digest_covers_every_number(other):
    assert Scenario.from_dict(other).digest() != Scenario.from_dict(MINIMAL).digest()


def test_a_digest_covers_a_trace_by_content(tmp_path):
    text = "fio version 3 iolog\n0 f read 0 4096\n"
    paths = [tmp_path / "a.log", tmp_path / "sub" / "b.log"]
    paths[1].parent.mkdir()
    for path in paths:
        path.write_text(text)
    data = with_device(traffic={"kind": "nvme", "trace": "a.log"})
    scenario = Scenario.from_dict(data, folder=tmp_path)
    moved = Scenario.from_dict(with_device(traffic={"kind": "nvme", "trace": str(paths[1])}))
    digest = scenario.digest()
    assert moved.digest() == digest
    paths[0].write_text(text + "9 f read 0 4096\n")
    assert scenario.digest() != digest
    paths[0].unlink()
    with pytest.raises(
        ConfigError, match=r"scenario: workload\[0\].device.ssd.traffic.trace: .*no such file"
    ):
        scenario.digest()


def test_a_digest_is_pinned():
    # What changes it makes old records incomparable: say so in the commit. Presets take no part in this one.
    engine = dict.fromkeys(resolved.ENGINE_PARAMETERS, 1)
    data = with_device(preset={**NVME, "tags": 8}) | {
        "link": {"gen": 5, "lanes": 4, "mps": 256, "mrrs": 512, "rcb": 64, "propagation": "100ns"},
        "host": {"read_latency": {"p0": "1ns", "p999": "2ns", "p100": "3ns"}, "read_interval": "1ps"},
        "arm": [{"policy": "all", "scheme": {**IDE, "engine": engine}}],
    }
    assert Scenario.from_dict(data).digest() == PINNED


def test_options_change_what_they_name():
    scenario = load_scenario("nvme").with_options(
        requests=7, seeds=2, seed=9, budget_pct=1.5, arms=[("pcie-ide", "selective")]
    )
    run = scenario.resolve()
    assert (run.seeds, run.seed, run.budget_pct) == (2, 9, 1.5)
    assert [(arm.scheme.name, arm.policy) for arm in run.arms] == [("pcie-ide", "selective")]
    assert [device.requests for device in run.workloads[0].devices] == [7, 7]
    assert load_scenario("mix").with_options().digest() == load_scenario("mix").digest()
    # What ends by duration counts no requests.
    assert load_scenario("mix").with_options(requests=7).digest() == load_scenario("mix").digest()
    assert [device.requests for device in load_scenario("mix").resolve().workloads[0].devices] == [0, 0, 0]
    own = Scenario.from_dict(with_device(requests=5))
    assert first(own).requests == 5
    assert first(own.with_options(requests=6)).requests == 6
    with pytest.raises(ConfigError, match="requests: 0; expected a whole number from 1"):
        own.with_options(requests=0)
    with pytest.raises(
        ConfigError, match=r"arm\[0\].scheme: 'x'; expected one of bounce-buffer, none, pcie-ide"
    ):
        own.with_options(arms=[("x", "all")])


@pytest.mark.parametrize(
    ("text", "kind", "link", "preset"),
    [
        ("fio version 3 iolog\n0 f read 0 4096\n", "nvme", "gen5x4", "nvme-tlc"),
        ("time_us,event,address,length\n0,read,0,512\n", "nvme", "gen5x4", "nvme-tlc"),
        ("t_us,dur_us,event,name,bytes\n0,1,kernel,k,0\n", "gpu", "gen5x16", "gpu-gen5"),
    ],
)
def test_a_trace_makes_a_scenario(tmp_path, text, kind, link, preset):
    path = tmp_path / "My job (1).v2.csv"
    path.write_text(text)
    scenario = scenario_from_trace(path)
    assert scenario.name == "My-job-1"
    device = first(scenario)
    assert (device.name, device.device.kind, device.link.name, device.device.name) == (
        kind,
        kind,
        link,
        preset,
    )
    assert device.traffic.trace.path == path
    assert scenario_from_trace(str(path), kind, "gen3x8").resolve().workloads[0].devices[0].link.gen == 3
    assert Scenario.from_dict(scenario.to_dict()).digest() == scenario.digest()


def test_a_file_name_of_control_characters_makes_a_scenario(tmp_path):
    path = tmp_path / "a\n\x1b[31m\x7f\udcff.csv"
    path.write_text("t_us,dur_us,event,name,bytes\n0,1,kernel,k,0\n")
    assert scenario_from_trace(path).title == "Replay of a??[31m??.csv on gpu-gen5, gen5x16"


def test_a_trace_that_makes_no_scenario(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("t_us,dur_us,event,name,bytes\n0,1,kernel,k,0\n")
    with pytest.raises(ConfigError, match=r"x.csv: gpu-csv, of kind 'gpu'; expected a trace of kind 'nic'"):
        scenario_from_trace(path, "nic")
    with pytest.raises(ConfigError, match="kind 'tape'; expected nvme, nic, gpu or tlp"):
        scenario_from_trace(path, "tape")
    with pytest.raises(ConfigError, match="--link 'gen9x9'; expected one of gen3x8"):
        scenario_from_trace(path, link="gen9x9")
    with pytest.raises(FormatError, match="no such file"):
        scenario_from_trace(tmp_path / "nope")


def test_the_json_schema_knows_every_scenario():
    jsonschema = pytest.importorskip("jsonschema")
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for name in SCENARIOS:
        scenario = load_scenario(name)
        shipped = tomllib.loads(preset_text("scenarios", name))
        for data in (shipped, scenario.to_dict(), scenario.to_dict(inline=True)):
            validator.validate(data)
    assert not validator.is_valid(changed(foo=1))
    assert not validator.is_valid(changed(seeds=0))
    assert not validator.is_valid(changed(link={"gen": 9}))
    assert not validator.is_valid(with_device(traffic={"kind": "nvme", "block": "4 parsecs"}))
    assert validator.is_valid(changed(link={"base": "gen5x4", "mps": 512}))
    scheme = {"base": "sev-pcie", "engine": {"mac_cycles": 7}}
    assert validator.is_valid(changed(arm=[{"scheme": scheme, "policy": "all"}]))
    scheme["engine"] = {"clock": 7}
    assert not validator.is_valid(changed(arm=[{"scheme": scheme, "policy": "all"}]))


def test_resolved_values_are_frozen():
    run = load_scenario("mix").resolve()
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.seed = 3
    assert isinstance(hash(run.arms[0]), int)


JSON = st.recursive(
    st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=200)
@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_toml_that_is_written_is_read_back(data):
    assert tomllib.loads(dumps(data)) == data
