"""The truth about the services behind the server: what is configured, whether it can be reached, what stands in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mcp_server_langgraph.resilience import CircuitBreaker, Pipeline, Timeout, registry
from mcp_server_langgraph.resilience.deadline import now
from mcp_server_langgraph.server.probes import PROBE_SECONDS, Probe

__all__ = ["Dependency", "StatusBoard", "is_degraded"]

PROBE_EVERY: Final = 5.0
"""Seconds for which the result of a probe is good: health checks come often, and must not be load themselves."""

_STANDING: Final = frozenset({"closed", "forced_closed", "disabled", "metrics_only"})

# The steps of turns are kept in the same Redis, under limits of their own.
_FURTHER: Final = {"redis": ("database",)}


@dataclass(frozen=True, slots=True)
class Dependency:
    """A service that the server leans on.

    ``mode`` says what the server uses, ``fallback`` what happens while it is down. ``probe`` asks
    whether it works; None where there is nothing to reach, or it is not ours to probe. ``facts`` gives what else to
    tell; a "problem" among them degrades the service, and "unusable" takes it down.
    """

    name: str
    mode: str
    fallback: str = ""
    probe: Probe | None = None
    embedded: bool = False
    facts: Callable[[], dict[str, Any]] = dict


def is_degraded(services: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether any service is not what it should be."""
    return any(service["state"] in ("degraded", "down") for service in services.values())


class StatusBoard:
    """Joins what the breakers saw of the traffic with a probe of our own, made when asked and kept for seconds."""

    def __init__(self, dependencies: Iterable[Dependency]) -> None:
        self._dependencies = tuple(dependencies)
        # Outside of the services' own pipelines: a probe has to tell the truth while a circuit is open too.
        self._probes = {
            dependency.name: (
                Pipeline("probe", Timeout(PROBE_SECONDS), operation=dependency.name),
                dependency.probe,
            )
            for dependency in self._dependencies
            if dependency.probe is not None
        }
        self._reachable: dict[str, bool] = {}
        self._probed_at = -PROBE_EVERY
        self._probing = asyncio.Lock()

    async def services(self) -> dict[str, dict[str, Any]]:
        """Each service with its state (embedded, up, degraded, down), mode, reachability and breakers."""
        async with self._probing:
            if time.monotonic() - self._probed_at >= PROBE_EVERY:
                await self._probe()
                self._probed_at = time.monotonic()
        return {dependency.name: self._view(dependency) for dependency in self._dependencies}

    async def _probe(self) -> None:
        ends = await asyncio.gather(*(pipeline.try_call(probe) for pipeline, probe in self._probes.values()))
        self._reachable = {name: end.ok for name, end in zip(self._probes, ends, strict=True)}

    def _view(self, dependency: Dependency) -> dict[str, Any]:
        if dependency.embedded:
            return {"state": "embedded", "mode": dependency.mode, **dependency.facts()}
        facts = dependency.facts()
        breakers = breaker_states(dependency.name)
        standing = [state in _STANDING for state in breakers.values()]
        reachable = self._reachable.get(dependency.name)
        if reachable is not False and all(standing) and "problem" not in facts:
            state = "up"
        elif facts.get("unusable") or (dependency.name == "llm" and _asks_nobody("llm")):
            state = "down"
        else:
            state = "degraded"
        view: dict[str, Any] = {
            "state": state,
            "mode": dependency.mode,
            "breakers": breakers,
            **facts,
        }
        if reachable is not None:
            view["reachable"] = reachable
        if state != "up" and dependency.fallback:
            view["degraded_mode"] = dependency.fallback
        return view


def breaker_states(service: str) -> dict[str, str]:
    """The states of the breakers of a service, by name."""
    return {name: str(breaker.state) for name, breaker in _breakers(service).items()}


def _breakers(service: str) -> dict[str, CircuitBreaker]:
    own = (service, *_FURTHER.get(service, ()))
    return {
        name: breaker
        for name, breaker in registry.breakers().items()
        if name in own or name.startswith((f"{service}.", f"{service}:", f"{service}/"))
    }


def _asks_nobody(service: str) -> bool:
    """Whether every circuit refuses now. One whose break is over waits for a call that probes: a server that said it
    was not ready until then would get none, and never be ready again.
    """
    seen = [breaker.snapshot() for breaker in _breakers(service).values()]
    return bool(seen) and all(
        one.state == "forced_open"
        or (one.state == "open" and one.open_until is not None and now() < one.open_until)
        for one in seen
    )
