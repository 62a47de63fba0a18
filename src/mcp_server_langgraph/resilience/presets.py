"""Pipelines in the standard order, built from settings.

The order, outermost first: fallback, total deadline, cache, admission (bulkhead or adaptive limit), client throttle,
retry, hedge, quota and cooldown, circuit breaker, attempt timeout, chaos. Every attempt goes through the breaker and
the quota, which guard the dependency; admission guards us, once per call; the fallback stands outside the deadline, so
that our own expiry degrades too (`docs/explanation/decisions/order-of-policies.md`).

A preset says what kind of operation it is:

- ``read``: may be repeated (the default);
- ``idempotent_write``: may be repeated with the same key;
- ``non_idempotent_write``: is never repeated, whatever happens;
- ``llm``: an answer of a language model: may be repeated, is left alone for as long as a 429 asks, and where it is
  streamed the first piece and the gaps have clocks of their own;
- ``stream``: any other stream, with those clocks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from . import budget as budgets
from . import config
from .adaptive import AdaptiveLimit
from .budget import Budget
from .bulkhead import Bulkhead
from .cache import Cache
from .chaos import Chaos
from .circuit_breaker import CircuitBreaker
from .cooldown import Cooldown
from .errors import ConfigurationError
from .fallback import Fallback
from .hedge import Hedge
from .outcome import Classifier
from .pipeline import Pipeline
from .policy import Policy
from .retry import Kind, Retry
from .throttle import Throttle
from .timeout import Timeout

__all__ = ["PRESETS", "Preset", "standard"]


class Preset(NamedTuple):
    """What is particular to a kind of operation. ``first_item`` and ``idle`` are seconds, of streams."""

    kind: Kind
    cools_down: bool = False
    first_item: float | None = None
    idle: float | None = None


# Seconds to the first piece: a model that reasons may take most of its minute; another stream begins soon or never.
# Between pieces: healthy gaps are well under a second, those of models that think in mid-answer some seconds.
PRESETS: Final[Mapping[str, Preset]] = MappingProxyType(
    {
        "read": Preset(Kind.IDEMPOTENT_READ),
        "idempotent_write": Preset(Kind.IDEMPOTENT_WRITE),
        "non_idempotent_write": Preset(Kind.NON_IDEMPOTENT),
        "llm": Preset(Kind.IDEMPOTENT_READ, cools_down=True, first_item=45.0, idle=20.0),
        "stream": Preset(Kind.IDEMPOTENT_READ, first_item=10.0, idle=20.0),
    }
)


def standard(
    name: str,
    preset: str = "read",
    *,
    operation: str | None = None,
    fallback: Fallback | None = None,
    total: Timeout | None = None,
    cache: Cache | None = None,
    admission: Bulkhead | AdaptiveLimit | None = None,
    throttle: Throttle | None = None,
    retry: Retry | None = None,
    idempotency_key: str | None = None,
    budget: Budget | None = None,
    hedge: Hedge | None = None,
    quota: Sequence[Policy] | None = None,
    breaker: CircuitBreaker | None = None,
    attempt: Timeout | None = None,
    chaos: Chaos | None = None,
    classifier: Classifier | None = None,
    is_failure: Callable[[Any], bool] | None = None,
) -> Pipeline:
    """A pipeline for the service ``name`` with its settings (``<NAME>_...`` variables, the ADR's, the defaults).

    ``preset`` says what kind of operation it is (see `presets`). The other arguments are policies that replace the
    standard ones, or that have no standard: ``fallback``, ``cache``, ``throttle``, ``hedge``, ``chaos``. ``quota``:
    what stands between hedge and breaker, each attempt: `Quota`, `RateLimit`, `Cooldown`, `Outlier`, `Keyed` (default:
    a `Cooldown` in the preset ``llm``, else nothing). ``budget``: of retries and hedges (default: the one of that name,
    which all pipelines of the service share; ``retry`` and ``hedge`` that are given bring theirs).
    ``idempotency_key``: the keyword argument that carries an idempotent write's key. Without ``attempt`` an attempt
    timeout stands there only where the settings have one for the service (``ATTEMPT_TIMEOUT``).

    Raises `ConfigurationError` for an unknown preset, and where the order cannot be right.
    """
    kind_of = _preset(preset)
    seconds = config.current().attempt_timeout(name)
    cooling = (Cooldown(name=name),) if kind_of.cools_down else ()
    policies: list[Policy | None] = [
        fallback,
        total or Timeout(first_item=kind_of.first_item, idle=kind_of.idle),
        cache,
        admission or Bulkhead(name=name),
        throttle,
        retry or _retry(name, kind_of.kind, idempotency_key, budget),
        hedge,
        *(cooling if quota is None else quota),
        breaker or CircuitBreaker(name),
        attempt or (Timeout(seconds) if seconds is not None else None),
        chaos,
    ]
    present = [policy for policy in policies if policy is not None]
    return Pipeline(name, *present, operation=operation, classifier=classifier, is_failure=is_failure)


def _retry(name: str, kind: Kind, idempotency_key: str | None, budget: Budget | None) -> Retry:
    return Retry(kind=kind, idempotency_key=idempotency_key, budget=budget or budgets.shared(name))


def _preset(name: str) -> Preset:
    try:
        return PRESETS[name]
    except KeyError:
        raise ConfigurationError(
            f"preset {name!r} is not known; it must be one of {', '.join(PRESETS)}"
        ) from None
