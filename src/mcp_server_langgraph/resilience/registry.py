"""What there is: every pipeline and every named breaker, their numbers, and the reload of their settings.

Pipelines are listed as long as somebody holds them. A reload changes settings in place: state and calls in flight
stay. A bad reload changes nothing, and says what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from . import _stack, budget, config, events, stacking
from ._late import forget_counts
from .circuit_breaker import CircuitBreaker
from .errors import SettingsError
from .metrics import CarriedMeter, Meter, Metric, collect
from .pipeline import Pipeline, forget_pipelines, live_pipelines
from .policy import Policy

__all__ = ["add_meter", "breakers", "metrics", "pipelines", "policies", "reload", "remove_meter", "reset"]

_extra_meters: list[Meter] = []
_carried: Final = CarriedMeter()


def pipelines() -> list[Pipeline]:
    """Every pipeline that exists, by name."""
    return live_pipelines()


def breakers() -> dict[str, CircuitBreaker]:
    """Every breaker by name: those of decorators and those that stand in a pipeline, one for each key too."""
    found = {policy.label: policy for policy in policies() if isinstance(policy, CircuitBreaker)}
    return {**found, **_stack.named_breakers()}


def add_meter(meter: Meter) -> None:
    """Collect the numbers of something else too, a `metrics.CircuitBreakerMetricsListener` for example."""
    _extra_meters.append(meter)


def remove_meter(meter: Meter) -> None:
    """No longer collect what `add_meter` added."""
    _extra_meters[:] = [other for other in _extra_meters if other is not meter]


def metrics() -> list[Metric]:
    """The numbers of everything there is, as they are now. A breaker in several pipelines is counted once."""
    return collect(_meters())


def _meters() -> Iterator[Meter]:
    seen: set[int] = set()
    for meter in [
        *(meter for pipeline in pipelines() for meter in pipeline.meters()),
        *_extra_meters,
        _carried,
    ]:
        if id(meter) not in seen:
            seen.add(id(meter))
            yield meter


def reload(environ: Mapping[str, str] | None = None) -> config.Settings:
    """Read the settings again (default: the process's environment) and apply them to everything that exists.

    Raises `SettingsError` with everything that is wrong, or what a policy raises that cannot take them over; then the
    old settings stay in force everywhere.
    """
    try:
        settings = config.Settings.from_env(environ)
        problems = settings.problems_of(_services())
        if problems:
            raise SettingsError(problems)
    except SettingsError as exc:
        events.emit("warning", "settings", problem="reload refused", details=str(exc))
        raise
    _apply(settings)
    events.emit("reload", "settings", pipelines=len(pipelines()))
    return settings


def _apply(settings: config.Settings) -> None:
    """Apply to every pipeline, or to none: where a policy (one of yours) refuses, all go back to what they had."""
    before = config.current()
    config.install(settings)
    try:
        for pipeline in pipelines():
            pipeline.apply(settings)
    except Exception as exc:
        config.install(before)
        for pipeline in pipelines():
            pipeline.apply(before)
        events.emit("warning", "settings", problem="reload refused", details=str(exc))
        raise


def policies() -> Iterator[Policy]:
    """Every policy of every pipeline, those for each key too; one that stands in several comes as often."""
    for pipeline in pipelines():
        for policy in pipeline.policies:
            yield policy
            yield from policy.parts()


def _services() -> Iterator[str]:
    for pipeline in pipelines():
        yield pipeline.name
    yield from (policy.name for policy in policies() if policy.name)


def reset() -> None:
    """Forget pipelines, named breakers, shared budgets and settings (for tests)."""
    forget_pipelines()
    forget_counts()
    _stack.forget()
    budget.forget()
    stacking.forget()
    _extra_meters.clear()
    config.install(None)
