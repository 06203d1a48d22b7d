"""NVMe: rings, batches, data pointers, shared interrupts, loops closed and open."""

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import nvme_naive
from step_listing import listing

from sevpcie_core.errors import ConfigError
from sevpcie_core.link.params import link_row
from sevpcie_core.link.run import Outcome, simulate
from sevpcie_core.spec import BUFFER_DATA, BUFFER_MMIO, BUFFER_MSI, BUFFER_QUEUE
from sevpcie_core.stats.draw import quantile_table
from sevpcie_core.workload import nvme
from sevpcie_core.workload.buffers import HOST_MEMORY
from sevpcie_core.workload.program import BEGIN, DELAY, END, MEDIA, READ_UP, WRITE_DOWN, WRITE_UP, Program
from sevpcie_core.workload.traces.records import NVME_DTYPE

PAGE = 4096
US = 1_000_000
FAST = ((0.0, 4 * US), (1.0, 4 * US))
LINK = link_row(
    generation=5, lanes=4, mps=256, mrrs=512, rcb=64, completion_bytes=256, propagation_ps=100_000, tags=64
)


def controller(**changes: object) -> nvme.Controller:
    usual = {"media_read": FAST, "media_write": FAST, "dies": 0, "controller_ps": 500_000, "msi": True}
    return nvme.Controller(**(usual | changes))  # type: ignore[arg-type]


def steps_of(program: Program) -> np.ndarray:
    return np.concatenate([chunk.steps for chunk in program.chunks()])


def run(program: Program, keep: int = 0) -> Outcome:
    return simulate(
        [program],
        LINK[None],
        host_table=quantile_table(((0.0, 350_000), (1.0, 350_000))),
        read_interval_ps=1000,
        seed=1,
        markers=[lambda steps: np.zeros(len(steps), np.bool_)],
        keep=keep,
    )


block_sizes = st.sampled_from([512, 4096, 12_288, 131_072, 524_288])
several_sizes = st.lists(st.tuples(st.integers(1, 9), block_sizes), min_size=1, max_size=3)
mixes = st.builds(
    nvme.Mix,
    sizes=several_sizes,
    write_sizes=st.just(()) | several_sizes,
    read_share=st.floats(0, 1),
    flush_share=st.sampled_from([0.0, 0.1, 0.3]),
    trim_share=st.sampled_from([0.0, 0.2]),
    zeroes_share=st.sampled_from([0.0, 0.2]),
    offset=st.sampled_from([0, 512, 4092]),
    window=st.sampled_from([0, 4 << 20]),
    random=st.booleans(),
)


@st.composite
def controllers(draw: st.DrawFn) -> nvme.Controller:
    return controller(
        msi=draw(st.booleans()),
        coalesce=draw(st.integers(1, 4)),
        fetch=draw(st.sampled_from([1, 2, 8])),
        queues=draw(st.sampled_from([1, 1, 2])),
        entries=draw(st.sampled_from([9, 64, 1024])),
        segment=draw(st.sampled_from([0, 4096, 16_384])),
        shadow=draw(st.sampled_from([0, 0, 3])),
        dies=draw(st.sampled_from([0, 2])),
        most=draw(st.sampled_from([0, 0, 16_384, 131_072])),
    )


@st.composite
def programs(draw: st.DrawFn) -> tuple[Program, nvme.Controller, nvme.Mix, int]:
    """A program, its controller and mix, and the number of its requests."""
    control, mix = draw(controllers()), draw(mixes)
    n = draw(st.integers(1, 700))
    batch = draw(st.sampled_from([1, 1, 2, 4]))
    seed = draw(st.integers(0, 99))
    depth = 8 * control.queues
    commands = nvme.commands_of(mix.largest(), control.most)
    if draw(st.booleans()) and 8 * commands < control.entries:
        return (
            nvme.closed_loop(control, mix, requests=n, queue_depth=depth, batch=batch, seed=seed, stream=7),
            control,
            mix,
            n,
        )
    rate = draw(st.sampled_from([10_000, 1_000_000]))
    return (
        nvme.open_loop(control, mix, requests=n, rate=rate, batch=batch, seed=seed, stream=7),
        control,
        mix,
        n,
    )


@pytest.mark.parametrize("seed", [1, 18, 23])
def test_one_queue_may_take_small_requests_while_another_takes_those_of_several_commands(seed: int) -> None:
    control = controller(queues=2, entries=9, most=16384)
    mix = nvme.Mix(sizes=[(1, 512), (1, 131072)], read_share=0.0)
    program = nvme.open_loop(control, mix, requests=40, rate=10_000, seed=seed, stream=7)
    steps = steps_of(program)
    assert max(steps["after"].max(), steps["after2"].max()) <= program.reach
    assert sum(c.requests for c in run(program).classes) == 40


@settings(max_examples=60)
@given(programs())
def test_any_program(made: tuple[Program, nvme.Controller, nvme.Mix, int]) -> None:
    program, control, mix, n = made
    steps = steps_of(program)
    place = np.arange(len(steps))
    for name in ("after", "after2"):
        assert ((steps[name] >= 0) & (steps[name] <= place) & (steps[name] <= program.reach)).all()
    begins = steps["request"][(steps["flags"] & BEGIN) > 0]
    ends = steps["request"][(steps["flags"] & END) > 0]
    assert sorted(begins) == sorted(ends) == list(range(n))
    kind, buffer = steps["kind"], steps["buffer"]
    moves = kind != DELAY
    # Every transfer lies in one region of the class that it names.
    at = np.searchsorted(program.regions["start"], steps["address"][moves], side="right") - 1
    region = program.regions[at]
    assert (region["buffer"] == steps["buffer"][moves]).all()
    assert (steps["address"][moves] + steps["bytes"][moves] <= region["end"]).all()
    assert (steps["bytes"][moves] > 0).all()
    # Every request's data move once, and their pointers are read as the plain layout has them.
    data = defaultdict(list)
    lists = defaultdict(list)
    top = HOST_MEMORY + 64 * control.entries * control.queues
    for step in steps[moves]:
        if step["buffer"] == BUFFER_DATA:
            data[int(step["request"])].append(step)
            continue
        # Neither a command nor a shadow doorbell.
        of_queue = step["buffer"] == BUFFER_QUEUE and step["kind"] == READ_UP and step["address"] >= top
        if of_queue and step["bytes"] > 4:
            lists[int(step["request"])].append(int(step["bytes"]))
    reads, writes = ({size for _, size in pairs} for pairs in (mix.sizes, mix.write_sizes or mix.sizes))
    commands = n
    for request, moved in data.items():
        size = sum(int(one["bytes"]) for one in moved)
        allowed = reads if moved[0]["kind"] == WRITE_UP else writes
        assert size in allowed or size == 16
        if size in allowed:
            # In order, and each but the last as large as a command may be.
            most = control.most or size
            assert [int(one["bytes"]) for one in moved] == nvme_naive.commands(size, most)
            at = moved[0]["address"]
            assert at % PAGE == mix.offset
            assert [int(one["address"] - at) for one in moved] == list(range(0, size, most))
            commands += len(moved) - 1
            expected = []
            for part in nvme_naive.commands(size, most):
                if not control.segment:
                    expected += nvme_naive.list_reads(part, mix.offset)
                elif whole := nvme_naive.segment_bytes(part, mix.offset, control.segment):
                    expected.append(whole)
            assert lists[request] == expected
    # Rings: commands and completions of a queue go round, no read crosses the end.
    fetched: dict[int, int] = defaultdict(int)
    for step in steps[(kind == READ_UP) & (buffer == BUFFER_QUEUE) & (steps["address"] < top)]:
        entry = (int(step["address"]) - HOST_MEMORY) // 64
        queue, entry = divmod(entry, control.entries)
        count = int(step["bytes"]) // 64
        assert entry == fetched[queue] % control.entries
        assert entry + count <= control.entries
        assert count <= control.fetch
        fetched[queue] += count
    assert sum(fetched.values()) == commands
    written: dict[int, int] = defaultdict(int)
    base = program.regions["start"][program.regions["buffer"] == BUFFER_QUEUE][1]
    for step in steps[(kind == WRITE_UP) & (buffer == BUFFER_QUEUE) & (steps["bytes"] == 16)]:
        queue, entry = divmod((int(step["address"]) - int(base)) // 16, control.entries)
        assert entry == written[queue] % control.entries
        written[queue] += 1
    assert written == fetched
    # Doorbells and interrupts.
    rung = Counter(int(a) for a in steps["address"][(kind == WRITE_DOWN) & (buffer == BUFFER_MMIO)])
    interrupts = int((buffer[kind == WRITE_UP] == BUFFER_MSI).sum())
    completed = sum(count for address, count in rung.items() if address % 8 == 4)
    if control.coalesce == 1:
        assert completed == commands
    else:
        assert commands / control.coalesce <= completed <= commands
    assert interrupts == (completed if control.msi else 0)
    outcome = run(program)
    assert sum(c.requests for c in outcome.classes) == n
    assert sum(c.application_bytes for c in outcome.classes) == sum(
        int(one["bytes"]) for moved in data.values() for one in moved
    )


@settings(max_examples=20)
@given(programs())
def test_doorbells_follow_their_entries_and_entries_their_data(
    made: tuple[Program, nvme.Controller, nvme.Mix, int],
) -> None:
    """Follow every step back to what it waits for: the order of the specification, whatever the times."""
    program, control, mix, _ = made
    steps = steps_of(program)[:3000]
    # All that a step waits for, near enough: a request of many commands has as many times the steps.
    near = 200 * nvme.commands_of(mix.largest(), control.most)
    before: list[set[int]] = []
    for i, step in enumerate(steps):
        mine: set[int] = set()
        for name in ("after", "after2"):
            if step[name]:
                on = i - int(step[name])
                # Sets of far requests do not matter here.
                mine |= {on} | {b for b in before[on] if b > i - near}
        before.append(mine)
    fetch: dict[int, int] = {}
    for i, step in enumerate(steps):
        request = int(step["request"])
        if step["flags"] & MEDIA:
            # Decoded from a command that was read after a doorbell, or a look into memory.
            kinds = {(int(steps[b]["kind"]), int(steps[b]["buffer"])) for b in before[i]}
            assert (READ_UP, BUFFER_QUEUE) in kinds
            fetch[request] = i
        if step["flags"] & END:
            assert fetch[request] in before[i]
        if step["kind"] == WRITE_DOWN and step["address"] % 8 == 4:
            entries = [b for b in before[i] if steps[b]["bytes"] == 16 and steps[b]["kind"] == WRITE_UP]
            assert entries


@settings(max_examples=150)
@given(
    st.one_of(st.integers(1, 32_768), st.integers(2000, 6200).map(lambda pages: pages * 8)),
    st.sampled_from([0, 4, 512, 4092]),
    st.sampled_from([0, 4096, 65_536, 1 << 20]),
)
def test_data_pointers_are_those_of_the_plain_layout(units: int, offset: int, segment: int) -> None:
    """Up to 24 MiB, so that lists take several pages; also right where one more begins."""
    size = 512 * units
    steps = nvme.submitted(
        controller(segment=segment),
        np.zeros(1, np.uint8),
        np.array([size]),
        np.array([offset]),
        np.array([[1, 0]]),
    )
    read = (steps["kind"] == READ_UP) & (steps["buffer"] == BUFFER_QUEUE)
    lists = steps[read][1:]
    whole = nvme_naive.segment_bytes(size, offset, segment) if segment else 0
    wanted = ([whole] if whole else []) if segment else nvme_naive.list_reads(size, offset)
    assert lists["bytes"].tolist() == wanted
    if not segment:
        # Each on its own page, from its begin on.
        assert (np.diff(lists["address"]) == PAGE).all()
        assert (lists["address"] % PAGE == 0).all()


@pytest.mark.parametrize("pages", [511, 512, 513, 514, 1023, 1024, 1025, 1535, 1536])
def test_lists_right_where_one_more_page_begins(pages: int) -> None:
    size = PAGE * pages
    steps = nvme.submitted(
        controller(), np.zeros(1, np.uint8), np.array([size]), np.zeros(1, np.int64), np.array([[1, 0]])
    )
    read = (steps["kind"] == READ_UP) & (steps["buffer"] == BUFFER_QUEUE)
    assert steps["bytes"][read].tolist()[1:] == nvme_naive.list_reads(size, 0)


# --- requests of several commands ---


def waits_for(steps: np.ndarray) -> list[set[int]]:
    """Return all steps that each waits for, directly or not."""
    before: list[set[int]] = []
    for i, step in enumerate(steps):
        mine: set[int] = set()
        for name in ("after", "after2"):
            if step[name]:
                on = i - int(step[name])
                mine |= {on} | before[on]
        before.append(mine)
    return before


cuts = st.tuples(
    st.sampled_from([16_384, 65_536]), st.integers(1, 4), st.booleans(), st.sampled_from([1, 2, 4])
)


@settings(max_examples=25)
@given(cuts, st.integers(1, 30), st.sampled_from([0, 100_000]))
def test_a_request_is_done_when_the_last_of_its_commands_is(cut, n: int, rate: int) -> None:
    most, coalesce, msi, batch = cut
    control = controller(most=most, coalesce=coalesce, msi=msi)
    mix = nvme.Mix(sizes=((1, 4096), (2, 65_536), (1, 98_304)))
    loop = {"requests": n, "batch": batch, "seed": 1, "stream": 1}
    if rate:
        program = nvme.open_loop(control, mix, rate=rate, **loop)
    else:
        program = nvme.closed_loop(control, mix, queue_depth=8, **loop)
    steps = steps_of(program)
    before = waits_for(steps)
    entry = (steps["kind"] == WRITE_UP) & (steps["bytes"] == 16) & (steps["buffer"] == BUFFER_QUEUE)
    message = np.flatnonzero((steps["kind"] == WRITE_UP) & (steps["buffer"] == BUFFER_MSI))
    entries: dict[int, set[int]] = defaultdict(set)
    for i in np.flatnonzero(entry):
        entries[int(steps["request"][i])].add(int(i))
    (ends, begins) = (
        {int(steps["request"][i]): int(i) for i in np.flatnonzero(steps["flags"] & flag)}
        for flag in (END, BEGIN)
    )
    for request, mine in entries.items():
        end = ends[request]
        assert mine <= before[end] | {end}
        # Whatever else it waits for comes before: no interrupt, no command of another request behind it.
        assert not {b for b in before[end] if b in message and b > begins[request]}
        if rate == 0 and request + 8 in begins:
            again = before[begins[request + 8]]
            assert mine <= again
            if msi and coalesce > 1:
                # The host has heard of each.
                assert all(any(m in again and one in before[m] for m in message) for one in mine)
    outcome = run(program)
    assert sum(c.requests for c in outcome.classes) == n


@given(st.sampled_from([0, 8]), st.integers(1, 4))
def test_a_limit_that_nothing_exceeds_changes_nothing(depth: int, coalesce: int) -> None:
    mix = nvme.Mix(sizes=((1, 4096), (2, 65_536)), flush_share=0.2, trim_share=0.1)
    loop = {"requests": 600, "seed": 1, "stream": 1}
    plain, cut = (
        steps_of(
            nvme.closed_loop(controller(coalesce=coalesce, most=most), mix, queue_depth=depth, **loop)
            if depth
            else nvme.open_loop(controller(coalesce=coalesce, most=most), mix, rate=100_000, **loop)
        )
        for most in (0, 65_536)
    )
    for name in set(plain.dtype.names) - {"pad"}:
        assert np.array_equal(plain[name], cut[name]), name


def test_commands_of_a_request_have_media_times_of_their_own() -> None:
    def mean_ps(**changes: object) -> float:
        made = nvme.closed_loop(
            controller(**changes),
            nvme.Mix(sizes=((1, 65_536),)),
            requests=2000,
            queue_depth=1,
            seed=1,
            stream=1,
        )
        return run(made).classes[0].latency.mean_ps

    slow = {"media_read": ((0.0, 100 * US), (1.0, 100 * US)), "controller_ps": 0}
    whole = mean_ps(**slow)
    # At the same time, and on one die one after the other.
    assert mean_ps(**slow, most=16_384) == pytest.approx(whole, abs=2 * US)
    assert mean_ps(**slow, most=16_384, dies=1) == pytest.approx(whole + 300 * US, abs=5 * US)
    # The last of four is as late as the latest of four, and three quarters of the data are there by then.
    spread = {"media_read": ((0.0, 0), (1.0, 100 * US)), "controller_ps": 0}
    wire = 0.75 * 65_536 / 14.4e3 * US
    assert mean_ps(**spread, most=16_384) - mean_ps(**spread) == pytest.approx(30 * US - wire, abs=2 * US)


def test_a_request_of_more_commands_than_the_ring_holds_is_rung_in_by_several_doorbells() -> None:
    control = controller(entries=9, most=16_384)
    made = nvme.open_loop(
        control, nvme.Mix(sizes=((1, 524_288),)), requests=20, rate=1_000_000, seed=1, stream=1
    )
    steps = steps_of(made)
    rung = (steps["kind"] == WRITE_DOWN) & (steps["address"] % 8 == 0)
    assert rung.sum() == 20 * 4
    # The rest of a request waits for its begin and for the commands whose entries it takes.
    before = waits_for(steps)
    fetches = np.flatnonzero(
        (steps["kind"] == READ_UP) & (steps["bytes"] == 64) & (steps["buffer"] == BUFFER_QUEUE)
    )
    done = np.flatnonzero((steps["kind"] == WRITE_UP) & (steps["bytes"] == 16))
    assert len(fetches) == len(done) == 640
    for k in range(8, 640):
        assert int(done[k - 8]) in before[fetches[k]]
    begins = np.flatnonzero(steps["flags"] & BEGIN)
    assert all(int(begins[k // 32]) in before[fetches[k]] for k in range(640))
    assert run(made).classes[0].requests == 20


def test_the_rest_of_a_request_waits_for_the_entries_that_it_takes_only() -> None:
    mix = nvme.Mix(sizes=((1, 10 * 16_384),))
    steps = steps_of(
        nvme.open_loop(controller(entries=9, most=16_384), mix, requests=1, rate=1000, seed=1, stream=1)
    )
    before = waits_for(steps)
    _, rest = np.flatnonzero((steps["kind"] == WRITE_DOWN) & (steps["address"] % 8 == 0))
    done = np.flatnonzero((steps["kind"] == WRITE_UP) & (steps["bytes"] == 16))
    assert [int(entry) in before[rest] for entry in done[:8]] == [True] * 2 + [False] * 6


def test_a_closed_loop_needs_entries_for_all_commands() -> None:
    mix = nvme.Mix(sizes=((1, 524_288),))
    loop = {"requests": 9, "seed": 1, "stream": 1}
    with pytest.raises(
        ConfigError, match=r"32 per queue of 32 commands each; expected at most 31: one less th"
    ):
        nvme.closed_loop(controller(most=16_384), mix, queue_depth=32, **loop)
    entries = nvme.ring_entries(0, 32, 1, 32)
    assert entries == 2048
    made = nvme.closed_loop(controller(most=16_384, entries=entries), mix, queue_depth=32, **loop)
    assert run(made).classes[0].requests == 9


def test_a_replay_cuts_what_a_drive_does_not_take_in_one() -> None:
    records = np.zeros(4, NVME_DTYPE)
    records["t_ps"] = np.arange(4) * US
    records["op"] = [nvme.READ, nvme.WRITE, nvme.TRIM, nvme.ZEROES]
    # Trims and zeroes name bytes and move none.
    records["bytes"] = [1 << 20, 600_000, 1 << 40, 1 << 40]
    program = nvme.replay(controller(most=131_072), records, seed=1, stream=1)
    steps = steps_of(program)
    data = steps[(steps["buffer"] == BUFFER_DATA) & (steps["kind"] != DELAY)]
    sizes = [data["bytes"][data["request"] == request].tolist() for request in range(4)]
    assert sizes == [[131_072] * 8, [131_072] * 4 + [75_712], [16], []]
    assert ((steps["kind"] == WRITE_DOWN) & (steps["address"] % 8 == 0)).sum() == 4
    assert sum(c.requests for c in run(program).classes) == 4


# --- reads that have been read ahead ---

AHEAD = {
    "media_read": ((0.0, 80 * US), (1.0, 80 * US)),
    "media_read_ahead": ((0.0, US), (1.0, US)),
    "dies": 1,
}


def media_times(steps: np.ndarray) -> list[tuple[int, int, int]]:
    """Return request, time and die of each access to the media."""
    media = steps[(steps["flags"] & MEDIA) > 0]
    return list(
        zip(media["request"].tolist(), media["delay_ps"].tolist(), media["server"].tolist(), strict=True)
    )


def test_of_reads_so_many_have_been_read_ahead_and_take_no_die() -> None:
    mix = nvme.Mix(read_share=0.5, sequential_share=0.7)
    program = nvme.closed_loop(controller(**AHEAD), mix, requests=20_000, queue_depth=8, seed=1, stream=1)
    steps = steps_of(program)
    found = Counter((time, die) for _, time, die in media_times(steps))
    assert set(found) == {(80 * US, 0), (US, -1), (4 * US, 0)}
    assert found[US, -1] / 20_000 == pytest.approx(0.35, abs=0.01)
    assert found[4 * US, 0] / 20_000 == pytest.approx(0.5, abs=0.015)
    # Nothing else has changed.
    plain = steps_of(
        nvme.closed_loop(
            controller(**AHEAD), nvme.Mix(read_share=0.5), requests=20_000, queue_depth=8, seed=1, stream=1
        )
    )
    for name in ("address", "bytes", "kind", "request", "after", "flags"):
        assert np.array_equal(steps[name], plain[name]), name


def streams_naively(commands: list[tuple[int, int, int]], most: int = 32) -> list[bool]:
    """Return of (operation, offset, bytes) which reads go on where an earlier one ended."""
    ends: list[int] = []
    out = []
    for operation, offset, size in commands:
        if operation != nvme.READ:
            out.append(False)
            continue
        out.append(offset in ends)
        ends = [end for end in ends if end not in (offset, offset + size)]
        ends.append(offset + size)
        ends = ends[-most:]
    return out


reads = st.tuples(
    st.sampled_from([nvme.READ] * 4 + [nvme.WRITE]),
    st.integers(0, 60).map(lambda n: n * 4096),
    st.sampled_from([4096, 8192]),
)


@settings(max_examples=60)
@given(st.lists(reads, min_size=1, max_size=700))
def test_recorded_reads_that_go_on_are_found_by_their_place(commands: list[tuple[int, int, int]]) -> None:
    records = np.zeros(len(commands), NVME_DTYPE)
    records["t_ps"] = np.arange(len(commands)) * US
    records["op"], records["offset"], records["bytes"] = zip(*commands, strict=True)
    steps = steps_of(nvme.replay(controller(**AHEAD), records, seed=1, stream=1))
    ahead = [time == US for _, time, _ in sorted(media_times(steps))]
    assert ahead == streams_naively(commands)
    # A drive that reads nothing ahead takes them as any other.
    steps = steps_of(nvme.replay(controller(**(AHEAD | {"media_read_ahead": ()})), records, seed=1, stream=1))
    assert all(time in (80 * US, 4 * US) for _, time, _ in media_times(steps))


def test_a_sequential_read_is_sooner_there() -> None:
    def mean_ps(share: float) -> float:
        mix = nvme.Mix(sequential_share=share)
        made = nvme.closed_loop(controller(**AHEAD), mix, requests=500, queue_depth=1, seed=1, stream=1)
        return run(made).classes[0].latency.mean_ps

    assert mean_ps(0.0) - mean_ps(1.0) == pytest.approx(79 * US, abs=US / 10)


def test_an_open_loop_holds_what_its_ring_holds() -> None:
    """A ring of three entries holds two commands; the third waits, and the wait counts."""
    slow = ((0.0, 100 * US), (1.0, 100 * US))
    loop = {"requests": 200, "rate": 1_000_000, "seed": 1, "stream": 1}
    small, large = (
        run(nvme.open_loop(controller(entries=entries, media_read=slow), nvme.Mix(), **loop)).classes[0]
        for entries in (3, 1024)
    )
    assert small.last_end_ps > 100 * 100 * US
    assert large.last_end_ps < 2 * 100 * US + 300 * US
    assert small.latency.percentile_ps(50) > 40 * 100 * US


def test_a_read_through_the_ring_wraps() -> None:
    program = nvme.closed_loop(
        controller(entries=5, fetch=4), nvme.Mix(), requests=9, queue_depth=4, batch=4, seed=1, stream=1
    )
    steps = steps_of(program)
    reads = steps[(steps["kind"] == READ_UP) & (steps["buffer"] == BUFFER_QUEUE)]
    places = [((int(s["address"]) - HOST_MEMORY) // 64, int(s["bytes"]) // 64) for s in reads]
    assert places == [(0, 4), (4, 1), (0, 3), (3, 1)]


def test_what_would_wait_for_itself_is_refused() -> None:
    for changes, loop, said in (
        ({}, {"queue_depth": 6, "batch": 4}, "a multiple of batch x queues, 4"),
        ({"queues": 3}, {"queue_depth": 8}, "a multiple of batch x queues, 3"),
        ({"coalesce": 8}, {"queue_depth": 4}, "expected 8 or more"),
        ({"entries": 8}, {"queue_depth": 8}, "at most 7"),
    ):
        with pytest.raises(ConfigError, match=said):
            nvme.closed_loop(
                controller(**changes), nvme.Mix(), requests=9, seed=1, stream=1, **({"batch": 1} | loop)
            )
    with pytest.raises(ConfigError, match="batch: 9; expected at most 8"):
        nvme.open_loop(controller(entries=9), nvme.Mix(), requests=9, rate=1000, batch=9, seed=1, stream=1)
    with pytest.raises(ConfigError, match="expected at most 1"):
        nvme.Mix(flush_share=0.6, trim_share=0.6).shares()


def test_a_deep_loop_has_rings_as_deep() -> None:
    assert [nvme.ring_entries(0, depth) for depth in (0, 32, 1023, 1024, 4096, 65_535)] == [
        1024,
        1024,
        1024,
        2048,
        8192,
        65_536,
    ]
    assert nvme.ring_entries(0, 4096, 4) == 2048
    assert nvme.ring_entries(64, 4096) == 64
    deep = nvme.closed_loop(
        controller(entries=nvme.ring_entries(0, 4096)),
        nvme.Mix(),
        requests=9000,
        queue_depth=4096,
        seed=1,
        stream=1,
    )
    assert run(deep).classes[0].requests == 9000


def test_shares_and_sizes_are_those_asked_for() -> None:
    mix = nvme.Mix(
        sizes=((7, 4096), (3, 65_536)), read_share=0.7, flush_share=0.1, trim_share=0.05, zeroes_share=0.05
    )
    program = nvme.closed_loop(controller(), mix, requests=20_000, queue_depth=32, seed=3, stream=9)
    steps = steps_of(program)
    assert program.stats == ("read", "write", "flush", "trim", "zeroes")
    shares = np.bincount(steps["stat"][(steps["flags"] & END) > 0], minlength=5) / 20_000
    assert shares == pytest.approx([0.56, 0.24, 0.1, 0.05, 0.05], abs=0.015)
    sizes = steps["bytes"][
        (steps["buffer"] == BUFFER_DATA) & (steps["bytes"] > 16) & (steps["kind"] != DELAY)
    ]
    assert (sizes == 4096).mean() == pytest.approx(0.7, abs=0.015)


def data_of(mix: nvme.Mix) -> dict[int, np.ndarray]:
    """Return the bytes of each read and of each write of a program, by request."""
    program = nvme.closed_loop(controller(), mix, requests=20_000, queue_depth=32, seed=3, stream=9)
    steps = steps_of(program)
    moved = steps[(steps["buffer"] == BUFFER_DATA) & (steps["kind"] != DELAY)]
    return {kind: moved[["request", "bytes"]][moved["kind"] == kind] for kind in (WRITE_UP, READ_UP)}


def test_writes_have_sizes_of_their_own_and_reads_keep_theirs() -> None:
    mix = nvme.Mix(sizes=((7, 4096), (3, 65_536)), read_share=0.6)
    same = data_of(mix)
    other = data_of(replace(mix, write_sizes=((1, 8192), (1, 16_384), (2, 512))))
    for kind, sizes in ((WRITE_UP, mix.sizes), (READ_UP, ((1, 8192), (1, 16_384), (2, 512)))):
        found = Counter(other[kind]["bytes"].tolist())
        total, weights = sum(found.values()), sum(w for w, _ in sizes)
        assert set(found) == {size for _, size in sizes}
        shares = {size: n / total for size, n in found.items()}
        assert shares == pytest.approx({size: w / weights for w, size in sizes}, abs=0.02)
        assert (other[kind]["request"] == same[kind]["request"]).all()
    assert (other[WRITE_UP] == same[WRITE_UP]).all()
    # Said twice it is what is said once.
    twice = data_of(replace(mix, write_sizes=mix.sizes))
    assert all((twice[kind] == same[kind]).all() for kind in same)


def test_the_mean_and_the_largest_count_both_kinds() -> None:
    mix = nvme.Mix(sizes=((1, 4096), (3, 8192)), write_sizes=((1, 1 << 20),), read_share=0.75)
    assert mix.mean_bytes() == (3 * 7168 + 2**20) / 4
    assert mix.largest() == 1 << 20
    assert nvme.Mix(sizes=((1, 4096), (3, 8192)), read_share=0.1).mean_bytes() == 7168


def test_an_open_loop_shows_a_drive_that_stalls_and_a_closed_one_hides_it() -> None:
    """One access in a thousand takes 50 ms, and whoever comes meanwhile waits: one die."""
    stalls = ((0.0, 5 * US), (0.999, 5 * US), (0.9991, 50_000 * US), (1.0, 50_000 * US))
    control = controller(media_read=stalls, dies=1)
    loop = {"requests": 20_000, "seed": 1, "stream": 1}
    closed = run(nvme.closed_loop(control, nvme.Mix(), queue_depth=1, **loop)).classes[0].latency
    opened = run(nvme.open_loop(control, nvme.Mix(), rate=2000, **loop)).classes[0].latency
    # A slot waits itself, once in a thousand times: nothing at p99.
    assert closed.percentile_ps(99) < 20 * US
    # At 2,000 per second 100 requests come in 50 ms, so one in ten waits, from nothing to 50 ms.
    assert opened.percentile_ps(85) < 20 * US
    assert opened.percentile_ps(97) > 20_000 * US


def test_an_open_loop_has_its_rate() -> None:
    outcome = run(nvme.open_loop(controller(), nvme.Mix(), requests=20_000, rate=200_000, seed=5, stream=1))
    span = outcome.classes[0].last_end_ps - outcome.classes[0].first_start_ps
    assert 20_000 / span * 1e12 == pytest.approx(200_000, rel=0.02)


def test_shared_interrupts_wait_for_the_last_and_save_messages() -> None:
    def of(coalesce: int) -> tuple[float, int]:
        made = nvme.closed_loop(
            controller(coalesce=coalesce), nvme.Mix(), requests=4000, queue_depth=8, seed=1, stream=1
        )
        steps = steps_of(made)
        return run(made).job_ps[0], int((steps["buffer"][steps["kind"] == WRITE_UP] == BUFFER_MSI).sum())

    alone, many = of(1)
    shared, few = of(8)
    assert few == 500
    assert many == 4000
    # Slots wait for each other, where there is no more than one group of them.
    assert shared > alone


def test_groups_close_when_nobody_comes() -> None:
    records = np.zeros(4, NVME_DTYPE)
    records["t_ps"] = [0, 10 * US, 5000 * US, 5001 * US]
    records["bytes"] = 4096
    program = nvme.replay(controller(coalesce=4), records, within_ps=100 * US, seed=1, stream=1)
    steps = steps_of(program)
    assert int((steps["buffer"][steps["kind"] == WRITE_UP] == BUFFER_MSI).sum()) == 2


def test_replays_have_queues_and_what_moves_nothing() -> None:
    records = np.zeros(5, NVME_DTYPE)
    records["t_ps"] = np.arange(5) * US
    records["op"] = [nvme.READ, nvme.WRITE, nvme.FLUSH, nvme.TRIM, nvme.ZEROES]
    records["bytes"] = [4096, 8192, 0, 1 << 20, 1 << 20]
    records["queue"] = [0, 1, 0, 1, 5]
    program = nvme.replay(controller(queues=2), records, seed=1, stream=1)
    steps = steps_of(program)
    data = steps[(steps["buffer"] == BUFFER_DATA) & (steps["kind"] != DELAY)]
    assert [(int(s["kind"]), int(s["bytes"])) for s in data] == [
        (WRITE_UP, 4096),
        (READ_UP, 8192),
        (READ_UP, 16),
    ]
    bells = [
        int(a) & 0xFFF for a in steps["address"][(steps["kind"] == WRITE_DOWN) & (steps["address"] % 8 == 0)]
    ]
    assert bells == [0x008, 0x010, 0x008, 0x010, 0x010]
    assert sum(c.requests for c in run(program).classes) == 5


# --- one operation of each kind, as docs/workloads.md shows it ---

PREPARE = ("doorbell", "command", "decoding")
FINISH = ("completion", "interrupt", "doorbell")


def one(size: int = 4096, operation: int = nvme.READ, **changes: object) -> Program:
    share = {nvme.FLUSH: "flush_share", nvme.TRIM: "trim_share", nvme.ZEROES: "zeroes_share"}
    parts: dict[str, float] = {"read_share": float(operation == nvme.READ)}
    if operation in share:
        parts[share[operation]] = 1.0
    count = int(changes.pop("count", 1))  # type: ignore[call-overload]
    mix = nvme.Mix(sizes=((1, size),), **parts)  # type: ignore[arg-type]
    return nvme.closed_loop(
        controller(**changes),
        mix,
        requests=count,
        queue_depth=2 * count if count > 1 else 1,
        batch=count,
        seed=1,
        stream=1,
    )


@pytest.mark.parametrize(
    ("title", "program", "names"),
    [
        ("A read of 4 KiB", one(), (*PREPARE, "media", "data", *FINISH)),
        ("A write of 128 KiB", one(131_072, nvme.WRITE), (*PREPARE, "PRP list", "data", "media", *FINISH)),
        ("A flush", one(operation=nvme.FLUSH), (*PREPARE, "media", *FINISH)),
        ("A trim", one(operation=nvme.TRIM), (*PREPARE, "range", "media", *FINISH)),
        ("Writing zeroes", one(operation=nvme.ZEROES), (*PREPARE, "media", *FINISH)),
        (
            "A batch of two reads",
            one(count=2, fetch=2, coalesce=2),
            (
                *("first slot", "both slots", "first begins", "second begins", "doorbell", "commands"),
                *("decoding", "media", "data", "completion", "decoding", "media", "data", "completion"),
                *("both there", "interrupt", "doorbell"),
            ),
        ),
        (
            "A read of 256 KiB from a drive that takes 128 KiB in one command",
            one(262_144, most=131_072, fetch=2),
            (
                *("slot", "begin", "doorbell", "commands", "decoding", "PRP list", "media", "data"),
                *("completion", "interrupt", "doorbell", "decoding", "PRP list", "media", "data"),
                *("completion", "both there", "interrupt", "doorbell"),
            ),
        ),
    ],
)
def test_the_page_shows_the_steps(title: str, program: Program, names: tuple[str, ...], root: Path) -> None:
    page = (root / "docs" / "workloads.md").read_text()
    section = page[page.index(f"**{title}**") :]
    shown = section[section.index("```text\n") + 8 :].split("```", 1)[0]
    assert shown == listing(program, names)
