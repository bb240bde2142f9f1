"""Which certificates of registries are trusted: by this machine, and for one registry alone.

https://docs.docker.com/engine/security/certificates/
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

import httpx

from ci.errors import ConfigError

__all__ = ["CERTIFICATES", "own_certificates", "trust"]

#: Folders with a folder for each registry that has certificates of its own, as Docker and Podman
#: read them: ``HOST[:PORT]/*.crt`` are its CAs, ``*.cert`` with ``*.key`` who we are.
CERTIFICATES = (
    Path("~/.config/containers/certs.d").expanduser(),
    Path("/etc/containers/certs.d"),
    Path("~/.config/docker/certs.d").expanduser(),
    Path("/etc/docker/certs.d"),
)


def own_certificates(host: str, folders: Sequence[Path] = CERTIFICATES) -> list[Path]:
    """The files that are there for this registry alone."""
    found: list[Path] = []
    for folder in folders:
        own = folder / host
        if own.is_dir():
            found += sorted(path for path in own.iterdir() if path.suffix in {".crt", ".cert"})
    return found


def trust(files: Sequence[Path] = ()) -> ssl.SSLContext:
    """This machine's CAs (where it has none, those that httpx brings), and these files.

    Raises:
        ConfigError: a file is no certificate, or its key is missing.
    """
    paths = ssl.get_default_verify_paths()
    if paths.cafile or (paths.capath and any(Path(paths.capath).iterdir())):
        context = ssl.create_default_context()
    else:
        context = httpx.create_ssl_context()
    for file in files:
        try:
            if file.suffix == ".crt":
                context.load_verify_locations(file)
            else:
                context.load_cert_chain(file, file.with_suffix(".key"))
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                str(file), got=str(error), expected="a certificate in PEM, with its key"
            ) from error
    return context
