"""Each mechanism of the link, switched on alone, with the effect that its equation says.

docs/model.md has the equations. Everything on at once is compared with the oracle in test_link_oracle.py.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracles.link_cases import (
    Case,
    Port,
    as_program,
    host_table,
    link_table,
    oracle_outcome,
    outcome_of_package,
    ps_per_byte,
    run_oracle,
    run_package,
)
from oracles.link_heapq import READ_UP, WRITE_UP, Step
from oracles.link_strategies import cases

from sevpcie_core.errors import MisuseError, RunError
from sevpcie_core.link.params import (
    CREDITS,
    OTHER,
    TAGS,
    Credits,
    DataLink,
    EngineTiming,
    Iommu,
    Memory,
    RootPort,
    link_row,
)
from sevpcie_core.link.run import simulate

fixed = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

# An address whose headers have four DW.
HIGH = 1 << 33
BYTE = ps_per_byte(5, 4)
PROP = 100_000
ENGINE = EngineTiming(1000, 6000, 7000, 1000, 1, 128, 0, 0, 3, hold_ps=6000)


def stream(kind: int, count: int, size: int, *, every_ps: int = 0, stride: int = 4096) -> list[Step]:
    """Return transfers that are all wanted at once, or one per interval."""
    return [
        Step(
            kind,
            HIGH + stride * i,
            size,
            not_before_ps=every_ps * i,
            request=i,
            buffer=0,
            begin=True,
            end=True,
        )
        for i in range(count)
    ]


def run(steps: list[Step], port: Port, *, sealed: bool = False, **more: Any) -> Any:
    """Run one device's transfers; return the outcome."""
    return outcome_of_package(Case([port], [steps], [[sealed] * len(steps)], ENGINE, **more))


def span(steps: list[Step], port: Port, **more: Any) -> int:
    """Return the time from the first start to the last end, ps."""
    outcome = run(steps, port, **more)
    (found,) = outcome.classes
    assert found.requests == len(steps)
    return found.last_end_ps - found.first_start_ps


# --- what keeps a link going ---


@pytest.mark.parametrize(("acks", "updates"), [(1, 0), (0, 1), (1, 1), (4, 1)])
def test_dllps_take_their_bytes_from_the_answers_of_reads(acks: int, updates: int) -> None:
    """A request of 64 B is answered by 84 B on the wire, and by 8 B per DLLP that it causes."""
    port = Port(tags=256, data_link=DataLink(ack_every=acks, update_every=updates))
    steps = stream(READ_UP, 4000, 64)
    dllps = (8 / acks if acks else 0) + (8 / updates if updates else 0)
    slower = span(steps, port) / span(steps, replace(port, data_link=DataLink()))
    assert slower == pytest.approx((84 + dllps) / 84, rel=0.015)
    assert run(steps, port).maintenance_bytes[0][1] == pytest.approx(4000 * dllps)


def test_dllps_on_an_idle_wire_cost_nothing() -> None:
    """Writes alone: what is sent for them goes the other way, where nobody is in its way."""
    steps = stream(WRITE_UP, 500, 256)
    busy = Port(data_link=DataLink(ack_every=1, update_every=1))
    assert span(steps, busy) == span(steps, Port())
    assert run(steps, busy).maintenance_bytes == ((0, 500 * 16),)


def test_skips_take_their_share_of_the_wire() -> None:
    steps = stream(WRITE_UP, 4000, 256)
    slower = span(steps, Port(data_link=DataLink(skip_every=2000, skip_bytes=100))) / span(steps, Port())
    assert slower == pytest.approx(1.05, rel=0.005)


def test_flit_mode_has_bytes_of_its_own_for_all_of_that() -> None:
    everything = DataLink(ack_every=1, update_every=1, skip_every=100, skip_bytes=50)
    steps = stream(READ_UP, 500, 64)
    assert span(steps, Port(6, data_link=everything)) == span(steps, Port(6))


# --- flow control ---


def test_one_posted_credit_allows_one_write_per_round_trip() -> None:
    port = Port(up=Credits(posted_headers=1, posted_data=16), data_link=DataLink(credit_ps=150_000))
    wire = 280 * BYTE
    # The first write, then one per way there and back; rounded up to a whole ps once per write.
    expected = 100 * (wire + PROP + 150_000) - 150_000
    assert 0 <= span(stream(WRITE_UP, 100, 256), port) - expected <= 100


def test_credits_for_the_round_trip_are_as_good_as_infinite_ones() -> None:
    """256 B per 17.8 ns, and 268 ns there and back: 15.1 writes, so 17 are enough and 8 are not."""
    steps = stream(WRITE_UP, 1000, 256)

    def with_headers(count: int) -> int:
        credits = Credits(posted_headers=count, posted_data=16 * count)
        return span(steps, Port(up=credits, data_link=DataLink(credit_ps=150_000)))

    assert with_headers(17) == span(steps, Port())
    assert with_headers(8) > 1.5 * span(steps, Port())
    spans = [with_headers(n) for n in (1, 2, 4, 8, 12, 15, 17, 64)]
    assert spans == sorted(spans, reverse=True)


def test_holding_for_the_mac_costs_throughput_where_buffers_are_short() -> None:
    """The credit of a write that is held comes back later; with buffers enough only bytes are added."""
    steps = stream(WRITE_UP, 400, 256)
    short = Port(up=Credits(posted_headers=2, posted_data=32), data_link=DataLink(credit_ps=20_000))
    added = span(steps, short, sealed=True) - span(steps, short)
    # Per two writes: their own bytes, and the engines at both ends.
    assert added / 400 > 16 * BYTE
    assert added / 200 == pytest.approx(float(16 * BYTE) + 1000 + 7000, rel=0.6)
    ample = (span(steps, Port(), sealed=True) - span(steps, Port())) / 400
    assert added / 400 > 2.5 * ample


def test_a_request_without_a_credit_lets_writes_pass() -> None:
    """The second read has to wait for the first one's start at the host; the write behind it does not."""
    port = Port(up=Credits(non_posted_headers=1), data_link=DataLink(credit_ps=900_000))
    read, write = stream(READ_UP, 2, 64), stream(WRITE_UP, 1, 64)
    steps = [*read, replace(write[0], request=2, not_before_ps=10_000)]
    outcome = run(steps, port)
    taken = outcome.kept_ps[0, :3].tolist()
    assert taken[1] > 900_000 + taken[0] - 310_000
    assert taken[2] == run(write, port).kept_ps[0, 0]
    (found,) = outcome.classes
    assert found.ledger_ps["credits"] > 900_000


def test_a_completion_may_not_pass_a_write_of_the_host_that_waits() -> None:
    port = Port(down=Credits(completion_headers=3, completion_data=33), data_link=DataLink(credit_ps=400_000))
    steps = stream(READ_UP, 40, 512)
    # Three completions of 256 B fit, so one answer of two per way there and back.
    assert span(steps, port) == pytest.approx(39 * (PROP + 400_000 + 552 * float(BYTE)), rel=0.05)


@pytest.mark.parametrize(
    ("what", "credits"),
    [
        ("posted data below MPS", Credits(posted_headers=4, posted_data=15)),
        ("headers without data", Credits(posted_headers=4)),
        ("data without headers", Credits(posted_data=64)),
        ("too many headers", Credits(non_posted_headers=2049)),
        ("completions of a request do not fit", Credits(completion_headers=2, completion_data=64)),
        ("negative", Credits(posted_headers=-1, posted_data=64)),
    ],
)
def test_buffers_that_would_never_let_anything_pass_are_refused(what: str, credits: Credits) -> None:
    shape: dict[str, int] = {"generation": 5, "lanes": 4, "mps": 256, "mrrs": 512, "rcb": 64, "tags": 8}
    with pytest.raises(MisuseError, match="credits for"):
        link_row(**shape, completion_bytes=256, propagation_ps=0, up=credits, down=credits)


@pytest.mark.parametrize("size", [0, (2**24 - 2) * 256 + 1])
def test_a_transfer_of_nothing_or_of_too_much_is_refused_with_the_bound(size: int) -> None:
    with pytest.raises(MisuseError, match="device 0: a transfer without bytes, or of more than 4294966784, "):
        run([replace(step, bytes=size) for step in stream(READ_UP, 1, 64)], Port(mps=128, mrrs=256))


@settings(fixed, max_examples=150)
@given(cases())
def test_whatever_the_buffers_and_tags_everything_ends_and_every_credit_comes_back(case: Case) -> None:
    """No deadlock, no lost credit: the oracle, which equals the simulator, has them all back at the end."""
    case = case.whole()
    out = oracle_outcome(case)
    for device, (port, steps) in enumerate(zip(case.ports, case.programs, strict=True)):
        for request in {step.request for step in steps}:
            assert out.latency_ps[device][request] is not None
        assert all(
            left
            == {
                (0, True): (port.up.posted_headers, port.up.posted_data),
                (0, False): (port.up.non_posted_headers, 0),
                (1, True): (port.down.posted_headers, port.down.posted_data),
                (1, False): (port.down.completion_headers, port.down.completion_data),
            }[place]
            for place, left in out.credits_left[device].items()
        )
    assert run_package(case).latency_ps is not None


# --- the root port ---


def test_writes_go_no_faster_than_they_drain() -> None:
    port = Port(root_port=RootPort(drain_tlp_ps=20_000, drain_line_ps=5_000, write_latency_ps=70_000))
    steps = stream(WRITE_UP, 300, 256)
    assert span(steps, port) == pytest.approx(300 * 40_000 + PROP + 70_000, rel=0.002)
    # A single one: its bytes, the flight, its own drain, and the way to memory.
    one = run(steps[:1], port).kept_ps[0, 0]
    assert 0 <= one - (280 * BYTE + PROP + 40_000 + 70_000) < 1


def test_an_rmp_check_is_paid_by_protected_writes_alone() -> None:
    checked = Port(root_port=RootPort(rmp_check_ps=10_000))
    one = stream(WRITE_UP, 1, 256)
    assert run(one, checked).kept_ps[0, 0] == run(one, Port()).kept_ps[0, 0]
    sealed = [run(one, port, sealed=True).kept_ps[0, 0] for port in (checked, Port())]
    assert sealed[0] - sealed[1] == 10_000
    # Checks of several are made side by side.
    many = stream(WRITE_UP, 300, 256)
    spans = [span(many, port, sealed=True) for port in (checked, Port())]
    assert spans[0] - spans[1] == 10_000


def test_a_read_waits_for_the_writes_before_it_unless_it_need_not() -> None:
    write, read = stream(WRITE_UP, 1, 64)[0], stream(READ_UP, 1, 64)[0]
    steps = [write, replace(read, request=1, not_before_ps=20_000)]
    strict = RootPort(write_latency_ps=300_000)
    port = Port(root_port=strict)
    waits = run(steps, port).kept_ps[0, 1]
    relaxed = run(steps, replace(port, root_port=replace(strict, ordered=False))).kept_ps[0, 1]
    alone = run([replace(read, not_before_ps=20_000)], port).kept_ps[0, 0]
    assert relaxed == alone
    visible = 88 * BYTE + PROP + 300_000
    arrives = 20_000 + 24 * BYTE + PROP
    assert waits - alone == pytest.approx(float(visible - arrives), abs=2)
    (found,) = run(steps, port).classes
    assert found.ledger_ps["ordering"] == waits - alone


@pytest.mark.parametrize("sealed", [False, True])
def test_ro_lets_no_read_pass_a_write(sealed: bool) -> None:
    """PCIe Base r6.x, section 2.4.1: B2b lets reads with IDO pass, and names no RO."""
    write, read = stream(WRITE_UP, 1, 64)[0], stream(READ_UP, 1, 64)[0]
    steps = [write, replace(read, request=1, not_before_ps=20_000)]
    port = Port(root_port=RootPort(write_latency_ps=300_000), relaxed=True)
    strict = replace(port, relaxed=False)
    alone = run([replace(read, not_before_ps=20_000)], port, sealed=sealed).kept_ps[0, 0]
    for program in (steps, [replace(step, buffer=1) for step in steps]):
        waits = [run(program, p, sealed=sealed).kept_ps[0, 1] for p in (port, strict)]
        assert waits[0] == waits[1] > alone


# --- the IOMMU ---

WALK = ((0.0, 230_000), (1.0, 230_000))


def misses(steps: list[Step], iommu: Iommu) -> tuple[int, int]:
    """Return lookups and misses."""
    found: tuple[int, int] = run(steps, Port(), iommu=iommu).iotlb
    return found


def test_a_miss_costs_a_walk_and_a_hit_nothing() -> None:
    iommu = Iommu(entries=64, ways=4, walkers=2, walk=WALK)
    steps = stream(READ_UP, 3, 64, every_ps=2_000_000, stride=512)
    first, second, third = run(steps, Port(), iommu=iommu).kept_ps[0, :3]
    assert first - second == 230_000
    assert second == third == run(steps[:1], Port()).kept_ps[0, 0]
    assert misses(steps, iommu) == (3, 1)


@pytest.mark.parametrize(("pages", "hit"), [(64, True), (65, False), (128, False)])
def test_the_window_that_still_hits_is_as_large_as_the_iotlb(pages: int, hit: bool) -> None:
    """Round and round over a window: all of it stays, or what is needed next is always what was lost."""
    steps = stream(READ_UP, 4 * pages, 64, every_ps=1_000_000)
    for i, step in enumerate(steps):
        steps[i] = replace(step, address=HIGH + 4096 * (i % pages))
    lookups, lost = misses(steps, Iommu(entries=64, ways=64, walkers=1, walk=WALK))
    assert lookups == 4 * pages
    assert lost == (pages if hit else 4 * pages)


def test_pages_of_2_mib_need_one_entry_for_512_small_ones() -> None:
    steps = stream(READ_UP, 512, 64)
    assert misses(steps, Iommu(entries=4, ways=4, page_shift=21, walk=WALK)) == (512, 1)
    assert misses(steps, Iommu(entries=4, ways=4, page_shift=12, walk=WALK)) == (512, 512)


@pytest.mark.parametrize("walkers", [1, 3, 6])
@pytest.mark.parametrize("kind", [READ_UP, WRITE_UP])
def test_misses_end_at_the_rate_of_the_walkers(kind: int, walkers: int) -> None:
    steps = stream(kind, 600, 64)
    iommu = Iommu(entries=64, ways=4, walkers=walkers, walk=WALK)
    assert span(steps, Port(tags=256), iommu=iommu) == pytest.approx(600 * 230_000 / walkers, rel=0.03)


@pytest.mark.parametrize(
    "shape",
    [(48, 4, 12, 1), (64, 0, 12, 1), (64, 4, 11, 1), (64, 4, 12, 0), (64, 4, 12, 65)],
)
def test_an_iommu_that_cannot_be_is_refused(shape: tuple[int, int, int, int]) -> None:
    with pytest.raises(MisuseError, match="expected"):
        Iommu(*shape)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (TAGS, "device 0: reads wait for tags"),
        (CREDITS + 2 * OTHER, "device 0: read requests wait for credits"),
    ],
)
def test_what_is_stuck_is_named(column: int, words: str) -> None:
    """No link of `link_row` can be: here one has no tag, or its host no room for a single request."""
    steps = stream(READ_UP, 3, 64)
    links = link_table(Case([Port()], [steps], [[False] * 3]))
    links[0, column] = 0
    with pytest.raises(RunError, match=f"{words} that never come back"):
        simulate(
            [as_program(steps)],
            links,
            host_table=host_table(((0.0, 1000), (1.0, 1000))),
            read_interval_ps=0,
            seed=1,
            markers=[lambda part: np.zeros(len(part), np.bool_)],
        )


# --- memory behind the cache ---

# tRFC and tREFI of JESD79-4.
REFRESHED = Memory(1.0, 35_745, 260_000, 7_800_000)


def times(steps: list[Step], memory: Memory) -> np.ndarray:
    """Return the latencies of reads, ps."""
    found: np.ndarray = run(steps, Port(), memory=memory).kept_ps[0, : len(steps)]
    return found


def test_what_is_not_in_the_cache_takes_longer() -> None:
    steps = stream(READ_UP, 4000, 64, every_ps=1_000_000)
    cached = times(steps, Memory())
    assert set((times(steps, Memory(1.0, 35_745)) - cached).tolist()) == {35_745}
    some = times(steps, Memory(0.25, 35_745)) - cached
    assert set(some.tolist()) == {0, 35_745}
    # Four standard deviations.
    assert np.mean(some > 0) == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 4000) ** 0.5)


@pytest.mark.parametrize("every_ps", [6_900_001, 1_000_003])
def test_a_read_that_meets_a_refresh_waits_for_its_end(every_ps: int) -> None:
    """3.3 % of the time, 130 ns in the mean."""
    steps = stream(READ_UP, 20_000, 64, every_ps=every_ps)
    waits = times(steps, REFRESHED) - times(steps, replace(REFRESHED, refresh_ps=0, refresh_interval_ps=0))
    share = 260 / 7800
    met = waits[waits > 0]
    assert 0 == waits.min() < waits.max() <= 260_000
    # Where reads are close, several may meet one refresh; else they are independent.
    assert len(met) / len(steps) == pytest.approx(share, abs=4 * (share / len(steps)) ** 0.5)
    assert met.mean() == pytest.approx(130_000, abs=4 * 75_000 / len(met) ** 0.5)
    assert np.quantile(waits, 0.99) == pytest.approx(0.7 * 260_000, rel=0.08)


def test_all_requests_of_a_read_wait_for_one_refresh() -> None:
    """2 KiB in four requests: were each to meet its own, the others' data would hide most of the wait."""
    steps = stream(READ_UP, 20_000, 2048, every_ps=2_000_003)
    waits = times(steps, REFRESHED) - times(steps, replace(REFRESHED, refresh_ps=0, refresh_interval_ps=0))
    assert np.quantile(waits, 0.99) == pytest.approx(0.7 * 260_000, rel=0.1)
    assert waits.max() > 250_000


@pytest.mark.parametrize(
    "shape",
    [(1.1, 0, 0, 0), (-0.1, 0, 0, 0), (1.0, -1, 0, 0), (1.0, 0, 5, 5), (1.0, 0, -1, 5), (1.0, 0, 5, 1 << 31)],
)
def test_memory_that_cannot_be_is_refused(shape: tuple[float, int, int, int]) -> None:
    with pytest.raises(MisuseError, match="expected"):
        Memory(*shape)


# --- who may pass whom at the root port ---

# Room for all pages, and walkers for all misses.
AMPLE = Iommu(entries=256, ways=256, walkers=64, walk=WALK)
LATER = 2_000_000
WIRE = 88 * BYTE
"""Of a write of 64 B."""


def at_once(*pages: int, buffer: int = 0, gap_ps: int = 0) -> list[Step]:
    """Return writes of 64 B, wanted together or one per gap; before them page 0 is looked up."""
    warm = Step(WRITE_UP, HIGH, 64, request=0, begin=True, end=True)
    return [
        warm,
        *(
            replace(warm, address=HIGH + 4096 * page, not_before_ps=LATER + gap_ps * i, request=1 + i)
            for i, page in enumerate(pages)
        ),
    ]


def taken(steps: list[Step], port: Port, **more: Any) -> tuple[list[int], dict[str, int]]:
    """Return the latency of each request but the first, ps, and the ledger of all."""
    outcome = run(steps, port, **{"iommu": AMPLE, **more})
    (found,) = outcome.classes
    assert sum(found.ledger_ps.values()) == found.latency.total_ps
    return outcome.kept_ps[0, 1 : len(steps)].tolist(), found.ledger_ps


def test_a_write_with_ro_passes_one_that_is_looked_up() -> None:
    """The first one's page is walked, the second one's is known: it is visible as if it were alone."""
    strict = Port(root_port=RootPort(write_latency_ps=70_000))
    relaxed = replace(strict, relaxed=True)
    steps = at_once(1, 0, gap_ps=20_000)
    walked = PROP + 230_000 + 70_000
    alone = math.ceil(WIRE) + PROP + 70_000
    assert taken(steps, relaxed)[0] == [walked, alone]
    assert taken(steps, strict)[0] == [walked, walked - 20_000]
    # What order costs is booked as that, and nothing else is different.
    ledgers = [taken(steps, port)[1] for port in (strict, relaxed)]
    assert ledgers[0]["ordering"] == walked - 20_000 - alone
    assert ledgers[1] == ledgers[0] | {"ordering": 0}


@pytest.mark.parametrize("relaxed", [False, True])
def test_ro_has_no_effect_on_protected_writes(relaxed: bool) -> None:
    port = Port(root_port=RootPort(write_latency_ps=70_000), relaxed=relaxed)
    steps = at_once(1, 0, gap_ps=20_000)
    (first, second), ledger = taken(steps, port, sealed=True)
    assert first == second + 20_000
    (alone,), without = taken(at_once(0), port, sealed=True)
    assert ledger["ordering"] == second - alone
    assert without["ordering"] == 0


def test_a_write_without_ro_waits_for_all_before_it_and_one_with_ro_for_none() -> None:
    """Data that are looked up, a queue entry behind them, then data whose page is known."""
    port = Port(root_port=RootPort(write_latency_ps=70_000), relaxed=True)
    steps = at_once(1, 0, 0, gap_ps=20_000)
    steps[2] = replace(steps[2], buffer=1)
    walked = PROP + 230_000 + 70_000
    assert taken(steps, port)[0] == [walked, walked - 20_000, math.ceil(WIRE) + PROP + 70_000]
    # The same behind an entry that is looked up itself.
    steps[1] = replace(steps[1], buffer=1)
    assert taken(steps, port)[0] == [walked, walked - 20_000, math.ceil(WIRE) + PROP + 70_000]


def test_what_passes_is_drained_one_after_the_other() -> None:
    """In 230 ns of lookup the drain takes seven writes of 30 ns each; the others come behind the first."""
    port = Port(root_port=RootPort(drain_tlp_ps=30_000), relaxed=True)
    (walked, *others), passing = taken(at_once(1, *[0] * 12), port)
    assert walked == PROP + 230_000 + 30_000
    begin = math.ceil(2 * WIRE) + PROP
    assert others[:7] == [begin + 30_000 * k for k in range(1, 8)]
    assert others[7:] == [walked + 30_000 * k for k in range(1, 6)]
    (_, *strict), ordered = taken(at_once(1, *[0] * 12), replace(port, relaxed=False))
    assert strict == [walked + 30_000 * k for k in range(1, 13)]
    # To the picosecond what RO would have saved.
    assert passing["ordering"] == 0
    assert ordered == passing | {"ordering": sum(strict) - sum(others)}


def test_order_costs_as_long_as_the_drain_is_behind() -> None:
    """The lookup is long over, and what waited for it is still being drained: ten writes of 30 ns."""
    strict = Port(root_port=RootPort(drain_tlp_ps=30_000))
    steps = at_once(1, *[0] * 12, *[0] * 3)
    for k in range(3):
        late = LATER + 300_000 + 40_000 * k
        steps[14 + k] = replace(steps[14 + k], not_before_ps=late, stat=1)
    waiting, relaxed = (run(steps, replace(strict, relaxed=flag), iommu=AMPLE) for flag in (False, True))
    saved = int((waiting.kept_ps[0, 14:17] - relaxed.kept_ps[0, 14:17]).sum())
    assert saved > 0
    assert waiting.classes[1].ledger_ps == relaxed.classes[1].ledger_ps | {"ordering": saved}


def test_a_queue_before_the_lookup_is_the_hosts() -> None:
    """Three writes of 30 ns are drained, then one that is looked up meanwhile, and for longer."""
    port = Port(root_port=RootPort(drain_tlp_ps=30_000))
    latency, ledger = taken(at_once(0, 0, 0, 1), port)
    # It enters when three of them have left.
    first = math.floor(3 * WIRE) + PROP
    assert latency[3] == first + 230_000 + 30_000
    queue = math.ceil(WIRE) + PROP + 3 * 30_000
    (_, warm) = taken(at_once(), port)
    assert ledger["iommu"] - warm["iommu"] == first + 230_000 - queue
    assert ledger["ordering"] == 0


@pytest.mark.parametrize("walked", [False, True])
def test_a_write_waits_until_those_before_it_are_visible(walked: bool) -> None:
    """Plain ones behind a protected one that is checked against the reverse map for 900 ns; RO passes."""
    port = Port(root_port=RootPort(rmp_check_ps=900_000))
    steps = at_once(0, 1 if walked else 0, 0, gap_ps=50_000)
    steps[3] = replace(steps[3], buffer=1)
    marks = [[False, True, False, False]]
    for relaxed in (False, True):
        case = Case([replace(port, relaxed=relaxed)], [steps], marks, ENGINE, iommu=AMPLE)
        for ledger in (False, True):
            first, second, entry = outcome_of_package(case, ledger=ledger).kept_ps[0, 1:4]
            alone = PROP + 230_000 if walked else math.ceil(WIRE) + PROP
            assert second == (alone if relaxed else first - 50_000)
            assert entry == first - 100_000
        assert run_package(case) == run_oracle(case)


def test_what_passes_more_than_others_is_drained_before_its_turn() -> None:
    """Were all to pass, an entry would be drained before the data: its place is theirs, and booked once."""
    port = Port(root_port=RootPort(drain_tlp_ps=30_000), relaxed=True)
    steps = at_once(1, 0, 0)
    steps[2] = replace(steps[2], buffer=1)
    case = Case([port], [steps], [[False] * 4], iommu=AMPLE)
    assert run_package(case) == run_oracle(case)
    (_, entry, data), ledger = taken(steps, port)
    assert entry == PROP + 230_000 + 2 * 30_000
    assert data == math.ceil(3 * WIRE) + PROP + 30_000
    assert min(ledger.values()) >= 0


def test_writes_of_one_page_have_nothing_to_pass() -> None:
    port = Port(root_port=RootPort(drain_tlp_ps=30_000, write_latency_ps=70_000))
    steps = at_once(*[1] * 12)
    strict, relaxed = (taken(steps, replace(port, relaxed=flag)) for flag in (False, True))
    assert strict == relaxed
    assert strict[1]["ordering"] == 0
    assert strict[0] == [PROP + 230_000 + 70_000 + 30_000 * k for k in range(1, 13)]


def test_a_write_is_visible_when_all_of_it_is() -> None:
    """Two quanta: the page of the first is walked, and the second one passes it."""
    port = Port(root_port=RootPort(write_latency_ps=70_000))
    step = replace(at_once(1)[1], address=HIGH + 2 * 4096 - 1024, bytes=2048)
    steps = [*at_once(2)[:1], step]
    steps[0] = replace(steps[0], address=HIGH + 2 * 4096)
    for flag in (False, True):
        latency, ledger = taken(steps, replace(port, relaxed=flag))
        assert latency == [PROP + 230_000 + 70_000]
        # Its own lookup, whichever quantum has it.
        assert ledger["ordering"] == 0
        arrives = math.ceil(2 * 4 * 280 * BYTE) + PROP
        assert ledger["iommu"] == 230_000 + PROP - arrives + 230_000 - math.ceil(WIRE)


def test_a_slot_that_is_used_again_knows_nothing_of_the_write_before() -> None:
    """The walk of one takes 1 ms; 1024 steps later another one is in its slot, and has passed it."""
    port = Port(relaxed=True)
    slow = replace(AMPLE, walk=((0.0, 10**9), (1.0, 10**9)))
    warm, step = at_once(0)
    begin = 2 * 10**9
    steps = [warm, replace(step, address=HIGH + 4096, not_before_ps=begin)]
    steps += [
        replace(step, not_before_ps=begin + 100_000 * i, request=1 + i, buffer=i % 2) for i in range(1, 1100)
    ]
    case = Case([port], [steps], [[False] * len(steps)], iommu=slow)
    for ledger in (False, True):
        latency = outcome_of_package(case, [list(range(0, 1101, 10))], ledger).kept_ps[0]
        assert latency[1] == PROP + 10**9
        # Data pass, entries wait.
        assert set(latency[3:1101:2].tolist()) == {math.ceil(WIRE) + PROP}
        assert latency[2:1101:2].tolist() == [PROP + 10**9 - 100_000 * i for i in range(1, 1100, 2)]


def test_a_write_that_passes_gives_its_credits_back_first() -> None:
    """Two buffers: the third write waits for one of them, that of the second write with RO."""
    credits = Credits(posted_headers=2, posted_data=32)
    port = Port(up=credits, data_link=DataLink(credit_ps=50_000))
    steps = at_once(1, 0, 0)
    second = math.ceil(2 * WIRE) + PROP
    third = second + 50_000 + math.ceil(WIRE) + PROP
    assert taken(steps, replace(port, relaxed=True))[0] == [PROP + 230_000, second, third]
    late = PROP + 230_000 + 50_000 + math.ceil(WIRE) + PROP
    assert taken(steps, port)[0] == [PROP + 230_000, PROP + 230_000, late]


def test_the_drain_remembers_so_many_gaps() -> None:
    """One walker, a hundred pages: gaps of 25 ns between their drains. More than 64 are not used."""
    iommu = replace(AMPLE, walkers=1, walk=((0.0, 45_000), (1.0, 45_000)))
    port = Port(root_port=RootPort(drain_tlp_ps=20_000), relaxed=True)
    steps = at_once(*range(1, 101), *[0] * 90)
    case = Case([port], [steps], [[False] * len(steps)], iommu=iommu)
    assert run_package(case) == run_oracle(case)
    latency, _ = taken(steps, port, iommu=iommu)
    last = latency[99]
    assert last == PROP + 100 * 45_000 + 20_000
    passed = [time for time in latency[100:] if time < last]
    # By then some gaps are over, of those that were noted.
    assert 60 <= len(passed) <= 64
    assert sorted(latency[100 + len(passed) :]) == [last + 20_000 * k for k in range(1, 91 - len(passed))]


# --- errors and replay ---


def test_errors_cost_a_nak_and_a_replay_each_and_seal_nothing_again() -> None:
    noisy = Port(data_link=DataLink(bit_error_rate=1e-6, nak_ps=50_000))
    steps = stream(WRITE_UP, 8000, 256)
    outcome, clean = (run(steps, port, sealed=True) for port in (noisy, Port()))
    ((up, down),) = outcome.errors
    bytes_on_wire = clean.classes[0].wire_bytes
    assert up == pytest.approx(bytes_on_wire * 8e-6, rel=0.35)
    assert down == 0
    # No TLP is counted twice, and the engines see each one once.
    assert outcome.classes[0].wire_bytes == bytes_on_wire
    assert outcome.classes[0].tlps == clean.classes[0].tlps
    lost = outcome.job_ps[0] - clean.job_ps[0]
    assert lost == pytest.approx(up * (PROP + 50_000 + 296 * float(BYTE)), rel=0.02)
    assert outcome.busy[0]["engine"] * outcome.job_ps[0] == pytest.approx(
        clean.busy[0]["engine"] * clean.job_ps[0]
    )


def test_an_error_shows_in_the_ledger_of_who_met_it() -> None:
    noisy = Port(data_link=DataLink(bit_error_rate=1e-6, nak_ps=50_000))
    steps = stream(WRITE_UP, 3000, 256, every_ps=1_000_000)
    outcome = run(steps, noisy)
    (found,) = outcome.classes
    ((up, _),) = outcome.errors
    assert up > 2
    assert found.ledger_ps["replay"] == pytest.approx(up * (PROP + 50_000 + 280 * float(BYTE)), abs=up)
    plain = run(steps, Port()).kept_ps[0, : len(steps)]
    hit = np.flatnonzero(outcome.kept_ps[0, : len(steps)] != plain)
    assert len(hit) == up


def test_a_short_replay_buffer_limits_what_is_on_its_way() -> None:
    steps = stream(WRITE_UP, 500, 256)
    link = DataLink(replay_bytes=2304, credit_ps=300_000)
    # 280 B take 18 units of 16 B: eight writes fit into 144, and are kept until they are acknowledged.
    expected = 500 / 8 * (PROP + 300_000 + 280 * float(BYTE))
    port = Port(data_link=link)
    assert span(steps, port) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(
    "link", [DataLink(bit_error_rate=1e-4), DataLink(bit_error_rate=1e-14), DataLink(replay_bytes=100)]
)
def test_a_data_link_layer_that_cannot_be_is_refused(link: DataLink) -> None:
    with pytest.raises(MisuseError, match="expected"):
        link_row(
            generation=5, lanes=4, mps=256, mrrs=512, rcb=64, tags=8,
            completion_bytes=256, propagation_ps=0, data_link=link,
        )  # fmt: skip


# --- queueing theory ---


@pytest.mark.parametrize("load", [0.3, 0.7, 0.9])
def test_a_port_with_random_arrivals_is_an_m_d_1_queue(load: float) -> None:
    """Poisson arrivals, equal service: the mean wait is load x service / (2 x (1 - load))."""
    service = float(280 * BYTE)
    count = 60_000
    gaps = np.random.default_rng(5).exponential(service / load, count)
    starts = np.cumsum(gaps).astype(np.int64)
    steps = [
        Step(WRITE_UP, HIGH, 256, not_before_ps=int(t), request=i, begin=True, end=True)
        for i, t in enumerate(starts)
    ]
    waits = run(steps, Port()).kept_ps[0, :count] - (service + PROP)
    expected = load * service / (2 * (1 - load))
    # Blocks far longer than the queue's memory are independent: an interval of four standard errors.
    blocks = waits[: count // 100 * 100].reshape(100, -1).mean(axis=1)
    error = blocks.std(ddof=1) / 10
    assert abs(waits.mean() - expected) < 4 * error + 1
    assert error < 0.15 * expected + 1


@settings(fixed, max_examples=40)
@given(
    headers=st.integers(1, 40),
    more=st.integers(1, 40),
    credit=st.sampled_from([0, 50_000, 300_000]),
    size=st.sampled_from([64, 256, 1000]),
    sealed=st.booleans(),
)
def test_more_credits_never_hurt_writes(
    headers: int, more: int, credit: int, size: int, sealed: bool
) -> None:
    steps = stream(WRITE_UP, 60, size)

    def taken(count: int) -> int:
        credits = Credits(posted_headers=count, posted_data=16 * count)
        return span(steps, Port(up=credits, data_link=DataLink(credit_ps=credit)), sealed=sealed)

    # A larger quantum may enter later than two small ones would have: by one quantum of the wire at most.
    assert taken(headers + more) <= taken(headers) + 80_000
