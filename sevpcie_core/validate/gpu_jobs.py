"""Generated GPU jobs against the recordings of the same jobs (`traces/gpu/*.csv.gz`).

Rule: a job is generated with its defaults, for as many iterations as a recording has, and must be the same
copies: per iteration and stream as many, as many bytes and as many launches. In order and by size they are
compared one by one; what differs is told. Times are no matter of this set (`gpu_times.py`).

An iteration has as many copies as a cycle of the job. Streams are compared in the order of their first copy.
A recording whose name, without the GPU's behind it, is not that of a job is counted and not looked at.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from ..workload.gpu_jobs import RESNET50, Checkpoint, Decode, Job, KvSwap, Training, Weights
from ..workload.traces import read_gpu
from ..workload.traces.records import GPU_D2H, GPU_H2D, GPU_WORK, Records
from .points import DataSet, Point

FOLDER: Final = "traces/gpu"
JOBS: Final[Mapping[str, Job]] = {
    "train_resnet50": Training(),
    "llm_decode": Decode(),
    "kv_swap": KvSwap(),
    # Of another program (bench/gpu/record_jobs.py): how many kernels there are is given.
    "training": Training(kernels=791),
    "offload": Training(kernels=782, offload_bytes=sum(RESNET50), pieces=len(RESNET50)),
    "checkpoint_async": Checkpoint(kernels=791, interval=5),
    "weights_streams": Weights(kernels=11),
}
# Equal to rounding.
BAR_PCT: Final = 1e-9

# Numbers that defaults took from the recordings: of training sizes of 3 copies and 2 counts of kernels, of
# decoding 2 sizes, tokens and 2 counts of kernels, of swapping blocks and their size; and the numbers above.
_TAKEN: Final = 17

_DIRECTIONS: Final = {GPU_H2D: "h2d", GPU_D2H: "d2h"}


def compare(data: Path) -> DataSet:
    """Compare the recordings in a folder of reference data, those that are there. Raises FormatError."""
    points: list[Point] = []
    missed: list[str] = []
    skipped: dict[str, int] = {}
    for path in sorted((data / FOLDER).glob("*.csv.gz")):
        name = path.name.removesuffix(".csv.gz")
        job = JOBS.get(re.sub(r"_[a-z]\d+$", "", name))
        if job is None:
            skipped[f"{name} recording"] = 1
            continue
        found, wrong = compare_recording(name, job, read_gpu(path))
        points += found
        missed += wrong
    return DataSet(
        "gpu_jobs",
        "GPU: copies and launches of generated jobs, per iteration and stream (recordings of PyTorch)",
        "per iteration",
        "iteration",
        BAR_PCT,
        BAR_PCT,
        free_parameters=_TAKEN,
        points=points,
        missed=missed,
        not_modelled=skipped,
    )


def compare_recording(name: str, job: Job, recorded: Records) -> tuple[list[Point], list[str]]:
    """Return the points of one recording, and what else differs, a sentence each."""
    cycle = job.cycle().records
    copies = int(np.count_nonzero(cycle["kind"] != GPU_WORK))
    iterations, over = divmod(int(np.count_nonzero(recorded["kind"] != GPU_WORK)), copies)
    if over or not iterations:
        return [], [f"{name}: {iterations * copies + over} copies; expected a multiple of {copies}"]
    # Streams overlap the next cycle at most.
    generated = np.concatenate(list(job.batches((iterations + 1) * len(cycle))))
    theirs = _streams(recorded)
    ours = [
        s[: iterations * np.count_nonzero(cycle["stream"] == s["stream"][0])] for s in _streams(generated)
    ]
    if len(theirs) != len(ours):
        return [], [f"{name}: {len(theirs)} streams recorded, {len(ours)} generated; expected as many"]
    points: list[Point] = []
    missed: list[str] = []
    for stream, (measured, modelled) in enumerate(zip(theirs, ours, strict=True)):
        points += _points(f"{name} stream {stream}", iterations, measured, modelled, missed)
        missed += _order(f"{name} stream {stream}", measured, modelled)
    return points, missed


def _streams(records: Records) -> list[Records]:
    """Return the records of each stream that has copies, in the order of their first copies."""
    numbers = records["stream"][records["kind"] != GPU_WORK]
    first = np.unique(numbers, return_index=True)
    return [records[records["stream"] == number] for number in first[0][np.argsort(first[1])]]


def _points(
    place: str, iterations: int, measured: Records, modelled: Records, missed: list[str]
) -> Iterator[Point]:
    """Yield copies, bytes and launches per iteration. Modified: missed, by what was not recorded at all."""
    for at in range(iterations):
        theirs, ours = (_counts(_iteration(records, at, iterations)) for records in (measured, modelled))
        for what, value in theirs.items():
            if value:
                words = f"{place} iteration {at} {what}"
                # The numbers of the defaults are those of the first iterations.
                yield Point(words, f"{place} {what}", at + 1, value, ours[what], fitted=at == 0)
            elif ours[what]:
                missed.append(f"{place} iteration {at}: no {what}, generated {ours[what]}")


def _iteration(records: Records, at: int, iterations: int) -> Records:
    """Return what stands from the first copy of an iteration to that of the next.

    All iterations have as many copies of a stream.
    """
    copies = np.flatnonzero(records["kind"] != GPU_WORK)
    each = len(copies) // iterations
    end = len(records) if at + 1 == iterations else int(copies[(at + 1) * each])
    return records[int(copies[at * each]) : end]


def _counts(records: Records) -> dict[str, int]:
    found = {"launches": int(np.count_nonzero(records["kind"] == GPU_WORK))}
    for kind, name in _DIRECTIONS.items():
        mine = records[records["kind"] == kind]
        found[f"{name} copies"] = len(mine)
        found[f"{name} bytes"] = int(mine["bytes"].sum())
    return found


def _order(place: str, measured: Records, modelled: Records) -> Iterator[str]:
    """Yield where kinds and sizes of a stream's records first differ."""
    # Work on the device has bytes in recordings (copies within it) and none in jobs: they move over no link.
    theirs, ours = (
        [(int(r["kind"]), int(r["bytes"]) if r["kind"] != GPU_WORK else 0) for r in records]
        for records in (measured, modelled)
    )
    for i, (one, other) in enumerate(zip(theirs, ours, strict=False)):
        if one != other:
            yield f"{place}: record {i} is {_said(one)}, generated {_said(other)}"
            return
    if len(theirs) != len(ours):
        yield f"{place}: {len(theirs)} records, {len(ours)} generated"


def _said(record: tuple[int, int]) -> str:
    kind, size = record
    return f"{_DIRECTIONS[kind]} of {size} B" if kind in _DIRECTIONS else "a launch"
