"""A realm of Keycloak on the wire: an HTTP client, and where the realm's endpoints are."""

from urllib.parse import quote

from mcp_server_langgraph.auth._discovery import DOCUMENT_PATH, ProviderMetadata, provider_metadata
from mcp_server_langgraph.auth._http import json_reply, new_client
from mcp_server_langgraph.auth._refreshed import Ages, Refreshed
from mcp_server_langgraph.resilience import Pipeline

__all__ = ["Realm"]


class Realm:
    """The realm `name` of the Keycloak at `url`, asked through `pipeline`.

    `issuer`: what tokens and the discovery document say, where that is not `url`/realms/`name`. Ages and `patience` of
    the document are those of `Refreshed`.
    """

    def __init__(
        self, url: str, name: str, pipeline: Pipeline, issuer: str | None, ages: Ages, patience: float
    ) -> None:
        self.url = f"{url.rstrip('/')}/realms/{quote(name, safe='')}"
        self.issuer = issuer or self.url
        self.http = new_client(url)
        self._pipeline = pipeline
        self._metadata = Refreshed("endpoints", self._discover, ages, patience)

    async def metadata(self) -> ProviderMetadata:
        """The endpoints, from the last good discovery document. Raises IdentityUnavailable."""
        return await self._metadata.get()

    async def aclose(self) -> None:
        """Stop a refresh that is running, and give the connections back."""
        await self._metadata.aclose()
        await self.http.aclose()

    async def _discover(self) -> ProviderMetadata:
        return await self._pipeline.call(self._fetch)

    async def _fetch(self) -> ProviderMetadata:
        document = json_reply(await self.http.get(self.url + DOCUMENT_PATH))
        return provider_metadata(document, self.url, self.issuer)
