"""Secret: reaches the command, and nothing else."""

from __future__ import annotations

import os

import dagger
import pytest


async def test_a_secret_variable_reaches_the_command_and_is_masked_in_its_output(base, dag, unique):
    secret = dag.set_secret("token", f"s3cret-{unique}")
    ran = base.with_secret_variable("TOKEN", secret).with_exec(
        ["sh", "-c", 'echo "is $TOKEN"; echo "$TOKEN" >&2; printf %s "$TOKEN" | wc -c']
    )
    assert (await ran.stdout()).split("\n")[:2] == ["is ***", str(len(f"s3cret-{unique}"))]
    assert await ran.stderr() == "***\n"


@pytest.mark.usefixtures("_owners")
async def test_a_mounted_secret_belongs_to_whom_was_asked_for(base, dag, unique):
    secret = dag.set_secret("key", f"content-{unique}")
    container = base.with_mounted_secret("/run/key", secret, owner="nobody:nogroup")
    ran = container.with_exec(["stat", "-c", "%U:%G", "/run/key"])
    assert await ran.stdout() == "nobody:nogroup\n"


async def test_a_mounted_secret_has_its_mode_and_leaves_nothing(base, dag, unique):
    secret = dag.set_secret("key", f"content-{unique}")
    container = base.with_mounted_secret("/run/key", secret, mode=0o440)
    ran = container.with_exec(["sh", "-c", "stat -c '%a' /run/key; wc -c < /run/key"])
    assert (await ran.stdout()).split() == ["440", str(len(f"content-{unique}"))]
    after = ran.without_mount("/run/key").with_exec(["sh", "-c", "cat /run/key 2>&1 || true"])
    assert unique not in await after.stdout()


async def test_a_secret_in_a_failed_exec_is_masked_in_the_error(base, dag, unique):
    secret = dag.set_secret("token", f"s3cret-{unique}")
    ran = base.with_secret_variable("TOKEN", secret).with_exec(
        ["sh", "-c", 'echo "$TOKEN"; echo "$TOKEN" >&2; exit 1']
    )
    with pytest.raises(dagger.ExecError) as caught:
        await ran.sync()
    assert (caught.value.stdout, caught.value.stderr) == ("***", "***")
    assert unique not in str(caught.value)


async def test_a_secret_written_in_pieces_is_masked(base, dag, unique):
    secret = dag.set_secret("token", f"abc-{unique}-xyz")
    ran = base.with_secret_variable("TOKEN", secret).with_exec(
        ["sh", "-c", "printf %s abc-; sleep 0.1; printf '%s' \"${TOKEN#abc-}\"; echo !"]
    )
    assert await ran.stdout() == "***!\n"


async def test_the_plain_value_can_be_read(dag):
    assert await dag.set_secret("a", "plain\nvalue").plaintext() == "plain\nvalue"


async def test_secret_variables_are_not_listed(dag):
    container = dag.container().with_secret_variable("S", dag.set_secret("s", "v"))
    assert await container.env_variable("S") is None
    assert await container.env_variables() == []


async def test_expansion_of_a_secret_variable_is_refused(dag):
    container = dag.container().with_secret_variable("S", dag.set_secret("s", "v"))
    with pytest.raises(dagger.QueryError, match="secret env variable"):
        await container.with_env_variable("A", "$S", expand=True).env_variable("A")


async def test_a_secret_is_read_from_a_file_of_the_host(dag, tmp_path):
    (tmp_path / "key").write_text("of a file")
    assert await dag.secret(f"file://{tmp_path}/key").plaintext() == "of a file"


async def test_a_secret_is_read_from_the_environment_of_the_host(dag):
    name = next(name for name in ("HOME", "PATH") if name in os.environ)
    assert await dag.secret(f"env://{name}").plaintext() == os.environ[name]


async def test_a_secret_that_is_not_there_is_an_error(dag):
    with pytest.raises(dagger.QueryError):
        await dag.secret("env://TOWPATH_NO_SUCH_VARIABLE").plaintext()
