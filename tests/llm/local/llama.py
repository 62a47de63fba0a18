"""The local model's server as a process, with the real model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final, Self, TypeVar, cast

import httpx2
from langchain_core.language_models import BaseChatModel
from pydantic import SecretStr

from mcp_server_langgraph.llm.local import ANSWER, CONTEXT
from mcp_server_langgraph.llm.providers import Access, build_model
from mcp_server_langgraph.settings import LOCAL_MODEL
from tests.support.components import require

T = TypeVar("T")

KEY: Final = "a-key"
CHILD: Final = (sys.executable, "-m", "mcp_server_langgraph.llm._local.child")


class Llama:
    """llama.cpp's server with the real model, started as `LocalServer` starts it, for the loops of several tests."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(CHILD, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        asked = {
            "weights": require("local-model"),
            "alias": LOCAL_MODEL,
            "key": KEY,
            "context": CONTEXT,
            "answer": ANSWER,
        }
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        self.url = json.loads(self.process.stdout.readline())["url"]

    def model(self, kind: str) -> tuple[BaseChatModel, httpx2.AsyncClient]:
        """The official SDK's model that asks it, and its connections."""
        path = "" if kind == "anthropic" else "/v1"
        return build_model(kind, LOCAL_MODEL, Access(30.0, SecretStr(KEY), self.url + path))

    def busy(self) -> bool:
        """Whether it is writing an answer."""
        return is_busy(self.url, KEY)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


def is_busy(url: str, key: str) -> bool:
    """Whether the server writes an answer."""
    return written(url, key) is not None


def written(url: str, key: str) -> int | None:
    """Tokens of the answer that the server writes; None: it writes none."""
    [slot] = httpx2.get(f"{url}/slots", headers={"authorization": f"Bearer {key}"}, timeout=60).json()
    return int(slot["next_token"][0]["n_decoded"]) if slot["is_processing"] else None


async def rest_of(chunks: AsyncIterator[object]) -> None:
    """Read to the end."""
    async for _ in chunks:
        pass


def generated(chunks: AsyncIterator[T]) -> AsyncGenerator[T, None]:
    """What LangChain's `astream` gives, whose type does not say that it can be closed."""
    return cast("AsyncGenerator[T, None]", chunks)
