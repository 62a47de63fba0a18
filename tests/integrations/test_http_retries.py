"""What is sent again, what is not, and what nobody sends twice: requests counted on the wire."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from mcp_server_langgraph.resilience import CircuitBreaker, Pipeline, RetriesExhausted, Retry
from mcp_server_langgraph.resilience.testing import Recorder
from tests.integrations.clients import CLIENTS, Aiohttp, Client, SyncHttpx, SyncHttpx2, Upstream, guarded

pytestmark = [
    pytest.mark.real_time,
    pytest.mark.parametrize("kind", CLIENTS, ids=lambda kind: kind.__name__),
]


async def test_an_idempotent_request_is_sent_again_until_it_is_answered(
    upstream: Upstream, kind: type[Client]
) -> None:
    upstream.fail(503, b"in repair", times=2)
    async with guarded(kind, retried=True) as client:
        assert (await client.ask(upstream.url)).status == 200
    assert upstream.count() == 3
    assert upstream.last.headers["x-request-attempt"] == "3"


async def test_the_last_answer_is_given_back_when_all_attempts_were_refused(
    upstream: Upstream, kind: type[Client]
) -> None:
    upstream.fail(502, b"bad gateway")
    async with guarded(kind, retried=True) as client:
        asked = await client.ask(upstream.url)
    assert (asked.status, asked.body) == (502, b"bad gateway")
    assert (upstream.count(), upstream.connections) == (3, 1)


async def test_a_long_page_of_an_error_is_let_go_before_the_next_attempt(
    upstream: Upstream, kind: type[Client]
) -> None:
    upstream.fail(502, b"y" * 200_000, times=2)
    async with guarded(kind, retried=True) as client:
        assert (await client.ask(upstream.url)).status == 200
    assert upstream.count() == 3


async def test_a_lost_connection_costs_exactly_our_attempts(upstream: Upstream, kind: type[Client]) -> None:
    upstream.reset()
    async with guarded(kind, retried=True) as client:
        with pytest.raises(client.transport_error) as caught:
            await client.ask(upstream.url)
        assert not isinstance(caught.value, RetriesExhausted)
    assert upstream.count() == 3


@pytest.mark.parametrize("reraise", [True, False])
async def test_an_answer_is_given_back_whatever_the_retry_raises(
    upstream: Upstream, kind: type[Client], reraise: bool
) -> None:
    upstream.fail(503)
    retry = Retry(max_attempts=2, multiplier=0.01, reraise=reraise)
    async with guarded(kind, retry=retry, breaker=None) as client:
        assert (await client.ask(upstream.url)).status == 503
        upstream.stop()
        with pytest.raises(client.transport_error) as caught:
            await client.ask(upstream.url)
        assert not isinstance(caught.value, RetriesExhausted)
    assert upstream.count() == 2


async def test_what_may_not_be_done_twice_is_sent_once(upstream: Upstream, kind: type[Client]) -> None:
    upstream.fail(503)
    async with guarded(kind, retried=True) as client:
        assert (await client.ask(upstream.url, "POST", content=b"order")).status == 503
    assert upstream.count() == 1


async def test_a_post_with_a_key_is_sent_again_with_its_body(upstream: Upstream, kind: type[Client]) -> None:
    upstream.fail(503, times=2)
    async with guarded(kind, retried=True) as client:
        key = {"Idempotency-Key": "order-1"}
        assert (await client.ask(upstream.url, "POST", content=b"order", headers=key)).status == 200
    assert upstream.count() == 3
    assert (upstream.last.body, upstream.last.headers["idempotency-key"]) == (b"order", "order-1")


async def test_the_caller_may_say_what_is_idempotent(upstream: Upstream, kind: type[Client]) -> None:
    upstream.fail(503)
    async with guarded(kind, retried=True, idempotent=lambda request: request.method == "POST") as client:
        await client.ask(upstream.url)
        assert upstream.count() == 1
        await client.ask(upstream.url, "POST", content=b"order")
        assert upstream.count() == 4


async def test_a_body_that_can_be_read_once_is_sent_once_and_that_is_said_once(
    upstream: Upstream, kind: type[Client], recorder: Recorder
) -> None:
    upstream.fail(503)
    async with guarded(kind, retried=True) as client:
        for _ in range(2):
            made = generator if kind in (SyncHttpx, SyncHttpx2) else async_generator
            headers = {"Content-Length": "5"}
            assert (await client.ask(upstream.url, "PUT", content=made(), headers=headers)).status == 503
    assert upstream.count() == 2
    [warning] = recorder.of("warning")
    assert "cannot be sent again" in warning.details["problem"]


def generator() -> Iterator[bytes]:
    yield b"order"


async def async_generator() -> AsyncIterator[bytes]:
    yield b"order"


async def test_retry_after_is_a_minimum(upstream: Upstream, kind: type[Client], recorder: Recorder) -> None:
    upstream.fail(429, retry_after="0.2", times=1)
    async with guarded(kind, retried=True) as client:
        assert (await client.ask(upstream.url)).status == 200
    [again] = recorder.of("retry")
    assert again.details["wait"] >= 0.2


async def test_a_longer_retry_after_than_we_wait_for_is_not_waited_for(
    upstream: Upstream, kind: type[Client]
) -> None:
    upstream.fail(429, retry_after="Wed, 21 Oct 2099 07:28:00 GMT")
    async with guarded(kind, retried=True) as client:
        assert (await client.ask(upstream.url)).status == 429
    assert upstream.count() == 1


async def test_an_open_circuit_ends_the_retrying_with_the_last_answer(
    upstream: Upstream, kind: type[Client]
) -> None:
    upstream.fail(503)
    retry = Retry(max_attempts=5, multiplier=0.01)
    async with guarded(kind, retry=retry, breaker=lambda _: CircuitBreaker(fail_max=2)) as client:
        assert (await client.ask(upstream.url)).status == 503
    assert upstream.count() == 2


async def test_a_retry_above_does_not_multiply_ours(
    upstream: Upstream, kind: type[Client], recorder: Recorder
) -> None:
    upstream.fail(503)
    above = Pipeline("above", Retry(max_attempts=3, multiplier=0.01))
    async with guarded(kind, retried=True) as client:

        @above
        async def checked() -> None:
            await raising(client)(upstream.url)

        with pytest.raises(Exception, match="503"):
            await checked()
    assert upstream.count() == 3
    [warning] = recorder.of("warning")
    assert (warning.details["outer"], warning.details["inner"]) == ("above", "http")


async def test_nothing_is_sent_again_below_a_retry_that_is_at_it(
    upstream: Upstream, kind: type[Client]
) -> None:
    upstream.fail(503)
    above = Pipeline("above", Retry(max_attempts=3, multiplier=0.01, stacked=True))
    async with guarded(kind, retried=True) as client:
        with pytest.raises(Exception, match="503"):
            await above.call(raising(client), upstream.url)
    assert upstream.count() == 5


def raising(client: Client) -> Callable[[str], Any]:
    """Asks, and raises the library's own error for a status of 400 and above."""

    async def ask(url: str) -> None:
        if isinstance(client, Aiohttp):
            async with client.client.get(url) as answer:
                answer.raise_for_status()
        else:
            (await client.ask(url)).answer.raise_for_status()

    return ask


async def test_nothing_is_sent_again_below_an_sdk_that_is_at_it(
    upstream: Upstream, kind: type[Client], recorder: Recorder
) -> None:
    upstream.fail(503)
    async with guarded(kind, retried=True) as client:
        await client.ask(upstream.url, headers={"x-stainless-retry-count": "1"})
    assert upstream.count() == 1
    [warning] = recorder.of("warning")
    assert warning.details["problem"] == "stacked retries"
