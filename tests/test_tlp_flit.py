"""Headers of flit mode: by hand, against the plain codec, and what is refused."""

import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import tlp_naive
from tlp_help import cuts, packed, refusal, row, rule_of
from tlp_strategies import tlps, trains

from sevpcie_core import spec
from sevpcie_core.tlp import kinds
from sevpcie_core.tlp.batch import TLP, Batch
from sevpcie_core.tlp.codec import pack, parse
from sevpcie_core.tlp.crc import ecrc
from sevpcie_core.tlp.header import header_bytes
from sevpcie_core.tlp.rules import TEXTS, Rule
from sevpcie_core.tlp.size import enables_bytes, padded_payload_bytes, request_header_bytes

ADDRESS = "1122334455667700"
MRD32 = "03000010 01000006 80001000"
MRD64 = "20000010 01000006" + ADDRESS


def of(*wires: str) -> Batch:
    return parse(bytes.fromhex("".join(wires)), flit=True)


# --- By hand ----------------------------------------------------------------------------------------------

# (bytes, fields)
BY_HAND: list[tuple[str, dict[str, int]]] = [
    # Type 03h is MRd32; without word A all bytes are enabled.
    (MRD32, {"kind": 0x00, "length": 16, "requester": 0x0100, "tag": 6, "first_be": 15, "last_be": 15}),
    ("03000001 01000006 80001000", {"kind": 0x00, "length": 1, "first_be": 15, "last_be": 0}),
    (MRD64, {"kind": 0x20, "address": 0x1122334455667700, "ohc": 0}),
    # TC 5, attributes IDO and NS, AT 10b, 14 bits of tag, poisoned.
    (
        "20a01410 0100bfff 1122334455667702",
        {"tc": 5, "attr": 5, "at": 2, "ep": 1, "tag": 0x3FFF, "address": 0x1122334455667700},
    ),
    # Word A: PASID and the like stay as they are; byte enables.
    (f"20010002 01000006 {ADDRESS} 123456c8", {"ohc": 1, "ohc_a": 0x123456C8, "last_be": 0xC, "first_be": 8}),
    # A, B, C, E of one word, in that order.
    (
        f"200f0010 01000006 {ADDRESS} 000000ff 00001234 00010200 9e000001",
        {"ohc": 15, "ohc_a": 0xFF, "ohc_b": 0x1234, "ide": 0x00010200},
    ),
    # B only, and E of four words.
    (f"201a0010 01000006 {ADDRESS} 00001234" + 16 * "ab", {"ohc": 26, "ohc_b": 0x1234}),
    # ECRC behind.
    (f"20002010 01000006 {ADDRESS} 01020304", {"td": 1, "ts": 1, "ecrc": 0x04030201}),
    # An IDE TLP with a MAC, and with a PCRC before it.
    (f"2004a010 01000006 {ADDRESS} 00010210" + 12 * "cd", {"ts": 5, "ide": 0x00010210}),
    (f"6004c001 01000006 {ADDRESS} 00000201 01020304" + 16 * "cd", {"ts": 6, "ide": 0x00000201}),
    # OHC-C of zeros: Stream 0, a posted request.
    (f"6004a001 01000006 {ADDRESS} 00000000 01020304" + 12 * "cd", {"ts": 5, "ohc": 4, "ide": 0}),
    # Sub-stream 7: no IDE TLP, so an ECRC may follow.
    (f"20042010 01000006 {ADDRESS} 05000078 01020304", {"ts": 1, "td": 1, "ide": 0x05000078}),
    # I/O and configuration requests have their byte enables in word A always.
    ("02010001 01000006 00000cf8 0000000f", {"kind": 0x02, "address": 0xCF8, "first_be": 15, "ohc": 1}),
    (
        "05010001 01000006 02190abc 05008003",
        {"kind": 0x05, "destination": 0x0219, "register": 0x2AF, "first_be": 3, "ohc_a": 0x05008003},
    ),
    # Completions: Lower Address in three places, Byte Count in DW 2.
    (
        "4a000002 02000006 01000008 0102030405060708",
        {
            "completer": 0x0200,
            "requester": 0x0100,
            "tag": 6,
            "byte_count": 8,
            "lower_address": 0,
            "status": 0,
        },
    ),
    ("4a000001 0200c123 0100f004 01020304", {"ep": 1, "lower_address": 0x7C, "tag": 0x123, "byte_count": 4}),
    (
        "4a010001 0200ffff 0100f000 05060018 01020304",
        {"lower_address": 0x7F, "tag": 0x3FFF, "byte_count": 4096},
    ),
    ("0a010000 02000006 01000004 00000002", {"status": 2, "lower_address": 0, "byte_count": 4}),
    # Messages have no tag, but seven bits of their own beside the code.
    (
        "32a00000 02000554 0100000000010200",
        {
            "kind": 0x32,
            "code": 0x54,
            "tag": 5,
            "tc": 5,
            "dw2": 0x01000000,
            "dw3": 0x00010200,
            "requester": 0x0200,
        },
    ),
    ("70000001 0200ff7f 0000000000000000 01020304", {"ep": 1, "tag": 0x7F, "code": 0x7F}),
]


@pytest.mark.nojit
@pytest.mark.parametrize(("wire", "fields"), BY_HAND)
def test_by_hand(wire: str, fields: dict[str, int]) -> None:
    data = bytes.fromhex(wire)
    batch = parse(data, flit=True)
    assert len(batch) == 1
    assert {name: int(batch.tlps[0][name]) for name in fields} == fields
    assert packed(batch) == data
    plain, used, broken = tlp_naive.read(data, flit=True)
    assert (row(batch, 0), len(data), set()) == (plain, used, broken)


def test_words_are_added_where_fields_need_them() -> None:
    """A builder fills fields; which words that takes is for `pack`."""

    def words(**fields: int) -> bytes:
        tlps = np.zeros(1, TLP)
        for name, value in fields.items():
            tlps[name] = value
        return packed(Batch(tlps, np.zeros(0, np.uint8), flit=True))

    read = {"kind": kinds.MRD64, "length": 2, "address": 0x1122334455667700}
    assert words(**read, first_be=15, last_be=15) == bytes.fromhex(f"20000002 00000000 {ADDRESS}")
    assert words(**read, first_be=12, last_be=15) == bytes.fromhex(f"20010002 00000000 {ADDRESS} 000000fc")
    one = {**read, "length": 1}
    assert words(**one, first_be=15) == bytes.fromhex(f"20000001 00000000 {ADDRESS}")
    assert words(**one, first_be=0) == bytes.fromhex(f"20010001 00000000 {ADDRESS} 00000000")
    # An IDE word brings OHC-C.
    assert words(**read, first_be=15, last_be=15, ide=0x210) == bytes.fromhex(
        f"20040002 00000000 {ADDRESS} 00000210"
    )
    completion = {"kind": kinds.CPL, "byte_count": 4}
    assert words(**completion, lower_address=0x7C) == bytes.fromhex("0a000000 00004000 0000f004")
    assert words(**completion, lower_address=0x41) == bytes.fromhex("0a010000 00004000 00000004 00000008")
    assert words(**completion, status=1) == bytes.fromhex("0a010000 00000000 00000004 00000001")
    config = {"kind": kinds.CFGRD0, "length": 1, "first_be": 15}
    assert words(**config) == bytes.fromhex("04010001 00000000 00000000 0000000f")


# --- Against the plain codec ------------------------------------------------------------------------------


@pytest.mark.nojit
@settings(max_examples=250)
@given(fields=tlps(flit=True))
def test_fields_are_those_of_the_plain_codec_and_the_bytes_come_back(fields: tlp_naive.Fields) -> None:
    wire = tlp_naive.write(fields, flit=True)
    assert tlp_naive.read(wire, flit=True) == (fields, len(wire), set())
    batch = parse(wire, flit=True)
    assert row(batch, 0) == fields
    assert packed(batch) == wire


@settings(max_examples=100)
@given(train=trains(flit=True))
def test_tlps_follow_one_another(train: list[tlp_naive.Fields]) -> None:
    wires = [tlp_naive.write(fields, flit=True) for fields in train]
    unframed = parse(b"".join(wires), flit=True)
    assert [row(unframed, i) for i in range(len(train))] == train
    assert unframed == parse(b"".join(wires), cuts(wires), flit=True)
    assert packed(unframed[::-1]) == b"".join(wires[::-1])


@pytest.mark.parametrize("kind", sorted(tlp_naive.FAMILY))
def test_every_kind(kind: int) -> None:
    @settings(max_examples=6)
    @given(fields=tlps(flit=True, kinds=[kind]))
    def check(fields: tlp_naive.Fields) -> None:
        wire = tlp_naive.write(fields, flit=True)
        batch = parse(wire, flit=True)
        assert row(batch, 0) == fields
        assert packed(batch) == wire
        assert wire[0] == (0x03 if kind == 0x00 else kind)

    check()


@pytest.mark.nojit
@settings(max_examples=120)
@given(
    fields=tlps(flit=True, kinds=[0x00, 0x20, 0x40, 0x60]).filter(lambda fields: not fields["ohc"] & 0b11110),
)
def test_size_is_that_of_the_simulator(fields: tlp_naive.Fields) -> None:
    """A memory request takes the header and the word of its byte enables that `tlp.size` says."""
    address, size = span(fields)
    # The simulator counts addresses in 63 bits.
    if size == 0 or address + size >= 1 << 63:
        return
    # What `pack` makes of the fields alone.
    batch = parse(tlp_naive.write(fields, flit=True), flit=True)
    for name in ("ohc", "ohc_a", "ts", "td", "ecrc", "ide", "trailer_bytes"):
        batch.tlps[name] = 0
    padded = int(padded_payload_bytes(address, size)) if fields["payload"] else 0
    header = int(request_header_bytes(address)) + int(enables_bytes(address, size, True))
    assert len(packed(batch)) == header + padded


def span(fields: tlp_naive.Fields) -> tuple[int, int]:
    """Return (address, size) of the bytes that a request touches, (0, 0) if they are not contiguous."""
    first, last, length = fields["first_be"], fields["last_be"], fields["length"]
    enabled = tlp_naive.touched(first, last, length)
    if not any(enabled) or not tlp_naive.contiguous(enabled):
        return 0, 0
    if length > 2:
        enabled = enabled[:4] + [True] * 4 * (length - 2) + enabled[4:]
    start = enabled.index(True)
    return fields["address"] + start, sum(enabled)


# --- What is refused --------------------------------------------------------------------------------------

BROKEN = [
    (Rule.KIND, "00000000 00000000 00000000"),  # a NOP
    (Rule.KIND, "22000010 01000006" + ADDRESS),  # unordered I/O
    (Rule.KIND, "8d000000" + MRD64),  # a local prefix
    (Rule.KIND, "92000104" + MRD64),  # prefixes are words of OHC here
    (Rule.TRUNCATED, "20000010"),
    (Rule.TRUNCATED, MRD64[:-2]),
    (Rule.TRUNCATED, f"20010010 01000006 {ADDRESS} 0000ff"),
    (Rule.TRUNCATED, f"20180010 01000006 {ADDRESS}" + 15 * "00"),
    (Rule.TRUNCATED, f"60000001 01000006 {ADDRESS} 000000"),
    (Rule.TRUNCATED, f"20002010 01000006 {ADDRESS} 010203"),
    (Rule.TRUNCATED, f"6004c001 01000006 {ADDRESS} 00000201 01020304" + 15 * "cd"),
    (Rule.RESERVED, f"20000010 01004006 {ADDRESS}"),
    (Rule.RESERVED, "05010001 01000006 02191abc 0000000f"),
    (Rule.RESERVED, "02010001 01000006 00000cf9 0000000f"),
    *[(Rule.TS, f"2000{ts << 5:02x}10 01000006 {ADDRESS}" + 20 * "00") for ts in (2, 3, 4, 7)],
    (Rule.OHC, "02000001 01000006 00000cf8"),
    (Rule.OHC, "45000001 01000006 02190abc 00000000"),
    (Rule.OHC, f"2000a010 01000006 {ADDRESS}" + 12 * "cd"),
    (Rule.OHC, f"2004a010 01000006 {ADDRESS} 00000070" + 12 * "cd"),
    (Rule.IDE_TD, f"20042010 01000006 {ADDRESS} 00000110 01020304"),
    (Rule.IDE_TD, f"20042010 01000006 {ADDRESS} 00000000 01020304"),
    (Rule.LAST_BE_ONE, f"20010001 01000006 {ADDRESS} 0000001f"),
    (Rule.BE_GAPS, f"20010003 01000006 {ADDRESS} 000000f7"),
    (Rule.LENGTH_ONE, "05010001 01000006 02190abc 0000001f"),
    (Rule.TC_ZERO, "05210001 01000006 02190abc 0000000f"),
    (Rule.STATUS, "0a010000 02000006 01000004 00000003"),
    (Rule.STATUS_DATA, "4a010001 02000006 01000004 00000001 01020304"),
    (Rule.BYTE_COUNT, "4a000002 02000006 01000004 0102030405060708"),
    (Rule.PAGE, "20000002 01000006 1122334455667ffc"),
    (Rule.FORM_3DW, "20000002 01000006 0000000055667000"),
]


@pytest.mark.nojit
@pytest.mark.parametrize(
    ("rule", "wire"), BROKEN, ids=[f"{rule.name}-{i}" for i, (rule, _) in enumerate(BROKEN)]
)
def test_a_broken_rule_is_named_with_its_place(rule: Rule, wire: str) -> None:
    data = bytes.fromhex(wire)
    assert rule.name in tlp_naive.read(data, flit=True)[2]
    field, text = TEXTS[rule]
    head = bytes.fromhex(MRD64)
    assert refusal(parse, data, flit=True) == f"TLP 0 at byte 0, {field}: {text}"
    assert refusal(parse, head + data, flit=True) == f"TLP 1 at byte 16, {field}: {text}"
    framed = refusal(parse, head + data + head, cuts([head, data, head]), flit=True)
    assert framed == f"TLP 1 at byte 16, {field}: {text}"


READ = {"kind": 0x20, "length": 16, "first_be": 15, "last_be": 15, "address": 0x1122334455667700}
COMPLETION = {"kind": 0x0A, "byte_count": 4}
MESSAGE = {"kind": 0x30, "code": 0x54}
CONFIG = {"kind": 0x04, "length": 1, "first_be": 15}
REFUSED: list[tuple[Rule, dict[str, int], dict[str, int]]] = [
    (Rule.TAG_RANGE, READ, {"tag": 1 << 14}),
    (Rule.NO_PLACE, MESSAGE, {"tag": 1 << 7}),
    (Rule.NO_PLACE, MESSAGE, {"at": 1}),
    (Rule.NO_PLACE, COMPLETION, {"bcm": 1}),
    (Rule.COMPLETION_AT, COMPLETION, {"at": 1}),
    (Rule.TC_ZERO, CONFIG, {"at": 1}),
    (Rule.OHC, READ, {"th": 1}),
    (Rule.OHC, READ, {"ph": 1}),
    (Rule.OHC, READ, {"ohc_a": 0x100}),
    (Rule.OHC, READ, {"ohc_b": 1}),
    (Rule.OHC, READ, {"ts": 5, "trailer_bytes": 12}),
    (Rule.OHC, READ, {"ts": 5, "trailer_bytes": 12, "ide": 0x70}),
    (Rule.TS, READ, {"ts": 2}),
    (Rule.TS, READ, {"ts": 1}),
    (Rule.TS, READ, {"td": 1}),
    (Rule.IDE_TD, READ, {"ts": 1, "td": 1, "ide": 1}),
    (Rule.IDE_TD, READ, {"ts": 1, "td": 1, "ohc": 4}),
    (Rule.TRAILER, READ, {"trailer_bytes": 12}),
    (Rule.TRAILER, READ, {"ts": 6, "ide": 1, "trailer_bytes": 12}),
    (Rule.PREFIX_KIND, READ, {"local_prefixes": 1}),
    (Rule.PREFIX_KIND, READ, {"end_prefixes": 1}),
    (Rule.POOL, READ, {"ohc": 8, "ohc_e_at": 61}),
    (Rule.POOL, READ, {"ohc": 16, "ohc_e_at": 57}),
    (Rule.POOL, READ, {"ohc": 24, "ohc_e_at": 49}),
    (Rule.POOL, READ, {"ohc": 24, "ohc_e_at": -1}),
    (Rule.LENGTH_DATA, READ, {"data_bytes": 4}),
]


@pytest.mark.nojit
@pytest.mark.parametrize(
    ("rule", "good", "bad"), REFUSED, ids=[f"{rule.name}-{'-'.join(bad)}" for rule, _, bad in REFUSED]
)
def test_pack_refuses_rows_that_break_a_rule(rule: Rule, good: dict[str, int], bad: dict[str, int]) -> None:
    tlps = np.zeros(2, TLP)
    for name, value in good.items():
        tlps[name] = value
    batch = Batch(tlps, np.zeros(64, np.uint8), flit=True)
    assert len(parse(*pack(batch), flit=True)) == 2
    for name, value in bad.items():
        tlps[1][name] = value
    field, text = TEXTS[rule]
    assert refusal(pack, batch) == f"TLP 1, {field}: {text}"


def test_max_payload() -> None:
    wire = bytes.fromhex("60000020 01000006" + ADDRESS) + bytes(128)
    assert len(parse(wire, flit=True, max_payload=128)) == 1
    longer = bytes.fromhex("60000021 01000006" + ADDRESS) + bytes(132)
    assert rule_of(refusal(parse, longer, flit=True, max_payload=128)) == "MAX_PAYLOAD"


# --- One link, two modes ----------------------------------------------------------------------------------


def test_bytes_of_the_other_mode_are_not_taken_for_ours() -> None:
    plain = bytes.fromhex("00000010 010006ff 80001000")
    assert rule_of(refusal(parse, plain, flit=True)) == "KIND"
    assert rule_of(refusal(parse, bytes.fromhex(MRD32))) == "KIND"


@settings(max_examples=60)
@given(fields=tlps(flit=True, kinds=[0x00, 0x20, 0x4A, 0x60]).filter(lambda fields: fields["ts"] == 1))
def test_ecrc(fields: Any) -> None:
    """End to end: poisoned on the way or not."""
    bare = tlp_naive.write(fields, flit=True)[:-4]
    covered = bytearray(bare)
    covered[0] |= 1
    covered[6] |= 0x80
    assert ecrc(bare, flit=True) == zlib.crc32(covered)
    other = tlp_naive.write({**fields, "ep": 1 - fields["ep"]}, flit=True)[:-4]
    assert other != bare
    assert ecrc(other, flit=True) == ecrc(bare, flit=True)


def test_constants_are_those_of_spec() -> None:
    assert set(tlp_naive.TRAILERS) == {spec.TS_NONE, spec.TS_ECRC, spec.TS_MAC, spec.TS_PCRC_MAC}
    assert header_bytes(kinds.MRD32) == 12


@pytest.mark.nojit
@given(st.binary(max_size=40))
@settings(max_examples=50)
def test_a_nop_and_nothing(data: bytes) -> None:
    assert len(parse(b"", flit=True)) == 0
    assert rule_of(refusal(parse, b"\0" + data, flit=True)) == "KIND"
