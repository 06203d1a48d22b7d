"""The tables of generated GPU traffic, one per job.

Rule: as in `traffic.py`, and the key `job` tells which. Keys of a program's job are its own parameters
without their units, and so are the defaults (`workload/gpu_jobs.py`). Loads and stores of threads take the
numbers of the platform that was measured.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias

from ..errors import ConfigError
from ..workload.dma import MOST, MOST_GAP
from ..workload.gpu_jobs import Checkpoint, Decode, Job, KvSwap, Training, Weights, tensors_of
from ..workload.gpu_raw import Copies, ZeroCopy
from . import resolved
from .fields import Choice, Whole
from .quantities import Load, Offered, Size, Sizes, Time
from .tables import Table

# Whose loads and stores those of a GPU here are like.
MEASURED: Final = "xeon-h100"

_Kind: TypeAlias = Annotated[Literal["gpu"], Choice(("gpu",))]
_Number: TypeAlias = Annotated[int, Whole(0, 1 << 16)]
_Some: TypeAlias = Annotated[int, Whole(1, 1 << 16)]
# Of a sample, a token: batches of them are copied at once. One alone fits a transfer over any link.
_Little: TypeAlias = Annotated[int, Size(0, 1 << 30)]
_Data: TypeAlias = Annotated[int, Size(0, 1 << 40)]
_Time: TypeAlias = Annotated[int, Time()]


# What makes a copy of which keys, and its bytes.
_Copy: TypeAlias = tuple[str, int]


class CopiesTable(Table):
    """What has copies."""

    @abstractmethod
    def _copies(self) -> Iterator[_Copy]:
        """Yield the copies that there are, of like ones the longest."""

    def too_long(self, most: int) -> tuple[str, str] | None:
        """Return the key of a copy longer than that, and what to say of it; None where there is none."""
        for made, size in self._copies():
            if size > most:
                keys = [key for key in made.split() if key in type(self).model_fields]
                said = [key for key in keys if key in self.model_fields_set]
                of = f" ({made})" if len(keys) > 1 else ""
                return (said or keys)[0], f"a copy of {size} bytes{of}; expected at most {most}"
        return None


class _JobTable(CopiesTable):
    """A program's job and its parameters."""

    model: ClassVar[type[Job]]

    def _job(self) -> Job:
        return self.model(
            **{
                field.name: getattr(self, field.name.removesuffix("_bytes").removesuffix("_ps"))
                for field in fields(self.model)
            }
        )

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield what the job says of its parameters together."""
        try:
            self._job()
        except ConfigError as error:
            key, _, tail = str(error).partition(": ")
            yield (key, tail) if key in type(self).model_fields else ("job", str(error))

    def build(self, trace: resolved.TraceFile | None) -> resolved.GpuJobTraffic:
        """Return the frozen traffic."""
        return resolved.GpuJobTraffic(str(self.model_dump()["job"]), self._job())


def _of_a_step(said: "GpuTraining | GpuCheckpoint") -> Iterator[_Copy]:
    yield "batch x sample", said.batch * said.sample
    yield "batch x label", said.batch * said.label
    yield "offload / pieces", int(tensors_of(said.offload, said.pieces).max())


class GpuTraining(_JobTable):
    """Training: samples in, kernels, loss out; optionally gradients out and weights in."""

    model = Training
    kind: _Kind
    job: Annotated[Literal["training"], Choice(("training",))]
    batch: _Some = Training.batch
    sample: _Little = Training.sample_bytes
    label: _Little = Training.label_bytes
    prepare: _Number = Training.prepare
    kernels: _Number = Training.kernels
    loss: _Little = Training.loss_bytes
    kernel: _Time = Training.kernel_ps
    gap: _Time = Training.gap_ps
    offload: _Data = Training.offload_bytes
    pieces: _Some = Training.pieces

    def _copies(self) -> Iterator[_Copy]:
        return _of_a_step(self)


class GpuCheckpoint(_JobTable):
    """Training that goes on while its weights go to the host every few steps."""

    model = Checkpoint
    kind: _Kind
    job: Annotated[Literal["checkpoint"], Choice(("checkpoint",))]
    batch: _Some = Checkpoint.batch
    sample: _Little = Checkpoint.sample_bytes
    label: _Little = Checkpoint.label_bytes
    prepare: _Number = Checkpoint.prepare
    kernels: _Number = Checkpoint.kernels
    loss: _Little = Checkpoint.loss_bytes
    kernel: _Time = Checkpoint.kernel_ps
    gap: _Time = Checkpoint.gap_ps
    offload: _Data = Checkpoint.offload_bytes
    pieces: _Some = Checkpoint.pieces
    interval: _Some = Checkpoint.interval
    weights: _Data = Checkpoint.weights_bytes
    tensors: _Some = Checkpoint.tensors
    copy_gap: _Time = Checkpoint.copy_gap_ps

    def _copies(self) -> Iterator[_Copy]:
        yield from _of_a_step(self)
        yield "weights / tensors", int(tensors_of(self.weights, self.tensors).max())


class GpuDecode(_JobTable):
    """Inference: a prompt in, then token by token, each out and in again."""

    model = Decode
    kind: _Kind
    job: Annotated[Literal["decode"], Choice(("decode",))]
    batch: _Some = Decode.batch
    prompt: _Some = Decode.prompt
    tokens: _Number = Decode.tokens
    token: _Little = Decode.token_bytes
    prompt_kernels: _Number = Decode.prompt_kernels
    kernels: _Number = Decode.kernels
    kernel: _Time = Decode.kernel_ps
    gap: _Time = Decode.gap_ps

    def _copies(self) -> Iterator[_Copy]:
        yield "batch x prompt x token", self.batch * self.prompt * self.token
        yield "batch x token", self.batch * self.token


class GpuKvSwap(_JobTable):
    """KV-cache blocks out and in on two streams."""

    model = KvSwap
    kind: _Kind
    job: Annotated[Literal["kv-swap"], Choice(("kv-swap",))]
    blocks: _Some = KvSwap.blocks
    block: Annotated[int, Size(1, 1 << 40)] = KvSwap.block_bytes
    gap: _Time = KvSwap.gap_ps
    pause: _Time = KvSwap.pause_ps

    def _copies(self) -> Iterator[_Copy]:
        yield "block", self.block


class GpuWeights(_JobTable):
    """Layers streamed from the host ahead of their use."""

    model = Weights
    kind: _Kind
    job: Annotated[Literal["weights"], Choice(("weights",))]
    layer: Annotated[int, Size(1, 1 << 40)] = Weights.layer_bytes
    kernels: _Number = Weights.kernels
    kernel: _Time = Weights.kernel_ps
    gap: _Time = Weights.gap_ps

    def _copies(self) -> Iterator[_Copy]:
        yield "layer", self.layer


class GpuZeroCopy(Table):
    """Loads and stores of threads straight over the link."""

    kind: _Kind
    job: Annotated[Literal["zero-copy"], Choice(("zero-copy",))]
    access: Annotated[Literal["load", "store", "both"], Choice(("load", "store", "both"))] = "load"
    size: Annotated[int, Size(1, 4096)] = 32
    concurrency: Annotated[int, Whole(1, 1 << 17)] = 2048
    pattern: Annotated[Literal["random", "sequential"], Choice(("random", "sequential"))] = "sequential"
    window: Annotated[int, Size(4096, MOST)] = 256 << 20
    inside: _Time = 636_000
    rate: Annotated[Offered | None, Load()] = None

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield a rate that is too low to draw gaps from."""
        yield from super().problems()
        if self.rate is not None and (gap := self._accesses().gap) > MOST_GAP:
            of_data = f" of {self._accesses().moved()} B" if self.rate.bps else ""
            found = f"{Load().text(self.rate)!r} is {1024e12 / gap:.3g} accesses{of_data} per second"
            yield "rate", f"{found}; expected 1000 or more"

    def build(self, trace: resolved.TraceFile | None) -> resolved.GpuZeroCopyTraffic:
        """Return the frozen traffic."""
        return resolved.GpuZeroCopyTraffic(self._accesses())

    def _accesses(self) -> ZeroCopy:
        from .platforms import load_platform

        device = load_platform(MEASURED).table.device
        closed = ZeroCopy(
            access=self.access,
            size=self.size,
            concurrency=self.concurrency,
            pattern=self.pattern,
            window=self.window,
            read_issue_ps=device.read_issue,
            write_issue_ps=device.write_issue,
            read_setup_ps=device.read_setup,
            write_setup_ps=device.write_setup,
            inside_ps=self.inside,
        )
        if self.rate is None:
            return closed
        # In 1/1024 ps.
        second = 10**12 << 10
        bps, ops = self.rate
        return replace(closed, gap=second // ops if ops else second * 8 * closed.moved() // bps)


class GpuCopies(CopiesTable):
    """Copies of one size or of several by turns, back to back."""

    kind: _Kind
    job: Annotated[Literal["copies"], Choice(("copies",))]
    direction: Annotated[Literal["h2d", "d2h", "both"], Choice(("h2d", "d2h", "both"))]
    size: Annotated[tuple[int, ...], Sizes(1, 1 << 40)] = (1 << 20,)
    queue_depth: Annotated[int, Whole(1, 512)] = 2

    def _copies(self) -> Iterator[_Copy]:
        yield "size", max(self.size)

    def build(self, trace: resolved.TraceFile | None) -> resolved.GpuCopiesTraffic:
        """Return the frozen traffic."""
        return resolved.GpuCopiesTraffic(Copies(self.direction, self.size, self.queue_depth))


class GpuIdle(Table):
    """Nothing: a GPU whose memory other devices read and write."""

    kind: _Kind
    job: Annotated[Literal["idle"], Choice(("idle",))]

    def build(self, trace: resolved.TraceFile | None) -> resolved.GpuIdleTraffic:
        """Return the frozen traffic."""
        return resolved.GpuIdleTraffic()


JOBS: Final = ("training", "decode", "kv-swap", "weights", "checkpoint", "zero-copy", "copies", "idle")
"""What the key `job` may be."""


def job_of(data: Mapping[str, Any] | object) -> str | None:
    """Return the job that a table of GPU traffic names, None for none of JOBS."""
    job = data.get("job") if isinstance(data, Mapping) else getattr(data, "job", None)
    return job if isinstance(job, str) and job in JOBS else None
