"""The rules for Prometheus under deploy/: checked and tested by promtool, over metrics that the server really has."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from mcp_server_langgraph.resilience.metrics import FAMILIES
from mcp_server_langgraph.server.metrics import ServerMetrics
from tests.docs.pages import ROOT
from tests.support.components import require

FOLDER = ROOT / "deploy" / "prometheus"
RULES = [FOLDER / "rules.yml", FOLDER / "alerts.yml"]
SCENARIOS = Path(__file__).with_name("alerts_test.yml")


def promtool(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [require("promtool"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def expressions() -> dict[str, str]:
    """Every expression by the name of its rule."""
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return {rule.get("record") or rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


def exposed() -> set[str]:
    """The names of all series that the server exposes, and those that Prometheus adds."""
    kinds = {name: family.kind for name, family in FAMILIES.items()}
    for family in ServerMetrics().registry.collect():
        kinds[f"{family.name}_total" if family.type == "counter" else family.name] = family.type
    histograms = [name for name, kind in kinds.items() if kind == "histogram"]
    return {"up", *kinds, *(f"{name}_{part}" for name in histograms for part in ("bucket", "count", "sum"))}


def test_the_rules_and_the_configuration_are_valid() -> None:
    for arguments in (("check", "rules", *RULES), ("check", "config", FOLDER / "prometheus.yml")):
        checked = promtool(*arguments)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_alerts_fire_when_they_should_and_not_otherwise() -> None:
    tested = promtool("test", "rules", SCENARIOS)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_every_metric_in_the_rules_is_one_that_the_server_exposes_or_a_rule_records() -> None:
    known = exposed() | {name for name in expressions() if ":" in name}
    for rule, expression in expressions().items():
        bare = re.sub(r'"[^"]*"', '""', expression)
        bare = re.sub(r"(?:by|on|group_left)\s*\([^)]*\)|\{[^}]*\}|\[[^\]]*\]", " ", bare)
        used = set(re.findall(r"[a-zA-Z_:][\w:]*", bare)) - _WORDS
        assert used, rule
        assert used <= known, (rule, used - known)


@pytest.mark.parametrize("name", [name for name in expressions() if ":" not in name])
def test_each_alert_has_a_scenario_a_summary_and_a_page_that_says_what_to_do(name: str) -> None:
    alerts = yaml.safe_load(RULES[1].read_text())["groups"][0]["rules"]
    [alert] = [each for each in alerts if each["alert"] == name]
    assert alert["labels"]["severity"] in ("page", "ticket")
    page, _, anchor = alert["annotations"]["runbook"].partition("#")
    headings = [line for line in (ROOT / page).read_text().splitlines() if line.startswith("#")]
    assert anchor in {heading.lstrip("# ").lower() for heading in headings}
    assert f"alertname: {name}\n" in SCENARIOS.read_text()


_WORDS = {
    *("and", "avg", "by", "histogram_quantile", "max_over_time", "on"),
    *("or", "present_over_time", "rate", "sum", "unless"),
}
