"""Attempts to get hold of the token that this server gives OpenFGA, or to gain by its being refused."""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from collections.abc import Awaitable, Iterator
from typing import Any

import httpx2
import pytest
from mcp import Client

from mcp_server_langgraph.auth.openfga import AuthorizationError, OpenFGAAuthorizer
from mcp_server_langgraph.resilience import config, registry
from mcp_server_langgraph.server.lifecycle import Lifecycle
from mcp_server_langgraph.server.metrics import ServerMetrics
from mcp_server_langgraph.server.protocol import build_server
from mcp_server_langgraph.server.wiring import wire
from mcp_server_langgraph.settings import load
from tests.auth.openfga_checks import DOCUMENT, until_allowed_unchecked
from tests.security.attackers import asked, gullible, never_lets_in
from tests.server.running import UNHURRIED
from tests.server.test_services import MODEL
from tests.support.openfga_keyed import KeyedOpenFGAServer
from tests.support.spans import collected_spans

pytestmark = pytest.mark.real_time(limit=120.0)

KEY = "SENTINEL-key-of-openfga"
ANN = ("user:ann", "viewer", DOCUMENT)
CROWD = tuple(f"user:mallory{number}" for number in range(5))


@pytest.fixture
def openfga(fresh_registry: None) -> Iterator[KeyedOpenFGAServer]:
    registry.reload({"RETRY_WAIT_EXPONENTIAL_MULTIPLIER": "0.001"})
    with KeyedOpenFGAServer([KEY], echo=True) as running:
        running.grant(*ANN)
        yield running


async def told(asking: Awaitable[Any]) -> str:
    """What comes, or all there is to an error that comes instead."""
    try:
        return str(await asking)
    except (AuthorizationError, httpx2.HTTPError) as error:
        return "".join(traceback.format_exception(error))


async def everything_told(authorizer: OpenFGAAuthorizer) -> str:
    tellers = (
        authorizer.verify(),
        authorizer.check(*ANN),
        authorizer.batch_check([ANN]),
        authorizer.list_objects("user:ann", "viewer", "document"),
        authorizer.write([("user:mallory", "viewer", DOCUMENT)]),
    )
    return "\n".join([await told(one) for one in tellers] + [str(authorizer.facts())])


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
async def test_no_error_tells_the_token_though_openfga_repeats_it(
    openfga: KeyedOpenFGAServer, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with gullible(openfga, api_token=KEY, listing_deadline=30.0) as authorizer:
        openfga.fail(status, {"code": "undefined", "message": f"what is 'Bearer {KEY}'?"})
        text = await everything_told(authorizer)
    assert "undefined" in text or status not in (400, 404)
    assert KEY not in text
    assert KEY not in caplog.text


async def test_no_part_of_an_answer_tells_the_token(
    openfga: KeyedOpenFGAServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with gullible(openfga, api_token=KEY, listing_deadline=30.0) as authorizer:
        odd = {"error": {"input_error": "validation_error", "message": f"odd: {KEY}"}}
        openfga.fail(200, {"result": {"0": odd}}, path="/batch-check")
        text = await told(authorizer.batch_check([ANN]))
        assert "odd: ***" in text
        openfga.fail(200, {"error": {"message": f"odd: {KEY}"}}, path="/streamed-list-objects")
        text += await told(authorizer.list_objects("user:ann", "viewer", "document"))
    assert "not a line of a listing" in text
    assert KEY not in text
    assert KEY not in caplog.text


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirection_does_not_get_the_token(openfga: KeyedOpenFGAServer, status: int) -> None:
    with KeyedOpenFGAServer() as evil:
        async with gullible(openfga, api_token=KEY, listing_deadline=30.0) as authorizer:
            openfga.fail(status, {}, location=f"{evil.url}/stores/{openfga.store_id}/check")
            for ask in (
                lambda: authorizer.list_objects("user:ann", "viewer", "document"),
                lambda: authorizer.write([("user:mallory", "viewer", DOCUMENT)]),
            ):
                with pytest.raises(AuthorizationError):
                    await ask()
            await never_lets_in(authorizer, rounds=3)
        assert (evil.count(), evil.connections) == (0, 0)


async def test_a_caller_of_the_server_hears_whose_token_it_is_and_nothing_tells_which(
    openfga: KeyedOpenFGAServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    metrics = ServerMetrics()
    with KeyedOpenFGAServer(["another"], MODEL, echo=True) as strict, collected_spans() as exporter:
        settings, resilience = load(
            {
                **UNHURRIED,
                "OPENFGA_API_URL": strict.url,
                "OPENFGA_STORE_ID": strict.store_id,
                "OPENFGA_API_TOKEN": KEY,
            }
        )
        config.install(resilience)
        services = wire(settings).services
        services.start()
        try:
            async with Client(await build_server(services, Lifecycle(), metrics)) as client:
                answer = str(await client.call_tool("agent_chat", {"message": "hello"}))
                shown = str(await client.read_resource("settings://current"))
                while "problem" not in (state := (await services.board.services())["openfga"]):
                    await asyncio.sleep(0.01)
                status = str(await client.call_tool("resilience_status", {}))
        finally:
            await services.aclose()
        spans = json.dumps([json.loads(span.to_json()) for span in exporter.get_finished_spans()])
        assert strict.borne["POST check"] == {f"Bearer {KEY}"}
        assert strict.borne.get("GET healthz", {""}) == {""}
    said = "OpenFGA refuses this server's own token, not the caller's (status 401)"
    assert "permission denied" in answer
    assert said in answer
    assert said in status
    assert said in caplog.text
    assert state["state"] == "down"
    assert "(secret)" in shown
    assert "tools/call" in spans
    for text in (answer, shown, str(state), status, spans, caplog.text, metrics.render().decode()):
        assert KEY not in text


async def test_who_has_an_outage_made_out_of_a_refused_token_is_not_let_in(
    openfga: KeyedOpenFGAServer,
) -> None:
    async with gullible(openfga, api_token=KEY) as authorizer:
        assert await asked(authorizer, *ANN)
        openfga.keys.clear()
        await never_lets_in(authorizer, *CROWD, "user:ann", rounds=3)
        while "problem" not in authorizer.facts():
            await asyncio.sleep(0.01)
        openfga.stop()
        await never_lets_in(authorizer, *CROWD, "user:ann")


async def test_an_outage_right_after_a_refusal_lets_nobody_in(openfga: KeyedOpenFGAServer) -> None:
    async with gullible(openfga, api_token=KEY) as authorizer:
        openfga.keys.clear()
        assert not await asked(authorizer)
        openfga.stop()  # before the server can look for itself
        await never_lets_in(authorizer, *CROWD)
        assert "problem" not in authorizer.facts()


async def test_without_a_refusal_the_same_outage_is_one(openfga: KeyedOpenFGAServer) -> None:
    async with gullible(openfga, api_token=KEY) as authorizer:
        assert not await asked(authorizer)
        openfga.stop()
        await until_allowed_unchecked(authorizer)


async def test_an_openfga_that_comes_back_with_other_keys_ends_what_its_outage_allowed(
    openfga: KeyedOpenFGAServer,
) -> None:
    async with gullible(openfga, api_token=KEY) as authorizer:
        assert await asked(authorizer, *ANN)
        openfga.stop()
        while registry.breakers()["openfga"].state != "open":
            assert await asked(authorizer, *ANN)
        openfga.keys.clear()
        openfga.start()
        while "problem" not in authorizer.facts():  # found by our own probe: the circuit lets nobody ask
            await asyncio.sleep(0.01)
        await never_lets_in(authorizer, *CROWD, "user:ann", rounds=3)


async def test_a_caller_who_is_refused_for_its_own_words_spoils_nothing_for_others(
    openfga: KeyedOpenFGAServer,
) -> None:
    async with gullible(openfga, api_token=KEY) as authorizer:
        assert await asked(authorizer, *ANN)
        openfga.fail(403, b"blocked", path="/check")
        assert not await asked(authorizer)
        while authorizer._model.refuses_us:
            await asyncio.sleep(0.01)
        assert "problem" not in authorizer.facts()
        openfga.stop()
        assert await asked(authorizer, *ANN)
        await until_allowed_unchecked(authorizer)
