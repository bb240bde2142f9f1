"""What a user sees of a run: a live tree, plain lines, or events as JSON.

Data goes to stdout, everything else to stderr.
"""

from ci.terminal.display import Display

__all__ = ["Display"]
