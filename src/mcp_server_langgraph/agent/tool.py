"""What a tool of the agent is: a name, a description for the model, typed arguments and a coroutine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

__all__ = ["AgentTool", "ToolFailed"]


class ToolFailed(Exception):
    """The tool cannot do what was asked. The text is for the model."""


@dataclass(frozen=True, slots=True)
class AgentTool:
    """A tool of the agent. ``call`` gets the owner of the conversation and the validated arguments.

    ``own``: it uses nothing but what is the caller's own, or nobody's. Only such tools are left to a caller whose
    features are limited.
    """

    name: str
    description: str
    arguments: type[BaseModel]
    call: Callable[[str, Any], Awaitable[str]]
    own: bool = False

    def spec(self) -> dict[str, Any]:
        """The tool as every provider's ``bind_tools`` takes it (OpenAI's function form)."""
        schema = self.arguments.model_json_schema()
        schema.pop("title", None)
        function = {"name": self.name, "description": self.description, "parameters": schema}
        return {"type": "function", "function": function}

    async def run(self, owner: str, arguments: dict[str, Any]) -> str:
        """The tool's answer as text. Raises ToolFailed when the arguments are wrong or it cannot be done."""
        try:
            parsed = self.arguments.model_validate(arguments)
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
            raise ToolFailed(f"wrong arguments: {wrong}") from None
        return await self.call(owner, parsed)
