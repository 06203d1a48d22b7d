"""`make peers`: intel-ipsec-mb seals and opens the same bits, and the ratios are the right ones."""

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
import peers

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
    assert peers.main(["--quick", "--json"]) in (0, 99)
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    check(document, {"sevpcie", "sevpcie kernel", "ipsec-mb", "cryptography"})
    assert document["ipsec_mb"]["library"]
    assert any(c["name"] == criteria.PEER for c in document["criteria"])
    assert "peers: round 4 of 4" in captured.err


@pytest.mark.skipif(JIT_DISABLED, reason="measures compiled code")
def test_without_the_library_the_rest_is_measured(few, capsys, monkeypatch):
    monkeypatch.setattr(ipsec_mb, "missing", lambda: "install this")
    assert peers.main(["--quick", "--json"]) in (0, 99)
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
    assert peers.main(["--quick"]) == code
    captured = capsys.readouterr()
    assert ("peers: missed: cryptography / sevpcie, seal, AES-128, 96 B" in captured.err) == (code == 99)
    assert "ns per packet, best of many" in captured.out
    assert ("(>= 1000)" in captured.out) == (code == 99)
