"""An environment as it is asked for: where it answers, what its release needs, how it is checked.

Values of ``env``, ``args`` and ``ready`` are templates: ``${port}`` is replaced before a program
is started, ``$$`` is a dollar. What there is to name:

=======================  ========================================================================
``${port}``              the port on 127.0.0.1 that the program must listen on, as in ``PORT``
``${version}``           of the release
``${SERVICE.port}``      the port of the backing service of that name, on 127.0.0.1
``${SERVICE.password}``  made once for the service, whose own ``env`` says ``${password}``
``${secrets.NAME}``      a secret of the environment
=======================  ========================================================================
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

from ci.deploy.conductor import Checks
from ci.errors import ConfigError
from ci.values import Digest, Value

__all__ = ["BackingService", "EnvironmentSpec", "Name", "render"]

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
Port = Annotated[int, Field(ge=1, le=65535)]


class BackingService(Value):
    """A service that releases share and that outlives them: a database with its data."""

    name: Name
    #: What a person calls the image: ``postgres:15-bookworm``.
    image: str = ""
    digest: Digest
    #: OCI archive of the image; may be gone once it was unpacked.
    archive: Path
    #: In place of the image's Cmd; empty: the image's.
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = {}
    #: Folder in the image whose content is kept; empty: none.
    data: str = ""
    #: Command in the image that exits with 0 once the service can be used; empty: its port is
    #: dialled.
    ready: tuple[str, ...] = ()
    #: In seconds.
    ready_deadline: float = 60.0
    stop_deadline: float = 30.0


class EnvironmentSpec(Value):
    """One environment. Secrets are no part of it: they are given beside it, as values."""

    project: Name
    name: Name
    #: Where it answers, on 127.0.0.1.
    port: Port
    env: Mapping[str, str] = {}
    #: In place of the image's Cmd; empty: the image's.
    args: tuple[str, ...] = ()
    #: Command of the release's image that runs before the release takes traffic; empty: none.
    #: The old release serves meanwhile and may serve again: migrations must suit both.
    migrate: tuple[str, ...] = ()
    #: In seconds.
    migrate_deadline: float = 300.0
    services: tuple[BackingService, ...] = ()
    #: Path that answers 200 once the release can serve, with JSON that names its ``version``.
    ready: str = "/ready"
    checks: Checks = Checks()
    #: How long a program may take to end after SIGTERM, in seconds.
    stop_deadline: float = 10.0
    #: Confirmed releases that are kept to roll back to, the current one included.
    keep: Annotated[int, Field(ge=1)] = 5


class _Template(string.Template):
    idpattern = r"(?a:[A-Za-z_][A-Za-z0-9_.-]*)"
    flags = re.NOFLAG  # names are told apart by case


def render(text: str, known: Mapping[str, str], *, subject: str) -> str:
    """``text`` with every ``${name}`` replaced by what it names.

    Raises:
        ConfigError: a name that is not known, or a lone ``$``.
    """
    try:
        return _Template(text).substitute(known)
    except KeyError as error:
        raise ConfigError(
            f"{subject}: unknown name in a template",
            got=f"${{{error.args[0]}}}",
            expected="one of " + ", ".join(f"${{{name}}}" for name in sorted(known)),
            hint="write $$ for a dollar",
        ) from None
    except ValueError:
        raise ConfigError(
            f"{subject}: malformed template", expected="${name}", hint="write $$ for a dollar"
        ) from None
