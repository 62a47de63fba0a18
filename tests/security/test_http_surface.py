"""Every plain HTTP surface under schemathesis and Hypothesis: no 500, no hang, nothing of the inside told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.docs.pages import ROOT
from tests.security.surface import SECONDS, leaks, said, unharmed
from tests.server.running import RunningServer, running_server
from tests.support.ports import HOST, free_port

SCHEMA = schemathesis.openapi.from_path(ROOT / "docs" / "reference" / "openapi.yaml")
OPERATIONS = [result.ok() for result in SCHEMA.get_all_operations()]
MODES = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)

bounded = settings(
    max_examples=12,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that asks for tokens, of a Keycloak that is not there."""
    nobody = f"http://{HOST}:{free_port()}"
    variables = {"KEYCLOAK_URL": nobody, "KEYCLOAK_REALM": "r", "KEYCLOAK_AUDIENCE": "a"}
    variables["RETRY_STOP_AFTER_ATTEMPT"] = "1"
    with running_server(tmp_path_factory.mktemp("surface"), **variables) as running:
        yield running


def allowed(path: str, status: int) -> bool:
    """503 is an answer where it is meant: not ready, or the identity provider cannot be asked."""
    return status < 500 or (status == 503 and path in ("/health/ready", "/health/startup", "/mcp"))


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_each_operation_answers_as_it_is_described_to_what_fits_and_what_does_not(
    operation: Any, server: RunningServer
) -> None:
    @bounded
    @given(case=st.one_of([operation.as_strategy(generation_mode=mode) for mode in MODES]))
    def ask(case: Any) -> None:
        response = case.call(base_url=server.base, timeout=SECONDS)
        assert allowed(operation.path, response.status_code), response.status_code
        assert leaks(response.text) is None
        described = operation.definition.raw["responses"]
        assert str(response.status_code) in described, response.status_code

    with unharmed(server):
        ask()


@pytest.mark.parametrize(
    "operation", [each for each in OPERATIONS if each.method == "get"], ids=lambda operation: operation.label
)
def test_an_answer_has_the_form_that_is_described(operation: Any, server: RunningServer) -> None:
    operation.Case().call_and_validate(base_url=server.base, timeout=SECONDS)


HEADERS = (
    *("host", "origin", "accept", "content-type", "authorization", "mcp-session-id", "mcp-protocol-version"),
    *(
        "x-request-timeout-ms",
        "x-request-criticality",
        "x-forwarded-host",
        "forwarded",
        "traceparent",
        "cookie",
    ),
)
_PATHS = st.sampled_from([operation.path for operation in OPERATIONS])
_SIGNS = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='#?%"<>\\^`{|}'), max_size=40
)


def test_no_path_query_or_method_is_answered_500(server: RunningServer) -> None:
    methods = st.sampled_from(
        ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "X-MADE-UP"]
    )
    paths = st.one_of(_PATHS, st.builds("{}/{}".format, _PATHS, _SIGNS), _SIGNS.map("/{}".format))
    client = httpx2.Client()

    @bounded
    @given(methods, paths, st.dictionaries(_SIGNS, st.text(max_size=50), max_size=3), st.binary(max_size=200))
    def ask(method: str, path: str, query: dict[str, str], body: bytes) -> None:
        status, text = said(client, method, server.base + path, params=query, content=body)
        assert allowed(path, status), status
        assert leaks(text) is None

    with client, unharmed(server):
        ask()


def test_no_header_is_answered_500(server: RunningServer) -> None:
    names = st.sampled_from(HEADERS)
    values = st.text(
        st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=80
    )
    client = httpx2.Client()

    @bounded
    @given(st.sampled_from(["GET", "POST"]), _PATHS, names, values)
    def ask(method: str, path: str, name: str, value: str) -> None:
        headers = {name.encode(): value.encode("latin-1").strip()}
        status, text = said(client, method, server.base + path, headers=headers)
        assert allowed(path, status), status
        assert leaks(text) is None

    with client, unharmed(server):
        ask()


@pytest.mark.parametrize(
    ("header", "value"), [("host", "evil.example"), ("x-forwarded-host", "evil.example")]
)
def test_the_way_to_a_token_never_names_a_host_that_a_stranger_made_up(
    server: RunningServer, header: str, value: str
) -> None:
    for path in ("/.well-known/oauth-protected-resource/mcp", "/mcp"):
        response = httpx2.post(server.base + path, headers={header: value}, timeout=SECONDS)
        got = httpx2.get(server.base + path, headers={header: value}, timeout=SECONDS)
        assert "evil.example" not in response.text + got.text
        assert "evil.example" not in str(response.headers) + str(got.headers)
