"""Opening: bytes off the wire become a batch of TLPs, or the stream ends.

Rule: whatever the bytes are, nothing raises but the caller's own mistake. Plan all rules but the MAC, open
all units at once, settle which failure came first, then let the codec read what is released.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from .. import spec
from ..crypto.batch import open_batch
from ..crypto.packet import PACKET
from ..errors import MisuseError
from ..tlp.batch import TLP, Batch, as_bytes
from . import plan_open
from .decode import judge_completions, parse_all
from .framing import delimit
from .header_encryption import MAX_HIDDEN_BYTES, PCRC_HEADER_BYTES
from .layout import MARK, MAX_MEMBERS, OPENED, ROW, OpenCode
from .settle import settle
from .states import Event, Reason, State
from .stream import Stream
from .tags import TagTable

# What becomes of protected TLPs other than being released, while their stream is SECURE.
_OF_A_STREAM: Final = (
    OpenCode.HELD,
    OpenCode.SYNC,
    OpenCode.DISCARDED_TEE,
    OpenCode.PCRC_FAILED,
    OpenCode.REJECTED,
)

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]


@dataclass(eq=False)
class Opened(Batch):
    """The TLPs that a call released, and where each came from.

    Attributes
    ----------
    marks : MARK[n], one row per TLP.
    """

    marks: npt.NDArray[np.void] = field(kw_only=True)


def open_stream(
    wire: U8 | bytes | memoryview,
    stream: Stream,
    offsets: npt.ArrayLike | None = None,
    tags: TagTable | None = None,
) -> tuple[Opened, npt.NDArray[np.void]]:
    """Open what came for a stream.

    Parameters
    ----------
    wire : u1[:] or bytes, TLPs in order of arrival; not changed.
    stream : the receiver's end.
    offsets : i8[n + 1], the link's framing: TLP i is wire[offsets[i] : offsets[i + 1]]. None: each TLP is as
        long as its header says.
    tags : owners of the tags of requests that this port has sent; a completion must belong to one.

    Returns
    -------
    batch : Opened, the TLPs that are released, in order of release.
    status : OPENED[n], one row per wire TLP.

    Raises MisuseError for offsets that do not cut the wire into TLPs in order. Never for what the bytes say.
    """
    data = as_bytes(wire)
    with stream._taken():
        half = stream._halves["rx"]
        state = stream.state
        saved = half.slots.copy(), stream._rx.copy(), list(stream._held), list(stream._waiting)
        try:
            return _open(data, stream, offsets, tags)
        except BaseException:
            if stream.state is state:
                # As if the call had not been made: nothing was released.
                half.slots[:], stream._rx[:], stream._held, stream._waiting = saved
            raise


def _open(
    data: U8, stream: Stream, offsets: npt.ArrayLike | None, tags: TagTable | None
) -> tuple[Opened, npt.NDArray[np.void]]:
    """Plan, open, settle, and keep what must wait. The caller has the stream."""
    settings = stream._settings
    old = b"".join(stream._held)
    end = len(old) + len(data)
    gathers = int(settings[0]["phe"]) != 0 or int(settings[0]["open_tlps"]) != 0
    image = np.concatenate([np.frombuffer(old, np.uint8), data])
    cuts = _cuts(image, stream, end, offsets)
    n, held = len(cuts) - 1, len(stream._held)
    # A gathered unit holds its TLPs without their MAC, and hidden bytes of a header once more.
    room = end + n * MAX_HIDDEN_BYTES if gathers else 0
    work = np.empty(end + PCRC_HEADER_BYTES + room, np.uint8)
    work[:end] = image
    work[end : end + PCRC_HEADER_BYTES] = 0

    half = stream._halves["rx"]
    rows = np.zeros(n, ROW)
    packets = np.zeros(n, PACKET)
    checks = np.empty(n, plan_open.CHECK)
    order, order_at, deferred = np.empty((3, n + 1), np.int64)
    counts = np.zeros(plan_open.COUNTS, np.int64)
    tlp = np.zeros(1, TLP)
    counts[plan_open.GATHERED] = end + PCRC_HEADER_BYTES
    counts[plan_open.HAS_WAITING] = len(stream._waiting) > 0
    plan_open.plan(
        work,
        cuts,
        held,
        settings,
        stream.state is not State.DISABLED,
        stream.state is State.SECURE,
        half.slots,
        stream._rx,
        stream._units,
        stream._members,
        rows,
        packets,
        checks,
        order,
        order_at,
        deferred,
        counts,
        tlp,
        tlp.view(np.uint8),
    )
    packets = packets[: counts[plan_open.UNITS]]
    opened = np.ones(0, np.bool_)
    if len(packets):
        opened = open_batch(half.table, packets, work, work, work, stream.profile.mac_bytes)
    plain = np.empty(end, np.uint8)
    plain_offsets = np.empty(n + 1, np.int64)
    marks = np.empty(n, MARK)
    status = np.empty(n - held, OPENED)
    settle(
        work,
        settings,
        rows,
        packets,
        checks,
        opened,
        order,
        order_at,
        deferred,
        counts,
        held,
        end,
        plain,
        plain_offsets,
        marks,
        status,
    )
    released = _Tlps.cut(plain, plain_offsets, marks, 0, int(counts[plan_open.RELEASED]))
    released = _join_waiting(stream, released, status, int(counts[plan_open.LEFT_WAITING]))
    batch, fatal = _decode(released, stream, status, tags)
    _apply(stream, rows, counts, None if fatal is None else fatal + held)
    if stream.state is State.SECURE:
        half.wipe_unused()
        _keep(stream, work, rows, plain, plain_offsets, marks, counts)
    else:
        work[:] = 0
    # What is open and not released is nobody's to read, though the batch's pool lies beside it.
    plain[plain_offsets[int(counts[plan_open.RELEASED])] :] = 0
    return batch, status


@dataclass
class _Tlps:
    """TLPs as bytes, one behind the other, and their marks."""

    data: U8
    offsets: I64
    marks: npt.NDArray[np.void]

    @classmethod
    def cut(cls, data: U8, offsets: I64, marks: npt.NDArray[np.void], first: int, last: int) -> "_Tlps":
        """Return TLPs first to last - 1 of others."""
        start, end = offsets[first], offsets[last]
        return cls(data[start:end], offsets[first : last + 1] - start, marks[first:last])

    @classmethod
    def join(cls, parts: "list[_Tlps]") -> "_Tlps":
        """Return several in one."""
        sizes = np.concatenate([np.zeros(1, np.int64), *(np.diff(part.offsets) for part in parts)])
        data = np.concatenate([part.data for part in parts])
        return cls(data, np.cumsum(sizes), np.concatenate([part.marks for part in parts]))

    def keep(self, mask: npt.NDArray[np.bool_]) -> "_Tlps":
        """Return those that a mask names."""
        sizes = np.diff(self.offsets)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes[mask])])
        return _Tlps(self.data[np.repeat(mask, sizes)], offsets, self.marks[mask])


def _cuts(data: U8, stream: Stream, end: int, offsets: npt.ArrayLike | None) -> I64:
    """Return i8[n + 1], where TLPs start and end in data[:end]: those that are held, then the new ones."""
    sizes = [len(tlp) for tlp in stream._held]
    start = sum(sizes)
    if offsets is None:
        # All but the last have a whole header.
        new = np.empty((end - start) // spec.HEADER_3DW_BYTES + 2, np.int64)
        count = delimit(data, start, end, stream.config.flit, new)
        new = new[: count + 1]
    else:
        try:
            new = np.asarray(offsets)
        except ValueError:
            raise MisuseError("offsets is not an array of integers, one more than TLPs") from None
        if new.ndim != 1 or len(new) == 0 or not np.issubdtype(new.dtype, np.integer):
            raise MisuseError("offsets is not an array of integers, one more than TLPs")
        if new[0] != 0 or new[-1] != end - start or (new[1:] < new[:-1]).any():
            raise MisuseError("offsets do not rise from 0 to the length of the wire")
        new = new.astype(np.int64) + start
    return np.concatenate([np.cumsum([0, *sizes[:-1]]), new]) if sizes else new


def _join_waiting(stream: Stream, released: _Tlps, status: npt.NDArray[np.void], place: int) -> _Tlps:
    """Put TLPs that waited for a posted unit where they belong, if that unit was released in this call."""
    if place < 0:
        return released
    waited, stream._waiting = stream._waiting, []
    status["row"][status["row"] >= place] += sum(len(part.marks) for part in waited)
    last = len(released.marks)
    before, after = (
        _Tlps.cut(released.data, released.offsets, released.marks, first, end)
        for first, end in ((0, place), (place, last))
    )
    return _Tlps.join([before, *waited, after])


def _apply(stream: Stream, rows: npt.NDArray[np.void], counts: I64, fatal: int | None) -> None:
    """Tell the state machine what happened, in wire order.

    fatal : row of the completion that is not its request's, which ended the stream; None if none is.
    """
    events = []
    if counts[plan_open.FIRST_MISROUTED] >= 0:
        events.append((int(counts[plan_open.FIRST_MISROUTED]), Event.MISROUTED, Reason.STREAM_ID))
    if counts[plan_open.FIRST_PCRC] >= 0:
        row = int(counts[plan_open.FIRST_PCRC])
        events.append((row, Event.PCRC_FAILED, Reason(int(rows[row]["reason"]))))
    if fatal is not None:
        events.append((fatal, Event.CHECK_FAILED, Reason.COMPLETION))
    elif counts[plan_open.STOP] >= 0:
        reason = Reason(int(counts[plan_open.STOP_REASON]))
        event = Event.FAIL_RECEIVED if reason is Reason.FAIL_RECEIVED else Event.CHECK_FAILED
        events.append((int(counts[plan_open.STOP]), event, reason))
    for _, event, reason in sorted(events):
        stream._apply(event, reason)


def _keep(
    stream: Stream,
    work: U8,
    rows: npt.NDArray[np.void],
    plain: U8,
    offsets: I64,
    marks: npt.NDArray[np.void],
    counts: I64,
) -> None:
    """Keep TLPs of open units as they came, and open TLPs that wait for a posted unit."""
    units, members = stream._units, stream._members
    kept = sorted(
        int(members[sub * MAX_MEMBERS + place]["row"])
        for sub in range(spec.IDE_SUB_STREAMS)
        for place in range(int(units[sub]["tlps"]))
    )
    stream._held = [work[rows[i]["start"] : rows[i]["end"]].tobytes() for i in kept]
    first, count = int(counts[plan_open.RELEASED]), int(counts[plan_open.DEFERRED])
    if count:
        waiting = _Tlps.cut(plain, offsets, marks, first, first + count)
        waiting.marks["wire_index"] = -1
        stream._waiting.append(_Tlps(waiting.data.copy(), waiting.offsets, waiting.marks.copy()))


def _decode(
    released: _Tlps, stream: Stream, status: npt.NDArray[np.void], tags: TagTable | None
) -> tuple[Opened, int | None]:
    """Have the codec read what is released; take back what it refuses, or what the owner of a tag refuses.

    Returns the batch, and the wire index of the completion that ends the stream (-1: held since an earlier
    call), None if there is none.
    """
    batch, good = parse_all(released.data, released.offsets, stream.config.flit)
    if not good.all():
        codes = np.where(good, 0, OpenCode.MALFORMED)
        released = _take_back(released, status, codes, Reason.NONE)
        batch, _ = parse_all(released.data, released.offsets, stream.config.flit)
    fatal = None
    if tags is not None:
        codes, first = judge_completions(batch, released.marks, stream, tags)
        if first is not None:
            fatal = int(released.marks[first]["wire_index"])
            _drop_behind(status, fatal)
        if codes.any():
            released = _take_back(released, status, codes, Reason.COMPLETION)
            batch, _ = parse_all(released.data, released.offsets, stream.config.flit)
    return Opened(batch.tlps, batch.pool, batch.flit, marks=released.marks), fatal


def _drop_behind(status: npt.NDArray[np.void], fatal: int) -> None:
    """Have nothing that a stream does be said of TLPs behind its end, nor of those that still wait."""
    behind = np.arange(len(status)) > fatal
    done = np.isin(status["code"], _OF_A_STREAM)
    dropped = (behind & done) | (status["code"] == OpenCode.HELD)
    status["code"][dropped] = OpenCode.DROPPED
    status["reason"][dropped] = Reason.NONE


def _take_back(
    released: _Tlps, status: npt.NDArray[np.void], codes: npt.NDArray[np.int64], reason: Reason
) -> _Tlps:
    """Drop the TLPs whose code is not 0, and say so in their status."""
    wire = released.marks["wire_index"]
    for i in np.flatnonzero((codes != 0) & (wire >= 0)):
        status[wire[i]]["code"] = codes[i]
        status[wire[i]]["row"] = -1
        if codes[i] == OpenCode.REJECTED:
            status[wire[i]]["reason"] = reason
    kept = codes == 0
    rows = np.flatnonzero(kept & (wire >= 0))
    status["row"][wire[rows]] = (np.cumsum(kept) - 1)[rows]
    return released.keep(kept)
