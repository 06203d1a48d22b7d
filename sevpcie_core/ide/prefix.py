"""The IDE TLP prefix, and OHC-C in flit mode: one word, and where its bits are.

Rule: no other file shifts a bit of it. PCIe Base r6.x, section 6.33.5; the bit order is sure by two
descriptions.

| byte | +0 | +1 | +2 | +3 |
|---|---|---|---|---|
| prefix | 0x92 | PR_Sent_Counter | Stream_ID | 0, sub-stream in 6:4, P 3, M 2, K 1, T 0 |
| OHC-C | requester segment | PR_Sent_Counter | Stream_ID | 0, sub-stream in 6:4, 0, 0, K 1, T 0 |
"""

from typing import Final

import numpy as np

from .. import spec
from .._jit import inline_kernel

PREFIX: Final = spec.IDE_PREFIX << 24
_PR_SENT: Final = spec.IDE_PR_SENT_SHIFT
_STREAM_ID: Final = spec.IDE_STREAM_ID_SHIFT
_SUB_STREAM: Final = spec.IDE_SUB_STREAM_SHIFT
_SUB_STREAM_MASK: Final = spec.IDE_SUB_STREAM_MASK
_P: Final = spec.IDE_P
_M: Final = spec.IDE_M
_K: Final = spec.IDE_K
_T: Final = spec.IDE_T


@inline_kernel
def prefix_word(
    first: int, pr_sent: int, stream_id: int, sub_stream: int, p: int, m: int, k: int, t: int
) -> int:
    """Return the word. `first`: PREFIX, or in flit mode the requester segment << 24; p, m: 0 in flit mode."""
    word = first | pr_sent << _PR_SENT | stream_id << _STREAM_ID | sub_stream << _SUB_STREAM
    return word | p * _P | m * _M | k * _K | t * _T


@inline_kernel
def put_word(data: np.ndarray, at: int, word: int) -> None:
    """Write a word, most significant byte first.  Modified in place: data[at : at + 4]."""
    data[at] = word >> 24 & 0xFF
    data[at + 1] = word >> 16 & 0xFF
    data[at + 2] = word >> 8 & 0xFF
    data[at + 3] = word & 0xFF


@inline_kernel
def pr_sent_of(data: np.ndarray, at: int) -> int:
    """Return PR_Sent_Counter of the word at `at`."""
    return int(data[at + 1])


@inline_kernel
def stream_id_of(data: np.ndarray, at: int) -> int:
    """Return the Stream ID of the word at `at`."""
    return int(data[at + 2])


@inline_kernel
def sub_stream_of_word(data: np.ndarray, at: int) -> int:
    """Return the sub-stream of the word at `at`, 0..7."""
    return int(data[at + 3]) >> _SUB_STREAM & _SUB_STREAM_MASK


@inline_kernel
def flag_of(data: np.ndarray, at: int, bit: int) -> int:
    """Return 1 if a bit of the last byte (spec.IDE_P, IDE_M, IDE_K, IDE_T) is set, else 0."""
    return 1 if int(data[at + 3]) & bit != 0 else 0
