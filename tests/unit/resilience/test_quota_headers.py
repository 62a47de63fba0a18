"""What providers write into their headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server_langgraph.resilience._machines.quota_headers import Reading, readings

NOON = 1_767_268_800.0  # 2026-01-01T12:00:00Z

OPENAI = {
    "x-ratelimit-limit-requests": "10000",
    "x-ratelimit-limit-tokens": "200000",
    "x-ratelimit-remaining-requests": "9999",
    "x-ratelimit-remaining-tokens": "149984",
    "x-ratelimit-reset-requests": "20ms",
    "x-ratelimit-reset-tokens": "6m0s",
}
ANTHROPIC = {
    "Anthropic-Ratelimit-Requests-Limit": "50",
    "Anthropic-Ratelimit-Requests-Remaining": "49",
    "Anthropic-Ratelimit-Requests-Reset": "2026-01-01T12:00:01Z",
    "Anthropic-Ratelimit-Input-Tokens-Limit": "40000",
    "Anthropic-Ratelimit-Input-Tokens-Remaining": "12000",
    "Anthropic-Ratelimit-Input-Tokens-Reset": "2026-01-01T12:00:42Z",
    "Anthropic-Ratelimit-Output-Tokens-Limit": "8000",
    "Anthropic-Ratelimit-Output-Tokens-Remaining": "8000",
    "Anthropic-Ratelimit-Output-Tokens-Reset": "2026-01-01T12:00:00Z",
}


def test_openai_s_headers_are_read() -> None:
    assert readings(OPENAI, NOON) == {
        "requests": Reading(10000, 9999, pytest.approx(0.02)),
        "tokens": Reading(200000, 149984, 360),
    }


def test_anthropic_s_headers_are_read_whatever_their_case() -> None:
    assert readings(ANTHROPIC, NOON) == {
        "requests": Reading(50, 49, pytest.approx(1)),
        "input_tokens": Reading(40000, 12000, pytest.approx(42)),
        "output_tokens": Reading(8000, 8000, 0),
    }


def test_dates_are_compared_with_the_answer_s_own_clock() -> None:
    late = {**ANTHROPIC, "date": "Thu, 01 Jan 2026 12:00:02 GMT"}
    assert readings(late, NOON + 3600)["input_tokens"].reset == pytest.approx(40)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1),
        ("6m0s", 360),
        ("20ms", 0.02),
        ("1m30.951s", 90.951),
        ("1h2m3s", 3723),
        ("2d", 172800),
        ("7.66", 7.66),
        ("500us", 0.0005),
        ("500µs", 0.0005),
        ("2026-01-01T12:00:10+00:00", 10),
        ("2026-01-01T11:00:00Z", 0),
        ("soon", None),
        ("-3", None),
        ("", None),
    ],
)
def test_resets_come_in_many_forms(text: str, seconds: float | None) -> None:
    headers = {"x-ratelimit-remaining-tokens": "1", "x-ratelimit-reset-tokens": text}
    assert readings(headers, NOON)["tokens"].reset == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    "headers",
    [
        {"x-ratelimit-limit-tokens": "-1", "x-ratelimit-remaining-tokens": "-1"},
        {"x-ratelimit-limit-tokens": "0", "x-ratelimit-remaining-tokens": "0"},
        {"x-ratelimit-limit-tokens": "100"},
        {"x-ratelimit-remaining-tokens": "many"},
        {"x-ratelimit-remaining-tokens": "nan"},
        {"x-ratelimit-remaining-tokens": "inf"},
        {},
    ],
)
def test_what_means_nothing_was_not_said(headers: dict[str, str]) -> None:
    assert readings(headers, NOON) == {}


def test_that_nothing_is_left_is_said_with_a_0() -> None:
    headers = {"x-ratelimit-limit-tokens": "100", "x-ratelimit-remaining-tokens": "0"}
    assert readings(headers, NOON) == {"tokens": Reading(100, 0, None)}


def test_bytes_are_read_too() -> None:
    headers = {"x-ratelimit-limit-requests": b"10", "x-ratelimit-remaining-requests": b"3"}
    assert readings(headers, NOON)["requests"] == Reading(10, 3, None)  # type: ignore[arg-type]


@given(st.dictionaries(st.sampled_from([*OPENAI, *ANTHROPIC, "date"]), st.text()))
def test_nothing_that_a_server_sends_raises(headers: dict[str, str]) -> None:
    readings(headers, NOON)
