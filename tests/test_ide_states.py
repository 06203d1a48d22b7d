"""The state machine: its table cell by cell, and what each transition leaves behind in a stream."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ide_help import codes, ends, mrd, msg, mwr, open_, seal

from sevpcie_core.errors import ConfigError, MisuseError
from sevpcie_core.ide import Error, Event, Reason, Slot, State, Stream, StreamConfig, pair, refresh
from sevpcie_core.ide.inspect import RULES
from sevpcie_core.ide.layout import OpenCode, SealCode
from sevpcie_core.ide.states import ERRORS, TRANSITIONS, Action, step

pytestmark = pytest.mark.nojit

W = mwr(bytes(64))
OFF, SECURE, FAILED = State.DISABLED, State.SECURE, State.INSECURE


def test_the_table_is_complete() -> None:
    assert set(TRANSITIONS) == set(Event)
    assert all(len(row) == len(State) for row in TRANSITIONS.values())
    for event in Event:
        for state in State:
            after, action = step(state, event)
            if action & Action.REFUSE:
                assert (after, action) in ((state, Action.REFUSE), (SECURE, Action.REFUSE))
            if state is SECURE and after is not SECURE:
                assert action & Action.FORGET
            if after is SECURE and state is not SECURE:
                assert action & Action.START
            if action & Action.LOG:
                assert event in ERRORS
            # Only `disable` and a reset lead out of INSECURE.
            if state is FAILED and after is not FAILED:
                assert event in (Event.DISABLE, Event.RESET)


def secure() -> Stream:
    return ends()[0]


def disabled() -> Stream:
    a = secure()
    a.disable()
    return a


def insecure() -> Stream:
    a = secure()
    a.tamper()
    a.pending_messages()
    return a


MAKERS: dict[State, Callable[[], Stream]] = {OFF: disabled, SECURE: secure, FAILED: insecure}
CALLS: dict[str, Callable[[Stream], Any]] = {
    "enable": lambda s: s.enable(),
    "disable": lambda s: s.disable(),
    "reset": lambda s: s.reset(),
    "flr": lambda s: s.reset("flr"),
    "link_down": lambda s: s.link_down(),
    "receive_fail": lambda s: s.receive_fail(),
    "tamper": lambda s: s.tamper(),
    "check_failed": lambda s: s.check_failed(Reason.COMPLETION),
    "program": lambda s: s.program("tx", 0, 1, bytes(32)),
    "stop": lambda s: s.stop(1),
}
# Calls by states: the state after, "!" for refused.
EXPECTED = {
    #                D    S    I
    "enable": "! ! !",
    "disable": "D D D",
    "reset": "D D D",
    "flr": "D D D",
    "link_down": "D I I",
    "receive_fail": "D I I",
    "tamper": "D I I",
    "check_failed": "D I I",
    "program": "D S !",
    "stop": "D S !",
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("state", State)
def test_every_call_in_every_state(call: str, state: State) -> None:
    stream = MAKERS[state]()
    expected = EXPECTED[call].split()[state]
    if expected == "!":
        with pytest.raises(MisuseError):
            CALLS[call](stream)
        assert stream.state is state
    else:
        CALLS[call](stream)
        assert stream.state is {"D": OFF, "S": SECURE, "I": FAILED}[expected]


# What entering INSECURE (or DISABLED) from SECURE leaves: IDE Fail queued, error logged, reason.
LEFT = {
    "disable": (0, None, "DISABLED"),
    "reset": (0, None, "RESET"),
    "flr": (0, None, "RESET"),
    "link_down": (1, None, "LINK_DOWN"),
    "receive_fail": (0, None, "FAIL_RECEIVED"),
    "tamper": (1, Error.IDE_CHECK_FAILED, "TAMPER"),
    "check_failed": (1, Error.IDE_CHECK_FAILED, "COMPLETION"),
}


@pytest.mark.parametrize("call", LEFT)
def test_what_the_end_leaves(call: str) -> None:
    a, b = ends()
    open_(a, seal(b, [W, mrd()])[0])
    CALLS[call](a)
    messages, error, reason = LEFT[call]
    assert (a.error, a.reason.name) == (error, reason)
    assert len(a.pending_messages()) == messages
    assert a.pending_messages() == []
    for half in a._halves.values():
        assert not half.table.round_keys.any()
        assert not half.table.powers.any()
    assert {a.slot(d, sub, k) for d in ("tx", "rx") for sub in range(3) for k in (0, 1)} == {Slot.EMPTY}
    assert a.register == (0x8000_0000 if call == "receive_fail" else 0)
    # Nothing comes in, nothing goes out, once is enough.
    assert codes(seal(a, [W])[1]) == ["DROPPED_INSECURE"]
    assert codes(open_(a, seal(b, [W])[0])[1]) == ["DROPPED"]
    CALLS["tamper"](a)
    assert a.pending_messages() == []


def test_the_register() -> None:
    assert (secure().register, insecure().register, disabled().register) == (2, 0, 0)


def test_one_error_only() -> None:
    a, b = ends()
    wire, _ = seal(a, [W])
    b.tamper()
    b.check_failed(Reason.COMPLETION)
    open_(b, wire)
    assert b.errors == ((Error.IDE_CHECK_FAILED, Reason.TAMPER),)
    assert b.reason is Reason.TAMPER


def test_the_way_back() -> None:
    a, b = ends()
    for stream in (a, b):
        stream.tamper()
        stream.disable()
        # The log is for whoever reads it before the next start.
        assert stream.error is Error.IDE_CHECK_FAILED
        with pytest.raises(MisuseError, match="key set"):
            stream.enable()
    with pytest.raises(MisuseError, match="before"):
        refresh(a, b, 0, b"tests")
    refresh(a, b, 1, b"fresh")
    for stream in (a, b):
        stream.enable()
        assert (stream.state, stream.error, stream.reason) == (SECURE, None, Reason.NONE)
        assert stream.pending_messages() == []
    tlps = [W, mrd()]
    assert open_(b, seal(a, tlps)[0])[0] == tlps


@pytest.mark.parametrize(
    ("kind", "tc", "needs"), [("link", 0, True), ("link", 1, False), ("selective", 0, False)]
)
def test_a_link_stream_of_tc0_that_failed_needs_a_reset(kind: Any, tc: int, needs: bool) -> None:
    a, b = pair(StreamConfig(kind=kind, tc=tc))
    for stream in (a, b):
        stream.tamper()
        stream.disable()
    refresh(a, b, 0, b"fresh")
    if not needs:
        a.enable()
        return
    with pytest.raises(MisuseError, match="reset"):
        a.enable()
    for stream in (a, b):
        stream.reset()
    refresh(a, b, 0, b"fresher")
    a.enable()


def test_enabling_needs_both_directions() -> None:
    a = Stream(StreamConfig())
    for place, (direction, sub) in enumerate((d, s) for d in ("rx", "tx") for s in range(3)):
        with pytest.raises(MisuseError, match="key set"):
            a.enable()
        a.program(direction, sub, 0, bytes([place]) * 32)
    with pytest.raises(MisuseError, match="rx before tx"):
        a.go("tx", 0)
    a.go("rx", 0)
    with pytest.raises(MisuseError, match="key set"):
        a.enable()
    a.go("tx", 0)
    a.enable()


def test_fail_travels() -> None:
    """One end fails and says so; the other fails because of that, and says nothing."""
    a, b = ends(stream_id=7)
    a.tamper()
    (message,) = a.pending_messages()
    opened, status = open_(b, [message, *seal(a, [W])[0]])
    assert (opened, codes(status)) == ([], ["FAIL"])
    assert (b.state, b.reason, b.error) == (FAILED, Reason.FAIL_RECEIVED, None)
    assert (b.register, b.pending_messages()) == (0x8000_0000, [])
    # Once is enough; another stream's is not ours.
    assert codes(open_(b, [message])[1]) == ["FAIL"]
    other, _ = ends(stream_id=8)
    assert codes(open_(other, [message])[1]) == ["PLAIN"]
    assert other.state is SECURE


def test_fail_as_an_ide_tlp() -> None:
    a, b = ends(stream_id=7, aggregation=(4, 4, 4))
    fail = msg(0x55, 2, bytes(4) + b"\x07" + bytes(3))
    other = msg(0x55, 2, bytes(4) + b"\x08" + bytes(3))
    wire, status = seal(a, [W, other, fail, W, mrd()])
    assert set(codes(status)) == {"SEALED"}
    opened, status = open_(b, wire)
    # It takes effect when its unit is complete.
    assert codes(status) == ["RELEASED", "RELEASED", "FAIL", "RELEASED", "DROPPED"]
    assert opened == [W, other, W]
    assert (b.state, b.reason, b.pending_messages()) == (FAILED, Reason.FAIL_RECEIVED, [])


def test_nothing_tells_failures_apart_on_the_wire() -> None:
    """Whatever failed: one error bit and the same IDE Fail; the reason stays in this end."""
    seen = set()
    for place in (3, 2, 5, 20, 40, -1):
        a, b = ends()
        wire, _ = seal(a, [W])
        bad = bytearray(wire[0])
        bad[place] ^= 0x41 if place == 3 else 1
        if place == 2:
            continue
        open_(b, [bytes(bad)])
        seen.add((b.state, b.register, b.error, tuple(b.pending_messages())))
    assert len(seen) == 1


# --- docs/stream.md says the same -------------------------------------------------------------------------


@pytest.fixture
def text(root: Path) -> str:
    return (root / "docs" / "stream.md").read_text()


def test_the_page_has_every_code_and_reason(text: str) -> None:
    for code in [*SealCode, *OpenCode]:
        assert re.search(rf"^\| {code.name} \|", text, re.M), code.name
    table = text[text.index("**Order of checks**") : text.index("## Messages")]
    for reason in list(Reason)[1 : Reason.COMPLETION + 1]:
        assert re.search(rf"\b{reason.name}\b", table), reason.name
    named = re.findall(r"\b[A-Z]+_[A-Z_]+\b|\b(?:LENGTH|PREFIX|TYPE|ECRC|COUNTER|MAC|ORDERING|SYNC)\b", table)
    known = {r.name for r in Reason} | {c.name for c in OpenCode} | {"WRONG_STREAM", "T_MISMATCH", "PR_SENT"}
    assert set(named) <= known | {"PCRC"}


def test_the_page_has_the_table(text: str) -> None:
    start = text.index("| event | DISABLED | SECURE | INSECURE |")
    rows = text[start:].split("\n\n")[0].splitlines()[2:]
    assert len(rows) == len(set(Event) - {Event.KEYS, Event.MISROUTED})
    names = {
        "enable": Event.ENABLE,
        "disable": Event.DISABLE,
        "IDE Check Failed": Event.CHECK_FAILED,
        "IDE Fail received": Event.FAIL_RECEIVED,
        "tamper": Event.TAMPER,
        "link_down": Event.LINK_DOWN,
        "reset": Event.RESET,
        "PCRC Check Failed": Event.PCRC_FAILED,
    }
    for row in rows:
        name, *cells = (cell.strip() for cell in row.strip("|").split("|"))
        event = next(e for words, e in names.items() if name.lstrip("`").startswith(words))
        for state, cell in zip(State, cells, strict=True):
            after, action = step(state, event)
            if action & Action.REFUSE:
                assert cell == "refused"
                continue
            assert cell.split(",")[0] == after.name, (name, state)
            assert ("keys gone" in cell) == bool(action & Action.FORGET), (name, state)
            assert ("IDE Fail queued" in cell) == bool(action & Action.SEND_FAIL), (name, state)
            assert ("error logged" in cell) == bool(action & Action.LOG), (name, state)


def test_every_rule_has_words() -> None:
    untold = {r for r in Reason if Reason.NONE < r <= Reason.PCRC_WRONG} - set(RULES)
    assert untold == {Reason.ORDERING_OVERFLOW}


def test_a_heartbeat_under_a_stopped_key_is_a_use_of_it() -> None:
    a, _ = ends()
    a.stop(0)
    wire, status = seal(a, [], sync=True)
    assert len(wire) == 0
    assert len(status) == 0
    assert (a.state, a.reason) == (State.INSECURE, Reason.KEY_STOPPED)


@pytest.mark.parametrize("key", [32, "k" * 32, None, [1] * 32])
def test_a_key_is_bytes(key: object) -> None:
    stream = Stream(StreamConfig())
    with pytest.raises(MisuseError, match="takes bytes"):
        stream.program("tx", 0, 0, key)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong", [{"stream_id": "1"}, {"stream_id": 1.5}, {"aggregation": 2}, {"accept_aggregation": 5}]
)
def test_a_configuration_of_the_wrong_types(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        StreamConfig(**wrong)  # type: ignore[arg-type]
