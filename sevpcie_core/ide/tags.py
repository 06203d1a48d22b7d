"""Whose a completion is, and what may still be delivered after a flush.

Rule: a completion is taken only by the owner of its tag: same stream, same T, interface still in RUN. What a
stream accepted before it was flushed is never delivered after.

The two hardenings, `quarantine_timed_out_tags` and `refuse_old_epochs`, close the gaps known as CVE-2025-9613
and CVE-2025-9614; switched off, they reproduce them for study. How real ports close them is not public.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Final

import numpy as np

from .. import spec
from .._jit import inline_kernel, kernel
from ..errors import MisuseError
from .eligible import NO_SUB_STREAM
from .tdisp import NO_INTERFACE, NO_STREAM, STREAMS, Interfaces, State, columns

_FREE: Final = 0
_OUTSTANDING: Final = 1
_QUARANTINED: Final = 2
_REQUESTERS: Final = 1 << 16


class Issue(IntEnum):
    """What became of a tag asked for."""

    ISSUED = 0
    IN_USE = 1
    QUARANTINED = 2
    # T=1 outside RUN, or not on the interface's stream.
    NOT_PERMITTED = 3


class Completion(IntEnum):
    """Whose a completion is."""

    ACCEPTED = 0
    # Nobody waits for it.
    UNEXPECTED = 1
    # IDE Check Failed: the stream becomes Insecure.
    WRONG_STREAM = 2
    T_MISMATCH = 3
    # Its request timed out, its interface left RUN, or it was opened before the stream was flushed.
    STALE = 4


# One row per requester and tag: the owner.
OWNER: Final = np.dtype(
    [
        ("state", "u1"),
        ("tee", "?"),
        ("sub_stream", "u1"),  # on which the completion must come
        ("stream", "i2"),  # 0..255 or NO_STREAM
        ("interface", "i4"),
        ("epoch", "u4"),  # of the stream, when the request went out
    ]
)

# Kernels bake plain numbers in.
_STATE_RUN: Final = int(State.RUN)
_ISSUED: Final = int(Issue.ISSUED)
_IN_USE: Final = int(Issue.IN_USE)
_IN_QUARANTINE: Final = int(Issue.QUARANTINED)
_NOT_PERMITTED: Final = int(Issue.NOT_PERMITTED)
_ACCEPTED: Final = int(Completion.ACCEPTED)
_UNEXPECTED: Final = int(Completion.UNEXPECTED)
_WRONG_STREAM: Final = int(Completion.WRONG_STREAM)
_T_MISMATCH: Final = int(Completion.T_MISMATCH)
_STALE: Final = int(Completion.STALE)
_COMPLETION: Final = spec.SUB_STREAM_COMPLETION


@inline_kernel
def _standing(owners: np.ndarray, row: int, epochs: np.ndarray) -> int:
    """Return the state of a tag: a flush of its stream has freed it without touching it."""
    state = int(owners[row]["state"])
    stream = owners[row]["stream"]
    if state != _FREE and stream >= 0 and owners[row]["epoch"] != epochs[stream]:
        return _FREE
    return state


@kernel
def _issue(
    owners: np.ndarray,
    slots: np.ndarray,
    tags: int,
    states: np.ndarray,
    streams: np.ndarray,
    epochs: np.ndarray,
    requester: np.ndarray,
    tag: np.ndarray,
    interface: np.ndarray,
    tee: np.ndarray,
    stream: np.ndarray,
    out: np.ndarray,
) -> None:
    """Enter the owners of tags; out[i] is the Issue of request i.  Modified in place: owners, out."""
    for i in range(len(tag)):
        k = interface[i]
        if tee[i] and (k < 0 or states[k] != _STATE_RUN or streams[k] != stream[i]):
            out[i] = _NOT_PERMITTED
            continue
        row = slots[requester[i]] * tags + tag[i]
        state = _standing(owners, row, epochs)
        if state == _OUTSTANDING:
            out[i] = _IN_USE
            continue
        if state == _QUARANTINED:
            out[i] = _IN_QUARANTINE
            continue
        owners[row]["state"] = _OUTSTANDING
        owners[row]["tee"] = tee[i]
        owners[row]["sub_stream"] = NO_SUB_STREAM if stream[i] < 0 else _COMPLETION
        owners[row]["stream"] = stream[i]
        owners[row]["interface"] = k
        owners[row]["epoch"] = 0 if stream[i] < 0 else epochs[stream[i]]
        out[i] = _ISSUED


@kernel
def _complete(
    owners: np.ndarray,
    slots: np.ndarray,
    tags: int,
    states: np.ndarray,
    epochs: np.ndarray,
    refuse_old_epochs: bool,
    compare_tee: bool,
    requester: np.ndarray,
    tag: np.ndarray,
    stream: np.ndarray,
    sub_stream: np.ndarray,
    tee: np.ndarray,
    epoch: np.ndarray,
    last: np.ndarray,
    out: np.ndarray,
) -> None:
    """Match completions with owners; out[i] is the Completion of i.  Modified in place: owners, out."""
    for i in range(len(tag)):
        if refuse_old_epochs and stream[i] >= 0 and epoch[i] != epochs[stream[i]]:
            out[i] = _STALE
            continue
        slot = slots[requester[i]]
        if slot < 0 or tag[i] >= tags:
            out[i] = _UNEXPECTED
            continue
        row = slot * tags + tag[i]
        state = _standing(owners, row, epochs)
        k = owners[row]["interface"]
        if state == _FREE:
            out[i] = _UNEXPECTED
        elif state == _QUARANTINED or (owners[row]["tee"] and states[k] != _STATE_RUN):
            out[i] = _STALE
        elif owners[row]["stream"] != stream[i] or owners[row]["sub_stream"] != sub_stream[i]:
            out[i] = _WRONG_STREAM
        elif compare_tee and owners[row]["tee"] != tee[i]:
            out[i] = _T_MISMATCH
        else:
            out[i] = _ACCEPTED
            if last[i]:
                owners[row]["state"] = _FREE


@kernel
def _time_out(
    owners: np.ndarray,
    slots: np.ndarray,
    tags: int,
    epochs: np.ndarray,
    quarantine: bool,
    requester: np.ndarray,
    tag: np.ndarray,
    out: np.ndarray,
) -> None:
    """Give up requests; out[i] says whether i was outstanding.  Modified in place: owners, out."""
    for i in range(len(tag)):
        row = slots[requester[i]] * tags + tag[i]
        out[i] = _standing(owners, row, epochs) == _OUTSTANDING
        if out[i]:
            # Without IDE anybody can answer, and nothing ever flushes: quarantine would only lose the tag.
            protected = owners[row]["stream"] >= 0
            owners[row]["state"] = _QUARANTINED if quarantine and protected else _FREE


@kernel
def _retire(owners: np.ndarray, interface: int) -> None:
    """Put the T=1 requests of an interface into quarantine.  Modified in place."""
    for row in range(len(owners)):
        outstanding = owners[row]["state"] == _OUTSTANDING
        if outstanding and owners[row]["tee"] and owners[row]["interface"] == interface:
            owners[row]["state"] = _QUARANTINED


class Epochs:
    """The age of every stream, counted in flushes.

    What a stream accepted carries the epoch of that moment (`stamp`) up to its delivery. A flush starts a new
    epoch: whatever still waits between the two, posted writes among it, came in under keys or for a context
    that are gone. A key refresh by the K bit is not a flush: the context stays.

    Parameters
    ----------
    refuse_old_epochs : refuse to deliver what is older than the last flush. False reproduces CVE-2025-9614.
    """

    def __init__(self, refuse_old_epochs: bool = True) -> None:
        self.refuse_old_epochs = refuse_old_epochs
        self.now = np.zeros(STREAMS, np.uint32)

    def flush(self, stream: int) -> int:
        """Start a new epoch of a stream and return it: on re-keying, before a new context takes it over.

        To drain instead of to discard, deliver what waits first. Both ends must flush: see `docs/tdisp.md`.
        """
        columns(("stream", stream, 0, STREAMS - 1))
        self.now[stream] += 1
        return int(self.now[stream])

    def stamp(self, stream: Any) -> np.ndarray:
        """Return the present epoch u4[n] of streams, integers[n] of 0..255, for TLPs accepted now."""
        (streams,) = columns(("stream", stream, 0, STREAMS - 1))
        present: np.ndarray = self.now[streams]
        return present

    def deliver(self, stream: Any, epoch: Any) -> np.ndarray:
        """Return bool[n]: whether TLPs of these streams, accepted in these epochs, may still be delivered."""
        streams, epochs = columns(("stream", stream, 0, STREAMS - 1), ("epoch", epoch, 0, 2**32 - 1))
        if not self.refuse_old_epochs:
            return np.ones(len(streams), np.bool_)
        same: np.ndarray = epochs == self.now[streams]
        return same


class TagTable:
    """The owner of every outstanding tag of a port that sends requests.

    Parameters
    ----------
    requesters : requester IDs that the port uses; each has tags of its own.
    interfaces : on whose behalf requests go out.
    epochs : shared with whatever else of the port accepts TLPs; None: its own.
    tags : tags per requester, up to 2**14.
    quarantine_timed_out_tags : a tag of a stream whose request timed out, or whose interface left RUN, stays
        unusable until the stream is flushed. False frees a timed-out tag at once and leaves one of a stopped
        interface outstanding, which reproduces CVE-2025-9613.
    compare_tee : a completion must have the T bit of its request. The standard asks for that of ports
        without TEE-IO support; an interface in RUN ignores the bit, so for its table this is False.

    Raises
    ------
    MisuseError : requesters that repeat or are out of range, tags out of range.
    """

    def __init__(
        self,
        requesters: Sequence[int],
        interfaces: Interfaces,
        epochs: Epochs | None = None,
        *,
        tags: int = 1024,
        quarantine_timed_out_tags: bool = True,
        compare_tee: bool = True,
    ) -> None:
        ids = np.asarray(requesters, np.int64)
        if ids.ndim != 1 or ((ids < 0) | (ids >= _REQUESTERS)).any() or len(np.unique(ids)) != len(ids):
            raise MisuseError(f"requesters: {requesters}; expected different IDs from 0 to 65535")
        if not 1 <= tags <= spec.MAX_TAGS:
            raise MisuseError(f"tags: {tags}; expected 1 to {spec.MAX_TAGS}")
        self.interfaces = interfaces
        self.epochs = Epochs() if epochs is None else epochs
        self.tags = tags
        self.quarantine_timed_out_tags = quarantine_timed_out_tags
        self.compare_tee = compare_tee
        self._slots = np.full(_REQUESTERS, -1, np.int64)
        self._slots[ids] = np.arange(len(ids))
        self._owners = np.zeros(len(ids) * tags, OWNER)
        interfaces.on_leaving_run(self.retire)

    def issue(self, requester: Any, tag: Any, *, interface: Any, tee: Any, stream: Any) -> np.ndarray:
        """Enter owners of tags for requests about to be sent; return u1[n], the Issue of each, in order.

        Scalars stand for all. Only requests that are ISSUED may be sent.

        Parameters
        ----------
        requester : requester ID. tag : 0..tags-1. interface : number, or NO_INTERFACE.
        tee : T bit. stream : Stream ID, or NO_STREAM outside of IDE.

        Raises
        ------
        MisuseError : a requester that is not the port's, another value out of range.
        """
        requesters, numbers, owners, tees, streams = columns(
            ("requester", requester, 0, _REQUESTERS - 1),
            ("tag", tag, 0, self.tags - 1),
            ("interface", interface, NO_INTERFACE, len(self.interfaces) - 1),
            ("tee", tee, 0, 1),
            ("stream", stream, NO_STREAM, STREAMS - 1),
        )
        self._check_requesters(requesters)
        out = np.empty(len(numbers), np.uint8)
        _issue(
            self._owners,
            self._slots,
            self.tags,
            self.interfaces.states,
            self.interfaces.streams,
            self.epochs.now,
            requesters,
            numbers,
            owners,
            tees,
            streams,
            out,
        )
        return out

    def complete(
        self,
        requester: Any,
        tag: Any,
        *,
        stream: Any,
        tee: Any,
        last: Any,
        epoch: Any = None,
        sub_stream: Any = None,
    ) -> np.ndarray:
        """Match completions in order of arrival; return u1[n], the Completion of each. Scalars stand for all.

        Parameters
        ----------
        requester, tag : as the completion carries them; any value is allowed.
        stream : Stream ID that it came on, or NO_STREAM.
        tee : T bit.
        last : nothing of this request is to follow (`last_completions`): frees the tag if ACCEPTED.
        epoch : of the stream when the completion was opened (`Epochs.stamp`); None: the present one.
        sub_stream : 0..7 that it came on; None: that of completions, outside of IDE none.
        """
        (came_on,) = columns(("stream", stream, NO_STREAM, STREAMS - 1))
        if epoch is None:
            epoch = self.epochs.now[came_on]
        if sub_stream is None:
            sub_stream = np.where(came_on == NO_STREAM, NO_SUB_STREAM, _COMPLETION)
        requesters, numbers, streams, sub_streams, tees, ages, lasts = columns(
            ("requester", requester, 0, _REQUESTERS - 1),
            ("tag", tag, 0, spec.MAX_TAGS - 1),
            ("stream", stream, NO_STREAM, STREAMS - 1),
            ("sub_stream", sub_stream, 0, NO_SUB_STREAM),
            ("tee", tee, 0, 1),
            ("epoch", epoch, 0, 2**32 - 1),
            ("last", last, 0, 1),
        )
        out = np.empty(len(numbers), np.uint8)
        _complete(
            self._owners,
            self._slots,
            self.tags,
            self.interfaces.states,
            self.epochs.now,
            self.epochs.refuse_old_epochs,
            self.compare_tee,
            requesters,
            numbers,
            streams,
            sub_streams,
            tees,
            ages,
            lasts,
            out,
        )
        return out

    def time_out(self, requester: Any, tag: Any) -> np.ndarray:
        """Give up requests whose completion timeout has passed; return bool[n]: which were outstanding."""
        requesters, numbers = columns(
            ("requester", requester, 0, _REQUESTERS - 1), ("tag", tag, 0, self.tags - 1)
        )
        self._check_requesters(requesters)
        out = np.empty(len(numbers), np.bool_)
        quarantine = self.quarantine_timed_out_tags
        _time_out(self._owners, self._slots, self.tags, self.epochs.now, quarantine, requesters, numbers, out)
        return out

    def retire(self, interface: int) -> None:
        """Abandon the outstanding T=1 requests of an interface that left RUN."""
        if self.quarantine_timed_out_tags:
            _retire(self._owners, interface)

    def flush(self, stream: int) -> int:
        """Start a new epoch of a stream, which frees all its tags; return the epoch. As `Epochs.flush`."""
        return self.epochs.flush(stream)

    def owner(self, requester: int, tag: int) -> dict[str, int] | None:
        """Return the owner of a tag that is not free, with the field names of OWNER; else None."""
        columns(("tag", tag, 0, self.tags - 1))
        self._check_requesters(np.asarray([requester]))
        row = int(self._slots[requester]) * self.tags + tag
        if _standing(self._owners, row, self.epochs.now) == _FREE:
            return None
        return {name: int(self._owners[row][name]) for name in OWNER.names or ()}

    def count(self, quarantined: bool = False) -> int:
        """Return how many tags are outstanding, or in quarantine."""
        state = self._owners["state"]
        stream = self._owners["stream"]
        fresh = (stream < 0) | (self._owners["epoch"] == self.epochs.now[stream])
        return int(((state == (_QUARANTINED if quarantined else _OUTSTANDING)) & fresh).sum())

    def _check_requesters(self, requesters: np.ndarray) -> None:
        unknown = requesters[self._slots[requesters] < 0]
        if len(unknown):
            raise MisuseError(f"requester: {unknown[0]:#06x}; expected one that the table was made with")


def last_completions(tlps: np.ndarray) -> np.ndarray:
    """Return bool[n]: whether nothing of its request follows each completion.

    Parameters
    ----------
    tlps : tlp.batch.TLP[n], completions.

    Notes
    -----
    PCIe Base r6.x, section 2.3.1.1: Byte Count is what is left, this completion included. The first bytes of
    the first double word, below Lower Address, are not counted.
    """
    carried = tlps["data_bytes"].astype(np.int64) - (tlps["lower_address"] & 3)
    last: np.ndarray = (tlps["status"] != 0) | (tlps["data_bytes"] == 0) | (tlps["byte_count"] <= carried)
    return last
