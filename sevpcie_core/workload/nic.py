"""NIC: receive and transmit rings, as steps.

Rule: a frame is one request. Receive: payload write, then a completion write-back per batch; descriptors are
fetched and the tail doorbell rung once per batch, beside the frames. Transmit: a doorbell per burst, a
descriptor fetch when enough are there, then a payload read per frame; completions are written back per batch.

Latency: receive, last byte at the MAC to the write-back visible; transmit, doorbell to the last payload byte
at the device. An open loop counts from the intended start.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Final

import numpy as np

from .._jit import kernel
from ..stats.draw import below, draw_u64, exponential_table, quantile
from .nic_interrupts import Frames
from .nic_steps import ENTRIES, RX, TX, Adapter, Ring, program
from .program import FOREVER, Program
from .traces.pace import LINE_OVERHEAD, LONG_AGO, occupancy_ps, pace_line
from .traces.records import NIC_DTYPE

__all__ = [
    "BIMODAL",
    "ENTRIES",
    "IMIX",
    "RX",
    "TX",
    "Adapter",
    "Load",
    "Ring",
    "open_loop",
    "replay",
    "sizes_of",
]

# The "simple IMIX" of the TRex traffic generator: 28 frames of 60 B, 20 of 590 B, 4 of 1514 B (without FCS).
IMIX: Final = ((28, 60), (20, 590), (4, 1514))
# Benson, Akella, Maltz: "Network Traffic Characteristics of Data Centers in the Wild", IMC 2010:
# packets cluster around 200 B and 1400 B. How many are where is a choice: half and half.
BIMODAL: Final = ((1, 200), (1, 1400))

_CHUNK: Final = 512
# Records of a capture that are read at a time.
_READ: Final = 1 << 16

_DRAW_SIZE: Final = 0
_DRAW_GAP: Final = 1
_DRAWS: Final = 2


@kernel
def _draw_frames(times, sizes, first, start_ps, weights, choices, line_bps, gaps, key):
    """Draw sizes and intended starts of consecutive frames; return the last start.  Modified in place.

    A frame takes its time on the line and then an exponential gap whose mean is in proportion to its size, so
    the mean rate is as asked and never above the line's.

    weights : int64[k], running sums; choices : int64[k], bytes; line_bps : bit/s; gaps : int64[4097], 1/1024
    ps per byte.
    """
    now = start_ps
    for i in range(len(times)):
        size = choices[0]
        if len(choices) > 1:
            pick = below(draw_u64(key[0], key[1] + _DRAW_SIZE, first + i), weights[-1])
            at = 0
            while pick >= weights[at]:
                at += 1
            size = choices[at]
        line = (size + LINE_OVERHEAD) * 8 * 1_000_000_000_000 // line_bps
        unit = quantile(gaps, draw_u64(key[0], key[1] + _DRAW_GAP, first + i))
        now += line + ((unit * (size + LINE_OVERHEAD)) >> 10)
        times[i] = now
        sizes[i] = size
    return now


def sizes_of(records: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Return (weight, bytes) of the frames of a capture, NIC_DTYPE[n], as `Load.sizes` has them."""
    sizes, counts = np.unique(records["bytes"], return_counts=True)
    return tuple(zip(counts.tolist(), sizes.tolist(), strict=True))


@dataclass(frozen=True)
class Load:
    """Frames at a mean rate.

    Attributes
    ----------
    sizes : of RX, TX or both, each at the rate: (weight, bytes), without FCS.
    rate_bps, line_rate_bps : bit/s on the line, with LINE_OVERHEAD per frame; rate at most line rate.
    """

    sizes: Mapping[int, Sequence[tuple[int, int]]]
    rate_bps: int
    line_rate_bps: int

    @property
    def directions(self) -> tuple[int, ...]:
        """Return those that there are, in order."""
        return tuple(sorted(self.sizes))

    def drawn(self, direction: int, key: np.ndarray, chunk: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield intended starts and sizes of one direction for ever, `chunk` frames at a time."""
        byte_gap = (
            8 * 10**12 * (self.line_rate_bps - self.rate_bps) * 1024 // (self.rate_bps * self.line_rate_bps)
        )
        gaps = exponential_table(byte_gap)
        weights = np.cumsum([weight for weight, _ in self.sizes[direction]]).astype(np.int64)
        choices = np.array([size for _, size in self.sizes[direction]], np.int64)
        first = now = 0
        while True:
            times, sizes = np.empty(chunk, np.int64), np.empty(chunk, np.int64)
            now = _draw_frames(times, sizes, first, now, weights, choices, self.line_rate_bps, gaps, key)
            yield times, sizes
            first += chunk


def open_loop(adapter: Adapter, load: Load, *, requests: int, seed: int, stream: int) -> Program:
    """Return frames that arrive at a mean rate, whatever the device does with them.

    Parameters
    ----------
    requests : frames of all directions. seed, stream : key of the draws, with four streams from `stream` on.
    """
    # What is rung in is sent in the same chunk.
    bell, period = adapter.tx.doorbell, adapter.tx.period
    chunk = max(_CHUNK // period, 1) * period

    def one(direction: int) -> Iterator[Frames]:
        done = 0
        for times, sizes in load.drawn(direction, np.array([seed, stream]), chunk):
            n = min(chunk, requests - done)
            done += n
            later = int(times[n - 1]) if done < requests else FOREVER
            yield times[:n], sizes[:n], np.full(n, direction, np.uint8), later
            if done == requests:
                return

    def both() -> Iterator[Frames]:
        keys = {d: np.array([seed, stream + place * _DRAWS]) for place, d in enumerate((RX, TX))}
        sources = {d: load.drawn(d, key, chunk) for d, key in keys.items()}
        held = np.empty(0, NIC_DTYPE)
        until = {RX: -1, TX: -1}
        done = 0
        sent = 0
        while done < requests:
            # Whoever has the fewest known draws more of them.
            direction = min(until, key=lambda d: until[d])
            times, sizes = next(sources[direction])
            if direction == TX:
                # A burst starts when its last frame is due, so that none of the others comes between.
                times = np.repeat(times[bell - 1 :: bell], bell)
            until[direction] = int(times[-1])
            held = np.concatenate([held, _frames(times, sizes, direction)])
            held = held[np.argsort(held["t_ps"], kind="stable")]
            known = min(until.values())
            # What comes later is later than that, or at the same time in a burst of its own.
            count = min(int(np.searchsorted(held["t_ps"], known, side="right")), requests - done)
            if done + count < requests:
                ends = sent + np.cumsum(held["direction"][:count] == TX)
                count = int(np.flatnonzero(ends % period == 0)[-1]) + 1 if (ends % period == 0).any() else 0
                sent = int(ends[count - 1]) if count else sent
            ready, held = held[:count], held[count:]
            done += count
            if count:
                later = min(known, int(held["t_ps"][0])) if len(held) else known
                yield _unpacked(ready, later if done < requests else FOREVER)

    largest = max(size for pairs in load.sizes.values() for _, size in pairs)
    single = load.directions[0]
    return program(
        adapter, load.directions, largest, both if len(load.directions) > 1 else lambda: one(single)
    )


def _frames(times: np.ndarray, sizes: np.ndarray, direction: int) -> np.ndarray:
    """Return NIC_DTYPE[n]."""
    out = np.empty(len(times), NIC_DTYPE)
    out["t_ps"], out["bytes"], out["direction"] = times, sizes, direction
    return out


def _unpacked(frames: np.ndarray, later: int) -> Frames:
    """Return the columns of NIC_DTYPE[n], and when the next one comes."""
    return (
        np.ascontiguousarray(frames["t_ps"]),
        np.ascontiguousarray(frames["bytes"]),
        np.ascontiguousarray(frames["direction"]),
        later,
    )


def _paced(parts: Iterator[np.ndarray], present: tuple[int, ...], line_rate_bps: int) -> Iterator[np.ndarray]:
    """Yield frames in the order of their times, each direction spaced to a line, or as they are for rate 0.

    As a sort of them all would have them; what is held is what one direction is late.
    """
    sent = dict.fromkeys(present, LONG_AGO)
    held = np.empty(0, NIC_DTYPE)
    for part in parts:
        frames = part
        if line_rate_bps:
            frames = part.copy()
            for direction in present:
                mine = frames["direction"] == direction
                if mine.any():
                    times = pace_line(
                        frames["t_ps"][mine], frames["bytes"][mine], line_rate_bps, sent[direction]
                    )
                    frames["t_ps"][mine] = times
                    sent[direction] = int(times[-1])
        held = np.concatenate([held, frames])
        held = held[np.argsort(held["t_ps"], kind="stable")]
        # Whatever comes later is no earlier than that, and behind in a sort that is stable.
        latest = int(part["t_ps"][-1])
        known = min(max(latest, at) for at in sent.values())
        ready = int(np.searchsorted(held["t_ps"], known, side="right"))
        yield held[:ready]
        held = held[ready:]
    yield held


def replay(
    adapter: Adapter,
    records: np.ndarray,
    *,
    line_rate_bps: int = 0,
    only: int | None = None,
    repeat_ps: int = 0,
) -> Program:
    """Return the frames of a capture at their times; a recorded transmit rings its own doorbell.

    Parameters
    ----------
    records : NIC_DTYPE[n], see `traces.records`; it is read piece by piece.
    line_rate_bps : each direction is spaced to a line of so many bit/s; 0: they come as recorded.
    only : RX or TX: leave out the other direction. The first frame comes at time 0.
    repeat_ps : they start over after so long, or when the line has sent them all, for ever; 0: they do not.
    """

    def parts() -> Iterator[np.ndarray]:
        for first in range(0, len(records), _READ):
            part = records[first : first + _READ]
            taken = np.array(part if only is None else part[part["direction"] == only])
            if len(taken):
                yield taken

    origin = 0
    largest = 0
    found: set[int] = set()
    sent = {RX: 0, TX: 0}
    for part in parts():
        origin = origin if found else int(part["t_ps"][0])
        largest = max(largest, int(part["bytes"].max()))
        found.update(np.unique(part["direction"]).tolist())
        if line_rate_bps and repeat_ps:
            for direction in found:
                sizes = part["bytes"][part["direction"] == direction]
                sent[direction] += int(occupancy_ps(sizes, line_rate_bps).sum())
    present = tuple(sorted(found))
    period_ps = max(repeat_ps, *sent.values())

    def shifted() -> Iterator[np.ndarray]:
        for turn in count() if repeat_ps else range(1):
            for part in parts():
                part["t_ps"] += turn * period_ps - origin
                yield part

    def frames() -> Iterator[Frames]:
        held = np.empty(0, NIC_DTYPE)
        for some in _paced(shifted(), present, line_rate_bps):
            held = np.concatenate([held, some])
            at = 0
            # One more, as a chunk says when the next one begins.
            while len(held) - at > _CHUNK:
                yield _unpacked(held[at : at + _CHUNK], int(held["t_ps"][at + _CHUNK]))
                at += _CHUNK
            held = held[at:]
        yield _unpacked(held, FOREVER)

    alone = replace(adapter, tx=replace(adapter.tx, doorbell=1, whole=False))
    return program(alone, present, largest, frames)
