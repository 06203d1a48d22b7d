"""What several test files share: reference data, packages of the system, records."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from records import make_record

from sevpcie_core.record import RunRecord

# The same examples on every run, and no deadline: the first call of a kernel compiles it.
settings.register_profile("sevpcie", deadline=None, derandomize=True)
settings.load_profile("sevpcie")
# Newer versions also draw constants of those modules of the project that happen to be imported, which differ
# from one worker to the next.
with contextlib.suppress(ImportError):
    from hypothesis.internal.conjecture import providers

    providers._get_local_constants = lambda: providers._local_constants

ROOT = Path(__file__).resolve().parent.parent


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Compile the simulator once before workers start: they would all do so, and write the same cache."""
    code = "from sevpcie_core.link.run import warm_up; warm_up()"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the folder of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """Return the folder of published and measured data; it stays outside the project, so tests may skip."""
    folder = Path(os.environ.get("SEVPCIE_REFERENCE_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no reference data in {folder}; SEVPCIE_REFERENCE_DATA names another folder")
    return folder


@pytest.fixture(scope="session")
def need() -> Callable[[str, str], str]:
    """Return `need(package, program)`: the program's path, or a skip that names the Debian package.

    With SEVPCIE_REQUIRE_PACKAGES=1, as in CI, a missing package is a failure.
    """

    def find(package: str, program: str) -> str:
        path = shutil.which(program)
        if path is None:
            reason = f"{program} not found; install the Debian package {package}"
            if os.environ.get("SEVPCIE_REQUIRE_PACKAGES") == "1":
                pytest.fail(reason)
            pytest.skip(reason)
        return path

    return find


@pytest.fixture
def record_dict() -> dict[str, Any]:
    """Return the plain data of a small valid record: two scenarios, three protections."""
    return make_record(["nvme", "gpu"])


@pytest.fixture
def record(record_dict: dict[str, Any]) -> RunRecord:
    """Return that record."""
    return RunRecord.from_dict(record_dict)
