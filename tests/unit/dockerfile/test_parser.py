"""Dockerfiles as text: lines, words and instructions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci.engine.dockerfile.fault import DockerfileError
from ci.engine.dockerfile.instructions import (
    Arg,
    Cmd,
    CommandLine,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    HealthCheck,
    Label,
    Maintainer,
    OnBuild,
    Run,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from ci.engine.dockerfile.parser import parse


def every(text) -> list[Any]:
    """The instructions of a text."""
    return list(parse(text, "Dockerfile").instructions)


def one(text) -> Any:
    """The only instruction of a text."""
    (found,) = every(text)
    return found


def fault(text) -> str:
    with pytest.raises(DockerfileError) as caught:
        parse(text, "Dockerfile")
    return str(caught.value)


# -- lines ---------------------------------------------------------------------------------------


def test_lines_are_numbered_where_they_begin():
    file = parse("# c\n\nFROM a\nRUN x \\\n  y\n\n# c\nRUN z\n", "Dockerfile")
    assert [found.line for found in file.instructions] == [3, 4, 8]


def test_a_line_goes_on_after_a_backslash_over_comments_and_empty_lines():
    found = one("RUN a && \\\n# why\n\n   b && \\  \n\tc\n")
    assert found.command.words == ("a &&    b && \tc",)


def test_an_escaped_backslash_does_not_go_on():
    file = parse("RUN a \\\\\nRUN b", "Dockerfile")
    assert len(file.instructions) == 2


def test_the_escape_directive_changes_what_goes_on():
    found = every("# escape=`\nRUN dir C:\\\nRUN a `\n b")
    assert [one.command.words for one in found] == [("dir C:\\",), ("a  b",)]


def test_directives_stand_above_all_else():
    assert one("# syntax=docker/dockerfile:1\n# check=skip=all\n#escape = `\nRUN a`\nb").line == 4
    file = parse("# comment\n# escape=`\nRUN a \\\n b", "Dockerfile")
    assert file.escape == "\\"


def test_a_directive_is_told_when_it_is_wrong():
    assert fault("# escape=x\nFROM a").startswith("Dockerfile:1: directive escape: got 'x'")
    assert "a second one" in fault("# escape=`\n# escape=`\nFROM a")


def test_a_byte_order_mark_and_line_feeds_of_windows_are_no_part_of_it():
    assert one("\ufeffFROM a\r\n") == From(line=1, image="a")


def test_keywords_are_of_any_case():
    assert one("from a As B") == From(line=1, image="a", name="b")


def test_an_empty_file_is_told():
    assert fault("# nothing\n\n") == (
        "Dockerfile: got no instruction; expected FROM and what follows it"
    )


def test_what_is_no_text_is_told_with_its_line():
    assert fault("FROM a\nRUN \0\n") == "Dockerfile:2: got a NUL character; expected text"


def test_an_unknown_instruction_is_told_with_the_nearest_one():
    said = fault("FROM a\nRUNN x")
    assert said.startswith("Dockerfile:2: instruction: got 'RUNN'; expected one of ADD, ARG, CMD")
    assert said.endswith("hint: did you mean RUN?")


# -- heredocs ------------------------------------------------------------------------------------


def test_a_heredoc_follows_its_line():
    first, second = every("RUN <<EOF\necho 1\n# kept\nEOF\nRUN next")
    assert first.command.words == ("<<EOF",)
    assert [(h.name, h.content, h.expand) for h in first.heredocs] == [
        ("EOF", "echo 1\n# kept\n", True)
    ]
    assert second.line == 5


def test_several_heredocs_follow_each_other():
    found = one("COPY <<a <<b /x/\n1\na\n2\nb\n")
    assert [(h.name, h.content) for h in found.documents] == [("a", "1\n"), ("b", "2\n")]
    assert found.sources == ()


def test_quotes_in_its_name_keep_a_heredoc_as_it_is():
    assert [h.expand for h in one("COPY <<'E' /x\n$A\nE\n").documents] == [False]
    assert [h.expand for h in one('COPY <<"E" /x\n$A\nE\n').documents] == [False]


def test_a_dash_takes_leading_tabs_away():
    found = one("COPY <<-E /x\n\ta\n\t\tb\n\tE\n")
    assert found.documents[0].text == "a\nb\n"


def test_a_heredoc_that_does_not_end_is_told():
    assert "Dockerfile:1: heredoc E: got the end of the file" in fault("RUN <<E\nx\n")


def test_shifts_and_here_strings_are_no_heredocs():
    assert one("RUN echo $((1 << 2))").heredocs == ()
    assert one("RUN cat <<< x").heredocs == ()
    assert one("RUN echo '<<E'").heredocs == ()


def test_a_heredoc_may_be_part_of_a_command():
    found = one("RUN python <<E > /out\nprint()\nE\n")
    assert found.command.words == ("python <<E > /out",)
    assert [h.name for h in found.heredocs] == ["E"]


# -- one by one ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM a", From(line=1, image="a")),
        (
            "FROM --platform=$P a:1 AS x-1",
            From(line=1, image="a:1", name="x-1", platform="$P"),
        ),
        ("ARG A", Arg(line=1, names=(("A", None),))),
        ("ARG A=1 B='x y' C", Arg(line=1, names=(("A", "1"), ("B", "'x y'"), ("C", None)))),
        ("ENV A 1  2", Env(line=1, pairs=(("A", "1  2"),))),
        ('ENV A=1 B="x y"', Env(line=1, pairs=(("A", "1"), ("B", '"x y"')))),
        ("ENV A=a\\ b", Env(line=1, pairs=(("A", "a\\ b"),))),
        ("LABEL a.b=c", Label(line=1, pairs=(("a.b", "c"),))),
        ("WORKDIR /a b", Workdir(line=1, path="/a b")),
        ("USER a:b", User(line=1, name="a:b")),
        ('SHELL ["/bin/bash", "-c"]', Shell(line=1, words=("/bin/bash", "-c"))),
        ("EXPOSE 80  90/udp", Expose(line=1, ports=("80", "90/udp"))),
        ("STOPSIGNAL SIGTERM", StopSignal(line=1, signal="SIGTERM")),
        ("VOLUME /a /b", Volume(line=1, paths=("/a", "/b"))),
        ('VOLUME ["/a b"]', Volume(line=1, paths=("/a b",))),
        ("MAINTAINER Me <me@x>", Maintainer(line=1, name="Me <me@x>")),
        ("ONBUILD RUN x", OnBuild(line=1, trigger="RUN x")),
        ("CMD a b", Cmd(line=1, command=CommandLine(words=("a b",), shell_form=True))),
        ('CMD ["a", "b"]', Cmd(line=1, command=CommandLine(words=("a", "b"), shell_form=False))),
        (
            "ENTRYPOINT ['a']",
            Entrypoint(line=1, command=CommandLine(words=("['a']",), shell_form=True)),
        ),
        ("ENTRYPOINT []", Entrypoint(line=1, command=CommandLine(words=(), shell_form=False))),
        ("HEALTHCHECK NONE", HealthCheck(line=1, command=None)),
        (
            "HEALTHCHECK --interval=1m30s --retries=3 CMD curl x",
            HealthCheck(
                line=1,
                command=CommandLine(words=("curl x",), shell_form=True),
                interval="1m30s",
                retries=3,
            ),
        ),
    ],
)
def test_an_instruction_is_read(text, expected):
    assert one(text) == expected


def test_run_takes_mounts_and_a_network():
    found = one("RUN --network=none --mount=type=cache,target=/c,ro --mount=type=tmpfs,dst=/t x")
    assert isinstance(found, Run)
    assert found.network == "none"
    assert [flag.options for flag in found.mounts] == [
        (("type", "cache"), ("target", "/c"), ("ro", None)),
        (("type", "tmpfs"), ("dst", "/t")),
    ]
    assert found.command.words == ("x",)


def test_copy_takes_all_its_flags():
    found = one(
        "COPY --from=b --chown=1:2 --chmod=644 --link --parents --exclude=*.a --exclude=c a b /d/"
    )
    assert found == Copy(
        line=1, sources=("a", "b"), documents=(), destination="/d/", stage="b", owner="1:2",
        mode="644", exclude=("*.a", "c"), parents=True,
    )  # fmt: skip


def test_add_takes_a_checksum():
    found = one("ADD --checksum=sha256:00 https://x/y /z")
    assert (found.keyword, found.checksum) == ("ADD", "sha256:00")


def test_paths_with_spaces_stand_in_json():
    assert one('COPY ["a b", "/c d/"]').sources == ("a b",)


def test_flags_may_be_quoted_and_end_at_two_dashes():
    assert one('COPY --chown="a:b" -- --x /y').owner == "a:b"
    assert one('COPY --chown="a:b" -- --x /y').sources == ("--x",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("FROM", "FROM: got nothing; expected an image"),
        ("FROM a b", "FROM: got 'a b'"),
        ("FROM a AS 1x", "FROM: got the stage name '1x'"),
        ("FROM --platfrm=x a", "the flag --platfrm; expected --platform (did you mean platform?)"),
        ("FROM --platform a", "--platform without a value"),
        ("ARG", "ARG: got nothing"),
        ("ARG =1", "ARG: got '=1'"),
        ("ENV A", "ENV: got 'A'; expected name=value"),
        ("ENV A=1 B", "ENV: got 'B'"),
        ("RUN", "RUN: got nothing; expected a command"),
        ("RUN --mount=type=cache,targt=/x y", "'targt'"),
        ("RUN --mount=target y", "'target' without a value"),
        ("RUN --mount=from=$X,target=/y z", "the variable in from=$X"),
        ("RUN --network=host x", "--network=host; expected --network=default"),
        ("RUN --security=insecure x", "--security=insecure"),
        ("RUN --device=x y", "--device"),
        ("RUN [1]", "an array of strings"),
        ("COPY a", "COPY: got 'a'; expected sources and a destination"),
        ("COPY --from=$A a b", "the variable in --from=$A"),
        ("COPY --form=a a b", "did you mean from?"),
        ("COPY --link=maybe a b", "--link=maybe"),
        ("COPY --chown=a --chown=b a b", "--chown twice"),
        ("COPY a <<E\nE\n", "a heredoc as destination"),
        ("ADD --checksum=x a b c", "--checksum with 2 sources"),
        ("SHELL /bin/sh", "SHELL: got '/bin/sh'; expected a JSON array"),
        ("HEALTHCHECK", "HEALTHCHECK: got nothing; expected CMD"),
        ("HEALTHCHECK CMND x", "'CMND'"),
        ("HEALTHCHECK CMD", "nothing after CMD"),
        ("HEALTHCHECK NONE x", "nothing after NONE"),
        ("HEALTHCHECK --interval=1x CMD y", "--interval=1x"),
        ("HEALTHCHECK --interval=1us CMD y", "--interval=1us"),
        ("HEALTHCHECK --retries=x CMD y", "--retries=x"),
        ("ONBUILD ONBUILD RUN x", "'ONBUILD'"),
        ("ONBUILD FROM x", "'FROM'"),
        ("ONBUILD COPPY a b", "did you mean COPY?"),
        ("ONBUILD", "ONBUILD: got nothing"),
        ("USER", "USER: got nothing"),
        ("VOLUME []", "VOLUME: got '[]'"),
        ("EXPOSE", "EXPOSE: got nothing"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text, said):
    found = fault(text)
    assert found.startswith("Dockerfile:1: ")
    assert said in found


WORDS = st.sampled_from(
    ["FROM", "a", "RUN", "COPY", "ADD", "ENV", "ARG", "<<E", "E", "--mount=", "type=cache", ",",
     "--from=", "[", "]", '"', "'", "\\", "\n", " ", "$", "${", "}", "#", "=", "ONBUILD", "AS",
     "HEALTHCHECK", "CMD", "--interval=", "1s", "# escape=`", "`", "<<-", "\t", "\r\n", "\x00"]
)  # fmt: skip


@given(st.lists(WORDS, max_size=25).map("".join) | st.text(max_size=80))
def test_any_text_is_read_or_told(text):
    try:
        parse(text, "Dockerfile")
    except DockerfileError as error:
        assert str(error).startswith("Dockerfile")  # noqa: PT017 - either outcome is right
