"""The raw DMA device: every byte once, where it may be, as many at a time as asked, as fast as its limits."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevpcie_core.errors import ConfigError
from sevpcie_core.link.analytic import Link, read_latency_ps, write_latency_ps
from sevpcie_core.link.params import link_row
from sevpcie_core.link.run import Outcome, simulate
from sevpcie_core.stats.draw import quantile_table
from sevpcie_core.workload.dma import LOW_MEMORY, MOST_GAP, Dma
from sevpcie_core.workload.program import (
    BEGIN,
    DELAY,
    EARLY1,
    EARLY2,
    END,
    FOREVER,
    READ_UP,
    WRITE_UP,
)

HOST_PS = 350_000
LINK = link_row(
    generation=3, lanes=8, mps=256, mrrs=512, rcb=64, completion_bytes=256, propagation_ps=0, tags=64
)
SHAPE = Link(generation=3, lanes=8)

devices = st.builds(
    Dma,
    kind=st.sampled_from(["read", "write", "both"]),
    size=st.integers(1, 3000),
    count=st.integers(1, 600),
    outstanding=st.integers(1, 300),
    apart=st.booleans(),
    pattern=st.sampled_from(["random", "sequential"]),
    window=st.integers(1 << 13, 1 << 22),
    seed=st.integers(0, 99),
)


def steps_of(dma: Dma) -> np.ndarray:
    return np.concatenate([c.steps for c in dma.program().chunks()])


def run(dma: Dma, keep: int = 0, host_ps: int = HOST_PS, link: np.ndarray = LINK) -> Outcome:
    return simulate(
        [dma.program()],
        link[None],
        host_table=quantile_table(((0.0, host_ps), (1.0, host_ps))),
        read_interval_ps=0,
        seed=1,
        markers=[lambda steps: np.zeros(len(steps), np.bool_)],
        keep=keep,
    )


@given(devices)
def test_every_transfer_once_where_it_may_be(dma):
    steps = steps_of(dma)
    moves = steps[np.isin(steps["kind"], (READ_UP, WRITE_UP))]
    assert len(moves) == dma.count
    assert list(moves["request"]) == list(range(dma.count))
    assert (moves["bytes"] == dma.size).all()
    offset = moves["address"] - dma.base
    assert (offset % dma.unit == 0).all()
    assert ((offset >= 0) & (offset + dma.unit <= dma.window)).all()
    assert (offset % 4096 + dma.size <= 4096).all()
    writes = moves["kind"] == WRITE_UP
    assert writes.sum() == {"read": 0, "write": dma.count, "both": (dma.count + 1) // 2}[dma.kind]


@given(devices)
def test_slots_and_dependencies(dma):
    steps = steps_of(dma)
    begins = np.flatnonzero(steps["flags"] & BEGIN)
    assert (steps["flags"] & END != 0).sum() == len(begins) == dma.count
    assert (begins % 4 == 0).all()
    waiting = begins[steps[begins]["after"] > 0]
    # A slot's next transfer waits for the last step of the one before, of a write for its acceptance.
    assert len(waiting) == max(dma.count - dma.slots, 0)
    before = waiting - steps[waiting]["after"]
    assert (steps[before]["flags"] & END != 0).all()
    assert (before // 4 == waiting // 4 - dma.slots).all()
    early = steps[waiting]["flags"] & EARLY1 != 0
    assert (early == (steps[before]["kind"] == WRITE_UP)).all()
    if dma.kind == "both":
        changes = steps[before]["kind"] != steps[waiting + 3]["kind"]
        assert changes.all() != dma.apart or not len(changes)


@given(devices)
def test_chunks_are_one_program_and_the_same_again(dma):
    once, again = steps_of(dma), steps_of(dma)
    longer = steps_of(replace(dma, count=dma.count + 300))[: 4 * dma.count]
    for name in set(once.dtype.names) - {"pad"}:
        assert (once[name] == again[name]).all(), name
        assert (once[name] == longer[name]).all(), name


@given(devices.filter(lambda d: d.count <= 200))
def test_all_complete(dma):
    outcome = run(dma)
    assert sum(one.requests for one in outcome.classes) == dma.count
    assert sum(one.application_bytes for one in outcome.classes) == dma.count * dma.size


@pytest.mark.parametrize("size", [1, 64, 200, 512])
def test_one_at_a_time_takes_what_the_closed_form_says(size):
    dma = Dma("read", size, 5, read_setup_ps=70_000, finish_ps=30_000, finish_ps_per_kib=1024 * 150)
    device = 70_000 + 30_000 + 150 * size
    assert set(run(dma, keep=5).kept_ps[0]) == {device + read_latency_ps(SHAPE, size, host_ps=HOST_PS)}
    dma = Dma("write", size, 5, write_setup_ps=20_000)
    assert set(run(dma, keep=5).kept_ps[0]) == {20_000 + write_latency_ps(SHAPE, size)}


def test_issue_is_the_least_time_between_two():
    for kind in ("read", "write"):
        few, many = (
            run(Dma(kind, 64, n, outstanding=64, read_issue_ps=30_000, write_issue_ps=30_000))
            for n in (200, 700)
        )
        took = max(c.last_end_ps for c in many.classes) - max(c.last_end_ps for c in few.classes)
        assert took == 500 * 30_000


def test_the_mover_is_taken_per_request_and_beat_by_reads_and_per_beat_by_writes():
    def took(kind: str, size: int) -> float:
        dma = Dma(kind, size, 1, outstanding=32, read_request_ps=50_000, beat_ps=9_000, write_beat_ps=9_000)
        ends = [max(c.last_end_ps for c in run(replace(dma, count=n)).classes) for n in (100, 300)]
        return (ends[1] - ends[0]) / 200

    assert took("read", 64) == 59_000
    # 130 B are three beats.
    assert took("read", 130) > 50_000 + 3 * 9_000 - 1
    # Aligned to 1,024 B, so always two requests.
    assert took("read", 1024) == 2 * 50_000 + 16 * 9_000
    # On the wire 2,048 B take 284 ns, the mover 288.
    assert took("write", 2048) == 32 * 9_000
    # By turns: half the transfers are writes, and both use the mover.
    assert took("both", 64) == pytest.approx((59_000 + 9_000) / 2)


def test_outstanding_reads_hide_the_latency_until_the_tags_do_not():
    one = run(Dma("read", 64, 300)).job_ps[0]
    four = run(Dma("read", 64, 300, outstanding=4)).job_ps[0]
    assert one / four == pytest.approx(4, rel=0.02)
    link = link_row(
        generation=3, lanes=8, mps=256, mrrs=512, rcb=64, completion_bytes=256, propagation_ps=0, tags=2
    )
    assert run(Dma("read", 64, 300, outstanding=8), link=link).job_ps[0] > 0.49 * one


def test_apart_the_faster_kind_runs_ahead():
    slow = {"kind": "both", "size": 64, "count": 400, "outstanding": 8, "read_issue_ps": 100_000}
    by_turns, apart = (run(Dma(**slow, apart=apart)) for apart in (False, True))
    reads, writes = by_turns.classes
    assert writes.last_end_ps > 0.9 * reads.last_end_ps
    reads, writes = apart.classes
    assert writes.last_end_ps < 0.3 * reads.last_end_ps


def test_headers_are_shorter_below_4_gib():
    high, low = (run(Dma("write", 64, 10, base=base)).classes[1] for base in (1 << 32, LOW_MEMORY))
    assert high.wire_bytes - low.wire_bytes == 10 * 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "copy"}, "kind: 'copy'; expected one of read, write, both"),
        ({"pattern": "zigzag"}, "pattern: 'zigzag'"),
        ({"size": 0}, "size: 0"),
        ({"count": 0}, "count: 0"),
        ({"outstanding": 0}, "outstanding: 0"),
        ({"read_setup_ps": -1}, "read_setup_ps: -1; expected 0 or more"),
        ({"stride": 32}, r"stride: 32; expected the size \(64\) or more"),
        ({"base": 100}, "base: 0x64; expected a multiple of 4096"),
        ({"window": 63}, "window: 63; expected 64 bytes or more"),
    ],
)
def test_what_cannot_be_is_named(changes, words):
    with pytest.raises(ConfigError, match=words):
        Dma(**({"kind": "read", "size": 64, "count": 1} | changes))


def test_transfers_longer_than_a_page_and_short_windows_have_places():
    long = steps_of(Dma("write", 10_000, 4, window=40_000, pattern="sequential"))
    assert list(long[3::4]["address"] - (1 << 32)) == [0, 10_048, 20_096, 0]
    # The only unit that fits does not lie in one page: it is used.
    only = steps_of(Dma("read", 3000, 2, window=3008))
    assert (only[1::4]["address"] == 1 << 32).all()
    assert (only["kind"][::4] == DELAY).all()


# --- open loop ----------------------------------------------------------------------------------------------

open_loops = st.builds(replace, devices, gap=st.integers(1, 1 << 34))


@given(open_loops)
def test_an_open_loop_asks_for_the_same_at_its_own_times(dma):
    steps = steps_of(dma)
    begins = steps["flags"] & BEGIN != 0
    assert np.array_equal(np.flatnonzero(begins), np.arange(dma.count) * 5)
    starts = steps["not_before_ps"][begins]
    assert (np.diff(starts) >= 0).all()
    assert not steps["after"][begins].any()
    assert not steps["after2"][begins].any()
    # What is behind the intended start is the transfer of a closed loop, which waits for its slot beside it.
    rest, closed = steps[~begins], steps_of(replace(dma, gap=0))
    for name in ("kind", "address", "bytes", "request", "delay_ps", "occupy_ps", "server"):
        assert np.array_equal(rest[name], closed[name]), name
    issues = np.arange(dma.count) * 5 + 1
    waits = steps[issues]["after2"]
    assert np.array_equal(waits > 0, np.arange(dma.count) >= dma.slots)
    before = (issues - waits)[waits > 0]
    assert np.array_equal(before // 5, issues[waits > 0] // 5 - dma.slots)
    assert (steps[before]["flags"] & END != 0).all()
    early = steps[issues]["flags"][waits > 0] & EARLY2 != 0
    assert np.array_equal(early, steps[before]["kind"] == WRITE_UP)


@given(open_loops)
def test_an_open_loop_is_one_program_and_tells_when_it_goes_on(dma):
    chunks = list(dma.program().chunks())
    for chunk, later in pairwise(chunks):
        assert chunk.horizon_ps <= later.steps["not_before_ps"][later.steps["flags"] & BEGIN != 0].min()
    assert chunks[-1].horizon_ps == FOREVER
    longer = steps_of(replace(dma, count=dma.count + 300))[: 5 * dma.count]
    once = np.concatenate([c.steps for c in chunks])
    for name in set(once.dtype.names) - {"pad"}:
        assert np.array_equal(once[name], longer[name]), name


def test_the_mean_rate_is_the_one_that_was_asked_for():
    for gap in (1 << 10, 700 << 10, MOST_GAP):
        last = steps_of(Dma("read", 64, 100_000, gap=gap))["not_before_ps"].max()
        assert last / 100_000 * 1024 == pytest.approx(gap, rel=0.01)


@pytest.mark.parametrize("load", [0.3, 0.9, 1.5])
def test_latency_counts_from_the_intended_start_whatever_the_slot_does(load):
    alone = read_latency_ps(SHAPE, 64, host_ps=HOST_PS)
    dma = Dma("read", 64, 400, gap=int(alone / load * 1024))
    starts = steps_of(dma)["not_before_ps"][::5]
    expected, free = [], 0
    for start in starts.tolist():
        free = max(start, free) + alone
        expected.append(free - start)
    assert run(dma, keep=400).kept_ps[0].tolist() == expected


@given(open_loops.filter(lambda d: d.count <= 200))
def test_all_of_an_open_loop_complete(dma):
    outcome = run(dma)
    assert sum(one.requests for one in outcome.classes) == dma.count
    assert sum(one.application_bytes for one in outcome.classes) == dma.count * dma.size
