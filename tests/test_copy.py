"""The copy that kernels call, against slices; and that it looks at its ranges where bounds are checked."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevpcie_core._jit import JIT_DISABLED, kernel
from sevpcie_core._jit.memory import copy

SIZE = 24


@kernel
def call(target, t, source, s, count):
    copy(target, t, source, s, count)


def filled() -> np.ndarray:
    return np.arange(1, SIZE + 1, dtype=np.uint8)


@pytest.mark.nojit
@given(st.integers(0, SIZE), st.integers(0, SIZE), st.integers(0, SIZE), st.booleans())
def test_as_a_slice(t: int, s: int, count: int, overlapping: bool) -> None:
    count = min(count, SIZE - t, SIZE - s)
    target = filled()
    source = target if overlapping else filled()[::-1].copy()
    expected = target.copy()
    expected[t : t + count] = source[s : s + count].copy()
    call(target, t, source, s, count)
    assert target.tobytes() == expected.tobytes()


def run_checked() -> None:
    """Print what is refused; for a process with NUMBA_BOUNDSCHECK=1."""
    call(filled(), 0, filled(), 0, 0)  # Compiles, for which Hypothesis would not wait.
    test_as_a_slice()
    for t, s, count in (
        (SIZE - 1, 0, 2),
        (0, SIZE - 1, 2),
        (0, 0, SIZE + 1),
        (SIZE, 0, 1),
        (0, SIZE, 1),
        (0, 0, -1),
    ):
        target = filled()
        try:
            call(target, t, filled()[::-1].copy(), s, count)
        except IndexError:
            assert target.tobytes() == filled().tobytes()
            print(t, s, count)


@pytest.mark.skipif(JIT_DISABLED, reason="checks compiled code")
def test_ranges_are_checked_with_bounds(tmp_path: Path) -> None:
    here = str(Path(__file__).parent)
    code = f"import sys; sys.path[:0] = [{here!r}]; import test_copy; test_copy.run_checked()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)},
        check=True,
    )
    assert done.stdout.splitlines() == ["23 0 2", "0 23 2", "0 0 25", "24 0 1", "0 24 1", "0 0 -1"]
