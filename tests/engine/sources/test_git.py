"""Query.git against a real server: what is asked, how often, with what, and what is kept."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.abc
import dagger
import pytest

from tests.conformance.git_server import GitServer, Repository
from tests.engine.sources.conftest import Connect

TOKEN = "s3cr3t-t0k3n-of-the-test"


@pytest.fixture
def url(server: GitServer, repository: Repository) -> str:
    return f"{server.url}/{repository.folder.name}/.git"


# -- names ---------------------------------------------------------------------------------------


async def test_names_are_found(dag, url, repository):
    git = dag.git(url)
    head = repository.git("rev-parse", "HEAD")
    assert await git.branches() == ["main", "old"]
    assert await git.tags(patterns=["v1.1*"]) == ["v1.10.0"]
    assert await git.head().ref() == "refs/heads/main"
    assert await git.branch("main").commit() == head
    assert await git.tag("v1.10.0").commit() == head
    assert await git.ref("old").ref() == "refs/heads/old"
    assert await git.latest_version().ref() == "refs/tags/v1.10.0"
    assert await git.commit(head).ref() == head
    assert await git.url() == url


async def test_names_are_asked_for_once_a_session(connect: Connect, server, url):
    for sessions in (1, 2):
        async with connect() as dag:
            git = dag.git(url)
            await git.branches()
            await git.tag("v1.0.0").commit()
            await git.head().commit()
        assert server.asked_for_refs() == sessions


async def test_a_name_that_is_not_there_is_one_clear_error(dag, url):
    with pytest.raises(dagger.QueryError, match="does not contain ref 'refs/heads/mai'"):
        await dag.git(url).branch("mai").commit()


async def test_half_a_commit_is_no_commit(dag, url):
    with pytest.raises(dagger.QueryError, match="git commit: got 'abc123'; expected its whole ID"):
        await dag.git(url).commit("abc123").commit()


# -- files ---------------------------------------------------------------------------------------


async def test_a_branch_that_moved_is_seen_by_the_next_session(connect: Connect, url, repository):
    async with connect() as dag:
        tree = dag.git(url).branch("main").tree()
        assert await tree.file("a.txt").contents() == "2\n"
        repository.commit("third", a_txt="3\n")
        assert await dag.git(url).branch("main").tree().file("a.txt").contents() == "2\n"
    async with connect() as dag:
        assert await dag.git(url).branch("main").tree().file("a.txt").contents() == "3\n"


async def test_a_commit_is_fetched_once_for_all_sessions(connect: Connect, server, url, repository):
    commit = repository.git("rev-parse", "HEAD~1")
    async with connect() as dag:
        assert await dag.git(url).commit(commit).tree().file("a.txt").contents() == "1\n"
    asked = len(server.requests)
    assert asked
    async with connect() as dag:
        at = dag.git(url).commit(commit)
        assert await at.tree().file("a.txt").contents() == "1\n"
        assert await at.tree(discard_git_dir=True).entries() == ["a.txt", "sub/"]
    assert len(server.requests) == asked


async def test_the_repository_is_kept_unless_it_is_discarded(dag, url):
    assert ".git/" in await dag.git(url).head().tree().entries()
    assert ".git/" not in await dag.git(url).head().tree(discard_git_dir=True).entries()
    assert ".git/" not in await dag.git(url, keep_git_dir=False).head().tree().entries()


async def test_a_checkout_is_on_its_branch_and_clean(dag, url, repository, tmp_path):
    place = tmp_path / "checkout"
    await dag.git(url).branch("old").tree().export(str(place))
    checkout = Opened(place)
    assert checkout.git("status", "--porcelain", "--branch") == "## old"
    assert checkout.git("rev-parse", "HEAD") == repository.git("rev-parse", "old")
    assert checkout.git("remote", "get-url", "origin") == url
    assert checkout.git("for-each-ref", "--format=%(refname)") == "refs/heads/old"


class Opened(Repository):
    """A repository that is there already."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder


@pytest.mark.parametrize(("depth", "commits"), [(1, 1), (2, 2), (0, 3)])
async def test_history_goes_to_the_depth(dag, url, repository, tmp_path, depth, commits):
    repository.commit("third")
    await dag.git(url).head().tree(depth=depth).export(str(tmp_path / "checkout"))
    assert Opened(tmp_path / "checkout").git("rev-list", "--count", "HEAD") == str(commits)


async def test_tags_come_where_they_are_asked_for(dag, url, tmp_path):
    await dag.git(url).head().tree(include_tags=True).export(str(tmp_path / "checkout"))
    assert Opened(tmp_path / "checkout").git("tag") == "v1.0.0\nv1.10.0\nv1.9.0-rc.1"


async def test_a_common_ancestor_is_found_and_kept(connect: Connect, server, url, repository):
    fork = repository.git("rev-parse", "HEAD")
    repository.git("checkout", "--quiet", "-b", "side")
    repository.commit("aside", c_txt="c\n")
    repository.git("checkout", "--quiet", "main")
    repository.commit("ahead", d_txt="d\n")
    one, two = repository.git("rev-parse", "main"), repository.git("rev-parse", "side")
    async with connect() as dag:
        git = dag.git(url)
        assert await git.branch("main").common_ancestor(git.branch("side")).commit() == fork
    asked = len(server.requests)
    async with connect() as dag:
        git = dag.git(url)
        assert await git.commit(two).common_ancestor(git.commit(one)).commit() == fork
    assert len(server.requests) == asked


async def test_submodules_come_with_the_files(dag, url, server, repository, tmp_path):
    library = Repository(server.folder / "library")
    library.commit(code_txt="code\n")
    repository.git("submodule", "--quiet", "add", str(library.folder), "lib")
    repository.git("config", "--file=.gitmodules", "submodule.lib.url", "../../library/.git")
    repository.commit("with a submodule")
    server.require("x-access-token", TOKEN)
    token = dag.set_secret("token", TOKEN)
    tree = dag.git(url, http_auth_token=token).head().tree()
    assert await tree.file("lib/code.txt").contents() == "code\n"


async def test_a_submodule_cannot_read_this_machine(dag, url, repository, tmp_path):
    private = Repository(tmp_path / "private")
    private.commit(key_txt="private\n")
    repository.git("submodule", "--quiet", "add", str(private.folder), "lib")
    repository.commit("with a submodule of this machine")
    with pytest.raises(dagger.QueryError, match="transport 'file' not allowed"):
        await dag.git(url).head().tree().entries()


# -- who is let in -------------------------------------------------------------------------------


async def test_a_token_is_sent_as_basic_authorization(dag, server, url):
    server.require("x-access-token", TOKEN)
    token = dag.set_secret("token", TOKEN + "\n")
    tree = dag.git(url, http_auth_token=token).head().tree()
    assert await tree.file("a.txt").contents() == "2\n"


async def test_a_token_goes_with_the_user_that_is_named(dag, server, url):
    server.require("ada", TOKEN)
    token = dag.set_secret("token", TOKEN)
    git = dag.git(url, http_auth_token=token, http_auth_username="ada")
    assert await git.branches() == ["main", "old"]


async def test_a_header_is_sent_as_it_is(dag, server, url):
    server.authorization = f"Bearer {TOKEN}"
    header = dag.set_secret("header", f"Bearer {TOKEN}")
    assert await dag.git(url, http_auth_header=header).branches() == ["main", "old"]


async def test_who_is_not_let_in_is_told_what_to_give(dag, server, url):
    server.require("x-access-token", TOKEN)
    with pytest.raises(dagger.QueryError, match="git ls-remote http") as raised:
        await dag.git(url).branches()
    assert "hint: give httpAuthToken or httpAuthHeader" in str(raised.value)


async def test_a_secret_is_in_no_argument_file_variable_or_error(
    connect: Connect, server, url, cache, tmp_path, monkeypatch
):
    seen = tmp_path / "seen"
    git = shutil.which("git")
    wrapper = tmp_path / "bin" / "git"
    wrapper.parent.mkdir()
    wrapper.write_text(
        f"#!{sys.executable} -I\n"
        "import os, sys\n"
        f"with open({str(seen)!r}, 'a') as file:\n"
        "    print(sys.argv, dict(os.environ), file=file)\n"
        f"os.execv({git!r}, ['git', *sys.argv[1:]])\n"
    )
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
    server.require("x-access-token", TOKEN)
    async with connect() as dag:
        token = dag.set_secret("token", TOKEN)
        await dag.git(url, http_auth_token=token).head().tree().sync()
        server.authorization = "another"
        with pytest.raises(dagger.QueryError) as raised:
            await dag.git(url + "/", http_auth_token=token).branches()
    encoded = server.requests[-1][1].split()[1]
    texts = [seen.read_text(), str(raised.value), str(vars(raised.value))]
    texts += [p.read_text("latin-1") for p in cache.rglob("*") if p.is_file()]
    assert "ls-remote" in texts[0]
    assert "fetch" in texts[0]
    for text in texts:
        assert TOKEN not in text
        assert encoded not in text


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://ada:pass@example.com/x", "got one with a password"),
        ("file:///etc", "got 'file://...'"),
        ("/etc", "got '/etc'"),
        ("ext::sh -c true", "git URL"),
        ("ssh://-oProxyCommand=true/x", "git URL"),
        ("--upload-pack=true", "git URL"),
    ],
)
async def test_a_url_that_is_none_is_refused(dag, url, message):
    with pytest.raises(dagger.QueryError, match="git URL") as raised:
        await dag.git(url).branches()
    assert message in str(raised.value)
    assert "pass@" not in str(raised.value)


async def test_ssh_needs_an_agent(dag, monkeypatch):
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with pytest.raises(dagger.QueryError, match="got no agent to get keys from"):
        await dag.git("git@127.0.0.1:x/y").branches()


async def test_a_machine_without_git_says_so(dag, url, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(dagger.QueryError, match="git: got no such program on this machine"):
        await dag.git(url).branches()


async def test_nothing_goes_on_for_who_has_left(dag):
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    asked, gone = anyio.Event(), anyio.Event()

    async def never_answer(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            asked.set()
            with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                await stream.receive()
            gone.set()

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, never_answer)
        with anyio.CancelScope() as asking:
            tasks.start_soon(_cancel_when, asked, asking)
            await dag.git(f"http://127.0.0.1:{port}/x").branches()
        assert asking.cancelled_caught
        with anyio.fail_after(30):
            await gone.wait()
        tasks.cancel_scope.cancel()


async def _cancel_when(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


async def test_the_users_configuration_has_no_say(dag, url, tmp_path, monkeypatch):
    (tmp_path / ".gitconfig").write_text(f'[url "http://127.0.0.1:1/"]\n  insteadOf = {url}\n')
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    assert await dag.git(url).branches() == ["main", "old"]


async def test_a_service_of_the_session_can_serve_it(dag, server, repository):
    service = dag.host().service([dagger.PortForward(backend=server.port, frontend=8080)])
    host = await service.hostname()
    git = dag.git(f"http://{host}:8080/project/.git", experimental_service_host=service)
    assert await git.head().tree().file("a.txt").contents() == "2\n"


# -- a directory's own ---------------------------------------------------------------------------


async def test_a_directory_is_a_repository(dag, repository):
    git = dag.host().directory(str(repository.folder)).as_git()
    assert await git.branches() == ["main", "old"]
    assert await git.url() is None
    assert await git.tag("v1.0.0").tree().file("a.txt").contents() == "1\n"


async def test_a_bare_repository_is_one_too(dag, repository, tmp_path):
    repository.git("clone", "--quiet", "--bare", ".", str(tmp_path / "bare.git"))
    git = dag.host().directory(str(tmp_path / "bare.git")).as_git()
    assert await git.head().tree(discard_git_dir=True).entries() == ["a.txt", "sub/"]


async def test_what_is_not_committed_is_a_changeset(dag, repository):
    repository.write(a_txt="changed\n", new_txt="new\n")
    repository.write(_gitignore="ignored.txt\n", ignored_txt="ignored\n")
    (repository.folder / "sub/b.txt").unlink()
    repository.git("add", "new.txt")
    changes = dag.host().directory(str(repository.folder)).as_git().uncommitted()
    assert await changes.added_paths() == [".gitignore", "new.txt"]
    assert await changes.modified_paths() == ["a.txt"]
    assert await changes.removed_paths() == ["sub/b.txt"]


async def test_a_repository_makes_the_engine_run_no_program(dag, repository, tmp_path):
    for setting in (
        "core.fsmonitor",
        "core.sshCommand",
        "filter.x.clean",
        "filter.x.smudge",
        "uploadpack.packObjectsHook",
    ):
        repository.git("config", setting, f"touch {tmp_path}/ran; cat")
    hook = repository.folder / ".git/hooks/post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    repository.git("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "status")
    (repository.folder / ".gitattributes").write_text("* filter=x\n")
    (repository.folder / "a.txt").write_text("changed\n")
    (tmp_path / "ran").unlink(missing_ok=True)
    git = dag.host().directory(str(repository.folder)).as_git()
    assert "a.txt" in await git.uncommitted().modified_paths()
    await git.head().tree().sync()
    assert not (tmp_path / "ran").exists()


async def test_a_directory_without_a_repository_is_refused(dag):
    git = dag.directory().with_new_file("f", "x").as_git()
    with pytest.raises(dagger.QueryError, match=r"got no \.git folder in the directory"):
        await git.branches()


async def test_a_repository_that_borrows_objects_is_refused(dag, repository, tmp_path):
    repository.git("clone", "--quiet", "--shared", ".", str(tmp_path / "shared"))
    git = dag.host().directory(str(tmp_path / "shared")).as_git()
    with pytest.raises(dagger.QueryError, match="got one that borrows objects from another"):
        await git.branches()


async def test_a_repository_that_would_fetch_is_refused(dag, repository, tmp_path):
    repository.git("config", "uploadpack.allowFilter", "true")
    repository.git(
        "clone", "-q", "--filter=blob:none", f"file://{repository.folder}", f"{tmp_path}/p"
    )
    git = dag.host().directory(str(tmp_path / "p")).as_git()
    with pytest.raises(dagger.QueryError, match="got a partial clone"):
        await git.branches()


async def test_an_address_may_name_a_folder_of_a_commit(dag, url, repository):
    address = dag.address(f"{url}#v1.0.0:sub")
    assert await address.directory().entries() == ["b.txt"]
    assert await dag.address(f"{url}#old:a.txt").file().contents() == "1\n"
    assert await address.git_ref().ref() == "refs/tags/v1.0.0"
