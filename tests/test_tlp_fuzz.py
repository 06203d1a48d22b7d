"""Hostile bytes: the codec refuses them or gives them back, and reads nothing else."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fenced import PAGE, Fenced
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import tlp_naive
from tlp_help import cuts, packed, parsed_or_rule, row, rule_of
from tlp_strategies import tlps, trains

from sevpcie_core.tlp import codec
from sevpcie_core.tlp.batch import TLP, Batch
from sevpcie_core.tlp.codec import parse
from sevpcie_core.tlp.rules import Rule

modes = st.booleans()


@st.composite
def mutated(draw: Any, wire: bytes) -> bytes:
    """Draw bytes near some valid ones: bits flipped, bytes put in, taken out, cut off."""
    found = bytearray(wire)
    for _ in range(draw(st.integers(1, 3))):
        # Headers are what decides, so most changes are near the front.
        place = draw(st.one_of(st.integers(0, 31), st.integers(0, max(len(found) - 1, 0))))
        place = min(place, max(len(found) - 1, 0))
        how = draw(st.sampled_from(("flip", "flip", "flip", "set", "insert", "remove", "cut", "append")))
        if how == "flip" and found:
            found[place] ^= 1 << draw(st.integers(0, 7))
        elif how == "set" and found:
            found[place] = draw(st.integers(0, 255))
        elif how == "insert":
            found[place:place] = draw(st.binary(min_size=1, max_size=8))
        elif how == "remove":
            del found[place : place + draw(st.integers(1, 8))]
        elif how == "cut":
            del found[place:]
        else:
            found += draw(st.binary(min_size=1, max_size=20))
    return bytes(found)


def likely_kinds(data: bytes, flit: bool) -> bytes:
    """Return the bytes with a first one that begins a TLP or a prefix."""
    known = sorted(tlp_naive.FAMILY) + ([0x03] if flit else [*tlp_naive.LOCAL, *tlp_naive.END])
    return bytes([known[data[0] % len(known)]]) + data[1:] if data else data


def check_one(data: bytes, flit: bool) -> None:
    """Compare the verdict on one TLP with the plain codec's."""
    fields, _, broken = tlp_naive.read(data, flit=flit)
    found = parsed_or_rule(data, np.array([0, len(data)]), flit=flit)
    if isinstance(found, str):
        assert found.startswith("TLP 0 at byte 0, ")
        assert rule_of(found) in broken
    else:
        assert broken == set()
        assert row(found, 0) == fields
        assert packed(found) == data


def check_train(data: bytes, flit: bool) -> None:
    """Check that bytes are refused at the right place, or come back."""
    found = parsed_or_rule(data, flit=flit)
    if isinstance(found, str):
        number, at = (int(word.strip(",")) for word in found.split()[1:5:3])
        good = parse(data[:at], flit=flit)
        assert len(good) == number
        assert packed(good) == data[:at]
        # What begins there is no TLP, whatever stands before it.
        assert rule_of(found) in tlp_naive.read(data[at:], flit=flit, exact=False)[2]
    else:
        assert packed(found) == data


@pytest.mark.nojit
@settings(max_examples=200)
@given(data=st.binary(max_size=80), flit=modes, likely=st.booleans())
def test_random_bytes(data: bytes, flit: bool, likely: bool) -> None:
    data = likely_kinds(data, flit) if likely else data
    check_one(data, flit)
    check_train(data, flit)


@pytest.mark.nojit
@settings(max_examples=400)
@given(data=st.data(), flit=modes)
def test_mutated_tlps(data: st.DataObject, flit: bool) -> None:
    wire = tlp_naive.write(data.draw(tlps(flit=flit)), flit=flit)
    near = data.draw(mutated(wire))
    check_one(near, flit)
    check_train(near, flit)


@settings(max_examples=120)
@given(data=st.data(), flit=modes)
def test_mutated_trains_with_mutated_offsets(data: st.DataObject, flit: bool) -> None:
    wires = [tlp_naive.write(fields, flit=flit) for fields in data.draw(trains(flit=flit, most=4))]
    near = data.draw(mutated(b"".join(wires)))
    check_train(near, flit)
    places = data.draw(st.lists(st.integers(0, len(near)), min_size=1, max_size=6).map(sorted))
    for offsets in (np.minimum(cuts(wires), len(near)), np.array(places)):
        found = parsed_or_rule(near, offsets, flit=flit)
        if isinstance(found, str):
            number, at = (int(word.strip(",")) for word in found.split()[1:5:3])
            assert at == offsets[number]
            single = near[at : offsets[number + 1]]
            assert rule_of(found) in tlp_naive.read(single, flit=flit)[2]
        else:
            assert packed(found) == near[offsets[0] : offsets[-1]]


@settings(max_examples=150)
@given(data=st.data(), flit=modes)
def test_rows_of_any_content_are_refused_or_come_back(data: st.DataObject, flit: bool) -> None:
    """What `pack` takes, `parse` gives back: no field is lost or turned into another."""
    batch = parse(tlp_naive.write(data.draw(tlps(flit=flit)), flit=flit), flit=flit)
    names = [name for name in TLP.names or () if name not in ("ohc_e_at", "local_at", "end_at", "data_at")]
    for name in data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=2)):
        kind = TLP[name]
        if kind.kind == "i":
            value = data.draw(st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(0, 200))
        else:
            value = data.draw(
                st.integers(0, (1 << 8 * kind.itemsize) - 1) | st.integers(0, 255 if kind.itemsize > 1 else 7)
            )
        batch.tlps[0][name] = value
    try:
        wire = packed(batch)
    except codec.FormatError:
        return
    again = parse(wire, flit=flit)
    assert len(again) == 1
    if flit:
        # `pack` adds the words that the fields ask for, and puts the fields into word A.
        batch.tlps["ohc"] |= again.tlps["ohc"] & 0b101
        batch.tlps["ohc_a"] = again.tlps["ohc_a"]
    assert again == batch
    assert packed(again) == wire


# --- Memory -----------------------------------------------------------------------------------------------

# In a process of its own: an access outside ends it.


def hostile(count: int, seed: int) -> Iterator[tuple[bytes, bool]]:
    """Yield (bytes, flit): TLPs whole, cut off and with bits flipped, and noise that begins like one."""
    draw = random.Random(seed)
    read, write = "20000010 010006ff 1122334455667700", "40000002 010005ff 80001000 0102030405060708"
    plain = [bytes.fromhex(wire) for wire in (read, write, "4a000001 02000004 01000600 01020304")]
    plain += [bytes.fromhex("8e000000 9200010c 90000000") + plain[1] + bytes(16)]
    plain += [bytes.fromhex("20008010 010006ff 1122334455667700 01020304")]
    plain += [bytes.fromhex("32000000 02000054 0100000000010200")]
    words = "201f0010 01000006 1122334455667700 000000ff 00001234 00010200" + 16 * "ab"
    flit = [
        bytes.fromhex(words),
        bytes.fromhex("6004c001 01000006 1122334455667700 00000201 01020304") + bytes(16),
    ]
    flit += [bytes.fromhex("4a010002 02000006 01000008 00000008 0102030405060708")]
    for _ in range(count):
        mode = draw.random() < 0.4
        wire = bytearray(b"".join(draw.choices(flit if mode else plain, k=draw.randrange(1, 4))))
        for _ in range(draw.randrange(3)):
            wire[draw.randrange(len(wire))] ^= 1 << draw.randrange(8)
        if draw.random() < 0.5:
            del wire[draw.randrange(1, len(wire) + 1) :]
        if draw.random() < 0.1:
            wire = bytearray(likely_kinds(draw.randbytes(draw.randrange(1, 60)), mode))
        yield bytes(wire), mode


def run_fenced(count: int) -> int:
    """Parse and pack between inaccessible pages; return how many were taken. Has a process of its own."""
    source, target = Fenced(4 * PAGE), Fenced(4 * PAGE)
    taken = 0
    for data, flit in hostile(count, 1):
        for at_end in (True, False):
            array = source.take(len(data), at_end)
            array[:] = np.frombuffer(data, np.uint8)
            for offsets in (None, np.array([0, len(data)])):
                found = parsed_or_rule(array, offsets, flit=flit)  # type: ignore[arg-type]
                if isinstance(found, str):
                    continue
                assert found.pool is array
                places = np.zeros(len(found) + 1, np.int64)
                broken = codec.measure(found.tlps, found.pool, flit, 4096, places)
                assert broken == Rule.KEPT
                out = target.take(int(places[-1]), at_end)
                codec.write(found.tlps, found.pool, flit, places, out)
                assert out.tobytes() == data
                taken += 1
    # A row whose places lie anywhere must be refused before they are looked at.
    batch = Batch(np.zeros(1, TLP), source.take(64, True))
    batch.tlps["kind"], batch.tlps["length"], batch.tlps["data_bytes"] = 0x40, 16, 64
    batch.tlps["first_be"] = batch.tlps["last_be"] = 15
    for at in (-1, 61, 1 << 40, -(1 << 62), (1 << 63) - 1):
        for place in ("data_at", "local_at", "end_at"):
            batch.tlps["local_prefixes"] = batch.tlps["end_prefixes"] = place != "data_at"
            batch.tlps["data_at"] = batch.tlps["local_at"] = batch.tlps["end_at"] = 0
            batch.tlps[place] = at
            assert codec.measure(batch.tlps, batch.pool, False, 4096, np.zeros(2, np.int64)) == Rule.POOL
    return taken


def run_checked() -> None:
    """See that an index outside an array raises here, then run."""
    tlps = np.zeros(1, TLP)
    try:
        codec.parse_all(np.zeros(4, np.uint8), np.array([0, 12]), True, False, 4096, tlps)
    except IndexError:
        assert run_fenced(400) > 50
        print("no access outside")


def in_a_process(call: str, **environment: str) -> str:
    """Run a function of this file in a process of its own; return what it prints."""
    code = f"import sys; sys.path[:0] = {[str(Path(__file__).parent)]!r}; import test_tlp_fuzz; {call}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-2000:]}"
    return done.stdout


def test_nothing_beyond_the_buffer_is_read_or_written() -> None:
    assert int(in_a_process("print(test_tlp_fuzz.run_fenced(3000))")) > 1000


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="checks compiled code")
def test_no_index_is_outside_its_array(tmp_path: Path) -> None:
    output = in_a_process("test_tlp_fuzz.run_checked()", NUMBA_BOUNDSCHECK="1", NUMBA_CACHE_DIR=str(tmp_path))
    assert output == "no access outside\n"
