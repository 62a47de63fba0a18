"""Outlier ejection: a call goes to one of several equal endpoints; those that stand out as sick get none for a time.

A breaker answers "may I call it at all"; where several hosts, models or replicas can answer, the better question is
"whom". An endpoint is ejected after failures in a row, or where it is an outlier among its fellows; never more than a
share of them, and where too many are out all are used (see `_machines.outlier`). Inside a retry or a hedge a call is
not sent again to an endpoint that it has tried, where another is left.

Outcomes are those of the shared classifier; neutral ones count for nothing. A stream's is recorded at its end.

Source: Envoy's outlier detection and panic threshold, gRPC A50, Finagle's failure accrual; M. Mitzenmacher, "The Power
of Two Choices in Randomized Load Balancing" (2001), for how an endpoint is picked.

Events: ``ejected``, ``returned``, ``panic``, ``calm``. Metrics: ``outlier_*``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Final

from . import config, events
from ._machines.endpoint import Endpoint
from ._machines.endpoint_choice import Choice, choice_of
from ._machines.outlier import Endpoints
from ._machines.outlier_rules import OutlierRules
from ._outlier_at import CURRENT, OutlierAt, OutlierMeter
from .errors import ConfigurationError
from .policy import Policy, Site

__all__ = [
    "Choice",
    "EndpointSnapshot",
    "Endpoints",
    "Outlier",
    "OutlierRules",
    "OutlierSnapshot",
    "current_endpoint",
]

# Which rules an operator may change.
_VARIABLES: Final = {
    "consecutive_failures": "OUTLIER_CONSECUTIVE_FAILURES",
    "interval": "OUTLIER_INTERVAL",
    "base_ejection": "OUTLIER_BASE_EJECTION",
    "max_ejection": "OUTLIER_MAX_EJECTION",
    "max_share": "OUTLIER_MAX_SHARE",
    "panic_share": "OUTLIER_PANIC_SHARE",
}


def current_endpoint() -> str | None:
    """The endpoint that an `Outlier` picked for the call running now; None outside of one."""
    return CURRENT.get()


@dataclass(frozen=True, slots=True)
class EndpointSnapshot:
    """One endpoint at one moment. ``ejected_until``: on the clock of the loop, None where it is not ejected."""

    healthy: bool
    ejected_until: float | None
    ejections: dict[str, int]
    multiplier: int
    consecutive_failures: int
    in_flight: int


@dataclass(frozen=True, slots=True)
class OutlierSnapshot:
    """The endpoints at one moment. ``rotation``: the names that calls go to now."""

    endpoints: Mapping[str, EndpointSnapshot]
    rotation: tuple[str, ...]
    panic: bool


class Outlier(Policy):
    """Sends each call to one of ``endpoints`` (an `Endpoints`, or names) that is in rotation.

    ``pick``: round_robin, least_in_flight or power_of_two (default). ``argument``: the keyword argument in which the
    function is given the endpoint's name; None: it asks `current_endpoint`. ``rules``: when an endpoint is ejected
    (default: from the settings). ``chance``: random numbers from 0 up to 1. ``name``: the metrics' ``service`` label
    (default: the first pipeline's name).

    ``pick`` and ``rules`` are for names; an `Endpoints` of yours has its own, which the settings overrule all the same
    where an operator set a service's own. Raises `ConfigurationError` for names or rules that cannot be right.
    """

    kind: ClassVar[str] = "outlier"

    def __init__(
        self,
        endpoints: Endpoints | Iterable[str],
        *,
        pick: Choice | str | None = None,
        argument: str | None = None,
        rules: OutlierRules | None = None,
        chance: Callable[[], float] = random.random,
        name: str | None = None,
    ) -> None:
        ours = isinstance(endpoints, Endpoints)
        if ours and rules is not None:
            raise ConfigurationError("Outlier: rules= is for names; an Endpoints has rules of its own")
        self.endpoints = endpoints if isinstance(endpoints, Endpoints) else Endpoints(endpoints, rules)
        if pick is not None:
            self.endpoints.choice = choice_of(pick)
        self.name = name
        self.argument = argument
        self.chance = chance
        self._explicit = self.endpoints.rules if ours else rules
        self.counts = OutlierMeter(self)
        self.apply(config.current(), name or "")

    def apply(self, settings: config.Settings, service: str) -> None:
        """Take over changed settings; who is ejected stays so, as far as the share allows."""
        explicit = self._explicit
        chosen = {
            rule: settings.choose(service, variable, None if explicit is None else getattr(explicit, rule))
            for rule, variable in _VARIABLES.items()
        }
        self.endpoints.change(replace(explicit or OutlierRules(), **chosen))

    def settings(self) -> Mapping[str, Any]:
        """The settings in force."""
        rules = self.endpoints.rules
        shown = {rule.name: getattr(rules, rule.name) for rule in fields(rules) if rule.name in _VARIABLES}
        names = [endpoint.name for endpoint in self.endpoints.all]
        return {"endpoints": names, "pick": self.endpoints.choice.value, **shown}

    def snapshot(self) -> OutlierSnapshot:
        """The endpoints now, as the last call left them."""
        known = {endpoint.name: _shown(endpoint) for endpoint in self.endpoints.all}
        rotation = tuple(endpoint.name for endpoint in self.endpoints.rotation)
        return OutlierSnapshot(known, rotation, self.endpoints.panic)

    def bind(self, site: Site) -> Policy:
        """The endpoints at one pipeline; their state is shared by all pipelines."""
        if self.name is None:
            self.name = site.name
            self.apply(config.current(), self.name)
        return OutlierAt(self, site)

    def tell(self) -> None:
        """Tell listeners and log of what happened."""
        while self.endpoints.changes:
            change = self.endpoints.changes.popleft()
            if change.endpoint:
                details = {"cause": change.cause, "seconds": change.seconds} if change.cause else {}
                events.emit(change.kind, self.label, endpoint=change.endpoint, **details)
            else:
                events.emit(change.kind, self.label, cause=change.cause)


def _shown(endpoint: Endpoint) -> EndpointSnapshot:
    return EndpointSnapshot(
        healthy=endpoint.healthy,
        ejected_until=endpoint.ejected_until,
        ejections=dict(endpoint.ejections),
        multiplier=endpoint.multiplier,
        consecutive_failures=endpoint.failures,
        in_flight=len(endpoint.calls),
    )
