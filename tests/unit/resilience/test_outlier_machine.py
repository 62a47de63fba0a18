"""Who is in rotation, against a naive model that keeps a log of results and reads everything from it."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from mcp_server_langgraph.resilience import ConfigurationError
from mcp_server_langgraph.resilience._machines.endpoint import Turn
from mcp_server_langgraph.resilience._machines.endpoint_choice import Choice
from mcp_server_langgraph.resilience._machines.outlier import Endpoints
from mcp_server_langgraph.resilience._machines.outlier_rules import OutlierRules

INTERVAL = 10.0


@dataclass
class Sight:
    """An endpoint as the model sees it. ``log``: results of its present period, with the interval they fell in."""

    period: int = 0
    until: float | None = None
    times: int = 0
    back: float = -math.inf
    healthy: bool = True
    flying: int = 0
    log: list[tuple[int, bool]] = field(default_factory=list)


class Model:
    """Everything recomputed from the logs, whenever something happens."""

    def __init__(self, names: list[str], rules: OutlierRules) -> None:
        self.rules = rules
        self.sights = {name: Sight() for name in names}
        self.began: float | None = None
        self.interval = 0

    def limit(self) -> int:
        count = len(self.sights)
        share = int(count * self.rules.max_share + 1e-9)
        return 0 if self.rules.max_share == 0 else min(count - 1, max(share, 1))

    def ejected(self) -> list[str]:
        return [name for name, sight in self.sights.items() if sight.until is not None]

    def renew(self, name: str) -> None:
        self.sights[name].period += 1
        self.sights[name].log = []

    def eject(self, name: str, now: float) -> None:
        if len(self.ejected()) < self.limit():
            sight = self.sights[name]
            sight.times += 1
            sight.until = now + min(self.rules.base_ejection * sight.times, self.rules.max_ejection)
            self.renew(name)

    def bring_back(self, name: str) -> None:
        sight = self.sights[name]
        assert sight.until is not None
        sight.back, sight.until = sight.until, None
        self.renew(name)

    def catch_up(self, now: float) -> None:
        for name in self.ejected():
            if (self.sights[name].until or 0.0) <= now:
                self.bring_back(name)
        if self.began is None:
            self.began = now
        if now - self.began >= INTERVAL:
            self.compare(now)
            for sight in self.sights.values():
                if sight.until is None:
                    sight.times = max(0, sight.times - int((now - max(self.began, sight.back)) // INTERVAL))
            self.interval += 1
            self.began = now

    def rates(self, least: int) -> dict[str, float]:
        rates = {}
        for name, sight in self.sights.items():
            seen = [good for interval, good in sight.log if interval == self.interval]
            if sight.until is None and sight.healthy and len(seen) >= least:
                rates[name] = sum(seen) / len(seen)
        return rates

    def compare(self, now: float) -> None:
        rates = self.rates(self.rules.min_requests)
        if self.rules.stdev_factor is not None and len(rates) >= self.rules.min_endpoints:
            mean = statistics.fmean(rates.values())
            away = self.rules.stdev_factor * statistics.pstdev(rates.values())
            low = [name for name in rates if rates[name] < mean - max(away, self.rules.success_rate_gap)]
            for name in sorted(low, key=lambda name: rates[name]):
                self.eject(name, now)
        rates = self.rates(self.rules.failure_min_requests)
        if self.rules.failure_share is not None and len(rates) >= self.rules.min_endpoints:
            for name in sorted(rates, key=lambda name: rates[name]):
                if 1 - rates[name] >= self.rules.failure_share:
                    self.eject(name, now)

    def result(self, name: str, period: int, good: bool, now: float) -> None:
        self.catch_up(now)
        sight = self.sights.get(name)
        if sight is None or sight.period != period or sight.until is not None or not sight.healthy:
            return
        sight.log.append((self.interval, good))
        tail = [entry for _, entry in sight.log][-self.rules.consecutive_failures :]
        if not good and len(tail) == self.rules.consecutive_failures and not any(tail):
            self.eject(name, now)

    def rotation(self) -> set[str]:
        left = {name for name, sight in self.sights.items() if sight.until is None and sight.healthy}
        out = len(self.sights) - len(left)
        return set(self.sights) if not left or out / len(self.sights) > self.rules.panic_share else left


class EndpointsAgainstModel(RuleBasedStateMachine):
    """Calls to few endpoints, their results early, late and of no meaning, time, health checks and new sets."""

    calls = Bundle("calls")

    @initialize(
        count=st.integers(1, 7),
        in_a_row=st.integers(1, 3),
        max_share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
        panic_share=st.sampled_from([0.0, 0.5, 1.0]),
        choice=st.sampled_from(list(Choice)),
        requests=st.integers(1, 3),
        endpoints=st.integers(2, 4),
        factor=st.sampled_from([None, 0.5, 1.0]),
        failures=st.sampled_from([None, 0.5, 1.0]),
    )
    def begin(
        self,
        count: int,
        in_a_row: int,
        max_share: float,
        panic_share: float,
        choice: Choice,
        requests: int,
        endpoints: int,
        factor: float | None,
        failures: float | None,
    ) -> None:
        rules = OutlierRules(
            consecutive_failures=in_a_row,
            max_share=max_share,
            panic_share=panic_share,
            stdev_factor=factor,
            failure_share=failures,
            min_endpoints=endpoints,
            min_requests=requests,
            failure_min_requests=requests,
            max_ejection=80.0,
        )
        names = [f"host {number}" for number in range(count)]
        self.now = 100.0
        self.machine = Endpoints(names, rules, pick=choice)
        self.model = Model(names, rules)

    @rule(
        target=calls, chance=st.floats(0, 1, exclude_max=True), avoid=st.sets(st.integers(0, 6), max_size=3)
    )
    def a_call_begins(self, chance: float, avoid: set[int]) -> tuple[Turn, int, Sight]:
        self.model.catch_up(self.now)
        unwanted = [f"host {number}" for number in avoid]
        turn = self.machine.pick(self.now, chance, unwanted)
        rotation = self.model.rotation()
        assert turn.name in rotation, "out of rotation, or the pool was empty"
        assert turn.name not in unwanted or rotation <= set(unwanted)
        if unwanted and turn.name == unwanted[-1]:
            assert rotation == {turn.name}
        sight = self.model.sights[turn.name]
        sight.flying += 1
        return turn, sight.period, sight

    @rule(call=consumes(calls), good=st.booleans())
    def it_ends(self, call: tuple[Turn, int, Sight], good: bool) -> None:
        turn, period, sight = call
        if good:
            self.machine.succeeded(turn, self.now)
        else:
            self.machine.failed(turn, self.now)
        sight.flying -= 1
        same = self.model.sights.get(turn.name) is sight
        self.model.result(turn.name, period if same else -1, good, self.now)

    @rule(count=st.integers(1, 6), good=st.booleans(), chance=st.floats(0, 1, exclude_max=True))
    def several_calls_come_and_end(self, count: int, good: bool, chance: float) -> None:
        for _ in range(count):
            self.it_ends(self.a_call_begins(chance, set()), good)

    @rule(call=consumes(calls))
    def it_means_nothing(self, call: tuple[Turn, int, Sight]) -> None:
        before = [(each.good, each.bad, each.failures, each.out) for each in self.machine.all]
        self.machine.abandoned(call[0])
        call[2].flying -= 1
        assert before == [(each.good, each.bad, each.failures, each.out) for each in self.machine.all]

    @rule(seconds=st.sampled_from([1.0, 5.0, INTERVAL, 30.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(number=st.integers(0, 6), healthy=st.booleans())
    def a_health_check_speaks(self, number: int, healthy: bool) -> None:
        name = f"host {number}"
        if name not in self.model.sights:
            with pytest.raises(KeyError):
                self.machine.set_healthy(name, healthy)
            return
        self.machine.set_healthy(name, healthy)
        if self.model.sights[name].healthy != healthy:
            self.model.sights[name].healthy = healthy
            self.model.renew(name)

    @rule(numbers=st.sets(st.integers(0, 6), min_size=1))
    def another_set_is_given(self, numbers: set[int]) -> None:
        names = [f"host {number}" for number in sorted(numbers)]
        self.machine.update(names)
        self.model.sights = {name: self.model.sights.get(name) or Sight() for name in names}
        soonest = sorted(self.model.ejected(), key=lambda name: self.model.sights[name].until or 0.0)
        for name in soonest[: max(0, len(soonest) - self.model.limit())]:
            self.model.bring_back(name)

    @invariant()
    def the_same_are_ejected_for_the_same_time(self) -> None:
        seen = {each.name: (each.ejected_until, each.multiplier) for each in self.machine.all}
        assert seen == {name: (sight.until, sight.times) for name, sight in self.model.sights.items()}

    @invariant()
    def rotation_is_the_models_and_never_empty(self) -> None:
        rotation = [each.name for each in self.machine.rotation]
        assert rotation
        assert set(rotation) == self.model.rotation()

    @invariant()
    def never_more_are_ejected_than_may_be(self) -> None:
        count = len(self.machine.all)
        ejected = len(self.machine.ejected())
        assert ejected <= max(1, count * self.machine.rules.max_share + 1e-9)
        assert ejected < count

    @invariant()
    def calls_in_flight_are_counted(self) -> None:
        assert [len(each.calls) for each in self.machine.all] == [
            s.flying for s in self.model.sights.values()
        ]


TestEndpointsAgainstModel = EndpointsAgainstModel.TestCase
TestEndpointsAgainstModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_names_must_be_there_and_be_told_apart() -> None:
    for names in ([], ["a", "a"]):
        with pytest.raises(ConfigurationError, match="at least one name"):
            Endpoints(names)
    with pytest.raises(ConfigurationError, match="Endpoints: pick='random' must be one of round_robin"):
        Endpoints(["a"], pick="random")


def ask_each(endpoints: Endpoints, bad: dict[str, int], calls: int) -> None:
    """So many calls to each, at 0 s; of the names in ``bad`` that many fail, the failures apart from each other."""
    endpoints.choice = Choice.ROUND_ROBIN
    for number in range(calls * len(endpoints.all)):
        turn = endpoints.pick(0.0)
        if number // len(endpoints.all) % 2 == 0 and bad.get(turn.name, 0) > 0:
            bad[turn.name] -= 1
            endpoints.failed(turn, 0.0)
        else:
            endpoints.succeeded(turn, 0.0)


TEN = [f"host {number}" for number in range(10)]


def test_one_failure_in_a_hundred_is_no_outlier_though_nobody_else_had_one() -> None:
    endpoints = Endpoints(TEN)
    ask_each(endpoints, {"host 3": 1}, 100)
    endpoints.pick(INTERVAL)
    assert endpoints.ejected() == []

    ask_each(endpoints := Endpoints(TEN), {"host 3": 10}, 100)
    endpoints.pick(INTERVAL)
    assert [(each.name, each.ejections) for each in endpoints.ejected()] == [("host 3", {"success_rate": 1})]


def test_who_fails_nearly_every_call_is_out_though_others_are_poor_too() -> None:
    rules = OutlierRules(stdev_factor=None, consecutive_failures=1000, max_share=0.5)
    endpoints = Endpoints(TEN[:5], rules)
    endpoints.choice = Choice.ROUND_ROBIN
    for number in range(5 * 60):
        turn = endpoints.pick(0.0)
        (endpoints.failed if number % 5 == 0 or number % 2 else endpoints.succeeded)(turn, 0.0)
    endpoints.pick(INTERVAL)
    assert [(each.name, each.ejections) for each in endpoints.ejected()] == [("host 0", {"failure_share": 1})]


def test_an_old_success_does_not_make_new_failures_good() -> None:
    endpoints = Endpoints(["a", "b", "c"], OutlierRules(consecutive_failures=2), pick="round_robin")
    old = endpoints.pick(0.0)
    for _ in range(2):
        endpoints.failed(endpoints.pick(0.0, avoid=("b", "c")), 0.0)
    assert [each.name for each in endpoints.ejected()] == ["a"]

    endpoints.failed(endpoints.pick(30.0, avoid=("b", "c")), 30.0)
    endpoints.succeeded(old, 30.0)
    endpoints.failed(endpoints.pick(30.0, avoid=("b", "c")), 30.0)
    assert [each.name for each in endpoints.ejected()] == ["a"]


def test_where_none_is_well_all_are_used_even_without_a_panic_share() -> None:
    endpoints = Endpoints(["a", "b"], OutlierRules(panic_share=1.0))
    endpoints.set_healthy("a", False)
    assert {endpoints.pick(0.0).name for _ in range(5)} == {"b"}
    endpoints.set_healthy("b", False)
    assert [each.name for each in endpoints.rotation] == ["a", "b"]


def test_who_has_left_the_set_is_not_ejected() -> None:
    endpoints = Endpoints(["a", "b"], OutlierRules(consecutive_failures=1), pick="round_robin")
    turn = endpoints.pick(0.0)
    endpoints.update(["b", "c"])
    endpoints.failed(turn, 0.0)
    assert list(endpoints.changes) == []


def test_the_next_ejection_is_shorter_only_for_time_in_rotation() -> None:
    endpoints = Endpoints(["a", "b"], OutlierRules(consecutive_failures=1), pick="round_robin")

    def fail_a(now: float) -> float:
        endpoints.failed(endpoints.pick(now, avoid=("b",)), now)
        [ejected] = endpoints.ejected()
        assert ejected.ejected_until is not None
        return ejected.ejected_until - now

    assert fail_a(0.0) == 30
    assert fail_a(35.0) == 60  # back for 5 s of the idle time
    assert fail_a(35.0 + 60 + 25) == 30  # back for two intervals and a half, which take both off


def test_an_ejection_never_lasts_longer_than_the_longest() -> None:
    rules = OutlierRules(consecutive_failures=1, base_ejection=30, max_ejection=45)
    endpoints = Endpoints(["a", "b"], rules, pick="round_robin")
    for now, until in ((0.0, 30.0), (30.0, 75.0), (75.0, 120.0)):
        endpoints.failed(endpoints.pick(now, avoid=("b",)), now)
        assert [each.ejected_until for each in endpoints.ejected()] == [until]


def test_an_ejection_ends_on_time_and_not_with_an_interval() -> None:
    endpoints = Endpoints(["a", "b"], OutlierRules(consecutive_failures=1), pick="round_robin")
    endpoints.pick(0.0)
    endpoints.failed(endpoints.pick(3.0, avoid=("b",)), 3.0)
    endpoints.pick(31.0)  # an interval ends here, the next one at 41 s
    assert len(endpoints.rotation) == 1
    endpoints.pick(33.0)
    assert len(endpoints.rotation) == 2


def test_the_less_busy_of_two_is_picked() -> None:
    endpoints = Endpoints(["a", "b", "c"])
    assert [endpoints.pick(0.0, chance=0.0).name for _ in range(4)] == ["a", "b", "a", "b"]  # these two met
    assert endpoints.pick(0.0, chance=0.99).name == "c"  # c and b
