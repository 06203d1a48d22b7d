"""`sevpcie compare`: the main job."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

import typer

from ..errors import ConfigError, MisuseError
from . import options, output
from .progress import Progress

if TYPE_CHECKING:
    from ..record import RunRecord

FailOn: TypeAlias = Literal["over", "inconclusive"]

_MOST_PCT: Final = 1000

EPILOG: Final = """\b
Traces:
  sevpcie compare --trace sample:redis
  sevpcie compare --trace capture.pcap --local 10.0.0.1 --pace recorded
  sevpcie compare --trace disk.iolog --offset 1000 --limit 50000 --speed 2
  sevpcie compare --trace disk.iolog --skip-bad --protect data
  sevpcie compare --trace tlps.csv --link gen4x8 --buffers queue=0x1f0000000+64KiB"""


def compare(
    scenario: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SCENARIO", help="Shipped names or TOML files. Default: every shipped scenario."
        ),
    ] = None,
    traces: Annotated[
        list[Path] | None,
        typer.Option(
            "--trace", metavar="FILE", help="Replay a recording, or sample:NAME, instead of scenarios."
        ),
    ] = None,
    as_: Annotated[
        Literal["gpu", "nic", "nvme", "tlp"] | None,
        typer.Option("--as", help="What the recording is of. Default: by its content."),
    ] = None,
    link: Annotated[
        str | None, typer.Option("--link", metavar="LINK", help="Link of the trace, such as gen5x16.")
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
    scheme: Annotated[
        list[str] | None, typer.Option("--scheme", metavar="NAME", help="Protection to compare; repeatable.")
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option("--policy", metavar="NAME", help="What is protected: selective or all; repeatable."),
    ] = None,
    baseline: Annotated[
        str, typer.Option("--baseline", metavar="SCHEME", help="What overheads are measured against.")
    ] = "none",
    budget: Annotated[
        float | None,
        typer.Option("--budget", metavar="PCT", help="Allowed added latency in per cent."),
    ] = None,
    fail_on: Annotated[
        FailOn | None,
        typer.Option("--fail-on", help="End with 99 if a verdict is over; with inconclusive also with 4."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer requests: a first look.")] = False,
    requests: Annotated[
        int | None,
        typer.Option("--requests", metavar="N", min=1, max=10**9, help="Requests per device that generates."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", metavar="N", min=1, max=1000, help="Paired repetitions.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", min=0, max=2**62, help="The first seed.")
    ] = None,
    jobs: options.Jobs = None,
    why: Annotated[
        bool,
        typer.Option("--why", help="Say behind the table where the added time is spent, place by place."),
    ] = False,
    json: options.Json = False,
    wide: options.Wide = False,
    quiet: options.Quiet = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Write record, report and scenarios here."),
    ] = None,
) -> int:
    """Compare encrypted with plaintext links on generated or recorded traffic."""
    if traces and len(traces) > 1:
        raise MisuseError(
            f"--trace {len(traces)} times; expected one recording (a scenario file may have several)"
        )
    trace = traces[0] if traces else None
    if trace is not None and scenario:
        raise MisuseError(f"--trace and scenarios ({', '.join(scenario)}) together; expected one of them")
    reading: dict[str, Any] = {
        "device": device,
        "limit": limit,
        "offset": offset,
        "speed": speed,
        "skip_bad": skip_bad,
        "local": local,
        "pace": pace,
        "buffers": options.listed(buffers),
    }
    for option, value in {"as": as_, "link": link, **reading, "buffers": buffers}.items():
        if value is not None and value is not False and trace is None:
            told = f"--{option.replace('_', '-')}{'' if value is True else f' {value}'}"
            raise MisuseError(f"{told} without --trace; a scenario names its own")
    if trace is not None and requests is not None:
        raise MisuseError(
            f"--requests {requests} with --trace; a recording has its own, of which --limit takes some"
        )
    for name in policy or ():
        if name not in ("selective", "all"):
            raise MisuseError(f"--policy {name!r}; expected 'selective' or 'all'")
    if budget is not None and not 0 < budget <= _MOST_PCT:
        raise MisuseError(f"--budget {budget:g}; expected a number above 0, up to {_MOST_PCT}")
    regions = options.protected(protect)
    if regions is not None and policy and "selective" not in policy:
        raise MisuseError(f"--protect {protect} with --policy {policy[0]}; only selective looks at buffers")
    if out is not None:
        from .outdir import check

        out = out.expanduser()
        check(out)
        for name in (*(scenario or ()), *((str(trace),) if trace else ())):
            path = str(Path(name).absolute())
            if not path.isascii() and path != path.encode(errors="replace").decode():
                raise ConfigError(f"{path}: a name that is not UTF-8, which a record cannot hold; rename it")

    from ..api import compare as run

    with Progress(quiet) as progress:
        comparison = run(
            scenario or None,
            schemes=scheme or None,
            policies=policy or None,
            baseline=baseline,
            budget_pct=budget,
            requests=requests,
            seeds=seeds,
            seed=seed,
            quick=quick,
            jobs=jobs,
            trace=trace,
            as_=as_,
            link=link,
            protect=regions,
            progress=progress,
            **reading,
        )
        record = comparison.record
        if fail_on is not None:
            asked = record.options.model_copy(update={"fail_on": fail_on})
            record = record.model_copy(update={"options": asked})
        if out is not None:
            from .outdir import publish

            progress("drawing", 0, 0)
            publish(out, record)
    output.warn(record.warnings, quiet)
    code = verdict_code(record, fail_on)
    with output.pipe():
        if json:
            print(record.to_json(), end="")
        else:
            output.print_table(record, wide)
            if why:
                output.print_ledger(record)
    return code


def verdict_code(record: "RunRecord", fail_on: FailOn | None) -> int:
    """Return what the verdicts (end to end) make of the exit code."""
    if fail_on is None:
        return 0
    words = {row.verdict.end_to_end for row in record.results if row.verdict is not None}
    if "over" in words:
        return 99
    return 4 if fail_on == "inconclusive" and "inconclusive" in words else 0
