"""A model, tuples and questions with which answers of OpenFGA are compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hypothesis import strategies as st

__all__ = ["MODEL", "SOUND", "any_key", "any_type", "sound_key"]

_USER: Final[dict[str, Any]] = {"type": "user"}
_MEMBERS: Final[dict[str, Any]] = {"type": "group", "relation": "member"}


def _this(*allowed: Mapping[str, Any]) -> dict[str, Any]:
    return {"directly_related_user_types": list(allowed)}


def _computed(relation: str) -> dict[str, Any]:
    return {"computedUserset": {"relation": relation}}


def _from(relation: str, tupleset: str) -> dict[str, Any]:
    return {"tupleToUserset": {"tupleset": {"relation": tupleset}, "computedUserset": {"relation": relation}}}


# Every way to define a relation: direct, wildcard, user set, computed, inherited, "and", "or", "but not".
MODEL: Final[dict[str, Any]] = {
    "schema_version": "1.1",
    "type_definitions": [
        _USER,
        {
            "type": "group",
            "relations": {"member": {"this": {}}},
            "metadata": {"relations": {"member": _this(_USER, _MEMBERS)}},
        },
        {
            "type": "folder",
            "relations": {
                "parent": {"this": {}},
                "viewer": {"union": {"child": [{"this": {}}, _from("viewer", "parent")]}},
            },
            "metadata": {
                "relations": {"parent": _this({"type": "folder"}), "viewer": _this(_USER, _MEMBERS)}
            },
        },
        {
            "type": "document",
            "relations": {
                "parent": {"this": {}},
                "owner": {"this": {}},
                "blocked": {"this": {}},
                "reader": {"union": {"child": [{"this": {}}, _computed("owner"), _from("viewer", "parent")]}},
                "viewer": {"difference": {"base": _computed("reader"), "subtract": _computed("blocked")}},
                "editor": {"intersection": {"child": [_computed("viewer"), _computed("owner")]}},
            },
            "metadata": {
                "relations": {
                    "parent": _this({"type": "folder"}),
                    "owner": _this(_USER),
                    "blocked": _this(_USER, _MEMBERS),
                    "reader": _this(_USER, {"type": "user", "wildcard": {}}, _MEMBERS),
                }
            },
        },
    ],
}

# user relation object, as may be written. Groups and folders form circles.
SOUND: Final = [
    dict(zip(("user", "relation", "object"), line.split(), strict=True))
    for line in """
        user:a owner document:1
        user:b owner document:2
        user:* reader document:2
        user:a reader document:2
        user:b reader document:1
        group:x#member reader document:1
        user:a blocked document:1
        group:x#member blocked document:2
        user:b member group:x
        user:a member group:y
        group:y#member member group:x
        group:x#member member group:y
        user:a viewer folder:g
        group:y#member viewer folder:f
        folder:f parent document:1
        folder:g parent folder:f
        folder:f parent folder:g
    """.strip().splitlines()
]
sound_key = st.sampled_from(SOUND)

# Names that the model knows, some that it does not, and some that are no names.
_USERS: Final = (
    "user:a user:b user:* group:x#member group:y#member folder:f folder:g group:x group:* folder:*"
)
_MORE: Final = "folder:f#viewer document:1#reader group:x#member#member robot:r user:a#member group:x#nobody"
_NO_USERS: Final = ("user", "user:", ":a", "", "a", "*", "user:a#", "user:a b", "user:a:b", "u" * 600)
_OBJECTS: Final = "document:1 document:2 folder:f folder:g group:x group:y user:a robot:r"
_NO_OBJECTS: Final = (
    "document",
    "document:",
    ":1",
    "",
    "document:*",
    "document:1#reader",
    "document:1 2",
    "document:1:2",
)
_RELATIONS: Final = ("parent", "owner", "blocked", "reader", "viewer", "editor", "member")
_NO_RELATIONS: Final = ("nothing", "", "own er", "owner#x", "r" * 60)

users = st.sampled_from([*_USERS.split(), *_MORE.split()]) | st.sampled_from(_NO_USERS)
objects = st.sampled_from(_OBJECTS.split()) | st.sampled_from(_NO_OBJECTS)
relations = st.sampled_from(_RELATIONS) | st.sampled_from(_NO_RELATIONS)
any_type = st.sampled_from(("document", "folder", "group", "user", "robot", "", "document:1"))
any_key = sound_key | st.fixed_dictionaries({"user": users, "relation": relations, "object": objects})
