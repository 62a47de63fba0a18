"""Checks and batch checks: OpenFGA's own answer, a recent yes of it, or what stands in for it."""

import asyncio
import logging
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final

import httpx2

from mcp_server_langgraph.auth._http import UnusableReply
from mcp_server_langgraph.auth._last_known import LastKnown
from mcp_server_langgraph.auth._openfga_api import MOST_IN_A_BATCH, ItemError, OpenFGAApi
from mcp_server_langgraph.auth._openfga_model import ModelWatch
from mcp_server_langgraph.auth._openfga_questions import Question
from mcp_server_langgraph.auth._openfga_refusals import names_no_such, refusal, rejected, token_refused
from mcp_server_langgraph.auth._openfga_standby import Standby
from mcp_server_langgraph.auth.authorization import Decision, ModelMismatch
from mcp_server_langgraph.resilience import Fallback, Pipeline, Rejected, Rung, classify, timeout
from mcp_server_langgraph.resilience.fallback import NOTHING

__all__ = ["Checks"]

_log = logging.getLogger(__name__)

# Who has something to fall back on waits this long, retries included; the others as long as the pipeline lets them.
_PATIENCE: Final = 0.5

# What decides the rest of a batch, critical or not, once one request of it had no answer.
_Rest = Callable[[Question, bool], Decision]


class Checks:
    """Asks `api` through `pipeline`. `critical`: relations that nothing stands in for, neither cache nor `standby`.

    `cache_seconds`: how old a yes may be to be given again without asking.
    """

    def __init__(
        self,
        api: OpenFGAApi,
        pipeline: Pipeline,
        model: ModelWatch,
        known: LastKnown,
        standby: Standby,
        *,
        critical: Collection[str],
        cache_seconds: float,
    ) -> None:
        self._api = api
        self._pipeline = pipeline
        self._model = model
        self._known = known
        self._standby = standby
        self._critical = frozenset(critical)
        self._cache_seconds = cache_seconds
        one = Fallback(
            Rung(self._last_known, source="last known decision", with_error=True),
            Rung(self._unchecked, source="fail-open: permission not checked"),
        )
        many = Fallback(Rung(self._instead, source="last known decisions, or fail-open", with_error=True))
        self._one = Pipeline(pipeline.name, one, operation="openfga.check")
        self._many = Pipeline(pipeline.name, many, operation="openfga.batch_check")

    async def check(self, question: Question, critical: bool) -> Decision:
        critical = critical or self._is_critical(question)
        self._model.require()
        if not critical and (cached := self._cached(question)):
            return cached
        try:
            return await self._one.call(self._ask, question, critical)
        except Exception as error:
            denial = self._denial(error, [question])
            _log.warning("denied, because %s: %s", denial.reason, question)
            return denial

    async def batch_check(self, questions: Sequence[Question], critical: bool) -> list[Decision]:
        self._model.require()
        distinct = list(dict.fromkeys(questions))
        grave = [question for question in distinct if critical or self._is_critical(question)]
        light = [question for question in distinct if question not in set(grave)]
        decided = {question: cached for question in light if (cached := self._cached(question))}
        rest: list[_Rest] = []
        for matters, group in ((False, [one for one in light if one not in decided]), (True, grave)):
            for chunk in _chunks(group):
                decisions = await self._decide(chunk, matters, rest)
                decided.update(zip(chunk, decisions, strict=True))
        denied = [one for one in distinct if decided[one].degraded and not decided[one].allowed]
        if denied:
            _log.warning("%d questions denied, because %s", len(denied), decided[denied[0]].reason)
        return [decided[question] for question in questions]

    # With OpenFGA

    async def _ask(self, question: Question, critical: bool) -> Decision:
        generation, asked_at = self._known.generation, _now()
        async with timeout(self._patience(question, critical), name=self._pipeline.name):
            allowed = await self._pipeline.call(self._request, question, critical)
        self._known.remember(question, allowed, asked_at, generation)
        return Decision(allowed)

    async def _decide(self, chunk: list[Question], critical: bool, rest: list[_Rest]) -> list[Decision]:
        """Decisions on one request's worth of questions. Once a request failed, `rest` decides, without another."""
        if rest:
            return [rest[0](question, critical) for question in chunk]
        try:
            return await self._many.call(self._ask_many, chunk, critical, rest)
        except Exception as error:
            denial = self._denial(error, chunk)
            rest.append(lambda *_: denial)
            return [denial] * len(chunk)

    async def _ask_many(self, chunk: list[Question], critical: bool, rest: object) -> list[Decision]:
        generation, asked_at = self._known.generation, _now()
        async with timeout(self._patience(chunk[0], critical), name=self._pipeline.name):
            answers = await self._pipeline.call(self._request_many, chunk, critical)
        decisions = []
        for question, answer in zip(chunk, answers, strict=True):
            if isinstance(answer, ItemError):
                decisions.append(self._unanswered(question, critical, answer))
            else:
                self._known.remember(question, answer, asked_at, generation)
                decisions.append(Decision(answer))
        return decisions

    def _patience(self, question: Question, critical: bool) -> float | None:
        if critical or self._pipeline.site.bypassed:
            return None
        return _PATIENCE if self._standby.has_answer(question) else None

    async def _request(self, question: Question, critical: bool) -> bool:
        with self._standby.listening():
            return await self._api.check(question, consistent=critical)

    async def _request_many(self, chunk: list[Question], critical: bool) -> list[bool | ItemError]:
        with self._standby.listening():
            return await self._api.batch_check(chunk, consistent=critical)

    # Without OpenFGA: plain functions, so that they can answer even after our own time is up

    def _is_critical(self, question: Question) -> bool:
        named = f"{question.object_type}#{question.relation}"
        return question.relation in self._critical or named in self._critical

    def _cached(self, question: Question) -> Decision | None:
        if not self._cache_seconds or self._pipeline.site.bypassed:
            return None
        allowed, age = self._known.recall(question, _now()) or (False, math.inf)
        return Decision(True, age=age) if allowed and age <= self._cache_seconds else None

    def _last_known(self, error: Exception, question: Question, critical: bool) -> Any:
        self._standby.witness(question.user)
        return (None if critical else self._standby.last_known(question, error)) or NOTHING

    def _unchecked(self, question: Question, critical: bool) -> Any:
        return (None if critical else self._standby.unchecked(question)) or NOTHING

    def _instead(
        self,
        error: Exception,
        chunk: list[Question],
        critical: bool,
        rest: list[_Rest],
    ) -> list[Decision]:
        self._standby.witness(chunk[0].user)
        denial = self._denial(error, chunk)

        def decide(question: Question, critical: bool) -> Decision:
            if critical:
                return denial
            return self._standby.last_known(question, error) or self._standby.unchecked(question) or denial

        rest.append(decide)
        return [decide(question, critical) for question in chunk]

    def _unanswered(self, question: Question, critical: bool, error: ItemError) -> Decision:
        """OpenFGA answered the batch, but not this question."""
        if error.ours:
            if names_no_such(error.text, [question]):
                self._model.doubt()
            return Decision(False, reason=f"OpenFGA refuses the question: {error.text}")
        known = None if critical else self._standby.last_known(question, UnusableReply(error.text))
        reason = f"OpenFGA could not answer: {error.text}"
        return known or Decision(False, degraded=True, reason=reason)

    # Denied

    def _denial(self, error: Exception, asked: Sequence[Question]) -> Decision:
        """What an error means to who asked. Raises RequestRejected, and the error itself where it is no outage."""
        if isinstance(error, httpx2.HTTPStatusError):
            return self._refused(error, asked)
        verdict = classify(error)
        if not verdict.unavailable and not isinstance(error, Rejected):
            raise error
        reason = f"OpenFGA cannot be asked ({type(error).__name__})"
        wait = error.retry_after if isinstance(error, Rejected) else verdict.retry_after
        return Decision(False, degraded=True, reason=reason, retry_after=wait)

    def _refused(self, error: httpx2.HTTPStatusError, asked: Sequence[Question]) -> Decision:
        """OpenFGA answered, but not the question."""
        status = error.response.status_code
        if status == 429 or status >= 500:
            wait = classify(error).retry_after
            reason = "OpenFGA is too busy" if status == 429 else f"OpenFGA cannot be asked (status {status})"
            return Decision(False, degraded=True, reason=reason, retry_after=wait)
        if refused := token_refused(error):
            self._model.refused()
            return Decision(False, degraded=True, reason=str(refused))
        why = rejected(error, asked)
        if isinstance(why, ModelMismatch):
            self._model.doubt()
        if status == 400 or isinstance(why, ModelMismatch):
            raise why from error
        _log.error("OpenFGA refuses this server: %s", refusal(error))
        return Decision(False, degraded=True, reason=f"OpenFGA refuses this server (status {status})")


def _chunks(questions: Sequence[Question]) -> Iterator[list[Question]]:
    for start in range(0, len(questions), MOST_IN_A_BATCH):
        yield list(questions[start : start + MOST_IN_A_BATCH])


def _now() -> float:
    return asyncio.get_running_loop().time()
