"""GPU jobs from CSV."""

import time

import numpy as np
import pytest

from sevpcie_core.errors import FormatError
from sevpcie_core.workload import traces

HEADER = "t_us,dur_us,event,name,bytes,stream,correlation\n"
JOB = (
    HEADER
    + "100.000,38.671,runtime,cudaMemcpyAsync,0,,15\n"
    + "136.406,177.027,memcpy,Memcpy HtoD (Pinned -> Device),9633792,7,15\n"
    + '341.05,27.296,kernel,"void at::native::kernel<4, lo",0,7,28\n'
    + "343,0.8,memcpy,Memcpy DtoH (Device -> Pageable),64,9,54\n"
    + "350,1.344,memcpy,Memcpy DtoD (Device -> Device),262144,7,60\n"
    + "360,1,memset,Memset (Device),4096,7,61\n"
)


@pytest.fixture
def trace(tmp_path):
    def write(text):
        path = tmp_path / "job.csv"
        path.write_text(text)
        return path

    return write


def test_a_job(trace):
    events = traces.read_gpu(trace(JOB))
    assert events.dtype == traces.GPU_DTYPE
    assert events["t_ps"].tolist() == [0, 204_644_000, 206_594_000, 213_594_000, 223_594_000]
    assert events["dur_ps"].tolist() == [177_027_000, 27_296_000, 800_000, 1_344_000, 1_000_000]
    kinds = [traces.GPU_H2D, traces.GPU_WORK, traces.GPU_D2H, traces.GPU_WORK, traces.GPU_WORK]
    assert events["kind"].tolist() == kinds
    assert events["bytes"].tolist() == [9633792, 0, 64, 262144, 4096]
    assert events["stream"].tolist() == [7, 7, 9, 7, 7]


def test_columns_go_by_name(trace):
    text = "bytes,name,note,event,dur_us,t_us\n"
    text += "64,memcpy hTOd,x,memcpy,1,5\n,kern,y,kernel,2,4\n0,z,,runtime,bad,\n"
    events = traces.read_gpu(trace(text))
    assert events["t_ps"].tolist() == [0, 1_000_000]
    assert events["kind"].tolist() == [traces.GPU_WORK, traces.GPU_H2D]
    # Without the column all work forms one stream.
    assert events["stream"].tolist() == [0, 0]


def test_rows_are_ordered_and_equal_times_keep_their_order(trace):
    text = HEADER + "".join(f"{t},1,kernel,k,{n},0,0\n" for n, t in enumerate([5, 3, 5, 3]))
    events = traces.read_gpu(trace(text))
    assert events["bytes"].tolist() == [1, 3, 0, 2]
    assert events["t_ps"].tolist() == [0, 0, 2_000_000, 2_000_000]


def test_rows_may_lie_in_any_order(trace):
    # Profilers list by stream or by kind.
    rows = "9000000,1,kernel,k,0,0,0\n1,2,kernel,k,0,0,0\n"
    assert traces.read_gpu(trace(HEADER + rows))["dur_ps"].tolist() == [2_000_000, 1_000_000]


def test_a_limit_takes_the_first_events(trace):
    assert traces.read_gpu(trace(JOB), cut=traces.Cut(limit=2)).size == 2
    assert traces.read_gpu(trace(JOB), cut=traces.Cut(limit=99)).size == 5


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("x,1,kernel,k,0,0,0", "t_us: 'x'; expected microseconds of 0 or more"),
        ("-1,1,kernel,k,0,0,0", "t_us: '-1'; expected microseconds"),
        ("nan,1,kernel,k,0,0,0", "t_us: 'nan'"),
        ("inf,1,kernel,k,0,0,0", "t_us: 'inf'"),
        ("1e20,1,kernel,k,0,0,0", "t_us: '1e20'"),
        (",1,kernel,k,0,0,0", "t_us: ''"),
        ("1,-2,kernel,k,0,0,0", "dur_us: '-2'; expected microseconds"),
        ("1,1,memcpy,Memcpy HtoD,-64,0,0", "bytes: '-64'; expected a whole number of 0 or more"),
        ("1,1,memcpy,Memcpy HtoD,1.5,0,0", "bytes: '1.5'; expected a whole number"),
        ("1,1,memcpy,Memcpy HtoD,99999999999999999999,0,0", "bytes: '9+'; expected"),
        ("1,1,memcpy,Memcpy HtoD,0,0,0", "bytes: '0'; expected 1 or more for a copy over the link"),
        ("1,1,memcpy,Memcpy DtoH,,0,0", "bytes: ''; expected 1 or more"),
        ("1,1,memcpy,Memcpy HtoD,0.0,0,0", "bytes: '0.0'; expected 1 or more for a copy over the link"),
        ("1,1,memcpy,Memcpy HtoD,4_096,0,0", "bytes: '4_096'; expected a whole number"),
        ("1_0,1,kernel,k,0,0,0", "t_us: '1_0'; expected microseconds"),
        (
            "1,7200000000,kernel,k,0,0,0",
            "dur_us: '7200000000'; expected microseconds of 0 or more, less than 2 h",
        ),
        ("21600000001,1,kernel,k,0,0,0", r"time: spans 6.01 h; expected at most 2 h \(cut it with limit"),
        (
            "1,1,memcpy,Memcpy HtoD,9223372036854775807,0,0",
            "bytes: '92[0-9]+'; expected at most 1099511627776",
        ),
        ("1,1,memcpy,Memcpy HtoD," + "9" * 5000 + ",0,0", "bytes: '9+'; expected at most 1099511627776"),
        ("1,1,memcpy,copy,64,0,0", "name: 'copy'; expected a copy's direction such as HtoD"),
        ("1,1,memcopy,Memcpy HtoD,64,0,0", "event: 'memcopy'; expected memcpy, kernel, memset or runtime"),
        ("1,1,kernel,k,0,x,0", "stream: 'x'; expected a whole number"),
        ("1,1,kernel,k,0,4294967296,0", "stream: '4294967296'; expected at most 2147483647"),
        ("1,1,kernel,k,0,0", "6 fields; expected 7 as in the header"),
        ('1,1,kernel,"k"x,0,0,0', "expected a CSV row"),
    ],
)
def test_bad_rows_name_line_and_field(trace, row, said):
    path = trace(HEADER + "0,1,kernel,k,0,0,0\n" + row + "\n2,1,kernel,k,0,0,0\n")
    with pytest.raises(FormatError, match=said) as caught:
        traces.read_gpu(path)
    assert str(caught.value).startswith(f"{path}:3: ")


def test_a_row_is_a_line(trace):
    # So a quote that nothing ends spoils one row, not the rest of the file.
    path = trace(HEADER + '0,1,kernel,k,0,0,0\n1,1,kernel,"two\nlines",0,0,0\n\n2,1,kernel,k,0,0,0\n')
    with pytest.raises(FormatError, match=r"job.csv:3: unexpected end of data; expected a CSV row"):
        traces.read_gpu(path)
    bad = traces.Bad(skip=True)
    assert traces.read_gpu(path, bad=bad)["t_ps"].tolist() == [0, 2_000_000]
    assert [message.split(": ")[0].split(":")[-1] for message in bad.examples] == ["3", "4"]


def test_clocks_of_any_start(trace):
    rows = "1700000000000000.125,1,kernel,k,0,0,0\n1700000000000001.25,1,kernel,k,0,0,0\n"
    assert traces.read_gpu(trace(HEADER + rows))["t_ps"].tolist() == [0, 1_125_000]
    six = rows + "1700021600000000.125,1,kernel,k,0,0,0\n"
    with pytest.raises(FormatError, match=r":4: time: spans 6 h; expected at most 2 h \(cut it with limit"):
        traces.read_gpu(trace(HEADER + six))
    assert traces.read_gpu(trace(HEADER + six), cut=traces.Cut(limit=2)).size == 2


def test_whole_numbers_that_another_program_wrote_as_floats(trace):
    events = traces.read_gpu(trace(HEADER + "0,1,memcpy,Memcpy HtoD,4096.0,7.0,1.0\n1,1,kernel,k,0.0,8.,\n"))
    assert events["bytes"].tolist() == [4096, 0]
    assert events["stream"].tolist() == [7, 8]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("t_us,event\n", ":1: header: no column 'dur_us', 'name', 'bytes'; expected t_us, dur_us, event"),
        ("t_us,dur_us,event,name,bytes,bytes\n", ":1: header: column 'bytes' twice"),
        (HEADER, "no copy, kernel or memset; expected at least one"),
        (HEADER + "0,1,runtime,x,0,,1\n", "no copy, kernel or memset"),
    ],
)
def test_files_without_a_job(trace, text, said):
    with pytest.raises(FormatError, match=said):
        traces.read_gpu(trace(text))


def test_thirty_thousand_rows_take_less_than_a_fifth_of_a_second(trace):
    rows = "".join(f"{n}.125,1.5,kernel,some_kernel_{n % 50},0,7,{n}\n" for n in range(30000))
    path = trace(HEADER + rows)
    best = np.inf
    for _ in range(3):
        start = time.perf_counter()
        assert traces.read_gpu(path).size == 30000
        best = min(best, time.perf_counter() - start)
    assert best < 0.2


@pytest.mark.parametrize(
    ("name", "copies", "total"),
    # Of the recordings' own description; copies there include those within the device.
    [("train_resnet50", 48, 118_757_424), ("llm_decode", 66, 20_480), ("kv_swap", 2304, 150_994_944)],
)
def test_full_recordings(reference_data, name, copies, total):
    path = reference_data / "traces" / "gpu" / f"{name}.csv.gz"
    if not path.exists():
        pytest.skip(f"no {path}")
    events = traces.read_gpu(path)
    assert int((events["bytes"] > 0).sum()) == copies
    assert int(events["bytes"].sum()) == total
