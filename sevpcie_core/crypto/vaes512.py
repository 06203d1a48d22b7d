"""AES-GCM with 512-bit VAES and VPCLMULQDQ: four blocks in a register, four packets side by side.

Rule: where four packets in a row are alike, no register works for one packet alone.

A packet's rounds are a chain, each waiting for the one before. Four packets of one key and one shape run
together: four chains of text, and their counter-zero blocks share a fifth. For GHASH the text is transposed,
so that a lane belongs to a packet: the four sums grow in one register and are reduced together. Each block is
multiplied by its own power of the hash key, and products are added unreduced (see `keys`): a packet needs one
reduction. While one four is hashed, the rounds of the next go on.

Packets that have no equal neighbours, or long AAD, are taken one at a time.

Round keys are spread over the lanes once per key, into scratch memory, and read from there for each use: a
load costs a port that nothing else needs.
"""

import numpy as np

from .._jit import inline_only, inner_kernel, kernel
from .._jit.vector import (
    add32,
    aes_last,
    aes_round,
    block0,
    block1,
    block2,
    block3,
    either,
    first_bits,
    first_counters512,
    is_zero,
    join512,
    keep_bytes,
    lanes_0_1,
    lanes_01_23,
    lanes_even,
    lanes_high,
    lanes_low,
    lanes_odd,
    load128,
    load512,
    load_masked128,
    load_masked512,
    load_repeat512,
    next_counters512,
    number32,
    number64,
    one_be512,
    prefetch,
    put_last512,
    repeat512,
    repeat_byte512,
    reverse_bytes,
    reverse_bytes32,
    reverse_last512,
    reverse_low96,
    shuffle_bytes512,
    store,
    store96,
    store_masked,
    sub8,
    sub64,
    tie,
    xor,
    zero512,
)
from .gcm import (
    AAD,
    AAD_BYTES,
    FIRST_POWER_END,
    KEY,
    KEY_ROW,
    OUT,
    POWER_ROW,
    ROW,
    TAG,
    TEXT,
    TEXT_BYTES,
    add_times,
    check_tag,
    reduce,
)
from .keys import MAX_AAD_BYTES, MAX_TEXT_BYTES

# Where four tags stand in scratch memory, behind the round keys; and where round keys start. Not Python
# integers: a kernel is compiled anew for each of those.
_TAGS = np.int64(64 * 15)
# From so many bytes of text on, more or less, a packet is long.
_LONG = 256
_ROUND1, _ROUND3, _ROUND5, _ROUND7, _ROUND9 = (np.int64(64 * r) for r in (1, 3, 5, 7, 9))


# --- AES ---------------------------------------------------------------------------------------------------
# Registers that go together are tuples: the compiler keeps them apart, and has less to read.


@inline_only
def _two4(keys, at, x):
    """Take four registers through two rounds."""
    k = load512(keys, at)
    x = aes_round(x[0], k), aes_round(x[1], k), aes_round(x[2], k), aes_round(x[3], k)
    k = load512(keys, at + 64)
    return aes_round(x[0], k), aes_round(x[1], k), aes_round(x[2], k), aes_round(x[3], k)


@inline_only
def _two5(keys, at, x):
    """Take five registers through two rounds."""
    k = load512(keys, at)
    x = aes_round(x[0], k), aes_round(x[1], k), aes_round(x[2], k), aes_round(x[3], k), aes_round(x[4], k)
    k = load512(keys, at + 64)
    return aes_round(x[0], k), aes_round(x[1], k), aes_round(x[2], k), aes_round(x[3], k), aes_round(x[4], k)


@inline_only
def _last4(keys, at, x):
    """Take four registers through the last two rounds."""
    k = load512(keys, at)
    x = aes_round(x[0], k), aes_round(x[1], k), aes_round(x[2], k), aes_round(x[3], k)
    k = load512(keys, at + 64)
    return aes_last(x[0], k), aes_last(x[1], k), aes_last(x[2], k), aes_last(x[3], k)


@inline_only
def _last5(keys, at, x):
    """Take five registers through the last two rounds."""
    k = load512(keys, at)
    x = aes_round(x[0], k), aes_round(x[1], k), aes_round(x[2], k), aes_round(x[3], k), aes_round(x[4], k)
    k = load512(keys, at + 64)
    return aes_last(x[0], k), aes_last(x[1], k), aes_last(x[2], k), aes_last(x[3], k), aes_last(x[4], k)


@inline_only
def _encrypt1(keys, rounds, a):
    """Encrypt one register of blocks to which round key 0 has been added."""
    for r in range(1, rounds):
        a = aes_round(a, load512(keys, 64 * r))
    return aes_last(a, load512(keys, 64 * rounds))


# --- GHASH -------------------------------------------------------------------------------------------------


@inline_only
def _transpose(x):
    """Return four registers: of every one of four the first block, the second, the third, the fourth."""
    ab = lanes_low(x[0], x[1])
    cd = lanes_low(x[2], x[3])
    ef = lanes_high(x[0], x[1])
    gh = lanes_high(x[2], x[3])
    return lanes_even(ab, cd), lanes_odd(ab, cd), lanes_even(ef, gh), lanes_odd(ef, gh)


@inline_only
def _sum4(a, b, c, d):
    """Return in lane i the sum of the lanes of argument i."""
    ab = xor(lanes_low(a, b), lanes_high(a, b))
    cd = xor(lanes_low(c, d), lanes_high(c, d))
    return xor(lanes_even(ab, cd), lanes_odd(ab, cd))


@inline_only
def _absorb(s, x, powers, at):
    """Add the product of a block of each packet and one power to their sums."""
    return add_times(s, reverse_bytes(x), load_repeat512(powers, at))


@inline_only
def _apart(x, s):
    """Return registers and a sum as they are: what is behind does not mingle with what is before.

    The compiler would move the products behind all rounds, where they wait for one another.
    """
    y = tie((x[0], x[1], x[2], x[3], s[0], s[1], s[2]))
    return (y[0], y[1], y[2], y[3]), (y[4], y[5], y[6])


# --- Pieces of a packet -------------------------------------------------------------------------------------


@inline_only
def _base(packets, at):
    """Return a packet's nonce followed by a counter of zero, in every lane."""
    # A PACKET begins with the counter and the fixed field, both little-endian: the nonce backwards.
    return reverse_low96(load_repeat512(packets, at))


@inline_only
def _add4(x, k):
    """Add one register to each of four."""
    return xor(x[0], k), xor(x[1], k), xor(x[2], k), xor(x[3], k)


@inline_only
def _four(packets, p):
    """Return a field of four packets, the first of which is at byte p: offsets in an array."""
    return (
        number64(packets, p),
        number64(packets, p + ROW),
        number64(packets, p + 2 * ROW),
        number64(packets, p + 3 * ROW),
    )


@inline_only
def _crypt4(text, t, out, o, at, x, opening):
    """Encrypt 64 bytes of four packets; return the ciphertext."""
    c = load512(text, t[0] + at), load512(text, t[1] + at), load512(text, t[2] + at), load512(text, t[3] + at)
    x = xor(x[0], c[0]), xor(x[1], c[1]), xor(x[2], c[2]), xor(x[3], c[3])
    store(out, o[0] + at, x[0])
    store(out, o[1] + at, x[1])
    store(out, o[2] + at, x[2])
    store(out, o[3] + at, x[3])
    return c if opening else x


@inline_only
def _crypt4_last(text, t, out, o, at, mask, x, opening):
    """Encrypt the last 1 to 64 bytes of four packets; return the ciphertext, zeros behind it."""
    c = (
        load_masked512(text, t[0] + at, mask),
        load_masked512(text, t[1] + at, mask),
        load_masked512(text, t[2] + at, mask),
        load_masked512(text, t[3] + at, mask),
    )
    x = xor(x[0], c[0]), xor(x[1], c[1]), xor(x[2], c[2]), xor(x[3], c[3])
    store_masked(out, o[0] + at, x[0], mask)
    store_masked(out, o[1] + at, x[1], mask)
    store_masked(out, o[2] + at, x[2], mask)
    store_masked(out, o[3] + at, x[3], mask)
    if opening:
        return c
    return keep_bytes(x[0], mask), keep_bytes(x[1], mask), keep_bytes(x[2], mask), keep_bytes(x[3], mask)


@inline_only
def _bases(packets, p):
    """Return `_base` of four packets."""
    return (
        _base(packets, p),
        _base(packets, p + ROW),
        _base(packets, p + 2 * ROW),
        _base(packets, p + 3 * ROW),
    )


@inline_only
def _start(scratch, packets, p):
    """Return four first counter blocks, and four counter-zero blocks in one, round key 0 added."""
    b = _bases(packets, p)
    k = load512(scratch, 0)
    pad = xor(xor(lanes_01_23(lanes_0_1(b[0], b[1]), lanes_0_1(b[2], b[3])), one_be512()), k)
    x = _add4(b, xor(k, reverse_bytes32(first_counters512())))
    return x[0], x[1], x[2], x[3], pad


@inner_kernel
def _keystream5(scratch, rounds, packets, p):
    """Return the first keystream of four packets, and what hides their tags, with nothing in between."""
    x = _start(scratch, packets, p)
    for r in range(1, rounds - 1, 2):
        x = _two5(scratch, 64 * r, x)
    return _last5(scratch, 64 * (rounds - 1), x)


@inline_only
def _aad4(aad, packets, p, aad_bytes, last, powers, power, s):
    """Add up to 32 bytes of AAD of each of four packets to their sums.

    last : how `shuffle_bytes512` reverses what is behind 16 bytes.
    """
    at = _four(packets, p + AAD)
    if aad_bytes >= 16:
        s = _absorb(s, _blocks(aad, at, np.int64(0)), powers, power)
        if aad_bytes > 16:
            # The last 16 bytes: no byte outside is read, and no mask needed.
            x = shuffle_bytes512(_blocks(aad, at, aad_bytes - 16), last)
            s = add_times(s, x, load_repeat512(powers, power + 16))
        return s
    mask = first_bits(aad_bytes)
    x = join512(
        load_masked128(aad, at[0], mask),
        load_masked128(aad, at[1], mask),
        load_masked128(aad, at[2], mask),
        load_masked128(aad, at[3], mask),
    )
    return _absorb(s, x, powers, power)


@inline_only
def _blocks(array, at, behind):
    """Return a block of each of four packets, `behind` bytes from the start of something."""
    return join512(
        load128(array, at[0] + behind),
        load128(array, at[1] + behind),
        load128(array, at[2] + behind),
        load128(array, at[3] + behind),
    )


@inline_only
def _tags_differ(text, at, tags, tag_bytes):
    """Return whether a tag of four packets is not what it should be: every byte of each is looked at."""
    if tag_bytes == 16:
        return not is_zero(xor(_blocks(text, at, np.int64(0)), tags))
    mask = np.uint64(0x0FFF)
    found = join512(
        load_masked128(text, at[0], mask),
        load_masked128(text, at[1], mask),
        load_masked128(text, at[2], mask),
        load_masked128(text, at[3], mask),
    )
    return not is_zero(xor(found, keep_bytes(tags, np.uint64(0x0FFF0FFF0FFF0FFF))))


@inline_only
def _long(scratch, r0, rounds, powers, power, bases, text, t, out, o, x, count, opening, s, following):
    """Take `count` times 64 bytes of four packets; return the next keystream and the sums.

    following : where the text of the next four is, which is brought near meanwhile.

    Here the lanes of a register are blocks of one packet, each with its own power, so that nothing must be
    transposed; the sums of the lanes are added at the end, which is worth it for long packets.
    """
    z = (zero512(), zero512(), zero512())
    sa, sb, sc, sd = z, z, z, z
    counters = first_counters512()
    for at in range(0, 64 * count, 64):
        c = _crypt4(text, t, out, o, at, x, opening)
        counters = add32(counters, next_counters512())
        x = _add4(bases, reverse_bytes32(counters))
        if rounds > 10:
            x = _two4(scratch, _ROUND3, _two4(scratch, _ROUND1, x))
        for j in range(4):
            prefetch(text, following[j] + at)
        h = load512(powers, power + at)
        x, sa = _apart(_two4(scratch, r0 + _ROUND1, x), add_times(sa, reverse_bytes(c[0]), h))
        x, sb = _apart(_two4(scratch, r0 + _ROUND3, x), add_times(sb, reverse_bytes(c[1]), h))
        x, sc = _apart(_two4(scratch, r0 + _ROUND5, x), add_times(sc, reverse_bytes(c[2]), h))
        x, sd = _apart(_two4(scratch, r0 + _ROUND7, x), add_times(sd, reverse_bytes(c[3]), h))
        x = _last4(scratch, r0 + _ROUND9, x)
    return (
        x,
        counters,
        (
            xor(s[0], _sum4(sa[0], sb[0], sc[0], sd[0])),
            xor(s[1], _sum4(sa[1], sb[1], sc[1], sd[1])),
            xor(s[2], _sum4(sa[2], sb[2], sc[2], sd[2])),
        ),
    )


@inline_only
def _run(scratch, powers, rounds, packets, i, aad, text, out, tag_bytes, opening, failed, all_alike):
    """Take packets from i on, four at a time, as long as four are alike; return the next.

    Four packets are alike if they have the same key and the same sizes, with AAD of at most 32 bytes. Rounds
    of what comes next and products of what is there stand by turns: they do not wait for each other.
    """
    p = i * ROW
    key = number32(packets, p + KEY)
    end = key * POWER_ROW + FIRST_POWER_END
    sizes = number64(packets, p + AAD_BYTES)
    aad_bytes = sizes & 0xFFFFFFFF
    text_bytes = sizes >> 32
    # The power of the first block of text; that of the lengths is the first.
    first = end - (((text_bytes + 15) & -16) + 16)
    z = (zero512(), zero512(), zero512())
    # The block of lengths, and its product with the first power.
    bits = repeat512(np.uint64(text_bytes << 3), np.uint64(aad_bytes << 3))
    lengths = add_times(z, bits, load_repeat512(powers, end - 16))
    last = sub8(reverse_last512(), repeat_byte512(aad_bytes - 16))
    # Rounds beyond ten come first, so that the last ten are the same code for both key sizes.
    r0 = 64 * (rounds - 10)
    y = _keystream5(scratch, rounds, packets, p)
    while True:
        x = (y[0], y[1], y[2], y[3])
        pad = y[4]
        s = lengths
        if aad_bytes > 0:
            s = _aad4(aad, packets, p, aad_bytes, last, powers, first - ((aad_bytes + 15) & -16), s)
        t = _four(packets, p + TEXT)
        o = _four(packets, p + OUT)
        rest = text_bytes
        done = np.int64(0)
        if rest > 64:
            bases = _add4(_bases(packets, p), load512(scratch, 0))
            counters = first_counters512()
            if rest > _LONG:
                count = (rest - 1) >> 6
                following = _four(packets, min(i + 4, len(packets) - 4) * ROW + TEXT)
                x, counters, s = _long(
                    scratch,
                    r0,
                    rounds,
                    powers,
                    first,
                    bases,
                    text,
                    t,
                    out,
                    o,
                    x,
                    count,
                    opening,
                    s,
                    following,
                )
                done = count << 6
                rest -= done
            while rest > 64:
                c = _transpose(_crypt4(text, t, out, o, done, x, opening))
                counters = add32(counters, next_counters512())
                x = _add4(bases, reverse_bytes32(counters))
                if rounds > 10:
                    x = _two4(scratch, _ROUND3, _two4(scratch, _ROUND1, x))
                x = _two4(scratch, r0 + _ROUND1, x)
                s = _absorb(s, c[0], powers, first + done)
                x = _two4(scratch, r0 + _ROUND3, x)
                s = _absorb(s, c[1], powers, first + done + 16)
                x = _two4(scratch, r0 + _ROUND5, x)
                s = _absorb(s, c[2], powers, first + done + 32)
                x = _two4(scratch, r0 + _ROUND7, x)
                s = _absorb(s, c[3], powers, first + done + 48)
                x = _last4(scratch, r0 + _ROUND9, x)
                done += 64
                rest -= 64
        # The next four start while these four end; where there are none, these start again, for nothing.
        i += 4
        go_on = i + 4 <= len(packets) and (all_alike or _alike(packets, i, key, sizes))
        q = i * ROW if go_on else p
        if rest > 0:
            if rest == 64:
                c = _crypt4(text, t, out, o, done, x, opening)
            else:
                c = _crypt4_last(text, t, out, o, done, first_bits(rest), x, opening)
            c = _transpose(c)
            y = _start(scratch, packets, q)
            if rounds > 10:
                y = _two5(scratch, _ROUND3, _two5(scratch, _ROUND1, y))
            y = _two5(scratch, r0 + _ROUND1, y)
            s = _absorb(s, c[0], powers, first + done)
            y = _two5(scratch, r0 + _ROUND3, y)
            s = _absorb(s, c[1], powers, first + done + 16)
            y = _two5(scratch, r0 + _ROUND5, y)
            s = _absorb(s, c[2], powers, first + done + 32)
            y = _two5(scratch, r0 + _ROUND7, y)
            s = _absorb(s, c[3], powers, first + done + 48)
            y = _last5(scratch, r0 + _ROUND9, y)
        else:
            y = _keystream5(scratch, rounds, packets, q)

        tags = xor(pad, reverse_bytes(reduce(s[0], s[1], s[2])))
        at = _four(packets, p + TAG)
        if opening:
            if _tags_differ(text, at, tags, tag_bytes):
                store(scratch, _TAGS, tags)
                for j in range(4):
                    _check(
                        packets, p + j * ROW, scratch, _TAGS + 16 * j, text, out, tag_bytes, failed, i - 4 + j
                    )
        elif tag_bytes == 12:
            store96(out, at[0], block0(tags))
            store96(out, at[1], block1(tags))
            store96(out, at[2], block2(tags))
            store96(out, at[3], block3(tags))
        else:
            store(out, at[0], block0(tags))
            store(out, at[1], block1(tags))
            store(out, at[2], block2(tags))
            store(out, at[3], block3(tags))
        if not go_on:
            return i
        p = q


@inline_only
def _one(scratch, powers, rounds, packets, i, aad, text, out, tag_bytes, opening, failed):
    """Take packet i, of any shape."""
    p = i * ROW
    key = number32(packets, p + KEY)
    rest = number32(packets, p + TEXT_BYTES)
    aad_rest = number32(packets, p + AAD_BYTES)
    aad_at = number64(packets, p + AAD)
    t = number64(packets, p + TEXT)
    o = number64(packets, p + OUT)
    end = key * POWER_ROW + FIRST_POWER_END
    at = end - (((rest + 15) & -16) + 16)

    base = xor(_base(packets, p), load512(scratch, 0))
    pad = _encrypt1(scratch, rounds, xor(base, one_be512()))

    # The lengths, in the last lane.
    z = zero512()
    lengths = put_last512(z, np.uint64(rest << 3), np.uint64(aad_rest << 3))
    s = add_times((z, z, z), lengths, load512(powers, end - 64))
    aad_power = at - ((aad_rest + 15) & -16)
    while aad_rest > 0:
        x = reverse_bytes(load_masked512(aad, aad_at, first_bits(min(aad_rest, 64))))
        s = add_times(s, x, load512(powers, aad_power))
        aad_power += 64
        aad_at += 64
        aad_rest -= 64

    counters = first_counters512()
    while rest > 0:
        x = _encrypt1(scratch, rounds, xor(base, reverse_bytes32(counters)))
        counters = add32(counters, next_counters512())
        mask = first_bits(min(rest, 64))
        c = load_masked512(text, t, mask)
        x = xor(x, c)
        store_masked(out, o, x, mask)
        s = add_times(s, reverse_bytes(c if opening else keep_bytes(x, mask)), load512(powers, at))
        t += 64
        o += 64
        at += 64
        rest -= 64

    s = (_sum4(s[0], z, z, z), _sum4(s[1], z, z, z), _sum4(s[2], z, z, z))
    tags = xor(pad, reverse_bytes(reduce(s[0], s[1], s[2])))
    if opening:
        store(scratch, _TAGS, tags)
        _check(packets, p, scratch, _TAGS, text, out, tag_bytes, failed, i)
    elif tag_bytes == 12:
        store96(out, number64(packets, p + TAG), block0(tags))
    else:
        store(out, number64(packets, p + TAG), block0(tags))


@inline_only
def _alike(packets, i, key, sizes):
    """Return whether packets i..i+3 are of a key and of these sizes."""
    p = i * ROW
    differ = np.int64(0)
    for _ in range(4):
        differ |= (number32(packets, p + KEY) ^ key) | (number64(packets, p + AAD_BYTES) ^ sizes)
        p += ROW
    return differ == 0


@inline_only
def _all_alike(packets, keys, aad, text, out, tagged, scratch):
    """Return whether all packets have the key and the sizes of the first, and lie within the arrays.

    `aad` to `tagged` are sizes of the arrays; `tagged` less a tag. Rows of 56 bytes are looked at whole: what
    must not be negative is gathered in one register, what must not differ in another.
    """
    key = number32(packets, KEY)
    aad_bytes = number32(packets, AAD_BYTES)
    text_bytes = number32(packets, TEXT_BYTES)
    if key >= keys or aad_bytes > MAX_AAD_BYTES or text_bytes > MAX_TEXT_BYTES:
        return False
    mask = first_bits(ROW)
    first = load_masked512(packets, 0, mask)
    # Room behind a packet's start: aad, text in lane 1; out, tag in lane 2.
    rooms = lanes_01_23(
        repeat512(np.uint64(aad - aad_bytes), np.uint64(text - text_bytes)),
        repeat512(np.uint64(out - text_bytes), np.uint64(tagged)),
    )
    negative = zero512()
    differ = zero512()
    for p in range(0, len(packets) * ROW, ROW):
        row = load_masked512(packets, p, mask)
        negative = either(negative, either(row, sub64(rooms, row)))
        differ = either(differ, xor(row, first))
    store(scratch, 0, differ)
    same = (number32(scratch, KEY) | number64(scratch, AAD_BYTES)) == 0
    store(scratch, 0, negative)
    signs = number64(scratch, AAD) | number64(scratch, TEXT) | number64(scratch, OUT) | number64(scratch, TAG)
    return same and signs >= 0


@inner_kernel
def _check(packets, p, tags, at, text, out, tag_bytes, failed, i):
    """Compare the tag of packet i, whose row starts at byte p, with tags[at:]; wipe what failed."""
    check_tag(packets, p, load128(tags, at), text, out, tag_bytes, failed, i)


@kernel
def _batch(
    round_keys, powers, rounds, packets, aad, text, out, tag_bytes, scratch, opening, failed, only_alike
):
    """Seal or open a batch; with `only_alike`, return false instead unless `_all_alike`."""
    if only_alike:
        tagged = np.int64(len(text)) if opening else np.int64(len(out))
        if len(packets) == 0 or not _all_alike(
            packets, len(round_keys), len(aad), len(text), len(out), tagged - tag_bytes, scratch
        ):
            return False
    last = np.int64(-1)
    i = np.int64(0)
    while i < len(packets):
        key = number32(packets, i * ROW + KEY)
        if key != last:
            # Each round key in every lane of a register.
            for r in range(rounds + 1):
                store(scratch, 64 * r, load_repeat512(round_keys, key * KEY_ROW + 16 * r))
            last = key
        sizes = number64(packets, i * ROW + AAD_BYTES)
        if i + 4 <= len(packets) and sizes & 0xFFFFFFFF <= 32 and _alike(packets, i, key, sizes):
            i = _run(
                scratch, powers, rounds, packets, i, aad, text, out, tag_bytes, opening, failed, only_alike
            )
        else:
            _one(scratch, powers, rounds, packets, i, aad, text, out, tag_bytes, opening, failed)
            i += 1
    return True


def seal(round_keys, powers, rounds, packets, aad, text, out, tag_bytes, scratch):
    """Seal a batch; arguments as in `portable.seal`."""
    _batch(round_keys, powers, rounds, packets, aad, text, out, tag_bytes, scratch, False, scratch, False)


def open(round_keys, powers, rounds, packets, aad, text, out, tag_bytes, scratch, failed):
    """Open a batch; arguments as in `portable.open`."""
    _batch(round_keys, powers, rounds, packets, aad, text, out, tag_bytes, scratch, True, failed, False)


def seal_alike(round_keys, powers, rounds, packets, aad, text, out, tag_bytes, scratch):
    """Seal a batch if all its packets are alike and lie within the arrays, and return whether they do.

    `packets` need not have been checked; the other arguments are as in `portable.seal`.
    """
    return _batch(
        round_keys, powers, rounds, packets, aad, text, out, tag_bytes, scratch, False, scratch, True
    )


def open_alike(round_keys, powers, rounds, packets, aad, text, out, tag_bytes, scratch, failed):
    """Open a batch if all its packets are alike and lie within the arrays, and return whether they do."""
    return _batch(round_keys, powers, rounds, packets, aad, text, out, tag_bytes, scratch, True, failed, True)
