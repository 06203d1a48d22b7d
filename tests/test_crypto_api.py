"""What a caller sees: one packet at a time, what is refused, and which backend is chosen."""

import dataclasses
import itertools
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from crypto_backends import Batch, changes, every_backend, every_key_size, every_tag_size, table
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import gcm_bits

from sevpcie_core._jit import cpu
from sevpcie_core.crypto import backends
from sevpcie_core.crypto.batch import SCRATCH_BYTES, AesGcm, examine, open_batch, seal_batch
from sevpcie_core.crypto.keys import MAX_AAD_BYTES, MAX_TEXT_BYTES
from sevpcie_core.crypto.packet import PACKET
from sevpcie_core.errors import ConfigError, IntegrityError, MisuseError

NONCE = bytes(range(12))


@pytest.fixture
def use(monkeypatch):
    """Return `use(name)`, which makes a backend the process's own."""

    def choose(name: str) -> None:
        monkeypatch.setenv(backends.VARIABLE, name)
        backends.default.cache_clear()

    yield choose
    monkeypatch.undo()
    backends.default.cache_clear()


# --- One packet at a time ----------------------------------------------------------------------------------


@pytest.mark.nojit
@every_backend
@every_tag_size
@every_key_size
def test_one_packet(backend, key_bytes, tag_bytes, use):
    use(backend)
    rng = np.random.default_rng([key_bytes, tag_bytes])
    key = rng.bytes(key_bytes)
    gcm = AesGcm(key, tag_bytes)
    for aad_bytes, text_bytes in [(0, 0), (20, 64), (1, 1), (33, 257), (512, 4112)]:
        nonce, aad, text = rng.bytes(12), rng.bytes(aad_bytes), rng.bytes(text_bytes)
        sealed = gcm.seal(nonce, aad, text)
        expected = AESGCM(key).encrypt(nonce, text, aad)
        assert sealed == expected[: text_bytes + tag_bytes]
        assert gcm.open(nonce, aad, sealed) == text
        for place in {0, text_bytes // 2, text_bytes, text_bytes + tag_bytes - 1}:
            wrong = bytearray(sealed)
            wrong[place] ^= 0x80
            with pytest.raises(IntegrityError, match="does not match"):
                gcm.open(nonce, aad, bytes(wrong))
        with pytest.raises(IntegrityError):
            gcm.open(nonce[:-1] + bytes([nonce[-1] ^ 1]), aad, sealed)
        with pytest.raises(IntegrityError):
            gcm.open(nonce, aad[:-1] if aad else b"\0", sealed)
        with pytest.raises((IntegrityError, MisuseError)):
            gcm.open(nonce, aad, sealed[:-1])


@pytest.mark.nojit
@settings(max_examples=15)
@given(
    key=st.sampled_from([16, 32]).flatmap(lambda n: st.binary(min_size=n, max_size=n)),
    nonce=st.binary(min_size=12, max_size=12),
    aad=st.binary(max_size=40),
    text=st.binary(max_size=70),
)
def test_any_key(key, nonce, aad, text):
    sealed = AesGcm(key).seal(nonce, aad, text)
    assert sealed == gcm_bits.seal(key, nonce, aad, text, 12)
    assert AesGcm(key).open(nonce, aad, sealed) == text


def test_what_one_packet_may_not_be():
    gcm = AesGcm(bytes(16))
    for key in (b"", bytes(15), bytes(17), bytes(24), bytes(33)):
        with pytest.raises(MisuseError, match="key"):
            AesGcm(key)
    for tag_bytes in (0, 4, 8, 11, 13, 15, 17, -12):
        with pytest.raises(MisuseError, match="tag_bytes"):
            AesGcm(bytes(16), tag_bytes)
    for nonce in (b"", bytes(11), bytes(13), bytes(16)):
        with pytest.raises(MisuseError, match="nonce"):
            gcm.seal(nonce, b"", b"")
        with pytest.raises(MisuseError, match="nonce"):
            gcm.open(nonce, b"", bytes(12))
    with pytest.raises(MisuseError, match=r"aad_bytes is not 0\.\.512"):
        gcm.seal(NONCE, bytes(MAX_AAD_BYTES + 1), b"")
    with pytest.raises(MisuseError, match=r"text_bytes is not 0\.\.4112"):
        gcm.seal(NONCE, b"", bytes(MAX_TEXT_BYTES + 1))
    with pytest.raises(MisuseError, match="text_bytes"):
        gcm.open(NONCE, b"", bytes(MAX_TEXT_BYTES + 13))
    for size in (0, 11):
        with pytest.raises(MisuseError, match="less than a tag"):
            gcm.open(NONCE, b"", bytes(size))


# --- What a batch may not be -------------------------------------------------------------------------------


def refused(batch: Batch, match: str, opening: bool) -> None:
    """Call with a batch that must be refused before anything is written."""
    before = [array.copy() for array in (batch.aad, batch.text, batch.out, batch.packets)]
    call = open_batch if opening else seal_batch
    with pytest.raises(MisuseError, match=match):
        call(batch.keys, batch.packets, batch.aad, batch.text, batch.out, batch.tag_bytes)
    for array, old in zip((batch.aad, batch.text, batch.out, batch.packets), before, strict=True):
        assert (array == old).all()


def nine(tag_bytes: int, opening: bool, count: int = 9) -> Batch:
    batch = Batch([(0, 20, 40)] * count, tag_bytes=tag_bytes, max_gap=0)
    if opening:
        batch.turn_round()
    return batch


def outside(batch: Batch, opening: bool) -> dict[str, tuple[str, list[int]]]:
    """Return, for each field, the complaint and values just outside and far outside."""
    size, t = batch.tag_bytes, 40
    far = [-1, -(1 << 63), (1 << 63) - 1, (1 << 63) - 12, 1 << 62]
    tagged = batch.text if opening else batch.out
    return {
        "key": ("key is not a row", [len(batch.keys), (1 << 31) - 1, 1 << 31, (1 << 32) - 1]),
        "aad_bytes": ("aad_bytes", [-1, MAX_AAD_BYTES + 1, -(1 << 31), (1 << 31) - 1]),
        "text_bytes": ("text_bytes", [-1, MAX_TEXT_BYTES + 1, -(1 << 31), (1 << 31) - 1]),
        "aad": ("aad lies outside", [len(batch.aad) - 20 + 1, *far]),
        "text": ("text lies outside", [len(batch.text) - t + 1, *far]),
        "out": ("out lies outside", [len(batch.out) - t + 1, *far]),
        "tag": ("tag lies outside", [len(tagged) - size + 1, *far]),
    }


@pytest.mark.nojit
@pytest.mark.parametrize("opening", [False, True], ids=["seal", "open"])
@every_tag_size
def test_ranges(tag_bytes, opening):
    for place in (0, 3, 8):
        for name, (complaint, values) in outside(nine(tag_bytes, opening), opening).items():
            for value in values:
                batch = nine(tag_bytes, opening)
                batch.packets[name][place] = value
                refused(batch, f"packet {place}: {complaint}", opening)


@pytest.mark.nojit
def test_the_last_place_is_inside():
    # One less than the smallest that `outside` tries, at the end of every array.
    for opening in (False, True):
        batch = nine(12, opening, 1)
        fields = outside(batch, opening)
        for name in ("aad", "text", "out", "tag"):
            packets = batch.packets.copy()
            packets[name] = fields[name][1][0] - 1
            sizes = len(batch.keys), *map(len, (batch.aad, batch.text, batch.out))
            tagged = len(batch.text if opening else batch.out)
            assert examine(packets, *sizes, tagged, 12, MAX_AAD_BYTES, MAX_TEXT_BYTES) >= 0


def plain_check(row, sizes, tag_bytes) -> int:
    """The checks of a batch in unbounded integers: the first that a packet breaks, or -1."""
    keys, aad, text, out, tagged = sizes
    p = {name: int(row[name]) for name in PACKET.names}
    holds = (
        p["key"] < keys,
        0 <= p["aad_bytes"] <= MAX_AAD_BYTES,
        0 <= p["text_bytes"] <= MAX_TEXT_BYTES,
        p["aad"] >= 0 and p["aad"] + p["aad_bytes"] <= aad,
        p["text"] >= 0 and p["text"] + p["text_bytes"] <= text,
        p["out"] >= 0 and p["out"] + p["text_bytes"] <= out,
        p["tag"] >= 0 and p["tag"] + tag_bytes <= tagged,
    )
    return next((i for i, good in enumerate(holds) if not good), -1)


OFFSETS = st.one_of(
    st.integers(0, 80), st.integers(-(1 << 63), (1 << 63) - 1), st.sampled_from([4096, 1 << 40])
)
SIZES = st.one_of(
    st.integers(0, 40), st.integers(-(1 << 31), (1 << 31) - 1), st.sampled_from([512, 513, 4112, 4113])
)


@pytest.mark.nojit
@settings(max_examples=300)
@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 3) | st.integers(0, (1 << 32) - 1),
            OFFSETS,
            OFFSETS,
            OFFSETS,
            OFFSETS,
            SIZES,
            SIZES,
        ),
        min_size=1,
        max_size=3,
    ),
    sizes=st.tuples(
        st.integers(1, 4), *[st.one_of(st.integers(0, 100), st.sampled_from([1 << 13, 1 << 41]))] * 4
    ),
    tag_bytes=st.sampled_from([12, 16]),
)
def test_checks_are_those_of_unbounded_integers(rows, sizes, tag_bytes):
    packets = np.zeros(len(rows), PACKET)
    for packet, row in zip(packets, rows, strict=True):
        for name, value in zip(PACKET.names[2:], row, strict=True):
            packet[name] = value
    found = (plain_check(p, sizes, tag_bytes) for p in packets)
    expected = next((-1 - (7 * i + check) for i, check in enumerate(found) if check >= 0), None)
    if expected is None:
        expected = changes(packets)
    assert examine(packets, *sizes, tag_bytes, MAX_AAD_BYTES, MAX_TEXT_BYTES) == expected


takes_equal_packets = pytest.mark.parametrize(
    "backend", [name for name in backends.available() if backends.load(name).seal_alike]
)
ROOM = 8192


@takes_equal_packets
@pytest.mark.parametrize("opening", [False, True], ids=["seal", "open"])
@pytest.mark.parametrize("tag_bytes", [12, 16])
def test_the_edges_of_equal_packets(backend, opening, tag_bytes):
    sizes = {"aad": 20, "text": 64, "out": 64, "tag": tag_bytes}
    for name, size in sizes.items():
        for edge in (-(1 << 63), -1, 0, ROOM - size, ROOM - size + 1, (1 << 63) - 1):
            for at in (0, 4, 8):
                packets = np.zeros(9, PACKET)
                packets["aad_bytes"], packets["text_bytes"], packets["key"] = 20, 64, 1
                packets[name][at] = edge
                assert alike(backend, packets, tag_bytes, opening) == (0 <= edge <= ROOM - size)


@takes_equal_packets
@settings(max_examples=200)
@given(data=st.data())
def test_equal_packets_are_checked_like_others(backend, data):
    packets = np.zeros(data.draw(st.integers(1, 9)), PACKET)
    packets["aad_bytes"] = data.draw(st.sampled_from([0, 16, 20, 512, 513, -1]))
    packets["text_bytes"] = data.draw(st.sampled_from([0, 4, 64, 200, 4112, 4113, -4]))
    packets["key"] = data.draw(st.sampled_from([0, 4, 5, (1 << 32) - 1]))
    if data.draw(st.booleans()):
        field = data.draw(st.sampled_from(["key", "aad_bytes", "text_bytes"]))
        packets[field][data.draw(st.integers(0, len(packets) - 1))] = 1
    alike(backend, packets, data.draw(st.sampled_from([12, 16])), data.draw(st.booleans()))


def alike(backend, packets, tag_bytes, opening) -> bool:
    """Return what the kernel says of packets in arrays of ROOM bytes, compared with the checks of others."""
    keys = table(16)[0]
    sizes = (len(keys), *[ROOM] * 4)
    good = all(plain_check(p, sizes, tag_bytes) < 0 for p in packets) and changes(packets) == 1
    arrays = [np.full(ROOM, fill, np.uint8) for fill in (1, 2, 3)]
    arguments = [keys.round_keys, keys.powers, keys.rounds, packets, *arrays, tag_bytes]
    arguments.append(np.zeros(SCRATCH_BYTES, np.uint8))
    chosen = backends.load(backend)
    if opening:
        done = chosen.open_alike(*arguments, np.zeros(len(packets), np.uint8))
    else:
        done = chosen.seal_alike(*arguments)
    assert done == good
    # Nothing is written where the answer is no.
    assert good or [set(array.tolist()) for array in arrays] == [{1}, {2}, {3}]
    return bool(done)


def test_a_batch_takes_only_its_own_types():
    batch = Batch([(0, 20, 40)] * 4)
    keys, packets, aad, text, out = batch.keys, batch.packets, batch.aad, batch.text, batch.out
    frozen = out.copy()
    frozen.flags.writeable = False
    wrong = [
        (packets.view(np.uint8), aad, text, out, "PACKET"),
        (packets[::2], aad, text, out, "PACKET"),
        (packets.reshape(2, 2), aad, text, out, "PACKET"),
        (packets, aad.astype(np.int8), text, out, "aad"),
        (packets, aad, text.astype(np.uint16), out, "text"),
        (packets, aad, text, out[::2], "out"),
        (packets, aad, text, out[::-1], "out"),
        (packets, aad, text[None, :], out, "text"),
        (packets, aad, text, frozen, "read-only"),
    ]
    before = out.copy()
    for *arguments, match in wrong:
        for call in (seal_batch, open_batch):
            with pytest.raises(MisuseError, match=match):
                call(keys, *arguments)
    for tag_bytes in (0, 4, 11, 13, 17):
        for call in (seal_batch, open_batch):
            with pytest.raises(MisuseError, match="12 or 16"):
                call(keys, packets, aad, text, out, tag_bytes)
    assert (out == before).all()


@every_backend
def test_inputs_may_be_read_only(backend):
    batch = Batch([(i % 2, 20, 40) for i in range(9)])
    for array in (batch.aad, batch.text, batch.packets):
        array.flags.writeable = False
    expected = batch.sealed()
    seal_batch(batch.keys, batch.packets, batch.aad, batch.text, batch.out, 12, backends.load(backend))
    assert (batch.out == expected).all()


@every_backend
def test_an_empty_batch(backend):
    nothing = np.zeros(0, np.uint8)
    keys, _ = table(16)
    packets = np.zeros(0, PACKET)
    seal_batch(keys, packets, nothing, nothing, nothing, 12, backends.load(backend))
    assert open_batch(keys, packets, nothing, nothing, nothing, 12, backends.load(backend)).shape == (0,)


@every_backend
def test_threads_share_nothing(backend):
    # Kernels let go of the interpreter lock; a table and a backend may be used by many threads at once.
    from concurrent.futures import ThreadPoolExecutor

    def work(seed: int) -> None:
        for turn in range(5):
            Batch([(i % 5, 33, 130) for i in range(40)], 32, seed=10 * seed + turn).check(backend)

    table(32)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(8)))


# --- Which backend -----------------------------------------------------------------------------------------


def test_portable_is_always_there():
    assert backends.available()[0] == "portable"
    assert set(backends.available()) <= set(backends.names())


@every_backend
def test_the_variable_chooses(backend, use):
    use(backend)
    chosen = backends.default()
    assert chosen.name == backend
    assert chosen is backends.load(backend)
    # It is what seals when nobody says otherwise.
    batch = Batch([(0, 20, 40)] * 5)
    calls = []
    first = chosen.seal_alike or chosen.seal
    spied = {"seal_alike" if chosen.seal_alike else "seal": lambda *a: calls.append(a) or first(*a)}
    spy = dataclasses.replace(chosen, **spied)
    expected = batch.sealed()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backends, "default", lambda: spy)
        seal_batch(batch.keys, batch.packets, batch.aad, batch.text, batch.out)
    assert len(calls) == 1
    assert (batch.out == expected).all()


def test_without_the_variable_the_fastest_is_chosen(use, monkeypatch):
    use("portable")
    monkeypatch.delenv(backends.VARIABLE)
    backends.default.cache_clear()
    assert backends.default().name == backends.available()[-1]


@pytest.mark.parametrize("name", ["", "openssl", "VAES", "aesni ", "../portable"])
def test_unknown_names(name, use):
    with pytest.raises(ConfigError, match="is unknown: choose from portable"):
        backends.load(name)
    if name:
        use(name)
        with pytest.raises(ConfigError) as caught:
            backends.default()
        assert str(caught.value).startswith(f"{backends.VARIABLE}: AES backend {name!r} is unknown")
        for choice in backends.available():
            assert choice in str(caught.value)


@pytest.fixture
def features(monkeypatch):
    """Return `features(names)`, which makes the CPU one that has just these."""

    def choose(*names: str) -> None:
        monkeypatch.setattr(cpu, "features", lambda: frozenset(names))
        backends.load.cache_clear()
        backends.default.cache_clear()

    monkeypatch.delenv(backends.VARIABLE, raising=False)
    yield choose
    monkeypatch.undo()
    backends.load.cache_clear()
    backends.default.cache_clear()


AES = ("aes", "pclmul", "sse4.1", "ssse3")
WIDE = ("vaes", "vpclmulqdq")
AVX512 = ("avx512f", "avx512bw", "avx512vl", "bmi2")


@pytest.mark.parametrize(
    ("has", "expected"),
    [
        ((), ["portable"]),
        (AES[1:], ["portable"]),
        ((AES[0], *AES[2:]), ["portable"]),
        ((*WIDE, "avx2", *AVX512), ["portable"]),
        (AES, ["portable", "aesni"]),
        ((*AES, "avx2", *AVX512), ["portable", "aesni"]),
        *[
            ((*AES, *(f for f in (*WIDE, "avx2") if f != without)), ["portable", "aesni"])
            for without in (*WIDE, "avx2")
        ],
        ((*AES, *WIDE, "avx2"), ["portable", "aesni", "vaes256"]),
        *[
            ((*AES, *WIDE, "avx2", *(f for f in AVX512 if f != without)), ["portable", "aesni", "vaes256"])
            for without in AVX512
        ],
        ((*AES, *WIDE, "avx2", *AVX512), ["portable", "aesni", "vaes256", "vaes512"]),
    ],
)
def test_what_a_cpu_can_do(features, has, expected):
    features(*has)
    assert backends.available() == expected
    for name in ("aesni", "vaes256", "vaes512"):
        if name not in expected:
            with pytest.raises(
                ConfigError, match=f"{name}' is not available on this CPU: choose from portable"
            ):
                backends.load(name)
    if not any(name.startswith("vaes") for name in expected):
        with pytest.raises(ConfigError, match="not available"):
            backends.load("vaes")


def test_a_cpu_with_nothing_uses_portable(features):
    features()
    assert backends.default().name == "portable"
    sealed = AesGcm(bytes(range(16))).seal(NONCE, b"aad", b"text")
    assert sealed == gcm_bits.seal(bytes(range(16)), NONCE, b"aad", b"text", 12)


@pytest.mark.skipif(backends.available()[-1] == "portable", reason="this CPU has no AES instructions")
def test_vaes_means_the_widest():
    wide = [name for name in backends.available() if name.startswith("vaes")]
    if wide:
        assert backends.load("vaes").name == wide[-1]
    else:
        with pytest.raises(ConfigError):
            backends.load("vaes")


ELSEWHERE = """
import json
from crypto_backends import Batch
from sevpcie_core.crypto import backends

Batch([(i % 5, 20 + i % 30, 3 * i) for i in range(100)], 16, 12, "in place").check(backends.default().name)
Batch([(1, 20, 64)] * 9, 32, 16).check(backends.default().name)
print(json.dumps([backends.default().name, backends.available()]))
"""


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"NUMBA_CPU_NAME": "generic"}, ["portable"]),
        ({"NUMBA_DISABLE_JIT": "1"}, ["portable"]),
    ],
    ids=["named CPU", "interpreted"],
)
def test_another_cpu(root, environment, expected):
    # Compiled for the CPU that Numba was told of, from the first kernel on.
    clean = {k: v for k, v in os.environ.items() if k != backends.VARIABLE and not k.startswith("NUMBA_CPU")}
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        env={**clean, "PYTHONPATH": str(root / "tests"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [expected[-1], expected]


@pytest.mark.skipif("aesni" not in backends.available(), reason="this CPU has no AES instructions")
def test_a_cpu_with_aes_alone(root):
    features = "+sse2,+ssse3,+sse4.1,+sse4.2,+aes,+pclmul"
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        env={
            **{k: v for k, v in os.environ.items() if k != backends.VARIABLE},
            "PYTHONPATH": str(root / "tests"),
            "NUMBA_CPU_NAME": "generic",
            "NUMBA_CPU_FEATURES": features,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["aesni", ["portable", "aesni"]]


def test_overlaps_are_the_callers():
    # Not checked: what a packet writes may not overlap what another reads or writes. In place it may.
    for order in itertools.permutations(range(3)):
        batch = Batch([(0, 20, 40)] * 3, layout="in place")
        batch.packets = batch.packets[list(order)].copy()
        batch.check("portable")
