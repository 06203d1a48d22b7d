"""Partial header encryption: against an oracle that names every bit, and against examples by hand.

The oracle knows nothing of bytes that straddle: it writes a header down as a list of named bits, takes the
hidden ones out and keeps the rest in order.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevpcie_core.ide.header_encryption import (
    MAX_HIDDEN_BYTES,
    PCRC_HEADER_BYTES,
    hidden_bytes,
    hide,
    put,
    recover,
)

pytestmark = pytest.mark.nojit

# Byte 0 by hand (PCIe Base r6.x, table 2-3).
READS = (0x00, 0x20)
LOCKED = (0x01, 0x21)
WRITES = (0x40, 0x60)
DEFERRABLE = (0x5B, 0x7B)
ATOMICS = (0x4C, 0x6C, 0x4D, 0x6D, 0x4E, 0x6E)
MEMORY = READS + LOCKED + WRITES + DEFERRABLE + ATOMICS
HIGHEST_BIT = {1: 17, 2: 25, 3: 33, 4: 41}


@dataclass(frozen=True)
class Case:
    """One header. `header` holds the OHC words too."""

    kind: int
    mode: int
    flit: bool
    ohc_a1: bool
    header: bytes

    @property
    def args(self) -> tuple[int, int, bool, bool]:
        return self.kind, self.mode, self.flit, self.ohc_a1


# --- The oracle ---------------------------------------------------------------------------------------


def bit_names(case: Case) -> list[str]:
    """Return a name for each bit of the header, in wire order, highest bit of a byte first."""
    names = [f"b{i}.{bit}" for i in range(8) for bit in range(7, -1, -1)]
    top = 64 if case.kind & 0x20 else 32
    names += [f"a{bit}" for bit in range(top - 1, -1, -1)]
    rest = len(case.header) - len(names) // 8
    names += [f"o{i}.{bit}" for i in range(rest) for bit in range(7, -1, -1)]
    assert len(names) == 8 * len(case.header)
    return names


def hidden_names(case: Case) -> list[str]:
    """Return the names of the bits of P', in order."""
    if case.mode == 0 or case.kind not in MEMORY:
        return []
    names = []
    if case.flit:
        if case.ohc_a1:
            names += [f"o3.{bit}" for bit in range(7, -1, -1)]
    else:
        th = case.header[1] & 1
        translation_request = case.header[2] >> 2 & 3 == 1
        is_tag = th and case.kind in READS + LOCKED + DEFERRABLE
        if case.kind not in ATOMICS and not translation_request and not is_tag:
            names += [f"b7.{bit}" for bit in range(7, -1, -1)]
    highest = HIGHEST_BIT[case.mode] if case.kind & 0x20 else min(HIGHEST_BIT[case.mode], 25)
    return names + [f"a{bit}" for bit in range(highest, 1, -1)]


def to_bits(data: bytes) -> list[int]:
    return [byte >> bit & 1 for byte in data for bit in range(7, -1, -1)]


def to_bytes(bits: list[int]) -> bytes:
    assert len(bits) % 8 == 0, "a whole number of bytes"
    return bytes(int("".join(map(str, bits[i : i + 8])), 2) for i in range(0, len(bits), 8))


def oracle(case: Case) -> tuple[bytes, bytes]:
    """Return (A, header part of P')."""
    value = dict(zip(bit_names(case), to_bits(case.header), strict=True))
    hidden = hidden_names(case)
    clear = [name for name in bit_names(case) if name not in set(hidden)]
    return to_bytes([value[n] for n in clear]), to_bytes([value[n] for n in hidden])


# --- The package, with guard bytes around everything it writes ----------------------------------------

GUARD = 0xA5
PAD = 3


def run_hide(case: Case) -> tuple[bytes, bytes]:
    size = len(case.header)
    data = np.frombuffer(bytes(PAD) + case.header + bytes(PAD), np.uint8).copy()
    aad, text = np.full(size + 2 * PAD, GUARD, np.uint8), np.full(16, GUARD, np.uint8)
    before = data.copy()
    a, t = hide(data, PAD, size, *case.args, aad, PAD, text, PAD)
    assert (data == before).all()
    assert (aad[:PAD] == GUARD).all()
    assert (aad[PAD + a :] == GUARD).all()
    assert (text[:PAD] == GUARD).all()
    assert (text[PAD + t :] == GUARD).all()
    assert hidden_bytes(data, PAD, *case.args) == t
    return aad[PAD : PAD + a].tobytes(), text[PAD : PAD + t].tobytes()


def run_put(case: Case, header: bytes, text: bytes) -> bytes:
    data = np.frombuffer(bytes([GUARD] * PAD) + header + bytes([GUARD] * PAD), np.uint8).copy()
    source = np.frombuffer(bytes([0x5A]) + text + bytes(1), np.uint8)
    assert put(data, PAD, *case.args, source, 1) == len(text)
    assert (data[:PAD] == GUARD).all()
    assert (data[-PAD:] == GUARD).all()
    return data[PAD:-PAD].tobytes()


def run_recover(case: Case, aad: bytes, text: bytes) -> bytes:
    a = np.frombuffer(bytes(1) + aad, np.uint8)
    t = np.frombuffer(bytes(2) + text + bytes(1), np.uint8)
    data = np.full(len(case.header) + 2 * PAD, GUARD, np.uint8)
    size = recover(a, 1, len(aad), t, 2, *case.args, data, PAD)
    assert size == len(case.header)
    assert (data[:PAD] == GUARD).all()
    assert (data[-PAD:] == GUARD).all()
    return data[PAD:-PAD].tobytes()


@st.composite
def cases(draw: st.DrawFn, kinds: tuple[int, ...] = (*MEMORY, 0x4A, 0x72, 0x45, 0x02)) -> Case:
    kind = draw(st.sampled_from(kinds))
    flit = draw(st.booleans())
    words = draw(st.integers(0, 4)) if flit else 0
    base = 16 if kind & 0x20 or kind == 0x72 else 12
    header = bytearray(draw(st.binary(min_size=base + 4 * words, max_size=base + 4 * words)))
    header[0] = kind
    ohc_a1 = words > 0 and kind in MEMORY and draw(st.booleans())
    return Case(kind, draw(st.integers(0, 4)), flit, ohc_a1, bytes(header))


# --- Laws ---------------------------------------------------------------------------------------------


@given(cases())
def test_split_as_the_oracle_says(case: Case) -> None:
    assert run_hide(case) == oracle(case)


@given(cases())
def test_hide_then_recover_and_hide_then_put_restore_the_header(case: Case) -> None:
    aad, text = run_hide(case)
    assert len(aad) + len(text) == len(case.header)
    assert len(text) <= MAX_HIDDEN_BYTES <= PCRC_HEADER_BYTES
    assert run_recover(case, aad, text) == case.header
    wiped = run_put(case, case.header, bytes(len(text)))
    assert run_put(case, wiped, text) == case.header


@given(cases(), st.binary(min_size=6, max_size=6))
def test_ciphertext_in_place_changes_hidden_bits_only(case: Case, noise: bytes) -> None:
    aad, text = run_hide(case)
    cipher = bytes(a ^ b for a, b in zip(text, noise, strict=False))
    wire = run_put(case, case.header, cipher)
    hidden = set(hidden_names(case))
    for name, before, after in zip(bit_names(case), to_bits(case.header), to_bits(wire), strict=True):
        assert before == after or name in hidden
    # The receiver splits the wire header alike: A as the sender's, P' the ciphertext.
    received = Case(*case.args, wire)
    assert run_hide(received) == (aad, cipher)
    assert run_put(received, wire, text) == case.header


@given(cases(), st.data())
def test_every_header_bit_is_in_exactly_one_of_both(case: Case, data: st.DataObject) -> None:
    """Flipping a bit that does not choose the split changes exactly one bit of A and P' together."""
    chooses = {"b1.0", "b2.3", "b2.2"} | {f"b0.{bit}" for bit in range(8)}
    names = bit_names(case)
    i = data.draw(st.sampled_from([i for i, name in enumerate(names) if name not in chooses]))
    flipped = bytearray(case.header)
    flipped[i // 8] ^= 0x80 >> i % 8
    before, after = run_hide(case), run_hide(Case(*case.args, bytes(flipped)))
    changed = [
        sum(x != y for x, y in zip(to_bits(b), to_bits(a), strict=True))
        for b, a in zip(before, after, strict=True)
    ]
    assert changed == ([0, 1] if names[i] in hidden_names(case) else [1, 0])


@given(cases(MEMORY))
def test_a_alone_says_how_much_is_hidden(case: Case) -> None:
    aad, text = run_hide(case)
    assert hidden_bytes(np.frombuffer(aad, np.uint8), 0, *case.args) == len(text)


# --- Tables and examples by hand ----------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "of_64", "of_32"), [(0, 0, 0), (1, 2, 2), (2, 3, 3), (3, 4, 3), (4, 5, 3)])
def test_bytes_hidden_by_mode_and_header_size(mode: int, of_64: int, of_32: int) -> None:
    header = np.zeros(16, np.uint8)
    be = 1 if mode else 0
    assert hidden_bytes(header, 0, 0x60, mode) == of_64 + be
    assert hidden_bytes(header, 0, 0x40, mode) == of_32 + be
    assert hidden_bytes(header, 0, 0x60, mode, True, False) == of_64
    assert hidden_bytes(header, 0, 0x60, mode, True, True) == of_64 + be


def test_only_memory_requests_hide_anything() -> None:
    header = np.zeros(16, np.uint8)
    for kind in range(256):
        for flit in (False, True):
            assert (hidden_bytes(header, 0, kind, 4, flit, False) > 0) == (kind in MEMORY)


@pytest.mark.parametrize("kind", MEMORY)
@pytest.mark.parametrize("th", [0, 1])
@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_byte_enables_that_stay_clear(kind: int, th: int, at: int) -> None:
    header = np.zeros(16, np.uint8)
    header[1], header[2] = 0xFE | th, 0xF3 | at << 2
    stays = kind in ATOMICS or at == 1 or (th == 1 and kind not in WRITES)
    assert hidden_bytes(header, 0, kind, 1) == (2 if stays else 3)
    # Flit mode has neither exception: only the presence of OHC-A1 counts.
    assert hidden_bytes(header, 0, kind, 1, True, True) == 3
    assert hidden_bytes(header, 0, kind, 1, True, False) == 2


MWR64 = "60000010 010005ff 1122334455667702"  # PH 10b; Addr[17:2] = 1001_1101_1100_0000b, and so on
MWR32 = "40000010 010005f7 55667701"


@pytest.mark.parametrize(
    ("mode", "header", "aad", "text"),
    [
        (0, MWR64, "60000010 010005ff 1122334455667702", ""),
        (1, MWR64, "60000010 010005 112233445566", "ff 9dc0"),
        (2, MWR64, "60000010 010005 1122334456", "ff 599dc0"),
        (3, MWR64, "60000010 010005 11223346", "ff 15599dc0"),
        (4, MWR64, "60000010 010005 112232", "ff d115599dc0"),
        (1, MWR32, "40000010 010005 5565", "f7 9dc0"),
        (2, MWR32, "40000010 010005 55", "f7 599dc0"),
        (3, MWR32, "40000010 010005 55", "f7 599dc0"),
        (4, MWR32, "40000010 010005 55", "f7 599dc0"),
    ],
)
def test_example(mode: int, header: str, aad: str, text: str) -> None:
    case = Case(int(header[:2], 16), mode, False, False, bytes.fromhex(header))
    assert run_hide(case) == (bytes.fromhex(aad), bytes.fromhex(text))


def test_example_in_flit_mode() -> None:
    """Base, OHC-A1 with byte enables F7, OHC-C: the enables come out of the middle of the OHC words."""
    header = bytes.fromhex("60050010 01000005 1122334455667702 a1a2a3f7 c1c2c3c4")
    case = Case(0x60, 1, True, True, header)
    assert run_hide(case) == (
        bytes.fromhex("60050010 01000005 112233445566 a1a2a3 c1c2c3c4"),
        bytes.fromhex("f7 9dc0"),
    )
    assert run_hide(Case(0x60, 1, True, False, header)) == (
        bytes.fromhex("60050010 01000005 112233445566 a1a2a3f7 c1c2c3c4"),
        bytes.fromhex("9dc0"),
    )


def test_kinds_from_byte_arrays() -> None:
    """A kind read off a u1 array must not overflow without JIT."""
    data = np.frombuffer(bytes.fromhex(MWR64), np.uint8)
    for kind in np.array(MEMORY, np.uint8):
        assert hidden_bytes(data, 0, kind, np.uint8(4)) == hidden_bytes(data, 0, int(kind), 4) > 0
