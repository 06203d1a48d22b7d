"""Partial header encryption: which header bits leave the clear, and how they travel.

Rule: every header bit is either in A (authenticated, in the clear) or in P' (encrypted), never in both; a
receiver can tell which from A alone. Arrays are u1, offsets and sizes are bytes.

PCIe Base r6.x, section 6.33.4 (partial header encryption). Memory requests only, AtomicOps and DMWr included.
P' = [byte-enable byte] [address bytes, high to low] [payload]. Let W be the last 4 (3 DW header) or 8 bytes
(4 DW) of the header base, as a big-endian number: the address, whose two lowest bits are not address bits
(PH; whatever flit mode keeps there stays clear too). A mode hides bits [8n + 1 : 2] of W:

| mode | hidden | n | left of W in A, 4 DW | left of W in A, 3 DW |
|---|---|---|---|---|
| 0 | nothing | 0 | [63:0], 8 B | [31:0], 4 B |
| 1 | [17:2] as [17:10] [9:2] | 2 | [63:18] [1:0], 6 B | [31:18] [1:0], 2 B |
| 2 | [25:2] as [25:18] [17:10] [9:2] | 3 | [63:26] [1:0], 5 B | [31:26] [1:0], 1 B |
| 3 | [33:2] as [33:26] ... [9:2] | 4 | [63:34] [1:0], 4 B | as mode 2 |
| 4 | [41:2] as [41:34] ... [9:2] | 5 | [63:42] [1:0], 3 B | as mode 2 |

The byte-enable byte (LastBE, FirstBE) is hidden along with the address, except:

| | where it stands | in the clear if |
|---|---|---|
| non-flit | header byte 7 | AtomicOp; AT = 01; TH = 1 on MRd, MRdLk, DMWr, where it is a tag |
| flit | byte 3 of the first OHC word | never: it is absent where there is no OHC-A1 |

Hidden bits are removed from A, not zeroed, and what stays moves together without gaps. A's bytes are then
header bytes 0..6, byte 7 unless hidden, W's remaining high bits with its two lowest at their end, and (flit)
the OHC words without the hidden byte. On the wire the encrypted bits stand where the plain ones stood.
For the PCRC the header part of P' is padded with zeros in front to `PCRC_HEADER_BYTES`.

Unsure: the packing of what stays (the standard shows it in figures 6-75 to 6-78 only), a 3 DW header under
modes 3 and 4 (the standard says nothing), MRdLk with TH = 1.

The identity behind the kernels: W >> 2 moves every address byte over two header bytes, so with `end` the end
of W, hidden byte k of n is (b[end-n-1+k] & 3) << 6 | b[end-n+k] >> 2; the last byte of W's rest is
(b[end-n-1] & 0xFC) | (b[end-1] & 3), and the bytes before it stay whole.
"""

from typing import Final

import numpy as np

from .. import spec
from .._jit import inline_kernel, kernel

# PCIe Base r6.x, section 6.33.4: for the PCRC the header part counts as 64 bits, zeros in the highest.
PCRC_HEADER_BYTES: Final = 8
# PCIe Base r6.x, section 7.9.26.5.2: Partial Header Encryption Mode, bits 13:10; 0 is off.
MODES: Final = (0, 1, 2, 3, 4)
# Most bytes that leave one header: the byte-enable byte and five of the address.
MAX_HIDDEN_BYTES: Final = 6

# Unsure: the mode that modes 3 and 4 act as on a 3 DW header, which has no address bits beyond 31.
_LAST_MODE_3DW: Final = 2

# PCIe Base r6.x, section 2.2.1: Fmt[0] says 4 DW; memory requests by the rest of the byte.
_FOUR_DW: Final = 0x20
_FORM: Final = 0xDF
_READ: Final = 0x00
_READ_LOCKED: Final = 0x01
_WRITE: Final = 0x40
_FETCH_ADD: Final = 0x4C
_CAS: Final = 0x4E
_DEFERRABLE_WRITE: Final = 0x5B
# PCIe Base r6.x, section 2.2.1: TH is bit 0 of byte 1, AT bits 3:2 of byte 2.
_TH: Final = 0x01
_AT: Final = 0x0C
_AT_TRANSLATION_REQUEST: Final = 0x04
# PCIe Base r6.x, section 2.2.4.1: last and first DW byte enables.
_BE_AT: Final = 7
# PCIe Base r6.x, section 2.2.1.2: in flit mode OHC-A follows the header base; the last byte of OHC-A1 has the
# enables.
_OHC_BE: Final = 3
_HEADER_3DW: Final = spec.HEADER_3DW_BYTES
_HEADER_4DW: Final = spec.HEADER_4DW_BYTES


@inline_kernel
def _address_bytes(kind: int, mode: int) -> int:
    """Return how many bytes of the address move into P': 0 unless a memory request under a mode."""
    form = kind & _FORM
    memory = form in (_READ, _READ_LOCKED, _WRITE, _DEFERRABLE_WRITE) or _FETCH_ADD <= form <= _CAS
    if mode == 0 or not memory:
        return 0
    if kind & _FOUR_DW == 0 and mode > _LAST_MODE_3DW:
        return _LAST_MODE_3DW + 1
    return mode + 1


@inline_kernel
def _hides_enables(data: np.ndarray, header_at: int, kind: int, flit: bool, ohc_a1: bool) -> bool:
    """Return whether the byte-enable byte of a memory request under a mode moves into P'."""
    if flit:
        return ohc_a1
    form = kind & _FORM
    if _FETCH_ADD <= form <= _CAS or int(data[header_at + 2]) & _AT == _AT_TRANSLATION_REQUEST:
        return False
    tagged = form in (_READ, _READ_LOCKED, _DEFERRABLE_WRITE)
    return not (tagged and int(data[header_at + 1]) & _TH != 0)


@inline_kernel
def _base_bytes(kind: int) -> int:
    """Return the bytes of a memory request's header without OHC words: 12 or 16."""
    return _HEADER_4DW if kind & _FOUR_DW != 0 else _HEADER_3DW


@inline_kernel
def _enables_at(kind: int, flit: bool) -> int:
    """Return where the byte-enable byte stands, from the header's start."""
    return _base_bytes(kind) + _OHC_BE if flit else _BE_AT


@kernel
def hidden_bytes(
    data: np.ndarray, header_at: int, kind: int, mode: int, flit: bool = False, ohc_a1: bool = False
) -> int:
    """Return how many bytes of a header move into P', 0 to 6.

    Parameters
    ----------
    data : u1[:]; the header starts at header_at. Only its first DW is read, which is never encrypted, so both
        ends and A itself give the same answer.
    kind : byte 0 of the non-flit header of this TLP, 0..255.
    mode : 0..4.
    flit : the header is a flit-mode one.
    ohc_a1 : flit mode: the TLP has OHC-A1, that is a memory request with an OHC-A.
    """
    address = _address_bytes(kind, mode)
    if address == 0:
        return 0
    return address + (1 if _hides_enables(data, header_at, kind, flit, ohc_a1) else 0)


@kernel
def hide(
    data: np.ndarray,
    header_at: int,
    header_bytes: int,
    kind: int,
    mode: int,
    flit: bool,
    ohc_a1: bool,
    aad: np.ndarray,
    aad_at: int,
    text: np.ndarray,
    text_at: int,
) -> tuple[int, int]:
    """Split a header into A and the header part of P'; return (bytes of A, bytes of P').

    For the sender the header is plain and P' still to be encrypted; for the receiver it is off the wire and
    P' is ciphertext. A header of which nothing is hidden goes to A whole.

    Parameters
    ----------
    data : u1[:]; the header is data[header_at : header_at + header_bytes], flit mode with all OHC words.
    kind, mode, flit, ohc_a1 : as in `hidden_bytes`.
    aad : u1[:], written from aad_at on, header_bytes less the bytes of P'. Modified in place.
    text : u1[:], written from text_at on, 0 to 6 bytes. Modified in place. May not overlap data.
    """
    n = _address_bytes(kind, mode)
    if n == 0:
        for i in range(header_bytes):
            aad[aad_at + i] = data[header_at + i]
        return header_bytes, 0
    end = header_at + _base_bytes(kind)
    enables_at = -1
    t = text_at
    if _hides_enables(data, header_at, kind, flit, ohc_a1):
        enables_at = header_at + _enables_at(kind, flit)
        text[t] = data[enables_at]
        t += 1
    for k in range(n):
        # Bounds: n <= 3 of the 4 address bytes, n <= 5 of 8, so byte end - n - 1 is one of them.
        text[t + k] = ((int(data[end - n - 1 + k]) & 0x03) << 6) | (int(data[end - n + k]) >> 2)
    a = aad_at
    for i in range(header_at, end - n - 1):
        if i != enables_at:
            aad[a] = data[i]
            a += 1
    aad[a] = (int(data[end - n - 1]) & 0xFC) | (int(data[end - 1]) & 0x03)
    a += 1
    for i in range(end, header_at + header_bytes):
        if i != enables_at:
            aad[a] = data[i]
            a += 1
    return a - aad_at, t + n - text_at


@kernel
def put(
    data: np.ndarray,
    header_at: int,
    kind: int,
    mode: int,
    flit: bool,
    ohc_a1: bool,
    text: np.ndarray,
    text_at: int,
) -> int:
    """Write the header part of P', plain or encrypted, over its bits in a header; return its bytes.

    Parameters
    ----------
    data : u1[:]; the header starts at header_at. Only hidden bits change. Modified in place.
    kind, mode, flit, ohc_a1 : as in `hidden_bytes`.
    text : u1[:], read from text_at on. May not overlap the header.
    """
    n = _address_bytes(kind, mode)
    if n == 0:
        return 0
    end = header_at + _base_bytes(kind)
    t = text_at
    if _hides_enables(data, header_at, kind, flit, ohc_a1):
        data[header_at + _enables_at(kind, flit)] = text[t]
        t += 1
    for k in range(n):
        byte = int(text[t + k])
        i = end - n - 1 + k
        data[i] = (int(data[i]) & 0xFC) | (byte >> 6)
        data[i + 1] = ((byte & 0x3F) << 2) | (int(data[i + 1]) & 0x03)
    return t + n - text_at


@kernel
def recover(
    aad: np.ndarray,
    aad_at: int,
    aad_bytes: int,
    text: np.ndarray,
    text_at: int,
    kind: int,
    mode: int,
    flit: bool,
    ohc_a1: bool,
    data: np.ndarray,
    header_at: int,
) -> int:
    """Rebuild a header from A and the header part of P'; return its bytes. The reverse of `hide`.

    Parameters
    ----------
    aad : u1[:]; this header's part of A is aad[aad_at : aad_at + aad_bytes].
    text : u1[:], read from text_at on.
    kind, mode, flit, ohc_a1 : as in `hidden_bytes`.
    data : u1[:], written from header_at on, aad_bytes and up to 6 bytes more. Modified in place. May not
        overlap aad or text.
    """
    n = _address_bytes(kind, mode)
    if n == 0:
        for i in range(aad_bytes):
            data[header_at + i] = aad[aad_at + i]
        return aad_bytes
    end = header_at + _base_bytes(kind)
    hidden = n
    enables_at = -1
    if _hides_enables(aad, aad_at, kind, flit, ohc_a1):
        enables_at = header_at + _enables_at(kind, flit)
        hidden += 1
    a = aad_at
    for i in range(header_at, end - n):
        if i != enables_at:
            data[i] = aad[a]
            a += 1
    # The last byte of W's rest holds two bits that stand at W's end; `put` fills the bits between.
    data[end - 1] = aad[a - 1]
    for i in range(end, header_at + aad_bytes + hidden):
        if i != enables_at:
            data[i] = aad[a]
            a += 1
    put(data, header_at, kind, mode, flit, ohc_a1, text, text_at)
    return aad_bytes + hidden
