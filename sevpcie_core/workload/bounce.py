"""Bounce buffers: a program whose protected data pass through memory that the device may reach.

Rule: the link and the device stay as they are; what is added is time of a core, before a request for what the
device reads, after its end for what the device writes. Every protected byte is staged once. Queues, doorbells
and interrupts lie in shared memory from the start and are never staged.

A transfer is staged by one core, which copies it, or seals or opens it on the way. Its staging and its DMA do
not overlap; docs/validation.md says how far measurements tell.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import numpy as np

from ..errors import MisuseError
from ..spec import BUFFER_DATA
from .program import BEGIN, DELAY, EARLY1, EARLY2, END, READ_UP, STAGE, STEP, WRITE_UP, Chunk, Program

# What a device may stage at once is numbered in the int16 `server` of a step.
_MAX_SERVERS: Final = 1 << 15
# A step becomes three at most (a pause, its staging, itself or itself and the staging behind it).
_GROWTH: Final = 3
_PS_PER_US: Final = 1_000_000
_BYTES: Final = np.dtype(f"V{STEP.itemsize}")

_Count = TypeVar("_Count", int, np.ndarray)
# Which steps carry data that must be staged: steps -> bool[n].
Marker = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Staging:
    """What the cores of a host do for one kind of device.

    cores : how many stage side by side, one transfer each.
    setup_ps : per transfer; mb_per_s : 10^6 bytes per second of one core, from there on.
    """

    cores: int
    setup_ps: int
    mb_per_s: int

    def time_ps(self, size: _Count, transfers: _Count) -> _Count:
        """Return how long one core takes for `size` bytes in so many transfers, rounded down to a ps."""
        time: _Count = transfers * self.setup_ps + size * _PS_PER_US // self.mb_per_s
        return time


def staged(program: Program, staging: Staging, marker: Marker) -> Program:
    """Return a program whose marked data are staged by cores of the host.

    A request that the device reads data for begins with their staging: the step that began it waits for that.
    A request that the device writes data for ends with their staging, and what waited for its end (the next
    request of a closed loop, the next event of a stream) waits for that. What waited for an early moment
    still waits for that. Staging that takes no time adds no step.

    Requests that begin, or end, in adjacent steps (a burst behind one doorbell, a batch behind one
    write-back) are staged by one core in turn; else each takes the next core.

    Parameters
    ----------
    marker : which steps a policy protects; only data that the device reads or writes count.

    Raises
    ------
    MisuseError : more servers than a step can name; in `chunks`, data outside of a request, data read for a
    request that begins in another chunk, or data written for one that has ended or never ends.
    """
    if program.servers + staging.cores > _MAX_SERVERS:
        raise MisuseError(f"{program.servers} servers and {staging.cores} cores; at most {_MAX_SERVERS} fit")

    def chunks() -> Iterator[Chunk]:
        stager = _Stager(program, staging, marker)
        for chunk in program.chunks():
            yield Chunk(stager.stage(chunk.steps), chunk.horizon_ps)
        stager.close()

    return replace(
        program,
        chunks=chunks,
        reach=_reach(program),
        servers=program.servers + staging.cores,
        cores=staging.cores,
    )


def _reach(program: Program) -> int:
    """Return how far back steps wait at most, once there is staging between them."""
    return _GROWTH * (program.reach + 1)


@dataclass(frozen=True)
class _Pieces:
    """Data to stage, by request: request, bytes and transfers, all int64[k], requests ascending."""

    request: np.ndarray
    size: np.ndarray
    transfers: np.ndarray

    @classmethod
    def of(cls, request: np.ndarray, size: np.ndarray, transfers: np.ndarray) -> "_Pieces":
        """Return sums by request."""
        names, place = np.unique(request, return_inverse=True)
        sums = np.zeros((2, len(names)), np.int64)
        np.add.at(sums[0], place, size)
        np.add.at(sums[1], place, transfers)
        return cls(names, sums[0], sums[1])

    def find(self, request: np.ndarray) -> np.ndarray:
        """Return for each of these requests its place here, -1 where it is not."""
        if not len(self.request):
            return np.full(len(request), -1)
        place = np.minimum(np.searchsorted(self.request, request), len(self.request) - 1)
        return np.where(self.request[place] == request, place, -1)


class _Stager:
    """Chunks of one program, one after the other, with what crosses from one to the next."""

    def __init__(self, program: Program, staging: Staging, marker: Marker) -> None:
        self._staging = staging
        self._marker = marker
        self._first_server = program.servers
        # Where the last steps of the program went, and what stands for their end: steps of the new program.
        self._reach = program.reach
        self._new_reach = _reach(program)
        self._places = np.empty((2, 0), np.int64)
        self._made = 0
        # Core that is next, and data written for requests that are open.
        self._turn = 0
        nothing = np.empty(0, np.int64)
        self._open = _Pieces(nothing, nothing, nothing)

    def stage(self, steps: np.ndarray) -> np.ndarray:
        """Return STEP[m]: a chunk with its staging."""
        n = len(steps)
        flags = steps["flags"]
        moves = self._marker(steps) & (steps["buffer"] == BUFFER_DATA)
        before = self._before(steps, np.flatnonzero(moves & (steps["kind"] == READ_UP)))
        after = self._after(steps, np.flatnonzero(moves & (steps["kind"] == WRITE_UP)))
        if not (before.any() or after.any()):
            return self._keep(steps)

        # A pause before a transfer that begins a request is no part of the latency: it comes before staging.
        depends = (steps["after"] > 0) | (steps["after2"] > 0)
        pauses = (before > 0) & (steps["kind"] != DELAY) & (steps["delay_ps"] > 0) & depends
        first = np.zeros(n, np.int64)
        first[1:] = np.cumsum(1 + (before > 0) + pauses + (after > 0))[:-1]
        place = first + pauses + (before > 0)
        end = place + (after > 0)
        out = np.empty(int(end[-1]) + 1, STEP)
        # As bytes: numpy would scatter each field alone.
        out.view(_BYTES)[place] = np.ascontiguousarray(steps).view(_BYTES)
        for name in ("after", "after2"):
            early = flags & (EARLY1 if name == "after" else EARLY2) != 0
            out[name][place] = self._distances(steps[name], early, place, end)

        begins, ends = np.flatnonzero(before), np.flatnonzero(after)
        rows = np.concatenate([place[begins] - 1, end[ends]])
        which = np.concatenate([begins, ends])
        time = np.concatenate([before[begins], after[ends]])
        out[rows] = self._delays(steps[which], time)
        out["server"][rows] = self._cores(rows, which, np.arange(len(rows)) < len(begins))
        out["flags"][place[ends]] &= ~np.uint16(END)
        out["flags"][end[ends]] = END
        out["after"][end[ends]] = 1
        self._begin(out, place[begins], steps[begins])
        self._pause(out, place[pauses], steps[pauses])
        out["flags"][rows] |= STAGE
        return self._note(out, place, end)

    def close(self) -> None:
        """Raise MisuseError if data were written for a request that did not end."""
        if len(self._open.request):
            raise MisuseError(
                f"request {self._open.request[0]}: data written behind its end, or it never ends"
            )

    def _before(self, steps: np.ndarray, reads: np.ndarray) -> np.ndarray:
        """Return int64[n], ps: the staging in front of each step that begins a request."""
        out = np.zeros(len(steps), np.int64)
        if not len(reads):
            return out
        data = _pieces(steps, reads)
        begins = np.flatnonzero(steps["flags"] & BEGIN)
        mine = data.find(steps["request"][begins])
        begins, mine = begins[mine >= 0], mine[mine >= 0]
        begun = np.full(len(data.request), len(steps))
        begun[mine] = begins
        late = begun[data.find(steps["request"][reads])] > reads
        if late.any():
            request = int(steps["request"][reads[late][0]])
            raise MisuseError(f"request {request}: data read before it begins, or in another chunk than that")
        out[begins] = self._staging.time_ps(data.size, data.transfers)[mine]
        return out

    def _after(self, steps: np.ndarray, writes: np.ndarray) -> np.ndarray:
        """Return int64[n], ps: the staging behind each step that ends a request. Keeps what does not end."""
        out = np.zeros(len(steps), np.int64)
        if not len(writes) and not len(self._open.request):
            return out
        new, old = _pieces(steps, writes), self._open
        data = _Pieces.of(
            np.concatenate([old.request, new.request]),
            np.concatenate([old.size, new.size]),
            np.concatenate([old.transfers, new.transfers]),
        )
        ends = np.flatnonzero(steps["flags"] & END)
        mine = data.find(steps["request"][ends])
        ends, mine = ends[mine >= 0], mine[mine >= 0]
        ended = np.full(len(data.request), len(steps))
        ended[mine] = ends
        late = ended[data.find(steps["request"][writes])] < writes
        if late.any():
            raise MisuseError(
                f"request {int(steps['request'][writes[late][0]])}: data written behind its end"
            )
        out[ends] = self._staging.time_ps(data.size[mine], data.transfers[mine])
        stays = ended == len(steps)
        self._open = _Pieces(data.request[stays], data.size[stays], data.transfers[stays])
        return out

    def _delays(self, steps: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Return STEP[k]: the staging that belongs to steps, without what it waits for."""
        out = np.zeros(len(steps), STEP)
        out["kind"] = DELAY
        out["request"] = steps["request"]
        out["stat"] = steps["stat"]
        out["delay_ps"] = time
        out["occupy_ps"] = time
        return out

    def _cores(self, rows: np.ndarray, which: np.ndarray, begins: np.ndarray) -> np.ndarray:
        """Return the server of each staging: a run of them by one core, the next run by the next core."""
        order = np.argsort(rows)
        which, begins = which[order], begins[order]
        new = np.ones(len(rows), np.int64)
        new[1:] = (which[1:] != which[:-1] + 1) | (begins[1:] != begins[:-1])
        run = np.cumsum(new)
        out = np.empty(len(rows), np.int64)
        out[order] = self._first_server + (self._turn + run - 1) % self._staging.cores
        self._turn = (self._turn + int(run[-1])) % self._staging.cores
        return out

    def _begin(self, out: np.ndarray, place: np.ndarray, steps: np.ndarray) -> None:
        """Let stagings begin requests in place of the steps behind them. Modified in place: out."""
        moved = BEGIN | EARLY1 | EARLY2
        at = place - 1
        for name in ("after", "after2"):
            out[name][at] = np.maximum(out[name][place] - 1, 0)
        out["flags"][at] = steps["flags"] & np.uint16(moved)
        out["not_before_ps"][at] = steps["not_before_ps"]
        # A transfer pauses before it starts: without dependencies, from time 0 on.
        root = (steps["kind"] != DELAY) & (steps["after"] == 0) & (steps["after2"] == 0)
        out["not_before_ps"][at[root]] = np.maximum(steps["not_before_ps"], steps["delay_ps"])[root]
        out["flags"][place] &= ~np.uint16(moved)
        out["after"][place] = 1
        out["after2"][place] = 0
        out["not_before_ps"][place] = 0
        transfer = place[steps["kind"] != DELAY]
        out["delay_ps"][transfer] = 0

    def _pause(self, out: np.ndarray, place: np.ndarray, steps: np.ndarray) -> None:
        """Put pauses in front of stagings, which then wait for those. Modified in place: out."""
        at = place - 2
        out[at] = self._delays(steps, steps["delay_ps"])
        out["server"][at] = -1
        out["occupy_ps"][at] = 0
        out["flags"][at] = steps["flags"] & np.uint16(EARLY1 | EARLY2)
        for name in ("after", "after2"):
            out[name][at] = np.maximum(out[name][place - 1] - 1, 0)
        out["flags"][place - 1] &= ~np.uint16(EARLY1 | EARLY2)
        out["after"][place - 1] = 1
        out["after2"][place - 1] = 0

    def _distances(
        self, given: np.ndarray, early: np.ndarray, place: np.ndarray, end: np.ndarray
    ) -> np.ndarray:
        """Return the distances of the new program, from the place of each step; 0 stays 0."""
        known = self._places.shape[1]
        own = np.concatenate([self._places[0], self._made + place])
        ends = np.concatenate([self._places[1], self._made + end])
        target = known + np.arange(len(given)) - given
        inside = np.maximum(target, 0)
        to = np.where(early, own[inside], ends[inside])
        # What waits for a step beyond the reach of its program still does, for the simulator to refuse.
        return np.where(target < 0, self._new_reach + 1, np.where(given > 0, self._made + place - to, 0))

    def _keep(self, steps: np.ndarray) -> np.ndarray:
        """Return a chunk to which nothing is added, with the distances that it has now."""
        place = np.arange(len(steps))
        out = steps.copy()
        for name, flag in (("after", EARLY1), ("after2", EARLY2)):
            out[name] = self._distances(steps[name], steps["flags"] & flag != 0, place, place)
        return self._note(out, place, place)

    def _note(self, out: np.ndarray, place: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Remember where steps went, as far back as later ones reach."""
        both = np.concatenate([self._places, self._made + np.stack([place, end])], axis=1)
        self._places = both[:, max(0, both.shape[1] - self._reach) :]
        self._made += len(out)
        return out


def _pieces(steps: np.ndarray, which: np.ndarray) -> _Pieces:
    """Return the data of some steps by request. Raises MisuseError for data of no request."""
    request = steps["request"][which]
    if (request < 0).any():
        raise MisuseError("data that belong to no request cannot be staged")
    return _Pieces.of(request, steps["bytes"][which], np.ones(len(which), np.int64))
