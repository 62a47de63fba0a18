"""Clients as a pipeline wants them: one attempt for each call, and every wait bounded.

    client = tame.openai(30, api_key=key)
    model = tame.chat_anthropic(30, model="claude-sonnet-5-5")
    sessions = tame.redis(0.2, url="redis://localhost")

The libraries retry by themselves (2 to 11 attempts for one call) and wait for minutes, or without end; see `doctor`.
What retries is then the pipeline, which knows the deadline, the budget and the breaker.

``timeout``: seconds that the service may be silent (> 0). It bounds each wait, not the whole of an answer that drips:
that is the pipeline's `Timeout`. ``connect_timeout``: seconds for connecting, where the library tells it apart (None:
as ``timeout``, at most 5). ``options`` are the library's own, but for those that would overrule this: they raise
`ConfigurationError`, and so does what brings retries back (a URL, an HTTP client that retries).

A library is imported when its factory is called. Raises ImportError that names the package where it is missing.
"""

from __future__ import annotations

from ._tame.models import anthropic, chat_anthropic, chat_google, chat_openai, google_genai, openai
from ._tame.services import botocore_config, keycloak, openfga, prometheus, redis

__all__ = [
    "anthropic",
    "botocore_config",
    "chat_anthropic",
    "chat_google",
    "chat_openai",
    "google_genai",
    "keycloak",
    "openai",
    "openfga",
    "prometheus",
    "redis",
]
