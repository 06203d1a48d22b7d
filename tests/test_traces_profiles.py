"""Exports of profilers: Chrome traces of PyTorch, SQLite files of Nsight Systems."""

import gzip
import json
import sqlite3
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracles import captures_naive

from sevpcie_core.errors import FormatError
from sevpcie_core.workload import traces
from sevpcie_core.workload.traces import GPU_D2H, GPU_H2D, GPU_WORK, Bad, Cut, json_scan, kineto_json

SAMPLES = Path(__file__).parent / "samples"


@pytest.fixture
def trace(tmp_path):
    def write(text, name="trace"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def event(
    ts,
    dur="1.5",
    cat="gpu_memcpy",
    name="Memcpy HtoD (Pinned -> Device)",
    stream=7,
    size=4096,
    ph="X",
    device=None,
):
    arguments = f'"stream": {stream}' + (f', "bytes": {size}' if size is not None else "")
    arguments += f', "device": {device}' if device is not None else ""
    return (
        f'{{"ph": "{ph}", "cat": "{cat}", "name": "{name}", "pid": 0, "tid": 7, "ts": {ts}, "dur": {dur}, '
        f'"args": {{"External id": 5, {arguments}, "deep": [[{{"a": [1e-3, null, "]"]}}], true]}}}}'
    )


CPU = '{"ph": "X", "cat": "cpu_op", "name": "a\\"}{", "ts": 1, "dur": 2, "args": {"Call stack": "x\\\\"}}'


def document(*events):
    return (
        '{"schemaVersion": 1, "deviceProperties": [{"id": 0}], "traceEvents": [\n'
        + ",\n".join(events)
        + "\n]}"
    )


def test_a_job(trace):
    text = document(
        CPU,
        event("4529365640889.802"),
        event("4529365640890.8025", "0.8", name="Memcpy DtoH (Device -> Pageable)", stream=9),
        event("4529365640891", "2", "kernel", "void k<4, lo>", 7, None),
        event("4529365640892", "2", "gpu_memset", "Memset (Device)", 7, 64),
        event("4529365640893", "2", name="Memcpy DtoD (Device -> Device)"),
        event("4529365640893", "2", ph="i"),
        event("4529365640893", "2", "gpu_user_annotation"),
        event("4.529365640889801E+12", "2", "kernel", "\\u0041"),
        event("4529365640894", "2", "gpu_\\u006demcpy"),
    )
    events = traces.read_gpu(trace(text))
    assert events["t_ps"].tolist() == [0, 1000, 1_001_500, 1_199_000, 2_199_000, 3_199_000, 4_199_000]
    assert events["dur_ps"].tolist() == [2_000_000, 1_500_000, 800_000, *[2_000_000] * 4]
    assert events["kind"].tolist() == [GPU_WORK, GPU_H2D, GPU_D2H, GPU_WORK, GPU_WORK, GPU_WORK, GPU_H2D]
    assert events["bytes"].tolist() == [4096, 4096, 4096, 0, 64, 4096, 4096]
    assert events["stream"].tolist() == [7, 7, 9, 7, 7, 7, 7]


@pytest.mark.parametrize("key", ["ph", "cat", "name", "ts", "dur", "args", "stream", "bytes"])
def test_escapes_in_keys(trace, key):
    escaped = event(5).replace(f'"{key}"', f'"\\u{ord(key[0]):04x}{key[1:]}"')
    assert "\\u" in escaped
    events = traces.read_gpu(trace(document(event(4), escaped)))
    assert events["t_ps"].tolist() == [0, 1_000_000]
    assert events[0].tolist()[1:] == events[1].tolist()[1:]


@pytest.mark.parametrize(
    "form",
    [
        "[{}]",
        "[{}",
        "[{},",
        " [ {} , ",
        '{{"traceEvents":[{}]}}',
        '\ufeff{{"a":{{}},"traceEvents":[{}],"b":1}}',
    ],
)
def test_forms_of_the_file(trace, form):
    assert traces.read_gpu(trace(form.format(event(5)))).size == 1


@pytest.mark.parametrize("zipped", [False, True])
def test_the_same_job_as_csv(trace, zipped):
    path = SAMPLES / "kv_swap.kineto.json.gz"
    if not zipped:
        path = trace(gzip.decompress(path.read_bytes()))
    _same(traces.read_gpu(path), traces.read_gpu(SAMPLES / "kv_swap.csv.gz"), 40)


def test_the_same_recording_as_csv(reference_data):
    folder = reference_data / "traces" / "gpu"
    if not folder.exists():
        pytest.skip(f"no {folder}")
    _same(
        traces.read_gpu(folder / "kv_swap.kineto.json.gz"), traces.read_gpu(folder / "kv_swap.csv.gz"), 2304
    )


def _same(events, rows, count):
    assert events.size == rows.size == count
    for name in ("dur_ps", "kind", "bytes", "stream"):
        assert (events[name] == rows[name]).all()
    # The CSV counts from another start, rounded to a nanosecond.
    assert np.abs(events["t_ps"] - rows["t_ps"]).max() <= 1000


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (event("-1"), "ts: '-1'; expected microseconds of 0 or more"),
        (event("NaN"), "ts: 'NaN'; expected microseconds"),
        (event("null"), "ts: 'null'; expected microseconds"),
        (event("1", "-2"), "dur: '-2'; expected microseconds of 0 or more, less than 2 h"),
        (event("1", "7200000000"), "dur: '7200000000'; expected"),
        (event("1").replace('"dur"', '"duration"'), "dur: missing; expected a number"),
        (event("1", stream=-1), "args.stream: '-1'; expected a whole number"),
        (event("1", stream=2**31), "args.stream: '2147483648'; expected at most 2147483647"),
        (event("1").replace('"stream"', '"strom"'), "args.stream: missing"),
        (event("1").replace('"args"', '"arks"'), "args.stream: missing"),
        (event("1", size=0), "args.bytes: '0'; expected 1 or more for a copy over the link"),
        (event("1", size=None), "args.bytes: missing"),
        (event("1", size="9" * 5000), "args.bytes: '9+'; expected at most"),
        (event("1", name="copy"), "name: 'copy'; expected a copy's direction such as HtoD"),
        ("7", "event: '7'; expected an object"),
        (event("1", name="HtoD \\x"), "event: strings that are no JSON"),
        (event("4320000000001"), "ts: more than 50 days from the first record"),
    ],
)
def test_malformed_events_name_the_offset(trace, broken, said):
    text = document(event("0"), broken, event("2"))
    path = trace(text)
    with pytest.raises(FormatError, match=said) as caught:
        traces.read_gpu(path)
    assert str(caught.value).startswith(f"{path}: offset {text.index(chr(10) + broken) + 1}: ")
    bad = Bad(skip=True)
    assert traces.read_gpu(path, bad=bad).size == 2
    assert bad.count == 1
    assert traces.read_gpu(path, cut=Cut(limit=1)).size == 1


NEST = "[" * 100_000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (document(event(1))[:-1], "the file ends; expected"),
        (document(event(1))[:-20], "the file ends; expected complete JSON"),
        (document(event(1)) + "x", "'x'; expected nothing behind the object"),
        ("[" + event(1) + "]]", "']'; expected nothing behind the events"),
        (document(event(1), ""), "expected JSON .nested"),
        (document(event(1) + event(2)), r"'\{'; expected JSON"),
        (document(event("01")), "'0'; expected JSON"),
        (document(event("1").replace("true", "trua")), "'t'; expected JSON"),
        (document(event("1").replace("true", NEST)), r"'\['; expected JSON \(nested 60 deep at most"),
        ('{"a": ' + NEST, r"'\['; expected JSON \(nested 60 deep at most"),
        ('{"a": {}}', "JSON without traceEvents; expected a Chrome trace"),
        ("{}", "JSON without traceEvents"),
        ('{"traceEvents": 7}', "'7'; expected an array of events"),
        ('{"traceEvents": [], "traceEvents": []}', r"'\['; expected one traceEvents"),
        ("{7: 8}", "'7'; expected a key"),
        ('{"a" 8}', "'8'; expected a colon"),
        (document(), "no copy, kernel or memset; expected at least one"),
        (document(CPU), "no copy, kernel or memset"),
        ('{"a": "' + "x" * (1 << 22), "a value of 41943.. bytes or more; expected a shorter one"),
    ],
)
def test_text_that_is_no_trace(trace, text, said):
    path = trace(text)
    with pytest.raises(FormatError, match=said) as caught:
        traces.read_gpu(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_behind_broken_json_reading_ends(trace):
    bad = Bad(skip=True)
    path = trace(document(event(1), event(2), "{,}", event(3)))
    assert traces.read_gpu(path, bad=bad).size == 2
    assert bad.count == 1
    assert "expected JSON" in bad.examples[0]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


def _scan(text):
    data = np.frombuffer(text, np.uint8)
    return json_scan.value(data, 0, data.size, kineto_json._JOINED, kineto_json._WORD_AT)


@settings(max_examples=150, deadline=None)
@given(value=VALUES, indent=st.sampled_from([None, 1]), ascii=st.booleans())
def test_a_value_ends_where_it_ends(value, indent, ascii):
    text = json.dumps(value, indent=indent, ensure_ascii=ascii).encode("utf-8", "surrogatepass")
    assert _scan(text + b", ]") == len(text)
    for end in range(len(text)):
        # A number alone may end early; all else goes on.
        assert _scan(text[:end]) == json_scan.MORE


@pytest.mark.nojit
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    events=st.lists(
        st.builds(
            event,
            st.sampled_from(["0", "1.25", "7.1234565", "4e2", "1E+1"]),
            st.sampled_from(["0", "0.5", "3"]),
            st.sampled_from(["gpu_memcpy", "kernel", "gpu_memset", "Memcpy", "cpu_op", "k\\u0065rnel"]),
            st.sampled_from(["Memcpy DtoH x", "memcpy htod", "\\tDtoD", "HtoH"]),
            st.integers(0, 2**31 - 1),
            st.integers(1, 2**40),
            st.sampled_from(["X", "i"]),
        ),
        min_size=1,
        max_size=6,
    ),
    damage=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=3),
    cut=st.integers(0, 20000),
    chunk=st.integers(600, 2000),
)
def test_a_slow_reader_says_the_same(trace, events, damage, cut, chunk):
    data = bytearray(document(CPU, *events).encode())
    for at, value in damage:
        data[at % len(data)] = value
    data = bytes(data[: max(cut, 1)])
    path = trace(data)
    refusal = ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kineto_json, "_CAPACITY", chunk)
        try:
            found = list(kineto_json.batches(path, Bad()))
        except FormatError as error:
            refusal, found = str(error), []
    if not found and refusal:
        assert refusal.startswith(str(path))
        assert damage or len(data) < len(document(CPU, *events))
        return
    rows = []
    for batch in found:
        rows += zip(*(batch[name].tolist() for name in batch.dtype.names), strict=True)
    try:
        expected = captures_naive.kineto(data)
    except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError):
        # Refused for a field where the reader takes a number in quotes, or for what it leaves out.
        return
    if expected is None:
        # Strings are not looked into where they do not matter; an array may lack its end.
        assert damage or data[:1] == b"["
        return
    assert [row[1:] for row in rows] == [row[1:] for row in expected]
    if rows:
        assert [row[0] for row in rows] == [row[0] - expected[0][0] for row in expected]


def test_memory_does_not_grow(trace):
    text = document(*[event(n) for n in range(20_000)])
    path = trace(text)
    list(
        kineto_json.batches(
            path,
            Bad(),
        )
    )
    tracemalloc.start()
    for _ in kineto_json.batches(path, Bad()):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


def database(path, copies=(), kernels=(), memsets=(), skip=(), graphs=()):
    with sqlite3.connect(path) as base:
        base.execute("CREATE TABLE StringIds (id INTEGER PRIMARY KEY, value TEXT NOT NULL)")
        base.execute("CREATE TABLE CUPTI_ACTIVITY_KIND_RUNTIME (start INT, end INT, nameId INT)")
        base.execute("INSERT INTO CUPTI_ACTIVITY_KIND_RUNTIME VALUES (1, 2, 3)")
        for name, rows, columns in (
            ("MEMCPY", copies, "start, end, deviceId, streamId, bytes, copyKind"),
            ("KERNEL", kernels, "start, end, deviceId, streamId"),
            ("MEMSET", memsets, "start, end, deviceId, streamId"),
            ("GRAPH_TRACE", graphs, "start, end, deviceId, graphId, streamId"),
        ):
            if not rows:
                continue
            kept = [column for column in columns.split(", ") if column not in skip]
            base.execute(f"CREATE TABLE CUPTI_ACTIVITY_KIND_{name} ({', '.join(kept)})")
            marks = ", ".join("?" * len(kept))
            base.executemany(f"INSERT INTO CUPTI_ACTIVITY_KIND_{name} VALUES ({marks})", rows)
    base.close()
    return path


COPY = (5_000_000_100, 5_000_000_400, 0, 7, 4096, 1)


@pytest.mark.parametrize("zipped", [False, True])
def test_an_export_of_nsight_systems(tmp_path, zipped):
    kinds = [(5_000_001_000 + n, 5_000_001_000 + n, 0, 9, 64, n) for n in range(1, 14)]
    path = database(
        tmp_path / "report ?#%.sqlite",
        [COPY, *kinds],
        [(5_000_000_000, 5_000_000_050, 0, 7)],
        [(5_000_000_060, 5_000_000_070, 0, 8)],
    )
    if zipped:
        path.write_bytes(gzip.compress(path.read_bytes()))
    before = path.read_bytes()
    events = traces.read_gpu(path)
    assert events["t_ps"].tolist() == [0, 60_000, 100_000, *(1_000_000 + 1000 * n for n in range(1, 14))]
    assert events["dur_ps"].tolist() == [50_000, 10_000, 300_000, *[0] * 13]
    up, down, work = GPU_H2D, GPU_D2H, GPU_WORK
    of_kinds = [up, down, up, down, work, work, work, work, work, work, up, down, work]
    assert events["kind"].tolist() == [work, work, up, *of_kinds]
    assert events["bytes"].tolist() == [0, 0, 4096, *[64] * 13]
    assert events["stream"].tolist() == [7, 8, 7, *[9] * 13]
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert traces.read_gpu(path, cut=Cut(limit=3)).size == 3


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ((-1, 5, 0, 7, 64, 1), "start: -1; expected nanoseconds of 0 or more"),
        (("x", 5, 0, 7, 64, 1), "start: 'x'; expected nanoseconds"),
        ((7, 5, 0, 7, 64, 1), "end: 5; expected 0 to 2 h after start 7"),
        ((7, 5 * 10**15, 0, 7, 64, 1), "end: 5000000000000000; expected 0 to 2 h"),
        ((7, None, 0, 7, 64, 1), "end: None; expected"),
        ((7, 9, 0, -1, 64, 1), "streamId: -1; expected a whole number from 0 to 2147483647"),
        ((7, 9, 0, 7, 0, 2), "bytes: 0; expected a whole number from 1 to"),
        ((7, 9, 0, 7, b"\0", 8), r"bytes: b'\\x00'; expected a whole number from 0"),
        ((7, 9, 0, 7, 64, 0), "copyKind: 0; expected a number from 1 to 13"),
        ((5 * 10**18, 5 * 10**18, 0, 7, 64, 1), "start: more than 50 days from the first"),
    ],
)
def test_malformed_rows_name_table_and_column(tmp_path, row, said):
    path = database(tmp_path / "x", [COPY, row, COPY])
    with pytest.raises(FormatError, match=f"x: table CUPTI_ACTIVITY_KIND_MEMCPY, row 2: {said}"):
        traces.read_gpu(path)
    bad = Bad(skip=True)
    assert traces.read_gpu(path, bad=bad).size == 2
    assert bad.count == 1
    assert traces.read_gpu(path, cut=Cut(limit=1)).size == 1


def test_other_databases(tmp_path):
    with pytest.raises(FormatError, match=r"another program .*CUPTI_ACTIVITY_KIND_RUNTIME.*; expected CUPTI"):
        traces.read_gpu(database(tmp_path / "none"))
    with pytest.raises(FormatError, match="table CUPTI_ACTIVITY_KIND_MEMCPY: no column 'copyKind'; expected"):
        traces.read_gpu(database(tmp_path / "old", [COPY[:-1]], skip=("copyKind",)))
    path = database(tmp_path / "cut", [COPY] * 5000)
    path.write_bytes(path.read_bytes()[:6000])
    with pytest.raises(FormatError, match=r"damaged SQLite file \(.*\); expected a complete export"):
        traces.read_gpu(path)
    path.write_bytes(gzip.compress(path.read_bytes())[:-9])
    with pytest.raises(FormatError, match="gzip data ends early"):
        traces.read_gpu(path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(damage=st.lists(st.tuples(st.integers(16, 20000), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_databases_are_read_or_refused(tmp_path, damage):
    path = tmp_path / "damaged"
    path.unlink(missing_ok=True)
    data = bytearray(database(path, [COPY] * 100, [COPY[:4]] * 100).read_bytes())
    for at, value in damage:
        data[at % len(data)] = value if at % len(data) >= 16 else data[at % len(data)]
    path.write_bytes(data)
    refusal = str(path)
    try:
        events = traces.read_gpu(path)
    except FormatError as error:
        refusal = str(error)
    else:
        assert events.size
        assert (events["bytes"] >= 0).all()
    assert refusal.startswith(str(path))
    assert "\n" not in refusal


def test_graphs_that_were_recorded_as_a_whole_are_work(tmp_path):
    """`--cuda-graph-trace=graph`: the kernels of a graph have no rows of their own."""
    path = database(tmp_path / "x", [COPY], graphs=[(5_000_000_500, 5_000_000_900, 0, 3, 7)])
    events = traces.read_gpu(path)
    assert events["t_ps"].tolist() == [0, 400_000]
    assert events["dur_ps"].tolist() == [300_000, 400_000]
    assert events["kind"].tolist() == [GPU_H2D, GPU_WORK]
    assert events["stream"].tolist() == [7, 7]


@pytest.mark.parametrize(
    ("devices", "said"),
    [
        ([0, 0], []),
        ([3, 3, 3], []),
        ([1, 0], ["2 GPUs (0, 1)"]),
        ([2, 0, 1, 2], ["3 GPUs (0 to 2)"]),
        ([0, 5, 1], ["3 GPUs (0, 1, 5)"]),
    ],
)
def test_several_gpus_in_one_recording_are_told_of(tmp_path, trace, devices, said):
    rows = [(*COPY[:2], device, *COPY[3:]) for device in devices]
    events = [event(5, device=device) for device in devices]
    # A name with an escape, which only the slow path reads.
    events[-1] = events[-1].replace("HtoD", "Hto\\u0044")
    said = [f"work of {gpus} is replayed as that of one GPU, on one link" for gpus in said]
    for path in (database(tmp_path / "x", rows), trace(document(*events))):
        bad = Bad()
        assert traces.read_gpu(path, bad=bad).size == len(devices)
        assert list(bad.notes()) == said


def test_a_recording_that_names_no_gpu(tmp_path, trace):
    bad = Bad()
    rows = [(*COPY[:2], *COPY[3:])] * 2
    traces.read_gpu(database(tmp_path / "x", rows, skip=("deviceId",)), bad=bad)
    odd = [event(5, device=device) for device in ("-1", '"a"', "null", "1.5", "9" * 30)]
    traces.read_gpu(trace(document(event(5), *odd)), bad=bad)
    assert list(bad.notes()) == []


def test_large_copies_of_pageable_memory_are_told_of(tmp_path, trace):
    """In all three formats, read fast and slow; small ones and those of pinned memory are as they run."""
    copies = [
        ("HtoD (Pageable -> Device)", 1 << 16),
        ("HtoD (Pageable -> Device)", (1 << 16) - 1),
        ("HtoD (Pinned -> Device)", 1 << 20),
        ("DtoH (Device -> Pageable)", 1 << 20),
        ("DtoH (Device -> Pinned)", 1 << 20),
        ("DtoD (Device -> Device)", 1 << 20),
    ]
    said = [
        "2 copies of 64 KiB or more of pageable memory, which cores of the host move too, "
        "take the link's time alone"
    ]
    events = [event(5, name=f"Memcpy {name}", size=size) for name, size in copies]
    slow = [text.replace("Memcpy", "Memcp\\u0079") for text in events]
    rows = "".join(f"5,1,memcpy,Memcpy {name},{size}\n" for name, size in copies)
    quoted = "".join(f'5,1,memcpy,"Memcpy, {name}",{size}\n' for name, size in copies)
    head = "t_us,dur_us,event,name,bytes\n"
    base = database(
        tmp_path / "x",
        [(*COPY[:4], size, 1 if "HtoD" in n else 2 if "DtoH" in n else 8) for n, size in copies],
    )
    with sqlite3.connect(base) as open_base:
        for side, at in (("srcKind", 1), ("dstKind", 2)):
            open_base.execute(f"ALTER TABLE CUPTI_ACTIVITY_KIND_MEMCPY ADD COLUMN {side} INT")
            for i, (name, _) in enumerate(copies, start=1):
                kind = ("Pageable", "Pinned", "Device").index(
                    name.replace("(", " ").replace(")", "").split()[2 * at - 1]
                )
                open_base.execute(
                    f"UPDATE CUPTI_ACTIVITY_KIND_MEMCPY SET {side} = ? WHERE rowid = ?", (kind, i)
                )
    open_base.close()
    for path in (
        trace(document(*events), "fast"),
        trace(document(*slow), "slow"),
        trace(head + rows, "a.csv"),
        trace(head + quoted, "b.csv"),
        base,
    ):
        bad = Bad()
        assert traces.read_gpu(path, bad=bad).size == len(copies)
        assert list(bad.notes()) == said, path
    one = Bad()
    traces.read_gpu(trace(head + rows.splitlines()[0], "c.csv"), bad=one)
    assert [note.split(" of ")[0] for note in one.notes()] == ["1 copy"]
