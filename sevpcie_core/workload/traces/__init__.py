"""Readers of recorded workloads: one file per format, found by content, gzip or not.

Rule: a reader returns records of its device class (`records.py`) or raises one FormatError that names file,
line or offset, field and what was expected. Nothing is repaired silently.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

from ...errors import FormatError
from . import fio_iolog, gpu_csv, nvme_csv, pcap
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
    NVME_TRIM,
    NVME_WRITE,
    NVME_WRITE_ZEROES,
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
    "NVME_TRIM",
    "NVME_WRITE",
    "NVME_WRITE_ZEROES",
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
]

FORMATS: dict[str, str] = {"gpu-csv": "gpu", "pcap": "nic", "fio-iolog": "nvme", "nvme-csv": "nvme"}
"""Format as `detect` names it: the device class whose work it records."""

WHOLE: Final = Cut()
"""All of a trace, at its own speed."""

Reader: TypeAlias = Callable[..., Iterator[Records]]
"""`batches(path, bad, **options)` of a format."""

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


_GPU: dict[str, Reader] = {"gpu-csv": gpu_csv.batches}
_NIC: dict[str, Reader] = {"pcap": pcap.batches}
_NVME: dict[str, Reader] = {"fio-iolog": fio_iolog.batches, "nvme-csv": nvme_csv.batches}


def _batches(
    path: Path, kind: str, readers: dict[str, Reader], bad: Bad, options: dict[str, object]
) -> Iterator[Records]:
    """Open a trace of `kind` with the reader of its format."""
    found = detect(path)
    if found not in readers:
        known = " or ".join(name for name, of in FORMATS.items() if of == kind)
        raise FormatError(f"{path}: {found}, a trace of kind {FORMATS[found]}; expected kind {kind}: {known}")
    return readers[found](path, bad, **options)


def read_gpu(path: str | Path, *, cut: Cut = WHOLE, bad: Bad | None = None) -> Records:
    """Read a GPU job: GPU_DTYPE[n]. Parameters and errors: `collect`, and the reader of the format."""
    path, bad = Path(path), bad or Bad()
    batches = _batches(path, "gpu", _GPU, bad, {})
    return collect(path, batches, cut, bad, what="copy, kernel or memset", any_order=True)


def read_nvme(path: str | Path, *, cut: Cut = WHOLE, bad: Bad | None = None) -> Records:
    """Read block I/O: NVME_DTYPE[n]. Parameters and errors: `collect`, and the reader of the format."""
    path, bad = Path(path), bad or Bad()
    return collect(path, _batches(path, "nvme", _NVME, bad, {}), cut, bad, what="read, write or flush")


def read_nic(
    path: str | Path, *, local: str | None = None, cut: Cut = WHOLE, bad: Bad | None = None
) -> Records:
    """Read network frames: NIC_DTYPE[n]. Parameters and errors: `collect`, and the reader of the format."""
    path, bad = Path(path), bad or Bad()
    options: dict[str, object] = {"local": local}
    return collect(path, _batches(path, "nic", _NIC, bad, options), cut, bad, what="frame")


def content_sha256(path: str | Path) -> str:
    """Return the SHA-256 of the unzipped content, hexadecimal: the same trace zipped again is the same trace.

    Raises: FormatError: missing, unreadable or truncated file.
    """
    digest = hashlib.sha256()
    with opened(Path(path)) as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
