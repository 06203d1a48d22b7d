"""How many records of a trace are read in a second here, format by format.

Rule: what is timed is all that a replay waits for, from opening an uncompressed file that lies in the page
cache to the records in order, on one CPU. Files are made up, with as many lines beside each record as the
format's own tool writes.
"""

import struct
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from ..errors import MisuseError
from ..experiment.fingerprint import host_facts, versions
from ..workload import traces
from .timing import Timing, needs_compiled_kernels, pinned, run_slice, within

Progress = Callable[[str, int, int], object]

SCHEMA_VERSION: Final = 1
MAX_RECORDS: Final = 100_000_000
# Records that are written at once.
_BLOCK: Final = 4096
_DISK: Final = 2**30


def _offset(n: int) -> int:
    """Return a place on a disk that the one before does not tell."""
    return n * 7919 * 4096 % _DISK


def _fio(n: int) -> str:
    return f"{17 * n} /dev/nvme0n1 {'read' if n % 3 else 'write'} {_offset(n)} 4096\n"


def _fio2(n: int) -> str:
    return f"/dev/nvme0n1 wait 17 0\n/dev/nvme0n1 {'read' if n % 3 else 'write'} {_offset(n)} 4096\n"


def _blkparse(n: int) -> str:
    at, rwbs = 17_000 * n, " R" if n % 3 else "WS"
    where = f"{_offset(n) // 512} + 8 [fio]"
    return "".join(
        f"259,0    0 {5 * n + step:>8} {(at + 400 * step) / 1e9:>15.9f}  1234  {action}  {rwbs} {where}\n"
        for step, action in enumerate("QGIDC")
    )


def _msr(n: int) -> str:
    kind = "Read" if n % 3 else "Write"
    return f"{128166372003061629 + 170 * n},hm,1,{kind},{_offset(n)},4096,413\n"


def _nvme_csv(n: int) -> str:
    t, cid, block = 17 * n, n % 1024, _offset(n) // 512
    return (
        f"{4 * n},{t},randread,mmio_write_sq_doorbell,0x1008,4,1,,{cid}\n"
        f"{4 * n + 1},{t + 1},randread,read,{block},4096,1,{cid},8\n"
        f"{4 * n + 2},{t + 2},randread,dma_map,0x10f2a000,4096,1,{cid},\n"
        f"{4 * n + 3},{t + 9},randread,cqe_write,0x2201000,16,1,{cid},0x0\n"
    )


def _qemu(n: int) -> str:
    seconds, micros = divmod(17 * n, 10**6)
    at, cid, block = f"88@{1795731994 + seconds}.{micros:06}:pci_nvme_", n % 1024, _offset(n) // 512
    return (
        f"{at}io_cmd cid {cid} nsid 0x1 sqid 1 opc 0x2 opname 'NVME_NVM_CMD_READ'\n"
        f"{at}read cid {cid} nsid 1 nlb 8 count 4096 lba 0x{block:x}\n"
        f"{at}map_prp trans_len 4096 len 4096 prp1 0x10f2a000 prp2 0x0 num_prps 1\n"
        f"{at}enqueue_req_completion cid {cid} cqid 1 dw0 0x0 dw1 0x0 status 0x0\n"
    )


def _nvme_plain(n: int) -> str:
    return f"{17 * n}.250,{'read' if n % 3 else 'write'},4096,{_offset(n)},{n % 4}\n"


def _nic_plain(n: int) -> str:
    return f"{n}.125,{64 + n * 7 % 1400},{'rx' if n % 3 else 'tx'}\n"


def _gpu_csv(n: int) -> str:
    if n % 2:
        return f"{n}.125,{n % 100}.500,memcpy,Memcpy HtoD (Pinned -> Device),65536,7,{n}\n"
    return f'{n}.125,{n % 100}.500,kernel,"void at::native::vectorized_kernel<4, at>",0,7,{n}\n'


def _gpu_plain(n: int) -> str:
    return f"{n}.125,{n % 100}.500,{'h2d' if n % 2 else 'kernel'},65536,7\n"


def _frame(n: int) -> bytes:
    """Return the first 96 bytes of a TCP packet on an Ethernet."""
    ports = (443, 40000) if n % 3 else (40000, 443)
    ip = b"\x45" + bytes(8) + b"\x06" + bytes(2) + b"\x0a\0\0\1\x0a\0\0\2" + struct.pack(">HH", *ports)
    return (bytes(12) + b"\x08\0" + ip).ljust(96, b"\0")


def _pcap(n: int) -> str:
    seconds, rest = divmod(1000 * n, 10**9)
    header = struct.pack("<IIII", 1_700_000_000 + seconds, rest, 96, 96 + n * 7 % 1400)
    return (header + _frame(n)).decode("latin-1")


def _pcapng(n: int) -> str:
    high, low = divmod(1_700_000_000 * 10**9 + 1000 * n, 2**32)
    body = struct.pack("<IIIIIII", 6, 128, 0, high, low, 96, 96 + n * 7 % 1400)
    return (body + _frame(n) + struct.pack("<I", 128)).decode("latin-1")


def _tlp(n: int) -> bytes:
    """Return by turns a write of 64 B, a read of 64 B, and the completion of that."""
    address = 0x1_2000_0000 + n * 7919 * 64 % _DISK
    tag = n // 3 % 256
    if n % 3 == 0:
        return struct.pack(">IHBBQ", 0x6000_0010, 0x0100, tag, 0xFF, address) + bytes(range(64))
    if n % 3 == 1:
        return struct.pack(">IHBBQ", 0x2000_0010, 0x0100, tag, 0xFF, address)
    return struct.pack(">IHHHBB", 0x4A00_0010, 0, 64, 0x0100, tag, address & 0x40) + bytes(range(64))


def _tlp_line(n: int) -> str:
    return f"{17 * n}.250,{'down' if n % 3 == 2 else 'up'},{_tlp(n).hex(' ', -4)}\n"


def _tlp_pcap(n: int) -> str:
    seconds, rest = divmod(17 * n, 10**9)
    content = _tlp(n)
    header = struct.pack("<IIII", 1_700_000_000 + seconds, rest, len(content), len(content))
    return (header + content).decode("latin-1")


def _tlp_pcapng(n: int) -> str:
    high, low = divmod(1_700_000_000 * 10**9 + 17 * n, 2**32)
    content = _tlp(n)
    length = 32 + len(content) + 12
    body = struct.pack("<IIIIIII", 6, length, 0, high, low, len(content), len(content)) + content
    # epb_flags: inbound to the device, or outbound.
    flags = struct.pack("<HHIHH", 2, 4, 1 if n % 3 == 2 else 2, 0, 0)
    return (body + flags + struct.pack("<I", length)).decode("latin-1")


def _of_link(header: bytes, at: int) -> str:
    """Return the header of a capture with link type USER0, 147, in place of the one at a byte of it."""
    return (header[:at] + struct.pack("<H", 147) + header[at + 2 :]).decode("latin-1")


_PCAP_HEADER: Final = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1)
_PCAPNG_HEADER: Final = struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28) + struct.pack(
    # An Ethernet with if_tsresol 9, nanoseconds.
    "<IIHHIHHIHHI",
    1,
    32,
    1,
    0,
    262144,
    9,
    1,
    9,
    0,
    0,
    32,
)


def _kineto(n: int) -> str:
    """Return an event of the device and the two of the CPU that launch it."""
    t = 4529365641284 + 10 * n
    return (
        f'{{"ph": "X", "cat": "cpu_op", "name": "aten::copy_", "pid": 393, "tid": 393, "ts": {t}.802, '
        f'"dur": 405.589, "args": {{"External id": {n}, "Record function id": 0, "Ev Idx": {n}}}}},\n'
        f'{{"ph": "X", "cat": "cuda_runtime", "name": "cudaMemcpyAsync", "pid": 393, "tid": 393, '
        f'"ts": {t}.242, "dur": 3.699, "args": {{"External id": {n}, "cbid": 41, "correlation": {n}}}}},\n'
        '{"ph": "X", "cat": "gpu_memcpy", "name": "Memcpy DtoH (Device -> Pinned)", "pid": 0, "tid": 45, '
        f'"ts": {t}.011, "dur": 3.328, "args": {{"External id": {n}, "device": 0, "context": 1, '
        f'"stream": 45, "correlation": {n}, "bytes": 65536, "memory bandwidth (GB/s)": 19.69}}}},\n'
    )


@dataclass(frozen=True)
class Format:
    """How to make a file: its first line, and the lines of record n. Binary ones are Latin-1 here."""

    name: str
    header: str
    record: Callable[[int], str]
    binary: bool = False


FORMATS: Final = (
    Format("fio-iolog", "fio version 3 iolog\n", _fio),
    Format("fio-iolog v2", "fio version 2 iolog\n", _fio2),
    Format("blkparse", "", _blkparse),
    Format("msr-csv", "", _msr),
    Format("nvme-csv", "seq,time_us,phase,event,address,length,qid,cid,arg\n", _nvme_csv),
    Format("qemu-nvme-log", "", _qemu),
    Format("nvme-generic-csv", "time_us,op,bytes,offset,queue\n", _nvme_plain),
    Format("nic-generic-csv", "time_us,bytes,direction\n", _nic_plain),
    Format("pcap", _PCAP_HEADER.decode("latin-1"), _pcap, binary=True),
    Format("pcapng", _PCAPNG_HEADER.decode("latin-1"), _pcapng, binary=True),
    Format("kineto-json", "[\n", _kineto),
    Format("gpu-csv", "t_us,dur_us,event,name,bytes,stream,correlation\n", _gpu_csv),
    Format("gpu-generic-csv", "time_us,duration_us,kind,bytes,stream\n", _gpu_plain),
    Format("tlp-csv", "time_ns,direction,tlp\n", _tlp_line),
    Format("tlp-pcap", _of_link(_PCAP_HEADER, 20), _tlp_pcap, binary=True),
    Format("tlp-pcapng", _of_link(_PCAPNG_HEADER, 36), _tlp_pcapng, binary=True),
)
_READERS: Final[dict[str, Callable[[Path], traces.Records]]] = {
    "nvme": traces.read_nvme,
    "nic": traces.read_nic,
    "gpu": traces.read_gpu,
    "tlp": traces.read_tlp,
}


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes: formats: names, all if empty. records: of each file. rounds: readings of each.
    """

    formats: Sequence[str] = ()
    records: int = 500_000
    rounds: int = 5

    def check(self) -> None:
        """Raise MisuseError for what is out of range or unknown, ConfigError if nothing can be measured."""
        within("records", [self.records], 1, MAX_RECORDS)
        within("rounds", [self.rounds], 1, 1000)
        known = [format.name for format in FORMATS]
        for name in self.formats:
            if name not in known:
                raise MisuseError(f"format {name!r}: expected {', '.join(known)}")
        needs_compiled_kernels()


@dataclass(frozen=True)
class Row:
    """One format; the best of all rounds, the median, and how far the rounds lie apart."""

    format: str
    records: int
    lines: int
    bytes: int
    records_per_s: float
    records_per_s_median: float
    spread_pct: float
    lines_per_s: float
    bytes_per_s: float


@dataclass(frozen=True)
class Result:
    """What `measure` found."""

    plan: Plan
    cpu: int
    rows: list[Row]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as `sevpcie measure traces --json` prints it."""
        return {
            "schema_version": SCHEMA_VERSION,
            "command": "measure traces",
            "versions": versions(),
            "host": host_facts().model_dump(),
            "options": {"cpu": self.cpu, "records": self.plan.records, "rounds": self.plan.rounds},
            "traces": [asdict(row) for row in self.rows],
        }


def write(format: Format, path: Path, records: int) -> int:
    """Make a file of so many records. Returns its lines; those of a binary file are its records."""
    lines = format.header.count("\n")
    with path.open("w", encoding="latin-1", newline="") as file:
        file.write(format.header)
        for start in range(0, records, _BLOCK):
            text = "".join(map(format.record, range(start, min(start + _BLOCK, records))))
            lines += text.count("\n")
            file.write(text)
    return records if format.binary else lines


def _row(format: Format, path: Path, plan: Plan) -> Row:
    lines = write(format, path, plan.records)
    read = _READERS[traces.FORMATS[traces.detect(path)]]
    # Compiles, or reads the cache; and fetches the file.
    assert len(read(path)) == plan.records
    timing = Timing(1)
    for _ in range(plan.rounds):
        timing.slices.append(run_slice(lambda: read(path), 0))
    best, median = 1e9 / timing.best_ns, 1e9 / timing.median_ns
    size = path.stat().st_size
    records = plan.records
    of_records = records * best, records * median
    return Row(format.name, records, lines, size, *of_records, timing.spread_pct, lines * best, size * best)


def measure(plan: Plan, progress: Progress = lambda stage, done, total: None) -> Result:
    """Measure format by format, on one CPU. Raises MisuseError and ConfigError for an impossible plan."""
    plan.check()
    chosen = [format for format in FORMATS if not plan.formats or format.name in plan.formats]
    rows = []
    with pinned() as cpu, tempfile.TemporaryDirectory(prefix="sevpcie-") as folder:
        for at, format in enumerate(chosen):
            progress(f"reading {format.name}", at, len(chosen))
            path = Path(folder) / "trace"
            rows.append(_row(format, path, plan))
            path.unlink()
    return Result(plan, cpu, rows)
