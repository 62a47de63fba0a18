"""The stand-ins are faithful on the wire: official clients work with them, unchanged."""

import asyncio
from typing import Any

import httpx2
import jwt
import openfga_sdk
import pytest
from openfga_sdk.client import ClientConfiguration, OpenFgaClient
from openfga_sdk.client.models import ClientCheckRequest, ClientTuple, ClientWriteRequest
from openfga_sdk.exceptions import ValidationException

from tests.support.keycloak_server import KeycloakServer
from tests.support.openfga_server import DOCUMENT_MODEL, OpenFGAServer

pytestmark = pytest.mark.real_time


async def test_openfgas_own_sdk_works_with_the_stand_in() -> None:
    with OpenFGAServer() as server:
        configuration = ClientConfiguration(api_url=server.url, store_id=server.store_id)
        async with OpenFgaClient(configuration) as client:
            store = await client.get_store()
            assert store.id == server.store_id
            model = await client.write_authorization_model(
                openfga_sdk.WriteAuthorizationModelRequest(**_typed())
            )
            assert (
                await client.read_latest_authorization_model()
            ).authorization_model.id == model.authorization_model_id
            await client.write(ClientWriteRequest(writes=[ClientTuple("user:ann", "owner", "document:1")]))
            for user, relation, allowed in (
                ("ann", "viewer", True),
                ("ann", "owner", True),
                ("bob", "viewer", False),
            ):
                request = ClientCheckRequest(f"user:{user}", relation, "document:1")
                assert (await client.check(request)).allowed is allowed
            read = await client.read(openfga_sdk.ReadRequestTupleKey(object="document:1"))
            assert [entry.key.user for entry in read.tuples] == ["user:ann"]


async def test_openfgas_own_sdk_understands_the_stand_ins_refusals() -> None:
    with OpenFGAServer() as server:
        configuration = ClientConfiguration(api_url=server.url, store_id=server.store_id)
        async with OpenFgaClient(configuration) as client:
            with pytest.raises(ValidationException) as caught:
                await client.check(ClientCheckRequest("user:ann", "nonsense", "document:1"))
            assert caught.value.code == "validation_error"
            duplicate = ClientWriteRequest(writes=[ClientTuple("user:ann", "owner", "document:1")])
            await client.write(duplicate)
            with pytest.raises(ValidationException) as caught:
                await client.write(duplicate)
            assert caught.value.code == "write_failed_due_to_invalid_input"


async def test_groups_wildcards_and_inheritance_are_decided() -> None:
    with OpenFGAServer() as server:
        server.grant("user:ann", "member", "group:staff")
        server.grant("group:staff#member", "viewer", "document:1")
        server.grant("user:*", "viewer", "document:2")

        async def check(user: str, target: str) -> bool:
            body = {"tuple_key": {"user": user, "relation": "viewer", "object": target}}
            async with httpx2.AsyncClient() as client:
                reply = await client.post(f"{server.url}/stores/{server.store_id}/check", json=body)
                return bool(reply.json()["allowed"])

        assert await check("user:ann", "document:1")
        assert not await check("user:bob", "document:1")
        assert await check("user:bob", "document:2")


async def test_pyjwts_own_client_works_with_the_keycloak_stand_in() -> None:
    with KeycloakServer() as server:
        discovery = f"{server.issuer}/.well-known/openid-configuration"
        async with httpx2.AsyncClient() as client:
            metadata = (await client.get(discovery)).json()
            wrong = await client.post(metadata["token_endpoint"], data={"grant_type": "client_credentials"})
            missing = await client.get(f"{server.url}/realms/other")
        assert metadata["issuer"] == server.issuer
        assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")
        assert (missing.status_code, missing.json()) == (404, {"error": "Realm does not exist"})
        token = server.token()
        keys = jwt.PyJWKClient(metadata["jwks_uri"])
        key = await asyncio.to_thread(keys.get_signing_key_from_jwt, token)
        claims = jwt.decode(token, key, algorithms=["RS256"], audience="mcp-server", issuer=server.issuer)
        assert claims["preferred_username"] == "alice"


def _typed() -> dict[str, Any]:
    return {
        "schema_version": DOCUMENT_MODEL["schema_version"],
        "type_definitions": DOCUMENT_MODEL["type_definitions"],
    }
