"""What a model is shown of a stored conversation."""

from langchain_core.messages import AIMessage, HumanMessage, ToolCall, ToolMessage

from mcp_server_langgraph.agent.messages import MAX_HISTORY, from_stored, to_stored
from mcp_server_langgraph.auth.session import StoredMessage


def test_messages_survive_the_way_through_the_store() -> None:
    said = [
        HumanMessage("two and two?"),
        AIMessage("", tool_calls=[ToolCall(name="calculator", args={"expression": "2+2"}, id="1")]),
        ToolMessage("4", name="calculator", tool_call_id="1"),
        AIMessage("Four."),
    ]
    back = from_stored(to_stored(said))
    assert [type(message) for message in back] == [type(message) for message in said]
    assert [message.content for message in back] == [message.content for message in said]
    call = back[1]
    assert isinstance(call, AIMessage)
    assert call.tool_calls[0]["args"] == {"expression": "2+2"}


def test_blocks_of_content_are_kept_as_text() -> None:
    (stored,) = to_stored([AIMessage([{"type": "text", "text": "Hello "}, {"type": "text", "text": "you"}])])
    assert stored.content == "Hello you"


def test_a_call_without_a_result_is_left_out_and_its_words_stay() -> None:
    stored = [
        StoredMessage.new("user", "hello"),
        StoredMessage.new("assistant", "let me see", tool_calls=[{"name": "x", "args": {}, "id": "1"}]),
        StoredMessage.new("assistant", "", tool_calls=[{"name": "x", "args": {}, "id": "2"}]),
        StoredMessage.new("user", "well?"),
    ]
    back = from_stored(stored)
    assert [message.content for message in back] == ["hello", "let me see", "well?"]
    assert not any(getattr(message, "tool_calls", []) for message in back)


def test_a_result_without_a_call_is_left_out() -> None:
    stored = [StoredMessage.new("user", "hello"), StoredMessage.new("tool", "4", name="x", tool_call_id="1")]
    assert [message.content for message in from_stored(stored)] == ["hello"]


def test_a_long_history_is_cut_at_a_users_message() -> None:
    turns = [
        message
        for number in range(MAX_HISTORY)
        for message in (
            StoredMessage.new("user", f"question {number}"),
            StoredMessage.new("assistant", "", tool_calls=[{"name": "x", "args": {}, "id": str(number)}]),
            StoredMessage.new("tool", "4", name="x", tool_call_id=str(number)),
            StoredMessage.new("assistant", f"answer {number}"),
        )
    ]
    for cut in range(4):
        back = from_stored(turns[: len(turns) - cut])
        assert MAX_HISTORY - 4 <= len(back) <= MAX_HISTORY
        assert isinstance(back[0], HumanMessage)
