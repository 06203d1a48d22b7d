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

# A mean request of a load that waits for so much of its time is in queues that come and go with bursts: more
# than its own way, they make its latency.
_QUEUED: Final = 0.5
_WAITING: Final = (_AT_A_PORT, "credits", "tags")


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


def in_bursts(busy: Mapping[str, float], ledger: Mapping[str, float]) -> str | None:
    """Return what requests of a load queue for though nothing is full over the whole run; None: they do not.

    Queues for a port, credits or a tag are seen; those for media and walkers are in these places' own time.
    busy : of the row's one device.
    """
    waiting = sum(ledger.get(place, 0) for place in _WAITING)
    if waiting < _QUEUED * sum(ledger.values()) or not waiting:
        return None
    pace = _pace(busy)
    times = spent(ledger, pace)
    return max((pace, "credits", "tags"), key=lambda name: times[name])


def _pace(shares: Mapping[str, float]) -> str:
    """Return what sets the pace of a port: of a wire and the engine before it, what is in use for longer."""
    return "engine" if shares["engine"] > shares["link"] else "link"


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
    times = spent(ledger, _pace(shares))
    return max(times, key=lambda name: times[name])
