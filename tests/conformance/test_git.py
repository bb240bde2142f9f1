"""GitRepository and GitRef: of a directory, and of a remote that a service of the host serves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagger
import pytest

from .git_server import GitServer, Repository, serving

pytestmark = pytest.mark.usefixtures("_git")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    with serving(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture(scope="module")
def repository(server: GitServer) -> Repository:
    """Three commits on main, a branch, tags."""
    made = Repository(server.folder / "project")
    made.commit("first", a_txt="1\n", sub__b_txt="b\n")
    made.git("tag", "v1.0.0")
    made.git("branch", "old")
    made.commit("second", a_txt="2\n")
    made.git("tag", "v1.10.0")
    made.git("tag", "v1.9.0")
    made.commit("third", a_txt="3\n")
    return made


@pytest.fixture
def _git(repository) -> None:
    """The repository is there."""


@pytest.fixture
def local(dag, repository) -> dagger.GitRepository:
    """The repository in a directory."""
    found: dagger.GitRepository = dag.host().directory(str(repository.folder)).as_git()
    return found


@pytest.fixture
async def remote(dag, server, repository) -> dagger.GitRepository:
    """The repository as the server gives it out."""
    service = dag.host().service([dagger.PortForward(backend=server.port, frontend=8080)])
    found: dagger.GitRepository = dag.git(
        f"http://{await service.hostname()}:8080/{repository.folder.name}/.git",
        experimental_service_host=service,
    )
    return found


@pytest.fixture(params=["local", "remote"])
def git(request) -> dagger.GitRepository:
    """Both in turn."""
    found: dagger.GitRepository = request.getfixturevalue(request.param)
    return found


async def test_branches_are_listed(git):
    assert sorted(await git.branches()) == ["main", "old"]
    assert await git.branches(patterns=["ol*"]) == ["old"]


async def test_tags_are_listed(git):
    assert sorted(await git.tags()) == ["v1.0.0", "v1.10.0", "v1.9.0"]
    assert sorted(await git.tags(patterns=["v1.1*"])) == ["v1.10.0"]


async def test_head_is_the_branch_that_is_checked_out(git, repository):
    assert await git.head().ref() == "refs/heads/main"
    assert await git.head().commit() == repository.git("rev-parse", "HEAD")


async def test_a_branch_has_a_commit(git, repository):
    assert await git.branch("old").commit() == repository.git("rev-parse", "old")
    assert await git.branch("old").ref() == "refs/heads/old"


async def test_a_tag_has_a_commit(git, repository):
    assert await git.tag("v1.0.0").commit() == repository.git("rev-parse", "old")
    assert await git.tag("v1.0.0").ref() == "refs/tags/v1.0.0"


async def test_a_commit_is_found_by_its_id(git, repository):
    commit = repository.git("rev-parse", "HEAD~1")
    assert await git.commit(commit).commit() == commit
    assert await git.commit(commit).tree().file("a.txt").contents() == "2\n"


async def test_a_ref_is_found_as_it_is_checked_out(git, repository):
    assert await git.ref("v1.10.0").commit() == repository.git("rev-parse", "HEAD~1")
    assert await git.ref("refs/heads/old").commit() == repository.git("rev-parse", "old")


async def test_versions_are_compared_as_versions(git):
    assert await git.latest_version().ref() == "refs/tags/v1.10.0"


async def test_a_name_that_is_not_there_is_an_error(git):
    with pytest.raises(dagger.QueryError):
        await git.branch("none").commit()


async def test_a_short_commit_is_an_error(git, repository):
    with pytest.raises(dagger.QueryError):
        await git.commit("abc").commit()


async def test_a_tree_has_the_files_of_the_commit(git):
    tree = git.tag("v1.0.0").tree()
    assert await tree.file("a.txt").contents() == "1\n"
    assert await tree.file("sub/b.txt").contents() == "b\n"


async def test_a_tree_has_the_repository_unless_it_is_discarded(git):
    names = [name.rstrip("/") for name in await git.head().tree().entries()]
    assert ".git" in names
    names = [name.rstrip("/") for name in await git.head().tree(discard_git_dir=True).entries()]
    assert sorted(names) == ["a.txt", "sub"]


async def test_a_common_ancestor_is_found(git, repository):
    fork = repository.git("rev-parse", "old")
    assert await git.branch("main").common_ancestor(git.branch("old")).commit() == fork


async def test_a_checkout_is_on_its_branch(git, tmp_path):
    await git.branch("old").tree().export(str(tmp_path))
    assert (tmp_path / ".git/HEAD").read_text() == "ref: refs/heads/old\n"


async def test_a_remote_has_its_url(remote):
    assert (await remote.url() or "").endswith("/.git")


async def test_what_is_not_committed_is_seen(dag, tmp_path):
    repository = Repository(tmp_path / "repository")
    repository.commit(a_txt="1\n", b_txt="b\n")
    repository.write(a_txt="changed\n", new_txt="new\n")
    (repository.folder / "b.txt").unlink()
    changes = dag.host().directory(str(repository.folder)).as_git().uncommitted()
    assert await changes.added_paths() == ["new.txt"]
    assert await changes.modified_paths() == ["a.txt"]
    assert await changes.removed_paths() == ["b.txt"]


async def test_a_clean_repository_has_nothing_uncommitted(dag, tmp_path):
    repository = Repository(tmp_path / "repository")
    repository.commit(a_txt="1\n")
    changes = dag.host().directory(str(repository.folder)).as_git().uncommitted()
    assert await changes.is_empty()


async def test_a_remote_has_nothing_uncommitted(remote):
    assert await remote.uncommitted().is_empty()


async def test_a_token_opens_a_private_repository(dag, server, repository, unique):
    token = dag.set_secret(f"token-{unique}", unique)
    service = dag.host().service([dagger.PortForward(backend=server.port, frontend=8081)])
    url = f"http://{await service.hostname()}:8081/{repository.folder.name}/.git"
    server.require("ada", unique)
    try:
        git = dag.git(
            url,
            http_auth_username="ada",
            http_auth_token=token,
            experimental_service_host=service,
        )
        assert await git.head().tree().file("a.txt").contents() == "3\n"
    finally:
        server.authorization = ""


def test_the_repository_was_written_to_by_nobody(repository: Repository):
    assert repository.git("status", "--porcelain") == ""
    assert Path(repository.folder / "a.txt").read_text() == "3\n"
