"""`sevpcie report`: a record as a table or as one self-contained HTML file."""

from pathlib import Path
from typing import Annotated

import typer

from . import options, output, signals
from .progress import Progress


def report(
    record: options.RecordFile,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE.html", help="Write HTML instead of printing the table."),
    ] = None,
    wide: options.Wide = False,
    quiet: options.Quiet = False,
) -> None:
    """Print the table of a record, or write it as HTML that needs no network."""
    from ..record import RunRecord

    loaded = RunRecord.load(record)
    output.warn(loaded.warnings, quiet)
    if out is None:
        output.print_table(loaded, wide)
        return
    from ..report.html import write_html

    with Progress(quiet) as progress:
        progress("drawing", 0, 0)
        signals.note_written(write_html(loaded.to_dict(), out.expanduser()))
