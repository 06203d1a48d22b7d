"""All data sets that a folder of reference data has, compared."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ..errors import ConfigError
from . import (
    cc_copy,
    cocotbext,
    gpu,
    gpu_jobs,
    gpu_times,
    gpu_wire,
    nvme_driver,
    pcie_bench,
    pcie_model,
    pcie_model_nic,
)
from .points import DataSet

VARIABLE: Final = "SEVPCIE_REFERENCE_DATA"
# Where a checkout's data lie.
NEIGHBOUR: Final = Path("../shared/data")
# In the order of printing.
SETS: Final[tuple[Callable[[Path], DataSet], ...]] = (
    pcie_model.compare,
    pcie_model_nic.compare,
    cocotbext.compare,
    *pcie_bench.sets(),
    *gpu.sets(),
    *gpu_wire.sets(),
    gpu_times.queued,
    gpu_times.jobs,
    gpu_times.small_jobs,
    gpu_jobs.compare,
    cc_copy.compare,
    cc_copy.compare_pageable,
    nvme_driver.compare,
)

Progress = Callable[[str, int, int], object]


def names() -> list[str]:
    """Return the names of all data sets."""
    # Of a folder that cannot be there every set is absent, and none is run.
    return [compare(Path(os.devnull, "absent")).name for compare in SETS]


def data_folder(given: Path | None) -> Path | None:
    """Return the folder to read: the one given, the one that the variable names, or a checkout's; or None.

    Raises ConfigError for one that was asked for and is not there.
    """
    named = given or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
    if named is None:
        return NEIGHBOUR if NEIGHBOUR.is_dir() else None
    if not named.is_dir():
        raise ConfigError(f"{named}: no such folder of reference data")
    return named


def validate(data: Path, progress: Progress = lambda stage, done, total: None) -> list[DataSet]:
    """Compare every data set; those that are absent have no points.

    Raises FormatError for data that cannot be read.
    """
    found = []
    for i, compare in enumerate(SETS):
        progress("comparing", i, len(SETS))
        found.append(compare(data))
    return found
