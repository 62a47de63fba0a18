"""What `llm.local` is made of."""
