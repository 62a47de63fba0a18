"""The middleware by itself, in virtual time: who is let in, under which deadline, and what the others are answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest

from mcp_server_langgraph.resilience import (
    AdaptiveLimit,
    Bulkhead,
    Cache,
    CircuitBreaker,
    CircuitOpen,
    ConfigurationError,
    Criticality,
    Fallback,
    Hedge,
    Keyed,
    Pipeline,
    Policy,
    QuotaUsed,
    RateLimit,
    Retry,
    Shed,
    TimedOut,
    Timeout,
    current_criticality,
    registry,
    remaining,
)
from mcp_server_langgraph.resilience.integrations.asgi import (
    Message,
    Receive,
    ResilienceMiddleware,
    Scope,
    Send,
    client_address,
    queue_delay,
)

Work = Callable[[], Awaitable[object]]


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> Any:
        assert self.headers["content-type"] == "application/problem+json"
        assert self.headers["content-length"] == str(len(self.body))
        return json.loads(self.body)


class App:
    """Answers ``status`` after ``work``, in two parts, with ``between`` between them."""

    def __init__(self, work: Work | None = None, *, status: int = 200, between: Work | None = None) -> None:
        self.work, self.status, self.between = work, status, between
        self.begun = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.begun += 1
        if self.work is not None:
            await self.work()
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        if self.between is not None:
            await self.between()
        await send({"type": "http.response.body", "body": b"b"})


class Client:
    """Sends requests to an application as a server would."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self.app = app
        self.received: list[Message] = []

    async def get(self, path: str = "/", *, address: str | None = "1.1.1.1", **headers: str) -> Answer:
        self.received = []
        scope = {
            "type": "http",
            "path": path,
            "client": None if address is None else (address, 1234),
            "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()],
        }
        await self.app(scope, _no_body, self._take)
        start, *parts = self.received
        told = {k.decode(): v.decode() for k, v in start["headers"]}
        return Answer(start["status"], told, b"".join(part["body"] for part in parts))

    async def _take(self, message: Message) -> None:
        self.received.append(message)


async def _no_body() -> Message:
    raise AssertionError("nobody reads a body here")


def behind(app: App, *policies: Policy, **options: Any) -> Client:
    return Client(ResilienceMiddleware(app, Pipeline("http", *policies), **options))


def raising(error: BaseException) -> Work:
    async def work() -> None:
        raise error

    return work


async def test_a_request_is_let_in_and_its_response_passed_on_as_it_is() -> None:
    assert await behind(App(), Bulkhead(1)).get() == Answer(200, {}, b"ab")


async def test_who_finds_no_place_is_answered_503_and_nothing_of_the_application_runs() -> None:
    app = App(lambda: asyncio.sleep(10))
    client = behind(app, Bulkhead(1, max_wait=0))
    first = asyncio.create_task(behind_same(client).get())
    await asyncio.sleep(1)
    answer = await client.get()
    assert (answer.status, app.begun) == (503, 1)
    assert answer.problem == {
        "title": "Service Unavailable",
        "status": 503,
        "detail": "bulkhead of 'http' is full",
    }
    assert answer.headers["cache-control"] == "no-store"
    assert "retry-after" not in answer.headers
    assert (await first).status == 200


def behind_same(client: Client) -> Client:
    return Client(client.app)


async def test_a_place_is_held_until_a_streamed_response_has_ended() -> None:
    client = behind(App(between=lambda: asyncio.sleep(10)), Bulkhead(1, max_wait=0))
    first = asyncio.create_task(behind_same(client).get())
    await asyncio.sleep(9)
    assert (await client.get()).status == 503
    await first
    assert (await client.get()).status == 200


async def test_a_caller_beyond_its_rate_is_told_when_to_come_again_and_others_are_not_hurt() -> None:
    client = behind(App(), Keyed(lambda _: RateLimit(0.25, burst=1), key=client_address))
    assert (await client.get()).status == 200
    answer = await client.get()
    assert (answer.status, answer.headers["retry-after"]) == (429, "4")
    assert answer.problem["retryAfterMs"] == 4000
    assert (await client.get(address="2.2.2.2")).status == 200
    assert (await client.get(address=None)).status == 200
    await asyncio.sleep(4)
    assert (await client.get()).status == 200


async def test_a_late_process_sheds_what_matters_least_and_says_not_to_retry() -> None:
    client = behind(App(), Shed(queue_delay=lambda: 9.0, chance=lambda: 0.5))
    for _ in range(40):
        await client.get(x_request_criticality="sheddable")
        await asyncio.sleep(0.1)
    answer = await client.get(x_request_criticality="sheddable")
    assert (answer.status, answer.headers["x-should-retry"], answer.headers["retry-after"]) == (
        503,
        "false",
        "1",
    )


async def test_the_callers_deadline_and_criticality_hold_in_the_application() -> None:
    seen: list[object] = []

    async def look() -> None:
        seen.extend((remaining(), current_criticality()))

    await behind(App(look)).get(x_request_timeout_ms="1500", x_request_criticality="sheddable")
    await behind(App(look), margin=0.5).get(
        x_request_timeout_ms="1500", x_request_criticality="critical_plus"
    )
    await behind(App(look), max_criticality=Criticality.CRITICAL_PLUS).get(
        x_request_criticality="critical_plus"
    )
    assert seen == [
        *(1.5, Criticality.SHEDDABLE),
        *(1.0, Criticality.CRITICAL),
        *(None, Criticality.CRITICAL_PLUS),
    ]


async def test_what_comes_too_late_is_not_begun() -> None:
    app = App()
    client = behind(app, minimum=0.1)
    for left in ("0", "100"):
        answer = await client.get(x_request_timeout_ms=left)
        assert (answer.status, "retry-after" in answer.headers) == (504, False)
    assert app.begun == 0
    assert (await client.get(x_request_timeout_ms="101")).status == 200


async def test_the_application_is_cut_when_its_callers_time_is_up() -> None:
    answer = await behind(App(lambda: asyncio.sleep(10))).get(x_request_timeout_ms="2000")
    assert (answer.status, asyncio.get_running_loop().time()) == (504, 2.0)


async def test_the_pipelines_timeout_cuts_too() -> None:
    answer = await behind(App(lambda: asyncio.sleep(10)), Timeout(3)).get()
    assert (answer.status, asyncio.get_running_loop().time()) == (504, 3.0)


async def test_a_response_that_has_begun_is_broken_off_where_time_is_up() -> None:
    client = behind(App(between=lambda: asyncio.sleep(10)), Timeout(1))
    with pytest.raises(TimedOut):
        await client.get()
    assert [message["type"] for message in client.received] == ["http.response.start", "http.response.body"]


@pytest.mark.parametrize(
    ("error", "status", "wait"),
    [
        (CircuitOpen("search", 2.5), 503, "3"),
        (CircuitOpen("search", 0.0), 503, "1"),
        (QuotaUsed("llm", 0.2), 503, "1"),
        (QuotaUsed("httpd", 0.2), 503, "1"),
        (TimedOut("search", 1.0, "attempt"), 504, None),
    ],
    ids=repr,
)
async def test_a_rejection_that_the_application_does_not_handle_is_no_500(
    error: Exception, status: int, wait: str | None
) -> None:
    answer = await behind(App(raising(error))).get()
    assert (answer.status, answer.headers.get("retry-after")) == (status, wait)
    assert answer.problem["detail"] == str(error)


async def test_other_errors_of_the_application_pass_through() -> None:
    with pytest.raises(ZeroDivisionError):
        await behind(App(raising(ZeroDivisionError()))).get()


async def test_a_bad_answer_passes_through_and_is_told_to_the_policies() -> None:
    breaker = CircuitBreaker("door", fail_max=2)
    for status in (503, 500):
        assert (await behind(App(status=status), breaker).get()).status == status
    assert breaker.snapshot().state == "open"


@pytest.mark.parametrize("status", [429, 503])
async def test_an_adaptive_limit_shrinks_where_the_application_answers_that_it_is_overloaded(
    status: int,
) -> None:
    limit = AdaptiveLimit("aimd", initial=100, min_limit=10)
    client = behind(App(lambda: asyncio.sleep(0.01), status=503), limit)
    for _ in range(300):
        await client.get()
    assert limit.snapshot().limit < 100


async def test_an_answer_of_429_counts_neither_as_a_success_nor_as_a_failure() -> None:
    client = behind(App(status=429))
    assert (await client.get()).status == 429
    (calls,) = [metric for metric in registry.metrics() if metric.name == "resilience_calls_total"]
    assert {outcome: count for (*_, outcome), count in calls.samples.items()} == {
        "success": 0,
        "failure": 0,
        "neutral": 1,
    }


async def test_exempt_paths_and_other_protocols_pass_untouched() -> None:
    app = App()
    client = behind(app, Keyed(lambda _: RateLimit(0.001, burst=1), key=client_address), exempt=["/livez"])
    for _ in range(3):
        assert (await client.get("/livez", x_request_timeout_ms="0")).status == 200
        await client.app({"type": "websocket", "path": "/"}, _no_body, client._take)
        await client.app({"type": "lifespan"}, _no_body, client._take)
    assert app.begun == 9
    assert [(await client.get("/livez/x")).status for _ in range(2)] == [200, 429]


@pytest.mark.parametrize(
    "policy", [Retry(), Hedge(), Cache(key=client_address), Fallback(lambda: None)], ids=lambda it: it.kind
)
def test_a_policy_that_would_repeat_or_answer_a_request_is_refused(policy: Policy) -> None:
    with pytest.raises(ConfigurationError, match=f"'http' has {policy.kind}"):
        behind(App(), policy)


def test_wrong_values_are_refused_when_it_is_built() -> None:
    with pytest.raises(ConfigurationError, match="margin=-1"):
        behind(App(), margin=-1)


@pytest.mark.parametrize(
    ("sent", "waited"),
    [
        ("t=999.75", 0.25),
        ("999.75", 0.25),
        ("t=1700000000000", 5.0),
        ("1700000000000000", 5.0),
        ("1700000006", 0.0),
        ("1", 60.0),
        *((bad, None) for bad in ("", "soon", "0", "-1", "nan", "inf", "1e400")),
    ],
)
async def test_how_long_a_request_waited_is_read_from_what_the_proxy_wrote(
    monkeypatch: pytest.MonkeyPatch, sent: str, waited: float | None
) -> None:
    wall = 1000.0 if "999" in sent else 1_700_000_005.0
    monkeypatch.setattr("time.time", lambda: wall)
    seen: list[float | None] = []

    async def look() -> None:
        seen.append(queue_delay())

    await behind(App(look), queue_delay_header="X-Request-Start").get(x_request_start=sent)
    assert seen == [waited if waited is None else pytest.approx(waited, abs=1e-6)]


async def test_nobody_is_believed_about_the_queue_unless_that_was_asked_for() -> None:
    seen: list[float | None] = []

    async def look() -> None:
        seen.append(queue_delay())

    await behind(App(look)).get(x_request_start="1")
    await behind(App(look), queue_delay_header="x-queued-at").get(x_request_start="1")
    assert seen == [None, None]
