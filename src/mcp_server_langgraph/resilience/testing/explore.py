"""Run a program under many orders of its steps, and find the one that breaks it.

Which of several tasks that could go on goes on first is chance: a packet, a timer, a thread. asyncio lets them go on
in the order in which they became ready, so a test sees one order of many, and a race shows up in production. `explore`
runs the program again and again, each time in another order, and prints the *schedule* that failed; `replay` runs that
one again, under a debugger for example.

    async def program() -> None: ...      # makes everything anew, and asserts what must hold

    explore(program)                      # every order with at most two deviations from the usual one
    replay(program, "4:1 9:2")            # what the failure said

A *step* is what a task does between two awaits that wait. Wherever two or more tasks (or the loop's callbacks, which
keep their order among themselves) are ready there is a choice; to take another than the first is a *deviation*, and who
was passed over goes to the end of the line. Orders with few deviations come first, each exactly once, and most races
need one or two. Time is virtual and passes only where nobody is ready. The program has to be deterministic.

Sources: S. Burckhardt et al., "A randomized scheduler with probabilistic guarantees of finding bugs" (ASPLOS 2010);
M. Emmi, S. Qadeer, Z. Rakamaric, "Delay-bounded scheduling" (POPL 2011), whose bound this is; the same idea in loom and
shuttle (Rust) and Coyote (.NET).
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from mcp_server_langgraph.resilience.testing.virtual_loop import VirtualClockLoop, VirtualTimeError
from mcp_server_langgraph.resilience.testing.virtual_time import run_on

__all__ = ["Exploration", "NondeterminismError", "ScheduleError", "explore", "replay"]

T = TypeVar("T")
Program = Callable[[], Coroutine[Any, Any, T]]

# Deviations from the usual order: (number of the choice, number of the option that was taken).
_Schedule = tuple[tuple[int, int], ...]

# How many of the last choices a failure tells.
_TOLD: Final = 25


class ScheduleError(AssertionError):
    """The program failed under an order of its steps. ``schedule`` is that order, for `replay`; the cause is what
    failed.
    """

    def __init__(self, schedule: str, failure: BaseException, choices: Iterable[str]) -> None:
        super().__init__(schedule)
        self.schedule = schedule
        self.failure = failure
        self.choices = tuple(choices)

    def __str__(self) -> str:
        order = (
            f"the schedule {self.schedule!r}" if self.schedule else "the usual order of steps, schedule ''"
        )
        steps = "".join(f"\n  {choice}" for choice in self.choices[-_TOLD:])
        return (
            f"fails under {order}: {type(self.failure).__name__}: {self.failure}\nchoices (last ones):{steps}"
        )


class NondeterminismError(VirtualTimeError):
    """The program took another course under a schedule than when that schedule was found: something else decides."""


@dataclass(frozen=True, slots=True)
class Exploration:
    """What was explored: how many ``runs``, the most ``choices`` in one of them, and whether it is ``complete``: no
    order within the bound is left.
    """

    runs: int
    choices: int
    complete: bool


def explore(
    program: Program[object],
    *,
    deviations: int | None = 2,
    max_runs: int = 2000,
    seed: int | None = None,
) -> Exploration:
    """Run ``program()`` under every order of steps with at most ``deviations`` from the usual one (None: any number),
    those with few of them first, in at most ``max_runs`` runs. With a ``seed``: under ``max_runs`` random orders
    instead.

    Raises `ScheduleError` for the first order under which it raises anything, hangs, or leaves tasks behind;
    `NondeterminismError`.
    """
    if seed is not None:
        return _explore_at_random(program, random.Random(seed), max_runs)
    waiting: deque[_Schedule] = deque([()])
    runs = most = 0
    while waiting and runs < max_runs:
        schedule = waiting.popleft()
        plan = _Plan(schedule)
        _try(program, plan)
        runs += 1
        most = max(most, len(plan.options))
        if deviations is None or len(schedule) < deviations:
            room = (
                max_runs - runs - len(waiting) + 1
            )  # one more than can be run, so that it shows that some are left
            waiting.extend(next_one for next_one, _ in zip(plan.following(), range(room), strict=False))
    return Exploration(runs, most, complete=not waiting)


def _explore_at_random(program: Program[object], chance: random.Random, max_runs: int) -> Exploration:
    most = 0
    for _ in range(max_runs):
        plan = _Plan((), chance)
        _try(program, plan)
        most = max(most, len(plan.options))
    return Exploration(max_runs, most, complete=False)


def replay(program: Program[T], schedule: str) -> T:
    """Run ``program()`` under a schedule that `ScheduleError` told. Gives what it gives, and raises what it raises."""
    try:
        steps = tuple((int(choice), int(option)) for choice, option in map(_halves, schedule.split()))
    except ValueError:
        raise ValueError(f"{schedule!r} is no schedule; one looks like '4:1 9:2'") from None
    return _play(program, _Plan(steps))


def _halves(step: str) -> list[str]:
    return step.split(":")


def _try(program: Program[object], plan: _Plan) -> None:
    try:
        _play(program, plan)
    except NondeterminismError:
        raise
    except (Exception, asyncio.CancelledError) as failure:
        plan.check_that_it_was_followed()
        raise ScheduleError(plan.schedule(), failure, plan.told) from failure


def _play(program: Program[T], plan: _Plan) -> T:
    async def main() -> T:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, _ExploringLoop)
        loop.ready.exploring = True
        try:
            return await program()
        finally:
            loop.ready.exploring = False

    result = run_on(lambda: _ExploringLoop(plan), main(), strict=True)
    plan.check_that_it_was_followed()
    return result


class _Plan:
    """Which option to take at each choice, and what there was to choose from."""

    def __init__(self, schedule: _Schedule, chance: random.Random | None = None) -> None:
        self._schedule = schedule
        self._deviations = dict(schedule)
        self._chance = chance
        self._names: dict[object, str] = {}
        self._strayed: str | None = None
        self.options: list[int] = []
        self.told: list[str] = []

    def choose(self, owners: list[asyncio.Task[Any] | None]) -> int:
        """The number of the one that goes on."""
        number, count = len(self.options), len(owners)
        option = self._chance.randrange(count) if self._chance else self._deviations.get(number, 0)
        if option >= count:
            self._strayed = f"choice {number} has {count} options, and the schedule takes number {option}"
            option = 0
        if self._chance is not None and option:
            self._deviations[number] = option
        self.options.append(count)
        names = [self._name(owner) for owner in owners]
        self.told.append(f"{number}:{option} {names[option]}, of: {', '.join(names)}")
        return option

    def following(self) -> Iterator[_Schedule]:
        """Every schedule with one deviation more, after the last one of this."""
        first = self._schedule[-1][0] + 1 if self._schedule else 0
        for number in range(first, len(self.options)):
            for option in range(1, self.options[number]):
                yield (*self._schedule, (number, option))

    def schedule(self) -> str:
        """What was taken, in the form that `replay` reads."""
        return " ".join(f"{number}:{option}" for number, option in sorted(self._deviations.items()))

    def check_that_it_was_followed(self) -> None:
        """Raise where there was nothing to choose from as the schedule has it."""
        last = max(self._deviations, default=-1)
        if last >= len(self.options):
            self._strayed = f"there were {len(self.options)} choices, and the schedule has a number {last}"
        if self._strayed is not None:
            raise NondeterminismError(self._strayed)

    def _name(self, owner: asyncio.Task[Any] | None) -> str:
        if owner is None:
            return "callbacks"
        if owner not in self._names:
            coroutine = getattr(owner.get_coro(), "__qualname__", "?").rpartition(".")[2]
            unnamed = re.fullmatch(r"Task-\d+", owner.get_name())
            name = f"task {len(self._names)}" if unnamed else owner.get_name()
            self._names[owner] = f"{name} ({coroutine})"
        return self._names[owner]


class _ExploringLoop(VirtualClockLoop):
    """A virtual-time loop that asks a plan who goes on."""

    def __init__(self, plan: _Plan) -> None:
        super().__init__(max_iterations=100_000)
        self.ready = self._ready = _Ready(plan)


class _Ready(deque[asyncio.Handle]):
    """asyncio's queue of what is ready. It takes from the left what is to run next."""

    def __init__(self, plan: _Plan) -> None:
        super().__init__()
        self._plan = plan
        self.exploring = False

    def popleft(self) -> asyncio.Handle:
        """The handle of whoever goes on."""
        if not self.exploring or self[0].cancelled():
            return super().popleft()
        owners = list(dict.fromkeys(_owner(handle) for handle in self if not handle.cancelled()))
        option = self._plan.choose(owners) if len(owners) > 1 else 0
        if option == 0:
            return super().popleft()
        return self._pass_over(owners[:option], owners[option])

    def _pass_over(
        self, passed: list[asyncio.Task[Any] | None], chosen: asyncio.Task[Any] | None
    ) -> asyncio.Handle:
        handles = list(self)
        taken = next(each for each in handles if _owner(each) is chosen and not each.cancelled())
        others = [each for each in handles if each is not taken]
        self.clear()
        self.extend(each for each in others if _owner(each) not in passed)
        self.extend(each for each in others if _owner(each) in passed)
        return taken


def _owner(handle: asyncio.Handle) -> asyncio.Task[Any] | None:
    """The task whose step it is; None for the loop's other callbacks."""
    owner = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]
    return owner if isinstance(owner, asyncio.Task) else None  # pyright: ignore[reportUnknownVariableType]
