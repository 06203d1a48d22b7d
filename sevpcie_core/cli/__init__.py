"""The command line: one file per command, nothing heavy imported before a command needs it.

Rule: whatever happens, the user reads one line that says what and where, and the process ends with a
documented code. A traceback appears only with SEVPCIE_DEBUG=1.

Exit codes: 0 ok, 1 internal error, 2 bad usage, configuration or input, 3 a run failed, 4 inconclusive,
5 nothing was measured, 99 threshold, regression or deviation, 130 interrupted.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Sequence
from typing import Final

from ..errors import RunError, SevPcieError

INTERRUPTED: Final = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command (default: of `sys.argv`) and return its exit code."""
    # A terminal that cannot show a character shows "?" rather than ending the program.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        from .app import run

        code = run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return code
    except SevPcieError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:
        # The reader, for example `head`, has all that it wanted.
        _discard_output()
        return 0
    except Exception as error:
        if os.environ.get("SEVPCIE_DEBUG") == "1":
            raise
        if isinstance(error, OSError):
            _discard_output()
            return _fail(f"{error.filename or 'standard output'}: {error.strerror}", RunError.exit_code)
        found = f"{type(error).__name__}: {error} (SEVPCIE_DEBUG=1 shows where)"
        return _fail(found, 1, kind="internal error")


def _fail(message: str, code: int, kind: str = "error") -> int:
    with contextlib.suppress(OSError):
        print(f"sevpcie: {kind}: {' '.join(message.split())}", file=sys.stderr)
    return code


def _interrupted() -> int:
    with contextlib.suppress(OSError):
        print("sevpcie: interrupted; nothing was written", file=sys.stderr, flush=True)
    if any(thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate()):
        # A kernel that runs without the interpreter cannot be stopped from here; do not wait for its end.
        os._exit(INTERRUPTED)
    return INTERRUPTED


def _discard_output() -> None:
    """Send what is still buffered nowhere: the interpreter flushes once more when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
