"""AES-GCM over whole batches of packets, and one packet at a time (NIST SP 800-38D).

Rule: Python checks every range before a kernel runs, because kernels do not check.
"""

import threading
from typing import Final

import numpy as np
import numpy.typing as npt

from .._jit import kernel
from ..errors import IntegrityError, MisuseError
from . import backends
from .keys import MAX_AAD_BYTES, MAX_TEXT_BYTES, KeyTable
from .order import arranged, taken
from .packet import PACKET

U8 = npt.NDArray[np.uint8]

# Tag lengths that IDE (12) and GCM in general (16) use.
TAG_BYTES: Final = (12, 16)
# NIST SP 800-38D, section 5.2.1.1: the nonce length that every protocol uses.
NONCE_BYTES: Final = 12
# Room for a kernel's own use: kernels allocate nothing.
SCRATCH_BYTES: Final = 1 << 13

# Comparing with `np.uint8` itself makes a dtype of it each time.
_BYTE: Final = np.dtype(np.uint8)

# What a batch is checked for, in the order of the checks.
_CHECKS: Final = (
    "key is not a row of the key table",
    f"aad_bytes is not 0..{MAX_AAD_BYTES}",
    f"text_bytes is not 0..{MAX_TEXT_BYTES}",
    "aad lies outside its array",
    "text lies outside its array",
    "out lies outside its array",
    "tag lies outside its array",
)


def seal_batch(
    keys: KeyTable,
    packets: npt.NDArray[np.void],
    aad: U8,
    text: U8,
    out: U8,
    tag_bytes: int = 12,
    backend: backends.Backend | None = None,
) -> None:
    """Encrypt and authenticate each packet.

    Parameters
    ----------
    keys : the key table that packets name rows of.
    packets : PACKET[n].
    aad, text : u1[:], what is authenticated only, and what is encrypted too.
    out : u1[:], modified in place: the ciphertext of a packet at its `out`, the tag at its `tag`. May be the
        array of aad or text; a packet may be sealed where its text lies. What packets write may not overlap
        what other packets read or write (not checked).
    tag_bytes : 12 or 16.
    backend : None for the process's own.

    Raises MisuseError, with nothing written, for a packet whose ranges lie outside the arrays.
    """
    _check_types(packets, aad, text, out, tag_bytes)
    chosen = backend or backends.default()
    _run(chosen.seal_alike, chosen.seal, keys, packets, aad, text, out, out, tag_bytes)


def open_batch(
    keys: KeyTable,
    packets: npt.NDArray[np.void],
    aad: U8,
    text: U8,
    out: U8,
    tag_bytes: int = 12,
    backend: backends.Backend | None = None,
) -> npt.NDArray[np.bool_]:
    """Check and decrypt each packet: ciphertext at its `text`, tag at its `tag`, both in `text`.

    The plaintext goes to its `out`. Where a tag does not match, zeros go there instead: nothing of a packet
    that fails is released. The time does not tell which bit of a tag was wrong.

    Returns bool[n], true where the tag matched. Raises like `seal_batch`.
    """
    _check_types(packets, aad, text, out, tag_bytes)
    chosen = backend or backends.default()
    failed = np.zeros(len(packets), np.uint8)
    order = _run(chosen.open_alike, chosen.open, keys, packets, aad, text, out, text, tag_bytes, failed)
    opened = np.empty(len(packets), np.bool_)
    opened[slice(None) if order is None else order] = failed == 0
    return opened


def _run(
    alike: backends.Kernel | None,
    kernel: backends.Kernel,
    keys: KeyTable,
    packets: npt.NDArray[np.void],
    aad: U8,
    text: U8,
    out: U8,
    tagged: U8,
    tag_bytes: int,
    *failed: U8,
) -> npt.NDArray[np.int64] | None:
    """Check the packets and hand them to a kernel. Return the order in which it got them; None: as they are.

    `tagged` holds the tags. `alike` takes a batch of equal packets, which it checks by itself.
    """
    scratch = _take_scratch()
    table = keys.round_keys, keys.powers, keys.rounds
    rest = (_plain(aad), _plain(text), out, tag_bytes, scratch, *failed)
    order = None
    if alike is None or not alike(*table, packets, *rest):
        changes = _check_ranges(keys, packets, aad, text, out, tagged, tag_bytes)
        order = arranged(packets, changes) if alike is not None else None
        kernel(*table, taken(packets, order), *rest)
    _give_back(scratch)
    return order


class _Local(threading.local):
    """A thread's scratch memory while nobody has it."""

    scratch: U8 | None = None


_LOCAL: Final = _Local()


def _take_scratch() -> U8:
    """Return scratch memory for a kernel, u1[SCRATCH_BYTES], aligned to the widest register."""
    scratch = _LOCAL.scratch
    if scratch is not None:
        # A call within this one, from a signal handler, finds none and makes its own.
        _LOCAL.scratch = None
        return scratch
    memory = np.zeros(SCRATCH_BYTES + 63, np.uint8)
    start = -memory.__array_interface__["data"][0] % 64
    return memory[start : start + SCRATCH_BYTES]


def _give_back(scratch: U8) -> None:
    """Wipe scratch memory, in which kernels leave round keys and keystream, and keep it."""
    scratch.fill(0)
    _LOCAL.scratch = scratch


def _plain(array: U8) -> U8:
    """Return an array that kernels accept: a read-only one would be another type to compile for."""
    return array if array.flags.writeable else array.copy()


def _check_types(packets: npt.NDArray[np.void], aad: U8, text: U8, out: U8, tag_bytes: int) -> None:
    """Raise MisuseError unless the arguments are what kernels take."""
    if tag_bytes not in TAG_BYTES:
        raise MisuseError(f"tag_bytes is {tag_bytes}, and can be {' or '.join(map(str, TAG_BYTES))}")
    if packets.dtype != PACKET or packets.ndim != 1 or not packets.flags.c_contiguous:
        raise MisuseError("packets is not a contiguous array of PACKET")
    _check_bytes("out", out)
    if not out.flags.writeable:
        raise MisuseError("out is read-only")
    if text is not out:
        _check_bytes("text", text)
    if aad is not out:
        _check_bytes("aad", aad)


def _check_ranges(
    keys: KeyTable,
    packets: npt.NDArray[np.void],
    aad: U8,
    text: U8,
    out: U8,
    tagged: U8,
    tag_bytes: int,
) -> int:
    """Raise MisuseError unless every packet lies within the arrays.

    Returns how many packets have another key or shape than the one before.
    """
    sizes = (len(keys), len(aad), len(text), len(out), len(tagged))
    found = int(examine(packets, *sizes, tag_bytes, MAX_AAD_BYTES, MAX_TEXT_BYTES))
    if found < 0:
        index, check = divmod(-1 - found, len(_CHECKS))
        raise MisuseError(f"packet {index}: {_CHECKS[check]}")
    return found


def _check_bytes(name: str, array: U8) -> None:
    if array.dtype != _BYTE or array.ndim != 1 or not array.flags.c_contiguous:
        raise MisuseError(f"{name} is not a contiguous array of bytes")


@kernel
def examine(
    packets: npt.NDArray[np.void],
    keys: int,
    aad: int,
    text: int,
    out: int,
    tagged: int,
    tag_bytes: int,
    max_aad: int,
    max_text: int,
) -> int:
    """Look at every packet of a batch; `keys` to `tagged` are sizes of arrays.

    Returns how many packets have another key or shape than the one before; or, if a packet breaks a check,
    -1 - (7 * index + check) of the first one.
    """
    room = tagged - tag_bytes
    aad_room = np.int64(aad)
    text_room = np.int64(text)
    out_room = np.int64(out)
    key = np.uint32(0)
    a = np.int64(-1)
    t = np.int64(-1)
    bad = np.int64(0)
    changes = 0
    for i in range(np.uint64(len(packets))):
        if packets[i]["aad_bytes"] != a or packets[i]["text_bytes"] != t or packets[i]["key"] != key:
            changes += 1
            key = packets[i]["key"]
            a = np.int64(packets[i]["aad_bytes"])
            t = np.int64(packets[i]["text_bytes"])
            bad |= a | t | (max_aad - a) | (max_text - t) | (keys - 1 - np.int64(key))
            aad_room = np.int64(aad) - a
            text_room = np.int64(text) - t
            out_room = np.int64(out) - t
        # A negative number is bad, so its sign tells; offsets may be anything, so none is added to.
        bad |= packets[i]["aad"] | packets[i]["text"] | packets[i]["out"] | packets[i]["tag"]
        bad |= (aad_room - packets[i]["aad"]) | (text_room - packets[i]["text"])
        bad |= (out_room - packets[i]["out"]) | (room - packets[i]["tag"])
    if bad >= 0:
        return changes
    for i in range(np.uint64(len(packets))):
        check = _first_check(packets, i, keys, aad, text, out, tagged - tag_bytes, max_aad, max_text)
        if check >= 0:
            return -1 - (7 * int(i) + check)
    return changes


@kernel
def _first_check(
    packets: npt.NDArray[np.void],
    i: int,
    keys: int,
    aad: int,
    text: int,
    out: int,
    room: int,
    max_aad: int,
    max_text: int,
) -> int:
    """Return the first check that packet i breaks, or -1."""
    a = np.int64(packets[i]["aad_bytes"])
    t = np.int64(packets[i]["text_bytes"])
    if packets[i]["key"] >= keys:
        return 0
    if a < 0 or a > max_aad:
        return 1
    if t < 0 or t > max_text:
        return 2
    if packets[i]["aad"] < 0 or packets[i]["aad"] > aad - a:
        return 3
    if packets[i]["text"] < 0 or packets[i]["text"] > text - t:
        return 4
    if packets[i]["out"] < 0 or packets[i]["out"] > out - t:
        return 5
    return 6 if packets[i]["tag"] < 0 or packets[i]["tag"] > room else -1


class AesGcm:
    """AES-GCM with one key, one packet at a time.

    The caller sees to it that no nonce is used twice under a key; `ide` does that for streams.

    Parameters
    ----------
    key : 16 or 32 bytes.
    tag_bytes : 12 or 16.
    """

    def __init__(self, key: bytes, tag_bytes: int = 12):
        if tag_bytes not in TAG_BYTES:
            raise MisuseError(f"tag_bytes is {tag_bytes}, and can be {' or '.join(map(str, TAG_BYTES))}")
        self._keys = KeyTable([key])
        self._tag_bytes = tag_bytes

    def seal(self, nonce: bytes, aad: bytes, plaintext: bytes) -> bytes:
        """Return ciphertext || tag.

        Raises MisuseError for a nonce that is not 12 bytes, AAD above 512 or plaintext above 4112 bytes.
        """
        packets, data = self._prepare(nonce, aad, len(plaintext))
        data[len(aad) : len(aad) + len(plaintext)] = np.frombuffer(plaintext, np.uint8)
        seal_batch(self._keys, packets, data, data, data, self._tag_bytes)
        return data[len(aad) :].tobytes()

    def open(self, nonce: bytes, aad: bytes, sealed: bytes) -> bytes:
        """Return the plaintext of ciphertext || tag.

        Raises IntegrityError if the tag does not match, MisuseError like `seal` and for less than a tag.
        """
        size = len(sealed) - self._tag_bytes
        if size < 0:
            raise MisuseError(f"sealed has {len(sealed)} bytes, less than a tag of {self._tag_bytes}")
        packets, data = self._prepare(nonce, aad, size)
        data[len(aad) :] = np.frombuffer(sealed, np.uint8)
        if not open_batch(self._keys, packets, data, data, data, self._tag_bytes)[0]:
            raise IntegrityError("the authentication tag does not match")
        return data[len(aad) : len(aad) + size].tobytes()

    def _prepare(self, nonce: bytes, aad: bytes, size: int) -> tuple[npt.NDArray[np.void], U8]:
        """Return one packet, and its AAD with room for text and tag behind it."""
        if len(nonce) != NONCE_BYTES:
            raise MisuseError(f"nonce has {len(nonce)} bytes, and takes {NONCE_BYTES}")
        packets = np.zeros(1, PACKET)
        packet = packets[0]
        packet["fixed"] = int.from_bytes(nonce[:4], "big")
        packet["counter"] = int.from_bytes(nonce[4:], "big")
        packet["aad_bytes"], packet["text_bytes"] = len(aad), size
        packet["text"] = packet["out"] = len(aad)
        packet["tag"] = len(aad) + size
        data = np.zeros(len(aad) + size + self._tag_bytes, np.uint8)
        data[: len(aad)] = np.frombuffer(aad, np.uint8)
        return packets, data
