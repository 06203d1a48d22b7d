"""No sequence of calls on a stream repeats a nonce under a key. This file tries.

A spy stands where streams call AES-GCM and writes down every (key, nonce) that gets there, also of calls
that are interrupted before or after. Keys are recognised by their first round keys, which are the key
itself.
"""

import copy
import os
import pickle
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from ide_help import batch_of, codes, cpld, ends, mrd, mwr, open_, seal

import sevpcie_core.ide.seal as seal_module
from sevpcie_core.errors import MisuseError
from sevpcie_core.ide import PROFILES, Reason, Stream, StreamConfig, refresh, seal_stream
from sevpcie_core.ide.keysets import HalfKeys

W, R, C = mwr(bytes(4)), mrd(), cpld(bytes(4))


class Spy:
    """Stands in for `seal_batch`, and can raise before or after it."""

    def __init__(self) -> None:
        self.seen: set[tuple[bytes, int, int]] = set()
        self.raises = ""
        self.real = seal_module.seal_batch

    def __call__(self, keys: Any, packets: np.ndarray, *rest: Any) -> None:
        size = keys.key_bits // 8
        for packet in packets:
            key = keys.round_keys[packet["key"]].tobytes()[:size]
            assert any(key), "sealed under a key that is gone"
            nonce = (key, int(packet["fixed"]), int(packet["counter"]))
            assert nonce not in self.seen, "a nonce repeats"
            self.seen.add(nonce)
        if self.raises == "before":
            raise KeyboardInterrupt
        self.real(keys, packets, *rest)
        if self.raises == "after":
            raise MemoryError


@contextmanager
def spied() -> Iterator[Spy]:
    spy = Spy()
    seal_module.seal_batch = spy  # type: ignore[assignment]
    try:
        yield spy
    finally:
        seal_module.seal_batch = spy.real


class AnySequence(RuleBasedStateMachine):
    """Calls in any order, with keys from a small set so that repeats are tried all the time."""

    def __init__(self) -> None:
        super().__init__()
        self.spy = Spy()
        seal_module.seal_batch = self.spy  # type: ignore[assignment]
        profile = PROFILES["sev-pcie"]
        low = type(profile)("low", 128, iv_fixed="substream", soft_limit=3, hard_limit=40)
        self.a, self.b = ends(StreamConfig(low, aggregation=(1, 4, 2), pcrc=True))
        self.fresh = 0

    def teardown(self) -> None:
        seal_module.seal_batch = self.spy.real

    def key(self, number: int) -> bytes:
        return number.to_bytes(2, "big") * 8

    @rule(
        order=st.text("WWRC", max_size=12),
        sync=st.booleans(),
        raises=st.sampled_from(["", "", "before", "after"]),
    )
    def seals(self, order: str, sync: bool, raises: str) -> None:
        self.spy.raises = raises
        try:
            wire, _ = seal(self.a, [{"W": W, "R": R, "C": C}[kind] for kind in order], sync=sync)
        except (KeyboardInterrupt, MemoryError):
            return
        finally:
            self.spy.raises = ""
        open_(self.b, wire)

    @rule(
        direction=st.sampled_from(["tx", "rx"]),
        sub=st.integers(0, 2),
        k=st.integers(0, 1),
        key=st.integers(0, 30),
    )
    def programs(self, direction: Any, sub: int, k: int, key: int) -> None:
        self.tried(lambda: self.a.program(direction, sub, k, self.key(key)))

    @rule(k=st.integers(0, 1), same=st.booleans())
    def programs_a_key_set(self, k: int, same: bool) -> None:
        """Fill a key set, with keys seen before in the same slots or with fresh ones."""
        for direction in ("rx", "tx"):
            for sub in range(3):
                self.fresh += 1
                number = 100 + sub + 3 * (direction == "tx") if same else 1000 + self.fresh
                self.tried(lambda d=direction, s=sub, n=number: self.a.program(d, s, k, self.key(n)))

    @rule(direction=st.sampled_from(["tx", "rx"]), k=st.integers(0, 1))
    def goes(self, direction: Any, k: int) -> None:
        self.tried(lambda: self.a.go(direction, k))

    @rule(k=st.integers(0, 1))
    def stops(self, k: int) -> None:
        self.tried(lambda: self.a.stop(k))

    @rule(call=st.sampled_from(["enable", "disable", "reset", "link_down", "tamper", "receive_fail"]))
    def moves(self, call: str) -> None:
        self.tried(getattr(self.a, call))

    @rule(k=st.integers(0, 1))
    def returns(self, k: int) -> None:
        """The whole way back, whatever the state: so that sequences do not end in silence."""
        self.a.disable()
        self.tried(lambda: self.a.stop(k))
        self.programs_a_key_set(k, False)
        for direction in ("rx", "tx"):
            self.tried(lambda d=direction: self.a.go(d, k))
        self.tried(self.a.enable)

    @invariant()
    def counters_stay_within_the_limit(self) -> None:
        assert all(self.a.counter("tx", sub, k) <= 41 for sub in range(3) for k in (0, 1))

    def tried(self, call: Any) -> None:
        with suppress(MisuseError):
            call()


AnySequence.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestAnySequence = AnySequence.TestCase


# --- Scripts ---------------------------------------------------------------------------------------------


@pytest.mark.nojit
@pytest.mark.parametrize("raises", ["before", "after"])
def test_an_interrupted_call_loses_its_nonces(raises: str) -> None:
    with spied() as spy:
        a, _ = ends()
        spy.raises = raises
        with pytest.raises((KeyboardInterrupt, MemoryError)):
            seal(a, [W, W, R])
        spy.raises = ""
        _, status = seal(a, [W, R])
        assert status["counter"].tolist() == [3, 2]
        assert len(spy.seen) == 5


@pytest.mark.nojit
def test_the_counter_moves_before_the_plan_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is done with the plan of a call, the next plan has other counters."""
    a, _ = ends()
    plans = []
    monkeypatch.setattr(seal_module, "seal_plan", lambda plan, stream: plans.append(plan))
    for _ in range(3):
        seal(a, [W, R])
    counters = [plan.packets["counter"].tolist() for plan in plans]
    assert counters == [[1, 1], [2, 2], [3, 3]]


@pytest.mark.nojit
def test_a_key_is_for_one_slot_once() -> None:
    a = Stream(StreamConfig("sev-pcie"))
    key = bytes(range(16))
    a.program("tx", 0, 0, key)
    for direction in ("tx", "rx"):
        for sub in range(3):
            for k in (0, 1):
                with pytest.raises(MisuseError, match="before"):
                    a.program(direction, sub, k, key)  # type: ignore[arg-type]
    for end in (lambda: a.stop(0), a.disable, a.reset, a.tamper, a.link_down):
        end()
        with pytest.raises(MisuseError, match="before"):
            a.program("tx", 0, 0, bytearray(key))  # type: ignore[arg-type]


@pytest.mark.nojit
def test_a_slot_in_use_takes_no_key() -> None:
    a, _ = ends(StreamConfig("sev-pcie"))
    with pytest.raises(MisuseError, match="in use"):
        a.program("tx", 0, 0, b"x" * 16)
    # And a refused key is not remembered as used: it was not.
    a.program("tx", 0, 1, b"x" * 16)


@pytest.mark.nojit
def test_going_twice_starts_nothing_again() -> None:
    a, b = ends()
    seal(a, [W])
    for direction in ("rx", "tx"):
        with pytest.raises(MisuseError, match="fresh key"):
            a.go(direction, 0)  # type: ignore[arg-type]
    assert seal(a, [W])[1]["counter"].tolist() == [2]
    refresh(a, b, 1)
    with pytest.raises(MisuseError, match="fresh key"):
        a.go("tx", 0)


@pytest.mark.nojit
@pytest.mark.parametrize("ifv", [0, 2, 2**64 - 1, -1])
def test_a_counter_starts_at_one(ifv: int) -> None:
    a = Stream(StreamConfig("sev-pcie"))
    with pytest.raises(MisuseError, match="ifv"):
        a.program("tx", 0, 0, bytes(16), ifv=ifv)
    a.program("tx", 0, 0, bytes(16), ifv=1)


@pytest.mark.nojit
def test_a_failure_while_a_key_is_expanded_loses_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    a = Stream(StreamConfig("sev-pcie"))

    def broken(*_: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(HalfKeys, "program", broken)
        with pytest.raises(MemoryError):
            a.program("tx", 0, 0, bytes(16))
    with pytest.raises(MisuseError, match="before"):
        a.program("tx", 0, 0, bytes(16))


@pytest.mark.nojit
@pytest.mark.parametrize(
    "double",
    [
        copy.copy,
        copy.deepcopy,
        pickle.dumps,
        lambda s: pickle.dumps(s, 0),
        lambda s: copy.deepcopy([s]),
        lambda s: s.__getstate__(),
    ],
)
def test_a_stream_cannot_be_doubled(double: Any) -> None:
    a, _ = ends()
    with pytest.raises(MisuseError, match="copied"):
        double(a)


@pytest.mark.nojit
def test_a_forked_process_cannot_use_it() -> None:
    a, b = ends()
    wire, _ = seal(a, [W])
    calls = [
        lambda: seal(a, [W]),
        lambda: open_(b, wire),
        lambda: a.program("tx", 0, 1, bytes(32)),
        lambda: a.go("rx", 0),
        lambda: a.stop(0),
        a.enable,
        a.disable,
        a.tamper,
        a.pending_messages,
    ]
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        refused = 0
        for call in calls:
            try:
                call()
            except MisuseError as error:
                refused += "another process" in str(error)
            except BaseException:
                pass
        os.write(writing, bytes([refused]))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 1)[0] == len(calls)
    os.close(reading)
    os.close(writing)
    assert seal(a, [W])[1]["counter"].tolist() == [2]


def test_threads() -> None:
    """Kernels run without the interpreter's lock: the stream's own lock must hold."""
    with spied() as spy:
        a, _ = ends()
        batch = batch_of([W, R, C] * 200)
        failures: list[BaseException] = []

        def work() -> None:
            try:
                for _ in range(20):
                    seal_stream(batch, a)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert len(spy.seen) >= 4 * 20 * 600
        assert a.counter("tx", 1, 0) == 1 + 4 * 20 * 200


@pytest.mark.nojit
def test_a_call_within_a_call() -> None:
    """A signal handler that comes between plan and encryption can do nothing to the stream, or with it."""
    with spied() as spy:
        a, b = ends()
        real = spy.real

        def handled(*args: Any) -> None:
            for call in (
                lambda: seal(a, [W, R]),
                a.disable,
                a.tamper,
                lambda: a.stop(0),
                lambda: a.program("tx", 0, 1, bytes(range(32))),
                a.pending_messages,
            ):
                with pytest.raises(MisuseError, match="signal handler"):
                    call()
            real(*args)

        spy.real = handled
        wire, status = seal(a, [W, W])
        spy.real = real
        assert status["counter"].tolist() == [1, 2]
        assert len(spy.seen) == 2
        assert codes(open_(b, wire)[1]) == ["RELEASED"] * 2
        assert codes(seal(a, [W])[1]) == ["SEALED"]


@pytest.mark.nojit
def test_gone_keys_seal_nothing() -> None:
    for end in ("disable", "reset", "tamper", "link_down", "receive_fail"):
        with spied() as spy:
            a, _ = ends()
            getattr(a, end)()
            assert codes(seal(a, [W], sync=True)[1]) == ["DROPPED_INSECURE"]
            assert not spy.seen
    with spied() as spy:
        a, _ = ends()
        a.stop(0)
        seal(a, [], sync=True)
        seal(a, [W])
        assert not spy.seen
        assert a.reason is Reason.KEY_STOPPED


def test_the_machine_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same sequences find a stream that sets a counter back."""

    monkeypatch.setattr(HalfKeys, "wipe_unused", lambda self: self.slots["counter"].fill(1))
    machine = AnySequence()
    try:
        machine.seals("W", False, "")
        machine.stops(1)
        with pytest.raises(AssertionError, match="repeats"):
            machine.seals("W", False, "")
    finally:
        machine.teardown()
