"""What pipelines did in a block, and assertions about it that read well.

    with Recorder() as seen:
        await pipeline.call(fetch)
    seen.happened("retry", "search", times=2)
    seen.changed("search", "open", "half_open", "closed")
    seen.ended("search", success=1)
    seen.never("fallback")

It hears the layer's events, and compares its metrics with those at the beginning of the block. A failed assertion tells
everything that was heard.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from mcp_server_langgraph.resilience import registry
from mcp_server_langgraph.resilience.events import Event, subscribe
from mcp_server_langgraph.resilience.metrics import HistogramValue

__all__ = ["Recorder"]

_Numbers = dict[tuple[str, tuple[str, ...]], float]


class Recorder:
    """Records events and numbers of every pipeline while its block is open. ``events``: what was heard, in order."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._before: _Numbers = {}
        self._after: _Numbers | None = None
        self._unsubscribe: Callable[[], None] | None = None

    def __enter__(self) -> Recorder:
        if self._unsubscribe is not None:
            raise RuntimeError("a Recorder can be entered only once")
        self._before = _numbers()
        self._unsubscribe = subscribe(self.events.append)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()
        self._after = _numbers()

    def of(self, kind: str, pipeline: str | None = None, **details: Any) -> list[Event]:
        """The events of that kind, of that pipeline (or breaker), with these details."""
        return [
            event
            for event in self.events
            if event.kind == kind
            and pipeline in (None, event.pipeline)
            and all(event.details.get(name, _MISSING) == value for name, value in details.items())
        ]

    def transitions(self, breaker: str) -> list[str]:
        """The states that a breaker entered, in order."""
        return [event.details["after"] for event in self.of("state_change", breaker)]

    def number(self, metric: str, *labels: str) -> float:
        """By how much a counter grew in the block, over all series whose first labels these are. A histogram counts its
        observations.
        """
        after = _numbers() if self._after is None else self._after
        return sum(
            value - self._before.get((name, found), 0.0)
            for (name, found), value in after.items()
            if name == metric and found[: len(labels)] == labels
        )

    def happened(
        self, kind: str, pipeline: str | None = None, *, times: int | None = None, **details: Any
    ) -> None:
        """Assert that such an event was heard: at least once, or exactly ``times``."""
        count = len(self.of(kind, pipeline, **details))
        wanted = "at least once" if times is None else f"{times} times"
        met = count > 0 if times is None else count == times
        assert met, f"{_told(kind, pipeline, details)}: wanted {wanted}, heard {count} times{self._heard()}"

    def never(self, kind: str, pipeline: str | None = None, **details: Any) -> None:
        """Assert that no such event was heard."""
        count = len(self.of(kind, pipeline, **details))
        assert count == 0, (
            f"{_told(kind, pipeline, details)}: wanted never, heard {count} times{self._heard()}"
        )

    def in_order(self, *kinds: str) -> None:
        """Assert that events of these kinds were heard one after the other, whatever else there was between them."""
        heard = iter(event.kind for event in self.events)
        missing = next((kind for kind in kinds if kind not in heard), None)
        assert missing is None, f"{' > '.join(kinds)}: no {missing} at its place{self._heard()}"

    def changed(self, breaker: str, *states: str) -> None:
        """Assert that the breaker entered exactly these states, in this order."""
        entered = self.transitions(breaker)
        assert entered == list(states), f"{breaker} entered {entered}, not {list(states)}{self._heard()}"

    def ended(self, pipeline: str, *, success: int = 0, failure: int = 0, neutral: int = 0) -> None:
        """Assert how the calls of a pipeline ended: so many in each way."""
        wanted = {"success": success, "failure": failure, "neutral": neutral}
        got = dict.fromkeys(wanted, 0)
        for (name, labels), value in (_numbers() if self._after is None else self._after).items():
            if name == "resilience_calls_total" and labels[0] == pipeline:
                got[labels[2]] += int(value - self._before.get((name, labels), 0.0))
        assert got == wanted, f"calls of {pipeline} ended {got}, not {wanted}{self._heard()}"

    def _heard(self) -> str:
        lines = [f"\n  {_told(event.kind, event.pipeline, event.details)}" for event in self.events]
        return "; heard:" + "".join(lines) if lines else "; heard nothing"


_MISSING = object()


def _told(kind: str, pipeline: str | None, details: dict[str, Any]) -> str:
    named = "".join(f" {name}={value!r}" for name, value in details.items())
    return f"{kind}{'' if pipeline is None else f' of {pipeline}'}{named}"


def _numbers() -> _Numbers:
    found: _Numbers = {}
    for metric in registry.metrics():
        for labels, value in metric.samples.items():
            count = sum(value.counts) if isinstance(value, HistogramValue) else value
            found[metric.name, labels] = float(count)
    return found
