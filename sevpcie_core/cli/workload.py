"""`sevpcie workload ...`: what workloads consist of, before anything is simulated."""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from . import options, outdir, output
from .progress import Progress

_HELP: Final = (
    "Look at workloads: transactions and packets of an operation, sizes, arrivals. Nothing is simulated."
)

_RESULT: Final = outdir.Result(
    "workload show", "workload.json", re.compile(r"workload\.(json|txt|svg|png)", re.ASCII)
)

app = typer.Typer(help=_HELP, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def _overview(context: typer.Context) -> None:
    """Print the help if nothing is named."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command("list", epilog="Example: sevpcie workload list")
def list_(json: options.Json = False) -> None:
    """List what `workload show` can be asked for: the workloads of shipped scenarios, and recordings."""
    from ..experiment.named import catalogue

    found = catalogue()
    if json:
        output.print_json(found)
        return
    width = max(len(entry["name"]) for entry in found["workloads"])
    with output.pipe():
        for scenario in dict.fromkeys(entry["scenario"] for entry in found["workloads"]):
            mine = [entry for entry in found["workloads"] if entry["scenario"] == scenario]
            print(f"{scenario or 'samples'}: {mine[0]['title']}" if scenario else "samples:")
            for entry in mine:
                words = ", ".join(entry["devices"]) if scenario else entry["title"]
                print(f"  {entry['name']:{width}}  {words}")
    return


@app.command(
    "show",
    epilog="""\b
Examples:
  sevpcie workload show nvme                    every workload of a shipped scenario
  sevpcie workload show nvme/randread4k         one of them
  sevpcie workload show my.toml                 those of a scenario file
  sevpcie workload show capture.pcap --local 10.0.0.1 --out results/runs/capture
  sevpcie workload show disk.iolog --offset 1000 --limit 10000 --speed 2
  sevpcie workload show tlps.pcapng --local 41:00.0 --link gen4x8
  sevpcie workload show nic/imix_rx --against capture.pcap    how far from each other they are""",
)
def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE",
            help="SCENARIO, SCENARIO/WORKLOAD, sample:NAME, a scenario file (.toml) or a trace.",
            show_default=False,
        ),
    ],
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="NAME|FILE",
            help="Stand it beside another one, with two-sample statistics of sizes and gaps.",
            show_default=False,
        ),
    ] = None,
    requests: Annotated[
        int | None,
        typer.Option(
            "--requests",
            metavar="N",
            min=1,
            max=10**9,
            help="Operations per device that generates. Default: the scenario's.",
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer operations: a first look.")] = False,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", min=0, max=2**62, help="Key of all draws.")
    ] = None,
    link: Annotated[
        str | None, typer.Option("--link", metavar="LINK", help="Link of a trace, such as gen5x16.")
    ] = None,
    device: options.TraceDevice = None,
    limit: options.TraceLimit = None,
    offset: options.TraceOffset = None,
    speed: options.TraceSpeed = None,
    skip_bad: options.SkipBad = False,
    local: options.Local = None,
    pace: options.Pace = None,
    buffers: options.Buffers = None,
    protect: options.Protect = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Write workload.svg and .png, .json and .txt here.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show what a workload consists of.

    Per device: operations by class, the mix of transactions, the packets that they make on the link and how
    much of the wire is payload, doorbells and interrupts per operation, the part that the policy selective
    protects, and how sizes and arrivals are distributed. Of a trace also its format, its length and what was
    left out. Packets are cut as the simulator cuts them.

    With --against: both side by side, class by class (rx and tx, read and write, h2d and d2h): how large
    operations are, how they follow each other, how far the two are from each other, and transactions per
    operation. Options of traces are for each of the two that is one; beside a scenario a trace is replayed on
    the scenario's device.
    """
    if out is not None:
        out = out.expanduser()
        outdir.check(out, _RESULT)
    from ..experiment import against as beside
    from ..experiment import looks

    look = looks.document if against is None else partial(beside.document, against=against)
    with Progress(quiet) as progress:
        found = look(
            name,
            requests=requests,
            quick=quick,
            seed=seed,
            link=link,
            device=device,
            protect=options.protected(protect),
            progress=progress,
            limit=limit,
            offset=offset,
            speed=speed,
            skip_bad=skip_bad,
            local=local,
            pace=pace,
            buffers=options.listed(buffers),
        )
        if out is not None:
            progress("drawing", 0, 0)
            outdir.put(out, _RESULT, _files(found))
    output.warn(found["warnings"], quiet)
    with output.pipe():
        if json:
            output.print_json(found)
        else:
            output.print_looks(found)


def _files(document: Mapping[str, Any]) -> dict[str, str | bytes]:
    """Return the files of `--out` by name."""
    import json

    from ..report.style import png, svg

    if "pairs" in document:
        from ..report.against import render
        from ..report.against_figure import fig_against as draw
    else:
        from ..report.workload import render
        from ..report.workload_figure import fig_workload as draw
    figure = draw(document)
    return {
        "workload.svg": svg(figure) + "\n",
        "workload.png": png(figure),
        "workload.txt": "".join(f"{line.plain.rstrip()}\n" for line in render(document)),
        "workload.json": json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
    }
