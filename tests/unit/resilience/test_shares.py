"""Shares of a limit: which level's turn it is."""

from __future__ import annotations

from mcp_server_langgraph.resilience._machines.shares import Shares


def test_a_place_goes_to_a_level_below_its_share_and_else_to_the_most_critical() -> None:
    shares = Shares(4, {2: 0.5, 0: 0.2})
    picked = []
    for _ in range(5):
        level = shares.pick(iter([1, 0, 3, 2]), 4)
        assert level is not None
        picked.append(level)
        shares.busy[level].append(None)
    assert picked == [2, 2, 0, 3, 3]
    assert shares.pick(iter([]), 4) is None
