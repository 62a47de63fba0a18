"""A breaker that shares its state through pybreaker's storages."""
