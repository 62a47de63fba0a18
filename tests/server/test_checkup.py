"""The command ``doctor``: the clients that the server makes ask once, and their pipelines end them in time."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import openai
import pytest

from mcp_server_langgraph import cli
from mcp_server_langgraph.resilience import config
from mcp_server_langgraph.server.checkup import examined
from mcp_server_langgraph.settings import load

EVERYTHING = {
    "LLM_PROVIDER": "openai",
    "LLM_FALLBACK_MODELS": "anthropic:m,google:m",
    **{f"{name}_API_KEY": "none" for name in ("OPENAI", "ANTHROPIC", "GOOGLE")},
    "REDIS_URL": "redis://127.0.0.1:9",
    "OPENFGA_API_URL": "http://127.0.0.1:9",
    "OPENFGA_STORE_ID": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "KEYCLOAK_URL": "http://127.0.0.1:9",
    "KEYCLOAK_REALM": "r",
    "KEYCLOAK_AUDIENCE": "a",
    "PROMETHEUS_URL": "http://127.0.0.1:9",
}


def test_every_client_of_the_server_is_found_behind_its_pipeline_and_nothing_is_wrong() -> None:
    settings, resilience = load(EVERYTHING)
    config.install(resilience)
    report = examined(settings)
    clients = {found.path[-1].partition(" ")[0] for found in report.diagnoses}
    assert clients == {
        "httpx2.AsyncClient",
        "langchain_anthropic.ChatAnthropic",
        "langchain_google_genai.ChatGoogleGenerativeAI",
        "langchain_openai.ChatOpenAI",
        "redis.Redis",
    }
    assert all(found.path[0].startswith("pipeline ") for found in report.diagnoses)
    assert all(not found.path[-1].endswith(tuple("0123456789")) for found in report.diagnoses), "none retries"
    assert report.healthy, str(report)


def test_the_command_examines_other_objects_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setitem(sys.modules, "app", SimpleNamespace(client=openai.AsyncOpenAI(api_key="none")))
    assert cli.main(["doctor", "app:client"]) == 1
    assert "3 requests" in capsys.readouterr().out


def test_the_command_says_that_all_is_well(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in EVERYTHING:
        monkeypatch.delenv(name, raising=False)
    assert cli.main(["doctor"]) == 0
    assert capsys.readouterr().out == "0 ways to clients found, 0 with problems\n"
