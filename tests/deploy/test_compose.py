"""What can be known of deploy/compose.yaml without Docker: that it names what exists, and what the tests run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from mcp_server_langgraph import cli
from mcp_server_langgraph.settings import load
from tests.support.components import locked_version

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SETTINGS = {"OPENFGA_STORE_ID": "store", "OPENFGA_MODEL_ID": "model"}


def test_the_servers_settings_are_settings_and_allowed() -> None:
    environment = SERVICES["server"]["environment"]
    settings, _ = load({**environment, **SETTINGS})
    known = {name.upper() for name in type(settings).model_fields}
    assert set(environment) <= known
    assert settings.keycloak_realm == json.loads((DEPLOY / "keycloak/demo-realm.json").read_text())["realm"]


def test_the_servers_arguments_are_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    options = cli._parser().parse_args(["serve", *SERVICES["server"]["command"]])
    mounted = [volume.split(":")[1] for volume in SERVICES["server"]["volumes"]]
    assert str(options.env_file.parent) in mounted


@pytest.mark.parametrize("service", SERVICES)
def test_what_is_mounted_exists(service: str) -> None:
    for volume in SERVICES[service].get("volumes", []):
        source, target = volume.split(":")[:2]
        assert target.startswith("/")
        if source.startswith("."):
            assert (DEPLOY / source).exists(), volume
        else:
            assert source in COMPOSE["volumes"], volume


def test_what_it_builds_is_built_from_files_that_exist() -> None:
    build = SERVICES["server"]["build"]
    root = DEPLOY / build["context"]
    dockerfile = (root / build["dockerfile"]).read_text()
    copied = [line.split()[1:-1] for line in dockerfile.splitlines() if line.startswith("COPY")]
    assert copied
    for files in copied:
        for file in files:
            assert (root / file).exists(), file


def test_images_are_pinned_to_the_versions_that_the_tests_run() -> None:
    images = {name: service["image"] for name, service in SERVICES.items() if "image" in service}
    assert all(re.search(r":v?\d+\.\d+\.\d+(-slim)?$", image) for image in images.values()), images
    assert images["keycloak"].endswith(f":{locked_version('keycloak')}")
    assert images["openfga"].endswith(f":v{locked_version('openfga')}")
    base = re.search(r"^FROM (\S+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert base is not None
    assert images["openfga-setup"] == base[1]


@pytest.mark.parametrize("service", SERVICES)
def test_ports_are_open_to_this_machine_alone(service: str) -> None:
    assert all(str(port).startswith("127.0.0.1:") for port in SERVICES[service].get("ports", []))


@pytest.mark.parametrize("service", sorted(set(SERVICES) - {"openfga-setup"}))
def test_whatever_keeps_running_says_whether_it_is_well(service: str) -> None:
    assert SERVICES[service]["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("service", SERVICES)
def test_what_waits_for_another_waits_for_one_that_can_tell(service: str) -> None:
    for other, wanted in SERVICES[service].get("depends_on", {}).items():
        if wanted["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[other]
        else:
            assert wanted["condition"] == "service_completed_successfully"
            assert other == "openfga-setup"


def test_each_service_is_asked_where_it_is() -> None:
    environment = SERVICES["server"]["environment"]
    addresses = [environment[name] for name in environment if name.endswith("_URL") and name != "PUBLIC_URL"]
    hosts = {re.search(r"//([a-z]+):", address)[1] for address in addresses}  # type: ignore[index]
    assert hosts == {"keycloak", "openfga", "prometheus", "redis"}
    keycloak = SERVICES["keycloak"]["environment"]
    assert environment["KEYCLOAK_ISSUER"] == f"{keycloak['KC_HOSTNAME']}/realms/demo"
