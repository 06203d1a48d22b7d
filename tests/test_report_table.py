"""The tables say what the record says, in words that stay readable on any terminal and in a pipe."""

import copy
import io
import re
from typing import Any

import pytest
from records import ARMS, SHAPES, make_record
from rich.console import Console

from sevpcie_core.report import view
from sevpcie_core.report.cells import ASCII, parts
from sevpcie_core.report.sentence import basis, meaning, sentence
from sevpcie_core.report.table import print_summary, summary_text


def printed(record: dict[str, Any], width: int = 120, wide: bool = False, **console: Any) -> str:
    file = io.StringIO()
    print_summary(record, Console(file=file, width=width, **console), wide=wide)
    return file.getvalue()


def blocks(text: str) -> list[list[str]]:
    """Split a summary into the printed lines of each line of the table (they start at the margin)."""
    out: list[list[str]] = []
    for line in text.splitlines():
        if re.match(r"\w\S* +(-|[\d.]+ [num]?s) ", line):
            out.append([line])
        elif out and line.startswith(" "):
            out[-1].append(line)
        elif out and not line:
            out.append([])
    return [block for block in out if block]


def test_summary_has_one_block_per_line_with_the_numbers_of_the_record() -> None:
    record = make_record()
    lines = view.all_lines(record)
    found = blocks(summary_text(record))
    assert len(found) == len(lines)
    for line, block in zip(lines, found, strict=True):
        text = "\n".join(block)
        assert block[0].startswith(line.workload + " ")
        assert line.class_title in text
        assert line.baseline is not None
        assert view.time_text(line.baseline["latency_ns"]["p50"]) in block[0]
        assert view.time_text(line.baseline["latency_ns"]["p99"]) in block[0]
        for row in line.protected.values():
            entry = row["overhead"]["latency_p50"]
            assert f"{row['verdict']['end_to_end']} " in block[0]
            assert f"{entry['value_pct']:+.2f} %" in block[0] or f"{entry['value_pct']:+.1f} %" in block[0]
            assert view.time_text(entry["added_ns"], signed=True) in block[1]
            assert view.span_text(entry["range_low_pct"], entry["range_high_pct"]) in block[1]


def test_protections_stand_side_by_side_in_the_order_of_the_record() -> None:
    head = next(line for line in summary_text(make_record()).splitlines() if "plaintext  " in line)
    places = [head.index(title) for title in ("SEV-PCIe selective", "SEV-PCIe all", "PCIe IDE all")]
    assert places == sorted(places)


def test_lines_of_a_summary() -> None:
    shown = [(line.scenario, line.workload, line.cls) for line in view.all_lines(make_record())]
    assert ("nvme", "randread4k", "dram") in shown  # a line per device
    assert ("nvme", "randread4k", "all") not in shown  # devices are not mixed
    assert ("gpu", "resnet_train", "all") in shown  # a line per job: its copies
    assert ("gpu", "resnet_train", "launch") not in shown
    assert [c for s, _, c in shown if s == "mix"] == ["nvme", "nic", "gpu"]  # nor are kinds of them


@pytest.mark.parametrize(
    ("classes", "shown"),
    [
        (["all"], ["all"]),
        (["all", "read", "write"], ["read", "write"]),
        (["all", "rx", "tx"], ["rx", "tx"]),
        (["all", "h2d", "d2h", "launch"], ["all"]),
        (["all", "a", "b"], ["a", "b"]),
        (["all", "a", "a/read", "a/write", "b"], ["a/read", "a/write", "b"]),
        # A device whose name begins as another's, and a GPU, whose copies stay together.
        (
            ["all", "s", "ss", "ss/read", "ss/write", "g", "g/h2d", "g/launch"],
            ["s", "ss/read", "ss/write", "g"],
        ),
    ],
)
def test_a_line_is_of_like_requests(classes: list[str], shown: list[str]) -> None:
    shape = SHAPES["nvme"]["randread4k"]["dram"]
    record = make_record(["nvme"], shapes={"nvme": {"w": dict.fromkeys(classes, shape)}})
    assert [line.cls for line in view.all_lines(record)] == shown
    every = [line.cls for line in view.scenarios(record, every_class=True)[0].lines]
    assert every == classes


def test_job_time_is_shown_with_what_is_added() -> None:
    record = make_record(["gpu"])
    row = next(r for r in record["results"] if r["scheme"] == "pcie-ide" and r["class"] == "all")
    job = next(line for line in summary_text(record).splitlines() if "job time" in line)
    assert "812 ms" in job
    assert view.time_text(row["overhead"]["job"]["added_ns"], signed=True) in job


def test_p99_is_shown_where_it_decides() -> None:
    text = summary_text(make_record(["nvme", "mix"]))
    block = next(b for b in blocks(text) if any(line.strip().startswith("nic") for line in b))
    assert "+1.86 %" in block[0]
    assert "inconclusive" in block[0]
    assert "p99 decides" in block[2]
    assert "+4.83 %" in block[2]
    assert "1.69..9.18 %" in block[3]


@pytest.mark.parametrize(
    ("p50", "p99", "overall", "note"),
    [
        ((1, 2, 4), (1, 2, 4), "within", ""),
        ((1, 2, 4), (6, 7, 9), "over", "p99 decides"),
        ((6, 7, 9), (1, 2, 4), "over", "p99 differs"),
        ((1, 2, 4), (2, 4, 8), "inconclusive", "p99 decides"),
        ((6, 7, 9), (6, 8, 10), "over", ""),
        ((1, 2, 4), None, "within", ""),
    ],
)
def test_note_on_p99(p50: tuple[float, ...], p99: tuple[float, ...] | None, overall: str, note: str) -> None:
    def entry(ends: tuple[float, ...] | None) -> dict[str, float] | None:
        if ends is None:
            return None
        low, value, high = ends
        return {"value_pct": value, "range_low_pct": low, "range_high_pct": high}

    row = {
        "overhead": {"latency_p50": entry(p50), "latency_p99": entry(p99)},
        "verdict": {"end_to_end": overall, "io_path": overall},
    }
    assert view.tail_note(row, 5.0) == note


def test_verdict_of_one_percentile_counts_the_interval_and_the_range() -> None:
    entry = {
        "value_pct": 4.0,
        "ci_low_pct": 3.0,
        "ci_high_pct": 4.9,
        "range_low_pct": 2.0,
        "range_high_pct": 4.5,
    }
    assert view.judge(entry, 5.0) == "within"
    assert view.judge(entry | {"ci_high_pct": 5.0}, 5.0) == "inconclusive"
    assert view.judge(entry | {"range_high_pct": 5.1}, 5.0) == "inconclusive"
    over = {
        "value_pct": 8.0,
        "ci_low_pct": 7.0,
        "ci_high_pct": 9.0,
        "range_low_pct": 5.1,
        "range_high_pct": 20.0,
    }
    assert view.judge(over, 5.0) == "over"
    assert view.judge(over | {"range_low_pct": 5.0}, 5.0) == "inconclusive"
    unknown = {
        "value_pct": 3.0,
        "ci_low_pct": None,
        "ci_high_pct": None,
        "range_low_pct": None,
        "range_high_pct": None,
    }
    assert view.judge(unknown, 5.0) == "within"
    assert view.judge(None, 5.0) is None


@pytest.mark.parametrize("width", [80, 120])
def test_it_fits(width: int) -> None:
    for line in printed(make_record(), width=width).splitlines():
        assert len(line) <= width, line


def test_narrow_terminal_has_a_printed_line_per_protection() -> None:
    lines = summary_text(make_record(["nvme"]), width=80).splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith("randread4k dram"))
    assert "p50 10.3 us" in lines[place]
    assert "limited by device" in lines[place]
    for line, (title, pct) in zip(
        lines[place + 1 :],
        [("SEV-PCIe selective", "+0.78 %"), ("SEV-PCIe all", "+0.91 %"), ("PCIe IDE all", "+0.95 %")],
        strict=False,
    ):
        assert line.split("  ")[1] == title
        assert "within" in line
        assert pct in line


@pytest.mark.parametrize("width", [80, 120])
def test_what_limits_under_one_protection_alone_stands_with_it(width: int) -> None:
    shapes = {"nic": {"w": {"all": (1_000, 0.1, 20, 64, 4_000, 1.0, None)}}}

    def found(*under: str) -> tuple[list[str], str]:
        record = make_record(["nic"], shapes=shapes)
        for row, limit in zip(record["results"], ("link", *under), strict=True):
            row["limited_by"] = limit
        text = summary_text(record, width=width)
        return text.splitlines(), " ".join(text.split())

    lines, text = found("engine", "engine", "engine")
    assert (text.count("> engine"), text.count("limited by engine")) == (1, 0)
    assert "limited by: without > with protection" in text
    lines, text = found("link", "engine", "host")
    assert "> engine" not in text
    assert "> host" not in text
    own = {"limited by engine": "SEV-PCIe all", "limited by host": "PCIe IDE all"}
    if width == 80:
        found_with = {}
        title = ""
        for line in lines:
            title = line.split("  ")[1] if re.match("  [A-Z]", line) else title
            if line.strip().startswith("limited by "):
                found_with[line.strip()] = title
        assert found_with == own
    else:
        head = next(line for line in lines if "plaintext  " in line)
        below = next(line for line in lines if "limited by engine" in line)
        assert {told: below.index(told) for told in own} == {k: head.index(v) for k, v in own.items()}
    assert "limited by: without protection, below one: with it" in text
    text = found("link", "link", "link")[1]
    assert "> " not in text
    assert "limited by: without protection" in text
    assert "below one" not in text


def test_many_protections_are_stacked() -> None:
    more = (*ARMS, ("pcie-ide", "selective"), ("bounce-buffer", "all"))
    text = summary_text(make_record(["nic"], arms=more), width=120)
    assert "bounce buffer all" in text
    assert all(len(line) <= 120 for line in text.splitlines())


def test_a_pipe_gets_ascii_without_colour() -> None:
    assert printed(make_record()).isascii()
    assert "\x1b" not in printed(make_record())
    assert printed(make_record(), wide=True).isascii()


def test_a_terminal_gets_symbols_and_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = printed(make_record(), force_terminal=True, color_system="standard", legacy_windows=False)
    assert "✓ within" in text
    assert "µs" in text
    assert re.search(r"\x1b\[1;31m✗ over", text)


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    text = printed(make_record(), force_terminal=True, color_system="standard", legacy_windows=False)
    assert text.isascii()
    assert "\x1b" not in text
    assert text == printed(make_record())


def wide_rows(text: str) -> list[str]:
    return [
        line
        for line in text.splitlines()
        if re.match(r"\w+ +(all|dram|tlc|h2d|d2h|launch|nvme|nic|gpu) ", line)
    ]


@pytest.mark.parametrize("width", [100, 120, 160])
def test_wide_is_folded_into_the_width_and_loses_nothing(width: int) -> None:
    record = make_record()
    whole, folded = (summary_text(record, width=w, wide=True) for w in (300, width))
    assert all(len(line) <= width for line in folded.splitlines())
    # Whatever stands in the row of one key, in whichever part of the table, in the order of its columns.
    found: dict[tuple[str, ...], list[str]] = {}
    for scenario in re.split(r"^-- ", folded, flags=re.MULTILINE)[1:]:
        for line in wide_rows(scenario):
            cells = re.split(r"  +", line.rstrip())
            found.setdefault((scenario.split()[0], *cells[:3]), []).extend(cells[3:])
    for scenario in re.split(r"^-- ", whole, flags=re.MULTILINE)[1:]:
        for line in wide_rows(scenario):
            cells = re.split(r"  +", line.rstrip())
            again = found[scenario.split()[0], *cells[:3]]
            assert [c for c in again if c != "-"] == [c for c in cells[3:] if c != "-"]


def test_wide_has_a_row_per_workload_class_and_protection() -> None:
    record = make_record()
    rows = wide_rows(summary_text(record, width=300, wide=True))
    assert len(rows) == len(record["results"])
    for line, row in zip(rows, record["results"], strict=True):
        assert line.startswith(row["workload"])
        assert view.time_text(row["latency_ns"]["p50"]) in line
        assert f"{row['throughput_gbps']:.2f}" in line
        assert line.endswith(row["limited_by"])
        if row["overhead"] is not None:
            for metric in ("latency_p50", "latency_p99"):
                entry = row["overhead"][metric]
                if entry is not None:
                    assert f" {view.pct_text(entry['value_pct'])} " in line
                    assert f"[{view.pct_text(entry['ci_low_pct'], False)}.." in line
                    assert f"..{view.pct_text(entry['range_high_pct'], False)} " in line
            assert row["verdict"]["io_path"] in line


def test_wide_shows_job_columns_only_for_jobs() -> None:
    assert " job " in summary_text(make_record(["gpu"]), width=300, wide=True).splitlines()[2]
    assert " job " not in summary_text(make_record(["nvme"]), width=300, wide=True).splitlines()[2]


def test_missing_percentiles_are_dashes_and_explained() -> None:
    record = make_record(["nic"], shapes={"nic": {"few": {"all": (1_000, 0.1, 10, 64, 120, 1.0, None)}}})
    assert record["results"][0]["latency_ns"]["p99"] is None
    text = summary_text(record)
    assert re.search(r"few +1.00 us +- ", text)
    assert "fewer than 10 samples" in " ".join(text.split())
    assert "fewer than 10 samples" not in summary_text(make_record(["nvme"]))
    assert "fewer than 10 samples" in summary_text(make_record(["gpu"]), wide=True)


def test_nothing_but_nulls_still_prints() -> None:
    record = make_record(["nic"])
    for row in record["results"]:
        row["latency_ns"] = dict.fromkeys(row["latency_ns"])
        if row["overhead"]:
            row["overhead"] = dict.fromkeys(row["overhead"])
            row["verdict"] = None
    for wide in (False, True):
        assert "imix_rx" in summary_text(record, wide=wide)
    assert "not judged 5" in sentence(record)


def test_below_five_seeds_nothing_is_over() -> None:
    over = (7.0, (None, None), (6.0, 9.0))
    record, row = one_line(latency_p50=NEAR, latency_p99=NEAR, throughput=over, io_path_p50=over)
    assert view.beside_latency(record, row) == []
    assert "! " not in summary_text(record)


def test_interval_is_a_dash_below_five_seeds() -> None:
    record = make_record(["nvme"], seeds=2)
    for row in record["results"]:
        for entry in (row["overhead"] or {}).values():
            if entry:
                entry["ci_low_pct"] = entry["ci_high_pct"] = None
    assert "[0." not in summary_text(record, wide=True)
    assert "2 paired seeds" in sentence(record)
    assert "below 5 seeds there is no interval" in " ".join(summary_text(record).split())
    assert "below 5 seeds" not in " ".join(summary_text(make_record(["nvme"])).split())


def one_line(**changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a record of one line and one protection, and the protected row in it; changes by metric."""
    shapes = {"nic": {"w": {"all": (1_000, 0.1, 20, 64, 4_000, 1.0, None)}}}
    record = make_record(["nic"], arms=ARMS[:1], shapes=shapes)
    row = record["results"][1]
    for metric, (value, interval, ends) in changes.items():
        found = {"value_pct": value, "added_ns": 10.0 * value}
        found |= {"ci_low_pct": interval[0], "ci_high_pct": interval[1]}
        row["overhead"][metric] = found | {"range_low_pct": ends[0], "range_high_pct": ends[1]}
    p50 = row["overhead"]["latency_p50"]
    row["verdict"] = {"end_to_end": view.judge(p50, 5.0), "io_path": "within"}
    return record, row


NEAR = (1.0, (0.9, 1.1), (0.5, 2.0))


def told(record: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return what is said of the one protection: what, per cent, time, bounds; all of it is in the table."""
    found = [(p.text, p.percent, p.added, p.span) for p in parts(record, record["results"][1], ASCII)]
    for width in (40, 120):
        text = summary_text(record, width=width)
        assert all(cell in text for part in found for cell in part)
    return found


@pytest.mark.parametrize(
    ("p50", "word", "bounds"),
    [
        # The range alone would be within, and over; the interval says that it is neither.
        ((2.0, (-3.0, 7.0), (1.0, 3.0)), "? inconclusive", "-3.00..7.00 % seeds"),
        ((8.0, (4.0, 12.0), (7.0, 9.0)), "? inconclusive", "4.00..12.0 % seeds"),
        # The range alone is open, or says the same.
        ((2.0, (1.0, 7.0), (1.0, 6.0)), "? inconclusive", "1.00..6.00 %"),
        ((2.0, (1.0, 3.0), (1.0, 4.0)), ". within", "1.00..4.00 %"),
        # Nothing is unknown: the interval is all there is.
        ((2.0, (1.0, 3.0), (None, None)), ". within", "1.00..3.00 % seeds"),
    ],
)
def test_what_decides_is_what_is_shown(p50: Any, word: str, bounds: str) -> None:
    record, _ = one_line(
        latency_p50=p50, latency_p99=p50, io_path_p50=NEAR, io_path_p99=NEAR, throughput=NEAR
    )
    assert told(record) == [(word, f"+{p50[0]:.2f} %", f"+{10 * p50[0]:.0f} ns", bounds)]
    legend = " ".join(summary_text(record).split())
    assert ("a..b seeds: the 95 % interval" in legend) == bounds.endswith("seeds")
    assert "saturated" not in legend


@pytest.mark.parametrize(
    ("saturated", "percent", "added", "bounds"),
    [
        (["unfavourable"], "+50.0 %", "+500 ns", "17.0 % to saturated"),
        (["typical", "unfavourable"], "saturated", "-", "17.0 % to saturated"),
        (["favourable", "typical", "unfavourable"], "saturated", "-", "saturated"),
    ],
)
def test_a_latency_without_end_is_no_number(
    saturated: list[str], percent: str, added: str, bounds: str
) -> None:
    much = (50.0, (49.0, 51.0), (17.0, 184_590.0))
    record, row = one_line(latency_p50=much, latency_p99=much)
    row["saturated"] = saturated
    assert told(record) == [("! over", percent, added, bounds)]
    assert "184590" not in printed(record) + printed(record, wide=True)
    assert "saturated: more arrives than is carried" in " ".join(printed(record).split())
    assert f"Largest added latency: {percent} at p50" in " ".join(meaning(record))
    wide = " ".join(printed(record, wide=True, width=300).split())
    assert bounds.replace(" %", "") in wide
    assert ("[49.0..51.0]" in wide) == (percent != "saturated")


OVER = (7.0, (6.5, 7.5), (6.0, 9.0))
OPEN = (4.0, (3.5, 4.5), (3.0, 9.0))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"throughput": OVER}, [("! throughput", "+7.00 %", "lost", "6.00..9.00 %")]),
        ({"io_path_p50": OVER}, [("! I/O path p50", "+7.00 %", "+70 ns", "6.00..9.00 %")]),
        ({"io_path_p99": OVER}, [("! I/O path p99", "+7.00 %", "+70 ns", "6.00..9.00 %")]),
        ({"throughput": OPEN, "io_path_p50": OPEN}, []),
        # Where latency is over, all is said.
        ({"throughput": OVER, "io_path_p50": OVER, "latency_p50": OVER, "latency_p99": OVER}, []),
    ],
)
def test_over_the_budget_beside_latency_has_a_line(changes: dict[str, Any], expected: list[Any]) -> None:
    same = dict.fromkeys(("latency_p50", "latency_p99", "io_path_p50", "io_path_p99", "throughput"), NEAR)
    record, _ = one_line(**same | changes)
    assert told(record)[1:] == expected
    assert "I/O path" not in summary_text(make_record(["nic"]))
    text = " ".join(summary_text(record).split())
    assert ("over the budget, though latency" in text) == bool(expected)
    assert ("Verdicts judge latency" in text) == bool(expected)
    assert ("lost throughput (1)" in text) == ("throughput" in changes and bool(expected))


@pytest.mark.parametrize(
    ("requests", "seeds", "shown"),
    [
        # One of 99 and of 101 copies is 1 %, by which the low end of 6 % is above the budget.
        (5 * 99, 5, False),
        (5 * 101, 5, True),
        # Seeds round alike, so that more of them do not help.
        (20 * 99, 20, False),
        (20 * 101, 20, True),
        (4, 5, False),
        (0, 5, False),
    ],
)
def test_lost_throughput_is_more_than_a_request_of_each_run(requests: int, seeds: int, shown: bool) -> None:
    same = dict.fromkeys(("latency_p50", "latency_p99", "io_path_p50", "io_path_p99"), NEAR)
    record, row = one_line(**same, throughput=(7.0, (6.5, 7.5), (6.0, 9.0)))
    row["requests"] = requests
    record["seeds"] = list(range(seeds))
    del record["options"]["scenarios"][0]["scenario"]["seeds"]
    assert ("! throughput" in summary_text(record)) == shown
    assert ("lost throughput" in sentence(record)) == shown
    # A scenario of a record with others says how many are its own.
    record["seeds"] = list(range(100))
    record["options"]["scenarios"][0]["scenario"]["seeds"] = seeds
    assert ("! throughput" in summary_text(record)) == shown


@pytest.mark.parametrize(
    ("scheme", "title"),
    [
        ("sev-pcie", "SEV-PCIe"),
        ("sev-pcie-shared", "SEV-PCIe shared"),
        ("pcie-ide-by-four", "PCIe IDE by-four"),
        ("bounce-buffer", "bounce buffer"),
        ("sev-pcies", "sev-pcies"),
        ("our-rtl", "our-rtl"),
        ("none-such", "none-such"),
        ("none", "plaintext"),
    ],
)
def test_schemes_are_named_alike(scheme: str, title: str) -> None:
    assert view.scheme_title(scheme) == title


def test_a_long_title_is_cut_at_the_width() -> None:
    record = make_record(["nvme"])
    record["options"]["scenarios"][0]["scenario"]["title"] = "much " * 40
    assert "much much" in summary_text(record, width=80)
    assert all(len(line) <= 80 for line in summary_text(record, width=80).splitlines())


def test_no_protections_and_one_workload() -> None:
    record = make_record(["nic"], arms=(), shapes={"nic": {"imix_rx": SHAPES["nic"]["imix_rx"]}})
    text = summary_text(record)
    assert "imix_rx" in text
    assert "1.48 us" in text
    assert "No protection was compared" in text
    one = make_record(["nic"], arms=ARMS[:1], shapes={"nic": {"imix_rx": SHAPES["nic"]["imix_rx"]}})
    assert "over 1 line:" in sentence(one)


@pytest.mark.parametrize(
    ("decided_by", "p50", "p99", "seeds", "said"),
    [
        ("engine.keystream_ahead", NEAR, NEAR, 5, "each over its range: engine.keystream_ahead (1)."),
        ("samples", NEAR, NEAR, 5, "too few samples for p50 (1)."),
        ("seeds", (2.0, (-3.0, 7.0), (1.0, 3.0)), NEAR, 5, "what differs from seed to seed: p50 (1)."),
        ("seeds", (2.0, (1.0, 7.0), (1.0, 6.0)), NEAR, 5, "from seed to seed: p50 beside its range (1)."),
        # The line shows what the engine does to p50; what is open is p99.
        ("seeds", (2.0, (1.0, 3.0), (1.0, 6.0)), (2.0, (-9.0, 9.0), (1.0, 3.0)), 5, "seed to seed: p99 (1)."),
        ("seeds", NEAR, NEAR, 3, "fewer than 5 seeds, so no interval (1)"),
    ],
)  # fmt: skip
def test_what_leaves_a_result_open_is_said_in_words(
    decided_by: str, p50: Any, p99: Any, seeds: int, said: str
) -> None:
    record, row = one_line(latency_p50=p50, latency_p99=p99)
    row["verdict"]["end_to_end"], row["decided_by"] = "inconclusive", decided_by
    record["seeds"] = record["seeds"][:seeds]
    assert said in sentence(record).partition("What leaves results inconclusive: ")[2]


def test_another_baseline_is_named() -> None:
    record = make_record(["nvme"])
    record["options"]["baseline"] = "bounce-buffer"
    for row in record["results"]:
        if row["scheme"] == "none":
            row["scheme"] = "bounce-buffer"
    text = summary_text(record)
    assert "over bounce buffer; budget" in text
    assert "plaintext  " not in text


def test_a_name_cannot_steer_the_terminal() -> None:
    record = make_record(["nvme"])
    for row in record["results"]:
        row["workload"] = "\x1b[2J[bold]red[/bold]\r\n"
        row["decided_by"] = "\x07bell"
    record["options"]["scenarios"][0]["scenario"]["title"] = "a\nb\x9b31m"
    for wide in (False, True):
        text = printed(record, wide=wide, width=200)
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
        assert "?[2J[bold]red[/bold]??" in text


def test_names_survive_an_ascii_stream() -> None:
    record = make_record(["nvme"])
    record["options"]["scenarios"][0]["scenario"]["title"] = "größer"
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    print_summary(record, Console(file=file, width=120))
    file.flush()
    assert b"gr??er" in raw.getvalue()


def test_two_prints_are_the_same() -> None:
    assert summary_text(make_record()) == summary_text(copy.deepcopy(make_record()))


# The sentences


def test_sentence_counts_verdicts_and_names_the_worst() -> None:
    record = make_record(["nic"])
    text = " ".join(meaning(record))
    assert "5 % budget, over 5 lines" in text
    assert "SEV-PCIe selective: inconclusive 4, over 1" in text
    assert "+18.0 % at p50 (imix_tx in nic, PCIe IDE all)" in text
    assert "engine.bytes_per_clock (12)" in text


def test_sentence_when_all_is_well() -> None:
    text = sentence(make_record(["nvme"]))
    assert "Every protection stays within the 5 % budget on all 4 lines." in text
    assert "inconclusive" not in text


def test_sentence_says_on_what_it_rests() -> None:
    text = " ".join(basis(make_record(["nvme"])))
    for said in (
        "5 paired seeds",
        "not measured",
        "profile",
        "PCIe IDE is the standard",
        "only some are measured",
    ):
        assert said in text
    only_standard = " ".join(basis(make_record(["nvme"], arms=(("pcie-ide", "all"),))))
    assert "SEV-PCIe" not in only_standard


def test_incomplete_and_quick_runs_say_so() -> None:
    record = make_record(["nvme"], quick=True)
    record["complete"] = False
    assert "INCOMPLETE" in sentence(record)
    assert "quick" in sentence(record)
    assert "INCOMPLETE" in summary_text(record).splitlines()[0]


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0.0, "0.00 ns"),
        (3.214, "3.21 ns"),
        (80.4, "80 ns"),
        (999.4, "999 ns"),
        (999.6, "1.00 us"),
        (10_300, "10.3 us"),
        (999_600, "1.00 ms"),
        (812.4e6, "812 ms"),
        (1.204e9, "1.20 s"),
        (-41.6, "-42 ns"),
        (None, "-"),
    ],
)
def test_times(ns: float | None, text: str) -> None:
    assert view.time_text(ns) == text


def test_percentages() -> None:
    assert [view.pct_text(v) for v in (0.834, 9.994, 9.996, 99.96, 250.2, -0.02, None)] == [
        "+0.83", "+9.99", "+10.0", "+100", "+250", "-0.02", "-",
    ]  # fmt: skip
    assert view.span_text(0.31, 12.34) == "0.31..12.3 %"
    assert view.span_text(-0.001, 0.2) == "0.00..0.20 %"
