"""Who may do what: OpenFGA's checks, batch checks, lists and writes, and what is decided while it cannot be asked.

In an outage a critical action is denied; for others the last known decision stands, and then they may be allowed with
a loud warning (`_openfga_standby` says on what evidence). A caller's own doing (a malformed question, its deadline,
too many checks at once) is no outage and allows nothing; nor does a bug, nor an unauthenticated caller, nor a store or
model that is missing, nor a token of ours that is refused. With the resilience switch off there is only: denied.

A list has nothing to stand in for it: a short one would look like a right one. So it is whole, or an error.

Checks and lists only read, and are retried as the pipeline says. Writes never are: their tuples make them repeatable
(what is there already is ignored), but a repetition that arrives late could restore what somebody has revoked in
between. So a write whose answer was lost is reported, and whoever sent it decides.

Errors: RequestRejected, ModelMismatch, AuthorizationUnavailable, ListingIncomplete, TokenRefused (see
`authorization`).
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

from mcp_server_langgraph.auth._last_known import LastKnown
from mcp_server_langgraph.auth._openfga_api import OpenFGAApi
from mcp_server_langgraph.auth._openfga_checks import Checks
from mcp_server_langgraph.auth._openfga_model import ModelWatch
from mcp_server_langgraph.auth._openfga_pipelines import attempt_clock
from mcp_server_langgraph.auth._openfga_questions import (
    Condition,
    Entry,
    Question,
    RelationTuple,
    relation_tuple,
    type_name,
)
from mcp_server_langgraph.auth._openfga_relations import Relations
from mcp_server_langgraph.auth._openfga_standby import Standby
from mcp_server_langgraph.auth.authorization import (
    AuthorizationError,
    AuthorizationUnavailable,
    Decision,
    ListingIncomplete,
    ModelMismatch,
    RequestRejected,
    TokenRefused,
)
from mcp_server_langgraph.resilience import Pipeline

__all__ = [
    "AuthorizationError",
    "AuthorizationUnavailable",
    "Condition",
    "Decision",
    "ListingIncomplete",
    "ModelMismatch",
    "OpenFGAAuthorizer",
    "Question",
    "RelationTuple",
    "RequestRejected",
    "TokenRefused",
]


class OpenFGAAuthorizer:
    """Asks the store at `api_url`, guarded by `pipeline`.

    `model_id` None: the store's latest model. `critical_relations`: names ("can_delete", or "document#can_delete")
    that are never allowed unchecked, nor from a cache. `needed_relations`: what `start` looks for in the model beside
    these ("service#can_chat"). `cache_seconds`: for how long OpenFGA's yes is given again without asking (0: never).
    `decision_max_age`: seconds for which a decision may stand in for a new one in an outage. `principals_needed`: how
    many different users an outage must have met before anything is allowed unchecked. `listing_deadline`: seconds
    after which OpenFGA itself cuts a list short (its --listObjects-deadline). `api_token`: one of the keys that
    OpenFGA wants (its --authn-preshared-keys), sent with every request; ValueError where it cannot be.

    Needs a running event loop when it is used; close it with `aclose`.
    """

    def __init__(
        self,
        api_url: str,
        store_id: str,
        model_id: str | None,
        pipeline: Pipeline,
        fail_mode: Literal["open", "closed"] = "open",
        *,
        critical_relations: Collection[str] = (),
        needed_relations: Collection[str] = (),
        cache_seconds: float = 0.0,
        decision_max_age: float = 300.0,
        principals_needed: int = 3,
        listing_deadline: float = 3.0,
        api_token: str | None = None,
    ) -> None:
        known = LastKnown(max_age=decision_max_age)
        api = OpenFGAApi(api_url, store_id, model_id, attempt_clock(pipeline), api_token)
        needed = {*critical_relations, *needed_relations}
        self._model = ModelWatch(api, model_id, needed, known.forget)
        self._standby = Standby(
            api,
            pipeline,
            self._model,
            known,
            fail_open=fail_mode == "open",
            principals_needed=principals_needed,
        )
        self._checks = Checks(
            api,
            pipeline,
            self._model,
            known,
            self._standby,
            critical=critical_relations,
            cache_seconds=cache_seconds,
        )
        self._relations = Relations(
            api,
            pipeline,
            self._model,
            known,
            self._standby,
            listing_deadline=listing_deadline,
        )

    def start(self) -> None:
        """Look in the background whether store, model and needed relations are there, until they are.

        From then on they are looked at again every minute in which OpenFGA decides something.
        """
        self._model.start()

    async def verify(self) -> None:
        """Look now. Raises ModelMismatch, TokenRefused, and what httpx2 raises where OpenFGA does not answer."""
        await self._model.look()

    def facts(self) -> dict[str, Any]:
        """For readiness: which model decides, whether it was verified, and what is wrong with it ("problem")."""
        return self._model.facts()

    async def check(
        self,
        user: str,
        relation: str,
        object: str,  # noqa: A002
        *,
        critical: bool = False,
        contextual_tuples: Iterable[Entry] = (),
        context: Mapping[str, Any] | None = None,
    ) -> Decision:
        """Whether `user` ("type:id") has `relation` to `object` ("type:id").

        `critical`: only OpenFGA's own answer of this moment counts, as for critical relations. `contextual_tuples`:
        relations that hold for this question only; `context`: parameters of the model's conditions. Neither may come
        from a caller unexamined: whoever chooses them chooses the answer.

        Raises RequestRejected for a question that OpenFGA cannot answer (ModelMismatch where it lacks what the
        question names), and TimedOut if the caller's own deadline passes meanwhile.
        """
        question = Question.of(user, relation, object, contextual_tuples, context)
        return await self._checks.check(question, critical)

    async def batch_check(
        self, questions: Iterable[Question | tuple[str, str, str]], *, critical: bool = False
    ) -> list[Decision]:
        """Decisions in the order of the questions; tuples are (user, relation, object).

        OpenFGA is asked 50 questions at a time, one request after the other, and no more once one was not answered.
        A question that it refuses is a denial with the reason, for that question alone. Raises RequestRejected before
        anything is asked where one has no form at all, and as `check` does.
        """
        asked = [one if isinstance(one, Question) else Question.of(*one) for one in questions]
        return await self._checks.batch_check(asked, critical)

    async def list_objects(
        self,
        user: str,
        relation: str,
        type: str,  # noqa: A002
        *,
        contextual_tuples: Iterable[Entry] = (),
        context: Mapping[str, Any] | None = None,
        consistent: bool = False,
    ) -> list[str]:
        """All objects of the `type` that `user` has `relation` to, in no order. `consistent`: past OpenFGA's caches.

        OpenFGA ends a list at its own deadline without a word. One that took so long is ListingIncomplete; where
        OpenFGA's deadline is shorter than `listing_deadline`, nobody can know.

        Raises RequestRejected, ModelMismatch, AuthorizationUnavailable, ListingIncomplete, TokenRefused.
        """
        about = Question.of(user, relation, f"{type_name(type)}:any", contextual_tuples, context)
        return await self._relations.list_objects(about, consistent)

    async def write(self, tuples: Iterable[Entry] = (), deletes: Iterable[Entry] = ()) -> None:
        """Write and delete relations (user, relation, object), all or nothing. Repeating it changes nothing more.

        OpenFGA takes 100 at once. A condition of a relation to delete is not looked at.

        Raises RequestRejected, ModelMismatch, AuthorizationUnavailable, TokenRefused.
        """
        added = [relation_tuple(entry) for entry in tuples]
        removed = [relation_tuple(entry) for entry in deletes]
        if not added and not removed:
            return
        await self._relations.write(added, removed)

    async def delete(self, tuples: Iterable[Entry]) -> None:
        """Delete relations; `write` without anything to write."""
        await self.write(deletes=tuples)

    async def aclose(self) -> None:
        """Stop probing and give the connections back."""
        await self._model.stop()
        await self._standby.stop()
        await self._relations.aclose()
