"""The transmitter's plan: which units, which counters, which bytes go where.

Rule: what is planned and not sealed is lost, and never planned again.

`plan` walks the batch once and lays out every TLP in `work` as it will stand on the wire, still plain.
Whether a TLP is the last of its unit is known when it is laid out, from the next one of its sub-stream.
"""

from typing import Final

import numpy as np

from .. import spec
from .._jit import kernel
from .._jit.memory import copy
from ..tlp.header import header_bytes
from ..tlp.kinds import COMPLETION, CONFIG, FAMILY_MASK, TRAITS
from ..tlp.size import ide_bytes
from .framing import has_ohc_a1, ohc_c_at, put_trailer_flags
from .header_encryption import PCRC_HEADER_BYTES, hidden_bytes
from .layout import ASK_ALONE, MESSAGE_BYTES, UNIT_BYTES, SealCode
from .messages import put_message
from .prefix import PREFIX, prefix_word, put_word
from .tx_units import GATHERED, WIRE_BYTES, WIRE_TLPS, begin, close, join

_DW: Final = spec.DW_BYTES
_POSTED: Final = spec.SUB_STREAM_POSTED
_NON_POSTED: Final = spec.SUB_STREAM_NON_POSTED
_SYNC_AT: Final = spec.IDE_SYNC_AT
_SYNC: Final = spec.MESSAGE_IDE_SYNC
_PREFIX_BYTES: Final = spec.IDE_PREFIX_BYTES
_SYNC_KIND_LINK: Final = spec.MESSAGE_LOCAL
_SYNC_KIND: Final = spec.MESSAGE_BY_ID
# PCIe Base r6.x, section 2.2.1 (flit mode): OHC is the low five bits of byte 1.
_OHC_MASK: Final = 0x1F

_PLAIN: Final = int(SealCode.PLAIN)
_SEALED: Final = int(SealCode.SEALED)
_REFUSED_COUNTER: Final = int(SealCode.REFUSED_COUNTER)


@kernel
def plan(
    tlps,
    data,
    offsets,
    asks,
    following,
    settings,
    slots,
    tx,
    units,
    members,
    work,
    packets,
    pieces,
    status,
    wire_offsets,
    heartbeat,
    counts,
):
    """Lay out the wire image and plan every invocation.

    Parameters
    ----------
    tlps, data, offsets, asks, following : as in `classify`.
    settings, slots, tx : of the stream: SETTINGS[1], SLOT[6], TX[1]. Modified in place: slots, tx.
    units, members : UNIT[3] zeros, MEMBER[3 * MAX_MEMBERS]: scratch.
    work : u1[:], zeros not needed; the wire image from 0, gathered units from counts[GATHERED] on, behind
        eight bytes that are zeroed here. Modified in place.
    packets, pieces : PACKET[:], PIECE[:]. status : SEALED[n] of `classify`. Modified in place.
    wire_offsets : i8[:]. Modified in place. heartbeat : end with an IDE Sync.
    counts : i8[COUNTS]. Modified in place.
    """
    zeros = counts[GATHERED]
    for i in range(PCRC_HEADER_BYTES):
        work[zeros + i] = 0
    counts[GATHERED] = zeros + PCRC_HEADER_BYTES
    wire_offsets[0] = 0
    hard = settings[0]["hard_limit"]
    pcrc = settings[0]["pcrc"] != 0
    link = settings[0]["link"] != 0
    flit = settings[0]["flit"] != 0
    mode = int(settings[0]["phe"])
    for i in range(len(tlps)):
        code = int(status[i]["code"])
        start = offsets[i]
        size = offsets[i + 1] - start
        if code == _PLAIN:
            at = counts[WIRE_BYTES]
            copy(work, at, data, start, size)
            status[i]["wire_index"] = counts[WIRE_TLPS]
            _next_tlp(wire_offsets, counts, at + size)
            continue
        if code != _SEALED:
            continue
        sub = int(status[i]["sub_stream"])
        k = int(tx[0]["k"])
        overdue = sub == _POSTED and units[_POSTED]["tlps"] == 0 and _sync_is_due(tx)
        # Left over from a call in which no counter was to be had.
        if overdue and begin(slots, hard, k, _POSTED, units, counts):
            _sync(settings, slots, tx, units, members, work, packets, pieces, wire_offsets, counts, zeros)
        if units[sub]["tlps"] == 0 and not begin(slots, hard, k, sub, units, counts):
            status[i]["code"] = _REFUSED_COUNTER
            continue

        # Counters of posted TLPs that others carry.
        carried = 0
        sync_follows = False
        if sub == _POSTED:
            tx[0]["npr"] = int(tx[0]["npr"]) + 1
            tx[0]["cpl"] = int(tx[0]["cpl"]) + 1
            sync_follows = _sync_is_due(tx)
        elif sub == _NON_POSTED:
            carried = int(tx[0]["npr"])
            tx[0]["npr"] = 0
        else:
            carried = int(tx[0]["cpl"])
            tx[0]["cpl"] = 0

        # Bytes of this TLP, with a gap for the IDE word: behind local prefixes, or among the OHC words.
        kind = int(tlps[i]["kind"])
        data_bytes = np.int64(tlps[i]["data_bytes"])
        at = counts[WIRE_BYTES]
        if flit:
            before = int(header_bytes(kind)) + ohc_c_at(int(data[start + 1]) & _OHC_MASK)
            header = at
        else:
            before = _DW * int(tlps[i]["local_prefixes"])
            header = at + _PREFIX_BYTES + before + _DW * int(tlps[i]["end_prefixes"])
        copy(work, at, data, start, before)
        copy(work, at + before + _PREFIX_BYTES, data, start + before, size - before)
        end = at + _PREFIX_BYTES + size
        ohc_a1 = flit and has_ohc_a1(work, header, kind)

        # Does the unit end here?
        tlps_of_unit = int(settings[0]["unit_tlps"]) >> 8 * sub & 0xFF
        payload = units[sub]["payload_bytes"] + data_bytes
        closes = units[sub]["tlps"] + 1 >= tlps_of_unit or payload > UNIT_BYTES
        closes = closes or int(asks[i]) & ASK_ALONE != 0
        if not closes and not sync_follows:
            after = following[i]
            closes = after < 0 or int(asks[after]) & ASK_ALONE != 0
            closes = closes or payload + np.int64(tlps[after]["data_bytes"]) > UNIT_BYTES

        text_bytes = data_bytes + hidden_bytes(work, header, kind, mode, flit, ohc_a1)
        p = 1 if closes and pcrc and units[sub]["text_bytes"] + text_bytes > 0 else 0
        m = 1 if closes else 0
        _put_ide(work, settings, at + before, header, kind, carried, sub, p, m, k, int(status[i]["t"]))
        status[i]["wire_index"] = counts[WIRE_TLPS]
        status[i]["unit"] = units[sub]["number"]
        status[i]["counter"] = units[sub]["counter"]
        status[i]["k"] = k
        status[i]["m"] = m
        status[i]["p"] = p
        status[i]["pr_sent"] = carried
        clear = at if link or flit else at + before
        shown = end - data_bytes - header
        join(units, members, sub, clear, header, shown, data_bytes, text_bytes, kind, ohc_a1)
        if closes:
            close(settings, sub, units, members, work, packets, pieces, counts, zeros, p)
        _next_tlp(wire_offsets, counts, at + size + ide_bytes(closes, p != 0))
        if sync_follows and (units[_POSTED]["tlps"] > 0 or begin(slots, hard, k, _POSTED, units, counts)):
            _sync(settings, slots, tx, units, members, work, packets, pieces, wire_offsets, counts, zeros)
    # No unit is open here.
    if heartbeat and begin(slots, hard, int(tx[0]["k"]), _POSTED, units, counts):
        _sync(settings, slots, tx, units, members, work, packets, pieces, wire_offsets, counts, zeros)


@kernel
def _next_tlp(wire_offsets, counts, end):
    """Count a TLP that ends at `end`."""
    counts[WIRE_BYTES] = end
    counts[WIRE_TLPS] += 1
    wire_offsets[counts[WIRE_TLPS]] = end


@kernel
def _put_ide(work, settings, at, header, kind, pr_sent, sub, p, m, k, t):
    """Write the IDE prefix, or in flit mode OHC-C and what DW 0 says of it.  Modified in place: work."""
    stream_id = int(settings[0]["stream_id"])
    if settings[0]["flit"] == 0:
        put_word(work, at, prefix_word(PREFIX, pr_sent, stream_id, sub, p, m, k, t))
        return
    # The place of P is that of RSV, "requester segment valid"; M has none.
    family = int(TRAITS[kind]) & FAMILY_MASK
    valid = 0 if family in (COMPLETION, CONFIG) else 1
    segment = int(settings[0]["segment"]) * valid << 24
    put_word(work, at, prefix_word(segment, pr_sent, stream_id, sub, valid, 0, k, t))
    put_trailer_flags(work, header, m, p)


@kernel
def _sync_is_due(tx):
    """Return whether a counter of posted TLPs has reached the value that demands an IDE Sync."""
    return int(tx[0]["npr"]) >= _SYNC_AT or int(tx[0]["cpl"]) >= _SYNC_AT


@kernel
def _sync(settings, slots, tx, units, members, work, packets, pieces, wire_offsets, counts, zeros):
    """Send an IDE Sync as the last TLP of the open posted unit."""
    # Both count the Sync itself before it carries them.
    npr = int(tx[0]["npr"]) + 1
    cpl = int(tx[0]["cpl"]) + 1
    tx[0]["npr"] = 0
    tx[0]["cpl"] = 0
    at = counts[WIRE_BYTES]
    flit = settings[0]["flit"] != 0
    header = at if flit else at + _PREFIX_BYTES
    word = at + MESSAGE_BYTES if flit else at
    put_message(work, header, settings, _SYNC, npr, cpl)
    p = 1 if settings[0]["pcrc"] != 0 and units[_POSTED]["text_bytes"] > 0 else 0
    k = int(units[_POSTED]["k"])
    kind = _SYNC_KIND_LINK if settings[0]["link"] != 0 else _SYNC_KIND
    _put_ide(work, settings, word, header, kind, 0, _POSTED, p, 1, k, 0)
    shown = at + _PREFIX_BYTES + MESSAGE_BYTES - header
    join(units, members, _POSTED, at, header, shown, 0, 0, kind, False)
    close(settings, _POSTED, units, members, work, packets, pieces, counts, zeros, p)
    _next_tlp(wire_offsets, counts, at + MESSAGE_BYTES + ide_bytes(True, p != 0))
