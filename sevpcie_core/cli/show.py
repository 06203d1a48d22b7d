"""`sevpcie show`: a scenario to edit, or a preset with the sources of its numbers."""

import re
from typing import Annotated

import typer

from ..errors import ConfigError
from . import options, output


def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A name of sevpcie list, KIND/NAME, or a scenario file.", show_default=False
        ),
    ],
    json: options.Json = False,
) -> None:
    """Print a scenario as TOML that can be edited and run, or a preset."""
    text = _text(name)
    if json:
        import tomllib

        output.print_json(tomllib.loads(text))
    else:
        print(text, end="" if text.endswith("\n") else "\n")


def _text(name: str) -> str:
    """Return the TOML of a name; a scenario wins over presets of the same name."""
    from ..experiment.scenario import available_presets, load_scenario, preset_text

    if name.endswith(".toml"):
        return load_scenario(name).to_toml()
    presets = available_presets()
    wanted, slash, bare = name.rpartition("/")
    if slash and wanted not in presets:
        raise ConfigError(f"{name!r}: no such kind {wanted!r}; expected one of {', '.join(presets)}")
    kinds = [kind for kind, names in presets.items() if bare in names and wanted in ("", kind)]
    if "scenarios" in kinds or "mixes" in kinds:
        return load_scenario(bare).to_toml()
    if len(kinds) > 1:
        raise ConfigError(f"{name!r} names several things; say {' or '.join(f'{k}/{bare}' for k in kinds)}")
    if not kinds and wanted in ("", "links") and re.fullmatch(r"gen[0-9]+x[0-9]+", bare, re.ASCII):
        return _link_text(bare)
    if not kinds:
        from difflib import get_close_matches

        known = [n for kind, names in presets.items() for n in names if wanted in ("", kind)]
        close = get_close_matches(bare, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "'sevpcie list' prints all names"
        raise ConfigError(f"{name!r}: no such scenario or preset; {hint}")
    return preset_text(kinds[0], bare)


def _link_text(name: str) -> str:
    """Return the TOML of a link that has no preset of its own: the one it takes its sizes from, changed."""
    from ..experiment import presets
    from ..experiment.problems import Origin
    from ..experiment.toml_text import dumps

    table, _ = presets.link(name, Origin("link"), ())
    keys = table.model_dump(exclude_none=True)
    return dumps({key: value for key, value in keys.items() if value not in ("", {})})
