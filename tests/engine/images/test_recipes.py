"""Stand-ins do what the images that they stand in for do. They are built for real, once a store."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from ci.engine.bootstrap import mirror
from ci.engine.bootstrap.builder import BootstrapError
from ci.engine.bootstrap.catalogue import RECIPES, Catalogue, with_stand_ins
from ci.engine.bootstrap.wheel import Wheel, WheelError, download
from ci.engine.images import ResolvedImage
from ci.engine.images.reference import Reference
from ci.engine.images.sources import Sources
from ci.engine.solver.solver import Solver
from ci.engine.store.store import Store
from ci.engine.vertices.vertex import Exec, Expect, ImageRoot
from ci.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])


def slow(test: F) -> F:
    """Builds images, where the store has them not yet."""
    pytest.mark.slow(test)
    pytest.mark.timeout(600)(test)
    return test


@pytest.fixture
async def solver() -> AsyncIterator[Solver]:
    """Over the user's own store, so that a stand-in is built once for all tests and runs."""
    with Store(Settings.from_environment().cache) as store:
        async with Solver(store) as made:
            yield made


async def resolve(solver: Solver, address: str) -> ResolvedImage:
    return await with_stand_ins(solver.store, Sources(order=("store", "bootstrap"))).resolve(
        address
    )


async def sh(solver: Solver, image: ResolvedImage, script: str, user: str = "") -> str:
    config = image.config["config"]
    env = dict(entry.split("=", 1) for entry in config["Env"])
    env["NOT_FROM_THE_STORE"] = secrets.token_hex(8)
    result = await solver.run(
        Exec(
            root=ImageRoot(image_digest=image.digest),
            args=("/bin/sh", "-euc", script),
            env=tuple(sorted(env.items())),
            user=user,
            expect=Expect.ANY,
        )
    )
    assert result.exit_code == 0, result.combined
    return result.stdout.strip()


# -- Python ------------------------------------------------------------------------------------

_LAYOUT = """
import site, sys, sysconfig
assert sys.prefix == "/usr/local", sys.prefix
assert sysconfig.get_path("purelib") == "/usr/local/lib/python3.11/site-packages"
assert sysconfig.get_path("scripts") == "/usr/local/bin"
assert sysconfig.get_path("include") == "/usr/local/include/python3.11"
assert site.getsitepackages() == ["/usr/local/lib/python3.11/site-packages"]
assert sys.version_info[:2] == (3, 11)
import bz2, ctypes, curses, dbm, decimal, hashlib, lzma, readline, sqlite3, ssl, uuid, zlib
"""


@slow
async def test_python_is_laid_out_as_in_the_official_image(solver: Solver) -> None:
    image = await resolve(solver, "python:3.11-slim-bookworm")
    assert "in place of python:3.11-slim-bookworm" in image.stand_in
    await sh(solver, image, f"python - <<'EOF'\n{_LAYOUT}\nEOF")
    where = await sh(
        solver, image, "for name in python python3 pip pip3; do command -v $name; done"
    )
    assert where.split() == [
        f"/usr/local/bin/{name}" for name in ("python", "python3", "pip", "pip3")
    ]
    marker = "find / -xdev -name EXTERNALLY-MANAGED"
    assert await sh(solver, image, marker) == ""


@slow
async def test_pip_venv_and_uv_install_where_they_do_in_the_official_image(solver: Solver) -> None:
    image = await resolve(solver, "python:3.11-slim-bookworm")
    said = await sh(
        solver,
        image,
        """
        pip install --quiet --root-user-action ignore uv==0.9.0
        uv pip install --quiet --system idna==3.10
        python -c 'import idna; print(idna.__file__)'
        pip install --quiet --root-user-action ignore --prefix /install --ignore-installed idna
        ls -d /install/lib/python3.11/site-packages/idna
        python -m venv /venv
        /venv/bin/pip install --quiet idna==3.10
        /venv/bin/python -c 'import idna; print(idna.__file__)'
        """,
    )
    assert said.split() == [
        "/usr/local/lib/python3.11/site-packages/idna/__init__.py",
        "/install/lib/python3.11/site-packages/idna",
        "/venv/lib/python3.11/site-packages/idna/__init__.py",
    ]


@slow
async def test_a_sitecustomize_of_the_users_is_still_run(solver: Solver) -> None:
    image = await resolve(solver, "python:3.11-slim-bookworm")
    script = """
    echo 'import sys; sys.flag = "mine"' > /usr/local/lib/python3.11/site-packages/sitecustomize.py
    python -c 'import sys; print(sys.flag)'
    """
    assert await sh(solver, image, script) == "mine"


@slow
async def test_building_python_again_gives_the_same_bytes() -> None:
    with Store(Settings.from_environment().cache) as store:
        images = with_stand_ins(store, Sources(order=("bootstrap",)))
        first = await images.resolve("python:3.11-slim-bookworm", refresh=True)
        second = await images.resolve("python:3.11-slim-bookworm", refresh=True)
    assert first.snapshot != second.snapshot
    assert first.config["rootfs"] == second.config["rootfs"]
    assert first.digest == second.digest


# -- others ------------------------------------------------------------------------------------


@slow
async def test_debian_is_small_and_installs_packages(solver: Solver) -> None:
    image = await resolve(solver, "debian:bookworm-slim")
    script = (
        "apt-get -qq update && apt-get -qq install --no-install-recommends bc >&2 && echo 6*7 | bc"
    )
    assert await sh(solver, image, script) == "42"
    size = await sh(solver, image, "du -smx / | cut -f1")
    assert int(size) < 100
    assert await sh(solver, image, "ls /usr/share/man /usr/share/locale /var/lib/apt/lists/*") != ""


@slow
@pytest.mark.parametrize(
    ("address", "command", "expected"),
    [
        ("aquasec/trivy:0.59.1", "trivy --version", "Version: 0.59.1"),
        ("zricethezav/gitleaks:v8.30.1", "git --version >&2; gitleaks version", "8.30.1"),
        ("hadolint/hadolint:latest", "hadolint --version", "2.15.1"),
        ("ghcr.io/zizmorcore/zizmor:1", "zizmor --version", "1.32.0"),
    ],
)
async def test_a_tool_runs_in_its_stand_in(
    solver: Solver, address: str, command: str, expected: str
) -> None:
    image = await resolve(solver, address)
    assert expected in await sh(solver, image, command)


# -- choosing -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "recipe"),
    [
        ("python:3.11-slim-bookworm", "python-3.11-bookworm"),
        ("docker.io/library/python:3.11-slim", "python-3.11-bookworm"),
        ("python:3.11.9-slim-bookworm", "python-3.11-bookworm"),
        ("python:3.11-bookworm", "python-3.11-bookworm-full"),
        ("python:3.11", "python-3.11-bookworm-full"),
        ("debian:bookworm-slim", "debian-bookworm"),
        ("debian:12.11-slim", "debian-bookworm"),
        ("postgres:15-bookworm", "postgres-15-bookworm"),
        ("postgres:15.7", "postgres-15-bookworm"),
        ("aquasec/trivy:0.59.1", "trivy"),
        ("ghcr.io/gitleaks/gitleaks:latest", "gitleaks"),
        ("python:3.12-slim", ""),
        ("python:3.11-alpine", ""),
        ("python:3.11-slim-trixie", ""),
        ("python:3.110-slim", ""),
        ("postgres:16", ""),
        ("postgres:15-alpine", ""),
        ("debian:bookworm-backports", ""),
        ("ghcr.io/library/python:3.11-slim", ""),
        ("someone/python:3.11-slim", ""),
        ("debian:bookworm-slim@sha256:" + "0" * 64, ""),
    ],
)
def test_a_recipe_stands_in_for_what_it_names_and_nothing_else(
    store: Store, address: str, recipe: str
) -> None:
    found = Catalogue(store).recipe_for(Reference.parse(address), "amd64")
    assert (found.name if found else "") == recipe


def test_recipes_of_binaries_for_amd64_do_not_stand_in_elsewhere(store: Store) -> None:
    assert Catalogue(store).recipe_for(Reference.parse("aquasec/trivy:1"), "arm64") is None


def test_another_revision_of_a_base_is_another_result() -> None:
    from dataclasses import replace

    (python,) = (recipe for recipe in RECIPES if recipe.name == "python-3.11-bookworm")
    assert python.base is not None
    newer = replace(python, base=replace(python.base, revision=python.base.revision + 1))
    assert newer.key("amd64") != python.key("amd64")
    assert python.key("arm64") != python.key("amd64")


# -- what can be missing -----------------------------------------------------------------------


async def test_without_mmdebstrap_the_error_names_the_package(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(BootstrapError, match="apt-get install mmdebstrap"):
        await with_stand_ins(store, Sources(order=("bootstrap",))).resolve("debian:bookworm-slim")


async def test_an_unreachable_mirror_is_named_with_what_was_said(store: Store) -> None:
    sources = Sources(order=("bootstrap",), debian_mirror="http://127.0.0.1:9/debian")
    with pytest.raises(BootstrapError, match=r"127\.0\.0\.1") as caught:
        await with_stand_ins(store, sources).resolve("debian:bookworm-slim")
    assert "TOWPATH_DEBIAN_MIRROR" in str(caught.value)


@pytest.mark.slow
async def test_a_wheel_of_another_hash_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WheelError, match=r"idna 3\.10"):
        await download([Wheel("idna", "3.10", "0" * 64)], tmp_path)


# -- mirrors ------------------------------------------------------------------------------------

_DEB822 = """\
# comment
Types: deb deb-src
URIs: http://mirror.test/debian
Suites: trixie trixie-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.test/debian-security
Suites: trixie-security
Components: main

Types: deb
URIs: https://vendor.test/linux/debian
Enabled: no
Suites: bookworm
Components: main
"""


def sources(tmp_path: Path, **files: str) -> str:
    folder = tmp_path / "etc/apt/sources.list.d"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return mirror.sources_list("bookworm", root=tmp_path)


def test_the_hosts_own_mirror_is_used_for_the_images_release(tmp_path: Path) -> None:
    assert sources(tmp_path, debian_sources=_DEB822).splitlines() == [
        "deb http://mirror.test/debian bookworm main",
        "deb http://mirror.test/debian bookworm-updates main",
        "deb http://mirror.test/debian-security bookworm-security main",
    ]


def test_one_line_sources_are_read_too(tmp_path: Path) -> None:
    line = "deb [arch=amd64 signed-by=/x.gpg] http://m.test/debian/ bookworm main\n"
    assert (
        sources(tmp_path, a_list=line).splitlines()[0] == "deb http://m.test/debian bookworm main"
    )


@pytest.mark.parametrize(
    "line",
    ["deb http://archive.ubuntu.test/ubuntu noble main",
     "deb https://packages.vendor.test/debian/12/prod bookworm main",
     "deb https://apt.vendor.test bookworm main",
     "#deb http://m.test/debian bookworm main",
     "deb-src http://m.test/debian bookworm main"],
)  # fmt: skip
def test_other_peoples_repositories_are_no_mirror(tmp_path: Path, line: str) -> None:
    assert not sources(tmp_path, a_list=line + "\n")


def test_a_mirror_that_is_named_wins(tmp_path: Path) -> None:
    sources(tmp_path, debian_sources=_DEB822)
    said = mirror.sources_list("bookworm", root=tmp_path, mirror="https://v.test/debian/")
    assert said.splitlines()[::2] == [
        "deb https://v.test/debian bookworm main",
        "deb https://v.test/debian-security bookworm-security main",
    ]
