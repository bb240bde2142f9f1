"""Dockerfiles that Docker and the embedded engine build alike, with their build contexts."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["CASES", "Case", "File", "archive"]

#: Modification times of all that is in a build context begin here: 1 February 2001.
EPOCH = 980985600


@dataclass(frozen=True)
class File:
    """Something in a build context: a file, a directory (no content) or a link (``target``)."""

    content: bytes | None = b""
    mode: int = 0o644
    target: str = ""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One build."""

    name: str
    dockerfile: str
    files: Mapping[str, File] = field(default_factory=dict)
    args: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    secrets: Mapping[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Make the build context."""
        files = {"Dockerfile": File(self.dockerfile.encode()), **self.files}
        for name, file in files.items():
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if file.target:
                place.symlink_to(file.target)
            elif file.content is None:
                place.mkdir(exist_ok=True)
            else:
                place.write_bytes(file.content)
        for name, file in files.items():
            if not file.target:
                (folder / name).chmod(file.mode)
        for number, place in enumerate(sorted(folder.rglob("*"), reverse=True)):
            os.utime(place, (EPOCH + number, EPOCH + number), follow_symlinks=False)


def archive(compression: str = "") -> bytes:
    """A tar with a directory, files of several owners, links, and a name of OCI's whiteouts."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as tar:  # type: ignore[call-overload]
        for number, (name, kind, mode, owner, body) in enumerate(
            (
                ("in", tarfile.DIRTYPE, 0o750, 7, ""),
                ("in/file", tarfile.REGTYPE, 0o640, 7, "content"),
                ("in/hard", tarfile.LNKTYPE, 0o640, 7, "in/file"),
                ("in/soft", tarfile.SYMTYPE, 0o777, 0, "file"),
                ("top", tarfile.REGTYPE, 0o4755, 0, "top"),
                (".wh.plain", tarfile.REGTYPE, 0o644, 0, ""),
            )
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.uid, entry.gid = kind, mode, owner, owner
            # Links have the time of their file: Docker gives it that of the last of them.
            entry.mtime = EPOCH + 1000 + number // 3
            if kind == tarfile.REGTYPE:
                entry.size = len(body)
            else:
                entry.linkname = body
            tar.addfile(entry, io.BytesIO(body.encode()))
    return buffer.getvalue()


def text(content: str, mode: int = 0o644) -> File:
    return File(content.encode(), mode)


FOLDER = File(None, 0o755)
TREE = {
    "a.txt": text("a"),
    "b.txt": text("b", 0o600),
    "run.sh": text("#!/bin/sh\necho ran\n", 0o755),
    "dir": FOLDER,
    "dir/one": text("1"),
    "dir/two.md": text("2", 0o640),
    "dir/closed": File(None, 0o700),
    "dir/closed/three": text("3", 0o2755),
    "dir/empty": FOLDER,
    "dir/link": File(target="one"),
    "dir/up": File(target="../a.txt"),
    "other": FOLDER,
    "other/one": text("other 1"),
    "other/dir": FOLDER,
    "other/dir/x": text("x"),
    "linked": File(target="dir"),
    "linked.txt": File(target="a.txt"),
}

CASES = (
    Case(
        name="files and directories",
        files=TREE,
        dockerfile="""\
FROM debian:bookworm-slim
COPY a.txt /plain
COPY a.txt /new/folder/
COPY a.txt b.txt /both/
COPY a.txt /etc
COPY dir /copied
COPY dir/ /copied/again/
COPY dir /etc
""",
    ),
    Case(
        name="copies over what is there",
        files=TREE,
        dockerfile="""\
FROM debian:bookworm-slim
RUN mkdir -m 0711 /t && mkdir -m 0701 /t/closed && echo old > /t/one && ln -s /etc /t/etc && \
  ln -s one /t/two.md && mkdir /real && ln -s /real /alias && ln -s /real/missing /dangling
COPY dir /t/
COPY dir/one /t/etc/
COPY other/ /alias/
COPY a.txt /dangling
COPY other /t
""",
    ),
    Case(
        name="wildcards",
        files=TREE,
        dockerfile="""\
FROM debian:bookworm-slim
WORKDIR /w
COPY *.txt ./
COPY d?r /d/
COPY [do]*/one /ones/
COPY [ab].txt dir/*.md x/
COPY nothing* /n/
COPY *r /many/
""",
    ),
    Case(
        name="links in the context",
        files=TREE,
        dockerfile="""\
FROM debian:bookworm-slim
COPY linked /followed/
COPY linked.txt /file
COPY linked/one linked.txt /into/
COPY dir/link /l
""",
    ),
    Case(
        name="owners and permissions",
        files=TREE,
        dockerfile="""\
FROM debian:bookworm-slim
ARG WHO=daemon
RUN echo app:x:1234: >> /etc/group && echo me:x:4321:1234::/:/bin/sh >> /etc/passwd
COPY --chown=$WHO a.txt /a/
COPY --chown=me dir /me
COPY --chown=5 a.txt /b
COPY --chown=5:app dir/ /c/d/
COPY --chown=:0 a.txt /e
RUN mkdir /f /g
COPY --chmod=0640 a.txt run.sh /f/
COPY --chmod=711 other /g
COPY --chown=me:daemon --chmod=750 a.txt /h
""",
    ),
    Case(
        name="ignored files",
        files={
            **TREE,
            ".dockerignore": text("# a comment\n*.txt\n!b.txt\n**/one\n/other\n!other/dir\n\n.*\n"),
            ".hidden": text("h"),
        },
        dockerfile="FROM debian:bookworm-slim\nCOPY . /all/\n",
    ),
    Case(
        name="archives",
        files={
            "plain.tar": File(archive()),
            "zip.tar.gz": File(archive("gz")),
            "zip.tar.bz2": File(archive("bz2")),
            "zip.tar.xz": File(archive("xz")),
            "not.tar": text("no tar"),
            "empty": text(""),
        },
        dockerfile="""\
FROM debian:bookworm-slim
ADD plain.tar /a
ADD zip.tar.gz /b/
ADD zip.tar.bz2 zip.tar.xz /c/
ADD not.tar empty /d/
COPY plain.tar /e/
RUN mkdir -p /f/x && ln -s x /f/in
ADD plain.tar /f
ADD plain.tar /
""",
    ),
    Case(
        name="stages",
        files=TREE,
        dockerfile="""\
FROM debian:bookworm-slim AS build
RUN mkdir -p /out/bin && echo x > /out/bin/x && chown -R 3:4 /out && chmod 750 /out/bin && \
  ln -s bin/x /out/x && ln /out/bin/x /out/bin/y && touch -d 2001-02-03 /out/bin/x
FROM build AS more
COPY a.txt /out/
FROM scratch AS unused
COPY --from=build /nothing /
FROM debian:bookworm-slim
COPY --from=more /out /out
COPY --from=0 /out/x /followed
COPY --from=build --chown=8:9 /out/ /owned/
COPY --from=debian:bookworm-slim /etc/debian_version /etc/hostname* /from/
""",
    ),
    Case(
        name="nothing below",
        files=TREE,
        dockerfile="""\
FROM scratch
COPY dir /
COPY a.txt /x/y/z
COPY a.txt /etc/
WORKDIR /w
CMD ["/one"]
""",
    ),
    Case(
        name="working directories",
        files=TREE,
        dockerfile="""\
FROM debian:bookworm-slim
ENV D=deep
WORKDIR /one/two
WORKDIR three/../four
RUN pwd > here
USER daemon
WORKDIR /user/$D
USER 77:88
WORKDIR again
COPY a.txt .
WORKDIR /etc
WORKDIR /
""",
    ),
    Case(
        name="variables",
        files=TREE,
        args={"GIVEN": "given", "UNUSED": "x"},
        dockerfile="""\
ARG GLOBAL=global
ARG BASE=debian:bookworm-slim
FROM ${BASE}
ARG GLOBAL
ARG GIVEN=default
ARG LOCAL="with space"
ARG NONE
ENV A=1 B=$GIVEN C="$LOCAL" D='$LOCAL' E=a\\ b
ENV A=2 F=$A
ENV OLD form  with spaces
ENV G=${NONE:-fallback} H=${GLOBAL:+set} I=\\$A J=${A}x
LABEL one=$A two="$LOCAL" "three.four"=5
RUN env | grep -v -e ^HOSTNAME -e ^PWD -e CERT -e _CA | sort > /env
COPY $GIVEN* ${A:+a.txt} /$LOCAL/
WORKDIR /$GIVEN
USER $A
EXPOSE $A 90/udp
VOLUME /$GIVEN
STOPSIGNAL ${NONE:-SIGUSR1}
""",
    ),
    Case(
        name="platform arguments",
        dockerfile="""\
FROM debian:bookworm-slim
ARG TARGETPLATFORM
ARG TARGETOS
ARG TARGETARCH
ARG TARGETVARIANT
ARG BUILDPLATFORM
ARG BUILDARCH=mine
RUN echo "$TARGETPLATFORM $TARGETOS $TARGETARCH $TARGETVARIANT. $BUILDPLATFORM $BUILDARCH" > /p
""",
    ),
    Case(
        name="arguments and variables of one name",
        args={"BOTH": "arg"},
        dockerfile="""\
FROM debian:bookworm-slim AS base
ARG INHERITED=yes
FROM base
ENV FIRST=env
ARG FIRST=arg
ARG SECOND=arg
ENV SECOND=env
ENV BOTH=env
ARG BOTH
RUN echo "$FIRST $SECOND $BOTH $INHERITED" > /values
ENV SEEN="$FIRST $SECOND $BOTH"
""",
    ),
    Case(
        name="configuration",
        dockerfile="""\
FROM debian:bookworm-slim
MAINTAINER Some One <some@one>
LABEL a=b
EXPOSE 80 443/tcp 53/udp 8000-8002
VOLUME /data
VOLUME ["/with space", "/y"]
USER daemon:bin
STOPSIGNAL 9
HEALTHCHECK --interval=1m30s --timeout=2s --start-period=5s --retries=4 CMD curl -f localhost
ENTRYPOINT ["/bin/echo", "$HOME"]
CMD ["a", "b"]
ONBUILD RUN echo built
ONBUILD COPY . /src
""",
    ),
    Case(
        name="commands in shell form",
        dockerfile="""\
FROM debian:bookworm-slim
SHELL ["/bin/bash", "-ec"]
RUN echo $BASH_VERSION | cut -c1 > /bash; [[ -f /bash ]]
ENTRYPOINT exec top -b
CMD  echo  "a  b"
HEALTHCHECK CMD ["true", "it is"]
""",
    ),
    Case(
        name="inherited configuration",
        dockerfile="""\
FROM debian:bookworm-slim AS base
ENV A=1
LABEL a=1 b=2
CMD ["old"]
EXPOSE 1
VOLUME /v
HEALTHCHECK CMD ok
USER daemon
WORKDIR /in
FROM base
LABEL b=3
ENTRYPOINT ["new"]
HEALTHCHECK NONE
EXPOSE 2
""",
    ),
    Case(
        name="triggers",
        files=TREE,
        dockerfile="""\
FROM debian:bookworm-slim AS base
ONBUILD COPY a.txt /triggered/
ONBUILD ENV T=1
ONBUILD RUN echo $T > /t
FROM base AS second
RUN test -f /t
FROM second
RUN test -f /t && echo third > /third
""",
    ),
    Case(
        name="a target in the middle",
        target="middle",
        dockerfile="""\
FROM debian:bookworm-slim AS first
RUN echo 1 > /1
FROM first AS Middle
RUN echo 2 > /2
FROM middle AS last
RUN false
""",
    ),
    Case(
        name="mounts",
        files=TREE,
        secrets={"token": "s3same"},
        dockerfile="""\
FROM debian:bookworm-slim AS other
RUN mkdir /o && echo o > /o/file
FROM debian:bookworm-slim
WORKDIR /w
RUN mkdir -p /m /c /t /run/secrets && touch /f /w/s
RUN --mount=type=bind,target=/m ls -A /m > /list && ! touch /m/x
RUN --mount=type=bind,source=dir,target=/m,rw touch /m/x && ls /m > /list2
RUN --mount=source=a.txt,target=/f cp /f /g
RUN --mount=from=other,source=/o,target=/m cp /m/file /h
RUN --mount=type=cache,target=/c,id=peers,uid=5,gid=6,mode=0711 \\
  stat -c '%u %g %a' /c > /i && touch /c/x
RUN --mount=type=cache,id=peers,target=/t ls /t > /j && touch /t/y
RUN --mount=type=cache,id=peers,target=/t,sharing=locked ls /t > /q
RUN --mount=type=tmpfs,target=/t stat -f -c %T /t > /k && touch /t/x
RUN --mount=type=secret,id=token,required stat -c '%u %g %a %s' /run/secrets/token > /l
RUN --mount=type=secret,id=token,dst=/w/s,mode=0444,uid=7 stat -c '%u %g %a' s > /n
RUN --mount=type=secret,id=none ls -A /run/secrets > /o
""",
    ),
    Case(
        name="continuations and comments",
        dockerfile="""\
# escape=`
# a comment

FROM debian:bookworm-slim
RUN echo one `
  # in between
  && echo "two" `

  three > /x
env a=b `
  c=d
run printf 'a\\tb' > /y
""",
    ),
    Case(
        name="deletions and replacements",
        files=TREE,
        dockerfile="""\
FROM debian:bookworm-slim
COPY dir /d
RUN rm -r /d/closed && rm /d/one && mkdir /d/one && touch /d/one/x && chmod 700 /d
COPY other/dir /d/one
RUN rm /etc/debian_version && ln -s nowhere /etc/debian_version
COPY a.txt /etc/debian_version
""",
    ),
    Case(
        name="a Dockerfile with an ignore file of its own",
        files={
            **TREE,
            "Dockerfile.dockerignore": text("*\n!dir\ndir/two.md\n"),
            ".dockerignore": text("dir\n"),
        },
        dockerfile="FROM debian:bookworm-slim\nCOPY . /all/\n",
    ),
    Case(
        name="paths that leave the context",
        files={**TREE, "esc": File(target="../../../../etc"), "abs": File(target="/a.txt")},
        dockerfile="FROM debian:bookworm-slim\nCOPY ../a.txt ../../b.txt /x/\nCOPY abs /abs\n",
    ),
    Case(
        name="JSON forms",
        files={**TREE, "with space": text("s")},
        dockerfile="""\
FROM debian:bookworm-slim
COPY ["with space", "a.txt", "/in to/"]
RUN ["/bin/sh", "-c", "echo $0 $1 > /args", "x y", "z"]
RUN [ "echo", 'not json' ] || true
WORKDIR "/quo ted"
ENTRYPOINT ["/bin/sh", "-c", "true"]
CMD []
""",
    ),
)
