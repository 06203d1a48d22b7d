"""Calibration: numbers that made a table are found again in it, and nothing but free numbers moves."""

import json

import pytest

from sevpcie_core import cli
from sevpcie_core.errors import ConfigError, FormatError, NothingMeasuredError
from sevpcie_core.experiment.platforms import load_platform
from sevpcie_core.validate import gpu, pcie_bench
from sevpcie_core.validate.calibrate import calibrate, fit_of, measurements

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
