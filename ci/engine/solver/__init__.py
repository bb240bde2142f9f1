"""The solver: makes what vertices describe, each once, from the store where it can."""
