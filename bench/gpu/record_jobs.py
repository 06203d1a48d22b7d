"""Record what PyTorch jobs do on one GPU and its link, as CSV that `sevpcie compare --trace` reads.

    python3 bench/gpu/record_jobs.py FOLDER [JOB ...]

Per job FOLDER/NAME.csv.gz: `t_us,dur_us,event,name,bytes,stream,called_us`, a row per copy, kernel and memory
set (`memcpy`, `kernel`, `memset`), by start; the last column is when the call returned that asked for it. In
`jobs.txt` stands what ran on what, and how long each job took with the profiler and without it. All of them
take about a minute.

Needs PyTorch with CUDA; `torchvision` for the jobs of ResNet-50, `transformers` and `accelerate` for theirs.
A job that cannot run says so and is passed over.
"""

import csv
import gzip
import io
import json
import math
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

GPU = torch.device("cuda")
EVENTS = {"gpu_memcpy": "memcpy", "kernel": "kernel", "gpu_memset": "memset"}
CALLS = ("cuda_runtime", "cuda_driver")
# Of names of kernels, which are long.
NAME_LETTERS = 40
# Layers of GPT-2 medium (Radford et al., 2019): 24 of 1,024 wide, 16 heads.
LAYERS, WIDE, HEADS = 24, 1024, 16
BATCH, PROMPT = 8, 128

Job = Callable[[], Callable[[], None]]
JOBS: dict[str, Job] = {}


def job(make: Job) -> Job:
    """Keep what sets a job up and returns its body, which is run twice: once to warm up, once recorded."""
    JOBS[make.__name__] = make
    return make


class _Training:
    """ResNet-50, 64 images a step from pinned memory, the loss to pinned memory."""

    def __init__(self) -> None:
        import torchvision

        self.model = torchvision.models.resnet50().to(GPU)
        self._optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        self._images = torch.randint(0, 256, (64, 3, 224, 224), dtype=torch.uint8).pin_memory()
        self._labels = torch.randint(0, 1000, (64,)).pin_memory()
        self._loss = torch.zeros((), pin_memory=True)

    def step(self, before_update: Callable[[], None] = lambda: None, update: bool = True) -> None:
        images = self._images.to(GPU, non_blocking=True).float().div_(255)
        labels = self._labels.to(GPU, non_blocking=True)
        loss = functional.cross_entropy(self.model(images), labels)
        self._optimizer.zero_grad()
        loss.backward()
        before_update()
        if update:
            self._optimizer.step()
        self._loss.copy_(loss.detach(), non_blocking=True)
        torch.cuda.current_stream().synchronize()


@job
def training() -> Callable[[], None]:
    """Twelve steps."""
    net = _Training()

    def body() -> None:
        for _ in range(12):
            net.step()

    return body


@job
def offload() -> Callable[[], None]:
    """Six steps; behind each, gradients to pinned memory, an update by the CPU, and the weights back."""
    net = _Training()
    weights = [p.detach() for p in net.model.parameters()]
    there = [w.cpu().pin_memory() for w in weights]
    gradients = [torch.zeros_like(w).pin_memory() for w in there]

    def body() -> None:
        for _ in range(6):
            net.step(update=False)
            for host, parameter in zip(gradients, net.model.parameters(), strict=True):
                host.copy_(parameter.grad, non_blocking=True)
            torch.cuda.current_stream().synchronize()
            torch._foreach_add_(there, gradients, alpha=-0.01)
            for weight, host in zip(weights, there, strict=True):
                weight.copy_(host, non_blocking=True)
            torch.cuda.current_stream().synchronize()

    return body


@job
def checkpoint_async() -> Callable[[], None]:
    """Three times five steps; behind each, weights to pinned memory on their own stream, beside the next."""
    net = _Training()
    weights = [p.detach() for p in net.model.parameters()]
    pinned = [torch.empty(w.shape, dtype=w.dtype, pin_memory=True) for w in weights]
    side = torch.cuda.Stream()

    def body() -> None:
        for step in range(15):
            # An update may not overwrite what is still being copied.
            net.step(lambda: torch.cuda.current_stream().wait_stream(side))
            if step % 5 == 4:
                side.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(side):
                    for host, weight in zip(pinned, weights, strict=True):
                        host.copy_(weight, non_blocking=True)
        side.synchronize()

    return body


@job
def checkpoint_save() -> Callable[[], None]:
    """Three times five steps; behind each, `torch.save` of the state: pageable memory, everything waits."""
    net = _Training()

    def body() -> None:
        for step in range(15):
            net.step()
            if step % 5 == 4:
                torch.save(net.model.state_dict(), io.BytesIO())

    return body


@job
def checkpoint_dcp() -> Callable[[], None]:
    """Three times five steps; behind each, `torch.distributed.checkpoint.async_save` of the state."""
    import torch.distributed as dist
    from torch.distributed import checkpoint

    if not dist.is_initialized():
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    net = _Training()

    def body() -> None:
        futures = []
        for step in range(15):
            net.step()
            if step % 5 == 4:
                futures.append(
                    checkpoint.async_save(net.model.state_dict(), checkpoint_id=tempfile.mkdtemp())
                )
        for future in futures:
            getattr(future, "upload_completion", future).result()

    return body


def _gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(1)
    config = GPT2Config(n_layer=LAYERS, n_embd=WIDE, n_head=HEADS, use_cache=True)
    return GPT2LMHeadModel(config).half().eval()


@job
def decode() -> Callable[[], None]:
    """Two runs: a prompt of 128 tokens for 8 sequences, then 16 tokens, each to the host and back."""
    model = _gpt2().to(GPU)
    prompt = torch.randint(0, 50257, (BATCH, PROMPT))

    @torch.inference_mode()
    def body() -> None:
        for _ in range(2):
            given, past = prompt.to(GPU), None
            for _ in range(17):
                out = model(given, past_key_values=past, use_cache=True)
                past = out.past_key_values
                given = out.logits[:, -1].argmax(-1, keepdim=True).cpu().to(GPU)

    return body


@job
def kv_swap() -> Callable[[], None]:
    """Six rounds of 192 blocks of 64 KiB out and in at the same time, pinned, on two streams."""
    blocks = 192
    here = torch.randn(2, blocks, 32768, device=GPU).half()
    there = torch.empty(2, blocks, 32768, dtype=torch.float16, pin_memory=True)
    out, back = torch.cuda.Stream(), torch.cuda.Stream()

    def body() -> None:
        for _ in range(6):
            for i in range(blocks):
                with torch.cuda.stream(out):
                    there[0, i].copy_(here[0, i], non_blocking=True)
                with torch.cuda.stream(back):
                    here[1, i].copy_(there[1, i], non_blocking=True)
            torch.cuda.synchronize()

    return body


SHAPES = (
    *((WIDE,), (WIDE,), (3 * WIDE, WIDE), (3 * WIDE,), (WIDE, WIDE), (WIDE,)),
    *((WIDE,), (WIDE,), (4 * WIDE, WIDE), (4 * WIDE,), (WIDE, 4 * WIDE), (WIDE,)),
)
LAYER = sum(math.prod(shape) for shape in SHAPES)


def _layer(x: torch.Tensor, flat: torch.Tensor) -> torch.Tensor:
    """Return what a decoder's layer makes of x[batch, tokens, WIDE]; flat : its parameters, one by one."""
    parts = flat.split([math.prod(shape) for shape in SHAPES])
    a, b, qkv, qkv_b, proj, proj_b, c, d, up, up_b, down, down_b = (
        part.view(shape) for part, shape in zip(parts, SHAPES, strict=True)
    )
    y = functional.layer_norm(x, (WIDE,), a, b)
    q, k, v = (
        t.view(*x.shape[:2], HEADS, -1).transpose(1, 2) for t in functional.linear(y, qkv, qkv_b).chunk(3, -1)
    )
    y = functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(x.shape)
    x = x + functional.linear(y, proj, proj_b)
    y = functional.layer_norm(x, (WIDE,), c, d)
    return x + functional.linear(functional.gelu(functional.linear(y, up, up_b)), down, down_b)


def _layers() -> tuple[list[torch.Tensor], list[torch.Tensor], torch.Tensor]:
    """Return weights of every layer in pinned memory, two buffers on the device, and what goes in."""
    host = [(torch.randn(LAYER) * 0.02).half().pin_memory() for _ in range(LAYERS)]
    buffers = [torch.empty(LAYER, dtype=torch.float16, device=GPU) for _ in range(2)]
    return host, buffers, torch.randn(BATCH, PROMPT, WIDE, device=GPU).half()


@job
def weights_streams() -> Callable[[], None]:
    """Three passes over 24 layers; two buffers with a stream each: a layer into it, then its kernels."""
    host, buffers, x = _layers()
    streams = [torch.cuda.Stream() for _ in range(2)]

    @torch.inference_mode()
    def body() -> None:
        done = None
        for _ in range(3):
            y = x
            for i, weights in enumerate(host):
                with torch.cuda.stream(streams[i % 2]):
                    buffers[i % 2].copy_(weights, non_blocking=True)
                    if done is not None:
                        streams[i % 2].wait_event(done)
                    y = _layer(y, buffers[i % 2])
                    done = torch.cuda.Event()
                    done.record()
        torch.cuda.synchronize()

    return body


@job
def weights_copier() -> Callable[[], None]:
    """Three passes over 24 layers; one stream copies into two buffers by turns, another computes."""
    host, buffers, x = _layers()
    copier, worker = torch.cuda.Stream(), torch.cuda.Stream()

    @torch.inference_mode()
    def body() -> None:
        free: list[torch.cuda.Event | None] = [None, None]
        for _ in range(3):
            y = x
            for i, weights in enumerate(host):
                with torch.cuda.stream(copier):
                    if (event := free[i % 2]) is not None:
                        copier.wait_event(event)
                    buffers[i % 2].copy_(weights, non_blocking=True)
                    there = torch.cuda.Event()
                    there.record()
                with torch.cuda.stream(worker):
                    worker.wait_event(there)
                    y = _layer(y, buffers[i % 2])
                    free[i % 2] = torch.cuda.Event()
                    free[i % 2].record()
        torch.cuda.synchronize()

    return body


@job
def weights_accelerate() -> Callable[[], None]:
    """GPT-2 medium under `accelerate.cpu_offload`: a prompt, three tokens; all weights go over each time."""
    from accelerate import cpu_offload

    model = cpu_offload(_gpt2(), execution_device=GPU)
    prompt = torch.randint(0, 50257, (BATCH, PROMPT))

    @torch.inference_mode()
    def body() -> None:
        given, past = prompt.to(GPU), None
        for _ in range(4):
            out = model(given, past_key_values=past, use_cache=True)
            past = out.past_key_values
            given = out.logits[:, -1].argmax(-1, keepdim=True).cpu().to(GPU)

    return body


def rows(trace: Path) -> Iterator[list[object]]:
    """Yield the rows of a Chrome trace, by start."""
    events = [e for e in json.loads(trace.read_text())["traceEvents"] if "ts" in e and "args" in e]
    found = sorted((e for e in events if e.get("cat") in EVENTS), key=lambda e: float(e["ts"]))
    calls = {
        e["args"].get("correlation"): float(e["ts"]) + float(e["dur"])
        for e in events
        if e.get("cat") in CALLS and "dur" in e
    }
    first = float(found[0]["ts"]) if found else 0.0
    for e in found:
        args = e["args"]
        called = calls.get(args.get("correlation"))
        yield [
            f"{float(e['ts']) - first:.3f}",
            f"{float(e['dur']):.3f}",
            EVENTS[e["cat"]],
            e["name"][:NAME_LETTERS],
            args.get("bytes", 0),
            args.get("stream", ""),
            "" if called is None else f"{called - first:.3f}",
        ]


def record(name: str, folder: Path) -> str:
    """Run a job: to warm up, to be timed, to be recorded. Return what there is to say."""
    body = JOBS[name]()
    took = []
    for _ in range(2):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        body()
        torch.cuda.synchronize()
        took.append(time.perf_counter() - begun)
    with tempfile.TemporaryDirectory() as scratch:
        trace = Path(scratch) / "trace.json"
        begun = time.perf_counter()
        # The profiler's own start is not in the job's time.
        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            begun = time.perf_counter()
            body()
            torch.cuda.synchronize()
            took.append(time.perf_counter() - begun)
        profiler.export_chrome_trace(str(trace))
        table = list(rows(trace))
    path = folder / f"{name}.csv.gz"
    with gzip.GzipFile(path, "wb", 9, mtime=0) as packed, io.TextIOWrapper(packed, newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["t_us", "dur_us", "event", "name", "bytes", "stream", "called_us"])
        writer.writerows(table)
    copies = sum(row[2] == "memcpy" for row in table)
    return f"{name}: {took[1]:.6f} s, profiled {took[2]:.6f} s, {len(table)} rows, {copies} copies"


def main() -> None:
    """Record all jobs, or those named."""
    if len(sys.argv) < 2 or set(sys.argv[2:]) - set(JOBS):
        sys.exit(f"usage: record_jobs.py FOLDER [JOB ...]; jobs: {' '.join(JOBS)}")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    said = [f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}"]
    print(said[0], flush=True)
    for name in sys.argv[2:] or JOBS:
        try:
            said.append(record(name, folder))
        except Exception:
            said.append(f"{name}: not recorded\n{traceback.format_exc(limit=-3)}")
        print(said[-1], flush=True)
        (folder / "jobs.txt").write_text("\n".join(said) + "\n")
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
