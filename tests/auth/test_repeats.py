"""One service's guards around what may be repeated, and around what never may."""

import pytest

from mcp_server_langgraph.auth._repeats import never_repeated, repeatable
from mcp_server_langgraph.resilience import Fallback, Hedge, Pipeline, Retry, Rung

ANSWER = Fallback(Rung(lambda: "made up", source="nothing"))


def service() -> Pipeline:
    return Pipeline.standard("keycloak", fallback=ANSWER, retry=Retry(3), hedge=Hedge(delay=0.01))


async def test_what_is_done_at_most_once_is_tried_once_and_nothing_stands_in_for_it() -> None:
    once = never_repeated(service(), "keycloak.refresh")
    assert once.describe()["requests"] == 1
    assert [policy.kind for policy in once.policies] == [
        "timeout",
        "bulkhead",
        "retry",
        "circuit_breaker",
        "timeout",
    ]
    asked = 0

    async def refuse() -> None:
        nonlocal asked
        asked += 1
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await once.call(refuse)
    assert asked == 1


def test_what_may_be_repeated_has_the_same_guards_under_another_name() -> None:
    pipeline = service()
    same = repeatable(pipeline, "keycloak.userinfo")
    assert same.policies == pipeline.policies
    assert (same.name, same.site.operation) == ("keycloak", "keycloak.userinfo")
