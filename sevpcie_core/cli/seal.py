"""`sevpcie seal`: what a TLP looks like on a protected link, part by part."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import MisuseError
from . import options, output, wire
from .progress import Progress

if TYPE_CHECKING:
    from ..ide import SealedParts

EPILOG = """A 64 B write, then the 64 B read that follows it. The MACs are 798b99a6 98262f52
85e18cff and be5e6273 468b6f91 25ace001.

\b
  K=000102030405060708090a0b0c0d0e0f
  sevpcie seal --scheme sev-pcie --key $K --stream-id 1 --sub-stream pr --counter 1 \\
    --tlp "60000010 010005ff 11223344 55667700 $(python3 -c 'print(bytes(range(64)).hex())')"
  sevpcie seal --scheme sev-pcie --key $K --stream-id 1 --sub-stream npr --counter 1 --pr-sent 1 \\
    --tlp "20000010 010006ff 11223344 55667700"

In a real stream each sub-stream has a key of its own. With --scheme pcie-ide and the
key 000102...1f of 32 bytes the MACs are 308d5d74 fd46faba a3e2a53d and a067c48a c3784092
6279603b."""


def seal(
    key: wire.Key,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]", help="TLPs, one hex line each; - for standard input.", show_default=False
        ),
    ] = None,
    tlp: Annotated[
        str | None,
        typer.Option(
            "--tlp",
            metavar="HEX",
            help="Header and plain payload, without IDE prefix, TD 0.",
            show_default=False,
        ),
    ] = None,
    scheme: wire.Scheme = "pcie-ide",
    stream_id: wire.StreamId = 1,
    sub_stream: wire.Sub = None,
    counter: wire.Counter = 1,
    k: wire.KeySet = 0,
    t: wire.Tee = 0,
    pr_sent: wire.PrSent = 0,
    pcrc: wire.Pcrc = False,
    stream_kind: wire.StreamKind = "selective",
    phe: wire.Phe = 0,
    aggregate: Annotated[
        int, typer.Option("--aggregate", metavar="N", help="TLPs of one unit, from a file: 1, 2, 4 or 8.")
    ] = 1,
    iv_fixed: wire.Iv = "zeros",
    flit: wire.Flit = False,
    json: options.Json = False,
) -> None:
    """Seal a TLP and print every part.

    Prefix, AAD, IV, ciphertext, PCRC, MAC and the whole wire image, prefix to MAC, without LCRC. The
    ciphertext ends with the encrypted PCRC where there is one; the PCRC is shown in the clear.

    The nonce counter is yours to choose, and nothing is remembered: never use two outputs of one key and
    counter for anything but looking at them.
    """
    lines = wire.one_input("--tlp", tlp, file)
    if aggregate not in (1, 2, 4, 8):
        raise MisuseError(f"--aggregate {aggregate}: expected 1, 2, 4 or 8")
    if aggregate > 1 and file is None:
        raise MisuseError("--aggregate takes its TLPs from a file")
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
    units = []
    with Progress() as progress:
        progress("sealing", 0, 0)
        from ..ide import seal_once

        for number, start in enumerate(range(0, len(lines), aggregate)):
            unit = lines[start : start + aggregate]
            with wire.placed(unit[0][0], file):
                parts = seal_once(
                    [data for _, data in unit],
                    sub_stream=settings.sub_stream,
                    counter=counter + number,
                    k=k,
                    t=t,
                    pr_sent=pr_sent if number == 0 else 0,
                    **settings.rest,
                )
            units.append(parts)
    with output.pipe():
        if json:
            found = [_fields(parts) for parts in units]
            output.print_json(found[0] if file is None else {"units": found})
        else:
            for number, (parts, start) in enumerate(zip(units, range(0, len(lines), aggregate), strict=True)):
                if number:
                    print()
                _print([data for _, data in lines[start : start + aggregate]], parts, flit, counter + number)


def _fields(parts: "SealedParts") -> dict[str, Any]:
    """Return what --json prints of a unit."""
    names = ("prefix", "aad", "iv", "ciphertext", "pcrc", "mac", "wire")
    fields: dict[str, Any] = {name: getattr(parts, name).hex() for name in names}
    if len(parts.tlps) > 1:
        fields["tlps"] = [tlp.hex() for tlp in parts.tlps]
    return fields


def _print(plain: list[bytes], parts: "SealedParts", flit: bool, counter: int) -> None:
    """Print a unit for a person."""
    from ..tlp.codec import parse

    for tlp in plain:
        print(parse(tlp, flit=flit).describe(0))
    wire.print_part("prefix" if not flit else "OHC-C", parts.prefix)
    wire.print_part("AAD", parts.aad)
    wire.print_part("IV", parts.iv, f"counter {counter}")
    empty = "" if parts.ciphertext else "no content: the MAC covers the AAD"
    wire.print_part("ciphertext", parts.ciphertext, empty)
    wire.print_part("PCRC", parts.pcrc)
    wire.print_part("MAC", parts.mac)
    for number, tlp in enumerate(parts.tlps):
        name = "wire" if len(parts.tlps) == 1 else f"wire {number}"
        wire.print_part(name, tlp)
    size = sum(map(len, plain))
    print(f"  {size} B sealed into {len(parts.wire)} B, without framing and LCRC")
