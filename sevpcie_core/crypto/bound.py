"""The two instructions that AES-GCM is made of, alone: how fast the CPU at hand can run them at best.

Rule: twelve independent chains, so that no instruction waits for the result of another one; nothing else in
the loop needs their ports.

Each kernel takes `data`, u1[>= 896], of any content, and repeats its twelve instructions `count` times. It
leaves what the chains end with in data[0:64], so that no compiler can drop them. Without the instructions of
its width a kernel may not be called.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from .. import spec
from .._jit import cpu, inline_only, kernel
from .._jit.vector import aes_round, clmul_ll, load128, load256, load512, store, xor

# Instructions in one turn of a kernel's loop, and how many of them are AES rounds where both are mixed: about
# as many as AES-GCM has, and three to one is exact.
CHAINS: Final = 12
MIXED_AES: Final = 9
# Bytes of data that the widest kernel reads: a factor and the start of each chain.
DATA_BYTES: Final = 64 * (CHAINS + 1)


# --- One turn -----------------------------------------------------------------------------------------------


@inline_only
def _aes6(k, a, b, c, d, e, f):
    return (
        aes_round(a, k),
        aes_round(b, k),
        aes_round(c, k),
        aes_round(d, k),
        aes_round(e, k),
        aes_round(f, k),
    )


@inline_only
def _clmul6(k, a, b, c, d, e, f):
    return clmul_ll(a, k), clmul_ll(b, k), clmul_ll(c, k), clmul_ll(d, k), clmul_ll(e, k), clmul_ll(f, k)


@inline_only
def _mixed12(k, a, b, c, d, e, f, g, h, i, j, m, n):
    a, b, c, d = aes_round(a, k), aes_round(b, k), aes_round(c, k), clmul_ll(d, k)
    e, f, g, h = aes_round(e, k), aes_round(f, k), aes_round(g, k), clmul_ll(h, k)
    i, j, m, n = aes_round(i, k), aes_round(j, k), aes_round(m, k), clmul_ll(n, k)
    return a, b, c, d, e, f, g, h, i, j, m, n


@inline_only
def _sum6(a, b, c, d, e, f):
    return xor(xor(xor(a, b), xor(c, d)), xor(e, f))


@inline_only
def _start6(load, data, at):
    return (
        load(data, at),
        load(data, at + 64),
        load(data, at + 128),
        load(data, at + 192),
        load(data, at + 256),
        load(data, at + 320),
    )


# --- The loops, with `load` for registers of a width --------------------------------------------------------


@inline_only
def _aes(load, data, count):
    """Run AES rounds."""
    k = load(data, 0)
    a, b, c, d, e, f = _start6(load, data, 64)
    g, h, i, j, m, n = _start6(load, data, 448)
    for _ in range(count):
        a, b, c, d, e, f = _aes6(k, a, b, c, d, e, f)
        g, h, i, j, m, n = _aes6(k, g, h, i, j, m, n)
    store(data, 0, xor(_sum6(a, b, c, d, e, f), _sum6(g, h, i, j, m, n)))


@inline_only
def _clmul(load, data, count):
    """Run carry-less products."""
    k = load(data, 0)
    a, b, c, d, e, f = _start6(load, data, 64)
    g, h, i, j, m, n = _start6(load, data, 448)
    for _ in range(count):
        a, b, c, d, e, f = _clmul6(k, a, b, c, d, e, f)
        g, h, i, j, m, n = _clmul6(k, g, h, i, j, m, n)
    store(data, 0, xor(_sum6(a, b, c, d, e, f), _sum6(g, h, i, j, m, n)))


@inline_only
def _mixed(load, data, count):
    """Run three AES rounds to one product: nine and three in a turn of the loop."""
    k = load(data, 0)
    a, b, c, d, e, f = _start6(load, data, 64)
    g, h, i, j, m, n = _start6(load, data, 448)
    for _ in range(count):
        a, b, c, d, e, f, g, h, i, j, m, n = _mixed12(k, a, b, c, d, e, f, g, h, i, j, m, n)
    store(data, 0, xor(_sum6(a, b, c, d, e, f), _sum6(g, h, i, j, m, n)))


# --- The kernels --------------------------------------------------------------------------------------------


@kernel
def aes512(data, count):
    """Run AES rounds on 512 bits."""
    _aes(load512, data, count)


@kernel
def clmul512(data, count):
    """Run carry-less products on 512 bits."""
    _clmul(load512, data, count)


@kernel
def mixed512(data, count):
    """Run three AES rounds to one product on 512 bits."""
    _mixed(load512, data, count)


@kernel
def aes256(data, count):
    """Run AES rounds on 256 bits."""
    _aes(load256, data, count)


@kernel
def clmul256(data, count):
    """Run carry-less products on 256 bits."""
    _clmul(load256, data, count)


@kernel
def mixed256(data, count):
    """Run three AES rounds to one product on 256 bits."""
    _mixed(load256, data, count)


@kernel
def aes128(data, count):
    """Run AES rounds on 128 bits."""
    _aes(load128, data, count)


@kernel
def clmul128(data, count):
    """Run carry-less products on 128 bits."""
    _clmul(load128, data, count)


@kernel
def mixed128(data, count):
    """Run three AES rounds to one product on 128 bits."""
    _mixed(load128, data, count)


# --- What a packet needs ------------------------------------------------------------------------------------


class Streams(NamedTuple):
    """The kernels of one width."""

    bits: int
    aes: Callable[..., None]
    clmul: Callable[..., None]
    mixed: Callable[..., None]


def widest() -> Streams | None:
    """Return the kernels of the widest registers that the CPU takes the two instructions on, if any."""
    here = cpu.features()
    if not here >= {"aes", "pclmul", "sse4.1"}:
        return None
    if not here >= {"vaes", "vpclmulqdq", "avx2"}:
        return Streams(128, aes128, clmul128, mixed128)
    if not here >= {"avx512f", "avx512bw", "avx512vl"}:
        return Streams(256, aes256, clmul256, mixed256)
    return Streams(512, aes512, clmul512, mixed512)


def instructions(key_bits: int, payload_bytes: int, aad_bytes: int, bits: int) -> tuple[float, float]:
    """Return how many AES rounds and carry-less products, in registers of `bits`, one packet needs.

    With B = bits / 128 blocks in a register:

        AES      rounds * (ceil(payload / 16) + 1) / B        the blocks of text, and the counter-zero block
        products 4 * (ceil(aad / 16) + ceil(payload / 16) + 1) / B + 2 / B
                                                              AAD, ciphertext, lengths; one reduction

    Nothing is rounded up to whole registers: packets can share one, so this is less than any packing needs.
    Four products per block is the schoolbook way, of 64-bit halves. Karatsuba's three would pay with shuffles
    and exclusive-ors for each of the saved products, and is not what the bound is about.
    """
    blocks = -(-payload_bytes // spec.AES_BLOCK_BYTES)
    aad_blocks = -(-aad_bytes // spec.AES_BLOCK_BYTES)
    lanes = bits // (8 * spec.AES_BLOCK_BYTES)
    aes = spec.AES_ROUNDS[key_bits] * (blocks + 1) / lanes
    return aes, (4 * (aad_blocks + blocks + 1) + 2) / lanes
