"""The TLPs of one burst, and the units in which they share a MAC.

Rule: sizes and counts only, no time. A unit never outlives its burst, which is all that a sender can promise
to send within 1 us (PCIe Base r6.x, section 6.33.4); a burst of one TLP, as every doorbell and every
interrupt is, shares nothing, not even with an IDE Sync behind it.
"""

from typing import Final

import numpy as np

from .._jit import inline_kernel
from ..spec import DW_BYTES, HEADER_COMPLETION_BYTES, IDE_MAC_BYTES, IDE_UNIT_DW
from ..tlp.size import (
    enables_bytes,
    ide_bytes,
    lower_address_bytes,
    padded_payload_bytes,
    request_header_bytes,
)
from ..tlp.split import completion_bytes
from .params import CPL_MAX, DATA_LINK, MPS, PCRC, RCB, UNIT_TLPS

# How a transfer is cut into TLPs; each is one sub-stream, and has its number.
AS_WRITE: Final = 0
AS_REQUEST: Final = 1
AS_COMPLETIONS: Final = 2

_UNIT_BYTES: Final = IDE_UNIT_DW * DW_BYTES


@inline_kernel
def next_tlp(link, cut, address, rest):
    """Return what the next TLP carries, its header and its payload in whole DW, bytes.

    address, rest : where it starts, and all that it and those behind it carry or ask for.
    """
    flit = link[DATA_LINK] == 0
    if cut == AS_REQUEST:
        return rest, request_header_bytes(address) + enables_bytes(address, rest, flit), np.int64(0)
    if cut == AS_COMPLETIONS:
        size = completion_bytes(address, rest, link[CPL_MAX], link[RCB])
        header = HEADER_COMPLETION_BYTES + lower_address_bytes(address, flit)
    else:
        size = min(rest, link[MPS] - (address & (link[MPS] - 1)))
        header = request_header_bytes(address) + enables_bytes(address, size, flit)
    return size, header, padded_payload_bytes(address, size)


@inline_kernel
def most_tlps(link, cut, address, size):
    """Return how many TLPs of a sealed burst a unit may have, 1 if the burst is but one TLP."""
    most = link[UNIT_TLPS + cut]
    if most > 1:
        first, _, _ = next_tlp(link, cut, address, size)
        most = 1 if first == size else most
    return most


@inline_kernel
def next_sealed(link, cut, address, rest, most, tlps, payload, sync):
    """Return what the next TLP of a sealed burst is, by the unit that it joins.

    most : of `most_tlps`. tlps, payload : of the open unit so far, payload in whole DW, bytes. sync : an IDE
    Sync follows at once; it joins the unit if that is still open, and ends it.

    Returns
    -------
    As `next_tlp`; whether the unit ends with it, so that it carries the MAC; what IDE adds to it, bytes; and
    what of it fills an engine's input, all but data link and MAC, bytes.
    """
    size, header, padded = next_tlp(link, cut, address, rest)
    payload += padded
    ends = tlps + 1 >= most or payload > _UNIT_BYTES
    if not ends and not sync:
        ends = size == rest
        if not ends:
            _, _, following = next_tlp(link, cut, address + size, rest - size)
            ends = payload + following > _UNIT_BYTES
    ide = ide_bytes(ends, link[PCRC] != 0 and payload > 0)
    return size, header, padded, ends, ide, header + padded + ide - (IDE_MAC_BYTES if ends else 0)
