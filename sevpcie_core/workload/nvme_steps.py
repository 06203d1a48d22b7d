"""NVMe: the kernel that writes steps, and what it keeps from one chunk to the next.

Rule: it sees what requests are, and how they are batched, as arrays; `nvme.py` says what they are.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from .._jit import kernel
from ..spec import BUFFER_DATA, BUFFER_MMIO, BUFFER_MSI, BUFFER_QUEUE
from ..stats.draw import below, draw_u64, quantile, quantile_table
from .buffers import BAR_ADDRESS, MSI_ADDRESS, Allocator
from .nvme_data import PAGE, SGL_BYTES, list_bytes, list_reads, segments
from .nvme_work import KINDS, READ, TRIM, WRITE, Work, commands_of, in_commands
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
# NVM Express NVM Command Set 1.0, section 3.2.3: a range of Dataset Management is 16 B.
TRIM_BYTES: Final = 16
# NVM Express over PCIe Transport 1.0, section 3.1.2: doorbells start at 0x1000, two of 4 B per queue with
# stride 0; queue 0 is the admin queue.
_DOORBELLS: Final = BAR_ADDRESS + 0x1000
_DOORBELL_STRIDE: Final = 8
# NVM Express Base Specification 2.0, section 5.8 (Doorbell Buffer Config): shadow doorbells and event indices
# are 4 B.
SHADOW_BYTES: Final = 4
ENTRIES: Final = 1024

# The host submits the first requests one after the other.
_SUBMIT_PS: Final = 100_000


# Streams 0, and 3 to 5, are those of `nvme.py`.
_DRAW_MEDIA: Final = 1
_DRAW_PLACE: Final = 2


@dataclass(frozen=True)
class Controller:
    """The device, and how its driver uses it.

    Attributes
    ----------
    media_read, media_write : (probability, ps) points of the media time; what is no read takes that of
        writes.
    media_read_ahead : of a read that the drive has read ahead of; it takes no die. Empty: it reads nothing
        ahead.
    dies : media servers that requests fall on at random; 0 for unlimited.
    controller_ps : decoding of a command.
    msi : whether completions raise interrupts.
    coalesce : completions of a queue that share one, and a doorbell.
    fetch : commands that one read fetches at most.
    queues, entries : pairs of queues, and entries of each.
    segment : bytes of memory that one SGL descriptor names; 0: data are named by PRPs.
    shadow : MMIO doorbells of submission only for every so many batches: the device reads the others from
        memory (0: all are MMIO).
    most : bytes that one command moves (MDTS); a request of more is several commands, which are rung in
        together and done when the last of them is. 0: there is no limit.
    """

    media_read: Sequence[tuple[float, int]]
    media_write: Sequence[tuple[float, int]]
    dies: int
    controller_ps: int
    msi: bool
    coalesce: int = 1
    fetch: int = 1
    queues: int = 1
    entries: int = ENTRIES
    segment: int = 0
    shadow: int = 0
    most: int = 0
    media_read_ahead: Sequence[tuple[float, int]] = ()


# Rows of media times.
_MEDIA_READ: Final = 0
_MEDIA_OTHER: Final = 1
_MEDIA_AHEAD: Final = 2

# Columns of what the kernel reads of a controller.
_DECODE: Final = 0
_MSI: Final = 1
_COALESCE: Final = 2
_FETCH: Final = 3
_QUEUES: Final = 4
_ENTRIES: Final = 5
_SEGMENT: Final = 6
_DIES: Final = 7
_SHADOW: Final = 8
# ... and of the loop: slots (0: an open loop), pause before a slot's next request, whether no chunk follows,
# and how much later than the first of a group of completions others may have been asked for, ps.
_DEPTH: Final = 9
_THINK: Final = 10
_LAST: Final = 11
_WITHIN: Final = 12
# ... and of what a request is cut into: bytes of a command, and of the lists that name its data.
_MOST: Final = 13
_LISTED: Final = 14
_COLUMNS: Final = 15

# Columns of `state`, by queue: commands so far, batches so far, completions in the open group, and when the
# first of them was asked for (in an open loop).
_COMMANDS: Final = 0
_BATCHES: Final = 1
_OPEN: Final = 2
_SINCE: Final = 3
# Columns of `open_`, by queue and place in the group: the step of the completion entry, its slot,
# class and request, and whether it is one of several commands of that.
_STEP: Final = 0
_SLOT: Final = 1
_CLASS: Final = 2
_REQUEST: Final = 3
_CUT: Final = 4
_OPEN_COLUMNS: Final = 5
# Draws of a request's further commands are named by numbers that no request has.
_PART_SHIFT: Final = 40


@kernel
def _tell_host(out, at, base, queue, device, done, open_, state):
    """Write interrupt and completion doorbell of a queue's open group; return the place of the next step.

    Modified in place: out, done, state.
    """
    group = state[queue, _OPEN]
    state[queue, _OPEN] = 0
    stat = open_[queue, group - 1, _CLASS]
    request = open_[queue, group - 1, _REQUEST]
    last = base + at - open_[queue, group - 1, _STEP]
    for m in range(1, group):
        # Completions end in any order: one that is there looks for the next.
        before = base + at - open_[queue, 0, _STEP] if m == 1 else 1
        at = put(out, at, DELAY, 0, 0, 0, -1, stat, 0, before, 0)
        out[at - 1]["after2"] = base + at - 1 - open_[queue, m, _STEP]
        last = 1
    if device[_MSI]:
        # Alone it follows its entry on the wire at once.
        early = EARLY1 if group == 1 else 0
        at = put(out, at, WRITE_UP, BUFFER_MSI, MSI_ADDRESS, MSI_BYTES, request, stat, early, last, 0)
        last = last + 1 if group == 1 else 1
        if device[_COALESCE] > 1 and device[_DEPTH] > 0:
            # The host hears of none of them before.
            message = base + at - 1
            for m in range(group):
                slot = open_[queue, m, _SLOT]
                if open_[queue, m, _CUT] and done[slot] >= 0:
                    # Other commands of the request may have been told of by another message.
                    at = put(out, at, DELAY, 0, 0, 0, -1, stat, 0, base + at - message, 0)
                    out[at - 1]["after2"] = base + at - 1 - done[slot]
                    done[slot] = base + at - 1
                    last += 1
                else:
                    done[slot] = message
    bell = _DOORBELLS + _DOORBELL_STRIDE * (queue + 1) + DOORBELL_BYTES
    return put(out, at, WRITE_DOWN, BUFFER_MMIO, bell, DOORBELL_BYTES, request, stat, 0, last, 0)


@kernel
def _fill(
    out,
    base,
    batches,
    operations,
    stats,
    sizes,
    offsets,
    buffers,
    starts,
    ahead,
    requests,
    part,
    parts,
    device,
    memory,
    media,
    done,
    open_,
    state,
    key,
):
    """Write the steps of consecutive batches; return their number.  Modified: out, done, open_, state.

    base : number of the first step.
    batches : int64[m, 2], commands of each batch, and its queue; operations : uint8[n], their sum.
    stats : int64[5], class of an operation; sizes : int64[n], bytes; offsets : int64[n], of the first byte in
        its page; buffers : int64[n], which one; starts : int64[n], ps, or empty in a closed loop.
    ahead : bool[n], whether it has been read ahead.
    requests : int64[n], whose command it is; part, parts : int64[n], its place among those of the request,
        and how many there are.
    device : int64[15], see the columns above.
    memory : int64[7], addresses of submission queues, completion queues, lists, shadow doorbells, first
        buffer; distance of lists and of buffers.
    media : int64[3, 4097], ps, times of reads, of others, and of reads that have been read ahead.
    done : int64[slots], by slot or entry, the step at whose end it is free, -1 at first.
    open_ : int64[queues, coalesce, 5], completions of the open group; state : int64[queues, 4].
    key : int64[2], seed and stream of the draws.
    """
    entries = device[_ENTRIES]
    depth = device[_DEPTH]
    open_loop = depth == 0
    # A slot of a closed loop is free when the host has heard of its request.
    told_together = device[_MSI] > 0 and device[_COALESCE] > 1
    at = 0
    i = 0
    rung = np.int64(-1)
    joined = np.int64(-1)
    for b in range(len(batches)):
        count = batches[b, 0]
        queue = batches[b, 1]
        stat = stats[operations[i]]
        command = state[queue, _COMMANDS]
        if open_loop and state[queue, _OPEN] > 0 and starts[i] - state[queue, _SINCE] > device[_WITHIN]:
            at = _tell_host(out, at, base, queue, device, done, open_, state)
        # --- the doorbell, when the last of the batch may be submitted ---
        if open_loop:
            # Latency counts from the intended start, whether there is room in the queue or not.
            begun = False
            for k in range(count):
                if part[i + k] == 0:
                    number = requests[i + k]
                    at = put(out, at, DELAY, 0, 0, 0, number, stats[operations[i + k]], BEGIN, 0, 0)
                    out[at - 1]["not_before_ps"] = starts[i + k]
                    begun = True
            flags = 0
            # The rest of a request that is longer than the ring is rung in behind its begin.
            after = 1 if begun else base + at - rung
            after2 = 0
            for k in range(count):
                free = done[queue * (entries - 1) + (command + k) % (entries - 1)]
                if free >= 0:
                    # The entry of an earlier command; their completions may come in any order.
                    if after2 > 0:
                        at = put(out, at, DELAY, 0, 0, 0, -1, stat, 0, after, 0)
                        out[at - 1]["after2"] = after2
                        after = 1
                    after2 = base + at - free
            pause = 0
        else:
            slot = requests[i] % depth
            free = done[slot]
            after = base + at - free if free >= 0 else 0
            after2 = 0
            pause = device[_THINK] if free >= 0 else 0
            flags = BEGIN
            if count > 1:
                flags = 0
                # All are submitted when the last of their slots is free.
                waits = at
                for k in range(count):
                    if part[i + k] == 0:
                        free = done[requests[i + k] % depth]
                        back = base + at - free if free >= 0 else 0
                        at = put(out, at, DELAY, 0, 0, 0, -1, stat, 0, 1 if at > waits else back, 0)
                        if at - 1 > waits and back:
                            out[at - 1]["after2"] = back
                out[at - 1]["delay_ps"] = pause
                if pause == 0 and done[slot] < 0:
                    out[at - 1]["not_before_ps"] = requests[i] * _SUBMIT_PS
                waits = at
                for k in range(count):
                    if part[i + k] == 0:
                        back = 1 + at - waits
                        number = requests[i + k]
                        at = put(out, at, DELAY, 0, 0, 0, number, stats[operations[i + k]], BEGIN, back, 0)
                after = 1
                pause = 0
        request = requests[i]
        shadow = device[_SHADOW]
        told = shadow == 0 or state[queue, _BATCHES] % shadow == 0
        state[queue, _BATCHES] += 1
        if told:
            bell = _DOORBELLS + _DOORBELL_STRIDE * (queue + 1)
            at = put(
                out, at, WRITE_DOWN, BUFFER_MMIO, bell, DOORBELL_BYTES, request, stat, flags, after, pause
            )
        else:
            # The device finds it when it looks for more.
            if flags and after > 0:
                at = put(out, at, DELAY, 0, 0, 0, -1, stat, 0, after, pause)
                after = 1
            pause = 0
            at = put(out, at, DELAY, 0, 0, 0, request, stat, flags, after, pause)
        out[at - 1]["after2"] = after2
        if flags and after == 0:
            out[at - 1]["not_before_ps"] = request * _SUBMIT_PS
        if shadow > 0:
            # It reads the tail, and writes when it wants to be told next.
            place = memory[3] + 2 * SHADOW_BYTES * queue
            at = put(out, at, READ_UP, BUFFER_QUEUE, place, SHADOW_BYTES, request, stat, 0, 1, 0)
            at = put(out, at, WRITE_UP, BUFFER_QUEUE, place + SHADOW_BYTES, SHADOW_BYTES, -1, stat, 0, 1, 0)
        ready = at - 2 if shadow > 0 else at - 1
        rung = base + ready
        # --- the commands ---
        fetched = 0
        fetch = ready
        for k in range(count):
            request = requests[i]
            operation = operations[i]
            stat = stats[operation]
            size = sizes[i]
            offset = offsets[i]
            entry = command % entries
            if k == fetched:
                # No read runs over the end of the ring.
                most = min(min(device[_FETCH], count - k), entries - entry)
                place = memory[0] + COMMAND_BYTES * (queue * entries + entry)
                at = put(
                    out,
                    at,
                    READ_UP,
                    BUFFER_QUEUE,
                    place,
                    COMMAND_BYTES * most,
                    request,
                    stat,
                    0,
                    at - ready,
                    0,
                )
                fetch = at - 1
                fetched += most
            at = put(out, at, DELAY, 0, 0, 0, request, stat, 0, at - fetch, device[_DECODE])
            moves = size > 0 and operation <= WRITE
            place = memory[2] + buffers[i] * memory[5] + part[i] * device[_LISTED]
            if moves and device[_SEGMENT] > 0:
                runs = segments(size, offset, device[_SEGMENT])
                if runs > 1:
                    at = put(out, at, READ_UP, BUFFER_QUEUE, place, SGL_BYTES * runs, request, stat, 0, 1, 0)
            elif moves:
                for page in range(list_reads(size, offset)):
                    read = list_bytes(size, offset, page)
                    at = put(
                        out, at, READ_UP, BUFFER_QUEUE, place + PAGE * page, read, request, stat, 0, 1, 0
                    )
            buffer = memory[4] + buffers[i] * memory[6] + offset + part[i] * device[_MOST]
            name = request + (part[i] << _PART_SHIFT)
            medium = _MEDIA_OTHER
            if operation == READ:
                medium = _MEDIA_AHEAD if ahead[i] else _MEDIA_READ
            time = quantile(media[medium], draw_u64(key[0], key[1] + _DRAW_MEDIA, name))
            if moves and operation == WRITE:
                at = put(out, at, READ_UP, BUFFER_DATA, buffer, size, request, stat, 0, 1, 0)
            elif operation == TRIM:
                at = put(out, at, READ_UP, BUFFER_DATA, buffer, TRIM_BYTES, request, stat, 0, 1, 0)
            at = put(out, at, DELAY, 0, 0, 0, request, stat, MEDIA, 1, time)
            if device[_DIES] > 0 and medium != _MEDIA_AHEAD:
                where = draw_u64(key[0], key[1] + _DRAW_PLACE, name)
                out[at - 1]["server"] = below(where, device[_DIES])
                out[at - 1]["occupy_ps"] = time
            wait = 0
            if moves and operation == READ:
                at = put(out, at, WRITE_UP, BUFFER_DATA, buffer, size, request, stat, 0, 1, 0)
                wait = EARLY1
            place = memory[1] + COMPLETION_BYTES * (queue * entries + entry)
            cut = parts[i] > 1
            flags = wait if cut else END | wait
            at = put(out, at, WRITE_UP, BUFFER_QUEUE, place, COMPLETION_BYTES, request, stat, flags, 1, 0)
            completion = base + at - 1
            slot = queue * (entries - 1) + command % (entries - 1) if open_loop else request % depth
            if cut:
                # Completions end in any order: one that is there looks for those before it.
                if part[i] > 0:
                    flags = END if part[i] == parts[i] - 1 else 0
                    at = put(out, at, DELAY, 0, 0, 0, request, stat, flags, 1, 0)
                    out[at - 1]["after2"] = base + at - 1 - joined
                joined = base + at - 1
            if open_loop:
                done[slot] = completion
            elif not cut or not told_together:
                done[slot] = base + at - 1
            elif part[i] == 0:
                done[slot] = -1
            group = state[queue, _OPEN]
            open_[queue, group, _STEP] = completion
            open_[queue, group, _CUT] = cut
            open_[queue, group, _SLOT] = slot
            open_[queue, group, _CLASS] = stat
            open_[queue, group, _REQUEST] = request
            if open_loop and group == 0:
                state[queue, _SINCE] = starts[i]
            state[queue, _OPEN] = group + 1
            if group + 1 == device[_COALESCE]:
                at = _tell_host(out, at, base, queue, device, done, open_, state)
            command += 1
            i += 1
        state[queue, _COMMANDS] = command
    if device[_LAST]:
        for queue in range(device[_QUEUES]):
            if state[queue, _OPEN] > 0:
                at = _tell_host(out, at, base, queue, device, done, open_, state)
    return at


def _classes(kinds: Sequence[int]) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the request classes of a program that has these operations, and the class of each operation.

    Kinds are apart, as fio has them: what a link adds to a read is not what it adds to a write, so a
    percentile of both may belong to neither.
    """
    if len(kinds) == 1:
        return ("nvme",), np.zeros(len(KINDS), np.int64)
    stats = np.array([kinds.index(k) if k in kinds else 0 for k in range(len(KINDS))])
    return tuple(KINDS[k] for k in kinds), stats


class Driver:
    """Queues, lists and buffers in memory, and the steps of requests in their order."""

    def __init__(
        self,
        controller: Controller,
        *,
        buffers: int,
        largest: int,
        offset: int,
        depth: int,
        think_ps: int = 0,
        within_ps: int = 0,
        batch: int = 1,
        seed: int = 0,
        stream: int = 0,
    ) -> None:
        c = controller
        self.controller = c
        self.batch = batch
        space = Allocator()
        submission = space.queue(COMMAND_BYTES * c.entries * c.queues)
        completion = space.queue(COMPLETION_BYTES * c.entries * c.queues)
        data, distance = space.data(buffers, offset + largest)
        # What names the data of a command: pages of a PRP list, or a segment of SGL descriptors.
        parts = commands_of(largest, c.most)
        longest = min(largest, c.most) if c.most else largest
        if c.segment:
            runs = segments(longest, offset, c.segment)
            listed = -(-runs * SGL_BYTES // PAGE) if runs > 1 else 0
        else:
            listed = list_reads(longest, offset)
        lists = space.queue(listed * parts * PAGE * buffers) if listed else 0
        shadow = space.queue(2 * SHADOW_BYTES * c.queues) if c.shadow else 0
        self.regions = space.regions()
        pages = listed * parts * PAGE
        self.memory = np.array([submission, completion, lists, shadow, data, pages, distance])
        times = (c.media_read, c.media_write, c.media_read_ahead or c.media_read)
        self.media = np.stack([quantile_table(points) for points in times])
        self.device = np.zeros(_COLUMNS, np.int64)
        self.device[:_WITHIN] = [
            c.controller_ps,
            c.msi,
            c.coalesce,
            c.fetch,
            c.queues,
            c.entries,
            c.segment,
            c.dies,
            c.shadow,
            depth,
            think_ps,
            0,
        ]
        self.device[_WITHIN:] = [within_ps, c.most, listed * PAGE]
        self.key = np.array([seed, stream])
        # Steps of a command at most: eight, its lists, its part of what a batch, a group and a request that
        # is cut have together.
        batched = 2 if depth == 0 or batch > 1 or parts > 1 else 0
        self.most = 8 + listed + batched + (3 if c.shadow else 0) + (1 if c.coalesce > 1 else 0)
        self.most += 2 if parts > 1 else 0
        self.slots = depth or (c.entries - 1) * c.queues
        # Queues take turns by batches: while one fills up with requests of one command, those of the others
        # may have as many as there are.
        entries = (c.entries - 1) * (1 + (c.queues - 1) * parts)
        in_flight = (depth * parts or entries) + batch * parts - 1 + c.coalesce - 1
        self.reach = in_flight * self.most

    def chunks(self, work: Iterator[Work], stats: np.ndarray) -> Iterator[Chunk]:
        """Yield the steps of works one after the other; the first has all that begins by itself."""
        c = self.controller
        done = np.full(self.slots, -1, np.int64)
        open_ = np.zeros((c.queues, c.coalesce, _OPEN_COLUMNS), np.int64)
        state = np.zeros((c.queues, 4), np.int64)
        base = first = 0
        for requests in work:
            parts = requests.parts(c.most)
            part, of, place = in_commands(requests, parts, c.most, c.entries - 1)
            out = np.empty(len(of) * self.most + 3 * c.queues * c.coalesce, STEP)
            self.device[_LAST] = part.last
            count = _fill(
                out,
                base,
                part.batches,
                part.operations,
                stats,
                part.sizes,
                part.offsets,
                part.buffers,
                part.starts,
                part.ahead,
                first + of,
                place,
                parts[of],
                self.device,
                self.memory,
                self.media,
                done,
                open_,
                state,
                self.key,
            )
            later = FOREVER if part.last or not len(part.starts) else int(part.starts[-1])
            yield Chunk(out[:count], later)
            base += count
            first += len(parts)

    def program(self, work: Callable[[], Iterator[Work]], kinds: Sequence[int], open_loop: bool) -> Program:
        """Return the program of works; `kinds` are the operations in them."""
        names, stats = _classes(kinds)
        c = self.controller
        return Program(
            stats=names,
            pooled=len(names),
            chunks=lambda: self.chunks(work(), stats),
            regions=self.regions,
            reach=self.reach,
            servers=c.dies,
            open_loop=open_loop,
        )
