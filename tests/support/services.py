"""OpenFGA and Keycloak for tests that ask only what a stand-in can answer too: the real thing wherever it can be had.

Where REQUIRE_COMPONENTS names a server of its own, no stand-in takes its place: the test fails without it.
A plugin, registered in conftest.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.components import choose
from tests.support.keycloak_process import KeycloakProcess
from tests.support.oidc_process import OidcProcess
from tests.support.openfga_process import OpenFGAProcess
from tests.support.openfga_stand_in import OpenFGAStandIn

__all__ = ["keycloak_service", "openfga_service", "own_keycloak"]


@pytest.fixture
def openfga_service(tmp_path: Path) -> Iterator[OpenFGAProcess | OpenFGAStandIn]:
    """A running OpenFGA: its own server, or its engine behind our facade."""
    own = choose("openfga") == "openfga"
    with OpenFGAProcess(tmp_path / "openfga") if own else OpenFGAStandIn() as running:
        yield running


@pytest.fixture(scope="session")
def own_keycloak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeycloakProcess]:
    """Keycloak's own server with the demo realm, one for all tests of a process: leave the realm as it was."""
    with KeycloakProcess(tmp_path_factory.mktemp("keycloak")) as running:
        yield running


@pytest.fixture(scope="session")
def keycloak_service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KeycloakProcess | OidcProcess]:
    """A running Keycloak with the demo realm: its own server, or oidc-provider."""
    if choose("keycloak") == "keycloak":
        yield request.getfixturevalue("own_keycloak")
        return
    with OidcProcess(tmp_path_factory.mktemp("oidc")) as running:
        yield running
