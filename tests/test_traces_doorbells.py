"""Doorbells of recordings: which commands they submit, and replays that ring as the driver did."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevpcie_core.errors import ConfigError, FormatError
from sevpcie_core.experiment.programs import build
from sevpcie_core.experiment.runner import Task
from sevpcie_core.experiment.scenario import Scenario, load_scheme
from sevpcie_core.validate import nvme_driver
from sevpcie_core.workload import nvme, traces
from sevpcie_core.workload.program import BEGIN, WRITE_DOWN
from sevpcie_core.workload.traces.doorbells import ENTRIES, queue_of, submitted

HEADER = "seq,time_us,phase,event,address,length,qid,cid,arg\n"
SAMPLE = Path(__file__).resolve().parent / "samples" / "qemu_nvme.log.gz"


def bell(time: int, queue: int, tail: int, phase: str = "p") -> str:
    return f"1,{time},{phase},mmio_write_sq_doorbell,{hex(0x1000 + 8 * queue)},4,{queue},,{tail}\n"


def read(time: int, queue: int, phase: str = "p", block: int = 0) -> str:
    return f"1,{time},{phase},read,{block},4096,{queue},1,8\n"


@pytest.fixture
def trace(tmp_path: Path):
    def write(text: str, name: str = "io.csv") -> Path:
        path = tmp_path / name
        path.write_text(text if name.endswith("log") else HEADER + text)
        return path

    return write


def test_commands_have_the_doorbell_that_submitted_them_and_its_time(trace) -> None:
    text = (
        bell(10, 1, 2)
        + read(11, 1)
        + bell(12, 2, 1)
        + read(13, 2)
        + read(14, 1)
        + bell(20, 1, 3)
        + read(25, 1)
    )
    path = trace(text)
    found = traces.read_nvme(path, rung=True)
    assert found.dtype == traces.NVME_RUNG_DTYPE
    assert found["queue"].tolist() == [1, 1, 2, 1]
    assert found["bell"].tolist() == [0, 0, 1, 2]
    assert (found["t_ps"] // 10**6).tolist() == [0, 0, 2, 10]
    # Without them nothing has changed.
    plain = traces.read_nvme(path)
    assert plain.dtype == traces.NVME_DTYPE
    assert (plain["t_ps"] // 10**6).tolist() == [0, 2, 3, 14]


LOG = """\
7@10.000001:pci_nvme_create_sq create submission queue, addr=0x1000, sqid=1, cqid=1, qsize=3, qflags=1
7@10.000002:pci_nvme_mmio_doorbell_sq sqid 0 new_tail 5
7@10.000010:pci_nvme_mmio_doorbell_sq sqid 1 new_tail 3
7@10.000020:pci_nvme_io_cmd cid 1 nsid 0x1 sqid 1 opc 0x2 opname 'NVME_NVM_CMD_READ'
7@10.000021:pci_nvme_read cid 1 nsid 1 nlb 1 count 512 lba 0x0
7@10.000030:pci_nvme_io_cmd cid 1 nsid 0x1 sqid 1 opc 0x7 opname 'NVME_NVM_CMD_UNKNOWN'
7@10.000040:pci_nvme_io_cmd cid 1 nsid 0x1 sqid 1 opc 0x0 opname 'NVME_NVM_CMD_FLUSH'
7@10.000050:pci_nvme_mmio_doorbell_sq sqid 1 new_tail 1
7@10.000060:pci_nvme_io_cmd cid 1 nsid 0x1 sqid 1 opc 0x1 opname 'NVME_NVM_CMD_WRITE'
7@10.000061:pci_nvme_write cid 1 opname 'NVME_NVM_CMD_WRITE' nsid 1 nlb 2 count 1024 lba 0x4
7@10.000070:pci_nvme_io_cmd cid 1 nsid 0x1 sqid 1 opc 0x2 opname 'NVME_NVM_CMD_READ'
7@10.000071:pci_nvme_read cid 1 nsid 1 nlb 1 count 512 lba 0x0
7@10.000080:pci_nvme_create_sq create submission queue, addr=0x1000, sqid=1, cqid=1, qsize=63, qflags=1
7@10.000090:pci_nvme_mmio_doorbell_sq sqid 1 new_tail 1
7@10.000091:pci_nvme_io_cmd cid 1 nsid 0x1 sqid 1 opc 0x2 opname 'NVME_NVM_CMD_READ'
7@10.000092:pci_nvme_read cid 1 nsid 1 nlb 1 count 512 lba 0x0
"""


def test_a_log_has_them_with_rings_of_their_own_length_that_are_made_anew(trace) -> None:
    found = traces.read_nvme(trace(LOG, "io.log"), rung=True)
    # The ring has four entries, so 1 after 3 is two commands. What no reader knows was submitted, too.
    assert found["bell"].tolist() == [0, 0, 1, 1, 2]
    assert found["op"].tolist() == [nvme.READ, nvme.FLUSH, nvme.WRITE, nvme.READ, nvme.READ]
    assert found["queue"].tolist() == [1] * 5
    assert (found["t_ps"] // 10**6).tolist() == [0, 0, 40, 40, 80]


def test_a_log_of_qemu_has_a_doorbell_for_each_command() -> None:
    found = traces.read_nvme(SAMPLE, rung=True)
    assert found["bell"].tolist() == list(range(25))
    plain = traces.read_nvme(SAMPLE)
    for name in ("op", "offset", "bytes", "queue"):
        assert np.array_equal(found[name], plain[name])


def test_commands_that_separate_phases_had_doorbells(trace) -> None:
    text = (
        bell(10, 1, 3, "marker")
        + read(11, 1, "marker")
        + read(12, 1)
        + read(13, 1)
        + bell(14, 1, 4)
        + read(15, 1)
    )
    found = traces.read_nvme(trace(text), rung=True)
    assert found["bell"].tolist() == [0, 0, 1]


def test_rings_wrap() -> None:
    assert [submitted(a, b) for a, b in ((0, 1), (1023, 0), (1020, 5), (7, 7))] == [1, 1, 9, 0]
    assert submitted(3, 1, 4) == 2
    assert ENTRIES == 1024
    assert [queue_of(a) for a in (0x1000, 0x1008, 0x1010)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (read(10, 1), ":2: a command of queue 1 that no doorbell submitted; expected one for each"),
        (bell(1, 1, 1) + read(2, 1) + read(3, 1), ":4: a command of queue 1 that no doorbell submitted"),
        (bell(1, 1, 1) + read(2, 2), ":3: a command of queue 2 that no doorbell submitted"),
        (bell(1, 1, 1024), ":2: tail 1024 of queue 1; expected less than its 1024 entries"),
        (
            "1,1,p,create_sq,0x1000,4096,1,,1\n" + bell(2, 1, 64),
            ":3: tail 64 of queue 1; expected less than its 64 entries",
        ),
        (bell(1, 1, 1).replace("0x1008", "zz"), ":2: address: 'zz'; expected a whole number"),
        (bell(1, 1, 1).replace(",1\n", ",x\n"), ":2: arg: 'x'; expected a whole number"),
        (
            bell(1, 1, 500) + read(2, 1) + bell(3, 1, 501) + read(4, 1),
            "499 commands of queue 1 were submitted and never taken; expected a recording from the creation",
        ),
    ],
)
def test_what_says_nothing_of_batches_is_refused(trace, text: str, said: str) -> None:
    path = trace(text)
    with pytest.raises(FormatError) as caught:
        traces.read_nvme(path, rung=True)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_malformed_is_left_out_where_that_is_asked_for(trace) -> None:
    path = trace(read(5, 1) + bell(10, 1, 1) + read(11, 1) + read(12, 1))
    bad = traces.Bad(True)
    found = traces.read_nvme(path, rung=True, bad=bad)
    assert len(found) == 1
    assert bad.count == 2
    # What lies before the first is there without that, if no more is wanted.
    path = trace(bell(10, 1, 1) + read(11, 1) + read(12, 1))
    assert len(traces.read_nvme(path, rung=True, cut=traces.Cut(limit=1))) == 1


def test_formats_without_doorbells_are_named(trace) -> None:
    path = trace("fio version 3 iolog\n0 f read 0 4096\n", "io.log")
    with pytest.raises(
        FormatError, match="fio-iolog, which has no doorbells; expected nvme-csv or qemu-nvme-log"
    ):
        traces.read_nvme(path, rung=True)
    path = trace("").parent / "plain.csv"
    path.write_text("time_us,event,address,length\n1,read,0,4096\n")
    with pytest.raises(FormatError, match="no column 'arg'"):
        traces.read_nvme(path, rung=True)


# --- replays ---

CONSTANT = ((0.0, 1_000_000), (1.0, 1_000_000))


def replayed(records: np.ndarray, **changes: object) -> np.ndarray:
    usual = {"dies": 0, "controller_ps": 0, "msi": True, "queues": 2} | changes
    program = nvme.replay(nvme.Controller(CONSTANT, CONSTANT, **usual), records, seed=1, stream=1)
    steps = np.concatenate([chunk.steps for chunk in program.chunks()])
    place = np.arange(len(steps))
    for name in ("after", "after2"):
        assert ((steps[name] >= 0) & (steps[name] <= place) & (steps[name] <= program.reach)).all()
    return steps


@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.integers(0, 1), st.sampled_from([0, 0, 1, 700])),
        min_size=1,
        max_size=300,
    )
)
def test_a_replay_rings_as_often_as_the_driver_did(batches: list[tuple[int, int, int]]) -> None:
    """Batches of so many commands, of a queue, and the time since the last."""
    counts = [count for count, _, _ in batches]
    records = np.zeros(sum(counts), traces.NVME_RUNG_DTYPE)
    records["bytes"] = 4096
    records["bell"] = np.repeat(np.arange(len(batches)), counts)
    records["queue"] = np.repeat([queue for _, queue, _ in batches], counts)
    records["t_ps"] = np.repeat(np.cumsum([gap for _, _, gap in batches]) * 1_000_000, counts)
    # Those of one time may lie in any order.
    mixed = records[np.lexsort((np.random.default_rng(1).random(len(records)), records["t_ps"]))]
    steps = replayed(mixed)
    rung = steps[(steps["kind"] == WRITE_DOWN) & (steps["address"] % 8 == 0)]
    assert [(int(a) & 0xFFF) // 8 - 1 for a in rung["address"]] == [queue for _, queue, _ in batches]
    # Behind the begin of all its commands, at their time.
    begins = np.flatnonzero(steps["flags"] & BEGIN)
    assert steps["not_before_ps"][begins].tolist() == records["t_ps"].tolist()
    at = np.flatnonzero((steps["kind"] == WRITE_DOWN) & (steps["address"] % 8 == 0))
    assert np.diff(np.searchsorted(begins, at), prepend=0).tolist() == counts


def test_batches_of_more_than_a_ring_holds_are_cut() -> None:
    records = np.zeros(20, traces.NVME_RUNG_DTYPE)
    records["bytes"] = 4096
    steps = replayed(records, entries=9)
    assert ((steps["kind"] == WRITE_DOWN) & (steps["address"] % 8 == 0)).sum() == 3


def scenario(trace: str, **traffic: object) -> Scenario:
    table = {"kind": "nvme", "trace": trace, **traffic}
    device = {"preset": {"base": "nvme-dram", "queues": 2}, "traffic": table}
    return Scenario.from_dict(
        {"name": "r", "link": "gen5x4", "workload": [{"name": "w", "device": {"ssd": device}}]}
    )


def test_a_scenario_says_so(trace) -> None:
    path = str(trace(bell(10, 1, 2) + read(11, 1) + read(14, 1) + bell(20, 1, 3) + read(25, 1)))
    each, recorded = scenario(path), scenario(path, batch="recorded")
    assert each.digest() == scenario(path, batch=1).digest() != recorded.digest()
    assert Scenario.from_dict(recorded.to_dict()).digest() == recorded.digest()
    for described, rung in ((each, 3), (recorded, 2)):
        resolved = described.resolve()
        program = build(resolved.workloads[0].devices[0], 0, 1, 0)
        steps = np.concatenate([chunk.steps for chunk in program.chunks()])
        assert ((steps["kind"] == WRITE_DOWN) & (steps["address"] % 8 == 0)).sum() == rung
        outcome = Task.prepare(resolved, resolved.workloads[0], 1).simulate(load_scheme("none"), "off")
        assert sum(c.requests for c in outcome.classes) == 3
    with pytest.raises(ConfigError, match=r"traffic.batch: 2; expected 1 or 'recorded'"):
        scenario(path, batch=2)


@pytest.mark.parametrize("run", ["nvme_A_rawfile", "nvme_B_latency2ms"])
def test_of_a_real_driver_doorbells_per_command_are_those_recorded(run: str, reference_data: Path) -> None:
    path = reference_data / nvme_driver.FOLDER / f"{run}.csv.gz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    records = traces.read_nvme(path, rung=True)
    # The driver's own command before the first phase is a record, too.
    phases = nvme_driver.phases(path).values()
    sizes = Counter(count for phase in phases for count, _ in phase.batches)
    found = Counter(np.unique(records["bell"], return_counts=True)[1].tolist())
    assert found - sizes == Counter({1: 1})
    assert not sizes - found
    steps = replayed(records)
    rung = (steps["kind"] == WRITE_DOWN) & (steps["address"] % 8 == 0)
    assert rung.sum() == sum(sizes.values()) + 1
    assert len(records) == sum(len(phase.operations) for phase in phases) + 1


def test_shadow_doorbells_are_no_recording_of_batches(reference_data: Path) -> None:
    path = reference_data / nvme_driver.FOLDER / "nvme_C_dbbuf_sgl.csv.gz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    with pytest.raises(FormatError, match="that no doorbell submitted"):
        traces.read_nvme(path, rung=True)
