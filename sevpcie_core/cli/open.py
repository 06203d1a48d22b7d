"""`sevpcie open`: check and decrypt what `sevpcie seal`, or a device, has put on the wire."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import IntegrityError
from . import options, output, wire
from .progress import Progress

EPILOG = """What the second example of sevpcie seal prints.

\b
  sevpcie open --scheme sev-pcie --key 000102030405060708090a0b0c0d0e0f --stream-id 1 --counter 1 \\
    --wire '92010114 20000010 010006ff 11223344 55667700 be5e6273 468b6f91 25ace001'

Exit code 3: refused. The reason is printed here, for whoever holds the key; on the wire and in timing all
failures look alike."""


def open_(
    key: wire.Key,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]", help="Sealed TLPs, one hex line each; - for standard input.", show_default=False
        ),
    ] = None,
    sealed: Annotated[
        str | None,
        typer.Option(
            "--wire",
            "--tlp",
            metavar="HEX",
            help="The wire image of one TLP, prefix to MAC, without LCRC.",
            show_default=False,
        ),
    ] = None,
    scheme: wire.Scheme = "pcie-ide",
    stream_id: wire.StreamId = 1,
    sub_stream: Annotated[
        wire.SubStream | None,
        typer.Option("--sub-stream", help="Only this sub-stream.", show_default="any"),
    ] = None,
    counter: wire.Counter = 1,
    k: Annotated[
        int | None,
        typer.Option("--k", metavar="[0|1]", min=0, max=1, help="Only this key set.", show_default="any"),
    ] = None,
    t: Annotated[
        int | None,
        typer.Option("--t", metavar="[0|1]", min=0, max=1, help="Only this T bit.", show_default="any"),
    ] = None,
    pr_sent: Annotated[
        int | None,
        typer.Option("--pr-sent", metavar="N", help="Only this PR_Sent_Counter.", show_default="any"),
    ] = None,
    pcrc: wire.Pcrc = False,
    stream_kind: wire.StreamKind = "selective",
    phe: wire.Phe = 0,
    iv_fixed: wire.Iv = "zeros",
    flit: wire.Flit = False,
    json: options.Json = False,
) -> int:
    """Open a sealed TLP, or say which rule it breaks.

    A file holds TLPs in wire order, one a line; those of an aggregate follow each other (`tlps` of what seal
    --json prints), and only the last has a MAC. Each unit takes the next counter. The first refusal ends it,
    as it ends a stream.
    """
    lines = wire.one_input("--wire", sealed, file)
    settings = wire.Settings(
        scheme=scheme,
        key=key,
        stream_id=stream_id,
        sub_stream=sub_stream,
        pcrc=pcrc,
        kind=stream_kind,
        phe=phe,
        iv_fixed=iv_fixed,
        flit=flit,
    )
    opened: list[bytes] = []
    refused: str | None = None
    with Progress() as progress:
        progress("opening", 0, 0)
        from ..ide import open_once

        for number, unit in enumerate(_units(lines, flit)):
            try:
                with wire.placed(unit[0][0], file):
                    opened += open_once(
                        [data for _, data in unit],
                        sub_stream=settings.sub_stream,
                        counter=counter + number,
                        k=k,
                        t=t,
                        pr_sent=pr_sent if number == 0 else None,
                        **settings.rest,
                    )
            except IntegrityError as error:
                refused = str(error)
                break
    with output.pipe():
        if json:
            output.print_json(_fields(opened, refused, file is None))
        else:
            _print(opened, flit)
    if refused is not None:
        raise IntegrityError(refused)
    return 0


def _units(lines: list[tuple[str, bytes]], flit: bool) -> list[list[tuple[str, bytes]]]:
    """Return the lines by unit: it ends with the TLP that says it has a MAC, or that has no IDE prefix."""
    import numpy as np

    from ..ide.framing import find, trailer_flags

    units: list[list[tuple[str, bytes]]] = [[]]
    for line in lines:
        units[-1].append(line)
        data = np.frombuffer(line[1], np.uint8)
        ide, _, header, size, _, _ = find(data, 0, len(data), flit)
        # Opening it says what is wrong where there are no such flags.
        if ide < 0 or size < 0 or trailer_flags(data, ide, header, flit)[0]:
            units.append([])
    return units if units[-1] else units[:-1]


def _fields(opened: list[bytes], refused: str | None, single: bool) -> dict[str, Any]:
    """Return what --json prints."""
    fields: dict[str, Any] = {"ok": refused is None, "refused": refused}
    if single:
        fields["tlp"] = opened[0].hex() if opened else None
    else:
        fields["tlps"] = [tlp.hex() for tlp in opened]
    return fields


def _print(opened: list[bytes], flit: bool) -> None:
    """Print the opened TLPs for a person."""
    from ..tlp.codec import parse

    for number, tlp in enumerate(opened):
        if number:
            print()
        batch = parse(tlp, flit=flit)
        payload = batch.payload(0)
        print(batch.describe(0))
        wire.print_part("header", tlp[: len(tlp) - len(payload)])
        wire.print_part("payload", payload)
