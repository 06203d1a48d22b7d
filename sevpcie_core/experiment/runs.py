"""The runs of a comparison: every workload under every arm and seed, on threads.

Rule: a piece of work is one seed of one workload, under all arms; pieces share the meter and the count alone.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TypeAlias

from ..link.run import warm_up
from .hardware import contexts_of, engine_of
from .resolved import Arm, Resolved, WorkloadRun, at_variant
from .runner import Sample, Task, ranged

Progress: TypeAlias = Callable[[str, int, int], None]

ENDS = ("favourable", "unfavourable")


@dataclass(frozen=True)
class Cell:
    """What ran for one workload: samples[arm][seed][group], and ends[arm][end][seed][group]."""

    scenario: Resolved
    workload: WorkloadRun
    first: Task
    arms: tuple[Arm, ...]
    samples: list[list[dict[str, Sample]]]
    ends: list[list[list[dict[str, Sample]]]]


class Meter:
    """Counts TLPs and the simulator's CPU time over all threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.tlps = 0
        self.seconds = 0.0

    def run(self, task: Task, arm: Arm, variant: str) -> dict[str, Sample]:
        """Run a task under an arm; return its samples by group."""
        samples, tlps, seconds = task.run(arm, variant)
        with self.lock:
            self.tlps += tlps
            self.seconds += seconds
        return samples


class _Count:
    """Tells how many runs are done, one call at a time: a seed's alone may take minutes."""

    def __init__(self, progress: Progress) -> None:
        self.lock = threading.Lock()
        self.progress = progress
        self.done = 0
        self.total = 0

    def step(self) -> None:
        with self.lock:
            self.done += 1
            self.progress("simulating", self.done, self.total)


def in_parallel(jobs: int, work: Sequence[Callable[[], None]], step: Callable[[], None]) -> None:
    """Run independent work on threads; an interrupt or an error stops what has not begun."""
    pool = ThreadPoolExecutor(max_workers=jobs)
    try:
        futures: list[Future[None]] = [pool.submit(w) for w in work]
        for future in as_completed(futures):
            future.result()
            step()
    except BaseException:
        # A run in compiled code cannot be stopped; nobody waits for it.
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def arm_key(arm: Arm) -> tuple[str, str]:
    """Return the scheme and policy that the results name an arm by."""
    return (arm.scheme.name, "off" if arm.scheme.mechanism == "none" else arm.policy)


def run_all(
    scenarios: Sequence[Resolved], baseline: Arm, jobs: int, meter: Meter, progress: Progress
) -> list[Cell]:
    """Run every workload of every scenario under every arm and seed."""
    cells: list[Cell] = []
    work: list[Callable[[], None]] = []
    count = _Count(progress)
    for scenario in scenarios:
        arms = (baseline, *[a for a in scenario.arms if arm_key(a) != arm_key(baseline)])
        for workload in scenario.workloads:
            progress("preparing", 0, 0)
            first = Task.prepare(scenario, workload, scenario.seed)
            blank: list[dict[str, Sample]] = [{} for _ in range(scenario.seeds)]
            cell = Cell(
                scenario,
                workload,
                first,
                arms,
                [list(blank) for _ in arms],
                [[list(blank) for _ in ENDS] if ranged(a.scheme) else [] for a in arms],
            )
            cells.append(cell)
            work.extend(_work_of(cell, i, meter, count.step) for i in range(scenario.seeds))
            count.total += scenario.seeds * sum(1 + len(ends) for ends in cell.ends)
    stop = threading.Event()
    guarded = [_unless(stop, w) for w in work]
    progress("compiling", 0, 0)
    warm_up()
    progress("simulating", 0, count.total)
    # The first piece compiles what is left, before threads would wait for each other's compiler.
    if guarded:
        guarded[0]()
    try:
        in_parallel(jobs, guarded[1:], lambda: None)
    except BaseException:
        stop.set()
        raise
    return cells


def _unless(stop: threading.Event, work: Callable[[], None]) -> Callable[[], None]:
    return lambda: None if stop.is_set() else work()


def _work_of(cell: Cell, seed_index: int, meter: Meter, step: Callable[[], None]) -> Callable[[], None]:
    """Return the runs of one seed, which call `step` after each."""

    def work() -> None:
        scenario = cell.scenario
        task = (
            cell.first
            if seed_index == 0
            else Task.prepare(scenario, cell.workload, scenario.seed + seed_index)
        )
        # Arms whose engines and decisions are the same give the same samples.
        known: dict[object, dict[str, Sample]] = {}

        def run(arm: Arm, variant: str) -> dict[str, Sample]:
            scheme = arm.scheme
            key = (
                engine_of(scheme, variant, contexts_of(scheme, cell.workload)),
                tuple(at_variant({**scheme.bounce, **scheme.host}, variant).items()),
                scheme.cipher_devices,
                arm_key(arm)[1],
                scheme.mechanism,
            )
            if key not in known:
                known[key] = meter.run(task, arm, variant)
            step()
            return known[key]

        for a, arm in enumerate(cell.arms):
            cell.samples[a][seed_index] = run(arm, "typical")
            for end, seeds in zip(ENDS, cell.ends[a], strict=False):
                seeds[seed_index] = run(arm, end)

    return work
