"""Published vectors: NIST's for AES-GCM, FIPS 197's for AES, and those of the protected link."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import cryptography_vectors
import numpy as np
import pytest
from crypto_backends import KEY_BYTES, TAG_BYTES, every_backend, every_key_size, every_tag_size
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from oracles import gcm_bits

from sevpcie_core.crypto import backends
from sevpcie_core.crypto.batch import AesGcm, open_batch, seal_batch
from sevpcie_core.crypto.keys import MAX_AAD_BYTES, MAX_TEXT_BYTES, KeyTable
from sevpcie_core.crypto.packet import PACKET
from sevpcie_core.errors import IntegrityError

FOLDER = Path(cryptography_vectors.__file__).parent / "ciphers" / "AES" / "GCM"
SPARE = 3


class Vector(NamedTuple):
    """One case of a .rsp file; plaintext None is FAIL."""

    key: bytes
    nonce: bytes
    aad: bytes
    plaintext: bytes | None
    ciphertext: bytes
    tag: bytes


def read(name: str) -> Iterator[Vector]:
    """Yield the cases of one of NIST's files (CAVP, gcmtestvectors)."""
    case: dict[str, str] = {}
    for line in [*(FOLDER / name).read_text().splitlines(), ""]:
        if line.startswith(("#", "[")):
            continue
        if line.strip():
            word, _, value = line.partition("=")
            case[word.strip()] = value.strip()
        elif case:
            plaintext = None if "FAIL" in case else bytes.fromhex(case["PT"])
            rest = (bytes.fromhex(case[word]) for word in ("CT", "Tag"))
            yield Vector(*(bytes.fromhex(case[w]) for w in ("Key", "IV", "AAD")), plaintext, *rest)
            case = {}


@cache
def vectors(direction: str, key_bytes: int) -> tuple[list[Vector], int]:
    """Return the cases that a batch can take, and how many were left out."""
    every = list(read(f"gcm{direction}{8 * key_bytes}.rsp"))
    fit = [
        v
        for v in every
        if len(v.nonce) == 12
        and len(v.tag) in TAG_BYTES
        and len(v.aad) <= MAX_AAD_BYTES
        and len(v.ciphertext) <= MAX_TEXT_BYTES
    ]
    return fit, len(every) - len(fit)


@cache
def key_table(direction: str, key_bytes: int) -> KeyTable:
    return KeyTable([v.key for v in vectors(direction, key_bytes)[0]])


def pack(cases: list[Vector], rows: list[int], texts: list[bytes], room: int):
    """Return packets and one array: AAD, text and `room` bytes of each case, a gap after each."""
    packets = np.zeros(len(cases), PACKET)
    data = bytearray()
    for packet, v, row, text in zip(packets, cases, rows, texts, strict=True):
        packet["key"] = row
        packet["fixed"], packet["counter"] = int.from_bytes(v.nonce[:4]), int.from_bytes(v.nonce[4:])
        packet["aad"], packet["aad_bytes"] = len(data), len(v.aad)
        data += v.aad + bytes(SPARE)
        packet["text"] = packet["out"] = len(data)
        packet["text_bytes"] = len(v.ciphertext)
        packet["tag"] = len(data) + len(v.ciphertext)
        data += text + bytes(room + SPARE)
    return packets, np.frombuffer(data, np.uint8)


@every_backend
@every_tag_size
@every_key_size
def test_nist_encrypt(backend, key_bytes, tag_bytes):
    cases, _ = vectors("EncryptExtIV", key_bytes)
    # A short tag is the beginning of a long one (NIST SP 800-38D, section 7.1, step 6).
    chosen = [(row, v) for row, v in enumerate(cases) if len(v.tag) >= tag_bytes]
    assert len(chosen) == {12: 750, 16: 375}[tag_bytes]
    rows, cases = map(list, zip(*chosen, strict=True))
    packets, data = pack(cases, rows, [v.plaintext for v in cases], tag_bytes)
    table = key_table("EncryptExtIV", key_bytes)
    seal_batch(table, packets, data, data, data, tag_bytes, backends.load(backend))
    for packet, v in zip(packets, cases, strict=True):
        at, tag = packet["out"], packet["tag"]
        assert data[at : at + len(v.ciphertext)].tobytes() == v.ciphertext
        assert data[tag : tag + tag_bytes + SPARE].tobytes() == v.tag[:tag_bytes] + bytes(SPARE)


@every_backend
@every_tag_size
@every_key_size
def test_nist_decrypt(backend, key_bytes, tag_bytes):
    cases, _ = vectors("Decrypt", key_bytes)
    chosen = [(row, v) for row, v in enumerate(cases) if len(v.tag) == tag_bytes]
    rows, cases = map(list, zip(*chosen, strict=True))
    assert len(cases) == 375
    failing = sum(v.plaintext is None for v in cases)
    assert 150 < failing < 225
    packets, data = pack(cases, rows, [v.ciphertext + v.tag for v in cases], 0)
    table = key_table("Decrypt", key_bytes)
    passed = open_batch(table, packets, data, data, data, tag_bytes, backends.load(backend))
    assert int((~passed).sum()) == failing
    for packet, v, good in zip(packets, cases, passed, strict=True):
        assert good == (v.plaintext is not None)
        at = packet["out"]
        expected = bytes(len(v.ciphertext)) if v.plaintext is None else v.plaintext
        assert data[at : at + len(v.ciphertext)].tobytes() == expected


def test_how_many_of_nists_vectors_are_taken():
    # Left out: nonces of other lengths than 96 bits, tags that are not 96 or 128 bits. None for its size.
    for direction in ("EncryptExtIV", "Decrypt"):
        for key_bytes in KEY_BYTES:
            taken, left_out = vectors(direction, key_bytes)
            assert (len(taken), left_out) == (750, 7125)


# FIPS 197, appendix C.1 and C.3.
BLOCK = bytes.fromhex("00112233445566778899aabbccddeeff")
CIPHERS = {
    16: "69c4e0d86a7b0430d8cdb78070b4c55a",
    32: "8ea2b7ca516745bfeafc49904b496089",
}


@pytest.mark.nojit
@every_key_size
def test_the_oracle_is_aes(key_bytes):
    words = gcm_bits.expand(bytes(range(key_bytes)))
    assert gcm_bits.encrypt_block(words, BLOCK).hex() == CIPHERS[key_bytes]


@pytest.mark.nojit
@pytest.mark.parametrize("sizes", [(0, 0), (0, 1), (20, 0), (16, 64), (33, 47), (1, 257), (64, 16)])
@every_key_size
def test_the_oracle_is_gcm(key_bytes, sizes):
    rng = np.random.default_rng([key_bytes, *sizes])
    key, nonce, aad, text = (rng.bytes(n) for n in (key_bytes, 12, *sizes))
    sealed = gcm_bits.seal(key, nonce, aad, text)
    assert sealed == AESGCM(key).encrypt(nonce, text, aad)
    assert gcm_bits.open_sealed(key, nonce, aad, sealed) == text
    assert gcm_bits.open_sealed(key, nonce, aad, sealed[:-4], 12) == text
    assert gcm_bits.open_sealed(key, nonce, aad, sealed[:-1] + bytes([sealed[-1] ^ 1])) is None


# A write and a read request on a Selective IDE stream: prefix and header are AAD, the payload is encrypted.
# Keys 00 01 02 .., counter 1, a fixed field of zero. Made with `cryptography`: the specification's own
# examples are not public.
WRITE = bytes.fromhex("9200010460000010010005ff1122334455667700")
READ = bytes.fromhex("9201011420000010010006ff1122334455667700")
MACS = {
    (16, WRITE): "798b99a698262f5285e18cff",
    (32, WRITE): "308d5d74fd46fabaa3e2a53d",
    (16, READ): "be5e6273468b6f9125ace001",
    (32, READ): "a067c48ac37840926279603b",
}


@pytest.mark.nojit
@every_backend
@pytest.mark.parametrize(("aad", "size"), [(WRITE, 64), (READ, 0)], ids=["write", "read"])
@every_key_size
def test_protected_requests(backend, key_bytes, aad, size, monkeypatch):
    monkeypatch.setattr(backends, "default", lambda: backends.load(backend))
    gcm = AesGcm(bytes(range(key_bytes)))
    nonce = bytes(4) + (1).to_bytes(8, "big")
    payload = bytes(range(size))
    sealed = gcm.seal(nonce, aad, payload)
    assert sealed[size:].hex() == MACS[key_bytes, aad]
    assert sealed == gcm_bits.seal(bytes(range(key_bytes)), nonce, aad, payload, 12)
    assert gcm.open(nonce, aad, sealed) == payload
    with pytest.raises(IntegrityError):
        gcm.open(nonce, aad[:-1] + b"\1", sealed)
