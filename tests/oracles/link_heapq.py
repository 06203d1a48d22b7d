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
from dataclasses import dataclass, field, replace
from fractions import Fraction

from . import split_naive, wire_naive

DELAY, WRITE_UP, READ_UP, WRITE_DOWN = range(4)
"""Kinds of step."""

READY, PORT, ARRIVE, DATA, ANSWERED = range(5)
HOP = 7
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
    check_ps: int = 0
    """Of a flit at its receiver."""
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
    """Data of the device carry RO, of use to writes; what is protected waits all the same."""
    ido: bool = False
    """All requests of the device carry IDO; likewise."""
    rmp_check_ps: int = 0
    peer_read_ps: int = 0
    """From the read request of another device to its data, and between two that the device begins with."""
    peer_every_ps: int = 0

    @property
    def way_ps(self) -> int:
        """From the end of a byte on the wire, in flit mode of its flit, until the receiver has it."""
        return self.prop_ps + self.check_ps

    def flit_of(self, end: Fraction) -> int:
        """Return in which flit a byte is that ends then; the first, of 236 bytes of TLPs, begins at 0."""
        return math.ceil(end / (236 * self.ps_per_byte)) - 1

    def flit_end(self, number: int) -> int:
        """Return when a flit ends: always a whole ps."""
        end = (number + 1) * 236 * self.ps_per_byte
        assert end.denominator == 1
        return int(end)

    def there(self, end: Fraction) -> int:
        """Return when the receiver has a byte that ends then."""
        return (self.flit_end(self.flit_of(end)) if self.flit else math.ceil(end)) + self.way_ps

    def there_before(self, last: Fraction, count: int) -> int:
        """Return when it has the byte that comes so many before the one that ends at `last`."""
        if self.flit:
            return self.there(last - count * self.ps_per_byte)
        return self.there(last) - math.floor(count * self.ps_per_byte)

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
class Switch:
    """What joins links of devices to one uplink. latency_ps: from the moment that a burst may go on."""

    latency_ps: int = 0
    cut_through: bool = True
    redirects: bool = True
    """What goes from one of the devices to another one goes up to the root complex all the same."""


@dataclass(frozen=True)
class Host:
    """The root complex: `read_latency(seed, device, transfer, split)` and the least spacing of reads, ps.

    turn_ps: from one root port to another one.

    iotlb_entries: 0 for no address translation; `walk` is the time of one walk, named alike. `misses` tells
    what is not in the cache: it takes cold_ps more, and waits while memory refreshes, in each interval once.
    """

    read_latency: Callable[[int, int, int, int], int]
    read_interval_ps: int
    iotlb_entries: int = 0
    iotlb_ways: int = 1
    page_bytes: int = 4096
    walkers: int = 1
    walk: Callable[[int, int, int, int], int] = lambda seed, device, step, split: 0
    misses: Callable[[int, int, int, int], bool] = lambda seed, device, step, split: False
    cold_ps: int = 0
    refresh_ps: int = 0
    refresh_interval_ps: int = 0
    refresh_at: Callable[[int, int], int] = lambda seed, number: 0
    turn_ps: int = 0


@dataclass(frozen=True)
class EngineSpec:
    """A cipher engine; every end of every link has one for sending and one for receiving.

    pipe_ps: a byte's way through it. mac_ps: from the last byte out to the MAC. check_ps: from the last byte
    in at the receiver to the release of the TLP; hold_ps: of that, what is waiting for the MAC.
    link_stream: switches open and seal what passes them. shared: the host has one engine for all its ports
    and both directions, fabric_ps away from each. unit_tlps: of each sub-stream, how many TLPs share a MAC at
    most. skid: a receiver does not wait for MACs.
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
    link_stream: bool = False
    shared: bool = False
    fabric_ps: int = 0
    unit_tlps: tuple[int, int, int] = (1, 1, 1)
    skid: bool = False


Key = tuple[int | None, int | None, int]
"""(device, direction, sub-stream) of a key; None where an engine serves only one of them."""


@dataclass(frozen=True)
class Step:
    """One step of a program; `after` and `after2` are backward distances, 0 for none.

    server: of a delay what it occupies, of a transfer the device that it is with; -1: none, the host.
    """

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
    cache: list[Key]
    last: Key | None = None
    free_ps: int = 0
    finished_ps: int | None = None

    def enter(self, context: Key) -> tuple[int, int]:
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


def make_engine(spec: EngineSpec, owners: Sequence[tuple[int | None, int | None]]) -> Engine:
    """Return an engine before traffic: the keys of all its streams are loaded, as far as they fit."""
    if spec.key_entries < 1:
        raise ValueError("an engine holds at least one key")
    keys = [(*owner, sub) for owner in owners for sub in (POSTED, NON_POSTED, COMPLETION)]
    return Engine(spec, keys[: spec.key_entries])


@dataclass(frozen=True)
class Burst:
    """TLPs that go through a port together: a quantum of a write, a read request, the answer to one."""

    device: int
    index: int
    split: int
    kind: str
    context: int
    tlps: list[tuple[int, int]]
    way: int


@dataclass(frozen=True)
class Unit:
    """TLPs of a burst under one MAC: those from `first` up to before `behind`, and maybe an IDE Sync."""

    first: int
    behind: int
    released: int = 0
    with_sync: bool = False

    @property
    def shares(self) -> bool:
        """Return whether the MAC is that of several TLPs."""
        return self.behind - self.first + self.with_sync > 1


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
    posted_since: dict[int | None, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    """Of each stream: protected posted TLPs since the last TLP of each other sub-stream, or IDE Sync."""

    def sync_is_due(self, stream: int | None, context: int) -> bool:
        """A protected TLP goes out: return whether an IDE Sync has to follow it, and note that it does."""
        since = self.posted_since[stream]
        if context != POSTED:
            since[context] = 0
            return False
        for other in (NON_POSTED, COMPLETION):
            since[other] += 1
        due = max(since.values()) >= 245
        if due:
            since.clear()
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


def make_direction(
    tx: Engine, rx: Engine, credits: dict[bool, tuple[int, int]], replay_bytes: int
) -> Direction:
    """Return an idle direction."""
    units = replay_bytes // 16 if replay_bytes else None
    return Direction(tx, rx, credits=dict(credits), replay_free=units)


@dataclass(frozen=True)
class Passing:
    """A burst on its way to a place between two ports; last: when its last byte left a wire."""

    burst: Burst
    last: Fraction


@dataclass
class Line:
    """Bursts that reach a place one after the other."""

    bursts: deque[Passing] = field(default_factory=deque)
    latest: int = 0


@dataclass
class Drain:
    """What takes posted writes out of a root port's buffer; gaps: when it has nothing to do before `free`."""

    free: int = 0
    gaps: list[tuple[int, int]] = field(default_factory=list)

    def fits(self, ready: int, work: int, least: int) -> tuple[tuple[int, int], int]:
        """Return the first free stretch of time for a write, and when it would be drained."""
        for begin, end in self.gaps:
            drained = max(begin + work, ready + work, least)
            if drained <= end:
                return (begin, end), drained
        return (self.free, -1), max(self.free + work, ready + work, least)

    def take(self, now: int, first: int, ready: int, work: int, least: int) -> int:
        """Drain a write; return when that is done. Nothing that comes after now can use what lies before."""
        self.gaps = [gap for gap in self.gaps if gap[1] > now]
        (begin, end), drained = self.fits(ready, work, least)
        left = [(max(begin, first), max(begin, ready)), (drained, end)]
        if (begin, end) in self.gaps:
            self.gaps.remove((begin, end))
        else:
            self.free = drained
        self.gaps = sorted(self.gaps + [gap for gap in left if gap[0] < gap[1]])[:64]
        return drained


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


def ends_unit(burst: Burst, most: int, first: int, at: int, sync: bool) -> bool:
    """Return whether a TLP of a burst is the last of its unit, which begins with TLP `first` of the burst.

    sync: an IDE Sync follows, which is the last one where the unit is still open.
    """
    if len(burst.tlps) == 1:
        return True

    def double_words(tlps: Sequence[tuple[int, int]]) -> int:
        return sum(split_naive.dword_bytes(address, size) for address, size in tlps) // 4

    if at + 1 - first == most or double_words(burst.tlps[first : at + 1]) > 256:
        return True
    if sync:
        return False
    return at + 1 == len(burst.tlps) or double_words(burst.tlps[first : at + 2]) > 256


def is_head(label: str) -> bool:
    """Return whether a byte comes before what a TLP carries: a switch knows the way when it has these."""
    return label in (wire_naive.LINK_LABELS[0], "ide:prefix") or label.startswith("header:")


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
        uplinks: Sequence[Link],
        switches: Sequence[Switch],
        below: Sequence[int | None],
        phases: Sequence[tuple[int, int | None, int]],
        background: Sequence[bool],
    ) -> None:
        self.links = [*devices, *uplinks]
        """Those of the devices, then those of the switches to their root ports: rows."""
        self.switches = switches
        self.below = below or [None for _ in devices]
        """Of each device its switch, if it is behind one."""
        self.host = host
        self.engine = engine
        self.programs = steps_by_device
        self.protected = protected_by_device
        self.seed = seed
        self.stop_ps: int | None = stop_ps or None
        count = len(devices)
        self.phases = phases or [(0, None, 0) for _ in devices]
        self.background = background or [False for _ in devices]
        self.in_front = {d for d in range(count) if not self.background[d]}
        """Devices whose end those in the background wait for, if there are any."""
        self.directions = [self.make_directions(row) for row in range(len(self.links))]
        everyone = [(d, way) for d in range(count) for way in (UP, DOWN)]
        self.shared_engine = make_engine(engine, everyone)
        self.lines: dict[int, Line] = defaultdict(Line)
        self.iotlb = make_iotlb(host)
        self.drains = [Drain() for _ in self.links]
        self.unordered = [Drain() for _ in self.links]
        """The same if all could pass what is looked up."""
        self.drained = [0 for _ in devices]
        self.visible = [0 for _ in devices]
        self.all_visible = [0 for _ in self.links]
        self.seen: dict[tuple[int, int], int] = defaultdict(int)
        """(device, step) -> when its quanta so far were visible if they waited for no other write."""
        self.free_tags = [list(reversed(range(link.tags))) for link in devices]
        self.split_of: dict[tuple[int, int], int] = {}
        self.tag_ledger: dict[tuple[int, int], Ledger] = {}
        self.tag_queue: list[deque[int]] = [deque() for _ in range(count)]
        self.server_free: list[dict[int, int]] = [defaultdict(int) for _ in range(count)]
        self.rc_free_ps = 0
        self.peer_free = [0 for _ in devices]
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

    # --- the way from a device to the host ---

    def uplink(self, device: int) -> int | None:
        """Return the row of the uplink that a device is behind."""
        switch = self.below[device]
        return None if switch is None else len(self.programs) + switch

    def route(self, device: int, way: int) -> list[int]:
        """Return the links between a device and the host, in order."""
        uplink = self.uplink(device)
        rows = [device] if uplink is None else [device, uplink]
        return rows if way == UP else rows[::-1]

    def peer(self, burst: Burst) -> int | None:
        """Return the device that a burst goes to or comes from, None for the host."""
        server = self.programs[burst.device][burst.index].server
        return None if server < 0 else server

    def ends(self, burst: Burst) -> tuple[int | None, int | None]:
        """Return from which device a burst goes to which; None is the host."""
        there = self.peer(burst)
        answers = burst.kind == wire_naive.CPLD
        if there is None:
            return (None, burst.device) if burst.way == DOWN else (burst.device, None)
        return (there, burst.device) if answers else (burst.device, there)

    def turns_below(self, source: int, target: int) -> bool:
        """Return whether what goes from one device to another turns at a switch."""
        switch = self.below[source]
        return switch is not None and switch == self.below[target] and not self.switches[switch].redirects

    def hops(self, burst: Burst) -> list[tuple[int, int]]:
        """Return (link, direction) of all that a burst passes, in order."""
        source, target = self.ends(burst)
        if source is not None and target is not None and self.turns_below(source, target):
            return [(source, UP), (target, DOWN)]
        up = [] if source is None else [(row, UP) for row in self.route(source, UP)]
        down = [] if target is None else [(row, DOWN) for row in self.route(target, DOWN)]
        return up + down

    def at_switch(self, burst: Burst, row: int, way: int) -> Switch | None:
        """Return the switch at the end of a link that a burst passes, if there is one."""
        source, target = self.ends(burst)
        if way == UP and row == source:
            number = self.below[row]
        elif way == DOWN and row != target:
            number = row - len(self.programs)
        else:
            number = None
        return None if number is None else self.switches[number]

    def quantum(self, device: int) -> int:
        """Return the most bytes of a write of a device that enter together: what all its ways allow."""
        ends = {device} | {s.server for s in self.programs[device] if s.kind != DELAY and s.server >= 0}
        return min(self.links[row].quantum() for end in ends for row in self.route(end, UP))

    def make_directions(self, row: int) -> dict[int, Direction]:
        """Return both directions of a link. A switch takes in what comes: it has no credits to give."""
        link = self.links[row]
        is_uplink = row >= len(self.programs)
        found = {}
        for way in (UP, DOWN):
            credits = {posted: c for (w, posted), c in link.credits.items() if w == way}
            if (way == DOWN) if is_uplink else (way == UP and self.uplink(row) is not None):
                credits = {}
            owners: list[tuple[int | None, int | None]] = [(None, None)]
            if is_uplink and not self.engine.link_stream:
                # One end of the streams of all devices behind it.
                owners = [(d, None) for d in range(len(self.programs)) if self.uplink(d) == row]
            tx, rx = make_engine(self.engine, owners), make_engine(self.engine, owners)
            found[way] = make_direction(tx, rx, credits, link.replay_bytes)
        return found

    def has_engine(self, burst: Burst, way: int, row: int, *, sending: bool) -> bool:
        """Return whether an engine stands at an end of a link that protected TLPs pass.

        A stream ends at a device, at a root port, and a link stream at switches too.
        """
        hops = self.hops(burst)
        at = hops.index((row, way))
        if (hops[0] == (row, UP) and sending) or (hops[-1] == (row, DOWN) and not sending):
            # The device's end.
            return True
        if sending:
            by_switch = at > 0 and self.at_switch(burst, *hops[at - 1]) is not None
        else:
            by_switch = self.at_switch(burst, row, way) is not None
        return self.engine.link_stream if by_switch else not self.engine.shared

    def stream(self, burst: Burst, row: int, way: int) -> int | None:
        """Return which of the streams of a link a burst's is: None if there is but one."""
        source, target = self.ends(burst)
        several = row >= len(self.programs) and not self.engine.link_stream
        return (source if way == UP else target) if several else None

    def protects(self, burst: Burst) -> bool:
        """Return whether the policy protects a burst."""
        return self.protected[burst.device][burst.index]

    def by_engine(self, burst: Burst) -> bool:
        """Return whether a burst goes to the host's one engine before it comes to a port."""
        return self.engine.shared and burst.way == DOWN and self.protects(burst)

    def is_last_quantum(self, burst: Burst) -> bool:
        """Return whether nothing of a write comes after a burst."""
        return burst.split + 1 == len(self.splits[burst.device, burst.index])

    def is_accounted(self, burst: Burst, row: int) -> bool:
        """Return whether a ledger follows a burst over a link: of a write, the quantum that is waited for."""
        if burst.kind != wire_naive.MWR or self.is_last_quantum(burst):
            return True
        return row == self.hops(burst)[0][0] and not self.by_engine(burst)

    def units(self, burst: Burst) -> list[Unit]:
        """Return which TLPs of a burst share a MAC where no IDE Sync comes between."""
        found = []
        first = 0
        for at in range(len(burst.tlps)):
            if ends_unit(burst, self.engine.unit_tlps[burst.context], first, at, sync=False):
                found.append(Unit(first, at + 1))
                first = at + 1
        return found

    def layout(self, burst: Burst, at: int, last_of_unit: bool) -> list[str]:
        """Draw one TLP of a burst."""
        address, size = burst.tlps[at]
        return wire_naive.lay_out(
            burst.kind,
            address,
            size,
            flit=self.links[burst.device].flit,
            protected=self.protects(burst),
            pcrc=self.engine.pcrc,
            last_of_unit=last_of_unit,
        )

    def layouts(self, burst: Burst) -> list[list[str]]:
        """Draw the TLPs of a burst where no IDE Sync comes between."""
        last = {unit.behind - 1 for unit in self.units(burst)}
        return [self.layout(burst, at, at in last) for at in range(len(burst.tlps))]

    # --- events ---

    def push(self, time: int, kind: int, device: int, step: int, split: int) -> None:
        """Note an event. Ties in time go to the lower device, then step, then split, then kind."""
        heapq.heappush(self.heap, (time, device, step, split, kind))

    def run(self) -> Outcome:
        """Handle events until none is left."""
        self.link_dependents()
        while self.heap:
            time, device, step, split, kind = heapq.heappop(self.heap)
            row, way = (step // 2, step % 2) if kind == PORT and step > 1 else (device, step)
            if kind == PORT and self.directions[row][way].wake_ps != time:
                # An earlier one has taken its place.
                continue
            self.log.append((time, kind, device, step, split))
            if kind == HOP:
                rows = self.on_hop(time, step)
            elif row >= len(self.programs):
                self.directions[row][way].wake_ps = None
                rows = [row]
            else:
                self.handlers[kind](time, device, step, split)
                self.issue_reads(time, device)
                rows = self.route(device, UP)
                if kind == DATA and self.programs[device][step].server >= 0:
                    rows = [self.programs[device][step].server]
            for served in rows:
                for way in (UP, DOWN):
                    self.serve_port(time, served, way)
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
            opening = self.opening(device, ready)
            if opening is None or (self.stop_ps is not None and opening > self.stop_ps):
                return
            ready = opening
            self.begun[device][step.request] = ready
        self.moments[device][index].ready = ready
        self.push(max(ready, now), READY, device, index, 0)

    def opening(self, device: int, ready: int) -> int | None:
        """Return when a request that is due may begin: in a phase of its device, None for never."""
        start, on, every = self.phases[device]
        if on is None:
            return max(ready, start)
        while ready >= start + on and every > 0:
            start += every
        return max(ready, start) if ready < start + on else None

    def leave_front(self) -> None:
        """Once all devices in the foreground are done, nothing in the background begins any more."""
        if not self.in_front or len(self.in_front) == len(self.programs):
            return
        ends = [m.end for d in self.in_front for m in self.moments[d]]
        if None not in ends:
            last = max((end for end in ends if end is not None), default=0)
            self.stop_ps = last if self.stop_ps is None else min(last, self.stop_ps)
            self.in_front = set()

    def tell(self, now: int, device: int, index: int, moment: int, early: bool, ledger: Ledger) -> None:
        """A moment of a step is known: note it and tell those that wait for it."""
        step = self.programs[device][index]
        if ledger.at != moment:
            raise ValueError(f"a ledger up to {ledger.at} at {moment}")
        if early:
            self.moments[device][index].early = moment
        else:
            self.moments[device][index].end = moment
            self.leave_front()
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
        if step.begin and self.stop_ps is not None and now > self.stop_ps:
            # It was due before the stop was known.
            del self.begun[device][step.request]
            self.moments[device][index].ready = None
            return
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
                step.address, step.bytes, self.quantum(device)
            )
            self.offer_quantum(now, device, index, 0)

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

    def offer_quantum(self, now: int, device: int, index: int, number: int) -> None:
        """Send one quantum of a write on its way."""
        step = self.programs[device][index]
        tlps = split_naive.write_tlps(*self.splits[device, index][number], self.links[device].mps)
        way = UP if step.kind == WRITE_UP else DOWN
        self.depart(now, Burst(device, index, number, wire_naive.MWR, POSTED, tlps, way))

    def depart(self, now: int, burst: Burst) -> None:
        """A burst leaves the device, or the root complex: to its first port, or to the host's one engine."""
        if self.by_engine(burst):
            self.join(3 * len(self.links), now + self.engine.fabric_ps, burst)
        else:
            row = self.hops(burst)[0][0] if burst.way == UP else self.down_from_root(burst)
            self.queue(row, burst.way, burst)

    def down_from_root(self, burst: Burst) -> int:
        """Return the first link of a burst's way down from the root complex."""
        _, target = self.ends(burst)
        assert target is not None
        return self.route(target, DOWN)[0]

    def queue(self, row: int, way: int, burst: Burst) -> None:
        """Put a burst into the queue of a port."""
        step = self.programs[burst.device][burst.index]
        port = self.directions[row][way]
        data = way == UP and step.buffer == BUFFER_DATA and burst.kind == wire_naive.MWR
        # Behind a switch nothing passes a posted write on the way up, from whichever device it is; nor does
        # anything on the way down to a peer.
        behind = row != burst.device if way == UP else self.peer(burst) is not None
        if data or behind or burst.kind == wire_naive.CPLD:
            port.bulk.append(burst)
        else:
            port.control.append(burst)

    def join(self, station: int, time: int, burst: Burst, last: Fraction = Fraction(0)) -> int:
        """Note when a burst reaches a place between ports: not before those that came before it."""
        line = self.lines[station]
        line.latest = max(line.latest, time)
        line.bursts.append(Passing(burst, last))
        self.push(line.latest, HOP, 0, station, 0)
        return line.latest

    def on_hop(self, now: int, station: int) -> list[int]:
        """The first burst of a line is there. Return the links whose ports have more to send for it."""
        passing = self.lines[station].bursts.popleft()
        burst = passing.burst
        place, row = divmod(station, len(self.links))
        if place == 0:
            # At a switch, from a device or from an uplink.
            hops = self.hops(burst)
            came = UP if row < len(self.programs) else DOWN
            onward, way = hops[hops.index((row, came)) + 1]
            self.queue(onward, way, burst)
            return [onward]
        if place == 1:
            self.open_at_host(now, row, burst, passing.last)
            return []
        if place == 2:
            self.queue(row, DOWN, burst)
            return [row]
        if place == 4:
            # At the root complex, on the way to a peer.
            if burst.kind == wire_naive.MRD and False in self.directions[row][UP].credits:
                self.directions[row][UP].returning[False].append((now + self.links[row].credit_ps, 1, 0))
            self.depart(now, replace(burst, way=DOWN))
            return [self.down_from_root(burst)]
        self.seal_at_host(now, burst)
        return []

    def open_at_host(self, now: int, row: int, burst: Burst, last_out: Fraction) -> None:
        """A burst of a device is at the host's one engine, or passes it by in its turn."""
        spec, engine = self.engine, self.shared_engine
        checked = last = self.links[row].there(last_out)
        hold = 0
        units: list[Unit] = []
        if self.protects(burst):
            layouts = self.layouts(burst)
            works = [engine.occupancy_ps(labels) for labels in layouts]
            gap, extra = engine.enter((self.ends(burst)[0], UP, burst.context))
            start = max(now, engine.free_ps + gap) + extra
            engine.free_ps = start + sum(works)
            for unit in self.units(burst):
                rest = sum(len(labels) for labels in layouts[unit.behind :])
                there = self.links[row].there_before(last_out, rest) + spec.fabric_ps
                opened = max(start + sum(works[: unit.behind]), there + works[unit.behind - 1])
                units.append(Unit(unit.first, unit.behind, opened + spec.check_ps + spec.fabric_ps))
            # The last TLP has to be there.
            finished = max(engine.free_ps, last + spec.fabric_ps + works[-1])
            checked = finished + spec.check_ps + spec.fabric_ps
            hold = spec.hold_ps
        lane = self.directions[row][UP]
        lane.last_delivered_ps = max(lane.last_delivered_ps, checked)
        if burst.kind != wire_naive.MWR or self.is_last_quantum(burst):
            self.account(burst, row, checked - hold, "engine")
            self.account(burst, row, checked, "hold")
            self.account(burst, row, lane.last_delivered_ps, "ordering")
        self.reach(now, row, UP, burst, now, lane.last_delivered_ps, [] if spec.skid else units)

    def seal_at_host(self, now: int, burst: Burst) -> None:
        """A burst for a device is at the host's one engine."""
        spec, engine = self.engine, self.shared_engine
        row = self.down_from_root(burst)
        layouts = self.layouts(burst)
        works = [engine.occupancy_ps(labels) for labels in layouts]
        gap, extra = engine.enter((self.ends(burst)[1], DOWN, burst.context))
        start = max(now, engine.free_ps + gap) + extra
        engine.free_ps = start + sum(works)
        # The wire starts with the first TLP, and does not run dry before the last.
        goes = [start + works[0]]
        units = self.units(burst)
        for unit in units:
            if unit.behind == 1:
                # Its MAC goes with the first TLP.
                goes[0] += spec.mac_ps
            if unit.shares or unit is units[-1]:
                count = sum(len(labels) for labels in layouts[: unit.behind])
                on_wire = math.floor(count * self.links[row].ps_per_byte)
                goes.append(start + sum(works[: unit.behind]) + spec.mac_ps - on_wire)
        sealed = max(goes) + spec.pipe_ps
        at_port = self.join(2 * len(self.links) + row, sealed + spec.fabric_ps, burst)
        if burst.kind == wire_naive.MWR and not self.is_last_quantum(burst):
            if self.peer(burst) is None:
                ledger = self.ledgers[burst.device][burst.index]
                self.ledgers[burst.device][burst.index] = ledger.until(now, "engine")
                self.offer_quantum(now, burst.device, burst.index, burst.split + 1)
        else:
            self.account(burst, row, at_port, "engine")

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
            self.queue(device, UP, Burst(device, index, tag, wire_naive.MRD, NON_POSTED, [request], UP))
            mine = self.ledgers[device][index]
            self.tag_ledger[device, tag] = mine.until(now, "tags")
            if number + 1 < len(self.splits[device, index]):
                queue.append(index)
            else:
                self.tell(now, device, index, now, early=True, ledger=mine.until(now, "tags"))

    def serve_port(self, now: int, row: int, way: int) -> None:
        """Send what the port accepts by now, control before bulk; wake up when it accepts more.

        A read request without a credit lets others pass. It stays the first of all requests.
        """
        port = self.directions[row][way]
        while port.control or port.bulk or port.set_aside:
            if port.accept_ps > now:
                self.wake(port, port.accept_ps, row, way)
                return
            if port.set_aside and self.request_may_go(port, now):
                burst = port.set_aside.popleft()
                self.account(burst, row, now, "credits")
            elif port.control:
                burst = port.control.popleft()
            elif port.bulk:
                burst = port.bulk.popleft()
            else:
                if port.returning[False]:
                    self.wake(port, port.returning[False][0][0], row, way)
                return
            if burst.kind == wire_naive.MRD and way == UP:
                if not self.request_may_go(port, now):
                    self.account(burst, row, now, "arbitration")
                    port.set_aside.append(burst)
                    continue
                port.acquire(False, 1, 0)
            self.account(burst, row, now, "arbitration")
            self.send(row, way, burst, now)

    def account(self, burst: Burst, row: int, time: int, place: str) -> None:
        """Note where a burst was until now, if a ledger follows it over this link."""
        if burst.kind != wire_naive.MWR:
            mine = self.tag_ledger[burst.device, burst.split]
            self.tag_ledger[burst.device, burst.split] = mine.until(time, place)
        elif self.is_accounted(burst, row):
            self.ledgers[burst.device][burst.index] = self.ledgers[burst.device][burst.index].until(
                time, place
            )

    def reach(
        self, now: int, row: int, way: int, burst: Burst, first: int, time: int, units: Sequence[Unit] = ()
    ) -> int:
        """The last TLP of a burst can be used at the end of its way. Return when it leaves the buffer there.

        first: when its first TLP could be there. units: what its TLPs had to wait for, where they did.
        """
        device = burst.device
        there = self.peer(burst)
        if there is not None and way == UP:
            return self.turn(row, burst, first, time)
        if there is not None and burst.kind == wire_naive.MRD:
            return self.answer(there, burst, time)
        link, link_of_device = self.links[row], self.links[device]
        # What has to be drained and visible before it: RO lets data writes pass all, IDO those of others.
        before, seen = self.drains[row].free, self.all_visible[row]
        if not self.protects(burst):
            if link_of_device.ido:
                before, seen = self.drained[device], self.visible[device]
            data = burst.kind == wire_naive.MWR and self.programs[device][burst.index].buffer == BUFFER_DATA
            if link_of_device.relaxed and data:
                before = seen = 0
        if burst.kind == wire_naive.MRD:
            if link.ordered:
                time = max(time, seen)
                self.account(burst, row, time, "ordering")
            self.push(time, ARRIVE, device, burst.index, burst.split)
            return time
        if burst.kind == wire_naive.CPLD:
            self.push(time, ANSWERED, device, burst.index, burst.split)
            return time
        freed = time
        if way == UP:
            translated = first
            if self.host.iotlb_entries:
                address, _ = self.splits[device, burst.index][burst.split]
                translated = self.iotlb.translate(
                    self.seed, device, self.ordinal(device, burst.index), burst.split, address, first
                )
            works = [
                link.drain_tlp_ps + math.ceil(Fraction(size, 64)) * link.drain_line_ps
                for _, size in burst.tlps
            ]
            checked_in = link.write_latency_ps + (link.rmp_check_ps if self.protects(burst) else 0)
            work = sum(works)
            # None of a unit of several is drained before their MAC is checked.
            shared = [unit.released + sum(works[unit.first :]) for unit in units if unit.shares]
            least = max([time + works[-1], *shared])
            freed = self.drains[row].take(now, first, max(first, translated, before), work, least)
            # The same if no write waited for the lookup of another one, and if not for its own either.
            _, known = self.unordered[row].fits(first, work, time + works[-1])
            _, released = self.unordered[row].fits(first, work, least)
            alone = self.unordered[row].take(now, first, max(first, translated), work, least)
            known, released, alone = min(known, freed), min(released, freed), min(alone, freed)
            self.drained[device] = max(self.drained[device], freed)
            visible = max(freed + checked_in, seen)
            self.visible[device] = max(self.visible[device], visible)
            self.all_visible[row] = max(self.all_visible[row], visible)
            # All of it is visible when its earlier quanta are.
            mine = device, burst.index
            self.seen[mine] = max(self.seen[mine], alone + checked_in)
            if self.is_last_quantum(burst):
                ledger = self.ledgers[device][burst.index]
                ledger = ledger.until(ledger.at + released - known, "hold")
                ledger = ledger.until(ledger.at + alone - released, "iommu")
                ledger = ledger.until(alone + checked_in, "host").until(self.seen[mine], "iommu")
                time = max(visible, self.seen[mine])
                self.ledgers[device][burst.index] = ledger.until(time, "ordering")
        if self.is_last_quantum(burst):
            ledger = self.ledgers[device][burst.index]
            self.tell(now, device, burst.index, time, early=False, ledger=ledger)
        return freed

    def turn(self, row: int, burst: Burst, first: int, time: int) -> int:
        """A burst for a peer is at a root port: return when it is at the other one."""
        ready = time
        if self.host.iotlb_entries and burst.kind != wire_naive.CPLD:
            number = burst.split
            since = first
            if burst.kind == wire_naive.MRD:
                number = self.split_of[burst.device, burst.split]
                since = time
            address, _ = self.splits[burst.device, burst.index][number]
            ordinal = self.ordinal(burst.device, burst.index)
            translated = self.iotlb.translate(self.seed, burst.device, ordinal, number, address, since)
            ready = max(time, translated)
        there = self.join(4 * len(self.links) + row, ready + self.host.turn_ps, burst)
        if burst.kind != wire_naive.MWR or self.is_last_quantum(burst):
            self.account(burst, row, ready, "iommu")
            self.account(burst, row, ready + self.host.turn_ps, "host")
            self.account(burst, row, there, "ordering")
        return there

    def answer(self, device: int, burst: Burst, time: int) -> int:
        """A peer's read request is at a device: its data are ready after a while."""
        link = self.links[device]
        start = max(time, self.peer_free[device])
        self.peer_free[device] = start + link.peer_every_ps
        mine = self.tag_ledger[burst.device, burst.split]
        self.tag_ledger[burst.device, burst.split] = mine.until(start + link.peer_read_ps, "device")
        self.push(start + link.peer_read_ps, DATA, burst.device, burst.index, burst.split)
        return time

    def request_may_go(self, port: Direction, now: int) -> bool:
        """Return whether a read request has a credit by now."""
        if False not in port.credits:
            return True
        while port.returning[False] and port.returning[False][0][0] <= now:
            port.take_back(False)
        return port.credits[False][0] > 0

    def wake(self, port: Direction, time: int, row: int, way: int) -> None:
        """Look at a port again at a time, or earlier if it is to be looked at earlier anyway."""
        if port.wake_ps is None or time < port.wake_ps:
            port.wake_ps = time
            if row < len(self.programs):
                self.push(time, PORT, row, way, 0)
            else:
                self.push(time, PORT, 0, 2 * row + way, 0)

    def on_port(self, now: int, device: int, way: int, split: int) -> None:
        self.directions[device][way].wake_ps = None

    def ordinal(self, device: int, index: int) -> int:
        """Return how many transfers of the program come before a step."""
        return sum(step.kind != DELAY for step in self.programs[device][:index])

    def on_arrive(self, now: int, device: int, index: int, split: int) -> None:
        start = max(now, self.rc_free_ps)
        self.rc_free_ps = start + self.host.read_interval_ps
        row = self.route(device, UP)[-1]
        lane = self.directions[row][UP]
        number = self.split_of[device, split]
        ledger = self.tag_ledger[device, split].until(start, "host")
        if False in lane.credits:
            # The request leaves the port's buffer.
            lane.returning[False].append((start + self.links[row].credit_ps, 1, 0))
        if self.host.iotlb_entries:
            address, _ = self.splits[device, index][number]
            start = self.iotlb.translate(
                self.seed, device, self.ordinal(device, index), number, address, start
            )
            ledger = ledger.until(start, "iommu")
        named = (self.seed, device, self.ordinal(device, index), number)
        latency = self.host.read_latency(*named)
        if self.host.misses(*named):
            latency += self.host.cold_ps
            if self.host.refresh_ps:
                begin = self.host.refresh_at(self.seed, start // self.host.refresh_interval_ps)
                if begin <= start < begin + self.host.refresh_ps:
                    latency += begin + self.host.refresh_ps - start
        self.tag_ledger[device, split] = ledger.until(start + latency, "host")
        self.push(start + latency, DATA, device, index, split)

    def on_data(self, now: int, device: int, index: int, split: int) -> None:
        link = self.links[device]
        address, size = self.splits[device, index][self.split_of[device, split]]
        tlps = split_naive.completions(address, size, link.rcb, link.cpl_max)
        way = DOWN if self.programs[device][index].server < 0 else UP
        self.depart(now, Burst(device, index, split, wire_naive.CPLD, COMPLETION, tlps, way))

    def on_answered(self, now: int, device: int, index: int, split: int) -> None:
        self.free_tags[device].append(split)
        self.open_splits[device, index] -= 1
        if self.open_splits[device, index] == 0:
            self.tell(now, device, index, now, early=False, ledger=self.tag_ledger[device, split])

    # --- one burst of TLPs over one direction ---

    def send(self, row: int, way: int, burst: Burst, ready: int) -> None:
        """Send a burst over one link. Its TLPs are all ready now, or follow so that the wire stays busy."""
        device = burst.device
        link = self.links[row]
        lane = self.directions[row][way]
        protected = self.protects(burst)
        spec = self.engine
        posted = burst.context == POSTED
        # In which of them MACs are is seen only when they go out.
        layouts = self.layouts(burst)
        switch = self.at_switch(burst, row, way)
        stream = self.stream(burst, row, way)
        key = (stream, None, burst.context)
        tx = lane.tx if protected and self.has_engine(burst, way, row, sending=True) else None
        rx = lane.rx if protected and self.has_engine(burst, way, row, sending=False) else None
        lane.keep_going(link, ready)
        before = max(lane.free, Fraction(ready))
        units = sum(
            math.ceil(Fraction(sum(label.startswith(("payload:", "pad:")) for label in labels), 16))
            for labels in layouts
        )
        enters = ready
        # No credits are kept for completions of peers at a root port.
        limited = burst.kind == wire_naive.MWR or (burst.kind == wire_naive.CPLD and way == DOWN)
        if limited:
            enters = max(ready, lane.acquire(posted, len(layouts), units))
        buffered = 0
        if lane.replay_free is not None:
            buffered = buffered_units(link, burst.kind, burst.tlps, layouts, protected)
            enters = max(enters, lane.keep(buffered))
        begin = max(lane.free, Fraction(enters))
        count = carried = 0
        syncs = 0
        last = Fraction(0)
        checked = 0
        closed: list[Unit] = []
        first = 0
        for at in range(len(burst.tlps)):
            sync = protected and lane.sync_is_due(stream, burst.context)
            ends = ends_unit(burst, spec.unit_tlps[burst.context], first, at, sync)
            labels = self.layout(burst, at, ends)
            if row == device:
                self.count(device, burst.index, labels)
            checked = self.cross(link, lane, key, labels, enters, tx, rx)
            last = lane.free
            count += len(labels)
            # A Sync behind the last TLP is no part of what others wait for, but for its MAC.
            carried = count
            if ends:
                closed.append(Unit(first, at + 1, checked))
                first = at + 1
            if sync:
                syncs += 1
                # The last of the open unit, or one of its own; what it ends has content, as all writes have.
                labels = wire_naive.lay_out_sync(flit=link.flit, pcrc=spec.pcrc and not ends)
                count += len(labels)
                if row == device:
                    self.count(device, burst.index, labels)
                finished = self.cross(link, lane, (stream, None, POSTED), labels, enters, tx, rx)
                if not ends:
                    closed.append(Unit(first, at + 1, finished, with_sync=True))
                    first = at + 1
        # The engine that receives is through with the last TLP; but a MAC may be waited for.
        held = 0
        if rx is None or spec.skid:
            closed = []
        else:
            held = closed[-1].released - checked
        checked += held
        on_wire = count * link.ps_per_byte
        # The same bytes pass once more; the engines do not see them again.
        again = self.replay(row, way, count)
        lane.free += again
        last += again
        arrived = link.there(last)
        checked += again
        closed = [replace(unit, released=unit.released + again) for unit in closed]
        if rx is not None and rx.finished_ps is not None:
            rx.finished_ps += again
        self.directions[row][1 - way].owe(link, arrived, len(layouts) + syncs, ready)
        # What comes in then follows without a hole on the wire, through the engine if that is in use at all.
        ahead = spec.pipe_ps + spec.mac_ps if lane.tx.last is not None else 0
        lane.accept_ps = accepted = max(ready, math.floor(lane.free) - ahead)
        if lane.replay_free is not None:
            lane.kept.append((arrived + link.credit_ps, buffered))
        # Where the time went, up to the moment at which the next may enter and up to the end.
        base = Ledger(ready)
        if self.is_accounted(burst, row):
            if burst.kind == wire_naive.MWR:
                base = self.ledgers[device][burst.index]
            else:
                base = self.tag_ledger[device, burst.split]
        stalled = max(Fraction(0), enters - before)
        entering = base.until(ready + min(math.floor(stalled), accepted - ready), "credits")
        entering = entering.until(entering.at + min(again, accepted - entering.at), "replay")
        # What its bytes do not take is the sender's engine, which lets the wire wait.
        idled = math.floor(lane.free) - math.floor(begin) - again - math.floor(on_wire) if protected else 0
        idled = min(max(idled, 0), accepted - entering.at)
        entering = entering.until(accepted - idled, "serialisation").until(accepted, "engine")
        ledger = base.until(enters, "credits").until(math.floor(begin), "arbitration")
        # Up to here, less the flight, it was on the wire or held up by the engine that sends.
        until = arrived
        if switch is not None and not (protected and spec.link_stream):
            hops = self.hops(burst)
            following = self.links[hops[hops.index((row, way)) + 1][0]]
            if switch.cut_through:
                head = sum(is_head(label) for label in layouts[0])
                until = self.head_and_no_gap(link, following, last, carried, head)
            checked = until
        span = until - link.way_ps - ledger.at - again
        # What is last waits for the end of its flit.
        for_flit = link.there(last) - link.way_ps - math.ceil(last)
        on_wire_ps = min(math.floor(on_wire) + for_flit, span) if protected else span
        ledger = ledger.until(ledger.at + on_wire_ps, "serialisation").until(
            ledger.at + on_wire_ps + again, "replay"
        )
        ledger = ledger.until(until - link.way_ps, "engine").until(until, "wire")
        hold = spec.hold_ps + held if rx is not None else 0
        ledger = ledger.until(checked - hold, "engine").until(checked, "hold")
        if switch is not None:
            checked += switch.latency_ps
            ledger = ledger.until(checked, "wire")
        # What is not protected goes there only to stay behind what is.
        busy = bool(self.lines[len(self.links) + row].bursts)
        to_engine = spec.shared and way == UP and switch is None and (protected or busy)
        if not to_engine:
            lane.last_delivered_ps = max(checked, lane.last_delivered_ps)
            ledger = ledger.until(lane.last_delivered_ps, "ordering")
        self.entered(row, burst, ready, entering, ledger)
        # Room comes back in order, and those before it may have waited for the drain.
        freed = max(arrived + spec.fabric_ps, self.drains[row].free)
        if to_engine:
            there = arrived
            if protected:
                # From its first TLP on.
                there = link.there_before(last, carried - len(layouts[0])) + spec.fabric_ps
            self.join(len(self.links) + row, there, burst, last)
        elif switch is not None:
            self.join(row, lane.last_delivered_ps, burst)
        else:
            first_there = ready + link.way_ps
            freed = self.reach(ready, row, way, burst, first_there, lane.last_delivered_ps, closed)
        if posted in lane.credits and limited:
            lane.returning[posted].append((freed + link.credit_ps, len(layouts), units))
            # A write that has passed others gives its credits back before them.
            lane.returning[posted] = deque(sorted(lane.returning[posted], key=lambda back: back[0]))

    def head_and_no_gap(self, link: Link, following: Link, last: Fraction, carried: int, head: int) -> int:
        """Return when a burst may go on: its head is there, and the next wire does not run dry behind it."""
        start = link.there_before(last, carried - head)
        if not link.flit:
            return max(start, link.there(last) - math.floor(carried * following.ps_per_byte))
        ends = [last - before * link.ps_per_byte for before in reversed(range(carried))]
        for number in range(link.flit_of(ends[head - 1]) + 1, link.flit_of(last) + 1):
            before = sum(link.flit_of(end) < number for end in ends)
            there = link.flit_end(number) + link.way_ps
            start = max(start, there - math.floor(before * following.ps_per_byte))
        return start

    def entered(self, row: int, burst: Burst, now: int, entering: Ledger, ledger: Ledger) -> None:
        """A burst has entered a link: tell who waits for that of its first one, and keep its ledger."""
        device = burst.device
        if burst.kind != wire_naive.MWR:
            self.tag_ledger[device, burst.split] = ledger
            return
        first = row == self.hops(burst)[0][0]
        if not self.is_last_quantum(burst):
            if first and not self.by_engine(burst):
                self.ledgers[device][burst.index] = entering
                self.offer_quantum(now, device, burst.index, burst.split + 1)
            return
        self.ledgers[device][burst.index] = ledger
        if first:
            self.tell(now, device, burst.index, entering.at, early=True, ledger=entering)

    def replay(self, row: int, way: int, count: int) -> int:
        """So many bytes pass the wire: return for how long errors keep them from it, ps."""
        link = self.links[row]
        lane = self.directions[row][way]
        if not link.error_every:
            return 0

        def distance(number: int) -> int:
            return 1 + link.error_distance(self.seed, row, way, number)

        if lane.error_in is None:
            lane.error_in = distance(0)
        left = lane.error_in - count
        time = 0
        # When the bytes of the burst end, as if they had left one behind the other, the last one first.
        ends = [lane.free - before * link.ps_per_byte for before in range(count)]
        while left <= 0:
            lane.errors += 1
            if link.flit:
                # The sender begins again with the flit in error, once it has the Nak and a flit is over.
                hit = link.flit_of(ends[-left])
                nak = Fraction(link.flit_end(hit) + link.way_ps + link.nak_ps)
                time += link.flit_end(link.flit_of(nak)) - link.flit_end(hit - 1)
                left = distance(lane.errors) - sum(link.flit_of(end) >= hit for end in ends)
            else:
                time += link.way_ps + link.nak_ps + math.ceil(count * link.ps_per_byte)
                left += distance(lane.errors) - count
        lane.error_in = left
        return time

    def cross(
        self,
        link: Link,
        lane: Direction,
        key: Key,
        labels: list[str],
        ready: int,
        tx: Engine | None,
        rx: Engine | None,
    ) -> int:
        """Take one TLP over a direction; return when it can be used at the other end."""
        spec = self.engine
        wire_time = len(labels) * link.ps_per_byte
        lane.since_skip += len(labels)
        out = max(ready, lane.last_out_ps)
        begin = max(lane.free, Fraction(out))
        if tx is not None:
            gap, extra = tx.enter(key)
            start = max(ready, tx.free_ps + gap) + extra
            tx.free_ps = start + tx.occupancy_ps(labels)
            out = max(start + spec.pipe_ps, lane.last_out_ps)
            # The last byte, and the MAC behind it, cannot leave before the engine has made them.
            complete = Fraction(tx.free_ps + spec.pipe_ps + (spec.mac_ps if "ide:mac" in labels else 0))
            begin = max(lane.free, Fraction(out), complete - wire_time)
        lane.last_out_ps = out
        lane.free = begin + wire_time
        arrive = link.there(lane.free)
        if rx is None:
            return arrive
        gap, extra = rx.enter(key)
        # The engine takes a byte in when it is here, and the TLP before has passed.
        taken = link.there_before(lane.free, len(labels) - 1) if link.flit else arrive - math.floor(wire_time)
        if rx.finished_ps is not None:
            taken = max(taken, rx.finished_ps + gap)
        rx.finished_ps = max(arrive, taken + rx.occupancy_ps(labels)) + extra
        return rx.finished_ps + spec.check_ps

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
    uplinks: Sequence[Link] = (),
    switches: Sequence[Switch] = (),
    below: Sequence[int | None] = (),
    phases: Sequence[tuple[int, int | None, int]] = (),
    background: Sequence[bool] = (),
) -> Outcome:
    """Run programs over links and return what happened.

    `protected_by_device` marks the steps whose TLPs are encrypted; none may be marked without an engine.
    A step with `begin` that becomes ready after `stop_ps` (0: no stop) never runs, nor what waits for it.
    `below` names the switch that each device is behind, None for none; `uplinks` are those of the switches.
    `phases`, of each device: from when its requests begin, for how long (None: for ever) and how often (0:
    once), ps.
    `background`: devices of which no request begins after the end of the last of the others.
    """
    if engine is None and any(any(marks) for marks in protected_by_device):
        raise ValueError("protected traffic needs an engine")
    unused = EngineSpec(0, 1, 0, 0, 0, 0)
    engine = engine or unused
    return Simulation(
        devices,
        host,
        engine,
        steps_by_device,
        protected_by_device,
        seed,
        stop_ps,
        uplinks,
        switches,
        below,
        phases,
        background,
    ).run()
