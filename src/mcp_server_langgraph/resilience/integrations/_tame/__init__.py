"""Factories of clients without hidden retries."""
