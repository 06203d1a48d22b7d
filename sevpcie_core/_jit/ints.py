"""Arrays of integers as Numba values that are little more than an address.

Rule: nothing is checked, and no index is negative. A Numba array takes ten words and turns every index that
might be negative; with dozens of them in one kernel, most of its instructions moved those words about.

In interpreted code, and where bounds are to be checked, an array stays an array: both are used the same way.
"""

import operator
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types as _types
from numba.core import cgutils as _cgutils
from numba.core import imputils
from numba.core.datamodel import models
from numba.core.errors import TypingError
from numba.core.typing import templates
from numba.extending import intrinsic as _intrinsic
from numba.extending import register_model
from numba.np import arrayobj as _arrayobj

from . import BOUNDS_CHECKED, JIT_DISABLED, inline_kernel

# Numba's own are without types.
types: Any = _types
cgutils: Any = _cgutils
typing_of: Any = templates
arrayobj: Any = _arrayobj
# An intrinsic is called with other arguments than it is defined with.
intrinsic: Any = _intrinsic
_shape_of: Any = imputils.lower_getattr
_lower: Any = imputils.lower_builtin

_I64: Final = ir.IntType(64)


class Ints(_types.Type):
    """The Numba type of a C-contiguous int64 array without bounds.

    dims : extents, 0 for one that is only known at run time. A single known one is not kept: rows of
    different arrays are of one type.
    """

    def __init__(self, dims: tuple[int, ...]):
        self.dims = dims
        super().__init__(name=f"Ints{dims}")

    def part(self, indices: int) -> Any:
        """Return the type of what so many indices leave."""
        rest = self.dims[indices:]
        if not rest:
            return types.int64
        return ROW if len(rest) == 1 and rest[0] else Ints(rest)


ROW: Final = Ints((-1,))


@register_model(Ints)
class _IntsModel(models.StructModel):
    def __init__(self, manager: Any, kind: Ints):
        extents = [(f"n{i}", types.intp) for i, n in enumerate(kind.dims) if n == 0]
        members = [("data", types.CPointer(types.int64)), *extents]
        super().__init__(manager, kind, members)  # type: ignore[no-untyped-call]


def _extent(builder: Any, proxy: Any, kind: Ints, i: int) -> Any:
    return ir.Constant(_I64, kind.dims[i]) if kind.dims[i] else getattr(proxy, f"n{i}")


def _place(context: Any, builder: Any, proxy: Any, kind: Ints, indices: list[Any]) -> Any:
    """Return the address of what indices name."""
    offset = ir.Constant(_I64, 0)
    for i in range(len(kind.dims)):
        if i > 0:
            offset = builder.mul(offset, _extent(builder, proxy, kind, i), flags=["nsw"])
        if i < len(indices):
            offset = builder.add(offset, indices[i], flags=["nsw"])
    return builder.gep(proxy.data, [offset], inbounds=True)


def _indices(context: Any, builder: Any, kind: Any, value: Any) -> list[Any]:
    """Return indices as 64-bit integers."""
    if isinstance(kind, types.BaseTuple):
        parts = cgutils.unpack_tuple(builder, value, len(kind))
        return [context.cast(builder, v, t, types.int64) for v, t in zip(parts, kind, strict=True)]
    return [context.cast(builder, value, kind, types.int64)]


def _count(index: Any) -> int:
    """Return how many integers an index is; 0 for what is none."""
    if isinstance(index, types.Integer):
        return 1
    if isinstance(index, types.BaseTuple) and all(isinstance(t, types.Integer) for t in index):
        return len(index)
    return 0


@typing_of.infer_global(operator.getitem)
class _GetItem(templates.AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        kind, index = args
        if isinstance(kind, Ints) and 0 < _count(index) <= len(kind.dims):
            return typing_of.signature(kind.part(_count(index)), kind, index)
        return None


@typing_of.infer_global(operator.setitem)
class _SetItem(templates.AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        kind, index, _ = args
        if isinstance(kind, Ints) and _count(index) == len(kind.dims):
            return typing_of.signature(types.none, kind, index, types.int64)
        return None


@typing_of.infer_getattr
class _Shape(templates.AttributeTemplate):
    key = Ints

    def resolve_shape(self, kind: Ints) -> Any:
        # The extent of a row is not kept.
        return None if kind == ROW else types.UniTuple(types.intp, len(kind.dims))


def _shape(context: Any, builder: Any, kind: Ints, value: Any) -> Any:
    proxy = cgutils.create_struct_proxy(kind)(context, builder, value)
    return cgutils.pack_array(builder, [_extent(builder, proxy, kind, i) for i in range(len(kind.dims))])


def _get(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    kind, index = sig.args
    proxy = cgutils.create_struct_proxy(kind)(context, builder, args[0])
    place = _place(context, builder, proxy, kind, _indices(context, builder, index, args[1]))
    if sig.return_type == types.int64:
        return builder.load(place)
    part = sig.return_type
    made = cgutils.create_struct_proxy(part)(context, builder)
    made.data = place
    skipped = len(kind.dims) - len(part.dims)
    for i, n in enumerate(part.dims):
        if n == 0:
            setattr(made, f"n{i}", getattr(proxy, f"n{i + skipped}"))
    return made._getvalue()


def _set(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    kind, index, _ = sig.args
    proxy = cgutils.create_struct_proxy(kind)(context, builder, args[0])
    place = _place(context, builder, proxy, kind, _indices(context, builder, index, args[1]))
    builder.store(args[2], place)
    return context.get_dummy_value()


_shape_of(Ints, "shape")(_shape)
for _index in (types.Integer, types.BaseTuple):
    _lower(operator.getitem, Ints, _index)(_get)
    _lower(operator.setitem, Ints, _index, types.int64)(_set)


def _bare_compiled(typing: Any, array: Any, columns: Any) -> Any:
    if not isinstance(array, types.Array) or array.dtype != types.int64 or array.layout != "C":
        raise TypingError("expected a C-contiguous array of int64")
    if not isinstance(columns, types.IntegerLiteral):
        raise TypingError("expected a constant number of columns")
    dims = (0,) * (array.ndim - 1) + (columns.literal_value,)
    kind = Ints(dims)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        whole = arrayobj.make_array(sig.args[0])(context, builder, args[0])
        made = cgutils.create_struct_proxy(kind)(context, builder)
        made.data = whole.data
        extents = cgutils.unpack_tuple(builder, whole.shape, array.ndim)
        for i, n in enumerate(dims):
            if n == 0:
                setattr(made, f"n{i}", extents[i])
        return made._getvalue()

    return kind(array, columns), generate


def _bare_interpreted(array: np.ndarray, columns: int) -> np.ndarray:
    assert columns == 0 or columns == array.shape[-1]
    return array


def _choose() -> Any:
    if JIT_DISABLED:
        return _bare_interpreted
    if BOUNDS_CHECKED:
        return inline_kernel(_bare_interpreted)
    return intrinsic(prefer_literal=True)(_bare_compiled)


# bare(array, columns): int64 array as Ints; columns: its last extent where that is a constant, else 0.
bare: Any = _choose()
