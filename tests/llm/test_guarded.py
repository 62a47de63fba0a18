"""The chain of models, in virtual time."""

import asyncio

import pytest
from langchain_core.messages import AIMessage
from langchain_core.tools import tool

from mcp_server_langgraph.llm.guarded import GuardedChatModel, ModelsUnavailable
from mcp_server_langgraph.resilience import (
    BulkheadFull,
    StreamInterrupted,
    TimedOut,
    collect_degradations,
    registry,
    timeout,
)
from tests.llm.models import set_policies
from tests.llm.scripted import ScriptedModel, StatusError, guarded, waits
from tests.support.clock import now


@tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


def asked(model: GuardedChatModel, metric: str) -> dict[tuple[str, ...], float]:
    (found,) = [each for each in registry.metrics() if each.name == metric]
    return found.samples  # type: ignore[return-value]


async def test_the_first_model_answers_while_it_can() -> None:
    first, second = ScriptedModel("one"), ScriptedModel("two")
    answer = await guarded(a=first, b=second).ainvoke("hello")
    assert (answer.content, answer.response_metadata["answered_by"]) == ("one", "a:m")
    assert (first.calls, second.calls) == (1, 0)


async def test_the_chain_is_walked_to_the_first_model_that_answers() -> None:
    models = ScriptedModel(StatusError(529)), ScriptedModel(StatusError(404)), ScriptedModel("three")
    with collect_degradations() as notes:
        answer = await guarded(a=models[0], b=models[1], c=models[2]).ainvoke("hello")
    assert answer.response_metadata["answered_by"] == "c:m"
    assert [note.reason for note in notes] == ["a:m overloaded (529); b:m model not found (404)"]


async def test_fallbacks_are_counted_by_the_model_that_answered() -> None:
    model = guarded(a=ScriptedModel(StatusError(529)), b=ScriptedModel())
    await model.ainvoke("hello")
    assert asked(model, "fallback_used_total")["llm", "b:m"] == 1


async def test_what_a_later_model_says_of_the_question_is_raised_as_it_is() -> None:
    refusal = StatusError(400)
    third = ScriptedModel()
    with pytest.raises(StatusError) as caught:
        await guarded(a=ScriptedModel(StatusError(529)), b=ScriptedModel(refusal), c=third).ainvoke("hello")
    assert caught.value is refusal
    assert third.calls == 0


async def test_when_nobody_can_answer_the_error_names_all_and_the_shortest_wait() -> None:
    model = guarded(a=ScriptedModel(StatusError(429, 7)), b=ScriptedModel(StatusError(429, 3600)))
    with pytest.raises(ModelsUnavailable) as caught:
        await model.ainvoke("hello")
    assert caught.value.reasons == {"a:m": "rate limited (429)", "b:m": "rate limited (429)"}
    assert caught.value.retry_after == 7
    assert isinstance(caught.value.__cause__, StatusError)


async def test_a_model_that_hangs_leaves_the_next_one_its_share_of_the_total_time() -> None:
    model = guarded(a=ScriptedModel(waits(1000)), b=ScriptedModel(waits(25)))
    answer = await model.ainvoke("hello")
    assert answer.response_metadata["answered_by"] == "b:m"
    assert now() == pytest.approx(28.5 + 25)


async def test_the_last_model_may_take_nearly_the_whole_time_when_those_before_fail_at_once() -> None:
    model = guarded(a=ScriptedModel(StatusError(529)), b=ScriptedModel(waits(56)))
    assert (await model.ainvoke("hello")).response_metadata["answered_by"] == "b:m"


async def test_the_total_time_holds_over_all_models_and_attempts() -> None:
    with pytest.raises(TimedOut) as caught:
        await guarded(a=ScriptedModel(waits(1000)), b=ScriptedModel(waits(1000))).ainvoke("hello")
    assert (caught.value.pipeline, caught.value.seconds) == ("llm", 60.0)
    assert now() == pytest.approx(60)


async def test_a_hanging_model_is_known_as_down_after_five_calls_and_then_costs_no_time() -> None:
    first = ScriptedModel(waits(1000))
    model = guarded(a=first, b=ScriptedModel())
    for _ in range(5):
        await model.ainvoke("hello")
    before = now()
    answer = await model.ainvoke("hello")
    assert (answer.response_metadata["answered_by"], now() - before, first.calls) == ("b:m", 0, 5)


async def test_a_callers_own_deadline_is_its_own_and_no_models_fault() -> None:
    first, second = ScriptedModel(waits(1000)), ScriptedModel()
    model = guarded(a=first, b=second)
    with pytest.raises(TimeoutError):
        async with timeout(2):
            await model.ainvoke("hello")
    assert second.calls == 0
    assert model._links[0].calls.snapshot()["circuit_breaker"].failures == {}


async def test_cancellation_is_passed_on_and_asks_nobody_else() -> None:
    second = ScriptedModel()
    task = asyncio.create_task(guarded(a=ScriptedModel(waits(1000)), b=second).ainvoke("hello"))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert second.calls == 0


async def test_calls_that_hang_at_one_provider_do_not_keep_others_from_the_next() -> None:
    set_policies(LLM_CONCURRENCY_LIMIT="1", LLM_BULKHEAD_MAX_QUEUE="0")
    model = guarded(a=ScriptedModel(waits(10)), b=ScriptedModel())
    running = asyncio.create_task(model.ainvoke("hello"))
    await asyncio.sleep(1)
    with collect_degradations() as notes:
        answer = await model.ainvoke("hello")
    assert (answer.response_metadata["answered_by"], now()) == ("b:m", 1)
    assert notes[0].reason == "a:m all its places are taken"
    await running


async def test_full_everywhere_is_our_own_matter_and_is_said_as_it_is() -> None:
    set_policies(LLM_CONCURRENCY_LIMIT="1", LLM_BULKHEAD_MAX_QUEUE="0")
    model = guarded(a=ScriptedModel(waits(10)), b=ScriptedModel(waits(10)))
    running = [asyncio.create_task(model.ainvoke("hello")) for _ in range(2)]
    await asyncio.sleep(1)
    with pytest.raises(BulkheadFull):
        await model.ainvoke("hello")
    await asyncio.gather(*running)


async def test_two_hundred_calls_at_once_on_a_dead_model_cost_no_retry_storm() -> None:
    set_policies(LLM_CONCURRENCY_LIMIT="200")
    only = ScriptedModel(waits(1, StatusError(500)))
    model = guarded(a=only)
    results = await asyncio.gather(*(model.ainvoke("hello") for _ in range(200)), return_exceptions=True)
    assert {type(result) for result in results} == {ModelsUnavailable}
    assert only.calls < 1.2 * 200


async def test_a_model_that_asked_to_be_left_alone_is_asked_by_nobody_until_then() -> None:
    first = ScriptedModel(StatusError(429, 30), "back")
    model = guarded(a=first, b=ScriptedModel())
    for _ in range(3):
        assert (await model.ainvoke("hello")).response_metadata["answered_by"] == "b:m"
    assert first.calls == 1
    await asyncio.sleep(30)
    assert (await model.ainvoke("hello")).content == "back"


async def test_the_only_model_is_waited_for_by_all_calls_until_its_retry_after_is_over() -> None:
    only = ScriptedModel(StatusError(429, 10), "back")
    model = guarded(a=only)
    answers = await asyncio.gather(*(asyncio.create_task(_later(model, seconds)) for seconds in (0, 1, 2)))
    assert [answer.content for answer in answers] == ["back"] * 3
    assert 10 <= now() <= 11.1  # they come back over a tenth of the time
    assert only.calls == 4


async def _later(model: GuardedChatModel, seconds: float) -> AIMessage:
    await asyncio.sleep(seconds)
    return await model.ainvoke("hello")


async def test_a_cooldown_is_never_shortened_by_a_later_and_shorter_one() -> None:
    first = ScriptedModel(waits(1, StatusError(429, 30)), waits(2, StatusError(429, 1)), "back")
    model = guarded(a=first, b=ScriptedModel())
    async with asyncio.TaskGroup() as group:
        group.create_task(model.ainvoke("hello"))
        group.create_task(model.ainvoke("hello"))
    await asyncio.sleep(20)
    await model.ainvoke("hello")
    assert first.calls == 2


async def test_the_same_question_gets_its_earlier_answer_when_nobody_answers() -> None:
    model = guarded(a=ScriptedModel("forty-two", StatusError(529)))
    await model.ainvoke("what is it?")
    await asyncio.sleep(100)
    with collect_degradations() as notes:
        answer = await model.ainvoke("what is it?")
    assert answer.content == "forty-two"
    assert answer.response_metadata["answered_by"] == "earlier answer"
    assert answer.response_metadata["age_seconds"] == pytest.approx(100, abs=1)
    assert [(note.service, note.source) for note in notes] == [("llm", "earlier answer")]
    assert notes[0].age == pytest.approx(100, abs=1)


async def test_the_earlier_answer_is_given_too_where_hanging_calls_have_taken_all_places() -> None:
    set_policies(LLM_CONCURRENCY_LIMIT="1", LLM_BULKHEAD_MAX_QUEUE="0")
    model = guarded(a=ScriptedModel("forty-two", waits(10)))
    await model.ainvoke("what is it?")
    running = asyncio.create_task(model.ainvoke("something else"))
    await asyncio.sleep(1)
    again = await model.ainvoke("what is it?")
    pieces = [chunk async for chunk in model.astream("what is it?")]
    assert [again.content, pieces[0].content] == ["forty-two"] * 2
    assert again.response_metadata["answered_by"] == "earlier answer"
    await running


async def test_another_question_gets_no_earlier_answer() -> None:
    model = guarded(a=ScriptedModel("forty-two", StatusError(529)))
    await model.ainvoke("what is it?")
    with pytest.raises(ModelsUnavailable):
        await model.ainvoke("what is it now?")


async def test_an_answer_that_calls_tools_is_never_given_again() -> None:
    call = AIMessage("I will pay", tool_calls=[{"name": "pay", "args": {}, "id": "1"}])
    model = guarded(a=ScriptedModel(call, StatusError(529)))
    await model.ainvoke("pay")
    with pytest.raises(ModelsUnavailable):
        await model.ainvoke("pay")


async def test_a_streamed_answer_is_remembered_and_given_again_as_a_stream() -> None:
    model = guarded(a=ScriptedModel("forty two", StatusError(529)))
    first = "".join([str(chunk.text) async for chunk in model.astream("what is it?")])
    await asyncio.sleep(98)
    with collect_degradations() as notes:
        again = "".join([str(chunk.text) async for chunk in model.astream("what is it?")])
    assert [(note.source, note.age) for note in notes] == [("earlier answer", pytest.approx(98, abs=1))]
    assert (first, again) == ("forty two ", "forty two ")


async def test_a_stream_passes_to_the_next_model_before_its_first_word() -> None:
    model = guarded(
        a=ScriptedModel(StatusError(529)), b=ScriptedModel(StatusError(404)), c=ScriptedModel("three")
    )
    with collect_degradations() as notes:
        pieces = [chunk async for chunk in model.astream("hello")]
    assert pieces[0].response_metadata["answered_by"] == "c:m"
    assert [note.source for note in notes] == ["c:m"]


async def test_a_stream_whose_first_word_is_late_passes_to_the_next_model() -> None:
    model = guarded(a=ScriptedModel(waits(1000)), b=ScriptedModel("two"))
    pieces = [chunk async for chunk in model.astream("hello")]
    assert pieces[0].response_metadata["answered_by"] == "b:m"
    assert now() == pytest.approx(28.5 + 1)


async def test_a_steady_stream_may_take_longer_than_the_share_of_one_attempt() -> None:
    model = guarded(a=ScriptedModel("word " * 40), b=ScriptedModel())
    text = "".join([str(chunk.text) async for chunk in model.astream("hello")])
    assert text.count("word") == 40


async def test_a_steady_stream_is_cut_at_the_total_time() -> None:
    model = guarded(a=ScriptedModel("word " * 80), b=ScriptedModel())
    with pytest.raises(StreamInterrupted) as caught:
        _ = [chunk async for chunk in model.astream("hello")]
    assert isinstance(caught.value.__cause__, TimedOut)
    assert now() == pytest.approx(60)


async def test_a_consumer_that_stops_early_is_no_models_fault() -> None:
    model = guarded(a=ScriptedModel("one two three"))
    stream = model.astream("hello")
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    await asyncio.sleep(0.1)  # LangChain leaves our generator to the garbage collector
    breaker = model._links[0].streams.snapshot()["circuit_breaker"]
    assert (breaker.successes, breaker.failures, breaker.neutral) == (0, {}, 1)


async def test_tools_are_bound_in_the_form_of_the_model_that_is_asked() -> None:
    second = ScriptedModel()
    model = guarded(a=ScriptedModel(StatusError(529)), b=second)
    await model.bind_tools([add], tool_choice="any", strict=True).ainvoke("hello", temperature=0)
    assert second._seen == [
        {"tools": [{"bound": "add"}], "tool_choice": "any", "strict": True, "temperature": 0}
    ]


async def test_a_breaker_stands_for_one_model_and_a_bulkhead_for_a_provider() -> None:
    model = guarded(a=ScriptedModel(StatusError(500)), b=ScriptedModel())
    for _ in range(2):
        await model.ainvoke("hello")
    states = {name: breaker.state for name, breaker in registry.breakers().items()}
    assert states == {"llm.a.m": "open", "llm.b.m": "closed"}


async def test_switched_off_it_is_the_bare_call_to_the_first_model() -> None:
    set_policies(LLM_FF_ENABLE_RESILIENCE_PATTERNS="false")
    first, second = ScriptedModel(StatusError(529)), ScriptedModel()
    model = guarded(a=first, b=second)
    for _ in range(7):
        with pytest.raises(StatusError):
            await model.ainvoke("hello")
    assert (first.calls, second.calls) == (7, 0)


async def test_a_changed_timeout_changes_the_shares_of_models_that_exist() -> None:
    model = guarded(a=ScriptedModel(waits(1000)), b=ScriptedModel())
    registry.reload({"LLM_TIMEOUT": "10"})
    await model.ainvoke("hello")
    assert now() == pytest.approx(4.75)


def test_a_plain_call_says_that_the_model_is_asynchronous() -> None:
    with pytest.raises(NotImplementedError, match="ainvoke"):
        guarded(a=ScriptedModel()).invoke("hello")


def test_the_final_error_names_each_model_and_how_long_to_wait() -> None:
    error = ModelsUnavailable({"openai:a": "overloaded (529)", "google:b": "timed out"}, 7.0)
    assert (
        str(error)
        == "no model could answer (openai:a: overloaded (529); google:b: timed out); retry after 7 s"
    )
