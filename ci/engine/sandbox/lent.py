"""What the host lends to a container: resolver, CA certificates, mirrors and proxies.

It is no input of any cache key and never in a layer: files come as an ephemeral lowest-priority
layer (``ephemeral.py``), the rest as variables that are set only where the container does not.
Certificates and mirrors are lent only where the host is set up with its own.
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ci.engine.trees.merged import MergedTree

__all__ = ["Host", "Loan", "Shelf"]

#: Where distributions keep the bundle that their programs read.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
#: Where a container finds the bundle that has none of its own.
_LENT_BUNDLE = "/run/towpath-ca-certificates.crt"
#: Any of these on the host says that it has its own certificates.
_CA_VARIABLES = (
    "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "PIP_CERT",
    "GIT_SSL_CAINFO",
)  # fmt: skip
#: Read by programs that bring their own certificates; the others read the system's bundle.
_BUNDLED_PROGRAMS = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE")
_ANCHORS = ("/usr/local/share/ca-certificates", "/etc/pki/ca-trust/source/anchors")
_PASSED = re.compile(
    r"(?:https?|all|no|ftp)_proxy|(?:HTTPS?|ALL|NO|FTP)_PROXY"
    r"|PIP_(?:INDEX_URL|EXTRA_INDEX_URL|TRUSTED_HOST|PROXY)"
    r"|UV_(?:INDEX_URL|EXTRA_INDEX_URL|DEFAULT_INDEX|INDEX|INSECURE_HOST)"
    r"|(?:npm_config|NPM_CONFIG)_(?:registry|REGISTRY|proxy|https_proxy)"
)
_PIP_OPTIONS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries")
_PIP_CONFIGS = ("/etc/xdg/pip/pip.conf", "/etc/pip.conf", "~/.pip/pip.conf",
                "~/.config/pip/pip.conf")  # fmt: skip
_APT_OPTION = re.compile(
    r"Acquire::(?:https?|ftp)::Proxy|Acquire::Check-(?:Valid-Until|Date)|Acquire::Max-FutureTime"
)


@dataclass(frozen=True, kw_only=True)
class Loan:
    """What one container gets."""

    #: Absolute path to content.
    files: tuple[tuple[str, bytes], ...]
    #: Set only where the container does not set them.
    env: tuple[tuple[str, str], ...]


class Shelf:
    """Files of given content in ``folder``, each made once, for sandboxes to link to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[bytes, str] = {}

    def file(self, content: bytes) -> str:
        """Path of a file of this content."""
        path = self._known.get(content)
        if path is None:
            path = f"{self._folder}/{len(self._known)}-{os.urandom(4).hex()}"
            with open(path, "wb") as file:
                file.write(content)
            os.chmod(path, 0o644)
            self._known[content] = path
        return path


class Host:
    """This machine's settings, each read once."""

    def __init__(
        self, env: Mapping[str, str] | None = None, *, anchors: tuple[str, ...] = _ANCHORS
    ) -> None:
        """Take variables, and folders where an administrator adds certificates."""
        self._env = dict(os.environ if env is None else env)
        self._anchors = anchors

    def loan(
        self, tree: MergedTree, hosts: tuple[tuple[str, str], ...] = (), *, resolver: str = ""
    ) -> Loan:
        """What a container with this root file system gets.

        Args:
            tree: Its root file system.
            hosts: (address, name) of what it is to know.
            resolver: Address of the name server; empty is the host's own.
        """
        lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback",
                 "127.0.1.1\ttowpath"]  # fmt: skip
        lines += [f"{address}\t{name}" for address, name in hosts]
        files = {
            "/etc/hosts": ("\n".join(lines) + "\n").encode(),
            "/etc/resolv.conf": _asking(resolver, self.resolver) if resolver else self.resolver,
        }
        env = dict(self.passed)
        if self.certificates:
            self._lend_certificates(tree, files, env)
        if self.pip_config and tree.lookup("/etc/pip.conf") is None:
            files["/etc/pip.conf"] = self.pip_config
        if self.apt_config and tree.lookup("/etc/apt/apt.conf.d") is not None:
            files["/etc/apt/apt.conf.d/99towpath-host"] = self.apt_config
        return Loan(files=tuple(files.items()), env=tuple(env.items()))

    def _lend_certificates(
        self, tree: MergedTree, files: dict[str, bytes], env: dict[str, str]
    ) -> None:
        own = next((path for path in _BUNDLES if tree.lookup(path) is not None), None)
        for bundle in _BUNDLES:
            found = tree.lookup(bundle)
            if found is not None and found.kind == "file":
                files[found.path] = self.certificates
        place = own or _LENT_BUNDLE
        if own is None:
            files[place] = self.certificates
        for name in _BUNDLED_PROGRAMS if own else _CA_VARIABLES:
            env[name] = place

    # -- the host's settings -------------------------------------------------------------------

    @cached_property
    def resolver(self) -> bytes:
        """The text of /etc/resolv.conf."""
        return _read("/etc/resolv.conf")

    @cached_property
    def passed(self) -> dict[str, str]:
        """Variables about mirrors and proxies that are set here."""
        return {name: value for name, value in self._env.items() if _PASSED.fullmatch(name)}

    @cached_property
    def certificates(self) -> bytes:
        """The CA bundle, where the host is set up with its own; else nothing."""
        named = next((self._env[name] for name in _CA_VARIABLES if self._env.get(name)), "")
        added = any(_has_files(folder) for folder in self._anchors)
        if not named and not added:
            return b""
        for path in (*_BUNDLES, named):
            if path and (content := _read(path)):
                extra = _read(named) if named and named != path else b""
                return content if extra in content else content + b"\n" + extra
        return b""

    @cached_property
    def pip_config(self) -> bytes:
        """Index and proxy options of pip's configuration files; nothing where there are none."""
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        paths = [*_PIP_CONFIGS, self._env.get("PIP_CONFIG_FILE", "")]
        for path in paths:
            try:
                parser.read(Path(path).expanduser())
            except (configparser.Error, OSError, UnicodeDecodeError, RuntimeError):
                continue
        found = {
            option: value
            for section in ("global", "install")
            if parser.has_section(section)
            for option, value in parser.items(section)
            if option in _PIP_OPTIONS
        }
        if not any(option in found for option in _PIP_OPTIONS[:4]):
            return b""
        lines = [f"{option} = {value}".replace("\n", "\n    ") for option, value in found.items()]
        return ("[global]\n" + "\n".join(lines) + "\n").encode()

    @cached_property
    def apt_config(self) -> bytes:
        """Proxies and clock checks of apt's configuration; nothing where there are none."""
        program = shutil.which("apt-config")
        if program is None:
            return b""
        dump = subprocess.run(
            [program, "dump", "Acquire"], capture_output=True, check=False, timeout=30
        ).stdout.decode(errors="replace")
        lines = [
            line for line in dump.splitlines() if _APT_OPTION.match(line) and ' "";' not in line
        ]
        return ("\n".join(lines) + "\n").encode() if lines else b""


def _asking(resolver: str, text: bytes) -> bytes:
    """The text of a resolv.conf with this name server in place of its own."""
    kept = [line for line in text.splitlines() if not line.lstrip().startswith(b"nameserver")]
    return b"\n".join([f"nameserver {resolver}".encode(), *kept]) + b"\n"


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def _has_files(folder: str) -> bool:
    try:
        return any(name.endswith((".crt", ".pem")) for name in os.listdir(folder))
    except OSError:
        return False
