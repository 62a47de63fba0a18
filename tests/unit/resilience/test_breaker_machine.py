"""The breaker's machine, its transitions one by one: states, probes, breaks that grow, and the slow start."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_server_langgraph.resilience._machines.breaker import BreakerMachine
from mcp_server_langgraph.resilience._machines.breaker_rules import BreakerRules
from mcp_server_langgraph.resilience._machines.breaker_state import Admission, State


def opened(**options: float) -> BreakerMachine:
    """A breaker that opened at 0 for 10 seconds, with a lease of 10."""
    machine = BreakerMachine(rules(**options))
    machine.failed(probe(machine, 0.0), 0.0)
    return machine


def rules(**options: Any) -> BreakerRules:
    return BreakerRules(**{"fail_max": 1, "timeout": 10.0, "lease": 10.0, "backoff": 1.0, **options})


def probe(machine: BreakerMachine, now: float) -> Admission:
    admission = machine.admit(now)
    assert admission is not None
    return admission


def test_a_new_breaker_knows_of_no_break() -> None:
    machine = BreakerMachine(rules())
    assert (machine.because, machine.reopenings, machine.spread) == (None, 0, 0.0)
    assert (machine.successes, machine.heard) == (0, False)


def test_it_is_open_up_to_the_very_end_of_its_time() -> None:
    machine = opened()
    assert machine.admit(9.999) is None
    assert machine.admit(10.0) is not None


def test_a_success_between_failures_starts_the_count_anew() -> None:
    machine = BreakerMachine(rules(fail_max=2))
    for _ in range(3):
        machine.failed(probe(machine, 0.0), 0.0)
        machine.succeeded(probe(machine, 0.0), 0.0)
    assert machine.state is State.CLOSED


def test_probes_of_an_earlier_half_open_period_do_not_count_in_the_next() -> None:
    machine = opened(half_open_max=3, success_threshold=2)
    early = [probe(machine, 10.0) for _ in range(3)]
    machine.failed(early[0], 11.0)
    late = probe(machine, 21.0)
    machine.succeeded(early[1], 20.0)
    assert (machine.state, machine.successes, len(machine.probes)) == (State.HALF_OPEN, 0, 1)
    machine.failed(early[2], 21.0)
    assert machine.state is State.HALF_OPEN
    machine.succeeded(late, 20.0)
    machine.succeeded(probe(machine, 21.0), 21.0)
    assert machine.state is State.CLOSED


def test_a_failed_probe_takes_the_successes_before_it_away() -> None:
    machine = opened(success_threshold=2)
    machine.succeeded(probe(machine, 10.0), 10.0)
    machine.failed(probe(machine, 10.0), 10.0)
    machine.succeeded(probe(machine, 20.0), 20.0)
    assert machine.state is State.HALF_OPEN
    machine.succeeded(probe(machine, 20.0), 20.0)
    assert machine.state is State.CLOSED


def test_a_good_probe_beside_a_failed_one_does_not_close() -> None:
    machine = opened(half_open_max=2)
    good, bad = probe(machine, 10.0), probe(machine, 10.0)
    machine.failed(bad, 10.0)
    machine.succeeded(good, 20.0)
    assert machine.state is State.OPEN


@pytest.mark.parametrize("state", ["open", "half_open", "closed"])
@pytest.mark.parametrize("succeeds", [True, False])
def test_a_call_admitted_before_the_breaker_opened_changes_nothing_after(state: str, succeeds: bool) -> None:
    machine = BreakerMachine(rules())
    stale = probe(machine, 0.0)
    machine.failed(probe(machine, 0.0), 0.0)
    if state != "open":
        first = probe(machine, 10.0)
        if state == "closed":
            machine.succeeded(first, 20.0)
    before = (machine.state, machine.failures, machine.successes, len(machine.probes))
    if succeeds:
        machine.succeeded(stale, 20.0)
    else:
        machine.failed(stale, 10.0)
    assert (machine.state, machine.failures, machine.successes, len(machine.probes)) == before
    assert machine.state.value == state


def test_a_hung_probe_loses_its_place_when_its_lease_is_over() -> None:
    machine = opened()
    hung = probe(machine, 10.0)
    assert machine.admit(19.9) is None
    second = probe(machine, 20.0)
    machine.failed(hung, 20.0)
    assert machine.state is State.HALF_OPEN
    machine.succeeded(second, 20.0)
    assert machine.state is State.CLOSED


def test_a_probe_that_was_abandoned_gives_its_place_back_at_once() -> None:
    machine = opened()
    machine.abandoned(probe(machine, 10.0))
    machine.succeeded(probe(machine, 10.0), 10.0)
    assert machine.state is State.CLOSED


# How long it stays open


@pytest.mark.parametrize(
    ("options", "lengths"),
    [
        ({"timeout": 10.0}, [10, 20, 40, 60, 60]),
        ({"timeout": 10.0, "backoff": 3.0, "timeout_max": 1000.0}, [10, 30, 90, 270]),
        ({"timeout": 10.0, "backoff": 1.0}, [10, 10, 10]),
        ({"timeout": 60.0}, [60, 60, 60]),
        ({"timeout": 90.0}, [90, 90, 90]),
        ({"timeout": 1.0, "backoff": 1e300, "timeout_max": 50.0}, [1, 50, 50, 50]),
    ],
)
def test_breaks_in_a_row_grow_to_their_maximum(options: dict[str, Any], lengths: list[float]) -> None:
    machine = BreakerMachine(BreakerRules(fail_max=1, jitter=0.0, **options))
    now, seen = 0.0, []
    for _ in lengths:
        machine.failed(probe(machine, now), now)
        seen.append(machine.open_until - now)
        now = machine.open_until
    assert seen == lengths


@pytest.mark.parametrize(("chance", "length"), [(0.0, 20.0), (0.5, 30.0), (0.999, 39.98)])
def test_chance_shortens_a_grown_break_by_up_to_its_share(chance: float, length: float) -> None:
    machine = BreakerMachine(rules(backoff=4.0, timeout_max=100.0), chance=lambda: chance)
    machine.failed(probe(machine, 0.0), 0.0)
    assert (machine.open_until, machine.spread) == (10.0, 0.0), "the first break lasts as long as was asked"
    machine.failed(probe(machine, 10.0), 10.0)
    assert machine.open_until == pytest.approx(10.0 + length)


def test_no_break_is_shorter_than_the_timeout() -> None:
    machine = BreakerMachine(rules(backoff=1.5, jitter=1.0), chance=lambda: 0.0)
    machine.failed(probe(machine, 0.0), 0.0)
    machine.failed(probe(machine, 10.0), 10.0)
    assert machine.open_until == 20.0


@pytest.mark.parametrize(("quiet", "length"), [(9.5, 20.0), (10.0, 10.0)])
def test_a_break_soon_after_closing_is_one_in_a_row(quiet: float, length: float) -> None:
    machine = BreakerMachine(rules(backoff=2.0, jitter=0.0))
    machine.failed(probe(machine, 0.0), 0.0)
    machine.succeeded(probe(machine, 10.0), 10.0)
    machine.failed(probe(machine, 10.0 + quiet), 10.0 + quiet)
    assert machine.open_until == 10.0 + quiet + length


def test_a_break_during_a_ramp_longer_than_the_timeout_is_one_in_a_row() -> None:
    machine = BreakerMachine(rules(backoff=2.0, jitter=0.0, ramp=40.0))
    machine.failed(probe(machine, 0.0), 0.0)
    machine.succeeded(probe(machine, 10.0), 10.0)
    machine.failed(probe(machine, 49.0), 49.0)
    assert machine.open_until == 49.0 + 20.0


def test_an_operator_who_closes_it_ends_the_row() -> None:
    machine = BreakerMachine(rules(backoff=2.0, jitter=0.0))
    for now in (0.0, 10.0):
        machine.failed(probe(machine, now), now)
    machine.close()
    assert machine.reopenings == 0
    machine.failed(probe(machine, 11.0), 11.0)
    assert (machine.reopenings, machine.open_until) == (0, 21.0)


@pytest.mark.parametrize(("asked", "until"), [(5.0, 10.0), (25.0, 25.0), (86400.0, 300.0)])
def test_a_retry_after_is_the_least_that_it_stays_open_within_reason(asked: float, until: float) -> None:
    machine = BreakerMachine(rules())
    machine.failed(probe(machine, 0.0), 0.0, asked)
    assert (machine.open_until, machine.retry_after(0.0), machine.refuses_for(0.0)) == (until,) * 3


def test_a_retry_after_seen_before_the_last_failure_counts_too_and_one_from_before_it_closed_does_not() -> (
    None
):
    machine = BreakerMachine(rules(fail_max=2))
    machine.failed(probe(machine, 0.0), 0.0, 50.0)
    machine.failed(probe(machine, 1.0), 1.0, 5.0)
    assert machine.open_until == 50.0
    machine.close()
    for _ in range(2):
        machine.failed(probe(machine, 2.0), 2.0)
    assert machine.open_until == 12.0


def test_a_late_failures_retry_after_is_of_no_interest() -> None:
    machine = BreakerMachine(rules())
    late = probe(machine, 0.0)
    machine.failed(probe(machine, 0.0), 0.0)
    machine.failed(late, 1.0, 100.0)
    assert machine.open_until == 10.0


def test_a_break_that_is_on_follows_a_change_of_its_length() -> None:
    machine = BreakerMachine(rules(backoff=2.0, jitter=0.0))
    machine.failed(probe(machine, 0.0), 0.0)
    machine.change(rules(timeout=4.0))
    assert machine.admit(3.9) is None
    assert machine.admit(4.0) is not None


# Slow start


def ramping(**options: Any) -> BreakerMachine:
    """A breaker that closed at 10 and ramps for 8 seconds."""
    machine = opened(ramp=8.0, **options)
    machine.succeeded(probe(machine, 10.0), 10.0)
    assert (machine.state, machine.door) == (State.CLOSED, None)
    return machine


@pytest.mark.parametrize(("after", "let_in"), [(0.0, 10), (1.0, 10), (2.0, 20), (4.0, 40), (7.0, 70)])
def test_after_closing_exactly_the_growing_share_is_let_in(after: float, let_in: int) -> None:
    machine = ramping()
    results = [machine.admit(10.0 + after) is not None for _ in range(80)]
    assert results[0] or after
    assert sum(results) == let_in
    gaps = [len(gap) for gap in "".join("-+"[each] for each in results).strip("-").split("+")[1:-1]]
    assert max(gaps, default=0) - min(gaps, default=0) <= 1, "evenly, not in runs"


def test_after_the_ramp_nothing_is_asked_any_more() -> None:
    machine = ramping()
    assert machine.admit(17.9) is not None
    assert machine.door is None
    assert [machine.admit(18.0) is not None for _ in range(10)] == [True] * 10
    assert (machine.door, machine.quiet) == (machine.closed, True)


def test_those_turned_away_are_spread_over_the_rest_of_the_ramp() -> None:
    machine = ramping()
    hints = [machine.retry_after(10.0) for _ in range(800) if machine.admit(10.0) is None]
    eighths = [sum(n < (hint or 0.0) <= n + 1 for hint in hints) for n in range(8)]
    assert len(hints) == sum(eighths) == 700
    assert max(eighths) - min(eighths) <= 3, eighths
    assert machine.refuses_for(10.0) == 0.0, "another call may be let in"


def test_a_failure_during_the_ramp_opens_it_again_for_longer() -> None:
    machine = ramping(backoff=2.0, jitter=0.0)
    machine.failed(probe(machine, 10.0), 10.0)
    assert (machine.state, machine.ramp, machine.open_until) == (State.OPEN, None, 30.0)


def test_an_operator_who_closes_it_wants_no_ramp() -> None:
    machine = ramping()
    machine.close()
    assert (machine.ramp, machine.door) == (None, machine.closed)


@pytest.mark.parametrize(("length", "over_at"), [(0.0, 10.0), (2.0, 12.0), (16.0, 26.0)])
def test_a_ramp_follows_a_change_of_its_length(length: float, over_at: float) -> None:
    machine = ramping()
    machine.change(rules(ramp=length))
    assert (machine.door is None) == bool(length)
    if length:
        assert [machine.admit(over_at - 1.0) is not None for _ in range(16)].count(False) > 0
    assert all(machine.admit(over_at) is not None for _ in range(16))
    assert machine.door is machine.closed
