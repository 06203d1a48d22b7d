"""IDE Sync and IDE Fail: the two messages of a stream.

Rule: their bytes are known here only. Codes and routing are sure; which bytes hold the counters and the
Stream ID is unsure, and stands in `spec` once. PCIe Base r6.x, section 2.2.8.11 and 6.33.
"""

from typing import Final

import numpy as np

from .. import spec
from .._jit import kernel
from .layout import MESSAGE_BYTES

_SYNC: Final = spec.MESSAGE_IDE_SYNC
_FAIL: Final = spec.MESSAGE_IDE_FAIL
_BY_ID: Final = spec.MESSAGE_BY_ID
_LOCAL: Final = spec.MESSAGE_LOCAL
_DESTINATION: Final = spec.IDE_MESSAGE_DESTINATION_AT
_NPR: Final = spec.IDE_SYNC_NPR_AT
_CPL: Final = spec.IDE_SYNC_CPL_AT
_STREAM_ID: Final = spec.IDE_FAIL_STREAM_ID_AT
# Fmt and Type of a message without data; the low three bits are its routing.
_MESSAGE: Final = 0x30
_ROUTING: Final = 0x07
# PCIe Base r6.x, section 2.2.8: DW 1 of a message: requester ID, tag, code.
_REQUESTER_AT: Final = 4
_CODE_AT: Final = 7
_TC_SHIFT: Final = 4
_FLIT_TC_SHIFT: Final = 5
_BYTES: Final = MESSAGE_BYTES


@kernel
def put_message(data: np.ndarray, at: int, settings: np.ndarray, code: int, first: int, second: int) -> None:
    """Write a message of a stream: 16 bytes.

    Parameters
    ----------
    data : u1[:]. Modified in place: data[at : at + 16].
    settings : SETTINGS[1].
    code : IDE Sync or IDE Fail.
    first, second : 0..255; IDE Sync: PR_Sent for NPR, for CPL. IDE Fail: the Stream ID, 0.
    """
    for i in range(_BYTES):
        data[at + i] = 0
    link = settings[0]["link"] != 0
    data[at] = _LOCAL if link else _BY_ID
    data[at + 1] = int(settings[0]["tc"]) << (_FLIT_TC_SHIFT if settings[0]["flit"] != 0 else _TC_SHIFT)
    requester = int(settings[0]["requester"])
    data[at + _REQUESTER_AT] = requester >> 8
    data[at + _REQUESTER_AT + 1] = requester & 0xFF
    data[at + _CODE_AT] = code
    if not link:
        partner = int(settings[0]["partner"])
        data[at + _DESTINATION] = partner >> 8
        data[at + _DESTINATION + 1] = partner & 0xFF
    if code == _SYNC:
        data[at + _NPR] = first
        data[at + _CPL] = second
    else:
        data[at + _STREAM_ID] = first


@kernel
def message_code(data: np.ndarray, header: int, kind: int) -> int:
    """Return the code of a message without data whose header is complete, else -1."""
    return int(data[header + _CODE_AT]) if kind & ~_ROUTING == _MESSAGE else -1


@kernel
def routed_as(kind: int, link: bool) -> bool:
    """Return whether a message of a stream is routed as it must be: local on a Link stream, else by ID."""
    return kind == (_LOCAL if link else _BY_ID)


def ide_message(settings: np.ndarray, code: int, first: int, second: int = 0) -> bytes:
    """Return the bytes of a message, as `put_message` writes them."""
    data = np.zeros(MESSAGE_BYTES, np.uint8)
    put_message(data, 0, settings, code, first, second)
    return data.tobytes()


def fail_message(settings: np.ndarray) -> bytes:
    """Return an IDE Fail for the stream, as a plain TLP."""
    return ide_message(settings, _FAIL, int(settings[0]["stream_id"]))
