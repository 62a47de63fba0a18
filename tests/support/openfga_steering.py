"""What tests do with any OpenFGA, over its HTTP API: make stores and models, write and read tuples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tests.support.json_http import send

__all__ = ["OpenFGASteering"]


class OpenFGASteering:
    """For a server with an `url` and a store of its own. `key`: what it wants to be given. The methods block."""

    url: str
    store_id: str = ""
    model_id: str = ""
    key: str = ""

    def create_store(self, name: str = "test") -> str:
        """The id of a new store."""
        return str(self.call("POST", "/stores", {"name": name})["id"])

    def write_model(self, model: Mapping[str, Any], store: str | None = None) -> str:
        """The id of a new model in the store (its own one where None)."""
        path = f"/stores/{store or self.store_id}/authorization-models"
        return str(self.call("POST", path, model)["authorization_model_id"])

    def grant(self, user: str, relation: str, target: str) -> None:
        self.write([(user, relation, target)])

    def revoke(self, user: str, relation: str, target: str) -> None:
        self.write(deletes=[(user, relation, target)])

    def write(
        self, tuples: Iterable[tuple[str, str, str]] = (), deletes: Iterable[tuple[str, str, str]] = ()
    ) -> None:
        """Write and delete tuples (user, relation, object); what is there, or gone, already is ignored."""
        body: dict[str, Any] = {}
        if added := _keys(tuples):
            body["writes"] = {"tuple_keys": added, "on_duplicate": "ignore"}
        if removed := _keys(deletes):
            body["deletes"] = {"tuple_keys": removed, "on_missing": "ignore"}
        self.call("POST", f"/stores/{self.store_id}/write", body)

    def tuples(self) -> set[tuple[str, str, str]]:
        """All that the store holds."""
        found: set[tuple[str, str, str]] = set()
        token = ""
        while True:
            body = {"page_size": 100, "continuation_token": token}
            page = self.call("POST", f"/stores/{self.store_id}/read", body)
            keys = [entry["key"] for entry in page["tuples"]]
            found |= {(key["user"], key["relation"], key["object"]) for key in keys}
            token = page["continuation_token"]
            if not token:
                return found

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The answer's body. Raises RuntimeError for a refusal."""
        headers = {"authorization": f"Bearer {self.key}"} if self.key else {}
        return dict(send(method, self.url + path, json_body=body, headers=headers).expect())


def _keys(tuples: Iterable[tuple[str, str, str]]) -> list[dict[str, str]]:
    return [{"user": user, "relation": relation, "object": target} for user, relation, target in tuples]
