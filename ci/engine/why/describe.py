"""From the execs of a session to steps: every input of the cache key, by a name and a digest."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from blake3 import blake3

from ci.engine.solver.solver import Outcome, Solver
from ci.engine.trees.patterns import EVERYTHING
from ci.engine.vertices.container import join
from ci.engine.vertices.vertex import (
    BindMount,
    CacheMount,
    Copy,
    CopySource,
    DirectoryMount,
    DirectoryRef,
    DockerCopy,
    Exec,
    ExecMountOutput,
    ExecRootOutput,
    FileMount,
    FileRef,
    Filter,
    HostDirectory,
    HostFile,
    Http,
    ImageRoot,
    Mount,
    NewFile,
    Patterns,
    SecretMount,
    SecretRef,
    Tree,
    Without,
)
from ci.engine.why.step import Input, Step, Steps
from ci.errors import CiError

__all__ = ["describe"]

#: So much is kept of a run: of commands, their inputs, and the text of one command.
_STEPS, _INPUTS, _TEXT = 400, 150, 1_000
_DIGITS = 16
#: Inputs of an exec that are told of one by one.
_TOLD = {"root", "args", "env", "secret_env", "mounts", "services"}
#: What others are called, if not by their field's name.
_LABELS = {
    "stdin": "standard input", "redirect_stdin": "standard input's file",
    "redirect_stdout": "standard output's file", "redirect_stderr": "standard error's file",
    "expect": "expected exit code", "insecure_root_capabilities": "root's capabilities",
    "offline": "network left out", "no_init": "init process left out",
}  # fmt: skip
_SHOWN = {"workdir", "user", "platform", "sandbox", "expect"}
_SET_SECRET = re.compile(r"@[0-9a-f]{32}$")


async def describe(
    solver: Solver, *, salt: bytes, scrub: Callable[[str], str], stages: Mapping[str, str]
) -> Steps:
    """The steps of a solver's session. What they depend on is known to it already.

    Args:
        solver: Whose execs.
        salt: Makes digests of small values worthless elsewhere.
        scrub: Takes secrets out of a command's text.
        stages: Name of the stage by the digest of an exec's vertex.
    """
    describer = _Describer(solver, salt, scrub)
    steps = []
    for outcome in solver.outcomes[:_STEPS]:
        try:
            steps.append(await describer.step(outcome, stages.get(outcome.exec.digest, "")))
        except CiError:  # an input that could not be had: it is told of where it was needed
            continue
    return Steps(at=time.time(), steps=tuple(steps), cut=len(solver.outcomes) > _STEPS)


@dataclass
class _Describer:
    solver: Solver
    salt: bytes
    scrub: Callable[[str], str]

    async def step(self, outcome: Outcome, stage: str) -> Step:
        exec_ = outcome.exec
        inputs = [*self._command(exec_), *await self._secrets(exec_)]
        inputs += await self._root(exec_.root)
        for mount in exec_.mounts:
            inputs += await self._mount(mount)
        for alias, service in exec_.services:
            key = await self.solver.key(service.exec)
            inputs.append(Input(name=f"service {alias}", digest=key[:_DIGITS]))
        return Step(
            key=await self.solver.key(exec_),
            command=self._words(exec_.args),
            inputs=tuple(_numbered(inputs)[:_INPUTS]),
            cached=outcome.cached,
            exit_code=outcome.exit_code,
            kept=outcome.kept,
            stage=stage,
        )

    def _words(self, args: Sequence[str]) -> tuple[str, ...]:
        left, words = _TEXT, []
        for text in map(self.scrub, args):
            words.append(text if len(text) <= left else text[:left] + "...")
            left -= len(words[-1])
            if left <= 0:
                break
        return tuple(words)

    def _hash(self, *values: object) -> str:
        text = "\0".join(map(str, values)).encode("utf-8", "surrogateescape")
        return blake3(text, key=self.salt).hexdigest()[:_DIGITS]

    def _command(self, exec_: Exec) -> list[Input]:
        """What stands in the exec itself."""
        found = [Input(name="command", digest=self._hash(*exec_.args))]
        found += [Input(name=f"variable {k}", digest=self._hash(v)) for k, v in exec_.env]
        plain = {name: each for name, each in exec_.inputs().items() if name not in _TOLD}
        plain["sandbox"] = self.solver.sandbox.mode().value
        found += [
            Input(
                name=_LABELS.get(name, name.replace("_", " ")),
                digest=self._hash(value),
                shown=str(value) if name in _SHOWN else "",
            )
            for name, value in plain.items()
            if value
        ]
        return found

    async def _secrets(self, exec_: Exec) -> list[Input]:
        found = [(f"secret {name}", secret) for name, secret in exec_.secret_env]
        found += [
            (f"secret {each.path}", each.secret)
            for each in exec_.mounts
            if isinstance(each, SecretMount)
        ]
        return [
            Input(
                name=name,
                digest=self._hash(await self.solver.secrets.fingerprint(secret)),
                shown=_secret_name(secret),
            )
            for name, secret in found
        ]

    # -- files ---------------------------------------------------------------------------------

    async def _root(self, root: Tree) -> list[Input]:
        """What the root file system is made of, up to the step that it builds on."""
        found: list[Input] = []
        tree: Tree | Exec | None = root
        while tree is not None and not isinstance(tree, Exec):
            found += await self._layer(tree)
            tree = tree.base
        if isinstance(tree, Exec):
            key = await self.solver.key(tree)
            found.append(Input(name="the step before", digest=key[:_DIGITS], made_by=key))
        return found[::-1]

    async def _layer(  # noqa: PLR0911 - one case a vertex
        self, tree: Tree
    ) -> list[Input]:
        match tree:
            case ImageRoot():
                shown = tree.reference.partition("@")[0] or tree.image_digest[:19]
                return [Input(name="base image", digest=tree.image_digest[7:23], shown=shown)]
            case NewFile():
                digest = self._hash(tree.contents, tree.permissions, tree.owner)
                return [Input(name=f"new file {tree.path}", digest=digest)]
            case Copy():
                extra = (tree.owner, tree.permissions)
                return [
                    await self._files(f"copy to {tree.path}", tree.source, tree.patterns, extra)
                ]
            case DockerCopy():
                name = f"copy to {tree.destination}"
                if not tree.sources:
                    return [
                        Input(name=f"directory {tree.destination}", digest=self._hash(tree.owner))
                    ]
                as_what = (tree.owner, tree.mode)
                return [await self._taken(name, source, as_what) for source in tree.sources]
            case Without():
                return [Input(name="removed paths", digest=self._hash(*tree.paths))]
            case ExecRootOutput() | ExecMountOutput():
                return []
            case HostDirectory() | Filter():
                return [await self._files("root file system", DirectoryRef(tree=tree))]
            case _:
                name = type(tree).__name__
                return [Input(name=f"tree {name}", digest=(await self.solver.key(tree))[:_DIGITS])]

    async def _mount(self, mount: Mount) -> list[Input]:
        match mount:
            case DirectoryMount():
                extra = (mount.owner, mount.read_only)
                return [await self._files(f"mount {mount.path}", mount.source, EVERYTHING, extra)]
            case FileMount():
                return [await self._files(f"mount {mount.path}", mount.source)]
            case BindMount():
                digest = self._hash(await self.solver.taken.of(mount), mount.read_only)
                return [await self._input(f"mount {mount.path}", mount.source, digest)]
            case CacheMount():
                return [Input(name=f"cache {mount.path}", digest=self._hash(mount.volume))]
            case SecretMount():
                return []
            case _:
                return [Input(name=f"mount {mount.path}", digest=mount.digest[:_DIGITS])]

    async def _taken(self, name: str, source: CopySource, extra: tuple[object, ...]) -> Input:
        """Of what a Dockerfile copies; a pattern's files are not told one by one."""
        digest = self._hash(await self.solver.taken.of_source(source), source.unpack, *extra)
        place = source.source
        if isinstance(place, DirectoryRef):
            place = DirectoryRef(tree=place.tree, path=join(place.path, source.path))
        return await self._input(name, place, digest, Patterns(exclude=source.exclude))

    async def _files(
        self,
        name: str,
        source: DirectoryRef | FileRef,
        patterns: Patterns = EVERYTHING,
        extra: tuple[object, ...] = (),
    ) -> Input:
        digest = self._hash(await self.solver.content_digest(source, patterns), *extra)
        return await self._input(name, source, digest, patterns)

    async def _input(
        self,
        name: str,
        source: DirectoryRef | FileRef,
        digest: str,
        patterns: Patterns = EVERYTHING,
    ) -> Input:
        maker = _maker(source.tree)
        return Input(
            name=name,
            digest=digest,
            shown=_origin(source.tree),
            layers=self.solver.known_snapshot(source.tree),
            path=source.path,
            include=patterns.include,
            exclude=patterns.exclude,
            made_by=await self.solver.key(maker) if maker is not None else "",
        )


def _numbered(inputs: Iterable[Input]) -> list[Input]:
    """Names made unique, in order."""
    seen: dict[str, int] = {}
    found = []
    for each in inputs:
        seen[each.name] = count = seen.get(each.name, 0) + 1
        name = each.name if count == 1 else f"{each.name} ({count})"
        found.append(Input(**{**vars(each), "name": name}))
    return found


def _secret_name(secret: SecretRef) -> str:
    """As the user called it; the reference of one that was set has a hash of its value."""
    return _SET_SECRET.sub("", secret.name).partition("://")[2] or _SET_SECRET.sub("", secret.name)


def _maker(tree: Tree) -> Exec | None:
    """The exec that a tree is made of, if it is."""
    link: Tree | Exec | None = tree
    while link is not None and not isinstance(link, Exec):
        link = link.base
    return link


def _origin(tree: Tree) -> str:
    match tree:
        case HostDirectory() | HostFile():
            return tree.path
        case Http():
            return tree.url.partition("?")[0]
        case Filter():
            return _origin(tree.source.tree)
        case _:
            return ""
