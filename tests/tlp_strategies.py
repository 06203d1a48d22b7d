"""TLPs for Hypothesis: dicts of the plain codec (`oracles.tlp_naive`), random and within the rules."""

from typing import Any

from hypothesis import strategies as st
from oracles import tlp_naive
from oracles.tlp_naive import (
    ATOMIC,
    CAS,
    COMPLETION,
    CONFIG,
    FAMILY,
    IO,
    MEMORY,
    MESSAGE,
    TAGGED,
    Fields,
    has_payload,
    header_dw,
)

FOUR_GIB = 1 << 32
# What a first DW of several may have enabled: bytes up to its far end; a last one: from its near end.
FIRST = (0xF, 0xE, 0xC, 0x8)
LAST = (0xF, 0x7, 0x3, 0x1)

words = st.integers(0, 0xFFFFFFFF)
ids = st.integers(0, 0xFFFF)
bits = st.integers(0, 1)
# Mostly short, as far as a page at times.
lengths = st.one_of(st.integers(1, 5), st.integers(1, 64), st.integers(1, 1024), st.just(1024))


@st.composite
def tlps(draw: Any, *, flit: bool = False, kinds: Any = None) -> Fields:
    """Draw a TLP of any kind."""
    kind = draw(st.sampled_from(sorted(FAMILY) if kinds is None else kinds))
    family = FAMILY[kind]
    fields = tlp_naive.empty() | {"kind": kind}
    fields["ep"] = draw(bits)
    fields["attr"] = draw(st.integers(0, 7))
    if family not in (IO, CONFIG):
        fields["tc"] = draw(st.integers(0, 7))
    fields["requester"] = draw(ids)
    most = 0x3FF if not flit else 0x3FFF if family != MESSAGE else 0x7F
    fields["tag"] = draw(st.integers(0, most) | st.integers(0, 0x7F))
    _length(draw, fields, family)
    {
        MEMORY: _memory,
        ATOMIC: _atomic,
        IO: _io,
        CONFIG: _config,
        COMPLETION: _completion,
        MESSAGE: _message,
    }[family](draw, fields, flit)
    if has_payload(kind):
        fields["payload"] = _filler(draw(words), 4 * fields["length"])
    if flit:
        _flit_words(draw, fields, family)
    else:
        _prefixes(draw, fields)
    return fields


def _filler(seed: int, count: int) -> bytes:
    """Return bytes that differ from place to place; Hypothesis is slow at drawing as many."""
    step = seed >> 8 | 1
    return b"".join((seed + i * step & 0xFFFFFFFF).to_bytes(4, "big") for i in range(-(-count // 4)))[:count]


def _length(draw: Any, fields: Fields, family: str) -> None:
    kind = fields["kind"]
    if family in (IO, CONFIG):
        fields["length"] = 1
    elif family == ATOMIC:
        fields["length"] = draw(st.sampled_from((2, 4, 8) if kind in CAS else (1, 2)))
    elif tlp_naive.counts(kind):
        fields["length"] = draw(lengths)
    else:
        # It counts nothing, and stands as it is.
        fields["length"] = draw(st.one_of(st.just(0), st.integers(0, 1023)))


def _memory(draw: Any, fields: Fields, flit: bool) -> None:
    length = fields["length"]
    fields["address"] = _address(draw, fields, 4, 4 * length)
    fields["at"] = draw(st.integers(0, 3))
    if not flit:
        fields["th"] = draw(bits)
        fields["ph"] = draw(st.integers(0, 3))
    anything = st.integers(0, 15)
    if fields["th"] and fields["kind"] in TAGGED:
        fields["first_be"], fields["last_be"] = draw(anything), draw(anything)
    elif length == 1:
        fields["first_be"] = draw(anything)
    elif length == 2 and fields["address"] % 8 == 0:
        fields["first_be"], fields["last_be"] = draw(st.integers(1, 15)), draw(st.integers(1, 15))
    else:
        fields["first_be"], fields["last_be"] = draw(st.sampled_from(FIRST)), draw(st.sampled_from(LAST))


def _address(draw: Any, fields: Fields, align: int, size: int) -> int:
    """Draw an address for the form of the header; the request stays within 4 KiB."""
    if header_dw(fields["kind"]) == 4:
        page = draw(st.one_of(st.just(FOUR_GIB >> 12), st.integers(FOUR_GIB >> 12, (1 << 52) - 1)))
    else:
        page = draw(st.one_of(st.integers(0, 3), st.integers(0, (FOUR_GIB >> 12) - 1)))
    last = (4096 - size) // align
    return page << 12 | align * draw(st.one_of(st.just(0), st.just(last), st.integers(0, last)))


def _atomic(draw: Any, fields: Fields, flit: bool) -> None:
    operand = 4 * fields["length"] // (2 if fields["kind"] in CAS else 1)
    fields["address"] = _address(draw, fields, operand, operand)
    fields["at"] = draw(st.integers(0, 3))
    # Reserved, hence anything.
    fields["first_be"], fields["last_be"] = draw(st.integers(0, 15)), draw(st.integers(0, 15))
    if not flit:
        fields["th"] = draw(bits)
        fields["ph"] = draw(st.integers(0, 3))


def _io(draw: Any, fields: Fields, flit: bool) -> None:
    fields["first_be"] = draw(st.integers(0, 15))
    fields["address"] = draw(st.integers(0, (1 << 30) - 1)) << 2


def _config(draw: Any, fields: Fields, flit: bool) -> None:
    fields["first_be"] = draw(st.integers(0, 15))
    fields["destination"] = draw(ids)
    fields["register"] = draw(st.integers(0, 1023))


def _completion(draw: Any, fields: Fields, flit: bool) -> None:
    fields["completer"] = draw(ids)
    fields["lower_address"] = draw(st.integers(0, 127))
    if not flit:
        fields["bcm"] = draw(bits)
    least = 1
    if has_payload(fields["kind"]):
        least = max(1, 4 * (fields["length"] - 1) - fields["lower_address"] % 4 + 1)
    else:
        fields["status"] = draw(st.sampled_from((0, 1, 2, 4)))
    fields["byte_count"] = draw(st.one_of(st.just(least), st.just(4096), st.integers(least, 4096)))


def _message(draw: Any, fields: Fields, flit: bool) -> None:
    fields["code"] = draw(st.integers(0, 255))
    fields["dw2"], fields["dw3"] = draw(words), draw(words)
    if not flit:
        fields["at"], fields["th"] = draw(st.integers(0, 3)), draw(bits)


def _prefixes(draw: Any, fields: Fields) -> None:
    """Prefixes, and ECRC or the trailer of an IDE TLP."""
    dress = draw(st.sampled_from(("plain", "plain", "ecrc", "ide", "prefixes", "prefixes and ide")))
    if "prefixes" in dress:
        local = draw(st.lists(st.tuples(st.sampled_from(tlp_naive.LOCAL), words), max_size=3))
        others = [kind for kind in tlp_naive.END if kind != tlp_naive.IDE]
        most = 3 if "ide" in dress else 4
        end = draw(st.lists(st.tuples(st.sampled_from(others), words), max_size=most))
        fields["local"] = b"".join(bytes([kind]) + word.to_bytes(4, "big")[1:] for kind, word in local)
        fields["end"] = b"".join(bytes([kind]) + word.to_bytes(4, "big")[1:] for kind, word in end)
    if "ide" in dress:
        p, m = draw(st.sampled_from(((0, 0), (0, 1), (1, 1))))
        word = draw(words) & 0x00FFFFF3
        fields["ide"] = tlp_naive.IDE << 24 | word | p << 3 | m << 2
        fields["trailer"] = _filler(draw(words), 12 * m + 4 * p)
    elif dress == "ecrc" or draw(bits):
        fields["td"], fields["ecrc"] = 1, draw(words)


def _flit_words(draw: Any, fields: Fields, family: str) -> None:
    """OHC and TS, which fit each other and the fields."""
    a, b, c = draw(bits), draw(bits), draw(bits)
    e = draw(st.sampled_from((0, 0, 0, 1, 2, 3)))
    if _needs_a(fields, family):
        a = 1
    fields["ohc"] = e << 3 | c << 2 | b << 1 | a
    fields["ohc_e"] = _filler(draw(words), 4 * (0, 1, 2, 4)[e])
    if a:
        fields["ohc_a"] = _word_a(fields, family, draw(words))
    if b:
        fields["ohc_b"] = draw(words)
    if c:
        # All zeros are a TLP of Stream 0 like any other; sub-stream 7 is none.
        fields["ide"] = draw(st.one_of(words, st.just(0), words.map(lambda word: word | 0x70)))
    ide = tlp_naive.is_ide(fields, True)
    ts = draw(st.sampled_from((0, 5, 6) if ide else (0, 1)))
    fields["ts"] = ts
    if ts == 1:
        fields["td"], fields["ecrc"] = 1, draw(words)
    else:
        fields["trailer"] = _filler(draw(words), tlp_naive.TRAILERS[ts])


def _needs_a(fields: Fields, family: str) -> bool:
    if family == MESSAGE:
        return False
    if family in (IO, CONFIG):
        return True
    if family == COMPLETION:
        return bool(fields["status"] or fields["lower_address"] & 3)
    return (fields["first_be"], fields["last_be"]) != (0xF, 0xF if fields["length"] > 1 else 0)


def _word_a(fields: Fields, family: str, word: int) -> int:
    """Return word A, random where it is not known to hold a field."""
    if family == MESSAGE:
        return word
    if family == COMPLETION:
        return word & ~0x1F | (fields["lower_address"] & 3) << 3 | fields["status"]
    return word & ~0xFF | fields["last_be"] << 4 | fields["first_be"]


def trains(*, flit: bool = False, most: int = 6) -> Any:
    """Draw TLPs that follow one another."""
    return st.lists(tlps(flit=flit), min_size=1, max_size=most)
