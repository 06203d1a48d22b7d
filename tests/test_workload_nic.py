"""NIC: rings of both directions, batches of each kind, header split, interrupts, loads and captures."""

from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from step_listing import listing

from sevpcie_core.link.params import link_row
from sevpcie_core.link.run import Outcome, simulate
from sevpcie_core.spec import BUFFER_DATA, BUFFER_MMIO, BUFFER_MSI, BUFFER_QUEUE
from sevpcie_core.stats.draw import quantile_table
from sevpcie_core.workload import nic
from sevpcie_core.workload.buffers import BAR_ADDRESS
from sevpcie_core.workload.nic_steps import STATUS, STATUS_END
from sevpcie_core.workload.program import BEGIN, DELAY, END, READ_UP, WRITE_DOWN, WRITE_UP, Program
from sevpcie_core.workload.traces.pace import pace_line
from sevpcie_core.workload.traces.records import NIC_DTYPE

US = 1_000_000
G = 10**9
LINK = link_row(
    generation=5, lanes=4, mps=256, mrrs=512, rcb=64, completion_bytes=256, propagation_ps=100_000, tags=64
)
TAIL = {nic.RX: BAR_ADDRESS + 0x2000, nic.TX: BAR_ADDRESS + 0x3000}


def steps_of(program: Program) -> np.ndarray:
    return np.concatenate([chunk.steps for chunk in program.chunks()])


def run(program: Program) -> Outcome:
    return simulate(
        [program],
        LINK[None],
        host_table=quantile_table(((0.0, 350_000), (1.0, 350_000))),
        read_interval_ps=1000,
        seed=1,
        markers=[lambda steps: np.zeros(len(steps), np.bool_)],
    )


def load(
    directions: tuple[int, ...] = (nic.RX,),
    sizes: tuple[tuple[int, int], ...] = nic.IMIX,
    rate: int = 20 * G,
    line: int = 100 * G,
) -> nic.Load:
    return nic.Load(dict.fromkeys(directions, sizes), rate, line)


def made(adapter: nic.Adapter, what: nic.Load, n: int = 500) -> Program:
    return nic.open_loop(adapter, what, requests=n, seed=1, stream=100)


def capture(rows: list[tuple[int, int, int]]) -> np.ndarray:
    """Return records of (time, bytes, direction)."""
    records = np.empty(len(rows), NIC_DTYPE)
    records["t_ps"], records["bytes"], records["direction"] = zip(*rows, strict=True)
    return records


batches = st.sampled_from([1, 2, 5, 8, 40])
rings = st.builds(
    nic.Ring,
    doorbell=batches,
    fetch=batches,
    whole=st.booleans(),
    completion_bytes=st.sampled_from([16, 64, 128]),
    completions=batches,
    interrupt=st.sampled_from([0, 1, 3, 32]),
    status=st.sampled_from([0, 1, 8]),
    descriptor_bytes=st.sampled_from([0, 0, 64]),
)
adapters = st.builds(
    nic.Adapter,
    rx=rings,
    tx=st.one_of(rings, rings.map(lambda r: nic.Ring(**(vars(r) | {"completions": 0})))),
    descriptor_bytes=st.sampled_from([16, 32]),
    pipeline_ps=st.just(300_000),
    entries=st.sampled_from([40, 41, 64, 1024]),
    header=st.sampled_from([0, 64, 256]),
    moderation_ps=st.sampled_from([0, US // 2, 50 * US]),
)
loads = st.builds(
    load,
    st.sampled_from([(nic.RX,), (nic.TX,), (nic.RX, nic.TX)]),
    st.sampled_from([((1, 60),), ((1, 1514),), nic.IMIX, nic.BIMODAL, ((1, 61), (3, 9000))]),
    st.sampled_from([G, 90 * G]),
)


@settings(max_examples=80)
@given(adapters, loads, st.integers(1, 900))
def test_any_program(adapter: nic.Adapter, what: nic.Load, n: int) -> None:
    program = made(adapter, what, n)
    steps = steps_of(program)
    place = np.arange(len(steps))
    for name in ("after", "after2"):
        assert ((steps[name] >= 0) & (steps[name] <= place) & (steps[name] <= program.reach)).all()
    kind, buffer, address, size = (steps[name] for name in ("kind", "buffer", "address", "bytes"))
    begins, ends = ((steps["flags"] & flag) > 0 for flag in (BEGIN, END))
    for of in (begins, ends):
        assert sorted(steps["request"][of]) == list(range(n))
    # Only what begins a request waits for nothing.
    assert (begins | (steps["after"] > 0)).all()
    moves = kind != DELAY
    assert (size[moves] > 0).all()
    status = moves & (address >= STATUS) & (address < STATUS_END)
    at = np.searchsorted(program.regions["start"], address[moves], side="right") - 1
    region = program.regions[at]
    assert (region["buffer"] == buffer[moves]).all()
    assert (address[moves] + size[moves] <= region["end"]).all()
    # Every frame's bytes once, in its direction, split where it is asked for.
    way = {nic.RX: WRITE_UP, nic.TX: READ_UP}
    directions = {name: (nic.RX, nic.TX)[name == "tx"] for name in program.stats}
    of_frames = defaultdict(list)
    for step in steps[moves & (buffer == BUFFER_DATA)]:
        direction = directions[program.stats[step["stat"]]]
        assert step["kind"] == way[direction]
        of_frames[int(step["request"])].append(int(step["bytes"]))
    allowed = {s for pairs in what.sizes.values() for _, s in pairs}
    received = (
        {int(r) for r in steps["request"][begins & (steps["stat"] == 0)]}
        if nic.RX in what.directions
        else set()
    )
    assert sorted(of_frames) == list(range(n))
    for request, parts in of_frames.items():
        assert sum(parts) in allowed
        if adapter.header and request in received:
            assert parts[0] == min(adapter.header, sum(parts))
            assert len(parts) == (2 if sum(parts) > adapter.header else 1)
        else:
            assert len(parts) == 1
    # Rings go round, and nothing crosses their end.
    counts = Counter(directions[program.stats[s]] for s in steps["stat"][begins])
    queues = program.regions["start"][program.regions["buffer"] == BUFFER_QUEUE]
    for k, direction in enumerate(what.directions):
        ring = adapter.rings()[direction]
        mine = steps["stat"] == k
        fetched = 0
        rung = 0
        waiting = 0
        for step in steps[mine]:
            if step["flags"] & BEGIN:
                waiting += 1
            elif step["kind"] == WRITE_DOWN and step["address"] == TAIL[direction]:
                rung += waiting
                waiting = 0
            elif step["kind"] == READ_UP and step["buffer"] == BUFFER_QUEUE:
                slot, left = divmod(int(step["address"] - queues[2 * k]), ring.descriptor_bytes)
                count = int(step["bytes"]) // ring.descriptor_bytes
                assert left == 0
                assert slot == fetched % adapter.entries
                assert slot + count <= adapter.entries
                assert 1 <= count <= ring.fetch
                fetched += count
                # A frame's descriptor is read behind the doorbell that tells of it.
                assert direction == nic.RX or fetched <= rung
        assert fetched >= counts[direction]
        assert direction == nic.RX or fetched == counts[direction]
        written = steps[mine & (kind == WRITE_UP) & (buffer == BUFFER_QUEUE)]
        if direction == nic.RX:
            place = [(int(s["address"] - queues[2 * k + 1]) // ring.completion_bytes) for s in written]
            many = [int(s["bytes"]) // ring.completion_bytes for s in written]
            starts = np.cumsum([0, *many[:-1]]) if many else []
            assert place == [int(s) % adapter.entries for s in starts]
            assert sum(many) == counts[direction]
            assert all(p + m <= adapter.entries for p, m in zip(place, many, strict=True))
        else:
            assert len(written) == (counts[direction] // ring.completions if ring.completions else 0)
        read = int((mine & status & (kind == WRITE_DOWN)).sum())
        assert read == (counts[direction] // ring.status if ring.status else 0)
        told = int((mine & (buffer == BUFFER_MSI) & moves).sum())
        if adapter.moderation_ps == 0:
            assert told <= (counts[direction] // ring.interrupt if ring.interrupt else 0)
        if ring.interrupt:
            # One for several that are complete at once.
            assert told >= counts[direction] // max(ring.interrupt, ring.completions) - 1
    # A bounce buffer needs what it stages and its request in one chunk.
    for chunk in program.chunks():
        sent = chunk.steps[(chunk.steps["kind"] == READ_UP) & (chunk.steps["buffer"] == BUFFER_DATA)]
        begun = chunk.steps["request"][(chunk.steps["flags"] & BEGIN) > 0]
        assert np.isin(sent["request"], begun).all()
    outcome = run(program)
    assert sum(c.requests for c in outcome.classes) == n
    assert sum(c.application_bytes for c in outcome.classes) == sum(map(sum, of_frames.values()))


@pytest.mark.parametrize("directions", [(nic.RX,), (nic.TX,), (nic.RX, nic.TX)])
def test_both_directions_have_the_rate_that_each_has_alone(directions: tuple[int, ...]) -> None:
    ring = nic.Ring(doorbell=8, fetch=8)
    program = made(nic.Adapter(rx=ring, tx=ring), load(directions, nic.BIMODAL, 40 * G), 20_000)
    steps = steps_of(program)
    data = (steps["buffer"] == BUFFER_DATA) & (steps["kind"] != DELAY)
    begins = steps[(steps["flags"] & BEGIN) > 0]
    # In the order of time, as chunks say.
    assert (np.diff(begins["not_before_ps"]) >= 0).all()
    for k in range(len(directions)):
        bits = int((steps["bytes"][data & (steps["stat"] == k)] + 24).sum()) * 8
        assert bits / begins["not_before_ps"][-1] * 1e12 == pytest.approx(40e9, rel=0.03)
    if nic.TX in directions:
        rung = (steps["kind"] == WRITE_DOWN) & (steps["address"] == TAIL[nic.TX])
        frames = int((begins["stat"] == len(directions) - 1).sum())
        # Bursts stay whole beside what comes in.
        assert -(-frames // 8) <= rung.sum() <= frames // 8 + 2


def test_chunks_say_when_the_next_one_begins() -> None:
    program = made(nic.Adapter(), load((nic.RX, nic.TX)), 5000)
    chunks = list(program.chunks())
    assert len(chunks) > 5
    for chunk, later in pairwise(chunks):
        starts = later.steps["not_before_ps"][(later.steps["flags"] & BEGIN) > 0]
        assert starts.min() >= chunk.horizon_ps


def test_sizes_have_their_weights() -> None:
    steps = steps_of(made(nic.Adapter(), load(sizes=((7, 100), (2, 700), (1, 1514))), 20_000))
    sizes = steps["bytes"][(steps["buffer"] == BUFFER_DATA) & (steps["kind"] != DELAY)]
    shares = [float((sizes == s).mean()) for s in (100, 700, 1514)]
    assert shares == pytest.approx([0.7, 0.2, 0.1], abs=0.012)


def interrupts(rows: list[tuple[int, int, int]], most: int = 4, **changes: int) -> int:
    ring = nic.Ring(interrupt=most)
    program = nic.replay(nic.Adapter(rx=ring, tx=ring, **changes), capture(rows))
    steps = steps_of(program)
    return int(((steps["buffer"] == BUFFER_MSI) & (steps["kind"] == WRITE_UP)).sum())


@pytest.mark.parametrize("direction", [nic.RX, nic.TX])
def test_interrupts_come_by_number_or_by_time(direction: int) -> None:
    # Bursts of three, 100 us apart.
    rows = [(burst * 100 * US + k * US, 1514, direction) for burst in range(10) for k in range(3)]
    assert interrupts(rows) == 30 // 4
    # Every fourth; for the last two the timer runs out.
    assert interrupts(rows, moderation_ps=1000 * US) == 30 // 4 + 1
    # Of each burst by the timer, whether anything follows or not.
    assert interrupts(rows, moderation_ps=50 * US) == 10
    # It is over when the next burst begins, before what comes then.
    assert interrupts(rows, moderation_ps=100 * US) == 10
    full = [(burst * 100 * US + k * US, 1514, direction) for burst in range(10) for k in range(5)]
    assert interrupts(full, moderation_ps=50 * US) == 20
    # A throttle: of each burst the first at once, the others when the interval is over.
    assert interrupts(rows, most=0, moderation_ps=50 * US) == 20
    # The rest of a burst is told of when the next one begins.
    assert interrupts(rows, most=0, moderation_ps=100 * US) == 11
    assert interrupts(rows, most=0) == 0


def told_naively(events: list[tuple[int, int]], most: int, timer_ps: int) -> list[int]:
    """Return when interrupts come, given when how many frames are written back: one moment after another.

    most : frames of an interrupt; 0: they are not counted, and the timer is that of a throttle.
    """
    found: list[int] = []
    last, counted, timer = -timer_ps, 0, None
    for now, count in [*events, (10**18, 0)]:
        if timer is not None and timer <= now:
            found.append(timer)
            last, counted, timer = timer, 0, None
        if count == 0:
            continue
        counted += count
        if (counted >= most) if most else (now >= last + timer_ps):
            found.append(now)
            last, counted, timer = now, counted % most if most else 0, None
        elif timer is None:
            timer = (now if most else last) + timer_ps
    return found


gaps = st.lists(st.sampled_from([0, 1, US // 2, US, 7 * US, 100 * US]), min_size=1, max_size=200)


def interrupts_of(
    between: list[int], batch: int, most: int, timer_ps: int, direction: int, others: int, turns: int
) -> tuple[list[tuple[int, int]], list[int]]:
    """Return (when, frames) of write-backs of a direction, and when its interrupts come."""
    times = np.cumsum([0, *between * turns])
    rows = [(int(t), 200, direction) for t in times]
    # What goes the other way changes nothing.
    rows += [(int(t) + k, 60, 1 - direction) for t in times for k in range(others)]
    rows.sort()
    ring = nic.Ring(doorbell=1, fetch=1, completions=batch, interrupt=most)
    program = nic.replay(nic.Adapter(rx=ring, tx=ring, moderation_ps=timer_ps), capture(rows))
    steps = steps_of(program)
    mine = steps[steps["stat"] == (direction if others else 0)]
    begun = (mine["flags"] & BEGIN) > 0
    now = np.maximum.accumulate(np.where(begun, mine["not_before_ps"], 0))
    told = (mine["kind"] == WRITE_UP) & (mine["buffer"] == BUFFER_MSI)
    times = mine["not_before_ps"][begun]
    ends = list(range(batch, len(times) + 1, batch))
    if direction == nic.RX and len(times) % batch:
        ends.append(len(times))
    events = [(int(times[end - 1]), end - (end - 1) // batch * batch) for end in ends]
    return events, (now[told] + mine["delay_ps"][told]).tolist()


# Of programs of one chunk and of several, which is where a timer may run on.
traffic = (
    gaps,
    st.sampled_from([1, 3]),
    st.sampled_from([2, 4, 64]),
    st.sampled_from([US, 10 * US, 50 * US, 1000 * US]),
    st.sampled_from([nic.RX, nic.TX]),
    st.integers(0, 5),
    st.sampled_from([1, 2, 7]),
)


@given(*traffic)
def test_the_timer_alone_is_that_of_a_throttle_register(
    between: list[int], batch: int, most: int, timer_ps: int, direction: int, others: int, turns: int
) -> None:
    events, told = interrupts_of(between, batch, 0, timer_ps, direction, others, turns)
    assert told == told_naively(events, 0, timer_ps)
    assert all(later - one >= timer_ps for one, later in pairwise(told))


@given(*traffic)
def test_of_frames_and_time_the_first_decides(
    between: list[int], batch: int, most: int, timer_ps: int, direction: int, others: int, turns: int
) -> None:
    events, told = interrupts_of(between, batch, most, timer_ps, direction, others, turns)
    assert told == told_naively(events, most, timer_ps)
    # The timer only adds, where one write-back is not of several interrupts.
    frames = sum(count for _, count in events)
    assert len(told) >= (frames // most if batch <= most else len(events) // 2)
    _, counted = interrupts_of(between, batch, most, 0, direction, others, turns)
    assert len(told) >= len(counted)
    # None is told of later than that; of what is written back at the same moment the order is that of steps.
    for when, _ in events:
        assert any(when <= at <= when + timer_ps for at in told)


# Chunks have 512 frames, so that batches go on from one to the next.
@pytest.mark.parametrize("most", [7, 48])
@pytest.mark.parametrize("timer_ps", [20 * US, 50 * US, 200 * US, 1000 * US, 10**6 * US])
def test_a_timer_only_adds_interrupts_to_those_of_full_batches(most: int, timer_ps: int) -> None:
    """As many as batches of a steady load, whether the timer is shorter or much longer than a chunk."""
    ring = nic.Ring(interrupt=most)
    what = load(sizes=((1, 1514),), rate=50 * G, line=50 * G)
    program = made(nic.Adapter(rx=ring, moderation_ps=timer_ps), what, 10_000)
    steps = steps_of(program)
    told = int(((steps["buffer"] == BUFFER_MSI) & (steps["kind"] == WRITE_UP)).sum())
    # A frame takes 246 ns, and 48 of them less than any of these timers; the last ones wait for it.
    assert told == -(-10_000 // most)


def test_a_timer_needs_no_frame_that_comes_later() -> None:
    rows = [(k * US, 1514, nic.RX) for k in range(3)]
    for interval, most in ((20 * US, 0), (50 * US, 0), (20 * US, 64), (50 * US, 64)):
        ring = nic.Ring(doorbell=1, fetch=1, interrupt=most)
        outcome = run(nic.replay(nic.Adapter(rx=ring, moderation_ps=interval), capture(rows)))
        # One at once, and one an interval after it; or one so long after the first frame.
        assert outcome.job_ps[0] == pytest.approx(interval, abs=US)


def test_what_comes_while_a_message_waits_in_another_chunk_is_told_by_it() -> None:
    ring = nic.Ring(doorbell=1, fetch=1)
    rows = [(k * 100_000, 60, nic.RX) for k in range(2000)]
    program = nic.replay(nic.Adapter(rx=ring, moderation_ps=30 * US), capture(rows))
    assert len(list(program.chunks())) == 4
    steps = steps_of(program)
    # 200 us: at once, and every 30 us; the last one is due when the frames are over.
    assert int(((steps["buffer"] == BUFFER_MSI) & (steps["kind"] == WRITE_UP)).sum()) == 1 + 200 // 30 + 1
    # Three frames behind a chunk that ends 9 us before a message is due need none of their own.
    steps = steps_of(nic.replay(nic.Adapter(rx=ring, moderation_ps=30 * US), capture(rows[:515])))
    assert int(((steps["buffer"] == BUFFER_MSI) & (steps["kind"] == WRITE_UP)).sum()) == 3


def test_descriptors_of_each_direction_have_their_size() -> None:
    adapter = nic.Adapter(
        rx=nic.Ring(doorbell=4, fetch=4, descriptor_bytes=32), tx=nic.Ring(doorbell=1, fetch=1)
    )
    program = made(adapter, load((nic.RX, nic.TX)), 400)
    steps = steps_of(program)
    fetches = steps[(steps["kind"] == READ_UP) & (steps["buffer"] == BUFFER_QUEUE)]
    for stat, size in ((0, 4 * 32), (1, 16)):
        assert set(fetches["bytes"][fetches["stat"] == stat].tolist()) == {size}
    rings = program.regions[program.regions["buffer"] == BUFFER_QUEUE]
    assert (rings["end"] - rings["start"]).tolist()[::2] == [1024 * 32, 1024 * 16]


def test_transmit_waits_for_a_whole_read_and_a_capture_does_not() -> None:
    tx = nic.Ring(doorbell=4, fetch=6, whole=True)
    steps = steps_of(made(nic.Adapter(tx=tx), load((nic.TX,)), 24))
    fetches = steps[(steps["kind"] == READ_UP) & (steps["buffer"] == BUFFER_QUEUE)]
    assert (fetches["bytes"] // 16).tolist() == [6, 6, 6, 6]
    assert (steps["buffer"] == BUFFER_MMIO).sum() == 6
    steps = steps_of(nic.replay(nic.Adapter(tx=tx), capture([(k * US, 60, nic.TX) for k in range(24)])))
    fetches = steps[(steps["kind"] == READ_UP) & (steps["buffer"] == BUFFER_QUEUE)]
    assert (fetches["bytes"] // 16).tolist() == [1] * 24


# --- captures ---

frames = st.lists(
    st.tuples(st.integers(0, 3 * US), st.integers(60, 9000), st.integers(0, 1)), min_size=1, max_size=90
).map(sorted)


def replayed(program: Program) -> list[tuple[int, int, int]]:
    """Return times, sizes and directions by request."""
    steps = steps_of(program)
    begins = steps[(steps["flags"] & BEGIN) > 0]
    data = steps[(steps["buffer"] == BUFFER_DATA) & (steps["kind"] != DELAY)]
    data = data[np.argsort(data["request"], kind="stable")]
    begins = begins[np.argsort(begins["request"], kind="stable")]
    ways = (data["kind"] == READ_UP).tolist()
    return list(zip(begins["not_before_ps"].tolist(), data["bytes"].tolist(), map(int, ways), strict=True))


@settings(max_examples=60)
@given(
    frames,
    st.sampled_from([0, G, 10 * G, 400 * G]),
    st.sampled_from([None, nic.RX, nic.TX]),
    st.integers(1, 9),
)
def test_a_capture_read_piece_by_piece_is_the_whole_capture(
    rows: list[tuple[int, int, int]], rate: int, only: int | None, piece: int
) -> None:
    records = capture(rows)
    mine = records if only is None else records[records["direction"] == only]
    if len(mine) == 0:
        return
    times = mine["t_ps"] - mine["t_ps"][0]
    for direction in (nic.RX, nic.TX):
        where = mine["direction"] == direction
        if rate:
            times[where] = pace_line(times[where], mine["bytes"][where], rate)
    order = np.argsort(times, kind="stable")
    wanted = list(
        zip(
            times[order].tolist(),
            mine["bytes"][order].tolist(),
            mine["direction"][order].tolist(),
            strict=True,
        )
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nic, "_READ", piece)
        assert replayed(nic.replay(nic.Adapter(), records, line_rate_bps=rate, only=only)) == wanted


class Pieces:
    """Records that are only given in pieces, as a file larger than memory would be."""

    def __init__(self, n: int):
        self.n = n
        self.most = 0

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, part: slice) -> np.ndarray:
        at = np.arange(*part.indices(self.n))
        self.most = max(self.most, len(at))
        records = np.empty(len(at), NIC_DTYPE)
        records["t_ps"], records["bytes"], records["direction"] = at * 200_000, 1514, at % 2
        return records


def test_a_capture_is_never_read_whole() -> None:
    records = Pieces(400_000)
    program = nic.replay(nic.Adapter(), records, line_rate_bps=400 * G)  # type: ignore[arg-type]
    assert sum(int(((c.steps["flags"] & END) > 0).sum()) for c in program.chunks()) == 400_000
    assert records.most == 1 << 16


# --- one operation of each kind, as docs/workloads.md shows it ---

FOUR = nic.Ring(doorbell=4, fetch=4, completions=4, interrupt=4)
ONE = nic.Ring(doorbell=1, fetch=1)


def shown(direction: int, ring: nic.Ring, n: int, header: int = 0) -> Program:
    """Return frames of 1514 B at line rate."""
    adapter = nic.Adapter(rx=ring, tx=ring, pipeline_ps=300_000, header=header)
    return made(adapter, load((direction,), ((1, 1514),), 100 * G), n)


@pytest.mark.parametrize(
    ("title", "program", "names"),
    [
        (
            "A burst that comes in",
            shown(nic.RX, FOUR, 4),
            (
                *("adapter", "doorbell", "descriptors", "frame", "adapter", "frame", "adapter", "frame"),
                *("adapter", "frame", "write-back", "interrupt", "first", "second", "third", "fourth"),
            ),
        ),
        (
            "A burst that goes out",
            shown(nic.TX, FOUR, 4),
            (
                *("first", "second", "third", "fourth", "doorbell", "descriptors", "adapter"),
                *("frame", "frame", "frame", "frame", "write-back", "interrupt"),
            ),
        ),
        (
            "A frame whose header goes elsewhere",
            shown(nic.RX, ONE, 1, header=128),
            ("adapter", "doorbell", "descriptor", "header", "rest", "write-back"),
        ),
        (
            "Frames that a timer tells of",
            nic.replay(
                nic.Adapter(rx=ONE, pipeline_ps=300_000, moderation_ps=50 * US),
                capture([(k * US, 1514, nic.RX) for k in range(3)]),
            ),
            (
                *("adapter", "doorbell", "descriptor", "frame", "write-back", "interrupt", "adapter"),
                *("doorbell", "descriptor", "frame", "write-back", "adapter", "doorbell", "descriptor"),
                *("frame", "write-back", "interrupt"),
            ),
        ),
        (
            "A driver that reads registers",
            shown(nic.RX, nic.Ring(doorbell=1, fetch=1, interrupt=1, status=1), 1),
            ("adapter", "doorbell", "descriptor", "frame", "write-back", "interrupt", "asked", "answered"),
        ),
    ],
)
def test_the_page_shows_the_steps(title: str, program: Program, names: tuple[str, ...], root: Path) -> None:
    page = (root / "docs" / "workloads.md").read_text()
    section = page[page.index(f"**{title}**") :]
    text = section[section.index("```text\n") + 8 :].split("```", 1)[0]
    assert text == listing(program, names)
