"""What both ends of a stream agree on, and who each is.

Rule: a configuration is frozen and checked when it is made; kernels see it as one SETTINGS row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from .. import spec
from ..errors import ConfigError
from .header_encryption import MODES
from .layout import SETTINGS
from .profile import Profile, profile_named

Kind = Literal["selective", "link"]

_POSTED: Final = spec.SUB_STREAM_POSTED
_NON_POSTED: Final = spec.SUB_STREAM_NON_POSTED
_COMPLETION: Final = spec.SUB_STREAM_COMPLETION
_SUBS: Final = spec.IDE_SUB_STREAMS


@dataclass(frozen=True)
class StreamConfig:
    """What both ends of a stream agree on, and who this end is.

    Parameters
    ----------
    profile : a Profile or the name of one.
    stream_id : 0..255.
    kind : "selective" (between two ports, through switches) or "link".
    tc : traffic class, 0..7.
    pcrc : carry a PCRC where there is content.
    aggregation : most TLPs of a unit, 1, 2, 4 or 8, for (non-posted, posted, completions).
    accept_aggregation : the same order: whether this receiver supports aggregation. None: where it aggregates
        itself.
    tolerate_eighth : take an eighth M = 0 in a row. A ninth never.
    phe : mode of partial header encryption, 0 (off) to 4.
    flit : flit mode.
    config_requests : a Selective stream takes configuration requests of type 1.
    tee_limited : only TLPs with T = 1.
    requester, partner : IDs of this port and of the other end, for the stream's own messages.
    segment : flit mode: requester segment of OHC-C.

    Raises ConfigError for a value out of range.
    """

    profile: Profile | str = "pcie-ide"
    stream_id: int = 1
    kind: Kind = "selective"
    tc: int = 0
    pcrc: bool = False
    aggregation: tuple[int, int, int] = (1, 1, 1)
    accept_aggregation: tuple[bool, bool, bool] | None = None
    tolerate_eighth: bool = False
    phe: int = 0
    flit: bool = False
    config_requests: bool = False
    tee_limited: bool = False
    requester: int = 0x0100
    partner: int = 0x0000
    segment: int = 0

    def __post_init__(self) -> None:
        """Check every field."""
        profile_named(self.profile)
        for name, low, high in (
            ("stream_id", 0, 255),
            ("tc", 0, 7),
            ("phe", MODES[0], MODES[-1]),
            ("requester", 0, 0xFFFF),
            ("partner", 0, 0xFFFF),
            ("segment", 0, 0xFF),
        ):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or not low <= value <= high:
                raise ConfigError(f"{name}: {value!r}; expected {low} to {high}")
        if self.kind not in ("selective", "link"):
            raise ConfigError(f"kind: {self.kind!r}; expected 'selective' or 'link'")
        sizes: Sequence[int] = self.aggregation
        if not _three(sizes) or not set(sizes) <= set(spec.IDE_AGGREGATIONS):
            raise ConfigError(f"aggregation: {self.aggregation!r}; expected three of {spec.IDE_AGGREGATIONS}")
        if self.accept_aggregation is not None and not _three(self.accept_aggregation):
            raise ConfigError(f"accept_aggregation: {self.accept_aggregation!r}; expected three or None")

    def settings(self) -> np.ndarray:
        """Return SETTINGS[1], what kernels see of all this."""
        profile = profile_named(self.profile)
        accepts = self.accept_aggregation or tuple(n > 1 for n in self.aggregation)
        row = np.zeros(1, SETTINGS)
        most_open = spec.IDE_MAX_OPEN + (1 if self.tolerate_eighth else 0)
        # Written (non-posted, posted, completions), kept by sub-stream.
        for place, sub in enumerate((_NON_POSTED, _POSTED, _COMPLETION)):
            row["unit_tlps"] |= np.uint32(self.aggregation[place] << 8 * sub)
            row["open_tlps"] |= np.uint32((most_open if accepts[place] else 0) << 8 * sub)
        row["hard_limit"] = profile.hard_limit
        row["link"] = self.kind == "link"
        row["substream_iv"] = profile.iv_fixed == "substream"
        for name in ("stream_id", "tc", "pcrc", "phe", "flit", "config_requests", "tee_limited"):
            row[name] = getattr(self, name)
        for name in ("requester", "partner", "segment"):
            row[name] = getattr(self, name)
        row.flags.writeable = False
        return row


def _three(values: object) -> bool:
    return isinstance(values, list | tuple) and len(values) == _SUBS
