"""What the vector backends share: GHASH's arithmetic, odd ends, and the tag.

Rule: nothing here knows how wide a register is.

Only for compiled code on a CPU with the instructions; `backends` sees to that.
"""

import numpy as np

from .._jit import inline_only, inner_kernel
from .._jit.vector import (
    clmul_hh,
    clmul_hl,
    clmul_lh,
    clmul_ll,
    high_half,
    low_half,
    number32,
    number64,
    poly,
    repeat128,
    store,
    store96,
    swap_halves,
    xor,
)
from .keys import POWERS, ROUND_KEYS, SPARE_POWERS
from .packet import OFFSET, PACKET

# Bytes per key in the tables, and where in its row of powers the first power ends.
KEY_ROW = ROUND_KEYS * 16
POWER_ROW = (POWERS + SPARE_POWERS) * 16
FIRST_POWER_END = POWERS * 16
# The fields of a packet, by offset: an index into an array costs a check for negative ones.
ROW = PACKET.itemsize
KEY = OFFSET["key"]
AAD = OFFSET["aad"]
TEXT = OFFSET["text"]
OUT = OFFSET["out"]
TAG = OFFSET["tag"]
AAD_BYTES = OFFSET["aad_bytes"]
TEXT_BYTES = OFFSET["text_bytes"]
_LOW32 = np.uint64(0xFFFFFFFF)


@inline_only
def times(x, h):
    """Return the parts of x * h, lane by lane: at 1, at x^64, at x^128."""
    return clmul_ll(x, h), xor(clmul_lh(x, h), clmul_hl(x, h)), clmul_hh(x, h)


@inline_only
def add_times(s, x, h):
    """Return the sum s with x * h added."""
    low = xor(s[0], clmul_ll(x, h))
    middle = xor(s[1], xor(clmul_lh(x, h), clmul_hl(x, h)))
    return low, middle, xor(s[2], clmul_hh(x, h))


@inline_only
def reduce(low, middle, high):
    """Return the sum modulo POLYVAL's polynomial, times x^-128.

    1 = x^64 (x^57 + x^62 + x^63) + x^128 modulo the polynomial, so 64 low bits move up by 64 at the price of
    one product with the constant; twice, and the sum is a multiple of x^128.
    """
    middle = xor(middle, xor(swap_halves(low), clmul_ll(low, poly(low))))
    return xor(high, xor(swap_halves(middle), clmul_ll(middle, poly(middle))))


@inline_only
def part64(array, at, count):
    """Return the little-endian number that `count` bytes make, 0 to 8."""
    if count == 8:
        return np.uint64(number64(array, at))
    value = np.uint64(0)
    shift = np.uint64(0)
    if count >= 4:
        value = np.uint64(number32(array, at))
        shift = np.uint64(32)
        at += 4
        count -= 4
    for j in range(count):
        value |= np.uint64(array[at + j]) << shift
        shift += np.uint64(8)
    return value


@inline_only
def part128(array, at, count):
    """Return a block of `count` bytes, 0 to 16, with zeros behind them."""
    if count > 8:
        return repeat128(np.uint64(number64(array, at)), part64(array, at + 8, count - 8))
    return repeat128(part64(array, at, count), np.uint64(0))


@inner_kernel
def _wipe(out, at, count):
    for j in range(count):
        out[at + j] = 0


@inline_only
def finish(packets, p, block, text, out, tag_bytes, opening, failed, i):
    """Store the tag of packet i, whose row starts at byte p; or compare it, and wipe what failed."""
    if opening:
        check_tag(packets, p, block, text, out, tag_bytes, failed, i)
    elif tag_bytes == 12:
        store96(out, number64(packets, p + TAG), block)
    else:
        store(out, number64(packets, p + TAG), block)


@inline_only
def check_tag(packets, p, block, text, out, tag_bytes, failed, i):
    """Compare the tag of packet i, whose row starts at byte p; wipe what failed.

    The comparison reads every byte of the tag, whatever it finds.
    """
    tag = number64(packets, p + TAG)
    low = np.uint64(number64(text, tag)) ^ low_half(block)
    if tag_bytes == 12:
        high = np.uint64(number32(text, tag + 8)) ^ (high_half(block) & _LOW32)
    else:
        high = np.uint64(number64(text, tag + 8)) ^ high_half(block)
    if (low | high) != np.uint64(0):
        failed[i] = 1
        _wipe(out, number64(packets, p + OUT), number32(packets, p + TEXT_BYTES))
