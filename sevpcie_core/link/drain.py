"""The root port's drain: when posted writes leave its buffer, and which of them pass others there.

Rule: one server, in order. While a write is looked up that nothing may pass, the drain is idle: a gap, which
RO and IDO let later writes use. docs/model.md, 'Posted writes at the root port'.
"""

from .._jit import kernel
from .layout import DRAIN_FREE, GAP, GAPS, MOST_GAPS


@kernel
def _fit(port, ready, work, least):
    """Return the first gap that a write fits into, GAPS for none, and when it would be drained, ps.

    ready : ps, when its work may begin. least : ps, when it may be done.
    """
    gaps = port[GAPS]
    for gap in range(gaps):
        end = max(max(port[GAP + 2 * gap], ready) + work, least)
        if end <= port[GAP + 2 * gap + 1]:
            return gap, end
    return gaps, max(max(port[DRAIN_FREE], ready) + work, least)


@kernel
def _close(port, at, count):
    """Forget so many gaps from one on. Modified in place: port."""
    left = port[GAPS] - count
    port[GAPS] = left
    for i in range(2 * at, 2 * left):
        port[GAP + i] = port[GAP + i + 2 * count]


@kernel
def _open(port, at, begin, end):
    """Note a gap before another one, if it is one; the last one is lost where there are too many.

    Modified in place: port.
    """
    if begin >= end or at >= MOST_GAPS:
        return
    last = min(port[GAPS], MOST_GAPS - 1)
    port[GAPS] = last + 1
    for i in range(2 * last - 1, 2 * at - 1, -1):
        port[GAP + i + 2] = port[GAP + i]
    port[GAP + 2 * at] = begin
    port[GAP + 2 * at + 1] = end


@kernel
def drain(port, now, first, translated, work, least, behind, after):
    """Drain a write while gaps are open, or while it is looked up itself. Modified in place: port.

    port : row of the root port. now : ps, no later write comes before. first : ps, when its first TLP can be
    there; translated : when its address is known. work : ps, for which it keeps the drain. least : ps, when
    its last TLP can be drained; behind : the same for its units, see `cross`. after : ps, when what it must not
    pass is drained.

    Returns
    -------
    known : ps, when it would be drained if its address were known and it could pass what is looked up.
    released : the same not before the MACs of its units are checked.
    could : the same with its own address looked up.
    freed : when it is drained.
    """
    past = 0
    while past < port[GAPS] and port[GAP + 2 * past + 1] <= now:
        past += 1
    if past > 0:
        _close(port, 0, past)
    ready = max(first, translated)
    _, known = _fit(port, first, work, least)
    least = max(least, behind)
    _, released = _fit(port, first, work, least)
    _, could = _fit(port, ready, work, least)
    ready = max(ready, after)
    gap, freed = _fit(port, ready, work, least)
    if gap < port[GAPS]:
        opens = port[GAP + 2 * gap]
        closes = port[GAP + 2 * gap + 1]
        _close(port, gap, 1)
        # Later writes come later: what is left before this one has not begun by then.
        _open(port, gap, freed, closes)
        _open(port, gap, max(opens, first), max(opens, ready))
    else:
        opens = max(port[DRAIN_FREE], first)
        _open(port, gap, opens, max(opens, ready))
        port[DRAIN_FREE] = freed
    return known, released, could, freed
