"""The data link layer around a TLP outside flit mode: sequence number in front, LCRC behind.

Rule: a frame says whether it came over whole (LCRC) and which one it is (sequence number); what is in it is
for the codec to say. In flit mode a link protects flits, not TLPs, so there are no frames.

PCIe Base r6.x, section 3.6: a frame is four reserved bits, a sequence number of 12 bits, the TLP, and the
CRC-32 of all of it, little-endian. STP, END and the STP token are the physical layer's.
"""

from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from .._jit import kernel
from .._jit.memory import copy
from ..errors import FormatError, MisuseError
from .batch import I64, U8, as_bytes, as_offsets
from .crc import crc32

I32 = npt.NDArray[np.int32]

# PCIe Base r6.x, section 3.6.2: bytes in front of a TLP and behind it.
SEQUENCE_BYTES: Final = 2
LCRC_BYTES: Final = 4
# PCIe Base r6.x, section 3.6.2: sequence numbers count modulo 4096.
SEQUENCES: Final = 4096
# PCIe Base r6.x, section 3.6.3.1: a frame that is this much or less behind the expected one is a duplicate.
# Likely: that exactly half counts as behind; a sender stops before it comes to that.
WINDOW: Final = SEQUENCES // 2
_ENDS: Final = SEQUENCE_BYTES + LCRC_BYTES


class Order(IntEnum):
    """What a receiver does with a frame."""

    NEXT = 0
    """Take it, then expect the next one."""
    DUPLICATE = 1
    """Discard it and acknowledge what came last."""
    OUT_OF_ORDER = 2
    """Discard it and ask for the expected one (Nak)."""
    BAD = 3
    """Its LCRC is wrong: discard it and ask for the expected one (Nak)."""


_NEXT: Final = int(Order.NEXT)
_DUPLICATE: Final = int(Order.DUPLICATE)
_OUT_OF_ORDER: Final = int(Order.OUT_OF_ORDER)
_BAD: Final = int(Order.BAD)


def frame(data: U8 | bytes, offsets: I64, first_sequence: int = 0) -> tuple[U8, I64]:
    """Return the frames of some TLPs, u1[:], and where each starts and the last ends, i8[n + 1].

    Parameters
    ----------
    data : u1[:]. offsets : i8[n + 1], TLP i is data[offsets[i]:offsets[i + 1]], as `pack` returns both.
    first_sequence : 0..4095, of the first TLP.

    Raises MisuseError for another sequence number, and for offsets that do not ascend within the data.
    """
    if not 0 <= first_sequence < SEQUENCES:
        raise MisuseError(f"sequence number {first_sequence}, expected 0..{SEQUENCES - 1}")
    source = as_bytes(data)
    places = as_offsets(offsets, len(source))
    ends = places - places[0] + _ENDS * np.arange(len(places), dtype=np.int64)
    frames = np.empty(int(ends[-1]), np.uint8)
    _put_frames(source, places, first_sequence, frames, ends)
    return frames, ends


def unframe(frames: U8 | bytes, offsets: I64) -> tuple[U8, I64, I32, npt.NDArray[np.bool_]]:
    """Return what is in some frames: (data u1[:], offsets i8[n + 1], sequence numbers i4[n], good bool[n]).

    A frame whose LCRC is wrong is not good; its bytes are there all the same.

    Parameters
    ----------
    frames : u1[:]. offsets : i8[n + 1], frame i is frames[offsets[i]:offsets[i + 1]].

    Raises FormatError for a frame that is too short, and for a good one whose reserved bits are not 0.
    Raises MisuseError for offsets that do not ascend within the frames.
    """
    source = as_bytes(frames)
    places = as_offsets(offsets, len(source))
    sizes = np.diff(places)
    if (sizes < _ENDS).any():
        i = int(np.argmax(sizes < _ENDS))
        raise FormatError(f"frame {i} at byte {places[i]}, size: {sizes[i]} B, expected {_ENDS} or more")
    starts = places - places[0] - _ENDS * np.arange(len(places), dtype=np.int64)
    data = np.empty(int(starts[-1]), np.uint8)
    sequence = np.zeros(len(sizes), np.int32)
    good = np.zeros(len(sizes), np.bool_)
    reserved = _take_frames(source, places, data, starts, sequence, good)
    if reserved < len(sizes):
        raise FormatError(f"frame {reserved} at byte {places[reserved]}, reserved bits: must be 0")
    return data, starts, sequence, good


def order(sequence: I32, good: npt.NDArray[np.bool_], expected: int = 0) -> tuple[npt.NDArray[np.uint8], int]:
    """Return what a receiver does with each frame (u1[n] of `Order`), and which number it expects next.

    Parameters
    ----------
    sequence, good : as `unframe` returns them.
    expected : 0..4095, NEXT_RCV_SEQ: the sequence number that the receiver waits for.

    Raises MisuseError for another `expected`, and for numbers that are none.
    """
    numbers = np.ascontiguousarray(sequence, np.int32)
    if not 0 <= expected < SEQUENCES or ((numbers < 0) | (numbers >= SEQUENCES)).any():
        raise MisuseError(f"a sequence number is 0..{SEQUENCES - 1}")
    orders = np.zeros(len(numbers), np.uint8)
    return orders, int(_put_orders(numbers, np.ascontiguousarray(good, np.bool_), expected, orders))


@kernel
def _put_frames(data: U8, offsets: I64, first: int, frames: U8, ends: I64) -> None:
    """Write the frames. Modified in place: frames, u1[ends[-1]]."""
    for i in range(len(offsets) - 1):
        size = offsets[i + 1] - offsets[i]
        at = ends[i]
        number = (first + i) & (SEQUENCES - 1)
        frames[at] = number >> 8
        frames[at + 1] = number & 0xFF
        copy(frames, at + SEQUENCE_BYTES, data, offsets[i], size)
        lcrc = np.int64(crc32(frames, at, SEQUENCE_BYTES + size, 0))
        at += SEQUENCE_BYTES + size
        for j in range(LCRC_BYTES):
            frames[at + j] = (lcrc >> 8 * j) & 0xFF


@kernel
def _take_frames(
    frames: U8, offsets: I64, data: U8, starts: I64, sequence: I32, good: npt.NDArray[np.bool_]
) -> int:
    """Read the frames; return the first good one whose reserved bits are not 0, n for none.

    Modified in place: data, sequence, good.
    """
    n = len(offsets) - 1
    reserved = n
    for i in range(n):
        at = offsets[i]
        end = offsets[i + 1] - LCRC_BYTES
        lcrc = np.int64(crc32(frames, at, end - at, 0))
        differs = np.int64(0)
        for j in range(LCRC_BYTES):
            differs |= np.int64(frames[end + j]) ^ ((lcrc >> 8 * j) & 0xFF)
        number = np.int64(frames[at]) << 8 | np.int64(frames[at + 1])
        sequence[i] = number & (SEQUENCES - 1)
        good[i] = differs == 0
        if differs == 0 and number >= SEQUENCES and reserved == n:
            reserved = i
        copy(data, starts[i], frames, at + SEQUENCE_BYTES, end - at - SEQUENCE_BYTES)
    return reserved


@kernel
def _put_orders(sequence: I32, good: npt.NDArray[np.bool_], expected: int, orders: U8) -> int:
    """Say what becomes of each frame; return what is expected then. Modified in place: orders."""
    for i in range(len(sequence)):
        behind = (expected - np.int64(sequence[i])) & (SEQUENCES - 1)
        if not good[i]:
            orders[i] = _BAD
        elif behind == 0:
            orders[i] = _NEXT
            expected = (expected + 1) & (SEQUENCES - 1)
        else:
            orders[i] = _DUPLICATE if behind <= WINDOW else _OUT_OF_ORDER
    return expected
