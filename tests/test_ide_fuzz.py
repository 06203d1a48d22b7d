"""Hostile bytes and offsets into a receiver: no exception, no end that does not come, nothing released as
protected that was not sealed.

The same tests run once more with every array access of the kernels checked.
"""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracles.ide_tlps import (
    KINDS,
    cpld,
    cuts,
    ends,
    filler,
    mrd,
    msg,
    mwr,
    seal,
    split,
)

from sevpcie_core.errors import MisuseError
from sevpcie_core.ide import OpenCode, Reason, State, Stream, StreamConfig, open_stream, seal_stream
from sevpcie_core.tlp.batch import TLP, Batch
from sevpcie_core.tlp.codec import pack

CHECKED = os.environ.get("NUMBA_BOUNDSCHECK") == "1"
SOME = settings(max_examples=60 if CHECKED else 200, suppress_health_check=list(HealthCheck))

CONFIGS = (
    StreamConfig(),
    StreamConfig(kind="link", pcrc=True, aggregation=(2, 4, 8), phe=1),
    StreamConfig("sev-pcie", pcrc=True, aggregation=(8, 8, 8), phe=4, tolerate_eighth=True),
    StreamConfig(flit=True, aggregation=(8, 8, 8), phe=3, pcrc=True),
    StreamConfig(flit=True, kind="link", stream_id=255, tee_limited=True),
)
HONEST = [mwr(filler(16)), mwr(filler(4)), mrd(2), cpld(filler(8)), mwr(filler(64)), msg()]
FLIT = [
    bytes.fromhex("60010001 01000005 00000022 00000000 0000000f 11223344"),
    bytes.fromhex("20000004 01000006 00000022 00000000"),
    bytes.fromhex("4a000001 02000006 01000040 99aabbcc"),
]

configs = st.sampled_from(CONFIGS)
bytes_ = st.integers(0, 255)


@st.composite
def headers(draw: Any, flit: bool, stream_id: int) -> bytes:
    """Draw the front of an IDE TLP that could almost be one, and some bytes behind it."""
    kind = draw(st.sampled_from(KINDS) | bytes_)
    length = draw(st.integers(0, 6) | st.integers(0, 1023))
    flags = draw(bytes_)
    word = bytes([draw(bytes_) if flit else 0x92, draw(bytes_), stream_id, flags])
    rest = draw(st.binary(min_size=8, max_size=12)).ljust(12, b"\0")
    size = 12 if kind & 0x20 else 8
    if flit:
        ohc, ts = draw(st.integers(0, 31)) | 4, draw(st.integers(0, 7))
        dw = kind << 24 | ohc << 16 | ts << 13 | length
        before = 4 * ((ohc & 1) + (ohc >> 1 & 1))
        head = dw.to_bytes(4, "big") + rest[:size] + bytes(before) + word
        head += bytes((0, 4, 8, 16)[ohc >> 3])
    else:
        before = b"".join(
            bytes([draw(st.integers(0x80, 0x9F)), 0, 0, 1]) for _ in range(draw(st.integers(0, 2)))
        )
        head = before + word + (kind << 24 | length).to_bytes(4, "big") + rest[:size]
    m, p = (ts in (5, 6), ts == 6) if flit else (flags >> 2 & 1, flags >> 3 & 1)
    trailer = 12 * m + 4 * p
    payload = 4 * length if kind & 0x40 else 0
    exact = draw(st.integers(0, 3)) > 0
    return head + filler(payload + trailer if exact else draw(st.integers(0, 80)), kind)


@st.composite
def wires(draw: Any) -> tuple[StreamConfig, list[bytes], bytes]:
    """Draw (configuration, what was sealed for it, hostile bytes)."""
    config = draw(configs)
    honest = FLIT if config.flit else HONEST
    a, _ = ends(config)
    sealed, _ = seal(a, honest, tee=True)
    parts = []
    for _ in range(draw(st.integers(0, 6))):
        what = draw(st.integers(0, 3))
        if what == 0:
            parts.append(draw(st.binary(max_size=40)))
        elif what == 1:
            parts.append(draw(headers(config.flit, config.stream_id)))
        else:
            tlp = bytearray(draw(st.sampled_from(sealed)))
            if what == 3:
                tlp[draw(st.integers(0, len(tlp) - 1))] = draw(bytes_)
            parts.append(bytes(tlp))
    return config, honest, b"".join(parts)


def check(b: Stream, wire: bytes, offsets: Any, honest: list[bytes]) -> None:
    batch, status = open_stream(wire, b, offsets)
    if offsets is not None:
        assert len(status) == len(offsets) - 1
    for row in status:
        OpenCode(int(row["code"]))
        Reason(int(row["reason"]))
    assert len(batch.marks) == len(batch.tlps)
    for tlp, mark in zip(split(*pack(batch)), batch.marks, strict=True):
        assert -1 <= mark["wire_index"] < len(status)
        if mark["protected"]:
            # Uncovered: local prefixes of a Selective stream.
            assert any(tlp.endswith(one) for one in honest)
    rejected = (status["code"] == OpenCode.REJECTED).sum()
    assert rejected == (b.state is State.INSECURE and rejected)
    assert rejected <= 1


@SOME
@given(wires(), st.data())
def test_hostile_bytes_in_any_cuts(case: tuple[StreamConfig, list[bytes], bytes], data: Any) -> None:
    config, honest, wire = case
    _, b = ends(config)
    inner = data.draw(st.lists(st.integers(0, len(wire)), max_size=8))
    offsets = np.array(sorted([0, *inner, len(wire)]), np.int64)
    check(b, wire, offsets, honest)
    # What is held from before meets more of the same.
    check(b, wire, offsets, honest)


@SOME
@given(wires())
def test_hostile_bytes_without_framing(case: tuple[StreamConfig, list[bytes], bytes]) -> None:
    config, honest, wire = case
    _, b = ends(config)
    check(b, wire, None, honest)
    check(b, wire[::-1], None, honest)


@SOME
@given(st.sampled_from(CONFIGS), st.binary(max_size=300), st.integers(1, 40))
def test_noise(config: StreamConfig, noise: bytes, step: int) -> None:
    for offsets in (None, np.array(sorted({*range(0, len(noise), step), len(noise)}), np.int64)):
        _, b = ends(config)
        batch, _ = open_stream(noise, b, offsets)
        assert not batch.marks["protected"].any()


@SOME
@given(st.sampled_from(CONFIGS), st.data())
def test_tlps_that_could_almost_be_sealed(config: StreamConfig, data: Any) -> None:
    """Many in a row, each its own TLP: deep into the rules, and never through them."""
    tlps = data.draw(st.lists(headers(config.flit, config.stream_id), max_size=12))
    _, b = ends(config)
    offsets = cuts(tlps)
    for _ in range(2):
        batch, status = open_stream(b"".join(tlps), b, offsets)
        assert not batch.marks["protected"].any()
        assert not np.isin(status["code"], (OpenCode.RELEASED, OpenCode.SYNC)).any()


WIRE = bytes.fromhex("9200010460000001010000050000002200000000 11223344") + bytes(12)


@pytest.mark.parametrize(
    "offsets",
    [
        [0, 50],
        [-1, len(WIRE)],
        [0, 20, 10, len(WIRE)],
        [0, -5, len(WIRE)],
        [len(WIRE), 0],
        [],
        [[0, len(WIRE)]],
        [0.0, 36.0],
        ["0", "36"],
        [0, 1 << 62],
        [0, 1 << 64],
        [0, None],
        np.array([0, len(WIRE)], np.float64),
        np.array(5),
        "offsets",
    ],
    ids=repr,
)
def test_offsets_that_cut_nothing(offsets: Any) -> None:
    """A caller's mistake: said as such, before anything happens."""
    _, b = ends(CONFIGS[0])
    with pytest.raises(MisuseError):
        open_stream(WIRE, b, offsets)
    assert b.state is State.SECURE
    assert b.counter("rx", 0, 0) == 1


@pytest.mark.parametrize("offsets", [[0], [0, 0, 0], [0, len(WIRE)], [0, 1, 2, 3, len(WIRE), len(WIRE)]])
def test_offsets_that_do(offsets: list[int]) -> None:
    _, b = ends(CONFIGS[0])
    wire = WIRE[: offsets[-1]]
    _, status = open_stream(wire, b, offsets)
    assert len(status) == len(offsets) - 1


@pytest.mark.parametrize(
    "wire", [b"", bytearray(WIRE), memoryview(WIRE), np.frombuffer(WIRE, np.uint8)], ids=type
)
def test_wires_of_several_types(wire: Any) -> None:
    _, b = ends(CONFIGS[0])
    _, status = open_stream(wire, b)
    assert len(status) == (1 if len(wire) else 0)


def test_the_wire_is_not_written_to() -> None:
    a, b = ends(CONFIGS[2])
    wire, _ = seal(a, HONEST)
    whole = np.frombuffer(b"".join(wire), np.uint8)
    assert not whole.flags.writeable
    assert len(open_stream(whole, b, cuts(wire))[0]) == len(HONEST)


@SOME
@given(st.data())
def test_batches_that_are_none(data: Any) -> None:
    """Rows of a batch with fields of any value: a FormatError, or TLPs; never more."""
    from sevpcie_core.errors import FormatError

    a, _ = ends(replace(data.draw(configs), flit=False))
    row = np.zeros(1, TLP)
    kind = data.draw(st.sampled_from(KINDS))
    row["kind"] = kind
    for name in data.draw(st.lists(st.sampled_from(TLP.names), max_size=4)):
        top = (1 << 8 * TLP.fields[name][0].itemsize - (name.endswith("_at"))) - 1
        row[name] = data.draw(st.integers(0, top) | st.integers(0, 64))
    try:
        wire, offsets, status = seal_stream(Batch(row, np.zeros(64, np.uint8)), a)
    except FormatError:
        assert [a.counter("tx", sub, 0) for sub in range(3)] == [1, 1, 1]
    else:
        assert len(status) == 1
        assert offsets[-1] == len(wire)


@pytest.mark.own_process
@pytest.mark.skipif(CHECKED, reason="runs the other tests of this file in a process of its own")
def test_all_of_this_with_every_access_checked(tmp_path: Path) -> None:
    """NUMBA_BOUNDSCHECK is read when kernels are compiled, hence a process and a cache of its own."""
    environment = {
        **os.environ,
        "NUMBA_BOUNDSCHECK": "1",
        "NUMBA_CACHE_DIR": str(tmp_path),
        "SEVPCIE_AES_BACKEND": "portable",
    }
    here = Path(__file__)
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(here)],
        cwd=here.parent.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-4000:]
