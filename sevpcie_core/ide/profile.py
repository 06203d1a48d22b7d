"""What a kind of protected stream is: key size, fixed field of the nonce, limits.

Rule: everything about the cipher that the standard leaves open, or that no public text makes sure, is a field
here. Which of the two profiles is the standard's is never blurred.
"""

from dataclasses import dataclass
from typing import Final, Literal

from .. import spec
from ..errors import ConfigError

IvFixed = Literal["zeros", "substream"]

# The last value that a counter may take: the next one still fits in 64 bits, so it can never wrap to an old
# one.
LAST_COUNTER: Final = (1 << 64) - 2
# Where `remedy` says "rotate" (ours; the standard leaves refreshing to policy).
ROTATE_FROM: Final = 1 << 63


@dataclass(frozen=True)
class Profile:
    """How a stream seals.

    Parameters
    ----------
    name : for people.
    key_bits : 128 or 256.
    mac_bytes : 12.
    iv_fixed : the first four bytes of the nonce: zeros, or the sub-stream in their top four bits. Likely
        zeros: sources disagree.
    soft_limit : counter from which on `Stream.remedy` asks for a new key.
    hard_limit : last counter that a key may seal.

    Raises ConfigError for a value out of range.
    """

    name: str
    key_bits: int
    mac_bytes: int = spec.IDE_MAC_BYTES
    iv_fixed: IvFixed = "zeros"
    soft_limit: int = ROTATE_FROM
    hard_limit: int = LAST_COUNTER

    def __post_init__(self) -> None:
        """Check every field."""
        if self.key_bits not in spec.AES_ROUNDS:
            raise ConfigError(f"key_bits: {self.key_bits}; expected one of {sorted(spec.AES_ROUNDS)}")
        if self.mac_bytes != spec.IDE_MAC_BYTES:
            raise ConfigError(f"mac_bytes: {self.mac_bytes}; expected {spec.IDE_MAC_BYTES}")
        if self.iv_fixed not in ("zeros", "substream"):
            raise ConfigError(f"iv_fixed: {self.iv_fixed!r}; expected 'zeros' or 'substream'")
        if not spec.IDE_FIRST_COUNTER <= self.soft_limit <= self.hard_limit <= LAST_COUNTER:
            raise ConfigError(
                f"soft_limit, hard_limit: {self.soft_limit}, {self.hard_limit}; "
                f"expected {spec.IDE_FIRST_COUNTER} <= soft <= hard <= {LAST_COUNTER}"
            )


PROFILES: Final = {
    # PCIe Base r6.x, section 6.33.3: AES-GCM with 256-bit keys and a 96-bit MAC, the only algorithm it has.
    "pcie-ide": Profile("pcie-ide", 256),
    # A project profile: no public document defines AES-128 for PCIe.
    "sev-pcie": Profile("sev-pcie", 128),
}


def profile_named(profile: "Profile | str") -> Profile:
    """Return a profile by its name, or the one given. Raises ConfigError for an unknown name."""
    if isinstance(profile, Profile):
        return profile
    try:
        return PROFILES[profile]
    except KeyError:
        raise ConfigError(f"profile: {profile!r}; expected one of {sorted(PROFILES)}") from None
