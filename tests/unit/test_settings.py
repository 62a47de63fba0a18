"""Settings: hermetic reading, honest refusals, and no secret ever shown."""

import json
from pathlib import Path

import pytest

from mcp_server_langgraph.resilience.errors import SettingsError
from mcp_server_langgraph.settings import Settings, load

SECRETS = {
    "ANTHROPIC_API_KEY": "sk-ant-secret",
    "OPENAI_API_KEY": "sk-open-secret",
    "GOOGLE_API_KEY": "goog-secret",
    "REDIS_URL": "redis://user:hunter-secret@localhost:6379/0",
    "PROMETHEUS_URL": "http://user:prom-secret@localhost:9090",
}


def problems_of(environ: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as refused:
        load(environ)
    return refused.value.problems


def test_nothing_needs_to_be_set() -> None:
    settings, resilience = load({})
    assert settings.llm_provider == "offline"
    assert settings.redis_url is None
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert resilience.as_dict()["CIRCUIT_BREAKER_FAIL_MAX"] == 5


def test_every_setting_says_what_it_is_and_what_is_allowed() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert isinstance(field.json_schema_extra, dict), name
        assert field.json_schema_extra["allowed"], name


def test_only_the_given_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "1234")
    assert Settings.from_env({}).port == 8000
    assert Settings.from_env({"PORT": "4321"}).port == 4321


def test_lists_are_comma_separated_and_words_ignore_case() -> None:
    settings = Settings.from_env(
        {
            "ALLOWED_HOSTS": "a.example, b.example:8443 ,",
            "LLM_FALLBACK_MODELS": "offline:, openai:gpt-x",
            "OPENAI_API_KEY": "k",
            "LOG_LEVEL": "debug",
            "OPENFGA_FAIL_MODE": "Closed",
        }
    )
    assert settings.allowed_hosts == ["a.example", "b.example:8443"]
    assert settings.llm_fallback_models == ["offline:", "openai:gpt-x"]
    assert settings.log_level == "DEBUG"
    assert settings.openfga_fail_mode == "closed"


def test_an_empty_variable_is_as_good_as_none() -> None:
    assert Settings.from_env({"PORT": "", "REDIS_URL": ""}).redis_url is None


def test_all_that_is_wrong_is_told_at_once_with_name_value_and_what_is_allowed() -> None:
    problems = problems_of(
        {
            "PORT": "70000",
            "LLM_MAX_TOOL_ROUNDS": "0",
            "LLM_FALLBACK_MODELS": "gpt-x",
            "PROMETHEUS_URL": "localhost:9090",
            "CIRCUIT_BREAKER_FAIL_MAX": "many",
            "KEYCLOAK_URL": "https://id.example",
            "LLM_PROVIDER": "anthropic",
        }
    )
    text = "\n".join(problems)
    assert "PORT='70000' is not allowed: PORT must be an integer, 0 (any free port) to 65535" in text
    assert "LLM_MAX_TOOL_ROUNDS='0'" in text
    assert (
        "LLM_FALLBACK_MODELS='gpt-x' is not allowed: LLM_FALLBACK_MODELS must be comma separated provider:model"
        in text
    )
    assert "PROMETHEUS_URL='localhost:9090'" in text
    assert "CIRCUIT_BREAKER_FAIL_MAX='many'" in text
    assert "KEYCLOAK_REALM is not set" in text
    assert "KEYCLOAK_AUDIENCE is not set" in text
    assert "ANTHROPIC_API_KEY is not set" in text
    assert len(problems) == 8


def test_a_fallback_model_needs_the_key_of_its_provider() -> None:
    (problem,) = problems_of({"LLM_FALLBACK_MODELS": "google:gemini-x"})
    assert problem.startswith("GOOGLE_API_KEY is not set")


def test_a_wrong_secret_is_named_but_not_shown() -> None:
    (problem,) = problems_of({"REDIS_URL": "http://user:hunter-secret@localhost"})
    assert problem.startswith("REDIS_URL='(secret)'")
    assert "hunter" not in problem


def test_the_password_in_a_wrong_url_is_not_shown() -> None:
    (problem,) = problems_of({"PROMETHEUS_URL": "ftp://user:prom-secret@localhost"})
    assert "prom-secret" not in problem
    assert "localhost" in problem


def test_what_is_shown_publicly_holds_no_secret() -> None:
    shown = json.dumps(Settings.from_env(SECRETS).public())
    assert "secret@" not in shown
    assert "-secret" not in shown
    assert '"redis_url": "(secret)"' in shown
    assert "localhost:9090" in shown


def test_the_text_form_holds_no_secret() -> None:
    text = repr(
        Settings.from_env({name: value for name, value in SECRETS.items() if name != "PROMETHEUS_URL"})
    )
    assert "-secret" not in text


ENDPOINTS = {"LLM_ENDPOINTS": "vllm=http://host:8000/v1/, ollama=http://127.0.0.1:11434/v1"}


def test_endpoints_and_keys_are_pairs() -> None:
    settings = Settings.from_env(
        ENDPOINTS | {"LLM_API_KEYS": "vllm=secret-a==,openai/TeamB=secret-b", "LLM_PROVIDER": "offline"}
    )
    assert settings.llm_endpoints == {"vllm": "http://host:8000/v1", "ollama": "http://127.0.0.1:11434/v1"}
    keys = {name: key.get_secret_value() for name, key in settings.llm_api_keys.items()}
    assert keys == {"vllm": "secret-a==", "openai/teamb": "secret-b"}
    assert "secret-" not in json.dumps(settings.public()) + repr(settings)


@pytest.mark.parametrize(
    "value",
    [
        "vllm",
        "vllm=host:8000",
        "openai=http://h",
        "a/b=http://h",
        "=http://h",
        "v=",
        "v=http://a,v=http://b",
        "9=http://h",
    ],
)
def test_an_endpoint_that_cannot_be_one_is_refused(value: str) -> None:
    (problem,) = problems_of({"LLM_ENDPOINTS": value})
    assert problem.startswith(
        f"LLM_ENDPOINTS={value!r} is not allowed: LLM_ENDPOINTS must be comma separated name=URL"
    )


def test_the_password_in_the_address_of_an_endpoint_is_refused_and_not_shown() -> None:
    (problem,) = problems_of({"LLM_ENDPOINTS": "a=http://h,b=http://user:secret@host/v1"})
    assert "secret" not in problem
    assert "without a password" in problem


@pytest.mark.parametrize(
    "value", ["openai=secret-key", "secret-key", "a b=secret-key", "openai/b=secret,openai/b=key"]
)
def test_a_wrong_key_of_an_account_is_not_shown(value: str) -> None:
    (problem,) = problems_of({"LLM_API_KEYS": value})
    assert problem.startswith(
        "LLM_API_KEYS='(secret)' is not allowed: LLM_API_KEYS must be comma separated endpoint=key"
    )
    assert "secret-key" not in problem


def test_quotas_are_kept_by_the_name_that_the_chain_calls_a_model() -> None:
    given = {"LLM_QUOTAS": "Google : Gemini-X=10/250000,openai/TeamB:m=-/1, vllm:org/model:tag = 60/-"}
    assert Settings.from_env(given).llm_quotas == {
        "google:gemini-x": "10/250000",
        "openai/teamb:m": "-/1",
        "vllm:org/model:tag": "60/-",
    }


@pytest.mark.parametrize(
    "value",
    [
        "google:m",
        "google:m=10",
        "google:m=-/-",
        "google:m=0/10",
        "google:m=10/0",
        "google:m=1.5/-",
        "google:m=-1/-",
        "google:m=10/",
        "google:m=10/1/1",
        "google=10/-",
        "offline=10/-",
        "G g:m=10/-",
        "google:m=10/-,google:m=20/-",
        "google:m=1e3/-",
    ],
)
def test_a_quota_that_cannot_be_one_is_refused(value: str) -> None:
    (problem,) = problems_of({"LLM_QUOTAS": value})
    assert problem.startswith(
        f"LLM_QUOTAS={value!r} is not allowed: LLM_QUOTAS must be comma separated provider:model=requests/tokens"
    )


def test_a_model_needs_what_it_is_asked_through() -> None:
    problems = problems_of(
        ENDPOINTS
        | {
            "LLM_PROVIDER": "vllm",
            "LLM_FALLBACK_MODELS": "vlm:m,openai/teamb:m,ollama/x:m,google:g",
            "LLM_API_KEYS": "openai/teama=k",
        }
    )
    why = "it is needed because LLM_FALLBACK_MODELS is 'vlm:m,openai/teamb:m,ollama/x:m,google:g'"
    assert problems == (
        "LLM_MODEL is not set: it is needed because LLM_PROVIDER is 'vllm'",
        "LLM_FALLBACK_MODELS='vlm:m,openai/teamb:m,ollama/x:m,google:g' names 'vlm': "
        "the providers are offline, local, anthropic, openai, google, vllm, ollama",
        f"LLM_API_KEYS holds no key of openai/teamb: {why}",
        f"LLM_API_KEYS holds no key of ollama/x: {why}",
        f"GOOGLE_API_KEY is not set: {why}",
    )


def test_a_model_without_its_provider_is_told_and_not_answered_for_by_the_offline_stand_in() -> None:
    assert problems_of({"LLM_MODEL": "gpt-5.4-mini"}) == (
        "LLM_PROVIDER is not set: it is needed because LLM_MODEL is 'gpt-5.4-mini'",
    )
    assert Settings.from_env({"LLM_MODEL": ""}).llm_provider == "offline"
    given = {"LLM_PROVIDER": "openai", "LLM_MODEL": "gpt-5.4-mini", "OPENAI_API_KEY": "k"}
    assert Settings.from_env(given).llm_model == "gpt-5.4-mini"


def test_there_is_one_local_model() -> None:
    assert Settings.from_env({"LLM_PROVIDER": "local", "LLM_MODEL": "smollm2"}).llm_model == "smollm2"
    assert problems_of({"LLM_PROVIDER": "local", "LLM_MODEL": "llama"}) == (
        "local:llama is not there: the local model is smollm2, and there is no other",
    )
    (problem,) = problems_of({"LLM_FALLBACK_MODELS": "local:smollm3"})
    assert problem.startswith("local:smollm3 is not there")


@pytest.mark.parametrize("content", [None, "", "not a certificate"])
def test_a_file_without_certificates_is_told_at_the_start(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    (problem,) = problems_of({"REDIS_CA_FILE": str(file)})
    assert problem.startswith(
        f"REDIS_CA_FILE='{file}' is not allowed: REDIS_CA_FILE must be the path of a file of"
    )


@pytest.mark.parametrize(
    "token", ["a b", "Bearer key-secret", "key-secret\n", "key\tsecret", "key\x7fsecret", "schl\u00fcssel"]
)
def test_a_token_that_no_header_can_hold_is_told_at_the_start_and_not_shown(token: str) -> None:
    problems = problems_of(
        {"OPENFGA_API_URL": "http://fga", "OPENFGA_STORE_ID": "1", "OPENFGA_API_TOKEN": token}
    )
    assert problems == (
        "OPENFGA_API_TOKEN='(secret)' is not allowed: OPENFGA_API_TOKEN must be a key: "
        "printable ASCII characters without blanks",
    )


def test_a_token_for_nobody_is_told_and_not_shown() -> None:
    assert problems_of({"OPENFGA_API_TOKEN": "key-secret"}) == (
        "OPENFGA_API_URL is not set: it is needed because OPENFGA_API_TOKEN is '(secret)'",
    )


def test_a_token_may_be_of_any_characters_that_can_be_seen() -> None:
    token = "".join(map(chr, range(33, 127)))
    settings = Settings.from_env(
        {"OPENFGA_API_URL": "http://fga", "OPENFGA_STORE_ID": "1", "OPENFGA_API_TOKEN": token}
    )
    assert settings.openfga_api_token is not None
    assert settings.openfga_api_token.get_secret_value() == token
    assert settings.public()["openfga_api_token"] == "(secret)"
    assert token not in repr(settings)
