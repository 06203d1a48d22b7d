"""Key schedules: AES round keys, and the powers of the hash key that GHASH needs.

Rule: a key is expanded once, in plain Python; kernels only read.

GHASH works on bit-reflected numbers. Kernels work in POLYVAL's domain instead, where a byte-reversed block
is an ordinary little-endian number (RFC 8452, appendix A):

    GHASH(H, X1..Xn) = ByteReverse(POLYVAL(mulX(ByteReverse(H)), ByteReverse(X1) .. ByteReverse(Xn)))
    POLYVAL(K, X1..Xn) = X1 * K^n + ... + Xn * K
    a * b = a b x^-128 modulo x^128 + x^127 + x^126 + x^121 + 1, coefficients 0 or 1

The sum has one product per block and products add before they are reduced: with every power at hand, a packet
needs one reduction, however long it is.
"""

from collections.abc import Sequence
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from .. import spec
from ..errors import MisuseError

U8 = npt.NDArray[np.uint8]

# --- Of this implementation -----------------------------------------------------------------------------

# Most bytes of one invocation: an aggregate of eight headers as AAD; a payload of 4096 B with PCRC and the
# encrypted part of a header as text.
MAX_AAD_BYTES: Final = 512
MAX_TEXT_BYTES: Final = 4112
# Blocks of the longest packet: AAD, text, lengths; rounded up to a whole number of four-block registers.
POWERS: Final = 292
# Zero rows behind the powers: a register that hangs over the end of a packet multiplies by nothing.
SPARE_POWERS: Final = 4
# AES-256 has 14 rounds, hence 15 round keys.
ROUND_KEYS: Final = max(spec.AES_ROUNDS.values()) + 1

# x^128 + x^127 + x^126 + x^121 + 1 without its top term (RFC 8452, section 3).
_POLYVAL: Final = 1 << 127 | 1 << 126 | 1 << 121 | 1
_ONES: Final = (1 << 128) - 1


class KeyTable:
    """AES keys of one size, expanded.

    Parameters
    ----------
    keys : one or more keys of 16 or 32 bytes, all of one size.

    Attributes
    ----------
    round_keys : u1[n, 15, 16]; AES-128 uses 11 of the 15.
    powers : u1[n, POWERS + SPARE_POWERS, 16], powers of the hash key in descending order, the first power in
        row POWERS - 1, zeros behind it; each row a little-endian number.
    rounds : 10 or 14.

    Raises MisuseError for keys of another or of mixed sizes.
    """

    def __init__(self, keys: Sequence[bytes]):
        sizes = {len(key) for key in keys}
        if len(sizes) != 1 or not sizes <= {bits // 8 for bits in spec.AES_ROUNDS}:
            raise MisuseError(f"a key table takes keys of 16 bytes or of 32 bytes, got {sorted(sizes)}")
        self.key_bits = 8 * sizes.pop()
        self.rounds = spec.AES_ROUNDS[self.key_bits]
        self.round_keys: U8 = np.zeros((len(keys), ROUND_KEYS, spec.AES_BLOCK_BYTES), np.uint8)
        self.powers: U8 = np.zeros((len(keys), POWERS + SPARE_POWERS, spec.AES_BLOCK_BYTES), np.uint8)
        for row, key in enumerate(keys):
            schedule = expand_key(key)
            self.round_keys[row, : self.rounds + 1] = np.frombuffer(schedule, np.uint8).reshape(-1, 16)
            self.powers[row, :POWERS] = hash_powers(key)

    def __len__(self) -> int:
        return len(self.round_keys)

    def __repr__(self) -> str:
        # Never the keys.
        return f"KeyTable({len(self)} keys of {self.key_bits} bits)"


def expand_key(key: bytes) -> bytes:
    """Return the round keys of AES in order, 16 bytes each (FIPS 197, section 5.2)."""
    box = _sbox()
    words = [key[i : i + 4] for i in range(0, len(key), 4)]
    nk = len(words)
    constant = 1
    for i in range(nk, 4 * (spec.AES_ROUNDS[8 * len(key)] + 1)):
        word = words[-1]
        if i % nk == 0:
            word = bytes(box[b] for b in word[1:] + word[:1])
            word = bytes([word[0] ^ constant]) + word[1:]
            constant = _double(constant)
        elif nk > 6 and i % nk == 4:
            word = bytes(box[b] for b in word)
        words.append(bytes(a ^ b for a, b in zip(words[i - nk], word, strict=True)))
    return b"".join(words)


def hash_powers(key: bytes) -> U8:
    """Return H^POWERS .. H^1 in POLYVAL's domain: u1[POWERS, 16]. H is the cipher of the zero block."""
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    h = int.from_bytes(encryptor.update(bytes(16)), "big")
    # mulX: one step of the shift that bit reflection costs, taken once here instead of in every product.
    base = (h << 1 & _ONES) ^ (_POLYVAL if h >> 127 else 0)
    rows = np.zeros((POWERS, 16), np.uint8)
    table = _multiples(base)
    power = base
    for row in range(POWERS - 1, -1, -1):
        rows[row] = np.frombuffer(power.to_bytes(16, "little"), np.uint8)
        power = _dot(power, table)
    return rows


def _multiples(base: int) -> list[int]:
    """Return base * x^(i - 128), i = 0..127: what bit i of the other factor adds to a POLYVAL product."""
    # x^-1 times v: v / x if its constant term is 0, else (v + P) / x.
    values = []
    value = base
    for _ in range(128):
        value = (value ^ _POLYVAL ^ 1 << 128) >> 1 if value & 1 else value >> 1
        values.append(value)
    # values[k] = base * x^-(k + 1)
    return values[::-1]


def _dot(a: int, table: list[int]) -> int:
    result = 0
    for i, multiple in enumerate(table):
        if a >> i & 1:
            result ^= multiple
    return result


def _double(a: int) -> int:
    """Multiply by x in AES's field (FIPS 197, section 4.2.1)."""
    return a << 1 if a < 0x80 else (a << 1 & 0xFF) ^ 0x1B


@cache
def _sbox() -> bytes:
    """Return AES's S-box from its definition: inverse, then an affine map (FIPS 197, section 5.1.1)."""
    # Powers of the generator 3 and their logarithms give inverses.
    power, log = [0] * 256, [0] * 256
    value = 1
    for exponent in range(255):
        power[exponent] = value
        log[value] = exponent
        value ^= _double(value)
    box = bytearray(256)
    for a in range(256):
        inverse = power[(255 - log[a]) % 255] if a else 0
        spread = 0
        for turn in range(5):
            spread ^= (inverse << turn | inverse >> (8 - turn)) & 0xFF
        box[a] = spread ^ 0x63
    return bytes(box)
