"""Where requests and completions are cut.

Rule: every piece is named by its index alone, so a cut needs no state. Addresses and sizes are bytes;
boundaries are powers of two.

Writes are cut at multiples of MPS, reads at multiples of MRRS: both divide 4 KiB, so no request crosses
a 4 KiB boundary (PCIe Base r6.x, section 2.2.7). Completions of one request are as long as the completer's
limit allows and end on a Read Completion Boundary, all but the last (PCIe Base r6.x, section 2.3.1.1).
"""

from .._jit import kernel


@kernel
def pieces(address: int, size: int, boundary: int) -> int:
    """Return how many pieces [address, address + size) makes when cut at multiples of boundary; size > 0."""
    floor = -boundary
    span = ((address + size - 1) & floor) - (address & floor)
    # Most transfers are one piece, and a division is slow.
    return span // boundary + 1 if span > 0 else 1


@kernel
def piece(address: int, size: int, boundary: int, k: int) -> tuple[int, int]:
    """Return (address, bytes) of piece k of the same cut."""
    block = (address & -boundary) + k * boundary
    low = max(address, block)
    high = min(address + size, block + boundary)
    return low, high - low


@kernel
def completion_bytes(address: int, rest: int, limit: int, boundary: int) -> int:
    """Return the payload of the next completion at address with `rest` bytes to go.

    The limit holds for whole DW, which is what Length counts, so an unaligned start takes from it.

    Parameters
    ----------
    limit : most payload of one completion, at least boundary (MPS, or what the completer chooses).
    boundary : Read Completion Boundary, 64 or 128.
    """
    if (address & 3) + rest <= limit:
        return rest
    return ((address + limit) & -boundary) - address
