"""The records that every trace reader returns, one dtype per device class.

Rule: times are picoseconds since the first record, never fall, and sizes are bytes; a reader that cannot
say so raises.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

GPU_DTYPE = np.dtype(
    [("t_ps", np.int64), ("dur_ps", np.int64), ("kind", np.uint8), ("bytes", np.int64), ("stream", np.int32)]
)
"""One piece of work on the device: recorded start and duration, kind, bytes copied, stream as recorded."""

MAX_STREAM = 2**31 - 1

GPU_H2D = 0
"""Copy from host memory to the device."""
GPU_D2H = 1
"""Copy from the device to host memory."""
GPU_WORK = 2
"""Work that stays on the device: a kernel, a copy within the device, a memset."""

NIC_DTYPE = np.dtype([("t_ps", np.int64), ("bytes", np.int64), ("direction", np.uint8)])
"""One frame: recorded time, length with the Ethernet header and without the FCS, direction."""

NIC_RX = 0
NIC_TX = 1

NVME_DTYPE = np.dtype(
    [("t_ps", np.int64), ("op", np.uint8), ("offset", np.int64), ("bytes", np.int64), ("queue", np.int16)]
)
"""One command: recorded time of issue, operation, first byte on the device, length (0 for a flush), number of
the submission queue (0 where the format does not say)."""

NVME_RUNG_DTYPE = np.dtype([*NVME_DTYPE.descr, ("bell", np.int64)])
"""The same with the time of the doorbell that submitted the command, and its number."""

MAX_QUEUE = 2**15 - 1

NVME_READ = 0
NVME_WRITE = 1
NVME_FLUSH = 2
NVME_TRIM = 3
"""Deallocate: its bytes are named, not moved."""
NVME_WRITE_ZEROES = 4
"""Its bytes are written by the device, not moved."""

TLP_DTYPE = np.dtype(
    [
        ("t_ps", np.int64),
        ("address", np.int64),
        ("bytes", np.int32),
        ("requester", np.uint16),
        ("tag", np.uint16),
        ("kind", np.uint8),
        ("down", np.uint8),
        ("at", np.uint8),
    ]
)
"""One TLP: recorded time, first byte (0 where it has no address), bytes that it carries or asks for,
requester ID, tag, kind (`tlp.kinds`), whether it goes to the device, and its address type."""

Records: TypeAlias = NDArray[np.void]
"""Structured array[n] of one of the dtypes above."""
