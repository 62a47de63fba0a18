"""The form of a token, read strictly. (What a stranger gets with it at the door is in `tests/security`.)"""

import base64
import json
from typing import Any

import pytest

from mcp_server_langgraph.auth._token import read_token
from mcp_server_langgraph.auth.identity import InvalidToken

ALLOWED = frozenset({"RS256", "ES256"})
HEADER = {"alg": "RS256", "typ": "JWT", "kid": "key-1"}
CLAIMS = {"typ": "Bearer", "sub": "alice"}


def written(header: object = HEADER, claims: object = CLAIMS, tail: str = "AAAA") -> str:
    """A token of these parts; bytes stand as they are."""
    raw = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, claims)]
    return ".".join([*(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in raw), tail])


def test_what_a_token_says_is_told_apart() -> None:
    token = written()
    found = read_token(token, ALLOWED)
    assert (found.kid, found.claims) == ("key-1", CLAIMS)
    assert token == f"{found.signed}.AAAA"


def test_an_access_token_of_rfc_9068_needs_no_kind_among_its_claims() -> None:
    for said in ("at+jwt", "AT+JWT", "application/at+jwt"):
        assert read_token(written({**HEADER, "typ": said}, {"sub": "alice"}), ALLOWED).claims == {
            "sub": "alice"
        }


def test_a_key_id_has_a_bounded_length() -> None:
    assert read_token(written({**HEADER, "kid": "k" * 256}), ALLOWED).kid == "k" * 256
    with pytest.raises(InvalidToken, match="which key"):
        read_token(written({**HEADER, "kid": "k" * 257}), ALLOWED)


def test_a_token_has_a_bounded_length() -> None:
    room = 16_384 - len(written(tail=""))
    assert read_token(written(tail="A" * room), ALLOWED)
    with pytest.raises(InvalidToken, match="too long"):
        read_token(written(tail="A" * (room + 1)), ALLOWED)


@pytest.mark.parametrize(
    ("header", "claims", "why"),
    [
        ({**HEADER, "alg": "PS256"}, CLAIMS, "algorithm"),
        ({**HEADER, "alg": ["RS256"]}, CLAIMS, "algorithm"),
        ({**HEADER, "crit": ["b64"], "b64": True}, CLAIMS, "extensions"),
        ({**HEADER, "crit": []}, CLAIMS, "extensions"),
        ({**HEADER, "kid": 7}, CLAIMS, "which key"),
        ({**HEADER, "typ": "dpop+jwt"}, CLAIMS, "not an access token"),
        (HEADER, {"sub": "alice"}, "not an access token"),
        ({**HEADER, "typ": "at+jwt"}, {**CLAIMS, "typ": "ID"}, "not an access token"),
        (HEADER, b'{"typ": "Bearer", "odd": NaN}', "claims cannot be read"),
        (HEADER, b'{"typ": "Bearer", "odd": {"a": 1, "a": 2}}', "claims cannot be read"),
        (HEADER, b'{"typ": "Bearer", "odd": "\xff"}', "claims cannot be read"),
        (HEADER, b"[1]", "claims cannot be read"),
        (b'{"alg": "none", "alg": "RS256", "kid": "key-1"}', CLAIMS, "header cannot be read"),
    ],
)
def test_what_could_be_read_in_two_ways_is_no_token(header: Any, claims: Any, why: str) -> None:
    with pytest.raises(InvalidToken, match=why):
        read_token(written(header, claims), ALLOWED)
