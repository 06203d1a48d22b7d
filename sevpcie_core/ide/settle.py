"""After the MACs: who failed first, which PCRC is wrong, and what is released.

Rule: the first failure in wire order counts, and a MAC fails at the last TLP of its unit. Plaintext leaves
`work` only here, and only of units that are authentic and come before that failure.
"""

from typing import Final

import numpy as np

from .. import spec
from .._jit import kernel
from .._jit.memory import copy
from ..tlp.crc import crc32
from .framing import clear_trailer_flags
from .header_encryption import PCRC_HEADER_BYTES, put
from .layout import OpenCode
from .plan_open import (
    DEFERRED,
    FIRST_MISROUTED,
    FIRST_PCRC,
    HAS_PCRC,
    LEFT_WAITING,
    NO_PCRC,
    ORDER,
    RELEASED,
    STOP,
    STOP_REASON,
    UNITS,
    WAITING,
)
from .rules import IS_FAIL, IS_NOT_TEE, IS_SYNC
from .states import Reason

_PREFIX_BYTES: Final = spec.IDE_PREFIX_BYTES
_PCRC_BYTES: Final = spec.IDE_PCRC_BYTES

_PLAIN: Final = int(OpenCode.PLAIN)
_RELEASED: Final = int(OpenCode.RELEASED)
_HELD: Final = int(OpenCode.HELD)
_SYNC: Final = int(OpenCode.SYNC)
_FAIL: Final = int(OpenCode.FAIL)
_MISROUTED: Final = int(OpenCode.MISROUTED)
_DISCARDED_TEE: Final = int(OpenCode.DISCARDED_TEE)
_PCRC_FAILED: Final = int(OpenCode.PCRC_FAILED)
_REJECTED: Final = int(OpenCode.REJECTED)
_DROPPED: Final = int(OpenCode.DROPPED)
_R_NONE: Final = int(Reason.NONE)
_R_MAC: Final = int(Reason.MAC)
_R_PCRC_MISSING: Final = int(Reason.PCRC_MISSING)
_R_PCRC_WRONG: Final = int(Reason.PCRC_WRONG)


@kernel
def settle(
    work,
    settings,
    rows,
    packets,
    checks,
    opened,
    order,
    order_at,
    deferred,
    counts,
    held,
    zeros,
    plain,
    plain_offsets,
    marks,
    status,
):
    """Judge every unit, and copy out what is released.

    Parameters
    ----------
    work : u1[:], opened in place. settings : SETTINGS[1].
    rows, packets, checks, order, order_at, deferred, counts : as `plan_open.plan` left them. Modified in
        place: rows, counts.
    opened : bool[:], per packet: its MAC held.
    held : rows of earlier calls. zeros : where work has eight zero bytes.
    plain : u1[:], plain_offsets : i8[:]: TLPs that are released, then those that wait behind a posted unit.
    marks : MARK[:], one per TLP of plain; a row of WAITING is not among them.
    status : OPENED[n - held]. Modified in place.
    """
    n = len(rows)
    # Units are in order of their last TLPs.
    failed = n
    for u in range(counts[UNITS]):
        if not opened[u]:
            failed = checks[u]["last"]
            counts[STOP] = failed
            counts[STOP_REASON] = _R_MAC
            for i in range(failed, n):
                if rows[i]["ide"] >= 0 and rows[i]["code"] != _MISROUTED:
                    rows[i]["code"] = _DROPPED
                    rows[i]["reason"] = _R_NONE
            rows[failed]["code"] = _REJECTED
            rows[failed]["reason"] = _R_MAC
            break
    counts[FIRST_PCRC] = -1
    for u in range(counts[UNITS]):
        if checks[u]["last"] >= failed:
            break
        if checks[u]["pcrc"] != NO_PCRC:
            _check_pcrc(work, rows, packets, checks, u, zeros, counts)

    plain_offsets[0] = 0
    released = 0
    counts[LEFT_WAITING] = -1
    for j in range(counts[ORDER]):
        i = order[j]
        if order_at[j] >= failed and (i == WAITING or rows[i]["ide"] >= 0):
            continue
        if i == WAITING:
            counts[LEFT_WAITING] = released
            continue
        released = _hand_out(work, settings, rows, i, held, plain, plain_offsets, marks, released, _RELEASED)
        if i >= held and (rows[i]["code"] == _RELEASED or rows[i]["code"] == _PLAIN):
            status[i - held]["row"] = released - 1
    counts[RELEASED] = released
    ended = counts[STOP] >= 0
    if not ended:
        for j in range(counts[DEFERRED]):
            released = _hand_out(
                work, settings, rows, deferred[j], held, plain, plain_offsets, marks, released, _HELD
            )
    counts[DEFERRED] = released - counts[RELEASED]

    counts[FIRST_MISROUTED] = -1
    for i in range(held, n):
        code = rows[i]["code"]
        if code == _HELD and ended:
            code = _DROPPED
        if code == _MISROUTED and counts[FIRST_MISROUTED] < 0:
            counts[FIRST_MISROUTED] = i
        if code != _RELEASED and code != _PLAIN:
            status[i - held]["row"] = -1
        status[i - held]["code"] = code
        status[i - held]["reason"] = rows[i]["reason"]
        status[i - held]["sub_stream"] = rows[i]["sub_stream"]
        status[i - held]["k"] = rows[i]["k"]
        status[i - held]["t"] = rows[i]["t"]
        status[i - held]["counter"] = rows[i]["counter"]


@kernel
def _check_pcrc(work, rows, packets, checks, u, zeros, counts):
    """Mark the TLPs of an authentic unit whose PCRC is missing or wrong."""
    reason = _R_PCRC_MISSING
    if checks[u]["pcrc"] == HAS_PCRC:
        text = packets[u]["text"]
        count = int(packets[u]["text_bytes"]) - _PCRC_BYTES
        crc = 0
        i = checks[u]["first"]
        while i >= 0:
            start = rows[i]["data"]
            if rows[i]["hidden"] >= 0:
                hidden = start - rows[i]["hidden"]
                crc = crc32(work, zeros, PCRC_HEADER_BYTES - hidden, crc)
                crc = crc32(work, rows[i]["hidden"], hidden, crc)
            crc = crc32(work, start, int(rows[i]["data_bytes"]), crc)
            i = rows[i]["next"]
        value = np.int64(crc)
        same = True
        for b in range(_PCRC_BYTES):
            same = same and work[text + count + b] == value >> 8 * b & 0xFF
        reason = _R_NONE if same else _R_PCRC_WRONG
    if reason == _R_NONE:
        return
    i = checks[u]["first"]
    while i >= 0:
        rows[i]["code"] = _PCRC_FAILED
        rows[i]["reason"] = reason
        i = rows[i]["next"]
    if counts[FIRST_PCRC] < 0:
        counts[FIRST_PCRC] = checks[u]["last"]


@kernel
def _hand_out(work, settings, rows, i, held, plain, plain_offsets, marks, place, code):
    """Copy a TLP out as number `place` without what IDE added, if it is due; return the next number."""
    protected = rows[i]["ide"] >= 0
    if rows[i]["code"] == _PCRC_FAILED:
        return place
    if protected and rows[i]["special"] != 0:
        special = rows[i]["special"]
        if special == IS_SYNC:
            rows[i]["code"] = _SYNC
        elif special == IS_FAIL:
            rows[i]["code"] = _FAIL
        elif special == IS_NOT_TEE:
            rows[i]["code"] = _DISCARDED_TEE
        return place
    at = plain_offsets[place]
    start = rows[i]["start"]
    if protected:
        rows[i]["code"] = code
        ide = rows[i]["ide"]
        copy(plain, at, work, start, ide - start)
        at += ide - start
        header = rows[i]["header"]
        rest = header + int(rows[i]["header_bytes"]) - ide - _PREFIX_BYTES
        copy(plain, at, work, ide + _PREFIX_BYTES, rest)
        flit = settings[0]["flit"] != 0
        # In flit mode OHC-C stands in the header, not before it.
        head = plain_offsets[place] if flit else at + header - ide - _PREFIX_BYTES
        if flit:
            clear_trailer_flags(plain, head)
        if rows[i]["hidden"] >= 0:
            put(
                plain,
                head,
                int(rows[i]["kind"]),
                int(settings[0]["phe"]),
                flit,
                rows[i]["ohc_a1"] != 0,
                work,
                rows[i]["hidden"],
            )
        at += rest
        data_bytes = int(rows[i]["data_bytes"])
        copy(plain, at, work, rows[i]["data"], data_bytes)
        at += data_bytes
    else:
        copy(plain, at, work, start, rows[i]["end"] - start)
        at += rows[i]["end"] - start
    plain_offsets[place + 1] = at
    marks[place]["wire_index"] = i - held if i >= held else -1
    marks[place]["protected"] = 1 if protected else 0
    marks[place]["sub_stream"] = rows[i]["sub_stream"]
    marks[place]["k"] = rows[i]["k"]
    marks[place]["t"] = rows[i]["t"]
    marks[place]["counter"] = rows[i]["counter"]
    return place + 1
