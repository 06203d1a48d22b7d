"""Packet captures in the pcapng format.

File: blocks of type, length, body and the length again, a multiple of four. Section header blocks give the
byte order, interface descriptions the link type and clock of each interface, and three kinds of block hold
packets: enhanced, simple and (obsolete) packet blocks. Source: draft-ietf-opsawg-pcapng, sections 3 and 4.
Link types, and what packets hold: `packets`, `tlps`. Files hold any number of sections and interfaces.

Left out: blocks of other types; packets of interfaces with another link type. Options other than if_tsresol,
if_tsoffset and epb_flags are ignored. A simple packet block has no time: it takes that of the packet
before it.

Malformed packets are skipped where asked; behind a block whose two lengths disagree, nothing says where the
next one begins, so reading ends there.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..._jit import inline_kernel, kernel
from ...errors import FormatError
from .bad import Bad
from .frames import frames
from .packets import (
    ETHERNET,
    FRAMES,
    MAX_PACKET,
    PACKET,
    ROOM,
    UNSAID,
    Links,
    Packets,
    Window,
    word16,
    word32,
)
from .records import Records
from .source import MAX_CLOCK_PS, opened

MAGIC: Final = b"\x0a\x0d\x0d\x0a"
"""Type of a section header block, the same in both byte orders."""

# Sections 4.1 to 4.4 and A: block types.
_SECTION: Final = 0x0A0D0D0A
_INTERFACE: Final = 1
_OBSOLETE: Final = 2
_SIMPLE: Final = 3
_ENHANCED: Final = 6
# Section 4.1: byte-order magic.
_ORDERS: Final = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
# Section 3.5: option codes; 4.2, table 3.
_END_OF_OPTIONS: Final = 0
_TSRESOL: Final = 9
_TSOFFSET: Final = 14
# Section 4.3.1: flags of an enhanced packet block, and their bits that tell the direction.
_FLAGS: Final = 2
_FLAGS_BYTES: Final = 4
_DIRECTION: Final = 3
# Section 4.2: without if_tsresol times are microseconds.
_DEFAULT_TSRESOL: Final = 6

_BLOCK_HEADER: Final = 8
_LEAST: Final = 12
_SECTION_LEAST: Final = 28
_INTERFACE_LEAST: Final = 20
# Bytes before the packet: types, lengths and times; and with the length behind it.
_PACKET_AT: Final = 28
_PACKET_LEAST: Final = 32
_SIMPLE_AT: Final = 12
_SIMPLE_LEAST: Final = 16

_CAPACITY = 1 << 22
"""Bytes looked at together; a longer block of packets or options is refused, another one passed over."""
_MAX_INTERFACES: Final = 4096
_SECOND_PS: Final = 10**12
_MAX_CLOCK_S: Final = MAX_CLOCK_PS // _SECOND_PS
# Seconds of a sane clock: sums and differences of two fit in 64 bits.
_MAX_SECONDS: Final = 2**60
_FIVE_12: Final = 5**12
_HALF_WORD: Final = (1 << 20) - 1
_BITS: Final = 40
"""Binary fractions of a second are cut to so many bits, finer than a picosecond."""

# Columns of the table of interfaces.
_LINK: Final = 0  # bytes before the network layer, -1: packets are left out
_IS_ETHERNET: Final = 1
_SNAP: Final = 2  # 0: no limit
_UNITS: Final = 3  # per second
_POWER: Final = 4  # of two, -1: units are a power of ten
_OFFSET: Final = 5  # seconds
_COLUMNS: Final = 6

# Why `_walk` stopped.
_ROOM_ENDS: Final = 0
_DATA_ENDS: Final = 1
_HEADER_BLOCK: Final = 2
_LONG_BLOCK: Final = 3
_LENGTH: Final = 4
_TRAILER: Final = 5
_NO_INTERFACE: Final = 6
_CAPTURED: Final = 7
_ORIGINAL: Final = 8
_TIME: Final = 9
_SHORT: Final = 10

_ENDLESS: Final = (_LENGTH, _TRAILER)
"""Behind these nobody knows where the next block begins."""


@inline_kernel
def _fraction_ps(rest, units, power):
    """Return `rest` of `units` a second in ps, cut to a whole number.

    A power of two: rest * 10^12 / 2^power, where 10^12 is 5^12 * 2^12. With 40 bits that is
    rest * 5^12 / 2^28, and its two halves of 20 bits times 5^12 (28 bits) stay below 2^48.
    """
    if power < 0:
        if units <= _SECOND_PS:
            return rest * (_SECOND_PS // units)
        return rest // (units // _SECOND_PS)
    if power <= _BITS:
        rest <<= _BITS - power
    else:
        rest >>= power - _BITS
    return ((rest >> 20) * _FIVE_12 + (((rest & _HALF_WORD) * _FIVE_12) >> 20)) >> 8


@inline_kernel
def _way(data, at, end, big):
    """Return the direction that the options of an enhanced packet block in data[at:end] tell."""
    while at + 4 <= end:
        code = word16(data, at, big)
        size = word16(data, at + 2, big)
        if code == _END_OF_OPTIONS or at + 4 + size > end:
            break
        if code == _FLAGS and size == _FLAGS_BYTES:
            return word32(data, at + 4, big) & _DIRECTION
        at += 4 + ((size + 3) & -4)
    return np.int64(UNSAID)


@kernel
def _walk(data, at, end, capacity, big, faces, face_count, clock, rows, out):
    """Decode the blocks that lie complete in data[at:end].

    Parameters
    ----------
    capacity : longest block that data can hold. big : byte order.
    faces : int64[n, _COLUMNS], of which `face_count` are known.
    clock : int64[3], modified: second that is time 0; ps of the last packet; whether the first is known.
    rows : PACKET[room], set.
    out : int64[3], set: packets of known interfaces; where the next block begins; packets left out.

    Returns
    -------
    Why it stopped: at a block that Python handles, or that cannot be, it begins at out[1].
    """
    count = 0
    left_out = 0
    why = _DATA_ENDS
    while at + _LEAST <= end:
        if count == rows.size:
            why = _ROOM_ENDS
            break
        kind = word32(data, at, big)
        if kind == _SECTION:
            why = _HEADER_BLOCK
            break
        length = word32(data, at + 4, big)
        if length < _LEAST or length & 3:
            why = _LENGTH
            break
        if length > capacity:
            why = _LONG_BLOCK
            break
        if at + length > end:
            break
        if word32(data, at + length - 4, big) != length:
            why = _TRAILER
            break
        if kind == _INTERFACE:
            why = _HEADER_BLOCK
            break
        if kind in (_ENHANCED, _OBSOLETE, _SIMPLE):
            if length < (_SIMPLE_LEAST if kind == _SIMPLE else _PACKET_LEAST):
                why = _SHORT
                break
            which = np.int64(0)
            if kind == _ENHANCED:
                which = word32(data, at + 8, big)
            elif kind == _OBSOLETE:
                which = word16(data, at + 8, big)
            if which >= face_count:
                why = _NO_INTERFACE
                break
            if kind == _SIMPLE:
                original = word32(data, at + 8, big)
                captured = original
                if faces[which, _SNAP] > 0:
                    captured = min(captured, faces[which, _SNAP])
                start = at + _SIMPLE_AT
                # Padded to four bytes: what is missing is no packet.
                room = length - _SIMPLE_LEAST
                captured = min(captured, room)
            else:
                captured = word32(data, at + 20, big)
                original = word32(data, at + 24, big)
                start = at + _PACKET_AT
                room = length - _PACKET_LEAST
            if captured > room or captured > MAX_PACKET:
                why = _CAPTURED
                break
            if original < 1 or original > MAX_PACKET or captured > original:
                why = _ORIGINAL
                break
            time = clock[1]
            if kind != _SIMPLE:
                ticks = (np.uint64(word32(data, at + 12, big)) << np.uint64(32)) | np.uint64(
                    word32(data, at + 16, big)
                )
                units = faces[which, _UNITS]
                seconds = np.int64(ticks // np.uint64(units))
                if seconds < 0 or seconds > _MAX_SECONDS:
                    why = _TIME
                    break
                rest = np.int64(ticks % np.uint64(units))
                seconds += faces[which, _OFFSET]
                if clock[2] == 0 and faces[which, _LINK] >= 0:
                    clock[0] = seconds
                    clock[2] = 1
                if abs(seconds - clock[0]) >= _MAX_CLOCK_S and faces[which, _LINK] >= 0:
                    why = _TIME
                    break
                time = (seconds - clock[0]) * _SECOND_PS + _fraction_ps(rest, units, faces[which, _POWER])
            if faces[which, _LINK] < 0:
                left_out += 1
            else:
                clock[1] = time
                way = np.int64(UNSAID)
                if kind == _ENHANCED:
                    way = _way(data, start + ((captured + 3) & -4), at + length - 4, big)
                rows[count]["t_ps"] = time
                rows[count]["place"] = at
                rows[count]["start"] = start
                rows[count]["captured"] = captured
                rows[count]["original"] = original
                rows[count]["link"] = faces[which, _LINK]
                rows[count]["ethernet"] = faces[which, _IS_ETHERNET]
                rows[count]["way"] = way
                count += 1
        at += length
    out[0] = count
    out[1] = at
    out[2] = left_out
    return why


class _Section:
    """Byte order and interfaces, as the header blocks say."""

    def __init__(self, path: Path, links: Links) -> None:
        self.path = path
        self.links = links
        self.order = "<"
        self.faces: NDArray[np.int64] = np.zeros((_MAX_INTERFACES, _COLUMNS), np.int64)
        self.count = 0
        self.strange: set[int] = set()
        """Link types that are not known, of all sections."""

    def _refuse(self, offset: int, what: str) -> FormatError:
        return FormatError(f"{self.path}: offset {offset}: {what}")

    def begin(self, block: bytes, offset: int) -> int:
        """Take a section header from its first bytes; return its length."""
        if len(block) < _SECTION_LEAST:
            raise self._refuse(
                offset, f"section header ends early, {len(block)} bytes left; expected whole blocks"
            )
        order = _ORDERS.get(block[8:12])
        if order is None:
            raise self._refuse(offset + 8, f"byte-order magic {block[8:12].hex()}; expected 1a2b3c4d")
        length, _, major, minor = struct.unpack_from(order + "IIHH", block, 4)
        if major != 1:
            raise self._refuse(offset + 12, f"pcapng version {major}.{minor}; expected 1.0")
        if length < _SECTION_LEAST or length % 4 or length > _CAPACITY:
            raise self._refuse(
                offset + 4,
                f"length of the section header {length}; "
                f"expected a multiple of 4 from {_SECTION_LEAST} to {_CAPACITY}",
            )
        self.order = order
        self.count = 0
        return int(length)

    def add(self, block: bytes, offset: int) -> None:
        """Take an interface description."""
        if len(block) < _INTERFACE_LEAST:
            raise self._refuse(
                offset + 4, f"length of an interface {len(block)}; expected {_INTERFACE_LEAST} or more"
            )
        if self.count == _MAX_INTERFACES:
            raise self._refuse(offset, f"more than {_MAX_INTERFACES} interfaces; expected fewer in a section")
        link_type, _, snap = struct.unpack_from(self.order + "HHI", block, 8)
        resolution = _DEFAULT_TSRESOL
        shift = 0
        at, end = 16, len(block) - 4
        while at + 4 <= end:
            code, size = struct.unpack_from(self.order + "HH", block, at)
            value = block[at + 4 : at + 4 + size]
            if code == _END_OF_OPTIONS:
                break
            if at + 4 + size > end:
                raise self._refuse(
                    offset + at, f"option {code} of {size} bytes; expected at most {end - at - 4}"
                )
            if code == _TSRESOL:
                if size != 1:
                    raise self._refuse(offset + at, f"if_tsresol of {size} bytes; expected 1")
                resolution = value[0]
            elif code == _TSOFFSET:
                if size != 8:
                    raise self._refuse(offset + at, f"if_tsoffset of {size} bytes; expected 8")
                (shift,) = struct.unpack(self.order + "q", value)
                if abs(shift) > _MAX_SECONDS:
                    raise self._refuse(offset + at + 4, f"if_tsoffset: {shift} s; expected at most 2^60")
            at += 4 + size + -size % 4
        # Section 4.2: the highest bit tells powers of two from powers of ten.
        binary, power = bool(resolution & 0x80), resolution & 0x7F
        if power > (62 if binary else 18):
            raise self._refuse(
                offset, f"if_tsresol: {'2' if binary else '10'}^-{power} s; expected 10^-18, 2^-62 or coarser"
            )
        if link_type not in self.links.headers:
            self.strange.add(link_type)
        self.faces[self.count] = (
            self.links.headers.get(link_type, -1),
            link_type == ETHERNET,
            snap,
            2**power if binary else 10**power,
            power if binary else -1,
            shift,
        )
        self.count += 1


def _problem(why: int, block: bytes, offset: int, section: _Section) -> str:
    """Return what is wrong with a block, behind `PATH: offset `."""
    order = section.order
    kind, length = struct.unpack_from(order + "II", block)
    if why == _LENGTH:
        return f"{offset + 4}: block length {length}; expected a multiple of 4 from {_LEAST} on"
    if why == _TRAILER:
        return f"{offset + length - 4}: length behind the block; expected {length} as before it"
    if why == _SHORT:
        least = _SIMPLE_LEAST if kind == _SIMPLE else _PACKET_LEAST
        return f"{offset + 4}: block length {length}; expected {least} or more for a packet"
    if why == _NO_INTERFACE:
        which = struct.unpack_from(order + ("H" if kind == _OBSOLETE else "I"), block, 8)[0]
        if kind == _SIMPLE:
            return f"{offset}: a simple packet; expected an interface before it"
        return f"{offset + 8}: interface {which}; expected one of the {section.count} described before"
    at = 8 if kind == _SIMPLE else 20
    if why == _CAPTURED:
        (captured,) = struct.unpack_from(order + "I", block, at)
        most = min(length - (_SIMPLE_LEAST if kind == _SIMPLE else _PACKET_LEAST), MAX_PACKET)
        return f"{offset + at}: captured length {captured}; expected at most {most}"
    if why == _ORIGINAL:
        at = 8 if kind == _SIMPLE else 24
        (original,) = struct.unpack_from(order + "I", block, at)
        if 1 <= original <= MAX_PACKET:
            return f"{offset + at}: original length {original}; expected at least the captured length"
        return f"{offset + at}: original length {original}; expected 1 to {MAX_PACKET}"
    days = MAX_CLOCK_PS // (86400 * _SECOND_PS)
    return f"{offset + 12}: time: more than {days} days from the first packet; expected one recording"


def link_type(start: bytes) -> int:
    """Return the link type of the first interface that the first bytes of a file describe, -1 for none."""
    order = _ORDERS.get(start[8:12]) if start[:4] == MAGIC else None
    at = 0
    while order is not None and at + 10 <= len(start):
        kind, length, found = struct.unpack_from(order + "IIH", start, at)
        if kind == _INTERFACE:
            return int(found)
        if length < _LEAST:
            break
        at += length
    return -1


def packets(path: Path, bad: Bad, links: Links) -> Iterator[Packets]:
    """Read the packets of a capture, in file order, of interfaces of some link types.

    Raises: FormatError: naming file, offset and field.
    """
    out = np.empty(3, np.int64)
    clock = np.zeros(3, np.int64)
    section = _Section(path, links)
    count = left_out = 0
    with opened(path) as file:
        window = Window(file, _CAPACITY)
        start = window.bytes(0, _SECTION_LEAST)
        if start[:4] != MAGIC:
            raise FormatError(f"{path}: offset 0: magic {start[:4].hex()}; expected a pcapng file")
        section.begin(start, 0)
        at = 0
        rows = np.empty(ROOM, PACKET)
        while True:
            why = _walk(
                window.data,
                at,
                window.size,
                _CAPACITY,
                section.order == ">",
                section.faces,
                section.count,
                clock,
                rows,
                out,
            )
            found, at, strange = out.tolist()
            count, left_out = count + found, left_out + strange
            if strange:
                bad.aside["of interfaces with another link type"] += strange
            if found:
                yield Packets(window.data, window.base, rows[:found])
            if why == _DATA_ENDS:
                if window.ended:
                    break
                window.advance(at)
                at = 0
            elif why == _HEADER_BLOCK:
                at = _header(window, at, section)
            elif why == _LONG_BLOCK:
                at = _long(path, window, at, section)
            elif why != _ROOM_ENDS:
                block = window.bytes(at, _PACKET_LEAST)
                message = f"{path}: offset {_problem(why, block, window.base + at, section)}"
                bad.report(message)
                if why in _ENDLESS:
                    break
                at += struct.unpack_from(section.order + "I", block, 4)[0]
        left = window.size - at
        if left and why == _DATA_ENDS:
            bad.report(
                f"{path}: offset {window.base + at}: block ends early, {left} bytes left; "
                "expected whole blocks"
            )
    if left_out and not count:
        kinds = ", ".join(map(str, sorted(section.strange)))
        raise FormatError(f"{path}: only packets of link type {kinds}; {links.expected()}")
    if not count and not bad.count:
        raise FormatError(f"{path}: offset 0: no packets; expected at least one")


def batches(path: Path, bad: Bad, local: str | None = None) -> Iterator[Records]:
    """Read the frames of a capture: `frames` of its packets. Raises: FormatError, ConfigError."""
    return frames(path, packets(path, bad, FRAMES), bad, local)


def _header(window: Window, at: int, section: _Section) -> int:
    """Take the section header or interface at `at`; return where the next block begins."""
    path, start = section.path, window.bytes(at, _SECTION_LEAST)
    offset = window.base + at
    if start[:4] != MAGIC:
        length: int = struct.unpack_from(section.order + "I", start, 4)[0]
        section.add(window.bytes(at, length), offset)
        return at + length
    if len(start) < _SECTION_LEAST and not window.ended:
        window.advance(at)
        return 0
    length = section.begin(start, offset)
    if at + length > window.size:
        if window.ended:
            left = window.size - at
            raise FormatError(
                f"{path}: offset {offset}: block ends early, {left} bytes left; expected whole blocks"
            )
        window.advance(at)
        at = 0
    (behind,) = struct.unpack_from(section.order + "I", window.bytes(at + length - 4, 4))
    if behind != length:
        raise FormatError(
            f"{path}: offset {offset + length - 4}: length behind the block; expected {length} as before it"
        )
    return at + length


def _long(path: Path, window: Window, at: int, section: _Section) -> int:
    """Pass over a block that does not fit in the window; return where the next one begins."""
    kind, length = struct.unpack(section.order + "II", window.bytes(at, _BLOCK_HEADER))
    offset = window.base + at
    if kind in (_INTERFACE, _OBSOLETE, _SIMPLE, _ENHANCED):
        raise FormatError(f"{path}: offset {offset + 4}: block length {length}; expected at most {_CAPACITY}")
    window.advance(at + length)
    if window.base < offset + length:
        raise FormatError(
            f"{path}: offset {offset}: block ends early, {window.base - offset} bytes left; "
            "expected whole blocks"
        )
    return 0
