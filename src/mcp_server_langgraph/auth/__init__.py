"""Who calls, what they may do, and what was said: identity, authorization and sessions."""
