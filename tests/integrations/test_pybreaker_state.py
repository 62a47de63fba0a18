"""What a breaker makes of shared state, and what a storage is told; without threads."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pybreaker
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from mcp_server_langgraph.resilience.integrations._pybreaker.state import Mine, Move, Shared, move
from mcp_server_langgraph.resilience.integrations._pybreaker.storage import StorageFailed, Teller

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MINE = Mine(0, "closed", None, 0, 0, 0, 5)
OPENED = Mine(1, "open", NOON, 5, 5, 0, 5)


@pytest.mark.parametrize(
    ("state", "wanted"),
    [("closed", Move.NOTHING), ("open", Move.OPEN), ("half-open", Move.PROBE), ("?", Move.NOTHING)],
)
def test_a_closed_breaker_does_as_the_others(state: str, wanted: Move) -> None:
    assert move(MINE, Shared(state, NOON)) is wanted


@pytest.mark.parametrize("ours", ["open", "half-open"])
@pytest.mark.parametrize("theirs", ["open", "half-open"])
def test_one_that_is_on_a_break_keeps_to_its_own(ours: str, theirs: str) -> None:
    assert move(replace(OPENED, state=ours), Shared(theirs, NOON + timedelta(seconds=30))) is Move.NOTHING


@pytest.mark.parametrize("ours", ["open", "half-open"])
def test_a_circuit_that_others_have_closed_after_this_opening_is_closed(ours: str) -> None:
    for seen in (NOON, NOON.replace(tzinfo=None), NOON + timedelta(seconds=90)):
        assert move(replace(OPENED, state=ours), Shared("closed", seen)) is Move.CLOSE


@pytest.mark.parametrize("seen", [None, NOON - timedelta(seconds=1)])
def test_an_opening_that_others_have_not_seen_is_told_again(seen: datetime | None) -> None:
    assert move(OPENED, Shared("closed", seen)) is Move.TELL_AGAIN


def test_the_storage_keeps_whole_seconds_only_and_that_is_no_earlier_opening() -> None:
    mine = replace(OPENED, opened_at=NOON + timedelta(seconds=0.9))
    assert move(mine, Shared("closed", NOON)) is Move.CLOSE


def test_a_clock_that_is_ahead_makes_no_break_longer() -> None:
    assert Shared("open", NOON + timedelta(hours=1)).open_for(NOON) == 0.0
    assert Shared("open", None).open_for(NOON) == 0.0
    assert Shared("open", NOON - timedelta(seconds=20)).open_for(NOON) == 20.0


class Told(pybreaker.CircuitMemoryStorage):
    """Writes down what it is told, in order."""

    def __init__(self) -> None:
        super().__init__("closed")
        self.told: list[Any] = []

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("state", "opened_at"):
            self.told.append((name, value))
        super().__setattr__(name, value)

    def increment_counter(self) -> None:
        self.told.append("+1")
        super().increment_counter()

    def reset_counter(self) -> None:
        self.told.append("0")
        super().reset_counter()

    def reset_success_counter(self) -> None:
        self.told.append("good 0")
        super().reset_success_counter()


def told_by(*steps: Mine, begin: Mine = MINE) -> list[Any]:
    storage = Told()
    teller = Teller(lambda: storage, begin)
    for step in steps:
        teller.exchange(step)
    return storage.told


def test_nothing_is_told_where_nothing_happened() -> None:
    assert told_by(MINE, replace(MINE, succeeded=100)) == []


def test_an_opening_is_told_with_its_time_first() -> None:
    assert told_by(OPENED) == [("opened_at", NOON), "good 0", ("state", "open")]
    assert told_by(replace(OPENED, state="half-open"))[-1] == ("state", "half-open")


def test_a_closing_resets_both_counters() -> None:
    closed = replace(MINE, generation=3, failed=5)
    assert told_by(OPENED, closed)[3:] == ["good 0", ("state", "closed"), "0"]


def test_a_breaker_that_is_open_already_tells_it_and_a_closed_one_does_not() -> None:
    assert told_by(OPENED, begin=OPENED)[-1] == ("state", "open")
    closed = replace(MINE, generation=8, failed=7)
    assert told_by(closed, begin=closed) == []


def test_failures_are_told_one_by_one_and_a_success_between_them_ends_the_row() -> None:
    assert told_by(replace(MINE, in_a_row=2, failed=2)) == ["+1", "+1"]
    first = replace(MINE, in_a_row=3, failed=3)
    assert told_by(first, replace(first, in_a_row=1, failed=4, succeeded=1))[3:] == ["0", "+1"]


def test_a_success_ends_the_row_of_others() -> None:
    storage = Told()
    storage._fail_counter = 3
    teller = Teller(lambda: storage, MINE)
    teller.exchange(replace(MINE, succeeded=1))
    assert storage.told == ["0"]


def test_failures_of_others_count_where_ours_are_added_to_them_and_not_before() -> None:
    storage = Told()
    storage._fail_counter = 9
    teller = Teller(lambda: storage, MINE)
    assert teller.exchange(MINE)[1] is False
    storage._fail_counter = 4
    assert teller.exchange(replace(MINE, in_a_row=1, failed=1))[1] is True
    storage._fail_counter = 2
    assert teller.exchange(replace(MINE, in_a_row=2, failed=2))[1] is False


def test_a_breaker_without_a_limit_of_failures_in_a_row_opens_for_no_counter() -> None:
    storage = Told()
    storage._fail_counter = 99
    failed = replace(MINE, in_a_row=1, failed=1, fail_max=0)
    assert Teller(lambda: storage, MINE).exchange(failed)[1] is False


def test_a_burst_of_failures_is_not_told_without_end() -> None:
    assert len(told_by(replace(MINE, in_a_row=10**6, failed=10**6))) == 100


class Broken(Told):
    """Raises until it is mended."""

    broken = True

    @property
    def opened_at(self) -> datetime | None:
        if self.broken:
            raise ConnectionError("gone")
        return None

    @opened_at.setter
    def opened_at(self, value: datetime) -> None:
        self.told.append(value)


def test_what_did_not_arrive_is_told_until_it_does() -> None:
    storage = Broken()
    teller = Teller(lambda: storage, MINE)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            teller.exchange(OPENED)
    storage.broken = False
    storage.told.clear()
    teller.exchange(OPENED)
    assert storage.told[-1] == ("state", "open")
    storage.told.clear()
    teller.exchange(OPENED)
    assert storage.told == []


class GoneRedis:
    """A client whose server is gone, once the storage is made."""

    def setnx(self, key: str, value: object) -> None: ...

    def __getattr__(self, command: str) -> Any:
        def fail(*args: object) -> None:
            raise redis.ConnectionError("gone")

        return fail


def test_the_errors_that_pybreakers_storage_swallows_are_noticed_and_not_logged_one_by_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    teller = Teller(lambda: pybreaker.CircuitRedisStorage("closed", GoneRedis()), MINE)
    with pytest.raises(StorageFailed):
        teller.exchange(MINE)
    assert [record for record in caplog.records if record.levelname != "DEBUG"] == []


@given(st.lists(st.sampled_from("fs"), max_size=12), st.lists(st.booleans(), min_size=12, max_size=12))
def test_however_often_it_is_looked_the_counter_ends_as_the_row(calls: list[str], looks: list[bool]) -> None:
    storage = Told()
    teller, mine = Teller(lambda: storage, MINE), replace(MINE, fail_max=0)
    for call, look in zip(calls, looks, strict=False):
        if call == "f":
            mine = replace(mine, in_a_row=mine.in_a_row + 1, failed=mine.failed + 1)
        else:
            mine = replace(mine, in_a_row=0, succeeded=mine.succeeded + 1)
        if look:
            teller.exchange(mine)
    teller.exchange(mine)
    assert storage.counter == mine.in_a_row
