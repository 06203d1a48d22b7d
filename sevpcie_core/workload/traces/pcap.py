"""Packet captures in the classic pcap format, as frames of one network adapter.

File: 24-byte header, then per packet 16 bytes (seconds, fraction, captured length, original length) and the
captured bytes; the magic number gives byte order and the fraction's unit. Source: draft-ietf-opsawg-pcap,
sections 4 and 5. Link types: Ethernet (VLAN tags are looked through), BSD loopback, raw IP and Linux cooked
captures; sizes of the latter are those of the same packet behind an Ethernet header. Sizes are original
lengths, so a capture of headers will do.

A capture on a loopback or a mirror port holds both ends. `local` says which is this adapter: what goes to
it is received, what comes from it is transmitted. Without it the end with the lower port is (servers listen
below their clients), and packets that have no two different ports count as received.
"""

import ipaddress
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError, FormatError
from .bad import Bad
from .records import NIC_DTYPE, NIC_RX, NIC_TX, Records
from .source import MAX_CLOCK_PS, opened, span_problem

MAGICS: dict[bytes, tuple[str, int]] = {
    b"\xd4\xc3\xb2\xa1": ("<", 10**6),
    b"\xa1\xb2\xc3\xd4": (">", 10**6),
    b"\x4d\x3c\xb2\xa1": ("<", 10**3),
    b"\xa1\xb2\x3c\x4d": (">", 10**3),
}
"""First four bytes: byte order for struct, picoseconds per unit of the fraction."""

_FILE_HEADER = 24
_RECORD_HEADER = 16

# https://www.tcpdump.org/linktypes.html: number: bytes before the network layer.
_ETHERNET = 1
_LINK_HEADERS = {0: 4, _ETHERNET: 14, 101: 0, 108: 4, 113: 16, 276: 20}

# libpcap, MAXIMUM_SNAPLEN: what no captured packet exceeds; a larger length is garbage.
_MAX_PACKET = 262144
_CHUNK = 1 << 22
_ETHERNET_HEADER = 14
_VLAN_TYPES = (0x8100, 0x88A8)
# IANA protocol numbers of TCP, UDP and SCTP: the first four bytes are the ports.
_WITH_PORTS = (6, 17, 132)
# Bytes that may be looked at behind any start of a packet: cooked header, two tags, longest IPv4 header,
# ports.
_REACH = 20 + 8 + 60 + 4


@dataclass(frozen=True, slots=True)
class Local:
    """One end of a capture: an address, a port, or both."""

    address: bytes | None
    """16 bytes; IPv4 in the first four, then zeros."""
    port: int | None


def parse_local(text: str) -> Local:
    """Read ADDRESS, ADDRESS:PORT, [IPV6]:PORT or PORT.

    Raises: ConfigError: anything else.
    """
    host, port = text.strip(), ""
    if host.startswith("[") and "]" in host:
        host, _, rest = host[1:].partition("]")
        port = rest.removeprefix(":")
        good = not rest or (rest.startswith(":") and bool(port))
    elif host.isdigit():
        host, port, good = "", host, True
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
        good = bool(host and port)
    else:
        good = bool(host)
    good = good and (
        not port or (len(port) <= 5 and port.isascii() and port.isdigit() and 0 < int(port) < 65536)
    )
    try:
        address = ipaddress.ip_address(host).packed.ljust(16, b"\0") if host else None
    except ValueError:
        good = False
    if not good:
        raise ConfigError(f"{text!r}; expected ADDRESS, ADDRESS:PORT, [IPV6]:PORT or a port from 1 to 65535")
    return Local(address, int(port) if port else None)


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
    if data[:4] == b"\x0a\x0d\x0d\x0a":
        raise FormatError(f"{path}: offset 0: a pcapng file; expected pcap (editcap -F pcap converts)")
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
    if link_type not in _LINK_HEADERS:
        known = ", ".join(str(number) for number in sorted(_LINK_HEADERS))
        raise FormatError(
            f"{path}: offset 20: link type {link_type}; expected one of {known} (1 is Ethernet)"
        )
    # Section 4: bit 26 says that bits 28 to 31 hold the length of the FCS in units of 16 bits.
    fcs = 2 * (network >> 28) if network & 0x0400_0000 else 0
    return _Format(order, fraction_ps, _LINK_HEADERS[link_type], link_type == _ETHERNET, fcs)


def _chunks(path: Path) -> Iterator[bytes]:
    """Yield the unzipped file in pieces; the first holds the file header if the file does."""
    with opened(path) as file:
        while data := file.read(_CHUNK):
            yield data


def _records(path: Path, order: str, data: bytes, base: int) -> tuple[list[int], int]:
    """Find the records that lie complete in `data`.

    Parameters: base: file offset of data[0], for messages.
    Returns: offset of each record header in `data`; offset of the first byte behind the last complete record.
    Raises: FormatError: an impossible captured length.
    """
    captured = struct.Struct(order + "I").unpack_from
    at: list[int] = []
    position = 0
    last = len(data) - _RECORD_HEADER
    while position <= last:
        (length,) = captured(data, position + 8)
        if length > _MAX_PACKET:
            raise FormatError(
                f"{path}: offset {base + position + 8}: captured length {length}; "
                f"expected at most {_MAX_PACKET}"
            )
        end = position + _RECORD_HEADER + length
        if end > len(data):
            break
        at.append(position)
        position = end
    return at, position


def _word(data: NDArray[np.uint8], at: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the big-endian 16-bit words at `at`."""
    return (data[at].astype(np.int64) << 8) | data[at + 1]


@dataclass(frozen=True, slots=True)
class _Ends:
    """Addresses (uint8[n, 16]) and ports (int64[n], -1 if there is none) of each packet."""

    source: NDArray[np.uint8]
    target: NDArray[np.uint8]
    source_port: NDArray[np.int64]
    target_port: NDArray[np.int64]


def _ends(data: NDArray[np.uint8], start: NDArray[np.int64], size: NDArray[np.int64], form: _Format) -> _Ends:
    """Read addresses and ports.

    Parameters: data: uint8[m], with at least _REACH bytes behind the last packet's start. start: int64[n],
    first captured byte of each packet. size: int64[n], captured bytes.
    """
    network = start + form.link_header
    if form.ethernet:
        kind = _word(data, start + 12)
        for _ in range(2):
            tagged = np.isin(kind, _VLAN_TYPES)
            network = network + 4 * tagged
            kind = np.where(tagged, _word(data, network - 2), kind)
        is_v4, is_v6 = kind == 0x0800, kind == 0x86DD
    else:
        version = data[network] >> 4
        is_v4, is_v6 = version == 4, version == 6
    room = start + size - network
    is_v4, is_v6 = is_v4 & (room >= 20), is_v6 & (room >= 40)

    columns = np.arange(16)
    at = np.where(is_v6, network + 8, network + 12)[:, None] + columns
    # Of an IPv4 address only the first four columns count; the target's address follows the source's.
    wide = is_v6[:, None] | (is_v4[:, None] & (columns < 4))
    limit = data.size - 1
    source = np.where(wide, data[np.minimum(at, limit)], 0).astype(np.uint8)
    target = np.where(wide, data[np.minimum(at + np.where(is_v6, 16, 4)[:, None], limit)], 0).astype(np.uint8)

    protocol = np.where(is_v6, data[network + 6], data[network + 9])
    first_fragment = is_v6 | ((_word(data, network + 6) & 0x1FFF) == 0)
    header = np.where(is_v6, 40, (data[network] & 15).astype(np.int64) * 4)
    has_ports = (is_v4 | is_v6) & np.isin(protocol, _WITH_PORTS) & first_fragment & (room >= header + 4)
    ports = network + np.where(has_ports, header, 0)
    source_port = np.where(has_ports, _word(data, ports), -1)
    target_port = np.where(has_ports, _word(data, ports + 2), -1)
    return _Ends(source, target, source_port, target_port)


def _direction(ends: _Ends, local: Local | None) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return direction of each packet, and which packets concern the adapter at all."""
    has_ports = (ends.source_port >= 0) & (ends.source_port != ends.target_port)
    by_port = np.where(has_ports & (ends.source_port < ends.target_port), NIC_TX, NIC_RX).astype(np.uint8)
    if local is None:
        return by_port, np.ones(by_port.size, dtype=np.bool_)
    to_it = np.ones(by_port.size, dtype=np.bool_)
    from_it = to_it.copy()
    if local.address is not None:
        address = np.frombuffer(local.address, dtype=np.uint8)
        to_it &= (ends.target == address).all(axis=1)
        from_it &= (ends.source == address).all(axis=1)
    if local.port is not None:
        to_it &= ends.target_port == local.port
        from_it &= ends.source_port == local.port
    # Both ends match on a loopback when only the address is given: then the lower port decides again.
    direction = np.where(to_it & from_it, by_port, np.where(from_it, NIC_TX, NIC_RX)).astype(np.uint8)
    return direction, to_it | from_it


def batches(path: Path, bad: Bad, local: str | None = None) -> Iterator[Records]:
    """Read the frames of a capture.

    Parameters: local: this adapter, as `parse_local` reads it.
    Yields: NIC_DTYPE[n], in file order.
    Raises: FormatError: naming file, offset and field; ConfigError: `local` is malformed or matches nothing.
    """
    side = None if local is None else parse_local(local)
    form: _Format | None = None
    rest = b""
    base = 0
    epoch = -1
    count = matched = 0
    for piece in _chunks(path):
        data = rest + piece
        if form is None:
            form = _file_header(path, data)
            data = data[_FILE_HEADER:]
            base = _FILE_HEADER
        at, consumed = _records(path, form.order, data, base)
        if at:
            if epoch < 0:
                (epoch,) = struct.unpack_from(form.order + "I", data, at[0])
            starts = np.array(at, dtype=np.int64)
            frames = _frames(path, form, data, starts, base, epoch, side)
            mine = frames["direction"] != _OTHER
            where = (starts + base)[mine].tolist()
            bad.place = lambda i, where=where: f"{path}: offset {where[i]}"
            count += len(at)
            matched += len(where)
            yield np.extract(mine, frames)
        rest = data[consumed:]
        base += consumed
    if form is None:
        raise FormatError(f"{path}: empty file; expected a pcap file")
    if rest:
        raise FormatError(
            f"{path}: offset {base}: record ends early, {len(rest)} bytes left; expected whole records"
        )
    if not count:
        raise FormatError(f"{path}: offset {_FILE_HEADER}: no packets; expected at least one")
    if not matched:
        raise ConfigError(
            f"local: {local!r} is no end of any packet in {path}; expected an address or port that is"
        )


_OTHER = 255
"""Direction of packets that `local` has no part in, until they are dropped."""


def _frames(
    path: Path, form: _Format, data: bytes, at: NDArray[np.int64], base: int, epoch: int, side: Local | None
) -> Records:
    """Decode the records whose headers lie at `at` in `data`; errors name offsets from `base`."""
    octets = np.frombuffer(data + bytes(_REACH), dtype=np.uint8)
    headers = octets[at[:, None] + np.arange(_RECORD_HEADER)]
    seconds, fraction, captured, original = headers.view(form.order + "u4").astype(np.int64).reshape(-1, 4).T

    def check(
        bad: NDArray[np.bool_], offset: int, what: NDArray[np.int64], field: str, expected: str
    ) -> None:
        if bad.any():
            first = int(np.argmax(bad))
            where = base + int(at[first]) + offset
            raise FormatError(f"{path}: offset {where}: {field} {what[first]}; expected {expected}")

    units = 10**12 // form.fraction_ps
    check(fraction >= units, 4, fraction, "fraction of a second", f"less than {units}")
    check(captured > original, 8, captured, "captured length", "at most the original length")
    check((original < 1) | (original > _MAX_PACKET), 12, original, "original length", f"1 to {_MAX_PACKET}")
    far = np.abs(seconds - epoch) >= MAX_CLOCK_PS // 10**12
    if far.any():
        first = int(np.argmax(far))
        span = abs(int(seconds[first]) - epoch) * 1e12
        raise FormatError(f"{path}: offset {base + int(at[first])}: seconds: {span_problem(span)}")

    frames = np.zeros(at.size, dtype=NIC_DTYPE)
    frames["t_ps"] = (seconds - epoch) * 10**12 + fraction * form.fraction_ps
    extra = _ETHERNET_HEADER - form.link_header - form.fcs
    frames["bytes"] = np.maximum(original + extra, 1)
    direction, concerned = _direction(_ends(octets, at + _RECORD_HEADER, captured, form), side)
    frames["direction"] = np.where(concerned, direction, _OTHER)
    return frames
