"""The tables of `make peers`: times, then what they mean, then simulators. Everything else is in its JSON."""

from collections.abc import Callable
from typing import Any, Final

from contenders import CRYPTOGRAPHY, IPSEC_MB, KERNEL, OPENSSL, OURS, Contender
from criteria import AAD, BOUND, CALL, OPEN, PEER, Criterion, Field
from ipsec_mb import METHODS
from rich.console import Console
from rich.table import Table

from sevpcie_core.crypto import backends
from sevpcie_core.measure.crypto import PACKETS, Ports
from sevpcie_core.measure.pool import TAG_BYTES, Shape
from sevpcie_core.measure.timing import Timing

# Columns used where there is no terminal to ask.
_PIPE_WIDTH: Final = 140

Figure = Callable[[Timing], float]
# Who, how and what, as contenders say it.
Key = tuple[str, str, str]


def print_tables(
    contenders: list[Contender],
    field: Field,
    ports: Ports | None,
    criteria: list[Criterion],
    library: dict[str, Any] | None,
) -> None:
    """Print everything to standard output."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    timings = {((c.who, c.how, c.operation), c.shape): c.timing for c in contenders if c.timing.slices}
    *others, fastest = backends.available()
    seal, open_ = (OURS, fastest, "seal"), (OURS, fastest, "open")
    direct: Key = (IPSEC_MB, "direct", "seal")
    encrypt: Key = (CRYPTOGRAPHY, "encrypt", "seal")
    columns: dict[str, Key] = {
        f"sevpcie\n{fastest}\nseal": seal,
        "\n\nopen": open_,
        "\nkernel\nseal": (KERNEL, fastest, "seal"),
        **{f"ipsec-mb\n{how}\nseal": (IPSEC_MB, how, "seal") for how in METHODS},
        "\ndirect\nopen": (IPSEC_MB, "direct", "open"),
        "crypto-\ngraphy\nencrypt": encrypt,
        "\nencrypt\n_into": (CRYPTOGRAPHY, "encrypt_into", "seal"),
        "openssl\nspeed\nAAD 13": (OPENSSL, "speed -aead", "seal"),
    }
    shapes = field.shapes()

    def show(title: str, chosen: dict[str, Key], figure: Figure) -> None:
        rows = [(shape, [timings.get((key, shape)) for key in chosen.values()]) for shape in shapes]
        _show(
            console,
            title,
            list(chosen),
            [(shape, [f"{figure(t):.1f}" if t else "-" for t in row]) for shape, row in rows if any(row)],
        )

    batch = f"{PACKETS} packets, tag of {TAG_BYTES} bytes"
    show(f"ns per packet, best of many; {batch}", columns, lambda t: t.best_ns)
    show(f"ns per packet, median of many; {batch}", columns, lambda t: t.median_ns)
    show(
        "spread of the slices' medians: their interquartile range in per cent",
        {
            "sevpcie\nseal": seal,
            "\nopen": open_,
            "ipsec-mb\ndirect": direct,
            "cryptography\nencrypt": encrypt,
        },
        lambda t: t.spread_pct,
    )
    if others:
        chosen: dict[str, Key] = {name: (OURS, name, "seal") for name in others}
        show("ns per packet, best of many: sealing by the other backends", chosen, lambda t: t.best_ns)
    _show_ratios(console, shapes, criteria, ports)
    if ports:
        console.print(
            f"bound: on {ports.bits} bits an AES round takes {ports.aesenc_ns:.3f} ns, a product "
            f"{ports.pclmulqdq_ns:.3f} ns, beside rounds {ports.added_ns:.3f} ns"
        )
    if library:
        console.print(f"intel-ipsec-mb {library['library']}, its code for {library['arch']}")


def print_simulators(rows: list[dict[str, Any]], rounds: int, cpu: int) -> None:
    """Print the simulators, a line each, and under them who is not there."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    console.print("link simulators: thousand TLPs per second of CPU time")
    table = Table(box=None, header_style="", pad_edge=False)
    table.add_column("workload", no_wrap=True)
    table.add_column("simulator", no_wrap=True)
    for name in ("best", "median", "spread", "sevpcie / it", "of medians"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("checked", no_wrap=True)
    for row in rows:
        if row["missing"]:
            cells = ["-"] * 5 + ["absent: see below"]
        else:
            cells = [f"{row[name] / 1e3:,.1f}" for name in ("tlps_per_s", "tlps_per_s_median")]
            cells.append(f"{row['spread_pct']:.1f} %")
            cells += [f"{row[name]:,.0f} x" for name in ("ratio", "ratio_median")]
            cells.append(row["agrees"] or "")
        table.add_row(row["workload"], row["contender"], *cells)
    console.print(table)
    versions = dict.fromkeys(row["version"] for row in rows if row["version"])
    console.print(f"of {', '.join(versions)}", markup=False)
    for words in dict.fromkeys(f"{row['contender']}: {row['missing']}" for row in rows if row["missing"]):
        console.print(words, markup=False, soft_wrap=True)
    console.print(f"{rounds} rounds by turns on CPU {cpu}; checked: what it says beside what sevpcie says")


def _show_ratios(
    console: Console, shapes: list[Shape], criteria: list[Criterion], ports: Ports | None
) -> None:
    """Print the ratios, a row per shape; an exclamation mark after one that misses its bar."""
    found = {(c.name, c.shape): c for c in criteria}
    titles = {
        PEER: "ipsec-mb\n/ sevpcie\nseal",
        CALL: "cryptography\n/ sevpcie\nseal",
        BOUND: "\nseal\n/ bound",
        OPEN: "\nopen\n/ seal",
        AAD: "AAD 20\n/ AAD 16\nseal",
    }
    rows = []
    for shape in shapes:
        row = [f"{ports.bound_ns(shape):.1f}" if ports else "-"]
        row += [_ratio(found.get((name, shape))) for name in titles]
        rows.append((shape, row))
    title = "ratios of the best, with what they should be (! missed)"
    _show(console, title, ["bound\n\nns", *titles.values()], rows)
    if not any(c.judged for c in criteria):
        console.print("Nothing is judged here: that takes a CPU with VAES and AVX-512.")


def _ratio(c: Criterion | None) -> str:
    if c is None:
        return "-"
    if c.bar is None:
        return f"{c.value:.2f}          "
    return f"{c.value:.2f}{' ' if c.met else '!'}({'>=' if c.at_least else '<='} {c.bar:<4g})"


def _show(console: Console, title: str, columns: list[str], rows: list[tuple[Shape, list[str]]]) -> None:
    console.print(title, style="bold")
    table = Table(box=None, header_style="", pad_edge=False)
    lines = max(name.count("\n") for name in columns)
    for name in ("key\nbits", "text\nbytes", "AAD\nbytes", "keys", *columns):
        table.add_column("\n" * (lines - name.count("\n")) + name, justify="right", no_wrap=True)
    for shape, cells in rows:
        numbers = (shape.key_bits, shape.payload_bytes, shape.aad_bytes, shape.keys)
        table.add_row(*map(str, numbers), *cells)
    console.print(table)
    console.print()
