"""What a program consists of: against a slow count of its steps and TLPs, and chunk by chunk the same."""

import itertools
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.link_cases import as_array
from oracles.link_heapq import DELAY, READ_UP, WRITE_DOWN, WRITE_UP, Step

from sevpcie_core import spec
from sevpcie_core.experiment.programs import build, trace_of
from sevpcie_core.experiment.scenario import load_scenario
from sevpcie_core.stats.hist import bucket_bounds
from sevpcie_core.tlp.size import padded_payload_bytes, wire_bytes
from sevpcie_core.workload.expand import KINDS, MRD, Sizes, expand
from sevpcie_core.workload.look import look
from sevpcie_core.workload.program import Chunk, Program, until

LINK = Sizes(256, 512, 64, 256)
NAMES = {WRITE_UP: ("write", "up"), READ_UP: ("read", "up"), WRITE_DOWN: ("write", "down")}


def program(steps, cuts=(), pooled=2):
    """Return a program of classes a, b and c; `cuts` end chunks."""
    array = as_array(steps)
    edges = [0, *sorted(cuts), len(steps)]
    return Program(
        stats=("a", "b", "c"),
        pooled=pooled,
        chunks=lambda: iter([Chunk(array[i:j], 0) for i, j in itertools.pairwise(edges)]),
        regions=np.zeros(0, spec.REGION),
        reach=1,
        servers=0,
        open_loop=True,
    )


@st.composite
def operations(draw):
    """Draw steps of some operations, each with its transfers; and where operations end."""
    steps, ends, now = [], [], 0
    for request in range(draw(st.integers(1, 12))):
        now += draw(st.sampled_from([0, 1, 700, 3_000_000, 10**13]))
        stat = draw(st.integers(0, 2))
        first = Step(DELAY, not_before_ps=now, request=request, stat=stat, begin=True)
        steps.append(first)
        steps += [
            Step(
                draw(st.sampled_from([WRITE_UP, READ_UP, WRITE_DOWN])),
                draw(st.integers(0, 1 << 33)),
                draw(st.integers(1, 5000)),
                request=draw(st.sampled_from([request, request, request, -1])),
                stat=stat,
                buffer=draw(st.integers(0, 3)),
            )
            for _ in range(draw(st.integers(0, 4)))
        ]
        ends.append(len(steps))
    return steps, ends[:-1]


@settings(deadline=None)
@given(operations(), st.sampled_from([1, 701, 3_000_001, 10**13 + 1]), st.integers(1, 12), st.data())
def test_a_program_until_a_time(drawn, end_ps, most, data):
    steps, ends = drawn
    cuts = data.draw(st.lists(st.sampled_from(ends), unique=True)) if ends else []
    begins = [at for at, step in enumerate(steps) if step.begin]
    late = [at for k, at in enumerate(begins) if steps[at].not_before_ps >= end_ps or k >= most]
    left = np.concatenate(
        [chunk.steps for chunk in until(program(steps, cuts), end_ps, most).chunks()] or [as_array([])]
    )
    assert left.tobytes() == as_array(steps[: min(late, default=len(steps))]).tobytes()


@settings(max_examples=120, deadline=None)
@given(operations(), st.booleans())
def test_a_look_counts_what_is_there(drawn, flit):
    steps, _ = drawn
    link = replace(LINK, flit=flit)
    found = look(program(steps), link, timed=True, pcrc=True, protect=lambda s: s["bytes"] % 2 == 1)
    begun = [step for step in steps if step.begin]
    assert found.operations == {name: sum(s.stat == i for s in begun) for i, name in enumerate("abc")}
    data, by_request = Counter(), {s.request: 0 for s in begun if s.stat < 2}
    for step in steps:
        if step.kind != DELAY and step.buffer == spec.BUFFER_DATA:
            data["abc"[step.stat]] += step.bytes
            if step.request in by_request:
                by_request[step.request] += step.bytes
    assert +Counter(found.data_bytes) == data
    # Sizes of single operations.
    assert found.sizes.samples == sum(o.count for o in found.size_octaves) == len(by_request)
    assert found.sizes.total_ps == sum(o.total for o in found.size_octaves) == sum(by_request.values())
    for size in by_request.values():
        assert any(o.least <= size <= o.most for o in found.size_octaves)
    # Gaps.
    own = [s.not_before_ps for s in begun if s.stat < 2]
    gaps = [b - a for a, b in itertools.pairwise(own)]
    assert (found.gaps.samples, found.gaps.total_ps) == (len(gaps), sum(gaps))
    if own:
        assert (found.first_ps, found.last_ps) == (own[0], own[-1])
    # Transactions.
    wanted = defaultdict(list)
    for step in steps:
        if step.kind != DELAY:
            wanted[(*NAMES[step.kind], spec.BUFFER_NAMES[step.buffer])].append(step.bytes)
    got = defaultdict(lambda: [0, 0])
    for t in found.transactions:
        sizes = [n for n in wanted[t.kind, t.direction, t.buffer] if t.sizes.least <= n <= t.sizes.most]
        assert (len(sizes), sum(sizes)) == (t.sizes.count, t.sizes.total)
        assert (min(sizes), max(sizes)) == (t.sizes.least, t.sizes.most)
        assert max(sizes).bit_length() == min(sizes).bit_length()
        got[t.kind, t.direction, t.buffer][0] += t.sizes.count
        got[t.kind, t.direction, t.buffer][1] += t.sizes.total
    assert {k: v for k, v in got.items() if v[0]} == {k: [len(v), sum(v)] for k, v in wanted.items() if v}
    assert found.doorbells == sum(len(v) for k, v in wanted.items() if k[2] == "mmio")
    assert found.interrupts == sum(len(v) for k, v in wanted.items() if k[2] == "msi")


@settings(max_examples=60, deadline=None)
@given(operations(), st.booleans(), st.booleans())
def test_its_tlps_are_those_of_the_expansion(drawn, flit, pcrc):
    steps, _ = drawn
    link = replace(LINK, flit=flit)
    mark = lambda s: s["bytes"] % 3 != 0  # noqa: E731
    data_link = spec.DATA_LINK_FLIT_BYTES if flit else spec.DATA_LINK_BYTES
    counts = defaultdict(Counter)
    sizes = defaultdict(Counter)
    for tlps in expand(program(steps).chunks(), link, mark):
        for row in tlps:
            key = (KINDS[row["kind"]], ("up", "down")[row["down"]])
            carried = 0 if row["kind"] == MRD else int(row["bytes"])
            padded = padded_payload_bytes(int(row["address"]), carried)
            plain, sealed = (
                wire_bytes(int(row["header"]), padded, data_link, protected, pcrc)
                for protected in (False, bool(row["protected"]))
            )
            counts[key] += Counter(n=1, payload=carried, wire=plain, ide=sealed - plain)
            counts[key] += Counter(sealed=int(row["protected"]))
            counts[key] += Counter(sealed_payload=carried * int(row["protected"]))
            sizes[key][int(row["bytes"])] += 1
    found = look(program(steps), link, timed=True, pcrc=pcrc, protect=mark).tlps
    assert {(t.kind, t.direction) for t in found} == set(counts)
    for t in found:
        count = counts[t.kind, t.direction]
        assert t.sizes == dict(sizes[t.kind, t.direction])
        assert (t.count, t.payload_bytes, t.wire_bytes) == (count["n"], count["payload"], count["wire"])
        assert (t.protected, t.protected_payload_bytes) == (count["sealed"], count["sealed_payload"])
        assert t.ide_bytes == count["ide"]


@settings(max_examples=60, deadline=None)
@given(operations(), st.data())
def test_chunks_change_nothing(drawn, data):
    steps, ends = drawn
    cuts = data.draw(st.lists(st.sampled_from(ends), unique=True)) if ends else []
    whole, cut = (look(program(steps, c), LINK, timed=True) for c in ((), cuts))
    assert whole.sizes.total_ps == cut.sizes.total_ps
    assert whole.gaps.index.tolist() == cut.gaps.index.tolist()
    strip = lambda found: replace(found, sizes=None, gaps=None, classes={})  # noqa: E731
    assert strip(whole) == strip(cut)
    assert [told(c) for c in whole.classes.values()] == [told(c) for c in cut.classes.values()]


def told(found):
    """Return what a look tells of a class, as plain data."""
    return (
        found.count,
        found.moved,
        *((h.index.tolist(), h.count.tolist(), h.total_ps) for h in (found.sizes, found.gaps)),
    )


def values(histogram):
    """Return the values of a histogram, each by the lower end of its bucket."""
    low, _ = bucket_bounds(histogram.index)
    return np.repeat(low, histogram.count).tolist()


@settings(max_examples=80, deadline=None)
@given(operations())
def test_classes_are_counted_apart(drawn):
    steps, _ = drawn
    found = look(program(steps), LINK, timed=True)
    assert set(found.classes) == {"abc"[step.stat] for step in steps if step.begin}
    for name, mine in found.classes.items():
        begun = [step for step in steps if step.begin and "abc"[step.stat] == name]
        assert mine.count == len(begun) == mine.sizes.samples
        moved = Counter()
        for step in steps:
            if step.kind != DELAY and step.buffer == spec.BUFFER_DATA:
                moved[step.request] += step.bytes
        sizes = sorted(moved[step.request] for step in begun)
        assert mine.sizes.total_ps == sum(sizes)
        assert values(mine.sizes) == pytest.approx(sizes, rel=1e-3)
        starts = [step.not_before_ps for step in begun]
        gaps = sorted(b - a for a, b in itertools.pairwise(starts))
        assert (mine.gaps.samples, mine.gaps.total_ps) == (len(gaps), sum(gaps))
        assert values(mine.gaps) == pytest.approx(gaps, rel=1e-3)
        wanted = defaultdict(lambda: (0, 0))
        for step in steps:
            if step.kind != DELAY and "abc"[step.stat] == name:
                key = (*NAMES[step.kind], spec.BUFFER_NAMES[step.buffer])
                wanted[key] = (wanted[key][0] + 1, wanted[key][1] + step.bytes)
        assert mine.moved == wanted


def test_gaps_of_a_loop_that_paces_itself_are_not_told():
    steps = [Step(DELAY, request=i, not_before_ps=i * 1000, begin=True) for i in range(3)]
    assert look(program(steps), LINK, timed=False).gaps.samples == 0
    assert look(program(steps), LINK, timed=True).gaps.samples == 2


def test_a_gap_is_never_negative():
    """Classes may have intended starts of their own order."""
    steps = [Step(DELAY, request=i, not_before_ps=t, begin=True) for i, t in enumerate([5000, 2000, 6000])]
    found = look(program(steps), LINK, timed=True)
    assert (found.gaps.samples, found.gaps.total_ps, found.last_ps) == (2, 1000, 6000)


@pytest.mark.parametrize("name", ["nvme", "nic", "gpu", "mix"])
def test_data_of_single_operations_add_up_in_shipped_workloads(name):
    """Every byte of data belongs to the operation that it was counted for, whole in one chunk."""
    scenario = load_scenario(name)
    scenario = scenario if scenario.duration else scenario.with_options(requests=700)
    for workload in scenario.resolve().workloads:
        for index, run in enumerate(workload.devices):
            made = build(replace(run, requests=0 if trace_of(run.traffic) else 700), index, 1, 0)
            found = look(made, run.link.sizes, timed=True)
            assert found.sizes.total_ps == sum(found.data_bytes[name] for name in found.pooled)
            assert found.sizes.samples == sum(found.operations[name] for name in found.pooled)
