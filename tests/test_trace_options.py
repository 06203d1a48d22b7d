"""Which records of a trace are replayed, how fast, and what is protected: keys and options."""

import json

import numpy as np
import pytest

from sevpcie_core import cli, compare
from sevpcie_core.errors import ConfigError, FormatError, MisuseError
from sevpcie_core.experiment.presets import sample
from sevpcie_core.experiment.programs import build, recorded
from sevpcie_core.experiment.resolved import Reading
from sevpcie_core.experiment.scenario import Scenario, scenario_from_trace
from sevpcie_core.units import parse_time_ps
from sevpcie_core.workload import traces
from sevpcie_core.workload.program import BEGIN

HEADER = "time_us,event,address,length\n"
TIMES_US = [0, 10, 30, 60, 100]
ROWS = [f"{t},read,{8 * i},{4096 * (i + 1)}\n" for i, t in enumerate(TIMES_US)]
# More than a second behind the line before it: what the collector calls malformed.
LATE = ["5000000,read,0,4096\n", "7,read,0,4096\n", "8,write,0,4096\n"]


@pytest.fixture
def disk(tmp_path):
    """Return a trace of five reads."""
    path = tmp_path / "disk.csv"
    path.write_text(HEADER + "".join(ROWS))
    return path


@pytest.fixture
def torn(tmp_path):
    """Return a trace with two malformed records."""
    path = tmp_path / "torn.csv"
    path.write_text(HEADER + "".join(ROWS + LATE))
    return path


def device(path, **reading):
    """Return the device that replays a trace."""
    return scenario_from_trace(path, **reading).resolve().workloads[0].devices[0]


def times(run):
    """Return the intended starts of a program's requests, ps."""
    steps = np.concatenate([chunk.steps for chunk in build(run, 0, 1, 0).chunks()])
    return steps["not_before_ps"][steps["flags"] & BEGIN != 0].tolist()


@pytest.mark.parametrize(
    ("reading", "expected_us"),
    [
        ({}, [0, 10, 30, 60, 100]),
        ({"limit": 2}, [0, 10]),
        ({"limit": 99}, [0, 10, 30, 60, 100]),
        ({"offset": 2}, [0, 30, 70]),
        ({"offset": 1, "limit": 2}, [0, 20]),
        ({"speed": 2.0}, [0, 5, 15, 30, 50]),
        ({"speed": 0.1}, [0, 100, 300, 600, 1000]),
        ({"speed": 4, "offset": 3}, [0, 10]),
    ],
)
def test_records_and_speed(disk, reading, expected_us):
    assert times(device(disk, **reading)) == [round(t * 1_000_000) for t in expected_us]
    assert len(recorded(device(disk, **reading).traffic).records) == len(expected_us)


def test_what_is_taken_is_part_of_the_digest_and_of_the_file(disk):
    usual = scenario_from_trace(disk)
    digests = {usual.digest()}
    for reading in ({"offset": 1}, {"speed": 2.0}, {"skip_bad": True}, {"limit": 3}):
        scenario = scenario_from_trace(disk, **reading)
        digests.add(scenario.digest())
        again = Scenario.from_dict(scenario.to_dict())
        assert again.digest() == scenario.digest()
        traffic = scenario.to_dict()["workload"][0]["device"]["nvme"]["traffic"]
        assert traffic | reading == traffic
    assert len(digests) == 5
    # What says nothing new is not in it, so that records of before keep their digests.
    assert scenario_from_trace(disk, offset=0, speed=1.0, skip_bad=False).digest() == usual.digest()
    assert device(disk, speed=1.0).traffic.reading is None
    assert device(disk, speed=3.0).traffic.reading == Reading(0, 3.0, False)


def test_pace():
    """A line of 10 Mb/s could not have brought the frames of a loopback as they were recorded."""
    runs = {}
    for pace in ("line", "recorded"):
        scenario = scenario_from_trace("sample:redis", pace=pace, limit=1000).to_dict()
        scenario["workload"][0]["device"]["nic"]["preset"] = {"base": "nic-400g", "line_rate": "10Mb/s"}
        runs[pace] = Scenario.from_dict(scenario).resolve().workloads[0].devices[0]
    line, as_recorded = (sorted(times(runs[pace])) for pace in ("line", "recorded"))
    records = recorded(runs["recorded"].traffic).records
    assert as_recorded == (records["t_ps"] - records["t_ps"][0]).tolist()
    assert all(late >= soon for late, soon in zip(line, as_recorded, strict=True))
    assert line != as_recorded
    digests = {scenario_from_trace("sample:redis", pace=pace).digest() for pace in (None, "line", "recorded")}
    assert len(digests) == 2


def test_local_says_which_end_is_ours():
    one, other = (
        recorded(device("sample:redis", local=local, limit=200).traffic).records["direction"]
        for local in ("6390", None)
    )
    assert one.tolist() == other.tolist()
    with pytest.raises(ConfigError, match="local"):
        device("sample:redis", local="nobody")


def test_packets_of_others_are_warned_of():
    found = compare(trace="sample:redis", schemes=["sev-pcie"], policies=["all"], seeds=1, local="34284")
    packets = found.record.results[0].requests
    left_out = len(traces.read_nic(sample("redis"))) - packets
    assert packets > 0 < left_out
    assert found.record.warnings == [f"sample:redis: left out: {left_out} packets that 34284 has no part in"]


@pytest.mark.parametrize("key", ["local", "pace"])
def test_what_only_captures_have(disk, key):
    value = {"local": "6390", "pace": "recorded"}[key]
    with pytest.raises(
        ConfigError, match=rf"--{key} {value}: disk.csv is nvme-csv, of kind 'nvme'; only captures"
    ):
        scenario_from_trace(disk, **{key: value})
    with pytest.raises(ConfigError, match="--pace line: sample:kv_swap is gpu-csv"):
        scenario_from_trace("sample:kv_swap", pace="line")


@pytest.mark.parametrize(("streams", "recorded_us", "told"), [(8, 23, True), (1, 23, False), (1, 15, True)])
def test_a_replay_that_takes_longer_than_recorded_is_told_of(tmp_path, streams, recorded_us, told):
    """Copies of 1 MiB take some 22 us each: of eight GPUs at once, or where they were recorded as faster."""
    rows = [
        f"{recorded_us * i},{recorded_us},memcpy,Memcpy HtoD (Pinned -> Device),1048576,{stream}\n"
        for i in range(10)
        for stream in range(streams)
    ]
    path = tmp_path / "job.csv"
    path.write_text("t_us,dur_us,event,name,bytes,stream\n" + "".join(rows))
    found = compare(trace=str(path), schemes=["sev-pcie"], policies=["all"], seeds=1)
    warnings = found.record.warnings
    assert len(warnings) == told
    for warning in warnings:
        start = f"{path}: the replay takes "
        assert warning.startswith(start)
        takes, took = warning.removeprefix(start).split(" before anything is added, ")
        took = took.split(" were")[0]
        assert took in ("230 us", "150 us")
        assert parse_time_ps(takes.replace(" ", "")) > 1.05 * parse_time_ps(took.replace(" ", ""))


def test_a_number_of_requests_is_no_limit_of_a_trace(disk, capsys):
    """It would change nothing: what is recorded is replayed whole."""
    assert cli.main(["compare", "--trace", str(disk), "--requests", "5"]) == 2
    error = capsys.readouterr().err
    assert "--requests 5 with --trace; a recording has its own, of which --limit takes some" in error


def test_one_recording_at_a_time(disk, torn, capsys):
    """The last one would be replayed, and the others not."""
    assert cli.main(["compare", "--trace", str(disk), "--trace", str(torn)]) == 2
    assert "--trace 2 times; expected one recording" in capsys.readouterr().err


def test_an_offset_beyond_the_end(disk):
    with pytest.raises(FormatError, match="after the first 5 records; expected at least one"):
        times(device(disk, offset=5))


def test_malformed_records_are_errors_unless_they_are_counted(torn, capsys):
    assert cli.main(["compare", "--trace", str(torn), "--quick"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"sevpcie: error: {torn}:8: time: ")
    assert error.count("\n") == 1
    argv = ["compare", "--trace", str(torn), "--skip-bad", "--seeds", "1"]
    argv += ["--scheme", "sev-pcie", "--policy", "all"]
    assert cli.main(argv) == 0
    captured = capsys.readouterr()
    warning = f"{torn}: 2 malformed records left out; the first: {torn}:8: time: "
    assert f"sevpcie: warning: {warning}" in captured.err
    table = " ".join(captured.out.split())
    assert "Warning: " in table
    assert "2 malformed records left out" in table
    assert cli.main([*argv, "--json", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    record = json.loads(captured.out)
    assert [w.startswith(warning) for w in record["warnings"]] == [True]
    # Six whole ones ran.
    assert record["results"][0]["requests"] == 6


def test_whole_traces_warn_of_nothing(disk):
    found = compare(trace=disk, schemes=["sev-pcie"], policies=["all"], seeds=1, skip_bad=True, offset=1)
    assert found.record.warnings == []
    assert found.record.results[0].requests == 4


@pytest.mark.parametrize(
    ("protect", "pcts"),
    [
        ({"data": 1.0, "queue": 1.0, "mmio": 1.0, "msi": 1.0}, None),
        ({"data": 0.0, "queue": 0.0, "mmio": 0.0, "msi": 0.0}, 0),
    ],
)
def test_protected_buffers(disk, protect, pcts):
    """All of them cost what the policy `all` costs, none costs nothing."""
    found = compare(trace=disk, schemes=["sev-pcie"], seeds=1, protect=protect).record
    ide = {(row.class_, row.policy): row.wire.ide_bytes for row in found.results if row.scheme != "none"}
    assert ide["all", "selective"] == (ide["all", "all"] if pcts is None else 0)
    assert ide["all", "all"] > 0
    options = found.to_dict()["options"]["scenarios"][0]["scenario"]
    assert options["regions"] == protect


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["nvme", "--limit", "5"], "--limit 5 without --trace; a scenario names its own"),
        (["nvme", "--skip-bad"], "--skip-bad without --trace; a scenario names its own"),
        (["--pace", "line"], "--pace line without --trace"),
        (["--speed", "2"], "--speed 2.0 without --trace"),
        (["--trace", "sample:kv_swap", "--local", "80"], "sample:kv_swap is gpu-csv, of kind 'gpu'"),
        (["--trace", "sample:redis", "--speed", "0"], "--speed 0; expected a number from 0.000001 to 100"),
        (["--trace", "sample:redis", "--speed", "nan"], "--speed nan; expected a number"),
        (["--trace", "sample:redis", "--speed", "0.1234567891"], "1e+06, with fewer than ten digits"),
        (["--trace", "sample:redis", "--local", "x"], "error: --local 'x'; expected ADDRESS"),
        (["--trace", "sample:rdis"], "'sample:rdis'; expected one of kv_swap"),
        (["--trace", "sample:redis", "--as", "gpu"], "of kind 'nic'; expected a trace of kind 'gpu'"),
        (["--trace", "sample:redis", "--pace", "slow"], "--pace slow; expected one of 'line', 'recorded'"),
        (["--trace", "sample:redis", "--limit", "0"], "--limit 0; expected a whole number from 1 to 10000"),
        (["--trace", "sample:redis", "--limit", "x"], "--limit x; expected a whole number from 1 to"),
        (["--trace", "sample:redis", "--offset", "-1"], "--offset -1; expected a whole number from 0 to"),
        (["--trace", "sample:redis", "--link", "gen9"], "error: --link 'gen9'; expected one of gen3x8"),
        (["--trace", "sample:redis", "--device", "nic-400"], "; did you mean 'nic-400g'?"),
        (["--trace", "sample:redis", "--device", "nvme-tlc"], "a 'nvme' device; expected one of kind 'nic'"),
        (["--trace", "sample:redis", "--device", "no.toml"], "no.toml: no such file; expected a device"),
        (["nvme", "--device", "nvme-tlc"], "--device nvme-tlc without --trace; a scenario names its own"),
        (["nvme", "--jobs", "0"], "--jobs 0; expected a whole number of 1 or more (see 'sevpcie compare"),
        (["nvme", "--seeds", "2000"], "--seeds 2000; expected a whole number from 1 to 1000"),
        (["nvme", "--budget", "0"], "--budget 0; expected a number above 0, up to 1000"),
        (["nvme", "--budget", "x"], "--budget x; expected a number (see"),
        (["nvme", "--policy", "al"], "--policy 'al'; expected 'selective' or 'all'"),
        (["nvme", "--fail-on", "no"], "--fail-on no; expected one of 'over', 'inconclusive'"),
        (["nvme", "--protect", "data=0.5"], "error: --protect 'data=0.5'; expected some of data,"),
        (["--trace", "sample:redis", "--protect", "data,dta"], "'dta'; expected some of data, queue"),
        (["--trace", "sample:redis", "--protect", ""], "''; expected some of data"),
        (["nvme", "--protect", "data", "--policy", "all"], "only selective looks at buffers"),
    ],
)  # fmt: skip
def test_one_clear_line(argv, said, capsys):
    assert cli.main(["compare", *argv]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert "Input should" not in captured.err


def test_the_api_refuses_the_same():
    with pytest.raises(MisuseError, match="offset without a trace"):
        compare("nvme", offset=3)
    with pytest.raises(ConfigError, match=r"regions\.data: 2"):
        compare("nvme", protect={"data": 2.0})


def test_a_trace_runs_on_the_device_that_is_asked_for(tmp_path):
    (tmp_path / "my.toml").write_text('base = "nic-400g"\nmsi_batch = 7\n')
    for given, changed in (("nic-100g-kernel", False), (str(tmp_path / "my.toml"), True)):
        scenario = scenario_from_trace("sample:redis", device=given)
        (run,) = scenario.resolve().workloads[0].devices
        assert run.device.name == ("my" if changed else given)
        assert (run.device.msi_batch == 7) == changed
        assert f" on {run.device.name}, " in scenario.title
