"""`sevpcie seal` and `sevpcie open`: published vectors, the way back, refusals by name, files, bad input."""

import json
import re
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from told import without_progress

from sevpcie_core import cli
from sevpcie_core.cli import seal as seal_command

KEYS = {"sev-pcie": bytes(range(16)).hex(), "pcie-ide": bytes(range(32)).hex()}
WRITE = "60000010010005ff1122334455667700" + bytes(range(64)).hex()
READ = "20000010010006ff1122334455667700"
# Made with `cryptography`: MACs of both TLPs on stream 1, counter 1, fixed field zeros.
MACS = {
    ("sev-pcie", "pr"): "798b99a698262f5285e18cff",
    ("pcie-ide", "pr"): "308d5d74fd46fabaa3e2a53d",
    ("sev-pcie", "npr"): "be5e6273468b6f9125ace001",
    ("pcie-ide", "npr"): "a067c48ac37840926279603b",
}


def run(capsys, *argv, code=0):
    """Return (standard output, standard error) of one command, but not its progress."""
    assert cli.main(list(argv)) == code
    captured = capsys.readouterr()
    return captured.out, without_progress(captured.err)


def sealed(capsys, *argv, scheme="sev-pcie"):
    """Return the parts as --json prints them."""
    out, err = run(capsys, "seal", "--scheme", scheme, "--key", KEYS[scheme], "--json", *argv)
    assert err == ""
    return json.loads(out)


@pytest.mark.parametrize(("scheme", "sub"), MACS)
def test_vectors(scheme, sub, capsys):
    tlp, prefix, sent = (WRITE, "92000104", "0") if sub == "pr" else (READ, "92010114", "1")
    options = ["--stream-id", "1", "--sub-stream", sub, "--counter", "1", "--pr-sent", sent, "--tlp", tlp]
    parts = sealed(capsys, *options, scheme=scheme)
    assert list(parts) == ["prefix", "aad", "iv", "ciphertext", "pcrc", "mac", "wire"]
    assert parts["prefix"] == prefix
    assert parts["aad"] == prefix + tlp[:32]
    assert parts["iv"] == "0" * 23 + "1"
    assert parts["mac"] == MACS[scheme, sub]
    assert parts["pcrc"] == ""
    assert parts["wire"] == parts["aad"] + parts["ciphertext"] + parts["mac"]


def test_pcrc_and_bits(capsys):
    """The PCRC ends the plaintext, P and T and K stand in the prefix; checked with another library."""
    common = ["--stream-id", "7", "--counter", "300", "--tlp", WRITE, "--pcrc"]
    parts = sealed(capsys, *common, "--t", "--k", "1", "--iv-fixed", "substream")
    assert parts["prefix"] == "9200070f"
    assert parts["pcrc"] == "8cce0e10"
    text = bytes.fromhex(WRITE[32:] + parts["pcrc"])
    expected = AESGCM(bytes.fromhex(KEYS["sev-pcie"])).encrypt(
        bytes.fromhex(parts["iv"]), text, bytes.fromhex(parts["aad"])
    )
    assert parts["iv"] == "00000000" + (300).to_bytes(8, "big").hex()
    assert parts["ciphertext"] + parts["mac"] == expected[:-4].hex()
    # A bare --k or --t is a 1; a read has no content, hence no PCRC.
    assert sealed(capsys, *common, "--k", "--t")["prefix"] == "9200070f"
    read = sealed(capsys, "--tlp", READ, "--pcrc")
    assert (read["prefix"], read["pcrc"], read["ciphertext"]) == ("92000114", "", "")


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--pcrc"],
        ["--phe", "2", "--pcrc"],
        ["--k", "1", "--t", "1", "--stream-id", "255"],
        ["--stream-kind", "link"],
        ["--counter", "18446744073709551614"],
        ["--iv-fixed", "substream"],
    ],
)
@pytest.mark.parametrize("tlp", [WRITE, READ])
@pytest.mark.parametrize("scheme", KEYS)
def test_there_and_back(scheme, tlp, options, capsys):
    parts = sealed(capsys, "--tlp", tlp, *options, scheme=scheme)
    back = ["open", "--scheme", scheme, "--key", KEYS[scheme], "--wire", parts["wire"], *options]
    assert json.loads(run(capsys, *back, "--json")[0]) == {"ok": True, "refused": None, "tlp": tlp}
    out, _ = run(capsys, *back)
    assert out.startswith("MWr64 64 B at 0x1122334455667700" if tlp == WRITE else "MRd64 64 B")


def test_a_refusal_names_its_rule(capsys):
    wire = sealed(capsys, "--tlp", READ)["wire"]
    common = ["open", "--scheme", "sev-pcie", "--key", KEYS["sev-pcie"]]
    cases = {
        "MAC": ["--wire", wire[:-2] + f"{int(wire[-2:], 16) ^ 1:02x}"],
        "STREAM_ID": ["--wire", wire, "--stream-id", "2"],
        "LENGTH": ["--wire", wire[:-8]],
        "SUB_STREAM": ["--wire", wire[:6] + "64" + wire[8:]],
    }
    for rule, options in cases.items():
        out, err = run(capsys, *common, *options, code=3)
        assert out == ""
        assert rule in err
        assert err.count("\n") == 1
        out, err = run(capsys, *common, *options, "--json", code=3)
        told = json.loads(out)
        assert told["ok"] is False
        assert told["tlp"] is None
        assert rule in told["refused"]
    # The counter is not on the wire: a wrong one looks like a wrong MAC.
    assert "MAC" in run(capsys, *common, "--wire", wire, "--counter", "2", code=3)[1]


def test_files_and_aggregates(capsys, tmp_path):
    plain = tmp_path / "plain.txt"
    plain.write_text(f"# three writes\n{WRITE}\n\n{WRITE[:32]} {WRITE[32:]}  # blanks\n{WRITE}\n")
    one_by_one = sealed(capsys, str(plain))["units"]
    assert [u["iv"][-2:] for u in one_by_one] == ["01", "02", "03"]
    units = sealed(capsys, str(plain), "--aggregate", "2")["units"]
    assert len(units) == 2
    first = units[0]
    # Both headers are authenticated, both payloads encrypted, and only the last TLP has M and the MAC.
    assert first["prefix"] == "92000100" + "92000104"
    assert first["aad"] == "92000100" + WRITE[:32] + "92000104" + WRITE[:32]
    assert len(first["ciphertext"]) == 2 * 2 * 64
    assert first["wire"] == "".join(first["tlps"])
    assert first["tlps"][1].endswith(first["mac"])
    wires = tmp_path / "sealed.txt"
    wires.write_text("\n".join([*first["tlps"], units[1]["wire"]]))
    back = ["open", "--scheme", "sev-pcie", "--key", KEYS["sev-pcie"], str(wires), "--json"]
    assert json.loads(run(capsys, *back)[0])["tlps"] == [WRITE] * 3
    # What comes before a refusal is opened, the rest is not.
    broken = units[1]["wire"][:-1] + ("0" if units[1]["wire"][-1] != "0" else "1")
    wires.write_text("\n".join([*first["tlps"], broken]))
    out, err = run(capsys, *back, code=3)
    assert json.loads(out)["tlps"] == [WRITE] * 2
    assert f"{wires}, line 3" in err


def test_for_people(capsys):
    out, _ = run(capsys, "seal", "--scheme", "sev-pcie", "--key", KEYS["sev-pcie"], "--tlp", WRITE)
    for name in ("prefix", "AAD", "IV", "ciphertext", "PCRC", "MAC", "wire"):
        assert re.search(rf"^  {name} +\S", out, re.MULTILINE)
    assert "80 B sealed into 96 B" in out
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--tlp", "60zz"], "'z' is no hex digit"),
        (["--tlp", "600"], "3 hex digits"),
        (["--tlp", READ[:-8]], "Length"),
        (["--tlp", "1f" + READ[2:]], "Fmt and Type"),
        ([], "either --tlp HEX or a file"),
        (["--tlp", READ, "/dev/null"], "either --tlp HEX or a file"),
        (["/nowhere/at/all"], "No such file"),
        (["/dev/null"], "no TLP in it"),
        (["--tlp", READ, "--aggregate", "2"], "takes its TLPs from a file"),
        (["--tlp", READ, "--aggregate", "3"], "expected 1, 2, 4 or 8"),
        (["--tlp", READ, "--sub-stream", "pr"], "sub-stream"),
        (["--tlp", WRITE, "--pr-sent", "1"], "pr_sent"),
        (["--tlp", READ, "--pr-sent", "246"], "245"),
        (["--tlp", READ, "--counter", "-1"], "counter"),
        (["--tlp", READ, "--counter", str(1 << 64)], "counter"),
        (["--tlp", READ, "--stream-id", "256"], "stream_id"),
        (["--tlp", READ, "--phe", "5"], "phe"),
        (["--tlp", READ, "--k", "2"], "--k"),
        (["--tlp", "020000010100060f11223340"], "may not ride"),
        (["--tlp", "6000801001" + WRITE[10:] + "00000000"], "carries no ECRC"),
    ],
)
def test_bad_input(argv, message, capsys):
    out, err = run(capsys, "seal", "--scheme", "sev-pcie", "--key", KEYS["sev-pcie"], *argv, code=2)
    assert out == ""
    assert message in err
    assert err.startswith("sevpcie: error: ")
    assert err.count("\n") == 1


def test_bad_keys(capsys):
    for key in ("00" * 32, "xx", ""):
        _, err = run(capsys, "seal", "--scheme", "sev-pcie", "--key", key, "--tlp", READ, code=2)
        assert "key" in err
        # Never the key itself.
        assert "00" * 32 not in err
    assert "--key" in run(capsys, "seal", "--tlp", READ, code=2)[1]


def test_the_examples_of_the_help_are_true():
    """Run in a shell, as somebody would who copies them."""
    lines = [line.strip() for line in seal_command.EPILOG.partition("\b")[2].splitlines()]
    script = "\n".join(lines[: lines.index("", 1)]).replace(
        "sevpcie seal", f"{sys.executable} -m sevpcie_core.cli seal"
    )
    done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=True)
    assert re.findall(r"^  MAC +(.*)", done.stdout, re.MULTILINE) == [
        "798b99a6 98262f52 85e18cff",
        "be5e6273 468b6f91 25ace001",
    ]
    told = re.findall(r"[0-9a-f]{8} [0-9a-f]{8} [0-9a-f]{8}", " ".join(seal_command.EPILOG.split()))
    assert {m.replace(" ", "") for m in told} >= set(MACS.values())


def test_reading_from_a_pipe():
    command = [
        sys.executable,
        "-m",
        "sevpcie_core.cli",
        "seal",
        "-",
        "--scheme",
        "sev-pcie",
        "--key",
        KEYS["sev-pcie"],
        "--json",
    ]
    done = subprocess.run(command, input=READ + "\n", capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["units"][0]["wire"].startswith("92000114")


@pytest.mark.parametrize("mode", ["0", "1", "2", "3", "4"])
@pytest.mark.parametrize("extra", [[], ["--pcrc"], ["--stream-kind", "link"]])
def test_an_aggregate_with_hidden_headers_comes_back(mode, extra, tmp_path, capsys):
    plain = tmp_path / "plain.txt"
    other = WRITE.replace("1122334455667700", "9988776655443300")
    plain.write_text(f"{WRITE}\n{other}\n")
    options = ["--scheme", "sev-pcie", "--key", KEYS["sev-pcie"], "--phe", mode, *extra]
    out, _ = run(capsys, "seal", *options, "--aggregate", "2", "--json", str(plain))
    wire = tmp_path / "wire.txt"
    wire.write_text("\n".join(json.loads(out)["units"][0]["tlps"]))
    out, _ = run(capsys, "open", *options, "--json", str(wire))
    assert json.loads(out)["tlps"] == [WRITE, other]


def test_more_tlps_than_a_unit_has_are_refused(tmp_path, capsys):
    wire = tmp_path / "wire.txt"
    wire.write_text("92000100" + WRITE + "\n" + 9 * ("92000100" + WRITE + "\n"))
    _, err = run(capsys, "open", "--scheme", "sev-pcie", "--key", KEYS["sev-pcie"], str(wire), code=3)
    assert "AGGREGATION_COUNT" in err


@pytest.mark.parametrize("command", ["seal", "open"])
def test_closed_standard_input(command):
    argv = [
        sys.executable,
        "-m",
        "sevpcie_core.cli",
        command,
        "--scheme",
        "sev-pcie",
        "--key",
        KEYS["sev-pcie"],
    ]
    done = subprocess.run(
        ["sh", "-c", '"$@" - <&-', "sh", *argv], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert without_progress(done.stderr) == "sevpcie: error: standard input: no TLP in it\n"


def test_open_checks_its_options_like_seal(capsys):
    wire = "9201011420000010010006ff1122334455667700be5e6273468b6f9125ace001"
    common = ["open", "--scheme", "sev-pcie", "--key", KEYS["sev-pcie"], "--wire", wire]
    for value in ("-4", "246", "99999999999"):
        _, err = run(capsys, *common, "--pr-sent", value, code=2)
        assert "pr_sent" in err
