"""The progress line: silent for two seconds, then it says what takes so long.

On a terminal one line is rewritten and wiped at the end; anywhere else each long stage is named once. While
kernels are being compiled that is what is said, whatever the stage.
"""

import os
import sys
import threading
import time
from types import TracebackType
from typing import Final, Self, TextIO

PATIENCE_S: Final = 2.0
_TICK_S: Final = 0.25
# ECMA-48: back to column 1, erase to the end of the line.
_WIPE: Final = "\r\x1b[K"
_COMPILING: Final = "compiling"


def _compiling() -> bool:
    """Return whether a kernel is being compiled; without loading what compiles."""
    jit = sys.modules.get("sevpcie_core._jit")
    return bool(getattr(jit, "compiling", bool)())


class Progress:
    """A callable `(stage, done, total)` for the time of a `with` block; `total` 0 means unknown.

    A thread of its own writes, because the stage that takes long (compiling, one long simulation) does not
    call back meanwhile.
    """

    def __init__(self, quiet: bool = False, stream: TextIO | None = None, patience_s: float = PATIENCE_S):
        self._stream = sys.stderr if stream is None else stream
        self._patience_s = patience_s
        self._rewrites = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._state = ("", 0, 0)
        self._since = time.monotonic()
        self._named: set[str] = set()
        self._stop = threading.Event()
        self._thread = None if quiet else threading.Thread(target=self._watch, daemon=True)

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Note where the work is; cheap enough to call often."""
        if stage != self._state[0] and not (self._rewrites and self._named):
            # Each stage gets its own two seconds, except that a line that is already there stays true.
            self._since = time.monotonic()
        self._state = (stage, done, total)

    def __enter__(self) -> Self:
        """Start watching."""
        if self._thread:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching and wipe the line."""
        self._stop.set()
        if self._thread:
            self._thread.join()
            if self._rewrites and self._named:
                self._write(_WIPE)

    def _watch(self) -> None:
        while not self._stop.wait(min(_TICK_S, self._patience_s)):
            stage, done, total = self._state
            if not stage or time.monotonic() - self._since < self._patience_s:
                continue
            if _compiling():
                stage, total = (stage if stage.startswith(_COMPILING) else _COMPILING), 0
            text = f"sevpcie: {stage} {done} of {total}" if total else f"sevpcie: {stage}"
            if self._rewrites:
                self._write(f"{_WIPE}{text} ...")
            elif stage not in self._named:
                self._write(f"{text} ...\n")
            self._named.add(stage)

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            # Nobody reads standard error any more; the result still matters.
            self._stop.set()
