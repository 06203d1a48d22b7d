"""`sevpcie rerun`: the same run again, for the same result."""

from typing import TYPE_CHECKING, Any, Final

from . import options, output
from .progress import Progress

if TYPE_CHECKING:
    from ..record import RunRecord

DIFFERENT: Final = 99


def rerun(
    record: options.RecordFile,
    jobs: options.Jobs = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Repeat the run of a record and compare the digests of the results.

    Ends with 0 if they are equal, with 99 if they differ.
    """
    from ..record import RunRecord

    old = RunRecord.load(record)
    with Progress(quiet) as progress:
        new = _repeat(old, jobs, progress)
    equal = new.digest == old.digest
    difference = None if equal else first_difference(old, new)
    with output.pipe():
        if json:
            output.print_json(
                {
                    "schema_version": 1,
                    "command": "rerun",
                    "equal": equal,
                    "digest": {"record": old.digest, "rerun": new.digest},
                    "difference": difference,
                }
            )
        elif equal:
            print(f"equal: {len(new.results)} rows, digest {new.digest}")
        else:
            print(f"different: {difference}")
    return 0 if equal else DIFFERENT


def _repeat(old: "RunRecord", jobs: int | None, progress: Progress) -> "RunRecord":
    """Run again what the record says was run; its scenarios hold all options but the baseline."""
    from ..api import Scenario, compare

    scenarios = [
        Scenario.from_dict(reference.scenario, name=f"scenario {reference.name!r} of the record")
        for reference in old.options.scenarios
    ]
    return compare(scenarios, baseline=old.options.baseline, jobs=jobs, progress=progress).record


def first_difference(old: "RunRecord", new: "RunRecord") -> str:
    """Return the first place where two records with unequal digests differ, as one line."""
    for before, now in zip(old.options.scenarios, new.options.scenarios, strict=False):
        if before.digest != now.digest:
            return f"scenario {before.name!r} is another one now: a preset or a trace that it names changed"
    rows = {row.key: row for row in new.results}
    for row in old.results:
        if row.key not in rows:
            return f"row {'/'.join(row.key)} is missing now"
        place = _unequal(row.model_dump(by_alias=True), rows[row.key].model_dump(by_alias=True))
        if place:
            return f"row {'/'.join(row.key)}: {place}{_other_versions(old, new)}"
    return f"{len(old.results)} rows in the record, {len(new.results)} now"


def _unequal(before: Any, now: Any, place: str = "") -> str | None:
    """Return where two plain values first differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in before:
            found = _unequal(before[key], now.get(key), f"{place}.{key}" if place else key)
            if found:
                return found
        return None
    if before == now:
        return None
    if isinstance(before, list):
        return f"{place} differs"
    return f"{place}: {before!r} in the record, {now!r} now"


def _other_versions(old: "RunRecord", new: "RunRecord") -> str:
    names = [name for name, version in old.versions.items() if new.versions.get(name) != version]
    return f" (other versions of {', '.join(names)})" if names else ""
