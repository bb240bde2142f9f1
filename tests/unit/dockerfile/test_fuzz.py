"""Any Dockerfile is planned, or told with one error: nothing else is raised, and nothing hangs."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ci.engine.dockerfile.build import assemble
from ci.engine.dockerfile.fault import DockerfileError
from ci.engine.dockerfile.parser import parse
from ci.engine.dockerfile.plan import make_plan
from ci.engine.dockerfile.state import Request
from ci.engine.vertices.container import ContainerState
from ci.engine.vertices.vertex import DirectoryRef, Scratch, SecretRef

PLATFORM = "linux/amd64"

words = st.sampled_from(
    ["a", "$A", "${A:-b}", "${A", "",
     '"q', "'x y'", "\\", "/d/", ".", "..", "*", "[", "0", "one", "<<E",
     "=", "A=1", "80/tcp", "1-9", "https://h/f", "x.git", "git@h:r", "--", "\x00", "é"]
)  # fmt: skip
flags = st.sampled_from(
    ["--from=one", "--from=0", "--from=9", "--from=two", "--chown=1:2", "--chmod=u+x", "--chmod=9",
     "--parents", "--exclude=*", "--link", "--platform=linux/amd64", "--platform=$P",
     "--network=none", "--interval=1s", "--retries=1", "--checksum=sha256:0", "--mount=type=cache",
     "--mount=type=cache,target=/c,id=$A", "--mount=type=secret,id=s,env=S", "--mount=target=.",
     "--mount=type=tmpfs,target=/t,size=1g", "--mount=from=one,target=/o", "--mount=,=,"]
)  # fmt: skip
keywords = st.sampled_from(
    ["FROM", "FROM a AS", "FROM one", "FROM scratch", "RUN", "COPY", "ADD", "ENV", "ARG", "LABEL",
     "WORKDIR", "USER", "SHELL", "EXPOSE", "ENTRYPOINT", "CMD", "HEALTHCHECK CMD", "STOPSIGNAL",
     "VOLUME", "ONBUILD RUN", "ONBUILD COPY", "MAINTAINER", "#", "E"]
)  # fmt: skip
lines = st.builds(
    lambda keyword, given, rest: " ".join([keyword, *given, *rest]),
    keywords,
    st.lists(flags, max_size=2),
    st.lists(words, max_size=3) | st.just(['["a", "b"]']),
)
dockerfiles = st.lists(lines, max_size=8).map(lambda found: "FROM a AS one\n" + "\n".join(found))


async def image_of(empty: ContainerState, address: str) -> ContainerState:
    config: dict[str, Any] = {"Env": ["A=image"], "OnBuild": ["COPY --from=one $A /x", "RUN y"]}
    return empty.from_image(address, "sha256:" + address, {"config": config}, PLATFORM)


@given(dockerfiles, st.sampled_from(["", "one", "two"]))
def test_any_dockerfile_is_planned_or_told(text, target):
    request = Request(
        context=DirectoryRef(tree=Scratch()),
        platform=PLATFORM,
        secrets={"s": SecretRef(name="s")},
    )
    try:
        plan = make_plan(
            parse(text, "Dockerfile"),
            platform=PLATFORM,
            build_args={"A": "given"},
            target=target,
        )
        made = asyncio.run(assemble(plan, request, image_of))
    except DockerfileError as error:
        assert str(error).startswith("Dockerfile")  # noqa: PT017 - either outcome is right
    else:
        assert made.image_config()["os"] == "linux"
        assert made.root.digest
