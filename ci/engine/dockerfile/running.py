"""RUN: from the instruction to the exec that does it. Pure."""

from __future__ import annotations

import posixpath
from dataclasses import replace

from ci.engine.dockerfile.fault import nearest
from ci.engine.dockerfile.instructions import Run
from ci.engine.dockerfile.lines import heredoc_of
from ci.engine.dockerfile.mounts import RunMount, resolve_mount
from ci.engine.dockerfile.plan import SCRATCH
from ci.engine.dockerfile.state import StageState, Surroundings
from ci.engine.dockerfile.words import BadWords
from ci.engine.vertices.container import ContainerState
from ci.engine.vertices.vertex import (
    BindMount,
    CacheMount,
    DirectoryRef,
    ExecRootOutput,
    Mount,
    NewFile,
    Owner,
    Scratch,
    SecretMount,
    SecretRef,
    TmpfsMount,
    Tree,
)

__all__ = ["lower_run", "shell_of"]

_SHELL = ("/bin/sh", "-c")
#: Where a heredoc with an interpreter of its own is.
_SCRIPTS = "/dev/pipes"
_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")


def shell_of(state: StageState) -> tuple[str, ...]:
    """What runs commands in shell form."""
    return state.container.shell or _SHELL


def lower_run(one: Run, state: StageState, around: Surroundings) -> StageState:
    """The stage after RUN.

    Raises:
        BadWords, BadSubstitution: it cannot be done.
    """
    args, script = _command(one, state)
    mounts: list[Mount] = [script] if script is not None else []
    secrets: list[tuple[str, SecretRef]] = []
    for flag in one.mounts:
        mount = resolve_mount(flag, state.expand, state.workdir)
        if mount.type == "secret":
            found = _secret(mount, around)
            if found is not None:
                secrets += [(mount.variable, found)] if mount.variable else []
                mounts += [_secret_file(mount, found)] if mount.target else []
        else:
            mounts.append(_mount(mount, one.line, around))
    container = state.container
    ran = _running(container, state, mounts, secrets, around).exec(
        args, no_init=around.request.no_init, offline=one.network == "none"
    )
    return state.setting(root=ExecRootOutput(exec=ran))


def _running(
    container: ContainerState,
    state: StageState,
    mounts: list[Mount],
    secrets: list[tuple[str, SecretRef]],
    around: Surroundings,
) -> ContainerState:
    """The container as the command sees it."""
    hidden = {name for name, _ in secrets}
    plain = tuple((name, value) for name, value in state.scope.items() if name not in hidden)
    return replace(
        container,
        env=plain,
        secret_env=tuple(secrets),
        mounts=tuple(mounts),
        volatile_env=_proxies(around, state),
    )


def _proxies(around: Surroundings, state: StageState) -> tuple[tuple[str, str], ...]:
    """Proxies that the caller named: every command has them, and no cache key."""
    found: dict[str, str] = {}
    for name, value in around.plan.build_args.items():
        if name.lower() in _PROXIES:
            found[name.lower()] = found[name.upper()] = value
    return tuple((name, value) for name, value in found.items() if name not in state.scope)


# -- the command ---------------------------------------------------------------------------------


def _command(one: Run, state: StageState) -> tuple[tuple[str, ...], Mount | None]:
    """The argv, and the file of a script that has an interpreter of its own."""
    command = one.command
    if not command.shell_form:
        if not command.words:
            raise BadWords("[]", "a command")
        return command.words, None
    text = command.words[0]
    if one.heredocs:
        first = one.heredocs[0]
        alone = heredoc_of(text)
        if alone is not None and alone.name == first.name:
            if first.text.startswith("#!"):
                return _script(first.name, first.text)
            text = first.text
        else:
            text += "".join(f"\n{one.content}{one.name}" for one in one.heredocs)
    return (*shell_of(state), text), None


def _script(name: str, text: str) -> tuple[tuple[str, ...], Mount]:
    inner = "/" + posixpath.basename(name)
    tree = NewFile(
        tree=Scratch(),
        path=inner,
        contents=text.encode("utf-8", "surrogateescape"),
        permissions=0o755,
    )
    path = _SCRIPTS + inner
    return (path,), BindMount(path=path, source=DirectoryRef(tree=tree, path=inner))


# -- mounts --------------------------------------------------------------------------------------


def _mount(mount: RunMount, line: int, around: Surroundings) -> Mount:
    if mount.type == "tmpfs":
        return TmpfsMount(path=mount.target, size_bytes=mount.size)
    if mount.type == "cache":
        return _cache(mount, line, around)
    context = around.request.context
    base = context.path if not mount.stage else "/"
    tree = _tree(mount, line, around) or context.tree
    path = posixpath.normpath(base + "/" + mount.source.lstrip("/"))
    return BindMount(
        path=mount.target,
        source=DirectoryRef(tree=tree, path="/" + path.lstrip("/")),
        read_only=mount.read_only,
    )


def _tree(mount: RunMount, line: int, around: Surroundings) -> Tree | None:
    """What ``from=`` names; None where it is not given."""
    if not mount.stage:
        return None
    return Scratch() if mount.stage == SCRATCH else around.root(mount.stage, line)


def _cache(mount: RunMount, line: int, around: Surroundings) -> Mount:
    tree = _tree(mount, line, around)
    source = None
    if tree is not None and not isinstance(tree, Scratch):
        source = DirectoryRef(tree=tree, path=posixpath.normpath("/" + mount.source.lstrip("/")))
    # As in BuildKit, what a volume begins with is of its identity; how it is shared is not.
    first = (source.digest if source is not None else "", mount.owner, mount.mode)
    return CacheMount(
        path=mount.target,
        volume=f"dockerfile {mount.id} {first}",
        sharing=mount.sharing,
        source=source,
        owner=Owner(spec=mount.owner) if mount.owner else None,
        permissions=mount.mode,
        read_only=mount.read_only,
    )


def _secret(mount: RunMount, around: Surroundings) -> SecretRef | None:
    known = around.request.secrets
    found = known.get(mount.id)
    if found is None and mount.required:
        names = ", ".join(known) or "none"
        near = nearest(mount.id, known)
        raise BadWords(
            f"the secret {mount.id!r}, which was not passed",
            f"one of {names}" + (f" ({near})" if near else ""),
        )
    return found


def _secret_file(mount: RunMount, secret: SecretRef) -> Mount:
    return SecretMount(
        path=mount.target,
        secret=secret,
        owner=Owner(spec=mount.owner) if mount.owner else None,
        mode=0o400 if mount.mode is None else mount.mode,
    )
