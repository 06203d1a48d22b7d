"""Trains of TLPs as devices make them: all bytes once, within the limits, as long as `tlp.size` says."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import split_naive, tlp_naive
from tlp_help import row

from sevpcie_core import spec
from sevpcie_core.errors import MisuseError
from sevpcie_core.tlp import kinds
from sevpcie_core.tlp.batch import Batch
from sevpcie_core.tlp.build import completions, memory_reads, memory_writes, message
from sevpcie_core.tlp.codec import pack, parse
from sevpcie_core.tlp.size import enables_bytes, padded_payload_bytes, request_header_bytes

FOUR_GIB = 1 << 32
TOP = 1 << 64

addresses = st.one_of(
    st.integers(0, 1 << 14),
    st.integers(FOUR_GIB - 9000, FOUR_GIB + 9000),
    st.integers(0, TOP - 20000),
    st.integers(TOP - 20000, TOP - 10000),
)
sizes = st.one_of(st.integers(1, 600), st.integers(1, 5000))


def enabled_bytes(fields: tlp_naive.Fields) -> list[int]:
    """Return the address of every byte that a request has enabled, one by one."""
    length = fields["length"]
    masks = [fields["first_be"], *[0xF] * (length - 2), fields["last_be"]][:length]
    return [
        fields["address"] + 4 * dw + byte
        for dw, mask in enumerate(masks)
        for byte in range(4)
        if mask >> byte & 1
    ]


def header_bytes(address: int, size: int, flit: bool) -> int:
    """Return what `tlp.size` says of a request's header."""
    # The package takes addresses as they come from kernels: unsigned, or small.
    return int(request_header_bytes(np.uint64(address))) + int(enables_bytes(address % 4096, size, flit))


def payload_bytes(address: int, size: int) -> int:
    """Return what `tlp.size` says of a payload."""
    return int(padded_payload_bytes(address % 4096, size))


def check_wire(batch: Batch, sizes_of: Callable[[int], int], *, max_payload: int = 4096) -> None:
    """Check that a batch packs, parses as itself, and that each TLP has the bytes that it should have."""
    data, offsets = pack(batch, max_payload=max_payload)
    assert parse(data, offsets, flit=batch.flit, max_payload=max_payload).tlps["kind"].tolist() == (
        batch.tlps["kind"].tolist()
    )
    wires = [data[offsets[i] : offsets[i + 1]].tobytes() for i in range(len(batch))]
    for i, wire in enumerate(wires):
        fields, used, broken = tlp_naive.read(wire, flit=batch.flit)
        assert (used, broken) == (len(wire), set())
        assert used == sizes_of(i)
        # Word A of OHC is for `pack` to add.
        assert {**fields, "ohc": 0, "ohc_a": 0} == row(batch, i)


# --- Requests ---------------------------------------------------------------------------------------------


@pytest.mark.nojit
@settings(max_examples=60)
@given(
    address=addresses,
    size=sizes,
    mps=st.sampled_from(spec.PAYLOAD_SIZES),
    flit=st.booleans(),
    fill=st.integers(1, 255),
)
def test_writes_bring_every_byte_to_its_place(
    address: int, size: int, mps: int, flit: bool, fill: int
) -> None:
    data = bytes((fill + i * 7) % 255 + 1 for i in range(size))
    batch = memory_writes(address, data, mps=mps, requester=0x0123, tag=0xFF, flit=flit)
    cut = split_naive.write_tlps(address, size, mps)
    assert len(batch) == len(cut)
    assert batch.flit == flit
    memory: dict[int, int] = {}
    for i, (start, count) in enumerate(cut):
        fields = row(batch, i)
        places = enabled_bytes(fields)
        assert places == list(range(start, start + count))
        assert len(fields["payload"]) == 4 * fields["length"] <= mps
        assert fields["kind"] == (kinds.MWR64 if start >= FOUR_GIB else kinds.MWR32)
        assert (fields["requester"], fields["tag"]) == (0x0123, 0xFF)
        memory |= {place: fields["payload"][place - fields["address"]] for place in places}
        assert fields["payload"].count(0) == len(fields["payload"]) - count, "what is switched off is 0"
    assert bytes(memory[place] for place in range(address, address + size)) == data

    def wire_bytes(i: int) -> int:
        start, count = cut[i]
        return header_bytes(start, count, flit) + payload_bytes(start, count)

    check_wire(batch, wire_bytes, max_payload=mps)


@pytest.mark.nojit
@settings(max_examples=60)
@given(
    address=addresses,
    size=sizes,
    mrrs=st.sampled_from(spec.PAYLOAD_SIZES),
    flit=st.booleans(),
    tag=st.integers(0, 1023),
)
def test_reads_ask_for_every_byte_once(address: int, size: int, mrrs: int, flit: bool, tag: int) -> None:
    batch = memory_reads(address, size, mrrs=mrrs, requester=0x4567, first_tag=tag, tc=3, attr=5, flit=flit)
    cut = split_naive.read_requests(address, size, mrrs)
    assert len(batch) == len(cut)
    asked = []
    for i, (start, count) in enumerate(cut):
        fields = row(batch, i)
        asked += enabled_bytes(fields)
        assert 4 * fields["length"] <= mrrs
        assert fields["kind"] == (kinds.MRD64 if start >= FOUR_GIB else kinds.MRD32)
        assert fields["tag"] == (tag + i) % (1 << 14 if flit else 1 << 10)
        assert (fields["requester"], fields["tc"], fields["attr"]) == (0x4567, 3, 5)
        assert start // 4096 == (start + count - 1) // 4096
        assert fields["payload"] == b""
    assert asked == list(range(address, address + size))

    def wire_bytes(i: int) -> int:
        start, count = cut[i]
        return header_bytes(start, count, flit)

    check_wire(batch, wire_bytes)


@pytest.mark.nojit
@pytest.mark.parametrize("flit", [False, True])
def test_zero_length_requests(flit: bool) -> None:
    for address in (0x1000, 0x1003, FOUR_GIB + 5, TOP - 1):
        read = memory_reads(address, 0, mrrs=128, first_tag=3, flit=flit)
        write = memory_writes(address, b"", mps=128, flit=flit)
        header = header_bytes(address, 0, False) + 4 * flit
        for batch, payload in ((read, 0), (write, 4)):
            assert len(batch) == 1
            fields = row(batch, 0)
            assert (fields["length"], fields["first_be"], fields["last_be"]) == (1, 0, 0)
            assert fields["address"] == address & ~3
            assert enabled_bytes(fields) == []
            assert fields["payload"] == bytes(payload)
            check_wire(batch, lambda _, size=header + payload: size)


def test_by_hand() -> None:
    write = memory_writes(0x1122334455667700, bytes(range(64)), mps=256, requester=0x0100, tag=5)
    assert pack(write)[0].tobytes() == bytes.fromhex("60000010 010005ff 1122334455667700") + bytes(range(64))
    read = memory_reads(0x1122334455667700, 64, mrrs=512, requester=0x0100, first_tag=6)
    assert pack(read)[0].tobytes() == bytes.fromhex("20000010 010006ff 1122334455667700")
    doorbell = memory_writes(0xFEE00000, b"\x21\x40\0\0", mps=128)
    assert pack(doorbell)[0].tobytes() == bytes.fromhex("40000001 0000000f fee00000 21400000")
    # Two bytes across a DW, in flit mode: word A.
    odd = memory_writes(0x1003, b"\xaa\xbb", mps=128, flit=True)
    assert pack(odd)[0].tobytes() == bytes.fromhex("40010002 00000000 00001000 00000018 000000aa bb000000")
    # Two bytes inside one.
    inside = memory_writes(0x1001, b"\xaa\xbb", mps=128)
    assert pack(inside)[0].tobytes() == bytes.fromhex("40000001 00000006 00001000 00aabb00")


def test_a_size_stands_for_zeros() -> None:
    assert memory_writes(0x1001, 300, mps=128) == memory_writes(0x1001, bytes(300), mps=128)
    assert memory_writes(0x1001, np.zeros(300, np.uint8), mps=128) == memory_writes(0x1001, 300, mps=128)


def test_tags_begin_again() -> None:
    assert memory_reads(0, 512, mrrs=128, first_tag=1022).tlps["tag"].tolist() == [1022, 1023, 0, 1]
    flit = memory_reads(0, 512, mrrs=128, first_tag=16382, flit=True)
    assert flit.tlps["tag"].tolist() == [16382, 16383, 0, 1]


def test_the_last_byte_of_all() -> None:
    batch = memory_reads(TOP - 4097, 4097, mrrs=4096)
    assert batch.tlps["address"].tolist() == [TOP - 4100, TOP - 4096]
    assert batch.tlps["first_be"].tolist() == [8, 15]
    assert batch.tlps["length"].tolist() == [1, 1024]


# --- Completions ------------------------------------------------------------------------------------------


@st.composite
def reads(draw: Any) -> tuple[int, int]:
    """Draw (address, size) of one read request: within 4 KiB."""
    page = draw(st.sampled_from([0, 1, FOUR_GIB >> 12, (TOP >> 12) - 1]))
    offset = draw(st.one_of(st.integers(0, 4095), st.sampled_from([0, 64, 4095])))
    size = draw(st.one_of(st.integers(1, 4096 - offset), st.just(4096 - offset)))
    return page << 12 | offset, size


@pytest.mark.nojit
@settings(max_examples=60)
@given(
    read=reads(),
    rcb=st.sampled_from(spec.READ_COMPLETION_BOUNDARIES),
    dws=st.integers(0, 200),
    flit=st.booleans(),
)
def test_completions_bring_every_byte_once(read: tuple[int, int], rcb: int, dws: int, flit: bool) -> None:
    address, size = read
    limit = min(rcb + 4 * dws, 4096)
    data = bytes(i * 13 % 255 + 1 for i in range(size))
    batch = completions(
        address,
        size,
        rcb=rcb,
        limit=limit,
        requester=0x0100,
        completer=0x0200,
        tag=77,
        data=data,
        tc=2,
        attr=1,
        flit=flit,
    )
    cut = split_naive.completions(address, size, rcb, limit)
    assert len(batch) == len(cut)
    came = b""
    left = size
    for i, (start, count) in enumerate(cut):
        fields = row(batch, i)
        assert fields["kind"] == kinds.CPLD
        assert (fields["status"], fields["bcm"]) == (0, 0)
        assert (fields["requester"], fields["completer"], fields["tag"]) == (0x0100, 0x0200, 77)
        assert (fields["tc"], fields["attr"]) == (2, 1)
        # Byte Count: what is left with this one. Lower Address: of the first byte.
        assert fields["byte_count"] == left
        assert fields["lower_address"] == start % 128
        assert 4 * fields["length"] == split_naive.dword_bytes(start, count) <= limit
        came += fields["payload"][start % 4 : start % 4 + count]
        assert fields["payload"].count(0) == len(fields["payload"]) - count
        left -= count
        assert i == 0 or start % rcb == 0
        assert i == len(cut) - 1 or (start + count) % rcb == 0
    assert came == data
    assert left == 0
    for (start, count), (behind, _) in itertools.pairwise(cut):
        assert start + count == behind

    def wire_bytes(i: int) -> int:
        start, count = cut[i]
        inside_dw = 4 if flit and start % 4 else 0
        return spec.HEADER_COMPLETION_BYTES + payload_bytes(start, count) + inside_dw

    check_wire(batch, wire_bytes, max_payload=4096)


def test_completions_by_hand() -> None:
    batch = completions(
        0x1003, 2, rcb=64, limit=128, requester=0x0100, completer=0x0200, tag=6, data=b"\xaa\xbb"
    )
    assert pack(batch)[0].tobytes() == bytes.fromhex("4a000002 02000002 01000603 000000aa bb000000")
    whole = completions(0, 4096, rcb=128, limit=4096)
    assert pack(whole)[0].tobytes() == bytes.fromhex("4a000000 00000000 00000000") + bytes(4096)
    flit = completions(0x1043, 2, rcb=64, limit=128, tag=6, data=b"\xaa\xbb", flit=True)
    assert pack(flit)[0].tobytes() == bytes.fromhex("4a010002 00004006 00000002 00000018 000000aa bb000000")


@pytest.mark.parametrize("flit", [False, True])
def test_the_completion_of_a_zero_length_read(flit: bool) -> None:
    batch = completions(0x1043, 0, rcb=64, limit=128, flit=flit)
    assert len(batch) == 1
    fields = row(batch, 0)
    assert (fields["length"], fields["byte_count"], fields["lower_address"]) == (1, 1, 0x40)
    assert fields["payload"] == bytes(4)
    check_wire(batch, lambda _: 16)


# --- Messages ---------------------------------------------------------------------------------------------


@pytest.mark.nojit
@settings(max_examples=60)
@given(
    code=st.integers(0, 255),
    routing=st.integers(0, 5),
    words=st.tuples(st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF)),
    dws=st.integers(0, 6),
    flit=st.booleans(),
    tag=st.integers(0, 127),
)
def test_messages(code: int, routing: int, words: tuple[int, int], dws: int, flit: bool, tag: int) -> None:
    data = bytes(range(4 * dws)) if dws else None
    dw2, dw3 = words
    batch = message(code, routing, dw2=dw2, dw3=dw3, data=data, requester=0x0300, tag=tag, flit=flit)
    fields = row(batch, 0)
    expected = {"kind": (0x70 if dws else 0x30) + routing, "code": code, "dw2": dw2, "dw3": dw3}
    expected |= {"requester": 0x0300, "tag": tag, "length": dws, "payload": data or b""}
    assert {**tlp_naive.empty(), **expected} == fields
    check_wire(batch, lambda _: 16 + 4 * dws)


# --- Misuse -----------------------------------------------------------------------------------------------

MISUSE: list[tuple[Callable[[], Batch], str]] = [
    (lambda: memory_writes(0, 4, mps=100), "mps 100"),
    (lambda: memory_writes(0, -1, mps=128), "size -1"),
    (lambda: memory_writes(-4, 4, mps=128), "4 B at"),
    (lambda: memory_writes(TOP - 3, 4, mps=128), "4 B at"),
    (lambda: memory_writes(TOP, b"", mps=128), "0 B at"),
    (lambda: memory_writes(0, 4, mps=128, tag=1024), "tag 1024"),
    (lambda: memory_writes(0, 4, mps=128, requester=1 << 16), "requester 65536"),
    (lambda: memory_writes(0, 4, mps=128, tc=8), "tc 8"),
    (lambda: memory_writes(0, 4, mps=128, attr=-1), "attr -1"),
    (lambda: memory_writes(0, np.zeros(4, np.int32), mps=128), "u1"),  # type: ignore[arg-type]
    (lambda: memory_reads(0, 4, mrrs=8192), "mrrs 8192"),
    (lambda: memory_reads(0, -1, mrrs=128), "-1 B at"),
    (lambda: memory_reads(0, 4, mrrs=128, first_tag=1024), "tag 1024"),
    (lambda: memory_reads(0, 4, mrrs=128, first_tag=1 << 14, flit=True), "tag 16384"),
    (lambda: completions(0x1001, 4096, rcb=64, limit=128), "4 KiB"),
    (lambda: completions(0, 4, rcb=256, limit=256), "rcb 256"),
    (lambda: completions(0, 4, rcb=128, limit=64), "limit 64"),
    (lambda: completions(0, 4, rcb=64, limit=130), "limit 130"),
    (lambda: completions(0, 4, rcb=64, limit=8192), "limit 8192"),
    (lambda: completions(0, 4, rcb=64, limit=64, data=b"abc"), "data of 3 B"),
    (lambda: completions(0, 4, rcb=64, limit=64, completer=-1), "completer -1"),
    (lambda: message(0x54, 6), "routing 6"),
    (lambda: message(256, 0), "code 256"),
    (lambda: message(0, 0, dw2=1 << 32), "dw2"),
    (lambda: message(0, 0, dw3=-1), "dw3"),
    (lambda: message(0, 0, data=b""), "data of 0 B"),
    (lambda: message(0, 0, data=b"abc"), "data of 3 B"),
    (lambda: message(0, 0, data=bytes(4100)), "data of 4100 B"),
    (lambda: message(0, 0, tag=128, flit=True), "tag 128"),
]


@pytest.mark.nojit
@pytest.mark.parametrize(("call", "words"), MISUSE, ids=[words for _, words in MISUSE])
def test_misuse_is_named(call: Callable[[], Batch], words: str) -> None:
    with pytest.raises(MisuseError, match=words):
        call()
