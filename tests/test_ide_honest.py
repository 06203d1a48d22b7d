"""What must not raise an alarm, and what is known to raise none.

The first is the standard's: a link and its switches may do it to honest traffic. The second is what IDE
does not see; it is shown to be silent so that nobody claims more.
"""

from typing import Any

import pytest
from oracles.ide_bytes import forge, word
from oracles.ide_tlps import (
    VENDOR_LOCAL,
    Outcome,
    cpl,
    cpld,
    ends,
    filler,
    keys_of,
    mrd,
    msg,
    mwr,
    open_,
    prefix,
    program,
    seal,
    seal_codes,
)

from sevpcie_core.crypto import backends
from sevpcie_core.ide import Slot, State, Stream, StreamConfig

pytestmark = pytest.mark.nojit

PLAIN = StreamConfig()
W = [mwr(filler(64, i), tag=i) for i in range(8)]
R = [mrd(4, tag=i) for i in range(8)]
C = [cpld(filler(16, i), tag=i) for i in range(8)]
LINKED = StreamConfig(kind="link")


def is_fine(b: Stream, outcome: Outcome, expected: list[bytes]) -> None:
    assert outcome.tlps == expected
    assert set(outcome.codes) <= {"RELEASED", "SYNC", "PLAIN"}
    assert b.state is State.SECURE
    assert b.errors == ()
    assert b.pending_messages() == []


def sent(tlps: list[bytes], config: StreamConfig = PLAIN, **more: Any) -> tuple[Stream, list[bytes]]:
    a, b = ends(config)
    wire, status = seal(a, tlps, **more)
    assert set(seal_codes(status)) == {"SEALED"}
    return b, wire


# --- What must raise no alarm ------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", backends.available())
@pytest.mark.parametrize("late", [R[0], C[0]])
def test_posted_tlps_overtake(late: bytes, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(backends.VARIABLE, backend)
    backends.default.cache_clear()
    try:
        b, wire = sent([W[0], late, W[1], W[2]])
        is_fine(b, open_(b, [wire[0], wire[2], wire[3], wire[1]]), [W[0], W[1], W[2], late])
    finally:
        backends.default.cache_clear()


def test_completions_overtake_reads() -> None:
    b, wire = sent([W[0], R[0], W[1], C[0], R[1], C[1]])
    order = [0, 2, 3, 5, 1, 4]
    is_fine(b, open_(b, [wire[i] for i in order]), [W[0], W[1], C[0], C[1], R[0], R[1]])


def test_reads_pass_completions() -> None:
    """Y/N in the table of ordering: a switch may, need not."""
    b, wire = sent([W[0], C[0], R[0], C[1]])
    is_fine(b, open_(b, [wire[i] for i in (0, 2, 1, 3)]), [W[0], R[0], C[0], C[1]])


@pytest.mark.parametrize("held", ["reads", "completions"])
def test_hundreds_of_posted_tlps_overtake(held: str) -> None:
    """No bound on how many: the receiver may not count a Sync as missing."""
    late = R if held == "reads" else C
    a, b = ends(PLAIN)
    slow, fast = [], []
    for i in range(4):
        wire, _ = seal(a, [mwr(filler(4, j)) for j in range(200)] + [late[i]])
        fast += wire[:-1]
        slow += wire[-1:]
    outcome = open_(b, fast + slow)
    assert outcome.codes.count("RELEASED") == 804
    assert b.state is State.SECURE
    assert outcome.tlps[-4:] == late[:4]


def test_reads_and_completions_held_back_under_many_syncs() -> None:
    a, b = ends(PLAIN)
    wire, _ = seal(a, [*W[:2], R[0], C[0], *[mwr(filler(4, j % 200)) for j in range(900)], R[1]])
    late = wire[2:4]
    outcome = open_(b, [*wire[:2], *wire[4:-1], *late, wire[-1]])
    assert outcome.tlps[-3:] == [R[0], C[0], R[1]]
    assert outcome.codes.count("SYNC") == 3
    assert b.state is State.SECURE


def test_others_stand_between_the_tlps_of_a_unit() -> None:
    config = StreamConfig(aggregation=(2, 4, 2))
    tlps = [W[0], C[0], W[1], R[0], iord_like(), C[1], W[2], R[1], W[3]]
    a, b = ends(config)
    wire, status = seal(a, tlps)
    assert [tlp[3] & 4 for tlp in wire if tlp[0] == 0x92] == [0, 0, 0, 0, 4, 0, 4, 4]
    outcome = open_(b, wire)
    assert set(outcome.codes) == {"RELEASED", "PLAIN"}
    assert sorted(outcome.tlps) == sorted(tlps)
    # No read and no completion before a posted TLP that was sent before it.
    assert outcome.tlps.index(W[3]) < outcome.tlps.index(R[0])
    assert outcome.tlps.index(W[3]) < outcome.tlps.index(C[0])
    assert (b.state, b.errors) == (State.SECURE, ())
    assert set(status["code"]) == {0, 1}


def iord_like() -> bytes:
    """Return a TLP that never is an IDE TLP on a Selective stream."""
    return bytes.fromhex("02000001 0100080f 00001000")


@pytest.mark.parametrize("first", range(1, 7))
def test_a_unit_comes_in_pieces(first: int) -> None:
    """Call after call: HELD until it is complete, then all at once, before what waits behind it."""
    config = StreamConfig(aggregation=(1, 4, 1))
    b, wire = sent([W[0], R[0], W[1], C[0], W[2], W[3], W[4]], config)
    one, two = open_(b, wire[:first]), open_(b, wire[first:])
    assert one.tlps + two.tlps == [W[0], W[1], W[2], W[3], R[0], C[0], W[4]]
    if first < 6:
        assert one.codes == ["HELD"] * first
        assert [item.wire_index for item in two.released[:3]] == [
            wire_index - first if wire_index >= first else -1 for wire_index in (0, 2, 4)
        ]
    assert b.state is State.SECURE


@pytest.mark.parametrize("status", [1, 2, 4])
def test_completions_without_success(status: int) -> None:
    """UR, RRS, CA: no matter of security."""
    tlps = [W[0], cpl(status), cpl(0)]
    b, wire = sent(tlps)
    is_fine(b, open_(b, wire), tlps)


@pytest.mark.parametrize("config", [PLAIN, LINKED, StreamConfig(pcrc=True, aggregation=(2, 1, 2))])
def test_poisoned_tlps(config: StreamConfig) -> None:
    tlps = [mwr(filler(8), ep=1), cpld(filler(8), ep=1), W[0]]
    b, wire = sent(tlps, config)
    is_fine(b, open_(b, wire), tlps)


def test_reserved_bit_of_the_prefix() -> None:
    """Covered by the MAC, and otherwise ignored: a later version may use it."""
    ide = bytes([0x92, 0x00, 0x01, 0x84])
    (tlp,) = forge(keys_of(PLAIN)[0], 1, [(ide, W[0])])
    _, b = ends(PLAIN)
    is_fine(b, open_(b, [tlp]), [W[0]])


def test_pr_sent_of_a_posted_tlp_is_reserved() -> None:
    (tlp,) = forge(keys_of(PLAIN)[0], 1, [(word(pr_sent=77), W[0])])
    _, b = ends(PLAIN)
    is_fine(b, open_(b, [tlp]), [W[0]])


def test_an_early_sync_and_two_in_a_row() -> None:
    a, b = ends(PLAIN)
    wire = [*seal(a, [W[0]], sync=True)[0], *seal(a, [], sync=True)[0], *seal(a, [R[0], W[1], C[0]])[0]]
    outcome = open_(b, wire)
    assert outcome.codes == ["RELEASED", "SYNC", "SYNC", "RELEASED", "RELEASED", "RELEASED"]
    assert b.state is State.SECURE


@pytest.mark.parametrize("config", [PLAIN, StreamConfig(aggregation=(2, 4, 2), pcrc=True)])
def test_sub_streams_change_keys_one_by_one(config: StreamConfig) -> None:
    """Reads of the old set are still under way when writes of the new one come."""
    a, b = ends(config)
    old, _ = seal(a, [W[0], R[0], C[0], W[1]])
    program(a, "rx", 1)
    program(b, "rx", 1, far=True)
    program(a, "tx", 1)
    new, _ = seal(a, [W[2], R[1], C[1]])
    first = [tlp for tlp in old if tlp[3] >> 4 == 0]
    late = [tlp for tlp in old if tlp[3] >> 4 != 0]
    outcome = open_(b, [*first, new[0], *late, *new[1:]])
    assert sorted(outcome.tlps) == sorted([*W[:3], *R[:2], *C[:2]])
    assert (b.state, b.errors) == (State.SECURE, ())
    assert [b.slot("rx", sub, 0) for sub in range(3)] == [Slot.RETIRED] * 3
    assert b.counter("rx", 0, 1) == 2


def test_a_fail_of_another_stream() -> None:
    """Not ours, hence plain."""
    b, wire = sent([W[0]])
    other = msg(0x55, last=bytes([1, 0, 0, 0, 9, 0, 0, 0]))
    outcome = open_(b, [other, *wire])
    assert outcome.codes == ["PLAIN", "RELEASED"]
    assert b.state is State.SECURE


def test_an_eighth_m_0_where_it_is_tolerated() -> None:
    config = StreamConfig(aggregation=(1, 8, 1), tolerate_eighth=True)
    small = [mwr(filler(4, i)) for i in range(9)]
    wire = forge(keys_of(config)[0], 1, [(word(m=int(i == 8)), tlp) for i, tlp in enumerate(small)])
    _, b = ends(config)
    is_fine(b, open_(b, wire), small)


def test_exactly_256_dw_in_a_unit_and_more_in_one_tlp() -> None:
    config = StreamConfig(aggregation=(1, 2, 1), pcrc=True)
    tlps = [mwr(filler(512)), mwr(filler(512, 1)), mwr(filler(4096)), mwr(filler(1020)), mwr(filler(8))]
    b, wire = sent(tlps, config)
    assert [tlp[3] & 4 for tlp in wire] == [0, 4, 4, 4, 4]
    is_fine(b, open_(b, wire), tlps)


# --- What is known to be silent ----------------------------------------------------------------------------


def test_silent_local_prefixes_of_a_selective_stream() -> None:
    """Switches add and take them, so nothing covers them: changed, added, taken."""
    local = prefix(VENDOR_LOCAL, 0x0A0B0C)
    b, wire = sent([local + W[0], local + W[1], W[2]])
    changed = prefix(VENDOR_LOCAL, 0xFFFFFF)
    outcome = open_(b, [changed + wire[0][4:], wire[1][4:], local + wire[2]])
    is_fine(b, outcome, [changed + W[0], W[1], local + W[2]])


@pytest.mark.parametrize("late", [R[0], C[0]])
def test_silent_cve_2025_9612(late: bytes) -> None:
    """A TLP that overtakes {posted, Sync}, no posted one between Sync and it, carries 0: none is missed."""
    a, b = ends(PLAIN)
    wire = [*seal(a, [W[0]], sync=True)[0], *seal(a, [late])[0]]
    assert wire[2][1] == 0
    outcome = open_(b, [wire[2], wire[0], wire[1]])
    is_fine(b, outcome, [late, W[0]])


def test_no_longer_silent_with_a_posted_tlp_between() -> None:
    a, b = ends(PLAIN)
    wire = [*seal(a, [W[0]], sync=True)[0], *seal(a, [W[1], R[0]])[0]]
    open_(b, [wire[3], wire[0]])
    assert b.reason.name == "ORDERING"


@pytest.mark.parametrize("probe", ["posted", "read", "completion", "heartbeat"])
def test_silent_tail_until_the_next_tlp(probe: str) -> None:
    """All posted TLPs from some point on are lost: silent, until something comes that counts."""
    a, b = ends(PLAIN)
    wire, _ = seal(a, W[:5])
    is_fine(b, open_(b, wire[:2]), W[:2])
    assert b.state is State.SECURE
    probes = {"posted": [W[5]], "read": [R[0]], "completion": [C[0]], "heartbeat": []}[probe]
    more, _ = seal(a, probes, sync=probe == "heartbeat")
    assert open_(b, more).codes == ["REJECTED"]
    assert b.state is State.INSECURE


@pytest.mark.parametrize("tail", [R, C])
def test_silent_tail_of_reads_and_completions(tail: list[bytes]) -> None:
    """Nobody counts them: a lost tail stays silent under any posted traffic, until the next of its own."""
    a, b = ends(PLAIN)
    wire, _ = seal(a, [W[0], tail[0], tail[1]])
    open_(b, wire[:2])
    more, _ = seal(a, [W[1], W[2]], sync=True)
    assert open_(b, more).codes == ["RELEASED", "RELEASED", "SYNC"]
    assert b.state is State.SECURE
    assert open_(b, seal(a, [tail[2]])[0]).codes == ["REJECTED"]


@pytest.mark.parametrize("phe", [0, 4])
def test_silent_headers_and_lengths(phe: int) -> None:
    """Who reads the wire sees what a TLP is, how long, and, with its header in the clear, where it goes."""
    _, wire = sent([W[0], R[0], C[0]], StreamConfig(phe=phe))
    for tlp, plain in zip(wire, (W[0], R[0], C[0]), strict=True):
        assert tlp[4:8] == plain[:4]
        assert (tlp[4:16] == plain[:12]) == (phe == 0 or plain is C[0])
        data = plain[16:] if plain is W[0] else plain[12:] if plain is C[0] else b""
        assert len(tlp) == len(plain) + 16
        assert not data or data not in tlp


def test_silent_wrong_stream_of_a_completion_without_a_tag_table() -> None:
    """A stream alone does not know who asked."""
    b, wire = sent([cpl(tag=200)])
    is_fine(b, open_(b, wire), [cpl(tag=200)])


def test_silent_plain_tlps_beside_a_selective_stream() -> None:
    """Which plain TLPs may come at all is for the layer above; they are marked as such."""
    b, wire = sent([W[0]])
    outcome = open_(b, [W[1], *wire, W[2]])
    assert outcome.tlps == [W[1], W[0], W[2]]
    assert [item.protected for item in outcome.released] == [False, True, False]
    assert b.state is State.SECURE
