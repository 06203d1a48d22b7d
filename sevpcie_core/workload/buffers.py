"""Where a program's buffers lie in host memory, and the region map that they make.

Rule: every buffer is one region; the policy decides per region. Addresses are bytes.
"""

from dataclasses import dataclass, field

import numpy as np

from ..spec import BUFFER_DATA, BUFFER_MMIO, BUFFER_MSI, BUFFER_QUEUE, REGION

PAGE = 4096
# A device's registers lie below 4 GiB, host memory above: their requests have 3 DW and 4 DW headers.
BAR_ADDRESS = 0xE000_0000
BAR_BYTES = 1 << 20
# The x86 interrupt address window (Intel SDM vol. 3A, section 11.11.1; AMD APM vol. 2, section 16.11).
MSI_ADDRESS = 0xFEE0_0000
MSI_WINDOW = 1 << 20
HOST_MEMORY = 1 << 32


@dataclass
class Allocator:
    """Hand out page-aligned buffers one after the other."""

    top: int = HOST_MEMORY
    rows: list[tuple[int, int, int, bool]] = field(default_factory=list)

    def _take(self, count: int, size: int, buffer: int) -> tuple[int, int]:
        stride = -(-size // PAGE) * PAGE
        base = self.top
        self.rows.extend((base + i * stride, base + (i + 1) * stride, buffer, False) for i in range(count))
        self.top = base + count * stride
        return base, stride

    def queue(self, size: int) -> int:
        """Return the address of a queue of `size` bytes."""
        return self._take(1, size, BUFFER_QUEUE)[0]

    def data(self, count: int, size: int) -> tuple[int, int]:
        """Return (address of the first, distance) of `count` data buffers of `size` bytes each."""
        return self._take(count, size, BUFFER_DATA)

    def regions(self) -> np.ndarray:
        """Return spec.REGION[n] of all buffers, registers and interrupts, ascending and undecided."""
        rows = [
            (BAR_ADDRESS, BAR_ADDRESS + BAR_BYTES, BUFFER_MMIO, False),
            (MSI_ADDRESS, MSI_ADDRESS + MSI_WINDOW, BUFFER_MSI, False),
            *self.rows,
        ]
        return np.array(rows, REGION)
