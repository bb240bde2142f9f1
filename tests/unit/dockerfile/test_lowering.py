"""Instructions as vertices and configuration; nothing is run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ci.engine.dockerfile.build import assemble
from ci.engine.dockerfile.fault import DockerfileError
from ci.engine.dockerfile.parser import parse
from ci.engine.dockerfile.plan import make_plan
from ci.engine.dockerfile.state import Request
from ci.engine.vertices.container import ContainerState
from ci.engine.vertices.execution import DEFAULT_PATH
from ci.engine.vertices.vertex import (
    BindMount,
    CacheMount,
    DirectoryRef,
    DockerCopy,
    Exec,
    ExecRootOutput,
    Http,
    ImageRoot,
    NewFile,
    Scratch,
    SecretMount,
    SecretRef,
    Sharing,
    TmpfsMount,
)
from ci.errors import CiError

CONTEXT = DirectoryRef(tree=ImageRoot(image_digest="context"), path="/ctx")
PLATFORM = "linux/amd64"


async def lowered(text, *, images=None, target="", secrets=(), **build_args) -> ContainerState:
    """The container of a Dockerfile; images have the configuration that is given."""

    async def image_of(empty: ContainerState, address: str) -> ContainerState:
        config = (images or {}).get(address, {"Env": ["PATH=/bin"]})
        return empty.from_image(address, "sha256:" + address, {"config": config}, PLATFORM)

    plan = make_plan(
        parse(text, "Dockerfile"), platform=PLATFORM, build_args=build_args, target=target
    )
    known = {name: SecretRef(name=name) for name in secrets}
    return await assemble(
        plan, Request(context=CONTEXT, platform=PLATFORM, secrets=known), image_of
    )


async def ran(text, *, start="FROM a\n", **options) -> Exec:
    """The last exec of a Dockerfile."""
    root = (await lowered(start + text, **options)).root
    assert isinstance(root, ExecRootOutput)
    return root.exec


async def copied(text, **options) -> DockerCopy:
    """The last copy of a Dockerfile."""
    root = (await lowered("FROM a\n" + text, **options)).root
    assert isinstance(root, DockerCopy)
    return root


async def fault(text, **options) -> str:
    with pytest.raises(DockerfileError) as caught:
        await lowered(text, **options)
    return str(caught.value)


# -- variables -----------------------------------------------------------------------------------


async def test_env_is_kept_and_arg_is_not():
    made = await lowered("FROM a\nARG A=1\nENV B=$A C=x\nENV C=y D=$C\nRUN x")
    assert made.env == (("PATH", "/bin"), ("B", "1"), ("C", "y"), ("D", "x"))
    exec_ = await ran("ARG A=1\nENV B=$A\nRUN x")
    assert exec_.env == (("A", "1"), ("B", "1"), ("PATH", "/bin"))


async def test_the_later_of_arg_and_env_wins():
    exec_ = await ran("ENV A=env\nARG A=arg\nRUN x")
    assert dict(exec_.env)["A"] == "arg"
    exec_ = await ran("ARG A=arg\nENV A=env\nRUN x", A="given")
    assert dict(exec_.env)["A"] == "env"


async def test_an_argument_takes_what_is_given_then_its_default_then_the_global_one():
    text = "ARG G=global\nFROM a\nARG G\nARG D=default\nARG N\nARG TARGETARCH\nRUN x"
    exec_ = await ran(text, start="", D="given")
    assert dict(exec_.env) == {
        "G": "global", "D": "given", "TARGETARCH": "amd64", "PATH": "/bin",
    }  # fmt: skip


async def test_a_stage_inherits_the_arguments_of_the_one_it_starts_from():
    exec_ = await ran("FROM a AS b\nARG A=1\nFROM b\nRUN x", start="")
    assert dict(exec_.env)["A"] == "1"


async def test_proxies_are_given_to_commands_but_are_in_no_key():
    exec_ = await ran("RUN x", http_proxy="http://p")
    assert exec_.volatile_env == (("HTTP_PROXY", "http://p"), ("http_proxy", "http://p"))
    assert exec_.digest == (await ran("RUN x")).digest


# -- configuration -------------------------------------------------------------------------------


async def test_an_image_from_nothing_has_docker_defaults():
    made = await lowered("FROM scratch\nLABEL a=b")
    assert isinstance(made.root, Scratch)
    assert made.image_config()["config"] == {
        "Env": ["PATH=" + DEFAULT_PATH], "WorkingDir": "/", "Labels": {"a": "b"},
    }  # fmt: skip


async def test_all_of_the_configuration_is_written():
    made = await lowered(
        "FROM a\n"
        "LABEL a=b\nUSER app:grp\nEXPOSE 90/udp 80 8000-8001\nVOLUME /b /a\nSTOPSIGNAL SIGINT\n"
        'SHELL ["/bin/bash", "-c"]\nENTRYPOINT ["e"]\nCMD run it\nMAINTAINER me\n'
        "HEALTHCHECK --interval=1.5s --retries=2 CMD ok\nONBUILD RUN x\n"
    )
    assert made.image_config() == {
        "architecture": "amd64",
        "os": "linux",
        "author": "me",
        "config": {
            "User": "app:grp",
            "ExposedPorts": {"80/tcp": {}, "8000/tcp": {}, "8001/tcp": {}, "90/udp": {}},
            "Env": ["PATH=/bin"],
            "Entrypoint": ["e"],
            "Cmd": ["/bin/bash", "-c", "run it"],
            "Volumes": {"/a": {}, "/b": {}},
            "Labels": {"a": "b"},
            "StopSignal": "SIGINT",
            "Shell": ["/bin/bash", "-c"],
            "OnBuild": ["RUN x"],
            "ArgsEscaped": True,
            "Healthcheck": {"Test": ["CMD-SHELL", "ok"], "Interval": 1_500_000_000, "Retries": 2},
        },
    }


async def test_an_entrypoint_resets_an_inherited_command_but_not_its_own_stage_s():
    images = {"a": {"Cmd": ["old"], "Env": ["PATH=/bin"]}}
    assert (await lowered("FROM a\nUSER x", images=images)).default_args == ("old",)
    assert (await lowered('FROM a\nENTRYPOINT ["e"]', images=images)).default_args == ()
    made = await lowered('FROM a\nCMD ["c"]\nENTRYPOINT ["e"]', images=images)
    assert made.default_args == ("c",)
    made = await lowered('FROM a AS b\nCMD ["c"]\nFROM b\nENTRYPOINT ["e"]', images=images)
    assert made.default_args == ()


async def test_an_inherited_health_check_can_be_taken_away():
    images = {"a": {"Healthcheck": {"Test": ["CMD", "x"]}}}
    made = await lowered("FROM a\nHEALTHCHECK NONE", images=images)
    assert made.healthcheck is None
    assert made.image_config()["config"]["Healthcheck"] == {"Test": ["NONE"]}


async def test_workdirs_join_and_are_made_by_the_user():
    made = await lowered("FROM a\nENV D=b\nWORKDIR /a\nUSER app\nWORKDIR $D/../c\nWORKDIR .")
    assert made.workdir == "/a/c"
    assert isinstance(made.root, DockerCopy)
    assert (made.root.destination, made.root.sources) == ("/a/c/", ())
    assert made.root.owner is not None
    assert made.root.owner.spec == "app"


async def test_ports_are_listed_and_not_waited_for():
    (port,) = (await lowered("FROM a\nEXPOSE 80")).ports
    assert (port.port, port.skip_healthcheck) == (80, True)


async def test_triggers_run_where_the_next_image_begins():
    images = {"a": {"OnBuild": ["ENV A=1", "RUN --network=none t"], "Env": ["PATH=/bin"]}}
    made = await lowered("FROM a\nENV B=$A", images=images)
    assert (made.env[1:], made.on_build) == ((("A", "1"), ("B", "1")), ())
    assert isinstance(made.root, ExecRootOutput)
    assert made.root.exec.offline
    made = await lowered("FROM x AS a\nONBUILD ENV T=1\nFROM a AS b\nFROM b\nUSER u")
    assert made.env[1:] == (("T", "1"),)


async def test_a_trigger_may_copy_from_a_stage_that_nothing_else_needs():
    images = {"a": {"OnBuild": ["COPY --from=lib /l /l"]}}
    made = await lowered("FROM scratch AS base\nFROM base AS lib\nFROM a", images=images)
    assert isinstance(made.root, DockerCopy)


# -- copies --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("destination", "expected"),
    [
        ("/x", "/x"),
        ("/x/", "/x/"),
        ("x", "/w/x"),
        ("x/", "/w/x/"),
        (".", "/w/"),
        ("./", "/w/"),
        ("/x/.", "/x/"),
        ("..", "/"),
        ("/", "/"),
        ("$D", "/e/f/"),
    ],
)
async def test_destinations_start_at_the_workdir(destination, expected):
    made = await copied(f"ENV D=/e/f/\nWORKDIR /w\nCOPY a {destination}")
    assert made.destination == expected


async def test_sources_start_at_the_top_of_the_context_and_cannot_leave_it():
    made = await copied("COPY ./a ../../b /c/ d/")
    assert [(s.source, s.path) for s in made.sources] == [
        (CONTEXT, "/a"), (CONTEXT, "/b"), (CONTEXT, "/c"),
    ]  # fmt: skip
    assert made.origin == "Dockerfile:2"


async def test_copy_from_a_stage_takes_its_root():
    made = await lowered("FROM x AS s\nFROM a\nCOPY --from=s --chown=$U --chmod=u+x /f /t", U="1")
    assert isinstance(made.root, DockerCopy)
    (source,) = made.root.sources
    assert (source.source.tree, source.source.path) == (
        ImageRoot(image_digest="sha256:x"), "/",
    )  # fmt: skip
    assert (made.root.owner, made.root.mode) == (None, "u+x")


async def test_only_add_extracts():
    assert not (await copied("COPY a.tar /")).sources[0].unpack
    assert (await copied("ADD a.tar /")).sources[0].unpack
    assert not (await copied("ADD --unpack=false a.tar /")).sources[0].unpack


async def test_add_downloads_by_the_name_in_the_url():
    digest = "sha256:" + "0" * 64
    made = await copied(f"ADD --checksum={digest} https://h/a%20b.tgz?x=1 /d/")
    (source,) = made.sources
    url = "https://h/a%20b.tgz?x=1"
    assert source.source.tree == Http(url=url, name="a b.tgz", checksum=digest)
    assert not source.unpack


async def test_parents_are_kept_below_the_pivot():
    first, second = (await copied("COPY --parents a/b/*.c x/./y/z /d/")).sources
    assert (first.path, first.below) == ("/", "a/b/*.c")
    assert (second.path, second.below) == ("/x", "y/z")


async def test_documents_are_expanded_unless_quoted():
    made = await copied("ENV A=1\nCOPY <<x <<'y' /d/\n\"$A\"\nx\n$A\ny\n")
    files = [source.source.tree for source in made.sources]
    assert [(f.path, f.contents) for f in files if isinstance(f, NewFile)] == [
        ("/x", b'"1"\n'), ("/y", b"$A\n"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("COPY https://x/y /z", "Dockerfile:2: COPY: got the URL"),
        ("ADD https://github.com/a/b.git /z", "Dockerfile:2: ADD: got the git repository"),
        ("ADD git@github.com:a/b.git /z", "the git repository"),
        ("ADD --checksum=sha256:00 https://x/y /z", "--checksum=sha256:00"),
        ("ADD --checksum=sha256:00 x /z", "--checksum of 'x'"),
        ("COPY --chmod=999 a b", "--chmod=999"),
        ("COPY --chmod=u~x a b", "--chmod=u~x"),
        ("COPY ${A a b", "Dockerfile:2: COPY: got no closing }"),
        ("EXPOSE 70000", "Dockerfile:2: EXPOSE: got '70000'"),
        ("EXPOSE 80/icmp", "tcp, udp or sctp"),
        ("EXPOSE 9-8", "'9-8'"),
        ("STOPSIGNAL SIGTRM", "did you mean TERM"),
        ("ENV ${E}=1", "Dockerfile:2: ENV"),
        ("ARG A=${B?unset}", "Dockerfile:2: ARG: got B: unset"),
        ("RUN --mount=type=ssh x", "--mount=type=ssh"),
        ("RUN --mount=type=bnd,target=/x y", "did you mean bind?"),
        ("RUN --mount=type=tmpfs,target=/ y", "the mount target /"),
        ("RUN --mount=type=tmpfs,target=/x,size=big y", "size=big"),
        ("RUN --mount=type=cache,target=/x,sharing=some y", "sharing=some"),
        ("RUN --mount=type=cache,target=/x,mode=9 y", "mode=9"),
        ("RUN --mount=type=cache,target=/x,uid=me y", "uid=me"),
        ("RUN --mount=type=bind,target=/x,id=y z", "id= on a bind mount"),
        ("RUN --mount=type=secret x", "a secret without a name"),
        ("RUN --mount=type=secret,id=a,source=b x", "both id= and source="),
        ("RUN --mount=type=secret,id=tokn,required x", "did you mean token?"),
        ("RUN []", "RUN: got []"),
    ],
)
async def test_what_cannot_be_done_is_told_with_its_line(text, said):
    assert said in await fault("FROM a\n" + text, secrets=["token"])


async def test_another_platform_is_refused_where_it_is_needed():
    said = await fault("FROM --platform=linux/s390x a AS b\nFROM b")
    assert said.startswith("Dockerfile:1: FROM --platform: got 'linux/s390x'; expected linux/amd64")
    assert (await lowered("FROM --platform=linux/s390x a AS b\nFROM c")).root is not None
    assert (await lowered("FROM --platform=amd64 a")).platform == PLATFORM


# -- commands ------------------------------------------------------------------------------------


async def test_commands_run_in_the_shell_or_as_they_are():
    assert (await ran("RUN a  b")).args == ("/bin/sh", "-c", "a  b")
    assert (await ran('RUN ["a", "$B"]')).args == ("a", "$B")
    assert (await ran('SHELL ["bash", "-ec"]\nRUN a')).args == ("bash", "-ec", "a")


async def test_commands_run_where_and_as_whom_the_stage_says():
    exec_ = await ran("WORKDIR /w\nUSER u\nRUN x")
    assert (exec_.workdir, exec_.user) == ("/w", "u")


async def test_a_heredoc_alone_is_the_script():
    assert (await ran("RUN <<E\na\nb\nE\n")).args == ("/bin/sh", "-c", "a\nb\n")


async def test_a_heredoc_with_an_interpreter_is_a_file():
    exec_ = await ran("RUN <<E\n#!/usr/bin/env python3\nE\n")
    assert exec_.args == ("/dev/pipes/E",)
    (mount,) = exec_.mounts
    assert isinstance(mount, BindMount)
    assert isinstance(mount.source.tree, NewFile)
    assert mount.source.tree.permissions == 0o755


async def test_a_heredoc_within_a_command_is_the_shell_s():
    assert (await ran("RUN cat <<E >/x\na\nE\n")).args[2] == "cat <<E >/x\na\nE"


async def test_a_command_may_be_without_network():
    assert (await ran("RUN --network=none x")).offline
    assert not (await ran("RUN x")).offline


async def test_mounts_become_the_engine_s_own():
    exec_ = await ran(
        "WORKDIR /w\nARG C=/c\n"
        "RUN --mount=target=src,source=s --mount=from=img,target=/i,rw "
        "--mount=type=cache,target=$C,sharing=locked,uid=1,mode=0700 "
        "--mount=type=tmpfs,target=/t,size=1m x"
    )
    source, image, cache, tmpfs = exec_.mounts
    assert isinstance(source, BindMount)
    assert (source.path, source.source.path, source.read_only) == ("/w/src", "/ctx/s", True)
    assert isinstance(image, BindMount)
    assert (image.source.tree, image.read_only) == (ImageRoot(image_digest="sha256:img"), False)
    assert isinstance(cache, CacheMount)
    assert (cache.path, cache.sharing, cache.permissions) == ("/c", Sharing.LOCKED, 0o700)
    assert cache.owner is not None
    assert cache.owner.spec == "1:0"
    assert isinstance(tmpfs, TmpfsMount)
    assert tmpfs.size_bytes == 1 << 20


async def test_secrets_are_files_variables_or_both():
    secrets = ["a", "b"]
    exec_ = await ran("RUN --mount=type=secret,id=a x", secrets=secrets)
    (mount,) = exec_.mounts
    assert isinstance(mount, SecretMount)
    assert (mount.path, mount.mode, mount.secret.name) == ("/run/secrets/a", 0o400, "a")
    exec_ = await ran("RUN --mount=type=secret,id=b,env=B x", secrets=secrets)
    assert (exec_.mounts, exec_.secret_env) == ((), (("B", SecretRef(name="b")),))
    exec_ = await ran(
        "RUN --mount=type=secret,target=/k/a,uid=5,mode=0440,env=A x", secrets=secrets
    )
    (mount,) = exec_.mounts
    assert isinstance(mount, SecretMount)
    assert (mount.path, mount.mode, len(exec_.secret_env)) == ("/k/a", 0o440, 1)


async def test_a_secret_that_is_not_passed_is_left_out_unless_it_is_required():
    exec_ = await ran("RUN --mount=type=secret,id=none x")
    assert exec_.mounts == ()


async def test_an_image_that_is_not_had_is_told_with_the_nearest_stage():
    async def image_of(empty: ContainerState, address: str) -> ContainerState:
        raise CiError(f"image {address}", got="no such image")

    plan = make_plan(
        parse("FROM scratch AS builder\nFROM scratch\nCOPY --from=biulder /x /x", "Dockerfile"),
        platform=PLATFORM,
        build_args={},
    )
    with pytest.raises(CiError) as caught:
        await assemble(plan, Request(context=CONTEXT, platform=PLATFORM, secrets={}), image_of)
    assert str(caught.value) == (
        "Dockerfile:3: image biulder: got no such image\nhint: did you mean builder?"
    )


async def test_the_same_text_gives_the_same_vertices():
    text = "FROM a\nCOPY a b\nRUN --mount=type=cache,target=/c x\n"
    first, second = await lowered(text), await lowered("# c\n" + text)
    assert first.root.digest == second.root.digest
    assert replace(first).digest == second.digest
