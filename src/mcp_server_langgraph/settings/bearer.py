"""What can be sent as a bearer token."""

from __future__ import annotations

__all__ = ["checked_bearer"]


def checked_bearer(token: str) -> str:
    """The token. Raises ValueError, which does not repeat it, where a header would be refused or cut short."""
    if not (token and token.isascii() and token.isprintable() and " " not in token):
        raise ValueError("a token of printable ASCII characters, without blanks")
    return token
