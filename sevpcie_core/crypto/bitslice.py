"""AES in 64-bit integers, four blocks at once.

Rule: no secret is an index, a shift count or a condition.

Each of eight words holds one bit of every byte of four blocks, so that XOR, AND and rotations do to 64 bytes
what they do to one bit. Byte (row r, column c) of block k is bit 16 r + 4 c + k of each word: a step to the
next row is a rotation by 16, a step to the next column a rotation by 4 within 16 bits.

The S-box inverts in GF(256), seen as pairs over GF(16), seen as pairs over GF(4), seen as pairs of bits:

    GF(4): w^2 = w + 1        GF(16): Z^2 = Z + w        GF(256): Y^2 = Y + wZ

    1 / (a1 Y + a0) = (a1 / n) Y + (a1 + a0) / n,   n = wZ a1^2 + a1 a0 + a0^2

and so one floor below, with w for wZ; in GF(4) the inverse is the square. Elements are tuples of words, the
highest coefficient first.
"""

import numpy as np

from .._jit import inline_kernel, kernel

_ZERO = np.uint64(0)
_BYTE = np.uint64(0xFF)
_1 = np.uint64(1)
_2 = np.uint64(2)
_3 = np.uint64(3)
_4 = np.uint64(4)
_5 = np.uint64(5)
_6 = np.uint64(6)
_7 = np.uint64(7)
_8 = np.uint64(8)
_12 = np.uint64(12)
_16 = np.uint64(16)
_24 = np.uint64(24)
_32 = np.uint64(32)
_40 = np.uint64(40)
_48 = np.uint64(48)
_56 = np.uint64(56)
_64 = np.uint64(64)

_LOW32 = np.uint64(0xFFFFFFFF)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
# Every second bit, pair of bits, half byte, byte and pair of bytes.
_EVERY1 = np.uint64(0x5555555555555555)
_EVERY2 = np.uint64(0x3333333333333333)
_EVERY4 = np.uint64(0x0F0F0F0F0F0F0F0F)
_EVERY8 = np.uint64(0x00FF00FF00FF00FF)
_EVERY16 = np.uint64(0x0000FFFF0000FFFF)
# A row is 16 bits, a column four of them.
_ROWS_2_3_COLUMNS_0_1 = np.uint64(0x00FF00FF00000000)
_ROWS_0_2 = np.uint64(0x0000FFFF0000FFFF)
_ROWS_1_3_COLUMNS_0_1_2 = np.uint64(0x0FFF00000FFF0000)
_ROWS_1_3_COLUMN_3 = np.uint64(0xF0000000F0000000)


# --- Bytes and words ---------------------------------------------------------------------------------------
# Offsets are unsigned: a signed index would first be asked whether it counts from the end.


@inline_kernel
def load(a, at):
    """Return the 8 bytes from u8 offset `at` of u1[:] as a little-endian word."""
    return (
        np.uint64(a[at])
        | np.uint64(a[at + _1]) << _8
        | np.uint64(a[at + _2]) << _16
        | np.uint64(a[at + _3]) << _24
        | np.uint64(a[at + _4]) << _32
        | np.uint64(a[at + _5]) << _40
        | np.uint64(a[at + _6]) << _48
        | np.uint64(a[at + _7]) << _56
    )


@inline_kernel
def store(a, at, word):
    """Store a word as 8 bytes, little-endian, from u8 offset `at` of u1[:]."""
    a[at] = np.uint8(word & _BYTE)
    a[at + _1] = np.uint8(word >> _8 & _BYTE)
    a[at + _2] = np.uint8(word >> _16 & _BYTE)
    a[at + _3] = np.uint8(word >> _24 & _BYTE)
    a[at + _4] = np.uint8(word >> _32 & _BYTE)
    a[at + _5] = np.uint8(word >> _40 & _BYTE)
    a[at + _6] = np.uint8(word >> _48 & _BYTE)
    a[at + _7] = np.uint8(word >> _56)


@inline_kernel
def reverse_bytes(x):
    """Return a word with its bytes in opposite order."""
    x = (x >> _8 & _EVERY8) | (x & _EVERY8) << _8
    x = (x >> _16 & _EVERY16) | (x & _EVERY16) << _16
    return x >> _32 | x << _32


# --- SubBytes ----------------------------------------------------------------------------------------------


@inline_kernel
def _times4(a, b):
    """Multiply in GF(4), with three ANDs."""
    low = a[1] & b[1]
    return ((a[0] ^ a[1]) & (b[0] ^ b[1])) ^ low, (a[0] & b[0]) ^ low


@inline_kernel
def _times16(a, b):
    """Multiply in GF(16), with three products in GF(4)."""
    high = _times4((a[0], a[1]), (b[0], b[1]))
    low = _times4((a[2], a[3]), (b[2], b[3]))
    both = _times4((a[0] ^ a[2], a[1] ^ a[3]), (b[0] ^ b[2], b[1] ^ b[3]))
    # w (h w + l) = (h + l) w + h
    return both[0] ^ low[0], both[1] ^ low[1], low[0] ^ high[0] ^ high[1], low[1] ^ high[0]


@inline_kernel
def _substitute(x):
    """Put 64 bytes through the S-box, except for its constant: see `slice_keys` (FIPS 197, section 5.1.1)."""
    # A byte's bits in the basis above: a1, a0, and wZ a1^2 + a0^2, which is as linear as they are.
    b16 = x[1] ^ x[6]
    b45 = x[4] ^ x[5]
    b57 = x[5] ^ x[7]
    b167 = x[7] ^ b16
    b1456 = b16 ^ b45
    a1 = (b57, b1456 ^ x[2] ^ x[3], b1456, x[1] ^ b57)
    a0 = (x[3] ^ b167, x[2] ^ x[5], b167, x[0] ^ x[2])
    squares = (x[3] ^ x[6] ^ x[7], b16, x[3] ^ b45, x[0] ^ b1456)

    n = _times16(a1, a0)
    n = (n[0] ^ squares[0], n[1] ^ squares[1], n[2] ^ squares[2], n[3] ^ squares[3])
    # 1 / n the same way: (h w + l)^2 = h w + (h + l), and w times that is l w + h.
    m = _times4((n[0], n[1]), (n[2], n[3]))
    m = (m[0] ^ n[1] ^ n[2], m[1] ^ n[0] ^ n[2] ^ n[3])
    m = (m[0], m[0] ^ m[1])
    n1 = _times4((n[0], n[1]), m)
    n0 = _times4((n[0] ^ n[2], n[1] ^ n[3]), m)
    n = (n1[0], n1[1], n0[0], n0[1])

    y7, y6, y5, y4 = _times16(a1, n)
    y3, y2, y1, y0 = _times16((a1[0] ^ a0[0], a1[1] ^ a0[1], a1[2] ^ a0[2], a1[3] ^ a0[3]), n)
    # Back to AES's basis, and through the affine map.
    b01 = y0 ^ y1
    b45 = y4 ^ y5
    b46 = y4 ^ y6
    b245 = y2 ^ b45
    b0245 = y0 ^ b245
    return b0245, y2 ^ b01, b01, y6 ^ b0245, y3 ^ y0 ^ b45, y3 ^ b245, y7 ^ b46, y2 ^ b46


# --- ShiftRows, MixColumns, AddRoundKey --------------------------------------------------------------------


@inline_kernel
def _shift_rows(x):
    """Turn row r by r columns: rows 2 and 3 by two, then rows 1 and 3 by one (FIPS 197, section 5.1.2)."""
    t = (x ^ x >> _8) & _ROWS_2_3_COLUMNS_0_1
    x ^= t ^ t << _8
    return (x & _ROWS_0_2) | (x >> _4 & _ROWS_1_3_COLUMNS_0_1_2) | (x << _12 & _ROWS_1_3_COLUMN_3)


@inline_kernel
def _mix_columns(x):
    """Multiply each column by 02 03 01 01 (FIPS 197, section 5.1.3).

    02 a + 03 b + c + d = 02 (a + b) + b + (c + d), where b, c, d are the rows below a: the sum of a row and
    the next one serves twice.
    """
    b0 = x[0] >> _16 | x[0] << _48
    b1 = x[1] >> _16 | x[1] << _48
    b2 = x[2] >> _16 | x[2] << _48
    b3 = x[3] >> _16 | x[3] << _48
    b4 = x[4] >> _16 | x[4] << _48
    b5 = x[5] >> _16 | x[5] << _48
    b6 = x[6] >> _16 | x[6] << _48
    b7 = x[7] >> _16 | x[7] << _48
    s0 = x[0] ^ b0
    s1 = x[1] ^ b1
    s2 = x[2] ^ b2
    s3 = x[3] ^ b3
    s4 = x[4] ^ b4
    s5 = x[5] ^ b5
    s6 = x[6] ^ b6
    s7 = x[7] ^ b7
    # 02 s moves every bit up by one; the one that falls out comes back as 1B.
    return (
        b0 ^ (s0 >> _32 | s0 << _32) ^ s7,
        b1 ^ (s1 >> _32 | s1 << _32) ^ s0 ^ s7,
        b2 ^ (s2 >> _32 | s2 << _32) ^ s1,
        b3 ^ (s3 >> _32 | s3 << _32) ^ s2 ^ s7,
        b4 ^ (s4 >> _32 | s4 << _32) ^ s3 ^ s7,
        b5 ^ (s5 >> _32 | s5 << _32) ^ s4,
        b6 ^ (s6 >> _32 | s6 << _32) ^ s5,
        b7 ^ (s7 >> _32 | s7 << _32) ^ s6,
    )


@inline_kernel
def _add_round_key(x, scratch, at):
    return (
        x[0] ^ load(scratch, at),
        x[1] ^ load(scratch, at + _8),
        x[2] ^ load(scratch, at + _16),
        x[3] ^ load(scratch, at + _24),
        x[4] ^ load(scratch, at + _32),
        x[5] ^ load(scratch, at + _40),
        x[6] ^ load(scratch, at + _48),
        x[7] ^ load(scratch, at + _56),
    )


# --- Into slices and out of them ---------------------------------------------------------------------------
# Before it is transposed, word k of the eight holds columns 0 and 2 of block k, word 4 + k columns 1 and 3:
# byte 2 r comes from row r of the first column, byte 2 r + 1 from row r of the second.


@inline_kernel
def _swap(a, b, shift, every):
    t = (a >> shift ^ b) & every
    return a ^ t << shift, b ^ t


@inline_kernel
def _transpose(x):
    """Exchange bit i of byte j of word m with bit m of byte j of word i. Its own inverse."""
    a0, a1 = _swap(x[0], x[1], _1, _EVERY1)
    a2, a3 = _swap(x[2], x[3], _1, _EVERY1)
    a4, a5 = _swap(x[4], x[5], _1, _EVERY1)
    a6, a7 = _swap(x[6], x[7], _1, _EVERY1)
    a0, a2 = _swap(a0, a2, _2, _EVERY2)
    a1, a3 = _swap(a1, a3, _2, _EVERY2)
    a4, a6 = _swap(a4, a6, _2, _EVERY2)
    a5, a7 = _swap(a5, a7, _2, _EVERY2)
    a0, a4 = _swap(a0, a4, _4, _EVERY4)
    a1, a5 = _swap(a1, a5, _4, _EVERY4)
    a2, a6 = _swap(a2, a6, _4, _EVERY4)
    a3, a7 = _swap(a3, a7, _4, _EVERY4)
    return a0, a1, a2, a3, a4, a5, a6, a7


@inline_kernel
def _spread(column):
    """Return the four bytes of a column in bytes 0, 2, 4, 6."""
    column = (column | column << _16) & _EVERY16
    return (column | column << _8) & _EVERY8


@inline_kernel
def _spread_number(number):
    """Return a 32-bit number, big-endian, in bytes 0, 2, 4, 6."""
    return reverse_bytes(_spread(number)) >> _8


@inline_kernel
def _gather(word):
    """Return bytes 0, 2, 4, 6 side by side."""
    word &= _EVERY8
    word = (word | word >> _8) & _EVERY16
    return (word | word >> _16) & _LOW32


@inline_kernel
def _store_block(scratch, at, even, odd):
    store(scratch, at, _gather(even) | _gather(odd) << _32)
    store(scratch, at + _8, _gather(even >> _8) | _gather(odd >> _8) << _32)


# --- For other kernels -------------------------------------------------------------------------------------


@kernel
def slice_keys(round_keys, key, rounds, scratch):
    """Write the round keys of one key, bitsliced for four equal blocks, to scratch[: 64 * (rounds + 1)].

    The S-box ends with the addition of 63. A byte that is the same everywhere passes ShiftRows and MixColumns
    as it is (02 + 03 + 01 + 01 = 01), so every round key but the first takes it in.

    Parameters
    ----------
    round_keys : u1[n_keys, 15, 16], of `KeyTable`.
    key : row of it.
    rounds : 10 or 14.
    scratch : u1[:], modified in place.
    """
    at = _ZERO
    constant = _ZERO
    for r in range(rounds + 1):
        low = _ZERO
        high = _ZERO
        for j in range(8):
            low |= np.uint64(round_keys[key, r, j]) << (_8 * np.uint64(j))
            high |= np.uint64(round_keys[key, r, 8 + j]) << (_8 * np.uint64(j))
        even = _spread(low & _LOW32) | _spread(high & _LOW32) << _8
        odd = _spread(low >> _32) | _spread(high >> _32) << _8
        x = _transpose((even, even, even, even, odd, odd, odd, odd))
        store(scratch, at, x[0] ^ constant)
        store(scratch, at + _8, x[1] ^ constant)
        store(scratch, at + _16, x[2])
        store(scratch, at + _24, x[3])
        store(scratch, at + _32, x[4])
        store(scratch, at + _40, x[5] ^ constant)
        store(scratch, at + _48, x[6] ^ constant)
        store(scratch, at + _56, x[7])
        at += _64
        constant = _ALL


@kernel
def keystream(rounds, fixed, counter, blocks, scratch, at):
    """Write the ciphers of BE32(fixed) || BE64(counter) || BE32(number), number = 1, 2 ..., to scratch.

    Parameters
    ----------
    rounds : 10 or 14.
    fixed, counter : u8, the nonce.
    blocks : how many; rounded up to a multiple of four.
    scratch : u1[:], begins with the key's `slice_keys`. Modified in place, from offset `at` (u8).
    """
    even = _spread_number(fixed) | _spread_number(counter & _LOW32) << _8
    odd = _spread_number(counter >> _32)
    number = _1
    for _ in range((blocks + 3) >> 2):
        x = _transpose(
            (
                even,
                even,
                even,
                even,
                odd | _spread_number(number) << _8,
                odd | _spread_number(number + _1) << _8,
                odd | _spread_number(number + _2) << _8,
                odd | _spread_number(number + _3) << _8,
            )
        )
        for r in range(rounds):
            x = _substitute(_add_round_key(x, scratch, _64 * np.uint64(r)))
            x = (
                _shift_rows(x[0]),
                _shift_rows(x[1]),
                _shift_rows(x[2]),
                _shift_rows(x[3]),
                _shift_rows(x[4]),
                _shift_rows(x[5]),
                _shift_rows(x[6]),
                _shift_rows(x[7]),
            )
            # The last round mixes no columns.
            if r < rounds - 1:
                x = _mix_columns(x)
        x = _transpose(_add_round_key(x, scratch, _64 * np.uint64(rounds)))
        _store_block(scratch, at, x[0], x[4])
        _store_block(scratch, at + _16, x[1], x[5])
        _store_block(scratch, at + _32, x[2], x[6])
        _store_block(scratch, at + _48, x[3], x[7])
        at += _64
        number += _4
