"""What kinds of functions can be guarded, and what their wrappers look like."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any
from unittest.mock import AsyncMock

import pytest

from mcp_server_langgraph.resilience import (
    Bulkhead,
    Call,
    CircuitBreaker,
    Pipeline,
    Policy,
    Retry,
    Timeout,
    circuit_breaker,
    registry,
    retry_with_backoff,
    with_bulkhead,
    with_fallback,
    with_timeout,
)
from mcp_server_langgraph.resilience._functions import kind_of, qualified_name
from mcp_server_langgraph.resilience.policy import Proceed


class Client:
    """Callables of every kind."""

    def __init__(self, name: str = "client") -> None:
        self.name = name

    async def fetch(self, key: str) -> str:
        return f"{self.name} {key}"

    def read(self, key: str) -> str:
        return f"{self.name} {key}"

    async def items(self, key: str) -> AsyncGenerator[str, None]:
        yield f"{self.name} {key}"

    @staticmethod
    async def free(key: str) -> str:
        return f"free {key}"

    @classmethod
    async def made(cls, key: str) -> str:
        return f"{cls.__name__} {key}"

    async def __call__(self, key: str) -> str:
        return f"{self.name} called {key}"


class Streamer:
    async def __call__(self, key: str) -> AsyncGenerator[str, None]:
        yield key


class Reader:
    def __call__(self, key: str) -> str:
        return key


async def use(fn: Callable[..., Any], *args: Any) -> Any:
    """The result, whichever kind the function is of."""
    result = fn(*args)
    if inspect.isasyncgen(result):
        return [item async for item in result]
    return await result if inspect.isawaitable(result) else result


async def coroutine_function(key: str) -> str:
    return key


async def generator_function(key: str) -> AsyncGenerator[str, None]:
    yield key


def plain_function(key: str) -> str:
    return key


KINDS: list[tuple[Callable[..., Any], str, str, Any]] = [
    (coroutine_function, "async", "coroutine_function", "k"),
    (generator_function, "stream", "generator_function", ["k"]),
    (plain_function, "sync", "plain_function", "k"),
    (Client().fetch, "async", "Client.fetch", "client k"),
    (Client().items, "stream", "Client.items", ["client k"]),
    (Client().read, "sync", "Client.read", "client k"),
    (Client.free, "async", "Client.free", "free k"),
    (Client.made, "async", "Client.made", "Client k"),
    (Client(), "async", "Client", "client called k"),
    (Streamer(), "stream", "Streamer", ["k"]),
    (Reader(), "sync", "Reader", "k"),
    (functools.partial(coroutine_function), "async", "coroutine_function", "k"),
    (functools.partial(functools.partial(generator_function)), "stream", "generator_function", ["k"]),
    (functools.partial(plain_function), "sync", "plain_function", "k"),
    (functools.partial(Client.fetch, Client("partial")), "async", "Client.fetch", "partial k"),
    (functools.partial(Client()), "async", "Client", "client called k"),
    (AsyncMock(return_value="mocked"), "async", "AsyncMock", "mocked"),
    (str.upper, "sync", "str.upper", "K"),
    (len, "sync", "len", 1),
]
EVERY_KIND = pytest.mark.parametrize(
    ("fn", "kind", "name", "result"), KINDS, ids=[f"{number} {each[2]}" for number, each in enumerate(KINDS)]
)


@EVERY_KIND
async def test_each_is_recognised_and_works_behind_a_pipeline(
    fn: Callable[..., Any], kind: str, name: str, result: Any
) -> None:
    assert (kind_of(fn), qualified_name(fn)) == (kind, name)
    guarded = Pipeline("s", Bulkhead(1), Retry(), CircuitBreaker("b"))(fn)
    assert await use(guarded, "k") == result
    samples = {metric.name: metric.samples for metric in registry.metrics()}
    assert samples["resilience_calls_total"]["s", name, "success"] == 1
    assert guarded is not fn


@EVERY_KIND
async def test_each_works_below_the_decorators_too(
    fn: Callable[..., Any], kind: str, name: str, result: Any
) -> None:
    guarded = circuit_breaker()(with_bulkhead(limit=1)(fn))
    assert await use(guarded, "k") == result
    assert set(registry.breakers()) == {name}


@EVERY_KIND
def test_the_wrapper_looks_like_the_function(
    fn: Callable[..., Any], kind: str, name: str, result: Any
) -> None:
    guarded = Pipeline("s", CircuitBreaker("b"))(fn)
    assert inspect.iscoroutinefunction(guarded) is (kind == "async")
    assert inspect.isasyncgenfunction(guarded) is (kind == "stream")
    assert inspect.signature(guarded) == inspect.signature(fn)
    assert guarded.__qualname__ == name
    assert guarded.__wrapped__ is fn  # type: ignore[attr-defined]
    assert guarded.__doc__ == fn.__doc__
    assert asyncio.iscoroutinefunction(guarded) is (kind == "async")


def test_names_module_annotations_and_attributes_are_taken_over() -> None:
    async def check(user: str, *, fast: bool = False) -> bool:
        """Check."""
        return fast

    check.audited = True  # type: ignore[attr-defined]
    guarded = circuit_breaker()(check)
    for name in ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__"):
        assert getattr(guarded, name) == getattr(check, name)
    assert guarded.audited  # type: ignore[attr-defined]


def test_attributes_of_a_callable_object_stay_its_own() -> None:
    assert not hasattr(circuit_breaker()(Client("secret")), "name")


async def test_methods_find_their_instance() -> None:
    class Service:
        def __init__(self, name: str) -> None:
            self.name = name

        @circuit_breaker()
        @with_timeout(seconds=5)
        async def fetch(self, key: str) -> str:
            return f"{self.name} {key}"

        @with_fallback(lambda self, key: f"{self.name} has no {key}")
        @with_timeout(seconds=5)
        async def broken(self, key: str) -> str:
            raise ConnectionError

        @circuit_breaker()
        async def items(self) -> AsyncGenerator[str, None]:
            yield self.name

    a, b = Service("a"), Service("b")
    assert [await a.fetch("x"), await b.fetch("y"), await Service.fetch(a, "z")] == ["a x", "b y", "a z"]
    assert await a.broken("x") == "a has no x"
    assert await use(b.items) == ["b"]


async def test_static_and_class_methods_stay_what_they_are_in_either_order() -> None:
    class Service:
        @staticmethod
        @circuit_breaker(name="inner")
        async def below(key: str) -> str:
            return key

        @circuit_breaker(name="outer")
        @retry_with_backoff(max_attempts=2)
        @staticmethod
        async def above(key: str) -> str:
            return key

        @with_timeout(seconds=5)
        @classmethod
        async def made(cls, key: str) -> str:
            return f"{cls.__name__} {key}"

        @Pipeline("s", Timeout(5))
        @classmethod
        async def piped(cls, key: str) -> str:
            return f"{cls.__name__} {key}"

    class Sub(Service):
        pass

    assert [await Service.below("x"), await Service().below("x")] == ["x", "x"]
    assert [await Service.above("x"), await Service().above("x")] == ["x", "x"]
    assert [await Service.made("x"), await Sub().made("x")] == ["Service x", "Sub x"]
    assert [await Service.piped("x"), await Sub().piped("x")] == ["Service x", "Sub x"]
    names = [pipeline.name for pipeline in registry.pipelines()]
    assert len(names) == 4, "two decorators above a static method are one pipeline"


@pytest.mark.parametrize("fn", [coroutine_function, generator_function, plain_function])
async def test_a_wrapper_keeps_its_pipeline_and_changed_settings_reach_it(fn: Callable[..., Any]) -> None:
    guarded = Pipeline("redis", Bulkhead(3))(fn)
    gc.collect()
    (pipeline,) = registry.pipelines()
    registry.reload({"REDIS_CONCURRENCY_LIMIT": "2"})
    assert pipeline.snapshot()["bulkhead"].limit == 2
    await use(guarded, "k")
    del guarded, pipeline
    gc.collect()
    assert registry.pipelines() == []


def a_class() -> Any:
    return Client


def a_generator() -> Any:
    def items() -> Generator[int, None, None]:
        yield 1

    return items


def a_generator_in_disguise() -> Any:
    class Items:
        def __call__(self) -> Generator[int, None, None]:
            yield 1

    return functools.partial(Items())


def a_property() -> Any:
    return property(lambda self: 1)


def no_function() -> Any:
    return "text"


@pytest.mark.parametrize(
    "decorate",
    [circuit_breaker(), with_timeout(seconds=1), Pipeline("s", Retry())],
    ids=["def", "async", "both"],
)
@pytest.mark.parametrize("make", [a_class, a_generator, a_generator_in_disguise, a_property, no_function])
def test_what_cannot_be_guarded_is_refused_at_decoration(decorate: Any, make: Callable[[], Any]) -> None:
    with pytest.raises(TypeError, match=r"cannot guard .*(a function is needed|make it an async generator)"):
        decorate(make())
    gc.collect()
    assert [pipeline.name for pipeline in registry.pipelines()] in ([], ["s"])


def test_a_timeout_refuses_a_plain_function_at_decoration() -> None:
    with pytest.raises(
        TypeError, match=r"timeout cannot guard the plain function plain_function: .*async def"
    ):
        with_timeout(seconds=1)(plain_function)
    with pytest.raises(TypeError, match="timeout cannot guard the plain function"):
        Pipeline("s", Retry(), Timeout(1))(plain_function)


def test_so_does_a_policy_that_knows_no_plain_functions() -> None:
    class OnlyAsync(Policy):
        kind = "only_async"

        async def run(self, call: Call, proceed: Proceed) -> Any:
            return await proceed(call)

    with pytest.raises(TypeError, match=r"only_async cannot guard the plain function plain_function"):
        Pipeline("s", OnlyAsync())(plain_function)


async def test_a_plain_function_that_gives_something_to_await_is_an_error_at_its_call() -> None:
    # Nothing tells such a lambda from a plain function before it is called.
    with pytest.raises(TypeError, match=r"returned an awaitable; guard an async def, or use Pipeline\.call"):
        circuit_breaker()(lambda: coroutine_function("k"))()
    assert await Pipeline("s", CircuitBreaker("b")).call(lambda: coroutine_function("k")) == "k"
    gc.collect()


async def test_plain_functions_are_guarded_without_a_loop_and_within_one() -> None:
    breaker = CircuitBreaker("b", fail_max=1)

    @Pipeline("s", Bulkhead(1), Retry(1), breaker)
    def read(fail: bool) -> str:
        if fail:
            raise ConnectionError
        return "good"

    assert read(fail=False) == "good"
    assert await asyncio.to_thread(read, fail=False) == "good"
    with pytest.raises(ConnectionError):
        read(fail=True)
    assert breaker.state == "open"
