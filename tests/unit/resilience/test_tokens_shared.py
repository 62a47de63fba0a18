"""What the token bucket tells others who share it: the permits that its own calls took."""

from __future__ import annotations

from mcp_server_langgraph.resilience._machines.tokens import TokenBucket


def test_what_was_taken_is_counted_and_what_was_refused_is_not() -> None:
    bucket = TokenBucket(1.0, 1.0, 10.0)
    assert bucket.taken == 0
    assert bucket.take(4.0, 0.0)
    assert bucket.take(5.0, 0.0)
    assert not bucket.take(2.0, 0.0)
    assert bucket.taken == 9


def test_what_was_charged_is_counted() -> None:
    bucket = TokenBucket(1.0, 1.0, 10.0)
    bucket.charge(4.0, 0.0)
    bucket.charge(15.0, 0.0)
    assert bucket.taken == 19


def test_what_others_owe_is_missing_and_not_counted_as_our_own() -> None:
    bucket = TokenBucket(1.0, 1.0, 10.0)
    assert bucket.take(1.0, 0.0)
    bucket.owe(4.0, 0.0)
    assert (bucket.level(0.0), bucket.taken) == (5, 1)
    bucket.owe(-2.0, 0.0)
    assert (bucket.level(0.0), bucket.taken) == (7, 1)


def test_what_comes_back_was_not_taken_even_where_the_bucket_has_lost_it() -> None:
    bucket = TokenBucket(1.0, 1.0, 10.0)
    assert bucket.take(8.0, 0.0)
    bucket.give_back(3.0, 1, 0.0, 2.0)
    assert (bucket.level(2.0), bucket.taken) == (5, 5)  # a bucket that had them would have lost 2


def test_a_reservation_counts_with_what_it_used() -> None:
    bucket = TokenBucket(1.0, 1.0, 10.0)
    assert bucket.take(1.0, 0.0)
    bucket.opened()
    mark = bucket.take(5.0, 0.0)
    bucket.refund(2.0, mark, 0.0)
    bucket.closed()
    assert bucket.taken == 4
