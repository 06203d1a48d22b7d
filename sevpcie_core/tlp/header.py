"""Headers outside flit mode: bytes to fields and back.

Rule: a header is decoded completely or not at all; every bit ends up in a field or must be 0.

PCIe Base r6.x, section 2.2: DW 0 is Fmt[31:29] Type[28:24] T9[23] TC[22:20] T8[19] Attr2[18] reserved[17]
TH[16] TD[15] EP[14] Attr[13:12] AT[11:10] Length[9:0]. The rest by family:

    requests     Requester ID[31:16] Tag[15:8] Last DW BE[7:4] First DW BE[3:0]; address, its low two bits PH
    config       the same, then Bus/Device/Function[31:16] reserved[15:12] register[11:2] reserved[1:0]
    messages     Requester ID[31:16] Tag[15:8] code[7:0]; two DW as the message defines them
    completions  Completer ID[31:16] Status[15:13] BCM[12] Byte Count[11:0];
                 Requester ID[31:16] Tag[15:8] reserved[7] Lower Address[6:0]
"""

from typing import Final

import numpy as np

from .._jit import inline_kernel, kernel
from .kinds import (
    ATOMIC,
    COMPLETION,
    CONFIG,
    DATA,
    FAMILY_MASK,
    FOUR_DW,
    IO,
    LOCAL_PREFIX,
    MEMORY,
    MESSAGE,
    NONE,
    TRAITS,
)
from .rules import Rule

_KEPT: Final = int(Rule.KEPT)
_KIND: Final = int(Rule.KIND)
_RESERVED: Final = int(Rule.RESERVED)
_TAG_RANGE: Final = int(Rule.TAG_RANGE)
_FIELD_RANGE: Final = int(Rule.FIELD_RANGE)
_NO_PLACE: Final = int(Rule.NO_PLACE)
_MAX_DW: Final = 1024
# PCIe Base r6.x, section 2.2.8 (flit mode): bits of DW 1 that a message defines.
FLIT_MESSAGE_TAG_BITS: Final = 7
_MAX_COUNT: Final = 4096
_32: Final = np.uint64(32)


@kernel
def header_bytes(kind):
    """Return the bytes of a header outside flit mode by its kind: 12 or 16."""
    return 16 if kind & FOUR_DW != 0 else 12


@inline_kernel
def word(data, at):
    """Return four bytes as a big-endian number."""
    high = np.int64(data[at]) << 24 | np.int64(data[at + 1]) << 16
    return high | np.int64(data[at + 2]) << 8 | np.int64(data[at + 3])


@inline_kernel
def put_word(data, at, value):
    """Write a number as four big-endian bytes. Modified in place: data."""
    data[at] = (value >> 24) & 0xFF
    data[at + 1] = (value >> 16) & 0xFF
    data[at + 2] = (value >> 8) & 0xFF
    data[at + 3] = value & 0xFF


@inline_kernel
def decode(data, at, tlps, i):
    """Read the header at data[at:], all of which is there, into row i. Return the broken rule, 0 for none.

    Modified in place: the fields of tlps[i] that the header has; the row is zeros before.
    """
    tlp = tlps[i]
    dw0 = word(data, at)
    dw1 = word(data, at + 4)
    dw2 = word(data, at + 8)
    kind = dw0 >> 24
    traits = TRAITS[kind]
    family = traits & FAMILY_MASK
    length = dw0 & 0x3FF
    tlp["kind"] = kind
    tlp["tc"] = dw0 >> 20 & 7
    tlp["attr"] = (dw0 >> 18 & 1) << 2 | dw0 >> 12 & 3
    tlp["th"] = dw0 >> 16 & 1
    tlp["td"] = dw0 >> 15 & 1
    tlp["ep"] = dw0 >> 14 & 1
    tlp["at"] = dw0 >> 10 & 3
    # 0 stands for 1024 where the length counts something.
    counted = traits & DATA != 0 or (family != COMPLETION and family != MESSAGE)
    tlp["length"] = _MAX_DW if counted and length == 0 else length
    tag = (dw0 >> 23 & 1) << 9 | (dw0 >> 19 & 1) << 8
    # Likely: the bit was LN, and is reserved since r6.0.
    reserved = dw0 >> 17 & 1
    if family == COMPLETION:
        tlp["completer"] = dw1 >> 16
        tlp["status"] = dw1 >> 13 & 7
        tlp["bcm"] = dw1 >> 12 & 1
        count = dw1 & 0xFFF
        tlp["byte_count"] = _MAX_COUNT if count == 0 else count
        tlp["requester"] = dw2 >> 16
        tlp["tag"] = tag | dw2 >> 8 & 0xFF
        tlp["lower_address"] = dw2 & 0x7F
        reserved |= dw2 >> 7 & 1
        return _RESERVED if reserved != 0 else _KEPT
    tlp["requester"] = dw1 >> 16
    tlp["tag"] = tag | dw1 >> 8 & 0xFF
    if family == MESSAGE:
        tlp["code"] = dw1 & 0xFF
        tlp["dw2"] = dw2
        tlp["dw3"] = word(data, at + 12)
        return _RESERVED if reserved != 0 else _KEPT
    tlp["last_be"] = dw1 >> 4 & 0xF
    tlp["first_be"] = dw1 & 0xF
    if family == CONFIG:
        tlp["destination"] = dw2 >> 16
        tlp["register"] = dw2 >> 2 & 0x3FF
        reserved |= dw2 & 0xF003
    elif traits & FOUR_DW != 0:
        dw3 = word(data, at + 12)
        tlp["address"] = np.uint64(dw2) << np.uint64(32) | np.uint64(dw3 & 0xFFFFFFFC)
        tlp["ph"] = dw3 & 3
    else:
        tlp["address"] = np.uint64(dw2 & 0xFFFFFFFC)
        tlp["ph"] = dw2 & 3
        if family == IO:
            reserved |= dw2 & 3
    return _RESERVED if reserved != 0 else _KEPT


@inline_kernel
def fits(tlps, i, tag_bits):
    """Return the broken rule, 0 for none: each field of row i fits into its bits."""
    tlp = tlps[i]
    if tlp["tag"] >> tag_bits != 0:
        return _TAG_RANGE
    narrow = tlp["tc"] >> 3 | tlp["attr"] >> 3 | tlp["at"] >> 2 | tlp["th"] >> 1 | tlp["td"] >> 1
    narrow |= tlp["ep"] >> 1 | tlp["ph"] >> 2 | tlp["first_be"] >> 4 | tlp["last_be"] >> 4
    narrow |= tlp["status"] >> 3 | tlp["bcm"] >> 1 | tlp["lower_address"] >> 7 | tlp["ohc"] >> 5
    narrow |= tlp["ts"] >> 3
    wide = (
        tlp["length"] > _MAX_DW or tlp["register"] >> 10 != 0 or tlp["address"] & np.uint64(3) != np.uint64(0)
    )
    return _FIELD_RANGE if narrow != 0 or wide else _KEPT


@inline_kernel
def placed(tlps, i, flit):
    """Return the broken rule, 0 for none: what row i holds, its kind has a place for."""
    tlp = tlps[i]
    family = TRAITS[tlp["kind"]] & FAMILY_MASK
    stray = tlp["ecrc"] if tlp["td"] == 0 else np.uint32(0)
    if family != COMPLETION:
        stray |= tlp["completer"] | tlp["byte_count"]
        stray |= tlp["status"] | tlp["bcm"] | tlp["lower_address"]
    elif flit:
        stray |= tlp["bcm"]
    if family != MESSAGE:
        stray |= tlp["dw2"] | tlp["dw3"] | tlp["code"]
    elif flit:
        stray |= tlp["at"] | tlp["tag"] >> FLIT_MESSAGE_TAG_BITS
    if family != CONFIG:
        stray |= tlp["destination"] | tlp["register"]
    if family in (COMPLETION, MESSAGE):
        stray |= tlp["first_be"] | tlp["last_be"]
    if family not in (MEMORY, ATOMIC):
        stray |= tlp["ph"]
        # I/O addresses have 32 bits.
        if family == IO:
            stray |= tlp["address"] >> _32
        elif tlp["address"] != np.uint64(0):
            return _NO_PLACE
    return _NO_PLACE if stray != 0 else _KEPT


@inline_kernel
def encode(tlps, i, data, at):
    """Write the header of row i at data[at:]; its fields fit. Modified in place: data."""
    tlp = tlps[i]
    kind = np.int64(tlp["kind"])
    traits = TRAITS[kind]
    family = traits & FAMILY_MASK
    tag = np.int64(tlp["tag"])
    attr = np.int64(tlp["attr"])
    dw0 = kind << 24 | (tag >> 9 & 1) << 23 | np.int64(tlp["tc"]) << 20 | (tag >> 8 & 1) << 19
    dw0 |= (attr >> 2) << 18 | np.int64(tlp["th"]) << 16 | np.int64(tlp["td"]) << 15
    dw0 |= np.int64(tlp["ep"]) << 14 | (attr & 3) << 12 | np.int64(tlp["at"]) << 10
    put_word(data, at, dw0 | np.int64(tlp["length"]) & 0x3FF)
    requester = np.int64(tlp["requester"]) << 16
    low_tag = (tag & 0xFF) << 8
    if family == COMPLETION:
        dw1 = np.int64(tlp["completer"]) << 16 | np.int64(tlp["status"]) << 13
        put_word(data, at + 4, dw1 | np.int64(tlp["bcm"]) << 12 | np.int64(tlp["byte_count"]) & 0xFFF)
        put_word(data, at + 8, requester | low_tag | np.int64(tlp["lower_address"]))
        return
    if family == MESSAGE:
        put_word(data, at + 4, requester | low_tag | np.int64(tlp["code"]))
        put_word(data, at + 8, np.int64(tlp["dw2"]))
        put_word(data, at + 12, np.int64(tlp["dw3"]))
        return
    put_word(data, at + 4, requester | low_tag | np.int64(tlp["last_be"]) << 4 | np.int64(tlp["first_be"]))
    if family == CONFIG:
        put_word(data, at + 8, np.int64(tlp["destination"]) << 16 | np.int64(tlp["register"]) << 2)
        return
    low = np.int64(tlp["address"] & np.uint64(0xFFFFFFFC)) | np.int64(tlp["ph"])
    if traits & FOUR_DW != 0:
        put_word(data, at + 8, np.int64(tlp["address"] >> np.uint64(32)))
        put_word(data, at + 12, low)
    else:
        put_word(data, at + 8, low)


@inline_kernel
def is_request_or_completion(kind):
    """Return whether a kind is a TLP: neither a prefix nor unknown."""
    family = TRAITS[kind] & FAMILY_MASK
    return family != NONE and family < LOCAL_PREFIX
