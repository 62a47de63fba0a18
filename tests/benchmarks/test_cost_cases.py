"""Every case of the benchmarks does its job, so that they do not rot. Nothing is timed here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from benchmarks import page
from benchmarks._cases import BARE, STACKS, SUCCESS, cases
from benchmarks._jobs import checks
from benchmarks._measure import Case, Measured, measure
from benchmarks._report import report
from benchmarks._stacks import ALL_FOUR, Job, Stack
from benchmarks.import_cost import foreign_modules
from benchmarks.ours import ADR, FOUR

Check = Callable[[Stack], Coroutine[Any, Any, None]]

CLAIMS = [(stack, check) for stack in STACKS for check in checks(stack)]
FALSE_CLAIMS = checks(Stack("", BARE.build, ALL_FOUR | {Job.COUNTS}))[1:]


@pytest.mark.parametrize(("stack", "check"), CLAIMS, ids=lambda it: getattr(it, "name", None) or it.__name__)
async def test_a_stack_does_what_it_claims(stack: Stack, check: Check) -> None:
    await check(stack)


@pytest.mark.parametrize("check", FALSE_CLAIMS, ids=lambda check: check.__name__)
async def test_a_false_claim_is_found_out(check: Check) -> None:
    with pytest.raises((AssertionError, ConnectionError, TimeoutError)):
        async with asyncio.timeout(1000):
            await check(BARE)


async def test_every_case_can_be_sampled() -> None:
    found = await cases()
    for case in found:
        await case.sample(4)
    assert len({(case.table, case.name) for case in found}) == len(found)


async def test_each_case_is_sampled_in_its_rounds_and_with_its_calls() -> None:
    made: list[int] = []

    async def sample(calls: int) -> None:
        made.append(calls)

    always, seldom = Case("t", "always", sample, calls=2), Case("t", "seldom", sample, calls=3, every=2)
    first, second = await measure([always, seldom], rounds=4, sample_ms=1.0)
    assert (len(first.samples), len(second.samples)) == (4, 2)
    assert made.count(2) == 1 + 4  # one warms up
    assert made.count(3) == 1 + 2


async def test_the_report_holds_every_stack_and_the_verdict() -> None:
    bare, other = (3.0, 1.0, 2.0), (80.0, 10.0, 40.0)
    measured = [Measured(case, bare if case.name == BARE.name else other) for case in await cases()]
    text = report(measured, command="command", rounds=3, seconds=1.0)
    assert "Four policies with metrics: 20.0x a bare await (at the minimum 10.0x)" in text
    success = text.partition("## An open breaker")[0]
    assert f"| {ADR.name} | 40 | 10 | 20.0 | 10.0 | +9 |" in success
    assert all(f"| {case.case.name} |" in success for case in measured if case.case.table == SUCCESS)
    assert FOUR.name in text.partition("## The first attempt")[2]


def test_the_layer_imports_nothing_but_the_standard_library() -> None:
    assert foreign_modules() == []


def test_the_documentation_shows_the_results_as_they_are() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.render(text) == text
