"""AES-GCM with 128-bit AES-NI and PCLMULQDQ: one block in a register, four at a time.

Rule: one packet after the other; the four blocks of a step are independent chains.

GHASH as in `keys`: each block has its own power, products are added unreduced, one reduction per packet.
What is left of a block is moved through scratch memory, so that no byte outside a packet is touched.
"""

import numpy as np

from .._jit import inline_only, kernel
from .._jit.vector import (
    add32,
    aes_last,
    aes_round,
    first_counters128,
    load128,
    next_counters128,
    number32,
    number64,
    one_be128,
    repeat128,
    reverse_bytes,
    reverse_bytes32,
    reverse_low96,
    store,
    xor,
)
from .gcm import (
    AAD,
    AAD_BYTES,
    FIRST_POWER_END,
    KEY,
    KEY_ROW,
    OUT,
    POWER_ROW,
    ROW,
    TEXT,
    TEXT_BYTES,
    add_times,
    finish,
    part128,
    reduce,
    times,
)


@inline_only
def _round4(keys, at, a, b, c, d):
    k = load128(keys, at)
    return aes_round(a, k), aes_round(b, k), aes_round(c, k), aes_round(d, k)


@inline_only
def _encrypt4(keys, at, rounds, a, b, c, d):
    """Encrypt four registers to which round key 0 has been added."""
    for r in range(1, rounds):
        a, b, c, d = _round4(keys, at + 16 * r, a, b, c, d)
    k = load128(keys, at + 16 * rounds)
    return aes_last(a, k), aes_last(b, k), aes_last(c, k), aes_last(d, k)


@inline_only
def _encrypt1(keys, at, rounds, a):
    """Encrypt one register to which round key 0 has been added."""
    for r in range(1, rounds):
        a = aes_round(a, load128(keys, at + 16 * r))
    return aes_last(a, load128(keys, at + 16 * rounds))


@inline_only
def _copy(source, s, target, t, count):
    """Copy less than a register of bytes."""
    for j in range(count):
        target[t + j] = source[s + j]


@inline_only
def _load_part(array, at, count):
    """Return the `count` bytes at `at`, less than a register, with zeros behind them."""
    return part128(array, at, count)


@inline_only
def _store_part(array, at, value, count, scratch):
    """Write the first `count` bytes, less than a register; return them with zeros behind."""
    store(scratch, 0, value)
    _copy(scratch, 0, array, at, count)
    for j in range(count, 16):
        scratch[j] = 0
    return load128(scratch, 0)


@inline_only
def _full(text, t, out, o, keystream, s, h, opening):
    """Encrypt a register of text and add it to the sum."""
    x = load128(text, t)
    y = xor(x, keystream)
    store(out, o, y)
    return add_times(s, reverse_bytes(x if opening else y), h)


@inline_only
def _packet(round_keys, powers, rounds, packets, i, aad, text, out, tag_bytes, opening, scratch, failed):
    """Take packet i."""
    p = i * ROW
    key = number32(packets, p + KEY)
    rest = number32(packets, p + TEXT_BYTES)
    aad_rest = number32(packets, p + AAD_BYTES)
    aad_at = number64(packets, p + AAD)
    t = number64(packets, p + TEXT)
    o = number64(packets, p + OUT)
    keys = key * KEY_ROW
    end = key * POWER_ROW + FIRST_POWER_END
    # From the power of the first block of text; that of the lengths is the first.
    at = end - (((rest + 15) & -16) + 16)

    # A PACKET begins with the counter and the fixed field, both little-endian: the nonce backwards.
    base = xor(reverse_low96(load128(packets, p)), load128(round_keys, keys))
    pad = _encrypt1(round_keys, keys, rounds, xor(base, one_be128()))

    lengths = repeat128(np.uint64(rest << 3), np.uint64(aad_rest << 3))
    s = times(lengths, load128(powers, end - 16))
    power = at - ((aad_rest + 15) & -16)
    while aad_rest >= 16:
        s = add_times(s, reverse_bytes(load128(aad, aad_at)), load128(powers, power))
        power += 16
        aad_at += 16
        aad_rest -= 16
    if aad_rest > 0:
        s = add_times(s, reverse_bytes(_load_part(aad, aad_at, aad_rest)), load128(powers, power))

    counters = first_counters128()
    while rest >= 64:
        x0 = xor(base, reverse_bytes32(counters))
        counters = add32(counters, next_counters128())
        x1 = xor(base, reverse_bytes32(counters))
        counters = add32(counters, next_counters128())
        x2 = xor(base, reverse_bytes32(counters))
        counters = add32(counters, next_counters128())
        x3 = xor(base, reverse_bytes32(counters))
        counters = add32(counters, next_counters128())
        x0, x1, x2, x3 = _encrypt4(round_keys, keys, rounds, x0, x1, x2, x3)
        s = _full(text, t, out, o, x0, s, load128(powers, at), opening)
        s = _full(text, t + 16, out, o + 16, x1, s, load128(powers, at + 16), opening)
        s = _full(text, t + 2 * 16, out, o + 2 * 16, x2, s, load128(powers, at + 2 * 16), opening)
        s = _full(text, t + 3 * 16, out, o + 3 * 16, x3, s, load128(powers, at + 3 * 16), opening)
        t += 64
        o += 64
        at += 64
        rest -= 64
    while rest > 0:
        x = _encrypt1(round_keys, keys, rounds, xor(base, reverse_bytes32(counters)))
        counters = add32(counters, next_counters128())
        if rest >= 16:
            s = _full(text, t, out, o, x, s, load128(powers, at), opening)
        else:
            c = _load_part(text, t, rest)
            y = _store_part(out, o, xor(c, x), rest, scratch)
            s = add_times(s, reverse_bytes(c if opening else y), load128(powers, at))
        t += 16
        o += 16
        at += 16
        rest -= 16

    block = xor(pad, reverse_bytes(reduce(s[0], s[1], s[2])))
    finish(packets, p, block, text, out, tag_bytes, opening, failed, i)


@kernel
def _batch(round_keys, powers, rounds, packets, aad, text, out, tag_bytes, scratch, opening, failed):
    """Seal or open a batch."""
    for i in range(len(packets)):
        _packet(round_keys, powers, rounds, packets, i, aad, text, out, tag_bytes, opening, scratch, failed)


def seal(round_keys, powers, rounds, packets, aad, text, out, tag_bytes, scratch):
    """Seal a batch; arguments as in `portable.seal`."""
    _batch(round_keys, powers, rounds, packets, aad, text, out, tag_bytes, scratch, False, scratch)


def open(round_keys, powers, rounds, packets, aad, text, out, tag_bytes, scratch, failed):
    """Open a batch; arguments as in `portable.open`."""
    _batch(round_keys, powers, rounds, packets, aad, text, out, tag_bytes, scratch, True, failed)
