"""Our AES-GCM kernels and our link simulator beside other people's, in one run (`make peers`).

Rules: everybody gets the same packets in the same buffers (`sevpcie_core.measure.pool`), on one CPU, a slice
of each after the other, many times; what they write is compared with `cryptography` first. The best pass of
many counts, and the fastest of somebody's interfaces. Simulators simulate the same, which is compared first.

Who is not installed is a line with its reason. Ends with 99 if a criterion that is judged is missed, else
with 0.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import ipsec_mb
import simulators
from contenders import OPENSSL, Contender, cryptography, openssl, ours
from contenders import ipsec_mb as with_ipsec_mb
from criteria import Criterion, Field, criteria
from printing import print_simulators, print_tables

from sevpcie_core import spec
from sevpcie_core._jit import cpu as cpu_features
from sevpcie_core.crypto import backends
from sevpcie_core.experiment.fingerprint import host_facts, versions
from sevpcie_core.measure.crypto import AADS, PACKETS, PAYLOADS, Ports, PortTimer
from sevpcie_core.measure.pool import TAG_BYTES, Pool, Shape
from sevpcie_core.measure.timing import pinned

MISSED: Final = 99
# Judged where the CPU has these: LLVM's names.
_JUDGED_ON: Final = {"vaes", "vpclmulqdq", "avx512f", "avx512bw", "avx512vl"}
# Payloads that are also sealed with six keys by turns.
_SIX_KEYS: Final = (64, 256)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(prog="make peers ARGS=...", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--quick", action="store_true", help="a few short slices: a first look")
    parser.add_argument("--only", choices=("crypto", "simulators"), help="one half of it")
    options = parser.parse_args(arguments)
    document: dict[str, Any] = {
        "schema_version": 1,
        "command": "make peers",
        "versions": {**versions(), "openssl": _openssl_version()},
        "host": host_facts().model_dump(),
    }
    missed: list[str] = []
    if options.only != "simulators":
        missed += _crypto(options.quick, options.json, document)
    if options.only != "crypto":
        missed += _simulators(options.quick, options.json, document)
    if options.json:
        print(json.dumps(document, indent=2, allow_nan=False))
    for words in missed:
        print(f"peers: missed: {words}", file=sys.stderr)
    return MISSED if missed else 0


# --- AES-GCM ------------------------------------------------------------------------------------------------


def _crypto(quick: bool, as_json: bool, document: dict[str, Any]) -> list[str]:
    """Measure AES-GCM; print it or put it into the document. Return what is missed."""
    rounds, slice_ns = (4, 4_000_000) if quick else (12, 20_000_000)
    missing = ipsec_mb.missing()
    if missing:
        print(f"peers: without intel-ipsec-mb: {missing}", file=sys.stderr)
    with ExitStack() as stack:
        cpu = stack.enter_context(pinned())
        shapes = _shapes()
        shared = ipsec_mb.Shared(sum(map(Pool.size, shapes)))
        child = None
        if not missing:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            child = stack.enter_context(ipsec_mb.IpsecMb(ipsec_mb.build(folder), shared))
        groups = [list(group) for group in _groups(shapes, shared, child)]
        ports = _measure(groups, rounds, slice_ns, quick)
    contenders = [c for group in groups for c in group]
    field = Field(contenders, backends.available()[-1])
    judged = cpu_features.features() >= _JUDGED_ON
    found = criteria(field, ports, judged)
    if as_json:
        facts = {
            "cpu": cpu,
            "packets": PACKETS,
            "tag_bytes": TAG_BYTES,
            "rounds": rounds,
            "slice_ns": slice_ns,
        }
        document |= _plain(contenders, ports, found, facts, child.facts if child else None, missing)
    else:
        print_tables(contenders, field, ports, found, child.facts if child else None)
    return [_words(c) for c in found if c.judged and not c.met]


def _shapes() -> list[Shape]:
    one_key = [Shape(bits, size, aad) for bits in spec.AES_ROUNDS for size in PAYLOADS for aad in AADS]
    six_keys = [Shape(bits, size, AADS[0], keys=6) for bits in spec.AES_ROUNDS for size in _SIX_KEYS]
    return one_key + six_keys


def _groups(
    shapes: list[Shape], shared: ipsec_mb.Shared, child: ipsec_mb.IpsecMb | None
) -> Iterator[Iterable[Contender]]:
    """Yield the contenders of each shape: those whose slices follow one another."""
    fastest = backends.available()[-1]
    at = 0
    for shape in shapes:
        pool = Pool(shape, shared.array[at : at + Pool.size(shape)])
        at += Pool.size(shape)
        group: list[Contender] = list(ours(pool, backends.load(fastest), fastest=True))
        if child:
            group += with_ipsec_mb(pool, child)
        if shape.keys == 1:
            group += cryptography(pool)
            if shape.aad_bytes == AADS[0]:
                for name in backends.available()[:-1]:
                    group += ours(pool, backends.load(name), fastest=False)
                group += openssl(shape)
        yield group


def _measure(groups: list[list[Contender]], rounds: int, slice_ns: int, quick: bool) -> Ports | None:
    """Run all slices."""
    timer = PortTimer()
    for turn in range(rounds):
        print(f"peers: round {turn + 1} of {rounds}", file=sys.stderr)
        timer.slice(slice_ns)
        for group in groups:
            for contender in group:
                # A slice of this one takes a second.
                if contender.who != OPENSSL or _openssl_turn(contender, turn, rounds, quick):
                    contender.slice(slice_ns)
    return timer.ports()


def _openssl_turn(contender: Contender, turn: int, rounds: int, quick: bool) -> bool:
    if quick:
        return turn == 0 and contender.shape.payload_bytes == PAYLOADS[0]
    return turn in (0, rounds // 2, rounds - 1)


def _words(c: Criterion) -> str:
    shape = c.shape
    return (
        f"{c.name}, AES-{shape.key_bits}, {shape.payload_bytes} B, AAD {shape.aad_bytes}: {c.value:.2f} "
        f"(of medians {c.median_value:.2f}), expected {'at least' if c.at_least else 'at most'} {c.bar}"
    )


def _plain(
    contenders: list[Contender],
    ports: Ports | None,
    found: list[Criterion],
    facts: dict[str, Any],
    library: dict[str, Any] | None,
    missing: str | None,
) -> dict[str, Any]:
    measured = [c for c in contenders if c.timing.slices]
    shapes = dict.fromkeys(c.shape for c in measured if c.shape.keys == 1)
    return {
        "options": facts,
        "ipsec_mb": library,
        "missing": missing,
        "ports": {**asdict(ports), "added_ns": ports.added_ns} if ports else None,
        "port_bound_ns": [
            {
                "key_bits": s.key_bits,
                "payload_bytes": s.payload_bytes,
                "aad_bytes": s.aad_bytes,
                "ns": ports.bound_ns(s),
            }
            for s in (shapes if ports else ())
        ],
        "measurements": [c.to_dict() for c in measured],
        "criteria": [c.to_dict() for c in found],
    }


def _openssl_version() -> str | None:
    try:
        return subprocess.run(
            ["openssl", "version"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


# --- The link simulator -------------------------------------------------------------------------------------


def _simulators(quick: bool, as_json: bool, document: dict[str, Any]) -> list[str]:
    """Measure simulators; print them or put them into the document. Return what is missed."""
    rounds, sizes = (3, simulators.QUICK) if quick else (12, simulators.Sizes())
    with pinned() as cpu:
        print("peers: comparing what the simulators say", file=sys.stderr)
        contenders = simulators.contenders(sizes)
        for turn in range(rounds):
            print(f"peers: simulators, round {turn + 1} of {rounds}", file=sys.stderr)
            for contender in contenders:
                contender.slice()
    rows = simulators.rows(contenders)
    if as_json:
        document["simulators"] = {"options": {"cpu": cpu, "rounds": rounds, **asdict(sizes)}, "rows": rows}
    else:
        print_simulators(rows, rounds, cpu)
    return simulators.missed(rows)


if __name__ == "__main__":
    sys.exit(main())
