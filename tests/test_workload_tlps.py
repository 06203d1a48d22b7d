"""Recorded TLPs as a workload: what the project builds of a program, recorded and replayed, is that one."""

import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import tlp_records
from step_listing import listing
from test_workload_programs import gpu_job, nic_loop, nvme_loop, run, steps_of

from sevpcie_core import cli
from sevpcie_core.errors import ConfigError, FormatError
from sevpcie_core.experiment.looks import document
from sevpcie_core.experiment.scenario import Scenario, scenario_from_trace
from sevpcie_core.policy import decide, draw_map
from sevpcie_core.spec import BUFFER_DATA, BUFFER_MMIO, BUFFER_MSI, BUFFER_NAMES, BUFFER_QUEUE
from sevpcie_core.tlp import build, kinds
from sevpcie_core.tlp.codec import pack
from sevpcie_core.workload import tlps, traces
from sevpcie_core.workload.expand import Sizes, expand
from sevpcie_core.workload.program import DELAY, READ_UP, WRITE_DOWN, Program
from sevpcie_core.workload.traces.records import TLP_DTYPE

SIZES = Sizes(256, 512, 64, 256)
DEVICE, HOST = 0x0100, 0x0000
PICOSECONDS = 4_000


def wires(batch):
    data, offsets = pack(batch)
    return [data[a:b].tobytes() for a, b in pairwise(offsets)]


def recorded(program, sizes=SIZES):
    """Yield (way, bytes) of the TLPs of a program's steps, as the project's own builder makes them."""
    tag = 0
    for step in steps_of(program):
        address, size = int(step["address"]), int(step["bytes"])
        if step["kind"] == DELAY or not size:
            continue
        if step["kind"] != READ_UP:
            down = step["kind"] == WRITE_DOWN
            batch = build.memory_writes(address, size, mps=sizes.mps, requester=HOST if down else DEVICE)
            yield from (("down" if down else "up", wire) for wire in wires(batch))
            continue
        reads = build.memory_reads(address, size, mrrs=sizes.mrrs, requester=DEVICE, first_tag=tag)
        for wire, row in zip(wires(reads), reads.tlps, strict=True):
            yield "up", wire
            stop = min((address // sizes.mrrs + 1) * sizes.mrrs, int(step["address"]) + size)
            answers = build.completions(
                address,
                stop - address,
                rcb=sizes.rcb,
                limit=sizes.completion_bytes,
                requester=DEVICE,
                completer=HOST,
                tag=int(row["tag"]),
            )
            yield from (("down", answer) for answer in wires(answers))
            address = stop
        tag = (tag + len(reads)) % 1024


def written(path, found, payload=True, direction=True):
    """Write TLPs as text, one every PICOSECONDS; without payloads or directions if asked."""
    lines = ["time_ns,direction,tlp"]
    for n, (way, wire) in enumerate(found):
        shown = wire if payload else wire[: 16 if wire[0] & 0x20 else 12]
        lines.append(f"{n * PICOSECONDS / 1000:.3f},{way if direction else ''},{shown.hex()}")
    path.write_text("\n".join(lines) + "\n")
    return traces.read_tlp(path)


def replayed(records, named=()):
    return tlps.replay(records, tlps.capture(records), named)


def counted(program, sizes=SIZES):
    """Return of each kind and way how many TLPs a program has, and their bytes."""
    counts, size = Counter(), Counter()
    for some in expand(program.chunks(), sizes):
        for tlp in some:
            key = int(tlp["kind"]), int(tlp["down"])
            counts[key] += 1
            size[key] += int(tlp["bytes"])
    return counts, size


PROGRAMS = {
    "nvme": lambda seed: nvme_loop(requests=40, seed=seed, flush_share=0.1, trim_share=0.1, read_share=0.4),
    "nic rx": lambda seed: nic_loop(requests=60),
    "nic tx": lambda seed: nic_loop(requests=60, direction=1, msi=4, completions=4),
    "gpu": lambda seed: gpu_job(
        [(0, 1000, 0, 70_000, 1), (5_000, 1000, 1, 5_001 + seed, 1), (9_000, 1, 2, 0, 1)]
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize(("payload", "direction"), [(True, True), (False, True), (True, False)])
def test_what_a_program_sends_is_replayed_as_it_was(tmp_path, name, payload, direction):
    for seed in (1, 2):
        program = PROGRAMS[name](seed)
        records = written(tmp_path / "trace.csv", recorded(program), payload, direction)
        again = replayed(records)
        assert counted(again) == counted(program)
        # Each completion answered a read, and all of each.
        found = tlps.capture(records)
        assert found.answered == found.classes["read"].count
        assert (found.refused, found.stray, found.left_out) == (0, 0, {})
        # A link that takes as much or more in one TLP changes nothing of what was asked for.
        wider = replace(SIZES, mps=512, mrrs=4096, completion_bytes=512)
        reads = counted(again, wider)
        assert reads[0][1, 0] == counted(program)[0][1, 0]


def test_smaller_sizes_cut_what_was_recorded(tmp_path):
    program = PROGRAMS["nvme"](1)
    records = written(tmp_path / "trace.csv", recorded(program))
    small = Sizes(128, 128, 64, 128)
    assert counted(replayed(records), small) == counted(program, small)


@st.composite
def recordings(draw):
    """Draw TLP_DTYPE[n], with few IDs, so that completions meet reads."""
    n = draw(st.integers(1, 40))
    records = np.zeros(n, TLP_DTYPE)
    some = [0x00, 0x20, 0x40, 0x60, 0x4A, 0x4A, 0x0A, 0x04, 0x30, 0x6C, 0x21]
    records["t_ps"] = np.cumsum(draw(st.lists(st.integers(0, 10**6), min_size=n, max_size=n)))
    for name, values in {
        "address": st.sampled_from([0, 4093, 4096, 0xFEE00000, 0xE0000000, 1 << 32, (1 << 32) + 8]),
        "bytes": st.integers(0, 300),
        "requester": st.sampled_from([0, 0x100, 0xFFFF]),
        "tag": st.integers(0, 2),
        "kind": st.sampled_from(some),
        "down": st.integers(0, 1),
        "at": st.sampled_from([0, 0, 1, 2]),
    }.items():
        records[name] = draw(st.lists(values, min_size=n, max_size=n))
    return records


def rows(records):
    return [tuple(int(value) for value in record) for record in records.tolist()]


@settings(max_examples=200, deadline=None)
@given(records=recordings())
def test_a_slow_count_says_the_same(records):
    operations, moved, answered, refused, stray, latencies, left_out = tlp_records.tally(rows(records))
    found = tlps.capture(records)
    assert {name: c.count for name, c in found.classes.items() if c.count} == operations
    assert {name: c.size for name, c in found.classes.items() if c.size} == +moved
    assert (found.answered, found.refused, found.stray) == (answered, refused, stray)
    assert (found.latency.samples, found.latency.total_ps) == (answered, sum(latencies))
    assert sum(found.left_out.values()) == left_out.total()
    assert set(found.left_out) == {
        f"{kinds.name(kind)}{' (translation request)' if asks else ''} {'down' if down else 'up'}"
        for kind, asks, down in left_out
    }
    if not operations:
        with pytest.raises(FormatError, match="no memory write, and no memory read of the device"):
            replayed(records)
        return
    program = replayed(records)
    steps = steps_of(program)
    taken = records[tlps.classify(records) <= tlps.DOORBELL]
    assert steps["not_before_ps"].tolist() == taken["t_ps"].tolist()
    assert steps["address"].tolist() == taken["address"].tolist()
    assert steps["bytes"].tolist() == np.maximum(taken["bytes"], 1).tolist()
    assert Counter(program.stats[stat] for stat in steps["stat"]) == operations
    # Its own class is that of the region where it lies.
    regions = draw_map(program.regions, dict.fromkeys(BUFFER_NAMES, 1.0), 1)
    assert decide("selective", steps, regions).all()
    for step in steps:
        (region,) = [r for r in program.regions if r["start"] <= step["address"] < r["end"]]
        assert region["buffer"] == step["buffer"]
        if step["kind"] == WRITE_DOWN:
            assert step["buffer"] in (BUFFER_MMIO, BUFFER_MSI)


def test_more_reads_than_are_told_apart_are_not_matched(monkeypatch):
    monkeypatch.setattr(tlps, "_SLOTS", 4)
    records = np.zeros(12, TLP_DTYPE)
    records["t_ps"] = np.arange(12)
    records["kind"][6:], records["down"][6:] = 0x4A, 1
    records["tag"] = [*range(6), *range(6)]
    records["bytes"] = 64
    found = tlps.capture(records)
    assert (found.answered, found.stray) == (4, 2)


def test_reads_that_are_over_make_room(monkeypatch):
    """However many devices and tags there are, one after the other."""
    monkeypatch.setattr(tlps, "_SLOTS", 4)
    records = np.zeros(200, TLP_DTYPE)
    records["t_ps"] = np.arange(200)
    records["kind"][1::2], records["down"][1::2] = 0x4A, 1
    records["tag"] = np.repeat(np.arange(100), 2)
    records["bytes"] = 64
    found = tlps.capture(records)
    assert (found.answered, found.stray) == (100, 0)
    assert found.latency.samples == 100


def one(kind, address, size=4, down=0, t_ps=0):
    record = np.zeros(1, TLP_DTYPE)
    record["kind"], record["address"], record["bytes"] = kind, address, size
    record["down"], record["t_ps"] = down, t_ps
    return record


def test_classes_of_buffers():
    records = np.concatenate(
        [
            one(0x40, 0xE000_1000, down=1),
            one(0x40, 0xFEE0_0000),
            one(0x60, 0x1_0000_0000, 64),
            one(0x20, 0x1_0000_1000, 64),
            one(0x20, 0x1_0000_1800, 64),
            one(0x40, 0x0802_0040),
        ]
    )
    named = [tlps.parse_named(text) for text in ("queue=0x100001000+2KiB", "msi=0x8020000+65536")]
    program = replayed(records, named)
    expected = [BUFFER_MMIO, BUFFER_MSI, BUFFER_DATA, BUFFER_QUEUE, BUFFER_DATA, BUFFER_MSI]
    assert steps_of(program)["buffer"].tolist() == expected
    assert program.stats == ("read", "write", "doorbell")
    assert program.pooled == 2
    # What is named is one buffer; a page is another.
    ends = {(int(r["start"]), int(r["end"])) for r in program.regions}
    assert {(0x1_0000_1000, 0x1_0000_1800), (0x1_0000_0000, 0x1_0000_1000), (0x802_0000, 0x803_0000)} <= ends


def test_the_last_page_of_all_ends_within_64_bits(monkeypatch):
    monkeypatch.setattr(tlps, "_MOST_PAGES", 8)
    records = np.concatenate([one(0x60, (1 << 63) - 8192 - 4096 * n, t_ps=99 - n) for n in range(100)])
    regions = replayed(records[::-1]).regions
    assert int(regions["end"][-1]) == (1 << 63) - 1


def test_many_pages_become_larger_ones(monkeypatch):
    monkeypatch.setattr(tlps, "_MOST_PAGES", 8)
    monkeypatch.setattr(tlps, "_PIECE", 16)
    records = np.concatenate([one(0x60, (1 << 32) + 4096 * n, t_ps=n) for n in range(100)])
    regions = replayed(records).regions
    data = regions[regions["buffer"] == BUFFER_DATA]
    assert len(data) == 7
    assert set((data["end"] - data["start"]).tolist()) == {16 * 4096}
    assert data["start"][0] == 1 << 32


def test_chunks_of_any_size_give_the_same(monkeypatch):
    rng = np.random.default_rng(1)
    records = np.concatenate(
        [one(int(rng.choice([0x60, 0x20, 0x04])), (1 << 32) + 64 * n, t_ps=10 * n) for n in range(50)]
    )
    whole = steps_of(replayed(records))
    monkeypatch.setattr(tlps, "_CHUNK", 3)
    program = replayed(records)
    assert steps_of(program).tobytes() == whole.tobytes()
    horizon = 0
    for chunk in program.chunks():
        assert (chunk.steps["not_before_ps"] >= horizon).all()
        horizon = chunk.horizon_ps
    outcome = run(program)
    assert sum(c.requests for c in outcome.classes) == len(whole)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mmio=0+4", "'mmio'; expected one of data, queue, msi"),
        ("queue", "''; expected ADDRESS"),
        ("queue=1", "'1'; expected ADDRESS"),
        ("queue=x+1", "'x"),
        ("queue=0x10+0", "1 byte or more below 2"),
        ("queue=-1+4", "'-1"),
        ("queue=0x8000000000000000+1", "below 2"),
        ("queue=0x7ffffffffffffff0+16", "below 2"),
        ("queue=1+1KB KiB", "expected ADDRESS"),
    ],
)
def test_buffers_that_are_none(text, said):
    with pytest.raises(ValueError, match=said):
        tlps.parse_named(text)


# --- On the command line, and in files ------------------------------------------------------------------


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "tlps.csv"
    written(path, recorded(nvme_loop(requests=400, queue_depth=8)))
    return path


def test_a_comparison_of_a_recording(trace, capsys):
    assert cli.main(["compare", "--trace", str(trace), "--quick", "--seeds", "2", "--wide", "--quiet"]) == 0
    printed = capsys.readouterr().out
    for word in ("Replay of tlps.csv on endpoint, gen5x16", "read", "write", "doorbell"):
        assert word in printed


def test_a_look_at_a_recording(trace, capsys):
    with trace.open("a") as file:
        file.write("9e9,down,04000001 0000000f 01000000\n9e9,up,4a000001 01000004 00000000 12345678\n")
    assert cli.main(["workload", "show", str(trace), "--as"]) == 2
    capsys.readouterr()
    assert cli.main(["workload", "show", str(trace), "--link", "gen4x8"]) == 0
    out, err = capsys.readouterr()
    assert re.search(r"reads +[\d,]+ of [\d,]+ are answered in full, as captured p50 \d+", out)
    assert re.search(r"left out +1 CplD up, 1 CfgRd0 down|left out +1 CfgRd0 down, 1 CplD up", out)
    assert "TLPs that the model has no steps for are left out: 1 " in err
    found = document(str(trace))["workloads"][0]["devices"][0]
    assert found["arrivals"] == "recorded"
    assert found["trace"]["format"] == "tlp-csv"
    assert found["trace"]["left_out"] == {"CfgRd0 down": 1, "CplD up": 1}
    assert found["operations"]["by_class"].keys() == {"read", "write", "doorbell"}


def test_sizes_above_the_link_are_told(tmp_path, capsys):
    written(tmp_path / "t.csv", recorded(nvme_loop(requests=20), Sizes(1024, 4096, 64, 1024)))
    assert cli.main(["workload", "show", str(tmp_path / "t.csv")]) == 0
    error = capsys.readouterr().err
    assert "writes of up to 1024 B are cut at 256 B, MPS of the link gen5x16" in error


def test_options_reach_the_scenario(trace):
    usual = scenario_from_trace(trace)
    named = scenario_from_trace(trace, "tlp", "gen4x8", buffers=["queue=0x100000000+64KiB"], limit=300)
    (device,) = named.resolve().workloads[0].devices
    assert device.traffic.buffers == ("queue=0x100000000+64KiB",)
    assert device.link.gen == 4
    assert named.digest() != usual.digest()
    assert Scenario.from_dict(named.to_dict()).digest() == named.digest()
    with pytest.raises(ConfigError, match=r"--buffers 'mmio'; expected one of data, queue, msi"):
        scenario_from_trace(trace, buffers=["mmio=0+4"])
    with pytest.raises(ConfigError, match=r"--local '10.0.0.1'; expected BUS:DEVICE.FUNCTION"):
        scenario_from_trace(trace, local="10.0.0.1")
    with pytest.raises(ConfigError, match=r"--pace line: tlps.csv is tlp-csv, of kind 'tlp'; only"):
        scenario_from_trace(trace, pace="line")
    with pytest.raises(ConfigError, match=r"--buffers msi=0[+]4: .* of kind 'nic'; only recordings of TLPs"):
        scenario_from_trace("sample:redis", buffers=["msi=0+4"])
    with pytest.raises(ConfigError, match="expected a trace of kind 'nvme'"):
        scenario_from_trace(trace, "nvme")


def test_nothing_to_replay(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("time_ns,direction,tlp\n0,down,04000001 0000000f 01000000\n")
    assert cli.main(["compare", "--trace", str(tmp_path / "t.csv")]) == 2
    error = capsys.readouterr().err
    assert "no memory write, and no memory read of the device; expected at least one" in error
    assert "there are 1 CfgRd0 down" in error
    assert error.count("\n") == 1


OPERATIONS = {
    "A read of 256 B, and what its completions are": ("read",),
    "A write of 64 B, an interrupt, and a doorbell": ("write", "interrupt", "doorbell"),
}


@pytest.mark.parametrize(("title", "names"), OPERATIONS.items())
def test_steps_of_the_page(root, tmp_path, title, names):
    page = (root / "docs" / "workloads.md").read_text()
    section = page[page.index(f"**{title}**") :]
    lines, shown = re.findall(r"^```text\n(.*?)^```", section, re.MULTILINE | re.DOTALL)[:2]
    path = tmp_path / "t.csv"
    path.write_text(lines)
    assert listing(replayed(traces.read_tlp(path)), names) == shown


def test_a_program_is_the_same_each_time(trace):
    records = traces.read_tlp(trace)
    program: Program = replayed(records)
    assert steps_of(program).tobytes() == steps_of(program).tobytes()
