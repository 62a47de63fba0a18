"""What an OpenFGA in memory keeps: stores, their models and their tuples."""

from __future__ import annotations

import datetime
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tests.support.openfga_rules import InvalidTuple, Tuple, check_deleted, check_written
from tests.support.openfga_shapes import Refused

__all__ = ["Stores"]

_ULID_LETTERS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_MOST_IN_A_WRITE: Final = 100


class Stores:
    """All of them, by id. A store that nobody has created holds nothing, and no model: OpenFGA does not look."""

    def __init__(self) -> None:
        self._stores: dict[str, dict[str, Any]] = {}
        self._models: dict[str, dict[str, dict[str, Any]]] = {}
        self._tuples: dict[str, dict[Tuple, str]] = {}

    def create(self, name: str) -> dict[str, Any]:
        store = {"id": _ulid(), "name": name, "created_at": _now(), "updated_at": _now()}
        self._stores[store["id"]] = store
        self._models[store["id"]] = {}
        self._tuples[store["id"]] = {}
        return store

    def get(self, store: str) -> dict[str, Any] | None:
        return self._stores.get(store)

    def all(self) -> list[dict[str, Any]]:
        return [{**store, "deleted_at": None} for store in self._stores.values()]

    def add_model(self, store: str, model: Mapping[str, Any]) -> str:
        """Its id."""
        name = _ulid()
        self._models[store][name] = {"id": name, **model}
        return name

    def models(self, store: str) -> list[dict[str, Any]]:
        return list(self._models.get(store, {}).values())

    def model(self, store: str, wanted: str | None) -> dict[str, Any]:
        """The one that is wanted, or the latest. Raises Refused if there is none."""
        own = self._models.get(store, {})
        if wanted and wanted not in own:
            raise Refused("authorization_model_not_found", f"Authorization Model '{wanted}' not found")
        if not own:
            raise Refused(
                "latest_authorization_model_not_found", f"No authorization models found for store '{store}'"
            )
        return own[wanted] if wanted else list(own.values())[-1]

    def tuples(self, store: str) -> Sequence[Tuple]:
        return list(self._tuples.get(store, {}))

    def put(self, store: str, entry: Tuple) -> None:
        self._tuples[store].setdefault(entry, _now())

    def drop(self, store: str, entry: Tuple) -> None:
        self._tuples[store].pop(entry, None)

    def read(self, store: str, wanted: Mapping[str, str] | None) -> list[dict[str, Any]]:
        """What a read answers to its `tuple_key`; all that there is where None."""
        if wanted is not None and not _is_readable(wanted):
            raise Refused(
                "validation_error",
                "the 'tuple_key' field was provided but the object type field is required and both the object id and "
                "user cannot be empty",
            )
        return [
            {"key": {**entry._asdict(), "condition": None}, "timestamp": written}
            for entry, written in self._tuples.get(store, {}).items()
            if _matches(entry, wanted or {})
        ]

    def write(self, store: str, model: Mapping[str, Any], body: Mapping[str, Any]) -> None:
        """Delete and add what the body of a write says, all or nothing. Raises Refused."""
        added, removed = _keys(body, "writes"), _keys(body, "deletes")
        if not added and not removed:
            said = "Invalid input. Make sure you provide at least one write, or at least one delete"
            raise Refused("invalid_write_input", said)
        _check_write(model, added, removed)
        ignore_present = _option(body, "writes", "on_duplicate")
        ignore_absent = _option(body, "deletes", "on_missing")
        kept = self._tuples.get(store, {})
        _refuse(
            "delete a tuple which does not exist",
            [one for one in removed if one not in kept and not ignore_absent],
        )
        _refuse(
            "write a tuple which already exists", [one for one in added if one in kept and not ignore_present]
        )
        for entry in removed:
            self.drop(store, entry)
        for entry in added:
            self.put(store, entry)


def _check_write(model: Mapping[str, Any], added: Sequence[Tuple], removed: Sequence[Tuple]) -> None:
    try:
        for entry in added:
            check_written(model, entry)
        for entry in removed:
            check_deleted(entry)
    except InvalidTuple as error:
        raise Refused("validation_error", str(error)) from None
    seen: set[Tuple] = set()
    for entry in (*removed, *added):
        if entry in seen:
            said = f"duplicate tuple in write: {_shown(entry)}"
            raise Refused("cannot_allow_duplicate_tuples_in_one_request", said)
        seen.add(entry)
    if len(seen) > _MOST_IN_A_WRITE:
        said = f"The number of write operations exceeds the allowed limit of {_MOST_IN_A_WRITE}"
        raise Refused("exceeded_entity_limit", said)


def _option(body: Mapping[str, Any], part: str, name: str) -> bool:
    value = body.get(part, {}).get(name, "")
    if value not in {"", "error", "ignore"}:
        raise Refused("validation_error", f"invalid {name} option: {value}")
    return value == "ignore"


def _refuse(what: str, conflicting: Sequence[Tuple]) -> None:
    if conflicting:
        said = "tuple to be written already existed or the tuple to be deleted did not exist"
        raise Refused("write_failed_due_to_invalid_input", f"cannot {what}: {_shown(conflicting[0])}: {said}")


def _shown(entry: Tuple) -> str:
    return f"user: '{entry.user}', relation: '{entry.relation}', object: '{entry.object}'"


def _keys(body: Mapping[str, Any], part: str) -> list[Tuple]:
    keys = body.get(part, {}).get("tuple_keys", [])
    return [Tuple(key.get("user", ""), key.get("relation", ""), key.get("object", "")) for key in keys]


def _is_readable(wanted: Mapping[str, str]) -> bool:
    kind, separator, name = wanted.get("object", "").partition(":")
    return bool(kind and separator and (name or wanted.get("user")))


def _matches(entry: Tuple, wanted: Mapping[str, str]) -> bool:
    target = wanted.get("object", "")
    if not (entry.object.startswith(target) if target.endswith(":") else target in ("", entry.object)):
        return False
    return all(wanted.get(name) in (None, "", getattr(entry, name)) for name in ("user", "relation"))


def _ulid() -> str:
    clock = int(time.time() * 1000)
    head = "".join(_ULID_LETTERS[clock >> (5 * place) & 31] for place in range(9, -1, -1))
    return head + "".join(secrets.choice(_ULID_LETTERS) for _ in range(16))


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
