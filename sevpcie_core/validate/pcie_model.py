"""Outputs of the analytic model of pcie-bench: link rates, and DMA by size.

Rule: `link.analytic.pcie_model` must give the same to rounding, so that what else is said of that model
here is true. Links of 32 lanes, which no revision of the standard has any more, are left out.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .. import spec
from ..link.analytic import Kind, maintenance_share, pcie_model
from ..workload.traces.table import Table
from .points import DataSet, Point
from .rows import Row

FOLDER: Final = "pcie-model"
# Equal to 1e-6.
BAR_PCT: Final = 1e-4

_LINK: Final = ("gen", "lanes", "mps", "tlp_gbps")
_SHAPE: Final = ("gen", "lanes", "addr_bits", "ecrc", "mps", "mrrs", "rcb", "rcb_chunks", "size_B")
# Columns of what is compared, by kind of transfer.
_CURVES: Final[dict[Kind, str]] = {"write": "wr_eff_gbps", "read": "rd_eff_gbps", "both": "rdwr_tx_eff_gbps"}


def compare(data: Path) -> DataSet:
    """Compare `link_bw.csv` and `mem_bw_*.csv` in a folder of reference data, those that are there.

    Raises FormatError for a table that cannot be read.
    """
    folder = data / FOLDER
    points: list[Point] = []
    skipped: dict[str, int] = {}
    if (folder / "link_bw.csv").is_file():
        points += _link_rates(folder / "link_bw.csv", skipped)
    for path in sorted(folder.glob("mem_bw_*.csv")):
        points += _transfers(path)
    return DataSet(
        "pcie_model",
        "pcie-model's own outputs, reproduced by the compatibility mode",
        "Gb/s",
        "bytes",
        BAR_PCT,
        BAR_PCT,
        points=points,
        not_modelled=skipped,
    )


def _link_rates(path: Path, skipped: dict[str, int]) -> Iterator[Point]:
    """Yield the link rates; links of lanes that the standard does not have are counted. Modified: skipped."""
    table = Table(path, _LINK)
    for line, row in table:
        cell = Row(path, line, table, row)
        generation, lanes, mps = cell.number("gen", "gen"), cell.number("lanes", "x"), cell.number("mps")
        if lanes not in spec.LANES:
            skipped[f"link_bw x{lanes}"] = skipped.get(f"link_bw x{lanes}", 0) + 1
            continue
        cell.known("gen", generation, spec.GIGATRANSFERS)
        rate = 8e3 / float(spec.byte_time_ps(generation, lanes))
        yield Point(
            f"gen{generation} x{lanes} mps {mps} link",
            f"gen{generation} x{lanes} link rate",
            mps,
            cell.value("tlp_gbps"),
            rate * (1 - maintenance_share(generation, lanes, mps)),
        )


def _transfers(path: Path) -> Iterator[Point]:
    table = Table(path, (*_SHAPE, *_CURVES.values()))
    for line, row in table:
        cell = Row(path, line, table, row)
        generation, lanes, size = cell.number("gen", "gen"), cell.number("lanes", "x"), cell.number("size_B")
        cell.known("gen", generation, spec.GIGATRANSFERS)
        cell.known("lanes", lanes, spec.LANES)
        shape = {name: cell.number(name) for name in ("mps", "mrrs", "rcb")}
        for name, value in shape.items():
            allowed = spec.READ_COMPLETION_BOUNDARIES if name == "rcb" else spec.PAYLOAD_SIZES
            cell.known(name, value, allowed)
        ours = pcie_model(
            generation,
            lanes,
            size,
            rcb_chunks=cell.number("rcb_chunks") != 0,
            address_bits=cell.number("addr_bits"),
            ecrc=cell.number("ecrc") != 0,
            **shape,
        )
        for kind, column in _CURVES.items():
            theirs = cell.value(column)
            where = f"gen{generation} x{lanes}"
            words = " ".join(f"{name} {value}" for name, value in shape.items())
            yield Point(f"{where} {words} {kind} {size} B", f"{where} {kind}", size, theirs, ours[kind])
