"""Bytes to a batch and back: `parse` and `pack`.

Rule: what comes out of `parse` keeps every rule (`rules`), and `pack` of it gives the same bytes. No byte
outside the given ones is read, whatever they say.
"""

from typing import Final

import numpy as np

from .. import spec
from .._jit import inline_kernel, kernel
from .._jit.memory import copy
from ..errors import FormatError, MisuseError
from .batch import I64, TLP, U8, Batch, as_bytes, as_offsets
from .flit import check_flit, decode_flit, encode_flit, kind_of, ohc_e_words, ohc_of, ohc_words, trailer_words
from .header import decode, encode, fits, header_bytes, is_request_or_completion, placed, put_word, word
from .kinds import (
    DATA,
    END_PREFIX,
    FAMILY_MASK,
    LOCAL_PREFIX,
    MAX_END_PREFIXES,
    TRAITS,
)
from .rules import TEXTS, Rule, check, check_prefix

# The smallest TLP: a header of three DW.
_SMALLEST: Final = spec.HEADER_3DW_BYTES
NO_LIMIT: Final = 4096
_TAG_BITS: Final = 10
_FLIT_TAG_BITS: Final = 14

_KEPT: Final = int(Rule.KEPT)
_TRUNCATED: Final = int(Rule.TRUNCATED)
_TOO_LONG: Final = int(Rule.TOO_LONG)
_KIND: Final = int(Rule.KIND)
_PREFIX_KIND: Final = int(Rule.PREFIX_KIND)
_PREFIX_ORDER: Final = int(Rule.PREFIX_ORDER)
_PREFIX_COUNT: Final = int(Rule.PREFIX_COUNT)
_LENGTH_DATA: Final = int(Rule.LENGTH_DATA)
_TRAILER: Final = int(Rule.TRAILER)
_POOL: Final = int(Rule.POOL)
_TS: Final = int(Rule.TS)
_OHC: Final = int(Rule.OHC)
_FMT_PREFIX: Final = 0x80
_IDE: Final = spec.IDE_PREFIX
_P: Final = spec.IDE_P
_M: Final = spec.IDE_M
_MAC: Final = spec.IDE_MAC_BYTES
_PCRC: Final = spec.IDE_PCRC_BYTES
_TS_MAC: Final = spec.TS_MAC
_TS_PCRC_MAC: Final = spec.TS_PCRC_MAC


def parse(
    data: U8 | bytes, offsets: I64 | None = None, *, flit: bool = False, max_payload: int = NO_LIMIT
) -> Batch:
    """Return the TLPs in some bytes.

    Parameters
    ----------
    data : u1[:], headers with their prefixes, payloads, digests and IDE trailers; no sequence number and no
        LCRC (`frame`). The batch keeps it as its pool.
    offsets : i8[n + 1], TLP i is data[offsets[i]:offsets[i + 1]]; None: each is as long as its header says.
    flit : the bytes are of a link in flit mode.
    max_payload : bytes, Max_Payload_Size.

    Raises FormatError that names the first TLP that breaks a rule, its offset, the field and the rule.
    Raises MisuseError for what is no bytes, and for offsets that do not ascend within the data.
    """
    pool = as_bytes(data)
    framed = offsets is not None
    if offsets is None:
        places = np.zeros(len(pool) // _SMALLEST + 2, np.int64)
        tlps = np.zeros(len(pool) // _SMALLEST + 1, TLP)
    else:
        places = as_offsets(offsets, len(pool))
        tlps = np.zeros(len(places) - 1, TLP)
    count, broken = parse_all(pool, places, framed, flit, max_payload, tlps)
    if broken != Rule.KEPT:
        field, rule = TEXTS[Rule(broken)]
        raise FormatError(f"TLP {count} at byte {places[count]}, {field}: {rule}")
    return Batch(tlps[:count] if count < len(tlps) else tlps, pool, flit)


def pack(batch: Batch, *, max_payload: int = NO_LIMIT) -> tuple[U8, I64]:
    """Return the bytes of all TLPs, u1[:], and where each starts and the last ends, i8[n + 1].

    Raises FormatError that names the first TLP that breaks a rule, the field and the rule.
    Raises MisuseError where the batch holds other arrays than `Batch` says.
    """
    tlps = np.ascontiguousarray(batch.tlps)
    if tlps.dtype != TLP or tlps.ndim != 1:
        raise MisuseError("tlps is not an array TLP[n]")
    tlps = tlps if tlps.flags.writeable else tlps.copy()
    pool = as_bytes(batch.pool)
    offsets = np.zeros(len(tlps) + 1, np.int64)
    broken = measure(tlps, pool, batch.flit, max_payload, offsets)
    data = np.empty(offsets[-1] if broken == Rule.KEPT else 0, np.uint8)
    if broken == Rule.KEPT:
        write(tlps, pool, batch.flit, offsets, data)
        return data, offsets
    field, rule = TEXTS[Rule(broken)]
    raise FormatError(f"TLP {offsets[-1]}, {field}: {rule}")


# --- Bytes to fields ---------------------------------------------------------------------------------------


@kernel
def parse_all(data, offsets, framed, flit, max_payload, tlps):
    """Read all TLPs. Return (how many are good, the rule that the next one breaks, or 0).

    Parameters
    ----------
    data : u1[:].
    offsets : i8[:], given if framed, else modified in place.
    tlps : TLP[:], zeros; enough of them. Modified in place.
    """
    end = np.int64(len(data))
    at = offsets[0]
    i = np.int64(0)
    last = len(offsets) - 1
    while (i < last) if framed else (at < end):
        stop = end
        if framed:
            at = offsets[i]
            stop = offsets[i + 1]
        else:
            offsets[i] = at
        broken, at = _parse_one(data, at, stop, flit, tlps, i)
        if broken == _KEPT:
            broken = check(tlps, i, max_payload)
        if broken == _KEPT:
            broken = check_flit(tlps, i) if flit else check_prefix(tlps, i)
        if broken == _KEPT and framed and at != stop:
            broken = _TOO_LONG
        if broken != _KEPT:
            return i, broken
        i += 1
        if not framed:
            offsets[i] = at
    return i, np.int64(_KEPT)


@inline_kernel
def parse_header(data, start, stop, flit, tlps, i):
    """Read prefixes and header of the TLP at data[start:stop] into row i; what lies behind is not looked at.

    Return (the broken rule, where the payload begins, bytes of payload, of digest, of trailer). Where only a
    reserved bit is set, all of them are right.
    """
    nothing = np.int64(0)
    at = start
    ide = np.int64(-1)
    tlps[i]["local_at"] = start
    while at < stop and np.int64(data[at]) >= _FMT_PREFIX and not flit:
        family = TRAITS[data[at]] & FAMILY_MASK
        if at + 4 > stop:
            return _TRUNCATED, at, nothing, nothing, nothing
        if family == LOCAL_PREFIX:
            if tlps[i]["end_prefixes"] > 0 or ide >= 0:
                return _PREFIX_ORDER, at, nothing, nothing, nothing
            if tlps[i]["local_prefixes"] == 255:
                return _PREFIX_COUNT, at, nothing, nothing, nothing
            tlps[i]["local_prefixes"] += 1
        elif family == END_PREFIX:
            if data[at] == _IDE:
                if tlps[i]["end_prefixes"] > 0 or ide >= 0:
                    return _PREFIX_ORDER, at, nothing, nothing, nothing
                ide = at
                tlps[i]["ide"] = word(data, at)
            else:
                tlps[i]["end_prefixes"] += 1
            if np.int64(tlps[i]["end_prefixes"]) + (ide >= 0) > MAX_END_PREFIXES:
                return _PREFIX_COUNT, at, nothing, nothing, nothing
        else:
            return _PREFIX_KIND, at, nothing, nothing, nothing
        at += 4
    if at >= stop:
        return _TRUNCATED, at, nothing, nothing, nothing
    tlps[i]["end_at"] = at - 4 * np.int64(tlps[i]["end_prefixes"])
    kind = kind_of(np.int64(data[at])) if flit else np.int64(data[at])
    if not is_request_or_completion(kind):
        return _KIND, at, nothing, nothing, nothing
    size = header_bytes(kind)
    if at + size > stop:
        return _TRUNCATED, at, nothing, nothing, nothing
    trailer = np.int64(0)
    digest = np.int64(0)
    if flit:
        head = word(data, at)
        ts = head >> 13 & 7
        words = trailer_words(ts)
        if words < 0:
            return _TS, at, nothing, nothing, nothing
        ohc = 4 * ohc_words(head >> 16 & 0x1F)
        if at + size + ohc > stop:
            return _TRUNCATED, at, nothing, nothing, nothing
        broken = decode_flit(data, at, size, tlps, i)
        size += ohc
        if words == 1:
            digest = np.int64(4)
        else:
            trailer = np.int64(4 * words)
    else:
        broken = decode(data, at, tlps, i)
        if ide >= 0:
            trailer = _trailer_bytes(np.int64(data[ide + 3]))
        digest = 4 * np.int64(tlps[i]["td"])
    payload = 4 * np.int64(tlps[i]["length"]) if TRAITS[kind] & DATA != 0 else 0
    return broken, at + size, np.int64(payload), digest, trailer


@inline_kernel
def _parse_one(data, start, stop, flit, tlps, i):
    """Read one TLP at data[start:stop] into row i. Return (the broken rule, where the TLP ends)."""
    broken, at, payload, digest, trailer = parse_header(data, start, stop, flit, tlps, i)
    if broken != _KEPT:
        return broken, at
    if at + payload + digest + trailer > stop:
        return _TRUNCATED, at
    tlps[i]["data_at"] = at
    tlps[i]["data_bytes"] = payload
    at += payload
    if digest > 0:
        value = word(data, at)
        tlps[i]["ecrc"] = value >> 24 | (value >> 8 & 0xFF00) | (value & 0xFF00) << 8 | (value & 0xFF) << 24
        at += 4
    tlps[i]["trailer_at"] = at
    tlps[i]["trailer_bytes"] = trailer
    return np.int64(_KEPT), at + trailer


# --- Fields to bytes ---------------------------------------------------------------------------------------


@kernel
def measure(tlps, pool, flit, max_payload, offsets):
    """Check all TLPs and find where each goes. Return the first broken rule, 0 for none.

    Parameters
    ----------
    tlps : TLP[n]. pool : u1[:].
    offsets : i8[n + 1], starts and the end of the last; where a rule is broken the last one holds the TLP's
        index. Modified in place.
    """
    at = np.int64(0)
    n = np.int64(len(tlps))
    for i in range(n):
        broken = _check_one(tlps, i, pool, flit, max_payload)
        if broken != _KEPT:
            offsets[n] = i
            return broken
        offsets[i] = at
        kind = np.int64(tlps[i]["kind"])
        size = header_bytes(kind) + 4 * np.int64(tlps[i]["td"])
        if flit:
            size += 4 * ohc_words(ohc_of(tlps, i))
        else:
            size += 4 * (np.int64(tlps[i]["local_prefixes"]) + np.int64(tlps[i]["end_prefixes"]))
            size += 4 if tlps[i]["ide"] != 0 else 0
        at += size + np.int64(tlps[i]["data_bytes"]) + np.int64(tlps[i]["trailer_bytes"])
    offsets[n] = at
    return np.int64(_KEPT)


@inline_kernel
def _check_one(tlps, i, pool, flit, max_payload):
    """Return the first rule that row i breaks, 0 for none."""
    broken = fits(tlps, i, _FLIT_TAG_BITS if flit else _TAG_BITS)
    if broken == _KEPT:
        broken = check(tlps, i, max_payload)
    if broken == _KEPT:
        broken = placed(tlps, i, flit)
    if broken == _KEPT:
        broken = check_flit(tlps, i) if flit else check_prefix(tlps, i)
    if broken != _KEPT:
        return broken
    tlp = tlps[i]
    room = np.int64(len(pool))
    data_bytes = np.int64(tlp["data_bytes"])
    wanted = 4 * np.int64(tlp["length"]) if TRAITS[tlp["kind"]] & DATA != 0 else 0
    if data_bytes != wanted:
        return _LENGTH_DATA
    trailer = np.int64(tlp["trailer_bytes"])
    local = 4 * np.int64(tlp["local_prefixes"])
    end = 4 * np.int64(tlp["end_prefixes"])
    ide = np.int64(tlp["ide"])
    ohc_e = 0
    says = 0
    if flit:
        ts = np.int64(tlp["ts"])
        says = 12 if ts == _TS_MAC else 16 if ts == _TS_PCRC_MAC else 0
        ohc_e = 4 * ohc_e_words(np.int64(tlp["ohc"]))
        if local != 0 or end != 0:
            return _PREFIX_KIND
    else:
        if ide != 0:
            if ide >> 24 != _IDE:
                return _PREFIX_KIND
            says = _trailer_bytes(ide)
        if tlp["ohc"] != 0 or tlp["ohc_a"] != 0 or tlp["ohc_b"] != 0 or tlp["ts"] != 0:
            return _OHC
        if end // 4 + (ide != 0) > MAX_END_PREFIXES:
            return _PREFIX_COUNT
    if trailer != says:
        return _TRAILER
    if (
        _outside(np.int64(tlp["data_at"]), data_bytes, room)
        or _outside(np.int64(tlp["trailer_at"]), trailer, room)
        or _outside(np.int64(tlp["local_at"]), local, room)
        or _outside(np.int64(tlp["end_at"]), end, room)
        or _outside(np.int64(tlp["ohc_e_at"]), ohc_e, room)
    ):
        return _POOL
    for j in range(local // 4):
        if TRAITS[pool[np.int64(tlp["local_at"]) + 4 * j]] & FAMILY_MASK != LOCAL_PREFIX:
            return _PREFIX_KIND
    for j in range(end // 4):
        byte = pool[np.int64(tlp["end_at"]) + 4 * j]
        if TRAITS[byte] & FAMILY_MASK != END_PREFIX or byte == _IDE:
            return _PREFIX_KIND
    return np.int64(_KEPT)


@inline_kernel
def _trailer_bytes(ide):
    """Return the bytes of PCRC and MAC that the last byte of an IDE prefix speaks of."""
    return (_MAC if ide & _M != 0 else 0) + (_PCRC if ide & _P != 0 else 0)


@inline_kernel
def _outside(at, count, room):
    """Return whether some bytes are not all in the pool; where there are none their place does not count."""
    return count > 0 and (at < 0 or at > room - count)


@kernel
def write(tlps, pool, flit, offsets, data):
    """Write all TLPs, each at its offset. Modified in place: data, u1[:]. The TLPs keep the rules."""
    for i in range(np.int64(len(tlps))):
        at = offsets[i]
        tlp = tlps[i]
        kind = np.int64(tlp["kind"])
        size = header_bytes(kind)
        if flit:
            at += encode_flit(tlps, i, ohc_of(tlps, i), data, at, size, pool)
        else:
            at = _copy(pool, np.int64(tlp["local_at"]), 4 * np.int64(tlp["local_prefixes"]), data, at)
            if tlp["ide"] != 0:
                put_word(data, at, np.int64(tlp["ide"]))
                at += 4
            at = _copy(pool, np.int64(tlp["end_at"]), 4 * np.int64(tlp["end_prefixes"]), data, at)
            encode(tlps, i, data, at)
            at += size
        at = _copy(pool, np.int64(tlp["data_at"]), np.int64(tlp["data_bytes"]), data, at)
        if tlp["td"] != 0:
            ecrc = np.int64(tlp["ecrc"])
            for j in range(4):
                data[at + j] = (ecrc >> 8 * j) & 0xFF
            at += 4
        _copy(pool, np.int64(tlp["trailer_at"]), np.int64(tlp["trailer_bytes"]), data, at)


@inline_kernel
def _copy(source, s, count, target, t):
    """Copy bytes; return the place behind them."""
    if count > 0:
        copy(target, t, source, s, count)
    return t + count
