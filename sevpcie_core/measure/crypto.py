"""What sealing and opening a packet costs on this machine, per backend, and how near that is to its bound.

Rule: what is timed is what a caller gets, `seal_batch` and `open_batch` with their checks, on packets whose
results have been compared first.

The bound is what the CPU's ports for the two instructions of AES-GCM would need if they never waited: the
count of instructions (see `crypto.bound`) and what each costs, measured here by turns with the rest.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .. import spec
from ..crypto import backends, bound
from ..crypto.keys import MAX_AAD_BYTES, MAX_TEXT_BYTES
from ..errors import MisuseError, RunError
from ..experiment.fingerprint import host_facts, versions
from .pool import TAG_BYTES, Pool, Shape
from .timing import Timing, needs_compiled_kernels, pinned, run_slice, within

Progress = Callable[[str, int, int], object]

SCHEMA_VERSION: Final = 1
PAYLOADS: Final = (64, 128, 256, 1024, 4096)
AADS: Final = (16, 20)
PACKETS: Final = 2048
MAX_PACKETS: Final = 1 << 16
# Turns of a bound kernel's loop in one pass: long enough that the call around it does not count.
_TURNS: Final = 50_000
# A slow backend, whose passes are long, needs no more than this.
_ENOUGH_NS: Final = 300_000_000
_ENOUGH_SLICES: Final = 3


@dataclass(frozen=True)
class Plan:
    """What to measure; the defaults are those of the command.

    Attributes: backends: names, None for all that run here. rounds: slices of each measurement. slice_ns: the
    least length of a slice.
    """

    payloads: Sequence[int] = PAYLOADS
    aads: Sequence[int] = AADS
    key_bits: Sequence[int] = tuple(spec.AES_ROUNDS)
    packets: int = PACKETS
    backends: Sequence[str] | None = None
    rounds: int = 15
    slice_ns: int = 3_000_000

    def check(self) -> None:
        """Raise MisuseError for a number outside its range, ConfigError where nothing can be measured."""
        within("payload", self.payloads, 0, MAX_TEXT_BYTES)
        within("aad", self.aads, 0, MAX_AAD_BYTES)
        within("packets", [self.packets], 1, MAX_PACKETS)
        within("rounds", [self.rounds], 1, 1_000_000)
        for bits in self.key_bits:
            if bits not in spec.AES_ROUNDS:
                raise MisuseError(f"key-bits {bits}: expected {' or '.join(map(str, spec.AES_ROUNDS))}")
        needs_compiled_kernels()

    def shapes(self) -> list[Shape]:
        """Return every combination, key sizes first."""
        return [
            Shape(bits, payload, aad, self.packets)
            for bits in self.key_bits
            for payload in self.payloads
            for aad in self.aads
        ]


@dataclass(frozen=True)
class Ports:
    """The two instructions on the widest registers of this CPU.

    Of the ports, or pipes, that run them, all may take both, or some only one. A stream of nothing else tells
    what each needs alone. A stream of three rounds to one product tells what a product adds to rounds: all
    its time where the two share their ports, nothing where they do not, and half of it, for example, where
    rounds have two pipes and products only one of these (AMD Zen 4).

    Attributes: bits: of a register. aesenc_ns, pclmulqdq_ns: each alone, per instruction. mixed_ns: three of
    the one and one of the other.
    """

    bits: int
    aesenc_ns: float
    pclmulqdq_ns: float
    mixed_ns: float

    @property
    def added_ns(self) -> float:
        """What a product adds to a stream of rounds."""
        return min(max(self.mixed_ns - 3 * self.aesenc_ns, 0.0), self.pclmulqdq_ns)

    def bound_ns(self, shape: Shape) -> float:
        """Return the least time for one packet: that of the ports it keeps busiest."""
        rounds, products = bound.instructions(shape.key_bits, shape.payload_bytes, shape.aad_bytes, self.bits)
        return max(products * self.pclmulqdq_ns, rounds * self.aesenc_ns + products * self.added_ns)


class PortTimer:
    """Measures the two instructions: `slice` by turns with whatever else is measured, then `ports`."""

    def __init__(self) -> None:
        self._streams = bound.widest()
        self._data = np.random.default_rng(0).integers(0, 256, bound.DATA_BYTES, np.uint8)
        per_pass = bound.CHAINS * _TURNS
        mixtures = (bound.CHAINS - bound.MIXED_AES) * _TURNS
        self._timings = [Timing(per_pass), Timing(per_pass), Timing(mixtures)]
        if self._streams:
            for kernel in self._streams[1:]:
                kernel(self._data, 1)

    def slice(self, slice_ns: int) -> None:
        """Measure each stream once more."""
        if self._streams:
            for timing, kernel in zip(self._timings, self._streams[1:], strict=True):
                timing.slices.append(run_slice(partial(kernel, self._data, _TURNS), slice_ns))

    def ports(self) -> Ports | None:
        """Return the best of what was measured; None on a CPU without the instructions."""
        if not self._streams:
            return None
        aes, clmul, mixed = (timing.best_ns for timing in self._timings)
        return Ports(self._streams.bits, aes, clmul, mixed)


@dataclass(frozen=True)
class Row:
    """One backend on one shape; times per packet, best and median of all slices."""

    backend: str
    key_bits: int
    payload_bytes: int
    aad_bytes: int
    seal_ns: float
    open_ns: float
    seal_median_ns: float
    open_median_ns: float
    seal_spread_pct: float
    open_spread_pct: float
    seal_gbytes_per_s: float
    """Payload; 1 GB is 10^9 bytes."""
    bound_ns: float | None
    seal_x_bound: float | None


@dataclass(frozen=True)
class Result:
    """What `measure` found."""

    plan: Plan
    cpu: int
    rows: list[Row]
    ports: Ports | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as `sevpcie measure crypto --json` prints it."""
        ports = self.ports
        return {
            "schema_version": SCHEMA_VERSION,
            "command": "measure crypto",
            "versions": versions(),
            "host": host_facts().model_dump(),
            "options": {
                "cpu": self.cpu,
                "packets": self.plan.packets,
                "tag_bytes": TAG_BYTES,
                "rounds": self.plan.rounds,
                "slice_ns": self.plan.slice_ns,
            },
            "ports": {**asdict(ports), "added_ns": ports.added_ns} if ports else None,
            "port_bound_ns": [
                {
                    "key_bits": shape.key_bits,
                    "payload_bytes": shape.payload_bytes,
                    "aad_bytes": shape.aad_bytes,
                    "ns": ports.bound_ns(shape),
                }
                for shape in self.plan.shapes()
                if ports
            ],
            "backends": [asdict(row) for row in self.rows],
        }


@dataclass
class _Case:
    """One backend on one shape, while it is measured."""

    backend: backends.Backend
    pool: Pool
    seal: Timing
    open: Timing
    spent_ns: int = 0

    def slice(self, slice_ns: int) -> None:
        if self.spent_ns > _ENOUGH_NS and len(self.seal.slices) >= _ENOUGH_SLICES:
            return
        start = time.perf_counter_ns()
        self.seal.slices.append(run_slice(partial(self.pool.seal, self.backend), slice_ns))
        self.open.slices.append(run_slice(partial(self.pool.open, self.backend), slice_ns))
        self.spent_ns += time.perf_counter_ns() - start

    def row(self, ports: Ports | None) -> Row:
        shape = self.pool.shape
        best = self.seal.best_ns
        least = ports.bound_ns(shape) if ports else None
        return Row(
            self.backend.name,
            shape.key_bits,
            shape.payload_bytes,
            shape.aad_bytes,
            best,
            self.open.best_ns,
            self.seal.median_ns,
            self.open.median_ns,
            self.seal.spread_pct,
            self.open.spread_pct,
            shape.payload_bytes / best,
            least,
            best / least if least else None,
        )


def measure(plan: Plan, progress: Progress = lambda stage, done, total: None) -> Result:
    """Measure every backend of a plan on every shape, by turns, on one CPU.

    Raises MisuseError and ConfigError for a plan that cannot be measured, RunError if a backend computes
    something else than `cryptography`.
    """
    plan.check()
    chosen = _chosen(plan.backends)
    with pinned() as cpu:
        cases = list(_cases(plan, chosen, progress))
        timer = PortTimer()
        for turn in range(plan.rounds):
            timer.slice(plan.slice_ns)
            for at, case in enumerate(cases):
                progress("measuring", turn * len(cases) + at, plan.rounds * len(cases))
                case.slice(plan.slice_ns)
    ports = timer.ports()
    # Measured by shape, told by backend.
    cases.sort(key=lambda case: chosen.index(case.backend))
    return Result(plan, cpu, [case.row(ports) for case in cases], ports)


def _chosen(names: Sequence[str] | None) -> list[backends.Backend]:
    """Return the backends of these names, each once."""
    wanted = backends.available() if names is None else names
    # "vaes" stands for one of the others.
    return list({backend.name: backend for backend in map(backends.load, wanted)}.values())


def _cases(plan: Plan, chosen: list[backends.Backend], progress: Progress) -> Iterator[_Case]:
    """Yield every case, compiled and checked; backends of one shape stand together and share its pool."""
    for shape in plan.shapes():
        pool = Pool(shape)
        reference = expected(pool)
        for backend in chosen:
            progress(f"compiling {backend.name}", 0, 0)
            verify(pool, backend, reference)
            yield _Case(backend, pool, Timing(shape.packets), Timing(shape.packets))


def expected(pool: Pool) -> list[bytes]:
    """Return the ciphertext and tag of each packet, from `cryptography`."""
    ciphers = [AESGCM(secret) for secret in pool.secrets]
    keys = pool.seal_packets["key"].tolist()
    size = pool.shape.payload_bytes
    texts, aads = pool.parts("text", size), pool.parts("aad", pool.shape.aad_bytes)
    return [
        ciphers[key].encrypt(nonce, text, aad)[: size + TAG_BYTES]
        for key, nonce, text, aad in zip(keys, pool.nonces(), texts, aads, strict=True)
    ]


def verify(pool: Pool, backend: backends.Backend, reference: list[bytes]) -> None:
    """Seal and open a pool once. Raises RunError unless the result is the expected one."""
    plain = pool.parts("text", pool.shape.payload_bytes)
    pool.spoil("tag")
    pool.seal(backend)
    if pool.sealed() != reference:
        raise RunError(f"backend {backend.name}: wrong ciphertext or tag for {pool.shape}")
    pool.spoil("text")
    if not pool.open(backend).all() or pool.parts("text", pool.shape.payload_bytes) != plain:
        raise RunError(f"backend {backend.name}: does not open what it sealed for {pool.shape}")
