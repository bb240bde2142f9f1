"""Stages: one file each; Dagger objects in, evidence and Dagger objects out."""
