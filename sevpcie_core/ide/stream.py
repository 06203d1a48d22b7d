"""One port's end of one protected stream.

Rule: a nonce never repeats under a key, whatever is called in whatever order. A key enters one slot, once;
counters only rise, in kernels, before anything is sealed; a stream cannot be copied, pickled or used in a
forked process; every call holds its lock. docs/stream.md has the semantics.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal, NoReturn

import numpy as np

from .. import spec
from ..crypto.keys import KeyTable
from ..errors import MisuseError
from .config import StreamConfig
from .keysets import HalfKeys, SeenKeys, expand
from .layout import MAX_MEMBERS, MEMBER, RX, TX, UNIT, Slot
from .messages import fail_message
from .profile import Profile, profile_named
from .states import ERRORS, Action, Error, Event, Reason, State, register_value, step

Direction = Literal["tx", "rx"]
Remedy = Literal["continue", "rotate", "refuse"]

_SUBS: Final = spec.IDE_SUB_STREAMS
_RESETS: Final = ("conventional", "flr")


class Stream:
    """One end of a stream. Made DISABLED and without keys; `pair` makes two that are SECURE.

    Calls are safe from several threads. Misuse raises MisuseError and changes nothing.

    Parameters
    ----------
    config : StreamConfig.
    """

    def __init__(self, config: StreamConfig):
        self._config = config
        self._profile = profile_named(config.profile)
        self._settings = config.settings()
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._busy = False
        self._state = State.DISABLED
        self._reason = Reason.NONE
        self._errors: list[tuple[Error, Reason]] = []
        self._fail_received = False
        self._needs_reset = False
        self._pending: list[bytes] = []
        self._seen = SeenKeys()
        self._halves = {"tx": HalfKeys(self._profile.key_bits), "rx": HalfKeys(self._profile.key_bits)}
        self._tx = np.zeros(1, TX)
        self._rx = np.zeros(1, RX)
        # Scratch of the planning kernels.
        self._units = np.zeros(_SUBS, UNIT)
        self._members = np.zeros(_SUBS * MAX_MEMBERS, MEMBER)
        self._drop_held()

    # --- What an operator sees ----------------------------------------------------------------------------

    @property
    def config(self) -> StreamConfig:
        """What the stream was made with."""
        return self._config

    @property
    def profile(self) -> Profile:
        """How it seals."""
        return self._profile

    @property
    def state(self) -> State:
        """DISABLED, SECURE or INSECURE."""
        return self._state

    @property
    def register(self) -> int:
        """The stream status register: state in bits 3:0, bit 31 an IDE Fail was received."""
        return register_value(self._state) | int(self._fail_received) << 31

    @property
    def error(self) -> Error | None:
        """IDE_CHECK_FAILED if that was logged, else the first error, or None."""
        kinds = [error for error, _ in self._errors]
        if Error.IDE_CHECK_FAILED in kinds:
            return Error.IDE_CHECK_FAILED
        return kinds[0] if kinds else None

    @property
    def errors(self) -> tuple[tuple[Error, Reason], ...]:
        """Each kind of error once, in order, with its local reason."""
        return tuple(self._errors)

    @property
    def reason(self) -> Reason:
        """Why the stream is not SECURE any more; for this end's operator only, never for the wire."""
        return self._reason

    def remedy(self, sub_stream: int) -> Remedy:
        """Return what the counter of the transmit key in use asks for.

        Raises MisuseError for a sub-stream outside 0..2.
        """
        self._check_slot("tx", sub_stream, 0)
        slot = self._halves["tx"].slots[int(self._tx[0]["k"]) * _SUBS + sub_stream]
        if slot["state"] != Slot.STARTED or int(slot["counter"]) > self._profile.hard_limit:
            return "refuse"
        return "rotate" if int(slot["counter"]) >= self._profile.soft_limit else "continue"

    def counter(self, direction: Direction, sub_stream: int, key_set: int) -> int:
        """Return the counter of the next invocation of a slot: 0 if it never had a key."""
        self._check_slot(direction, sub_stream, key_set)
        return int(self._halves[direction].slots[key_set * _SUBS + sub_stream]["counter"])

    def slot(self, direction: Direction, sub_stream: int, key_set: int) -> Slot:
        """Return what a slot holds."""
        self._check_slot(direction, sub_stream, key_set)
        return self._halves[direction].state(sub_stream, key_set)

    def pending_messages(self) -> list[bytes]:
        """Return the messages to be sent as plain TLPs, and forget them: at most one IDE Fail."""
        with self._lock:
            self._own()
            messages, self._pending = self._pending, []
            return messages

    # --- Keys ---------------------------------------------------------------------------------------------

    def program(
        self,
        direction: Direction,
        sub_stream: int,
        key_set: int,
        key: bytes,
        ifv: int = spec.IDE_FIRST_COUNTER,
    ) -> None:
        """Put a key into a slot that is not STARTED.

        Raises MisuseError for a key that this stream was given before, of the wrong size, an `ifv` other than
        1, a slot in use, or an INSECURE stream.
        """
        if not isinstance(key, bytes | bytearray | memoryview):
            raise MisuseError(f"key is a {type(key).__name__}, and takes bytes")
        self._program(direction, sub_stream, key_set, bytes(key), None, ifv)

    def _program(
        self,
        direction: Direction,
        sub_stream: int,
        key_set: int,
        key: bytes,
        expanded: KeyTable | None,
        ifv: int = spec.IDE_FIRST_COUNTER,
    ) -> None:
        """Do `program`; `expanded` is the key in a table, if somebody has it already."""
        with self._lock:
            self._own()
            self._check_slot(direction, sub_stream, key_set)
            self._refuse_unless(Event.KEYS)
            if ifv != spec.IDE_FIRST_COUNTER:
                raise MisuseError(f"ifv is {ifv}: a counter starts at {spec.IDE_FIRST_COUNTER}")
            if len(key) * 8 != self._profile.key_bits:
                raise MisuseError(f"key has {len(key)} bytes, and takes {self._profile.key_bits // 8}")
            half = self._halves[direction]
            if half.state(sub_stream, key_set) is Slot.STARTED:
                raise MisuseError(
                    f"{direction}, sub-stream {sub_stream}, key set {key_set} is in use: stop it first"
                )
            # First remembered, then used: a failure in between loses a key, and repeats none.
            self._seen.add(key)
            half.program(sub_stream, key_set, expanded or expand(key))

    def go(self, direction: Direction, key_set: int) -> None:
        """Start a key set of one direction; "rx" comes first. For "tx", what is sealed from now on uses it.

        Raises MisuseError if a sub-stream has no fresh key in it, or "tx" comes before "rx".
        """
        with self._lock:
            self._own()
            self._check_slot(direction, 0, key_set)
            self._refuse_unless(Event.KEYS)
            half = self._halves[direction]
            if not half.all_in(key_set, Slot.PROGRAMMED):
                raise MisuseError(f"key set {key_set} of {direction} has not a fresh key on every sub-stream")
            if direction == "tx" and not self._receives(key_set):
                raise MisuseError(f"key set {key_set} must be started for rx before tx")
            half.go(key_set)
            if direction == "tx":
                self._tx[0]["k"] = key_set
                half.leave(1 - key_set, (Slot.STARTED,), Slot.RETIRED)

    def stop(self, key_set: int) -> None:
        """Take the keys of a key set away, in both directions. Whoever uses it now fails."""
        with self._lock:
            self._own()
            self._check_slot("tx", 0, key_set)
            self._refuse_unless(Event.KEYS)
            for half in self._halves.values():
                half.leave(key_set, (Slot.PROGRAMMED, Slot.STARTED), Slot.STOPPED)

    # --- States -------------------------------------------------------------------------------------------

    def enable(self) -> None:
        """Enter SECURE.

        Raises MisuseError unless the stream is DISABLED and both directions have a key set started on every
        sub-stream; a Link stream of TC 0 that failed needs a reset first.
        """
        with self._lock:
            self._own()
            self._refuse_unless(Event.ENABLE)
            if self._needs_reset:
                raise MisuseError("a Link stream of TC 0 that failed returns only after a reset")
            tx_k = int(self._tx[0]["k"])
            if not self._halves["tx"].all_in(tx_k, Slot.STARTED) or not any(map(self._receives, (0, 1))):
                raise MisuseError("a direction has no key set that is started on every sub-stream")
            self._apply(Event.ENABLE, Reason.NONE)

    def disable(self) -> None:
        """Clear the enable bit: the keys are gone."""
        self._on(Event.DISABLE, Reason.DISABLED)

    def reset(self, kind: str = "conventional") -> None:
        """Undergo a reset, "conventional" or "flr" (of the function that has IDE)."""
        if kind not in _RESETS:
            raise MisuseError(f"reset of kind {kind!r}; expected one of {_RESETS}")
        self._on(Event.RESET, Reason.RESET)

    def link_down(self) -> None:
        """Undergo the loss of the link (DL_Active drops)."""
        self._on(Event.LINK_DOWN, Reason.LINK_DOWN)

    def receive_fail(self) -> None:
        """Take note of an IDE Fail that came by another way than this stream."""
        self._on(Event.FAIL_RECEIVED, Reason.FAIL_RECEIVED)

    def tamper(self) -> None:
        """Take note of a local tamper event."""
        self._on(Event.TAMPER, Reason.TAMPER)

    def check_failed(self, reason: Reason) -> None:
        """Take note of a failed check that is made above the stream, as of a completion's owner."""
        self._on(Event.CHECK_FAILED, reason)

    # --- For seal and open ----------------------------------------------------------------------------------

    def _on(self, event: Event, reason: Reason) -> None:
        with self._lock:
            self._own()
            self._apply(event, reason)

    def _apply(self, event: Event, reason: Reason) -> None:
        """Do what the table says for an event that it does not refuse."""
        before = self._state
        self._state, action = step(before, event)
        if action & Action.FORGET:
            for half in self._halves.values():
                half.forget()
            self._drop_held()
        if before is State.SECURE and self._state is not State.SECURE:
            self._reason = reason
        if event is Event.FAIL_RECEIVED and before is State.SECURE:
            self._fail_received = True
        if action & Action.CLEAR:
            self._errors, self._pending = [], []
            self._fail_received = False
            if event is Event.ENABLE:
                self._reason = Reason.NONE
            self._needs_reset = False
        if action & Action.LOG and ERRORS[event] not in [error for error, _ in self._errors]:
            self._errors.append((ERRORS[event], reason))
        if action & Action.SEND_FAIL:
            self._pending = [fail_message(self._settings)]
        if action & Action.START:
            for name in ("npr", "cpl"):
                self._tx[0][name] = 0
            self._rx[:] = np.zeros(1, RX)
        if self._state is State.INSECURE and before is State.SECURE:
            self._needs_reset = self._config.kind == "link" and self._config.tc == 0

    def _refuse_unless(self, event: Event) -> None:
        """Raise MisuseError if the table refuses an event in this state."""
        if step(self._state, event)[1] & Action.REFUSE:
            raise MisuseError(f"{event.name.lower()} is refused while the stream is {self._state.name}")

    def _receives(self, key_set: int) -> bool:
        """Return whether a key set is started for receiving on every sub-stream."""
        return self._halves["rx"].all_in(key_set, Slot.STARTED)

    def _drop_held(self) -> None:
        """Forget TLPs that wait for their unit (sealed), overwrite those behind a posted unit (open)."""
        for part in getattr(self, "_waiting", ()):
            part.data[:] = 0
        self._held: list[bytes] = []
        self._waiting: list[Any] = []

    def _own(self) -> None:
        """Raise MisuseError if a call is not allowed here.

        A process that got this object by fork has the same counters as its parent. A signal handler that
        comes in the middle of another call of its thread passes the lock, and would find a half-made state.
        """
        if os.getpid() != self._process:
            raise MisuseError("a stream cannot be used in another process than the one that made it")
        if self._busy:
            raise MisuseError("a call on this stream is going on: a signal handler cannot use it meanwhile")

    @contextmanager
    def _taken(self) -> Iterator[None]:
        """Have the stream for one call that plans, encrypts and settles."""
        with self._lock:
            self._own()
            self._busy = True
            try:
                yield
            finally:
                self._busy = False

    def _check_slot(self, direction: str, sub_stream: int, key_set: int) -> None:
        if direction not in self._halves:
            raise MisuseError(f"direction: {direction!r}; expected 'tx' or 'rx'")
        if isinstance(sub_stream, float) or sub_stream not in range(_SUBS):
            raise MisuseError(f"sub_stream: {sub_stream!r}; expected 0 to {_SUBS - 1}")
        if isinstance(key_set, float) or key_set not in range(spec.IDE_KEY_SETS):
            raise MisuseError(f"key_set: {key_set!r}; expected 0 or 1")

    # --- Not to be doubled ----------------------------------------------------------------------------------

    def _refuse_copy(self, *_: object) -> NoReturn:
        raise MisuseError("a stream cannot be copied or pickled: two of them would repeat nonces")

    __copy__ = _refuse_copy
    __deepcopy__ = _refuse_copy
    __reduce__ = _refuse_copy
    __reduce_ex__ = _refuse_copy
    __getstate__ = _refuse_copy

    def __repr__(self) -> str:
        # Never the keys.
        return f"Stream({self._profile.name}, id {self._config.stream_id}, {self._state.name})"
