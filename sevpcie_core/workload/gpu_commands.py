"""How work is handed to a GPU: what host and device move for one command, and the numbers of the device.

Rule: commands and the ring entry that names them lie in host memory. The host moves the ring's pointer and
rings the doorbell, a posted write each; the device reads the entry, then the commands, and its front end has
the work ready. What else a kind of work puts on the link stands with it (`gpu.py`, `gpu_raw.py`).

How much that is was counted on a GPU's own link (data/measured/README.md, `gpu_counters_h100.csv`).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from .._jit import kernel
from ..spec import BUFFER_MMIO, BUFFER_QUEUE
from .buffers import BAR_ADDRESS, Allocator
from .program import BEGIN, DELAY, EARLY1, READ_UP, WRITE_DOWN, WRITE_UP, put

DOORBELL: Final = BAR_ADDRESS + 0x90
# 28 B on the wire, as measured: as much as 4 B in registers above 4 GiB, where the header has a DW more.
DOORBELL_BYTES: Final = 8
RING_ENTRIES: Final = 1024
SEMAPHORES: Final = 1024
# A posted write of one DW, as a fence of threads of an H100 is (data/measured/README.md). On an H200 it is
# none, but a kernel has the same two.
FENCE_BYTES: Final = 4

# Columns of `Engine.numbers`.
H2D_SETUP: Final = 0
FRONT_END: Final = 1
LEAD: Final = 2
DOORBELLS: Final = 3
ENTRY: Final = 4
COPY_COMMANDS: Final = 5
LAUNCH_COMMANDS: Final = 6
SEMAPHORE: Final = 7
FENCES: Final = 8
D2H_SETUP: Final = 9
D2H_PAUSE: Final = 10
SMALL: Final = 11
SMALL_SETUP: Final = 12

# Columns of `Rings.places`: addresses, the distances of entries and of commands.
_ENTRIES: Final = 0
_ENTRY_STRIDE: Final = 1
_COMMANDS: Final = 2
_COMMAND_STRIDE: Final = 3
_SEMAPHORES: Final = 4
_FENCE: Final = 5
FIRST_BUFFER: Final = 6
BUFFER_STRIDE: Final = 7
BUFFERS: Final = 8


@dataclass(frozen=True)
class Engine:
    """The numbers of a GPU that its programs are made of.

    Attributes
    ----------
    h2d_setup_ps, d2h_setup_ps : from a fetched copy command to the first request of the copy engine.
    small_bytes, small_setup_ps : most bytes of copies to the device that go another way, and its set-up.
    d2h_pause_ps : from the data of a copy to the host to the next set-up at the earliest, back to back.
    front_end_ps : from fetched commands to the start of the work on the device.
    launch_lead_ps : how long before its recorded start the command of an event is rung in by the host.
    doorbells : posted writes of the host per piece of work, the last of which is the doorbell.
    entry_bytes : read of the ring that tells where the commands are.
    copy_command_bytes, launch_command_bytes : commands of a copy, of a kernel without arguments.
    semaphore_bytes : written to host memory when a copy or kernel is complete.
    launch_fences : writes of FENCE_BYTES behind a kernel, before its semaphore.
    """

    h2d_setup_ps: int
    d2h_setup_ps: int
    small_bytes: int
    small_setup_ps: int
    d2h_pause_ps: int
    front_end_ps: int
    launch_lead_ps: int
    doorbells: int
    entry_bytes: int
    copy_command_bytes: int
    launch_command_bytes: int
    semaphore_bytes: int
    launch_fences: int

    @property
    def numbers(self) -> np.ndarray:
        """Return them as int64[13], in the order of the columns above."""
        return np.array(
            [
                self.h2d_setup_ps,
                self.front_end_ps,
                self.launch_lead_ps,
                self.doorbells,
                self.entry_bytes,
                self.copy_command_bytes,
                self.launch_command_bytes,
                self.semaphore_bytes,
                self.launch_fences,
                self.d2h_setup_ps,
                self.d2h_pause_ps,
                self.small_bytes,
                self.small_setup_ps,
            ]
        )

    @property
    def steps(self) -> int:
        """Return how many steps hand over one piece of work: `put_commands`."""
        return self.doorbells + 3

    def places(self, memory: Allocator, buffers: int, largest: int, launches: bool = True) -> np.ndarray:
        """Lay out rings, semaphores and host buffers; return int64[9], the columns above.

        buffers, largest : how many data buffers, and bytes of each. launches : whether there are any.
        """
        # Entries do not cross what requests are cut at; commands follow each other as they are.
        entry = 1 << (self.entry_bytes - 1).bit_length()
        commands = max(self.copy_command_bytes, self.launch_command_bytes if launches else 0)
        return np.array(
            [
                memory.queue(RING_ENTRIES * entry),
                entry,
                memory.queue(RING_ENTRIES * commands),
                commands,
                memory.queue(SEMAPHORES * self.semaphore_bytes),
                memory.queue(FENCE_BYTES),
                *memory.data(buffers, largest),
                buffers,
            ]
        )


@kernel
def put_commands(
    out: np.ndarray,
    at: int,
    places: np.ndarray,
    numbers: np.ndarray,
    number: int,
    launch: bool,
    request: int,
    stat: int,
    begin: bool,
    after: int,
) -> int:
    """Write the steps that hand over one piece of work; return the place of the next.

    places, numbers : of `Engine`. number : of the piece of work. launch : a kernel, else a copy.
    begin : whether the request begins with the first of them. after : what that one waits for.
    Modified in place: out.
    """
    bells = numbers[DOORBELLS]
    for k in range(bells):
        flags = EARLY1 if k else (BEGIN if begin else 0)
        place = DOORBELL - (bells - 1 - k) * DOORBELL_BYTES
        back = 1 if k else after
        at = put(out, at, WRITE_DOWN, BUFFER_MMIO, place, DOORBELL_BYTES, request, stat, flags, back, 0)
    slot = number % RING_ENTRIES
    entry = places[_ENTRIES] + slot * places[_ENTRY_STRIDE]
    at = put(out, at, READ_UP, BUFFER_QUEUE, entry, numbers[ENTRY], request, stat, 0, 1, 0)
    commands = places[_COMMANDS] + slot * places[_COMMAND_STRIDE]
    size = numbers[LAUNCH_COMMANDS] if launch else numbers[COPY_COMMANDS]
    at = put(out, at, READ_UP, BUFFER_QUEUE, commands, size, request, stat, 0, 1, 0)
    return put(out, at, DELAY, 0, 0, 0, request, stat, 0, 1, numbers[FRONT_END])


@kernel
def put_semaphore(
    out: np.ndarray,
    at: int,
    places: np.ndarray,
    numbers: np.ndarray,
    number: int,
    request: int,
    stat: int,
    flags: int,
) -> int:
    """Write the release of a piece of work's semaphore, behind the step before; return the next place.

    Parameters as above; flags : of the step.  Modified in place: out.
    """
    done = places[_SEMAPHORES] + number % SEMAPHORES * numbers[SEMAPHORE]
    return put(out, at, WRITE_UP, BUFFER_QUEUE, done, numbers[SEMAPHORE], request, stat, flags, 1, 0)


@kernel
def put_fences(out: np.ndarray, at: int, places: np.ndarray, numbers: np.ndarray, stat: int) -> int:
    """Write the fences behind a kernel, the step before; return the next place.  Modified in place: out."""
    for k in range(numbers[FENCES]):
        flags = EARLY1 if k else 0
        at = put(out, at, WRITE_UP, BUFFER_QUEUE, places[_FENCE], FENCE_BYTES, -1, stat, flags, 1, 0)
    return at
