"""``python -m tests.ordinary_user MODULE ARGUMENT...``: run a Python module as root would not.

In a user namespace in which this user has another uid and no rights but its own files: to the
engine, that is an ordinary user of the machine, and no file need be handed over. The store is
apart, since an engine that runs as root writes another kind of layers. Where the user is an
ordinary one, nothing is run: the tests have just run so.
"""

from __future__ import annotations

import os
import sys

from ci.engine.sandbox.box import Sandbox
from ci.settings import Settings

__all__ = ["main"]

_UID = "1000"


def main() -> None:
    """Become that user, and the module."""
    if os.geteuid() != 0:
        print("not root: nothing to run once more", file=sys.stderr)  # noqa: T201 - a program
        return
    bwrap = Sandbox().program()
    os.environ["TOWPATH_CACHE"] = f"{Settings.from_environment().cache}-ordinary-user"
    command = [bwrap, "--unshare-user", "--uid", _UID, "--gid", _UID, "--cap-drop", "ALL"]
    command += ["--dev-bind", "/", "/", "--die-with-parent", "--", sys.executable, "-m"]
    os.execv(bwrap, [*command, *sys.argv[1:]])


if __name__ == "__main__":
    main()
