"""Options and arguments that several commands share."""

from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import typer

from ..errors import MisuseError

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

# Of traces.
TraceDevice = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="NAME",
        help="Device of a trace: a preset or a .toml file. Default: nvme-tlc, nic-400g, gpu-gen5, endpoint.",
        show_default=False,
    ),
]
TraceLimit: TypeAlias = Annotated[
    int | None,
    typer.Option("--limit", metavar="N", min=1, max=10**9, help="Most records of the trace that are taken."),
]
TraceOffset: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--offset", metavar="N", min=0, max=10**12, help="Records of the trace left out at its start."
    ),
]
TraceSpeed: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--speed",
        metavar="X",
        min=1e-6,
        max=1e6,
        help="Replay so many times as fast: times are divided by it.",
    ),
]
SkipBad: TypeAlias = Annotated[
    bool,
    typer.Option("--skip-bad", help="Leave malformed records out and count them, instead of an error."),
]
Local: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--local",
        metavar="ADDR[:PORT]|BDF",
        help="Which end of a capture is the adapter: packets to it are received (default: the lower port); "
        "of TLPs: the device's ID, as 41:00.0 (default: any but bus 0).",
    ),
]
Pace: TypeAlias = Annotated[
    Literal["line", "recorded"] | None,
    typer.Option(
        "--pace", help="Frames of a capture: spaced to the adapter's line rate (default), or as recorded."
    ),
]
Buffers: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--buffers",
        metavar="LIST",
        help="Of recorded TLPs: where buffers of a class lie, such as queue=0x1f0000000+64KiB; classes are "
        "data, queue and msi. Default: data, and MSI at 0xfee00000.",
    ),
]
Protect: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--protect",
        metavar="LIST",
        help="Buffers that the policy selective protects: data,queue,mmio,msi or none. Default: data,queue.",
    ),
]
_BUFFERS: Final = ("data", "queue", "mmio", "msi")


def listed(text: str | None) -> list[str] | None:
    """Return the parts of a list of an option."""
    return None if text is None else text.split(",")


def protected(text: str | None) -> dict[str, float] | None:
    """Return the protected share of each class of buffers that `--protect` says. Raises MisuseError."""
    if text is None:
        return None
    named = [] if text == "none" else text.split(",")
    for name in named:
        if name not in _BUFFERS:
            which = "" if name == text else f": {name!r}"
            shares = "; shares of them stand in [regions] of a scenario" if "=" in name else ""
            raise MisuseError(
                f"--protect {text!r}{which}; expected some of {', '.join(_BUFFERS)}, or none{shares}"
            )
    return {name: 1.0 if name in named else 0.0 for name in _BUFFERS}
