"""Strategies: how traffic moves to a release."""
