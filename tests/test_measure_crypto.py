"""`sevpcie measure crypto`: the packets that are measured, the arithmetic of the bound, the command."""

import contextlib
import dataclasses
import itertools
import json
import os

import numpy as np
import pytest

from sevpcie_core import cli
from sevpcie_core._jit import JIT_DISABLED, cpu
from sevpcie_core.crypto import backends, bound
from sevpcie_core.crypto.packet import PACKET
from sevpcie_core.errors import ConfigError, MisuseError, RunError
from sevpcie_core.measure import crypto
from sevpcie_core.measure.crypto import Plan, Ports, measure
from sevpcie_core.measure.pool import PAGE_BYTES, TAG_BYTES, Pool, Shape
from sevpcie_core.measure.timing import Slice, Timing, pinned, run_slice

SHAPES = [Shape(128, 64, 16, 64), Shape(256, 4112, 20, 40), Shape(128, 1, 1, 33, keys=6), Shape(256, 0, 0, 9)]
SMALL = Plan(payloads=[64, 100], aads=[16, 20], packets=64, rounds=3, slice_ns=10_000)

compiled = pytest.mark.skipif(JIT_DISABLED, reason="measures compiled code")


# --- Packets ------------------------------------------------------------------------------------------------


def spans(pool):
    """Return the first byte and the one behind the last of every buffer, table and key of a pool."""
    shape, p = pool.shape, pool.seal_packets
    tables = [(at, at + shape.packets * PACKET.itemsize) for at in (pool.seal_table_at, pool.open_table_at)]
    found = [*tables, (pool.keys_at, pool.keys_at + shape.keys * shape.key_bits // 8)]
    for name, size in (
        ("aad", shape.aad_bytes),
        ("text", shape.payload_bytes),
        ("out", shape.payload_bytes),
        ("tag", TAG_BYTES),
    ):
        found += [(at, at + size) for at in p[name].tolist() if size]
    return sorted(found)


@pytest.mark.nojit
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_packets_have_buffers_of_their_own_at_odd_addresses(shape):
    pool = Pool(shape)
    base = pool.memory.__array_interface__["data"][0]
    assert base % PAGE_BYTES == 0
    assert len(pool.memory) == Pool.size(shape)
    found = spans(pool)
    assert found[0][0] >= 0
    assert found[-1][1] <= len(pool.memory)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(found))
    for name in ("aad", "text", "out", "tag"):
        addresses = base + pool.seal_packets[name]
        assert (addresses % 2 == 1).all()
        if shape.packets >= 32:
            assert len(set((addresses % 64).tolist())) == 32
    assert len(set(pool.nonces())) == shape.packets
    assert set(pool.seal_packets["key"].tolist()) == set(range(shape.keys))
    assert len(set(pool.secrets)) == shape.keys


@pytest.mark.nojit
def test_opening_reads_what_sealing_writes():
    pool = Pool(SHAPES[0])
    seal, opened = pool.seal_packets, pool.open_packets
    assert (opened["text"] == seal["out"]).all()
    assert (opened["out"] == seal["text"]).all()
    for name in ("tag", "aad", "counter", "key"):
        assert (opened[name] == seal[name]).all()


@pytest.mark.nojit
def test_a_pool_is_the_same_in_memory_that_is_lent():
    own = Pool(SHAPES[2])
    lent = np.empty(Pool.size(SHAPES[2]) + 100, np.uint8)
    assert (Pool(SHAPES[2], lent).memory == own.memory).all()


@compiled
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("backend", backends.available())
def test_a_backend_that_is_right_passes_again_and_again(backend, shape):
    pool = Pool(shape)
    reference = crypto.expected(pool)
    for _ in range(2):
        crypto.verify(pool, backends.load(backend), reference)


@compiled
@pytest.mark.parametrize(
    ("wrong", "words"), [("seal", "wrong ciphertext or tag"), ("open", "does not open what it sealed")]
)
def test_a_backend_that_is_wrong_is_not_measured(wrong, words):
    pool = Pool(SHAPES[0])
    reference = crypto.expected(pool)
    crypto.verify(pool, backends.load("portable"), reference)
    # It leaves everything as it was, where the right one has been.
    idle = dataclasses.replace(backends.load("portable"), **{wrong: lambda *arguments: None})
    with pytest.raises(RunError, match=words):
        crypto.verify(pool, idle, reference)


# --- The bound ----------------------------------------------------------------------------------------------


@pytest.mark.nojit
@pytest.mark.parametrize(
    ("shape", "bits", "aes", "products"),
    [
        # Five blocks in ten rounds; AAD 1, text 4, lengths 1: six blocks of four products; two to reduce.
        (Shape(128, 64, 16), 128, 50, 26),
        (Shape(128, 64, 16), 512, 12.5, 6.5),
        (Shape(128, 64, 20), 512, 12.5, 7.5),
        (Shape(256, 64, 16), 512, 17.5, 6.5),
        (Shape(128, 65, 16), 256, 30, 15),
        (Shape(256, 4096, 0), 256, 14 * 257 / 2, 4 * 257 / 2 + 1),
        (Shape(128, 0, 0), 128, 10, 6),
    ],
)
def test_instructions_counted_by_hand(shape, bits, aes, products):
    found = bound.instructions(shape.key_bits, shape.payload_bytes, shape.aad_bytes, bits)
    assert found == (aes, products)


@pytest.mark.nojit
@pytest.mark.parametrize(
    ("ports", "expected_ns"),
    [
        # 12.5 rounds and 6.5 products. Two ports that take both: times add.
        (Ports(512, 1.0, 1.0, 4.0), 19.0),
        # A port for each: the longer counts.
        (Ports(512, 1.0, 1.0, 3.0), 12.5),
        (Ports(512, 1.0, 3.0, 3.0), 19.5),
        # Rounds have two ports, products one of them: 12.5 + 6.5 halves, or 6.5 whole ones.
        (Ports(512, 1.0, 2.0, 4.0), 19.0),
        (Ports(512, 0.1, 2.0, 0.4), 13.0),
        # A stream of both that was measured too fast or too slow: products add nothing, or all, not more.
        (Ports(512, 1.0, 1.0, 2.9), 12.5),
        (Ports(512, 1.0, 1.0, 4.5), 19.0),
    ],
)
def test_bound_of_ports(ports, expected_ns):
    assert ports.bound_ns(Shape(128, 64, 16)) == pytest.approx(expected_ns)


def streams():
    """Return the kernels of each width that this CPU has."""
    wide = bound.widest()
    bits = wide.bits if wide else 0
    every = [
        bound.Streams(128, bound.aes128, bound.clmul128, bound.mixed128),
        bound.Streams(256, bound.aes256, bound.clmul256, bound.mixed256),
        bound.Streams(512, bound.aes512, bound.clmul512, bound.mixed512),
    ]
    return [s for s in every if s.bits <= bits]


@compiled
@pytest.mark.parametrize("kind", ["aes", "clmul", "mixed"])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_streams_of_all_widths_compute_the_same(kind, count):
    start = np.random.default_rng(1).integers(0, 256, bound.DATA_BYTES, np.uint8)
    ends = set()
    for stream in streams():
        data = start.copy()
        getattr(stream, kind)(data, count)
        assert (data[stream.bits // 8 :] == start[stream.bits // 8 :]).all()
        ends.add(data[:16].tobytes())
    assert len(ends) == (1 if streams() else 0)


@compiled
@pytest.mark.skipif(not streams(), reason="no AES instructions")
def test_stream_of_products_is_one_of_products():
    data = np.random.default_rng(2).integers(0, 256, bound.DATA_BYTES, np.uint8)
    halves = [int.from_bytes(data[64 * i : 64 * i + 8].tobytes(), "little") for i in range(bound.CHAINS + 1)]
    factor, *values = halves
    expected = 0
    for value in values:
        for bit in range(64):
            if value >> bit & 1:
                expected ^= factor << bit
    bound.clmul128(data, 1)
    assert int.from_bytes(data[:16].tobytes(), "little") == expected


@pytest.mark.nojit
@pytest.mark.parametrize(
    ("features", "bits"),
    [
        (set(), None),
        ({"aes", "pclmul"}, None),
        ({"aes", "pclmul", "sse4.1"}, 128),
        ({"aes", "pclmul", "sse4.1", "vaes", "avx2"}, 128),
        ({"aes", "pclmul", "sse4.1", "vaes", "vpclmulqdq", "avx2"}, 256),
        ({"aes", "pclmul", "sse4.1", "vaes", "vpclmulqdq", "avx2", "avx512f", "avx512bw", "avx512vl"}, 512),
    ],
)
def test_widest_registers(features, bits, monkeypatch):
    monkeypatch.setattr(cpu, "features", lambda: frozenset(features))
    found = bound.widest()
    assert (found.bits if found else None) == bits


# --- Timing -------------------------------------------------------------------------------------------------


@pytest.mark.nojit
def test_a_slice_has_at_least_one_pass_and_ends():
    calls = []
    found = run_slice(lambda: calls.append(1), 0)
    assert found.passes == len(calls) == 1
    found = run_slice(lambda: calls.append(1), 200_000)
    assert found.passes == len(calls) - 1 > 1
    assert 0 < found.best_ns <= found.median_ns < 200_000


@pytest.mark.nojit
def test_a_slice_ends_though_the_clock_stands_still(monkeypatch):
    monkeypatch.setattr("time.perf_counter_ns", lambda: 7)
    assert run_slice(lambda: None, 5) == Slice(0.0, 0.0, 5)


@pytest.mark.nojit
def test_timing_by_item():
    timing = Timing(10, [Slice(90, 100, 3), Slice(80, 200, 5), Slice(85, 110, 4), Slice(95, 105, 4)])
    assert timing.best_ns == 8
    assert timing.median_ns == 10.75
    assert timing.passes == 16
    # Quartiles of 100, 105, 110, 200: 103.75 and 132.5.
    assert timing.spread_pct == pytest.approx(100 * 28.75 / 107.5)
    assert Timing(10, [Slice(90, 100, 3)]).spread_pct == 0


@pytest.mark.nojit
def test_pinned_stays_on_one_cpu_and_lets_go():
    before = os.sched_getaffinity(0)
    with contextlib.suppress(ZeroDivisionError), pinned() as pinned_to:
        assert os.sched_getaffinity(0) == {pinned_to}
        raise ZeroDivisionError
    assert os.sched_getaffinity(0) == before


# --- The command --------------------------------------------------------------------------------------------


@compiled
def test_every_backend_on_every_shape():
    result = measure(SMALL)
    document = result.to_dict()
    rows = document["backends"]
    shapes = [(s.key_bits, s.payload_bytes, s.aad_bytes) for s in SMALL.shapes()]
    assert [(row["backend"], row["key_bits"], row["payload_bytes"], row["aad_bytes"]) for row in rows] == [
        (name, *shape) for name in backends.available() for shape in shapes
    ]
    for row in rows:
        assert 0 < row["seal_ns"] <= row["seal_median_ns"]
        assert 0 < row["open_ns"] <= row["open_median_ns"]
        assert row["seal_gbytes_per_s"] == row["payload_bytes"] / row["seal_ns"]
    bounds = {(b["key_bits"], b["payload_bytes"], b["aad_bytes"]): b["ns"] for b in document["port_bound_ns"]}
    if document["ports"] is None:
        assert bounds == {}
        assert all(row["bound_ns"] is None for row in rows)
        return
    assert list(bounds) == shapes
    for row in rows:
        shape = (row["key_bits"], row["payload_bytes"], row["aad_bytes"])
        assert row["bound_ns"] == bounds[shape]
        # Nothing is faster than its bound, by far not on packets as short as these.
        assert row["seal_x_bound"] == row["seal_ns"] / row["bound_ns"] > 1


@compiled
def test_a_slow_backend_gets_fewer_slices(monkeypatch):
    monkeypatch.setattr(crypto, "_ENOUGH_NS", 0)
    calls = []
    real = Pool.seal
    monkeypatch.setattr(Pool, "seal", lambda pool, backend: calls.append(1) or real(pool, backend))
    plan = dataclasses.replace(
        SMALL, payloads=[64], aads=[16], key_bits=[128], backends=["portable"], rounds=9, slice_ns=0
    )
    measure(plan)
    # One to check, three slices of one pass.
    assert len(calls) == 4


@compiled
def test_progress_says_what_takes_long():
    seen = []
    plan = dataclasses.replace(SMALL, payloads=[64], aads=[16], key_bits=[128], backends=["portable"])
    measure(plan, lambda stage, done, total: seen.append((stage, done, total)))
    assert seen[0] == ("compiling portable", 0, 0)
    assert seen[1:] == [("measuring", i, 3) for i in range(3)]


@compiled
def test_json(capsys):
    arguments = ["--quick", "--packets", "64", "--payload", "64,64", "--aad", "0", "--key-bits", "256"]
    assert cli.main(["measure", "crypto", "--json", "--backend", "portable", *arguments]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["command"] == "measure crypto"
    assert document["options"]["packets"] == 64
    (row,) = document["backends"]
    assert {"backend", "key_bits", "payload_bytes", "aad_bytes", "seal_ns", "open_ns"} <= row.keys()
    assert (row["backend"], row["key_bits"], row["payload_bytes"], row["aad_bytes"]) == (
        "portable",
        256,
        64,
        0,
    )
    assert isinstance(document["port_bound_ns"], list)


@compiled
def test_table(capsys):
    arguments = ["--quick", "--packets", "64", "--payload", "64", "--aad", "16", "--key-bits", "128"]
    assert cli.main(["measure", "crypto", *arguments]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    for name in ("backend", "seal ns", "open ns", "GB/s", "x bound"):
        assert name in head
    names = [row.split()[0] for row in rows[: rows.index("")]]
    assert names == backends.available()


@compiled
@pytest.mark.skipif("vaes256" not in backends.available(), reason="no VAES")
def test_vaes_stands_for_the_widest_once(capsys):
    arguments = [
        "--quick",
        "--packets",
        "64",
        "--payload",
        "64",
        "--aad",
        "16",
        "--key-bits",
        "128",
        "--json",
    ]
    wide = backends.load("vaes").name
    assert cli.main(["measure", "crypto", "--backend", "vaes", "--backend", wide, *arguments]) == 0
    assert [row["backend"] for row in json.loads(capsys.readouterr().out)["backends"]] == [wide]


@pytest.mark.nojit
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--payload", "x"], "--payload 'x'"),
        (["--payload", "64,"], "--payload '64,'"),
        (["--aad", "-1"], "--aad"),
        (["--payload", "64,4113"], "payload 4113: expected 0..4112"),
        (["--aad", "513"], "aad 513: expected 0..512"),
        (["--key-bits", "192"], "key-bits 192: expected 128 or 256"),
        (["--packets", "0"], "--packets"),
        (["--packets", "65537"], "packets 65537: expected 1..65536"),
    ],
)
def test_bad_usage(arguments, words, capsys):
    assert cli.main(["measure", "crypto", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err
    assert captured.err.count("\n") == 1


@compiled
def test_unknown_backend(capsys):
    assert cli.main(["measure", "crypto", "--backend", "neon"]) == 2
    assert "'neon' is unknown" in capsys.readouterr().err


@pytest.mark.nojit
def test_nothing_is_measured_without_jit(monkeypatch):
    monkeypatch.setattr("sevpcie_core.measure.timing.JIT_DISABLED", True)
    with pytest.raises(ConfigError, match="NUMBA_DISABLE_JIT"):
        measure(SMALL)


@pytest.mark.nojit
def test_rounds_are_checked():
    with pytest.raises(MisuseError, match="rounds 0"):
        measure(dataclasses.replace(SMALL, rounds=0))


@pytest.mark.nojit
def test_measure_alone_prints_its_help(capsys):
    assert cli.main(["measure"]) == 0
    text = capsys.readouterr().out
    assert "crypto" in text
    assert cli.main(["measure", "--help"]) == 0
    assert capsys.readouterr().out == text
