"""What stands for an owner where names are joined."""

import hashlib

__all__ = ["owner_tag"]


def owner_tag(owner: str) -> str:
    """32 hexadecimal digits, the same for the same owner only."""
    return hashlib.sha256(owner.encode("utf-8", "backslashreplace")).hexdigest()[:32]
