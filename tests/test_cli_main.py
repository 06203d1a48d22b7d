"""What every command shares: help, errors, interrupts, closed pipes, start-up time."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
import weakref

import pytest
from interrupts import heed_interrupts

from sevpcie_core import cli
from sevpcie_core.cli import signals
from sevpcie_core.cli.app import GROUPS
from sevpcie_core.errors import ConfigError, FormatError, IntegrityError, MisuseError, RunError

PYTHON = [sys.executable, "-m", "sevpcie_core.cli"]
# Runs `sevpcie` with the function of one command replaced by the code in argv[1].
STUB = """
import sys
from sevpcie_core.cli import app, main
def list_() -> None:
    exec(sys.argv[1])
app.GROUPS["Daily"] = [app.Entry("list", list_, "")]
sys.exit(main(["list"]))
"""


def stubbed(code, **options):
    """Start a process whose command is this code."""
    return subprocess.Popen(
        [sys.executable, "-c", STUB, code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
        **options,
    )


def test_help_groups_the_commands_with_examples(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    for group, entries in GROUPS.items():
        assert f"\n{group}:\n" in text
        for entry in entries:
            assert f"$ {entry.example}\n" in text
            assert re.search(rf"^  {entry.name} +[A-Z]", text, re.MULTILINE)
    cli.main([])
    assert capsys.readouterr().out == text
    cli.main(["-h"])
    assert capsys.readouterr().out == text


@pytest.mark.parametrize("entry", [e for entries in GROUPS.values() for e in entries], ids=lambda e: e.name)
def test_each_command_has_help_and_a_true_example(entry, capsys):
    assert cli.main([entry.name, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"Example: {entry.example}" in " ".join(text.split())
    options = re.findall(r" (-{1,2}[a-z-]+)", entry.example)
    assert all(option in text for option in options)


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert re.fullmatch(r"sevpcie \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--nonsense"], "No such option: --nonsense"),
        (["nonsense"], "No such command 'nonsense'"),
        (["compare", "--nonsense"], "(see 'sevpcie compare --help')"),
        (["compare", "--seeds", "0"], "--seeds"),
        (["compare", "--budget", "much"], "--budget"),
        (["compare", "--fail-on", "within"], "'over', 'inconclusive'"),
        (["compare", "--as", "usb"], "'gpu'"),
        (["compare", "--trace"], "--trace"),
        (["gate", "r.json"], "--thresholds"),
        (["rerun"], "RECORD"),
        (["schema", "nonsense"], "'scenario', 'record'"),
    ],
)
def test_bad_usage_is_one_line_and_code_2(argv, words, capsys):
    assert cli.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("sevpcie: error: ")
    assert captured.err.count("\n") == 1
    assert words in captured.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("a.toml:3: x"), 2),
        (FormatError("f"), 2),
        (MisuseError("m"), 2),
        (RunError("r"), 3),
        (IntegrityError("i"), 3),
    ],
)
def test_errors_of_ours_have_their_codes(error, code, monkeypatch, capsys):
    def fail(_):
        raise error

    monkeypatch.setattr("sevpcie_core.cli.app.run", fail)
    assert cli.main([]) == code
    assert capsys.readouterr().err == f"sevpcie: error: {error}\n"


def test_other_errors_are_internal(monkeypatch, capsys):
    def fail(_):
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr("sevpcie_core.cli.app.run", fail)
    monkeypatch.delenv("SEVPCIE_DEBUG", raising=False)
    assert cli.main([]) == 1
    message = capsys.readouterr().err
    assert message.startswith("sevpcie: internal error: ZeroDivisionError: two lines (")
    assert message.count("\n") == 1
    monkeypatch.setenv("SEVPCIE_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        cli.main([])


@pytest.mark.parametrize(
    "code",
    [
        "print('ready', flush=True); import time; time.sleep(60)",
        # A kernel on a thread does not see the interrupt; the process ends all the same.
        "import threading, time; threading.Thread(target=time.sleep, args=[60]).start(); "
        "print('ready', flush=True); time.sleep(60)",
    ],
    ids=["alone", "with a busy thread"],
)
def test_interrupt_ends_at_once_with_130(code):
    with stubbed(code) as process:
        assert process.stdout.readline() == "ready\n"
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == "sevpcie: interrupted; nothing was written\n"
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("what", ["print", "table"])
def test_closed_pipe_is_quiet(what, record, tmp_path):
    record.save(tmp_path / "record.json")
    code = {
        "print": "for i in range(100_000): print(i)",
        "table": "from sevpcie_core.record import RunRecord\n"
        "from sevpcie_core.cli.output import print_table\n"
        f"record = RunRecord.load({str(tmp_path)!r})\n"
        "while True: print_table(record, wide=True)",
    }[what]
    with stubbed(code) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=30) == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_full_disk_is_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*PYTHON, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 3
    assert done.stderr == "sevpcie: error: standard output: No space left on device\n"


def test_ascii_terminals_get_question_marks_not_tracebacks():
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    with stubbed("print('é')", env=environment) as process:
        assert process.communicate(timeout=30) == ("?\n", "")
    assert process.returncode == 0


def test_help_is_fast_and_loads_nothing_heavy():
    code = (
        "import sys; from sevpcie_core.cli import main; main(['--help']); "
        "print(*sorted({m.partition('.')[0] for m in sys.modules}), file=sys.stderr)"
    )
    best = min(_timed([sys.executable, "-c", code])[0] for _ in range(5))
    _, loaded = _timed([sys.executable, "-c", code])
    heavy = {"numba", "numpy", "pandas", "scipy", "matplotlib", "pydantic", "rich", "cryptography", "jinja2"}
    assert not heavy & set(loaded.split())
    assert best < 0.3


def _timed(command):
    begin = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True)
    return time.perf_counter() - begin, done.stderr


def test_what_an_interrupt_left_half_made_is_not_spoken_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its finalizer lacks attributes, and may come long after."""
    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(unraisable.exc_value))

    class Half:
        def __del__(self) -> None:
            self.missing()  # type: ignore[attr-defined]

    class Wrong:
        def __del__(self) -> None:
            raise ValueError

    with signals.heeded():
        signals.interrupted()
        Half()
    Half()
    assert told == []
    with contextlib.suppress(KeyboardInterrupt), signals.heeded():
        raise KeyboardInterrupt
    Half()
    assert told == []
    Wrong()
    assert [type(error) for error in told] == [ValueError]
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(unraisable.exc_value))
    with signals.heeded():
        Half()
    assert [type(error) for error in told] == [ValueError, AttributeError]


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGTERM, signals.Terminated), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_within_a_finalizer_comes_once_more(
    number: signal.Signals, raised: type[BaseException]
) -> None:
    """Python drops what a finalizer raises, so the command would go on."""

    def command() -> None:
        with signals.heeded():
            kept = threading.Event()
            weakref.finalize(kept, signal.raise_signal, number)
            del kept
            threading.Event().wait(30)

    heed = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(raised) as caught:
            command()
        assert type(caught.value) is raised
    finally:
        signal.signal(signal.SIGINT, heed)
