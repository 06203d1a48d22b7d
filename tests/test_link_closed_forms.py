"""The simulator and its oracle against results worked out without either: by hand, or by a formula.

Every test runs both sides; exact ones agree to the picosecond. Addresses above 4 GiB unless said: a write of
256 bytes is 280 bytes on the wire, 296 protected (272 and 288 in flit mode).
"""

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.link_cases import Case, Port, Result, ps_per_byte, run_oracle, run_package
from oracles.link_heapq import DELAY, READ_UP, WRITE_DOWN, WRITE_UP, Step

from sevpcie_core.link.params import EngineTiming, engine_timing

ADDRESS = 1 << 33
PROP = 100_000

# One clock of 1 ns: 1 for the XOR, 6 for the MAC; takes 128 bytes per clock; holds a TLP until it is checked.
TYPICAL = EngineTiming(
    pipe_ps=1000,
    mac_ps=6000,
    check_ps=7000,
    period_ps=1000,
    initiation_cycles=1,
    bytes_per_clock=128,
    switch_ps=0,
    key_miss_ps=0,
    key_entries=3,
)

Runner = Callable[[Case], Result]


def sent_by(port: Port, end: Fraction | int) -> int:
    """Return when a byte that ends then has left: in whole ps, in flit mode with all of its flit.

    A flit has 236 bytes of TLPs; the first one begins at 0.
    """
    if port.generation < 6:
        return math.ceil(end)
    flit = 236 * ps_per_byte(port.generation, port.lanes)
    return int(math.ceil(end / flit) * flit)


both_sides = pytest.mark.parametrize("run", [run_package, run_oracle], ids=["package", "oracle"])


def one_step(step: Step, port: Port, engine: EngineTiming | None, **more: int) -> Case:
    """Return a case of a single step that is a request."""
    step = replace(step, begin=True, end=True)
    return Case([port], [[step]], [[engine is not None]], engine, **more)  # type: ignore[arg-type]


def latency(result: Result) -> int:
    """Return the latency of the only request."""
    [[taken]] = result.latency_ps
    assert taken is not None
    return taken


def write_256(kind: int = WRITE_UP) -> Step:
    """Return a write of one TLP of 256 bytes."""
    return Step(kind, address=ADDRESS, bytes=256)


# --- one TLP by hand ---

# Wire time of the TLP on four lanes, rounded up to a ps: 280 and 296 bytes of 1000, 500, 253.90625,
# 126.953125 and 63.4765625 ps, 272 and 288 bytes of 2000/59 and 1000/59 ps; flits take 8 and 4 ns.
WIRE_X4 = {
    1: (280_000, 296_000),
    2: (140_000, 148_000),
    3: (71_094, 75_157),
    4: (35_547, 37_579),
    5: (17_774, 18_790),
    6: (9_221, 9_763),
    7: (4_611, 4_882),
}


@both_sides
@pytest.mark.nojit
@pytest.mark.parametrize("kind", [WRITE_UP, WRITE_DOWN])
@pytest.mark.parametrize("generation", range(1, 8))
def test_one_write_by_hand(run: Runner, generation: int, kind: int) -> None:
    port = Port(generation=generation, lanes=4, propagation_ps=PROP, mps=256)
    plain, sealed = WIRE_X4[generation]
    there = {6: 16_000, 7: 8_000}.get(generation, plain)
    assert latency(run(one_step(write_256(kind), port, None))) == there + PROP
    # The first byte leaves after the XOR (1 ns); the MAC follows the last byte by 6 ns, and the engine takes
    # 3 ns to take the TLP in: hidden behind the wire, except at Gen7, where the TLP waits to be complete.
    sent = {6: 16_000, 7: 12_000}.get(generation, max(1000 + sealed, 1000 + 3000 + 6000))
    assert latency(run(one_step(write_256(kind), port, TYPICAL))) == sent + PROP + 7000


@both_sides
@pytest.mark.nojit
def test_one_small_write_by_hand(run: Runner) -> None:
    # 4 bytes on Gen5 x16 below 4 GiB: 24 bytes of 15.869140625 ps; protected 40 bytes (634.8 ps), but the
    # engine needs 1 clock for the TLP, 1 for the XOR and 6 for the MAC. At the receiver its clock starts with
    # the first byte, so it ends 1000 - 634 ps after the last.
    port = Port(generation=5, lanes=16, propagation_ps=PROP)
    doorbell = Step(WRITE_DOWN, address=0x1000, bytes=4)
    assert latency(run(one_step(doorbell, port, None))) == 381 + PROP
    assert latency(run(one_step(doorbell, port, TYPICAL))) == 8000 + PROP + (1000 - 634) + 7000


@both_sides
@pytest.mark.nojit
def test_one_read_by_hand(run: Runner) -> None:
    # 512 bytes on Gen5 x4: request 24 bytes (1523.4 ps); 300 ns at the host; two completions of 276 bytes
    # (35 039.0625 ps together).
    port = Port(generation=5, lanes=4, propagation_ps=PROP, mrrs=512, completion_bytes=256)
    read = Step(READ_UP, address=ADDRESS, bytes=512)
    assert latency(run(one_step(read, port, None))) == 1524 + PROP + 300_000 + 35_040 + PROP
    # Protected: request 40 bytes (2539.1 ps): MAC-bound at 8 ns, engine done with it in time; completions
    # 292 bytes (37 070.3125 ps together) behind 1 ns of XOR.
    request = 8000 + PROP + 7000
    answer = 1000 + 37_071 + PROP + 7000
    assert latency(run(one_step(read, port, TYPICAL))) == request + 300_000 + answer


@both_sides
@pytest.mark.nojit
def test_skid_saves_the_mac_at_the_receiver_only(run: Runner) -> None:
    port = Port(propagation_ps=PROP)
    hold = latency(run(one_step(write_256(), port, TYPICAL)))
    skid = latency(run(one_step(write_256(), port, replace(TYPICAL, check_ps=1000))))
    assert hold - skid == 6000


@pytest.mark.nojit
def test_engine_times_follow_from_its_structure() -> None:
    structure: dict[str, Any] = {
        "clock_mhz": 800,
        "bytes_per_clock": 64,
        "initiation_cycles": 2,
        "rounds": 14,
        "xor_cycles": 2,
        "mac_cycles": 12,
        "switch_cycles": 4,
        "key_miss_cycles": 20,
        "key_entries": 2,
        "pcrc": True,
    }
    exposed = engine_timing(keystream_ahead=False, hold=True, **structure)
    assert (exposed.period_ps, exposed.pipe_ps, exposed.mac_ps) == (1250, 16 * 1250, 12 * 1250)
    assert exposed.check_ps == 28 * 1250
    assert (exposed.switch_ps, exposed.key_miss_ps) == (5000, 25_000)
    # With room for the keys of all sub-streams none is ever loaded.
    assert engine_timing(keystream_ahead=False, hold=True, **structure | {"key_entries": 3}).key_miss_ps == 0
    ahead = engine_timing(keystream_ahead=True, hold=False, **structure)
    assert (ahead.pipe_ps, ahead.check_ps) == (2500, 2500)


# --- the cost of protection, unloaded ---


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    generation=st.integers(1, 7),
    lanes=st.sampled_from([1, 2, 4, 8, 16]),
    size=st.integers(1, 64).map(lambda k: 4 * k),
    clock_ps=st.sampled_from([800, 1000, 1250]),
    width=st.sampled_from([8, 64, 128]),
    pipe=st.sampled_from([1, 11, 16]),
    mac=st.integers(3, 12),
)
def test_unloaded_write_costs_wire_and_engines_and_nothing_else(
    generation: int, lanes: int, size: int, clock_ps: int, width: int, pipe: int, mac: int
) -> None:
    """One TLP with a MAC: bytes added over rate, plus the sender's engine, plus the receiver's."""
    port = Port(generation=generation, lanes=lanes, propagation_ps=PROP)
    engine = replace(
        TYPICAL,
        period_ps=clock_ps,
        bytes_per_clock=width,
        pipe_ps=pipe * clock_ps,
        mac_ps=mac * clock_ps,
        check_ps=(pipe + mac) * clock_ps,
    )
    step = Step(WRITE_UP, address=ADDRESS, bytes=size)
    byte = ps_per_byte(generation, lanes)
    bare = size + 16 + (8 if generation < 6 else 0)
    occupied = clock_ps * -(-(size + 16 + 4) // width)
    # The sender: until the first byte may leave such that neither data nor MAC are missed on the wire.
    sender = max(Fraction(engine.pipe_ps), engine.pipe_ps + occupied + engine.mac_ps - (bare + 16) * byte)
    # The receiver: what is left of taking the TLP in when its last byte is here, and the check.
    sent = sent_by(port, sender + (bare + 16) * byte)
    first = sent_by(port, sender + byte) if generation >= 6 else sent - math.floor((bare + 16) * byte)
    receiver = max(0, first + occupied - sent) + engine.check_ps
    plain = latency(run_package(one_step(step, port, None)))
    sealed = latency(run_package(one_step(step, port, engine)))
    assert plain == sent_by(port, bare * byte) + PROP
    assert sealed - plain == sent - sent_by(port, bare * byte) + receiver
    if occupied + engine.mac_ps <= (bare + 16) * byte:
        # A wire slower than the engine: (bytes added)/rate + transmit engine + receive engine, to a rounding,
        # which in flit mode is to flits.
        unit = 236 * byte if generation >= 6 else 1
        assert abs(sealed - plain - (16 * byte + engine.pipe_ps + engine.check_ps)) < unit


# --- saturation ---

MIB = 1 << 20


@both_sides
@pytest.mark.parametrize("generation", range(1, 8))
def test_a_long_write_fills_the_wire_without_a_hole(run: Runner, generation: int) -> None:
    """Quanta, ports and rounding cost nothing: the last byte is there when bytes and rate say so, exactly."""
    size = MIB if run is run_package else MIB // 16
    port = Port(generation=generation, lanes=8, propagation_ps=PROP, mps=256)
    step = Step(WRITE_UP, address=ADDRESS, bytes=size)
    byte = ps_per_byte(generation, 8)
    wire = 256 + 16 + (8 if generation < 6 else 0)
    plain = latency(run(one_step(step, port, None)))
    assert plain == sent_by(port, size // 256 * wire * byte) + PROP
    # Fast enough for Gen7 x8: 3 cycles of 250 ps for 276 bytes.
    engine = replace(TYPICAL, period_ps=250, pipe_ps=500, mac_ps=1000, check_ps=1500)
    sealed = latency(run(one_step(step, port, engine)))
    # An IDE Sync of 40 bytes (32) behind every 245th TLP, that is, before the next one.
    syncs = (size // 256 - 1) // 245 * (32 + (8 if generation < 6 else 0))
    assert sealed == sent_by(port, 500 + (size // 256 * (wire + 16) + syncs) * byte) + PROP + 1500


@pytest.mark.parametrize(
    ("generation", "gigabytes"),
    [(1, 4.0), (2, 8.0), (3, 15.754), (4, 31.508), (5, 63.015), (6, 118.0), (7, 236.0)],
)
@pytest.mark.parametrize("protected", [False, True])
def test_saturated_write_reaches_its_bandwidth(generation: int, gigabytes: float, protected: bool) -> None:
    """Sixteen lanes; the figures are bytes per ns before TLP overhead, as published."""
    port = Port(generation=generation, lanes=16, propagation_ps=PROP, mps=512)
    engine = replace(TYPICAL, period_ps=200, pipe_ps=200, mac_ps=600, check_ps=800)
    size = 64 * MIB
    case = one_step(Step(WRITE_UP, address=ADDRESS, bytes=size), port, engine if protected else None)
    wire = 512 + 16 + (8 if generation < 6 else 0) + (16 if protected else 0)
    expected = gigabytes * 512 / wire
    assert size / latency(run_package(case)) * 1000 == pytest.approx(expected, rel=1e-3)


def test_saturated_read_reaches_its_bandwidth() -> None:
    """Enough tags: completions fill the wire down; the start (one round trip) is 0.04 % here."""
    size = 32 * MIB
    port = Port(5, 4, PROP, mrrs=512, rcb=64, completion_bytes=256, tags=256)
    for engine, wire in ((None, 276), (TYPICAL, 292)):
        case = one_step(Step(READ_UP, address=ADDRESS, bytes=size), port, engine)
        rate = 1000 / ps_per_byte(5, 4) * 256 / wire
        assert size / latency(run_package(case)) * 1000 == pytest.approx(float(rate), rel=1e-3)


@pytest.mark.parametrize(("width", "period", "cycles"), [(64, 1250, 5), (16, 1000, 18), (128, 5000, 3)])
def test_an_engine_slower_than_the_wire_sets_the_bandwidth(width: int, period: int, cycles: int) -> None:
    """One TLP of 276 bytes per `cycles` clocks, exactly, on a wire that could do more."""
    port = Port(5, 16, PROP, mps=256)
    engine = replace(TYPICAL, bytes_per_clock=width, period_ps=period)
    size = MIB
    case = one_step(Step(WRITE_UP, address=ADDRESS, bytes=size), port, engine)
    wire = 296 * ps_per_byte(5, 16)
    assert cycles * period > wire
    # The last TLP leaves its sender's engine at the end of all; the receiver's engine, as fast, is done with
    # it one occupation after its first byte.
    # Every 245th TLP is followed by an IDE Sync of 20 bytes and a MAC, here before the last TLP.
    clocks = size // 256 * cycles + (size // 256 - 1) // 245 * math.ceil(20 / width)
    sent = clocks * period + engine.pipe_ps + engine.mac_ps
    received = cycles * period - math.floor(wire)
    assert latency(run_package(case)) == sent + PROP + received + engine.check_ps


def test_reads_limited_by_the_root_complex() -> None:
    """One read of 512 bytes per 50 ns, whatever the wire could do."""
    size = 16 * MIB
    port = Port(5, 16, PROP, mrrs=512, tags=256)
    case = one_step(Step(READ_UP, address=ADDRESS, bytes=size), port, None, read_interval_ps=50_000)
    assert size / latency(run_package(case)) * 1000 == pytest.approx(512 / 50, rel=1e-3)


# --- a pipe with few tags ---


@both_sides
@pytest.mark.parametrize("generation", [1, 3, 5, 6, 7])
def test_one_tag_moves_one_request_per_round_trip(run: Runner, generation: int) -> None:
    """Exactly: a request, the host, its completions, and only then the next."""
    requests = 50
    port = Port(generation, 4, PROP, mps=256, mrrs=512, rcb=64, completion_bytes=256, tags=1)
    step = Step(READ_UP, address=ADDRESS, bytes=512 * requests)
    byte = ps_per_byte(generation, 4)
    link = 8 if generation < 6 else 0
    now = 0
    for _ in range(requests):
        now = sent_by(port, now + (16 + link) * byte) + PROP + 300_000
        now = sent_by(port, now + 2 * (256 + 12 + link) * byte) + PROP
    assert latency(run(one_step(step, port, None))) == now
    engine = replace(TYPICAL, period_ps=250, pipe_ps=250, mac_ps=750, check_ps=1000)
    # Request: one clock to take it in, then pipe and MAC, if the wire is not slower than that.
    wire_there = (32 + link) * byte
    now = 0
    for _ in range(requests):
        end = now + max(250 + wire_there, Fraction(250 + 250 + 750))
        sent = sent_by(port, end)
        first = sent_by(port, end - wire_there + byte) if link == 0 else sent - math.floor(wire_there)
        now = max(sent, first + 250) + PROP + 1000 + 300_000
        now = sent_by(port, now + 250 + 2 * (256 + 28 + link) * byte) + PROP + 1000
    assert latency(run(one_step(step, port, engine))) == now


def test_few_tags_divide_the_round_trip() -> None:
    """Four tags, a round trip much longer than four requests on the wire: four requests per round trip."""
    size = 4 * MIB
    port = Port(5, 16, PROP, mrrs=512, rcb=64, completion_bytes=256, tags=4)
    case = one_step(Step(READ_UP, address=ADDRESS, bytes=size), port, None)
    byte = ps_per_byte(5, 16)
    trip = 24 * byte + PROP + 300_000 + 2 * 276 * byte + PROP
    assert size / latency(run_package(case)) == pytest.approx(float(4 * 512 / trip), rel=1e-3)


# --- delays and servers ---


@both_sides
@pytest.mark.nojit
def test_a_server_takes_one_after_the_other(run: Runner) -> None:
    """Three requests at a server that each take 10 ns of it and last 25 ns; media are off the I/O path."""
    steps = [
        Step(DELAY, delay_ps=25_000, occupy_ps=10_000, request=i, server=0, begin=True, end=True, media=True)
        for i in range(3)
    ]
    result = run(Case([Port()], [steps], [[False] * 3]))
    assert result.latency_ps == [[25_000, 35_000, 45_000]]
    assert result.io_ps == [[0, 0, 0]]


@both_sides
@pytest.mark.nojit
def test_a_request_starts_when_it_may_and_counts_from_then(run: Runner) -> None:
    """A wait before a request is not part of it, a wait inside it is; media are off the I/O path."""
    port = Port(5, 4, PROP)
    steps = [
        Step(WRITE_DOWN, address=0x1000, bytes=4, not_before_ps=5000, delay_ps=3000, begin=True),
        Step(DELAY, delay_ps=70_000, after=1, media=True),
        Step(WRITE_UP, address=ADDRESS, bytes=256, delay_ps=2000, after=1, end=True),
    ]
    doorbell = 1524 + PROP  # 24 bytes, and the step starts at 5000, whatever its pause of 3000 says
    result = run(Case([port], [steps], [[False] * 3]))
    assert result.latency_ps == [[doorbell + 70_000 + 2000 + 17_774 + PROP]]
    assert result.io_ps == [[doorbell + 2000 + 17_774 + PROP]]
    assert result.first_start_ps == 5000


@both_sides
@pytest.mark.nojit
def test_nothing_begins_after_the_stop(run: Runner) -> None:
    """A request that would begin after the stop never runs, nor what waits for it; one at the stop does."""
    steps = [
        Step(WRITE_UP, address=ADDRESS, bytes=4, not_before_ps=at, request=i, begin=True, end=True)
        for i, at in enumerate([0, 1_000_000, 1_000_001])
    ]
    steps.append(Step(WRITE_UP, address=ADDRESS, bytes=4, request=3, after=1, begin=True, end=True))
    result = run(Case([Port(5, 4, PROP)], [steps], [[False] * 4], stop_ps=1_000_000))
    taken = 1778 + PROP  # 28 bytes
    assert result.latency_ps == [[taken, taken, None, None]]
    assert result.counters[0, 0]["requests"] == 2


@both_sides
@pytest.mark.nojit
def test_control_passes_waiting_data(run: Runner) -> None:
    """A small queue write that becomes ready during a long data write leaves after the present quantum.

    Gen5 x4: 1 KiB takes 65 ns bare, 2 KiB more than 80, so a quantum is four TLPs of 280 bytes.
    """
    port = Port(5, 4, 0, mps=256)
    data = Step(WRITE_UP, address=ADDRESS, bytes=3 * 4096, request=0, buffer=0, begin=True, end=True)
    entry = Step(WRITE_UP, ADDRESS, 16, 100_000, request=1, buffer=1, begin=True, end=True)
    result = run(Case([port], [[data, entry]], [[False] * 2]))
    byte = ps_per_byte(5, 4)
    quantum = 4 * 280 * byte
    assert quantum < 100_000 < 2 * quantum
    passed = math.ceil(2 * quantum + 40 * byte) - 100_000
    assert result.latency_ps == [[math.ceil(12 * quantum + 40 * byte), passed]]


@both_sides
@pytest.mark.nojit
def test_flit_links_run_at_236_of_256_bytes(run: Runner) -> None:
    """Gen6 x16: 128 GB/s of flits carry 118 GB/s of TLPs; 59 writes of 4112 bytes are 1028 of them."""
    port = Port(6, 16, 0, mps=4096)
    # One alone: 17.4 flits of 2 ns, and the rest of the last.
    assert latency(run(one_step(Step(WRITE_UP, ADDRESS, 4096), port, None))) == 18 * 2000
    assert latency(run(one_step(Step(WRITE_UP, ADDRESS, 4096), replace(port, generation=7), None))) == 18_000
    taken = latency(run(one_step(Step(WRITE_UP, ADDRESS, 59 * 4096), port, None)))
    assert taken == 1028 * 2000 == 59 * 4112 * 1000 / Fraction(118)
