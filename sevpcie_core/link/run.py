"""Run programs over links: allocate the kernel's state, feed it chunks, hand back what it counted.

Rule: memory depends on what is in flight, not on the length of a run (kept requests are capped).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import MisuseError, RunError
from ..spec import REGION
from ..stats.draw import exponential_table, quantile_table
from ..stats.hist import BUCKETS, Histogram
from ..workload.phase import ALWAYS
from ..workload.program import BEGIN, END, FOREVER, STEP, Chunk, Program
from . import kernel, layout
from .hop import CONTEXTS_PER_DEVICE, context_of
from .params import (
    CACHED,
    CONTEXTS,
    CREDITS,
    DEN,
    ERROR_EVERY,
    NO_IOMMU,
    NUM,
    PATH,
    REPLAY_UNITS,
    TAGS,
    UPLINK,
    Iommu,
    Memory,
    link_row,
)
from .places import PLACES

# Marks the steps of a chunk that the policy protects: steps -> bool[n].
Marker = Callable[[np.ndarray], np.ndarray]

_FIRST_RING = 1 << 10
# Bursts on their way to one station, at first.
_FIRST_LINE = 1 << 6
# 0.8 GiB of steps in flight.
_LARGEST_RING = 1 << 22
PS_PER_HOUR = 3_600 * 10**12


@dataclass(frozen=True)
class ClassResult:
    """What one request class of one device did.

    ledger_ps : where the time of its requests went, by `places.PLACES`; the sum is that of the latencies.
    Empty unless it was asked for.
    """

    device: int
    name: str
    pooled: bool
    requests: int
    latency: Histogram
    io_path: Histogram
    payload_bytes: int
    wire_bytes: int
    tlps: int
    link_bytes: int
    ide_bytes: int
    application_bytes: int
    first_start_ps: int
    last_end_ps: int
    stalls_ps: dict[str, int]
    ledger_ps: dict[str, int]


@dataclass(frozen=True)
class Outcome:
    """A finished run.

    kept_ps, kept_io_ps : int64[D, K], latency of the first K requests of each device, -1 where not run.
    busy : per device and resource, the share of the device's time that the resource was busy; of what others
        use too, of the whole run's.
    job_ps : per device, first start to last end of all steps. span_ps : the same of all devices.
    maintenance_bytes : per link and direction (up, down), DLLPs and ordered sets put on the wire; first the
        links of the devices, then those of the switches to their root ports.
    wire_ps : per link and direction, for how long the wire carried TLPs, DLLPs and ordered sets.
    iotlb : lookups and misses of all devices. errors : of the wire, per link and direction.
    seconds : CPU time of the event loop and of loading steps into it.
    """

    classes: tuple[ClassResult, ...]
    kept_ps: np.ndarray
    kept_io_ps: np.ndarray
    busy: tuple[dict[str, float], ...]
    job_ps: tuple[int, ...]
    span_ps: int
    maintenance_bytes: tuple[tuple[int, int], ...]
    wire_ps: tuple[tuple[float, float], ...]
    iotlb: tuple[int, int]
    errors: tuple[tuple[int, int], ...]
    tlps: int
    seconds: float


_REFUSED = {
    kernel.BAD_SIZE: "a transfer without bytes, or of more than {most}, as many as fit a run",
    kernel.BAD_DEPENDENCY: "a step that waits for one beyond the reach of its program, or before its start",
    kernel.BAD_PEER: "a transfer with a peer that its program does not have",
    kernel.BAD_SERVER: "a step that occupies a server which its program does not have",
}


def _grown(ring: np.ndarray, size: int, device: np.ndarray) -> np.ndarray:
    """Return a ring of `size` entries with the same steps, requests and queue, each in its slot there."""
    old_size = ring.shape[1]
    new = np.zeros((len(ring), size, layout.RING_COLUMNS), np.int64)
    new[..., layout.DONE] = 1
    for d, row in enumerate(device[: len(ring)]):
        loaded = int(row[layout.LOADED])
        steps = np.arange(max(0, loaded - old_size), loaded)
        requests = np.unique(ring[d, steps & (old_size - 1), layout.REQUEST])
        requests = requests[requests >= 0]
        queue = np.arange(int(row[layout.QUEUE_HEAD]), int(row[layout.QUEUE_TAIL]))
        for columns, ids in (
            (slice(0, layout.BEGUN), steps),
            (slice(layout.BEGUN, layout.QUEUED), requests),
            (slice(layout.QUEUED, layout.RING_COLUMNS), queue),
        ):
            new[d, ids & (size - 1), columns] = ring[d, ids & (old_size - 1), columns]
    return new


def _grown_ledger(ledger: np.ndarray, size: int, device: np.ndarray) -> np.ndarray:
    """Return the same for the ledgers of the steps."""
    old_size = ledger.shape[1]
    new = np.zeros((len(ledger), size, layout.LEDGER_COLUMNS), np.int64)
    for d, row in enumerate(device[: len(ledger)]):
        loaded = int(row[layout.LOADED])
        steps = np.arange(max(0, loaded - old_size), loaded)
        new[d, steps & (size - 1)] = ledger[d, steps & (old_size - 1)]
    return new


def _heap_and_queues(ring: np.ndarray, links: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Allocate for the most that can be in them: one entry per step in flight and per tag.

    Behind a first port more quanta of a step may wait; then the kernel asks for more.
    """
    devices, size = ring.shape[:2]
    heap = np.zeros(2 * (1 + devices * size + int(links[:, TAGS].sum())), np.int64)
    # By the link of a peer come the answers to all who read from it.
    entries = size + int(links[:, TAGS].sum() if links[:, PATH].any() else links[:, TAGS].max())
    return heap, np.zeros((len(links), 4, 1 << (entries - 1).bit_length()), np.int64)


def _moved(old: np.ndarray, new: np.ndarray, head: int, tail: int) -> None:
    """Copy what lies between two counts of a ring, each entry to its slot in a larger one."""
    ids = np.arange(head, tail)
    new[ids & (len(new) - 1)] = old[ids & (len(old) - 1)]


def _grown_waiting(waiting: np.ndarray, new: np.ndarray, device: np.ndarray) -> np.ndarray:
    """Return the larger queues with what waits in them."""
    for row, queue in np.ndindex(waiting.shape[:2]):
        head, tail = device[row, layout.HEAD + queue], device[row, layout.TAIL + queue]
        _moved(waiting[row, queue], new[row, queue], int(head), int(tail))
    return new


def _grown_lines(state: layout.State) -> layout.State:
    """Return the same with twice the room in all lines and queues of bursts on their way."""
    lines, size, columns = state.line.shape
    line = np.zeros((lines, 2 * size, columns), np.int64)
    for station, (head, tail, _) in enumerate(state.line_at.tolist()):
        _moved(state.line[station], line[station], head, tail)
    rows, queues, entries = state.waiting.shape
    waiting = np.zeros((rows, queues, 2 * entries), np.int64)
    return state._replace(line=line, waiting=_grown_waiting(state.waiting, waiting, state.device))


def _keys(links: np.ndarray, devices: int) -> np.ndarray:
    """Return `State.key` before traffic: all keys are loaded, as far as they fit."""
    key = np.full((2 * len(links) + 1, 1 + CONTEXTS_PER_DEVICE * devices), -1, np.int64)
    for row in range(devices, len(links)):
        mine = [d for d in range(devices) if links[d, UPLINK] == row]
        contexts = [context_of(d, 0, sub) for d in mine for sub in range(CONTEXTS)]
        key[2 * row : 2 * row + 2, 1 : 1 + len(contexts)] = contexts
    key[-1, 1:] = np.arange(CONTEXTS_PER_DEVICE * devices)
    return key


def simulate(
    programs: Sequence[Program],
    links: np.ndarray,
    *,
    host_table: np.ndarray,
    read_interval_ps: int,
    seed: int,
    markers: Sequence[Marker],
    iommu: Iommu = NO_IOMMU,
    memory: Memory = CACHED,
    stop_ps: int = 0,
    keep: int = 0,
    ledger: bool = False,
) -> Outcome:
    """Run one program per device, all behind one root complex.

    Parameters
    ----------
    programs : one per device.
    links : int64[D, LINK_COLUMNS], or with rows for the uplinks of switches behind: `params.behind_switches`.
        Where programs have peers: `params.with_peers`.
    host_table : int64[4097], ps, see `stats.draw.quantile_table`: reads that find all in the cache.
    markers : per device, which steps are protected.
    iommu : before all devices; none by default. memory : what is not in the cache; all is by default.
    stop_ps : no request starts later; 0 for no limit.
    keep : keep the latency of this many first requests per device.
    ledger : tell where the time of the requests went.

    Raises
    ------
    MisuseError : a program that the simulator cannot hold.
    RunError : a request that never ended (a resource that is never returned).
    """
    devices = len(programs)
    if any(p.peers for p in programs) and not links[:, PATH].all():
        raise MisuseError("programs with peers, over links that are not made for them")
    if not 0 < devices <= layout.MAX_DEVICES:
        raise MisuseError(f"{devices} devices; 1 to {layout.MAX_DEVICES} can run together")
    rows = len(links)
    peers = devices if any(p.peers for p in programs) else 0
    names = [(d, name) for d, p in enumerate(programs) for name in p.stats]
    first_class = np.cumsum([0, *[len(p.stats) for p in programs]])
    iterators = [p.chunks() for p in programs]

    device = np.zeros((rows, layout.DEVICE_COLUMNS), np.int64)
    # Uplinks have no program.
    device[devices:, layout.EXHAUSTED] = 1
    device[:, layout.STARVED_SINCE] = -1
    device[:, layout.FIRST_STEP] = FOREVER
    device[:, layout.FREE_TAGS] = links[:, TAGS]
    # At least 1, so that nobody is done before it is known that no chunk follows.
    device[:devices, layout.REACH] = [max(p.reach, 1) for p in programs]
    phases = [p.phase for p in programs]
    device[:devices, layout.PHASE_FROM] = [phase.from_ps for phase in phases]
    device[:devices, layout.PHASE_ON] = [0 if phase == ALWAYS else phase.on_ps for phase in phases]
    device[:devices, layout.PHASE_EVERY] = [phase.every_ps for phase in phases]
    front = [not p.background for p in programs]
    mixed = any(front) and not all(front)
    for d, program in enumerate(programs):
        if mixed and front[d] and program.phase.on_ps < FOREVER and not program.phase.every_ps:
            raise MisuseError(f"device {d}: a phase that ends, while others run for as long as it does")
    device[:devices, layout.FOREGROUND] = front if mixed else 0
    device[:, layout.ENGINE_LAST : layout.ENGINE_BUSY] = -1
    device[:, layout.RECENCY : layout.PR_SENT] = np.tile(np.arange(CONTEXTS), 4)
    device[:, layout.PARKED_SINCE] = -1
    device[:, layout.HEADERS : layout.HEADERS + 4] = links[:, CREDITS : CREDITS + 8 : 2]
    device[:, layout.DATA_UNITS : layout.DATA_UNITS + 4] = links[:, CREDITS + 1 : CREDITS + 8 : 2]
    replay = layout.DATA_UNITS + layout.REPLAY
    device[:, replay : replay + 2] = links[:, REPLAY_UNITS : REPLAY_UNITS + 1]
    tags = int(links[:, TAGS].max())
    most_headers = max(int(links[:, CREDITS : CREDITS + 8 : 2].max()), 1)
    sets = iommu.entries // iommu.ways
    host = np.zeros(layout.HOST_COLUMNS, np.int64)
    host[layout.READ_INTERVAL] = read_interval_ps
    host[layout.PAGE_SHIFT] = iommu.page_shift
    host[layout.SET_MASK] = sets - 1
    host[layout.MISSING] = round(memory.miss_share * 2**layout.MISS_BITS)
    host[layout.COLD_PS] = memory.cold_ps
    host[layout.REFRESH_PS] = memory.refresh_ps
    host[layout.REFRESH_EVERY] = memory.refresh_interval_ps
    errors = [exponential_table(max(int(every), 1)) for every in links[:, ERROR_EVERY]]
    tables = np.stack([host_table, quantile_table(iommu.walk), *errors])
    units = int(links[:, REPLAY_UNITS].max())
    count = np.zeros((len(names), layout.COUNT_COLUMNS), np.int64)
    count[:, layout.FIRST_START] = FOREVER
    ring = np.zeros((devices, _FIRST_RING, layout.RING_COLUMNS), np.int64)
    ring[..., layout.DONE] = 1
    heap, waiting = _heap_and_queues(ring, links)
    heap[1] = stop_ps or FOREVER
    scalar = np.zeros(layout.SCALARS, np.int64)
    scalar[layout.WANTED] = sum(front) if mixed else 0
    stations = 5 * rows if peers else 3 * rows + 1 if links[:, PATH].any() else 0
    state = layout.State(
        heap=heap,
        timer=np.full((rows * layout.TIMERS + stations, 2), FOREVER, np.int64),
        flight=np.zeros((devices, 2, 1 << int(links[:, TAGS].max()).bit_length(), 2), np.int64),
        scalar=scalar,
        device=device,
        ring=ring,
        waiting=waiting,
        server=np.zeros((devices, max(1, *[p.servers for p in programs], 1), 2), np.int64),
        count=count,
        histogram=np.zeros((2, len(names), BUCKETS), np.int64),
        kept=np.full((2, devices, keep), -1, np.int64),
        parked=np.zeros((rows, 1 << int(links[:devices, TAGS].sum()).bit_length()), np.int64),
        owed=np.zeros((rows, 2, layout.OWED_ENTRIES, 2), np.int64),
        credit=np.zeros((rows, 6, 1 << (max(most_headers, units) - 1).bit_length(), 3), np.int64),
        tag=np.zeros((devices, 1 + tags, layout.TAG_COLUMNS), np.int64),
        free=np.tile(np.arange(tags)[::-1], (devices, 1)),
        ledger=np.zeros((devices, len(ring[0]) if ledger else 0, layout.LEDGER_COLUMNS), np.int64),
        spent=np.zeros((len(names), len(PLACES)), np.int64),
        iotlb=np.full((max(sets, 1), iommu.ways, 2), -1, np.int64),
        walker=np.zeros(iommu.walkers, np.int64),
        line=np.zeros((stations, _FIRST_LINE, layout.LINE_COLUMNS), np.int64),
        line_at=np.zeros((stations, 3), np.int64),
        key=_keys(links, devices) if stations else np.zeros((2 * rows + 1, 1), np.int64),
    )
    # Positions count fractions of a ps in 64 bits; what is on its way then has room to arrive.
    latest = (1 << 62) // int(links[:, DEN].max())
    device[:, layout.LATEST] = latest
    device[:, layout.NAMED] = layout.DOWN
    device[0, layout.NAMED] = max(layout.DOWN, stations - 1)
    seconds = 0.0
    while True:
        begin = time.thread_time()
        d = kernel.advance(state, links, host, tables, seed, latest)
        while d == kernel.GROW:
            state = _grown_lines(state)
            if kernel.resume(state, links, host, tables, seed) != kernel.GROW:
                d = kernel.advance(state, links, host, tables, seed, latest)
        seconds += time.thread_time() - begin
        if d < 0:
            break
        chunk = next(iterators[d], None)
        if chunk is None:
            device[d, layout.EXHAUSTED] = 1
            if device[d, layout.FOREGROUND] and device[d, layout.OLDEST] == device[d, layout.LOADED]:
                kernel.leave(state, d)
            continue
        steps = chunk.steps
        needed = int(device[d, layout.LOADED] - device[d, layout.OLDEST]) + len(steps) + programs[d].reach
        if needed > _LARGEST_RING:
            raise RunError(
                f"device {d}: {needed} steps in flight; at most {_LARGEST_RING} fit "
                "(more arrives than is carried, or one never ends)"
            )
        if needed > state.ring.shape[1]:
            ring = _grown(state.ring, 1 << (needed - 1).bit_length(), device)
            heap, waiting = _heap_and_queues(ring, links)
            heap[: len(state.heap)] = state.heap
            if waiting.shape[2] < state.waiting.shape[2]:
                waiting = np.zeros_like(state.waiting)
            waiting = _grown_waiting(state.waiting, waiting, device)
            accounts = _grown_ledger(state.ledger, ring.shape[1], device) if ledger else state.ledger
            state = state._replace(ring=ring, heap=heap, waiting=waiting, ledger=accounts)
        most = layout.most_bytes(links[d])
        program = programs[d]
        sealed = markers[d](steps)
        begin = time.thread_time()
        status = kernel.load(
            state, d, int(first_class[d]), program.reach, program.servers, peers, most, steps, sealed
        )
        seconds += time.thread_time() - begin
        if status != kernel.LOADED_OK:
            raise MisuseError(f"device {d}: {_REFUSED[status].format(most=most)}")
        device[d, layout.HORIZON] = chunk.horizon_ps

    if d == kernel.TOO_LONG:
        hours = latest / PS_PER_HOUR
        raise RunError(
            f"more than {hours:.1f} h of simulated time; expected less (fewer requests, shorter pauses)"
        )
    if state.histogram[:, :, -1].any():
        raise RunError("a request took more than 18 minutes of simulated time; expected less")
    return _outcome(programs, links, names, state, seconds)


def _wire_ps(device: np.ndarray, link: np.ndarray) -> tuple[float, float]:
    """Return for how long the directions carried TLPs, DLLPs and ordered sets, ps."""
    ticks = device[layout.LINK_BUSY : layout.LINK_BUSY + 2]
    rest = device[layout.DLLPS : layout.DLLPS + 2]
    up, down = (ticks + rest * link[NUM]) / link[DEN]
    return float(up), float(down)


def warm_up() -> None:
    """Compile the simulator, or load it from the cache, so that no run's time holds that."""
    steps = np.zeros(1, STEP)
    steps["flags"] = BEGIN | END
    steps["server"] = -1
    program = Program(
        stats=("none",),
        pooled=1,
        chunks=lambda: iter([Chunk(steps, FOREVER)]),
        regions=np.zeros(0, REGION),
        reach=1,
        servers=0,
        open_loop=False,
    )
    link = link_row(
        generation=1, lanes=1, mps=128, mrrs=128, rcb=64, completion_bytes=128, propagation_ps=0, tags=1
    )
    simulate(
        [program],
        link[None],
        host_table=quantile_table(((0.0, 0), (1.0, 0))),
        read_interval_ps=0,
        seed=0,
        markers=[lambda s: np.zeros(len(s), np.bool_)],
    )


def _outcome(
    programs: Sequence[Program],
    links: np.ndarray,
    names: list[tuple[int, str]],
    s: layout.State,
    seconds: float,
) -> Outcome:
    """Read the counters of a finished run."""
    parked = np.flatnonzero(s.device[:, layout.PARKED_HEAD] < s.device[:, layout.PARKED_TAIL])
    if parked.size:
        raise RunError(f"device {parked[0]}: read requests wait for credits that never come back")
    starved = np.flatnonzero(s.device[:, layout.QUEUE_HEAD] < s.device[:, layout.QUEUE_TAIL])
    if starved.size:
        raise RunError(f"device {starved[0]}: reads wait for tags that never come back")
    classes = []
    for row, (d, name) in enumerate(names):
        c = [int(v) for v in s.count[row]]
        classes.append(
            ClassResult(
                device=d,
                name=name,
                pooled=programs[d].stats.index(name) < programs[d].pooled,
                requests=c[layout.REQUESTS],
                latency=Histogram.from_dense(s.histogram[0, row], c[layout.LATENCY]),
                io_path=Histogram.from_dense(s.histogram[1, row], c[layout.IO_PATH]),
                payload_bytes=c[layout.PAYLOAD],
                wire_bytes=c[layout.WIRE],
                tlps=c[layout.TLPS],
                link_bytes=c[layout.LINK],
                ide_bytes=c[layout.IDE],
                application_bytes=c[layout.APPLICATION],
                first_start_ps=c[layout.FIRST_START],
                last_end_ps=c[layout.LAST_END],
                stalls_ps={
                    "device": c[layout.STALL_DEVICE],
                    "host": c[layout.STALL_HOST],
                    "tags": c[layout.STALL_TAGS],
                    "link": c[layout.STALL_LINK],
                    "engine": c[layout.STALL_ENGINE],
                    "credits": c[layout.STALL_CREDITS],
                    "iommu": c[layout.STALL_IOMMU],
                },
                ledger_ps=dict(zip(PLACES, s.spent[row].tolist(), strict=True)) if s.ledger.shape[1] else {},
            )
        )
    busy = []
    jobs = []
    wires = tuple(_wire_ps(s.device[r], links[r]) for r in range(len(links)))
    moments = s.device[: len(programs), [layout.FIRST_STEP, layout.LAST_STEP]]
    ran = moments[moments[:, 1] >= moments[:, 0]]
    span = max(int(ran[:, 1].max() - ran[:, 0].min()), 1) if len(ran) else 1
    for d in range(len(programs)):
        job = max(int(moments[d, 1] - moments[d].min()), 1)
        jobs.append(job)
        # The others are cores of the host; of arrays as long as the most servers of any device.
        own = programs[d].servers - programs[d].cores
        # The links of its way. What others use too counts for each of them, as a share of the whole run.
        ends = [d, *sorted(programs[d].peers)]
        way = ends + [int(row) for row in links[ends, UPLINK] if row > 0]
        alone = not any(d in program.peers for program in programs)
        times = {row: job if row == d and alone else span for row in way}
        busy.append(
            {
                "link": max(max(wires[r]) / times[r] for r in way),
                "tags": float(s.device[d, layout.STARVED] / job),
                "credits": max(float(s.device[r, layout.PARKED] / times[r]) for r in way),
                "iommu": float(s.scalar[layout.WALKER_BUSY] / len(s.walker) / span),
                "engine": max(
                    float(s.scalar[layout.SHARED_BUSY] / span),
                    *(float(s.device[r, layout.ENGINE_BUSY : layout.RECENCY].max() / times[r]) for r in way),
                ),
                "host": max(
                    float(s.scalar[layout.HOST_BUSY] / span),
                    float(s.server[d, own:, 1].max(initial=0) / job),
                ),
                "device": float(s.server[d, :own, 1].max(initial=0) / job),
            }
        )
    return Outcome(
        tuple(classes),
        s.kept[0],
        s.kept[1],
        tuple(busy),
        tuple(jobs),
        span,
        tuple((int(row[layout.DLLPS]), int(row[layout.DLLPS + 1])) for row in s.device),
        wires,
        (int(s.scalar[layout.LOOKUPS]), int(s.scalar[layout.MISSES])),
        # The first count is the draw of the first error's place.
        tuple(
            (max(int(e[0]) - 1, 0), max(int(e[1]) - 1, 0))
            for e in s.device[:, layout.ERRORS : layout.ERRORS + 2]
        ),
        sum(c.tlps for c in classes),
        seconds,
    )
