"""How many bytes of this process's memory conversations take, as well as that can be told from Python."""

from collections.abc import Iterable, Mapping
from sys import getsizeof
from typing import Any, Final

from mcp_server_langgraph.auth._conversation import StoredMessage

__all__ = ["CONVERSATION", "FORGOTTEN", "footprint"]

# The object, its time and its places in a tuple and a dict: 100 to 200 bytes on CPython 3.11 to 3.14.
_MESSAGE: Final = 256
CONVERSATION: Final = 1024
"""Bytes around the messages: the object, its title, and its places by name, owner and use."""
FORGOTTEN: Final = 512
"""Bytes of what is remembered of a conversation that was deleted."""


def footprint(messages: Iterable[StoredMessage]) -> int:
    """Bytes of the messages: of their texts as they are in memory, which is up to four times their UTF-8, and of the
    objects around them.
    """
    return sum(
        _MESSAGE
        + getsizeof(message.content)
        + getsizeof(message.id)
        + getsizeof(message.name)
        + getsizeof(message.tool_call_id)
        + (_footprint_of_json(message.tool_calls) if message.tool_calls else 0)
        for message in messages
    )


def _footprint_of_json(value: Any) -> int:
    """With a list, not by recursion: how deep the arguments of a tool are is the model's choice."""
    size, left = 0, [value]
    while left:
        each = left.pop()
        size += getsizeof(each)
        if isinstance(each, Mapping):
            left += (*each.keys(), *each.values())
        elif isinstance(each, list | tuple):
            left += each
    return size
