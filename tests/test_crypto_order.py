"""The order in which batches are taken: a stable sort by class, and invisible from outside."""

import numpy as np
import pytest
from crypto_backends import changes
from hypothesis import given
from hypothesis import strategies as st

from sevpcie_core.crypto import backends, order
from sevpcie_core.crypto.batch import open_batch, seal_batch
from sevpcie_core.crypto.keys import KeyTable
from sevpcie_core.crypto.packet import PACKET

pytestmark = pytest.mark.nojit

classes = st.tuples(st.integers(0, 3), st.sampled_from([0, 16, 20]), st.sampled_from([0, 4, 64]))


def batch(kinds):
    packets = np.zeros(len(kinds), PACKET)
    packets["counter"] = 1 + np.arange(len(kinds))
    for name, column in zip(("key", "aad_bytes", "text_bytes"), zip(*kinds, strict=True), strict=True):
        packets[name] = column
    return packets


@given(st.lists(classes, min_size=16, max_size=120))
def test_a_stable_sort_by_class(kinds):
    packets = batch(kinds)
    found = order.arranged(packets, changes(packets))
    if found is None:
        assert 8 * changes(packets) <= len(kinds)
        return
    ranks = {kind: rank for rank, kind in enumerate(dict.fromkeys(kinds))}
    assert found.tolist() == sorted(range(len(kinds)), key=lambda i: ranks[kinds[i]])
    assert order.taken(packets, found).tolist() == packets[found].tolist()


def test_left_alone():
    for reason, kinds in (
        ("all alike", [(0, 16, 64)] * 4000),
        ("few", [(i % 2, 16, 64) for i in range(15)]),
        ("too various", [(0, 16, i) for i in range(order.MOST_CLASSES + 1)]),
    ):
        packets = batch(kinds)
        assert order.arranged(packets, changes(packets)) is None, reason
    packets = batch([(0, 16, i) for i in range(order.MOST_CLASSES)])
    assert order.arranged(packets, changes(packets)) is not None


def test_the_caller_does_not_see_it():
    """Six keys and three sizes by turns: same bytes as one packet at a time, and failures at their places."""
    if not backends.load(backends.available()[-1]).seal_alike:
        pytest.skip("no backend here takes packets side by side")
    keys = KeyTable([bytes([k]) * 16 for k in range(6)])
    packets = batch([(i % 6, 20, 64 * (i % 3)) for i in range(200)])
    packets["aad"] = np.arange(200) * 300
    packets["text"] = packets["out"] = packets["aad"] + 20
    packets["tag"] = packets["text"] + packets["text_bytes"]
    data = np.random.default_rng(7).integers(0, 256, 60_000, dtype=np.uint8)
    assert order.arranged(packets, changes(packets)) is not None
    one_by_one, together = data.copy(), data.copy()
    for i in range(200):
        seal_batch(keys, packets[i : i + 1], one_by_one, one_by_one, one_by_one)
    seal_batch(keys, packets, together, together, together)
    assert np.array_equal(one_by_one, together)
    bad = np.arange(0, 200, 7)
    together[packets["tag"][bad]] ^= 1
    assert np.flatnonzero(~open_batch(keys, packets, together, together, together)).tolist() == bad.tolist()
