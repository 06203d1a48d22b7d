"""What a run changes, as columns of integer arrays: the kernels' shared memory map.

Rule: names and places, and what their widths bound. One row per device, per step in flight, per request
class.
"""

from typing import Any, Final, NamedTuple

import numpy as np

from .params import CONTEXTS, MRRS, QUANTUM_BYTES
from .places import PLACES

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
HOP: Final = 7  # a burst is at a place between two ports: a station
# Not events: what a burst that waits for a port is. Completions are DATA there.
QUANTUM: Final = 5  # of a write
REQUEST_TLP: Final = 6  # of a read

# A key packs device, step, split and kind; the widths bound a run: 16 devices, 2**32 steps, 2**24 splits. A
# read request on its way is named by its tag, a quantum of a write by its number.
KIND_BITS: Final = 3
SPLIT_BITS: Final = 24
STEP_BITS: Final = 32
STEP_SHIFT: Final = KIND_BITS + SPLIT_BITS
DEVICE_SHIFT: Final = STEP_SHIFT + STEP_BITS
MAX_DEVICES: Final = 1 << (63 - DEVICE_SHIFT)
MAX_SPLITS: Final = 1 << SPLIT_BITS


def most_bytes(link: np.ndarray) -> int:
    """Return the most bytes of one transfer over a link, int64[LINK_COLUMNS], wherever it begins."""
    return (MAX_SPLITS - 2) * min(int(link[MRRS]), int(link[QUANTUM_BYTES]))


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
LAST_DELIVER: Final = 16  # ps, of the previous TLP
ACCEPT: Final = 18  # ps, when the next burst may enter
# ... the reads on their way up, and the answers on their way down ...
FLIGHT_HEAD: Final = 20
FLIGHT_TAIL: Final = 22
# ... the queues of its ports, by 2 * direction + class ...
HEAD: Final = 24
TAIL: Final = 28
# ... and the cipher engines, by 2 * direction + side.
ENGINE_FREE: Final = 32
ENGINE_LAST: Final = 36  # key context of the previous TLP, -1 for none
ENGINE_BUSY: Final = 40
RECENCY: Final = 44  # CONTEXTS columns per engine, the most recent context first
# Protected posted TLPs of a direction that no other TLP has told of: 2 * direction + (0: for non-posted TLPs,
# 1: for completions).
PR_SENT: Final = RECENCY + 4 * CONTEXTS
# Data-link layer, by direction: TLPs not yet acknowledged, drained TLPs not yet told, bytes since a skip.
ACK_COUNT: Final = PR_SENT + 4
UPDATE_COUNT: Final = ACK_COUNT + 2
SKIP_COUNT: Final = UPDATE_COUNT + 2
# DLLPs that a direction owes: a ring, see `State.owed`.
OWED_HEAD: Final = SKIP_COUNT + 2
OWED_TAIL: Final = OWED_HEAD + 2
DLLPS: Final = OWED_TAIL + 2  # two columns: bytes of DLLPs and ordered sets put on the wire
# Credits, by 2 * direction + class (posted, other), then the replay buffers by direction: what the sender
# has, and the ring of what comes back.
HEADERS: Final = DLLPS + 2
DATA_UNITS: Final = HEADERS + 6
CREDIT_HEAD: Final = DATA_UNITS + 6
CREDIT_TAIL: Final = CREDIT_HEAD + 6
REPLAY: Final = 4
# Bytes to the next error by direction, and the number of errors so far.
ERROR_IN: Final = CREDIT_TAIL + 6
ERRORS: Final = ERROR_IN + 2
# Non-posted requests that found no credit: a queue of their own, so that posted TLPs pass them.
PARKED_HEAD: Final = ERRORS + 2
PARKED_TAIL: Final = PARKED_HEAD + 1
PARKED_SINCE: Final = PARKED_TAIL + 1  # start of the present time with one of them, or -1
PARKED: Final = PARKED_SINCE + 1  # total of such time
TRANSFERS: Final = PARKED + 1  # loaded so far
BURSTS: Final = TRANSFERS + 1  # two columns by direction: bursts that wait for the port, set aside or not
LATEST: Final = BURSTS + 2  # ps, the last time that positions on the wire can count
# As PR_SENT, of the device's streams on the uplink that it shares with others.
HOP_SENT: Final = LATEST + 1
# The last number by which ports and stations are named where others name a step of this device.
NAMED: Final = HOP_SENT + 4
# Posted writes at the root port: when all so far are visible; 1 if a write could pass one that is looked up;
# when the buffer's drain is free, and how many gaps there are before; of each, begin and end, ps. Of an
# uplink those of all devices behind it, of such a device its own.
VISIBLE: Final = NAMED + 1
PASSABLE: Final = VISIBLE + 1
DRAIN_FREE: Final = PASSABLE + 1
GAPS: Final = DRAIN_FREE + 1
GAP: Final = GAPS + 1
MOST_GAPS: Final = 64
# Added to the last three: of a drain in which all pass what is looked up, for the ledger to compare with.
UNORDERED: Final = 2 + 2 * MOST_GAPS
# When requests of a device may begin (`workload.program.Phase`): from when, for how long and how often, ps;
# the second is 0 for always.
PHASE_FROM: Final = DRAIN_FREE + 2 * UNORDERED
PHASE_ON: Final = PHASE_FROM + 1
PHASE_EVERY: Final = PHASE_ON + 1
# 1 for a device that others run in the background of, until it is done.
FOREGROUND: Final = PHASE_EVERY + 1
# ps, when a device can begin with the next read of a peer.
PEER_FREE: Final = FOREGROUND + 1
DEVICE_COLUMNS: Final = PEER_FREE + 1

# A device's timers: events that come in order need no heap. One per port, and the first of each flight.
TIMER_PORT: Final = 0  # two columns by direction
TIMER_FLIGHT: Final = 2  # two columns by direction: ARRIVE, ANSWERED
TIMERS: Final = 4

# Stations, by line number for R links: row + one of these times R. Behind the timers of all links stands one
# for each, and their events name them as steps of device 0, as ports of uplinks are named.
AT_SWITCH: Final = 0  # from a device's link, or from an uplink
TO_OPEN: Final = 1  # from a root port to the host's one engine
TO_PORT: Final = 2  # from there to a root port
TO_SEAL: Final = 3  # from the root complex there; one line for all
TURN: Final = 4  # from a root port to another one, on the way to a peer
# Columns of `line`, one row per burst: when it is there, its key, and when its last byte had left a wire,
# ticks; of what is to be sealed when it set out, ps.
THERE: Final = 0
BURST: Final = 1
LAST_BYTE: Final = 2
LINE_COLUMNS: Final = 3
# Columns of `line_at`, one row per station.
LINE_HEAD: Final = 0
LINE_TAIL: Final = 1
LINE_LATEST: Final = 2  # ps, when the last of its bursts is there

# Columns of `ring`, one row per step in flight. First the step ...
ADDRESS: Final = 0
BYTES: Final = 1
NOT_BEFORE: Final = 2
PAUSE: Final = 3  # delay_ps
OCCUPY: Final = 4
REQUEST: Final = 5
SERVER: Final = 6  # of a delay; of a transfer the peer that it is with, or -1: the host
FLAGS: Final = 7
KIND: Final = 8
STAT: Final = 9
BUFFER: Final = 10
SEALED: Final = 11  # the policy's decision
TRANSFER: Final = 12  # how many transfers of the program came before it
# ... then how far it is ...
DONE: Final = 13
PENDING: Final = 14  # unmet dependencies
MET: Final = 15  # the latest met one, ps
WAITING: Final = 16  # first of the steps that wait for this one: 2 * step + which, or -1
CHAIN: Final = 17  # two columns: the next one that waits for the same step, per dependency
LEFT: Final = 19  # splits of a read not yet answered, or quanta of a write
SPLITS: Final = 20  # of a read
CURSOR: Final = 21  # next split of a read
ENTERED: Final = 22  # when a read began to wait for its next tag
SEEN: Final = 22  # of a write: when its quanta so far were visible if they waited for no other write
# ... and some that use the same slots under another number: a request's, and a place in the tag queue.
BEGUN: Final = 23
MEDIA_TIME: Final = 24
BEGUN_AS: Final = 25  # one more than the request that BEGUN and MEDIA_TIME are of; 0 for none
QUEUED: Final = 26
RING_COLUMNS: Final = 27

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
STALL_CREDITS: Final = 16
STALL_IOMMU: Final = 17
COUNT_COLUMNS: Final = 18

# Columns of `scalar`.
HOST_FREE: Final = 0
HOST_BUSY: Final = 1
WALKER_BUSY: Final = 2
LOOKUPS: Final = 3
MISSES: Final = 4
SHARED_FREE: Final = 5  # ps, the host's one engine
SHARED_BUSY: Final = 6
# A line or a queue is full: what is left to serve, and when, once it has grown.
CROWDED: Final = 7
SERVE: Final = 8  # row of a link
SERVE_NEXT: Final = 9  # the same, 0 for none
SERVE_AT: Final = 10
WANTED: Final = 11  # devices that are in the foreground and not done; 0 where no other is in the background
WANTED_UNTIL: Final = 12  # when the last so far of them was done, ps
SCALARS: Final = 13

# Columns of `host`, the numbers of the root complex.
READ_INTERVAL: Final = 0  # ps between two reads that it starts
PAGE_SHIFT: Final = 1
SET_MASK: Final = 2  # sets of the IOTLB less one; -1: no translation
# Of a read that draws less than this, of 2**MISS_BITS, nothing is in the cache.
MISSING: Final = 3
COLD_PS: Final = 4  # what it takes more
REFRESH_PS: Final = 5  # for so long memory answers nobody ...
REFRESH_EVERY: Final = 6  # ... once in each interval of this, ps
HOST_COLUMNS: Final = 7
MISS_BITS: Final = 62

# DLLPs that a direction can owe before the oldest must go.
OWED_ENTRIES: Final = 256


# --- The ledger: where the time of a request went ---

# Their numbers, as `places.PLACES` names them.
DEVICE: Final = 0
MEDIUM: Final = 1
TAG_WAIT: Final = 2
ARBITRATION: Final = 3
CREDIT_WAIT: Final = 4
SERIALISATION: Final = 5
ENGINE: Final = 6
FLIGHT: Final = 7
HOLD: Final = 8
ORDERING: Final = 9
HOST: Final = 10
IOMMU: Final = 11
STAGING: Final = 12
REPLAYED: Final = 13
# Behind the places of a row: up to when they account for the request's time, ps (-1: not yet begun).
MARK: Final = len(PLACES)
# 1: all of it lies behind the begin of the request.
COUNTED: Final = MARK + 1
LEDGER_COLUMNS: Final = 16
# Of `spent`, the places alone.
SPENT_COLUMNS: Final = len(PLACES)

# Columns of `tag`, one row per tag of a device: its ledger as above, then the split that has it. The last row
# is scratch.
TAG_SPLIT: Final = LEDGER_COLUMNS
TAG_COLUMNS: Final = LEDGER_COLUMNS + 1


class State(NamedTuple):
    """Everything that a run changes. D devices, C ring entries (a power of two), S request classes.

    R links: those of the devices, then those of the switches to their root ports. Where no burst takes more
    than one link and all engines stand at ports, lines and keys are empty.

    heap : int64[2 * H], events (see `heap`); heap[1] is when the last request may begin, ps: with devices in
        the background, from the end of the others on that
    timer : int64[R * TIMERS + L, 2], (time in ps, key) of a link's next event of each kind, FOREVER for
        none, then of each station
    flight : int64[D, 2, F, 2], events of reads on their way, by direction
    scalar : int64[SCALARS]; device : int64[R, DEVICE_COLUMNS]
    ring : int64[D, C, RING_COLUMNS]; waiting : int64[R, 4, W], keys of bursts that wait for a port
    server : int64[D, servers, 2], ps, (free from, busy for)
    count : int64[S, COUNT_COLUMNS]; histogram : int64[2, S, BUCKETS], latency and io path
    kept : int64[2, D, K], the same two in ps by request, -1 where not run
    parked : int64[R, P], keys of read requests that wait for a credit
    owed : int64[R, 2, OWED_ENTRIES, 2], (due from, ps; bytes) of DLLPs that a direction has to send
    credit : int64[R, 6, K, 3], (back at the sender, ps; headers; data units) of credits that are on their way
    tag : int64[D, T, TAG_COLUMNS]; free : int64[D, T], the stack of free tags, FREE_TAGS of them
    ledger : int64[D, C, LEDGER_COLUMNS], of the steps in flight, ps; C is 0 where none is kept
    spent : int64[S, PLACES], sums over requests, ps
    iotlb : int64[sets, ways, 2], (page and device, or -1; translated from, ps), the most recent way first
    walker : int64[walkers], ps, free from
    line : int64[L, N, LINE_COLUMNS], bursts on their way to a station, N a power of two
    line_at : int64[L, 3]
    key : int64[2 * R + 1, 1 + contexts], of the root port's engine of each direction of an uplink and of
        the host's one engine: the context of the previous TLP or -1, then all contexts, the most recent
        first; see `hop.context_of`
    """

    heap: Any
    timer: Any
    flight: Any
    scalar: Any
    device: Any
    ring: Any
    waiting: Any
    server: Any
    count: Any
    histogram: Any
    kept: Any
    parked: Any
    owed: Any
    credit: Any
    tag: Any
    free: Any
    ledger: Any
    spent: Any
    iotlb: Any
    walker: Any
    line: Any
    line_at: Any
    key: Any
