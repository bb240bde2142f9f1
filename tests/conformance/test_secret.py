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


async def test_a_secret_that_is_written_byte_by_byte_is_masked(base, dag, unique):
    secret = dag.set_secret("bytes", f"byte-{unique}")
    script = 'i=0; while [ $i -lt ${#T} ]; do printf %s "${T:$i:1}"; i=$((i+1)); done; echo .'
    ran = base.with_secret_variable("T", secret).with_exec(["bash", "-c", script])
    assert await ran.stdout() == "***.\n"


async def test_a_secret_is_masked_wherever_it_comes(base, dag, unique):
    secret = dag.set_secret("often", f"often-{unique}")
    ran = base.with_secret_variable("T", secret).with_exec(
        ["sh", "-c", 'echo "$T-$T"; echo a${T}b']
    )
    assert await ran.stdout() == "***-***\na***b\n"


async def test_several_secrets_are_masked(base, dag, unique):
    made = base.with_secret_variable("A", dag.set_secret("a", f"first-{unique}"))
    made = made.with_secret_variable("B", dag.set_secret("b", f"second-{unique}"))
    ran = made.with_exec(["sh", "-c", 'echo "$A $B plain"'])
    assert await ran.stdout() == "*** *** plain\n"


async def test_a_secret_of_several_lines_is_masked(base, dag, unique):
    secret = dag.set_secret("lines", f"one-{unique}\ntwo-{unique}")
    ran = base.with_secret_variable("T", secret).with_exec(["sh", "-c", 'printf "<%s>" "$T"'])
    assert await ran.stdout() == "<***>"


async def test_a_secret_is_masked_without_the_white_space_around_it(base, dag, unique):
    secret = dag.set_secret("padded", f"  padded-{unique}\n")
    ran = base.with_secret_variable("T", secret).with_exec(["sh", "-c", "echo $T"])
    assert await ran.stdout() == "***\n"


async def test_a_mounted_secret_is_masked_in_output(base, dag, unique):
    secret = dag.set_secret("file", f"content-{unique}")
    ran = base.with_mounted_secret("/run/key", secret).with_exec(["cat", "/run/key"])
    assert await ran.stdout() == "***"


async def test_a_mounted_secret_is_read_by_its_owner_only_and_belongs_to_root(base, dag, unique):
    secret = dag.set_secret("file", f"content-{unique}")
    ran = base.with_mounted_secret("/run/key", secret).with_exec(
        ["stat", "-c", "%a %u:%g", "/run/key"]
    )
    assert await ran.stdout() == "400 0:0\n"


async def test_a_secret_is_masked_where_failure_is_expected(base, dag, unique):
    secret = dag.set_secret("any", f"any-{unique}")
    ran = base.with_secret_variable("T", secret).with_exec(
        ["sh", "-c", 'echo "$T"; exit 1'], expect=dagger.ReturnType.ANY
    )
    assert await ran.stdout() == "***\n"


async def test_a_removed_secret_variable_is_not_set(base, dag, unique):
    made = base.with_secret_variable("T", dag.set_secret("gone", unique))
    ran = made.without_secret_variable("T").with_exec(["sh", "-c", "echo ${T-unset}"])
    assert await ran.stdout() == "unset\n"


async def test_a_secret_knows_its_name(dag):
    assert await dag.set_secret("its-name", "value").name() == "its-name"


async def test_a_secret_from_elsewhere_knows_its_address(dag):
    assert await dag.secret("env://HOME").uri() == "env://HOME"


async def test_secrets_of_different_names_are_apart(dag):
    first, second = dag.set_secret("one", "1"), dag.set_secret("two", "2")
    assert (await first.plaintext(), await second.plaintext()) == ("1", "2")


async def test_a_secret_is_not_in_what_is_exported(base, dag, unique):
    made = (
        base.with_secret_variable("T", dag.set_secret("v", f"variable-{unique}"))
        .with_mounted_secret("/run/key", dag.set_secret("m", f"mounted-{unique}"))
        .with_exec(["true"])
    )
    again = dag.container().import_(made.as_tarball())
    assert await again.env_variable("T") is None
    ran = again.with_exec(["sh", "-c", "cat /run/key 2>/dev/null; echo end"])
    assert await ran.stdout() == "end\n"


async def test_the_id_of_a_secret_does_not_tell_it(dag, unique):
    identity = await dag.set_secret("id", unique).id()
    assert unique not in str(identity)
