"""Platforms of presets: what is published of drives, a projection, and scenarios that name them."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from sevpcie_core.cli import main
from sevpcie_core.errors import ConfigError
from sevpcie_core.experiment import presets
from sevpcie_core.experiment.hardware import row_of
from sevpcie_core.experiment.platforms import load_platform
from sevpcie_core.experiment.runner import Task
from sevpcie_core.experiment.scenario import Scenario, json_schema, load_scenario, load_scheme
from sevpcie_core.experiment.systems import load_system, names
from sevpcie_core.experiment.toml_text import dumps
from sevpcie_core.link import params
from sevpcie_core.link.params import NO_IOMMU
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
    drain = next(free for free in gen6.free if free.key == "host.root_port.drain_line")
    port = presets.host(gen6.changed(drain, 0.4)["host"], None, ())[0].root_port  # type: ignore[arg-type]
    assert port.drain_line == 400
    assert port.drain_tlp == gen6.parts["host.root_port"].drain_tlp  # type: ignore[attr-defined]


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
        (
            "nvme-gen5",
            "platform: 'nvme-gen5'; expected one of e5-nfp6000, gen6x16-projection, nvme-gen4x4, nvme-gen5x4",
        ),
        # Copies hold no link.
        ("h100-tdx", "platform: 'h100-tdx' is of another kind; expected one of e5-nfp6000, gen6x16-proj"),
        (7, "platform: 7; expected one of e5-nfp6000, gen6x16-projection"),
        # One that was measured holds no device that a scenario could use.
        ("xeon-h100", "workload[0].device.ssd: no key 'preset'; expected one (platform"),
    ],
)
def test_platforms_that_a_scenario_cannot_name(platform: object, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Scenario.from_dict({**SCENARIO, "platform": platform})
    assert said in str(caught.value)


def on_measured(platform: str) -> dict[str, Any]:
    device = {"preset": "nvme-dram", "traffic": {"kind": "nvme", "queue_depth": 1}}
    return {
        "name": "mine",
        "platform": platform,
        "requests": 100,
        "workload": [{"name": "w", "device": {"ssd": device}}],
    }


# What the device has of a link's row: its tags and its buffers.
DEVICES_OWN = {params.TAGS, *range(params.CREDITS + 4, params.CREDITS + 8)}


@pytest.mark.parametrize("name", ["e5-nfp6000", "xeon-h100"])
def test_a_scenario_takes_link_and_host_of_a_platform_that_was_measured(name: str) -> None:
    """Number by number those that `validate` runs with, on which nothing of a preset is left."""
    platform = load_platform(name)
    scenario = Scenario.from_dict(on_measured(name))
    found = scenario.resolve()
    (run,) = found.workloads[0].devices
    mine, theirs = row_of(found.host, run), platform.row()
    for column in set(range(len(mine))) - DEVICES_OWN:
        assert mine[column] == theirs[column], column
    assert mine[params.TAGS] == 64
    assert found.host.read_latency == platform.read_latency()
    assert found.host.read_interval_ps == platform.table.host.read_interval
    iommu = platform.table.iommu
    assert found.host.iommu == (NO_IOMMU if iommu is None else iommu.build())
    for inline in (False, True):
        assert Scenario.from_dict(scenario.to_dict(inline=inline)).digest() == scenario.digest()
    own = Scenario.from_dict({**on_measured(name), "link": "gen5x4"}).resolve()
    assert own.workloads[0].devices[0].link.lanes == 4
    assert own.host == found.host


def test_a_calibrated_platform_changes_what_a_scenario_takes(tmp_path) -> None:
    """Its file is named relative to the scenario's; a slower host makes slower requests."""

    def mean(host_ns: int) -> float:
        changed = load_platform("e5-nfp6000").changed({"host.read_latency": host_ns * 1000})
        (tmp_path / "platforms").mkdir(exist_ok=True)
        (tmp_path / "platforms" / "mine.toml").write_text(changed.to_toml())
        scenario = tmp_path / "scenario.toml"
        scenario.write_text(dumps(on_measured("platforms/mine.toml")))
        found = load_scenario(scenario).resolve()
        outcome = Task.prepare(found, found.workloads[0], 1).simulate(load_scheme("none"), "off")
        return outcome.classes[0].latency.mean_ps

    # A command is fetched, and that is the one read of host memory of an NVMe read.
    assert mean(400) - mean(300) == pytest.approx(100_000, rel=0.05)


@pytest.mark.parametrize(
    "broken", [{"workload": 3}, {"workload": [3]}, {"workload": [{"name": "w", "device": 3}]}]
)
def test_what_is_no_scenario_is_said_as_without_a_platform(broken: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="scenario: workload"):
        Scenario.from_dict({**SCENARIO, **broken})


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('kind = "system"', 'kind = "dma"', "kind: 'dma'; expected 'system' ('dma' is for measure calib"),
        ('basis = "published"', 'basis = "projection"', ":11: figure[0].value: 6; expected none in a pro"),
        ('source = "somebody, 2024"\n', "", ":8: figure[0]: 'reads': no value or no source; expected both"),
        ("value = 6\n", "", ":8: figure[0]: 'reads': no value or no source; expected both"),
        ('fixes = "device.media_read"', 'fixes = "device.dies"', ":13: figure[0].fixes: 'device.dies'; exp"),
        ("value = 6", "value = 1e-300", ":11: figure[0].value: 1e-300; expected a number from 1e-06 to"),
        ("value = 6", "value = 1e300", ":11: figure[0].value: 1e+300; expected a number from 1e-06 to"),
        ("requests = 100", "requests = 19", ":14: figure[0].requests: 19; expected at least 20, for fewer"),
        ("high = 10", "high = 3", ":17: free[0]: device.media_read = 4 us; expected 1 to 3"),
        ("high = 10", "high = 1e10", ":21: free[0].high: device.media_read = 1e+10 us: p0 = '7500s'"),
        ('unit = "us"', 'unit = "B"', ":17: free[0]: device.media_read in B; expected a unit of time"),
        ('link = "gen5x4"', 'link = { base = "gen5x4" }', ":4: link: a table; expected the name of a preset"),
        ('host = "server"', 'host = "mine.toml/x"', "mine.toml/x: Not a directory; expected a host"),
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


def counted(number: str, unit: str, low: float, high: float) -> str:
    """Return SMALL as a projection whose free number is another."""
    text = SMALL.replace('fixes = "device.media_read"\n', "").replace("value = 6\n", "")
    text = text.replace('basis = "published"', 'basis = "projection"')
    old = 'key = "device.media_read"\nunit = "us"\nlow = 1\nhigh = 10\n'
    assert old in text
    return text.replace(old, f'key = "{number}"\nunit = "{unit}"\nlow = {low}\nhigh = {high}\n')


@pytest.mark.parametrize(
    ("number", "unit", "low", "high", "said"),
    [
        # A rule of one key, at either end.
        ("device.tags", "accesses", 0.4, 300, "free[0].low: device.tags = 0.4 accesses: 0; expected a whole"),
        ("link.mps", "B", 128, 700, "free[0].high: link.mps = 700 B: 700; expected 128, 256, 512"),
        # One of several keys.
        ("device.credits.posted_data", "accesses", 0, 300, "free[0].low: device.credits.posted_data = 0 acc"),
        ("host.iommu.entries", "accesses", 60, 64, "free[0].low: host.iommu.entries = 60 accesses: 4 of 60"),
        # What is no number at all.
        ("device.msi", "accesses", 0, 1, "free[0]: key = 'device.msi'; expected TABLE.KEY of a number"),
        ("device.kind", "accesses", 0, 1, "free[0]: key = 'device.kind'; expected TABLE.KEY of a number"),
        ("device.credits", "accesses", 0, 1, "free[0]: key = 'device.credits'; expected TABLE.KEY of a"),
        ("link.completion_bytes", "B", 0, 1, "key = 'link.completion_bytes'; expected TABLE.KEY of a num"),
        ("tags", "accesses", 0, 1, "free[0]: key = 'tags'; expected TABLE.KEY of a number"),
    ],
)
def test_ends_of_free_numbers_are_checked_when_a_file_is_read(load, number, unit, low, high, said) -> None:
    with pytest.raises(ConfigError) as caught:
        load(counted(number, unit, low, high))
    assert said in str(caught.value)
    assert "mine.toml:" in str(caught.value)


def changed_device(system, value):
    return presets.device(system.changed(system.free[0], value)["device"], None, ())[0]


def test_a_number_that_is_0_can_change(load, tmp_path) -> None:
    device = tmp_path / "fast.toml"
    text = counted("device.media_read", "us", 0, 100).replace('"nvme-dram"', '"fast.toml"')
    device.write_text('base = "nvme-dram"\nmedia_read = "0us"\n')
    assert dict(changed_device(load(text), 100).media_read) == {0.0: 10**8, 1.0: 10**8}
    # One that is 0 in the middle and not at its ends has no shape at another value.
    device.write_text('base = "nvme-dram"\nmedia_read = { p0 = "0us", p50 = "0us", p100 = "9us" }\n')
    with pytest.raises(
        ConfigError, match=r"free\[0\]: device.media_read has a median of 0; expected one that"
    ):
        load(text)


def test_a_rate_of_errors_is_no_whole_number(load) -> None:
    system = load(counted("link.data_link.bit_error_rate", "accesses", 0, 1e-5))
    link = presets.link(system.changed(system.free[0], 1e-6)["link"], None, ())[0]  # type: ignore[arg-type]
    assert link.data_link.bit_error_rate == 1e-6


def test_relative_paths_count_from_the_file_that_names_them(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "platforms"
    (folder / "own").mkdir(parents=True)
    (folder / "own" / "link.toml").write_text('base = "gen5x4"\nmps = 128\n')
    (folder / "trace.csv").write_text(
        "time_us,event,address,length\n" + "".join(f"{i},read,{8 * i},4096\n" for i in range(20))
    )
    text = SMALL.replace('"gen5x4"', '"own/link.toml"').replace(
        'traffic = { kind = "nvme", queue_depth = 1 }', 'traffic = { kind = "nvme", trace = "trace.csv" }'
    )
    (folder / "mine.toml").write_text(text)
    scenario = tmp_path / "scenario.toml"
    scenario.write_text(
        'name = "mine"\nplatform = "platforms/mine.toml"\n'
        '[[workload]]\nname = "w"\ndevice.ssd.traffic = { kind = "nvme" }\n'
    )
    monkeypatch.chdir("/")
    system = load_system(str(folder / "mine.toml"))
    assert system.parts["link"].mps == 128  # type: ignore[attr-defined]
    (found,) = systems.compare(system)
    assert 4 < found.modelled < 8
    assert load_scenario(scenario).resolve().workloads[0].devices[0].link.mps == 128


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


def refused(text: str, path, capsys, code: int = 2) -> str:
    """Return the one line that the command ends with, without a run."""
    path.write_text(text)
    assert main(["validate", "--platform", str(path), "--quiet"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


GOOD = """\
[[figure]]
what = "two at a time"
quantity = "us"
value = 6
source = "somebody, 2024"
requests = 100
traffic = { kind = "nvme", queue_depth = 2 }

"""
TRACES = [
    # A single copy, and kernels only: what has no median, and what no figure counts.
    ("0,5,memcpy,HtoD,4096\n", "us", "figure[0].traffic: a median over 1; expected at least 20 requests"),
    ("0,5,kernel,k,0\n9,5,kernel,k,0\n", "GB/s", "figure[0].traffic: no request that counts"),
    ("0,5,kernel,k,0\n9,5,kernel,k,0\n", "kIOPS", "figure[0].traffic: no request that counts"),
]


@pytest.mark.parametrize(("rows", "quantity", "said"), TRACES)
def test_recorded_traffic_that_says_nothing_of_a_figure(tmp_path, capsys, rows, quantity, said) -> None:
    (tmp_path / "job.csv").write_text("t_us,dur_us,event,name,bytes\n" + rows)
    text = SMALL.replace('kind = "nvme", queue_depth = 1', 'kind = "gpu", trace = "job.csv"')
    text = text[: text.index("[[free]]")].replace('fixes = "device.media_read"\n', "")
    text = text.replace("nvme-dram", "gpu-gen5").replace('"us"', f'"{quantity}"')
    assert said in refused(text, tmp_path / "mine.toml", capsys, code=5)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            'kind = "nvme", queue_depth = 1',
            'kind = "gpu", trace = "x.csv"',
            ":23: figure[1].traffic.kind: 'gpu' on",
        ),
        ("queue_depth = 1", 'trace = "no.csv"', ":23: figure[1].traffic.trace: "),
        ('"nvme-dram"', '"many.toml"', "mine.toml:6: device: 2048 tags on gen5x4; expected at most 1024"),
    ],
)
def test_figures_are_checked_before_any_is_run(old, new, said, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(systems._Run, "run", None)
    (tmp_path / "many.toml").write_text('base = "nvme-dram"\ntags = 2048\n')
    # The figure before it could be run.
    text = SMALL.replace("[[figure]]", GOOD + "[[figure]]")
    assert said in refused(text.replace(old, new), tmp_path / "mine.toml", capsys)


def test_an_end_that_no_figure_can_run_with_is_told_before_any_is_run(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(systems._Run, "run", None)
    text = counted("device.credits.posted_data", "accesses", 1, 300)
    said = refused(text, tmp_path / "mine.toml", capsys)
    assert "free[0].low: device.credits.posted_data = 1 accesses: " in said


def test_a_platform_without_figures_has_nothing_to_compare(tmp_path, capsys) -> None:
    text = SMALL[: SMALL.index("[[figure]]")] + SMALL[SMALL.index("[[free]]") :]
    assert "no [[figure]]" in refused(text, tmp_path / "mine.toml", capsys, code=5)


def test_a_projection_without_free_numbers_has_no_range(tmp_path, capsys) -> None:
    text = counted("device.tags", "accesses", 1, 64)
    (tmp_path / "mine.toml").write_text(text[: text.index("[[free]]")])
    assert main(["validate", "--platform", str(tmp_path / "mine.toml"), "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "range: none, for the platform lists no free number" in said
    assert "free numbers" not in said


def test_errors_are_short_however_large(load, tmp_path, capsys) -> None:
    load(SMALL.replace("value = 6", "value = 1e-6"))
    assert main(["validate", "--platform", str(tmp_path / "mine.toml"), "--quiet"]) == 99
    line = next(row for row in capsys.readouterr().out.splitlines() if row.startswith("reads"))
    assert len(line) < 90
    assert "e+08%" in line


@pytest.mark.parametrize("name", ["nope", "e5-nfp6000", "h100-tdx"])
def test_what_is_offered_is_taken(name, capsys) -> None:
    assert main(["validate", "--platform", name]) == 2
    said = capsys.readouterr().err
    assert f"expected one of {', '.join(SHIPPED)}, or the path of a .toml file of kind 'system'" in said
    assert ("is of another kind" in said) == (name != "nope")


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


def test_the_example_of_the_page_runs(tmp_path, capsys) -> None:
    page = DOCS.read_text()
    (example,) = (block for block in page.split("```toml\n")[1:] if 'kind = "system"' in block)
    (tmp_path / "mine.toml").write_text(example.split("```")[0])
    assert main(["validate", "--platform", str(tmp_path / "mine.toml"), "--quiet"]) == 0
    assert "fixes device.media_read" in capsys.readouterr().out
