"""Platforms of presets: what is published of drives, a projection, and scenarios that name them."""

import json
import tomllib
from pathlib import Path

import pytest

from sevpcie_core.cli import main
from sevpcie_core.errors import ConfigError
from sevpcie_core.experiment import presets
from sevpcie_core.experiment.scenario import Scenario, json_schema, load_scenario
from sevpcie_core.experiment.systems import load_system, names
from sevpcie_core.units import TIME_UNITS
from sevpcie_core.validate import systems

SHIPPED = ["gen6x16-projection", "nvme-gen4x4", "nvme-gen5x4"]
DOCS = Path(__file__).resolve().parent.parent / "docs" / "validation.md"

SMALL = """\
title = "small"
kind = "system"
basis = "published"
link = "gen5x4"
host = "server"
device = "nvme-dram"

[[figure]]
what = "reads"
quantity = "us"
value = 6
source = "somebody, 2024"
fixes = "device.media_read"
requests = 100
traffic = { kind = "nvme", queue_depth = 1 }

[[free]]
key = "device.media_read"
unit = "us"
low = 1
high = 10
meaning = "media"
rows = "reads"
"""

SCENARIO = {
    "name": "mine",
    "platform": "nvme-gen5x4",
    "requests": 100,
    "workload": [{"name": "w", "device": {"ssd": {"traffic": {"kind": "nvme"}}}}],
}


@pytest.fixture
def load(tmp_path):
    def write(text: str):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return load_system(str(path))

    return write


def test_what_is_shipped() -> None:
    assert names() == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_few_numbers_are_free_and_each_says_what_it_is(name: str) -> None:
    system = load_system(name)
    assert 0 < len(system.free) <= 6
    for free in system.free:
        assert free.low <= free.value <= free.high
        assert len(free.meaning) > 10
        assert len(free.rows) > 10
    figures = {one.what for one in system.table.figure}
    projected = system.table.basis == "projection"
    for free in system.free:
        assert free.rows.startswith("nothing: ") or free.rows in figures
        assert not (projected and free.rows in figures)
    assert projected == ("projection" in system.table.title.lower())


@pytest.mark.parametrize("name", [n for n in SHIPPED if n.startswith("nvme")])
def test_drives_do_what_is_published_of_them(name: str) -> None:
    found = systems.compare(load_system(name))
    # Bandwidth at depth, IOPS at depth and both latencies; what fixes nothing is a prediction.
    assert [one.quantity for one in found] == ["kIOPS", "GB/s", "us", "us"]
    for one in found:
        assert one.error_pct is not None
        assert abs(one.error_pct) < (1.5 if one.fixes else 5), one
    assert any(not one.fixes for one in found)
    page = DOCS.read_text()
    for one in found:
        assert f"{one.error_pct:.1f} %".replace("-0.0", "0.0") in page, one


def test_a_projection_has_a_range_and_no_published_value() -> None:
    found = systems.compare(load_system("gen6x16-projection"))
    for one in found:
        assert one.value is None
        assert one.ok is None
        assert one.low is not None
        assert one.high is not None
        assert one.low <= one.modelled <= one.high
        assert one.low < one.high


def test_a_free_number_changes_what_its_figure_says() -> None:
    system = load_system("nvme-gen4x4")
    media = next(free for free in system.free if free.key == "device.media_read")
    slow = presets.device(system.changed(media, 100)["device"], None, ())[0]  # type: ignore[arg-type]
    before, after = (dict(table.media_read) for table in (system.parts["device"], slow))
    assert after[0.5] == 100 * TIME_UNITS["us"]
    assert after[0.99] == pytest.approx(before[0.99] * 100 / media.value, rel=1e-6)
    # A number of a table within a preset.
    gen6 = load_system("gen6x16-projection")
    skip = next(free for free in gen6.free if free.key == "link.data_link.skip_bytes")
    link = presets.link(gen6.changed(skip, 6)["link"], None, ())[0]  # type: ignore[arg-type]
    assert link.data_link.skip_bytes == 6
    assert link.data_link.skip_every == gen6.parts["link.data_link"].skip_every  # type: ignore[attr-defined]


# --- scenarios ---


def test_a_scenario_takes_what_it_does_not_name_from_its_platform() -> None:
    written = dict(SCENARIO, link="gen5x4", host="server")
    del written["platform"]
    written["workload"] = [
        {"name": "w", "device": {"ssd": {"preset": "nvme-gen5", "traffic": {"kind": "nvme"}}}}
    ]
    scenario = Scenario.from_dict(SCENARIO)
    assert scenario.digest() == Scenario.from_dict(written).digest()
    assert "platform" not in scenario.to_dict()
    assert Scenario.from_dict(scenario.to_dict()).digest() == scenario.digest()
    own = Scenario.from_dict({**SCENARIO, "link": "gen4x4"}).resolve().workloads[0].devices[0]
    assert (own.link.gen, own.device.name) == (4, "nvme-gen5")


def test_the_schema_knows_scenarios_with_a_platform() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(SCENARIO, json_schema())


def test_a_platform_in_a_file(load, tmp_path) -> None:
    load(SMALL)
    path = tmp_path / "scenario.toml"
    path.write_text(
        f'name = "mine"\nplatform = "{tmp_path / "mine.toml"}"\n'
        '[[workload]]\nname = "w"\ndevice.ssd.traffic = { kind = "nvme" }\n'
    )
    assert load_scenario(path).resolve().workloads[0].devices[0].device.name == "nvme-dram"


@pytest.mark.parametrize(
    ("platform", "said"),
    [
        ("nvme-gen5", "platform: 'nvme-gen5'; expected one of gen6x16-projection, nvme-gen4x4, nvme-gen5x4"),
        # One that was measured holds no device that a scenario could use.
        ("xeon-h100", "platform: 'xeon-h100'; expected one of gen6x16-projection"),
        (7, "platform: 7; expected one of gen6x16-projection"),
    ],
)
def test_platforms_that_a_scenario_cannot_name(platform: object, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Scenario.from_dict({**SCENARIO, "platform": platform})
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "broken", [{"workload": 3}, {"workload": [3]}, {"workload": [{"name": "w", "device": 3}]}]
)
def test_what_is_no_scenario_is_said_as_without_a_platform(broken: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="scenario: workload"):
        Scenario.from_dict({**SCENARIO, **broken})


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('kind = "system"', 'kind = "dma"', "kind: 'dma'; expected 'system'"),
        ('basis = "published"', 'basis = "projection"', "value 6; expected none in a projection"),
        ('source = "somebody, 2024"\n', "", "figure: 'reads': no value or no source; expected both"),
        ("value = 6\n", "", "figure: 'reads': no value or no source; expected both"),
        ('fixes = "device.media_read"', 'fixes = "device.dies"', "expected the key of a [[free]]"),
        ("high = 10", "high = 3", "device.media_read = 4 us; expected 1 to 3"),
        ('device = "nvme-dram"', 'device = "nvme-drum"', "device: 'nvme-drum'; expected one of"),
        ('quantity = "us"', 'quantity = "ms"', "quantity: 'ms'; expected 'kIOPS', 'GB/s' or 'us'"),
        ("queue_depth = 1", "queue_depth = 0", "queue_depth: 0; expected a whole number from 1"),
    ],
)  # fmt: skip
def test_one_line_names_everything(load, old: str, new: str, said: str) -> None:
    assert SMALL.count(old) == 1
    load(SMALL)
    with pytest.raises(ConfigError) as caught:
        load(SMALL.replace(old, new))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "mine.toml" in str(caught.value)


# --- the command ---


def test_the_command_needs_no_folder_and_says_what_missed(load, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    load(SMALL)
    assert main(["validate", "--platform", "mine.toml", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "fixes device.media_read" in said
    assert "plausible 1 to 10; fixed by reads" in said
    load(SMALL.replace("value = 6", "value = 12"))
    assert main(["validate", "--platform", "mine.toml", "--quiet"]) == 99
    assert "MISSED" in capsys.readouterr().out
    assert main(["validate", "--platform", "mine.toml", "--quiet", "--json"]) == 99
    (figure,) = json.loads(capsys.readouterr().out)["figures"]
    assert figure["error_pct"] < -10


def test_the_command_tells_a_projection_as_one(capsys) -> None:
    assert main(["validate", "--platform", "gen6x16-projection", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Projection: ")
    assert "each free number alone at both ends" in said
    assert "error" not in said.split("free numbers")[0].replace("error correction", "")


def test_the_command_takes_no_folder_beside_a_platform(capsys, tmp_path) -> None:
    assert main(["validate", "--platform", "nvme-gen4x4", "--data", str(tmp_path)]) == 2
    assert "expected no --data" in capsys.readouterr().err


def test_list_and_show_have_them(capsys) -> None:
    assert main(["list", "platforms", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["platforms"]
    assert set(SHIPPED) <= set(listed)
    assert "Projection" in listed["gen6x16-projection"]
    assert main(["show", "platforms/nvme-gen4x4"]) == 0
    assert tomllib.loads(capsys.readouterr().out)["device"] == "nvme-gen4"


def test_a_free_number_is_one_of_the_device(load) -> None:
    text = SMALL.replace('fixes = "device.media_read"\n', "")
    load(text)
    with pytest.raises(ConfigError, match=r"expected TABLE\.KEY of a number"):
        load(text.replace('key = "device.media_read"', 'key = "device.media"'))
