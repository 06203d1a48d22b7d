"""The disk cache of kernels: what several processes save at the same time, each finds again."""

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
from numba.core.caching import IndexDataCacheFile

from sevpcie_core import _jit
from sevpcie_core._jit.locked import _Locked

PROCESSES, KEYS = 6, 25


def _save(kind: type[IndexDataCacheFile], folder: str, process: int, begin) -> None:
    file = kind(folder, "f", "stamp")
    begin.wait()
    for i in range(KEYS):
        file.save((process, i), f"code of {process}, {i}")


def lost_or_wrong(kind: type[IndexDataCacheFile], folder: Path) -> int:
    """Return how many of what processes save at once is not found, or is another one's."""
    context = multiprocessing.get_context("fork")
    begin = context.Barrier(PROCESSES)
    workers = [context.Process(target=_save, args=(kind, str(folder), p, begin)) for p in range(PROCESSES)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    file = kind(str(folder), "f", "stamp")
    every = [(p, i) for p in range(PROCESSES) for i in range(KEYS)]
    return sum(file.load((p, i)) != f"code of {p}, {i}" for p, i in every)


def test_what_several_processes_save_is_found(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    assert lost_or_wrong(_Locked, tmp_path / "ours") == 0


def test_without_the_lock_it_is_lost(tmp_path: Path) -> None:
    """Why there is one. When this fails, Numba has mended it."""
    for attempt in range(20):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        if lost_or_wrong(IndexDataCacheFile, folder):
            return
    pytest.fail("nothing was lost")


@pytest.mark.skipif(_jit.JIT_DISABLED, reason="nothing is compiled")
def test_kernels_have_it() -> None:
    @_jit.kernel
    def double(x):
        return x + x

    assert type(double._cache._cache_file) is _Locked
    assert double(np.int64(4)) == 8


def test_a_folder_that_nothing_can_be_written_to_is_read(tmp_path: Path, monkeypatch) -> None:
    _Locked(str(tmp_path), "f", "stamp").save("key", "code")

    def refuse(*args, **options):
        raise PermissionError

    monkeypatch.setattr(os, "open", refuse)
    assert _Locked(str(tmp_path), "f", "stamp").load("key") == "code"
