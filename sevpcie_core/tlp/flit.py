"""Headers in flit mode (Gen6 and later), as far as they are public.

Rule: what public text gives is sure; everything else is marked here and nowhere else.

Sure: DW 0 is Type[31:24] TC[23:21] OHC[20:16] TS[15:13] Attr[12:10] Length[9:0]. OHC bit 0 says that word A follows
the header, bit 1 word B, bit 2 word C (the IDE word), bits 4:3 that E of 1, 2 or 4 DW do; A, B, C, E in that order.
OHC-A1 has Last DW BE in bits 7:4 and First DW BE in bits 3:0. TS says what follows the payload: 001b ECRC, 101b MAC,
110b PCRC and MAC. Tags have 14 bits.

Likely: Type is the non-flit byte 0, but MRd32 is 03h and 00h is a NOP, which is no TLP here. A request without word A
has all bytes enabled. DW 1 of a request is Requester ID[31:16] EP[15] reserved[14] Tag[13:0], and AT stands in the
low two bits of the address.

Unsure: I/O and configuration requests have their byte enables in word A as well. A message has its code in DW 1[7:0] and
no tag. A completion is Completer ID[31:16] EP[15] reserved[14] Tag[13:0], then Requester ID[31:16] Byte
Count[15:4] Lower Address[5:2]; word A, where it is there, has Status in bits 2:0, Lower Address[1:0] in 4:3 and [6] in
bit 5.
"""

from typing import Final

import numpy as np

from .. import spec
from .._jit import inline_kernel, kernel
from .header import put_word, word
from .kinds import (
    COMPLETION,
    CONFIG,
    DATA,
    FAMILY_MASK,
    FOUR_DW,
    IO,
    LOCAL_PREFIX,
    MEMORY,
    MESSAGE,
    MRD32,
    NONE,
    TRAITS,
)
from .rules import Rule

# Likely: PCIe Base r6.x, section 2.2.1.2, Type of MRd32 in flit mode, and of the NOP.
MRD32_TYPE: Final = 0x03
NOP_TYPE: Final = 0x00

# PCIe Base r6.x, section 2.2.1.2: bits of OHC.
OHC_A: Final = 1
OHC_B: Final = 2
OHC_C: Final = 4
_KEPT: Final = int(Rule.KEPT)
_KIND: Final = int(Rule.KIND)
_RESERVED: Final = int(Rule.RESERVED)
_OHC: Final = int(Rule.OHC)
_TS: Final = int(Rule.TS)
_ENABLES: Final = 0xFF
_COMPLETION_WORD: Final = 0x3F


@kernel
def kind_of(type_):
    """Return the kind of a flit-mode Type; 255, which is none, for the NOP and for 00h's stand-in."""
    if type_ == MRD32_TYPE:
        return MRD32
    return 0xFF if type_ == NOP_TYPE else type_


@kernel
def ohc_words(ohc):
    """Return how many DW of OHC follow the header."""
    e = ohc >> 3 & 3
    return (ohc & 1) + (ohc >> 1 & 1) + (ohc >> 2 & 1) + (4 if e == 3 else e)


@kernel
def trailer_words(ts):
    """Return how many DW follow the payload; -1 for a TS that is not used."""
    if ts == spec.TS_NONE:
        return 0
    if ts == spec.TS_ECRC:
        return 1
    if ts == spec.TS_MAC:
        return 3
    return 4 if ts == spec.TS_PCRC_MAC else -1


@inline_kernel
def _default_enables(length):
    return 0x0F if length == 1 else 0xFF


@inline_kernel
def decode_flit(data, at, size, tlps, i):
    """Read the header at data[at:], `size` bytes without OHC, all of which and the OHC are there, into row i.

    Return the broken rule, 0 for none. Modified in place: tlps[i], zeros before.
    """
    tlp = tlps[i]
    dw0 = word(data, at)
    dw1 = word(data, at + 4)
    dw2 = word(data, at + 8)
    kind = kind_of(dw0 >> 24)
    traits = TRAITS[kind]
    family = traits & FAMILY_MASK
    ohc = dw0 >> 16 & 0x1F
    ts = dw0 >> 13 & 7
    length = dw0 & 0x3FF
    tlp["kind"] = kind
    tlp["tc"] = dw0 >> 21 & 7
    tlp["ohc"] = ohc
    tlp["ts"] = ts
    tlp["td"] = 1 if ts == spec.TS_ECRC else 0
    tlp["attr"] = dw0 >> 10 & 7
    counted = traits & DATA != 0 or (family != COMPLETION and family != MESSAGE)
    tlp["length"] = 1024 if counted and length == 0 else length
    tlp["ep"] = dw1 >> 15 & 1
    reserved = dw1 >> 14 & 1
    a = np.int64(0)
    place = at + size
    if ohc & OHC_A != 0:
        a = word(data, place)
        tlp["ohc_a"] = a
        place += 4
    if ohc & OHC_B != 0:
        tlp["ohc_b"] = word(data, place)
        place += 4
    if ohc & OHC_C != 0:
        tlp["ide"] = word(data, place)
        place += 4
    tlp["ohc_e_at"] = place
    if family == MESSAGE:
        tlp["requester"] = dw1 >> 16
        tlp["code"] = dw1 & 0xFF
        tlp["dw2"] = dw2
        tlp["dw3"] = word(data, at + 12)
        return _RESERVED if reserved | (dw1 & 0x3F00) != 0 else _KEPT
    tlp["tag"] = dw1 & 0x3FFF
    if family == COMPLETION:
        tlp["completer"] = dw1 >> 16
        tlp["requester"] = dw2 >> 16
        count = dw2 >> 4 & 0xFFF
        tlp["byte_count"] = 4096 if count == 0 else count
        tlp["status"] = a & 7
        tlp["lower_address"] = (a >> 5 & 1) << 6 | (dw2 & 0xF) << 2 | a >> 3 & 3
        return _RESERVED if reserved != 0 else _KEPT
    tlp["requester"] = dw1 >> 16
    enables = a & _ENABLES if ohc & OHC_A != 0 else _default_enables(np.int64(tlp["length"]))
    tlp["last_be"] = enables >> 4
    tlp["first_be"] = enables & 0xF
    if family == CONFIG:
        tlp["destination"] = dw2 >> 16
        tlp["register"] = dw2 >> 2 & 0x3FF
        reserved |= dw2 & 0xF003
    elif traits & FOUR_DW != 0:
        dw3 = word(data, at + 12)
        tlp["address"] = np.uint64(dw2) << np.uint64(32) | np.uint64(dw3 & 0xFFFFFFFC)
        tlp["at"] = dw3 & 3
    else:
        tlp["address"] = np.uint64(dw2 & 0xFFFFFFFC)
        tlp["at"] = dw2 & 3
        if family == IO:
            reserved |= dw2 & 3
    return _RESERVED if reserved != 0 else _KEPT


@inline_kernel
def ohc_of(tlps, i):
    """Return the OHC bits of row i, A added where its byte enables need it."""
    tlp = tlps[i]
    ohc = np.int64(tlp["ohc"])
    family = TRAITS[tlp["kind"]] & FAMILY_MASK
    if family == COMPLETION:
        needs = tlp["status"] != 0 or np.int64(tlp["lower_address"]) & 0x43 != 0
    elif family == MESSAGE:
        needs = False
    else:
        enables = np.int64(tlp["last_be"]) << 4 | np.int64(tlp["first_be"])
        needs = enables != _default_enables(np.int64(tlp["length"]))
    if needs:
        ohc |= OHC_A
    return ohc | OHC_C if tlp["ide"] != 0 else ohc


@inline_kernel
def encode_flit(tlps, i, ohc, data, at, size, pool):
    """Write header and OHC of row i at data[at:]; its fields fit. Return the bytes. Modified in place: data."""
    tlp = tlps[i]
    kind = np.int64(tlp["kind"])
    traits = TRAITS[kind]
    family = traits & FAMILY_MASK
    ts = np.int64(tlp["ts"])
    type_ = MRD32_TYPE if kind == MRD32 else kind
    dw0 = type_ << 24 | np.int64(tlp["tc"]) << 21 | ohc << 16 | ts << 13 | np.int64(tlp["attr"]) << 10
    put_word(data, at, dw0 | np.int64(tlp["length"]) & 0x3FF)
    requester = np.int64(tlp["requester"]) << 16
    poisoned = np.int64(tlp["ep"]) << 15
    tag = np.int64(tlp["tag"]) & 0x3FFF
    a = np.int64(tlp["ohc_a"])
    if family == MESSAGE:
        put_word(data, at + 4, requester | poisoned | np.int64(tlp["code"]))
        put_word(data, at + 8, np.int64(tlp["dw2"]))
        put_word(data, at + 12, np.int64(tlp["dw3"]))
    elif family == COMPLETION:
        lower = np.int64(tlp["lower_address"])
        count = (np.int64(tlp["byte_count"]) & 0xFFF) << 4
        put_word(data, at + 4, np.int64(tlp["completer"]) << 16 | poisoned | tag)
        put_word(data, at + 8, requester | count | lower >> 2 & 0xF)
        a &= ~_COMPLETION_WORD
        a |= (lower >> 6) << 5 | (lower & 3) << 3 | np.int64(tlp["status"])
    else:
        put_word(data, at + 4, requester | poisoned | tag)
        a &= ~_ENABLES
        a |= np.int64(tlp["last_be"]) << 4 | np.int64(tlp["first_be"])
        if family == CONFIG:
            put_word(data, at + 8, np.int64(tlp["destination"]) << 16 | np.int64(tlp["register"]) << 2)
        else:
            low = np.int64(tlp["address"] & np.uint64(0xFFFFFFFC)) | np.int64(tlp["at"])
            if traits & FOUR_DW != 0:
                put_word(data, at + 8, np.int64(tlp["address"] >> np.uint64(32)))
                put_word(data, at + 12, low)
            else:
                put_word(data, at + 8, low)
    place = at + size
    if ohc & OHC_A != 0:
        put_word(data, place, a)
        place += 4
    if ohc & OHC_B != 0:
        put_word(data, place, np.int64(tlp["ohc_b"]))
        place += 4
    if ohc & OHC_C != 0:
        put_word(data, place, np.int64(tlp["ide"]))
        place += 4
    e = ohc >> 3 & 3
    count = 16 if e == 3 else 4 * e
    for j in range(count):
        data[place + j] = pool[np.int64(tlp["ohc_e_at"]) + j]
    return place + count - at


@kernel
def check_flit(tlps, i):
    """Return the broken rule of row i that only flit mode has, 0 for none."""
    tlp = tlps[i]
    ts = np.int64(tlp["ts"])
    if trailer_words(ts) < 0 or (tlp["td"] != 0) != (ts == spec.TS_ECRC):
        return _TS
    if np.int64(tlp["ohc"]) & OHC_C != 0 and tlp["ide"] == 0:
        # OHC-C of zeros would be lost: 0 stands for none.
        return _OHC
    if np.int64(tlp["ohc"]) & OHC_A == 0 and tlp["ohc_a"] != 0:
        return _OHC
    family = TRAITS[tlp["kind"]] & FAMILY_MASK
    if family == NONE or family >= LOCAL_PREFIX:
        return _KIND
    if tlp["th"] != 0 or tlp["ph"] != 0 or (family == MEMORY and tlp["bcm"] != 0):
        # Steering tags and processing hints stand in OHC-B.
        return _OHC
    return _KEPT
