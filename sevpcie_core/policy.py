"""Which requests are protected: SEV memory regions to a decision per request.

Rule: the decision is made once per request and inherited by its split TLPs and its completions. A request
that touches any protected byte is protected whole. Addresses are bytes.

`off` protects nothing, `selective` what lies in protected buffers, `all` every transfer. (The policy
`selective` says which memory; an IDE Selective Stream says which port pair. They are different things.)
"""

from typing import Final

import numpy as np

from ._jit import kernel
from .errors import ConfigError
from .spec import BUFFER_NAMES, REGION
from .stats.draw import draw_u64

POLICIES: Final = ("off", "selective", "all")

_REGION_STREAM: Final = 0x5245474E


@kernel
def _draw_regions(regions: np.ndarray, shares: np.ndarray, seed: int) -> None:
    """Draw `protected` per region: share of its buffer class in 1/2**20.  Modified in place."""
    for i in range(len(regions)):
        bits = draw_u64(seed, _REGION_STREAM, i)
        regions[i]["protected"] = np.int64(bits >> np.uint64(44)) < shares[regions[i]["buffer"]]


@kernel
def _touches(regions: np.ndarray, address: np.ndarray, size: np.ndarray, out: np.ndarray) -> None:
    """Set out[i] if [address, address + size) touches a protected region.  Modified in place."""
    n = len(regions)
    for i in range(len(address)):
        low = 0
        high = n
        while low < high:
            middle = (low + high) >> 1
            if regions[middle]["end"] <= address[i]:
                low = middle + 1
            else:
                high = middle
        out[i] = False
        while low < n and regions[low]["start"] < address[i] + size[i]:
            if regions[low]["protected"]:
                out[i] = True
                break
            low += 1


def draw_map(regions: np.ndarray, shares: dict[str, float], seed: int) -> np.ndarray:
    """Return a region map with decisions.

    Parameters
    ----------
    regions : spec.REGION[n], ascending, without overlap.
    shares : protected share of the buffers of each class, 0..1, by name of `spec.BUFFER_NAMES`.

    Raises
    ------
    ConfigError : regions out of order or overlapping, a share outside 0..1.
    """
    if len(regions) and (
        (regions["start"] >= regions["end"]).any() or (regions["end"][:-1] > regions["start"][1:]).any()
    ):
        raise ConfigError("regions: empty, out of order or overlapping; expected ascending, disjoint ranges")
    scaled = np.zeros(len(BUFFER_NAMES), np.int64)
    for name, share in shares.items():
        if name not in BUFFER_NAMES or not 0 <= share <= 1:
            raise ConfigError(
                f"regions.{name}: {share}; expected a share from 0 to 1 for one of {BUFFER_NAMES}"
            )
        scaled[BUFFER_NAMES.index(name)] = round(share * (1 << 20))
    drawn = regions.astype(REGION)
    _draw_regions(drawn, scaled, seed)
    return drawn


def decide(policy: str, steps: np.ndarray, region_map: np.ndarray) -> np.ndarray:
    """Return bool[n]: which steps are protected.

    Parameters
    ----------
    policy : one of POLICIES.
    steps : structured array with `address` and `bytes`; steps that move nothing have no bytes.
    region_map : from `draw_map`; only `selective` looks at it.

    Raises
    ------
    ConfigError : an unknown policy.
    """
    if policy == "off":
        return np.zeros(len(steps), np.bool_)
    if policy == "all":
        return np.ones(len(steps), np.bool_)
    if policy != "selective":
        raise ConfigError(f"policy: {policy!r}; expected one of {', '.join(POLICIES)}")
    out = np.empty(len(steps), np.bool_)
    _touches(
        region_map,
        np.ascontiguousarray(steps["address"]),
        np.ascontiguousarray(steps["bytes"]),
        out,
    )
    return out
