"""One burst over one link of several, with the engines that stand at its ends; and the host's one engine.

Rule: as `port`, TLP by TLP and in whole ps behind the wire. Where a way has but one link and all engines
stand at its ends, `port` does the same faster.
"""

from typing import Final

import numpy as np

from .._jit import inline_kernel, kernel
from ..spec import (
    HEADER_4DW_BYTES,
    HEADER_COMPLETION_BYTES,
    IDE_MAC_BYTES,
    IDE_PCRC_BYTES,
    IDE_PREFIX_BYTES,
    IDE_SYNC_AT,
    SUB_STREAM_NON_POSTED,
    SUB_STREAM_POSTED,
)
from ..tlp.size import ide_bytes, request_header_bytes
from .layout import (
    ENGINE_BUSY,
    ENGINE_FREE,
    ENGINE_LAST,
    IDE,
    LINK,
    LINK_BUSY,
    PAYLOAD,
    POSITION,
    REPLAY,
    RX,
    SHARED_BUSY,
    SHARED_FREE,
    SKIP_COUNT,
    TLPS,
    TX,
    UP,
    WIRE,
)
from .params import (
    CHECK,
    CONTEXTS,
    CREDIT_BYTES,
    CREDIT_PS,
    CREDITS,
    DATA_LINK,
    DEN,
    DEN_SHIFT,
    DRAIN_LINE,
    DRAIN_TLP,
    ERROR_EVERY,
    FABRIC,
    FLIT,
    KEY_ENTRIES,
    KEY_MISS,
    MAC,
    MPS,
    NUM,
    PCRC,
    PIPE,
    REPLAY_UNITS,
    SKID,
    SWITCH,
)
from .port import _acquire as acquire
from .port import _arrival as arrival
from .port import _flit_end as flit_end
from .port import _keep_going as keep_going
from .port import _occupied as occupied
from .port import _owe as owe
from .port import _replay as replay
from .port import _switch_context as switch_context
from .port import _whole as whole
from .port import give_back, idle
from .units import AS_COMPLETIONS, AS_REQUEST, AS_WRITE, most_tlps, next_sealed, next_tlp

# Sub-streams of a device in one direction, and in both.
CONTEXTS_PER_DEVICE: Final = 2 * CONTEXTS


@inline_kernel
def context_of(device, direction, sub_stream):
    """Return which context of the keys of a root port or of the host's one engine a TLP needs."""
    return CONTEXTS_PER_DEVICE * device + CONTEXTS * direction + sub_stream


@inline_kernel
def on_wire(link, count):
    """Return the time of so many bytes on a wire, rounded down to whole ps."""
    return whole(count * link[NUM], link[DEN], link[DEN_SHIFT])


@inline_kernel
def there_before(link, last, count):
    """Return when the receiver has the byte that comes so many before the last of a burst, ps.

    last : ticks, when that one ends.
    """
    if link[FLIT] > 0:
        return arrival(link, last - count * link[NUM])
    return arrival(link, last) - on_wire(link, count)


@kernel
def cut_through(link, following, last, carried, head):
    """Return when a burst may go on to the next link: its head is there, and that wire will not run dry, ps.

    last : ticks, when the last of its bytes ends. carried : bytes of it; head : of them up to the payload of
    the first TLP.
    """
    flit = link[FLIT]
    if flit == 0:
        return arrival(link, last) - min(on_wire(link, carried - head), on_wire(following, carried))
    there = there_before(link, last, carried - head)
    # Every later flit has to be there when all that is before it has left again.
    end = flit_end(last - (carried - head) * link[NUM], flit)
    while end < last:
        before = carried + (end - last) // link[NUM]
        end += flit
        there = max(there, arrival(link, end) - on_wire(following, before))
    return there


@kernel
def measure(link, cut, address, size, sealed):
    """Return what a burst is without IDE Syncs.

    Returns
    -------
    Bytes of all its TLPs, of the head of the first one (up to its payload), and of the first one; for how
    long all of them, the first and the last fill an engine's input, ps, 0 for what is not sealed.
    """
    total = np.int64(0)
    head = np.int64(0)
    first = np.int64(0)
    works = np.int64(0)
    first_work = np.int64(0)
    work = np.int64(0)
    most = most_tlps(link, cut, address, size) if sealed else np.int64(1)
    tlps = 0
    payload = 0
    while size > 0:
        step, header, padded, ends, ide, content = next_sealed(
            link, cut, address, size, most, tlps, payload, False
        )
        wire = link[DATA_LINK] + header + padded
        if sealed:
            wire += ide
            work = occupied(link, content)
        if total == 0:
            first = wire
            first_work = work
            head += (link[DATA_LINK] >> 1) + header + (IDE_PREFIX_BYTES if sealed else 0)
        total += wire
        works += work
        tlps = 0 if ends else tlps + 1
        payload = 0 if ends else payload + padded
        address += step
        size -= step
    return total, head, first, works, first_work, work


@kernel
def sealing(link, cut, address, size):
    """Return how long the host's one engine works on a burst for a device, ps, and when that can go.

    The second is in ps from the start of the work: the wire starts with the first TLP, and runs dry neither
    before the last one nor before the MAC of any unit of several.
    """
    total = np.int64(0)
    works = np.int64(0)
    goes = np.int64(0)
    most = most_tlps(link, cut, address, size)
    tlps = 0
    payload = 0
    while size > 0:
        step, header, padded, ends, ide, content = next_sealed(
            link, cut, address, size, most, tlps, payload, False
        )
        works += occupied(link, content)
        if total == 0:
            goes = works + (link[MAC] if ends else 0)
        total += link[DATA_LINK] + header + padded + ide
        if ends and (tlps > 0 or step == size):
            goes = max(goes, works + link[MAC] - on_wire(link, total))
        tlps = 0 if ends else tlps + 1
        payload = 0 if ends else payload + padded
        address += step
        size -= step
    return works, goes + link[PIPE]


@kernel
def opening(link, address, size, start, last):
    """Return when a write can have been drained at the earliest that the host's one engine opens, ps.

    start : ps, of its work. last : ticks, when its last byte has left. 0 if no TLPs share a MAC that they
    have to wait for; IDE Syncs are not counted.
    """
    behind = np.int64(0)
    most = most_tlps(link, AS_WRITE, address, size)
    if most == 1 or link[SKID] != 0:
        return behind
    rest, _, _, _, _, _ = measure(link, AS_WRITE, address, size, True)
    works = np.int64(0)
    drain = 0
    tlps = 0
    payload = 0
    while size > 0:
        step, header, padded, ends, ide, content = next_sealed(
            link, AS_WRITE, address, size, most, tlps, payload, False
        )
        work = occupied(link, content)
        works += work
        rest -= link[DATA_LINK] + header + padded + ide
        drain += link[DRAIN_TLP] + ((step + 63) >> 6) * link[DRAIN_LINE]
        tlps += 1
        payload += padded
        if ends:
            if tlps > 1:
                there = there_before(link, last, rest) + link[FABRIC]
                behind = max(behind, max(start + works, there + work) + link[CHECK] + link[FABRIC])
            if behind > 0:
                behind += drain
            tlps = payload = drain = 0
        address += step
        size -= step
    return behind


@kernel
def drain_work(link, address, size, each, line):
    """Return how long the root port's drain works on a quantum of a write, and on its last TLP, ps."""
    work = np.int64(0)
    last = np.int64(0)
    while size > 0:
        part = min(size, link[MPS] - (address & (link[MPS] - 1)))
        last = each + ((part + 63) >> 6) * line
        work += last
        address += part
        size -= part
    return work, last


@kernel
def switch_key(keys, link, context):
    """Return (bubble, load) in ps that a context costs an engine with many. Modified in place: keys.

    keys : int64[1 + contexts], see `State.key`.
    """
    last = keys[0]
    if last == context:
        return 0, 0
    keys[0] = context
    rank = 1
    while keys[rank] != context:
        rank += 1
    load = link[KEY_MISS] if rank > link[KEY_ENTRIES] else 0
    while rank > 1:
        keys[rank] = keys[rank - 1]
        rank -= 1
    keys[1] = context
    return link[SWITCH] if last >= 0 else 0, load


@inline_kernel
def _switch(port, keys, link, engine, sub_stream, context):
    """Do the same at an end of a link: of the engine's own three, or of many (context not negative)."""
    if context < 0:
        return switch_context(port, link, engine, sub_stream)
    port[ENGINE_LAST + engine] = sub_stream
    return switch_key(keys, link, context)


@inline_kernel
def _cross(port, keys, link, direction, sub_stream, context, wire, work, ends, enters, position, tx, rx):
    """Take one TLP over a link. Modified in place: port, keys. ends : it carries the MAC of its unit.

    Returns when the wire is free, ticks, and when the engine that receives has it, ps.
    """
    den = link[DEN]
    shift = link[DEN_SHIFT]
    ticks = wire * link[NUM]
    begin = max(position, enters * den)
    if tx:
        sender = 2 * direction + TX
        gap, load = _switch(port, keys, link, sender, sub_stream, context)
        start = max(enters, port[ENGINE_FREE + sender] + gap) + load
        port[ENGINE_FREE + sender] = start + work
        port[ENGINE_BUSY + sender] += work
        # The MAC, behind the last byte, cannot leave before the engine has made it.
        made = start + work + link[PIPE] + (link[MAC] if ends else 0)
        begin = max(begin, max((start + link[PIPE]) * den, made * den - ticks))
    position = begin + ticks
    done = np.int64(0)
    if rx:
        receiver = 2 * direction + RX
        gap, load = _switch(port, keys, link, receiver, sub_stream, context)
        arrive = arrival(link, position)
        first = arrive - whole(ticks, den, shift)
        if link[FLIT] > 0:
            first = arrival(link, begin + link[NUM])
        taken = max(first, port[ENGINE_FREE + receiver] + gap)
        done = max(arrive, taken + work) + load
        port[ENGINE_FREE + receiver] = done
        port[ENGINE_BUSY + receiver] += work
    return position, done


@kernel
def cross(
    port,
    keys,
    link,
    owed,
    credit,
    count,
    counted,
    sent,
    sent_at,
    direction,
    sub_stream,
    context,
    address,
    size,
    cut,
    ready,
    sealed,
    tx,
    rx,
    error_table,
    error_stream,
    seed,
):
    """Pass one burst over one link: credits, sender's engine, wire, receiver's engine.

    Its TLPs are all ready, or follow so that the wire does not run dry. Modified in place: port, the row of
    `State.device` of this link; keys, of `State.key`; owed and credit, the link's; count, one of
    `State.count`, if counted; sent, the row that holds the IDE ordering counters from sent_at on. tx, rx :
    whether engines stand at the link's ends. context : of `keys`, for the end at a root port, or negative.

    Returns
    -------
    accepted : ps, when the next burst can enter without leaving a hole on the wire.
    enters, begin, arrive : ps, when it had its credits, the wire was free, its last byte was there.
    last : ticks, when that had left.
    checked : ps, when the engine that receives has done with it; arrive without one.
    held : ps, for how long of that the last TLP waits for the MAC of its unit.
    behind : ps, when a write can have been drained at the earliest, as no TLP of a unit is released before
        its MAC is checked; 0 if nothing shares one, or no engine receives it.
    stalled, replayed, idled : ps, for how long credits and errors kept it, and an engine its wire.
    total, carried : bytes, IDE Syncs included, of all and up to the last byte of its last TLP.
    parts, units : credits that it took.
    """
    den = link[DEN]
    shift = link[DEN_SHIFT]
    data_link = link[DATA_LINK]
    pcrc = link[PCRC] != 0
    position = keep_going(port, link, owed, direction, ready)
    ready_ticks = ready * den
    place = 2 * direction + (0 if cut == AS_WRITE else 1)
    # Completions of a peer have no credits of their own at a root port.
    answer = cut == AS_COMPLETIONS and direction == UP
    limited = cut != AS_REQUEST and not answer and link[CREDITS + 2 * place] >= 0
    buffers = link[REPLAY_UNITS] >= 0
    parts = np.int64(0)
    units = np.int64(0)
    buffered = np.int64(0)
    stalled = 0
    enters = ready
    if limited or buffers:
        at = address
        rest = size
        overhead = data_link + (IDE_PREFIX_BYTES + IDE_MAC_BYTES + IDE_PCRC_BYTES if sealed else 0)
        bare = HEADER_COMPLETION_BYTES if cut == AS_COMPLETIONS else request_header_bytes(address)
        while rest > 0:
            step, header, padded = next_tlp(link, cut, at, rest)
            parts += 1
            units += (padded + CREDIT_BYTES - 1) // CREDIT_BYTES
            buffered += padded + overhead + (header if cut == AS_REQUEST else bare)
            at += step
            rest -= step
    if limited:
        gate = acquire(port, credit[place], place, parts, units)
        stalled = max(gate * den - max(position, ready_ticks), 0)
        enters = max(ready, gate)
        ready_ticks = enters * den
    if buffers:
        buffered = (buffered + CREDIT_BYTES - 1) // CREDIT_BYTES
        gate = acquire(port, credit[REPLAY + direction], REPLAY + direction, 0, buffered)
        stalled = max(gate * den - max(position, ready_ticks), stalled)
        enters = max(enters, gate)
        ready_ticks = enters * den
    begin = max(position, ready_ticks)

    total = np.int64(0)
    carried = np.int64(0)
    tlps = np.int64(0)
    ide_sum = np.int64(0)
    payload = np.int64(0)
    done = np.int64(0)
    released = np.int64(0)
    behind = np.int64(0)
    last = position
    at = address
    rest = size
    posted = sealed and sub_stream == SUB_STREAM_POSTED
    waits = rx and link[SKID] == 0
    counters = sent_at + 2 * direction
    most = most_tlps(link, cut, address, size) if sealed else np.int64(1)
    # Of the open unit; and how long its TLPs keep the root port's drain, ps.
    in_unit = 0
    content_sum = 0
    drain = 0
    while rest > 0:
        # The IDE ordering counters. Any other sub-stream's TLP tells how many posted ones came before it.
        sync = False
        if posted:
            sent[counters] += 1
            sent[counters + 1] += 1
            sync = sent[counters] >= IDE_SYNC_AT or sent[counters + 1] >= IDE_SYNC_AT
        elif sealed:
            sent[counters + (0 if sub_stream == SUB_STREAM_NON_POSTED else 1)] = 0
        step, header, padded, ends, ide, content = next_sealed(
            link, cut, at, rest, most, in_unit, content_sum, sync
        )
        wire = data_link + header + padded + (ide if sealed else 0)
        work = occupied(link, content) if sealed else 0
        position, done = _cross(
            port, keys, link, direction, sub_stream, context, wire, work, ends, enters, position, tx, rx
        )
        released = done
        last = position
        total += wire
        carried = total
        tlps += 1
        if cut != AS_REQUEST:
            payload += step
        at += step
        rest -= step
        if not sealed:
            continue
        ide_sum += ide
        in_unit += 1
        content_sum += padded
        if cut == AS_WRITE:
            drain += link[DRAIN_TLP] + ((step + 63) >> 6) * link[DRAIN_LINE]
        if sync:
            # An IDE Sync: a message without data, the last of the open unit or of one of its own.
            sent[counters] = 0
            sent[counters + 1] = 0
            ide = ide_bytes(True, pcrc and not ends and content_sum > 0)
            wire = data_link + HEADER_4DW_BYTES + ide
            work = occupied(link, HEADER_4DW_BYTES + ide - IDE_MAC_BYTES)
            key = context - sub_stream + SUB_STREAM_POSTED if context >= 0 else context
            position, finished = _cross(
                port,
                keys,
                link,
                direction,
                SUB_STREAM_POSTED,
                key,
                wire,
                work,
                True,
                enters,
                position,
                tx,
                rx,
            )
            total += wire
            tlps += 1
            ide_sum += ide
            if not ends:
                in_unit += 1
                ends = True
                if waits:
                    released = finished
        if ends:
            if waits and in_unit > 1:
                behind = max(behind, released + link[CHECK])
            if behind > 0:
                behind += drain
            in_unit = content_sum = drain = 0
    replayed = np.int64(0)
    if link[ERROR_EVERY] > 0:
        # The same bytes pass once more; the engines do not see them again.
        replayed = replay(port, link, direction, total, position, error_table, error_stream, seed)
        position += replayed * den
        last += replayed * den
        done += replayed
        released += replayed
        behind += replayed if behind > 0 else 0
        if rx:
            port[ENGINE_FREE + 2 * direction + RX] += replayed
    ahead = link[PIPE] + link[MAC] if port[ENGINE_LAST + 2 * direction + TX] >= 0 else 0
    accepted = max(ready, whole(position, den, shift) - ahead)
    port[POSITION + direction] = position
    port[LINK_BUSY + direction] += total * link[NUM]
    port[SKIP_COUNT + direction] += total
    arrive = arrival(link, last)
    checked = released + link[CHECK] if rx else arrive
    held = released - done
    if counted:
        count[PAYLOAD] += payload
        count[WIRE] += total
        count[TLPS] += tlps
        count[LINK] += data_link * tlps
        count[IDE] += ide_sum
    owe(port, link, owed, 1 - direction, arrive, tlps, ready)
    if buffers:
        give_back(port, credit[REPLAY + direction], REPLAY + direction, arrive + link[CREDIT_PS], buffered, 0)
    idled = idle(begin, position, replayed, total * link[NUM], den, shift) if sealed else np.int64(0)
    begin = whole(begin, den, shift)
    stalled = whole(stalled, den, shift)
    return (
        accepted,
        enters,
        begin,
        arrive,
        last,
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
    )


@kernel
def serve_shared(scalar, keys, link, context, now, works):
    """Let the host's one engine work on a burst; return when it starts, ps. Modified in place."""
    gap, load = switch_key(keys, link, context)
    free = scalar[SHARED_FREE]
    start = max(now, free + gap) + load
    scalar[SHARED_FREE] = start + works
    # Bubbles and key loads between bursts keep it from the next one as its work does.
    scalar[SHARED_BUSY] += start + works - max(now, free)
    return start
