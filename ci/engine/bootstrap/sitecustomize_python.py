"""Installed in the image as ``sitecustomize``: site-packages in place of Debian's dist-packages.

Debian's change of ``site`` is frozen into the interpreter, so it is undone when Python starts. A
``sitecustomize`` of the user's is run afterwards.
"""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Iterable
from importlib.machinery import PathFinder


def getsitepackages(prefixes: Iterable[str] | None = None) -> list[str]:
    """Return a list containing all global site-packages directories."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    wanted = site.PREFIXES if prefixes is None else prefixes
    folders = [os.path.join(prefix, "lib", version, "site-packages") for prefix in wanted]
    return list(dict.fromkeys(folders))


site.getsitepackages = getsitepackages
for _folder in getsitepackages():
    if _folder not in sys.path and os.path.isdir(_folder):
        site.addsitedir(_folder)

_here = os.path.dirname(os.path.abspath(__file__))
_next = PathFinder.find_spec(__name__, [path for path in sys.path if path != _here])
if _next is not None and _next.loader is not None:
    _next.loader.exec_module(sys.modules[__name__])
