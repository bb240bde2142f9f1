"""Directory.docker_build: what holds on both engines."""

from __future__ import annotations

import dagger
import pytest

from .conftest import IMAGE


@pytest.fixture
def context(dag, unique):
    """Makes build contexts: a Dockerfile, and files by their paths."""

    def make(dockerfile: str, name: str = "Dockerfile", **files: str) -> dagger.Directory:
        text = dockerfile.replace("IMAGE", IMAGE).replace("UNIQUE", unique)
        made: dagger.Directory = dag.directory().with_new_file(name, text)
        for path, contents in files.items():
            made = made.with_new_file(path.replace("__", "/"), contents)
        return made

    return make


async def test_commands_run_and_what_they_write_is_kept(context):
    built = context("FROM IMAGE\nRUN echo made > /a && rm /etc/debian_version\n").docker_build()
    assert await built.file("/a").contents() == "made\n"
    assert not await built.exists("/etc/debian_version")


async def test_files_of_the_context_are_copied(context):
    built = context(
        "FROM IMAGE\nCOPY one dir /to/\nCOPY dir/ /in/sub\nCOPY one /as\n",
        one="1", dir__two="2", dir__deep__three="3",
    ).docker_build()  # fmt: skip
    assert sorted(await built.directory("/to").glob("**")) == ["deep/", "deep/three", "one", "two"]
    assert await built.file("/in/sub/deep/three").contents() == "3"
    assert await built.file("/as").contents() == "1"


async def test_patterns_name_several_files(context):
    built = context(
        "FROM IMAGE\nCOPY *.a d?r/x* /to/\n", **{"1.a": "", "2.a": "", "3.b": "", "dir__x1": ""}
    ).docker_build()
    assert sorted(await built.directory("/to").entries()) == ["1.a", "2.a", "x1"]


@pytest.mark.usefixtures("_owners")
async def test_owners_and_permissions_can_be_given(context):
    built = context(
        "FROM IMAGE\nCOPY --chown=nobody:daemon --chmod=640 f /f\nCOPY --chown=5:6 f /new/dir/f\n"
        "RUN stat -c '%U:%G %a' /f > /out && stat -c '%u:%g' /new/dir/f >> /out\n",
        f="x",
    ).docker_build()
    assert await built.file("/out").contents() == "nobody:daemon 640\n5:6\n"


async def test_what_dockerignore_names_is_not_there(context):
    files = {"keep.txt": "", "drop.txt": "", "dir__a.log": "", "dir__b": "", "node__x": ""}
    source = context("FROM IMAGE\nCOPY . /all/\n", **files)
    ignoring = source.with_new_file(".dockerignore", "# c\n*.txt\n!keep.txt\n**/*.log\nnode\n")
    found = await ignoring.docker_build().directory("/all").glob("**")
    assert {"keep.txt", "dir/b"} <= set(found)
    assert not {"drop.txt", "dir/a.log", "node/x"} & set(found)


async def test_another_dockerfile_of_the_context_can_be_named(context):
    source = context("FROM IMAGE\nCOPY f /f\n", name="sub/Other", f="1")
    built = source.docker_build(dockerfile="sub/Other")
    assert await built.file("/f").contents() == "1"


async def test_stages_hand_files_on(context):
    built = context(
        "FROM IMAGE AS first\nRUN mkdir /out && echo 1 > /out/f && ln -s f /out/l\n"
        "FROM first AS second\nRUN echo 2 >> /out/f\n"
        "FROM IMAGE\nCOPY --from=second /out /a\nCOPY --from=0 /out/l /b\n"
    ).docker_build()
    assert await built.file("/a/f").contents() == "1\n2\n"
    assert await built.file("/b").contents() == "1\n"
    assert not await built.exists("/out")


async def test_a_stage_can_be_the_target_and_later_ones_do_not_run(context):
    source = context("FROM IMAGE AS one\nENV AT=one\nFROM one AS two\nRUN exit 3\n")
    assert await source.docker_build(target="one").env_variable("AT") == "one"


async def test_stages_that_nothing_needs_do_not_run(context):
    built = context("FROM IMAGE AS bad\nRUN exit 3\nFROM IMAGE\nRUN echo UNIQUE > /ok\n")
    assert await built.docker_build().file("/ok").size() > 0


async def test_build_arguments_win_over_defaults(context):
    source = context(
        "ARG BASE=none\nFROM $BASE\nARG A=default\nARG B=default\nARG C\n"
        "ENV ALL=$A-$B-${C:-unset}\nRUN echo $ALL > /all\n"
    )
    built = source.docker_build(
        build_args=[dagger.BuildArg("BASE", IMAGE), dagger.BuildArg("B", "given")]
    )
    assert await built.env_variable("ALL") == "default-given-unset"
    assert await built.file("/all").contents() == "default-given-unset\n"


async def test_variables_are_replaced_as_in_a_shell(context):
    built = context(
        "FROM IMAGE\nENV A=1 B=\"two words\"\nENV A=2 C=$A D=${A:+set} E='$A' F=\\$A\n"
    ).docker_build()
    found = {name: await built.env_variable(name) for name in "ABCDEF"}
    assert found == {"A": "2", "B": "two words", "C": "1", "D": "set", "E": "$A", "F": "$A"}


async def test_the_image_is_configured(context):
    built = context(
        'FROM IMAGE\nWORKDIR /srv\nWORKDIR app\nUSER nobody\nLABEL a=b c="d e"\n'
        'EXPOSE 8080 53/udp\nENTRYPOINT ["echo"]\nCMD ["hi", "there"]\n'
    ).docker_build()
    assert await built.workdir() == "/srv/app"
    assert await built.user() == "nobody"
    assert await built.label("c") == "d e"
    assert await built.entrypoint() == ["echo"]
    assert await built.default_args() == ["hi", "there"]
    ports = {(await port.port(), await port.protocol()) for port in await built.exposed_ports()}
    assert ports == {(8080, dagger.NetworkProtocol.TCP), (53, dagger.NetworkProtocol.UDP)}
    assert await built.with_exec([], use_entrypoint=True).stdout() == "hi there\n"


async def test_a_working_directory_is_made(context):
    built = context("FROM IMAGE\nWORKDIR /new/deep\nRUN pwd > here\n").docker_build()
    assert await built.file("/new/deep/here").contents() == "/new/deep\n"


async def test_commands_are_run_by_the_shell_that_is_named(context):
    built = context('FROM IMAGE\nSHELL ["/bin/bash", "-c"]\nRUN [[ a == a ]] && echo 1 > /ok\n')
    assert await built.docker_build().file("/ok").contents() == "1\n"


async def test_heredocs_are_scripts_and_files(context):
    built = context(
        "FROM IMAGE\nARG A=1\nRUN <<EOF\nset -e\necho one > /r\necho two >> /r\nEOF\n"
        "COPY <<EOF /c\n$A\nEOF\nCOPY <<'EOF' /q\n$A\nEOF\n"
    ).docker_build()
    assert await built.file("/r").contents() == "one\ntwo\n"
    assert await built.file("/c").contents() == "1\n"
    assert await built.file("/q").contents() == "$A\n"


async def test_lines_go_on_over_comments(context):
    built = context("FROM IMAGE\nRUN echo a \\\n# why\n  b \\\n\n  c > /x\n").docker_build()
    assert await built.file("/x").contents() == "a b c\n"


async def test_binds_and_scratch_space_leave_nothing(context):
    built = context(
        "FROM IMAGE\nRUN --mount=type=bind,target=/ctx --mount=type=tmpfs,target=/scratch "
        "cp /ctx/f /g && touch /scratch/x\n",
        f="bound",
    ).docker_build()
    assert await built.file("/g").contents() == "bound"
    assert not await built.exists("/ctx/f")
    assert not await built.exists("/scratch/x")


async def test_cache_mounts_are_kept_between_commands(context):
    built = context(
        "FROM IMAGE\nRUN --mount=type=cache,target=/c,id=UNIQUE echo kept > /c/f\n"
        "RUN --mount=type=cache,target=/d,id=UNIQUE cp /d/f /f\n"
    ).docker_build()
    assert await built.file("/f").contents() == "kept\n"
    assert not await built.exists("/c/f")


async def test_secrets_reach_a_command_and_no_file(dag, context, unique):
    secret = dag.set_secret("token", f"s3cret-{unique}")
    built = context(
        "FROM IMAGE\nRUN --mount=type=secret,id=token wc -c < /run/secrets/token > /n\n"
    ).docker_build(secrets=[secret])
    assert int(await built.file("/n").contents()) == len(f"s3cret-{unique}")
    left = [
        await built.rootfs().file(path).size()
        for path in await built.rootfs().glob("run/secrets/*")
    ]
    assert not any(left)


async def test_a_result_is_a_container_like_any_other(context):
    built = context("FROM IMAGE\nENV A=1\nRUN echo 1 > /f\n").docker_build()
    more = built.with_exec(["sh", "-c", "echo $A >> /f"])
    assert await more.file("/f").contents() == "1\n1\n"


@pytest.mark.parametrize(
    "dockerfile",
    [
        "FROM IMAGE\nRUNN x\n",
        "FROM IMAGE\nCOPY nothing /x\n",
        "FROM IMAGE\nRUN exit 3\n",
        "RUN x\n",
    ],
)
async def test_what_is_wrong_is_an_error(context, dockerfile):
    with pytest.raises(dagger.QueryError):
        await context(dockerfile).docker_build().sync()


async def test_an_archive_is_extracted_by_add_only(context, base):
    tar = base.with_exec(
        ["sh", "-c", "mkdir /d && echo 1 > /d/f && tar -czf /a.tar.gz -C /d ."]
    ).file("/a.tar.gz")
    source = context("FROM IMAGE\nADD a.tar.gz /added/\nCOPY a.tar.gz /copied/\n")
    built = source.with_file("a.tar.gz", tar).docker_build()
    assert await built.file("/added/f").contents() == "1\n"
    assert await built.directory("/copied").entries() == ["a.tar.gz"]
