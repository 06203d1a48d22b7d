"""Headers in flit mode (Gen6 and later), as far as they are public.

Rule: what is not sure is marked here and nowhere else.

Sure, by several public descriptions that agree: DW 0 is Type[31:24] TC[23:21] OHC[20:16] TS[15:13]
Attr[12:10] Length[9:0]. Type is the non-flit byte 0, but MRd32 is 03h and 00h is a NOP, which is no TLP
here. OHC bit 0 says that word A follows the header, bit 1 word B, bit 2 word C (the IDE word), bits 4:3 that
E of 1, 2 or 4 DW does; they follow in that order. TS says what follows the payload: 001b ECRC, 101b MAC,
110b PCRC and MAC. The rest by family:

    requests     Requester ID[31:16] EP[15] reserved[14] Tag[13:0]; address, its low two bits AT;
                 word A: Last DW BE[7:4] First DW BE[3:0]
    config       the same, then Bus/Device/Function[31:16] reserved[15:12] register[11:2] reserved[1:0]
    messages     Requester ID[31:16] EP[15] [14:8] and two DW as the message defines them, code[7:0];
                 no tag: the field of that name has bits [14:8]
    completions  Completer ID[31:16] EP[15] Lower Address 6[14] Tag[13:0];
                 Requester ID[31:16] Lower Address 5:2[15:12] Byte Count[11:0];
                 word A: Lower Address 1:0[4:3] Status[2:0]

Word A is never left out by I/O and configuration requests. A memory request without it has all bytes
enabled; a completion without it is successful and starts on a DW. Where it is there, its other bits are kept
as they stand, and so is word B, with TH and PH.

Likely: word A of an AtomicOp is that of a memory request.

Not here: local prefixes, and the kinds that only flit mode has (unordered I/O).
"""

from typing import Final

import numpy as np

from .. import spec
from .._jit import inline_kernel, kernel
from .header import FLIT_MESSAGE_TAG_BITS, put_word, word
from .kinds import (
    COMPLETION,
    CONFIG,
    DATA,
    FAMILY_MASK,
    FOUR_DW,
    IO,
    LOCAL_PREFIX,
    MESSAGE,
    MRD32,
    NONE,
    TRAITS,
)
from .rules import Rule

# PCIe Base r6.x, section 2.2.1.2: Type of MRd32 in flit mode, and of the NOP.
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
_IDE_TD: Final = int(Rule.IDE_TD)
_SUB_STREAM: Final = spec.IDE_SUB_STREAM_SHIFT
_SUB_STREAMS: Final = spec.IDE_SUB_STREAM_MASK
_NO_SUB_STREAM: Final = spec.IDE_NO_SUB_STREAM
# PCIe Base r6.x, section 2.2.8 (flit mode): word A of requests.
_ENABLES: Final = 0xFF
_LAST_BE: Final = 4
_FIRST_BE: Final = 0x0F
# PCIe Base r6.x, section 2.2.7 (flit mode): DW 1.
_EP: Final = 15
_RESERVED_BIT: Final = 14
_TAG: Final = 0x3FFF
# PCIe Base r6.x, section 2.2.8 (flit mode): DW 1 of messages.
_CODE: Final = 0xFF
_MESSAGE_TAG: Final = 8
# PCIe Base r6.x, section 2.2.9 (flit mode): completions. DW 1, DW 2, word A share Lower Address.
_LOWER_6: Final = 14
_LOWER_5_2: Final = 12
_BYTE_COUNT: Final = 0xFFF
_A_LOWER_1_0: Final = 3
_A_STATUS: Final = 0x07
_A_COMPLETION: Final = 0x1F


@kernel
def kind_of(type_):
    """Return the kind of a flit-mode Type; 255, which is none, for the NOP."""
    if type_ == MRD32_TYPE:
        return MRD32
    return 0xFF if type_ == NOP_TYPE else type_


@kernel
def ohc_words(ohc):
    """Return how many DW of OHC follow the header."""
    return (ohc & 1) + (ohc >> 1 & 1) + (ohc >> 2 & 1) + ohc_e_words(ohc)


@inline_kernel
def ohc_e_words(ohc):
    """Return how many DW word E has."""
    e = ohc >> 3 & 3
    return 4 if e == 3 else e


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
    tlp["ep"] = dw1 >> _EP & 1
    reserved = dw1 >> _RESERVED_BIT & 1
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
        tlp["tag"] = dw1 >> _MESSAGE_TAG & ((1 << FLIT_MESSAGE_TAG_BITS) - 1)
        tlp["code"] = dw1 & _CODE
        tlp["dw2"] = dw2
        tlp["dw3"] = word(data, at + 12)
        return _KEPT
    tlp["tag"] = dw1 & _TAG
    if family == COMPLETION:
        tlp["completer"] = dw1 >> 16
        tlp["requester"] = dw2 >> 16
        count = dw2 & _BYTE_COUNT
        tlp["byte_count"] = 4096 if count == 0 else count
        tlp["status"] = a & _A_STATUS
        lower = (dw1 >> _LOWER_6 & 1) << 6 | (dw2 >> _LOWER_5_2 & 0xF) << 2
        tlp["lower_address"] = lower | a >> _A_LOWER_1_0 & 3
        return _KEPT
    if (family in (IO, CONFIG)) and ohc & OHC_A == 0:
        return _OHC
    tlp["requester"] = dw1 >> 16
    enables = a & _ENABLES if ohc & OHC_A != 0 else _default_enables(np.int64(tlp["length"]))
    tlp["last_be"] = enables >> _LAST_BE
    tlp["first_be"] = enables & _FIRST_BE
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
    """Return the OHC bits of row i, with A where its fields need it and C where it has an IDE word."""
    tlp = tlps[i]
    ohc = np.int64(tlp["ohc"])
    family = TRAITS[tlp["kind"]] & FAMILY_MASK
    if family == COMPLETION:
        needs = tlp["status"] != 0 or np.int64(tlp["lower_address"]) & 3 != 0
    elif family == MESSAGE:
        needs = False
    elif family in (IO, CONFIG):
        needs = True
    else:
        enables = np.int64(tlp["last_be"]) << _LAST_BE | np.int64(tlp["first_be"])
        needs = enables != _default_enables(np.int64(tlp["length"]))
    if needs:
        ohc |= OHC_A
    return ohc | OHC_C if tlp["ide"] != 0 else ohc


@inline_kernel
def encode_flit(tlps, i, ohc, data, at, size, pool):
    """Write header and OHC of row i, whose fields fit, at data[at:]; return their bytes.

    Modified in place: data.
    """
    tlp = tlps[i]
    kind = np.int64(tlp["kind"])
    traits = TRAITS[kind]
    family = traits & FAMILY_MASK
    ts = np.int64(tlp["ts"])
    type_ = MRD32_TYPE if kind == MRD32 else kind
    dw0 = type_ << 24 | np.int64(tlp["tc"]) << 21 | ohc << 16 | ts << 13 | np.int64(tlp["attr"]) << 10
    put_word(data, at, dw0 | np.int64(tlp["length"]) & 0x3FF)
    requester = np.int64(tlp["requester"]) << 16
    poisoned = np.int64(tlp["ep"]) << _EP
    tag = np.int64(tlp["tag"]) & _TAG
    a = np.int64(tlp["ohc_a"])
    if family == MESSAGE:
        put_word(data, at + 4, requester | poisoned | tag << _MESSAGE_TAG | np.int64(tlp["code"]))
        put_word(data, at + 8, np.int64(tlp["dw2"]))
        put_word(data, at + 12, np.int64(tlp["dw3"]))
    elif family == COMPLETION:
        lower = np.int64(tlp["lower_address"])
        high = lower >> 6 << _LOWER_6
        put_word(data, at + 4, np.int64(tlp["completer"]) << 16 | poisoned | high | tag)
        count = np.int64(tlp["byte_count"]) & _BYTE_COUNT
        put_word(data, at + 8, requester | (lower >> 2 & 0xF) << _LOWER_5_2 | count)
        a &= ~_A_COMPLETION
        a |= (lower & 3) << _A_LOWER_1_0 | np.int64(tlp["status"])
    else:
        put_word(data, at + 4, requester | poisoned | tag)
        a &= ~_ENABLES
        a |= np.int64(tlp["last_be"]) << _LAST_BE | np.int64(tlp["first_be"])
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
    rest = 4 * ohc_e_words(ohc)
    for j in range(rest):
        data[place + j] = pool[np.int64(tlp["ohc_e_at"]) + j]
    return place + rest - at


@kernel
def check_flit(tlps, i):
    """Return the broken rule of row i that only flit mode has, 0 for none."""
    tlp = tlps[i]
    ts = np.int64(tlp["ts"])
    if trailer_words(ts) < 0 or (tlp["td"] != 0) != (ts == spec.TS_ECRC):
        return _TS
    # OHC-C of zeros is Stream 0's, so the bit says that it is there. Sub-stream 7: it is no IDE TLP.
    ohc = np.int64(tlp["ohc"])
    word = np.int64(tlp["ide"])
    protected = (ohc & OHC_C != 0 or word != 0) and word >> _SUB_STREAM & _SUB_STREAMS != _NO_SUB_STREAM
    if protected and ts == spec.TS_ECRC:
        return _IDE_TD
    if not protected and (ts == spec.TS_MAC or ts == spec.TS_PCRC_MAC):
        return _OHC
    if (ohc & OHC_A == 0 and tlp["ohc_a"] != 0) or (ohc & OHC_B == 0 and tlp["ohc_b"] != 0):
        return _OHC
    family = TRAITS[tlp["kind"]] & FAMILY_MASK
    if family == NONE or family >= LOCAL_PREFIX:
        return _KIND
    if tlp["th"] != 0 or tlp["ph"] != 0:
        # Steering tags and processing hints stand in OHC-B.
        return _OHC
    return _KEPT
