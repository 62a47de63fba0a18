"""Every policy has a page; all pages have the same headings; and what they say of its place by default is true."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

from mcp_server_langgraph import resilience
from mcp_server_langgraph.llm.factory import create_chat_model
from mcp_server_langgraph.resilience import registry
from mcp_server_langgraph.resilience.policy import Policy
from mcp_server_langgraph.server.door import Door
from mcp_server_langgraph.server.wiring import wire
from mcp_server_langgraph.settings import Settings
from tests.docs.pages import ROOT, page_id

PAGES = sorted((ROOT / "docs" / "reference" / "policies").glob("*.md"))
HEADINGS = [
    "What it protects against",
    "Defaults",
    "Events and metrics",
    "States",
    "Patterns",
    "Anti-patterns",
    "Where it stands by default",
    "Source",
]
# Pages that are not called after the policy's kind.
_NAMED = {"adaptive-limit": "adaptive_limit", "load-shedding": "shed"}
# Pages of what is part of others and no policy by itself.
_PARTS = {"deadline", "retry-budget"}

ALL_SERVICES = {
    "LLM_PROVIDER": "openai",
    "OPENAI_API_KEY": "key",
    "OPENFGA_API_URL": "http://127.0.0.1:1",
    "OPENFGA_STORE_ID": "store",
    "KEYCLOAK_URL": "http://127.0.0.1:1",
    "KEYCLOAK_REALM": "realm",
    "KEYCLOAK_AUDIENCE": "audience",
    "PROMETHEUS_URL": "http://127.0.0.1:1",
    "REDIS_URL": "redis://127.0.0.1:1",
}


def kind_of(page: Path) -> str:
    return _NAMED.get(page.stem, page.stem.replace("-", "_"))


def public_policies() -> set[str]:
    kinds = set()
    for found in pkgutil.iter_modules(resilience.__path__):
        module = importlib.import_module(f"{resilience.__name__}.{found.name}")
        if found.name.startswith("_"):
            continue
        for name, value in vars(module).items():
            ours = inspect.isclass(value) and value.__module__ == module.__name__
            if ours and issubclass(value, Policy) and value is not Policy and not name.startswith("_"):
                kinds.add(value.kind)
    return kinds


@pytest.fixture(scope="module")
def at_work() -> set[str]:
    """The kinds of policies that guard the server and its services where nothing but addresses is configured."""
    registry.reset()
    settings = Settings.from_env(ALL_SERVICES)
    kept = [Door(), wire(settings), create_chat_model(settings)]
    policies = [policy for pipeline in registry.pipelines() for policy in pipeline.policies]
    parts = [part for policy in policies for part in policy.parts()]
    del kept
    registry.reset()
    return {policy.kind for policy in (*policies, *parts)}


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_a_page_has_the_headings_of_all(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert [line.removeprefix("## ") for line in lines if line.startswith("## ")] == HEADINGS


def test_every_policy_has_a_page() -> None:
    assert public_policies() - {kind_of(page) for page in PAGES} == set()


@pytest.mark.parametrize("path", [page for page in PAGES if page.stem not in _PARTS], ids=page_id)
def test_no_policy_is_an_ornament_or_its_page_says_why_it_is_not_at_work(
    path: Path, at_work: set[str]
) -> None:
    said = _section(path).startswith("Not by default: ")
    assert said == (kind_of(path) not in at_work)


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_a_page_names_the_test_that_fails_without_it(path: Path) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", _section(path))
    assert named
    for file, test in named:
        assert f"def {test}" in (ROOT / file).read_text(encoding="utf-8")


def _section(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    return text.partition("## Where it stands by default\n")[2].partition("\n## ")[0].strip()
