"""Container.withExec: the surroundings of a command: variables, user, folder, entrypoint."""

from __future__ import annotations

import dagger
import pytest


async def test_the_working_directory_is_the_root_by_default(base):
    assert await base.with_exec(["pwd"]).stdout() == "/\n"


async def test_without_a_working_directory_it_is_the_root_again(base):
    assert await base.with_workdir("/srv").without_workdir().with_exec(["pwd"]).stdout() == "/\n"


async def test_the_user_is_root_by_default(base):
    assert await base.with_exec(["sh", "-c", "id -u; id -g"]).stdout() == "0\n0\n"


@pytest.mark.parametrize(
    ("user", "ids"), [("nobody", "65534 65534"), ("1234:5678", "1234 5678"), ("1234", "1234 0")]
)
async def test_a_user_is_a_name_or_ids(base, user, ids):
    ran = base.with_user(user).with_exec(["sh", "-c", "echo $(id -u) $(id -g)"])
    assert await ran.stdout() == f"{ids}\n"


async def test_a_user_that_is_not_there_is_an_error(base):
    with pytest.raises(dagger.QueryError):
        await base.with_user("nosuchuser").with_exec(["true"]).sync()


async def test_without_a_user_it_is_root_again(base):
    ran = base.with_user("nobody").without_user().with_exec(["id", "-u"])
    assert await ran.stdout() == "0\n"


async def test_path_is_added_where_it_is_not_set(base, dag):
    bare = dag.container().with_rootfs(base.rootfs())
    assert await bare.env_variable("PATH") is None
    assert "/usr/bin" in await bare.with_exec(["sh", "-c", "echo $PATH"]).stdout()


async def test_path_that_is_set_is_kept_and_commands_are_found_by_it(base):
    container = base.with_new_file("/mine/tool", "#!/bin/sh\necho $PATH\n", permissions=0o755)
    ran = container.with_env_variable("PATH", "/mine:/bin").with_exec(["tool"])
    assert await ran.stdout() == "/mine:/bin\n"


async def test_variables_reach_every_later_exec_until_they_are_removed(base):
    chain = base.with_env_variable("A", "1").with_exec(["true"])
    assert await chain.with_exec(["printenv", "A"]).stdout() == "1\n"
    gone = chain.without_env_variable("A").with_exec(["sh", "-c", "echo ${A-unset}"])
    assert await gone.stdout() == "unset\n"


async def test_a_variable_may_hold_anything_but_nul(base):
    value = "two\nlines = $X \"quoted\" 'é✓' \\"
    ran = base.with_env_variable("A", value).with_exec(["sh", "-c", 'printf %s "$A"'])
    assert await ran.stdout() == value


async def test_an_empty_variable_is_set(base):
    ran = base.with_env_variable("A", "").with_exec(["sh", "-c", "echo ${A-unset}."])
    assert await ran.stdout() == ".\n"


async def test_entrypoint_and_default_args_run_together(base):
    container = base.with_entrypoint(["echo", "entry"]).with_default_args(["default"])
    assert await container.with_exec([], use_entrypoint=True).stdout() == "entry default\n"
    assert await container.with_exec(["mine"], use_entrypoint=True).stdout() == "entry mine\n"


async def test_the_entrypoint_alone_is_a_command(base):
    container = base.with_entrypoint(["echo", "entry"])
    assert await container.with_exec([], use_entrypoint=True).stdout() == "entry\n"


async def test_no_command_at_all_is_an_error(base, dag):
    bare = dag.container().with_rootfs(base.rootfs())
    with pytest.raises(dagger.QueryError, match="no command has been set"):
        await bare.with_exec([]).sync()


async def test_a_script_runs_by_its_first_line(base):
    script = "#!/bin/sh\necho script $1\n"
    container = base.with_new_file("/s", script, permissions=0o755)
    assert await container.with_exec(["/s", "arg"]).stdout() == "script arg\n"


async def test_a_relative_command_is_found_from_the_working_directory(base):
    container = base.with_new_file("/srv/run", "#!/bin/sh\npwd\n", permissions=0o755)
    assert await container.with_workdir("/srv").with_exec(["./run"]).stdout() == "/srv\n"


async def test_a_file_that_may_not_be_executed_is_an_error(base):
    with pytest.raises(dagger.QueryError):
        await base.with_new_file("/f", "text", permissions=0o644).with_exec(["/f"]).sync()


async def test_privileged_execs_run(base):
    ran = base.with_exec(["echo", "ran"], insecure_root_capabilities=True)
    assert await ran.stdout() == "ran\n"


async def test_an_exec_without_init_runs(base):
    assert await base.with_exec(["echo", "ran"], no_init=True).stdout() == "ran\n"


async def test_devices_and_the_process_list_are_there(base):
    script = "echo x > /dev/null; head -c 8 /dev/urandom | wc -c; test -d /proc/self && echo proc"
    assert await base.with_exec(["sh", "-c", script]).stdout() == "8\nproc\n"


async def test_a_processs_own_children_are_all_that_it_sees(base):
    ran = base.with_exec(["sh", "-c", "ls /proc | grep -c '^[0-9]'"])
    assert int(await ran.stdout()) < 12


async def test_tmp_may_be_written_by_everybody(base):
    ran = base.with_user("nobody").with_exec(["sh", "-c", "echo 1 > /tmp/f && cat /tmp/f"])
    assert await ran.stdout() == "1\n"


async def test_localhost_has_an_address(base):
    assert "127.0.0.1" in await base.with_exec(["cat", "/etc/hosts"]).stdout()
