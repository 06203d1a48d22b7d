"""Signals that end a command: what they raise, when they wait, and what had been written by then."""

import _thread
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Final

TERMINATED: Final = 143
# Between two looks at where the main thread is.
_MOMENT_S: Final = 0.001
_ENDING: Final = (signal.SIGINT, signal.SIGTERM)
_written: list[Path] = []
_interrupted = threading.Event()


class Terminated(KeyboardInterrupt):
    """SIGTERM: cleans up as an interrupt does."""


@contextlib.contextmanager
def heeded() -> Iterator[None]:
    """Let SIGTERM clean up, unless whoever started this process ignores it; forget what was written.

    What a signal raises within a finalizer Python prints and drops; then the signal comes once more.
    """
    _written.clear()
    _interrupted.clear()
    dropped = sys.unraisablehook

    def of_whole_objects(unraisable: "sys.UnraisableHookArgs") -> None:
        if not _half_made(unraisable):
            dropped(unraisable)

    def once_more(unraisable: "sys.UnraisableHookArgs") -> None:
        if not isinstance(unraisable.exc_value, KeyboardInterrupt):
            of_whole_objects(unraisable)
            return
        number = signal.SIGTERM if isinstance(unraisable.exc_value, Terminated) else signal.SIGINT
        # Nothing is waited for here: a signal that came meanwhile would be dropped too.
        _thread.start_new_thread(_send, (number, once_more.__code__))

    sys.unraisablehook = once_more
    ours = threading.current_thread() is threading.main_thread()
    ours = ours and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except KeyboardInterrupt:
        interrupted()
        raise
    finally:
        # Finalizers of what was being made may come as late as the end of the process.
        sys.unraisablehook = of_whole_objects if _interrupted.is_set() else dropped
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def interrupted() -> None:
    """Say nothing, from here to the end, of objects whose making was interrupted."""
    _interrupted.set()


def _half_made(unraisable: "sys.UnraisableHookArgs") -> bool:
    """Return whether this is a finalizer that lacks an attribute of its object, after an interrupt."""
    of_finalizer = getattr(unraisable.object, "__name__", "") == "__del__"
    return _interrupted.is_set() and of_finalizer and isinstance(unraisable.exc_value, AttributeError)


def _send(number: int, hook: CodeType) -> None:
    """Send a signal once the main thread has left a function."""
    main = threading.main_thread().ident
    assert main is not None
    frame = sys._current_frames().get(main)
    while frame is not None:
        if frame.f_code is hook:
            time.sleep(_MOMENT_S)
            frame = sys._current_frames().get(main)
        else:
            frame = frame.f_back
    os.kill(os.getpid(), number)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Let what takes a moment and must not be cut in two end before an interrupt is heard."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    old = {number: signal.getsignal(number) for number in _ENDING}
    for number in _ENDING:
        if old[number] not in (None, signal.SIG_IGN):
            signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in old.items():
            if handler not in (None, signal.SIG_IGN):
                signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def note_written(path: Path) -> None:
    """Note for the words at an interrupt that this is complete."""
    _written.append(path)


def written() -> str:
    """Return what had been written, for a message."""
    return f"{_written[-1]} was written" if _written else "nothing was written"
