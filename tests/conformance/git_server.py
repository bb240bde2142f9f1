"""Git repositories for tests, and an HTTP server that gives them out by git's own backend."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

from .loopback_http import answering

__all__ = ["GitServer", "Repository", "serving"]

#: Nothing of this machine's or user's configuration.
PLAIN: Mapping[str, str] = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.com",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.com",
    "GIT_ALLOW_PROTOCOL": "file",
}


class Repository:
    """A repository with a working tree, on the branch ``main``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str) -> str:
        """What git prints."""
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.folder,
            env=dict(PLAIN),
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def write(self, **files: str) -> None:
        """Write files; ``__`` in a name is a slash, and ``_`` a dot."""
        for name, content in files.items():
            path = self.folder / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    def commit(self, message: str = "change", **files: str) -> str:
        """Commit all there is, with these files; the commit's ID."""
        self.write(**files)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", f"--message={message}")
        return self.git("rev-parse", "HEAD")


class GitServer:
    """Serves the repositories in ``folder`` at ``url``/NAME/.git, or as static files (dumb)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: The only ``Authorization`` that is let in; empty lets all in.
        self.authorization = ""
        #: (path with query, its ``Authorization``) of every request.
        self.requests: list[tuple[str, str]] = []
        self.port = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def require(self, user: str, password: str) -> None:
        """Let in nobody but this user."""
        pair = base64.b64encode(f"{user}:{password}".encode()).decode()
        self.authorization = f"Basic {pair}"

    def asked_for_refs(self) -> int:
        """How often someone asked for refs, and was let in."""
        return sum(
            "info/refs" in path
            for path, given in self.requests
            if not self.authorization or given == self.authorization
        )


@contextmanager
def serving(folder: Path) -> Iterator[GitServer]:
    """A server while the context lasts."""
    git = GitServer(folder)
    handler = type("Handler", (_Handler,), {"git": git})
    with answering(handler) as git.port:
        yield git


class _Handler(BaseHTTPRequestHandler):
    """Runs ``git http-backend`` for each request."""

    protocol_version = "HTTP/1.1"
    git: GitServer

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self._body())

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, body: bytes) -> None:
        given = self.headers.get("Authorization", "")
        self.git.requests.append((self.path, given))
        if self.git.authorization and given != self.git.authorization:
            self._reply(401, {"WWW-Authenticate": 'Basic realm="git"'}, b"")
            return
        head, _, content = self._backend(body).partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        status = int(headers.pop("Status", "200").split()[0])
        self._reply(status, headers, content)

    def _backend(self, body: bytes) -> bytes:
        parts = urlsplit(self.path)
        environment = {
            **PLAIN,
            "GIT_PROJECT_ROOT": str(self.git.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REQUEST_METHOD": self.command,
            "PATH_INFO": parts.path,
            "QUERY_STRING": parts.query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "REMOTE_ADDR": "127.0.0.1",
        }
        return subprocess.run(
            ["git", "-c", "safe.directory=*", "http-backend"],
            input=body,
            env=environment,
            capture_output=True,
            check=False,
        ).stdout

    def _reply(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name != "Content-Length":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing."""
