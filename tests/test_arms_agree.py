"""Both arms of the picture agree: the simulator counts the bytes that the sealed stream puts on the wire.

One program goes down both. The time arm counts its bytes while it simulates; the bits arm builds every TLP,
seals it with AES-GCM, and opens it at the other end.
"""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from oracles import split_naive
from oracles.link_cases import Case, Port, link_table, run_package
from oracles.link_digest import FAST
from oracles.link_heapq import DELAY, READ_UP, WRITE_DOWN, WRITE_UP, Step
from oracles.link_strategies import cases

from sevpcie_core import spec
from sevpcie_core.ide import OpenCode, SealCode, StreamConfig, open_stream, pair, seal_stream
from sevpcie_core.link.params import QUANTUM_BYTES
from sevpcie_core.tlp import build
from sevpcie_core.tlp.batch import Batch, concat
from sevpcie_core.tlp.codec import pack

REQUESTER, HOST = 0x0100, 0x0000


def trains(step: Step, port: Port, flit: bool) -> tuple[Batch | None, Batch | None]:
    """Return the TLPs of a step, upstream and downstream."""
    if step.kind == DELAY:
        return None, None
    if step.kind != READ_UP:
        down = step.kind == WRITE_DOWN
        content = np.random.default_rng(step.address).integers(0, 256, step.bytes, np.uint8)
        who = HOST if down else REQUESTER
        writes = build.memory_writes(step.address, content, mps=port.mps, requester=who, flit=flit)
        return (None, writes) if down else (writes, None)
    reads = build.memory_reads(step.address, step.bytes, mrrs=port.mrrs, requester=REQUESTER, flit=flit)
    answers = []
    at, end = step.address, step.address + step.bytes
    for row in reads.tlps:
        stop = min((at // port.mrrs + 1) * port.mrrs, end)
        answers.append(
            build.completions(
                at,
                stop - at,
                rcb=port.rcb,
                limit=port.completion_bytes,
                requester=REQUESTER,
                completer=HOST,
                tag=int(row["tag"]),
                flit=flit,
            )
        )
        at = stop
    assert at == end
    return reads, concat(answers)


def sealed_counts(case: Case, config: StreamConfig) -> tuple[dict[int, Counter[str]], int]:
    """Return what the bits arm puts on the wire of device 0, by request class; and how many IDE Syncs."""
    port, steps, marks = case.ports[0], case.programs[0], case.protected[0]
    data_link = spec.DATA_LINK_FLIT_BYTES if config.flit else spec.DATA_LINK_BYTES
    counts = {stat: Counter[str]() for stat in range(1 + max(step.stat for step in steps))}
    syncs = 0
    device, root = pair(config)
    for direction, (sender, receiver) in enumerate(((device, root), (root, device))):
        batches, protect, stat = [], [], []
        for step, mark in zip(steps, marks, strict=True):
            train = trains(step, port, config.flit)[direction]
            if train is not None:
                batches.append(train)
                protect += [mark] * len(train)
                stat += [step.stat] * len(train)
        if not batches:
            continue
        batch = concat(batches)
        wire, offsets, status = seal_stream(batch, sender, protect=np.array(protect, np.bool_))
        assert set(status["code"]) <= {SealCode.PLAIN, SealCode.SEALED}
        plain, plain_offsets = pack(batch)
        for i, index in enumerate(status["wire_index"]):
            count = counts[stat[i]]
            size = int(offsets[index + 1] - offsets[index])
            count["wire"] += data_link + size
            count["ide"] += size - int(plain_offsets[i + 1] - plain_offsets[i])
            count["link"] += data_link
            count["tlps"] += 1
        opened, answer = open_stream(wire, receiver, offsets)
        syncs += int((answer["code"] == OpenCode.SYNC).sum())
        assert len(offsets) - 1 == len(batch) + int((answer["code"] == OpenCode.SYNC).sum())
        # Every TLP comes back as it was, in order.
        back, back_offsets = pack(opened)
        assert back.tobytes() == plain.tobytes()
        assert list(pairwise(back_offsets)) == list(pairwise(plain_offsets))
    return counts, syncs


def simulated_counts(case: Case) -> dict[int, Counter[str]]:
    """Return what the time arm counts for device 0."""
    return {
        stat: Counter({name: count[name] for name in ("wire", "ide", "link", "tlps") if count[name]})
        for (device, stat), count in run_package(case).counters.items()
        if device == 0
    }


def assert_agree(case: Case, config: StreamConfig) -> tuple[dict[int, Counter[str]], int]:
    """Send a program down both arms; return what the bits arm counts, and how many IDE Syncs.

    Which class an IDE Sync counts to depends on the order on the wire, how many there are does not.
    """
    counts, syncs = sealed_counts(case, config)
    simulated = simulated_counts(case)
    if syncs == 0:
        assert {stat: +count for stat, count in counts.items()} == simulated
    data_link = spec.DATA_LINK_FLIT_BYTES if config.flit else spec.DATA_LINK_BYTES
    one = {"wire": data_link + 32, "ide": 16, "link": data_link, "tlps": 1}
    total = sum(counts.values(), Counter[str]()) + Counter({name: n * syncs for name, n in one.items()})
    assert +total == sum(simulated.values(), Counter[str]())
    return counts, syncs


@settings(max_examples=150)
@given(
    case=cases(max_devices=1, units=False),
    profile=st.sampled_from(["pcie-ide", "sev-pcie"]),
)
def test_the_simulator_counts_the_bytes_that_are_sealed(case, profile):
    case = case.whole()
    # A Link stream takes no plain TLPs beside sealed ones.
    kind = "link" if all(case.protected[0]) else "selective"
    config = StreamConfig(
        profile,
        kind=kind,
        pcrc=case.engine.pcrc,
        flit=case.ports[0].generation >= spec.FIRST_FLIT_GENERATION,
        requester=REQUESTER,
        partner=HOST,
    )
    assert_agree(case, config)


def bursts(step: Step, port: Port, quantum: int, flit: bool) -> list[tuple[int, Batch]]:
    """Return (direction, TLPs) of each burst of a step: what a unit of several TLPs never goes beyond."""
    if step.kind == DELAY:
        return []
    if step.kind == READ_UP:
        pieces = split_naive.read_requests(step.address, step.bytes, port.mrrs)
    else:
        pieces = split_naive.cut_at_multiples(step.address, step.bytes, quantum)
    found = []
    for address, size in pieces:
        both = trains(replace(step, address=address, bytes=size), port, flit)
        found += [(way, train) for way, train in enumerate(both) if train is not None]
    return found


@settings(max_examples=80, suppress_health_check=[HealthCheck.filter_too_much])
@given(case=cases(max_devices=1, units=True))
def test_they_agree_where_tlps_share_a_mac(case):
    """Burst by burst, one TLP alone; the order on the wire would say what an IDE Sync ends."""
    case = case.whole()
    port = case.ports[0]
    posted, non_posted, completion = case.engine.unit_tlps
    config = StreamConfig(
        kind="link" if all(case.protected[0]) else "selective",
        pcrc=case.engine.pcrc,
        aggregation=(non_posted, posted, completion),
        flit=port.generation >= spec.FIRST_FLIT_GENERATION,
        requester=REQUESTER,
        partner=HOST,
    )
    data_link = spec.DATA_LINK_FLIT_BYTES if config.flit else spec.DATA_LINK_BYTES
    quantum = int(link_table(case)[0, QUANTUM_BYTES])
    device, root = pair(config)
    counts = {step.stat: Counter[str]() for step in case.programs[0]}
    for step, mark in zip(case.programs[0], case.protected[0], strict=True):
        for way, train in bursts(step, port, quantum, config.flit):
            sender, receiver = (device, root) if way == 0 else (root, device)
            wire, offsets, _ = seal_stream(train, sender, protect=mark, alone=len(train) == 1)
            _, answer = open_stream(wire, receiver, offsets)
            assume(OpenCode.SYNC not in answer["code"])
            _, plain = pack(train)
            counts[step.stat] += Counter(
                wire=len(wire) + data_link * len(train),
                ide=len(wire) - int(plain[-1]),
                link=data_link * len(train),
                tlps=len(train),
            )
    assert {stat: +count for stat, count in counts.items() if +count} == {
        stat: count for stat, count in simulated_counts(case).items() if count
    }


def test_every_kind_of_edge_is_met():
    """Ends inside a DW, both forms of address, splits, and both layouts of the link."""
    steps = [
        Step(WRITE_DOWN, 0xF000_0001, 3, request=0, begin=True),
        Step(READ_UP, (1 << 32) - 4095 + 1, 9001, request=0, after=1),
        Step(READ_UP, 0x1003, 64, request=0, after=1),
        Step(WRITE_UP, 0x2002, 4096, request=0, after=1, end=True),
    ]
    for generation in (5, 6):
        port = Port(generation, 4, 0, 128, 256, 64, 128, 32)
        for protected in (False, True):
            case = Case([port], [steps], [[protected] * len(steps)], FAST)
            flit = generation >= spec.FIRST_FLIT_GENERATION
            _, syncs = assert_agree(case, StreamConfig(requester=REQUESTER, partner=HOST, flit=flit))
            assert syncs == 0


@pytest.mark.parametrize("generation", [5, 6])
@pytest.mark.parametrize(("tlps", "expected"), [(244, 0), (245, 1), (489, 1), (490, 2)])
def test_an_ide_sync_follows_every_245_posted_tlps(generation, tlps, expected):
    """Writes of two classes both ways, and reads between: no completion goes up, no request comes down."""
    flit = generation >= spec.FIRST_FLIT_GENERATION
    steps = []
    for i, kind in enumerate((WRITE_UP, WRITE_DOWN)):
        steps.append(Step(kind, 0x10_0000, 128 * (tlps - 1), request=2 * i, stat=i, begin=True, end=True))
        steps.append(Step(kind, 0x10, 4, request=2 * i + 1, stat=1 - i, begin=True, end=True))
    steps.append(Step(READ_UP, 0x2000, 4096, request=4, begin=True, end=True))
    case = Case([Port(generation, mps=128)], [steps], [[True] * len(steps)], FAST)
    _, syncs = assert_agree(case, StreamConfig(requester=REQUESTER, partner=HOST, flit=flit))
    assert syncs == 2 * expected
