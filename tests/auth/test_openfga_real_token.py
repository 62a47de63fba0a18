"""The token of this server before OpenFGA's own server that wants one of its preshared keys."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from mcp_server_langgraph.auth.openfga import OpenFGAAuthorizer, TokenRefused
from mcp_server_langgraph.resilience import Pipeline, registry
from mcp_server_langgraph.server.probes import HttpProbes
from tests.auth.openfga_checks import DOCUMENT, reach
from tests.support.openfga_process import OpenFGAProcess

pytestmark = pytest.mark.real_time(limit=300.0)

ANN = ("user:ann", "viewer", DOCUMENT)


def authorizer_with(server: OpenFGAProcess, token: str | None) -> OpenFGAAuthorizer:
    pipeline = Pipeline.standard("openfga")
    return OpenFGAAuthorizer(
        server.url, server.store_id, None, pipeline, "closed", api_token=token, listing_deadline=30.0
    )


async def test_openfga_answers_to_its_keys_and_to_nothing_else(tmp_path: Path, fresh_registry: None) -> None:
    registry.reload({"OPENFGA_ATTEMPT_TIMEOUT": "30", "AUTH_TIMEOUT": "60"})
    with OpenFGAProcess(tmp_path, keys=["first-key", "second-key"]) as server:
        server.grant(*ANN)
        for token in ("first-key", "second-key"):
            async with aclosing(authorizer_with(server, token)) as authorizer:
                await reach(authorizer)
                assert (await authorizer.check(*ANN)).allowed
                assert [one.allowed for one in await authorizer.batch_check([ANN])] == [True]
                assert await authorizer.list_objects("user:ann", "viewer", "document") == [DOCUMENT]
                await authorizer.write([("user:bob", "viewer", DOCUMENT)])
                await authorizer.delete([("user:bob", "viewer", DOCUMENT)])
        for token in ("third-key", None):
            async with aclosing(authorizer_with(server, token)) as authorizer:
                with pytest.raises(TokenRefused, match="OPENFGA_API_TOKEN"):
                    await reach(authorizer)
                for decision in (await authorizer.check(*ANN), *await authorizer.batch_check([ANN])):
                    assert not decision.allowed
                    assert "OPENFGA_API_TOKEN" in decision.reason
                with pytest.raises(TokenRefused):
                    await authorizer.list_objects("user:ann", "viewer", "document")
                with pytest.raises(TokenRefused):
                    await authorizer.write([("user:bob", "viewer", DOCUMENT)])
                assert authorizer.facts()["unusable"] is True
        assert server.tuples() == {ANN}
        await _serves_its_health_without_a_key(server)


async def _serves_its_health_without_a_key(server: OpenFGAProcess) -> None:
    async with aclosing(HttpProbes()) as probes:
        probe = probes.answers(f"{server.url}/healthz", "status", "SERVING")
        while True:
            try:
                return await probe()
            except ConnectionError:  # answered, but not as it should
                raise
            except Exception:  # a busy machine may need more than one
                await asyncio.sleep(0.1)
