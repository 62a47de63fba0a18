"""What is told of a set of endpoints, when its intervals end, and who is called."""

from __future__ import annotations

import pytest

from mcp_server_langgraph.resilience import ConfigurationError
from mcp_server_langgraph.resilience._machines.endpoint_choice import Choice
from mcp_server_langgraph.resilience._machines.outlier import Endpoints
from mcp_server_langgraph.resilience._machines.outlier_rules import OutlierRules


def fails(endpoints: Endpoints, name: str, now: float) -> None:
    others = [each.name for each in endpoints.all if each.name != name]
    turn = endpoints.pick(now, avoid=others)
    assert turn.name == name
    endpoints.failed(turn, now)


def asked(rules: OutlierRules, failures: list[int], calls: int) -> Endpoints:
    """So many calls to each endpoint at 0 s, of which those failed; the interval is over."""
    endpoints = Endpoints([str(number) for number in range(len(failures))], rules, pick="round_robin")
    for _ in range(calls):
        for number, left in enumerate(failures):
            turn = endpoints.pick(0.0)
            assert turn.name == str(number)
            (endpoints.failed if left > 0 else endpoints.succeeded)(turn, 0.0)
            failures[number] -= 1
    endpoints.pick(10.0)
    return endpoints


def out_for(endpoints: Endpoints) -> dict[str, dict[str, int]]:
    return {each.name: each.ejections for each in endpoints.ejected()}


def test_ejections_returns_panic_and_calm_are_told_once_each() -> None:
    endpoints = Endpoints(
        ["a", "b", "c"], OutlierRules(consecutive_failures=1, max_share=0.7), pick="round_robin"
    )
    fails(endpoints, "a", 0.0)
    fails(endpoints, "b", 1.0)
    endpoints.set_healthy("c", False)
    endpoints.set_healthy("c", True)
    endpoints.pick(31.0)
    assert list(endpoints.changes) == [
        ("ejected", "a", "consecutive_failures", 30.0),
        ("ejected", "b", "consecutive_failures", 30.0),
        ("panic", "", "1 of 3 left", 0.0),
        ("returned", "a", "", 0.0),
        ("returned", "b", "", 0.0),
        ("calm", "", "3 of 3 left", 0.0),
    ]


def test_of_what_nobody_takes_notice_the_last_sixty_four_are_kept() -> None:
    endpoints = Endpoints(["a"])
    for number in range(101):
        endpoints.set_healthy("a", number % 2 == 1)
    assert [change.kind for change in endpoints.changes] == ["calm", "panic"] * 32


def test_ejections_are_counted_by_cause() -> None:
    endpoints = Endpoints(["a", "b"], OutlierRules(consecutive_failures=1), pick="round_robin")
    fails(endpoints, "a", 0.0)
    fails(endpoints, "a", 30.0)
    assert out_for(endpoints) == {"a": {"consecutive_failures": 2}}


@pytest.mark.parametrize(
    ("count", "share", "allowed"),
    [(10, 0.3, 3), (100, 0.29, 29), (3, 0.3, 1), (2, 1.0, 1), (1, 1.0, 0), (5, 0.0, 0)],
)
def test_a_share_is_rounded_down_but_at_least_one_and_never_all(
    count: int, share: float, allowed: int
) -> None:
    endpoints = Endpoints(map(str, range(count)), OutlierRules(max_share=share))
    assert endpoints.allowed() == allowed


def test_a_smaller_share_brings_back_those_whose_time_ends_first() -> None:
    rules = OutlierRules(consecutive_failures=1, max_share=0.5)
    endpoints = Endpoints(["a", "b", "c", "d"], rules, pick="round_robin")
    fails(endpoints, "b", 0.0)
    fails(endpoints, "a", 1.0)
    endpoints.change(changed := OutlierRules(consecutive_failures=1, max_share=0.25))
    assert endpoints.rules is changed
    assert list(out_for(endpoints)) == ["a"]
    assert [each.name for each in endpoints.rotation] == ["b", "c", "d"]
    endpoints.change(OutlierRules(max_share=0.0))
    assert out_for(endpoints) == {}


def test_a_late_failure_of_an_earlier_period_counts_for_nothing() -> None:
    endpoints = Endpoints(["a", "b"], OutlierRules(consecutive_failures=1), pick="round_robin")
    old = endpoints.pick(0.0)
    fails(endpoints, "a", 0.0)
    endpoints.pick(30.0)
    endpoints.failed(old, 30.0)
    assert out_for(endpoints) == {}


def test_a_failure_of_one_that_is_used_in_a_panic_counts_for_nothing() -> None:
    endpoints = Endpoints(["a"], OutlierRules(consecutive_failures=1))
    endpoints.set_healthy("a", False)
    fails(endpoints, "a", 0.0)
    assert endpoints.all[0].failures == 0


@pytest.mark.parametrize("good", [True, False])
def test_a_result_just_when_an_interval_ends_is_of_the_next(good: bool) -> None:
    endpoints = Endpoints(["a"])
    turn = endpoints.pick(0.0)
    (endpoints.succeeded if good else endpoints.failed)(turn, 10.0)
    for now, results in ((11.0, 1), (19.9, 1), (20.0, 0)):
        endpoints.pick(now)
        assert (endpoints.all[0].good, endpoints.all[0].bad) == (results * good, results * (not good))


def test_the_end_of_an_ejection_does_not_end_the_interval() -> None:
    rules = OutlierRules(consecutive_failures=1, interval=100.0)
    endpoints = Endpoints(["a", "b"], rules, pick="round_robin")
    fails(endpoints, "a", 0.0)
    endpoints.succeeded(endpoints.pick(0.0), 0.0)
    endpoints.pick(30.0)
    assert out_for(endpoints) == {}
    assert endpoints.all[1].good == 1


def test_neither_picking_nor_succeeding_takes_a_lock_within_an_interval() -> None:
    class Locked:
        def __enter__(self) -> None:
            raise AssertionError("a lock was taken")

        def __exit__(self, *_: object) -> None:
            pass

    endpoints = Endpoints(["a", "b"])
    endpoints.pick(0.0)
    endpoints._lock = Locked()  # type: ignore[assignment]
    endpoints.succeeded(endpoints.pick(9.9), 9.9)


def test_as_few_as_must_take_part_are_enough_to_compare() -> None:
    rules = OutlierRules(consecutive_failures=100, stdev_factor=1.0, failure_share=None)
    assert out_for(asked(rules, [0, 0, 0, 20, 0], 100)) == {"3": {"success_rate": 1}}


def test_where_all_differ_nobody_stands_out() -> None:
    rules = OutlierRules(consecutive_failures=100, failure_share=None)
    assert out_for(asked(rules, [0, 20] * 5, 100)) == {}


@pytest.mark.parametrize(("gap", "ejected"), [(0.25, {}), (0.24, {"0": {"success_rate": 1}})])
def test_as_far_below_the_mean_as_may_be_is_no_outlier(
    gap: float, ejected: dict[str, dict[str, int]]
) -> None:
    rules = OutlierRules(
        stdev_factor=0.5, success_rate_gap=gap, failure_share=None, min_endpoints=2, min_requests=4
    )
    assert out_for(asked(rules, [2, 0], 4)) == ejected


def test_the_share_of_failures_that_ejects_does_so() -> None:
    rules = OutlierRules(stdev_factor=None, failure_share=0.5, min_endpoints=2, failure_min_requests=4)
    assert out_for(asked(rules, [2, 0], 4)) == {"0": {"failure_share": 1}}


def test_the_worst_goes_where_not_all_outliers_can() -> None:
    rules = OutlierRules(consecutive_failures=100, stdev_factor=None, max_share=0.1, failure_min_requests=10)
    assert list(out_for(asked(rules, [0, 9, 0, 10, 0, 9, 0, 0, 0, 0], 10))) == ["3"]


def test_two_are_chosen_by_one_number_and_the_less_busy_of_them_is_called() -> None:
    for chance, names in ((0.0, "abab"), (0.3, "acac"), (0.4, "baba"), (0.9, "cbcb")):
        endpoints = Endpoints("abc")
        assert "".join(endpoints.pick(0.0, chance).name for _ in range(4)) == names
    endpoints = Endpoints("abc")
    assert "".join(endpoints.pick(0.0).name for _ in range(4)) == "bcbc"


def test_of_two_endpoints_the_less_busy_is_called() -> None:
    endpoints = Endpoints("ab")
    turns = [endpoints.pick(0.0, 0.0) for _ in range(2)]
    endpoints.abandoned(turns[1])
    assert endpoints.pick(0.0, 0.0).name == "b"


def test_the_least_busy_is_called_and_of_several_the_next_in_turn() -> None:
    endpoints = Endpoints("abc", pick="least_in_flight")
    assert "".join(endpoints.pick(0.0).name for _ in range(5)) == "abcab"
    endpoints = Endpoints("abc", pick="least_in_flight")
    for name in "aabbb":
        endpoints.pick(0.0, avoid=[other for other in "abc" if other != name])
    assert "".join(endpoints.pick(0.0).name for _ in range(5)) == "cccaa"


def test_endpoints_in_turn_go_round() -> None:
    endpoints = Endpoints("abc", pick=Choice.ROUND_ROBIN)
    assert "".join(endpoints.pick(0.0).name for _ in range(5)) == "abcab"


@pytest.mark.parametrize(
    ("avoid", "names"), [("a", "bcb"), ("ab", "ccc"), ("abc", "aba"), ("cba", "bcb"), ("bac", "aba")]
)
def test_who_is_to_be_avoided_is_called_only_where_there_is_nobody_else(avoid: str, names: str) -> None:
    endpoints = Endpoints("abc", pick="round_robin")
    assert "".join(endpoints.pick(0.0, avoid=avoid).name for _ in range(3)) == names
    assert Endpoints("a").pick(0.0, avoid=avoid).name == "a"


def test_a_choice_that_is_none_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        Endpoints(["a"], pick="random")
    assert str(refusal.value) == (
        "Endpoints: pick='random' must be one of round_robin, least_in_flight, power_of_two"
    )
    with pytest.raises(ConfigurationError) as refusal:
        Endpoints(["a", "a"])
    assert str(refusal.value) == "Endpoints: ['a', 'a']: at least one name, and none twice, is needed"
