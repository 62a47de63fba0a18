"""State that processes share: what is told, and what is made of it."""
