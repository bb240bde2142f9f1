"""COPY and ADD: from the instruction to the vertex that does it. Pure."""

from __future__ import annotations

import posixpath
import re
from urllib.parse import unquote, urlsplit

from ci.engine.dockerfile.instructions import Copy
from ci.engine.dockerfile.permissions import is_valid
from ci.engine.dockerfile.state import StageState, Surroundings
from ci.engine.dockerfile.words import BadWords
from ci.engine.vertices.container import join
from ci.engine.vertices.vertex import (
    CopySource,
    DirectoryRef,
    DockerCopy,
    FileRef,
    Http,
    NewFile,
    Owner,
    Scratch,
)

__all__ = ["lower_copy"]

_URL = re.compile(r"https?://", re.IGNORECASE)
_GIT = re.compile(r"(?:git|ssh)://.*|git@[^:]+:.*|https?://[^#?]*\.git(?:[#?].*)?", re.IGNORECASE)
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
#: A download whose URL names no file.
_UNNAMED = "__unnamed__"
_PIVOT = "/./"


def lower_copy(one: Copy, state: StageState, around: Surroundings) -> StageState:
    """The stage after COPY or ADD.

    Raises:
        BadWords, BadSubstitution: it cannot be done.
    """
    owner = state.expand(one.owner)
    mode = state.expand(one.mode)
    if mode and not is_valid(mode):
        raise BadWords(f"--chmod={mode}", "octal permissions such as 755, or u+x and the like")
    sources = [_source(one, state.expand(text), state, around) for text in one.sources]
    for document in one.documents:
        text = state.expand_document(document.text) if document.expand else document.text
        path = join("/", document.name)
        made = NewFile(tree=Scratch(), path=path, contents=text.encode("utf-8", "surrogateescape"))
        sources.append(CopySource(source=FileRef(tree=made, path=path)))
    copied = DockerCopy(
        tree=state.container.root,
        destination=_destination(state.expand(one.destination), state.workdir),
        sources=tuple(sources),
        owner=Owner(spec=owner) if owner else None,
        mode=mode,
        origin=around.origin(one.line),
    )
    return state.setting(root=copied)


def _destination(text: str, workdir: str) -> str:
    """Absolute; with a slash at its end where it must be a directory."""
    path = join(workdir, text)
    is_folder = not text or text in (".", "..") or text.endswith(("/", "/.", "/.."))
    return path + "/" if is_folder and path != "/" else path


def _source(one: Copy, text: str, state: StageState, around: Surroundings) -> CopySource:
    if _GIT.fullmatch(text):
        raise BadWords(
            f"the git repository {text!r}", "a path or a URL; pass repositories in as directories"
        )
    if _URL.match(text):
        if not one.add:
            raise BadWords(f"the URL {text!r}", "a path; ADD takes URLs")
        return _download(one, text, state)
    if one.checksum:
        raise BadWords(f"--checksum of {text!r}", "a URL")
    context = around.request.context
    if one.stage:
        context = DirectoryRef(tree=around.root(one.stage, one.line))
    exclude = tuple(state.expand(pattern) for pattern in one.exclude)
    unpack = one.add if one.unpack is None else one.unpack
    if not one.parents:
        return CopySource(source=context, path=join("/", text), exclude=exclude, unpack=unpack)
    above, pivot, below = text.partition(_PIVOT)
    path, pattern = (above, below) if pivot else ("/", text)
    return CopySource(
        source=context,
        path=join("/", path),
        exclude=exclude,
        below=join("/", pattern)[1:] or "**",
    )


def _download(one: Copy, url: str, state: StageState) -> CopySource:
    checksum = state.expand(one.checksum)
    if checksum and not _SHA256.fullmatch(checksum):
        raise BadWords(f"--checksum={checksum}", "sha256: and 64 hex digits")
    try:
        name = posixpath.basename(unquote(urlsplit(url).path).rstrip("/"))
    except ValueError as error:
        raise BadWords(f"the URL {url!r} ({error})", "a URL") from None
    name = name if name not in ("", ".", "..") and "\0" not in name else _UNNAMED
    tree = Http(url=url, name=name, checksum=checksum)
    return CopySource(source=FileRef(tree=tree, path="/" + name), unpack=bool(one.unpack))
