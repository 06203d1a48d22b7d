"""The checksums of PCI Express: LCRC, ECRC and PCRC (one CRC-32), and the DLLP's CRC-16.

Rule: bytes in wire order, the low bit of each first; the result is stored little-endian.

LCRC, ECRC and PCRC use polynomial 04C11DB7h, seed FFFFFFFFh and the complement, which is what `zlib.crc32`
computes; `crc32(b, crc32(a))` continues, as there. A table of 16 × 256 words takes 16 bytes per step: the CRC
of a byte that is followed by n zero bytes is a table of its own, and CRCs add.
"""

from typing import Any, Final

import numpy as np

from .._jit import inline_kernel, kernel

# PCIe Base r6.x, section 3.6.3 (LCRC), 2.7.1 (ECRC), 6.33.4 (PCRC): 04C11DB7h, reflected.
_POLYNOMIAL: Final = 0xEDB88320
# PCIe Base r6.x, section 3.5.2: 100Bh, reflected.
_DLLP_POLYNOMIAL: Final = 0xD008
# PCIe Base r6.x, section 2.7.1: bits of DW 0 that may change on the way count as 1: Type[0] and EP.
# (byte of the header, bits).
ECRC_ONES: Final = ((0, 0x01), (2, 0x40))
# Likely: in flit mode EP, which stands in DW 1, instead.
ECRC_ONES_FLIT: Final = ((0, 0x01), (6, 0x80))
# PCIe Base r6.x, sections 2.2.1 and 2.2.10: Fmt of a prefix, and the bit of byte 0 that an End-End one has.
_FMT_PREFIX: Final = 0b100
_END_END: Final = 0x10
_STEP: Final = 16


def _tables() -> np.ndarray:
    """Return u4[16, 256]: row n holds the CRC register after a byte and n zero bytes."""
    tables = np.zeros((_STEP, 256), np.uint32)
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        tables[0, byte] = value
    for row in range(1, _STEP):
        tables[row] = tables[row - 1] >> np.uint32(8) ^ tables[0, tables[row - 1] & 0xFF]
    tables.flags.writeable = False
    return tables


_TABLES: Final = _tables()
_ONES: Final = np.uint32(0xFFFFFFFF)
_8: Final = np.uint32(8)
_16: Final = np.uint32(16)
_24: Final = np.uint32(24)
_BYTE: Final = np.uint32(0xFF)


@inline_kernel
def _word(data, at):
    """Return four bytes as a little-endian number."""
    low = np.uint32(data[at]) | np.uint32(data[at + 1]) << _8
    return np.uint32(low | np.uint32(data[at + 2]) << _16 | np.uint32(data[at + 3]) << _24)


@inline_kernel
def _fold(word, row):
    """Return what four bytes add to the register, `row` the number of bytes of the step behind them."""
    return np.uint32(
        _TABLES[row + 3, word & _BYTE]
        ^ _TABLES[row + 2, (word >> _8) & _BYTE]
        ^ _TABLES[row + 1, (word >> _16) & _BYTE]
        ^ _TABLES[row, word >> _24]
    )


@kernel
def crc32(data: np.ndarray, start: int, count: int, crc: int) -> Any:
    """Return the CRC-32 of data[start:start + count], continuing from crc; 0 to begin.

    Parameters
    ----------
    data : u1[:].
    start, count : bytes; nothing is checked.
    crc : u4.
    """
    register = np.uint32(np.uint32(crc) ^ _ONES)
    at = start
    rest = count
    while rest >= 16:
        register = np.uint32(
            _fold(np.uint32(register ^ _word(data, at)), 12)
            ^ _fold(_word(data, at + 4), 8)
            ^ _fold(_word(data, at + 8), 4)
            ^ _fold(_word(data, at + 12), 0)
        )
        at += 16
        rest -= 16
    while rest > 0:
        register = np.uint32(_TABLES[0, (register ^ np.uint32(data[at])) & _BYTE] ^ register >> _8)
        at += 1
        rest -= 1
    return np.uint32(register ^ _ONES)


def ecrc(tlp: bytes, *, flit: bool = False) -> int:
    """Return the ECRC of a TLP that is given without it.

    It covers End-End prefixes or OHC, header and payload, not local prefixes. The bits that may change on the
    way count as 1. Stored little-endian behind the payload.
    """
    start = header = 0
    while not flit and header < len(tlp) and tlp[header] >> 5 == _FMT_PREFIX:
        header += 4
        if tlp[header - 4] & _END_END == 0:
            start = header
    covered = bytearray(tlp[start:])
    for i, ones in ECRC_ONES_FLIT if flit else ECRC_ONES:
        covered[header - start + i] |= ones
    return int(crc32(np.frombuffer(bytes(covered), np.uint8).copy(), 0, len(covered), 0))


def dllp_crc16(dllp: bytes) -> int:
    """Return the CRC-16 of the four bytes of a DLLP, stored little-endian behind them."""
    register = 0xFFFF
    for byte in dllp:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (_DLLP_POLYNOMIAL if register & 1 else 0)
    return register ^ 0xFFFF
