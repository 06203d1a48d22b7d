"""The protected stream: PCIe IDE as bytes. docs/stream.md says what it does.

Rule: everything public is named here; kernels and arrays of the inside are not.
"""

from .config import StreamConfig
from .inspect import SealedParts, open_once, seal_once
from .layout import MARK, OPENED, SEALED, OpenCode, SealCode, Slot
from .open import Opened, open_stream
from .pairs import derived_keys, pair, refresh
from .profile import PROFILES, Profile
from .seal import seal_stream
from .states import Error, Event, Reason, State
from .stream import Stream

__all__ = [
    "MARK",
    "OPENED",
    "PROFILES",
    "SEALED",
    "Error",
    "Event",
    "OpenCode",
    "Opened",
    "Profile",
    "Reason",
    "SealCode",
    "SealedParts",
    "Slot",
    "State",
    "Stream",
    "StreamConfig",
    "derived_keys",
    "open_once",
    "open_stream",
    "pair",
    "refresh",
    "seal_once",
    "seal_stream",
]
