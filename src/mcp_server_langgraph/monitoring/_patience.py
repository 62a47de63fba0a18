"""How long a new answer is waited for by whom an earlier one could be given.

A last answer stands in for a service that hangs, but an impatient client would give it for every query that is slow
by nature as well. So the wait goes by the query: some times what it took when it was answered last.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

from ._wire import Form

__all__ = ["Patience"]

_TIMES_AS_LONG: Final = 3.0
# The whole call has a little more than one attempt: it is the attempt's end that is held against the service.
_WHOLE: Final = 1.2


class Patience:
    """Seconds that an attempt at each query may take: ``least``, or longer where the last answer took long.

    Remembers ``limit`` queries. For others there is no limit of this kind (None).
    """

    def __init__(self, least: float = 0.4, *, limit: int = 256) -> None:
        self._least = least
        self._limit = limit
        self._took: OrderedDict[Hashable, float] = OrderedDict()

    def answered(self, endpoint: str, form: Form, seconds: float) -> None:
        """The query was answered after so many seconds."""
        query = _query(endpoint, form)
        self._took[query] = seconds
        self._took.move_to_end(query)
        if len(self._took) > self._limit:
            self._took.popitem(last=False)

    def of_attempt(self, endpoint: str, form: Form, read: object = None) -> float | None:
        """Seconds of one attempt; the signature is that of what the client's pipeline calls."""
        took = self._took.get(_query(endpoint, form))
        return None if took is None else max(self._least, took * _TIMES_AS_LONG)

    def of_call(self, endpoint: str, form: Form) -> float | None:
        """Seconds of all attempts together."""
        attempt = self.of_attempt(endpoint, form)
        return None if attempt is None else attempt * _WHOLE


def _query(endpoint: str, form: Form) -> Hashable:
    return endpoint, form.get("query")
