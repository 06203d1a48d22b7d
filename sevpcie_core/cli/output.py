"""What commands print: results to standard output, everything else to standard error."""

import json
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..record import RunRecord


def print_json(value: Any) -> None:
    """Print one JSON document."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def print_table(record: "RunRecord", wide: bool) -> None:
    """Print the table of a record and the sentences below it."""
    from rich.console import Console

    from ..report.table import PIPE_WIDTH, print_summary

    class PipeAware(Console):
        """Rich would end the process with code 1; a closed pipe is no failure."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    print_summary(record.to_dict(), PipeAware(width=width, highlight=False), wide=wide)


def warn(warnings: Iterable[str], quiet: bool = False) -> None:
    """Print warnings, one per line, unless they are not wanted."""
    if not quiet:
        for warning in warnings:
            print(f"sevpcie: warning: {warning}", file=sys.stderr)
