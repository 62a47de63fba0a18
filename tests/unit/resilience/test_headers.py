"""What callers send is read as far as it can be, and nothing that they send is an error."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server_langgraph.resilience._headers import LONGEST, MOST_ATTEMPTS, Sent


@pytest.mark.parametrize(
    ("name", "value", "seconds"),
    [
        ("x-request-timeout-ms", "1500", 1.5),
        ("X-Request-Timeout-Ms", " 0 ", 0.0),
        ("x-envoy-expected-rq-timeout-ms", "250", 0.25),
        ("grpc-timeout", "1H", 3600.0),
        ("grpc-timeout", "2M", 120.0),
        ("grpc-timeout", "3S", 3.0),
        ("grpc-timeout", "250m", 0.25),
        ("grpc-timeout", "500u", 0.0005),
        ("grpc-timeout", "99999999n", 0.099999999),
        ("grpc-timeout", "99999999H", LONGEST),
        ("x-request-timeout-ms", "999999999999", LONGEST),
    ],
)
def test_the_time_that_is_left(name: str, value: str, seconds: float) -> None:
    sent = Sent({name: value})
    assert sent.seconds == pytest.approx(seconds)
    assert sent.ignored == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-request-timeout-ms", ""),
        ("x-request-timeout-ms", "-1"),
        ("x-request-timeout-ms", "1.5"),
        ("x-request-timeout-ms", "1e3"),
        ("x-request-timeout-ms", "٣"),
        ("x-request-timeout-ms", "9" * 5000),
        ("grpc-timeout", "100"),
        ("grpc-timeout", "100s"),
        ("grpc-timeout", "123456789S"),
        ("x-request-attempt", "0"),
        ("x-request-attempt", "1001"),
        ("x-envoy-attempt-count", "two"),
        ("x-request-criticality", "very critical!"),
    ],
)
def test_what_cannot_be_read_is_ignored_by_name(name: str, value: str) -> None:
    sent = Sent({name: value})
    assert (sent.seconds, sent.criticality, sent.attempt, sent.ignored) == (None, None, 1, [name])


def test_the_shortest_time_and_the_highest_attempt_win() -> None:
    pairs = [
        (b"grpc-timeout", b"2S"),
        (b"x-request-timeout-ms", b"1000"),
        (b"x-envoy-expected-rq-timeout-ms", b"3000"),
        (b"x-envoy-attempt-count", b"3"),
        (b"x-request-attempt", b"2"),
        (b"x-request-criticality", b"Critical-Plus"),
        (b"cookie", b"\xff"),
    ]
    sent = Sent(pairs)
    assert (sent.seconds, sent.criticality, sent.attempt, sent.ignored) == (1.0, "critical_plus", 3, [])


_NAMES = (
    *("x-request-timeout-ms", "grpc-timeout", "x-envoy-expected-rq-timeout-ms"),
    *("x-request-attempt", "x-envoy-attempt-count", "x-request-criticality", "accept"),
)
_VALUES = st.one_of(
    st.text(max_size=20),
    st.integers(-5, 10**13).map(str),
    st.tuples(st.integers(0, 10**9), st.sampled_from("HMSmunx")).map(lambda it: f"{it[0]}{it[1]}"),
)
_UNITS = {"H": 3600, "M": 60, "S": 1, "m": 1e-3, "u": 1e-6, "n": 1e-9}


def naive(pairs: list[tuple[str, str]]) -> tuple[float | None, int]:
    times, attempts = [LONGEST], [1]
    found = False
    for name, raw in pairs:
        value = raw.strip()
        plain = value.isascii() and value.isdigit() and len(value) <= 12
        if name.endswith("timeout-ms") and plain:
            times.append(int(value) / 1000)
            found = True
        if name == "grpc-timeout" and re.match(r"^[0-9]{1,8}[HMSmun]$", value) and not value.endswith("\n"):
            times.append(int(value[:-1]) * _UNITS[value[-1]])
            found = True
        if "attempt" in name and plain and 0 < int(value) <= MOST_ATTEMPTS:
            attempts.append(int(value))
    return (min(times) if found else None), max(attempts)


@given(pairs=st.lists(st.tuples(st.sampled_from(_NAMES), _VALUES), max_size=6))
def test_any_headers_are_read_as_a_naive_reader_would(pairs: list[tuple[str, str]]) -> None:
    sent = Sent(pairs)
    assert (sent.seconds, sent.attempt) == naive(pairs)
    assert sent.seconds is None or 0 <= sent.seconds <= LONGEST
