"""Where the time of a request can go: the columns of a ledger, by name.

Rule: nothing is imported here, for reports read it that must not load the simulator.
"""

from typing import Final

# In the order of a request's way.
PLACES: Final = (
    "device",  # pipelines of the device, and its waiting for what another request holds
    "media",  # media and compute
    "tags",
    "arbitration",  # for the port, and for what is on the wire before: other TLPs, DLLPs, ordered sets
    "credits",
    "serialisation",
    "engine",  # cipher engines, MAC included where it keeps the wire waiting
    "wire",
    "hold",  # at the receiver, for the MAC
    "ordering",  # behind TLPs that came before and are not yet released, or writes that it may not pass
    "host",  # root complex and memory, the drain of writes included
    "iommu",
    "staging",  # copies and ciphers of the host's cores
    "replay",  # what an error costs: the Nak and the second time on the wire
)
