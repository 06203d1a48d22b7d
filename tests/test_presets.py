"""What is shipped: every preset loads, every number has a source, every sample is what its list says."""

import importlib.util
import tomllib

import numpy as np
import pytest

from sevpcie_core.errors import ConfigError
from sevpcie_core.experiment import presets, resolved
from sevpcie_core.experiment.problems import Origin
from sevpcie_core.experiment.scenario import available_presets, load_scenario, load_scheme, preset_text
from sevpcie_core.experiment.tables import DEVICES, HostTable, LinkTable, SchemeTable
from sevpcie_core.workload import traces

ORIGIN = Origin("test")
READ = {"links": presets.link, "hosts": presets.host, "devices": presets.device, "schemes": presets.scheme}
SHIPPED = [(kind, name) for kind in READ for name in presets.names(kind)]
SCENARIOS = ["gpu", "mix", "nic", "nvme"]
# Keys that hold no number, or say themselves where theirs come from.
WITHOUT_SOURCE = {
    "title",
    "source",
    "kind",
    "name",
    "mechanism",
    "mac_rule",
    "stream_kind",
    "pcrc",
    "engine",
    "bounce",
    "host",
    *("data_link", "root_port", "credits", "iommu", "rx", "tx"),
}


def test_what_is_shipped():
    found = available_presets()
    assert list(found) == [
        "scenarios",
        "mixes",
        "schemes",
        "links",
        "hosts",
        "devices",
        "platforms",
        "samples",
    ]
    assert list(found["scenarios"]) == SCENARIOS
    assert list(found["schemes"]) == ["bounce-buffer", "none", "pcie-ide", "sev-pcie", "sev-pcie-shared"]
    links = {"gen3x8", "gen4x4", "gen4x16", "gen5x4", "gen5x8", "gen5x16", "gen6x16"}
    assert set(found["links"]) == links
    assert set(found["hosts"]) == {"server", "server-remote"}
    assert set(found["devices"]) == {
        "endpoint",
        "nvme-dram",
        "nvme-tlc",
        "nvme-gen4",
        "nvme-gen5",
        "nvme-lowlat",
        "nic-400g",
        "nic-800g",
        "nic-100g-kernel",
        "nic-100g-dpdk",
        "nic-simple",
        "nic-niantic-kernel",
        "nic-niantic-dpdk",
        "gpu-gen5",
    }
    assert {"h100-tdx", "nvme-gen4x4", "nvme-gen5x4", "gen6x16-projection"} <= set(found["platforms"])
    assert set(found["samples"]) == {"train_resnet50", "llm_decode", "kv_swap", "redis"}
    assert all(title for names in found.values() for title in names.values())


@pytest.mark.parametrize(("kind", "name"), SHIPPED)
def test_every_number_has_a_source(kind, name):
    table, _ = READ[kind](name, ORIGIN, ())
    for part in ("data_link", "root_port", "credits", "iommu", "rx", "tx"):
        if inside := getattr(table, part, None):
            unsaid = {key for key, value in inside if key != "source" and value} - set(inside.source)
            assert not unsaid, f"{kind}/{name}.{part}: no source of {', '.join(sorted(unsaid))}"
    numbers = {key for key, value in table if key not in WITHOUT_SOURCE and value not in (None, 0, "", ())}
    if kind == "schemes" and table.mechanism == "none":
        assert not numbers
    missing = numbers - set(table.source)
    assert not missing, f"{kind}/{name}: no source of {', '.join(sorted(missing))}"
    assert all(len(text) > 10 for text in table.source.values())


@pytest.mark.parametrize("name", ["sev-pcie", "pcie-ide"])
def test_engine_ranges_say_how_they_follow(name):
    scheme = load_scheme(name)
    assert list(scheme.engine) == list(resolved.ENGINE_PARAMETERS)
    for key, parameter in scheme.engine.items():
        assert parameter.source.startswith("structure:"), key
        assert parameter.better == resolved.ENGINE_PARAMETERS[key]
    assert {scheme.tag_bytes, scheme.prefix_bytes} == {12, 4}


def test_ranges_of_the_bounce_buffer_say_where_they_come_from():
    scheme = load_scheme("bounce-buffer")
    assert scheme.mechanism == "bounce"
    assert list(scheme.bounce) == list(resolved.BOUNCE_PARAMETERS)
    assert len(scheme.bounce) <= 6
    for key, parameter in scheme.bounce.items():
        assert parameter.source.startswith(("published:", "measured around:", "assumption:", "choice:")), key
        assert parameter.better == resolved.BOUNCE_PARAMETERS[key]
        assert parameter.low < parameter.typical < parameter.high
    # On the wire it adds nothing.
    assert (scheme.key_bits, scheme.tag_bytes, scheme.prefix_bytes, scheme.engine) == (0, 0, 0, {})
    assert scheme.cipher_devices == ("gpu",)


def test_schemes_say_what_is_fact():
    profile, standard, none = load_scheme("sev-pcie"), load_scheme("pcie-ide"), load_scheme("none")
    assert "project profile" in profile.title
    assert (profile.key_bits, profile.rounds) == (128, 10)
    assert (standard.key_bits, standard.rounds) == (256, 14)
    assert (none.mechanism, none.rounds, none.engine) == ("none", 0, {})
    assert "No public figure" in preset_text("schemes", "sev-pcie")
    # The two differ in the key alone, and in what follows from its length.
    differ = {key for key in profile.engine if profile.engine[key] != standard.engine[key]}
    assert differ == {"key_miss_cycles"}
    assert "sev-pcie" not in standard.title


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_number_of_a_scenario_has_a_note(name):
    data = tomllib.loads(preset_text("scenarios", name))
    notes = data.pop("source")

    def numbers(table):
        for key, value in table.items():
            if isinstance(value, dict):
                yield from numbers(value)
            elif isinstance(value, list):
                for entry in value:
                    yield from numbers(entry)
            elif not isinstance(value, str) or value[:1].isdigit():
                yield key

    assert set(numbers(data)) - {"schema_version", "seed"} <= set(notes)


@pytest.mark.parametrize("name", SCENARIOS)
def test_shipped_scenarios_resolve(name):
    scenario = load_scenario(name)
    run = scenario.resolve()
    assert run.name == name
    assert run.seeds == 5
    assert run.budget_pct == 5.0
    arms = [(arm.scheme.name, arm.policy) for arm in run.arms]
    assert arms == [
        ("sev-pcie", "selective"),
        ("sev-pcie", "all"),
        ("pcie-ide", "all"),
        ("bounce-buffer", "selective"),
    ]
    assert run.regions == resolved.Regions(1.0, 1.0, 0.0, 0.0)


def test_the_workloads_of_the_shipped_scenarios():
    runs = {name: load_scenario(name).resolve() for name in SCENARIOS}
    names = {name: [w.name for w in run.workloads] for name, run in runs.items()}
    assert names == {
        "nvme": ["randread4k", "mix70_30"],
        "nic": ["imix_rx", "imix_tx", "mtu1500_rx", "mtu1500_tx", "redis"],
        "gpu": ["train_resnet50", "llm_decode", "kv_swap"],
        "mix": ["mixed"],
    }
    mix = runs["nvme"].workloads[1]
    assert [d.name for d in mix.devices] == ["dram", "tlc"]
    assert mix.devices[0].traffic.block == 8192
    assert mix.devices[0].traffic.read_share == 0.7
    assert all(d.requests == 10000 for d in mix.devices)
    assert (mix.devices[0].link.gen, mix.devices[0].link.lanes) == (5, 4)
    nic = runs["nic"].workloads
    assert all(2 * w.devices[0].traffic.rate_bps == w.devices[0].device.line_rate_bps for w in nic[:4])
    assert nic[2].devices[0].traffic.sizes == 1514
    assert nic[4].devices[0].traffic.trace.format == "pcap"
    assert nic[4].devices[0].requests == 0
    assert all(w.devices[0].traffic.trace.format == "gpu-csv" for w in runs["gpu"].workloads)
    mixed = runs["mix"]
    assert [d.device.kind for d in mixed.workloads[0].devices] == ["nvme", "nic", "gpu"]
    assert mixed.duration_ps == 10**9


def test_presets_hold_together():
    gen3, gen5, gen6 = (
        presets.link(name, ORIGIN, ())[0].build(name) for name in ("gen3x8", "gen5x16", "gen6x16")
    )
    assert (gen5.mps, gen5.mrrs, gen5.rcb, gen5.completion_bytes, gen5.flit) == (256, 512, 64, 256, False)
    assert (gen3.gen, gen3.lanes, gen3.mps) == (3, 8, 256)
    assert gen6.flit
    assert gen6.propagation_ps == gen5.propagation_ps
    assert gen6.flit_check_ps == 5000
    assert gen5.flit_check_ps == 0
    dram, tlc = (presets.device(name, ORIGIN, ())[0].build(name) for name in ("nvme-dram", "nvme-tlc"))
    median = {name: dict(d.media_read)[0.5] for name, d in (("dram", dram), ("tlc", tlc))}
    assert 3_000_000 <= median["dram"] <= 6_000_000
    assert median["tlc"] == 65_000_000
    assert dict(tlc.media_write)[0.5] == 12_000_000
    host = presets.host("server", ORIGIN, ())[0].build("server")
    assert dict(host.read_latency)[0.5] == 350_000


@pytest.mark.parametrize("gen", range(1, 8))
@pytest.mark.parametrize("lanes", [1, 2, 4, 8, 16])
def test_every_generation_and_width_is_a_link(gen, lanes):
    table, name = presets.link(f"gen{gen}x{lanes}", ORIGIN, ())
    link = table.build(name)
    assert (link.gen, link.lanes, link.name) == (gen, lanes, f"gen{gen}x{lanes}")
    assert link.flit == (gen >= 6)
    assert link.mps == 256


def test_the_text_of_a_preset_is_its_file():
    for kind, name in [*SHIPPED, *(("scenarios", name) for name in SCENARIOS)]:
        assert tomllib.loads(preset_text(kind, name))["title"] == available_presets()[kind][name]
    assert tomllib.loads(preset_text("samples", "redis"))["trace"] == "sample:redis"
    with pytest.raises(ConfigError, match="no such kind of preset; expected one of scenarios"):
        preset_text("link", "gen5x4")
    with pytest.raises(ConfigError, match=r"expected one of gen3x8.*; did you mean 'gen5x4'"):
        preset_text("links", "gen5x44")


def test_models_cover_the_shipped_keys():
    # A key that no shipped preset uses has no source anywhere; only optional ones may be absent.
    optional = {"completion_bytes", "name", "aggregation", "id_based_ordering"}
    optional |= {"queue_entries", "sgl_segment", "shadow_every", "header_split", "mdts"}
    optional |= {"media_read_ahead"}
    for kind, models in (
        ("links", [LinkTable]),
        ("hosts", [HostTable]),
        ("devices", list(DEVICES.values())),
        ("schemes", [SchemeTable]),
    ):
        used = {key for name in presets.names(kind) for key in tomllib.loads(preset_text(kind, name))}
        assert {key for model in models for key in model.model_fields} - used <= optional


# --- samples ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", presets.names("samples"))
def test_samples_are_what_their_list_says(name):
    facts = presets.sample_facts()[name]
    path = presets.sample(name)
    if facts["kind"] == "gpu":
        events = traces.read_gpu(path)
        down, up = (events["kind"] == kind for kind in (traces.GPU_H2D, traces.GPU_D2H))
        assert events.size == facts["events"]
        assert (int(down.sum()), int(up.sum())) == (facts["copies_h2d"], facts["copies_d2h"])
        sums = int(events["bytes"][down].sum()), int(events["bytes"][up].sum())
        assert sums == (facts["bytes_h2d"], facts["bytes_d2h"])
    else:
        frames = traces.read_nic(path)
        directions = np.bincount(frames["direction"], minlength=2).tolist()
        assert directions == [facts["packets_rx"], facts["packets_tx"]]
        assert int(frames["bytes"].sum()) == facts["bytes"]
        assert (traces.read_nic(path, local="6390") == frames).all()


def test_samples_are_small():
    assert sum(presets.sample(name).stat().st_size for name in presets.names("samples")) < 500_000


def test_every_sample_is_described():
    text = (presets.ROOT / "samples" / "README.md").read_text()
    assert all(f"`{name}`" in text for name in presets.names("samples"))
    files = {path.name for path in (presets.ROOT / "samples").iterdir()}
    listed = {facts["file"] for facts in presets.sample_facts().values()}
    assert files == listed | {"README.md", "samples.toml"}


def test_samples_are_cut_from_the_recordings(root, reference_data):
    recordings = reference_data / "traces"
    if not (recordings / "gpu").is_dir() or not (recordings / "nic").is_dir():
        pytest.skip(f"no recordings in {recordings}")
    spec = importlib.util.spec_from_file_location(
        "make_samples", root / "tests" / "tools" / "make_samples.py"
    )
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    made = tool.make(recordings)
    assert set(made) == {facts["file"] for facts in presets.sample_facts().values()}
    for file, data in made.items():
        # The content, since another zlib may compress it otherwise.
        assert tool.gzip.decompress(data) == tool.gzip.decompress((tool.SAMPLES / file).read_bytes()), file
