"""Figures: the right numbers at the right places, the same bytes every time, nothing over anything else."""

import math
import subprocess
import sys
from itertools import combinations
from typing import Any

import matplotlib as mpl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from records import ARMS, SHAPES, make_record

from sevpcie_core.report import figures, style, view
from sevpcie_core.report.ledger import fig_ledger

HOSTILE = "$\\frac{<script>alert(1)</script> --> & {{ 7*7 }} ]]>"


def every(record: dict[str, Any]) -> dict[str, Figure]:
    drawn = {f"cdf {s.name}": figures.fig_cdf(record, s.name) for s in view.scenarios(record)}
    return drawn | {
        "overhead": figures.fig_overhead(record),
        "ledger": fig_ledger(record),
        "wire": figures.fig_wire(record),
    }


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Return the pairs of texts that cover each other, and texts that leave the figure (paired with '')."""
    canvas = FigureCanvasAgg(figure)
    drawn: list[Text] = []
    draw = Text.draw

    def noted(text: Text, renderer: Any) -> None:
        drawn.append(text)
        draw(text, renderer)

    with pytest.MonkeyPatch.context() as patch:  # ticks out of view exist, but are not drawn
        patch.setattr(Text, "draw", noted)
        canvas.draw()
    renderer = canvas.get_renderer()
    boxes = [
        (t.get_text(), t.get_window_extent(renderer))
        for t in drawn
        if t.get_visible() and t.get_text().strip()
    ]
    found = []
    for (one, a), (two, b) in combinations(boxes, 2):
        wide = min(a.x1, b.x1) - max(a.x0, b.x0)
        high = min(a.y1, b.y1) - max(a.y0, b.y0)
        if wide > 1 and high > 2.5:
            found.append((one, two))
    width, height = figure.bbox.width, figure.bbox.height
    found += [(t, "") for t, b in boxes if b.x0 < -1 or b.y0 < -1 or b.x1 > width + 1 or b.y1 > height + 1]
    return found


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    return make_record()


def test_no_text_covers_another(record: dict[str, Any]) -> None:
    for name, figure in every(record).items():
        assert overlaps(figure) == [], name


def test_the_same_record_gives_the_same_bytes(record: dict[str, Any]) -> None:
    first = {name: style.svg(figure, name) for name, figure in every(record).items()}
    second = {name: style.svg(figure, name) for name, figure in every(make_record()).items()}
    assert first == second


def test_a_figure_does_not_depend_on_the_settings_of_the_user(record: dict[str, Any]) -> None:
    plain = style.svg(figures.fig_wire(record))
    with mpl.rc_context(
        {"font.size": 20.0, "axes.facecolor": "red", "svg.fonttype": "none", "axes.grid": True}
    ):
        before = dict(mpl.rcParams)
        assert style.svg(figures.fig_wire(record)) == plain
        assert dict(mpl.rcParams) == before


def test_pyplot_is_not_needed() -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests'); from records import make_record;"
        "from sevpcie_core.report import figures, style;"
        "style.svg(figures.fig_overhead(make_record(['nvme'])));"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    root = __file__.rsplit("/tests/", 1)[0]
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert out.stdout.strip() == "False"


def test_overhead_points_bars_and_budget(record: dict[str, Any]) -> None:
    figure = figures.fig_overhead(record)
    lines = view.all_lines(record)
    assert len(figure.axes) == len(ARMS)
    for axes, arm in zip(figure.axes, view.arms(record), strict=True):
        assert axes.get_title(loc="left") == arm.title
        points = [artist for artist in axes.lines if len(artist.get_xdata()) == 1]
        bars = [
            artist for artist in axes.lines if len(artist.get_xdata()) == 2 and artist.get_linestyle() == "-"
        ]
        expected = [line.protected[arm]["overhead"] for line in lines]
        values = [o[m]["value_pct"] for o in expected for m in ("latency_p50", "latency_p99") if o[m]]
        assert [artist.get_xdata()[0] for artist in points] == values
        ranges = {(o["latency_p50"]["range_low_pct"], o["latency_p50"]["range_high_pct"]) for o in expected}
        assert ranges <= {tuple(artist.get_xdata()) for artist in bars}
        assert any(list(artist.get_xdata()) == [5.0, 5.0] for artist in axes.lines)
        low, high = axes.get_xlim()
        reach = [
            v
            for o in expected
            for v in (o["latency_p50"]["range_low_pct"], o["latency_p50"]["range_high_pct"])
        ]
        assert low <= min(reach)
        assert max(reach) <= high


def test_overhead_colour_and_shape_follow_the_verdict(record: dict[str, Any]) -> None:
    figure = figures.fig_overhead(record)
    arm = view.arms(record)[0]
    points = [artist for artist in figure.axes[0].lines if len(artist.get_xdata()) == 1][::2]
    for artist, line in zip(points, view.all_lines(record), strict=True):
        word = line.protected[arm]["verdict"]["end_to_end"]
        assert artist.get_markeredgecolor() == style.VERDICT_COLOURS[word]
        assert artist.get_marker() == style.VERDICT_MARKS[word]


@pytest.mark.parametrize("factor", [0.01, 1.0, 40.0, 3000.0])
def test_overhead_axis_shows_everything(factor: float) -> None:
    record = make_record(["nvme", "nic"])
    for row in record["results"]:
        for entry in (row["overhead"] or {}).values():
            if entry:
                entry.update({k: v * factor for k, v in entry.items() if v is not None})
    figure = figures.fig_overhead(record)
    assert overlaps(figure) == []
    worst = max(r["overhead"]["latency_p99"]["range_high_pct"] for r in record["results"] if r["overhead"])
    assert figure.axes[0].get_xlim()[1] > worst


@pytest.mark.parametrize("high", [60.0, 101.0, 2_010.0, 50_500.0, 505_000.0])
def test_no_number_of_an_axis_hangs_over_its_edge(high: float) -> None:
    record = make_record(["nvme"], arms=(*ARMS, ("bounce-buffer", "selective")))
    bounced = [row["overhead"] for row in record["results"] if row["scheme"] == "bounce-buffer"]
    factor = high / max(o[m]["range_high_pct"] for o in bounced for m in ("latency_p50", "latency_p99"))
    for entry in (entry for overhead in bounced for entry in overhead.values() if entry):
        entry.update({k: v * factor for k, v in entry.items() if v is not None})
    figure = figures.fig_overhead(record)
    assert overlaps(figure) == []
    renderer = FigureCanvasAgg(figure).get_renderer()
    for axes in figure.axes:
        left, right = axes.get_xlim()
        labels = [
            label
            for at, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
            if left <= at <= right and label.get_text()
        ]
        assert len(labels) >= 2
        assert all(label.get_window_extent(renderer).x1 <= axes.bbox.x1 + 1 for label in labels)


def test_beyond_its_last_number_an_axis_still_has_ticks() -> None:
    """Ranges of 24 to 37 % behind a last number of 10 would look like 12 to 13 %."""
    record = make_record(["nic"])
    for row in record["results"]:
        for metric in ("latency_p50", "latency_p99"):
            if row["overhead"] and row["scheme"] != "bounce-buffer":
                row["overhead"][metric]["range_high_pct"] = 37.0
    axes = figures.fig_overhead(record).axes[0]
    assert axes.get_xscale() == "symlog"
    ticks = sorted({*axes.get_xticks(), *axes.get_xticks(minor=True)})
    assert {10, 20, 30, 40} <= set(ticks)
    assert 20 in axes.get_xticks()
    # And beyond the bend there is room for them.
    places = axes.transAxes.inverted().transform(axes.transData.transform([(10, 0), (37, 0)]))[:, 0]
    assert places[1] - places[0] > 0.15


def test_a_range_without_an_end_is_an_arrow_and_does_not_stretch_the_axis() -> None:
    record = make_record(["nic"])
    plain = figures.fig_overhead(record)
    for row in record["results"]:
        if row["overhead"] and row["workload"] == "imix_rx":
            row["saturated"] = ["unfavourable"]
            for metric in ("latency_p50", "latency_p99"):
                row["overhead"][metric]["range_high_pct"] = 3e5
    figure = figures.fig_overhead(record)
    assert overlaps(figure) == []
    for before, axes in zip(plain.axes, figure.axes, strict=True):
        assert axes.get_xlim()[1] <= before.get_xlim()[1]
        arrows = [line for line in axes.lines if line.get_marker() == ">"]
        assert len(arrows) == 2  # p50 and p99 of the one line
        assert not any(max(line.get_xdata()) > axes.get_xlim()[1] for line in axes.lines)
    (key,) = figure.legends
    assert "without end: saturated" in [text.get_text() for text in key.get_texts()]
    assert "without end: saturated" not in [text.get_text() for text in plain.legends[0].get_texts()]
    # Saturated everywhere: an arrow, and no point.
    for row in record["results"]:
        row["saturated"] = ["favourable", "typical", "unfavourable"] if row["overhead"] else []
    (axes, *_) = figures.fig_overhead(record).axes
    assert {line.get_marker() for line in axes.lines if len(line.get_xdata()) == 1} == {">"}


def test_negative_overheads_are_in_view() -> None:
    record = make_record(["nvme"])
    for row in record["results"]:
        for entry in (row["overhead"] or {}).values():
            if entry:
                entry.update({k: -v for k, v in entry.items() if v is not None})
    low, _ = figures.fig_overhead(record).axes[0].get_xlim()
    assert low < min(
        r["overhead"]["latency_p50"]["range_high_pct"] for r in record["results"] if r["overhead"]
    )
    for name, figure in every(record).items():
        assert overlaps(figure) == [], name


def test_cdf_has_a_panel_per_line_and_ends_where_samples_end(record: dict[str, Any]) -> None:
    figure = figures.fig_cdf(record, "nvme")
    assert [axes.get_title(loc="left") for axes in figure.axes[::2]] == [
        line.title for line in view.scenarios(record)[0].lines
    ]
    main, beside = figure.axes[:2]
    assert main.get_xscale() == "log"
    assert len(main.lines) == 1 + len(ARMS)
    assert main.get_ylim()[1] == pytest.approx(3.0)  # 10000 requests: ten above p99.9
    # Beside it: what is added at p50, p90, p99 and p99.9; every percentile of this line grows by one factor.
    added = [line for line in beside.lines if line.get_marker() == "o"]
    for dots, factor in zip(added, (0.85, 1.0, 1.04), strict=True):
        assert list(dots.get_xdata()) == pytest.approx([100 * 94 * factor / 10_300] * 4)
        assert list(dots.get_ydata()) == pytest.approx([math.log10(2), 1, 2, 3])


def test_cdf_lines_are_steps_through_the_points_of_the_record(record: dict[str, Any]) -> None:
    main = figures.fig_cdf(record, "nvme").axes[0]
    row = next(r for r in record["results"] if r["class"] == "dram")
    (baseline,) = [line for line in main.lines if line.get_color() == style.BASELINE]
    assert baseline.get_drawstyle() == "steps-post"
    corners = dict(zip(baseline.get_xdata()[1:], baseline.get_ydata()[1:], strict=True))
    for ns, p in zip(row["cdf"]["ns"], row["cdf"]["p"], strict=True):
        if p <= 0.999:
            assert 1 - 10 ** -corners[ns] == pytest.approx(p)


def test_a_jump_in_a_distribution_is_drawn_as_one() -> None:
    record = make_record(["nic"], shapes={"nic": {"two": {"all": (500.0, 0.1, 9.0, 64, 4000, 1.0, None)}}})
    for row in record["results"]:
        row["cdf"] = {"ns": [500.0, 9000.0], "p": [0.8, 1.0]}
    (line, *_) = figures.fig_cdf(record, "nic").axes[0].lines
    assert list(line.get_xdata()) == [500.0, 500.0, 9000.0]
    assert list(line.get_ydata())[:2] == pytest.approx([0.0, -math.log10(0.2)])
    assert line.get_ydata()[2] > figures.fig_cdf(record, "nic").axes[0].get_ylim()[1]


def test_cdf_of_a_constant_and_of_very_few_samples() -> None:
    record = make_record(["nic"], shapes={"nic": {"same": {"all": (500.0, 0.0, 0.0, 64, 3, 1.0, None)}}})
    for row in record["results"]:
        row["cdf"] = {"ns": [500.0], "p": [1.0]}
    style.svg(figures.fig_cdf(record, "nic"))
    for row in record["results"]:
        row["cdf"] = {"ns": [], "p": []}
    style.svg(figures.fig_cdf(record, "nic"))


def test_cdf_of_an_unknown_scenario(record: dict[str, Any]) -> None:
    with pytest.raises(KeyError):
        figures.fig_cdf(record, "no such scenario")


def test_wire_bars_sum_to_the_bytes_on_the_wire(record: dict[str, Any]) -> None:
    (axes,) = figures.fig_wire(record).axes
    ends: dict[float, float] = {}
    for bar in axes.patches:
        ends[bar.get_y()] = max(ends.get(bar.get_y(), 0.0), bar.get_x() + bar.get_width())
    labels = [float(text.get_text()) for text in axes.texts if text.get_text().strip()[:1].isdigit()]
    assert [round(v, 3) for _, v in sorted(ends.items())] == labels
    rows = [r for r in record["results"] if r["class"] == "all"]
    assert {round(r["wire"]["wire_bytes"] / r["wire"]["payload_bytes"], 3) for r in rows} == set(labels)


def test_protections_equal_on_the_wire_share_a_bar(record: dict[str, Any]) -> None:
    (axes,) = figures.fig_wire(record).axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert "SEV-PCIe all = PCIe IDE all" in names
    assert "PCIe IDE all" not in names


def test_an_arm_keeps_its_colour() -> None:
    sev = view.Arm("sev-pcie", "all")
    other = view.Arm("vendor-x", "all")
    assert style.arm_colours([sev])[sev] == style.arm_colours([other, sev])[sev]
    many = [view.Arm(f"vendor-{i}", "all") for i in range(11)]
    assert len(style.arm_colours(many)) == 11


def test_hostile_and_long_names_are_drawn_as_text() -> None:
    record = make_record(["nvme", "mix"])
    for row in record["results"]:
        row["workload"] = HOSTILE + row["workload"]
        row["class"] = "日本 " + row["class"] * 20
    for name, figure in every(record).items():
        text = style.svg(figure, name)
        assert "<script" not in text
        assert "alert" not in text
        assert "<!--" not in text
    assert overlaps(figures.fig_overhead(record)) == []


def test_nothing_to_compare_and_nothing_moved() -> None:
    record = make_record(["nic"], arms=(), shapes={"nic": {"one": SHAPES["nic"]["imix_rx"]}})
    for row in record["results"]:
        row["wire"]["payload_bytes"] = 0
    for figure in every(record).values():
        style.svg(figure)


def test_nulls_are_left_out() -> None:
    record = make_record(["gpu"])
    for row in record["results"]:
        if row["overhead"]:
            row["overhead"] = dict.fromkeys(row["overhead"])
            row["verdict"] = None
    for figure in every(record).values():
        assert overlaps(figure) == []
