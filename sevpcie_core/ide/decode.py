"""What stands between the bytes that a stream releases and the batch that it returns.

Rule: an authentic TLP can still be ill-formed, or a completion that nobody here waits for. Neither may reach
the batch, and neither may hide the TLPs around it.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from .. import spec
from ..errors import FormatError
from ..tlp.batch import Batch
from ..tlp.codec import parse
from .eligible import NO_SUB_STREAM, TABLE
from .layout import OpenCode
from .states import State
from .stream import Stream
from .tags import Completion, TagTable, last_completions
from .tdisp import NO_STREAM

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]

# bool[256], by kind.
COMPLETIONS: Final = TABLE & NO_SUB_STREAM == spec.SUB_STREAM_COMPLETION


def parse_all(data: U8, offsets: I64, flit: bool) -> tuple[Batch, npt.NDArray[np.bool_]]:
    """Return the batch of all TLPs if the codec takes them, and bool[n]: which it takes.

    If it refuses one, the batch is empty: parse what is good again.
    """
    good = np.ones(len(offsets) - 1, np.bool_)
    try:
        return parse(data, offsets, flit=flit), good
    except FormatError:
        _find_bad(data, offsets, flit, 0, len(good), good)
        return parse(data[:0], np.zeros(1, np.int64), flit=flit), good


def _find_bad(data: U8, offsets: I64, flit: bool, first: int, last: int, good: npt.NDArray[np.bool_]) -> None:
    """Mark the TLPs among first to last - 1 that the codec refuses, given that it refuses one of them."""
    if last - first == 1:
        good[first] = False
        return
    middle = (first + last) // 2
    for low, high in ((first, middle), (middle, last)):
        try:
            parse(data[offsets[low] : offsets[high]], offsets[low : high + 1] - offsets[low], flit=flit)
        except FormatError:
            _find_bad(data, offsets, flit, low, high, good)


def judge_completions(
    batch: Batch, marks: npt.NDArray[np.void], stream: Stream, tags: TagTable
) -> tuple[I64, int | None]:
    """Return i8[n], 0 or the OpenCode of a TLP that may not be released, because of whose its tag is.

    A protected completion of another stream or T than its request's ends the stream: it is REJECTED, and what
    is protected and comes later DROPPED. The second result is its row, None if there is none.
    """
    codes = np.zeros(len(marks), np.int64)
    kinds = batch.tlps["kind"]
    rows = np.flatnonzero(COMPLETIONS[kinds])
    if len(rows) == 0:
        return codes, None
    tlps = batch.tlps[rows]
    protected = marks["protected"][rows] != 0
    verdicts = tags.complete(
        tlps["requester"],
        tlps["tag"],
        stream=np.where(protected, stream.config.stream_id, NO_STREAM),
        tee=marks["t"][rows],
        last=last_completions(tlps),
    )
    codes[rows[verdicts != Completion.ACCEPTED]] = OpenCode.UNEXPECTED
    fatal = protected & np.isin(verdicts, (Completion.WRONG_STREAM, Completion.T_MISMATCH))
    # Released protected TLPs came while the stream was SECURE, whatever ended it in this call.
    if not fatal.any() or stream.state is not State.SECURE:
        return codes, None
    first = int(rows[fatal][0])
    later = np.arange(len(codes)) > first
    codes[later & (marks["protected"] != 0)] = OpenCode.DROPPED
    codes[first] = OpenCode.REJECTED
    return codes, first
