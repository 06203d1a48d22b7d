"""Children of tests that are sent an interrupt."""

import signal


def heed_interrupts() -> None:
    """Undo what a shell does to the jobs that it starts in the background: they ignore interrupts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
