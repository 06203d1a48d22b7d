"""AES-GCM against `cryptography`: every backend, batches of every kind, whole arrays compared."""

import itertools

import numpy as np
import pytest
from crypto_backends import (
    KEY_BYTES,
    LAYOUTS,
    TAG_BYTES,
    Batch,
    changes,
    every_backend,
    every_key_size,
    every_tag_size,
    table,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from sevpcie_core.crypto import backends
from sevpcie_core.crypto.batch import open_batch, seal_batch
from sevpcie_core.crypto.keys import MAX_AAD_BYTES, MAX_TEXT_BYTES, KeyTable
from sevpcie_core.crypto.order import MOST_CLASSES, arranged
from sevpcie_core.crypto.packet import PACKET

TEXT_EDGES = (0, 1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 255, 256, 257, 4095, 4096, 4112)
AAD_EDGES = (0, 1, 12, 15, 16, 17, 20, 24, 28, 31, 32, 33, 47, 48, 49, 63, 64, 65, 511, 512)
COUNTER_EDGES = (
    0,
    1,
    0xFF,
    0x100,
    (1 << 32) - 1,
    1 << 32,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 2,
    (1 << 64) - 1,
)
FIXED_EDGES = (0, 1, 0x10000000, 0x20000000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
KEYS = 5


def runs(rng: np.random.Generator, count: int, text: int, aad: int) -> list[tuple[int, int, int]]:
    """Return shapes in runs of one key, with equal numbers of blocks: what kernels may take side by side."""
    shapes: list[tuple[int, int, int]] = []
    while len(shapes) < count:
        key = int(rng.integers(KEYS))
        blocks = (int(rng.integers(aad // 16 + 1)), int(rng.integers(text // 16 + 1)))
        exact = rng.random() < 0.5
        for _ in range(int(rng.integers(1, 12))):
            sizes = [max(0, 16 * b - (0 if exact else int(rng.integers(16)))) for b in blocks]
            shapes.append((key, *sizes))
            if rng.random() < 0.03:
                # One that does not fit in.
                shapes.append((int(rng.integers(KEYS)), int(rng.integers(aad)), int(rng.integers(text))))
    return shapes


@every_backend
@every_tag_size
@every_key_size
def test_every_edge_with_every_edge(backend, key_bytes, tag_bytes):
    # Five of each, so that four go side by side and one alone; then each between two others.
    cross = list(itertools.product(AAD_EDGES, TEXT_EDGES))
    shapes = [(i % KEYS, *shape) for i, shape in enumerate(cross) for _ in range(5)]
    shapes += [(i % KEYS, *shape) for i, shape in enumerate(cross)]
    Batch(shapes, key_bytes, tag_bytes, layout="in place", max_gap=3).check(backend)


@every_backend
@every_key_size
@pytest.mark.parametrize("layout", LAYOUTS)
def test_long_batches_of_runs(backend, key_bytes, layout):
    for seed, (text, aad) in enumerate([(80, 64), (320, 64), (1100, 512)]):
        rng = np.random.default_rng([seed, key_bytes])
        shapes = runs(rng, 2500 >> seed, text, aad)
        Batch(shapes, key_bytes, TAG_BYTES[seed % 2], layout, seed).check(backend)


@every_backend
@every_key_size
def test_every_text_size(backend, key_bytes):
    # Alone and in fours; a size that some loop ends wrongly for shows whatever its step.
    shapes = [(0, 20, size) for size in range(1100)]
    shapes += [(1, 16, size) for size in range(600) for _ in range(4)]
    shapes += [(2, 28, size) for size in range(MAX_TEXT_BYTES - 300, MAX_TEXT_BYTES + 1)]
    Batch(shapes, key_bytes, layout="one array").check(backend)


@every_backend
@every_key_size
def test_every_aad_size(backend, key_bytes):
    shapes = [(0, size, 4) for size in range(MAX_AAD_BYTES + 1)]
    shapes += [(1, size, 33) for size in range(160) for _ in range(4)]
    shapes += [(2, size, 0) for size in range(100) for _ in range(5)]
    Batch(shapes, key_bytes).check(backend)


@every_backend
@every_key_size
def test_equal_blocks_and_different_sizes_side_by_side(backend, key_bytes):
    # Packets of one key with equal numbers of blocks: every order of full and part-filled last blocks.
    shapes = [
        (0, aad, 16 * blocks - less)
        for blocks in (1, 2, 4, 5, 8, 16, 17)
        for four in itertools.product((0, 1, 15), repeat=4)
        for less, aad in zip(four, (16, 1, 15, 9), strict=True)
    ]
    Batch(shapes, key_bytes, layout="in place").check(backend)


@every_backend
@every_tag_size
def test_counters_and_fixed_fields(backend, tag_bytes):
    nonces = list(itertools.product(FIXED_EDGES, COUNTER_EDGES))
    for text in (0, 17, 300):
        shapes = [(0, 20, text)] * len(nonces)
        Batch(shapes, 32, tag_bytes, nonces=nonces).check(backend)
        # The same in fours of one nonce's neighbours, and alone.
        shapes = [(i % 2, 20, text) for i in range(len(nonces))]
        Batch(shapes, 16, tag_bytes, nonces=nonces).check(backend)


@every_backend
@pytest.mark.parametrize("count", range(10))
def test_batches_of_few(backend, count):
    for text in (0, 64, 100):
        Batch([(3, 16, text)] * count, 16, max_gap=0).check(backend)


@st.composite
def batches(draw):
    shapes = []
    size = st.one_of(st.sampled_from(TEXT_EDGES), st.integers(0, 300), st.integers(0, MAX_TEXT_BYTES))
    aad = st.one_of(st.sampled_from(AAD_EDGES), st.integers(0, 50), st.integers(0, MAX_AAD_BYTES))
    for _ in range(draw(st.integers(0, 8))):
        shape = (draw(st.integers(0, KEYS - 1)), draw(aad), draw(size))
        shapes += [shape] * draw(st.integers(1, 9))
    edges = st.tuples(
        st.one_of(st.sampled_from(FIXED_EDGES), st.integers(0, (1 << 32) - 1)),
        st.one_of(st.sampled_from(COUNTER_EDGES), st.integers(0, (1 << 64) - 1)),
    )
    first = draw(edges)
    # Counters that follow one another, as on a link; past the last they begin again.
    nonces = [(first[0], (first[1] + i) % (1 << 64)) for i in range(len(shapes))]
    return Batch(
        shapes,
        draw(st.sampled_from(KEY_BYTES)),
        draw(st.sampled_from(TAG_BYTES)),
        draw(st.sampled_from(LAYOUTS)),
        draw(st.integers(0, 1 << 32)),
        draw(st.sampled_from([0, 1, 7, 64])),
        nonces,
        draw(st.booleans()),
    )


@every_backend
@settings(max_examples=120)
@given(batch=batches())
def test_any_batch(backend, batch):
    batch.check(backend)


# --- Order -------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    classes=st.lists(st.integers(0, 12), min_size=0, max_size=400),
    shapes=st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 512), st.integers(0, 4112)), min_size=13, max_size=13
    ),
)
def test_packets_of_a_shape_come_together_in_their_order(classes, shapes):
    packets = np.zeros(len(classes), PACKET)
    packets["key"], packets["aad_bytes"], packets["text_bytes"] = (
        np.array([shapes[c] for c in classes], np.int64).reshape(-1, 3).T
    )
    order = arranged(packets, changes(packets))
    if order is None:
        return
    assert sorted(order.tolist()) == list(range(len(packets)))
    seen = [shapes[classes[i]] for i in order]
    firsts = [shape for i, shape in enumerate(seen) if i == 0 or seen[i - 1] != shape]
    assert len(firsts) == len(set(firsts))
    assert firsts == list(dict.fromkeys(shapes[c] for c in classes))
    for shape in firsts:
        of_shape = [i for i in order.tolist() if shapes[classes[i]] == shape]
        assert of_shape == sorted(of_shape)


def test_an_order_is_made_for_scattered_packets_of_few_shapes():
    packets = np.zeros(2 * MOST_CLASSES + 2, PACKET)
    assert arranged(packets, changes(packets)) is None
    packets["key"][::2] = 1
    assert arranged(packets, changes(packets)).tolist() == [
        *range(0, len(packets), 2),
        *range(1, len(packets), 2),
    ]


@pytest.mark.parametrize("name", ["key", "aad_bytes", "text_bytes"])
def test_as_many_shapes_as_can_be_told_apart(name):
    # Shapes that differ in one field only, each at least twice; many share a slot of the hash table.
    values = np.random.default_rng(1).choice(1 << 30, MOST_CLASSES + 1, replace=False)
    index = np.arange(2 * MOST_CLASSES + 2) % MOST_CLASSES
    packets = np.zeros(len(index), PACKET)
    packets[name] = values[index]
    order = arranged(packets, changes(packets))
    assert sorted(order.tolist()) == list(range(len(packets)))
    assert (np.diff(index[order]) >= 0).all()
    # One too many.
    packets[name][-1] = values[-1]
    assert arranged(packets, changes(packets)) is None


# --- Tampering ---------------------------------------------------------------------------------------------


def damaged(batch: Batch, rng: np.random.Generator, share: float) -> np.ndarray:
    """Flip one bit somewhere in some packets, and return which."""
    fails = rng.random(len(batch.packets)) < share
    for i in np.flatnonzero(fails):
        packet = batch.packets[i]
        places = ["nonce", "tag"]
        places += [name for name in ("aad", "text") if packet[f"{name}_bytes"]]
        match rng.choice(places):
            case "nonce":
                flip_nonce(packet, int(rng.integers(96)))
            case "tag":
                flip(batch.text, packet["tag"], int(rng.integers(8 * batch.tag_bytes)))
            case "aad":
                flip(batch.aad, packet["aad"], int(rng.integers(8 * packet["aad_bytes"])))
            case _:
                flip(batch.text, packet["text"], int(rng.integers(8 * packet["text_bytes"])))
    return fails


def flip(array, start, bit: int) -> None:
    array[int(start) + bit // 8] ^= 1 << bit % 8


def flip_nonce(packet, bit: int) -> None:
    name, bit = ("fixed", bit) if bit < 32 else ("counter", bit - 32)
    packet[name] = int(packet[name]) ^ 1 << bit


def sealed_batch(backend, *args, **named) -> Batch:
    batch = Batch(*args, **named)
    batch.check_seal(backend)
    batch.turn_round()
    return batch


@every_backend
@every_tag_size
@every_key_size
@pytest.mark.parametrize("layout", ["apart", "in place"])
def test_every_bit_counts(backend, key_bytes, tag_bytes, layout):
    aad, text = 21, 37
    bits = 96 + 8 * (aad + text + tag_bytes)
    rng = np.random.default_rng(7)
    # Each bit in a packet of its own, with whole ones at random between them: every place in a group of four.
    plan = rng.permutation(np.concatenate([np.arange(bits), np.full(bits, -1)]))
    batch = sealed_batch(backend, [(0, aad, text)] * len(plan), key_bytes, tag_bytes, layout)
    for packet, bit in zip(batch.packets, plan.tolist(), strict=True):
        if bit < 0:
            continue
        if bit < 96:
            flip_nonce(packet, bit)
        elif bit < 96 + 8 * aad:
            flip(batch.aad, packet["aad"], bit - 96)
        elif bit < 96 + 8 * (aad + text):
            flip(batch.text, packet["text"], bit - 96 - 8 * aad)
        else:
            flip(batch.text, packet["tag"], bit - 96 - 8 * (aad + text))
    batch.check_open(backend, plan >= 0)


@every_backend
@every_key_size
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_fails_is_wiped_and_nothing_else(backend, key_bytes, layout):
    for seed, (text, aad) in enumerate([(80, 64), (600, 130), (MAX_TEXT_BYTES, 512)]):
        rng = np.random.default_rng([seed, key_bytes])
        tag_bytes = TAG_BYTES[seed % 2]
        batch = sealed_batch(backend, runs(rng, 400 >> seed, text, aad), key_bytes, tag_bytes, layout, seed)
        batch.check_open(backend, damaged(batch, rng, 0.3))


@every_backend
def test_a_whole_batch_may_fail(backend):
    batch = sealed_batch(backend, [(i % 3 // 2, 20, 70) for i in range(50)])
    batch.packets["counter"] += np.uint64(1)
    batch.check_open(backend, np.ones(50, bool))


@every_backend
def test_another_key_fails(backend):
    batch = sealed_batch(backend, [(1, 20, 70)] * 9)
    batch.packets["key"][[0, 4, 8]] = 2
    fails = np.zeros(9, bool)
    fails[[0, 4, 8]] = True
    batch.check_open(backend, fails)


@every_backend
@pytest.mark.parametrize("sizes", [(0, 16), (16, 0), (16, 16), (1, 2), (64, 64)])
def test_bytes_do_not_move_between_aad_and_text(backend, sizes):
    # The lengths are hashed too: a boundary that moves shows.
    aad, text = sizes
    batch = sealed_batch(backend, [(0, aad, text)] * 8, 16, 12, "in place", max_gap=0)
    for by in (1, -1):
        moved = batch.packets.copy()
        moved["aad_bytes"] += by
        moved["text_bytes"] -= by
        moved["text"] += by
        moved["out"] += by
        if (moved["aad_bytes"] < 0).any() or (moved["text_bytes"] < 0).any():
            continue
        data = batch.text.copy()
        assert not open_batch(batch.keys, moved, data, data, data, 12, backends.load(backend)).any()


@every_backend
def test_padding_counts(backend):
    # AAD and ciphertext are padded with zeros: one zero more hashes the same blocks, but for the lengths.
    aad_bytes, text_bytes = 13, 29
    batch = sealed_batch(backend, [(0, aad_bytes, text_bytes)] * 8, 32, 16, tag_first=True, max_gap=1, seed=3)
    for name in ("aad", "text"):
        array = getattr(batch, name).copy()
        longer = batch.packets.copy()
        longer[f"{name}_bytes"] += 1
        other = {"aad": batch.aad, "text": batch.text, name: np.concatenate([array, np.zeros(9, np.uint8)])}
        # Somewhere with room behind it: the last packet.
        last = longer[-1:]
        other[name][int(last[name][0]) + {"aad": aad_bytes, "text": text_bytes}[name]] = 0
        out = np.zeros(len(batch.out) + 1, np.uint8)
        assert not open_batch(
            batch.keys, last, other["aad"], other["text"], out, 16, backends.load(backend)
        ).any()
        last[f"{name}_bytes"] -= 1
        assert open_batch(
            batch.keys, last, other["aad"], other["text"], out, 16, backends.load(backend)
        ).all()


def test_backends_agree_on_key_tables_of_one_key():
    # A table's rows are independent: one key of a table of five seals as it does alone.
    _, secrets = table(16)
    for name in backends.available():
        batch = Batch([(4, 20, 100)] * 6)
        alone = batch.packets.copy()
        alone["key"] = 0
        found, expected = batch.out.copy(), batch.out.copy()
        one = KeyTable([secrets[4]])
        seal_batch(one, alone, batch.aad, batch.text, found, 12, backends.load(name))
        seal_batch(batch.keys, batch.packets, batch.aad, batch.text, expected, 12, backends.load(name))
        assert (found == expected).all()
