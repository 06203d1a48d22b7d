"""Where the parts of a received TLP are, read from bytes that may be hostile.

Rule: no byte outside data[start:end] is read, and every answer is checked against `end`. Whether the parts
make sense is `plan_open`'s to say, and after that the codec's.
"""

from typing import Final

import numpy as np

from .. import spec
from .._jit import inline_kernel, kernel
from ..tlp.flit import OHC_A, OHC_B, OHC_C, kind_of, ohc_words
from ..tlp.kinds import ATOMIC, FAMILY_MASK, LOCAL_PREFIX, MEMORY, NONE, TRAITS
from .prefix import flag_of, sub_stream_of_word

_DW: Final = spec.DW_BYTES
_HEADER_3DW: Final = spec.HEADER_3DW_BYTES
_HEADER_4DW: Final = spec.HEADER_4DW_BYTES
_IDE: Final = spec.IDE_PREFIX
_MAC_BYTES: Final = spec.IDE_MAC_BYTES
_PCRC_BYTES: Final = spec.IDE_PCRC_BYTES
_NO_SUB_STREAM: Final = spec.IDE_NO_SUB_STREAM
_P: Final = spec.IDE_P
_M: Final = spec.IDE_M
_TS_NONE: Final = spec.TS_NONE
_TS_ECRC: Final = spec.TS_ECRC
_TS_MAC: Final = spec.TS_MAC
_TS_PCRC_MAC: Final = spec.TS_PCRC_MAC
# PCIe Base r6.x, section 2.2.1: Fmt is bits 7:5 of byte 0: 100b a prefix, bit 5 four DW, bit 6 with data.
_FMT: Final = 0xE0
_FMT_PREFIX: Final = 0x80
_FMT_4DW: Final = 0x20
_FMT_DATA: Final = 0x40
# PCIe Base r6.x, section 2.2.10: a prefix is local or, with this bit, End-End.
_END_END: Final = 0x10
# PCIe Base r6.x, section 2.2.1: TD is bit 7 of byte 2; Length is the last 10 bits of DW 0, 0 for 1024.
_TD: Final = 0x80
_LENGTH_HIGH: Final = 0x03
_MAX_DW: Final = 1024
# PCIe Base r6.x, section 2.2.1: TC, bits 22:20 of DW 0; in flit mode bits 23:21, beside OHC. TS: 15:13.
_TC_SHIFT: Final = 4
_FLIT_TC_SHIFT: Final = 5
_TC_MASK: Final = 0x07
_OHC_MASK: Final = 0x1F
_TS_SHIFT: Final = 5


@inline_kernel
def find(data: np.ndarray, start: int, end: int, flit: bool) -> tuple[int, int, int, int, int, bool]:
    """Find the parts of a TLP that come before its payload.

    Parameters
    ----------
    data : u1[:]. start, end : of the TLP, bytes.

    Returns
    -------
    ide : the IDE prefix, or OHC-C of an IDE TLP; -1 if it has none.
    first : the first End-End prefix; the header if there is none.
    header : where the header is. size : its bytes, with OHC words; -1 if it is not all there, or is none.
    kind : byte 0 of the non-flit header of this kind, 0xFF for none.
    placed : the IDE prefix is the only one, and the first of the End-End prefixes.
    """
    if flit:
        ide, size, kind = _find_flit(data, start, end)
        return ide, start, start, size, kind, True
    ide = -1
    first = -1
    placed = True
    at = start
    while at + _DW <= end and int(data[at]) & _FMT == _FMT_PREFIX:
        byte = int(data[at])
        if byte & _END_END != 0:
            if byte == _IDE:
                placed = placed and first < 0
                ide = at if ide < 0 else ide
            if first < 0:
                first = at
        elif first >= 0:
            # A local prefix behind an End-End one.
            placed = False
        at += _DW
    first = at if first < 0 else first
    if at >= end or int(data[at]) & _FMT >= _FMT_PREFIX:
        return ide, first, at, -1, 0xFF, placed
    kind = int(data[at])
    size = _HEADER_4DW if kind & _FMT_4DW != 0 else _HEADER_3DW
    return ide, first, at, size if at + size <= end else -1, kind, placed


@kernel
def _find_flit(data: np.ndarray, start: int, end: int) -> tuple[int, int, int]:
    """Return (OHC-C of an IDE TLP or -1, bytes of the header with OHC words or -1, kind) in flit mode."""
    if start + _DW > end:
        return -1, -1, 0xFF
    kind = int(kind_of(int(data[start])))
    family = int(TRAITS[kind]) & FAMILY_MASK
    if family == NONE or family >= LOCAL_PREFIX:
        return -1, -1, 0xFF
    base = _HEADER_4DW if kind & _FMT_4DW != 0 else _HEADER_3DW
    ohc = int(data[start + 1]) & _OHC_MASK
    size = base + _DW * int(ohc_words(ohc))
    ide = start + base + ohc_c_at(ohc)
    # OHC-C may be there though a word behind it is not.
    if ohc & OHC_C == 0 or ide + _DW > end or sub_stream_of_word(data, ide) == _NO_SUB_STREAM:
        ide = -1
    return ide, size if start + size <= end else -1, kind


@inline_kernel
def ohc_c_at(ohc: int) -> int:
    """Return where OHC-C stands, or would stand, behind the header base: words A, B, C, E in that order."""
    return _DW * ((1 if ohc & OHC_A != 0 else 0) + (1 if ohc & OHC_B != 0 else 0))


@inline_kernel
def has_ohc_a1(data: np.ndarray, header: int, kind: int) -> bool:
    """Return whether a flit-mode header has the OHC word that holds byte enables of a memory request."""
    memory = int(TRAITS[kind]) & FAMILY_MASK in (MEMORY, ATOMIC)
    return memory and int(data[header + 1]) & OHC_A != 0


@inline_kernel
def payload_size(data: np.ndarray, header: int, kind: int) -> int:
    """Return the bytes of payload that a header speaks of."""
    if kind & _FMT_DATA == 0:
        return 0
    length = (int(data[header + 2]) & _LENGTH_HIGH) << 8 | int(data[header + 3])
    return _DW * (length if length > 0 else _MAX_DW)


@inline_kernel
def traffic_class(data: np.ndarray, header: int, flit: bool) -> int:
    """Return the traffic class of a header."""
    return int(data[header + 1]) >> (_FLIT_TC_SHIFT if flit else _TC_SHIFT) & _TC_MASK


@inline_kernel
def has_digest(data: np.ndarray, header: int, flit: bool) -> bool:
    """Return whether a header speaks of an ECRC: TD, or in flit mode TS."""
    if flit:
        return int(data[header + 2]) >> _TS_SHIFT == _TS_ECRC
    return int(data[header + 2]) & _TD != 0


@inline_kernel
def trailer_flags(data: np.ndarray, ide: int, header: int, flit: bool) -> tuple[int, int]:
    """Return (M, P) of an IDE TLP: whether a MAC, and a PCRC before it, follow the payload."""
    if flit:
        ts = int(data[header + 2]) >> _TS_SHIFT
        return 1 if ts in (_TS_MAC, _TS_PCRC_MAC) else 0, 1 if ts == _TS_PCRC_MAC else 0
    return flag_of(data, ide, _M), flag_of(data, ide, _P)


@inline_kernel
def trailer_bytes(m: int, p: int) -> int:
    """Return the bytes behind the payload that M and P speak of, also where a sender breaks their rules."""
    return m * _MAC_BYTES + p * _PCRC_BYTES


@inline_kernel
def put_trailer_flags(data: np.ndarray, header: int, m: int, p: int) -> None:
    """Have the header of a flit-mode IDE TLP speak of OHC-C and of its trailer.  Modified in place: data."""
    ts = _TS_NONE if m == 0 else _TS_PCRC_MAC if p != 0 else _TS_MAC
    data[header + 1] = int(data[header + 1]) | OHC_C
    data[header + 2] = int(data[header + 2]) & _OHC_MASK | ts << _TS_SHIFT


@inline_kernel
def clear_trailer_flags(data: np.ndarray, header: int) -> None:
    """Have the header of a flit-mode TLP speak of neither OHC-C nor a trailer.  Modified in place: data."""
    data[header + 1] = int(data[header + 1]) & ~OHC_C & 0xFF
    data[header + 2] = int(data[header + 2]) & _OHC_MASK


@kernel
def delimit(data: np.ndarray, start: int, stop: int, flit: bool, offsets: np.ndarray) -> int:
    """Cut bytes into TLPs, each as long as its header says; return how many. The last takes what is left.

    Parameters
    ----------
    data : u1[:]; the TLPs are data[start:stop].
    offsets : i8[:], two more than headers of 3 DW fit in. Modified in place.
    """
    count = 0
    at = start
    offsets[0] = at
    while at < stop:
        ide, _, header, size, kind, _ = find(data, at, stop, flit)
        end = stop
        if size > 0:
            trailer = _DW if has_digest(data, header, flit) else 0
            if ide >= 0:
                m, p = trailer_flags(data, ide, header, flit)
                trailer = trailer_bytes(m, p)
            end = min(stop, header + size + payload_size(data, header, kind) + trailer)
        count += 1
        offsets[count] = end
        at = end
    return count
