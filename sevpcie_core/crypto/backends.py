"""Which instruction set seals and opens: the best that this CPU has, chosen once.

Rule: one file per instruction set, each with `seal` and `open` of one signature. A file is imported only
where its instructions exist.
"""

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from .._jit import cpu
from ..errors import ConfigError

VARIABLE: Final = "SEVPCIE_AES_BACKEND"

# From the slowest to the fastest: file, and LLVM's names of the features that it needs.
_NEEDS: Final[dict[str, frozenset[str]]] = {
    "portable": frozenset(),
    "aesni": frozenset({"aes", "pclmul", "ssse3", "sse4.1"}),
    "vaes256": frozenset({"aes", "pclmul", "vaes", "vpclmulqdq", "avx2"}),
    "vaes512": frozenset({"aes", "pclmul", "vaes", "vpclmulqdq", "avx512f", "avx512bw", "avx512vl", "bmi2"}),
}
# The widest form of VAES that the CPU has.
_VAES: Final = "vaes"


Kernel = Callable[..., Any]


@dataclass(frozen=True)
class Backend:
    """One instruction set.

    `seal(round_keys, powers, rounds, packets, aad, text, out, tag_bytes, scratch)`
    and `open(..., scratch, failed)` are kernels; see `crypto.portable` for their arguments.
    """

    name: str
    seal: Kernel
    open: Kernel
    # The same for batches of equal packets, if it takes packets side by side; they return whether it is one.
    seal_alike: Kernel | None
    open_alike: Kernel | None


def names() -> list[str]:
    """Return every name that a backend may be asked for, available or not."""
    return [*_NEEDS, _VAES]


def available() -> list[str]:
    """Return the backends that run here, the slowest first."""
    return [name for name, needs in _NEEDS.items() if needs <= cpu.features()]


@cache
def load(name: str) -> Backend:
    """Return an available backend by its name.

    Raises ConfigError for a name that is unknown, or whose instructions are not here.
    """
    here = available()
    wanted = name
    if wanted == _VAES:
        wanted = next((n for n in reversed(here) if n.startswith(_VAES)), _VAES)
    if wanted not in here:
        known = "not available on this CPU" if wanted in names() else "unknown"
        raise ConfigError(f"AES backend {name!r} is {known}: choose from {', '.join(here)}")
    module: Any = importlib.import_module(f".{wanted}", __package__)
    alike = (getattr(module, name, None) for name in ("seal_alike", "open_alike"))
    return Backend(wanted, module.seal, module.open, *alike)


@cache
def default() -> Backend:
    """Return the backend of this process: what SEVPCIE_AES_BACKEND names, else the fastest.

    Raises ConfigError for a name in the variable that cannot be used.
    """
    name = os.environ.get(VARIABLE)
    try:
        return load(name) if name else load(available()[-1])
    except ConfigError as error:
        raise ConfigError(f"{VARIABLE}: {error}") from None
