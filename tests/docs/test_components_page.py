"""The recorded run was one against the servers' own programs, of the versions that scripts/components fetches."""

import pytest

from tests.docs.pages import ROOT
from tests.support.components import locked_version


@pytest.mark.parametrize("name", ["keycloak", "openfga"])
def test_the_recorded_run_used_the_server_of_the_locked_version(name: str) -> None:
    page = (ROOT / "docs" / "reference" / "components.md").read_text()
    assert f"| {name} | {locked_version(name)} | the real thing |" in page
