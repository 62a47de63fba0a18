"""What a model of the chain is called: ``provider:model``; with another account of it ``provider/account:model``."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

__all__ = ["LOCAL_MODEL", "SOURCE", "ModelName", "checked_source"]

LOCAL_MODEL: Final = "smollm2"
"""The one model of the provider ``local``."""
SOURCE: Final = "provider or provider/account"

_SOURCE: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}(/[a-z0-9][a-z0-9_-]{0,31})?")


class ModelName(NamedTuple):
    """``source``: the provider, with the account after a slash where it is another than the provider's first.

    ``model`` is empty where it is the provider's default. It may hold further colons and slashes.
    """

    source: str
    model: str

    @classmethod
    def read(cls, text: str) -> ModelName:
        """The name that ``text`` is. Raises ValueError."""
        source, _, model = text.partition(":")
        return cls(checked_source(source), model.strip())

    @property
    def provider(self) -> str:
        """The provider without the account."""
        return self.source.partition("/")[0]

    @property
    def account(self) -> str:
        """The account; empty for the provider's first."""
        return self.source.partition("/")[2]

    def __str__(self) -> str:
        return f"{self.source}:{self.model}"


def checked_source(text: str) -> str:
    """``text`` in lower case. Raises ValueError where it names no provider and account."""
    source = text.strip().lower()
    if not _SOURCE.fullmatch(source):
        raise ValueError(SOURCE)
    return source
