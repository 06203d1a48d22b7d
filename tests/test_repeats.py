"""Recordings in the background start over until the foreground is done."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sevpcie_core.experiment import presets
from sevpcie_core.experiment.looks import document
from sevpcie_core.experiment.runner import Task
from sevpcie_core.experiment.scenario import Scenario, load_scheme
from sevpcie_core.link.run import Outcome
from sevpcie_core.spec import BUFFER_DATA
from sevpcie_core.tlp.kinds import MWR64
from sevpcie_core.workload import gpu, nic, nvme, tlps
from sevpcie_core.workload.mix import period_ps, several
from sevpcie_core.workload.program import BEGIN, DELAY, Program
from sevpcie_core.workload.traces.pace import occupancy_ps
from sevpcie_core.workload.traces.records import GPU_DTYPE, NIC_DTYPE, NVME_DTYPE, NVME_RUNG_DTYPE, TLP_DTYPE

US = 1_000_000
G = 10**9
CONSTANT = ((0.0, US), (1.0, US))
ENGINE = presets.device("gpu-gen5", None, ())[0].build("gpu-gen5").engine


def first_steps(program: Program, n: int) -> np.ndarray:
    parts: list[np.ndarray] = []
    for chunk in program.chunks():
        parts.append(chunk.steps)
        if sum(map(len, parts)) >= n:
            break
    return np.concatenate(parts)


def begun(program: Program, n: int) -> np.ndarray:
    """Return the intended starts of the first requests."""
    starts: list[int] = []
    for chunk in program.chunks():
        starts += chunk.steps["not_before_ps"][chunk.steps["flags"] & BEGIN != 0].tolist()
        if len(starts) >= n:
            break
    return np.array(starts[:n])


def same_but_for_times(a: np.ndarray, b: np.ndarray) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in ("kind", "bytes", "buffer", "after", "flags"))


def test_a_period_is_a_span_and_a_mean_gap() -> None:
    assert period_ps(np.array([0, 10, 20])) == 30
    assert period_ps(np.array([5, 6, 9])) == 6
    # Of a single moment there is none.
    assert period_ps(np.array([7])) == period_ps(np.array([7, 7])) == 0


gaps = st.lists(st.integers(0, 3 * US), min_size=1, max_size=700)


@settings(max_examples=30)
@given(gaps, st.integers(1, 4 * US))
def test_commands_come_again_a_period_later(between: list[int], period: int) -> None:
    records = np.zeros(len(between) + 1, NVME_DTYPE)
    records["t_ps"] = np.cumsum([0, *between])
    records["bytes"] = 4096
    records["op"] = np.arange(len(records)) % 2
    repeat = int(records["t_ps"][-1]) + period
    control = nvme.Controller(CONSTANT, CONSTANT, 0, 0, True)
    program = nvme.replay(control, records, repeat_ps=repeat, seed=1, stream=1)
    n = len(records)
    wanted = records["t_ps"] + np.arange(3)[:, None] * repeat
    assert np.array_equal(begun(program, 3 * n), wanted.ravel())
    once = first_steps(nvme.replay(control, records, seed=1, stream=1), 10**9)
    again = first_steps(program, len(once))[: len(once)]
    for name in set(once.dtype.names) - {"pad"}:
        assert np.array_equal(once[name], again[name]), name


frames = st.lists(
    st.tuples(st.integers(0, 2 * US), st.sampled_from([60, 1514]), st.integers(0, 1)),
    min_size=2,
    max_size=600,
)


@settings(max_examples=30)
@given(frames, st.sampled_from([0, G, 100 * G]), st.sampled_from([None, nic.RX, nic.TX]))
def test_frames_come_again_a_period_later(rows, line: int, only: int | None) -> None:
    records = np.empty(len(rows), NIC_DTYPE)
    records["t_ps"] = np.cumsum([gap for gap, _, _ in rows])
    records["bytes"] = [size for _, size, _ in rows]
    records["direction"] = [direction for _, _, direction in rows]
    mine = records if only is None else records[records["direction"] == only]
    if not len(mine):
        return
    repeat = period_ps(records["t_ps"]) or 1
    program = nic.replay(nic.Adapter(), records, line_rate_bps=line, only=only, repeat_ps=repeat)
    n = len(mine)
    turns = begun(program, 3 * n).reshape(3, n)
    period = repeat
    if line:
        for direction in (nic.RX, nic.TX):
            sizes = mine["bytes"][mine["direction"] == direction]
            period = max(period, int(occupancy_ps(sizes, line).sum()))
    if not line:
        assert np.array_equal(turns, mine["t_ps"] - mine["t_ps"][0] + np.arange(3)[:, None] * period)
    # However fast they were captured, the line sends them all in a period, and never falls further behind.
    assert np.array_equal(turns[2] - turns[1], np.full(n, period))


def test_directions_stay_together_where_the_line_is_too_slow_for_one() -> None:
    records = np.zeros(11, NIC_DTYPE)
    records["t_ps"], records["bytes"] = np.arange(11) * US // 10, 1514
    records["direction"] = [nic.RX] * 10 + [nic.TX]
    program = nic.replay(nic.Adapter(), records, line_rate_bps=G, repeat_ps=2 * US)
    turns = begun(program, 33).reshape(3, 11)
    assert np.array_equal(np.diff(turns, axis=0), np.full((2, 11), 10 * 1538 * 8000))


def job(records: np.ndarray, make=gpu.repeated) -> Program:
    return make(
        times_ps=records["t_ps"],
        durations_ps=records["dur_ps"],
        kinds=records["kind"],
        sizes=records["bytes"],
        streams=records["stream"],
        engine=ENGINE,
    )


events = st.lists(
    st.tuples(
        st.integers(0, 9 * US),
        st.integers(0, 9 * US),
        st.integers(0, 2),
        st.integers(1, 9999),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=30)
@given(events)
def test_a_job_goes_on_as_if_it_had_been_recorded_again_and_again(rows) -> None:
    records = np.array(rows, GPU_DTYPE)
    records["t_ps"] = np.cumsum(records["t_ps"]) - records["t_ps"][0]
    period = max(int((records["t_ps"] + records["dur_ps"]).max()), ENGINE.launch_lead_ps)
    turns = 5
    long = np.concatenate([records] * turns)
    long["t_ps"] += np.repeat(np.arange(turns) * period, len(records))
    once = first_steps(job(long, gpu.job), 10**9)
    program = job(records)
    again = first_steps(program, len(once))[: len(once)]
    for name in set(once.dtype.names) - {"pad", "address"}:
        assert np.array_equal(once[name], again[name]), name
    place = np.arange(len(again))
    for name in ("after", "after2"):
        assert ((again[name] <= place) & (again[name] <= program.reach)).all()
    # Buffers are those of one turn.
    data = again[(again["buffer"] == BUFFER_DATA) & (again["kind"] != DELAY)]
    copies = int((records["kind"] != gpu.WORK).sum())
    assert len(np.unique(data["address"])) == copies


# --- scenarios ---

TRACES = {
    "nvme": ("io.csv", "time_us,op,bytes\n0,read,4096\n3,write,8192\n10,read,4096\n", "nvme-dram", "gen5x4"),
    "nic": ("f.csv", "time_us,bytes,direction\n0,1514,rx\n2,60,tx\n9,1514,rx\n", "nic-400g", "gen5x16"),
    "gpu": (
        "g.csv",
        "time_us,duration_us,kind,bytes\n0,2,h2d,4096\n4,3,kernel,0\n8,2,d2h,4096\n",
        "gpu-gen5",
        "gen5x16",
    ),
}


def scenario(folder: Path, kind: str, requests: int = 400) -> Scenario:
    name, text, preset, link = TRACES[kind]
    (folder / name).write_text(text)
    behind = {"preset": preset, "link": link, "background": True, "traffic": {"kind": kind, "trace": name}}
    front = {
        "preset": "nvme-dram",
        "link": "gen5x4",
        "requests": requests,
        "traffic": {"kind": "nvme", "queue_depth": 1},
    }
    top = {"name": "r", "workload": [{"name": "w", "device": {"front": front, "behind": behind}}]}
    return Scenario.from_dict(top, folder=folder)


def run(described: Scenario, scheme: str = "none", policy: str = "off") -> Outcome:
    resolved = described.resolve()
    return Task.prepare(resolved, resolved.workloads[0], 1).simulate(load_scheme(scheme), policy)


@pytest.mark.parametrize("kind", TRACES)
def test_what_is_recorded_goes_on_until_the_foreground_is_done(tmp_path: Path, kind: str) -> None:
    short, long = (run(scenario(tmp_path, kind, n)) for n in (400, 1600))
    ends = [max(c.last_end_ps for c in o.classes if c.device == 0 and c.requests) for o in (short, long)]
    # Copies of a job are two of three; a kernel's launch is a request as well.
    period = {"nvme": 15 * US, "nic": 13.5 * US, "gpu": 10 * US}[kind]
    for outcome, end in zip((short, long), ends, strict=True):
        behind = sum(c.requests for c in outcome.classes if c.device == 1)
        least = 0.5 if kind == "gpu" else 0.97
        assert least * 3 * end / period < behind < 1.03 * 3 * end / period + 3
    assert ends[1] > 3.9 * ends[0]


@pytest.mark.parametrize("kind", TRACES)
def test_every_arm_has_the_same(tmp_path: Path, kind: str) -> None:
    described = scenario(tmp_path, kind)
    for scheme, policy in (("sev-pcie", "all"), ("bounce-buffer", "selective")):
        outcome = run(described, scheme, policy)
        assert sum(c.requests for c in outcome.classes if c.device == 1) > 50


@pytest.mark.parametrize("kind", TRACES)
def test_a_look_at_it_shows_it_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "r.toml"
    path.write_text(scenario(tmp_path, kind).to_toml())
    (found,) = document(str(path))["workloads"]
    assert found["devices"][1]["operations"]["count"] == 3


def test_what_is_recorded_in_front_ends(tmp_path: Path) -> None:
    data = scenario(tmp_path, "nvme").to_dict()
    del data["workload"][0]["device"]["behind"]["background"]
    outcome = run(Scenario.from_dict(data))
    assert sum(c.requests for c in outcome.classes if c.device == 1) == 3


def test_a_recording_of_one_moment_is_played_once(tmp_path: Path) -> None:
    described = scenario(tmp_path, "nvme")
    (tmp_path / "io.csv").write_text("time_us,op,bytes\n5,read,4096\n5,read,4096\n")
    assert sum(c.requests for c in run(described).classes if c.device == 1) == 2


def test_short_recordings_are_tiled() -> None:
    records = np.zeros(3, NVME_RUNG_DTYPE)
    records["t_ps"], records["bell"] = [0, 1, 1], [0, 4, 4]
    out, period = several(records, 5, least=8)
    assert out["t_ps"].tolist() == [0, 1, 1, 5, 6, 6, 10, 11, 11]
    assert out["bell"].tolist() == [0, 4, 4, 5, 9, 9, 10, 14, 14]
    assert period == 15
    whole, once = several(records, 5, least=3)
    assert (whole is records, once) == (True, 5)


def test_chunks_without_end_are_made_as_they_are_asked_for() -> None:
    records = np.zeros(10, NVME_DTYPE)
    records["t_ps"], records["bytes"] = np.arange(10) * US, 4096
    control = nvme.Controller(CONSTANT, CONSTANT, 0, 0, True)
    program = nvme.replay(control, records, repeat_ps=10 * US, seed=1, stream=1)
    horizons = [chunk.horizon_ps for chunk in islice(program.chunks(), 1000)]
    assert horizons == sorted(horizons)
    assert horizons[-1] == 9999 * US


@given(st.lists(st.tuples(st.integers(0, 3 * US), st.integers(1, 64)), min_size=1, max_size=9))
def test_recorded_tlps_start_over(rows: list[tuple[int, int]]) -> None:
    records = np.zeros(len(rows), TLP_DTYPE)
    records["t_ps"] = np.sort([t for t, _ in rows])
    records["bytes"] = [size for _, size in rows]
    records["address"] = 1 << 33
    records["kind"] = MWR64
    again = tlps.replay(records, tlps.capture(records), repeat_ps=4 * US)
    n = len(records)
    turns = first_steps(again, 3 * n)
    (chunk,) = tlps.replay(records, tlps.capture(records)).chunks()
    starts = chunk.steps["not_before_ps"] + np.arange(3)[:, None] * 4 * US
    assert np.array_equal(turns["not_before_ps"].reshape(3, n), starts)
    assert np.array_equal(turns["request"], np.arange(3 * n))
    for name in ("kind", "address", "bytes", "flags", "stat", "buffer"):
        assert np.array_equal(turns[name], np.tile(chunk.steps[name], 3))
