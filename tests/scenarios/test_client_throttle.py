"""Client throttling as published: its goodput in steady overload, and how it finds out that an outage is over.

Survey sections 4.5 and 4.2; the machine itself in a discrete-event simulation, one queue, seeded.
"""

from __future__ import annotations

import heapq
import random

import pytest

from mcp_server_langgraph.resilience._machines.throttle import ThrottleMachine

CAPACITY = 100.0  # calls a second
RHO = 0.5  # what a refusal costs, of a served call


def goodput(load: float, k: float | None, seconds: float = 120.0) -> float:
    """Share of the capacity that serves calls in the second half of the time. Ten clients; None: no throttle."""
    chance = random.Random(5)
    clients = [ThrottleMachine(k or 1.0, 0.99, window=20.0) for _ in range(10)]
    now = busy_until = 0.0
    served = 0
    while now < seconds:
        now += chance.expovariate(load * CAPACITY)
        client = clients[chance.randrange(10)]
        if k is not None and client.presses(now) and client.sheds(2, chance.random(), now):
            client.ended(2, now, accepted=False)
            continue
        accepted = busy_until - now < 0.5  # its queue is fifty calls long
        busy_until = max(busy_until, now) + (1 if accepted else RHO) / CAPACITY
        served += accepted and now > seconds / 2
        client.ended(2, now, accepted=accepted)
    return served / (CAPACITY * seconds / 2)


@pytest.mark.parametrize("load", [2.5, 5.0])
@pytest.mark.parametrize("k", [2.0, 1.1])
def test_goodput_in_overload_is_what_the_formula_says_whatever_the_load(load: float, k: float) -> None:
    assert goodput(load, k) == pytest.approx(1 / (1 + RHO * (k - 1)), abs=0.03)


def test_without_a_throttle_the_dependency_is_busy_refusing() -> None:
    assert goodput(4.0, None) < 0.02


def seconds_to_recover(cap: float) -> float:
    """After an outage longer than the window, until 95 % of ten seconds' calls are served again."""
    chance = random.Random(9)
    machine = ThrottleMachine(2.0, cap, window=30.0)
    outage = (40.0, 80.0)
    recent: list[float] = []
    now = 0.0
    while now < 400.0:
        now += chance.expovariate(70.0)
        if machine.presses(now) and machine.sheds(2, chance.random(), now):
            machine.ended(2, now, accepted=False)
            continue
        accepted = not outage[0] <= now < outage[1]
        machine.ended(2, now, accepted=accepted)
        if accepted:
            heapq.heappush(recent, now)
        while recent and recent[0] < now - 10.0:
            heapq.heappop(recent)
        if now > outage[1] + 10.0 and len(recent) >= 0.95 * 700:
            return now - outage[1]
    return float("inf")


def test_a_capped_throttle_finds_out_sooner_that_an_outage_is_over() -> None:
    uncapped, capped, low = (seconds_to_recover(cap) for cap in (1.0, 0.9, 0.75))
    assert low < capped < uncapped / 2
