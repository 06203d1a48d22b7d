"""TLPs in packet captures, pcap and pcapng: a packet is a TLP.

No link type has been given a format for TLPs (LINKTYPE_PCI_EXP, 125, is a reserved name), so captures of them
use one of those for private use, 147 to 162 (draft-ietf-opsawg-pcaplinktype: LINKTYPE_USER0 to USER15). A
packet is a TLP as `tlps` reads it, without any header of its own: at least its header must have been
captured, and its original length is what the whole TLP has, or less where whoever wrote it left the payload
out.

Direction: of pcapng's epb_flags, with the device as the interface: inbound goes down to it, outbound comes
from it. Elsewhere by IDs, see `tlps`.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np

from . import pcap, pcapng
from .bad import Bad
from .packets import Links, Packets
from .records import TLP_DTYPE, Records
from .tlps import Side, problem, read_packets

USER: Final = Links(dict.fromkeys(range(147, 163), 0), "USER0 to USER15")


def _tlps(path: Path, some: Iterable[Packets], bad: Bad, local: str | None) -> Iterator[Records]:
    side = Side(local)
    for part in some:
        begin = 0
        while begin < len(part.rows):
            out = np.empty(len(part.rows) - begin, TLP_DTYPE)
            count, broken = read_packets(
                part.data, part.rows, begin, side.ids, side.seen, side.scratch, side.raw, out
            )
            if count:
                places = part.rows["place"][begin:]
                bad.place = lambda i, base=part.base, at=places: f"{path}: offset {base + at[i]}"
                yield out[:count]
            begin += int(count)
            if broken:
                row = part.rows[begin]
                message = problem(int(broken), int(row["original"]))
                bad.report(f"{path}: offset {part.base + int(row['start'])}: {message}")
                begin += 1
    side.check(path)


def from_pcap(path: Path, bad: Bad, local: str | None = None) -> Iterator[Records]:
    """Read the TLPs of a pcap file.

    Parameters: local: the device's requester ID, as `tlps.parse_local` reads it.
    Yields: TLP_DTYPE[n], in file order.
    Raises: FormatError: naming file, offset and field; ConfigError: `local` is malformed or of no use.
    """
    return _tlps(path, pcap.packets(path, bad, USER), bad, local)


def from_pcapng(path: Path, bad: Bad, local: str | None = None) -> Iterator[Records]:
    """Read the TLPs of a pcapng file, as `from_pcap`."""
    return _tlps(path, pcapng.packets(path, bad, USER), bad, local)
