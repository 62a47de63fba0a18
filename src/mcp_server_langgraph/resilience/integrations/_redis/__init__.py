"""Clients of redis-py behind a pipeline."""
