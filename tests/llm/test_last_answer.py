"""Which question is the very same one, and what is given again for it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolCall
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatResult

from mcp_server_langgraph.llm.last_answer import LastAnswer, LastAnswerAsChunk, asked_by, asker
from mcp_server_langgraph.resilience.fallback import NOTHING
from mcp_server_langgraph.resilience.integrations._langchain.asking import ToolBinding
from mcp_server_langgraph.resilience.integrations.langchain import Question

QUESTION = Question([HumanMessage("Why?")], None, None, {})


def answer(text: str, **fields: object) -> ChatResult:
    return ChatResult(generations=[ChatGeneration(message=AIMessage(text, **fields))])  # type: ignore[arg-type]


def remembering(question: Question = QUESTION, text: str = "Because.", **options: float) -> LastAnswer:
    memory = LastAnswer(**options)  # type: ignore[arg-type]
    with asked_by("ann"):
        memory.remember((question,), {}, answer(text), asyncio.get_running_loop().time())
    return memory


def given(
    memory: LastAnswer | LastAnswerAsChunk, question: Question = QUESTION, owner: str = "ann"
) -> object:
    with asked_by(owner):
        return memory(question)


@pytest.mark.parametrize(
    "other",
    [
        replace(QUESTION, messages=[HumanMessage("Why not?")]),
        replace(QUESTION, messages=[HumanMessage("Why?"), AIMessage("Because."), HumanMessage("Why?")]),
        replace(QUESTION, stop=["."]),
        replace(QUESTION, binding=ToolBinding([{"name": "calculator"}], {})),
        replace(QUESTION, options={"temperature": 1.0}),
    ],
)
async def test_whatever_else_is_asked_is_another_question(other: Question) -> None:
    memory = remembering()
    assert given(memory) is not NOTHING
    assert given(memory, other) is NOTHING


async def test_nobody_is_given_what_somebody_else_was_told() -> None:
    memory = remembering()
    assert given(memory, owner="bob") is NOTHING
    assert memory(QUESTION) is NOTHING


async def test_ids_and_what_a_message_cost_make_no_other_question() -> None:
    usage = UsageMetadata(input_tokens=1, output_tokens=2, total_tokens=3)
    said: list[BaseMessage] = [HumanMessage("Why?"), AIMessage("So."), HumanMessage("Why?")]
    again: list[BaseMessage] = [
        HumanMessage("Why?", id="1"),
        AIMessage("So.", id="2", usage_metadata=usage, response_metadata={"model": "m"}),
        HumanMessage("Why?", id="3"),
    ]
    memory = remembering(replace(QUESTION, messages=said))
    assert given(memory, replace(QUESTION, messages=again)) is not NOTHING


async def test_what_is_given_again_says_so_and_how_old_it_is() -> None:
    memory = remembering()
    await asyncio.sleep(12.5)
    result = given(memory)
    assert isinstance(result, ChatResult)
    message = result.generations[0].message
    assert (message.text, message.response_metadata) == (
        "Because.",
        {"answered_by": "earlier answer", "age_seconds": 12.5},
    )


async def test_it_is_given_for_its_time_and_no_longer() -> None:
    memory = remembering(max_age=60.0)
    await asyncio.sleep(59)
    assert given(memory) is not NOTHING
    await asyncio.sleep(2)
    assert given(memory) is NOTHING
    assert given(LastAnswerAsChunk(memory)) is NOTHING


async def test_no_more_is_kept_than_it_may() -> None:
    memory = remembering(max_size=2)
    for text in ("a", "b"):
        with asked_by("ann"):
            memory.remember((replace(QUESTION, messages=[HumanMessage(text)]),), {}, answer(text), 0.0)
    assert given(memory) is NOTHING
    assert given(memory, replace(QUESTION, messages=[HumanMessage("b")])) is not NOTHING


@pytest.mark.parametrize(
    "no_answer", [answer(""), answer("wait", tool_calls=[ToolCall(name="get", args={}, id="1")])]
)
async def test_what_is_no_answer_in_words_is_not_kept(no_answer: ChatResult) -> None:
    memory = LastAnswer()
    with asked_by("ann"):
        memory.remember((QUESTION,), {}, no_answer, 0.0)
    assert given(memory) is NOTHING


async def test_for_a_stream_it_is_the_first_piece_and_the_last() -> None:
    piece = given(LastAnswerAsChunk(remembering()))
    message = getattr(piece, "message", None)
    assert message is not None
    assert (message.text, message.chunk_position) == ("Because.", "last")
    assert message.response_metadata["answered_by"] == "earlier answer"


async def test_who_asks_is_said_for_a_block_only() -> None:
    with asked_by("ann"):
        with asked_by("bob"):
            assert asker() == "bob"
        assert asker() == "ann"
    assert asker() == ""
