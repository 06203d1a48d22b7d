"""NICs of the published model: from the steps of shipped devices, with and without what it forgets."""

from dataclasses import replace
from pathlib import Path

import pytest
from oracles import pcie_model_nic_naive

from sevpcie_core.errors import FormatError
from sevpcie_core.link.analytic import pcie_model_rate
from sevpcie_core.validate import pcie_model_nic

NAMES = tuple(pcie_model_nic.DEVICES)
WAYS = tuple(pcie_model_nic.WAYS)
HEADER = ["gen", "lanes", "pcie_payload_B", *(f"{name}_{way}_gbps" for name in NAMES for way in WAYS)]
RATE = pcie_model_rate(3, 8, 256)


@pytest.fixture
def data(tmp_path):
    """Return `data(size, scale)`, which writes a folder with a row as the published table has them."""

    def write(size: object, scale: float = 1.0) -> Path:
        curves = [
            repr(scale * pcie_model_nic_naive.gbps(name, way, 508, False, RATE))
            for name in NAMES
            for way in WAYS
        ]
        folder = tmp_path / "pcie-model"
        folder.mkdir(exist_ok=True)
        lines = [HEADER, ["gen3", "x8", str(size), *curves]]
        (folder / "nic_bw.csv").write_text("".join(",".join(line) + "\n" for line in lines))
        return tmp_path

    return write


def test_the_published_curves_are_reproduced(reference_data):
    found = pcie_model_nic.compare(reference_data)
    assert len(found.points) == 9 * 1437
    assert found.ok
    assert found.max_abs_error_pct < 1e-9


@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", NAMES)
def test_the_steps_are_the_published_sums(name, way, corrected):
    for size in (60, 61, 128, 256, 257, 512, 513, 1024, 1025, 1514):
        ours = pcie_model_nic.gbps(name, way, size, 3, 8, corrected)
        assert ours == pytest.approx(pcie_model_nic_naive.gbps(name, way, size, corrected, RATE), rel=1e-12)


def test_one_row(data):
    assert pcie_model_nic.compare(data(508)).ok
    assert pcie_model_nic.compare(data(508, scale=1.00001)).ok is False
    assert pcie_model_nic.compare(data("508.0").parent / "absent").ok is None


def test_one_register_read_more_would_show(data, monkeypatch):
    folder = data(508)
    real = pcie_model_nic.adapter

    def changed(device):
        made = real(device)
        return replace(made, rx=replace(made.rx, status=1))

    pcie_model_nic.of_device.cache_clear()
    monkeypatch.setattr(pcie_model_nic, "adapter", changed)
    try:
        assert pcie_model_nic.compare(folder).ok is False
    finally:
        pcie_model_nic.of_device.cache_clear()


def test_a_broken_cell_is_named(data):
    with pytest.raises(FormatError, match=r"nic_bw.csv:2: pcie_payload_B: 'many'; expected a whole number"):
        pcie_model_nic.compare(data("many"))


def test_the_page_shows_both(root):
    """The table of docs/validation.md: as published, and with the request of the descriptor read."""
    page = (root / "docs" / "validation.md").read_text()
    for name in NAMES:
        for way in ("rx", "bidir"):
            cells = []
            for size in (60, 252, 508, 1495):
                pair = (pcie_model_nic.gbps(name, way, size, 3, 8, c) for c in (False, True))
                cells.append(" / ".join(f"{value:.2f}" for value in pair))
            assert f"| {name}, {way} | {' | '.join(cells)} |" in page
