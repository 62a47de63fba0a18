"""What a session store raises. The tree is drawn in `session`."""

__all__ = [
    "ConversationConflict",
    "ConversationDeleted",
    "ConversationNotOwned",
    "LimitReached",
    "SessionDamaged",
    "SessionError",
    "SessionsUnavailable",
]


class SessionError(Exception):
    """Base of the session stores' own errors."""


class ConversationNotOwned(SessionError):
    """What is kept in this owner's place says that it is somebody else's. Nothing was read or written."""


class ConversationDeleted(SessionError):
    """The conversation was deleted by its owner. Nothing was written."""


class ConversationConflict(SessionError):
    """The conversation has another version than the one that was expected: it went on meanwhile.

    Nothing was written. `version` is the one that it has, None when unknown.
    """

    def __init__(self, version: int | None = None) -> None:
        super().__init__("the conversation went on meanwhile; read it and try again")
        self.version = version


class LimitReached(SessionError):
    """An owner may keep no more: `limit` says of what ("conversations", "messages", "bytes", or "memory": bytes of this
    process), `allowed` how much.

    Nothing was written.
    """

    def __init__(self, limit: str, allowed: int) -> None:
        super().__init__(_SENTENCES[limit].format(allowed))
        self.limit = limit
        self.allowed = allowed


class SessionDamaged(SessionError, ValueError):
    """What is kept under the conversation's name is no conversation."""


class SessionsUnavailable(SessionError):
    """The store cannot be asked, and nothing held here can stand in for it.

    `retry_after` is in seconds, None when unknown.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


_SENTENCES = {
    "conversations": "all {} conversations that you may have are there; delete one to begin another",
    "messages": "the conversation would have more than {} messages; begin another",
    "memory": "the conversation would take more than {} bytes of this server's memory; begin another",
    "bytes": "the conversation would have more than {} bytes of text; begin another",
}
