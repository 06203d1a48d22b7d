"""Which TLP goes into which sub-stream, and which may ride on which stream.

Rule: one table over byte 0 of a non-flit header (Fmt and Type, which hold a message's routing too); nothing
here looks at anything else. A kind is that byte in flit mode as well, as in `tlp.batch`.

| TLP | byte 0 | sub-stream | Selective | Link |
|---|---|---|---|---|
| MRd, MRdLk | 00 20, 01 21 | non-posted | yes | yes |
| MWr | 40 60 | posted | yes | yes |
| DMWr | 5B 7B | non-posted | yes | yes |
| FetchAdd, Swap, CAS | 4C 6C, 4D 6D, 4E 6E | non-posted | yes | yes |
| IORd, IOWr | 02 42 | non-posted | no | yes |
| CfgRd0, CfgWr0 | 04 44 | non-posted | no | yes |
| CfgRd1, CfgWr1 | 05 45 | non-posted | if enabled | yes |
| Msg, MsgD to the root complex, by address, by ID | 30-32 70-72 | posted | yes | yes |
| Msg, MsgD broadcast, local, gathered | 33-35 73-75 | posted | no | yes |
| Cpl, CplD, CplLk, CplDLk | 0A 4A 0B 4B | completion | yes | yes |
| all else: prefixes, reserved codes and routings | | none | no | no |

Type 1 configuration requests: a root port sends them on a Selective stream when bit 9 of its Control
register is set, another port takes them there if it supports it. Messages routed to the root complex also
need a stream whose partner is a root port (Default Stream): a choice of stream, not of kind, hence not made
here. The IDE Fail message may travel outside of any stream as well.
"""

from typing import Final

import numpy as np

from .. import spec
from .._jit import inline_kernel

_POSTED: Final = spec.SUB_STREAM_POSTED
_NON_POSTED: Final = spec.SUB_STREAM_NON_POSTED
_COMPLETION: Final = spec.SUB_STREAM_COMPLETION
# PCIe Base r6.x, section 6.33.5: sub-stream 111b says "not an IDE TLP".
NO_SUB_STREAM: Final = 7

# Bits of the table above the sub-stream (ours).
_SUB_STREAM_MASK: Final = 0x07
_SELECTIVE: Final = 0x10
_SELECTIVE_IF_ENABLED: Final = 0x20
_LINK: Final = 0x40

# PCIe Base r6.x, section 2.2.1 (Fmt and Type), section 2.4.1 (posted, non-posted, completion).
# PCIe Base r6.x, section 6.33.4, table 6-35: what a Selective stream may carry. A Link stream carries all of
# its traffic class.
_KINDS: Final = (
    ((0x00, 0x20, 0x01, 0x21), _NON_POSTED | _SELECTIVE | _LINK),
    ((0x40, 0x60), _POSTED | _SELECTIVE | _LINK),
    ((0x5B, 0x7B), _NON_POSTED | _SELECTIVE | _LINK),
    ((0x4C, 0x6C, 0x4D, 0x6D, 0x4E, 0x6E), _NON_POSTED | _SELECTIVE | _LINK),
    ((0x02, 0x42, 0x04, 0x44), _NON_POSTED | _LINK),
    ((0x05, 0x45), _NON_POSTED | _SELECTIVE_IF_ENABLED | _LINK),
    ((0x30, 0x31, 0x32, 0x70, 0x71, 0x72), _POSTED | _SELECTIVE | _LINK),
    ((0x33, 0x34, 0x35, 0x73, 0x74, 0x75), _POSTED | _LINK),
    ((0x0A, 0x4A, 0x0B, 0x4B), _COMPLETION | _SELECTIVE | _LINK),
)


def _table() -> np.ndarray:
    """Return u1[256], by kind: the sub-stream in the low bits, then who may carry it."""
    table = np.full(256, NO_SUB_STREAM, np.uint8)
    for kinds, entry in _KINDS:
        table[list(kinds)] = entry
    table.flags.writeable = False
    return table


# u1[256], by kind. Kernels take it in as a constant.
TABLE: Final = _table()


@inline_kernel
def sub_stream_of(kind: int) -> int:
    """Return the sub-stream of a TLP: 0 posted, 1 non-posted, 2 completion; 7 if no TLP has this kind.

    Parameters
    ----------
    kind : 0..255, byte 0 of a non-flit header.
    """
    return int(TABLE[kind]) & _SUB_STREAM_MASK


@inline_kernel
def may_ride(kind: int, link_stream: bool, config_enabled: bool) -> bool:
    """Return whether a stream may carry TLPs of this kind.

    Parameters
    ----------
    kind : 0..255, byte 0 of a non-flit header.
    link_stream : the stream is a Link stream, else a Selective one.
    config_enabled : the Selective stream carries type 1 configuration requests; no matter on a Link stream.
    """
    entry = int(TABLE[kind])
    if link_stream:
        return entry & _LINK != 0
    return entry & _SELECTIVE != 0 or (config_enabled and entry & _SELECTIVE_IF_ENABLED != 0)
