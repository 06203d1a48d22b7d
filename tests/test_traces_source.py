"""Opening and telling apart trace files: what is wrong with the bytes is one clear error."""

import bz2
import gzip
import lzma
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sevpcie_core.errors import FormatError
from sevpcie_core.workload import traces

GPU = b"t_us,dur_us,event,name,bytes,stream\n1.5,2,memcpy,Memcpy HtoD,64,7\n"
NVME = b"time_us,event,address,length\n0,read,8,4096\n"
FIO = b"fio version 3 iolog\n0 f add\n5 f read 0 4096\n"
PCAP = bytes.fromhex("4d3cb2a1020004000000000000000000600000000100000000000000000000000000000040000000")
BLKPARSE = b"""259,0    0        2     0.000000000  1234  Q   R 2048 + 8 [fio]
259,0    0        7     0.000001700  1234  D   R 2048 + 8 [fio]
259,0    0       14     0.000084400  1234  D  WS 2056 + 8 [fio]
"""
QEMU = b"""88@1795731994.131174:pci_nvme_io_cmd cid 0 nsid 0x1 sqid 1 opc 0x2 opname 'NVME_NVM_CMD_READ'
88@1795731994.131177:pci_nvme_read cid 0 nsid 1 nlb 8 count 4096 lba 0x10
"""
MSR = b"128166372003061629,hm,1,Read,383496192,32768,413\n128166372016382155,hm,1,Write,2822144,4096,9\n"
NVME_PLAIN = b"time_us,op,bytes,offset,queue\n0.5,read,4096,0,1\n1,flush,0,0,1\n"
NIC_PLAIN = b"time_us,bytes,direction\n0,60,rx\n1.25,1514,tx\n"
GPU_PLAIN = b"time_us,duration_us,kind,bytes,stream\n0,2.5,h2d,4096,7\n3,1,kernel,0,7\n"
ALL = [GPU, NVME, FIO, PCAP, BLKPARSE, QEMU, MSR, NVME_PLAIN, NIC_PLAIN, GPU_PLAIN]
READERS = [traces.read_gpu, traces.read_nic, traces.read_nvme]


def write(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("data", "format"),
    [
        (GPU, "gpu-csv"),
        (b"\xef\xbb\xbf" + GPU, "gpu-csv"),
        (GPU.replace(b"\n", b"\r\n"), "gpu-csv"),
        (b"event,x,dur_us\n", "gpu-csv"),
        (NVME, "nvme-csv"),
        (FIO, "fio-iolog"),
        (b"fio version 2 iolog\n", "fio-iolog"),
        (PCAP, "pcap"),
        (b"\xa1\xb2\xc3\xd4", "pcap"),
        (BLKPARSE, "blkparse"),
        (QEMU, "qemu-nvme-log"),
        (b"7@1.000001:pci_nvme_mmio_start_success \n", "qemu-nvme-log"),
        (b"Input file sda.blktrace.0 added\nInput file sda.blktrace.1 added\n" + BLKPARSE, "blkparse"),
        (b'"time_us","op","bytes"\n"0","read","4096"\n', "nvme-generic-csv"),
        (b'\xef\xbb\xbf"time_us" , "bytes","direction"\r\n', "nic-generic-csv"),
        (MSR, "msr-csv"),
        (b"Timestamp,Hostname,DiskNumber,Type,Offset,Size,ResponseTime\n", "msr-csv"),
        (NVME_PLAIN, "nvme-generic-csv"),
        (NIC_PLAIN, "nic-generic-csv"),
        (GPU_PLAIN, "gpu-generic-csv"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_formats_are_told_by_content(tmp_path, data, format, zipped):
    path = write(tmp_path / "anything", gzip.compress(data, mtime=0) if zipped else data)
    assert traces.detect(path) == format


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty file; expected a trace"),
        (gzip.compress(b"", mtime=0), "empty file"),
        (gzip.compress(GPU, mtime=0)[:-9], "gzip data ends early; expected a complete gzip file"),
        (gzip.compress(GPU, mtime=0)[:5], "gzip data ends early"),
        (b"\x1f\x8b" + bytes(20), "damaged gzip data"),
        (gzip.compress(GPU, mtime=0)[:-8] + bytes(8), "damaged gzip data"),
        (bytes(range(256)), "binary data of no known format; expected one of blkparse, fio-iolog"),
        (b"\xff\xfe\xfd\n", "'?binary data'? begins no known format"),
        (b"hello\n", ":1: 'hello' begins no known format; expected one of blkparse, fio-iolog"),
        (b'\n{\n"traceEvents": []}', "kineto-json, a trace of kind gpu|no copy, kernel or memset"),
        (b"\x0a\x0d\x0d\x0a" + bytes(24), "pcapng, a trace of kind nic|offset 8: byte-order magic 00000000"),
        (b"SQLite format 3\0" + bytes(84), "nsys-sqlite, a trace of kind gpu|damaged SQLite file"),
        (
            b"pci_nvme_read cid 0\n",
            "QEMU trace events without times; expected PID@SECONDS",
        ),
        (GPU.decode().encode("utf-16"), "text in UTF-16; expected UTF-8"),
        (b"\xfe\xff" + GPU.decode().encode("utf-16-be"), "text in UTF-16; expected UTF-8"),
        (gzip.compress(gzip.compress(GPU, mtime=0), mtime=0), "packed with gzip within gzip; expected"),
        (lzma.compress(GPU), "packed with xz; expected a trace as it is, or with gzip once"),
        (bz2.compress(GPU), "packed with bzip2; expected"),
        (b"\x28\xb5\x2f\xfd\x24\x05" + bytes(9), "packed with zstd; expected"),
        (b"PK\x03\x04\x14" + bytes(40), "packed with zip; expected"),
        (b"Input file sda.blktrace.0 added\n", "'' begins no known format"),
        (b"fio iolog version 3\n", "a fio iolog of an unknown version; expected 2 or 3"),
        (b"8,0 1 2 D R 12\n", r"perhaps blkparse with a format of its own; expected its default output"),
        (b"time,op,size\n", r"'time,op,size': a CSV of unknown columns; expected those of docs/traces.md"),
    ],
)
@pytest.mark.parametrize("read", READERS)
def test_bytes_that_are_no_trace(tmp_path, data, said, read):
    path = write(tmp_path / "trace", data)
    with pytest.raises(FormatError, match=said) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", READERS)
def test_files_that_cannot_be_read(tmp_path, read):
    with pytest.raises(FormatError, match=r"nope: no such file; expected a trace file"):
        read(tmp_path / "nope")
    with pytest.raises(FormatError, match="is a folder; expected a trace file"):
        read(tmp_path)
    if os.geteuid():
        path = write(tmp_path / "secret", GPU)
        path.chmod(0)
        with pytest.raises(FormatError, match="Permission denied; expected a readable trace file"):
            read(path)


@pytest.mark.parametrize(
    ("read", "data", "said"),
    [
        (traces.read_nic, GPU, "gpu-csv, a trace of kind gpu; expected kind nic: nic-generic-csv"),
        (traces.read_gpu, FIO, "fio-iolog, a trace of kind nvme; expected kind gpu: gpu-csv"),
        (traces.read_nvme, PCAP, "pcap, a trace of kind nic; expected kind nvme: blkparse, fio-iolog"),
    ],
)
def test_a_trace_of_another_kind(tmp_path, read, data, said):
    with pytest.raises(FormatError, match=said):
        read(write(tmp_path / "trace", data))


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (b"\xff", r":3: bytes that are not UTF-8; expected text"),
        (b"0,1,kernel,k,0,0\n" * 20000 + b"0,1,kernel,\xe9,0,0\n", r":20003: bytes that are not UTF-8"),
        (b"0,1,kernel,k,0,0\n" * 400 + b"\0", ":403: a NUL character; expected text"),
        (b"x" * 70000, r":3: a line of 65536 bytes or more"),
        (b'0,1,"kernel,k,0,0\n', r"unexpected end of data|fields"),
        (b"0,1,kernel\n", ":3: 3 fields; expected 6 as in the header"),
    ],
)
def test_lines_that_are_no_rows(tmp_path, bad, said):
    with pytest.raises(FormatError, match=said):
        traces.read_gpu(write(tmp_path / "trace", GPU + bad))


@pytest.mark.parametrize("read", [*READERS, traces.content_sha256])
def test_pipes_are_no_traces(tmp_path, read):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(FormatError, match="pipe: a pipe or device; expected a regular file"):
        read(path)


def test_the_content_is_the_identity(tmp_path):
    plain = traces.content_sha256(write(tmp_path / "a", GPU))
    assert traces.content_sha256(write(tmp_path / "b", gzip.compress(GPU, 1, mtime=0))) == plain
    assert traces.content_sha256(write(tmp_path / "c", gzip.compress(GPU, 9, mtime=7))) == plain
    assert traces.content_sha256(write(tmp_path / "d", GPU + b"\n")) != plain
    with pytest.raises(FormatError, match="ends early"):
        traces.content_sha256(write(tmp_path / "e", gzip.compress(GPU, mtime=0)[:-1]))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.sampled_from(ALL), zipped=st.booleans(), data=st.data())
def test_damaged_files_are_read_or_refused(tmp_path, seed, zipped, data):
    # Whatever happens to the bytes, nothing but FormatError comes out, and what is read is well formed.
    content = bytearray(gzip.compress(seed, mtime=0) if zipped else seed)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(len(content) - 1, 0)))
        match data.draw(st.sampled_from(["flip", "cut", "insert"])):
            case "flip" if content:
                content[at] ^= data.draw(st.integers(1, 255))
            case "cut":
                del content[at:]
            case _:
                content[at:at] = data.draw(st.binary(max_size=8))
    path = write(tmp_path / "trace", bytes(content))
    refusals: list[str] = []
    for read in READERS:
        try:
            records = read(path)
        except FormatError as error:
            refusals.append(str(error))
        else:
            assert records.size
            assert records["t_ps"][0] == 0
            assert (records["t_ps"][1:] >= records["t_ps"][:-1]).all()
            assert (records["bytes"] >= 0).all()
    assert all(text.startswith(str(path)) and "\n" not in text for text in refusals)
    # A file is of one kind at most.
    assert len(refusals) >= 2
