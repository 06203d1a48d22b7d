"""Generators: every request's bytes move exactly once, dependencies point back, every request completes."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sevpcie_core.experiment import presets
from sevpcie_core.link.params import link_row
from sevpcie_core.link.run import Outcome, simulate
from sevpcie_core.spec import BUFFER_DATA, BUFFER_MMIO, BUFFER_MSI, BUFFER_QUEUE
from sevpcie_core.stats.draw import quantile_table
from sevpcie_core.workload import gpu, nic, nvme
from sevpcie_core.workload.program import BEGIN, DELAY, END, FOREVER, READ_UP, WRITE_DOWN, WRITE_UP, Program
from sevpcie_core.workload.traces.records import NIC_DTYPE, NVME_DTYPE

LINK = link_row(
    generation=5, lanes=4, mps=256, mrrs=512, rcb=64, completion_bytes=256, propagation_ps=100_000, tags=64
)
ENGINE = presets.device("gpu-gen5", None, ())[0].build("gpu-gen5").engine
CONSTANT = ((0.0, 4_000_000), (1.0, 4_000_000))


def steps_of(program: Program) -> np.ndarray:
    return np.concatenate([c.steps for c in program.chunks()])


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


def nvme_loop(**changes: object) -> Program:
    """Return a closed loop; changes are of its controller, its mix or of itself."""
    parts = [
        {"media_read": CONSTANT, "media_write": CONSTANT, "dies": 0, "controller_ps": 200_000, "msi": True},
        {"read_share": 0.5},
        {"requests": 300, "queue_depth": 16, "seed": 1, "stream": 100},
    ]
    fields = [nvme.Controller.__dataclass_fields__, nvme.Mix.__dataclass_fields__, {}]
    for name, value in changes.items():
        part = next((p for p, known in zip(parts, fields, strict=True) if name in known), parts[-1])
        part[name] = value
    controller, mix, loop = parts
    return nvme.closed_loop(nvme.Controller(**controller), nvme.Mix(**mix), **loop)  # type: ignore[arg-type]


def nic_adapter(batch: int = 8, completions: int = 1, msi: int = 0) -> nic.Adapter:
    ring = nic.Ring(doorbell=batch, fetch=batch, completions=completions, interrupt=msi)
    return nic.Adapter(rx=ring, tx=ring, pipeline_ps=300_000)


def nic_loop(
    *,
    requests: int = 500,
    direction: int = nic.RX,
    frame_bytes: int = 0,
    rate_bps: int = 20_000_000_000,
    **adapter: int,
) -> Program:
    sizes = ((1, frame_bytes),) if frame_bytes else nic.IMIX
    load = nic.Load({direction: sizes}, rate_bps, 100_000_000_000)
    return nic.open_loop(nic_adapter(**adapter), load, requests=requests, seed=1, stream=100)


def frames(t: list[int], size: list[int], direction: list[int]) -> np.ndarray:
    records = np.empty(len(t), NIC_DTYPE)
    records["t_ps"], records["bytes"], records["direction"] = t, size, direction
    return records


def gpu_job(rows: list[tuple[int, int, int, int, int]], **changes: int) -> Program:
    """Make a job of (start ps, duration ps, kind, bytes, stream)."""
    t, duration, kind, size, stream = (np.array(c, np.int64) for c in zip(*rows, strict=True))
    return gpu.job(
        times_ps=t,
        durations_ps=duration,
        kinds=kind,
        sizes=size,
        streams=stream,
        engine=replace(ENGINE, **changes),
    )


def check_shape(program: Program) -> np.ndarray:
    """Hold any program against what the simulator expects of it."""
    steps = steps_of(program)
    place = np.arange(len(steps))
    for name in ("after", "after2"):
        assert (steps[name] >= 0).all()
        assert (steps[name] <= place).all()
        assert (steps[name] <= program.reach).all()
    begins = steps["request"][(steps["flags"] & BEGIN) > 0]
    ends = steps["request"][(steps["flags"] & END) > 0]
    assert sorted(begins) == sorted(ends) == list(range(len(begins)))
    transfers = steps["kind"] != DELAY
    assert (steps["bytes"][transfers] > 0).all()
    # Every transfer lies in one region of the class that it names.
    at = np.searchsorted(program.regions["start"], steps["address"][transfers], side="right") - 1
    region = program.regions[at]
    assert (region["buffer"] == steps["buffer"][transfers]).all()
    assert (steps["address"][transfers] + steps["bytes"][transfers] <= region["end"]).all()
    assert (steps["stat"] < len(program.stats)).all()
    return steps


@settings(max_examples=25)
@given(
    st.integers(1, 600),
    st.integers(1, 300),
    st.sampled_from([512, 4096, 10_000]),
    st.floats(0, 1),
    st.booleans(),
)
def test_nvme_moves_every_block_once(n: int, depth: int, block: int, share: float, msi: bool) -> None:
    program = nvme_loop(requests=n, queue_depth=depth, sizes=((1, block),), read_share=share, msi=msi, dies=4)
    steps = check_shape(program)
    data = steps[(steps["buffer"] == BUFFER_DATA) & (steps["kind"] != DELAY)]
    assert sorted(data["request"]) == list(range(n))
    assert (data["bytes"] == block).all()
    outcome = run(program)
    assert sum(c.requests for c in outcome.classes) == n
    assert sum(c.application_bytes for c in outcome.classes) == n * block
    # A write's data are read by the device, a read's are written by it.
    kinds = {"read": [WRITE_UP], "write": [READ_UP], "nvme": [WRITE_UP, READ_UP]}
    for number, name in enumerate(program.stats):
        assert set(data["kind"][data["stat"] == number]) <= set(kinds[name])
        assert outcome.classes[number].requests == (data["stat"] == number).sum()


def test_one_nvme_read_step_by_step() -> None:
    steps = steps_of(nvme_loop(requests=1, read_share=1.0))
    assert [(int(s["kind"]), int(s["buffer"]), int(s["bytes"])) for s in steps if s["kind"] != DELAY] == [
        (WRITE_DOWN, BUFFER_MMIO, 4),
        (READ_UP, BUFFER_QUEUE, 64),
        (WRITE_UP, BUFFER_DATA, 4096),
        (WRITE_UP, BUFFER_QUEUE, 16),
        (WRITE_UP, BUFFER_MSI, 4),
        (WRITE_DOWN, BUFFER_MMIO, 4),
    ]


def test_an_nvme_write_reads_its_data_before_the_media() -> None:
    steps = steps_of(nvme_loop(requests=1, read_share=0.0))
    kinds = [int(s["kind"]) for s in steps]
    assert kinds == [WRITE_DOWN, READ_UP, DELAY, READ_UP, DELAY, WRITE_UP, WRITE_UP, WRITE_DOWN]
    assert run(nvme_loop(requests=1, read_share=0.0)).classes[0].requests == 1


@pytest.mark.parametrize("depth", [1, 3, 16, 500])
def test_a_closed_loop_keeps_its_depth(depth: int) -> None:
    outcome = run(nvme_loop(requests=400, queue_depth=depth), keep=400)
    assert sum(c.requests for c in outcome.classes) == 400
    # At depth 1 nothing waits: every read takes as long as the first.
    if depth == 1:
        reads = outcome.kept_ps[0]
        assert len(np.unique(reads)) <= 4


def test_media_time_is_not_on_the_io_path() -> None:
    slow = ((0.0, 90_000_000), (1.0, 90_000_000))
    fast, tlc = (
        run(nvme_loop(queue_depth=1, media_read=m, media_write=m)).classes[0] for m in (CONSTANT, slow)
    )
    assert tlc.latency.mean_ps - fast.latency.mean_ps == pytest.approx(86_000_000)
    assert tlc.io_path.mean_ps == pytest.approx(fast.io_path.mean_ps)


def test_waiting_for_a_die_counts_as_media() -> None:
    one_die = run(nvme_loop(dies=1, queue_depth=8)).classes[0]
    free = run(nvme_loop(dies=0, queue_depth=8)).classes[0]
    assert one_die.latency.mean_ps > 3 * free.latency.mean_ps
    assert one_die.io_path.mean_ps < 1.2 * free.io_path.mean_ps


def test_replayed_nvme_starts_when_recorded_whatever_the_device_does() -> None:
    n = 700
    times = np.arange(n, dtype=np.int64) * 100_000
    operations = np.arange(n) % 3
    sizes = np.where(operations == nvme.FLUSH, 0, 4096)
    slow = ((0.0, 50_000_000), (1.0, 50_000_000))
    records = np.zeros(n, NVME_DTYPE)
    records["t_ps"], records["op"], records["bytes"] = times, operations, sizes
    program = nvme.replay(
        nvme.Controller(media_read=slow, media_write=slow, dies=1, controller_ps=0, msi=False),
        records,
        seed=1,
        stream=100,
    )
    check_shape(program)
    outcome = run(program, keep=n)
    assert {c.name: c.requests for c in outcome.classes} == {"read": 234, "write": 233, "flush": 233}
    # One die serves one request per 50 us and they arrive every 0.1 us: a queue that only grows must show.
    kept = outcome.kept_ps[0]
    assert kept[-1] > 0.95 * n * 50_000_000 - times[-1]


@settings(max_examples=25)
@given(
    st.integers(1, 1500),
    st.sampled_from([nic.RX, nic.TX]),
    st.sampled_from([0, 60, 1514, 9000]),
    st.integers(1, 16),
    st.integers(1, 5),
    st.integers(0, 7),
)
def test_nic_moves_every_frame_once(
    n: int, direction: int, size: int, batch: int, done: int, msi: int
) -> None:
    program = nic_loop(
        requests=n,
        direction=direction,
        frame_bytes=size,
        batch=batch,
        completions=done,
        msi=msi,
    )
    steps = check_shape(program)
    payload = steps[(steps["buffer"] == BUFFER_DATA) & (steps["kind"] != DELAY)]
    assert sorted(payload["request"]) == list(range(n))
    assert set(payload["kind"]) == {WRITE_UP if direction == nic.RX else READ_UP}
    if size:
        assert (payload["bytes"] == size).all()
    else:
        assert set(payload["bytes"]) <= {60, 590, 1514}
    completions = steps[(steps["buffer"] == BUFFER_QUEUE) & (steps["kind"] == WRITE_UP)]
    if direction == nic.RX:
        assert completions["bytes"].sum() == n * 64
    doorbells = steps[steps["buffer"] == BUFFER_MMIO]
    if direction == nic.RX:
        assert len(doorbells) == sum(1 for frame in range(n) if frame % 1024 % batch == 0)
    outcome = run(program)
    assert outcome.classes[0].requests == n


@pytest.mark.parametrize("size", [0, 60, 1514])
def test_frames_come_at_the_asked_rate_and_never_faster_than_the_line(size: int) -> None:
    steps = steps_of(nic_loop(requests=20_000, frame_bytes=size, rate_bps=40_000_000_000))
    arrivals = steps[(steps["flags"] & BEGIN) > 0]["not_before_ps"]
    payload = steps[(steps["buffer"] == BUFFER_DATA) & (steps["kind"] == WRITE_UP)]["bytes"]
    line = (payload + 24) * 80  # ps at 100 Gb/s
    assert (np.diff(arrivals) >= line[1:]).all()
    rate = float((payload + 24).sum() * 8 / arrivals[-1]) * 1e12
    assert rate == pytest.approx(40e9, rel=0.02)


@pytest.mark.parametrize("n", [1, 511, 513, 700, 1030])
@pytest.mark.parametrize("batch", [2, 9, 100, 1000])
def test_a_write_back_may_end_frames_of_earlier_chunks(n: int, batch: int) -> None:
    program = nic_loop(requests=n, completions=batch)
    check_shape(program)
    assert run(program).classes[0].requests == n


def test_large_frames_are_not_cut() -> None:
    sizes = np.array([60, 65_226, 1514])
    records = frames([0, 10_000_000, 20_000_000], sizes.tolist(), [0, 0, 1])
    program = nic.replay(nic_adapter(), records)
    steps = check_shape(program)
    payload = steps[(steps["buffer"] == BUFFER_DATA) & (steps["kind"] != DELAY)]
    assert payload["bytes"].tolist() == sizes.tolist()


def test_a_copy_whose_command_comes_late_is_late() -> None:
    def latency(lead: int) -> int:
        rows = [(i * 50 * US, 5 * US, gpu.D2H, 64, 1) for i in range(20)]
        return int(run(gpu_job(rows, launch_lead_ps=lead), keep=20).kept_ps[0, -1])

    # Rung in at the start itself, all of the launch path is waited for, which is what the lead is.
    assert latency(0) - latency(10 * US) == pytest.approx(ENGINE.launch_lead_ps, rel=0.05)


def test_a_copy_behind_a_long_one_was_rung_in_when_that_one_started() -> None:
    """The first takes 20 us more than recorded, which makes the host late; the second takes 90 us less."""
    rows = [(0, US, gpu.H2D, 1 << 20, 1), (3 * US, 100 * US, gpu.H2D, 4096, 1)]
    alone = run(gpu_job([(10 * US, US, gpu.H2D, 4096, 1)]), keep=1).kept_ps[0, 0]
    found = run(gpu_job([*rows, (104 * US, US, gpu.H2D, 4096, 1)]), keep=3)
    assert found.kept_ps[0, 2] == pytest.approx(alone, rel=0.01)


def test_many_events_at_one_time_take_linear_time() -> None:
    # Walking back over all of them for each would take minutes.
    outcome = run(gpu_job([(0, 0, gpu.WORK, 0, 1)] * 200_000))
    assert sum(c.requests for c in outcome.classes) == 200_000


def test_a_burst_rings_one_doorbell_for_its_frames() -> None:
    steps = steps_of(nic_loop(requests=64, direction=nic.TX))
    assert (steps["kind"] == WRITE_DOWN).sum() == 8
    starts = steps[(steps["flags"] & BEGIN) > 0]["not_before_ps"].reshape(8, 8)
    assert (starts == starts[:, :1]).all()


@settings(max_examples=20)
@given(
    st.lists(
        st.tuples(st.integers(0, 3_000_000), st.integers(1, 2000), st.integers(0, 1)), min_size=1, max_size=80
    )
)
def test_replayed_frames_keep_times_sizes_and_directions(rows: list[tuple[int, int, int]]) -> None:
    rows.sort()
    t, size, direction = (np.array(c, np.int64) for c in zip(*rows, strict=True))
    t -= t[0]
    program = nic.replay(nic_adapter(completions=3), frames(t, size, direction))
    steps = check_shape(program)
    payload = steps[(steps["buffer"] == BUFFER_DATA) & (steps["kind"] != DELAY)]
    payload = payload[np.argsort(payload["request"], kind="stable")]
    assert payload["bytes"].tolist() == size.tolist()
    assert (payload["kind"] == READ_UP).tolist() == (direction == nic.TX).tolist()
    arrivals = steps[(steps["flags"] & BEGIN) > 0]
    assert sorted(arrivals["not_before_ps"]) == t.tolist()
    outcome = run(program)
    assert sum(c.requests for c in outcome.classes) == len(rows)


US = 1_000_000


@st.composite
def jobs(draw: st.DrawFn) -> list[tuple[int, int, int, int, int]]:
    rows = []
    now = 0
    for _ in range(draw(st.integers(1, 60))):
        now += draw(st.integers(0, 20)) * US // 4
        kind = draw(st.integers(0, 2))
        size = draw(st.sampled_from([0, 4, 512, 5000, 100_000])) if kind != 2 else 0
        rows.append((now, draw(st.integers(0, 10)) * US // 2, kind, size, draw(st.integers(5, 7))))
    return rows


@settings(max_examples=40)
@given(jobs())
def test_gpu_jobs_move_every_copy_once_and_keep_the_order_of_streams(
    rows: list[tuple[int, int, int, int, int]],
) -> None:
    program = gpu_job(rows)
    steps = check_shape(program)
    copies = [r for r in rows if r[2] != gpu.WORK and r[3] > 0]
    data = steps[(steps["buffer"] == BUFFER_DATA) & (steps["kind"] != DELAY)]
    assert data["bytes"].tolist() == [r[3] for r in copies]
    assert (data["kind"] == READ_UP).tolist() == [r[2] == gpu.H2D for r in copies]
    assert (steps["kind"] == WRITE_DOWN).sum() == ENGINE.doorbells * len(rows)
    outcome = run(program)
    by_name = {c.name: c.requests for c in outcome.classes}
    assert by_name["h2d"] + by_name["d2h"] == len(copies)
    assert by_name["launch"] == len(rows) - len(copies)
    # Nothing starts before its recorded time, so the job is never shorter than the recording.
    assert outcome.job_ps[0] >= rows[-1][0] - max(rows[0][0] - ENGINE.launch_lead_ps, 0)


def test_a_copy_starts_at_the_later_of_its_time_and_its_predecessors_end_plus_the_gap() -> None:
    alone = run(gpu_job([(10 * US, US, gpu.H2D, 4096, 1)]), keep=1).kept_ps[0, 0]
    # A predecessor that takes far longer than recorded: 1 us on record, over 60 us on this link.
    late = run(gpu_job([(0, US, gpu.H2D, 1 << 20, 1), (3 * US, US, gpu.H2D, 4096, 1)]), keep=2)
    # Latency counts from the intended start, so waiting for the stream is not in it ...
    assert late.kept_ps[0, 1] == pytest.approx(alone, rel=0.01)
    # ... but the job takes the first copy, the recorded gap of 2 us, and the second copy.
    assert late.job_ps[0] == pytest.approx(late.kept_ps[0, 0] + 2 * US + alone, abs=2 * US)
    both = run(gpu_job([(0, US, gpu.H2D, 1 << 20, 1), (3 * US, US, gpu.H2D, 4096, 2)]), keep=2)
    assert both.job_ps[0] < late.job_ps[0]


def test_kernels_keep_their_duration_and_their_gaps() -> None:
    rows = [(i * 10 * US, 7 * US, gpu.WORK, 0, 1) for i in range(50)]
    # Over this link commands take longer than the lead, which is that of 16 lanes.
    outcome = run(gpu_job(rows, launch_lead_ps=3 * US))
    recorded = 49 * 10 * US + 7 * US
    assert outcome.job_ps[0] == pytest.approx(recorded, rel=0.01)


def test_a_launch_that_the_gpu_waits_for_is_felt_and_one_ahead_of_time_is_not() -> None:
    def job(front_end: int, gap: int) -> int:
        rows = [(i * (5 * US + gap), 5 * US, gpu.WORK, 0, 1) for i in range(200)]
        return run(gpu_job(rows, front_end_ps=front_end)).job_ps[0]

    # Behind a kernel of 5 us the command is there long before its turn.
    assert job(1_000_000, 0) - job(600_000, 0) < 2 * US
    # With the GPU idle for 20 us before each kernel the launch is on the path: 0.4 us more count 200 times.
    assert job(1_000_000, 20 * US) - job(600_000, 20 * US) > 50 * US


def test_chunks_say_when_the_next_one_begins() -> None:
    for program in (nic_loop(requests=3000), nic_loop(requests=3000, direction=nic.TX)):
        chunks: Iterator[tuple[int, int]] = (
            (int(c.steps[(c.steps["flags"] & BEGIN) > 0]["not_before_ps"].min()), c.horizon_ps)
            for c in program.chunks()
        )
        starts, horizons = zip(*chunks, strict=True)
        assert all(h <= s for h, s in zip(horizons, starts[1:], strict=False))
        assert horizons[-1] == FOREVER
