"""What a receiver must find out, one attack per test, as public text on IDE lists it.

An attacker sees and changes the wire; where a test needs a wire that only a key's owner can make, the
oracle forges it. Every stream here ends INSECURE, or refuses, with nothing altered or repeated released.
"""

import copy
import pickle
import zlib
from collections.abc import Sequence
from typing import Any

import pytest
from oracles.ide_bytes import Rules, Sender, forge, word
from oracles.ide_tlps import (
    Outcome,
    cfgrd1,
    cpl,
    cpld,
    ends,
    filler,
    iord,
    keys_of,
    mrd,
    msg,
    mwr,
    open_,
    profile_named,
    program,
    rules_of,
    seal,
    seal_codes,
)

from sevpcie_core.crypto import backends
from sevpcie_core.errors import MisuseError
from sevpcie_core.ide import Error, Profile, Slot, State, Stream, StreamConfig
from sevpcie_core.ide.tags import TagTable
from sevpcie_core.ide.tdisp import NO_INTERFACE, Interfaces

pytestmark = pytest.mark.nojit

PLAIN = StreamConfig()
W = [mwr(filler(64, i), tag=i) for i in range(6)]
R = [mrd(4, tag=i) for i in range(4)]
C = [cpld(filler(16, i), tag=i) for i in range(4)]


def receive(wire: Sequence[bytes], config: StreamConfig = PLAIN, **more: Any) -> tuple[Stream, Outcome]:
    _, b = ends(config)
    return b, open_(b, wire, **more)


def sealed(tlps: Sequence[bytes], config: StreamConfig = PLAIN, **more: Any) -> list[bytes]:
    a, _ = ends(config)
    wire, status = seal(a, tlps, **more)
    assert set(seal_codes(status)) == {"SEALED"}
    return wire


def is_found(
    wire: Sequence[bytes], released: Sequence[bytes], reason: str, config: StreamConfig = PLAIN
) -> None:
    """Check that a wire brings a stream down for a reason, after the release of what came before."""
    b, outcome = receive(wire, config)
    assert outcome.tlps == list(released)
    assert b.state is State.INSECURE
    assert b.error is Error.IDE_CHECK_FAILED
    assert b.reason.name == reason
    assert outcome.codes.count("REJECTED") == 1
    # The partner is told, once, and not why.
    (fail,) = b.pending_messages()
    assert fail[7] == 0x55
    assert fail[12] == config.stream_id
    assert fail[13:] == bytes(3)
    # Nothing comes through any more, in whatever shape, and the keys are gone.
    assert set(open_(b, list(wire)).codes) <= {"DROPPED", "DISCARDED_PLAIN", "PLAIN", "MALFORMED"}
    assert b.slot("rx", 0, 0) is Slot.EMPTY
    assert seal_codes(seal(b, [W[0]])[1]) == ["DROPPED_INSECURE"]


def flip(tlp: bytes, at: int, mask: int = 1) -> bytes:
    at %= len(tlp)
    return tlp[:at] + bytes([tlp[at] ^ mask]) + tlp[at + 1 :]


# --- Flips -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", backends.available())
@pytest.mark.parametrize(
    ("part", "at"),
    [("PR_Sent of a posted TLP", 1), ("header", 4 + 5), ("payload", 4 + 16 + 3), ("PCRC", -13), ("MAC", -1)],
)
def test_a_flipped_bit(part: str, at: int, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(backends.VARIABLE, backend)
    backends.default.cache_clear()
    try:
        config = StreamConfig(pcrc=True)
        wire = sealed(W[:3], config)
        is_found([wire[0], flip(wire[1], at), wire[2]], W[:1], "MAC", config)
    finally:
        backends.default.cache_clear()


def test_a_flipped_t() -> None:
    wire = sealed(W[:2], tee=[False, True])
    is_found([flip(wire[0], 3, 1), wire[1]], [], "MAC")
    is_found([wire[0], flip(wire[1], 3, 1)], W[:1], "MAC")


def test_a_flipped_k() -> None:
    wire = sealed(W[:2])
    is_found([flip(wire[0], 3, 2), wire[1]], [], "KEY_NOT_STARTED")


def test_a_flipped_k_while_both_key_sets_wait() -> None:
    _, b = ends(PLAIN)
    program(b, "rx", 1, far=True)
    outcome = open_(b, [flip(sealed(W[:1])[0], 3, 2)])
    assert (outcome.codes, outcome.reasons) == (["REJECTED"], ["MAC"])
    assert b.state is State.INSECURE


@pytest.mark.parametrize(
    ("sub", "reason"), [(1, "SUB_STREAM_TYPE"), (2, "SUB_STREAM_TYPE"), (3, "SUB_STREAM"), (7, "SUB_STREAM")]
)
def test_another_sub_stream(sub: int, reason: str) -> None:
    wire = sealed(W[:1])
    is_found([flip(wire[0], 3, sub << 4)], [], reason)


def test_another_stream_id_is_dropped_and_missed() -> None:
    """The TLP is misrouted: an error, no change of state. The next of its sub-stream shows the loss."""
    wire = sealed(W[:3])
    b, outcome = receive([wire[0], flip(wire[1], 2)])
    assert (outcome.codes, b.state) == (["RELEASED", "MISROUTED"], State.SECURE)
    assert b.errors == ((Error.MISROUTED_IDE_TLP, b.errors[0][1]),)
    is_found_later = open_(b, [wire[2]])
    assert is_found_later.codes == ["REJECTED"]
    assert b.state is State.INSECURE


# --- Lengths ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [1, 4, 12, 16, 64])
def test_a_truncated_tlp(lost: int) -> None:
    wire = sealed(W[:2])
    is_found([wire[0][:-lost], wire[1]], [], "LENGTH")


@pytest.mark.parametrize("more", [1, 4, 12, 16])
def test_an_extended_tlp(more: int) -> None:
    wire = sealed(W[:2])
    is_found([wire[0] + bytes(more), wire[1]], [], "LENGTH")


def test_a_shorter_tlp_with_a_length_to_match() -> None:
    wire = sealed(W[:1])
    is_found([flip(wire[0][:-4], 7, 16 ^ 15)], [], "MAC")


# --- What is missing, doubled, moved -----------------------------------------------------------------------


@pytest.mark.parametrize("tlps", [W[:3], R[:3], C[:3]])
def test_a_dropped_tlp(tlps: list[bytes]) -> None:
    wire = sealed(tlps)
    is_found([wire[0], wire[2]], tlps[:1], "MAC")


@pytest.mark.parametrize("tlps", [W[:3], R[:3], C[:3]])
def test_a_doubled_tlp(tlps: list[bytes]) -> None:
    wire = sealed(tlps)
    is_found([wire[0], wire[1], wire[1], wire[2]], tlps[:2], "MAC")


@pytest.mark.parametrize("tlps", [W[:4], R[:4], C[:4]])
def test_a_replayed_tlp(tlps: list[bytes]) -> None:
    wire = sealed(tlps)
    is_found([*wire, wire[0]], tlps, "MAC")


@pytest.mark.parametrize("tlps", [W[:3], R[:3], C[:3]])
def test_swapped_tlps(tlps: list[bytes]) -> None:
    wire = sealed(tlps)
    is_found([wire[0], wire[2], wire[1]], tlps[:1], "MAC")


def test_members_of_a_unit_swapped_dropped_doubled() -> None:
    config = StreamConfig(aggregation=(1, 4, 1))
    w = sealed(W[:4], config)
    is_found([w[1], w[0], w[2], w[3]], [], "MAC", config)
    is_found([w[0], w[1], w[3]], [], "MAC", config)
    is_found([w[0], w[0], w[1], w[2], w[3]], [], "MAC", config)


def test_units_swapped() -> None:
    config = StreamConfig(aggregation=(1, 2, 1))
    w = sealed(W[:4], config)
    is_found([*w[2:], *w[:2]], [], "MAC", config)


@pytest.mark.parametrize(("late", "code"), [(R[0], "non-posted"), (C[0], "completion")])
def test_what_overtakes_a_posted_tlp_is_found_at_once(late: bytes, code: str) -> None:
    """Before anything of the posted sub-stream shows: the counter it carries is more than what came."""
    wire = sealed([W[0], late])
    is_found([wire[1], wire[0]], [], "ORDERING")
    wire = sealed([W[0], late, W[1], W[2], late, W[3]])
    is_found([wire[0], wire[1], wire[2], wire[4], wire[3], wire[5]], [W[0], late, W[1]], "ORDERING")


@pytest.mark.parametrize("late", [R[0], C[0]])
def test_what_overtakes_a_member_of_an_open_unit(late: bytes) -> None:
    config = StreamConfig(aggregation=(1, 4, 1))
    wire = sealed([W[0], W[1], late, W[2]], config)
    assert [tlp[3] & 4 for tlp in wire] == [0, 0, 4, 4]
    is_found([wire[0], wire[2], wire[1], wire[3]], [], "ORDERING", config)


@pytest.mark.parametrize("probe", [R[0], C[0]])
def test_a_dropped_posted_tlp_is_found_by_the_next_that_carries_a_counter(probe: bytes) -> None:
    wire = sealed([W[0], W[1], probe])
    is_found([wire[0], wire[2]], W[:1], "ORDERING")


def test_a_dropped_tail_is_found_by_a_heartbeat() -> None:
    wire = sealed(W[:2], sync=True)
    assert len(wire) == 3
    is_found([wire[0], wire[2]], W[:1], "ORDERING")


# --- From elsewhere --------------------------------------------------------------------------------------


def test_a_tlp_of_another_stream() -> None:
    """Its Stream ID set to this one's: another key."""
    other = Sender(Rules(stream_id=9), keys_of(PLAIN, 0, 3))
    (foreign,), _ = other.seal([W[0]])
    b, outcome = receive([foreign])
    assert (outcome.codes, b.state) == (["MISROUTED"], State.SECURE)
    is_found([foreign[:2] + b"\x01" + foreign[3:]], [], "MAC")


def test_a_tlp_of_the_other_direction() -> None:
    _, b = ends(PLAIN)
    wire, _ = seal(b, [W[0]])
    is_found(wire, [], "MAC")


def test_a_tlp_of_another_sub_stream() -> None:
    """Same kind of TLP, sealed with another sub-stream's key, as if both had one."""
    keys = keys_of(PLAIN)
    (foreign,) = forge(keys[1], 1, [(word(0), W[0])])
    is_found([foreign], [], "MAC")


def test_a_tlp_from_before_the_key_refresh() -> None:
    """K = 0 is 0 again two refreshes later; the counters match, the key does not."""
    a, b = ends(PLAIN)
    old, _ = seal(a, [W[0]])
    assert open_(b, old).codes == ["RELEASED"]
    for k, generation in ((1, 0), (0, 1)):
        for stream, far in ((a, False), (b, True)):
            stream.stop(k)
            program(stream, "rx", k, generation, far)
            if not far:
                program(stream, "tx", k, generation)
        wire, _ = seal(a, [W[1], R[0], C[0]])
        if k == 1:
            assert open_(b, wire).codes == ["RELEASED"] * 3
    outcome = open_(b, old)
    assert (outcome.codes, outcome.reasons) == (["REJECTED"], ["MAC"])
    assert b.state is State.INSECURE


def test_the_old_key_set_after_the_toggle() -> None:
    """Authentic, fresh, next in order, but of the set that its sub-stream has left; others may stay."""
    a, b = ends(PLAIN)
    wire, _ = seal(a, [W[0], R[0], W[1]])
    program(a, "rx", 1)
    program(a, "tx", 1)
    program(b, "rx", 1, far=True)
    new, _ = seal(a, [W[2]])
    # The read was held up, the writes not.
    assert new[0][3] & 2
    outcome = open_(b, [wire[0], *new, wire[1]])
    assert outcome.codes == ["RELEASED"] * 3
    outcome = open_(b, [wire[2]])
    assert (outcome.codes, outcome.reasons) == (["REJECTED"], ["KEY_RETIRED"])
    assert b.state is State.INSECURE


def test_a_stopped_key_set() -> None:
    a, b = ends(PLAIN)
    wire, _ = seal(a, [W[0]])
    b.stop(0)
    outcome = open_(b, wire)
    assert (outcome.codes, outcome.reasons) == (["REJECTED"], ["KEY_STOPPED"])
    assert b.state is State.INSECURE


# --- Units that no honest sender makes ---------------------------------------------------------------------


def test_k_toggled_inside_a_unit() -> None:
    config = StreamConfig(aggregation=(1, 4, 1))
    _, b = ends(config)
    program(b, "rx", 1, far=True)
    wire = forge(keys_of(config)[0], 1, [(word(m=0), W[0]), (word(k=1), W[1])])
    outcome = open_(b, wire)
    assert (outcome.codes, outcome.reasons[1]) == (["DROPPED", "REJECTED"], "K_TOGGLE")
    assert b.state is State.INSECURE


def unit_of(n: int) -> list[bytes]:
    small = [mwr(filler(4, i)) for i in range(n)]
    members = [(word(m=int(i == n - 1)), tlp) for i, tlp in enumerate(small)]
    return forge(keys_of(PLAIN)[0], 1, members)


@pytest.mark.parametrize("tolerate", [False, True])
def test_m_0_eight_and_nine_times_in_a_row(tolerate: bool) -> None:
    config = StreamConfig(aggregation=(1, 8, 1), tolerate_eighth=tolerate)
    _, b = ends(config)
    assert open_(b, unit_of(8)).codes == ["RELEASED"] * 8
    _, b = ends(config)
    eighth = open_(b, unit_of(9))
    assert b.state is (State.SECURE if tolerate else State.INSECURE)
    assert eighth.codes[7] == ("RELEASED" if tolerate else "REJECTED")
    is_found(unit_of(10), [], "AGGREGATION_COUNT", config)


@pytest.mark.parametrize("cut", [1, 4, 8])
def test_m_0_counts_over_calls(cut: int) -> None:
    _, b = ends(StreamConfig(aggregation=(1, 8, 1)))
    wire = unit_of(10)
    codes = open_(b, wire[:cut]).codes + open_(b, wire[cut:]).codes
    assert codes[7] == "REJECTED"
    assert b.reason.name == "AGGREGATION_COUNT"


def test_m_0_without_support() -> None:
    wire = sealed(W[:2], StreamConfig(aggregation=(1, 2, 1)))
    is_found(wire, [], "AGGREGATION")
    # On another sub-stream only.
    is_found(wire, [], "AGGREGATION", StreamConfig(aggregation=(2, 1, 2)))


@pytest.mark.parametrize("sizes", [(1020, 8), (4, 1024), (512, 512, 4)])
def test_a_unit_of_more_than_256_dw(sizes: tuple[int, ...]) -> None:
    config = StreamConfig(aggregation=(1, 4, 1))
    members = [(word(m=int(i == len(sizes) - 1)), mwr(filler(size, i))) for i, size in enumerate(sizes)]
    is_found(forge(keys_of(config)[0], 1, members), [], "AGGREGATION_SIZE", config)


def test_one_large_tlp_that_does_not_close() -> None:
    config = StreamConfig(aggregation=(1, 4, 1))
    members = [(word(m=0), mwr(filler(1028))), (word(), msg())]
    is_found(forge(keys_of(config)[0], 1, members), [], "AGGREGATION_SIZE", config)


def test_pcrc_where_it_may_not_be() -> None:
    key = keys_of(PLAIN)[0]
    crc = zlib.crc32(W[0][16:]).to_bytes(4, "little")
    is_found(forge(key, 1, [(word(p=1), W[0])], pcrc=crc), [], "PCRC_UNEXPECTED")
    config = StreamConfig(pcrc=True)
    # A message without data has nothing to check.
    is_found(forge(key, 1, [(word(p=1), msg())], pcrc=bytes(4)), [], "PCRC_UNEXPECTED", config)


@pytest.mark.parametrize(("p", "reason"), [(0, "PCRC_MISSING"), (1, "PCRC_WRONG")])
def test_pcrc_missing_or_wrong_is_no_check_failed(p: int, reason: str) -> None:
    """Its own error: the unit goes, the stream stays."""
    config = StreamConfig(pcrc=True)
    key = keys_of(config)[0]
    wrong = (zlib.crc32(W[0][16:]) ^ 1).to_bytes(4, "little")
    wire = forge(key, 1, [(word(p=p), W[0])], pcrc=wrong if p else b"")
    crc = zlib.crc32(W[1][16:]).to_bytes(4, "little")
    wire += forge(key, 2, [(word(p=1), W[1])], pcrc=crc)
    b, outcome = receive(wire, config)
    assert outcome.codes == ["PCRC_FAILED", "RELEASED"]
    assert outcome.reasons[0] == reason
    assert outcome.tlps == W[1:2]
    assert b.state is State.SECURE
    assert b.error is Error.PCRC_CHECK_FAILED
    assert b.pending_messages() == []


# --- TLPs that may not be --------------------------------------------------------------------------------


def test_a_plain_tlp_on_a_link_that_has_begun() -> None:
    """Plain TLPs pass until the first IDE TLP of their sub-stream, and not after."""
    config = StreamConfig(kind="link")
    wire = sealed([W[0], R[0]], config)
    b, outcome = receive([W[1], R[1], wire[0], W[2], R[2], C[0], wire[1], R[3], C[1]], config)
    assert outcome.codes == [
        *("PLAIN", "PLAIN", "RELEASED"),
        *("DISCARDED_PLAIN", "PLAIN", "PLAIN", "RELEASED", "DISCARDED_PLAIN", "PLAIN"),
    ]
    assert outcome.tlps == [W[1], R[1], W[0], R[2], C[0], R[0], C[1]]
    assert [item.protected for item in outcome.released] == [False, False, True, False, False, True, False]
    assert b.state is State.SECURE
    # In a later call too.
    assert open_(b, [W[3], R[3], C[3]]).codes == ["DISCARDED_PLAIN", "DISCARDED_PLAIN", "PLAIN"]


def test_a_plain_sync_is_no_sync() -> None:
    """It must be an IDE TLP: a plain one cannot clear counters."""
    sync = msg(0x54, last=bytes([0, 0, 0, 0, 1, 1, 0, 0]), requester=0)
    wire = sealed([W[0], W[1], R[0]])
    b, outcome = receive([wire[0], sync, wire[1], wire[2]])
    assert outcome.codes == ["RELEASED", "DISCARDED_PLAIN", "RELEASED", "RELEASED"]
    assert b.state is State.SECURE


@pytest.mark.parametrize(
    ("tlp", "sub"),
    [
        (iord(), 1),
        (cfgrd1(), 1),
        (msg(routing=3), 0),
        (msg(routing=4), 0),
        (msg(routing=5), 0),
        (b"\x04" + cfgrd1()[1:], 1),
    ],
)
def test_a_forbidden_type_on_a_selective_stream(tlp: bytes, sub: int) -> None:
    """Even if it is authentic."""
    is_found(forge(keys_of(PLAIN)[sub], 1, [(word(sub), tlp)]), [], "TYPE")


def test_an_authentic_tlp_of_another_traffic_class() -> None:
    is_found(forge(keys_of(PLAIN)[0], 1, [(word(), mwr(filler(4), tc=2))]), [], "TRAFFIC_CLASS")


def test_an_authentic_tlp_with_ecrc() -> None:
    """With the four bytes of the digest in place of four of its MAC, so that the length fits."""
    (tlp,) = forge(keys_of(PLAIN)[0], 1, [(word(), mwr(filler(4), td=1))])
    is_found([tlp], [], "ECRC")


def test_two_ide_prefixes_or_one_behind_another_prefix() -> None:
    (tlp,) = forge(keys_of(PLAIN)[0], 1, [(word(), W[0])])
    is_found([word() + tlp], [], "PREFIX")
    is_found([bytes.fromhex("91000001") + tlp], [], "PREFIX")


@pytest.mark.parametrize(("m", "routing"), [(0, 2), (1, 4), (1, 3)])
def test_a_sync_that_goes_on_or_goes_astray(m: int, routing: int) -> None:
    config = StreamConfig(aggregation=(2, 2, 2), kind="selective" if routing == 2 else "link")
    routing = {2: 2, 4: 2, 3: 3}[routing]
    members = [(word(m=m), msg(0x54, routing=routing, last=bytes([0, 0, 0, 0, 1, 1, 0, 0]), requester=0))]
    if not m:
        members.append((word(), W[0]))
    wire = forge(keys_of(config)[0], 1, members, rules=rules_of(config))
    is_found(wire, [], "SYNC", config)


# --- Counters --------------------------------------------------------------------------------------------


def many(n: int) -> list[bytes]:
    key = keys_of(PLAIN)[0]
    return [forge(key, 1 + i, [(word(), mwr(filler(4, i)))])[0] for i in range(n)]


@pytest.mark.parametrize(("sub", "probe"), [(1, R[0]), (2, C[0])])
def test_a_sync_left_out(sub: int, probe: bytes) -> None:
    """A sender that does not send it at 245 carries more than 245 later; less is in order."""
    wire = many(250)
    key = keys_of(PLAIN)[sub]
    for carried, reason in ((245, None), (246, "SYNC_MISSING"), (250, "SYNC_MISSING")):
        _, b = ends(PLAIN)
        outcome = open_(b, [*wire, *forge(key, 1, [(word(sub, pr_sent=carried), probe)])])
        assert outcome.codes[:250] == ["RELEASED"] * 250
        assert outcome.codes[250] == ("REJECTED" if reason else "RELEASED")
        assert b.reason.name == (reason or "NONE")


@pytest.mark.parametrize(("npr", "cpl"), [(247, 246), (246, 247), (255, 0)])
def test_a_sync_that_says_too_much(npr: int, cpl: int) -> None:
    wire = many(260)
    sync = msg(0x54, last=bytes([0, 0, 0, 0, npr, cpl, 0, 0]), requester=0)
    _, b = ends(PLAIN)
    outcome = open_(b, [*wire, *forge(keys_of(PLAIN)[0], 261, [(word(), sync)])])
    assert outcome.codes[260] == "REJECTED"
    assert b.reason.name == "SYNC_MISSING"


def test_a_sync_of_which_too_few_came() -> None:
    """The last posted TLP is held back: the Sync itself is the fourth, and says five."""
    wire = many(3)
    sync = msg(0x54, last=bytes([0, 0, 0, 0, 5, 5, 0, 0]), requester=0)
    wire += forge(keys_of(PLAIN)[0], 4, [(word(), sync)])
    is_found(wire, [mwr(filler(4, i)) for i in range(3)], "ORDERING")


def test_the_sender_syncs_at_245() -> None:
    a, b = ends(PLAIN)
    wire, status = seal(a, [mwr(filler(4, i)) for i in range(600)])
    syncs = [i for i, tlp in enumerate(wire) if tlp[4] == 0x32]
    assert syncs == [245, 491]
    for i in syncs:
        assert wire[i][4 + 12 : 4 + 14] == bytes([246, 246])
    assert status["wire_index"].tolist() == [i for i in range(602) if i not in syncs]
    outcome = open_(b, wire)
    assert [i for i, code in enumerate(outcome.codes) if code == "SYNC"] == syncs
    assert len(outcome.tlps) == 600
    # Without it, the next read tells: 246 and 109 are more than what is left of 355.
    _, b = ends(PLAIN)
    open_(b, wire[:245])
    assert open_(b, wire[246:250]).reasons[0] == "MAC"


def test_an_initial_value_other_than_1() -> None:
    stream = Stream(PLAIN)
    for ifv in (0, 2, 1 << 63):
        with pytest.raises(MisuseError, match="ifv"):
            stream.program("tx", 0, 0, bytes(32), ifv)
    assert stream.slot("tx", 0, 0) is Slot.EMPTY


def test_a_wire_that_starts_with_another_counter() -> None:
    for counter in (0, 2):
        is_found(forge(keys_of(PLAIN)[0], counter, [(word(), W[0])]), [], "MAC")


# --- Nonces ----------------------------------------------------------------------------------------------


def test_no_nonce_twice() -> None:
    """Whatever is asked of a stream: no key twice, no copy, no way back for a counter."""
    a, b = ends(PLAIN)
    seal(a, W[:3])
    assert a.counter("tx", 0, 0) == 4
    for key in keys_of(PLAIN) + keys_of(PLAIN, direction="ba"):
        for direction in ("tx", "rx"):
            for sub in range(3):
                with pytest.raises(MisuseError):
                    a.program(direction, sub, 1, key)  # type: ignore[arg-type]
    for double in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(MisuseError):
            double(a)
    for revive in (lambda: a.go("tx", 0), lambda: a.program("tx", 0, 0, bytes(32))):
        with pytest.raises(MisuseError):
            revive()
    a.disable()
    with pytest.raises(MisuseError):
        a.enable()
    for key in keys_of(PLAIN):
        with pytest.raises(MisuseError):
            a.program("tx", 0, 0, key)
    assert seal_codes(seal(a, [W[0]])[1]) == ["DROPPED_INSECURE"]
    assert seal_codes(seal(b, [W[0]])[1]) == ["SEALED"]


def test_one_key_for_two_slots_of_a_stream() -> None:
    stream = Stream(PLAIN)
    stream.program("tx", 0, 0, bytes(range(32)))
    for direction, sub, k in (("tx", 1, 0), ("tx", 0, 1), ("rx", 0, 0)):
        with pytest.raises(MisuseError):
            stream.program(direction, sub, k, bytes(range(32)))  # type: ignore[arg-type]


def test_a_failed_call_costs_counters_and_repeats_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt while bytes are being sealed: what was planned is lost."""
    a, _ = ends(PLAIN)
    before = a.counter("tx", 0, 0)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sevpcie_core.ide.seal.seal_batch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            seal(a, W[:3])
    assert a.counter("tx", 0, 0) == before + 3
    _, status = seal(a, [W[3]])
    assert status["counter"].tolist() == [before + 3]


LIMITED = StreamConfig(Profile("limited", 256, soft_limit=2, hard_limit=3))


def test_the_counter_stops_at_the_hard_limit() -> None:
    a, b = ends(LIMITED)
    assert a.remedy(0) == "continue"
    wire, status = seal(a, W[:2])
    assert a.remedy(0) == "rotate"
    more, status = seal(a, W[2:5])
    assert seal_codes(status) == ["SEALED", "REFUSED_COUNTER", "REFUSED_COUNTER"]
    assert a.remedy(0) == "refuse"
    assert a.remedy(1) == "continue"
    # Nothing of what was refused is on the wire, in whatever form.
    assert len(more) == 1
    assert open_(b, [*wire, *more]).codes == ["RELEASED"] * 3
    assert seal(a, W[:1])[0] == []
    assert a.counter("tx", 0, 0) == 4


def test_a_peer_that_goes_on_behind_the_hard_limit() -> None:
    keys = keys_of(LIMITED)
    wire = [forge(keys[0], 1 + i, [(word(), W[i])])[0] for i in range(4)]
    is_found(wire, W[:3], "COUNTER", LIMITED)


def test_the_last_counter_there_is() -> None:
    """The counters of 64 bits stand one before the end; the key is spent, and nothing wraps."""
    a, b = ends(PLAIN)
    last = profile_named("pcie-ide").hard_limit
    assert last == (1 << 64) - 2
    for stream, direction in ((a, "tx"), (b, "rx")):
        stream._halves[direction].slots[0]["counter"] = last
    wire, status = seal(a, W[:3])
    assert seal_codes(status) == ["SEALED", "REFUSED_COUNTER", "REFUSED_COUNTER"]
    assert status["counter"].tolist()[0] == last
    assert wire == forge(keys_of(PLAIN)[0], last, [(word(), W[0])])
    assert open_(b, wire).codes == ["RELEASED"]
    # What another sender would make with the next number, and with 0 and 1.
    for counter in (last + 1, 0, 1):
        _, c = ends(PLAIN)
        c._halves["rx"].slots[0]["counter"] = last + 1
        outcome = open_(c, forge(keys_of(PLAIN)[0], counter, [(word(), W[1])]))
        assert (outcome.codes, outcome.reasons) == (["REJECTED"], ["COUNTER"])


@pytest.mark.parametrize("name", ["posted_npr", "posted_cpl"])
def test_the_ordering_counters_do_not_wrap(name: str) -> None:
    wire = sealed(W[:2])
    _, b = ends(PLAIN)
    b._rx[0][name] = (1 << 64) - 2
    outcome = open_(b, wire)
    assert outcome.codes == ["RELEASED", "REJECTED"]
    assert b.reason.name == "ORDERING_OVERFLOW"
    assert b.state is State.INSECURE


# --- Completions -----------------------------------------------------------------------------------------


def table(stream: int, tee: bool = False) -> TagTable:
    tags = TagTable([0x0100], Interfaces([stream]))
    tags.issue(0x0100, 6, interface=NO_INTERFACE, tee=tee, stream=stream)
    return tags


@pytest.mark.parametrize(
    ("stream", "code", "reason"),
    [(1, "RELEASED", "NONE"), (2, "REJECTED", "COMPLETION")],
)
def test_a_completion_on_another_stream_than_its_request(stream: int, code: str, reason: str) -> None:
    done = cpl(tag=6)
    b, outcome = receive(sealed([done]), tags=table(stream))
    assert (outcome.codes, outcome.reasons) == ([code], [reason])
    assert b.state is (State.SECURE if code == "RELEASED" else State.INSECURE)


def test_a_completion_that_nobody_waits_for() -> None:
    b, outcome = receive(sealed([cpl(tag=7), cpl(tag=6)]), tags=table(1))
    assert outcome.codes == ["UNEXPECTED", "RELEASED"]
    assert b.state is State.SECURE
