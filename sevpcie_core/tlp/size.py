"""Wire bytes of a TLP: the one function that the simulator and the sealed stream share.

Rule: bytes between two ports of a link, from framing to LCRC; symbols, skips and DLLPs are the link's.
"""

from .. import spec
from .._jit import kernel

_HEADER_3DW = spec.HEADER_3DW_BYTES
_HEADER_4DW = spec.HEADER_4DW_BYTES
_ADDRESS_4DW = spec.ADDRESS_4DW
_PREFIX = spec.IDE_PREFIX_BYTES
_MAC = spec.IDE_MAC_BYTES
_PCRC = spec.IDE_PCRC_BYTES


@kernel
def request_header_bytes(address: int) -> int:
    """Return the header bytes of a memory request: 12 below 4 GiB, else 16."""
    return _HEADER_4DW if address >= _ADDRESS_4DW else _HEADER_3DW


@kernel
def enables_bytes(address: int, size: int, flit: bool) -> int:
    """Return the bytes of OHC-A1, which holds the byte enables of a memory request in flit mode: 4, or 0.

    A flit-mode request without it has all bytes enabled, so it is there where an end is not on a DW boundary
    (PCIe Base r6.x, section 2.2.1.2; likely).
    """
    return 4 if flit and ((address | (address + size)) & 3) != 0 else 0


@kernel
def lower_address_bytes(address: int, flit: bool) -> int:
    """Return the bytes of OHC-A5, which holds the low bits of Lower Address in flit mode: 4, or 0.

    The header has Lower Address from bit 2 on, so the word is there where a completion starts inside a DW
    (PCIe Base r6.x, section 2.2.9; likely).
    """
    return 4 if flit and address & 3 != 0 else 0


@kernel
def padded_payload_bytes(address: int, payload_bytes: int) -> int:
    """Return the payload in whole DW, as byte enables make it: both ends round out to DW boundaries."""
    if payload_bytes == 0:
        return 0
    return (((address & 3) + payload_bytes + 3) >> 2) << 2


@kernel
def ide_bytes(closes: bool, pcrc: bool) -> int:
    """Return what IDE adds to one TLP: the prefix (flit mode: OHC-C), and what a unit's last TLP carries.

    Parameters
    ----------
    closes : the TLP is the last of its unit, hence carries the MAC; without aggregation each one is.
    pcrc : the unit has content and the stream carries PCRC.
    """
    return _PREFIX + (_MAC + (_PCRC if pcrc else 0) if closes else 0)


@kernel
def wire_bytes(
    header_bytes: int, padded_bytes: int, data_link_bytes: int, protected: bool, pcrc: bool
) -> int:
    """Return the bytes of one TLP on the wire.

    Parameters
    ----------
    header_bytes : 12 or 16; in flit mode with the OHC words other than OHC-C.
    padded_bytes : payload in whole DW, bytes.
    data_link_bytes : framing, sequence number and LCRC: 8, or 0 in flit mode.
    protected : sealed with a MAC of its own.
    pcrc : the stream carries PCRC.
    """
    sealed = ide_bytes(True, pcrc and padded_bytes > 0) if protected else 0
    return data_link_bytes + header_bytes + padded_bytes + sealed
