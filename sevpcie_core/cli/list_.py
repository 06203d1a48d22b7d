"""`sevpcie list`: what can be named."""

from typing import Annotated

import typer

from ..errors import ConfigError
from . import options, output


def list_(
    kind: Annotated[
        str | None,
        typer.Argument(metavar="[KIND]", help="scenarios, mixes, schemes, links, ... Default: all."),
    ] = None,
    json: options.Json = False,
) -> None:
    """List scenarios, mixes, schemes, links, hosts, devices, platforms and samples."""
    from ..experiment.scenario import available_presets

    found = available_presets()
    if kind is not None:
        if kind not in found:
            raise ConfigError(f"{kind!r}: no such kind; expected one of {', '.join(found)}")
        found = {kind: found[kind]}
    if json:
        output.print_json(found)
        return
    width = max((len(name) for names in found.values() for name in names), default=0)
    for title, names in found.items():
        print(f"{title}:")
        for name, words in names.items():
            print(f"  {name:{width}}  {words}".rstrip())
