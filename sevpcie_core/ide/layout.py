"""The arrays that kernels of a stream see: its state, its settings, and a row per TLP.

Rule: numbers only, and each array has one owner: Python makes it, a kernel fills it. Offsets are bytes in the
`work` array of the call unless said otherwise.
"""

from enum import IntEnum
from typing import Final

import numpy as np

from .. import spec

# --- Keys and counters ----------------------------------------------------------------------------------


class Slot(IntEnum):
    """What the place of a key (half, sub-stream, key set) holds."""

    EMPTY = 0
    PROGRAMMED = 1
    STARTED = 2
    RETIRED = 3
    STOPPED = 4


# Slots of one half, in the order of its key table: row = key set * 3 + sub-stream.
SLOTS: Final = spec.IDE_KEY_SETS * spec.IDE_SUB_STREAMS

SLOT: Final = np.dtype(
    [
        ("counter", "<u8"),  # of the next invocation
        ("generation", "<u4"),  # counts `go`: of two started slots of a sub-stream the newer one is the next
        ("state", "u1"),
    ]
)

# Transmit half: one row.
TX: Final = np.dtype([("k", "u1"), ("npr", "u1"), ("cpl", "u1")])
# Receive half: one row. `posted` counts posted TLPs that came and that no carried value accounts for yet.
RX: Final = np.dtype(
    [
        ("posted_npr", "<u8"),
        ("posted_cpl", "<u8"),
        ("seen", "u1"),  # Link streams: bit s: sub-stream s has had its first IDE TLP
    ]
)

# What kernels must know of a stream's configuration: one row, never written after it was made.
SETTINGS: Final = np.dtype(
    [
        ("hard_limit", "<u8"),
        ("unit_tlps", "<u4"),  # transmit: TLPs of a unit, a byte per sub-stream from the lowest
        ("open_tlps", "<u4"),  # receive: TLPs with M = 0 in a row, the same; 0: no aggregation
        ("stream_id", "u1"),
        ("link", "u1"),
        ("tc", "u1"),
        ("pcrc", "u1"),
        ("phe", "u1"),
        ("flit", "u1"),
        ("config_requests", "u1"),
        ("tee_limited", "u1"),
        ("substream_iv", "u1"),
        ("requester", "<u2"),
        ("partner", "<u2"),
        ("segment", "u1"),
    ]
)

# --- Sizes ------------------------------------------------------------------------------------------------

# Most TLPs of a unit: one more than the standard allows where the receiver tolerates it.
MAX_MEMBERS: Final = spec.IDE_MAX_OPEN + 2
# Most bytes of one TLP in the clear (A): nine of them fit into the AAD of an invocation. PCIe allows fewer: a
# header of 16 B, four End-End prefixes, some local ones (flit mode: 28 B of OHC words).
MAX_CLEAR_BYTES: Final = 56
# Bytes of an IDE message.
MESSAGE_BYTES: Final = spec.HEADER_4DW_BYTES
UNIT_BYTES: Final = spec.IDE_UNIT_DW * spec.DW_BYTES

# --- Units under way --------------------------------------------------------------------------------------

# A unit that is open, one row per sub-stream.
UNIT: Final = np.dtype(
    [
        ("counter", "<u8"),
        ("number", "<i8"),  # of the call
        ("tlps", "<i4"),
        ("payload_bytes", "<i4"),
        ("text_bytes", "<i4"),  # of P, without PCRC
        ("k", "u1"),
    ]
)
# A TLP of a unit, MAX_MEMBERS rows per sub-stream.
MEMBER: Final = np.dtype(
    [
        ("clear", "<i8"),  # where A begins; it ends where the header ends
        ("header", "<i8"),
        ("header_bytes", "<i4"),  # flit mode: with OHC words
        ("data", "<i8"),  # payload
        ("data_bytes", "<i4"),
        ("row", "<i8"),  # receive: row of the TLP
        ("kind", "u1"),
        ("ohc_a1", "u1"),
    ]
)
# Ciphertext that must go from where it was made to its place on the wire, one row per TLP.
PIECE: Final = np.dtype(
    [
        ("text", "<i8"),  # this TLP's share of the ciphertext: header part, then payload
        ("header", "<i8"),
        ("data", "<i8"),
        ("data_bytes", "<i4"),
        ("kind", "u1"),
        ("ohc_a1", "u1"),
        ("pcrc", "u1"),  # four bytes more behind the payload
    ]
)

# --- Transmit ---------------------------------------------------------------------------------------------


class SealCode(IntEnum):
    """What became of a TLP that was to be sent."""

    PLAIN = 0
    SEALED = 1
    DROPPED_INSECURE = 2
    REFUSED_TYPE = 3
    REFUSED_TC = 4
    REFUSED_ECRC = 5
    REFUSED_PREFIX = 6
    REFUSED_TEE = 7
    REFUSED_COUNTER = 8


SEALED: Final = np.dtype(
    [
        ("wire_index", "<i8"),  # place in the offsets of the wire, or -1
        ("unit", "<i8"),  # number of its unit in the call, or -1
        ("counter", "<u8"),
        ("code", "u1"),  # SealCode
        ("sub_stream", "u1"),
        ("k", "u1"),
        ("t", "u1"),
        ("m", "u1"),
        ("p", "u1"),
        ("pr_sent", "u1"),
    ]
)
# Bits of what the caller asks for, one byte per TLP.
ASK_PROTECT: Final = 1
ASK_ALONE: Final = 2
ASK_TEE: Final = 4
# Not asked for by name: what may not ride goes out plain.
ASK_IF_ELIGIBLE: Final = 8

# --- Receive ----------------------------------------------------------------------------------------------


class OpenCode(IntEnum):
    """What became of a TLP that was received."""

    PLAIN = 0
    RELEASED = 1
    HELD = 2
    SYNC = 3
    FAIL = 4
    MISROUTED = 5
    DISCARDED_PLAIN = 6
    DISCARDED_TEE = 7
    PCRC_FAILED = 8
    MALFORMED = 9
    REJECTED = 10
    DROPPED = 11
    UNEXPECTED = 12


OPENED: Final = np.dtype(
    [
        ("counter", "<u8"),
        ("row", "<i8"),  # place in the batch, or -1
        ("code", "u1"),  # OpenCode
        ("reason", "u1"),  # Reason
        ("sub_stream", "u1"),
        ("k", "u1"),
        ("t", "u1"),
    ]
)
# Beside each TLP that was released.
MARK: Final = np.dtype(
    [
        ("wire_index", "<i8"),  # of this call, or -1: held since an earlier one
        ("counter", "<u8"),
        ("protected", "u1"),
        ("sub_stream", "u1"),
        ("k", "u1"),
        ("t", "u1"),
    ]
)
# A TLP on its way through the receiver, one row each.
ROW: Final = np.dtype(
    [
        ("start", "<i8"),
        ("end", "<i8"),
        ("ide", "<i8"),  # the IDE prefix, flit mode: OHC-C; -1: not an IDE TLP
        ("clear", "<i8"),  # where A begins
        ("header", "<i8"),
        ("header_bytes", "<i4"),
        ("data_bytes", "<i4"),
        ("data", "<i8"),  # payload, plain once the unit is open
        ("hidden", "<i8"),  # the header part of P', or -1
        ("counter", "<u8"),
        ("unit", "<i8"),  # packet of its unit, or -1
        ("next", "<i8"),  # next TLP of its unit, or -1
        ("special", "u1"),  # an IDE message; T = 0 where that is not taken
        ("kind", "u1"),
        ("ohc_a1", "u1"),
        ("code", "u1"),
        ("reason", "u1"),
        ("sub_stream", "u1"),
        ("k", "u1"),
        ("t", "u1"),
        ("m", "u1"),
        ("p", "u1"),
    ]
)
