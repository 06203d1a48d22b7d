"""What a transmitter puts on the wire: prefix, units, trailers, lengths; read back by a plain reader."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ide_help import (
    batch_of,
    cfgrd1,
    codes,
    cpl,
    cpld,
    ends,
    forge,
    key_of,
    mrd,
    msg,
    mwr,
    mwr32,
    open_,
    reader,
    seal,
    tlps_of,
    word,
)

from sevpcie_core.errors import FormatError, MisuseError
from sevpcie_core.ide import SEALED, StreamConfig, seal_stream
from sevpcie_core.tlp.batch import Batch
from sevpcie_core.tlp.size import ide_bytes

pytestmark = pytest.mark.nojit

P64 = bytes(range(64))


def is_sync(tlp: bytes) -> bool:
    return tlp[0] in (0x32, 0x34) and tlp[7] == 0x54


# --- The prefix ---------------------------------------------------------------------------------------


def test_prefix_fields() -> None:
    a, _ = ends(stream_id=0xA5)
    wire, status = seal(a, [mwr(P64), mrd(), cpld(P64), mwr(P64), cpl()], tee=np.array([1, 0, 1, 0, 0], bool))
    assert [tlp[:4].hex() for tlp in wire] == ["9200a505", "9201a514", "9201a525", "9200a504", "9201a524"]
    assert status["pr_sent"].tolist() == [0, 1, 1, 0, 1]
    assert status["counter"].tolist() == [1, 1, 1, 2, 2]
    assert status["t"].tolist() == [1, 0, 1, 0, 0]
    assert status["unit"].tolist() == [0, 1, 2, 3, 4]
    assert set(status["m"]) == {1}


def test_prefix_stands_between_local_and_end_prefixes() -> None:
    local, tph = bytes.fromhex("8e000001"), bytes.fromhex("90000002")
    a, b = ends()
    wire, _ = seal(a, [local + tph + mwr(P64)])
    assert wire[0][:12] == local + bytes.fromhex("92000104") + tph
    assert open_(b, wire)[0] == [local + tph + mwr(P64)]


@pytest.mark.parametrize("kind", ["selective", "link"])
def test_local_prefixes_are_covered_on_links_only(kind: Any) -> None:
    config = StreamConfig(kind=kind)
    a, b = ends(config)
    wire, _ = seal(a, [bytes.fromhex("8e000001") + mwr(P64)])
    assert reader(config).read(wire) == [bytes.fromhex("8e000001") + mwr(P64)]
    changed = bytes.fromhex("8e0000ff") + wire[0][4:]
    assert codes(open_(b, [changed])[1]) == ["RELEASED" if kind == "selective" else "REJECTED"]


# --- Units --------------------------------------------------------------------------------------------


def members(wire: list[bytes]) -> list[int]:
    """Return M of each TLP."""
    return [tlp[3] >> 2 & 1 for tlp in wire]


@pytest.mark.parametrize(("size", "expected"), [(1, [1] * 5), (2, [0, 1, 0, 1, 1]), (4, [0, 0, 0, 1, 1])])
def test_a_unit_closes_when_it_is_full(size: int, expected: list[int]) -> None:
    config = StreamConfig(aggregation=(1, size, 1))
    a, _ = ends(config)
    wire, status = seal(a, [mwr(P64)] * 5)
    assert members(wire) == expected
    assert status["m"].tolist() == expected
    assert reader(config).read(wire) == [mwr(P64)] * 5


def test_each_sub_stream_has_its_own_size() -> None:
    """The order of `aggregation` is that of the registers: non-posted, posted, completions."""
    a, b = ends(aggregation=(2, 4, 8))
    tlps = [mrd()] * 4 + [mwr(P64)] * 4 + [cpld(P64)] * 8
    wire, _ = seal(a, tlps)
    assert members(wire) == [0, 1] * 2 + [0, 0, 0, 1] + [0] * 7 + [1]
    assert open_(b, wire)[0] == tlps


def test_a_unit_has_256_dw_at_most() -> None:
    a, b = ends(aggregation=(8, 8, 8))
    quarter = mwr(bytes(256))
    tlps = [quarter] * 5 + [mwr(bytes(4))] + [mwr(bytes(1024)), mwr(bytes(1028)), mwr(bytes(4096)), quarter]
    wire, _ = seal(a, tlps)
    # 1024 B; 1024 + 4 B more; three that are alone because of their size; the last of the call.
    assert members(wire) == [0, 0, 0, 1, 0, 1, 1, 1, 1, 1]
    assert open_(b, wire)[0] == tlps


def test_alone_is_alone() -> None:
    a, _ = ends(aggregation=(8, 8, 8))
    wire, _ = seal(a, [mwr(P64)] * 6, alone=np.array([0, 0, 1, 0, 0, 0], bool))
    assert members(wire) == [0, 1, 1, 0, 0, 1]


def test_others_stand_between_members() -> None:
    config = StreamConfig(aggregation=(2, 2, 2))
    a, b = ends(config)
    tlps = [mwr(P64), mrd(), cpld(P64), cpld(bytes(4)), mrd(tag=9), mwr(bytes(8))]
    wire, status = seal(a, tlps)
    assert members(wire) == [0, 0, 0, 1, 1, 1]
    assert status["unit"].tolist() == [0, 1, 2, 2, 1, 0]
    assert status["pr_sent"].tolist() == [0, 1, 1, 0, 0, 0]
    assert reader(config).read(wire) == [tlps[i] for i in (2, 3, 1, 4, 0, 5)]
    # Nothing passes the posted TLP: all are released when its unit is.
    assert open_(b, wire)[0] == [tlps[i] for i in (0, 5, 2, 3, 1, 4)]


def test_no_unit_is_open_between_calls() -> None:
    a, b = ends(aggregation=(8, 8, 8))
    for _ in range(3):
        wire, _ = seal(a, [mwr(P64), mrd(), mwr(P64)])
        assert members(wire) == [0, 1, 1]
        assert len(open_(b, wire)[0]) == 3


# --- PCRC, lengths ------------------------------------------------------------------------------------


def test_pcrc_where_a_unit_has_content() -> None:
    config = StreamConfig(pcrc=True, aggregation=(1, 1, 4))
    a, b = ends(config)
    tlps = [mwr(P64), mrd(), cpld(P64), cpl(), cpl(), cpl()]
    wire, status = seal(a, tlps)
    # The completion with data is the first of its unit, and the PCRC goes to the last.
    assert status["p"].tolist() == [1, 0, 0, 0, 0, 1]
    assert sorted(reader(config).read(wire)) == sorted(tlps)
    assert open_(b, wire)[0] == tlps


@pytest.mark.parametrize("flit", [False, True])
@pytest.mark.parametrize("pcrc", [False, True])
@pytest.mark.parametrize("phe", [0, 3])
def test_lengths_come_from_one_function(flit: bool, pcrc: bool, phe: int) -> None:
    config = StreamConfig(pcrc=pcrc, phe=phe, flit=flit, aggregation=(2, 4, 8))
    a, _ = ends(config)
    tlps = [mwr(P64), mrd(), cpld(bytes(8)), mwr32(bytes(4)), mrd(2), cpl(), msg(), msg(payload=bytes(4))]
    if flit:
        batch = batch_of(tlps)
        tlps = tlps_of(Batch(batch.tlps, batch.pool, True))
    wire, status = seal(a, tlps)
    for tlp, sealed, row in zip(tlps, wire, status, strict=True):
        assert len(sealed) == len(tlp) + ide_bytes(row["m"] == 1, row["p"] == 1)
    assert status["p"].any() == pcrc


# --- Everything at once -------------------------------------------------------------------------------

sizes = st.sampled_from([1, 2, 5, 16, 64, 128, 255, 256, 257, 1024])
tlp_lists = st.lists(
    st.one_of(
        st.builds(lambda n, tag: mwr(bytes([tag]) * 4 * n, tag=tag), sizes, st.integers(0, 255)),
        st.builds(lambda n, tag: mrd(n, tag=tag), st.integers(1, 1024), st.integers(0, 255)),
        st.builds(lambda n, tag: cpld(bytes([tag]) * 4 * n, tag=tag), sizes, st.integers(0, 255)),
        st.builds(lambda tag: cpl(tag=tag), st.integers(0, 255)),
        st.just(msg(payload=bytes(8))),
    ),
    max_size=24,
)


@settings(max_examples=40)
@given(
    calls=st.lists(tlp_lists, min_size=1, max_size=3),
    profile=st.sampled_from(["pcie-ide", "sev-pcie"]),
    kind=st.sampled_from(["selective", "link"]),
    pcrc=st.booleans(),
    aggregation=st.tuples(*[st.sampled_from([1, 2, 4, 8])] * 3),
    seed=st.integers(0, 255),
)
def test_a_plain_reader_reads_it(
    calls: list[list[bytes]], profile: str, kind: Any, pcrc: bool, aggregation: Any, seed: int
) -> None:
    config = StreamConfig(profile, kind=kind, pcrc=pcrc, aggregation=aggregation)
    a, b = ends(config)
    plain = reader(config)
    for tlps in calls:
        alone = np.array([i * 7 % 256 < seed for i in range(len(tlps))], bool)
        wire, status = seal(a, tlps, alone=alone)
        assert codes(status) == ["SEALED"] * len(tlps)
        assert sorted(tlp for tlp in plain.read(wire) if not is_sync(tlp)) == sorted(tlps)
        opened, _ = open_(b, wire)
        assert sorted(opened) == sorted(tlps)
        # Within a sub-stream order is kept.
        for first in (0x60, 0x20, 0x4A, 0x0A, 0x72):
            assert [t for t in opened if t[0] == first] == [t for t in tlps if t[0] == first]
    assert max(plain.units, default=1) <= max(aggregation)


# --- Partial header encryption, flit mode ----------------------------------------------------------------


@pytest.mark.parametrize("mode", [1, 2, 3, 4])
@pytest.mark.parametrize("pcrc", [False, True])
def test_hidden_bits_are_not_on_the_wire(mode: int, pcrc: bool) -> None:
    a, b = ends(phe=mode, pcrc=pcrc)
    tlps = [mwr(P64, 0x1122334455667700), mrd(16, 0x1122334455667700), cpld(P64), msg()]
    wire, _ = seal(a, tlps)
    for sealed, tlp in zip(wire[:2], tlps[:2], strict=True):
        highest = (17, 25, 33, 41)[mode - 1]
        clear = int.from_bytes(sealed[12:20], "big") ^ int.from_bytes(tlp[8:16], "big")
        # Bits above and below stay, those between change (by chance not all).
        assert clear >> highest + 1 == 0
        assert clear & 3 == 0
        assert clear >> 2 != 0
        assert sealed[4:11] == tlp[:7]
    for sealed, tlp in zip(wire[2:], tlps[2:], strict=True):
        size = 12 if tlp[0] == 0x4A else 16
        assert sealed[4 : 4 + size] == tlp[:size]
    assert open_(b, wire)[0] == tlps


def test_hidden_unit_by_hand() -> None:
    """Mode 1 on a 4 DW write, packed by hand: A loses the byte enables and address bits 17:2."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    config = StreamConfig(phe=1)
    a, _ = ends(config)
    tlp = mwr(P64, 0x1122334455667700)
    (sealed,), _ = seal(a, [tlp])
    # Address 0x1122334455667700: [63:18] = 0x112233445564 | ..., the last byte of what stays takes PH.
    address = 0x1122334455667700
    stays = (address >> 18 << 2 | address & 3).to_bytes(6, "big")
    hidden = bytes([0xFF]) + (address >> 2 & 0xFFFF).to_bytes(2, "big")
    aad = bytes.fromhex("92000104") + tlp[:7] + stays
    out = AESGCM(key_of(config, 0)).encrypt(bytes(11) + b"\x01", hidden + P64, aad)
    assert sealed[20:] == out[3 : 3 + 64 + 12]
    assert sealed[11] == out[0]
    assert int.from_bytes(sealed[12:20], "big") >> 2 & 0xFFFF == int.from_bytes(out[1:3], "big")


def flit_of(tlps: list[bytes]) -> list[bytes]:
    batch = batch_of(tlps)
    return tlps_of(Batch(batch.tlps, batch.pool, True))


def test_flit_by_hand() -> None:
    """OHC-C behind the header base, TS in DW 0, A = header and OHC words; no prefix."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    config = StreamConfig(flit=True, segment=0x07, pcrc=False)
    a, b = ends(config)
    write, read, completion = flit_of([mwr(P64), mrd(), cpld(P64)])
    wire, status = seal(a, [write, read, completion], tee=True)
    assert wire[0][16:20].hex() == "07000109"
    assert wire[1][16:20].hex() == "07010119"
    assert wire[2][12:16].hex() == "00010121"
    for tlp, sealed in zip((write, read, completion), wire, strict=True):
        assert sealed[2] >> 5 == 0b101
        assert sealed[1] & 0x1F == tlp[1] & 0x1F | 4
        assert len(sealed) == len(tlp) + 16
    out = AESGCM(key_of(config, 0)).encrypt(bytes(11) + b"\x01", P64, wire[0][:20])
    assert wire[0][20:] == out[: 64 + 12]
    assert open_(b, wire)[0] == [write, read, completion]
    assert codes(status) == ["SEALED"] * 3


def test_flit_units_and_pcrc() -> None:
    a, b = ends(flit=True, pcrc=True, aggregation=(2, 2, 2))
    tlps = flit_of([mwr(P64), mwr(P64), mrd(), mrd(2), cpld(P64)])
    wire, _ = seal(a, tlps)
    assert [tlp[2] >> 5 for tlp in wire] == [0, 0b110, 0, 0b101, 0b110]
    assert open_(b, wire)[0] == tlps


# --- What is not sealed ----------------------------------------------------------------------------------


def test_what_may_not_ride_goes_out_plain() -> None:
    a, b = ends()
    io = bytes.fromhex("02000001 0100000f 00001000")
    broadcast = msg(routing=3)
    tlps = [mwr(P64), io, broadcast, cfgrd1(), mwr(P64, tc=3), mrd()]
    wire, status = seal(a, tlps)
    assert codes(status) == ["SEALED", "PLAIN", "PLAIN", "PLAIN", "PLAIN", "SEALED"]
    assert wire[1:5] == tlps[1:5]
    assert status["wire_index"].tolist() == list(range(6))
    opened, got = open_(b, wire)
    assert opened == tlps
    assert codes(got) == ["RELEASED", "PLAIN", "PLAIN", "PLAIN", "PLAIN", "RELEASED"]


def test_what_is_asked_for_is_refused() -> None:
    a, _ = ends()
    io = bytes.fromhex("02000001 0100000f 00001000")
    digest = mwr(bytes(4), bits=0x8000) + bytes(4)
    sync = msg(0x54)
    wide = bytes.fromhex("8e000001") * 3 + bytes.fromhex("9e000001") * 3 + mwr(bytes(4))
    asked = [io, msg(routing=4), cfgrd1(), mwr(P64, tc=3), digest, sync, wide, mwr(P64)]
    wire, status = seal(a, asked, protect=True)
    refused = ["REFUSED_TYPE"] * 3 + ["REFUSED_TC", "REFUSED_ECRC", "REFUSED_TYPE", "SEALED", "SEALED"]
    assert codes(status) == refused
    assert len(wire) == 2
    assert status["wire_index"].tolist() == [-1] * 6 + [0, 1]
    # ECRC is refused, not sent in the clear, without being asked for by name too.
    assert codes(seal(a, [digest])[1]) == ["REFUSED_ECRC"]


def test_too_much_in_the_clear_is_refused() -> None:
    wide = bytes.fromhex("8e000001") * 10 + mwr(bytes(4))
    assert codes(seal(ends(kind="link")[0], [wide])[1]) == ["REFUSED_PREFIX"]
    # Local prefixes are not in A of a Selective stream.
    a, b = ends()
    wire, status = seal(a, [wide])
    assert codes(status) == ["SEALED"]
    assert open_(b, wire)[0] == [wide]


def test_sealed_twice_is_refused() -> None:
    a, _ = ends()
    config = StreamConfig()
    again = forge(key_of(config, 0), 1, [mwr(P64)], [word()])
    assert codes(seal(a, again)[1]) == ["REFUSED_PREFIX"]


def test_configuration_requests_ride_where_enabled() -> None:
    assert codes(seal(ends(config_requests=True)[0], [cfgrd1()])[1]) == ["SEALED"]
    assert codes(seal(ends(kind="link")[0], [cfgrd1(), msg(routing=4)])[1]) == ["SEALED", "SEALED"]


def test_tee_limited() -> None:
    a, b = ends(tee_limited=True)
    wire, status = seal(a, [mwr(P64), mwr(P64), msg(0x55)], tee=np.array([1, 0, 0], bool))
    assert codes(status) == ["SEALED", "REFUSED_TEE", "SEALED"]
    assert codes(open_(b, wire[:1])[1]) == ["RELEASED"]
    forged = forge(key_of(a.config, 0), 2, [mwr(P64)], [word()])
    assert codes(open_(b, forged)[1]) == ["DISCARDED_TEE"]


def test_an_insecure_stream_drops_and_never_sends_in_the_clear() -> None:
    a, _ = ends()
    a.tamper()
    tlps = [mwr(P64), bytes.fromhex("02000001 0100000f 00001000"), mrd()]
    wire, status = seal(a, tlps)
    assert codes(status) == ["DROPPED_INSECURE", "PLAIN", "DROPPED_INSECURE"]
    assert wire == tlps[1:2]
    wire, status = seal(a, tlps, protect=np.array([1, 0, 0], bool))
    assert codes(status) == ["DROPPED_INSECURE", "PLAIN", "PLAIN"]


def test_the_key_set_in_use_was_stopped() -> None:
    a, _ = ends()
    a.stop(0)
    assert seal(a, [cfgrd1()])[0] == [cfgrd1()]
    assert a.state.name == "SECURE"
    wire, status = seal(a, [mwr(P64)])
    assert (wire, codes(status)) == ([], ["DROPPED_INSECURE"])
    assert (a.state.name, a.reason.name) == ("INSECURE", "KEY_STOPPED")


# --- The call -------------------------------------------------------------------------------------------


def test_nothing_in_nothing_out() -> None:
    a, b = ends()
    wire, offsets, status = seal_stream(batch_of([]), a)
    assert (len(wire), offsets.tolist(), len(status)) == (0, [0], 0)
    assert status.dtype == SEALED
    assert open_(b, [])[0] == []


def test_masks() -> None:
    a, _ = ends()
    for bad in (np.ones(3, bool), [1, 0], "yes"):
        with pytest.raises(MisuseError, match="protect"):
            seal(a, [mwr(P64)] * 2, protect=bad)
    assert codes(seal(a, [mwr(P64)] * 2, protect=False)[1]) == ["PLAIN", "PLAIN"]
    assert codes(seal(a, [mwr(P64)] * 2, protect=[True, False])[1]) == ["SEALED", "PLAIN"]
    with pytest.raises(MisuseError, match="flit"):
        seal_stream(Batch(batch_of([]).tlps, np.zeros(0, np.uint8), True), a)


def test_an_ill_formed_batch_moves_no_counter() -> None:
    a, _ = ends()
    batch = batch_of([mwr(P64)])
    batch.tlps["last_be"] = 0
    with pytest.raises(FormatError):
        seal_stream(batch, a)
    assert a.counter("tx", 0, 0) == 1


def test_batches_of_any_kind_of_array() -> None:
    a, b = ends()
    batch = batch_of([mwr(P64, tag=i) for i in range(6)])
    wire, _, _ = seal_stream(Batch(batch.tlps[::2], batch.pool), a)
    frozen = batch.tlps.copy()
    frozen.flags.writeable = False
    more, _, _ = seal_stream(Batch(frozen, batch.pool), a)
    from sevpcie_core.ide import open_stream

    released, _ = open_stream(np.concatenate([wire, more]), b)
    assert released.tlps["tag"].tolist() == [0, 2, 4, 0, 1, 2, 3, 4, 5]
