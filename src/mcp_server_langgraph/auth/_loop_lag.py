"""How late our own event loop was: a peer that seems slow may be answering a process that has no time to listen."""

import asyncio
from typing import Final, Self

__all__ = ["LoopLag"]

_BEAT: Final = 0.05


class LoopLag:
    """Measures while its block runs. `seconds`: how late the loop's timers were in it, all together."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._late = 0.0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def seconds(self) -> float:
        return self._late + max(0.0, self._loop.time() - self._due)

    def __enter__(self) -> Self:
        self._wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._late = self.seconds
        self._due = float("inf")
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self) -> None:
        self._due = self._loop.time() + _BEAT
        self._timer = self._loop.call_at(self._due, self._beat)

    def _beat(self) -> None:
        self._late = self.seconds
        self._wait()
