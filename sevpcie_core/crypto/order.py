"""The order in which a batch is taken, so that packets of one key and one shape follow each other.

Rule: packets are moved, never changed; each class of packets keeps its order.

A kernel that takes four packets side by side needs four that are alike. Traffic mixes sub-streams, hence
keys, and sizes; a counting sort by (key, sizes) costs a fraction of what taking packets one by one does.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from .._jit import kernel

# A power of two, and most classes that are told apart: open addressing wants free slots.
SLOTS: Final = 1024
MOST_CLASSES: Final = 512
# A batch with fewer changes than one in this many packets is left as it is.
_RUN: Final = 8
# Fewer packets than this are not worth a look.
_FEW: Final = 16
_HASH_1: Final = np.uint64(0x9E3779B97F4A7C15)
_HASH_2: Final = np.uint64(0xC2B2AE3D27D4EB4F)
_TOP: Final = np.uint64(64 - 10)


def taken(packets: npt.NDArray[np.void], order: npt.NDArray[np.int64] | None) -> npt.NDArray[np.void]:
    """Return packets in an order, or as they are: PACKET[n]."""
    if order is None:
        return packets
    # As words: numpy moves a structured row field by field.
    rows = packets.view(np.uint64).reshape(len(packets), -1)
    return np.take(rows, order, axis=0).reshape(-1).view(packets.dtype)


def arranged(packets: npt.NDArray[np.void], changes: int) -> npt.NDArray[np.int64] | None:
    """Return indices that bring packets of one key and shape together; None if they are, or are too various.

    packets : PACKET[n]. changes : how many have another key or shape than the one before.
    """
    if len(packets) < _FEW or changes * _RUN <= len(packets):
        return None
    first = np.full(SLOTS, -1, np.int64)
    count = np.zeros(SLOTS, np.int64)
    order = np.empty(len(packets), np.int64)
    done = arrange(packets, first, count, np.empty_like(count), np.empty_like(order), order)
    return order if done else None


@kernel
def arrange(packets, first, count, place, classes, order):
    """Write the order of a stable sort by class, in order of first appearance.

    Parameters
    ----------
    packets : PACKET[n].
    first, count, place : i8[SLOTS], of each class its first packet, its size, where its next one goes; -1
        throughout, 0 throughout, anything. Modified in place.
    classes : i8[n]. Modified in place.
    order : i8[n], indices of packets. Modified in place.

    Returns whether it did: false for more than MOST_CLASSES classes, with nothing in `order`.
    """
    n = np.uint64(len(packets))
    found = 0
    for i in range(n):
        key = np.uint64(packets[i]["key"])
        sizes = np.uint64(packets[i]["aad_bytes"]) << np.uint64(32) | np.uint64(packets[i]["text_bytes"])
        slot = np.uint64(((key + np.uint64(1)) * _HASH_1 ^ sizes) * _HASH_2 >> _TOP)
        while True:
            one = first[slot]
            if one < 0:
                found += 1
                if found > MOST_CLASSES:
                    return False
                first[slot] = i
                break
            if (
                packets[one]["key"] == packets[i]["key"]
                and packets[one]["aad_bytes"] == packets[i]["aad_bytes"]
                and packets[one]["text_bytes"] == packets[i]["text_bytes"]
            ):
                break
            slot = (slot + np.uint64(1)) & np.uint64(SLOTS - 1)
        classes[i] = slot
        count[slot] += 1
    start = 0
    for i in range(n):
        slot = classes[i]
        if first[slot] == np.int64(i):
            place[slot] = start
            start += count[slot]
    for i in range(n):
        slot = classes[i]
        order[place[slot]] = i
        place[slot] += 1
    return True
