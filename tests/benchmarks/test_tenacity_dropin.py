"""The cases of tenacity's drop-in can be sampled, and its table says how many times less. Nothing is timed here."""

from __future__ import annotations

from benchmarks._measure import Measured
from benchmarks.tenacity_dropin import DECORATED, cases, report


async def test_every_case_can_be_sampled() -> None:
    found = await cases()
    for case in found:
        await case.sample(4)
    assert len({(case.table, case.name) for case in found}) == len(found) == 1 + 2 * 4


async def test_the_table_tells_how_many_times_less_it_costs() -> None:
    ns = {"": 100.0, "tenacity": 40_000.0, "drop-in": 800.0}
    page = report([Measured(case, (ns[case.name] * 2, ns[case.name])) for case in await cases()], rounds=2)
    assert f"| {DECORATED} | 40,000 | 800 | 50.0 |" in page
