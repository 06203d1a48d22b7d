"""TDISP: which interface may exchange TLPs of a trusted guest.

Rule: a state machine is a table. TLPs with T=1 go to and from an interface only in RUN and on its own stream.
Nothing here holds keys or sees a payload.

States and transitions are sure. Not modelled: the nonce of START_INTERFACE_REQUEST, peer-to-peer streams,
whether keys are in place at LOCK, and how the requests travel (a secured SPDM session).
"""

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, Final

import numpy as np

from .. import spec
from .._jit import kernel
from ..errors import MisuseError
from .eligible import sub_stream_of

# A TLP outside of IDE.
NO_STREAM: Final = -1
# A TLP of no interface: the host's own, or a function's that is no interface; never T=1.
NO_INTERFACE: Final = -1
STREAMS: Final = 256


# PCIe Base r6.x, section 11.3.14 (DEVICE_INTERFACE_STATE): values on the wire.
class State(IntEnum):
    """State of an interface (TDI)."""

    CONFIG_UNLOCKED = 0
    CONFIG_LOCKED = 1
    RUN = 2
    ERROR = 3


class Event(IntEnum):
    """What moves an interface: the three TDISP requests first. Numbers are ours."""

    LOCK = 0
    START = 1
    STOP = 2
    # Of the configuration, the requester ID, an unrecoverable data error.
    CHANGED = 3
    STREAM_INSECURE = 4
    FUNCTION_RESET = 5
    CONVENTIONAL_RESET = 6


# No transition: the interface stays and answers TDISP_ERROR, INVALID_INTERFACE_STATE.
REFUSED: Final = 0xFF

_UNLOCKED: Final = State.CONFIG_UNLOCKED
_LOCKED: Final = State.CONFIG_LOCKED
_RUN: Final = State.RUN
_ERROR: Final = State.ERROR

# PCIe Base r6.x, section 11.2 (rules of the states), table 11-3 (where a request is legal), sections
# 11.4.8 and 11.4.9 (resets). A column per state: CONFIG_UNLOCKED, CONFIG_LOCKED, RUN, ERROR.
TRANSITIONS: Final[dict[Event, tuple[int, int, int, int]]] = {
    Event.LOCK: (_LOCKED, REFUSED, REFUSED, REFUSED),
    Event.START: (REFUSED, _RUN, REFUSED, REFUSED),
    Event.STOP: (_UNLOCKED, _UNLOCKED, _UNLOCKED, _UNLOCKED),
    Event.CHANGED: (_UNLOCKED, _ERROR, _ERROR, _ERROR),
    Event.STREAM_INSECURE: (_UNLOCKED, _ERROR, _ERROR, _ERROR),
    Event.FUNCTION_RESET: (_UNLOCKED, _ERROR, _ERROR, _ERROR),
    Event.CONVENTIONAL_RESET: (_UNLOCKED, _UNLOCKED, _UNLOCKED, _UNLOCKED),
}


class Admission(IntEnum):
    """What an interface does with a request."""

    ADMITTED = 0
    # A posted request vanishes; a non-posted one is answered with Unsupported Request.
    DROPPED = 1
    UNSUPPORTED_REQUEST = 2


# Kernels bake plain numbers in.
_ADMITTED: Final = int(Admission.ADMITTED)
_DROPPED: Final = int(Admission.DROPPED)
_UNSUPPORTED: Final = int(Admission.UNSUPPORTED_REQUEST)
_STATE_UNLOCKED: Final = int(State.CONFIG_UNLOCKED)
_STATE_RUN: Final = int(State.RUN)
_POSTED: Final = spec.SUB_STREAM_POSTED
_NON_POSTED: Final = spec.SUB_STREAM_NON_POSTED


@kernel
def _admit(
    states: np.ndarray,
    streams: np.ndarray,
    kind: np.ndarray,
    interface: np.ndarray,
    tee: np.ndarray,
    stream: np.ndarray,
    tee_memory: np.ndarray,
    out: np.ndarray,
) -> None:
    """Set out[i] to the Admission of request i.  Modified in place."""
    for i in range(len(kind)):
        k = interface[i]
        if tee[i]:
            admitted = k >= 0 and states[k] == _STATE_RUN and streams[k] == stream[i]
        else:
            admitted = k < 0 or not tee_memory[i] or states[k] == _STATE_UNLOCKED
        if admitted:
            out[i] = _ADMITTED
        elif sub_stream_of(kind[i]) == _POSTED:
            out[i] = _DROPPED
        else:
            out[i] = _UNSUPPORTED


def columns(*given: tuple[str, Any, int, int]) -> list[np.ndarray]:
    """Return arguments as contiguous int64 arrays of one length; a scalar stands for all.

    Each is given as (name, integers, least value, greatest value). Raises MisuseError for a value outside.
    """
    arrays = [
        np.ascontiguousarray(a, np.int64)
        for a in np.broadcast_arrays(*(np.atleast_1d(values) for _, values, _, _ in given))
    ]
    for array, (name, _, low, high) in zip(arrays, given, strict=True):
        wrong = (array < low) | (array > high)
        if wrong.any():
            raise MisuseError(f"{name}: {array[wrong][0]}; expected {low} to {high}")
    return arrays


class Interfaces:
    """The interfaces (TDIs) that a port serves, by number from 0; each starts in CONFIG_UNLOCKED.

    Parameters
    ----------
    streams : 0..255, the Stream ID that each is bound to (LOCK_INTERFACE_REQUEST names it).

    Raises
    ------
    MisuseError : a Stream ID outside 0..255.
    """

    def __init__(self, streams: Sequence[int]) -> None:
        bound = np.asarray(streams, np.int64)
        if bound.ndim != 1 or ((bound < 0) | (bound >= STREAMS)).any():
            raise MisuseError(f"streams: {streams}; expected a Stream ID from 0 to 255 per interface")
        self.streams = bound.astype(np.int16)
        self.states = np.zeros(len(bound), np.uint8)
        self._on_leaving_run: list[Callable[[int], None]] = []

    def __len__(self) -> int:
        return len(self.states)

    def state(self, interface: int) -> State:
        """Return the state of an interface."""
        self._check(interface)
        return State(int(self.states[interface]))

    def apply(self, interface: int, event: Event) -> bool:
        """Move an interface; return False, and leave it, if TDISP refuses the request in this state.

        An interface that leaves RUN abandons its outstanding T=1 requests in every `tags.TagTable`.
        """
        before = self.state(interface)
        after = TRANSITIONS[event][before]
        if after == REFUSED:
            return False
        self.states[interface] = after
        if before == State.RUN and after != State.RUN:
            for call in self._on_leaving_run:
                call(interface)
        return True

    def stream_insecure(self, stream: int) -> None:
        """Tell every interface that is bound to a stream that it has become Insecure."""
        for interface in np.flatnonzero(self.streams == stream):
            self.apply(int(interface), Event.STREAM_INSECURE)

    def conventional_reset(self) -> None:
        """Tell every interface of a conventional reset."""
        for interface in range(len(self)):
            self.apply(interface, Event.CONVENTIONAL_RESET)

    def may_send(self, interface: int, tee: bool, stream: int) -> bool:
        """Return whether an interface may send a TLP: T=1 only in RUN and on its own stream."""
        return not tee or (self.state(interface) == State.RUN and int(self.streams[interface]) == stream)

    def admit(self, kind: Any, interface: Any, tee: Any, stream: Any, tee_memory: Any) -> np.ndarray:
        """Return u1[n], the Admission of each received request. Scalars stand for all.

        Parameters
        ----------
        kind : byte 0 of the non-flit header, a request's.
        interface : number of the interface that it targets, or NO_INTERFACE.
        tee : T bit.
        stream : Stream ID that it came on, or NO_STREAM.
        tee_memory : it targets memory that only the trusted guest may see (IS_NON_TEE_MEM clear).

        Raises
        ------
        MisuseError : a kind that is no request's, or a value out of range.
        """
        kinds, interfaces, tees, streams, memories = columns(
            ("kind", kind, 0, 255),
            ("interface", interface, NO_INTERFACE, len(self) - 1),
            ("tee", tee, 0, 1),
            ("stream", stream, NO_STREAM, STREAMS - 1),
            ("tee_memory", tee_memory, 0, 1),
        )
        for value in np.unique(kinds):
            if sub_stream_of(int(value)) not in (_POSTED, _NON_POSTED):
                raise MisuseError(f"kind: {int(value):#04x}; expected that of a request")
        out = np.empty(len(kinds), np.uint8)
        _admit(self.states, self.streams, kinds, interfaces, tees, streams, memories, out)
        return out

    def on_leaving_run(self, call: Callable[[int], None]) -> None:
        """Have a function called with the number of every interface that leaves RUN from now on."""
        self._on_leaving_run.append(call)

    def _check(self, interface: int) -> None:
        if not 0 <= interface < len(self):
            raise MisuseError(f"interface: {interface}; expected 0 to {len(self) - 1}")
