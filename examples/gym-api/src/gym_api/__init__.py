"""Conversations between trainers and members, for many gyms at once."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("gym-api")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0.0.0+source"
