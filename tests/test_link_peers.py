"""Traffic between devices: up one link, turned at a switch or the root complex, down another one."""

from hypothesis import given
from oracles.link_cases import run_oracle, run_package
from oracles.link_strategies import pairs


@given(pairs())
def test_the_same_as_the_oracle(case) -> None:
    assert run_package(case) == run_oracle(case)
