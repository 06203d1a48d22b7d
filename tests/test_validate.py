"""`sevpcie validate`: what it reads, what it says, and that a wrong model would show."""

import csv
import json
import os

import pytest

from sevpcie_core import cli
from sevpcie_core.cli.validate import section_of
from sevpcie_core.errors import FormatError
from sevpcie_core.link import analytic
from sevpcie_core.report.style import Drawing, svg
from sevpcie_core.report.validation import fig_validation
from sevpcie_core.validate import pcie_model, run
from sevpcie_core.validate.points import DataSet, Point

# Three sizes of a Gen3 x8 link as a table of the published model has them; MPS 256, MRRS 512.
HEADER = "gen,lanes,addr_bits,ecrc,mps,mrrs,rcb,rcb_chunks,size_B,wr_eff_gbps,rd_eff_gbps,rdwr_tx_eff_gbps"


def row(size: int, scale: float = 1.0) -> str:
    curves = analytic.pcie_model(3, 8, size)
    values = [repr(scale * curves[kind]) for kind in analytic.KINDS]
    return ",".join(["gen3", "x8", "64", "0", "256", "512", "64", "0", str(size), *values])


@pytest.fixture
def data(tmp_path):
    """Return `data(lines)`, which writes a folder of reference data with one table."""

    def write(*lines: str, name: str = "mem_bw_gen3x8.csv", header: str = HEADER):
        folder = tmp_path / "data" / "pcie-model"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("\n".join([header, *lines]) + "\n")
        return tmp_path / "data"

    return write


def point(measured: float, modelled: float, fitted: bool = False) -> Point:
    return Point("", "curve", 1, measured, modelled, fitted)


def test_errors_of_a_set():
    points = [point(100, 103), point(100, 95, fitted=True), point(50, 50)]
    found = DataSet("a", "", "", "", bar_mean_pct=3, bar_max_pct=5.1, points=points)
    assert (found.held_out, found.ok) == (2, True)
    assert found.mean_abs_error_pct == pytest.approx(8 / 3)
    assert found.max_abs_error_pct == pytest.approx(5)
    assert DataSet("a", "", "", "", 2.6, 9, points=points).ok is False
    assert DataSet("a", "", "", "", 9, 4.9, points=points).ok is False
    assert DataSet("a", "", "", "", 9, None, points=points).ok is True
    assert DataSet("a", "", "", "", 2.6, None, points=points).ok is False


def test_absent_sets_are_counted_in_one_line(data, capsys):
    folder = data(row(64))
    assert cli.main(["validate", "--data", str(folder), "--quiet"]) == 0
    out = capsys.readouterr().out
    assert cli.main(["validate", "--data", str(folder), "--quiet", "--json"]) == 0
    sets = json.loads(capsys.readouterr().out)["datasets"]
    absent = [one["name"] for one in sets if one["ok"] is None]
    assert len(absent) > 10
    assert f"{len(absent)} more sets absent from this folder (--json names each)\n" in out
    # Only sets that are there have a row.
    rows = out.partition("\n\n")[0].splitlines()[1:]
    assert [line.split()[0] for line in rows[:-1]] == [one["name"] for one in sets if one["ok"] is not None]


def test_an_absent_set_has_no_verdict():
    found = DataSet("a", "", "", "", 1, 1).to_dict()
    assert (found["points"], found["mean_abs_error_pct"], found["ok"]) == (0, None, None)


def test_the_published_model_is_reproduced(reference_data):
    found = pcie_model.compare(reference_data)
    assert len(found.points) == 3 * 1500 + 150
    assert found.ok
    assert found.max_abs_error_pct < 1e-9


def test_json_csv_and_pictures(data, tmp_path, capsys):
    out = tmp_path / "out"
    folder = data(row(64), row(256), row(1500))
    assert cli.main(["validate", "--data", str(folder), "--json", "--out", str(out)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((out / "validate.json").read_text())
    assert document["datasets"][0]["name"] == "pcie_model"
    assert all(one["ok"] is None for one in document["datasets"][1:])
    assert document["datasets"][0] == {
        "name": "pcie_model",
        "points": 9,
        "held_out_points": 9,
        "mean_abs_error_pct": 0.0,
        "max_abs_error_pct": 0.0,
        "bar_mean_pct": 1e-4,
        "bar_max_pct": 1e-4,
        "free_parameters": 0,
        "ok": True,
    }
    rows = list(csv.DictReader((out / "points.csv").read_text().splitlines()))
    assert list(rows[0]) == ["name", "conditions", "measured", "modelled", "fitted"]
    assert len(rows) == 9
    assert float(rows[0]["measured"]) == analytic.pcie_model(3, 8, 64)["write"]
    assert "<svg" in (out / "pcie_model.svg").read_text()
    assert sorted(p.name for p in out.iterdir()) == ["pcie_model.svg", "points.csv", "validate.json"]


def test_a_model_that_is_off_ends_with_99(data, capsys):
    folder = data(row(64), row(256, scale=1.00001))
    assert cli.main(["validate", "--data", str(folder)]) == 99
    said = capsys.readouterr().out
    assert "MISSED\n" in said
    assert '\nMISSED: docs/validation.md says why: pcie_model under "What is reached"\n' in said
    assert cli.main(["validate", "--data", str(data(row(64)))]) == 0
    assert "MISSED" not in capsys.readouterr().out


@pytest.mark.parametrize("name", run.names())
def test_what_is_missed_is_explained_in_a_section_of_the_page(root, name):
    text = (root / "docs" / "validation.md").read_text()
    head = f"\n### {section_of(name)}\n"
    assert head in text
    section = text.split(head)[1].split("\n#")[0]
    assert f"`{name}`" in section or section_of(name) == "What is reached"
    # All others are met.
    assert "**What is missed.** No bar" in text.split("\n### What is reached\n")[1]


def test_one_byte_more_per_tlp_would_show(data, monkeypatch):
    folder = data(row(64), row(1500))
    assert pcie_model.compare(folder).ok
    monkeypatch.setattr(analytic.spec, "DATA_LINK_BYTES", 9)
    assert pcie_model.compare(folder).ok is False


def test_without_data_nothing_was_measured(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv(run.VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["validate"]) == 5
    assert "--data DIR or SEVPCIE_REFERENCE_DATA" in capsys.readouterr().err
    assert cli.main(["validate", "--data", str(tmp_path)]) == 5
    assert "none of the data sets" in capsys.readouterr().err
    assert cli.main(["validate", "--data", str(tmp_path / "nowhere")]) == 2
    monkeypatch.setenv(run.VARIABLE, str(tmp_path / "elsewhere"))
    assert cli.main(["validate"]) == 2
    assert "elsewhere: no such folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (row(64).replace("gen3", "gen9"), "gen: 9; expected one of 1, 2"),
        (row(64).replace("x8", "x7"), "lanes: 7; expected one of"),
        (row(64).replace("256", "250"), "mps: 250"),
        (row(64).replace("64,0,", "64,no,", 1), "ecrc: 'no'; expected a whole number"),
        (row(64).rpartition(",")[0] + ",nan", "rdwr_tx_eff_gbps: 'nan'; expected a number above 0"),
        (row(64).rpartition(",")[0] + ",-3", "expected a number above 0"),
        (row(64) + ",1", "mem_bw_gen3x8.csv:3"),
    ],
)
def test_bad_tables_are_one_line(line, words, data, capsys):
    folder = data(row(32), line)
    assert cli.main(["validate", "--data", str(folder)]) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1


def test_a_table_without_a_column(data):
    with pytest.raises(FormatError, match="no column 'size_B'"):
        pcie_model.compare(data(row(64), header=HEADER.replace("size_B", "size")))


def test_links_that_no_standard_has_are_left_out(data):
    header = "gen,lanes,mps,tlp_gbps"
    folder = data("gen1,x1,128,1.859777342485446", "gen1,x32,128,50.0", name="link_bw.csv", header=header)
    found = pcie_model.compare(folder)
    assert [p.conditions for p in found.points] == ["gen1 x1 mps 128 link"]
    assert found.ok


def files(folder):
    return sorted(path.name for path in folder.iterdir())


WRITTEN = ["pcie_model.svg", "points.csv", "validate.json"]


@pytest.fixture
def never(monkeypatch):
    """Fail if a comparison begins."""

    def begun(*arguments):
        raise AssertionError("the comparison has begun")

    monkeypatch.setattr(run, "validate", begun)


def test_out_that_cannot_be_made_is_told_before_the_run(data, tmp_path, capsys, never):
    (tmp_path / "file").write_text("")
    folder = data(row(64))
    assert cli.main(["validate", "--data", str(folder), "--out", str(tmp_path / "file" / "x")]) == 2
    assert "cannot be written: Not a directory" in capsys.readouterr().err
    assert cli.main(["validate", "--data", str(folder), "--out", str(tmp_path / "file")]) == 2
    assert "a file; expected a folder, new or of an earlier validate" in capsys.readouterr().err


@pytest.mark.parametrize(
    "names",
    [["notes.txt"], ["thesis.tex", "validate.json"], ["points.csv"], ["holiday.svg", "validate.json"]],
)
def test_out_never_touches_a_folder_of_others(data, names, tmp_path, capsys, never):
    out = tmp_path / "out"
    out.mkdir()
    for name in names:
        (out / name).write_text("mine")
    assert cli.main(["validate", "--data", str(data(row(64))), "--out", str(out)]) == 2
    assert repr(names[0]) in capsys.readouterr().err
    assert {path.name: path.read_text() for path in out.iterdir()} == dict.fromkeys(names, "mine")


def test_out_of_an_earlier_result_is_replaced(data, tmp_path):
    out = tmp_path / "new" / "out"
    argv = ["validate", "--data", str(data(row(64))), "--out", str(out), "--quiet"]
    assert cli.main(argv) == 0
    # A set that the data had then and have no more.
    (out / "gpu_chase.svg").write_text("<svg/>")
    assert cli.main(argv) == 0
    assert files(out) == WRITTEN
    assert files(tmp_path / "new") == ["out"]


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (OSError(28, "No space left on device"), 3, "cannot be written: No space left on device"),
        (KeyboardInterrupt(), 130, "nothing was written"),
    ],
)
def test_a_failure_while_writing_leaves_nothing(
    data, tmp_path, monkeypatch, capsys, exists, error, code, words
):
    out = tmp_path / "new" / "out"
    folder = data(row(64))
    if exists:
        out.mkdir(parents=True)
    fsync, calls = os.fsync, []

    def fail(number):
        # The first file is whole by then.
        calls.append(number)
        if len(calls) == 2:
            raise error
        fsync(number)

    monkeypatch.setattr("os.fsync", fail)
    assert cli.main(["validate", "--data", str(folder), "--out", str(out), "--quiet"]) == code
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""
    assert files(tmp_path) == (["data", "new"] if exists else ["data"])
    assert not exists or files(out) == []


def test_without_a_set_nothing_is_written(tmp_path):
    (tmp_path / "empty").mkdir()
    argv = ["validate", "--data", str(tmp_path / "empty"), "--out", str(tmp_path / "out"), "--quiet"]
    assert cli.main(argv) == 5
    assert files(tmp_path) == ["empty"]


def test_a_picture_is_the_same_each_time_and_of_something():
    points = [Point(str(i), f"curve {i % 9}", 2**i, 10 + i, 10.1 + i) for i in range(1, 12)]
    found = DataSet("a", "Title", "Gb/s", "bytes", 1, 2, points=points)
    assert svg(fig_validation(found)) == svg(fig_validation(found))
    with pytest.raises(ValueError, match="a has no points"):
        fig_validation(DataSet("a", "", "", "", 1, 1))


def drawn(curves, at_unit="bytes", values=(10.0, 30.0)) -> Drawing:
    places = (2, 10, 100, 1000)
    points = [
        Point("", name, at, values[i % 2], values[i % 2]) for name in curves for i, at in enumerate(places)
    ]
    return fig_validation(DataSet("a", "Title " * 30, "ns", at_unit, 1, 2, points=points))


def test_the_legend_covers_no_point():
    figure = drawn([f"{kind} {size} B" for kind in ("RD", "WR") for size in (64, 128, 256, 512, 1024)])
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    for axes in figure.axes:
        assert not box.overlaps(axes.get_window_extent())
    # No title leaves the picture either.
    title = figure._suptitle.get_window_extent()
    assert title.x1 <= figure.bbox.x1


@pytest.mark.parametrize("letters", [3, 25, 38, 70])
def test_the_legend_of_long_names_stays_in_the_picture(letters):
    figure = drawn([f"{i} ".ljust(letters, "x") for i in range(8)])
    figure.draw_without_rendering()
    (box,) = (legend.get_window_extent() for legend in figure.legends)
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
    assert box.y0 >= 0


def test_times_of_two_magnitudes_have_a_logarithmic_axis():
    assert drawn(["a"], values=(2.0, 300.0)).axes[0].get_yscale() == "log"
    assert drawn(["a"], values=(20.0, 300.0)).axes[0].get_yscale() == "linear"


def test_many_curves_of_two_kinds_have_a_panel_each():
    figure = drawn([f"{kind} {size} B" for kind in ("RD", "WR") for size in (64, 128, 256, 512, 1024)])
    assert [axes.get_title() for axes in figure.axes] == ["RD", "WR", "", ""]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["64 B", "128 B", "256 B", "512 B", "1024 B", "line: model", "circle: reference"]
    # Of other curves, or few, there is one panel, and what does not fit is counted.
    assert len(drawn([f"{kind} x" for kind in "abcdefghij"]).axes) == 2
    assert "(2 more curves not drawn)" in drawn([f"{kind} x" for kind in "abcdefghij"])._suptitle.get_text()
    assert len(drawn(["RD 1", "WR 1"]).axes) == 2


def test_few_places_have_a_mark_each():
    lower = drawn(["a"], at_unit="one in so many").axes[1]
    assert lower.get_xticks().tolist() == [2, 10, 100, 1000]


def test_little_is_not_drawn_as_much():
    """Values 1 % apart do not fill the height."""
    low, high = drawn(["a"], values=(100.0, 101.0)).axes[0].get_ylim()
    assert low < 90
    assert high > 110


def test_links_that_the_standard_does_not_have_are_counted(data):
    found = pcie_model.compare(
        data("gen3,x8,256,62.9", "gen3,x32,256,250", name="link_bw.csv", header="gen,lanes,mps,tlp_gbps")
    )
    assert len(found.points) == 1
    assert found.not_modelled == {"link_bw x32": 1}
