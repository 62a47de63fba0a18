"""Every operation against OpenFGA's own server."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mcp_server_langgraph.auth.openfga import (
    Condition,
    ModelMismatch,
    OpenFGAAuthorizer,
    Question,
    RelationTuple,
    RequestRejected,
)
from mcp_server_langgraph.resilience import Pipeline, registry
from tests.auth.openfga_checks import DOCUMENT, reach
from tests.support.openfga_process import OpenFGAProcess
from tests.support.openfga_server import DOCUMENT_MODEL

pytestmark = pytest.mark.real_time(limit=120.0)

_EMPLOYEE: dict[str, Any] = {"type": "user", "condition": "in_office_hours"}

CONDITION_MODEL: dict[str, Any] = {
    "schema_version": "1.1",
    "type_definitions": [
        {"type": "user"},
        {
            "type": "door",
            "relations": {"can_open": {"this": {}}},
            "metadata": {"relations": {"can_open": {"directly_related_user_types": [_EMPLOYEE]}}},
        },
    ],
    "conditions": {
        "in_office_hours": {
            "name": "in_office_hours",
            "expression": "hour >= opens && hour < 18",
            "parameters": {"hour": {"type_name": "TYPE_NAME_INT"}, "opens": {"type_name": "TYPE_NAME_INT"}},
        }
    },
}
DOOR = ("user:ann", "can_open", "door:front")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenFGAProcess]:
    """One for all tests here that neither break it nor care for what else is in its store."""
    with OpenFGAProcess(tmp_path_factory.mktemp("openfga")) as running:
        running.grant("user:ann", "viewer", DOCUMENT)
        yield running


@pytest.fixture
def unhurried(fresh_registry: None) -> None:
    """What is tested here is what OpenFGA says, on however busy a machine."""
    registry.reload({"OPENFGA_ATTEMPT_TIMEOUT": "10", "AUTH_TIMEOUT": "30"})


@asynccontextmanager
async def asking(
    server: OpenFGAProcess, store: str | None = None, model: str | None = None, **options: Any
) -> AsyncIterator[OpenFGAAuthorizer]:
    authorizer = OpenFGAAuthorizer(
        server.url, store or server.store_id, model, Pipeline.standard("openfga"), "closed", **options
    )
    try:
        await reach(authorizer)
        yield authorizer
    finally:
        await authorizer.aclose()


async def test_check_write_delete_batch_and_list_agree(server: OpenFGAProcess, unhurried: None) -> None:
    mine = [("user:bob", "viewer", f"document:b{number}") for number in range(3)]
    async with asking(server, model=server.model_id) as authorizer:
        assert (await authorizer.check("user:ann", "viewer", DOCUMENT)).allowed
        assert not (await authorizer.check(*mine[0])).allowed
        await authorizer.write(mine)
        await authorizer.write(mine)
        assert (await authorizer.check(*mine[0])).allowed
        assert sorted(await authorizer.list_objects("user:bob", "viewer", "document")) == [
            entry[2] for entry in mine
        ]
        await authorizer.delete(mine[:1])
        await authorizer.delete(mine[:1])
        decisions = await authorizer.batch_check(mine)
        assert [decision.allowed for decision in decisions] == [False, True, True]
        assert not any(decision.degraded for decision in decisions)
        await authorizer.delete(mine)
        assert await authorizer.list_objects("user:bob", "viewer", "document") == []


async def test_a_thousand_tuples_are_checked_in_twenty_requests_and_listed_in_one(
    server: OpenFGAProcess, unhurried: None
) -> None:
    granted = [("user:tom", "viewer", f"document:t{number:04}") for number in range(1000)]
    async with asking(server) as authorizer:
        for start in range(0, len(granted), 100):
            await authorizer.write(granted[start : start + 100])
        beyond = [("user:tom", "viewer", f"document:x{number}") for number in range(1000)]
        decisions = await authorizer.batch_check([*granted, *beyond])
        assert [decision.allowed for decision in decisions] == [True] * 1000 + [False] * 1000
        assert len(set(await authorizer.list_objects("user:tom", "viewer", "document"))) == 1000


async def test_more_tuples_than_openfga_takes_at_once_are_refused_and_none_is_written(
    server: OpenFGAProcess, unhurried: None
) -> None:
    async with asking(server) as authorizer:
        with pytest.raises(RequestRejected, match="exceeds the allowed limit of 100"):
            await authorizer.write([("user:eve", "viewer", f"document:e{n}") for n in range(101)])
        assert await authorizer.list_objects("user:eve", "viewer", "document") == []


async def test_contextual_tuples_hold_for_their_request_only(server: OpenFGAProcess, unhurried: None) -> None:
    mine = ("user:cid", "viewer", "document:c")
    async with asking(server, cache_seconds=60) as authorizer:
        assert (await authorizer.check(*mine, contextual_tuples=[mine])).allowed
        assert not (await authorizer.check(*mine)).allowed
        listed = await authorizer.list_objects("user:cid", "viewer", "document", contextual_tuples=[mine])
        assert listed == ["document:c"]
        asked = [Question.of(*mine, contextual_tuples=[mine]), Question.of(*mine)]
        assert [one.allowed for one in await authorizer.batch_check(asked)] == [True, False]


async def test_conditions_are_decided_by_the_context_of_the_request(
    server: OpenFGAProcess, unhurried: None
) -> None:
    store = server.create_store("doors")
    server.write_model(CONDITION_MODEL, store)
    async with asking(server, store, cache_seconds=60) as authorizer:
        condition = Condition.of("in_office_hours", {"opens": 8})
        await authorizer.write([RelationTuple(*DOOR, condition)])
        for hour, allowed in ((9, True), (7, False), (9, True), (20, False)):
            decision = await authorizer.check(*DOOR, context={"hour": hour})
            assert (decision.allowed, decision.degraded) == (allowed, False)
        assert await authorizer.list_objects("user:ann", "can_open", "door", context={"hour": 9}) == [
            "door:front"
        ]
        early = RelationTuple(
            "user:bob", "can_open", "door:front", Condition.of("in_office_hours", {"opens": 5})
        )
        decision = await authorizer.check(*early[:3], contextual_tuples=[early], context={"hour": 6})
        assert decision.allowed
        with pytest.raises(RequestRejected, match="missing context parameters") as caught:
            await authorizer.check(*DOOR)
        assert not isinstance(caught.value, ModelMismatch)
        without, with_it = await authorizer.batch_check([DOOR, Question.of(*DOOR, context={"hour": 9})])
        assert (without.allowed, with_it.allowed) == (False, True)
        assert "missing context parameters" in without.reason


async def test_what_the_model_does_not_know_is_told_from_nonsense(
    server: OpenFGAProcess, unhurried: None
) -> None:
    async with asking(server) as authorizer:
        for question in (
            ("user:ann", "destroyer", DOCUMENT),
            ("user:ann", "viewer", "folder:1"),
            ("robot:ann", "viewer", DOCUMENT),
        ):
            with pytest.raises(ModelMismatch, match="not found"):
                await authorizer.check(*question)
            with pytest.raises(ModelMismatch, match="not found"):
                await authorizer.write([question])
        with pytest.raises(ModelMismatch, match="not found"):
            await authorizer.list_objects("user:ann", "destroyer", "document")
        with pytest.raises(RequestRejected) as caught:
            await authorizer.check("user:ann#member", "viewer", DOCUMENT)
        assert not isinstance(caught.value, ModelMismatch)
        assert authorizer.facts()["model_verified"] is True
        assert "problem" not in authorizer.facts()


@pytest.mark.parametrize("store", ["01HVMMBCMGZNT3SED4Z17ECXCA", "nonsense"])
async def test_a_store_that_is_not_there_is_a_clear_error(
    server: OpenFGAProcess, unhurried: None, store: str
) -> None:
    authorizer = OpenFGAAuthorizer(server.url, store, None, Pipeline.standard("openfga"), principals_needed=1)
    with pytest.raises(ModelMismatch):
        await authorizer.check("user:ann", "viewer", DOCUMENT)
    with pytest.raises(ModelMismatch):
        await authorizer.verify()
    for number in range(3):
        with pytest.raises(ModelMismatch, match="store or model cannot be read"):
            await authorizer.check(f"user:u{number}", "viewer", DOCUMENT)
    with pytest.raises(ModelMismatch):
        await authorizer.list_objects("user:ann", "viewer", "document")
    with pytest.raises(ModelMismatch):
        await authorizer.write([("user:ann", "viewer", DOCUMENT)])
    assert authorizer.facts()["unusable"] is True
    await authorizer.aclose()


@pytest.mark.parametrize("model", ["01HVMMBCMGZNT3SED4Z17ECXCA", "nonsense"])
async def test_a_model_that_is_not_there_is_a_clear_error(
    server: OpenFGAProcess, unhurried: None, model: str
) -> None:
    authorizer = OpenFGAAuthorizer(server.url, server.store_id, model, Pipeline.standard("openfga"))
    with pytest.raises(ModelMismatch):
        await authorizer.check("user:ann", "viewer", DOCUMENT)
    with pytest.raises(ModelMismatch):
        await authorizer.batch_check([("user:ann", "viewer", DOCUMENT)])
    with pytest.raises(ModelMismatch):
        await authorizer.list_objects("user:ann", "viewer", "document")
    await authorizer.aclose()


async def test_a_store_without_a_model_is_a_clear_error(server: OpenFGAProcess, unhurried: None) -> None:
    store = server.create_store("empty")
    authorizer = OpenFGAAuthorizer(server.url, store, None, Pipeline.standard("openfga"))
    with pytest.raises(ModelMismatch, match="No authorization models found"):
        await authorizer.check("user:ann", "viewer", DOCUMENT)
    with pytest.raises(ModelMismatch, match="has no authorization model"):
        await authorizer.verify()
    server.write_model(DOCUMENT_MODEL, store)
    await authorizer.verify()
    assert not (await authorizer.check("user:ann", "viewer", DOCUMENT)).allowed
    await authorizer.aclose()
