"""Closed forms: against the simulator, a published model's outputs, figures worked out by hand."""

import csv
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.link_cases import Case, Port, run_package
from oracles.link_heapq import READ_UP, WRITE_DOWN, WRITE_UP, Step
from oracles.link_strategies import engines

from sevpcie_core import spec
from sevpcie_core.errors import ConfigError
from sevpcie_core.link.analytic import (
    KINDS,
    Link,
    bandwidth,
    maintenance_share,
    pcie_model,
    read_latency_ps,
    write_latency_ps,
)
from sevpcie_core.link.params import EngineTiming

HIGH = 1 << 33
FAST = EngineTiming(1000, 6000, 7000, 1000, 1, 128, 0, 0, 3)


@st.composite
def links(draw) -> Link:
    mps = draw(st.sampled_from([128, 256, 512, 4096]))
    rcb = draw(st.sampled_from([64, 128]))
    return Link(
        generation=draw(st.integers(1, 7)),
        lanes=draw(st.sampled_from(spec.LANES)),
        mps=mps,
        mrrs=draw(st.sampled_from([128, 512, 4096])),
        rcb=rcb,
        completion_bytes=draw(st.integers(1, mps // rcb)) * rcb,
        protected=draw(st.booleans()),
        pcrc=draw(st.booleans()),
    )


def port(link: Link, propagation_ps: int = 0, flit_check_ps: int = 0) -> Port:
    return Port(
        link.generation,
        link.lanes,
        propagation_ps,
        link.mps,
        link.mrrs,
        link.rcb,
        link.completion_limit,
        32,
        flit_check_ps=flit_check_ps,
    )


addresses = st.integers(0, 5000) | st.integers(HIGH, HIGH + 5000)


# --- Latency ----------------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(
    link=links(),
    address=addresses,
    size=st.integers(1, 300) | st.integers(1, 5000),
    engine=engines(),
    propagation_ps=st.integers(0, 300_000),
    check_ps=st.integers(0, 10_000),
    kind=st.sampled_from([WRITE_UP, WRITE_DOWN]),
)
def test_a_write_takes_what_the_simulator_says(link, address, size, engine, propagation_ps, check_ps, kind):
    # One quantum of the port: longer writes enter in several.
    size = min(size, link.mps - address % link.mps)
    engine = replace(engine, pcrc=link.pcrc, switch_ps=0, key_miss_ps=0)
    step = Step(kind, address, size, begin=True, end=True)
    way = {"propagation_ps": propagation_ps, "flit_check_ps": check_ps if link.flit else 0}
    case = Case([port(link, **way)], [[step]], [[link.protected]], engine)
    found = write_latency_ps(link, size, address, **way, engine=engine)
    assert run_package(case).latency_ps == [[found]]


@settings(max_examples=200)
@given(
    link=links(),
    address=addresses,
    size=st.integers(1, 4096),
    engine=engines(),
    propagation_ps=st.integers(0, 300_000),
    check_ps=st.integers(0, 10_000),
    host_ps=st.integers(0, 500_000),
    unit=st.sampled_from([1, 1, 2, 4, 8]),
)
def test_a_read_takes_what_the_simulator_says(
    link, address, size, engine, propagation_ps, check_ps, host_ps, unit
):
    size = min(size, link.mrrs - address % link.mrrs)
    link = replace(link, aggregation=unit)
    engine = replace(engine, pcrc=link.pcrc, switch_ps=0, key_miss_ps=0, unit_tlps=(1, 1, unit))
    step = Step(READ_UP, address, size, begin=True, end=True)
    points = ((0.0, host_ps), (1.0, host_ps))
    way = {"propagation_ps": propagation_ps, "flit_check_ps": check_ps if link.flit else 0}
    case = Case([port(link, **way)], [[step]], [[link.protected]], engine, points)
    found = read_latency_ps(link, size, address, host_ps=host_ps, **way, engine=engine)
    assert run_package(case).latency_ps == [[found]]


def test_a_read_of_several_requests_has_no_closed_form():
    with pytest.raises(ConfigError, match="several requests of 512 B"):
        read_latency_ps(Link(), 513)


@pytest.mark.parametrize(("generation", "check_ps"), [(5, 1), (6, -1)])
def test_a_check_of_flits_that_there_are_not(generation, check_ps):
    for latency in (write_latency_ps, read_latency_ps):
        with pytest.raises(ConfigError, match=f"flit_check_ps: {check_ps} at generation {generation}"):
            latency(Link(generation=generation), 64, flit_check_ps=check_ps)


# --- Bandwidth --------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(link=links(), address=addresses, size=st.integers(1, 4200), kind=st.sampled_from(KINDS))
def test_the_bytes_are_those_of_the_simulator(link, address, size, kind):
    steps = []
    if kind != "read":
        steps.append(Step(WRITE_UP, address, size))
    if kind != "write":
        steps.append(Step(READ_UP, address, size, stat=len(steps)))
    steps = [replace(s, request=i, begin=True, end=True) for i, s in enumerate(steps)]
    case = Case([port(link)], [steps], [[link.protected] * len(steps)], engine=None)
    if link.protected:
        case = replace(case, engine=replace(FAST, pcrc=link.pcrc))
    counted = sum(count["wire"] for count in run_package(case).counters.values())
    found = bandwidth(link, kind, size, address)
    assert found.up_bytes + found.down_bytes == counted
    seconds = max(found.up_bytes, found.down_bytes) * link.byte_ps / 10**12
    assert found.gbps == pytest.approx(float(8 * size / seconds) / 1e9, rel=1e-12)


@pytest.mark.parametrize(
    ("mps", "plain", "ide", "pcrc", "by_two", "by_four", "by_eight"),
    [
        (128, 0.842, 0.762, 0.744, 0.790, 0.805, 0.813),
        (256, 0.914, 0.865, 0.853, 0.883, 0.892, None),
        (512, 0.955, 0.927, 0.921, 0.938, None, None),
        (1024, 0.977, 0.962, 0.959, None, None, None),
        (4096, 0.994, 0.990, 0.989, None, None, None),
    ],
)
def test_goodput_of_first_order(mps, plain, ide, pcrc, by_two, by_four, by_eight):
    """Shares of a link that full writes leave to payload, as published first-order models have them."""
    for options, share in (
        ({}, plain),
        ({"protected": True}, ide),
        ({"protected": True, "pcrc": True}, pcrc),
        ({"protected": True, "aggregation": 2}, by_two),
        ({"protected": True, "aggregation": 4}, by_four),
        ({"protected": True, "aggregation": 8}, by_eight),
    ):
        if share is not None:
            found = bandwidth(Link(mps=mps, **options), "write", 8 * mps)
            assert 8 * mps / found.up_bytes == pytest.approx(share, abs=0.0006)


def test_a_unit_holds_256_dw():
    """Four payloads of 256 B fill a unit; a limit of eight changes nothing."""
    sizes = [
        bandwidth(Link(mps=256, protected=True, aggregation=n), "write", 4096).up_bytes for n in (1, 2, 4, 8)
    ]
    assert sizes == [16 * (280 + 16), 16 * 284 + 8 * 12, 16 * 284 + 4 * 12, 16 * 284 + 4 * 12]


def test_maintenance_takes_its_share():
    # Gen3 x8, MPS 256: an Ack and an UpdateFC of 8 B in 203 symbol times, a skip of 4 in 1538.
    assert maintenance_share(3, 8, 256) == pytest.approx(16 / 203 + 4 / 1538)
    assert maintenance_share(6, 16, 256) == 0
    link = Link(generation=3, lanes=8)
    with_it = bandwidth(replace(link, maintenance=True), "write", 4096).gbps
    assert with_it / bandwidth(link, "write", 4096).gbps == pytest.approx(1 - 16 / 203 - 4 / 1538)


@pytest.mark.parametrize(
    "wrong",
    [
        {"generation": 8},
        {"lanes": 3},
        {"mps": 100},
        {"rcb": 32},
        {"aggregation": 3},
        {"completion_bytes": 96},
    ],
)
def test_a_link_that_cannot_be(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Link(**wrong)


@pytest.mark.parametrize(("kind", "size", "words"), [("dma", 64, "kind"), ("read", 0, "size")])
def test_a_transfer_that_cannot_be(kind, size, words):
    with pytest.raises(ConfigError, match=words):
        bandwidth(Link(), kind, size)


# --- The published model ----------------------------------------------------------------------------------


def test_ack_limits_of_the_standard():
    # Gen1 x1, MPS 128: (128 + 28) x 1.4 / 1 + 19, rounded down.
    assert spec.ack_limit_symbols(1, 1, 128) == 237
    gen3_x16 = [spec.ack_limit_symbols(3, 16, mps) for mps in spec.PAYLOAD_SIZES]
    assert gen3_x16 == [144, 168, 182, 246, 374, 630]
    assert [spec.ack_limit_symbols(5, 1, mps) for mps in spec.PAYLOAD_SIZES] == [
        333,
        512,
        655,
        1167,
        2191,
        4239,
    ]


def test_the_published_model_by_hand():
    rate = Fraction(64) * 128 / 130 / 8 * 10**9
    share = 1 - Fraction(16, 203) - Fraction(4, 1538)
    # One byte: written with 24 B around it, read with a request of 24 B, which limits.
    curves = pcie_model(3, 8, 1)
    assert curves["write"] == pytest.approx(float(8e-9 * rate * share / 25))
    assert curves["read"] == pytest.approx(float(8e-9 * rate * share / 24))
    assert curves["both"] == pytest.approx(float(8e-9 * rate * share / 49))


def test_link_rates_of_the_published_model(reference_data):
    rows = list(csv.DictReader((reference_data / "pcie-model" / "link_bw.csv").read_text().splitlines()))
    compared = 0
    for row in rows:
        generation, lanes, mps = int(row["gen"][3:]), int(row["lanes"][1:]), int(row["mps"])
        if lanes in spec.LANES:
            limit = spec.ack_limit_symbols(generation, lanes, mps)
            assert (int(row["ack_limit"]), int(row["fc_limit"])) == (limit, limit)
            rate = float(10**12 / spec.byte_time_ps(generation, lanes)) * 8e-9
            share = maintenance_share(generation, lanes, mps)
            assert float(row["tlp_gbps"]) == pytest.approx(rate * (1 - share), rel=1e-12)
            compared += 1
    assert compared == 150
