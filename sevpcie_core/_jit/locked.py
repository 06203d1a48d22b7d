"""Numba's disk cache, safe for processes that compile the same kernel at the same time.

Numba gives the next free number to what it saves, by an index that it reads before and writes after. Two
processes that save different signatures of one function at once take the same number, one index entry is
lost, and the other may name the code of the wrong signature: it is run without a word
(`numba.core.caching.IndexDataCacheFile`). Here one process saves at a time, and none reads meanwhile.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from typing import Any

from numba.core.caching import IndexDataCacheFile

_LOCK = "lock"


class _Locked(IndexDataCacheFile):
    @contextlib.contextmanager
    def _alone(self, how: int) -> Iterator[None]:
        try:
            file = os.open(os.path.join(self._cache_path, _LOCK), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            # Nothing can be written there, so nobody does.
            yield
            return
        try:
            fcntl.flock(file, how)
            yield
        finally:
            os.close(file)

    def save(self, key: Any, data: Any) -> None:
        """Save an overload."""
        with self._alone(fcntl.LOCK_EX):
            super().save(key, data)  # type: ignore[no-untyped-call]

    def load(self, key: Any) -> Any:
        """Load an overload, None if it is not there."""
        with self._alone(fcntl.LOCK_SH):
            return super().load(key)  # type: ignore[no-untyped-call]


def lock(dispatcher: Any) -> None:
    """Let a compiled function save and load as told above. Modified in place."""
    file = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    if type(file) is IndexDataCacheFile:
        file.__class__ = _Locked
