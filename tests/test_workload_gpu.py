"""GPU traffic: jobs as recorded and as generated, accesses of threads, copies back to back."""

import csv
import gzip
import re
import tomllib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from step_listing import listing

from sevpcie_core.errors import ConfigError
from sevpcie_core.experiment import presets
from sevpcie_core.experiment.model import Scenario
from sevpcie_core.experiment.platforms import load_platform
from sevpcie_core.experiment.runner import Task
from sevpcie_core.experiment.scenario import load_scheme
from sevpcie_core.link.params import link_row
from sevpcie_core.link.run import Outcome, simulate
from sevpcie_core.spec import BUFFER_DATA, BUFFER_MMIO, BUFFER_QUEUE
from sevpcie_core.stats.draw import quantile_table
from sevpcie_core.validate import gpu_jobs as compared
from sevpcie_core.validate.probe import Conditions, device, rate
from sevpcie_core.workload import gpu, gpu_jobs, traces
from sevpcie_core.workload.gpu_jobs import Checkpoint, Cycle, Decode, Job, KvSwap, Training, Weights
from sevpcie_core.workload.gpu_raw import Copies, ZeroCopy
from sevpcie_core.workload.program import (
    BEGIN,
    DELAY,
    EARLY1,
    EARLY2,
    END,
    FOREVER,
    READ_UP,
    WRITE_DOWN,
    WRITE_UP,
    Program,
)
from sevpcie_core.workload.traces.records import GPU_D2H, GPU_DTYPE, GPU_H2D, GPU_WORK, Records

DOCS = Path(__file__).resolve().parent.parent / "docs"
US = 1_000_000
ENGINE = presets.device("gpu-gen5", None, ())[0].build("gpu-gen5").engine
LEAD = ENGINE.launch_lead_ps
LINK = link_row(
    generation=5, lanes=16, mps=256, mrrs=256, rcb=64, completion_bytes=256, propagation_ps=100_000, tags=768
)
SAMPLES = {"train_resnet50": Training(), "llm_decode": Decode(), "kv_swap": KvSwap()}


def measured(access: str, size: int, concurrency: int, pattern="sequential", inside_ps: int = 0) -> ZeroCopy:
    d = load_platform("xeon-h100").table.device
    return ZeroCopy(
        access=access,
        size=size,
        concurrency=concurrency,
        pattern=pattern,
        window=1 << 20,
        read_issue_ps=d.read_issue,
        write_issue_ps=d.write_issue,
        read_setup_ps=d.read_setup,
        write_setup_ps=d.write_setup,
        inside_ps=inside_ps,
    )


def recorded(records: Records) -> Program:
    return gpu.job(
        times_ps=records["t_ps"],
        durations_ps=records["dur_ps"],
        kinds=records["kind"],
        sizes=records["bytes"],
        streams=records["stream"],
        engine=ENGINE,
    )


def one(kind: int, size: int, duration_ps: int = 0) -> Program:
    return recorded(np.array([(10 * US, duration_ps, kind, size, 0)], GPU_DTYPE))


# What the page lists, by its headings there: a program, and what its steps are.
COMMAND = ("pointer", "doorbell", "entry", "commands", "front end")
COPY = (*COMMAND, "intended start", "set-up", "data", "semaphore")
OPERATIONS = {
    "A copy to the device": (lambda: one(gpu.H2D, 65536), COPY),
    "A copy from the device": (lambda: one(gpu.D2H, 65536), COPY),
    "A launch": (lambda: one(gpu.WORK, 0, 5 * US), (*COMMAND, "kernel", "fence", "fence", "semaphore")),
    "A load of a thread": (
        lambda: measured("load", 64, 1, inside_ps=636_000).program(1, 512, 1, 0),
        ("issue, thread", "data", "no mover", "inside the GPU"),
    ),
    "A store of a thread": (
        lambda: measured("store", 64, 1, inside_ps=636_000).program(1, 512, 1, 0),
        ("issue, thread", "no mover", "no set-up", "data"),
    ),
    "A load at a rate": (
        lambda: replace(measured("load", 64, 1, inside_ps=636_000), gap=10_000 << 10).program(1, 512, 1, 0),
        ("intended start", "issue, thread", "data", "no mover", "inside the GPU"),
    ),
    "Two copies back to back": (
        lambda: Copies("h2d", (1 << 20,), 1).program(2, ENGINE),
        (*COMMAND, "set-up", "data", "semaphore"),
    ),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_page_lists_the_steps_as_they_are(operation: str) -> None:
    page = (DOCS / "workloads.md").read_text()
    found = re.search(rf"^\*\*{operation}\*\*.*?^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert found is not None
    make, names = OPERATIONS[operation]
    assert found[1] == listing(make(), names)


# --- generated jobs against recordings ----------------------------------------------------------------------


def sample(name: str) -> Records:
    return traces.read_gpu(presets.sample(name))


def iterations(records: Records, first: np.ndarray) -> tuple[int, int]:
    """Return by the rules of `gpu_jobs` what iterations that begin at `first` have: kernel, gap, ps."""
    work = records[records["kind"] == GPU_WORK]["dur_ps"]
    times = np.diff(records["t_ps"][first])
    busy = np.add.reduceat(records["dur_ps"], first)[:-1]
    return round(work.mean() / 1e3) * 1000, round(np.median((times - busy) / np.diff(first)) / 1e3) * 1000


def test_defaults_of_training_follow_from_the_recording_by_the_rule() -> None:
    records = sample("train_resnet50")
    first = np.flatnonzero((records["kind"] == GPU_H2D) & (records["bytes"] > 512))
    job = Training()
    assert (job.kernel_ps, job.gap_ps) == iterations(records, first)
    step = records[first[0] : first[1]]
    copies = np.flatnonzero(step["kind"] != GPU_WORK)
    assert step["bytes"][copies].tolist() == [
        job.batch * job.sample_bytes,
        job.batch * job.label_bytes,
        job.loss_bytes,
    ]
    assert (np.diff(copies) - 1).tolist() == [job.prepare, job.kernels]


def test_defaults_of_decoding_follow_from_the_recording_by_the_rule() -> None:
    records = sample("llm_decode")
    first = np.flatnonzero(records["kind"] == GPU_D2H)
    job = Decode()
    assert (job.kernel_ps, job.gap_ps) == iterations(records, first)
    assert first[0] == 1 + job.prompt_kernels
    assert set(np.diff(first)) == {2 + job.kernels}
    assert len(first) == job.tokens
    weights = Weights()
    idle = np.diff(records["t_ps"]) - records["dur_ps"][:-1]
    assert weights.gap_ps == idle.min()
    assert (weights.kernel_ps, weights.kernels) == (job.kernel_ps, job.kernels // 24)


def test_defaults_of_swapping_follow_from_the_recording_by_the_rule() -> None:
    records = sample("kv_swap")
    job = KvSwap()
    idle = []
    for stream in np.unique(records["stream"]):
        mine = records[records["stream"] == stream]
        idle.append(np.diff(mine["t_ps"]) - mine["dur_ps"][:-1])
    number = np.arange(len(idle[0])) % job.blocks
    within = np.concatenate([gaps[number != job.blocks - 1] for gaps in idle])
    between = np.concatenate([gaps[number == job.blocks - 1] for gaps in idle])
    assert job.gap_ps == Checkpoint().copy_gap_ps == round(np.median(within) / 1e3) * 1000
    assert job.pause_ps == round(np.median(between) / 1e3) * 1000


@pytest.mark.parametrize("name", SAMPLES)
def test_generated_jobs_are_the_recorded_ones(name: str) -> None:
    points, missed = compared.compare_recording(name, SAMPLES[name], sample(name))
    assert points
    assert missed == []
    assert all(point.measured == point.modelled for point in points)


def test_a_wrong_job_shows() -> None:
    def wrong(name: str, job: Job) -> tuple[int, str]:
        points, missed = compared.compare_recording(name, job, sample(name))
        return sum(point.measured != point.modelled for point in points), " ".join(missed)

    count, said = wrong("train_resnet50", Training(label_bytes=4))
    assert count == 4
    assert "stream 0: record 3 is h2d of 512 B, generated h2d of 256 B" in said
    count, said = wrong("train_resnet50", Training(prepare=3))
    assert count == 4
    assert "record 3 is h2d of 512 B, generated a launch" in said
    assert wrong("kv_swap", KvSwap(blocks=100))[1] == "kv_swap: 768 copies; expected a multiple of 200"
    # As many bytes in as many copies per iteration, in another order.
    records = sample("llm_decode")
    copies = np.flatnonzero(records["kind"] != GPU_WORK)
    records["kind"][copies[[3, 4]]] = records["kind"][copies[[4, 3]]]
    _, missed = compared.compare_recording("llm_decode", Decode(), records)
    assert any("is d2h of 64 B, generated" in line or "is h2d of 64 B, generated" in line for line in missed)


def test_validate_reads_the_recordings_of_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "traces" / "gpu"
    folder.mkdir(parents=True)
    (folder / "kv_swap.csv.gz").write_bytes(presets.sample("kv_swap").read_bytes())
    (folder / "other.csv.gz").write_bytes(presets.sample("kv_swap").read_bytes())
    found = compared.compare(tmp_path)
    assert found.ok
    assert found.not_modelled == {"other recording": 1}
    # Another block's size in one place.
    with gzip.open(folder / "kv_swap.csv.gz", "rt", newline="") as file:
        rows = list(csv.reader(file))
    rows[5][rows[0].index("bytes")] = "4096"
    with gzip.open(folder / "kv_swap.csv.gz", "wt", newline="") as file:
        csv.writer(file).writerows(rows)
    found = compared.compare(tmp_path)
    assert not found.ok
    assert len(found.missed) == 1
    assert compared.compare(tmp_path / "nothing").ok is None


# --- what a job is ------------------------------------------------------------------------------------------


def times(most_us: int) -> st.SearchStrategy[int]:
    """Draw a time of a plan: nothing, or so much that few thousand records are rung in ahead."""
    return st.one_of(st.just(0), st.integers(US // 100, most_us * US))


JOBS = st.one_of(
    st.builds(
        Training,
        batch=st.integers(1, 8),
        sample_bytes=st.integers(0, 5000),
        prepare=st.integers(0, 3),
        kernels=st.integers(1, 20),
        kernel_ps=times(9),
        gap_ps=times(9),
        offload_bytes=st.sampled_from([0, 7, 100_000]),
        pieces=st.integers(1, 7),
    ),
    st.builds(
        Checkpoint,
        batch=st.integers(1, 8),
        sample_bytes=st.integers(0, 5000),
        kernels=st.integers(1, 20),
        gap_ps=st.integers(US, 9 * US),
        interval=st.integers(1, 4),
        weights_bytes=st.integers(5, 300_000),
        tensors=st.integers(1, 5),
        copy_gap_ps=times(1),
    ),
    st.builds(
        Decode,
        prompt=st.integers(1, 9),
        tokens=st.integers(0, 5),
        prompt_kernels=st.integers(0, 9),
        kernels=st.integers(0, 9),
        gap_ps=times(9),
    ),
    st.builds(
        KvSwap,
        blocks=st.integers(1, 30),
        block_bytes=st.integers(1, 70_000),
        gap_ps=times(9),
        pause_ps=times(99),
    ),
    st.builds(
        Weights,
        layer_bytes=st.integers(1, 300_000),
        kernels=st.integers(0, 9),
        kernel_ps=times(9),
        gap_ps=times(2),
    ),
)


def repeated(job: Job, count: int) -> Records:
    """Return the first records of a job the slow way: all cycles at once, sorted."""
    cycle = job.cycle()
    # Streams overlap the next cycle at most.
    times = -(-count // len(cycle.records)) + 2
    parts = [cycle.records.copy() for _ in range(times)]
    for i, part in enumerate(parts):
        part["t_ps"] += i * cycle.period_ps
    records = np.concatenate(parts)
    return records[np.argsort(records["t_ps"], kind="stable")][:count]


def job_program(job: Job, count: int) -> Program:
    return gpu_jobs.program(job, count, ENGINE)


def steps_of(program: Program) -> np.ndarray:
    return np.concatenate([chunk.steps for chunk in program.chunks()])


@settings(max_examples=60)
@given(JOBS, st.one_of(st.integers(1, 3000), st.integers(1500, 3000)))
@example(Weights(kernels=3), 5000)
@example(Checkpoint(kernels=3, interval=2, gap_ps=2 * US, tensors=3, copy_gap_ps=US), 5000)
def test_a_job_repeats_its_cycle(job: Job, count: int) -> None:
    records = np.concatenate(list(job.batches(count)))
    assert (np.diff(records["t_ps"]) >= 0).all()
    # At equal times streams may stand in any order; each of them is as it should be.
    expected = repeated(job, count)
    assert np.array_equal(records["t_ps"], expected["t_ps"])
    if job.cycle().period_ps:
        assert np.array_equal(np.sort(records), np.sort(expected))


@settings(max_examples=60)
@given(JOBS, st.integers(1, 2500))
def test_a_generated_job_has_the_steps_of_the_same_records_as_a_recording(job: Job, count: int) -> None:
    program = job_program(job, count)
    whole = recorded(np.concatenate(list(job.batches(count))))
    ours, theirs = steps_of(program), steps_of(whole)
    for name in ours.dtype.names:
        # Buffers are used again from cycle to cycle.
        if name not in ("address", "pad"):
            assert np.array_equal(ours[name], theirs[name]), name
    assert whole.reach <= program.reach


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 8 * US),
            st.integers(0, 30 * US),
            st.sampled_from([GPU_H2D, GPU_D2H, GPU_WORK]),
            st.integers(0, 9000),
            st.integers(0, 3),
        ),
        min_size=3,
        max_size=120,
    ),
    st.lists(st.integers(0, 119), min_size=1, max_size=6),
    st.sampled_from([0, LEAD, 20 * US]),
)
def test_steps_do_not_depend_on_where_batches_end(
    rows: list[tuple[int, int, int, int, int]], cuts: list[int], lead: int
) -> None:
    # Any events: of overlapping times within a stream, too.
    records = np.array(rows, GPU_DTYPE)
    records["t_ps"] = np.cumsum(records["t_ps"])
    edges = sorted({0, len(records), *(cut % len(records) for cut in cuts)})
    engine = {
        "largest": 9000,
        "buffers": 50,
        "reach_of": len(records),
        "engine": replace(ENGINE, launch_lead_ps=lead),
    }
    pieces = [records[a:b] for a, b in pairwise(edges)]
    whole = gpu.generated(lambda: iter([records]), **engine)
    parts = gpu.generated(lambda: iter(pieces), **engine)
    chunks = list(parts.chunks())
    ours, theirs = np.concatenate([c.steps for c in chunks]), steps_of(whole)
    for name in ours.dtype.names:
        if name != "pad":
            assert np.array_equal(ours[name], theirs[name]), name
    assert parts.reach == whole.reach
    # No step without dependencies starts before the horizon of an earlier chunk.
    for i, chunk in enumerate(chunks[:-1]):
        later = np.concatenate([c.steps for c in chunks[i + 1 :]])
        roots = later[(later["after"] == 0) & (later["after2"] == 0)]
        assert chunk.horizon_ps <= roots["not_before_ps"].min(initial=FOREVER)
    assert chunks[-1].horizon_ps == FOREVER


def run(program: Program, link: np.ndarray = LINK, keep: int = 0, stop_ps: int = 0) -> Outcome:
    return simulate(
        [program],
        link[None],
        host_table=quantile_table(((0.0, 350_000), (1.0, 350_000))),
        read_interval_ps=1000,
        seed=1,
        markers=[lambda steps: np.zeros(len(steps), np.bool_)],
        keep=keep,
        stop_ps=stop_ps,
    )


def check_device(program: Program) -> np.ndarray:
    """Hold a program of copies and launches against how the device works; return its steps."""
    steps = steps_of(program)
    place = np.arange(len(steps))
    for name in ("after", "after2"):
        assert (steps[name] >= 0).all()
        assert (steps[name] <= np.minimum(place, program.reach)).all()
    waits = [place - steps[name] for name in ("after", "after2")]
    begins = steps["request"][(steps["flags"] & BEGIN) > 0]
    ends = steps["request"][(steps["flags"] & END) > 0]
    assert sorted(begins) == sorted(ends) == list(range(len(begins)))
    moves = steps["kind"] != DELAY
    command = moves & (steps["kind"] == READ_UP) & (steps["buffer"] == BUFFER_QUEUE)
    # An entry is fetched behind its doorbell, commands behind their entry, and nothing else waits for either.
    entries, commands = np.flatnonzero(command).reshape(-1, 2).T
    assert (steps["bytes"][entries] == ENGINE.entry_bytes).all()
    assert (waits[0][commands] == entries).all()
    for at in entries:
        bell = steps[at - int(steps[at]["after"])]
        assert (bell["kind"], bell["buffer"]) == (WRITE_DOWN, BUFFER_MMIO)
        assert bell["request"] == steps[at]["request"]
    assert len(entries) * ENGINE.doorbells == (steps["kind"] == WRITE_DOWN).sum()
    assert len(np.unique(steps["address"][steps["kind"] == WRITE_DOWN])) == min(len(entries), 1) * 2
    # A semaphore goes out behind its data.
    data = moves & (steps["buffer"] == BUFFER_DATA)
    written = moves & (steps["kind"] == WRITE_UP) & (steps["buffer"] == BUFFER_QUEUE)
    done = written & (steps["request"] >= 0)
    assert np.array_equal(steps["request"][data], steps["request"][done])
    assert np.array_equal(waits[0][done], np.flatnonzero(data))
    # Behind each kernel, fences and another one.
    launches = len(entries) - data.sum()
    sizes = [ENGINE.semaphore_bytes, *[4] * ENGINE.launch_fences]
    assert sorted(steps["bytes"][written & ~done]) == sorted(sizes * launches)
    early = (steps["flags"][done] & EARLY1) > 0
    assert np.array_equal(early, steps["kind"][data] == WRITE_UP)
    # All lies in the buffers that the program has named.
    region = program.regions[np.searchsorted(program.regions["start"], steps["address"][moves], "right") - 1]
    assert (region["buffer"] == steps["buffer"][moves]).all()
    assert (steps["address"][moves] + steps["bytes"][moves] <= region["end"]).all()
    return steps


@settings(max_examples=60)
@given(JOBS, st.integers(1, 700))
def test_every_copy_once_and_in_the_order_of_its_stream(job: Job, count: int) -> None:
    program = job_program(job, count)
    steps = check_device(program)
    records = np.concatenate(list(job.batches(count)))
    copies = records[(records["kind"] != GPU_WORK) & (records["bytes"] > 0)]
    data = steps[(steps["buffer"] == BUFFER_DATA) & (steps["kind"] != DELAY)]
    assert np.array_equal(data["bytes"], copies["bytes"])
    assert np.array_equal(data["kind"] == READ_UP, copies["kind"] == GPU_H2D)
    outcome = run(program)
    assert {c.name: c.requests for c in outcome.classes} == {
        "h2d": int((copies["kind"] == GPU_H2D).sum()),
        "d2h": int((copies["kind"] == GPU_D2H).sum()),
        "launch": count - len(copies),
    }
    assert sum(c.application_bytes for c in outcome.classes) == copies["bytes"].sum()


def test_no_bytes_are_lost_where_a_copy_is_cut() -> None:
    cycle = Training(offload_bytes=100_003, pieces=7).cycle().records
    assert cycle["bytes"][(cycle["kind"] == GPU_D2H) & (cycle["bytes"] > 4)].sum() == 100_003
    equal = gpu_jobs.tensors_of(100_003, 7)
    assert (len(equal), equal.sum(), np.ptp(equal)) == (7, 100_003, 1)


def test_a_checkpoint_of_resnet50_has_its_tensors_sizes() -> None:
    cycle = Checkpoint().cycle().records
    weights = cycle[cycle["stream"] == 1]["bytes"]
    assert (len(weights), weights.sum()) == (161, 4 * 25_557_032)
    # The first convolution and its normalisation, the largest, and the classifier (torchvision).
    assert weights[:3].tolist() == [4 * 64 * 3 * 49, 256, 256]
    assert weights.max() == 4 * 512 * 512 * 9
    assert weights[-2:].tolist() == [4 * 1000 * 2048, 4000]
    offloaded = Training(offload_bytes=4 * 25_557_032, pieces=161).cycle().records
    for kind in (GPU_D2H, GPU_H2D):
        assert offloaded[offloaded["kind"] == kind]["bytes"].tolist()[-161:] == weights.tolist()
    # Another number of pieces, or of bytes, says nothing of a network.
    assert np.ptp(gpu_jobs.tensors_of(4 * 25_557_032, 160)) <= 1
    assert np.ptp(gpu_jobs.tensors_of(4 * 25_557_033, 161)) <= 1


def test_layers_are_copied_while_the_other_buffer_is_used() -> None:
    job = Weights(layer_bytes=1 << 20, kernels=10, kernel_ps=10 * US, gap_ps=US)
    busy = 2 * job.cycle().period_ps // 2

    def cycle_ps(size: int) -> float:
        outcome = [
            run(job_program(Weights(size, job.kernels, job.kernel_ps, job.gap_ps), n * 22)).job_ps[0]
            for n in (10, 20)
        ]
        return (outcome[1] - outcome[0]) / 10

    # 19 us of a layer's copy are hidden behind 110 us of the other layer's kernels ...
    assert cycle_ps(1 << 20) == pytest.approx(busy, rel=0.001)
    # ... which 20 MiB at less than 60 GB/s are not: the link sets the pace, for both buffers.
    assert cycle_ps(20 << 20) > 2 * (20 << 20) / 0.060
    assert cycle_ps(20 << 20) == pytest.approx(2 * (20 << 20) / 0.056, rel=0.07)


def test_training_goes_on_beside_a_checkpoint() -> None:
    shape = {"kernels": 50, "kernel_ps": 20 * US, "gap_ps": 2 * US, "interval": 4}
    without = run(job_program(Checkpoint(weights_bytes=0, **shape), 800)).job_ps[0]
    small = Checkpoint(weights_bytes=1 << 20, tensors=8, **shape)
    records = small.cycle().records
    # 4 steps, then the weights; they are written while later steps run.
    assert (records["stream"] == 1).sum() == 8
    assert records["t_ps"][records["stream"] == 1].min() == small.cycle().period_ps
    assert run(job_program(small, 824)).job_ps[0] == pytest.approx(without, rel=0.01)


def test_an_endless_job_ends_by_duration() -> None:
    outcome = run(job_program(KvSwap(pause_ps=100 * US), 1 << 40), stop_ps=5_000 * US)
    assert outcome.job_ps[0] == pytest.approx(5_000 * US, rel=0.02)
    assert sum(c.requests for c in outcome.classes) > 100


def test_a_job_of_too_many_records_at_once_is_refused() -> None:
    with pytest.raises(ConfigError, match="2 copies and kernels in 10ps; expected longer kernels or gaps"):
        job_program(KvSwap(blocks=1, gap_ps=0, pause_ps=10), 100)
    # All at one time: none is ahead of another.
    job_program(KvSwap(blocks=1, gap_ps=0, pause_ps=0), 100)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Training(kernels=-1), "kernels: -1; expected 0 or more"),
        (lambda: Training(offload_bytes=3, pieces=4), "pieces: 4 of 3 bytes; expected 1 to 3"),
        (lambda: Checkpoint(interval=200), "125761 copies and kernels in a cycle; expected 1 to 65536"),
        (lambda: Checkpoint(tensors=0), "tensors: 0 of 102228128 bytes; expected"),
        (lambda: Checkpoint(copy_gap_ps=10**12), "copy_gap: the pauses of a checkpoint are longer"),
        (lambda: KvSwap(blocks=0), "0 copies and kernels in a cycle"),
    ],
)
def test_jobs_that_cannot_be(make, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert said in str(caught.value)


# --- loads and stores of threads ----------------------------------------------------------------------------


@pytest.mark.parametrize("access", ["load", "store"])
@pytest.mark.parametrize("size", [32, 64, 128])
def test_threads_access_as_the_device_that_was_measured(access: str, size: int) -> None:
    platform = load_platform("xeon-h100")
    kind = "read" if access == "load" else "write"
    theirs = device(platform, kind, size, Conditions(window=1 << 20, pattern="random"), outstanding=512)
    ours = measured(access, size, 512, "random").dma(1, platform.table.link.mrrs, 1, 0)
    assert ours == theirs


def test_a_load_moves_a_sector_at_least_and_a_store_what_it_stores() -> None:
    assert measured("load", 4, 1).dma(9, 512, 1, 0).size == 32
    assert measured("both", 4, 1).dma(9, 512, 1, 0).size == 32
    assert measured("store", 4, 1).dma(9, 512, 1, 0).size == 4


@settings(max_examples=30)
@given(
    st.sampled_from(["load", "store", "both"]),
    st.sampled_from([32, 64, 128]),
    st.integers(1, 3000),
    st.integers(1, 3000),
)
def test_every_access_once(access: str, size: int, concurrency: int, count: int) -> None:
    outcome = run(measured(access, size, concurrency).program(count, 512, 1, 0))
    by_name = {c.name: c.requests for c in outcome.classes}
    stores = {"load": 0, "store": count, "both": (count + 1) // 2}[access]
    assert by_name == {"load": count - stores, "store": stores}
    assert sum(c.application_bytes for c in outcome.classes) == count * size


def scenario(traffic: dict[str, object], **top: object) -> Scenario:
    top = {"name": "gpu", "requests": 4000, "link": "gen5x16"} | top
    top = {key: value for key, value in top.items() if value is not None}
    entry = {"preset": "gpu-gen5", "traffic": {"kind": "gpu", **traffic}}
    return Scenario.from_dict(top | {"workload": [{"name": "w", "device": {"gpu": entry}}]})


def simulated(described: Scenario, scheme: str = "none", policy: str = "off") -> Outcome:
    resolved = described.resolve()
    task = Task.prepare(resolved, resolved.workloads[0], 1)
    return task.simulate(load_scheme(scheme), policy)


def test_a_scenario_on_the_measured_platform_is_as_fast_as_the_measured_device() -> None:
    traffic = {"job": "zero-copy", "size": 32, "concurrency": 256, "pattern": "random", "inside": "0ns"}
    outcome = simulated(scenario(traffic, platform="xeon-h100", link=None, requests=20_000))
    platform = load_platform("xeon-h100")
    conditions = Conditions(window=256 << 20)
    per_second = rate(platform, "read", 32, conditions, outstanding=256)
    assert 20_000 * 1e12 / outcome.job_ps[0] == pytest.approx(per_second, rel=0.02)


def test_the_time_inside_the_gpu_is_what_host_and_link_leave_of_a_measured_load() -> None:
    host, _ = presets.host("server", None, ())
    link, _ = presets.link("gen5x16", None, ())
    p50 = dict(host.build("server").read_latency)[0.5]
    rest = load_platform("xeon-h100").table.host.read_latency - p50 - 2 * link.propagation
    inside = scenario({"job": "zero-copy"}).resolve().workloads[0].devices[0].traffic.accesses.inside_ps
    assert inside == round(rest, -3)


@pytest.mark.parametrize(
    ("rate", "size", "access", "gap_ps"),
    [
        ("20Gb/s", "32B", "load", 12_800),
        ("20Gb/s", "4B", "load", 12_800),
        ("20Gb/s", "4B", "store", 1_600),
        ("250Mops/s", "4B", "load", 4_000),
        ("1500Mops/s", "64B", "both", 682_666 / 1024),
    ],
)
def test_a_rate_is_that_of_the_data_or_of_the_accesses(
    rate: str, size: str, access: str, gap_ps: float
) -> None:
    described = scenario({"job": "zero-copy", "rate": rate, "size": size, "access": access})
    found = described.resolve().workloads[0].devices[0].traffic.accesses
    assert found.gap / 1024 == gap_ps
    assert found.program(10, 512, 1, 0).open_loop
    again = Scenario.from_dict(tomllib.loads(described.to_toml(inline=True)))
    assert again.digest() == described.digest()


def test_threads_that_are_too_few_for_a_rate_show_in_the_latency_and_threads_enough_do_not() -> None:
    # A thread makes about 0.7 million loads per second.
    traffic = {"job": "zero-copy", "rate": "40Mops/s"}
    mean = {
        n: simulated(scenario(traffic | {"concurrency": n})).classes[0].latency.mean_ps for n in (32, 2048)
    }
    alone = (
        simulated(scenario({"job": "zero-copy", "concurrency": 1}, requests=50)).classes[0].latency.mean_ps
    )
    assert mean[2048] == pytest.approx(alone, rel=0.01)
    assert mean[32] > 5 * mean[2048]


def test_a_rate_that_cannot_be_is_told() -> None:
    said = r"traffic\.rate: '1Mb/s' is 30\.5 accesses of 4096 B per second; expected 1000 or more"
    with pytest.raises(ConfigError, match=said):
        scenario({"job": "zero-copy", "rate": "1Mb/s", "size": 4096})
    with pytest.raises(
        ConfigError, match=r"traffic\.rate: '1ops': unknown unit 'ops'; expected a rate of op"
    ):
        scenario({"job": "zero-copy", "rate": "1ops"})
    with pytest.raises(ConfigError, match=r"'0b/s'; expected data or operations per second, 1 to 100Tb/s"):
        scenario({"job": "zero-copy", "rate": "0b/s"})


# --- copies back to back ------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    st.sampled_from(["h2d", "d2h", "both"]),
    st.lists(st.integers(1, 200_000), min_size=1, max_size=3),
    st.integers(1, 40),
    st.integers(1, 400),
)
def test_every_copy_back_to_back_once(direction: str, sizes: list[int], depth: int, count: int) -> None:
    program = Copies(direction, tuple(sizes), depth).program(count, ENGINE)
    steps = check_device(program)
    data = steps[(steps["buffer"] == BUFFER_DATA) & (steps["kind"] != DELAY)]
    assert len(data) == count
    # Each direction goes through the sizes by itself.
    for kind in (READ_UP, WRITE_UP):
        mine = data[data["kind"] == kind]["bytes"]
        assert np.array_equal(mine, np.resize(sizes, len(mine)))
    to_host = {"h2d": 0, "d2h": count, "both": count // 2}[direction]
    assert (data["kind"] == WRITE_UP).sum() == to_host
    outcome = run(program)
    assert {c.name: c.requests for c in outcome.classes} == {"h2d": count - to_host, "d2h": to_host}
    # Of a direction, the set-up of a copy waits for the data of the last one.
    for kind, early in ((READ_UP, 0), (WRITE_UP, EARLY2)):
        at = np.flatnonzero((steps["buffer"] == BUFFER_DATA) & (steps["kind"] == kind))
        setup = at[1:] - 1
        assert np.array_equal(setup - steps["after2"][setup], at[:-1])
        assert (steps["flags"][setup] & EARLY2 == early).all()


def period_ps(copies: Copies, link: np.ndarray = LINK) -> float:
    """Return the time of one copy in the steady state."""
    few, many = (run(copies.program(n, ENGINE), link).job_ps[0] for n in (40, 120))
    return (many - few) / 80


def test_a_queue_hides_the_way_to_the_engine_and_not_its_set_up() -> None:
    path = ENGINE.front_end_ps + 1_200_000  # doorbell, reads of entry and commands
    alone, queued = (period_ps(Copies("h2d", (4096,), depth)) for depth in (1, 8))
    assert alone - queued == pytest.approx(path, rel=0.15)
    # Set-up, round trip, and 4 KiB on the wire.
    assert queued == pytest.approx(ENGINE.h2d_setup_ps + 550_000 + 4096 / 0.060, rel=0.05)


@pytest.mark.parametrize("direction", ["h2d", "d2h"])
def test_large_copies_fill_the_link(direction: str) -> None:
    assert (8 << 20) / period_ps(Copies(direction, (8 << 20,), 2)) * 1e3 == pytest.approx(56, rel=0.05)


def test_both_directions_go_at_once() -> None:
    one, both = (period_ps(Copies(direction, (1 << 20,), 2)) for direction in ("h2d", "both"))
    assert both < 0.65 * one


def test_the_outstanding_window_is_the_tags_of_the_device() -> None:
    few = link_row(
        generation=5,
        lanes=16,
        mps=256,
        mrrs=256,
        rcb=64,
        completion_bytes=256,
        propagation_ps=100_000,
        tags=16,
    )
    # 16 reads of 256 B per round trip of 550 ns and the time of one on the wire.
    assert (1 << 20) / (period_ps(Copies("h2d", (1 << 20,), 2), few) - US - 550_000) == pytest.approx(
        16 * 256 / (550_000 + 256 / 0.060), rel=0.05
    )


# --- scenarios ----------------------------------------------------------------------------------------------

TRAFFIC = (
    {"job": "training", "kernels": 50},
    {"job": "decode", "tokens": 3, "kernels": 50, "prompt_kernels": 10},
    {"job": "kv-swap", "blocks": 20},
    {"job": "weights", "layer": "1MiB"},
    {"job": "checkpoint", "kernels": 50, "weights": "4MiB"},
    {"job": "zero-copy", "access": "both", "size": 64},
    {"job": "zero-copy", "access": "both", "size": 64, "rate": "100Mops/s"},
    {"job": "copies", "direction": "both", "size": ["64KiB", 5]},
)


@pytest.mark.parametrize("traffic", TRAFFIC, ids=lambda t: t["job"])
def test_a_scenario_runs_each_job_plain_and_protected(traffic: dict[str, object]) -> None:
    described = scenario(traffic, requests=600)
    plain = simulated(described)
    assert sum(c.requests for c in plain.classes) == 600
    for scheme, policy in (("sev-pcie", "all"), ("bounce-buffer", "selective")):
        protected = simulated(described, scheme, policy)
        assert [c.requests for c in protected.classes] == [c.requests for c in plain.classes]
        assert [c.application_bytes for c in protected.classes] == [
            c.application_bytes for c in plain.classes
        ]
    # Written out and read back it is the same scenario.
    again = Scenario.from_dict(tomllib.loads(described.to_toml(inline=True)))
    assert again.digest() == described.digest()


def test_digests_tell_jobs_and_their_numbers_apart() -> None:
    found = {
        scenario(traffic).digest()
        for traffic in (
            *TRAFFIC,
            {"job": "training"},
            {"job": "training", "batch": 65},
            {"job": "zero-copy"},
            {"job": "zero-copy", "inside": "1ns"},
            {"job": "copies", "direction": "h2d"},
            {"job": "copies", "direction": "d2h"},
        )
    }
    assert len(found) == len(TRAFFIC) + 6


def test_what_keys_break_together_is_said_with_its_place() -> None:
    with pytest.raises(ConfigError, match=r"traffic\.tensors: 9 of 5 bytes; expected 1 to 5"):
        scenario({"job": "checkpoint", "weights": 5, "tensors": 9})
    with pytest.raises(ConfigError, match=r"traffic\.size: a list; expected a size .* or a list of 1 to 64"):
        scenario({"job": "copies", "direction": "h2d", "size": []})
    with pytest.raises(ConfigError, match=r"traffic\.size: 0; expected a size from 1"):
        scenario({"job": "copies", "direction": "h2d", "size": ["1MiB", 0]})
    with pytest.raises(ConfigError, match=r"traffic\.job: 125761 copies and kernels in a cycle"):
        scenario({"job": "checkpoint", "interval": 200})


def test_the_page_s_scenario_has_the_five_jobs_of_programs() -> None:
    page = (DOCS / "workloads.md").read_text()
    (text,) = [
        t for t in re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL) if "gpu-jobs" in t
    ]
    described = Scenario.from_dict(tomllib.loads(text))
    found = [w.devices[0].traffic for w in described.resolve().workloads]
    assert [t.name for t in found] == ["training", "decode", "kv-swap", "weights", "checkpoint"]
    assert all(t.job == type(t.job)() for t in found)
    short = described.with_options(requests=50, seeds=1).resolve()
    for workload in short.workloads:
        Task.prepare(short, workload, 1).simulate(load_scheme("none"), "off")


def test_a_cycle_is_ascending_from_0() -> None:
    for job in (Training(), Decode(), KvSwap(), Weights(), Checkpoint()):
        cycle = job.cycle()
        assert isinstance(cycle, Cycle)
        assert cycle.records["t_ps"][0] == 0
        assert (np.diff(cycle.records["t_ps"]) >= 0).all()
