"""The token bucket's permits that come back, and its rate that changes: what it lost by being full is lost."""

from __future__ import annotations

import math

import pytest

from mcp_server_langgraph.resilience._machines.tokens import TokenBucket


def reserve(bucket: TokenBucket, weight: float, now: float) -> int:
    bucket.opened()
    mark = bucket.take(weight, now)
    assert mark
    return mark


def settle(bucket: TokenBucket, unused: float, mark: int, now: float) -> None:
    bucket.refund(unused, mark, now)
    bucket.closed()


def test_what_is_given_back_at_once_comes_back_whole() -> None:
    bucket = TokenBucket(1.0, 1.0, 3.0)
    assert bucket.take(2.0, 5.0)
    bucket.give_back(2.0, 1, 5.0, 5.0)
    assert bucket.level(5.0) == 3.0


def test_what_is_given_back_later_comes_back_less_what_has_come_in_meanwhile() -> None:
    bucket = TokenBucket(2.0, 1.0, 4.0)
    assert bucket.take(3.0, 5.0)
    bucket.give_back(1.0, 1, 5.0, 5.25)
    assert bucket.level(5.25) == 2.0
    bucket.give_back(1.0, 1, 5.0, 6.0)
    assert bucket.level(6.0) == 3.5


def test_two_refunds_together_leave_what_was_taken_in_between() -> None:
    bucket = TokenBucket(1.0, 1.0, 10.0)
    first, second = reserve(bucket, 6.0, 0.0), reserve(bucket, 4.0, 0.0)
    assert bucket.take(1.0, 4.0)
    settle(bucket, 6.0, first, 4.0)
    settle(bucket, 4.0, second, 4.0)
    assert bucket.level(4.0) == pytest.approx(9.0)


def test_while_one_reservation_is_open_the_end_of_another_makes_nobody_forget() -> None:
    bucket = TokenBucket(1.0, 1.0, 10.0)
    first, second = reserve(bucket, 2.0, 0.0), reserve(bucket, 3.0, 0.0)
    assert bucket.take(4.0, 10.0)  # it had been full
    settle(bucket, 0.0, first, 10.0)
    settle(bucket, 3.0, second, 10.0)
    assert bucket.level(10.0) == 6.0


def test_a_refund_counts_in_what_a_longer_one_can_have_lost() -> None:
    bucket = TokenBucket(1.0, 1.0, 10.0)
    longer, shorter = reserve(bucket, 5.0, 0.0), reserve(bucket, 6.0, 2.0)
    assert bucket.take(1.0, 4.0)
    settle(bucket, 6.0, shorter, 4.0)
    settle(bucket, 5.0, longer, 4.0)
    assert bucket.level(4.0) == 9.0  # without both it would have been full when the 1 was taken


def test_a_refund_counts_in_what_one_that_began_with_fewer_permits_can_have_lost() -> None:
    bucket = TokenBucket(1.0, 1.0, 10.0)
    assert bucket.take(4.0, 0.0)
    longer, shorter = reserve(bucket, 5.0, 0.0), reserve(bucket, 6.0, 6.0)
    assert bucket.take(1.0, 8.0)
    settle(bucket, 6.0, shorter, 8.0)
    settle(bucket, 5.0, longer, 8.0)
    assert bucket.level(8.0) == 9.0  # without both it would have been full when the 1 was taken


def test_a_refund_does_not_hide_what_a_longer_one_had_lost_before() -> None:
    bucket = TokenBucket(1.0, 1.0, 10.0)
    longer, shorter = reserve(bucket, 5.0, 0.0), reserve(bucket, 3.0, 4.0)
    assert bucket.take(2.0, 4.0)
    settle(bucket, 1.0, shorter, 4.0)
    settle(bucket, 5.0, longer, 4.0)
    assert bucket.level(4.0) == 6.0  # without the longer one it would have been full before the other 2 and 2


def test_without_an_open_reservation_no_notes_are_taken() -> None:
    bucket = TokenBucket(1.0, 1.0, 10.0)
    unmarked = bucket.take(1.0, 0.0)
    assert bucket.take(1.0, 0.0) == unmarked
    first, second = reserve(bucket, 1.0, 0.0), reserve(bucket, 1.0, 0.0)
    assert unmarked < first < second
    settle(bucket, 0.0, first, 0.0)
    assert bucket.take(1.0, 0.0) > second
    settle(bucket, 0.0, second, 0.0)
    assert bucket.take(1.0, 0.0) == unmarked


def test_one_that_was_never_used_is_full_at_any_rate() -> None:
    bucket = TokenBucket(1.0, 1.0, 3.0)
    bucket.change(1.0, 1.0, 8.0, 5.0)
    assert bucket.level(5.0) == 8.0


@pytest.mark.parametrize("burst", [3.0, math.inf])
def test_a_bucket_of_infinite_permits_is_always_full(burst: float) -> None:
    bucket = TokenBucket(math.inf, 1.0, burst)
    assert all(bucket.take(1e9, 0.0) for _ in range(3))
    assert bucket.level(0.0) == burst
    assert bucket.delay(1e9, 0.0, 1e12) == 0


def test_a_limit_that_was_lifted_for_a_while_holds_again() -> None:
    bucket = TokenBucket(1.0, 1.0, 3.0)
    assert bucket.take(3.0, 0.0)
    bucket.change(math.inf, 1.0, math.inf, 0.0)
    assert bucket.take(1e9, 0.0)
    bucket.change(1.0, 1.0, 3.0, 0.0)
    assert [bool(bucket.take(1.0, 0.0)) for _ in range(4)] == [True, True, True, False]
    assert bucket.level(0.0) == 0.0
