"""Steps to TLPs: against an oracle that looks at every byte, the simulator, and the laws of the cut."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import split_naive
from oracles.link_cases import as_array, run_package
from oracles.link_heapq import DELAY, READ_UP, WRITE_DOWN, WRITE_UP, Step
from oracles.link_strategies import cases

from sevpcie_core import spec
from sevpcie_core.experiment.programs import build
from sevpcie_core.experiment.scenario import load_scenario
from sevpcie_core.tlp.size import wire_bytes
from sevpcie_core.workload import expand as module
from sevpcie_core.workload.expand import CPLD, MRD, MWR, TLP, Sizes, expand, expand_steps
from sevpcie_core.workload.program import Chunk

addresses = st.one_of(st.integers(0, 1 << 14), st.integers((1 << 32) - 9000, (1 << 32) + 9000))
links = st.builds(
    Sizes,
    mps=st.sampled_from(spec.PAYLOAD_SIZES),
    mrrs=st.sampled_from(spec.PAYLOAD_SIZES),
    rcb=st.sampled_from(spec.READ_COMPLETION_BOUNDARIES),
    completion_bytes=st.sampled_from([128, 256, 512, 4096]),
    flit=st.booleans(),
)
steps = st.lists(
    st.builds(
        Step,
        kind=st.sampled_from([DELAY, WRITE_UP, READ_UP, WRITE_DOWN]),
        address=addresses,
        bytes=st.integers(1, 9000),
        request=st.integers(-1, 9),
        stat=st.integers(0, 3),
        buffer=st.integers(0, 3),
    ),
    min_size=1,
    max_size=5,
)


def joined(found):
    """Return arrays of TLPs as one."""
    return np.concatenate([np.empty(0, TLP), *found])


def naive(program: list[Step], link: Sizes, marks: list[bool]) -> list[tuple]:
    """Return (kind, down, address, bytes, request, buffer, stat, protected) of every TLP, byte by byte."""
    out = []
    for step, mark in zip(program, marks, strict=True):
        told = (step.request, step.buffer, step.stat, mark)
        if step.kind in (WRITE_UP, WRITE_DOWN):
            for address, size in split_naive.write_tlps(step.address, step.bytes, link.mps):
                out.append((MWR, step.kind == WRITE_DOWN, address, size, *told))
        elif step.kind == READ_UP:
            for address, size in split_naive.read_requests(step.address, step.bytes, link.mrrs):
                out.append((MRD, False, address, size, *told))
                for at, part in split_naive.completions(address, size, link.rcb, link.completion_bytes):
                    out.append((CPLD, True, at, part, *told))
    return out


def as_tuples(tlps: np.ndarray) -> list[tuple]:
    """Return the same of the package's TLPs."""
    names = ("kind", "down", "address", "bytes", "request", "buffer", "stat", "protected")
    return [tuple(int(row[name]) for name in names) for row in tlps]


@settings(max_examples=150, deadline=None)
@given(steps, links, st.data())
@pytest.mark.nojit
def test_every_tlp_is_that_of_the_oracle(program, link, data):
    marks = data.draw(st.lists(st.booleans(), min_size=len(program), max_size=len(program)))
    found = joined(expand_steps(as_array(program), link, np.array(marks, np.bool_)))
    assert as_tuples(found) == naive(program, link, marks)


@settings(max_examples=60, deadline=None)
@given(steps, links, st.integers(1, 7))
@pytest.mark.nojit
def test_where_an_array_ends_changes_nothing(program, link, most):
    """A step that is larger than an array goes on in the next one, in the midst of a read as well."""
    whole = joined(expand_steps(as_array(program), link, np.empty(0, np.bool_)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST", most)
        pieces = list(expand_steps(as_array(program), link, np.empty(0, np.bool_)))
    assert all(1 <= len(piece) <= most for piece in pieces)
    assert joined(pieces).tobytes() == whole.tobytes()


@settings(max_examples=100, deadline=None)
@given(case=cases(max_devices=1, units=False))
def test_the_simulator_sends_the_same_tlps_and_bytes(case):
    """By class of operations: TLPs, and bytes on the wire with what sealing adds to each protected one."""
    case = replace(case.whole(), uplinks=(), below=())
    port, program, marks = case.ports[0], case.programs[0], case.protected[0]
    flit = port.generation >= spec.FIRST_FLIT_GENERATION
    link = Sizes(port.mps, port.mrrs, port.rcb, port.completion_bytes, flit)
    data_link = spec.DATA_LINK_FLIT_BYTES if flit else spec.DATA_LINK_BYTES
    counts = {}
    for row in joined(expand_steps(as_array(program), link, np.array(marks, np.bool_))):
        carried = 0 if row["kind"] == MRD else int(row["bytes"])
        padded = len({byte // 4 for byte in range(int(row["address"]), int(row["address"]) + carried)}) * 4
        size = wire_bytes(int(row["header"]), padded, data_link, bool(row["protected"]), case.engine.pcrc)
        count = counts.setdefault(int(row["stat"]), Counter())
        count["tlps"] += 1
        count["wire"] += size
    simulated = {
        stat: Counter(tlps=count["tlps"], wire=count["wire"])
        for (_, stat), count in run_package(case).counters.items()
        if count["tlps"]
    }
    # An IDE Sync is the simulator's alone: what small cases never reach.
    assert counts == simulated


def test_nothing_is_lost_between_chunks():
    program = as_array([Step(WRITE_UP, i * 4096, 4096, request=i) for i in range(4)])
    link = Sizes(256, 512, 64, 256)
    chunks = [Chunk(program[:1], 0), Chunk(program[1:1], 0), Chunk(program[1:], 0)]
    assert joined(expand(chunks, link)).tobytes() == joined(expand([Chunk(program, 0)], link)).tobytes()


def test_protection_is_asked_for_by_step_and_inherited_by_all_its_tlps():
    program = as_array([Step(READ_UP, 0, 1024, request=0), Step(WRITE_UP, 0, 512, request=1)])
    found = joined(
        expand([Chunk(program, 0)], Sizes(256, 512, 64, 256), lambda steps: steps["kind"] == READ_UP)
    )
    assert found["protected"].tolist() == [1] * 6 + [0] * 2
    assert not joined(expand([Chunk(program, 0)], Sizes(256, 512, 64, 256)))["protected"].any()


def test_a_tebibyte_costs_no_memory():
    """The first arrays of a step that is larger than memory come at once."""
    found = expand_steps(
        as_array([Step(WRITE_UP, 0, 1 << 40)]), Sizes(128, 128, 64, 128), np.empty(0, np.bool_)
    )
    first, second = next(found), next(found)
    assert len(first) == len(second) == module.MOST
    assert int(second[0]["address"]) == int(first[-1]["address"]) + 128


@pytest.mark.parametrize("name", ["nvme", "nic", "gpu"])
def test_shipped_workloads_move_the_bytes_of_their_steps_once(name):
    """And no request crosses 4 KiB, no payload is above MPS, no completion crosses what it must not."""
    scenario = load_scenario(name).with_options(requests=600).resolve()
    for workload in scenario.workloads:
        for index, run in enumerate(workload.devices):
            link = run.link
            sizes = Sizes(link.mps, link.mrrs, link.rcb, link.completion_bytes, link.flit)
            program = build(run, index, 1, 0)
            moved = sum(int(chunk.steps["bytes"].sum()) for chunk in program.chunks())
            found = joined(expand(program.chunks(), sizes))
            assert int(found["bytes"][found["kind"] != MRD].sum()) == moved
            assert (found["address"] // 4096 == (found["address"] + found["bytes"] - 1) // 4096).all()
            most = {MWR: link.mps, MRD: link.mrrs, CPLD: link.completion_bytes}
            for kind, limit in most.items():
                assert int(found["bytes"][found["kind"] == kind].max(initial=0)) <= limit
