"""The four clocks of a stream (connecting, first piece, between two pieces, total), as settings."""

from contextlib import aclosing
from typing import Any

import pytest

from mcp_server_langgraph.llm.factory import create_chat_model
from mcp_server_langgraph.resilience import StreamInterrupted, TimedOut, registry
from mcp_server_langgraph.settings import Settings
from tests.llm.models import KEY, set_policies, settings_for
from tests.llm.provider_server import ProviderServer
from tests.llm.scripted import ScriptedModel, guarded, waits
from tests.support.clock import now


async def test_the_first_piece_has_a_limit_of_its_own() -> None:
    set_policies(LLM_STREAM_FIRST_ITEM_TIMEOUT="3", LLM_ATTEMPT_TIMEOUT="9")
    first, second = ScriptedModel(waits(1000)), ScriptedModel("two")
    model = guarded(a=first, b=second)
    pieces = [chunk async for chunk in model.astream("hello")]
    assert (pieces[0].response_metadata["answered_by"], now()) == ("b:m", 4)
    await model.ainvoke("hello")
    assert now() == 4 + 9, "a whole answer has the attempt's"


@pytest.mark.parametrize(("variables", "cut_at"), [({}, 20), ({"LLM_STREAM_IDLE_TIMEOUT": "0.5"}, 0.5)])
async def test_the_wait_between_two_pieces_has_a_limit(variables: dict[str, str], cut_at: float) -> None:
    set_policies(**variables)
    model = guarded(a=ScriptedModel("one two", pause=1000))
    with pytest.raises(StreamInterrupted) as caught:
        _ = [chunk async for chunk in model.astream("hello")]
    assert isinstance(caught.value.__cause__, TimedOut)
    assert now() == pytest.approx(cut_at)


async def test_the_clocks_of_models_that_exist_change_with_the_settings() -> None:
    model = guarded(a=ScriptedModel("one two", pause=1000))
    registry.reload({"LLM_STREAM_IDLE_TIMEOUT": "2", "LLM_STREAM_FIRST_ITEM_TIMEOUT": "4"})
    shown: Any = model._links[0].streams.describe()["policies"]
    (clock,) = [policy for policy in shown if "first_item" in policy]
    assert (clock["seconds"], clock["first_item"], clock["idle"]) == (60, 4, 2)


async def test_the_total_time_holds_over_a_steady_stream() -> None:
    set_policies(LLM_TIMEOUT="5")
    with pytest.raises(StreamInterrupted):
        _ = [chunk async for chunk in guarded(a=ScriptedModel("word " * 80)).astream("hello")]
    assert now() == pytest.approx(5)


@pytest.mark.real_time
async def test_connecting_has_a_limit_of_its_own(providers: ProviderServer) -> None:
    settings = settings_for(providers, "openai:m", llm_connect_seconds=0.75)
    async with aclosing(create_chat_model(settings)) as model:
        await model.prepare()
        assert model._lazy[0]._client.timeout.connect == 0.75  # type: ignore[union-attr]


def test_earlier_answers_are_kept_for_as_long_as_the_settings_say_or_not_at_all() -> None:
    def kept(**fields: Any) -> Any:
        return create_chat_model(Settings(llm_provider="openai", openai_api_key=KEY, **fields))._last  # type: ignore[arg-type]

    assert kept().max_age == 3600
    assert kept(llm_cached_answer_seconds=60).max_age == 60
    assert kept(llm_cached_answer_seconds=0) is None
