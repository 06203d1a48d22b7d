"""What captures of packets share: packets as the formats' readers hand them on, and the way of a frame.

Rule: a format's reader (`pcap`, `pcapng`) knows nothing of what packets hold; `frames` and `tlps` do.
Sizes of frames are those on an Ethernet, header included and FCS left out, whatever the link of the capture;
the direction of a frame follows from its addresses and ports alone, unless the capture says it.

Link types: Ethernet (VLAN tags are looked through), BSD loopback, raw IP and Linux cooked captures; sizes of
the latter are those of the same packet behind an Ethernet header. Sizes are original lengths, so a capture
of headers will do.

A capture on a loopback or a mirror port holds both ends. `local` says which is this adapter: what goes to it
is received, what comes from it is transmitted; what it has no part in is left out. Without it the direction
is what the capture says of the packet (epb_flags of pcapng); else the end with the lower port is ours
(servers listen below their clients), and packets that have no two different ports count as received.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from ..._jit import inline_kernel
from ...errors import ConfigError
from .records import NIC_RX, NIC_TX

ETHERNET: Final = 1
# https://www.tcpdump.org/linktypes.html: number: bytes before the network layer.
LINK_HEADERS: Final = {0: 4, ETHERNET: 14, 101: 0, 108: 4, 113: 16, 276: 20}
ETHERNET_HEADER: Final = 14

# libpcap, MAXIMUM_SNAPLEN: what no captured packet exceeds; a larger length is garbage.
MAX_PACKET: Final = 262144
ROOM: Final = 1 << 15
"""Most packets of a batch."""

PACKET: Final = np.dtype(
    [
        ("t_ps", np.int64),
        ("place", np.int64),
        ("start", np.int64),
        ("captured", np.int32),
        ("original", np.int32),
        ("link", np.int16),
        ("ethernet", np.uint8),
        ("way", np.uint8),
    ],
    align=True,
)
"""One packet: its time; where in the data its record and its first byte are; bytes that were captured, and
that there were; bytes before the network layer, whether they are an Ethernet header; a way of those below."""
UNSAID: Final = 0
INBOUND: Final = 1
"""draft-ietf-opsawg-pcapng, section 4.3.1, epb_flags, bits 0 and 1."""
OUTBOUND: Final = 2


@dataclass(frozen=True, slots=True)
class Links:
    """Link types whose packets are taken: bytes before the network layer by number; a note for people."""

    headers: Mapping[int, int]
    note: str

    def expected(self) -> str:
        """Return what is expected, for a message."""
        return f"expected one of {', '.join(map(str, sorted(self.headers)))} ({self.note})"


FRAMES: Final = Links(LINK_HEADERS, "1 is Ethernet")


@dataclass(frozen=True, slots=True)
class Packets:
    """Some packets, until the next ones are asked for: PACKET[n] in `data`, uint8[:], which lies at `base`.

    fcs : bytes of frame check sequence in every length.
    """

    data: NDArray[np.uint8]
    base: int
    rows: NDArray[np.void]
    fcs: int = 0


OTHER: Final = 255
"""Direction of a packet that `local` has no part in."""

_IPV4: Final = 0x0800
_IPV6: Final = 0x86DD
# IEEE 802.1Q tags of customers and of providers.
_C_TAG: Final = 0x8100
_S_TAG: Final = 0x88A8
_IPV4_HEADER: Final = 20
_IPV6_HEADER: Final = 40
# IANA protocol numbers: the first four bytes behind the network header are the ports.
_TCP: Final = 6
_UDP: Final = 17
_SCTP: Final = 132


@dataclass(frozen=True, slots=True)
class Local:
    """One end of a capture: an address, a port, or both."""

    address: bytes | None
    """4 or 16 bytes."""
    port: int | None

    def row(self) -> NDArray[np.int64]:
        """Return it as `direction` reads it: int64[18], port (-1: any), bytes of the address, its bytes."""
        row = np.zeros(18, np.int64)
        row[0] = -1 if self.port is None else self.port
        address = self.address or b""
        row[1] = len(address)
        row[2 : 2 + len(address)] = list(address)
        return row


ANY: Final = np.zeros(18, np.int64)
"""`Local.row` of nobody: the lower port decides."""


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
        address = ipaddress.ip_address(host).packed if host else None
    except ValueError:
        good = False
    if not good:
        raise ConfigError(f"{text!r}; expected ADDRESS, ADDRESS:PORT, [IPV6]:PORT or a port from 1 to 65535")
    return Local(address, int(port) if port else None)


@inline_kernel
def word16(data, at, big):
    """Return the 16-bit number at `at`."""
    if big:
        return (np.int64(data[at]) << 8) | np.int64(data[at + 1])
    return (np.int64(data[at + 1]) << 8) | np.int64(data[at])


@inline_kernel
def word32(data, at, big):
    """Return the 32-bit number at `at`."""
    if big:
        return (word16(data, at, True) << 16) | word16(data, at + 2, True)
    return (word16(data, at + 2, False) << 16) | word16(data, at, False)


@inline_kernel
def _is_at(data, at, size, local):
    """Return whether the address at `at` is that of `local`."""
    if local[1] != size:
        return False
    i = 0
    while i < size and np.int64(data[at + i]) == local[2 + i]:
        i += 1
    return i == size


@inline_kernel
def direction(data, start, end, link_header, ethernet, local):
    """Return the direction of the packet that is captured in data[start:end].

    Parameters: link_header: bytes before the network layer. ethernet: whether they are an Ethernet header.
    local: int64[18], `Local.row`. Returns: NIC_RX, NIC_TX, or OTHER if `local` has no part in it.
    """
    # 4, 6 or 0: no address is known.
    version = np.int64(0)
    network = start + link_header
    if ethernet:
        if network <= end:
            kind = word16(data, start + 12, True)
            for _ in range(2):
                if kind in (_C_TAG, _S_TAG) and network + 4 <= end:
                    network += 4
                    kind = word16(data, network - 2, True)
            if kind == _IPV4:
                version = np.int64(4)
            elif kind == _IPV6:
                version = np.int64(6)
    elif network < end:
        version = np.int64(data[network]) >> 4
    source = network
    target = network
    size = 0
    source_port = np.int64(-1)
    target_port = np.int64(-1)
    ports = end
    protocol = np.int64(0)
    if version == 4 and network + _IPV4_HEADER <= end:
        size = 4
        source = network + 12
        target = network + 16
        protocol = np.int64(data[network + 9])
        # RFC 791, 3.1: only the first fragment (offset 0 of 13 bits) holds the ports.
        if word16(data, network + 6, True) & 0x1FFF == 0:
            ports = network + (np.int64(data[network]) & 15) * 4
    elif version == 6 and network + _IPV6_HEADER <= end:
        size = 16
        source = network + 8
        target = network + 24
        protocol = np.int64(data[network + 6])
        ports = network + _IPV6_HEADER
    if protocol in (_TCP, _UDP, _SCTP) and ports + 4 <= end:
        source_port = word16(data, ports, True)
        target_port = word16(data, ports + 2, True)
    by_port = NIC_RX
    if source_port >= 0 and source_port < target_port:
        by_port = NIC_TX
    port = local[0]
    if port == 0:
        return by_port
    from_it = port < 0 or source_port == port
    to_it = port < 0 or target_port == port
    if local[1] > 0:
        from_it = from_it and _is_at(data, source, size, local)
        to_it = to_it and _is_at(data, target, size, local)
    if from_it and to_it:
        # A loopback of which only the address is given: then the lower port decides again.
        return by_port
    if from_it:
        return NIC_TX
    return NIC_RX if to_it else OTHER


class Window:
    """A piece of a file at a time, in one buffer: data[:size] are the bytes from offset `base` on.

    It is full unless the file ends in it.
    """

    def __init__(self, file: BinaryIO, capacity: int) -> None:
        self._file = file
        self.data: NDArray[np.uint8] = np.zeros(capacity, np.uint8)
        self.base = 0
        self.size = 0
        self.ended = False
        self.advance(0)

    def bytes(self, at: int, count: int) -> bytes:
        """Return `count` bytes from data[at] on, fewer at the end."""
        return self.data[at : min(at + count, self.size)].tobytes()

    def advance(self, consumed: int) -> None:
        """Drop the first `consumed` bytes and read as many behind the rest."""
        left = max(self.size - consumed, 0)
        skipped = consumed - self.size
        self.data[:left] = self.data[self.size - left : self.size]
        self.base += consumed if skipped <= 0 else self.size
        self.size = left
        while skipped > 0 and not self.ended:
            got = len(self._file.read(min(skipped, self.data.size)))
            self.ended = not got
            skipped -= got
            self.base += got
        view = memoryview(self.data)  # type: ignore[arg-type]
        while self.size < self.data.size and not self.ended:
            got = self._file.readinto(view[self.size :])  # type: ignore[attr-defined]
            self.ended = not got
            self.size += got
