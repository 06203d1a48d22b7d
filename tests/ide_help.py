"""What the tests of the protected stream share: TLPs as bytes, and a plain reader of sealed bytes.

The reader knows prefix, unit, nonce, PCRC and MAC from docs/stream.md, and nothing of the package.
"""

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sevpcie_core.ide import (
    OPENED,
    OpenCode,
    SealCode,
    Stream,
    StreamConfig,
    derived_keys,
    open_stream,
    pair,
    seal_stream,
)
from sevpcie_core.ide.profile import profile_named
from sevpcie_core.tlp.batch import Batch
from sevpcie_core.tlp.codec import pack, parse

SEED = b"tests"


def header(kind: int, dw: int, rest: bytes, *, tc: int = 0, bits: int = 0) -> bytes:
    """Return a header: byte 0, Length, and what follows DW 0. `bits` is or-ed into DW 0 (TH, TD, EP, AT)."""
    word = kind << 24 | tc << 20 | bits | dw % 1024
    return word.to_bytes(4, "big") + rest


def mwr(payload: bytes, address: int = 0x1122334455667000, *, tag: int = 5, **more: Any) -> bytes:
    dw = len(payload) // 4
    enables = 0xFF if dw > 1 else 0x0F
    rest = bytes([1, 0, tag, enables])
    return header(0x60, dw, rest + address.to_bytes(8, "big"), **more) + payload


def mwr32(payload: bytes, address: int = 0x8000_1000, *, tag: int = 5, **more: Any) -> bytes:
    dw = len(payload) // 4
    rest = bytes([1, 0, tag, 0xFF if dw > 1 else 0x0F])
    return header(0x40, dw, rest + address.to_bytes(4, "big"), **more) + payload


def mrd(dw: int = 16, address: int = 0x1122334455667000, *, tag: int = 6, **more: Any) -> bytes:
    rest = bytes([1, 0, tag, 0xFF if dw > 1 else 0x0F])
    return header(0x20, dw, rest + address.to_bytes(8, "big"), **more)


def cpld(payload: bytes, *, tag: int = 6, requester: int = 0x0100, **more: Any) -> bytes:
    rest = (0x0200 << 16 | len(payload) % 4096).to_bytes(4, "big")
    rest += (requester << 16 | tag << 8).to_bytes(4, "big")
    return header(0x4A, len(payload) // 4, rest, **more) + payload


def cpl(status: int = 0, *, tag: int = 6, requester: int = 0x0100, **more: Any) -> bytes:
    rest = (0x0200 << 16 | status << 13 | 4).to_bytes(4, "big") + (requester << 16 | tag << 8).to_bytes(
        4, "big"
    )
    return header(0x0A, 0, rest, **more)


def msg(
    code: int = 0x7E, routing: int = 2, last: bytes = bytes(8), payload: bytes = b"", **more: Any
) -> bytes:
    kind = (0x70 if payload else 0x30) | routing
    return header(kind, len(payload) // 4, bytes([1, 0, 0, code]) + last, **more) + payload


def cfgrd1(**more: Any) -> bytes:
    return header(0x05, 1, bytes.fromhex("0100070f02000010"), **more)


def cuts(tlps: Iterable[bytes]) -> np.ndarray:
    return np.cumsum([0, *map(len, tlps)])


def batch_of(tlps: Sequence[bytes], flit: bool = False) -> Batch:
    return parse(np.frombuffer(b"".join(tlps), np.uint8), cuts(tlps), flit=flit)


def tlps_of(batch: Batch) -> list[bytes]:
    data, offsets = pack(batch)
    return split(data, offsets)


def split(data: np.ndarray, offsets: np.ndarray) -> list[bytes]:
    return [data[a:b].tobytes() for a, b in pairwise(offsets)]


def ends(config: StreamConfig | None = None, **fields: Any) -> tuple[Stream, Stream]:
    """Return two SECURE ends with keys from SEED."""
    return pair(config or StreamConfig(**fields), SEED)


def seal(stream: Stream, tlps: Sequence[bytes], **more: Any) -> tuple[list[bytes], np.ndarray]:
    wire, offsets, status = seal_stream(batch_of(tlps, stream.config.flit), stream, **more)
    return split(wire, offsets), status


def open_(stream: Stream, wire: Sequence[bytes], **more: Any) -> tuple[list[bytes], np.ndarray]:
    batch, status = open_stream(b"".join(wire), stream, cuts(wire), **more)
    assert len(batch.marks) == len(batch.tlps)
    return tlps_of(batch), status


def codes(status: np.ndarray) -> list[str]:
    """Return the names of the codes of a status."""
    kind = OpenCode if status.dtype == OPENED else SealCode
    return [kind(int(code)).name for code in status["code"]]


@dataclass
class Reader:
    """Opens sealed bytes without partial header encryption, the slow way.

    Parameters
    ----------
    key_of : (sub-stream, key set) -> key. link : A holds local prefixes too. iv_fixed : as in the profile.
    """

    key_of: Callable[[int, int], bytes]
    link: bool = False
    iv_fixed: str = "zeros"
    counters: dict[tuple[int, int], int] = field(default_factory=dict)
    units: list[int] = field(default_factory=list)  # TLPs of each unit
    carried: list[tuple[int, int]] = field(default_factory=list)  # (sub-stream, PR_Sent) per sealed TLP
    _open: dict[int, list[tuple[bytes, bytes, bytes]]] = field(default_factory=dict)

    def read(self, wire: Iterable[bytes]) -> list[bytes]:
        """Return the TLPs in the order in which their units close. Raises on anything that is wrong."""
        out = []
        for tlp in wire:
            at = 0
            while tlp[at] >> 4 == 8:
                at += 4
            if tlp[at] != 0x92:
                out.append(tlp)
                continue
            sub, flags = tlp[at + 3] >> 4, tlp[at + 3] & 15
            p, m, k = flags >> 3 & 1, flags >> 2 & 1, flags >> 1 & 1
            self.carried.append((sub, tlp[at + 1]))
            head = at + 4
            while tlp[head] >> 5 == 4:
                head += 4
            size = head + (16 if tlp[head] & 0x20 else 12)
            end = len(tlp) - (12 + 4 * p if m else 0)
            clear = tlp[0 if self.link else at : size]
            plain_head = tlp[:at] + tlp[at + 4 : size]
            unit = self._open.setdefault(sub, [])
            unit.append((clear, plain_head, tlp[size:end]))
            if m:
                out += self._close(sub, k, tlp[end:])
        return out

    def _close(self, sub: int, k: int, trailer: bytes) -> list[bytes]:
        unit = self._open.pop(sub)
        self.units.append(len(unit))
        counter = self.counters.get((sub, k), 1)
        self.counters[sub, k] = counter + 1
        fixed = (sub << 28 if self.iv_fixed == "substream" else 0).to_bytes(4, "big")
        text = b"".join(data for _, _, data in unit) + trailer
        # AESGCM wants tags of 16 bytes, so decrypt, encrypt again, and compare.
        nonce = fixed + counter.to_bytes(8, "big")
        aad = b"".join(clear for clear, _, _ in unit)
        cipher = AESGCM(self.key_of(sub, k))
        stream = cipher.encrypt(nonce, bytes(len(text)), None)[: len(text) - 12]
        plain = bytes(a ^ b for a, b in zip(text[:-12], stream, strict=True))
        assert cipher.encrypt(nonce, plain, aad)[: len(plain) + 12] == text
        content = sum(len(data) for _, _, data in unit)
        if len(plain) > content:
            assert plain[content:] == zlib.crc32(plain[:content]).to_bytes(4, "little")
        out, at = [], 0
        for _, head, data in unit:
            out.append(head + plain[at : at + len(data)])
            at += len(data)
        return out


@cache
def _key(direction: str, sub: int, k: int, generation: int, bits: int) -> bytes:
    return derived_keys(SEED, bits)(direction, sub, k, generation)


def reader(config: StreamConfig, direction: str = "ab", generation: int = 0) -> Reader:
    """Return a Reader of what an end of `ends(config)` sends."""
    profile = profile_named(config.profile)
    return Reader(
        lambda sub, k: _key(direction, sub, k, generation, profile.key_bits),
        config.kind == "link",
        profile.iv_fixed,
    )


def key_of(config: StreamConfig, sub: int, k: int = 0, direction: str = "ab", generation: int = 0) -> bytes:
    """Return a key of `ends(config)`."""
    return _key(direction, sub, k, generation, profile_named(config.profile).key_bits)


def word(sub: int = 0, pr_sent: int = 0, stream_id: int = 1, **flags: int) -> bytes:
    """Return an IDE prefix; flags p, m (default 1), k, t, and reserved for bit 7."""
    bits = {"reserved": 128, "p": 8, "m": 4, "k": 2, "t": 1}
    flags = {"m": 1, **flags}
    return bytes(
        [0x92, pr_sent, stream_id, sub << 4 | sum(bits[name] * value for name, value in flags.items())]
    )


def forge(
    key: bytes, counter: int, tlps: Sequence[bytes], words: Sequence[bytes], pcrc: bytes = b""
) -> list[bytes]:
    """Return the wire images of a unit as somebody who has the key would make it, right or wrong.

    Selective stream, clear headers, no other prefixes. `pcrc` goes behind the payload as it is.
    """
    sizes = [16 if tlp[0] & 0x20 else 12 for tlp in tlps]
    aad = b"".join(w + tlp[:size] for w, tlp, size in zip(words, tlps, sizes, strict=True))
    text = b"".join(tlp[size:] for tlp, size in zip(tlps, sizes, strict=True)) + pcrc
    sealed = AESGCM(key).encrypt(bytes(4) + counter.to_bytes(8, "big"), text, aad)
    out, at = [], 0
    for w, tlp, size in zip(words, tlps, sizes, strict=True):
        end = at + len(tlp) - size
        out.append(w + tlp[:size] + sealed[at:end])
        at = end
    if words[-1][3] & 4:
        out[-1] += sealed[at : at + len(pcrc)] + sealed[len(text) : len(text) + 12]
    return out
