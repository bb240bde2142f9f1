"""Python's slim images: Debian's interpreter, moved to /usr/local and freed of Debian's changes."""

from __future__ import annotations

from pathlib import Path

from ci.engine.bootstrap.builder import Builder
from ci.engine.bootstrap.debian import BOOKWORM
from ci.engine.bootstrap.recipe import Recipe
from ci.engine.bootstrap.wheel import Wheel

__all__ = ["RECIPES"]

_WHEELS = (
    Wheel("pip", "26.3", "f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13"),
    Wheel(
        "setuptools", "80.9.0", "062d34222ad13e0cc312a4c02d73f059e86a4acbfbdea8f8f76b28c99f306922"
    ),
    Wheel("wheel", "0.45.1", "708e7481cc80179af0e556bbf0cc00b8444c7321e2700b8d8580231d13017248"),
)

#: What the interpreter and its modules link to, and what the official slim image installs.
_LIBRARIES = """
  ca-certificates netbase tzdata media-types
  libbz2-1.0 libcrypt1 libdb5.3 libexpat1 libffi8 liblzma5 libncursesw6 libnsl2 libreadline8
  libsqlite3-0 libssl3 libtinfo6 libtirpc3 libuuid1 zlib1g
"""

_PYTHON = """
  libpython3.11-minimal libpython3.11-stdlib libpython3.11-dev
  python3.11 python3.11-minimal python3.11-venv python3-distutils python3-lib2to3
"""

# Scanners take the SBOM of pip for one of the image, and warn.
#
# Byte code is checked by neither time nor hash: nobody edits the standard library in place, times
# in images are not kept, and an interpreter without valid byte code starts three times slower.
_SCRIPT = f"""
apt-get -qq update
apt-get -qq install --no-install-recommends {" ".join(_LIBRARIES.split())}
mkdir /tmp/debs; cd /tmp/debs
apt-get -qq -o APT::Sandbox::User=root download {" ".join(_PYTHON.split())}
for deb in *.deb; do dpkg-deb -x "$deb" /tmp/root; done
cd /tmp/root/usr
rm -rf lib/python3.11/config-3.11-* lib/python3.11/__pycache__
mv lib/python3.11 /usr/local/lib/
mv include/python3.11 /usr/local/include/
mv include/*-linux-gnu/python3.11/pyconfig.h /usr/local/include/python3.11/
mv bin/python3.11 /usr/local/bin/
cd /usr/local/bin
ln -s python3.11 python3
ln -s python3 python
python3 -IB /.bootstrap/relocate_python.py /.bootstrap
python3 -IB -m ensurepip > /dev/null
python3 -IB -m pip --disable-pip-version-check --no-cache-dir install -q --no-index --no-compile \\
  --root-user-action ignore /.bootstrap/*.whl
ln -sf pip3 pip
rm -f /usr/local/lib/python3.11/site-packages/pip/_vendor/bom.cdx.json
python3 -IB -m compileall -q -f -j 0 --invalidation-mode unchecked-hash /usr/local/lib/python3.11
python3 --version; pip --version
"""


async def _build(builder: Builder) -> None:
    for name in ("relocate_python.py", "sitecustomize_python.py"):
        builder.share(Path(__file__).with_name(name))
    for wheel in await builder.wheels(*_WHEELS):
        builder.share(wheel)
    await builder.shell(_SCRIPT)


#: What the images without ``slim`` have beside Python, as far as builds and tests call it.
_TOOLS = """
  build-essential curl file git libbz2-dev libffi-dev liblzma-dev libpq-dev libreadline-dev
  libsqlite3-dev libssl-dev libxml2-dev libxslt1-dev openssh-client patch pkg-config procps unzip
  wget xz-utils zlib1g-dev
"""


async def _build_full(builder: Builder) -> None:
    await builder.shell(
        "apt-get -qq update\n"
        f"apt-get -qq install --no-install-recommends {' '.join(_TOOLS.split())}\n"
    )


PYTHON_3_11 = Recipe(
    name="python-3.11-bookworm",
    revision=3,
    references=(
        "python:3.11-slim-bookworm",
        "python:3.11-slim",
        "python:3.11.*-slim-bookworm",
        "python:3.11.*-slim",
    ),
    gives="Python 3.11.2 of Debian 12 (bookworm), laid out in /usr/local as in the official image",
    build=_build,
    config={
        "Env": [
            "PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG=C.UTF-8",
            "PYTHON_VERSION=3.11.2",
        ],
        "Cmd": ["python3"],
    },
    base=BOOKWORM,
)

PYTHON_3_11_FULL = Recipe(
    name="python-3.11-bookworm-full",
    revision=1,
    references=("python:3.11-bookworm", "python:3.11", "python:3.11.*-bookworm"),
    gives=f"{PYTHON_3_11.gives}, with a C compiler, git and common libraries' headers",
    build=_build_full,
    config=PYTHON_3_11.config,
    base=PYTHON_3_11,
)

RECIPES = (PYTHON_3_11, PYTHON_3_11_FULL)
