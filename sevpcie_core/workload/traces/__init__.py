"""Readers of recorded workloads: one file per format, found by content, gzip or not.

Rule: a reader returns records of its device class (`records.py`) or raises one FormatError that names file,
line or offset, field and what was expected. Nothing is repaired silently.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

from ...errors import FormatError
from . import (
    blkparse,
    fio_iolog,
    generic_csv,
    gpu_csv,
    kineto_json,
    msr_csv,
    nsys_sqlite,
    nvme_csv,
    pcap,
    pcapng,
    qemu_nvme_log,
    tlp_csv,
    tlp_pcap,
)
from .bad import Bad
from .collect import Cut, collect
from .pace import LINE_OVERHEAD, MIN_FRAME, occupancy_ps, pace_line
from .records import (
    GPU_D2H,
    GPU_DTYPE,
    GPU_H2D,
    GPU_WORK,
    NIC_DTYPE,
    NIC_RX,
    NIC_TX,
    NVME_DTYPE,
    NVME_FLUSH,
    NVME_READ,
    NVME_RUNG_DTYPE,
    NVME_TRIM,
    NVME_WRITE,
    NVME_WRITE_ZEROES,
    TLP_DTYPE,
    Records,
)
from .source import head, opened

__all__ = [
    "DOORBELLS",
    "FORMATS",
    "GPU_D2H",
    "GPU_DTYPE",
    "GPU_H2D",
    "GPU_WORK",
    "LINE_OVERHEAD",
    "MIN_FRAME",
    "NIC_DTYPE",
    "NIC_RX",
    "NIC_TX",
    "NVME_DTYPE",
    "NVME_FLUSH",
    "NVME_READ",
    "NVME_RUNG_DTYPE",
    "NVME_TRIM",
    "NVME_WRITE",
    "NVME_WRITE_ZEROES",
    "TLP_DTYPE",
    "WHOLE",
    "Bad",
    "Cut",
    "Records",
    "content_sha256",
    "detect",
    "occupancy_ps",
    "pace_line",
    "read_gpu",
    "read_nic",
    "read_nvme",
    "read_tlp",
]

FORMATS: dict[str, str] = {
    "blkparse": "nvme",
    "fio-iolog": "nvme",
    "msr-csv": "nvme",
    "nvme-csv": "nvme",
    "nvme-generic-csv": "nvme",
    "qemu-nvme-log": "nvme",
    "nic-generic-csv": "nic",
    "pcap": "nic",
    "pcapng": "nic",
    "gpu-csv": "gpu",
    "gpu-generic-csv": "gpu",
    "kineto-json": "gpu",
    "nsys-sqlite": "gpu",
    "tlp-csv": "tlp",
    "tlp-pcap": "tlp",
    "tlp-pcapng": "tlp",
}
"""Format as `detect` names it: the device class whose work it records."""

DOORBELLS: Final = ("nvme-csv", "qemu-nvme-log")
"""Formats that hold the doorbells of a driver."""

WHOLE: Final = Cut()
"""All of a trace, at its own speed."""

Reader: TypeAlias = Callable[..., Iterator[Records]]
"""`batches(path, bad, **options)` of a format."""
Options: TypeAlias = dict[str, object]

_SNIFFED = 4096
# As far as the first interface of a pcapng file is looked for.
_SNIFFED_BLOCKS = 1 << 16
_EXPECTED = "expected one of " + ", ".join(FORMATS)

# Enough of a CSV's header to know what is meant; its reader says what is missing.
_HEADERS: tuple[tuple[str, frozenset[str]], ...] = (
    ("gpu-csv", frozenset({"event", "t_us"})),
    ("gpu-csv", frozenset({"event", "dur_us"})),
    *(("tlp-csv", frozenset({unit, "tlp"})) for unit in tlp_csv.UNITS),
    ("nvme-csv", frozenset({"event", "time_us"})),
    ("nvme-generic-csv", frozenset({"time_us", "op"})),
    ("nic-generic-csv", frozenset({"time_us", "direction"})),
    ("gpu-generic-csv", frozenset({"time_us", "kind"})),
)
_LINES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("fio-iolog", fio_iolog.HEADER),
    ("blkparse", blkparse.RECORD),
    ("qemu-nvme-log", qemu_nvme_log.RECORD),
    ("msr-csv", msr_csv.RECORD),
    ("msr-csv", msr_csv.HEADER),
)
"""What the first line of a format without a header of its own looks like."""
_NEAR: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        qemu_nvme_log.WITHOUT_TIME,
        "QEMU trace events without times; expected PID@SECONDS:pci_nvme_... as -msg timestamp=on writes",
    ),
    (re.compile(r"fio .*iolog.*", re.IGNORECASE), "a fio iolog of an unknown version; expected 2 or 3"),
    (
        re.compile(r"\s*\d+,\d+\s+\d+\s.*", re.ASCII),
        "perhaps blkparse with a format of its own; expected its default output (no -f)",
    ),
    (
        re.compile(r".*\b(time|timestamp|time_us|t_us)\b.*,.*", re.IGNORECASE),
        "a CSV of unknown columns; expected those of docs/traces.md, such as time_us,op,bytes",
    ),
)
"""Near misses."""
_PACKED: Final[dict[bytes, str]] = {
    # RFC 1952, RFC 8878; the xz file format 2.1.1; bzip2's "BZh"; a local file header of ZIP.
    b"\x1f\x8b": "gzip within gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\0": "xz",
    b"BZh": "bzip2",
    b"PK\x03\x04": "zip",
}
"""First bytes of what is packed otherwise than with gzip."""
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")


def detect(path: Path) -> str:
    """Return the format of a trace, by its first bytes.

    Returns: a key of FORMATS.
    Raises: FormatError: missing, empty or unreadable file, or none of the formats.
    """
    start = head(path, _SNIFFED)
    if start[:4] in pcap.MAGICS:
        return "tlp-pcap" if pcap.link_type(start) in tlp_pcap.USER.headers else "pcap"
    if start[:4] == pcapng.MAGIC:
        link = pcapng.link_type(head(path, _SNIFFED_BLOCKS))
        return "tlp-pcapng" if link in tlp_pcap.USER.headers else "pcapng"
    if start.startswith(nsys_sqlite.MAGIC):
        return "nsys-sqlite"
    for magic, name in _PACKED.items():
        if start.startswith(magic):
            raise FormatError(f"{path}: packed with {name}; expected a trace as it is, or with gzip once")
    if start.startswith(_UTF_16) and b"\0" in start:
        raise FormatError(f"{path}: text in UTF-16; expected UTF-8")
    if b"\0" in start:
        raise FormatError(f"{path}: binary data of no known format; {_EXPECTED}")
    text = start.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace").lstrip()
    first = blkparse.PREAMBLE.sub("", text).split("\n", 1)[0].strip()
    for name, pattern in _LINES:
        if pattern.fullmatch(first):
            return name
    columns = {name.strip().removeprefix('"').removesuffix('"').strip() for name in first.split(",")}
    for name, some in _HEADERS:
        if some <= columns:
            return name
    if first[:1] in ("{", "["):
        return "kineto-json"
    shown = first[:40] if first.isprintable() and "\ufffd" not in first else "binary data"
    for pattern, what in _NEAR:
        if pattern.fullmatch(first):
            raise FormatError(f"{path}:1: {shown!r}: {what}")
    raise FormatError(f"{path}:1: {shown!r} begins no known format; {_EXPECTED}")


_GPU: dict[str, Reader] = {
    "gpu-csv": gpu_csv.batches,
    "gpu-generic-csv": generic_csv.gpu,
    "kineto-json": kineto_json.batches,
    "nsys-sqlite": nsys_sqlite.batches,
}
_NIC: dict[str, Reader] = {
    "nic-generic-csv": generic_csv.nic,
    "pcap": pcap.batches,
    "pcapng": pcapng.batches,
}
_NVME: dict[str, Reader] = {
    "blkparse": blkparse.batches,
    "fio-iolog": fio_iolog.batches,
    "msr-csv": msr_csv.batches,
    "nvme-csv": nvme_csv.batches,
    "nvme-generic-csv": generic_csv.nvme,
    "qemu-nvme-log": qemu_nvme_log.batches,
}
_TLP: dict[str, Reader] = {
    "tlp-csv": tlp_csv.batches,
    "tlp-pcap": tlp_pcap.from_pcap,
    "tlp-pcapng": tlp_pcap.from_pcapng,
}


def _batches(
    path: Path, kind: str, readers: dict[str, Reader], bad: Bad, **only: Options
) -> Iterator[Records]:
    """Open a trace of `kind` with the reader of its format. `only`: options by format."""
    found = detect(path)
    if found not in readers:
        known = ", ".join(readers)
        raise FormatError(f"{path}: {found}, a trace of kind {FORMATS[found]}; expected kind {kind}: {known}")
    return readers[found](path, bad, **only.get(found, {}))


def read_gpu(path: str | Path, *, cut: Cut = WHOLE, bad: Bad | None = None) -> Records:
    """Read a GPU job: GPU_DTYPE[n]. Parameters and errors: `collect`, and the reader of the format."""
    path, bad = Path(path), bad or Bad()
    batches = _batches(path, "gpu", _GPU, bad)
    return collect(path, batches, cut, bad, what="copy, kernel or memset", any_order=True)


def read_nvme(
    path: str | Path,
    *,
    cut: Cut = WHOLE,
    bad: Bad | None = None,
    action: str | None = None,
    rung: bool = False,
) -> Records:
    """Read block I/O: NVME_DTYPE[n]; rung: with the doorbells of a format of DOORBELLS, NVME_RUNG_DTYPE[n].

    `action`: as `blkparse.batches`. The rest as `read_gpu`.
    """
    path, bad = Path(path), bad or Bad()
    only: dict[str, Options] = {"blkparse": {"action": action}}
    if rung:
        found = detect(path)
        if FORMATS[found] == "nvme" and found not in DOORBELLS:
            raise FormatError(f"{path}: {found}, which has no doorbells; expected {' or '.join(DOORBELLS)}")
        only |= {name: {"rung": True} for name in DOORBELLS}
    batches = _batches(path, "nvme", _NVME, bad, **only)
    return collect(path, batches, cut, bad, what="read, write or flush")


def read_nic(
    path: str | Path, *, cut: Cut = WHOLE, bad: Bad | None = None, local: str | None = None
) -> Records:
    """Read network frames: NIC_DTYPE[n]. `local`: as `pcap.batches`. The rest as `read_gpu`."""
    path, bad = Path(path), bad or Bad()
    batches = _batches(path, "nic", _NIC, bad, pcap={"local": local}, pcapng={"local": local})
    return collect(path, batches, cut, bad, what="frame")


def read_tlp(
    path: str | Path, *, cut: Cut = WHOLE, bad: Bad | None = None, local: str | None = None
) -> Records:
    """Read TLPs: TLP_DTYPE[n]. `local`: as `tlp_csv.batches`. The rest as `read_gpu`."""
    path, bad = Path(path), bad or Bad()
    only: dict[str, Options] = {name: {"local": local} for name in _TLP}
    batches = _batches(path, "tlp", _TLP, bad, **only)
    return collect(path, batches, cut, bad, what="TLP")


def content_sha256(path: str | Path) -> str:
    """Return the SHA-256 of the unzipped content, hexadecimal: the same trace zipped again is the same trace.

    Raises: FormatError: missing, unreadable or truncated file.
    """
    digest = hashlib.sha256()
    with opened(Path(path)) as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
