"""Key schedules: AES round keys, and the powers of the hash key in POLYVAL's domain."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import gcm_bits

from sevpcie_core.crypto import keys
from sevpcie_core.crypto.keys import MAX_AAD_BYTES, MAX_TEXT_BYTES, POWERS, SPARE_POWERS, KeyTable, expand_key
from sevpcie_core.errors import MisuseError

pytestmark = pytest.mark.nojit

# FIPS 197, appendix A.1 and A.3: words of the expanded keys, by index.
SCHEDULES = {
    "2b7e151628aed2a6abf7158809cf4f3c": {
        4: "a0fafe17 88542cb1 23a33939 2a6c7605",
        8: "f2c295f2 7a96b943 5935807a 7359f67f",
        24: "6d88a37a 110b3efd dbf98641 ca0093fd",
        36: "ac7766f3 19fadc21 28d12941 575c006e",
        40: "d014f9a8 c9ee2589 e13f0cc8 b6630ca6",
    },
    "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4": {
        8: "9ba35411 8e6925af a51a8b5f 2067fcde",
        12: "a8b09c1a 93d194cd be49846e b75d5b9a",
        16: "d59aecb8 5bf3c917 fee94248 de8ebe96",
        56: "fe4890d1 e6188d0b 046df344 706c631e",
    },
}


@pytest.mark.parametrize("key", SCHEDULES, ids=["AES-128", "AES-256"])
def test_published_schedules(key):
    schedule = expand_key(bytes.fromhex(key)).hex()
    assert schedule.startswith(key)
    assert len(schedule) == 8 * {32: 44, 64: 60}[len(key)]
    for index, words in SCHEDULES[key].items():
        joined = words.replace(" ", "")
        assert schedule[8 * index : 8 * index + len(joined)] == joined


@settings(max_examples=30)
@given(st.sampled_from([16, 32]).flatmap(lambda n: st.binary(min_size=n, max_size=n)))
def test_schedules_are_the_oracles(key):
    assert expand_key(key) == b"".join(gcm_bits.expand(key))


def polyval_dot(a: int, b: int) -> int:
    """a * b * x^-128, bit by bit (RFC 8452, section 3)."""
    polynomial = 1 << 128 | 1 << 127 | 1 << 126 | 1 << 121 | 1
    product = 0
    for i in range(128):
        if b >> i & 1:
            product ^= a << i
    for _ in range(128):
        # Divide by x; what is odd is made even first.
        product = (product ^ polynomial if product & 1 else product) >> 1
    return product


def little(text: str) -> int:
    return int.from_bytes(bytes.fromhex(text), "little")


def test_the_rfcs_products():
    # RFC 8452, section 7 (dot) and appendix A (POLYVAL and GHASH of the same blocks).
    a, b = little("66e94bd4ef8a2c3b884cfa59ca342b2e"), little("ff000000000000000000000000000000")
    assert polyval_dot(a, b) == little("ebe563401e7e91ea3ad6426b8140c394")
    h = little("25629347589242761d31f826ba4b757b")
    x1, x2 = little("4f4f95668c83dfb6401762bb2d01a262"), little("d1a24ddd2721d006bbe45f20d3c9f362")
    polyval = polyval_dot(polyval_dot(x1, h) ^ x2, h)
    assert polyval == little("f7a3b47b846119fae5b7866cf5e5b77e")
    # The sum over powers is the same number.
    assert polyval == polyval_dot(x1, polyval_dot(h, h)) ^ polyval_dot(x2, h)
    ghash = gcm_bits.ghash(
        bytes.fromhex("25629347589242761d31f826ba4b757b"),
        bytes.fromhex("4f4f95668c83dfb6401762bb2d01a262d1a24ddd2721d006bbe45f20d3c9f362"),
    )
    assert ghash.hex() == "bd9b3997046731fb96251b91f9c99d7a"


@pytest.mark.parametrize("key_bytes", [16, 32])
def test_powers(key_bytes):
    secrets = [bytes(range(key_bytes)), bytes(key_bytes)]
    table = KeyTable(secrets)
    for row, key in enumerate(secrets):
        h = gcm_bits.encrypt_block(gcm_bits.expand(key), bytes(16))
        # RFC 8452, appendix A: POLYVAL's key is mulX_GHASH(ByteReverse(H)), and so x times as much as H.
        reversed_h = int.from_bytes(h, "big")
        base = reversed_h << 1
        if base >> 128:
            base ^= 1 << 128 | 1 << 127 | 1 << 126 | 1 << 121 | 1
        powers = [int.from_bytes(p.tobytes(), "little") for p in table.powers[row]]
        assert powers[POWERS - 1] == base
        assert powers[POWERS:] == [0] * SPARE_POWERS
        for i in range(POWERS - 1):
            assert powers[i] == polyval_dot(powers[i + 1], base)


@settings(max_examples=25)
@given(st.binary(min_size=16, max_size=16 * 12), st.sampled_from([16, 32]))
def test_powers_give_ghash(data, key_bytes):
    data = gcm_bits.pad(data)
    key = bytes(range(1, key_bytes + 1))
    h = gcm_bits.encrypt_block(gcm_bits.expand(key), bytes(16))
    rows = KEYS[key_bytes].powers[0]
    n = len(data) // 16
    total = 0
    for i in range(n):
        block = int.from_bytes(data[16 * i : 16 * i + 16], "big")
        total ^= polyval_dot(block, int.from_bytes(rows[POWERS - n + i].tobytes(), "little"))
    assert total.to_bytes(16, "big") == gcm_bits.ghash(h, data)


KEYS = {n: KeyTable([bytes(range(1, n + 1))]) for n in (16, 32)}


def test_there_are_enough_powers():
    blocks = -(-MAX_AAD_BYTES // 16) + -(-MAX_TEXT_BYTES // 16) + 1
    # The longest packet, and a register of four blocks that begins at any of them.
    assert blocks <= POWERS
    assert SPARE_POWERS >= 3


@pytest.mark.parametrize(("key_bytes", "rounds"), [(16, 10), (32, 14)])
def test_a_table_keeps_its_keys_in_order(key_bytes, rounds):
    rng = np.random.default_rng(1)
    secrets = [rng.bytes(key_bytes) for _ in range(3)]
    table = KeyTable(secrets)
    assert (len(table), table.rounds, table.key_bits) == (3, rounds, 8 * key_bytes)
    for row, key in enumerate(secrets):
        used = table.round_keys[row, : rounds + 1].tobytes()
        assert used == expand_key(key)
        assert not table.round_keys[row, rounds + 1 :].any()
    assert table.round_keys.flags.c_contiguous
    assert table.powers.flags.c_contiguous


@pytest.mark.parametrize(
    "secrets", [[], [bytes(15)], [bytes(24)], [bytes(16), bytes(32)], [b""], [bytes(32), bytes(33)]]
)
def test_other_sizes_are_refused(secrets):
    with pytest.raises(MisuseError, match="16 bytes or of 32 bytes"):
        KeyTable(secrets)


def test_a_table_does_not_show_its_keys():
    key = bytes(range(100, 116))
    text = repr(KeyTable([key])) + str(KeyTable([key]))
    assert "128 bits" in text
    assert key.hex() not in text
    assert repr(key) not in text


def test_the_sbox_is_the_oracles():
    assert list(keys._sbox()) == gcm_bits.SBOX
