"""Where metrics are asked for."""

from __future__ import annotations

from ._fields import URL, Group, HttpUrl, setting

__all__ = ["MetricsSettings"]


class MetricsSettings(Group):
    """Where metrics are asked for."""

    prometheus_url: HttpUrl | None = setting(
        None, "Prometheus that the agent's metrics tools and the SLA report ask.", URL
    )
    sla_selector: str | None = setting(
        None,
        "Which series in Prometheus are this server's; all that have its metrics where unset.",
        'label matchers of PromQL, such as job="mcp",env="prod"',
    )
