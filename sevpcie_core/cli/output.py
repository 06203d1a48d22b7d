"""What commands print: results to standard output, everything else to standard error."""

import contextlib
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from ..record import RunRecord


@contextlib.contextmanager
def pipe() -> Iterator[None]:
    """Print inside this, with the exit code already known: a reader that has gone does not change it."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, for example `head`, has all that it wanted.
        discard()


def discard() -> None:
    """Send what is still buffered nowhere: the interpreter flushes once more when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_json(value: Any) -> None:
    """Print one JSON document."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def console() -> "Console":
    """Return what tables are printed on: as wide as the terminal, which may have gone."""
    from rich.console import Console

    from ..report.table import PIPE_WIDTH

    class PipeAware(Console):
        """Rich would end the process with code 1; a closed pipe is no failure."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    # Unlike rich this takes a width of 0 for none.
    width = shutil.get_terminal_size((PIPE_WIDTH, 24)).columns
    return PipeAware(width=width, highlight=False)


def print_table(record: "RunRecord", wide: bool) -> None:
    """Print the table of a record and the sentences below it."""
    from ..report.table import print_summary

    print_summary(record.to_dict(), console(), wide=wide)


def print_looks(document: "Mapping[str, Any]") -> None:
    """Print what workloads consist of."""
    from ..report.table import is_fancy, print_lines
    from ..report.workload import render

    where = console()
    if "pairs" in document:
        from ..report.against import render
    print_lines(render(document, where.width, is_fancy(where)), where)


def print_ledger(record: "RunRecord") -> None:
    """Print for every line and protection where the added mean latency is spent."""
    from ..report.ledger import legend, sentences
    from ..report.table import PIPE_WIDTH

    data = record.to_dict()
    told = list(sentences(data))
    print("\nWhere the added mean latency is spent:")
    width = max((len(what) for what, _ in told), default=0)
    for what, text in told:
        print(f"  {what.ljust(width)}  {text}")
    most = min(shutil.get_terminal_size((PIPE_WIDTH, 24)).columns, PIPE_WIDTH)
    print("", *textwrap.wrap(legend(data), max(40, most)), sep="\n")


def warn(warnings: Iterable[str], quiet: bool = False) -> None:
    """Print warnings, one per line, unless they are not wanted."""
    if not quiet:
        # Whoever does not read standard error still gets the result.
        with contextlib.suppress(OSError):
            for warning in warnings:
                print(f"sevpcie: warning: {warning}", file=sys.stderr)
