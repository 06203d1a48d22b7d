"""What a receiver makes of what comes: each rule by a unit that is authentic and breaks it.

The units come from `forge`, which seals what it is told with the right key: the rule answers, not the MAC.
"""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from ide_help import (
    batch_of,
    cfgrd1,
    codes,
    cpl,
    cpld,
    cuts,
    ends,
    forge,
    key_of,
    mrd,
    msg,
    mwr,
    open_,
    seal,
    tlps_of,
    word,
)

from sevpcie_core.errors import MisuseError
from sevpcie_core.ide import OPENED, Error, Reason, Slot, State, Stream, StreamConfig, open_stream, refresh
from sevpcie_core.ide.tags import TagTable
from sevpcie_core.ide.tdisp import Interfaces
from sevpcie_core.tlp.batch import Batch

pytestmark = pytest.mark.nojit

W = mwr(bytes(range(64)))
R = mrd()
C = cpld(bytes(range(64)))
IO = bytes.fromhex("02000001 0100000f 00001000")


def sync(npr: int, cpl_: int, routing: int = 2) -> bytes:
    return msg(0x54, routing, bytes(4) + bytes([npr, cpl_, 0, 0]))


def made(
    config: StreamConfig, sub: int, counter: int, tlps: Sequence[bytes], *words: bytes, **more: Any
) -> list[bytes]:
    """Return what the other end of `ends(config)` would have sent had it wanted to."""
    return forge(key_of(config, sub), counter, tlps, words or [word(sub)] * len(tlps), **more)


def rejected(b: Stream, wire: Sequence[bytes], reason: str, before: int = 0) -> None:
    """Check that TLP `before` is rejected for a reason, and that the stream has ended as the table says."""
    opened, status = open_(b, wire)
    after = len(wire) - before - 1
    assert codes(status)[before:] == ["REJECTED"] + ["DROPPED"] * after
    assert status["reason"].tolist() == [0] * before + [int(b.reason)] + [0] * after
    assert b.reason.name == reason
    assert (b.state.name, b.error, b.errors) == ("INSECURE", Error.IDE_CHECK_FAILED, ((28, b.reason),))
    assert len(b.pending_messages()) == 1
    assert all(not half.table.round_keys.any() and not half.table.powers.any() for half in b._halves.values())
    assert len(opened) <= before


# --- The rules that need no key -------------------------------------------------------------------------


def reworded(wire: bytes, new: bytes) -> bytes:
    return new + wire[4:]


@pytest.mark.parametrize("sub", [3, 4, 5, 6, 7])
def test_reserved_sub_streams(sub: int) -> None:
    config = StreamConfig()
    _, b = ends(config)
    rejected(b, forge(key_of(config, 0), 1, [W], [word(sub)]), "SUB_STREAM")


@pytest.mark.parametrize(("tlp", "sub"), [(W, 1), (W, 2), (R, 0), (R, 2), (C, 0), (C, 1), (msg(), 1)])
def test_a_tlp_in_the_wrong_sub_stream(tlp: bytes, sub: int) -> None:
    config = StreamConfig()
    _, b = ends(config)
    rejected(b, made(config, sub, 1, [tlp]), "SUB_STREAM_TYPE")


@pytest.mark.parametrize(
    "tlp", [IO, msg(routing=3), msg(routing=4), cfgrd1(), bytes.fromhex("04000001 0100000f 02000000")]
)
def test_what_may_not_ride(tlp: bytes) -> None:
    config = StreamConfig()
    _, b = ends(config)
    sub = 0 if tlp[0] & 0x30 == 0x30 else 1
    rejected(b, made(config, sub, 1, [tlp]), "TYPE")


def test_kinds_that_are_none() -> None:
    config = StreamConfig()
    _, b = ends(config)
    rejected(b, made(config, 0, 1, [b"\x1f" + W[1:12]]), "SUB_STREAM_TYPE")
    _, b = ends(config)
    rejected(b, made(config, 0, 1, [b"\xe0" + W[1:]]), "LENGTH")


def test_traffic_class() -> None:
    config = StreamConfig(tc=2)
    _, b = ends(config)
    opened, _ = open_(b, made(config, 0, 1, [mwr(bytes(4), tc=2)]))
    assert opened == [mwr(bytes(4), tc=2)]
    rejected(b, made(config, 0, 2, [W]), "TRAFFIC_CLASS")


def test_digest() -> None:
    config = StreamConfig()
    _, b = ends(config)
    rejected(b, made(config, 0, 1, [mwr(bytes(4), bits=0x8000)]), "ECRC")


@pytest.mark.parametrize("bad", ["behind another", "twice", "local behind"])
def test_the_prefix_has_its_place(bad: str) -> None:
    config = StreamConfig()
    (wire,) = made(config, 0, 1, [W])
    other, local = bytes.fromhex("9e000001"), bytes.fromhex("8e000001")
    tlp = {
        "behind another": other + wire,
        "twice": wire[:4] + wire,
        "local behind": wire[:4] + local + wire[4:],
    }[bad]
    rejected(ends(config)[1], [tlp], "PREFIX")


@pytest.mark.parametrize("change", [-12, -4, -1, 1, 4, 12])
def test_truncated_and_extended(change: int) -> None:
    config = StreamConfig()
    (wire,) = made(config, 0, 1, [W])
    tlp = wire[:change] if change < 0 else wire + bytes(change)
    rejected(ends(config)[1], [tlp], "LENGTH")
    # Without framing too: the last TLP takes what is left.
    _, b = ends(config)
    batch, status = open_stream(tlp, b)
    assert codes(status)[-1] in ("REJECTED", "MALFORMED")
    assert len(batch.tlps) == (change > 0)


def test_cut_before_its_header_ends() -> None:
    (wire,) = made(StreamConfig(), 0, 1, [W])
    for size in range(4, 20):
        rejected(ends()[1], [wire[:size]], "LENGTH")
    for size in range(4):
        _, b = ends()
        assert codes(open_(b, [wire[:size]])[1]) == ["MALFORMED"]
        assert b.state.name == "SECURE"


def test_too_much_in_the_clear() -> None:
    (wire,) = made(StreamConfig(), 0, 1, [W])
    rejected(ends()[1], [wire[:4] + bytes.fromhex("9e000001") * 10 + wire[4:]], "PREFIX")


def test_k_within_a_unit() -> None:
    config = StreamConfig(aggregation=(2, 2, 2))
    a, b = ends(config)
    refresh(a, b, 1)
    wire = made(config, 0, 1, [W, W], word(m=0), word(k=1))
    opened, status = open_(b, wire)
    assert codes(status) == ["DROPPED", "REJECTED"]
    assert (b.reason.name, opened) == ("K_TOGGLE", [])


def test_keys() -> None:
    config = StreamConfig()
    rejected(ends(config)[1], made(config, 0, 1, [W], word(k=1)), "KEY_NOT_STARTED")
    a, b = ends(config)
    for sub in range(3):
        b.program("rx", sub, 1, key_of(config, sub, 1))
    rejected(b, made(config, 0, 1, [W], word(k=1)), "KEY_NOT_STARTED")
    a, b = ends(config)
    b.stop(0)
    rejected(b, made(config, 0, 1, [W]), "KEY_STOPPED")
    a, b = ends(config)
    old, _ = seal(a, [W])
    refresh(a, b, 1)
    open_(b, seal(a, [W])[0])
    rejected(b, old, "KEY_RETIRED")


def test_aggregation_where_it_is_not_supported() -> None:
    config = StreamConfig(aggregation=(8, 1, 8))
    rejected(ends(config)[1], made(config, 0, 1, [W, W], word(m=0), word()), "AGGREGATION")
    supports = StreamConfig(accept_aggregation=(False, True, False))
    opened, _ = open_(ends(supports)[1], made(supports, 0, 1, [W, W], word(m=0), word()))
    assert opened == [W, W]
    rejected(ends(supports)[1], made(supports, 1, 1, [R, R], word(1, m=0), word(1)), "AGGREGATION")


@pytest.mark.parametrize("tolerate", [False, True])
def test_how_many_m0_in_a_row(tolerate: bool) -> None:
    config = StreamConfig(aggregation=(2, 2, 2), tolerate_eighth=tolerate)
    small = mwr(bytes(4))

    def unit(tlps: int) -> list[bytes]:
        return made(config, 0, 1, [small] * tlps, *[word(m=0)] * (tlps - 1), word())

    # More than the sender's own setting is the sender's affair.
    assert len(open_(ends(config)[1], unit(8))[0]) == 8
    _, b = ends(config)
    opened, status = open_(b, unit(9))
    if tolerate:
        assert opened == [small] * 9
    else:
        assert codes(status) == ["DROPPED"] * 7 + ["REJECTED", "DROPPED"]
        assert b.reason.name == "AGGREGATION_COUNT"
    _, b = ends(config)
    opened, status = open_(b, unit(10))
    assert (opened, b.reason.name) == ([], "AGGREGATION_COUNT")
    assert codes(status).index("REJECTED") == (8 if tolerate else 7)


def test_a_unit_of_more_than_256_dw() -> None:
    config = StreamConfig(aggregation=(8, 8, 8))
    half, more = mwr(bytes(512)), mwr(bytes(516))
    assert open_(ends(config)[1], made(config, 0, 1, [half, half], word(m=0), word()))[0] == [half, half]
    for second in (word(), word(m=0)):
        _, b = ends(config)
        _, status = open_(b, made(config, 0, 1, [half, more], word(m=0), second))
        assert (codes(status), b.reason.name) == (["DROPPED", "REJECTED"], "AGGREGATION_SIZE")
    rejected(ends(config)[1], made(config, 0, 1, [mwr(bytes(1028))], word(m=0)), "AGGREGATION_SIZE")
    assert len(open_(ends(config)[1], made(config, 0, 1, [mwr(bytes(1028))]))[0]) == 1


def crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")


def test_pcrc_where_it_must_not_be() -> None:
    config = StreamConfig(aggregation=(2, 2, 2))
    value = crc(W[16:])
    rejected(ends(config)[1], made(config, 0, 1, [W], word(p=1), pcrc=value), "PCRC_UNEXPECTED")
    with_pcrc = StreamConfig(aggregation=(2, 2, 2), pcrc=True)
    rejected(ends(with_pcrc)[1], made(with_pcrc, 1, 1, [R], word(1, p=1), pcrc=crc(b"")), "PCRC_UNEXPECTED")
    wire = made(with_pcrc, 0, 1, [W, W], word(m=0, p=1), word(p=1), pcrc=crc(W[16:] * 2))
    # P says that there are 4 B more; one that has none is too short before it is wrong.
    rejected(ends(with_pcrc)[1], wire, "LENGTH")
    rejected(ends(with_pcrc)[1], [wire[0] + bytes(4), wire[1]], "PCRC_WITHOUT_MAC")


def test_pcrc_where_it_must_be() -> None:
    """Missing or wrong: the unit is lost, the stream goes on."""
    config = StreamConfig(aggregation=(2, 2, 2), pcrc=True)
    good = crc(W[16:])
    wire = made(config, 0, 1, [W], word(p=1), pcrc=good)
    wire += made(config, 0, 2, [W])
    wire += made(config, 0, 3, [W], word(p=1), pcrc=bytes(4))
    wire += made(config, 0, 4, [W, W], word(m=0), word(p=1), pcrc=good)
    wire += made(config, 0, 5, [W, W], word(m=0), word(p=1), pcrc=crc(W[16:] * 2))
    # The lost ones count: they are authentic.
    wire += made(config, 1, 1, [R], word(1, pr_sent=7))
    _, b = ends(config)
    opened, status = open_(b, wire)
    assert codes(status) == ["RELEASED"] + ["PCRC_FAILED"] * 4 + ["RELEASED"] * 3
    assert status["reason"].tolist() == [0, 24, 25, 25, 25, 0, 0, 0]
    assert status["row"].tolist() == [0, -1, -1, -1, -1, 1, 2, 3]
    assert opened == [W, W, W, R]
    assert (b.state.name, b.error, b.pending_messages()) == ("SECURE", Error.PCRC_CHECK_FAILED, [])
    assert b.errors == ((30, 24),)
    assert b.reason.name == "NONE"


# --- Ordering -------------------------------------------------------------------------------------------


def test_a_read_that_overtakes_a_write() -> None:
    a, b = ends()
    wire, _ = seal(a, [W, W, R])
    opened, status = open_(b, [wire[0], wire[2], wire[1]])
    assert codes(status) == ["RELEASED", "REJECTED", "DROPPED"]
    assert (opened, b.reason.name) == ([W], "ORDERING")


@pytest.mark.parametrize("late", [R, C])
def test_inside_a_unit_it_is_found_at_once(late: bytes) -> None:
    a, b = ends(aggregation=(8, 8, 8))
    wire, _ = seal(a, [W, W, late, W])
    opened, status = open_(b, [wire[0], wire[2]])
    assert codes(status) == ["DROPPED", "REJECTED"]
    assert (opened, b.reason.name) == ([], "ORDERING")


def test_writes_may_overtake() -> None:
    """Posted TLPs may pass any number of others on the way: no count of them is wrong."""
    a, b = ends()
    wire, _ = seal(a, ([W] * 200 + [R, C]) * 4)
    writes = [tlp for tlp in wire if tlp[4] == 0x60]
    reads = [tlp for tlp in wire if tlp[4] == 0x20]
    completions = [tlp for tlp in wire if tlp[4] == 0x4A]
    assert len(writes) == 800
    opened, status = open_(b, writes + completions + reads)
    assert set(codes(status)) == {"RELEASED"}
    assert len(opened) == 808


def test_a_carried_value_that_no_sender_has() -> None:
    config = StreamConfig()
    for sub, tlp in ((1, R), (2, C)):
        for value, reason in ((245, None), (246, "SYNC_MISSING"), (255, "SYNC_MISSING")):
            _, b = ends(config)
            b._rx["posted_npr"] = b._rx["posted_cpl"] = 300
            wire = made(config, sub, 1, [tlp], word(sub, pr_sent=value))
            if reason:
                rejected(b, wire, reason)
            else:
                assert codes(open_(b, wire)[1]) == ["RELEASED"]


@pytest.mark.parametrize(
    ("npr", "cpl_", "reason"),
    [
        (246, 246, None),
        (1, 0, None),
        (247, 1, "SYNC_MISSING"),
        (1, 247, "SYNC_MISSING"),
        (9, 0, "ORDERING"),
        (0, 9, "ORDERING"),
    ],
)
def test_what_a_sync_carries(npr: int, cpl_: int, reason: str | None) -> None:
    config = StreamConfig()
    _, b = ends(config)
    if npr == 246 or reason == "SYNC_MISSING":
        b._rx["posted_npr"] = b._rx["posted_cpl"] = 300
    wire = made(config, 0, 1, [sync(npr, cpl_)])
    if reason:
        rejected(b, wire, reason)
        return
    opened, status = open_(b, wire)
    assert (opened, codes(status)) == ([], ["SYNC"])
    if npr == 246:
        # One more for the Sync itself.
        assert (int(b._rx["posted_npr"][0]), int(b._rx["posted_cpl"][0])) == (55, 55)


def test_the_form_of_a_sync() -> None:
    config = StreamConfig(aggregation=(2, 2, 2))
    rejected(ends(config)[1], made(config, 0, 1, [sync(1, 1, routing=0)]), "SYNC")
    rejected(ends(config)[1], made(config, 0, 1, [sync(1, 1)], word(m=0)), "SYNC")
    rejected(ends(config)[1], made(config, 0, 1, [sync(1, 1, routing=4)]), "TYPE")


# --- The MAC ---------------------------------------------------------------------------------------------


def test_the_offender_and_what_is_behind_it() -> None:
    a, b = ends()
    wire, _ = seal(a, [W, R, W, C, W, R])
    wire[2] = wire[2][:30] + bytes([wire[2][30] ^ 1]) + wire[2][31:]
    opened, status = open_(b, wire)
    assert codes(status) == ["RELEASED", "RELEASED", "REJECTED", "DROPPED", "DROPPED", "DROPPED"]
    assert status["reason"].tolist() == [0, 0, 23, 0, 0, 0]
    assert status["row"].tolist() == [0, 1, -1, -1, -1, -1]
    assert opened == [W, R]
    assert b.error is Error.IDE_CHECK_FAILED
    # It stays so.
    assert codes(open_(b, seal(a, [W])[0])[1]) == ["DROPPED"]


def test_the_first_in_wire_order_counts() -> None:
    """A MAC that fails later than a broken rule never happened; one that fails earlier is what happened."""
    a, b = ends()
    wire, _ = seal(a, [W, W, W])
    bad_mac = wire[1][:-1] + bytes([wire[1][-1] ^ 1])
    bad_rule = word(6) + wire[2][4:]
    rejected(b, [wire[0], bad_mac, bad_rule], "MAC", before=1)
    a, b = ends()
    wire, _ = seal(a, [W, W, W])
    rejected(b, [wire[0], word(6) + wire[1][4:], wire[2][:-1] + b"\0"], "SUB_STREAM", before=1)


def test_a_unit_fails_as_one() -> None:
    a, b = ends(aggregation=(4, 4, 4))
    wire, _ = seal(a, [W, R, W, W, W])
    wire[0] = wire[0][:40] + bytes([wire[0][40] ^ 0x80]) + wire[0][41:]
    opened, status = open_(b, wire)
    # The read waits for the posted unit, which never ends.
    assert codes(status) == ["DROPPED"] * 4 + ["REJECTED"]
    assert (opened, b.reason.name) == ([], "MAC")


@pytest.mark.parametrize("field", ["kind", "sub", "stream", "direction", "counter"])
def test_splices(field: str) -> None:
    """A unit of elsewhere, authentic there."""
    config = StreamConfig()
    a, b = ends(config)
    wire, _ = seal(a, [W, mwr(bytes(64), tag=9), R])
    if field == "kind":
        spliced = wire[1][:20] + wire[0][20:]
    elif field == "sub":
        spliced = word(1) + wire[2][4:20] + wire[0][-12:]
    elif field == "stream":
        other, _ = ends(stream_id=2)
        other_wire, _ = seal(other, [mwr(bytes(64))])
        spliced = word() + other_wire[0][4:]
        # Two streams of one seed have the same keys here; the Stream ID is covered all the same.
    elif field == "direction":
        spliced = seal(b, [W])[0][0]
    else:
        spliced = wire[1]
    opened, status = open_(b, [spliced])
    assert (opened, codes(status), b.reason.name) == ([], ["REJECTED"], "MAC")


def test_a_replay() -> None:
    a, b = ends()
    wire, _ = seal(a, [W])
    open_(b, wire)
    rejected(b, wire, "MAC")


def test_poison_and_bad_completions_alarm_nobody() -> None:
    a, b = ends()
    poisoned = mwr(bytes(64), bits=0x4000)
    tlps = [poisoned, cpl(1), cpl(4), cpl(2)]
    opened, status = open_(b, seal(a, tlps)[0])
    assert (opened, set(codes(status)), b.error) == (tlps, {"RELEASED"}, None)


def test_reserved_bits_are_the_macs_affair() -> None:
    config = StreamConfig()
    wire = made(config, 0, 1, [W], word(reserved=1)) + made(config, 0, 2, [W], word(pr_sent=77))
    opened, _ = open_(ends(config)[1], wire)
    assert opened == [W, W]
    flipped = made(config, 0, 1, [W])[0]
    rejected(ends(config)[1], [flipped[:3] + bytes([flipped[3] ^ 0x80]) + flipped[4:]], "MAC")


# --- Authentic, and still not a TLP ----------------------------------------------------------------------


def test_an_authentic_tlp_may_be_ill_formed() -> None:
    config = StreamConfig()
    crossing = mwr(bytes(64), 0x1000000000000FF0)
    wire = made(config, 0, 1, [W]) + made(config, 0, 2, [crossing]) + made(config, 0, 3, [mwr(bytes(8))])
    _, b = ends(config)
    opened, status = open_(b, [*wire, IO, b"\xff" * 7, b"\x02\x00"])
    assert codes(status) == ["RELEASED", "MALFORMED", "RELEASED", "PLAIN", "MALFORMED", "MALFORMED"]
    assert status["row"].tolist() == [0, -1, 1, 2, -1, -1]
    assert opened == [W, mwr(bytes(8)), IO]
    assert (b.state.name, b.error) == ("SECURE", None)


def test_many_ill_formed_ones() -> None:
    _, b = ends()
    bad = bytes.fromhex("02000002 0100000f 00001000")
    wire = [bad if i % 3 else IO for i in range(60)]
    opened, status = open_(b, wire)
    assert opened == [IO] * 20
    assert codes(status) == ["MALFORMED" if i % 3 else "PLAIN" for i in range(60)]
    assert status["row"][::3].tolist() == list(range(20))


# --- Other streams, no stream ------------------------------------------------------------------------------


def test_misrouted() -> None:
    config = StreamConfig()
    wire = forge(key_of(config, 0), 1, [W], [word(stream_id=9)])
    for damaged in (wire[0], wire[0][:-3], word(6, stream_id=9) + wire[0][4:], wire[0][:6]):
        a, b = ends(config)
        good, _ = seal(a, [W])
        opened, status = open_(b, [damaged, *good])
        assert codes(status) == ["MISROUTED", "RELEASED"]
        assert status["reason"][0] == 2
        assert opened == [W]
        assert (b.state.name, b.error, b.errors) == ("SECURE", Error.MISROUTED_IDE_TLP, ((29, 2),))
        assert b.pending_messages() == []
    # What ends the stream comes first among its errors.
    open_(b, [good[0]])
    assert b.error is Error.IDE_CHECK_FAILED
    assert [error for error, _ in b.errors] == [29, 28]


def test_plain_tlps_pass_a_selective_stream() -> None:
    a, b = ends()
    wire, _ = seal(a, [W])
    tlps = [IO, W, *wire, R, C]
    opened, status = open_(b, tlps)
    assert codes(status) == ["PLAIN", "PLAIN", "RELEASED", "PLAIN", "PLAIN"]
    assert opened == [IO, W, W, R, C]
    batch, _ = open_stream(b"".join([IO, R]), b)
    assert batch.marks["protected"].tolist() == [0, 0]
    # Before and after too.
    b.disable()
    assert codes(open_(b, [IO, W])[1]) == ["PLAIN", "PLAIN"]


def test_plain_tlps_on_a_link_stream() -> None:
    """Until the first IDE TLP of their sub-stream, then no more; other traffic classes are other streams'."""
    a, b = ends(kind="link")
    assert codes(open_(b, [W, R, C])[1]) == ["PLAIN"] * 3
    wire, _ = seal(a, [W])
    opened, status = open_(b, [W, *wire, W, R, C, mwr(bytes(4), tc=1)])
    assert codes(status) == ["PLAIN", "RELEASED", "DISCARDED_PLAIN", "PLAIN", "PLAIN", "PLAIN"]
    assert opened == [W, W, R, C, mwr(bytes(4), tc=1)]
    assert b.state.name == "SECURE"
    wire, _ = seal(a, [R, C])
    assert codes(open_(b, [*wire, R, C, IO, W])[1]) == ["RELEASED"] * 2 + ["DISCARDED_PLAIN"] * 4
    b.tamper()
    assert codes(open_(b, [R])[1]) == ["DISCARDED_PLAIN"]
    b.reset()
    assert codes(open_(b, [W, R])[1]) == ["PLAIN", "PLAIN"]


# --- Units across calls, order of release -------------------------------------------------------------------


def test_held_across_calls() -> None:
    a, b = ends(aggregation=(8, 8, 8), pcrc=True)
    tlps = [mwr(bytes([i]) * 64, tag=i) for i in range(5)]
    wire, _ = seal(a, tlps)
    for tlp in wire[:4]:
        opened, status = open_(b, [tlp])
        assert (opened, codes(status)) == ([], ["HELD"])
        assert status["row"].tolist() == [-1]
    batch, status = open_stream(wire[4], b)
    assert tlps_of(batch) == tlps
    assert codes(status) == ["RELEASED"]
    assert status["row"].tolist() == [4]
    assert batch.marks["wire_index"].tolist() == [-1] * 4 + [0]
    assert batch.marks["counter"].tolist() == [1] * 5
    assert b._held == []
    assert codes(open_(b, seal(a, [W])[0])[1]) == ["RELEASED"]


def test_what_completes_behind_an_open_posted_unit_waits() -> None:
    a, b = ends(aggregation=(2, 2, 2))
    wire, _ = seal(a, [W, C, R, mrd(tag=9), cpld(bytes(4)), mwr(bytes(4))])
    # W0 C0 R0 R1 C1 W1: reads and completions are complete before the writes are.
    opened, status = open_(b, wire[:4])
    assert (opened, codes(status)) == ([], ["HELD"] * 4)
    opened, status = open_(b, [IO])
    assert (opened, codes(status)) == ([IO], ["PLAIN"])
    opened, status = open_(b, [wire[4]])
    assert (opened, codes(status)) == ([], ["HELD"])
    batch, status = open_stream(b"".join([wire[5], IO]), b, cuts([wire[5], IO]))
    assert tlps_of(batch) == [W, mwr(bytes(4)), R, mrd(tag=9), C, cpld(bytes(4)), IO]
    assert codes(status) == ["RELEASED", "PLAIN"]
    assert status["row"].tolist() == [1, 6]
    assert batch.marks["wire_index"].tolist() == [-1, 0, -1, -1, -1, -1, 1]
    assert batch.marks["sub_stream"].tolist() == [0, 0, 1, 1, 2, 2, 0]
    # Nothing waits any more, and the next come through.
    assert len(open_(b, seal(a, [R, W])[0])[0]) == 2


def test_what_waits_is_lost_with_the_stream() -> None:
    a, b = ends(aggregation=(2, 2, 2))
    wire, _ = seal(a, [W, R, W])
    assert codes(open_(b, wire[:2])[1]) == ["HELD", "HELD"]
    opened, status = open_(b, [wire[2][:-1] + bytes([wire[2][-1] ^ 1]), IO])
    assert (opened, codes(status)) == ([IO], ["REJECTED", "PLAIN"])
    assert (b._held, b._waiting) == ([], [])


@pytest.mark.parametrize("call", ["disable", "tamper", "link_down", "reset", "receive_fail"])
def test_what_is_held_is_lost_when_the_stream_ends(call: str) -> None:
    a, b = ends(aggregation=(2, 2, 2))
    wire, _ = seal(a, [W, R, W])
    open_(b, wire[:2])
    getattr(b, call)()
    assert (b._held, b._waiting) == ([], [])
    assert codes(open_(b, wire[2:])[1]) == ["DROPPED"]


def test_a_key_set_stopped_under_an_open_unit() -> None:
    a, b = ends(aggregation=(2, 2, 2))
    wire, _ = seal(a, [W, W])
    open_(b, wire[:1])
    b.stop(0)
    rejected(b, wire[1:], "KEY_STOPPED")


# --- The call ---------------------------------------------------------------------------------------------


def test_status_and_marks() -> None:
    a, b = ends(stream_id=4)
    refresh(a, b, 1)
    wire, _ = seal(a, [R, W, C], tee=np.array([1, 0, 1], bool))
    batch, status = open_stream(b"".join(wire), b)
    assert status.dtype == OPENED
    assert status["k"].tolist() == [1, 1, 1]
    assert status["t"].tolist() == batch.marks["t"].tolist() == [1, 0, 1]
    assert status["sub_stream"].tolist() == batch.marks["sub_stream"].tolist() == [1, 0, 2]
    assert status["counter"].tolist() == batch.marks["counter"].tolist() == [1, 1, 1]
    assert batch.marks["wire_index"].tolist() == status["row"].tolist() == [0, 1, 2]
    assert batch.tlps["ide"].tolist() == [0, 0, 0]
    assert batch == batch_of([R, W, C])


def test_framing_is_optional() -> None:
    a, b = ends(aggregation=(4, 4, 4), pcrc=True)
    tlps = [W, R, W, W, C, cpl(), W, IO]
    wire, _ = seal(a, tlps)
    batch, status = open_stream(np.frombuffer(b"".join(wire), np.uint8), b)
    assert sorted(tlps_of(batch)) == sorted(tlps)
    assert len(status) == 8
    wire, _ = seal(a, tlps)
    batch, _ = open_stream(memoryview(b"".join(wire)), b)
    assert len(batch.tlps) == 8


def test_the_wire_is_not_changed() -> None:
    a, b = ends()
    data = np.frombuffer(b"".join(seal(a, [W, R])[0]), np.uint8).copy()
    before = data.copy()
    open_stream(data, b)
    assert (data == before).all()
    wide = np.zeros((4, 2), np.uint8)
    for bad in (wide, np.zeros(4, np.int64)):
        with pytest.raises(MisuseError, match="expected bytes"):
            open_stream(bad, b)


@pytest.mark.parametrize(
    "offsets", [[], [0, 1], [1, 84], [0, 90, 84], [0.0, 84.0], [[0, 84]], [-1, 84], [0, 85]]
)
def test_bad_framing_is_the_callers_mistake(offsets: Any) -> None:
    a, b = ends()
    data = b"".join(seal(a, [mwr(bytes(52))])[0])
    assert len(data) == 84
    with pytest.raises(MisuseError):
        open_stream(data, b, offsets)
    assert b.counter("rx", 0, 0) == 1
    assert codes(open_stream(data, b, [0, 84])[1]) == ["RELEASED"]


def test_an_exception_in_between_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from sevpcie_core.ide import open as module

    a, b = ends(aggregation=(2, 2, 2))
    wire, _ = seal(a, [W, W, R])
    open_(b, wire[:1])

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "open_batch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            open_(b, wire[1:])
    opened, _ = open_(b, wire[1:])
    assert opened == [W, W, R]


def test_flit_mode_rules() -> None:
    batch = batch_of([W, R, C])
    tlps = tlps_of(Batch(batch.tlps, batch.pool, True))
    a, b = ends(flit=True)
    wire, _ = seal(a, tlps)
    # The codec's own header without OHC-C, and one whose OHC-C says "no IDE TLP".
    plain = wire[0][:19] + b"\x70" + wire[0][20:84]
    plain = plain[:2] + bytes([plain[2] & 0x1F]) + plain[3:]
    opened, status = open_(b, [tlps[0], plain, *wire])
    assert codes(status) == ["PLAIN", "PLAIN", "RELEASED", "RELEASED", "RELEASED"]
    assert opened[0] == tlps[0]
    assert opened[2:] == tlps
    for place, value, reason in (
        (2, wire[0][2] & 0x1F | 1 << 5, "LENGTH"),  # TS says ECRC
        (2, wire[0][2] & 0x1F, "LENGTH"),  # TS says nothing
        (18, 9, None),  # Stream ID
        (19, 0x39, "SUB_STREAM"),
        (19, 0x19, "SUB_STREAM_TYPE"),
        (1, wire[0][1] | 0xE0, "TRAFFIC_CLASS"),
        (16, 7, "MAC"),  # requester segment
        (70, wire[0][70] ^ 1, "MAC"),
    ):
        _, b = ends(flit=True)
        bad = wire[0][:place] + bytes([value]) + wire[0][place + 1 :]
        assert codes(open_(b, [bad])[1]) == ["REJECTED" if reason else "MISROUTED"]
        assert b.reason.name == (reason or "NONE")
    for size in (1, 3, 4, 15, 19):
        _, b = ends(flit=True)
        assert codes(open_(b, [wire[0][:size]])[1]) == ["MALFORMED"]


def test_what_waits_is_nobodys_to_read() -> None:
    """What is open behind a posted unit stands neither beside the pool nor, once dropped, anywhere."""
    a, b = ends(aggregation=(1, 2, 1))
    secret = bytes(range(200, 232))
    wire, _ = seal(a, [W, cpld(secret), W])
    assert len(wire) == 3
    half, done, last = wire
    batch, status = open_stream(half + done, b, [0, len(half), len(half) + len(done)])
    assert codes(status) == ["HELD", "HELD"]
    base: Any = batch.pool
    while base.base is not None:
        base = base.base
    assert secret not in np.asarray(base).tobytes()
    [waiting] = b._waiting
    kept = waiting.data
    assert secret in kept.tobytes()
    _, status = open_(b, [last[:-1] + bytes([last[-1] ^ 1])])
    assert codes(status) == ["REJECTED"]
    assert not kept.any()


def test_an_interrupted_call_can_be_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is interrupted, as long as the state has not changed."""
    import sevpcie_core.ide.open as module

    for name in ("open_batch", "settle", "_decode", "_apply"):
        a, b = ends()
        wire, _ = seal(a, [W, R])

        def stop(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(module, name, stop)
            with pytest.raises(KeyboardInterrupt):
                open_(b, wire)
        assert codes(open_(b, wire)[1]) == ["RELEASED", "RELEASED"], name


def test_disabling_takes_the_keys_of_a_stream_that_failed() -> None:
    _, b = ends()
    b.tamper()
    b._halves["rx"].slots["state"] = Slot.STARTED
    b.disable()
    assert all(b.slot("rx", sub, 0) is Slot.EMPTY for sub in range(3))


@pytest.mark.parametrize("tail", ["good", "bad MAC", "held"])
def test_a_completion_of_another_ends_the_stream_whatever_follows(tail: str) -> None:
    """T = 1 where the request had T = 0: the first failure counts, and nothing behind it is released."""
    a, b = ends(aggregation=(1, 2, 1) if tail == "held" else (1, 1, 1))
    tags = TagTable([0x0100], Interfaces([a.config.stream_id]))
    tags.issue([0x0100], [6], interface=[-1], tee=[False], stream=[a.config.stream_id])
    wire, _ = seal(a, [cpld(bytes(16)), W, W], tee=np.array([True, False, False]))
    if tail == "bad MAC":
        wire[-1] = wire[-1][:-1] + bytes([wire[-1][-1] ^ 1])
    elif tail == "held":
        wire = wire[:2]
    batch, status = open_(b, wire, tags=tags)
    assert codes(status) == ["REJECTED"] + ["DROPPED"] * (len(wire) - 1)
    assert [r.name for r in map(Reason, status["reason"].tolist())] == ["COMPLETION"] + ["NONE"] * (
        len(wire) - 1
    )
    assert len(batch) == 0
    assert (b.state, b.reason) == (State.INSECURE, Reason.COMPLETION)
    assert len(b.errors) == 1


def test_what_came_out_equals_what_went_in() -> None:
    """As batches, wherever the bytes lie; the marks are not part of it."""
    first, second = (open_stream(b"".join(seal(a, [W, W])[0]), b)[0] for a, b in (ends(), ends()))
    other, _ = open_stream(b"".join(seal((pair := ends())[0], [W])[0]), pair[1])
    assert first == second
    assert first == batch_of([W, W])
    assert batch_of([W, W]) == first
    assert first != other
