"""The receiver's plan: every rule but the MAC, in wire order, as if all MACs will hold.

Rule: the first broken rule ends the stream. Nothing is released here. A sub-stream's counter and key set move
when a unit closes, ordering counters when a TLP arrives; a stream whose MAC then fails forgets all of it.

The TLPs that an earlier call left in open units come first again; they have passed the rules of their
arrival. A unit of one TLP with a clear header is opened where it lies; any other is gathered behind the TLPs
when it closes.
"""

from typing import Final

import numpy as np

from .. import spec
from .._jit import kernel
from .._jit.memory import copy
from .framing import find
from .header_encryption import hidden_bytes, hide
from .layout import MAX_MEMBERS, OpenCode, Slot
from .prefix import flag_of, stream_id_of, sub_stream_of_word
from .rules import IS_FAIL, check, judge_plain, key_reason, read
from .states import Reason

_POSTED: Final = spec.SUB_STREAM_POSTED
_SUBS: Final = spec.IDE_SUB_STREAMS
_PCRC_BYTES: Final = spec.IDE_PCRC_BYTES
_K: Final = spec.IDE_K
_T: Final = spec.IDE_T
_ONE: Final = np.uint64(1)

_STARTED: Final = int(Slot.STARTED)
_RETIRED: Final = int(Slot.RETIRED)

_PLAIN: Final = int(OpenCode.PLAIN)
_HELD: Final = int(OpenCode.HELD)
_FAILED: Final = int(OpenCode.FAIL)
_MISROUTED: Final = int(OpenCode.MISROUTED)
_REJECTED: Final = int(OpenCode.REJECTED)
_DROPPED: Final = int(OpenCode.DROPPED)

_NONE: Final = int(Reason.NONE)
_R_STREAM_ID: Final = int(Reason.STREAM_ID)
_R_PREFIX: Final = int(Reason.PREFIX)
_R_FAIL_RECEIVED: Final = int(Reason.FAIL_RECEIVED)

# What is known of a PCRC before its unit is open: checks[u]["pcrc"].
NO_PCRC: Final = 0
HAS_PCRC: Final = 1
LACKS_PCRC: Final = 2

# What must be looked at once a unit is open: one row per packet.
CHECK: Final = np.dtype([("first", "<i8"), ("last", "<i8"), ("pcrc", "u1")])

# Entry of `order` that stands for all TLPs that an earlier call left waiting.
WAITING: Final = -1

# Rows of `counts`.
UNITS: Final = 0
ORDER: Final = 1
DEFERRED: Final = 2
GATHERED: Final = 3
STOP: Final = 4  # row of the TLP that ended the stream, or -1
STOP_REASON: Final = 5
HAS_WAITING: Final = 6  # 1: an earlier call left open TLPs that wait for a posted unit
FIRST_MISROUTED: Final = 7  # rows, or -1
FIRST_PCRC: Final = 8
RELEASED: Final = 9  # TLPs
LEFT_WAITING: Final = 10
COUNTS: Final = 11


@kernel
def plan(
    work,
    offsets,
    held,
    settings,
    enabled,
    secure,
    slots,
    rx,
    units,
    members,
    rows,
    packets,
    checks,
    order,
    order_at,
    deferred,
    counts,
    tlp,
    tlp_bytes,
):
    """Check every TLP, plan the opening of every unit that is complete, and the order of release.

    Parameters
    ----------
    work : u1[:], TLPs, then room for gathered units from counts[GATHERED] on. Modified in place: that room.
    offsets : i8[n + 1]. TLP i is work[offsets[i] : offsets[i + 1]]; the first `held` are from earlier calls.
    settings : SETTINGS[1]. enabled, secure : not DISABLED; SECURE.
    slots, rx : SLOT[6], RX[1]. Modified in place.
    units, members : UNIT[3], MEMBER[3 * MAX_MEMBERS]. Modified in place: units that stay open.
    rows : ROW[n]. packets : PACKET[:]. checks : CHECK[:], a row per packet. Modified in place.
    order : i8[:], rows of TLPs in order of release; order_at : i8[:], the row at which each is released.
    deferred : i8[:], rows that still wait for a posted unit at the end. counts : i8[COUNTS]. Modified in
        place.
    tlp, tlp_bytes : TLP[1] and the same memory as u1[:], scratch. Modified in place.
    """
    counts[STOP] = -1
    flit = settings[0]["flit"] != 0
    for sub in range(_SUBS):
        _empty(units, sub)
    for i in range(len(rows)):
        start, end = offsets[i], offsets[i + 1]
        rows[i]["start"] = start
        rows[i]["end"] = end
        rows[i]["ide"] = -1
        rows[i]["hidden"] = -1
        rows[i]["unit"] = -1
        rows[i]["next"] = -1
        ide, first, header, size, kind, placed = find(work, start, end, flit)
        if ide < 0:
            ends = offsets[i : i + 2]
            code = judge_plain(work, ends, header, kind, settings, enabled, rx, tlp, tlp_bytes)
            rows[i]["code"] = code
            if rows[i]["code"] == _PLAIN:
                _release(order, order_at, counts, i, i)
            elif rows[i]["code"] == _FAILED and secure:
                secure = False
                counts[STOP] = i
                counts[STOP_REASON] = _R_FAIL_RECEIVED
            continue
        rows[i]["ide"] = ide
        rows[i]["sub_stream"] = sub_stream_of_word(work, ide)
        rows[i]["k"] = flag_of(work, ide, _K)
        rows[i]["t"] = flag_of(work, ide, _T)
        if stream_id_of(work, ide) != settings[0]["stream_id"]:
            rows[i]["code"] = _MISROUTED
            rows[i]["reason"] = _R_STREAM_ID
            continue
        # Whether or not it is taken: from here on plain TLPs of this sub-stream can only be somebody's who
        # has no key.
        if rows[i]["sub_stream"] < _SUBS:
            rx[0]["seen"] = int(rx[0]["seen"]) | 1 << int(rows[i]["sub_stream"])
        if not secure:
            rows[i]["code"] = _DROPPED
            continue
        reason = _R_PREFIX
        if placed:
            reason = read(work, i, first, header, size, kind, settings, rows)
        if reason == _NONE and i >= held:
            reason = check(work, i, settings, slots, rx, units, rows)
        if reason == _NONE:
            reason = _arrive(
                work,
                i,
                settings,
                slots,
                units,
                members,
                rows,
                packets,
                checks,
                order,
                order_at,
                deferred,
                counts,
            )
        if reason != _NONE:
            rows[i]["code"] = _REJECTED if reason != _R_FAIL_RECEIVED else _HELD
            rows[i]["reason"] = reason if reason != _R_FAIL_RECEIVED else _NONE
            secure = False
            counts[STOP] = i
            counts[STOP_REASON] = reason


@kernel
def _empty(units, sub):
    """Have no unit open."""
    units[sub]["tlps"] = 0
    units[sub]["payload_bytes"] = 0
    units[sub]["text_bytes"] = 0


@kernel
def _arrive(
    work,
    i,
    settings,
    slots,
    units,
    members,
    rows,
    packets,
    checks,
    order,
    order_at,
    deferred,
    counts,
):
    """Add a TLP to its unit, and close the unit if it is the last one. Return a reason like `_check`."""
    sub = int(rows[i]["sub_stream"])
    kind = int(rows[i]["kind"])
    header = rows[i]["header"]
    data_bytes = rows[i]["data_bytes"]
    tlps = int(units[sub]["tlps"])
    if tlps == 0:
        units[sub]["k"] = rows[i]["k"]
    else:
        before = members[sub * MAX_MEMBERS + tlps - 1]["row"]
        rows[before]["next"] = i
    flit = settings[0]["flit"] != 0
    hidden = hidden_bytes(work, header, kind, int(settings[0]["phe"]), flit, rows[i]["ohc_a1"] != 0)
    # Bound: an eighth or ninth TLP with M = 0 was refused by `_check`, so tlps < MAX_MEMBERS.
    member = sub * MAX_MEMBERS + tlps
    members[member]["row"] = i
    members[member]["clear"] = rows[i]["clear"]
    members[member]["header"] = header
    members[member]["header_bytes"] = rows[i]["header_bytes"]
    members[member]["data"] = rows[i]["data"]
    members[member]["data_bytes"] = data_bytes
    members[member]["kind"] = kind
    members[member]["ohc_a1"] = rows[i]["ohc_a1"]
    units[sub]["tlps"] = tlps + 1
    units[sub]["payload_bytes"] += data_bytes
    units[sub]["text_bytes"] += data_bytes + hidden
    rows[i]["code"] = _HELD
    if rows[i]["m"] == 0:
        return _NONE

    # Keys may have been taken away since the unit began.
    reason = key_reason(settings, slots, int(units[sub]["k"]), sub)
    if reason != _NONE:
        return reason
    p = int(rows[i]["p"])
    fails = _close(work, sub, p, settings, slots, units, members, rows, packets, checks, counts)
    # Nothing passes a posted TLP: what closes while a posted unit is open waits for it.
    if sub != _POSTED and units[_POSTED]["tlps"] > 0:
        for member in range(sub * MAX_MEMBERS, sub * MAX_MEMBERS + tlps + 1):
            deferred[counts[DEFERRED]] = members[member]["row"]
            counts[DEFERRED] += 1
    else:
        for member in range(sub * MAX_MEMBERS, sub * MAX_MEMBERS + tlps + 1):
            _release(order, order_at, counts, members[member]["row"], i)
    if sub == _POSTED:
        if counts[HAS_WAITING] != 0:
            counts[HAS_WAITING] = 0
            _release(order, order_at, counts, WAITING, i)
        for j in range(counts[DEFERRED]):
            _release(order, order_at, counts, deferred[j], i)
        counts[DEFERRED] = 0
    return _R_FAIL_RECEIVED if fails else _NONE


@kernel
def _release(order, order_at, counts, row, at):
    """Put a TLP into the order of release."""
    order[counts[ORDER]] = row
    order_at[counts[ORDER]] = at
    counts[ORDER] += 1


@kernel
def _close(work, sub, p, settings, slots, units, members, rows, packets, checks, counts):
    """Plan the invocation of a complete unit; return whether an IDE Fail is in it."""
    first = sub * MAX_MEMBERS
    last = first + int(units[sub]["tlps"]) - 1
    text_bytes = int(units[sub]["text_bytes"])
    k = int(units[sub]["k"])
    _empty(units, sub)
    row = k * _SUBS + sub
    counter = slots[row]["counter"]
    # Bound: counter <= hard limit <= 2**64 - 2.
    slots[row]["counter"] = counter + _ONE
    other = (1 - k) * _SUBS + sub
    if slots[other]["state"] == _STARTED and slots[other]["generation"] < slots[row]["generation"]:
        slots[other]["state"] = _RETIRED

    unit = counts[UNITS]
    counts[UNITS] += 1
    checks[unit]["first"] = members[first]["row"]
    checks[unit]["last"] = members[last]["row"]
    checks[unit]["pcrc"] = NO_PCRC
    if p != 0:
        checks[unit]["pcrc"] = HAS_PCRC
    elif settings[0]["pcrc"] != 0 and text_bytes > 0:
        checks[unit]["pcrc"] = LACKS_PCRC
    tail = members[last]["data"] + int(members[last]["data_bytes"])
    packets[unit]["counter"] = counter
    packets[unit]["fixed"] = sub << 28 if settings[0]["substream_iv"] != 0 else 0
    packets[unit]["key"] = row
    packets[unit]["text_bytes"] = text_bytes + p * _PCRC_BYTES
    packets[unit]["tag"] = tail + p * _PCRC_BYTES
    fails = False
    for member in range(first, last + 1):
        i = members[member]["row"]
        rows[i]["unit"] = unit
        rows[i]["counter"] = counter
        fails = fails or rows[i]["special"] == IS_FAIL
    if first == last and text_bytes == int(members[last]["data_bytes"]):
        data = members[last]["data"]
        packets[unit]["aad"] = members[last]["clear"]
        packets[unit]["aad_bytes"] = data - members[last]["clear"]
        packets[unit]["text"] = data
        packets[unit]["out"] = data
        return fails

    aad = counts[GATHERED]
    text = aad
    for member in range(first, last + 1):
        text += members[member]["data"] - members[member]["clear"]
    packets[unit]["aad"] = aad
    packets[unit]["text"] = text
    packets[unit]["out"] = text
    mode = int(settings[0]["phe"])
    flit = settings[0]["flit"] != 0
    a, t = aad, text
    for member in range(first, last + 1):
        i = members[member]["row"]
        header = members[member]["header"]
        data_bytes = int(members[member]["data_bytes"])
        prefixes = header - members[member]["clear"]
        copy(work, a, work, members[member]["clear"], prefixes)
        a += prefixes
        shown, hidden = hide(
            work,
            header,
            int(members[member]["header_bytes"]),
            int(members[member]["kind"]),
            mode,
            flit,
            members[member]["ohc_a1"] != 0,
            work,
            a,
            work,
            t,
        )
        a += shown
        copy(work, t + hidden, work, members[member]["data"], data_bytes)
        if hidden > 0:
            rows[i]["hidden"] = t
        rows[i]["data"] = t + hidden
        t += hidden + data_bytes
    packets[unit]["aad_bytes"] = a - aad
    copy(work, t, work, tail, p * _PCRC_BYTES)
    counts[GATHERED] = t + p * _PCRC_BYTES
    return fails
