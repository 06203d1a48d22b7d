"""How time and memory of a run grow with its length and with the depth of its queue.

Rule: programs are made chunk by chunk while the run goes on, as in every long run; time is the CPU time of
the event loop with the loading of steps, memory the peak of the whole process, all threads and the compiler
too. A peak never falls: lengths ascend, and nothing else runs before the longest.
"""

import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from ..experiment.fingerprint import host_facts, versions
from ..experiment.runner import Task
from ..experiment.scenario import load_scheme
from ..workload.program import BEGIN, Chunk, Program
from .simulator import MAX_DEPTH, reads
from .timing import needs_compiled_kernels, pinned, within

Progress = Callable[[str, int, int], object]

SCHEMA_VERSION: Final = 1
DEPTHS: Final = (1, 8, 64, 512, 4096)
# The depth of the longest run, whose memory counts.
DEPTH: Final = 32
LONGEST: Final = 1_000_000_000
MAX_TLPS: Final = 20_000_000_000
LEAST_TLPS: Final = 10_000
# What a run of any length must stay below.
MEMORY_BAR_MB: Final = 500.0
# Runs up to this length are repeated, and the shortest counts.
_SHORT: Final = 10_000_000
_ROUNDS: Final = 3
# Doorbell, command and its completion, 16 of data, entry, interrupt, doorbell.
_TLPS_PER_READ: Final = 22
_MILLION: Final = 1_000_000


@dataclass(frozen=True)
class Plan:
    """What to measure: reads until `tlps` TLPs at depth 32, and shorter ones at each of `depths`.

    Attributes: tlps: of the longest run. depths: of the queue. rounds: of runs up to ten million TLPs, of
    which the best counts; longer ones are run once.
    """

    tlps: int = LONGEST
    depths: Sequence[int] = DEPTHS
    rounds: int = _ROUNDS

    def lengths(self) -> tuple[int, ...]:
        """Return the TLPs of the runs at depth 32: each ten times as long as the one before."""
        return tuple(dict.fromkeys(max(self.tlps // by, LEAST_TLPS) for by in (1000, 100, 10, 1)))

    def check(self) -> None:
        """Raise MisuseError for a number outside its range, ConfigError where nothing can be measured."""
        within("tlps", [self.tlps], LEAST_TLPS, MAX_TLPS)
        within("depth", self.depths, 1, MAX_DEPTH)
        within("rounds", [self.rounds], 1, 1000)
        needs_compiled_kernels()


@dataclass(frozen=True)
class Row:
    """One length at one depth. peak_mb: of the process so far, MB of 10^6 bytes."""

    queue_depth: int
    tlps: int
    seconds: float
    ns_per_tlp: float
    peak_mb: float


@dataclass(frozen=True)
class Result:
    """What `measure` found. depths: runs at each depth; lengths: at depth 32, ascending."""

    plan: Plan
    cpu: int
    depths: list[Row]
    lengths: list[Row]

    @property
    def peak_mb(self) -> float:
        """The peak of memory, when the longest run was over."""
        return self.lengths[-1].peak_mb

    @property
    def growth_mb(self) -> float:
        """What the peak of memory grew by from the run of a hundredth of the length to the longest."""
        shorter = [row for row in self.lengths if 50 * row.tlps <= self.lengths[-1].tlps]
        return self.peak_mb - (shorter or self.lengths)[-1].peak_mb

    @property
    def within(self) -> bool:
        """Whether memory stayed below the bar."""
        return self.peak_mb < MEMORY_BAR_MB

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as `sevpcie measure scaling --json` prints it."""
        return {
            "schema_version": SCHEMA_VERSION,
            "command": "measure scaling",
            "versions": versions(),
            "host": host_facts().model_dump(),
            "options": {
                "cpu": self.cpu,
                "tlps": self.plan.tlps,
                "depths": list(self.plan.depths),
                "rounds": self.plan.rounds,
            },
            "lengths": [asdict(row) for row in self.lengths],
            "depths": [asdict(row) for row in self.depths],
            "peak_mb": self.peak_mb,
            "growth_mb": self.growth_mb,
            "bar_mb": MEMORY_BAR_MB,
        }


def peak_mb() -> float:
    """Return the most memory that this process has had in use so far, all threads, in MB."""
    # getrusage(2): in KiB; macOS has bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _watched(task: Task, told: Callable[[int], object]) -> Task:
    """Return the task with a program that tells how many reads it has handed out."""

    def watch(program: Program) -> Program:
        def chunks() -> Iterator[Chunk]:
            done = 0
            for chunk in program.chunks():
                told(done)
                yield chunk
                done += int(((chunk.steps["flags"] & BEGIN) != 0).sum())

        return replace(program, chunks=chunks)

    return replace(task, programs=tuple(watch(program) for program in task.programs))


def _run(depth: int, tlps: int, rounds: int, progress: Progress) -> Row:
    """Run reads until there are so many TLPs."""
    total = tlps // _MILLION

    def told(read: int) -> None:
        progress(f"queue depth {depth}, million TLPs", read * _TLPS_PER_READ // _MILLION, total)

    task = _watched(reads(depth, max(tlps // _TLPS_PER_READ, 1)), told)
    scheme = load_scheme("none")
    best = None
    for _ in range(rounds if tlps <= _SHORT else 1):
        outcome = task.simulate(scheme, "off")
        if best is None or outcome.seconds < best:
            best = outcome.seconds
    assert best is not None
    return Row(depth, outcome.tlps, best, 1e9 * best / outcome.tlps, peak_mb())


def measure(plan: Plan, progress: Progress = lambda stage, done, total: None) -> Result:
    """Run depth 32 up to the longest, then every depth at the shorter lengths, on one CPU.

    Raises MisuseError and ConfigError for a plan that cannot be measured.
    """
    plan.check()
    with pinned() as cpu:
        progress("compiling", 0, 0)
        _run(1, LEAST_TLPS, 1, lambda stage, done, total: None)
        *short, longest = plan.lengths()
        lengths = [_run(DEPTH, tlps, plan.rounds, progress) for tlps in (*short, longest)]
        depths = [
            _run(depth, tlps, plan.rounds, progress) for depth in plan.depths for tlps in short or [longest]
        ]
    return Result(plan, cpu, depths, lengths)
