"""What `seal` and `open` share: their options, hex in, and parts of a TLP out, each with its name.

Rule: keys, TLPs and results are hex; blanks and colons in input do not count; output for programs has none.
"""

import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from ..errors import ConfigError, FormatError, MisuseError, SevPcieError

if TYPE_CHECKING:
    from ..ide.profile import IvFixed

SubStream = Literal["pr", "npr", "cpl"]
# PCIe Base r6.x, section 6.33.5: posted, non-posted, completion.
SUB_STREAMS: dict[str, int] = {"pr": 0, "npr": 1, "cpl": 2}

Scheme: TypeAlias = Annotated[
    Literal["pcie-ide", "sev-pcie"],
    typer.Option("--scheme", help="AES-256 of the standard, or AES-128, a profile of this project."),
]
Key: TypeAlias = Annotated[
    str,
    typer.Option(
        "--key",
        metavar="HEX",
        help="32 bytes for pcie-ide, 16 for sev-pcie; blanks, : and _ in hex do not count.",
        show_default=False,
    ),
]
StreamId: TypeAlias = Annotated[int, typer.Option("--stream-id", metavar="N", help="0 to 255.")]
Sub: TypeAlias = Annotated[
    SubStream | None,
    typer.Option("--sub-stream", help="Default: the one that the TLP belongs to.", show_default=False),
]
Counter: TypeAlias = Annotated[
    int,
    typer.Option(
        "--counter", metavar="N", help="Invocation counter of the first unit; the next have N + 1 ..."
    ),
]
KeySet: TypeAlias = Annotated[
    int, typer.Option("--k", metavar="[0|1]", min=0, max=1, help="K bit: the key set. Alone: 1.")
]
Tee: TypeAlias = Annotated[
    int, typer.Option("--t", metavar="[0|1]", min=0, max=1, help="T bit: from a TEE. Alone: 1.")
]
PrSent: TypeAlias = Annotated[
    int, typer.Option("--pr-sent", metavar="N", help="PR_Sent_Counter, 0 to 245; 0 in posted TLPs.")
]
Pcrc: TypeAlias = Annotated[bool, typer.Option("--pcrc", help="The stream has PCRC enabled.")]
StreamKind: TypeAlias = Annotated[
    Literal["selective", "link"],
    typer.Option("--stream-kind", help="A Link stream authenticates local prefixes too."),
]
Phe: TypeAlias = Annotated[
    int,
    typer.Option(
        "--phe",
        metavar="0..4",
        help="Partial header encryption: off, or byte enables and address bits 2 to 17, 25, 33, 41.",
    ),
]
Iv: TypeAlias = Annotated[
    Literal["zeros", "substream"],
    typer.Option("--iv-fixed", help="First 4 bytes of the IV; sources disagree, zeros is likely."),
]
Flit: TypeAlias = Annotated[
    bool, typer.Option("--flit", help="The TLPs have headers of flit mode (Gen6 and later).")
]


class Settings:
    """What both commands take, as keyword arguments of `ide.seal_once` and `ide.open_once`."""

    def __init__(
        self,
        *,
        scheme: str,
        key: str,
        stream_id: int,
        sub_stream: SubStream | None,
        pcrc: bool,
        kind: Literal["selective", "link"],
        phe: int,
        iv_fixed: "IvFixed",
        flit: bool,
    ):
        self.sub_stream = None if sub_stream is None else SUB_STREAMS[sub_stream]
        self.rest: dict[str, Any] = {
            "profile": scheme,
            "key": hex_bytes("--key", key),
            "stream_id": stream_id,
            "pcrc": pcrc,
            "kind": kind,
            "phe": phe,
            "iv_fixed": iv_fixed,
            "flit": flit,
        }


def hex_bytes(place: str, text: str) -> bytes:
    """Return the bytes of hex digits, blanks and colons left out. Raises MisuseError."""
    digits = re.sub(r"[\s:_]", "", text.removeprefix("0x"))
    wrong = re.search(r"[^0-9a-fA-F]", digits)
    if wrong:
        raise MisuseError(f"{place}: {wrong[0]!r} is no hex digit")
    if not digits or len(digits) % 2:
        raise MisuseError(f"{place}: {len(digits)} hex digits; expected a whole number of bytes")
    return bytes.fromhex(digits)


def lines_of(file: Path) -> list[tuple[str, bytes]]:
    """Return (place, bytes) of each line of a file of hex, `-` for standard input; `#` begins a comment.

    Raises ConfigError for a file that cannot be read, FormatError for a line that is no hex or for none.
    """
    name = "standard input" if str(file) == "-" else str(file)
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise ConfigError(f"{name}: {reason}") from None
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        content = line.partition("#")[0].strip()
        if content:
            place = f"{name}, line {number}"
            try:
                found.append((place, hex_bytes(place, content)))
            except MisuseError as error:
                raise FormatError(str(error)) from None
    if not found:
        raise FormatError(f"{name}: no TLP in it")
    return found


def one_input(option: str, text: str | None, file: Path | None) -> list[tuple[str, bytes]]:
    """Return what the option or the file gives. Raises MisuseError unless it is exactly one of them."""
    if (text is None) == (file is None):
        raise MisuseError(f"give either {option} HEX or a file of them, one per line")
    if text is not None:
        return [(option, hex_bytes(option, text))]
    assert file is not None
    return lines_of(file)


@contextmanager
def placed(place: str, file: Path | None) -> Iterator[None]:
    """Have an error say where the TLP stands that it is about."""
    try:
        yield
    except SevPcieError as error:
        # A value of an option that nothing can have speaks for itself.
        of_option = file is None and isinstance(error, MisuseError | ConfigError)
        raise type(error)(str(error) if of_option else f"{place}: {error}") from None


def with_ones(arguments: list[str]) -> list[str]:
    """Return the arguments with a 1 behind each bare --t and --k: the parser knows no optional values."""
    if not arguments or arguments[0] not in ("seal", "open"):
        return arguments
    result = []
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        result.append(argument)
        if argument in ("--t", "--k") and not re.fullmatch(r"-?\d+", following, re.ASCII):
            result.append("1")
    return result


def words(data: bytes) -> str:
    """Return hex in groups of a DW."""
    return data.hex(" ", -4)


def print_part(name: str, data: bytes, note: str = "") -> None:
    """Print a named part: hex in DW, one or two AES blocks a line, a note behind the first."""
    width = 32 if shutil.get_terminal_size((100, 24)).columns >= 88 else 16
    rows = [words(data[i : i + width]) for i in range(0, len(data), width)] or ["-"]
    for i, row in enumerate(rows):
        label = f"{name:<11}" if i == 0 else " " * 11
        tail = f"  {note}" if note and i == 0 else ""
        print(f"  {label} {row}{tail}".rstrip())
