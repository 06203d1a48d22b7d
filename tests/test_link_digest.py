"""One digest of a fixed set of programs: native, on a generic CPU, and with the kernels interpreted."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from oracles.link_digest import digest

# Changes only when what the simulator means changes; then docs/model.md changes with it.
DIGEST = "87c499a8ee5ca85bb1a4912a3893ac486453f40e025bd6f242f57b29a9735fb7"

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.nojit
def test_digest_here() -> None:
    assert digest() == DIGEST


@pytest.mark.parametrize(
    "setting", [{"NUMBA_CPU_NAME": "generic"}, {"NUMBA_DISABLE_JIT": "1"}], ids=["generic CPU", "interpreted"]
)
def test_digest_elsewhere(setting: dict[str, str]) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    done = subprocess.run(
        [sys.executable, "-m", "oracles.link_digest"],
        cwd=ROOT / "tests",
        env=kept | {"PYTHONPATH": str(ROOT)} | setting,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == DIGEST
