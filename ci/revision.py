"""Which commit a source is at, read from its .git folder: no git program is needed."""

from __future__ import annotations

import tomllib

import dagger

from ci.records.run import SourceRecord

__all__ = ["project_of", "revision_of"]


async def revision_of(source: dagger.Directory) -> SourceRecord:
    """Commit and branch, empty where the source is no git repository; the project's version."""
    entries = await source.entries()
    version = (await project_of(source)).get("version", "")
    if ".git/" not in entries:
        return SourceRecord(version=version)
    git = source.directory(".git")
    head = (await git.file("HEAD").contents()).strip()
    if not head.startswith("ref: "):
        return SourceRecord(commit=head, version=version)
    reference = head.removeprefix("ref: ")
    branch = reference.removeprefix("refs/heads/")
    return SourceRecord(commit=await _commit(git, reference), branch=branch, version=version)


async def project_of(source: dagger.Directory) -> dict[str, str]:
    """``name`` and ``version`` of pyproject.toml's [project]; what is not there is left out."""
    if "pyproject.toml" not in await source.entries():
        return {}
    try:
        project = tomllib.loads(await source.file("pyproject.toml").contents()).get("project", {})
    except tomllib.TOMLDecodeError:
        return {}
    return {key: str(project[key]) for key in ("name", "version") if key in project}


async def _commit(git: dagger.Directory, reference: str) -> str:
    """The commit that a reference is at: loose, else packed, else (unborn branch) none."""
    if await git.glob(reference):
        return (await git.file(reference).contents()).strip()
    if await git.glob("packed-refs"):
        for line in (await git.file("packed-refs").contents()).splitlines():
            commit, _, name = line.partition(" ")
            if name == reference:
                return commit
    return ""
