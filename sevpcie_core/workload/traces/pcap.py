"""Packet captures in the classic pcap format, as frames of one network adapter.

File: 24-byte header, then per packet 16 bytes (seconds, fraction, captured length, original length) and the
captured bytes; the magic number gives byte order and the fraction's unit. Source: draft-ietf-opsawg-pcap,
sections 4 and 5. Link types, sizes and directions: `packets`.

Malformed records are skipped where asked, except behind a captured length that cannot be or a record that
the file cuts off: nothing says where the next one begins, so reading ends there.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from ..._jit import kernel
from ...errors import FormatError
from .bad import Bad
from .ends import no_end
from .packets import (
    ANY,
    ETHERNET,
    ETHERNET_HEADER,
    LINK_HEADERS,
    MAX_PACKET,
    OTHER,
    ROOM,
    Window,
    direction,
    word32,
)
from .packets import parse_local as parse_local
from .records import NIC_DTYPE, Records
from .source import MAX_CLOCK_PS, opened, span_problem

MAGICS: dict[bytes, tuple[str, int]] = {
    b"\xd4\xc3\xb2\xa1": ("<", 10**6),
    b"\xa1\xb2\xc3\xd4": (">", 10**6),
    b"\x4d\x3c\xb2\xa1": ("<", 10**3),
    b"\xa1\xb2\x3c\x4d": (">", 10**3),
}
"""First four bytes: byte order for struct, picoseconds per unit of the fraction."""

_FILE_HEADER: Final = 24
_RECORD_HEADER: Final = 16
_CHUNK = 1 << 22
"""Bytes looked at together, beside room for one record."""
_LONGEST: Final = _RECORD_HEADER + MAX_PACKET
_SECOND_PS: Final = 10**12
_MAX_CLOCK_S: Final = MAX_CLOCK_PS // _SECOND_PS

# Why `_walk` stopped.
_ROOM_ENDS: Final = 0
_DATA_ENDS: Final = 1
_MALFORMED: Final = 2


@dataclass(frozen=True, slots=True)
class _Format:
    """What the file header says."""

    order: str
    fraction_ps: int
    link_header: int
    ethernet: bool
    fcs: int
    """Bytes of frame check sequence in every length."""


def _file_header(path: Path, data: bytes) -> _Format:
    if data[:4] not in MAGICS:
        raise FormatError(f"{path}: offset 0: magic {data[:4].hex()}; expected a pcap file")
    if len(data) < _FILE_HEADER:
        raise FormatError(
            f"{path}: offset 0: {len(data)} bytes; expected the {_FILE_HEADER}-byte pcap header"
        )
    order, fraction_ps = MAGICS[data[:4]]
    major, minor = struct.unpack_from(order + "HH", data, 4)
    if major != 2:
        raise FormatError(f"{path}: offset 4: pcap version {major}.{minor}; expected 2.4")
    (network,) = struct.unpack_from(order + "I", data, 20)
    link_type = network & 0xFFFF
    if link_type not in LINK_HEADERS:
        known = ", ".join(str(number) for number in sorted(LINK_HEADERS))
        raise FormatError(
            f"{path}: offset 20: link type {link_type}; expected one of {known} (1 is Ethernet)"
        )
    # Section 4: bit 26 says that bits 28 to 31 hold the length of the FCS in units of 16 bits.
    fcs = 2 * (network >> 28) if network & 0x0400_0000 else 0
    return _Format(order, fraction_ps, LINK_HEADERS[link_type], link_type == ETHERNET, fcs)


@kernel
def _walk(data, at, end, big, fraction_ps, link_header, ethernet, extra, epoch, local, frames, places, out):
    """Decode the records that lie complete in data[at:end].

    Parameters
    ----------
    big : byte order. fraction_ps : ps per unit of the fraction.
    link_header, ethernet, local : as `direction`.
    extra : bytes to add to a length for that on an Ethernet. epoch : second that is time 0, -1: the first.
    frames : NIC_DTYPE[room], set. places : int64[room], set: where in data each begins.
    out : int64[4], set: frames; records seen; where the next record begins; epoch.

    Returns
    -------
    _ROOM_ENDS, _DATA_ENDS or _MALFORMED: then a record that cannot be begins at out[2].
    """
    units = _SECOND_PS // fraction_ps
    count = 0
    seen = 0
    why = _DATA_ENDS
    while at + _RECORD_HEADER <= end:
        if count == frames.size:
            why = _ROOM_ENDS
            break
        seconds = word32(data, at, big)
        fraction = word32(data, at + 4, big)
        captured = word32(data, at + 8, big)
        original = word32(data, at + 12, big)
        if captured > MAX_PACKET:
            why = _MALFORMED
            break
        start = at + _RECORD_HEADER
        if start + captured > end:
            break
        if fraction >= units or captured > original or original < 1 or original > MAX_PACKET:
            why = _MALFORMED
            break
        if epoch < 0:
            epoch = seconds
        if abs(seconds - epoch) >= _MAX_CLOCK_S:
            why = _MALFORMED
            break
        seen += 1
        way = direction(data, start, start + captured, link_header, ethernet, local)
        if way != OTHER:
            frames[count]["t_ps"] = (seconds - epoch) * _SECOND_PS + fraction * fraction_ps
            frames[count]["bytes"] = max(original + extra, 1)
            frames[count]["direction"] = way
            places[count] = at
            count += 1
        at = start + captured
    out[0] = count
    out[1] = seen
    out[2] = at
    out[3] = epoch
    return why


def _problem(path: Path, form: _Format, header: bytes, offset: int, epoch: int) -> tuple[str, int]:
    """Return what is wrong with a record, and its length, 0 if nobody knows it."""
    seconds, fraction, captured, original = struct.unpack(form.order + "IIII", header)
    if captured > MAX_PACKET:
        what = f"{offset + 8}: captured length {captured}; expected at most {MAX_PACKET}"
        return f"{path}: offset {what}", 0
    units = _SECOND_PS // form.fraction_ps
    if fraction >= units:
        what = f"{offset + 4}: fraction of a second {fraction}; expected less than {units}"
    elif captured > original and original:
        what = f"{offset + 8}: captured length {captured}; expected at most the original length"
    elif not 1 <= original <= MAX_PACKET:
        what = f"{offset + 12}: original length {original}; expected 1 to {MAX_PACKET}"
    else:
        what = f"{offset}: seconds: {span_problem(abs(seconds - epoch) * 1e12)}"
    return f"{path}: offset {what}", _RECORD_HEADER + captured


def batches(path: Path, bad: Bad, local: str | None = None) -> Iterator[Records]:
    """Read the frames of a capture.

    Parameters: local: this adapter, as `parse_local` reads it.
    Yields: NIC_DTYPE[n], in file order.
    Raises: FormatError: naming file, offset and field; ConfigError: `local` is malformed or matches nothing.
    """
    side = ANY if local is None else parse_local(local).row()
    places = np.empty(ROOM, np.int64)
    out = np.empty(4, np.int64)
    epoch = -1
    count = matched = 0
    with opened(path) as file:
        window = Window(file, _CHUNK + _LONGEST)
        form = _file_header(path, window.bytes(0, _FILE_HEADER))
        extra = ETHERNET_HEADER - form.link_header - form.fcs
        at = _FILE_HEADER
        while True:
            frames = np.empty(ROOM, NIC_DTYPE)
            why = _walk(
                window.data,
                at,
                window.size,
                form.order == ">",
                form.fraction_ps,
                form.link_header,
                form.ethernet,
                extra,
                epoch,
                side,
                frames,
                places,
                out,
            )
            found, seen, at, epoch = out.tolist()
            count += seen
            matched += found
            if found:
                bad.place = lambda i, base=window.base: f"{path}: offset {base + places[i]}"
                yield frames[:found]
            if why == _MALFORMED:
                message, length = _problem(
                    path, form, window.bytes(at, _RECORD_HEADER), window.base + at, epoch
                )
                bad.report(message)
                at += length
                if not length:
                    break
            elif why == _DATA_ENDS:
                if window.ended:
                    break
                window.advance(at)
                at = 0
        left = window.size - at
        if left and why == _DATA_ENDS:
            bad.report(
                f"{path}: offset {window.base + at}: record ends early, {left} bytes left; "
                "expected whole records"
            )
    if not count and not bad.count:
        raise FormatError(f"{path}: offset {_FILE_HEADER}: no packets; expected at least one")
    if count and not matched:
        raise no_end(path, local)
