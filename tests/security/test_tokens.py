"""Tokens that a stranger makes up or bends: none opens the door of /mcp, and none costs Keycloak more than one look."""

from __future__ import annotations

import json
import time

import pytest

from tests.security.attacks import (
    STRANGER,
    Attack,
    algorithm_twice,
    bent,
    der,
    hmac_with,
    jwk_text,
    modulus,
    not_mine,
    other_padding,
    pem,
    psychic,
    raw,
    realms_kid,
    signed,
    signed_with_header,
    strangers,
    unsigned,
    urls,
    written,
)
from tests.security.door import encoded, open_door, token_of_parts
from tests.support.keycloak_server import KeycloakServer

pytestmark = pytest.mark.real_time

NOW = int(time.time())
DAY = 86_400  # longer than any run of the tests, which begins now
_jku = {"jku": urls, "x5u": urls, "kid": STRANGER.kid}

ATTACKS: dict[str, Attack] = {
    # algorithm
    "HS256 with the public key as the secret (PEM)": hmac_with(pem),
    "HS256 with the public key as the secret (DER)": hmac_with(der),
    "HS256 with the modulus as the secret": hmac_with(modulus),
    "HS384 with the modulus as the secret": hmac_with(modulus, "HS384"),
    "HS512 with the published JWK as the secret": hmac_with(jwk_text, "HS512"),
    **{
        f"algorithm {name!r}": unsigned(alg=name)
        for name in (
            "none",
            "None",
            "NONE",
            "nOnE",
            " none",
            "none ",
            "",
            "n\u043ene",
            "RS1",
            "ES256K",
            "dir",
        )
    },
    **{
        f"algorithm {name!r} of another type": unsigned(alg=name)
        for name in (None, ["none"], {"RS256": 1}, 0, True)
    },
    "no algorithm": unsigned(),
    "RS256 without a signature": unsigned(alg="RS256"),
    "RS256 with a signature of zeros": unsigned(bytes(256), alg="RS256"),
    "RS256 with a signature of one byte": unsigned(b"\x01", alg="RS256"),
    "EdDSA with an RSA key": unsigned(bytes(64), alg="EdDSA"),
    "ES256 with a signature of zeros": psychic,
    "PS256 with a key for RS256": other_padding,
    # time
    "expired": signed(exp=NOW - 60),
    "never expires": signed(exp=None),
    "expires in words": signed(exp="tomorrow"),
    "expires true": signed(exp=True),
    "expires before the epoch": signed(exp=-1),
    "expires at a number that is no float": signed(exp=10**400),
    "expires at infinity": written("exp", b"Infinity"),
    "expires at 1e999": written("exp", b"1e999"),
    "not valid yet": signed(nbf=NOW + DAY),
    "issued in the future": signed(iat=NOW + DAY),
    "begins at a number that is no float": signed(nbf=-(10**400)),
    # issuer, audience, subject
    **{
        f"issuer {name!r}": signed(iss=name)
        for name in ("https://evil.example/realms/demo", "", ["x"], 0, {"iss": 1}, "demo")
    },
    "no issuer": signed(iss=None),
    "issuer with a slash": lambda keycloak: keycloak.token(iss=f"{keycloak.issuer}/"),
    "issuer in a list": lambda keycloak: signed(iss=[keycloak.issuer])(keycloak),
    "another realm of the same Keycloak": lambda keycloak: keycloak.token(iss=f"{keycloak.url}/realms/other"),
    **{
        f"audience {name!r}": signed(aud=name)
        for name in (
            *("another", "MCP-SERVER", "mcp-server ", "mcp", ["another"], ["account"], [["mcp-server"]]),
            *({"mcp-server": 1}, 7, True, ["mcp-server", 7], ""),
        )
    },
    "no audience": signed(aud=None),
    "ours, but for another service": signed(aud=["another"], azp="mcp-server"),
    **{f"subject {name!r}": signed(sub=name) for name in ("", 7, ["alice"], {"sub": "alice"}, False)},
    "no subject": signed(sub=None),
    # another kind of token, or one that is not for bearers
    **{
        f"a token of kind {kind!r}": signed(typ=kind)
        for kind in ("ID", "Refresh", "Offline", "Logout", "DPoP", "", 1)
    },
    "a token of no kind": signed(typ=None),
    **{
        f"a header that says {kind!r}": signed_with_header(typ=kind)
        for kind in ("logout+jwt", "dpop+jwt", "JWE", "secevent+jwt", 1)
    },
    "bound to a certificate": signed(cnf={"x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"}),
    "bound to a DPoP key": signed(cnf={"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}),
    "bound to nothing that can be read": signed(cnf=[]),
    # key id
    **{
        f"key id {kid!r:.40}": signed_with_header(kid=kid)
        for kid in (
            *(
                "../../../../../../dev/null",
                "' UNION SELECT 'key' -- ",
                "http://evil.example/key",
                "| cat /etc/passwd",
            ),
            *("", "made-up", "\x00", "k" * 257, "k" * 9_000, "ключ", "${jndi:ldap://evil.example/x}"),
        )
    },
    **{
        f"key id {kid!r} of another type": unsigned(alg="RS256", kid=kid)
        for kid in (None, 0, 1.5, ["a"], {"a": 1}, True)
    },
    # keys that the token brings along
    "its own key in jwk": strangers(jwk=STRANGER.jwk()),
    "its own key in jwk, under the realm's key id": strangers(jwk=STRANGER.jwk(), kid=realms_kid),
    "its own keys at jku and x5u": strangers(**_jku),
    "its own certificate in x5c": strangers(x5c=["MIIB"], x5t="AAAA"),
    # critical extensions
    "a critical extension that is not known": signed_with_header(crit=["exp"]),
    "an empty list of critical extensions": signed_with_header(crit=[]),
    "a payload that is not encoded": unsigned(bytes(256), alg="RS256", b64=False, crit=["b64"]),
    # form
    "an encrypted token": lambda _: ".".join(
        [encoded({"alg": "dir", "enc": "A256GCM"}), "", "AAAA", "AAAA", "AAAA"]
    ),
    "two parts": bent(lambda token: token.rpartition(".")[0]),
    "four parts": bent(lambda token: f"{token}.AAAA"),
    "a point at the end": bent(lambda token: f"{token}."),
    "padding": bent(lambda token: f"{token}=="),
    "a blank inside": bent(lambda token: token.replace(".", " .", 1)),
    "a comma and another token": bent(lambda token: f"{token},{token}"),
    "a quoted token": bent(lambda token: f'"{token}"'),
    "another spelling of the same signature": bent(not_mine),
    "another alphabet": bent(lambda token: token.replace("-", "+").replace("_", "/") + "+"),
    "letters beyond ASCII": bent(lambda token: token.replace(".", "\uff0e")),
    "a zero byte": lambda keycloak: token_of_parts(b"\x00", b"\x00", b"\x00"),
    "claims twice": written("sub", b'"alice", "sub": "root"'),
    "the algorithm twice": algorithm_twice,
    "claims nested deep": raw(body=b"[" * 8_000),
    "a header nested deep": raw(head=b'{"a":' * 1_500),
    "claims that are not UTF-8": written("sub", b'"\xff"'),
    "claims in UTF-16": lambda keycloak: raw(body=json.dumps(keycloak.claims()).encode("utf-16"))(keycloak),
    "claims behind a byte order mark": lambda keycloak: raw(
        body=b"\xef\xbb\xbf" + json.dumps(keycloak.claims()).encode()
    )(keycloak),
    "claims that are a list": raw(body=b"[]"),
    "claims that are a text": raw(body=b'"alice"'),
    "a header that is a list": raw(head=b"[]"),
    "a number of 5,000 digits": written("exp", b"9" * 5_000),
    "a token of 20,000 characters": signed(padding="p" * 15_000),
    "nothing but points": lambda _: "..",
    "brackets": lambda _: "[" * 15_000,
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
async def test_a_stranger_does_not_get_in_with(keycloak: KeycloakServer, attack: Attack) -> None:
    token = attack(keycloak)
    async with open_door(keycloak) as door:
        await door.refuses(token)
        # And it harms nobody else.
        await door.admits(keycloak.token())
    assert keycloak.count("/certs") <= 2
    assert keycloak.count("/stranger/keys") == 0
