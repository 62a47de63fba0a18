"""Verifiers of Keycloak and of its stand-in, and patient ones for its own server, which a busy machine makes slow."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp_server_langgraph.auth.keycloak import KeycloakVerifier
from mcp_server_langgraph.auth.keycloak_client import KeycloakClient
from mcp_server_langgraph.resilience import Pipeline
from tests.support.keycloak_process import KeycloakProcess
from tests.support.keycloak_server import KeycloakServer

__all__ = ["client_of", "patient_verifier_of", "verifier_of"]


@asynccontextmanager
async def verifier_of(
    keycloak: KeycloakServer | KeycloakProcess, audience: str = "mcp-server", **options: Any
) -> AsyncIterator[KeycloakVerifier]:
    verifier = KeycloakVerifier(
        keycloak.url, keycloak.realm, audience, Pipeline.standard("keycloak"), **options
    )
    try:
        yield verifier
    finally:
        await verifier.aclose()


@asynccontextmanager
async def client_of(
    keycloak: KeycloakProcess, client_id: str = "mcp-server", secret: str | None = None
) -> AsyncIterator[KeycloakClient]:
    client = KeycloakClient(
        keycloak.url,
        keycloak.realm,
        client_id,
        secret or keycloak.clients[client_id],
        Pipeline.standard("keycloak"),
        patience=20.0,
    )
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def patient_verifier_of(keycloak: KeycloakProcess, **options: Any) -> AsyncIterator[KeycloakVerifier]:
    given = {"audience": keycloak.audience, "patience": 20.0, "unknown_key_interval": 0.0, **options}
    async with verifier_of(keycloak, **given) as verifier:
        yield verifier
