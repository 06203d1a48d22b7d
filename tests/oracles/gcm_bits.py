"""AES-GCM as the standards write it, byte by byte and bit by bit (FIPS 197, NIST SP 800-38D).

Slow, and independent of the package: the product in GF(2^128) is algorithm 1 of SP 800-38D, section 6.3.
"""


def double(a: int) -> int:
    """xTIMES of FIPS 197, section 4.2."""
    a <<= 1
    return a ^ 0x11B if a & 0x100 else a


def times(a: int, b: int) -> int:
    """Multiply in GF(2^8)."""
    result = 0
    for i in range(8):
        if b >> i & 1:
            result ^= a
        a = double(a)
    return result


def make_sbox() -> list[int]:
    """FIPS 197, section 5.1.1: the inverse by search, then b_i + b_i+4 + b_i+5 + b_i+6 + b_i+7 + c_i."""
    box = []
    for a in range(256):
        inverse = next((b for b in range(256) if times(a, b) == 1), 0)
        value = 0
        for i in range(8):
            bit = 0x63 >> i
            for j in (0, 4, 5, 6, 7):
                bit ^= inverse >> ((i + j) % 8)
            value |= (bit & 1) << i
        box.append(value)
    return box


SBOX = make_sbox()


def expand(key: bytes) -> list[bytes]:
    """FIPS 197, section 5.2: the words of the key schedule."""
    nk = len(key) // 4
    words = [key[4 * i : 4 * i + 4] for i in range(nk)]
    rcon = 1
    for i in range(nk, 4 * (nk + 7)):
        temp = words[-1]
        if i % nk == 0:
            temp = bytes(SBOX[b] for b in (*temp[1:], temp[0]))
            temp = bytes((temp[0] ^ rcon, *temp[1:]))
            rcon = double(rcon)
        elif nk > 6 and i % nk == 4:
            temp = bytes(SBOX[b] for b in temp)
        words.append(bytes(a ^ b for a, b in zip(words[-nk], temp, strict=True)))
    return words


def encrypt_block(words: list[bytes], block: bytes) -> bytes:
    """FIPS 197, section 5.1. Byte i of the block is row i % 4, column i // 4 of the state."""
    rounds = len(words) // 4 - 1

    def add_round_key(state, r):
        return [a ^ b for a, b in zip(state, b"".join(words[4 * r : 4 * r + 4]), strict=True)]

    state = add_round_key(block, 0)
    for r in range(1, rounds + 1):
        state = [SBOX[b] for b in state]
        state = [state[(i + 4 * (i % 4)) % 16] for i in range(16)]
        if r < rounds:
            mixed = []
            for c in range(0, 16, 4):
                for i in range(4):
                    a, b, d, e = (state[c + (i + j) % 4] for j in range(4))
                    mixed.append(double(a) ^ double(b) ^ b ^ d ^ e)
            state = mixed
        state = add_round_key(state, r)
    return bytes(state)


def times_128(x: int, y: int) -> int:
    """SP 800-38D, algorithm 1: X * Y; the leftmost bit of a block is the coefficient of 1."""
    r = 0xE1 << 120
    z, v = 0, y
    for i in range(127, -1, -1):
        if x >> i & 1:
            z ^= v
        v = v >> 1 ^ (r if v & 1 else 0)
    return z


def ghash(h: bytes, data: bytes) -> bytes:
    """SP 800-38D, algorithm 2."""
    y = 0
    for i in range(0, len(data), 16):
        y = times_128(y ^ int.from_bytes(data[i : i + 16], "big"), int.from_bytes(h, "big"))
    return y.to_bytes(16, "big")


def pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % 16)


def crypt(words: list[bytes], nonce: bytes, text: bytes) -> bytes:
    """SP 800-38D, algorithm 3 (GCTR), from inc32 of the block for a nonce of 96 bits."""
    out = b""
    for i in range(0, len(text), 16):
        stream = encrypt_block(words, nonce + (2 + i // 16).to_bytes(4, "big"))
        # The text may end first.
        out += bytes(a ^ b for a, b in zip(text[i : i + 16], stream, strict=False))
    return out


def tag(words: list[bytes], nonce: bytes, aad: bytes, ciphertext: bytes) -> bytes:
    """SP 800-38D, algorithm 4, steps 4 to 6, with all 16 bytes."""
    lengths = (8 * len(aad)).to_bytes(8, "big") + (8 * len(ciphertext)).to_bytes(8, "big")
    s = ghash(encrypt_block(words, bytes(16)), pad(aad) + pad(ciphertext) + lengths)
    mask = encrypt_block(words, nonce + b"\0\0\0\1")
    return bytes(a ^ b for a, b in zip(s, mask, strict=True))


def seal(key: bytes, nonce: bytes, aad: bytes, text: bytes, tag_bytes: int = 16) -> bytes:
    """Return ciphertext || tag (algorithm 4)."""
    words = expand(key)
    ciphertext = crypt(words, nonce, text)
    return ciphertext + tag(words, nonce, aad, ciphertext)[:tag_bytes]


def open_sealed(key: bytes, nonce: bytes, aad: bytes, sealed: bytes, tag_bytes: int = 16) -> bytes | None:
    """Return the plaintext, or None for FAIL (algorithm 5)."""
    words = expand(key)
    ciphertext = sealed[: len(sealed) - tag_bytes]
    if tag(words, nonce, aad, ciphertext)[:tag_bytes] != sealed[len(sealed) - tag_bytes :]:
        return None
    return crypt(words, nonce, ciphertext)
