"""The simulator against the oracle: equal to the picosecond for every request, equal in every counter."""

import tracemalloc
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracles.link_cases import (
    Case,
    Port,
    as_array,
    host_table,
    link_table,
    outcome_of_package,
    run_oracle,
    run_package,
)
from oracles.link_digest import FAST, HOST, SLOW, sample_cases
from oracles.link_heapq import DELAY, READ_UP, WRITE_DOWN, WRITE_UP, Step
from oracles.link_programs import closed_loop, packets
from oracles.link_strategies import cases, crowds, lookups

from sevpcie_core import spec
from sevpcie_core.errors import MisuseError
from sevpcie_core.link.params import EngineTiming
from sevpcie_core.link.run import Outcome, simulate
from sevpcie_core.workload.program import FOREVER, Chunk, Program

fixed = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


@settings(fixed, max_examples=250)
@given(cases())
def test_any_small_program(case: Case) -> None:
    """Several devices, chains, early moments, servers, few tags, parts protected, slow engines, lost keys."""
    assert run_package(case) == run_oracle(case)


@settings(fixed, max_examples=150)
@given(crowds())
def test_many_requests_for_the_same_thing_at_the_same_time(case: Case) -> None:
    """Ties: what is equal in time is settled by device, step, split and kind alone."""
    assert run_package(case) == run_oracle(case)


@settings(fixed, max_examples=150)
@given(lookups())
def test_writes_that_pass_what_is_looked_up(case: Case) -> None:
    """RO, IDO and neither, with and without a switch, few credits, parts protected."""
    assert run_package(case) == run_oracle(case)
    # Gaps that only the ledger wants to know of let nobody pass.
    latency = outcome_of_package(case, ledger=False).kept_ps
    assert latency.tolist() == outcome_of_package(case).kept_ps.tolist()


@pytest.mark.nojit
@pytest.mark.parametrize("number", range(14))
def test_the_sample_programs(number: int) -> None:
    case = sample_cases()[number]
    assert run_package(case) == run_oracle(case)


@pytest.mark.parametrize("engine", [FAST, SLOW], ids=["fast", "slow"])
def test_some_hundred_requests_of_three_devices(engine: Any) -> None:
    """Long enough for every queue to fill and drain, for slots to be used again, for servers to be late."""
    programs = [
        closed_loop(150, 16, 4096, read_pct=70, media_ps=3_000_000, dies=4, seed=5),
        packets(400, 30_000, seed=6),
        closed_loop(60, 3, 20_000, read_pct=50, media_ps=500_000, seed=7, offset=100),
    ]
    ports = [
        Port(5, 4, 150_000, 256, 512, 64, 256, 16),
        Port(5, 16, 150_000, 256, 512, 64, 256, 64),
        Port(6, 4, 100_000, 512, 4096, 128, 384, 3),
    ]
    marks = [[step.buffer < 2 for step in steps] for steps in programs]
    case = Case(ports, programs, marks, engine, HOST, read_interval_ps=2000, seed=9)
    assert run_package(case) == run_oracle(case)


@pytest.mark.parametrize("engine", [FAST, SLOW], ids=["fast engine", "slow engine"])
@pytest.mark.parametrize("generation", [3, 6])
def test_streams_that_send_ide_syncs(engine: EngineTiming, generation: int) -> None:
    """Long writes both ways, reads and small writes between: counters reach 245, or are cleared before."""
    steps = []
    for request in range(40):
        kind = (WRITE_UP, WRITE_DOWN, READ_UP, WRITE_UP)[request % 4]
        size = (5000, 9000, 1500, 4)[request % 4]
        steps.append(
            Step(kind, 0x10_0000 + 4 * request, size, request=request, stat=request % 2, begin=True, end=True)
        )
    port = Port(generation, 8, 100_000, 128, 512, 64, 128, 4)
    marks = [[step.request % 7 != 6 for step in steps]]
    case = Case([port], [steps], marks, engine, HOST, read_interval_ps=2000)
    found = run_package(case)
    assert found == run_oracle(case)
    # Both ways: 350 protected posted TLPs or more.
    protected = sum(c["ide"] // 16 for c in found.counters.values())
    assert protected > 2 * 350


@settings(fixed, max_examples=150)
@given(case=cases())
def test_the_ledger_sums_to_the_latency(case: Case) -> None:
    """Every picosecond of every request is at one place; and keeping the ledger changes nothing else."""
    outcome = outcome_of_package(case)
    for c in outcome.classes:
        assert sum(c.ledger_ps.values()) == c.latency.total_ps
        assert min(c.ledger_ps.values()) >= 0
    without = everything(outcome_of_package(case, ledger=False))
    assert all(c["ledger_ps"] == {} for c in without["classes"])
    with_it = everything(outcome)
    for c in [*with_it["classes"], *without["classes"]]:
        del c["ledger_ps"]
    assert with_it == without


@pytest.mark.parametrize("early", [False, True], ids=["their end", "their begin"])
def test_delays_in_a_row_pass_without_events(early: bool) -> None:
    """Media before the end of their request, after it, and before its begin; what waits for begin or end.

    With a ledger every step has its event: the outcome is the same.
    """
    steps = []
    for request in range(40):
        media = 100_000 * (request % 7)
        back = 8 if request >= 4 else 0
        steps += [
            Step(DELAY, delay_ps=1000 * request, request=request, after=back, media=request % 3 == 0),
            Step(WRITE_DOWN, 64, 4, request=request, after=1, begin=True),
            Step(DELAY, delay_ps=5000, request=request, after=1, media=request % 5 == 0),
            Step(
                DELAY, delay_ps=media, not_before_ps=media, request=request, after=1, early1=early, media=True
            ),
            Step(DELAY, delay_ps=3000, request=request, after=1, early1=early, stage=True),
            Step(READ_UP, 4096 * request, 700, request=request, after=1, early1=early, delay_ps=200),
            Step(WRITE_UP, 64, 16, request=request, after=4 if request % 4 == 0 else 1, end=True),
            Step(DELAY, delay_ps=media, request=request, after=1, media=True),
        ]
    case = Case([Port()], [steps], [[False] * len(steps)], host_points=HOST)
    for cuts in (None, [list(range(len(steps)))]):
        plain = everything(outcome_of_package(case, cuts, ledger=False))
        with_ledger = everything(outcome_of_package(case, cuts))
        for c in (*plain["classes"], *with_ledger["classes"]):
            del c["ledger_ps"]
        assert plain == with_ledger


def test_the_ledger_counts_from_the_begin_of_a_request() -> None:
    """A step that prepares a request is no part of it; what goes by way of another request is `device`."""
    steps = [
        Step(DELAY, delay_ps=500_000, request=0),
        Step(DELAY, delay_ps=10_000, request=0, begin=True),
        Step(WRITE_UP, 0, 64, request=0, after=1, after2=2, end=True),
        Step(DELAY, delay_ps=900_000, request=1, begin=True, media=True),
        Step(DELAY, delay_ps=1000, request=0, after=1),
        Step(DELAY, delay_ps=30_000, request=1, after=1, end=True),
    ]
    case = Case([Port(propagation_ps=7000)], [steps], [[False] * len(steps)])
    assert run_package(case) == run_oracle(case)
    (found,) = outcome_of_package(case).classes
    # Request 0 waits for what was started before it; the media of request 1 are behind a step of request 0.
    assert found.ledger_ps["wire"] == 7000
    assert found.ledger_ps["device"] == 500_000 + 900_000 + 1000 + 30_000
    assert sum(found.ledger_ps.values()) == found.latency.total_ps


# --- streaming ---


def everything(outcome: Outcome) -> dict[str, Any]:
    """Return all of an outcome but its CPU time in a form that compares, histograms and stalls too."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return value.tolist()
        if isinstance(value, dict):
            return {name: plain(v) for name, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        return value

    return plain({name: value for name, value in asdict(outcome).items() if name != "seconds"})  # type: ignore[no-any-return]


@settings(fixed, max_examples=100)
@given(case=cases(), data=st.data())
def test_chunks_do_not_matter(case: Case, data: st.DataObject) -> None:
    """However a program comes in pieces, the outcome is the same in every number.

    With a stop, a chunk ends between requests: after the stop no more are loaded. Without a ledger, steps
    that only pass time have no events of their own.
    """
    places = [[i for i, s in enumerate(p) if s.begin or case == case.whole()] for p in case.programs]
    cuts = [data.draw(st.lists(st.sampled_from(where), max_size=4)) for where in places]
    for ledger in (True, False):
        whole = everything(outcome_of_package(case, ledger=ledger))
        assert everything(outcome_of_package(case, cuts, ledger=ledger)) == whole
        assert everything(outcome_of_package(case, places, ledger=ledger)) == whole


@pytest.mark.parametrize("size", [1, 7, 64, 5000])
def test_a_long_program_in_chunks(size: int) -> None:
    """More steps than are ever held at once, so the ring goes round several times."""
    steps = closed_loop(2500, 8, 4096, read_pct=70, media_ps=1_000_000, seed=2)
    case = Case([Port()], [steps], [[True] * len(steps)], FAST, HOST, seed=3)
    cuts = [list(range(0, len(steps), size))]
    assert run_package(case, cuts) == run_package(case)


def test_more_in_flight_than_the_first_ring_holds() -> None:
    """A burst of ten thousand requests at once, in chunks: what is held grows, nothing is lost."""
    steps = [
        Step(WRITE_UP, 4096 * i, 64, request=i, buffer=i % 2, begin=True, end=True) for i in range(10_000)
    ]
    case = Case([Port(lanes=1)], [steps], [[False] * len(steps)])
    result = run_package(case, [list(range(0, len(steps), 1000))])
    assert result == run_package(case)
    assert result.counters[0, 0]["requests"] == 10_000
    # Control before data, each in order, without a hole: request 1 first, request 9998 last.
    taken = result.latency_ps[0]
    assert taken[1::2] == sorted(taken[1::2])  # type: ignore[type-var]
    assert max(taken[1::2]) < min(taken[2::2])  # type: ignore[type-var, operator]


def test_memory_does_not_grow_with_the_run() -> None:
    """Ten times as many requests take no more room at their peak."""
    links = link_table(Case([Port(5, 16)], [], []))
    peaks = []
    for count in (2000, 20_000):
        array = np.tile(as_array(packets(200, 100_000)), count // 200)
        array["request"] = np.repeat(np.arange(count), 2)
        array["not_before_ps"][::2] = np.arange(count) * 100_000

        def chunks(array: np.ndarray = array) -> Iterator[Chunk]:
            for i in range(0, len(array), 200):
                later = array["not_before_ps"][i + 200 :: 2]
                yield Chunk(array[i : i + 200], int(later[0]) if later.size else FOREVER)

        program = Program(("rx",), 1, chunks, np.zeros(0, spec.REGION), 1, 0, True)
        tracemalloc.start()
        outcome = simulate(
            [program],
            links,
            host_table=host_table(HOST),
            read_interval_ps=0,
            seed=1,
            markers=[lambda part: np.zeros(len(part), np.bool_)],
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert outcome.classes[0].requests == count
    # Peaks scatter upwards by up to 3 %; 3 B kept per request would be 5 %.
    assert peaks[1] < 1.05 * peaks[0]


# --- determinism, seeds, misuse ---


@pytest.mark.nojit
def test_two_runs_are_the_same_and_seeds_matter() -> None:
    case = sample_cases()[0]
    assert everything(outcome_of_package(case)) == everything(outcome_of_package(case))
    assert run_package(replace(case, seed=case.seed + 1)).latency_ps != run_package(case).latency_ps


@pytest.mark.nojit
@pytest.mark.parametrize(
    "steps",
    [
        [Step(WRITE_UP, 0, 0, begin=True, end=True)],
        [Step(WRITE_UP, 0, -4, begin=True, end=True)],
        [Step(DELAY, after=1, begin=True, end=True)],
        [Step(DELAY, begin=True), Step(DELAY, after2=2, end=True)],
    ],
    ids=["no bytes", "negative bytes", "waits for nothing", "waits for the time before"],
)
def test_a_program_that_cannot_run_is_refused(steps: list[Step]) -> None:
    case = Case([Port()], [steps], [[False] * len(steps)])
    with pytest.raises(MisuseError):
        run_package(case)
    with pytest.raises(ValueError, match=r"a step waits|at least one byte"):
        run_oracle(case)


def test_media_off_the_path_of_a_request_spoil_no_other_class() -> None:
    """A request that does not wait for its media: its own I/O time is meaningless, the others' are not."""
    late = [
        Step(DELAY, delay_ps=9_000_000, request=0, stat=1, begin=True, media=True),
        Step(DELAY, request=0, stat=1, after=1, early1=True, end=True),
    ]
    other = Step(WRITE_UP, 0, 64, request=1, stat=0, begin=True, end=True)
    case = Case([Port()], [[*late, other]], [[False] * 3])
    classes = outcome_of_package(case).classes
    for c in classes:
        assert c.requests == c.latency.samples == c.io_path.samples == 1
