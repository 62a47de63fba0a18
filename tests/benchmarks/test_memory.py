"""What a keyed breaker weighs, on a tenth of the keys."""

from __future__ import annotations

from benchmarks import memory


def test_ten_thousand_keyed_breakers_fit_into_twenty_megabytes() -> None:
    make, failing = memory.CASES["**breakers**"]
    assert memory.weigh(make, failing=failing, keys=memory.KEYS // 10) * 10 < memory.LIMIT_MB


def test_the_page_tells_megabytes_and_bytes_a_key() -> None:
    assert "| breakers | 12.0 | 1,200 |" in memory.report({"breakers": 12.0})
