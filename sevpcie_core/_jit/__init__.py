"""The one kernel decorator, and the only place that configures Numba.

Rule: a kernel sees arrays and numbers only, allocates nothing, and never raises.

Numba's disk cache does not notice edits in other files or changed globals, so its folder is named by a
digest of every source file that kernels can see. The folder must be set before the first kernel is made,
hence at import of this module.
"""

import atexit
import functools
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
import numba.core.event
import numpy as np

from .locked import lock

F = TypeVar("F", bound=Callable[..., Any])

_PACKAGE = Path(__file__).parent.parent
# The floors that hold kernels, or constants that kernels bake in.
_KERNEL_SOURCES = ("_jit", "spec.py", "policy.py", "tlp", "crypto", "stats", "ide", "workload", "link")
_KEPT_CACHES = 4


def sources_digest() -> str:
    """Return a short digest of all source files that can end up in compiled code."""
    digest = hashlib.sha256()
    for name in _KERNEL_SOURCES:
        path = _PACKAGE / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(str(file.relative_to(_PACKAGE)).encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _cache_dir() -> Path:
    """Return a writable cache folder for this state of the sources; drop the oldest of its siblings."""
    name = f"kernels-{sources_digest()}"
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sevpcie"
        folder = _writable(base / name)
    except (OSError, RuntimeError):
        # Path.home() raises RuntimeError for a user without one.
        try:
            base = _temporary_base()
            folder = _writable(base / name)
        except OSError:
            folder = Path(tempfile.mkdtemp(prefix="sevpcie-kernels-"))
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            return folder
    others = sorted(base.glob("kernels-*"), key=lambda p: p.stat().st_mtime, reverse=True)
    for old in others[_KEPT_CACHES:]:
        if old != folder:
            shutil.rmtree(old, ignore_errors=True)
    return folder


def _writable(folder: Path) -> Path:
    """Make a folder and return it. Raises OSError if nothing can be written there."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass
    return folder


def _temporary_base() -> Path:
    """Return this user's folder among the temporary files. Raises OSError if it may be somebody else's.

    Compiled code is run as it is found, so nobody else may write there.
    """
    base = Path(tempfile.gettempdir()) / f"sevpcie-kernels-{os.getuid()}"
    base.mkdir(mode=0o700, exist_ok=True)
    state = base.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.getuid() or state.st_mode & 0o077:
        raise PermissionError(f"{base} is not ours alone")
    return base


# They lack types for what is used here.
_config: Any = numba.config
_njit: Any = numba.njit
_event: Any = numba.core.event

JIT_DISABLED = bool(_config.DISABLE_JIT)
BOUNDS_CHECKED = bool(_config.BOUNDSCHECK)
if not JIT_DISABLED and "NUMBA_CACHE_DIR" not in os.environ:
    _config.CACHE_DIR = str(_cache_dir())


class _Compiler(numba.core.event.Listener):
    """Counts the kernels that are being compiled; what a cache holds is not."""

    depth = 0

    def on_start(self, event: object) -> None:
        self.depth += 1

    def on_end(self, event: object) -> None:
        self.depth -= 1


_compiler = _Compiler()
_event.register("numba:compile", _compiler)


def compiling() -> bool:
    """Return whether a kernel is being compiled at this moment, by any thread."""
    return _compiler.depth > 0


def _interpreted(function: F) -> F:
    """Let a function run without JIT as compiled code does: integer overflow wraps silently."""

    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        with np.errstate(over="ignore"):
            return function(*args)

    return wrapper  # type: ignore[return-value]


def _compiled(function: F, **options: bool) -> F:
    # Kernels allocate nothing, so reference counts of their arrays cannot change: without them (`_nrt`) calls
    # between kernels are several times cheaper.
    # No kernel divides by zero, so none needs the check before each division.
    made: F = _njit(nogil=True, error_model="numpy", _nrt=False, **{"cache": True, **options})(function)
    lock(made)
    return made


def kernel(function: F) -> F:
    """Compile a function of arrays and numbers that allocates nothing."""
    return _interpreted(function) if JIT_DISABLED else _compiled(function)


def inline_kernel(function: F) -> F:
    """Compile a kernel into its callers: for small ones, and for those with one caller."""
    return _interpreted(function) if JIT_DISABLED else _compiled(function, forceinline=True)


# Without what a call from Python takes, a kernel of many parts compiles in two thirds of the time.
# Its own entry in the cache would be read by nobody: its callers' have it.
_NO_WRAPPERS = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "cache": False}


def inner_kernel(function: F) -> F:
    """Compile a kernel of vectors that only kernels can call: a call from Python crashes the process."""
    return _compiled(function, **_NO_WRAPPERS)


def inline_only(function: F) -> F:
    """Do the same and compile it into its callers."""
    return _compiled(function, forceinline=True, **_NO_WRAPPERS)
