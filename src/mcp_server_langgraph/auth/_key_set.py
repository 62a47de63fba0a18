"""A JWK set (RFC 7517), of which only public keys that may sign are taken."""

from collections.abc import Mapping
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from mcp_server_langgraph.auth._http import UnusableReply

__all__ = ["Keys", "signing_keys"]

Keys = Mapping[str, jwt.PyJWK]

_MOST_KEYS: Final = 200
_SMALLEST_RSA: Final = 2048  # bits; RFC 7518, section 3.3
_KINDS: Final = frozenset({"RSA", "EC", "OKP"})


def signing_keys(document: Mapping[str, Any], algorithms: frozenset[str]) -> Keys:
    """The keys for these algorithms, by id. Raises UnusableReply if there are none, or if the set cannot be meant.

    Keys for encryption, symmetric, weak and published private keys, and kinds that are not known are left out. Two
    keys with one id are nobody's set: which one was meant, whoever added the second would decide.
    """
    entries = document.get("keys")
    if not isinstance(entries, list) or len(entries) > _MOST_KEYS:
        raise UnusableReply(f"no JWK set of at most {_MOST_KEYS} keys")
    keys: dict[str, jwt.PyJWK] = {}
    for key in map(_signing_key, entries):
        if key is None or key.algorithm_name not in algorithms or not isinstance(key.key_id, str):
            continue
        if key.key_id in keys:
            raise UnusableReply("two signing keys in the JWK set have one id")
        keys[key.key_id] = key
    if not keys:
        raise UnusableReply("no usable signing key in the JWK set")
    return keys


def _signing_key(entry: Any) -> jwt.PyJWK | None:
    """The key, if signatures may be checked with it."""
    if not isinstance(entry, dict) or entry.get("kty") not in _KINDS or entry.get("use", "sig") != "sig":
        return None
    if "d" in entry or "verify" not in entry.get("key_ops", ["verify"]):
        return None
    try:
        key = jwt.PyJWK(entry)
    except (jwt.PyJWTError, TypeError, ValueError):
        return None
    return None if isinstance(key.key, RSAPublicKey) and key.key.key_size < _SMALLEST_RSA else key
