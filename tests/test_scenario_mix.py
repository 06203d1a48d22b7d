"""Phases in time, and devices in the background."""

# A case is a row of a table: what is replaced, by what, the line and the message.
# ruff: noqa: E501

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevpcie_core.errors import ConfigError, MisuseError
from sevpcie_core.experiment.runner import Task
from sevpcie_core.experiment.scenario import Scenario, load_scenario, load_scheme
from sevpcie_core.link.run import ClassResult, Outcome
from sevpcie_core.workload.mix import phased, stretched
from sevpcie_core.workload.phase import ALWAYS, FOREVER, Phase
from sevpcie_core.workload.program import STEP, Chunk, Program

US = 1_000_000

TEXT = """\
name = "together"
link = "gen5x4"
requests = 400
seeds = 1

[[workload]]
name = "w"

[workload.device.front]
preset = "nvme-dram"
traffic = { kind = "nvme", queue_depth = 4 }

[workload.device.behind]
preset = "nic-400g"
link = "gen5x16"
background = true
phase = { start = "5us", on = "2us", every = "20us" }
traffic = { kind = "nic", direction = "rx", sizes = 1514, rate = "100Gb/s" }
"""

Load = Callable[[str], Scenario]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(text: str) -> Scenario:
        path = tmp_path / "my.toml"
        path.write_text(text)
        return load_scenario(path)

    return load


def run(scenario: Scenario, keep: int = 0) -> Outcome:
    resolved = scenario.resolve()
    task = Task.prepare(resolved, resolved.workloads[0], resolved.seed)
    return task.simulate(load_scheme("none"), "off", keep=keep)


def of(outcome: Outcome, device: int) -> ClassResult:
    (found,) = [c for c in outcome.classes if c.device == device]
    return found


def without(text: str, *parts: str) -> str:
    for part in parts:
        assert part in text
        text = text.replace(part, "")
    return text


def test_what_is_in_front_is_not_changed_by_what_does_not_touch_it(load: Load) -> None:
    alone = run(load(TEXT[: TEXT.index("[workload.device.behind]")]), keep=400)
    # Neither its link nor its memory is shared: the host's pipeline is wide.
    both = run(load(TEXT), keep=400)
    assert of(both, 0).requests == of(alone, 0).requests == 400
    assert np.median(both.kept_ps[0]) == pytest.approx(np.median(alone.kept_ps[0]), rel=0.01)


def test_what_is_behind_ends_with_what_is_in_front(load: Load) -> None:
    outcome = run(load(TEXT))
    end = of(outcome, 0).last_end_ps
    # The last frame that begins takes its time still.
    assert of(outcome, 1).last_end_ps < end + 3 * US
    # One in ten microseconds at 100 Gb/s: 2 of 20 us, from 5 us on.
    frame_ps = (1514 + 24) * 8 * 10
    assert of(outcome, 1).requests == pytest.approx((end - 5 * US) / 10 / frame_ps, rel=0.2)
    assert of(outcome, 1).first_start_ps >= 5 * US


def test_twice_as_long_in_front_is_twice_as_much_behind(load: Load) -> None:
    short, long = run(load(TEXT)), run(load(TEXT.replace("requests = 400", "requests = 1600")))
    assert of(long, 1).requests / of(short, 1).requests == pytest.approx(4, rel=0.25)


def test_a_closed_loop_begins_its_requests_in_phases(load: Load) -> None:
    text = without(TEXT, "background = true\n").replace("requests = 400", 'duration = "2ms"')
    loop = 'phase = { start = "100us", on = "50us", every = "500us" }\ntraffic = { kind = "nvme", queue_depth = 4 }'
    text = text.replace('traffic = { kind = "nvme", queue_depth = 4 }', loop)
    some, always = (
        of(run(load(t)), 0) for t in (text, text.replace('start = "100us", on = "50us"', 'on = "500us"'))
    )
    # Four phases of 50 us in 2 ms; each is entered by four requests at once.
    assert some.requests / always.requests == pytest.approx(0.1, rel=0.1)
    assert some.first_start_ps >= 100 * US
    assert some.last_end_ps < 1650 * US + 20 * US


def test_a_phase_that_is_always_is_none(load: Load) -> None:
    text = TEXT.replace('phase = { start = "5us", on = "2us", every = "20us" }', "")
    all_the_time = TEXT.replace('start = "5us", on = "2us", every = "20us"', 'on = "20us", every = "20us"')
    first, second = run(load(text)), run(load(all_the_time))
    assert [(c.requests, c.latency.mean_ps) for c in first.classes] == [
        (c.requests, c.latency.mean_ps) for c in second.classes
    ]


def test_digest_and_text_have_them(load: Load) -> None:
    scenario = load(TEXT)
    for change in (without(TEXT, "background = true\n"), TEXT.replace('"2us"', '"3us"')):
        changed = change.replace("requests = 400", 'duration = "1ms"')
        assert load(changed).digest() != load(TEXT.replace("requests = 400", 'duration = "1ms"')).digest()
    again = load(scenario.to_toml())
    assert again.digest() == scenario.digest()


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        (
            'on = "2us"',
            'on = "0ns"',
            17,
            "workload[0].device.behind.phase.on: '0ns'; expected a time above 0",
        ),
        (
            'on = "2us"',
            'on = "30us"',
            17,
            "phase.every: '20us'; expected at least on (30us), or 0: once",
        ),
        (
            "background = true",
            "background = true\nrequests = 5",
            17,
            "requests: 5; expected no such key: a device in the background",
        ),
        (
            "queue_depth = 4 }",
            "queue_depth = 4 }\nbackground = true",
            6,
            "every device is in the background; expected one that is not, or a duration",
        ),
        (
            "queue_depth = 4 }",
            'queue_depth = 4 }\nphase = { on = "1ms" }',
            12,
            "phase.every: '0ns', so not all requests begin in the one phase",
        ),
        ("background = true", "background = 1", 16, "background: 1; expected true or false"),
        ('on = "2us", ', "", 17, "behind.phase: no key 'on'"),
    ],
)
def test_one_line_names_everything(load: Load, old: str, new: str, line: int, said: str) -> None:
    assert old in TEXT
    with pytest.raises(ConfigError) as error:
        load(TEXT.replace(old, new)).resolve()
    message = str(error.value)
    assert said in message
    assert f"my.toml:{line}: " in message
    assert "\n" not in message


times = st.integers(0, 10**9)


@given(st.lists(times, min_size=1, max_size=20), times, st.integers(1, 10**6), st.integers(0, 10**6))
def test_arrivals_go_on_in_the_next_phase_where_they_stopped(
    given_ps: list[int], start: int, on: int, pause: int
) -> None:
    phase = Phase(start, on, on + pause)
    when = stretched(np.sort(np.array(given_ps)), phase)
    assert (np.diff(when) >= 0).all()
    assert ((when - start) % phase.every_ps < on).all()
    # The time that has passed in phases is the time that was given.
    turns, rest = np.divmod(when - start, phase.every_ps)
    assert (turns * on + rest).tolist() == sorted(given_ps)


def test_one_phase_only() -> None:
    assert stretched(np.array([0, 9, 10, 11]), Phase(5, 10)).tolist() == [5, 14, FOREVER, FOREVER]
    assert stretched(np.array([0, 9]), ALWAYS).tolist() == [0, 9]


def test_steps_that_wait_for_others_keep_their_times() -> None:
    steps = np.zeros(3, STEP)
    steps["after"] = [0, 1, 1]
    steps["not_before_ps"] = [0, 0, 25]
    program = Program(("x",), 1, lambda: iter([Chunk(steps, 30)]), np.zeros(0), 1, 0, True)
    (chunk,) = phased(program, Phase(100, 10, 1000)).chunks()
    assert chunk.steps["not_before_ps"].tolist() == [100, 0, 2105]
    assert chunk.horizon_ps == 3100
    for wrong in (Phase(-1), Phase(0, 0), Phase(0, 10, 9)):
        with pytest.raises(MisuseError):
            phased(program, wrong)
