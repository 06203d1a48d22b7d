"""The command line: one file per command, nothing heavy imported before a command needs it.

Rule: whatever happens, the user reads one line that says what and where, and the process ends with a
documented code. A traceback appears only with SEVPCIE_DEBUG=1.

Exit codes: 0 ok, 1 internal error, 2 bad usage, configuration or input, 3 a run failed, 4 inconclusive,
5 nothing was measured, 99 threshold, regression or deviation, 130 interrupted, 143 terminated.
"""

import contextlib
import errno
import os
import sys
import threading
from collections.abc import Sequence
from typing import Final

from ..errors import ConfigError, RunError, SevPcieError
from . import signals
from .output import discard, pipe

INTERRUPTED: Final = 130
_NAME_ERRORS: Final = (errno.ENAMETOOLONG, errno.ELOOP)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command (default: of `sys.argv`) and return its exit code."""
    _open_closed_streams()
    try:
        with signals.heeded():
            return _main(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt as stop:
        # One that came between two lines of ours.
        return _interrupted(stop)


def _main(argv: list[str]) -> int:
    # A terminal that cannot show a character shows "?" rather than ending the program.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        from .app import run

        code = run(argv)
        with pipe():
            pass
        return code
    except SevPcieError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt as stop:
        return _interrupted(stop)
    except BrokenPipeError:
        # Of a command that prints and does nothing else.
        discard()
        return 0
    except Exception as error:
        if os.environ.get("SEVPCIE_DEBUG") == "1":
            raise
        if isinstance(error, OSError):
            discard()
            code = ConfigError.exit_code if error.errno in _NAME_ERRORS else RunError.exit_code
            return _fail(f"{error.filename or 'standard output'}: {error.strerror}", code)
        if isinstance(error, RuntimeError) and "home directory" in str(error):
            # Of Path.expanduser, which does not say of what.
            return _fail(f"{_homeless(error)}: no such home directory", ConfigError.exit_code)
        found = f"{type(error).__name__}: {error} (SEVPCIE_DEBUG=1 shows where)"
        return _fail(found, 1, kind="internal error")


def _fail(message: str, code: int, kind: str = "error") -> int:
    with contextlib.suppress(OSError):
        print(f"sevpcie: {kind}: {' '.join(message.split())}", file=sys.stderr)
    return code


def _homeless(error: BaseException) -> str:
    """Return the path whose `~` has no meaning: the `self` of the function that raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return str(trace.tb_frame.f_locals.get("self", "~")) if trace else "~"


def _open_closed_streams() -> None:
    """Give a process that was started without standard streams (`>&-`) ones that lead nowhere.

    Otherwise the next file that is opened gets the number of one and all that is meant for it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _interrupted(stop: KeyboardInterrupt) -> int:
    signals.interrupted()
    terminated = isinstance(stop, signals.Terminated)
    code = signals.TERMINATED if terminated else INTERRUPTED
    with contextlib.suppress(OSError):
        word = "terminated" if terminated else "interrupted"
        print(f"sevpcie: {word}; {signals.written()}", file=sys.stderr, flush=True)
    if any(thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate()):
        # A kernel that runs without the interpreter cannot be stopped from here; do not wait for its end.
        os._exit(code)
    return code
