"""The graph of a pipeline as text, Mermaid and SVG. Pure.

Each takes the plan of a pipeline (``Pipeline.plan``, or the nodes of ``RunStarted``) and, after a
run, how its nodes ended. Edges that others imply are left out.
"""

from ci.drawing.mermaid import as_mermaid
from ci.drawing.svg import as_svg
from ci.drawing.text import as_text

__all__ = ["as_mermaid", "as_svg", "as_text"]
