"""Generated frames against captures: sizes and gaps, as `workload show --against` tells them.

Rule: the scenario and the table stand in docs/workloads.md, and the numbers come from the command.
"""

import json
import re
from pathlib import Path

import pytest

from sevpcie_core.experiment.against import document

CAPTURES = ("sample:redis", "redis_benchmark", "nginx_small", "iperf3_udp")
MIXES = ("own", "imix", "bimodal")
# Of 15 frames, which are the connection that controls the test.
LEFT_OUT = ("iperf3_udp", "tx")


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    """Return the page that has the table."""
    return (root / "docs" / "workloads.md").read_text()


@pytest.mark.parametrize("name", CAPTURES)
def test_sizes_of_a_capture_come_close_and_mixes_do_not(
    name: str, page: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    capture = name
    if not name.startswith("sample:"):
        folder: Path = request.getfixturevalue("reference_data")
        path = folder / "traces" / "nic" / f"{name}.pcap.gz"
        if not path.is_file():
            pytest.skip(f"no {path.name}")
        capture = str(path)
    (text,) = re.findall(r'^```toml\n(name = "captures"\n.*?)^```', page, re.MULTILINE | re.DOTALL)
    assert text.count('sizes_of = "sample:redis"') == 1
    scenario = tmp_path / "captures.toml"
    scenario.write_text(text.replace("sample:redis", capture))
    found = document(str(scenario), capture)
    pairs = {pair["one"]["name"].rsplit("/", 1)[-1]: pair for pair in found["pairs"]}
    assert tuple(pairs) == MIXES
    for way in ("rx", "tx"):
        if (name, way) == LEFT_OUT:
            continue
        mine = {mix: next(c for c in pairs[mix]["classes"] if c["class"] == way) for mix in MIXES}
        sizes = {mix: told["sizes"]["distance"] for mix, told in mine.items()}
        # Draws of the capture's own sizes are a sample of it.
        assert sizes["own"]["ks"] < sizes["own"]["ks_limit"]
        assert sizes["own"]["total_variation"] < 0.02
        # Mixes are of the Internet and of other data centres: no frame of these captures has their sizes.
        for mix in ("imix", "bimodal"):
            assert sizes[mix]["total_variation"] > 0.9
            assert sizes[mix]["ks"] > 0.2
        # Arrivals at random vary otherwise than those of the capture, whatever the rate.
        gaps = mine["own"]["gaps"]["over_mean"]
        assert gaps["ks"] > gaps["ks_limit"]
        cells = [f"{sizes[mix][key]:.3f}" for mix in MIXES for key in ("total_variation", "ks")]
        limit, frames = sizes["own"]["ks_limit"], mine["own"]["operations"]["other"]
        row = [f"{name} {way}", f"{frames:,}", f"{limit:.3f}", *cells, f"{gaps['ks']:.3f}"]
        line = f"| {' | '.join(row)} |"
        print(line)
        assert line in page
    assert json.dumps(found)
