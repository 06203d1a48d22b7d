"""Interface states, admission, tag owners and flushes: by hand, by a naive model, both CVEs both ways."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sevpcie_core.errors import MisuseError
from sevpcie_core.ide.tags import Completion, Epochs, Issue, TagTable, last_completions
from sevpcie_core.ide.tdisp import (
    NO_INTERFACE,
    NO_STREAM,
    REFUSED,
    TRANSITIONS,
    Admission,
    Event,
    Interfaces,
    State,
)

pytestmark = pytest.mark.nojit

U, L, R, E = State.CONFIG_UNLOCKED, State.CONFIG_LOCKED, State.RUN, State.ERROR

# PCIe Base r6.x, figure 11-5 and section 11.2, by hand: (state, event) -> state; what is missing is refused.
ARROWS = {
    (U, Event.LOCK): L,
    (L, Event.START): R,
    (U, Event.STOP): U,
    (L, Event.STOP): U,
    (R, Event.STOP): U,
    (E, Event.STOP): U,
    (U, Event.CHANGED): U,
    (L, Event.CHANGED): E,
    (R, Event.CHANGED): E,
    (E, Event.CHANGED): E,
    (U, Event.STREAM_INSECURE): U,
    (L, Event.STREAM_INSECURE): E,
    (R, Event.STREAM_INSECURE): E,
    (E, Event.STREAM_INSECURE): E,
    (U, Event.FUNCTION_RESET): U,
    (L, Event.FUNCTION_RESET): E,
    (R, Event.FUNCTION_RESET): E,
    (E, Event.FUNCTION_RESET): E,
    (U, Event.CONVENTIONAL_RESET): U,
    (L, Event.CONVENTIONAL_RESET): U,
    (R, Event.CONVENTIONAL_RESET): U,
    (E, Event.CONVENTIONAL_RESET): U,
}
PATH = {
    U: (),
    L: (Event.LOCK,),
    R: (Event.LOCK, Event.START),
    E: (Event.LOCK, Event.START, Event.CHANGED),
}


def bring(interfaces: Interfaces, interface: int, state: State) -> None:
    for event in (Event.STOP, *PATH[state]):
        assert interfaces.apply(interface, event)
    assert interfaces.state(interface) is state


def in_states(*states: State, stream: int = 1) -> Interfaces:
    interfaces = Interfaces([stream] * len(states))
    for i, state in enumerate(states):
        bring(interfaces, i, state)
    return interfaces


# --- States -------------------------------------------------------------------------------------------


def test_values_on_the_wire() -> None:
    assert [int(s) for s in (U, L, R, E)] == [0, 1, 2, 3]


@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("state", State)
def test_every_transition(state: State, event: Event) -> None:
    interfaces = in_states(state, R)
    expected = ARROWS.get((state, event))
    assert interfaces.apply(0, event) == (expected is not None)
    assert interfaces.state(0) is (state if expected is None else expected)
    assert interfaces.state(1) is R, "another interface is not touched"
    assert TRANSITIONS[event][state] == (REFUSED if expected is None else expected)


def test_run_is_reached_only_through_lock_and_start() -> None:
    for state in State:
        for event in Event:
            if TRANSITIONS[event][state] == R:
                assert (state, event) == (L, Event.START)


def test_stream_insecure_and_reset_reach_the_right_interfaces() -> None:
    interfaces = Interfaces([7, 8, 7, 7])
    for i, state in enumerate((R, R, L, U)):
        bring(interfaces, i, state)
    interfaces.stream_insecure(7)
    assert [interfaces.state(i) for i in range(4)] == [E, R, E, U]
    assert not interfaces.apply(0, Event.START), "out of ERROR only through STOP or a reset"
    interfaces.conventional_reset()
    assert [interfaces.state(i) for i in range(4)] == [U, U, U, U]


# --- Requests to and from an interface ----------------------------------------------------------------

POSTED, NON_POSTED = 0x60, 0x20


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("tee", [False, True])
@pytest.mark.parametrize("memory", [False, True])
@pytest.mark.parametrize("stream", [1, 2, NO_STREAM])
def test_admission(state: State, tee: bool, memory: bool, stream: int) -> None:
    interfaces = in_states(state)
    if tee:
        admitted = state is R and stream == 1
    elif memory:
        admitted = state is U
    else:
        admitted = True
    got = interfaces.admit([POSTED, NON_POSTED], 0, tee, stream, memory)
    if admitted:
        assert got.tolist() == [Admission.ADMITTED, Admission.ADMITTED]
    else:
        assert got.tolist() == [Admission.DROPPED, Admission.UNSUPPORTED_REQUEST]
    assert interfaces.may_send(0, tee, stream) == (not tee or (state is R and stream == 1))


def test_admission_over_a_batch() -> None:
    interfaces = in_states(R, E, U)
    got = interfaces.admit(
        kind=[0x60, 0x60, 0x20, 0x72, 0x20],
        interface=[0, 1, 1, NO_INTERFACE, NO_INTERFACE],
        tee=[1, 1, 1, 0, 1],
        stream=1,
        tee_memory=True,
    )
    expected = ["ADMITTED", "DROPPED", "UNSUPPORTED_REQUEST", "ADMITTED", "UNSUPPORTED_REQUEST"]
    assert [Admission(v).name for v in got] == expected


# --- Tag owners ---------------------------------------------------------------------------------------

RID = 0x0100


def port(*, interfaces: Interfaces | None = None, **options: Any) -> TagTable:
    return TagTable([RID, 0x0101], interfaces or in_states(R, R), **options)


def issue(table: TagTable, tag: int, *, interface: int = 0, tee: bool = True, stream: int = 1) -> Issue:
    return Issue(table.issue(RID, tag, interface=interface, tee=tee, stream=stream)[0])


def complete(
    table: TagTable, tag: int, *, stream: int = 1, tee: bool = True, last: bool = True, **rest: Any
) -> Completion:
    return Completion(table.complete(RID, tag, stream=stream, tee=tee, last=last, **rest)[0])


def test_a_completion_finds_its_owner_once() -> None:
    table = port()
    assert issue(table, 5) is Issue.ISSUED
    owner = {"state": 1, "tee": 1, "sub_stream": 2, "stream": 1, "interface": 0, "epoch": 0}
    assert table.owner(RID, 5) == owner
    assert complete(table, 5, last=False) is Completion.ACCEPTED
    assert complete(table, 5, last=True) is Completion.ACCEPTED
    assert table.owner(RID, 5) is None
    assert complete(table, 5) is Completion.UNEXPECTED
    assert issue(table, 5) is Issue.ISSUED


def test_tags_are_the_requesters_own() -> None:
    table = port()
    assert issue(table, 5) is Issue.ISSUED
    assert issue(table, 5) is Issue.IN_USE
    assert Issue(table.issue(0x0101, 5, interface=1, tee=1, stream=1)[0]) is Issue.ISSUED
    assert table.count() == 2
    for requester in (0x0102, 0xFFFF):
        got = table.complete(requester, 5, stream=1, tee=1, last=1)
        assert Completion(got[0]) is Completion.UNEXPECTED
    assert table.count() == 2
    assert complete(table, 6) is Completion.UNEXPECTED
    assert complete(table, (1 << 14) - 1) is Completion.UNEXPECTED


@pytest.mark.parametrize("state", [U, L, E])
def test_no_trusted_request_outside_run(state: State) -> None:
    table = port(interfaces=in_states(state))
    assert issue(table, 1) is Issue.NOT_PERMITTED
    assert table.owner(RID, 1) is None
    assert issue(table, 1, tee=False) is Issue.ISSUED


def test_no_trusted_request_on_a_foreign_stream() -> None:
    table = port()
    assert issue(table, 1, stream=2) is Issue.NOT_PERMITTED
    assert issue(table, 1, stream=NO_STREAM) is Issue.NOT_PERMITTED
    assert issue(table, 1, interface=NO_INTERFACE) is Issue.NOT_PERMITTED


@pytest.mark.parametrize(
    ("wrong", "verdict"),
    [
        ({"stream": 2}, Completion.WRONG_STREAM),
        ({"stream": NO_STREAM}, Completion.WRONG_STREAM),
        ({"sub_stream": 1}, Completion.WRONG_STREAM),
        ({"stream": 2, "tee": False}, Completion.WRONG_STREAM),
        ({"tee": False}, Completion.T_MISMATCH),
    ],
)
def test_a_completion_that_does_not_match(wrong: dict[str, Any], verdict: Completion) -> None:
    table = port()
    issue(table, 9)
    assert complete(table, 9, **wrong) is verdict
    assert complete(table, 9) is Completion.ACCEPTED, "the owner still waits"


def test_t_of_a_completion() -> None:
    """T=1 for a T=0 request is a mismatch too; an interface's own table ignores the bit."""
    table = port()
    issue(table, 1, tee=False)
    assert complete(table, 1, tee=True) is Completion.T_MISMATCH
    table = port(compare_tee=False)
    issue(table, 1)
    assert complete(table, 1, tee=False) is Completion.ACCEPTED


def test_outside_of_ide() -> None:
    table = port()
    assert issue(table, 3, interface=NO_INTERFACE, tee=False, stream=NO_STREAM) is Issue.ISSUED
    assert complete(table, 3, stream=1, tee=False) is Completion.WRONG_STREAM
    assert complete(table, 3, stream=NO_STREAM, tee=False) is Completion.ACCEPTED
    issue(table, 3, interface=NO_INTERFACE, tee=False, stream=NO_STREAM)
    assert table.time_out(RID, 3).tolist() == [True]
    assert table.owner(RID, 3) is None, "no flush would ever free a tag outside of IDE"


def test_one_batch_is_taken_in_order() -> None:
    table = port()
    got = table.issue(RID, [1, 2, 1, 3], interface=[0, 0, 0, 1], tee=1, stream=1)
    assert [Issue(v).name for v in got] == ["ISSUED", "ISSUED", "IN_USE", "ISSUED"]
    got = table.complete(RID, [1, 1, 1, 2, 4], stream=1, tee=[1, 1, 1, 0, 1], last=[0, 1, 1, 1, 1])
    assert [Completion(v).name for v in got] == [
        "ACCEPTED",
        "ACCEPTED",
        "UNEXPECTED",
        "T_MISMATCH",
        "UNEXPECTED",
    ]


# --- CVE-2025-9613: completion timeout, reuse of the tag ----------------------------------------------


def test_a_late_completion_meets_a_quarantined_tag() -> None:
    table = port()
    issue(table, 5, interface=0)
    assert table.time_out(RID, 5).tolist() == [True]
    assert table.time_out(RID, 5).tolist() == [False]
    assert issue(table, 5, interface=1) is Issue.QUARANTINED
    assert complete(table, 5) is Completion.STALE
    assert issue(table, 5, interface=1) is Issue.QUARANTINED, "the late completion does not free the tag"
    assert table.count() == 0
    assert table.count(quarantined=True) == 1
    table.flush(1)
    assert table.count(quarantined=True) == 0
    assert issue(table, 5, interface=1) is Issue.ISSUED
    assert complete(table, 5) is Completion.ACCEPTED


def test_the_gap_without_quarantine() -> None:
    """The late completion of one guest's read is taken for that of another's."""
    table = port(quarantine_timed_out_tags=False)
    issue(table, 5, interface=0)
    table.time_out(RID, 5)
    assert complete(table, 5) is Completion.UNEXPECTED
    assert issue(table, 5, interface=1) is Issue.ISSUED
    assert complete(table, 5) is Completion.ACCEPTED


def test_another_stream_does_not_free_a_quarantined_tag() -> None:
    interfaces = Interfaces([1, 2])
    bring(interfaces, 0, R)
    bring(interfaces, 1, R)
    table = port(interfaces=interfaces)
    issue(table, 5, interface=0, stream=1)
    table.time_out(RID, 5)
    table.flush(2)
    assert issue(table, 5, interface=1, stream=2) is Issue.QUARANTINED


@pytest.mark.parametrize(
    "event",
    [Event.STOP, Event.CHANGED, Event.STREAM_INSECURE, Event.FUNCTION_RESET, Event.CONVENTIONAL_RESET],
)
def test_leaving_run_abandons_what_is_outstanding(event: Event) -> None:
    table = port()
    issue(table, 1, interface=0)
    issue(table, 2, interface=0, tee=False)
    issue(table, 3, interface=1)
    assert table.interfaces.apply(0, event)
    assert complete(table, 1) is Completion.STALE
    assert complete(table, 2, tee=False) is Completion.ACCEPTED, "T=0 goes on"
    assert complete(table, 3) is Completion.ACCEPTED, "so does another interface"
    bring(table.interfaces, 0, R)
    assert complete(table, 1) is Completion.STALE, "the next guest does not get it"
    assert issue(table, 1, interface=0) is Issue.QUARANTINED


def test_leaving_run_without_quarantine() -> None:
    """Outside RUN nothing is taken, but back in RUN the next guest gets the last one's completion."""
    table = port(quarantine_timed_out_tags=False)
    issue(table, 1)
    table.interfaces.apply(0, Event.STOP)
    assert complete(table, 1) is Completion.STALE
    bring(table.interfaces, 0, R)
    assert complete(table, 1) is Completion.ACCEPTED


# --- CVE-2025-9614: flush and re-key ------------------------------------------------------------------


def test_posted_writes_do_not_outlive_a_flush() -> None:
    epochs = Epochs()
    held = epochs.stamp([1, 1, 2])
    assert epochs.deliver([1, 1, 2], held).tolist() == [True, True, True]
    assert epochs.flush(1) == 1
    assert epochs.deliver([1, 1, 2], held).tolist() == [False, False, True]
    assert epochs.deliver(1, epochs.stamp(1)).tolist() == [True]
    assert epochs.flush(1) == 2
    assert epochs.deliver(1, 1).tolist() == [False]


def test_the_gap_without_epochs() -> None:
    epochs = Epochs(refuse_old_epochs=False)
    held = epochs.stamp([1])
    epochs.flush(1)
    assert epochs.deliver([1], held).tolist() == [True]


def test_a_flush_frees_tags_and_makes_old_completions_stale() -> None:
    epochs = Epochs()
    table = port(epochs=epochs)
    issue(table, 1)
    old = epochs.stamp(1)
    epochs.flush(1)
    assert table.owner(RID, 1) is None
    assert table.count() == 0
    assert complete(table, 1) is Completion.UNEXPECTED
    assert issue(table, 1, interface=1) is Issue.ISSUED
    assert complete(table, 1, epoch=old) is Completion.STALE
    assert complete(table, 1) is Completion.ACCEPTED


def test_an_old_completion_without_epochs() -> None:
    epochs = Epochs(refuse_old_epochs=False)
    table = port(epochs=epochs)
    issue(table, 1, interface=0)
    old = epochs.stamp(1)
    epochs.flush(1)
    assert issue(table, 1, interface=1) is Issue.ISSUED
    assert complete(table, 1, epoch=old) is Completion.ACCEPTED


def test_a_completer_that_does_not_flush_defeats_a_requester_that_does() -> None:
    """Documented limit: an answer to an old request, sealed under the new keys, looks like a new one."""
    requester, completer = Epochs(), Epochs()
    table = port(epochs=requester)
    issue(table, 1, interface=0)
    request = completer.stamp(1)
    requester.flush(1)
    issue(table, 1, interface=1)
    assert completer.deliver(1, request).tolist() == [True]
    assert complete(table, 1) is Completion.ACCEPTED
    completer.flush(1)
    assert completer.deliver(1, request).tolist() == [False], "had it flushed, nothing would be sealed"


# --- Against a naive model ----------------------------------------------------------------------------


@dataclass
class Naive:
    """The same rules with a dictionary per requester and tag, one call at a time."""

    quarantine: bool
    refuse_old: bool
    compare_tee: bool
    streams: list[int]
    states: dict[int, State] = field(default_factory=dict)
    epoch: dict[int, int] = field(default_factory=dict)
    waiting: dict[tuple[int, int], tuple[int, bool, int]] = field(default_factory=dict)
    locked_away: dict[tuple[int, int], int] = field(default_factory=dict)

    def issue(self, key: tuple[int, int], interface: int, tee: bool, stream: int) -> Issue:
        if tee and (interface < 0 or self.states[interface] is not R or self.streams[interface] != stream):
            return Issue.NOT_PERMITTED
        if key in self.waiting:
            return Issue.IN_USE
        if key in self.locked_away:
            return Issue.QUARANTINED
        self.waiting[key] = (interface, tee, stream)
        return Issue.ISSUED

    def complete(self, key: tuple[int, int], stream: int, tee: bool, age: int, last: bool) -> Completion:
        if self.refuse_old and stream >= 0 and age > 0:
            return Completion.STALE
        if key in self.locked_away:
            return Completion.STALE
        if key not in self.waiting:
            return Completion.UNEXPECTED
        interface, owner_tee, owner_stream = self.waiting[key]
        if owner_tee and self.states[interface] is not R:
            return Completion.STALE
        if owner_stream != stream:
            return Completion.WRONG_STREAM
        if self.compare_tee and owner_tee != tee:
            return Completion.T_MISMATCH
        if last:
            del self.waiting[key]
        return Completion.ACCEPTED

    def time_out(self, key: tuple[int, int]) -> bool:
        owner = self.waiting.pop(key, None)
        if owner and self.quarantine and owner[2] >= 0:
            self.locked_away[key] = owner[2]
        return owner is not None

    def apply(self, interface: int, event: Event) -> bool:
        before = self.states[interface]
        if (before, event) not in ARROWS:
            return False
        self.states[interface] = ARROWS[before, event]
        if before is R and self.states[interface] is not R and self.quarantine:
            for key, (owner, tee, stream) in list(self.waiting.items()):
                if owner == interface and tee:
                    del self.waiting[key]
                    self.locked_away[key] = stream
        return True

    def flush(self, stream: int) -> None:
        self.epoch[stream] = self.epoch.get(stream, 0) + 1
        self.waiting = {k: v for k, v in self.waiting.items() if v[2] != stream}
        self.locked_away = {k: v for k, v in self.locked_away.items() if v != stream}


KEYS = st.tuples(st.sampled_from([RID, 0x0101]), st.integers(0, 2))
STREAMS = st.sampled_from([1, 1, 1, 2, NO_STREAM])
STEPS = st.one_of(
    st.tuples(st.just("issue"), KEYS, st.sampled_from([0, 0, 1, 2, NO_INTERFACE]), st.booleans(), STREAMS),
    st.tuples(st.just("complete"), KEYS, STREAMS, st.booleans(), st.integers(0, 1), st.booleans()),
    st.tuples(st.just("time_out"), KEYS),
    st.tuples(st.just("apply"), st.integers(0, 2), st.sampled_from(Event)),
    st.tuples(st.just("start"), st.integers(0, 2)),
    st.tuples(st.just("flush"), st.sampled_from([1, 2])),
)


@settings(max_examples=300)
@given(st.booleans(), st.booleans(), st.booleans(), st.lists(STEPS, max_size=60))
def test_any_order_of_calls(
    quarantine: bool, refuse_old: bool, compare_tee: bool, steps: list[tuple[Any, ...]]
) -> None:
    interfaces = Interfaces([1, 1, 2])
    epochs = Epochs(refuse_old_epochs=refuse_old)
    table = TagTable(
        [RID, 0x0101],
        interfaces,
        epochs,
        tags=3,
        quarantine_timed_out_tags=quarantine,
        compare_tee=compare_tee,
    )
    naive = Naive(quarantine, refuse_old, compare_tee, [1, 1, 2], {0: R, 1: R, 2: R})
    for i in range(3):
        bring(interfaces, i, R)
    for step in steps:
        match step:
            case ("issue", (rid, tag), interface, tee, stream):
                got = table.issue(rid, tag, interface=interface, tee=tee, stream=stream)[0]
                assert Issue(got) is naive.issue((rid, tag), interface, tee, stream)
            case ("complete", (rid, tag), stream, tee, age, last):
                age = min(age, naive.epoch.get(stream, 0))
                epoch = naive.epoch.get(stream, 0) - age
                got = table.complete(rid, tag, stream=stream, tee=tee, last=last, epoch=epoch)[0]
                assert Completion(got) is naive.complete((rid, tag), stream, tee, age, last)
            case ("time_out", (rid, tag)):
                assert bool(table.time_out(rid, tag)[0]) == naive.time_out((rid, tag))
            case ("apply", interface, event):
                assert interfaces.apply(interface, event) == naive.apply(interface, event)
            case ("start", interface):
                for event in (Event.STOP, Event.LOCK, Event.START):
                    assert interfaces.apply(interface, event)
                    assert naive.apply(interface, event)
            case ("flush", stream):
                table.flush(stream)
                naive.flush(stream)
        assert [interfaces.state(i) for i in range(3)] == [naive.states[i] for i in range(3)]
        assert table.count() == len(naive.waiting)
        assert table.count(quarantined=True) == len(naive.locked_away)


# --- Which completion is the last ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "byte_count", "data_bytes", "lower_address", "last"),
    [
        (0, 4, 4, 0, True),  # one double word
        (0, 256, 128, 0, False),  # the first half of a read
        (0, 128, 128, 0, True),
        (0, 100, 64, 0x3C, False),  # unaligned start, cut at the boundary
        (0, 61, 64, 3, True),  # the three bytes below the address do not count
        (0, 62, 64, 3, False),
        (0, 1, 4, 3, True),  # one byte, the last of its double word
        (0, 4096, 4096, 0, True),
        (1, 4, 0, 0, True),  # Unsupported Request
        (4, 512, 0, 0, True),  # Completer Abort in the middle of a read
        (1, 512, 64, 0, True),  # no such completion may carry data; if one does, nothing follows it
        (0, 4, 0, 0, True),  # Cpl of a write
        (0, 8, 8, 0, True),  # AtomicOp, 8 bytes
    ],
)
def test_last_completion(
    status: int, byte_count: int, data_bytes: int, lower_address: int, last: bool
) -> None:
    fields = [("status", "u1"), ("byte_count", "u2"), ("data_bytes", "u4"), ("lower_address", "u1")]
    row = np.array([(status, byte_count, data_bytes, lower_address)], fields)
    assert last_completions(row).tolist() == [last]


# --- Misuse -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda t: Interfaces([256]),
        lambda t: Interfaces([-1]),
        lambda t: TagTable([1, 1], t.interfaces),
        lambda t: TagTable([1 << 16], t.interfaces),
        lambda t: TagTable([1], t.interfaces, tags=0),
        lambda t: TagTable([1], t.interfaces, tags=(1 << 14) + 1),
        lambda t: t.issue(RID, 1024, interface=0, tee=1, stream=1),
        lambda t: t.issue(RID, -1, interface=0, tee=1, stream=1),
        lambda t: t.issue(0x0102, 1, interface=0, tee=1, stream=1),
        lambda t: t.issue(RID, 1, interface=2, tee=1, stream=1),
        lambda t: t.issue(RID, [1, 2], interface=0, tee=1, stream=[1, 256]),
        lambda t: t.complete(RID, 1, stream=256, tee=1, last=1),
        lambda t: t.complete(RID, 1 << 14, stream=1, tee=1, last=1),
        lambda t: t.complete(1 << 16, 1, stream=1, tee=1, last=1),
        lambda t: t.complete(RID, 1, stream=1, tee=1, last=1, epoch=-1),
        lambda t: t.complete(RID, 1, stream=1, tee=1, last=1, sub_stream=8),
        lambda t: t.time_out(0x0102, 1),
        lambda t: t.time_out(RID, 1024),
        lambda t: t.owner(0x0102, 1),
        lambda t: t.owner(RID, 1024),
        lambda t: t.flush(256),
        lambda t: t.flush(-1),
        lambda t: t.epochs.stamp(NO_STREAM),
        lambda t: t.epochs.deliver(256, 0),
        lambda t: t.interfaces.state(2),
        lambda t: t.interfaces.apply(-1, Event.LOCK),
        lambda t: t.interfaces.admit(0x4A, 0, 1, 1, True),
        lambda t: t.interfaces.admit(0x92, 0, 1, 1, True),
        lambda t: t.interfaces.admit(0x60, 2, 1, 1, True),
    ],
)
def test_misuse_is_refused_and_changes_nothing(call: Any) -> None:
    table = port()
    issue(table, 7)
    with pytest.raises(MisuseError, match="expected"):
        call(table)
    assert table.count() == 1
    assert table.epochs.now.sum() == 0
