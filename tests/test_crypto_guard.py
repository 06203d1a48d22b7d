"""No kernel reads or writes outside the arrays it is given.

Every array of a call lies between two inaccessible pages, once ending at the second, once beginning behind
the first. An access outside ends the process, so each backend runs in a process of its own.
"""

import ctypes
import subprocess
import sys
from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
from crypto_backends import KEY_BYTES, TAG_BYTES, cipher, every_backend, nonce, table
from fenced import Fenced

from sevpcie_core.crypto import backends
from sevpcie_core.crypto.batch import SCRATCH_BYTES
from sevpcie_core.crypto.packet import PACKET

TEXT_SIZES = (
    *range(84),
    *range(110, 146),
    *range(239, 275),
    *range(300, 340, 3),
    511,
    512,
    513,
    1040,
    4095,
)
TEXT_SIZES += (4096, 4097, 4111, 4112)
AAD_SIZES = (*range(84), *range(120, 136), 255, 256, 257, 448, 495, 496, 497, 511, 512)
FEW_TEXTS = (0, 1, 15, 16, 17, 64, 65, 256, 4112)
FEW_AADS = (0, 1, 16, 20, 33, 48, 49, 512)


def shapes() -> Iterator[tuple[int, int]]:
    """Yield (AAD bytes, text bytes)."""
    yield from ((aad, text) for text in TEXT_SIZES for aad in (0, 20))
    yield from ((aad, text) for aad in AAD_SIZES for text in (0, 37))
    yield from product(FEW_AADS, FEW_TEXTS)


# Packets of a call: enough for two groups of four and one more.
MOST = 9


class Fences:
    """One piece of memory for each argument of a kernel."""

    def __init__(self, backend: str):
        self.backend = backends.load(backend)
        self.packets = Fenced(MOST * PACKET.itemsize)
        self.aad = Fenced(MOST * 512)
        self.text = Fenced(MOST * (4112 + 16))
        self.out = Fenced(MOST * (4112 + 16))
        self.failed = Fenced(MOST)
        self.scratch = Fenced(SCRATCH_BYTES)
        self.tables = {
            n: (Fenced(table(n)[0].round_keys.nbytes), Fenced(table(n)[0].powers.nbytes)) for n in KEY_BYTES
        }
        self.rng = np.random.default_rng(1)

    def check(self, key_bytes, tag_bytes, count, aad_bytes, text_bytes, tag_first, at_end) -> None:
        """Seal and open `count` packets that fill the arrays from end to end."""
        keys, secrets = table(key_bytes)
        # A row at the end of its table, too.
        row = len(keys) - 1 if at_end else 0
        fences = self.tables[key_bytes]
        round_keys, powers = fences[0].put(keys.round_keys, at_end), fences[1].put(keys.powers, at_end)
        packets = np.zeros(count, PACKET)
        step = text_bytes + tag_bytes
        order = np.arange(count)
        packets["key"], packets["counter"], packets["fixed"] = row, order + 1, 0x80000000
        packets["aad"], packets["aad_bytes"] = order * aad_bytes, aad_bytes
        packets["text"], packets["text_bytes"] = order * text_bytes, text_bytes
        packets["out"] = order * step + (tag_bytes if tag_first else 0)
        packets["tag"] = order * step + (0 if tag_first else text_bytes)
        aad = self.aad.take(count * aad_bytes, at_end)
        text = self.text.take(count * text_bytes, at_end)
        out = self.out.take(count * step, at_end)
        scratch = self.scratch.take(SCRATCH_BYTES, at_end)
        aad[:] = self.rng.integers(0, 256, len(aad), np.uint8)
        text[:] = plain = self.rng.integers(0, 256, len(text), np.uint8)
        common = round_keys, powers, keys.rounds
        here = self.packets.put(packets, at_end)
        # Equal packets, which these are, may have a way of their own.
        alike = self.backend.seal_alike is not None and self.rng.random() < 0.5
        seal = self.backend.seal_alike if alike else self.backend.seal
        seal(*common, here, aad, text, out, tag_bytes, scratch)
        for i, packet in enumerate(packets):
            expected = cipher(secrets[row]).encrypt(
                nonce(packet),
                plain[i * text_bytes : (i + 1) * text_bytes].tobytes(),
                aad[i * aad_bytes : (i + 1) * aad_bytes].tobytes(),
            )
            ciphertext = out[packet["out"] : packet["out"] + text_bytes].tobytes()
            tag = out[packet["tag"] : packet["tag"] + tag_bytes].tobytes()
            assert ciphertext + tag == expected[:step]

        # Back: what was `out` is read, `text` is written. The last packet fails and is wiped.
        packets["text"], packets["out"] = packets["out"].copy(), packets["text"].copy()
        here = self.packets.put(packets, at_end)
        out[packets["tag"][-1]] ^= 1
        failed = self.failed.take(count, at_end)
        failed[:] = 0
        text[:] = 0xA5
        unseal = self.backend.open_alike if alike else self.backend.open
        unseal(*common, here, aad, out, text, tag_bytes, scratch, failed)
        assert failed.tolist() == [0] * (count - 1) + [1]
        plain[(count - 1) * text_bytes :] = 0
        assert text.tobytes() == plain.tobytes()


def run(backend: str) -> None:
    """Check everything; the number of calls goes to standard output."""
    fences = Fences(backend)
    calls = 0
    for (aad, text), several, at_end in product(shapes(), (False, True), (True, False)):
        count = int(fences.rng.integers(2, MOST + 1)) if several else 1
        key_bytes, tag_bytes = int(fences.rng.choice(KEY_BYTES)), int(fences.rng.choice(TAG_BYTES))
        fences.check(key_bytes, tag_bytes, count, aad, text, fences.rng.random() < 0.5, at_end)
        calls += 1
    print(calls)


def child(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=False)


@every_backend
def test_nothing_outside_is_touched(backend):
    done = child(backend)
    assert done.returncode == 0, f"{backend} ended with {done.returncode}\n{done.stderr}"
    assert int(done.stdout) == 4 * len(list(shapes()))


@pytest.mark.parametrize("side", ["before", "behind"])
def test_the_fence_holds(side):
    # SIGSEGV, or what a handler of it makes of it.
    done = child("--" + side)
    assert done.returncode != 0
    assert "inside" in done.stdout
    assert "outside" not in done.stdout


def step_over(side: str) -> None:
    """Touch a byte inside the fence, then one outside."""
    fenced = Fenced(1)
    array = fenced.take(16, side == "behind")
    address = array.ctypes.data + (16 if side == "behind" else -1)
    array[0] = array[-1] = 1
    print("inside", flush=True)
    ctypes.c_char.from_address(address).value  # noqa: B018
    print("outside", flush=True)


if __name__ == "__main__":
    name = sys.argv[1]
    if name.startswith("--"):
        step_over(name.removeprefix("--"))
    else:
        run(name)
