"""TLPs as devices make them: writes, reads, completions of reads, messages.

Rule: what is built keeps the rules of the codec, is cut where `split` cuts, and takes the bytes that `size`
counts. Bytes that a byte enable switches off are 0.

Zero-length requests are the standard's: one DW without a byte enabled (PCIe Base r6.x, section 2.2.5).

In flit mode a zero-length request takes an OHC word, 4 B, that `size` does not count.
"""

from typing import Any, Final

import numpy as np

from .. import spec
from .._jit import kernel
from .._jit.memory import copy
from ..errors import MisuseError
from . import kinds
from .batch import TLP, U8, Batch, as_bytes
from .header import FLIT_MESSAGE_TAG_BITS
from .size import padded_payload_bytes, request_header_bytes
from .split import completion_bytes, piece, pieces

_ADDRESSES: Final = 1 << 64
_IDS: Final = 1 << 16
# PCIe Base r6.x, section 2.2.9: Lower Address has seven bits.
_LOWER_ADDRESS: Final = 0x7F
# PCIe Base r6.x, section 2.2.6.2: tags of 10 bits, 14 in flit mode.
_TAGS: Final = 1 << 10
_FLIT_TAGS: Final = 1 << 14
_4DW: Final = spec.HEADER_4DW_BYTES
_MRD32: Final = kinds.MRD32
_MRD64: Final = kinds.MRD64
_MWR32: Final = kinds.MWR32
_MWR64: Final = kinds.MWR64
_CPLD: Final = kinds.CPLD


def memory_writes(
    address: int,
    data: bytes | U8 | int,
    *,
    mps: int,
    requester: int = 0,
    tag: int = 0,
    tc: int = 0,
    attr: int = 0,
    flit: bool = False,
) -> Batch:
    """Return the memory writes that bring some bytes to an address.

    Parameters
    ----------
    address : of the first byte.
    data : bytes or u1[:]; or how many, then they are 0.
    mps : Max_Payload_Size: 128..4096.
    requester : bus, device, function. tag : of all of them. tc : 0..7. attr : IDO << 2 | RO << 1 | NS.
    flit : for a link in flit mode.

    Raises MisuseError for what no request can carry.
    """
    content = np.zeros(data, np.uint8) if isinstance(data, int) and data >= 0 else data
    if isinstance(content, int):
        raise MisuseError(f"size {content}, expected 0 or more")
    content = as_bytes(content)
    _check_span(address, len(content))
    _check_size("mps", mps)
    common = _common(requester=requester, tag=tag, tc=tc, attr=attr, flit=flit)
    return _requests(address, len(content), mps, content, common, flit)


def memory_reads(
    address: int,
    size: int,
    *,
    mrrs: int,
    requester: int = 0,
    first_tag: int = 0,
    tc: int = 0,
    attr: int = 0,
    flit: bool = False,
) -> Batch:
    """Return the memory reads that ask for some bytes.

    Parameters
    ----------
    mrrs : Max_Read_Request_Size: 128..4096.
    first_tag : of the first request; the next ones count up, and begin at 0 again behind the last tag.

    The other parameters, and what is raised, are as for `memory_writes`.
    """
    _check_span(address, size)
    _check_size("mrrs", mrrs)
    batch = _requests(
        address,
        size,
        mrrs,
        None,
        _common(requester=requester, tag=first_tag, tc=tc, attr=attr, flit=flit),
        flit,
    )
    batch.tlps["tag"] = (first_tag + np.arange(len(batch))) % (_FLIT_TAGS if flit else _TAGS)
    return batch


def completions(
    address: int,
    size: int,
    *,
    rcb: int,
    limit: int,
    requester: int = 0,
    completer: int = 0,
    tag: int = 0,
    data: bytes | U8 | None = None,
    tc: int = 0,
    attr: int = 0,
    flit: bool = False,
) -> Batch:
    """Return all completions of one memory read, which brought `size` bytes from `address`.

    Parameters
    ----------
    rcb : Read Completion Boundary: 64 or 128.
    limit : most payload of one completion, bytes: whole DW, rcb..4096 (Max_Payload_Size, or less).
    requester, tag, tc, attr : of the request.
    completer : bus, device, function.
    data : `size` bytes or u1[size]; None for zeros.

    Raises MisuseError for what no request asks for: more than 4096 bytes, or bytes across a 4 KiB boundary.
    """
    _check_span(address, size)
    if address % spec.REQUEST_BOUNDARY + size > spec.REQUEST_BOUNDARY:
        raise MisuseError(f"{size} B at {address:#x}: no read request crosses a 4 KiB boundary")
    if rcb not in spec.READ_COMPLETION_BOUNDARIES:
        raise MisuseError(f"rcb {rcb}, expected one of {spec.READ_COMPLETION_BOUNDARIES}")
    if limit % spec.DW_BYTES or not rcb <= limit <= spec.REQUEST_BOUNDARY:
        raise MisuseError(f"limit {limit}, expected whole DW, {rcb}..{spec.REQUEST_BOUNDARY}")
    content = np.zeros(size, np.uint8) if data is None else as_bytes(data)
    if len(content) != size:
        raise MisuseError(f"data of {len(content)} B, expected {size}")
    common = _common(requester=requester, completer=completer, tag=tag, tc=tc, attr=attr, flit=flit)
    if size == 0:
        # The answer to a zero-length read: one DW, of which one byte counts.
        tlps = _rows(1, common)
        tlps["kind"], tlps["length"], tlps["data_bytes"], tlps["byte_count"] = _CPLD, 1, 4, 1
        tlps["lower_address"] = address & _LOWER_ADDRESS & ~3
        return Batch(tlps, np.zeros(4, np.uint8), flit)
    # All but the first and the last are whole boundaries.
    tlps = _rows(size // rcb + 2, common)
    pool = np.zeros(size + 4 * len(tlps), np.uint8)
    count = int(_put_completions(address % spec.REQUEST_BOUNDARY, size, rcb, limit, content, tlps, pool))
    return Batch(tlps[:count], pool, flit)


def message(
    code: int,
    routing: int,
    *,
    dw2: int = 0,
    dw3: int = 0,
    data: bytes | U8 | None = None,
    requester: int = 0,
    tag: int = 0,
    tc: int = 0,
    attr: int = 0,
    flit: bool = False,
) -> Batch:
    """Return one message.

    Parameters
    ----------
    code : message code, 0..255.
    routing : 0..5 (`kinds.ROUTINGS`).
    dw2, dw3 : DW 2 and 3 of the header; with routing by ID the destination stands in bits 31:16 of DW 2.
    data : whole DW, 4..4096 bytes; None for a message without data.
    tag : in flit mode the seven bits beside the code.

    Raises MisuseError for what no message can carry.
    """
    if not 0 <= routing < len(kinds.ROUTINGS):
        raise MisuseError(f"routing {routing}, expected 0..{len(kinds.ROUTINGS) - 1}")
    if not 0 <= code <= 0xFF or not 0 <= dw2 <= 0xFFFFFFFF or not 0 <= dw3 <= 0xFFFFFFFF:
        raise MisuseError(f"code {code}, dw2 {dw2}, dw3 {dw3}: expected 8, 32 and 32 bits")
    content = as_bytes(b"" if data is None else data)
    if data is not None and (len(content) % spec.DW_BYTES or not 4 <= len(content) <= spec.REQUEST_BOUNDARY):
        raise MisuseError(f"data of {len(content)} B, expected whole DW, 4..{spec.REQUEST_BOUNDARY} B")
    if flit and tag >> FLIT_MESSAGE_TAG_BITS:
        raise MisuseError(f"tag {tag}, expected {FLIT_MESSAGE_TAG_BITS} bits beside the code")
    tlps = _rows(1, _common(requester=requester, tag=tag, tc=tc, attr=attr, flit=flit))
    tlps["kind"] = (kinds.MSG if data is None else kinds.MSGD) + routing
    tlps["code"], tlps["dw2"], tlps["dw3"] = code, dw2, dw3
    tlps["length"], tlps["data_bytes"] = len(content) // spec.DW_BYTES, len(content)
    return Batch(tlps, content.copy(), flit)


# --- Checks -----------------------------------------------------------------------------------------------


def _check_span(address: int, size: int) -> None:
    if size < 0 or not 0 <= address <= _ADDRESSES - max(size, 1):
        raise MisuseError(f"{size} B at {address:#x}, expected 0 or more within 64 bits of address")


def _check_size(name: str, value: int) -> None:
    if value not in spec.PAYLOAD_SIZES:
        raise MisuseError(f"{name} {value}, expected one of {spec.PAYLOAD_SIZES}")


def _common(*, flit: bool, **fields: int) -> dict[str, int]:
    """Return the fields that all TLPs of a train share. Raises MisuseError where one does not fit."""
    limits = {"requester": _IDS, "completer": _IDS, "tc": 8, "attr": 8, "tag": _FLIT_TAGS if flit else _TAGS}
    for name, value in fields.items():
        if not 0 <= value < limits[name]:
            raise MisuseError(f"{name} {value}, expected 0..{limits[name] - 1}")
    return fields


def _rows(count: int, common: dict[str, int]) -> np.ndarray[Any, np.dtype[np.void]]:
    tlps = np.zeros(count, TLP)
    for name, value in common.items():
        tlps[name] = value
    return tlps


# --- Trains -----------------------------------------------------------------------------------------------


def _requests(
    address: int, size: int, boundary: int, data: U8 | None, common: dict[str, int], flit: bool
) -> Batch:
    """Return the requests of a transfer, cut at multiples of `boundary`; with data they are writes."""
    count = int(pieces(address % spec.REQUEST_BOUNDARY, size, boundary)) if size > 0 else 1
    tlps = _rows(count, common)
    writes = data is not None
    content = np.zeros(0, np.uint8) if data is None else data
    # Both ends of every piece but two are aligned.
    pool = np.zeros(size + 4 * min(count, 2) + 4 if writes else 0, np.uint8)
    offset = address % spec.REQUEST_BOUNDARY
    _put_requests(np.uint64(address - offset), offset, size, boundary, writes, content, tlps, pool)
    return Batch(tlps, pool, flit)


@kernel
def _put_requests(
    page: np.uint64, offset: int, size: int, boundary: int, writes: bool, data: U8, tlps: Any, pool: U8
) -> None:
    """Fill the rows of a train of requests. Modified in place: tlps, pool u1[:], zeros.

    Parameters
    ----------
    page, offset : of the first byte's address. Cuts count from the page, so that they are small numbers.
    """
    place = 0
    for i in range(len(tlps)):
        low, count = offset, 0
        if size > 0:
            low, count = piece(offset, size, boundary, i)
        padded = max(padded_payload_bytes(low, count), spec.DW_BYTES)
        at = page + np.uint64(low)
        wide = request_header_bytes(int(at)) == _4DW
        # Byte k of the train is enabled in a DW from its first byte on, and up to its last.
        skipped = low & 3
        spare = padded - skipped - count
        first = (0xF << skipped) & 0xF
        last = 0xF >> spare if count > 0 else 0
        tlps[i]["kind"] = (_MWR64 if wide else _MWR32) if writes else (_MRD64 if wide else _MRD32)
        tlps[i]["address"] = at & ~np.uint64(3)
        tlps[i]["length"] = padded >> 2
        tlps[i]["first_be"] = first if padded > 4 else first & last
        tlps[i]["last_be"] = last if padded > 4 else 0
        if writes:
            tlps[i]["data_at"] = place
            tlps[i]["data_bytes"] = padded
            copy(pool, place + skipped, data, low - offset, count)
            place += padded


@kernel
def _put_completions(start: int, size: int, boundary: int, limit: int, data: U8, tlps: Any, pool: U8) -> int:
    """Fill the rows of all completions of a request; return how many.

    Parameters
    ----------
    start : where in its page the request begins.
    tlps, pool : zeros. Modified in place.
    """
    low = start
    rest = size
    place = 0
    i = 0
    while rest > 0:
        count = completion_bytes(low, rest, limit, boundary)
        padded = padded_payload_bytes(low, count)
        tlps[i]["kind"] = _CPLD
        tlps[i]["length"] = padded >> 2
        tlps[i]["byte_count"] = rest
        tlps[i]["lower_address"] = low & _LOWER_ADDRESS
        tlps[i]["data_at"] = place
        tlps[i]["data_bytes"] = padded
        copy(pool, place + (low & 3), data, low - start, count)
        place += padded
        low += count
        rest -= count
        i += 1
    return i
