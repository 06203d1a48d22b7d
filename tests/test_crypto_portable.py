"""The pieces of the portable backend, each against its definition; and the whole, interpreted and bounded."""

import os
import subprocess
import sys

import numpy as np
import pytest
from crypto_backends import LAYOUTS, Batch, every_key_size, every_tag_size
from hypothesis import example, given, settings
from hypothesis import strategies as st
from oracles import gcm_bits

from sevpcie_core.crypto import bitslice, portable
from sevpcie_core.crypto.keys import KeyTable

WORD = st.integers(0, (1 << 64) - 1)
ONES = (1 << 64) - 1
# All members of one class of bits: the most pairs that can meet.
CLASSES = [0x1111111111111111 << i for i in range(4)]


def carryless(x: int, y: int) -> int:
    result = 0
    for i in range(64):
        if y >> i & 1:
            result ^= x << i
    return result


@pytest.mark.nojit
@settings(max_examples=60)
@given(x=WORD, y=WORD)
@example(x=ONES, y=ONES)
@example(x=1 << 63, y=1 << 63)
def test_products_with_holes(x, y):
    assert int(portable._times(np.uint64(x), np.uint64(y))) == carryless(x, y) & ONES


@pytest.mark.nojit
def test_the_fullest_holes():
    for x in (*CLASSES, ONES):
        for y in (*CLASSES, ONES):
            assert int(portable._times(np.uint64(x), np.uint64(y))) == carryless(x, y) & ONES


@pytest.mark.nojit
@settings(max_examples=30)
@given(x=WORD)
def test_mirror_and_byte_order(x):
    word = np.uint64(x)
    assert int(portable._mirror(word)) == int(f"{x:064b}"[::-1], 2)
    assert int(bitslice.reverse_bytes(word)) == int.from_bytes(x.to_bytes(8, "little"))
    array = np.full(10, 0xA5, np.uint8)
    bitslice.store(array, np.uint64(1), word)
    assert array.tobytes() == b"\xa5" + x.to_bytes(8, "little") + b"\xa5"
    assert int(bitslice.load(array, np.uint64(1))) == x


@pytest.mark.nojit
@settings(max_examples=40)
@given(s=st.tuples(WORD, WORD), h=st.tuples(WORD, WORD))
@example(s=(ONES, ONES), h=(ONES, ONES))
@example(s=(0, 1), h=(0, 1))
def test_dot_is_polyvals(s, h):
    a, b = (high << 64 | low for high, low in (s, h))
    product = 0
    for i in range(128):
        if b >> i & 1:
            product ^= a << i
    for _ in range(128):
        product = (product ^ (1 << 128 | 1 << 127 | 1 << 126 | 1 << 121 | 1) if product & 1 else product) >> 1
    words = [tuple(map(np.uint64, pair)) for pair in (s, h)]
    mirrored = tuple(np.uint64(portable._mirror(word)) for word in words[1])
    high, low = portable._dot(*words, mirrored)
    assert int(high) << 64 | int(low) == product


@pytest.mark.nojit
def test_the_sliced_sbox_is_the_sbox():
    for start in range(0, 256, 64):
        # Value start + p in bit p of the eight words.
        words = [sum(((start + p) >> b & 1) << p for p in range(64)) for b in range(8)]
        found = [int(w) for w in bitslice._substitute(tuple(map(np.uint64, words)))]
        for p in range(64):
            value = sum((found[b] >> p & 1) << b for b in range(8))
            # The constant is in the round keys.
            assert value ^ 0x63 == gcm_bits.SBOX[start + p]


@pytest.mark.nojit
@settings(max_examples=20)
@given(words=st.tuples(*[WORD] * 8))
def test_transposing(words):
    x = tuple(map(np.uint64, words))
    turned = bitslice._transpose(x)
    bits = lambda ws: [[int(w) >> (8 * j + i) & 1 for i in range(8)] for w in ws for j in range(8)]  # noqa: E731
    before, after = bits(x), bits(turned)
    assert all(
        after[8 * i + j][m] == before[8 * m + j][i] for i in range(8) for m in range(8) for j in range(8)
    )
    assert [int(w) for w in bitslice._transpose(tuple(map(np.uint64, turned)))] == list(words)


@pytest.mark.nojit
@every_key_size
@pytest.mark.parametrize("blocks", [1, 4, 5, 9])
def test_keystream(key_bytes, blocks):
    keys = [bytes(range(i, key_bytes + i)) for i in range(2)]
    table = KeyTable(keys)
    fixed, counter = 0x80010203, 0x8405060708090A0B
    nonce = fixed.to_bytes(4) + counter.to_bytes(8)
    for row, key in enumerate(keys):
        scratch = np.full(4096, 0x5A, np.uint8)
        bitslice.slice_keys(table.round_keys, row, table.rounds, scratch)
        at = 1001
        bitslice.keystream(table.rounds, np.uint64(fixed), np.uint64(counter), blocks, scratch, np.uint64(at))
        words = gcm_bits.expand(key)
        rounded = -(-blocks // 4) * 4
        expected = b"".join(
            gcm_bits.encrypt_block(words, nonce + (1 + i).to_bytes(4)) for i in range(rounded)
        )
        assert scratch[at : at + 16 * rounded].tobytes() == expected
        assert (scratch[at + 16 * rounded :] == 0x5A).all()


@pytest.mark.nojit
@every_tag_size
@every_key_size
def test_small_batches(key_bytes, tag_bytes):
    # What the other files do at length, short enough to be interpreted.
    shapes = [
        (i % 3, aad, text) for i, (aad, text) in enumerate([(0, 0), (20, 64), (33, 0), (16, 17), (1, 130)])
    ]
    for layout in LAYOUTS:
        batch = Batch(shapes, key_bytes, tag_bytes, layout)
        batch.check_seal("portable")
        batch.turn_round()
        batch.text[batch.packets["tag"][1]] ^= 1
        batch.packets["fixed"][3] ^= 1
        batch.check_open("portable", np.array([False, True, False, True, False]))


@pytest.mark.nojit
@every_key_size
def test_the_longest_packet(key_bytes):
    Batch([(0, 512, 4112)], key_bytes, 16).check("portable")


BOUNDED = """
import numpy as np
from crypto_backends import Batch
from sevpcie_core.crypto import backends
from sevpcie_core.crypto.batch import SCRATCH_BYTES

for key_bytes in (16, 32):
    for layout in ("apart", "in place"):
        # Without gaps the last packet ends where its array does.
        shapes = [(t % 5, a, t) for a in (0, 1, 16, 20, 33, 512) for t in (0, 1, 7, 8, 9, 15, 16, 17, 129)]
        Batch(shapes, key_bytes, 12, layout, max_gap=0).check("portable")
Batch([(0, 512, 4112)], 32, 16, max_gap=0).check("portable")

# The bounds are really checked: a packet too long for its array is seen.
batch = Batch([(0, 16, 64)], max_gap=0)
batch.packets["text_bytes"] += 1
keys = batch.keys
try:
    backends.load("portable").seal(
        keys.round_keys, keys.powers, keys.rounds, batch.packets, batch.aad, batch.text, batch.out, 12,
        np.zeros(SCRATCH_BYTES, np.uint8),
    )
except IndexError:
    print("bounds hold")
"""


def test_bounds(root, tmp_path):
    environment = {
        **os.environ,
        "NUMBA_BOUNDSCHECK": "1",
        "NUMBA_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": str(root / "tests"),
    }
    done = subprocess.run(
        [sys.executable, "-c", BOUNDED], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == "bounds hold\n", done.stderr
