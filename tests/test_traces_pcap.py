"""Packet captures, and the line that spaces them."""

import ipaddress
import struct
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sevpcie_core.errors import ConfigError, FormatError, MisuseError
from sevpcie_core.workload import traces
from sevpcie_core.workload.traces import NIC_RX, NIC_TX, pcap

MICRO, NANO = 0xA1B2C3D4, 0xA1B23C4D


def header(magic=NANO, order="<", link=1, major=2):
    return struct.pack(order + "IHHiIII", magic, major, 4, 0, 0, 65535, link)


def record(seconds, fraction, content=b"", original=None, order="<"):
    size = len(content) if original is None else original
    return struct.pack(order + "IIII", seconds, fraction, len(content), size) + content


def ip(source, target, ports=None, protocol=6, options=0, fragment=0):
    """An IP packet as far as the ports."""
    a, b = ipaddress.ip_address(source), ipaddress.ip_address(target)
    end = struct.pack(">HH", *ports) if ports else b""
    if a.version == 6:
        return struct.pack(">IHBB", 6 << 28, len(end), protocol, 64) + a.packed + b.packed + end
    start = bytes([0x45 + options]) + bytes(5) + struct.pack(">HBBH", fragment, 64, protocol, 0)
    return start + a.packed + b.packed + bytes(4 * options) + end


def ethernet(payload, tags=()):
    kind = 0x86DD if payload[:1] and payload[0] >> 4 == 6 else 0x0800
    return (
        bytes(12) + b"".join(struct.pack(">HH", tag, 5) for tag in tags) + struct.pack(">H", kind) + payload
    )


PACKET = ethernet(ip("10.0.0.1", "10.0.0.2", (80, 40000)))


@pytest.fixture
def capture(tmp_path):
    def write(*parts):
        path = tmp_path / "capture.pcap"
        path.write_bytes(b"".join(parts))
        return path

    return write


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("magic", "unit"), [(MICRO, 10**6), (NANO, 10**3)])
def test_byte_orders_and_time_units(capture, order, magic, unit):
    path = capture(
        header(magic, order),
        record(1_700_000_000, 999, PACKET, 1514, order),
        record(1_700_000_001, 3, PACKET, 60, order),
    )
    frames = traces.read_nic(path)
    assert frames.dtype == traces.NIC_DTYPE
    assert frames["t_ps"].tolist() == [0, 10**12 - 996 * unit]
    assert frames["bytes"].tolist() == [1514, 60]


@pytest.mark.parametrize(
    ("link", "before", "extra"),
    [
        (0, struct.pack("<I", 2), 10),
        (108, struct.pack(">I", 2), 10),
        (101, b"", 14),
        (113, bytes(14) + b"\x08\x00", -2),
        (276, b"\x08\x00" + bytes(18), -6),
    ],
    ids=["null", "loop", "raw", "cooked", "cooked2"],
)
def test_other_link_types_count_as_ethernet(capture, link, before, extra):
    content = before + ip("10.0.0.1", "10.0.0.2", (40000, 80))
    frames = traces.read_nic(capture(header(link=link), record(0, 0, content, 1000)))
    assert frames["bytes"].tolist() == [1000 + extra]
    assert frames["direction"].tolist() == [NIC_RX]


def test_a_frame_check_sequence_is_no_part_of_the_size(capture):
    # Bit 26: the length is known; bits 28 to 31: two 16-bit words.
    path = capture(header(link=1 | 0x0400_0000 | 2 << 28), record(0, 0, PACKET, 1518))
    assert traces.read_nic(path)["bytes"].tolist() == [1514]


@pytest.mark.parametrize(
    ("packet", "direction"),
    [
        (ip("10.0.0.1", "10.0.0.2", (80, 40000)), NIC_TX),
        (ip("10.0.0.1", "10.0.0.2", (40000, 80)), NIC_RX),
        (ip("10.0.0.1", "10.0.0.2", (80, 40000), protocol=17), NIC_TX),
        (ip("10.0.0.1", "10.0.0.2", (80, 40000), options=10), NIC_TX),
        (ip("fe80::1", "fe80::2", (80, 40000)), NIC_TX),
        (ip("fe80::1", "fe80::2", (40000, 80), protocol=17), NIC_RX),
        # No two ports: received.
        (ip("10.0.0.1", "10.0.0.2", (80, 80)), NIC_RX),
        (ip("10.0.0.1", "10.0.0.2", (80, 40000), protocol=1), NIC_RX),
        (ip("10.0.0.1", "10.0.0.2", (80, 40000), fragment=100), NIC_RX),
        (ip("10.0.0.1", "10.0.0.2"), NIC_RX),
        (ip("10.0.0.1", "10.0.0.2", (80, 40000))[:21], NIC_RX),
        (b"", NIC_RX),
    ],
)
@pytest.mark.parametrize("tags", [(), (0x8100,), (0x88A8, 0x8100)])
def test_the_lower_port_is_local(capture, packet, direction, tags):
    # Another packet follows, so that bytes are there to be misread.
    frames = traces.read_nic(
        capture(header(), record(0, 0, ethernet(packet, tags), 100), record(0, 1, b"\x45" * 80))
    )
    assert frames["direction"].tolist()[0] == direction


CONVERSATION = [
    ip("10.0.0.1", "10.0.0.2", (6390, 40000)),
    ip("10.0.0.2", "10.0.0.1", (40000, 6390)),
    ip("fe80::1", "fe80::2", (443, 50000)),
    ip("10.0.0.3", "10.0.0.4", (1, 2)),
    ip("10.0.0.1", "10.0.0.1", (7, 8)),
]


@pytest.mark.parametrize(
    ("local", "sizes", "directions"),
    [
        ("10.0.0.1", [100, 101, 104], [NIC_TX, NIC_RX, NIC_TX]),
        ("10.0.0.2", [100, 101], [NIC_RX, NIC_TX]),
        ("10.0.0.1:6390", [100, 101], [NIC_TX, NIC_RX]),
        ("6390", [100, 101], [NIC_TX, NIC_RX]),
        ("40000", [100, 101], [NIC_RX, NIC_TX]),
        ("fe80::2", [102], [NIC_RX]),
        ("[fe80::1]:443", [102], [NIC_TX]),
        ("[fe80::1]", [102], [NIC_TX]),
    ],
)
def test_local_names_one_end(capture, local, sizes, directions):
    packets = [record(0, n, ethernet(packet), 100 + n) for n, packet in enumerate(CONVERSATION)]
    frames = traces.read_nic(capture(header(), *packets), local=local)
    assert frames["bytes"].tolist() == sizes
    assert frames["direction"].tolist() == directions
    assert frames["t_ps"][0] == 0


@pytest.mark.parametrize("local", ["10.0.0.9", "10.0.0.1:1", "9", "::1"])
def test_local_that_nobody_is(capture, local):
    with pytest.raises(ConfigError, match=r"is no end of any packet.* is: 10.0.0.1:80, 10.0.0.2:40000$"):
        traces.read_nic(capture(header(), record(0, 0, PACKET)), local=local)


@pytest.mark.parametrize(
    "local",
    ["", "x", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:65536", "10.0.0", "[::1", "[::1]x", "[::1]:", ":80", "0"],
)
def test_local_that_is_no_address(local):
    with pytest.raises(ConfigError, match="expected ADDRESS, ADDRESS:PORT"):
        pcap.parse_local(local)


GOOD = record(100, 0, PACKET)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (header()[:20], "offset 0: 20 bytes; expected the 24-byte pcap header"),
        (header(major=1), "offset 4: pcap version 1.4; expected 2.4"),
        (header(link=105), "offset 20: link type 105; expected one of 0, 1, 101, 108, 113, 276"),
        (header(), "offset 24: no packets; expected at least one"),
        (header() + GOOD[:10], "offset 24: record ends early, 10 bytes left; expected whole records"),
        (header() + GOOD + GOOD[:-1], "offset 78: record ends early, 53 bytes left"),
        (
            header() + struct.pack("<IIII", 1, 0, 300000, 300000),
            "offset 32: captured length 300000; expected at most",
        ),
        (
            header() + GOOD + struct.pack("<IIII", 1, 0, 2**32 - 1, 64),
            "offset 86: captured length 4294967295",
        ),
        (
            header() + GOOD + record(100, 10**9, PACKET),
            "offset 82: fraction of a second 1000000000; expected less",
        ),
        (
            header() + record(100, 0, PACKET, 4),
            "offset 32: captured length 38; expected at most the original",
        ),
        (header() + record(100, 0, b"", 0), "offset 36: original length 0; expected 1 to"),
        (header() + record(100, 0, b"", 2**31), "offset 36: original length 2147483648; expected 1 to"),
        (header() + GOOD + record(98, 0, PACKET), "offset 78: time: 2.000 s before an earlier record"),
        (
            header() + GOOD + record(2**32 - 1, 0, PACKET),
            "offset 78: seconds: spans 11[0-9.]+ h; expected at most 2 h",
        ),
    ],
)
def test_damaged_captures_name_the_offset(capture, data, said):
    path = capture(data)
    with pytest.raises(FormatError, match=said) as caught:
        traces.read_nic(path)
    assert str(caught.value).startswith(str(path))


def test_a_capture_of_two_hours_at_most(capture):
    late = header() + GOOD + record(100 + 2 * 3600, 0, PACKET)
    assert traces.read_nic(capture(late)).size == 2
    with pytest.raises(FormatError, match=r"offset 78: time: spans 2.01 h; expected at most 2 h \(cut it"):
        traces.read_nic(capture(header() + GOOD + record(100 + 2 * 3600, 999_999_999, PACKET)))
    six = header() + GOOD + record(100 + 6 * 3600, 0, PACKET)
    with pytest.raises(FormatError, match=r"offset 78: time: spans 6 h; expected at most 2 h"):
        traces.read_nic(capture(six))
    assert traces.read_nic(capture(six), cut=traces.Cut(limit=1)).size == 1


def test_small_steps_back_are_put_in_order(capture):
    path = capture(
        header(), record(5, 500, PACKET, 100), record(5, 300, PACKET, 101), record(5, 300, PACKET, 102)
    )
    frames = traces.read_nic(path)
    assert frames["bytes"].tolist() == [101, 102, 100]
    assert frames["t_ps"].tolist() == [0, 0, 200_000]


def test_a_limit_forgives_what_lies_behind_it(capture):
    frames = traces.read_nic(capture(header(), GOOD, GOOD, GOOD, b"torn"), cut=traces.Cut(limit=2))
    assert frames.size == 2


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    packets=st.lists(
        st.tuples(
            st.integers(0, 10**9 - 1), st.integers(1, 65535), st.integers(1, 65535), st.integers(0, 200)
        ),
        min_size=1,
        max_size=30,
    ),
    chunk=st.integers(24, 400),
)
def test_pieces_of_any_size_give_the_same(capture, packets, chunk):
    # The file is read in pieces; records lie across their borders.
    packets.sort()
    parts = [
        record(7, t, ethernet(ip("10.0.0.1", "10.0.0.2", (a, b))) + bytes(size)) for t, a, b, size in packets
    ]
    path = capture(header(), *parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pcap, "_CHUNK", chunk)
        frames = traces.read_nic(path)
    assert frames["t_ps"].tolist() == [(t - packets[0][0]) * 1000 for t, *_ in packets]
    assert frames["bytes"].tolist() == [38 + size for *_, size in packets]
    assert frames["direction"].tolist() == [NIC_TX if a < b else NIC_RX for _, a, b, _ in packets]


def test_thirty_thousand_packets_take_less_than_a_fifth_of_a_second(capture):
    content = PACKET + bytes(60)
    path = capture(header(), *(record(n // 1000, n, content, 1514) for n in range(30000)))
    best = np.inf
    for _ in range(3):
        start = time.perf_counter()
        assert traces.read_nic(path).size == 30000
        best = min(best, time.perf_counter() - start)
    assert best < 0.2


@pytest.mark.parametrize(
    ("name", "port", "packets", "total"),
    # README of the recordings.
    [
        ("redis_benchmark", 6390, 25653, 16_404_604),
        ("nginx_small", 8090, 30000, 21_609_093),
        ("iperf3_udp", 5290, 17873, 25_733_740),
    ],
)
def test_full_recordings(reference_data, name, port, packets, total):
    path = reference_data / "traces" / "nic" / f"{name}.pcap.gz"
    if not path.exists():
        pytest.skip(f"no {path}")
    frames = traces.read_nic(path)
    assert frames.size == packets
    assert int(frames["bytes"].sum()) == total
    # Servers listen below their clients, so naming the port changes nothing.
    assert (traces.read_nic(path, local=str(port)) == frames).all()


def naive_pace(times, sizes, rate):
    """A[i] = max(times[i], A[i-1] + occupancy), one by one."""
    out = []
    for t, size in zip(times, sizes, strict=True):
        occupancy = -(-(max(size, 60) + 24) * 8 * 10**12 // rate)
        out.append(max(t, out[-1] + occupancy) if out else t)
    return out


@given(
    frames=st.lists(st.tuples(st.integers(0, 10**7), st.integers(1, 9000)), min_size=1, max_size=50),
    rate=st.sampled_from([10**10, 10**11, 2 * 10**11, 4 * 10**11, 3 * 10**11, 123_456_789_012]),
)
def test_a_line_spaces_frames(frames, rate):
    times = np.sort(np.array([t for t, _ in frames], dtype=np.int64))
    sizes = np.array([size for _, size in frames], dtype=np.int64)
    wanted = naive_pace(times.tolist(), sizes.tolist(), rate)
    assert traces.pace_line(times, sizes, rate).tolist() == wanted
    # In two pieces, the second behind the first.
    for cut in range(1, len(times)):
        first = traces.pace_line(times[:cut], sizes[:cut], rate)
        second = traces.pace_line(times[cut:], sizes[cut:], rate, int(first[-1]))
        assert [*first.tolist(), *second.tolist()] == wanted


def test_a_full_frame_at_400_gigabits_takes_30760_ps():
    # 1514 + 24 bytes at 20 ps each.
    assert traces.occupancy_ps(np.array([1514]), 4 * 10**11).tolist() == [30760]
    # A short frame is padded to 60 bytes.
    assert traces.occupancy_ps(np.array([1]), 4 * 10**11).tolist() == [84 * 20]


def test_what_a_line_refuses():
    one = np.array([1], dtype=np.int64)
    with pytest.raises(ConfigError, match="expected 1 b/s or more"):
        traces.pace_line(one, one, 0)
    with pytest.raises(ConfigError, match="less than 53 days"):
        traces.pace_line(one, np.array([2**40], dtype=np.int64), 7)
    with pytest.raises(MisuseError, match="expected one of each per frame"):
        traces.pace_line(one, np.array([1, 2], dtype=np.int64), 10**9)
