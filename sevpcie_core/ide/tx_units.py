"""Units of a transmitter: one AES-GCM invocation each, from its counter to the place of its MAC.

Rule: a counter is taken in `begin`, before any byte is sealed under it, and nothing ever sets it back.

A unit of one TLP with a clear header is sealed where it lies in the wire image: A ends where the payload
begins. Any other unit is gathered behind the image when it closes, and its ciphertext goes back by PIECE rows
(`scatter`).
"""

from typing import Final

import numpy as np

from .. import spec
from .._jit import kernel
from .._jit.memory import copy
from ..tlp.crc import crc32
from .header_encryption import PCRC_HEADER_BYTES, hide, put
from .layout import MAX_MEMBERS, Slot

_SUBS: Final = spec.IDE_SUB_STREAMS
_PCRC_BYTES: Final = spec.IDE_PCRC_BYTES
_STARTED: Final = int(Slot.STARTED)
_ONE: Final = np.uint64(1)

# Rows of `counts`. Row `u` of the packets belongs to unit u.
WIRE_TLPS: Final = 0
WIRE_BYTES: Final = 1
UNITS: Final = 2
PIECES: Final = 3
GATHERED: Final = 4
COUNTS: Final = 5


@kernel
def begin(slots, hard, k, sub, units, counts):
    """Open a unit: take its counter for good. Return False, with nothing taken, if the key has none left."""
    row = k * _SUBS + sub
    counter = slots[row]["counter"]
    if slots[row]["state"] != _STARTED or counter > hard:
        return False
    # Bound: counter <= hard <= 2**64 - 2.
    slots[row]["counter"] = counter + _ONE
    units[sub]["counter"] = counter
    units[sub]["number"] = counts[UNITS]
    counts[UNITS] += 1
    units[sub]["k"] = k
    units[sub]["payload_bytes"] = 0
    units[sub]["text_bytes"] = 0
    return True


@kernel
def join(units, members, sub, clear, header, shown, data_bytes, text_bytes, kind, ohc_a1):
    """Add a TLP, laid out in `work`, to the open unit of its sub-stream."""
    row = sub * MAX_MEMBERS + units[sub]["tlps"]
    members[row]["clear"] = clear
    members[row]["header"] = header
    members[row]["header_bytes"] = shown
    members[row]["data"] = header + shown
    members[row]["data_bytes"] = data_bytes
    members[row]["kind"] = kind
    members[row]["ohc_a1"] = 1 if ohc_a1 else 0
    units[sub]["tlps"] += 1
    units[sub]["payload_bytes"] += data_bytes
    units[sub]["text_bytes"] += text_bytes


@kernel
def close(settings, sub, units, members, work, packets, pieces, counts, zeros, p):
    """Plan the invocation of a unit, whose last TLP ends the wire image so far.

    p : 1 if the unit has a PCRC.
    """
    unit = units[sub]["number"]
    first = sub * MAX_MEMBERS
    count = int(units[sub]["tlps"])
    text_bytes = int(units[sub]["text_bytes"])
    units[sub]["tlps"] = 0
    last = first + count - 1
    tail = members[last]["data"] + int(members[last]["data_bytes"])
    packets[unit]["counter"] = units[sub]["counter"]
    packets[unit]["fixed"] = sub << 28 if settings[0]["substream_iv"] != 0 else 0
    packets[unit]["key"] = int(units[sub]["k"]) * _SUBS + sub
    packets[unit]["text_bytes"] = text_bytes + p * _PCRC_BYTES
    packets[unit]["tag"] = tail + p * _PCRC_BYTES
    if count == 1 and text_bytes == int(members[last]["data_bytes"]):
        data = members[last]["data"]
        packets[unit]["aad"] = members[last]["clear"]
        packets[unit]["aad_bytes"] = data - members[last]["clear"]
        packets[unit]["text"] = data
        packets[unit]["out"] = data
        if p != 0:
            _put_crc(work, tail, crc32(work, data, text_bytes, 0))
        return

    aad = counts[GATHERED]
    text = aad
    for row in range(first, last + 1):
        text += members[row]["data"] - members[row]["clear"]
    packets[unit]["aad"] = aad
    packets[unit]["text"] = text
    packets[unit]["out"] = text
    mode = int(settings[0]["phe"])
    flit = settings[0]["flit"] != 0
    crc = 0
    a, t = aad, text
    for row in range(first, last + 1):
        header = members[row]["header"]
        data = members[row]["data"]
        data_bytes = int(members[row]["data_bytes"])
        prefixes = header - members[row]["clear"]
        kind = int(members[row]["kind"])
        ohc_a1 = members[row]["ohc_a1"] != 0
        copy(work, a, work, members[row]["clear"], prefixes)
        a += prefixes
        shown, hidden = hide(
            work, header, int(members[row]["header_bytes"]), kind, mode, flit, ohc_a1, work, a, work, t
        )
        a += shown
        copy(work, t + hidden, work, data, data_bytes)
        if p != 0:
            if hidden > 0:
                crc = crc32(work, zeros, PCRC_HEADER_BYTES - hidden, crc)
            crc = crc32(work, t, hidden + data_bytes, crc)
        piece = counts[PIECES]
        counts[PIECES] += 1
        pieces[piece]["text"] = t
        pieces[piece]["header"] = header
        pieces[piece]["data"] = data
        pieces[piece]["data_bytes"] = data_bytes
        pieces[piece]["kind"] = kind
        pieces[piece]["ohc_a1"] = 1 if ohc_a1 else 0
        pieces[piece]["pcrc"] = p if row == last else 0
        t += hidden + data_bytes
    packets[unit]["aad_bytes"] = a - aad
    if p != 0:
        _put_crc(work, t, crc)
        t += _PCRC_BYTES
    counts[GATHERED] = t


@kernel
def _put_crc(work, at, crc):
    """Write a CRC-32, least significant byte first."""
    value = np.int64(crc)
    for i in range(_PCRC_BYTES):
        work[at + i] = value >> 8 * i & 0xFF


@kernel
def scatter(settings, pieces, work):
    """Put ciphertext that was made elsewhere in its place on the wire.

    Parameters
    ----------
    settings : SETTINGS[1]. pieces : PIECE[n]. work : u1[:]. Modified in place.
    """
    mode = int(settings[0]["phe"])
    flit = settings[0]["flit"] != 0
    for i in range(len(pieces)):
        text = pieces[i]["text"]
        hidden = put(
            work,
            pieces[i]["header"],
            int(pieces[i]["kind"]),
            mode,
            flit,
            pieces[i]["ohc_a1"] != 0,
            work,
            text,
        )
        count = int(pieces[i]["data_bytes"]) + int(pieces[i]["pcrc"]) * _PCRC_BYTES
        copy(work, pieces[i]["data"], work, text + hidden, count)
