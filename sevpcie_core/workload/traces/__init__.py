"""Readers of recorded workloads: one file per format, found by content, gzip or not.

Rule: a reader returns records of its device class (`records.py`) or raises one FormatError that names file,
line or offset, field and what was expected. Nothing is repaired silently.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

from ...errors import FormatError
from . import fio_iolog, gpu_csv, nvme_csv, pcap
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
    NVME_WRITE,
    Records,
)
from .source import head, opened

__all__ = [
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
    "NVME_WRITE",
    "Records",
    "content_sha256",
    "detect",
    "occupancy_ps",
    "pace_line",
    "read_gpu",
    "read_nic",
    "read_nvme",
]

FORMATS: dict[str, str] = {"gpu-csv": "gpu", "pcap": "nic", "fio-iolog": "nvme", "nvme-csv": "nvme"}
"""Format as `detect` names it: the device class whose work it records."""

_SNIFFED = 4096
_EXPECTED = (
    "expected a GPU CSV (t_us,event,...), a pcap capture, a fio iolog or an NVMe CSV (time_us,event,...)"
)


def detect(path: Path) -> str:
    """Return the format of a trace, by its first bytes.

    Returns: a key of FORMATS.
    Raises: FormatError: missing, empty or unreadable file, or none of the formats.
    """
    start = head(path, _SNIFFED)
    if start[:4] in pcap.MAGICS:
        return "pcap"
    if start[:4] == b"\x0a\x0d\x0d\x0a":
        raise FormatError(f"{path}: a pcapng capture; expected pcap (editcap -F pcap converts)")
    if b"\0" in start:
        raise FormatError(f"{path}: binary data of no known format; {_EXPECTED}")
    first = start.removeprefix(b"\xef\xbb\xbf").lstrip().split(b"\n", 1)[0].decode("utf-8", "replace").strip()
    if fio_iolog.HEADER.fullmatch(first):
        return "fio-iolog"
    columns = {name.strip() for name in first.split(",")}
    # Enough of the header to know what is meant; its reader says what is missing.
    if {"event", "t_us"} <= columns or {"event", "dur_us"} <= columns:
        return "gpu-csv"
    if {"event", "time_us"} <= columns:
        return "nvme-csv"
    if first[:1] in ("{", "["):
        raise FormatError(f"{path}: JSON, perhaps a Chrome trace; {_EXPECTED}")
    shown = first[:40] if first.isprintable() and "\ufffd" not in first else "binary data"
    raise FormatError(f"{path}:1: {shown!r} begins no known format; {_EXPECTED}")


def _choose(
    path: Path, kind: str, readers: dict[str, Callable[[Path, int], Records]]
) -> Callable[[Path, int], Records]:
    """Return the reader of the file's format, if it is one of `readers`."""
    found = detect(path)
    if found not in readers:
        raise FormatError(
            f"{path}: {found}, a trace of kind {FORMATS[found]}; expected kind {kind}: {' or '.join(readers)}"
        )
    return readers[found]


def read_gpu(path: str | Path, *, limit: int = 0) -> Records:
    """Read a GPU job: GPU_DTYPE[n]. Parameters and errors: `gpu_csv.read`."""
    path = Path(path)
    return _choose(path, "gpu", {"gpu-csv": gpu_csv.read})(path, limit)


def read_nvme(path: str | Path, *, limit: int = 0) -> Records:
    """Read block I/O: NVME_DTYPE[n]. Parameters and errors: `fio_iolog.read`, `nvme_csv.read`."""
    path = Path(path)
    return _choose(path, "nvme", {"fio-iolog": fio_iolog.read, "nvme-csv": nvme_csv.read})(path, limit)


def read_nic(path: str | Path, *, local: str | None = None, limit: int = 0) -> Records:
    """Read network frames: NIC_DTYPE[n]. Parameters and errors: `pcap.read`."""
    path = Path(path)
    return _choose(path, "nic", {"pcap": lambda path, limit: pcap.read(path, limit, local)})(path, limit)


def content_sha256(path: str | Path) -> str:
    """Return the SHA-256 of the unzipped content, hexadecimal: the same trace zipped again is the same trace.

    Raises: FormatError: missing, unreadable or truncated file.
    """
    digest = hashlib.sha256()
    with opened(Path(path)) as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
