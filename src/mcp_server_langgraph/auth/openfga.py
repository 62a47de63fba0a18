"""Who may do what: checks and writes of OpenFGA, and what is decided while it cannot be asked.

In an outage, in this order: a critical action is denied; the last known decision on the same question stands if it
is fresh; then an action that is not critical is allowed, with a loud warning, where `fail_mode` is "open" and the
outage is proven by what no single caller can bring about (see `_outage`); everything else is denied. A caller's own
doing (a malformed question, its deadline, too many checks at once) is no outage and allows nothing; nor does a
bug, nor an unauthenticated caller. With the resilience switch off there is only: denied.

Checks only read, and are retried as the pipeline says. Writes never are: their tuples make them repeatable (what is
there already is ignored), but a repetition that arrives late could restore what somebody has revoked in between.
So a write whose answer was lost is reported, and whoever sent it decides.

Errors: RequestRejected, AuthorizationUnavailable (see `authorization`).
"""

import asyncio
import logging
import math
import re
from collections.abc import Iterable
from typing import Any, Final, Literal

import httpx2

from mcp_server_langgraph.auth._last_known import LastKnown
from mcp_server_langgraph.auth._openfga_api import OpenFGAApi, RelationTuple, refusal
from mcp_server_langgraph.auth._outage import OutageEvidence
from mcp_server_langgraph.auth._recovery import CircuitCloser, Recovery
from mcp_server_langgraph.auth.authorization import (
    AuthorizationError,
    AuthorizationUnavailable,
    Decision,
    RequestRejected,
)
from mcp_server_langgraph.resilience import (
    Fallback,
    Hedge,
    Kind,
    Pipeline,
    Rejected,
    Retry,
    Rung,
    classify,
    timeout,
)
from mcp_server_langgraph.resilience.fallback import NOTHING

__all__ = [
    "AuthorizationError",
    "AuthorizationUnavailable",
    "Decision",
    "OpenFGAAuthorizer",
    "RelationTuple",
    "RequestRejected",
]

_log = logging.getLogger(__name__)

# Who has something to fall back on waits this long, retries included; the others as long as the pipeline lets them.
_PATIENCE: Final = 0.5
_PROBE_TIMEOUT: Final = 0.4
_PROBE_INTERVAL: Final = 1.0
_ENTITY: Final = re.compile(r"[^\s:#]+:[^\s]+")
_NOBODY: Final = frozenset({"", "*", "anonymous", "None", "unauthenticated"})


class OpenFGAAuthorizer:
    """Asks the store at `api_url`, guarded by `pipeline`.

    `model_id` None: the store's latest model. `decision_max_age`: seconds for which a decision may stand in for a new
    one. `principals_needed`: how many different users an outage must have met before anything is allowed unchecked.
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
        decision_max_age: float = 300.0,
        principals_needed: int = 3,
    ) -> None:
        self._api = OpenFGAApi(api_url, store_id, model_id)
        self._pipeline = pipeline
        self._fail_open = fail_mode == "open"
        self._known = LastKnown(max_age=decision_max_age)
        self._evidence = OutageEvidence(principals_needed=principals_needed)
        self._recovery = Recovery("openfga probe", self._probe)
        self._circuit = CircuitCloser(pipeline)
        self._probed_at = -math.inf
        ladder = Fallback(
            Rung(self._last_known, source="last known decision", with_error=True),
            Rung(self._unchecked, source="fail-open: permission not checked"),
        )
        self._checks = Pipeline(pipeline.name, ladder, operation="openfga.check")
        never = Retry(kind=Kind.NON_IDEMPOTENT)
        guards = [policy for policy in pipeline.policies if not isinstance(policy, (Fallback, Hedge))]
        same = [never if isinstance(policy, Retry) else policy for policy in guards]
        self._writes = Pipeline(pipeline.name, *same, operation="openfga.write")

    async def check(self, user: str, relation: str, object: str, *, critical: bool = False) -> Decision:  # noqa: A002
        """Whether `user` ("type:id") has `relation` to `object` ("type:id"); `critical`: never allow it unchecked.

        Raises RequestRejected for a question that OpenFGA cannot answer, and TimedOut if the caller's own deadline
        passes meanwhile.
        """
        question = _well_formed(RelationTuple(user, relation, object))
        try:
            return await self._checks.call(self._ask, question, critical)
        except httpx2.HTTPStatusError as error:
            return self._refused(error)
        except Exception as error:
            verdict = classify(error)
            if not verdict.unavailable and not isinstance(error, Rejected):
                raise
            _log.warning("denied, because OpenFGA cannot be asked (%s): %s", type(error).__name__, question)
            reason = f"OpenFGA cannot be asked ({type(error).__name__})"
            wait = error.retry_after if isinstance(error, Rejected) else verdict.retry_after
            return Decision(allowed=False, degraded=True, reason=reason, retry_after=wait)

    async def write(
        self, tuples: Iterable[tuple[str, str, str]] = (), deletes: Iterable[tuple[str, str, str]] = ()
    ) -> None:
        """Write and delete relations (user, relation, object), all or nothing. Repeating it changes nothing more.

        Raises RequestRejected, AuthorizationUnavailable.
        """
        added = [_well_formed(RelationTuple(*entry)) for entry in tuples]
        removed = [_well_formed(RelationTuple(*entry)) for entry in deletes]
        if not added and not removed:
            return
        try:
            await self._writes.call(self._api.write, added, removed)
        except httpx2.HTTPStatusError as error:
            if error.response.status_code == 400:
                raise RequestRejected(refusal(error)) from error
            raise AuthorizationUnavailable("OpenFGA did not write", classify(error).retry_after) from error
        except Exception as error:
            verdict = classify(error)
            if not verdict.unavailable and not isinstance(error, Rejected):
                raise
            raise AuthorizationUnavailable("OpenFGA may not have written", verdict.retry_after) from error
        finally:
            self._known.forget()

    async def aclose(self) -> None:
        """Stop probing and give the connections back."""
        await self._recovery.stop()
        await self._api.aclose()

    # With OpenFGA

    async def _ask(self, question: RelationTuple, critical: bool) -> Decision:
        async with timeout(self._patience(question, critical), name=self._pipeline.name):
            allowed = await self._pipeline.call(self._request, question)
        self._known.remember(question, allowed, _now())
        return Decision(allowed)

    def _patience(self, question: RelationTuple, critical: bool) -> float | None:
        if critical or self._pipeline.site.bypassed:
            return None
        return _PATIENCE if self._fail_open or self._known.recall(question, _now()) else None

    async def _request(self, question: RelationTuple) -> bool:
        try:
            allowed = await self._api.check(question)
        except httpx2.HTTPStatusError as error:
            if error.response.status_code < 500:
                self._evidence.answered()
            raise
        self._evidence.answered()
        self._recovery.hurry()
        return allowed

    def _refused(self, error: httpx2.HTTPStatusError) -> Decision:
        """OpenFGA answered, but not the question."""
        status = error.response.status_code
        if status == 400:
            raise RequestRejected(refusal(error)) from error
        if status == 429 or status >= 500:
            wait = classify(error).retry_after
            reason = "OpenFGA is too busy" if status == 429 else f"OpenFGA cannot be asked (status {status})"
            return Decision(allowed=False, degraded=True, reason=reason, retry_after=wait)
        _log.error("OpenFGA refuses this server: %s", refusal(error))
        return Decision(allowed=False, degraded=True, reason=f"OpenFGA refuses this server (status {status})")

    # Without OpenFGA: plain functions, so that they can answer even after our own time is up

    def _last_known(self, error: Exception, question: RelationTuple, critical: bool) -> Any:
        self._witness(question.user)
        known = None if critical else self._known.recall(question, _now())
        if known is None:
            return NOTHING
        allowed, age = known
        return Decision(
            allowed, degraded=True, reason=f"last known decision ({type(error).__name__})", age=age
        )

    def _unchecked(self, question: RelationTuple, critical: bool) -> Any:
        permitted = self._fail_open and not critical and _is_authenticated(question.user)
        if not permitted or not self._evidence.is_outage(_now()):
            return NOTHING
        _log.warning("ALLOWED WITHOUT A CHECK, because OpenFGA is down: %s", question)
        return Decision(
            allowed=True, degraded=True, reason="fail-open: OpenFGA is down, permission not checked"
        )

    def _witness(self, user: str) -> None:
        if _is_authenticated(user):
            self._evidence.failed(user, _now())
        if _now() - self._probed_at >= _PROBE_INTERVAL and self._recovery.start():
            self._recovery.hurry()

    async def _probe(self) -> None:
        """Ask something of our own, past breaker and bulkhead. Raises while OpenFGA is down."""
        self._probed_at = _now()
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT):
                await self._api.probe()
        except Exception as error:
            if not isinstance(error, httpx2.HTTPStatusError) or error.response.status_code >= 500:
                if classify(error).unavailable:
                    self._evidence.probe_failed(_now())
                raise
        self._evidence.answered()
        self._circuit.close()


def _well_formed(entry: RelationTuple) -> RelationTuple:
    if _ENTITY.fullmatch(entry.user) and entry.relation and _ENTITY.fullmatch(entry.object):
        return entry
    raise RequestRejected(f"not a relation of a user type:id to an object type:id: {tuple(entry)!r:.300}")


def _is_authenticated(user: str) -> bool:
    return user.partition(":")[2] not in _NOBODY


def _now() -> float:
    return asyncio.get_running_loop().time()
