"""Which ends the packets of a capture have: for the error about a `local` that is none of them.

Rule: slow and plain, for nobody waits for it: the first packets of the file, decoded with nothing of what
reads captures for a replay; whatever it does not understand it leaves out.
"""

import ipaddress
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ...errors import ConfigError
from .packets import ETHERNET, LINK_HEADERS
from .source import opened

# Bytes of a file that are looked at, and ends that are named.
_LOOKED_AT: Final = 1 << 20
_NAMED: Final = 4
_VLAN_TAGS: Final = (0x8100, 0x88A8)
_WITH_PORTS: Final = (6, 17, 132)
# draft-ietf-opsawg-pcapng, section 4: types of blocks, and where a packet begins in them.
_SECTION: Final = 0x0A0D0D0A
_INTERFACE, _OBSOLETE, _SIMPLE, _ENHANCED = 1, 2, 3, 6
_PACKET_AT: Final = {_OBSOLETE: 28, _SIMPLE: 12, _ENHANCED: 28}


def no_end(path: Path, local: str | None) -> ConfigError:
    """Return the error for a `local` that no packet of a capture has: it names ends that packets have."""
    with opened(path) as file:
        data = file.read(_LOOKED_AT)
    found = Counter(end for link, packet in _packets(data) for end in _ends(link, packet))
    known = [end for end, _ in found.most_common(_NAMED)]
    such = f": {', '.join(known)}{', ...' if len(found) > len(known) else ''}" if known else ""
    return ConfigError(
        f"local: {local!r} is no end of any packet in {path}; expected an address or port that is{such}"
    )


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (link type, packet) of a capture, as far as its bytes go."""
    try:
        yield from _of_blocks(data) if data[:4] == b"\x0a\x0d\x0d\x0a" else _of_records(data)
    except struct.error:
        return


def _of_records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield those of a pcap file (draft-ietf-opsawg-pcap, section 4)."""
    order = "<" if data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    link = struct.unpack_from(f"{order}I", data, 20)[0] & 0xFFFF
    at = 24
    while at < len(data):
        captured = struct.unpack_from(f"{order}I", data, at + 8)[0]
        yield link, data[at + 16 : at + 16 + captured]
        at += 16 + captured


def _of_blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield those of a pcapng file."""
    order, at = "<", 0
    links: list[int] = []
    while at < len(data):
        if data[at : at + 4] == b"\x0a\x0d\x0d\x0a":
            order, links = "<" if data[at + 8 : at + 12] == b"\x4d\x3c\x2b\x1a" else ">", []
        kind, length = struct.unpack_from(f"{order}II", data, at)
        if length < 12:
            return
        if kind == _INTERFACE:
            links.append(struct.unpack_from(f"{order}H", data, at + 8)[0])
        elif kind in _PACKET_AT:
            which = 0
            if kind != _SIMPLE:
                which = struct.unpack_from(f"{order}{'H' if kind == _OBSOLETE else 'I'}", data, at + 8)[0]
            captured = length if kind == _SIMPLE else struct.unpack_from(f"{order}I", data, at + 20)[0]
            start = at + _PACKET_AT[kind]
            if which < len(links):
                yield links[which], data[start : min(start + captured, at + length - 4)]
        at += length


def _ends(link: int, packet: bytes) -> Iterator[str]:
    """Yield the ends of a packet as `local` has them: address and port, or an address."""
    at = LINK_HEADERS.get(link)
    if at is None:
        return
    if link == ETHERNET:
        while int.from_bytes(packet[at - 2 : at]) in _VLAN_TAGS:
            at += 4
    version = packet[at] >> 4 if at < len(packet) else 0
    if version == 4:
        size, first, ports = 4, 12, 4 * (packet[at] & 15)
    elif version == 6:
        size, first, ports = 16, 8, 40
    else:
        return
    if at + first + 2 * size > len(packet):
        return
    protocol = packet[at + (9 if version == 4 else 6)]
    known = protocol in _WITH_PORTS and at + ports + 4 <= len(packet)
    for way in range(2):
        host = str(ipaddress.ip_address(packet[at + first + way * size :][:size]))
        if known:
            port = int.from_bytes(packet[at + ports + 2 * way :][:2])
            yield f"[{host}]:{port}" if version == 6 else f"{host}:{port}"
        else:
            yield host
