"""NIC: receive and transmit rings, as steps.

Rule: a frame is one request. Receive: payload write, then a completion write-back per batch; descriptors are
fetched and the tail doorbell rung once per descriptor batch, beside the frames. Transmit: one doorbell and
one descriptor fetch per burst, then a payload read per frame; completions are written back per batch.

Latency: receive, last byte at the MAC to the write-back visible; transmit, doorbell to the last payload byte
at the device. An open loop counts from the intended start.
"""

from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

import numpy as np

from .._jit import kernel
from ..spec import BUFFER_DATA, BUFFER_MMIO, BUFFER_MSI, BUFFER_QUEUE
from ..stats.draw import below, draw_u64, exponential_table, quantile
from .buffers import BAR_ADDRESS, MSI_ADDRESS, Allocator
from .program import (
    BEGIN,
    DELAY,
    EARLY1,
    END,
    FOREVER,
    READ_UP,
    STEP,
    WRITE_DOWN,
    WRITE_UP,
    Chunk,
    Program,
    put,
)
from .traces.pace import LINE_OVERHEAD

RX: Final = 0
TX: Final = 1

# The "simple IMIX" of the TRex traffic generator: 28 frames of 60 B, 20 of 590 B, 4 of 1514 B (without FCS).
IMIX: Final = ((28, 60), (20, 590), (4, 1514))
_IMIX_TOTAL: Final = 52

_DOORBELL_BYTES: Final = 4
_RX_TAIL: Final = BAR_ADDRESS + 0x2000
_TX_TAIL: Final = BAR_ADDRESS + 0x3000
_MSI_BYTES: Final = 4
_RING_ENTRIES: Final = 1024
# A receive buffer: headroom as DPDK and Linux leave it, so that payloads do not start on a page.
_HEADROOM: Final = 128

_CHUNK: Final = 512
# Most steps of one frame, with what it does for its batch.
_STEPS: Final = 8

# Intended starts (ps), sizes (bytes), directions, and the start of the next frame after them.
_Frames: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray, int]

_DRAW_SIZE: Final = 0
_DRAW_GAP: Final = 1


@kernel
def _draw_frames(times, sizes, first, start_ps, fixed, line_bps, gaps, key):
    """Draw sizes and intended starts of consecutive frames; return the last start.  Modified in place.

    A frame takes its time on the line and then an exponential gap whose mean is in proportion to its size, so
    the mean rate is as asked and never above the line's.

    fixed : bytes of every frame, 0 for IMIX; line_bps : bit/s; gaps : int64[4097], 1/1024 ps per byte.
    """
    now = start_ps
    for i in range(len(times)):
        size = fixed
        if fixed == 0:
            pick = below(draw_u64(key[0], key[1] + _DRAW_SIZE, first + i), _IMIX_TOTAL)
            few = IMIX[0][0] + IMIX[1][0]
            size = IMIX[0][1] if pick < IMIX[0][0] else (IMIX[1][1] if pick < few else IMIX[2][1])
        line = (size + LINE_OVERHEAD) * 8 * 1_000_000_000_000 // line_bps
        unit = quantile(gaps, draw_u64(key[0], key[1] + _DRAW_GAP, first + i))
        now += line + ((unit * (size + LINE_OVERHEAD)) >> 10)
        times[i] = now
        sizes[i] = size
    return now


@kernel
def _fill(out, first, times, sizes, directions, burst, stats, rings, device, seen, open_requests, last):
    """Write the steps of consecutive frames; return their number.  Modified: out, seen, open_requests.

    times : int64[n], ps; sizes : int64[n], bytes; directions : uint8[n]; burst : frames per doorbell.
    stats : int64[2], class of a direction.
    rings : int64[2, 4] per direction: addresses of descriptors, completions, first buffer; their distance.
    device : int64[6], descriptor bytes and batch, completion bytes and batch, interrupt batch, pipeline ps.
    seen : int64[2, 2] per direction: frames so far, and those whose completion is not yet written back;
    open_requests : int64[completion batch], which received ones these are.
    last : no chunk follows, so the last batches are written back short.
    """
    descriptor, batch, completion, write_back, interrupt, pipeline = device
    n = len(times)
    remaining = np.int64(0)
    for i in range(n):
        remaining += directions[i] == RX
    at = 0
    i = 0
    while i < n:
        direction = directions[i]
        stat = stats[direction]
        request = first + i
        frame = seen[direction, 0]
        slot = frame % _RING_ENTRIES
        ring = rings[direction]
        if direction == RX:
            remaining -= 1
            at = put(out, at, DELAY, 0, 0, 0, request, stat, BEGIN, 0, pipeline)
            out[at - 1]["not_before_ps"] = times[i]
            arrival = at - 1
            if slot % batch == 0:
                # The driver returns a batch of buffers; the device reads their descriptors ahead of use.
                at = put(out, at, WRITE_DOWN, BUFFER_MMIO, _RX_TAIL, _DOORBELL_BYTES, -1, stat, EARLY1, 1, 0)
                # No read or write-back runs over the end of its ring.
                size = min(batch, _RING_ENTRIES - slot) * descriptor
                at = put(out, at, READ_UP, BUFFER_QUEUE, ring[0] + slot * descriptor, size, -1, stat, 0, 1, 0)
            buffer = ring[2] + slot * ring[3] + _HEADROOM
            at = put(out, at, WRITE_UP, BUFFER_DATA, buffer, sizes[i], request, stat, 0, at - arrival, 0)
            seen[direction, 0] = frame + 1
            open_requests[seen[direction, 1]] = request
            open_frames = seen[direction, 1] + 1
            if open_frames == write_back or slot == _RING_ENTRIES - 1 or (last and remaining == 0):
                flags = EARLY1 | END if open_frames == 1 else EARLY1
                entry = ring[1] + (slot - open_frames + 1) * completion
                size = open_frames * completion
                at = put(out, at, WRITE_UP, BUFFER_QUEUE, entry, size, request, stat, flags, 1, 0)
                written = at - 1
                if interrupt > 0 and (frame + 1) // interrupt != (frame + 1 - open_frames) // interrupt:
                    at = put(out, at, WRITE_UP, BUFFER_MSI, MSI_ADDRESS, _MSI_BYTES, -1, stat, EARLY1, 1, 0)
                if open_frames > 1:
                    for k in range(open_frames):
                        at = put(out, at, DELAY, 0, 0, 0, open_requests[k], stat, END, at - written, 0)
                open_frames = 0
            seen[direction, 1] = open_frames
            i += 1
        else:
            count = 1
            most = min(burst, _RING_ENTRIES - slot)
            while count < most and i + count < n and directions[i + count] == TX:
                count += 1
            # The driver rings once for the burst, when its last frame is due.
            start = times[i + count - 1]
            for k in range(count):
                at = put(out, at, DELAY, 0, 0, 0, request + k, stat, BEGIN, 0, 0)
                out[at - 1]["not_before_ps"] = start
            at = put(out, at, WRITE_DOWN, BUFFER_MMIO, _TX_TAIL, _DOORBELL_BYTES, request, stat, 0, 1, 0)
            fetch = ring[0] + slot * descriptor
            at = put(out, at, READ_UP, BUFFER_QUEUE, fetch, count * descriptor, request, stat, 0, 1, 0)
            at = put(out, at, DELAY, 0, 0, 0, request, stat, 0, 1, pipeline)
            payload = at
            for k in range(count):
                buffer = ring[2] + (slot + k) % _RING_ENTRIES * ring[3] + _HEADROOM
                at = put(
                    out, at, READ_UP, BUFFER_DATA, buffer, sizes[i + k], request + k, stat, END, 1 + k, 0
                )
            for k in range(count):
                done = frame + k + 1
                if done % write_back == 0:
                    entry = ring[1] + (done // write_back) % _RING_ENTRIES * completion
                    after = at - payload - k
                    at = put(out, at, WRITE_UP, BUFFER_QUEUE, entry, completion, -1, stat, 0, after, 0)
                    if interrupt > 0 and done // interrupt != (done - write_back) // interrupt:
                        at = put(
                            out, at, WRITE_UP, BUFFER_MSI, MSI_ADDRESS, _MSI_BYTES, -1, stat, EARLY1, 1, 0
                        )
            seen[direction, 0] = frame + count
            i += count
    return at


class _Adapter:
    """What generated and replayed frames share: rings, buffers and the device's numbers."""

    def __init__(
        self,
        directions: tuple[int, ...],
        largest_frame: int,
        descriptor_bytes: int,
        descriptor_batch: int,
        completion_bytes: int,
        completion_batch: int,
        msi_batch: int,
        pipeline_ps: int,
    ) -> None:
        memory = Allocator()
        self.rings = np.zeros((2, 4), np.int64)
        for direction in directions:
            self.rings[direction, 0] = memory.queue(_RING_ENTRIES * descriptor_bytes)
            self.rings[direction, 1] = memory.queue(_RING_ENTRIES * completion_bytes)
            self.rings[direction, 2:] = memory.data(_RING_ENTRIES, _HEADROOM + largest_frame)
        self.device = np.array(
            [descriptor_bytes, descriptor_batch, completion_bytes, completion_batch, msi_batch, pipeline_ps]
        )
        self.regions = memory.regions()
        self.names = tuple(("rx", "tx")[d] for d in directions)
        self.stats = np.array([directions.index(d) if d in directions else 0 for d in (RX, TX)])

    def program(self, frames: Callable[[], Iterator[_Frames]], burst: int) -> Program:
        """Return the program of an iterator over (times, sizes, directions, next start or FOREVER)."""

        def chunks() -> Iterator[Chunk]:
            first = 0
            seen = np.zeros((2, 2), np.int64)
            open_requests = np.zeros(max(int(self.device[3]), 1), np.int64)
            for times, sizes, directions, horizon in frames():
                # A write-back also ends the frames that earlier chunks left open.
                out = np.empty(len(times) * _STEPS + int(seen[RX, 1]), STEP)
                last = horizon == FOREVER
                n = _fill(
                    out,
                    first,
                    times,
                    sizes,
                    directions,
                    burst,
                    self.stats,
                    self.rings,
                    self.device,
                    seen,
                    open_requests,
                    last,
                )
                yield Chunk(out[:n], horizon)
                first += len(times)

        batch = int(max(burst, self.device[3], self.device[1]))
        return Program(
            stats=self.names,
            pooled=len(self.names),
            chunks=chunks,
            regions=self.regions,
            reach=_STEPS * (batch + 1),
            servers=0,
            open_loop=True,
        )


def open_loop(
    *,
    requests: int,
    direction: int,
    frame_bytes: int,
    rate_bps: int,
    line_rate_bps: int,
    descriptor_bytes: int,
    descriptor_batch: int,
    completion_bytes: int,
    completion_batch: int,
    msi_batch: int,
    pipeline_ps: int,
    seed: int,
    stream: int,
) -> Program:
    """Return frames that arrive at a mean rate, whatever the device does with them.

    Parameters
    ----------
    requests : frames; direction : RX or TX; frame_bytes : 0 for IMIX.
    rate_bps, line_rate_bps : bit/s on the line, with LINE_OVERHEAD per frame; rate at most line rate.
    seed, stream : key of the draws, with two streams from `stream` on.
    """
    adapter = _Adapter(
        (direction,),
        frame_bytes or max(size for _, size in IMIX),
        descriptor_bytes,
        descriptor_batch,
        completion_bytes,
        completion_batch,
        msi_batch,
        pipeline_ps,
    )
    byte_gap = 8 * 10**12 * (line_rate_bps - rate_bps) * 1024 // (rate_bps * line_rate_bps)
    gaps = exponential_table(byte_gap)
    key = np.array([seed, stream])

    def frames() -> Iterator[_Frames]:
        now = 0
        for first in range(0, requests, _CHUNK):
            n = min(_CHUNK, requests - first)
            times = np.empty(n, np.int64)
            sizes = np.empty(n, np.int64)
            now = _draw_frames(times, sizes, first, now, frame_bytes, line_rate_bps, gaps, key)
            directions = np.full(n, direction, np.uint8)
            yield times, sizes, directions, int(now) if first + n < requests else FOREVER

    return adapter.program(frames, descriptor_batch)


def replay(
    *,
    times_ps: np.ndarray,
    sizes: np.ndarray,
    directions: np.ndarray,
    descriptor_bytes: int,
    descriptor_batch: int,
    completion_bytes: int,
    completion_batch: int,
    msi_batch: int,
    pipeline_ps: int,
) -> Program:
    """Return the frames of a capture at their times; a recorded transmit rings its own doorbell.

    Parameters
    ----------
    times_ps : int64[n], ascending; sizes : int64[n], bytes; directions : uint8[n] of RX, TX.
    """
    present = tuple(d for d in (RX, TX) if (directions == d).any())
    adapter = _Adapter(
        present,
        int(sizes.max()),
        descriptor_bytes,
        descriptor_batch,
        completion_bytes,
        completion_batch,
        msi_batch,
        pipeline_ps,
    )

    def frames() -> Iterator[_Frames]:
        for first in range(0, len(times_ps), _CHUNK):
            part = slice(first, first + _CHUNK)
            later = times_ps[first + _CHUNK :]
            yield (
                np.ascontiguousarray(times_ps[part]),
                np.ascontiguousarray(sizes[part], np.int64),
                directions[part].astype(np.uint8),
                int(later[0]) if len(later) else FOREVER,
            )

    return adapter.program(frames, 1)
