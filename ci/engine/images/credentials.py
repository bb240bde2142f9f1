"""Registry credentials: those given, else those of the Docker configuration and its helpers.

https://docs.docker.com/reference/cli/docker/login/#credential-stores
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from ci.engine.images.reference import DOCKER_HUB
from ci.errors import CiError

__all__ = ["CredentialError", "Credentials", "Login"]

#: The name under which Docker keeps what belongs to Docker Hub.
_HUB_KEY = "https://index.docker.io/v1/"
#: The user that a helper gives where the secret is a token to be exchanged.
_TOKEN_USER = "<token>"  # noqa: S105 - a name
_HELPER_SECONDS = 30


class CredentialError(CiError):
    """The Docker configuration, or a credential helper that it names, cannot be used."""


@dataclass(frozen=True)
class Login:
    """A user with a password, or an identity token, which is exchanged for others."""

    username: str = ""
    password: str = ""
    identity_token: str = ""

    def __repr__(self) -> str:
        return f"Login({self.username!r})"

    def basic(self) -> str:
        """The value of an ``Authorization`` header."""
        pair = f"{self.username}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode()


class Credentials:
    """Looks up logins by registry host.

    Args:
        given: Registry host to user and password; these win.
        environ: Names the configuration: ``DOCKER_CONFIG``, ``REGISTRY_AUTH_FILE``, ``HOME``.
    """

    def __init__(
        self,
        given: Mapping[str, tuple[str, str]] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._given = {_host(address): login for address, login in (given or {}).items()}
        self._environ = dict(os.environ if environ is None else environ)
        #: Helpers are asked once for each registry.
        self._found: dict[str, Login | None] = {}
        self._looking = anyio.Lock()

    def with_given(self, given: Mapping[str, tuple[str, str]]) -> Credentials:
        """These, and others that win over them."""
        return Credentials({**self._given, **given}, environ=self._environ)

    async def login(self, host: str) -> Login | None:
        """The login for a registry, or None.

        Raises:
            CredentialError: the configuration or a helper is broken.
        """
        host = _host(host)
        if pair := self._given.get(host):
            return Login(*pair)
        async with self._looking:
            if host not in self._found:
                self._found[host] = await self._look_up(host)
            return self._found[host]

    async def _look_up(self, host: str) -> Login | None:
        keys = [_HUB_KEY, DOCKER_HUB] if host == DOCKER_HUB else [host]
        for config in self._configurations():
            for key in keys:
                login = await self._configured(config, key)
                if login is not None:
                    return login
        return None

    def _configurations(self) -> list[Mapping[str, Any]]:
        home = self._environ.get("HOME", "")
        folder = self._environ.get("DOCKER_CONFIG") or (f"{home}/.docker" if home else "")
        runtime = self._environ.get("XDG_RUNTIME_DIR", "")
        paths = [
            self._environ.get("REGISTRY_AUTH_FILE", ""),
            f"{folder}/config.json" if folder else "",
            f"{runtime}/containers/auth.json" if runtime else "",
        ]
        return [config for path in paths if path and (config := _read(Path(path)))]

    async def _configured(self, config: Mapping[str, Any], key: str) -> Login | None:
        helper = _table(config, "credHelpers").get(key)
        if helper:
            return await self._ask(str(helper), key)
        entry = _entry(_table(config, "auths"), key)
        if entry and (login := _login(entry, key)):
            return login
        if store := config.get("credsStore"):
            return await self._ask(str(store), key)
        return None

    async def _ask(self, helper: str, key: str) -> Login | None:
        """Ask a credential helper, which says so when it has nothing."""
        program = f"docker-credential-{helper}"

        def call() -> subprocess.CompletedProcess[bytes]:
            return subprocess.run(
                [program, "get"], input=key.encode(), capture_output=True, check=False,
                env=self._environ, timeout=_HELPER_SECONDS,
            )  # fmt: skip

        try:
            done = await anyio.to_thread.run_sync(call)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CredentialError(
                f"credential helper {program}",
                got=str(error),
                hint=f"the Docker configuration names it for {key}",
            ) from error
        said = done.stdout.decode(errors="replace").strip()
        if done.returncode:
            if "credentials not found" in said:
                return None
            raise CredentialError(f"credential helper {program}", got=said or "a failure")
        try:
            value = json.loads(said)
            username, secret = value["Username"], value["Secret"]
        except (ValueError, KeyError, TypeError):
            raise CredentialError(
                f"credential helper {program}", got="no JSON with Username and Secret"
            ) from None
        if username == _TOKEN_USER:
            return Login(identity_token=secret)
        return Login(username, secret)


def _host(address: str) -> str:
    """The host that a registry's address means: scheme, path and Docker Hub's names go."""
    host = address.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return DOCKER_HUB if host in {"index.docker.io", "registry-1.docker.io"} else host


def _read(path: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CredentialError(str(path), got=str(error), expected="a JSON object") from error
    if not isinstance(value, dict):
        raise CredentialError(str(path), got=type(value).__name__, expected="a JSON object")
    return value


def _table(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key) or {}
    if not isinstance(found, dict):
        raise CredentialError(
            f"Docker configuration, {key}", got=type(found).__name__, expected="a JSON object"
        )
    return found


def _entry(auths: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A registry's entry, which may stand under its host or under a URL; empty where none does."""
    if key in auths:
        return _table(auths, key)
    for address in auths:
        if _host(address) == _host(key):
            return _table(auths, address)
    return {}


def _login(entry: Mapping[str, Any], key: str) -> Login | None:
    if token := entry.get("identitytoken"):
        return Login(identity_token=str(token))
    if entry.get("username") and entry.get("password"):
        return Login(str(entry["username"]), str(entry["password"]))
    if not entry.get("auth"):
        return None
    try:
        pair = base64.b64decode(str(entry["auth"]), validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise CredentialError(
            f"Docker configuration, auth of {key}",
            got=str(error),
            expected="base64 of user:password",
        ) from error
    username, _, password = pair.partition(":")
    return Login(username, password)
