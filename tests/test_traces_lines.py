"""Line formats: the kernel, the slow path and an oracle say the same, of good files and of damaged ones."""

import gzip
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from oracles import traces_naive

from sevpcie_core.errors import ConfigError, FormatError
from sevpcie_core.workload import traces
from sevpcie_core.workload.traces import (
    NVME_FLUSH,
    NVME_READ,
    NVME_TRIM,
    NVME_WRITE,
    NVME_WRITE_ZEROES,
    Bad,
    Cut,
    bad,
    blkparse,
    fields,
    fio_iolog,
    generic_csv,
    gpu_csv,
    lines,
    msr_csv,
    nvme_csv,
    qemu_nvme_log,
    tlp_csv,
)

# Per format: its reader, its first line, and lines among which good and odd ones are.
CASES = {
    "fio3": (
        fio_iolog.batches,
        b"fio version 3 iolog\n",
        [
            b"17 /dev/nvme0n1 add",
            b"20 f read 64757760 8192",
            b"350 f write 794877952 4096",
            b"350.5 f trim 0 4096",
            b"  362\tf  sync 0 0 ",
            b"363 f datasync 0 0",
            b"1e3 f read +7 512",
            b"0000000000000000000000021 f read 5.00 512.",
            b"21 f read 0 1099511627777",
            b"22 f read 9999999999999999999 1",
            b"23 f wait 100 0",
            b"24 \xc3\xa9 read 0 512",
            b"9000000000000 f read 0 512",
            b"25 f reads 0 512",
        ],
    ),
    "fio2": (
        fio_iolog.batches,
        b"fio version 2 iolog\n",
        [
            b"f open",
            b"f wait 250 0",
            b"f wait 50",
            b"f wait",
            b"f wait 4320000000001",
            b"f wait 4319999999999",
            b"f read 0 512",
            b"f write 512 1024",
            b"f sync 0 0",
            b"f trim 512 1024",
            b"f read 0",
        ],
    ),
    "nvme-csv": (
        nvme_csv.batches,
        b"seq,time_us,phase,event,address,length,qid\n",
        [
            b"0,1000,linux_init,mmio_write_reg,0x14,4,",
            b"1,1010,marker,read,2097144,512,1",
            b"3,1021.0000004,randread,read,8,4096,1",
            b"4,1030,randwrite, write ,16,8192.0,2",
            b'5,1040.5,"fs""ync, x",flush,,,1',
            b"6,1041,trim,dsm_trim,,,",
            b"7,1042,trim,write,9007199254740992,512,1",
            b"7,1042,trim,write,7,0,1",
            b"8,1043,trim,read,7,512,70000",
            b'9,"1044",x,"read",7,512,1',
            b'9,"10"44,x,read,7,512,1',
            b"  ",
        ],
    ),
    "gpu-csv": (
        gpu_csv.batches,
        b"t_us,dur_us,event,name,bytes,stream\n",
        [
            b"100.000,38.671,runtime,cudaMemcpyAsync,0,",
            b"136.406,177.027,memcpy,Memcpy HtoD (Pinned -> Device),9633792,7",
            b'341.05,27.296,kernel,"void at::native::kernel<4, lo",0,7',
            b"343,0.8,memcpy,[dToH],64,9",
            b"350,1.344,memcpy,xHtoD HtoD_ PtoP,0,7",
            b"350,1.344,memcpy,_HtoD,64,7",
            b"350,1.344,memcpy,HtoD,0.0,7",
            b"360,1,memset,Memset (Device),,7",
            b"360,7200000000,kernel,k,0,7",
            b"360,1,kernel,k,0,2147483648",
            b"5,1.00000000000000000000005,kernel,\xe2\x82\xac,1,1",
        ],
    ),
    "msr-csv": (
        msr_csv.batches,
        b"128166372003061629,hm,1,Read,383496192,32768,413\n",
        [
            b"128166372016382155,hm,1,Write,2822144,4096,9",
            b"128166372026382245,hm,1,write,2822144,4096,",
            b"128166372026382245,hm,1,Trim,2822144,4096,1",
            b"128266372026382245,hm,1,Read,2822144,4096,1",
            b"12816637202638224x,hm,1,Read,2822144,4096,1",
            b"128166372026382246,h m,x,Read,0,0,1",
            b"128166372026382247,hm,1,Read,0,512",
        ],
    ),
    "blkparse": (
        blkparse.batches,
        b"259,0    0        2     0.000000000  1234  Q   R 2048 + 8 [fio]\n",
        [
            b"259,0    0        7     0.000001700  1234  D   R 2048 + 8 [fio]",
            b"259,0    0       14     0.000084400  1234  D  WS 2056 + 8 [a b, c]",
            b"259,0    0       45     0.000497200  1234  D  FN [fio]",
            b"259,0    0       44     0.000496200  1234  Q FWS [fio]",
            b"259,0    0       47     0.000498210  1234  D FWFS 4096 + 8 [fio]",
            b"259,0    0       49     0.000500210  1234  D  DS 8192 + 2048 [fio]",
            b"259,0    0       51     0.000502210  1234  D RAM 8192 + 8 [\xc3\xa9]",
            b"259,0    0       52     0.000503210  1234  D   N 0 (12 00 00 00 24 00 ..) [fio]",
            b"259,0    0       53     0.000503310  1234  D   R 36 (12 00 00 00 24 00 ..) [fio]",
            b"259,0    0       53     0.000503310  1234  D   R 36 [fio]",
            b"259,0    0       53     0.000503310  1234  D   R 36 + 0 [fio]",
            b"259,0    0       53     0.000503310  1234  D FWS 36 + 0 [fio]",
            b"259,0    0       54     0.000503410  1234  X   R 8192 / 8196 [fio]",
            b"259,0    0        0     0.000503520     0  m   N hello world msg",
            b"259,0    0        0     0.000503520     0  Z   N hello",
            b"CPU0 (syn):",
            b" Reads Queued:           3,       12KiB\t Writes Queued:           4,       12KiB",
            b" PC Read Disp.:          2,        0KiB",
            b"Events (syn): 55 entries",
            b"Skips: 0 forward (0 -   0.0%)",
        ],
    ),
    "qemu-nvme-log": (
        qemu_nvme_log.batches,
        b"88@1795731994.131174:pci_nvme_io_cmd cid 0 nsid 0x1 sqid 1 opc 0x2 opname 'NVME_NVM_CMD_READ'\n",
        [
            b"88@1795731994.131177:pci_nvme_read cid 0 nsid 1 nlb 8 count 4096 lba 0x10",
            b"88@1795731994.131178:pci_nvme_read cid 0 nsid 1 nlb 8 count 32768 lba 0xABC",
            b"88@1795731994.131179:pci_nvme_read cid 0 nsid 1 nlb 3 count 4096 lba 0x10",
            b"88@1795731994.131180:pci_nvme_read cid 0 nsid 1 nlb 3 lba 0x10 count 1536",
            b"88@1795731994.131181:pci_nvme_read cid 0 nsid 1 nlb 0 count 0 lba 0x10",
            b"88@1795731994.2:pci_nvme_write cid 2 opname 'NVME_NVM_CMD_WRITE' nsid 1 nlb 2 count 64 lba 0x3",
            b"88@1795731994.3:pci_nvme_write cid 2 "
            b"opname 'NVME_NVM_CMD_WRITE_ZEROES' nsid 1 nlb 1 count 512 lba 0x0",
            b"88@1795731994.3:pci_nvme_write cid 2 opname 'NVME_ZONED' nsid 1 nlb 1 count 512 lba 0x0",
            b"88@1795731994.3:pci_nvme_write cid 2 nsid 1 nlb 1 count 512 lba",
            b"88@1795731994.4:pci_nvme_io_cmd cid 0 nsid 0x1 sqid 2 opc 0x0 opname 'NVME_NVM_CMD_FLUSH'",
            b"88@1795731994.4:pci_nvme_io_cmd cid 0 nsid 0x1 sqid 3 opc 0x9 opname 'NVME_NVM_CMD_DSM'",
            b"88@1795731994.4:pci_nvme_io_cmd cid 0 nsid 0x1 sqid 40000 opc 0x2",
            b"88@1795731994.131181:pci_nvme_irq_pin pulsing IRQ pin",
            b"88@17957319x4.131181:pci_nvme_irq_pin pulsing IRQ pin",
            b"pci_nvme_read cid 0 nsid 1 nlb 8 count 4096 lba 0x10",
        ],
    ),
    "nvme-generic-csv": (
        generic_csv.nvme,
        b"time_us,op,bytes,offset,queue\n",
        [
            b"0.5,read,4096,0,1",
            b"1,flush,,,2",
            b"1,flush,,x,",
            b"2,trim,0,8192,3",
            b"2.25,write_zeroes,4096,4096,3",
            b"3,write,0,0,0",
            b"4,write,512,,32768",
            b"4,read,512,,32767",
            b"4,erase,512,0,1",
        ],
    ),
    "nic-generic-csv": (
        generic_csv.nic,
        b"direction,time_us,note,bytes\n",
        [b"rx,0,x,60", b"tx,1.25,,1514", b"tx,1.25,,0", b"tx,1.25,,262145", b"up,1,,60", b"rx,,,60"],
    ),
    "gpu-generic-csv": (
        generic_csv.gpu,
        b"time_us,duration_us,kind,bytes,stream\n",
        [b"0,2.5,h2d,4096,7", b"9,1,kernel,,", b"3,1,d2h,0,7", b"3,1,d2d,5,7", b"3,1,x,5,7", b"4,-1,d2h,5,7"],
    ),
    "tlp-csv": (
        tlp_csv.batches,
        b"time_ns,direction,tlp\n",
        [
            b"0,down,40000001 0000000f e0001000 00000020",
            b"1.5,up,20000010010005ff0000000110000000",
            b"2,,60:00:00:01 010000_0f 00000001 10000040 deadbeef",
            b"3,rx,4a00000100000004 01000500 12345678",
            b"4,tx,0x40000002 0100001e fee00000",
            b"5,upstream,200000010100010000000001FFFFFFFC",
            # Behind prefixes, one of IDE's: what it has is more than the kernel looks at.
            b"6,,8e000000 92000104 90000001 91000002 9e000003 60000001 0100000f 00000001 10000040 deadbeef",
            # ECRC; then a digit, and a byte, too many.
            b"7,up,60008001 0100000f 00000001 10000040 deadbeef 01020304",
            b"7,up,60000001 0100000f 00000001 10000040 deadbeef 0",
            b"7,up,60000001 0100000f 00000001 10000040 deadbeef 00",
            # Below 4 GiB with four DW; a reserved bit; across 4 KiB; no such TLP; cut off; no direction.
            b"8,up,60000001 0100000f 00000000 10000040",
            b"8,up,40020001 0100000f 10000040",
            b"9,up,20000010 010005ff 00000001 10000ff0",
            b"9,up,1f000010 010005ff 00000001 10000ff0",
            b"9,up,20000010 010005ff 00000001",
            b"9,sideways,20000010 010005ff 00000001 10000000",
            b"9,up,",
            b"9,up,20000010 010005ff 80000000 00000000",
            b"9,down,04000001 0000000f 01000000",
            b"9,down,74000000 0000007f 00000000 00000000",
        ],
    ),
}
NAMES = {"fio3": "fio-iolog", "fio2": "fio-iolog"}
EVERYTHING = 10**9
# Bytes that mean something in one of the formats.
BYTES = b"0123456789.,_+- \t\r\n\"'@:xeERWFDN\0\xff\xc3"


def read(path, batches):
    """Records in file order as tuples, and all messages, without the path."""
    found = Bad(skip=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bad, "EXAMPLES", EVERYTHING)
        parts = list(batches(path, found))
    assert found.count == len(found.examples)
    assert all(len(part) for part in parts)
    records = [tuple(int(value) for value in record) for part in parts for record in part.tolist()]
    return records, [message.removeprefix(f"{path}:") for message in found.examples]


def slowly(path, batches):
    """The same with a kernel that takes no line."""
    parse = fields.parse

    def take_none(*arguments):
        count = parse(*arguments)
        arguments[10][:count] = fields.UNSURE
        return count

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fields, "parse", take_none)
        return read(path, batches)


@st.composite
def damaged(draw, first, some):
    """A file of such lines, a few bytes of it changed."""
    body = draw(st.lists(st.sampled_from(some), max_size=12))
    end = draw(st.sampled_from([b"\n", b"\r\n"]))
    content = bytearray(end.join([*body, b""]))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(content)))
        match draw(st.sampled_from(["set", "insert", "cut", "any"])):
            case "set" if at < len(content):
                content[at] = draw(st.sampled_from(BYTES))
            case "insert":
                content[at:at] = bytes(draw(st.lists(st.sampled_from(BYTES), max_size=3)))
            case "cut":
                del content[at : at + draw(st.integers(1, 20))]
            case _:
                content[at:at] = draw(st.binary(max_size=4))
    return first + bytes(content)


def agree(path, name, data):
    batches = CASES[name][0]
    path.write_bytes(data)
    records, messages = read(path, batches)
    assert (records, messages) == slowly(path, batches)
    expected, bad_lines = traces_naive.read(NAMES.get(name, name), data)
    assert records == expected
    assert sorted(int(message.split(":")[0]) for message in messages) == bad_lines
    assert not any("\n" in message for message in messages)
    # Without skipping, the first malformed line is what is said.
    if messages:
        first = min(bad_lines)
        with pytest.raises(FormatError) as caught:
            list(batches(path, Bad()))
        assert str(caught.value).startswith(f"{path}:{first}: ")


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_fast_slow_and_naive_agree(tmp_path, name, data):
    _, first, some = CASES[name]
    agree(tmp_path / "trace", name, data.draw(damaged(first, some)))


def test_the_name_of_an_operation_stands_behind_its_label(tmp_path):
    line = b"8@1.5:pci_nvme_write cid 2 %s 'NVME_NVM_CMD_WRITE_ZEROES' nsid 1 nlb 1 count 512 lba 0x0\n"
    for label, op in ((b"opname", NVME_WRITE_ZEROES), (b"0pname", NVME_WRITE)):
        agree(tmp_path / "trace", "qemu-nvme-log", line % label)
        assert traces.read_nvme(tmp_path / "trace")["op"].tolist() == [op]


@pytest.mark.nojit
@pytest.mark.parametrize("name", CASES)
def test_every_odd_line(tmp_path, name):
    _, first, some = CASES[name]
    agree(tmp_path / "trace", name, first + b"\n".join(some))
    for line in some:
        agree(tmp_path / "trace", name, first + line + b"\n\n" + line)


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(junk=st.binary(max_size=200))
@example(junk=b"\n" * 40)
@example(junk=b'"')
def test_junk_is_reported_line_by_line(tmp_path, name, junk):
    _, first, some = CASES[name]
    agree(tmp_path / "trace", name, first + some[1] + b"\n" + junk + b"\n" + some[1] + b"\n")


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("read_size", [7, 64])
def test_blocks_of_any_size_give_the_same(tmp_path, monkeypatch, name, read_size):
    batches, first, some = CASES[name]
    path = tmp_path / "trace"
    path.write_bytes(first + b"\n".join(some * 3))

    def sorted_read(path):
        # Of a block, times that are too far come last.
        records, messages = read(path, batches)
        return records, sorted(messages)

    whole = sorted_read(path)
    monkeypatch.setattr(lines, "_READ", read_size)
    assert sorted_read(path) == whole
    monkeypatch.setattr(lines, "_ROOM", 3)
    assert sorted_read(path) == whole
    (tmp_path / "zipped").write_bytes(gzip.compress(path.read_bytes()))
    assert sorted_read(tmp_path / "zipped") == whole


@pytest.mark.parametrize("name", CASES)
def test_plain_lines_take_the_fast_path(tmp_path, monkeypatch, name):
    batches, first, some = CASES[name]
    plain = {"fio3": [1, 2, 5], "fio2": [0, 1, 6, 7, 8, 9], "nvme-csv": [0, 1, 3], "gpu-csv": [0, 1, 2, 3]}
    plain |= {"msr-csv": [0, 1], "blkparse": [0, 1, 3, 4, 5, 12, 13], "qemu-nvme-log": [0, 5, 6, 9, 10, 12]}
    plain |= {"nvme-generic-csv": [0, 4], "nic-generic-csv": [0, 1], "gpu-generic-csv": [0, 3]}
    plain |= {"tlp-csv": [0, 1, 2, 3, 5, 7, 10, 11, 18]}
    (tmp_path / "trace").write_bytes(first + b"".join(some[i] + b"\n" for i in plain[name]))

    def never(layout, line):
        raise AssertionError(line)

    monkeypatch.setattr(lines, "split", never)
    assert read(tmp_path / "trace", batches)[0]


def test_a_line_without_end_takes_no_memory(tmp_path):
    path = tmp_path / "trace"
    path.write_bytes(
        gzip.compress(b"fio version 3 iolog\n0 f read 0 512\n" + b"7" * (64 << 20) + b"\n5 f read 0 8\n", 1)
    )
    tracemalloc.start()
    records, messages = read(path, fio_iolog.batches)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [record[3] for record in records] == [512, 8]
    assert messages == ["3: a line of 65536 bytes or more; expected text"]
    assert most < 16 << 20


def test_a_long_log_takes_constant_memory(tmp_path):
    path = tmp_path / "trace"
    body = b"".join(b"%d f read %d 4096\n" % (n, 4096 * n) for n in range(20000))
    with path.open("wb") as file:
        file.write(b"fio version 3 iolog\n")
        for _ in range(80):
            file.write(body)
    tracemalloc.start()
    count = sum(len(batch) for batch in fio_iolog.batches(path, Bad()))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 80 * 20000
    assert path.stat().st_size > 32 << 20
    assert most < 16 << 20


def test_a_limit_forgives_what_lies_behind_it(tmp_path):
    path = tmp_path / "trace"
    path.write_bytes(b"fio version 3 iolog\n0 f read 0 512\n1 f read 0 512\ntorn\n")
    assert traces.read_nvme(path, cut=Cut(limit=2)).size == 2
    with pytest.raises(FormatError, match=r"trace:4: 'torn'; expected time_us file action"):
        traces.read_nvme(path)


def test_a_table_of_fields_is_exact():
    # The kernel's own rules, value by value: (text, whole, clock in microseconds).
    cases = [
        (b"0", 0, (0, 0)),
        (b"7.", 7, (7, 0)),
        (b"7.000", 7, (7, 0)),
        (b" 42\t", 42, (42, 0)),
        (b"7.25", None, (7, 250_000)),
        (b"0.0000010", None, (0, 1)),
        (b"0.0000001", None, None),
        (b"999999999999999999", 10**18 - 1, (10**18 - 1, 0)),
        (b"1000000000000000000", None, None),
        (b"-1", None, None),
        (b"+1", None, None),
        (b"1e3", None, None),
        (b"", None, None),
        (b".", None, None),
        (b".5", None, None),
        (b"1 2", None, None),
    ]
    slots = np.array([[0, fields.WHOLE, 0, 0, 0, 0, 0], [0, fields.CLOCK, 6, 0, 1, 0, 0]], np.int64)
    classes = lines.byte_classes(lines.Layout(",", [], 2))
    for text, whole, clock in cases:
        data = np.frombuffer(text + b",x\n", np.uint8)
        values = np.zeros((1, 3), np.int64)
        found = np.zeros(1, np.int64)
        fields.parse(
            data,
            0,
            True,
            2,
            classes,
            slots,
            np.zeros(1, np.uint8),
            np.zeros(1, np.int64),
            np.zeros((1, 2), np.int64),
            np.zeros(2, np.int64),
            found,
            values,
        )
        assert found.tolist() == [2]
        assert values[0, 0] == (fields.ODD if whole is None else whole), text
        if clock is None:
            assert values[0, 1] == fields.ODD, text
        else:
            assert tuple(values[0, 1:]) == clock, text


def test_actions_of_blkparse(tmp_path):
    path = tmp_path / "trace"
    queue = b"259,0 0 2 0.000000000 1234 Q R 2048 + 8 [fio]\n"
    issue = b"259,0 0 7 0.000001700 1234 D R 4096 + 16 [fio]\n"
    path.write_bytes(queue + issue)
    assert traces.read_nvme(path)["offset"].tolist() == [4096 * 512]
    assert traces.read_nvme(path, action="Q")["offset"].tolist() == [2048 * 512]
    path.write_bytes(queue)
    assert traces.read_nvme(path)["bytes"].tolist() == [4096]
    with pytest.raises(ConfigError, match="action 'C'; expected D, Q or I"):
        traces.read_nvme(path, action="C")


@pytest.mark.parametrize("minors", [[0, 0], [0, 5], [5] * 40 + [0], ["0", "0.0", "00"], ["0", "9" * 40]])
def test_drives_of_blkparse(tmp_path, minors):
    """Several of them on one link are told of."""
    lines = [f"259,{minor} 0 {i} 0.{i:09} 1 D R 8 + 8 [fio]\n" for i, minor in enumerate(minors)]
    # Another action, and another drive whose requests do not count.
    lines.append("8,1 0 99 0.900000000 1 A R 8 + 8 <- (8,0) 8\n")
    path = tmp_path / "t.log"
    path.write_text("".join(lines))
    bad = Bad()
    assert traces.read_nvme(path, bad=bad).size == len(minors)
    found = sorted({min(int(float(minor)), 2**63 - 1) for minor in minors})
    named = ", ".join(f"259:{minor}" for minor in found)
    said = f"requests of 2 drives ({named}) are replayed as those of one drive, on one link"
    assert list(bad.notes()) == ([said] if len(found) > 1 else [])


def test_skipped_records_are_counted(tmp_path):
    path = tmp_path / "trace"
    path.write_bytes(b"time_us,op,bytes\n0,read,512\n1,reed,512\n2,read,x\n3,read,512\n")
    skipped = Bad(skip=True)
    assert traces.read_nvme(path, bad=skipped)["t_ps"].tolist() == [0, 3_000_000]
    assert skipped.count == 2
    assert skipped.examples == [
        f"{path}:3: op: 'reed'; expected read, write, flush, trim or write_zeroes",
        f"{path}:4: bytes: 'x'; expected a whole number of 0 or more",
    ]
    path.write_bytes(b"time_us,op,bytes\n1,reed,512\n")
    with pytest.raises(
        FormatError, match=r"no read, write or flush; expected at least one \(1 malformed; .*reed"
    ):
        traces.read_nvme(path, bad=Bad(skip=True))


@pytest.mark.parametrize(
    ("name", "format", "counts", "moved", "queues"),
    # What fio reported of its job, and what the firmware's boot sector asks for.
    [
        ("fio_v3.iolog.gz", "fio-iolog", {NVME_READ: 85, NVME_WRITE: 65, NVME_FLUSH: 10}, 2_392_064, [0]),
        ("fio_v2.iolog.gz", "fio-iolog", {NVME_READ: 85, NVME_WRITE: 65, NVME_FLUSH: 10}, 2_392_064, [0]),
        (
            "blkparse.txt.gz",
            "blkparse",
            {NVME_READ: 85, NVME_WRITE: 65, NVME_FLUSH: 10, NVME_TRIM: 10},
            2_392_064 + 10 * 65536,
            [0],
        ),
        ("qemu_nvme.log.gz", "qemu-nvme-log", {NVME_READ: 13, NVME_WRITE: 12}, 512 + 24 * 512 * 8, [1]),
        ("msr.csv.gz", "msr-csv", {NVME_READ: 74, NVME_WRITE: 46}, 1_993_216, [0]),
    ],
)
def test_samples(root, name, format, counts, moved, queues):
    path = root / "tests" / "samples" / name
    assert traces.detect(path) == format
    commands = traces.read_nvme(path)
    ops, found = np.unique(commands["op"], return_counts=True)
    assert dict(zip(ops.tolist(), found.tolist(), strict=True)) == counts
    assert int(commands["bytes"].sum()) == moved
    assert np.unique(commands["queue"]).tolist() == queues


def test_write_zeroes_of_qemu(tmp_path):
    _, first, some = CASES["qemu-nvme-log"]
    (tmp_path / "trace").write_bytes(first + some[6] + b"\n" + some[9] + b"\n")
    commands = traces.read_nvme(tmp_path / "trace")
    assert commands["op"].tolist() == [NVME_WRITE_ZEROES, NVME_FLUSH]
    assert commands["queue"].tolist() == [1, 2]
    # What stands under another name is no opname.
    agree(tmp_path / "trace", "qemu-nvme-log", first + some[6].replace(b"opname", b"0pname") + b"\n")
