"""Packets of a capture as the frames of one network adapter.

Rule: sizes and directions are those of `packets`; here they become records, and a capture without this
adapter in it becomes an error. What it has no part in is counted.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np

from ..._jit import kernel
from .bad import Bad
from .ends import no_end
from .packets import ANY, ETHERNET_HEADER, INBOUND, OTHER, ROOM, UNSAID, Packets, direction, parse_local
from .records import NIC_DTYPE, NIC_RX, NIC_TX, Records

LARGEST_FRAME: Final = 9216 + 14 + 2 * 4
"""Bytes of the largest usual jumbo frame: an MTU of 9,216 (adapters, switches), with two VLAN tags."""


@kernel
def _frames(data, rows, fcs, local, frames, places):
    """Set NIC_DTYPE[n] from PACKET[n]; return how many `local` has a part in.

    places : int64[n], set: where in data the record of each begins. The other arguments: `direction`,
    `Packets`.
    """
    count = 0
    for i in range(rows.size):
        start = rows[i]["start"]
        link = np.int64(rows[i]["link"])
        end = start + rows[i]["captured"]
        told = rows[i]["way"]
        if told != UNSAID and local[0] == 0:
            way = NIC_RX if told == INBOUND else NIC_TX
        else:
            way = direction(data, start, end, link, rows[i]["ethernet"] != 0, local)
        if way != OTHER:
            frames[count]["t_ps"] = rows[i]["t_ps"]
            frames[count]["bytes"] = max(rows[i]["original"] + (ETHERNET_HEADER - link) - fcs, 1)
            frames[count]["direction"] = way
            places[count] = rows[i]["place"]
            count += 1
    return count


def frames(path: Path, packets: Iterable[Packets], bad: Bad, local: str | None) -> Iterator[Records]:
    """Read packets as the frames of one adapter.

    Parameters: local: this adapter, as `parse_local` reads it.
    Yields: NIC_DTYPE[n], in file order. Raises: ConfigError: `local` is malformed or matches nothing.
    """
    side = ANY if local is None else parse_local(local).row()
    places = np.empty(ROOM, np.int64)
    count = matched = 0
    for some in packets:
        found = np.empty(len(some.rows), NIC_DTYPE)
        taken = int(_frames(some.data, some.rows, some.fcs, side, found, places))
        count += len(found)
        matched += taken
        if taken < len(found):
            bad.aside[f"that {local} has no part in"] += len(found) - taken
        if taken:
            sizes = found["bytes"][:taken]
            bad.large += int(np.count_nonzero(sizes > LARGEST_FRAME))
            bad.largest = max(bad.largest, int(sizes.max()))
            bad.place = lambda i, base=some.base: f"{path}: offset {base + places[i]}"
            yield found[:taken]
    if count and not matched:
        raise no_end(path, local)
