"""Join what a profiler counted per range with what the ranges were: rows as `pcie_counters` prints them.

    python3 bench/gpu/ranges.py RANGES NCU > ranges.csv

RANGES has what `pcie_counters ranges` prints, once per pass of the profiler: lines
`range,INDEX,experiment,direction,size_bytes,parallel,operations`. NCU is the log of `ncu --csv --page raw
--print-units base`, a row per range. Metrics are told per operation.
"""

import csv
import sys
from pathlib import Path


def ranges(path: Path) -> dict[int, list[str]]:
    """Return by index what a range was: experiment, direction, size, parallel, operations."""
    lines = (line.split(",") for line in path.read_text(errors="replace").splitlines())
    return {int(line[1]): line[2:] for line in lines if line[0] == "range" and len(line) == 7}


def counted(path: Path) -> list[dict[str, str]]:
    """Return the rows of the profiler's table, without the row of units."""
    lines = path.read_text(errors="replace").splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), len(lines))
    return [row for row in csv.DictReader(lines[first:]) if (row.get("ID") or "").isdigit()]


def main() -> None:
    """Join the two files that are named."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    known = ranges(Path(sys.argv[1]))
    for row in counted(Path(sys.argv[2])):
        what = known.get(int(row["ID"]))
        for metric, text in row.items():
            if what is None or not metric or "__" not in metric:
                continue
            try:
                value = float(text.replace(",", ""))
            except (AttributeError, ValueError):
                continue
            print(",".join([*what[:4], f"{metric.split()[0]}_per_op", f"{value / int(what[4]):.7g}"]))


if __name__ == "__main__":
    main()
