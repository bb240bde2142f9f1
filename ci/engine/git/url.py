"""URLs of git repositories, as Dagger takes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from ci.engine.refusal import Refusal

__all__ = ["GitURL"]

_SCP = re.compile(r"(?:([A-Za-z0-9._-]+)@)([A-Za-z0-9.-]+):(?!//)(.+)")
_BARE = re.compile(r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+(?::\d+)?/.+")
_PORTS = {"https": 443, "http": 80, "ssh": 22, "git": 9418}


@dataclass(frozen=True, kw_only=True)
class GitURL:
    """Where a repository is, and what of it is meant.

    ``text`` is a URL, or ``user@host:path``; it holds no password and no fragment.
    """

    text: str
    scheme: str
    host: str
    port: int
    #: From the fragment ``#ref:folder``; empty where there is none.
    ref: str = ""
    folder: str = ""

    @classmethod
    def parse(cls, given: str) -> GitURL:
        """Of what a user wrote.

        Raises:
            Refusal: it is no URL of a remote repository, or holds a password.
        """
        address, _, fragment = given.partition("#")
        ref, _, place = fragment.partition(":")
        folder = place.strip("/")
        if scp := _SCP.fullmatch(address):
            return cls(text=address, scheme="ssh", host=scp[2], port=22, ref=ref, folder=folder)
        if "://" not in address and _BARE.fullmatch(address):
            address = f"https://{address}"
        parts = urlsplit(address)
        try:
            port = parts.port
        except ValueError:
            port = None
        if parts.scheme not in _PORTS or not parts.hostname or _is_unsafe(address):
            raise Refusal(
                "git URL",
                got=repr(f"{parts.scheme}://..." if parts.scheme else address[:80]),
                expected="https://HOST/PATH, http://, ssh://, git:// or USER@HOST:PATH",
                hint="for a repository of this machine: host().directory(PATH).as_git()",
            )
        if parts.password is not None:
            raise Refusal(
                "git URL", got="one with a password",
                expected="the password as httpAuthToken, and its user as httpAuthUsername",
            )  # fmt: skip
        if parts.scheme == "ssh" and parts.username is None:
            address = address.replace("ssh://", "ssh://git@", 1)
        return cls(
            text=address,
            scheme=parts.scheme,
            host=parts.hostname,
            port=port or _PORTS[parts.scheme],
            ref=ref,
            folder=folder,
        )

    @property
    def origin(self) -> str:
        """Scheme, host and port, as they stand in the URL."""
        return "/".join(self.text.split("/")[:3])


def _is_unsafe(address: str) -> bool:
    """Something that git or ssh could take for an option, or that no URL holds."""
    return bool(re.search(r"[\s\0]", address)) or "://-" in address or "@-" in address
