"""The quota of one model: what a question is thought to use is taken before it is asked, what its answer used is told
afterwards, and what the provider says of what is left is heard as soon as its answer begins.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Mapping
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from ..._metering import Entry
from ..._quota_at import QuotaAt
from ...policy import Call, Policy, Site
from ...quota import Quota, QuotaReservation, Usage
from .asking import Question
from .usage import TYPICAL_OUTPUT, Tokens, estimated, tokens_of

__all__ = ["ModelQuota", "hearing", "hearing_stream", "observe_headers"]

T = TypeVar("T")

Hear = Callable[[Mapping[str, str]], None]

_hear: ContextVar[Hear | None] = ContextVar("mcp_server_langgraph_model_headers", default=None)


def observe_headers(headers: Mapping[str, str]) -> None:
    """Tell the quota of the model that is being asked what the headers of its answer say.

    For a response hook of the HTTP client that the model uses; LangChain's models give headers to nobody. Does nothing
    where no model with a quota is being asked.
    """
    hear = _hear.get()
    if hear is not None:
        hear(headers)


@contextmanager
def hearing(hear: Hear | None) -> Generator[None]:
    """Let `observe_headers` within tell ``hear``."""
    token = _hear.set(hear)
    try:
        yield
    finally:
        _hear.reset(token)


async def hearing_stream(source: AsyncGenerator[T, None], hear: Hear | None) -> AsyncGenerator[T, None]:
    """The same for a stream: its headers come before its first item. Its consumer's context is left as it is."""
    async with aclosing(source) as items:
        with hearing(hear):
            first = [item async for item in _one(items)]
        for item in first:
            yield item
        async for item in items:
            yield item


async def _one(items: AsyncIterator[T]) -> AsyncIterator[T]:
    async for item in items:
        yield item
        return


class ModelQuota(Quota):
    """Follows the limits that the provider of a model tells (`Quota`), with what LangChain's models tell of tokens.

    The headers come by `observe_headers`. ``output``: tokens that an answer is thought to have where the question does
    not bound it. ``cached``: whether input from the provider's cache counts (Anthropic's does not). ``limits``: what
    may be taken in any minute where the provider tells nothing (`Quota`).
    """

    def __init__(
        self,
        *,
        max_wait: float | None = None,
        name: str | None = None,
        output: int = TYPICAL_OUTPUT,
        cached: bool = True,
        limits: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(tokens=self._estimate, max_wait=max_wait, limits=limits, name=name)
        self._output = output
        self.cached = cached

    def _estimate(self, _model: object, question: Question) -> Usage:
        return estimated(question, output=self._output)

    def bind(self, site: Site) -> Policy:
        """What stands in one pipeline; the quota is shared by all of them."""
        super().bind(site)
        return _ModelQuotaAt(self, site)


class _ModelQuotaAt(QuotaAt):
    policy: ModelQuota

    async def begin(self, call: Call) -> Entry[QuotaReservation, float | Usage]:
        return self._heard_by(await super().begin(call), call)

    def begin_sync(self, call: Call) -> Entry[QuotaReservation, float | Usage]:
        return self._heard_by(super().begin_sync(call), call)

    @staticmethod
    def _heard_by(
        entry: Entry[QuotaReservation, float | Usage], call: Call
    ) -> Entry[QuotaReservation, float | Usage]:
        question: Question = call.args[1]
        question.attempt.hear = entry.held.observe
        return entry

    def saw(self, entry: Entry[QuotaReservation, float | Usage], result: Any) -> None:
        used = self._used(tokens_of(result))
        if used is not None:
            before = entry.used if isinstance(entry.used, Usage) else Usage(0)
            entry.used = Usage(before.input + used.input, before.output + used.output)

    def _used(self, tokens: Tokens) -> Usage | None:
        if not tokens:
            return None
        return Usage(
            max(0, tokens.input - (0 if self.policy.cached else tokens.cached)), max(0, tokens.output)
        )
