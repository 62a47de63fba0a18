"""Whether OpenFGA's store and model are what this server needs, and which model decides.

A model that went missing, or lost a relation, is told by OpenFGA with the same status as a caller's nonsense; a store
that was deleted may go on answering from caches (OpenFGA 1.22 does). So both are looked up: at start, once a minute
while there is traffic, and whenever an answer makes us doubt.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Collection
from typing import Any, Final, NoReturn

import httpx2

from mcp_server_langgraph.auth._openfga_api import Model, OpenFGAApi
from mcp_server_langgraph.auth._openfga_questions import Question
from mcp_server_langgraph.auth._openfga_refusals import refusal, token_refused
from mcp_server_langgraph.auth._recovery import Recovery
from mcp_server_langgraph.auth.authorization import AuthorizationError, ModelMismatch, TokenRefused

__all__ = ["ModelWatch"]

_log = logging.getLogger(__name__)

_LOOK_AGAIN: Final = 60.0
_DOUBT_AGAIN: Final = 1.0


class ModelWatch:
    """`needed`: relations that the model must have, of one type ("service#can_chat") or of any ("can_delete").
    `changed` is called when another model decides.

    `problem`: what is wrong with store or model, None where nothing is known to be. `gone`: nothing can be decided at
    all. `reached`: OpenFGA has answered since the start.

    A refused token is looked into as well: one refusal may be a caller's doing (a firewall before OpenFGA that takes
    offence at an id), one of our look is not.
    """

    def __init__(
        self, read: OpenFGAApi, pinned: str | None, needed: Collection[str], changed: Callable[[], None]
    ) -> None:
        self._api = read
        read.saw_model = self.saw
        self._pinned = pinned
        self._needed = frozenset(needed)
        self._changed = changed
        self._looking = Recovery("openfga model", self._look_until_sure)
        self._looked_at = -math.inf
        self._first: str | None = None
        self._doubted = False
        self._fitted = False
        self._model: Model | None = None
        self._refusals = self._refusals_refuted = 0
        self.model_id: str | None = None
        self.problem: str | None = None
        self.gone = False
        self.reached = False
        self.verified = False

    def start(self) -> None:
        """Look in the background, until store and model are what they should be; then once a minute, with traffic."""
        self.doubt()

    async def stop(self) -> None:
        await self._looking.stop()

    def doubt(self) -> None:
        """Something that OpenFGA said does not fit what is known of its model."""
        self._doubted = True
        if self._looking.start():
            self._looking.hurry()

    def refused(self) -> None:
        """OpenFGA refused a request because of our token, as it seems."""
        self._refusals += 1
        self.doubt()

    @property
    def refuses_us(self) -> bool:
        """Whether a request was refused so, and no look since has found our token to be good."""
        return self._refusals > self._refusals_refuted

    def answered(self) -> None:
        """OpenFGA answered a question."""
        self.reached = True
        if math.isfinite(self._looked_at) and _now() - self._looked_at > _LOOK_AGAIN:
            self.doubt()

    def saw(self, model_id: str) -> None:
        """This model decided."""
        before = self.model_id
        # Ids are made in the order of time. A replica that has not heard of the newest yet does not change it back.
        if before is not None and model_id <= before:
            return
        self.model_id = model_id
        if before is None:
            self._first = model_id
            return
        _log.warning("OpenFGA decides by another model than before: %s, which was %s", model_id, before)
        self._changed()
        self.doubt()

    async def look(self) -> None:
        """Read store and model. Raises ModelMismatch, TokenRefused, and what the client raises where nobody answers."""
        refusals = self._refusals
        try:
            await self._api.probe()
            model = await self._api.model()
        except httpx2.HTTPStatusError as error:
            if error.response.status_code == 429 or error.response.status_code >= 500:
                raise
            if refused := token_refused(error):
                # Not gone: each question says itself when OpenFGA accepts us again.
                self._is_wrong(str(refused), gone=False, kind=TokenRefused)
            self._is_wrong(f"store or model cannot be read ({refusal(error)})", gone=True)
        else:
            self._refusals_refuted = refusals
            self._judge(model)

    def require(self) -> None:
        """Raises ModelMismatch while store or model are known to be gone."""
        if self.gone:
            raise ModelMismatch(self.problem)

    def knows(self, question: Question) -> bool:
        """Whether the model, as far as it was read, has what the question names."""
        model = self._model
        user_type = question.user.partition(":")[0]
        relation = f"{question.object_type}#{question.relation}"
        return model is None or (user_type in model.types and relation in model.relations)

    def facts(self) -> dict[str, Any]:
        """For readiness: which model decides, whether it was verified, and what is wrong."""
        facts: dict[str, Any] = {"model": self.model_id or self._pinned, "model_verified": self.verified}
        if self._first is not None and self._first != self.model_id:
            facts["model_at_start"] = self._first
        if self.problem is not None:
            facts["problem"] = self.problem
            # Who never fitted was configured wrongly: better not served at all. Who did serves what is still allowed.
            facts["unusable"] = not self._fitted
        return facts

    async def _look_until_sure(self) -> None:
        """Look, and again where doubt came up meanwhile: what was read may be of the time before."""
        while self._doubted:
            await asyncio.sleep(max(0.0, self._looked_at + _DOUBT_AGAIN - _now()))
            self._looked_at = _now()
            self._doubted = False
            try:
                await self.look()
            except Exception:
                self._doubted = True
                raise

    def _judge(self, model: Model | None) -> None:
        self.reached = True
        if model is None:
            self._is_wrong("the store has no authorization model", gone=True)
            return
        self.saw(model.id)
        self._model = model
        missing = sorted(name for name in self._needed if not model.has(name))
        if missing:
            self._is_wrong(f"model {model.id} has no relation {', '.join(missing)}", gone=False)
            return
        if self.problem is not None:
            _log.warning("OpenFGA's store and model fit again (model %s)", model.id)
        self.problem, self.gone, self.verified, self._fitted = None, False, True, True

    def _is_wrong(
        self, problem: str, *, gone: bool, kind: type[AuthorizationError] = ModelMismatch
    ) -> NoReturn:
        self.reached = True
        if problem != self.problem:
            _log.error("OPENFGA DOES NOT FIT THIS SERVER, so what needs it is denied: %s", problem)
            self._changed()
        self.problem, self.gone, self.verified = problem, gone, False
        raise kind(problem)


def _now() -> float:
    return asyncio.get_running_loop().time()
