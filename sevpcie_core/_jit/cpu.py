"""What the CPU can do, asked before anything is compiled for it.

Rule: an instruction that the CPU lacks aborts the process, so a kernel that needs one is not even imported
unless its features are here.
"""

from functools import cache
from typing import Any

import numba
from llvmlite import binding

from . import JIT_DISABLED


@cache
def features() -> frozenset[str]:
    """Return LLVM's names of the features that compiled code may use here: empty without JIT.

    NUMBA_CPU_NAME and NUMBA_CPU_FEATURES, which tell Numba to compile for another CPU, count here too.
    """
    if JIT_DISABLED:
        return frozenset()
    return frozenset(_override() or (name for name, here in binding.get_host_cpu_features().items() if here))


def _override() -> set[str]:
    """Return the features that Numba was told to use, or an empty set."""
    config: Any = numba.config
    text = config.CPU_FEATURES
    if text is None:
        # A CPU that is only named ("generic") may lack anything.
        return {"none"} if config.CPU_NAME else set()
    return {item[1:] for item in text.split(",") if item.startswith("+")} or {"none"}
