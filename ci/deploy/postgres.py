"""PostgreSQL as a backing service, by the contract of Docker's official image.

https://hub.docker.com/_/postgres
"""

from __future__ import annotations

from pathlib import Path

from ci.deploy.environment import BackingService

__all__ = ["postgres", "postgres_url"]


def postgres(
    *,
    digest: str,
    archive: Path,
    image: str = "postgres:15-bookworm",
    name: str = "postgres",
    database: str = "app",
) -> BackingService:
    """A PostgreSQL with one database, whose owner has its name; data outlives releases.

    It listens on 127.0.0.1 only, and its password is made by the environment.
    """
    return BackingService(
        name=name,
        image=image,
        digest=digest,
        archive=archive,
        args=("postgres", "-c", "listen_addresses=127.0.0.1"),
        env={
            "PGPORT": "${port}",
            "POSTGRES_USER": database,
            "POSTGRES_DB": database,
            "POSTGRES_PASSWORD": "${password}",
        },
        data="/var/lib/postgresql/data",
        ready=("pg_isready", "--quiet", "--host=127.0.0.1", f"--username={database}"),
    )


def postgres_url(service: BackingService, *, scheme: str = "postgresql") -> str:
    """Template of the URL by which a release reaches that PostgreSQL."""
    database = service.env["POSTGRES_DB"]
    access = f"{database}:${{{service.name}.password}}"
    return f"{scheme}://{access}@127.0.0.1:${{{service.name}.port}}/{database}"
