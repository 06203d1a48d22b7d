"""The root port's drain: when posted writes leave its buffer, and which of them pass others there.

Rule: one server, in order. While a write is looked up that nothing may pass, the drain is idle: a gap, which
RO and IDO let later writes use. docs/model.md, 'Posted writes at the root port'.
"""

from .._jit import inline_kernel, kernel
from .layout import (
    DRAIN_FREE,
    GAP,
    GAPS,
    HOLD,
    HOST,
    IOMMU,
    MARK,
    MOST_GAPS,
    ORDERING,
    PASSABLE,
    SEEN,
    UNORDERED,
    VISIBLE,
)

# Everywhere below `which` is 0, or UNORDERED for the drain that ledgers compare with.


@inline_kernel
def _fit(port, which, ready, work, least):
    """Return the first gap that a write fits into, GAPS for none, and when it would be drained, ps.

    ready : ps, when its work may begin. least : ps, when it may be done.
    """
    gaps = port[which + GAPS]
    for gap in range(gaps):
        end = max(max(port[which + GAP + 2 * gap], ready) + work, least)
        if end <= port[which + GAP + 2 * gap + 1]:
            return gap, end
    return gaps, max(max(port[which + DRAIN_FREE], ready) + work, least)


@inline_kernel
def _close(port, which, at, count):
    """Forget so many gaps from one on. Modified in place: port."""
    left = port[which + GAPS] - count
    port[which + GAPS] = left
    for i in range(2 * at, 2 * left):
        port[which + GAP + i] = port[which + GAP + i + 2 * count]


@inline_kernel
def _open(port, which, at, begin, end):
    """Note a gap before another one, if it is one; the last one is lost where there are too many.

    Modified in place: port.
    """
    if begin >= end or at >= MOST_GAPS:
        return
    last = min(port[which + GAPS], MOST_GAPS - 1)
    port[which + GAPS] = last + 1
    for i in range(2 * last - 1, 2 * at - 1, -1):
        port[which + GAP + i + 2] = port[which + GAP + i]
    port[which + GAP + 2 * at] = begin
    port[which + GAP + 2 * at + 1] = end


@kernel
def _take(port, which, now, first, ready, work, least):
    """Drain a write in the first time that the drain has for it; return when that is done, ps.

    Modified in place: port.
    """
    past = 0
    while past < port[which + GAPS] and port[which + GAP + 2 * past + 1] <= now:
        past += 1
    if past > 0:
        _close(port, which, 0, past)
    gap, freed = _fit(port, which, ready, work, least)
    if gap < port[which + GAPS]:
        opens = port[which + GAP + 2 * gap]
        closes = port[which + GAP + 2 * gap + 1]
        _close(port, which, gap, 1)
        _open(port, which, gap, freed, closes)
    else:
        opens = port[which + DRAIN_FREE]
        port[which + DRAIN_FREE] = freed
    # Later writes come later: what is left before this one begins with its arrival.
    _open(port, which, gap, max(opens, first), max(opens, ready))
    return freed


@kernel
def drain(
    port,
    device,
    row,
    ledger,
    kept,
    noted,
    last,
    now,
    first,
    translated,
    work,
    least,
    behind,
    after,
    seen,
    latency,
):
    """Drain a quantum of a write that could pass others or be passed, for lookups keep them waiting.

    Modified in place: port and device, the rows of the root port and of the device; row and ledger, of the
    step, if ledgers are kept.

    Parameters
    ----------
    noted : somebody wants to know of gaps. last : nothing of the write comes after it.
    now : ps, no later write comes before. first : when its first TLP can be there. translated : when its
        address is known.
    work : ps, for which it keeps the drain. least : when its last TLP can be drained; behind : the same of
        its units, see `cross`.
    after, seen : ps, when what it must not pass is drained, and visible. latency : from there to visible.

    Returns
    -------
    freed : ps, when it is drained. visible : when it can be seen, the last one with all those before it.
    """
    ready = max(first, translated)
    done = max(least, behind)
    if not noted:
        # It is here because its lookup ends when all before it are drained.
        freed = max(ready + work, done)
        port[DRAIN_FREE] = freed
        port[VISIBLE] = max(freed + latency, port[VISIBLE])
        return freed, port[VISIBLE]
    if kept and port[PASSABLE] == 0:
        port[UNORDERED + DRAIN_FREE] = port[DRAIN_FREE]
    freed = _take(port, 0, now, first, max(ready, after), work, done)
    device[DRAIN_FREE] = max(device[DRAIN_FREE], freed)
    visible = max(freed + latency, seen)
    port[VISIBLE] = max(port[VISIBLE], visible)
    device[VISIBLE] = max(device[VISIBLE], visible)
    if not kept:
        # What waits for others is visible later than all before it, what does not, when it is drained.
        row[SEEN] = max(row[SEEN], visible)
        port[PASSABLE] = port[GAPS] > 0
        return freed, row[SEEN] if last else visible
    # When it would be drained if all could pass what is looked up: its own address being known, not before
    # the MACs of its units are checked, and as it is. What passes more than others do may be drained earlier.
    _, known = _fit(port, UNORDERED, first, work, least)
    _, released = _fit(port, UNORDERED, first, work, done)
    alone = min(_take(port, UNORDERED, now, first, ready, work, done), freed)
    port[PASSABLE] = (
        port[GAPS] > 0 or port[UNORDERED + GAPS] > 0 or port[UNORDERED + DRAIN_FREE] != port[DRAIN_FREE]
    )
    released = min(released, alone)
    known = min(known, released)
    row[SEEN] = max(row[SEEN], alone + latency)
    if last:
        visible = max(visible, row[SEEN])
        # Quanta that it passed are looked up, which is no wait for others.
        ledger[HOLD] += released - known
        ledger[IOMMU] += row[SEEN] - latency - released
        ledger[HOST] += known + latency - ledger[MARK]
        ledger[ORDERING] += visible - row[SEEN]
        ledger[MARK] = visible
    return freed, visible
