"""OpenFGA's own server killed, stopped, restarted without its data, and given another model."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from mcp_server_langgraph.auth.openfga import (
    AuthorizationUnavailable,
    Decision,
    ModelMismatch,
    OpenFGAAuthorizer,
)
from mcp_server_langgraph.resilience import Pipeline, registry
from tests.auth.openfga_checks import DOCUMENT, reach, until_allowed_unchecked
from tests.support.openfga_process import OpenFGAProcess
from tests.support.openfga_server import DOCUMENT_MODEL

pytestmark = pytest.mark.real_time(limit=120.0)

ANN = ("user:ann", "viewer", DOCUMENT)
BOB = ("user:bob", "viewer", DOCUMENT)


@asynccontextmanager
async def started(server: OpenFGAProcess, **options: Any) -> AsyncIterator[OpenFGAAuthorizer]:
    """An authorizer that has looked at the model, as the server's has."""
    authorizer = OpenFGAAuthorizer(
        server.url,
        server.store_id,
        None,
        Pipeline.standard("openfga"),
        needed_relations=["document#viewer"],
        **options,
    )
    try:
        await reach(authorizer)
        authorizer.start()
        yield authorizer
    finally:
        await authorizer.aclose()


async def until_openfga_decides(authorizer: OpenFGAAuthorizer, question: tuple[str, str, str]) -> Decision:
    async with asyncio.timeout(60):
        while (decision := await authorizer.check(*question)).degraded:
            await asyncio.sleep(0.1)
    return decision


async def until_listed(authorizer: OpenFGAAuthorizer) -> list[str]:
    """What Ann may view, as soon as OpenFGA tells in time: who was just started on a busy machine may be slow."""
    async with asyncio.timeout(60):
        while True:
            with suppress(AuthorizationUnavailable):
                return await authorizer.list_objects("user:ann", "viewer", "document")
            await asyncio.sleep(0.1)


async def until_refused(authorizer: OpenFGAAuthorizer) -> None:
    while True:
        await authorizer.check(*ANN)
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_an_outage_degrades_and_its_end_is_noticed(
    tmp_path: Path, quick_retries: None, how: str
) -> None:
    with OpenFGAProcess(tmp_path / "openfga", "sqlite") as server:
        server.grant(*ANN)
        async with started(server, critical_relations=["owner"]) as authorizer:
            await until_openfga_decides(authorizer, ANN)
            getattr(server, how)()
            known = await authorizer.check(*ANN)
            assert (known.allowed, known.degraded) == (True, True)
            await until_allowed_unchecked(authorizer)
            assert not (await authorizer.check("user:u0", "owner", DOCUMENT)).allowed
            many = await authorizer.batch_check([ANN, ("user:ann", "owner", DOCUMENT)])
            assert [one.allowed for one in many] == [True, False]
            with pytest.raises(AuthorizationUnavailable):
                await authorizer.list_objects("user:ann", "viewer", "document")
            with pytest.raises(AuthorizationUnavailable):
                await authorizer.write([BOB])
            server.start() if how == "kill" else server.resume()
            assert not (await until_openfga_decides(authorizer, ("user:u0", "viewer", DOCUMENT))).allowed
            assert (await until_openfga_decides(authorizer, ANN)).allowed
            assert await until_listed(authorizer) == [DOCUMENT]
            assert "problem" not in authorizer.facts()


async def test_openfga_restarted_without_its_data_denies_and_says_why(
    tmp_path: Path, quick_retries: None, caplog: pytest.LogCaptureFixture
) -> None:
    with OpenFGAProcess(tmp_path / "openfga", "memory") as server:
        server.grant(*ANN)
        async with started(server, principals_needed=1) as authorizer:
            await until_openfga_decides(authorizer, ANN)
            server.kill()
            assert (await authorizer.check(*ANN)).allowed
            server.start()
            async with asyncio.timeout(60):
                while authorizer.facts().get("problem") is None:
                    with suppress(ModelMismatch):
                        await authorizer.check(*ANN)
                    await asyncio.sleep(0.1)
            for user in ("ann", "bob", "cid"):
                with pytest.raises(ModelMismatch, match="store_id_not_found"):
                    await authorizer.check(f"user:{user}", "viewer", DOCUMENT)
            server.kill()
            # Nothing that was known, or that an outage allows, comes back by the next outage.
            for user in ("ann", "bob", "cid"):
                with pytest.raises(ModelMismatch):
                    await authorizer.check(f"user:{user}", "viewer", DOCUMENT)
            assert authorizer.facts()["unusable"] is False
    assert "OPENFGA DOES NOT FIT THIS SERVER" in caplog.text


async def test_a_model_that_loses_the_relation_is_told_at_once_and_never_fails_open(
    tmp_path: Path, quick_retries: None, caplog: pytest.LogCaptureFixture
) -> None:
    with OpenFGAProcess(tmp_path / "openfga") as server:
        server.grant(*ANN)
        async with started(server, principals_needed=1) as authorizer:
            await until_openfga_decides(authorizer, ANN)
            first = authorizer.facts()["model"]
            poorer = {
                **DOCUMENT_MODEL,
                "type_definitions": [
                    {"type": "user"},
                    {
                        "type": "document",
                        "relations": {"owner": {"this": {}}},
                        "metadata": {
                            "relations": {"owner": {"directly_related_user_types": [{"type": "user"}]}}
                        },
                    },
                ],
            }
            second = server.write_model(poorer)
            async with asyncio.timeout(30):
                with pytest.raises(ModelMismatch, match="relation 'document#viewer' not found"):
                    await until_refused(authorizer)
                while "problem" not in authorizer.facts():
                    await asyncio.sleep(0.05)
            facts = authorizer.facts()
            assert (facts["model"], facts["model_at_start"]) == (second, first)
            assert "has no relation document#viewer" in facts["problem"]
            server.kill()
            for number in range(6):
                decision = await authorizer.check(f"user:u{number}", "viewer", DOCUMENT)
                assert not decision.allowed
            assert not (await authorizer.check(*ANN)).allowed
    assert "decides by another model than before" in caplog.text


async def test_a_model_that_changes_and_still_fits_is_told_and_goes_on_deciding(
    tmp_path: Path, quick_retries: None, caplog: pytest.LogCaptureFixture
) -> None:
    registry.reload({"OPENFGA_ATTEMPT_TIMEOUT": "10", "AUTH_TIMEOUT": "30"})
    with OpenFGAProcess(tmp_path / "openfga") as server:
        server.grant(*ANN)
        async with started(server, fail_mode="closed", cache_seconds=60) as authorizer:
            assert (await until_openfga_decides(authorizer, ANN)).allowed
            second = server.write_model(DOCUMENT_MODEL)
            assert not (await authorizer.check(*BOB)).allowed
            async with asyncio.timeout(30):
                while authorizer.facts()["model"] != second:
                    await authorizer.check(*BOB)
                    await asyncio.sleep(0.05)
            assert "problem" not in authorizer.facts()
            # Decided by the old model, so not given again.
            assert (await until_openfga_decides(authorizer, ANN)).age is None
    assert "decides by another model than before" in caplog.text


async def test_a_pinned_model_goes_on_deciding_whatever_is_written_beside_it(
    tmp_path: Path, quick_retries: None
) -> None:
    registry.reload({"OPENFGA_ATTEMPT_TIMEOUT": "10", "AUTH_TIMEOUT": "30"})
    with OpenFGAProcess(tmp_path / "openfga") as server:
        server.grant(*ANN)
        authorizer = OpenFGAAuthorizer(
            server.url, server.store_id, server.model_id, Pipeline.standard("openfga"), "closed"
        )
        server.write_model({"schema_version": "1.1", "type_definitions": [{"type": "user"}]})
        assert (await until_openfga_decides(authorizer, ANN)).allowed
        assert authorizer.facts()["model"] == server.model_id
        await authorizer.aclose()


async def test_a_list_that_openfga_cut_at_its_own_deadline_is_not_taken_for_whole(
    tmp_path: Path, quick_retries: None
) -> None:
    with OpenFGAProcess(tmp_path / "openfga", listObjects_deadline="1ms") as server:
        for start in range(0, 3000, 100):
            server.write([("user:ann", "viewer", f"document:{start + n}") for n in range(100)])
        async with started(server, listing_deadline=0.001) as authorizer:
            with pytest.raises(AuthorizationUnavailable):
                await authorizer.list_objects("user:ann", "viewer", "document")
