"""The next model answers where one cannot: a policy of the pipeline around a whole chain of models.

The layer's own `Fallback` stands outside the deadline, for answers that take no time. Other models take time, so they
are asked inside it; and what the last of them says (that the question is too long, say) is raised as it is.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, ClassVar

from mcp_server_langgraph.resilience import BulkheadFull, Call, Policy
from mcp_server_langgraph.resilience.degradation import note_degradation
from mcp_server_langgraph.resilience.events import emit
from mcp_server_langgraph.resilience.metrics import Sample
from mcp_server_langgraph.resilience.policy import Proceed, ProceedStream, Site

from .links import ModelLink, Question
from .outcomes import ModelsUnavailable, reason

__all__ = ["NextModel"]


class NextModel(Policy):
    """Asks ``links`` in turn while the model before is unavailable. The guarded function takes a `Question`.

    Where all places of a provider are taken the next model is asked too: calls that hang there must not keep others
    from a model that is well. A stream that has begun is never taken up by another model.

    Raises `ModelsUnavailable` where none of them, nor the first, could answer; other errors as they are.
    """

    kind: ClassVar[str] = "next_model"

    def __init__(self, links: Sequence[ModelLink]) -> None:
        self.links = tuple(links)

    def settings(self) -> Mapping[str, Any]:
        """The models, in order."""
        return {"models": [link.name for link in self.links]}

    def bind(self, site: Site) -> Policy:
        """The chain of one pipeline."""
        return _Chain(self, site)


class _Chain(Policy):
    kind = NextModel.kind

    def __init__(self, policy: NextModel, site: Site) -> None:
        self.links = policy.links
        self.site = site
        self.meter = self.counts = _ChainMeter(site)

    async def run(self, call: Call, proceed: Proceed) -> Any:
        question: Question = call.args[0]
        try:
            return await proceed(call)
        except Exception as exc:
            failure = exc
        for link in self.links:
            self._refuse_unless_unavailable(failure)
            try:
                result = await link.answer(question)
            except Exception as exc:
                failure = exc
                continue
            self._used(link, question)
            return result
        raise self._nobody(failure, question)

    async def stream(self, call: Call, proceed: ProceedStream) -> AsyncGenerator[Any, Any]:
        question: Question = call.args[0]
        source = proceed(call)
        failure: Exception = LookupError("a chain without a model")
        for link in (None, *self.links):
            if link is not None:
                source = link.stream(question)
            begun = False
            try:
                async with aclosing(source) as items:
                    async for item in items:
                        if not begun and link is not None:
                            self._used(link, question)
                        begun = True
                        yield item
            except Exception as exc:
                if begun:
                    raise
                failure = exc
            else:
                return
            self._refuse_unless_unavailable(failure)
        raise self._nobody(failure, question)

    def _refuse_unless_unavailable(self, failure: Exception) -> None:
        if not (self.site.verdict(failure).unavailable or isinstance(failure, BulkheadFull)):
            raise failure

    def _nobody(self, failure: Exception, question: Question) -> Exception:
        """What to raise when the chain is at its end: the last error, unless that too was unavailability."""
        if not self.site.verdict(failure).unavailable:
            return failure
        self.counts.failed += 1
        told = [self.site.verdict(exc).retry_after for exc in question.failures.values()]
        waits = [wait for wait in told if wait is not None]
        reasons = {model: reason(exc) for model, exc in question.failures.items()}
        unavailable = ModelsUnavailable(reasons, min(waits, default=None))
        unavailable.__cause__ = failure
        return unavailable

    def _used(self, link: ModelLink, question: Question) -> None:
        self.counts.used[link.name] = self.counts.used.get(link.name, 0) + 1
        why = "; ".join(f"{model} {reason(exc)}" for model, exc in question.failures.items())
        note_degradation(self.site.name, why, link.name)
        emit("fallback", self.site.name, source=link.name, error=why)


class _ChainMeter:
    def __init__(self, site: Site) -> None:
        self.site = site
        self.used: dict[str, int] = {}
        self.failed = 0

    def samples(self) -> Iterator[Sample]:
        for model, count in list(self.used.items()):
            yield Sample("fallback_used_total", (self.site.name, model), count)
        yield Sample("fallback_failed_total", (self.site.name,), self.failed)
