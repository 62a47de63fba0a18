"""What guards one model: the policies that its calls and its streams share, and the clocks of each."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Final, NamedTuple

from ... import _stack, budget, config
from ...bulkhead import Bulkhead
from ...circuit_breaker import CircuitBreaker
from ...cooldown import Cooldown
from ...outcome import Classifier
from ...pipeline import Pipeline
from ...policy import Policy
from ...quota import Quota
from ...retry import Retry
from ...timeout import Timeout
from .spending import Spending

__all__ = [
    "IDLE_TIMEOUT",
    "LONGEST_COOLDOWN",
    "Clocks",
    "ModelPolicies",
    "ModelTimeout",
    "pipeline",
    "shared_policies",
]

# Seconds between two pieces of an answer. Healthy gaps are well under a second, those of models that think in the
# middle of an answer some seconds; keep-alive pings do not count as pieces.
IDLE_TIMEOUT: Final = 20.0
# Seconds. Where no other model can be asked, nobody waits longer for one that wants to be left alone (as
# `Retry.retry_after_max`).
LONGEST_COOLDOWN: Final = 60.0
# Of the total an attempt has what is left after an equal share for each model behind it, and a little less: it is
# the attempt's end that is held against the model, while the total is cut without asking whose fault it is.
SHARE_OF_TOTAL: Final = 0.95


class ModelTimeout(Timeout):
    """The time of one attempt: a ``share`` of the service's total, which follows changes of the settings.

    ``total``: the chain's, None: the service's. ``attempt``: overrules the share, and ``<SERVICE>_ATTEMPT_TIMEOUT``
    overrules both. For a stream it is the wait for the first piece, and ``<SERVICE>_STREAM_FIRST_ITEM_TIMEOUT``
    overrules all of them; ``idle`` is the wait between two pieces, unless ``<SERVICE>_STREAM_IDLE_TIMEOUT`` says else.
    """

    def __init__(
        self,
        share: float,
        *,
        stream: bool = False,
        idle: float | None = None,
        total: float | None = None,
        attempt: float | None = None,
    ) -> None:
        super().__init__()
        self._idle = idle
        self._share = share
        self._stream = stream
        self._total = total
        self._attempt = attempt

    def apply(self, settings: config.Settings, service: str) -> None:
        """Take over changed settings, for calls that begin from now on."""
        total = settings.timeout(service, self._total)
        own = settings.attempt_timeout(service, self._attempt) or total * self._share
        self.seconds = total if self._stream else own
        if self._stream:
            self.first_item = settings.choose(service, "STREAM_FIRST_ITEM_TIMEOUT") or own
            self.idle = settings.choose(service, "STREAM_IDLE_TIMEOUT", self._idle)


@dataclass(frozen=True, slots=True)
class Clocks:
    """How long a model may take, in seconds. ``followers``: how many models can be asked after it; each must be left
    time. ``first``: to the first piece of a stream (None: as an attempt), ``idle``: between two pieces.
    """

    followers: int = 0
    idle: float = IDLE_TIMEOUT
    total: float | None = None
    attempt: float | None = None
    first: float | None = None

    def of_answer(self) -> ModelTimeout:
        """The time of an attempt at a whole answer."""
        return ModelTimeout(self._share, total=self.total, attempt=self.attempt)

    def of_stream(self) -> ModelTimeout:
        """The clocks of a stream."""
        first = self.attempt if self.first is None else self.first
        return ModelTimeout(self._share, stream=True, idle=self.idle, total=self.total, attempt=first)

    @property
    def _share(self) -> float:
        return SHARE_OF_TOTAL / (self.followers + 1)


class ModelPolicies(NamedTuple):
    """What a model's pipelines have in common."""

    retry: Retry
    cooldown: Cooldown
    breaker: CircuitBreaker
    bulkhead: Bulkhead | None = None
    quota: Quota | None = None
    spending: Spending | None = None


# As long as a breaker lives, so does the cooldown beside it.
_cooldowns: Final[weakref.WeakKeyDictionary[CircuitBreaker, Cooldown]] = weakref.WeakKeyDictionary()


def shared_policies(service: str, *, followers: int) -> ModelPolicies:
    """The policies of a model for all who ask it in this process: one name is one breaker, cooldown and budget."""
    breaker = _stack.shared(service, CircuitBreaker(service), "resilient")
    cooldown = _cooldowns.setdefault(breaker, Cooldown(max_wait=LONGEST_COOLDOWN, name=service))
    return ModelPolicies(
        Retry(budget=budget.shared(service)), _impatient(cooldown) if followers else cooldown, breaker
    )


def _impatient(cooldown: Cooldown) -> Cooldown:
    """The same cooldown for a chain that has another model to ask, and so waits for none."""
    impatient = Cooldown(max_wait=0.0, name=cooldown.name)
    impatient.machine, impatient.lock, impatient.counts = cooldown.machine, cooldown.lock, cooldown.counts
    return impatient


def pipeline(
    service: str, operation: str, policies: ModelPolicies, classifier: Classifier, clock: ModelTimeout | None
) -> Pipeline:
    """The pipeline of one model for one kind of call."""
    retry, cooldown, breaker, bulkhead, quota, spending = policies
    ordered = (bulkhead, retry, cooldown, quota, spending, breaker, clock)
    present: list[Policy] = [each for each in ordered if each is not None]
    return Pipeline(service, *present, operation=operation, classifier=classifier)
