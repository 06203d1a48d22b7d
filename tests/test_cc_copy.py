"""Copies through a bounce buffer: the closed form, its platform, and published curves."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevpcie_core import cli
from sevpcie_core.errors import ConfigError, FormatError
from sevpcie_core.experiment import presets
from sevpcie_core.experiment.copies import load_copy_platform
from sevpcie_core.experiment.scenario import load_scheme, preset_text
from sevpcie_core.experiment.staged import staging_of
from sevpcie_core.validate import cc_copy
from sevpcie_core.workload.bounce import Staging
from sevpcie_core.workload.copies import copy_ps, cyclic_hits

HEADER = "source,cc,op,memory,size_B,bw_GBps,implied_time_us"
PLATFORM = load_copy_platform("h100-tdx")
CASES = [(d, m) for d in ("h2d", "d2h") for m in ("pinned", "pageable")]
FAST = 10**30


def row(size=4096, cc="on", op="H2D", memory="pinned", scale=1.0, source="ispass25") -> str:
    bounce = PLATFORM.bounce if cc == "on" else None
    time = copy_ps(PLATFORM.plain, bounce, op.lower(), memory, size)
    return f"{source},{cc},{op},{memory},{size},{scale * 1e3 * size / time!r},{time / 1e6!r}"


@pytest.fixture
def data(tmp_path):
    """Return `data(lines)`, which writes a folder of reference data with one table of copies."""

    def write(*lines: str, header: str = HEADER) -> Path:
        folder = tmp_path / "data" / "published"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "gpu_copy_cc_on_off.csv").write_text("\n".join([header, *lines]) + "\n")
        return tmp_path / "data"

    return write


# --- Published curves ---------------------------------------------------------------------------------------


def test_pinned_copies_meet_their_bar(reference_data):
    found = cc_copy.compare(reference_data)
    assert len(found.points) == 100
    assert found.held_out == 48
    assert found.ok
    assert found.bar_mean_pct == 8
    held_out = [abs(p.error_pct) for p in found.points if not p.fitted]
    assert sum(held_out) / len(held_out) < found.bar_mean_pct


def test_pageable_copies_meet_their_bar(reference_data):
    found = cc_copy.compare_pageable(reference_data)
    assert (len(found.points), found.held_out, found.bar_mean_pct) == (100, 48, 12)
    assert found.ok


def test_the_readme_says_what_comes_out(root, reference_data):
    words = " ".join((root / "README.md").read_text().split())
    found = (cc_copy.compare(reference_data), cc_copy.compare_pageable(reference_data))
    pinned, pageable = (f"{one.mean_abs_error_pct:.1f} %" for one in found)
    assert f"{pinned} (pinned) and {pageable} (pageable memory)" in words


@pytest.mark.parametrize("name", ["cipher_setup", "cipher_rate", "link"])
def test_a_wrong_number_would_show(name, reference_data, monkeypatch):
    staging = PLATFORM.bounce.staging
    wrong = {
        "cipher_setup": {"bounce": replace(PLATFORM.bounce, staging=replace(staging, setup_ps=10**7))},
        "cipher_rate": {"bounce": replace(PLATFORM.bounce, staging=replace(staging, mb_per_s=2000))},
        "link": {"plain": replace(PLATFORM.plain, rate_bps={"h2d": 2 * 10**11, "d2h": 2 * 10**11})},
    }[name]
    monkeypatch.setattr(cc_copy, "load_copy_platform", lambda _: replace(PLATFORM, **wrong))
    assert cc_copy.compare(reference_data).ok is False


def test_published_numbers_stay_outside_of_the_project(root, reference_data):
    published = (reference_data / cc_copy.FILE).read_text()
    shipped = preset_text("platforms", "h100-tdx")
    rates = [line.split(",")[5] for line in published.splitlines()[1:]]
    assert not [rate for rate in rates if rate in shipped]
    assert not list((root / "sevpcie_core").rglob("gpu_copy_cc_on_off.csv"))


# --- What is read -------------------------------------------------------------------------------------------


def test_a_table_of_the_same_layout(data):
    folder = data(
        row(64), row(128, cc="off"), row(128, op="D2H"), row(64, memory="pageable"), row(64, source="other")
    )
    found = cc_copy.compare(folder)
    assert [p.conditions for p in found.points] == [
        "H2D, confidential mode on, pinned, 64 B",
        "H2D, confidential mode off, pinned, 128 B",
        "D2H, confidential mode on, pinned, 128 B",
    ]
    assert [p.fitted for p in found.points] == [True, False, False]
    assert found.max_abs_error_pct < 1e-9
    assert len(cc_copy.compare_pageable(folder).points) == 1


def test_sizes_that_numbers_were_found_with():
    sizes = [size for size in range(1, 5000) if cc_copy.fitted(size)]
    assert sizes == [1, 4, 16, 64, 256, 1024, 4096]


def test_an_absent_table_is_an_absent_set(tmp_path):
    found = cc_copy.compare(tmp_path)
    assert (found.ok, found.points, found.free_parameters) == (None, [], 9)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (row().replace("4096", "4k"), ":3: size_B: '4k'; expected a whole number from 1"),
        (row().replace("4096", "0"), ":3: size_B: '0'; expected a whole number from 1"),
        (row().replace("4096", "9" * 20), ":3: size_B"),
        ("ispass25,on,H2D,pinned,64,-1,1", ":3: bw_GBps: '-1'; expected a number above 0"),
        ("ispass25,on,H2D,pinned,64,inf,1", ":3: bw_GBps: 'inf'"),
        ("ispass25,on,H2D,pinned,64,,1", ":3: bw_GBps: ''"),
        (row() + ",1", ":3: 8 fields; expected 7"),
    ],
)
def test_bad_tables_are_one_line(line, words, data, capsys):
    folder = data(row(64), line)
    with pytest.raises(FormatError, match=r"gpu_copy_cc_on_off\.csv:3"):
        cc_copy.compare(folder)
    assert cli.main(["validate", "--data", str(folder)]) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("old", "new"), [("on", "maybe"), ("H2D", "D2D"), ("pinned", "mapped"), ("ispass25", "other")]
)
def test_rows_of_another_kind_are_counted_and_no_error(old, new, data, capsys):
    folder = data(row(64), row().replace(old, new, 1), row().replace(old, new, 1))
    found = cc_copy.compare(folder)
    assert len(found.points) == 1
    ((what, count),) = found.not_modelled.items()
    assert new in what
    assert count == 2
    # The second set of the same table does not tell of them again.
    assert cc_copy.compare_pageable(folder).not_modelled == {}
    cli.main(["validate", "--data", str(folder)])
    file, _, kind = what.partition(" ")
    assert f"2 rows of {file} not modelled\n  2 rows: {kind}\n" in capsys.readouterr().out


def test_a_table_without_a_column(data):
    with pytest.raises(FormatError, match="no column 'bw_GBps'"):
        cc_copy.compare(data(row(), header=HEADER.replace("bw_GBps", "rate")))


def test_on_the_command_line(data, tmp_path, capsys):
    folder = data(row(64), row(128), row(1 << 30), row(64, memory="pageable"))
    out = tmp_path / "out"
    assert cli.main(["validate", "--data", str(folder), "--json", "--out", str(out)]) == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)["datasets"]}
    assert found["cc_copy"] | {"mean_abs_error_pct": 0, "max_abs_error_pct": 0} == {
        "name": "cc_copy",
        "points": 3,
        "held_out_points": 1,
        "mean_abs_error_pct": 0,
        "max_abs_error_pct": 0,
        "bar_mean_pct": 8.0,
        "bar_max_pct": None,
        "free_parameters": 9,
        "ok": True,
    }
    assert found["cc_copy_pageable"]["free_parameters"] == 8
    rows = list(csv.DictReader((out / "points.csv").read_text().splitlines()))
    assert [r["fitted"] for r in rows] == ["1", "0", "1", "1"]
    assert "<svg" in (out / "cc_copy.svg").read_text()
    assert cli.main(["validate", "--data", str(data(row(64, scale=1.2)))]) == 99
    assert "MISSED" in capsys.readouterr().out


# --- The closed form ----------------------------------------------------------------------------------------


@given(size=st.integers(1, 1 << 32), more=st.integers(1, 1 << 20), case=st.sampled_from(CASES))
def test_a_longer_copy_takes_longer(size, more, case):
    # Not across the size from which small copies go another way.
    if case == ("h2d", "pageable") and size <= PLATFORM.plain.inline_bytes < size + more:
        return
    for bounce in (None, PLATFORM.bounce):
        short, long = (copy_ps(PLATFORM.plain, bounce, *case, n) for n in (size, size + more))
        assert short <= long


@given(size=st.integers(1, 1 << 32), direction=st.sampled_from(["h2d", "d2h"]))
def test_a_bounce_buffer_costs_at_least_its_staging(size, direction):
    plain = copy_ps(PLATFORM.plain, None, direction, "pinned", size)
    bounce = copy_ps(PLATFORM.plain, PLATFORM.bounce, direction, "pinned", size)
    # Submission hides behind staging, so that much may be saved.
    assert bounce - plain >= PLATFORM.bounce.staging.time_ps(size, 1) - PLATFORM.plain.submit_ps


@given(size=st.integers(1 << 20, 1 << 32), direction=st.sampled_from(["h2d", "d2h"]))
def test_without_time_for_staging_a_copy_is_plain(size, direction):
    free = replace(PLATFORM.bounce, staging=Staging(1, 0, FAST), shared_rate_bps=FAST, memory_rate_bps=FAST)
    plain = copy_ps(PLATFORM.plain, None, direction, "pinned", size)
    assert copy_ps(PLATFORM.plain, free, direction, "pinned", size) == pytest.approx(plain, rel=1e-9)


@given(
    rates=st.lists(st.integers(100, 10**6), min_size=2, max_size=2, unique=True), size=st.integers(1, 1 << 32)
)
def test_a_faster_cipher_is_not_slower(rates, size):
    slow, fast = (
        copy_ps(
            PLATFORM.plain,
            replace(PLATFORM.bounce, staging=Staging(1, 0, rate)),
            "h2d",
            "pinned",
            size,
        )
        for rate in sorted(rates)
    )
    assert fast <= slow


@given(size=st.integers(1, 1 << 40), cache=st.integers(1, 1 << 30))
def test_hits_of_a_repeated_sweep(size, cache):
    hits = cyclic_hits(size, cache)
    assert 0 <= hits <= 1
    assert hits == pytest.approx(math.exp(-(1 - hits) * size / cache), abs=1e-6)
    assert (hits == 1) == (size <= cache)
    assert cyclic_hits(size + cache, cache) <= hits


def test_the_scheme_stages_as_the_platform():
    # What the scheme charges per copy lies where the platform's copies do; its cipher is the same core's.
    typical = staging_of(load_scheme("bounce-buffer"), "gpu")
    found = PLATFORM.bounce.staging
    assert (typical.setup_ps, typical.mb_per_s) == (found.setup_ps, found.mb_per_s)


# --- The platform -------------------------------------------------------------------------------------------


def test_few_numbers_were_found():
    keys = [free.key for free in PLATFORM.free]
    assert sum(key.startswith("bounce.") for key in keys) <= 6
    assert "bounce.cipher_rate" not in keys
    assert PLATFORM.found_with("cc_copy") + PLATFORM.found_with("cc_copy_pageable") - 1 == len(keys)
    for free in PLATFORM.free:
        assert free.meaning
        assert free.rows.startswith("confidential mode o")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('submit = "1.9us"', 'submit = "19us"', "free: plain.submit = 19 us; expected 0.5 to 10"),
        ('key = "plain.piece"', 'key = "plain.chunk"', "free: key = 'plain.chunk'; expected TABLE.KEY"),
        ('key = "plain.piece"', 'key = "link.piece"', "free: key = 'link.piece'; expected TABLE.KEY"),
        ('key = "plain.piece"', 'key = "plain.submit"', "free: key = 'plain.submit' twice"),
        (
            'cipher_rate = """given',
            'nothing = """given',
            "bounce: cipher_rate without a source; expected one",
        ),
        ("[bounce.source]", "[bounce.sources]", "bounce: unknown key 'sources'"),
        ('kind = "copies"', 'kind = "dma"', "kind: 'dma'; expected 'copies'"),
        ('cache = "143MB"\n', "", "bounce: no key 'cache'"),
        ('unit = "MB"\nlow = 16', 'unit = "m"\nlow = 16', "unit: 'm'; expected 'us', 'GB/s' or 'MB'"),
    ],
)
def test_what_is_wrong_with_a_platform_is_one_line(old, new, words, tmp_path):
    text = preset_text("platforms", "h100-tdx")
    assert text.count(old) == 1
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_copy_platform(str(path))
    assert str(caught.value).startswith(f"{path}:")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_number_without_source_is_refused(tmp_path):
    text = preset_text("platforms", "h100-tdx")
    block = text[
        text.index('[[free]]\nkey = "bounce.cache"') : text.index('[[free]]\nkey = "bounce.memory_rate"')
    ]
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(block, ""))
    with pytest.raises(ConfigError, match=r"bounce: cache without a source; expected one, or an entry"):
        load_copy_platform(str(path))


def test_platforms_that_do_not_exist():
    with pytest.raises(ConfigError, match=r"'h100'; expected one of .*did you mean 'h100-tdx'"):
        load_copy_platform("h100")
    assert "h100-tdx" in presets.names("platforms")
