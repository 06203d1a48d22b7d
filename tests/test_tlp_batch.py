"""A batch as a value: picking, joining, comparing, showing."""

import numpy as np
import pytest
from hypothesis import given, settings
from oracles import tlp_naive
from tlp_help import packed, parsed_or_rule, row
from tlp_strategies import trains

from sevpcie_core.errors import MisuseError
from sevpcie_core.tlp import kinds
from sevpcie_core.tlp.batch import TLP, Batch, concat
from sevpcie_core.tlp.codec import parse

pytestmark = pytest.mark.nojit

MRD64 = "20000010 010006ff 1122334455667700"
MWR32 = "40000001 0100050f 80001000 01020304"
DRESSED = "8e112233 92000104 90445566 40000001 0100050f 80001000 01020304" + 12 * "a5"


def of(*wires: str) -> Batch:
    return parse(bytes.fromhex("".join(wires)))


@settings(max_examples=60)
@given(train=trains(most=5))
def test_a_part_of_a_batch_is_the_batch_of_that_part(train: list[tlp_naive.Fields]) -> None:
    wires = [tlp_naive.write(fields) for fields in train]
    batch = parse(b"".join(wires))
    assert packed(batch[1:]) == b"".join(wires[1:])
    assert packed(batch[::2]) == b"".join(wires[::2])
    assert packed(batch[np.array([-1, 0])]) == wires[-1] + wires[0]
    reads = batch.tlps["data_bytes"] == 0
    assert packed(batch[reads]) == b"".join(w for w, take in zip(wires, reads, strict=True) if take)
    assert len(batch[0]) == 1
    assert row(batch[-1], 0) == train[-1]
    assert batch[1:].pool is batch.pool


@settings(max_examples=60)
@given(train=trains(most=4), other=trains(most=3))
def test_joined_batches_are_the_batch_of_the_joined_bytes(
    train: list[tlp_naive.Fields], other: list[tlp_naive.Fields]
) -> None:
    first, second = (b"".join(tlp_naive.write(fields) for fields in part) for part in (train, other))
    joined = concat([parse(first), parse(second)[::-1][::-1], parse(b"")])
    assert joined == parse(first + second)
    assert packed(joined) == first + second


def test_equal_wherever_the_bytes_are() -> None:
    batch = of(DRESSED, MRD64)
    moved = concat([of(MRD64), batch])[1:]
    assert moved == batch
    assert moved.tlps["data_at"].tolist() != batch.tlps["data_at"].tolist()
    assert batch != batch[:1]
    assert batch[::-1] != batch
    assert batch != Batch(batch.tlps, batch.pool, flit=True)
    assert batch != "batch"
    with pytest.raises(TypeError, match="unhashable"):
        hash(batch)


def test_batches_differ_in_every_bit_that_does() -> None:
    wire = bytes.fromhex(DRESSED)
    seen = 0
    for place in range(8 * len(wire)):
        other = bytearray(wire)
        other[place // 8] ^= 1 << place % 8
        found = parsed_or_rule(bytes(other))
        if isinstance(found, Batch):
            assert found != of(DRESSED)
            seen += 1
    assert seen > 250, "most bits may be either"


def test_what_of_a_tlp_is_in_the_pool() -> None:
    batch = of(MRD64, DRESSED)
    assert batch.payload(0) == batch.prefixes(0) == batch.trailer(0) == b""
    assert batch.payload(1) == bytes.fromhex("01020304")
    assert batch.prefixes(1) == bytes.fromhex("8e112233 90445566")
    assert batch.trailer(1) == bytes.fromhex(12 * "a5")
    assert batch.variable(1) == (batch.prefixes(1), b"", batch.payload(1), batch.trailer(1))
    flit = parse(
        bytes.fromhex("201f2010 01000006 1122334455667700 000000ff 0000000b 00000070") + bytes(range(20)),
        flit=True,
    )
    assert flit.variable(0) == (b"", bytes(range(16)), b"", b"")


def test_batches_that_cannot_be_joined() -> None:
    with pytest.raises(MisuseError, match="joined"):
        concat([])
    batch = of(MRD64)
    with pytest.raises(MisuseError, match="joined"):
        concat([batch, Batch(batch.tlps, batch.pool, flit=True)])


def test_a_joined_batch_is_a_copy() -> None:
    batch = of(MWR32)
    joined = concat([batch])
    joined.tlps["tag"] = 9
    joined.pool[:] = 0
    assert batch == of(MWR32)


# --- In words ---------------------------------------------------------------------------------------------

LINES = [
    (MRD64, "MRd64 64 B at 0x1122334455667700 from 01:00.0 tag 0x006 BE f/f"),
    (MWR32, "MWr32 4 B at 0x80001000 from 01:00.0 tag 0x005 BE f/0"),
    (DRESSED, "MWr32 4 B at 0x80001000 from 01:00.0 tag 0x005 BE f/0 IDE 92000104"),
    (
        "40304001 0123050f 80001000 01020304",
        "MWr32 4 B at 0x80001000 from 01:04.3 tag 0x005 BE f/0 TC3 poisoned",
    ),
    (
        "20880000 ffff06ff 1122334455667000",
        "MRd64 4096 B at 0x1122334455667000 from ff:1f.7 tag 0x306 BE f/f",
    ),
    ("02000001 0100000f 00000cf8", "IORd 4 B at 0xcf8 from 01:00.0 tag 0x000 BE f/0"),
    ("05000001 0000070f 02000010", "CfgRd1 4 B 02:00.0 register 0x010 from 00:00.0 tag 0x007 BE f/0"),
    (
        "44000001 00000703 03090ffc 00000000",
        "CfgWr0 4 B 03:01.1 register 0xffc from 00:00.0 tag 0x007 BE 3/0",
    ),
    ("0a000000 02002004 01000600", "Cpl UR 0 of 4 B to 01:00.0 tag 0x006 from 02:00.0"),
    ("0a000000 02004004 01000600", "Cpl RRS 0 of 4 B to 01:00.0 tag 0x006 from 02:00.0"),
    ("0b000000 02008004 01000600", "CplLk CA 0 of 4 B to 01:00.0 tag 0x006 from 02:00.0"),
    ("4a000001 02000008 01000600 00000000", "CplD SC 4 of 8 B to 01:00.0 tag 0x006 from 02:00.0"),
    (
        "6c000002 01000300 1122334455667700 0000000000000001",
        "FetchAdd64 8 B at 0x1122334455667700 from 01:00.0 tag 0x003",
    ),
    ("4e000002 01000300 80001000 0000000000000001", "CAS32 8 B at 0x80001000 from 01:00.0 tag 0x003"),
    ("32500000 02000054 0100000000010200", "Msg by ID code 0x54 from 02:00.0 tag 0x000 TC5"),
    ("73000001 0200007f 0000000000000000 01020304", "MsgD broadcast code 0x7f from 02:00.0 tag 0x000"),
]


@pytest.mark.parametrize(("wire", "line"), LINES, ids=[line.split(" 0x")[0] for _, line in LINES])
def test_one_line_each(wire: str, line: str) -> None:
    batch = of(MRD64, wire)
    assert batch.describe(1) == line


def test_a_status_that_is_none_is_shown_as_it_is() -> None:
    tlps = np.zeros(1, TLP)
    tlps["kind"], tlps["status"] = kinds.CPL, 3
    assert Batch(tlps, np.zeros(0, np.uint8)).describe(0).startswith("Cpl 3 0 of 0 B")


def test_names_of_kinds() -> None:
    names = {byte: kinds.name(byte) for byte in range(256)}
    known = [name for byte, name in names.items() if byte in tlp_naive.FAMILY]
    assert len(set(known)) == len(known)
    assert not any(name.startswith("TLP") for name in known)
    assert all(name == f"TLP {byte:#04x}" for byte, name in names.items() if byte not in tlp_naive.FAMILY)
    assert [names[byte] for byte in (0x00, 0x21, 0x5B, 0x30, 0x74)] == [
        "MRd32",
        "MRdLk64",
        "DMWr32",
        "Msg to the root complex",
        "MsgD local",
    ]
