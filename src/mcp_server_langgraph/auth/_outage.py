"""Whether a service is really down, or only refuses one caller.

A caller can make its own calls fail: by their content, their number, its own deadline. So failing open takes more
than failures: they must have met several principals, and a probe of our own must have failed too, lately. Any answer
takes all of it back. A pure machine: `now` is an argument, in seconds.
"""

from typing import Final

__all__ = ["OutageEvidence"]

_REMEMBERED: Final = 1_000


class OutageEvidence:
    """Failures of the last `window` seconds by principal, and our own probe's last failure.

    `principals_needed` (>= 1) different principals and a probe that failed at most `probe_age` seconds ago are an
    outage.
    """

    def __init__(self, *, principals_needed: int = 3, window: float = 60.0, probe_age: float = 10.0) -> None:
        if principals_needed < 1:
            raise ValueError(f"principals_needed must be at least 1, not {principals_needed}")
        self._needed = principals_needed
        self._window = window
        self._probe_age = probe_age
        self._failures: dict[str, float] = {}
        self._probe_failed_at: float | None = None

    def failed(self, principal: str, now: float) -> None:
        """A call for this principal found the service unavailable."""
        self._failures.pop(principal, None)
        self._failures[principal] = now
        while len(self._failures) > _REMEMBERED:
            del self._failures[next(iter(self._failures))]

    def probe_failed(self, now: float) -> None:
        self._probe_failed_at = now

    def answered(self) -> None:
        """The service answered somebody, whatever it said."""
        self._failures.clear()
        self._probe_failed_at = None

    def is_outage(self, now: float) -> bool:
        if self._probe_failed_at is None or now - self._probe_failed_at > self._probe_age:
            return False
        recent = sum(now - at <= self._window for at in self._failures.values())
        return recent >= self._needed
