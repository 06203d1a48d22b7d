"""AES-GCM with 512-bit VAES and VPCLMULQDQ: four blocks in a register, four packets side by side.

Rule: where four packets in a row are alike, no register works for one packet alone.

A packet's rounds are a chain, each waiting for the one before. Four packets of one key and one shape run
together: four chains of text, and their counter-zero blocks share a fifth. For GHASH the text is transposed,
so that a lane belongs to a packet: the four sums grow in one register and are reduced together. Each block is
multiplied by its own power of the hash key, and products are added unreduced (see `keys`): a packet needs one
reduction. While one four is hashed, the rounds of the next go on.

Packets that have no equal neighbours, or long AAD, are taken one at a time.

Round keys are spread over the lanes once per key, into scratch memory, and read from there for each use: a
load costs a port that nothing else needs.
"""

import numpy as np

from .._jit import inline_kernel, kernel
from .._jit.vector import (
    add32,
    aes_last,
    aes_round,
    block0,
    block1,
    block2,
    block3,
    first_bits,
    first_counters512,
    keep_bytes,
    lanes_0_1,
    lanes_01_23,
    lanes_even,
    lanes_high,
    lanes_low,
    lanes_odd,
    load512,
    load_masked512,
    load_repeat512,
    next_counters512,
    number32,
    number64,
    one_be512,
    put_last512,
    repeat512,
    reverse_bytes,
    reverse_bytes32,
    reverse_low96,
    store,
    store_masked,
    xor,
    zero512,
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
    reduce,
    times,
)

# Where round keys start in scratch memory. Not Python integers: a kernel is compiled anew for each of those.
_ROUND1, _ROUND3, _ROUND5, _ROUND7, _ROUND9, _ROUND11 = (np.int64(64 * r) for r in (1, 3, 5, 7, 9, 11))


# --- AES ---------------------------------------------------------------------------------------------------


@inline_kernel
def _two4(keys, at, a, b, c, d):
    """Take four registers through two rounds."""
    k = load512(keys, at)
    a, b, c, d = aes_round(a, k), aes_round(b, k), aes_round(c, k), aes_round(d, k)
    k = load512(keys, at + 64)
    return aes_round(a, k), aes_round(b, k), aes_round(c, k), aes_round(d, k)


@inline_kernel
def _two5(keys, at, a, b, c, d, e):
    """Take five registers through two rounds."""
    k = load512(keys, at)
    a, b, c, d, e = aes_round(a, k), aes_round(b, k), aes_round(c, k), aes_round(d, k), aes_round(e, k)
    k = load512(keys, at + 64)
    return aes_round(a, k), aes_round(b, k), aes_round(c, k), aes_round(d, k), aes_round(e, k)


@inline_kernel
def _last4(keys, rounds, a, b, c, d):
    """Take four registers through what is left after eight rounds."""
    if rounds > 10:
        a, b, c, d = _two4(keys, _ROUND9, a, b, c, d)
        a, b, c, d = _two4(keys, _ROUND11, a, b, c, d)
    k = load512(keys, 64 * (rounds - 1))
    a, b, c, d = aes_round(a, k), aes_round(b, k), aes_round(c, k), aes_round(d, k)
    k = load512(keys, 64 * rounds)
    return aes_last(a, k), aes_last(b, k), aes_last(c, k), aes_last(d, k)


@inline_kernel
def _last5(keys, rounds, a, b, c, d, e):
    """Take five registers through what is left after eight rounds."""
    if rounds > 10:
        a, b, c, d, e = _two5(keys, _ROUND9, a, b, c, d, e)
        a, b, c, d, e = _two5(keys, _ROUND11, a, b, c, d, e)
    k = load512(keys, 64 * (rounds - 1))
    a, b, c, d, e = aes_round(a, k), aes_round(b, k), aes_round(c, k), aes_round(d, k), aes_round(e, k)
    k = load512(keys, 64 * rounds)
    return aes_last(a, k), aes_last(b, k), aes_last(c, k), aes_last(d, k), aes_last(e, k)


@inline_kernel
def _encrypt1(keys, rounds, a):
    """Encrypt one register of blocks to which round key 0 has been added."""
    for r in range(1, rounds):
        a = aes_round(a, load512(keys, 64 * r))
    return aes_last(a, load512(keys, 64 * rounds))


# --- GHASH -------------------------------------------------------------------------------------------------


@inline_kernel
def _transpose(a, b, c, d):
    """Return four registers: of every argument the first block, the second, the third, the fourth."""
    ab = lanes_low(a, b)
    cd = lanes_low(c, d)
    ef = lanes_high(a, b)
    gh = lanes_high(c, d)
    return lanes_even(ab, cd), lanes_odd(ab, cd), lanes_even(ef, gh), lanes_odd(ef, gh)


@inline_kernel
def _add_lanes(a):
    """Return the sum of the four lanes, in lane 0."""
    a = xor(a, lanes_high(a, a))
    return xor(a, lanes_odd(a, a))


# --- Pieces of a packet -------------------------------------------------------------------------------------


@inline_kernel
def _base(packets, at):
    """Return a packet's nonce followed by a counter of zero, in every lane."""
    # A PACKET begins with the counter and the fixed field, both little-endian: the nonce backwards.
    return reverse_low96(load_repeat512(packets, at))


@inline_kernel
def _full(text, t, out, o, keystream, s, h, opening):
    """Encrypt 64 bytes and add them to the sum."""
    x = load512(text, t)
    y = xor(x, keystream)
    store(out, o, y)
    return add_times(s, reverse_bytes(x if opening else y), h)


@inline_kernel
def _part(text, t, out, o, mask, keystream, s, h, opening):
    """Encrypt the last bytes of a packet and add them to the sum."""
    x = load_masked512(text, t, mask)
    y = xor(x, keystream)
    store_masked(out, o, y, mask)
    return add_times(s, reverse_bytes(x if opening else keep_bytes(y, mask)), h)


@inline_kernel
def _crypt4(text, t0, t1, t2, t3, out, o0, o1, o2, o3, at, x0, x1, x2, x3, opening):
    """Encrypt 64 bytes of four packets; return the ciphertext."""
    a = load512(text, t0 + at)
    b = load512(text, t1 + at)
    c = load512(text, t2 + at)
    d = load512(text, t3 + at)
    x0, x1, x2, x3 = xor(x0, a), xor(x1, b), xor(x2, c), xor(x3, d)
    store(out, o0 + at, x0)
    store(out, o1 + at, x1)
    store(out, o2 + at, x2)
    store(out, o3 + at, x3)
    if opening:
        return a, b, c, d
    return x0, x1, x2, x3


@inline_kernel
def _crypt4_last(text, t0, t1, t2, t3, out, o0, o1, o2, o3, at, mask, x0, x1, x2, x3, opening):
    """Encrypt the last 1 to 64 bytes of four packets; return the ciphertext, zeros behind it."""
    a = load_masked512(text, t0 + at, mask)
    b = load_masked512(text, t1 + at, mask)
    c = load_masked512(text, t2 + at, mask)
    d = load_masked512(text, t3 + at, mask)
    x0, x1, x2, x3 = xor(x0, a), xor(x1, b), xor(x2, c), xor(x3, d)
    store_masked(out, o0 + at, x0, mask)
    store_masked(out, o1 + at, x1, mask)
    store_masked(out, o2 + at, x2, mask)
    store_masked(out, o3 + at, x3, mask)
    if opening:
        return a, b, c, d
    return keep_bytes(x0, mask), keep_bytes(x1, mask), keep_bytes(x2, mask), keep_bytes(x3, mask)


@inline_kernel
def _lengths(powers, end, sizes):
    """Return the product of the block of lengths, the same in every lane; sizes as they stand in a PACKET."""
    aad_bits = np.uint64((sizes & 0xFFFFFFFF) << 3)
    text_bits = np.uint64((sizes >> 32) << 3)
    return times(repeat512(text_bits, aad_bits), load_repeat512(powers, end - 16))


@inline_kernel
def _start(scratch, packets, p):
    """Return four first counter blocks, and four counter-zero blocks in one, round key 0 added."""
    b0 = _base(packets, p)
    b1 = _base(packets, p + ROW)
    b2 = _base(packets, p + 2 * ROW)
    b3 = _base(packets, p + 3 * ROW)
    k = load512(scratch, 0)
    pad = xor(xor(lanes_01_23(lanes_0_1(b0, b1), lanes_0_1(b2, b3)), one_be512()), k)
    k = xor(k, reverse_bytes32(first_counters512()))
    return xor(b0, k), xor(b1, k), xor(b2, k), xor(b3, k), pad


@inline_kernel
def _aad4(aad, packets, p, aad_bytes, powers, power, s):
    """Add up to 32 bytes of AAD of each of four packets to their sums."""
    mask = first_bits(aad_bytes)
    a = load_masked512(aad, number64(packets, p + AAD), mask)
    b = load_masked512(aad, number64(packets, p + ROW + AAD), mask)
    c = load_masked512(aad, number64(packets, p + 2 * ROW + AAD), mask)
    d = load_masked512(aad, number64(packets, p + 3 * ROW + AAD), mask)
    ab = lanes_low(a, b)
    cd = lanes_low(c, d)
    s = add_times(s, reverse_bytes(lanes_even(ab, cd)), load_repeat512(powers, power))
    if aad_bytes > 16:
        s = add_times(s, reverse_bytes(lanes_odd(ab, cd)), load_repeat512(powers, power + 16))
    return s


@inline_kernel
def _run(scratch, powers, rounds, packets, i, aad, text, out, tag_bytes, opening, failed):
    """Take packets from i on, four at a time, as long as four are alike; return the next.

    Four packets are alike if they have the same key and the same sizes, with AAD of at most 32 bytes. Rounds
    of what comes next and products of what is there stand by turns: they do not wait for each other.
    """
    p = i * ROW
    key = number32(packets, p + KEY)
    end = key * POWER_ROW + FIRST_POWER_END
    x0, x1, x2, x3, pad = _start(scratch, packets, p)
    x0, x1, x2, x3, pad = _two5(scratch, _ROUND1, x0, x1, x2, x3, pad)
    x0, x1, x2, x3, pad = _two5(scratch, _ROUND3, x0, x1, x2, x3, pad)
    x0, x1, x2, x3, pad = _two5(scratch, _ROUND5, x0, x1, x2, x3, pad)
    x0, x1, x2, x3, pad = _two5(scratch, _ROUND7, x0, x1, x2, x3, pad)
    x0, x1, x2, x3, pad = _last5(scratch, rounds, x0, x1, x2, x3, pad)
    while True:
        rest = number32(packets, p + TEXT_BYTES)
        aad_bytes = number32(packets, p + AAD_BYTES)
        # From the power of the first block of text; that of the lengths is the first.
        at = end - (((rest + 15) & -16) + 16)
        s = _lengths(powers, end, number64(packets, p + AAD_BYTES))
        if aad_bytes > 0:
            s = _aad4(aad, packets, p, aad_bytes, powers, at - ((aad_bytes + 15) & -16), s)
        t0 = number64(packets, p + TEXT)
        t1 = number64(packets, p + ROW + TEXT)
        t2 = number64(packets, p + 2 * ROW + TEXT)
        t3 = number64(packets, p + 3 * ROW + TEXT)
        o0 = number64(packets, p + OUT)
        o1 = number64(packets, p + ROW + OUT)
        o2 = number64(packets, p + 2 * ROW + OUT)
        o3 = number64(packets, p + 3 * ROW + OUT)
        done = np.int64(0)
        if rest > 64:
            k = load512(scratch, 0)
            b0 = xor(_base(packets, p), k)
            b1 = xor(_base(packets, p + ROW), k)
            b2 = xor(_base(packets, p + 2 * ROW), k)
            b3 = xor(_base(packets, p + 3 * ROW), k)
            counters = first_counters512()
            while rest > 64:
                a, b, c, d = _crypt4(text, t0, t1, t2, t3, out, o0, o1, o2, o3, done, x0, x1, x2, x3, opening)
                counters = add32(counters, next_counters512())
                e = reverse_bytes32(counters)
                x0, x1, x2, x3 = xor(b0, e), xor(b1, e), xor(b2, e), xor(b3, e)
                a, b, c, d = _transpose(a, b, c, d)
                x0, x1, x2, x3 = _two4(scratch, _ROUND1, x0, x1, x2, x3)
                s = add_times(s, reverse_bytes(a), load_repeat512(powers, at))
                x0, x1, x2, x3 = _two4(scratch, _ROUND3, x0, x1, x2, x3)
                s = add_times(s, reverse_bytes(b), load_repeat512(powers, at + 16))
                x0, x1, x2, x3 = _two4(scratch, _ROUND5, x0, x1, x2, x3)
                s = add_times(s, reverse_bytes(c), load_repeat512(powers, at + 32))
                x0, x1, x2, x3 = _two4(scratch, _ROUND7, x0, x1, x2, x3)
                s = add_times(s, reverse_bytes(d), load_repeat512(powers, at + 48))
                x0, x1, x2, x3 = _last4(scratch, rounds, x0, x1, x2, x3)
                at += 64
                done += 64
                rest -= 64
        # The next four start while these four end; where there are none, these start again, for nothing.
        i += 4
        go_on = i + 4 <= len(packets) and _alike(packets, i, key)
        q = i * ROW if go_on else p
        next_pad = pad
        if rest > 0:
            a, b, c, d = _crypt4_last(
                text, t0, t1, t2, t3, out, o0, o1, o2, o3, done, first_bits(rest), x0, x1, x2, x3, opening
            )
            a, b, c, d = _transpose(a, b, c, d)
            x0, x1, x2, x3, next_pad = _start(scratch, packets, q)
            x0, x1, x2, x3, next_pad = _two5(scratch, _ROUND1, x0, x1, x2, x3, next_pad)
            s = add_times(s, reverse_bytes(a), load_repeat512(powers, at))
            x0, x1, x2, x3, next_pad = _two5(scratch, _ROUND3, x0, x1, x2, x3, next_pad)
            s = add_times(s, reverse_bytes(b), load_repeat512(powers, at + 16))
            x0, x1, x2, x3, next_pad = _two5(scratch, _ROUND5, x0, x1, x2, x3, next_pad)
            s = add_times(s, reverse_bytes(c), load_repeat512(powers, at + 32))
            x0, x1, x2, x3, next_pad = _two5(scratch, _ROUND7, x0, x1, x2, x3, next_pad)
            s = add_times(s, reverse_bytes(d), load_repeat512(powers, at + 48))
        else:
            x0, x1, x2, x3, next_pad = _start(scratch, packets, q)
            x0, x1, x2, x3, next_pad = _two5(scratch, _ROUND1, x0, x1, x2, x3, next_pad)
            x0, x1, x2, x3, next_pad = _two5(scratch, _ROUND3, x0, x1, x2, x3, next_pad)
            x0, x1, x2, x3, next_pad = _two5(scratch, _ROUND5, x0, x1, x2, x3, next_pad)
            x0, x1, x2, x3, next_pad = _two5(scratch, _ROUND7, x0, x1, x2, x3, next_pad)
        x0, x1, x2, x3, next_pad = _last5(scratch, rounds, x0, x1, x2, x3, next_pad)

        tags = xor(pad, reverse_bytes(reduce(s[0], s[1], s[2])))
        finish(packets, p, block0(tags), text, out, tag_bytes, opening, failed, i - 4)
        finish(packets, p + ROW, block1(tags), text, out, tag_bytes, opening, failed, i - 3)
        finish(packets, p + 2 * ROW, block2(tags), text, out, tag_bytes, opening, failed, i - 2)
        finish(packets, p + 3 * ROW, block3(tags), text, out, tag_bytes, opening, failed, i - 1)
        if not go_on:
            return i
        p = q
        pad = next_pad


@inline_kernel
def _one(scratch, powers, rounds, packets, i, aad, text, out, tag_bytes, opening, failed):
    """Take packet i, of any shape."""
    p = i * ROW
    key = number32(packets, p + KEY)
    rest = number32(packets, p + TEXT_BYTES)
    aad_rest = number32(packets, p + AAD_BYTES)
    aad_at = number64(packets, p + AAD)
    t = number64(packets, p + TEXT)
    o = number64(packets, p + OUT)
    end = key * POWER_ROW + FIRST_POWER_END
    at = end - (((rest + 15) & -16) + 16)

    base = xor(_base(packets, p), load512(scratch, 0))
    pad = _encrypt1(scratch, rounds, xor(base, one_be512()))

    # The lengths, in the last lane.
    lengths = put_last512(zero512(), np.uint64(rest << 3), np.uint64(aad_rest << 3))
    s = times(lengths, load512(powers, end - 64))
    aad_power = at - ((aad_rest + 15) & -16)
    while aad_rest > 0:
        x = reverse_bytes(load_masked512(aad, aad_at, first_bits(min(aad_rest, 64))))
        s = add_times(s, x, load512(powers, aad_power))
        aad_power += 64
        aad_at += 64
        aad_rest -= 64

    counters = first_counters512()
    while rest > 0:
        x = _encrypt1(scratch, rounds, xor(base, reverse_bytes32(counters)))
        counters = add32(counters, next_counters512())
        s = _part(text, t, out, o, first_bits(min(rest, 64)), x, s, load512(powers, at), opening)
        t += 64
        o += 64
        at += 64
        rest -= 64

    tags = xor(pad, reverse_bytes(reduce(_add_lanes(s[0]), _add_lanes(s[1]), _add_lanes(s[2]))))
    finish(packets, p, block0(tags), text, out, tag_bytes, opening, failed, i)


@inline_kernel
def _alike(packets, i, key):
    """Return whether packets i..i+3 are of a key and can be taken side by side."""
    p = i * ROW
    # Both sizes, read as one number.
    sizes = number64(packets, p + AAD_BYTES)
    same = (number32(packets, p + AAD_BYTES) <= 32) & (number32(packets, p + KEY) == key)
    for _ in range(3):
        p += ROW
        same &= (number32(packets, p + KEY) == key) & (number64(packets, p + AAD_BYTES) == sizes)
    return same


@inline_kernel
def _spread(round_keys, key, rounds, scratch):
    """Put each round key of a key into every lane of a register, in scratch."""
    for r in range(rounds + 1):
        store(scratch, 64 * r, load_repeat512(round_keys, key * KEY_ROW + 16 * r))


@kernel
def _batch(round_keys, powers, rounds, packets, aad, text, out, tag_bytes, scratch, opening, failed):
    """Seal or open a batch."""
    last = np.int64(-1)
    i = np.int64(0)
    while i < len(packets):
        key = number32(packets, i * ROW + KEY)
        if key != last:
            _spread(round_keys, key, rounds, scratch)
            last = key
        if i + 4 <= len(packets) and _alike(packets, i, key):
            i = _run(scratch, powers, rounds, packets, i, aad, text, out, tag_bytes, opening, failed)
        else:
            _one(scratch, powers, rounds, packets, i, aad, text, out, tag_bytes, opening, failed)
            i += 1


def seal(round_keys, powers, rounds, packets, aad, text, out, tag_bytes, scratch):
    """Seal a batch; arguments as in `portable.seal`."""
    _batch(round_keys, powers, rounds, packets, aad, text, out, tag_bytes, scratch, False, scratch)


def open(round_keys, powers, rounds, packets, aad, text, out, tag_bytes, scratch, failed):
    """Open a batch; arguments as in `portable.open`."""
    _batch(round_keys, powers, rounds, packets, aad, text, out, tag_bytes, scratch, True, failed)
