"""Splitting: against a version that looks at every byte, and by the laws of the standard."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import split_naive

from sevpcie_core import spec
from sevpcie_core.tlp.size import padded_payload_bytes
from sevpcie_core.tlp.split import completion_bytes, piece, pieces

pytestmark = pytest.mark.nojit

near_four_gib = st.integers((1 << 32) - 9000, (1 << 32) + 9000)
addresses = st.one_of(st.integers(0, 1 << 14), near_four_gib, st.integers(0, 1 << 60))
sizes = st.one_of(st.integers(1, 600), st.integers(1, 9000))


def package_cut(address: int, size: int, boundary: int) -> list[tuple[int, int]]:
    """Return all pieces of a cut as the package makes them."""
    cut = [piece(address, size, boundary, k) for k in range(pieces(address, size, boundary))]
    return [(int(a), int(n)) for a, n in cut]


def package_completions(address: int, size: int, rcb: int, limit: int) -> list[tuple[int, int]]:
    """Return the completions of one request as the package makes them."""
    found = []
    at, rest = address, size
    while rest > 0:
        part = int(completion_bytes(at, rest, limit, rcb))
        assert part > 0
        found.append((at, part))
        at += part
        rest -= part
    return found


@pytest.mark.parametrize(
    ("address", "size", "boundary", "expected"),
    [
        (0, 256, 256, [(0, 256)]),
        (0, 257, 256, [(0, 256), (256, 1)]),
        (255, 2, 256, [(255, 1), (256, 1)]),
        (0xFFF, 2, 4096, [(0xFFF, 1), (0x1000, 1)]),
        (64, 512, 512, [(64, 448), (512, 64)]),
    ],
)
def test_cuts_by_hand(address: int, size: int, boundary: int, expected: list[tuple[int, int]]) -> None:
    assert package_cut(address, size, boundary) == expected


@pytest.mark.parametrize(
    ("address", "size", "rcb", "limit", "expected"),
    [
        (0, 512, 64, 256, [(0, 256), (256, 256)]),
        (0, 512, 64, 64, [(64 * k, 64) for k in range(8)]),
        (16, 512, 64, 256, [(16, 240), (256, 256), (512, 16)]),
        (100, 300, 128, 128, [(100, 28), (128, 128), (256, 128), (384, 16)]),
        (60, 8, 64, 128, [(60, 8)]),  # crosses a boundary and still fits one completion
        (100, 300, 64, 192, [(100, 156), (256, 144)]),
        # 256 bytes from an odd address touch 65 double words, one more than MPS 256 allows.
        (1, 256, 64, 256, [(1, 255), (256, 1)]),
        (3, 253, 64, 256, [(3, 253)]),
    ],
)
def test_completions_by_hand(
    address: int, size: int, rcb: int, limit: int, expected: list[tuple[int, int]]
) -> None:
    assert package_completions(address, size, rcb, limit) == expected
    assert split_naive.completions(address, size, rcb, limit) == expected


@settings(max_examples=200, deadline=None, derandomize=True)
@given(address=addresses, size=sizes, boundary=st.sampled_from(spec.PAYLOAD_SIZES))
def test_writes_and_read_requests_are_cut_as_byte_by_byte(address: int, size: int, boundary: int) -> None:
    cut = package_cut(address, size, boundary)
    assert cut == split_naive.cut_at_multiples(address, size, boundary)
    # The laws, whatever the oracle says: all bytes once and in order, no piece too long or across 4 KiB.
    assert cut[0][0] == address
    assert sum(n for _, n in cut) == size
    for (a, n), (b, _) in itertools.pairwise(cut):
        assert a + n == b
    for a, n in cut:
        assert 0 < n <= boundary
        assert padded_payload_bytes(a, n) <= boundary
        assert a // spec.REQUEST_BOUNDARY == (a + n - 1) // spec.REQUEST_BOUNDARY


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    address=addresses,
    size=st.integers(1, 4096),
    rcb=st.sampled_from(spec.READ_COMPLETION_BOUNDARIES),
    multiple=st.integers(1, 40),
    aligned=st.booleans(),
)
def test_completions_keep_the_rules(address: int, size: int, rcb: int, multiple: int, aligned: bool) -> None:
    if aligned:
        address -= address % 64
    limit = min(rcb * multiple, 4096)
    cut = package_completions(address, size, rcb, limit)
    assert cut == split_naive.completions(address, size, rcb, limit)
    assert cut[0][0] == address
    assert sum(n for _, n in cut) == size
    for i, (a, n) in enumerate(cut):
        # PCIe Base r6.x, section 2.2.2: Length counts whole double words and never exceeds the limit.
        assert padded_payload_bytes(a, n) <= limit
        # PCIe Base r6.x, section 2.3.1.1: all but the first start, all but the last end, on the boundary.
        assert i == 0 or a % rcb == 0
        assert i == len(cut) - 1 or (a + n) % rcb == 0
    if address // rcb == (address + size - 1) // rcb:
        assert len(cut) == 1, "a request inside one boundary gets one completion"
