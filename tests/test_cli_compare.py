"""`sevpcie compare`: what the options become, what is printed, what is written, how it ends.

The comparison itself is a stand-in here; `test_cli_end_to_end.py` has the real one.
"""

import copy
import json
import os
import signal
import subprocess
import types
from pathlib import Path

import pytest

from sevpcie_core import cli
from sevpcie_core.errors import RunError
from sevpcie_core.record import RunRecord, results_digest


class Run:
    """A comparison that returns a given record and remembers how it was called."""

    def __init__(self, record):
        self.record = record
        self.calls = []
        self.error = None

    def compare(self, scenarios=None, **options):
        options.pop("progress")("simulating", 0, 1)
        self.calls.append((scenarios, options))
        if self.error is not None:
            raise self.error
        return types.SimpleNamespace(record=self.record)


@pytest.fixture
def run(record, monkeypatch):
    """Put the stand-in where the command looks for the API."""
    stand_in = Run(record)
    monkeypatch.setattr("sevpcie_core.api.compare", stand_in.compare)
    return stand_in


@pytest.fixture
def quick_files(monkeypatch):
    """Make the report and the scenario files cheap: their own tests cover them."""

    def from_dict(data):
        return types.SimpleNamespace(to_toml=lambda: f"name = {data['name']!r}\n")

    monkeypatch.setattr("sevpcie_core.api.Scenario", types.SimpleNamespace(from_dict=from_dict))
    monkeypatch.setattr("sevpcie_core.report.html.page", lambda record: "<html>")


DEFAULTS = {
    "schemes": None,
    "policies": None,
    "baseline": "none",
    "budget_pct": None,
    "requests": None,
    "seeds": None,
    "seed": None,
    "quick": False,
    "jobs": None,
    "trace": None,
    "as_": None,
    "link": None,
    "device": None,
    "limit": None,
    "offset": None,
    "speed": None,
    "skip_bad": False,
    "local": None,
    "pace": None,
    "buffers": None,
    "protect": None,
}


@pytest.mark.parametrize(
    ("argv", "scenarios", "changed"),
    [
        ([], None, {}),
        (["nvme", "my.toml"], ["nvme", "my.toml"], {}),
        (["--scheme", "a", "--scheme", "b"], None, {"schemes": ["a", "b"]}),
        (["--policy", "all"], None, {"policies": ["all"]}),
        (["--trace", "x.pcap", "--as", "nic", "--link", "gen5x16"], None,
         {"trace": Path("x.pcap"), "as_": "nic", "link": "gen5x16"}),
        (["--trace", "x.pcap", "--limit", "9", "--offset", "8", "--speed", "0.5", "--skip-bad"], None,
         {"trace": Path("x.pcap"), "limit": 9, "offset": 8, "speed": 0.5, "skip_bad": True}),
        (["--trace", "x.pcap", "--local", "10.0.0.1:80", "--pace", "recorded"], None,
         {"trace": Path("x.pcap"), "local": "10.0.0.1:80", "pace": "recorded"}),
        (["--trace", "x.csv", "--buffers", "queue=1+2,msi=3+4KiB"], None,
         {"trace": Path("x.csv"), "buffers": ["queue=1+2", "msi=3+4KiB"]}),
        (["--protect", "data,msi"], None, {"protect": {"data": 1.0, "queue": 0.0, "mmio": 0.0, "msi": 1.0}}),
        (["--protect", "none"], None, {"protect": dict.fromkeys(("data", "queue", "mmio", "msi"), 0.0)}),
        (["--requests", "7", "--seeds", "3", "--seed", "0", "--jobs", "2", "--quick"], None,
         {"requests": 7, "seeds": 3, "seed": 0, "jobs": 2, "quick": True}),
        (["--budget", "2.5", "--baseline", "pcie-ide"], None, {"budget_pct": 2.5, "baseline": "pcie-ide"}),
    ],
)  # fmt: skip
def test_options_reach_the_api(run, argv, scenarios, changed):
    assert cli.main(["compare", *argv]) == 0
    assert run.calls == [(scenarios, DEFAULTS | changed)]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["nvme", "--trace", "x"], "--trace and scenarios (nvme) together"),
        (["--as", "nic"], "--as nic without --trace"),
        (["nvme", "--link", "gen4x4"], "--link gen4x4 without --trace"),
    ],
)
def test_options_that_exclude_each_other(run, argv, words, capsys):
    assert cli.main(["compare", *argv]) == 2
    assert words in capsys.readouterr().err
    assert run.calls == []


def test_table_and_wide_table(run, capsys):
    assert cli.main(["compare"]) == 0
    summary = capsys.readouterr()
    assert "randread4k" in summary.out
    assert summary.err == ""
    assert "\x1b" not in summary.out
    assert cli.main(["compare", "--wide"]) == 0
    wide = capsys.readouterr().out
    assert "p99.9" in wide
    assert "p99.9" not in summary.out
    assert max(map(len, wide.splitlines())) <= 120


def test_json_is_the_record(run, record, capsys):
    assert cli.main(["compare", "--json"]) == 0
    assert RunRecord.from_dict(json.loads(capsys.readouterr().out)) == record


def test_warnings_go_to_stderr_unless_quiet(run, record, capsys):
    run.record = record.model_copy(update={"warnings": ["first", "second"]})
    cli.main(["compare", "--json"])
    captured = capsys.readouterr()
    assert captured.err == "sevpcie: warning: first\nsevpcie: warning: second\n"
    assert json.loads(captured.out)["warnings"] == ["first", "second"]
    cli.main(["compare", "--quiet"])
    assert capsys.readouterr().err == ""


def with_verdicts(record_dict, *words):
    """Return a record whose protected rows have these verdicts in turn."""
    data = copy.deepcopy(record_dict)
    rows = [row for row in data["results"] if row["verdict"]]
    for row in rows:
        row["verdict"] = {"end_to_end": "within", "io_path": "over"}
    for row, word in zip(rows, words, strict=False):
        row["verdict"]["end_to_end"] = word
    return RunRecord.from_dict(data | {"digest": results_digest(data["results"])})


@pytest.mark.parametrize(
    ("words", "plain", "over", "inconclusive"),
    [
        (["within"], 0, 0, 0),
        (["inconclusive"], 0, 0, 4),
        (["over"], 0, 99, 99),
        (["inconclusive", "over"], 0, 99, 99),
    ],
)
def test_fail_on(run, record_dict, words, plain, over, inconclusive, capsys):
    run.record = with_verdicts(record_dict, *words)
    assert cli.main(["compare"]) == plain
    assert cli.main(["compare", "--fail-on", "over"]) == over
    capsys.readouterr()
    assert cli.main(["compare", "--fail-on", "inconclusive", "--json"]) == inconclusive
    assert json.loads(capsys.readouterr().out)["options"]["fail_on"] == "inconclusive"


def files(folder):
    return sorted(path.name for path in folder.iterdir())


WRITTEN = ["record.json", "report.html", "scenario-gpu.toml", "scenario-nvme.toml"]


def test_out_writes_everything(run, record, quick_files, tmp_path, capsys):
    out = tmp_path / "new" / "run"
    assert cli.main(["compare", "--out", str(out)]) == 0
    assert files(out) == WRITTEN
    assert RunRecord.load(out) == record
    assert (out / "scenario-gpu.toml").read_text() == "name = 'gpu'\n"
    assert files(tmp_path / "new") == ["run"]


def test_out_has_the_usual_rights(run, quick_files, tmp_path):
    old = os.umask(0o022)
    try:
        assert cli.main(["compare", "--out", str(tmp_path / "run")]) == 0
    finally:
        os.umask(old)
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o755


def test_out_replaces_an_earlier_result_in_place(run, quick_files, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    inode = out.stat().st_ino
    assert cli.main(["compare", "--out", str(out)]) == 0
    (out / "scenario-old.toml").write_text("of the first run")
    assert cli.main(["compare", "--out", str(out)]) == 0
    assert files(out) == WRITTEN
    # The folder may be a mount point or somebody's working directory.
    assert out.stat().st_ino == inode


@pytest.mark.parametrize(
    "names", [["notes.txt"], ["record.json", "thesis.tex"], ["report.html"], ["my.toml"]]
)
def test_out_never_touches_a_folder_of_others(run, quick_files, names, tmp_path, capsys):
    for name in names:
        (tmp_path / name).write_text("mine")
    assert cli.main(["compare", "--out", str(tmp_path)]) == 2
    assert run.calls == []
    assert files(tmp_path) == sorted(names)
    error = capsys.readouterr().err
    assert repr(names[-1]) in error
    assert "expected an empty folder or an earlier result" in error


def test_out_that_is_a_file_or_below_one(run, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert cli.main(["compare", "--out", str(tmp_path / "file")]) == 2
    assert "a file; expected a folder" in capsys.readouterr().err
    assert cli.main(["compare", "--out", str(tmp_path / "file" / "run")]) == 2
    assert "cannot be written: Not a directory" in capsys.readouterr().err
    assert run.calls == []


def test_out_that_cannot_be_written_is_found_before_the_run(run, capsys):
    # Root may write anywhere that is no kernel's file system.
    assert cli.main(["compare", "--out", "/proc/sevpcie-run"]) == 2
    assert "--out /proc/sevpcie-run: cannot be written: " in capsys.readouterr().err
    assert run.calls == []


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize(
    ("error", "code"), [(OSError(28, "No space left on device"), 3), (KeyboardInterrupt(), 130)]
)
def test_a_failure_while_writing_leaves_nothing(
    run, quick_files, monkeypatch, exists, error, code, tmp_path, capsys
):
    out = tmp_path / "new" / "run"
    if exists:
        out.mkdir(parents=True)

    def fail(*_):
        raise error

    monkeypatch.setattr("os.fsync", fail)
    assert cli.main(["compare", "--out", str(out)]) == code
    assert files(tmp_path) == (["new"] if exists else [])
    assert not exists or files(out) == []
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(("error", "code"), [(RunError("no luck"), 3), (KeyboardInterrupt(), 130)])
def test_a_failed_run_writes_nothing(run, quick_files, error, code, tmp_path, capsys):
    run.error = error
    assert cli.main(["compare", "--out", str(tmp_path / "run")]) == code
    assert files(tmp_path) == []
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1


def test_scenario_names_cannot_leave_the_folder(run, record, quick_files, tmp_path):
    reference = record.options.scenarios[0].model_copy(update={"name": "../../evil name"})
    options = record.options.model_copy(update={"scenarios": [reference]})
    run.record = record.model_copy(update={"options": options})
    assert cli.main(["compare", "--out", str(tmp_path / "run")]) == 0
    assert files(tmp_path / "run") == ["record.json", "report.html", "scenario-.._.._evil_name.toml"]
    assert cli.main(["compare", "--out", str(tmp_path / "run")]) == 0


@pytest.mark.parametrize("place", ["dangling", "dangling/run", "new/..", "new/../x", "n" * 300])
def test_out_that_could_not_be_made_is_found_before_the_run(run, place, tmp_path, capsys):
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert cli.main(["compare", "--out", f"{tmp_path}/{place}"]) == 2
    assert capsys.readouterr().err.startswith(f"sevpcie: error: --out {tmp_path}/{place}: ")
    assert run.calls == []
    assert files(tmp_path) == ["dangling"]


def test_a_full_disk_is_told_with_the_path_that_was_asked_for(
    run, quick_files, tmp_path, monkeypatch, capsys
):
    def fail(*_):
        raise OSError(28, "No space left on device")

    # The report is written straight into the staging folder, not by a writer that names its own place.
    monkeypatch.setattr("sevpcie_core.report.html.write_html", None)
    monkeypatch.setattr("os.fsync", fail)
    assert cli.main(["compare", "--out", str(tmp_path / "run")]) == 3
    assert capsys.readouterr().err == (
        f"sevpcie: error: --out {tmp_path / 'run'}: cannot be written: No space left on device\n"
    )


def dead_process():
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_out_sweeps_what_a_killed_run_left(run, quick_files, tmp_path):
    left = tmp_path / "run" / f".sevpcie-{dead_process()}.tmp"
    left.mkdir(parents=True)
    (left / "record.json").write_text("{")
    (tmp_path / "run" / "report.html").write_text("moved before the end")
    (tmp_path / "run" / f".sevpcie-{dead_process()}-0a.tmp").write_text("a report")
    assert cli.main(["compare", "--out", str(tmp_path / "run")]) == 0
    assert files(tmp_path / "run") == WRITTEN


def test_out_leaves_alone_what_another_run_is_writing(run, quick_files, tmp_path):
    theirs = tmp_path / f".sevpcie-{os.getppid()}.tmp"
    theirs.mkdir()
    assert cli.main(["compare", "--out", str(tmp_path)]) == 0
    assert theirs.is_dir()


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_end_after_writing_says_what_was_written(
    run, quick_files, exists, number, code, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "run"
    if exists:
        out.mkdir()
    rename, replace = Path.rename, os.replace

    def renamed(self, target):
        os.kill(os.getpid(), number)
        return rename(self, target)

    def replaced(old, new):
        os.kill(os.getpid(), number)
        replace(old, new)

    monkeypatch.setattr(Path, "rename", renamed)
    monkeypatch.setattr(os, "replace", replaced)
    # A shell starts what runs in the background with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert cli.main(["compare", "--out", str(out)]) == code
    finally:
        signal.signal(signal.SIGINT, before)
    word = {130: "interrupted", 143: "terminated"}[code]
    assert capsys.readouterr().err == f"sevpcie: {word}; {out} was written\n"
    assert files(out) == WRITTEN
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("option", ["scenario", "--trace"])
def test_names_that_a_record_cannot_hold_are_refused_before_the_run(run, option, tmp_path, capsys):
    name = os.fsdecode(b"bad\xff.csv")
    argv = [name] if option == "scenario" else [option, name]
    assert cli.main(["compare", *argv, "--out", str(tmp_path / "run")]) == 2
    assert "not UTF-8" in capsys.readouterr().err
    assert run.calls == []


@pytest.mark.parametrize("argv", [["--trace", "~nosuch/x"], ["~nosuch/x.toml"], ["--out", "~nosuch/x"]])
def test_homes_that_do_not_exist(argv, capsys):
    assert cli.main(["compare", *argv]) == 2
    error = capsys.readouterr().err
    assert error.startswith(("sevpcie: error: ~nosuch/x", "sevpcie: error: '~nosuch/x"))
    assert error.count("\n") == 1
