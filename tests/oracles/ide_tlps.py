"""TLPs for the protected stream, as raw bytes: builders, strategies for Hypothesis, and a pair of ends with
their oracle.

Rule: headers are put together here by hand, so that neither the package's codec nor its stream has a say in
them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import strategies as st

from sevpcie_core.crypto.keys import KeyTable
from sevpcie_core.ide import (
    OpenCode,
    Reason,
    SealCode,
    Stream,
    StreamConfig,
    derived_keys,
    open_stream,
    seal_stream,
)
from sevpcie_core.ide.keysets import expand
from sevpcie_core.ide.profile import profile_named
from sevpcie_core.tlp.codec import pack, parse

from .ide_bytes import Receiver, Released, Rules, Sender

SEED = b"bytes against bytes"
HIGH_PAGE = 0x1122_3344_5566_7
LOW_PAGE = 0x8000_1


def dw0(kind: int, length: int, *, tc: int = 0, ep: int = 0, th: int = 0, td: int = 0, at: int = 0) -> bytes:
    word = kind << 24 | tc << 20 | th << 16 | td << 15 | ep << 14 | at << 10 | length % 1024
    return word.to_bytes(4, "big")


def request(
    kind: int, dw: int, page: int, offset: int, *, tag: int, be: int, ph: int = 0, **bits: int
) -> bytes:
    """Return the header of a memory request; `offset` is in DW."""
    address = page << 12 | offset << 2 | ph
    size = 8 if kind & 0x20 else 4
    return dw0(kind, dw, **bits) + bytes([1, 0, tag, be]) + address.to_bytes(size, "big")


def memory(
    kind: int,
    data: bytes = b"",
    *,
    dw: int = 0,
    page: int | None = None,
    offset: int = 0,
    tag: int = 5,
    **bits: int,
) -> bytes:
    """Return a read, a write, an atomic; `dw` for those without data."""
    dw = dw or len(data) // 4
    page = (HIGH_PAGE if kind & 0x20 else LOW_PAGE) if page is None else page
    atomic = 0x4C <= kind & ~0x20 <= 0x4E
    be = bits.pop("be", 0x0F if dw == 1 or atomic else 0xFF)
    return request(kind, dw, page, offset, tag=tag, be=be, **bits) + data


def mwr(data: bytes, **more: Any) -> bytes:
    return memory(0x60, data, **more)


def mwr32(data: bytes, **more: Any) -> bytes:
    return memory(0x40, data, **more)


def mrd(dw: int = 16, **more: Any) -> bytes:
    return memory(0x20, dw=dw, **more)


def mrd32(dw: int = 16, **more: Any) -> bytes:
    return memory(0x00, dw=dw, **more)


def cpld(data: bytes, *, tag: int = 6, **bits: int) -> bytes:
    head = dw0(0x4A, len(data) // 4, **bits) + (0x0200_0000 | len(data) % 4096).to_bytes(4, "big")
    return head + bytes([1, 0, tag, 0]) + data


def cpl(status: int = 0, *, tag: int = 6, **bits: int) -> bytes:
    return dw0(0x0A, 0, **bits) + (0x0200_0004 | status << 13).to_bytes(4, "big") + bytes([1, 0, tag, 0])


def msg(
    code: int = 0x7E,
    *,
    routing: int = 2,
    last: bytes = bytes(8),
    data: bytes = b"",
    requester: int = 0x0100,
    **bits: int,
) -> bytes:
    kind = (0x70 if data else 0x30) | routing
    return dw0(kind, len(data) // 4, **bits) + requester.to_bytes(2, "big") + bytes([0, code]) + last + data


def cfgrd1(*, register: int = 4, **bits: int) -> bytes:
    return dw0(0x05, 1, **bits) + bytes([1, 0, 7, 0x0F, 2, 0]) + (register << 2).to_bytes(2, "big")


def iord(**bits: int) -> bytes:
    return dw0(0x02, 1, **bits) + bytes([1, 0, 8, 0x0F, 0, 0, 0x10, 0])


def prefix(kind: int, word: int = 1) -> bytes:
    return bytes([kind]) + word.to_bytes(3, "big")


VENDOR_LOCAL, TPH, PASID, VENDOR_END = 0x8E, 0x90, 0x91, 0x9E


def filler(count: int, seed: int = 0) -> bytes:
    return bytes((seed * 37 + i * 7 + (i >> 8)) & 0xFF for i in range(count))


# --- For Hypothesis --------------------------------------------------------------------------------------

KINDS = (
    *(0x60, 0x60, 0x40, 0x20, 0x20, 0x00, 0x4A, 0x4A, 0x0A, 0x32),  # those that matter most
    *(0x21, 0x4C, 0x6C, 0x4D, 0x6D, 0x4E, 0x6E, 0x5B, 0x7B, 0x05, 0x72, 0x30, 0x02, 0x34),
)
_lengths = st.sampled_from((1, 1, 2, 3, 4, 5, 8, 16, 31, 32, 33, 64, 128, 255, 256, 257, 512, 1024))


@st.composite
def tlps(draw: Any, kinds: Sequence[int] = KINDS) -> bytes:
    """Draw a well-formed non-flit TLP without IDE prefix. Traffic class 0, mostly; some have prefixes."""
    kind = draw(st.sampled_from(kinds))
    spice = draw(st.integers(0, 31))
    seed = draw(st.integers(0, 255))
    bits: dict[str, int] = {"ep": int(spice == 1)}
    if kind not in (0x02, 0x05):
        bits["tc"] = 3 if spice in (2, 3) else 0
    digest = b""
    if spice == 4:
        bits["td"] = 1
        digest = filler(4, seed)
    rest: dict[str, int] = {"tag": seed}
    dw = draw(_lengths)
    if kind == 0x02:
        tlp = iord(**bits)
    elif kind == 0x05:
        tlp = cfgrd1(register=seed, **bits)
    elif kind == 0x4A:
        tlp = cpld(filler(4 * dw, seed), **rest, **bits)
    elif kind == 0x0A:
        tlp = cpl((0, 1, 4)[seed % 3], **rest, **bits)
    elif kind & 0xB8 == 0x30:
        data = filler(4 * dw, seed) if kind & 0x40 else b""
        tlp = msg(0x40 + seed % 16, routing=kind & 7, last=filler(8, seed), data=data, **bits)
    else:
        tlp = _memory(draw, kind, dw, seed, bits)
    before = b""
    if spice in (5, 6, 7, 8):
        local = draw(st.integers(0, 6 if spice == 5 else 2))
        ends = draw(st.lists(st.sampled_from((TPH, PASID, VENDOR_END)), max_size=4 if spice == 6 else 2))
        before = b"".join(prefix(VENDOR_LOCAL, seed + i) for i in range(local))
        before += b"".join(prefix(end, seed << 8) for end in ends)
    return before + tlp + digest


def _memory(draw: Any, kind: int, dw: int, seed: int, bits: dict[str, int]) -> bytes:
    form = kind & ~0x20
    if form in (0x4C, 0x4D):
        dw = 1 + seed % 2
    elif form == 0x4E:
        dw = 2 << seed % 3
    top = (1 << 52) - 1 if kind & 0x20 else (1 << 20) - 1
    bottom = 1 << 20 if kind & 0x20 else 0
    page = draw(st.integers(bottom, top) | st.just(top) | st.just(bottom))
    # Atomics are aligned to their operand.
    step = dw if form in (0x4C, 0x4D, 0x4E) else 1
    offset = draw(st.integers(0, (1024 - dw) // step)) * step
    bits["ph"] = seed & 3
    hint = draw(st.integers(0, 7))
    bits["at"] = (0, 0, 0, 0, 1, 2, 0, 0)[hint]
    bits["th"] = int(hint in (5, 6))
    tagged = form in (0x00, 0x01, 0x5B) and bits["th"]
    be = 0x0F if dw == 1 else 0xFF
    if tagged or step == dw > 1:
        be = seed
    elif dw > 2:
        be = (0xFF, 0x1F, 0x3E, 0x7C)[seed >> 2 & 3]
    data = filler(4 * dw, seed) if kind & 0x40 else b""
    return memory(kind, data, dw=dw, page=page, offset=offset, tag=seed, be=be, **bits)


# --- Both sides ------------------------------------------------------------------------------------------


@cache
def key(direction: str, sub: int, k: int, generation: int, bits: int) -> bytes:
    return derived_keys(SEED, bits)(direction, sub, k, generation)


def keys_of(config: StreamConfig, k: int = 0, generation: int = 0, direction: str = "ab") -> list[bytes]:
    """Return the keys of the three sub-streams."""
    bits = profile_named(config.profile).key_bits
    return [key(direction, sub, k, generation, bits) for sub in range(3)]


@cache
def _expanded(key: bytes) -> KeyTable:
    """Expanding a key is slow; streams copy what they get, so that one table serves many."""
    return expand(key)


def program(stream: Stream, direction: Any, k: int, generation: int = 0, far: bool = False) -> None:
    """Give one half of an end its keys in key set k and start it; `far`: the end is the second one."""
    way = "ab" if (direction == "tx") != far else "ba"
    for sub, secret in enumerate(keys_of(stream.config, k, generation, way)):
        stream._program(direction, sub, k, secret, _expanded(secret))
    stream.go(direction, k)


def ends(config: StreamConfig) -> tuple[Stream, Stream]:
    """Return two SECURE ends with the keys of `keys_of`."""
    a = Stream(config)
    b = Stream(replace(config, requester=config.partner, partner=config.requester))
    for stream in (a, b):
        for direction in ("rx", "tx"):
            program(stream, direction, 0, far=stream is b)
        stream.enable()
    return a, b


def rules_of(config: StreamConfig) -> Rules:
    return Rules.of(config, profile_named(config.profile))


def sender(config: StreamConfig) -> Sender:
    return Sender(rules_of(config), keys_of(config))


def receiver(config: StreamConfig, direction: str = "ab") -> Receiver:
    return Receiver(rules_of(config), keys_of(config, direction=direction))


def cuts(wire: Sequence[bytes]) -> np.ndarray:
    return np.cumsum([0, *map(len, wire)])


def split(data: np.ndarray, offsets: np.ndarray) -> list[bytes]:
    return [data[a:b].tobytes() for a, b in pairwise(offsets)]


def batch_of(tlps: Sequence[bytes], flit: bool = False) -> Any:
    return parse(np.frombuffer(b"".join(tlps), np.uint8), cuts(tlps), flit=flit)


def seal(stream: Stream, tlps: Sequence[bytes], **more: Any) -> tuple[list[bytes], np.ndarray]:
    """Seal TLPs; flags may be lists. Return the wire TLPs and the status."""
    for name in ("protect", "alone", "tee"):
        if isinstance(more.get(name), (list, tuple)):
            more[name] = np.array(more[name], bool)
    data, offsets, status = seal_stream(batch_of(tlps, stream.config.flit), stream, **more)
    return split(data, offsets), status


@dataclass
class Outcome:
    """What `open_stream` said, in the words of the oracle."""

    released: list[Released]
    status: np.ndarray

    @property
    def tlps(self) -> list[bytes]:
        return [item.tlp for item in self.released]

    @property
    def codes(self) -> list[str]:
        return [OpenCode(int(code)).name for code in self.status["code"]]

    @property
    def reasons(self) -> list[str]:
        return [Reason(int(reason)).name for reason in self.status["reason"]]


def open_(stream: Stream, wire: Sequence[bytes], **more: Any) -> Outcome:
    batch, status = open_stream(b"".join(wire), stream, cuts(wire), **more)
    tlps = split(*pack(batch))
    marks = batch.marks
    assert len(marks) == len(tlps)
    return Outcome(
        [
            Released(
                tlp,
                int(mark["wire_index"]),
                bool(mark["protected"]),
                int(mark["sub_stream"]),
                int(mark["k"]),
                int(mark["t"]),
                int(mark["counter"]),
            )
            for tlp, mark in zip(tlps, marks, strict=True)
        ],
        status,
    )


def seal_codes(status: np.ndarray) -> list[str]:
    return [SealCode(int(code)).name for code in status["code"]]
