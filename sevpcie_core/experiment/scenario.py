"""Loading scenarios and schemes, and looking through what is shipped: the door of this package to TOML.

Rule: everything that a user names is looked up here, and a name that does not exist is answered with those
that do.
"""

import re
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..workload import traces
from . import presets, resolved
from .model import Scenario
from .problems import Options, Origin, suggestion
from .tables import DEVICES, HostTable, LinkTable, Preset, SchemeTable
from .toml_text import read_file
from .traffic import REFERENCE_MARK, SAMPLE, names_file, user_path

__all__ = [
    "Scenario",
    "available_presets",
    "json_schema",
    "load_scenario",
    "load_scheme",
    "preset_text",
    "scenario_from_trace",
]

# The device and link behind a trace when nobody names one.
_TRACE_DEVICE = {"nvme": "nvme-tlc", "nic": "nic-400g", "gpu": "gpu-gen5", "tlp": "endpoint"}
_TRACE_LINK = {"nvme": "gen5x4", "nic": "gen5x16", "gpu": "gen5x16", "tlp": "gen5x16"}
# Keys of a traffic table that say nothing of other kinds, and what has them.
_KEYS_OF = {
    "local": (("nic", "tlp"), "captures of a NIC or of TLPs have"),
    "pace": (("nic",), "captures of a NIC have"),
    "direction": (("nic",), "captures of a NIC have"),
    "buffers": (("tlp",), "recordings of TLPs have"),
}


def load_scenario(name_or_path: str | Path) -> Scenario:
    """Return a shipped scenario by its name, or one from a TOML file.

    Raises: ConfigError: naming file, line, key, value and what is allowed.
    """
    shipped = None
    if isinstance(name_or_path, str):
        shipped = presets.file_of("scenarios", name_or_path) or presets.file_of("mixes", name_or_path)
    path = shipped or user_path(name_or_path)
    if (
        shipped is None
        and isinstance(name_or_path, str)
        and not names_file(name_or_path)
        and not path.exists()
    ):
        known = presets.scenario_names()
        raise ConfigError(
            f"{name_or_path!r}: no such scenario; expected {', '.join(known)} or the path of a .toml file"
            f"{suggestion(name_or_path, known)}"
        )
    text, data = read_file(path, "a scenario")
    return Scenario.from_dict(data, name=path.name if shipped else str(path), text=text, folder=path.parent)


def scenario_from_trace(
    path: str | Path,
    kind: str | None = None,
    link: str | None = None,
    device: str | None = None,
    **reading: Any,
) -> Scenario:
    """Return the scenario that replays one recording.

    Parameters
    ----------
    path : of a file, or `sample:NAME`. kind : nvme, nic, gpu or tlp; by content if None.
    link : gen5x4 for nvme, else gen5x16, if None. device : the usual one of its kind, if None.
    reading : keys of a traffic table with a trace, such as `limit`; None for the usual value.

    Raises
    ------
    FormatError : the file is none of the known formats. ConfigError : a kind, link or key that does not fit.
    """
    given = str(path)
    sample = given.startswith(SAMPLE)
    path = presets.sample(given.removeprefix(SAMPLE)) if sample else user_path(path)
    if kind is not None and kind not in resolved.KINDS:
        raise ConfigError(f"kind {kind!r}; expected {', '.join(resolved.KINDS[:-1])} or {resolved.KINDS[-1]}")
    found = traces.detect(path)
    if kind is not None and traces.FORMATS[found] != kind:
        raise ConfigError(
            f"{path}: {found}, of kind {traces.FORMATS[found]!r}; expected a trace of kind {kind!r}"
        )
    kind = traces.FORMATS[found]
    # Names key results: what a file name has beyond them becomes a dash.
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", path.name.split(".")[0]).strip("-_")[:64]
    file = given if sample else "".join(c if c.isprintable() else "?" for c in path.name)
    traffic: dict[str, Any] = {"kind": kind, "trace": given if sample else str(path.absolute())}
    for key, value in reading.items():
        if value is None or value is False:
            continue
        kinds, having = _KEYS_OF.get(key, (resolved.KINDS, ""))
        if kind not in kinds:
            told = ",".join(value) if isinstance(value, list) else value
            raise ConfigError(
                f"--{key.replace('_', '-')} {told}: {file} is {found}, of kind {kind!r}; only {having} it"
            )
        traffic[key] = value
    name = file if sample else str(path)
    usual = _TRACE_DEVICE[kind] if device is None else _device(device, kind)
    try:
        scenario = _replay(stem or "trace", kind, file, link, usual, traffic, name)
        return scenario.with_source(Options(name))
    except ConfigError as error:
        # What was asked for stands in no file: it is named as it was asked for.
        text = str(error).removeprefix(f"{name}: ")
        asked = text.removeprefix(f"workload[0].device.{kind}.traffic.")
        key, colon, tail = asked.partition(": ")
        if colon and key in (*reading, "link"):
            raise ConfigError(f"--{key.replace('_', '-')} {tail}") from None
        raise


def _device(given: str, kind: str) -> str:
    """Return what an option says of the device. Raises ConfigError."""
    reference = str(user_path(given).absolute()) if names_file(given) else given
    try:
        table, _ = presets.device(reference, Origin(""), ())
    except ConfigError as error:
        raise ConfigError(f"--device {str(error).removeprefix(': ')}") from None
    if table.kind != kind:
        raise ConfigError(f"--device {given!r}, a {table.kind!r} device; expected one of kind {kind!r}")
    return reference


def _replay(
    stem: str, kind: str, file: str, link: str | None, device: str, traffic: dict[str, Any], name: str
) -> Scenario:
    """Return the scenario that replays a trace; `file` is what a title calls it, `name` what errors do."""
    return Scenario.from_dict(
        {
            "name": stem,
            "title": f"Replay of {file} on {Path(device).stem}, {link or _TRACE_LINK[kind]}"[:2000],
            "link": link or _TRACE_LINK[kind],
            "workload": [{"name": "trace", "device": {kind: {"preset": device, "traffic": traffic}}}],
        },
        name=name,
    )


def load_scheme(name_or_path: str | Path) -> resolved.Scheme:
    """Return a shipped scheme by its name, or one from a TOML file. Raises ConfigError."""
    reference = str(name_or_path)
    if names_file(reference):
        reference = str(user_path(reference).absolute())
    table, name = presets.scheme(reference, Origin("scheme"), ())
    return table.build(name)


def available_presets() -> dict[str, dict[str, str]]:
    """Return the titles of all that is shipped, by kind (scenarios, schemes, links, ...) and name."""
    found: dict[str, dict[str, str]] = {}
    for kind in presets.KINDS:
        if kind == "samples":
            found[kind] = {name: str(facts["title"]) for name, facts in presets.sample_facts().items()}
        else:
            files = {name: presets.ROOT / kind / f"{name}.toml" for name in presets.names(kind)}
            found[kind] = {name: str(read_file(path, kind)[1]["title"]) for name, path in files.items()}
    return found


def preset_text(kind: str, name: str) -> str:
    """Return the TOML of a preset with its comments; of a sample, what is known about it.

    Raises: ConfigError: no such kind or name.
    """
    if kind not in presets.KINDS:
        raise ConfigError(f"{kind!r}: no such kind of preset; expected one of {', '.join(presets.KINDS)}")
    known = presets.names(kind)
    if name not in known:
        raise ConfigError(f"{name!r}; expected one of {', '.join(known)}{suggestion(name, known)}")
    if kind == "samples":
        return presets.sample_text(name)
    return read_file(presets.ROOT / kind / f"{name}.toml", kind)[0]


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a scenario file."""
    schema = Scenario.model_json_schema()
    definitions = schema.setdefault("$defs", {})
    for name, models in _INLINE_TABLES.items():
        allowed: list[dict[str, Any]] = [{"type": "string", "description": "a preset's name or a .toml file"}]
        for model in models:
            table = model.model_json_schema()
            definitions |= table.pop("$defs", {})
            # What `base` brings need not be said again, nor what it brings of ranges.
            table.pop("required", None)
            for ranges in ("EngineTable", "BounceTable"):
                definitions.get(ranges, {}).pop("required", None)
            table["properties"]["base"] = {
                "type": "string",
                "description": "the preset that this table changes",
            }
            definitions[model.__name__] = table
            allowed.append({"$ref": f"#/$defs/{model.__name__}"})
        definitions[f"{name}Reference"] = {"anyOf": allowed}
    # A platform brings it; a share of the workload's load brings a rate.
    definitions["DeviceEntry"]["required"].remove("preset")
    for name in ("NicLoad", "NicSampled"):
        definitions[name]["required"].remove("rate")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "sevpcie scenario"
    linked = _link_references(schema)
    assert isinstance(linked, dict)
    return linked


_INLINE_TABLES: dict[str, list[type[Preset]]] = {
    "Link": [LinkTable],
    "Host": [HostTable],
    "Device": list(DEVICES.values()),
    "Scheme": [SchemeTable],
}


def _link_references(schema: object) -> object:
    """Return a schema whose marks of references are links to their definitions."""
    if isinstance(schema, dict):
        out = {key: _link_references(value) for key, value in schema.items() if key != REFERENCE_MARK}
        if REFERENCE_MARK in schema:
            out["$ref"] = f"#/$defs/{schema[REFERENCE_MARK]}Reference"
        return out
    if isinstance(schema, list):
        return [_link_references(item) for item in schema]
    return schema
