"""One policy for each key: a breaker per host, a bulkhead per tenant, a limit per model, and no more of them than fit.

A policy that guards many dependencies at once judges them by their sum: one dead host of a hundred never opens the
breaker, and one greedy tenant takes all the places. So each key, which is read from the call's arguments, has a policy
of its own. Keys often come from outside (a URL, a tenant's name), so their number is bounded: the least recently used
one is forgotten first, never one with calls in flight or an open breaker. Where only those are left, the keys without
a place share one *overflow* policy. Metrics are bounded too: the first ``max_labels`` keys have their own ``service``
label, all others are added up under ``<name>.other``.

Source: Polly's ``SelectPipelineByAuthority`` and partitioned limiters (without bounds), resilience4j #650, #703 and
#1221 (registries that grow with their callers). The table is in `_machines.keyed`.

Errors: those of the policies. Events: theirs, and a ``warning`` when a key found no place. Metrics: theirs, and
``keyed_*``.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, cast

from . import config
from ._checks import checked_count
from ._keyed_guard import OTHER, Face, KeyedAt, KeyedMeter, Slot
from ._machines.keyed import Entry, KeyTable
from .errors import ConfigurationError
from .policy import Policy, Repeat, Site

__all__ = ["Keyed", "KeyedSnapshot"]

# How many keys a snapshot shows.
SHOWN_KEYS: Final = 100
# Of a key that becomes part of a name.
_LONGEST_LABEL: Final = 80
# They keep nothing of the calls before, so one serves all keys; and a table of tables would have no bound to speak of.
_REFUSED: Final = frozenset({"fallback", "keyed", "retry", "timeout"})


@dataclass(frozen=True, slots=True)
class KeyedSnapshot:
    """The policies of all keys at one moment. ``states``: by key, of those used last (at most 100)."""

    keys: int
    in_use: int
    evictions: int
    overflow_calls: int
    states: Mapping[Hashable, object]
    overflow: object


class Keyed(Policy):
    """``make(key)`` for each key, where ``key(*args, **kwargs)`` reads the key from the call's arguments (any hashable
    value; it may look at a `contextvars.ContextVar` instead).

    ``max_keys``: how many policies at most (>= 1; default ``KEYED_MAX_KEYS``, 1000). ``overflow``: the policy of calls
    whose key finds no place (default: ``make("other")``). ``max_labels``: how many keys have their own label in the
    metrics (>= 0; default ``KEYED_MAX_LABELS``, 20). ``name``: what the names of policies without one begin with
    (default: the first pipeline's name).

    ``make`` must give a new policy each time, and no `Retry`, `Timeout` or `Fallback`: one of those serves all keys.
    Raises `ConfigurationError` for values out of range, and where ``make`` gives what cannot be keyed.
    """

    kind: ClassVar[str] = "keyed"

    def __init__(
        self,
        make: Callable[[Any], Policy],
        *,
        key: Callable[..., Hashable],
        max_keys: int | None = None,
        overflow: Policy | None = None,
        max_labels: int | None = None,
        name: str | None = None,
    ) -> None:
        checked_count("Keyed", "max_keys", max_keys, 1)
        checked_count("Keyed", "max_labels", max_labels, 0)
        self.name = name
        self.key = key
        self.max_labels = 0
        self._make = make
        self._explicit = (max_keys, max_labels)
        self._settings = config.current()
        self._labels: dict[Hashable, str] = {}
        self._lock = threading.RLock()
        self.counts = KeyedMeter(self)
        self.table: KeyTable[Slot] = KeyTable(
            self._make_slot,
            max_keys=1,
            matters_until=lambda slot, now: slot.policy.matters_until(now),
            forgotten=self.counts.retire,
        )
        self.spare = Entry[Slot](OTHER, Slot(self._overflow_of(overflow)), 0)
        self._named_spare = self.spare.value.policy.name is not None
        self.refuses_sync: str | None = getattr(self.spare.value.policy, "refuses_sync", None)
        self.apply(self._settings, name or "")

    def _overflow_of(self, given: Policy | None) -> Policy:
        if given is not None:
            return _checked(given)
        try:
            return _checked(self._make(OTHER))
        except ConfigurationError:
            raise
        except Exception as exc:
            raise ConfigurationError(
                f"Keyed: make({OTHER!r}) raised {exc!r}; give overflow=, the policy of keys that find no place"
            ) from exc

    # Settings

    def apply(self, settings: config.Settings, service: str) -> None:
        """Take over changed settings, for every key there is and those to come."""
        max_keys, max_labels = self._explicit
        self._settings = settings
        self.table.max_keys = settings.choose(service, "KEYED_MAX_KEYS", max_keys)
        self.max_labels = settings.choose(service, "KEYED_MAX_LABELS", max_labels)
        for policy in self.parts():
            policy.apply(settings, policy.name or service)
        self.table.review()

    def settings(self) -> Mapping[str, Any]:
        """The settings in force; ``each`` is what a key without a place meets, as an example of them all."""
        return {"each": self.spare.value.policy, "max_keys": self.table.max_keys}

    # The policies

    @property
    def acts_as(self) -> str:
        """The kind of the policies that the keys have."""
        return self.spare.value.policy.acts_as

    def _make_slot(self, key: Hashable) -> Slot:
        policy = _checked(self._make(key))
        if policy is self.spare.value.policy:
            raise ConfigurationError(
                "Keyed: make gave one policy to two keys; it must make a new one each time"
            )
        label = f"{self.label}.{_text_of(key)}"
        if policy.name is None:
            policy.name = label
            policy.apply(self._settings, label)
        elif self._settings is not config.current():
            policy.apply(self._settings, policy.name)
        return Slot(policy, self._label_of(key, policy.name))

    def _label_of(self, key: Hashable, name: str) -> str | None:
        """A label once given is the key's for good: else each key that comes would add series to the metrics."""
        if key not in self._labels and len(self._labels) < self.max_labels:
            self._labels[key] = name
        return self._labels.get(key)

    def get(self, key: Hashable) -> Policy | None:
        """The policy of a key, to look at or to put right; None where it has none (now)."""
        entry = self.table.entries.get(key)
        return None if entry is None else entry.value.policy

    def parts(self) -> Iterator[Policy]:
        """The policies of all keys that there are now, the overflow last."""
        for entry in list(self.table.entries.values()):
            yield entry.value.policy
        yield self.spare.value.policy

    def snapshot(self) -> KeyedSnapshot:
        """The policies now."""
        entries = list(self.table.entries.values())
        shown = heapq.nlargest(SHOWN_KEYS, entries, key=lambda entry: (bool(entry.calls), entry.used))
        return KeyedSnapshot(
            keys=len(entries),
            in_use=sum(1 for entry in entries if entry.calls),
            evictions=self.table.evictions,
            overflow_calls=self.counts.overflow_calls,
            states={entry.key: entry.value.policy.snapshot() for entry in shown},
            overflow=self.spare.value.policy.snapshot(),
        )

    # In a pipeline

    def bind(self, site: Site) -> Policy:
        """The policies of all keys at one pipeline; their state is shared by all pipelines."""
        if self.name is None:
            self.name = site.name
            self.apply(self._settings, self.name)
        spare = self.spare.value
        if not self._named_spare:
            spare.policy.name = f"{self.label}.{OTHER}"
            spare.policy.apply(self._settings, spare.policy.name)
        at = KeyedAt(self, site)
        bound = self.face(spare, at).bound
        if isinstance(bound, Policy) and type(bound).run_sync is Policy.run_sync:
            self.refuses_sync = f"{spare.policy.kind} cannot guard one"
        return at

    def face(self, slot: Slot, at: KeyedAt) -> Face:
        """A key's policy at a pipeline, bound when it is first met there. Raises `ConfigurationError` for a retry."""
        for face in slot.faces:
            if face.at is at:
                return face
        with self._lock:
            at.inner.gates = []
            at.inner.saturation = [at.is_saturated]
            bound = slot.policy.bind(at.inner)
            if isinstance(bound, Repeat):
                raise ConfigurationError(f"Keyed: a {slot.policy.kind} is the same for every key")
            face = Face(at, bound, tuple(at.inner.gates))
            slot.faces = (*slot.faces, face)
            return face


def _text_of(key: Hashable) -> str:
    parts = cast("tuple[object, ...]", key) if isinstance(key, tuple) else (key,)
    return ".".join(map(str, parts))[:_LONGEST_LABEL]


def _checked(policy: Policy) -> Policy:
    if not isinstance(policy, Policy):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"Keyed: make gave {policy!r}, which is no policy")
    if policy.kind in _REFUSED:
        raise ConfigurationError(
            f"Keyed: a {policy.kind} is the same for every key; put one into the pipeline"
        )
    return policy
