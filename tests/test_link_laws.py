"""Laws that hold whatever the numbers are, and kept examples of what looks like one and is not.

Protection delays every TLP, yet a run as a whole may gain by it: a burst that comes later lets another go
first. So the law "protected is never faster" holds strictly where nothing competes, within 0.1 % of the mean
where many requests do, and the last tests keep what breaks it and say why.
"""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracles.link_cases import Case, Port, oracle_outcome, ps_per_byte, run_package
from oracles.link_digest import FAST, HOST, SLOW
from oracles.link_heapq import DELAY, WRITE_DOWN, WRITE_UP, Step
from oracles.link_programs import MMIO, QUEUE, closed_loop, packets
from oracles.link_strategies import cases, chains, engines, host_points, ports

from sevpcie_core import spec
from sevpcie_core.link.params import BARE, INFINITE, SINK, DataLink, EngineTiming

fixed = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def plain(case: Case) -> Case:
    """Return the same case without any protection."""
    return replace(case, engine=None, protected=[[False] * len(steps) for steps in case.programs])


def latencies(case: Case) -> list[int]:
    """Return the latencies of all requests, which all ran."""
    found = [taken for device in run_package(case).latency_ps for taken in device]
    assert None not in found
    return found  # type: ignore[return-value]


def unlimited(port: Port) -> Port:
    """Return a link where what one transfer leaves behind (credits, DLLPs, a drain) holds up no other."""
    return replace(port, up=INFINITE, down=INFINITE, data_link=BARE, root_port=SINK)


# --- protection ---


@settings(fixed, max_examples=150)
@given(cases())
def test_policy_off_is_no_protection(case: Case) -> None:
    """An engine that no TLP uses changes nothing at all: same picoseconds, same counters."""
    off = replace(case, protected=[[False] * len(steps) for steps in case.programs])
    assert run_package(off) == run_package(plain(case))


@settings(fixed, max_examples=250)
@given(steps=chains(), port=ports(), engine=engines(), points=host_points, data=st.data())
def test_protection_never_gains_where_nothing_competes(
    steps: list[Step], port: Port, engine: EngineTiming, points: Any, data: st.DataObject
) -> None:
    """One step at a time: every single request takes at least as long, all or any part of it protected.

    A port accepts a TLP as much before its wire is free as its engine is deep, so that the wire never runs
    dry. A TLP that is not sealed gains that, once per step at most, where a step waits for no more than
    acceptance. In flit mode a request that begins later, by what was before it, may still be taken with the
    same flit.
    """
    every = data.draw(st.booleans())
    marks = [every or data.draw(st.booleans()) for _ in steps]
    case = Case([unlimited(port)], [steps], [marks], engine, points)
    gain = 0 if all(marks) else len(steps) * (engine.pipe_ps + engine.mac_ps)
    if port.generation >= spec.FIRST_FLIT_GENERATION:
        gain += int(spec.FLIT_TLP_BYTES * ps_per_byte(port.generation, port.lanes))
    for protected, bare in zip(latencies(case), latencies(plain(case)), strict=True):
        assert protected >= bare - gain


@settings(fixed, max_examples=150)
@given(steps=chains(), port=ports(), engine=engines(), points=host_points)
def test_protection_never_gains_in_the_end_where_buffers_are_short(
    steps: list[Step], port: Port, engine: EngineTiming, points: Any
) -> None:
    """A request that begins later may find a credit back that it waited for else; the last end is later."""
    port = replace(port, data_link=DataLink(credit_ps=port.data_link.credit_ps))
    case = Case([port], [steps], [[True] * len(steps)], engine, points)
    assert run_package(case).last_end_ps >= run_package(plain(case)).last_end_ps  # type: ignore[operator]


def loads() -> list[Any]:
    """Return closed and open loops on links, engines and parts protected, by name."""
    found = []
    for generation, lanes in ((3, 4), (5, 4), (5, 16), (6, 16)):
        for depth in (1, 8, 32):
            for read_pct in (100, 70):
                for engine, speed in ((FAST, "fast"), (SLOW, "slow")):
                    name = f"gen{generation}x{lanes}-qd{depth}-read{read_pct}-{speed}"
                    found.append(pytest.param(generation, lanes, depth, read_pct, engine, id=name))
    return found


@pytest.mark.parametrize(("generation", "lanes", "depth", "read_pct", "engine"), loads())
def test_protection_does_not_gain_under_load(
    generation: int, lanes: int, depth: int, read_pct: int, engine: EngineTiming
) -> None:
    """Storage in a closed loop beside packets in an open one; all, or only data and queues, protected."""
    port = Port(generation, lanes, 150_000, 256, 512, 64, 256, 64)
    commands = closed_loop(400, depth, 4096, read_pct=read_pct, media_ps=8_000_000, seed=depth)
    frames = packets(1500, 100_000, seed=lanes)
    programs = [commands, frames]
    for part in (4, 2):
        marks = [[step.buffer < part for step in steps] for steps in programs]
        case = Case([port, port], programs, marks, engine, HOST, 1000, seed=generation)
        for device in (0, 1):
            bare = run_package(plain(case)).latency_ps[device]
            protected = run_package(case).latency_ps[device]
            assert sum(protected) >= 0.999 * sum(bare)  # type: ignore[arg-type]


@settings(fixed, max_examples=60)
@given(case=cases(max_devices=1))
def test_skid_releases_earlier_and_sends_the_same(case: Case) -> None:
    """What the receiver's rule for the MAC changes is time alone, never a byte on the wire."""
    engine = case.engine or FAST
    early = replace(engine, check_ps=engine.check_ps // 2)
    case = case.whole()
    names = ("payload", "wire", "tlps", "link", "ide", "requests")
    hold = run_package(case).counters
    skid = run_package(replace(case, engine=early)).counters
    for row in hold:
        assert [hold[row][name] for name in names] == [skid[row][name] for name in names]


# --- links ---


@settings(fixed, max_examples=150)
@given(steps=chains(), port=ports(), engine=engines(), points=host_points, protected=st.booleans())
def test_more_lanes_never_hurt_where_nothing_competes(
    steps: list[Step], port: Port, engine: EngineTiming, points: Any, protected: bool
) -> None:
    """Engines here are faster than any wire; see below for those that are not.

    In flit mode a request that begins earlier may wait longer for the end of its flit: no end is later.
    """
    quick = replace(engine, period_ps=1, bytes_per_clock=4096, initiation_cycles=1)
    port = unlimited(port)
    case = Case([port], [steps], [[protected] * len(steps)], quick, points)
    before = None
    for lanes in (1, 2, 4, 8, 16):
        wider = replace(case, ports=[replace(port, lanes=lanes)])
        taken = latencies(wider) if port.generation < 6 else run_package(wider).job_ps
        assert before is None or all(now <= then for now, then in zip(taken, before, strict=True))
        before = taken


@settings(fixed, max_examples=100)
@given(case=cases(units=False), generation=st.integers(3, 4))
def test_counters_do_not_depend_on_time(case: Case, generation: int) -> None:
    """Bytes and TLPs follow from the program, its marks and the sizes, not from rate, engine or load.

    Where TLPs share MACs the rate has its say: a unit ends with its burst, which is a time on the wire.
    """
    slow = [replace(p, generation=min(p.generation, 5), flit_check_ps=0) for p in case.ports]
    uplinks = [
        (replace(p, generation=min(p.generation, 5), flit_check_ps=0), switch) for p, switch in case.uplinks
    ]
    case = replace(case.whole(), ports=slow, uplinks=uplinks)
    other = replace(
        case,
        ports=[replace(p, generation=generation, lanes=1, propagation_ps=7, tags=1) for p in case.ports],
        uplinks=[
            (replace(p, generation=generation, lanes=1), replace(switch, latency_ps=9))
            for p, switch in case.uplinks
        ],
        engine=replace(FAST, pcrc=case.engine is not None and case.engine.pcrc),
        seed=case.seed + 1,
    )
    names = ("payload", "wire", "tlps", "link", "ide", "application", "requests")
    here, there = run_package(case).counters, run_package(other).counters
    for row in here:
        assert [here[row][name] for name in names] == [there[row][name] for name in names]


# --- what breaks the law, and why ---


def test_counter_example_a_late_burst_lets_another_go_first() -> None:
    """A data write that comes later lets a small queue write pass that would have waited behind it.

    The doorbell of request 0 arrives 15 ns later when protected; in between the small write of request 1
    becomes ready. Plaintext: it waits for the TLP of 4 KiB that has just entered the port. Protected: it goes
    first, and that TLP waits a few ns. The mean falls although nothing became faster.
    """
    steps = [
        Step(WRITE_DOWN, 0x1000, 4, request=0, buffer=MMIO, begin=True),
        Step(WRITE_UP, 1 << 33, 4096, request=0, after=1, end=True),
        Step(WRITE_UP, 1 << 34, 16, not_before_ps=105_000, request=1, buffer=QUEUE, begin=True, end=True),
    ]
    case = Case([Port(5, 4, 100_000, mps=4096)], [steps], [[True] * 3], FAST)
    bare, protected = latencies(plain(case)), latencies(case)
    assert sum(protected) < 0.9 * sum(bare)
    assert protected[0] > bare[0], "the request that was delayed is slower"
    arm = {}
    for name, one in (("plain", plain(case)), ("protected", case)):
        moments = oracle_outcome(one).moments[0]
        arm[name] = [step for _, step in sorted((moments[i].early, i) for i in (1, 2))]
    assert arm == {"plain": [1, 2], "protected": [2, 1]}, "the order at the port is what differs"


def test_counter_example_media_behind_few_dies() -> None:
    """Commands that take turns at few dies: a command 70 ns late meets others there, for better or worse.

    The sums then differ by per cents in either direction, far more than encryption adds, and only the I/O
    path, which leaves media out, says what it costs.
    """
    port = Port(5, 4, 150_000, 256, 512, 64, 256, 32)
    shares, io_shares = [], []
    for seed in range(1, 9):
        steps = closed_loop(400, 16, 4096, read_pct=50, media_ps=400_000_000, dies=4, seed=seed)
        case = Case([port], [steps], [[True] * len(steps)], FAST, HOST, seed=seed)
        bare, protected = run_package(plain(case)), run_package(case)
        shares.append(sum(protected.latency_ps[0]) / sum(bare.latency_ps[0]))  # type: ignore[arg-type]
        io_shares.append(sum(protected.io_ps[0]) / sum(bare.io_ps[0]))  # type: ignore[arg-type]
    assert min(shares) < 0.99 < 1.01 < max(shares)
    assert all(1.03 < share < 1.07 for share in io_shares)


def test_counter_example_more_lanes_between_slow_engines() -> None:
    """A TLP leaves in one piece, so on a fast wire its sender waits until the engine can keep up with it.

    Between two engines of 10 ns per TLP: on a wire of 10 ns they work on it at the same time, on a wire of
    5 ns the receiver's engine starts 5 ns later and ends 5 ns later.
    """
    slow = EngineTiming(0, 0, 0, 500, 1, 1, 0, 0, 3)
    write = Step(WRITE_UP, 0, 4, begin=True, end=True)
    taken = {lanes: latencies(Case([Port(2, lanes, 0)], [[write]], [[True]], slow))[0] for lanes in (8, 16)}
    assert taken == {8: 10_000, 16: 15_000}


def test_counter_example_is_none_for_delays_alone() -> None:
    """Steps that move nothing know of no protection."""
    steps = [Step(DELAY, delay_ps=1000, request=i, begin=True, end=True) for i in range(5)]
    case = Case([Port()], [steps], [[True] * 5], SLOW)
    assert run_package(case) == run_package(plain(case))
