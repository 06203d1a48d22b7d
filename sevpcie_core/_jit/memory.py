"""Copying bytes inside kernels: a loop over bytes takes a cycle for each.

Rule: nothing is checked here; the caller knows that both ranges lie within their arrays. With
NUMBA_BOUNDSCHECK=1, under which tests feed hostile bytes to kernels, a range that does not raises IndexError.
"""

from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic as _intrinsic
from numba.np import arrayobj

from . import BOUNDS_CHECKED, JIT_DISABLED, inline_kernel

# Without types: an intrinsic is called with other arguments than it is defined with.
intrinsic: Any = _intrinsic


def _copy_interpreted(target: Any, t: int, source: Any, s: int, count: int) -> None:
    target[t : t + count] = source[s : s + count]


@intrinsic
def _copy_compiled(typing: Any, target: Any, t: Any, source: Any, s: Any, count: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        places = []
        for array, offset in ((0, 1), (2, 3)):
            data = arrayobj.make_array(signature.args[array])(context, builder, arguments[array]).data
            places.append(builder.gep(data, [arguments[offset]]))
        move: Any = cgutils.raw_memmove
        move(builder, *places, arguments[4], itemsize=1)
        return context.get_dummy_value()

    return types.void(target, types.intp, source, types.intp, types.intp), generate


@inline_kernel
def _copy_checked(target: Any, t: Any, source: Any, s: Any, count: Any) -> None:
    if count < 0:
        raise IndexError("copy of less than nothing")
    if count > 0:
        # Reads of the ends of both ranges are checked; their sum is used, so that they stay.
        seen = int(target[t]) + int(target[t + count - 1]) + int(source[s]) + int(source[s + count - 1])
        _copy_compiled(target, t, source, s, count if seen >= 0 else 0)


# copy(target, t, source, s, count): target[t:t + count] = source[s:s + count], both u1[:]; they may overlap.
copy: Any = _copy_interpreted if JIT_DISABLED else _copy_checked if BOUNDS_CHECKED else _copy_compiled
