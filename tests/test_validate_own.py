"""The project's own measurements (`data/measured`): tables, and copies of both directions that meet them."""

import re
import statistics
from pathlib import Path

import pytest

from sevpcie_core.experiment.platforms import load_platform
from sevpcie_core.validate import gpu
from sevpcie_core.validate.points import DataSet
from sevpcie_core.validate.rows import rows

MACHINES = ("gpu_gen5x16_h100", "gpu_gen5x16_h200")
HEADER = ",".join(gpu.COLUMNS)


@pytest.fixture(scope="module")
def measured(root) -> Path:
    return root / "data" / "measured"


def compared(folder: Path, name: str) -> DataSet:
    found = (compare(folder) for compare, one in zip(gpu.sets(), gpu._SETS, strict=True) if one.name == name)
    return next(found)


def test_every_set_names_itself(tmp_path):
    assert [compared(tmp_path, one.name).name for one in gpu._SETS] == [one.name for one in gpu._SETS]


@pytest.mark.parametrize("machine", MACHINES)
def test_tables_have_every_experiment_of_their_page(machine, measured):
    page = (measured / "README.md").read_text()
    assert f"`{machine}.csv`" in page
    cells = re.findall(r"^\| ((?:`\w+` ?)+)\|", page, re.MULTILINE)
    named = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert len(named) == 10
    found = {}
    for row in rows(measured / f"{machine}.csv", gpu.COLUMNS):
        key = (
            row.text("experiment"),
            row.text("direction"),
            row.size("size_bytes", 0),
            row.size("parallel", 0),
        )
        found.setdefault((*key, row.text("metric")), []).append(row.value("value"))
    assert {key[0] for key in found} == named
    # Rows of a queue that was not ahead are not there.
    assert {len(values) for key, values in found.items() if not key[0].startswith("copy_queued")} == {5}


def test_what_commands_wait_behind_data_is_what_the_table_says(measured):
    us = {}
    for row in rows(measured / "gpu_gen5x16_h100.csv", gpu.COLUMNS):
        if row.text("experiment").startswith("copy_queued") and row.size("size_bytes", 0) == 4096:
            us.setdefault((row.text("experiment"), row.text("direction")), []).append(row.value("value"))
    waits = {
        direction: statistics.median(us["copy_queued_beside", direction])
        - statistics.median(us["copy_queued", direction])
        for direction in ("d2h", "h2d")
    }
    platform = load_platform(gpu.PLATFORM)
    # In the file as whole ns.
    assert platform.value("copy_engine.behind_reads") == round(1e3 * waits["d2h"]) * 1000
    assert platform.value("copy_engine.behind_writes") == round(1e3 * waits["h2d"]) * 1000


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
def test_copies_of_both_directions_are_within_their_bar(machine, measured, tmp_path):
    (tmp_path / "measured").mkdir()
    (tmp_path / "measured" / f"{machine}.csv").write_text((measured / f"{machine}.csv").read_text())
    found = compared(tmp_path, "gpu_copy_both")
    assert len(found.points) == found.held_out == 31
    assert found.bar_mean_pct == 8
    assert found.ok, found.mean_abs_error_pct


@pytest.mark.parametrize(
    ("name", "held_out"), [("gpu_gen5x16", 1), ("gpu_gen5x16_h100", 2), ("gpu_gen5x162", 2)]
)
def test_points_are_fitted_only_of_the_file_that_was_calibrated_with(name, held_out, tmp_path):
    (tmp_path / "measured").mkdir()
    table = [HEADER, *(f"copy_sync,h2d,{size},1,us_p50,7" for size in (64, 512))]
    (tmp_path / "measured" / f"{name}.csv").write_text("\n".join(table))
    found = compared(tmp_path, "gpu_copy_small")
    assert (len(found.points), found.held_out) == (2, held_out)
    # Whoever calibrates, does so with any file.
    (point,) = gpu.fitted_points(tmp_path, load_platform(gpu.PLATFORM))
    assert (point.at, point.fitted) == (512, True)
