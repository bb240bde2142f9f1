"""PostgreSQL from Debian's packages, with the environment contract of the official image."""

from __future__ import annotations

from pathlib import Path

from ci.engine.bootstrap.builder import Builder
from ci.engine.bootstrap.debian import BOOKWORM
from ci.engine.bootstrap.recipe import Recipe
from ci.engine.vertices.execution import DEFAULT_PATH

__all__ = ["RECIPES"]

# Without just-in-time compilation, whose LLVM is 110 MB: PostgreSQL finds no provider and goes on
# without, as it does where `jit` is off.
_SCRIPT = """
groupadd --system --gid 999 postgres
useradd --system --uid 999 --gid postgres --home-dir /var/lib/postgresql --shell /bin/bash postgres
cat > /etc/dpkg/dpkg.cfg.d/postgres-without-jit <<'EOF'
path-exclude=/usr/lib/*/libLLVM*
path-exclude=/usr/lib/*/libz3*
path-exclude=/usr/lib/llvm-*/*
path-exclude=/usr/lib/postgresql/*/lib/llvmjit*
path-exclude=/usr/lib/postgresql/*/lib/bitcode/*
EOF
apt-get -qq update
apt-get -qq install --no-install-recommends postgresql-common
sed -ri 's/#(create_main_cluster) .*$/\\1 = false/' /etc/postgresql-common/createcluster.conf
apt-get -qq install --no-install-recommends postgresql-15 postgresql-client-15 locales \\
  gosu libnss-wrapper xz-utils zstd
localedef -i en_US -f UTF-8 en_US.UTF-8
install -d -m 3775 -o postgres -g postgres /var/run/postgresql
install -d -m 0755 -o postgres -g postgres /var/lib/postgresql
install -d -m 1777 -o postgres -g postgres /var/lib/postgresql/data
install -d /docker-entrypoint-initdb.d
sed -ri "s/^#?(listen_addresses)\\s*=.*/\\1 = '*'/" \\
  /usr/share/postgresql/15/postgresql.conf.sample
install -m 0755 /.bootstrap/docker_entrypoint_postgres.sh /usr/local/bin/docker-entrypoint.sh
ln -sf usr/local/bin/docker-entrypoint.sh /docker-entrypoint.sh
rm -rf /etc/ssl/private/ssl-cert-snakeoil.key /etc/ssl/certs/ssl-cert-snakeoil.pem
/usr/lib/postgresql/15/bin/postgres --version
"""


async def _build(builder: Builder) -> None:
    builder.share(Path(__file__).with_name("docker_entrypoint_postgres.sh"))
    await builder.shell(_SCRIPT)


POSTGRES_15 = Recipe(
    name="postgres-15-bookworm",
    revision=2,
    references=("postgres:15-bookworm", "postgres:15", "postgres:15.*-bookworm", "postgres:15.*"),
    gives="PostgreSQL 15 of Debian 12 (bookworm), without just-in-time compilation",
    build=_build,
    config={
        "Env": [
            f"PATH={DEFAULT_PATH}:/usr/lib/postgresql/15/bin",
            "LANG=en_US.utf8",
            "PG_MAJOR=15",
            "PGDATA=/var/lib/postgresql/data",
        ],
        "Entrypoint": ["docker-entrypoint.sh"],
        "Cmd": ["postgres"],
        "ExposedPorts": {"5432/tcp": {}},
        "Volumes": {"/var/lib/postgresql/data": {}},
        "StopSignal": "SIGINT",
    },
    base=BOOKWORM,
)

RECIPES = (POSTGRES_15,)
