"""The bounce buffer: what the transform of a program adds, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sevpcie_core.errors import MisuseError
from sevpcie_core.experiment import presets
from sevpcie_core.link.params import link_row
from sevpcie_core.link.run import simulate
from sevpcie_core.spec import BUFFER_DATA, BUFFER_QUEUE
from sevpcie_core.stats.draw import quantile_table
from sevpcie_core.workload import gpu, nic, nvme
from sevpcie_core.workload.bounce import Staging, staged
from sevpcie_core.workload.program import (
    BEGIN,
    DELAY,
    EARLY1,
    EARLY2,
    END,
    FOREVER,
    MEDIA,
    READ_UP,
    STAGE,
    STEP,
    WRITE_UP,
    Chunk,
    Program,
)
from sevpcie_core.workload.traces.records import NIC_DTYPE

ENGINE = presets.device("gpu-gen5", None, ())[0].build("gpu-gen5").engine
SLOW = Staging(cores=3, setup_ps=250_000, mb_per_s=10_000)
# No transfer takes time.
INSTANT = Staging(cores=1, setup_ps=0, mb_per_s=1 << 62)
CONSTANT = ((0.0, 350_000), (1.0, 350_000))
SPREAD = ((0.0, 300_000), (0.9, 400_000), (1.0, 900_000))


def every(steps: np.ndarray) -> np.ndarray:
    return np.ones(len(steps), np.bool_)


def nothing(steps: np.ndarray) -> np.ndarray:
    return np.zeros(len(steps), np.bool_)


def run(*programs: Program, host=CONSTANT, keep: int = 5000, stop_ps: int = 0):
    link = link_row(
        generation=5,
        lanes=8,
        mps=256,
        mrrs=512,
        rcb=64,
        completion_bytes=256,
        propagation_ps=100_000,
        tags=64,
    )
    return simulate(
        programs,
        np.stack([link] * len(programs)),
        host_table=quantile_table(host),
        read_interval_ps=1300,
        seed=5,
        markers=[nothing] * len(programs),
        keep=keep,
        stop_ps=stop_ps,
    )


def of_nvme(depth=1, share=0.5, think_ps=0, requests=300, block=4096, **other) -> Program:
    times = {"media_read": ((0.0, 4_000_000), (1.0, 9_000_000)), "media_write": CONSTANT}
    controller = nvme.Controller(**({"dies": 8, "controller_ps": 300_000, "msi": True} | times | other))
    mix = nvme.Mix(sizes=((1, block),), read_share=share)
    return nvme.closed_loop(
        controller, mix, requests=requests, queue_depth=depth, think_ps=think_ps, seed=3, stream=1 << 16
    )


def nic_adapter(completions=1, interrupt=4) -> nic.Adapter:
    """Return the device; as in the shipped presets, both rings are alike but for a doorbell per burst."""
    ring = nic.Ring(doorbell=8, fetch=8, completion_bytes=64, completions=completions, interrupt=interrupt)
    return nic.Adapter(rx=ring, tx=ring, pipeline_ps=300_000)


def of_nic(direction=nic.RX, gap_ps=1_000_000, frames=1500, size=1514, **ring) -> Program:
    records = np.empty(frames, NIC_DTYPE)
    records["t_ps"] = gap_ps * np.arange(1, frames + 1)
    records["bytes"], records["direction"] = size, direction
    return nic.replay(nic_adapter(**ring), records)


def of_gpu(kinds, sizes, gap_ps=40_000_000) -> Program:
    n = len(kinds)
    return gpu.job(
        times_ps=gap_ps * np.arange(1, n + 1),
        durations_ps=np.full(n, 1_000_000),
        kinds=np.array(kinds, np.uint8),
        sizes=np.array(sizes, np.int64),
        streams=np.zeros(n, np.int64),
        engine=ENGINE,
    )


PROGRAMS = {
    "nvme, one at a time": of_nvme(),
    "nvme, deep": of_nvme(depth=16),
    "nvme, thinking": of_nvme(depth=4, think_ps=2_000_000),
    "nic rx": of_nic(),
    "nic rx, batches": of_nic(completions=8, frames=1001),
    "nic tx": of_nic(nic.TX),
    "nic tx, bursts": nic.open_loop(
        nic_adapter(completions=4, interrupt=0),
        nic.Load({nic.TX: nic.IMIX}, 100 * 10**9, 400 * 10**9),
        requests=1200,
        seed=2,
        stream=1 << 16,
    ),
    "gpu": of_gpu([gpu.H2D, gpu.D2H, gpu.WORK, gpu.D2H, gpu.H2D, gpu.H2D], [4096, 64, 0, 1 << 20, 9000, 4]),
}


def steps_of(program: Program) -> np.ndarray:
    steps = np.concatenate([chunk.steps for chunk in program.chunks()])
    steps["pad"] = 0
    return steps


def moves(steps: np.ndarray) -> np.ndarray:
    return (steps["buffer"] == BUFFER_DATA) & (steps["kind"] != DELAY)


def added(before: np.ndarray, after: np.ndarray, servers: int) -> np.ndarray:
    """Return the steps of a staged program that occupy cores; there is no other difference in number here."""
    extra = after[(after["kind"] == DELAY) & (after["server"] >= servers)]
    assert len(after) == len(before) + len(extra)
    return extra


# --- What is added ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name != "nvme, thinking"])
def test_every_byte_is_staged_once_and_nothing_else_is_added(name):
    program = PROGRAMS[name]
    before, after = steps_of(program), steps_of(staged(program, SLOW, every))
    data = before[moves(before)]
    extra = added(before, after, program.servers)
    # One staging per transfer, which takes what its bytes take.
    assert sorted(extra["delay_ps"]) == sorted(SLOW.time_ps(data["bytes"], np.ones(len(data), np.int64)))
    assert (extra["occupy_ps"] == extra["delay_ps"]).all()
    assert sorted(extra["request"]) == sorted(data["request"])
    assert not (extra["flags"] & MEDIA).any()
    assert (extra["flags"] & STAGE).all()
    # The others are as they were, in their order, but for what they wait for and begin or end.
    rest = after[(after["kind"] != DELAY) | (after["server"] < program.servers)]
    for field in ("kind", "bytes", "address", "buffer", "request", "stat", "delay_ps", "server"):
        np.testing.assert_array_equal(rest[field], before[field], err_msg=field)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_request_begins_and_ends_once(name):
    after = steps_of(staged(PROGRAMS[name], SLOW, every))
    before = steps_of(PROGRAMS[name])
    for flag in (BEGIN, END):
        theirs, ours = (s["request"][s["flags"] & flag != 0] for s in (before, after))
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", PROGRAMS)
def test_data_wait_for_their_staging(name):
    """By walking back through the dependencies: a read behind the staging of its request, never before."""
    program = PROGRAMS[name]
    after = steps_of(staged(program, SLOW, every))
    staging = {int(s["request"]): i for i, s in enumerate(after) if s["flags"] & BEGIN and s["server"] >= 0}
    behind: list[set[int]] = []
    for i, step in enumerate(after):
        mine = {i}
        for which in ("after", "after2"):
            if step[which]:
                mine |= behind[i - step[which]]
        behind.append({k for k in mine if i - k < 200})
        if step["kind"] == READ_UP and step["buffer"] == BUFFER_DATA:
            last = staging[int(step["request"])]
            # A burst waits for its last staging, which the same core does last.
            assert any(k >= last and after[k]["server"] == after[last]["server"] for k in behind[i])


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("host", [CONSTANT, SPREAD], ids=["constant", "spread"])
def test_without_time_the_outcome_is_the_baseline_to_the_picosecond(name, host):
    plain, free = (run(p, host=host) for p in (PROGRAMS[name], staged(PROGRAMS[name], INSTANT, every)))
    np.testing.assert_array_equal(free.kept_ps, plain.kept_ps)
    np.testing.assert_array_equal(free.kept_io_ps, plain.kept_io_ps)
    assert free.job_ps == plain.job_ps
    bare = [[replace(c, latency=None, io_path=None) for c in o.classes] for o in (free, plain)]
    assert bare[0] == bare[1]


@pytest.mark.parametrize("name", ["nvme, one at a time", "nvme, deep", "nic rx", "nic tx, bursts", "gpu"])
def test_nothing_protected_is_nothing_staged(name):
    np.testing.assert_array_equal(steps_of(staged(PROGRAMS[name], SLOW, nothing)), steps_of(PROGRAMS[name]))


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_link_carries_what_it_carried(name):
    plain, slow = run(PROGRAMS[name]), run(staged(PROGRAMS[name], SLOW, every))
    for a, b in zip(plain.classes, slow.classes, strict=True):
        assert (a.requests, a.payload_bytes, a.wire_bytes, a.tlps, a.ide_bytes, a.application_bytes) == (
            b.requests, b.payload_bytes, b.wire_bytes, b.tlps, 0, b.application_bytes
        )  # fmt: skip


@given(
    share=st.sampled_from([0.0, 0.5, 1.0]),
    block=st.sampled_from([512, 4096, 65536]),
    setup_ps=st.integers(0, 10**7),
    mb_per_s=st.integers(100, 10**6),
    cores=st.integers(1, 5),
)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_alone_a_request_takes_longer_by_its_staging(share, block, setup_ps, mb_per_s, cores):
    # One at a time, with a pause that lets everything settle: nothing waits for anything else.
    program = of_nvme(share=share, block=block, think_ps=50_000_000, requests=40)
    staging = Staging(cores, setup_ps, mb_per_s)
    plain, slow = run(program), run(staged(program, staging, every))
    for kept in ("kept_ps", "kept_io_ps"):
        gap = (getattr(slow, kept) - getattr(plain, kept))[0, :40]
        assert (gap == staging.time_ps(block, 1)).all()


@pytest.mark.parametrize("direction", [nic.RX, nic.TX])
def test_an_open_loop_counts_from_its_intended_start(direction):
    # One core, at more work than it has time for: each frame is later than the one before it by the excess.
    program = of_nic(direction, gap_ps=500_000, frames=700)
    plain, slow = run(program), run(staged(program, Staging(1, 300_000, 5000), every))
    gap = (slow.kept_ps - plain.kept_ps)[0, :700]
    np.testing.assert_array_equal(np.diff(gap)[5:], 300_000 + 1514 * 200 - 500_000)


def test_frames_of_a_burst_wait_for_the_staging_of_all():
    program = PROGRAMS["nic tx, bursts"]
    steps = steps_of(staged(program, SLOW, every))
    begins = np.flatnonzero(steps["flags"] & BEGIN)
    # Steps that begin in a row, each behind its staging, share a core; the next burst has the next one.
    bursts = np.split(begins, np.flatnonzero(np.diff(begins) > 2) + 1)
    cores = [set(steps["server"][burst]) for burst in bursts]
    assert all(len(core) == 1 for core in cores)
    assert [core.pop() for core in cores[:6]] == [0, 1, 2, 0, 1, 2]
    outcome = run(staged(program, SLOW, every))
    of_bursts = np.split(outcome.kept_ps[0, : len(begins)], np.cumsum([len(b) for b in bursts])[:-1])
    # No frame of a burst is at the device before the whole burst is staged.
    for burst, latency in zip(bursts[:20], of_bursts[:20], strict=True):
        assert latency.min() > steps["delay_ps"][burst].sum()


def test_a_copy_of_a_stream_waits_for_the_staged_end_of_the_one_before():
    slow = Staging(1, 100_000_000, 1000)
    program = of_gpu([gpu.D2H] * 4, [4096] * 4, gap_ps=5_000_000)
    outcome = run(staged(program, slow, every))
    # Four stagings one after the other, and each copy's own latency counts from where it was due.
    assert outcome.job_ps[0] > 4 * slow.time_ps(4096, 1)
    kept = outcome.kept_ps[0, :4]
    assert (kept < 2 * slow.time_ps(4096, 1)).all()


@pytest.mark.parametrize("name", PROGRAMS)
def test_latency_falls_with_the_rate(name):
    program = PROGRAMS[name]
    means = []
    for mb_per_s in (500, 2_000, 20_000, 1 << 62):
        outcome = run(staged(program, Staging(2, 0, mb_per_s), every))
        means.append(sum(c.latency.mean_ps * c.requests for c in outcome.classes if c.requests))
    assert means == sorted(means, reverse=True)


def test_chunks_of_a_long_program_are_staged_one_by_one():
    program = of_nvme(depth=8, requests=1 << 40)
    chunks = staged(program, SLOW, every).chunks()
    sizes = [len(next(chunks).steps) for _ in range(40)]
    assert max(sizes) < 3 * 8 * 256


def test_a_program_that_is_stopped_stops():
    program = of_nvme(depth=8, requests=1 << 40)
    outcome = run(staged(program, SLOW, every), stop_ps=10**9)
    assert 0 < sum(c.requests for c in outcome.classes) < 2000


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_can_be_run_twice(name):
    program = staged(PROGRAMS[name], SLOW, every)
    np.testing.assert_array_equal(steps_of(program), steps_of(program))


def test_cores_are_the_hosts_and_dies_the_devices():
    program = of_nvme(depth=8)
    plain, bounced = run(program), run(staged(program, SLOW, every))
    time = SLOW.time_ps(4096, 1)
    ((busy,), (job,)) = bounced.busy, bounced.job_ps
    # A third of 300 copies on each of three cores; the dies are as busy as without.
    assert busy["host"] == pytest.approx(100 * time / job)
    assert busy["device"] * job == pytest.approx(plain.busy[0]["device"] * plain.job_ps[0])
    before, after = (sum(c.stalls_ps["host"] for c in o.classes) for o in (plain, bounced))
    assert after - before >= 300 * time


# --- Random programs ----------------------------------------------------------------------------------------


@st.composite
def programs(draw) -> Program:
    """Return a program of random requests, cut into chunks between them, with every kind of dependency."""
    rows = []
    ends = []
    previous = None
    for request in range(draw(st.integers(1, 12))):
        start = len(rows)
        kind = draw(st.sampled_from(["read", "write", "both", "none"]))
        closed = previous is not None and draw(st.booleans())
        first = {"kind": draw(st.sampled_from([DELAY, READ_UP])), "bytes": 64, "buffer": BUFFER_QUEUE}
        first |= {"flags": BEGIN, "request": request, "delay_ps": draw(st.sampled_from([0, 70_000]))}
        if closed:
            first["after"] = start - previous
            if draw(st.booleans()):
                first["flags"] |= EARLY1
        else:
            first["not_before_ps"] = request * 500_000
        rows.append(first)
        for name, what in (("read", READ_UP), ("write", WRITE_UP)):
            for _ in range(draw(st.integers(1, 2)) if kind in (name, "both") else 0):
                row = {"kind": what, "buffer": BUFFER_DATA, "bytes": draw(st.integers(1, 9000))}
                row |= {"request": request, "after": draw(st.integers(1, len(rows) - start))}
                if len(rows) - start > 1:
                    row["after2"] = draw(st.integers(0, len(rows) - start))
                    row["flags"] = draw(st.sampled_from([0, EARLY2]))
                rows.append({"flags": 0, **row})
        rows.append({"kind": DELAY, "flags": END, "after": 1, "request": request, "delay_ps": 5000})
        previous = len(rows) - 1
        rows.append({"kind": DELAY, "request": -1, "after": draw(st.integers(1, 2)), "flags": 0})
        if draw(st.booleans()):
            ends.append(len(rows))
    steps = np.zeros(len(rows), STEP)
    steps["server"] = -1
    for i, row in enumerate(rows):
        for field, value in row.items():
            if field != "bytes" or row["kind"] != DELAY:
                steps[i][field] = value
    parts = np.split(steps, ends)
    roots = [p["not_before_ps"][(p["after"] == 0) & (p["after2"] == 0)].min(initial=FOREVER) for p in parts]
    horizons = [int(min(roots[i + 1 :], default=FOREVER)) for i in range(len(parts))]
    chunks = [Chunk(p, h) for p, h in zip(parts, horizons, strict=True) if len(p)]
    reach = int(max(steps["after"].max(), steps["after2"].max(), 1))
    return Program(("all",), 1, lambda: iter(chunks), np.zeros(0, [("x", "i8")]), reach, 0, True)


@given(program=programs(), cores=st.integers(1, 3))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_random_programs(program, cores):
    staging = Staging(cores, 100_000, 5000)
    before, after = steps_of(program), steps_of(staged(program, staging, every))
    data = moves(before)
    busy = staging.setup_ps * int(data.sum()) + sum(
        staging.time_ps(
            int(before["bytes"][data & (before["request"] == r) & (before["kind"] == k)].sum()), 0
        )
        for r in np.unique(before["request"])
        for k in (READ_UP, WRITE_UP)
    )
    assert int(after["occupy_ps"].sum()) == busy
    # Dependencies stay inside the program and the promise that it makes.
    place = np.arange(len(after))
    for which in ("after", "after2"):
        assert (after[which] <= place).all()
        assert (after[which] <= staged(program, staging, every).reach).all()
    # Chunks are cut where they were, and the same steps are roots.
    cuts = zip(program.chunks(), staged(program, staging, every).chunks(), strict=True)
    for old, new in cuts:
        assert new.horizon_ps == old.horizon_ps
        root = (new.steps["after"] == 0) & (new.steps["after2"] == 0)
        same = (old.steps["after"] == 0) & (old.steps["after2"] == 0)
        assert root.sum() == same.sum()
        assert (new.steps["not_before_ps"][root] >= old.steps["not_before_ps"][same]).all()
    plain, slow, free = (
        run(p) for p in (program, staged(program, staging, every), staged(program, INSTANT, every))
    )
    assert slow.classes[0].requests == plain.classes[0].requests == len(np.unique(before["request"])) - 1
    assert slow.classes[0].wire_bytes == plain.classes[0].wire_bytes
    np.testing.assert_array_equal(free.kept_ps, plain.kept_ps)


# --- What cannot be staged ----------------------------------------------------------------------------------


def step(kind, flags=0, request=0, after=0, buffer=BUFFER_DATA) -> np.ndarray:
    out = np.zeros(1, STEP)
    out["kind"], out["flags"], out["request"], out["after"] = kind, flags, request, after
    out["buffer"], out["server"], out["bytes"] = buffer, -1, 64 * (kind != DELAY)
    return out


def program_of(*chunks: list[np.ndarray]) -> Program:
    made = [Chunk(np.concatenate(steps), FOREVER) for steps in chunks]
    return Program(("all",), 1, lambda: iter(made), np.zeros(0), 4, 0, True)


@pytest.mark.parametrize(
    ("chunks", "words"),
    [
        ([[step(READ_UP, request=-1)]], "data that belong to no request"),
        ([[step(READ_UP), step(DELAY, BEGIN, after=1)]], "request 0: data read before it begins"),
        ([[step(DELAY, BEGIN)], [step(READ_UP, END, after=1)]], "request 0: data read .* in another chunk"),
        ([[step(DELAY, BEGIN | END), step(WRITE_UP, after=1)]], "request 0: data written behind its end"),
        ([[step(DELAY, BEGIN | END)], [step(WRITE_UP, after=1)]], "request 0: data written behind its end"),
        ([[step(WRITE_UP, BEGIN)]], "request 0: .* or it never ends"),
    ],
)
def test_what_cannot_be_staged_is_refused(chunks, words):
    with pytest.raises(MisuseError, match=words):
        steps_of(staged(program_of(*chunks), SLOW, every))


def test_more_cores_than_steps_can_name_are_refused():
    program = replace(PROGRAMS["nvme, deep"], servers=32_000)
    with pytest.raises(MisuseError, match="32000 servers and 1000 cores; at most 32768 fit"):
        staged(program, Staging(1000, 0, 1), every)


def test_a_step_that_waits_beyond_the_reach_is_still_refused():
    program = program_of([step(DELAY, BEGIN)], [step(WRITE_UP, END, after=3)])
    with pytest.raises(MisuseError, match="beyond the reach"):
        run(staged(replace(program, reach=1), SLOW, every))
