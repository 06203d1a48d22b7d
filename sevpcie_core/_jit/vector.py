"""Vectors of 128, 256 and 512 bits as Numba values, and the few instructions that AES-GCM is made of.

Rule: a vector holds whole 128-bit lanes ("blocks"); every operation works on each lane by itself unless its
name says otherwise. Offsets are bytes into a C-contiguous array; nothing is checked and nothing is aligned.

Only for compiled code: without JIT these functions have no meaning. Whoever imports them has asked
`_jit.cpu.features()` first.
"""

from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.core.errors import TypingError
from numba.extending import intrinsic as _intrinsic
from numba.extending import register_model
from numba.np import arrayobj

# Without types: an intrinsic is called with other arguments than it is defined with.
intrinsic: Any = _intrinsic

_I1, _I8, _I32, _I64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))


class Vector(types.Type):
    """The Numba type of a vector of `bits` bits."""

    def __init__(self, bits: int):
        self.bits = bits
        super().__init__(name=f"Vector({bits})")

    @property
    def lanes(self) -> int:
        """Number of 128-bit blocks."""
        return self.bits // 128


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector):
        super().__init__(manager, vector, ir.VectorType(_I64, vector.bits // 64))


V128: Final = Vector(128)
V256: Final = Vector(256)
V512: Final = Vector(512)

# LLVM's suffix for the wider forms of an x86 instruction.
_SUFFIX: Final = {128: "", 256: ".256", 512: ".512"}


def _as(builder: Any, value: Any, element: Any, bits: int) -> Any:
    return builder.bitcast(value, ir.VectorType(element, bits // element.width))


def _words(builder: Any, value: Any, bits: int) -> Any:
    return _as(builder, value, _I64, bits)


def _call(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    kind = ir.FunctionType(result, [a.type for a in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _constant(element: Any, values: list[int]) -> Any:
    return ir.Constant(ir.VectorType(element, len(values)), values)


def _shuffle(builder: Any, a: Any, b: Any, picks: list[int]) -> Any:
    return builder.shuffle_vector(a, b, _constant(_I32, picks))


def _need(vector: Any) -> None:
    if not isinstance(vector, Vector):
        raise TypingError(f"expected a vector, got {vector}")


# --- Memory ------------------------------------------------------------------------------------------------


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, offset: Any, element: Any) -> Any:
    data = arrayobj.make_array(array_type)(context, builder, array).data
    raw = builder.bitcast(data, _I8.as_pointer())
    return builder.bitcast(builder.gep(raw, [offset]), element.as_pointer())


def _load(vector: Vector) -> Any:
    @intrinsic
    def load(typing: Any, array: Any, offset: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            model = context.get_value_type(vector)
            at = _pointer(context, builder, signature.args[0], arguments[0], arguments[1], model)
            return builder.load(at, align=1)

        return vector(array, types.intp), generate

    return load


load128 = _load(V128)
load256 = _load(V256)
load512 = _load(V512)


def _load_repeat(vector: Vector) -> Any:
    @intrinsic
    def load_repeat(typing: Any, array: Any, offset: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            block = context.get_value_type(V128)
            at = _pointer(context, builder, signature.args[0], arguments[0], arguments[1], block)
            value = builder.load(at, align=1)
            return _shuffle(builder, value, value, [0, 1] * vector.lanes)

        return vector(array, types.intp), generate

    return load_repeat


# One block from memory in every lane.
load_repeat256 = _load_repeat(V256)
load_repeat512 = _load_repeat(V512)


def _load_masked(vector: Vector) -> Any:
    bits = vector.bits

    @intrinsic
    def load_masked(typing: Any, array: Any, offset: Any, mask: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            octets = ir.VectorType(_I8, bits // 8)
            at = _pointer(context, builder, signature.args[0], arguments[0], arguments[1], octets)
            value = _call(
                builder,
                f"llvm.masked.load.v{bits // 8}i8.p0",
                octets,
                [at, ir.Constant(_I32, 1), _mask(builder, arguments[2], bits), ir.Constant(octets, None)],
            )
            return _words(builder, value, bits)

        return vector(array, types.intp, types.uint64), generate

    return load_masked


def _mask(builder: Any, mask: Any, bits: int) -> Any:
    count = bits // 8
    narrow = mask if count == 64 else builder.trunc(mask, ir.IntType(count))
    return builder.bitcast(narrow, ir.VectorType(_I1, count))


# Bytes whose bit in the mask is 0 are neither read nor may they exist; they come out as 0.
load_masked128 = _load_masked(V128)
load_masked512 = _load_masked(V512)


@intrinsic
def prefetch(typing: Any, array: Any, offset: Any) -> Any:
    """Have the line at array[offset:] brought into the second cache; any offset may be asked for."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        at = _pointer(context, builder, signature.args[0], arguments[0], arguments[1], _I8)
        # Not to write, locality 2 of 3, data.
        hints = [ir.Constant(_I32, hint) for hint in (0, 2, 1)]
        _call(builder, "llvm.prefetch.p0", ir.VoidType(), [at, *hints])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@intrinsic
def store(typing: Any, array: Any, offset: Any, value: Any) -> Any:
    """Write a vector at array[offset:]."""
    _need(value)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        model = context.get_value_type(value)
        at = _pointer(context, builder, signature.args[0], arguments[0], arguments[1], model)
        builder.store(arguments[2], at, align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


@intrinsic
def store_masked(typing: Any, array: Any, offset: Any, value: Any, mask: Any) -> Any:
    """Write the bytes of a vector whose bit in the mask is 1; the others are not touched."""
    _need(value)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = value.bits
        octets = ir.VectorType(_I8, bits // 8)
        at = _pointer(context, builder, signature.args[0], arguments[0], arguments[1], octets)
        _call(
            builder,
            f"llvm.masked.store.v{bits // 8}i8.p0",
            ir.VoidType(),
            [
                _as(builder, arguments[2], _I8, bits),
                at,
                ir.Constant(_I32, 1),
                _mask(builder, arguments[3], bits),
            ],
        )
        return context.get_dummy_value()

    return types.void(array, types.intp, value, types.uint64), generate


@intrinsic
def store96(typing: Any, array: Any, offset: Any, block: Any) -> Any:
    """Write the first 12 bytes of a block: a MAC of 96 bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        low = builder.extract_element(arguments[2], ir.Constant(_I32, 0))
        third = builder.extract_element(_as(builder, arguments[2], _I32, 128), ir.Constant(_I32, 2))
        at = _pointer(context, builder, signature.args[0], arguments[0], arguments[1], _I64)
        builder.store(low, at, align=1)
        rest = builder.add(arguments[1], ir.Constant(arguments[1].type, 8))
        at = _pointer(context, builder, signature.args[0], arguments[0], rest, _I32)
        builder.store(third, at, align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, V128), generate


def _number(bits: int) -> Any:
    @intrinsic
    def number(typing: Any, array: Any, offset: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            element = ir.IntType(bits)
            at = _pointer(context, builder, signature.args[0], arguments[0], arguments[1], element)
            value = builder.load(at, align=1)
            return value if bits == 64 else builder.zext(value, _I64)

        return types.int64(array, types.intp), generate

    return number


# A little-endian number from memory: array[index]["field"] without its check for negative indices.
number32 = _number(32)
number64 = _number(64)


@intrinsic
def first_bits(typing: Any, count: Any) -> Any:
    """Return the mask of the first `count` bytes of a register (BMI2); count 0..255, all from 64 up."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _call(builder, "llvm.x86.bmi.bzhi.64", _I64, [ir.Constant(_I64, -1), arguments[0]])

    return types.uint64(types.int64), generate


# --- Arithmetic on every lane -------------------------------------------------------------------------------


def _binary(emit: Callable[..., Any]) -> Any:
    """Make an operation of two vectors of one width."""

    @intrinsic
    def operation(typing: Any, a: Any, b: Any) -> Any:
        _need(a)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return _words(builder, emit(builder, *arguments, a.bits), a.bits)

        return a(a, a), generate

    return operation


def _x86(name: str, *immediate: int) -> Any:
    def emit(builder: Any, a: Any, b: Any, bits: int) -> Any:
        tail = [ir.Constant(_I8, value) for value in immediate]
        return _call(builder, f"llvm.x86.{name}{_SUFFIX[bits]}", a.type, [a, b, *tail])

    return _binary(emit)


xor = _binary(lambda builder, a, b, bits: builder.xor(a, b))
# The bits that are set in a or b.
either = _binary(lambda builder, a, b, bits: builder.or_(a, b))
# Subtract 64-bit words, bytes.
sub64 = _binary(lambda builder, a, b, bits: builder.sub(a, b))
sub8 = _binary(
    lambda builder, a, b, bits: builder.sub(_as(builder, a, _I8, bits), _as(builder, b, _I8, bits))
)
# The bytes of each lane of a where the bytes of b say: their low four bits, or zeros where bit 7 is set.
shuffle_bytes512 = _binary(
    lambda builder, a, b, bits: _call(
        builder,
        "llvm.x86.avx512.pshuf.b.512",
        ir.VectorType(_I8, bits // 8),
        [_as(builder, a, _I8, bits), _as(builder, b, _I8, bits)],
    )
)
# Add 32-bit words.
add32 = _binary(
    lambda builder, a, b, bits: builder.add(_as(builder, a, _I32, bits), _as(builder, b, _I32, bits))
)
# FIPS 197, section 5.1: one round, and the last one, which has no MixColumns.
aes_round = _x86("aesni.aesenc")
aes_last = _x86("aesni.aesenclast")
# Carry-less products of each lane's low (l) or high (h) halves, in the order of the arguments.
clmul_ll = _x86("pclmulqdq", 0x00)
clmul_hl = _x86("pclmulqdq", 0x01)
clmul_lh = _x86("pclmulqdq", 0x10)
clmul_hh = _x86("pclmulqdq", 0x11)


def _unary(emit: Callable[[Any, Any, int], Any]) -> Any:
    @intrinsic
    def operation(typing: Any, a: Any) -> Any:
        _need(a)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return _words(builder, emit(builder, arguments[0], a.bits), a.bits)

        return a(a), generate

    return operation


def _reverse(builder: Any, value: Any, bits: int) -> Any:
    octets = _as(builder, value, _I8, bits)
    picks = [16 * lane + 15 - i for lane in range(bits // 128) for i in range(16)]
    return _shuffle(builder, octets, octets, picks)


def _reverse_low96(builder: Any, value: Any, bits: int) -> Any:
    octets = _as(builder, value, _I8, bits)
    # Index bits // 8 is the first byte of the second operand, all zeros.
    picks = [
        16 * lane + 11 - i if i < 12 else bits // 8 + i for lane in range(bits // 128) for i in range(16)
    ]
    return _shuffle(builder, octets, ir.Constant(octets.type, None), picks)


def _reverse32(builder: Any, value: Any, bits: int) -> Any:
    octets = _as(builder, value, _I8, bits)
    return _shuffle(builder, octets, octets, [i // 4 * 4 + 3 - i % 4 for i in range(bits // 8)])


# The bytes of each lane in reverse order.
reverse_bytes = _unary(_reverse)
# The first 12 bytes of each lane in reverse order, then four zeros.
reverse_low96 = _unary(_reverse_low96)
# The bytes of each 32-bit word in reverse order.
reverse_bytes32 = _unary(_reverse32)
# The halves of each lane changed over.
swap_halves = _unary(lambda builder, a, bits: _shuffle(builder, a, a, [i ^ 1 for i in range(bits // 64)]))


@intrinsic
def is_zero(typing: Any, a: Any) -> Any:
    """Return whether no bit of a vector is set."""
    _need(a)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        flags = builder.icmp_unsigned("!=", arguments[0], ir.Constant(arguments[0].type, None))
        kind = ir.IntType(a.bits // 64)
        return builder.icmp_unsigned("==", builder.bitcast(flags, kind), ir.Constant(kind, 0))

    return types.boolean(a), generate


@intrinsic
def keep_bytes(typing: Any, a: Any, mask: Any) -> Any:
    """Return the bytes of a whose bit in the mask is 1, and zeros for the others."""
    _need(a)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        octets = _as(builder, arguments[0], _I8, a.bits)
        chosen = builder.select(_mask(builder, arguments[1], a.bits), octets, ir.Constant(octets.type, None))
        return _words(builder, chosen, a.bits)

    return a(a, types.uint64), generate


@intrinsic
def tie(typing: Any, values: Any) -> Any:
    """Return vectors as they are, all of them there before any of them is used.

    An instruction that does nothing and that the compiler cannot see through: it keeps what stands before it
    apart from what stands behind it.
    """
    n = len(values)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        parts = cgutils.unpack_tuple(builder, arguments[0], n)
        kind = ir.FunctionType(ir.LiteralStructType([p.type for p in parts]), [p.type for p in parts])
        constraint = ",".join(["=v"] * n + [str(i) for i in range(n)])
        tied = builder.asm(kind, "", constraint, parts, True)
        return context.make_tuple(builder, values, [builder.extract_value(tied, i) for i in range(n)])

    return values(values), generate


# --- Lanes -----------------------------------------------------------------------------------------------


def _pick_lanes(*lanes: int) -> Any:
    """Make the choice of four lanes out of a (0..3) and b (4..7)."""
    picks = [2 * lane + half for lane in lanes for half in (0, 1)]

    @intrinsic
    def operation(typing: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return _shuffle(builder, arguments[0], arguments[1], picks)

        return V512(V512, V512), generate

    return operation


lanes_low = _pick_lanes(0, 1, 4, 5)
lanes_high = _pick_lanes(2, 3, 6, 7)
lanes_even = _pick_lanes(0, 2, 4, 6)
lanes_odd = _pick_lanes(1, 3, 5, 7)
# Each lane from its own place: a0 b1 a2 b3, and a0 a1 b2 b3.
lanes_0_1 = _pick_lanes(0, 5, 2, 7)
lanes_01_23 = _pick_lanes(0, 1, 6, 7)


def _block(index: int) -> Any:
    @intrinsic
    def operation(typing: Any, a: Any) -> Any:
        _need(a)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return _shuffle(builder, arguments[0], arguments[0], [2 * index, 2 * index + 1])

        return V128(a), generate

    return operation


block0, block1, block2, block3 = (_block(index) for index in range(4))


@intrinsic
def join256(typing: Any, low: Any, high: Any) -> Any:
    """Return two blocks in one register."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _shuffle(builder, arguments[0], arguments[1], [0, 1, 2, 3])

    return V256(V128, V128), generate


@intrinsic
def join512(typing: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Return four blocks in one register."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        low = _shuffle(builder, arguments[0], arguments[1], [0, 1, 2, 3])
        high = _shuffle(builder, arguments[2], arguments[3], [0, 1, 2, 3])
        return _shuffle(builder, low, high, list(range(8)))

    return V512(V128, V128, V128, V128), generate


def _zero(vector: Vector) -> Any:
    @intrinsic
    def operation(typing: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return ir.Constant(context.get_value_type(vector), None)

        return vector(), generate

    return operation


zero128 = _zero(V128)
zero256 = _zero(V256)
zero512 = _zero(V512)


def _last_block(vector: Vector) -> Any:
    @intrinsic
    def operation(typing: Any, a: Any, low: Any, high: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            value, low, high = arguments
            words = vector.bits // 64
            for word, index in ((low, words - 2), (high, words - 1)):
                # A broadcast under a mask is one instruction; an insertion into a wide register takes three.
                spread = _shuffle(
                    builder,
                    builder.insert_element(ir.Constant(value.type, ir.Undefined), word, ir.Constant(_I32, 0)),
                    ir.Constant(value.type, ir.Undefined),
                    [0] * words,
                )
                chosen = _constant(_I1, [i == index for i in range(words)])
                value = builder.select(chosen, spread, value)
            return value

        return vector(vector, types.uint64, types.uint64), generate

    return operation


# The last lane replaced by the number high << 64 | low.
put_last256 = _last_block(V256)
put_last512 = _last_block(V512)


def _repeat(vector: Vector) -> Any:
    @intrinsic
    def operation(typing: Any, low: Any, high: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            value = ir.Constant(context.get_value_type(V128), ir.Undefined)
            for index, word in enumerate(arguments):
                value = builder.insert_element(value, word, ir.Constant(_I32, index))
            return _shuffle(builder, value, value, [0, 1] * vector.lanes)

        return vector(types.uint64, types.uint64), generate

    return operation


def _spread_byte(vector: Vector) -> Any:
    @intrinsic
    def operation(typing: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            octets = ir.VectorType(_I8, vector.bits // 8)
            one = builder.insert_element(
                ir.Constant(octets, ir.Undefined), builder.trunc(arguments[0], _I8), ir.Constant(_I32, 0)
            )
            return _words(builder, _shuffle(builder, one, one, [0] * (vector.bits // 8)), vector.bits)

        return vector(types.int64), generate

    return operation


# The low byte of a number in every byte.
repeat_byte512 = _spread_byte(V512)
# The number high << 64 | low in every lane.
repeat128 = _repeat(V128)
repeat512 = _repeat(V512)


def _half(index: int) -> Any:
    @intrinsic
    def operation(typing: Any, block: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.extract_element(arguments[0], ir.Constant(_I32, index))

        return types.uint64(V128), generate

    return operation


# The halves of a block as numbers.
low_half = _half(0)
high_half = _half(1)


def _repeat32(vector: Vector, words: list[int]) -> Any:
    @intrinsic
    def operation(typing: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return _words(builder, _constant(_I32, words), vector.bits)

        return vector(), generate

    return operation


def _counters(vector: Vector, first: int, step: int) -> Any:
    """Make the constant whose lane i holds the number first + i * step in its last 32-bit word."""
    words = [value for lane in range(vector.lanes) for value in (0, 0, 0, first + lane * step)]
    return _repeat32(vector, words)


# SP 800-38D, section 7.1: the counter of J0 is 1, of the first block of text 2. Little-endian here.
first_counters512 = _counters(V512, 2, 1)
next_counters512 = _counters(V512, 4, 0)
first_counters256 = _counters(V256, 2, 1)
next_counters256 = _counters(V256, 2, 0)
first_counters128 = _counters(V128, 2, 1)
next_counters128 = _counters(V128, 1, 0)
# The counter of J0, big-endian, in every lane.
one_be512 = _counters(V512, 0x01000000, 0)
one_be256 = _counters(V256, 0x01000000, 0)
one_be128 = _counters(V128, 0x01000000, 0)


@intrinsic
def reverse_last512(typing: Any) -> Any:
    """Return what, less n in each byte, has `shuffle_bytes512` reverse the last n bytes of a block.

    They come out as a block of n bytes does from `reverse_bytes`, zeros below them. Byte i of it comes from
    byte 31 - i - n; where that is beyond the block, bit 7 is set.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values = [0x70 + 31 - i for _ in range(4) for i in range(16)]
        return _words(builder, _constant(_I8, values), 512)

    return V512(), generate


@intrinsic
def poly(typing: Any, a: Any) -> Any:
    """Return x^127 + x^126 + x^121 of POLYVAL's modulus, in both halves of every lane of a register like a.

    As the high half of a number: RFC 8452, section 3.
    """
    _need(a)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _constant(_I64, [0xC200000000000000] * (a.bits // 64))

    return a(a), generate
