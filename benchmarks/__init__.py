"""What Towpath costs, each figure beside its peer from the same run: ``python -m benchmarks``."""
