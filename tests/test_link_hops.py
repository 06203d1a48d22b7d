"""Switches with a shared uplink, link streams, and one engine of the host for all ports: what each one does.

docs/model.md has the equations. Everything on at once is compared with the oracle in test_link_oracle.py.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from oracles.link_cases import Case, Port, outcome_of_package, ps_per_byte, run_oracle, run_package
from oracles.link_digest import FAST, HOST, SLOW
from oracles.link_heapq import READ_UP, WRITE_DOWN, WRITE_UP, Step
from oracles.link_programs import closed_loop, packets
from oracles.link_strategies import cases

from sevpcie_core.errors import MisuseError
from sevpcie_core.link import run as link_run
from sevpcie_core.link.params import Credits, DataLink, EngineTiming, Iommu, RootPort, Switch

fixed = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

HIGH = 1 << 33
PROP = 100_000
LATENCY = 110_000
ENGINE = EngineTiming(1000, 6000, 7000, 1000, 1, 128, 0, 0, 96, hold_ps=6000)


def writes(count: int, size: int, *, kind: int = WRITE_UP, every_ps: int = 0, from_ps: int = 0) -> list[Step]:
    """Return transfers that are all wanted at once, or one per interval."""
    return [
        Step(
            kind,
            HIGH + 4096 * i,
            size,
            not_before_ps=from_ps + every_ps * i,
            request=i,
            begin=True,
            end=True,
        )
        for i in range(count)
    ]


def case_of(
    programs: Sequence[list[Step]],
    *,
    port: Port | None = None,
    uplink: Port | None = None,
    switch: Switch | None = None,
    engine: EngineTiming | None = None,
) -> Case:
    """Return devices of equal links, behind one switch if one is given; all sealed if there is an engine."""
    port = port or Port()
    return Case(
        [port] * len(programs),
        programs,
        [[engine is not None] * len(steps) for steps in programs],
        engine,
        uplinks=[] if switch is None else [(uplink or port, switch)],
        below=[None if switch is None else 0] * len(programs),
    )


def one(steps: list[Step], **more: Any) -> int:
    """Return the latency of the only request of the only device, ps."""
    ((latency,),) = run_package(case_of([steps], **more)).latency_ps
    assert latency is not None
    return latency


def span(case: Case) -> int:
    """Return the time from the first start to the last end, ps."""
    classes = outcome_of_package(case).classes
    assert [c.requests for c in classes] == [len(steps) for steps in case.programs]
    return max(c.last_end_ps for c in classes) - min(c.first_start_ps for c in classes)


# --- switches ---


@pytest.mark.parametrize("kind", [WRITE_UP, READ_UP, WRITE_DOWN], ids=["write", "read", "host's write"])
def test_a_shared_uplink_halves_the_bandwidth_of_two_devices(kind: int) -> None:
    programs = [writes(200, 4096, kind=kind)] * 2
    port = Port(lanes=4, tags=256)
    direct = span(case_of(programs, port=port))
    narrow = span(case_of(programs, port=port, switch=Switch(LATENCY)))
    assert narrow == pytest.approx(2 * direct, rel=0.02)
    wide = span(case_of(programs, port=port, uplink=replace(port, lanes=8), switch=Switch(LATENCY)))
    # The host's writes stand in one queue: the second device's come behind one of four quanta of all of the
    # first device's, and its own link, idle until then, ends later by as much.
    late = direct / 4 / 2 if kind == WRITE_DOWN else 0
    assert wide == pytest.approx(direct + late, rel=0.02)


def test_devices_share_an_uplink_burst_by_burst() -> None:
    """Both are done at the same time, not one after the other."""
    case = case_of([writes(100, 4096)] * 2, port=Port(lanes=4), switch=Switch(LATENCY))
    first, second = (c.last_end_ps for c in outcome_of_package(case).classes)
    assert first == pytest.approx(second, rel=0.02)


def test_nothing_passes_a_posted_write_at_a_switch() -> None:
    """An entry that tells of data comes behind them, however long they wait for the uplink.

    PCIe Base r6.x, section 2.4.1: neither posted nor non-posted requests pass a posted write.
    """
    port = Port(lanes=16)
    uplink = replace(port, lanes=1)
    data = replace(writes(1, 65536)[0], end=False)
    for kind in (WRITE_UP, READ_UP):
        entry = Step(kind, HIGH + (1 << 20), 16, after=1, early1=True, end=True)
        found = run_package(case_of([[data, entry]], port=port, uplink=uplink, switch=Switch(LATENCY)))
        wire = 256 * 280 * ps_per_byte(5, 1)
        assert found.latency_ps[0][0] is not None
        assert found.latency_ps[0][0] > wire


def test_no_traffic_is_faster_than_its_uplink() -> None:
    """Closed loops of commands, data and completion entries: of two drives, by an uplink of one lane."""
    programs = [closed_loop(60, 16, 4096, read_pct=100, media_ps=0, seed=d) for d in range(2)]
    case = case_of(programs, uplink=Port(lanes=1), switch=Switch(LATENCY))
    found = run_package(case)
    data = sum(60 * 4096 for _ in programs)
    assert data / max(found.job_ps) < 1 / ps_per_byte(5, 1)


@pytest.mark.parametrize("lanes", [4, 8, 2], ids=["equal", "faster uplink", "slower uplink"])
@pytest.mark.parametrize("sealed", [False, True])
def test_cut_through_gains_a_burst_of_wire_less_its_head(lanes: int, sealed: bool) -> None:
    """Exact: from the head on, if the next wire does not run dry; after the last byte, if it stores."""
    here, there = ps_per_byte(5, 4), ps_per_byte(5, lanes)
    engine = ENGINE if sealed else None
    uplink = Port(lanes=lanes)
    count, head = (296, 24) if sealed else (280, 20)
    stored, cut = (
        one(writes(1, 256), uplink=uplink, switch=Switch(LATENCY, way), engine=engine)
        for way in (False, True)
    )
    assert stored - cut == min(math.floor((count - head) * here), math.floor(count * there))
    plain = math.ceil(count * here) + PROP + LATENCY + math.ceil(count * there) + PROP
    # The sender's engine, of which only the MAC and a clock are exposed, and the receiver's.
    pipe = 1000 + max(3000 + 6000 - count * here, 0) + 7000 if sealed else 0
    assert abs(stored - plain - pipe) <= 1


def test_the_latency_of_a_switch_counts_once_per_pass() -> None:
    fast, slow = Switch(0), Switch(LATENCY)
    for kind, passes in ((WRITE_UP, 1), (READ_UP, 2), (WRITE_DOWN, 1)):
        taken = [one(writes(1, 64, kind=kind), switch=switch) for switch in (fast, slow)]
        assert taken[1] - taken[0] == passes * LATENCY


def test_a_switch_shows_in_the_ledger_as_wire_and_arbitration() -> None:
    case = case_of([writes(50, 4096)] * 2, port=Port(lanes=4), switch=Switch(LATENCY))
    for c in outcome_of_package(case).classes:
        assert c.ledger_ps["wire"] == 50 * (2 * PROP + LATENCY)
        assert c.ledger_ps["arbitration"] > 0.9 * (sum(c.ledger_ps.values()) - c.ledger_ps["wire"])


def test_bytes_are_counted_on_the_link_of_the_device() -> None:
    """A second link carries them once more, and nobody asked for that."""
    direct = run_package(case_of([writes(20, 1000)], engine=FAST)).counters[0, 0]
    behind = run_package(case_of([writes(20, 1000)], engine=FAST, switch=Switch())).counters[0, 0]
    for name in ("payload", "wire", "tlps", "link", "ide", "application", "requests"):
        assert direct[name] == behind[name]


@pytest.mark.parametrize("change", [{"mps": 512}, {"rcb": 128}, {"completion_bytes": 128}, {"generation": 6}])
def test_tlps_that_would_have_to_be_cut_anew_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(MisuseError, match="behind an uplink"):
        one(writes(1, 64), uplink=replace(Port(), **change), switch=Switch())  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", [FAST, SLOW, replace(FAST, shared=True, fabric_ps=20_000)])
def test_lines_and_queues_that_grow_change_nothing(
    engine: EngineTiming, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of bursts in the switch at once; the kernel stops for more room, and goes on where it was."""
    load = [
        *writes(150, 30_000),
        *(replace(s, request=150 + s.request) for s in writes(150, 20_000, kind=WRITE_DOWN)),
    ]
    frames = packets(300, 3000, seed=3)
    port = Port(lanes=16)
    case = Case(
        [port, port],
        [load, frames],
        [[True] * len(load), [s.buffer == 0 for s in frames]],
        engine,
        uplinks=[(replace(port, lanes=1), Switch(LATENCY))],
        below=[0, 0],
    )
    found = run_package(case)
    monkeypatch.setattr(link_run, "_FIRST_LINE", 2)
    monkeypatch.setattr(link_run, "_FIRST_RING", 16)
    assert run_package(case) == found
    assert found == run_oracle(case)


# --- what stands at an uplink: credits, drain, order, errors, Syncs ---

US = 1_000_000


def ledgers(case: Case) -> dict[str, int]:
    """Return the time at each place, ps, of all requests of all devices."""
    found = [c.ledger_ps for c in outcome_of_package(case).classes]
    return {place: sum(ledger[place] for ledger in found) for place in found[0]}


def test_devices_share_the_credits_of_their_uplink() -> None:
    """Four TLPs, then all wait for their credits: those of the last link, and for both devices."""
    credit = 5 * US
    few = Port(up=Credits(posted_headers=4, posted_data=64), data_link=DataLink(credit_ps=credit))
    case = case_of([writes(10, 256)] * 2, uplink=few, switch=Switch(LATENCY))
    # 20 writes, 4 at a time: the last ones behind 4 rounds.
    assert span(case) == pytest.approx(4 * credit, rel=0.25)
    assert span(case) > 4 * credit
    # The first of each four waits for them, the others for their port.
    assert ledgers(case)["credits"] == pytest.approx(4 * credit, rel=0.05)
    # In the switch there is room for all that comes.
    free = replace(case, ports=[few] * 2, uplinks=[(Port(), Switch(LATENCY))])
    assert ledgers(free)["credits"] == 0


def test_the_credits_of_an_uplink_come_back_when_a_write_is_drained() -> None:
    drain = RootPort(drain_tlp_ps=2 * US)
    few = Port(up=Credits(posted_headers=4, posted_data=64), root_port=drain)
    case = case_of([writes(10, 256)] * 2, uplink=few, switch=Switch(LATENCY))
    # The drain is full, and all but the first four stand before the port.
    assert span(case) == pytest.approx(20 * 2 * US, rel=0.05)
    assert ledgers(case)["credits"] > 15 * 2 * US


def test_read_requests_wait_for_credits_of_the_uplink() -> None:
    credit = 5 * US
    few = Port(up=Credits(non_posted_headers=2), data_link=DataLink(credit_ps=credit))
    case = case_of([writes(6, 64, kind=READ_UP)] * 2, uplink=few, switch=Switch(LATENCY))
    assert 5 * credit < span(case) < 6 * credit
    assert ledgers(case)["credits"] > 5 * credit


def test_the_drain_of_a_root_port_is_that_of_all_devices_behind_a_switch() -> None:
    slow = Port(root_port=RootPort(drain_tlp_ps=2 * US))
    programs = [writes(10, 64)] * 2
    assert span(case_of(programs, port=slow)) == pytest.approx(10 * 2 * US, rel=0.05)
    assert span(case_of(programs, port=slow, switch=Switch(LATENCY))) == pytest.approx(20 * 2 * US, rel=0.05)


@pytest.mark.parametrize(
    ("attributes", "sealed", "waits_own", "waits_other"),
    [
        ({}, False, True, True),
        ({"ido": True}, False, True, False),
        ({"relaxed": True}, False, True, True),
        ({"relaxed": True, "ido": True}, False, True, False),
        ({"relaxed": True, "ido": True}, True, True, True),
    ],
)
def test_a_read_behind_a_switch_waits_for_all_writes_of_the_root_port(
    attributes: dict[str, bool], sealed: bool, waits_own: bool, waits_other: bool
) -> None:
    """IDO passes those of other devices, but not on a protected stream; RO none."""
    port = replace(Port(root_port=RootPort(write_latency_ps=9 * US)), **attributes)  # type: ignore[arg-type]
    read = [Step(READ_UP, HIGH, 64, not_before_ps=US, request=1, begin=True, end=True)]
    alone = [replace(read[0], request=0)]
    case = case_of([[*writes(1, 64), *read], alone], port=port, switch=Switch(LATENCY))
    if sealed:
        case = replace(case, engine=ENGINE, protected=[[True, True], [True]])
    (_, behind), (other,) = run_package(case).latency_ps
    assert behind is not None
    assert other is not None
    assert (behind > 8 * US) == waits_own
    assert (other > 8 * US) == waits_other
    # All of that is order, and no wait for the host.
    assert (ledgers(case)["ordering"] > 7 * US) == (waits_own or waits_other)
    assert ledgers(case)["host"] == 9 * US + 2 * 300_000


# The second device has looked up its first page long before.
LOOKED_UP = Iommu(entries=256, ways=256, walkers=8, walk=((0.0, 230_000), (1.0, 230_000)))


def beside(attributes: dict[str, bool], *, sealed: bool = False, own: bool = False) -> tuple[int, int, int]:
    """Return when a write is visible that is not looked up, when one before that is, and `ordering`, ps.

    They are of two devices behind a switch, or both of the second one.
    """
    port = replace(Port(root_port=RootPort(write_latency_ps=70_000)), **attributes)  # type: ignore[arg-type]
    walked = Step(WRITE_UP, HIGH + 4096, 64, not_before_ps=2 * US, begin=True, end=True)
    known = replace(walked, address=HIGH, not_before_ps=2 * US + 50_000)
    programs = [
        [replace(walked, not_before_ps=5 * US) if own else walked],
        [
            replace(known, not_before_ps=0),
            *([replace(walked, request=1)] if own else []),
            replace(known, request=1 + own),
        ],
    ]
    case = case_of(programs, port=port, switch=Switch(LATENCY), engine=ENGINE if sealed else None)
    case = replace(case, iommu=LOOKED_UP)
    latency = run_package(case).latency_ps
    before, behind = latency[1][1] if own else latency[0][0], latency[1][-1]
    assert before is not None
    assert behind is not None
    return behind + 50_000, before, ledgers(case)["ordering"]


def test_ido_lets_a_write_pass_those_of_other_devices_that_are_looked_up() -> None:
    known, walked, ordering = beside({"ido": True})
    assert walked - known > 170_000
    assert ordering == 0
    assert beside({}) == (walked, walked, walked - known)
    assert beside({"relaxed": True}) == (known, walked, 0)


def test_a_write_that_passes_gives_the_credits_of_the_uplink_back_first() -> None:
    """Two buffers: the third write waits for one of them, with IDO for that of the second."""
    walked = Step(WRITE_UP, HIGH + 4096, 64, not_before_ps=2 * US, begin=True, end=True)
    known = [replace(walked, address=HIGH, not_before_ps=2 * US + 50_000, request=1 + i) for i in range(2)]
    programs = [[walked], [replace(known[0], not_before_ps=0, request=0), *known]]
    few = Port(up=Credits(posted_headers=2, posted_data=32), data_link=DataLink(credit_ps=20_000))
    waits = []
    for ido in (False, True):
        case = case_of(programs, port=Port(ido=ido), uplink=few, switch=Switch(LATENCY))
        case = replace(case, iommu=LOOKED_UP)
        waits.append(ledgers(case)["credits"])
        assert run_package(case) == run_oracle(case)
    # From when the second one is drained; from when the first one is, 230 ns behind its arrival.
    way = math.ceil(88 * ps_per_byte(5, 4)) + PROP
    assert waits[1] == pytest.approx(way + 20_000, abs=10_000)
    assert waits[0] == pytest.approx(PROP + 230_000 - 50_000 + 20_000, abs=10_000)


def test_ido_keeps_the_writes_of_a_device_in_order() -> None:
    known, walked, ordering = beside({"relaxed": True}, own=True)
    assert walked - known > 170_000
    assert ordering == 0
    assert beside({"ido": True}, own=True) == beside({}, own=True) == (walked, walked, walked - known)


@pytest.mark.parametrize("own", [False, True])
def test_protected_streams_are_strictly_in_order(own: bool) -> None:
    strict = beside({}, sealed=True, own=own)
    assert strict[0] == strict[1]
    assert strict[2] > 160_000
    for attributes in ({"ido": True}, {"relaxed": True}, {"ido": True, "relaxed": True}):
        assert beside(attributes, sealed=True, own=own) == strict


def test_a_write_behind_a_switch_is_looked_up_while_it_comes_in() -> None:
    """256 B take 284 ns on one lane: a walk of 200 ns shows nowhere."""
    walk = Iommu(entries=4, ways=4, walkers=1, walk=((0.0, 200_000), (1.0, 200_000)))
    case = case_of([writes(1, 256)], uplink=Port(generation=3, lanes=1), switch=Switch(LATENCY))
    looked_up = run_package(replace(case, iommu=walk))
    assert looked_up.iotlb[1] == 1
    assert looked_up.latency_ps == run_package(case).latency_ps


def test_a_protected_write_is_checked_against_the_reverse_map_behind_a_switch_too() -> None:
    checked = Port(root_port=RootPort(rmp_check_ps=30_000))
    taken = [one(writes(1, 64), uplink=up, switch=Switch(LATENCY), engine=ENGINE) for up in (Port(), checked)]
    assert taken[1] - taken[0] == 30_000
    assert one(writes(1, 64), uplink=checked, switch=Switch(LATENCY)) == one(
        writes(1, 64), switch=Switch(LATENCY)
    )


@pytest.mark.parametrize("where", ["device", "uplink"])
def test_errors_and_acks_are_those_of_the_link_where_they_stand(where: str) -> None:
    there = Port(data_link=DataLink(ack_every=1, bit_error_rate=1e-5, nak_ps=100_000))
    ports = (there, Port()) if where == "device" else (Port(), there)
    found = outcome_of_package(case_of([writes(200, 256)], port=ports[0], uplink=ports[1], switch=Switch()))
    rows = {"device": 0, "uplink": 1}
    for name, row in rows.items():
        assert (sum(found.errors[row]) > 0) == (name == where)
        assert (sum(found.maintenance_bytes[row]) > 0) == (name == where)
    assert found.classes[0].ledger_ps["replay"] > 0


def test_an_engine_behind_an_error_has_the_burst_when_it_came_again() -> None:
    """One that is slower than the wire of the uplink: TLPs queue before it, and an error keeps them all."""
    there = Port(data_link=DataLink(bit_error_rate=1e-5, nak_ps=100_000))
    slow = replace(ENGINE, bytes_per_clock=10)
    case = case_of([writes(60, 1024)] * 2, uplink=there, switch=Switch(LATENCY), engine=slow)
    found = run_package(case)
    assert sum(found.errors[2]) > 0
    assert found == run_oracle(case)


@pytest.mark.parametrize(("count", "syncs"), [(200, 0), (300, 1)])
def test_each_stream_counts_its_posted_tlps_on_each_link(count: int, syncs: int) -> None:
    """Two devices behind one uplink; its bytes show in how long its wire is busy over the run of both."""
    uplink = Port(lanes=1)
    case = case_of([writes(count, 64)] * 2, uplink=uplink, switch=Switch(LATENCY), engine=ENGINE)
    found = outcome_of_package(case)
    for c in found.classes:
        assert c.tlps == count + syncs
    busy = found.busy[0]["link"] * found.span_ps
    carried = 2 * (count * (64 + 24 + 16) + syncs * 40)
    assert busy / float(ps_per_byte(5, 1)) == pytest.approx(carried, abs=20)


def test_a_plain_write_stays_behind_a_sealed_one_at_the_switch() -> None:
    """What the switch holds for its MAC is not overtaken by what has none."""
    held = replace(ENGINE, check_ps=5 * US, hold_ps=5 * US, link_stream=True)
    case = replace(case_of([writes(2, 64)], switch=Switch(LATENCY), engine=held), protected=[[True, False]])
    case = replace(case, programs=[[replace(s, stat=s.request) for s in case.programs[0]]])
    second = outcome_of_package(case).classes[1].ledger_ps
    assert second["ordering"] > 9 * US


@pytest.mark.parametrize(("link_stream", "times"), [(False, 1), (True, 2)])
def test_a_tlp_is_held_for_its_mac_where_its_stream_ends(link_stream: bool, times: int) -> None:
    engine = replace(ENGINE, link_stream=link_stream)
    case = case_of([writes(7, 64, every_ps=US)], switch=Switch(LATENCY), engine=engine)
    assert ledgers(case)["hold"] == 7 * times * engine.hold_ps


def test_every_sub_stream_has_a_key_of_its_own_at_a_root_port() -> None:
    """A device writes and reads by turns: at both ends one key fits, and the other one is wanted."""
    turns = [
        replace(step, kind=READ_UP if i % 2 else WRITE_UP)
        for i, step in enumerate(writes(8, 64, every_ps=4 * US))
    ]
    engine = replace(ENGINE, key_miss_ps=10_000, key_entries=1)
    case = case_of([turns], switch=Switch(LATENCY), engine=engine)
    cheap = replace(case, engine=replace(engine, key_miss_ps=0))
    total = sum(run_package(case).latency_ps[0])  # type: ignore[arg-type]
    without = sum(run_package(cheap).latency_ps[0])  # type: ignore[arg-type]
    assert 14 <= (total - without) / 10_000 <= 16


# --- streams ---


@pytest.mark.parametrize("way", [True, False], ids=["cut-through", "store-and-forward"])
@pytest.mark.parametrize("kind", [WRITE_UP, WRITE_DOWN])
def test_a_link_stream_takes_two_engine_passes_more_per_switch(way: bool, kind: int) -> None:
    """It is opened and checked there, and sealed again, and so it is never cut through."""
    link = replace(ENGINE, link_stream=True)
    selective = one(writes(1, 256, kind=kind), switch=Switch(LATENCY, False), engine=ENGINE)
    opened = one(writes(1, 256, kind=kind), switch=Switch(LATENCY, way), engine=link)
    # Receiver: clock and MAC; sender: clock, for 296 B on the wire take longer than 3 clocks and the MAC.
    assert opened - selective == 7000 + 1000


def test_a_link_stream_without_a_switch_is_a_selective_stream() -> None:
    for kind in (WRITE_UP, READ_UP, WRITE_DOWN):
        case = case_of([writes(40, 1000, kind=kind)] * 2, engine=FAST)
        link = replace(case, engine=replace(FAST, link_stream=True))
        assert run_package(case) == run_package(link)


def test_plain_tlps_are_cut_through_beside_a_link_stream() -> None:
    link = replace(ENGINE, link_stream=True)
    case = case_of([writes(1, 256)], switch=Switch(LATENCY))
    assert run_package(replace(case, engine=link)) == run_package(case)


@pytest.mark.parametrize(("entries", "missed"), [(96, 0), (3 * 4, 0), (2, 12)])
def test_keys_are_missed_where_many_devices_share_a_root_port(entries: int, missed: int) -> None:
    """Four devices write in turn: with room for two keys each finds its own gone."""
    turns = [writes(3, 256, every_ps=4_000_000, from_ps=1_000_000 * d) for d in range(4)]
    engine = replace(ENGINE, key_miss_ps=10_000, key_entries=entries)
    behind = case_of(turns, switch=Switch(LATENCY), engine=engine)
    cheap = replace(behind, engine=replace(engine, key_miss_ps=0))
    total = sum(sum(d) for d in run_package(behind).latency_ps)  # type: ignore[arg-type]
    without = sum(sum(d) for d in run_package(cheap).latency_ps)  # type: ignore[arg-type]
    # The first two of the first round may be there from the start.
    assert missed - 2 <= (total - without) / 10_000 <= missed
    # Each on a port of its own has a key of its own, even where one engine holds two.
    alone = case_of(turns, engine=engine)
    assert run_package(alone) == run_package(replace(alone, engine=replace(engine, key_miss_ps=0)))


def test_a_link_stream_has_one_key_for_all_devices() -> None:
    turns = [writes(3, 256, every_ps=4_000_000, from_ps=1_000_000 * d) for d in range(4)]
    engine = replace(ENGINE, key_miss_ps=10_000, key_entries=1, link_stream=True)
    behind = case_of(turns, switch=Switch(LATENCY), engine=engine)
    assert run_package(behind) == run_package(replace(behind, engine=replace(engine, key_miss_ps=0)))


# --- one engine for all ports ---


@pytest.mark.parametrize("kind", [WRITE_UP, WRITE_DOWN])
def test_a_shared_engine_is_two_fabric_hops_and_a_tlp_away(kind: int) -> None:
    """On an idle host: a TLP is there as a whole before the engine begins with it."""
    at_port = one(writes(1, 256, kind=kind), engine=ENGINE)
    shared = one(writes(1, 256, kind=kind), engine=replace(ENGINE, shared=True, fabric_ps=20_000))
    # 288 B of it pass the engine in 3 clocks. What is sent waits for its MAC, which at a port the wire hides.
    assert shared - at_port == 40_000 + 3000 + (6000 if kind == WRITE_DOWN else 0)


def test_a_shared_engine_keeps_up_with_the_wire_of_a_long_transfer() -> None:
    """Of a burst only the last TLP is exposed: the engine works while the others come in."""
    engine = replace(ENGINE, shared=True)
    assert one(writes(1, 4096), engine=engine) - one(writes(1, 4096), engine=ENGINE) == 3000


def test_a_shared_engine_limits_the_sum_of_both_directions() -> None:
    """16 B per clock of 1 ns on links of 63 GB/s: both directions take as long as one after the other."""
    slow = EngineTiming(1000, 6000, 7000, 1000, 1, 16, 0, 0, 96)
    port = Port(lanes=16, tags=256)
    up, down = writes(100, 4096), writes(100, 4096, kind=READ_UP)
    both = [*up, *(replace(s, request=100 + s.request) for s in down)]

    def taken(steps: list[Step], engine: EngineTiming) -> int:
        return span(case_of([steps], port=port, engine=engine))

    shared = replace(slow, shared=True)
    assert taken(both, slow) == pytest.approx(max(taken(up, slow), taken(down, slow)), rel=0.1)
    assert taken(both, shared) == pytest.approx(taken(up, shared) + taken(down, shared), rel=0.1)
    # 18 TLPs' worth of 272 B and more per 4 KiB, 18 clocks each.
    assert taken(up, shared) == pytest.approx(100 * 16 * 18_000, rel=0.05)


def test_a_shared_engine_limits_the_sum_of_all_devices() -> None:
    slow = replace(ENGINE, bytes_per_clock=16, shared=True)
    port = Port(lanes=16)
    one_device = span(case_of([writes(100, 4096)], port=port, engine=slow))
    three = span(case_of([writes(100, 4096)] * 3, port=port, engine=slow))
    assert three == pytest.approx(3 * one_device, rel=0.05)


def test_a_shared_engine_serves_in_order_of_arrival() -> None:
    """Who comes later over a shorter way is not behind who was sent earlier over a longer one."""
    engine = replace(ENGINE, bytes_per_clock=1, shared=True)
    far, near = Port(propagation_ps=900_000), Port(propagation_ps=0)
    case = Case(
        [far, near],
        [writes(1, 256), writes(1, 256, from_ps=300_000)],
        [[True], [True]],
        engine,
    )
    alone = replace(
        case, programs=[[replace(s, not_before_ps=99_000_000) for s in writes(1, 256)], case.programs[1]]
    )
    assert run_package(case).latency_ps[1] == run_package(alone).latency_ps[1]


def test_what_is_not_sealed_passes_a_shared_engine_by_but_not_what_came_before_it() -> None:
    engine = replace(ENGINE, shared=True, fabric_ps=50_000)
    steps = [replace(s, stat=s.request) for s in writes(2, 64)]
    plain = Case([Port()], [steps], [[False, False]], engine)
    assert run_package(plain) == run_package(replace(plain, engine=None))
    behind = replace(plain, protected=[[True, False]])
    first, second = run_package(behind).latency_ps[0]
    assert first == second
    assert first is not None
    assert first > 2 * 50_000
    order = outcome_of_package(behind).classes[1].ledger_ps
    assert order["ordering"] > 50_000


def test_a_shared_engine_holds_the_keys_of_all_devices_and_directions() -> None:
    turns = [writes(3, 256, every_ps=4_000_000, from_ps=1_000_000 * d) for d in range(4)]
    engine = replace(ENGINE, key_miss_ps=10_000, key_entries=2, shared=True)
    case = case_of(turns, engine=engine)
    cheap = replace(case, engine=replace(engine, key_miss_ps=0))
    total = sum(sum(d) for d in run_package(case).latency_ps)  # type: ignore[arg-type]
    without = sum(sum(d) for d in run_package(cheap).latency_ps)  # type: ignore[arg-type]
    assert 10 <= (total - without) / 10_000 <= 12


def test_a_long_write_pays_both_hops_whatever_limits_it() -> None:
    """Where the engine keeps up its last TLP pays them, where it does not its first."""
    for each in (128, 2):
        near = replace(ENGINE, shared=True, bytes_per_clock=each)
        far = replace(near, fabric_ps=20_000)
        one_burst = writes(1, 1024)
        assert one(one_burst, engine=far) - one(one_burst, engine=near) == 2 * 20_000


def test_one_engine_is_two_hops_from_a_port_for_every_quantum_of_a_write_to_a_device() -> None:
    """They follow each other across the fabric, and each has its own way to the engine."""
    near = replace(ENGINE, shared=True)
    hop = 500_000
    short, long = writes(1, 256, kind=WRITE_DOWN), writes(1, 4096, kind=WRITE_DOWN)
    for steps, times in ((short, 1), (long, 4)):
        added = one(steps, engine=replace(near, fabric_ps=hop)) - one(steps, engine=near)
        # The wire of the quanta before, 80 ns each, passes meanwhile.
        assert (times + 1) * hop - (times - 1) * 80_000 <= added <= (times + 1) * hop


def test_one_engine_lets_a_burst_go_so_that_the_wire_does_not_run_dry() -> None:
    """Behind its first TLP where the engine keeps up, else so that the last one is ready in time."""
    far = replace(ENGINE, shared=True, fabric_ps=20_000)
    for size in (256, 1024):
        steps = writes(1, size, kind=WRITE_DOWN)
        assert one(steps, engine=far) - one(steps, engine=ENGINE) == 40_000 + 3000 + 6000
    # 276 B of each TLP in 69 clocks; the device's engine, as slow, begins with the first byte.
    works, wire = 4 * 69_000, 4 * 296 * ps_per_byte(5, 4)
    goes = 2 * 20_000 + 1000 + works + 6000 - wire
    steps = writes(1, 1024, kind=WRITE_DOWN)
    taken = one(steps, engine=replace(far, bytes_per_clock=4))
    assert abs(taken - (goes + PROP + works + 7000)) <= 2


def test_one_engine_has_a_key_for_each_direction() -> None:
    turns = [
        replace(step, kind=WRITE_DOWN if i % 2 else WRITE_UP)
        for i, step in enumerate(writes(8, 64, every_ps=4 * US))
    ]
    engine = replace(ENGINE, key_miss_ps=10_000, key_entries=1, shared=True)
    case = case_of([turns], engine=engine)
    cheap = replace(case, engine=replace(engine, key_miss_ps=0))
    total = sum(run_package(case).latency_ps[0])  # type: ignore[arg-type]
    without = sum(run_package(cheap).latency_ps[0])  # type: ignore[arg-type]
    assert 7 <= (total - without) / 10_000 <= 8


def test_one_engine_that_loads_keys_all_the_time_is_busy_all_the_time() -> None:
    """To and fro every 12 ns: six clocks of work, and for each the load of a key, 10 ns."""
    turns = [
        replace(step, kind=WRITE_DOWN if i % 2 else WRITE_UP)
        for i, step in enumerate(writes(2000, 64, every_ps=12_000))
    ]
    engine = replace(ENGINE, bytes_per_clock=16, key_miss_ps=10_000, key_entries=1, shared=True)
    loads = outcome_of_package(case_of([turns], engine=engine))
    none = outcome_of_package(case_of([turns], engine=replace(engine, key_miss_ps=0)))
    assert loads.busy[0]["engine"] > 0.98
    assert none.busy[0]["engine"] == pytest.approx(0.5, abs=0.02)
    assert loads.job_ps[0] == pytest.approx(none.job_ps[0] * 16 / 12, rel=0.02)


# --- conservation ---


@settings(fixed, max_examples=100)
@given(case=cases(max_requests=4))
def test_everything_that_begins_ends_behind_switches_and_one_engine(case: Case) -> None:
    """No deadlock: without a stop every request is answered, so every tag and credit came back."""
    case = case.whole()
    found = run_package(case)
    assert all(taken is not None for device in found.latency_ps for taken in device)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("cut", [False, True])
def test_storage_and_packets_behind_a_switch(shared: bool, stream: bool, cut: bool) -> None:
    """Some hundred requests of four devices, two behind a switch: queues fill, lines go round."""
    engine = replace(
        FAST, link_stream=stream, shared=shared, fabric_ps=20_000 if shared else 0, key_entries=8
    )
    programs = [
        closed_loop(80, 16, 4096, read_pct=70, media_ps=3_000_000, dies=4, seed=5),
        closed_loop(80, 16, 4096, read_pct=50, media_ps=3_000_000, seed=6),
        packets(300, 30_000, seed=6),
        closed_loop(30, 3, 20_000, read_pct=50, media_ps=500_000, seed=7, offset=100),
    ]
    port = Port(5, 4, 150_000, 256, 512, 64, 256, 64)
    marks = [[step.buffer < 2 for step in steps] for steps in programs]
    case = Case(
        [port] * 4,
        programs,
        marks,
        engine,
        HOST,
        2000,
        seed=9,
        uplinks=[(port, Switch(LATENCY, cut))],
        below=[0, 0, None, None],
    )
    assert run_package(case) == run_oracle(case)
