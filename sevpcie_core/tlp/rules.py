"""The rules that a TLP's fields must keep: one list for parsing and for packing.

Rule: a kernel names the first broken rule by number; the words are here, beside the field they speak of.

A receiver ignores reserved bits. This codec refuses them, because a batch has no place for them and packing
must give back what was parsed.
"""

from enum import IntEnum
from typing import Final

import numpy as np

from .. import spec
from .._jit import kernel
from .kinds import (
    ATOMIC,
    CAS32,
    CAS64,
    COMPLETION,
    CONFIG,
    DATA,
    FAMILY_MASK,
    FOUR_DW,
    IO,
    LOCAL_PREFIX,
    MAX_END_PREFIXES,
    MEMORY,
    NONE,
    TAGGED,
    TRAITS,
)


class Rule(IntEnum):
    """A broken rule; 0 is none."""

    KEPT = 0
    TRUNCATED = 1
    TOO_LONG = 2
    KIND = 3
    RESERVED = 4
    PREFIX_KIND = 5
    PREFIX_ORDER = 6
    PREFIX_COUNT = 7
    LENGTH_DATA = 8
    LENGTH_RANGE = 9
    MAX_PAYLOAD = 10
    LAST_BE_ONE = 11
    BE_ZERO = 12
    BE_GAPS = 13
    LENGTH_ONE = 14
    TC_ZERO = 15
    OPERAND = 16
    ALIGNMENT = 17
    PAGE = 18
    FORM_3DW = 19
    FORM_4DW = 20
    STATUS = 21
    STATUS_DATA = 22
    COMPLETION_AT = 23
    COMPLETION_TH = 24
    BYTE_COUNT = 25
    BYTE_COUNT_RANGE = 26
    IDE_TD = 27
    TAG_RANGE = 28
    FIELD_RANGE = 29
    TRAILER = 30
    POOL = 31
    TS = 32
    OHC = 33
    NO_PLACE = 34


# Field and rule, in the words of an error message.
TEXTS: Final = {
    Rule.TRUNCATED: ("Length", "the TLP ends before what its header speaks of"),
    Rule.TOO_LONG: ("Length", "bytes follow behind what its header speaks of"),
    Rule.KIND: ("Fmt and Type", "there is no such TLP"),
    Rule.RESERVED: ("reserved bits", "must be 0"),
    Rule.PREFIX_KIND: ("prefix Type", "there is no such prefix"),
    Rule.PREFIX_ORDER: ("prefix", "local prefixes come first, then IDE's, then the other End-End prefixes"),
    Rule.PREFIX_COUNT: ("prefix", f"at most {MAX_END_PREFIXES} End-End prefixes, one of them IDE's"),
    Rule.LENGTH_DATA: ("Length", "differs from the bytes of payload"),
    Rule.LENGTH_RANGE: ("Length", "1..1024 DW with payload or for a request, else 0..1023"),
    Rule.MAX_PAYLOAD: ("Length", "more payload than Max_Payload_Size"),
    Rule.LAST_BE_ONE: ("Last DW BE", "must be 0 where Length is 1"),
    Rule.BE_ZERO: ("First or Last DW BE", "must not be 0 where Length is more than 1"),
    Rule.BE_GAPS: ("First or Last DW BE", "bytes must be contiguous but for one or two DW of a QW"),
    Rule.LENGTH_ONE: ("Length", "must be 1 in I/O and configuration requests, and Last DW BE 0"),
    Rule.TC_ZERO: ("TC", "I/O and configuration requests have TC 0, AT 0 and no TH"),
    Rule.OPERAND: ("Length", "no operand of this AtomicOp: 4 or 8 B, CAS two of 4, 8 or 16 B"),
    Rule.ALIGNMENT: ("Address", "an AtomicOp is aligned to its operand"),
    Rule.PAGE: ("Address", "a memory request must not cross a 4 KiB boundary"),
    Rule.FORM_3DW: ("Fmt", "addresses below 4 GiB take the form with three DW"),
    Rule.FORM_4DW: ("Fmt", "addresses from 4 GiB on take the form with four DW"),
    Rule.STATUS: ("Completion Status", "0 SC, 1 UR, 2 RRS or 4 CA"),
    Rule.STATUS_DATA: ("Completion Status", "a completion with data is successful"),
    Rule.COMPLETION_AT: ("AT", "must be 00b in completions"),
    Rule.COMPLETION_TH: ("TH", "reserved in completions"),
    Rule.BYTE_COUNT: ("Byte Count", "less than the payload"),
    Rule.BYTE_COUNT_RANGE: ("Byte Count", "1..4096"),
    Rule.IDE_TD: ("TD", "must be 0 in an IDE TLP, which carries no ECRC"),
    Rule.TAG_RANGE: ("Tag", "10 bits, 14 in flit mode"),
    Rule.FIELD_RANGE: ("a field", "does not fit into its bits"),
    Rule.TRAILER: ("trailer", "PCRC and MAC as the IDE prefix says: M 12 B, P 4 B more, and only with M"),
    Rule.POOL: ("payload", "lies outside the pool"),
    Rule.TS: ("TS", "000b, 001b (ECRC), 101b (MAC) or 110b (PCRC and MAC)"),
    Rule.OHC: ("OHC", "words, bits and TS must agree: a MAC needs OHC-C of an IDE TLP"),
    Rule.NO_PLACE: ("a field", "must be 0, as this kind of TLP has no place for it"),
}

_KEPT: Final = int(Rule.KEPT)
_KIND: Final = int(Rule.KIND)
_LENGTH_RANGE: Final = int(Rule.LENGTH_RANGE)
_MAX_PAYLOAD: Final = int(Rule.MAX_PAYLOAD)
_LAST_BE_ONE: Final = int(Rule.LAST_BE_ONE)
_BE_ZERO: Final = int(Rule.BE_ZERO)
_BE_GAPS: Final = int(Rule.BE_GAPS)
_LENGTH_ONE: Final = int(Rule.LENGTH_ONE)
_TC_ZERO: Final = int(Rule.TC_ZERO)
_OPERAND: Final = int(Rule.OPERAND)
_ALIGNMENT: Final = int(Rule.ALIGNMENT)
_PAGE: Final = int(Rule.PAGE)
_FORM_3DW: Final = int(Rule.FORM_3DW)
_FORM_4DW: Final = int(Rule.FORM_4DW)
_STATUS: Final = int(Rule.STATUS)
_STATUS_DATA: Final = int(Rule.STATUS_DATA)
_COMPLETION_AT: Final = int(Rule.COMPLETION_AT)
_COMPLETION_TH: Final = int(Rule.COMPLETION_TH)
_BYTE_COUNT: Final = int(Rule.BYTE_COUNT)
_BYTE_COUNT_RANGE: Final = int(Rule.BYTE_COUNT_RANGE)
_IDE_TD: Final = int(Rule.IDE_TD)
_TRAILER: Final = int(Rule.TRAILER)
_P: Final = spec.IDE_P
_M: Final = spec.IDE_M

# Bit n set: n is a byte enable that a first (last) DW of several may have: bytes reach its far (near) end.
_FIRST_ENABLES: Final = 1 << 0xF | 1 << 0xE | 1 << 0xC | 1 << 0x8
_LAST_ENABLES: Final = 1 << 0xF | 1 << 0x7 | 1 << 0x3 | 1 << 0x1
# Bit n set: n is a completion status.
_STATUSES: Final = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 4
_4GIB: Final = np.uint64(1 << 32)
_OFFSET: Final = np.uint64(0xFFC)
_PAGE_BYTES: Final = 4096


@kernel
def check(tlps, i, max_payload):
    """Return the number of the first rule that TLP i breaks, 0 for none.

    Parameters
    ----------
    tlps : batch.TLP[n], the fields of row i decoded.
    max_payload : bytes, Max_Payload_Size; 4096 for no limit.
    """
    tlp = tlps[i]
    kind = tlp["kind"]
    traits = TRAITS[kind]
    family = traits & FAMILY_MASK
    length = np.int64(tlp["length"])
    if family == NONE or family >= LOCAL_PREFIX:
        return _KIND
    if traits & DATA != 0:
        if length < 1 or length > 1024:
            return _LENGTH_RANGE
        if 4 * length > max_payload:
            return _MAX_PAYLOAD
    if family == COMPLETION:
        return _check_completion(tlp, traits, length)
    if family == MEMORY:
        if length < 1 or length > 1024:
            return _LENGTH_RANGE
        if traits & TAGGED == 0 or tlp["th"] == 0:
            broken = _check_enables(tlp, length)
            if broken != _KEPT:
                return broken
        if np.int64(tlp["address"] & _OFFSET) + 4 * length > _PAGE_BYTES:
            return _PAGE
    elif family == ATOMIC:
        if length < 1 or length > 1024:
            return _LENGTH_RANGE
        operand = 4 * length
        if kind in (CAS32, CAS64):
            operand = 2 * length
            if length != 2 and length != 4 and length != 8:
                return _OPERAND
        elif length > 2:
            return _OPERAND
        if np.int64(tlp["address"] & _OFFSET) & (operand - 1) != 0:
            return _ALIGNMENT
    elif family in (IO, CONFIG):
        if length != 1 or tlp["last_be"] != 0:
            return _LENGTH_ONE
        if tlp["tc"] != 0 or tlp["at"] != 0 or tlp["th"] != 0:
            return _TC_ZERO
        return _KEPT
    else:
        if traits & DATA == 0 and length > 1023:
            return _LENGTH_RANGE
        return _KEPT
    # Likely (PCIe Base r6.x, section 2.2.4.1): the short form below 4 GiB.
    if traits & FOUR_DW != 0:
        if tlp["address"] < _4GIB:
            return _FORM_3DW
    elif tlp["address"] >= _4GIB:
        return _FORM_4DW
    return _KEPT


@kernel
def check_prefix(tlps, i):
    """Return the broken rule of row i that only non-flit mode has, 0 for none."""
    ide = np.int64(tlps[i]["ide"])
    if ide != 0:
        if tlps[i]["td"] != 0:
            return _IDE_TD
        if ide & (_P | _M) == _P:
            return _TRAILER
    return _KEPT


@kernel
def _check_enables(tlp, length):
    """Return the first rule of byte enables that is broken (PCIe Base r6.x, section 2.2.5; likely)."""
    first = np.int64(tlp["first_be"])
    last = np.int64(tlp["last_be"])
    if length == 1:
        return _LAST_BE_ONE if last != 0 else _KEPT
    if first == 0 or last == 0:
        return _BE_ZERO
    if length == 2 and tlp["address"] & np.uint64(7) == np.uint64(0):
        return _KEPT
    if (_FIRST_ENABLES >> first) & (_LAST_ENABLES >> last) & 1 == 0:
        return _BE_GAPS
    return _KEPT


@kernel
def _check_completion(tlp, traits, length):
    """Return the first rule of completions that is broken (PCIe Base r6.x, section 2.2.9)."""
    if tlp["at"] != 0:
        return _COMPLETION_AT
    if tlp["th"] != 0:
        return _COMPLETION_TH
    status = np.int64(tlp["status"])
    if status > 7 or (_STATUSES >> status) & 1 == 0:
        return _STATUS
    count = np.int64(tlp["byte_count"])
    if count < 1 or count > 4096:
        return _BYTE_COUNT_RANGE
    if traits & DATA == 0:
        return _LENGTH_RANGE if length > 1023 else _KEPT
    if status != 0:
        return _STATUS_DATA
    # The bytes left to send, with what the first DW has in front of them, reach into the payload's last DW.
    offset = np.int64(tlp["lower_address"]) & 3
    if 4 * (length - 1) >= offset + count:
        return _BYTE_COUNT
    return _KEPT
