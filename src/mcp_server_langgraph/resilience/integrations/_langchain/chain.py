"""The next model answers where one cannot: a policy of the pipeline around a whole chain of models.

The layer's own `Fallback` stands outside the deadline, for answers that take no time. Other models take time, so they
are asked inside it; and what the last of them says (that the question is too long, say) is raised as it is.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, ClassVar

from langchain_core.outputs import ChatResult

from ...degradation import note_degradation
from ...errors import BulkheadFull, Rejected
from ...events import emit
from ...metrics import Sample
from ...policy import Call, Policy, Proceed, ProceedStream, ProceedSync, Site
from .asking import Question
from .errors import reason
from .link import ModelLink

__all__ = ["NextModel", "Nobody", "first_error"]

Nobody = Callable[[Mapping[str, Exception], Exception], Exception]


def first_error(failures: Mapping[str, Exception], last: Exception) -> Exception:
    """What is raised where no model could answer: what the first of them said that was asked (our own refusal to ask
    counts only where none was), with a note for each of the others.
    """
    told = [exc for exc in failures.values() if not isinstance(exc, Rejected)]
    original = (told or [*failures.values(), last])[0]
    for model, exc in failures.items():
        if exc is not original:
            original.add_note(f"{model}: {reason(exc)}")
    return original


class NextModel(Policy):
    """Asks ``links`` in turn while the model before is unavailable. The guarded function takes a `Question`.

    Where all places of a provider are taken the next model is asked too: calls that hang there must not keep others
    from a model that is well. A stream that has begun is never taken up by another model.

    Raises what ``nobody`` makes of the failures, by model, and the last of them, where none of the models, nor the
    first, could answer; other errors as they are.
    """

    kind: ClassVar[str] = "next_model"

    def __init__(self, links: Sequence[ModelLink], nobody: Nobody = first_error) -> None:
        self.links = tuple(links)
        self.nobody = nobody

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
        self.nobody = policy.nobody
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
            return self._degraded(link, question, result)
        raise self._end(failure, question)

    def run_sync(self, call: Call, proceed: ProceedSync) -> Any:
        question: Question = call.args[0]
        try:
            return proceed(call)
        except Exception as exc:
            failure = exc
        for link in self.links:
            self._refuse_unless_unavailable(failure)
            try:
                result = link.answer_now(question)
            except Exception as exc:
                failure = exc
                continue
            return self._degraded(link, question, result)
        raise self._end(failure, question)

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
                            self._mark(item, self._used(link, question))
                        begun = True
                        yield item
            except Exception as exc:
                if begun:
                    raise
                failure = exc
            else:
                return
            self._refuse_unless_unavailable(failure)
        raise self._end(failure, question)

    def _refuse_unless_unavailable(self, failure: Exception) -> None:
        if not (self.site.verdict(failure).unavailable or isinstance(failure, BulkheadFull)):
            raise failure

    def _end(self, failure: Exception, question: Question) -> Exception:
        """What to raise when the chain is at its end: the last error, unless that too was unavailability."""
        if not self.site.verdict(failure).unavailable:
            return failure
        self.counts.failed += 1
        return self.nobody(question.failures, failure)

    def _degraded(self, link: ModelLink, question: Question, result: ChatResult) -> ChatResult:
        why = self._used(link, question)
        for generation in result.generations:
            self._mark(generation, why)
        return result

    def _used(self, link: ModelLink, question: Question) -> str:
        self.counts.used[link.name] = self.counts.used.get(link.name, 0) + 1
        why = "; ".join(f"{model} {reason(exc)}" for model, exc in question.failures.items())
        note_degradation(self.site.name, why, link.name)
        emit("fallback", self.site.name, source=link.name, error=why)
        return why

    @staticmethod
    def _mark(generation: Any, why: str) -> None:
        generation.message.response_metadata["degraded"] = why


class _ChainMeter:
    def __init__(self, site: Site) -> None:
        self.site = site
        self.used: dict[str, int] = {}
        self.failed = 0

    def samples(self) -> Iterator[Sample]:
        for model, count in list(self.used.items()):
            yield Sample("fallback_used_total", (self.site.name, model), count)
        yield Sample("fallback_failed_total", (self.site.name,), self.failed)
