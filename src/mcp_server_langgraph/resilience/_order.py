"""Orders of policies that cannot be right, and those that are probably not meant.

The first are refused when the pipeline is built; of the others the log and listeners are warned, once. Any other order
is kept as it is written (`docs/explanation/decisions/order-of-policies.md`). Sources: the validators of Microsoft's
standard handler, Kevlar's KEV001-004, and the twelve resilience4j and Polly threads in which the order surprised.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from .errors import ConfigurationError

if TYPE_CHECKING:
    from .policy import Policy


class _Inside(NamedTuple):
    """``inner`` somewhere inside ``outer``, and what is wrong with it."""

    inner: str
    outer: str
    why: str


# Its answers do not come from the dependency: what stands outside must not take them for its successes.
_COUNTED: Final = "its answers would count as successes there"
_REFUSED: Final = (
    _Inside("cache", "retry", _COUNTED),
    _Inside("cache", "hedge", "each hedge would be answered from memory"),
    _Inside("cache", "circuit_breaker", _COUNTED),
    _Inside("cache", "outlier", "its answers would count as successes of an endpoint"),
    _Inside("shed", "retry", "a call is shed at the door, once, not attempt by attempt"),
    _Inside("throttle", "hedge", "what the client sheds would be hedged"),
)
_DOUBTFUL: Final = (
    _Inside("retry", "hedge", "every hedge is retried: requests multiply; put the hedge inside the retry"),
    _Inside("hedge", "circuit_breaker", "the breaker does not see which request failed; put it inside"),
    _Inside("hedge", "quota", "hedges are not counted against the quota; put the quota inside"),
    _Inside("retry", "quota", "later attempts are not counted against the quota; put the quota inside"),
    _Inside("retry", "outlier", "every attempt goes to the endpoint that failed; put the outlier inside"),
    _Inside("hedge", "outlier", "every hedge goes to the endpoint that is late; put the outlier inside"),
    _Inside("throttle", "retry", "what the client sheds takes an attempt; put the throttle outside"),
)
# They judge who does not answer: an attempt that was cut outside of them looks like one that its caller gave up.
_JUDGES: Final = ("circuit_breaker", "outlier")
_ONCE: Final = {
    "retry": "retries twice: attempts would multiply; keep one Retry",
    "hedge": "hedges twice: requests would multiply; keep one Hedge",
    "fallback": "falls back twice; make it one Fallback with more rungs",
    "cache": "caches twice: the inner one would never be asked",
}


def refuse(name: str, policies: Sequence[Policy]) -> None:
    """Raise `ConfigurationError` with the reason where the order cannot be right."""
    kinds = [policy.acts_as for policy in policies]
    if len(set(map(id, policies))) < len(policies):
        raise ConfigurationError(f"pipeline {name!r} holds the same policy object twice")
    if "fallback" in kinds[1:]:
        above = kinds[kinds.index("fallback", 1) - 1]
        if above != "fallback":
            raise ConfigurationError(f"pipeline {name!r}: fallback inside {above}: {_COUNTED}")
    for kind, why in _ONCE.items():
        if kinds.count(kind) > 1:
            raise ConfigurationError(f"pipeline {name!r} {why}")
    for problem in _found(_REFUSED, kinds):
        raise ConfigurationError(f"pipeline {name!r}: {problem}")
    _refuse_repeats(name, policies)


def _refuse_repeats(name: str, policies: Sequence[Policy]) -> None:
    """What must not be repeated must not be hedged: a hedge is a second request."""
    kinds = {policy.acts_as: policy for policy in policies}
    if "hedge" in kinds and "retry" in kinds and kinds["retry"].settings()["kind"] == "non_idempotent":
        raise ConfigurationError(
            f"pipeline {name!r}: hedge beside a retry of a non-idempotent operation: it would be done twice"
        )


def doubts(policies: Sequence[Policy]) -> list[str]:
    """What is probably not meant, a sentence each: about the order, and about settings that do not fit together."""
    kinds = [policy.acts_as for policy in policies]
    attempt = _attempt_timeout(policies)
    of_policies = (doubt for policy in policies for doubt in policy.doubts(attempt))
    of_order = [*_found(_DOUBTFUL, kinds), *_about_chaos(kinds), *_about_judges(kinds)]
    return [*of_order, *_about_times(policies), *of_policies]


def _attempt_timeout(policies: Sequence[Policy]) -> float | None:
    """Seconds that the innermost timeout gives; None where there is none."""
    seconds = _seconds_of(policies)
    return seconds[-1] if seconds else None


def _seconds_of(policies: Sequence[Policy]) -> list[float]:
    """What the timeouts give, outermost first; without those that are computed for each call."""
    timeouts = (policy.settings() for policy in policies if policy.kind == "timeout")
    return [float(settings["seconds"]) for settings in timeouts if "seconds_for" not in settings]


def _found(rules: Sequence[_Inside], kinds: Sequence[str]) -> Iterator[str]:
    for rule in rules:
        if rule.outer in kinds and rule.inner in kinds[kinds.index(rule.outer) :]:
            yield f"{rule.inner} inside {rule.outer}: {rule.why}"


def _about_chaos(kinds: Sequence[str]) -> Iterator[str]:
    if "chaos" in kinds[:-1]:
        below = kinds[kinds.index("chaos") + 1]
        yield f"{below} inside chaos: its handling of faults is not tested; put chaos innermost"


def _about_judges(kinds: Sequence[str]) -> Iterator[str]:
    attempt = kinds[kinds.index("retry") + 1 :] if "retry" in kinds else ()
    for judge in _JUDGES:
        at = attempt.index(judge) if judge in attempt else 0
        if "timeout" in attempt[:at] and "timeout" not in attempt[at:]:
            yield f"{judge} inside an attempt timeout: what that cuts is no failure there; put it outside"


def _about_times(policies: Sequence[Policy]) -> Iterator[str]:
    """An attempt that may take as long as all of them together: nothing would be retried after a timeout."""
    seconds = _seconds_of(policies)
    if len(seconds) > 1 and seconds[-1] >= seconds[0]:
        yield f"attempt timeout >= total: {seconds[-1]:g} s in {seconds[0]:g} s"
