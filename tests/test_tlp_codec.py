"""Bytes to fields and back outside flit mode: against a codec that goes bit by bit, and rule by rule."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from oracles import tlp_naive
from tlp_help import cuts, one, packed, refusal, row, rule_of
from tlp_strategies import tlps, trains

from sevpcie_core.errors import MisuseError
from sevpcie_core.tlp import kinds
from sevpcie_core.tlp.batch import TLP, Batch
from sevpcie_core.tlp.codec import pack, parse
from sevpcie_core.tlp.header import header_bytes
from sevpcie_core.tlp.rules import TEXTS, Rule

MRD64 = bytes.fromhex("20000010 010006ff 1122334455667700")
MWR32 = bytes.fromhex("40000001 0100050f 80001000 01020304")

# --- What keeps the rules ---------------------------------------------------------------------------------


@pytest.mark.nojit
@settings(max_examples=250)
@given(fields=tlps())
def test_fields_are_those_of_the_plain_codec_and_the_bytes_come_back(fields: tlp_naive.Fields) -> None:
    wire = tlp_naive.write(fields)
    assert tlp_naive.read(wire) == (fields, len(wire), set())
    batch = parse(wire)
    assert len(batch) == 1
    assert row(batch, 0) == fields
    data, offsets = pack(batch)
    assert data.tobytes() == wire
    assert offsets.tolist() == [0, len(wire)]


@settings(max_examples=120)
@given(train=trains())
def test_tlps_follow_one_another_framed_and_unframed(train: list[tlp_naive.Fields]) -> None:
    wires = [tlp_naive.write(fields) for fields in train]
    data = b"".join(wires)
    assert tlp_naive.read_all(data) == train
    unframed = parse(data)
    framed = parse(data, cuts(wires))
    assert unframed == framed
    assert [row(unframed, i) for i in range(len(train))] == train
    again, offsets = pack(framed)
    assert again.tobytes() == data
    assert offsets.tolist() == cuts(wires).tolist()
    # Any order, and from a pool that is shared.
    back = framed[::-1]
    assert packed(back) == b"".join(wires[::-1])


@pytest.mark.parametrize("kind", sorted(tlp_naive.FAMILY))
def test_every_kind(kind: int) -> None:
    @settings(max_examples=6)
    @given(fields=tlps(kinds=[kind]))
    def check(fields: tlp_naive.Fields) -> None:
        batch = one(fields)
        assert row(batch, 0) == fields
        assert packed(batch) == tlp_naive.write(fields)
        assert header_bytes(kind) == 4 * tlp_naive.header_dw(kind)

    check()


def test_kinds_are_those_of_the_standard() -> None:
    for byte in range(256):
        family = kinds.TRAITS[byte] & kinds.FAMILY_MASK
        is_tlp = kinds.NONE < family < kinds.LOCAL_PREFIX
        assert is_tlp == (byte in tlp_naive.FAMILY), f"{byte:#x}"
        assert (family == kinds.LOCAL_PREFIX) == (byte in tlp_naive.LOCAL)
        assert (family == kinds.END_PREFIX) == (byte in tlp_naive.END)


@pytest.mark.nojit
def test_the_vectors_of_two_requests() -> None:
    # A memory write and a memory read of a selective stream, sealed: prefix, header, payload, MAC.
    write = bytes.fromhex("92000104 60000010 010005ff 1122334455667700") + bytes(range(64)) + bytes(12)
    read = bytes.fromhex("92010114 20000010 010006ff 1122334455667700") + bytes(12)
    batch = parse(write + read)
    assert [int(word) for word in batch.tlps["ide"]] == [0x92000104, 0x92010114]
    assert batch.tlps["address"].tolist() == [0x1122334455667700] * 2
    assert batch.tlps["length"].tolist() == [16, 16]
    assert batch.tlps["requester"].tolist() == [0x0100] * 2
    assert batch.tlps["tag"].tolist() == [5, 6]
    assert batch.payload(0) == bytes(range(64))
    assert batch.trailer(1) == bytes(12)
    assert packed(batch) == write + read


# --- What breaks them -------------------------------------------------------------------------------------


def header(kind: int, dw: int, rest: str, *, bits: int = 0) -> bytes:
    """Return DW 0 with Length and further bits of it, and what follows."""
    return (kind << 24 | bits | dw % 1024).to_bytes(4, "big") + bytes.fromhex(rest)


HIGH = "1122334455667700"
IDE_M = bytes.fromhex("92000104")
TPH = bytes.fromhex("90000000")
LOCAL = bytes.fromhex("8e000000")
# Each breaks one rule. (rule, bytes of the TLP)
BROKEN = [
    (Rule.TRUNCATED, MRD64[:-1]),
    (Rule.TRUNCATED, MRD64[:3]),
    (Rule.TRUNCATED, TPH[:3]),
    (Rule.TRUNCATED, TPH),
    (Rule.TRUNCATED, MWR32[:-1]),
    (Rule.TRUNCATED, header(0x40, 0, "0100050f 80001000") + bytes(4092)),
    (Rule.TRUNCATED, IDE_M + MRD64 + bytes(11)),
    (Rule.TRUNCATED, header(0x20, 16, "010006ff" + HIGH, bits=1 << 15) + bytes(3)),
    (Rule.KIND, b"\x1f" + MRD64[1:]),
    (Rule.KIND, header(0x36, 0, "01000054" + 16 * "0")),
    (Rule.KIND, header(0x03, 1, "0100000f 00001000")),
    (Rule.KIND, header(0x22, 1, "0100000f 00001000")),
    (Rule.RESERVED, header(0x20, 16, "010006ff" + HIGH, bits=1 << 17)),
    (Rule.RESERVED, header(0x30, 0, "01000054" + 16 * "0", bits=1 << 17)),
    (Rule.RESERVED, header(0x04, 1, "0100000f 02001000")),
    (Rule.RESERVED, header(0x04, 1, "0100000f 02000001")),
    (Rule.RESERVED, header(0x02, 1, "0100000f 00001002")),
    (Rule.RESERVED, header(0x0A, 0, "02000004 01000680")),
    (Rule.PREFIX_KIND, bytes.fromhex("93000000") + MRD64),
    (Rule.PREFIX_KIND, bytes.fromhex("81000000") + MRD64),
    (Rule.PREFIX_KIND, bytes.fromhex("a0000000") + MRD64),
    (Rule.PREFIX_ORDER, TPH + LOCAL + MRD64),
    (Rule.PREFIX_ORDER, TPH + IDE_M + MRD64 + bytes(12)),
    (Rule.PREFIX_ORDER, IDE_M + IDE_M + MRD64 + bytes(12)),
    (Rule.PREFIX_ORDER, IDE_M + LOCAL + MRD64 + bytes(12)),
    (Rule.PREFIX_COUNT, 5 * TPH + MRD64),
    (Rule.PREFIX_COUNT, IDE_M + 4 * TPH + MRD64 + bytes(12)),
    (Rule.PREFIX_COUNT, 256 * LOCAL + MRD64),
    (Rule.LAST_BE_ONE, header(0x20, 1, "010006ff" + HIGH)),
    (Rule.BE_ZERO, header(0x20, 16, "010006f0" + HIGH)),
    (Rule.BE_ZERO, header(0x20, 16, "0100060f" + HIGH)),
    (Rule.BE_ZERO, header(0x20, 2, "0100060f" + HIGH)),
    (Rule.BE_GAPS, header(0x20, 16, "010006f7" + HIGH)),
    (Rule.BE_GAPS, header(0x20, 16, "010006ef" + HIGH)),
    (Rule.BE_GAPS, header(0x20, 2, "010006f1 1122334455667704")),
    (Rule.LENGTH_ONE, header(0x02, 2, "0100000f 00001000")),
    (Rule.LENGTH_ONE, header(0x04, 1, "010000ff 02000000")),
    (Rule.LENGTH_ONE, header(0x44, 2, "0100000f 02000000") + bytes(8)),
    (Rule.TC_ZERO, header(0x04, 1, "0100000f 02000000", bits=1 << 20)),
    (Rule.TC_ZERO, header(0x02, 1, "0100000f 00001000", bits=2 << 10)),
    (Rule.TC_ZERO, header(0x02, 1, "0100000f 00001000", bits=1 << 16)),
    (Rule.OPERAND, header(0x6C, 3, "01000000" + HIGH) + bytes(12)),
    (Rule.OPERAND, header(0x6E, 1, "01000000" + HIGH) + bytes(4)),
    (Rule.OPERAND, header(0x6E, 16, "01000000" + HIGH) + bytes(64)),
    (Rule.ALIGNMENT, header(0x6C, 2, "01000000 1122334455667704") + bytes(8)),
    (Rule.ALIGNMENT, header(0x6E, 8, "01000000 1122334455667708") + bytes(32)),
    (Rule.PAGE, header(0x20, 2, "010006ff 1122334455667ffc")),
    (Rule.PAGE, header(0x40, 0, "010005ff 80001004") + bytes(4096)),
    (Rule.FORM_3DW, header(0x20, 16, "010006ff 00000000ffffff00")),
    (Rule.FORM_3DW, header(0x6C, 1, "01000000 0000000000001000") + bytes(4)),
    (Rule.STATUS, header(0x0A, 0, "02006004 01000600")),
    (Rule.STATUS_DATA, header(0x4A, 1, "02002004 01000600") + bytes(4)),
    (Rule.COMPLETION_AT, header(0x0A, 0, "02000004 01000600", bits=1 << 10)),
    (Rule.COMPLETION_TH, header(0x0A, 0, "02000004 01000600", bits=1 << 16)),
    (Rule.BYTE_COUNT, header(0x4A, 2, "02000004 01000600") + bytes(8)),
    (Rule.BYTE_COUNT, header(0x4A, 3, "02000005 01000603") + bytes(12)),
    (Rule.IDE_TD, IDE_M + header(0x20, 16, "010006ff" + HIGH, bits=1 << 15) + bytes(16)),
    (Rule.TRAILER, bytes.fromhex("92000108") + MRD64 + bytes(4)),
]


@pytest.mark.nojit
@pytest.mark.parametrize(
    ("rule", "wire"), BROKEN, ids=[f"{rule.name}-{i}" for i, (rule, _) in enumerate(BROKEN)]
)
def test_a_broken_rule_is_named_with_its_place(rule: Rule, wire: bytes) -> None:
    _, _, broken = tlp_naive.read(wire)
    assert broken == {rule.name}
    field, text = TEXTS[rule]
    good = [MRD64, MWR32]
    for before in ([], good):
        start = len(b"".join(before))
        expected = f"TLP {len(before)} at byte {start}, {field}: {text}"
        behind = [] if rule == Rule.TRUNCATED else [MRD64]
        assert refusal(parse, b"".join([*before, wire, *behind])) == expected
        assert refusal(parse, b"".join([*before, wire, MRD64]), cuts([*before, wire, MRD64])) == expected
        # A gap before the first TLP moves every offset.
        at = refusal(parse, bytes(7) + b"".join([*before, wire]), cuts([*before, wire]) + 7)
        assert at == expected.replace(f"byte {start},", f"byte {start + 7},")


def test_bytes_behind_a_tlp_break_a_rule_where_it_is_framed() -> None:
    message = refusal(parse, MRD64 + bytes(4), np.array([0, 20]))
    assert message == "TLP 0 at byte 0, Length: bytes follow behind what its header speaks of"
    # Unframed they are the next TLP, and too short for one.
    assert rule_of(refusal(parse, MRD64 + bytes(4))) == "TRUNCATED"
    # So is a TLP of no bytes.
    message = refusal(parse, MRD64, np.array([0, 16, 16]))
    assert message.startswith("TLP 1 at byte 16, Length: the TLP ends")


def test_every_rule_is_broken_by_a_case() -> None:
    only_packed = {
        Rule.LENGTH_DATA,
        Rule.LENGTH_RANGE,
        Rule.FORM_4DW,
        Rule.BYTE_COUNT_RANGE,
        Rule.TAG_RANGE,
        Rule.FIELD_RANGE,
        Rule.NO_PLACE,
        Rule.POOL,
    }
    only_flit = {Rule.TS, Rule.OHC}
    elsewhere = {Rule.KEPT, Rule.TOO_LONG, Rule.MAX_PAYLOAD} | only_packed | only_flit
    assert {rule for rule, _ in BROKEN} | elsewhere == set(Rule)
    assert set(TEXTS) == set(Rule) - {Rule.KEPT}
    assert {rule for rule, _, _ in REFUSED} >= only_packed


@pytest.mark.nojit
@settings(max_examples=200)
@given(fields=tlps())
def test_max_payload_limits_what_carries_data(fields: tlp_naive.Fields) -> None:
    wire = tlp_naive.write(fields)
    batch = parse(wire)
    for limit in (128, 256, 2048):
        if len(fields["payload"]) > limit:
            assert rule_of(refusal(parse, wire, max_payload=limit)) == "MAX_PAYLOAD"
            assert rule_of(refusal(pack, batch, max_payload=limit)) == "MAX_PAYLOAD"
            assert "MAX_PAYLOAD" in tlp_naive.read(wire, max_payload=limit)[2]
        else:
            assert parse(wire, max_payload=limit) == batch
            assert pack(batch, max_payload=limit)[0].tobytes() == wire


# --- What pack refuses ------------------------------------------------------------------------------------

READ = {"kind": 0x20, "length": 16, "first_be": 15, "last_be": 15, "address": 0x1122334455667700}
WRITE = {**READ, "kind": 0x60, "data_bytes": 64}
LOW = {**READ, "kind": 0x00, "address": 0x1000}
COMPLETION = {"kind": 0x0A, "byte_count": 4}
MESSAGE = {"kind": 0x30, "code": 0x54}
CONFIG = {"kind": 0x04, "length": 1, "first_be": 15}
PORT = {**CONFIG, "kind": 0x02, "address": 0x1000}

# (rule, a good row, what is put into it); the pool has 64 bytes, all of them 0.
REFUSED: list[tuple[Rule, dict[str, int], dict[str, int]]] = [
    (Rule.KIND, READ, {"kind": 0x22}),
    (Rule.KIND, READ, {"kind": 0x92}),
    (Rule.LENGTH_DATA, READ, {"data_bytes": 4}),
    (Rule.LENGTH_DATA, WRITE, {"data_bytes": 60}),
    (Rule.LENGTH_DATA, WRITE, {"length": 15}),
    (Rule.LENGTH_RANGE, READ, {"length": 0}),
    (Rule.LENGTH_RANGE, WRITE, {"length": 0, "data_bytes": 0}),
    (Rule.LENGTH_RANGE, COMPLETION, {"length": 1024}),
    (Rule.LENGTH_RANGE, MESSAGE, {"length": 1024}),
    (Rule.FIELD_RANGE, READ, {"length": 1025}),
    (Rule.FORM_4DW, LOW, {"address": 1 << 32}),
    (Rule.FORM_3DW, READ, {"address": 0x1000}),
    (Rule.BYTE_COUNT_RANGE, COMPLETION, {"byte_count": 0}),
    (Rule.BYTE_COUNT_RANGE, COMPLETION, {"byte_count": 4097}),
    (Rule.TAG_RANGE, READ, {"tag": 1024}),
    *[
        (Rule.FIELD_RANGE, READ, {name: most + 1})
        for name, most in {"tc": 7, "attr": 7, "at": 3, "th": 1, "td": 1, "ep": 1, "ph": 3}.items()
    ],
    (Rule.FIELD_RANGE, READ, {"first_be": 16}),
    (Rule.FIELD_RANGE, READ, {"last_be": 16}),
    (Rule.FIELD_RANGE, READ, {"address": 0x1122334455667701}),
    (Rule.FIELD_RANGE, READ, {"address": 0x1122334455667702}),
    (Rule.FIELD_RANGE, COMPLETION, {"status": 8}),
    (Rule.FIELD_RANGE, COMPLETION, {"bcm": 2}),
    (Rule.FIELD_RANGE, COMPLETION, {"lower_address": 128}),
    (Rule.FIELD_RANGE, CONFIG, {"register": 1024}),
    (Rule.FIELD_RANGE, READ, {"ohc": 32}),
    (Rule.FIELD_RANGE, READ, {"ts": 8}),
    (Rule.OHC, READ, {"ohc": 1}),
    (Rule.OHC, READ, {"ohc_a": 1}),
    (Rule.OHC, READ, {"ohc_b": 1}),
    (Rule.OHC, READ, {"ts": 1}),
    *[
        (Rule.NO_PLACE, READ, {name: 1})
        for name in (
            "completer",
            "status",
            "bcm",
            "lower_address",
            "byte_count",
            "code",
            "dw2",
            "dw3",
            "ecrc",
        )
    ],
    (Rule.NO_PLACE, READ, {"destination": 1}),
    (Rule.NO_PLACE, READ, {"register": 1}),
    (Rule.NO_PLACE, COMPLETION, {"address": 4}),
    (Rule.NO_PLACE, COMPLETION, {"first_be": 1}),
    (Rule.NO_PLACE, COMPLETION, {"last_be": 1}),
    (Rule.NO_PLACE, COMPLETION, {"dw2": 1 << 31}),
    (Rule.NO_PLACE, MESSAGE, {"completer": 0x8000}),
    (Rule.NO_PLACE, MESSAGE, {"address": 1 << 63}),
    (Rule.NO_PLACE, MESSAGE, {"ph": 1}),
    (Rule.NO_PLACE, CONFIG, {"ph": 1}),
    (Rule.NO_PLACE, CONFIG, {"address": 4}),
    (Rule.NO_PLACE, PORT, {"ph": 1}),
    (Rule.NO_PLACE, PORT, {"destination": 1}),
    (Rule.NO_PLACE, PORT, {"address": 1 << 32}),
    (Rule.NO_PLACE, PORT, {"address": 1 << 63}),
    (Rule.TRAILER, READ, {"trailer_bytes": 12}),
    (Rule.TRAILER, READ, {"ide": 0x92000104}),
    (Rule.TRAILER, READ, {"ide": 0x92000104, "trailer_bytes": 16}),
    (Rule.TRAILER, READ, {"ide": 0x9200010C, "trailer_bytes": 12}),
    (Rule.TRAILER, READ, {"ide": 0x92000108, "trailer_bytes": 4}),
    (Rule.IDE_TD, READ, {"ide": 0x92000100, "td": 1}),
    (Rule.PREFIX_KIND, READ, {"ide": 0x00000100}),
    (Rule.PREFIX_KIND, READ, {"ide": 0x90000100}),
    # Zeros are no prefix.
    (Rule.PREFIX_KIND, READ, {"local_prefixes": 1}),
    (Rule.PREFIX_KIND, READ, {"end_prefixes": 1}),
    (Rule.PREFIX_COUNT, READ, {"end_prefixes": 5}),
    (Rule.PREFIX_COUNT, READ, {"end_prefixes": 4, "ide": 0x92000100}),
    (Rule.POOL, WRITE, {"data_at": 1}),
    (Rule.POOL, WRITE, {"data_at": -1}),
    (Rule.POOL, WRITE, {"data_at": 1 << 62}),
    (Rule.POOL, WRITE, {"data_at": -(1 << 63)}),
    (Rule.POOL, READ, {"ide": 0x92000104, "trailer_bytes": 12, "trailer_at": 53}),
    (Rule.POOL, READ, {"local_prefixes": 17}),
    (Rule.POOL, READ, {"local_prefixes": 1, "local_at": 61}),
    (Rule.POOL, READ, {"end_prefixes": 1, "end_at": -4}),
]


def made(row: dict[str, Any], count: int = 1) -> Batch:
    tlps = np.zeros(count, TLP)
    for name, value in row.items():
        tlps[name] = value
    return Batch(tlps, np.zeros(64, np.uint8))


@pytest.mark.nojit
@pytest.mark.parametrize("good", [READ, WRITE, LOW, COMPLETION, MESSAGE, CONFIG, PORT])
def test_rows_that_keep_the_rules_are_packed(good: dict[str, int]) -> None:
    batch = made(good, 3)
    data, offsets = pack(batch)
    assert parse(data, offsets) == batch


@pytest.mark.nojit
@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    REFUSED,
    ids=[f"{rule.name}-{'-'.join(bad)}-{i}" for i, (rule, _, bad) in enumerate(REFUSED)],
)
def test_pack_refuses_rows_that_break_a_rule(rule: Rule, good: dict[str, int], bad: dict[str, int]) -> None:
    batch = made(good, 3)
    for name, value in bad.items():
        batch.tlps[1][name] = value
    field, text = TEXTS[rule]
    assert refusal(pack, batch) == f"TLP 1, {field}: {text}"


@pytest.mark.nojit
def test_places_of_what_is_not_there_do_not_count() -> None:
    places = dict.fromkeys(("local_at", "end_at", "ohc_e_at", "data_at", "trailer_at"), -5)
    assert packed(made({**READ, **places})) == packed(made(READ))


def test_a_prefix_in_the_pool_must_be_one_of_its_place() -> None:
    batch = made({**READ, "local_prefixes": 1, "end_prefixes": 2, "end_at": 4})
    for first, second, third, good in (
        (0x8E, 0x90, 0x9F, True),
        (0x80, 0x91, 0x90, True),
        (0x90, 0x90, 0x90, False),
        (0x8E, 0x8E, 0x90, False),
        (0x8E, 0x90, 0x92, False),
        (0x8E, 0x93, 0x90, False),
        (0x20, 0x90, 0x90, False),
    ):
        batch.pool[[0, 4, 8]] = first, second, third
        if good:
            assert packed(batch) == batch.pool[:12].tobytes() + packed(made(READ))
        else:
            assert rule_of(refusal(pack, batch)) == "PREFIX_KIND"


# --- What the calls take ----------------------------------------------------------------------------------


@pytest.mark.nojit
def test_no_tlps_at_all() -> None:
    for empty in (b"", np.zeros(0, np.uint8)):
        for offsets in (None, np.zeros(1, np.int64)):
            batch = parse(empty, offsets)
            assert len(batch) == 0
            data, places = pack(batch)
            assert len(data) == 0
            assert places.tolist() == [0]


@pytest.mark.nojit
def test_bytes_of_every_kind_of_buffer() -> None:
    expected = parse(MRD64 + MWR32)
    wire = np.frombuffer(MRD64 + MWR32, np.uint8)
    offsets = cuts([MRD64, MWR32])
    frozen = offsets.copy()
    frozen.flags.writeable = False
    twice = np.repeat(wire, 2)
    for data in (bytearray(wire), memoryview(wire), wire, wire.copy(), twice[::2]):
        for places in (None, offsets, frozen, offsets.astype(np.uint16), np.repeat(offsets, 2)[::2]):
            assert parse(data, places) == expected
    expected.tlps.flags.writeable = False
    expected.pool.flags.writeable = False
    assert packed(expected) == MRD64 + MWR32


def test_the_pool_is_the_wire_where_it_can_be() -> None:
    wire = np.frombuffer(MRD64 + MWR32, np.uint8).copy()
    assert parse(wire).pool is wire


@pytest.mark.parametrize(
    "offsets",
    [[0, 17], [-1, 16], [0, 16, 12, 16], [], [[0, 16]], [0.0, 16.0], [1 << 63, 16]],
    ids=["beyond", "negative", "descending", "none", "two axes", "floats", "huge"],
)
def test_offsets_that_make_no_sense_are_misuse(offsets: list[Any]) -> None:
    array = np.array(offsets, np.uint64 if offsets and offsets[0] == 1 << 63 else None)
    with pytest.raises(MisuseError, match="offsets"):
        parse(MRD64, array)


def test_arrays_of_other_types_are_misuse() -> None:
    for data in (np.zeros(16, np.int64), np.zeros((2, 16), np.uint8), np.zeros(16, np.int8)):
        with pytest.raises(MisuseError, match="u1"):
            parse(data)
        with pytest.raises(MisuseError, match="u1"):
            pack(Batch(np.zeros(0, TLP), data))
    for rows in (np.zeros(3, np.int64), np.zeros((2, 2), TLP)):
        with pytest.raises(MisuseError, match="TLP"):
            pack(Batch(rows, np.zeros(0, np.uint8)))
