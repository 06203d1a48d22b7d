"""Events and their total order: a binary heap in one array.

Rule: an event is (time in ps, key); the key names device, step, split and kind, so the order of equal times
is fixed by what an event is and never by when it was pushed.

Pairs lie side by side in a flat array, so a place is an even index and no index needs a multiplication:
heap[0] holds twice the number of events, heap[1] is free for the caller, the first event stands at 2.
"""

import numpy as np

from .._jit import inline_kernel, kernel
from .layout import KIND_BITS, SPLIT_BITS, STEP_BITS


@inline_kernel
def _rise(heap, i, time, event):
    """Put an event at a hole, or above it as far as it belongs. Modified in place."""
    while i > 2:
        parent = (i >> 2) << 1
        t = heap[parent]
        if t < time or (t == time and heap[parent + 1] < event):
            break
        heap[i] = t
        heap[i + 1] = heap[parent + 1]
        i = parent
    heap[i] = time
    heap[i + 1] = event


@kernel
def push(heap, time, event):
    """Add an event. Modified in place."""
    n = heap[0] + 2
    heap[0] = n
    _rise(heap, n, time, event)


@kernel
def pop(heap):
    """Drop the first event. Modified in place.

    The hole sinks to a leaf by one comparison per level, without a branch to mispredict; then the event that
    stood last rises from there, seldom far (Knuth, The Art of Computer Programming, volume 3, 5.2.3-18).
    """
    n = heap[0]
    heap[0] = n - 2
    i = 2
    child = 4
    while child + 2 < n:
        t0 = heap[child]
        t1 = heap[child + 2]
        second = (t1 < t0) | ((t1 == t0) & (heap[child + 3] < heap[child + 1]))
        child += 2 * second
        heap[i] = heap[child]
        heap[i + 1] = heap[child + 1]
        i = child
        child = 2 * i
    if child < n:
        heap[i] = heap[child]
        heap[i + 1] = heap[child + 1]
        i = child
    _rise(heap, i, heap[n], heap[n + 1])


@inline_kernel
def key(d, step, split, kind):
    """Name an event: compared as a number, device, step, split and kind decide in this order."""
    return (((np.int64(d) << STEP_BITS | step) << SPLIT_BITS | split) << KIND_BITS) | kind
