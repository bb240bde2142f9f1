"""Secrets of a session: values live in this table only, and reach no vertex, key or output.

A reference carries a name, never a value. Keys take a salted hash; the salt stays on the machine,
beside the store, so that an unchanged secret is a cache hit in the next run too.
"""

from __future__ import annotations

import os
import secrets as entropy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import structlog
from blake3 import blake3

from ci.engine.refusal import Refusal
from ci.engine.solver.scrub import SHORTEST, Scrubber
from ci.engine.vertices.vertex import SecretRef

__all__ = ["Secrets", "load_salt"]

_log = structlog.get_logger(__name__)

_SALT_BYTES = 32
_COMMAND_SECONDS = 60.0


def load_salt(path: Path) -> bytes:
    """The salt at ``path``, made if there is none; readable by its owner only."""
    while True:
        try:
            salt = path.read_bytes()
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(f".{path.name}.{os.getpid()}.{entropy.token_hex(4)}")
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as f:
                f.write(entropy.token_bytes(_SALT_BYTES))
            try:
                os.link(fresh, path)
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
            continue
        if len(salt) == _SALT_BYTES:
            return salt
        path.unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class _Secret:
    """How a secret is got, and what keys take of it where the user said so."""

    label: str
    uri: str = ""
    value: bytes | None = field(default=None, repr=False)
    cache_key: str = ""


class Secrets:
    """The session's table of secrets."""

    def __init__(self, salt: bytes, *, environ: Mapping[str, str] | None = None) -> None:
        self._salt = salt
        self._environ = os.environ if environ is None else environ
        self._table: dict[str, _Secret] = {}
        self._read: dict[str, bytes] = {}
        self._locks: dict[str, anyio.Lock] = {}

    def set(self, name: str, plaintext: str) -> SecretRef:
        """A secret of that name and value; another value makes another reference."""
        value = plaintext.encode("utf-8", "surrogateescape")
        reference = SecretRef(name=f"{name}@{self._hash(value)[:32]}")
        self._table[reference.name] = _Secret(label=name, value=value)
        _warn_of_short(name, value)
        return reference

    def from_uri(self, uri: str, cache_key: str = "") -> SecretRef:
        """A secret by ``env://``, ``file://`` or ``cmd://``, read when it is first needed.

        Raises:
            Refusal: it is of a kind that the engine does not read.
        """
        scheme, separator, _ = uri.partition("://")
        if not separator or scheme not in _READERS:
            raise Refusal(
                "secret",
                got=repr(f"{scheme}://..." if separator else scheme),
                expected="env://NAME, file://PATH or cmd://COMMAND",
                hint="op:// and vault:// need the Dagger engine; or pass the value by env://",
            )
        reference = SecretRef(name=f"{uri}#{cache_key}" if cache_key else uri)
        self._table.setdefault(reference.name, _Secret(label=uri, uri=uri, cache_key=cache_key))
        return reference

    def label(self, secret: SecretRef) -> str:
        """The name that the user gave it, or its URI."""
        return self._find(secret).label

    def uri(self, secret: SecretRef) -> str:
        """Its URI; empty for one that was set."""
        return self._find(secret).uri

    async def value(self, secret: SecretRef) -> bytes:
        """Its value, read once a session.

        Raises:
            Refusal: it cannot be had.
        """
        found = self._find(secret)
        if found.value is not None:
            return found.value
        async with self._locks.setdefault(secret.name, anyio.Lock()):
            if secret.name not in self._read:
                scheme, _, rest = found.uri.partition("://")
                value = await _READERS[scheme](rest, self._environ)
                _warn_of_short(f"{scheme}://...", value)
                self._read[secret.name] = value
            return self._read[secret.name]

    async def fingerprint(self, secret: SecretRef) -> str:
        """What a cache key takes of it: a salted hash of its value, or of its ``cacheKey``."""
        found = self._find(secret)
        if found.cache_key:
            return self._hash(b"cache-key:" + found.cache_key.encode())
        return self._hash(await self.value(secret))

    def known(self) -> list[bytes]:
        """All plain values that this session has, to take them out of a text."""
        given = [secret.value for secret in self._table.values() if secret.value]
        return [*given, *self._read.values()]

    def scrubber(self, values: Iterable[bytes]) -> Scrubber:
        """A scrubber for one stream that may show these values."""
        return Scrubber(values)

    def _find(self, secret: SecretRef) -> _Secret:
        try:
            return self._table[secret.name]
        except KeyError:
            raise Refusal("secret", got="one that this session does not know") from None

    def _hash(self, value: bytes) -> str:
        return blake3(value, key=self._salt).hexdigest()


def _warn_of_short(name: str, value: bytes) -> None:
    """Say that a value is not masked in output: every word that has it would be."""
    if 0 < len(value.strip()) < SHORTEST:
        _log.warning("secret.too_short_to_mask", secret=name, expected=f"{SHORTEST} bytes or more")


async def _from_environment(name: str, environ: Mapping[str, str]) -> bytes:
    """``env://NAME``."""
    if name not in environ:
        raise Refusal(f"secret env://{name}", got="no such variable in the environment")
    return os.fsencode(environ[name])


async def _from_file(path: str, environ: Mapping[str, str]) -> bytes:
    """``file://PATH``; ``~`` is the user's home."""
    home = environ.get("HOME", "")
    place = home + path[1:] if home and path.startswith("~/") else path
    try:
        return await anyio.Path(place).read_bytes()
    except OSError as error:
        raise Refusal(f"secret file://{path}", got=error.strerror or str(error)) from None


async def _from_command(command: str, environ: Mapping[str, str]) -> bytes:
    """``cmd://COMMAND``: what it prints, without the line's end."""
    try:
        with anyio.fail_after(_COMMAND_SECONDS):
            done = await anyio.run_process(
                ["/bin/sh", "-c", command], check=False, env=dict(environ)
            )
    except TimeoutError:
        raise Refusal("secret cmd://...", got=f"no end after {_COMMAND_SECONDS:g} s") from None
    if done.returncode != 0:
        raise Refusal("secret cmd://...", got=f"exit code {done.returncode}")
    return done.stdout.removesuffix(b"\n").removesuffix(b"\r")


_READERS = {"env": _from_environment, "file": _from_file, "cmd": _from_command}
