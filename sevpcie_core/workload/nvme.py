"""NVMe: one queue pair of 64 B commands and 16 B completions, as steps.

Rule: a request is seven or eight steps in the order of the NVM Express Base Specification 2.0, section 3.4:
doorbell, command fetch, decoding, then media and data (a read) or data and media (a write), completion entry,
interrupt, completion doorbell. Data are one contiguous buffer; PRP lists are not fetched.

Latency: doorbell write leaving the CPU to completion entry visible; the io path leaves out the media.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from .._jit import kernel
from ..spec import BUFFER_DATA, BUFFER_MMIO, BUFFER_MSI, BUFFER_QUEUE
from ..stats.draw import below, draw_u64, quantile, quantile_table
from .buffers import BAR_ADDRESS, MSI_ADDRESS, Allocator
from .program import (
    BEGIN,
    DELAY,
    EARLY1,
    END,
    FOREVER,
    MEDIA,
    READ_UP,
    STEP,
    WRITE_DOWN,
    WRITE_UP,
    Chunk,
    Program,
    put,
)

# NVM Express Base Specification 2.0, sections 3.3.3.1 and 3.3.3.2: entry sizes; 3.1.3.24: doorbells are 4 B.
COMMAND_BYTES: Final = 64
COMPLETION_BYTES: Final = 16
DOORBELL_BYTES: Final = 4
# PCIe Base r6.x, section 6.1.4: an MSI-X message is a 4 B memory write.
MSI_BYTES: Final = 4
# NVM Express over PCIe Transport 1.0, section 3.1.2: doorbells start at 0x1000, queue 1 with stride 0 at +8.
_SQ_DOORBELL: Final = BAR_ADDRESS + 0x1008
_CQ_DOORBELL: Final = BAR_ADDRESS + 0x100C
_QUEUE_ENTRIES: Final = 1024

# Requests per chunk: the ring of steps in flight should stay in the cache.
_CHUNK: Final = 512
_STEPS: Final = 8
# The host submits the first requests one after the other.
_SUBMIT_PS: Final = 100_000
# Buffers of a replayed trace, used in turn.
_TRACE_BUFFERS: Final = 1024

READ: Final = 0
WRITE: Final = 1
FLUSH: Final = 2
_KINDS: Final = ("read", "write", "flush")

_DRAW_KIND: Final = 0
_DRAW_MEDIA: Final = 1
_DRAW_PLACE: Final = 2


@kernel
def _fill(
    out,
    first,
    operations,
    stats,
    sizes,
    starts,
    depth,
    think_ps,
    queues,
    data,
    read,
    write,
    dies,
    controller_ps,
    msi,
    key,
):
    """Write the steps of consecutive requests and return their number.  Modified in place: out.

    operations : uint8[n]; stats : int64[3], class of an operation.
    sizes : int64[n], bytes; starts : int64[n], ps, or empty in a closed loop.
    queues : int64[2], addresses of submission and completion queue; data : int64[3], first, distance, number.
    read, write : int64[4097], ps, media times; key : int64[2], seed and stream of the draws.
    """
    steps = _STEPS if msi else _STEPS - 1
    at = 0
    for i in range(len(operations)):
        request = first + i
        entry = request % _QUEUE_ENTRIES
        buffer = data[0] + request % data[2] * data[1]
        size = sizes[i]
        is_read = operations[i] == READ
        stat = stats[operations[i]]
        # Closed loop: the slot's next request follows its completion, which is step 5 of the earlier one.
        after = depth * steps - 5 if len(starts) == 0 and request >= depth else 0
        pause = think_ps if after > 0 else 0
        at = put(
            out, at, WRITE_DOWN, BUFFER_MMIO, _SQ_DOORBELL, DOORBELL_BYTES, request, stat, BEGIN, after, pause
        )
        if len(starts):
            out[at - 1]["not_before_ps"] = starts[i]
        elif after == 0:
            out[at - 1]["not_before_ps"] = request * _SUBMIT_PS
        command = queues[0] + COMMAND_BYTES * entry
        at = put(out, at, READ_UP, BUFFER_QUEUE, command, COMMAND_BYTES, request, stat, 0, 1, 0)
        at = put(out, at, DELAY, 0, 0, 0, request, stat, 0, 1, controller_ps)
        bits = draw_u64(key[0], key[1] + _DRAW_MEDIA, request)
        media = quantile(read if is_read else write, bits)
        if not is_read and size > 0:
            at = put(out, at, READ_UP, BUFFER_DATA, buffer, size, request, stat, 0, 1, 0)
        at = put(out, at, DELAY, 0, 0, 0, request, stat, MEDIA, 1, media)
        if dies > 0:
            place = draw_u64(key[0], key[1] + _DRAW_PLACE, request)
            out[at - 1]["server"] = below(place, dies)
            out[at - 1]["occupy_ps"] = media
        wait = 0
        if is_read and size > 0:
            at = put(out, at, WRITE_UP, BUFFER_DATA, buffer, size, request, stat, 0, 1, 0)
            wait = EARLY1
        if size == 0:
            # A flush moves no data; a pause of no time keeps the number of steps equal.
            at = put(out, at, DELAY, 0, 0, 0, request, stat, 0, 1, 0)
        completion = queues[1] + COMPLETION_BYTES * entry
        at = put(
            out, at, WRITE_UP, BUFFER_QUEUE, completion, COMPLETION_BYTES, request, stat, END | wait, 1, 0
        )
        if msi:
            at = put(out, at, WRITE_UP, BUFFER_MSI, MSI_ADDRESS, MSI_BYTES, request, stat, EARLY1, 1, 0)
        back = 2 if msi else 1
        at = put(out, at, WRITE_DOWN, BUFFER_MMIO, _CQ_DOORBELL, DOORBELL_BYTES, request, stat, 0, back, 0)
    return at


@kernel
def _draw_operations(operations, first, read_share, key):
    """Draw reads and writes; read_share in 1/2**20.  Modified in place: operations."""
    for i in range(len(operations)):
        bits = draw_u64(key[0], key[1] + _DRAW_KIND, first + i)
        operations[i] = READ if np.int64(bits >> np.uint64(44)) < read_share else WRITE


def _classes(kinds: Sequence[int]) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the request classes of a program that has these operations, and the class of each operation.

    Reads and writes are apart, as fio has them: what a link adds to the one is not what it adds to the
    other, so a percentile of both may belong to neither.
    """
    if len(kinds) == 1:
        return ("nvme",), np.zeros(len(_KINDS), np.int64)
    stats = np.array([kinds.index(k) if k in kinds else 0 for k in range(len(_KINDS))])
    return tuple(_KINDS[k] for k in kinds), stats


class _Controller:
    """What the generated and the replayed program share: queues, buffers and the device's times."""

    def __init__(
        self,
        buffers: int,
        buffer_bytes: int,
        media_read: Sequence[tuple[float, int]],
        media_write: Sequence[tuple[float, int]],
        dies: int,
        controller_ps: int,
        msi: bool,
        seed: int,
        stream: int,
    ) -> None:
        memory = Allocator()
        self.queues = np.array(
            [memory.queue(COMMAND_BYTES * _QUEUE_ENTRIES), memory.queue(COMPLETION_BYTES * _QUEUE_ENTRIES)]
        )
        self.data = np.array([*memory.data(buffers, buffer_bytes), buffers])
        self.read = quantile_table(media_read)
        self.write = quantile_table(media_write)
        self.dies = dies
        self.controller_ps = controller_ps
        self.msi = msi
        self.key = np.array([seed, stream])
        self.regions = memory.regions()

    def steps(
        self,
        first: int,
        operations: np.ndarray,
        stats: np.ndarray,
        sizes: np.ndarray,
        starts: np.ndarray,
        depth: int,
        think_ps: int,
    ) -> np.ndarray:
        out = np.empty(len(operations) * _STEPS, STEP)
        n = _fill(
            out,
            first,
            operations,
            stats,
            sizes,
            starts,
            depth,
            think_ps,
            self.queues,
            self.data,
            self.read,
            self.write,
            self.dies,
            self.controller_ps,
            self.msi,
            self.key,
        )
        return out[:n]


def closed_loop(
    *,
    requests: int,
    queue_depth: int,
    block: int,
    read_share: float,
    think_ps: int,
    media_read: Sequence[tuple[float, int]],
    media_write: Sequence[tuple[float, int]],
    dies: int,
    controller_ps: int,
    msi: bool,
    seed: int,
    stream: int,
) -> Program:
    """Return a closed loop: `queue_depth` slots, each submitting its next request when the last is complete.

    Parameters
    ----------
    requests : how many; block : bytes of each; read_share : 0..1.
    media_read, media_write : (probability, ps) points of the media time.
    dies : media servers that requests fall on at random; 0 for unlimited.
    seed, stream : key of the draws, with three streams from `stream` on.
    """
    controller = _Controller(
        queue_depth, block, media_read, media_write, dies, controller_ps, msi, seed, stream
    )
    share = round(read_share * (1 << 20))
    names, stats = _classes([READ] if share == 1 << 20 else [WRITE] if share == 0 else [READ, WRITE])

    def chunks() -> Iterator[Chunk]:
        first = 0
        while first < requests:
            # All root steps are in the first chunk.
            n = min(max(_CHUNK, queue_depth if first == 0 else 0), requests - first)
            operations = np.empty(n, np.uint8)
            _draw_operations(operations, first, share, controller.key)
            sizes = np.full(n, block, np.int64)
            none = np.empty(0, np.int64)
            steps = controller.steps(first, operations, stats, sizes, none, queue_depth, think_ps)
            yield Chunk(steps, FOREVER)
            first += n

    return Program(
        stats=names,
        pooled=len(names),
        chunks=chunks,
        regions=controller.regions,
        reach=queue_depth * _STEPS,
        servers=dies,
        open_loop=False,
    )


def replay(
    *,
    times_ps: np.ndarray,
    operations: np.ndarray,
    sizes: np.ndarray,
    media_read: Sequence[tuple[float, int]],
    media_write: Sequence[tuple[float, int]],
    dies: int,
    controller_ps: int,
    msi: bool,
    seed: int,
    stream: int,
) -> Program:
    """Return an open loop by recorded submission times.

    Parameters
    ----------
    times_ps : int64[n], ascending; operations : uint8[n] of READ, WRITE, FLUSH; sizes : int64[n], bytes.
    """
    controller = _Controller(
        _TRACE_BUFFERS,
        int(sizes.max(initial=1)),
        media_read,
        media_write,
        dies,
        controller_ps,
        msi,
        seed,
        stream,
    )

    names, stats = _classes(np.unique(operations).tolist())

    def chunks() -> Iterator[Chunk]:
        for first in range(0, len(times_ps), _CHUNK):
            part = slice(first, first + _CHUNK)
            steps = controller.steps(
                first,
                operations[part].astype(np.uint8),
                stats,
                sizes[part],
                np.ascontiguousarray(times_ps[part]),
                0,
                0,
            )
            later = times_ps[first + _CHUNK :]
            yield Chunk(steps, int(later[0]) if len(later) else FOREVER)

    return Program(
        stats=names,
        pooled=len(names),
        chunks=chunks,
        regions=controller.regions,
        reach=_STEPS,
        servers=dies,
        open_loop=True,
    )
