"""What encrypting the PCIe link costs a workload: a simulator of protected links, and a harness around it.

`compare` runs scenarios with and without protection, `load` reads a record; both return a `Comparison`.
Names load on first use, so that importing the package costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import Comparison, Scenario, compare, load

__all__ = ["Comparison", "Scenario", "compare", "load"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module(".api", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
