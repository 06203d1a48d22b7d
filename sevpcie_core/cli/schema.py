"""`sevpcie schema`: the JSON Schema of what is read and written."""

from typing import Annotated, Any, Literal

import typer

from . import output


def schema(
    what: Annotated[
        Literal["scenario", "record"] | None, typer.Argument(help="Default: both, in one object.")
    ] = None,
) -> None:
    """Print the JSON Schema of scenario files and of records."""
    from ..experiment import scenario
    from ..record import json_schema

    schemas: dict[str, Any] = {"scenario": scenario.json_schema, "record": json_schema}
    output.print_json(schemas[what]() if what else {name: make() for name, make in schemas.items()})
