"""Wire bytes of TLPs: against figures worked out by hand, and against a layout counted byte by byte."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import wire_naive
from oracles.wire_naive import CPLD, FOUR_GIB, MRD, MWR

from sevpcie_core import spec
from sevpcie_core.tlp.size import (
    enables_bytes,
    ide_bytes,
    lower_address_bytes,
    padded_payload_bytes,
    request_header_bytes,
    wire_bytes,
)

HIGH = 0x1_2345_6000
LOW = 0x8765_4000

pytestmark = pytest.mark.nojit


def package_bytes(kind: str, address: int, size: int, *, flit: bool, protected: bool, pcrc: bool) -> int:
    """Return what the package says about a TLP."""
    header = spec.HEADER_COMPLETION_BYTES + int(lower_address_bytes(address, flit))
    if kind != CPLD:
        header = int(request_header_bytes(address)) + int(enables_bytes(address, size, flit))
    padded = 0 if kind == MRD else int(padded_payload_bytes(address, size))
    data_link = spec.DATA_LINK_FLIT_BYTES if flit else spec.DATA_LINK_BYTES
    return int(wire_bytes(header, padded, data_link, protected, pcrc))


# By hand: 8 B of framing, sequence number and LCRC unless in flit mode; header 12 or 16 B; payload in whole
# double words; protected: prefix 4 B and MAC 12 B, and PCRC 4 B behind a payload.
BY_HAND = [
    # kind, address, bytes, flit, pcrc, plain, protected
    (MRD, HIGH, 512, False, False, 24, 40),
    (MRD, LOW, 512, False, False, 20, 36),
    (MRD, HIGH, 512, False, True, 24, 40),  # no payload, no PCRC
    (MRD, HIGH, 512, True, False, 16, 32),
    (MWR, HIGH, 256, False, False, 280, 296),
    (MWR, HIGH, 256, False, True, 280, 300),
    (MWR, HIGH, 256, True, False, 272, 288),
    (MWR, HIGH, 256, True, True, 272, 292),
    (MWR, LOW, 4, False, False, 24, 40),  # doorbell
    (MWR, 0xFEE0_0000, 4, False, False, 24, 40),  # message-signalled interrupt
    (MWR, HIGH + 1, 4, False, False, 32, 48),  # touches two double words
    (MWR, HIGH + 3, 1, False, False, 28, 44),
    (MWR, HIGH + 3, 2, False, False, 32, 48),
    (MWR, FOUR_GIB - 4, 4, False, False, 24, 40),  # the last double word below 4 GiB
    (MWR, FOUR_GIB, 4, False, False, 28, 44),
    (MWR, HIGH, 4096, False, False, 4120, 4136),
    (MWR, HIGH + 3, 2, True, False, 28, 44),  # byte enables take the OHC-A1 word
    (MRD, HIGH + 1, 4, True, False, 20, 36),
    (CPLD, HIGH + 2, 61, True, False, 80, 96),  # the low bits of Lower Address take the OHC-A5 word
    (CPLD, HIGH, 61, True, False, 76, 92),
    (CPLD, HIGH, 64, False, False, 84, 100),
    (CPLD, HIGH, 64, False, True, 84, 104),
    (CPLD, HIGH, 64, True, False, 76, 92),
    (CPLD, HIGH, 256, False, False, 276, 292),
    (CPLD, HIGH + 2, 61, False, False, 84, 100),  # bytes 2..62 of sixteen double words
]


@pytest.mark.parametrize(("kind", "address", "size", "flit", "pcrc", "plain", "protected"), BY_HAND)
def test_wire_bytes_by_hand(
    kind: str, address: int, size: int, flit: bool, pcrc: bool, plain: int, protected: int
) -> None:
    assert package_bytes(kind, address, size, flit=flit, protected=False, pcrc=pcrc) == plain
    assert package_bytes(kind, address, size, flit=flit, protected=True, pcrc=pcrc) == protected
    for sealed, expected in ((False, plain), (True, protected)):
        labels = wire_naive.lay_out(kind, address, size, flit=flit, protected=sealed, pcrc=pcrc)
        assert len(labels) == expected


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from([MRD, MWR, CPLD]),
    address=st.one_of(
        st.integers(0, 1 << 20), st.integers(FOUR_GIB - 64, FOUR_GIB + 64), st.integers(0, 1 << 62)
    ),
    size=st.one_of(st.integers(1, 64), st.integers(1, 4096)),
    flit=st.booleans(),
    protected=st.booleans(),
    pcrc=st.booleans(),
)
def test_wire_bytes_equal_a_layout_counted_by_label(
    kind: str, address: int, size: int, flit: bool, protected: bool, pcrc: bool
) -> None:
    labels = wire_naive.lay_out(kind, address, size, flit=flit, protected=protected, pcrc=pcrc)
    assert package_bytes(kind, address, size, flit=flit, protected=protected, pcrc=pcrc) == len(labels)
    counted = wire_naive.parts(labels)
    padded = 0 if kind == MRD else int(padded_payload_bytes(address, size))
    assert padded == counted["payload"] + counted["pad"]
    assert (int(ide_bytes(True, pcrc and padded > 0)) if protected else 0) == counted["ide"]
    assert len(labels) % 4 == 0, "a TLP is a whole number of double words"


def test_goodput_of_first_order() -> None:
    # MWr64 with full payloads, plain / IDE / IDE and PCRC, to three places, as published models have it.
    expected = {
        128: (0.842, 0.762, 0.744),
        256: (0.914, 0.865, 0.853),
        512: (0.955, 0.927, 0.921),
        1024: (0.977, 0.962, 0.959),
        4096: (0.994, 0.990, 0.989),
    }
    for mps, shares in expected.items():
        for (protected, pcrc), share in zip(
            ((False, False), (True, False), (True, True)), shares, strict=True
        ):
            wire = package_bytes(MWR, HIGH, mps, flit=False, protected=protected, pcrc=pcrc)
            assert mps / wire == pytest.approx(share, abs=0.0006)
