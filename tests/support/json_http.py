"""One HTTP request and its JSON answer, blocking, with the standard library alone: for what steers a server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.client import HTTPConnection
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

__all__ = ["Answer", "send"]


class Answer(NamedTuple):
    """`body` is None where there was none, and a text where it is not JSON."""

    status: int
    body: Any
    headers: dict[str, str]

    def expect(self, *statuses: int) -> Any:
        """The body, if the status is one of these (any success where none is named). Raises RuntimeError else."""
        if self.status not in (statuses or range(200, 300)):
            raise RuntimeError(f"unexpected answer: {self.status} {self.body}")
        return self.body


def send(
    method: str,
    url: str,
    *,
    json_body: Any = None,
    form: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 60.0,
) -> Answer:
    """Raises OSError or HTTPException where no answer comes."""
    parts = urlsplit(url)
    content, kind = _encoded(json_body, form)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    try:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, content, {**kind, **(headers or {})})
        answer = connection.getresponse()
        named = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, _decoded(answer.read()), named)
    finally:
        connection.close()


def _encoded(json_body: Any, form: Mapping[str, str] | None) -> tuple[bytes | None, dict[str, str]]:
    if form is not None:
        return urlencode(form).encode(), {"content-type": "application/x-www-form-urlencoded"}
    if json_body is not None:
        return json.dumps(json_body).encode(), {"content-type": "application/json"}
    return None, {}


def _decoded(content: bytes) -> Any:
    if not content:
        return None
    try:
        return json.loads(content)
    except ValueError:
        return content.decode(errors="replace")
