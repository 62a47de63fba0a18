"""When OpenFGA's breaker opens, and when not: the figures of `docs/explanation/decisions/openfgas-breaker.md`."""

import random

import pytest

from mcp_server_langgraph.resilience._machines.breaker import BreakerMachine
from mcp_server_langgraph.resilience._machines.breaker_rules import BreakerRules
from mcp_server_langgraph.server.wiring._permissions import FAIL_MAX, FAILURE_RATE

THE_ADRS = BreakerRules()
OPENFGAS = BreakerRules(fail_max=FAIL_MAX, failure_rate=FAILURE_RATE)
ATTEMPTS = 3


def refused(rules: BreakerRules, rate: int, failing: float, seconds: int) -> float:
    """The share of calls that are refused at once, where a part of all attempts fails, evenly by chance."""
    machine, chance, counted = BreakerMachine(rules), random.Random(30), 0
    for number in range(rate * seconds):
        now = number / rate
        for attempt in range(ATTEMPTS):
            admission = machine.admit(now)
            if admission is None:
                counted += attempt == 0
                break
            if chance.random() >= failing:
                machine.succeeded(admission, now)
                break
            machine.failed(admission, now)
    return counted / (rate * seconds)


@pytest.mark.parametrize(
    ("failing", "by_the_adr", "by_ours"), [(0.1, 0.2, 0.0), (0.2, 0.9, 0.0), (0.6, 0.9, 0.9)]
)
def test_a_part_that_fails_by_chance_closes_nobody_out_and_most_failing_does(
    failing: float, by_the_adr: float, by_ours: float
) -> None:
    assert refused(THE_ADRS, 1000, failing, 300) >= by_the_adr
    share = refused(OPENFGAS, 1000, failing, 300)
    assert share >= by_ours if by_ours else share == 0


@pytest.mark.parametrize("rate", [1, 20, 1000])
@pytest.mark.parametrize(("rules", "lost"), [(THE_ADRS, 2), (OPENFGAS, 4)])
def test_an_outage_opens_it_within_a_few_calls_at_any_rate(rules: BreakerRules, lost: int, rate: int) -> None:
    machine = BreakerMachine(rules)
    for number in range(1000):
        admission = machine.admit(number / rate)
        assert admission is not None
        machine.succeeded(admission, number / rate)
    for call in range(1, 100):
        now = (1000 + call) / rate
        for _ in range(ATTEMPTS):
            admission = machine.admit(now)
            if admission is None:
                assert call == lost
                return
            machine.failed(admission, now)
    pytest.fail("it never opened")
