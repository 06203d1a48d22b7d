"""The progress line: silence first, then one true line, and nothing left behind."""

import io
import time

import numba
import pytest
from numba.core.event import Listener, install_listener

from sevpcie_core import _jit, cli, ide
from sevpcie_core.cli.progress import PATIENCE_S, Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def show(stream, stages, patience_s=0.05, quiet=False):
    """Report stages as (name, done, total, seconds that it then takes)."""
    with Progress(quiet, stream, patience_s) as progress:
        for name, done, total, seconds in stages:
            progress(name, done, total)
            time.sleep(seconds)
    return stream.getvalue()


def test_the_first_two_seconds_are_silent():
    assert PATIENCE_S == 2.0
    assert show(io.StringIO(), [("compiling", 0, 0, 0.6)], PATIENCE_S) == ""
    assert show(Terminal(), [("compiling", 0, 0, 0.6)], PATIENCE_S) == ""


def test_each_long_stage_is_named_once_where_no_line_can_be_rewritten():
    stages = [
        ("compiling", 0, 0, 0.3),
        ("reading", 0, 0, 0),
        ("simulating", 3, 60, 0.3),
        ("simulating", 4, 60, 0.3),
    ]
    text = show(io.StringIO(), stages)
    assert text == "sevpcie: compiling ...\nsevpcie: simulating 3 of 60 ...\n"


def test_whatever_the_stage_a_compiler_at_work_is_named(monkeypatch):
    monkeypatch.setattr(_jit._compiler, "depth", 1)
    assert show(io.StringIO(), [("looking", 0, 1, 0.3)]) == "sevpcie: compiling ...\n"
    assert show(io.StringIO(), [("compiling aesni", 0, 0, 0.3)]) == "sevpcie: compiling aesni ...\n"
    stream = io.StringIO()
    with Progress(stream=stream, patience_s=0.05) as progress:
        progress("looking", 0, 1)
        for depth in (1, 0, 1, 0):
            monkeypatch.setattr(_jit._compiler, "depth", depth)
            time.sleep(0.2)
    assert stream.getvalue() == "sevpcie: compiling ...\nsevpcie: looking 0 of 1 ...\n"


@pytest.mark.skipif(_jit.JIT_DISABLED, reason="nothing is compiled")
def test_a_compiler_at_work_is_known():
    seen = []

    class Noting(Listener):
        def on_start(self, event):
            seen.append(_jit.compiling())

        def on_end(self, event):
            pass

    with install_listener("numba:run_pass", Noting()):
        assert numba.njit(lambda a: a + 1)(1) == 2
    assert seen
    assert all(seen)
    assert not _jit.compiling()


def test_sealing_says_when_it_compiles(monkeypatch, capsys):
    monkeypatch.setattr(_jit._compiler, "depth", 1)
    monkeypatch.setattr(Progress.__init__, "__defaults__", (False, None, 0.01))
    monkeypatch.setattr(ide, "seal_once", lambda *_, **__: time.sleep(0.3) or 1 / 0)
    cli.main(["seal", "--key", "00" * 32, "--tlp", "20000010010006ff1122334455667700"])
    assert "sevpcie: compiling ...\n" in capsys.readouterr().err


def test_a_terminal_has_one_line_that_is_wiped():
    text = show(Terminal(), [("compiling", 0, 0, 0.3), ("simulating", 3, 60, 0.3)])
    assert "\n" not in text
    assert text.endswith("\r\x1b[K")
    assert "compiling" in text
    assert "simulating 3 of 60" in text


def test_a_dumb_terminal_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert show(Terminal(), [("compiling", 0, 0, 0.3)]) == "sevpcie: compiling ...\n"


def test_quiet_prints_nothing():
    assert show(Terminal(), [("compiling", 0, 0, 0.3)], quiet=True) == ""


def test_the_line_is_wiped_when_the_work_fails():
    stream = Terminal()

    def work():
        with Progress(stream=stream, patience_s=0.05) as progress:
            progress("simulating", 0, 0)
            time.sleep(0.3)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert stream.getvalue().endswith("\r\x1b[K")


def test_a_closed_stream_does_not_stop_the_work():
    stream = Terminal()
    with Progress(stream=stream, patience_s=0.05) as progress:
        stream.close()
        progress("simulating", 0, 0)
        time.sleep(0.3)
