"""Which policies are shared, by a name that is the same in every process, and what is to be told of all of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final

from ... import events, registry
from ..._machines.quorum import Quorum
from ...budget import Budget
from ...circuit_breaker import CircuitBreaker
from ...cooldown import Cooldown
from ...policy import Policy
from ...quota import Quota
from ...rate_limit import RateLimit
from .breaker import BreakerShare
from .codec import LONGEST_NAME, Fact
from .shares import BudgetShare, CooldownShare, QuotaShare, RateLimitShare, Share

__all__ = ["KINDS", "Book"]

KINDS: Final = ("budget", "circuit_breaker", "cooldown", "quota", "rate_limit")

# Seconds between two looks for policies that are new or gone. With thousands of keys this is the dearest part.
SEARCH_EVERY: Final = 1.0


class Book:
    """The shares by name. ``policies``: None: those of the registry, as they come and go."""

    def __init__(
        self,
        policies: Iterable[Policy] | None,
        kinds: Collection[str],
        quorum: Callable[[], Quorum],
        lease: float,
    ) -> None:
        self.shares: dict[str, Share] = {}
        self._of: dict[str, object] = {}
        self._given = None if policies is None else list(policies)
        self._kinds = kinds
        self._quorum = quorum
        self._lease = lease
        self._searched_at: float | None = None
        self._too_long: set[str] = set()
        self._mentioned: dict[str, frozenset[str]] = {}

    def told(self, now: float) -> dict[str, Fact]:
        """The facts of this process."""
        if self._searched_at is None or now - self._searched_at >= SEARCH_EVERY:
            self._searched_at = now
            self._search()
        facts = ((name, share.look(now)) for name, share in self.shares.items())
        return {name: fact for name, fact in facts if fact is not None}

    def heard(self, replica: str, facts: Mapping[str, Fact], fresh: bool, now: float) -> None:
        """The facts of another; what it no longer mentions it has nothing to say of."""
        mentioned = frozenset(facts)
        for name in self._mentioned.get(replica, mentioned) | mentioned:
            share = self.shares.get(name)
            if share is not None:
                share.heard(replica, facts.get(name, ()), fresh, now)
        self._mentioned[replica] = mentioned

    def act(self, now: float, *, connected: bool) -> None:
        """Do what follows from all that was heard."""
        for share in self.shares.values():
            share.act(now, connected=connected)

    def gone(self, replica: str) -> None:
        """Forget a replica."""
        self._mentioned.pop(replica, None)
        for share in self.shares.values():
            share.gone(replica)

    def end(self) -> None:
        """Nothing is shared any more."""
        for share in self.shares.values():
            share.end()
        self.shares.clear()
        self._of.clear()
        self._searched_at = None

    def openings(self) -> Iterator[tuple[str, int]]:
        """How often each breaker was opened by the word of others."""
        for name, share in self.shares.items():
            if isinstance(share, BreakerShare):
                yield name.partition(":")[2], share.openings

    def _search(self) -> None:
        found: dict[str, object] = {}
        for name, thing in _named(registry.policies() if self._given is None else self._given):
            if len(name) <= LONGEST_NAME:
                found.setdefault(name, thing)
            elif name not in self._too_long:
                self._too_long.add(name)
                events.emit("warning", name[:LONGEST_NAME], problem="not shared: its name is too long")
        for name in [name for name, thing in self._of.items() if found.get(name) is not thing]:
            self.shares.pop(name).end()
            del self._of[name]
        for name, thing in found.items():
            if name not in self._of:
                share = self._share(thing)
                if share is not None:
                    self.shares[name], self._of[name] = share, thing

    def _share(self, thing: object) -> Share | None:
        kinds = self._kinds
        if isinstance(thing, CircuitBreaker) and "circuit_breaker" in kinds:
            return BreakerShare(thing, self._quorum())
        if isinstance(thing, Cooldown) and "cooldown" in kinds:
            return CooldownShare(thing)
        if isinstance(thing, Quota) and "quota" in kinds:
            return QuotaShare(thing)
        if isinstance(thing, RateLimit) and "rate_limit" in kinds:
            return RateLimitShare(thing)
        if isinstance(thing, Budget) and "budget" in kinds:
            return BudgetShare(thing, self._lease)
        return None


def _named(policies: Iterable[Policy]) -> Iterator[tuple[str, object]]:
    """Each by its kind and name; a budget by the kind of policy that it is first met in."""
    met: set[int] = set()
    for policy in policies:
        budget = getattr(policy, "budget", None)
        if isinstance(budget, Budget) and id(budget) not in met:
            met.add(id(budget))
            yield f"{policy.kind}_budget:{budget.name or policy.label}", budget
        yield f"{policy.kind}:{policy.label}", policy
