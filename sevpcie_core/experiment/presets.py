"""The presets of this package and files of the same kinds: finding, merging, checking.

Rule: a preset is TOML with a source per number. A table may name a `base` and change some of its keys; a
changed number loses the source of the old one. Nothing outside this module knows where presets lie.
"""

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .. import spec
from ..errors import ConfigError
from .problems import Origin, Place, first_problem, shown, suggestion
from .tables import DEVICES, DeviceTable, HostTable, LinkTable, Preset, SchemeTable
from .toml_text import dumps, read_file
from .traffic import SAMPLE, Reference, names_file, user_path

ROOT = Path(__file__).resolve().parent.parent / "presets"
KINDS = ("scenarios", "mixes", "schemes", "links", "hosts", "devices", "platforms", "samples")

_ONE = {"scenarios": "scenario", "schemes": "scheme", "links": "link", "hosts": "host", "devices": "device"}
_MAX_BASES = 8
# Tables within a preset: those of a scheme hold its ranges, the others have sources of their own.
_RANGES = ("engine", "bounce", "host")
_PARTS = ("data_link", "root_port", "credits", "iommu", "rx", "tx")
BASELINE = "none"
"""Name of the scheme that protects nothing, under which every baseline runs."""

# Links without a preset of their own take their sizes from these.
_ANY_LINK = re.compile(r"gen([0-9]{1,3})x([0-9]{1,3})", re.ASCII)
_LINK_BASE = "gen5x16"
_FLIT_LINK_BASE = "gen6x16"


def names(kind: str) -> list[str]:
    """Return the names of the shipped presets of a kind of KINDS."""
    if kind == "samples":
        return sorted(sample_facts())
    return sorted(path.stem for path in (ROOT / kind).glob("*.toml"))


@lru_cache(maxsize=1)
def sample_facts() -> dict[str, dict[str, Any]]:
    """Return what is known about each shipped recording, by name."""
    return read_file(ROOT / "samples" / "samples.toml", "the list of samples")[1]


def scenario_names() -> list[str]:
    """Return the names of all shipped scenarios: those that `compare` runs by itself, then the mixes."""
    return names("scenarios") + names("mixes")


def sample(name: str) -> Path:
    """Return the path of a shipped recording. Raises ConfigError, with a tail only: there is none."""
    facts = sample_facts().get(name)
    if facts is None:
        known = names("samples")
        raise ConfigError(f"'sample:{name}'; expected one of {', '.join(known)}{suggestion(name, known)}")
    return ROOT / "samples" / str(facts["file"])


def sample_text(name: str) -> str:
    """Return the TOML of what is known about a shipped recording."""
    return dumps({**sample_facts()[name], "trace": f"{SAMPLE}{name}"})


def file_of(kind: str, name: str) -> Path | None:
    """Return the path of a shipped preset, None if there is none of this name."""
    path = ROOT / kind / f"{name}.toml"
    return path if name in names(kind) else None


def link(reference: Reference, origin: Origin, place: Place) -> tuple[LinkTable, str]:
    """Return a link and its name.

    Parameters: place: where the reference stands in the document of `origin`.
    Raises: ConfigError: no such preset, or a table that breaks a rule.
    """
    table, name = _expand("links", reference, origin, place)
    assert isinstance(table, LinkTable)
    return table, name


def host(reference: Reference, origin: Origin, place: Place) -> tuple[HostTable, str]:
    """Return a host and its name; parameters and errors as `link`."""
    table, name = _expand("hosts", reference, origin, place)
    assert isinstance(table, HostTable)
    return table, name


def device(reference: Reference, origin: Origin, place: Place) -> tuple[DeviceTable, str]:
    """Return a device and its name; parameters and errors as `link`."""
    table, name = _expand("devices", reference, origin, place)
    assert isinstance(table, DeviceTable)
    return table, name


def scheme(reference: Reference, origin: Origin, place: Place) -> tuple[SchemeTable, str]:
    """Return a scheme and its name; parameters and errors as `link`."""
    table, name = _expand("schemes", reference, origin, place)
    assert isinstance(table, SchemeTable)
    name = table.name or name
    if name == BASELINE and table.mechanism != "none":
        raise origin.error(place, f"{name!r} names the plaintext baseline; expected another name")
    return table, name


def _expand(kind: str, reference: Reference, origin: Origin, place: Place) -> tuple[Preset, str]:
    raw, name = _raw(kind, reference, origin, place, _MAX_BASES)
    if isinstance(reference, str) and names_file(reference):
        # What is wrong with the file is told with its lines.
        path = Path(reference)
        origin, place = Origin(str(path), read_file(path, f"a {_ONE[kind]}")[0]), ()
    model: type[Preset]
    match kind:
        case "links":
            model = LinkTable
        case "hosts":
            model = HostTable
        case "schemes":
            model = SchemeTable
            # Before a table that has no place here looks incomplete.
            tables = {k: v for k, v in raw.items() if k == "mechanism" or isinstance(v, Mapping)}
            for key, tail in SchemeTable.meaningless(tables):
                raise origin.error((*place, key), tail)
        case _:
            found = raw.get("kind")
            if not isinstance(found, str) or found not in DEVICES:
                raise origin.error(
                    (*place, "kind"), f"{shown(found)}; expected {' or '.join(map(repr, DEVICES))}"
                )
            model = DEVICES[found]
    try:
        table = model.model_validate(raw)
    except ValidationError as error:
        raise first_problem(error, raw, origin, place) from None
    inside = [(getattr(table, name, None), (*place, name)) for name in (*_RANGES, *_PARTS)]
    for part, where in ((table, place), *inside):
        for key, tail in part.problems() if part is not None else ():
            raise origin.error((*where, key), tail)
    return table, name


def _raw(
    kind: str, reference: Reference, origin: Origin, place: Place, bases: int
) -> tuple[dict[str, Any], str]:
    """Return the merged keys of a reference, unchecked, and its name."""
    if bases == 0:
        raise origin.error(place, f"more than {_MAX_BASES} bases, perhaps a circle; expected fewer")
    if isinstance(reference, Mapping):
        keys = dict(reference)
        base = keys.pop("base", None)
        if base is None:
            return keys, "custom"
        if not isinstance(base, str):
            raise origin.error((*place, "base"), f"{shown(base)}; expected the name of a {_ONE[kind]}")
        under, name = _raw(kind, base, origin, (*place, "base"), bases - 1)
        return _merge(under, keys), f"{name}-custom"
    if names_file(reference):
        path = Path(reference)
        text, content = read_file(path, f"a {_ONE[kind]}")
        if names_file(content):
            try:
                content["base"] = str(path.parent / user_path(content["base"]))
            except ConfigError as error:
                raise Origin(str(path), text).error(("base",), str(error)) from None
        merged, _ = _raw(kind, content, Origin(str(path), text), (), bases - 1)
        return merged, path.stem
    if reference in names(kind):
        return _shipped(kind, reference), reference
    if kind == "links" and (match := _ANY_LINK.fullmatch(reference)):
        gen, lanes = int(match[1]), int(match[2])
        if gen in spec.GIGATRANSFERS and lanes in spec.LANES:
            base = _FLIT_LINK_BASE if gen >= spec.FIRST_FLIT_GENERATION else _LINK_BASE
            title = f"PCIe Gen{gen} x{lanes} with the sizes of {base}"
            return _merge(_shipped(kind, base), {"title": title, "gen": gen, "lanes": lanes}), reference
    known = names(kind)
    also = ""
    if kind == "links":
        gens, lanes_ = list(spec.GIGATRANSFERS), ", ".join(map(str, spec.LANES))
        also = f", genNxM with N from {gens[0]} to {gens[-1]} and M one of {lanes_}"
    raise origin.error(
        place,
        f"{shown(reference)}; expected one of {', '.join(known)}{also}, or the path of a .toml file"
        f"{suggestion(reference, known)}",
    )


@cache
def _shipped_once(kind: str, name: str) -> dict[str, Any]:
    path = ROOT / kind / f"{name}.toml"
    text, content = read_file(path, f"a {_ONE[kind]}")
    return _raw(kind, content, Origin(str(path), text), (), _MAX_BASES)[0]


def _shipped(kind: str, name: str) -> dict[str, Any]:
    """Return the merged keys of a shipped preset, read once per process."""
    return _merge(_shipped_once(kind, name), {})


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of both; `over` wins. Ranges are merged key by key, sources follow their numbers."""
    merged = {**under, **over}
    if isinstance(over.get("source", {}), Mapping):
        sources = {key: text for key, text in under.get("source", {}).items() if key not in over}
        sources |= over.get("source", {})
        merged.pop("source", None)
        merged |= {"source": sources} if sources else {}
    for name in _RANGES:
        if isinstance(over.get(name, {}), Mapping):
            ranges = {**under.get(name, {}), **over.get(name, {})}
            merged |= {name: ranges} if ranges else {}
    for name in _PARTS:
        below, above = under.get(name), over.get(name)
        if isinstance(below, Mapping) and isinstance(above, Mapping):
            merged[name] = _merge(below, above)
    if "name" in under and "name" not in over and over:
        del merged["name"]
    return merged
