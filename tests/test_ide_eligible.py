"""Which TLP may ride on which stream: every one of the 256 kinds, against a table written out by name."""

import numpy as np
import pytest

from sevpcie_core._jit import kernel
from sevpcie_core.ide import eligible
from sevpcie_core.ide.eligible import NO_SUB_STREAM, may_ride, sub_stream_of

pytestmark = pytest.mark.nojit

P, NP, CPL = 0, 1, 2
YES, NO, IF_ENABLED = "yes", "no", "if enabled"

# PCIe Base r6.x, tables 2-3 and 6-35, by hand: Fmt, Type, sub-stream, on a Selective stream.
# Fmt: 0 is 3 DW, 1 is 4 DW, 2 is 3 DW with data, 3 is 4 DW with data.
BY_NAME = {
    "MRd32": (0, 0b00000, NP, YES),
    "MRd64": (1, 0b00000, NP, YES),
    "MRdLk32": (0, 0b00001, NP, YES),
    "MRdLk64": (1, 0b00001, NP, YES),
    "MWr32": (2, 0b00000, P, YES),
    "MWr64": (3, 0b00000, P, YES),
    "IORd": (0, 0b00010, NP, NO),
    "IOWr": (2, 0b00010, NP, NO),
    "CfgRd0": (0, 0b00100, NP, NO),
    "CfgWr0": (2, 0b00100, NP, NO),
    "CfgRd1": (0, 0b00101, NP, IF_ENABLED),
    "CfgWr1": (2, 0b00101, NP, IF_ENABLED),
    "DMWr32": (2, 0b11011, NP, YES),
    "DMWr64": (3, 0b11011, NP, YES),
    "Msg to RC": (1, 0b10000, P, YES),
    "Msg by address": (1, 0b10001, P, YES),
    "Msg by ID": (1, 0b10010, P, YES),
    "Msg broadcast": (1, 0b10011, P, NO),
    "Msg local": (1, 0b10100, P, NO),
    "Msg gathered": (1, 0b10101, P, NO),
    "MsgD to RC": (3, 0b10000, P, YES),
    "MsgD by address": (3, 0b10001, P, YES),
    "MsgD by ID": (3, 0b10010, P, YES),
    "MsgD broadcast": (3, 0b10011, P, NO),
    "MsgD local": (3, 0b10100, P, NO),
    "MsgD gathered": (3, 0b10101, P, NO),
    "Cpl": (0, 0b01010, CPL, YES),
    "CplD": (2, 0b01010, CPL, YES),
    "CplLk": (0, 0b01011, CPL, YES),
    "CplDLk": (2, 0b01011, CPL, YES),
    "FetchAdd32": (2, 0b01100, NP, YES),
    "FetchAdd64": (3, 0b01100, NP, YES),
    "Swap32": (2, 0b01101, NP, YES),
    "Swap64": (3, 0b01101, NP, YES),
    "CAS32": (2, 0b01110, NP, YES),
    "CAS64": (3, 0b01110, NP, YES),
}
KIND = {name: fmt << 5 | type_ for name, (fmt, type_, _, _) in BY_NAME.items()}


@pytest.mark.parametrize("name", BY_NAME)
def test_tlp(name: str) -> None:
    _, _, sub_stream, selective = BY_NAME[name]
    kind = KIND[name]
    assert sub_stream_of(kind) == sub_stream
    for enabled in (False, True):
        assert may_ride(kind, True, enabled)
        assert may_ride(kind, False, enabled) == (selective == YES or (selective == IF_ENABLED and enabled))


def test_nothing_else_rides() -> None:
    """Prefixes, reserved codes and reserved routings belong to no sub-stream and ride nowhere."""
    others = set(range(256)) - set(KIND.values())
    assert {0x80, 0x8E, 0x90, 0x91, 0x92, 0x9E, 0x36, 0x37, 0x76, 0x1B, 0x6F, 0xFF} <= others
    for kind in others:
        assert sub_stream_of(kind) == NO_SUB_STREAM == 7
        assert not any(may_ride(kind, link, enabled) for link in (False, True) for enabled in (False, True))


@kernel
def _walk(kinds: np.ndarray, link: bool, enabled: bool, sub_streams: np.ndarray, rides: np.ndarray) -> None:
    for i in range(len(kinds)):
        sub_streams[i] = sub_stream_of(kinds[i])
        rides[i] = may_ride(kinds[i], link, enabled)


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("enabled", [False, True])
def test_from_a_kernel_over_bytes(link: bool, enabled: bool) -> None:
    """The core walks u1 arrays: same answers, and no overflow without JIT."""
    kinds = np.arange(256, dtype=np.uint8)
    sub_streams, rides = np.zeros(256, np.uint8), np.zeros(256, np.bool_)
    _walk(kinds, link, enabled, sub_streams, rides)
    assert sub_streams.tolist() == [sub_stream_of(kind) for kind in range(256)]
    assert rides.tolist() == [may_ride(kind, link, enabled) for kind in range(256)]


def test_table_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        eligible.TABLE[0] = 0
