"""TLPs of a burst that share a MAC: bytes, time, buffers, IDE Syncs; and what never shares one.

docs/model.md has the equations.
"""

import itertools
import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracles.link_cases import Case, Port, outcome_of_package, ps_per_byte, run_oracle, run_package
from oracles.link_digest import BUSY, FAST, HOST, KEPT_GOING, SLOW, TIGHT, WALKED
from oracles.link_heapq import READ_UP, WRITE_DOWN, WRITE_UP, Step
from oracles.link_strategies import cases, engines

from sevpcie_core.errors import MisuseError
from sevpcie_core.link.analytic import Kind, Link, bandwidth
from sevpcie_core.link.params import Credits, DataLink, EngineTiming, RootPort, Switch

fixed = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

HIGH = 1 << 33
PROP = 100_000
BYTE = ps_per_byte(5, 16)
BOTH: list[tuple[int, Kind]] = [(WRITE_UP, "write"), (READ_UP, "read")]
# As fast as the wire of any link here: what it costs is 1 ns at each end and the MAC.
ENGINE = EngineTiming(1000, 6000, 7000, 500, 1, 256, 0, 0, 3, hold_ps=6000)


def by(tlps: int, **more: Any) -> EngineTiming:
    """Return the engine with units of so many TLPs."""
    return replace(ENGINE, unit_tlps=(tlps, tlps, tlps), **more)


def transfers(kind: int, count: int, size: int, *, every_ps: int = 0, buffer: int = 0) -> list[Step]:
    """Return transfers that are all wanted at once, or one per interval."""
    return [
        Step(
            kind,
            HIGH + 8192 * i,
            size,
            not_before_ps=every_ps * i,
            request=i,
            buffer=buffer,
            begin=True,
            end=True,
        )
        for i in range(count)
    ]


def run(steps: list[Step], engine: EngineTiming, port: Port | None = None, **more: Any) -> Any:
    """Run one device's transfers, all sealed; return the only class of the outcome."""
    case = Case([port or Port(lanes=16)], [steps], [[True] * len(steps)], engine, **more)
    (found,) = outcome_of_package(case).classes
    assert found.requests == len(steps)
    return found


def figures(found: Any) -> dict[str, Any]:
    """Return all of a class in a form that compares."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(v) for name, v in value.items()}
        return value.tolist() if isinstance(value, np.ndarray) else value

    return {name: plain(value) for name, value in asdict(found).items()}


def latency(engine: EngineTiming, size: int, *, kind: int = WRITE_UP, **more: Any) -> int:
    """Return the latency of one transfer, ps."""
    return int(run(transfers(kind, 1, size), engine, **more).latency.total_ps)


def span(steps: list[Step], engine: EngineTiming, port: Port) -> int:
    """Return the time from the first start to the last end, ps."""
    found = run(steps, engine, port)
    return int(found.last_end_ps - found.first_start_ps)


# --- the oracle ---


@settings(fixed, max_examples=250)
@given(cases(units=True))
def test_any_small_program(case: Case) -> None:
    """Units of every size, each way that the oracle test has, holding and skidding."""
    assert run_package(case) == run_oracle(case)


@pytest.mark.parametrize(
    ("generation", "engine", "units"),
    [
        (3, FAST, (4, 1, 4)),
        (3, SLOW, (8, 8, 8)),
        (5, replace(FAST, pcrc=True, skid=True), (8, 1, 2)),
        (5, replace(SLOW, shared=True, fabric_ps=20_000), (4, 4, 4)),
        (6, replace(FAST, pcrc=True, link_stream=True), (2, 2, 2)),
        (6, SLOW, (8, 1, 8)),
    ],
)
@pytest.mark.parametrize("behind", [False, True], ids=["direct", "switch"])
def test_long_transfers_with_ide_syncs(
    generation: int, engine: EngineTiming, units: tuple[int, int, int], behind: bool
) -> None:
    """Syncs that join a unit, end one, or are alone; slow drains, walks, short buffers, replays."""
    sizes = itertools.cycle([5000, 9000, 1500, 4, 640, 2048])
    kinds = itertools.cycle([WRITE_UP, WRITE_DOWN, READ_UP, WRITE_UP, WRITE_UP])
    steps = [
        Step(next(kinds), 0x10_0000 + 68 * i, next(sizes), request=i, stat=i % 2, begin=True, end=True)
        for i in range(90)
    ]
    port = Port(generation, 8, 100_000, 128, 512, 64, 128, 4, TIGHT, TIGHT, KEPT_GOING, BUSY)
    case = Case(
        [port],
        [steps],
        [[step.request % 7 != 6 for step in steps]],
        replace(engine, unit_tlps=units),
        HOST,
        read_interval_ps=2000,
        iommu=WALKED,
        uplinks=[(port, Switch(50_000))] if behind else [],
        below=[0] if behind else [],
    )
    assert run_package(case) == run_oracle(case)


# --- bytes ---


@pytest.mark.parametrize("tlps", [1, 2, 4, 8])
@pytest.mark.parametrize("pcrc", [False, True])
@pytest.mark.parametrize("mps", [128, 256, 512, 1024])
@pytest.mark.parametrize("size", [64, 700, 1024, 4096])
def test_bytes_of_one_burst_are_those_of_the_closed_form(mps: int, size: int, pcrc: bool, tlps: int) -> None:
    """With links wide enough for one burst per write, and one request per read."""
    for generation, (kind, name) in itertools.product((5, 6), BOTH):
        port = Port(generation, 16, mps=mps, mrrs=4096, completion_bytes=mps)
        link = Link(
            generation=generation,
            lanes=16,
            mps=mps,
            mrrs=4096,
            protected=True,
            pcrc=pcrc,
            aggregation=tlps,
        )
        said = bandwidth(link, name, size)
        found = run(transfers(kind, 1, size), by(tlps, pcrc=pcrc), port)
        assert found.wire_bytes == said.up_bytes + said.down_bytes


def test_a_unit_has_at_most_256_dw() -> None:
    """Two TLPs of 512 B fill one; of 1024 B each has its own, and then nothing changes at all."""
    full = {n: run(transfers(WRITE_UP, 1, 4096), by(n), Port(lanes=16, mps=512)).ide_bytes for n in (1, 2, 8)}
    assert full == {1: 8 * 16, 2: 8 * 4 + 4 * 12, 8: 8 * 4 + 4 * 12}
    steps = transfers(WRITE_UP, 20, 4096) + transfers(READ_UP, 20, 4096)
    wide = Port(lanes=16, mps=1024, completion_bytes=1024, mrrs=4096, root_port=BUSY)
    steps = [replace(step, request=i) for i, step in enumerate(steps)]
    assert figures(run(steps, by(8), wide)) == figures(run(steps, by(1), wide))
    # One TLP of more than that is alone, even where an IDE Sync follows.
    steps, wider = transfers(WRITE_UP, 130, 4096), replace(wide, mps=2048)
    found = run(steps, by(8), wider)
    assert found.tlps == 2 * 130 + 1
    assert figures(found) == figures(run(steps, by(1), wider))


def test_each_sub_stream_has_its_own_limit() -> None:
    """Posted and completions; a burst of requests is one TLP, so a limit of theirs changes nothing."""
    steps = [
        replace(step, request=i)
        for i, step in enumerate(transfers(WRITE_UP, 10, 1024) + transfers(READ_UP, 10, 512))
    ]
    bytes_by = {
        units: run(steps, replace(ENGINE, unit_tlps=units)).ide_bytes
        for units in ((1, 1, 1), (4, 1, 1), (1, 8, 1), (1, 1, 2), (2, 2, 2))
    }
    # Per write four TLPs, per read two completions.
    each = bytes_by[1, 1, 1]
    assert bytes_by == {
        (1, 1, 1): each,
        (4, 1, 1): each - 10 * 3 * 12,
        (1, 8, 1): each,
        (1, 1, 2): each - 10 * 12,
        (2, 2, 2): each - 10 * 2 * 12 - 10 * 12,
    }
    assert figures(run(steps, replace(ENGINE, unit_tlps=(1, 8, 1)))) == figures(run(steps, ENGINE))


def test_a_unit_ends_with_its_burst() -> None:
    """A quantum of a write on a narrow link has four TLPs; a unit of eight finds no more of them."""
    narrow = Port(lanes=4)
    assert narrow.mps == 256
    four, eight = (run(transfers(WRITE_UP, 10, 4096), by(n), narrow) for n in (4, 8))
    assert figures(four) == figures(eight)
    assert four.ide_bytes == 10 * (16 * 4 + 4 * 12)


# --- IDE Syncs, doorbells and interrupts ---


def test_an_ide_sync_is_the_last_of_the_open_unit() -> None:
    """The 245th TLP is the first of its burst: the Sync brings the MAC early, and the burst has two units."""
    found = run(transfers(WRITE_UP, 100, 1024), by(4))
    assert found.tlps == 401
    assert found.ide_bytes == 401 * 4 + 101 * 12
    # It is the last one of its burst: no MAC but that of the Sync ends the unit.
    found = run(transfers(WRITE_UP, 60, 640), by(8), Port(lanes=16, mps=128))
    assert found.tlps == 301
    assert found.ide_bytes == 301 * 4 + 60 * 12


def test_an_ide_sync_behind_a_whole_unit_has_its_own() -> None:
    """The 245th TLP is the fifth and last of a burst."""
    found = run(transfers(WRITE_UP, 60, 640), by(1), Port(lanes=16, mps=128))
    assert found.ide_bytes == 301 * 16
    # Units of 4 and 1: the 245th TLP is open when the Sync comes.
    found = run(transfers(WRITE_UP, 60, 640), by(4), Port(lanes=16, mps=128))
    assert found.ide_bytes == 301 * 4 + 2 * 60 * 12
    # Behind a pair of two the Sync is alone, so there is one MAC more.
    steps = transfers(WRITE_UP, 1, 128) + transfers(WRITE_UP, 125, 256)
    steps = [replace(step, request=i) for i, step in enumerate(steps)]
    found = run(steps, by(2), Port(lanes=16, mps=128))
    assert found.tlps == 1 + 2 * 125 + 1
    assert found.ide_bytes == found.tlps * 4 + (1 + 125 + 1) * 12


@pytest.mark.parametrize("behind", [False, True], ids=["direct", "switch"])
@pytest.mark.parametrize("kind", [WRITE_UP, WRITE_DOWN], ids=["interrupts", "doorbells"])
def test_doorbells_and_interrupts_never_share_a_mac(kind: int, behind: bool) -> None:
    """Bursts of one TLP, even with an IDE Sync behind: nothing at all is different."""
    steps = transfers(kind, 500, 4, every_ps=3000, buffer=3)
    port = Port(lanes=16, root_port=BUSY)
    way: dict[str, Any] = {"uplinks": [(port, Switch(50_000))], "below": [0]} if behind else {}
    found = run(steps, by(8), port, **way)
    assert found.tlps == 502
    assert found.ide_bytes == 502 * 16
    assert figures(found) == figures(run(steps, by(1), port, **way))


# --- time ---


def test_a_loaded_wire_carries_more() -> None:
    """By the bytes that are saved: 6 % of writes of 128 B each."""
    steps = transfers(WRITE_UP, 300, 4096)
    port = Port(lanes=16, mps=128)
    for tlps in (2, 4, 8):
        faster = span(steps, by(1), port) / span(steps, by(tlps), port)
        one, several = (
            bandwidth(Link(lanes=16, mps=128, protected=True, aggregation=n), "write", 4096)
            for n in (1, tlps)
        )
        assert faster == pytest.approx(several.gbps / one.gbps, rel=0.002)
        assert faster > 1.03


@pytest.mark.parametrize(("kind", "header"), [(WRITE_UP, 16), (READ_UP, 12)], ids=["write", "read"])
@pytest.mark.parametrize("mac_ps", [0, 6000])
def test_a_burst_that_nothing_drains_is_there_earlier(kind: int, header: int, mac_ps: int) -> None:
    """Its last TLP brings the MAC of its unit anyhow.

    What it has is the saved time on the wire, and what of the first TLP's MAC its own bytes do not hide: the
    wire need not wait for that one any more.
    """
    port = Port(lanes=16, mrrs=1024, completion_bytes=256)
    alone = latency(by(1, mac_ps=mac_ps), 1024, kind=kind, port=port)
    shared = latency(by(4, mac_ps=mac_ps), 1024, kind=kind, port=port)
    exposed = max(1000 + mac_ps - (8 + header + 256 + 16) * BYTE, 0)
    assert alone - shared == pytest.approx(float(36 * BYTE + exposed), abs=1)


@settings(fixed, max_examples=100)
@given(
    engine=engines(units=True),
    kind=st.sampled_from([WRITE_UP, WRITE_DOWN, READ_UP]),
    size=st.integers(1, 4096),
    lanes=st.sampled_from([1, 4, 16]),
    generation=st.integers(1, 7),
)
def test_a_lone_transfer_is_never_later(
    engine: EngineTiming, kind: int, size: int, lanes: int, generation: int
) -> None:
    """Where nothing drains it: fewer bytes, fewer MACs to wait for, and the last of them no later.

    An engine slower than the wire ends a TLP there when its MAC is made, which hides the MAC's own 12 B.
    """
    engine = replace(engine, period_ps=500, bytes_per_clock=256, initiation_cycles=1)
    port = Port(generation, lanes, mps=128, completion_bytes=128)
    several = run(transfers(kind, 1, size), engine, port)
    alone = run(transfers(kind, 1, size), replace(engine, unit_tlps=(1, 1, 1)), port)
    assert several.latency.total_ps <= alone.latency.total_ps
    assert several.wire_bytes <= alone.wire_bytes
    assert several.tlps == alone.tlps


def test_a_slow_drain_waits_for_the_whole_unit() -> None:
    """Four TLPs of 256 B drained in 30 ns each, from the release of their MAC on; written `hold`."""
    drain = RootPort(drain_tlp_ps=30_000)
    port = Port(lanes=16, root_port=drain)
    wire = 4 * (8 + 16 + 256 + 4) + 12
    release = 1000 + math.ceil(wire * BYTE) + PROP + 500 + 7000
    found = run(transfers(WRITE_UP, 1, 1024), by(4), port)
    # The engine takes the last TLP in while it comes, half a ns less: it is done with the last byte.
    assert found.latency.total_ps == pytest.approx(release + 4 * 30_000, abs=510)
    # Without units the drain starts when the first one can be there.
    alone = run(transfers(WRITE_UP, 1, 1024), by(1), port)
    assert alone.latency.total_ps == PROP + 4 * 30_000
    waited = found.latency.total_ps - alone.latency.total_ps
    assert found.ledger_ps["hold"] == 6000 + waited
    # In pairs, the first is released earlier.
    assert alone.latency.total_ps < latency(by(2), 1024, port=port) < found.latency.total_ps
    # Who releases TLPs before the MAC is checked waits for none.
    assert latency(by(4, skid=True), 1024, port=port) == latency(by(1, skid=True), 1024, port=port)


def test_units_cost_throughput_where_buffers_are_short() -> None:
    """The credits of a burst come back later; with buffers enough the saved bytes are all that is seen."""
    steps = transfers(WRITE_UP, 300, 1024)
    slow = RootPort(drain_tlp_ps=4000)
    short = Port(
        lanes=16, up=Credits(posted_headers=4, posted_data=64), data_link=DataLink(credit_ps=20_000),
        root_port=slow,
    )  # fmt: skip
    later = [span(steps, by(n), short) for n in (1, 2, 4)]
    assert later == sorted(later)
    assert later[2] > 1.05 * later[0]
    ample = Port(lanes=16, root_port=slow)
    assert span(steps, by(4), ample) <= span(steps, by(1), ample)


def test_an_ide_sync_keeps_the_last_tlp_of_its_unit() -> None:
    """The write that it ends waits for the Sync's MAC, and says so."""
    steps = transfers(WRITE_UP, 50, 640, every_ps=1_000_000)
    port = Port(lanes=16, mps=128)
    case = Case([port], [steps], [[True] * 50], by(8))
    taken = outcome_of_package(case).kept_ps[0, :50].tolist()
    assert len(set(taken[:48])) == 1
    # The 49th has the 245th TLP; instead of 12 B less a MAC of its own, 40 B of the Sync come behind it.
    assert taken[48] - taken[0] == pytest.approx(float(28 * BYTE), abs=600)
    found = run(steps, by(8), port)
    assert found.ledger_ps["hold"] == pytest.approx(50 * 6000 + float(40 * BYTE), abs=600)
    behind = run(steps, by(8), port, uplinks=[(port, Switch(50_000))], below=[0])
    assert behind.ledger_ps["hold"] == found.ledger_ps["hold"]
    # Without units nobody waits for it.
    alone = outcome_of_package(replace(case, engine=by(1))).kept_ps[0, :50].tolist()
    assert len(set(alone)) == 1
    # Nor where a TLP is released before its MAC is checked: it saves the time of its own MAC.
    skids = outcome_of_package(replace(case, engine=by(8, skid=True))).kept_ps[0, :50].tolist()
    assert len(set(skids[:48])) == 1
    assert skids[0] - skids[48] == pytest.approx(float(12 * BYTE), abs=2)


def test_one_engine_for_all_ports_releases_units_whole_too() -> None:
    """A write's drain waits for the unit there, and the first TLP to a device for no MAC but its own."""
    port = Port(lanes=16, root_port=RootPort(drain_tlp_ps=30_000))
    shared = {"shared": True, "fabric_ps": 10_000, "key_entries": 24}
    by_one, by_four = (latency(by(n, **shared), 1024, port=port) for n in (1, 4))
    # By the other three on the wire, and from there on by the engine at both ends of the fabric.
    assert by_four - by_one > 3 * 284 * BYTE
    down = {n: latency(by(n, **shared), 1024, kind=WRITE_DOWN, port=port) for n in (1, 4)}
    # 36 B less on the wire, and 6 ns of a MAC that the first TLP does not wait for.
    assert down[1] - down[4] == pytest.approx(float(36 * BYTE) + 6000, abs=600)
    # A slow MAC is waited for where the wire has passed the first unit: four TLPs worked on, 1 ns each.
    slow = {
        n: latency(by(n, mac_ps=40_000, **shared), 4096, kind=WRITE_DOWN, port=Port(lanes=16)) for n in (1, 4)
    }
    first = 40_000 + 4 * 1000 - (4 * 284 + 12) * BYTE
    assert slow[1] - slow[4] == pytest.approx(float(41_000 - first + 12 * 12 * BYTE), abs=600)


def test_a_link_stream_waits_at_each_link() -> None:
    """A switch that opens and seals has each unit whole before it goes on, as it has each burst."""
    port = Port(lanes=16)
    case = Case(
        [port],
        [transfers(WRITE_UP, 1, 1024)],
        [[True]],
        by(1, link_stream=True),
        uplinks=[(port, Switch(50_000))],
        below=[0],
    )
    one, four = (run_package(replace(case, engine=by(n, link_stream=True))).latency_ps[0][0] for n in (1, 4))
    assert one is not None
    assert four is not None
    exposed = 7000 - 296 * BYTE
    assert one - four == pytest.approx(float(2 * (36 * BYTE + exposed)), abs=2)


@pytest.mark.parametrize("units", [(3, 1, 1), (1, 0, 1), (1, 1, 16)])
def test_units_that_the_standard_does_not_have_are_refused(units: tuple[int, int, int]) -> None:
    with pytest.raises(MisuseError, match="expected each one of"):
        replace(ENGINE, unit_tlps=units)
