"""NIC: the kernel that writes steps, and what it keeps from one chunk to the next.

Rule: it sees when which frames come, as arrays; `nic.py` says where they are from. A frame is one request.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from .._jit import kernel
from ..spec import BUFFER_DATA, BUFFER_MMIO, BUFFER_MSI, BUFFER_QUEUE
from .buffers import BAR_ADDRESS, MSI_ADDRESS, Allocator
from .nic_interrupts import Frames, known, next_burst, untold, wait_to_tell
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

RX: Final = 0
TX: Final = 1

REGISTER_BYTES: Final = 4
_RX_TAIL: Final = BAR_ADDRESS + 0x2000
_TX_TAIL: Final = BAR_ADDRESS + 0x3000
# What a driver that polls registers reads, a page per direction.
STATUS: Final = BAR_ADDRESS + 0x4000
_STATUS_DISTANCE: Final = 0x1000
STATUS_END: Final = STATUS + 2 * _STATUS_DISTANCE
# PCIe Base r6.x, section 6.1.4: an MSI-X message is a 4 B memory write.
_MSI_BYTES: Final = 4
ENTRIES: Final = 1024
# A receive buffer: headroom as DPDK and Linux leave it, so that payloads do not start on a page.
_HEADROOM: Final = 128

# Most steps of one frame, with what it does for its batch.
_STEPS: Final = 12


@dataclass(frozen=True)
class Ring:
    """How one direction uses its ring.

    Attributes
    ----------
    doorbell : frames per tail doorbell. fetch : descriptors that one read fetches at most; a receive ring
        reads so many.
    whole : a transmit ring reads none before as many as that are there, but for the last ones.
    completion_bytes, completions : bytes of a write-back, and frames of it. Receive has as many bytes per
        frame, transmit per write-back, or none with 0 frames.
    interrupt : frames per message; 0: they are not counted. status : frames per read of a register by the
        driver; 0: none.
    descriptor_bytes : of each; 0: as the adapter says.
    """

    doorbell: int = 8
    fetch: int = 8
    whole: bool = False
    completion_bytes: int = 64
    completions: int = 1
    interrupt: int = 0
    status: int = 0
    descriptor_bytes: int = 0

    @property
    def period(self) -> int:
        """Return of how many frames to send doorbells and reads come out even."""
        return math.lcm(self.doorbell, self.fetch) if self.whole else self.doorbell

    def row(self) -> list[int]:
        """Return the columns that the kernel reads."""
        return [
            self.doorbell,
            self.fetch,
            self.fetch if self.whole else 1,
            self.completion_bytes,
            self.completions,
            self.interrupt,
            self.status,
            self.descriptor_bytes,
        ]


@dataclass(frozen=True)
class Adapter:
    """The device, and how its driver uses it.

    Attributes
    ----------
    descriptor_bytes : of each, where its ring does not say. pipeline_ps : of a frame inside the device.
    entries : of each ring. header : bytes of a received frame that go to a buffer of their own; 0: none do.
    moderation_ps : of a ring that counts frames, an interrupt for fewer, so long after the first of them is
        written back; of one that does not, the least time from one interrupt to the next. 0: no timer, and
        a ring that does not count either is polled.
    """

    rx: Ring = Ring()
    tx: Ring = Ring()
    descriptor_bytes: int = 16
    pipeline_ps: int = 0
    entries: int = ENTRIES
    header: int = 0
    moderation_ps: int = 0

    def rings(self) -> tuple[Ring, Ring]:
        """Return the rings of both directions, receive first, with their descriptors."""
        usual = self.descriptor_bytes
        rx, tx = (
            replace(ring, descriptor_bytes=ring.descriptor_bytes or usual) for ring in (self.rx, self.tx)
        )
        return rx, tx


# Columns of a ring, as `Ring.row` has them.
_DOORBELL: Final = 0
_FETCH: Final = 1
_THRESHOLD: Final = 2
_COMPLETION_BYTES: Final = 3
_COMPLETIONS: Final = 4
_INTERRUPT: Final = 5
_STATUS: Final = 6
_DESCRIPTOR: Final = 7
# Columns of the device.
_PIPELINE: Final = 0
_ENTRIES: Final = 1
_HEADER: Final = 2
_MODERATION: Final = 3
# Columns of memory: descriptors, completions, first buffer, their distance, first header buffer, their
# distance.
_DESCRIPTORS_AT: Final = 0
_COMPLETIONS_AT: Final = 1
_BUFFERS_AT: Final = 2
_BUFFER_DISTANCE: Final = 3
_HEADERS_AT: Final = 4
_HEADER_DISTANCE: Final = 5
# Columns of `state`: frames received, or fetched to send; those whose completion is not yet written back, or
# whose descriptor is not yet fetched.
_SEEN: Final = 0
_OPEN: Final = 1


@kernel
def _interrupt(out, at, stat, flags, after, wait):
    """Write an interrupt message; return the place of the next step.  Modified in place: out."""
    return put(out, at, WRITE_UP, BUFFER_MSI, MSI_ADDRESS, _MSI_BYTES, -1, stat, flags, after, wait)


@kernel
def _read_status(out, at, direction, stat, after):
    """Write a read of a register by the driver; return the place of the next step.  Modified: out.

    Steps have no such read: request and completion are written as posted writes of the register's bytes, one
    to the device and one back, which puts 4 B too much on the wire each way.
    """
    place = STATUS + direction * _STATUS_DISTANCE
    at = put(out, at, WRITE_DOWN, BUFFER_MMIO, place, REGISTER_BYTES, -1, stat, 0, after, 0)
    return put(out, at, WRITE_UP, BUFFER_MMIO, place, REGISTER_BYTES, -1, stat, 0, 1, 0)


@kernel
def _fill(
    out,
    first,
    times,
    sizes,
    directions,
    stats,
    memory,
    rings,
    device,
    state,
    told,
    received,
    waiting,
    behind,
    last,
):
    """Write the steps of consecutive frames; return their number.

    Modified in place: out, state, told, received, waiting.

    times : int64[n], ps; sizes : int64[n], bytes; directions : uint8[n].
    stats : int64[2], class of a direction. memory : int64[2, 6], rings : int64[2, 8], per direction; device :
    int64[4]: see the columns above.
    state : int64[2, 2], per direction. told : int64[2, 2], see `nic_interrupts.untold`. received :
        int64[completions], the frames of the open write-back.
    waiting : int64[m, 2], request and bytes of frames that are rung in and not yet fetched.
    behind : int64[2], ps, when the next frames of each direction come after these; FOREVER for too late for
        any timer.
    last : no chunk follows, so the last batches are short.
    """
    entries = device[_ENTRIES]
    pipeline = device[_PIPELINE]
    moderation = device[_MODERATION]
    n = len(times)
    received_later = np.int64(0)
    for i in range(n):
        received_later += directions[i] == RX
    sent_later = n - received_later
    at = 0
    i = 0
    while i < n:
        direction = directions[i]
        stat = stats[direction]
        request = first + i
        ring = rings[direction]
        place = memory[direction]
        descriptor = ring[_DESCRIPTOR]
        now = times[i]
        if direction == RX:
            received_later -= 1
            frame = state[RX, _SEEN]
            slot = frame % entries
            at = put(out, at, DELAY, 0, 0, 0, request, stat, BEGIN, 0, pipeline)
            out[at - 1]["not_before_ps"] = now
            arrival = at - 1
            rings_in = slot % ring[_DOORBELL] == 0
            if rings_in:
                # The driver returns a batch of buffers.
                back = at - arrival
                at = put(
                    out, at, WRITE_DOWN, BUFFER_MMIO, _RX_TAIL, REGISTER_BYTES, -1, stat, EARLY1, back, 0
                )
            if slot % ring[_FETCH] == 0:
                # The device reads descriptors ahead of use. No read or write-back runs over the end of its
                # ring.
                size = min(ring[_FETCH], entries - slot) * descriptor
                entry = place[_DESCRIPTORS_AT] + slot * descriptor
                early = 0 if rings_in else EARLY1
                back = 1 if rings_in else at - arrival
                at = put(out, at, READ_UP, BUFFER_QUEUE, entry, size, -1, stat, early, back, 0)
            buffer = place[_BUFFERS_AT] + slot * place[_BUFFER_DISTANCE] + _HEADROOM
            size = sizes[i]
            early = 0
            back = at - arrival
            if device[_HEADER] > 0:
                head = min(size, device[_HEADER])
                to = place[_HEADERS_AT] + slot * place[_HEADER_DISTANCE]
                at = put(out, at, WRITE_UP, BUFFER_DATA, to, head, request, stat, 0, back, 0)
                size -= head
                early = EARLY1
                back = 1
            if size > 0:
                at = put(out, at, WRITE_UP, BUFFER_DATA, buffer, size, request, stat, early, back, 0)
            state[RX, _SEEN] = frame + 1
            received[state[RX, _OPEN]] = request
            count = state[RX, _OPEN] + 1
            following = np.int64(FOREVER)
            if moderation > 0:
                following = next_burst(times, directions, i + 1, RX, 1, behind[RX])
            if count == ring[_COMPLETIONS] or slot == entries - 1 or (last and received_later == 0):
                flags = EARLY1 | END if count == 1 else EARLY1
                entry = place[_COMPLETIONS_AT] + (slot - count + 1) * ring[_COMPLETION_BYTES]
                size = count * ring[_COMPLETION_BYTES]
                at = put(out, at, WRITE_UP, BUFFER_QUEUE, entry, size, request, stat, flags, 1, 0)
                written = at - 1
                wait = wait_to_tell(told[RX], ring[_INTERRUPT], count, now, moderation, following)
                if wait >= 0:
                    at = _interrupt(out, at, stat, EARLY1, 1, wait)
                if count > 1:
                    for k in range(count):
                        at = put(out, at, DELAY, 0, 0, 0, received[k], stat, END, at - written, 0)
                count = 0
            elif moderation > 0:
                wait = wait_to_tell(told[RX], ring[_INTERRUPT], 0, now, moderation, following)
                if wait >= 0:
                    at = _interrupt(out, at, stat, EARLY1, 1, wait)
            state[RX, _OPEN] = count
            if ring[_STATUS] > 0 and (frame + 1) % ring[_STATUS] == 0:
                at = _read_status(out, at, RX, stat, 1)
            i += 1
            continue
        rung = 1
        while rung < ring[_DOORBELL] and i + rung < n and directions[i + rung] == TX:
            rung += 1
        sent_later -= rung
        # The driver rings once for all of them, when the last one is due.
        now = times[i + rung - 1]
        for k in range(rung):
            at = put(out, at, DELAY, 0, 0, 0, request + k, stat, BEGIN, 0, 0)
            out[at - 1]["not_before_ps"] = now
            waiting[state[TX, _OPEN], 0] = request + k
            waiting[state[TX, _OPEN], 1] = sizes[i + k]
            state[TX, _OPEN] += 1
        bell = at
        at = put(out, at, WRITE_DOWN, BUFFER_MMIO, _TX_TAIL, REGISTER_BYTES, request, stat, 0, 1, 0)
        i += rung
        ends = last and sent_later == 0
        batch = np.int64(0)
        while state[TX, _OPEN] > 0 and (ends or batch > 0 or state[TX, _OPEN] >= ring[_THRESHOLD]):
            if batch == 0:
                batch = min(state[TX, _OPEN], ring[_FETCH])
            frame = state[TX, _SEEN]
            slot = frame % entries
            # What goes on behind the end of the ring is a read of its own.
            count = min(batch, entries - slot)
            batch -= count
            request = waiting[0, 0]
            entry = place[_DESCRIPTORS_AT] + slot * descriptor
            size = count * descriptor
            at = put(out, at, READ_UP, BUFFER_QUEUE, entry, size, request, stat, 0, at - bell, 0)
            at = put(out, at, DELAY, 0, 0, 0, request, stat, 0, 1, pipeline)
            payload = at
            for k in range(count):
                buffer = place[_BUFFERS_AT] + (slot + k) * place[_BUFFER_DISTANCE] + _HEADROOM
                request = waiting[k, 0]
                size = waiting[k, 1]
                at = put(out, at, READ_UP, BUFFER_DATA, buffer, size, request, stat, END, 1 + k, 0)
            group = ring[_COMPLETIONS]
            for k in range(count):
                done = frame + k + 1
                back = at - payload - k
                early = 0
                finished = 1
                if group > 0:
                    finished = 0
                    if done % group == 0:
                        finished = group
                        entry = place[_COMPLETIONS_AT] + (done // group) % entries * ring[_COMPLETION_BYTES]
                        size = ring[_COMPLETION_BYTES]
                        at = put(out, at, WRITE_UP, BUFFER_QUEUE, entry, size, -1, stat, 0, back, 0)
                        early = EARLY1
                        back = 1
                if finished > 0:
                    # More of the burst may follow.
                    wait = wait_to_tell(told[TX], ring[_INTERRUPT], finished, now, moderation, now)
                    if wait >= 0:
                        at = _interrupt(out, at, stat, early, back, wait)
                        back = 1
                if ring[_STATUS] > 0 and done % ring[_STATUS] == 0:
                    at = _read_status(out, at, TX, stat, back)
            state[TX, _SEEN] = frame + count
            state[TX, _OPEN] -= count
            for k in range(state[TX, _OPEN]):
                waiting[k, 0] = waiting[k + count, 0]
                waiting[k, 1] = waiting[k + count, 1]
        if moderation > 0:
            following = next_burst(times, directions, i, TX, ring[_DOORBELL], behind[TX])
            wait = wait_to_tell(told[TX], ring[_INTERRUPT], 0, now, moderation, following)
            if wait >= 0:
                at = _interrupt(out, at, stat, 0, 1, wait)
    return at


def program(
    adapter: Adapter, present: tuple[int, ...], largest: int, frames: Callable[[], Iterator[Frames]]
) -> Program:
    """Return the program of frames.

    Parameters
    ----------
    present : the directions that there are. largest : bytes of the largest frame.
    frames : makes a fresh iterator; the last one's next start is FOREVER.
    """
    both = adapter.rings()
    rings = np.array([ring.row() for ring in both])
    device = np.array([adapter.pipeline_ps, adapter.entries, adapter.header, adapter.moderation_ps])
    space = Allocator()
    memory = np.zeros((2, 6), np.int64)
    for direction in present:
        ring = both[direction]
        memory[direction, _DESCRIPTORS_AT] = space.queue(adapter.entries * ring.descriptor_bytes)
        memory[direction, _COMPLETIONS_AT] = space.queue(adapter.entries * ring.completion_bytes)
        memory[direction, _BUFFERS_AT : _BUFFER_DISTANCE + 1] = space.data(
            adapter.entries, _HEADROOM + largest
        )
    if adapter.header and RX in present:
        memory[RX, _HEADERS_AT:] = space.data(adapter.entries, adapter.header)
    stats = np.array([present.index(d) if d in present else 0 for d in (RX, TX)])
    tx = adapter.tx

    def chunks() -> Iterator[Chunk]:
        first = 0
        state = np.zeros((2, 2), np.int64)
        told = untold(adapter.moderation_ps)
        received = np.zeros(max(adapter.rx.completions, 1), np.int64)
        waiting = np.zeros((tx.fetch + tx.doorbell, 2), np.int64)
        bursts = [1, tx.doorbell]
        for (times, sizes, directions, horizon), behind in known(frames(), bursts, adapter.moderation_ps):
            # Write-backs also end frames that earlier chunks left open, and fetches send them.
            room = len(times) * _STEPS + int(state[RX, _OPEN]) + _STEPS * int(state[TX, _OPEN])
            out = np.empty(room, STEP)
            n = _fill(
                out,
                first,
                times,
                sizes,
                directions,
                stats,
                memory,
                rings,
                device,
                state,
                told,
                received,
                waiting,
                behind,
                horizon == FOREVER,
            )
            yield Chunk(out[:n], horizon)
            first += len(times)

    names = tuple(("rx", "tx")[d] for d in present)
    # All that a doorbell sets off waits for it.
    batch = max(tx.doorbell + tx.fetch, tx.completions, adapter.rx.completions)
    return Program(
        stats=names,
        pooled=len(names),
        chunks=chunks,
        regions=space.regions(),
        reach=_STEPS * (batch + 1),
        servers=0,
        open_loop=True,
    )
