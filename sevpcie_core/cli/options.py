"""Options and arguments that several commands share."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Quiet: TypeAlias = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress and no warnings, only the result.")
]
Wide: TypeAlias = Annotated[
    bool, typer.Option("--wide", help="One row per workload and protection, every column.")
]
Jobs: TypeAlias = Annotated[
    int | None,
    typer.Option("--jobs", "-j", metavar="N", min=1, help="Simulations at once. Default: one per core."),
]
RecordFile: TypeAlias = Annotated[
    Path,
    typer.Argument(
        metavar="RECORD", help="A record, or the folder that compare --out wrote.", show_default=False
    ),
]
