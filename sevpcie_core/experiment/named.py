"""What the name of a workload means: a shipped scenario or a file, a part of it, or a recording.

Rule: whoever takes such a name asks here, so that all mean the same by it. Nothing is run.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ConfigError
from . import presets
from .model import Scenario
from .problems import suggestion
from .scenario import load_scenario, scenario_from_trace
from .told import SCHEMA_VERSION, Document
from .traffic import SAMPLE, Reference, names_file, user_path


class Found(NamedTuple):
    """What a name means: a scenario, and the one workload and the one device of it, None for all."""

    scenario: Scenario
    base: str
    """The scenario or trace alone, as it was named."""
    workload: str | None
    device: str | None
    recorded: bool
    """Whether it is a trace, and the scenario the one that replays it."""


def find(name: str, link: str | None = None, **reading: Any) -> Found:
    """Return what a name means.

    Parameters
    ----------
    name : a shipped scenario or a .toml file, with /WORKLOAD or /WORKLOAD/DEVICE behind it or not,
        sample:NAME, or a trace. link, reading : of a trace, as `scenario_from_trace`.

    Raises
    ------
    ConfigError, FormatError : it is none of them, or a scenario with an option that only traces have.
    """
    scenarios = presets.scenario_names()
    base, only = _parts(name, scenarios)
    if base is None:
        if name.startswith(SAMPLE) or user_path(name).exists() or names_file(name):
            return Found(scenario_from_trace(name, None, link, **reading), name, None, None, recorded=True)
        known = [*scenarios, *(f"{SAMPLE}{sample}" for sample in presets.names("samples"))]
        raise ConfigError(
            f"{name!r}: no such workload; expected one of {', '.join(known)}, SCENARIO/WORKLOAD, or the path "
            f"of a .toml file or a trace{suggestion(name, known)}"
        )
    refuse_reading(f"the scenario {base}", {"link": link, **reading})
    scenario = load_scenario(base)
    devices: Mapping[str, Any] = {workload.name: workload.device for workload in scenario.workload}
    for what, part in zip(("workload", "device"), only, strict=False):
        if part not in devices:
            raise ConfigError(
                f"{'/'.join([base, *only])}: no such {what}; expected one of {', '.join(devices)}"
                f"{suggestion(part, list(devices))}"
            )
        devices = devices[part]
    workload, device = [*only, None, None][:2]
    return Found(scenario, base, workload, device, recorded=False)


def _parts(name: str, scenarios: Collection[str]) -> tuple[str | None, list[str]]:
    """Return which scenario a name names, None for none, and what of it: workload, then device."""
    if name in scenarios or names_toml(name):
        return name, []
    if not user_path(name).exists():
        for behind in (1, 2):
            base, *only = name.rsplit("/", behind)
            if len(only) == behind and (base in scenarios or names_toml(base)):
                return base, only
    return None, []


def names_scenario(name: str) -> bool:
    """Return whether a name is that of a scenario or a part of it, and not of a trace."""
    return _parts(name, presets.scenario_names())[0] is not None


def refuse_reading(what: str, reading: Mapping[str, Any]) -> None:
    """Raise ConfigError for options of traces where there is none; None and False are not given."""
    for option, value in reading.items():
        if value is not None and value is not False:
            raise ConfigError(f"--{option.replace('_', '-')} with {what}; expected a trace or sample:NAME")


def catalogue() -> Document:
    """Return what `find` knows by name: the workloads of shipped scenarios, and the recordings."""
    found: list[Document] = []
    for name in presets.scenario_names():
        scenario = load_scenario(name)
        for workload in scenario.workload:
            devices = [f"{device}: {_named(entry.preset)}" for device, entry in workload.device.items()]
            found.append(
                {
                    "name": f"{name}/{workload.name}",
                    "scenario": name,
                    "title": scenario.title,
                    "devices": devices,
                }
            )
    for sample, facts in presets.sample_facts().items():
        found.append(
            {"name": f"{SAMPLE}{sample}", "scenario": None, "title": str(facts["title"]), "devices": []}
        )
    return {"schema_version": SCHEMA_VERSION, "command": "workload list", "workloads": found}


def _named(reference: Reference) -> str:
    """Return what a device is called: its preset's name, or of what it is a change."""
    if isinstance(reference, str):
        return Path(reference).stem if names_file(reference) else reference
    return f"{_named(reference['base'])}, changed" if "base" in reference else "of its own"


def names_toml(name: str) -> bool:
    """Return whether a name is the path of a scenario file."""
    return name.endswith(".toml")
