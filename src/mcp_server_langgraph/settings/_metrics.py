"""Where metrics are asked for."""

from __future__ import annotations

from ._fields import URL, Group, HttpUrl, setting

__all__ = ["MetricsSettings"]


class MetricsSettings(Group):
    """Where metrics are asked for."""

    prometheus_url: HttpUrl | None = setting(None, "Prometheus that the agent's metrics tool asks.", URL)
