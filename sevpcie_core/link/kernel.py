"""The event loop: programs of all devices over their links, both directions at once, in integer picoseconds.

Rule: the heap sees transactions, never packets; a burst of TLPs costs a few nanoseconds per TLP (`port`).
docs/model.md states the semantics; tests/oracles holds a plain version of it.
"""

from typing import Final

import numpy as np

from .._jit import inline_kernel, kernel
from .._jit.ints import bare
from ..spec import (
    BUFFER_DATA,
    SUB_STREAM_COMPLETION,
    SUB_STREAM_NON_POSTED,
    SUB_STREAM_POSTED,
)
from ..stats.draw import TABLE_POINTS, draw_u64, quantile
from ..stats.hist import BUCKETS, bucket
from ..tlp.split import piece, pieces
from ..workload.program import BEGIN, DELAY, EARLY1, EARLY2, END, FOREVER, MEDIA, READ_UP, STAGE, WRITE_DOWN
from .drain import drain
from .heap import key, pop, push
from .hop import (
    context_of,
    cross,
    cut_through,
    drain_work,
    measure,
    on_wire,
    opening,
    sealing,
    serve_shared,
    there_before,
)
from .layout import (
    ACCEPT,
    ADDRESS,
    ANSWERED,
    APPLICATION,
    ARBITRATION,
    ARRIVE,
    AT_SWITCH,
    BEGUN,
    BEGUN_AS,
    BUFFER,
    BURST,
    BURSTS,
    BYTES,
    CHAIN,
    COLD_PS,
    COUNT_COLUMNS,
    COUNTED,
    CREDIT_HEAD,
    CREDIT_TAIL,
    CREDIT_WAIT,
    CROWDED,
    CURSOR,
    DATA,
    DEVICE,
    DEVICE_COLUMNS,
    DEVICE_SHIFT,
    DONE,
    DOWN,
    DRAIN_FREE,
    ENGINE,
    ENTERED,
    EXHAUSTED,
    FIRST_START,
    FIRST_STEP,
    FLAGS,
    FLIGHT,
    FLIGHT_HEAD,
    FLIGHT_TAIL,
    FOREGROUND,
    FREE_TAGS,
    HEAD,
    HEADERS,
    HOLD,
    HOP,
    HOP_SENT,
    HORIZON,
    HOST,
    HOST_BUSY,
    HOST_COLUMNS,
    HOST_FREE,
    IO_PATH,
    IOMMU,
    KIND,
    KIND_BITS,
    LAST_BYTE,
    LAST_DELIVER,
    LAST_END,
    LAST_STEP,
    LATENCY,
    LATEST,
    LEDGER_COLUMNS,
    LEFT,
    LINE_COLUMNS,
    LINE_HEAD,
    LINE_LATEST,
    LINE_TAIL,
    LOADED,
    LOOKUPS,
    MARK,
    MEDIA_TIME,
    MEDIUM,
    MET,
    MISS_BITS,
    MISSES,
    MISSING,
    NAMED,
    NOT_BEFORE,
    OCCUPY,
    OLDEST,
    ORDERING,
    PAGE_SHIFT,
    PARKED,
    PARKED_HEAD,
    PARKED_SINCE,
    PARKED_TAIL,
    PAUSE,
    PEER_FREE,
    PENDING,
    PHASE_EVERY,
    PHASE_FROM,
    PHASE_ON,
    PORT,
    PR_SENT,
    QUANTUM,
    QUEUE_HEAD,
    QUEUE_TAIL,
    QUEUED,
    REACH,
    READ_INTERVAL,
    READY,
    REFRESH_EVERY,
    REFRESH_PS,
    REPLAYED,
    REQUEST,
    REQUEST_TLP,
    REQUESTS,
    RING_COLUMNS,
    SCALARS,
    SEALED,
    SEEN,
    SERIALISATION,
    SERVE,
    SERVE_AT,
    SERVE_NEXT,
    SERVER,
    SET_MASK,
    SPENT_COLUMNS,
    SPLIT_BITS,
    SPLITS,
    STAGING,
    STALL_CREDITS,
    STALL_DEVICE,
    STALL_ENGINE,
    STALL_HOST,
    STALL_IOMMU,
    STALL_LINK,
    STALL_TAGS,
    STARVED,
    STARVED_SINCE,
    STAT,
    STEP_BITS,
    STEP_SHIFT,
    TAG_COLUMNS,
    TAG_SPLIT,
    TAG_WAIT,
    TAIL,
    THERE,
    TIMER_FLIGHT,
    TIMER_PORT,
    TIMERS,
    TO_OPEN,
    TO_PORT,
    TO_SEAL,
    TRANSFER,
    TRANSFERS,
    TURN,
    UP,
    VISIBLE,
    WAITING,
    WALKER_BUSY,
    WANTED,
    WANTED_UNTIL,
    State,
)
from .params import (
    CHECK,
    CREDIT_PS,
    CREDITS,
    DEN,
    DEN_SHIFT,
    DRAIN_LINE,
    DRAIN_TLP,
    FABRIC,
    HOLD_PS,
    IDO,
    LINK_COLUMNS,
    LINK_STREAM,
    MRRS,
    ORDERED,
    OTHER,
    PATH,
    PEER_EVERY,
    PEER_READ,
    PIPE,
    PROP,
    QUANTUM_BYTES,
    REDIRECTS,
    RELAXED,
    RMP_CHECK,
    SHARED,
    STORES,
    SWITCH_PS,
    TURN_PS,
    UPLINK,
    WRITE_LATENCY,
)
from .port import _arrival as arrival
from .port import _whole as whole
from .port import give_back, give_back_early, send
from .units import AS_COMPLETIONS, AS_REQUEST, AS_WRITE

# Two queues feed a port. Control (read requests, queue entries, interrupts, doorbells) goes before bulk
# (upstream data writes, downstream completions): it is small, and a port that lets it wait stalls itself.
CONTROL: Final = 0
BULK: Final = 1

_HOST_STREAM: Final = 0x484F5354
_WALK_STREAM: Final = 0x57414C4B
_ERROR_STREAM: Final = 0x4552524F
_MISS_STREAM: Final = 0x4D495353
_REFRESH_STREAM: Final = 0x52454652
# Pages below 2**52, devices above.
_PAGE_BITS: Final = 52


# What `advance` returns: finished, out of time, or the device that needs its next chunk.
FINISHED: Final = -1

TOO_LONG: Final = -2
# Lines and queues of bursts on their way must grow; then it goes on where it stopped.
GROW: Final = -3

# Flags of a step in the ring, beside its own: somebody waits for this moment of it.
_EARLY_WAITED: Final = 1 << 16
_END_WAITED: Final = 1 << 17

_NOTHING: Final = np.int64(-1)

# Rows of `tables`.
HOST_TABLE: Final = 0
WALK_TABLE: Final = 1

# What `load` returns.
LOADED_OK: Final = 0
BAD_SIZE: Final = 1
BAD_DEPENDENCY: Final = 2
BAD_SERVER: Final = 3
BAD_PEER: Final = 4


@inline_kernel
def _ready(row, now):
    """Return when a step that waits no longer may start, ps."""
    ready = row[MET]
    if row[KIND] != DELAY:
        ready += row[PAUSE]
    return max(max(ready, row[NOT_BEFORE]), now)


@kernel
def _opening(port, ready):
    """Return when a request of a device with phases that is due then may begin, ps."""
    if ready <= port[PHASE_FROM]:
        return port[PHASE_FROM]
    every = port[PHASE_EVERY]
    into = ready - port[PHASE_FROM]
    if every > 0:
        into %= every
    if into < port[PHASE_ON]:
        return ready
    return ready + every - into if every > 0 else FOREVER


@inline_kernel
def _start_at(heap, port, row, d, step, ready):
    """Push the READY event of a step, unless it begins a request after the stop. Modified in place."""
    if row[FLAGS] & BEGIN:
        if port[PHASE_ON] > 0:
            ready = _opening(port, ready)
        if ready > heap[1] or ready == FOREVER:
            row[DONE] = 1
            return
    push(heap, ready, key(d, step, 0, READY))


@inline_kernel
def _ends_behind(ring, d, child, request):
    """Return whether this step, or the one that waits for it, ends the request."""
    mask = ring.shape[1] - 1
    row = ring[d, child & mask]
    if row[FLAGS] & END and row[REQUEST] == request:
        return True
    if row[WAITING] < 0:
        return False
    row = ring[d, (row[WAITING] >> 1) & mask]
    return row[FLAGS] & END != 0 and row[REQUEST] == request


@inline_kernel
def _only_passes_time(port, ring, d, step, row, ready):
    """Return whether all that a step does is known before it is ready, whatever happens until then.

    That is a delay without a server, to the end of which one step looks forward that waits for nothing else.
    Events of ports and stations name a direction or a line where others name a step, so the first steps come
    between them where times are equal. Time of media must be counted between the begin and the end of its
    request.
    """
    flags = row[FLAGS]
    if (
        row[KIND] != DELAY
        or row[SERVER] >= 0
        or flags & (BEGIN | END)
        or step <= port[NAMED]
        or row[WAITING] < 0
        or ready > port[LATEST]
        or (port[EXHAUSTED] == 0 and step + port[REACH] >= port[LOADED])
    ):
        return False
    child = row[WAITING] >> 1
    mask = ring.shape[1] - 1
    after = ring[d, child & mask]
    if after[PENDING] != 1 or after[CHAIN + (row[WAITING] & 1)] >= 0:
        return False
    if flags & MEDIA:
        request = row[REQUEST]
        return ring[d, request & mask, BEGUN_AS] == request + 1 and _ends_behind(ring, d, child, request)
    return True


@inline_kernel
def _go_on(heap, port, count, ring, kept, d, step, now):
    """Start a step that waits no longer: at its event, or at once for as long as only time passes.

    Modified in place. With a ledger every step has its event.
    """
    mask = ring.shape[1] - 1
    row = ring[d, step & mask]
    ready = _ready(row, now)
    while not kept and _only_passes_time(port, ring, d, step, row, ready):
        pause = row[PAUSE]
        flags = row[FLAGS]
        port[FIRST_STEP] = min(port[FIRST_STEP], ready)
        port[LAST_STEP] = max(port[LAST_STEP], ready + pause)
        count[row[STAT], STALL_HOST if flags & STAGE else STALL_DEVICE] += pause
        if flags & MEDIA:
            ring[d, row[REQUEST] & mask, MEDIA_TIME] += pause
        row[DONE] = 1
        which = row[WAITING] & 1
        step = row[WAITING] >> 1
        row = ring[d, step & mask]
        early = row[FLAGS] & (EARLY2 if which else EARLY1)
        row[MET] = max(row[MET], ready if early else ready + pause)
        row[PENDING] = 0
        ready = _ready(row, now)
    _start_at(heap, port, row, d, step, ready)


@inline_kernel
def _tell(heap, port, count, ring, ledger, d, step, early, time, now):
    """Tell the steps that wait for a moment of this one when it is. Modified in place."""
    if ring[d, step & (ring.shape[1] - 1), FLAGS] & (_EARLY_WAITED if early else _END_WAITED):
        _tell_waiting(heap, port, count, ring, ledger, d, step, early, time, now)


@kernel
def _tell_waiting(heap, port, count, ring, ledger, d, step, early, time, now):
    """Tell every step that waits for this moment; start those that wait no longer. Modified in place.

    A step's ledger goes on from that of the latest step of its own request that it waits for, if that one
    comes behind the begin of the request.
    """
    mask = ring.shape[1] - 1
    waiting = ring[d, step & mask, WAITING]
    request = ring[d, step & mask, REQUEST]
    while waiting >= 0:
        child = waiting >> 1
        which = waiting & 1
        slot = child & mask
        row = ring[d, slot]
        if ((row[FLAGS] & (EARLY2 if which else EARLY1)) != 0) == early:
            row[MET] = max(row[MET], time)
            row[PENDING] -= 1
            if (
                ledger.shape[1] > 0
                and row[REQUEST] == request
                and time > ledger[d, slot, MARK]
                and ledger[d, step & mask, COUNTED] != 0
            ):
                for place in range(LEDGER_COLUMNS):
                    ledger[d, slot, place] = ledger[d, step & mask, place]
                ledger[d, slot, MARK] = time
            if row[PENDING] == 0:
                _go_on(heap, port, count, ring, ledger.shape[1] > 0, d, child, now)
        waiting = row[CHAIN + which]


@kernel
def leave(state, d):
    """Note that a device in the foreground is done. Modified in place: state.

    No request in the background begins after the end of the last of them.
    """
    port = state.device[d]
    scalar = state.scalar
    port[FOREGROUND] = 0
    scalar[WANTED_UNTIL] = max(scalar[WANTED_UNTIL], port[LAST_STEP])
    scalar[WANTED] -= 1
    if scalar[WANTED] == 0:
        state.heap[1] = min(state.heap[1], scalar[WANTED_UNTIL])


@inline_kernel
def _finish(state, d, step, end, now):
    """Settle a step whose end is known: dependents, request latency, window. Modified in place."""
    heap, device, ring, count = state.heap, state.device, state.ring, state.count
    histogram, kept = state.histogram, state.kept
    port = device[d]
    mask = ring.shape[1] - 1
    slot = step & mask
    row = ring[d, slot]
    _tell(heap, port, state.count, ring, state.ledger, d, step, False, end, now)
    port[LAST_STEP] = max(port[LAST_STEP], end)
    if row[FLAGS] & END:
        request = row[REQUEST]
        stat = row[STAT]
        latency = end - ring[d, request & mask, BEGUN]
        io_path = latency - ring[d, request & mask, MEDIA_TIME]
        count[stat, REQUESTS] += 1
        count[stat, LATENCY] += latency
        count[stat, IO_PATH] += io_path
        count[stat, LAST_END] = max(count[stat, LAST_END], end)
        if state.ledger.shape[1] > 0:
            for place in range(MARK):
                state.spent[stat, place] += state.ledger[d, slot, place]
        histogram[0, stat, bucket(max(latency, 0))] += 1
        histogram[1, stat, bucket(max(io_path, 0))] += 1
        if request < kept.shape[2]:
            kept[0, d, request] = latency
            kept[1, d, request] = io_path
    row[DONE] = 1
    oldest = port[OLDEST]
    while oldest < port[LOADED] and ring[d, oldest & mask, DONE]:
        oldest += 1
    port[OLDEST] = oldest
    if port[FOREGROUND] and oldest == port[LOADED] and port[EXHAUSTED]:
        leave(state, d)


@inline_kernel
def _wait(port, waiting, queue, burst):
    """Put a burst at the end of a port's queue. Modified in place."""
    tail = port[TAIL + queue]
    waiting[queue, tail & (waiting.shape[1] - 1)] = burst
    port[TAIL + queue] = tail + 1
    port[BURSTS + (queue >> 1)] += 1


@inline_kernel
def _shares(time, stalled, replayed, idled):
    """Divide the time in which a port takes a burst, ps: credits, replay, engine, serialisation."""
    stalled = min(stalled, time)
    replayed = min(replayed, time - stalled)
    idled = min(idled, time - stalled - replayed)
    return stalled, replayed, idled, time - stalled - replayed - idled


@inline_kernel
def _enter(state, links, host, tables, seed, d, direction, queue, burst, now):
    """Send a burst that came from a port's queue: a quantum of a write, a read request, or completions."""
    heap = state.heap
    ring = state.ring
    waiting = state.waiting
    port = state.device[d]
    what = burst & ((1 << KIND_BITS) - 1)
    # Of a write the number of its quantum, of a read request its tag.
    number = (burst >> KIND_BITS) & ((1 << SPLIT_BITS) - 1)
    step = (burst >> STEP_SHIFT) & ((1 << STEP_BITS) - 1)
    slot = step & (ring.shape[1] - 1)
    row = ring[d, slot]
    kept = state.ledger.shape[1] > 0
    write = what == QUANTUM
    tag = state.tag[d, 0 if write else number]
    ledger = state.ledger[d, slot] if write and kept else tag
    boundary = links[d, QUANTUM_BYTES] if write else links[d, MRRS]
    split = number if write else tag[TAG_SPLIT]
    address, size = piece(row[ADDRESS], row[BYTES], boundary, split)
    context = SUB_STREAM_POSTED
    cut = AS_WRITE
    if what == DATA:
        context = SUB_STREAM_COMPLETION
        cut = AS_COMPLETIONS
    elif what == REQUEST_TLP:
        context = SUB_STREAM_NON_POSTED
        cut = AS_REQUEST
    count = state.count[row[STAT]]
    sealed = row[SEALED] != 0
    # The first of a write's TLPs is not at the root port before this, where its address is looked up.
    translated = now + links[d, PROP]
    if write and direction == UP and host[SET_MASK] >= 0:
        index = (row[TRANSFER] << SPLIT_BITS) + split
        translated = _translate(state, host, d, address, translated, tables, seed, index)
    last = split + 1 >= row[LEFT]
    # RO lets data writes pass others, but not on a protected stream.
    passes = links[d, RELAXED] != 0 and row[BUFFER] == BUFFER_DATA and not sealed
    if kept:
        ledger[ARBITRATION] += now - ledger[MARK]
        ledger[MARK] = now
    # What waits for the early moment of a write goes on from there, not from its end: that part is kept
    # apart.
    apart = kept and write and last and row[FLAGS] & _EARLY_WAITED != 0
    if apart:
        ledger = state.tag[d, state.tag.shape[1] - 1]
        for place in range(LEDGER_COLUMNS):
            ledger[place] = 0
    accepted, delivered, stalled, replayed, idled = send(
        port,
        links[d],
        state.owed[d],
        state.credit[d],
        count,
        direction,
        context,
        address,
        size,
        cut,
        now,
        translated,
        sealed,
        row,
        last,
        passes,
        ledger,
        kept,
        tables[WALK_TABLE + 1 + d],
        _ERROR_STREAM + 2 * d,
        seed,
    )
    # What the port took: where the next quantum, or what waits for the early moment, goes on.
    stalled, replayed, idled, serialised = _shares(accepted - now, stalled, replayed, idled)

    port[ACCEPT + direction] = accepted
    if not write:
        then = ANSWERED if what == DATA else ARRIVE
        if what == REQUEST_TLP and links[d, ORDERED]:
            if kept and delivered < port[VISIBLE]:
                ledger[ORDERING] += port[VISIBLE] - delivered
                ledger[MARK] = port[VISIBLE]
            delivered = max(delivered, port[VISIBLE])
        _fly(port, state.timer, state.flight, d, direction, delivered, key(d, step, number, then))
        return
    if not last:
        if kept:
            ledger[CREDIT_WAIT] += stalled
            ledger[REPLAYED] += replayed
            ledger[SERIALISATION] += serialised
            ledger[ENGINE] += idled
            ledger[MARK] = accepted
        _wait(port, waiting[d], queue, key(d, step, split + 1, QUANTUM))
        return
    if row[FLAGS] & _EARLY_WAITED:
        if apart:
            own = state.ledger[d, slot]
            own[CREDIT_WAIT] += stalled
            own[REPLAYED] += replayed
            own[SERIALISATION] += serialised
            own[ENGINE] += idled
            _tell(heap, port, state.count, ring, state.ledger, d, step, True, accepted, now)
            own[CREDIT_WAIT] -= stalled
            own[REPLAYED] -= replayed
            own[SERIALISATION] -= serialised
            own[ENGINE] -= idled
            for place in range(MARK):
                own[place] += ledger[place]
        else:
            _tell(heap, port, state.count, ring, state.ledger, d, step, True, accepted, now)
    _finish(state, d, step, delivered, now)


@inline_kernel
def _wait_on_the_way(state, row, queue, burst):
    """Put a burst at the end of a queue which may have to grow. Modified in place."""
    port = state.device[row]
    _wait(port, state.waiting[row], queue, burst)
    if port[TAIL + queue] - port[HEAD + queue] >= state.waiting.shape[2]:
        state.scalar[CROWDED] = 1


@inline_kernel
def _join(state, links, station, time, burst, last_byte):
    """Let a burst reach a station, not before those before it; return when, ps. Modified in place."""
    at = state.line_at[station]
    line = state.line[station]
    there = max(time, at[LINE_LATEST])
    at[LINE_LATEST] = there
    tail = at[LINE_TAIL]
    at[LINE_TAIL] = tail + 1
    passing = line[tail & (line.shape[0] - 1)]
    passing[THERE] = there
    passing[BURST] = burst
    passing[LAST_BYTE] = last_byte
    if tail == at[LINE_HEAD]:
        timer = links.shape[0] * TIMERS + station
        state.timer[timer, 0] = there
        state.timer[timer, 1] = key(0, station, 0, HOP)
    elif tail + 1 - at[LINE_HEAD] >= line.shape[0]:
        state.scalar[CROWDED] = 1
    return there


@inline_kernel
def _depart(state, links, d, queue, burst, sealed, now):
    """Send a burst to a device on its way: to the root port, or before that to the host's one engine."""
    if links[d, SHARED] != 0 and sealed:
        _join(state, links, TO_SEAL * links.shape[0], now + links[d, FABRIC], burst, now)
    else:
        uplink = links[d, UPLINK]
        _wait_on_the_way(state, uplink if uplink > 0 else d, queue, burst)


@inline_kernel
def _cut_of(what):
    """Return how a burst is cut into TLPs, and their sub-stream."""
    cut = AS_WRITE
    sub_stream = SUB_STREAM_POSTED
    if what == DATA:
        sub_stream = SUB_STREAM_COMPLETION
        cut = AS_COMPLETIONS
    elif what == REQUEST_TLP:
        sub_stream = SUB_STREAM_NON_POSTED
        cut = AS_REQUEST
    return cut, sub_stream


@inline_kernel
def _ends_of(d, peer, what):
    """Return the devices that a burst goes from and to; both are d where the other end is the host."""
    if peer < 0:
        return d, d
    return (peer, d) if what == DATA else (d, peer)


@inline_kernel
def _root_of(links, d):
    """Return the row of the link to the root port that a device is behind."""
    uplink = links[d, UPLINK]
    return uplink if uplink > 0 else d


@inline_kernel
def _turns_below(links, a, b):
    """Return whether what goes from one device to another turns at a switch, not at the root complex."""
    uplink = links[a, UPLINK]
    return a != b and uplink > 0 and uplink == links[b, UPLINK] and links[uplink, REDIRECTS] == 0


@kernel
def _turn(state, links, host, tables, seed, root, burst, first, time):
    """Let a burst that is at a root port go on to that of a peer. Modified in place: state.

    Parameters and result as `_reach`. The host translates addresses, of requests alone.
    """
    d = burst >> DEVICE_SHIFT
    what = burst & ((1 << KIND_BITS) - 1)
    number = (burst >> KIND_BITS) & ((1 << SPLIT_BITS) - 1)
    step = (burst >> STEP_SHIFT) & ((1 << STEP_BITS) - 1)
    slot = step & (state.ring.shape[1] - 1)
    row = state.ring[d, slot]
    write = what == QUANTUM
    known = time
    if what != DATA and host[SET_MASK] >= 0:
        split = number if write else state.tag[d, number, TAG_SPLIT]
        address, _ = piece(
            row[ADDRESS], row[BYTES], links[d, QUANTUM_BYTES] if write else links[d, MRRS], split
        )
        index = (row[TRANSFER] << SPLIT_BITS) + split
        since = first if write else time
        known = max(time, _translate(state, host, d, address, since, tables, seed, index))
    turned = known + links[root, TURN_PS]
    there = _join(state, links, TURN * links.shape[0] + root, turned, burst, turned)
    count = state.count[row[STAT]]
    count[STALL_IOMMU] += known - time
    count[STALL_HOST] += there - known
    if state.ledger.shape[1] > 0 and (not write or number + 1 >= row[LEFT]):
        ledger = state.ledger[d, slot] if write else state.tag[d, number]
        ledger[IOMMU] += known - time
        ledger[HOST] += turned - known
        ledger[ORDERING] += there - turned
        ledger[MARK] = there
    return there


@kernel
def _ask_peer(state, links, d, peer, burst, time):
    """Let a read request be answered that is at a peer. Modified in place: state."""
    at = state.device[peer]
    start = max(time, at[PEER_FREE])
    at[PEER_FREE] = start + links[peer, PEER_EVERY]
    data = start + links[peer, PEER_READ]
    number = (burst >> KIND_BITS) & ((1 << SPLIT_BITS) - 1)
    step = (burst >> STEP_SHIFT) & ((1 << STEP_BITS) - 1)
    state.count[state.ring[d, step & (state.ring.shape[1] - 1), STAT], STALL_DEVICE] += data - time
    if state.ledger.shape[1] > 0:
        tag = state.tag[d, number]
        tag[DEVICE] += data - time
        tag[MARK] = data
    push(state.heap, data, key(d, step, number, DATA))


@kernel
def _reach(state, links, host, tables, seed, root, direction, burst, first, time, behind, now):
    """Settle a burst whose last TLP can be used at the end of its way. Modified in place: state.

    The way to a peer is settled at its turn at the root complex, too.
    root : row of the link to its root port. first : ps, when its first TLP could be there. behind : ps, when
    a write can have been drained at the earliest, or 0, as in `cross`. Returns when the burst has left the
    buffer there, ps.
    """
    d = burst >> DEVICE_SHIFT
    what = burst & ((1 << KIND_BITS) - 1)
    number = (burst >> KIND_BITS) & ((1 << SPLIT_BITS) - 1)
    step = (burst >> STEP_SHIFT) & ((1 << STEP_BITS) - 1)
    kept = state.ledger.shape[1] > 0
    port = state.device[d]
    row = state.ring[d, step & (state.ring.shape[1] - 1)]
    peer = row[SERVER]
    if peer >= 0:
        if direction == UP:
            return _turn(state, links, host, tables, seed, root, burst, first, time)
        if what == REQUEST_TLP:
            _ask_peer(state, links, d, peer, burst, time)
            return time
    sealed = row[SEALED] != 0
    # RO lets data writes pass others, IDO any request those of other devices; but not on a protected stream.
    passes = links[d, RELAXED] != 0 and row[BUFFER] == BUFFER_DATA and not sealed
    before = state.device[d if links[d, IDO] != 0 and not sealed else root]
    if what != QUANTUM:
        then = ANSWERED if what == DATA else ARRIVE
        if what == REQUEST_TLP and links[root, ORDERED]:
            if kept and time < before[VISIBLE]:
                tag = state.tag[d, number]
                tag[ORDERING] += before[VISIBLE] - time
                tag[MARK] = before[VISIBLE]
            time = max(time, before[VISIBLE])
        _fly(port, state.timer, state.flight, d, direction, time, key(d, step, number, then))
        return time
    last = number + 1 >= row[LEFT]
    freed = time
    if direction == UP:
        link = links[root]
        address, size = piece(row[ADDRESS], row[BYTES], links[d, QUANTUM_BYTES], number)
        translated = first
        if host[SET_MASK] >= 0:
            index = (row[TRANSFER] << SPLIT_BITS) + number
            translated = _translate(state, host, d, address, first, tables, seed, index)
        work, final = drain_work(link, address, size, link[DRAIN_TLP], link[DRAIN_LINE])
        # The root port is that of all devices behind the same switch.
        freed, time = drain(
            state.device[root],
            port,
            row,
            state.ledger[d, step & (state.ring.shape[1] - 1)] if kept else state.tag[d, 0],
            kept,
            True,
            last,
            now,
            first,
            translated,
            work,
            time + final,
            behind,
            now if passes else before[DRAIN_FREE],
            now if passes else before[VISIBLE],
            link[WRITE_LATENCY] + (link[RMP_CHECK] if sealed else 0),
        )
    if last:
        _finish(state, d, step, time, now)
    return freed


@kernel
def _enter_way(state, links, host, tables, seed, row, direction, queue, burst, now):
    """Send a burst that came from a port's queue over one link of its way. Modified in place: state.

    As `_enter`, where a way has several links or the host one engine for all ports. row : of the link.
    """
    ring = state.ring
    port = state.device[row]
    link = links[row]
    d = burst >> DEVICE_SHIFT
    device = state.device[d]
    what = burst & ((1 << KIND_BITS) - 1)
    number = (burst >> KIND_BITS) & ((1 << SPLIT_BITS) - 1)
    step = (burst >> STEP_SHIFT) & ((1 << STEP_BITS) - 1)
    slot = step & (ring.shape[1] - 1)
    at = ring[d, slot]
    kept = state.ledger.shape[1] > 0
    write = what == QUANTUM
    tag = state.tag[d, 0 if write else number]
    ledger = state.ledger[d, slot] if write and kept else tag
    split = number if write else tag[TAG_SPLIT]
    address, size = piece(at[ADDRESS], at[BYTES], links[d, QUANTUM_BYTES] if write else links[d, MRRS], split)
    cut, sub_stream = _cut_of(what)
    sealed = at[SEALED] != 0
    count = state.count[at[STAT]]
    peer = at[SERVER]
    up = direction == UP
    source, target = _ends_of(d, peer, what)
    below = _turns_below(links, source, target)
    owner = source if up else target
    uplink = links[owner, UPLINK]
    root = _root_of(links, owner)
    first = row == (source if up else root) and (up or peer < 0)
    to_switch = below or row != root if up else row != target
    shared = link[SHARED] != 0
    stream = link[LINK_STREAM] != 0
    # Which ends of this link have an engine: the device's, a switch's, the root port's.
    seals = row == source if up else row == root and not below
    tx = sealed and (stream if not seals else up or not shared)
    rx = sealed and (stream if to_switch else not up or not shared)
    # An uplink carries the selective streams of all its devices, each with its keys and counters.
    several = row >= ring.shape[0] and not stream
    context = context_of(owner, UP, sub_stream) if several else np.int64(-1)
    sent = state.device[owner] if several else port
    last = not write or split + 1 >= at[LEFT]
    # Who comes by the host's one engine is followed by its next quantum from there.
    leads = write and first and not (shared and not up and sealed)
    if kept and (last or leads):
        ledger[ARBITRATION] += now - ledger[MARK]
        ledger[MARK] = now
    apart = kept and write and last and first and at[FLAGS] & _EARLY_WAITED != 0
    if apart:
        ledger = state.tag[d, state.tag.shape[1] - 1]
        for place in range(LEDGER_COLUMNS):
            ledger[place] = 0
    (
        accepted,
        enters,
        begin,
        arrive,
        last_byte,
        checked,
        held,
        behind,
        stalled,
        replayed,
        idled,
        total,
        carried,
        parts,
        units,
    ) = cross(
        port,
        state.key[2 * row + direction],
        link,
        state.owed[row],
        state.credit[row],
        count,
        row == d,
        sent,
        HOP_SENT if several else PR_SENT,
        direction,
        sub_stream,
        context,
        address,
        size,
        cut,
        now,
        sealed,
        tx,
        rx,
        tables[WALK_TABLE + 1 + row],
        _ERROR_STREAM + 2 * row,
        seed,
    )
    port[ACCEPT + direction] = accepted
    until = arrive
    latency = np.int64(0)
    if to_switch:
        latency = links[uplink, SWITCH_PS]
        if not (sealed and stream):
            if links[uplink, STORES] == 0:
                # It goes on when its head is there, but not so early that the next wire would run dry.
                _, head, _, _, _, _ = measure(link, cut, address, size, sealed)
                following = links[uplink if up and not below else target]
                until = cut_through(link, following, last_byte, carried, head)
            checked = until
    to_engine = shared and up and not to_switch
    if to_engine and not sealed:
        # What is not sealed goes there only to stay behind what is.
        at_engine = state.line_at[TO_OPEN * links.shape[0] + row]
        to_engine = at_engine[LINE_HEAD] < at_engine[LINE_TAIL]
    deliver = checked + latency
    if not to_engine:
        deliver = max(deliver, port[LAST_DELIVER + direction])
        port[LAST_DELIVER + direction] = deliver
    engine = min((link[PIPE] if tx else 0) + (checked - arrive if rx else 0), max(deliver - now, 0))
    starved = min(stalled, max(deliver - now, 0) - engine)
    count[STALL_ENGINE] += engine
    count[STALL_CREDITS] += starved
    count[STALL_LINK] += max(deliver - now, 0) - engine - starved
    if kept and last:
        ledger[CREDIT_WAIT] += enters - now
        ledger[ARBITRATION] += begin - enters
        span = until - link[PROP] - begin - replayed
        # In flit mode with the wait for the end of the flit.
        waited = arrive - link[PROP] + whole(-last_byte, link[DEN], link[DEN_SHIFT])
        serialised = min(on_wire(link, total) + waited, span) if sealed else span
        hold = link[HOLD_PS] + held if rx else 0
        ledger[REPLAYED] += replayed
        ledger[SERIALISATION] += serialised
        ledger[ENGINE] += span - serialised + checked - until - hold
        ledger[HOLD] += hold
        ledger[FLIGHT] += link[PROP] + latency
        ledger[ORDERING] += deliver - checked - latency
        ledger[MARK] = deliver
    # What the port took: where the next quantum, or what waits for the early moment, goes on.
    stalled, replayed, idled, serialised = _shares(accepted - now, stalled, replayed, idled)
    if write and first:
        own = state.ledger[d, slot] if kept else ledger
        if not last:
            if leads:
                if kept:
                    own[CREDIT_WAIT] += stalled
                    own[REPLAYED] += replayed
                    own[SERIALISATION] += serialised
                    own[ENGINE] += idled
                    own[MARK] = accepted
                _wait(port, state.waiting[row], queue, key(d, step, split + 1, QUANTUM))
        elif apart:
            own[CREDIT_WAIT] += stalled
            own[REPLAYED] += replayed
            own[SERIALISATION] += serialised
            own[ENGINE] += idled
            _tell(state.heap, device, state.count, ring, state.ledger, d, step, True, accepted, now)
            own[CREDIT_WAIT] -= stalled
            own[REPLAYED] -= replayed
            own[SERIALISATION] -= serialised
            own[ENGINE] -= idled
            for place in range(MARK):
                own[place] += ledger[place]
            own[MARK] = deliver
        else:
            _tell(state.heap, device, state.count, ring, state.ledger, d, step, True, accepted, now)
    # Those before it may have been drained later than they could have gone to the engine.
    freed = max(arrive + link[FABRIC], port[DRAIN_FREE])
    if to_engine:
        there = arrive
        if sealed:
            _, _, head, _, _, _ = measure(link, cut, address, size, sealed)
            there = there_before(link, last_byte, carried - head) + link[FABRIC]
        _join(state, links, TO_OPEN * links.shape[0] + row, there, burst, last_byte)
    elif to_switch:
        _join(state, links, AT_SWITCH + row, deliver, burst, last_byte)
    else:
        first_there = now + link[PROP]
        freed = _reach(
            state, links, host, tables, seed, root, direction, burst, first_there, deliver, behind, now
        )
    place = 2 * direction + (0 if write else 1)
    if cut != AS_REQUEST and not (up and what == DATA) and link[CREDITS + 2 * place] >= 0:
        if write and up:
            give_back_early(port, state.credit[row, place], place, freed + link[CREDIT_PS], units, parts)
        else:
            give_back(port, state.credit[row, place], place, freed + link[CREDIT_PS], units, parts)


@kernel
def _pass(state, links, host, tables, seed, station, now):
    """Take on the first burst of a line, which is at its station. Modified in place: state.

    Returns the row of the link whose ports have more to send for it, or -1.
    """
    rows = links.shape[0]
    line_at = state.line_at[station]
    line = state.line[station]
    head = line_at[LINE_HEAD]
    mask = line.shape[0] - 1
    burst = line[head & mask, BURST]
    last_byte = line[head & mask, LAST_BYTE]
    line_at[LINE_HEAD] = head + 1
    more = head + 1 < line_at[LINE_TAIL]
    state.timer[rows * TIMERS + station, 0] = line[(head + 1) & mask, THERE] if more else FOREVER
    place = station // rows
    row = station - place * rows
    d = burst >> DEVICE_SHIFT
    what = burst & ((1 << KIND_BITS) - 1)
    number = (burst >> KIND_BITS) & ((1 << SPLIT_BITS) - 1)
    step = (burst >> STEP_SHIFT) & ((1 << STEP_BITS) - 1)
    slot = step & (state.ring.shape[1] - 1)
    at = state.ring[d, slot]
    write = what == QUANTUM
    peer = at[SERVER]
    source, target = _ends_of(d, peer, what)
    root = _root_of(links, target)
    if place in (AT_SWITCH, TO_PORT):
        # From a device's link up, unless it turns here.
        up = place == AT_SWITCH and row < state.ring.shape[0] and not _turns_below(links, source, target)
        # Only a device may choose what it sends first: on the way up nothing passes a posted write any more,
        # nor does it on the way to a peer.
        bulk = what == DATA or up or peer >= 0
        to = row
        if place == AT_SWITCH:
            to = links[source, UPLINK] if up else target
        _wait_on_the_way(state, to, 2 * (UP if up else DOWN) + (BULK if bulk else CONTROL), burst)
        return to
    if place == TURN:
        credit = 2 * UP + OTHER
        if what == REQUEST_TLP and links[row, CREDITS + 2 * credit] >= 0:
            back = now + links[row, CREDIT_PS]
            give_back(state.device[row], state.credit[row, credit], credit, back, 0, 1)
        _depart(state, links, target, 2 * DOWN + BULK, burst, at[SEALED] != 0, now)
        return root
    kept = state.ledger.shape[1] > 0
    tag = state.tag[d, 0 if write else number]
    ledger = state.ledger[d, slot] if write and kept else tag
    split = number if write else tag[TAG_SPLIT]
    last = not write or split + 1 >= at[LEFT]
    address, size = piece(at[ADDRESS], at[BYTES], links[d, QUANTUM_BYTES] if write else links[d, MRRS], split)
    cut, sub_stream = _cut_of(what)
    count = state.count[at[STAT]]
    keys = state.key[2 * rows]
    link = links[row]
    if place == TO_OPEN:
        arrive = arrival(link, last_byte)
        checked = arrive
        hold = np.int64(0)
        behind = np.int64(0)
        if at[SEALED] != 0:
            _, _, _, works, _, final = measure(link, cut, address, size, True)
            start = serve_shared(state.scalar, keys, link, context_of(source, UP, sub_stream), now, works)
            # The last TLP has to be there.
            checked = max(start + works, arrive + link[FABRIC] + final) + link[CHECK] + link[FABRIC]
            hold = link[HOLD_PS]
            if write:
                behind = opening(link, address, size, start, last_byte)
        port = state.device[row]
        deliver = max(checked, port[LAST_DELIVER + UP])
        port[LAST_DELIVER + UP] = deliver
        count[STALL_ENGINE] += checked - arrive
        count[STALL_LINK] += deliver - checked
        if kept and last:
            ledger[ENGINE] += checked - hold - arrive
            ledger[HOLD] += hold
            ledger[ORDERING] += deliver - checked
            ledger[MARK] = deliver
        _reach(state, links, host, tables, seed, row, UP, burst, now, deliver, behind, now)
        return -1
    # To be sealed for a device.
    link = links[root]
    works, goes = sealing(link, cut, address, size)
    start = serve_shared(state.scalar, keys, link, context_of(target, DOWN, sub_stream), now, works)
    at_port = _join(state, links, TO_PORT * rows + root, start + goes + link[FABRIC], burst, now)
    count[STALL_ENGINE] += at_port - last_byte
    if not last and peer < 0:
        if kept:
            ledger[ENGINE] += now - ledger[MARK]
            ledger[MARK] = now
        _join(state, links, station, now + link[FABRIC], key(d, step, split + 1, QUANTUM), now)
    elif kept and last:
        ledger[ENGINE] += at_port - ledger[MARK]
        ledger[MARK] = at_port
    return -1


@inline_kernel
def _take(port, waiting, queue):
    """Take the first burst out of a port's queue. Modified in place: port."""
    head = port[HEAD + queue]
    port[HEAD + queue] = head + 1
    return waiting[queue, head & (waiting.shape[1] - 1)]


@inline_kernel
def _request_may_go(port, link, returning, now):
    """Return whether there is a credit for a read request by now. Modified in place: port."""
    place = 2 * UP + OTHER
    if link[CREDITS + 2 * place] < 0:
        return True
    head = port[CREDIT_HEAD + place]
    tail = port[CREDIT_TAIL + place]
    ring = returning.shape[0] - 1
    headers = port[HEADERS + place]
    while head < tail and returning[head & ring, 0] <= now:
        headers += 1
        head += 1
    port[CREDIT_HEAD + place] = head
    port[HEADERS + place] = headers
    return headers > 0


@inline_kernel
def _park(port, parked, tags, burst, now):
    """Set a read request aside that has no credit: posted TLPs pass it. Modified in place."""
    tag = tags[burst >> DEVICE_SHIFT, (burst >> KIND_BITS) & ((1 << SPLIT_BITS) - 1)]
    tag[ARBITRATION] += now - tag[MARK]
    tag[MARK] = now
    tail = port[PARKED_TAIL]
    parked[tail & (parked.shape[0] - 1)] = burst
    port[PARKED_TAIL] = tail + 1
    if port[PARKED_SINCE] < 0:
        port[PARKED_SINCE] = now


@inline_kernel
def _unpark(port, parked, tags, now):
    """Take the first request back that was set aside. Modified in place."""
    head = port[PARKED_HEAD]
    port[PARKED_HEAD] = head + 1
    if head + 1 == port[PARKED_TAIL]:
        port[PARKED] += now - port[PARKED_SINCE]
        port[PARKED_SINCE] = -1
    burst = parked[head & (parked.shape[0] - 1)]
    tag = tags[burst >> DEVICE_SHIFT, (burst >> KIND_BITS) & ((1 << SPLIT_BITS) - 1)]
    tag[CREDIT_WAIT] += now - tag[MARK]
    tag[MARK] = now
    return burst


@inline_kernel
def _port_key(state, row, direction):
    """Name the event of a port. Those of uplinks, whose rows come behind the devices', are device 0's."""
    uplink = row >= state.ring.shape[0]
    return key(0 if uplink else row, 2 * row + direction if uplink else direction, 0, PORT)


@inline_kernel
def _wake(state, row, direction, time):
    """Let a port look again at a time, or earlier if it would anyway. Modified in place."""
    at = row * TIMERS + TIMER_PORT + direction
    if time < state.timer[at, 0]:
        state.timer[at, 0] = time
        state.timer[at, 1] = _port_key(state, row, direction)


@inline_kernel
def _next_burst(state, links, d, direction, now):
    """Return what may enter a port now and the queue that it waited in, or _NOTHING. Modified in place."""
    port = state.device[d]
    waiting = state.waiting[d]
    control = 2 * direction + CONTROL
    bulk = 2 * direction + BULK
    while True:
        burst = _NOTHING
        queue = control
        if (
            direction == UP
            and port[PARKED_HEAD] < port[PARKED_TAIL]
            and _request_may_go(port, links[d], state.credit[d, 2 * UP + OTHER], now)
        ):
            burst = _unpark(port, state.parked[d], state.tag, now)
        elif port[HEAD + control] < port[TAIL + control]:
            burst = _take(port, waiting, control)
        elif port[HEAD + bulk] < port[TAIL + bulk]:
            queue = bulk
            burst = _take(port, waiting, bulk)
        if burst < 0:
            # Only requests without a credit are left. When one comes back is known, or its event will be.
            head = port[CREDIT_HEAD + 2 * UP + OTHER]
            if head < port[CREDIT_TAIL + 2 * UP + OTHER]:
                returning = state.credit[d, 2 * UP + OTHER]
                then = returning[head & (returning.shape[0] - 1), 0]
                _wake(state, d, direction, then)
            return burst, queue
        if direction == UP and burst & ((1 << KIND_BITS) - 1) == REQUEST_TLP:
            if not _request_may_go(port, links[d], state.credit[d, 2 * UP + OTHER], now):
                _park(port, state.parked[d], state.tag, burst, now)
                continue
            port[HEADERS + 2 * UP + OTHER] -= 1
        port[BURSTS + direction] -= 1
        return burst, queue


@inline_kernel
def _serve(state, links, host, tables, seed, d, direction, now):
    """Let a waiting burst enter a device's port if that accepts it, control first. Modified in place.

    Returns whether another one may enter at this very time. Not a loop: out of one the compiler would take
    what few bursts need, and do it for each.
    """
    port = state.device[d]
    if port[BURSTS + direction] == 0:
        return False
    if port[ACCEPT + direction] <= now:
        burst, queue = _next_burst(state, links, d, direction, now)
        if burst < 0:
            return False
        _enter(state, links, host, tables, seed, d, direction, queue, burst, now)
        if port[BURSTS + direction] == 0:
            return False
        if port[ACCEPT + direction] <= now:
            return True
    _wake(state, d, direction, port[ACCEPT + direction])
    return False


@inline_kernel
def _may_enter(port, direction, now):
    """Return whether a port would take a burst now."""
    return port[BURSTS + direction] > 0 and port[ACCEPT + direction] <= now


@inline_kernel
def _serve_link(state, links, host, tables, seed, row, now):
    """Let waiting bursts enter the ports of a link that is part of a way. Modified in place."""
    port = state.device[row]
    for direction in range(2):
        while port[BURSTS + direction] > 0:
            if port[ACCEPT + direction] > now:
                _wake(state, row, direction, port[ACCEPT + direction])
                break
            burst, queue = _next_burst(state, links, row, direction, now)
            if burst < 0:
                break
            _enter_way(state, links, host, tables, seed, row, direction, queue, burst, now)
            if state.scalar[CROWDED] != 0:
                # Once there is room, it goes on here.
                return


@kernel
def _serve_way(state, links, host, tables, seed, row, following, now):
    """Serve a link, and the one that follows it unless that is 0; returns whether that went through.

    Where queues were full, what is left is noted for `resume`. Modified in place.
    """
    scalar = state.scalar
    while True:
        if row >= 0:
            _serve_link(state, links, host, tables, seed, row, now)
        if scalar[CROWDED] != 0:
            scalar[SERVE] = row
            scalar[SERVE_NEXT] = following
            scalar[SERVE_AT] = now
            return False
        if following <= 0:
            return True
        row = following
        following = 0


@inline_kernel
def _translate(state, host, d, address, now, tables, seed, index):
    """Return when an address is translated, ps: at once if the IOTLB has its page, else after a walk.

    Modified in place: state. A page that is being walked is waited for, not walked again.
    """
    scalar = state.scalar
    scalar[LOOKUPS] += 1
    page = (address >> host[PAGE_SHIFT]) | (np.int64(d) << _PAGE_BITS)
    ways = state.iotlb[page & host[SET_MASK]]
    rank = 0
    while rank < ways.shape[0] and ways[rank, 0] != page:
        rank += 1
    if rank < ways.shape[0]:
        ready = max(now, ways[rank, 1])
        since = ways[rank, 1]
    else:
        scalar[MISSES] += 1
        rank = ways.shape[0] - 1
        first = 0
        walker = state.walker
        for w in range(1, walker.shape[0]):
            if walker[w] < walker[first]:
                first = w
        begin = max(now, walker[first])
        time = quantile(tables[WALK_TABLE], draw_u64(seed, _WALK_STREAM + d, index))
        ready = begin + time
        walker[first] = ready
        scalar[WALKER_BUSY] += time
        since = ready
    while rank > 0:
        ways[rank, 0] = ways[rank - 1, 0]
        ways[rank, 1] = ways[rank - 1, 1]
        rank -= 1
    ways[0, 0] = page
    ways[0, 1] = since
    return ready


@kernel
def _fetch(host, drawn, seed, now):
    """Return what a read takes longer for what is not in the cache, ps. Not inlined, for few hosts tell."""
    if np.int64(drawn >> np.uint64(64 - MISS_BITS)) >= host[MISSING]:
        return np.int64(0)
    taken = host[COLD_PS]
    if host[REFRESH_PS] > 0:
        # One somewhere in each interval: controllers postpone and pull in, and strictly periodic ones would
        # fall into step with a device that reads in a loop.
        interval = now // host[REFRESH_EVERY]
        part = np.int64(draw_u64(seed, _REFRESH_STREAM, interval) >> np.uint64(32))
        slack = host[REFRESH_EVERY] - host[REFRESH_PS]
        begin = interval * host[REFRESH_EVERY] + ((part * slack) >> 32)
        if begin <= now:
            taken += max(begin + host[REFRESH_PS] - now, 0)
    return taken


@inline_kernel
def _fly(port, timer, flight, d, direction, time, event):
    """Note when a burst arrives: seldom before others, by relaxed ordering only. Modified in place."""
    line = flight[d, direction]
    mask = line.shape[0] - 1
    head = port[FLIGHT_HEAD + direction]
    i = port[FLIGHT_TAIL + direction]
    port[FLIGHT_TAIL + direction] = i + 1
    # Where times are equal, the key decides.
    while i > head:
        before = line[(i - 1) & mask]
        if before[0] < time or (before[0] == time and before[1] < event):
            break
        line[i & mask, 0] = before[0]
        line[i & mask, 1] = before[1]
        i -= 1
    line[i & mask, 0] = time
    line[i & mask, 1] = event
    if i == head:
        at = d * TIMERS + TIMER_FLIGHT + direction
        timer[at, 0] = time
        timer[at, 1] = event


@inline_kernel
def _land(port, timer, flight, d, direction):
    """Take the first burst out of the flight. Modified in place."""
    line = flight[d, direction]
    head = port[FLIGHT_HEAD + direction] + 1
    port[FLIGHT_HEAD + direction] = head
    at = d * TIMERS + TIMER_FLIGHT + direction
    if head < port[FLIGHT_TAIL + direction]:
        timer[at, 0] = line[head & (line.shape[0] - 1), 0]
        timer[at, 1] = line[head & (line.shape[0] - 1), 1]
    else:
        timer[at, 0] = FOREVER


@inline_kernel
def _issue_reads(state, d, now):
    """Offer read requests to the port while tags are free, one per step in turn. Modified in place."""
    heap, device, ring, waiting, count = state.heap, state.device, state.ring, state.waiting, state.count
    port = device[d]
    mask = ring.shape[1] - 1
    kept = state.ledger.shape[1] > 0
    while port[FREE_TAGS] > 0 and port[QUEUE_HEAD] < port[QUEUE_TAIL]:
        step = ring[d, port[QUEUE_HEAD] & mask, QUEUED]
        port[QUEUE_HEAD] += 1
        port[FREE_TAGS] -= 1
        number = state.free[d, port[FREE_TAGS]]
        slot = step & mask
        row = ring[d, slot]
        k = row[CURSOR]
        row[CURSOR] = k + 1
        count[row[STAT], STALL_TAGS] += now - row[ENTERED]
        row[ENTERED] = now
        state.tag[d, number, TAG_SPLIT] = k
        if kept:
            tag = state.tag[d, number]
            for place in range(LEDGER_COLUMNS):
                tag[place] = state.ledger[d, slot, place]
            tag[TAG_WAIT] += now - tag[MARK]
            tag[MARK] = now
        _wait(port, waiting[d], 2 * UP + CONTROL, key(d, step, number, REQUEST_TLP))
        if k + 1 < row[SPLITS]:
            ring[d, port[QUEUE_TAIL] & mask, QUEUED] = step
            port[QUEUE_TAIL] += 1
        else:
            if kept:
                state.ledger[d, slot, TAG_WAIT] += now - state.ledger[d, slot, MARK]
                state.ledger[d, slot, MARK] = now
            _tell(heap, port, state.count, ring, state.ledger, d, step, True, now, now)
    starved = port[QUEUE_HEAD] < port[QUEUE_TAIL]
    if starved and port[STARVED_SINCE] < 0:
        port[STARVED_SINCE] = now
    elif not starved and port[STARVED_SINCE] >= 0:
        port[STARVED] += now - port[STARVED_SINCE]
        port[STARVED_SINCE] = -1


@inline_kernel
def _start(state, links, d, step, now):
    """Run a step that is ready. Modified in place."""
    heap, device, ring, waiting = state.heap, state.device, state.ring, state.waiting
    server, count = state.server, state.count
    port = device[d]
    mask = ring.shape[1] - 1
    slot = step & mask
    row = ring[d, slot]
    kind = row[KIND]
    stat = row[STAT]
    at = row[REQUEST] & mask
    if row[FLAGS] & BEGIN:
        if now > heap[1]:
            # It was due before the stop was known.
            row[DONE] = 1
            return
        ring[d, at, BEGUN] = now
        ring[d, at, MEDIA_TIME] = 0
        ring[d, at, BEGUN_AS] = row[REQUEST] + 1
        count[stat, FIRST_START] = min(count[stat, FIRST_START], now)
    port[FIRST_STEP] = min(port[FIRST_STEP], now)
    kept = state.ledger.shape[1] > 0
    if kept:
        ledger = state.ledger[d, slot]
        if row[FLAGS] & BEGIN:
            for place in range(MARK):
                ledger[place] = 0
            ledger[MARK] = now
            ledger[COUNTED] = 1
        elif ledger[MARK] < 0:
            # It waits for steps of other requests only, or comes before the begin of its own.
            ledger[MARK] = ring[d, at, BEGUN]
        ledger[DEVICE] += now - ledger[MARK]
        ledger[MARK] = now
    if kind == DELAY:
        begin = now
        s = row[SERVER]
        if s >= 0:
            begin = max(now, server[d, s, 0])
            server[d, s, 0] = begin + row[OCCUPY]
            server[d, s, 1] += row[OCCUPY]
        end = begin + row[PAUSE]
        count[stat, STALL_HOST if row[FLAGS] & STAGE else STALL_DEVICE] += end - now
        media = row[FLAGS] & MEDIA != 0
        if media:
            ring[d, at, MEDIA_TIME] += end - now
        place = MEDIUM if media else STAGING if row[FLAGS] & STAGE else DEVICE
        if kept:
            state.ledger[d, slot, place] += begin - now
        _tell(heap, port, state.count, ring, state.ledger, d, step, True, begin, now)
        if kept:
            state.ledger[d, slot, place] += end - begin
        _finish(state, d, step, end, now)
        return
    data = row[BUFFER] == BUFFER_DATA
    if data:
        count[stat, APPLICATION] += row[BYTES]
    if kind == READ_UP:
        splits = pieces(row[ADDRESS], row[BYTES], links[d, MRRS])
        row[LEFT] = splits
        row[SPLITS] = splits
        row[CURSOR] = 0
        row[ENTERED] = now
        ring[d, port[QUEUE_TAIL] & mask, QUEUED] = step
        port[QUEUE_TAIL] += 1
    else:
        row[LEFT] = pieces(row[ADDRESS], row[BYTES], links[d, QUANTUM_BYTES])
        row[SEEN] = 0
        queue = 2 * DOWN + CONTROL if kind == WRITE_DOWN else 2 * UP + (BULK if data else CONTROL)
        if kind == WRITE_DOWN and links[d, PATH] != 0:
            _depart(state, links, d, queue, key(d, step, 0, QUANTUM), row[SEALED] != 0, now)
        else:
            _wait(port, waiting[d], queue, key(d, step, 0, QUANTUM))


@inline_kernel
def _bare(state):
    """Return the same arrays, without what kernels need not know of them."""
    return State(
        bare(state.heap, 0),
        bare(state.timer, 2),
        bare(state.flight, 2),
        bare(state.scalar, SCALARS),
        bare(state.device, DEVICE_COLUMNS),
        bare(state.ring, RING_COLUMNS),
        bare(state.waiting, 0),
        bare(state.server, 2),
        bare(state.count, COUNT_COLUMNS),
        bare(state.histogram, BUCKETS),
        bare(state.kept, 0),
        bare(state.parked, 0),
        bare(state.owed, 2),
        bare(state.credit, 3),
        bare(state.tag, TAG_COLUMNS),
        bare(state.free, 0),
        bare(state.ledger, LEDGER_COLUMNS),
        bare(state.spent, SPENT_COLUMNS),
        bare(state.iotlb, 2),
        bare(state.walker, 0),
        bare(state.line, LINE_COLUMNS),
        bare(state.line_at, 3),
        bare(state.key, 0),
    )


@inline_kernel
def _advance(state, links, host, tables, seed, latest):
    """As `advance`."""
    heap, timer, flight, scalar = state.heap, state.timer, state.flight, state.scalar
    device, ring, waiting, count = state.device, state.ring, state.waiting, state.count
    mask = ring.shape[1] - 1
    stop = heap[1]
    kept = state.ledger.shape[1] > 0
    # The first root step of an unloaded chunk, and whose it is.
    frontier = FOREVER
    lagging = -1
    for d in range(links.shape[0]):
        horizon = device[d, HORIZON]
        if device[d, EXHAUSTED] == 0 and horizon <= stop and (lagging < 0 or horizon < frontier):
            frontier = horizon
            lagging = d
    now = 0
    d = 0
    turn = UP
    then_down = False
    again = False
    while True:
        if not again:
            # The first of all events: in the heap, or a timer.
            now = FOREVER
            event = -1
            source = -1
            if heap[0] > 0:
                now = heap[2]
                event = heap[3]
            for t in range(timer.shape[0]):
                then = timer[t, 0]
                # No event is there with the key -1: of what never comes, none is the first.
                if then <= now and (then < now or timer[t, 1] < event):
                    now = then
                    event = timer[t, 1]
                    source = t
            if lagging >= 0 and frontier <= now:
                return lagging
            if now == FOREVER:
                return FINISHED
            if now > latest:
                return TOO_LONG
            kind = event & ((1 << KIND_BITS) - 1)
            number = (event >> KIND_BITS) & ((1 << SPLIT_BITS) - 1)
            step = (event >> STEP_SHIFT) & ((1 << STEP_BITS) - 1)
            d = event >> DEVICE_SHIFT
            port = device[d]
            way = links[d, PATH] != 0
            # Of a way, the links whose ports may have something to send afterwards; else the direction.
            served = d
            following = 0
            direction = UP
            if way:
                following = links[d, UPLINK]
            if kind == HOP or (kind == PORT and step > DOWN):
                way = True
                following = 0
                served = step >> 1
            elif now <= stop and kind != PORT and port[EXHAUSTED] == 0 and step + port[REACH] >= port[LOADED]:
                return d
            if source < 0:
                pop(heap)
            elif kind == PORT:
                timer[source, 0] = FOREVER
                direction = step
            elif kind == HOP:
                served = _pass(state, links, host, tables, seed, step, now)
            else:
                _land(port, timer, flight, d, DOWN if kind == ANSWERED else UP)
            slot = step & mask
            row = ring[d, slot]
            if kind == READY:
                if row[KIND] == WRITE_DOWN:
                    direction = DOWN
                _start(state, links, d, step, now)
            elif kind == ARRIVE:
                start = max(now, scalar[HOST_FREE])
                scalar[HOST_FREE] = start + host[READ_INTERVAL]
                scalar[HOST_BUSY] += host[READ_INTERVAL]
                root = following if following > 0 else d
                if links[root, CREDITS + 2 * (2 * UP + OTHER)] >= 0:
                    # The request leaves the port's buffer.
                    place = 2 * UP + OTHER
                    back = start + links[root, CREDIT_PS]
                    give_back(device[root], state.credit[root, place], place, back, 0, 1)
                tag = state.tag[d, number]
                split = tag[TAG_SPLIT]
                index = (row[TRANSFER] << SPLIT_BITS) + split
                data = start
                if host[SET_MASK] >= 0:
                    address, _ = piece(row[ADDRESS], row[BYTES], links[d, MRRS], split)
                    data = _translate(state, host, d, address, start, tables, seed, index)
                    count[row[STAT], STALL_IOMMU] += data - start
                begun = data
                data += quantile(tables[HOST_TABLE], draw_u64(seed, _HOST_STREAM + d, index))
                if host[MISSING] > 0:
                    data += _fetch(host, draw_u64(seed, _MISS_STREAM + d, index), seed, begun)
                count[row[STAT], STALL_HOST] += data - begun + start - now
                if kept:
                    tag[HOST] += data - begun + start - now
                    tag[IOMMU] += begun - start
                    tag[MARK] = data
                push(heap, data, key(d, step, number, DATA))
            elif kind == DATA:
                direction = DOWN
                burst = key(d, step, number, DATA)
                if way and row[SERVER] >= 0:
                    # By the peer's link.
                    served = row[SERVER]
                    following = 0
                    _wait_on_the_way(state, served, 2 * UP + BULK, burst)
                elif way:
                    _depart(state, links, d, 2 * DOWN + BULK, burst, row[SEALED] != 0, now)
                else:
                    _wait(port, waiting[d], 2 * DOWN + BULK, burst)
            elif kind == ANSWERED:
                state.free[d, port[FREE_TAGS]] = number
                port[FREE_TAGS] += 1
                row[LEFT] -= 1
                if row[LEFT] == 0:
                    if kept:
                        for place in range(LEDGER_COLUMNS):
                            state.ledger[d, slot, place] = state.tag[d, number, place]
                    _finish(state, d, step, now, now)
            if served == d and (port[QUEUE_HEAD] < port[QUEUE_TAIL] or port[STARVED_SINCE] >= 0):
                _issue_reads(state, d, now)
            if way:
                if not _serve_way(state, links, host, tables, seed, served, following, now):
                    return GROW
                continue
            # The event concerns one direction. By the other one something enters if it could have at an
            # event of this very time; the way up comes first.
            then_down = direction == DOWN and _may_enter(port, UP, now)
            turn = UP if then_down else direction
        again = _serve(state, links, host, tables, seed, d, turn, now)
        if not again and turn == UP:
            again = then_down or _may_enter(device[d], DOWN, now)
            turn = DOWN
            then_down = False


@kernel
def advance(state, links, host, tables, seed, latest):
    """Run until all is done or a device needs its next chunk.

    Parameters
    ----------
    state : State. Modified in place.
    links : int64[R, LINK_COLUMNS], see params.
    host : int64[HOST_COLUMNS], see layout.
    tables : int64[2 + R, 4097], inverse distributions: of the root complex's read latency and of a walk
        through the page tables, ps, then of the bytes between two errors on each link.
    seed : key of the draws.
    latest : ps, the last time that positions on the wire can count.

    Returns
    -------
    The device to load, FINISHED, TOO_LONG, or GROW.
    """
    rows, constants = bare(links, LINK_COLUMNS), bare(host, HOST_COLUMNS)
    points = bare(tables, TABLE_POINTS)
    return _advance(_bare(state), rows, constants, points, seed, latest)


@kernel
def resume(state, links, host, tables, seed):
    """Serve what was left when lines and queues were full. Modified in place: state.

    Parameters as `advance`. Returns GROW if they are full again, else FINISHED.
    """
    rows, constants = bare(links, LINK_COLUMNS), bare(host, HOST_COLUMNS)
    points = bare(tables, TABLE_POINTS)
    scalar = state.scalar
    scalar[CROWDED] = 0
    row, following, now = scalar[SERVE], scalar[SERVE_NEXT], scalar[SERVE_AT]
    done = _serve_way(_bare(state), rows, constants, points, seed, row, following, now)
    return FINISHED if done else GROW


@inline_kernel
def _load(state, d, first_class, reach, servers, peers, most_bytes, steps, sealed):
    """As `load`."""
    heap, device, ring = state.heap, state.device, state.ring
    mask = ring.shape[1] - 1
    port = device[d]
    base = port[LOADED]
    port[LOADED] = base + len(steps)
    for i in range(len(steps)):
        step = base + i
        slot = step & mask
        row = ring[d, slot]
        record = steps[i]
        size = record["bytes"]
        if record["kind"] != DELAY and (size < 1 or size > most_bytes):
            return BAD_SIZE
        server = record["server"]
        if record["kind"] == DELAY:
            if server >= servers:
                return BAD_SERVER
        elif server >= 0 and (server >= peers or server == d or record["kind"] == WRITE_DOWN):
            return BAD_PEER
        row[ADDRESS] = record["address"]
        row[BYTES] = size
        row[NOT_BEFORE] = record["not_before_ps"]
        row[PAUSE] = record["delay_ps"]
        row[OCCUPY] = record["occupy_ps"]
        row[REQUEST] = record["request"]
        row[SERVER] = server
        row[FLAGS] = record["flags"]
        row[KIND] = record["kind"]
        row[STAT] = first_class + record["stat"]
        row[BUFFER] = record["buffer"]
        row[SEALED] = sealed[i]
        # Draws are named by it, so that delays which a scheme puts between transfers change none.
        row[TRANSFER] = port[TRANSFERS]
        port[TRANSFERS] += record["kind"] != DELAY
        if state.ledger.shape[1] > 0:
            for place in range(MARK):
                state.ledger[d, slot, place] = 0
            state.ledger[d, slot, MARK] = -1
            state.ledger[d, slot, COUNTED] = 0
        row[DONE] = 0
        row[MET] = 0
        row[WAITING] = -1
        pending = 0
        for which in range(2):
            distance = record["after2"] if which else record["after"]
            if distance < 0 or distance > reach or distance > step:
                return BAD_DEPENDENCY
            if distance > 0:
                before = (step - distance) & mask
                row[CHAIN + which] = ring[d, before, WAITING]
                ring[d, before, WAITING] = 2 * step + which
                early = record["flags"] & (EARLY2 if which else EARLY1)
                ring[d, before, FLAGS] |= _EARLY_WAITED if early else _END_WAITED
                pending += 1
        row[PENDING] = pending
        if pending == 0:
            _start_at(heap, port, row, d, step, _ready(row, 0))
    return LOADED_OK


@kernel
def load(state, d, first_class, reach, servers, peers, most_bytes, steps, sealed):
    """Append a chunk to a device's ring and push its root steps. Modified in place.

    Parameters
    ----------
    first_class : row of `count` of the program's first request class.
    reach, servers : what the program promised; peers : devices there are if any has traffic with another
    one, else 0; most_bytes : of one transfer.
    steps : STEP[n]; sealed : bool[n], the policy's decision per step.

    Returns
    -------
    LOADED_OK, or what is wrong with a step; the state is of no further use then.
    """
    return _load(_bare(state), d, first_class, reach, servers, peers, most_bytes, steps, sealed)
