"""Exact versions of the tools and images that stages use: the one place to change them.

``tools.lock`` holds the hashes of the tools that pip installs, and of what they need: ``uv pip
compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate`` of all
requirements below makes it.
"""

from __future__ import annotations

import re
from importlib.resources import files

__all__ = [
    "BANDIT",
    "COVERAGE",
    "GITLEAKS_IMAGE",
    "LOCK",
    "MYPY",
    "POSTGRES_IMAGE",
    "PYTEST",
    "PYTHON_IMAGE",
    "RUFF",
    "TRIVY_DATABASES",
    "TRIVY_IMAGE",
    "ZIZMOR",
    "is_locked",
]

#: With ``{version}`` of Python, such as 3.11.
PYTHON_IMAGE = "python:{version}-slim-bookworm"
POSTGRES_IMAGE = "postgres:15-bookworm"
TRIVY_IMAGE = "aquasec/trivy:0.59.1"
#: Trivy's official database, in the order of trying.
TRIVY_DATABASES = ("mirror.gcr.io/aquasec/trivy-db:2", "ghcr.io/aquasecurity/trivy-db:2")
GITLEAKS_IMAGE = "ghcr.io/gitleaks/gitleaks:v8.30.1"

RUFF = "ruff==0.17.6"
BANDIT = "bandit[sarif]==1.9.4"
ZIZMOR = "zizmor==1.32.0"
MYPY = "mypy==2.4.1"
COVERAGE = "coverage==7.17.3"
PYTEST = "pytest==9.2.0"

LOCK = (files("ci.stages") / "tools.lock").read_text()


def is_locked(requirement: str) -> bool:
    """The lock has this very version, and so its hashes."""
    name, _, version = re.sub(r"\[.*?\]", "", requirement).partition("==")
    return f"{name}=={version} " in LOCK
