"""`sevpcie validate`: the model against reference data."""

import csv
import io
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ..errors import MisuseError, NothingMeasuredError
from . import options, outdir, output
from .progress import Progress

if TYPE_CHECKING:
    from ..experiment.systems import System
    from ..validate.points import DataSet
    from ..validate.systems import Compared

DEVIATION: Final = 99
SCHEMA_VERSION: Final = 1
DOCUMENT: Final = "validate.json"
# So many kinds of rows without a model are named one by one.
_MANY: Final = 12
# From here on a digit behind the point says nothing.
_LARGE_PCT: Final = 10_000

EPILOG: Final = """A set that is not in the folder has no points and no verdict; experiments and systems that
the model does not know are counted as not modelled. Exit code 0: all sets that are there meet their bars; 99:
one does not; 5: none is there."""


def validate(
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Folder of reference data. Default: SEVPCIE_REFERENCE_DATA, else ../shared/data.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Write points.csv, validate.json and a picture per set here: a folder that is new, "
            "empty, or holds an earlier result, which is replaced.",
            show_default=False,
        ),
    ] = None,
    platform: Annotated[
        str | None,
        typer.Option(
            "--platform",
            metavar="NAME",
            help="Compare this platform with the figures that it lists, which needs no folder: one of kind "
            "'system' of sevpcie list platforms, or a .toml file.",
            show_default=False,
        ),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Run the model on the conditions of every reference data set, and say how far it is off.

    This fits nothing. The platforms have been calibrated with some of the points (`measure calibrate`), which
    are told apart from those held out: in points.csv of --out, and by their rows in docs/validation.md.
    """
    if platform is not None:
        if data is not None or out is not None:
            raise MisuseError("--platform brings its own figures; expected no --data and no --out beside it")
        return _platform(platform, json, quiet)
    from ..validate.run import VARIABLE, data_folder
    from ..validate.run import validate as run

    folder = data_folder(data)
    if folder is None:
        raise NothingMeasuredError(f"no reference data; --data DIR or {VARIABLE} names the folder")
    if out is not None:
        out = out.expanduser()
        outdir.check(out, _result())
    with Progress(quiet) as progress:
        found = run(folder, progress)
        if not any(one.points for one in found):
            raise NothingMeasuredError(f"{folder}: none of the data sets is there")
        document = _document(folder, found)
        if out is not None:
            progress("drawing", 0, 0)
            outdir.put(out, _result(), _files(found, document))
    with output.pipe():
        if json:
            output.print_json(document)
        else:
            _print(found)
    return DEVIATION if any(one.ok is False for one in found) else 0


def _platform(name: str, json: bool, quiet: bool) -> int:
    """Compare a platform with its own figures."""
    from ..experiment.fingerprint import versions
    from ..experiment.systems import load_system
    from ..validate.systems import compare

    system = load_system(name)
    with Progress(quiet) as progress:
        found = compare(system, progress)
    with output.pipe():
        if json:
            output.print_json(
                {
                    "schema_version": SCHEMA_VERSION,
                    "command": "validate",
                    "versions": versions(),
                    "options": {"platform": name},
                    "basis": system.table.basis,
                    "figures": [one.to_dict() for one in found],
                    "free": [asdict(free) for free in system.free],
                }
            )
        else:
            _print_platform(system, found)
    return DEVIATION if any(one.ok is False for one in found) else 0


def _print_platform(system: "System", found: "list[Compared]") -> None:
    """Print the figures, then the free numbers."""
    from ..validate.systems import BAR_PCT

    projected = system.table.basis == "projection"
    print(system.table.title)
    what = max((len(one.what) for one in found), default=0)
    columns = (
        f"{'model':>9}         range" if projected else f"{'published':>9}         {'model':>9}    error"
    )
    print(f"\n{'figure':{what}}  {columns}")
    for one in found:
        cells = f"{one.modelled:>9.4g} {one.quantity:<6}"
        if one.value is None:
            cells += "  -" if one.low is None else f"  {one.low:.3g}..{one.high:.3g}"
        else:
            held = f"fixes {one.fixes}" if one.fixes else "held out"
            missed = "" if one.ok else ", MISSED"
            cells = f"{one.value:>9.4g} {one.quantity:<6}  {one.modelled:>9.4g}  {_signed(one.error_pct)}"
            cells += f"  {held}{missed}"
        print(f"{one.what:{what}}  {cells}")
    if system.free:
        print("\nfree numbers")
    key = max((len(free.key) for free in system.free), default=0)
    for free in system.free:
        value = f"{free.value:.4g} {free.unit}, plausible {free.low:g} to {free.high:g}"
        print(f"  {free.key:{key}}  {value}; fixed by {free.rows}\n  {'':{key}}  {free.meaning}")
    if projected and system.free:
        print("\nrange: each free number alone at both ends of its plausible range")
    elif projected:
        print("\nrange: none, for the platform lists no free number")
    else:
        print(f"\nerror: of the model, bar {BAR_PCT:g} %; data sheets round, and say 'up to'")


def _signed(pct: float | None) -> str:
    """Return an error in per cent, short however large."""
    assert pct is not None
    return f"{pct:>+6.1f}%" if abs(pct) < _LARGE_PCT else f"{pct:>+6.3g}%"


def _document(folder: Path, found: "list[DataSet]") -> dict[str, Any]:
    from ..experiment.fingerprint import versions

    return {
        "schema_version": SCHEMA_VERSION,
        "command": "validate",
        "versions": versions(),
        "options": {"data": str(folder)},
        "datasets": [one.to_dict() for one in found],
        "missed": {one.name: list(one.missed) for one in found if one.missed},
        "not_modelled": _not_modelled(found),
    }


def _not_modelled(found: "list[DataSet]") -> dict[str, int]:
    """Return what is in the data and not in the model: rows (or curves) by what they are."""
    rows: dict[str, int] = {}
    for one in found:
        for what, count in one.not_modelled.items():
            rows[what] = rows.get(what, 0) + count
    return dict(sorted(rows.items()))


def _result() -> outdir.Result:
    """Return what the folder of `--out` holds: a picture per set that this version knows, and two tables."""
    from ..validate.run import names

    pictures = "|".join(map(re.escape, names()))
    return outdir.Result("validate", DOCUMENT, re.compile(rf"points\.csv|validate\.json|({pictures})\.svg"))


def _files(found: "list[DataSet]", document: dict[str, Any]) -> dict[str, str]:
    """Return the files of `--out` by name."""
    import json as json_module

    from ..report.style import svg
    from ..report.validation import fig_validation

    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["name", "conditions", "measured", "modelled", "fitted"])
    files = {}
    for one in found:
        for point in one.points:
            rows.writerow(
                [one.name, point.conditions, repr(point.measured), repr(point.modelled), int(point.fitted)]
            )
        if one.points:
            files[f"{one.name}.svg"] = svg(fig_validation(one))
    files["points.csv"] = text.getvalue()
    files[DOCUMENT] = json_module.dumps(document, indent=2, allow_nan=False) + "\n"
    return files


def _print(found: "list[DataSet]") -> None:
    """Print one line per set that is there, and how many others there are."""
    header = ("data set", "points", "held out", "mean", "bar", "largest", "bar", "pcie-model", "free", "")
    rows = [header]
    there = [one for one in found if one.points]
    for one in there:
        mean, largest = one.mean_abs_error_pct, one.max_abs_error_pct
        rows.append(
            (
                one.name,
                str(len(one.points)),
                str(one.held_out),
                _pct(mean),
                _pct(one.bar_mean_pct),
                _pct(largest),
                _pct(one.bar_max_pct),
                _pct(one.published_mean_abs_error_pct),
                str(one.free_parameters),
                "ok" if one.ok else "MISSED",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:-1], widths[1:-1], strict=True))]
        print("  ".join([*cells, row[-1]]).rstrip())
    absent = len(found) - len(there)
    if absent:
        print(f"{_count(absent, 'more set')} absent from this folder (--json names each)")
    for one in found:
        for sentence in one.missed:
            print(f"{one.name}: {sentence}")
    calibrated = sum(len(one.points) - one.held_out for one in found)
    print(
        "\nerrors in per cent of the reference, without sign; pcie-model: mean of the published model on\n"
        "the same points; free: numbers of the platform that data fixed. Nothing is fitted in this run:\n"
        f"platforms were calibrated before, with {calibrated} of these points (points.csv of --out marks\n"
        "them, docs/validation.md says which rows); the others are held out"
    )
    if missed := [one.name for one in there if not one.ok]:
        told = [
            f'{", ".join(names)} under "{section}"'
            for section in dict.fromkeys(map(section_of, missed))
            if (names := [name for name in missed if section_of(name) == section])
        ]
        print(f"\nMISSED: docs/validation.md says why: {'; '.join(told)}")
    skipped = _not_modelled(found)
    files: dict[str, dict[str, int]] = {}
    for what, count in skipped.items():
        file, _, kind = what.partition(" ")
        files.setdefault(file, {})[kind] = count
    named = len(skipped) <= _MANY
    if files:
        print()
    for file, kinds in files.items():
        many = "" if named else f" ({_count(len(kinds), 'kind')})"
        print(f"{_count(sum(kinds.values()), 'row')} of {file} not modelled{many}")
        for kind, count in kinds.items() if named else ():
            print(f"  {_count(count, 'row')}: {kind}")
    if not named:
        print("(--json names each kind)")


def section_of(name: str) -> str:
    """Return the section of docs/validation.md that explains what a set misses."""
    if name.startswith("gpu_wire_"):
        return "Bytes on a GPU's wire"
    if name.startswith(("gpu_job_", "gpu_copy_queued")):
        return "Times of the shipped GPU"
    return "Own measurements" if name.startswith(("gpu_chase", "gpu_copy_", "gpu_zc_")) else "What is reached"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _pct(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"
