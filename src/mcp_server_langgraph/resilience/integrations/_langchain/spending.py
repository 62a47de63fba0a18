"""What a model's answers used and what that cost, counted for each attempt as its answer tells it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from ..._checks import amount
from ..._metering import Metered
from ...metrics import Sample
from ...policy import Call, Policy, Site
from .usage import Tokens, tokens_of

__all__ = ["Price", "Spending"]

_MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens cost, in a currency of yours. ``cached``: of input out of the provider's cache; None: as
    other input. Raises `ConfigurationError` for values below 0.
    """

    input: float
    output: float
    cached: float | None = None

    def __post_init__(self) -> None:
        for name in ("input", "output", "cached"):
            amount("Price", name, getattr(self, name) or 0)

    def of(self, tokens: Tokens) -> float:
        """What so many tokens cost."""
        cached = self.input if self.cached is None else self.cached
        fresh = tokens.input - tokens.cached
        return (fresh * self.input + tokens.cached * cached + tokens.output * self.output) / _MILLION


class Spending(Policy):
    """Counts the tokens of a model, and their cost where a ``price`` is known; it refuses nothing.

    Inside the retry, so that every attempt counts: a provider charges for answers that came to nothing too. Where the
    answer to an attempt was lost nobody tells what it used.
    """

    kind: ClassVar[str] = "spending"

    def __init__(self, model: str, price: Price | None = None) -> None:
        self.price = price
        self.meter = self.counts = _SpendingMeter(model)

    def settings(self) -> Mapping[str, Any]:
        """The price for a million tokens of input and output."""
        return {} if self.price is None else {"input": self.price.input, "output": self.price.output}

    def bind(self, site: Site) -> Policy:
        """What stands in one pipeline; the counts are those of all of them."""
        return _SpendingAt(self)


class _SpendingAt(Metered[None]):
    kind = Spending.kind

    def __init__(self, policy: Spending) -> None:
        self.policy = policy
        self.meter = policy.counts

    async def begin(self, call: Call) -> None:
        return None

    def begin_sync(self, call: Call) -> None:
        return None

    def saw(self, entry: None, result: Any) -> None:
        tokens = tokens_of(result)
        if tokens:
            self.policy.counts.add(tokens, self.policy.price)


class _SpendingMeter:
    def __init__(self, model: str) -> None:
        self.model = model
        self.tokens = Tokens()
        self.cost: float | None = None

    def add(self, tokens: Tokens, price: Price | None) -> None:
        self.tokens = self.tokens + tokens
        if price is not None:
            self.cost = (self.cost or 0.0) + price.of(tokens)

    def samples(self) -> Iterator[Sample]:
        used = self.tokens
        for kind, count in (
            ("input", used.input - used.cached),
            ("cached_input", used.cached),
            ("output", used.output),
        ):
            if count:
                yield Sample("llm_tokens_total", (self.model, kind), count)
        if self.cost is not None:
            yield Sample("llm_cost_total", (self.model,), self.cost)
