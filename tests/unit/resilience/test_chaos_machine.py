"""When chaos strikes, against a naive model."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server_langgraph.resilience._machines.chaos import TRANSITIONS, ChaosMachine, State, Window

STEPS = st.lists(st.sampled_from(["on", "off", "call", "wait 1", "wait 7"]), max_size=40)
WINDOWS = [
    (),
    (Window(5, 10),),
    (Window(0, 2, every=6),),
    (Window(1, 3), Window(8, 9)),
]


@given(
    steps=STEPS,
    seed=st.integers(0, 50),
    windows=st.sampled_from(WINDOWS),
    rate=st.sampled_from([0.0, 0.3, 1.0]),
)
@settings(max_examples=150)
def test_it_does_what_a_naive_reading_of_the_script_says(
    steps: list[str], seed: int, windows: tuple[Window, ...], rate: float
) -> None:
    machine = ChaosMachine(rate, 20.0, windows, seed)
    chance = random.Random(seed)
    now = 100.0
    began: float | None = None
    struck, wanted = [], []
    for step in steps:
        if step == "on":
            machine.on(now)
            began = now if began is None else began
        elif step == "off":
            machine.off()
            began = None
        elif step == "call":
            machine.check(now)
            struck.append(machine.strikes(now))
            elapsed = None if began is None else now - began
            if elapsed is None or elapsed >= 20:
                wanted.append(False)
            else:
                drawn = chance.random() < rate
                inside = not windows or any(
                    w.start <= (elapsed % w.every if w.every else elapsed) < w.stop for w in windows
                )
                wanted.append(drawn and inside)
        else:
            now += float(step.split()[1])
            machine.check(now)
    assert struck == wanted


@given(seed=st.integers(), calls=st.integers(1, 200))
@settings(max_examples=30)
def test_the_same_seed_strikes_the_same_calls(seed: int, calls: int) -> None:
    sequences = []
    for windows in ((), (), (Window(0, 1000),)):
        machine = ChaosMachine(0.3, 1e9, windows, seed)
        machine.on(0.0)
        sequences.append([machine.strikes(float(number)) for number in range(calls)])
    assert sequences[0] == sequences[1] == sequences[2]


@pytest.mark.parametrize("rate", [0.0, 0.001, 0.1, 0.5, 1.0])
def test_it_strikes_as_often_as_its_rate_says(rate: float) -> None:
    machine = ChaosMachine(rate, 1e9, seed=1)
    machine.on(0.0)
    calls = 20_000
    struck = sum(machine.strikes(1.0) for _ in range(calls))
    # Five standard deviations of a binomial distribution.
    assert abs(struck - rate * calls) <= 5 * (calls * rate * (1 - rate)) ** 0.5


@pytest.mark.parametrize(
    ("windows", "struck"),
    [
        ((), list(range(14))),
        ((Window(),), list(range(14))),
        ((Window(2, 4),), [2, 3]),
        ((Window(2, 4, every=5),), [2, 3, 7, 8, 12, 13]),
        ((Window(1, 3), Window(8, 9)), [1, 2, 8]),
    ],
)
def test_a_window_is_open_from_its_start_to_before_its_stop(
    windows: tuple[Window, ...], struck: list[int]
) -> None:
    machine = ChaosMachine(1.0, 1e9, windows)
    machine.on(100.0)
    assert [second for second in range(14) if machine.strikes(100.0 + second)] == struck


def test_a_window_that_is_closed_uses_the_chance_up_all_the_same() -> None:
    free, bound = ChaosMachine(0.5, 1e9, seed=7), ChaosMachine(0.5, 1e9, (Window(10),), seed=7)
    free.on(0.0)
    bound.on(0.0)
    times = [float(number) for number in range(20)]
    assert [free.strikes(now) for now in times][10:] == [bound.strikes(now) for now in times][10:]


def test_it_expires_once_and_stays_so_until_it_was_switched_off() -> None:
    machine = ChaosMachine(1.0, 10.0)
    machine.on(5.0)
    assert [machine.check(now) for now in (14.9, 15.0, 16.0)] == [False, True, False]
    machine.on(20.0)
    assert (machine.state, machine.strikes(20.0)) == (State.EXPIRED, False)
    machine.off()
    machine.on(20.0)
    assert (machine.state, machine.strikes(20.0)) == (State.ON, True)


def test_on_another_clock_it_begins_anew_and_does_not_last_for_ever() -> None:
    machine = ChaosMachine(1.0, 10.0)
    machine.on(1e6)
    assert machine.check(3.0) is False
    assert machine.strikes(3.0) is True
    assert machine.check(13.0) is True


def test_the_transitions_are_those_of_the_table() -> None:
    assert {(before, after) for before, after, _ in TRANSITIONS} == {
        ("off", "on"),
        ("on", "off"),
        ("on", "expired"),
        ("expired", "off"),
    }
