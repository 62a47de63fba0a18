"""The providers' SDKs over real sockets: what one call costs on the wire, and who answers when one cannot."""

import asyncio
import logging
from contextlib import aclosing
from typing import Any

import httpx2
import pytest

from mcp_server_langgraph.llm.guarded import GuardedChatModel, ModelsUnavailable
from mcp_server_langgraph.llm.http_client import CONNECT_TIMEOUT
from mcp_server_langgraph.resilience import (
    BulkheadFull,
    CircuitOpen,
    StreamInterrupted,
    TimedOut,
    collect_degradations,
)
from mcp_server_langgraph.resilience.integrations.langchain import TruncatedAnswer
from tests.llm.models import ALL, KEY, NEXT, built, model_of, set_policies
from tests.llm.provider_server import Answer, ProviderServer, Stream

pytestmark = [pytest.mark.real_time, pytest.mark.parametrize("provider", ALL)]

PAGE = Answer(body=b"<html>Welcome</html>", headers={"content-type": "text/html"})


def pair(server: ProviderServer, provider: str, **options: Any) -> GuardedChatModel:
    """A model and, behind it, one of another provider."""
    return model_of(server, f"{provider}:first", f"{NEXT[provider]}:second", **options)


async def collect(model: GuardedChatModel, pieces: list[str]) -> None:
    async with aclosing(model.astream("hello")) as chunks:  # type: ignore[type-var]
        async for chunk in chunks:
            pieces.append(str(chunk.text))  # noqa: PERF401 (what came before an error must be kept)


@pytest.mark.parametrize("status", [400, 401, 403, 422])
async def test_a_callers_mistake_costs_one_request_and_is_raised_as_it_is(
    providers: ProviderServer, provider: str, status: int
) -> None:
    providers.always(provider, Answer(status))
    async with aclosing(pair(providers, provider)) as model:
        with pytest.raises(Exception, match=str(status)) as caught:
            await model.ainvoke("hello")
        assert not isinstance(caught.value, ModelsUnavailable)
        assert providers.count() == 1


async def test_a_server_error_costs_exactly_the_attempts_of_our_own_retry(
    providers: ProviderServer, provider: str
) -> None:
    providers.always(provider, Answer(500))
    async with aclosing(model_of(providers, provider)) as model:
        with pytest.raises(ModelsUnavailable, match="answered 500"):
            await model.ainvoke("hello")
        assert providers.count() == 3


async def test_the_number_of_attempts_is_the_settings(providers: ProviderServer, provider: str) -> None:
    set_policies(LLM_RETRY_STOP_AFTER_ATTEMPT="2")
    providers.always(provider, Answer(0))
    async with aclosing(model_of(providers, provider)) as model:
        with pytest.raises(ModelsUnavailable):
            await model.ainvoke("hello")
        assert providers.count() == 2


async def test_retry_after_is_waited_for_where_there_is_no_other_model(
    providers: ProviderServer, provider: str
) -> None:
    providers.script(provider, Answer(429, headers={"retry-after": "1"}))
    async with aclosing(model_of(providers, provider)) as model:
        answer = await model.ainvoke("hello")
        assert answer.text == "fine"
        first, second = providers.arrivals
        assert second - first >= 1.0


async def test_a_retry_after_that_nobody_waits_for_is_passed_on(
    providers: ProviderServer, provider: str
) -> None:
    providers.always(provider, Answer(429, headers={"retry-after": "3600"}))
    async with aclosing(model_of(providers, provider)) as model:
        with pytest.raises(ModelsUnavailable, match="rate limited") as caught:
            await model.ainvoke("hello")
        assert caught.value.retry_after == 3600
        assert caught.value.__cause__ is not None
        assert providers.count() == 1


@pytest.mark.parametrize("status", [404, 429, 503, 529])
async def test_another_model_answers_at_once_and_the_answer_says_so(
    providers: ProviderServer, provider: str, status: int
) -> None:
    providers.always(provider, Answer(status))
    async with aclosing(pair(providers, provider)) as model:
        with collect_degradations() as notes:
            answer = await model.ainvoke("hello")
        assert answer.response_metadata["answered_by"] == f"{NEXT[provider]}:second"
        assert [seen[:2] for seen in providers.seen] == [(provider, "first"), (NEXT[provider], "second")]
        (note,) = notes
        assert (note.service, note.source) == ("llm", f"{NEXT[provider]}:second")
        assert note.reason.startswith(f"{provider}:first ")
        assert note.reason.endswith(f"({status})")


@pytest.mark.parametrize("answer", [Answer(500), Answer(0), PAGE, Answer(body=b"not json")], ids=str)
async def test_another_model_answers_when_retries_did_not_help(
    providers: ProviderServer, provider: str, answer: Answer
) -> None:
    providers.always(provider, answer)
    async with aclosing(pair(providers, provider)) as model:
        answered = await model.ainvoke("hello")
        assert answered.response_metadata["answered_by"] == f"{NEXT[provider]}:second"
        assert (providers.count(provider), providers.count(NEXT[provider])) == (3, 1)


async def test_another_model_answers_after_a_timeout(providers: ProviderServer, provider: str) -> None:
    set_policies(**{f"LLM_{provider.upper()}_ATTEMPT_TIMEOUT": "1"})
    providers.always(provider, Answer(delay=30))
    async with aclosing(pair(providers, provider)) as model:
        await model.prepare()
        with collect_degradations() as notes:
            answer = await model.ainvoke("hello")
        assert answer.response_metadata["answered_by"] == f"{NEXT[provider]}:second"
        assert providers.count(provider) == 1
        assert "no answer within 1 s" in notes[0].reason


async def test_exhausted_quota_costs_one_request_and_another_model_answers(
    providers: ProviderServer, provider: str
) -> None:
    exhausted = {"error": {"code": "insufficient_quota", "type": "insufficient_quota", "message": "no more"}}
    if provider == "google":
        exhausted = {"error": {"code": 429, "status": "insufficient_quota", "message": "no more"}}  # type: ignore[dict-item]
    providers.always(provider, Answer(429, exhausted, {"retry-after": "1"}))
    async with aclosing(model_of(providers, provider)) as model:
        with pytest.raises(ModelsUnavailable, match="quota exhausted"):
            await model.ainvoke("hello")
        assert providers.count() == 1


async def test_an_open_circuit_costs_nothing_on_the_wire(providers: ProviderServer, provider: str) -> None:
    providers.always(provider, Answer(500))
    async with aclosing(model_of(providers, provider)) as model:
        for _ in range(2):
            with pytest.raises(ModelsUnavailable):
                await model.ainvoke("hello")
        assert providers.count() == 5, "the breaker opened in the middle of the second call"
        with pytest.raises(ModelsUnavailable, match="its circuit is open") as caught:
            await model.ainvoke("hello")
        assert providers.count() == 5
        assert isinstance(caught.value.__cause__, CircuitOpen)
        assert caught.value.retry_after is not None
        assert 0 < caught.value.retry_after <= 60


async def test_two_hundred_calls_on_a_dead_provider_cost_a_few_requests(
    providers: ProviderServer, provider: str
) -> None:
    providers.always(provider, Answer(500, delay=0.02))
    async with aclosing(model_of(providers, provider)) as model:
        await model.prepare()
        results = await asyncio.gather(*(model.ainvoke("hello") for _ in range(200)), return_exceptions=True)
        assert {type(result) for result in results} == {ModelsUnavailable, BulkheadFull}
        assert providers.most_running <= 10
        assert providers.count() <= 20


async def test_a_stream_gives_its_pieces_and_names_the_model_once(
    providers: ProviderServer, provider: str
) -> None:
    async with aclosing(model_of(providers, provider)) as model:
        whole = None
        async for chunk in model.astream("hello"):
            whole = chunk if whole is None else whole + chunk
        assert whole is not None
        assert whole.text == "one two three"
        assert whole.response_metadata["answered_by"] == f"{provider}:model-1"


async def test_a_stream_that_stalls_is_cut_by_the_idle_limit_whatever_pings_it_sends(
    providers: ProviderServer, provider: str
) -> None:
    providers.always(provider, Stream(("one ", "two "), end="pings"))
    async with aclosing(pair(providers, provider, idle=0.3)) as model:
        pieces: list[str] = []
        with pytest.raises(StreamInterrupted) as caught:
            await collect(model, pieces)
        assert "".join(pieces) == "one two "
        assert _root(caught.value).clock == "idle"  # type: ignore[attr-defined]
        assert providers.count() == 1, "what was begun is not begun again, nor by another model"


async def test_a_stream_that_never_begins_is_taken_over_by_another_model(
    providers: ProviderServer, provider: str
) -> None:
    set_policies(**{f"LLM_{provider.upper()}_ATTEMPT_TIMEOUT": "1"})
    providers.always(provider, Stream((), end="pings"))
    async with aclosing(pair(providers, provider)) as model:
        pieces: list[str] = []
        await collect(model, pieces)
        assert "".join(pieces) == "one two three"
        assert (providers.count(provider), providers.count(NEXT[provider])) == (1, 1)


async def test_a_truncated_stream_is_an_error_though_the_sdk_raises_none(
    providers: ProviderServer, provider: str
) -> None:
    providers.always(provider, Stream(("one ",), end="truncate"))
    async with aclosing(pair(providers, provider)) as model:
        pieces: list[str] = []
        with pytest.raises(StreamInterrupted) as caught:
            await collect(model, pieces)
        assert "".join(pieces) == "one "
        assert isinstance(_root(caught.value), TruncatedAnswer)
        assert model._links[0].streams.snapshot()["circuit_breaker"].failures == {"TruncatedAnswer": 1}


@pytest.mark.parametrize("end", ["truncate", "reset"])
async def test_a_stream_lost_before_its_first_word_is_begun_again(
    providers: ProviderServer, provider: str, end: str
) -> None:
    providers.script(provider, Stream((), end=end))
    async with aclosing(model_of(providers, provider)) as model:
        pieces: list[str] = []
        await collect(model, pieces)
        assert "".join(pieces) == "one two three"
        assert providers.count() == 2


async def test_a_lost_stream_is_an_error_with_what_was_received(
    providers: ProviderServer, provider: str
) -> None:
    providers.always(provider, Stream(("one ", "two "), end="reset"))
    async with aclosing(pair(providers, provider)) as model:
        pieces: list[str] = []
        with pytest.raises(StreamInterrupted) as caught:
            await collect(model, pieces)
        assert "one" in "".join(chunk.text for chunk in caught.value.received)
        assert providers.count() == 1


async def test_a_total_time_holds_over_the_whole_chain(providers: ProviderServer, provider: str) -> None:
    set_policies(LLM_TIMEOUT="2")
    for name in ALL:
        providers.always(name, Answer(delay=30))
    async with aclosing(pair(providers, provider)) as model:
        await model.prepare()
        with pytest.raises(TimedOut) as caught:
            await asyncio.wait_for(model.ainvoke("hello"), 30)
        assert (caught.value.pipeline, caught.value.seconds) == ("llm", 2.0)
        assert (providers.count(provider), providers.count(NEXT[provider])) == (1, 1)


async def test_every_wait_on_the_socket_is_bounded_and_connecting_more_tightly(
    providers: ProviderServer, provider: str
) -> None:
    limits: list[dict[str, float]] = []

    class Recorder(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            limits.append(request.extensions["timeout"])
            raise httpx2.ConnectError("recorded")

    async with aclosing(model_of(providers, provider)) as model:
        await built(model)
        client: Any = model._lazy[0]._client
        client._transport = Recorder()
        client._mounts = {}
        with pytest.raises(ModelsUnavailable):
            await model.ainvoke("hello")
        assert len(limits) == 3
        assert all(
            limit == {"connect": CONNECT_TIMEOUT, "read": 60.0, "write": 60.0, "pool": 60.0}
            for limit in limits
        )


async def test_neither_key_nor_question_appears_in_errors_or_logs(
    providers: ProviderServer, provider: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    providers.always(provider, Answer(500))
    async with aclosing(model_of(providers, provider)) as model:
        with pytest.raises(ModelsUnavailable) as caught:
            await model.ainvoke("the launch code is 0000")
        shown = f"{caught.value!r} {caught.value} {caplog.text} {model!r}"
        assert "0000" not in shown
        assert KEY not in shown


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None and isinstance(error, StreamInterrupted):
        error = error.__cause__
    return error
