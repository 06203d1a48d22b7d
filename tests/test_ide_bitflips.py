"""Every single bit of sealed streams is turned over, one at a time, and nothing that was altered passes for
what was sent.

The wire of a case ends with a TLP of each sub-stream, so that what is lost before it must show. What a flip
may do other than REJECTED is written down here, bit by bit, and asserted to be just that:

| flipped | the TLP | the stream |
|---|---|---|
| local prefix, Selective: bytes 1..3, or 8Eh to 8Fh | RELEASED, altered: not covered | SECURE |
| the same, byte 0 to another local prefix that nobody knows | MALFORMED, as it is authentic | SECURE |
| Stream ID | MISROUTED: another stream's | INSECURE at the next TLP of the sub-stream |
| first byte of the IDE prefix, or of a local one before it | MALFORMED: no IDE TLP, no TLP | the same |
| the same, 92h to 90h, M = 0, and byte enables that make sense | PLAIN: a plain TLP with hints | the same |
| the same, on a Link that has begun | DISCARDED_PLAIN | the same |
| flit mode: Type and OHC bits, which say where OHC-C is | the like, or another word is taken for it |
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from oracles.ide_bytes import is_well_formed, take_apart
from oracles.ide_tlps import (
    PASID,
    TPH,
    VENDOR_LOCAL,
    Outcome,
    cpl,
    cpld,
    cuts,
    ends,
    filler,
    mrd,
    mrd32,
    mwr,
    mwr32,
    open_,
    prefix,
    seal,
)

from sevpcie_core.crypto import backends
from sevpcie_core.ide import Error, State, StreamConfig

LOCAL = prefix(VENDOR_LOCAL, 0x0A0B0C)
POSTED, READ, DONE = mwr(filler(8)), mrd(2), cpld(filler(4))
# The last of each sub-stream: what is lost before them shows.
TAIL = [mwr32(filler(4)), mrd32(1), cpl()]


@dataclass(frozen=True)
class Case:
    config: StreamConfig
    tlps: tuple[bytes, ...]
    units: int  # of the whole wire


# As posted TLPs follow one another here, units are of two or more.
MIXED = (POSTED, mwr32(filler(12)), READ, mrd32(4), DONE, cpl(1), *TAIL)
PREFIXED = (LOCAL + POSTED, LOCAL + prefix(TPH, 3) + prefix(PASID, 0x1234) + READ, LOCAL + DONE, *TAIL)
# Flit mode: a write with OHC-A1, a read without, one with OHC-B, completions without and with OHC-A.
FLIT = tuple(
    bytes.fromhex(text)
    for text in (
        "60010001 01000005 00000022 00000000 0000000f 11223344",
        "20000004 01000006 00000022 00000000",
        "40020001 01000007 80000000 00112233 55667788",
        "4a000001 02000006 01000040 99aabbcc",
        "0a010000 02000007 01000040 00000001",
        "60000002 01000005 00000022 00000000 1122334455667788",
        "03000001 01000006 80000000",
        "0a000000 02000009 01000040",
    )
)

CASES = {
    "selective": Case(StreamConfig("pcie-ide"), MIXED, 9),
    "selective, PCRC": Case(StreamConfig("sev-pcie", pcrc=True), MIXED, 9),
    "selective, aggregated": Case(StreamConfig("pcie-ide", aggregation=(2, 2, 2)), MIXED, 6),
    "selective, aggregated, PCRC": Case(StreamConfig("pcie-ide", pcrc=True, aggregation=(4, 8, 4)), MIXED, 3),
    "selective, local prefixes": Case(StreamConfig("pcie-ide"), PREFIXED, 6),
    "selective, hidden headers": Case(StreamConfig("pcie-ide", phe=3, pcrc=True), MIXED, 9),
    "link": Case(StreamConfig("sev-pcie", kind="link"), MIXED, 9),
    "link, aggregated, PCRC": Case(
        StreamConfig("pcie-ide", kind="link", pcrc=True, aggregation=(2, 4, 2)), MIXED, 5
    ),
    "link, local prefixes": Case(StreamConfig("pcie-ide", kind="link", pcrc=True), PREFIXED, 6),
    "link, hidden headers, aggregated": Case(
        StreamConfig("pcie-ide", kind="link", phe=1, aggregation=(2, 2, 2)), MIXED, 6
    ),
    "flit": Case(StreamConfig("pcie-ide", flit=True, segment=0x5C), FLIT, 8),
    "flit, aggregated, PCRC, hidden headers": Case(
        StreamConfig("pcie-ide", kind="link", flit=True, pcrc=True, phe=4, aggregation=(2, 2, 2)), FLIT, 5
    ),
}


def flips(wire: list[bytes]) -> Iterator[tuple[int, int, int, list[bytes]]]:
    """Yield (TLP, byte, mask, the wire with that bit turned over)."""
    for i, tlp in enumerate(wire):
        for at in range(len(tlp)):
            for bit in range(8):
                mask = 1 << bit
                other = tlp[:at] + bytes([tlp[at] ^ mask]) + tlp[at + 1 :]
                yield i, at, mask, [*wire[:i], other, *wire[i + 1 :]]


def expected(config: StreamConfig, tlp: bytes, at: int, mask: int, begun: bool) -> tuple[str, str | None]:
    """Return what a TLP becomes by a flip, and why ("": REJECTED is the rule; None: it does not matter).

    begun : a TLP of its sub-stream came before.
    """
    if config.flit:
        return expected_flit(config, tlp, at, mask)
    local = 0
    while tlp[local] == VENDOR_LOCAL:
        local += 4
    flipped = tlp[at] ^ mask
    if at < local:
        if at % 4 == 0 and flipped >> 5 != 0b100:
            return "MALFORMED", "no prefix any more, and no header"
        if config.kind == "link":
            return "REJECTED", None
        if at % 4 == 0 and flipped & 0x10:
            return "REJECTED", "an End-End prefix before IDE's"
        if at % 4 == 0 and flipped != 0x8F:
            return "MALFORMED", "authentic; a local prefix that nobody knows"
        return "RELEASED", "local prefixes are not covered"
    if at == local:
        if flipped == TPH and is_well_formed(tlp[:at] + bytes([flipped]) + tlp[at + 1 :], False):
            return "DISCARDED_PLAIN" if config.kind == "link" and begun else "PLAIN", "a plain TLP with hints"
        return "MALFORMED", "no IDE prefix any more, and no TLP"
    if at == local + 2:
        return "MISROUTED", "another stream's"
    return "REJECTED", None


def expected_flit(config: StreamConfig, tlp: bytes, at: int, mask: int) -> tuple[str, str | None]:
    """Do it for flit mode: Type and OHC say where OHC-C is."""
    header = 16 if tlp[0] & 0x20 else 12
    ohc = tlp[1] & 0x1F
    word = header + 4 * ((ohc & 1) + (ohc >> 1 & 1))
    if at == word + 2:
        return "MISROUTED", "another stream's"
    if at == 0 or (at == 1 and mask & 0x1F):
        # Size of the header, or which words there are.
        parts = take_apart(tlp[:at] + bytes([tlp[at] ^ mask]) + tlp[at + 1 :], True)
        if parts.ide is None:
            return "MALFORMED", "no OHC-C any more, and no TLP"
        if parts.ide[2] != config.stream_id:
            return "MISROUTED", "another word is taken for OHC-C"
    return "REJECTED", None


def is_subsequence(found: list[bytes], honest: list[bytes]) -> bool:
    rest = iter(honest)
    return all(tlp in rest for tlp in found)


def sealed(case: Case) -> list[bytes]:
    a, b = ends(case.config)
    wire, status = seal(a, case.tlps)
    assert len(set(status["unit"].tolist())) == case.units
    honest = open_(b, wire)
    assert sorted(honest.tlps) == sorted(case.tlps)
    assert b.state is State.SECURE
    return wire


def flip_all(case: Case, wire: list[bytes]) -> tuple[int, dict[tuple[str, str | None], int]]:
    """Turn every bit over; return how many there were, and the flips by what became of them."""
    counts: dict[tuple[str, str | None], int] = {}
    config = case.config
    subs = [sub_stream(config, tlp) for tlp in wire]
    honest = open_(ends(config)[1], wire).tlps
    for i, at, mask, flipped in flips(wire):
        b = ends(config)[1]
        outcome = open_(b, flipped)
        begun = subs[i] in subs[:i]
        code, why = expected(config, wire[i], at, mask, begun)
        where = f"TLP {i} byte {at} mask {mask:#04x}: {outcome.codes} {outcome.reasons}"
        assert told(config, outcome, i, flipped) == code, where
        counts[code, why] = counts.get((code, why), 0) + 1
        check(b, outcome, honest, case.tlps[i], code, why, subs[i] in subs[i + 1 :], where)
    return sum(counts.values()), counts


def told(config: StreamConfig, outcome: Outcome, i: int, flipped: list[bytes]) -> str:
    """Return what the receiver says of the TLP; if its unit goes on, what it says of the unit's last one."""
    code = outcome.codes[i]
    if code != "DROPPED":
        return code
    sub = sub_stream(config, flipped[i])
    return next(
        later
        for later, tlp in zip(outcome.codes[i:], flipped[i:], strict=True)
        if sub_stream(config, tlp) == sub and later != "DROPPED"
    )


def sub_stream(config: StreamConfig, tlp: bytes) -> int:
    parts = take_apart(tlp, config.flit)
    return parts.ide[3] >> 4 & 7 if parts.ide else -1


def check(
    b: object,
    outcome: Outcome,
    honest: list[bytes],
    sent: bytes,
    code: str,
    why: str | None,
    guarded: bool,
    where: str,
) -> None:
    """Check what else a flip must and must not do."""
    state = b.state  # type: ignore[attr-defined]
    errors = b.errors  # type: ignore[attr-defined]
    protected = [item.tlp for item in outcome.released if item.protected]
    if code == "RELEASED":
        # The one thing that passes: a local prefix of a Selective stream, and nothing else of the TLP.
        altered = [tlp for tlp in protected if tlp not in honest]
        assert len(altered) == 1, where
        assert altered[0][4:] == sent[4:], where
        assert len(protected) == len(honest), where
        assert state is State.SECURE, where
        return
    assert is_subsequence(protected, honest), where
    assert sent not in protected, where
    if code == "MALFORMED" and why and why.startswith("authentic"):
        assert len(protected) == len(honest) - 1, where
        assert state is State.SECURE, where
        return
    if code == "REJECTED" or guarded:
        assert state is State.INSECURE, where
        assert b.error is Error.IDE_CHECK_FAILED, where  # type: ignore[attr-defined]
    if code == "MISROUTED":
        assert Error.MISROUTED_IDE_TLP in [logged for logged, _ in errors], where


@pytest.mark.parametrize("name", CASES)
def test_every_bit(name: str) -> None:
    case = CASES[name]
    wire = sealed(case)
    count, found = flip_all(case, wire)
    assert count == 8 * sum(map(len, wire))
    reasons = {code: sum(n for (c, _), n in found.items() if c == code) for code, _ in found}
    n = len(wire)
    if not case.config.flit:
        locals_ = sum(tlp.count(LOCAL) for tlp in case.tlps)
        # No TLP as long as a header says, but for those without a MAC whose byte enables make sense.
        hinted = [tlp.replace(b"\x92", bytes([TPH]), 1) for tlp in wire]
        open_tlps = sum(is_well_formed(tlp, False) for tlp in hinted)
        assert open_tlps == n - case.units or case.config.phe
        # Byte 0 of a local prefix: three bits that make it none at all.
        assert reasons["MISROUTED"] == 8 * n
        selective = case.config.kind == "selective"
        # Selective: 80h, 40h and 20h make it no prefix, 08h, 04h and 02h an unknown one; 01h a known one.
        assert reasons["MALFORMED"] == 8 * n - open_tlps + locals_ * (6 if selective else 3)
        assert reasons.get("RELEASED", 0) == (locals_ * 25 if selective else 0)
        assert reasons.get("PLAIN", 0) + reasons.get("DISCARDED_PLAIN", 0) == open_tlps
    else:
        assert reasons["MISROUTED"] >= 8 * n
        assert set(reasons) <= {"REJECTED", "MISROUTED", "MALFORMED"}


@pytest.mark.parametrize("backend", backends.available())
def test_every_bit_on_every_backend(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(backends.VARIABLE, backend)
    backends.default.cache_clear()
    try:
        case = CASES["selective, aggregated, PCRC"]
        wire = sealed(case)
        flip_all(case, wire)
    finally:
        backends.default.cache_clear()


def test_it_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that lets a flip pass fails this test: the plain bytes, which nobody checks."""
    case = Case(StreamConfig(), (POSTED,), 1)
    _, b = ends(case.config)
    plain = POSTED[:-1] + bytes([POSTED[-1] ^ 1])
    outcome = open_(b, [plain])
    assert outcome.codes == ["PLAIN"]
    assert cuts([plain])[-1] == len(POSTED)
    with pytest.raises(AssertionError):
        check(b, outcome, [POSTED], POSTED, "REJECTED", None, False, "")
