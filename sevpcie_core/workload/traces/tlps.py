"""TLPs as records, whatever format they stand in: the kernel that decodes a header, and whose TLP it is.

Rule: a TLP is what the codec says (`tlp.codec`, `tlp.rules`), outside flit mode, without framing, sequence
number and LCRC. Header and prefixes must be there, the rest may be cut off anywhere; what is more than its
header speaks of is malformed. Two rules that receivers do not keep either are not kept here: reserved bits
may be set, and an address below 4 GiB may take the form with four DW, as designs in FPGAs often have it.

Which way a TLP went is said by the format, or follows from its IDs: requests with a requester ID of the
device, and completions of requests with another one, come from it. `--local` says which IDs are the device's;
without it all are but those of bus 0, where root complexes and root ports have theirs.

Bytes of a request are those from the first enabled to the last one; of completions, those of the request that
they carry.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..._jit import inline_kernel, kernel
from ...errors import ConfigError
from ...tlp.batch import TLP, as_bytes
from ...tlp.codec import parse_header
from ...tlp.kinds import COMPLETION, CONFIG, DATA, FAMILY_MASK, IO, MEMORY, MESSAGE, TAGGED, TRAITS
from ...tlp.rules import TEXTS, Rule, check, check_prefix
from . import packets
from .packets import PACKET
from .records import TLP_DTYPE

# Requester IDs whose masked bits are `value` are the device's; or, `other`, all but those.
_BUS: Final = 0xFF00
_DEVICE: Final = 0xFFF8
_FUNCTION: Final = 0xFFFF

# What a format says of the way of a TLP: what comes in to the device goes down.
UNSAID: Final = packets.UNSAID
DOWN: Final = packets.INBOUND
UP: Final = packets.OUTBOUND

_KEPT: Final = int(Rule.KEPT)
_TRUNCATED: Final = int(Rule.TRUNCATED)
_TOO_LONG: Final = int(Rule.TOO_LONG)
_RESERVED: Final = int(Rule.RESERVED)
_FORM_3DW: Final = int(Rule.FORM_3DW)
# No rule of the standard: addresses are counted in 63 bits.
_ADDRESS: Final = 1000
_NO_LIMIT: Final = 4096
_MOST: Final = np.uint64(1) << np.uint64(63)

_BDF: Final = re.compile(
    r"(?:[0-9a-f]{4}:)?([0-9a-f]{1,2}):(?:([0-9a-f]{1,2})(?:\.([0-7]))?)?", re.IGNORECASE | re.ASCII
)
EXPECTED_LOCAL: Final = "BUS:DEVICE.FUNCTION as lspci prints it, such as 41:00.0, or BUS: for all of a bus"


def parse_local(text: str) -> NDArray[np.int64]:
    """Read BUS:DEVICE.FUNCTION, BUS:DEVICE or BUS:, hexadecimal as lspci has it, behind a domain or not.

    Returns: int64[3]: mask, value, and 0: the device's requester IDs are those.
    Raises: ConfigError: anything else.
    """
    match = _BDF.fullmatch(text.strip())
    if match is None or int(match[2] or "0", 16) > 31:
        raise ConfigError(f"{text!r}; expected {EXPECTED_LOCAL}")
    bus, device, function = (int(part or "0", 16) for part in match.groups())
    mask = _FUNCTION if match[3] else _DEVICE if match[2] else _BUS
    return np.array([mask, bus << 8 | device << 3 | function, 0], np.int64)


# All IDs but those of bus 0.
_ANY: Final = np.array([_BUS, 0, 1], np.int64)


@dataclass
class Side:
    """Which requester IDs are the device's, and what was seen of them.

    Attributes
    ----------
    ids : int64[3], see `parse_local`.
    seen : int64[2], TLPs whose way had to be found by their IDs; those of them that are of the device.
    scratch : TLP[1], and raw, its bytes, for the kernel.
    """

    local: str | None = None
    ids: NDArray[np.int64] = field(init=False)
    seen: NDArray[np.int64] = field(init=False)
    scratch: NDArray[np.void] = field(init=False)
    raw: NDArray[np.uint8] = field(init=False)

    def __post_init__(self) -> None:
        self.ids = _ANY if self.local is None else parse_local(self.local)
        self.seen = np.zeros(2, np.int64)
        self.scratch = np.zeros(1, TLP)
        self.raw = self.scratch.view(np.uint8)

    def check(self, path: Path) -> None:
        """Raise ConfigError if an ID that somebody gave says nothing of any TLP."""
        if self.local is None:
            return
        if not self.seen[0]:
            raise ConfigError(
                f"local: {self.local!r}: {path} says of each TLP which way it went; expected no such option"
            )
        if not self.seen[1]:
            raise ConfigError(
                f"local: {self.local!r} is in no TLP of {path}; expected the ID of the device in it"
            )


@inline_kernel
def _first_enabled(enables):
    """Return the place of the lowest of four byte enables, 0 where there is none."""
    if enables == 0 or enables & 1:
        return np.int64(0)
    return np.int64(1) if enables & 2 else np.int64(2) if enables & 4 else np.int64(3)


@inline_kernel
def _behind_enabled(enables):
    """Return the place behind the highest of four byte enables, 0 where there is none."""
    if enables & 8:
        return np.int64(4)
    return np.int64(3) if enables & 4 else np.int64(2) if enables & 2 else np.int64(enables & 1)


@inline_kernel
def _is_local(requester, ids):
    return ((requester & ids[0]) == ids[1]) != (ids[2] != 0)


@inline_kernel
def read(data, at, stop, size, way, ids, seen, scratch, raw, out, i):
    """Decode the TLP at data[at:stop] into record i; return the broken rule, 0 for none.

    Modified in place: seen, scratch, raw, and out[i] but for its time.

    Parameters
    ----------
    size : bytes that the TLP has in its format, of which data may hold the first ones only.
    way : UNSAID, UP or DOWN. ids, seen, scratch, raw : those of `Side`.
    out : TLP_DTYPE[n].
    """
    for j in range(raw.size):
        raw[j] = 0
    broken, begin, payload, digest, trailer = parse_header(data, at, stop, False, scratch, 0)
    if broken != _KEPT and broken != _RESERVED:
        return np.int64(broken)
    if size > begin - at + payload + digest + trailer:
        return np.int64(_TOO_LONG)
    broken = check(scratch, 0, _NO_LIMIT)
    if broken != _KEPT and broken != _FORM_3DW:
        return np.int64(broken)
    broken = check_prefix(scratch, 0)
    if broken != _KEPT:
        return np.int64(broken)
    tlp = scratch[0]
    traits = TRAITS[tlp["kind"]]
    family = traits & FAMILY_MASK
    length = 4 * np.int64(tlp["length"])
    first = np.int64(0)
    moved = length
    if family == COMPLETION:
        count = np.int64(tlp["byte_count"])
        moved = min(length - (np.int64(tlp["lower_address"]) & 3), count)
        if traits & DATA == 0:
            moved = np.int64(0)
    elif family == MESSAGE:
        if traits & DATA == 0:
            moved = np.int64(0)
    elif family in (MEMORY, IO, CONFIG) and not (traits & TAGGED != 0 and tlp["th"] != 0):
        enables = np.int64(tlp["first_be"])
        ends = enables if length == 4 else np.int64(tlp["last_be"])
        first = _first_enabled(enables)
        moved = max(length - 4 + _behind_enabled(ends) - first, np.int64(0))
    if tlp["address"] >= _MOST - np.uint64(_NO_LIMIT):
        return np.int64(_ADDRESS)
    requester = np.int64(tlp["requester"])
    down = way == DOWN
    if way != UP and way != DOWN:
        seen[0] += 1
        local = _is_local(requester, ids)
        seen[1] += local
        down = local == (family == COMPLETION)
    out[i]["address"] = np.int64(tlp["address"]) + first
    out[i]["bytes"] = moved
    out[i]["requester"] = requester
    out[i]["tag"] = tlp["tag"]
    out[i]["kind"] = tlp["kind"]
    out[i]["down"] = down
    out[i]["at"] = tlp["at"]
    return np.int64(_KEPT)


@kernel
def read_packets(data, rows, begin, ids, seen, scratch, raw, out):
    """Decode PACKET[n] from place `begin` on, until one is malformed; return (how many, the broken rule).

    Modified in place: out, from its start; and as `read`.
    """
    for i in range(begin, rows.size):
        at = rows[i]["start"]
        stop = at + rows[i]["captured"]
        size = np.int64(rows[i]["original"])
        broken = read(data, at, stop, size, rows[i]["way"], ids, seen, scratch, raw, out, i - begin)
        if broken != _KEPT:
            return np.int64(i - begin), broken
        out[i - begin]["t_ps"] = rows[i]["t_ps"]
    return np.int64(rows.size - begin), np.int64(_KEPT)


@kernel
def read_lines(data, width, sizes, ways, ids, seen, scratch, raw, out, good):
    """Decode the TLPs of lines whose first `width` bytes lie in rows of data, uint8[n * width].

    Modified in place: good, bool[n]: false where a TLP is malformed, or longer in front than `width`; out;
    and as `read`.

    sizes : int64[n], bytes of each. ways : int64[n].
    """
    for i in range(sizes.size):
        if good[i]:
            at = i * width
            stop = at + min(sizes[i], width)
            broken = read(data, at, stop, sizes[i], ways[i], ids, seen, scratch, raw, out, i)
            good[i] = broken == _KEPT


def read_one(content: bytes, way: int, side: Side) -> tuple[NDArray[np.void], str]:
    """Decode one TLP: TLP_DTYPE[1] without a time, and what is wrong with it, empty if nothing is."""
    row = np.zeros(1, PACKET)
    row["captured"] = row["original"] = len(content)
    row["way"] = way
    out = np.zeros(1, TLP_DTYPE)
    _, broken = read_packets(as_bytes(content), row, 0, side.ids, side.seen, side.scratch, side.raw, out)
    return out, problem(int(broken), len(content)) if broken else ""


def problem(broken: int, size: int) -> str:
    """Return what is wrong with a TLP of `size` bytes, by the rule that it breaks: field and reason."""
    if broken == _ADDRESS:
        return "Address: beyond 63 bits; expected less, as this model counts"
    if broken in (_TRUNCATED, _TOO_LONG):
        return f"Length: {TEXTS[Rule(broken)][1]} ({size} bytes); expected its header at least, and no more"
    name, text = TEXTS[Rule(broken)]
    return f"{name}: {text}"
