"""The machine and the library versions that a record names. Nothing here enters a digest of results."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from ..record import Host

# What can change a result, a speed or a picture.
_LIBRARIES: Final = (
    "numpy",
    "numba",
    "llvmlite",
    "scipy",
    "pandas",
    "matplotlib",
    "pydantic",
    "cryptography",
)


def host_facts(proc: Path = Path("/proc")) -> Host:
    """Return the facts of this machine; `proc` is where the kernel's files lie."""
    return Host(
        cpu=_cpu_model(proc),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=_memory_bytes(proc),
        os=f"{platform.system()} {platform.release()}",
        machine=platform.machine(),
        jit=os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0"),
    )


def versions() -> dict[str, str]:
    """Return the version of Python, of this package and of its libraries; absent ones are left out."""
    found = {"python": platform.python_version()}
    for name in ("sevpcie_core", *_LIBRARIES):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _cpu_model(proc: Path) -> str:
    """Return the name of the CPU: x86 has `model name`; elsewhere the machine's name must do."""
    for line in _lines(proc / "cpuinfo"):
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return " ".join(value.split())
    return platform.processor() or platform.machine()


def _memory_bytes(proc: Path) -> int | None:
    for line in _lines(proc / "meminfo"):
        key, _, value = line.partition(":")
        if key == "MemTotal":
            # "MemTotal:       16384256 kB": the kernel's kB are KiB.
            return int(value.split()[0]) * 1024
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
