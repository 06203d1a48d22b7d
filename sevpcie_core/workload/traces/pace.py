"""The Ethernet line in front of a NIC: how closely frames can follow each other.

Rule: a frame occupies the line for its bytes and LINE_OVERHEAD more; loads and rates of this package count
all of them.
"""

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError, MisuseError

# IEEE 802.3, 3.1.1 and 4.4.2: preamble and start delimiter 8, frame check sequence 4, interpacket gap 12
# bytes.
LINE_OVERHEAD = 8 + 4 + 12
# IEEE 802.3, 3.2.8: 64 bytes with the frame check sequence; shorter ones are padded.
MIN_FRAME = 60

LONG_AGO = -(1 << 62)
"""A time, ps, before any frame."""


def occupancy_ps(sizes: NDArray[np.int64], rate_bps: int) -> NDArray[np.int64]:
    """Return how long each frame occupies the line.

    Parameters: sizes: int64[n], bytes, Ethernet header included, FCS not. rate_bps: line rate, 1 or more.
    Returns: int64[n], ps, rounded up per frame (exact at 100, 200, 400 and 800 Gb/s).
    """
    if rate_bps < 1:
        raise ConfigError(f"line rate {rate_bps}; expected 1 b/s or more")
    bits = (np.maximum(sizes, MIN_FRAME) + LINE_OVERHEAD) * 8
    # ps per bit as a fraction in lowest terms: products stay small for the rates that exist.
    divisor = int(np.gcd(10**12, rate_bps))
    up, down = 10**12 // divisor, rate_bps // divisor
    if bits.size and int(bits.max()) * up > np.iinfo(np.int64).max - down:
        raise ConfigError(f"line rate {rate_bps}; expected a rate at which a frame takes less than 53 days")
    return -((-bits * up) // down)


def pace_line(
    times_ps: NDArray[np.int64], sizes: NDArray[np.int64], rate_bps: int, behind_ps: int = LONG_AGO
) -> NDArray[np.int64]:
    """Space recorded arrivals of one direction as a line of `rate_bps` would.

    Parameters: times_ps: int64[n], ps, not falling. sizes, rate_bps: as `occupancy_ps`. behind_ps: when the
    last frame before them came.
    Returns: int64[n], ps: A[i] = max(times[i], A[i-1] + occupancy[i]); no frame is earlier than recorded.
    Raises: MisuseError: different lengths. ConfigError: an impossible rate.
    """
    if times_ps.shape != sizes.shape:
        raise MisuseError(f"{times_ps.size} times and {sizes.size} sizes; expected one of each per frame")
    # With S the running sum of occupancies, A[i] = S[i] + max over j <= i of (A[-1], times[j] - S[j]).
    total = np.cumsum(occupancy_ps(sizes, rate_bps))
    return total + np.maximum(np.maximum.accumulate(times_ps - total), behind_ps)
