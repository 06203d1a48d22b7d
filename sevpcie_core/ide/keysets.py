"""The keys of one half of a stream: six slots, by key set and sub-stream.

Rule: a key enters a slot once, is overwritten when the slot is left, and its digest stays for ever. Round
keys exist in one place, the arrays of `KeySlots`; Python's own copy of the bytes is the caller's.
"""

import hashlib
from typing import Final

import numpy as np

from .. import spec
from ..crypto.keys import POWERS, ROUND_KEYS, SPARE_POWERS, KeyTable
from ..errors import MisuseError
from .layout import SLOT, SLOTS, Slot

_SUBS: Final = spec.IDE_SUB_STREAMS


class KeySlots(KeyTable):
    """A key table whose rows come and go: row = key set * 3 + sub-stream. A row without a key is zeros."""

    def __init__(self, key_bits: int):
        self.key_bits = key_bits
        self.rounds = spec.AES_ROUNDS[key_bits]
        self.round_keys = np.zeros((SLOTS, ROUND_KEYS, spec.AES_BLOCK_BYTES), np.uint8)
        self.powers = np.zeros((SLOTS, POWERS + SPARE_POWERS, spec.AES_BLOCK_BYTES), np.uint8)

    def put(self, row: int, expanded: KeyTable) -> None:
        """Copy the one key of another table into a row."""
        self.round_keys[row] = expanded.round_keys[0]
        self.powers[row] = expanded.powers[0]

    def wipe(self, row: int) -> None:
        """Overwrite a row with zeros."""
        self.round_keys[row] = 0
        self.powers[row] = 0


class SeenKeys:
    """Digests of every key that a stream was ever given, in any slot of either half."""

    def __init__(self) -> None:
        self._digests: set[bytes] = set()

    def add(self, key: bytes) -> None:
        """Remember a key. Raises MisuseError for one seen before: its counters would start again."""
        digest = hashlib.sha256(key).digest()
        if digest in self._digests:
            raise MisuseError("this stream was given this key before: a key is for one slot, once")
        self._digests.add(digest)


class HalfKeys:
    """Slots of one half, transmit or receive.

    Attributes
    ----------
    table : KeySlots. slots : SLOT[6], which kernels read and whose counters they advance.
    """

    def __init__(self, key_bits: int):
        self.table = KeySlots(key_bits)
        self.slots = np.zeros(SLOTS, SLOT)
        self._generation = 0

    def program(self, sub_stream: int, key_set: int, expanded: KeyTable) -> None:
        """Put a fresh key into a slot that is not in use. The counter starts at 1."""
        row = key_set * _SUBS + sub_stream
        self.table.put(row, expanded)
        self.slots[row]["counter"] = spec.IDE_FIRST_COUNTER
        self.slots[row]["state"] = Slot.PROGRAMMED

    def state(self, sub_stream: int, key_set: int) -> Slot:
        """Return what a slot holds."""
        return Slot(int(self.slots[key_set * _SUBS + sub_stream]["state"]))

    def all_in(self, key_set: int, state: Slot) -> bool:
        """Return whether all three slots of a key set are in a state."""
        return all(self.state(sub_stream, key_set) is state for sub_stream in range(_SUBS))

    def go(self, key_set: int) -> None:
        """Start the three slots of a key set."""
        self._generation += 1
        for sub_stream in range(_SUBS):
            row = key_set * _SUBS + sub_stream
            self.slots[row]["generation"] = self._generation
            self.slots[row]["state"] = Slot.STARTED

    def leave(self, key_set: int, states: tuple[Slot, ...], state: Slot) -> None:
        """Take keys of a key set away: its slots that are in one of `states` are now in `state`."""
        for sub_stream in range(_SUBS):
            row = key_set * _SUBS + sub_stream
            if self.slots[row]["state"] in states:
                self.slots[row]["state"] = state
        self.wipe_unused()

    def wipe_unused(self) -> None:
        """Overwrite the keys of all slots that were left, by a kernel too."""
        for row in range(SLOTS):
            if self.slots[row]["state"] not in (Slot.PROGRAMMED, Slot.STARTED):
                self.table.wipe(row)

    def forget(self) -> None:
        """Overwrite all keys: every slot is EMPTY."""
        self.slots["state"] = Slot.EMPTY
        self.slots["counter"] = 0
        self.wipe_unused()


def expand(key: bytes) -> KeyTable:
    """Return a key, expanded: a table of one row."""
    return KeyTable([key])
