"""Arrays without bounds in kernels: the same as arrays, wherever they may be used."""

from collections import namedtuple

import numpy as np
import pytest
from numba.core.errors import TypingError

from sevpcie_core._jit import BOUNDS_CHECKED, JIT_DISABLED, inline_kernel, kernel
from sevpcie_core._jit.ints import bare

Pair = namedtuple("Pair", "cube rows")


@kernel
def _total(row, n):
    total = 0
    for i in range(n):
        total += row[i]
    return total


@inline_kernel
def _bare(pair):
    return Pair(bare(pair.cube, 5), bare(pair.rows, 0))


@kernel
def _use(pair, line, out):
    p = _bare(pair)
    cube, rows = p.cube, p.rows
    flat = bare(line, 0)
    shape = cube.shape
    out[0], out[1], out[2] = shape[0], shape[1], shape[2]
    out[3], out[4] = rows.shape[0], rows[1].shape[0]
    out[5] = flat.shape[0]
    for i in range(cube.shape[0]):
        plane = cube[i]
        for j in range(plane.shape[0]):
            row = plane[j]
            for k in range(5):
                out[6] += (cube[i, j, k] == row[k]) & (plane[j, k] == row[k])
            row[np.int32(0)] += np.uint8(1)
            plane[j, 1] = True
            cube[i, j, 2] = -7
    # Rows of different arrays are of one type.
    either = cube[1, 2] if out[0] > 0 else bare(pair.rows, 3)[0]
    out[7] = _total(either, 5)
    out[8] = _total(rows[1], 3)
    flat[flat.shape[0] - 1] = 1 << 62


def test_a_kernel_sees_the_same_numbers_in_the_same_places():
    cube = np.arange(60).reshape(3, 4, 5) * 3
    rows = np.arange(6).reshape(2, 3) - (1 << 60)
    line = np.zeros(9, np.int64)
    wanted = cube.copy()
    wanted[..., 0] += 1
    wanted[..., 1] = 1
    wanted[..., 2] = -7
    out = np.zeros(9, np.int64)
    _use(Pair(cube, rows), line, out)
    assert out.tolist() == [3, 4, 5, 2, 3, 9, 60, wanted[1, 2].sum(), rows[1].sum()]
    assert (cube == wanted).all()
    assert line.tolist() == [0] * 8 + [1 << 62]


@pytest.mark.skipif(JIT_DISABLED or BOUNDS_CHECKED, reason="arrays stay arrays then")
@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 2), np.int32), "expected a C-contiguous array of int64"),
        (np.zeros((2, 2)), "expected a C-contiguous array of int64"),
        (np.zeros((2, 2), np.int64, "F"), "expected a C-contiguous array of int64"),
    ],
)
def test_other_arrays_do_not_compile(array, message):
    @kernel
    def first(array):
        return bare(array, 2)[0, 0]

    with pytest.raises(TypingError, match=message):
        first(array)


@pytest.mark.skipif(JIT_DISABLED or BOUNDS_CHECKED, reason="arrays stay arrays then")
def test_what_is_not_known_does_not_compile():
    @kernel
    def extent(array):
        return bare(array, 2)[0].shape[0]

    @kernel
    def columns(array, count):
        return bare(array, count)[0, 0]

    @kernel
    def too_many(array):
        return bare(array, 2)[0, 0, 0]

    array = np.zeros((2, 2), np.int64)
    with pytest.raises(TypingError, match="shape"):
        extent(array)
    with pytest.raises(TypingError, match="expected a constant number of columns"):
        columns(array, 2)
    with pytest.raises(TypingError):
        too_many(array)


@pytest.mark.skipif(not (JIT_DISABLED or BOUNDS_CHECKED), reason="nothing is checked in compiled code")
def test_columns_are_checked_where_anything_is():
    @kernel
    def first(array):
        return bare(array, 3)[0, 0]

    with pytest.raises(AssertionError):
        first(np.zeros((2, 2), np.int64))
