"""How the server is reached, what it logs, and how it stops."""

from __future__ import annotations

from typing import Annotated, Literal

from ._fields import URL, Group, HttpUrl, Lower, Names, Upper, setting

__all__ = ["HttpSettings"]


class HttpSettings(Group):
    """How the server is reached, what it logs, and how it stops."""

    host: str = setting(
        "127.0.0.1", "Address that the HTTP transport listens on.", "an address or a host name"
    )
    port: int = setting(
        8000, "Port of the HTTP transport.", "an integer, 0 (any free port) to 65535", ge=0, le=65535
    )
    public_url: HttpUrl | None = setting(None, "URL of this server as its clients see it, without /mcp.", URL)
    allowed_hosts: Names = setting(
        [], "Host headers accepted beside the loopback names.", "comma separated host, host:port or host:*"
    )
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], Upper] = setting(
        "INFO", "Least severe level that is logged.", "DEBUG, INFO, WARNING or ERROR"
    )
    log_format: Annotated[Literal["json", "text"], Lower] = setting(
        "json", "Form of the log lines on stderr.", "json or text"
    )
    drain_seconds: float = setting(
        20.0,
        "Seconds that calls in flight get to finish after SIGTERM.",
        "a number, 0 or more",
        ge=0,
        le=3600,
    )
