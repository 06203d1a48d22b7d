"""The layout of a packet: one AES-GCM invocation.

Rule: it begins with the nonce backwards, counter before fixed field, so that a vector kernel loads it whole.
"""

from typing import Final

import numpy as np

# One row per invocation. Offsets and sizes are bytes in the arrays of the call.
PACKET: Final = np.dtype(
    [
        ("counter", "<u8"),  # nonce = BE32(fixed) || BE64(counter)
        ("fixed", "<u4"),
        ("key", "u4"),  # row of the key table
        ("aad", "i8"),
        ("text", "i8"),
        ("out", "i8"),
        ("tag", "i8"),  # in `out` when sealing, in `text` when opening
        ("aad_bytes", "i4"),
        ("text_bytes", "i4"),
    ]
)

# Where each field starts, for kernels that read by byte offset.
OFFSET: Final = {name: PACKET.fields[name][1] for name in PACKET.names or ()} if PACKET.fields else {}
