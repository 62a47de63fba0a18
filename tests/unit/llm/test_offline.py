"""The offline model: it drives the tool loop, remembers from the messages, and says what it is."""

import json
from functools import reduce
from operator import add
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from mcp_server_langgraph.llm.offline import LABEL, OfflineChatModel

ALL = ("calculator", "current_time", "conversation_search", "prometheus_query")


def tool(name: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {}}
    return {"type": "function", "function": {"name": name, "description": name, "parameters": parameters}}


async def ask(*messages: BaseMessage | str, tools: tuple[str, ...] = ALL) -> AIMessage:
    said = [HumanMessage(message) if isinstance(message, str) else message for message in messages]
    return await OfflineChatModel().bind_tools([tool(name) for name in tools]).ainvoke(said)


@pytest.mark.parametrize(
    ("question", "name", "arguments"),
    [
        ("What is 17 * 23?", "calculator", {"expression": "17 * 23"}),
        ("(2+3)*4", "calculator", {"expression": "(2+3)*4"}),
        ("how much is 3 plus 4 times 5", "calculator", {"expression": "3 + 4 * 5"}),
        ("What time is it?", "current_time", {}),
        ("What is the time in Europe/Paris?", "current_time", {"timezone": "Europe/Paris"}),
        ("Search my conversations for the blue whale", "conversation_search", {"query": "blue whale"}),
        ("Do you remember what I said about tea?", "conversation_search", {"query": "tea"}),
        (
            "Show me the metrics `rate(http_requests_total[5m])`",
            "prometheus_query",
            {"query": "rate(http_requests_total[5m])"},
        ),
        ("Any metrics?", "prometheus_query", {"query": "up"}),
    ],
)
async def test_a_question_calls_the_tool_that_its_words_ask_for(
    question: str, name: str, arguments: dict[str, Any]
) -> None:
    answer = await ask(question)
    assert [(call["name"], call["args"]) for call in answer.tool_calls] == [(name, arguments)]
    assert answer.content == ""


async def test_two_wishes_are_two_calls_with_different_ids() -> None:
    answer = await ask("What is 1+1, and what time is it?")
    assert [call["name"] for call in answer.tool_calls] == ["calculator", "current_time"]
    assert len({call["id"] for call in answer.tool_calls}) == 2


async def test_a_tool_that_is_not_bound_is_not_called() -> None:
    answer = await ask("What is 1+1, and what time is it?", tools=("current_time",))
    assert [call["name"] for call in answer.tool_calls] == ["current_time"]


async def test_without_tools_it_answers_in_words() -> None:
    answer = await OfflineChatModel().ainvoke("What is 1+1?")
    assert not answer.tool_calls
    assert "What is 1+1?" in str(answer.content)


@pytest.mark.parametrize("text", ["Written on 2026-11-24.", "It costs 3 euros.", "Hello (again)", "a-b"])
async def test_numbers_without_an_operation_are_no_arithmetic(text: str) -> None:
    assert not (await ask(text)).tool_calls


async def test_results_of_tools_become_the_answer() -> None:
    asked = await ask("What is 17 * 23?")
    result = ToolMessage("391", name="calculator", tool_call_id=asked.tool_calls[0]["id"])
    answer = await ask("What is 17 * 23?", asked, result)
    assert not answer.tool_calls
    assert "391" in str(answer.content)


async def test_a_failed_tool_is_told_as_failed() -> None:
    asked = await ask("What is 1/0?")
    result = ToolMessage("division by zero", name="calculator", tool_call_id="x", status="error")
    assert "could not help: division by zero" in str((await ask("What is 1/0?", asked, result)).content)


async def test_results_of_an_earlier_turn_do_not_answer_the_present_one() -> None:
    asked = await ask("What is 1+1?")
    result = ToolMessage("2", name="calculator", tool_call_id=asked.tool_calls[0]["id"])
    answer = await ask("What is 1+1?", asked, result, AIMessage("It is 2."), "What is 3+3?")
    assert answer.tool_calls[0]["args"] == {"expression": "3+3"}


async def test_it_remembers_the_name_from_an_earlier_message() -> None:
    answer = await ask("My name is Ada.", AIMessage("Hello Ada"), "What is my name?")
    assert "Your name is Ada." in str(answer.content)


async def test_the_last_name_counts_and_none_is_made_up() -> None:
    assert "Bob" in str((await ask("My name is Ada", "My name is Bob", "What's my name?")).content)
    assert "not told me" in str((await ask("What is my name?")).content)


async def test_it_tells_what_was_asked_before() -> None:
    answer = await ask(
        "Is tea good?", AIMessage("Yes."), "And coffee?", AIMessage("Yes."), "What did I ask before?"
    )
    assert "'Is tea good?'; 'And coffee?'" in str(answer.content)


@pytest.mark.parametrize(
    "question", ["hello", "My name is Ada", "What did I ask?", "remember that tea is good"]
)
async def test_every_answer_in_words_is_labelled(question: str) -> None:
    answer = await ask(SystemMessage("Be kind."), question)
    assert str(answer.content).startswith(LABEL)
    assert answer.response_metadata["offline"] is True
    assert answer.response_metadata["model_name"] == "offline"


async def test_no_question_is_answered_too() -> None:
    assert LABEL in str((await ask(SystemMessage("Be kind."))).content)


@pytest.mark.parametrize("question", ["hello there", "What is 1+1, and what time is it?"])
async def test_a_stream_adds_up_to_the_answer(question: str) -> None:
    model = OfflineChatModel().bind_tools([tool(name) for name in ALL])
    chunks = [chunk async for chunk in model.astream(question)]
    whole = reduce(add, chunks)
    answer = await model.ainvoke(question)
    assert isinstance(whole, AIMessageChunk)
    assert len(chunks) > 1 or answer.tool_calls
    assert whole.content == answer.content
    assert [(c["name"], c["args"], c["id"]) for c in whole.tool_calls] == [
        (c["name"], c["args"], c["id"]) for c in answer.tool_calls
    ]
    json.dumps(whole.response_metadata)


async def test_the_delay_is_taken_on_the_loop() -> None:
    import asyncio

    loop = asyncio.get_running_loop()
    began = loop.time()
    await OfflineChatModel(delay=3.0).ainvoke("hello")
    assert loop.time() - began == pytest.approx(3.0)
