"""DMA over the simulated link of cocotbext-pcie, with a clock of our own in the place of an HDL simulator.

Rule: its device, root complex, ports and scheduler run as they are; what an HDL simulator would do for them
is here, which is to call back after a time. That favours it: no HDL is simulated beside it. All that is
private to cocotb is used in `_run`; where it is not as in cocotb 2.1, `missing` says so.
"""

import heapq
import importlib.metadata
import itertools
import logging
import time
import warnings
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

PACKAGES = ("cocotbext-pcie", "cocotb")
# Of its memory that transfers go through, one after the other.
_WINDOW = 1 << 20
_OUTSTANDING = 32
# 128 << 1 and 128 << 2 bytes.
_MPS, _MRRS = 1, 2
# What `_run` and `_transfers` rest on.
_PRIVATE = {
    "cocotb._test_manager": ("TestManager",),
    "cocotb.simulator": ("register_timed_callback", "get_sim_time"),
    "cocotb.simtime": ("get_sim_time", "time_precision"),
    "cocotbext.pcie.core": ("Device", "Endpoint", "RootComplex"),
}


class Ran(NamedTuple):
    """What a run did: the transfers' TLPs and simulated time, and the time of this thread that it took."""

    tlps: int
    ps: int
    seconds: float


def missing() -> str | None:
    """Return what is missing and how to get it, or None."""
    for name in PACKAGES:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return f"{name} is not installed (pip install '.[peers]')"
    try:
        for module, names in _PRIVATE.items():
            found = importlib.import_module(module)
            for name in names:
                getattr(found, name)
    except (ImportError, AttributeError) as error:
        return f"cocotb {importlib.metadata.version('cocotb')} does not run without an HDL simulator: {error}"
    return None


def version() -> str:
    """Return the versions of what runs."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)


class _Callback:
    """A timer that can be taken back."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]):
        self.call: Callable[[], None] | None = call

    def deregister(self) -> None:
        self.call = None


class _Clock:
    """What cocotb asks of a simulator: the time, and to be called back after one. In picoseconds."""

    def __init__(self) -> None:
        self.now = 0
        self.heap: list[tuple[int, int, _Callback]] = []
        self.order = itertools.count()

    def after(self, steps: int, call: Callable[[], None]) -> _Callback:
        callback = _Callback(call)
        heapq.heappush(self.heap, (self.now + steps, next(self.order), callback))
        return callback

    def time(self) -> tuple[int, int]:
        return self.now >> 32, self.now & 0xFFFF_FFFF


def _run(coroutine: Coroutine[Any, Any, Ran]) -> Ran:
    """Run what would be a test of cocotb, and return what it returns."""
    import cocotb.simtime
    from cocotb import simulator
    from cocotb._test_manager import TestManager

    clock = _Clock()
    found: list[Ran] = []

    async def test() -> None:
        found.append(await coroutine)

    names = {"register_timed_callback": clock.after, "get_sim_time": clock.time}
    before = {name: getattr(simulator, name) for name in names}
    precision = cocotb.simtime.time_precision
    # Nobody reads its messages, and forming them would take half of its time.
    logging.disable(logging.CRITICAL)
    try:
        for name, value in names.items():
            setattr(simulator, name, value)
        cocotb.simtime.time_precision = -12
        manager = TestManager(test(), name="peers", test_complete_cb=lambda: None)
        manager.start()
        while not manager.done():
            clock.now, _, callback = heapq.heappop(clock.heap)
            if callback.call is not None:
                callback.call()
        manager.result()
    finally:
        for name, value in before.items():
            setattr(simulator, name, value)
        cocotb.simtime.time_precision = precision
        logging.disable(logging.NOTSET)
    return found[0]


async def _transfers(generation: int, lanes: int, kind: str, size: int, count: int) -> Ran:
    import cocotb
    from cocotb.simtime import get_sim_time
    from cocotbext.pcie.core import Device, Endpoint, RootComplex

    root, device = RootComplex(), Device()
    endpoint = device.append_function(Endpoint())
    root.max_payload_size = endpoint.pcie_cap.max_payload_size_supported = _MPS
    port = root.make_port().downstream_port
    for end in (device.upstream_port, port):
        end.max_link_speed, end.max_link_width = generation, lanes
    device.connect(port)
    await root.enumerate()
    endpoint.bus_master_enable = True
    endpoint.pcie_cap.max_payload_size, endpoint.pcie_cap.max_read_request_size = _MPS, _MRRS
    base = root.mem_pool.alloc_region(_WINDOW).get_absolute_address(0)
    # A sequence number for each TLP; reading none counts none.
    ends = (device.upstream_port, port)
    first = [end.next_transmit_seq for end in ends]
    places = [base + i * size % _WINDOW for i in range(count)]
    begin, began = get_sim_time("step"), time.thread_time()
    if kind == "write":
        data = bytes(size)
        for place in places:
            await endpoint.mem_write(place, data)
        # A read goes behind all of them.
        await endpoint.mem_read(base, 4)
    else:
        waiting = iter(places)

        async def slot() -> None:
            for place in waiting:
                await endpoint.mem_read(place, size)

        for task in [cocotb.start_soon(slot()) for _ in range(_OUTSTANDING)]:
            await task
    took, spent = int(get_sim_time("step") - begin), time.thread_time() - began
    tlps = sum((end.next_transmit_seq - seq) % 4096 for end, seq in zip(ends, first, strict=True))
    return Ran(tlps, took, spent)


def dma(generation: int, lanes: int, kind: str, size: int, count: int) -> Ran:
    """Run reads or writes with MPS 256 and MRRS 512: fewer than 4,096 TLPs each way."""
    with warnings.catch_warnings():
        # It uses what cocotb has deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        return _run(_transfers(generation, lanes, kind, size, count))
