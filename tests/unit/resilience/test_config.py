"""Settings: names, precedence, errors."""

from __future__ import annotations

import pytest

from mcp_server_langgraph.resilience import Settings, SettingsError
from mcp_server_langgraph.resilience.config import DEFAULTS, prefixes

ADR = {
    "CIRCUIT_BREAKER_FAIL_MAX": 5,
    "CIRCUIT_BREAKER_TIMEOUT_DURATION": 60,
    "CIRCUIT_BREAKER_EXPECTED_EXCEPTION": (Exception,),
    "RETRY_STOP_AFTER_ATTEMPT": 3,
    "RETRY_WAIT_EXPONENTIAL_MULTIPLIER": 1,
    "RETRY_WAIT_EXPONENTIAL_MAX": 10,
    "RETRY_RERAISE": True,
    "DEFAULT_TIMEOUT": 30,
    "LLM_TIMEOUT": 60,
    "AUTH_TIMEOUT": 5,
    "DB_TIMEOUT": 10,
    "HTTP_TIMEOUT": 15,
    "LLM_CONCURRENCY_LIMIT": 10,
    "OPENFGA_CONCURRENCY_LIMIT": 50,
    "REDIS_CONCURRENCY_LIMIT": 100,
    "DB_CONCURRENCY_LIMIT": 20,
    "FF_ENABLE_RESILIENCE_PATTERNS": True,
}


@pytest.mark.parametrize(("name", "value"), ADR.items())
def test_every_variable_of_the_adr_has_its_default(name: str, value: object) -> None:
    assert Settings().choose("anything", name) == value


def test_a_services_own_variable_beats_the_argument_which_beats_the_global_one_which_beats_the_default() -> (
    None
):
    name = "CIRCUIT_BREAKER_FAIL_MAX"
    everything = Settings({f"OPENFGA_{name}": "7", name: "8"})
    assert everything.choose("openfga", name, 9) == 7
    assert everything.choose("redis", name, 9) == 9
    assert everything.choose("redis", name) == 8
    assert Settings().choose("redis", name) == 5


def test_a_name_of_several_parts_is_asked_from_its_longest_prefix() -> None:
    assert prefixes("llm.anthropic.claude-4:x") == (
        *("LLM_ANTHROPIC_CLAUDE_4_X_", "LLM_ANTHROPIC_CLAUDE_4_"),
        *("LLM_ANTHROPIC_", "LLM_"),
    )
    both = Settings({"LLM_RETRY_STOP_AFTER_ATTEMPT": "2", "LLM_OPENAI_RETRY_STOP_AFTER_ATTEMPT": "4"})
    assert both.choose("llm.openai.gpt", "RETRY_STOP_AFTER_ATTEMPT") == 4
    assert both.choose("llm.google.gemini", "RETRY_STOP_AFTER_ATTEMPT") == 2


@pytest.mark.parametrize(
    ("service", "seconds", "limit"),
    [
        ("llm.anthropic", 60, 10),
        ("openfga", 5, 50),
        ("keycloak", 5, 20),
        ("redis", 10, 100),
        ("database", 10, 20),
        ("prometheus", 15, 20),
        ("else", 30, 20),
    ],
)
def test_each_kind_of_service_has_its_timeout_and_its_limit(service: str, seconds: float, limit: int) -> None:
    assert Settings().timeout(service) == seconds
    assert Settings().limit(service) == limit


def test_one_service_of_a_kind_may_have_its_own_timeout_and_limit() -> None:
    settings = Settings({"AUTH_TIMEOUT": "4", "OPENFGA_TIMEOUT": "2", "KEYCLOAK_CONCURRENCY_LIMIT": "3"})
    assert (settings.timeout("openfga"), settings.timeout("keycloak")) == (2, 4)
    assert settings.limit("keycloak") == 3


def test_attempts_of_auth_and_sessions_are_short_by_default() -> None:
    attempts = {
        name: Settings().attempt_timeout(name)
        for name in ("openfga", "keycloak", "redis", "llm", "prometheus")
    }
    assert all(
        attempts[name] is not None and attempts[name] < 0.5 for name in ("openfga", "keycloak", "redis")
    )  # type: ignore[operator]
    assert attempts["llm"] is None
    assert Settings({"REDIS_ATTEMPT_TIMEOUT": "0.3"}).attempt_timeout("redis") == 0.3


def test_everything_wrong_is_said_at_once_with_name_value_and_what_is_allowed() -> None:
    wrong = {
        "CIRCUIT_BREAKER_FAIL_MAX": "-1",
        "OPENFGA_RETRY_STOP_AFTER_ATTEMPT": "many",
        "LLM_TIMEOUT": "-1",
        "FF_ENABLE_RESILIENCE_PATTERNS": "perhaps",
        "CIRCUIT_BREAKER_EXPECTED_EXCEPTION": "builtins.print",
        "CIRCUIT_BREAKER_LISTENERS": "no.such.thing",
        "DB_TIMEOUT": "nan",
        "PATH": "/bin",
    }
    with pytest.raises(SettingsError) as caught:
        Settings(wrong)
    problems = caught.value.problems
    assert len(problems) == 7
    for name, value in wrong.items():
        if name != "PATH":
            assert any(
                name in problem and repr(value) in problem and "must be" in problem for problem in problems
            )


@pytest.mark.parametrize("text", ["false", "0", "off", "No"])
def test_the_switch_has_a_global_and_a_service_form(text: str) -> None:
    off = Settings({"FF_ENABLE_RESILIENCE_PATTERNS": text})
    one = Settings({"OPENFGA_FF_ENABLE_RESILIENCE_PATTERNS": text})
    assert not off.enabled("redis")
    assert (one.enabled("openfga"), one.enabled("redis")) == (False, True)


def test_exceptions_and_listeners_are_dotted_paths() -> None:
    settings = Settings(
        {
            "REDIS_CIRCUIT_BREAKER_EXPECTED_EXCEPTION": "ConnectionError, builtins.TimeoutError",
            "CIRCUIT_BREAKER_LISTENERS": "mcp_server_langgraph.resilience.CircuitBreakerMetricsListener",
        }
    )
    name = "CIRCUIT_BREAKER_EXPECTED_EXCEPTION"
    assert settings.choose("redis", name) == (ConnectionError, TimeoutError)
    assert settings.choose("openfga", name) == (Exception,)
    (listener,) = settings.choose("any", "CIRCUIT_BREAKER_LISTENERS")
    assert type(listener).__name__ == "CircuitBreakerMetricsListener"


def test_an_empty_variable_counts_as_unset() -> None:
    assert Settings({"LLM_TIMEOUT": ""}).timeout("llm") == 60


def test_settings_show_as_plain_values() -> None:
    shown = Settings({"OPENFGA_TIMEOUT": "2"}).as_dict()
    assert shown["OPENFGA_TIMEOUT"] == 2.0
    assert shown["CIRCUIT_BREAKER_EXPECTED_EXCEPTION"] == ["Exception"]
    assert set(DEFAULTS) <= set(shown)


def test_a_service_of_ones_own_has_every_form_too() -> None:
    own = Settings({"SEARCH_TIMEOUT": "2", "SEARCH_ATTEMPT_TIMEOUT": "0.5", "SEARCH_CONCURRENCY_LIMIT": "3"})
    assert (own.timeout("search"), own.attempt_timeout("search"), own.limit("search")) == (2.0, 0.5, 3)


def test_a_variable_that_may_be_anybodys_is_judged_only_where_there_is_such_a_service() -> None:
    settings = Settings({"AWS_HTTP_TIMEOUT": "5s", "SEARCH_TIMEOUT": "5s"})
    assert settings.timeout("redis") == 10
    assert settings.problems_of(["redis", "search"]) == [
        f"SEARCH_TIMEOUT='5s' is not allowed: SEARCH_TIMEOUT must be {DEFAULTS['DEFAULT_TIMEOUT'].allowed}"
    ]
    with pytest.raises(SettingsError, match="SEARCH_TIMEOUT='5s'"):
        settings.timeout("search")
