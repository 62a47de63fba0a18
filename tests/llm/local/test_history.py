"""What the local model is told of a conversation."""

from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolCall, ToolMessage

from mcp_server_langgraph.llm._local.history import HISTORY_BYTES, SYSTEM_PROMPT, plain_chat, shortened

CALL = ToolCall(name="calculator", args={"expression": "2 + 2"}, id="1")


def told(*messages: BaseMessage) -> list[tuple[str, str]]:
    system, *rest = plain_chat(messages)
    assert (system.type, system.text) == ("system", SYSTEM_PROMPT)
    return [(message.type, str(message.text)) for message in rest]


def test_questions_and_answers_are_told_under_a_short_prompt_of_its_own() -> None:
    asked = told(
        SystemMessage("Use your tools."), HumanMessage("Hi"), AIMessage("Hello"), HumanMessage("How are you?")
    )
    assert asked == [("human", "Hi"), ("ai", "Hello"), ("human", "How are you?")]


def test_what_tools_said_stands_with_the_question() -> None:
    result = ToolMessage("4", name="calculator", tool_call_id="1")
    asked = told(HumanMessage("2 + 2?"), AIMessage("", tool_calls=[CALL]), result)
    assert asked == [("human", "2 + 2?\n(calculator says: 4)")]


def test_what_a_model_said_while_it_called_a_tool_is_no_answer() -> None:
    asked = told(
        HumanMessage("2 + 2?"), AIMessage("I look it up", tool_calls=[CALL]), HumanMessage("And 3 + 3?")
    )
    assert asked == [("human", "2 + 2?"), ("human", "And 3 + 3?")]


def test_the_oldest_are_left_out_and_it_begins_with_a_question() -> None:
    long = "x" * (HISTORY_BYTES // 3)
    asked = told(
        HumanMessage(long), AIMessage("a" + long), HumanMessage("b" + long), AIMessage("c"), HumanMessage("d")
    )
    assert asked == [("human", "b" + long), ("ai", "c"), ("human", "d")]


def test_a_question_that_is_too_long_keeps_its_beginning_and_end() -> None:
    [(_, asked)] = told(HumanMessage("begin" + "x" * 5000 + "end"))
    assert asked.startswith("beginx")
    assert asked.endswith("xend")
    assert " [...] " in asked


def test_nothing_asked_is_nothing_told() -> None:
    assert told() == []
    assert told(AIMessage("hello")) == []


texts = st.builds(lambda text, times: text * times, st.text(max_size=20), st.integers(0, 60))
messages = st.lists(
    st.one_of(
        texts.map(HumanMessage),
        texts.map(AIMessage),
        texts.map(lambda text: ToolMessage(text, name="t", tool_call_id="1")),
    ),
    max_size=8,
)


@given(messages)
def test_it_always_fits_and_holds_the_last_question(said: list[BaseMessage]) -> None:
    asked = plain_chat(said)[1:]
    assert sum(len(str(message.text).encode()) + 8 for message in asked) <= HISTORY_BYTES
    questions = [message for message in said if isinstance(message, HumanMessage)]
    if questions:
        assert isinstance(asked[0], HumanMessage)
        assert isinstance(asked[-1], HumanMessage)
        assert str(asked[-1].text).startswith(str(questions[-1].text)[:50])
    else:
        assert asked == []


@given(st.text(), st.integers(0, 200))
def test_shortened_text_is_never_longer_than_asked_unless_that_holds_not_even_the_gap(
    text: str, size: int
) -> None:
    assert len(shortened(text, size).encode()) <= max(size, len(" [...] "))
