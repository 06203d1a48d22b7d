"""Counters: invocations with their limits, PR_Sent at the transmitter, ordering at the receiver, IDE Sync."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ide_help import codes, cpld, ends, mrd, mwr, open_, reader, seal

from sevpcie_core.errors import ConfigError, MisuseError
from sevpcie_core.ide import PROFILES, Profile, Stream, StreamConfig, refresh
from sevpcie_core.ide.profile import LAST_COUNTER

pytestmark = pytest.mark.nojit

W = mwr(bytes(4))
R = mrd()
C = cpld(bytes(4))


def set_counter(stream: Stream, direction: Any, sub: int, value: int) -> None:
    """Move a counter of key set 0 forward, as 2**n invocations would."""
    stream._halves[direction].slots[sub]["counter"] = value


def sync_values(tlp: bytes) -> tuple[int, int]:
    """Return what an IDE Sync carries, (for non-posted, for completions), off its wire image."""
    assert tlp[4 + 7] == 0x54
    return tlp[4 + 12], tlp[4 + 13]


# --- PR_Sent and IDE Sync -----------------------------------------------------------------------------


def test_two_counters() -> None:
    a, b = ends()
    wire, status = seal(a, [W, W, R, W, C, R, C, W, R, C])
    assert status["pr_sent"].tolist() == [0, 0, 2, 0, 3, 1, 0, 0, 1, 1]
    assert set(codes(open_(b, wire)[1])) == {"RELEASED"}
    # They go on from call to call.
    assert seal(a, [R, C, W])[1]["pr_sent"].tolist() == [0, 0, 0]
    assert seal(a, [R])[1]["pr_sent"].tolist() == [1]


def test_a_sync_follows_the_245th() -> None:
    a, b = ends()
    wire, status = seal(a, [W] * 246)
    assert len(wire) == 247
    assert sync_values(wire[245]) == (246, 246)
    assert status["wire_index"].tolist() == [*range(245), 246]
    assert a.counter("tx", 0, 0) == 1 + 247
    opened, got = open_(b, wire)
    assert len(opened) == 246
    assert codes(got) == ["RELEASED"] * 245 + ["SYNC", "RELEASED"]
    assert got["row"].tolist() == [*range(245), -1, 245]
    assert seal(a, [R])[1]["pr_sent"].tolist() == [1]


@pytest.mark.parametrize(("tlp", "values"), [(R, (146, 246)), (C, (246, 146))])
def test_either_counter_forces_it(tlp: bytes, values: tuple[int, int]) -> None:
    a, b = ends()
    wire, _ = seal(a, [W] * 100 + [tlp] + [W] * 146)
    assert len(wire) == 100 + 1 + 146 + 1
    assert sync_values(wire[246]) == values
    open_(b, wire)
    assert b.state.name == "SECURE"
    # Both are cleared.
    assert seal(a, [R, C])[1]["pr_sent"].tolist() == [1, 1]


def test_one_that_is_cleared_in_time_forces_nothing() -> None:
    a, b = ends()
    wire, _ = seal(a, ([W] * 244 + [R, C]) * 3)
    assert len(wire) == 246 * 3
    assert set(codes(open_(b, wire)[1])) == {"RELEASED"}


def test_a_sync_across_calls() -> None:
    a, b = ends()
    for call in range(5):
        wire, _ = seal(a, [W] * 49)
        assert len(wire) == 49 + (call == 4)
        open_(b, wire)
    assert b.state.name == "SECURE"


@pytest.mark.parametrize("before", [0, 3, 4])
def test_a_sync_joins_the_open_unit_as_its_last(before: int) -> None:
    """Single ones first shift the units of eight: the 245th is the fifth, second or first of its unit."""
    config = StreamConfig(aggregation=(1, 8, 1))
    a, b = ends(config)
    plain = reader(config)
    for _ in range(before):
        wire, _ = seal(a, [W])
        plain.read(wire)
        open_(b, wire)
    wire, status = seal(a, [W] * 250)
    place = 245 - before
    assert wire[place][4 + 7] == 0x54
    assert wire[place][3] & 4
    joined = place % 8
    assert status["m"][place - 1] == (joined == 0)
    plain.read(wire)
    assert joined + 1 in plain.units
    assert "REJECTED" not in codes(open_(b, wire)[1])


def test_a_full_unit_has_its_sync_behind_it() -> None:
    a, b = ends(aggregation=(1, 4, 1))
    seal_one = seal(a, [W])[0]
    wire, status = seal(a, [W] * 250)
    assert wire[244][4 + 7] == 0x54
    assert status["m"][243] == 1
    assert "REJECTED" not in codes(open_(b, seal_one + wire)[1])


def test_an_alone_245th_has_its_sync_behind_it() -> None:
    a, b = ends(aggregation=(8, 8, 8))
    alone = np.zeros(246, bool)
    alone[244] = True
    wire, status = seal(a, [W] * 246, alone=alone)
    assert status["m"][244] == 1
    assert sync_values(wire[245]) == (246, 246)
    assert "REJECTED" not in codes(open_(b, wire)[1])


def test_heartbeat() -> None:
    a, b = ends()
    wire, _ = seal(a, [W, W, R, W], sync=True)
    assert sync_values(wire[4]) == (2, 4)
    assert codes(open_(b, wire)[1])[-1] == "SYNC"
    wire, _ = seal(a, [], sync=True)
    assert sync_values(wire[0]) == (1, 1)
    # A lost tail shows at the next heartbeat.
    seal(a, [W, W])
    wire, _ = seal(a, [], sync=True)
    assert codes(open_(b, wire)[1]) == ["REJECTED"]


def test_no_heartbeat_from_an_insecure_stream() -> None:
    a, _ = ends()
    a.disable()
    assert seal(a, [], sync=True)[0] == []


@given(st.lists(st.sampled_from("WWWWRC"), max_size=40), st.sampled_from([1, 2, 8]))
def test_the_receiver_ends_where_the_sender_is(order: list[str], size: int) -> None:
    a, b = ends(aggregation=(size, size, size))
    for _ in range(8):
        wire, _ = seal(a, [{"W": W, "R": R, "C": C}[kind] for kind in order])
        open_(b, wire)
    assert b.state.name == "SECURE"
    assert int(a._tx["npr"][0]) == int(b._rx["posted_npr"][0])
    assert int(a._tx["cpl"][0]) == int(b._rx["posted_cpl"][0])


def test_ordering_counters_start_at_zero_each_time() -> None:
    a, b = ends()
    open_(b, seal(a, [W, W])[0])
    for stream in (a, b):
        stream.disable()
    refresh(a, b, 0, b"other")
    for stream in (a, b):
        stream.enable()
    wire, status = seal(a, [R])
    assert status["pr_sent"].tolist() == [0]
    assert codes(open_(b, wire)[1]) == ["RELEASED"]


# --- Limits --------------------------------------------------------------------------------------------


def limited(soft: int, hard: int, **more: Any) -> tuple[Stream, Stream]:
    return ends(profile=replace(PROFILES["sev-pcie"], soft_limit=soft, hard_limit=hard), **more)


def test_remedies() -> None:
    a, b = limited(3, 5)
    seen = []
    for _ in range(6):
        seen.append(a.remedy(0))
        seal(a, [W])
    # The next counter is 1 2 3 4 5 6.
    assert seen == ["continue", "continue", "rotate", "rotate", "rotate", "refuse"]
    assert a.remedy(1) == "continue"
    # A fresh key heals.
    refresh(a, b, 1)
    assert a.remedy(0) == "continue"
    for bad in (-1, 3):
        with pytest.raises(MisuseError):
            a.remedy(bad)
    a.disable()
    assert a.remedy(1) == "refuse"


def test_behind_the_hard_limit_nothing_leaves() -> None:
    a, b = limited(1, 3)
    wire, status = seal(a, [W] * 5 + [R])
    assert codes(status) == ["SEALED"] * 3 + ["REFUSED_COUNTER"] * 2 + ["SEALED"]
    assert status["wire_index"].tolist() == [0, 1, 2, -1, -1, 3]
    assert len(wire) == 4
    assert codes(open_(b, wire)[1]) == ["RELEASED"] * 4
    assert seal(a, [W])[0] == []
    # Refused TLPs are not counted.
    assert seal(a, [R])[1]["pr_sent"].tolist() == [0]
    refresh(a, b, 1)
    wire, status = seal(a, [W])
    assert (codes(status), status["counter"].tolist(), status["k"].tolist()) == (["SEALED"], [1], [1])
    assert codes(open_(b, wire)[1]) == ["RELEASED"]


def test_an_open_unit_has_its_counter() -> None:
    a, b = limited(1, 2, aggregation=(4, 4, 4))
    wire, status = seal(a, [W] * 10)
    assert codes(status) == ["SEALED"] * 8 + ["REFUSED_COUNTER"] * 2
    assert codes(open_(b, wire)[1]) == ["RELEASED"] * 8


def test_a_sync_that_is_refused_goes_first_with_the_next_key() -> None:
    a, b = limited(1, 245)
    wire, status = seal(a, [W] * 246)
    assert len(wire) == 245
    assert codes(status)[-1] == "REFUSED_COUNTER"
    open_(b, wire)
    # Reads and completions still carry what is due.
    refresh(a, b, 1)
    wire, status = seal(a, [W])
    assert sync_values(wire[0]) == (246, 246)
    assert status["wire_index"].tolist() == [1]
    assert status["counter"].tolist() == [2]
    assert codes(open_(b, wire)[1]) == ["SYNC", "RELEASED"]


def test_a_sync_within_the_limit_is_not_forgotten() -> None:
    a, b = limited(1, 245)
    open_(b, seal(a, [W] * 245)[0])
    wire, status = seal(a, [R, C])
    assert status["pr_sent"].tolist() == [245, 245]
    assert codes(open_(b, wire)[1]) == ["RELEASED"] * 2


def test_the_last_counter_of_all() -> None:
    """The counter stops before it could wrap, with the default limits."""
    a, b = ends()
    for stream, direction in ((a, "tx"), (b, "rx")):
        set_counter(stream, direction, 0, LAST_COUNTER)
    wire, status = seal(a, [W, W])
    assert codes(status) == ["SEALED", "REFUSED_COUNTER"]
    assert int(status["counter"][0]) == LAST_COUNTER
    assert codes(open_(b, wire)[1]) == ["RELEASED"]
    assert a.remedy(0) == "refuse"
    assert b.counter("rx", 0, 0) == LAST_COUNTER + 1
    # The receiver's own limit.
    set_counter(a, "tx", 0, LAST_COUNTER)
    assert codes(open_(b, seal(a, [W])[0])[1]) == ["REJECTED"]
    assert b.reason.name == "COUNTER"


def test_a_counter_that_would_wrap_cannot_be_configured() -> None:
    with pytest.raises(ConfigError):
        Profile("wraps", 256, hard_limit=LAST_COUNTER + 1)
    for soft, hard in ((0, 5), (6, 5)):
        with pytest.raises(ConfigError):
            Profile("odd", 256, soft_limit=soft, hard_limit=hard)


@pytest.mark.parametrize("name", ["posted_npr", "posted_cpl"])
def test_64_bit_counters_of_the_receiver_overflow_loudly(name: str) -> None:
    a, b = ends()
    b._rx[name] = 2**64 - 1
    assert codes(open_(b, seal(a, [W])[0])[1]) == ["REJECTED"]
    assert b.reason.name == "ORDERING_OVERFLOW"
    a, b = ends()
    b._rx[name] = 2**64 - 2
    assert codes(open_(b, seal(a, [W])[0])[1]) == ["RELEASED"]
