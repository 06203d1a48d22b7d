"""The link simulator, slow and obvious: an object per thing, a heap entry per event, exact fractions.

The text that it follows is docs/model.md. Times are Python ints in picoseconds; the time at which a link
falls free is a Fraction of a picosecond, so nothing here can round or overflow by accident. Nothing is
shared with the package's simulator, neither code nor tables: TLPs are cut byte by byte and their wire bytes
counted label by label. Only the random draw of the root complex's read latency comes from outside.
"""

import heapq
import math
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from . import split_naive, wire_naive

DELAY, WRITE_UP, READ_UP, WRITE_DOWN = range(4)
"""Kinds of step."""

READY, PORT, ARRIVE, DATA, ANSWERED = range(5)
"""Kinds of event, in the order in which they are handled when all else is equal."""

POSTED, NON_POSTED, COMPLETION = range(3)
"""Sub-streams: the contexts of a cipher engine."""

UP, DOWN = range(2)
"""Directions of a link: to the host and from it."""

BUFFER_DATA = 0
"""Buffer class of the application's own data."""


@dataclass(frozen=True)
class Link:
    """One device's link. Sizes in bytes, `prop_ps` one way."""

    ps_per_byte: Fraction
    prop_ps: int
    mps: int
    mrrs: int
    rcb: int
    cpl_max: int
    tags: int
    flit: bool = False
    ack_every: int = 0
    update_every: int = 0
    skip_every: int = 0
    skip_bytes: int = 0
    credit_ps: int = 0
    credits: dict[tuple[int, bool], tuple[int, int]] = field(default_factory=dict)
    """(direction, posted or not) -> (headers, units of 16 B); what is not in it is infinite."""
    replay_bytes: int = 0
    error_every: int = 0
    nak_ps: int = 0
    error_distance: Callable[[int, int, int, int], int] = lambda seed, device, way, number: 0
    """Bytes from one error on the wire to the next, by its number."""
    drain_tlp_ps: int = 0
    drain_line_ps: int = 0
    write_latency_ps: int = 0
    ordered: bool = True
    relaxed: bool = False
    """Data of the device carry RO; what is protected waits all the same."""
    rmp_check_ps: int = 0

    def quantum(self) -> int:
        """Return the most bytes of one write that enter the port before others get their turn.

        A power of two that takes 80 ns at most, but one TLP at least, and 4 KiB at most; and that there are
        credits for in both directions.
        """
        size = 1
        while 2 * size * self.ps_per_byte <= 80_000 and all(
            2 * size <= headers * self.mps and 2 * size <= units * 16
            for (_, posted), (headers, units) in self.credits.items()
            if posted
        ):
            size *= 2
        return min(max(size, self.mps), split_naive.PAGE)


@dataclass(frozen=True)
class Host:
    """The root complex: `read_latency(seed, device, transfer, split)` and the least spacing of reads, ps.

    iotlb_entries: 0 for no address translation; `walk` is the time of one walk, named alike.
    """

    read_latency: Callable[[int, int, int, int], int]
    read_interval_ps: int
    iotlb_entries: int = 0
    iotlb_ways: int = 1
    page_bytes: int = 4096
    walkers: int = 1
    walk: Callable[[int, int, int, int], int] = lambda seed, device, step, split: 0


@dataclass(frozen=True)
class EngineSpec:
    """A cipher engine; every end of every link has one for sending and one for receiving.

    pipe_ps: a byte's way through it. mac_ps: from the last byte out to the MAC. check_ps: from the last byte
    in at the receiver to the release of the TLP; hold_ps: of that, what is waiting for the MAC.
    """

    period_ps: int
    bytes_per_clock: int
    initiation_cycles: int
    pipe_ps: int
    mac_ps: int
    check_ps: int
    switch_ps: int = 0
    miss_ps: int = 0
    key_entries: int = 8
    pcrc: bool = False
    hold_ps: int = 0


@dataclass(frozen=True)
class Step:
    """One step of a program; `after` and `after2` are backward distances, 0 for none."""

    kind: int
    address: int = 0
    bytes: int = 0
    not_before_ps: int = 0
    delay_ps: int = 0
    occupy_ps: int = 0
    request: int = 0
    after: int = 0
    after2: int = 0
    server: int = -1
    stat: int = 0
    buffer: int = BUFFER_DATA
    early1: bool = False
    early2: bool = False
    begin: bool = False
    end: bool = False
    media: bool = False
    stage: bool = False


@dataclass(frozen=True)
class Ledger:
    """Where the time of a request went, place by place, up to a moment, ps."""

    at: int
    places: Counter[str] = field(default_factory=Counter)

    def until(self, time: int, place: str) -> "Ledger":
        """Return the ledger up to a later moment; the time between was spent at one place."""
        if time < self.at:
            raise ValueError(f"{place}: {time} is before {self.at}")
        return Ledger(time, self.places + Counter({place: time - self.at}))


@dataclass
class Moments:
    """When a step became ready, reached its early moment and ended, ps; None while unknown."""

    ready: int | None = None
    early: int | None = None
    end: int | None = None


@dataclass
class Outcome:
    """What a run did.

    latency_ps, io_ps: per device, request -> ps, or None when the request was not begun or not ended.
    counters: per (device, stat): TLPs, and bytes under payload, pad, header, link, ide and wire; under
    application the bytes of transfers of the application's own data.
    last_end_ps: the latest end of an END step, -1 when none ran. log: every event in the order handled.
    """

    latency_ps: list[dict[int, int | None]]
    io_ps: list[dict[int, int | None]]
    counters: dict[tuple[int, int], Counter[str]]
    last_end_ps: int
    moments: list[list[Moments]]
    log: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    maintenance: list[tuple[int, int]] = field(default_factory=list)
    iotlb: tuple[int, int] = (0, 0)
    """Lookups and misses."""
    credits_left: list[dict[tuple[int, bool], tuple[int, int]]] = field(default_factory=list)
    """When all is over and every credit is back."""
    spent: dict[tuple[int, int], Counter[str]] = field(default_factory=dict)
    """(device, stat) -> where the time of its requests went, ps."""
    errors: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class Engine:
    """One cipher engine: what it holds, whom it served last, and until when it is taken."""

    spec: EngineSpec
    cache: list[int]
    last: int | None = None
    free_ps: int = 0
    finished_ps: int | None = None

    def enter(self, context: int) -> tuple[int, int]:
        """Take up a context. Return the bubble before it and the time to fetch its key, both ps."""
        gap = extra = 0
        if context != self.last:
            if self.last is not None:
                gap = self.spec.switch_ps
            if context not in self.cache:
                extra = self.spec.miss_ps
                self.cache = [context, *self.cache][: self.spec.key_entries]
            self.cache.remove(context)
            self.cache.insert(0, context)
            self.last = context
        return gap, extra

    def occupancy_ps(self, labels: Sequence[str]) -> int:
        """Return for how long a TLP, given as its bytes' labels, fills the engine's input."""
        count = sum(1 for label in labels if label not in ("ide:mac", *wire_naive.LINK_LABELS))
        cycles = max(self.spec.initiation_cycles, math.ceil(Fraction(count, self.spec.bytes_per_clock)))
        return cycles * self.spec.period_ps


def make_engine(spec: EngineSpec) -> Engine:
    """Return an engine before traffic: keys of all three sub-streams are loaded, as far as they fit."""
    if spec.key_entries < 1:
        raise ValueError("an engine holds at least one key")
    return Engine(spec, [POSTED, NON_POSTED, COMPLETION][: spec.key_entries])


@dataclass(frozen=True)
class Burst:
    """TLPs that go through a port together: a quantum of a write, a read request, the answer to one."""

    index: int
    split: int
    kind: str
    context: int
    tlps: list[tuple[int, int]]


@dataclass
class Direction:
    """One direction of one link: its port with two queues, and the engines of its sender and receiver."""

    tx: Engine
    rx: Engine
    control: deque[Burst] = field(default_factory=deque)
    bulk: deque[Burst] = field(default_factory=deque)
    accept_ps: int = 0
    wake_ps: int | None = None
    free: Fraction = Fraction(0)
    last_out_ps: int = 0
    last_delivered_ps: int = 0
    owed: deque[tuple[int, int]] = field(default_factory=deque)
    """(due from, bytes) of DLLPs that this direction has to send."""
    not_acknowledged: int = 0
    not_updated: int = 0
    since_skip: int = 0
    maintenance: int = 0
    credits: dict[bool, tuple[int, int]] = field(default_factory=dict)
    returning: dict[bool, deque[tuple[int, int, int]]] = field(
        default_factory=lambda: {True: deque(), False: deque()}
    )
    """(back at, headers, units) of the credits that are on their way, by posted or not."""
    replay_free: int | None = None
    """Units of 16 B in the replay buffer; None: infinite."""
    kept: deque[tuple[int, int]] = field(default_factory=deque)
    """(acknowledged at, units) of what is in it."""
    error_in: int | None = None
    """Bytes to the next error; None: not drawn yet."""
    errors: int = 0
    set_aside: deque[Burst] = field(default_factory=deque)
    """Read requests without a credit."""
    posted_since: dict[int, int] = field(default_factory=lambda: {NON_POSTED: 0, COMPLETION: 0})
    """Protected posted TLPs since the last TLP of each other sub-stream, or IDE Sync."""

    def sync_is_due(self, context: int) -> bool:
        """A protected TLP goes out: return whether an IDE Sync has to follow it, and note that it does."""
        if context != POSTED:
            self.posted_since[context] = 0
            return False
        for other in self.posted_since:
            self.posted_since[other] += 1
        due = max(self.posted_since.values()) >= 245
        if due:
            self.posted_since = dict.fromkeys(self.posted_since, 0)
        return due

    def take_back(self, posted: bool) -> int:
        """Take the oldest credits that are on their way; return when they are back."""
        back, headers, units = self.returning[posted].popleft()
        self.credits[posted] = (self.credits[posted][0] + headers, self.credits[posted][1] + units)
        return back

    def acquire(self, posted: bool, headers: int, units: int) -> int:
        """Take credits; return when the last of them is there (0: at once)."""
        if posted not in self.credits:
            return 0
        gate = 0
        while self.credits[posted][0] < headers or self.credits[posted][1] < units:
            gate = self.take_back(posted)
        self.credits[posted] = (self.credits[posted][0] - headers, self.credits[posted][1] - units)
        return gate

    def keep(self, units: int) -> int:
        """Put a burst into the replay buffer; return when there is room (0: at once)."""
        if self.replay_free is None:
            return 0
        gate = 0
        while self.replay_free < units:
            gate, freed = self.kept.popleft()
            self.replay_free += freed
        self.replay_free -= units
        return gate

    def owe(self, link: Link, due: int, tlps: int, now: int) -> None:
        """TLPs came in by the other direction: note the DLLPs that this one sends for it."""
        self.not_acknowledged += tlps
        self.not_updated += tlps
        dllps = 0
        while link.ack_every and self.not_acknowledged >= link.ack_every:
            self.not_acknowledged -= link.ack_every
            dllps += 1
        while link.update_every and self.not_updated >= link.update_every:
            self.not_updated -= link.update_every
            dllps += 1
        if dllps:
            self.maintenance += 8 * dllps
            self.pay(link, now)
            self.owed.append((due, 8 * dllps))

    def pay(self, link: Link, until: int | Fraction) -> None:
        """Send the DLLPs that are due until then."""
        while self.owed and self.owed[0][0] <= until:
            due, count = self.owed.popleft()
            self.free = max(self.free, Fraction(due)) + count * link.ps_per_byte

    def keep_going(self, link: Link, ready: int) -> None:
        """Send what goes ahead of a burst: DLLPs that are due before it can begin, ordered sets."""
        while self.owed and self.owed[0][0] <= max(self.free, ready):
            self.pay(link, max(self.free, Fraction(ready)))
        while link.skip_every and self.since_skip >= link.skip_every:
            self.since_skip -= link.skip_every
            self.free += link.skip_bytes * link.ps_per_byte
            self.maintenance += link.skip_bytes


def make_direction(spec: EngineSpec, credits: dict[bool, tuple[int, int]]) -> Direction:
    """Return an idle direction."""
    return Direction(make_engine(spec), make_engine(spec), credits=dict(credits))


@dataclass
class Iotlb:
    """Sets of pages, the most recent last, and the walkers."""

    host: Host
    sets: list[list[tuple[int, int, int]]]
    """(device, page, translated from)."""
    walkers: list[int]
    lookups: int = 0
    misses: int = 0

    def translate(self, seed: int, device: int, step: int, split: int, address: int, now: int) -> int:
        """Return when an address is translated."""
        self.lookups += 1
        page = address // self.host.page_bytes
        entries = self.sets[page % len(self.sets)]
        found = [entry for entry in entries if entry[:2] == (device, page)]
        if found:
            entries.remove(found[0])
            entries.append(found[0])
            return max(now, found[0][2])
        self.misses += 1
        first = self.walkers.index(min(self.walkers))
        ready = max(now, self.walkers[first]) + self.host.walk(seed, device, step, split)
        self.walkers[first] = ready
        entries.append((device, page, ready))
        del entries[: -self.host.iotlb_ways]
        return ready


def make_iotlb(host: Host) -> Iotlb:
    """Return an empty one."""
    return Iotlb(
        host, [[] for _ in range(host.iotlb_entries // host.iotlb_ways)], [0 for _ in range(host.walkers)]
    )


def buffered_units(
    link: Link, kind: str, tlps: Sequence[tuple[int, int]], layouts: Sequence[Sequence[str]], protected: bool
) -> int:
    """Return the units of 16 B that a burst takes in the replay buffer, as if every sealed TLP had PCRC."""
    total = 0
    for (address, _), labels in zip(tlps, layouts, strict=True):
        header = 12 if kind == wire_naive.CPLD or address < 1 << 32 else 16
        if kind == wire_naive.MRD:
            header = sum(label.startswith("header:") for label in labels)
        payload = sum(label.startswith(("payload:", "pad:")) for label in labels)
        total += (0 if link.flit else 8) + header + payload + (20 if protected else 0)
    return math.ceil(Fraction(total, 16))


@dataclass(frozen=True)
class Passed:
    """A burst that went through a port: when the next may enter; its ledger up to there, and to its end."""

    accepted: int
    entering: Ledger
    ledger: Ledger


class Simulation:
    """One run. Build it, call `run`, read the outcome."""

    def __init__(
        self,
        devices: Sequence[Link],
        host: Host,
        engine: EngineSpec,
        steps_by_device: Sequence[Sequence[Step]],
        protected_by_device: Sequence[Sequence[bool]],
        seed: int,
        stop_ps: int,
    ) -> None:
        self.links = devices
        self.host = host
        self.engine = engine
        self.programs = steps_by_device
        self.protected = protected_by_device
        self.seed = seed
        self.stop_ps = stop_ps
        count = len(devices)
        self.directions = [
            {
                way: make_direction(engine, {p: c for (w, p), c in link.credits.items() if w == way})
                for way in (UP, DOWN)
            }
            for link in devices
        ]
        for link, lanes in zip(devices, self.directions, strict=True):
            for lane in lanes.values():
                lane.replay_free = link.replay_bytes // 16 if link.replay_bytes else None
        self.iotlb = make_iotlb(host)
        self.drain_free = [0 for _ in devices]
        self.visible = [0 for _ in devices]
        self.free_tags = [list(reversed(range(link.tags))) for link in devices]
        self.split_of: dict[tuple[int, int], int] = {}
        self.tag_ledger: dict[tuple[int, int], Ledger] = {}
        self.tag_queue: list[deque[int]] = [deque() for _ in range(count)]
        self.server_free: list[dict[int, int]] = [defaultdict(int) for _ in range(count)]
        self.rc_free_ps = 0
        self.splits: dict[tuple[int, int], list[tuple[int, int]]] = {}
        self.next_split: dict[tuple[int, int], int] = {}
        self.open_splits: dict[tuple[int, int], int] = {}
        self.moments = [[Moments() for _ in program] for program in steps_by_device]
        self.pending = [[0 for _ in program] for program in steps_by_device]
        self.latest = [[0 for _ in program] for program in steps_by_device]
        self.waiting: dict[tuple[int, int, bool], list[int]] = defaultdict(list)
        self.ledgers: list[dict[int, Ledger]] = [{} for _ in range(count)]
        """Of each step, up to where it goes on; made by the steps of the same request before it."""
        self.counted: set[tuple[int, int]] = set()
        """(device, step) whose ledger lies behind the begin of the request."""
        self.spent: dict[tuple[int, int], Counter[str]] = defaultdict(Counter)
        self.begun: list[dict[int, int]] = [{} for _ in range(count)]
        self.ended: list[dict[int, int]] = [{} for _ in range(count)]
        self.media: list[Counter[int]] = [Counter() for _ in range(count)]
        self.counters: dict[tuple[int, int], Counter[str]] = defaultdict(Counter)
        self.heap: list[tuple[int, int, int, int, int]] = []
        self.log: list[tuple[int, int, int, int, int]] = []
        self.handlers = (
            self.on_ready,
            self.on_port,
            self.on_arrive,
            self.on_data,
            self.on_answered,
        )

    # --- events ---

    def push(self, time: int, kind: int, device: int, step: int, split: int) -> None:
        """Note an event. Ties in time go to the lower device, then step, then split, then kind."""
        heapq.heappush(self.heap, (time, device, step, split, kind))

    def run(self) -> Outcome:
        """Handle events until none is left."""
        self.link_dependents()
        while self.heap:
            time, device, step, split, kind = heapq.heappop(self.heap)
            if kind == PORT and self.directions[device][step].wake_ps != time:
                # An earlier one has taken its place.
                continue
            self.log.append((time, kind, device, step, split))
            self.handlers[kind](time, device, step, split)
            self.issue_reads(time, device)
            for way in (UP, DOWN):
                self.serve_port(time, device, way)
        return self.outcome()

    def link_dependents(self) -> None:
        """Enter every step under the moments that it waits for; start those that wait for none."""
        for device, program in enumerate(self.programs):
            for index, step in enumerate(program):
                if step.kind != DELAY and step.bytes < 1:
                    raise ValueError("a transfer moves at least one byte")
                for distance, early in ((step.after, step.early1), (step.after2, step.early2)):
                    if distance:
                        if not 0 < distance <= index:
                            raise ValueError("a step waits for a step before it")
                        self.waiting[device, index - distance, early].append(index)
                        self.pending[device][index] += 1
            for index in range(len(program)):
                if self.pending[device][index] == 0:
                    self.make_ready(0, device, index)

    def make_ready(self, now: int, device: int, index: int) -> None:
        """All that a step waits for is known: tell when it starts, unless it comes after the stop."""
        step = self.programs[device][index]
        lag = 0 if step.kind == DELAY else step.delay_ps
        ready = max(self.latest[device][index] + lag, step.not_before_ps)
        if step.begin:
            if self.stop_ps > 0 and ready > self.stop_ps:
                return
            self.begun[device][step.request] = ready
        self.moments[device][index].ready = ready
        self.push(max(ready, now), READY, device, index, 0)

    def tell(self, now: int, device: int, index: int, moment: int, early: bool, ledger: Ledger) -> None:
        """A moment of a step is known: note it and tell those that wait for it."""
        step = self.programs[device][index]
        if ledger.at != moment:
            raise ValueError(f"a ledger up to {ledger.at} at {moment}")
        if early:
            self.moments[device][index].early = moment
        else:
            self.moments[device][index].end = moment
            if step.end:
                self.ended[device][step.request] = moment
                self.spent[device, step.stat].update(ledger.places)
        for other in self.waiting[device, index, early]:
            self.latest[device][other] = max(self.latest[device][other], moment)
            self.pending[device][other] -= 1
            before = self.ledgers[device].get(other)
            if self.programs[device][other].request == step.request and (
                before is None or moment > before.at
            ):
                self.ledgers[device][other] = ledger
            if self.pending[device][other] == 0:
                self.make_ready(now, device, other)

    def on_ready(self, now: int, device: int, index: int, split: int) -> None:
        step = self.programs[device][index]
        if step.begin:
            self.ledgers[device][index] = Ledger(now)
            self.counted.add((device, index))
        elif index not in self.ledgers[device]:
            self.ledgers[device][index] = Ledger(min(now, self.begun[device].get(step.request, now)))
        self.ledgers[device][index] = self.ledgers[device][index].until(now, "device")
        if step.kind != DELAY and step.buffer == BUFFER_DATA:
            self.counters[device, step.stat]["application"] += step.bytes
        if step.kind == DELAY:
            self.begin_delay(now, device, index)
        elif step.kind == READ_UP:
            self.splits[device, index] = split_naive.read_requests(
                step.address, step.bytes, self.links[device].mrrs
            )
            self.next_split[device, index] = 0
            self.open_splits[device, index] = len(self.splits[device, index])
            self.tag_queue[device].append(index)
        else:
            self.splits[device, index] = split_naive.cut_at_multiples(
                step.address, step.bytes, self.links[device].quantum()
            )
            self.offer_quantum(device, index, 0)

    def begin_delay(self, now: int, device: int, index: int) -> None:
        """A delay begins, if need be behind others at its server; its end is known at once."""
        step = self.programs[device][index]
        start = now
        if step.server >= 0:
            start = max(now, self.server_free[device][step.server])
            self.server_free[device][step.server] = start + step.occupy_ps
        end = start + step.delay_ps
        if step.media:
            self.media[device][step.request] += end - now
        place = "media" if step.media else "staging" if step.stage else "device"
        ledger = self.ledgers[device][index].until(start, place)
        self.tell(now, device, index, start, early=True, ledger=ledger)
        self.tell(now, device, index, end, early=False, ledger=ledger.until(end, place))

    def offer_quantum(self, device: int, index: int, number: int) -> None:
        """Put one quantum of a write into its port's queue."""
        step = self.programs[device][index]
        tlps = split_naive.write_tlps(*self.splits[device, index][number], self.links[device].mps)
        burst = Burst(index, number, wire_naive.MWR, POSTED, tlps)
        port = self.directions[device][UP if step.kind == WRITE_UP else DOWN]
        if step.kind == WRITE_UP and step.buffer == BUFFER_DATA:
            port.bulk.append(burst)
        else:
            port.control.append(burst)

    def issue_reads(self, now: int, device: int) -> None:
        """Give free tags to the waiting reads in turns; a request with a tag goes to the port."""
        queue = self.tag_queue[device]
        while self.free_tags[device] and queue:
            index = queue.popleft()
            number = self.next_split[device, index]
            self.next_split[device, index] += 1
            tag = self.free_tags[device].pop()
            self.split_of[device, tag] = number
            request = self.splits[device, index][number]
            burst = Burst(index, tag, wire_naive.MRD, NON_POSTED, [request])
            self.directions[device][UP].control.append(burst)
            mine = self.ledgers[device][index]
            self.tag_ledger[device, tag] = mine.until(now, "tags")
            if number + 1 < len(self.splits[device, index]):
                queue.append(index)
            else:
                self.tell(now, device, index, now, early=True, ledger=mine.until(now, "tags"))

    def serve_port(self, now: int, device: int, way: int) -> None:
        """Send what the port accepts by now, control before bulk; wake up when it accepts more.

        A read request without a credit lets others pass. It stays the first of all requests.
        """
        port = self.directions[device][way]
        while port.control or port.bulk or port.set_aside:
            if port.accept_ps > now:
                self.wake(port, port.accept_ps, device, way)
                return
            if port.set_aside and self.request_may_go(port, now):
                burst = port.set_aside.popleft()
                self.account(device, burst, now, "credits")
            elif port.control:
                burst = port.control.popleft()
            elif port.bulk:
                burst = port.bulk.popleft()
            else:
                if port.returning[False]:
                    self.wake(port, port.returning[False][0][0], device, way)
                return
            if burst.kind == wire_naive.MRD:
                if not self.request_may_go(port, now):
                    self.account(device, burst, now, "arbitration")
                    port.set_aside.append(burst)
                    continue
                port.acquire(False, 1, 0)
            self.account(device, burst, now, "arbitration")
            passed = self.send(device, way, burst, now)
            port.accept_ps, delivered = passed.accepted, passed.ledger.at
            if burst.kind != wire_naive.MWR:
                self.tag_ledger[device, burst.split] = passed.ledger
            if burst.kind == wire_naive.MRD:
                step = self.programs[device][burst.index]
                link, protected = self.links[device], self.protected[device][burst.index]
                passes = link.relaxed and step.buffer == BUFFER_DATA and not protected
                if link.ordered and not passes:
                    delivered = max(delivered, self.visible[device])
                    self.account(device, burst, delivered, "ordering")
                self.push(delivered, ARRIVE, device, burst.index, burst.split)
            elif burst.kind == wire_naive.CPLD:
                self.push(delivered, ANSWERED, device, burst.index, burst.split)
            elif burst.split + 1 < len(self.splits[device, burst.index]):
                self.ledgers[device][burst.index] = passed.entering
                self.offer_quantum(device, burst.index, burst.split + 1)
            else:
                self.tell(now, device, burst.index, port.accept_ps, early=True, ledger=passed.entering)
                self.tell(now, device, burst.index, delivered, early=False, ledger=passed.ledger)

    def account(self, device: int, burst: Burst, time: int, place: str) -> None:
        """Note where a burst was until now."""
        if burst.kind == wire_naive.MWR:
            self.ledgers[device][burst.index] = self.ledgers[device][burst.index].until(time, place)
        else:
            self.tag_ledger[device, burst.split] = self.tag_ledger[device, burst.split].until(time, place)

    def request_may_go(self, port: Direction, now: int) -> bool:
        """Return whether a read request has a credit by now."""
        if False not in port.credits:
            return True
        while port.returning[False] and port.returning[False][0][0] <= now:
            port.take_back(False)
        return port.credits[False][0] > 0

    def wake(self, port: Direction, time: int, device: int, way: int) -> None:
        """Look at a port again at a time, or earlier if it is to be looked at earlier anyway."""
        if port.wake_ps is None or time < port.wake_ps:
            port.wake_ps = time
            self.push(time, PORT, device, way, 0)

    def on_port(self, now: int, device: int, way: int, split: int) -> None:
        self.directions[device][way].wake_ps = None

    def ordinal(self, device: int, index: int) -> int:
        """Return how many transfers of the program come before a step."""
        return sum(step.kind != DELAY for step in self.programs[device][:index])

    def on_arrive(self, now: int, device: int, index: int, split: int) -> None:
        start = max(now, self.rc_free_ps)
        self.rc_free_ps = start + self.host.read_interval_ps
        lane = self.directions[device][UP]
        number = self.split_of[device, split]
        ledger = self.tag_ledger[device, split].until(start, "host")
        if False in lane.credits:
            # The request leaves the port's buffer.
            lane.returning[False].append((start + self.links[device].credit_ps, 1, 0))
        if self.host.iotlb_entries:
            address, _ = self.splits[device, index][number]
            start = self.iotlb.translate(
                self.seed, device, self.ordinal(device, index), number, address, start
            )
            ledger = ledger.until(start, "iommu")
        latency = self.host.read_latency(self.seed, device, self.ordinal(device, index), number)
        self.tag_ledger[device, split] = ledger.until(start + latency, "host")
        self.push(start + latency, DATA, device, index, split)

    def on_data(self, now: int, device: int, index: int, split: int) -> None:
        link = self.links[device]
        address, size = self.splits[device, index][self.split_of[device, split]]
        tlps = split_naive.completions(address, size, link.rcb, link.cpl_max)
        burst = Burst(index, split, wire_naive.CPLD, COMPLETION, tlps)
        self.directions[device][DOWN].bulk.append(burst)

    def on_answered(self, now: int, device: int, index: int, split: int) -> None:
        self.free_tags[device].append(split)
        self.open_splits[device, index] -= 1
        if self.open_splits[device, index] == 0:
            self.tell(now, device, index, now, early=False, ledger=self.tag_ledger[device, split])

    # --- one burst of TLPs over one direction ---

    def send(self, device: int, way: int, burst: Burst, ready: int) -> "Passed":
        """Send a burst whose TLPs are all ready now."""
        link = self.links[device]
        lane = self.directions[device][way]
        protected = self.protected[device][burst.index]
        spec = self.engine
        posted = burst.context == POSTED
        layouts = [
            wire_naive.lay_out(burst.kind, address, size, flit=link.flit, protected=protected, pcrc=spec.pcrc)
            for address, size in burst.tlps
        ]
        translated = ready + link.prop_ps
        if posted and way == UP and self.host.iotlb_entries:
            address, _ = self.splits[device, burst.index][burst.split]
            translated = self.iotlb.translate(
                self.seed, device, self.ordinal(device, burst.index), burst.split, address, translated
            )
        lane.keep_going(link, ready)
        before = max(lane.free, Fraction(ready))
        units = sum(
            math.ceil(Fraction(sum(label.startswith(("payload:", "pad:")) for label in labels), 16))
            for labels in layouts
        )
        enters = ready
        if burst.kind != wire_naive.MRD:
            enters = max(ready, lane.acquire(posted, len(layouts), units))
        buffered = 0
        if lane.replay_free is not None:
            buffered = buffered_units(link, burst.kind, burst.tlps, layouts, protected)
            enters = max(enters, lane.keep(buffered))
        begin = max(lane.free, Fraction(enters))
        on_wire = sum(len(labels) for labels in layouts) * link.ps_per_byte
        syncs = 0
        arrived = 0
        for labels in layouts:
            self.count(device, burst.index, labels)
            delivered = self.cross(link, lane, burst.context, labels, enters, protected)
            arrived = math.ceil(lane.free) + link.prop_ps
            checked = delivered
            lane.last_delivered_ps = max(delivered, lane.last_delivered_ps)
            if protected and lane.sync_is_due(burst.context):
                # Nobody waits for it.
                syncs += 1
                labels = wire_naive.lay_out_sync(flit=link.flit)
                on_wire += len(labels) * link.ps_per_byte
                self.count(device, burst.index, labels)
                self.cross(link, lane, POSTED, labels, enters, True)
        # The same bytes pass once more; the engines do not see them again.
        again = self.replay(device, way, on_wire / link.ps_per_byte)
        lane.free += again
        arrived += again
        checked += again
        lane.last_delivered_ps = max(lane.last_delivered_ps, checked)
        if protected and lane.rx.finished_ps is not None:
            lane.rx.finished_ps += again
        self.directions[device][1 - way].owe(link, arrived, len(layouts) + syncs, ready)
        # What comes in then follows without a hole on the wire, through the engine if that is in use at all.
        ahead = spec.pipe_ps + spec.mac_ps if lane.tx.last is not None else 0
        accepted = max(ready, math.floor(lane.free) - ahead)
        # Where the time went, up to the moment at which the next may enter and up to the end.
        if burst.kind == wire_naive.MWR:
            base = self.ledgers[device][burst.index]
        else:
            base = self.tag_ledger[device, burst.split]
        stalled = max(Fraction(0), enters - before)
        entering = base.until(ready + min(math.floor(stalled), accepted - ready), "credits")
        entering = entering.until(entering.at + min(again, accepted - entering.at), "replay")
        entering = entering.until(accepted, "serialisation")
        ledger = base.until(enters, "credits").until(math.floor(begin), "arbitration")
        on_wire_ps = min(math.floor(on_wire), arrived - link.prop_ps - ledger.at - again)
        if not protected:
            on_wire_ps = arrived - link.prop_ps - ledger.at - again
        ledger = ledger.until(ledger.at + on_wire_ps, "serialisation").until(
            ledger.at + on_wire_ps + again, "replay"
        )
        ledger = ledger.until(arrived - link.prop_ps, "engine").until(arrived, "wire")
        hold = spec.hold_ps if protected else 0
        ledger = ledger.until(checked - hold, "engine").until(checked, "hold")
        ledger = ledger.until(lane.last_delivered_ps, "ordering")
        freed = done = lane.last_delivered_ps
        if posted and way == UP:
            works = [
                link.drain_tlp_ps + math.ceil(Fraction(size, 64)) * link.drain_line_ps
                for _, size in burst.tlps
            ]
            checked_in = link.write_latency_ps + (link.rmp_check_ps if protected else 0)
            known = max(max(self.drain_free[device], ready + link.prop_ps) + sum(works), done + works[-1])
            freed = max(known, translated + sum(works))
            self.drain_free[device] = freed
            self.visible[device] = done = max(self.visible[device], freed + checked_in)
            ledger = ledger.until(ledger.at + freed - known, "iommu").until(done, "host")
        if lane.replay_free is not None:
            lane.kept.append((arrived + link.credit_ps, buffered))
        if posted in lane.credits and burst.kind != wire_naive.MRD:
            lane.returning[posted].append((freed + link.credit_ps, len(layouts), units))
        return Passed(accepted, entering, ledger)

    def replay(self, device: int, way: int, count: Fraction) -> int:
        """So many bytes pass the wire: return for how long errors keep them from it, ps."""
        link = self.links[device]
        lane = self.directions[device][way]
        if not link.error_every:
            return 0

        def distance(number: int) -> int:
            return 1 + link.error_distance(self.seed, device, way, number)

        if lane.error_in is None:
            lane.error_in = distance(0)
        left = lane.error_in - int(count)
        time = 0
        while left <= 0:
            lane.errors += 1
            time += link.prop_ps + link.nak_ps + math.ceil(count * link.ps_per_byte)
            left += distance(lane.errors) - int(count)
        lane.error_in = left
        return time

    def cross(
        self, link: Link, lane: Direction, context: int, labels: list[str], ready: int, protected: bool
    ) -> int:
        """Take one TLP over a direction; return when it can be used at the other end."""
        spec = self.engine
        wire_time = len(labels) * link.ps_per_byte
        lane.since_skip += len(labels)
        occupancy = 0
        if protected:
            gap, extra = lane.tx.enter(context)
            occupancy = lane.tx.occupancy_ps(labels)
            start = max(ready, lane.tx.free_ps + gap) + extra
            lane.tx.free_ps = start + occupancy
            out = max(start + spec.pipe_ps, lane.last_out_ps)
            # The MAC, behind the last byte, cannot leave before the engine has made it.
            complete = Fraction(start + occupancy + spec.pipe_ps + spec.mac_ps)
            begin = max(lane.free, Fraction(out), complete - wire_time)
        else:
            out = max(ready, lane.last_out_ps)
            begin = max(lane.free, Fraction(out))
        lane.last_out_ps = out
        lane.free = begin + wire_time
        arrive = math.ceil(lane.free) + link.prop_ps
        if not protected:
            return arrive
        gap, extra = lane.rx.enter(context)
        # The engine takes a byte in when it is here, and the TLP before has passed.
        taken = arrive - math.floor(wire_time)
        if lane.rx.finished_ps is not None:
            taken = max(taken, lane.rx.finished_ps + gap)
        lane.rx.finished_ps = max(arrive, taken + occupancy) + extra
        return lane.rx.finished_ps + spec.check_ps

    def count(self, device: int, index: int, labels: list[str]) -> None:
        counter = self.counters[device, self.programs[device][index].stat]
        counter.update(wire_naive.parts(labels))
        counter["wire"] += len(labels)
        counter["tlps"] += 1

    # --- the end ---

    def outcome(self) -> Outcome:
        """Gather the result of a finished run."""
        latency: list[dict[int, int | None]] = []
        io: list[dict[int, int | None]] = []
        last = -1
        for device, program in enumerate(self.programs):
            latency.append({})
            io.append({})
            for request in sorted({step.request for step in program if step.begin}):
                begun = self.begun[device].get(request)
                ended = self.ended[device].get(request)
                taken = None if begun is None or ended is None else ended - begun
                latency[device][request] = taken
                io[device][request] = None if taken is None else taken - self.media[device][request]
                if taken is not None and ended is not None:
                    last = max(last, ended)
        left = []
        for lanes in self.directions:
            for lane in lanes.values():
                for posted, line in lane.returning.items():
                    while line:
                        lane.take_back(posted)
            left.append({(way, p): c for way, lane in lanes.items() for p, c in lane.credits.items()})
        return Outcome(
            latency,
            io,
            dict(self.counters),
            last,
            self.moments,
            self.log,
            [(lanes[UP].maintenance, lanes[DOWN].maintenance) for lanes in self.directions],
            (self.iotlb.lookups, self.iotlb.misses),
            left,
            dict(self.spent),
            [(lanes[UP].errors, lanes[DOWN].errors) for lanes in self.directions],
        )


def simulate(
    devices: Sequence[Link],
    host: Host,
    engine: EngineSpec | None,
    steps_by_device: Sequence[Sequence[Step]],
    protected_by_device: Sequence[Sequence[bool]],
    seed: int,
    stop_ps: int = 0,
) -> Outcome:
    """Run programs over links and return what happened.

    `protected_by_device` marks the steps whose TLPs are encrypted; none may be marked without an engine.
    A step with `begin` that becomes ready after `stop_ps` (0: no stop) never runs, nor what waits for it.
    """
    if engine is None and any(any(marks) for marks in protected_by_device):
        raise ValueError("protected traffic needs an engine")
    unused = EngineSpec(0, 1, 0, 0, 0, 0)
    return Simulation(
        devices, host, engine or unused, steps_by_device, protected_by_device, seed, stop_ps
    ).run()
