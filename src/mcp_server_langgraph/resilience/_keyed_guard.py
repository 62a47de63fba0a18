"""A key's policy at work in one pipeline, and the numbers of all keys; `keyed` has the table of them."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from . import events
from ._machines.keyed import Entry
from ._source import END, Source
from .metrics import FAMILIES, Meter, Sample
from .policy import WAIT, Call, Guard, Policy, Proceed, ProceedStream, ProceedSync, Site

if TYPE_CHECKING:
    from .keyed import Keyed

# The key of the default overflow policy, and the last part of the label under which the rest is added up.
OTHER: Final = "other"


class Slot:
    """A key's policy, and what does its work at each pipeline. ``label``: its own in the metrics, if it has one."""

    __slots__ = ("faces", "label", "policy")

    def __init__(self, policy: Policy, label: str | None = None) -> None:
        self.policy = policy
        self.label = label
        self.faces: tuple[Face, ...] = ()

    def meters(self) -> Iterator[Meter]:
        """Everything here that has numbers, each once."""
        meters = [getattr(face.bound, "meter", None) for face in self.faces]
        yield from {id(meter): meter for meter in meters if meter is not None}.values()


class Face:
    """A key's policy at one pipeline. ``gates``: for how long it refuses every call, as a retry wants to know."""

    __slots__ = ("at", "bound", "gates")

    def __init__(
        self, at: KeyedAt, bound: Guard | Policy, gates: tuple[Callable[[float], float], ...]
    ) -> None:
        self.at = at
        self.bound = bound
        self.gates = gates


# The last face through which a call failed in this context, for the retry that asks next.
_failed_last: Final[ContextVar[Face | None]] = ContextVar("resilience_keyed_failed", default=None)
_NO_GUARD: Final = Guard()


class KeyedAt(Policy):
    """The policies of all keys at one pipeline."""

    kind = "keyed"

    def __init__(self, policy: Keyed, site: Site) -> None:
        self.policy = policy
        self.table = policy.table
        self.meter = policy.counts
        # What the keys' policies tell the site of themselves would grow with the keys.
        self.inner = copy.copy(site)
        self._saturation = site.saturation
        if site.inside_retry:
            site.gates.append(self.refuses_for)

    def refuses_for(self, now: float) -> float:
        """Seconds for which the key of the attempt that failed last refuses every call."""
        face = _failed_last.get()
        if face is None or face.at is not self:
            return 0.0
        return max((gate(now) for gate in face.gates), default=0.0)

    def is_saturated(self) -> bool:
        """What the pipeline's limiters say, to keyed hedges. One key's limit says nothing of another key."""
        return any(full() for full in self._saturation)

    def enter(self, call: Call, now: float) -> tuple[Entry[Slot], Face]:
        """The key's entry, in use until `leave`, and its policy here."""
        policy = self.policy
        entry = self.table.enter(policy.key(*call.args, **call.kwargs), now)
        if entry is None:
            entry = policy.spare
            entry.calls.append(None)
            policy.counts.overflowed()
        try:
            slot = entry.value
            faces = slot.faces
            return entry, faces[0] if faces and faces[0].at is self else policy.face(slot, self)
        except BaseException:
            self.table.leave(entry)
            raise

    def failed_at(self, face: Face) -> None:
        """Remember where a call failed, for the retry that asks next."""
        if face.gates:
            _failed_last.set(face)

    def example(self) -> Guard | Policy:
        """What a key's policy is at this pipeline, to see what kind of thing it is."""
        return self.policy.face(self.policy.spare.value, self).bound

    async def run(self, call: Call, proceed: Proceed) -> Any:
        entry, face = self.enter(call, asyncio.get_running_loop().time())
        try:
            return await face.bound.run(call, proceed)
        except BaseException:
            self.failed_at(face)
            raise
        finally:
            self.table.leave(entry)

    def run_sync(self, call: Call, proceed: ProceedSync) -> Any:
        entry, face = self.enter(call, time.monotonic())
        try:
            return face.bound.run_sync(call, proceed)
        except BaseException:
            self.failed_at(face)
            raise
        finally:
            self.table.leave(entry)

    async def stream(self, call: Call, proceed: ProceedStream) -> AsyncGenerator[Any, Any]:
        clock = asyncio.get_running_loop().time
        entry, face = self.enter(call, clock())
        bound = face.bound
        guard = bound if isinstance(bound, Guard) else _NO_GUARD
        source = Source()
        try:
            token = guard.enter(clock())
            if token is WAIT:
                token = await guard.wait()
            try:
                source = Source(bound.stream(call, proceed) if isinstance(bound, Policy) else proceed(call))
                item = await source.next()
                guard.first_item_came(token, clock())
                while item is not END:
                    try:
                        sent = yield item
                    except GeneratorExit:
                        raise
                    except BaseException as thrown:
                        item = await source.throw(thrown)
                    else:
                        item = await source.next(sent)
                await source.close()
            except BaseException as exc:
                raised = guard.failed(token, clock(), await _closed(source, exc))
                if raised is None:
                    raise
                try:
                    raise raised from exc
                finally:
                    del raised  # an exception kept in its own frame is a cycle
            guard.succeeded(token, clock())
        finally:
            self.table.leave(entry)


async def _closed(source: Source, exc: BaseException) -> BaseException:
    """Close the source; gives what went wrong last."""
    try:
        await source.close()
    except BaseException as closing:
        return closing
    return exc


class KeyedMeter:
    """The numbers of all keys, those without a label of their own added up; and what forgotten keys had counted."""

    def __init__(self, policy: Keyed) -> None:
        self.policy = policy
        self.overflow_calls = 0
        self._full = False
        self._retired: dict[tuple[str, tuple[str, ...]], float] = {}

    def overflowed(self) -> None:
        """Count a call whose key found no place; say so when it begins."""
        self.overflow_calls += 1
        if not self._full:
            self._full = True
            events.emit(
                "warning", self.policy.label, problem="no place for a key", keys=self.policy.table.max_keys
            )

    def retire(self, entry: Entry[Slot]) -> None:
        """Keep what a key that is forgotten had counted: counters never go back."""
        self._full = False
        for name, labels, value in self._of(entry.value):
            if FAMILIES[name].kind == "counter" and isinstance(value, (int, float)):
                kept = (name, labels)
                self._retired[kept] = self._retired.get(kept, 0.0) + value

    def _of(self, slot: Slot) -> Iterator[Sample]:
        label = slot.label or f"{self.policy.label}.{OTHER}"
        for meter in slot.meters():
            for name, labels, value in meter.samples():
                yield Sample(name, (label, *labels[1:]), value)

    def samples(self) -> Iterator[Sample]:
        """The numbers as they are now."""
        table, service = self.policy.table, (self.policy.label,)
        yield Sample("keyed_keys", service, len(table.entries))
        yield Sample("keyed_evictions_total", service, table.evictions)
        yield Sample("keyed_overflow_calls_total", service, self.overflow_calls)
        for entry in [*table.entries.values(), self.policy.spare]:
            yield from self._of(entry.value)
        for (name, labels), value in list(self._retired.items()):
            yield Sample(name, labels, value)
