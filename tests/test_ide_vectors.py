"""The vectors of the facts file, bit by bit, through a stream and through the inspection tools.

They were made with `cryptography`, not by the standard's authors; `iv_fixed` is zeros.
"""

import pytest
from ide_help import SEED, mrd, mwr, open_, seal

from sevpcie_core.ide import PROFILES, StreamConfig, derived_keys, open_once, pair, seal_once

pytestmark = pytest.mark.nojit

ADDRESS = 0x1122334455667700
PAYLOAD = bytes(range(64))
# sub-stream, TLP, A, MAC by profile
VECTORS = [
    (
        0,
        mwr(PAYLOAD, ADDRESS, tag=5),
        "9200010460000010010005ff1122334455667700",
        {"sev-pcie": "798b99a698262f5285e18cff", "pcie-ide": "308d5d74fd46fabaa3e2a53d"},
    ),
    (
        1,
        mrd(16, ADDRESS, tag=6),
        "9201011420000010010006ff1122334455667700",
        {"sev-pcie": "be5e6273468b6f9125ace001", "pcie-ide": "a067c48ac37840926279603b"},
    ),
]


def key_of(profile: str) -> bytes:
    return bytes(range(PROFILES[profile].key_bits // 8))


@pytest.mark.parametrize("profile", ["sev-pcie", "pcie-ide"])
@pytest.mark.parametrize(("sub", "tlp", "aad", "macs"), VECTORS)
def test_one_unit_by_hand(profile: str, sub: int, tlp: bytes, aad: str, macs: dict[str, str]) -> None:
    parts = seal_once(
        [tlp], profile=profile, key=key_of(profile), stream_id=1, sub_stream=sub, pr_sent=1 if sub else 0
    )
    assert parts.prefix.hex() == aad[:8]
    assert parts.aad.hex() == aad
    assert parts.iv.hex() == "000000000000000000000001"
    assert parts.mac.hex() == macs[profile]
    assert parts.plaintext == (b"" if sub else PAYLOAD)
    assert parts.wire == bytes.fromhex(aad) + parts.ciphertext + parts.mac
    assert open_once(parts.tlps, profile=profile, key=key_of(profile), sub_stream=sub) == [tlp]


@pytest.mark.parametrize("profile", ["sev-pcie", "pcie-ide"])
def test_both_in_a_stream(profile: str) -> None:
    """The read follows the write, so it carries one posted TLP: the prefix of the second vector."""
    others = derived_keys(SEED, PROFILES[profile].key_bits)

    def posted_first(direction: str, sub: int, k: int, generation: int) -> bytes:
        return key_of(profile) if (direction, sub) == ("ab", 0) else others(direction, sub, k, generation)

    def non_posted_first(direction: str, sub: int, k: int, generation: int) -> bytes:
        return key_of(profile) if (direction, sub) == ("ab", 1) else others(direction, sub, k, generation)

    for sub, keys in enumerate((posted_first, non_posted_first)):
        a, b = pair(StreamConfig(profile), keys)
        tlps = [VECTORS[0][1], VECTORS[1][1]]
        wire, _ = seal(a, tlps)
        assert wire[sub][:20].hex() == VECTORS[sub][2]
        assert wire[sub][-12:].hex() == VECTORS[sub][3][profile]
        assert open_(b, wire)[0] == tlps


def test_pcrc() -> None:
    parts = seal_once([VECTORS[0][1]], key=key_of("pcie-ide"), pcrc=True)
    assert parts.pcrc.hex() == "8cce0e10"
    assert parts.plaintext == PAYLOAD + parts.pcrc
    assert parts.prefix.hex() == "9200010c"
    assert len(parts.wire) == 4 + 16 + 64 + 4 + 12


def test_no_pcrc_without_payload() -> None:
    parts = seal_once([VECTORS[1][1]], key=key_of("pcie-ide"), pcrc=True, pr_sent=1)
    assert parts.pcrc == b""
    # The same bytes as without PCRC.
    assert parts.wire.hex() == VECTORS[1][2] + VECTORS[1][3]["pcie-ide"]


def test_fixed_field() -> None:
    zeros = seal_once([VECTORS[1][1]], key=key_of("pcie-ide"))
    named = seal_once([VECTORS[1][1]], key=key_of("pcie-ide"), iv_fixed="substream")
    assert named.iv.hex() == "100000000000000000000001"
    assert (named.aad, zeros.iv[:4]) == (zeros.aad, bytes(4))
    assert named.mac != zeros.mac
    assert open_once(named.tlps, key=key_of("pcie-ide"), iv_fixed="substream") == [VECTORS[1][1]]
