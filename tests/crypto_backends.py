"""What the tests of AES-GCM share: every backend, key tables, batches with their expected outcome.

Expected bytes come from `cryptography`. A check compares whole arrays, so a byte written outside the packets
shows as well as a wrong one inside.
"""

from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sevpcie_core.crypto import backends
from sevpcie_core.crypto.batch import SCRATCH_BYTES, open_batch, seal_batch
from sevpcie_core.crypto.keys import KeyTable
from sevpcie_core.crypto.packet import PACKET

KEY_BYTES = (16, 32)
TAG_BYTES = (12, 16)

# Once per backend, which the test's id names.
every_backend = pytest.mark.parametrize("backend", backends.available())
every_key_size = pytest.mark.parametrize("key_bytes", KEY_BYTES)
every_tag_size = pytest.mark.parametrize("tag_bytes", TAG_BYTES)

# Where a batch's arrays lie: three arrays; one array with each packet sealed where its text lies; one array
# with a place of its own for what comes out.
LAYOUTS = ("apart", "in place", "one array")


@cache
def table(key_bytes: int, keys: int = 5) -> tuple[KeyTable, tuple[bytes, ...]]:
    """Return a key table and its keys: always the same."""
    rng = np.random.default_rng([key_bytes, keys])
    secrets = tuple(rng.bytes(key_bytes) for _ in range(keys))
    return KeyTable(secrets), secrets


@cache
def cipher(key: bytes) -> AESGCM:
    return AESGCM(key)


def changes(packets) -> int:
    """Return how many packets have another key or shape than the one before; the first one has."""
    kinds = [(p["key"], p["aad_bytes"], p["text_bytes"]) for p in packets]
    return sum(a != b for a, b in zip([None, *kinds], kinds, strict=False))


def nonce(row) -> bytes:
    return int(row["fixed"]).to_bytes(4, "big") + int(row["counter"]).to_bytes(8, "big")


def part(array, start, count) -> bytes:
    return array[start : start + count].tobytes()


@dataclass
class Batch:
    """Packets of given shapes somewhere in arrays of random bytes.

    shapes : (key row, AAD bytes, text bytes) of each packet.
    seed : of everything random: gaps, nonces, bytes.
    nonces : (fixed, counter) of each packet; None for random ones.
    tag_first : whether a packet's tag stands before its text instead of behind it.
    """

    shapes: list[tuple[int, int, int]]
    key_bytes: int = 16
    tag_bytes: int = 12
    layout: str = "apart"
    seed: int = 0
    max_gap: int = 5
    nonces: list[tuple[int, int]] | None = None
    tag_first: bool = False
    packets: np.ndarray = field(init=False)
    aad: np.ndarray = field(init=False)
    text: np.ndarray = field(init=False)
    out: np.ndarray = field(init=False)

    def __post_init__(self):
        self.keys, self.secrets = table(self.key_bytes)
        rng = np.random.default_rng(self.seed)
        n = len(self.shapes)
        self.packets = p = np.zeros(n, PACKET)
        shapes = np.array(self.shapes, np.int64).reshape(n, 3)
        p["key"], p["aad_bytes"], p["text_bytes"] = shapes.T
        p["counter"] = rng.integers(0, 1 << 64, n, np.uint64)
        p["fixed"] = rng.integers(0, 1 << 32, n, np.uint32)
        if self.nonces is not None:
            p["fixed"], p["counter"] = np.array(self.nonces, np.uint64).reshape(n, 2).T
        gaps = rng.integers(0, self.max_gap + 1, (4, n))
        aad, text = shapes[:, 1], shapes[:, 2]
        room = text + self.tag_bytes
        ahead = self.tag_bytes if self.tag_first else 0

        def places(sizes, gap):
            ends = np.cumsum(sizes + gap)
            return ends - sizes, int(ends[-1]) + self.max_gap if n else self.max_gap

        if self.layout == "apart":
            p["aad"], aad_size = places(aad, gaps[0])
            p["text"], text_size = places(text, gaps[1])
            at, out_size = places(room, gaps[2])
            self.aad, self.text, self.out = (
                rng.integers(0, 256, size, np.uint8) for size in (aad_size, text_size, out_size)
            )
        elif self.layout == "in place":
            p["aad"], size = places(aad + gaps[0] + room, gaps[1])
            at = p["aad"] + aad + gaps[0]
            p["text"] = at + ahead
            self.aad = self.text = self.out = rng.integers(0, 256, size, np.uint8)
        else:
            p["aad"], size = places(aad + gaps[0] + text + gaps[1] + room, gaps[2])
            p["text"] = p["aad"] + aad + gaps[0]
            at = p["text"] + text + gaps[1]
            self.aad = self.text = self.out = rng.integers(0, 256, size, np.uint8)
        p["out"] = at + ahead
        p["tag"] = at if self.tag_first else at + text

    def sealed(self) -> np.ndarray:
        """Return `out` as it should be after sealing."""
        out = self.out.copy()
        for p in self.packets:
            sealed = cipher(self.secrets[p["key"]]).encrypt(
                nonce(p),
                part(self.text, p["text"], p["text_bytes"]),
                part(self.aad, p["aad"], p["aad_bytes"]),
            )
            size = int(p["text_bytes"])
            out[p["out"] : p["out"] + size] = np.frombuffer(sealed[:size], np.uint8)
            out[p["tag"] : p["tag"] + self.tag_bytes] = np.frombuffer(
                sealed[size : size + self.tag_bytes], np.uint8
            )
        return out

    def check_seal(self, backend: str) -> None:
        """Seal for real, and compare everything."""
        expected = self.sealed()
        inputs = None if self.out is self.text else (self.aad.copy(), self.text.copy())
        packets = self.packets.copy()
        # The kernel by itself takes packets in the order that they stand in; `seal_batch` may turn it.
        chosen = backends.load(backend)
        arrays = self._copies()
        chosen.seal(*self._tables(), packets, *arrays, self.tag_bytes, np.empty(SCRATCH_BYTES, np.uint8))
        same(arrays[2], expected)
        seal_batch(self.keys, self.packets, self.aad, self.text, self.out, self.tag_bytes, chosen)
        same(self.out, expected)
        assert (self.packets == packets).all()
        if inputs is not None:
            same(self.aad, inputs[0])
            same(self.text, inputs[1])

    def _tables(self):
        return self.keys.round_keys, self.keys.powers, self.keys.rounds

    def _copies(self):
        """Return aad, text and out, copied, as one array if they are one."""
        out = self.out.copy()
        return (out, out, out) if self.out is self.text else (self.aad, self.text, out)

    def turn_round(self) -> None:
        """Make what was sealed the text; plaintext goes elsewhere, or in place."""
        if self.layout == "in place":
            return
        p = self.packets
        p["text"], p["out"] = p["out"].copy(), p["text"].copy()
        if self.layout == "apart":
            self.text, self.out = self.out, self.text
        # No plaintext there any more.
        rng = np.random.default_rng(self.seed + 1)
        for start, count in zip(p["out"].tolist(), p["text_bytes"].tolist(), strict=True):
            self.out[start : start + count] = rng.integers(0, 256, count, np.uint8)

    def check_open(self, backend: str, fails: np.ndarray | None = None) -> None:
        """Open for real what was turned round, and compare everything. `fails`: where tags must not match."""
        expected, tag_matches = self.opened()
        if fails is not None:
            assert (tag_matches == ~fails).all()
        chosen = backends.load(backend)
        arrays = self._copies()
        failed = np.zeros(len(self.packets), np.uint8)
        scratch = np.empty(SCRATCH_BYTES, np.uint8)
        chosen.open(*self._tables(), self.packets, *arrays, self.tag_bytes, scratch, failed)
        self._compare(failed == 0, tag_matches, arrays[2], expected)
        found = open_batch(self.keys, self.packets, self.aad, self.text, self.out, self.tag_bytes, chosen)
        self._compare(found, tag_matches, self.out, expected)

    def _compare(self, found, tag_matches, out, expected) -> None:
        wrong = np.flatnonzero(found != tag_matches)
        assert not len(wrong), f"packets {wrong[:9]}: {self.packets[wrong[:3]]}"
        same(out, expected)

    def opened(self) -> tuple[np.ndarray, np.ndarray]:
        """Return `out` as it should be after opening, and where tags match."""
        out = self.out.copy()
        matches = np.zeros(len(self.packets), bool)
        for i, p in enumerate(self.packets):
            size = int(p["text_bytes"])
            aad = part(self.aad, p["aad"], p["aad_bytes"])
            ciphertext = part(self.text, p["text"], size)
            key = cipher(self.secrets[p["key"]])
            plain = bytes(size)
            if self.tag_bytes == 16:
                try:
                    plain = key.decrypt(nonce(p), ciphertext + part(self.text, p["tag"], 16), aad)
                    matches[i] = True
                except InvalidTag:
                    pass
            else:
                # AESGCM knows no short tags. Counter mode is its own inverse: sealing the ciphertext gives
                # the plaintext, sealing that the tag.
                text = key.encrypt(nonce(p), ciphertext, aad)[:size]
                tag = key.encrypt(nonce(p), text, aad)[size : size + self.tag_bytes]
                matches[i] = tag == part(self.text, p["tag"], self.tag_bytes)
                plain = text if matches[i] else plain
            out[p["out"] : p["out"] + size] = np.frombuffer(plain, np.uint8)
        return out, matches

    def check(self, backend: str) -> None:
        """Seal and open."""
        self.check_seal(backend)
        self.turn_round()
        self.check_open(backend, np.zeros(len(self.packets), bool))


def same(found: np.ndarray, expected: np.ndarray) -> None:
    """Compare arrays; say where they first differ."""
    wrong = np.flatnonzero(found != expected)
    assert not len(wrong), f"{len(wrong)} bytes of {len(found)} differ, from {wrong[0]} to {wrong[-1]}"
