"""The state machine of a protected stream: one table, and this is its file.

Rule: nothing else decides a state. A call or a received TLP becomes an Event; TRANSITIONS says the next State
and what must be done on the way. PCIe Base r6.x, section 6.33 (states, errors); docs/stream.md has the table
in words.
"""

from enum import IntEnum, IntFlag
from typing import Final

from .. import spec


class State(IntEnum):
    """State of one end. The stream status register shows `register_value`."""

    # The enable bit is clear.
    DISABLED = 0
    SECURE = 1
    # Enabled, and failed: everything that is bound to the stream is dropped.
    INSECURE = 2


class Event(IntEnum):
    """What moves a stream."""

    ENABLE = 0
    DISABLE = 1
    CHECK_FAILED = 2
    FAIL_RECEIVED = 3
    TAMPER = 4
    LINK_DOWN = 5
    RESET = 6
    # Errors that leave the state alone.
    PCRC_FAILED = 7
    MISROUTED = 8
    # Key management: program, go, stop.
    KEYS = 9


class Action(IntFlag):
    """What a transition demands."""

    NONE = 0
    # Overwrite all keys, drop what is held.
    FORGET = 1
    # Enter the error into the log.
    LOG = 2
    # Queue an IDE Fail.
    SEND_FAIL = 4
    # Start the ordering counters of both halves at 0.
    START = 8
    # Empty the error log and forget the IDE Fail that was not sent.
    CLEAR = 16
    # The call is its caller's mistake.
    REFUSE = 32


class Error(IntEnum):
    """The errors that a port reports; the value is the bit in AER's uncorrectable error status."""

    IDE_CHECK_FAILED = spec.AER_IDE_CHECK_FAILED
    MISROUTED_IDE_TLP = spec.AER_MISROUTED_IDE_TLP
    PCRC_CHECK_FAILED = spec.AER_PCRC_CHECK_FAILED


class Reason(IntEnum):
    """Why, for the operator of this end only. Nothing on the wire or in the state tells them apart."""

    NONE = 0
    LENGTH = 1
    STREAM_ID = 2
    PREFIX = 3
    SUB_STREAM = 4
    SUB_STREAM_TYPE = 5
    TYPE = 6
    TRAFFIC_CLASS = 7
    ECRC = 8
    K_TOGGLE = 9
    KEY_NOT_STARTED = 10
    KEY_RETIRED = 11
    KEY_STOPPED = 12
    COUNTER = 13
    AGGREGATION = 14
    AGGREGATION_COUNT = 15
    AGGREGATION_SIZE = 16
    PCRC_WITHOUT_MAC = 17
    PCRC_UNEXPECTED = 18
    SYNC = 19
    ORDERING_OVERFLOW = 20
    SYNC_MISSING = 21
    ORDERING = 22
    MAC = 23
    PCRC_MISSING = 24
    PCRC_WRONG = 25
    COMPLETION = 26
    FAIL_RECEIVED = 27
    TAMPER = 28
    LINK_DOWN = 29
    DISABLED = 30
    RESET = 31


_FAILURE: Final = Action.FORGET | Action.LOG | Action.SEND_FAIL
_D, _S, _I = State.DISABLED, State.SECURE, State.INSECURE

# A pair per state, in the order DISABLED, SECURE, INSECURE: the next state, and the actions.
TRANSITIONS: Final[dict[Event, tuple[tuple[State, Action], ...]]] = {
    Event.ENABLE: ((_S, Action.START | Action.CLEAR), (_S, Action.REFUSE), (_I, Action.REFUSE)),
    Event.DISABLE: ((_D, Action.NONE), (_D, Action.FORGET), (_D, Action.FORGET)),
    Event.CHECK_FAILED: ((_D, Action.NONE), (_I, _FAILURE), (_I, Action.NONE)),
    Event.FAIL_RECEIVED: ((_D, Action.NONE), (_I, Action.FORGET), (_I, Action.NONE)),
    Event.TAMPER: ((_D, Action.FORGET), (_I, _FAILURE), (_I, Action.NONE)),
    Event.LINK_DOWN: ((_D, Action.FORGET), (_I, Action.FORGET | Action.SEND_FAIL), (_I, Action.NONE)),
    Event.RESET: (
        (_D, Action.FORGET | Action.CLEAR),
        (_D, Action.FORGET | Action.CLEAR),
        (_D, Action.FORGET | Action.CLEAR),
    ),
    Event.PCRC_FAILED: ((_D, Action.NONE), (_S, Action.LOG), (_I, Action.NONE)),
    Event.MISROUTED: ((_D, Action.NONE), (_S, Action.LOG), (_I, Action.NONE)),
    Event.KEYS: ((_D, Action.NONE), (_S, Action.NONE), (_I, Action.REFUSE)),
}

# The error that each event enters into the log.
ERRORS: Final = {
    Event.CHECK_FAILED: Error.IDE_CHECK_FAILED,
    Event.TAMPER: Error.IDE_CHECK_FAILED,
    Event.PCRC_FAILED: Error.PCRC_CHECK_FAILED,
    Event.MISROUTED: Error.MISROUTED_IDE_TLP,
}


def step(state: State, event: Event) -> tuple[State, Action]:
    """Return the next state and what to do."""
    return TRANSITIONS[event][state]


def register_value(state: State) -> int:
    """Return what the stream status register shows: 2 in SECURE, else 0 (PCIe Base r6.x, section 7.9.26)."""
    return 2 if state is State.SECURE else 0
