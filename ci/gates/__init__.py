"""Gates: pure functions from evidence and a policy to a verdict."""
