"""``make demo``: takes gym-api from source to production on this machine, without Docker.

Where the official vulnerability database cannot be reached, the small one of
``examples/trivy-db`` is made and used, and that is said here and in the report.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = HERE.parent
CI = Path(sys.executable).with_name("ci")


def main() -> int:
    """Run the pipeline, then say where each environment answers; the pipeline's exit code."""
    source = HERE / "gym-api"
    command = [str(CI), "pipeline", f"--source={source}"]
    if not official_database_answers():
        folder = TOP / ".towpath" / "trivy-db"
        print(
            "demo: the official vulnerability database cannot be reached;"
            " using a small one of real advisories, which knows little",
            file=sys.stderr,
        )
        subprocess.run([sys.executable, str(HERE / "trivy-db" / "make.py"), str(folder)], check=True)
        command.append(f"--database={folder}")
    code = subprocess.run(command, check=False, cwd=TOP).returncode
    if code == 0:
        code = subprocess.run([str(CI), "environments"], check=False, cwd=TOP).returncode
    return code


def official_database_answers() -> bool:
    """The registry of Trivy's database accepts a connection within a few seconds."""
    try:
        socket.create_connection(("ghcr.io", 443), timeout=3).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
