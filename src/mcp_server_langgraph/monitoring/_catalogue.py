"""What there is at a Prometheus: names, label values, series, alerts, rules and targets, as values.

Source: https://prometheus.io/docs/prometheus/latest/querying/api/ (metadata, targets, rules, alerts).
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlsplit

__all__ = ["Alert", "Listing", "Rule", "Target", "alerts", "label_sets", "names", "rules", "targets"]

T = TypeVar("T")

_SHOWN: Final = 300


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """Things in the order in which Prometheus lists them.

    ``as_of``: unix seconds of the answer. The other fields are those of a `QueryResult`.
    """

    items: tuple[T, ...]
    as_of: float
    age_seconds: float = 0.0
    stale: bool = False
    warning: str | None = None

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self.items)


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert that is ``pending`` or ``firing`` (its ``state``), since ``active_at`` (unix seconds)."""

    name: str
    state: str
    labels: dict[str, str]
    annotations: dict[str, str]
    active_at: float | None
    value: float


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule. ``kind``: alerting or recording. ``state``: of an alerting rule inactive, pending or firing, else None.

    ``health``: ok, err or unknown; ``error``: why it could not be evaluated, else empty.
    """

    name: str
    group: str
    kind: str
    query: str
    state: str | None
    health: str
    error: str


@dataclass(frozen=True, slots=True)
class Target:
    """Something that is scraped. ``health``: up, down or unknown. ``url``: without credentials and query.

    ``last_scrape``: unix seconds, None where there was none. ``error``: why the last one failed, else empty.
    """

    job: str
    instance: str
    url: str
    health: str
    error: str
    last_scrape: float | None


def names(data: Any, warnings: list[str], now: float) -> Listing[str]:
    """The reader of label names and label values."""
    return _listing(map(str, _list(data)), warnings, now)


def label_sets(data: Any, warnings: list[str], now: float) -> Listing[dict[str, str]]:
    """The reader of series."""
    return _listing(map(_texts, _list(data)), warnings, now)


def alerts(data: Any, warnings: list[str], now: float) -> Listing[Alert]:
    """The reader of the alerts."""
    return _listing(map(_alert, data["alerts"]), warnings, now)


def rules(data: Any, warnings: list[str], now: float) -> Listing[Rule]:
    """The reader of the rules, group by group."""
    found = (_rule(group["name"], rule) for group in data["groups"] for rule in group["rules"])
    return _listing(found, warnings, now)


def targets(data: Any, warnings: list[str], now: float) -> Listing[Target]:
    """The reader of the active targets."""
    return _listing(map(_target, data["activeTargets"]), warnings, now)


def _listing(items: Iterable[T], warnings: list[str], now: float) -> Listing[T]:
    return Listing(tuple(items), as_of=now, warning="; ".join(warnings) or None)


def _list(data: Any) -> list[Any]:
    if not isinstance(data, list):
        raise ValueError("no list")
    return data


def _alert(entry: Any) -> Alert:
    labels = _texts(entry["labels"])
    return Alert(
        labels["alertname"],
        str(entry["state"]),
        labels,
        _texts(entry.get("annotations") or {}),
        _moment(entry.get("activeAt")),
        float(entry["value"]),
    )


def _rule(group: Any, entry: Any) -> Rule:
    state = entry.get("state")
    return Rule(
        str(entry["name"]),
        str(group),
        str(entry["type"]),
        str(entry["query"]),
        None if state is None else str(state),
        str(entry["health"]),
        str(entry.get("lastError") or "")[:_SHOWN],
    )


def _target(entry: Any) -> Target:
    labels = _texts(entry["labels"])
    address = urlsplit(str(entry["scrapeUrl"]))
    url = f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path}"
    error = str(entry.get("lastError") or "").replace(str(entry["scrapeUrl"]), url)[:_SHOWN]
    return Target(
        labels.get("job", ""),
        labels.get("instance", ""),
        url,
        str(entry["health"]),
        error,
        _moment(entry.get("lastScrape")),
    )


def _texts(entry: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in entry.items()}


def _moment(text: Any) -> float | None:
    """Unix seconds of a time as Go writes it; None for its zero, which means never."""
    if not text:
        return None
    moment = datetime.datetime.fromisoformat(str(text))
    return moment.timestamp() if moment.year > 1 else None
