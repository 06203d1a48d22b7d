"""Random programs of TLPs, sealed and opened by the package and by the plain oracle: every byte and every
word of their verdicts agree, on what was sealed and on what somebody did to it on the way.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from oracles import tlp_naive
from oracles.ide_bytes import Receiver, Rules, Sender
from oracles.ide_tlps import (
    cuts,
    ends,
    keys_of,
    open_,
    profile_named,
    program,
    receiver,
    rules_of,
    seal,
    seal_codes,
    sender,
    tlps,
)
from tlp_strategies import tlps as naive_tlps

from sevpcie_core.crypto import backends
from sevpcie_core.ide import Profile, State, Stream, StreamConfig, open_stream
from sevpcie_core.tlp.codec import pack

SLOW = settings(max_examples=150, suppress_health_check=list(HealthCheck))

SIZES = (1, 2, 4, 8)
PROFILES = ("pcie-ide", "sev-pcie", Profile("sub-streams in the nonce", 128, iv_fixed="substream"))
SHORT_LIVED = Profile("short-lived", 256, soft_limit=2, hard_limit=3)


@st.composite
def configs(draw: Any, flit: bool = False) -> StreamConfig:
    profile = draw(st.sampled_from((*PROFILES, *PROFILES, SHORT_LIVED)))
    aggregation = draw(st.just((1, 1, 1)) | st.tuples(*[st.sampled_from(SIZES)] * 3))
    return StreamConfig(
        profile,
        stream_id=draw(st.sampled_from((0, 1, 0xA5, 255))),
        kind=draw(st.sampled_from(("selective", "link"))),
        tc=draw(st.sampled_from((0, 0, 0, 3))),
        pcrc=draw(st.booleans()),
        aggregation=aggregation,
        accept_aggregation=draw(st.sampled_from((None, None, (True, True, True)))),
        tolerate_eighth=draw(st.booleans()),
        phe=draw(st.integers(0, 4)),
        flit=flit,
        config_requests=draw(st.booleans()),
        tee_limited=draw(st.integers(0, 7)) == 0,
        partner=0x0210,
        segment=draw(st.sampled_from((0, 0x5C))),
    )


@st.composite
def flit_tlps(draw: Any) -> bytes:
    """Draw a TLP of flit mode without OHC-C and without ECRC, mostly of traffic class 0."""
    fields = draw(naive_tlps(flit=True))
    keeps = draw(st.integers(0, 15))
    if keeps != 1:
        fields["tc"] = 3 if keeps == 2 else 0
        if fields["kind"] in (0x02, 0x42, 0x04, 0x44, 0x05, 0x45):
            fields["tc"] = 0
        fields["ts"], fields["td"], fields["ecrc"], fields["trailer"] = 0, 0, 0, b""
    if fields["ts"] in (5, 6):
        fields["ts"], fields["trailer"] = 0, b""
    fields["ohc"] &= ~4
    fields["ide"] = 0
    if fields["code"] == 0x54:
        fields["code"] = 0x53
    return tlp_naive.write(fields, flit=True)


@dataclass
class Call:
    """One call of seal_stream; fresh keys before it, if `rekey`."""

    tlps: list[bytes]
    rekey: bool
    flags: dict[str, Any] = field(default_factory=dict)


@st.composite
def programs(draw: Any, flit: bool = False, most_calls: int = 3) -> tuple[StreamConfig, list[Call]]:
    config = draw(configs(flit))
    calls = []
    for i in range(draw(st.integers(1, most_calls))):
        found = draw(st.lists(flit_tlps() if flit else tlps(), max_size=8))
        # Bursts are what aggregation is about.
        if found and draw(st.booleans()):
            found += [found[draw(st.integers(0, len(found) - 1))]] * draw(st.integers(1, 9))
        bits = st.lists(st.integers(0, 5).map(lambda x: x == 0), min_size=len(found), max_size=len(found))
        tee = [not bit for bit in draw(bits)] if config.tee_limited else draw(bits)
        flags = {"alone": draw(bits), "tee": tee, "sync": draw(st.integers(0, 5)) == 0}
        if draw(st.integers(0, 3)) == 0:
            flags["protect"] = draw(st.lists(st.booleans(), min_size=len(found), max_size=len(found)))
        calls.append(Call(found, i > 0 and draw(st.booleans()), flags))
    return config, calls


class KeySets:
    """Which key set comes next, and how often each was filled."""

    def __init__(self) -> None:
        self.k = 0
        self.generations = [0, 0]

    def next(self) -> tuple[int, int]:
        self.k = 1 - self.k
        if self.k == 1 and self.generations[1] == 0 and not hasattr(self, "_one"):
            self._one = True
        else:
            self.generations[self.k] += 1
        return self.k, self.generations[self.k]


def refresh_sender(a: Stream, plain: Sender, k: int, generation: int) -> None:
    a.stop(k)
    program(a, "rx", k, generation)
    program(a, "tx", k, generation)
    plain.go(k, keys_of(a.config, k, generation))


def refresh_receiver(b: Stream, plain: Receiver, k: int, generation: int) -> None:
    assert (b.state is State.SECURE) == plain.secure
    if not plain.secure:
        return
    b.stop(k)
    plain.stop(k)
    program(b, "rx", k, generation, far=True)
    plain.start(k, keys_of(b.config, k, generation))


def check_seal(a: Stream, plain: Sender, call: Call) -> list[bytes]:
    """Seal with both, compare, and return what goes out."""
    wire, status = seal(a, call.tlps, **call.flags)
    expected, rows = plain.seal(call.tlps, **call.flags)
    assert seal_codes(status) == [row.code for row in rows]
    assert status["wire_index"].tolist() == [row.wire_index for row in rows]
    for name in ("sub_stream", "k", "t", "m", "p", "pr_sent", "counter"):
        got = [int(row[name]) for row, sent in zip(status, rows, strict=True) if sent.code == "SEALED"]
        assert got == [getattr(sent, name) for sent in rows if sent.code == "SEALED"], name
    numbers = {}
    for row, sent in zip(status, rows, strict=True):
        if sent.code == "SEALED":
            assert row["unit"] >= 0
            assert numbers.setdefault(int(row["unit"]), sent.unit) == sent.unit
        else:
            assert row["unit"] == -1
    assert len(set(numbers.values())) == len(numbers)
    assert [tlp.hex() for tlp in wire] == [tlp.hex() for tlp in expected]
    return wire


def check_open(b: Stream, plain: Receiver, wire: list[bytes]) -> None:
    """Open with both and compare."""
    outcome = open_(b, wire)
    released, rows = plain.open(wire)
    note(f"{outcome.codes} {outcome.reasons}")
    note(f"{[row.code for row in rows]} {[row.reason for row in rows]}")
    assert outcome.codes == [row.code for row in rows]
    telling = ("REJECTED", "MISROUTED", "RELEASED", "PLAIN", "SYNC")
    for code, reason, row in zip(outcome.codes, outcome.reasons, rows, strict=True):
        if code in telling:
            assert reason == row.reason, code
    assert outcome.released == released
    places = {item.wire_index: place for place, item in enumerate(released)}
    assert outcome.status["row"].tolist() == [places.get(i, -1) for i in range(len(wire))]
    for name in ("sub_stream", "k", "t", "counter"):
        got = [
            int(row[name])
            for row, code in zip(outcome.status, outcome.codes, strict=True)
            if code in ("RELEASED", "SYNC")
        ]
        assert got == [getattr(row, name) for row in rows if row.code in ("RELEASED", "SYNC")], name
    assert (b.state is State.SECURE) == plain.secure
    assert b.reason.name == plain.reason
    assert [(error.name, reason.name) for error, reason in b.errors] == plain.errors
    assert len(b.pending_messages()) == plain.fails_queued
    plain.fails_queued = 0


# --- Honest wires ----------------------------------------------------------------------------------------


def run_honest(config: StreamConfig, calls: list[Call]) -> None:
    a, b = ends(config)
    plain_a, plain_b = sender(config), receiver(config)
    sets = KeySets()
    for call in calls:
        if call.rekey:
            k, generation = sets.next()
            refresh_sender(a, plain_a, k, generation)
            refresh_receiver(b, plain_b, k, generation)
        wire = check_seal(a, plain_a, call)
        check_open(b, plain_b, wire)
        # Everything that could be sealed comes out again.
        assert b.state is State.SECURE


@SLOW
@given(programs())
def test_honest(program: tuple[StreamConfig, list[Call]]) -> None:
    run_honest(*program)


@SLOW
@given(programs(flit=True))
def test_honest_in_flit_mode(program: tuple[StreamConfig, list[Call]]) -> None:
    run_honest(*program)


@pytest.mark.parametrize("backend", backends.available())
def test_honest_on_every_backend(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(backends.VARIABLE, backend)
    backends.default.cache_clear()
    try:
        assert backends.default().name == backend
        settings(max_examples=25, suppress_health_check=list(HealthCheck))(given(programs())(_honest))()
    finally:
        backends.default.cache_clear()


def _honest(program: tuple[StreamConfig, list[Call]]) -> None:
    run_honest(*program)


# --- Wires that somebody worked on -------------------------------------------------------------------------

MUTATIONS = (
    "flip",
    "flip",
    "flip in front",
    "prefix",
    "drop",
    "duplicate",
    "swap",
    "move",
    "replay",
    "truncate",
    "extend",
    "foreign",
    "fail",
    "cut",
)


@st.composite
def attacks(draw: Any) -> list[tuple[str, int, int, int]]:
    """Draw mutations: (which, three numbers that say where)."""
    number = st.integers(0, 1 << 16)
    return draw(st.lists(st.tuples(st.sampled_from(MUTATIONS), number, number, number), max_size=3))


def foreign_wire(config: StreamConfig, which: int) -> list[bytes]:
    """Return what some other sender, who means well or not, would put there."""
    rules = rules_of(config)
    keys = keys_of(config)
    which %= 6
    if which == 0:
        rules = replace(rules, stream_id=rules.stream_id ^ 1)
    elif which == 1:
        keys = keys_of(config, direction="ba")
    elif which == 2:
        keys = keys[1:] + keys[:1]
    elif which == 3:
        keys = keys_of(config, 1, 0)
    elif which == 4:
        keys = keys_of(config, 0, 7)
    other = Sender(rules, keys)
    if which == 3:
        other.go(1, keys)
    write = bytes.fromhex("60000001010005 0f0000002200000000 11223344")
    read = bytes.fromhex("20000001010006 0f0000002200000000")
    done = bytes.fromhex("4a00000102000004 01000600 55667788")
    if config.flit:
        write = bytes.fromhex("60000001 01000005 00000022 00000000 11223344")
        read = bytes.fromhex("20000001 01000006 00000022 00000000")
        done = bytes.fromhex("4a000001 02000006 01000040 55667788")
    return other.seal([write, write, read, done], tee=[True] * 4)[0]


def plain_fail(config: StreamConfig) -> bytes:
    kind = 0x34 if config.kind == "link" else 0x32
    return bytes([kind, 0, 0, 0, 2, 0x10, 0, 0x55]) + bytes(4) + bytes([config.stream_id, 0, 0, 0])


def mutate(config: StreamConfig, wires: list[list[bytes]], steps: list[tuple[str, int, int, int]]) -> None:
    """Work on the wire of each call. Modified in place."""
    for what, x, y, z in steps:
        filled = [i for i, wire in enumerate(wires) if wire]
        if not filled:
            return
        wire = wires[filled[x % len(filled)]]
        i = y % len(wire)
        tlp = wire[i]
        if not tlp and what in ("flip", "flip in front", "truncate"):
            # Truncated to nothing before.
            continue
        if what in ("flip", "flip in front"):
            bit = z % (8 * len(tlp) if what == "flip" else min(8 * len(tlp), 192))
            flipped = bytearray(tlp)
            flipped[bit // 8] ^= 0x80 >> bit % 8
            wire[i] = bytes(flipped)
        elif what == "prefix":
            at = tlp.find(b"\x92")
            if 0 <= at <= len(tlp) - 4 and not config.flit:
                wire[i] = tlp[: at + 3] + bytes([z & 0xFF]) + tlp[at + 4 :]
        elif what == "drop":
            del wire[i]
        elif what == "duplicate":
            wire.insert(i, tlp)
        elif what == "swap":
            j = z % len(wire)
            wire[i], wire[j] = wire[j], wire[i]
        elif what == "move":
            wire.insert(z % len(wire), wire.pop(i))
        elif what == "replay":
            target = wires[z % len(wires)]
            target.insert(len(target), tlp)
        elif what == "truncate":
            wire[i] = tlp[: -(1 + z % min(20, len(tlp)))]
        elif what == "extend":
            wire[i] = tlp + bytes(1 + z % 20)
        elif what == "foreign":
            others = foreign_wire(config, z)
            wire.insert(i, others[z // 8 % len(others)])
        elif what == "fail":
            wire.insert(i, plain_fail(config))
        elif what == "cut":
            del wire[i:]


def run_attacked(
    config: StreamConfig, calls: list[Call], steps: list[tuple[str, int, int, int]], parts: int
) -> Stream:
    """Seal with the oracle, work on the wire, open with both, in `parts` calls each."""
    plain_a = sender(config)
    sets = KeySets()
    wires, keys = [], []
    for call in calls:
        fresh = sets.next() if call.rekey else None
        if fresh:
            plain_a.go(fresh[0], keys_of(config, *fresh))
        keys.append(fresh)
        wires.append(plain_a.seal(call.tlps, **call.flags)[0])
    mutate(config, wires, steps)
    _, b = ends(config)
    plain_b = receiver(config)
    for fresh, wire in zip(keys, wires, strict=True):
        if fresh:
            refresh_receiver(b, plain_b, *fresh)
        size = max(1, -(-len(wire) // parts))
        for at in range(0, len(wire), size):
            check_open(b, plain_b, wire[at : at + size])
    return b


@settings(SLOW, max_examples=500)
@given(programs(), attacks(), st.integers(1, 3))
def test_attacked(
    program: tuple[StreamConfig, list[Call]], steps: list[tuple[str, int, int, int]], parts: int
) -> None:
    run_attacked(*program, steps, parts)


@settings(SLOW, max_examples=250)
@given(programs(flit=True), attacks(), st.integers(1, 3))
def test_attacked_in_flit_mode(
    program: tuple[StreamConfig, list[Call]], steps: list[tuple[str, int, int, int]], parts: int
) -> None:
    run_attacked(*program, steps, parts)


@settings(SLOW, max_examples=60)
@given(programs())
def test_without_framing_the_same_is_released(program: tuple[StreamConfig, list[Call]]) -> None:
    """TLPs tell where they end; a header that is hidden in part does so too."""
    config, calls = program
    config = replace(config, tee_limited=False)
    plain_a = sender(config)
    _, b = ends(config)
    _, c = ends(config)
    for call in calls:
        wire, _ = plain_a.seal(call.tlps, **call.flags)
        framed, status = open_stream(b"".join(wire), b, cuts(wire))
        loose, other = open_stream(b"".join(wire), c)
        assert np.array_equal(status, other)
        assert pack(framed)[0].tobytes() == pack(loose)[0].tobytes()


def test_the_oracle_knows_the_vectors_of_the_facts() -> None:
    """Two units sealed by hand with another program; see test_ide_vectors."""
    write = bytes.fromhex("60000010010005ff1122334455667700") + bytes(range(64))
    read = bytes.fromhex("20000010010006ff1122334455667700")
    for bits, macs in (
        (128, ("798b99a698262f5285e18cff", "be5e6273468b6f9125ace001")),
        (256, ("308d5d74fd46fabaa3e2a53d", "a067c48ac37840926279603b")),
    ):
        plain = Sender(Rules(), [bytes(range(bits // 8))] * 3)
        wire, _ = plain.seal([write, read])
        assert [tlp[-12:].hex() for tlp in wire] == list(macs)
        assert wire[0][:20].hex() == "9200010460000010010005ff1122334455667700"
        assert wire[1][:4].hex() == "92010114"


def test_profiles_are_what_the_oracle_takes_them_for() -> None:
    assert profile_named("pcie-ide").key_bits == 256
    assert profile_named("sev-pcie").key_bits == 128
