"""Stages: what each starts from, what is needed, what is refused."""

from __future__ import annotations

import pytest

from ci.engine.dockerfile.fault import DockerfileError
from ci.engine.dockerfile.parser import parse
from ci.engine.dockerfile.plan import make_plan


def plan(text, target="", **build_args):
    return make_plan(
        parse(text, "Dockerfile"), platform="linux/amd64", build_args=build_args, target=target
    )


def fault(text, target="", **build_args) -> str:
    with pytest.raises(DockerfileError) as caught:
        plan(text, target, **build_args)
    return str(caught.value)


MULTI = """\
FROM one AS a
FROM two AS b
COPY --from=a /x /x
FROM three AS c
RUN --mount=from=four,target=/m x
FROM b
COPY --from=five /y /y
"""


def test_only_what_the_target_needs_is_needed():
    made = plan(MULTI)
    assert made.needed == (0, 1, 3)
    assert set(made.images) == {"one", "two", "five"}


def test_another_target_needs_other_stages():
    made = plan(MULTI, target="C")
    assert made.needed == (2,)
    assert made.images == {"three": 4, "four": 5}


def test_a_stage_is_found_by_name_and_number():
    made = plan("FROM x AS a\nFROM y\nCOPY --from=0 /a /a\nCOPY --from=A /a /a\n")
    assert made.needed == (0, 1)


def test_a_stage_named_as_an_image_hides_it_only_afterwards():
    made = plan("FROM debian AS debian\nFROM debian\n")
    assert [stage.base for stage in made.stages] == ["debian", 0]


def test_scratch_is_no_image():
    assert plan("FROM scratch\nCOPY --from=scratch / /\n").images == {}


def test_arguments_before_from_are_for_from():
    made = plan("ARG V=1\nARG N=img:$V\nFROM $N\n", V="2")
    assert made.images == {"img:2": 3}
    assert made.global_args["N"] == "img:2"


def test_the_platform_is_known_before_from():
    made = plan("FROM --platform=$BUILDPLATFORM img-$TARGETARCH AS x")
    assert (made.stages[0].base, made.stages[0].platform) == ("img-amd64", "linux/amd64")
    assert made.global_args["TARGETSTAGE"] == "x"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("RUN x\nFROM a", "Dockerfile:1: instruction: got one before FROM"),
        ("ARG A", "Dockerfile: got no stage"),
        ("FROM $NONE", "Dockerfile:1: FROM: got nothing in $NONE"),
        ("FROM ${A", "Dockerfile:1: '${A': got no closing }"),
        ("FROM --platform=$X a", "Dockerfile:1: FROM --platform: got nothing in $X"),
        ("FROM a AS x\nCOPY --from=x / /", "Dockerfile:2: from: got stage 'x', which is not"),
        (
            "FROM a AS a\nCOPY --from=b / /\nFROM c AS b\nFROM a",
            "Dockerfile:2: from: got stage 'b'",
        ),
        ("FROM a\nCOPY --from=7 / /", "Dockerfile:2: from: got stage '7'"),
        ("FROM a\nRUN --mount=from=0,target=/x y", "Dockerfile:2: from: got stage '0'"),
    ],
)
def test_what_cannot_be_is_told_with_its_line(text, said):
    assert fault(text).startswith(said)


def test_an_argument_that_is_no_text_is_told():
    assert fault("FROM a", A="x\0") == (
        "Dockerfile: argument 'A': got a NUL character; expected text"
    )


def test_an_unknown_target_is_told_with_the_nearest_stage():
    assert fault("FROM a AS build\nFROM b AS final", target="biuld") == (
        "Dockerfile: target: got 'biuld'; expected one of build, final\nhint: did you mean build?"
    )
