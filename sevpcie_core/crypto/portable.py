"""AES-GCM in 64-bit integers, for any CPU, and for running without JIT.

Rule: no secret is an index, a shift count or a condition. Time tells sizes, and whether a tag matched.

`bitslice` has the cipher, `keys` tells how GHASH becomes POLYVAL, a sum of products without bit reflection.

A product of polynomials over GF(2) is made of integer products with holes. Let class i of a word be its bits
i, i + 4, i + 8 ...: 16 bits, three zeros between them. The integer product of class i of x and class j of y
counts, from bit 4 n + i + j on, the pairs of bits that meet there: at most n + 1 pairs. A count below 16 has
room in four bits; n = 15 counts to 16, but what is carried there leaves the word. So bit 0 of each count is
in its place, and it is the sum modulo 2: the products of all i + j = m modulo 4, added with XOR, hold class m
of x * y modulo x^64.

The upper half comes from the mirrors: bit i of mirror(x) * mirror(y) is bit 126 - i of x * y.
"""

import numpy as np

from .._jit import inline_kernel, kernel
from .bitslice import keystream, load, reverse_bytes, slice_keys, store
from .keys import POWERS, ROUND_KEYS

# The row of the first power of the hash key.
_H = POWERS - 1
# Where the keystream stands in `scratch`: behind the bitsliced round keys, 64 bytes each. Its first block
# hides the tag, the others the text (NIST SP 800-38D, section 7.1).
_MASK = np.uint64(64 * ROUND_KEYS)
_STREAM = np.uint64(64 * ROUND_KEYS + 16)

_ZERO = np.uint64(0)
_BYTE = np.uint64(0xFF)
_1 = np.uint64(1)
_2 = np.uint64(2)
_3 = np.uint64(3)
_4 = np.uint64(4)
_7 = np.uint64(7)
_8 = np.uint64(8)
_16 = np.uint64(16)
_57 = np.uint64(57)
_62 = np.uint64(62)
_63 = np.uint64(63)

# Every second bit, pair of bits and half byte.
_EVERY1 = np.uint64(0x5555555555555555)
_EVERY2 = np.uint64(0x3333333333333333)
_EVERY4 = np.uint64(0x0F0F0F0F0F0F0F0F)
# The classes of bits.
_CLASS0 = np.uint64(0x1111111111111111)
_CLASS1 = np.uint64(0x2222222222222222)
_CLASS2 = np.uint64(0x4444444444444444)
_CLASS3 = np.uint64(0x8888888888888888)


# --- GHASH -------------------------------------------------------------------------------------------------
# Numbers of 128 bits are pairs of words, (high, low).


@inline_kernel
def _mirror(x):
    """Return a word with its bits in opposite order."""
    x = (x >> _1 & _EVERY1) | (x & _EVERY1) << _1
    x = (x >> _2 & _EVERY2) | (x & _EVERY2) << _2
    x = (x >> _4 & _EVERY4) | (x & _EVERY4) << _4
    return reverse_bytes(x)


@inline_kernel
def _times(x, y):
    """Return x * y modulo x^64."""
    x0 = x & _CLASS0
    x1 = x & _CLASS1
    x2 = x & _CLASS2
    x3 = x & _CLASS3
    y0 = y & _CLASS0
    y1 = y & _CLASS1
    y2 = y & _CLASS2
    y3 = y & _CLASS3
    return (
        ((x0 * y0 ^ x1 * y3 ^ x2 * y2 ^ x3 * y1) & _CLASS0)
        | ((x0 * y1 ^ x1 * y0 ^ x2 * y3 ^ x3 * y2) & _CLASS1)
        | ((x0 * y2 ^ x1 * y1 ^ x2 * y0 ^ x3 * y3) & _CLASS2)
        | ((x0 * y3 ^ x1 * y2 ^ x2 * y1 ^ x3 * y0) & _CLASS3)
    )


@inline_kernel
def _dot(s, h, mirrored):
    """Return s * h * x^-128 modulo POLYVAL's polynomial; `mirrored` is both words of h, mirrored.

    Karatsuba: the middle product is (high + low) (high + low) less the two others.

    Let P = 1 + x^121 + x^126 + x^127 + x^128. Adding P times the lowest 64 bits makes them vanish; twice,
    and what is left is a multiple of x^128. P's terms above 1 move a word by 64 and 57, 62, 63, 64 bits.
    """
    high = _times(s[0], h[0])
    low = _times(s[1], h[1])
    middle = _times(s[0] ^ s[1], h[0] ^ h[1]) ^ high ^ low
    m0 = _mirror(s[0])
    m1 = _mirror(s[1])
    over_high = _times(m0, mirrored[0])
    over_low = _times(m1, mirrored[1])
    over_middle = _times(m0 ^ m1, mirrored[0] ^ mirrored[1]) ^ over_high ^ over_low
    w0 = low
    w1 = _mirror(over_low) >> _1 ^ middle
    w2 = _mirror(over_middle) >> _1 ^ high
    w3 = _mirror(over_high) >> _1
    w1 ^= w0 << _57 ^ w0 << _62 ^ w0 << _63
    w2 ^= w0 ^ w0 >> _7 ^ w0 >> _2 ^ w0 >> _1
    w2 ^= w1 << _57 ^ w1 << _62 ^ w1 << _63
    w3 ^= w1 ^ w1 >> _7 ^ w1 >> _2 ^ w1 >> _1
    return w3, w2


@inline_kernel
def _block(a, at, count):
    """Return the first 16 of `count` bytes as a number, the first one highest, zeros for what is missing."""
    if count >= 16:
        return reverse_bytes(load(a, at)), reverse_bytes(load(a, at + _8))
    high = _ZERO
    low = _ZERO
    for j in range(count):
        byte = np.uint64(a[at + np.uint64(j)])
        shift = _8 * np.uint64(7 - (j & 7))
        if j < 8:
            high |= byte << shift
        else:
            low |= byte << shift
    return high, low


@kernel
def _tag(powers, key, aad, aad_at, aad_bytes, text, text_at, text_bytes, scratch):
    """Return the tag of AAD and ciphertext as two little-endian words (NIST SP 800-38D, section 7.1)."""
    high = _ZERO
    low = _ZERO
    for j in range(8):
        high |= np.uint64(powers[key, _H, 8 + j]) << (_8 * np.uint64(j))
        low |= np.uint64(powers[key, _H, j]) << (_8 * np.uint64(j))
    h = (high, low)
    mirrored = (_mirror(high), _mirror(low))
    s = (_ZERO, _ZERO)
    aad_left = aad_bytes
    text_left = text_bytes
    # Each padded with zeros to whole blocks; a last block tells the lengths in bits.
    for _ in range(((aad_bytes + 15) >> 4) + ((text_bytes + 15) >> 4) + 1):
        # A block is a number backwards: its first word is the high half.
        if aad_left > 0:
            high, low = _block(aad, aad_at, aad_left)
            aad_at += _16
            aad_left -= 16
        elif text_left > 0:
            high, low = _block(text, text_at, text_left)
            text_at += _16
            text_left -= 16
        else:
            high, low = np.uint64(aad_bytes) << _3, np.uint64(text_bytes) << _3
        s = _dot((s[0] ^ high, s[1] ^ low), h, mirrored)
    return reverse_bytes(s[0]) ^ load(scratch, _MASK), reverse_bytes(s[1]) ^ load(scratch, _MASK + _8)


# --- Batches -----------------------------------------------------------------------------------------------


@inline_kernel
def _add_keystream(text, text_at, out, out_at, count, scratch):
    """Write the sum of text and keystream to out."""
    done = _ZERO
    for _ in range(count >> 3):
        store(out, out_at + done, load(text, text_at + done) ^ load(scratch, _STREAM + done))
        done += _8
    for _ in range(count & 7):
        out[out_at + done] = text[text_at + done] ^ scratch[_STREAM + done]
        done += _1


@inline_kernel
def _byte(first, second, j):
    """Return byte j of a tag."""
    word = first if j < 8 else second
    return word >> (_8 * np.uint64(j & 7)) & _BYTE


@kernel
def seal(round_keys, powers, rounds, packets, aad, text, out, tag_bytes, scratch):
    """Seal a batch.

    Parameters
    ----------
    round_keys : u1[n_keys, 15, 16], of `KeyTable`.
    powers : u1[n_keys, 296, 16], of `KeyTable`.
    rounds : 10 or 14.
    packets : PACKET[n], within the other arrays.
    aad, text : u1[:].
    out : u1[:], modified in place: ciphertexts at `out`, tags at `tag`. May be the array of aad or text; a
        packet's `out` may be its `text`.
    tag_bytes : 12 or 16.
    scratch : u1[64 KiB], the kernel's own.
    """
    sliced = np.int64(-1)
    for i in range(len(packets)):
        key = np.int64(packets[i]["key"])
        if key != sliced:
            slice_keys(round_keys, key, rounds, scratch)
            sliced = key
        aad_bytes = np.int64(packets[i]["aad_bytes"])
        text_bytes = np.int64(packets[i]["text_bytes"])
        aad_at = np.uint64(packets[i]["aad"])
        text_at = np.uint64(packets[i]["text"])
        out_at = np.uint64(packets[i]["out"])
        tag_at = np.uint64(packets[i]["tag"])
        fixed = np.uint64(packets[i]["fixed"])
        keystream(rounds, fixed, packets[i]["counter"], 1 + ((text_bytes + 15) >> 4), scratch, _MASK)
        _add_keystream(text, text_at, out, out_at, text_bytes, scratch)
        first, second = _tag(powers, key, aad, aad_at, aad_bytes, out, out_at, text_bytes, scratch)
        for j in range(tag_bytes):
            out[tag_at + np.uint64(j)] = np.uint8(_byte(first, second, j))


@kernel
def open(round_keys, powers, rounds, packets, aad, text, out, tag_bytes, scratch, failed):
    """Open a batch; arguments as in `seal`, except for these. No plaintext is written before its tag matched.

    Parameters
    ----------
    text : u1[:], ciphertexts at `text`, tags at `tag`.
    out : u1[:], modified in place: plaintexts, or zeros where a tag does not match.
    failed : u1[n], modified in place: 1 where a tag does not match.
    """
    sliced = np.int64(-1)
    for i in range(len(packets)):
        key = np.int64(packets[i]["key"])
        if key != sliced:
            slice_keys(round_keys, key, rounds, scratch)
            sliced = key
        aad_bytes = np.int64(packets[i]["aad_bytes"])
        text_bytes = np.int64(packets[i]["text_bytes"])
        aad_at = np.uint64(packets[i]["aad"])
        text_at = np.uint64(packets[i]["text"])
        out_at = np.uint64(packets[i]["out"])
        tag_at = np.uint64(packets[i]["tag"])
        fixed = np.uint64(packets[i]["fixed"])
        keystream(rounds, fixed, packets[i]["counter"], 1 + ((text_bytes + 15) >> 4), scratch, _MASK)
        first, second = _tag(powers, key, aad, aad_at, aad_bytes, text, text_at, text_bytes, scratch)
        difference = _ZERO
        for j in range(tag_bytes):
            difference |= _byte(first, second, j) ^ np.uint64(text[tag_at + np.uint64(j)])
        if difference == _ZERO:
            _add_keystream(text, text_at, out, out_at, text_bytes, scratch)
        else:
            failed[i] = 1
            for j in range(text_bytes):
                out[out_at + np.uint64(j)] = 0
