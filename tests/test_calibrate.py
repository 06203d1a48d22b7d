"""Calibration: numbers that made a table are found again in it, and nothing but free numbers moves."""

import json
import re
from pathlib import Path

import pytest

from sevpcie_core import cli
from sevpcie_core.errors import ConfigError, FormatError, NothingMeasuredError
from sevpcie_core.experiment.platforms import load_platform
from sevpcie_core.experiment.scenario import load_scenario
from sevpcie_core.validate import gpu, pcie_bench
from sevpcie_core.validate.calibrate import TABLES, calibrate, fit_of, measurements

HEADER = "experiment,direction,size_bytes,parallel,metric,value"
# Rows of the kinds that parameters are found with; no copies, so nothing says how long those take.
ROWS = (
    ("zerocopy_chase", "read", 1 << 20, 1, "ns_mean"),
    *(("zerocopy_read", "read", size, 64, "GB_per_s") for size in (32, 64, 128)),
    ("zerocopy_read", "read", 32, 2048, "GB_per_s"),
    *(("zerocopy_write", "write", size, 64, "GB_per_s") for size in (32, 64)),
    ("zerocopy_write", "write", 32, 2048, "GB_per_s"),
)
TRUTH = {
    "host.read_latency": 900_000,
    "device.read_setup": 300_000,
    "device.write_setup": 140_000,
    "device.read_issue": 1_500,
    "device.write_issue": 1_800,
}
START = load_platform(gpu.PLATFORM)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a folder with a table that a platform of known numbers made."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "measured").mkdir()
    path = folder / "measured" / "gpu_gen5x16.csv"
    path.write_text("\n".join([HEADER, *(",".join(map(str, (*row, 1.0))) for row in ROWS)]))
    truth = START.changed(TRUTH)
    values = {p.conditions: p.modelled for p in gpu.fitted_points(folder, truth)}
    lines = [HEADER]
    for row in ROWS:
        words = f"{row[0]} gpu_gen5x16 {row[1]} {row[2]} B"
        value = values[words if row[0] == "zerocopy_chase" else f"{words}, {row[3]} in flight"]
        lines.append(",".join(map(str, (*row, value))))
    path.write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.slow
def test_what_made_a_table_is_found_in_it(made):
    seen = []
    found = calibrate(made, START, lambda stage, done, total: seen.append(done))
    for key, value in TRUTH.items():
        assert found.platform.value(key) == pytest.approx(value, rel=0.01), key
    assert found.mean_pct < 0.5 < found.before
    assert seen
    # No row depends on how copies go: those numbers stay.
    assert found.unseen >= {f.key for f in START.free if f.key.startswith("copy_engine.")}
    for key in found.unseen:
        assert found.platform.value(key) == START.value(key)
    # Nothing but free numbers has moved.
    free = {f.key for f in START.free}
    back = found.platform.changed({key: START.value(key) for key in free})
    assert back.table == START.table


@pytest.mark.slow
def test_the_same_table_gives_the_same_numbers(made):
    first, second = (calibrate(made, START).to_toml() for _ in range(2))
    assert first == second


@pytest.mark.slow
def test_the_command_writes_a_platform_that_starts_another(made, tmp_path, capsys):
    out = tmp_path / "mine.toml"
    file = made / "measured" / "gpu_gen5x16.csv"
    assert cli.main(["measure", "calibrate", str(file), "--out", str(out), "--quiet"]) == 0
    text = capsys.readouterr().out
    assert "device.read_setup" in text
    assert "copy_engine.interval" in text
    assert "kept: no row depends on it" in text
    assert "mean error" in text
    mine = load_platform(str(out))
    assert mine.value("device.read_setup") == pytest.approx(300_000, rel=0.01)
    assert mine.table.residual["zerocopy_read"].points == 4
    assert cli.main(["measure", "calibrate", str(made), "--platform", str(out), "--json", "--quiet"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["platform"] == "mine"
    assert document["points"] == len(ROWS)
    assert document["mean_abs_error_pct"] <= document["mean_abs_error_pct_before"] + 1e-9
    assert {p["key"] for p in document["parameters"]} == {f.key for f in START.free}


def test_which_rows_a_platform_is_found_with():
    assert fit_of(START) is gpu.fitted_points
    assert fit_of(load_platform(pcie_bench.PLATFORM)) is pcie_bench.fitted_points


def test_folders_and_files(made, tmp_path):
    with measurements(made) as (folder, name):
        assert (folder, name) == (made, gpu.PLATFORM)
    with measurements(made / "measured") as (folder, name):
        assert (folder, name) == (made, gpu.PLATFORM)
    other = tmp_path / "latency.csv"
    other.write_text("system,Test,PAT,Cache,HO,DO,WinSZ,SZ,Avg(ns)\n")
    with measurements(other) as (folder, name):
        assert name == pcie_bench.PLATFORM
        assert (folder / "pcie-bench" / "lat_dma_sizes.csv").read_text() == other.read_text()
    assert not folder.exists()


def test_what_cannot_be_calibrated_with_is_named(tmp_path, capsys):
    with pytest.raises(ConfigError, match="no such file"), measurements(tmp_path / "none.csv"):
        pass
    with pytest.raises(ConfigError, match="no folder 'pcie-bench' or 'measured'"), measurements(tmp_path):
        pass
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with (
        pytest.raises(FormatError, match=r"other\.csv:1: header: a, b"),
        measurements(tmp_path / "other.csv"),
    ):
        pass
    (tmp_path / "measured").mkdir()
    (tmp_path / "measured" / "gpu_gen5x16.csv").write_text(HEADER + "\npingpong,both,4,1,ns_p50,1800\n")
    with pytest.raises(NothingMeasuredError, match="no row that xeon-h100 is found with"):
        calibrate(tmp_path, START)
    assert cli.main(["measure", "calibrate", str(tmp_path), "--quiet"]) == 5
    assert cli.main(["measure", "calibrate", str(tmp_path / "none.csv"), "--quiet"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def blocks(kind: str) -> list[str]:
    page = (Path(__file__).resolve().parent.parent / "docs" / "validation.md").read_text()
    return re.findall(rf"^```{kind}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def test_the_example_of_the_page_runs_and_a_scenario_takes_what_it_finds(tmp_path, capsys):
    (table,) = blocks("csv")
    (tmp_path / "mine.csv").write_text(table)
    out = tmp_path / "mine.toml"
    assert cli.main(["measure", "calibrate", str(tmp_path / "mine.csv"), "--out", str(out), "--quiet"]) == 0
    printed = capsys.readouterr().out
    found = {row.split()[0] for row in printed.splitlines() if "kept" not in row and "." in row.split(" ")[0]}
    assert found == {
        "host.read_latency",
        "data_link.skip_bytes",
        "copy_engine.h2d_setup",
        "copy_engine.synchronise",
    }
    assert "zerocopy_chase: 1 row, " in printed
    (scenario,) = (block for block in blocks("toml") if "mine.toml" in block)
    (tmp_path / "scenario.toml").write_text(scenario)
    host = load_scenario(tmp_path / "scenario.toml").resolve().host
    assert host.read_latency == load_platform(str(out)).read_latency()
    assert dict(host.read_latency)[0.5] != dict(START.read_latency())[0.5]


def test_help_and_page_have_the_columns(capsys):
    assert cli.main(["measure", "calibrate", "--help"]) == 0
    said = capsys.readouterr().out
    page = (Path(__file__).resolve().parent.parent / "docs" / "validation.md").read_text()
    for _, _, columns in TABLES:
        assert f" {','.join(columns)}\n" in said
        assert f"| `{','.join(columns)}` |" in page


LATENCIES = "system,Test,PAT,Cache,WinSZ,SZ,Avg(ns)\n" + "".join(
    f"mybox,LAT_DMA_RD,Rand,HWarm,8192,{size},{ns}\n"
    for size, ns in ((64, 700), (256, 760), (768, 900), (2048, 1250))
)


def test_a_system_of_ones_own_is_one_that_the_platform_lists(tmp_path):
    (tmp_path / "lat.csv").write_text(LATENCIES)
    text = load_platform(pcie_bench.PLATFORM).to_toml()
    (tmp_path / "start.toml").write_text(re.sub(r"systems = .*", 'systems = ["mybox"]', text))
    start = load_platform(str(tmp_path / "start.toml"))
    with measurements(tmp_path / "lat.csv") as (folder, _):
        found = calibrate(folder, start)
    assert len(found.points) == 4
    assert found.mean_pct < 1 < found.before
    # Counts that no row depends on stay, whatever the times beside them gain.
    assert found.unseen >= {"iommu.walkers", "device.tags", "iommu.walk"}
    for key in found.unseen:
        assert found.platform.value(key) == start.value(key), key
    with (
        pytest.raises(NothingMeasuredError, match=r"lat\.csv: no row .* \(of system 'nfp6000"),
        measurements(tmp_path / "lat.csv") as (folder, name),
    ):
        calibrate(folder, load_platform(name))


def test_errors_name_the_table_that_was_given(tmp_path):
    (tmp_path / "lat.csv").write_text(LATENCIES.replace("700", "seven").replace("mybox", "x"))
    platform = tmp_path / "start.toml"
    text = load_platform(pcie_bench.PLATFORM).to_toml()
    platform.write_text(re.sub(r"systems = .*", 'systems = ["x"]', text))
    with (
        pytest.raises(FormatError, match=rf"^{tmp_path}/lat\.csv:2: Avg\(ns\): 'seven'"),
        measurements(tmp_path / "lat.csv") as (folder, _),
    ):
        calibrate(folder, load_platform(str(platform)))
    (tmp_path / "lat.csv").write_text(LATENCIES.replace("PAT,", "", 1))
    with (
        pytest.raises(FormatError, match=r"lat\.csv:1: header: .* the nearest of which lacks PAT$"),
        measurements(tmp_path / "lat.csv"),
    ):
        pass


def test_help_has_an_example(capsys):
    assert cli.main(["measure", "calibrate", "--help"]) == 0
    assert "Example: sevpcie measure calibrate gpu_gen5x16.csv" in " ".join(capsys.readouterr().out.split())


def test_a_result_that_could_not_be_written_is_told_before_the_search(made, tmp_path, capsys, monkeypatch):
    def never(*arguments, **options):
        raise AssertionError("the search has begun")

    monkeypatch.setattr("sevpcie_core.validate.calibrate.calibrate", never)
    table = str(made / "measured" / "gpu_gen5x16.csv")
    for place, words in ((tmp_path / "no" / "x.toml", "cannot be written"), (tmp_path, "a folder")):
        assert cli.main(["measure", "calibrate", table, "--out", str(place), "--quiet"]) == 2
        assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
