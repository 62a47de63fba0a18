"""The calculator: right on arithmetic, and never led to other things, or to much work."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server_langgraph.agent.calculator import MAX_LENGTH, CalculationError, calculate


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("-2 ** 2", -4),
        ("2 ^ 10", 1024),
        ("7 // 2", 3),
        ("7 % 4", 3),
        ("7 / 2", 3.5),
        ("+4", 4),
        ("sqrt(16) + abs(-2)", 6.0),
        ("max(1, 2, 3) - min(4, 5)", -1),
        ("round(2.567, 1)", 2.6),
        ("cos(pi)", -1.0),
        (" 1 ", 1),
    ],
)
def test_arithmetic_is_calculated(expression: str, value: float) -> None:
    assert calculate(expression) == pytest.approx(value)


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "1 +",
        "x",
        "True",
        "'a' * 3",
        "[1]",
        "1 if 2 else 3",
        "1 < 2",
        "1 << 9",
        "__import__('os')",
        "(1).real",
        "abs",
        "abs()",
        "round(number=1)",
        "sqrt(-1)",
        "(-8) ** 0.5",
        "1 / 0",
        "0 ** -1",
        "1e308 * 10",
        "exp(1000)",
        "2j",
        "max(*[1])",
        "(lambda: 1)()",
    ],
)
def test_what_is_not_real_arithmetic_is_refused(expression: str) -> None:
    with pytest.raises(CalculationError):
        calculate(expression)


@pytest.mark.parametrize(
    "expression", ["9 ** 9 ** 9", "10 ^ 5000", "(2 ** 4000) * (2 ** 4000)", "9" * (MAX_LENGTH + 1)]
)
def test_large_results_are_refused_before_they_are_made(expression: str) -> None:
    with pytest.raises(CalculationError, match=r"too large|longer"):
        calculate(expression)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(CalculationError):
        calculate("(" * 150 + "1" + ")" * 149)


@given(st.text(max_size=80))
def test_any_text_is_a_number_or_a_calculation_error(text: str) -> None:
    try:
        value = calculate(text)
    except CalculationError:
        return
    assert isinstance(value, int) or math.isfinite(value)


@given(st.text(alphabet="0123456789.+-*/%^() ", max_size=60))
def test_any_arithmetic_text_is_a_number_or_a_calculation_error(text: str) -> None:
    test_any_text_is_a_number_or_a_calculation_error.hypothesis.inner_test(text)  # type: ignore[attr-defined]
