"""A dependency that does as it is told, for the tests of retries."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

__all__ = ["Dependency", "HTTPError", "down"]


class HTTPError(Exception):
    """An error as HTTP clients raise it; underscores in header names are hyphens."""

    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(f"HTTP {status}")
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.response = SimpleNamespace(status_code=status, headers=headers)


class Dependency:
    """Fails as told, once per error, then answers; notes when and with which key it was asked."""

    def __init__(self, *errors: BaseException | str, lasts: float = 0.0) -> None:
        self.errors = list(errors)
        self.lasts = lasts
        self.times: list[float] = []
        self.keys: list[str | None] = []

    async def __call__(self, *, key: str | None = None) -> str:
        self.times.append(asyncio.get_running_loop().time())
        self.keys.append(key)
        await asyncio.sleep(self.lasts)
        answer = self.errors.pop(0) if self.errors else "fine"
        if isinstance(answer, BaseException):
            raise answer
        return answer


def down(count: int = 99) -> list[BaseException]:
    """``count`` connection errors, numbered from 1."""
    return [ConnectionError(number) for number in range(1, count + 1)]
