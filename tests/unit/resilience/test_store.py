"""The store of answers, against a naive model."""

from __future__ import annotations

import threading

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mcp_server_langgraph.resilience._machines.store import Store

KEYS = st.integers(0, 5)


class StoreAgainstALog(RuleBasedStateMachine):
    """The model is a log of all uses: it finds what is kept by reading it backwards."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store(3)
        self.size = 3
        self.now = 0.0
        self.log: list[tuple[str, int, int, float]] = []
        self.values = 0

    @rule(key=KEYS)
    def put(self, key: int) -> None:
        self.values += 1
        self.store.put(key, self.values, self.now)
        self.log.append(("put", key, self.values, self.now))
        self.forget_unused()

    @rule(key=KEYS, max_age=st.sampled_from([0.0, 1.0, 5.0, 100.0]))
    def get(self, key: int, max_age: float) -> None:
        found = self.store.get(key, self.now, max_age)
        kept = self.kept().get(key)
        if kept is None or self.now - kept[1] > max_age:
            assert found is None
        else:
            assert found == (kept[0], self.now - kept[1])
            self.log.append(("get", key, 0, 0.0))

    @rule(seconds=st.sampled_from([0.5, 1.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(size=st.integers(1, 5))
    def resize(self, size: int) -> None:
        self.store.resize(size)
        self.size = size
        self.forget_unused()

    @rule()
    def clear(self) -> None:
        self.store.clear()
        self.log.clear()

    def kept(self) -> dict[int, tuple[int, float]]:
        """Key to (value, since), from the last put of each."""
        return {key: (value, when) for what, key, value, when in self.log if what == "put"}

    def recent(self) -> list[int]:
        """The keys, the most recently used first."""
        return list(dict.fromkeys(key for _, key, _, _ in reversed(self.log)))

    def forget_unused(self) -> None:
        gone = set(self.recent()[self.size :])
        self.log = [use for use in self.log if use[1] not in gone]

    @invariant()
    def it_is_bounded(self) -> None:
        assert len(self.store) == len(self.kept()) <= self.size == self.store.max_size

    @invariant()
    def it_keeps_what_was_used_last(self) -> None:
        assert list(reversed(self.store._kept)) == self.recent()


StoreAgainstALog.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestStoreAgainstALog = StoreAgainstALog.TestCase


def test_a_clock_that_was_set_back_makes_no_negative_age() -> None:
    store = Store(1)
    store.put("key", "value", 100.0)
    assert store.get("key", 0.0, 5.0) == ("value", 0.0)


@pytest.mark.parametrize(("now", "is_served"), [(5.0, True), (5.001, False)])
def test_an_answer_is_served_up_to_the_very_end_of_its_age(now: float, is_served: bool) -> None:
    store = Store(1)
    store.put("key", "value", 0.0)
    assert (store.get("key", now, 5.0) is not None) == is_served


def test_threads_may_use_one_store() -> None:
    store = Store(8)
    broken: list[BaseException] = []

    def use(seed: int) -> None:
        try:
            for number in range(3000):
                store.put((seed * number) % 23, number, float(number))
                store.get((seed + number) % 23, float(number), 1e9)
        except BaseException as exc:
            broken.append(exc)

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert broken == []
    assert len(store) == 8
