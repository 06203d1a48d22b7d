"""The link simulator's model of NVMe reads once more, as SimPy has one write it.

Rule: one process per direction of the port and one per slot of the queue. A burst of TLPs is one entry in a
port's queue and a short sum, never an event per TLP or byte; times are whole picoseconds, the position of a
link counts in fractions of one, as docs/model.md has them. Draws are handed in, so that every run of either
simulator sees the same.

What it leaves out: encryption, credits, DLLPs, address translation, writes of the application, servers of the
media, and all accounts but latency, TLPs and the end. Numbers of TLPs are those of whole runs.
"""

import math
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import simpy

Steps = Generator[simpy.Event, Any, None]

# PCIe Base r6.x, section 2.1.2: headers of 3 DW, with addresses above 4 GiB 4 DW.
_SHORT, _LONG, _REACH = 12, 16, 1 << 32
# Sections 3.6 and 4.2: sequence number, LCRC and framing.
_DATA_LINK = 8
# What may enter a port before others get their turn takes 80 ns at most (docs/model.md).
_QUANTUM_PS = 80_000


@dataclass(frozen=True)
class Link:
    """A link and the host behind it. Sizes in bytes, `propagation_ps` one way."""

    ps_per_byte: Fraction
    propagation_ps: int
    mps: int
    mrrs: int
    rcb: int
    completion_bytes: int
    tags: int
    read_interval_ps: int

    def quantum(self) -> int:
        """Return the most bytes of one write that enter a port together: a power of two."""
        most = int(_QUANTUM_PS / self.ps_per_byte)
        return min(max(1 << (most.bit_length() - 1), self.mps), 4096)


class Request(NamedTuple):
    """One read: addresses of its transfers, bytes of its data, and every time that is drawn, ps."""

    doorbell: int
    command: int
    command_bytes: int
    controller_ps: int
    media_ps: int
    data: int
    data_bytes: int
    entry: int
    entry_bytes: int
    interrupt: int
    done: int
    word_bytes: int
    not_before_ps: int
    host_ps: tuple[int, ...]
    """The root complex's latency, for each request that the command's fetch is split into."""


@dataclass
class Outcome:
    """What a run did: latency of each request, ps, by number; TLPs; when the last step ended, ps."""

    latency_ps: list[int]
    tlps: int = 0
    last_ps: int = 0


@dataclass
class _Burst:
    """TLPs that enter a port together: how many, their bytes on the wire, and what their end does."""

    tlps: int
    wire: int
    delivered: Callable[[], None] | None = None
    accepted: simpy.Event | None = None
    rest: list["_Burst"] = field(default_factory=list)


def _cut(address: int, size: int, multiple: int) -> list[tuple[int, int]]:
    """Return the pieces of a transfer between multiples of a size."""
    pieces = []
    end = address + size
    while address < end:
        stop = min(end, (address // multiple + 1) * multiple)
        pieces.append((address, stop - address))
        address = stop
    return pieces


def _writes(link: Link, address: int, size: int) -> _Burst:
    """Return a write: its first quantum, with the others behind it."""
    header = _LONG if address >= _REACH else _SHORT
    bursts = []
    for start, count in _cut(address, size, link.quantum()):
        pieces = _cut(start, count, link.mps)
        bursts.append(_Burst(len(pieces), count + len(pieces) * (header + _DATA_LINK)))
    bursts[0].rest = bursts[1:]
    return bursts[0]


def _answer(link: Link, address: int, size: int) -> _Burst:
    """Return the completions of a read request: each as long as the rules allow."""
    count, end = 0, address + size
    while address < end:
        reach = (address + link.completion_bytes) // link.rcb * link.rcb
        address = end if end <= address + link.completion_bytes else reach
        count += 1
    return _Burst(count, size + count * (_SHORT + _DATA_LINK))


class _Port:
    """One direction of a link: two queues, one process."""

    def __init__(self, env: simpy.Environment, link: Link, outcome: Outcome):
        self.env, self.link, self.outcome = env, link, outcome
        self.control: deque[_Burst] = deque()
        self.bulk: deque[_Burst] = deque()
        self.wake: simpy.Event | None = None
        env.process(self.run())

    def put(self, burst: _Burst, bulk: bool = False) -> None:
        """Enter a burst into a queue."""
        (self.bulk if bulk else self.control).append(burst)
        if self.wake is not None:
            self.wake.succeed()
            self.wake = None

    def run(self) -> Steps:
        """Send what is there, control before bulk; the next enters when the last byte is on the wire."""
        env, outcome = self.env, self.outcome
        den = self.link.ps_per_byte.denominator
        num = self.link.ps_per_byte.numerator
        free = 0
        while True:
            if self.control:
                burst, from_bulk = self.control.popleft(), False
            elif self.bulk:
                burst, from_bulk = self.bulk.popleft(), True
            else:
                self.wake = env.event()
                yield self.wake
                continue
            ready = env.now
            free = max(free, ready * den) + burst.wire * num
            outcome.tlps += burst.tlps
            complete = not burst.rest
            if not complete:
                following = burst.rest.pop(0)
                following.rest, following.delivered = burst.rest, burst.delivered
                following.accepted = burst.accepted
                self.put(following, from_bulk)
            elif burst.delivered is not None:
                arrives = math.ceil(Fraction(free, den)) + self.link.propagation_ps
                env.timeout(arrives - ready).callbacks.append(lambda _, then=burst.delivered: then())
            accepted = max(ready, free // den)
            if accepted > ready:
                yield env.timeout(accepted - ready)
            if complete and burst.accepted is not None:
                # What waits for it comes after what is in the queues already.
                burst.accepted.succeed()


class _Machine:
    """The device, its link and the host."""

    def __init__(self, link: Link, requests: Sequence[Request], depth: int):
        self.env = simpy.Environment()
        self.link, self.requests, self.depth = link, requests, depth
        self.outcome = Outcome([0] * len(requests))
        self.up = _Port(self.env, link, self.outcome)
        self.down = _Port(self.env, link, self.outcome)
        self.tags = simpy.Resource(self.env, link.tags)
        self.host_free = 0
        for slot in range(min(depth, len(requests))):
            self.env.process(self.slot(slot))

    def write(self, port: _Port, address: int, size: int, bulk: bool = False) -> simpy.Event:
        """Post a write; the event is its delivery."""
        burst = _writes(self.link, address, size)
        end = self.env.event()
        burst.delivered = end.succeed
        port.put(burst, bulk)
        return end

    def post(self, port: _Port, address: int, size: int, bulk: bool = False) -> simpy.Event:
        """Post a write that nobody waits to see arrive; the event is when its port has taken it."""
        burst = _writes(self.link, address, size)
        burst.accepted = self.env.event()
        port.put(burst, bulk)
        return burst.accepted

    def read(self, address: int, size: int, host_ps: tuple[int, ...]) -> Steps:
        """Read host memory: a tag for each request, the request, the host, the completions."""
        ends = []
        for (start, count), latency in zip(_cut(address, size, self.link.mrrs), host_ps, strict=True):
            tag = self.tags.request()
            yield tag
            end = self.env.event()
            header = _LONG if start >= _REACH else _SHORT
            burst = _Burst(1, header + _DATA_LINK)
            burst.delivered = lambda s=start, c=count, w=latency, e=end: self.arrive(s, c, w, e)
            self.up.put(burst)
            ends.append((tag, end))
        for tag, end in ends:
            yield end
            self.tags.release(tag)

    def arrive(self, address: int, size: int, latency: int, end: simpy.Event) -> None:
        """Take a read request at the host; it answers after its latency."""
        start = max(self.env.now, self.host_free)
        self.host_free = start + self.link.read_interval_ps

        def answer(_: simpy.Event) -> None:
            burst = _answer(self.link, address, size)
            burst.delivered = end.succeed
            self.down.put(burst, bulk=True)

        self.env.timeout(start + latency - self.env.now).callbacks.append(answer)

    def slot(self, first: int) -> Steps:
        """Run every request of a slot, one after the other."""
        env = self.env
        yield env.timeout(self.requests[first].not_before_ps)
        for number in range(first, len(self.requests), self.depth):
            r = self.requests[number]
            begin = env.now
            yield self.write(self.down, r.doorbell, r.word_bytes)
            yield from self.read(r.command, r.command_bytes, r.host_ps)
            yield env.timeout(r.controller_ps)
            yield env.timeout(r.media_ps)
            yield self.post(self.up, r.data, r.data_bytes, bulk=True)
            entry = _writes(self.link, r.entry, r.entry_bytes)
            entry.accepted, end = env.event(), env.event()
            entry.delivered = end.succeed
            self.up.put(entry)
            yield entry.accepted
            interrupt = self.write(self.up, r.interrupt, r.word_bytes)
            yield end
            self.outcome.latency_ps[number] = env.now - begin
            done = self.write(self.down, r.done, r.word_bytes)
            for last in (interrupt, done):
                last.callbacks.append(self.ended)

    def ended(self, _: simpy.Event) -> None:
        self.outcome.last_ps = max(self.outcome.last_ps, self.env.now)


def simulate(link: Link, requests: Sequence[Request], depth: int) -> Outcome:
    """Run the requests, so many at a time, until the last step has ended."""
    machine = _Machine(link, requests, depth)
    machine.env.run()
    return machine.outcome
