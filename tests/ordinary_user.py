"""``python -m tests.ordinary_user PYTEST-ARGUMENT...``: run tests as root would not.

In a user namespace in which this user has another uid and no rights but its own files: to the
engine, that is an ordinary user of the machine, and files need not be handed over. Its store is
apart, since an engine that runs as root writes another kind of layers.
"""

from __future__ import annotations

import os
import sys

from ci.engine.sandbox.box import Sandbox
from ci.engine.store import default_root

_UID = "1000"


def main() -> None:
    """Become that user, and pytest."""
    sandbox = Sandbox()
    bwrap = sandbox.program()
    os.environ["TOWPATH_CACHE"] = f"{default_root()}-ordinary-user"
    command = [bwrap, "--unshare-user", "--uid", _UID, "--gid", _UID, "--cap-drop", "ALL"]
    command += ["--dev-bind", "/", "/", "--die-with-parent", "--", sys.executable, "-m", "pytest"]
    os.execv(bwrap, [*command, *sys.argv[1:]])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
