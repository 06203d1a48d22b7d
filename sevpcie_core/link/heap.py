"""Events and their total order: a binary heap in one array.

Rule: an event is (time in ps, key); the key names device, step, split and kind, so the order of equal times
is fixed by what an event is and never by when it was pushed.
"""

import numpy as np

from .._jit import inline_kernel, kernel
from .layout import KIND_BITS, SPLIT_BITS, STEP_BITS


@kernel
def push(heap, time, key):
    """Add an event to a binary heap that starts at row 1; row 0 counts it. Modified in place."""
    i = heap[0, 0] + 1
    heap[0, 0] = i
    while i > 1:
        parent = i >> 1
        t = heap[parent, 0]
        if t < time or (t == time and heap[parent, 1] < key):
            break
        heap[i, 0] = t
        heap[i, 1] = heap[parent, 1]
        i = parent
    heap[i, 0] = time
    heap[i, 1] = key


@kernel
def pop(heap):
    """Drop the first event. Modified in place.

    The hole sinks to a leaf by one comparison per level, without a branch to mispredict; then the event that
    stood last rises from there, seldom far (Knuth, The Art of Computer Programming 3, section 5.2.3, exercise 18).
    """
    n = heap[0, 0]
    heap[0, 0] = n - 1
    i = 1
    child = 2
    while child + 1 < n:
        t0 = heap[child, 0]
        t1 = heap[child + 1, 0]
        child += np.int64((t1 < t0) | ((t1 == t0) & (heap[child + 1, 1] < heap[child, 1])))
        heap[i, 0] = heap[child, 0]
        heap[i, 1] = heap[child, 1]
        i = child
        child = 2 * i
    if child < n:
        heap[i, 0] = heap[child, 0]
        heap[i, 1] = heap[child, 1]
        i = child
    time = heap[n, 0]
    event = heap[n, 1]
    while i > 1:
        parent = i >> 1
        t = heap[parent, 0]
        if t < time or (t == time and heap[parent, 1] < event):
            break
        heap[i, 0] = t
        heap[i, 1] = heap[parent, 1]
        i = parent
    heap[i, 0] = time
    heap[i, 1] = event


@inline_kernel
def key(d, step, split, kind):
    """Name an event: compared as a number, device, step, split and kind decide in this order."""
    return (((np.int64(d) << STEP_BITS | step) << SPLIT_BITS | split) << KIND_BITS) | kind
