"""Split transfers by looking at every single byte: nothing clever, so nothing subtly wrong.

Functions take addresses and sizes in bytes as Python ints and return `[(address, bytes), ...]`, ascending.
"""

PAGE = 4096
"""No memory request crosses a multiple of it, bytes (PCIe Base r6.x, section 2.2.7)."""


def cut_at_multiples(address: int, size: int, multiple: int) -> list[tuple[int, int]]:
    """Walk `[address, address + size)` byte by byte; begin a new piece at every multiple of `multiple`."""
    pieces: list[list[int]] = []
    for byte in range(address, address + size):
        if not pieces or byte % multiple == 0:
            pieces.append([byte, 0])
        pieces[-1][1] += 1
    return [(start, count) for start, count in pieces]


def write_tlps(address: int, size: int, mps: int) -> list[tuple[int, int]]:
    """Return the MWr TLPs of a write: boundaries at multiples of MPS."""
    return cut_at_multiples(address, size, mps)


def read_requests(address: int, size: int, mrrs: int) -> list[tuple[int, int]]:
    """Return the MRd requests of a read: boundaries at multiples of MRRS."""
    return cut_at_multiples(address, size, mrrs)


def dword_bytes(address: int, size: int) -> int:
    """Return the bytes of the double words that `[address, address + size)` touches, by counting them."""
    return 4 * len({byte // 4 for byte in range(address, address + size)})


def completions(address: int, size: int, rcb: int, cpl_max: int) -> list[tuple[int, int]]:
    """Return the CplD TLPs that answer one read request, each as long as the rules allow.

    A completion ends at the end of the request or on a multiple of the read completion boundary, and its
    data, in whole double words, never exceeds `cpl_max` (PCIe Base r6.x, sections 2.2.2 and 2.3.1.1).
    """
    if cpl_max < rcb:
        raise ValueError("a completion must be able to reach the next read completion boundary")
    pieces = []
    end = address + size
    start = address
    while start < end:
        longest = start
        dwords = set()
        for byte in range(start, end):
            dwords.add(byte // 4)
            if 4 * len(dwords) > cpl_max:
                break
            if byte + 1 == end or (byte + 1) % rcb == 0:
                longest = byte + 1
        pieces.append((start, longest - start))
        start = longest
    return pieces
