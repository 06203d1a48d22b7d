"""The protected stream, slowly: bytes in, bytes out, one TLP after another, as docs/stream.md words it.

Rule: nothing of the package is used here, and nothing of its structure: no plan, no batch, no offsets.
Headers are long numbers, units are lists, and AES-GCM is `cryptography`'s. What is ill-formed is decided by
the plain codec (`oracles.tlp_naive`).
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from . import tlp_naive

POSTED, NON_POSTED, COMPLETION = range(3)
SYNC, FAIL = 0x54, 0x55
MAC_BYTES, PCRC_BYTES = 12, 4
SYNC_AT = 245
UNIT_BYTES = 256 * 4
MOST_CLEAR = 56

_SUB_STREAMS = {
    POSTED: "40 60 30 31 32 33 34 35 70 71 72 73 74 75",
    NON_POSTED: "00 20 01 21 5b 7b 4c 6c 4d 6d 4e 6e 02 42 04 44 05 45",
    COMPLETION: "0a 4a 0b 4b",
}
SUB_STREAM = {byte: sub for sub, text in _SUB_STREAMS.items() for byte in bytes.fromhex(text)}
# Kinds that a Selective stream never carries, and those that it carries on request.
NOT_SELECTIVE = bytes.fromhex("02 42 04 44 33 34 35 73 74 75")
ON_REQUEST = bytes.fromhex("05 45")
ATOMIC = bytes.fromhex("4c 6c 4d 6d 4e 6e")
MEMORY = bytes.fromhex("00 20 01 21 40 60 5b 7b") + ATOMIC
TAGGED = bytes.fromhex("00 20 01 21 5b 7b")


@dataclass(frozen=True)
class Rules:
    """What both ends know: fields of a StreamConfig and its Profile, by sub-stream where there are three."""

    stream_id: int = 1
    link: bool = False
    tc: int = 0
    pcrc: bool = False
    most_tlps: tuple[int, int, int] = (1, 1, 1)
    accepts: tuple[bool, bool, bool] = (False, False, False)
    tolerate_eighth: bool = False
    phe: int = 0
    flit: bool = False
    config_requests: bool = False
    tee_limited: bool = False
    requester: int = 0x0100
    partner: int = 0
    segment: int = 0
    iv_fixed: str = "zeros"
    hard_limit: int = (1 << 64) - 2

    @classmethod
    def of(cls, config: Any, profile: Any) -> "Rules":
        """Return the rules of a StreamConfig whose profile is `profile`."""
        npr, posted, cpl = config.aggregation
        accepts = config.accept_aggregation or tuple(n > 1 for n in config.aggregation)
        same = (
            "stream_id tc pcrc tolerate_eighth phe flit config_requests tee_limited requester partner segment"
        )
        return cls(
            link=config.kind == "link",
            most_tlps=(posted, npr, cpl),
            accepts=(bool(accepts[1]), bool(accepts[0]), bool(accepts[2])),
            iv_fixed=profile.iv_fixed,
            hard_limit=profile.hard_limit,
            **{name: getattr(config, name) for name in same.split()},
        )


# --- The cipher ------------------------------------------------------------------------------------------


@cache
def _cipher(key: bytes) -> AESGCM:
    return AESGCM(key)


def nonce(rules: Rules, sub: int, counter: int) -> bytes:
    fixed = sub << 28 if rules.iv_fixed == "substream" else 0
    return fixed.to_bytes(4, "big") + counter.to_bytes(8, "big")


def gcm_seal(key: bytes, iv: bytes, aad: bytes, text: bytes) -> tuple[bytes, bytes]:
    """Return (ciphertext, the first 12 bytes of the tag)."""
    sealed = _cipher(key).encrypt(iv, text, aad)
    return sealed[: len(text)], sealed[len(text) :][:MAC_BYTES]


def gcm_open(key: bytes, iv: bytes, aad: bytes, text: bytes, mac: bytes) -> bytes | None:
    """Return the plaintext, or None if the MAC is another. `cryptography` opens 16-byte tags only."""
    stream = _cipher(key).encrypt(iv, bytes(len(text)), b"")
    plain = bytes(a ^ b for a, b in zip(text, stream, strict=False))
    return plain if gcm_seal(key, iv, aad, plain) == (text, mac) else None


# --- Reading a TLP ---------------------------------------------------------------------------------------


@dataclass
class Parts:
    """A TLP cut into its parts. `kind` is -1 if its header's first byte is not there or tells no length."""

    raw: bytes
    local: bytes = b""
    ide: bytes | None = None
    ends: list[bytes] = field(default_factory=list)  # all End-End prefixes, IDE's too
    base: bytes = b""  # header without OHC words
    ohc: list[bytes] = field(default_factory=list)  # OHC words, C too
    rest: bytes = b""  # behind header and OHC
    kind: int = -1
    payload_bytes: int = 0
    complete: bool = False  # the header is all there

    def header(self) -> bytes:
        return self.base + b"".join(self.ohc)


def take_apart(tlp: bytes, flit: bool) -> Parts:
    """Cut a TLP, whatever its bytes say."""
    parts = Parts(tlp)
    at = 0
    while not flit and at < len(tlp) and tlp[at] >> 5 == 0b100:
        prefix = tlp[at : at + 4]
        if len(prefix) < 4:
            return parts
        if prefix[0] & 0x10:
            parts.ends.append(prefix)
        else:
            parts.local += prefix
        if prefix[0] == 0x92 and parts.ide is None:
            parts.ide = prefix
        at += 4
    if at == len(tlp):
        return parts
    first = tlp[at]
    if first >> 5 > 3 or (flit and first == 0):
        return parts
    parts.kind = first
    if flit and first == 3:
        parts.kind = 0
    elif flit and first not in SUB_STREAM:
        parts.kind = -1
        return parts
    size = 16 if first & 0x20 else 12
    parts.base = tlp[at : at + size]
    at += size
    if len(parts.base) < size:
        return parts
    if flit:
        ohc = parts.base[1] & 0x1F
        words = (ohc & 1) + (ohc >> 1 & 1) + (ohc >> 2 & 1) + (0, 1, 2, 4)[ohc >> 3]
        if len(tlp) < at + 4 * words:
            # OHC-C may be there all the same.
            words = (len(tlp) - at) // 4
            parts.ohc = [tlp[at + 4 * i : at + 4 * i + 4] for i in range(words)]
        else:
            parts.ohc = [tlp[at + 4 * i : at + 4 * i + 4] for i in range(words)]
            parts.complete = True
        place = (ohc & 1) + (ohc >> 1 & 1)
        if ohc & 4 and place < len(parts.ohc) and parts.ohc[place][3] >> 4 & 7 != 7:
            parts.ide = parts.ohc[place]
        at += 4 * words
    else:
        parts.complete = True
    parts.rest = tlp[at:]
    if parts.kind & 0x40:
        length = int.from_bytes(parts.base[:4], "big") & 0x3FF
        parts.payload_bytes = 4 * (length or 1024)
    return parts


def traffic_class(parts: Parts, flit: bool) -> int:
    return parts.base[1] >> 5 if flit else parts.base[1] >> 4 & 7


def has_digest(parts: Parts, flit: bool) -> bool:
    return parts.base[2] >> 5 == 1 if flit else bool(parts.base[2] & 0x80)


def message_code(parts: Parts) -> int:
    """Return the code of a message without data, else -1."""
    return parts.base[7] if parts.complete and parts.kind >> 3 == 0b00110 else -1


def may_ride(kind: int, rules: Rules) -> bool:
    if kind not in SUB_STREAM:
        return False
    if rules.link:
        return True
    return kind not in NOT_SELECTIVE and (kind not in ON_REQUEST or rules.config_requests)


def trailer_flags(parts: Parts, flit: bool) -> tuple[bool, bool]:
    """Return (M, P)."""
    if flit:
        ts = parts.base[2] >> 5
        return ts in (5, 6), ts == 6
    assert parts.ide is not None
    return bool(parts.ide[3] & 4), bool(parts.ide[3] & 8)


def is_well_formed(tlp: bytes, flit: bool) -> bool:
    return not tlp_naive.read(tlp, flit=flit)[2]


# --- Partial header encryption ---------------------------------------------------------------------------


def split_header(parts: Parts, rules: Rules) -> tuple[bytes, bytes]:
    """Return (the header as in A, the header part of P'), from base and OHC words as they stand."""
    count = _hidden_address_bytes(parts, rules)
    if count == 0:
        return parts.header(), b""
    base, ohc = parts.base, list(parts.ohc)
    tail = 8 if len(base) == 16 else 4
    number = int.from_bytes(base[-tail:], "big")
    hidden = (number >> 2 & (1 << 8 * count) - 1).to_bytes(count, "big")
    left = number >> 8 * count + 2 << 2 | number & 3
    clear = base[:-tail]
    if _hides_enables(parts, rules):
        if rules.flit:
            hidden = ohc[0][3:] + hidden
            ohc[0] = ohc[0][:3]
        else:
            hidden = clear[7:8] + hidden
            clear = clear[:7] + clear[8:]
    return clear + left.to_bytes(tail - count, "big") + b"".join(ohc), hidden


def join_header(parts: Parts, rules: Rules, hidden: bytes) -> tuple[bytes, list[bytes]]:
    """Return (base, OHC words) with other bits where the hidden ones stand."""
    count = _hidden_address_bytes(parts, rules)
    if count == 0:
        return parts.base, parts.ohc
    base, ohc = parts.base, list(parts.ohc)
    tail = 8 if len(base) == 16 else 4
    number = int.from_bytes(base[-tail:], "big")
    mask = (1 << 8 * count) - 1 << 2
    number = number & ~mask | int.from_bytes(hidden[-count:], "big") << 2
    clear = base[:-tail]
    if _hides_enables(parts, rules):
        if rules.flit:
            ohc[0] = ohc[0][:3] + hidden[:1]
        else:
            clear = clear[:7] + hidden[:1] + clear[8:]
    return clear + number.to_bytes(tail, "big"), ohc


def _hidden_address_bytes(parts: Parts, rules: Rules) -> int:
    if rules.phe == 0 or parts.kind not in MEMORY:
        return 0
    mode = rules.phe if len(parts.base) == 16 else min(rules.phe, 2)
    return mode + 1


def _hides_enables(parts: Parts, rules: Rules) -> bool:
    if rules.flit:
        return bool(parts.base[1] & 1)
    if parts.kind in ATOMIC or parts.base[2] >> 2 & 3 == 1:
        return False
    return not (parts.kind in TAGGED and parts.base[1] & 1)


# --- Transmit --------------------------------------------------------------------------------------------


@dataclass
class Sent:
    """What became of a TLP that was to be sent: the columns of `seal_stream`'s status."""

    code: str
    wire_index: int = -1
    sub_stream: int = 0
    k: int = 0
    t: int = 0
    m: int = 0
    p: int = 0
    pr_sent: int = 0
    counter: int = 0
    unit: int = -1


@dataclass
class _Member:
    parts: Parts
    sent: Sent


class Sender:
    """One end, sending.

    Parameters
    ----------
    keys : of key set 0, by sub-stream.
    """

    def __init__(self, rules: Rules, keys: Sequence[bytes]):
        self.rules = rules
        self.k = 0
        self.keys = {(0, sub): key for sub, key in enumerate(keys)}
        self.counters = dict.fromkeys(self.keys, 1)
        self.npr = self.cpl = 0
        self.sync_due = False
        self.secure = True

    def go(self, k: int, keys: Sequence[bytes]) -> None:
        """Use fresh keys, in key set k, from now on."""
        self.k = k
        for sub, key in enumerate(keys):
            self.keys[k, sub] = key
            self.counters[k, sub] = 1

    def seal(
        self,
        tlps: Sequence[bytes],
        protect: Sequence[bool] | None = None,
        alone: Sequence[bool] | None = None,
        tee: Sequence[bool] | None = None,
        sync: bool = False,
    ) -> tuple[list[bytes], list[Sent]]:
        """Return (what goes out, what became of each)."""
        n = len(tlps)
        self._wire: list[bytes] = []
        self._units = 0
        self._open: dict[int, list[_Member]] = {POSTED: [], NON_POSTED: [], COMPLETION: []}
        alone = alone or [False] * n
        tee = tee or [False] * n
        parts = [take_apart(tlp, self.rules.flit) for tlp in tlps]
        codes = [
            self._code(parts[i], None if protect is None else protect[i], bool(tee[i])) for i in range(n)
        ]
        status = [Sent(code) for code in codes]
        if self.secure and self.sync_due:
            self._sync()
        for i, code in enumerate(codes):
            if code == "PLAIN":
                status[i].wire_index = len(self._wire)
                self._wire.append(tlps[i])
            if code != "SEALED":
                continue
            sub = SUB_STREAM[parts[i].kind]
            unit = self._open[sub]
            if not unit and self.counters[self.k, sub] > self.rules.hard_limit:
                status[i].code = "REFUSED_COUNTER"
                continue
            self._add(sub, parts[i], int(tee[i]), status[i])
            following = [
                j for j in range(i + 1, n) if codes[j] == "SEALED" and SUB_STREAM[parts[j].kind] == sub
            ]
            if self._closes(unit, parts, bool(alone[i]), following[0] if following else None, alone):
                self._close(sub)
            if sub == POSTED and SYNC_AT in (self.npr, self.cpl):
                self.sync_due = True
            if sub == POSTED and self.sync_due:
                self._sync()
        assert not any(self._open.values())
        if sync and self.secure:
            self._sync()
        return self._wire, status

    def _code(self, parts: Parts, wanted: bool | None, tee: bool) -> str:
        """Return what a TLP is to be, before keys are looked at."""
        rules = self.rules
        if wanted is False:
            return "PLAIN"
        if not may_ride(parts.kind, rules) or message_code(parts) == SYNC:
            return "REFUSED_TYPE" if wanted or message_code(parts) == SYNC else "PLAIN"
        if traffic_class(parts, rules.flit) != rules.tc:
            return "REFUSED_TC" if wanted else "PLAIN"
        if not self.secure:
            return "DROPPED_INSECURE"
        if has_digest(parts, rules.flit):
            return "REFUSED_ECRC"
        covered = parts.local + b"".join(parts.ends) if rules.link else b"".join(parts.ends)
        if parts.ide is not None or len(covered) + 4 + len(parts.header()) > MOST_CLEAR:
            return "REFUSED_PREFIX"
        if rules.tee_limited and not tee:
            return "REFUSED_TEE"
        return "SEALED"

    def _closes(
        self,
        unit: list[_Member],
        parts: list[Parts],
        alone: bool,
        following: int | None,
        others: Sequence[bool],
    ) -> bool:
        sub = unit[0].sent.sub_stream
        if alone or following is None or others[following] or len(unit) == self.rules.most_tlps[sub]:
            return True
        size = sum(member.parts.payload_bytes for member in unit)
        return size + parts[following].payload_bytes > UNIT_BYTES

    def _add(self, sub: int, parts: Parts, t: int, sent: Sent) -> None:
        """Put a TLP on the wire, for now as it is, and into the open unit of its sub-stream."""
        unit = self._open[sub]
        if not unit:
            self._units += 1
            counter = self.counters[self.k, sub]
            self.counters[self.k, sub] = counter + 1
            number = self._units
        else:
            counter, number = unit[0].sent.counter, unit[0].sent.unit
        sent.sub_stream, sent.k, sent.t, sent.counter, sent.unit = sub, self.k, t, counter, number
        sent.wire_index = len(self._wire)
        self._wire.append(b"")
        if sub == POSTED:
            self.npr += 1
            self.cpl += 1
        elif sub == NON_POSTED:
            sent.pr_sent, self.npr = self.npr, 0
        else:
            sent.pr_sent, self.cpl = self.cpl, 0
        unit.append(_Member(parts, sent))

    def _sync(self) -> None:
        """Send an IDE Sync, unless the key may not seal any more: then it stays due."""
        unit = self._open[POSTED]
        if not unit and self.counters[self.k, POSTED] > self.rules.hard_limit:
            self.sync_due = True
            return
        self._add(POSTED, Parts(b""), 0, Sent("SYNC"))
        unit[-1].parts = take_apart(self._message(SYNC, self.npr, self.cpl), self.rules.flit)
        self.npr = self.cpl = 0
        self.sync_due = False
        self._close(POSTED)

    def _message(self, code: int, first: int, second: int) -> bytes:
        rules = self.rules
        dw0 = (0x34 if rules.link else 0x32) << 24 | rules.tc << (21 if rules.flit else 20)
        dw1 = rules.requester << 16 | code
        dw2 = 0 if rules.link else rules.partner << 16
        dw3 = first << 24 | second << 16
        return b"".join(word.to_bytes(4, "big") for word in (dw0, dw1, dw2, dw3))

    def _close(self, sub: int) -> None:
        """Seal the open unit of a sub-stream."""
        rules = self.rules
        unit = self._open[sub]
        self._open[sub] = []
        texts, crc_text = [], b""
        last = unit[-1].sent
        last.m = 1
        for member in unit:
            _, hidden = split_header(member.parts, rules)
            payload = member.parts.rest
            texts.append(hidden + payload)
            crc_text += (bytes(8 - len(hidden)) + hidden if hidden else b"") + payload
        text = b"".join(texts)
        if rules.pcrc and text:
            last.p = 1
            text += zlib.crc32(crc_text).to_bytes(4, "little")
        aad = b""
        heads = []
        for member in unit:
            before, parts = self._dress(member)
            clear, _ = split_header(parts, rules)
            aad += (before if rules.link else before[len(parts.local) :]) + clear
            heads.append((before, parts))
        key = self.keys[last.k, sub]
        cipher, mac = gcm_seal(key, nonce(rules, sub, last.counter), aad, text)
        at = 0
        for member, (before, parts), plain in zip(unit, heads, texts, strict=True):
            piece = cipher[at : at + len(plain)]
            at += len(plain)
            hidden_bytes = len(plain) - len(member.parts.rest)
            base, ohc = join_header(parts, rules, piece[:hidden_bytes])
            wire = before + base + b"".join(ohc) + piece[hidden_bytes:]
            if member is unit[-1]:
                wire += cipher[at:] + mac
            self._wire[member.sent.wire_index] = wire

    def _dress(self, member: _Member) -> tuple[bytes, Parts]:
        """Return (the prefixes, the parts) of a TLP with its IDE prefix or OHC-C."""
        rules, sent, parts = self.rules, member.sent, member.parts
        if not rules.flit:
            flags = sent.sub_stream << 4 | sent.p << 3 | sent.m << 2 | sent.k << 1 | sent.t
            ide = bytes([0x92, sent.pr_sent, rules.stream_id, flags])
            return parts.local + ide + b"".join(parts.ends), parts
        request = parts.kind not in SUB_STREAM or SUB_STREAM[parts.kind] != COMPLETION
        rsv = int(request and parts.kind not in (0x04, 0x05, 0x44, 0x45))
        segment = rules.segment if rsv else 0
        flags = sent.sub_stream << 4 | rsv << 3 | sent.k << 1 | sent.t
        word = bytes([segment, sent.pr_sent, rules.stream_id, flags])
        base = bytearray(parts.base)
        place = (base[1] & 1) + (base[1] >> 1 & 1)
        base[1] |= 4
        base[2] = base[2] & 0x1F | (0, 5, 6)[sent.m + sent.p] << 5
        ohc = [*parts.ohc[:place], word, *parts.ohc[place:]]
        return b"", Parts(parts.raw, base=bytes(base), ohc=ohc, kind=parts.kind, complete=True)


# --- Receive ---------------------------------------------------------------------------------------------


@dataclass
class Got:
    """What became of a wire TLP: the columns of `open_stream`'s status. `tlp` is what was released."""

    code: str = "HELD"
    reason: str = "NONE"
    sub_stream: int = 0
    k: int = 0
    t: int = 0
    counter: int = 0


@dataclass
class _Arrived:
    parts: Parts
    got: Got
    index: int  # wire index in the call it came in
    call: int
    plain: bytes = b""  # opened: the TLP


@dataclass
class Released:
    """A TLP of the batch: its bytes, and its row of `marks`."""

    tlp: bytes
    wire_index: int
    protected: bool
    sub_stream: int = 0
    k: int = 0
    t: int = 0
    counter: int = 0


class BrokenRule(Exception):
    """A check that an arriving TLP fails."""


class Receiver:
    """One end, receiving.

    Parameters
    ----------
    keys : of key set 0, by sub-stream.
    """

    def __init__(self, rules: Rules, keys: Sequence[bytes]):
        self.rules = rules
        self.secure = True
        self.reason = "NONE"
        self.errors: list[tuple[str, str]] = []
        self.fails_queued = 0
        self.posted_npr = self.posted_cpl = 0
        self.seen: set[int] = set()
        self.keys: dict[tuple[int, int], bytes] = {}
        self.counters: dict[tuple[int, int], int] = {}
        self.slots: dict[tuple[int, int], str] = {(k, sub): "EMPTY" for k in range(2) for sub in range(3)}
        self.age: dict[tuple[int, int], int] = {}
        self._starts = 0
        self._open: dict[int, list[_Arrived]] = {POSTED: [], NON_POSTED: [], COMPLETION: []}
        self._waiting: list[list[_Arrived]] = []
        self._call = 0
        self.start(0, keys)

    def start(self, k: int, keys: Sequence[bytes]) -> None:
        """Have fresh keys in key set k."""
        self._starts += 1
        for sub, key in enumerate(keys):
            self.keys[k, sub] = key
            self.counters[k, sub] = 1
            self.slots[k, sub] = "STARTED"
            self.age[k, sub] = self._starts

    def stop(self, k: int) -> None:
        for sub in range(3):
            if self.slots[k, sub] == "STARTED":
                self.slots[k, sub] = "STOPPED"

    def open(self, wire: Sequence[bytes]) -> tuple[list[Released], list[Got]]:
        """Return (what is released, in order; what became of each)."""
        self._call += 1
        self._out: list[Released] = []
        status = [Got() for _ in wire]
        for i, tlp in enumerate(wire):
            self._arrive(_Arrived(take_apart(tlp, self.rules.flit), status[i], i, self._call))
        return self._out, status

    # --- One TLP ---------------------------------------------------------------------------------------

    def _arrive(self, tlp: _Arrived) -> None:
        parts, got, rules = tlp.parts, tlp.got, self.rules
        if parts.ide is None:
            self._plain(tlp)
            return
        ide = parts.ide
        got.sub_stream, got.k, got.t = ide[3] >> 4 & 7, ide[3] >> 1 & 1, ide[3] & 1
        if ide[2] != rules.stream_id:
            got.code, got.reason = "MISROUTED", "STREAM_ID"
            if self.secure:
                self._log("MISROUTED_IDE_TLP", "STREAM_ID")
            return
        if got.sub_stream <= 2:
            self.seen.add(got.sub_stream)
        if not self.secure:
            got.code = "DROPPED"
            return
        try:
            self._check(tlp)
            unit = self._open[got.sub_stream]
            unit.append(tlp)
            if trailer_flags(parts, rules.flit)[0]:
                self._open[got.sub_stream] = []
                self._complete(got.sub_stream, unit)
        except BrokenRule as broken:
            got.code, got.reason = "REJECTED", str(broken)
            self._log("IDE_CHECK_FAILED", got.reason)
            self._fall(got.reason, queue_fail=True)
            got.code = "REJECTED"

    def _plain(self, tlp: _Arrived) -> None:
        parts, got = tlp.parts, tlp.got
        if not is_well_formed(parts.raw, self.rules.flit):
            got.code = "MALFORMED"
        elif message_code(parts) == SYNC:
            got.code = "DISCARDED_PLAIN"
        elif message_code(parts) == FAIL and parts.base[12] == self.rules.stream_id:
            got.code = "FAIL"
            self._fall("FAIL_RECEIVED")
        elif (
            self.rules.link
            and traffic_class(parts, self.rules.flit) == self.rules.tc
            and SUB_STREAM[parts.kind] in self.seen
        ):
            got.code = "DISCARDED_PLAIN"
        else:
            got.code = "PLAIN"
            self._out.append(Released(parts.raw, tlp.index, False))

    def _check(self, tlp: _Arrived) -> None:
        """Do checks 4 to 22; raise BrokenRule at the first that fails."""
        parts, got, rules = tlp.parts, tlp.got, self.rules
        assert parts.ide is not None

        def demand(holds: bool, reason: str) -> None:
            if not holds:
                raise BrokenRule(reason)

        if not rules.flit:
            demand(
                parts.ends[0] is parts.ide and sum(end[0] == 0x92 for end in parts.ends) == 1,
                "PREFIX",
            )
        covered = parts.local * rules.link + b"".join(parts.ends)
        demand(len(covered) + len(parts.header()) <= MOST_CLEAR, "PREFIX")
        demand(parts.complete, "LENGTH")
        m, p = trailer_flags(parts, rules.flit)
        demand(len(parts.rest) == parts.payload_bytes + 12 * m + 4 * p, "LENGTH")
        sub, k = got.sub_stream, got.k
        demand(sub <= 2, "SUB_STREAM")
        demand(SUB_STREAM.get(parts.kind) == sub, "SUB_STREAM_TYPE")
        demand(may_ride(parts.kind, rules), "TYPE")
        demand(traffic_class(parts, rules.flit) == rules.tc, "TRAFFIC_CLASS")
        demand(not has_digest(parts, rules.flit), "ECRC")
        unit = self._open[sub]
        demand(not unit or unit[0].got.k == k, "K_TOGGLE")
        slot = self.slots[k, sub]
        words = {"RETIRED": "KEY_RETIRED", "STOPPED": "KEY_STOPPED"}
        demand(slot == "STARTED", words.get(slot, "KEY_NOT_STARTED"))
        got.counter = self.counters[k, sub]
        demand(got.counter <= rules.hard_limit, "COUNTER")
        demand(m or rules.accepts[sub], "AGGREGATION")
        demand(m or len(unit) < 7 + rules.tolerate_eighth, "AGGREGATION_COUNT")
        size = parts.payload_bytes + sum(member.parts.payload_bytes for member in unit)
        demand(size <= UNIT_BYTES or (m and not unit), "AGGREGATION_SIZE")
        demand(m or not p, "PCRC_WITHOUT_MAC")
        demand(not p or (rules.pcrc and self._has_content([*unit, tlp])), "PCRC_UNEXPECTED")
        sync = message_code(parts) == SYNC
        demand(not sync or (m and parts.kind == (0x34 if rules.link else 0x32)), "SYNC")
        self._count(tlp, sync, demand)

    def _count(self, tlp: _Arrived, sync: bool, demand: Callable[[bool, str], None]) -> None:
        parts, sub = tlp.parts, tlp.got.sub_stream
        assert parts.ide is not None
        npr, cpl = self.posted_npr, self.posted_cpl
        less_npr = less_cpl = 0
        if sub == POSTED:
            npr, cpl = npr + 1, cpl + 1
            demand(max(npr, cpl) < 1 << 64, "ORDERING_OVERFLOW")
            if sync:
                less_npr, less_cpl = parts.base[12], parts.base[13]
        elif sub == NON_POSTED:
            less_npr = parts.ide[1]
        else:
            less_cpl = parts.ide[1]
        demand(max(less_npr, less_cpl) <= SYNC_AT + sync, "SYNC_MISSING")
        demand(less_npr <= npr and less_cpl <= cpl, "ORDERING")
        self.posted_npr, self.posted_cpl = npr - less_npr, cpl - less_cpl

    def _has_content(self, unit: list[_Arrived]) -> bool:
        return any(tlp.parts.payload_bytes or split_header(tlp.parts, self.rules)[1] for tlp in unit)

    # --- One unit --------------------------------------------------------------------------------------

    def _complete(self, sub: int, unit: list[_Arrived]) -> None:
        """Open a unit whose last TLP came; raise BrokenRule if its MAC is wrong."""
        rules = self.rules
        last = unit[-1]
        k = last.got.k
        _, p = trailer_flags(last.parts, rules.flit)
        aad = text = b""
        shares = []
        for tlp in unit:
            parts = tlp.parts
            clear, hidden = split_header(parts, rules)
            aad += parts.local * rules.link + b"".join(parts.ends) + clear
            share = hidden + parts.rest[: parts.payload_bytes]
            shares.append((len(hidden), len(share)))
            text += share
        behind = last.parts.rest[last.parts.payload_bytes :]
        text += behind[: len(behind) - MAC_BYTES]
        counter = last.got.counter
        opened = gcm_open(self.keys[k, sub], nonce(rules, sub, counter), aad, text, behind[-MAC_BYTES:])
        if opened is None:
            # The unit is gone; its other TLPs are dropped with what is held.
            self._open[sub] = unit[:-1]
            raise BrokenRule("MAC")
        self.counters[k, sub] = counter + 1
        other = (1 - k, sub)
        if self.slots[other] == "STARTED" and self.age[other] < self.age[k, sub]:
            self.slots[other] = "RETIRED"

        at, crc_text = 0, b""
        for tlp, (hidden, size) in zip(unit, shares, strict=True):
            share = opened[at : at + size]
            at += size
            crc_text += (bytes(8 - hidden) + share[:hidden] if hidden else b"") + share[hidden:]
            tlp.plain = self._undress(tlp.parts, share[:hidden]) + share[hidden:]
        if rules.pcrc and at:
            reason = ""
            if not p:
                reason = "PCRC_MISSING"
            elif opened[at:] != zlib.crc32(crc_text).to_bytes(4, "little"):
                reason = "PCRC_WRONG"
            if reason:
                self._log("PCRC_CHECK_FAILED", reason)
                for tlp in unit:
                    tlp.got.code, tlp.got.reason = "PCRC_FAILED", reason
        if sub != POSTED and self._open[POSTED]:
            self._waiting.append(unit)
            return
        self._release(unit)
        if sub == POSTED and self.secure:
            waiting, self._waiting = self._waiting, []
            for other_unit in waiting:
                self._release(other_unit)

    def _undress(self, parts: Parts, hidden: bytes) -> bytes:
        """Return all of a TLP before its payload, without IDE prefix or OHC-C."""
        base, ohc = join_header(parts, self.rules, hidden)
        if not self.rules.flit:
            ends = b"".join(end for end in parts.ends if end is not parts.ide)
            return parts.local + ends + base
        head = bytearray(base)
        place = (head[1] & 1) + (head[1] >> 1 & 1)
        head[1] &= ~4
        head[2] &= 0x1F
        return bytes(head) + b"".join(ohc[:place] + ohc[place + 1 :])

    def _release(self, unit: list[_Arrived]) -> None:
        fail = False
        for tlp in unit:
            got, parts = tlp.got, tlp.parts
            code = message_code(parts)
            if got.code == "PCRC_FAILED":
                continue
            if not is_well_formed(tlp.plain, self.rules.flit):
                got.code = "MALFORMED"
            elif code == SYNC:
                got.code = "SYNC"
            elif code == FAIL and parts.base[12] == self.rules.stream_id:
                got.code = "FAIL"
                fail = True
            elif self.rules.tee_limited and not got.t:
                got.code = "DISCARDED_TEE"
            else:
                got.code = "RELEASED"
                index = tlp.index if tlp.call == self._call else -1
                self._out.append(Released(tlp.plain, index, True, got.sub_stream, got.k, got.t, got.counter))
        if fail:
            self._fall("FAIL_RECEIVED")

    # --- The state -------------------------------------------------------------------------------------

    def _log(self, error: str, reason: str) -> None:
        if error not in [name for name, _ in self.errors]:
            self.errors.append((error, reason))

    def _fall(self, reason: str, queue_fail: bool = False) -> None:
        """Become Insecure: what is held is dropped."""
        if not self.secure:
            return
        self.secure = False
        self.reason = reason
        self.fails_queued += queue_fail
        held = [tlp for unit in (*self._open.values(), *self._waiting) for tlp in unit]
        for tlp in held:
            if tlp.got.code == "HELD":
                tlp.got.code = "DROPPED"
        self._open = {POSTED: [], NON_POSTED: [], COMPLETION: []}
        self._waiting = []


# --- A sender that has the key and keeps no rule ---------------------------------------------------------


def word(
    sub: int = 0, *, pr_sent: int = 0, stream_id: int = 1, p: int = 0, m: int = 1, k: int = 0, t: int = 0
) -> bytes:
    """Return an IDE prefix."""
    return bytes([0x92, pr_sent, stream_id, sub << 4 | p << 3 | m << 2 | k << 1 | t])


def forge(
    key: bytes,
    counter: int,
    members: Sequence[tuple[bytes, bytes]],
    *,
    pcrc: bytes = b"",
    rules: Rules | None = None,
) -> list[bytes]:
    """Return the wire TLPs of an authentic unit, whatever its prefixes say. Non-flit, nothing hidden.

    members : (IDE prefix, TLP). pcrc : stands behind the payload as it is, and is encrypted with it.
    """
    rules = rules or Rules()
    parts = [take_apart(tlp, False) for _, tlp in members]
    aad = text = b""
    for (ide, _), tlp in zip(members, parts, strict=True):
        aad += tlp.local * rules.link + ide + b"".join(tlp.ends) + tlp.base
        text += tlp.rest
    sub = members[0][0][3] >> 4 & 7
    cipher, mac = gcm_seal(key, nonce(rules, sub, counter), aad, text + pcrc)
    wire, at = [], 0
    for (ide, _), tlp in zip(members, parts, strict=True):
        data = cipher[at : at + len(tlp.rest)]
        at += len(tlp.rest)
        wire.append(tlp.local + ide + b"".join(tlp.ends) + tlp.base + data)
    wire[-1] += cipher[at:] + mac
    return wire
