"""Image references: ``[registry/]repository[:tag][@digest]``, parsed as Docker parses them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ci.errors import ConfigError

__all__ = ["DOCKER_HUB", "InvalidReferenceError", "Reference"]

DOCKER_HUB = "docker.io"

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
    r"(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
)


class InvalidReferenceError(ConfigError):
    """The text names no image."""

    def __init__(self, text: str, problem: str) -> None:
        super().__init__(
            "image reference",
            got=f"{text!r} ({problem})",
            expected="[registry/]repository[:tag][@sha256:...], in lower case",
        )


@dataclass(frozen=True)
class Reference:
    """A parsed reference; ``tag`` is ``latest`` where neither a tag nor a digest was written.

    Grammar: https://github.com/distribution/reference.
    """

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """The reference that ``text`` names.

        Raises:
            InvalidReferenceError: it names none.
        """
        name, at, digest = text.strip().partition("@")
        if at and not _DIGEST.fullmatch(digest):
            raise InvalidReferenceError(text, "the digest is not sha256: and 64 hex digits")
        host, path = _split_host(name)
        path, tag = _split_tag(path)
        if not _HOST.fullmatch(host):
            raise InvalidReferenceError(text, f"{host!r} is no host")
        if not _PATH.fullmatch(path):
            raise InvalidReferenceError(text, f"{path!r} is no repository")
        if tag is not None and not _TAG.fullmatch(tag):
            raise InvalidReferenceError(text, f"{tag!r} is no tag")
        if host in {"index.docker.io", "registry-1.docker.io"}:
            host = DOCKER_HUB
        if host == DOCKER_HUB and "/" not in path:
            path = f"library/{path}"
        return cls(host, path, tag or ("" if digest else "latest"), digest)

    @property
    def name(self) -> str:
        """Registry and repository, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def familiar(self) -> str:
        """As people write it: ``docker.io/library/python:3.11`` is ``python:3.11``."""
        name = self.name.removeprefix(f"{DOCKER_HUB}/").removeprefix("library/")
        return name + self._suffix()

    def with_digest(self, digest: str) -> Reference:
        """The same repository and tag, at that digest."""
        return replace(self, digest=digest)

    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return tag + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        """The whole name, with registry."""
        return self.name + self._suffix()


def _split_host(name: str) -> tuple[str, str]:
    """A first component is a host when it has a dot, a colon or upper case, or is localhost."""
    first, slash, rest = name.partition("/")
    if slash and (first == "localhost" or re.search(r"[.:A-Z\[]", first)):
        return first, rest
    return DOCKER_HUB, name


def _split_tag(path: str) -> tuple[str, str | None]:
    head, colon, tag = path.rpartition(":")
    return (head, tag) if colon and "/" not in tag else (path, None)
