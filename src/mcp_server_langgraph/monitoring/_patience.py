"""How long a new answer is waited for by whom an earlier one could be given.

A last answer stands in for a service that hangs, but an impatient client would give it for every query that is slow
by nature as well. So the wait goes by the query: some times what it took lately. And it grows with the age of the last
answer: an old one is worth less, and a query that has become slow is waited for again some day, and known to be slow.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, NamedTuple

from ._wire import Form

__all__ = ["Patience"]

_TIMES_AS_LONG: Final = 3.0
# Of the age of the last answer: a second for one of a minute ago.
_OF_ITS_AGE: Final = 1 / 60
# The whole call has a little more than one attempt: it is the attempt's end that is held against the service.
_WHOLE: Final = 1.2


class _Answered(NamedTuple):
    """When a query was answered last, and the seconds of the last two answers: one may have been slow by chance."""

    at: float
    seconds: tuple[float, ...]


class Patience:
    """Seconds that an attempt at each query may take: ``least``, or longer where answers take long or the last one is
    old.

    Remembers ``limit`` queries. For others there is no limit of this kind (None). ``clock``: seconds.
    """

    def __init__(
        self, least: float = 0.3, *, limit: int = 256, clock: Callable[[], float] | None = None
    ) -> None:
        self._least = least
        self._limit = limit
        self._clock = clock or _loop_time
        self._answered: OrderedDict[Hashable, _Answered] = OrderedDict()

    def answered(self, endpoint: str, form: Form, seconds: float) -> None:
        """The query was answered after so many seconds."""
        query = _query(endpoint, form)
        known = self._answered.get(query)
        before = known.seconds[-1:] if known is not None else ()
        self._answered[query] = _Answered(self._clock(), (*before, seconds))
        self._answered.move_to_end(query)
        if len(self._answered) > self._limit:
            self._answered.popitem(last=False)

    def of_attempt(self, endpoint: str, form: Form, read: object = None) -> float | None:
        """Seconds of one attempt; the signature is that of what the client's pipeline calls."""
        known = self._answered.get(_query(endpoint, form))
        if known is None:
            return None
        age = self._clock() - known.at
        return max(self._least, min(known.seconds) * _TIMES_AS_LONG, age * _OF_ITS_AGE)

    def of_call(self, endpoint: str, form: Form) -> float | None:
        """Seconds of all attempts together."""
        attempt = self.of_attempt(endpoint, form)
        return None if attempt is None else attempt * _WHOLE


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


def _query(endpoint: str, form: Form) -> Hashable:
    return endpoint, form.get("query")
