"""Which TLPs of a batch are sealed, and why others are not.

Rule: what is bound to a stream never goes out in the clear: it is sealed, dropped or refused. Only the limit
of a key's counter is left to `plan_seal`.
"""

from typing import Final

import numpy as np

from .. import spec
from .._jit import kernel
from .eligible import may_ride, sub_stream_of
from .layout import ASK_IF_ELIGIBLE, ASK_PROTECT, ASK_TEE, MAX_CLEAR_BYTES, SealCode
from .messages import message_code

_DW: Final = spec.DW_BYTES
_PREFIX_BYTES: Final = spec.IDE_PREFIX_BYTES
_SYNC: Final = spec.MESSAGE_IDE_SYNC
_FAIL: Final = spec.MESSAGE_IDE_FAIL

_PLAIN: Final = int(SealCode.PLAIN)
_SEALED: Final = int(SealCode.SEALED)
_DROPPED_INSECURE: Final = int(SealCode.DROPPED_INSECURE)
_REFUSED_TYPE: Final = int(SealCode.REFUSED_TYPE)
_REFUSED_TC: Final = int(SealCode.REFUSED_TC)
_REFUSED_ECRC: Final = int(SealCode.REFUSED_ECRC)
_REFUSED_PREFIX: Final = int(SealCode.REFUSED_PREFIX)
_REFUSED_TEE: Final = int(SealCode.REFUSED_TEE)


@kernel
def classify(tlps, data, offsets, asks, settings, secure, status, following):
    """Decide what becomes of each TLP but for the counter limit, and which follows it in its sub-stream.

    Parameters
    ----------
    tlps, data, offsets : TLP[n], u1[:], i8[n + 1]: a batch and its bytes.
    asks : u1[n], ASK bits.
    settings : SETTINGS[1]. secure : the stream is SECURE.
    status : SEALED[n]. Modified in place: code, sub_stream, t.
    following : i8[n], next TLP to be sealed in the same sub-stream, or -1. Modified in place.
    """
    nearest = (-1, -1, -1)
    link = settings[0]["link"] != 0
    config_requests = settings[0]["config_requests"] != 0
    for j in range(len(tlps)):
        i = len(tlps) - 1 - j
        ask = int(asks[i])
        kind = int(tlps[i]["kind"])
        prefixes = _DW * (int(tlps[i]["local_prefixes"]) + int(tlps[i]["end_prefixes"]))
        clear = offsets[i + 1] - offsets[i] - np.int64(tlps[i]["data_bytes"]) + _PREFIX_BYTES
        clear -= 0 if link else _DW * int(tlps[i]["local_prefixes"])
        tee = 1 if ask & ASK_TEE != 0 else 0
        message = message_code(data, offsets[i] + prefixes, kind)
        lenient = ask & ASK_IF_ELIGIBLE != 0
        code = _SEALED
        if ask & ASK_PROTECT == 0:
            code = _PLAIN
        elif message == _SYNC:
            # The stream makes its own.
            code = _REFUSED_TYPE
        elif not may_ride(kind, link, config_requests):
            code = _PLAIN if lenient else _REFUSED_TYPE
        elif tlps[i]["tc"] != settings[0]["tc"]:
            code = _PLAIN if lenient else _REFUSED_TC
        elif not secure:
            code = _DROPPED_INSECURE
        elif tlps[i]["td"] != 0:
            code = _REFUSED_ECRC
        elif tlps[i]["ide"] != 0 or clear > MAX_CLEAR_BYTES:
            code = _REFUSED_PREFIX
        elif settings[0]["tee_limited"] != 0 and tee == 0 and message != _FAIL:
            code = _REFUSED_TEE
        sub = sub_stream_of(kind)
        status[i]["code"] = code
        status[i]["sub_stream"] = sub
        status[i]["t"] = tee
        if code == _SEALED:
            a, b, c = nearest
            if sub == 0:
                following[i] = a
                nearest = (i, b, c)
            elif sub == 1:
                following[i] = b
                nearest = (a, i, c)
            else:
                following[i] = c
                nearest = (a, b, i)
