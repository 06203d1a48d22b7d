"""Packet captures: pcapng, and both formats against slow readers on files good and damaged."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracles import captures_naive

from sevpcie_core.errors import ConfigError, FormatError
from sevpcie_core.workload import traces
from sevpcie_core.workload.traces import Bad, Cut, packets, pcap, pcapng

SAMPLES = Path(__file__).parent / "samples"
SERVER, CLIENT = (80, 40000), (40000, 80)


def packet(ports, size=0):
    ip = b"\x45" + bytes(8) + b"\x06" + bytes(2) + b"\x0a\0\0\1\x0a\0\0\2" + struct.pack(">HH", *ports)
    return bytes(12) + b"\x08\0" + ip + bytes(size)


def block(kind, body, order="<", length=None, behind=None):
    body += bytes(-len(body) % 4)
    length = 12 + len(body) if length is None else length
    behind = length if behind is None else behind
    return struct.pack(order + "II", kind, length) + body + struct.pack(order + "I", behind)


def section(order="<", major=1):
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, major, 0, -1), order)


def option(code, value, order="<"):
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def interface(order="<", link=1, snap=0, options=b""):
    return block(1, struct.pack(order + "HHI", link, 0, snap) + options, order)


def enhanced(ticks, content, size=None, face=0, order="<", captured=None):
    captured = len(content) if captured is None else captured
    size = len(content) if size is None else size
    head = struct.pack(order + "IIIII", face, ticks >> 32, ticks & (2**32 - 1), captured, size)
    return block(6, head + content, order)


def flagged(ticks, content, way, order="<"):
    """Return an enhanced packet block with epb_flags."""
    head = struct.pack(order + "IIIII", 0, ticks >> 32, ticks & (2**32 - 1), len(content), len(content))
    flags = option(2, struct.pack(order + "I", 0xF0 | way), order) + option(0, b"", order)
    return block(6, head + content + bytes(-len(content) % 4) + flags, order)


def obsolete(ticks, content, size, face=0, order="<"):
    head = struct.pack(order + "HHIIII", face, 0, ticks >> 32, ticks & (2**32 - 1), len(content), size)
    return block(2, head + content, order)


def simple(content, size, order="<"):
    return block(3, struct.pack(order + "I", size) + content, order)


@pytest.fixture
def capture(tmp_path):
    def write(*parts):
        path = tmp_path / "capture"
        path.write_bytes(b"".join(parts))
        return path

    return write


NOW = 1_700_000_000 * 10**6


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_kind_of_packet_block(capture, order):
    path = capture(
        section(order),
        interface(order),
        enhanced(NOW, packet(SERVER), 1514, order=order),
        block(0x0BAD, b"whatever", order),
        obsolete(NOW + 2, packet(CLIENT), 60, order=order),
        simple(packet(SERVER), 90, order),
        block(5, bytes(12), order),
    )
    frames = traces.read_nic(path)
    assert frames["t_ps"].tolist() == [0, 2_000_000, 2_000_000]
    assert frames["bytes"].tolist() == [1514, 60, 90]
    assert frames["direction"].tolist() == [traces.NIC_TX, traces.NIC_RX, traces.NIC_TX]


def test_sections_and_interfaces_have_clocks_of_their_own(capture):
    # One instant, and 1 ns, 1/2 s, and 1 us behind it, by four clocks and in two byte orders.
    nano = interface(options=option(2, b"lo0") + option(9, b"\x09") + option(0, b""))
    binary = interface(options=option(9, b"\x8a"))
    shifted = interface(">", 101, options=option(14, struct.pack(">q", 1_699_999_000), ">"))
    path = capture(
        section(),
        interface(),
        nano,
        binary,
        enhanced(NOW, packet(SERVER)),
        enhanced(NOW * 1000 + 1, packet(SERVER), face=1),
        section(">"),
        shifted,
        enhanced(1000 * 10**6 + 1, packet(CLIENT)[14:], 40, order=">"),
        section(),
        binary,
        enhanced(1_700_000_000 * 1024 + 512, packet(SERVER)),
    )
    frames = traces.read_nic(path)
    assert frames["t_ps"].tolist() == [0, 1000, 10**6, 5 * 10**11]
    assert frames["bytes"].tolist() == [38, 38, 54, 38]
    assert frames["direction"].tolist() == [1, 1, 0, 1]


@pytest.mark.parametrize("resolution", [0, 3, 6, 12, 15, 18, 0x80, 0x8A, 0xA0, 0xA8, 0xBE])
def test_resolutions_are_exact(capture, resolution):
    units = (2 if resolution & 128 else 10) ** (resolution & 127)
    ticks = [0, 1, units - 1, units, 3 * units + units // 7]
    face = interface(options=option(9, bytes([resolution])))
    path = capture(section(), face, *(enhanced(tick, packet(SERVER)) for tick in ticks if tick < 2**64))
    fine = 2**40 if units > 2**40 and resolution & 128 else units
    expected = [tick // units * 10**12 + tick % units * fine // units * 10**12 // fine for tick in ticks]
    assert traces.read_nic(path)["t_ps"].tolist() == sorted(expected)


def test_a_tool_reads_the_same(tmp_path):
    path = SAMPLES / "two_interfaces.pcapng.gz"
    frames = traces.read_nic(path)
    rows = gzip.decompress((SAMPLES / "two_interfaces.tshark.csv.gz").read_bytes()).decode().splitlines()
    found = []
    for row in rows:
        time, size, tcp, udp, tcp_to, udp_to = row.split(",")
        seconds, nanoseconds = time.split(".")
        source, target = int(tcp or udp), int(tcp_to or udp_to)
        found.append((int(seconds) * 10**9 + int(nanoseconds), int(size), int(source < target)))
    first = found[0][0]
    assert frames["t_ps"].tolist() == [1000 * (time - first) for time, *_ in found]
    assert frames["bytes"].tolist() == [size for _, size, _ in found]
    assert frames["direction"].tolist() == [way for *_, way in found]
    assert traces.read_nic(path, local="5290").size == 100
    assert traces.read_nic(path, cut=Cut(limit=7)).size == 7


def test_other_links_are_left_out(capture):
    usb = interface(link=220)
    with pytest.raises(FormatError, match="only packets of link type 220; expected one of 0, 1, 101"):
        traces.read_nic(capture(section(), usb, enhanced(NOW, b"\1" * 64)))
    other, mine = enhanced(NOW, b"\1" * 64), enhanced(NOW, packet(SERVER), face=1)
    path = capture(section(), usb, interface(), other, mine)
    assert traces.read_nic(path).size == 1
    with pytest.raises(ConfigError, match=r"^local: '9' is no end of any packet"):
        traces.read_nic(path, local="9")


def test_long_blocks_of_other_kinds_are_passed_over(capture):
    path = capture(
        section(),
        interface(),
        block(0x0BAD, bytes(9_000_000)),
        enhanced(NOW, packet(SERVER)),
        block(0x0BAD, b""),
    )
    assert traces.read_nic(path).size == 1


GOOD = [section(), interface(), enhanced(NOW, packet(SERVER))]
AT = sum(map(len, GOOD))


@pytest.mark.parametrize(
    ("parts", "offset", "said", "left"),
    [
        ([enhanced(NOW, packet(SERVER), face=7)], 8, "interface 7; expected one of the 1 described", 2),
        ([enhanced(NOW, packet(SERVER), captured=999)], 20, "captured length 999; expected at most 40", 2),
        ([enhanced(NOW, packet(SERVER), 5)], 24, "original length 5; expected at least the captured", 2),
        ([enhanced(NOW, b"", 0)], 24, "original length 0; expected 1 to 262144", 2),
        ([enhanced(NOW, b"", 2**31)], 24, "original length 2147483648; expected 1 to", 2),
        ([enhanced(2**63, packet(SERVER))], 12, "time: more than 50 days from the first packet", 2),
        ([block(6, bytes(8))], 4, "block length 20; expected 32 or more for a packet", 2),
        ([block(6, bytes(20), length=30)], 4, "block length 30; expected a multiple of 4 from 12 on", 1),
        ([block(7, b"", length=0)], 4, "block length 0; expected a multiple", 1),
        ([block(7, b"", behind=16)], 8, "length behind the block; expected 12 as before it", 1),
        ([block(7, bytes(8))[:-1]], 0, "block ends early", 1),
    ],
)
def test_damaged_blocks_name_the_offset(capture, parts, offset, said, left):
    last = enhanced(NOW + 1, packet(SERVER))
    behind = [] if "early" in said else [last]
    path = capture(*GOOD, *parts, *behind)
    with pytest.raises(FormatError, match=said) as caught:
        traces.read_nic(path)
    assert str(caught.value).startswith(f"{path}: offset {AT + offset}: ")
    bad = Bad(skip=True)
    assert traces.read_nic(path, bad=bad).size == left
    assert bad.count == 1
    assert said in bad.examples[0]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([section(major=2)], "offset 12: pcapng version 2.0; expected 1.0"),
        ([section()[:20]], "offset 0: section header ends early, 20 bytes left"),
        ([b"\n\r\r\n" + bytes(30)], "offset 8: byte-order magic 00000000; expected 1a2b3c4d"),
        (
            [section(), simple(packet(SERVER), 60)],
            "offset 28: a simple packet; expected an interface before it",
        ),
        ([section(), interface()], "no packets; expected at least one"),
        (
            [section(), interface(options=option(9, b"\x20"))],
            r"if_tsresol: 10\^-32 s; expected 10\^-18, 2\^-62",
        ),
        ([section(), interface(options=option(9, b"12"))], "offset 44: if_tsresol of 2 bytes; expected 1"),
        ([section(), interface(options=option(14, b"12"))], "offset 44: if_tsoffset of 2 bytes; expected 8"),
        (
            [section(), interface(options=b"\1\0\x40\0")],
            "offset 44: option 1 of 64 bytes; expected at most 0",
        ),
        ([section(), interface(), block(6, b"", length=2**30)], "block length 1073741824; expected at most"),
        ([section(), interface(), block(7, b"", length=2**30)], "block ends early, 12 bytes left"),
    ],
)
def test_damaged_headers(capture, parts, said):
    with pytest.raises(FormatError, match=said):
        traces.read_nic(capture(*parts))


def test_malformed_records_of_pcap_can_be_skipped(capture):
    def record(seconds, fraction, content, size):
        return struct.pack("<IIII", seconds, fraction, len(content), size) + content

    header = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1)
    good = record(5, 0, packet(SERVER), 60)
    records = [
        good,
        record(5, 2**31, packet(SERVER), 60),
        record(5, 1, b"", 0),
        record(2**31, 1, b"", 9),
        good,
    ]
    bad = Bad(skip=True)
    assert traces.read_nic(capture(header, *records), bad=bad).size == 2
    assert bad.count == 3
    lost = struct.pack("<IIII", 5, 0, 2**31, 60)
    bad = Bad(skip=True)
    assert traces.read_nic(capture(header, good, lost, good), bad=bad).size == 1
    assert bad.count == 1
    assert "captured length 2147483648" in bad.examples[0]


def _pcap(link, records):
    parts = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link)]
    for tick, content, more in records:
        parts.append(struct.pack("<IIII", 7 + tick // 10**6, tick % 10**6, len(content), len(content) + more))
        parts.append(content)
    return b"".join(parts)


def _pcapng(link, records):
    parts = [section(">"), interface(">", link), interface(">", 1, options=option(9, b"\x94", ">"))]
    for n, (tick, content, more) in enumerate(records):
        if n % 3 == 2 and n > 2:
            parts.append(simple(content, len(content) + more, ">"))
        else:
            ticks = (7 * 2**20 + tick) if n % 3 else 7 * 10**6 + tick
            parts.append(enhanced(ticks, content, len(content) + more, n % 3 and 1, ">"))
    return b"".join(parts)


def _contents():
    lengths = st.integers(0, 60)
    random = st.binary(max_size=70)
    sound = st.tuples(st.sampled_from([SERVER, CLIENT]), lengths).map(lambda p: packet(p[0])[: p[1]])
    return st.lists(
        st.tuples(st.integers(0, 2**20), st.one_of(random, sound), st.integers(1, 99)), min_size=1, max_size=8
    )


@pytest.mark.nojit
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    made=st.sampled_from([(pcap, _pcap), (pcapng, _pcapng)]),
    link=st.sampled_from(sorted(packets.LINK_HEADERS)),
    records=_contents(),
    damage=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=3),
    cut=st.integers(0, 4000),
)
def test_a_slow_reader_says_the_same(capture, made, link, records, damage, cut):
    module, make = made
    data = bytearray(make(link, records))
    for at, value in damage:
        data[at % len(data)] = value
    data = bytes(data[: max(cut, 4)])
    path = capture(data)
    expected = getattr(captures_naive, module.__name__.rpartition(".")[2])(data)
    refusal = ""
    try:
        found = np.concatenate(list(module.batches(path, Bad())))
    except FormatError as error:
        refusal = str(error)
    assert (refusal == "") == (expected is not None)
    if expected is None:
        assert refusal.startswith(str(path))
    else:
        rows = list(zip(*(found[name].tolist() for name in found.dtype.names), strict=True))
        start, first = rows[0][0], expected[0][0]
        assert [(t - start, *rest) for t, *rest in rows] == [(t - first, *rest) for t, *rest in expected]
    # What is skipped is counted, and what is whole is not.
    bad = Bad(skip=True)
    try:
        sizes = [int(batch["bytes"].min()) for batch in module.batches(path, bad)]
    except FormatError:
        sizes = []
        bad.count = 1
    assert all(size >= 1 for size in sizes)
    assert (bad.count > 0) == (expected is None)


@pytest.mark.parametrize("order", ["<", ">"])
def test_what_a_capture_says_of_a_packet_decides_before_its_ports(capture, order):
    path = capture(
        section(order),
        interface(order),
        *(flagged(NOW + way, packet(SERVER), way, order) for way in range(4)),
        *(flagged(NOW + 4 + way, packet(CLIENT), way, order) for way in range(3)),
    )
    rx, tx = traces.NIC_RX, traces.NIC_TX
    # 0: it does not say; 3 is reserved.
    assert traces.read_nic(path)["direction"].tolist() == [tx, rx, tx, tx, rx, rx, tx]
    # Somebody who says which end is ours knows better.
    assert traces.read_nic(path, local="80")["direction"].tolist() == [tx] * 4 + [rx] * 3


def test_packets_of_others_are_counted(capture):
    third = bytes(12) + b"\x08\0" + b"\x45" + bytes(11) + b"\x0a\0\0\1\x0a\0\0\3" + bytes(4)
    path = capture(
        section(),
        interface(),
        interface(link=105),
        enhanced(NOW, packet(SERVER)),
        enhanced(NOW + 1, third),
        enhanced(NOW + 2, b"radio", face=1),
        enhanced(NOW + 3, third),
    )
    bad = Bad()
    assert traces.read_nic(path, bad=bad, local="10.0.0.2").size == 1
    assert list(bad.notes()) == [
        "left out: 1 packet of interfaces with another link type",
        "left out: 2 packets that 10.0.0.2 has no part in",
    ]
    bad = Bad()
    assert traces.read_nic(path, bad=bad).size == 3
    assert list(bad.notes()) == ["left out: 1 packet of interfaces with another link type"]


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ([60, 1514, 9014, 9238], []),
        ([1514, 9239], ["1 frame of up to 9239 B"]),
        ([65550, 1514, 14494], ["2 frames of up to 65550 B"]),
    ],
)
def test_frames_that_no_line_carries_are_told_of(capture, sizes, said):
    """Captures on a host see what the driver hands to the adapter, before it is cut."""
    parts = [enhanced(NOW + i, packet(SERVER), size) for i, size in enumerate(sizes)]
    bad = Bad()
    traces.read_nic(capture(section(), interface(), *parts), bad=bad)
    tail = "which segmentation offload or a loopback made: an adapter has several on its line for each"
    assert list(bad.notes()) == [f"{found}, {tail}" for found in said]
