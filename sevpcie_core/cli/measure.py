"""`sevpcie measure ...`: what this machine does, measured; a platform found with measurements."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ..errors import MisuseError
from . import options, output
from .progress import Progress

if TYPE_CHECKING:
    from ..measure.crypto import Result
    from ..measure.scaling import Result as Scaling
    from ..validate.calibrate import Calibration

_HELP: Final = """Measure what this machine does: the speed of its AES-GCM, of the simulator and of what makes
workloads. Find a platform's parameters with measurements."""
# A bar was missed.
MISSED: Final = 99

app = typer.Typer(help=_HELP, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def _overview(context: typer.Context) -> None:
    """Print the help if nothing is named."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command("crypto", epilog="Example: sevpcie measure crypto --backend vaes --payload 64,256")
def crypto(
    payload: Annotated[
        str, typer.Option("--payload", metavar="N,N,...", help="Bytes that are encrypted.")
    ] = "64,128,256,1024,4096",
    aad: Annotated[
        str, typer.Option("--aad", metavar="N,N,...", help="Bytes that are authenticated only.")
    ] = "16,20",
    key_bits: Annotated[
        str, typer.Option("--key-bits", metavar="N,N", help="Sizes of keys: 128, 256.")
    ] = "128,256",
    packets: Annotated[int, typer.Option("--packets", metavar="N", min=1, help="Packets in a batch.")] = 2048,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            "--backend", metavar="NAME", help="Only this one; repeatable. Default: all that run here."
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer repetitions: a first look.")] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Time sealing and opening, by AES backend.

    Prints the time per packet, and how many times the bound of this CPU that is.

    Packets of a batch are alike, have one key, buffers of their own at odd addresses and tags of 12 bytes.
    The process stays on one CPU meanwhile: the last one that it may use, which taskset can choose.
    """
    from ..measure.crypto import Plan, measure

    plan = Plan(
        payloads=_numbers("--payload", payload),
        aads=_numbers("--aad", aad),
        key_bits=_numbers("--key-bits", key_bits),
        packets=packets,
        backends=backend or None,
        **({"rounds": 5, "slice_ns": 1_000_000} if quick else {}),
    )
    with Progress(quiet) as progress:
        result = measure(plan, progress)
    with output.pipe():
        if json:
            output.print_json(result.to_dict())
        else:
            _print(result)


@app.command("simulator", epilog="Example: sevpcie measure simulator --depth 1,32,256")
def simulator(
    depth: Annotated[
        str, typer.Option("--depth", metavar="N,N,...", help="Queue depths of the NVMe reads.")
    ] = "32,256",
    requests: Annotated[int, typer.Option("--requests", metavar="N", help="Reads of one run.")] = 20_000,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer and shorter runs: a first look.")] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Time the link simulator: TLPs per second on one CPU.

    4 KiB random reads of a DRAM-like NVMe device on Gen5 x4, in plaintext and with every TLP sealed.
    """
    from ..measure.simulator import Plan, measure

    chosen = {"requests": min(requests, 3000), "rounds": 3} if quick else {"requests": requests}
    with Progress(quiet) as progress:
        result = measure(Plan(depths=_numbers("--depth", depth), **chosen), progress)
    with output.pipe():
        if json:
            output.print_json(result.to_dict())
            return
        print("scenario          scheme    depth  million TLPs/s  median  simulated/wall")
        for row in result.rows:
            best, median = row.tlps_per_s / 1e6, row.tlps_per_s_median / 1e6
            print(
                f"{row.scenario:<16}  {row.scheme:<8}  {row.queue_depth:>5}  {best:>14.1f}  {median:>6.1f}  "
                f"{row.simulated_over_wall:>14.2f}"
            )
        of = f"{result.plan.rounds} runs of {result.plan.requests} reads, CPU {result.cpu}"
        print(f"\nbest and median of {of}; --json lists the mechanisms that are on")


@app.command("traces", epilog="Example: sevpcie measure traces --format fio-iolog --records 5000000")
def traces(
    format: Annotated[
        list[str] | None,
        typer.Option(
            "--format", metavar="NAME", help="Only this one; repeatable. Default: all of docs/traces.md."
        ),
    ] = None,
    records: Annotated[int, typer.Option("--records", metavar="N", help="Records of each file.")] = 500_000,
    quick: Annotated[bool, typer.Option("--quick", help="Short files, read once: a first look.")] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Time the trace readers: records per second on one CPU, of uncompressed files.

    Each file is made up, with as many other lines beside a record as the format's own tool writes, and read
    from opening it to the records in order.
    """
    from ..measure.traces import Plan, measure

    chosen = {"records": min(records, 50_000), "rounds": 1} if quick else {"records": records}
    with Progress(quiet) as progress:
        result = measure(Plan(formats=tuple(format or ()), **chosen), progress)
    with output.pipe():
        if json:
            output.print_json(result.to_dict())
            return
        print("format             million records/s  median  million lines/s  MB/s")
        for row in result.rows:
            best, median = row.records_per_s / 1e6, row.records_per_s_median / 1e6
            print(
                f"{row.format:<17}  {best:>17.2f}  {median:>6.2f}  {row.lines_per_s / 1e6:>15.2f}  "
                f"{row.bytes_per_s / 1e6:>4.0f}"
            )
        of = f"{result.plan.rounds} readings of {result.plan.records:,} records, CPU {result.cpu}"
        print(f"\nbest and median of {of}; lines include those that hold no record")


@app.command(
    "workload",
    epilog="""Example: sevpcie measure workload --requests 1000000. Exit code 0: every workload keeps the bar
of 20 million TLPs per second; 99: one does not.""",
)
def workload(
    requests: Annotated[
        int, typer.Option("--requests", metavar="N", help="Commands or frames of a generated workload.")
    ] = 100_000,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer and shorter runs: a first look.")] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Time the making of workloads: TLPs per second on one CPU, from the generator to the cut packets.

    Nothing is simulated. NVMe, NIC and GPU; of a recorded job the reading of its file is not counted.
    """
    from ..measure.workload import BAR, Plan, measure

    plan = Plan(min(requests, 5000), rounds=3) if quick else Plan(requests)
    with Progress(quiet) as progress:
        result = measure(plan, progress)
    with output.pipe():
        if json:
            output.print_json(result.to_dict())
        else:
            print("workload            operations       TLPs  million TLPs/s  median  steps, %")
            for row in result.rows:
                best, median = row.tlps_per_s / 1e6, row.tlps_per_s_median / 1e6
                print(
                    f"{row.workload:<18}  {row.operations:>10,}  {row.tlps:>9,}  {best:>14.1f}  "
                    f"{median:>6.1f}  {row.steps_pct:>8.0f}"
                )
            print(
                f"\nbest and median of {result.plan.rounds} rounds, CPU {result.cpu}; bar "
                f"{BAR / 1e6:.0f} million\nsteps: part of the time in which they are made; the rest cuts them"
            )
    return 0 if result.within else MISSED


@app.command(
    "scaling",
    epilog="""Example: sevpcie measure scaling --tlps 100000000 --depth 32,256. Exit code 0: the longest run
stayed under 500 MB; 99: it did not.""",
)
def scaling(
    tlps: Annotated[
        int, typer.Option("--tlps", metavar="N", help="TLPs of the longest run, at depth 32.")
    ] = 1_000_000_000,
    depth: Annotated[
        str, typer.Option("--depth", metavar="N,N,...", help="Queue depths of the shorter runs.")
    ] = "1,8,64,512,4096",
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Measure how time and memory of a simulation grow with its length and its queue depth.

    4 KiB random reads of a DRAM-like NVMe device on Gen5 x4, in plaintext: at depth 32 a thousandth, a
    hundredth, a tenth and all of the TLPs, then each depth at all lengths but the longest. Takes minutes.
    """
    from ..measure.scaling import Plan, measure

    with Progress(quiet) as progress:
        result = measure(Plan(tlps=tlps, depths=_numbers("--depth", depth)), progress)
    with output.pipe():
        if json:
            output.print_json(result.to_dict())
        else:
            _print_scaling(result)
    return 0 if result.within else MISSED


def _print_scaling(result: "Scaling") -> None:
    """Print the runs, then depths by lengths."""
    from ..measure.scaling import MEMORY_BAR_MB

    print("depth           TLPs   seconds  ns per TLP  peak memory, MB")
    for row in result.lengths:
        print(
            f"{row.queue_depth:>5}  {row.tlps:>13,}  {row.seconds:>8.2f}  {row.ns_per_tlp:>10.1f}  "
            f"{row.peak_mb:>15.0f}"
        )
    columns = list(dict.fromkeys(f"{row.tlps / 1e6:.2g}" for row in result.depths))
    if columns:
        print("\nns per TLP by depth and million TLPs")
        print("depth" + "".join(f"  {millions:>8}" for millions in columns))
    for depth in dict.fromkeys(row.queue_depth for row in result.depths):
        mine = [row.ns_per_tlp for row in result.depths if row.queue_depth == depth]
        print(f"{depth:>5}" + "".join(f"  {ns:>8.1f}" for ns in mine))
    last = result.lengths[-1]
    print(
        f"\n{last.tlps:,} TLPs: {last.seconds:.1f} s, {result.peak_mb:.0f} MB at most (bar "
        f"{MEMORY_BAR_MB:.0f} MB), {result.growth_mb:.1f} MB more than a hundredth of them\n"
        f"CPU time of the event loop on CPU {result.cpu}; memory of the whole process, MB of 10^6 bytes"
    )


@app.command(
    "calibrate",
    epilog="""Example: sevpcie measure calibrate gpu_gen5x16.csv --platform xeon-h100 --out mine.toml. The
file that is written is a platform: edit its title, name it with --platform to start from it, and take its
link and host into a scenario with platform = "mine.toml".""",
)
def calibrate(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A CSV table of measurements with the columns above, or a folder of reference data.",
            show_default=False,
        ),
    ],
    platform: Annotated[
        str | None,
        typer.Option(
            "--platform",
            metavar="NAME",
            help="Where to start: a name of sevpcie list platforms, or a .toml file. Default: by the table.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="Write the platform with its residuals here.", show_default=False
        ),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Find the free parameters of a platform with measurements, by least squares.

    Only numbers that the platform lists as free are changed, within their ranges; what a standard fixes never
    is. The rows that `sevpcie validate` calls fitted are used, those that it holds out are not
    (docs/validation.md has them, with an example).

    A table is told by its columns, in any order, beside any others:

    \b
    a GPU's copies and accesses to host memory (start: xeon-h100)
      experiment,direction,size_bytes,parallel,metric,value
    DMA latency by size, as pcie-bench has it (start: e5-nfp6000)
      system,Test,PAT,Cache,WinSZ,SZ,Avg(ns)
    DMA bandwidth by size, as pcie-bench has it
      system,Test,PAT,Cache,WinSZ,SZ,BW_Gbps(source header says GB/s)
    distribution of DMA latency
      system,test,size_bytes,window_bytes,cache,ns,cdf

    The column system is one that the platform lists under systems.
    """  # noqa: D301
    from ..experiment.platforms import load_platform
    from ..files import check_writable, write_atomically
    from ..validate.calibrate import calibrate as run
    from ..validate.calibrate import measurements

    if out is not None:
        check_writable(out)
    with measurements(data) as (folder, first):
        name = platform or first
        with Progress(quiet) as progress:
            found = run(folder, load_platform(name), progress=progress)
    if out is not None:
        write_atomically(out, found.to_toml())
    with output.pipe():
        if json:
            output.print_json(found.to_dict())
        else:
            _print_calibration(found)


def _print_calibration(found: "Calibration") -> None:
    """Print the parameters, and what is left by experiment."""
    width = max(len(free.key) for free in found.platform.free)
    for free in found.platform.free:
        note = "; at the end of its range" if free.value in (free.low, free.high) else ""
        note = "; kept: no row depends on it" if free.key in found.unseen else note
        print(f"{free.key:{width}}  {free.value:>8.5g} {free.unit:<8}  {free.meaning}{note}")
    print(f"\nmean error {found.mean_pct:.2g} % over {len(found.points)} rows, was {found.before:.2g} %")
    for name, left in found.residuals().items():
        errors = f"mean {left['mean_pct']:.2g} %, largest {left['max_pct']:.2g} %"
        rows = "1 row" if left["points"] == 1 else f"{left['points']} rows"
        print(f"  {name}: {rows}, {errors}")


def _numbers(option: str, text: str) -> list[int]:
    """Return the numbers of a list such as 64,128, each once."""
    if not re.fullmatch(r"\d{1,9}(,\d{1,9})*", text, re.ASCII):
        raise MisuseError(f"{option} {text!r}: expected numbers parted by commas, such as 64,128")
    return list(dict.fromkeys(map(int, text.split(","))))


def _print(result: "Result") -> None:
    """Print the table and what its columns mean."""
    from rich.console import Console
    from rich.table import Table

    from ..measure.pool import TAG_BYTES

    class PipeAware(Console):
        """Rich would end the process with code 1; a closed pipe is no failure."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("backend")
    for name in (
        "key bits",
        "payload B",
        "AAD B",
        "seal ns",
        "open ns",
        "seal med",
        "open med",
        "GB/s",
        "x bound",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for row in result.rows:
        cells: list[Any] = [row.key_bits, row.payload_bytes, row.aad_bytes]
        cells += [f"{row.seal_ns:.1f}", f"{row.open_ns:.1f}"]
        cells += [f"{row.seal_median_ns:.1f}", f"{row.open_median_ns:.1f}", f"{row.seal_gbytes_per_s:.2f}"]
        cells.append("-" if row.seal_x_bound is None else f"{row.seal_x_bound:.2f}")
        table.add_row(row.backend, *map(str, cells))
    console = PipeAware(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 120
    console.print(table)
    console.print(
        f"\nns per packet in batches of {result.plan.packets}, tag of {TAG_BYTES} bytes, CPU {result.cpu}: "
        f"best and median of {result.plan.rounds} rounds; GB/s of sealing."
    )
    if result.ports:
        console.print(
            f"x bound: how many times the least time that AES rounds ({result.ports.aesenc_ns:.3f} ns on "
            f"{result.ports.bits} bits) and carry-less products ({result.ports.pclmulqdq_ns:.3f} ns, "
            f"{result.ports.added_ns:.3f} ns beside rounds) take here."
        )
    else:
        console.print("x bound: this CPU has no AES instructions that could bound it.")
