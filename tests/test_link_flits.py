"""Flit mode: a TLP is there with the flit that holds its last byte, and an error costs flits, not bursts.

docs/model.md has the equations. Most times are worked out by hand, on Gen6 x4: a flit of 256 B, 236 of them
TLPs, takes 8 ns.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from oracles.link_cases import Case, Port, outcome_of_package, ps_per_byte, run_oracle, run_package
from oracles.link_heapq import READ_UP, WRITE_DOWN, WRITE_UP, Step
from oracles.link_strategies import flits

from sevpcie_core import spec
from sevpcie_core.errors import MisuseError
from sevpcie_core.link.params import (
    FLIT,
    NUM,
    Credits,
    DataLink,
    EngineTiming,
    RootPort,
    Switch,
    link_row,
)

fixed = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

HIGH = 1 << 33
PROP = 100_000
FLIT_PS = 8000
BYTE = ps_per_byte(6, 4)
# Pipe 1 ns, MAC 6 ns, check 7 ns, 128 bytes per clock of 1 ns.
ENGINE = EngineTiming(1000, 6000, 7000, 1000, 1, 128, 0, 0, 3, hold_ps=6000)


def writes(count: int, size: int, *, kind: int = WRITE_UP, every_ps: int = 0, from_ps: int = 0) -> list[Step]:
    """Return transfers that are all wanted at once, or one per interval."""
    return [
        Step(kind, HIGH + 4096 * i, size, from_ps + every_ps * i, request=i, begin=True, end=True)
        for i in range(count)
    ]


def case_of(steps: list[Step], port: Port, engine: EngineTiming | None = None, **more: Any) -> Case:
    """Return one device, sealed if there is an engine."""
    return Case([port], [steps], [[engine is not None] * len(steps)], engine, **more)


def taken(steps: list[Step], port: Port, engine: EngineTiming | None = None, **more: Any) -> list[int]:
    """Return the latencies of all requests, the same by both sides, ps."""
    case = case_of(steps, port, engine, **more)
    result = run_package(case)
    assert result == run_oracle(case)
    return list(result.latency_ps[0])  # type: ignore[arg-type]


def ledger(steps: list[Step], port: Port, engine: EngineTiming | None = None) -> dict[str, int]:
    """Return where the time of all requests went, ps."""
    (found,) = outcome_of_package(case_of(steps, port, engine)).classes
    assert sum(found.ledger_ps.values()) == found.latency.total_ps
    return dict(found.ledger_ps)


# --- against the oracle ---


@settings(fixed, max_examples=400)
@given(flits())
def test_any_small_program(case: Case) -> None:
    """Engines, units, switches, one engine of the host, short buffers, errors: equal to the picosecond."""
    assert run_package(case) == run_oracle(case)


@settings(fixed, max_examples=100)
@given(flits())
def test_the_ledger_sums_to_the_latency(case: Case) -> None:
    for c in outcome_of_package(case).classes:
        assert sum(c.ledger_ps.values()) == c.latency.total_ps
        assert min(c.ledger_ps.values()) >= 0


@pytest.mark.parametrize("generation", [6, 7])
@pytest.mark.parametrize("lanes", spec.LANES)
def test_a_flit_takes_whole_ps(generation: int, lanes: int) -> None:
    port = Port(generation, lanes)
    row = link_row(
        generation=generation, lanes=lanes, mps=256, mrrs=512, rcb=64, tags=8,
        completion_bytes=256, propagation_ps=0,
    )  # fmt: skip
    assert row[FLIT] == 236 * row[NUM]
    # 256 B at so many bits per second and lane.
    flit = 256 * 8 * 1000 // (lanes * {6: 64, 7: 128}[generation])
    assert 236 * ps_per_byte(port.generation, port.lanes) == flit
    assert taken(writes(1, 4), port) == [flit + PROP]


# --- when a TLP is there ---


@pytest.mark.parametrize("check", [0, 5000])
@pytest.mark.parametrize("kind", [WRITE_UP, WRITE_DOWN], ids=["write", "host's write"])
def test_a_tlp_comes_with_the_flit_of_its_last_byte(check: int, kind: int) -> None:
    """Up to one flit and its check later than its last byte, never earlier, wherever in a flit it starts."""
    steps = writes(320, 64, kind=kind, every_ps=1_000_025)
    found = taken(steps, Port(6, flit_check_ps=check))
    late = []
    for step, latency in zip(steps, found, strict=True):
        end = step.not_before_ps + 80 * BYTE
        assert latency == math.ceil(end / FLIT_PS) * FLIT_PS + PROP + check - step.not_before_ps
        late.append(latency - (80 * BYTE + PROP))
    assert min(late) >= check
    assert max(late) < FLIT_PS + check
    # Starts are spread over a flit, and so is the wait for its end.
    assert max(late) - min(late) > 0.95 * FLIT_PS


def test_tlps_of_one_flit_are_there_together() -> None:
    """Nine doorbells of 20 bytes are in the first flit; of the other three the first one straddles two."""
    found = taken(writes(12, 4, kind=WRITE_DOWN), Port(6))
    assert found == 11 * [FLIT_PS + PROP] + [2 * FLIT_PS + PROP]


def test_a_tlp_that_fills_its_flit_does_not_wait_for_the_next() -> None:
    assert taken(writes(1, 220), Port(6)) == [FLIT_PS + PROP]
    assert taken(writes(1, 224), Port(6)) == [2 * FLIT_PS + PROP]


def test_idle_flits_keep_the_beat() -> None:
    """After a pause of any length a TLP waits for the end of a flit that began at a multiple of 8 ns."""
    for pause in (0, 1, 7_999, 8_000, 123_456_789):
        ((latency),) = taken(writes(1, 4, from_ps=pause), Port(6))
        end = math.ceil((pause + 20 * BYTE) / FLIT_PS) * FLIT_PS
        assert latency == end + PROP - pause


@pytest.mark.parametrize("engine", [None, ENGINE], ids=["plain", "sealed"])
def test_a_full_wire_carries_as_many_bytes(engine: EngineTiming | None) -> None:
    """Waiting for flits takes nothing from the wire: 59 writes fill 68 flits, sealed 72, all of them."""
    found = taken(writes(590, 256), Port(6), engine)
    # Sealed, two IDE Syncs of 32 bytes, and the pipe's 1 ns, reach into one flit more.
    count, check = (680, 0) if engine is None else (721, 7000)
    assert max(found) == count * FLIT_PS + PROP + check


# --- engines ---


def test_an_engine_starts_with_the_flit_of_the_first_byte_and_ends_with_that_of_the_last() -> None:
    """A write of 288 bytes sealed starts at 1 ns, so it is in two flits: there at 8 and 16 ns."""
    for cycles, after in ((1, 16_000), (8, 16_000), (9, 17_000), (20, 28_000)):
        # As slow a clock as makes it wait, but no MAC that the sender would have to wait for.
        engine = replace(ENGINE, mac_ps=0, pipe_ps=1000, initiation_cycles=cycles, bytes_per_clock=512)
        # The sender's engine is as slow: bytes must not leave before they are sealed.
        begin = max(1000, 1000 + cycles * 1000 - math.floor(288 * BYTE))
        first = (begin // FLIT_PS + 1) * FLIT_PS
        last = math.ceil((begin + 288 * BYTE) / FLIT_PS) * FLIT_PS
        expected = max(last, first + cycles * 1000)
        assert taken(writes(1, 256), Port(6), engine) == [expected + PROP + 7000]
        if cycles < 10:
            assert expected == after


def test_an_engine_takes_the_tlps_of_one_flit_one_after_the_other() -> None:
    """Six sealed doorbells of 36 bytes come at once; each fills the engine for a clock."""
    engine = replace(ENGINE, pipe_ps=0, mac_ps=0)
    found = taken(writes(6, 4, kind=WRITE_DOWN), Port(6), engine)
    assert found == [FLIT_PS + PROP + 7000 + 1000 * (i + 1) for i in range(6)]


# --- the ledger ---


@pytest.mark.parametrize("engine", [None, ENGINE], ids=["plain", "sealed"])
def test_the_rest_of_a_flit_is_serialisation_and_its_check_is_wire(engine: EngineTiming | None) -> None:
    port = Port(6, flit_check_ps=5000)
    found = ledger(writes(1, 64), port, engine)
    assert found["wire"] == PROP + 5000
    if engine is None:
        assert found["serialisation"] == FLIT_PS
    else:
        # 96 bytes end at 8 ns, with the MAC, so the whole flit is over; what is neither is the engine's.
        assert found["serialisation"] == math.floor(96 * BYTE)
        assert found["hold"] == 6000
        # An engine that is in no one's way: the flit is waited for, but for a part of a ps.
        quick = replace(engine, pipe_ps=0, mac_ps=0, bytes_per_clock=4096, period_ps=1)
        assert ledger(writes(1, 64), port, quick)["serialisation"] == FLIT_PS - 1


def test_the_check_is_paid_once_by_a_write_and_twice_by_a_read() -> None:
    for kind, ways in ((WRITE_UP, 1), (READ_UP, 2)):
        steps = writes(1, 64, kind=kind)
        (fast,), (slow,) = taken(steps, Port(6)), taken(steps, Port(6, flit_check_ps=2 * FLIT_PS))
        # Of whole flits, so that no other flit is met on the way back.
        assert slow - fast == ways * 2 * FLIT_PS


# --- buffers and drain ---


def test_a_credit_and_a_drain_count_from_the_end_of_the_flit() -> None:
    """One credit: a write, its way, and the credit's, rounded up to flits each time."""
    port = Port(
        6,
        up=Credits(posted_headers=1, posted_data=16),
        data_link=DataLink(credit_ps=150_000),
        root_port=RootPort(drain_tlp_ps=20_000, write_latency_ps=70_000),
        flit_check_ps=5000,
    )
    now, expected = 0, []
    for _ in range(10):
        there = math.ceil((now + 272 * BYTE) / FLIT_PS) * FLIT_PS + PROP + 5000
        expected.append(there + 20_000 + 70_000)
        now = there + 20_000 + 150_000
    assert taken(writes(10, 256), port) == expected


# --- switches ---


@pytest.mark.parametrize(
    ("lanes", "ahead"),
    [(4, 8000), (8, 4000), (16, 2000), (2, 8000)],
    ids=["equal", "twice as fast", "four times as fast", "half as fast"],
)
def test_cut_through_passes_a_flit_on_when_it_is_complete(lanes: int, ahead: int) -> None:
    """A write of 272 bytes is in two flits: it may go when the first is there, if the second is in time.

    On a faster wire the 236 bytes of the first flit must last until the second is there.
    """
    port, uplink = Port(6, 4), Port(6, lanes)
    ahead_of = []
    for way in (True, False):
        more: dict[str, Any] = {"uplinks": [(uplink, Switch(16_000, way))], "below": [0]}
        (latency,) = taken(writes(1, 256), port, **more)
        there = 2 * FLIT_PS + PROP + 16_000 - (ahead if way else 0)
        flit = FLIT_PS * 4 // lanes
        end = math.ceil((there + 272 * ps_per_byte(6, lanes)) / flit) * flit
        assert latency == end + PROP
        ahead_of.append(latency)
    assert ahead_of[0] < ahead_of[1]


def test_cut_through_waits_for_every_flit_on_a_slower_wire_too() -> None:
    """A TLP that starts late in a flit: two bytes' time of the first flit do not last until the second."""
    port, uplink = Port(6, 4), Port(6, 2)
    switch: dict[str, Any] = {"uplinks": [(uplink, Switch(0, True))], "below": [0]}
    for start in range(0, FLIT_PS, 500):
        (latency,) = taken(writes(1, 256, from_ps=start), port, **switch)
        ends = [start + (k + 1) * BYTE for k in range(272)]
        there = [math.ceil(end / FLIT_PS) * FLIT_PS + PROP for end in ends]
        slow = ps_per_byte(6, 2)
        # No byte leaves before its flit is there; of the bytes that come with one, the first counts.
        leaves = max(
            t - math.floor(k * slow) for k, t in enumerate(there) if k == 0 or t > there[k - 1] or k == 15
        )
        leaves = max(leaves, there[15])
        end = math.ceil((leaves + 272 * slow) / (2 * FLIT_PS)) * 2 * FLIT_PS
        assert latency == end + PROP - start


# --- errors ---


@pytest.mark.parametrize("engine", [None, ENGINE], ids=["plain", "sealed"])
@pytest.mark.parametrize("nak", [0, 50_000, 47_000])
def test_an_error_costs_a_flit_and_the_way_there_and_back(nak: int, engine: EngineTiming | None) -> None:
    """The same wherever in its burst: what is behind the flit in error stays as far behind it."""
    noisy = Port(6, mps=512, data_link=DataLink(bit_error_rate=1e-6, nak_ps=nak), flit_check_ps=5000)
    steps = writes(1500, 2048, every_ps=4_000_000)
    outcome = outcome_of_package(case_of(steps, noisy, engine))
    ((up, _),) = outcome.errors
    assert up > 10
    per_error = FLIT_PS + math.ceil((PROP + 5000 + nak) / FLIT_PS) * FLIT_PS
    assert outcome.classes[0].ledger_ps["replay"] == up * per_error
    clean = outcome_of_package(case_of(steps, replace(noisy, data_link=DataLink()), engine))
    late = outcome.kept_ps[0, : len(steps)] - clean.kept_ps[0, : len(steps)]
    assert late.sum() == up * per_error
    assert set(np.unique(late)) <= {0, per_error, 2 * per_error}
    # A burst that went again as a whole: 80 ns of wire at most, here 2 KiB and headers, in nine flits.
    assert per_error < PROP + 5000 + nak + math.ceil(2112 * BYTE)


def test_only_the_flits_from_the_one_in_error_on_go_again() -> None:
    """Bursts of 4 KiB in 4 TLPs, errors anywhere: in the mean half a burst goes again, not all of it."""
    noisy = Port(7, 16, mps=1024, data_link=DataLink(bit_error_rate=1e-7))
    steps = writes(20_000, 4096)
    outcomes = [
        outcome_of_package(case_of(steps, port)) for port in (noisy, replace(noisy, data_link=DataLink()))
    ]
    ((up, _),) = outcomes[0].errors
    assert up > 40
    again = [outcome.busy[0]["link"] * outcome.job_ps[0] for outcome in outcomes]
    burst = 4 * 1040 * float(ps_per_byte(7, 16))
    assert (again[0] - again[1]) / up == pytest.approx(burst / 2, rel=0.3)


# --- what cannot be ---


@pytest.mark.parametrize(("generation", "check"), [(5, 1), (1, 5000), (6, -1)])
def test_a_check_of_flits_that_there_are_not_is_refused(generation: int, check: int) -> None:
    words = rf"a flit check of {check} ps at Gen{generation}; expected 0, or more from Gen6 on"
    with pytest.raises(MisuseError, match=words):
        link_row(
            generation=generation, lanes=4, mps=256, mrrs=512, rcb=64, tags=8,
            completion_bytes=256, propagation_ps=0, flit_check_ps=check,
        )  # fmt: skip
