"""The rules of a receiver that need no key: what a TLP must be before its MAC is looked at.

Rule: a kernel returns the Reason of the first rule that is broken, in the order of docs/stream.md, or 0.
Bytes may be hostile; `framing` has bounded what is read here.
"""

from typing import Final

import numpy as np

from .. import spec
from .._jit import kernel
from ..tlp.codec import NO_LIMIT, parse_all
from ..tlp.rules import Rule
from .eligible import may_ride, sub_stream_of
from .framing import has_digest, has_ohc_a1, payload_size, traffic_class, trailer_bytes, trailer_flags
from .header_encryption import hidden_bytes
from .layout import MAX_CLEAR_BYTES, UNIT_BYTES, OpenCode, Slot
from .messages import message_code, routed_as
from .prefix import pr_sent_of
from .states import Reason

_POSTED: Final = spec.SUB_STREAM_POSTED
_NON_POSTED: Final = spec.SUB_STREAM_NON_POSTED
_SUBS: Final = spec.IDE_SUB_STREAMS
_SYNC: Final = spec.MESSAGE_IDE_SYNC
_FAIL: Final = spec.MESSAGE_IDE_FAIL
_SYNC_NPR_AT: Final = spec.IDE_SYNC_NPR_AT
_SYNC_CPL_AT: Final = spec.IDE_SYNC_CPL_AT
_FAIL_STREAM_ID_AT: Final = spec.IDE_FAIL_STREAM_ID_AT
# PCIe Base r6.x, section 6.33.5: a sender whose counter reaches 245 sends an IDE Sync, which counts itself.
_MOST_CARRIED: Final = spec.IDE_SYNC_AT
_MOST_SYNC: Final = spec.IDE_SYNC_AT + 1
_ONE: Final = np.uint64(1)
_LAST: Final = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
_NO_LIMIT: Final = NO_LIMIT
_KEPT: Final = int(Rule.KEPT)

_STARTED: Final = int(Slot.STARTED)
_RETIRED: Final = int(Slot.RETIRED)
_STOPPED: Final = int(Slot.STOPPED)

_PLAIN: Final = int(OpenCode.PLAIN)
_FAILED: Final = int(OpenCode.FAIL)
_DISCARDED_PLAIN: Final = int(OpenCode.DISCARDED_PLAIN)
_MALFORMED: Final = int(OpenCode.MALFORMED)

# Kernels bake plain numbers in.
_NONE: Final = int(Reason.NONE)
_R_LENGTH: Final = int(Reason.LENGTH)
_R_PREFIX: Final = int(Reason.PREFIX)
_R_SUB_STREAM: Final = int(Reason.SUB_STREAM)
_R_SUB_STREAM_TYPE: Final = int(Reason.SUB_STREAM_TYPE)
_R_TYPE: Final = int(Reason.TYPE)
_R_TRAFFIC_CLASS: Final = int(Reason.TRAFFIC_CLASS)
_R_ECRC: Final = int(Reason.ECRC)
_R_K_TOGGLE: Final = int(Reason.K_TOGGLE)
_R_KEY_NOT_STARTED: Final = int(Reason.KEY_NOT_STARTED)
_R_KEY_RETIRED: Final = int(Reason.KEY_RETIRED)
_R_KEY_STOPPED: Final = int(Reason.KEY_STOPPED)
_R_COUNTER: Final = int(Reason.COUNTER)
_R_AGGREGATION: Final = int(Reason.AGGREGATION)
_R_AGGREGATION_COUNT: Final = int(Reason.AGGREGATION_COUNT)
_R_AGGREGATION_SIZE: Final = int(Reason.AGGREGATION_SIZE)
_R_PCRC_WITHOUT_MAC: Final = int(Reason.PCRC_WITHOUT_MAC)
_R_PCRC_UNEXPECTED: Final = int(Reason.PCRC_UNEXPECTED)
_R_SYNC: Final = int(Reason.SYNC)
_R_ORDERING_OVERFLOW: Final = int(Reason.ORDERING_OVERFLOW)
_R_SYNC_MISSING: Final = int(Reason.SYNC_MISSING)
_R_ORDERING: Final = int(Reason.ORDERING)

# What a TLP is besides: rows[i]["special"].
IS_SYNC: Final = 1
IS_FAIL: Final = 2
IS_NOT_TEE: Final = 3


@kernel
def judge_plain(work, ends, header, kind, settings, enabled, rx, tlp, tlp_bytes):
    """Return the code of a TLP that is no IDE TLP.

    Parameters
    ----------
    work : u1[:]. ends : i8[2], the TLP is work[ends[0] : ends[1]].
    header, kind : as `find` has them.
    tlp, tlp_bytes : TLP[1] and the same memory as u1[:], scratch. Modified in place.
    """
    for j in range(len(tlp_bytes)):
        tlp_bytes[j] = 0
    _, broken = parse_all(work, ends, True, settings[0]["flit"] != 0, _NO_LIMIT, tlp)
    if broken != _KEPT:
        return _MALFORMED
    code = message_code(work, header, kind)
    if code == _SYNC:
        return _DISCARDED_PLAIN
    if code == _FAIL and work[header + _FAIL_STREAM_ID_AT] == settings[0]["stream_id"]:
        return _FAILED
    if settings[0]["link"] != 0 and enabled:
        tc = traffic_class(work, header, settings[0]["flit"] != 0)
        if tc == settings[0]["tc"] and int(rx[0]["seen"]) >> sub_stream_of(kind) & 1 != 0:
            return _DISCARDED_PLAIN
    return _PLAIN


@kernel
def read(work, i, first, header, size, kind, settings, rows):
    """Find the parts of an IDE TLP; return the reason if they are not where its header says."""
    if size < 0:
        return _R_LENGTH
    flit = settings[0]["flit"] != 0
    m, p = trailer_flags(work, rows[i]["ide"], header, flit)
    data_bytes = payload_size(work, header, kind)
    clear = rows[i]["start"] if settings[0]["link"] != 0 else first
    if header + size - clear > MAX_CLEAR_BYTES:
        return _R_PREFIX
    if header + size + data_bytes + trailer_bytes(m, p) != rows[i]["end"]:
        return _R_LENGTH
    rows[i]["clear"] = clear
    rows[i]["header"] = header
    rows[i]["header_bytes"] = size
    rows[i]["data"] = header + size
    rows[i]["data_bytes"] = data_bytes
    rows[i]["kind"] = kind
    rows[i]["ohc_a1"] = 1 if flit and has_ohc_a1(work, header, kind) else 0
    rows[i]["m"] = m
    rows[i]["p"] = p
    code = message_code(work, header, kind)
    if code == _SYNC:
        rows[i]["special"] = IS_SYNC
    elif code == _FAIL and work[header + _FAIL_STREAM_ID_AT] == settings[0]["stream_id"]:
        rows[i]["special"] = IS_FAIL
    elif settings[0]["tee_limited"] != 0 and rows[i]["t"] == 0 and code != _FAIL:
        rows[i]["special"] = IS_NOT_TEE
    return _NONE


@kernel
def check(work, i, settings, slots, rx, units, rows):
    """Check an IDE TLP that arrives, and count it; return the reason of the first check that fails."""
    ide = rows[i]["ide"]
    header = rows[i]["header"]
    kind = int(rows[i]["kind"])
    sub = int(rows[i]["sub_stream"])
    k = int(rows[i]["k"])
    link = settings[0]["link"] != 0
    if sub >= _SUBS:
        return _R_SUB_STREAM
    if sub_stream_of(kind) != sub:
        return _R_SUB_STREAM_TYPE
    if not may_ride(kind, link, settings[0]["config_requests"] != 0):
        return _R_TYPE
    flit = settings[0]["flit"] != 0
    if traffic_class(work, header, flit) != settings[0]["tc"]:
        return _R_TRAFFIC_CLASS
    if has_digest(work, header, flit):
        return _R_ECRC
    tlps = int(units[sub]["tlps"])
    if tlps > 0 and units[sub]["k"] != k:
        return _R_K_TOGGLE
    reason = key_reason(settings, slots, k, sub)
    if reason != _NONE:
        return reason

    m = rows[i]["m"]
    p = rows[i]["p"]
    most_open = int(settings[0]["open_tlps"]) >> 8 * sub & 0xFF
    if m == 0 and most_open == 0:
        return _R_AGGREGATION
    if m == 0 and tlps >= most_open:
        return _R_AGGREGATION_COUNT
    payload = units[sub]["payload_bytes"] + rows[i]["data_bytes"]
    if payload > UNIT_BYTES and (m == 0 or tlps > 0):
        return _R_AGGREGATION_SIZE
    if p != 0 and m == 0:
        return _R_PCRC_WITHOUT_MAC
    content = units[sub]["text_bytes"] + rows[i]["data_bytes"]
    content += hidden_bytes(work, header, kind, int(settings[0]["phe"]), flit, rows[i]["ohc_a1"] != 0)
    if p != 0 and (settings[0]["pcrc"] == 0 or content == 0):
        return _R_PCRC_UNEXPECTED
    if rows[i]["special"] == IS_SYNC and (m == 0 or not routed_as(kind, link)):
        return _R_SYNC

    return _count(work, i, header, ide, sub, rx, rows)


@kernel
def key_reason(settings, slots, k, sub):
    """Return why a slot cannot open a unit, or no reason."""
    row = k * _SUBS + sub
    state = slots[row]["state"]
    if state == _STARTED:
        return _R_COUNTER if slots[row]["counter"] > settings[0]["hard_limit"] else _NONE
    if state == _RETIRED:
        return _R_KEY_RETIRED
    return _R_KEY_STOPPED if state == _STOPPED else _R_KEY_NOT_STARTED


@kernel
def _count(work, i, header, ide, sub, rx, rows):
    """Keep the ordering counters; return the reason if they say that something is missing or out of order."""
    npr = rx[0]["posted_npr"]
    cpl = rx[0]["posted_cpl"]
    carried_npr = np.uint64(0)
    carried_cpl = np.uint64(0)
    most = _MOST_CARRIED
    if sub == _POSTED:
        if npr == _LAST or cpl == _LAST:
            return _R_ORDERING_OVERFLOW
        npr += _ONE
        cpl += _ONE
        if rows[i]["special"] == IS_SYNC:
            carried_npr = np.uint64(work[header + _SYNC_NPR_AT])
            carried_cpl = np.uint64(work[header + _SYNC_CPL_AT])
            most = _MOST_SYNC
    elif sub == _NON_POSTED:
        carried_npr = np.uint64(pr_sent_of(work, ide))
    else:
        carried_cpl = np.uint64(pr_sent_of(work, ide))
    if carried_npr > np.uint64(most) or carried_cpl > np.uint64(most):
        return _R_SYNC_MISSING
    if carried_npr > npr or carried_cpl > cpl:
        return _R_ORDERING
    rx[0]["posted_npr"] = npr - carried_npr
    rx[0]["posted_cpl"] = cpl - carried_cpl
    return _NONE
