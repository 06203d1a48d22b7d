"""The event loop: programs of all devices over their links, both directions at once, in integer picoseconds.

Rule: the heap sees transactions, never packets. A burst of TLPs passes its port as a first-in first-out
recurrence (sender's engine, wire, receiver's engine), so its cost is a few nanoseconds per TLP.

Events are totally ordered by (time, device, step, split, kind), which names an event independently of when
it was pushed; the order never depends on the history of the heap. docs/model.md states the semantics.
"""

from typing import Any, Final, NamedTuple

import numpy as np

from .._jit import inline_kernel, kernel
from ..spec import (
    BUFFER_DATA,
    HEADER_COMPLETION_BYTES,
    IDE_MAC_BYTES,
    REQUEST_BOUNDARY,
    SUB_STREAM_COMPLETION,
    SUB_STREAM_NON_POSTED,
    SUB_STREAM_POSTED,
)
from ..stats.draw import draw_u64, quantile
from ..stats.hist import bucket
from ..tlp.size import ide_bytes, padded_payload_bytes, request_header_bytes
from ..tlp.split import completion_bytes, piece, pieces
from ..workload.program import BEGIN, DELAY, EARLY1, EARLY2, END, FOREVER, MEDIA, READ_UP, WRITE_DOWN
from .params import (
    CHECK,
    CONTEXTS,
    CPL_MAX,
    DATA_LINK,
    DEN,
    INITIATION,
    KEY_ENTRIES,
    KEY_MISS,
    MAC,
    MPS,
    MRRS,
    NUM,
    PCRC,
    PERIOD,
    PIPE,
    PROP,
    RCB,
    SWITCH,
    WIDTH,
)

# Directions of a link, and the engines of a device's link: sender's and receiver's side of each direction.
UP: Final = 0
DOWN: Final = 1
TX: Final = 0
RX: Final = 1

# Event kinds.
READY: Final = 0  # a step may start
PORT: Final = 1  # a port accepts its next burst
ARRIVE: Final = 2  # a read request is at the root complex
DATA: Final = 3  # its data are at the root complex
ANSWERED: Final = 4  # its last completion is at the device
# Not events: what a burst that waits for a port is.
QUANTUM: Final = 5  # of a write
REQUEST_TLP: Final = 6  # of a read

# A key packs device, step, split and kind; the widths bound a run: 16 devices, 2**32 steps, 2**24 splits.
_KIND_BITS: Final = 3
_SPLIT_BITS: Final = 24
_STEP_BITS: Final = 32
_STEP_SHIFT: Final = _KIND_BITS + _SPLIT_BITS
_DEVICE_SHIFT: Final = _STEP_SHIFT + _STEP_BITS
MAX_DEVICES: Final = 1 << (63 - _DEVICE_SHIFT)
MAX_SPLITS: Final = 1 << _SPLIT_BITS

# Columns of `device`, one row per device: its program ...
LOADED: Final = 0  # steps loaded so far
OLDEST: Final = 1  # no step before this one is unfinished
EXHAUSTED: Final = 2  # the program has no further chunk
HORIZON: Final = 3  # later chunks hold no root step before this time
REACH: Final = 4
FREE_TAGS: Final = 5
QUEUE_HEAD: Final = 6
QUEUE_TAIL: Final = 7
STARVED_SINCE: Final = 8  # start of the present time without a free tag while a read waits, or -1
STARVED: Final = 9  # total of such time
FIRST_STEP: Final = 10  # start of the first step
LAST_STEP: Final = 11  # end of the last step
# ... its link, one column per direction ...
POSITION: Final = 12  # when the wire is free, in ticks of 1/DEN ps
LINK_BUSY: Final = 14  # ticks
LAST_OUT: Final = 16  # ps, of the previous TLP
LAST_DELIVER: Final = 18
ACCEPT: Final = 20  # ps, when the next burst may enter
ARMED: Final = 22  # a PORT event is in the heap
# ... the queues of its ports, by 2 * direction + class ...
HEAD: Final = 24
TAIL: Final = 28
# ... and the cipher engines, by 2 * direction + side.
ENGINE_FREE: Final = 32
ENGINE_LAST: Final = 36  # key context of the previous TLP, -1 for none
ENGINE_BUSY: Final = 40
RECENCY: Final = 44  # CONTEXTS columns per engine, the most recent context first
DEVICE_COLUMNS: Final = RECENCY + 4 * CONTEXTS

# Columns of `ring`, one row per step in flight. First the step ...
ADDRESS: Final = 0
BYTES: Final = 1
NOT_BEFORE: Final = 2
PAUSE: Final = 3  # delay_ps
OCCUPY: Final = 4
REQUEST: Final = 5
SERVER: Final = 6
FLAGS: Final = 7
KIND: Final = 8
STAT: Final = 9
BUFFER: Final = 10
SEALED: Final = 11  # the policy's decision
# ... then how far it is ...
DONE: Final = 12
PENDING: Final = 13  # unmet dependencies
MET: Final = 14  # the latest met one, ps
WAITING: Final = 15  # first of the steps that wait for this one: 2 * step + which, or -1
CHAIN: Final = 16  # two columns: the next one that waits for the same step, per dependency
LEFT: Final = 18  # splits of a read not yet answered, or quanta of a write
SPLITS: Final = 19  # of a read
CURSOR: Final = 20  # next split of a read
ENTERED: Final = 21  # when a read began to wait for its next tag
# ... and three that use the same slots under another number: a request's, and a place in the tag queue.
BEGUN: Final = 22
MEDIA_TIME: Final = 23
QUEUED: Final = 24
RING_COLUMNS: Final = 25

# Columns of `count`, one row per request class.
REQUESTS: Final = 0
PAYLOAD: Final = 1  # bytes of all TLPs
WIRE: Final = 2
TLPS: Final = 3
LINK: Final = 4  # framing, sequence number, LCRC
IDE: Final = 5
APPLICATION: Final = 6  # bytes of the application's own data
LATENCY: Final = 7  # sum over requests, ps
IO_PATH: Final = 8
FIRST_START: Final = 9
LAST_END: Final = 10
STALL_DEVICE: Final = 11
STALL_HOST: Final = 12
STALL_TAGS: Final = 13
STALL_LINK: Final = 14
STALL_ENGINE: Final = 15
COUNT_COLUMNS: Final = 16

# Columns of `scalar`.
HOST_FREE: Final = 0
HOST_BUSY: Final = 1
SCALARS: Final = 2

# What `advance` returns: finished, or the device that needs its next chunk.
FINISHED: Final = -1

# What `load` returns.
LOADED_OK: Final = 0
BAD_SIZE: Final = 1
BAD_DEPENDENCY: Final = 2
BAD_SERVER: Final = 3

# Two queues feed a port. Control (read requests, queue entries, interrupts, doorbells) goes before bulk (upstream
# data writes, downstream completions): it is small, and ports that let it wait behind bulk data stall themselves.
_CONTROL: Final = 0
_BULK: Final = 1

# How a transfer is cut into TLPs.
_AS_WRITE: Final = 0
_AS_REQUEST: Final = 1
_AS_COMPLETIONS: Final = 2

_HOST_STREAM: Final = 0x484F5354


class State(NamedTuple):
    """Everything that a run changes. D devices, C ring entries (a power of two), S request classes.

    heap : int64[H, 2], (time in ps, key) from row 1; row 0: their number, and when the last request may begin; scalar : int64[SCALARS]; device : int64[D, DEVICE_COLUMNS]
    ring : int64[D, C, RING_COLUMNS]; waiting : int64[D, 4, W], keys of bursts that wait for a port
    server : int64[D, servers, 2], ps, (free from, busy for)
    count : int64[S, COUNT_COLUMNS]; histogram : int64[2, S, BUCKETS], latency and io path
    kept : int64[2, D, K], the same two in ps by request, -1 where not run
    """

    heap: Any
    scalar: Any
    device: Any
    ring: Any
    waiting: Any
    server: Any
    count: Any
    histogram: Any
    kept: Any


@kernel
def _push(heap, time, key):
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
def _pop(heap):
    """Drop the first event. Modified in place."""
    n = heap[0, 0]
    heap[0, 0] = n - 1
    time = heap[n, 0]
    key = heap[n, 1]
    i = 1
    while True:
        child = 2 * i
        if child >= n:
            break
        other = child + 1
        if other < n and (
            heap[other, 0] < heap[child, 0] or (heap[other, 0] == heap[child, 0] and heap[other, 1] < heap[child, 1])
        ):
            child = other
        t = heap[child, 0]
        if t > time or (t == time and heap[child, 1] > key):
            break
        heap[i, 0] = t
        heap[i, 1] = heap[child, 1]
        i = child
    heap[i, 0] = time
    heap[i, 1] = key


@inline_kernel
def _key(d, step, split, kind):
    """Name an event: compared as a number, device, step, split and kind decide in this order."""
    return (((np.int64(d) << _STEP_BITS | step) << _SPLIT_BITS | split) << _KIND_BITS) | kind


@kernel
def _switch_context(device, links, d, engine, context):
    """Return (bubble, load) in ps that a TLP of a key context costs an engine.  Modified in place: `device`."""
    last = device[d, ENGINE_LAST + engine]
    if last == context:
        return 0, 0
    device[d, ENGINE_LAST + engine] = context
    top = RECENCY + CONTEXTS * engine
    rank = 0
    while device[d, top + rank] != context:
        rank += 1
    load = links[d, KEY_MISS] if rank >= links[d, KEY_ENTRIES] else 0
    while rank > 0:
        device[d, top + rank] = device[d, top + rank - 1]
        rank -= 1
    device[d, top] = context
    return links[d, SWITCH] if last >= 0 else 0, load


@inline_kernel
def _send(device, links, count, d, stat, direction, context, address, size, cut, ready, sealed):
    """Pass one burst through a port: sender's engine, wire, receiver's engine.

    All its TLPs are ready at once. Modified in place: the port's columns of `device`, the class's of `count`.

    Returns
    -------
    accepted : ps, when the next burst can enter without leaving a hole on the wire.
    delivered : ps, when the last TLP can be used at the other end.
    """
    num = links[d, NUM]
    den = links[d, DEN]
    data_link = links[d, DATA_LINK]
    completions = cut == _AS_COMPLETIONS
    header = HEADER_COMPLETION_BYTES if completions else request_header_bytes(address)
    limit = links[d, CPL_MAX] if completions else links[d, MPS]
    rcb = links[d, RCB]
    position = device[d, POSITION + direction]
    out = device[d, LAST_OUT + direction]
    deliver = device[d, LAST_DELIVER + direction]
    arrive = np.int64(0)
    at = address
    rest = size
    tlps = 0
    wire_sum = np.int64(0)
    ide_sum = np.int64(0)
    if sealed:
        sender = 2 * direction + TX
        receiver = 2 * direction + RX
        pipe = links[d, PIPE]
        mac = links[d, MAC]
        check = links[d, CHECK]
        width = links[d, WIDTH]
        free = device[d, ENGINE_FREE + sender]
        fin = device[d, ENGINE_FREE + receiver]
        tx_gap, tx_load = _switch_context(device, links, d, sender, context)
        rx_gap, rx_load = _switch_context(device, links, d, receiver, context)
        last_padded = np.int64(-1)
        wire = np.int64(0)
        occupy = np.int64(0)
        occupied = np.int64(0)
        ide = np.int64(0)
        while True:
            part = completion_bytes(at, rest, limit, rcb) if completions else min(rest, limit - (at & (limit - 1)))
            padded = padded_payload_bytes(at, part)
            if padded != last_padded:
                last_padded = padded
                ide = ide_bytes(padded, links[d, PCRC] != 0)
                wire = data_link + header + padded + ide
                cycles = (header + padded + ide - IDE_MAC_BYTES + width - 1) // width
                occupy = max(links[d, INITIATION], cycles) * links[d, PERIOD]
            start = max(ready, free + tx_gap) + tx_load
            free = start + occupy
            out = max(start + pipe, out)
            # The wire must not run dry between the first byte and the MAC of a TLP.
            ticks = wire * num
            position = max(position, max(out * den, (free + pipe + mac) * den - ticks)) + ticks
            arrive = -(-position // den) + links[d, PROP]
            # The receiver's engine starts with the first byte at the earliest, and ends with the last.
            begin = fin + rx_gap
            if occupy * den > ticks:
                begin = max(begin, arrive - ticks // den)
            fin = max(arrive, begin + occupy) + rx_load
            deliver = max(fin + check, deliver)
            tx_gap = tx_load = rx_gap = rx_load = 0
            occupied += occupy
            wire_sum += wire
            ide_sum += ide
            tlps += 1
            at += part
            rest -= part
            if rest <= 0:
                break
        device[d, ENGINE_FREE + sender] = free
        device[d, ENGINE_FREE + receiver] = fin
        device[d, ENGINE_BUSY + sender] += occupied
        device[d, ENGINE_BUSY + receiver] += occupied
        engine = min(deliver - arrive + pipe, deliver - ready)
    else:
        # The same recurrence without engines: the TLPs follow each other on the wire.
        while True:
            part = completion_bytes(at, rest, limit, rcb) if completions else min(rest, limit - (at & (limit - 1)))
            wire_sum += data_link + header + padded_payload_bytes(at, part)
            tlps += 1
            at += part
            rest -= part
            if rest <= 0:
                break
        out = max(ready, out)
        position = max(position, out * den) + wire_sum * num
        arrive = -(-position // den) + links[d, PROP]
        deliver = max(arrive, deliver)
        engine = np.int64(0)
    # What enters this early keeps the wire busy, sealed or not, once the sender's engine is in use; rounding
    # down, so that no part of a ps is lost.
    ahead = links[d, PIPE] + links[d, MAC] if device[d, ENGINE_LAST + 2 * direction + TX] >= 0 else 0
    accepted = max(ready, position // den - ahead)
    device[d, POSITION + direction] = position
    device[d, LINK_BUSY + direction] += wire_sum * num
    device[d, LAST_OUT + direction] = out
    device[d, LAST_DELIVER + direction] = deliver
    count[stat, PAYLOAD] += size
    count[stat, WIRE] += wire_sum
    count[stat, TLPS] += tlps
    count[stat, LINK] += data_link * tlps
    count[stat, IDE] += ide_sum
    count[stat, STALL_ENGINE] += engine
    count[stat, STALL_LINK] += deliver - ready - engine
    return accepted, deliver


@inline_kernel
def _start_when_met(heap, ring, d, step, now):
    """Push the READY event of a step whose dependencies are met, unless it begins a request after the stop."""
    slot = step & (ring.shape[1] - 1)
    ready = ring[d, slot, MET]
    if ring[d, slot, KIND] != DELAY:
        ready += ring[d, slot, PAUSE]
    ready = max(max(ready, ring[d, slot, NOT_BEFORE]), now)
    if ring[d, slot, FLAGS] & BEGIN and ready > heap[0, 1]:
        ring[d, slot, DONE] = 1
    else:
        _push(heap, ready, _key(d, step, 0, READY))


@kernel
def _tell(heap, ring, d, step, early, time, now):
    """Tell the steps that wait for a moment of this one when it is; start those that wait no longer."""
    mask = ring.shape[1] - 1
    waiting = ring[d, step & mask, WAITING]
    while waiting >= 0:
        child = waiting >> 1
        which = waiting & 1
        slot = child & mask
        if ((ring[d, slot, FLAGS] & (EARLY2 if which else EARLY1)) != 0) == early:
            ring[d, slot, MET] = max(ring[d, slot, MET], time)
            ring[d, slot, PENDING] -= 1
            if ring[d, slot, PENDING] == 0:
                _start_when_met(heap, ring, d, child, now)
        waiting = ring[d, slot, CHAIN + which]


@inline_kernel
def _finish(state, d, step, end, now):
    """Settle a step whose end is known: dependents, request latency, window. Modified in place."""
    heap, _, device, ring, _, _, count, histogram, kept = state
    mask = ring.shape[1] - 1
    slot = step & mask
    _tell(heap, ring, d, step, False, end, now)
    device[d, LAST_STEP] = max(device[d, LAST_STEP], end)
    if ring[d, slot, FLAGS] & END:
        request = ring[d, slot, REQUEST]
        stat = ring[d, slot, STAT]
        latency = end - ring[d, request & mask, BEGUN]
        io_path = latency - ring[d, request & mask, MEDIA_TIME]
        count[stat, REQUESTS] += 1
        count[stat, LATENCY] += latency
        count[stat, IO_PATH] += io_path
        count[stat, LAST_END] = max(count[stat, LAST_END], end)
        histogram[0, stat, bucket(max(latency, 0))] += 1
        histogram[1, stat, bucket(max(io_path, 0))] += 1
        if request < kept.shape[2]:
            kept[0, d, request] = latency
            kept[1, d, request] = io_path
    ring[d, slot, DONE] = 1
    oldest = device[d, OLDEST]
    while oldest < device[d, LOADED] and ring[d, oldest & mask, DONE]:
        oldest += 1
    device[d, OLDEST] = oldest


@inline_kernel
def _wait(device, waiting, d, queue, burst):
    """Put a burst at the end of a port's queue. Modified in place."""
    tail = device[d, TAIL + queue]
    waiting[d, queue, tail & (waiting.shape[2] - 1)] = burst
    device[d, TAIL + queue] = tail + 1


@inline_kernel
def _enter(state, links, d, direction, queue, now):
    """Send the first waiting burst of a port's queue: a quantum of a write, a read request, or completions."""
    heap, _, device, ring, waiting, _, count, _, _ = state
    head = device[d, HEAD + queue]
    device[d, HEAD + queue] = head + 1
    burst = waiting[d, queue, head & (waiting.shape[2] - 1)]
    what = burst & ((1 << _KIND_BITS) - 1)
    split = (burst >> _KIND_BITS) & ((1 << _SPLIT_BITS) - 1)
    step = (burst >> _STEP_SHIFT) & ((1 << _STEP_BITS) - 1)
    slot = step & (ring.shape[1] - 1)
    boundary = REQUEST_BOUNDARY if what == QUANTUM else links[d, MRRS]
    address, size = piece(ring[d, slot, ADDRESS], ring[d, slot, BYTES], boundary, split)
    context = SUB_STREAM_POSTED
    cut = _AS_WRITE
    if what == DATA:
        context = SUB_STREAM_COMPLETION
        cut = _AS_COMPLETIONS
    elif what == REQUEST_TLP:
        context = SUB_STREAM_NON_POSTED
        cut = _AS_REQUEST
        size = 0
    stat = ring[d, slot, STAT]
    sealed = ring[d, slot, SEALED] != 0
    accepted, delivered = _send(device, links, count, d, stat, direction, context, address, size, cut, now, sealed)
    device[d, ACCEPT + direction] = accepted
    if what == DATA:
        _push(heap, delivered, _key(d, step, split, ANSWERED))
    elif what == REQUEST_TLP:
        _push(heap, delivered, _key(d, step, split, ARRIVE))
    elif split + 1 < ring[d, slot, LEFT]:
        _wait(device, waiting, d, queue, _key(d, step, split + 1, QUANTUM))
    else:
        _tell(heap, ring, d, step, True, accepted, now)
        _finish(state, d, step, delivered, now)


@inline_kernel
def _serve(state, links, d, now):
    """Let waiting bursts enter the ports of a device while these accept them, control first. Modified in place."""
    heap, _, device, _, _, _, _, _, _ = state
    for direction in range(2):
        control = 2 * direction + _CONTROL
        bulk = 2 * direction + _BULK
        while True:
            queue = control
            if device[d, HEAD + control] == device[d, TAIL + control]:
                if device[d, HEAD + bulk] == device[d, TAIL + bulk]:
                    break
                queue = bulk
            if device[d, ACCEPT + direction] > now:
                if device[d, ARMED + direction] == 0:
                    device[d, ARMED + direction] = 1
                    _push(heap, device[d, ACCEPT + direction], _key(d, direction, 0, PORT))
                break
            _enter(state, links, d, direction, queue, now)


@inline_kernel
def _issue_reads(state, d, now):
    """Offer read requests to the port while tags are free, one per waiting step in turn. Modified in place."""
    heap, _, device, ring, waiting, _, count, _, _ = state
    mask = ring.shape[1] - 1
    while device[d, FREE_TAGS] > 0 and device[d, QUEUE_HEAD] < device[d, QUEUE_TAIL]:
        step = ring[d, device[d, QUEUE_HEAD] & mask, QUEUED]
        device[d, QUEUE_HEAD] += 1
        device[d, FREE_TAGS] -= 1
        slot = step & mask
        k = ring[d, slot, CURSOR]
        ring[d, slot, CURSOR] = k + 1
        count[ring[d, slot, STAT], STALL_TAGS] += now - ring[d, slot, ENTERED]
        ring[d, slot, ENTERED] = now
        _wait(device, waiting, d, 2 * UP + _CONTROL, _key(d, step, k, REQUEST_TLP))
        if k + 1 < ring[d, slot, SPLITS]:
            ring[d, device[d, QUEUE_TAIL] & mask, QUEUED] = step
            device[d, QUEUE_TAIL] += 1
        else:
            _tell(heap, ring, d, step, True, now, now)
    starved = device[d, QUEUE_HEAD] < device[d, QUEUE_TAIL]
    if starved and device[d, STARVED_SINCE] < 0:
        device[d, STARVED_SINCE] = now
    elif not starved and device[d, STARVED_SINCE] >= 0:
        device[d, STARVED] += now - device[d, STARVED_SINCE]
        device[d, STARVED_SINCE] = -1


@inline_kernel
def _start(state, links, d, step, now):
    """Run a step that is ready. Modified in place."""
    heap, _, device, ring, waiting, server, count, _, _ = state
    mask = ring.shape[1] - 1
    slot = step & mask
    kind = ring[d, slot, KIND]
    stat = ring[d, slot, STAT]
    at = ring[d, slot, REQUEST] & mask
    if ring[d, slot, FLAGS] & BEGIN:
        ring[d, at, BEGUN] = now
        ring[d, at, MEDIA_TIME] = 0
        count[stat, FIRST_START] = min(count[stat, FIRST_START], now)
    device[d, FIRST_STEP] = min(device[d, FIRST_STEP], now)
    if kind == DELAY:
        begin = now
        s = ring[d, slot, SERVER]
        if s >= 0:
            begin = max(now, server[d, s, 0])
            server[d, s, 0] = begin + ring[d, slot, OCCUPY]
            server[d, s, 1] += ring[d, slot, OCCUPY]
        end = begin + ring[d, slot, PAUSE]
        count[stat, STALL_DEVICE] += end - now
        if ring[d, slot, FLAGS] & MEDIA:
            ring[d, at, MEDIA_TIME] += end - now
        _tell(heap, ring, d, step, True, begin, now)
        _finish(state, d, step, end, now)
        return
    data = ring[d, slot, BUFFER] == BUFFER_DATA
    if data:
        count[stat, APPLICATION] += ring[d, slot, BYTES]
    if kind == READ_UP:
        splits = pieces(ring[d, slot, ADDRESS], ring[d, slot, BYTES], links[d, MRRS])
        ring[d, slot, LEFT] = splits
        ring[d, slot, SPLITS] = splits
        ring[d, slot, CURSOR] = 0
        ring[d, slot, ENTERED] = now
        ring[d, device[d, QUEUE_TAIL] & mask, QUEUED] = step
        device[d, QUEUE_TAIL] += 1
    else:
        ring[d, slot, LEFT] = pieces(ring[d, slot, ADDRESS], ring[d, slot, BYTES], REQUEST_BOUNDARY)
        queue = 2 * DOWN + _CONTROL if kind == WRITE_DOWN else 2 * UP + (_BULK if data else _CONTROL)
        _wait(device, waiting, d, queue, _key(d, step, 0, QUANTUM))


@kernel
def advance(state, links, host_table, read_interval, seed):
    """Run until all is done or a device needs its next chunk.

    Parameters
    ----------
    state : State. Modified in place.
    links : int64[D, LINK_COLUMNS], see params.
    host_table : int64[4097], ps, inverse distribution of the root complex's read latency.
    read_interval : ps between two reads that the root complex starts.
    seed : key of the draws.

    Returns
    -------
    The device to load, or FINISHED.
    """
    heap, scalar, device, ring, waiting, _, count, _, _ = state
    mask = ring.shape[1] - 1
    stop = heap[0, 1]
    while True:
        now = heap[1, 0] if heap[0, 0] > 0 else np.int64(FOREVER)
        for d in range(links.shape[0]):
            horizon = device[d, HORIZON]
            if device[d, EXHAUSTED] == 0 and horizon <= now and horizon <= stop:
                return d
        if heap[0, 0] == 0:
            return FINISHED
        key = heap[1, 1]
        kind = key & ((1 << _KIND_BITS) - 1)
        split = (key >> _KIND_BITS) & ((1 << _SPLIT_BITS) - 1)
        step = (key >> _STEP_SHIFT) & ((1 << _STEP_BITS) - 1)
        d = key >> _DEVICE_SHIFT
        if now <= stop and kind != PORT and device[d, EXHAUSTED] == 0 and step + device[d, REACH] >= device[d, LOADED]:
            return d
        _pop(heap)
        slot = step & mask
        if kind == READY:
            _start(state, links, d, step, now)
        elif kind == PORT:
            device[d, ARMED + step] = 0
        elif kind == ARRIVE:
            start = max(now, scalar[HOST_FREE])
            scalar[HOST_FREE] = start + read_interval
            scalar[HOST_BUSY] += read_interval
            bits = draw_u64(seed, _HOST_STREAM + d, (step << _SPLIT_BITS) + split)
            data = start + quantile(host_table, bits)
            count[ring[d, slot, STAT], STALL_HOST] += data - now
            _push(heap, data, _key(d, step, split, DATA))
        elif kind == DATA:
            _wait(device, waiting, d, 2 * DOWN + _BULK, _key(d, step, split, DATA))
        else:
            device[d, FREE_TAGS] += 1
            ring[d, slot, LEFT] -= 1
            if ring[d, slot, LEFT] == 0:
                _finish(state, d, step, now, now)
        if device[d, QUEUE_HEAD] < device[d, QUEUE_TAIL] or device[d, STARVED_SINCE] >= 0:
            _issue_reads(state, d, now)
        _serve(state, links, d, now)


@kernel
def load(state, d, first_class, reach, servers, most_bytes, steps, sealed):
    """Append a chunk to a device's ring and push its root steps. Modified in place.

    Parameters
    ----------
    first_class : row of `count` of the program's first request class.
    reach, servers : what the program promised; most_bytes : of one transfer.
    steps : STEP[n]; sealed : bool[n], the policy's decision per step.

    Returns
    -------
    LOADED_OK, or what is wrong with a step; the state is of no further use then.
    """
    heap, _, device, ring, _, _, _, _, _ = state
    mask = ring.shape[1] - 1
    base = device[d, LOADED]
    device[d, LOADED] = base + len(steps)
    for i in range(len(steps)):
        step = base + i
        slot = step & mask
        record = steps[i]
        size = record["bytes"]
        if record["kind"] != DELAY and (size < 1 or size > most_bytes):
            return BAD_SIZE
        if record["server"] >= servers:
            return BAD_SERVER
        ring[d, slot, ADDRESS] = record["address"]
        ring[d, slot, BYTES] = size
        ring[d, slot, NOT_BEFORE] = record["not_before_ps"]
        ring[d, slot, PAUSE] = record["delay_ps"]
        ring[d, slot, OCCUPY] = record["occupy_ps"]
        ring[d, slot, REQUEST] = record["request"]
        ring[d, slot, SERVER] = record["server"]
        ring[d, slot, FLAGS] = record["flags"]
        ring[d, slot, KIND] = record["kind"]
        ring[d, slot, STAT] = first_class + record["stat"]
        ring[d, slot, BUFFER] = record["buffer"]
        ring[d, slot, SEALED] = sealed[i]
        ring[d, slot, DONE] = 0
        ring[d, slot, MET] = 0
        ring[d, slot, WAITING] = -1
        pending = 0
        for which in range(2):
            distance = record["after2"] if which else record["after"]
            if distance < 0 or distance > reach or distance > step:
                return BAD_DEPENDENCY
            if distance > 0:
                before = (step - distance) & mask
                ring[d, slot, CHAIN + which] = ring[d, before, WAITING]
                ring[d, before, WAITING] = 2 * step + which
                pending += 1
        ring[d, slot, PENDING] = pending
        if pending == 0:
            _start_when_met(heap, ring, d, step, 0)
    return LOADED_OK
