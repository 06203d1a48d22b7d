"""TLPs as data: one row of decoded header fields each, and one pool of bytes for what has no fixed size.

Rule: a batch holds everything that the bytes held, so that packing what was parsed gives the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..errors import MisuseError
from . import kinds

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]

# One row per TLP. Names as in the standard's headers; a field that a kind does not have is 0.
TLP: Final = np.dtype(
    [
        ("kind", "u1"),  # byte 0 of a non-flit header (tlp.kinds)
        ("tc", "u1"),
        ("attr", "u1"),  # IDO << 2 | RO << 1 | NS
        ("at", "u1"),
        ("th", "u1"),
        ("td", "u1"),
        ("ep", "u1"),
        ("ph", "u1"),
        ("first_be", "u1"),  # with TH on a read: the ST tag, low half
        ("last_be", "u1"),
        ("status", "u1"),
        ("bcm", "u1"),
        ("lower_address", "u1"),
        ("code", "u1"),  # message code
        ("local_prefixes", "u1"),  # DW in the pool, at local_at
        ("end_prefixes", "u1"),  # DW in the pool, at end_at: End-End ones without IDE's
        ("trailer_bytes", "u1"),  # PCRC and MAC as they stand: 0, 12 or 16
        ("ohc", "u1"),  # flit mode: OHC[4:0], which words stand behind the header
        ("ts", "u1"),  # flit mode: TS[2:0]
        ("length", "u2"),  # DW, 1..1024; as it stands where there is no payload to count (Cpl, Msg)
        ("requester", "u2"),
        ("completer", "u2"),
        ("tag", "u2"),
        ("byte_count", "u2"),  # 1..4096
        ("destination", "u2"),  # configuration requests: bus, device, function
        ("register", "u2"),  # configuration requests: DW of the configuration space, 0..1023
        ("address", "u8"),
        ("dw2", "u4"),  # messages: DW 2 and 3 as they stand
        ("dw3", "u4"),
        ("ecrc", "u4"),  # where TD says so, little-endian
        ("ide", "u4"),  # the IDE prefix, or OHC-C, as a big-endian word; 0: none
        ("ohc_a", "u4"),
        ("ohc_b", "u4"),
        ("local_at", "i8"),
        ("end_at", "i8"),
        ("ohc_e_at", "i8"),
        ("data_at", "i8"),
        ("trailer_at", "i8"),
        ("data_bytes", "u4"),
    ],
    align=True,
)
# Fields that place something in the pool, and how many bytes of it.
_PLACES: Final = ("local_at", "end_at", "ohc_e_at", "data_at", "trailer_at")


@dataclass(eq=False)
class Batch:
    """TLPs.

    Attributes
    ----------
    tlps : TLP[n].
    pool : u1[:], payloads, prefixes, trailers; the wire that was parsed, or what a builder made.
    flit : the TLPs are of a link in flit mode.
    """

    tlps: npt.NDArray[np.void]
    pool: U8
    flit: bool = False

    def __len__(self) -> int:
        return len(self.tlps)

    def __getitem__(self, index: Any) -> "Batch":
        """Return the TLPs of a slice, an index array or a mask; the pool is shared."""
        return Batch(np.atleast_1d(self.tlps[index]), self.pool, self.flit)

    def __eq__(self, other: object) -> bool:
        """Return whether both hold the same TLPs, wherever their pools have the bytes."""
        if not isinstance(other, Batch):
            return NotImplemented
        if len(self) != len(other) or self.flit != other.flit:
            return False
        fields = [f for f in TLP.names or () if f not in _PLACES]
        return all(np.array_equal(self.tlps[f], other.tlps[f]) for f in fields) and all(
            self.variable(i) == other.variable(i) for i in range(len(self))
        )

    __hash__ = None  # type: ignore[assignment]

    def payload(self, i: int) -> bytes:
        """Return the payload of TLP i."""
        return self._bytes(i, "data_at", int(self.tlps[i]["data_bytes"]))

    def prefixes(self, i: int) -> bytes:
        """Return the local and then the End-End prefixes of TLP i, without IDE's."""
        local = self._bytes(i, "local_at", 4 * int(self.tlps[i]["local_prefixes"]))
        return local + self._bytes(i, "end_at", 4 * int(self.tlps[i]["end_prefixes"]))

    def trailer(self, i: int) -> bytes:
        """Return PCRC and MAC of TLP i, as they stand."""
        return self._bytes(i, "trailer_at", int(self.tlps[i]["trailer_bytes"]))

    def variable(self, i: int) -> tuple[bytes, ...]:
        """Return what of TLP i stands in the pool."""
        ohc_e = self._bytes(i, "ohc_e_at", 4 * (0, 1, 2, 4)[int(self.tlps[i]["ohc"]) >> 3 & 3])
        return self.prefixes(i), ohc_e, self.payload(i), self.trailer(i)

    def _bytes(self, i: int, place: str, count: int) -> bytes:
        at = int(self.tlps[i][place])
        return self.pool[at : at + count].tobytes() if count else b""

    def describe(self, i: int) -> str:
        """Return TLP i in one line."""
        tlp = self.tlps[i]
        kind = int(tlp["kind"])
        family = kinds.TRAITS[kind] & kinds.FAMILY_MASK
        words = [kinds.name(kind)]
        if family == kinds.COMPLETION:
            status = {0: "SC", 1: "UR", 2: "RRS", 4: "CA"}.get(int(tlp["status"]), str(tlp["status"]))
            words.append(f"{status} {int(tlp['data_bytes'])} of {int(tlp['byte_count'])} B")
            words.append(
                f"to {_id(tlp['requester'])} tag {int(tlp['tag']):#05x} from {_id(tlp['completer'])}"
            )
        else:
            if family != kinds.MESSAGE:
                words.append(f"{4 * int(tlp['length'])} B")
            if family == kinds.CONFIG:
                words.append(f"{_id(tlp['destination'])} register {4 * int(tlp['register']):#05x}")
            elif family == kinds.MESSAGE:
                words.append(f"code {int(tlp['code']):#04x}")
            else:
                words.append(f"at {int(tlp['address']):#x}")
            words.append(f"from {_id(tlp['requester'])} tag {int(tlp['tag']):#05x}")
            if family in (kinds.MEMORY, kinds.IO, kinds.CONFIG):
                words.append(f"BE {int(tlp['first_be']):x}/{int(tlp['last_be']):x}")
        words += [f"TC{int(tlp['tc'])}"] if tlp["tc"] else []
        words += ["poisoned"] if tlp["ep"] else []
        words += [f"IDE {int(tlp['ide']):08x}"] if tlp["ide"] else []
        return " ".join(words)


def concat(batches: Sequence[Batch]) -> Batch:
    """Return one batch of all TLPs, in order.

    Raises MisuseError for no batch at all, and where flit mode and non-flit mode would mix.
    """
    if len({batch.flit for batch in batches}) != 1:
        raise MisuseError("batches of flit mode and of non-flit mode cannot be joined, nor none at all")
    parts = []
    start = 0
    for batch in batches:
        tlps = batch.tlps.copy()
        for place in _PLACES:
            tlps[place] += start
        start += len(batch.pool)
        parts.append(tlps)
    return Batch(np.concatenate(parts), np.concatenate([b.pool for b in batches]), batches[0].flit)


def as_bytes(data: U8 | bytes | memoryview) -> U8:
    """Return some bytes as kernels take them: u1[:], contiguous and writeable; the array itself if it is so.

    Raises MisuseError for an array of another type or shape.
    """
    try:
        array = data if isinstance(data, np.ndarray) else np.frombuffer(data, np.uint8)
    except (TypeError, ValueError, BufferError) as error:
        raise MisuseError(f"expected bytes or an array u1[:]: {error}") from None
    if array.dtype != np.uint8 or array.ndim != 1:
        raise MisuseError(f"expected bytes or an array u1[:], got {array.dtype}[{array.ndim} axes]")
    array = np.ascontiguousarray(array)
    # Kernels are compiled for one type of array, and a read-only one is another.
    return array if array.flags.writeable else array.copy()


def as_offsets(offsets: I64, room: int) -> I64:
    """Return offsets as kernels take them: i8[n + 1].

    Raises MisuseError where they are no integers, or do not ascend from 0 to `room` at most.
    """
    try:
        places = np.asarray(offsets)
    except ValueError:
        raise MisuseError(
            "offsets are one row of integers: where each starts, and where the last ends"
        ) from None
    if places.ndim != 1 or len(places) < 1 or places.dtype.kind not in "iu":
        raise MisuseError("offsets are one row of integers: where each starts, and where the last ends")
    places = np.ascontiguousarray(places, np.int64)
    if places[0] < 0 or places[-1] > room or (places[1:] < places[:-1]).any():
        raise MisuseError("offsets do not ascend from 0 to the end of the data")
    return places if places.flags.writeable else places.copy()


def _id(value: Any) -> str:
    number = int(value)
    return f"{number >> 8:02x}:{number >> 3 & 31:02x}.{number & 7}"
