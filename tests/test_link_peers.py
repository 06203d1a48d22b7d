"""Traffic between devices: up one link, turned at a switch or at the root complex, down another one."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracles.link_cases import Case, Port, as_program, link_table, outcome_of_package, run_oracle, run_package
from oracles.link_cases import ps_per_byte as per_byte
from oracles.link_heapq import DELAY, READ_UP, WRITE_DOWN, WRITE_UP, Step
from oracles.link_strategies import pairs, programs

from sevpcie_core.errors import MisuseError
from sevpcie_core.link.params import Credits, EngineTiming, Iommu, Peer, RootPort, Switch, with_peers
from sevpcie_core.link.run import simulate
from sevpcie_core.spec import BUFFER_DATA, BUFFER_QUEUE
from sevpcie_core.stats.draw import quantile_table
from sevpcie_core.workload.peer import with_peer
from sevpcie_core.workload.program import EARLY1, EARLY2

fixed = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

HIGH = 1 << 33
PROP = 100_000
SWITCH = 110_000
TURN = 70_000
READ = 640_000
ENGINE = EngineTiming(1000, 6000, 7000, 1000, 1, 128, 0, 0, 96, hold_ps=6000)
# Framing, header of 16 B or 12 B; what a MAC per TLP adds.
WRITE_BYTES, REQUEST_BYTES, COMPLETION_BYTES, SEALED_BYTES = 24, 24, 20, 16


def transfers(kind: int, count: int = 1, size: int = 64, *, peer: int = 1, buffer: int = 0) -> list[Step]:
    """Return transfers with a peer that are all wanted at once."""
    return [
        Step(kind, HIGH + 4096 * i, size, request=i, server=peer, buffer=buffer, begin=True, end=True)
        for i in range(count)
    ]


IDLE = [Step(DELAY, begin=True, end=True)]


def case_of(
    steps: list[Step],
    *,
    other: list[Step] = IDLE,
    port: Port | None = None,
    below: Sequence[int | None] = (),
    switch: Switch | None = None,
    engine: EngineTiming | None = None,
    **more: Any,
) -> Case:
    """Return two devices of equal links; all is sealed if there is an engine."""
    port = port or Port(peer=Peer(READ))
    switches = 1 + max((s for s in below if s is not None), default=-1)
    return Case(
        [port, port],
        [steps, other],
        [[engine is not None] * len(s) for s in (steps, other)],
        engine,
        uplinks=[(port, switch or Switch(SWITCH, cut_through=False))] * switches,
        below=below,
        turn_ps=TURN,
        **more,
    )


def one(steps: list[Step], **more: Any) -> int:
    """Return the latency of the only request of the first device, ps."""
    latency = run_package(case_of(steps, **more)).latency_ps[0][0]
    assert latency is not None
    return latency


def hop(count: int, port: Port | None = None) -> int:
    """Return the time of so many bytes over one link, ps."""
    port = port or Port()
    return math.ceil(count * per_byte(port.generation, port.lanes)) + PROP


# --- against the oracle ---


@settings(fixed, max_examples=100)
@given(pairs())
def test_any_small_programs(case: Case) -> None:
    """Switches, engines, units, one engine of the host, IOMMU, short buffers: equal to the picosecond."""
    assert run_package(case) == run_oracle(case)


@settings(fixed, max_examples=50)
@given(pairs())
def test_the_ledger_sums_to_the_latency(case: Case) -> None:
    for c in outcome_of_package(case).classes:
        assert sum(c.ledger_ps.values()) == c.latency.total_ps
        assert min(c.ledger_ps.values()) >= 0


@settings(fixed, max_examples=40)
@given(pairs())
def test_every_byte_is_moved_whatever_the_way(case: Case) -> None:
    """Of each class the payload of its transfers: what a way adds are headers."""
    found = run_package(case.whole())
    for device, steps in enumerate(case.programs):
        for stat in range(1 + max(step.stat for step in steps)):
            moved = sum(step.bytes for step in steps if step.kind != DELAY and step.stat == stat)
            assert found.counters[device, stat]["payload"] == moved


# --- ways, by hand ---

WAYS: dict[str, tuple[list[int | None], bool, int, int]] = {
    # (switch of each device, redirects, links, what lies between them)
    "root complex": ([], True, 2, TURN),
    "switch": ([0, 0], False, 2, SWITCH),
    "ACS": ([0, 0], True, 4, 2 * SWITCH + TURN),
    "two switches": ([0, 1], False, 4, 2 * SWITCH + TURN),
    "one behind a switch": ([None, 0], False, 3, SWITCH + TURN),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_write_takes_link_after_link(way: str) -> None:
    below, redirects, links, between = WAYS[way]
    switch = Switch(SWITCH, cut_through=False, redirects=redirects)
    assert one(transfers(WRITE_UP), below=below, switch=switch) == links * hop(64 + WRITE_BYTES) + between


@pytest.mark.parametrize("way", WAYS)
def test_a_read_takes_the_way_twice(way: str) -> None:
    below, redirects, links, between = WAYS[way]
    switch = Switch(SWITCH, cut_through=False, redirects=redirects)
    there, back = links * hop(REQUEST_BYTES), links * hop(64 + COMPLETION_BYTES)
    assert one(transfers(READ_UP), below=below, switch=switch) == there + back + 2 * between + READ


def test_neither_memory_nor_order_of_the_host_counts() -> None:
    """What the root port does with writes to memory, and how long memory takes, is no matter of peers."""
    slow = Port(root_port=RootPort(50_000, 50_000, 900_000, rmp_check_ps=5000), peer=Peer(READ))
    for kind in (WRITE_UP, READ_UP):
        plain = one(transfers(kind))
        assert one(transfers(kind), port=slow, host_points=((0.0, 10**6), (1.0, 10**6))) == plain


def test_addresses_are_translated_where_the_root_complex_turns_them() -> None:
    walk = 230_000
    iommu = Iommu(32, 4, walk=((0.0, walk), (1.0, walk)))
    for kind, far in ((WRITE_UP, PROP), (READ_UP, hop(REQUEST_BYTES))):
        # A write is looked up from its first byte on, a request when it is there.
        wait = max(far + walk - hop(64 + WRITE_BYTES), 0) if kind == WRITE_UP else walk
        assert one(transfers(kind), iommu=iommu) == one(transfers(kind)) + wait
        below = [0, 0]
        switch = Switch(SWITCH, redirects=False)
        assert one(transfers(kind), iommu=iommu, below=below, switch=switch) == one(
            transfers(kind), below=below, switch=switch
        )


def test_a_peer_begins_with_a_read_per_interval() -> None:
    slow = Port(lanes=16, peer=Peer(READ, 500_000))
    latencies = run_package(case_of(transfers(READ_UP, 5), port=slow)).latency_ps[0]
    gaps = np.diff([latency for latency in latencies if latency is not None])
    assert gaps.tolist() == [500_000] * 4


def test_a_read_does_not_pass_a_write_to_the_same_device() -> None:
    """PCIe Base r6.x, section 2.4.1: it waits behind it where the way gets narrow, though it is small."""
    write = transfers(WRITE_UP, 1, 4096)
    read = [replace(transfers(READ_UP)[0], request=1, after=1, early1=True)]
    ports = [Port(lanes=16, peer=Peer(READ)), Port(lanes=1, peer=Peer(READ))]
    for below, switch in (([], None), ([0, 0], Switch(SWITCH, redirects=False))):
        case = case_of(write + read, below=below, switch=switch)
        behind = run_package(replace(case, ports=ports)).latency_ps[0][1]
        alone = run_package(replace(case_of(transfers(READ_UP), below=below, switch=switch), ports=ports))
        assert behind is not None
        # All but a quantum, and what the wide link took meanwhile.
        assert behind - (alone.latency_ps[0][0] or 0) > 4096 * per_byte(5, 1) * 0.7


def test_bandwidth_is_that_of_the_narrower_link() -> None:
    wide, narrow = Port(lanes=16, tags=256, peer=Peer(READ)), Port(lanes=4, tags=256, peer=Peer(READ))
    for kind in (WRITE_UP, READ_UP):
        spans = []
        for ports in ([wide, wide], [wide, narrow], [narrow, wide], [narrow, narrow]):
            case = replace(case_of(transfers(kind, 200, 4096)), ports=ports)
            spans.append(outcome_of_package(case).job_ps[0])
        assert spans[1] == pytest.approx(spans[3], rel=0.05)
        assert spans[2] == pytest.approx(spans[3], rel=0.05)
        assert spans[0] == pytest.approx(spans[3] / 4, rel=0.2)


def test_two_directions_at_once_do_not_share() -> None:
    """Each device writes to the other one: full duplex, both as fast as one alone."""
    alone = outcome_of_package(case_of(transfers(WRITE_UP, 200, 4096))).job_ps[0]
    both = case_of(transfers(WRITE_UP, 200, 4096), other=transfers(WRITE_UP, 200, 4096, peer=0))
    for job in outcome_of_package(both).job_ps:
        assert job == pytest.approx(alone, rel=0.02)


@pytest.mark.parametrize("kind", [WRITE_UP, READ_UP])
def test_credits_of_a_root_port_come_back(kind: int) -> None:
    """However short its buffers are, all that goes on to a peer gets through, and no less."""
    short = Port(up=Credits(1, 16, 1), down=Credits(1, 16), peer=Peer(READ))
    case = case_of(transfers(kind, 40, 600), port=short)
    assert all(latency is not None for latency in run_package(case).latency_ps[0])
    free = case_of(transfers(kind, 40, 600))
    assert outcome_of_package(case).job_ps[0] > outcome_of_package(free).job_ps[0]


# --- engines ---


def added(way: str, *, stream: bool) -> int:
    """Return what engines add to a write of 64 B, beyond the time of the bytes that they add."""
    below, redirects, links, _ = WAYS[way]
    switch = Switch(SWITCH, cut_through=False, redirects=redirects)
    engine = replace(ENGINE, link_stream=stream)
    sealed = one(transfers(WRITE_UP), below=below, switch=switch, engine=engine)
    bytes_alone = links * (hop(64 + WRITE_BYTES + SEALED_BYTES) - hop(64 + WRITE_BYTES))
    return sealed - one(transfers(WRITE_UP), below=below, switch=switch) - bytes_alone


def test_which_ends_open_and_seal() -> None:
    """A selective stream between two devices passes the switch sealed, and ends at a root port.

    Each link of a link stream has engines of its own.
    """
    (pair,) = {added("switch", stream=False)}
    assert pair > 0
    assert added("root complex", stream=False) == 2 * pair
    # Of the four links, those between a device and its root port are one stream.
    assert added("ACS", stream=False) == 2 * pair
    assert added("switch", stream=True) == 2 * pair
    assert added("root complex", stream=True) == 2 * pair
    assert added("ACS", stream=True) == 4 * pair


def test_one_engine_of_the_host_opens_and_seals() -> None:
    fabric = 20_000
    shared = replace(ENGINE, shared=True, fabric_ps=fabric)
    own = one(transfers(WRITE_UP), engine=ENGINE)
    # To the engine and back, twice; all of the TLP has to be there.
    whole = hop(64 + WRITE_BYTES + SEALED_BYTES) - PROP
    assert 0 <= one(transfers(WRITE_UP), engine=shared) - own - 4 * fabric <= 2 * whole
    below, switch = [0, 0], Switch(SWITCH, redirects=False)
    assert one(transfers(WRITE_UP), below=below, switch=switch, engine=shared) == one(
        transfers(WRITE_UP), below=below, switch=switch, engine=ENGINE
    )


# --- what is refused ---


def run(steps: list[Step], links: np.ndarray, peers: frozenset[int]) -> None:
    mine = replace(as_program(steps), peers=peers)
    simulate(
        [mine, as_program(IDLE)],
        links,
        host_table=quantile_table(((0.0, 0), (1.0, 0))),
        read_interval_ps=0,
        seed=1,
        markers=[lambda s: np.zeros(len(s), np.bool_)] * 2,
    )


@pytest.mark.parametrize(("kind", "peer"), [(WRITE_UP, 0), (READ_UP, 2), (WRITE_DOWN, 1)])
def test_a_peer_that_a_transfer_cannot_have(kind: int, peer: int) -> None:
    links = link_table(case_of(transfers(WRITE_UP)))
    with pytest.raises(MisuseError, match="device 0: a transfer with a peer that its program does not have"):
        run(transfers(kind, peer=peer), links, frozenset([1]))


def test_a_peer_that_the_program_does_not_tell_of() -> None:
    links = link_table(case_of(transfers(WRITE_UP)))
    with pytest.raises(MisuseError, match="a transfer with a peer that its program does not have"):
        run(transfers(WRITE_UP), links, frozenset())


def test_links_that_are_not_made_for_peers() -> None:
    links = link_table(case_of([replace(step, server=-1) for step in transfers(WRITE_UP)]))
    with pytest.raises(MisuseError, match="links that are not made for them"):
        run(transfers(WRITE_UP), links, frozenset([1]))


def test_links_of_other_tlps() -> None:
    links = np.stack([link_table(Case([port], [IDLE], [[False]]))[0] for port in (Port(), Port(mps=128))])
    with pytest.raises(MisuseError, match="device 0: mps 256, device 1 on the way"):
        with_peers(links, [(0, 1)], [Peer(), Peer()], 0)


# --- programs whose data lie there ---


@settings(fixed, max_examples=100)
@given(programs(), st.lists(st.integers(1, 30), max_size=4))
def test_only_data_move_and_what_tells_of_them_waits(steps: list[Step], cuts: list[int]) -> None:
    made = with_peer(as_program(steps, cuts), 3)
    assert made.peers == {3}
    moved = np.concatenate([chunk.steps for chunk in made.chunks()])
    plain = np.concatenate([chunk.steps for chunk in as_program(steps).chunks()])
    for i, (new, old, step) in enumerate(zip(moved, plain, steps, strict=True)):
        is_data = step.kind in (READ_UP, WRITE_UP) and step.buffer == BUFFER_DATA
        assert new["server"] == (3 if is_data else old["server"])
        flags = int(old["flags"])
        if (step.kind == WRITE_UP and step.buffer == BUFFER_QUEUE) or step.begin:
            for distance, flag in ((step.after, EARLY1), (step.after2, EARLY2)):
                before = steps[i - distance]
                if distance and before.kind == WRITE_UP and before.buffer == BUFFER_DATA:
                    flags &= ~flag
        assert new["flags"] == flags
        for name in ("kind", "address", "bytes", "after", "after2", "delay_ps", "request"):
            assert new[name] == old[name]
