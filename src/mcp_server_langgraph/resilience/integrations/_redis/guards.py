"""The guards of one client: the pipeline as it is, the same without what sends again, and its breaker for waits."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import cached_property
from typing import Any, Final, TypeVar, cast

from redis.exceptions import ConnectionError as CannotConnect
from redis.exceptions import TimeoutError as NoAnswer
from redis.exceptions import WatchError

from ..._held import THREAD, Held, Holder, Ways, finish, of_loop
from ..._time_block import timeout
from ...errors import Rejected
from ...pipeline import Pipeline
from ...policy import Policy
from ...retry import Kind, Retry
from ...timeout import Timeout

__all__ = ["GUARDS", "WAITS", "Guards", "is_immediate", "lost_while_watching", "put_behind"]

T = TypeVar("T")

# The attribute of a guarded client, pipeline or subscriber.
GUARDS: Final = "_resilience_guards"
# The option of a blocking command that says how much longer its answer may take.
WAITS: Final = "_resilience_waits"
_SENDS_AGAIN: Final = ("retry", "hedge")

_kinds: dict[tuple[type[Any], type[Any]], type[Any]] = {}


class Guards:
    """What the commands of one client go through."""

    def __init__(self, pipeline: Pipeline, repeatable: Callable[[Sequence[Any]], bool]) -> None:
        self.repeating = pipeline
        self.repeatable = repeatable
        again = any(policy.acts_as in _SENDS_AGAIN for policy in pipeline.policies)
        self.once = _once(pipeline) if again else pipeline

    def of(self, words: Sequence[Any]) -> Pipeline:
        """The pipeline of that command."""
        return self.repeating if self.repeatable(words) else self.once

    def of_stack(self, commands: Any) -> Pipeline:
        """The pipeline of all that a pipeline of redis-py has collected."""
        alone = not (commands.watching or commands.explicit_transaction or commands.scripts)
        again = alone and all(self.repeatable(words) for words, _ in commands.command_stack)
        return self.repeating if again else self.once

    @cached_property
    def _waiting(self) -> Holder:
        pipeline = self.repeating
        breakers = [policy for policy in pipeline.policies if policy.acts_as == "circuit_breaker"]
        return Holder(_with(pipeline, breakers, f"{pipeline.site.operation} (waiting)"))

    @cached_property
    def _attempt(self) -> float | None:
        timeouts = [policy.seconds for policy in self.repeating.policies if isinstance(policy, Timeout)]
        return timeouts[-1] if timeouts else None

    @asynccontextmanager
    async def blocking(self, seconds: float) -> AsyncGenerator[None]:
        """Around a command that may wait so long: the breaker's word on it, and at most the attempt's timeout more."""
        held = await self._begin(of_loop())
        limit = None if self._attempt is None or math.isinf(seconds) else seconds + self._attempt
        try:
            async with timeout(limit, name=self.repeating.name, clock="attempt"):
                yield
        except BaseException as exc:
            held.failed(exc)
            raise
        held.succeeded()

    @contextmanager
    def blocking_sync(self) -> Generator[None]:
        """The same in a thread, where the socket's timeout alone can cut."""
        held = finish(self._begin(THREAD))
        try:
            yield
        except BaseException as exc:
            held.failed(exc)
            raise
        held.succeeded()

    async def tell(self, exc: Exception) -> None:
        """Tell the breaker how a subscriber's wait ended. That nothing came in time says nothing."""
        if not isinstance(exc, NoAnswer):
            await self._told(of_loop(), exc)

    def tell_sync(self, exc: Exception) -> None:
        """The same in a thread."""
        if not isinstance(exc, NoAnswer):
            finish(self._told(THREAD, exc))

    async def _told(self, ways: Ways, exc: Exception) -> None:
        try:
            held = await self._begin(ways)
        except Rejected:
            return  # it is known already
        held.failed(exc)

    async def _begin(self, ways: Ways) -> Held:
        _, held = await self._waiting.begin(ways, _nothing)
        return held


async def _nothing() -> None:
    """Breaks off nowhere: what the guards are held for comes after it."""


def _once(pipeline: Pipeline) -> Pipeline:
    """The same without what sends again. A retry is replaced, because a timeout inside one is an attempt's."""
    policies = [policy for policy in pipeline.policies if policy.acts_as != "hedge"]
    never = [Retry(kind=Kind.NON_IDEMPOTENT) if policy.acts_as == "retry" else policy for policy in policies]
    return _with(pipeline, never, f"{pipeline.site.operation} (once)")


def _with(pipeline: Pipeline, policies: Sequence[Policy], operation: str) -> Pipeline:
    site = pipeline.site
    return Pipeline(
        pipeline.name,
        *policies,
        operation=operation,
        classifier=site.classifier,
        is_failure=site.judge_result,
    )


def put_behind(thing: T, guarded: type[Any], guards: Guards) -> T:
    """Make ``thing`` a guarded one of its class, and give it back.

    In place: a copy would share its connections, and close them when either is collected.
    """
    kind = type(thing)
    made = _kinds.get((guarded, kind))
    if made is None:
        namespace = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
        made = _kinds[guarded, kind] = type(kind.__name__, (guarded, kind), namespace)
    cast("Any", thing).__class__ = made
    setattr(thing, GUARDS, guards)
    return thing


def is_immediate(commands: Any, words: Sequence[Any]) -> bool:
    """Whether a pipeline of redis-py asks the server at once instead of collecting."""
    return (commands.watching or words[0] == "WATCH") and not commands.explicit_transaction


def lost_while_watching(exc: WatchError) -> Exception | None:
    """The lost connection that redis-py takes for a changed key; None where a key did change."""
    before = exc.__context__
    return before if isinstance(before, (CannotConnect, NoAnswer)) else None
