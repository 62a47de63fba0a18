"""What OpenFGA demands of a request before it looks at any model: lengths and characters of each field.

Patterns, names and messages are those of OpenFGA's protocol (its protobuf files), as version 1.22 answers over HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

__all__ = ["Refused", "check_shape"]


class Refused(Exception):
    """A request that OpenFGA answers with status 400: `code` and message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


_ULID: Final = r"^[ABCDEFGHJKMNPQRSTVWXYZ0-9]{26}$"
_TYPE: Final = r"^[^:#@\s]{1,254}$"
_RELATION: Final = r"^[^:#@\s]{1,50}$"
_OBJECT: Final = r"^[^\s]{2,256}$"
_CORRELATION: Final = r"^[\w\d-]{1,36}$"
_STORE_NAME: Final = r"^[a-zA-Z0-9\s\.\-\/^_&@]{3,64}$"
_INVALID: Final = "validation_error"

Complaint = tuple[str, str]
Complaints = Iterator[Complaint]

# Stands before what is wrong with a message in a message: OpenFGA tells the last such, and what comes after it.
_INSIDE: Final[Complaint] = ("", "")


def check_shape(request: str, ids: Sequence[str], body: Mapping[str, Any]) -> None:
    """Raise Refused unless the request, named as in OpenFGA's protocol, has the right shape.

    `ids`: those of its path, the store's first.
    """
    told: list[Complaint] = []
    for complaint in _of_request(request, ids, body):
        told = [] if complaint is _INSIDE else [*told, complaint]
    if told:
        raise Refused(told[0][0], "; ".join(message for _, message in told))


def _of_request(request: str, ids: Sequence[str], body: Mapping[str, Any]) -> Complaints:
    for name, value in zip(("StoreId", "Id"), ids, strict=False):
        yield from _pattern(f"{request}.{name}", value, _ULID)
    yield from _pattern(
        f"{request}.AuthorizationModelId", body.get("authorization_model_id", ""), _ULID, optional=True
    )
    yield from _OWN.get(request, _nothing)(request, body)


def _check(request: str, body: Mapping[str, Any]) -> Complaints:
    if "tuple_key" in body:
        yield from _inside(_asked(body["tuple_key"]))
    else:
        yield "tuple_key_value_not_specified", f"invalid {request}.TupleKey: value is required"
    yield from _contextual(request, body)


def _asked(key: Mapping[str, Any]) -> Complaints:
    yield from _pattern("CheckRequestTupleKey.User", key.get("user", ""), r"^[^\s]{2,512}$")
    yield from _pattern("CheckRequestTupleKey.Relation", key.get("relation", ""), _RELATION)
    yield from _pattern("CheckRequestTupleKey.Object", key.get("object", ""), _OBJECT)


def _contextual(_: str, body: Mapping[str, Any]) -> Complaints:
    yield from _each("TupleKey", body.get("contextual_tuples", {}).get("tuple_keys", []), _tuple_key)


def _batch_check(request: str, body: Mapping[str, Any]) -> Complaints:
    if not body.get("checks"):
        yield _INVALID, f"invalid {request}.Checks: value must contain at least 1 item(s)"
    yield from _each("BatchCheckItem", body.get("checks", []), _item)


def _item(name: str, item: Mapping[str, Any]) -> Complaints:
    yield from _check(name, item)
    yield from _pattern(f"{name}.CorrelationId", item.get("correlation_id", ""), _CORRELATION)


def _list_objects(request: str, body: Mapping[str, Any]) -> Complaints:
    yield from _pattern(f"{request}.Type", body.get("type", ""), _TYPE, code="type_invalid_pattern")
    yield from _pattern(f"{request}.Relation", body.get("relation", ""), _RELATION)
    if not 1 <= len(body.get("user", "").encode()) <= 512:
        yield _INVALID, f"invalid {request}.User: value length must be between 1 and 512 bytes, inclusive"
    yield from _contextual(request, body)


def _write(_: str, body: Mapping[str, Any]) -> Complaints:
    for part, name, message in (
        ("writes", "WriteRequestWrites", "TupleKey"),
        ("deletes", "WriteRequestDeletes", "TupleKeyWithoutCondition"),
    ):
        if part in body and not body[part].get("tuple_keys"):
            yield from (
                _INSIDE,
                (_INVALID, f"invalid {name}.TupleKeys: value must contain at least 1 item(s)"),
            )
        yield from _each(message, body.get(part, {}).get("tuple_keys", []), _tuple_key)


def _read(request: str, body: Mapping[str, Any]) -> Complaints:
    if not 1 <= body.get("page_size", 1) <= 100:
        yield "page_size_invalid", f"invalid {request}.PageSize: value must be inside range [1, 100]"


def _create_store(request: str, body: Mapping[str, Any]) -> Complaints:
    yield from _pattern(f"{request}.Name", body.get("name", ""), _STORE_NAME)


def _nothing(_: str, __: Mapping[str, Any]) -> Complaints:
    yield from ()


_OWN: Final[dict[str, Callable[[str, Mapping[str, Any]], Complaints]]] = {
    "CheckRequest": _check,
    "BatchCheckRequest": _batch_check,
    "ListObjectsRequest": _list_objects,
    "StreamedListObjectsRequest": _list_objects,
    "WriteRequest": _write,
    "ReadRequest": _read,
    "CreateStoreRequest": _create_store,
}


def _tuple_key(name: str, key: Mapping[str, Any]) -> Complaints:
    if len(key.get("user", "").encode()) > 512:
        yield _INVALID, f"invalid {name}.User: value length must be at most 512 bytes"
    yield from _pattern(f"{name}.Relation", key.get("relation", ""), _RELATION, optional=True)
    yield from _pattern(f"{name}.Object", key.get("object", ""), _OBJECT, optional=True)


def _each(
    name: str, keys: Iterable[Mapping[str, Any]], complain: Callable[[str, Mapping[str, Any]], Complaints]
) -> Complaints:
    for key in keys:
        yield from _inside(complain(name, key))


def _inside(complaints: Complaints) -> Complaints:
    found = list(complaints)
    yield from [_INSIDE, *found] if found else []


def _pattern(
    field: str, value: str, pattern: str, *, optional: bool = False, code: str = _INVALID
) -> Complaints:
    if not (optional and not value) and not re.search(pattern, value):
        shown = pattern.replace("\\", "\\\\")
        yield code, f'invalid {field}: value does not match regex pattern "{shown}"'
