"""Client throttle: a dependency that refuses most calls is sent fewer of them.

Refusing costs the dependency something too; enough refusals keep it as busy as work would. So each client looks at how
many of its own calls of the last two minutes were accepted, and sheds so many of the next that it sends about ``k``
times what is accepted. No message between clients is needed, and a part always goes through, which finds out when it
is over. Those who matter least (`criticality`) are shed first.

Accepted is what was answered: results, 4xx, a 500. Not accepted: 429 (unless the account is exhausted), 503, 529, and
no answer at all (timeouts, lost connections). What was never sent, or cancelled, says nothing: the rejections of
policies further in, an open circuit too, which knows by itself when to ask again.

Source: B. Beyer et al., "Site Reliability Engineering", ch. 21, "Client-Side Throttling"; the cap: failsafe-go
``adaptivethrottler``. The machine is in `_machines.throttle`.

Errors: `Throttled`. Events: ``rejected``. Metrics: ``throttle_*``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from . import config, events
from ._checks import checked, checked_count
from ._http_facts import status_of, terminal_quota
from ._machines.throttle import ThrottleMachine
from .criticality import Criticality, current_criticality
from .deadline import now as current_time
from .errors import ResilienceError, RetriesExhausted, StreamInterrupted, Throttled, TimedOut
from .metrics import Sample
from .outcome import Outcome
from .policy import BadResult, Guard, Policy, Site

__all__ = ["Throttle", "ThrottleSnapshot"]

_OVERLOADED: Final = frozenset({429, 503, 529})


@dataclass(frozen=True, slots=True)
class ThrottleSnapshot:
    """A throttle at one moment. ``share``: of all calls that are shed now; ``shed``: by level, since it was made."""

    requests: int
    accepts: int
    share: float
    shed: dict[str, int]


class Throttle(Policy):
    """Sends a dependency about ``k`` times what it accepts (>= 1; default 2).

    ``max_rejection``: the largest share of calls that is shed (0 to 1; default 0.9). ``window``: seconds that are
    looked at (> 0; default 120). ``min_requests``: calls in the window below which nobody is shed (>= 0; default 10).

    None means: from the settings. Raises `ConfigurationError` for values out of range.
    """

    kind: ClassVar[str] = "throttle"

    def __init__(
        self,
        *,
        k: float | None = None,
        max_rejection: float | None = None,
        window: float | None = None,
        min_requests: int | None = None,
        name: str | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        checked("Throttle", "k", k, "at least 1", ok=k is None or k >= 1)
        share = max_rejection is None or 0 <= max_rejection <= 1
        checked("Throttle", "max_rejection", max_rejection, "between 0 and 1", ok=share)
        checked("Throttle", "window", window, "above 0 seconds", ok=window is None or window > 0)
        checked_count("Throttle", "min_requests", min_requests, 0)
        self.name = name
        self._named = name is not None
        self._explicit = (k, max_rejection, window, min_requests)
        self.chance = chance
        self.machine = ThrottleMachine()
        self.window = 0.0
        self.counts = _ThrottleMeter(self)
        self.apply(config.current(), name or "")

    def apply(self, settings: config.Settings, service: str) -> None:
        """Take over changed settings; what was counted stays."""
        k, max_rejection, window, min_requests = self._explicit
        machine = self.machine
        machine.k = settings.choose(service, "THROTTLE_K", k)
        machine.cap = settings.choose(service, "THROTTLE_MAX_REJECTION", max_rejection)
        machine.least = settings.choose(service, "THROTTLE_MIN_REQUESTS", min_requests)
        seconds = settings.choose(service, "THROTTLE_WINDOW", window)
        if seconds != self.window:
            self.window = seconds
            machine.change_window(seconds)

    def settings(self) -> Mapping[str, Any]:
        """The settings in force."""
        machine = self.machine
        return {
            "k": machine.k,
            "max_rejection": machine.cap,
            "window": self.window,
            "min_requests": machine.least,
        }

    def snapshot(self) -> ThrottleSnapshot:
        """The throttle now."""
        share = self.machine.share(current_time())
        shed = {level.name.lower(): self.counts.shed[level] for level in Criticality}
        return ThrottleSnapshot(self.machine.total, self.machine.accepts, share, shed)

    def bind(self, site: Site) -> Guard:
        """The guard of one pipeline; what is counted is shared by all of them."""
        self.name = site.named(self.name, given=self._named)
        return _ThrottleGuard(self, site)


class _ThrottleGuard(Guard):
    def __init__(self, policy: Throttle, site: Site) -> None:
        self.policy = policy
        self.machine = policy.machine
        self.meter = policy.counts
        self.site = site

    def enter(self, now: float) -> Criticality:
        level = current_criticality()
        if self.machine.presses(now) and self.machine.sheds(level, self.policy.chance(), now):
            self.machine.ended(level, now, accepted=False)
            self.policy.counts.shed[level] += 1
            events.emit("rejected", self.site.name, policy=Throttled.policy)
            raise Throttled(self.site.name)
        return level

    def succeeded(self, token: Criticality, now: float) -> None:
        self.machine.ended(token, now, accepted=True)

    def failed(self, token: Criticality, now: float, exc: BaseException) -> None:
        accepted = self._accepted(exc)
        if accepted is not None:
            self.policy.counts.refused += not accepted
            self.machine.ended(token, now, accepted=accepted)

    def _accepted(self, exc: BaseException) -> bool | None:
        """Whether the dependency took the call on; None where it was not asked, or nobody knows."""
        if isinstance(exc, (RetriesExhausted, StreamInterrupted)) and exc.__cause__ is not None:
            return self._accepted(exc.__cause__)
        if isinstance(exc, ResilienceError) and not isinstance(exc, TimedOut):
            return None
        status = status_of(exc.result if isinstance(exc, BadResult) else exc)
        if status is not None or isinstance(exc, BadResult):
            return status not in _OVERLOADED or terminal_quota(exc)
        verdict = self.site.verdict(exc)
        return None if verdict.outcome is not Outcome.FAILURE else not verdict.unavailable


class _ThrottleMeter:
    def __init__(self, policy: Throttle) -> None:
        self.policy = policy
        self.shed = [0] * len(Criticality)
        self.refused = 0

    def samples(self) -> Iterator[Sample]:
        name = self.policy.label
        yield Sample("throttle_share", (name,), self.policy.machine.share(current_time()))
        yield Sample("throttle_overloads_total", (name,), self.refused)
        for level in Criticality:
            yield Sample("throttle_shed_total", (name, level.name.lower()), self.shed[level])
