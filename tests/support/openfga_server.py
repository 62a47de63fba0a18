"""A stand-in for OpenFGA that is faithful on the wire: stores, models, check, lists, write and read over HTTP.

Paths, bodies, codes and messages are those of OpenFGA 1.22's HTTP API: test_openfga_differential.py compares them.
Decisions are made in memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from tests.support.http_server import HttpServer, Request, Response
from tests.support.openfga_model import evaluate
from tests.support.openfga_rules import InvalidTuple, Tuple, check_question, check_user, check_written, types
from tests.support.openfga_shapes import Refused, check_shape
from tests.support.openfga_stores import Stores

__all__ = ["DOCUMENT_MODEL", "OpenFGAServer"]

_MOST_IN_A_BATCH: Final = 50

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
    """An OpenFGA with one store that has a model already: `store_id`, `model_id`.

    `asked`: the bodies of all checks and batch checks.
    """

    def __init__(self, model: Mapping[str, Any] = DOCUMENT_MODEL) -> None:
        super().__init__()
        self.asked: list[dict[str, Any]] = []
        self._stores = Stores()
        self.store_id: str = self._stores.create("test")["id"]
        self.model_id: str = self._stores.add_model(self.store_id, model)
        self._routes: dict[str, tuple[str, Callable[[Sequence[str], Mapping[str, Any]], Response]]] = {
            "GET stores": ("ListStoresRequest", self._list_stores),
            "POST stores": ("CreateStoreRequest", self._create_store),
            "GET stores/*": ("GetStoreRequest", self._get_store),
            "GET stores/*/authorization-models": ("ReadAuthorizationModelsRequest", self._read_models),
            "GET stores/*/authorization-models/*": ("ReadAuthorizationModelRequest", self._read_model),
            "POST stores/*/authorization-models": ("WriteAuthorizationModelRequest", self._add_model),
            "POST stores/*/check": ("CheckRequest", self._check),
            "POST stores/*/batch-check": ("BatchCheckRequest", self._batch_check),
            "POST stores/*/list-objects": ("ListObjectsRequest", self._list_objects),
            "POST stores/*/streamed-list-objects": ("StreamedListObjectsRequest", self._stream_objects),
            "POST stores/*/write": ("WriteRequest", self._write),
            "POST stores/*/read": ("ReadRequest", self._read),
        }

    @property
    def checks(self) -> int:
        """Check requests that arrived on the wire."""
        return self.count("/check")

    def grant(self, user: str, relation: str, target: str) -> None:
        self._stores.put(self.store_id, Tuple(user, relation, target))

    def revoke(self, user: str, relation: str, target: str) -> None:
        self._stores.drop(self.store_id, Tuple(user, relation, target))

    def tuples(self) -> set[tuple[str, str, str]]:
        return set(self._stores.tuples(self.store_id))

    def decide(self, model: Mapping[str, Any], tuples: Sequence[Tuple], question: Tuple) -> bool:
        """Whether the user has the relation to the object."""
        return evaluate(model, tuples, question)

    def objects(
        self, model: Mapping[str, Any], tuples: Sequence[Tuple], user: str, relation: str, kind: str
    ) -> list[str]:
        """The objects of that type to which the user has the relation."""
        known = {entry.object for entry in tuples if entry.object.startswith(f"{kind}:")}
        known |= {user.partition("#")[0]} if user.startswith(f"{kind}:") and "#" in user else set()
        return sorted(one for one in known if self.decide(model, tuples, Tuple(user, relation, one)))

    async def handle(self, request: Request) -> Response:
        parts = request.path.strip("/").split("/")
        if parts == ["healthz"]:
            return Response({"status": "SERVING"})
        path = "/".join(part if place % 2 == 0 else "*" for place, part in enumerate(parts))
        name, answer = self._routes.get(f"{request.method} {path}", ("", None))
        if answer is None:
            return _error(404, "undefined_endpoint", "Not Found")
        try:
            body = request.json() if request.body else {}
            if name in ("CheckRequest", "BatchCheckRequest"):
                self.asked.append(body)
            check_shape(name, parts[1::2], body)
            return answer(parts[1::2], body)
        except Refused as error:
            if name.startswith("Streamed"):
                return Response({"error": {"code": 3, "message": str(error), "details": []}}, 400)
            return _error(400, error.code, str(error))

    def _create_store(self, _: Sequence[str], body: Mapping[str, Any]) -> Response:
        return Response(self._stores.create(body["name"]), 201)

    def _list_stores(self, _: Sequence[str], __: Mapping[str, Any]) -> Response:
        return Response({"stores": self._stores.all(), "continuation_token": ""})

    def _get_store(self, ids: Sequence[str], _: Mapping[str, Any]) -> Response:
        found = self._stores.get(ids[0])
        return (
            Response({**found, "deleted_at": None})
            if found
            else _error(404, "store_id_not_found", "Store ID not found")
        )

    def _add_model(self, ids: Sequence[str], body: Mapping[str, Any]) -> Response:
        return Response({"authorization_model_id": self._stores.add_model(ids[0], body)}, 201)

    def _read_models(self, ids: Sequence[str], _: Mapping[str, Any]) -> Response:
        return Response({"authorization_models": self._stores.models(ids[0])[::-1], "continuation_token": ""})

    def _read_model(self, ids: Sequence[str], _: Mapping[str, Any]) -> Response:
        return Response({"authorization_model": self._stores.model(ids[0], ids[1])})

    def _check(self, ids: Sequence[str], body: Mapping[str, Any]) -> Response:
        model = self._model(ids, body)
        try:
            allowed = self._decision(ids[0], model, body)
        except Refused as error:
            if error.code == "invalid_tuple":
                raise Refused(error.code, f"Invalid tuple '%!s(<nil>)'. Reason: {error}") from None
            raise
        return Response({"allowed": allowed, "resolution": ""}, headers=_decided_by(ids[0], model))

    def _decision(self, store: str, model: Mapping[str, Any], body: Mapping[str, Any]) -> bool:
        question = _tuple(body["tuple_key"])
        try:
            check_question(model, question)
        except InvalidTuple as error:
            raise Refused("validation_error", f"invalid relation: {error}") from None
        extra = _contextual(body)
        try:
            for entry in extra:
                check_written(model, entry, implicit=True)
        except InvalidTuple as error:
            raise Refused("invalid_tuple", f"invalid tuple: {error}") from None
        return self.decide(model, [*self._stores.tuples(store), *extra], question)

    def _batch_check(self, ids: Sequence[str], body: Mapping[str, Any]) -> Response:
        model, checks = self._model(ids, body), body["checks"]
        if len(checks) > _MOST_IN_A_BATCH:
            said = f"batchCheck received {len(checks)} checks, the maximum allowed is {_MOST_IN_A_BATCH}"
            raise Refused("validation_error", said)
        result: dict[str, Any] = {}
        for item in checks:
            if item["correlation_id"] in result:
                raise Refused(
                    "validation_error", f"received duplicate correlation id: {item['correlation_id']}"
                )
            try:
                result[item["correlation_id"]] = {"allowed": self._decision(ids[0], model, item)}
            except Refused as error:
                refused = {"input_error": error.code, "message": str(error)}
                result[item["correlation_id"]] = {"error": refused}
        return Response({"result": result}, headers=_decided_by(ids[0], model))

    def _list_objects(self, ids: Sequence[str], body: Mapping[str, Any]) -> Response:
        model = self._model(ids, body)
        return Response({"objects": self._found(ids[0], model, body)}, headers=_decided_by(ids[0], model))

    def _stream_objects(self, ids: Sequence[str], body: Mapping[str, Any]) -> Response:
        model = self._model(ids, body)
        found = self._found(ids[0], model, body)
        lines = "".join(json.dumps({"result": {"object": one}}) + "\n" for one in found)
        return Response(lines.encode(), headers=_decided_by(ids[0], model))

    def _found(self, store: str, model: Mapping[str, Any], body: Mapping[str, Any]) -> list[str]:
        user, relation, kind = body["user"], body["relation"], body["type"]
        extra = _contextual(body)
        for entry in extra:
            _check_contextual(model, entry)
        if kind not in types(model):
            raise Refused("type_not_found", f"type '{kind}' not found")
        if relation not in types(model)[kind].get("relations", {}):
            raise Refused("relation_not_found", f"relation '{kind}#{relation}' not found")
        try:
            check_user(model, user)
        except InvalidTuple as error:
            raise Refused("validation_error", f"invalid 'user' value: {error}") from None
        return self.objects(model, [*self._stores.tuples(store), *extra], user, relation, kind)

    def _write(self, ids: Sequence[str], body: Mapping[str, Any]) -> Response:
        self._stores.write(ids[0], self._model(ids, body), body)
        return Response({})

    def _read(self, ids: Sequence[str], body: Mapping[str, Any]) -> Response:
        return Response(
            {"tuples": self._stores.read(ids[0], body.get("tuple_key")), "continuation_token": ""}
        )

    def _model(self, ids: Sequence[str], body: Mapping[str, Any]) -> Mapping[str, Any]:
        return self._stores.model(ids[0], body.get("authorization_model_id"))


def _check_contextual(model: Mapping[str, Any], entry: Tuple) -> None:
    """As lists say it: the tuple is shown as protobuf's text."""
    try:
        check_written(model, entry, implicit=True)
    except InvalidTuple as error:
        shown = " ".join(f'{name}:"{value}"' for name, value in entry._asdict().items() if value)
        _, _, reason = str(error).partition("Reason: ")
        raise Refused("invalid_tuple", f"Invalid tuple '{shown}'. Reason: {reason}") from None


def _contextual(body: Mapping[str, Any]) -> list[Tuple]:
    return [_tuple(key) for key in body.get("contextual_tuples", {}).get("tuple_keys", [])]


def _tuple(key: Mapping[str, Any]) -> Tuple:
    return Tuple(key.get("user", ""), key.get("relation", ""), key.get("object", ""))


def _decided_by(store: str, model: Mapping[str, Any]) -> dict[str, str]:
    return {"openfga-store-id": store, "openfga-authorization-model-id": model["id"]}


def _error(status: int, code: str, message: str) -> Response:
    return Response({"code": code, "message": message}, status)
