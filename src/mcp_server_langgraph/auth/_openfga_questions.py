"""What OpenFGA is asked and told: relations, conditions on them, and questions with what is true for one request only.

All of it can be compared and hashed: a decision may stand in only for exactly the same question.

Errors: RequestRejected for what OpenFGA could not take. Its own patterns (1.22) are applied here, so that nonsense
costs no request; where they differ, over blanks and control
characters, ours are the stricter ones.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from mcp_server_langgraph.auth.authorization import RequestRejected

__all__ = [
    "Condition",
    "Entry",
    "Question",
    "RelationTuple",
    "check_parts",
    "circumstances",
    "relation_tuple",
    "type_name",
]

_NAME: Final = re.compile(r"[^\s:#@\x00-\x1f\x7f]+")
_OBJECT: Final = re.compile(rf"{_NAME.pattern}:[^\s:#\x00-\x1f\x7f]+")
_USER: Final = re.compile(rf"{_OBJECT.pattern}(#{_NAME.pattern})?")
_LONGEST_USER: Final = 512
_LONGEST_OBJECT: Final = 256
_LONGEST_RELATION: Final = 50
_LONGEST_TYPE: Final = 254


class Condition(NamedTuple):
    """A condition of the model by `name`; `context`: the parameters that are stored with the relation, as JSON."""

    name: str
    context: str = "{}"

    @classmethod
    def of(cls, name: str, context: Mapping[str, Any] | None = None) -> "Condition":
        """Raises RequestRejected where the context is not JSON."""
        return cls(name, _canonical(context or {}))


class RelationTuple(NamedTuple):
    """`user` has `relation` to `object`, as in ("user:anne", "viewer", "document:1"), perhaps on a condition."""

    user: str
    relation: str
    object: str
    condition: Condition | None = None

    def key(self) -> dict[str, Any]:
        """As OpenFGA wants it."""
        key: dict[str, Any] = {"user": self.user, "relation": self.relation, "object": self.object}
        if self.condition is not None:
            key["condition"] = {
                "name": self.condition.name,
                "context": json.loads(self.condition.context),
            }
        return key

    def edge(self) -> dict[str, str]:
        """The same without its condition: how a relation is asked for, and deleted."""
        return {"user": self.user, "relation": self.relation, "object": self.object}


Entry = RelationTuple | tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Question:
    """Whether `user` has `relation` to `object`, if `contextual_tuples` held and with the `context` of conditions.

    `user`: "type:id", "type:*" or "type:id#relation"; `object`: "type:id". Make it with `of`, which checks it.
    """

    user: str
    relation: str
    object: str
    contextual_tuples: tuple[RelationTuple, ...] = ()
    context: str = ""

    @classmethod
    def of(
        cls,
        user: str,
        relation: str,
        object: str,  # noqa: A002
        contextual_tuples: Iterable[Entry] = (),
        context: Mapping[str, Any] | None = None,
    ) -> "Question":
        """Raises RequestRejected. The order of tuples and of the context's names makes no other question."""
        check_parts(user, relation, object)
        extra = sorted({relation_tuple(entry) for entry in contextual_tuples}, key=repr)
        return cls(user, relation, object, tuple(extra), _canonical(context) if context else "")

    @property
    def object_type(self) -> str:
        return self.object.partition(":")[0]

    def body(self) -> dict[str, Any]:
        """As OpenFGA wants it."""
        key = {"user": self.user, "relation": self.relation, "object": self.object}
        return {"tuple_key": key, **circumstances(self.contextual_tuples, self.context)}

    def __str__(self) -> str:
        more = " (with contextual tuples or context)" if self.contextual_tuples or self.context else ""
        return f"{self.user!r} {self.relation!r} {self.object!r}{more}"


def circumstances(tuples: Iterable[RelationTuple], context: str) -> dict[str, Any]:
    """What holds for one request only, as OpenFGA wants it."""
    body: dict[str, Any] = {}
    if keys := [entry.key() for entry in tuples]:
        body["contextual_tuples"] = {"tuple_keys": keys}
    if context:
        body["context"] = json.loads(context)
    return body


def relation_tuple(entry: Entry) -> RelationTuple:
    """The entry, checked. Raises RequestRejected."""
    made = entry if isinstance(entry, RelationTuple) else RelationTuple(*entry)
    check_parts(made.user, made.relation, made.object)
    return made


def check_parts(user: str, relation: str, object: str) -> None:  # noqa: A002
    """Raises RequestRejected unless all three have the form and length that OpenFGA takes."""
    fits = (
        _fits(user, _USER, _LONGEST_USER)
        and _fits(relation, _NAME, _LONGEST_RELATION)
        and _fits(object, _OBJECT, _LONGEST_OBJECT)
        and not object.endswith(":*")
    )
    if not fits:
        parts = (user, relation, object)
        raise RequestRejected(f"not a relation of a user type:id to an object type:id: {parts!r:.300}")


def type_name(name: str) -> str:
    """The name of a type, checked. Raises RequestRejected."""
    if not _fits(name, _NAME, _LONGEST_TYPE):
        raise RequestRejected(f"not the name of a type: {name!r:.300}")
    return name


def _fits(text: str, pattern: re.Pattern[str], longest: int) -> bool:
    return len(text) <= longest and pattern.fullmatch(text) is not None and _is_utf8(text)


def _is_utf8(text: str) -> bool:
    """A lone surrogate cannot be sent."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _canonical(context: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(
            dict(context), sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False
        )
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise RequestRejected(f"the context is not JSON: {error}") from error
    return text
