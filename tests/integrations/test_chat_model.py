"""Models of LangChain as one that keeps answering, in virtual time."""

import asyncio
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from mcp_server_langgraph.resilience import (
    Bulkhead,
    BulkheadFull,
    CircuitOpen,
    ConfigurationError,
    Retry,
    StreamInterrupted,
    TimedOut,
    collect_degradations,
    registry,
    timeout,
)
from mcp_server_langgraph.resilience.integrations.langchain import (
    GuardedModel,
    ResilientChatModel,
    TruncatedAnswer,
    resilient,
)
from tests.llm.scripted import ScriptedModel, StatusError, waits


class PlainModel(ScriptedModel):
    """The same for plain calls."""

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        playing = self._play(kwargs)
        try:
            playing.send(None)
        except StopIteration as end:
            return ChatResult(generations=[ChatGeneration(message=end.value)])
        raise AssertionError("a plain model cannot wait")


def chain(*models: ScriptedModel, **options: Any) -> ResilientChatModel:
    return resilient(*(GuardedModel(model, f"{'abc'[at]}:m") for at, model in enumerate(models)), **options)


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_the_first_model_answers_and_says_so() -> None:
    answer = await chain(ScriptedModel("one"), ScriptedModel("two")).ainvoke("hello")
    assert (answer.text, answer.response_metadata) == ("one", {"answered_by": "a:m"})


async def test_an_answer_of_another_model_says_which_and_why() -> None:
    with collect_degradations() as notes:
        answer = await chain(ScriptedModel(StatusError(529)), ScriptedModel("two")).ainvoke("hello")
    assert answer.response_metadata == {"answered_by": "b:m", "degraded": "a:m overloaded (529)"}
    assert [(note.service, note.source) for note in notes] == [("llm", "b:m")]


async def test_the_first_piece_of_a_stream_says_which_model_and_why() -> None:
    model = chain(ScriptedModel(StatusError(529)), ScriptedModel("two words"))
    first, *rest = [chunk async for chunk in model.astream("hello")]
    assert first.response_metadata == {"answered_by": "b:m", "degraded": "a:m overloaded (529)"}
    assert all("degraded" not in chunk.response_metadata for chunk in rest)


async def test_where_nobody_answers_the_first_models_error_is_raised_with_the_others_in_its_notes() -> None:
    original = StatusError(529)
    with pytest.raises(StatusError) as caught:
        await chain(ScriptedModel(original), ScriptedModel(StatusError(404))).ainvoke("hello")
    assert caught.value is original
    assert "b:m: model not found (404)" in caught.value.__notes__


async def test_a_providers_error_is_told_rather_than_that_we_did_not_ask_another() -> None:
    model = chain(ScriptedModel(StatusError(429, 30)), ScriptedModel(StatusError(529)))
    for _ in range(2):
        with pytest.raises(StatusError) as caught:
            await model.ainvoke("hello")
    assert caught.value.status_code == 529
    assert "a:m: asked to be left alone for a while" in caught.value.__notes__


@pytest.mark.parametrize("status", [400, 401, 403, 413, 422])
async def test_a_question_at_fault_is_asked_once(status: int) -> None:
    first, second = ScriptedModel(StatusError(status)), ScriptedModel()
    with pytest.raises(StatusError):
        await chain(first, second).ainvoke("hello")
    assert (first.calls, second.calls) == (1, 0)


async def test_a_model_whose_circuit_is_open_costs_no_call_and_no_time() -> None:
    first = ScriptedModel(StatusError(500))
    model = chain(first, ScriptedModel())
    for _ in range(3):
        await model.ainvoke("hello")
    asked, before = first.calls, now()
    answer = await model.ainvoke("hello")
    assert (first.calls, now()) == (asked, before)
    assert answer.response_metadata["degraded"] == "a:m its circuit is open"


async def test_chains_share_the_breaker_and_the_cooldown_of_a_model_by_its_name() -> None:
    dead, limited = ScriptedModel(StatusError(500)), ScriptedModel(StatusError(429, 30))
    for _ in range(2):
        with pytest.raises(StatusError):
            await chain(dead).ainvoke("hello")
    with pytest.raises(CircuitOpen):
        await chain(ScriptedModel()).ainvoke("hello")
    await resilient(GuardedModel(limited, "x:m"), GuardedModel(ScriptedModel(), "y:m")).ainvoke("hello")
    began = now()
    await resilient(GuardedModel(ScriptedModel(), "x:m")).ainvoke("hello")
    assert 30 <= now() - began <= 33
    assert registry.breakers()["llm.a.m"].state == "open"


async def test_policies_of_a_models_own_stand_in_place_of_the_shared_ones() -> None:
    model = ScriptedModel(StatusError(500))
    guarded = GuardedModel(model, retry=Retry(max_attempts=1), bulkhead=Bulkhead(1, max_queue=0))
    with pytest.raises(StatusError):
        await resilient(guarded).ainvoke("hello")
    assert model.calls == 1
    slow = resilient(GuardedModel(ScriptedModel(waits(5)), bulkhead=Bulkhead(1, max_queue=0)))
    running = asyncio.create_task(slow.ainvoke("hello"))
    await asyncio.sleep(1)
    with pytest.raises(BulkheadFull):
        await slow.ainvoke("hello")
    await running


async def test_times_that_are_given_hold() -> None:
    hanging = ScriptedModel(waits(1000))
    with pytest.raises(TimedOut) as caught:
        await resilient(hanging, timeout=7, attempt_timeout=5).ainvoke("hello")
    assert (now(), hanging.calls, caught.value.clock) == (pytest.approx(7, abs=1), 2, "total")


async def test_a_stream_has_clocks_for_its_first_piece_and_between_pieces() -> None:
    late = chain(ScriptedModel(waits(1000)), ScriptedModel("two"), first_token=3)
    pieces = [chunk async for chunk in late.astream("hello")]
    assert (pieces[0].response_metadata["answered_by"], now()) == ("b:m", pytest.approx(4))
    second = ScriptedModel()
    stalling = chain(ScriptedModel("one two"), second, idle=0.5)
    with pytest.raises(StreamInterrupted) as caught:
        _ = [chunk async for chunk in stalling.astream("hello")]
    assert second.calls == 0
    assert isinstance(caught.value.__cause__, TimedOut)
    assert caught.value.__cause__.clock == "idle"


async def test_the_callers_deadline_holds_and_is_no_models_fault() -> None:
    second = ScriptedModel()
    with pytest.raises(TimeoutError):
        async with timeout(2):
            await chain(ScriptedModel(waits(1000)), second).ainvoke("hello")
    assert (now(), second.calls) == (2, 0)
    assert registry.breakers()["llm.a.m"].snapshot().failures == {}


async def test_streams_of_a_model_that_never_tells_why_they_end_are_whole() -> None:
    silent = FakeListChatModel(responses=["fine"])
    assert "".join([str(chunk.text) async for chunk in resilient(silent).astream("hello")]) == "fine"


async def test_once_a_models_stream_told_why_it_ends_one_that_does_not_is_cut_short() -> None:
    model = ForgetfulModel("one two")
    guarded = resilient(model)
    assert len([chunk async for chunk in guarded.astream("hello")]) > 2
    model._forgets = True
    with pytest.raises(StreamInterrupted) as caught:
        _ = [chunk async for chunk in guarded.astream("hello")]
    assert isinstance(caught.value.__cause__, TruncatedAnswer)
    assert [chunk.text for chunk in caught.value.received] == ["one ", "two "]


async def test_whether_streams_tell_why_they_end_can_be_said() -> None:
    model = ForgetfulModel("one two")
    model._forgets = True
    assert [chunk async for chunk in resilient(GuardedModel(model, finishes=False)).astream("hello")]
    with pytest.raises(StreamInterrupted):
        _ = [chunk async for chunk in resilient(GuardedModel(model, finishes=True)).astream("hello")]


class ForgetfulModel(ScriptedModel):
    """Forgets at times to say why its stream ends."""

    _forgets: bool = False

    async def _astream(self, *args: Any, **kwargs: Any) -> Any:
        async for chunk in super()._astream(*args, **kwargs):
            if not (self._forgets and chunk.generation_info):
                yield chunk


class WholeModel(ScriptedModel):
    """Has no streams."""

    disable_streaming: Any = True


async def test_a_model_without_streams_gives_its_answer_as_one_piece() -> None:
    pieces = [chunk async for chunk in resilient(WholeModel("one two")).astream("hello")]
    assert [piece.text for piece in pieces] == ["one two"]


def test_a_plain_call_is_retried_and_asks_the_next_model_without_clocks() -> None:
    first, second = PlainModel(StatusError(404)), PlainModel("two")
    answer = chain(first, second).invoke("hello")
    assert answer.response_metadata == {"answered_by": "b:m", "degraded": "a:m model not found (404)"}
    flaky = PlainModel(StatusError(500), "again")
    retry = Retry(multiplier=0.001, wait_max=0.001)
    assert resilient(GuardedModel(flaky, "c:m", retry=retry)).invoke("hello").text == "again"
    pieces = list(chain(PlainModel("one two")).stream("hello"))
    assert [piece.text for piece in pieces] == ["one two"]


def test_where_no_plain_call_is_answered_the_first_error_is_raised() -> None:
    with pytest.raises(StatusError) as caught:
        chain(PlainModel(StatusError(404)), PlainModel(StatusError(404))).invoke("hello")
    assert "b:m: model not found (404)" in caught.value.__notes__


def test_what_is_no_chat_model_is_refused_and_so_are_times_out_of_range() -> None:
    with pytest.raises(ConfigurationError, match="bind tools and options to what it gives"):
        resilient(ScriptedModel().bind(temperature=0))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="first_token=0"):
        resilient(ScriptedModel(), first_token=0)


@pytest.fixture(autouse=True)
def anew() -> Any:
    yield
    registry.reset()
