"""One burst of TLPs through a port: the sender's cipher engine, the wire, the receiver's.

Rule: a first-in first-out recurrence per TLP, in exact ticks on the wire and whole ps elsewhere; a receiver
stores a TLP until its last byte in both arms. docs/model.md derives every line.
"""

from typing import Final

import numpy as np

from .._jit import inline_kernel, kernel
from ..spec import (
    DLLP_BYTES,
    HEADER_4DW_BYTES,
    HEADER_COMPLETION_BYTES,
    IDE_MAC_BYTES,
    IDE_PCRC_BYTES,
    IDE_PREFIX_BYTES,
    IDE_SYNC_AT,
    SUB_STREAM_COMPLETION,
    SUB_STREAM_NON_POSTED,
    SUB_STREAM_POSTED,
)
from ..stats.draw import draw_u64, quantile
from ..tlp.size import (
    enables_bytes,
    ide_bytes,
    lower_address_bytes,
    padded_payload_bytes,
    request_header_bytes,
    wire_bytes,
)
from ..tlp.split import completion_bytes
from .drain import drain
from .layout import (
    ACK_COUNT,
    ARBITRATION,
    CREDIT_HEAD,
    CREDIT_TAIL,
    CREDIT_WAIT,
    DATA_UNITS,
    DLLPS,
    DRAIN_FREE,
    ENGINE,
    ENGINE_BUSY,
    ENGINE_FREE,
    ENGINE_LAST,
    ERROR_IN,
    ERRORS,
    FLIGHT,
    HEADERS,
    HOLD,
    HOST,
    IDE,
    LAST_DELIVER,
    LINK,
    LINK_BUSY,
    MARK,
    ORDERING,
    OWED_ENTRIES,
    OWED_HEAD,
    OWED_TAIL,
    PASSABLE,
    PAYLOAD,
    POSITION,
    PR_SENT,
    RECENCY,
    REPLAY,
    REPLAYED,
    RX,
    SERIALISATION,
    SKIP_COUNT,
    STALL_CREDITS,
    STALL_ENGINE,
    STALL_LINK,
    TLPS,
    TX,
    UP,
    UPDATE_COUNT,
    VISIBLE,
    WIRE,
)
from .params import (
    ACK_EVERY,
    CHECK,
    CONTEXTS,
    CPL_MAX,
    CREDIT_BYTES,
    CREDIT_PS,
    CREDITS,
    DATA_LINK,
    DEN,
    DEN_SHIFT,
    DRAIN_LINE,
    DRAIN_TLP,
    ERROR_EVERY,
    FLIT,
    HOLD_PS,
    INITIATION,
    KEY_ENTRIES,
    KEY_MISS,
    MAC,
    MPS,
    NAK_PS,
    NUM,
    PCRC,
    PERIOD,
    PIPE,
    PROP,
    RCB,
    RELAXED,
    REPLAY_UNITS,
    RMP_CHECK,
    SKID,
    SKIP_BYTES,
    SKIP_EVERY,
    SWITCH,
    UNIT_TLPS,
    UPDATE_EVERY,
    WIDTH,
    WIDTH_SHIFT,
    WRITE_LATENCY,
)
from .units import AS_COMPLETIONS, AS_REQUEST, AS_WRITE, most_tlps, next_sealed

# What an IDE Sync carries beside its header: it has no content, hence no PCRC.
SYNC_IDE: Final = IDE_PREFIX_BYTES + IDE_MAC_BYTES

_CREDIT_SHIFT: Final = 4


@kernel
def _switch_context(port, link, engine, context):
    """Return (bubble, load) in ps that a TLP's key context costs an engine.  Modified in place: port."""
    last = port[ENGINE_LAST + engine]
    if last == context:
        return 0, 0
    port[ENGINE_LAST + engine] = context
    top = RECENCY + CONTEXTS * engine
    rank = 0
    while port[top + rank] != context:
        rank += 1
    load = link[KEY_MISS] if rank >= link[KEY_ENTRIES] else 0
    while rank > 0:
        port[top + rank] = port[top + rank - 1]
        rank -= 1
    port[top] = context
    return link[SWITCH] if last >= 0 else 0, load


@inline_kernel
def _whole(ticks, den, shift):
    """Return whole ps, rounded down: by a shift where that is possible, for divisions are slow."""
    return ticks >> shift if shift >= 0 else ticks // den


@inline_kernel
def _flit_end(position, flit):
    """Return when the flit ends in which a byte does, ticks: flits follow each other from time 0 on."""
    return -(-position // flit) * flit


@inline_kernel
def _arrival(link, position):
    """Return when the receiver has a byte that ends at a position, and in flit mode its whole flit, ps."""
    flit = link[FLIT]
    if flit > 0:
        position = _flit_end(position, flit)
    return -_whole(-position, link[DEN], link[DEN_SHIFT]) + link[PROP]


@inline_kernel
def _occupied(link, content):
    """Return for how long a TLP of so many bytes, less its MAC, fills an engine's input, ps."""
    cycles = _whole(content + link[WIDTH] - 1, link[WIDTH], link[WIDTH_SHIFT])
    return max(link[INITIATION], cycles) * link[PERIOD]


@inline_kernel
def _run(
    position,
    free,
    fin,
    ready,
    tx_gap,
    tx_load,
    rx_gap,
    rx_load,
    occupy,
    ticks,
    count,
    pipe,
    mac,
    prop,
    den,
    shift,
):
    """Take sealed TLPs of one size through the sender's engine, the wire and the receiver's engine, in ticks.

    Per TLP: start = max(ready, free + gap) + load; free = start + occupy; the wire must not run dry between
    the first byte and the MAC, so position = max(position, start + pipe, free + pipe + mac - ticks) + ticks;
    the receiver's engine starts with the first byte at the earliest and ends with the last. Where the engine
    keeps up with the wire, the maxima of a run lie at its ends.

    Returns when each is done with the last TLP: wire, sender, receiver.
    """
    start = max(ready, free + tx_gap) + tx_load
    exposed = pipe + max(occupy + mac - ticks, 0)
    if occupy <= ticks:
        position = max(position, start + exposed)
        fin = max(position + ticks + prop, fin + rx_gap + occupy) + rx_load
        position += count * ticks
        if count > 1:
            fin = max(position + prop, fin + (count - 1) * occupy)
        return position, start + count * occupy, fin
    floor = _whole(ticks, den, shift) * den
    for _ in range(count):
        position = max(position, start + exposed) + ticks
        start += occupy
        arrive = -_whole(-position, den, shift) * den + prop
        fin = max(position + prop, max(fin + rx_gap, arrive - floor) + occupy) + rx_load
        rx_gap = 0
        rx_load = 0
    return position, start, fin


@kernel
def _run_sync(position, free, fin, ready, occupy, ticks, pipe, mac, prop, den, shift):
    """Take one IDE Sync through the same. Not inlined, for it is rare."""
    return _run(
        position, free, fin, ready, 0, 0, 0, 0, occupy, ticks, np.int64(1), pipe, mac, prop, den, shift
    )


@kernel
def _run_in_flits(
    position, free, fin, ready, tx_gap, tx_load, rx_gap, rx_load, occupy, ticks, pipe, mac, prop, num, flit
):
    """Take one sealed TLP through the same in flit mode, in ticks.

    The receiver's engine starts when the flit of the TLP's first byte is checked, and ends not before that
    of the last one is.
    """
    start = max(ready, free + tx_gap) + tx_load
    begin = max(position, start + pipe + max(occupy + mac - ticks, 0))
    position = begin + ticks
    taken = max(fin + rx_gap, _flit_end(begin + num, flit) + prop)
    fin = max(_flit_end(position, flit) + prop, taken + occupy) + rx_load
    return position, start + occupy, fin


@kernel
def _run_units(
    link,
    cut,
    drains,
    address,
    size,
    ready,
    position,
    free,
    fin,
    tx_gap,
    tx_load,
    rx_gap,
    rx_load,
    npr,
    cpl,
):
    """Take a burst through the same, TLP by TLP: where units of them share a MAC, and in flit mode.

    ready, position, free, fin, tx_gap, tx_load, rx_gap, rx_load : as in `_run`. drains : its TLPs go to the
    root port's drain. npr, cpl : the IDE ordering counters of posted TLPs.

    Returns
    -------
    position, free, fin, npr, cpl : when all is done, IDE Syncs included.
    sent : ticks, when the last byte of the last TLP has left.
    done : ticks, when the receiver's engine has what lets it release the last TLP.
    held : ps, for how long of that it waited for the MAC of its unit.
    behind : ps, when the burst can have been drained at the earliest, as no TLP of a unit is released before
        its MAC is checked; 0 if nothing shares one.
    wire, ide, occupied, syncs : bytes, bytes, ticks, TLPs beside those of the burst.
    """
    den = link[DEN]
    shift = link[DEN_SHIFT]
    num = link[NUM]
    data_link = link[DATA_LINK]
    pipe = link[PIPE] * den
    mac = link[MAC] * den
    prop = link[PROP] * den
    pcrc = link[PCRC] != 0
    skid = link[SKID] != 0
    flit = link[FLIT]
    most = most_tlps(link, cut, address, size)
    posted = cut == AS_WRITE
    wire_sum = np.int64(0)
    ide_sum = np.int64(0)
    occupied = np.int64(0)
    syncs = np.int64(0)
    behind = np.int64(0)
    # Of the open unit; and how long its TLPs keep the drain, ps.
    tlps = 0
    payload = 0
    work = 0
    sent = position
    own = fin
    done = fin
    sync = False
    while size > 0 or sync:
        if sync:
            # A message without data, the last of its unit: of the open one, or of one of its own.
            joins = tlps > 0
            ends = True
            ide = ide_bytes(True, pcrc and payload > 0)
            occupy = _occupied(link, HEADER_4DW_BYTES + ide - IDE_MAC_BYTES) * den
            wire = data_link + HEADER_4DW_BYTES + ide
        else:
            joins = True
            if posted:
                npr += 1
                cpl += 1
            due = npr >= IDE_SYNC_AT or cpl >= IDE_SYNC_AT
            step, header, padded, ends, ide, content = next_sealed(
                link, cut, address, size, most, tlps, payload, posted and due
            )
            occupy = _occupied(link, content) * den
            wire = data_link + header + padded + ide
            payload += padded
            if drains:
                work += link[DRAIN_TLP] + ((step + 63) >> 6) * link[DRAIN_LINE]
            address += step
            size -= step
        if flit > 0:
            position, free, fin = _run_in_flits(
                position,
                free,
                fin,
                ready,
                tx_gap,
                tx_load,
                rx_gap,
                rx_load,
                occupy,
                wire * num,
                pipe,
                mac if ends else 0,
                prop,
                num,
                flit,
            )
        else:
            position, free, fin = _run(
                position,
                free,
                fin,
                ready,
                tx_gap,
                tx_load,
                rx_gap,
                rx_load,
                occupy,
                wire * num,
                np.int64(1),
                pipe,
                mac if ends else 0,
                prop,
                den,
                shift,
            )
        tx_gap = tx_load = rx_gap = rx_load = 0
        wire_sum += wire
        ide_sum += ide
        occupied += occupy
        tlps += 1
        if not sync:
            sent = position
            own = fin
        if joins and (ends or skid):
            done = own if skid else fin
        if ends:
            if drains and joins:
                if tlps > 1 and not skid:
                    behind = max(behind, link[CHECK] - _whole(-fin, den, shift))
                if behind > 0:
                    behind += work
            tlps = 0
            payload = 0
            work = 0
        if sync:
            syncs += 1
            sync = False
        elif posted and due:
            npr = 0
            cpl = 0
            sync = True
    held = _whole(-own, den, shift) - _whole(-done, den, shift)
    return (
        position,
        free,
        fin,
        npr,
        cpl,
        sent,
        done,
        held,
        behind,
        wire_sum,
        ide_sum,
        occupied,
        syncs,
    )


@kernel
def _run_parts(
    link,
    cut,
    address,
    size,
    header,
    first,
    whole_ones,
    last,
    starts,
    ends,
    ready,
    position,
    free,
    fin,
    tx_gap,
    tx_load,
    rx_gap,
    rx_load,
    npr,
    cpl,
):
    """Take a burst of TLPs of several sizes, or with an IDE Sync in it, through the same; not in flit mode.

    first, last : payloads of the TLPs at its ends, bytes. whole_ones : how many are as long as can be;
    starts, ends : whether one is shorter at the begin, at the end. Others as in `_run`.

    Returns position, free, fin, npr and cpl behind it; the wire and the receiver's engine when they are done
    with its last TLP; bytes on the wire without Syncs, of Syncs; bytes of IDE; for how long TLPs fill an
    engine, ticks; the Syncs.
    """
    num = link[NUM]
    den = link[DEN]
    shift = link[DEN_SHIFT]
    data_link = link[DATA_LINK]
    pcrc = link[PCRC] != 0
    completions = cut == AS_COMPLETIONS
    posted = cut == AS_WRITE
    limit = link[CPL_MAX] if completions else link[MPS]
    pipe = link[PIPE] * den
    mac = link[MAC] * den
    prop_ticks = link[PROP] * den
    wire_sum = np.int64(0)
    syncs_wire = np.int64(0)
    ide_sum = np.int64(0)
    occupied = np.int64(0)
    syncs = 0
    sent = position
    done = fin
    for run in range(3):
        count_left = whole_ones if run == 1 else ends if run == 2 else starts
        if count_left == 0:
            continue
        at = address if run == 0 else address + size - last
        padded = limit if run == 1 else padded_payload_bytes(at, last if run == 2 else first)
        ide = ide_bytes(True, pcrc and padded > 0)
        wire = wire_bytes(header, padded, data_link, True, pcrc)
        occupy = _occupied(link, header + padded + ide - IDE_MAC_BYTES) * den
        wire_sum += wire * count_left
        ide_sum += ide * count_left
        occupied += occupy * count_left
        while count_left > 0:
            some = min(count_left, IDE_SYNC_AT - max(npr, cpl)) if posted else count_left
            count_left -= some
            position, free, fin = _run(
                position,
                free,
                fin,
                ready,
                tx_gap,
                tx_load,
                rx_gap,
                rx_load,
                occupy,
                wire * num,
                some,
                pipe,
                mac,
                prop_ticks,
                den,
                shift,
            )
            tx_gap = tx_load = rx_gap = rx_load = 0
            sent = position
            done = fin
            if posted:
                npr += some
                cpl += some
                if npr >= IDE_SYNC_AT or cpl >= IDE_SYNC_AT:
                    # An IDE Sync: a message without data, which nobody waits for.
                    npr = 0
                    cpl = 0
                    occupy_sync = _occupied(link, HEADER_4DW_BYTES + SYNC_IDE - IDE_MAC_BYTES) * den
                    wire_sync = wire_bytes(HEADER_4DW_BYTES, 0, data_link, True, False)
                    position, free, fin = _run_sync(
                        position,
                        free,
                        fin,
                        ready,
                        occupy_sync,
                        wire_sync * num,
                        pipe,
                        mac,
                        prop_ticks,
                        den,
                        shift,
                    )
                    occupied += occupy_sync
                    syncs_wire += wire_sync
                    ide_sum += SYNC_IDE
                    syncs += 1
    return position, free, fin, npr, cpl, sent, done, wire_sum, syncs_wire, ide_sum, occupied, syncs


@inline_kernel
def _unaligned_bytes(completion, address, size, flit):
    """Return the bytes of the OHC word that a write or a completion takes where it is not aligned to DW."""
    return lower_address_bytes(address, flit) if completion else enables_bytes(address, size, flit)


@inline_kernel
def _keep_going(port, link, owed, direction, ready):
    """Put what the link itself has to send ahead of a burst: the DLLPs due by then, and ordered sets.

    owed : int64[2, OWED_ENTRIES, 2] of the device. Modified in place: port. Returns the position in ticks.
    """
    position = port[POSITION + direction]
    den = link[DEN]
    head = port[OWED_HEAD + direction]
    tail = port[OWED_TAIL + direction]
    if head < tail:
        line = owed[direction]
        begin = max(position, ready * den)
        while head < tail and line[head & (OWED_ENTRIES - 1), 0] * den <= begin:
            position = max(position, line[head & (OWED_ENTRIES - 1), 0] * den)
            position += line[head & (OWED_ENTRIES - 1), 1] * link[NUM]
            begin = max(position, begin)
            head += 1
        port[OWED_HEAD + direction] = head
    every = link[SKIP_EVERY]
    if every > 0:
        since = port[SKIP_COUNT + direction]
        while since >= every:
            since -= every
            position += link[SKIP_BYTES] * link[NUM]
            port[DLLPS + direction] += link[SKIP_BYTES]
        port[SKIP_COUNT + direction] = since
    return position


@inline_kernel
def _owe(port, link, owed, direction, due, tlps, now):
    """Note what a direction has to send because TLPs came in by the other one: Acks and UpdateFCs.

    Those that are due by now go at once, as nothing can enter before them. Modified in place: port, owed.
    """
    dllps = 0
    every = link[ACK_EVERY]
    if every > 0:
        waiting = port[ACK_COUNT + direction] + tlps
        if waiting >= every:
            dllps = waiting // every
            waiting -= dllps * every
        port[ACK_COUNT + direction] = waiting
    every = link[UPDATE_EVERY]
    if every > 0:
        waiting = port[UPDATE_COUNT + direction] + tlps
        if waiting >= every:
            updates = waiting // every
            waiting -= updates * every
            dllps += updates
        port[UPDATE_COUNT + direction] = waiting
    if dllps == 0:
        return
    port[DLLPS + direction] += dllps * DLLP_BYTES
    line = owed[direction]
    head = port[OWED_HEAD + direction]
    tail = port[OWED_TAIL + direction]
    position = port[POSITION + direction]
    den = link[DEN]
    while head < tail and (line[head & (OWED_ENTRIES - 1), 0] <= now or tail - head == OWED_ENTRIES):
        position = max(position, line[head & (OWED_ENTRIES - 1), 0] * den)
        position += line[head & (OWED_ENTRIES - 1), 1] * link[NUM]
        head += 1
    port[POSITION + direction] = position
    port[OWED_HEAD + direction] = head
    line[tail & (OWED_ENTRIES - 1), 0] = due
    line[tail & (OWED_ENTRIES - 1), 1] = dllps * DLLP_BYTES
    port[OWED_TAIL + direction] = tail + 1


@inline_kernel
def _again(link, wire, position, back):
    """Return the bytes of a burst from the first one of a flit in error on, which go over the wire again.

    position : ticks, when the last of its bytes ends. back : bytes, how far before that one the error is.
    """
    before = _flit_end(position - back * link[NUM], link[FLIT]) - link[FLIT]
    return min(wire, -((before - position) // link[NUM]))


@kernel
def _meet_errors(port, link, direction, wire, position, rest, error_table, stream, seed):
    """Return for how long a burst that an error meets is kept from passing, ps.  Modified in place: port.

    position : ticks, its end. rest : bytes from there to the next error, 0 or less. Not inlined, for it is
    rare.
    """
    time = np.int64(0)
    flit = link[FLIT]
    while rest <= 0:
        number = port[ERRORS + direction]
        if number > 0 and flit > 0:
            # From the end of the flit in error until the Nak makes the sender begin with that flit again, at
            # the border of two: what was behind it is as far behind it as before.
            way = _flit_end((link[PROP] + link[NAK_PS]) * link[DEN], flit)
            time += _whole(way + flit, link[DEN], link[DEN_SHIFT])
            rest = -_again(link, wire, position, -rest)
            port[LINK_BUSY + direction] -= rest * link[NUM]
        elif number > 0:
            time += link[PROP] + link[NAK_PS] - _whole(-wire * link[NUM], link[DEN], link[DEN_SHIFT])
            port[LINK_BUSY + direction] += wire * link[NUM]
            rest -= wire
        port[ERRORS + direction] = number + 1
        rest += 1 + quantile(error_table, draw_u64(seed, stream + direction, number))
    port[ERROR_IN + direction] = rest
    return time


@inline_kernel
def _replay(port, link, direction, wire, position, error_table, stream, seed):
    """Return for how long errors of the wire keep a burst from passing, ps.  Modified in place: port.

    A burst that an error meets, in flit mode what of it is not before the flit in error, goes over the wire
    once more, after its way to the receiver and the Nak's way back; the same bytes, so no engine sees it
    again. position : ticks, when its last byte ends.
    """
    rest = port[ERROR_IN + direction] - wire
    if rest <= 0:
        return _meet_errors(port, link, direction, wire, position, rest, error_table, stream, seed)
    port[ERROR_IN + direction] = rest
    return np.int64(0)


@inline_kernel
def _acquire(port, returning, place, headers, units):
    """Take credits, and return when the last of them is there, ps.  Modified in place: port.

    returning : int64[K, 3], see `State.credit`.
    """
    mask = returning.shape[0] - 1
    has = port[HEADERS + place]
    has_units = port[DATA_UNITS + place]
    oldest = port[CREDIT_HEAD + place]
    gate = np.int64(0)
    while has < headers or has_units < units:
        back = returning[oldest & mask]
        gate = back[0]
        has += back[1]
        has_units += back[2]
        oldest += 1
    port[CREDIT_HEAD + place] = oldest
    port[HEADERS + place] = has - headers
    port[DATA_UNITS + place] = has_units - units
    return gate


@inline_kernel
def give_back(port, returning, place, time, units, headers):
    """Note when credits come back. Modified in place: port, returning."""
    newest = port[CREDIT_TAIL + place]
    port[CREDIT_TAIL + place] = newest + 1
    back = returning[newest & (returning.shape[0] - 1)]
    back[0] = time
    back[1] = headers
    back[2] = units


@kernel
def give_back_early(port, returning, place, time, units, headers):
    """Do the same for a write that may have passed others: its credits come back before theirs then."""
    mask = returning.shape[0] - 1
    at = port[CREDIT_TAIL + place]
    port[CREDIT_TAIL + place] = at + 1
    while at > port[CREDIT_HEAD + place] and returning[(at - 1) & mask, 0] > time:
        for column in range(3):
            returning[at & mask, column] = returning[(at - 1) & mask, column]
        at -= 1
    back = returning[at & mask]
    back[0] = time
    back[1] = headers
    back[2] = units


@inline_kernel
def idle(begin, position, replayed, ticks, den, shift):
    """Return for how long the wire waited for an engine while a burst passed, ps.

    begin, position : ticks, when its first byte could go and when its last one had gone. replayed : ps of
    that. ticks : its time on the wire.
    """
    span = _whole(position, den, shift) - _whole(begin, den, shift) - replayed
    return max(span - _whole(ticks, den, shift), 0)


@inline_kernel
def send(
    port,
    link,
    owed,
    credit,
    count,
    direction,
    context,
    address,
    size,
    cut,
    ready,
    translated,
    sealed,
    row,
    ends,
    passes,
    ledger,
    kept,
    error_table,
    error_stream,
    seed,
):
    """Pass one burst through a port: credits, sender's engine, wire, receiver's engine, root port's drain.

    All its TLPs are ready at once. Modified in place: port, a row of `State.device`; owed and credit, the
    device's; count, one of `State.count`; row and ledger, of the step or the tag, if kept. link is one of the
    link table; translated is when the root port knows the address of a write, ps; ends is whether nothing of
    the write comes after it, passes whether it may pass others; error_table is the inverse distribution of
    the bytes between two errors, drawn from error_stream + direction.

    Returns
    -------
    accepted : ps, when the next burst can enter without leaving a hole on the wire.
    delivered : ps, when the last TLP can be used at the other end (a write of the device: is visible).
    stalled : ps, for how long the wire could have taken the burst but for its credits.
    replayed : ps, for how long errors kept it from passing.
    idled : ps, for how long the wire waited for an engine from its first byte to its last.
    """
    num = link[NUM]
    den = link[DEN]
    shift = link[DEN_SHIFT]
    data_link = link[DATA_LINK]
    completions = cut == AS_COMPLETIONS
    header = HEADER_COMPLETION_BYTES if completions else request_header_bytes(address)
    wanted = size
    # What is not aligned to DW stands in the header, but for flit mode.
    flit = data_link == 0
    if cut == AS_REQUEST:
        header += enables_bytes(address, size, flit)
        flit = False
        size = 0
    limit = link[CPL_MAX] if completions else link[MPS]
    # A first TLP up to a boundary, whole ones, and the rest.
    first = (
        completion_bytes(address, size, limit, link[RCB])
        if completions
        else min(size, limit - (address & (limit - 1)))
    )
    rest = size - first
    whole_ones = (rest - 1) // limit if rest > limit else 0
    last = rest - whole_ones * limit
    parts = 1 + whole_ones + (rest > 0)
    tlps = parts
    first_padded = padded_payload_bytes(address, first)
    last_padded = padded_payload_bytes(address + size - last, last)
    prop = link[PROP]
    position = _keep_going(port, link, owed, direction, ready)
    ready_ticks = ready * den

    # Credits for all of them; requests took theirs before they came here.
    place = 2 * direction + (0 if cut == AS_WRITE else 1)
    limited = cut != AS_REQUEST and link[CREDITS + 2 * place] >= 0
    units = np.int64(0)
    stalled = 0
    enters = ready
    if limited:
        units = (
            ((first_padded + CREDIT_BYTES - 1) >> _CREDIT_SHIFT)
            + whole_ones * (limit >> _CREDIT_SHIFT)
            + ((last_padded + CREDIT_BYTES - 1) >> _CREDIT_SHIFT)
        )
        gate = _acquire(port, credit[place], place, parts, units)
        stalled = max(gate * den - max(position, ready_ticks), 0)
        enters = max(ready, gate)
        ready_ticks = enters * den
    buffered = np.int64(0)
    if link[REPLAY_UNITS] >= 0:
        # Every TLP of a burst with what it may carry at most.
        overhead = data_link + header + (IDE_PREFIX_BYTES + IDE_MAC_BYTES + IDE_PCRC_BYTES if sealed else 0)
        buffered = (
            first_padded + whole_ones * limit + last_padded + parts * overhead + CREDIT_BYTES - 1
        ) >> _CREDIT_SHIFT
        gate = _acquire(port, credit[REPLAY + direction], REPLAY + direction, 0, buffered)
        stalled = max(gate * den - max(position, ready_ticks), stalled)
        enters = max(enters, gate)
        ready_ticks = enters * den
    begin = max(position, ready_ticks)
    booked = kept and (ends or cut != AS_WRITE)

    sender = 2 * direction + TX
    receiver = 2 * direction + RX
    wire_sum = np.int64(0)
    syncs_wire = np.int64(0)
    ide_sum = np.int64(0)
    checked = np.int64(0)
    replayed = np.int64(0)
    deliver = port[LAST_DELIVER + direction]
    engine = np.int64(0)
    # For how long the last TLP waits for its unit, and when the burst can be drained for that.
    held = np.int64(0)
    behind = np.int64(0)
    waited = np.int64(0)
    idled = np.int64(0)
    if sealed:
        tx_gap, tx_load = _switch_context(port, link, sender, context)
        rx_gap, rx_load = _switch_context(port, link, receiver, context)
        # In ticks, like the wire: rounding up commutes with sums of whole ps and with maxima, so it can wait.
        pipe = link[PIPE] * den
        mac = link[MAC] * den
        prop_ticks = prop * den
        free = port[ENGINE_FREE + sender] * den
        fin = port[ENGINE_FREE + receiver] * den
        tx_gap *= den
        tx_load *= den
        rx_gap *= den
        rx_load *= den
        # The IDE ordering counters. Any other sub-stream's TLP tells how many posted ones came before it.
        posted = context == SUB_STREAM_POSTED
        npr = 0 if context == SUB_STREAM_NON_POSTED else port[PR_SENT + 2 * direction]
        cpl = 0 if context == SUB_STREAM_COMPLETION else port[PR_SENT + 2 * direction + 1]
        occupied = np.int64(0)
        sent = position
        done = fin
        if link[FLIT] > 0 or (parts > 1 and link[UNIT_TLPS + cut] > 1):
            (
                position,
                free,
                fin,
                npr,
                cpl,
                sent,
                done,
                held,
                behind,
                wire_sum,
                ide_sum,
                occupied,
                syncs,
            ) = _run_units(
                link,
                cut,
                direction == UP and cut == AS_WRITE,
                address,
                wanted,
                ready_ticks,
                position,
                free,
                fin,
                tx_gap,
                tx_load,
                rx_gap,
                rx_load,
                npr,
                cpl,
            )
            tlps += syncs
        else:
            # Most are one TLP or whole ones, and no Sync comes.
            short_first = np.int64(first < limit)
            short_last = np.int64(0 < last < limit)
            most = max(npr, cpl) + parts if posted else np.int64(0)
            if (parts > 1 and short_first + short_last > 0) or most >= IDE_SYNC_AT:
                (
                    position,
                    free,
                    fin,
                    npr,
                    cpl,
                    sent,
                    done,
                    wire_sum,
                    syncs_wire,
                    ide_sum,
                    occupied,
                    syncs,
                ) = _run_parts(
                    link,
                    cut,
                    address,
                    size,
                    header,
                    first,
                    parts - short_first - short_last,
                    last,
                    short_first,
                    short_last,
                    ready_ticks,
                    position,
                    free,
                    fin,
                    tx_gap,
                    tx_load,
                    rx_gap,
                    rx_load,
                    npr,
                    cpl,
                )
                tlps += syncs
            else:
                ide = ide_bytes(True, link[PCRC] != 0 and first_padded > 0)
                wire = wire_bytes(header, first_padded, data_link, True, link[PCRC] != 0)
                occupy = _occupied(link, header + first_padded + ide - IDE_MAC_BYTES) * den
                wire_sum = wire * parts
                ide_sum = ide * parts
                occupied = occupy * parts
                position, free, fin = _run(
                    position,
                    free,
                    fin,
                    ready_ticks,
                    tx_gap,
                    tx_load,
                    rx_gap,
                    rx_load,
                    occupy,
                    wire * num,
                    parts,
                    pipe,
                    mac,
                    prop_ticks,
                    den,
                    shift,
                )
                sent = position
                done = fin
                if posted:
                    npr += parts
                    cpl += parts
        wire_sum += syncs_wire
        if link[ERROR_EVERY] > 0:
            replayed = _replay(port, link, direction, wire_sum, position, error_table, error_stream, seed)
            position += replayed * den
            sent += replayed * den
            done += replayed * den
            fin += replayed * den
        port[PR_SENT + 2 * direction] = npr
        port[PR_SENT + 2 * direction + 1] = cpl
        port[ENGINE_FREE + sender] = _whole(free, den, shift)
        port[ENGINE_FREE + receiver] = -_whole(-fin, den, shift)
        occupied = _whole(occupied, den, shift)
        port[ENGINE_BUSY + sender] += occupied
        port[ENGINE_BUSY + receiver] += occupied
        checked = -_whole(-done, den, shift) + link[CHECK]
        deliver = max(checked, deliver)
        arrive = _arrival(link, sent)
        # In flit mode, for the end of the flit.
        waited = arrive - prop + _whole(-sent, den, shift)
        engine = min(deliver - arrive + link[PIPE], deliver - ready)
        idled = idle(begin, position, replayed, wire_sum * num, den, shift)
    else:
        heads = tlps * header
        if flit:
            heads += _unaligned_bytes(completions, address, first, True)
            if last > 0:
                heads += _unaligned_bytes(completions, address + size - last, last, True)
        wire_sum = tlps * data_link + heads + first_padded + whole_ones * limit + last_padded
        position = max(position, ready_ticks) + wire_sum * num
        if link[ERROR_EVERY] > 0:
            replayed = _replay(port, link, direction, wire_sum, position, error_table, error_stream, seed)
            position += replayed * den
        arrive = _arrival(link, position)
        checked = arrive
        deliver = max(arrive, deliver)
    # What enters this early keeps the wire busy, sealed or not, once the sender's engine is in use; rounding
    # down, so that no part of a ps is lost.
    ahead = link[PIPE] + link[MAC] if port[ENGINE_LAST + sender] >= 0 else 0
    accepted = max(ready, _whole(position, den, shift) - ahead)
    port[POSITION + direction] = position
    port[LINK_BUSY + direction] += wire_sum * num
    port[LAST_DELIVER + direction] = deliver
    port[SKIP_COUNT + direction] += wire_sum
    stalled = _whole(stalled, den, shift)
    starved = min(stalled, deliver - ready - engine)
    count[PAYLOAD] += size
    count[WIRE] += wire_sum
    count[TLPS] += tlps
    count[LINK] += data_link * tlps
    count[IDE] += ide_sum
    count[STALL_ENGINE] += engine
    count[STALL_CREDITS] += starved
    count[STALL_LINK] += deliver - ready - engine - starved
    _owe(port, link, owed, 1 - direction, arrive, tlps, ready)
    if booked:
        # From mark to mark, so that the sum is the whole; a Sync between them counts as serialisation.
        begin = _whole(begin, den, shift)
        serialised = _whole(wire_sum * num, den, shift)
        ledger[CREDIT_WAIT] += enters - ready
        ledger[ARBITRATION] += begin - enters
        span = arrive - prop - begin - replayed
        ledger[REPLAYED] += replayed
        serialised = min(serialised + waited, span) if sealed else span
        ledger[SERIALISATION] += serialised
        ledger[ENGINE] += span - serialised + checked - arrive
        ledger[FLIGHT] += prop
        if sealed:
            ledger[ENGINE] -= link[HOLD_PS] + held
            ledger[HOLD] += link[HOLD_PS] + held
        ledger[ORDERING] += deliver - checked
        ledger[MARK] = deliver
    freed = deliver
    if direction == UP and cut == AS_WRITE:
        each = link[DRAIN_TLP]
        lines = ((first + 63) >> 6) + whole_ones * ((limit + 63) >> 6) + ((last + 63) >> 6)
        final = each + (((last if last > 0 else first) + 63) >> 6) * link[DRAIN_LINE]
        # Its first TLP is there at `translated` at the earliest, its last one at `deliver`.
        work = parts * each + lines * link[DRAIN_LINE]
        behind = behind + replayed if behind > 0 else behind
        least = deliver + final
        latency = link[WRITE_LATENCY] + (link[RMP_CHECK] if sealed else 0)
        start = max(port[DRAIN_FREE], ready + prop)
        if port[PASSABLE] == 0 and translated <= start:
            known = max(start + work, least)
            freed = max(known, behind)
            port[DRAIN_FREE] = freed
            deliver = freed + latency
            if not passes:
                deliver = max(deliver, port[VISIBLE])
            port[VISIBLE] = max(port[VISIBLE], deliver)
            if booked:
                ledger[HOLD] += freed - known
                ledger[HOST] += known + latency - ledger[MARK]
                ledger[ORDERING] += deliver - freed - latency
                ledger[MARK] = deliver
        else:
            freed, deliver = drain(
                port,
                port,
                row,
                ledger,
                kept,
                kept or link[RELAXED] != 0,
                ends,
                ready,
                ready + prop,
                translated,
                work,
                least,
                behind,
                ready if passes else port[DRAIN_FREE],
                ready if passes else port[VISIBLE],
                latency,
            )
    if buffered > 0:
        give_back(port, credit[REPLAY + direction], REPLAY + direction, arrive + link[CREDIT_PS], buffered, 0)
    if limited and passes:
        give_back_early(port, credit[place], place, freed + link[CREDIT_PS], units, parts)
    elif limited:
        give_back(port, credit[place], place, freed + link[CREDIT_PS], units, parts)
    return accepted, deliver, stalled, replayed, idled
