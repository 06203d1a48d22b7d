"""Which resource limits a row: the names of a record, from how busy resources are and where requests wait.

Rule: what is full limits; else what the user offers; else where a mean request spends most of its time, place
by place (`link.places`), as the ledger has it. docs/model.md, 'What limits'.
"""

from collections.abc import Mapping, Sequence
from typing import Final

# Busy for so much of the time, a resource is full.
FULL: Final = 0.95

# Resource -> the places of a ledger at which it keeps a request. Where sums are equal, the first is named.
PLACES_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "device": ("device", "media"),
    # What waits for a port is shared out in `spent`.
    "link": ("serialisation", "wire", "replay"),
    "engine": ("engine", "hold"),
    "credits": ("credits",),
    "tags": ("tags",),
    # Order keeps a request until the writes before it are looked up, drained and visible in memory.
    "host": ("host", "ordering", "staging"),
    "iommu": ("iommu",),
}
_AT_A_PORT: Final = "arbitration"
_WITHOUT_A_TAG: Final = ("device", "media", "staging", "tags")

# Windows fill because their entries come back late: whoever is full behind one goes first.
_WINDOWS: Final = ("tags", "credits")


def spent(ledger: Mapping[str, float], pace: str = "link") -> dict[str, float]:
    """Return the time of a ledger by resource, in its unit; the sum is the same.

    Who waits for a port waits until those before it have credits and have left the wire. How they divide
    their time between the two is how this row's own requests do at the head of the queue.

    pace : what sets how fast they leave, "link" or "engine".

    Who waits for a tag waits for reads that hold one. With more tags these would take as long in queues at
    ports, so that part of their time (as this row's own requests have it) counts there.
    """
    times = {name: sum(ledger.get(place, 0) for place in places) for name, places in PLACES_OF.items()}
    waiting = ledger.get(_AT_A_PORT, 0)
    starved = times["credits"]
    held = sum(time for place, time in ledger.items() if place not in _WITHOUT_A_TAG)
    behind = times["tags"] * (waiting + starved) / held if held else 0
    times["tags"] -= behind
    waiting += behind
    sent = ledger.get("serialisation", 0) + ledger.get("replay", 0)
    to_credits = waiting * starved / (starved + sent) if starved else 0
    times["credits"] += to_credits
    times[pace] += waiting - to_credits
    return times


def limited_by(busy: Sequence[Mapping[str, float]], open_loop: bool, ledger: Mapping[str, float]) -> str:
    """Return the resource that limits.

    busy : per device of the row, the share of its time in which each resource is in use.
    open_loop : arrivals are given. ledger : time of the row's requests by place.
    """
    shares = {name: max(device[name] for device in busy) for name in busy[0]}
    full = {name: share for name, share in shares.items() if share >= FULL}
    full = {name: share for name, share in full.items() if name not in _WINDOWS} or full
    if full:
        return max(full, key=lambda name: full[name])
    if open_loop:
        return "load"
    # Of a wire and the engine before it, the one that is in use for longer sets the pace of a port.
    times = spent(ledger, "engine" if shares["engine"] > shares["link"] else "link")
    return max(times, key=lambda name: times[name])
