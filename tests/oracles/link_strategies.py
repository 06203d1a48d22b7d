"""Hypothesis strategies for small programs, links and engines.

A program is a list of requests, each a group of consecutive steps: the first begins it, the last ends it and
descends from the first; steps may also wait for any earlier step of the device. Times come partly from a few
round values, so that ties between events are common.
"""

from dataclasses import replace

from hypothesis import strategies as st

from sevpcie_core.link.params import Credits, DataLink, EngineTiming, Iommu, Memory, Peer, RootPort, Switch
from sevpcie_core.workload.phase import ALWAYS, FOREVER, Phase

from .link_cases import Case, Port
from .link_heapq import DELAY, READ_UP, WRITE_DOWN, WRITE_UP, Step

FOUR_GIB = 1 << 32

times = st.one_of(st.sampled_from([0, 0, 0, 1000, 5000, 100_000, 1_000_000]), st.integers(0, 2_000_000))
short_times = st.one_of(st.sampled_from([0, 0, 1000, 5000]), st.integers(0, 200_000))
sizes = st.one_of(
    st.sampled_from([4, 16, 64, 512, 4096]),
    st.integers(1, 300),
    st.integers(1, 4200),
    st.integers(4000, 12_000),
)
addresses = st.one_of(
    st.integers(0, 64).map(lambda k: k * 4096),
    st.integers(0, 1 << 16),
    st.integers(FOUR_GIB, FOUR_GIB + 10_000),
    st.integers(FOUR_GIB - 9000, FOUR_GIB),
)


@st.composite
def buffers(draw: st.DrawFn, mps: int, mrrs: int, completion_bytes: int) -> Credits:
    """Buffers of one end of a link: tight, or infinite by class."""
    posted = draw(st.booleans())
    completions = draw(st.booleans())
    return Credits(
        posted_headers=draw(st.integers(1, 12)) if posted else 0,
        posted_data=mps // 16 + draw(st.integers(0, 40)) if posted else 0,
        non_posted_headers=draw(st.sampled_from([0, 1, 1, 2, 5, 64])),
        completion_headers=-(-mrrs // completion_bytes) + 1 + draw(st.integers(0, 5)) if completions else 0,
        completion_data=mrrs // 16 + 1 + draw(st.integers(0, 40)) if completions else 0,
    )


data_links = st.one_of(
    st.just(DataLink()),
    st.builds(
        DataLink,
        ack_every=st.sampled_from([0, 1, 2, 5]),
        update_every=st.sampled_from([0, 1, 3]),
        credit_ps=st.sampled_from([0, 1000, 54_321, 300_000]),
        skip_every=st.sampled_from([0, 100, 1500]),
        skip_bytes=st.sampled_from([4, 16]),
        replay_bytes=st.sampled_from([0, 0, 9000, 20_000]),
        bit_error_rate=st.sampled_from([0, 0, 1e-5, 1e-6]),
        nak_ps=st.sampled_from([0, 77_777]),
    ),
)

root_ports = st.one_of(
    st.just(RootPort()),
    st.builds(
        RootPort,
        drain_tlp_ps=st.sampled_from([0, 2000, 33_333]),
        drain_line_ps=st.sampled_from([0, 500, 7_777]),
        write_latency_ps=st.sampled_from([0, 1000, 200_000]),
        ordered=st.booleans(),
        rmp_check_ps=st.sampled_from([0, 5000]),
    ),
)

memories = st.one_of(
    st.just(Memory()),
    st.builds(
        lambda share, cold, refresh, more: Memory(share, cold, refresh, refresh + more if refresh else 0),
        st.sampled_from([0.3, 1.0]),
        st.sampled_from([0, 35_745]),
        st.sampled_from([0, 1, 260_000]),
        st.sampled_from([1, 40_000, 7_540_000]),
    ),
)

iommus = st.one_of(
    st.just(Iommu()),
    st.builds(
        lambda sets, ways, shift, walkers, low, spread: Iommu(
            sets * ways, ways, shift, walkers, ((0.0, low), (1.0, low + spread))
        ),
        st.sampled_from([1, 2, 4]),
        st.integers(1, 4),
        st.sampled_from([12, 13, 21]),
        st.integers(1, 3),
        st.sampled_from([0, 1000, 230_000]),
        st.sampled_from([0, 0, 100_000]),
    ),
)


@st.composite
def ports(draw: st.DrawFn, *, like: Port | None = None) -> Port:
    """Any link that can be configured, or any whose TLPs are those of another."""
    mps = draw(st.sampled_from([128, 256, 512, 4096]))
    mrrs = draw(st.sampled_from([128, 256, 512, 4096]))
    rcb = draw(st.sampled_from([64, 128]))
    completion_bytes = draw(st.integers(1, mps // rcb)) * rcb
    generations = (1, 7)
    if like is not None:
        mps, rcb, completion_bytes = like.mps, like.rcb, like.completion_bytes
        generations = (6, 7) if like.generation >= 6 else (1, 5)
    limited = draw(st.booleans())
    generation = draw(st.integers(*generations))
    return Port(
        generation=generation,
        lanes=draw(st.sampled_from([1, 2, 4, 8, 16])),
        propagation_ps=draw(st.one_of(st.just(0), st.integers(0, 300_000))),
        mps=mps,
        mrrs=mrrs,
        rcb=rcb,
        completion_bytes=completion_bytes,
        tags=draw(st.one_of(st.integers(1, 4), st.just(32))),
        up=draw(buffers(mps, mrrs, completion_bytes)) if limited else Credits(),
        down=draw(buffers(mps, mrrs, completion_bytes)) if limited else Credits(),
        data_link=draw(data_links),
        root_port=draw(root_ports),
        relaxed=draw(st.booleans()),
        ido=draw(st.booleans()),
        flit_check_ps=draw(st.sampled_from([0, 700, 5000])) if generation >= 6 else 0,
    )


phases = st.one_of(
    st.just(ALWAYS),
    st.builds(
        lambda start, on, pause: Phase(start, on, on + pause if pause else 0),
        st.sampled_from([0, 5000, 1_000_000]),
        st.sampled_from([1, 1000, 333_333]),
        st.sampled_from([0, 1, 700_000]),
    ),
)

switches = st.builds(
    Switch,
    latency_ps=st.sampled_from([0, 1000, 110_000]),
    cut_through=st.booleans(),
    redirects=st.booleans(),
)


@st.composite
def engines(
    draw: st.DrawFn, *, pcrc: bool | None = None, anywhere: bool = False, units: bool | None = False
) -> EngineTiming:
    """Any engine, fast or slow, with few or many keys; at ports, or one of the host for all of its ports.

    units: TLPs share MACs; None: maybe.
    """
    check_ps = draw(st.integers(0, 30_000))
    shared = anywhere and draw(st.sampled_from([False, False, True]))
    if units is None:
        units = draw(st.booleans())
    unit_tlps = draw(st.tuples(*[st.sampled_from([1, 2, 4, 8, 8])] * 3)) if units else (1, 1, 1)
    return EngineTiming(
        pipe_ps=draw(st.integers(0, 30_000)),
        mac_ps=draw(st.integers(0, 30_000)),
        check_ps=check_ps,
        hold_ps=draw(st.integers(0, check_ps)),
        period_ps=draw(st.integers(500, 3000)),
        initiation_cycles=draw(st.sampled_from([1, 1, 2, 9])),
        bytes_per_clock=draw(st.sampled_from([1, 16, 64, 128])),
        switch_ps=draw(st.sampled_from([0, 1000, 7777])),
        key_miss_ps=draw(st.sampled_from([0, 10_000, 33_333])),
        key_entries=draw(st.sampled_from([1, 2, 3, 5, 9]) if anywhere else st.integers(1, 3)),
        pcrc=draw(st.booleans()) if pcrc is None else pcrc,
        link_stream=anywhere and draw(st.booleans()),
        shared=shared,
        fabric_ps=draw(st.sampled_from([0, 5000, 50_000])) if shared else 0,
        unit_tlps=unit_tlps,
        skid=units and draw(st.sampled_from([False, False, True])),
    )


def _chain_to_the_end(steps: list[Step], base: int) -> list[int]:
    """Return steps of the last request, from `base` on, that follow each other up to its last, end to end."""
    chain = [len(steps) - 1]
    while True:
        at = steps[chain[-1]]
        waits = ((at.after, at.early1), (at.after2, at.early2))
        before = [chain[-1] - d for d, early in waits if d and not early and chain[-1] - d >= base]
        if not before:
            return chain
        chain.append(before[0])


@st.composite
def programs(draw: st.DrawFn, max_requests: int = 6) -> list[Step]:
    """A program of one device."""
    steps: list[Step] = []
    for request in range(draw(st.integers(1, max_requests))):
        base = len(steps)
        length = draw(st.integers(1, 5))
        for i in range(length):
            index = base + i
            after = after2 = 0
            if i > 0:
                after = draw(st.integers(1, i))
                if draw(st.booleans()):
                    after2 = draw(st.integers(1, index))
            elif index and draw(st.booleans()):
                after = draw(st.integers(1, index))
            kind = draw(st.sampled_from([DELAY, WRITE_UP, READ_UP, WRITE_DOWN]))
            steps.append(
                Step(
                    kind=kind,
                    address=draw(addresses) if kind != DELAY else 0,
                    bytes=draw(sizes) if kind != DELAY else 0,
                    not_before_ps=draw(times) if not after else draw(st.sampled_from([0, 0, 3_000_000])),
                    delay_ps=draw(short_times),
                    occupy_ps=draw(short_times) if kind == DELAY else 0,
                    request=request,
                    after=after,
                    after2=after2,
                    server=draw(st.integers(-1, 1)) if kind == DELAY else -1,
                    stat=draw(st.integers(0, 1)),
                    buffer=draw(st.integers(0, 3)) if kind != DELAY else 0,
                    early1=draw(st.booleans()),
                    early2=draw(st.booleans()),
                    begin=i == 0,
                    end=i == length - 1,
                )
            )
        for i in _chain_to_the_end(steps, base):
            if steps[i].kind == DELAY and draw(st.booleans()):
                steps[i] = replace(steps[i], media=True)
            elif steps[i].kind == DELAY and draw(st.booleans()):
                steps[i] = replace(steps[i], stage=True)
    return steps


host_points = st.one_of(
    st.integers(0, 600_000).map(lambda v: ((0.0, v), (1.0, v))),
    st.tuples(st.integers(0, 300_000), st.integers(0, 300_000), st.integers(0, 2_000_000)).map(
        lambda v: ((0.0, v[0]), (0.9, v[0] + v[1]), (1.0, v[0] + v[1] + v[2]))
    ),
)


@st.composite
def trees(draw: st.DrawFn, count: int) -> tuple[list[Port], list[tuple[Port, Switch]], list[int | None]]:
    """Links of some devices, each behind one of up to two switches or behind none."""
    uplinks = [(draw(ports()), draw(switches)) for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2])))]
    below = [draw(st.sampled_from([None, *range(len(uplinks))])) for _ in range(count)]
    return [draw(ports(like=None if u is None else uplinks[u][0])) for u in below], uplinks, below


@st.composite
def cases(draw: st.DrawFn, max_devices: int = 3, max_requests: int = 6, units: bool | None = None) -> Case:
    """Programs of one to three devices behind one root complex, some behind switches, partly protected.

    units : TLPs share MACs; None: maybe.
    """
    count = draw(st.integers(1, max_devices))
    links, uplinks, below = draw(trees(count))
    device_programs = [draw(programs(max_requests)) for _ in range(count)]
    when = draw(st.just([]) | st.lists(phases, min_size=count, max_size=count))
    behind = draw(st.just([]) | st.lists(st.booleans(), min_size=count, max_size=count))
    if any(behind) and not all(behind):
        # What others wait for must come to its end.
        when = [
            replace(p, on_ps=p.on_ps if b or p.every_ps else FOREVER)
            for p, b in zip(when, behind, strict=False)
        ]
    how = draw(st.sampled_from(["all", "some", "none"]))
    protected = [
        [how == "all" or (how == "some" and draw(st.booleans())) for _ in steps] for steps in device_programs
    ]
    return Case(
        ports=links,
        programs=device_programs,
        protected=protected,
        engine=draw(engines(anywhere=True, units=units)),
        host_points=draw(host_points),
        read_interval_ps=draw(st.sampled_from([0, 0, 2000, 77_777])),
        seed=draw(st.integers(0, 2**32)),
        stop_ps=draw(st.sampled_from([0, 0, 0, 500_000, 2_000_000])),
        iommu=draw(iommus),
        memory=draw(memories),
        uplinks=uplinks,
        below=below,
        phases=when,
        background=behind,
    )


@st.composite
def chains(draw: st.DrawFn) -> list[Step]:
    """Steps that each wait for the one before, cut into requests: nothing ever happens at the same time.

    A write may start when a write before it, in the same direction, has entered the link.
    """
    steps: list[Step] = []
    for i in range(draw(st.integers(1, 8))):
        kind = draw(st.sampled_from([DELAY, WRITE_UP, READ_UP, WRITE_DOWN]))
        follows = i > 0 and steps[-1].kind == kind and kind in (WRITE_UP, WRITE_DOWN)
        begin = i == 0 or draw(st.booleans())
        request = 0 if i == 0 else steps[-1].request + begin
        if i > 0 and begin:
            steps[-1] = replace(steps[-1], end=True)
        steps.append(
            Step(
                kind=kind,
                address=draw(addresses) if kind != DELAY else 0,
                bytes=draw(sizes) if kind != DELAY else 0,
                delay_ps=draw(short_times),
                request=request,
                after=1 if i else 0,
                buffer=draw(st.integers(0, 1)) if kind != DELAY else 0,
                early1=follows and draw(st.booleans()),
                begin=begin,
            )
        )
    steps[-1] = replace(steps[-1], end=True)
    return steps


@st.composite
def crowds(draw: st.DrawFn) -> Case:
    """One to three devices on which many requests want the same things at the same times."""
    count = draw(st.integers(1, 3))
    generation = draw(st.sampled_from([3, 5, 6]))
    port = Port(
        generation=generation,
        lanes=draw(st.sampled_from([4, 16])),
        propagation_ps=draw(st.sampled_from([0, 1000])),
        mps=128,
        mrrs=(mrrs := draw(st.sampled_from([128, 512]))),
        completion_bytes=(completion_bytes := draw(st.sampled_from([64, 128]))),
        tags=draw(st.integers(1, 3)),
        up=draw(st.one_of(st.just(Credits()), buffers(128, mrrs, completion_bytes))),
        down=draw(st.one_of(st.just(Credits()), buffers(128, mrrs, completion_bytes))),
        data_link=draw(data_links),
        root_port=draw(root_ports),
        relaxed=draw(st.booleans()),
        ido=draw(st.booleans()),
        flit_check_ps=draw(st.sampled_from([0, 5000])) if generation >= 6 else 0,
    )
    device_programs = []
    for _ in range(count):
        steps: list[Step] = []
        for request in range(draw(st.integers(2, 14))):
            kind = draw(st.sampled_from([WRITE_UP, READ_UP, WRITE_DOWN]))
            after = draw(st.integers(0, min(len(steps), 3)))
            steps.append(
                Step(
                    kind=kind,
                    address=draw(st.sampled_from([0, 64, 4000, FOUR_GIB])),
                    bytes=draw(st.sampled_from([4, 64, 512, 4096, 9000])),
                    not_before_ps=draw(st.sampled_from([0, 0, 1000, 50_000])),
                    request=request,
                    after=after,
                    buffer=draw(st.integers(0, 1)),
                    early1=draw(st.booleans()),
                    begin=True,
                    end=True,
                )
            )
        device_programs.append(steps)
    engine = draw(engines(anywhere=True, units=None))
    switch = draw(st.none() | switches)
    return Case(
        ports=[port] * count,
        programs=device_programs,
        protected=[[draw(st.booleans()) for _ in steps] for steps in device_programs],
        engine=engine,
        host_points=((0.0, 1000), (1.0, 1000)),
        read_interval_ps=draw(st.sampled_from([0, 5000])),
        iommu=draw(iommus),
        memory=draw(memories),
        uplinks=[] if switch is None else [(port, switch)],
        below=[None if switch is None else 0] * count,
    )


@st.composite
def lookups(draw: st.DrawFn) -> Case:
    """Writes, and some reads, of a few pages whose walks take long: what RO and IDO let pass them."""
    count = draw(st.integers(1, 3))
    buffer = st.one_of(st.just(Credits()), buffers(256, 512, 256))
    port = Port(
        generation=draw(st.sampled_from([3, 5, 6])),
        lanes=draw(st.sampled_from([4, 16])),
        up=draw(buffer),
        data_link=draw(data_links),
        root_port=draw(root_ports),
    )
    # Mostly reachable at once; here and there a page for itself.
    pages = st.one_of(st.integers(0, 2), st.integers(0, 40))
    device_programs = []
    for _ in range(count):
        steps = [
            Step(
                kind=draw(st.sampled_from([WRITE_UP, WRITE_UP, WRITE_UP, READ_UP])),
                address=4096 * draw(pages) + draw(st.sampled_from([0, 64, 3000])),
                bytes=draw(st.sampled_from([4, 64, 256, 1500, 5000])),
                not_before_ps=draw(st.sampled_from([0, 0, 20_000, 150_000, 500_000, 700_000])),
                request=request,
                after=draw(st.sampled_from([0, 0, 0, 1])) if request else 0,
                early1=draw(st.booleans()),
                buffer=draw(st.sampled_from([0, 0, 0, 1])),
                begin=True,
                end=True,
            )
            for request in range(draw(st.integers(2, 16)))
        ]
        device_programs.append(steps)
    switch = draw(st.none() | switches)
    sealed = draw(st.sampled_from([0, 0, 1, 2]))
    return Case(
        ports=[replace(port, relaxed=draw(st.booleans()), ido=draw(st.booleans())) for _ in range(count)],
        programs=device_programs,
        protected=[[sealed > 0 and draw(st.integers(0, 2)) < sealed for _ in s] for s in device_programs],
        engine=draw(engines(anywhere=True, units=None)),
        iommu=Iommu(
            entries=32,
            ways=draw(st.sampled_from([4, 32])),
            walkers=draw(st.integers(1, 4)),
            walk=draw(st.sampled_from([((0.0, 230_000), (1.0, 230_000)), ((0.0, 50_000), (1.0, 600_000))])),
        ),
        uplinks=[] if switch is None else [(port, switch)],
        below=[None if switch is None else 0] * count,
    )


@st.composite
def flits(draw: st.DrawFn) -> Case:
    """The same cases, all of their links in flit mode."""
    case = draw(st.one_of(cases(units=None), crowds()))

    def in_flits(port: Port) -> Port:
        check = draw(st.sampled_from([0, 700, 5000]))
        return replace(port, generation=draw(st.integers(6, 7)), flit_check_ps=check)

    return replace(
        case,
        ports=[in_flits(port) for port in case.ports],
        uplinks=[(in_flits(port), switch) for port, switch in case.uplinks],
    )


@st.composite
def pairs(draw: st.DrawFn) -> Case:
    """Up to three devices, some behind switches, that read and write each other's memory and the host's."""
    case = draw(st.one_of(cases(max_devices=3, units=None), crowds()))
    first = case.ports[0] if not case.uplinks else case.uplinks[0][0]

    def alike(port: Port) -> Port:
        """TLPs pass as they are from any link to any other; buffers hold them."""
        fits = {name: getattr(first, name) for name in ("mps", "rcb", "completion_bytes", "mrrs")}
        flit = first.generation >= 6
        if (port.generation >= 6) != flit:
            fits |= {"generation": first.generation, "flit_check_ps": first.flit_check_ps}
        buffer = buffers(first.mps, first.mrrs, first.completion_bytes)
        free = st.just(Credits())
        return replace(
            port,
            **fits,
            up=draw(free | buffer),
            down=draw(free | buffer),
            peer=draw(st.builds(Peer, st.sampled_from([0, 1000, 640_000]), st.sampled_from([0, 0, 50_000]))),
        )

    count = len(case.ports)
    programs = [
        [
            replace(step, server=draw(st.sampled_from([-1, *[p for p in range(count) if p != d]])))
            if step.kind in (READ_UP, WRITE_UP)
            else step
            for step in steps
        ]
        for d, steps in enumerate(case.programs)
    ]
    return replace(
        case,
        ports=[alike(port) for port in case.ports],
        uplinks=[(alike(port), switch) for port, switch in case.uplinks],
        programs=programs,
        turn_ps=draw(st.sampled_from([0, 1000, 150_000])),
    )
