"""The portable backend does the same whatever the secrets are: same lines, same places in memory.

Interpreted, with every executed line and every index into an array noted: a condition, an index or a loop
that depends on a key, a plaintext or a tag makes two runs differ. What a compiler makes of it is not seen;
the kernels leave it nothing to branch on.
"""

import json
import os
import subprocess
import sys

import pytest

TRACE = """
import hashlib, json, sys
import numpy as np
from sevpcie_core.crypto import bitslice, portable
from sevpcie_core.crypto.batch import SCRATCH_BYTES
from sevpcie_core.crypto.keys import KeyTable
from sevpcie_core.crypto.packet import PACKET

FILES = {bitslice.__file__, portable.__file__}
notes = []


class Watched(np.ndarray):
    def __getitem__(self, index):
        notes.append(str(index))
        return super().__getitem__(index)

    def __setitem__(self, index, value):
        notes.append("=" + str(index))
        super().__setitem__(index, value)


def watch(array):
    return array.view(Watched)


def local(frame, event, argument):
    notes.append(f"{frame.f_code.co_name}:{frame.f_lineno}:{event}")
    return local


def trace(frame, event, argument):
    return local(frame, event, argument) if frame.f_code.co_filename in FILES else None


def run(seed, key_bytes, aad_bytes, text_bytes, opening, wrong):
    rng = np.random.default_rng(seed)
    # Only secrets differ: key, text, tag; also nonces, which nothing should depend on either.
    keys = KeyTable([rng.bytes(key_bytes)])
    packets = np.zeros(2, PACKET)
    step = aad_bytes + text_bytes + 12
    packets["aad"] = [0, step]
    packets["text"] = packets["out"] = packets["aad"] + aad_bytes
    packets["tag"] = packets["text"] + text_bytes
    packets["aad_bytes"], packets["text_bytes"] = aad_bytes, text_bytes
    packets["counter"] = rng.integers(0, 1 << 64, 2, np.uint64)
    packets["fixed"] = rng.integers(0, 1 << 32, 2, np.uint32)
    data = rng.integers(0, 256, 2 * step, np.uint8)
    scratch = np.zeros(SCRATCH_BYTES, np.uint8)
    failed = np.zeros(2, np.uint8)
    common = keys.round_keys, keys.powers, keys.rounds, packets
    if opening:
        portable.seal(*common, data, data, data, 12, scratch)
        if wrong is not None:
            data[packets["tag"][0] + wrong // 8] ^= 1 << wrong % 8
    notes.clear()
    arrays = [watch(a) for a in (keys.round_keys, keys.powers, packets, data, scratch, failed)]
    sys.settrace(trace)
    try:
        if opening:
            portable.open(*arrays[:2], keys.rounds, arrays[2], *[arrays[3]] * 3, 12, *arrays[4:])
        else:
            portable.seal(*arrays[:2], keys.rounds, arrays[2], *[arrays[3]] * 3, 12, arrays[4])
    finally:
        sys.settrace(None)
    assert bool(failed[0]) == (wrong is not None)
    return len(notes), hashlib.sha256("|".join(notes).encode()).hexdigest()


print(json.dumps([run(*case) for case in json.loads(sys.argv[1])]))
"""


def traces(cases: list[tuple[object, ...]]) -> list[tuple[int, str]]:
    """Return the number of notes and their digest, of each (seed, key, AAD, text, opening, wrong bit)."""
    done = subprocess.run(
        [sys.executable, "-c", TRACE, json.dumps(cases)],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [tuple(pair) for pair in json.loads(done.stdout)]


@pytest.mark.parametrize("key_bytes", [16, 32])
@pytest.mark.parametrize("opening", [False, True], ids=["seal", "open"])
def test_secrets_leave_no_trace(key_bytes, opening):
    found = traces([(seed, key_bytes, 20, 37, opening, None) for seed in range(4)])
    assert found[0][0] > 10_000
    assert len(set(found)) == 1


def test_where_a_tag_is_wrong_leaves_no_trace():
    found = traces([(seed, 16, 20, 37, True, bit) for seed, bit in enumerate([0, 7, 40, 63, 64, 95])])
    assert len(set(found)) == 1


def test_sizes_do():
    # What may be told, and is: so the notes do tell.
    sizes = [(20, 37), (20, 38), (21, 37), (20, 16), (0, 37)]
    found = traces([(1, 16, *size, False, None) for size in sizes])
    assert len(set(found)) == len(sizes)
