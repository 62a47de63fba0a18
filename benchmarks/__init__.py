"""What the layer costs, measured: ``python -m benchmarks.cost`` and ``python -m benchmarks.import_cost``."""
