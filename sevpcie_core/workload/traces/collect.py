"""From batches of a reader to the one array that is replayed: cut, checked, in order of time.

Rule: memory stays constant whatever the length. A trace of up to RUN_BYTES lies in memory; a longer one is
spooled to an anonymous temporary file and comes back as a read-only `np.memmap` of it.
"""

import errno
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError, FormatError
from .bad import Bad
from .records import Records
from .source import MAX_BACKSTEP_PS, MAX_SPAN_PS, span_problem

RUN_BYTES: Final = 32 << 20
"""Most bytes of records in memory: the length of a sorted run, and of all merge buffers together."""
# Records of one run that a merge holds at least, however many runs there are.
_FEWEST_MERGED = 256
# Both halves of a speed stay below it, so that products with a remainder fit in 64 bits.
_MAX_SPEED_TERM = 10**9


@dataclass(frozen=True, slots=True)
class Cut:
    """Which records of a trace are replayed, and how fast. Raises ConfigError for what makes no sense.

    Attributes
    ----------
    offset : records left out at the start; limit : most records after them, 0 for all. Both count records as
    the format's reader returns them, in file order.
    speed : recorded times are divided by it, exactly, rounded down to ps; durations are left as they are. A
    float is taken by its shortest decimal form: 0.1 is a tenth.
    """

    offset: int = 0
    limit: int = 0
    speed: int | float | Fraction = 1

    def __post_init__(self) -> None:
        if self.offset < 0 or self.limit < 0:
            raise ConfigError(f"offset {self.offset}, limit {self.limit}; expected 0 or more")
        try:
            speed = Fraction(str(self.speed))
        except (ValueError, ZeroDivisionError):
            speed = Fraction(0)
        if not (speed > 0 and max(speed.as_integer_ratio()) < _MAX_SPEED_TERM):
            raise ConfigError(f"speed {self.speed}; expected above 0, with fewer than ten digits")

    @property
    def ratio(self) -> tuple[int, int]:
        """Numerator and denominator of the speed, in lowest terms."""
        return Fraction(str(self.speed)).as_integer_ratio()


def collect(
    path: Path, batches: Iterable[Records], cut: Cut, bad: Bad, *, what: str, any_order: bool = False
) -> Records:
    """Return the records of a trace, cut, in order of time (equal times in file order), the first at 0.

    Parameters
    ----------
    batches : of one dtype, with `t_ps` since any moment, no two more than twice MAX_CLOCK_PS apart; each an
    array of its own. cut : what is taken. bad : where malformed records go.
    what : what the format records, for the message about a trace without any, as in "no read or write".
    any_order : whether records may lie in any order; else one that lies more than MAX_BACKSTEP_PS before one
    above it is malformed.

    Returns
    -------
    Records[n], n >= 1; a read-only memmap if they take more than RUN_BYTES.

    Raises
    ------
    FormatError : no record, or times more than MAX_SPAN_PS apart (after `speed`). ConfigError : no room for
    the temporary file.
    """
    check = _Check(path, cut, bad, any_order)
    pending: list[Records] = []
    with closing(_Runs(path)) as runs:
        for batch in check.passed(batches):
            pending.append(batch)
            if sum(part.nbytes for part in pending) >= RUN_BYTES:
                runs.write(_ordered(np.concatenate(pending)))
                pending.clear()
        if not check.taken:
            after = f" after the first {cut.offset} records" if cut.offset and check.seen else ""
            malformed = f" ({bad.count} malformed; {bad.examples[0]})" if bad.count else ""
            raise FormatError(f"{path}: no {what}{after}; expected at least one{malformed}")
        if not runs.lengths:
            records = _ordered(np.concatenate(pending))
            check.replay_times(records)
            return records
        if pending:
            runs.write(_ordered(np.concatenate(pending)))
            pending.clear()
        return runs.merged(check)


def _ordered(records: Records) -> Records:
    times = records["t_ps"]
    if (times[1:] >= times[:-1]).all():
        return records
    return records[np.argsort(times, kind="stable")]


class _Check:
    """Cuts batches and checks order and span. `first`, `last`: earliest and latest time taken."""

    def __init__(self, path: Path, cut: Cut, bad: Bad, any_order: bool) -> None:
        self._path, self._cut, self._bad, self._any_order = path, cut, bad, any_order
        self._speed, self._per = cut.ratio
        self.seen = 0
        self.taken = 0
        self.first = self.last = 0

    def _place(self, at: int, before: int) -> str:
        if self._bad.place is not None:
            return self._bad.place(at)
        return f"{self._path}: record {before + at + 1}"

    def passed(self, batches: Iterable[Records]) -> Iterator[Records]:
        """Yield what is taken of each batch, never nothing."""
        limit = self._cut.limit
        for batch in batches:
            before = self.seen
            self.seen += len(batch)
            skipped = min(max(self._cut.offset - before, 0), len(batch))
            part = batch[skipped:]
            if not len(part):
                continue
            where = np.arange(skipped, len(batch))
            if not self._any_order:
                part, where = self._in_order(part, where, before)
            if limit and self.taken + len(part) >= limit:
                part = part[: limit - self.taken]
            if len(part):
                self._spans(part["t_ps"], where, before)
                self.taken += len(part)
                yield part
            if limit and self.taken == limit:
                return

    def _in_order(
        self, part: Records, where: NDArray[np.int64], before: int
    ) -> tuple[Records, NDArray[np.int64]]:
        """Leave out what lies too far behind."""
        times = part["t_ps"]
        latest = np.maximum.accumulate(times)
        if self.taken:
            latest = np.maximum(latest, self.last)
        behind = latest - times
        late = behind > MAX_BACKSTEP_PS
        if not late.any():
            return part, where
        # Behind the limit nothing is looked at.
        enough = self._cut.limit - self.taken if self._cut.limit else len(part)
        for at in np.flatnonzero(late & (np.cumsum(~late) < enough)):
            self._bad.report(
                f"{self._place(int(where[at]), before)}: time: {behind[at] / 1e12:.3f} s before an earlier "
                "record; expected times in order"
            )
        return part[~late], where[~late]

    def _spans(self, times: NDArray[np.int64], where: NDArray[np.int64], before: int) -> None:
        if not self.taken:
            self.first = self.last = int(times[0])
        first, last = min(self.first, int(times.min())), max(self.last, int(times.max()))
        # A time is whole and falls within the span or does not: no rounding of the bound matters.
        most = MAX_SPAN_PS * self._speed // self._per
        if last - first > most:
            low = np.minimum(np.minimum.accumulate(times), self.first)
            high = np.maximum(np.maximum.accumulate(times), self.last)
            # Python's integers: a difference of times fits, a difference with `most` may not.
            at = next(i for i, span in enumerate((high - low).tolist()) if span > most)
            span = (last - first) * self._per / self._speed
            raise FormatError(f"{self._place(int(where[at]), before)}: time: {span_problem(span)}")
        self.first, self.last = first, last

    def replay_times(self, records: Records) -> None:
        """Turn recorded times into those of the replay. Modified in place."""
        times = records["t_ps"] - self.first
        if (self._speed, self._per) != (1, 1):
            # The span is checked, so neither product leaves 64 bits.
            whole, rest = np.divmod(times, self._speed)
            times = whole * self._per + rest * self._per // self._speed
        records["t_ps"] = times


class _Runs:
    """Sorted runs in an anonymous temporary file, merged into another one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._dtype = np.dtype(np.void)
        self.lengths: list[int] = []

    def close(self) -> None:
        """Give the temporary file back."""
        if self._file is not None:
            self._file.close()

    def _append(self, file: IO[bytes], records: Records) -> None:
        try:
            file.write(np.ascontiguousarray(records).view(np.uint8).data)
            file.flush()
        except OSError as error:
            raise self._no_room(error) from None

    def _open(self) -> IO[bytes]:
        try:
            return tempfile.TemporaryFile(prefix="sevpcie-")
        except OSError as error:
            raise self._no_room(error) from None

    def _no_room(self, error: OSError) -> ConfigError:
        reason = "no space left" if error.errno == errno.ENOSPC else error.strerror or str(error)
        return ConfigError(
            f"{self._path}: its records do not fit in {tempfile.gettempdir()} ({reason}); expected a folder "
            "with room (TMPDIR names another one), or cut the trace with limit"
        )

    def write(self, run: Records) -> None:
        """Add a run."""
        if self._file is None:
            self._file, self._dtype = self._open(), run.dtype
        self._append(self._file, run)
        self.lengths.append(len(run))

    def merged(self, check: _Check) -> Records:
        """Return all records in order of time, equal times in order of runs."""
        # The mapping outlives the file object.
        with self._open() as out:
            for part in self._merge():
                check.replay_times(part)
                self._append(out, part)
            return np.memmap(out, dtype=self._dtype, mode="r", shape=(sum(self.lengths),))

    def _merge(self) -> Iterator[Records]:
        size = self._dtype.itemsize
        most = max(RUN_BYTES // size // len(self.lengths), _FEWEST_MERGED)
        starts = np.cumsum([0, *self.lengths])
        position, ends = starts[:-1].copy(), starts[1:]
        held = [np.empty(0, self._dtype) for _ in self.lengths]
        alive = list(range(len(self.lengths)))
        while True:
            for i in alive:
                if not len(held[i]) and position[i] < ends[i]:
                    held[i] = self._read(int(position[i]), int(min(most, ends[i] - position[i])))
                    position[i] += len(held[i])
            alive = [i for i in alive if len(held[i])]
            if not alive:
                return
            # The first run whose loaded part ends earliest: what lies before that end is complete in all.
            unread = [i for i in alive if position[i] < ends[i]]
            stop = min(unread, key=lambda i: (held[i][-1]["t_ps"], i), default=None)
            bound = 0 if stop is None else int(held[stop]["t_ps"][-1])
            parts = []
            for i in alive:
                count = len(held[i])
                if stop is not None and i != stop:
                    # Equal times of later runs wait: the stopping run may have more of them.
                    side: Literal["left", "right"] = "right" if i < stop else "left"
                    count = int(np.searchsorted(held[i]["t_ps"], bound, side))
                parts.append(held[i][:count])
                held[i] = held[i][count:]
            yield _ordered(np.concatenate(parts))

    def _read(self, start: int, count: int) -> Records:
        assert self._file is not None
        self._file.seek(start * self._dtype.itemsize)
        return np.frombuffer(self._file.read(count * self._dtype.itemsize), dtype=self._dtype)
