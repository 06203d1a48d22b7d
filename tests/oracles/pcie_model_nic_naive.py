"""The NICs of pcie-bench's analytic model per frame, as sums: 64-bit addresses, MPS 256, MRRS 512.

Source: Neugebauer et al., "Understanding PCIe performance for end host networking", SIGCOMM 2018, section 3,
and its model of the Intel 82599. Header with framing: write 24 B, read request 24 B, completion 20 B.
"""

from fractions import Fraction

WRITE = READ = 24
COMPLETION = 20
REGISTER = 4


def _written(size: int) -> int:
    return size + WRITE * -(-size // 256)


def _answered(size: int) -> int:
    return size + COMPLETION * -(-size // 256)


def transmit(name: str, size: int) -> tuple[Fraction, Fraction]:
    """Return bytes from the device and to it per frame of `size` bytes."""
    up, down = Fraction(READ * -(-size // 512)), Fraction(_answered(size))
    if name == "simple":
        # Doorbell, descriptor, interrupt, status.
        return up + READ + WRITE + 4 + COMPLETION + 4, down + WRITE + 4 + _answered(16) + READ
    # 40 descriptors in 640 B: two requests, three completions. Write-backs of 8.
    up += Fraction(2 * READ, 40) + Fraction(_written(128), 8)
    down += Fraction(640 + 3 * COMPLETION, 40)
    if name == "dpdk":
        return up, down + Fraction(WRITE + REGISTER, 32)
    up += Fraction(WRITE + 4, 32) + COMPLETION + REGISTER
    return up, down + WRITE + REGISTER + READ


def receive(name: str, size: int, corrected: bool) -> tuple[Fraction, Fraction]:
    """Return the same of frames that come in; `corrected`: with the request of the descriptor read."""
    up = Fraction(_written(size) + _written(16) + (READ if corrected else 0))
    down = Fraction(_answered(16))
    if name == "simple":
        return up + WRITE + 4 + COMPLETION + 4, down + WRITE + REGISTER + READ
    down += Fraction(WRITE + REGISTER, 32)
    if name == "kernel":
        up += Fraction(WRITE + 4, 32) + Fraction(COMPLETION + REGISTER, 8)
        down += Fraction(READ, 8)
    return up, down


def gbps(name: str, way: str, size: int, corrected: bool, bytes_per_s: float) -> float:
    """Return Gb/s of frames in each direction."""
    parts = []
    if way != "rx":
        parts.append(transmit(name, size))
    if way != "tx":
        parts.append(receive(name, size, corrected))
    most = max(sum(up for up, _ in parts), sum(down for _, down in parts))
    return 8e-9 * size * bytes_per_s / float(most)
