"""What is decided while OpenFGA cannot be asked, on what evidence, and when it can be asked again.

In this order: a critical action is denied; the last known decision on the same question stands if it is fresh; then
an action that is not critical is allowed, with a loud warning, if failing open is configured and the outage is proven
by what no caller can bring about (`_outage`); everything else is denied. Nothing is allowed unchecked before OpenFGA
has answered once since the start (a wrong address is no outage), while its store or model is known to be wrong or
our token to be refused, for what the model does not have, or for who is not one authenticated user.

Plain functions, so that they can answer even after our own time is up.
"""

import asyncio
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import httpx2

from mcp_server_langgraph.auth._last_known import LastKnown
from mcp_server_langgraph.auth._loop_lag import LoopLag
from mcp_server_langgraph.auth._openfga_api import OpenFGAApi
from mcp_server_langgraph.auth._openfga_model import ModelWatch
from mcp_server_langgraph.auth._openfga_questions import Question
from mcp_server_langgraph.auth._openfga_refusals import token_refused
from mcp_server_langgraph.auth._outage import OutageEvidence
from mcp_server_langgraph.auth._recovery import CircuitCloser, Recovery
from mcp_server_langgraph.auth.authorization import Decision
from mcp_server_langgraph.resilience import Pipeline, classify

__all__ = ["Standby"]

_log = logging.getLogger(__name__)

_PROBE_TIMEOUT: Final = 0.4
_PROBE_INTERVAL: Final = 1.0
_NOBODY: Final = frozenset({"", "*", "anonymous", "None", "unauthenticated"})


class Standby:
    """Stands in for OpenFGA. `principals_needed`: see `OutageEvidence`."""

    def __init__(
        self,
        api: OpenFGAApi,
        pipeline: Pipeline,
        model: ModelWatch,
        known: LastKnown,
        *,
        fail_open: bool,
        principals_needed: int,
    ) -> None:
        self._api = api
        self._model = model
        self._known = known
        self._fail_open = fail_open
        self._evidence = OutageEvidence(principals_needed=principals_needed)
        self._recovery = Recovery("openfga probe", self._probe)
        self._circuit = CircuitCloser(pipeline)
        self._probed_at = -math.inf

    async def stop(self) -> None:
        await self._recovery.stop()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Around a request: whatever OpenFGA answers takes the evidence of its outage back."""
        try:
            yield
        except httpx2.HTTPStatusError as error:
            if error.response.status_code < 500:
                self._evidence.answered()
            raise
        self._evidence.answered()
        self._recovery.hurry()
        self._model.answered()

    def has_answer(self, question: Question) -> bool:
        """Whether somebody who waits for this decision would have something else soon."""
        return self._fail_open or self._known.recall(question, _now()) is not None

    def last_known(self, question: Question, error: Exception) -> Decision | None:
        known = self._known.recall(question, _now())
        if known is None:
            return None
        allowed, age = known
        reason = f"last known decision ({type(error).__name__})"
        return Decision(allowed, degraded=True, reason=reason, age=age)

    def unchecked(self, question: Question) -> Decision | None:
        known_good = self._model.reached and self._model.problem is None and not self._model.refuses_us
        if not (self._fail_open and known_good and self._evidence.is_outage(_now())):
            return None
        if not (_is_one_user(question.user) and self._model.knows(question)):
            return None
        _log.warning("ALLOWED WITHOUT A CHECK, because OpenFGA is down: %s", question)
        return Decision(True, degraded=True, reason="fail-open: OpenFGA is down, permission not checked")

    def witness(self, user: str) -> None:
        """A question of this user found OpenFGA unavailable. One call is one witness, however much it asks."""
        if _is_one_user(user):
            self._evidence.failed(user, _now())
        if _now() - self._probed_at >= _PROBE_INTERVAL and self._recovery.start():
            self._recovery.hurry()

    async def _probe(self) -> None:
        """Ask something of our own, past breaker and bulkhead. Raises while OpenFGA is down."""
        self._probed_at = _now()
        with LoopLag() as lag:
            try:
                async with asyncio.timeout(_PROBE_TIMEOUT):
                    await self._api.probe()
            except Exception as error:
                if isinstance(error, httpx2.HTTPStatusError) and error.response.status_code < 500:
                    self._evidence.answered()
                    if token_refused(error):
                        self._model.refused()
                elif _is_outage(error, lag.seconds):
                    self._evidence.probe_failed(_now())
                raise
        self._evidence.answered()
        self._circuit.close()


def _is_outage(error: Exception, lag: float) -> bool:
    """Whether a failed probe speaks of OpenFGA: a late answer does not if we were too busy to hear it.

    Else who can load this process enough would be let in by it.
    """
    late = isinstance(error, (TimeoutError, httpx2.TimeoutException))
    return classify(error).unavailable and not (late and lag > _PROBE_TIMEOUT / 2)


def _is_one_user(user: str) -> bool:
    """Neither everybody, nor a set of users, nor one whom nobody has authenticated."""
    return "#" not in user and user.partition(":")[2] not in _NOBODY


def _now() -> float:
    return asyncio.get_running_loop().time()
