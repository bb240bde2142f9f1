"""Which Debian mirror to use: the one this machine names in its own apt sources, if any."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["sources_list"]

_SUITES = ("{}", "{}-updates", "{}-security")
_ARCHIVE = re.compile(r"/debian(-security)?/?$")
_CODENAME = re.compile(r"(bullseye|bookworm|trixie|forky|sid)(-updates|-security)?/?")
_LINE = re.compile(
    r"deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<rest>.*)"
)


@dataclass(frozen=True)
class _Source:
    uri: str
    suite: str


def sources_list(codename: str, *, mirror: str = "", root: Path = Path("/")) -> str:
    """Lines of a sources.list for that Debian release; empty: mmdebstrap's own choice is best.

    ``mirror`` wins, then the host's apt sources for Debian's archive.
    """
    if mirror := mirror.rstrip("/"):
        return _lines(codename, mirror, f"{mirror}-security")
    main, security = "", ""
    for source in _host_sources(root):
        if source.suite.rstrip("/").endswith("-security"):
            security = security or source.uri
        else:
            main = main or source.uri
    return _lines(codename, main, security or f"{main}-security") if main else ""


def _lines(codename: str, main: str, security: str) -> str:
    suites = [suite.format(codename) for suite in _SUITES]
    uris = [main, main, security]
    return "".join(f"deb {uri} {suite} main\n" for uri, suite in zip(uris, suites, strict=True))


def _host_sources(root: Path) -> Iterator[_Source]:
    """The host's entries for the Debian archive itself, and not some vendor's repository."""
    folder = root / "etc/apt"
    files = [folder / "sources.list"]
    if (folder / "sources.list.d").is_dir():
        files += sorted((folder / "sources.list.d").iterdir())
    for path in files:
        if path.suffix not in {".list", ".sources"} or not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        parsed = _stanzas(text) if path.suffix == ".sources" else _one_line(text)
        for source in parsed:
            if _ARCHIVE.search(source.uri) and _CODENAME.fullmatch(source.suite):
                yield source


def _one_line(text: str) -> Iterator[_Source]:
    for line in text.splitlines():
        match = _LINE.match(line.strip())
        if match and "main" in match["rest"].split():
            yield _Source(match["uri"].rstrip("/"), match["suite"])


def _stanzas(text: str) -> Iterator[_Source]:
    """The deb822 form: paragraphs of ``Field: values``."""
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        for line in stanza.splitlines():
            name, colon, value = line.partition(":")
            if colon and not line.startswith(("#", " ", "\t")):
                fields[name.strip().lower()] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled") == "no":
            continue
        if "main" not in fields.get("components", "").split():
            continue
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield _Source(uri.rstrip("/"), suite)
