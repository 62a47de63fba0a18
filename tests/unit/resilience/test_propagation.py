from __future__ import annotations

from mcp_server_langgraph.resilience.propagation import ATTEMPT, current_attempt


def test_the_attempt_is_the_first_one_where_nothing_was_retried() -> None:
    assert current_attempt() == 1
    reset = ATTEMPT.set(2)
    try:
        assert current_attempt() == 2
    finally:
        ATTEMPT.reset(reset)
    assert current_attempt() == 1
