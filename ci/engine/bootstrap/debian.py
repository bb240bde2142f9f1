"""Debian's slim images, made of the same packages that the official ones are made of."""

from __future__ import annotations

from ci.engine.bootstrap.builder import Builder
from ci.engine.bootstrap.recipe import Recipe
from ci.engine.vertices.execution import DEFAULT_PATH

__all__ = ["BOOKWORM", "RECIPES"]


#: With /bin and the like as links from the start, ``usr-is-merged`` will do in place of
#: ``usrmerge``, which brings 50 MB of Perl and which apt would choose.
_MERGE_USR = """\
mkdir -p "$1/usr"
for name in bin lib lib64 sbin; do
  mkdir -p "$1/usr/$name"
  ln -sf "usr/$name" "$1/$name"
done
mkdir -p "$1/etc/apt/preferences.d"
printf 'Package: usrmerge\nPin: release *\nPin-Priority: -1\n' \
  > "$1/etc/apt/preferences.d/no-usrmerge"
"""

#: What depends on the day, the machine or the order of things, and is of no use. Not /tmp:
#: mmdebstrap, which empties it later, has apt's configuration there.
_CLEAN = """\
rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/* "$1"/var/cache/debconf/*-old
rm -rf "$1"/var/cache/ldconfig/* "$1"/var/log/* "$1"/run/*
rm -f "$1"/etc/resolv.conf "$1"/etc/hostname "$1"/etc/machine-id "$1"/etc/*-
rm -f "$1"/etc/apt/preferences.d/no-usrmerge "$1"/var/lib/dpkg/*-old
mkdir -p "$1"/var/cache/apt/archives/partial "$1"/var/lib/apt/lists/partial "$1"/var/log/apt
: > "$1"/etc/resolv.conf; : > "$1"/etc/hostname
printf '127.0.0.1\\tlocalhost\\n::1\\tlocalhost ip6-localhost ip6-loopback\\n' > "$1"/etc/hosts
chmod 0644 "$1"/etc/resolv.conf "$1"/etc/hostname "$1"/etc/hosts
sed -i '/APT::Sandbox::User/d' "$1"/etc/apt/apt.conf.d/99mmdebstrap
"""


async def _bookworm(builder: Builder) -> None:
    await builder.debootstrap("bookworm", before=_MERGE_USR, after=_CLEAN)


BOOKWORM = Recipe(
    name="debian-bookworm",
    revision=4,
    references=(
        "debian:bookworm-slim",
        "debian:bookworm",
        "debian:12-slim",
        "debian:12",
        "debian:12.*",
        "debian:bookworm-20*",
        "debian:oldstable-slim",
    ),
    gives="a minimal Debian 12 (bookworm) from its packages",
    build=_bookworm,
    config={"Env": [f"PATH={DEFAULT_PATH}"], "Cmd": ["bash"]},
)

RECIPES = (BOOKWORM,)
