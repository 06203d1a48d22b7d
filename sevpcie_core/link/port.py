"""One burst of TLPs through a port: the sender's cipher engine, the wire, the receiver's.

Rule: a first-in first-out recurrence per TLP, in exact ticks on the wire and whole ps elsewhere; a receiver
stores a TLP until its last byte in both arms. docs/model.md derives every line.
"""

from typing import Final

from .._jit import inline_kernel, kernel
from ..spec import (
    HEADER_4DW_BYTES,
    HEADER_COMPLETION_BYTES,
    IDE_MAC_BYTES,
    IDE_PREFIX_BYTES,
    IDE_SYNC_AT,
    SUB_STREAM_COMPLETION,
    SUB_STREAM_NON_POSTED,
    SUB_STREAM_POSTED,
)
from ..tlp.size import (
    enables_bytes,
    ide_bytes,
    lower_address_bytes,
    padded_payload_bytes,
    request_header_bytes,
    wire_bytes,
)
from ..tlp.split import completion_bytes
from .layout import (
    ENGINE_BUSY,
    ENGINE_FREE,
    ENGINE_LAST,
    IDE,
    LAST_DELIVER,
    LINK,
    LINK_BUSY,
    PAYLOAD,
    POSITION,
    PR_SENT,
    RECENCY,
    RX,
    STALL_ENGINE,
    STALL_LINK,
    TLPS,
    TX,
    WIRE,
)
from .params import (
    CHECK,
    CONTEXTS,
    CPL_MAX,
    DATA_LINK,
    DEN,
    DEN_SHIFT,
    INITIATION,
    KEY_ENTRIES,
    KEY_MISS,
    MAC,
    MPS,
    NUM,
    PCRC,
    PERIOD,
    PIPE,
    PROP,
    RCB,
    SWITCH,
    WIDTH,
)

# What an IDE Sync carries beside its header: it has no content, hence no PCRC.
SYNC_IDE: Final = IDE_PREFIX_BYTES + IDE_MAC_BYTES

# How a transfer is cut into TLPs.
AS_WRITE: Final = 0
AS_REQUEST: Final = 1
AS_COMPLETIONS: Final = 2


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
def _occupied(link, content):
    """Return for how long a TLP of so many bytes, less its MAC, fills an engine's input, ps."""
    return max(link[INITIATION], (content + link[WIDTH] - 1) // link[WIDTH]) * link[PERIOD]


@inline_kernel
def _cross(
    position, free, fin, ready, tx_gap, tx_load, rx_gap, rx_load, occupy, ticks, pipe, mac, prop, den, shift
):
    """Take a sealed TLP through the sender's engine, the wire and the receiver's engine, in ticks.

    Returns when each is done with it: wire, sender, receiver.
    """
    start = max(ready, free + tx_gap) + tx_load
    free = start + occupy
    # The wire must not run dry between the first byte and the MAC of a TLP.
    position = max(position, max(start + pipe, free + pipe + mac - ticks)) + ticks
    # The receiver's engine starts with the first byte at the earliest, and ends with the last.
    begin = fin + rx_gap
    if occupy > ticks:
        arrive = -_whole(-position, den, shift) * den + prop
        begin = max(begin, arrive - _whole(ticks, den, shift) * den)
    fin = max(position + prop, begin + occupy) + rx_load
    return position, free, fin


@inline_kernel
def _unaligned_bytes(completion, address, size, flit):
    """Return the bytes of the OHC word that a write or a completion takes where it is not aligned to DW."""
    return lower_address_bytes(address, flit) if completion else enables_bytes(address, size, flit)


@inline_kernel
def send(port, link, count, direction, context, address, size, cut, ready, sealed):
    """Pass one burst through a port: sender's engine, wire, receiver's engine.

    All its TLPs are ready at once. Modified in place: port, a row of `State.device`, and count, one of
    `State.count`; link is one of the link table.

    Returns
    -------
    accepted : ps, when the next burst can enter without leaving a hole on the wire.
    delivered : ps, when the last TLP can be used at the other end.
    """
    num = link[NUM]
    den = link[DEN]
    shift = link[DEN_SHIFT]
    data_link = link[DATA_LINK]
    completions = cut == AS_COMPLETIONS
    header = HEADER_COMPLETION_BYTES if completions else request_header_bytes(address)
    # What is not aligned to DW stands in the header, but for flit mode.
    flit = data_link == 0
    if cut == AS_REQUEST:
        header += enables_bytes(address, size, flit)
        flit = False
        size = 0
    limit = link[CPL_MAX] if completions else link[MPS]
    rcb = link[RCB]
    position = port[POSITION + direction]
    deliver = port[LAST_DELIVER + direction]
    arrive = 0
    at = address
    rest = size
    tlps = 0
    wire_sum = 0
    ide_sum = 0
    if sealed:
        sender = 2 * direction + TX
        receiver = 2 * direction + RX
        tx_gap, tx_load = _switch_context(port, link, sender, context)
        rx_gap, rx_load = _switch_context(port, link, receiver, context)
        # In ticks, like the wire: rounding up commutes with sums of whole ps and with maxima, so it can wait.
        ready_ticks = ready * den
        pipe = link[PIPE] * den
        mac = link[MAC] * den
        prop = link[PROP] * den
        free = port[ENGINE_FREE + sender] * den
        fin = port[ENGINE_FREE + receiver] * den
        tx_gap *= den
        tx_load *= den
        rx_gap *= den
        rx_load *= den
        last_padded = -1
        sent = position
        done = fin
        # The IDE ordering counters. Any other sub-stream's TLP tells how many posted ones came before it.
        posted = context == SUB_STREAM_POSTED
        npr = 0 if context == SUB_STREAM_NON_POSTED else port[PR_SENT + 2 * direction]
        cpl = 0 if context == SUB_STREAM_COMPLETION else port[PR_SENT + 2 * direction + 1]
        head = header
        wire = 0
        ticks = 0
        occupy = 0
        occupied = 0
        ide = 0
        while True:
            part = (
                completion_bytes(at, rest, limit, rcb)
                if completions
                else min(rest, limit - (at & (limit - 1)))
            )
            padded = padded_payload_bytes(at, part)
            if flit:
                head = header + _unaligned_bytes(completions, at, part, True)
            if padded != last_padded or flit:
                last_padded = padded
                ide = ide_bytes(True, link[PCRC] != 0 and padded > 0)
                wire = wire_bytes(head, padded, data_link, True, link[PCRC] != 0)
                occupy = _occupied(link, head + padded + ide - IDE_MAC_BYTES) * den
                ticks = wire * num
            position, free, fin = _cross(
                position,
                free,
                fin,
                ready_ticks,
                tx_gap,
                tx_load,
                rx_gap,
                rx_load,
                occupy,
                ticks,
                pipe,
                mac,
                prop,
                den,
                shift,
            )
            tx_gap = tx_load = rx_gap = rx_load = 0
            occupied += occupy
            wire_sum += wire
            ide_sum += ide
            tlps += 1
            at += part
            rest -= part
            sent = position
            done = fin
            if posted:
                npr += 1
                cpl += 1
                if npr >= IDE_SYNC_AT or cpl >= IDE_SYNC_AT:
                    # An IDE Sync: a message without data, which nobody waits for.
                    npr = 0
                    cpl = 0
                    occupy_sync = _occupied(link, HEADER_4DW_BYTES + SYNC_IDE - IDE_MAC_BYTES) * den
                    wire = wire_bytes(HEADER_4DW_BYTES, 0, data_link, True, False)
                    position, free, fin = _cross(
                        position,
                        free,
                        fin,
                        ready_ticks,
                        0,
                        0,
                        0,
                        0,
                        occupy_sync,
                        wire * num,
                        pipe,
                        mac,
                        prop,
                        den,
                        shift,
                    )
                    occupied += occupy_sync
                    wire_sum += wire
                    ide_sum += SYNC_IDE
                    tlps += 1
                    # What was kept for the next TLP of the same size is gone.
                    last_padded = -1
            if rest <= 0:
                break
        port[PR_SENT + 2 * direction] = npr
        port[PR_SENT + 2 * direction + 1] = cpl
        whole = _whole(sent, den, shift)
        arrive = whole + (whole * den < sent) + link[PROP]
        deliver = max(-_whole(-done, den, shift) + link[CHECK], deliver)
        whole = _whole(position, den, shift)
        fin = -_whole(-fin, den, shift)
        port[ENGINE_FREE + sender] = _whole(free, den, shift)
        port[ENGINE_FREE + receiver] = fin
        occupied = _whole(occupied, den, shift)
        port[ENGINE_BUSY + sender] += occupied
        port[ENGINE_BUSY + receiver] += occupied
        engine = min(deliver - arrive + link[PIPE], deliver - ready)
    else:
        # The same recurrence without engines: the TLPs follow each other on the wire.
        while True:
            part = (
                completion_bytes(at, rest, limit, rcb)
                if completions
                else min(rest, limit - (at & (limit - 1)))
            )
            head = header + _unaligned_bytes(completions, at, part, flit)
            wire_sum += wire_bytes(head, padded_payload_bytes(at, part), data_link, False, False)
            tlps += 1
            at += part
            rest -= part
            if rest <= 0:
                break
        position = max(position, ready * den) + wire_sum * num
        whole = _whole(position, den, shift)
        arrive = whole + (whole * den < position) + link[PROP]
        deliver = max(arrive, deliver)
        engine = 0
    # What enters this early keeps the wire busy, sealed or not, once the sender's engine is in use; rounding
    # down, so that no part of a ps is lost.
    ahead = link[PIPE] + link[MAC] if port[ENGINE_LAST + 2 * direction + TX] >= 0 else 0
    accepted = max(ready, whole - ahead)
    port[POSITION + direction] = position
    port[LINK_BUSY + direction] += wire_sum * num
    port[LAST_DELIVER + direction] = deliver
    count[PAYLOAD] += size
    count[WIRE] += wire_sum
    count[TLPS] += tlps
    count[LINK] += data_link * tlps
    count[IDE] += ide_sum
    count[STALL_ENGINE] += engine
    count[STALL_LINK] += deliver - ready - engine
    return accepted, deliver
