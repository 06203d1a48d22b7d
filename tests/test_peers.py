"""`make peers`: others do the same work, by bits or by requests, and the ratios are the right ones."""

import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest

from sevpcie_core._jit import JIT_DISABLED
from sevpcie_core.measure.crypto import Ports, expected
from sevpcie_core.measure.pool import Pool, Shape
from sevpcie_core.measure.timing import Slice, Timing

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench" / "peers"))
import contenders
import criteria
import ipsec_mb
import link_cocotbext
import peers
import simulators

SHAPES = [
    Shape(128, 64, 16, 33),
    Shape(128, 64, 20, 300, keys=6),
    Shape(256, 100, 20, 20),
    Shape(256, 1, 1, 9),
    Shape(128, 4112, 512, 7, keys=3),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """Return the child of intel-ipsec-mb, built."""
    missing = ipsec_mb.missing()
    if missing:
        if os.environ.get("SEVPCIE_REQUIRE_PACKAGES") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    return ipsec_mb.build(tmp_path_factory.mktemp("ipsec_mb"))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_ipsec_mb_seals_and_opens_like_cryptography(program, shape):
    # A pool that does not start where the memory does.
    shared = ipsec_mb.Shared(4096 + Pool.size(shape))
    pool = Pool(shape, shared.array[4096:])
    plain = pool.parts("text", shape.payload_bytes)
    reference = expected(pool)
    with ipsec_mb.IpsecMb(program, shared) as child:
        seal, opened = child.load(pool), child.load(pool, opening=True)
        for method in ipsec_mb.METHODS:
            pool.spoil("tag")
            assert child.slice(seal, method, 0).passes == 1
            assert pool.sealed() == reference
            pool.spoil("text")
            child.slice(opened, method, 0)
            assert pool.parts("text", shape.payload_bytes) == plain
        for method in ipsec_mb.METHODS:
            # The last byte of a tag.
            pool.memory[pool.seal_packets["tag"][-1] + 11] ^= 1
            with pytest.raises(RuntimeError, match=f"{method}: 1 packets failed"):
                child.slice(opened, method, 0)
            pool.memory[pool.seal_packets["tag"][-1] + 11] ^= 1
        found = child.slice(seal, "direct", 2_000_000)
        assert found.passes > 1
        assert 0 < found.best_ns <= found.median_ns


@pytest.mark.skipif(JIT_DISABLED, reason="measures compiled code")
def test_contenders_of_ipsec_mb_are_checked(program):
    shared = ipsec_mb.Shared(Pool.size(SHAPES[0]))
    with ipsec_mb.IpsecMb(program, shared) as child:
        found = list(contenders.ipsec_mb(Pool(SHAPES[0], shared.array), child))
        assert [(c.how, c.operation) for c in found] == [
            ("direct", "seal"),
            ("job", "seal"),
            ("burst", "seal"),
            ("direct", "open"),
        ]
        child.slice = lambda slot, method, slice_ns: Slice(1.0, 1.0, 1)
        with pytest.raises(RuntimeError, match="direct: wrong ciphertext or tag"):
            list(contenders.ipsec_mb(Pool(SHAPES[0], shared.array), child))


def test_a_child_that_ends_is_an_error(tmp_path):
    script = tmp_path / "child"
    script.write_text("#!/bin/sh\nexit 3\n")
    script.chmod(0o755)
    with pytest.raises(RuntimeError, match="ended with code 3"):
        ipsec_mb.IpsecMb(script, ipsec_mb.Shared(4096))


# --- Ratios -------------------------------------------------------------------------------------------------


def contender(who, how, operation, shape, ns):
    """Return somebody who took `ns` at best, and twice that at the median."""
    timing = Timing(1, [Slice(ns, 2.0 * ns, 1)])
    return contenders.Contender(who, how, operation, shape, lambda slice_ns: timing.slices[0], timing)


def judge(*measured, ports=None, judged=True):
    """Return the criteria by (name, shape); each measured: who, how, operation, shape, ns."""
    field = criteria.Field([contender(*m) for m in measured], "vaes512")
    return {(c.name, c.shape): c for c in criteria.criteria(field, ports, judged)}


@pytest.mark.nojit
def test_the_faster_of_its_interfaces_counts():
    shape = Shape(128, 64, 16)
    ours = ("sevpcie", "vaes512", "seal", shape, 10.0)
    slow = [("sevpcie", "aesni", "seal", shape, 1.0), ("sevpcie kernel", "vaes512", "seal", shape, 1.0)]
    peers_ = [("ipsec-mb", "direct", "seal", shape, 31.0), ("ipsec-mb", "job", "seal", shape, 44.0)]
    opening = ("ipsec-mb", "direct", "open", shape, 5.0)
    found = judge(ours, *slow, *peers_, opening)[criteria.PEER, shape]
    assert (found.value, found.median_value, found.bar) == (3.1, 3.1, 3.0)
    assert found.met
    assert found.judged
    assert not judge(ours, ("ipsec-mb", "burst", "seal", shape, 29.9))[criteria.PEER, shape].met


@pytest.mark.nojit
@pytest.mark.parametrize(
    ("key_bits", "payload", "bar"),
    [(128, 64, 3.0), (128, 128, 2.5), (128, 256, 2.2), (256, 64, 1.8), (256, 128, 1.8), (256, 256, 1.8)],
)
def test_bars_beside_ipsec_mb(key_bits, payload, bar):
    for aad, keys in ((16, 1), (20, 1), (16, 6)):
        shape = Shape(key_bits, payload, aad, keys=keys)
        pair = [
            (who, how, "seal", shape, 1.0) for who, how in (("sevpcie", "vaes512"), ("ipsec-mb", "direct"))
        ]
        found = judge(*pair)[criteria.PEER, shape]
        assert found.bar == (bar if keys == 1 else None)
        assert found.judged == (keys == 1)
        assert found.met == (False if keys == 1 else None)


@pytest.mark.nojit
def test_other_bars():
    ports = Ports(512, 1.0, 1.0, 4.0)
    measured = []
    for size, aad, seal, opened in ((64, 16, 10, 11.5), (64, 20, 11, 12.7), (1024, 16, 300, 300)):
        shape = Shape(256, size, aad)
        measured += [
            ("sevpcie", "vaes512", "seal", shape, seal),
            ("sevpcie", "vaes512", "open", shape, opened),
        ]
        measured += [
            ("cryptography", "encrypt", "seal", shape, 400),
            ("cryptography", "encrypt_into", "seal", shape, 299),
        ]
    found = judge(*measured, ports=ports)
    short, longer, large = (Shape(256, size, aad) for size, aad in ((64, 16), (64, 20), (1024, 16)))
    assert found[criteria.OPEN, short].met
    assert found[criteria.OPEN, short].value == 1.15
    assert not found[criteria.OPEN, longer].met
    assert found[criteria.AAD, longer].met
    assert (criteria.AAD, short) not in found
    assert found[criteria.CALL, short].value == 29.9
    assert not found[criteria.CALL, short].met
    assert found[criteria.CALL, large].met is None
    # 227.5 rounds and 66.5 products.
    assert found[criteria.BOUND, large].value == pytest.approx(300 / 294)
    assert found[criteria.BOUND, large].met
    assert found[criteria.BOUND, short].met is None
    assert not any(c.judged for c in judge(*measured, ports=ports, judged=False).values())


# --- The command --------------------------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch):
    """Measure two shapes that no bar of speed applies to, shortly."""
    monkeypatch.setattr(
        peers, "_shapes", lambda: [Shape(128, 96, 16, 2048), Shape(128, 96, 16, 2048, keys=6)]
    )


def check(document, who):
    measured = {(m["contender"], m["how"], m["operation"], m["keys"]) for m in document["measurements"]}
    assert {m[0] for m in measured} == who
    assert all(0 < m["best_ns"] <= m["median_ns"] for m in document["measurements"])
    assert {"port_bound_ns", "criteria", "ports", "host", "versions", "options"} <= document.keys()


@pytest.mark.skipif(JIT_DISABLED, reason="measures compiled code")
def test_peers_prints_json(program, few, capsys):
    assert peers.main(["--quick", "--json", "--only", "crypto"]) in (0, 99)
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    check(document, {"sevpcie", "sevpcie kernel", "ipsec-mb", "cryptography"})
    assert document["ipsec_mb"]["library"]
    assert any(c["name"] == criteria.PEER for c in document["criteria"])
    assert "peers: round 4 of 4" in captured.err


@pytest.mark.skipif(JIT_DISABLED, reason="measures compiled code")
def test_without_the_library_the_rest_is_measured(few, capsys, monkeypatch):
    monkeypatch.setattr(ipsec_mb, "missing", lambda: "install this")
    assert peers.main(["--quick", "--json", "--only", "crypto"]) in (0, 99)
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    check(document, {"sevpcie", "sevpcie kernel", "cryptography"})
    assert document["missing"] == "install this"
    assert "peers: without intel-ipsec-mb: install this" in captured.err


@pytest.mark.skipif(JIT_DISABLED, reason="measures compiled code")
@pytest.mark.parametrize(("bar", "code"), [(1000.0, 99), (0.001, 0)])
def test_a_missed_bar_ends_with_99(bar, code, few, capsys, monkeypatch):
    monkeypatch.setattr(ipsec_mb, "missing", lambda: "install this")
    monkeypatch.setattr(peers, "_JUDGED_ON", set())
    monkeypatch.setattr(criteria, "CRYPTOGRAPHY_BYTES", 96)
    monkeypatch.setattr(criteria, "CRYPTOGRAPHY_BAR", bar)
    monkeypatch.setattr(criteria, "OPEN_BAR", 1000.0)
    assert peers.main(["--quick", "--only", "crypto"]) == code
    captured = capsys.readouterr()
    assert ("peers: missed: cryptography / sevpcie, seal, AES-128, 96 B" in captured.err) == (code == 99)
    assert "ns per packet, best of many" in captured.out
    assert ("(>= 1000)" in captured.out) == (code == 99)


# --- Simulators ---------------------------------------------------------------------------------------------

FEW = simulators.Sizes(ours=200, oracle=12, simpy=60, dma=16)


@pytest.fixture
def simpy_port():
    """Return the port to SimPy."""
    return pytest.importorskip("link_simpy", reason="simpy is not installed", exc_type=ImportError)


@pytest.fixture
def cocotb_link():
    """Skip where cocotbext-pcie is not there."""
    missing = link_cocotbext.missing()
    if missing:
        pytest.skip(missing)


def test_the_simpy_port_is_the_same_model(simpy_port, monkeypatch):
    """Every latency and the end to the picosecond, at several depths; and the check sees what is not."""
    for depth, requests in ((1, 20), (5, 150), (32, 300)):
        monkeypatch.setattr(simulators, "DEPTH", depth)
        assert simulators._simpy(requests).agrees == f"{requests} latencies equal"
    monkeypatch.setattr(simpy_port, "_DATA_LINK", 9)
    with pytest.raises(RuntimeError, match=r"SimPy port: \d+ of 40 latencies differ"):
        simulators._simpy(40)


def test_the_end_of_a_run_is_the_same(simpy_port):
    of = simulators.task(50)
    link, work = simulators.simpy_work(of)
    assert simpy_port.simulate(link, work, simulators.DEPTH).last_ps == simulators.outcome(of).job_ps[0]


@pytest.mark.parametrize(
    ("address", "size", "tlps", "wire"),
    # Completions end at multiples of 64 B and carry 256 B at most, as tests/oracles/split_naive has it.
    [(0x1000, 512, 2, 552), (0x1010, 512, 3, 572), (0x10C4, 4, 1, 24), (0x1000, 64, 1, 84)],
)
def test_completions_of_the_simpy_port(simpy_port, address, size, tlps, wire):
    from fractions import Fraction

    from oracles.split_naive import completions

    link = simpy_port.Link(Fraction(1), 0, 256, 512, 64, 256, 8, 0)
    found = simpy_port._answer(link, address, size)
    assert (found.tlps, found.wire) == (tlps, wire)
    assert tlps == len(completions(address, size, 64, 256))


def test_the_oracle_is_compared_to_the_picosecond(monkeypatch):
    assert simulators._oracle(12).agrees == "12 latencies equal"
    monkeypatch.setattr(simulators, "_TESTS", Path("/nowhere"))
    assert simulators._oracle(12).missing == "/nowhere/oracles is not there"


def test_cocotbext_says_the_same_throughput(cocotb_link, monkeypatch):
    for kind in ("read", "write"):
        assert simulators._near(kind, 32).startswith("throughput ")
    monkeypatch.setattr(simulators, "TOLERANCE_PCT", 0.0)
    with pytest.raises(RuntimeError, match="cocotbext-pcie: reads off by"):
        simulators._near("read", 32)


def test_cocotbext_is_as_in_the_reference_data(cocotb_link):
    """4,096 B reads at Gen3 x8: 58.34 Gb/s, 768 TLPs (README of the reference data)."""
    found = link_cocotbext.dma(3, 8, "read", 4096, 32)
    assert found.tlps == 768
    assert 8e3 * 4096 * 32 / found.ps == pytest.approx(58.34, rel=1e-3)


def test_simulators_print_json(capsys, monkeypatch):
    monkeypatch.setattr(simulators, "QUICK", FEW)
    assert peers.main(["--quick", "--json", "--only", "simulators"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    rows = document["simulators"]["rows"]
    assert document["simulators"]["options"]["simpy"] == 60
    assert [(r["contender"], r["workload"]) for r in rows] == [
        ("sevpcie", simulators.NVME),
        ("heapq oracle", simulators.NVME),
        ("SimPy port", simulators.NVME),
        ("sevpcie", simulators.DMA["read"]),
        ("cocotbext-pcie", simulators.DMA["read"]),
        ("sevpcie", simulators.DMA["write"]),
        ("cocotbext-pcie", simulators.DMA["write"]),
    ]
    for row in rows:
        if row["missing"]:
            assert row["tlps_per_s"] is row["ratio"] is None
        else:
            assert row["tlps_per_s"] >= row["tlps_per_s_median"] > 0
            assert row["version"]
            assert (row["ratio"] == 1) == (row["contender"] == "sevpcie")
    assert "peers: simulators, round 3 of 3" in captured.err


def test_who_is_missing_is_a_row_with_its_reason(capsys, monkeypatch):
    monkeypatch.setattr(simulators, "QUICK", FEW)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "simpy" else find(name, *a)
    )
    monkeypatch.setattr(link_cocotbext, "PACKAGES", ("cocotbext-of-nowhere",))
    assert peers.main(["--quick", "--only", "simulators"]) == 0
    out = capsys.readouterr().out
    assert "absent: see below" in out
    assert "SimPy port: simpy is not installed (pip install '.[peers]')" in out
    assert out.count("cocotbext-of-nowhere is not installed") == 1


def test_another_cocotb_is_a_reason(cocotb_link, monkeypatch):
    monkeypatch.setitem(link_cocotbext._PRIVATE, "cocotb.simtime", ("not_there",))
    assert "does not run without an HDL simulator" in link_cocotbext.missing()


def test_ratios_are_of_times_per_tlp():
    ours = simulators.Contender("sevpcie", "w", "1", lambda: simulators.Run(1000, 0.001))
    slow = simulators.Contender("SimPy port", "w", "1", lambda: simulators.Run(10, 0.004))
    for contender in (ours, slow):
        contender.slice()
    mine, theirs = simulators.rows([ours, slow])
    assert mine["tlps_per_s"] == pytest.approx(1e6)
    assert theirs["ratio"] == theirs["ratio_median"] == pytest.approx(400)
    assert simulators.missed([mine, theirs]) == ["SimPy port: 2500 TLPs/s, expected at least 5000"]
    assert simulators.missed([mine, theirs | {"tlps_per_s": 5001.0}]) == []


def test_a_port_that_is_too_slow_ends_with_99(simpy_port, capsys, monkeypatch):
    monkeypatch.setattr(simulators, "QUICK", FEW)
    monkeypatch.setattr(simulators, "SIMPY_LEAST", 1e12)
    assert peers.main(["--quick", "--only", "simulators"]) == 99
    assert "peers: missed: SimPy port" in capsys.readouterr().err
