"""The list of commands, their groups in `--help`, and how one line of arguments becomes a call.

A command is a function that returns its exit code, or None for 0. It raises `SevPcieError`; `main` translates
that.
"""

from collections.abc import Callable
from typing import Annotated, Any, Final, NamedTuple

import typer
from typer.core import TyperGroup

from ..errors import MisuseError
from . import compare, gate, list_, measure, open, report, rerun, schema, seal, show, validate, wire, workload

_SUMMARY: Final = """What does encrypting the PCIe link cost my workload, and what does it buy?

Simulates NVMe, NIC and GPU traffic with and without link encryption and compares latency and throughput."""


class Entry(NamedTuple):
    """One command: its name, its function or the commands under it, and an example for the overview."""

    name: str
    function: Callable[..., int | None] | typer.Typer
    example: str
    epilog: str | None = None


GROUPS: Final[dict[str, list[Entry]]] = {
    "Daily": [
        Entry("compare", compare.compare, "sevpcie compare nvme --wide", compare.EPILOG),
        Entry("report", report.report, "sevpcie report results/runs/first -o first.html"),
        Entry("gate", gate.gate, "sevpcie gate record.json --thresholds limits.toml"),
        Entry("list", list_.list_, "sevpcie list schemes"),
        Entry("show", show.show, "sevpcie show nvme > my.toml"),
        Entry("workload", workload.app, "sevpcie workload show nvme/randread4k"),
    ],
    "Trust": [
        Entry(
            "validate", validate.validate, "sevpcie validate --out results/runs/validation", validate.EPILOG
        ),
        Entry("rerun", rerun.rerun, "sevpcie rerun record.json"),
        Entry("measure", measure.app, "sevpcie measure crypto"),
        Entry("schema", schema.schema, "sevpcie schema record"),
    ],
    "Wire": [
        Entry("seal", seal.seal, "sevpcie seal --key HEX --counter 1 --tlp HEX", seal.EPILOG),
        Entry("open", open.open_, "sevpcie open --key HEX --counter 1 --wire HEX", open.EPILOG),
    ],
}


class _Grouped(TyperGroup):
    """Prints the commands by group, each with an example, without the start-up cost of a help renderer."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section per group."""
        width = max(len(name) for name in self.commands)
        for title, entries in GROUPS.items():
            with formatter.section(title):
                for entry in entries:
                    summary = self.commands[entry.name].get_short_help_str(limit=200)
                    formatter.write(f"  {entry.name:{width}}  {summary}\n")
                    formatter.write(f"  {'':{width}}  $ {entry.example}\n")


def run(arguments: list[str]) -> int:
    """Parse the arguments, run the command, return its exit code."""
    command = typer.main.get_command(_app())
    try:
        with command.make_context("sevpcie", wire.with_ones(arguments)) as context:
            return command.invoke(context) or 0
    except typer.Exit as stop:
        return stop.exit_code
    except typer.TyperException as error:
        # Raised by the parser: an unknown option, a missing argument, a value of the wrong type.
        path = getattr(getattr(error, "ctx", None), "command_path", "sevpcie")
        found = _refused(error) or error.format_message().rstrip(".")
        raise MisuseError(f"{found} (see '{path} --help')") from None


def _refused(error: typer.TyperException) -> str | None:
    """Say which value an option does not take, and what it does; None if the error is another one."""
    from pydantic import ValidationError

    cause, param = error.__cause__, getattr(error, "param", None)
    if not isinstance(cause, ValidationError) or param is None:
        return None
    details = cause.errors(include_url=False)[0]
    name = param.opts[0] if param.opts[0].startswith("-") else param.metavar
    _, named, choices = str(details.get("ctx", {}).get("error", "")).partition(" is not one of ")
    if named:
        return f"{name} {details['input']}; expected one of {choices.rstrip('.')}"
    kind, limits = details["type"], details.get("ctx", {})
    whole = kind.startswith("int") or any(isinstance(limits.get(key), int) for key in ("ge", "le"))
    if not whole and not kind.startswith("float") and "ge" not in limits and "le" not in limits:
        return f"{name} {details['input']}: {details['msg'].removeprefix('Value error, ').rstrip('.')}"
    info = getattr(param.get_runtime_param(), "parameter_info", None)
    low, high = (getattr(info, key, None) for key in ("min", "max"))
    span = "" if low is None else f" of {_plain(low)} or more"
    if low is not None and high is not None:
        span = f" from {_plain(low)} to {_plain(high)}"
    return f"{name} {details['input']}; expected a {'whole ' if whole else ''}number{span}"


def _plain(number: Any) -> str:
    """Write a number without an exponent."""
    text = f"{number:.9f}" if isinstance(number, float) else str(number)
    return text.rstrip("0").rstrip(".") if "." in text else text


def _app() -> typer.Typer:
    app = typer.Typer(
        cls=_Grouped,
        add_completion=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback(invoke_without_command=True, help=_SUMMARY)(_overview)
    for entries in GROUPS.values():
        for entry in entries:
            epilog = f"Example: {entry.example}\n\n{entry.epilog or ''}".rstrip()
            if isinstance(entry.function, typer.Typer):
                app.add_typer(entry.function, name=entry.name, epilog=epilog)
            else:
                app.command(entry.name, epilog=epilog)(entry.function)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"sevpcie {version('sevpcie-core')}")
        raise typer.Exit


def _overview(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Print the help if no command is named."""
    if context.invoked_subcommand is None:
        print(context.get_help())
