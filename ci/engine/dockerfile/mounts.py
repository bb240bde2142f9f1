"""``RUN --mount``: from the options of a flag, variables replaced, to what is mounted. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass

from ci import sizes
from ci.engine.dockerfile.fault import nearest
from ci.engine.dockerfile.instructions import MountFlag
from ci.engine.dockerfile.words import BadWords
from ci.engine.vertices.vertex import Sharing

__all__ = ["RunMount", "resolve_mount"]

_TYPES = ("bind", "cache", "tmpfs", "secret")
_NAMES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
#: Options that only some types know.
_ONLY = {
    "from": ("bind", "cache"),
    "source": ("bind", "cache", "secret"),
    "required": ("secret",),
    "size": ("tmpfs",),
    "id": ("cache", "secret"),
    "sharing": ("cache",),
    "mode": ("cache", "secret"),
    "uid": ("cache", "secret"),
    "gid": ("cache", "secret"),
    "env": ("secret",),
}


@dataclass(frozen=True, kw_only=True)
class RunMount:
    """One mount of a RUN."""

    type: str
    #: Absolute; empty where a secret is only a variable.
    target: str
    #: Stage or image; empty is the build context, and nothing for a cache.
    stage: str = ""
    source: str = "/"
    read_only: bool = False
    #: Of a cache volume or secret.
    id: str = ""
    sharing: Sharing = Sharing.SHARED
    required: bool = False
    #: Bytes.
    size: int | None = None
    #: Permission bits; None is the type's default.
    mode: int | None = None
    #: ``uid:gid``; empty is root.
    owner: str = ""
    #: The variable that has the secret's value.
    variable: str = ""


def _bytes_of(text: str) -> int:
    """Bytes of a size.

    Raises:
        BadWords: it is none.
    """
    try:
        return sizes.parse(text)
    except ValueError:
        raise BadWords(f"size={text}", "a size such as 64m") from None


def resolve_mount(flag: MountFlag, expand: Callable[[str], str], workdir: str) -> RunMount:
    """The mount that a flag asks for.

    Args:
        flag: The options as written.
        expand: Replaces variables.
        workdir: Where a relative target starts.

    Raises:
        BadWords: an option has no value that fits, or is not one of this type.
    """
    options: dict[str, str] = {}
    for key, value in flag.options:
        name = _NAMES.get(key, key)
        if name in ("readwrite", "rw"):
            options["readonly"] = "false" if _true(key, value, expand) else "true"
        else:
            options[name] = "true" if value is None else expand(value)
    kind = options.pop("type", "bind").lower()
    if kind == "ssh":
        raise BadWords(
            "--mount=type=ssh", "a secret: the embedded engine passes on no agent's socket"
        )
    if kind not in _TYPES:
        near = nearest(kind, _TYPES)
        raise BadWords(
            f"type={kind}", "one of " + ", ".join(_TYPES) + (f" ({near})" if near else "")
        )
    for name in options:
        if kind not in _ONLY.get(name, _TYPES):
            raise BadWords(f"{name}= on a {kind} mount", "it on " + " or ".join(_ONLY[name]))
    if kind == "secret":
        return _secret(options, workdir)
    target = posixpath.normpath(posixpath.join("/", workdir, options.get("target", "")))
    target = "/" + target.lstrip("/")
    if target == "/":
        raise BadWords("the mount target /", "one below it")
    read_only = _true("readonly", options.get("readonly", str(kind == "bind")), str)
    return RunMount(
        type=kind,
        target=target,
        stage=options.get("from", ""),
        source=options.get("source", "/"),
        read_only=read_only,
        id=options.get("id") or target,
        sharing=_sharing(options.get("sharing", "shared")),
        size=(_bytes_of(options["size"]) or None) if "size" in options else None,
        mode=_octal(options["mode"]) if "mode" in options else None,
        owner=_owner(options),
    )


def _secret(options: dict[str, str], workdir: str) -> RunMount:
    source, name, target = (options.get(key, "") for key in ("source", "id", "target"))
    if source and name:
        raise BadWords("both id= and source=", "one of them")
    found = source or name or posixpath.basename(target)
    if not found:
        raise BadWords("a secret without a name", "id=NAME")
    variable = options.get("env", "")
    if not target and not variable:
        target = "/run/secrets/" + posixpath.basename(found)
    if target:
        target = "/" + posixpath.normpath(posixpath.join("/", workdir, target)).lstrip("/")
    return RunMount(
        type="secret",
        target=target,
        id=found,
        required=_true("required", options.get("required", "false"), str),
        mode=_octal(options["mode"]) if "mode" in options else None,
        owner=_owner(options),
        variable=variable,
    )


def _true(key: str, value: str | None, expand: Callable[[str], str]) -> bool:
    """A switch, as Go reads one."""
    text = "true" if value is None else expand(value)
    if text.lower() in ("1", "t", "true"):
        return True
    if text.lower() in ("0", "f", "false"):
        return False
    raise BadWords(f"{key}={text}", "true or false")


def _sharing(text: str) -> Sharing:
    try:
        return Sharing(text.upper())
    except ValueError:
        known = [one.value.lower() for one in Sharing]
        raise BadWords(f"sharing={text}", "one of " + ", ".join(known)) from None


def _octal(text: str) -> int:
    if not re.fullmatch(r"0?[0-7]{1,4}", text):
        raise BadWords(f"mode={text}", "octal permissions, such as 0400")
    return int(text, 8)


def _owner(options: dict[str, str]) -> str:
    ids = [options.get(key, "0") for key in ("uid", "gid")]
    if not all(re.fullmatch(r"[0-9]{1,9}", one) for one in ids):
        raise BadWords(f"uid={ids[0]}, gid={ids[1]}", "numbers")
    return ":".join(ids) if "uid" in options or "gid" in options else ""
