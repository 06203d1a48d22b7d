"""Recordings of a Linux NVMe driver: reading them, and holding the generator against them."""

import csv
import gzip
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from sevpcie_core.errors import FormatError
from sevpcie_core.validate import nvme_driver
from sevpcie_core.validate.rows import rows
from sevpcie_core.workload import nvme

HEADER = "seq,time_us,phase,event,address,length,qid,cid,arg\n"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / nvme_driver.FOLDER).mkdir(parents=True)
    return tmp_path


def write(data: Path, body: str) -> Path:
    path = data / nvme_driver.FOLDER / "nvme_X.csv.gz"
    path.write_bytes(gzip.compress((HEADER + body).encode()))
    return path


def reads(count: int = 100, per_doorbell: int = 1, entries: int = 3, listed: int = 16) -> str:
    """Reads of so many pages each."""
    out = []
    for i in range(count):
        if i % per_doorbell == 0:
            tail = (i + per_doorbell) % 1024
            out.append(f"1,1,p,mmio_write_sq_doorbell,0x1008,4,1,,{tail}")
        out += [f"1,1,p,sqe_fetch,0x1000,64,1,{i},0", f"1,1,p,read,0,{4096 * entries},1,{i},8"]
        if listed:
            out.append(f"1,1,p,prp_list_fetch,0x1000,{listed},1,{i},2")
        out += [f"1,1,p,dma_map,{hex(4096 * (k + 1))},4096,1,{i}," for k in range(entries)]
        out.append(f"1,1,p,cqe_write,0x2000,16,1,{i},0x0")
    return "\n".join(out) + "\n"


def test_what_agrees_agrees(data: Path) -> None:
    write(data, reads(per_doorbell=4))
    found = nvme_driver.compare(data)
    assert found.ok
    assert {p.curve: p.measured for p in found.points} == {
        "data bytes": 12_288,
        "read commands": 1,
        "PRP entries": 3,
        "list fetches": 1,
        "list bytes": 16,
        "completions": 1,
        "doorbells": 0.25,
    }


@pytest.mark.parametrize(
    "body",
    [
        # One entry more than the specification has, a list where none is needed, none where one is.
        reads(listed=24),
        reads(entries=2, listed=8),
        reads(listed=0),
        # A completion is missing; a doorbell submits what nobody fetches.
        reads().replace("1,1,p,cqe_write,0x2000,16,1,7,0x0\n", ""),
        reads() + "1,1,p,mmio_write_sq_doorbell,0x1008,4,1,,101\n",
    ],
)
def test_what_does_not_is_missed(data: Path, body: str) -> None:
    write(data, body)
    assert nvme_driver.compare(data).ok is False


def test_few_commands_are_counted_and_left_out(data: Path) -> None:
    write(data, reads(99))
    found = nvme_driver.compare(data)
    assert found.ok is None
    assert found.not_modelled == {"nvme_X phases of fewer than 100 commands": 1}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("0x1008,4,1,,1\n", "zz,4,1,,1\n", ":2: address: 'zz'; expected a hexadecimal number"),
        (",read,0,12288,", ",read,0,x,", ":4: length: 'x'; expected a whole number"),
        ("seq,time_us", "seq,time", "no column 'time_us'"),
    ],
)
def test_one_line_names_what_is_wrong(data: Path, old: str, new: str, said: str) -> None:
    path = data / nvme_driver.FOLDER / "nvme_X.csv.gz"
    path.write_bytes(gzip.compress((HEADER + reads()).replace(old, new, 1).encode()))
    with pytest.raises(FormatError) as error:
        nvme_driver.compare(data)
    assert said in str(error.value)


def test_lists_of_several_pages_are_chained() -> None:
    constant = ((0.0, 0), (1.0, 0))
    control = nvme.Controller(constant, constant, 0, 0, True)
    size = 4 << 20
    steps = nvme.submitted(
        control, np.zeros(1, np.uint8), np.array([size]), np.zeros(1, np.int64), np.array([[1, 0]])
    )
    counts = nvme_driver.counted(steps, control)
    # 1,023 entries in lists: 511 and a pointer, then 512.
    assert (counts["list fetches"], counts["list bytes"]) == (2, 4096 + 4096)


def test_no_rule_of_the_number_in_flight_and_the_time_says_how_many_share_a_doorbell(
    reference_data: Path,
) -> None:
    """Phases that are equal in both differ by more than the 15 % that such a rule would have to meet."""
    shared: dict[tuple[str, str], float] = {}
    for run in ("nvme_B_latency2ms", "nvme_C_dbbuf_sgl"):
        path = reference_data / nvme_driver.FOLDER / f"{run}.csv.gz"
        if not path.is_file():
            pytest.skip(f"no {path}")
        counts: Counter[tuple[str, str]] = Counter()
        for row in rows(path, nvme_driver.COLUMNS):
            counts[row.text("phase"), row.text("event")] += 1
        for phase in ("randread_4k_qd16", "randrw70_8k_qd16"):
            shared[run, phase] = counts[phase, "cqe_write"] / counts[phase, "mmio_write_cq_doorbell"]
    # 10.4 to 11.3 in flight, 2.27 to 2.36 ms; the best rule says the middle.
    least, most = min(shared.values()), max(shared.values())
    assert (most - least) / (most + least) > 0.25


def recorded_phases(folder: Path) -> list[tuple[float, float, float]]:
    """Return in flight per queue, commands per batch, completions per doorbell, by phase."""
    found = []
    for path in sorted(folder.glob("nvme_*.summary.csv")):
        # Doorbells of run C are in memory: its batches are those of the same phases of the others.
        batches = {"batch8": 8.0, "batch16": 16.0, "fsync": 15.0} if "_C_" in path.name else None
        for line in csv.DictReader(path.read_text().splitlines()):
            name = line["phase"]
            if int(line["ios"]) < 100 or float(line["mean_inflight"] or 0) <= 1.0001:
                continue
            if batches is None:
                batch = 1 / min(float(line["sq_doorbells_per_io"]), 1.0)
            else:
                batch = next((size for word, size in batches.items() if name.endswith(word)), 1.0)
            flight = float(line["mean_inflight"]) / (2 if "2jobs" in name else 1)
            found.append((flight, batch, 1 / float(line["cq_doorbells_per_io"])))
    return found


def test_the_best_rule_of_the_page_is_as_far_off_as_it_says(reference_data: Path, root: Path) -> None:
    phases = recorded_phases(reference_data / nvme_driver.FOLDER)
    if not phases:
        pytest.skip("no summaries of the recordings")
    errors = [
        abs(max(1.28 * batch, 1 + 0.83 * max(flight - 1, 0) ** 0.54) / shared - 1)
        for flight, batch, shared in phases
    ]
    mean, within = sum(errors) / len(errors), sum(e <= 0.15 for e in errors)
    said = f"{100 * mean:.0f} % off on average, and within 15 % in {within} of {len(errors)} phases"
    assert said in " ".join((root / "docs" / "workloads.md").read_text().split())
