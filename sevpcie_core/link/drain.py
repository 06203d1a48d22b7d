"""The root port's drain: when posted writes leave its buffer, and which of them pass others there.

Rule: one server, in order. While a write is looked up that nothing may pass, the drain is idle: a gap, which
RO and IDO let later writes use. docs/model.md, 'Posted writes at the root port'.
"""

import numpy as np

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
    SEEN,
    VISIBLE,
)


@inline_kernel
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
def drain(
    port,
    device,
    row,
    ledger,
    kept,
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
    """Drain a quantum of a write where gaps are open, or while it is looked up itself.

    Modified in place: port and device, the rows of the root port and of the device; row and ledger, of the step,
    if ledgers are kept.

    Parameters
    ----------
    last : nothing of the write comes after it.
    now : ps, no later write comes before. first : when its first TLP can be there. translated : when its
        address is known.
    work : ps, for which it keeps the drain. least : when its last TLP can be drained; behind : the same of its
        units, see `cross`.
    after, seen : ps, when what it must not pass is drained, and visible. latency : from there to visible.

    Returns
    -------
    freed : ps, when it is drained. visible : when it can be seen, the last one with all those before it.
    """
    past = 0
    while past < port[GAPS] and port[GAP + 2 * past + 1] <= now:
        past += 1
    if past > 0:
        _close(port, 0, past)
    known = released = alone = np.int64(0)
    if kept:
        # When it would be drained if it could pass whatever is looked up: its own address being known, not
        # before the MACs of its units are checked, and as it is.
        _, known = _fit(port, first, work, least)
        _, released = _fit(port, first, work, max(least, behind))
        _, alone = _fit(port, max(first, translated), work, max(least, behind))
    ready = max(max(first, translated), after)
    gap, freed = _fit(port, ready, work, max(least, behind))
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
    device[DRAIN_FREE] = max(device[DRAIN_FREE], freed)
    visible = max(freed + latency, seen)
    port[VISIBLE] = max(port[VISIBLE], visible)
    device[VISIBLE] = max(device[VISIBLE], visible)
    # What waits for others is seen later than all that came before it.
    row[SEEN] = max(row[SEEN], alone + latency if kept else visible)
    if last:
        visible = max(visible, row[SEEN])
    if kept and last:
        # Quanta that it passed are looked up, which is no wait for others.
        ledger[HOLD] += released - known
        ledger[IOMMU] += row[SEEN] - latency - released
        ledger[HOST] += known + latency - ledger[MARK]
        ledger[ORDERING] += visible - row[SEEN]
        ledger[MARK] = visible
    return freed, visible
