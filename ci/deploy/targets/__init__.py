"""Targets: where environments live."""
