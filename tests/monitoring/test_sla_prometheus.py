"""The service level by Prometheus: what it is asked, and what is made of its answers."""

import math

import pytest

from mcp_server_langgraph.monitoring.prometheus_client import PrometheusUnavailable, QueryResult, Series
from mcp_server_langgraph.monitoring.sla import Group, Measured
from mcp_server_langgraph.monitoring.sla_prometheus import NotScraped, measured_by_prometheus

SCRAPED = 1_800_000_000.25

Rows = list[tuple[dict[str, str], float]]

TOOLS: Rows = [
    ({"name": "get", "outcome": "ok", "le": "0.5"}, 7.0),
    ({"name": "get", "outcome": "ok", "le": "+Inf"}, 8.0),
    ({"name": "get", "outcome": "error", "le": "0.5"}, 1.0),
    ({"name": "get", "outcome": "error", "le": "+Inf"}, 2.0),
    ({"name": "get", "outcome": "cancelled", "le": "0.5"}, 30.0),
    ({"name": "get", "outcome": "cancelled", "le": "+Inf"}, 30.0),
]
CALLS: Rows = [
    ({"service": "redis", "operation": "session.get", "outcome": "success"}, 9.0),
    ({"service": "redis", "operation": "session.get", "outcome": "failure"}, 1.0),
]
TOOK: Rows = [
    ({"service": "redis", "operation": "session.get", "le": "0.5"}, 9.0),
    ({"service": "redis", "operation": "session.get", "le": "+Inf"}, 9.0),
]


class Told:
    """A Prometheus that answers whatever has one of these texts in it, and keeps what it was asked."""

    def __init__(self, **answers: Rows) -> None:
        self.answers = {"timestamp(": [({}, SCRAPED)], **answers}
        self.asked: dict[str, float | None] = {}
        self.stale_from: int | None = None

    async def query(self, promql: str, at: float | None = None) -> QueryResult:
        self.asked[promql] = at
        rows = next((rows for part, rows in self.answers.items() if part in promql), [])
        samples = tuple(Series(labels, ((SCRAPED, value),)) for labels, value in rows)
        stale = self.stale_from is not None and len(self.asked) > self.stale_from
        return QueryResult("vector", samples, SCRAPED, stale=stale, warning="is stale" if stale else None)


ALL = {
    "operation_duration_seconds_bucket": TOOLS,
    "resilience_calls_total": CALLS,
    "resilience_call_duration_seconds_bucket": TOOK,
    "fallback_used_total": [({"service": "redis"}, 4.0)],
    "transitions_total": [({"service": "redis"}, 2.0)],
    "http_requests_total": [({}, 3.0)],
    "up[": [({}, 0.75)],
}


async def test_all_is_asked_of_one_window_that_ends_with_the_last_scrape() -> None:
    told = Told(**ALL)
    _, as_of = await measured_by_prometheus(told, 3599.5, 'job="mcp"')
    assert as_of == SCRAPED
    first, *others = told.asked.items()
    assert first == ('max(timestamp(mcp_server_calls_in_flight{job="mcp"}))', None)
    calls = 'mcp_server_operation_duration_seconds_bucket{job="mcp",method="tools/call"}[3600s]'
    refused = 'http_requests_total{job="mcp",route="/mcp",status=~"5..|0"}[3600s]'
    opened = 'circuit_breaker_transitions_total{job="mcp",state="open"}[3600s]'
    present = 'present_over_time(mcp_server_calls_in_flight{job="mcp"}[3600s])'
    assert dict(others) == dict.fromkeys(
        (
            f"sum by (name, outcome, le) (increase({calls}))",
            'sum by (service, operation, outcome) (increase(resilience_calls_total{job="mcp"}[3600s]))',
            "sum by (service, operation, le) "
            '(increase(resilience_call_duration_seconds_bucket{job="mcp"}[3600s]))',
            'sum by (service) (increase(fallback_used_total{job="mcp"}[3600s]))',
            f"sum by (service) (increase({opened}))",
            f"sum(increase({refused}))",
            f"avg(avg_over_time(up[3600s]) and on (job, instance) {present})",
        ),
        SCRAPED,
    )


async def test_the_answers_are_counted_and_a_cancelled_call_says_nothing_of_the_time() -> None:
    measured, _ = await measured_by_prometheus(Told(**ALL), 60.0)
    assert measured == Measured(
        tools={"get": Group({"ok": 8.0, "error": 2.0, "cancelled": 30.0}, {0.5: 8.0, math.inf: 10.0})},
        services={
            ("redis", "session.get"): Group({"success": 9.0, "failure": 1.0}, {0.5: 9.0, math.inf: 9.0})
        },
        fallbacks={"redis": 4.0},
        openings={"redis": 2.0},
        http_errors=3.0,
        uptime=0.75,
    )


async def test_what_prometheus_has_nothing_of_counts_as_none_and_an_uptime_is_not_known() -> None:
    measured, _ = await measured_by_prometheus(Told(), 60.0)
    assert measured == Measured()


async def test_a_server_that_nobody_scrapes_is_told_from_one_that_did_nothing() -> None:
    told = Told()
    told.answers = {}
    with pytest.raises(NotScraped):
        await measured_by_prometheus(told, 60.0)
    assert len(told.asked) == 1


@pytest.mark.parametrize("fresh", range(8))
async def test_one_stale_answer_among_the_eight_makes_no_report(fresh: int) -> None:
    told = Told(**ALL)
    told.stale_from = fresh
    with pytest.raises(PrometheusUnavailable, match="is stale"):
        await measured_by_prometheus(told, 60.0)
    assert len(told.asked) == fresh + 1
