"""Rewrite what the README shows of `make compare`: the table and the picture. Run by `make readme`."""

import io
import sys
from pathlib import Path

from rich.console import Console

from sevpcie_core import compare
from sevpcie_core.report.table import print_summary

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- compare -->\n", "<!-- /compare -->"


def shown(readme: str) -> str:
    """Return the block that the README shows as the output of the main job."""
    inside = readme.split(BEGIN)[1].split(END)[0]
    return "\n".join(line.removeprefix("    ") for line in inside.strip("\n").splitlines())


def printed(record: dict[str, object]) -> str:
    """Return what the main job prints into a pipe."""
    out = io.StringIO()
    print_summary(record, Console(file=out, width=120, no_color=True, force_terminal=False))
    return "\n".join(line.rstrip() for line in out.getvalue().strip("\n").splitlines())


def main() -> None:
    """Run the main job and write its table and its picture."""
    comparison = compare()
    path = ROOT / "README.md"
    text = path.read_text()
    block = "\n".join(f"    {line}".rstrip() for line in printed(comparison.record.to_dict()).splitlines())
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    path.write_text(f"{head}{BEGIN}\n{block}\n\n{END}{tail}")
    figure = comparison.plot_overhead()
    (ROOT / "docs" / "overhead.svg").write_text(figure._repr_svg_())
    print("README.md and docs/overhead.svg written", file=sys.stderr)


if __name__ == "__main__":
    main()
