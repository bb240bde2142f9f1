"""Directory.dockerBuild of the embedded engine: what it refuses, and what its result is."""

from __future__ import annotations

import dagger
import pytest

FROM = "FROM debian:bookworm-slim\n"


@pytest.fixture
def context(dag):
    def make(dockerfile: str) -> dagger.Directory:
        made: dagger.Directory = dag.directory().with_new_file("Dockerfile", dockerfile)
        return made

    return make


async def test_a_fault_is_one_error_with_its_line(context):
    with pytest.raises(dagger.QueryError) as caught:
        await context(FROM + "RUN true\nCOPPY a b\n").docker_build().sync()
    assert str(caught.value).startswith("Dockerfile:3: instruction: got 'COPPY'; expected one of")
    assert "did you mean COPY?" in str(caught.value)


async def test_a_failing_command_has_its_code_and_output(context):
    with pytest.raises(dagger.ExecError) as caught:
        await context(FROM + "RUN echo said >&2; exit 7\n").docker_build().sync()
    assert (caught.value.exit_code, caught.value.stderr) == (7, "said")


async def test_another_processor_is_refused(context):
    with pytest.raises(dagger.QueryError, match=r"Directory\.dockerBuild\(platform:\)"):
        await context(FROM).docker_build(platform=dagger.Platform("linux/s390x")).sync()


async def test_the_agent_s_socket_is_refused(dag, context):
    with pytest.raises(dagger.QueryError, match=r"Directory\.dockerBuild\(ssh:\)"):
        await context(FROM).docker_build(ssh=dag.host().unix_socket("/nothing")).sync()


async def test_a_dockerfile_cannot_be_outside_of_the_directory(context):
    with pytest.raises(dagger.QueryError, match="expected one inside the directory"):
        await context(FROM).docker_build(dockerfile="../Dockerfile").sync()


async def test_an_image_that_is_nowhere_is_told_with_its_line(context):
    with pytest.raises(dagger.QueryError, match="Dockerfile:2: "):
        await context("# c\nFROM localhost:1/none:1\n").docker_build().sync()


async def test_its_secrets_stay_mounted_in_later_execs(dag, context):
    built = context(FROM + "RUN true\n").docker_build(secrets=[dag.set_secret("tok", "s3same")])
    assert await built.with_exec(["wc", "-c", "/run/secrets/tok"]).stdout() == (
        "6 /run/secrets/tok\n"
    )
    assert not await built.rootfs().exists("run/secrets/tok")


async def test_a_secret_by_uri_is_named_by_its_last_part(dag, context, tmp_path):
    (tmp_path / "pass.txt").write_text("s3same")
    built = context(
        FROM + "RUN --mount=type=secret,id=pass.txt,required wc -c < /run/secrets/pass.txt > /n\n"
    ).docker_build(secrets=[dag.secret(f"file://{tmp_path}/pass.txt")])
    assert await built.file("/n").contents() == "6\n"


async def test_arguments_do_not_stay_in_the_environment(context):
    built = context(FROM + "ARG A=1\nENV B=$A\n").docker_build()
    assert (await built.env_variable("A"), await built.env_variable("B")) == (None, "1")


async def test_a_service_of_it_runs_its_command(dag, context):
    built = context(FROM + 'EXPOSE 80\nENTRYPOINT ["sh", "-c"]\nCMD ["sleep 60"]\n').docker_build()
    bound = (
        dag.container()
        .from_("debian:bookworm-slim")
        .with_service_binding("svc", built.as_service())
    )
    assert await bound.with_exec(["getent", "hosts", "svc"]).exit_code() == 0


async def test_a_part_of_a_directory_is_a_context_too(dag):
    source = (
        dag.directory()
        .with_new_file("sub/Dockerfile", FROM + "COPY . /all/\nCOPY ../top /top\n")
        .with_new_file("sub/top", "inner")
        .with_new_file("sub/skip", "")
        .with_new_file("sub/.dockerignore", "skip\n.*\n")
        .with_new_file("top", "outer")
    )
    built = source.directory("sub").docker_build()
    assert await built.file("/top").contents() == "inner"
    assert sorted(await built.directory("/all").entries()) == ["Dockerfile", "top"]
