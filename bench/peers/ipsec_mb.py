"""intel-ipsec-mb as a child process: built from ipsec_mb.c, one slice per line.

Rule: the child works on the memory that our kernels work on: the same packets, buffers and pages.
"""

import json
import mmap
import os
import shutil
import subprocess
import weakref
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from sevpcie_core.measure.pool import Pool
from sevpcie_core.measure.timing import Slice

SOURCE: Final = Path(__file__).with_name("ipsec_mb.c")
METHODS: Final = ("direct", "job", "burst")
_COMPILE: Final = ("gcc", "-O3", "-march=native", "-Wall", "-Wextra")
_HEADER: Final = "#include <intel-ipsec-mb.h>\n"


def missing() -> str | None:
    """Return what is missing and how to install it, or None."""
    if shutil.which("gcc") is None:
        return "gcc not found; install the Debian package gcc"
    tried = subprocess.run(
        ["gcc", "-E", "-x", "c", "-"], input=_HEADER, capture_output=True, text=True, check=False
    )
    if tried.returncode:
        return "intel-ipsec-mb.h not found; install the Debian package libipsec-mb-dev"
    return None


def build(folder: Path) -> Path:
    """Compile the child in a folder and return its path. Raises RuntimeError with what gcc says."""
    program = folder / "ipsec_mb"
    command = [*_COMPILE, "-o", str(program), str(SOURCE), "-lIPSec_MB"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return program


class Shared:
    """Memory that a child can map too.

    Parameters: size: in bytes.

    Attributes: array: u1[size], on a page boundary. fd: to inherit.
    """

    def __init__(self, size: int):
        self.size = size
        self.fd = os.memfd_create("sevpcie-peers")
        weakref.finalize(self, os.close, self.fd)
        os.truncate(self.fd, size)
        self.array: npt.NDArray[np.uint8] = np.frombuffer(mmap.mmap(self.fd, size), np.uint8)


class IpsecMb:
    """The child; a context manager.

    Attributes: facts: library, arch (the code that it chose) and vaes, as the library says.
    """

    def __init__(self, program: Path, shared: Shared):
        self._base = shared.array.__array_interface__["data"][0]
        self._slots = 0
        self._process = subprocess.Popen(
            [str(program), str(shared.fd), str(shared.size)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=[shared.fd],
        )
        try:
            self.facts = self._answer()
        except RuntimeError:
            self._end()
            raise

    def __enter__(self) -> Self:
        """Return the child."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the child."""
        self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.communicate()

    def load(self, pool: Pool, opening: bool = False) -> int:
        """Let the child prepare a pool in the shared memory; return its slot."""
        slot = self._slots
        self._slots += 1
        base = pool.memory.__array_interface__["data"][0] - self._base
        table = pool.open_table_at if opening else pool.seal_table_at
        shape = pool.shape
        self._ask(
            f"load {slot} {'open' if opening else 'seal'} {base} {table} {shape.packets} {shape.key_bits} "
            f"{pool.keys_at} {shape.keys}"
        )
        return slot

    def slice(self, slot: int, method: str, slice_ns: int) -> Slice:
        """Run one slice. Raises RuntimeError if a packet failed."""
        found = self._ask(f"run {slot} {method} {slice_ns}")
        if found["failed"]:
            raise RuntimeError(f"ipsec_mb {method}: {found['failed']} packets failed")
        return Slice(found["best_ns"], found["median_ns"], found["passes"])

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"ipsec_mb ended with code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer
