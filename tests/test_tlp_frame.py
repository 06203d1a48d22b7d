"""Frames of the data link layer: against zlib and by hand; a receiver with a lossy link in front of it."""

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import tlp_naive
from tlp_help import cuts, refusal
from tlp_strategies import trains

from sevpcie_core import spec
from sevpcie_core.errors import MisuseError
from sevpcie_core.tlp.codec import pack, parse
from sevpcie_core.tlp.frame import LCRC_BYTES, SEQUENCE_BYTES, SEQUENCES, Order, frame, order, unframe

pytestmark = pytest.mark.nojit

pieces = st.lists(st.binary(max_size=60), max_size=5)


def plain_frame(tlp: bytes, sequence: int) -> bytes:
    head = (sequence % 4096).to_bytes(2, "big") + tlp
    return head + zlib.crc32(head).to_bytes(4, "little")


def test_by_hand() -> None:
    # Sequence number 0 and twelve zero bytes: the published LCRC of 14 zeros.
    frames, offsets = frame(bytes(12), np.array([0, 12]))
    assert frames.tobytes() == bytes(14) + bytes.fromhex("c779bbd1")
    assert offsets.tolist() == [0, 18]
    frames, offsets = frame(b"abcd", np.array([0, 4]), 0xABC)
    assert frames.tobytes() == b"\x0a\xbcabcd" + zlib.crc32(b"\x0a\xbcabcd").to_bytes(4, "little")


def test_what_a_frame_adds_to_the_wire() -> None:
    # With the 2 B that frame it on the lanes: what the simulator counts.
    assert SEQUENCE_BYTES + LCRC_BYTES + 2 == spec.DATA_LINK_BYTES


@settings(max_examples=80)
@given(tlps=pieces, first=st.integers(0, 4095), gap=st.binary(max_size=5))
def test_as_made_byte_by_byte(tlps: list[bytes], first: int, gap: bytes) -> None:
    frames, offsets = frame(gap + b"".join(tlps), cuts(tlps) + len(gap), first)
    expected = [plain_frame(tlp, first + i) for i, tlp in enumerate(tlps)]
    assert frames.tobytes() == b"".join(expected)
    assert offsets.tolist() == cuts(expected).tolist()
    data, places, sequence, good = unframe(gap + frames.tobytes(), offsets + len(gap))
    assert data.tobytes() == b"".join(tlps)
    assert places.tolist() == cuts(tlps).tolist()
    assert sequence.tolist() == [(first + i) % 4096 for i in range(len(tlps))]
    assert sequence.dtype == np.int32
    assert good.all()


@settings(max_examples=40)
@given(train=trains(most=4))
def test_a_batch_through_frames(train: list[tlp_naive.Fields]) -> None:
    wire = b"".join(map(tlp_naive.write, train))
    batch = parse(wire)
    data, offsets, _, good = unframe(*frame(*pack(batch)))
    assert good.all()
    assert parse(data, offsets) == batch


def test_every_flipped_bit_is_seen() -> None:
    frames, offsets = frame(bytes(range(12)) * 2, np.array([0, 12, 24]), 7)
    for place in range(8 * 18):
        broken = frames.copy()
        broken[place // 8] ^= 1 << place % 8
        data, places, sequence, good = unframe(broken, offsets)
        assert good.tolist() == [False, True]
        # What is in the other one is not touched, and where it is does not move.
        assert places.tolist() == [0, 12, 24]
        assert data[12:].tobytes() == bytes(range(12))
        assert sequence[1] == 8


def test_refusals() -> None:
    message = refusal(unframe, bytes(18) + bytes(5), np.array([0, 18, 23]))
    assert message == "frame 1 at byte 18, size: 5 B, expected 6 or more"
    head = b"\x10\x07" + bytes(12)
    reserved = head + zlib.crc32(head).to_bytes(4, "little")
    good = plain_frame(bytes(12), 6)
    assert (
        refusal(unframe, good + reserved, np.array([0, 18, 36]))
        == "frame 1 at byte 18, reserved bits: must be 0"
    )
    # A frame that is broken anyway is not looked at.
    assert unframe(head + bytes(4), np.array([0, 18]))[3].tolist() == [False]
    for first in (-1, 4096):
        with pytest.raises(MisuseError, match="sequence"):
            frame(b"", np.array([0]), first)
    with pytest.raises(MisuseError, match="offsets"):
        frame(bytes(12), np.array([0, 13]))
    with pytest.raises(MisuseError, match="offsets"):
        unframe(bytes(12), np.array([12, 0]))
    with pytest.raises(MisuseError, match=r"0\.\.4095"):
        order(np.array([0]), np.array([True]), 4096)
    with pytest.raises(MisuseError, match=r"0\.\.4095"):
        order(np.array([4096]), np.array([True]))


def test_nothing() -> None:
    frames, offsets = frame(b"", np.array([0]))
    assert len(frames) == 0
    assert offsets.tolist() == [0]
    data, places, sequence, good = unframe(frames, offsets)
    assert len(data) == len(sequence) == len(good) == 0
    assert places.tolist() == [0]
    orders, expected = order(sequence, good, 9)
    assert len(orders) == 0
    assert expected == 9


# --- The receiver -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "sequence", "what"),
    [
        (0, 0, Order.NEXT),
        (5, 4, Order.DUPLICATE),
        (5, 6, Order.OUT_OF_ORDER),
        (0, 4095, Order.DUPLICATE),
        (4095, 0, Order.OUT_OF_ORDER),
        (0, 2048, Order.DUPLICATE),
        (0, 2047, Order.OUT_OF_ORDER),
        (3000, 952, Order.DUPLICATE),
        (3000, 951, Order.OUT_OF_ORDER),
    ],
)
def test_next_duplicate_or_out_of_order(expected: int, sequence: int, what: Order) -> None:
    orders, then = order(np.array([sequence], np.int32), np.array([True]), expected)
    assert orders.tolist() == [what]
    assert then == ((expected + 1) % 4096 if what == Order.NEXT else expected)
    orders, then = order(np.array([sequence], np.int32), np.array([False]), expected)
    assert orders.tolist() == [Order.BAD]
    assert then == expected


def test_half_of_all_numbers_are_behind() -> None:
    numbers = np.arange(SEQUENCES, dtype=np.int32)
    for expected in (0, 1, 2047, 2048, 4095):
        found = [int(order(numbers[i : i + 1], np.array([True]), expected)[0][0]) for i in range(SEQUENCES)]
        assert found.count(Order.NEXT) == 1
        assert found.count(Order.DUPLICATE) == 2048
        assert found.count(Order.OUT_OF_ORDER) == 2047


@settings(max_examples=60)
@given(data=st.data(), first=st.sampled_from([0, 4090, 4095]), count=st.integers(1, 12))
def test_a_link_that_loses_and_breaks_frames_delivers_all_in_order(
    data: st.DataObject, first: int, count: int
) -> None:
    tlps = [bytes([i]) * 12 for i in range(count)]
    frames, offsets = frame(b"".join(tlps), cuts(tlps), first)
    wires = [frames[offsets[i] : offsets[i + 1]].tobytes() for i in range(count)]
    expected = first
    taken: list[bytes] = []
    for _ in range(40):
        # The sender begins again at, or a bit before, the last one acknowledged.
        done = len(taken)
        start = max(0, done - data.draw(st.integers(0, 3)))
        sent = []
        for wire in wires[start:]:
            fate = data.draw(st.sampled_from(["good", "good", "lost", "broken"]))
            if fate == "broken":
                wire = bytes([*wire[:5], wire[5] ^ 1, *wire[6:]])
            sent += [wire] if fate != "lost" else []
        content, places, sequence, good = unframe(b"".join(sent), cuts(sent))
        orders, expected = order(sequence, good, expected)
        new = np.flatnonzero(orders == Order.NEXT)
        taken += [content[places[i] : places[i + 1]].tobytes() for i in new]
        if len(taken) == count:
            break
    assert taken == tlps[: len(taken)]
    assert expected == (first + len(taken)) % 4096
