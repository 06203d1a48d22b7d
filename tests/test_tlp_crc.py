"""The checksums: published values, and zlib's."""

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import tlp_naive
from tlp_strategies import tlps

from sevpcie_core.tlp.codec import pack, parse
from sevpcie_core.tlp.crc import crc32, dllp_crc16, ecrc

pytestmark = pytest.mark.nojit

# DW 0 with the bits that may change on the way: Type[0] and EP.
VARIANT = 0x01004000


def crc(data: bytes, seed: int = 0) -> int:
    return int(crc32(np.frombuffer(data + b"\0", np.uint8).copy(), 0, len(data), seed))


def test_values_of_the_standard_and_of_other_tools() -> None:
    assert crc(b"") == 0
    assert crc(b"123456789") == 0xCBF43926
    # LCRC of 14 zeros; PCRC of 00..3f, as it stands on the wire.
    assert crc(bytes(14)) == 0xD1BB79C7
    assert crc(bytes(range(64))).to_bytes(4, "little").hex() == "8cce0e10"


@settings(max_examples=120)
@given(data=st.binary(max_size=90), start=st.integers(0, 20), seed=st.integers(0, 0xFFFFFFFF))
def test_as_zlib_has_it(data: bytes, start: int, seed: int) -> None:
    start = min(start, len(data))
    array = np.frombuffer(data + b"\0", np.uint8).copy()
    for count in {0, 1, 15, 16, 17, 31, 32, 33, len(data) - start}:
        if start + count <= len(data):
            expected = zlib.crc32(data[start : start + count], seed)
            assert int(crc32(array, start, count, np.uint32(seed))) == expected


@settings(max_examples=40)
@given(first=st.binary(max_size=50), second=st.binary(max_size=50))
def test_one_part_after_another(first: bytes, second: bytes) -> None:
    assert crc(second, crc(first)) == crc(first + second) == zlib.crc32(first + second)


def test_a_long_one() -> None:
    data = bytes(range(256)) * 17
    assert crc(data) == zlib.crc32(data)


def test_dllp_checksum() -> None:
    assert dllp_crc16(bytes(4)) == 0x62B3
    # Behind its checksum, every DLLP leaves the same register: the residue.
    for dllp in (bytes(4), b"\x10\x00\x0a\xbc", b"\x80\x40\x00\x01"):
        assert dllp_crc16(dllp + dllp_crc16(dllp).to_bytes(2, "little")) ^ 0xFFFF == 0x556F


# --- ECRC -------------------------------------------------------------------------------------------------


def plain_ecrc(fields: tlp_naive.Fields) -> int:
    """Return the ECRC by definition: DW 0 with the variant bits set, without local prefixes and digest."""
    header = tlp_naive.write({**fields, "local": b"", "td": 0})
    at = 4 * bool(fields["ide"]) + len(fields["end"])
    dw0 = int.from_bytes(header[at : at + 4], "big") | VARIANT | fields["td"] << 15
    return zlib.crc32(header[:at] + dw0.to_bytes(4, "big") + header[at + 4 :])


def test_ecrc_of_a_write() -> None:
    wire = bytes.fromhex("40008001 0100050f 80001000 01020304")
    assert ecrc(wire) == zlib.crc32(bytes.fromhex("4100c001 0100050f 80001000 01020304"))
    poisoned = bytearray(wire)
    poisoned[2] |= 0x40
    assert ecrc(bytes(poisoned)) == ecrc(wire)
    # A configuration request may change its type on the way.
    assert ecrc(bytes.fromhex("05000001 0000070f 02000010")) == ecrc(
        bytes.fromhex("04000001 0000070f 02000010")
    )
    # Local prefixes are not covered, others are.
    assert ecrc(bytes.fromhex("8e112233") + wire) == ecrc(wire)
    assert (
        ecrc(bytes.fromhex("8e112233 90000000") + wire)
        == ecrc(bytes.fromhex("90000000") + wire)
        != ecrc(wire)
    )
    tagged = bytearray(wire)
    tagged[6] ^= 1
    assert ecrc(bytes(tagged)) != ecrc(wire)


@settings(max_examples=100)
@given(fields=tlps().filter(lambda fields: fields["ide"] == 0))
def test_a_tlp_carries_its_ecrc_whether_poisoned_or_not(fields: tlp_naive.Fields) -> None:
    fields = {**fields, "td": 1}
    bare = tlp_naive.write(fields)[:-4]
    assert ecrc(bare) == plain_ecrc(fields)
    wire = bare + ecrc(bare).to_bytes(4, "little")
    batch = parse(wire)
    assert int(batch.tlps["ecrc"][0]) == ecrc(bare)
    batch.tlps["ep"] ^= 1
    other = pack(batch)[0].tobytes()
    assert other != wire
    assert ecrc(other[:-4]).to_bytes(4, "little") == other[-4:]


def test_a_digest_as_it_stands() -> None:
    wire = bytes.fromhex("20008010 010006ff 1122334455667700 01020304")
    batch = parse(wire)
    assert int(batch.tlps["ecrc"][0]) == 0x04030201
    assert pack(batch)[0].tobytes() == wire
