"""The facts about a machine that a record names."""

import re

import pytest

from sevpcie_core.experiment.fingerprint import host_facts, versions


def test_this_machine():
    facts = host_facts()
    assert facts.cpu
    assert facts.cores >= 1
    assert facts.memory_bytes is None or facts.memory_bytes > 1 << 20
    assert facts.os.startswith("Linux ")


def test_kernel_files_are_read(tmp_path):
    (tmp_path / "cpuinfo").write_text(
        "processor\t: 0\nmodel name\t: A  CPU (R): 3 GHz\nmodel name\t: other\n"
    )
    (tmp_path / "meminfo").write_text("MemFree: 1 kB\nMemTotal:       16384 kB\n")
    facts = host_facts(tmp_path)
    assert facts.cpu == "A CPU (R): 3 GHz"
    assert facts.memory_bytes == 16384 * 1024


def test_without_kernel_files_there_is_still_a_host(tmp_path):
    facts = host_facts(tmp_path)
    assert facts.cpu
    assert facts.memory_bytes is None


@pytest.mark.parametrize(("value", "jit"), [("1", False), ("0", True), ("", True), (None, True)])
def test_jit(value, jit, monkeypatch):
    monkeypatch.delenv("NUMBA_DISABLE_JIT", raising=False)
    if value is not None:
        monkeypatch.setenv("NUMBA_DISABLE_JIT", value)
    assert host_facts().jit is jit


def test_versions():
    found = versions()
    assert {"python", "sevpcie_core", "numpy", "numba"} <= set(found)
    assert all(re.match(r"\d+\.", version) for version in found.values())
