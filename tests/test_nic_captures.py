"""Generated frames against captures: sizes and gaps, by two-sample statistics."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from sevpcie_core.experiment import presets
from sevpcie_core.spec import BUFFER_DATA
from sevpcie_core.stats.twosample import ks_distance, ks_limit, total_variation
from sevpcie_core.workload import nic, traces
from sevpcie_core.workload.program import BEGIN, DELAY

# The device of the figures: each direction is spaced to its line, as the captures are of a loopback.
LINE = 100 * 10**9
FRAMES = 20_000
WAYS = {"rx": traces.NIC_RX, "tx": traces.NIC_TX}
CAPTURES = ("redis_benchmark", "nginx_small", "iperf3_udp")
CASES = [
    ("sample:redis", "rx"),
    ("sample:redis", "tx"),
    *((name, way) for name in CAPTURES for way in WAYS if (name, way) != ("iperf3_udp", "tx")),
]


@lru_cache(maxsize=4)
def read(path: Path) -> np.ndarray:
    return traces.read_nic(path)


@pytest.fixture
def captured(request: pytest.FixtureRequest) -> Callable[[str, str], np.ndarray]:
    """Return `captured(name, way)`: the frames of one direction, spaced to the line."""

    def load(name: str, way: str) -> np.ndarray:
        if name.startswith("sample:"):
            path = presets.sample(name.removeprefix("sample:"))
        else:
            folder: Path = request.getfixturevalue("reference_data")
            path = folder / "traces" / "nic" / f"{name}.pcap.gz"
            if not path.is_file():
                pytest.skip(f"no {path.name}")
        frames = read(path)
        mine = frames[frames["direction"] == WAYS[way]]
        mine["t_ps"] = traces.pace_line(mine["t_ps"] - mine["t_ps"][0], mine["bytes"], LINE)
        return mine

    return load


def generated(sizes: tuple[tuple[int, int], ...], rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Return sizes and gaps of frames of the generator at a mean rate."""
    load = nic.Load({nic.RX: sizes}, rate, LINE)
    program = nic.open_loop(nic.Adapter(), load, requests=FRAMES, seed=1, stream=0)
    steps = np.concatenate([chunk.steps for chunk in program.chunks()])
    data = steps["bytes"][(steps["buffer"] == BUFFER_DATA) & (steps["kind"] != DELAY)]
    starts = steps["not_before_ps"][(steps["flags"] & BEGIN) > 0]
    return data, np.diff(starts)


def figures(frames: np.ndarray) -> dict[str, float]:
    """Return the distances of a capture to what the generator makes of it."""
    span = int(frames["t_ps"][-1] - frames["t_ps"][0])
    bits = int((frames["bytes"] + 24).sum()) * 8
    rate = bits * 10**12 // span
    own, gaps = generated(nic.sizes_of(frames), rate)
    found = {
        "own": total_variation(own, frames["bytes"]),
        "own, KS": ks_distance(own, frames["bytes"]),
        "gaps, KS": ks_distance(gaps, np.diff(frames["t_ps"])),
    }
    for name, mix in (("IMIX", nic.IMIX), ("bimodal", nic.BIMODAL)):
        sizes, _ = generated(mix, rate)
        found[name] = total_variation(sizes, frames["bytes"])
        found[f"{name}, KS"] = ks_distance(sizes, frames["bytes"])
    return found


@pytest.mark.parametrize(("name", "way"), CASES)
def test_sizes_of_a_capture_come_close_and_mixes_do_not(
    name: str, way: str, captured: Callable[[str, str], np.ndarray], root: Path
) -> None:
    frames = captured(name, way)
    found = figures(frames)
    print(name, way, {key: round(value, 3) for key, value in found.items()})
    # Draws of the capture's own sizes are a sample of it.
    assert found["own, KS"] < ks_limit(FRAMES, len(frames))
    assert found["own"] < 0.02
    # Mixes are of the Internet and of other data centres: no frame of these captures has their sizes.
    for mix in ("IMIX", "bimodal"):
        assert found[mix] > 0.9
        assert found[f"{mix}, KS"] > 0.2
    # Arrivals at random have the mean of the capture and not its bursts.
    assert found["gaps, KS"] > ks_limit(FRAMES, len(frames))
    cells = ("own", "own, KS", "IMIX", "IMIX, KS", "bimodal", "bimodal, KS", "gaps, KS")
    line = f"| {name} {way} | {len(frames):,} | " + " | ".join(f"{found[c]:.3f}" for c in cells) + " |"
    assert line in (root / "docs" / "workloads.md").read_text()
