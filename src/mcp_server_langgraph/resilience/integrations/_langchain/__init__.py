"""What `integrations.langchain` is made of."""
