"""What guards the requests of HTTP clients: a breaker and a bulkhead for each host, and retries where they cannot hurt.

One `Hosts` may serve many clients, also of different libraries, synchronous ones beside asynchronous ones: a host that
is down for one is down for all. It knows nothing of the libraries; `integrations.httpx`, `.httpx2` and `.aiohttp` do.

What an answer says: 5xx and 408 are failures of the host, 429 and other 4xx are neutral (`outcome.classify`). The
caller gets the answer all the same. Only what is ours is raised: the circuit is open, no place is free, the time is up.

A request is sent again only where its method is idempotent (RFC 9110 section 9.2.2) or it has an Idempotency-Key, where
its body can be sent again, and where nobody above is sending it again already.

Events: those of the policies, and a ``warning`` of a body that cannot be sent again, once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping, MutableMapping
from typing import Any, Final, Protocol

from .. import _headers, events, stacking
from .._checks import checked
from .._held import Holder
from .._late import expired
from ..bulkhead import Bulkhead
from ..circuit_breaker import CircuitBreaker
from ..deadline import remaining
from ..keyed import Keyed
from ..pipeline import Pipeline
from ..policy import Policy
from ..propagation import current_attempt, outgoing_headers
from ..retry import Retry
from ..timeout import Timeout

__all__ = ["Hosts", "Request", "is_idempotent", "origin_of"]

_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
# How often openai's and anthropic's clients have sent the request before; 0 the first time.
CLIENTS_COUNT: Final = "x-stainless-retry-count"


class Request(Protocol):
    """A request of any library."""

    @property
    def method(self) -> str:
        """GET, POST, ..."""
        ...

    @property
    def url(self) -> Any:
        """It has ``scheme``, ``host`` and ``port``."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Names in any case."""
        ...


def origin_of(request: Request) -> str:
    """Scheme, host and port: what one circuit stands for, unless you say otherwise."""
    url = request.url
    return f"{url.scheme}://{url.host}:{url.port or _DEFAULT_PORTS.get(url.scheme, 0)}"


def is_idempotent(request: Request) -> bool:
    """Whether sending it twice does what sending it once does: by its method, or because it has an Idempotency-Key."""
    return request.method.upper() in _IDEMPOTENT or bool(request.headers.get("idempotency-key"))


class Hosts:
    """Guards requests, each host for itself.

    ``name``: what metrics and errors call it. ``key``: what one circuit stands for (default `origin_of`). ``breaker``
    and ``bulkhead``: make the policy of a key, a new one each time (default: `CircuitBreaker` and `Bulkhead` with their
    settings; None: none). ``attempt_timeout``: seconds from the sending of a request to the head of its answer (> 0;
    None: the client's own timeouts only). A synchronous request cannot be cut: there it bounds each of the client's
    timeouts. ``idle_timeout``: seconds between two pieces of a body (> 0; None: the client's). ``retry``: None sends
    each request once. ``idempotent``: which requests may be sent again (default `is_idempotent`). ``max_hosts``: keys
    at most, the least recently used is forgotten (default ``KEYED_MAX_KEYS``). ``tell``: whether requests say, in
    headers, what is left of the deadline, which attempt it is and how much it matters.

    Raises `ConfigurationError` for values out of range, and for policies that cannot be held until a body has ended.
    """

    def __init__(
        self,
        name: str = "http",
        *,
        key: Callable[[Any], Hashable] = origin_of,
        breaker: Callable[[Any], Policy] | None = lambda _: CircuitBreaker(),
        bulkhead: Callable[[Any], Policy] | None = lambda _: Bulkhead(),
        attempt_timeout: float | None = None,
        idle_timeout: float | None = None,
        retry: Retry | None = None,
        idempotent: Callable[[Any], bool] = is_idempotent,
        max_hosts: int | None = None,
        tell: bool = True,
    ) -> None:
        for label, value in (("attempt_timeout", attempt_timeout), ("idle_timeout", idle_timeout)):
            checked("Hosts", label, value, "above 0 seconds", ok=value is None or value > 0)
        self.name = name
        self.attempt_timeout = attempt_timeout
        self.idle_timeout = idle_timeout
        self.tell = tell
        self._idempotent = idempotent
        self._retry = retry
        self._warned: set[str] = set()
        self._warned_lock = threading.Lock()

        def keyed(make: Callable[[Any], Policy] | None) -> list[Policy]:
            return [] if make is None else [Keyed(make, key=key, max_keys=max_hosts, name=name)]

        outer, inner = keyed(bulkhead), keyed(breaker)

        def pipeline(operation: str, *repeat: Policy) -> Pipeline:
            cut = [] if attempt_timeout is None else [Timeout(attempt_timeout)]
            return Pipeline(name, *outer, *repeat, *inner, *cut, operation=operation)

        self.once = pipeline("request")
        self.repeating = None if retry is None else pipeline("idempotent request", retry)
        self._once = Holder(self.once)
        self._repeating = None if self.repeating is None else Holder(self.repeating)

    def holder_for(self, request: Request, replayable: bool) -> Holder:
        """The policies that guard this request; ``replayable``: whether its body can be sent again."""
        if self._repeating is None or not self._idempotent(request):
            return self._once
        if not replayable:
            self._warn_once(
                "the body of an idempotent request cannot be sent again; give bytes to have it retried"
            )
            return self._once
        if current_attempt() > 1 or self._client_repeats(request):
            return self._once
        return self._repeating

    def _client_repeats(self, request: Request) -> bool:
        count = request.headers.get(CLIENTS_COUNT, "0")
        if not count.isdigit() or int(count) == 0:
            return False
        assert self._retry is not None
        stacking.warn("the client", 1 + int(count), stacking.Below(self.name, self._retry.max_attempts))
        return True

    def time_left(self) -> float | None:
        """Seconds that an attempt which begins now may take; None: any number. Raises `DeadlineExceeded`."""
        left = remaining()
        if left is not None and left <= 0:
            raise expired(self.name)
        bounds = [seconds for seconds in (left, self.attempt_timeout) if seconds is not None]
        return min(bounds, default=None)

    def stamp(self, headers: MutableMapping[str, str], left: float | None) -> None:
        """Say in the headers what the request carries, ``left`` seconds among it."""
        if self.tell:
            headers.update(outgoing_headers())
            if left is not None:
                headers[_headers.DEADLINE] = str(int(left * 1000))

    def _warn_once(self, problem: str) -> None:
        with self._warned_lock:
            known = problem in self._warned
            self._warned.add(problem)
        if not known:
            events.emit("warning", self.name, problem=problem)
