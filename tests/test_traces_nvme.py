"""Block I/O from fio logs and from CSV of a driver's interaction."""

import pytest

from sevpcie_core.errors import FormatError
from sevpcie_core.workload import traces
from sevpcie_core.workload.traces import NVME_FLUSH, NVME_READ, NVME_TRIM, NVME_WRITE


@pytest.fixture
def trace(tmp_path):
    def write(text):
        path = tmp_path / "io"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize(
    "text",
    ["fio version 3 iolog\n0 f read 0 {}\n", "time_us,event,address,length\n0,read,0,{}\n"],
)
def test_a_command_moves_a_tebibyte_at_most(trace, text):
    assert traces.read_nvme(trace(text.format(2**40)))["bytes"].tolist() == [2**40]
    for size in (2**40 + 1, 2**63 - 1, "9" * 5000):
        with pytest.raises(FormatError, match=r":2: length: '[0-9]+'; expected at most 1099511627776"):
            traces.read_nvme(trace(text.format(size)))


V3 = """fio version 3 iolog
17 testfile add
317 testfile open
320 testfile read 64757760 8192
350 testfile write 794877952 4096
350 testfile trim 0 4096
362 testfile sync 0 0
363 testfile datasync 0 0
400 testfile close
"""

V2 = """fio version 2 iolog
f add
f open
f wait 250 0
f read 0 512
f wait 50
f write 512 1024

f close
"""

CSV = """seq,time_us,phase,event,address,length,qid,cid,arg
0,1000,linux_init,mmio_write_reg,0x14,4,,,0x0
1,1010,marker,read,2097144,512,1,3,1
2,1020,randread,mmio_write_sq_doorbell,0x1008,4,,,2
3,1021,randread,read,8,4096,1,4,8
4,1030,randwrite,write,16,8192,1,5,16
5,1040.5,fsync,flush,,,1,6,0x0
6,1041,trim,dsm_trim,,,2,7,0x0
"""


def test_fio_version_3(trace):
    commands = traces.read_nvme(trace(V3))
    assert commands.dtype == traces.NVME_DTYPE
    assert commands["t_ps"].tolist() == [0, 30_000_000, 30_000_000, 42_000_000, 43_000_000]
    assert commands["op"].tolist() == [NVME_READ, NVME_WRITE, NVME_TRIM, NVME_FLUSH, NVME_FLUSH]
    assert commands["offset"].tolist() == [64757760, 794877952, 0, 0, 0]
    assert commands["bytes"].tolist() == [8192, 4096, 4096, 0, 0]


def test_fio_version_2_waits(trace):
    commands = traces.read_nvme(trace(V2))
    assert commands["t_ps"].tolist() == [0, 50_000_000]
    assert commands["op"].tolist() == [NVME_READ, NVME_WRITE]


def test_driver_csv(trace):
    commands = traces.read_nvme(trace(CSV))
    assert commands["t_ps"].tolist() == [0, 9_000_000, 19_500_000, 20_000_000]
    assert commands["op"].tolist() == [NVME_READ, NVME_WRITE, NVME_FLUSH, NVME_TRIM]
    # Addresses are blocks of 512 bytes.
    assert commands["offset"].tolist() == [4096, 8192, 0, 0]
    assert commands["bytes"].tolist() == [4096, 8192, 0, 0]
    assert commands["queue"].tolist() == [1, 1, 1, 2]


@pytest.mark.parametrize("text", [V3, V2, CSV])
def test_a_limit_takes_the_first_commands(trace, text):
    assert traces.read_nvme(trace(text), cut=traces.Cut(limit=1)).size == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("x f read 0 512", "time: 'x'; expected microseconds"),
        ("-5 f read 0 512", "time: '-5'"),
        ("5 f read -1 512", "offset: '-1'; expected a whole number of 0 or more"),
        ("5 f read 0 -512", "length: '-512'; expected a whole number"),
        ("5 f read 0 0", "length: '0'; expected 1 or more bytes"),
        ("5 f read 0", "4 fields; expected 5: time_us file action offset length"),
        ("5 f read 0 512 9", "6 fields; expected 5"),
        ("5 f reed 0 512", "'5 f reed 0 512'; expected time_us file action offset length"),
        ("f read 0 512", "expected time_us file action offset length"),
        ("5 f wait 100", "expected time_us file action"),
        ("nonsense", "'nonsense'; expected"),
    ],
)
def test_bad_lines_of_fio(trace, line, said):
    path = trace(f"fio version 3 iolog\n0 f read 0 512\n{line}\n")
    with pytest.raises(FormatError, match=said) as caught:
        traces.read_nvme(path)
    assert str(caught.value).startswith(f"{path}:3: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fio version 1 iolog\n0 f read 0 512\n", ":1: header: version 1; expected 2 or 3"),
        ("fio version 3 iolog\n0 f add\n", "no read, write or flush; expected at least one"),
        (
            "fio version 3 iolog\n9000000 f read 0 1\n1 f read 0 1\n",
            ":3: time: 9.000 s before an earlier record",
        ),
        ("fio version 2 iolog\nf wait x 0\nf read 0 1\n", ":2: wait: 'x'; expected a whole number"),
        ("time_us,event\n", ":1: header: no column 'address', 'length'; expected time_us, event"),
        ("time_us,event,address,length\n0,cqe_write,0,16\n", "no read, write or flush; expected"),
        ("time_us,event,address,length\n0,read,x,16\n", ":2: address: 'x'; expected a whole number"),
        (
            "time_us,event,address,length\n0,read,9007199254740992,16\n",
            "expected at most 9007199254740991",
        ),
        ("time_us,event,address,length\n0,read,0,-1\n", ":2: length: '-1'"),
        ("time_us,event,address,length\n0,read,0,0\n", ":2: length: '0'; expected 1 or more bytes"),
        ("time_us,event,address,length\nx,read,0,1\n", ":2: time_us: 'x'"),
        ("time_us,event,address,length\n0,read,0\n", ":2: 3 fields; expected 4"),
    ],
)
def test_other_bad_logs(trace, text, said):
    with pytest.raises(FormatError, match=said):
        traces.read_nvme(trace(text))


@pytest.mark.parametrize(
    ("file", "reads", "writes", "flushes"),
    [
        # README of the recordings: 30000 reads; 30000 I/Os; 6717 commands.
        ("block/randread4k_qd32.iolog.gz", 30000, 0, 0),
        ("block/oltp_mix70_30_8k_qd16.iolog.gz", 21045, 8955, 0),
        ("block/pgbench_nvme_block_fio_v3.iolog.gz", 3843, 1439, 1435),
    ],
)
def test_full_block_recordings(reference_data, file, reads, writes, flushes):
    path = reference_data / "traces" / file
    if not path.exists():
        pytest.skip(f"no {path}")
    ops = traces.read_nvme(path)["op"]
    assert [int((ops == op).sum()) for op in (NVME_READ, NVME_WRITE, NVME_FLUSH)] == [reads, writes, flushes]


def test_full_driver_recording(reference_data):
    path = reference_data / "traces" / "nvme" / "nvme_A_rawfile.csv.gz"
    summary = path.with_name("nvme_A_rawfile.summary.csv")
    if not path.exists() or not summary.exists():
        pytest.skip(f"no {path}")
    rows = [line.split(",") for line in summary.read_text().splitlines()]
    column = rows[0].index
    phases = [row for row in rows[1:] if row[0] != "marker"]
    ops = traces.read_nvme(path)["op"]
    names = {NVME_READ: "reads", NVME_WRITE: "writes", NVME_FLUSH: "flushes", NVME_TRIM: "trims"}
    for op, name in names.items():
        assert int((ops == op).sum()) == sum(int(row[column(name)]) for row in phases)
