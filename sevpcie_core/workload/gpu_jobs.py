"""GPU jobs that people recognise, generated: the records that a recording of each would hold.

Rule: a job is a cycle of records (a training step, a run of a decoder, a round of swaps) that repeats with a
period. What it makes runs as a recording does (`gpu.generated`): one command per record, streams in order.

The times of a plan are the least that can be. A copy's duration in it is the time that it may take before
what follows it in its stream is late: 0 where the stream waits for it, more where it is made ahead. So all
that the link adds is seen where something waits for it, and only there.

Numbers come from the recordings of `presets/samples` by these rules, which tests apply to them anew:

    kernel    mean duration of the work on the device
    gap       median over the job's iterations (training: a step; decode: from token to token) of the time in
              which the device does nothing, per record
    kv-swap   gap, pause: median time from a copy's end to the next start in its stream, within a round and
              from round to round
    queued    smallest time between two records of the decoder: the device's own, when launches are queued

and from what stands beside them.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from ..errors import ConfigError
from ..units import format_time
from . import gpu
from .gpu_commands import Engine
from .program import Program
from .traces.records import GPU_D2H, GPU_DTYPE, GPU_H2D, GPU_WORK, Records

# Records per batch, about; and most per cycle, which also bounds how far back a copy of another stream waits.
_BATCH: Final = 1024
_MOST: Final = 1 << 16
# After so many, and those that are rung in ahead, every further cycle is like the last: streams overlap the
# next cycle at most.
_CYCLES: Final = 4

_NS: Final = 1000
_QUEUED_GAP: Final = 928 * _NS
_SWAP_GAP: Final = 5_503 * _NS
_DECODE_KERNEL: Final = 3_785 * _NS


def _resnet50() -> Iterator[int]:
    """Yield parameters of ResNet-50's 161 tensors (He et al., CVPR 2016, table 1), as torchvision does."""

    def convolution(inputs: int, outputs: int, side: int) -> tuple[int, int, int]:
        # Its weights, then scale and shift of the normalisation behind it.
        return inputs * outputs * side * side, outputs, outputs

    yield from convolution(3, 64, 7)
    inputs = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            yield from convolution(inputs, width, 1)
            yield from convolution(width, width, 3)
            yield from convolution(width, 4 * width, 1)
            if block == 0:
                yield from convolution(inputs, 4 * width, 1)
            inputs = 4 * width
    yield from (1000 * inputs, 1000)


# Bytes of each of them in fp32.
RESNET50: Final = tuple(4 * parameters for parameters in _resnet50())


def tensors_of(size: int, pieces: int) -> np.ndarray:
    """Return int64[pieces], bytes of what is copied in so many pieces.

    Those of ResNet-50 are its tensors, 256 B to 9.4 MB; of anything else they are as equal as can be.
    """
    if (size, pieces) == (sum(RESNET50), len(RESNET50)):
        return np.array(RESNET50)
    return np.diff(np.arange(pieces + 1) * size // pieces)


class _Line:
    """Records of one stream, each behind the last one and a gap."""

    def __init__(self, stream: int, gap_ps: int, at_ps: int = 0) -> None:
        self.at_ps = at_ps
        self._stream = stream
        self._gap_ps = gap_ps
        self._parts: list[Records] = []

    def _put(self, kind: int, sizes: np.ndarray, duration_ps: int) -> None:
        part = np.zeros(len(sizes), GPU_DTYPE)
        part["t_ps"] = self.at_ps + np.arange(len(sizes)) * (duration_ps + self._gap_ps)
        part["dur_ps"] = duration_ps
        part["kind"] = kind
        part["bytes"] = sizes
        part["stream"] = self._stream
        self._parts.append(part)
        self.at_ps += len(sizes) * (duration_ps + self._gap_ps)

    def copy(self, kind: int, size: int, pieces: int = 1, may_take_ps: int = 0) -> None:
        """Copy `size` bytes in so many pieces; nothing if there are none."""
        if size:
            self._put(kind, tensors_of(size, pieces), may_take_ps)

    def work(self, count: int, kernel_ps: int) -> None:
        """Run so many kernels."""
        self._put(GPU_WORK, np.zeros(count, np.int64), kernel_ps)

    def records(self) -> Records:
        """Return all of them."""
        return np.concatenate(self._parts) if self._parts else np.zeros(0, GPU_DTYPE)


@dataclass(frozen=True)
class Cycle:
    """What a job does over and over.

    records : GPU_DTYPE[n], ascending starts from 0; they may start after the period, beside the next cycle's.
    """

    records: Records
    period_ps: int

    @classmethod
    def of(cls, period_ps: int, *lines: _Line) -> "Cycle":
        """Merge streams."""
        records = np.concatenate([line.records() for line in lines])
        return cls(records[np.argsort(records["t_ps"], kind="stable")], period_ps)


@dataclass(frozen=True)
class Job(ABC):
    """A kind of job and its parameters. Bytes, ps."""

    @abstractmethod
    def cycle(self) -> Cycle:
        """Return its cycle."""

    @abstractmethod
    def _records(self) -> int:
        """Return how many records a cycle has."""

    def __post_init__(self) -> None:
        """Raise ConfigError for what cannot be: a number below 0, a cycle without records or of too many."""
        for field in fields(self):
            if getattr(self, field.name) < 0:
                raise ConfigError(f"{field.name}: {getattr(self, field.name)}; expected 0 or more")
        for name, size, pieces in self._cut():
            if size and not 0 < pieces <= size:
                raise ConfigError(f"{name}: {pieces} of {size} bytes; expected 1 to {size}")
        if not 0 < self._records() <= _MOST:
            raise ConfigError(f"{self._records()} copies and kernels in a cycle; expected 1 to {_MOST}")

    def _cut(self) -> Iterator[tuple[str, int, int]]:
        """Yield (name of the number, bytes, number) of pieces that something is copied in."""
        yield from ()

    def batches(self, records: int) -> Iterator[Records]:
        """Yield so many records in batches of some thousand at most, ascending starts from 0."""
        cycle = self.cycle()
        times = -(-_BATCH // len(cycle.records))
        block = np.tile(cycle.records, times)
        block["t_ps"] += np.repeat(np.arange(times) * cycle.period_ps, len(cycle.records))
        block = _ascending(block)
        period_ps = times * cycle.period_ps
        rest = np.zeros(0, GPU_DTYPE)
        start_ps = 0
        while records > 0:
            later = block.copy()
            later["t_ps"] += start_ps
            rest = _ascending(np.concatenate([rest, later])) if len(rest) else later
            start_ps += period_ps
            # What starts with the next block or after it waits for its turn.
            ready = int(np.searchsorted(rest["t_ps"], start_ps)) if cycle.period_ps else len(rest)
            for begin in range(0, min(ready, records), 2 * _BATCH):
                yield rest[begin : min(begin + 2 * _BATCH, ready, records)]
            records -= ready
            rest = rest[ready:]


def _ascending(records: Records) -> Records:
    """Return the records by their starts, equal ones as they stand."""
    t = records["t_ps"]
    return records if (t[1:] >= t[:-1]).all() else records[np.argsort(t, kind="stable")]


@dataclass(frozen=True)
class Training(Job):
    """Training: samples to the device, kernels, the loss back; optionally gradients out and weights in.

    Attributes
    ----------
    batch : samples of a step. sample_bytes, label_bytes : of each (3 x 224 x 224 pixels of a byte; int64).
    prepare : kernels between samples and labels; kernels : between labels and loss. loss_bytes : to the host.
    kernel_ps : of each kernel; gap_ps : between any two records.
    offload_bytes : gradients to the host at the end of a step, and as many bytes of weights back: the
        optimizer runs on the host. pieces : copies that each of them takes (`tensors_of`).
    """

    batch: int = 64
    sample_bytes: int = 3 * 224 * 224
    label_bytes: int = 8
    prepare: int = 2
    kernels: int = 623
    loss_bytes: int = 4
    kernel_ps: int = 22_318 * _NS
    gap_ps: int = 47_008 * _NS
    offload_bytes: int = 0
    pieces: int = 1

    def _records(self) -> int:
        sizes = (self.sample_bytes, self.label_bytes, self.loss_bytes)
        offload = 2 * self.pieces if self.offload_bytes else 0
        return self.prepare + self.kernels + sum(size > 0 for size in sizes) + offload

    def _cut(self) -> Iterator[tuple[str, int, int]]:
        yield "pieces", self.offload_bytes, self.pieces

    def _step_ps(self) -> int:
        return Training._records(self) * self.gap_ps + (self.prepare + self.kernels) * self.kernel_ps

    def step(self, line: _Line) -> None:
        """Add one step to a stream."""
        line.copy(GPU_H2D, self.batch * self.sample_bytes)
        line.work(self.prepare, self.kernel_ps)
        line.copy(GPU_H2D, self.batch * self.label_bytes)
        line.work(self.kernels, self.kernel_ps)
        line.copy(GPU_D2H, self.loss_bytes)
        line.copy(GPU_D2H, self.offload_bytes, self.pieces)
        line.copy(GPU_H2D, self.offload_bytes, self.pieces)

    def cycle(self) -> Cycle:
        """Return one step."""
        line = _Line(0, self.gap_ps)
        self.step(line)
        return Cycle.of(line.at_ps, line)


@dataclass(frozen=True)
class Checkpoint(Training):
    """Training whose weights go to the host every few steps, on a stream of their own, while it goes on.

    Attributes
    ----------
    interval : steps from one checkpoint to the next. weights_bytes : 25,557,032 parameters of ResNet-50
        (torchvision) in fp32. tensors : copies that they take (`tensors_of`), 161 of the same network.
    copy_gap_ps : between two of them, as between two blocks of kv-swap.
    """

    interval: int = 10
    weights_bytes: int = sum(RESNET50)
    tensors: int = len(RESNET50)
    copy_gap_ps: int = _SWAP_GAP

    def _records(self) -> int:
        return self.interval * super()._records() + (self.tensors if self.weights_bytes else 0)

    def _cut(self) -> Iterator[tuple[str, int, int]]:
        yield from super()._cut()
        yield "tensors", self.weights_bytes, self.tensors

    def __post_init__(self) -> None:
        """Raise ConfigError, as others do, and for a checkpoint that is not over when the next one is due."""
        super().__post_init__()
        if self.weights_bytes and self.tensors * self.copy_gap_ps > self.interval * self._step_ps():
            raise ConfigError(
                "copy_gap: the pauses of a checkpoint are longer than its interval; expected less"
            )

    def cycle(self) -> Cycle:
        """Return `interval` steps; the weights go out beside the steps that follow them."""
        line = _Line(0, self.gap_ps)
        for _ in range(self.interval):
            self.step(line)
        weights = _Line(1, self.copy_gap_ps, line.at_ps)
        weights.copy(GPU_D2H, self.weights_bytes, self.tensors)
        return Cycle.of(line.at_ps, line, weights)


@dataclass(frozen=True)
class Decode(Job):
    """Inference: a prompt in, then token by token, each sampled one to the host and back.

    Attributes
    ----------
    batch : sequences at once. prompt, tokens : of each sequence, given and decoded. token_bytes : int64.
    prompt_kernels, kernels : of the prompt, and of each token.
    kernel_ps : of each kernel; gap_ps : between any two records.
    """

    batch: int = 8
    prompt: int = 128
    tokens: int = 16
    token_bytes: int = 8
    prompt_kernels: int = 479
    kernels: int = 503
    kernel_ps: int = _DECODE_KERNEL
    gap_ps: int = 43_539 * _NS

    def _records(self) -> int:
        return 1 + self.prompt_kernels + self.tokens * (2 + self.kernels)

    def cycle(self) -> Cycle:
        """Return one run: a prompt and its tokens."""
        line = _Line(0, self.gap_ps)
        line.copy(GPU_H2D, self.batch * self.prompt * self.token_bytes)
        line.work(self.prompt_kernels, self.kernel_ps)
        for _ in range(self.tokens):
            line.copy(GPU_D2H, self.batch * self.token_bytes)
            line.copy(GPU_H2D, self.batch * self.token_bytes)
            line.work(self.kernels, self.kernel_ps)
        return Cycle.of(line.at_ps, line)


@dataclass(frozen=True)
class KvSwap(Job):
    """KV-cache blocks out and in at the same time, on two streams, in rounds.

    Attributes
    ----------
    blocks : of a round, out and in each. block_bytes : 16 tokens, 16 heads, 64 wide, fp16, keys and values.
    gap_ps : from one copy to the next of a stream; pause_ps : from one round to the next.
    """

    blocks: int = 192
    block_bytes: int = 16 * 16 * 64 * 2 * 2
    gap_ps: int = _SWAP_GAP
    pause_ps: int = 1_816_457 * _NS

    def _records(self) -> int:
        return 2 * self.blocks

    def cycle(self) -> Cycle:
        """Return one round."""
        lines = []
        for stream, kind in enumerate((GPU_D2H, GPU_H2D)):
            line = _Line(stream, self.gap_ps)
            line.copy(kind, self.blocks * self.block_bytes, self.blocks)
            lines.append(line)
        return Cycle.of(lines[0].at_ps - self.gap_ps + self.pause_ps, *lines)


@dataclass(frozen=True)
class Weights(Job):
    """Layers streamed from the host ahead of their use, into two buffers by turns.

    Each buffer has its stream: a layer into it, then the kernels that use it. A copy may take as long as the
    kernels of the other buffer's layer run before anything is late.

    Attributes
    ----------
    layer_bytes : (12 x 1024^2 + 13 x 1024) parameters of a layer of the recorded decoder (GPT-2-medium
        shape) in fp16. kernels : of a layer, 503 of a token over 24 layers.
    kernel_ps : of each kernel; gap_ps : between any two records, queued.
    """

    layer_bytes: int = 2 * (12 * 1024**2 + 13 * 1024)
    kernels: int = 20
    kernel_ps: int = _DECODE_KERNEL
    gap_ps: int = _QUEUED_GAP

    def _records(self) -> int:
        return 2 * (1 + self.kernels)

    def cycle(self) -> Cycle:
        """Return two layers, one for each buffer."""
        # Of a layer's time the copy's own gap is a part.
        busy_ps = self.kernels * (self.kernel_ps + self.gap_ps)
        lines = []
        for buffer in range(2):
            line = _Line(buffer, self.gap_ps, buffer * (busy_ps + self.gap_ps))
            line.copy(GPU_H2D, self.layer_bytes, may_take_ps=busy_ps)
            line.work(self.kernels, self.kernel_ps)
            lines.append(line)
        return Cycle.of(lines[0].at_ps, *lines)


def program(job: Job, records: int, engine: Engine) -> Program:
    """Return the program of so many records of a job.

    Host buffers are those of a cycle, and each cycle uses them again.

    Raises
    ------
    ConfigError : more records than a device can remember while commands are rung in ahead.
    """
    cycle, period_ps = job.cycle().records, job.cycle().period_ps
    cycles = _CYCLES
    if period_ps:
        # A doorbell waits for what has ended that long before.
        cycles += gpu.QUEUED_AHEAD * engine.launch_lead_ps // period_ps
    if cycles * len(cycle) > _CYCLES * _MOST:
        raise ConfigError(
            f"{len(cycle)} copies and kernels in {format_time(period_ps)}; expected longer kernels or gaps"
        )
    sizes = cycle["bytes"][cycle["kind"] != GPU_WORK]
    return gpu.generated(
        lambda: job.batches(records),
        largest=int(sizes.max(initial=1)),
        buffers=min(max(1, len(sizes)), gpu.BUFFERS),
        reach_of=cycles * len(cycle),
        engine=engine,
    )
