"""What commands say beside their result."""

import re

_PROGRESS = re.compile(r"^sevpcie: [^\n]* \.\.\.\n", re.MULTILINE)


def without_progress(err: str) -> str:
    """Return what stands on the stream of errors beside progress, which a slow machine adds."""
    return _PROGRESS.sub("", err)
