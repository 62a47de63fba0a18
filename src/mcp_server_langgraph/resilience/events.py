"""What happens away from the success path, told to whoever listens and to the log.

An `Event` is built only when there is a listener or the log level asks for it. Listeners are called in the order in
which they were added; one that raises is logged and does no harm to the call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Event", "Listener", "emit", "subscribe"]

logger: Final = logging.getLogger("mcp_server_langgraph.resilience")


@dataclass(slots=True)
class Event:
    """One thing that happened. ``kind`` is one of: budget_refused, calm, chaos, cooldown, ejected, fallback,
    fallback_failed, hedge, hedge_off, hedge_on, panic, rejected, reload, retry, retry_exhausted, returned,
    shared, state_change, timeout, unshared, warning. ``pipeline`` is the pipeline's or breaker's name, ``details``
    depend on the kind.
    """

    kind: str
    pipeline: str
    details: dict[str, Any]


Listener = Callable[[Event], None]

# To be looked at, not changed, before telling of what happens very often: who listens, and what the logger remembers of
# its levels (it forgets that where one changes). Asking the logger costs a fourth of a refusal.
listeners: tuple[Listener, ...] = ()
remembered_levels: Final[dict[int, bool]] = getattr(logger, "_cache", {})

_LEVELS: Final = {
    "budget_refused": logging.DEBUG,
    "calm": logging.WARNING,
    "chaos": logging.WARNING,
    "cooldown": logging.INFO,
    "ejected": logging.WARNING,
    "fallback": logging.WARNING,
    "fallback_failed": logging.ERROR,
    "hedge": logging.DEBUG,
    "hedge_off": logging.WARNING,
    "hedge_on": logging.INFO,
    "panic": logging.ERROR,
    "rejected": logging.DEBUG,
    "reload": logging.INFO,
    "retry": logging.INFO,
    "retry_exhausted": logging.ERROR,
    "returned": logging.INFO,
    "shared": logging.INFO,
    "state_change": logging.WARNING,
    "timeout": logging.WARNING,
    "unshared": logging.WARNING,
    "warning": logging.WARNING,
}


def subscribe(listener: Listener) -> Callable[[], None]:
    """Call ``listener`` with every event from now on. Returns a function that ends it."""
    global listeners
    listeners = (*listeners, listener)

    def unsubscribe() -> None:
        global listeners
        listeners = tuple(other for other in listeners if other is not listener)

    return unsubscribe


def emit(kind: str, pipeline: str, /, **details: Any) -> None:
    """Tell listeners and the log that something happened. Builds nothing when nobody would see it."""
    level = _LEVELS[kind]
    if logger.isEnabledFor(level):
        text = " ".join(f"{name}={value}" for name, value in details.items())
        logger.log(
            level,
            "%s %s %s",
            kind,
            pipeline,
            text,
            extra={"event": kind, "pipeline": pipeline, **_safe(details)},
        )
    if listeners:
        event = Event(kind, pipeline, details)
        for listener in listeners:
            _tell(listener, event)


def _safe(details: dict[str, Any]) -> dict[str, Any]:
    return {f"resilience_{name}": value for name, value in details.items()}


def _tell(listener: Listener, event: Event) -> None:
    try:
        listener(event)
    except Exception:
        logger.exception("a listener raised on %s of %s", event.kind, event.pipeline)
