"""Packets to measure with.

Rule: whoever is measured gets the same ones. Every packet has buffers of its own, all at odd addresses, and
these take all odd values modulo a cache line.

Memory holds, one behind the other and each on a page of its own: the plain side (AAD, then text, packet by
packet), the sealed side (ciphertext, then tag), the table for sealing, the table for opening, the keys.
Sealing reads the plain side and writes the sealed one, opening the reverse: both can be repeated for ever.
"""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from ..crypto import backends
from ..crypto.batch import open_batch, seal_batch
from ..crypto.keys import KeyTable
from ..crypto.packet import PACKET

U8 = npt.NDArray[np.uint8]

# IDE's MAC.
TAG_BYTES: Final = 12
PAGE_BYTES: Final = 4096
_LINE_BYTES: Final = 64
# From one packet to the next: at least a few bytes between them, and modulo a cache line twice an odd number,
# so that odd addresses take all odd values.
_GAP_BYTES: Final = 8
_STEP: Final = 38
# The sealed side does not start as the plain one does: a load would wait for a store 4096 bytes away.
_SEALED_START: Final = 1345


@dataclass(frozen=True)
class Shape:
    """A batch of packets that are all alike."""

    key_bits: int
    payload_bytes: int
    aad_bytes: int
    packets: int = 2048
    keys: int = 1
    """Packets use them by turns."""


@dataclass(frozen=True)
class _Layout:
    """Where things lie in memory, in bytes."""

    plain: int
    plain_step: int
    sealed: int
    sealed_step: int
    seal_table: int
    open_table: int
    keys: int
    size: int

    @classmethod
    def of(cls, shape: Shape) -> Self:
        n = shape.packets
        # One byte more where the text behind the AAD would be even.
        plain_step = _step(shape.aad_bytes + shape.aad_bytes % 2 + shape.payload_bytes)
        sealed_step = _step(shape.payload_bytes + shape.payload_bytes % 2 + TAG_BYTES)
        sealed = _page(1 + n * plain_step)
        seal_table = _page(sealed + _SEALED_START + n * sealed_step)
        open_table = _page(seal_table + n * PACKET.itemsize)
        keys = _page(open_table + n * PACKET.itemsize)
        size = _page(keys + shape.keys * shape.key_bits // 8)
        return cls(1, plain_step, sealed + _SEALED_START, sealed_step, seal_table, open_table, keys, size)


def _page(size: int) -> int:
    return -(-size // PAGE_BYTES) * PAGE_BYTES


def _step(size: int) -> int:
    size += _GAP_BYTES
    return size + (_STEP - size) % _LINE_BYTES


class Pool:
    """A batch in memory.

    Parameters
    ----------
    shape : of its packets.
    memory : u1[at least size(shape)], on a page boundary; None for memory of its own.

    Attributes
    ----------
    memory : u1[:], modified in place by whoever is measured.
    seal_packets, open_packets : PACKET[n], in memory at seal_table_at and open_table_at.
    secrets : the keys, in memory at keys_at. table : the same, expanded.
    """

    def __init__(self, shape: Shape, memory: U8 | None = None):
        where = _Layout.of(shape)
        self.shape = shape
        self.memory = _aligned(where.size) if memory is None else memory[: where.size]
        self.seal_table_at, self.open_table_at, self.keys_at = where.seal_table, where.open_table, where.keys
        # Always the same: no time here depends on a value.
        random = np.random.default_rng([shape.key_bits, shape.payload_bytes, shape.aad_bytes, shape.keys])
        self.memory[:] = random.integers(0, 256, where.size, np.uint8)
        key_bytes = shape.key_bits // 8
        rows = self.memory[where.keys : where.keys + shape.keys * key_bytes].reshape(-1, key_bytes)
        self.secrets = [row.tobytes() for row in rows]
        self.table = KeyTable(self.secrets)
        self.seal_packets = self._packets(where, where.seal_table)
        self.open_packets = self._packets(where, where.open_table)
        self.open_packets["text"], self.open_packets["out"] = (
            self.seal_packets["out"],
            self.seal_packets["text"],
        )

    @staticmethod
    def size(shape: Shape) -> int:
        """Return how many bytes of memory a pool needs: whole pages."""
        return _Layout.of(shape).size

    def _packets(self, where: _Layout, at: int) -> npt.NDArray[np.void]:
        shape = self.shape
        index = np.arange(shape.packets)
        packets = self.memory[at : at + shape.packets * PACKET.itemsize].view(PACKET)
        packets["counter"] = 1 + index
        packets["fixed"] = 0
        packets["key"] = index % shape.keys
        packets["aad"] = where.plain + index * where.plain_step
        packets["text"] = packets["aad"] + shape.aad_bytes + shape.aad_bytes % 2
        packets["out"] = where.sealed + index * where.sealed_step
        packets["tag"] = packets["out"] + shape.payload_bytes + shape.payload_bytes % 2
        packets["aad_bytes"] = shape.aad_bytes
        packets["text_bytes"] = shape.payload_bytes
        return packets

    def seal(self, backend: backends.Backend) -> None:
        """Seal the batch."""
        data = self.memory
        seal_batch(self.table, self.seal_packets, data, data, data, TAG_BYTES, backend)

    def open(self, backend: backends.Backend) -> npt.NDArray[np.bool_]:
        """Open the batch; return where tags matched: bool[n]."""
        data = self.memory
        return open_batch(self.table, self.open_packets, data, data, data, TAG_BYTES, backend)

    def spoil(self, name: str) -> None:
        """Change each packet's first byte of `text` or `tag`, so that what should write it is seen to."""
        if name == "tag" or self.shape.payload_bytes:
            self.memory[self.seal_packets[name]] ^= np.uint8(0xFF)

    def nonces(self) -> list[bytes]:
        """Return each packet's nonce."""
        pairs = zip(self.seal_packets["fixed"].tolist(), self.seal_packets["counter"].tolist(), strict=True)
        return [fixed.to_bytes(4, "big") + counter.to_bytes(8, "big") for fixed, counter in pairs]

    def parts(self, name: str, size: int) -> list[bytes]:
        """Return `size` bytes of each packet, from its `aad`, `text`, `out` or `tag` as sealing has them."""
        return [self.memory[at : at + size].tobytes() for at in self.seal_packets[name].tolist()]

    def sealed(self) -> list[bytes]:
        """Return each packet's ciphertext and tag."""
        texts = self.parts("out", self.shape.payload_bytes)
        return [text + tag for text, tag in zip(texts, self.parts("tag", TAG_BYTES), strict=True)]


def _aligned(size: int) -> U8:
    """Return memory on a page boundary."""
    memory = np.empty(size + PAGE_BYTES, np.uint8)
    start = -memory.__array_interface__["data"][0] % PAGE_BYTES
    return memory[start : start + size]
