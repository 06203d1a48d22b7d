"""Recorded TLPs: captures of link types for private use, whose TLPs they are, and what is malformed."""

import gzip
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracles import tlp_naive, tlp_records
from oracles.tlp_records import DOWN, UNSAID, UP
from tlp_strategies import tlps

from sevpcie_core import ide
from sevpcie_core.cli import wire
from sevpcie_core.errors import ConfigError, FormatError
from sevpcie_core.workload import traces
from sevpcie_core.workload.traces import Bad, Cut, tlp_pcap
from sevpcie_core.workload.traces.tlps import parse_local

MWR = bytes.fromhex("60000001 0100000f 00000001 10000040 deadbeef")
MRD = bytes.fromhex("20000010 010005ff 00000001 10000000")
CPLD = bytes.fromhex("4a000010 00000040 01000500") + bytes(64)
BELL = bytes.fromhex("40000001 0000000f e0001000 00000020")
CFG = bytes.fromhex("04000001 0000000f 01000000")


def pcap(packets, link=147, order="<"):
    """Return a capture of (nanoseconds, way, TLP, bytes that are captured); it has no place for the way."""
    parts = [struct.pack(order + "IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, link)]
    for time, _, content, captured in packets:
        seconds, rest = divmod(time, 10**9)
        kept = content[:captured]
        parts.append(
            struct.pack(order + "IIII", 1_700_000_000 + seconds, rest, len(kept), len(content)) + kept
        )
    return b"".join(parts)


def block(kind, body, order):
    body += bytes(-len(body) % 4)
    return struct.pack(order + "II", kind, 12 + len(body)) + body + struct.pack(order + "I", 12 + len(body))


def pcapng(packets, link=147, order="<"):
    parts = [block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)]
    parts.append(block(1, struct.pack(order + "HHIHHBxxx", link, 0, 0, 9, 1, 9), order))
    for time, way, content, captured in packets:
        ticks = 1_700_000_000 * 10**9 + time
        kept = content[:captured]
        head = struct.pack(order + "IIIII", 0, ticks >> 32, ticks & 0xFFFFFFFF, len(kept), len(content))
        options = struct.pack(order + "HH3sx", 1, 3, b"abc")
        options += struct.pack(order + "HHI", 2, 4, 0xF0 | way) + struct.pack(order + "HH", 0, 0)
        parts.append(block(6, head + kept + bytes(-len(kept) % 4) + (options if way else b""), order))
    return b"".join(parts)


def text(packets):
    words = {UP: "up", DOWN: "down", UNSAID: ""}
    lines = [f"{time},{words[way]},{content[:kept].hex()}" for time, way, content, kept in packets]
    return "\n".join(["time_ns,direction,tlp", *lines, ""]).encode()


WHOLE = 9999
MADE = {"tlp-pcap": pcap, "tlp-pcapng": pcapng, "tlp-csv": text}


@pytest.fixture
def capture(tmp_path):
    def write(content):
        path = tmp_path / "capture"
        path.write_bytes(content)
        return path

    return write


def rows(records):
    return [tuple(int(value) for value in record) for record in records.tolist()]


@pytest.mark.nojit
@pytest.mark.parametrize("format", MADE)
@pytest.mark.parametrize("zipped", [False, True])
def test_a_capture_by_its_content(capture, format, zipped):
    packets = [(0, UP, MWR, WHOLE), (7, UP, MRD, WHOLE), (500, DOWN, CPLD, 12), (900, DOWN, BELL, WHOLE)]
    content = MADE[format](packets)
    path = capture(gzip.compress(content) if zipped else content)
    assert traces.detect(path) == format
    assert traces.FORMATS[format] == "tlp"
    assert rows(traces.read_tlp(path)) == [
        (0, 0x1_1000_0040, 4, 0x100, 0, 0x60, 0, 0),
        (7_000, 0x1_1000_0000, 64, 0x100, 5, 0x20, 0, 0),
        (500_000, 0, 64, 0x100, 5, 0x4A, 1, 0),
        (900_000, 0xE000_1000, 4, 0, 0, 0x40, 1, 0),
    ]
    assert rows(traces.read_tlp(path, cut=Cut(offset=1, limit=2, speed=2)))[-1][0] == 246_500


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("link", [147, 150, 162])
def test_link_types_and_byte_orders(capture, link, order):
    for format in ("tlp-pcap", "tlp-pcapng"):
        path = capture(MADE[format]([(3, UP, MWR, WHOLE)], link, order))
        assert traces.detect(path) == format
        assert traces.read_tlp(path).size == 1
        with pytest.raises(FormatError, match=f"{format}, a trace of kind tlp; expected kind nic: "):
            traces.read_nic(path)
    for link in (146, 163, 1):
        assert traces.detect(capture(pcap([(3, UP, MWR, WHOLE)], link, order))) == "pcap"
        assert traces.detect(capture(pcapng([(3, UP, MWR, WHOLE)], link, order))) == "pcapng"
    with pytest.raises(FormatError, match="pcap, a trace of kind nic; expected kind tlp: tlp-csv, tlp-pcap"):
        traces.read_tlp(capture(pcap([(3, UP, MWR, WHOLE)], 1, order)))


def test_a_long_comment_hides_no_interface(capture):
    content = pcapng([(3, UP, MWR, WHOLE)])
    section = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + struct.pack("<HH", 1, 9000) + bytes(9000)
    assert traces.detect(capture(block(0x0A0D0D0A, section, "<") + content[28:])) == "tlp-pcapng"
    # Nothing describes one.
    assert traces.detect(capture(content[:28])) == "pcapng"
    assert traces.detect(capture(content[:28] + struct.pack("<III", 7, 0, 0))) == "pcapng"


@pytest.mark.parametrize("format", MADE)
def test_ids_tell_where_nobody_does(capture, format):
    packets = [(n, UNSAID, content, WHOLE) for n, content in enumerate([MWR, MRD, CPLD, BELL, CFG])]
    path = capture(MADE[format](packets))
    assert traces.read_tlp(path)["down"].tolist() == [0, 0, 1, 1, 1]
    # Another device's: what it asks for, and is answered, goes down.
    path = capture(MADE[format]([*packets, (9, UNSAID, MRD[:4] + b"\x02\0" + MRD[6:], WHOLE)]))
    assert traces.read_tlp(path)["down"].tolist() == [0, 0, 1, 1, 1, 0]
    for local in ("01:00.0", "0000:01:00.0", "1:", "01:00"):
        assert traces.read_tlp(path, local=local)["down"].tolist() == [0, 0, 1, 1, 1, 1]
    assert traces.read_tlp(path, local="02:00.0")["down"].tolist() == [1, 1, 0, 1, 1, 0]
    with pytest.raises(ConfigError, match=r"local: '03:00.0' is in no TLP of .*capture; expected the ID"):
        traces.read_tlp(path, local="03:00.0")


@pytest.mark.parametrize("format", ["tlp-pcapng", "tlp-csv"])
def test_what_the_file_says_counts(capture, format):
    path = capture(MADE[format]([(0, DOWN, MWR, WHOLE), (1, UP, BELL, WHOLE), (2, UP, CPLD, WHOLE)]))
    assert traces.read_tlp(path)["down"].tolist() == [1, 0, 0]
    with pytest.raises(ConfigError, match=r"local: '01:00.0': .* says of each TLP which way it went"):
        traces.read_tlp(path, local="01:00.0")


@pytest.mark.parametrize(
    "text", ["", "01", "01:20", "01:00.8", "1:2:3", "10.0.0.1", "x:", "01:00.0 x", "123:"]
)
def test_ids_that_are_none(text):
    with pytest.raises(ConfigError, match=r"expected BUS:DEVICE.FUNCTION as lspci prints it"):
        parse_local(text)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x1f" + MWR[1:], "Fmt and Type: there is no such TLP"),
        (
            MWR[:15],
            r"Length: the TLP ends before what its header speaks of \(15 bytes\); expected its header",
        ),
        (MWR + b"\0", r"Length: bytes follow behind what its header speaks of \(21 bytes\); expected"),
        (MRD[:14] + b"\x0f\xfc", "Address: a memory request must not cross a 4 KiB boundary"),
        (MRD[:8] + b"\xff" * 6 + b"\xf0\0", "Address: beyond 63 bits; expected less"),
        (MRD[:7] + b"\xf0" + MRD[8:], "First or Last DW BE: must not be 0 where Length is more than 1"),
        (b"\x92\0\0\x08" + MWR, "trailer: PCRC and MAC as the IDE prefix says"),
    ],
)
def test_malformed_tlps_say_where_and_why(capture, content, said):
    packets = [(0, UP, MWR, WHOLE), (1, UP, content, WHOLE), (2, UP, MRD, WHOLE), (3, UP, content, WHOLE)]
    for format, make in MADE.items():
        path = capture(make(packets))
        with pytest.raises(FormatError, match=said) as caught:
            traces.read_tlp(path)
        if format == "tlp-csv":
            assert str(caught.value).startswith(f"{path}:3: tlp: ")
        else:
            place = int(str(caught.value).removeprefix(f"{path}: offset ").split(":")[0])
            assert path.read_bytes()[place : place + len(content)] == content
        # What lies before it may be all that is wanted.
        assert traces.read_tlp(path, cut=Cut(limit=1)).size == 1
        bad = Bad(skip=True)
        assert traces.read_tlp(path, bad=bad)["kind"].tolist() == [0x60, 0x20]
        assert bad.count == 2


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (
            "direction,tlp",
            r"capture:1: header: no column of time; expected time_ns or time_us, direction and tlp",
        ),
        ("time_ns,time_us,tlp", "capture:1: header: time_ns and time_us; expected time_ns or time_us"),
        ("time_us,direction", "capture:1: header: no column 'tlp'; expected tlp"),
    ],
)
def test_headers_that_lack_something(capture, first, said):
    from sevpcie_core.workload.traces import tlp_csv

    with pytest.raises(FormatError, match=said):
        list(tlp_csv.batches(capture(f"{first}\n".encode()), Bad()))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0,up,6000000g", r"capture:2: tlp: 'g' in '6000000g'; expected hexadecimal digits"),
        ("0,up,600", "capture:2: tlp: 3 hexadecimal digits; expected a whole number of bytes"),
        ("0,up,", "capture:2: tlp: 0 hexadecimal digits; expected a whole number of bytes"),
        ("0,left,60000000", "capture:2: direction: 'left'; expected up or down"),
        ("x,up,60000000", "capture:2: time_ns: 'x'; expected nanoseconds of 0 or more"),
        ("0,up", "capture:2: 2 fields; expected 3 as in the header"),
    ],
)
def test_malformed_lines(capture, line, said):
    with pytest.raises(FormatError, match=said):
        traces.read_tlp(capture(f"time_ns,direction,tlp\n{line}\n".encode()))


def test_times_in_microseconds_and_columns_in_any_order(capture):
    content = f"note,tlp,time_us\nx,{MWR.hex(' ', -4)},1.25\n,0x{MRD.hex('_', 4)},1.2500010000001\n"
    records = traces.read_tlp(capture(content.encode()))
    assert records["t_ps"].tolist() == [0, 1]
    assert records["down"].tolist() == [0, 0]


@pytest.mark.parametrize("pcrc", [False, True])
def test_a_sealed_tlp_is_the_one_that_it_protects(capture, pcrc):
    plain = [MWR, MRD, CPLD, BELL]
    sealed = [
        ide.seal_once([tlp], profile="sev-pcie", key=bytes(16), stream_id=1, sub_stream=None, pcrc=pcrc).wire
        for tlp in plain
    ]
    assert all(len(a) > len(b) for a, b in zip(sealed, plain, strict=True))
    found = [
        rows(traces.read_tlp(capture(text([(n, UNSAID, content, WHOLE) for n, content in enumerate(some)]))))
        for some in (plain, sealed)
    ]
    assert found[0] == found[1]


def test_what_seal_takes_is_a_column(capture, tmp_path):
    packets = [(0, UP, MWR, WHOLE), (1, UP, MRD, WHOLE), (2, DOWN, CPLD, WHOLE)]
    column = [line.split(",")[2] for line in text(packets).decode().splitlines()[1:]]
    file = tmp_path / "tlps.txt"
    file.write_text("\n".join(column))
    assert [content for _, content in wire.lines_of(file)] == [MWR, MRD, CPLD]
    # And what it does not count, neither does this.
    dressed = f" 0x{MWR.hex(':')}_ "
    file.write_text(dressed)
    assert wire.lines_of(file)[0][1] == MWR
    records = traces.read_tlp(capture(f"time_ns,tlp\n0,{dressed}\n".encode()))
    assert rows(records) == rows(traces.read_tlp(capture(text([(0, UP, MWR, WHOLE)]))))


def test_what_receivers_do_not_enforce(capture):
    # An address below 4 GiB with four DW, and a reserved bit of DW 0.
    found = [bytes.fromhex("60000001 0100000f 00000000 10000040"), MRD[:1] + b"\x02" + MRD[2:]]
    for make in MADE.values():
        records = traces.read_tlp(capture(make([(n, UP, tlp, WHOLE) for n, tlp in enumerate(found)])))
        assert records["address"].tolist() == [0x1000_0040, 0x1_1000_0000]


def test_an_empty_capture(capture):
    with pytest.raises(FormatError, match="no packets; expected at least one"):
        traces.read_tlp(capture(pcap([])))
    with pytest.raises(FormatError, match="no TLP; expected at least one"):
        traces.read_tlp(capture(b"time_ns,direction,tlp\n"))


# --- Against the plain codec ------------------------------------------------------------------------------


@st.composite
def captures(draw):
    """Draw (ns, way, TLP, captured bytes), among them some that are none."""
    found = []
    for time in range(draw(st.integers(1, 6))):
        content = tlp_naive.write(draw(tlps()))
        if draw(st.integers(0, 3)) == 0:
            content = bytearray(content)
            for _ in range(draw(st.integers(1, 3))):
                content[draw(st.integers(0, min(len(content), 40) - 1))] = draw(st.integers(0, 255))
            content = bytes(content) + draw(st.binary(max_size=3))
        kept = draw(st.sampled_from([WHOLE, WHOLE, 64, 20, 16, 12]) | st.integers(1, 40))
        found.append((time, draw(st.sampled_from([UNSAID, UP, DOWN])), content, kept))
    return found


@pytest.mark.parametrize("format", MADE)
@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(packets=captures())
def test_a_plain_codec_reads_the_same(capture, format, packets):
    expected = []
    for time, way, content, kept in packets:
        size = len(content[:kept]) if format == "tlp-csv" else len(content)
        told = UNSAID if format == "tlp-pcap" else way
        expected.append((time * 1000, tlp_records.record(content[:kept], size, told)))
    good = [(time, *record) for time, record in expected if record is not None]
    path = capture(MADE[format](packets))
    bad = Bad(skip=True)
    if good:
        found = rows(traces.read_tlp(path, bad=bad))
        assert found == [(time - good[0][0], *rest) for time, *rest in good]
    else:
        with pytest.raises(FormatError, match="no TLP; expected at least one"):
            traces.read_tlp(path, bad=bad)
    assert bad.count == len(expected) - len(good)


@pytest.mark.parametrize("format", MADE)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_mutated_files_are_read_or_refused(capture, format, data):
    packets = [(0, UP, MWR, WHOLE), (5, DOWN, CPLD, 30), (6, UNSAID, MRD, WHOLE), (9, DOWN, BELL, WHOLE)]
    content = bytearray(MADE[format](packets))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    path = capture(bytes(content[: data.draw(st.integers(1, 1000))]))
    for skip in (False, True):
        refusal = ""
        try:
            records = traces.read_tlp(path, bad=Bad(skip))
        except FormatError as error:
            refusal = str(error)
        else:
            assert (records["bytes"] >= 0).all()
            assert (np.diff(records["t_ps"]) >= 0).all()
            assert records["t_ps"][0] == 0
        assert refusal == "" or refusal.startswith(str(path))
        assert "\n" not in refusal


def test_batches_of_any_size_give_the_same(capture, monkeypatch):
    packets = [(n, UP, MWR if n % 3 else MRD[:9], WHOLE) for n in range(40)]
    for make in (pcap, pcapng):
        path = capture(make(packets))
        bad = Bad(skip=True)
        whole = rows(traces.read_tlp(path, bad=bad))
        assert (len(whole), bad.count) == (26, 14)
        for module in (traces.pcap, traces.pcapng):
            monkeypatch.setattr(module, "ROOM", 3)
        again = Bad(skip=True)
        assert rows(traces.read_tlp(path, bad=again)) == whole
        assert again.examples == bad.examples
        monkeypatch.undo()
    assert tlp_pcap.USER.headers[162] == 0
