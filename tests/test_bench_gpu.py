"""The scripts beside the GPU's measuring programs: what they read in configuration spaces and logs.

The programs themselves need a GPU; whoever builds them sees the rows they print.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench" / "gpu"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"bench_gpu_{name}", BENCH / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def space() -> bytearray:
    """A device: PCI Express capability at 0x60 behind power management, then AER and IDE."""
    s = bytearray(4096)
    s[0:4] = bytes.fromhex("de10 3023")
    s[0x34] = 0x40
    s[0x40:0x42] = bytes([0x01, 0x60])
    s[0x60:0x62] = bytes([0x10, 0x00])
    s[0x64:0x68] = (0x22).to_bytes(4, "little")  # Device Capabilities: MPS 512, extended tags
    s[0x68:0x6A] = (0x2930).to_bytes(
        2, "little"
    )  # Device Control: MRRS 512, no snoop, extended tags, MPS 256, RO
    s[0x70:0x72] = (0x0008).to_bytes(2, "little")  # Link Control: RCB 128
    s[0x72:0x74] = (0x0105).to_bytes(2, "little")  # Link Status: 32 GT/s, x16
    s[0x84:0x88] = (0x30100).to_bytes(4, "little")  # Device Capabilities 2: 10-bit tags both, 64-bit atomics
    s[0x88:0x8A] = (0x1100).to_bytes(2, "little")  # Device Control 2: 10-bit tags, IDO of requests
    s[0x100:0x104] = (0x0001 | 2 << 16 | 0x200 << 20).to_bytes(4, "little")
    s[0x200:0x204] = (0x0030 | 1 << 16).to_bytes(4, "little")
    return s


def test_configuration_space_is_read() -> None:
    config = script("pcie_config")
    s = bytes(space())
    assert config.capabilities(s) == [(0x01, 0x40), (0x10, 0x60)]
    assert config.extended(s) == [(0x01, 2, 0x100), (0x30, 1, 0x200)]
    said = config.express(s, 0x60)
    assert (said["MPS supported"], said["MPS"], said["MRRS"], said["RCB"]) == (512, 256, 512, 128)
    assert (said["relaxed ordering"], said["extended tags"], said["10-bit tags"]) == (1, 1, 1)
    assert said["10-bit tag completer, requester"] == (1, 1)
    assert said["atomics: routing, 32, 64, CAS 128"] == (0, 0, 1, 0)
    assert said["link now: generation, lanes"] == (5, 16)


@pytest.mark.parametrize("length", [0, 32, 64, 256])
def test_a_short_space_is_no_error(length: int) -> None:
    config = script("pcie_config")
    s = bytes(space()[:length])
    assert config.extended(s) == []
    assert len(config.capabilities(s)) == (2 if length == 256 else 0)


def test_lists_that_run_in_circles_end() -> None:
    config = script("pcie_config")
    s = space()
    s[0x61] = 0x40
    s[0x200:0x204] = (0x0030 | 1 << 16 | 0x100 << 20).to_bytes(4, "little")
    assert len(config.capabilities(bytes(s))) == 48
    assert len(config.extended(bytes(s))) == 96


RANGES = """==PROF== noise, that is, none
range,0,copy,h2d,64,1,10
range,1,launch,launch,0,1,4
range,0,copy,h2d,64,1,10
range,2,launch
"""
LOG = """==PROF== Connected
"ID","Name","pcie__read_bytes.sum","pcie__write_bytes.sum"
"","","byte","byte"
"0","range","1,280","512"
"1","range","n/a","1024"
"7","range","1","1"
"""


def test_ranges_are_joined(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ranges").write_text(RANGES)
    (tmp_path / "log").write_text(LOG)
    monkeypatch.setattr(sys, "argv", ["ranges.py", str(tmp_path / "ranges"), str(tmp_path / "log")])
    script("ranges").main()
    assert capsys.readouterr().out.splitlines() == [
        "copy,h2d,64,1,pcie__read_bytes.sum_per_op,128",
        "copy,h2d,64,1,pcie__write_bytes.sum_per_op,51.2",
        "launch,launch,0,1,pcie__write_bytes.sum_per_op,256",
    ]


def test_no_ranges_give_no_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").write_text("")
    monkeypatch.setattr(sys, "argv", ["ranges.py", str(tmp_path / "empty"), str(tmp_path / "empty")])
    script("ranges").main()
    assert capsys.readouterr().out == ""
