"""From batches to the array that is replayed: cut, order, span, and the file that long traces go to."""

import errno
import sys
import tempfile
import tracemalloc
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevpcie_core.errors import ConfigError, FormatError
from sevpcie_core.workload.traces import NVME_DTYPE, Bad, Cut
from sevpcie_core.workload.traces.collect import collect

module = sys.modules["sevpcie_core.workload.traces.collect"]
PATH = Path("t.log")
SECOND = 10**12


def records(times, first=0):
    out = np.zeros(len(times), NVME_DTYPE)
    out["t_ps"] = times
    out["bytes"] = np.arange(first, first + len(times))
    return out


def batched(times, sizes):
    at = 0
    for size in sizes:
        yield records(times[at : at + size], at)
        at += size
    yield records(times[at:], at)


def naive(times, cut):
    """Cut, sort by (time, place), scale: one record at a time, with fractions."""
    taken = list(enumerate(times))[cut.offset :]
    if cut.limit:
        taken = taken[: cut.limit]
    taken.sort(key=lambda pair: (pair[1], pair[0]))
    start = taken[0][1]
    return [((t - start) // Fraction(str(cut.speed)), n) for n, t in taken]


@given(
    times=st.integers(1, 200).flatmap(
        lambda n: st.lists(st.integers(0, 50).map(lambda t: t * SECOND // 60), min_size=n, max_size=n)
    ),
    sizes=st.lists(st.integers(0, 60), max_size=6),
    offset=st.integers(0, 5),
    limit=st.integers(0, 150),
    speed=st.sampled_from([1, 2, 7, 0.1, 0.3, 1.5, Fraction(22, 7), 999_999_999]),
    run=st.sampled_from([1, 100, 1000, 10**6]),
    data=st.data(),
)
def test_the_same_as_one_by_one(times, sizes, offset, limit, speed, run, data):
    cut = Cut(min(offset, len(times) - 1), limit, speed)
    with pytest.MonkeyPatch.context() as patch:
        # Runs and merges of a few records each.
        patch.setattr(module, "RUN_BYTES", run)
        patch.setattr(module, "_FEWEST_MERGED", data.draw(st.integers(1, 20)))
        found = collect(PATH, batched(times, sizes), cut, Bad(), what="record")
    assert [(t, n) for t, n in zip(found["t_ps"].tolist(), found["bytes"].tolist(), strict=True)] == naive(
        times, cut
    )
    assert isinstance(found, np.memmap) == (found.nbytes >= run)


def test_records_far_behind_are_malformed():
    times = [0, 5 * SECOND, 4 * SECOND, 4 * SECOND - 1, 6 * SECOND, 3]
    with pytest.raises(
        FormatError, match=r"^t.log: record 4: time: 1.000 s before an earlier record; expected"
    ):
        collect(PATH, batched(times, [3]), Cut(), Bad(), what="record")
    bad = Bad(skip=True)
    found = collect(PATH, batched(times, [3]), Cut(), bad, what="record")
    assert found["bytes"].tolist() == [0, 2, 1, 4]
    assert bad.count == 2
    assert bad.examples[1].startswith("t.log: record 6: time: 6.000 s before")
    assert collect(PATH, batched(times, [3]), Cut(), Bad(), what="record", any_order=True).size == 6
    # What lies behind the limit, or before the offset, is not looked at.
    assert collect(PATH, batched(times, []), Cut(limit=3), Bad(), what="record").size == 3
    assert collect(PATH, batched(times, [1]), Cut(offset=3, limit=2), Bad(), what="record").size == 2


def test_a_reader_names_the_place():
    bad = Bad()

    def batches():
        bad.place = lambda i: f"t.log:{10 * i}"
        yield records([0, 1, 7201 * SECOND])

    with pytest.raises(FormatError, match=r"^t.log:20: time: spans 2.01 h; expected at most 2 h \(cut it"):
        collect(PATH, batches(), Cut(), bad, what="record")


def test_the_span_counts_after_speed():
    times = [0, 3 * 7200 * SECOND]
    assert collect(PATH, [records(times)], Cut(speed=3), Bad(), what="r")["t_ps"].tolist() == [
        0,
        7200 * SECOND,
    ]
    with pytest.raises(FormatError, match="record 2: time: spans"):
        collect(PATH, [records(times)], Cut(speed=2.9), Bad(), what="r")
    with pytest.raises(FormatError, match="spans 60 h"):
        collect(PATH, [records(times)], Cut(speed=0.1), Bad(), what="r")
    backwards = [records([40 * 86400 * SECOND]), records([-40 * 86400 * SECOND])]
    with pytest.raises(FormatError, match="record 2: time: spans 1920 h"):
        collect(PATH, backwards, Cut(), Bad(), what="r", any_order=True)


@pytest.mark.parametrize(
    ("cut", "said"),
    [
        ({"offset": -1}, "offset -1"),
        ({"limit": -1}, "limit -1"),
        ({"speed": 0}, "speed 0; expected above 0"),
        ({"speed": -2}, "speed -2"),
        ({"speed": float("nan")}, "speed nan"),
        ({"speed": float("inf")}, "speed inf"),
        ({"speed": 1e-12}, "speed 1e-12; expected above 0, with fewer than ten digits"),
    ],
)
def test_cuts_that_make_no_sense(cut, said):
    with pytest.raises(ConfigError, match=said):
        Cut(**cut)


def test_nothing_left_says_why():
    with pytest.raises(FormatError, match="no record; expected at least one"):
        collect(PATH, [], Cut(), Bad(), what="record")
    with pytest.raises(FormatError, match="no record after the first 7 records; expected at least one"):
        collect(PATH, [records([1, 2])], Cut(offset=7), Bad(), what="record")
    bad = Bad(skip=True)
    bad.report("t.log:3: all wrong", 5)
    with pytest.raises(FormatError, match=r"expected at least one \(5 malformed; t.log:3: all wrong\)"):
        collect(PATH, [], Cut(), bad, what="record")


def test_a_full_disk_is_one_clear_error(monkeypatch):
    class Full:
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self):
            pass

    monkeypatch.setattr(module, "RUN_BYTES", 1)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda prefix: Full())
    with pytest.raises(ConfigError, match=r"^t.log: its records do not fit in .* \(no space left\).*TMPDIR"):
        collect(PATH, [records([1])], Cut(), Bad(), what="record")


def test_a_long_trace_takes_constant_memory():
    def batches():
        for n in range(60):
            # Backwards within a batch, overlapping the next one.
            yield records(np.arange(65536)[::-1] * 2 + n * 65536)

    def peak():
        tracemalloc.start()
        found = collect(PATH, batches(), Cut(), Bad(), what="record")
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found, most

    found, most = peak()
    assert found.nbytes > 3 * module.RUN_BYTES
    assert (found["t_ps"][1:] >= found["t_ps"][:-1]).all()
    assert most < 4.5 * module.RUN_BYTES
