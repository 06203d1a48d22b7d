"""Every number of a standard, with its citation on the line above. Nothing here is tunable.

"PCIe Base" is the PCI Express Base Specification; revisions are named where they matter. Facts that no
licensed copy has confirmed here say so ("likely").
"""

from fractions import Fraction
from typing import Final

import numpy as np

# --- Link rates -------------------------------------------------------------------------------------

# PCIe Base r6.x, section 4.2 and r7.0: transfer rate per lane in GT/s, by generation.
GIGATRANSFERS: Final[dict[int, Fraction]] = {
    generation: Fraction(rate)
    for generation, rate in ((1, 2.5), (2, 5), (3, 8), (4, 16), (5, 32), (6, 64), (7, 128))
}
# PCIe Base r6.x, section 4.2.1 (8b/10b), 4.2.2 (128b/130b), 4.2.3 (1b/1b with flits).
# Flit: bytes 0..235 of 256 carry TLPs, 6 are DLP, 8 CRC, 6 ECC.
FLIT_BYTES: Final = 256
FLIT_TLP_BYTES: Final = 236
ENCODING: Final = {
    1: Fraction(8, 10),
    2: Fraction(8, 10),
    3: Fraction(128, 130),
    4: Fraction(128, 130),
    5: Fraction(128, 130),
    6: Fraction(FLIT_TLP_BYTES, FLIT_BYTES),
    7: Fraction(FLIT_TLP_BYTES, FLIT_BYTES),
}
# PCIe Base r6.x, section 4.2: link widths.
LANES: Final = (1, 2, 4, 8, 16)
# First generation whose links run in flit mode (PCIe Base r6.x, section 4.2.3.4).
FIRST_FLIT_GENERATION: Final = 6

# --- Transaction and data link layer -------------------------------------------------------------------

# PCIe Base r6.x, section 2.2.1: a TLP is a whole number of DW.
DW_BYTES: Final = 4
# PCIe Base r6.x, section 2.2.4.1: 3 DW header below 4 GiB, 4 DW at or above.
HEADER_3DW_BYTES: Final = 12
HEADER_4DW_BYTES: Final = 16
ADDRESS_4DW: Final = 1 << 32
# PCIe Base r6.x, section 2.2.9: completions have a 3 DW header.
HEADER_COMPLETION_BYTES: Final = 12
# PCIe Base r6.x, sections 3.6.2 (2 B sequence number, 4 B LCRC) and 4.2.1/4.2.2 (2 B framing in total with
# 8b/10b; with 128b/130b the 4 B STP token holds the sequence number): 8 B on the wire in every non-flit mode.
DATA_LINK_BYTES: Final = 8
# PCIe Base r6.x, section 4.2.3.4: flit mode has neither per-TLP framing nor LCRC.
DATA_LINK_FLIT_BYTES: Final = 0
# PCIe Base r6.x, section 3.5: a DLLP has four bytes and a CRC of two; with framing eight on the wire.
DLLP_BYTES: Final = 8
# PCIe Base r6.x, section 4.2.7 (8b/10b): a skip ordered set of four symbols at most every 1538 symbols.
SKIP_SYMBOLS: Final = 4
SKIP_INTERVAL_SYMBOLS: Final = 1538
# PCIe Base r6.x, sections 7.5.3.4 and 2.2.7: Max_Payload_Size and Max_Read_Request_Size.
PAYLOAD_SIZES: Final = (128, 256, 512, 1024, 2048, 4096)
# PCIe Base r6.x, section 7.5.3.7: Read Completion Boundary of a root complex.
READ_COMPLETION_BOUNDARIES: Final = (64, 128)
# PCIe Base r6.x, section 2.2.7: no memory request crosses a 4 KiB boundary.
REQUEST_BOUNDARY: Final = 4096
# PCIe Base r6.x, section 2.2.6.2: tags of 8, 10 and (flit mode) 14 bits.
MAX_TAGS: Final = 1 << 14

# --- Integrity and Data Encryption (IDE) --------------------------------------------------------------

# PCIe Base r6.x, section 6.33.5 (non-flit: IDE TLP prefix, 1 DW; flit: OHC-C, 1 DW).
IDE_PREFIX_BYTES: Final = 4
# PCIe Base r6.x, section 6.33.3: 96-bit MAC.
IDE_MAC_BYTES: Final = 12
# PCIe Base r6.x, section 6.33.4: PCRC, 1 DW, on TLPs with payload.
IDE_PCRC_BYTES: Final = 4
# PCIe Base r6.x, section 6.33.5: sub-streams.
SUB_STREAM_POSTED: Final = 0
SUB_STREAM_NON_POSTED: Final = 1
SUB_STREAM_COMPLETION: Final = 2
# FIPS 197, section 5: rounds by key length in bits.
AES_ROUNDS: Final = {128: 10, 256: 14}
# NIST SP 800-38D, section 5: block length of GCM.
AES_BLOCK_BYTES: Final = 16

# --- IDE stream ----------------------------------------------------------------------------------------

# PCIe Base r6.x, section 6.33.5: byte 0 of the IDE TLP prefix (Fmt 100b, Type 1_0010b).
IDE_PREFIX: Final = 0x92
# PCIe Base r6.x, section 6.33.5: fields of the prefix as a big-endian word; P, M only outside flit mode,
# where OHC-C has the same places and the requester segment in byte 0.
IDE_PR_SENT_SHIFT: Final = 16
IDE_STREAM_ID_SHIFT: Final = 8
IDE_SUB_STREAM_SHIFT: Final = 4
IDE_SUB_STREAM_MASK: Final = 0x7
IDE_P: Final = 0x08
IDE_M: Final = 0x04
IDE_K: Final = 0x02
IDE_T: Final = 0x01
# PCIe Base r6.x, section 6.33.5 (flit mode): the sub-stream that says "not an IDE TLP".
IDE_NO_SUB_STREAM: Final = 7
# PCIe Base r6.x, section 2.2.1 (flit mode): TS field of DW 0. Likely: 000b on a TLP whose unit goes on.
TS_NONE: Final = 0b000
TS_ECRC: Final = 0b001
TS_MAC: Final = 0b101
TS_PCRC_MAC: Final = 0b110
# PCIe Base r6.x, section 6.33.3: sub-streams and key sets of one direction.
IDE_SUB_STREAMS: Final = 3
IDE_KEY_SETS: Final = 2
# PCIe Base r6.x, section 6.33.3: first value of the invocation counter with a fresh key (IFV). Likely.
IDE_FIRST_COUNTER: Final = 1
# PCIe Base r6.x, section 6.33.4: TLPs of one unit, by mode, and most payload of a unit of several, in DW.
IDE_AGGREGATIONS: Final = (1, 2, 4, 8)
IDE_UNIT_DW: Final = 256
# PCIe Base r6.x, section 6.33.4: an eighth TLP with M = 0 in a row breaks the sender's rule, a ninth must
# fail.
IDE_MAX_OPEN: Final = 7
# PCIe Base r6.x, section 6.33.5: value of either PR_Sent counter at which an IDE Sync must be sent.
IDE_SYNC_AT: Final = 245
# PCIe Base r6.x, section 2.2.8.11 (IDE messages).
MESSAGE_IDE_SYNC: Final = 0x54
MESSAGE_IDE_FAIL: Final = 0x55
# PCIe Base r6.x, section 2.2.8: messages routed by ID (Selective streams) and local ones (Link streams).
MESSAGE_BY_ID: Final = 0x32
MESSAGE_LOCAL: Final = 0x34
# Unsure: bytes of the IDE messages that hold the counters (Sync) and the Stream ID (Fail); no public text
# shows the figures. Bytes 8, 9 are the destination of what is routed by ID.
IDE_MESSAGE_DESTINATION_AT: Final = 8
IDE_SYNC_NPR_AT: Final = 12
IDE_SYNC_CPL_AT: Final = 13
IDE_FAIL_STREAM_ID_AT: Final = 12
# PCIe Base r6.x, section 7.8.4.2 (AER uncorrectable error status): IDE Check Failed, Misrouted IDE TLP, PCRC
# Check Failed.
AER_IDE_CHECK_FAILED: Final = 28
AER_MISROUTED_IDE_TLP: Final = 29
AER_PCRC_CHECK_FAILED: Final = 30

# --- Memory regions ---------------------------------------------------------------------------------------

# Buffer classes of a region map; the policy draws the protected share per class.
BUFFER_DATA: Final = 0
BUFFER_QUEUE: Final = 1
BUFFER_MMIO: Final = 2
BUFFER_MSI: Final = 3
BUFFER_NAMES: Final = ("data", "queue", "mmio", "msi")

# A region map: half-open address ranges in ascending order, one row per buffer.
REGION: Final = np.dtype([("start", "i8"), ("end", "i8"), ("buffer", "u1"), ("protected", "?")])


# PCIe Base r6.x, section 3.6.3.1, tables "Ack Transmission Latency Limit": UpdateFactor by lanes, for
# Max_Payload_Size up to 256 B and above (as published models have it), ...
_UPDATE_FACTOR: Final = {
    1: (Fraction(14, 10), Fraction(1)),
    2: (Fraction(14, 10), Fraction(1)),
    4: (Fraction(14, 10), Fraction(1)),
    8: (Fraction(25, 10), Fraction(1)),
    16: (Fraction(3), Fraction(2)),
}
# ... the overhead of a TLP, and what receiver and transmitter take, in symbol times, by transfer rate.
_ACK_TLP_OVERHEAD: Final = 28
_ACK_INTERNAL: Final = {1: 19, 2: 70}
_ACK_INTERNAL_FROM_GEN3: Final = 115


def ack_limit_symbols(generation: int, lanes: int, mps: int) -> int:
    """Return the guideline for how long an Ack, or an UpdateFC, may be put off, in symbol times.

    Raises KeyError for lanes that no link has.
    """
    small, large = _UPDATE_FACTOR[lanes]
    factor = small if mps <= 256 else large
    internal = _ACK_INTERNAL.get(generation, _ACK_INTERNAL_FROM_GEN3)
    return int((mps + _ACK_TLP_OVERHEAD) * factor / lanes) + internal


def byte_time_ps(generation: int, lanes: int) -> Fraction:
    """Return the exact time of one TLP byte on a link, in ps.

    Raises KeyError for a generation outside 1..7.
    """
    bits_per_ps = GIGATRANSFERS[generation] * lanes * ENCODING[generation] / 1000
    return Fraction(8) / bits_per_ps
