"""The matrix: what each caller gets while each service fails in each way. Read it by columns, as `Cell` names them.

Times are bounds in seconds under the settings of `cell.SETTINGS` (short waits between attempts, an open time of half a
second); benchmarks/results/faults.md has what was measured under the defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.faults.faults import FAULTS

__all__ = ["EXPECTED", "Cell"]


@dataclass(frozen=True)
class Cell:
    """``known``, ``new``, ``later``: what the three callers of the scene get (…: what follows may differ). ``within``:
    seconds for the slowest of all calls. ``attempts``: least and most that the first call costs. ``breaker``: "opens"
    or "stays closed". ``recovers``: seconds from the end of the fault to whole answers.
    """

    known: str
    new: str
    later: str
    within: float
    attempts: tuple[int, int]
    breaker: str = "opens"
    recovers: float = 1.0


_DENIED: Final = "error: permission denied: can_chat on service:agent"


def _openfga(within: float, attempts: tuple[int, int], again: str = "") -> Cell:
    denied = f"{_DENIED} (OpenFGA cannot be asked{again})"
    known = "degraded: openfga by last known decision"
    return Cell(known, denied, "degraded: openfga by fail-open: permission not checked", within, attempts)


_BUSY: Final = f"{_DENIED} (OpenFGA is too busy, retry after a wait)"

# Each attempt may have a hedge beside it.
_OPENFGA: Final = {
    "refused": _openfga(0.5, (3, 6)),
    "black hole": _openfga(1.0, (1, 4)),
    "SIGSTOP": _openfga(1.0, (1, 4)),
    "kill -9": _openfga(0.5, (3, 6)),
    "slow": _openfga(1.0, (1, 4)),
    "reset": _openfga(0.5, (3, 6)),
    "garbage": _openfga(0.5, (3, 6)),
    "500": _openfga(0.5, (3, 6)),
    "503": _openfga(0.5, (1, 2), ", retry after a wait"),
    # A caller can bring this about by its own load, so it lets nobody in.
    # At last our own throttle denies most calls before OpenFGA has to, and some yet when it is well again.
    "429": Cell(_BUSY, _BUSY, f"{_DENIED} (OpenFGA …", 0.5, (1, 2), "stays closed", 5.0),
    "TLS expired": _openfga(0.5, (3, 6)),
    "flapping": _openfga(1.0, (1, 6)),
}

_MEMORY: Final = "degraded: redis by memory: single-instance, not durable"


def _redis(attempts: tuple[int, int]) -> Cell:
    return Cell(_MEMORY, "error: sessions are unavailable", _MEMORY, 1.0, attempts)


# Sessions and the steps of turns have a breaker each, which five failures open. The write-back goes through the same
# pipelines, and may be some of them.
_REDIS: Final = {name: _redis((10, 14)) for name in FAULTS} | {
    "black hole": _redis((4, 16)),
    "SIGSTOP": _redis((4, 16)),
    "slow": _redis((4, 16)),
    "flapping": _redis((1, 30)),  # all that is promised: it depends on when its turns begin
}

_LIMITED: Final = "degraded: keycloak by last good keys: limited features"
_COME_BACK: Final = "error: 503 the identity provider cannot be asked, with Retry-After"
_KEYS: Final = Cell(_LIMITED, _COME_BACK, _LIMITED, 0.5, (3, 6), recovers=2.0)

_KEYCLOAK: Final = dict.fromkeys(FAULTS, _KEYS) | {
    "429": Cell(_LIMITED, _COME_BACK, _LIMITED, 0.5, (2, 6), "stays closed", recovers=2.0),
}

_LAST: Final = "degraded: prometheus by last result"
_WITHOUT: Final = "degraded: prometheus_query by nothing: the answer does without"


def _prometheus(within: float, attempts: tuple[int, int], breaker: str = "opens") -> Cell:
    return Cell(_LAST, _WITHOUT, _LAST, within, attempts, breaker)


_PROMETHEUS: Final = {name: _prometheus(0.5, (3, 3)) for name in FAULTS} | {
    "black hole": _prometheus(1.5, (1, 2)),
    "SIGSTOP": _prometheus(1.5, (1, 2)),
    "slow": _prometheus(1.5, (1, 2)),
    "503": _prometheus(0.5, (1, 1)),  # a second is longer than a retry may be put off
    "429": _prometheus(0.5, (1, 1), "stays closed"),
    "flapping": _prometheus(1.5, (1, 3)),
}

_SECOND: Final = "degraded: llm by anthropic:second"


def _chain(attempts: tuple[int, int], breaker: str = "opens") -> Cell:
    return Cell(_SECOND, _SECOND, _SECOND, 1.0, attempts, breaker)


_CHAIN: Final = {name: _chain((3, 3)) for name in FAULTS} | {
    "black hole": _chain((1, 1)),
    "SIGSTOP": _chain((1, 1)),
    "slow": _chain((1, 1)),
    "503": _chain((1, 1), "stays closed"),  # it is left alone for as long as it asked
    "429": _chain((1, 1), "stays closed"),
    "flapping": _chain((1, 3)),
}

_EARLIER: Final = "degraded: llm by earlier answer"
_NOBODY: Final = "error: unavailable at the moment: no model could answer"


def _alone(within: float, breaker: str = "opens", again: str = "") -> Cell:
    return Cell(_EARLIER, _NOBODY + again, _EARLIER, within, (3, 3), breaker)


_ALONE: Final = {name: _alone(0.5) for name in FAULTS} | {
    "black hole": _alone(2.0),
    "SIGSTOP": _alone(2.0),
    "slow": _alone(2.0),
    # Nobody else can be asked: the provider's Retry-After is waited for, twice.
    "503": _alone(3.5, again=", retry after a wait"),
    "429": _alone(3.5, "stays closed", ", retry after a wait"),
    "flapping": Cell(_EARLIER, _NOBODY, _EARLIER, 0.5, (1, 3)),
}

EXPECTED: Final[dict[str, dict[str, Cell]]] = {
    "llm": _CHAIN,
    "llm, no other": _ALONE,
    "openfga": _OPENFGA,
    "redis": _REDIS,
    "keycloak": _KEYCLOAK,
    "prometheus": _PROMETHEUS,
}
