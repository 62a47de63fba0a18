"""A stand-in for OpenFGA that is faithful on the wire: stores, models, checks, lists, write and read over HTTP.

Paths, bodies and error codes are those of OpenFGA 1.10's HTTP API. Decisions are made in memory.
"""

import datetime
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tests.support.http_server import HttpServer, Request, Response
from tests.support.openfga_model import InvalidTuple, Tuple, evaluate, validate

__all__ = ["DOCUMENT_MODEL", "OpenFGAServer"]

_ULID_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_MOST_IN_A_BATCH = 50
_USER: dict[str, Any] = {"type": "user"}

DOCUMENT_MODEL: dict[str, Any] = {
    "schema_version": "1.1",
    "type_definitions": [
        _USER,
        {
            "type": "group",
            "relations": {"member": {"this": {}}},
            "metadata": {"relations": {"member": {"directly_related_user_types": [_USER]}}},
        },
        {
            "type": "document",
            "relations": {
                "owner": {"this": {}},
                "viewer": {"union": {"child": [{"this": {}}, {"computedUserset": {"relation": "owner"}}]}},
            },
            "metadata": {
                "relations": {
                    "owner": {"directly_related_user_types": [_USER]},
                    "viewer": {
                        "directly_related_user_types": [
                            _USER,
                            {"type": "user", "wildcard": {}},
                            {"type": "group", "relation": "member"},
                        ]
                    },
                }
            },
        },
    ],
}


class OpenFGAServer(HttpServer):
    """An OpenFGA with one store that has a model already: `store_id`, `model_id`."""

    def __init__(self, model: Mapping[str, Any] = DOCUMENT_MODEL) -> None:
        super().__init__()
        self._stores: dict[str, dict[str, Any]] = {}
        self._models: dict[str, dict[str, Any]] = {}
        self._tuples: dict[str, dict[Tuple, str]] = {}
        self.store_id = self._create_store({"name": "test"}).body["id"]
        self.model_id = self._create_model(self.store_id, model).body["authorization_model_id"]

    @property
    def checks(self) -> int:
        """Check requests that arrived on the wire."""
        return self.count("/check")

    def grant(self, user: str, relation: str, target: str) -> None:
        self._tuples[self.store_id][Tuple(user, relation, target)] = _now()

    def revoke(self, user: str, relation: str, target: str) -> None:
        self._tuples[self.store_id].pop(Tuple(user, relation, target), None)

    def tuples(self) -> set[tuple[str, str, str]]:
        return set(self._tuples[self.store_id])

    async def handle(self, request: Request) -> Response:
        parts = request.path.strip("/").split("/")
        if parts == ["healthz"]:
            return Response({"status": "SERVING"})
        if parts[0] != "stores":
            return _error(404, "undefined_endpoint", "Not Found")
        if len(parts) == 1:
            return self._create_store(request.json()) if request.method == "POST" else self._list_stores()
        if parts[1] not in self._stores:
            return _error(404, "store_id_not_found", "Store ID not found")
        return self._in_store(request, parts[1], parts[2:])

    def _in_store(self, request: Request, store: str, rest: Sequence[str]) -> Response:
        route = (request.method, *rest[:1])
        if route == ("GET",):
            return Response(self._stores[store])
        if route == ("GET", "authorization-models"):
            return self._read_models(store, rest[1:])
        if route == ("POST", "authorization-models"):
            return self._create_model(store, request.json())
        if route == ("POST", "check"):
            return self._check(store, request.json())
        if route == ("POST", "batch-check"):
            return self._batch_check(store, request.json())
        if route == ("POST", "streamed-list-objects"):
            return self._list_objects(store, request.json())
        if route == ("POST", "write"):
            return self._write(store, request.json())
        if route == ("POST", "read"):
            return self._read(store, request.json())
        return _error(404, "undefined_endpoint", "Not Found")

    def _create_store(self, body: Mapping[str, Any]) -> Response:
        store = {"id": _ulid(), "name": body["name"], "created_at": _now(), "updated_at": _now()}
        self._stores[store["id"]] = store
        self._tuples[store["id"]] = {}
        return Response(store, 201)

    def _list_stores(self) -> Response:
        return Response({"stores": list(self._stores.values()), "continuation_token": ""})

    def _create_model(self, store: str, body: Mapping[str, Any]) -> Response:
        model = {"id": _ulid(), "store": store, **body}
        self._models[model["id"]] = model
        return Response({"authorization_model_id": model["id"]}, 201)

    def _read_models(self, store: str, rest: Sequence[str]) -> Response:
        own = [_public(model) for model in reversed(self._models.values()) if model["store"] == store]
        if not rest:
            return Response({"authorization_models": own, "continuation_token": ""})
        found = next((model for model in own if model["id"] == rest[0]), None)
        return Response({"authorization_model": found}) if found else _unknown_model(rest[0])

    def _model(self, store: str, wanted: str | None) -> dict[str, Any] | None:
        own = [model for model in self._models.values() if model["store"] == store]
        if wanted:
            return next((model for model in own if model["id"] == wanted), None)
        return own[-1] if own else None

    def _check(self, store: str, body: Mapping[str, Any]) -> Response:
        wanted = body.get("authorization_model_id")
        model = self._model(store, wanted)
        if model is None:
            return _unknown_model(wanted)
        try:
            question = _tuple(body.get("tuple_key", {}))
            validate(model, question)
        except InvalidTuple as error:
            return _error(400, "validation_error", str(error))
        allowed = evaluate(model, self._holding(store, body), question)
        return Response({"allowed": allowed, "resolution": ""}, headers=_decided_by(store, model))

    def _batch_check(self, store: str, body: Mapping[str, Any]) -> Response:
        if len(body["checks"]) > _MOST_IN_A_BATCH:
            said = (
                f"batchCheck received {len(body['checks'])} checks, the maximum allowed is {_MOST_IN_A_BATCH}"
            )
            return _error(400, "validation_error", said)
        wanted = body.get("authorization_model_id")
        result: dict[str, Any] = {}
        for item in body["checks"]:
            one = self._check(store, {"authorization_model_id": wanted, **item})
            refused = {"input_error": "validation_error", "message": one.body.get("message", "")}
            answer = {"allowed": one.body.get("allowed")} if one.status == 200 else {"error": refused}
            result[item["correlation_id"]] = answer
        model = self._model(store, wanted)
        if model is None:
            return _unknown_model(wanted)
        return Response({"result": result}, headers=_decided_by(store, model))

    def _list_objects(self, store: str, body: Mapping[str, Any]) -> Response:
        model = self._model(store, body.get("authorization_model_id"))
        if model is None:
            return _unknown_model(body.get("authorization_model_id"))
        user, relation, kind = body["user"], body["relation"], body["type"]
        try:
            validate(model, Tuple(user, relation, f"{kind}:any"))
        except InvalidTuple as error:
            return Response({"error": {"code": 3, "message": str(error), "details": []}}, 400)
        holding = self._holding(store, body)
        objects = {entry.object for entry in holding if entry.object.startswith(f"{kind}:")}
        found = sorted(one for one in objects if evaluate(model, holding, Tuple(user, relation, one)))
        lines = "".join(json.dumps({"result": {"object": one}}) + "\n" for one in found)
        return Response(lines.encode(), headers=_decided_by(store, model))

    def _holding(self, store: str, body: Mapping[str, Any]) -> list[Tuple]:
        """What is true for this request."""
        extra = body.get("contextual_tuples", {}).get("tuple_keys", [])
        return [*self._tuples[store], *(_tuple(key) for key in extra)]

    def _write(self, store: str, body: Mapping[str, Any]) -> Response:
        model = self._model(store, body.get("authorization_model_id"))
        if model is None:
            return _unknown_model(body.get("authorization_model_id"))
        writes, deletes = body.get("writes", {}), body.get("deletes", {})
        added = [_tuple(key) for key in writes.get("tuple_keys", [])]
        removed = [_tuple(key) for key in deletes.get("tuple_keys", [])]
        if not added and not removed:
            return _error(
                400,
                "invalid_write_input",
                "Invalid input. Make sure you provide at least one write, or at least one delete",
            )
        if len({*added, *removed}) < len(added) + len(removed):
            return _error(400, "cannot_allow_duplicate_tuples_in_one_request", "duplicate tuple in write")
        kept = self._tuples[store]
        try:
            for entry in added:
                validate(model, entry, as_write=True)
            _refuse(
                [entry for entry in added if entry in kept],
                "write a tuple which already exists",
                writes.get("on_duplicate"),
            )
            _refuse(
                [entry for entry in removed if entry not in kept],
                "delete a tuple which does not exist",
                deletes.get("on_missing"),
            )
        except InvalidTuple as error:
            conflict = str(error).startswith("cannot ")
            return _error(
                400, "write_failed_due_to_invalid_input" if conflict else "validation_error", str(error)
            )
        for entry in removed:
            kept.pop(entry, None)
        for entry in added:
            kept.setdefault(entry, _now())
        return Response({})

    def _read(self, store: str, body: Mapping[str, Any]) -> Response:
        wanted = body.get("tuple_key", {})
        found = [
            {"key": entry._asdict(), "timestamp": written}
            for entry, written in self._tuples[store].items()
            if all(getattr(entry, name) == value for name, value in wanted.items() if value)
        ]
        return Response({"tuples": found, "continuation_token": ""})


def _refuse(conflicting: Sequence[Tuple], what: str, policy: str | None) -> None:
    if conflicting and policy != "ignore":
        user, relation, target = conflicting[0]
        raise InvalidTuple(f"cannot {what}: user: '{user}', relation: '{relation}', object: '{target}'")


def _tuple(key: Mapping[str, Any]) -> Tuple:
    return Tuple(key.get("user", ""), key.get("relation", ""), key.get("object", ""))


def _public(model: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in model.items() if name != "store"}


def _decided_by(store: str, model: Mapping[str, Any]) -> dict[str, str]:
    return {"openfga-store-id": store, "openfga-authorization-model-id": model["id"]}


def _unknown_model(wanted: str | None) -> Response:
    if wanted:
        return _error(400, "authorization_model_not_found", f"Authorization Model '{wanted}' not found")
    return _error(400, "latest_authorization_model_not_found", "No authorization models found for store")


def _error(status: int, code: str, message: str) -> Response:
    return Response({"code": code, "message": message}, status)


def _ulid() -> str:
    clock = int(time.time() * 1000)
    head = "".join(_ULID_LETTERS[clock >> (5 * place) & 31] for place in range(9, -1, -1))
    return head + "".join(secrets.choice(_ULID_LETTERS) for _ in range(16))


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
