"""The table of keys against a naive model: a list in the order of use, looked through from its front."""

from __future__ import annotations

import gc
import math
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from mcp_server_langgraph.resilience._machines.keyed import _SLACK, Entry, KeyTable


@dataclass
class Thing:
    """A value that matters until a time that its calls set."""

    key: object
    matters: float = -math.inf
    seen: list[int] = field(default_factory=list)


def table_of(max_keys: int, forgotten: list[object] | None = None) -> KeyTable[Thing]:
    gone = [] if forgotten is None else forgotten
    return KeyTable(
        Thing,
        max_keys=max_keys,
        matters_until=lambda thing, now: thing.matters,
        forgotten=lambda entry: gone.append(entry.key),
    )


class TableAgainstModel(RuleBasedStateMachine):
    """Calls of few keys on fewer places, ending in every order, some leaving a value that matters for a time."""

    calls = Bundle("calls")

    @initialize(max_keys=st.integers(1, 4))
    def begin(self, max_keys: int) -> None:
        self.now = 0.0
        self.max_keys = max_keys
        self.table = table_of(max_keys)
        self.order: list[int] = []  # the model: keys, the least recently used first
        self.things: dict[int, Thing] = {}
        self.busy: dict[int, int] = {}
        self.written = 0

    def room_in_model(self) -> bool:
        """What may go: the first that is idle; else, of those that are due, the one due for longest."""
        free = [key for key in self.order if not self.busy.get(key)]
        idle = [key for key in free if self.things[key].matters == -math.inf]
        due = [key for key in free if self.things[key].matters <= self.now]
        victim = idle[0] if idle else min(due, key=lambda key: self.things[key].matters, default=None)
        if victim is None:
            return False
        self.order.remove(victim)
        del self.things[victim]
        return True

    @rule(target=calls, key=st.integers(0, 6))
    def a_call_comes(self, key: int) -> object:
        entry = self.table.enter(key, self.now)
        while key not in self.things and len(self.things) >= self.max_keys:
            if not self.room_in_model():
                assert entry is None
                return multiple()
        assert entry is not None
        assert entry.key == entry.value.key == key
        known = self.things.setdefault(key, entry.value)
        assert known is entry.value, "the key's state was lost, or is another key's"
        if key not in self.order:
            self.order.append(key)
        self.busy[key] = self.busy.get(key, 0) + 1
        return entry

    @rule(call=consumes(calls), matters=st.sampled_from([None, -math.inf, 1.0, 2.0, 5.0, math.inf]))
    def a_call_ends(self, call: Entry[Thing], matters: float | None) -> None:
        assert isinstance(call.key, int)
        if matters is not None:
            call.value.matters = max(matters, matters + self.now) + self.written * 1e-9
            self.written += 1  # no two are due at once
        call.value.seen.append(self.written)
        self.table.leave(call)
        self.busy[call.key] -= 1
        self.order.remove(call.key)
        self.order.append(call.key)

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(max_keys=st.integers(1, 5))
    def another_number_of_places_is_set(self, max_keys: int) -> None:
        self.max_keys = self.table.max_keys = max_keys

    @rule(key=st.integers(0, 6), matters=st.sampled_from([-math.inf, math.inf]))
    def an_operator_changes_a_value(self, key: int, matters: float) -> None:
        if key in self.things:
            self.things[key].matters = matters
            self.table.review()

    @invariant()
    def the_same_keys_are_kept_with_the_same_values(self) -> None:
        kept = {key: entry.value for key, entry in self.table.entries.items()}
        assert kept == self.things
        assert all(kept[key] is self.things[key] for key in self.things)

    @invariant()
    def calls_in_flight_are_counted(self) -> None:
        for key, entry in self.table.entries.items():
            assert isinstance(key, int)
            assert len(entry.calls) == self.busy.get(key, 0)


TestTableAgainstModel = TableAgainstModel.TestCase
TestTableAgainstModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_the_least_recently_used_goes_first() -> None:
    forgotten: list[object] = []
    table = table_of(2, forgotten)
    for key in ("a", "b", "a", "c", "d"):
        entry = table.enter(key, 0.0)
        assert entry is not None
        table.leave(entry)

    assert forgotten == ["b", "a"]
    assert list(table.entries) == ["c", "d"]
    assert table.evictions == 2


def test_a_search_in_vain_looks_at_each_value_once() -> None:
    looked: list[object] = []

    def matters_until(thing: Thing, now: float) -> float:
        looked.append(thing.key)
        return 10.0

    table = KeyTable(Thing, max_keys=3, matters_until=matters_until, forgotten=lambda entry: None)
    for key in "abc":
        entry = table.enter(key, 0.0)
        assert entry is not None
        table.leave(entry)

    assert all(table.enter(f"new {number}", 1.0) is None for number in range(50))
    assert looked == ["a", "b", "c"]
    assert table.enter("late", 10.0) is not None


def test_heaps_do_not_grow_with_the_calls() -> None:
    table = table_of(3)
    longest = 0
    for number in range(3000):
        entry = table.enter(number % 3, 0.0)
        assert entry is not None
        entry.value.matters = 10.0 + number
        table.leave(entry)
        if number > 1:
            assert table.enter("another", 0.0) is None  # sets all three aside
        longest = max(longest, len(table._idle), len(table._held))

    assert longest == 2 * 2 + _SLACK + 1, "longer than twice the table, less the one that is looked at"
    assert all(table.enter(("new", number), 1e6) for number in range(3)), "what matters was swept out"


def test_a_value_whose_worth_cannot_be_told_stays() -> None:
    def matters_until(thing: Thing, now: float) -> float:
        raise RuntimeError("no idea")

    table = KeyTable(Thing, max_keys=1, matters_until=matters_until, forgotten=lambda entry: None)
    entry = table.enter("a", 0.0)
    assert entry is not None
    table.leave(entry)

    with pytest.raises(RuntimeError):
        table.enter("b", 0.0)
    assert list(table.entries) == ["a"]


def test_a_call_that_ends_while_room_is_sought_lists_its_entry_again() -> None:
    table = table_of(1)
    entry = table.enter("a", 0.0)
    assert entry is not None
    assert table.enter("b", 0.0) is None  # "a" is in use, and set aside
    table.leave(entry)
    assert table.enter("b", 0.0) is not None


def test_threads_never_share_a_key_nor_lose_one_in_use() -> None:
    table = table_of(4)
    wrong: list[str] = []

    def work(seed: int) -> None:
        for step in range(1500):
            key = (seed * 7 + step * 5) % 9
            entry = table.enter(key, 0.0)
            if entry is None:
                continue
            again = table.enter(key, 0.0)
            if again is not entry or entry.value.key != key:
                wrong.append(f"{key}: {entry.key}")
            if again is not None:
                table.leave(again)
            table.leave(entry)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not wrong
    assert len(table.entries) <= 4
    assert not any(entry.calls for entry in table.entries.values())
    assert all(table.enter(("new", number), 0.0) for number in range(4))  # every place can be had again


def test_calls_of_a_key_leave_one_note_of_their_use() -> None:
    table = table_of(2)
    for _ in range(10):
        used_once(table, "a")
    assert len(table._idle) == 1


def test_a_key_set_aside_in_use_is_listed_when_its_last_call_has_ended() -> None:
    table = table_of(1)
    entry = table.enter("a", 0.0)
    assert entry is not None
    table.enter("a", 0.0)
    assert table.enter("b", 0.0) is None
    table.leave(entry)
    assert not table._idle
    table.leave(entry)
    assert len(table._idle) == 1


def test_what_is_forgotten_is_not_kept() -> None:
    table = table_of(1)
    entry = table.enter("a", 0.0)
    assert entry is not None
    table.leave(entry)
    value = weakref.ref(entry.value)
    del entry
    used_once(table, "b")
    gc.collect()
    assert value() is None


def test_a_value_is_asked_until_when_it_matters_with_the_time_of_the_search() -> None:
    asked: list[float] = []

    def matters_until(thing: Thing, now: float) -> float:
        asked.append(now)
        return 200.0

    table = KeyTable(Thing, max_keys=1, matters_until=matters_until, forgotten=lambda entry: None)
    used_once(table, "a")
    assert table.enter("b", 100.0) is None
    assert table.enter("b", 199.0) is None
    assert table.enter("b", 200.0) is not None
    assert asked == [100.0, 200.0]


def test_a_review_lets_go_what_was_set_aside_and_matters_no_more() -> None:
    table = table_of(1)
    entry = table.enter("a", 0.0)
    assert entry is not None
    entry.value.matters = math.inf
    table.leave(entry)
    assert table.enter("b", 0.0) is None
    entry.value.matters = -math.inf
    assert table.enter("b", 0.0) is None
    table.review()
    assert table.enter("b", 0.0) is not None


def test_a_note_of_a_key_that_is_gone_is_passed_over() -> None:
    table = table_of(1)
    entry = table.enter("a", 0.0)
    assert entry is not None
    assert table.enter("b", 0.0) is None  # "a" is in use
    entry.value.matters = 5.0
    table.leave(entry)
    assert table.enter("b", 0.0) is None  # and matters until 5 s
    entry.value.matters = -math.inf
    used_once(table, "a")
    assert table.enter("b", 0.0) is not None
    assert table.enter("c", 10.0) is None


def test_what_still_matters_stays_when_old_notes_are_swept_out() -> None:
    table = table_of(2)
    for matters in (5.0, *[10.0] * 200):
        for key in ("a", "b") if matters == 5.0 else ("b",):
            entry = table.enter(key, 0.0)
            assert entry is not None
            entry.value.matters = matters
            table.leave(entry)
        assert table.enter("c", 0.0) is None
    table.enter("b", 6.0)
    assert table.enter("c", 6.0) is not None
    assert list(table.entries) == ["b", "c"]


class Between(dict[object, Entry[Thing]]):
    """The table's dict, with something happening once between two steps, as another thread would have it."""

    def __init__(self, entries: dict[object, Entry[Thing]]) -> None:
        super().__init__(entries)
        self.after_looking_up: list[Callable[[], object]] = []
        self.after_taking_out: list[Callable[[Entry[Thing]], object]] = []
        self.before_putting_back: list[Callable[[Entry[Thing]], object]] = []

    def get(self, key: object, default: Any = None) -> Any:
        found = super().get(key, default)
        if self.after_looking_up:
            self.after_looking_up.pop()()
        return found

    def __delitem__(self, key: object) -> None:
        entry = self[key]
        super().__delitem__(key)
        if self.after_taking_out:
            self.after_taking_out.pop()(entry)

    def __setitem__(self, key: object, entry: Entry[Thing]) -> None:
        if self.before_putting_back:
            self.before_putting_back.pop()(entry)
        super().__setitem__(key, entry)


def table_with_one_idle_key() -> tuple[KeyTable[Thing], Between]:
    table = table_of(1)
    entry = table.enter("a", 0.0)
    assert entry is not None
    table.leave(entry)
    table.entries = between = Between(table.entries)
    return table, between


def used_once(table: KeyTable[Thing], key: str) -> None:
    entry = table.enter(key, 0.0)
    assert entry is not None
    table.leave(entry)


def test_a_key_forgotten_between_look_up_and_mark_is_made_anew() -> None:
    table, between = table_with_one_idle_key()
    old = between["a"].value
    between.after_looking_up.append(lambda: used_once(table, "b"))

    entry = table.enter("a", 0.0)

    assert entry is not None
    assert entry is between["a"]
    assert entry.value is not old
    assert len(entry.calls) == 1


def test_a_key_marked_while_it_is_taken_out_stays_and_can_go_later() -> None:
    table, between = table_with_one_idle_key()
    between.after_taking_out.append(lambda entry: entry.calls.append(None))

    assert table.enter("b", 0.0) is None
    table.leave(between["a"])
    assert table.enter("b", 0.0) is not None


def test_a_key_whose_call_ends_while_it_is_put_back_can_go_later() -> None:
    table, between = table_with_one_idle_key()
    between.after_taking_out.append(lambda entry: entry.calls.append(None))
    between.before_putting_back.append(table.leave)

    assert table.enter("b", 0.0) is not None
    assert list(table.entries) == ["b"]
