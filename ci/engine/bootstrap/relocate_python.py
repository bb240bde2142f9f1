"""Run inside the image: turn Debian's Python, unpacked below /usr/local, into a plain one.

The official Python images have CPython as its authors ship it, in /usr/local: packages go to
site-packages, there is no EXTERNALLY-MANAGED marker, and ``venv`` needs no other package. Debian
changes each of these. This undoes it, and ends with a check of the outcome.

Arguments: the folder with the wheels of pip and setuptools.
"""

from __future__ import annotations

import pprint
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
PREFIX = Path("/usr/local")
LIBRARY = PREFIX / "lib" / f"python{VERSION}"
SITE_PACKAGES = LIBRARY / "site-packages"


#: ``site.getsitepackages``, the part that Debian changed, as CPython has it.
GET_SITE_PACKAGES = """
            for libdir in libdirs:
                path = os.path.join(prefix, libdir,
                                    "python%d.%d" % sys.version_info[:2],
                                    "site-packages")
                sitepackages.append(path)"""

PREFERRED_SCHEME = (
    r"\n    if sys\.base_prefix != sys\.prefix or hasattr\(sys, \"real_prefix\"\):\n"
    r"        # virtual.*?(\n    return \{\n        'prefix': )prefix_scheme"
)


def undo_install_schemes() -> None:
    """One install scheme for the system, ``posix_prefix``, and site-packages on the path."""
    edit(LIBRARY / "sysconfig.py", [
        (r"\n    '(deb_system|posix_local)': \{.*?\n        \},(?=\n)", ""),
        (r"'posix_home', 'posix_local', 'deb_system'", "'posix_home'"),
        (PREFERRED_SCHEME, r"\1'posix_prefix'"),
    ])  # fmt: skip
    edit(LIBRARY / "site.py", [
        (r"\n            if is_virtual_environment:\n.*?(?=\n        else:\n)", GET_SITE_PACKAGES),
        (r"\n    is_virtual_environment = [^\n]*\n", "\n"),
    ])  # fmt: skip


def undo_distutils() -> None:
    """The same for distutils, where this Python has it; setuptools brings its own."""
    (LIBRARY / "_distutils_system_mod.py").unlink(missing_ok=True)
    command = LIBRARY / "distutils/command/install.py"
    if command.exists():
        edit(command, [
            (r"\n            elif \(\(self\.prefix_option.*?self\.select_scheme\(\"unix_local\"\)",
             '\n            else:\n                self.select_scheme("unix_prefix")'),
        ])  # fmt: skip


def undo_ensurepip(wheels: Path) -> None:
    """``ensurepip``, which ``venv`` calls, with the wheels that it bundles."""
    bundled = LIBRARY / "ensurepip/_bundled"
    bundled.mkdir()
    module = LIBRARY / "ensurepip/__init__.py"
    names = ["pip"] + (["setuptools"] if '("setuptools"' in module.read_text() else [])
    versions = {}
    for name in names:
        (wheel,) = wheels.glob(f"{name}-*.whl")
        shutil.copy(wheel, bundled)
        versions[name] = wheel.name.split("-")[1]
    edit(module, [
        (r"\ndef _ensurepip_is_disabled_in_debian_for_system\(\):.*?\n    sys\.exit\(1\)\n", ""),
        (r"\n(    #[^\n]*\n)*    _ensurepip_is_disabled_in_debian_for_system\(\)\n", "\n"),
        *((rf'_{name.upper()}_VERSION = "[^"]*"', f'_{name.upper()}_VERSION = "{version}"')
          for name, version in versions.items()),
    ])  # fmt: skip


def relocate_build_variables() -> None:
    """``sysconfig``'s variables, by which extensions are compiled, from /usr to /usr/local."""
    for path in LIBRARY.glob("_sysconfigdata_*.py"):
        if path.is_symlink():
            continue
        variables = runpy.run_path(str(path))["build_time_vars"]
        for name, value in variables.items():
            if isinstance(value, str) and not name.startswith(("INSTALL", "MODULE", "TZPATH")):
                moved = re.sub(
                    r"(?<![\w/])/usr/lib/[a-z0-9_]+-linux-gnu\b", "/usr/local/lib", value
                )
                variables[name] = re.sub(
                    r"(?<![\w/])/usr(?=$|[ ']|/(bin|include|lib|share/man)\b)", "/usr/local", moved
                )
        variables["WHEEL_PKG_DIR"] = ""
        path.write_text("build_time_vars = " + pprint.pformat(variables, width=100) + "\n")


def edit(path: Path, changes: list[tuple[str, str]]) -> None:
    """Replace the one match of each pattern."""
    text = path.read_text()
    for pattern, replacement in changes:
        text, count = re.subn(pattern, replacement, text, flags=re.DOTALL)
        if count == 0:
            raise SystemExit(f"{path}: Debian's change is not as expected: {pattern!r}")
    path.write_text(text)


def check() -> None:
    """In a fresh interpreter: the layout is that of the official image."""
    wanted = {
        "sys.prefix": str(PREFIX),
        "sysconfig.get_path('purelib')": str(SITE_PACKAGES),
        "sysconfig.get_path('scripts')": str(PREFIX / "bin"),
        "sysconfig.get_path('include')": str(PREFIX / "include" / f"python{VERSION}"),
        "str(site.getsitepackages())": str([str(SITE_PACKAGES)]),
    }
    for expression, expected in wanted.items():
        program = f"import site, sys, sysconfig; print({expression})"
        command = [sys.executable, "-c", program]
        got = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        if got != expected:
            raise SystemExit(f"{expression}: got {got}; expected {expected}")


def main(wheels: Path) -> None:
    """Do all of it."""
    SITE_PACKAGES.mkdir(exist_ok=True)
    for leftover in ("EXTERNALLY-MANAGED", "sitecustomize.py"):
        (LIBRARY / leftover).unlink(missing_ok=True)
    shutil.copy(Path(__file__).with_name("sitecustomize_python.py"), LIBRARY / "sitecustomize.py")
    undo_install_schemes()
    undo_distutils()
    undo_ensurepip(wheels)
    relocate_build_variables()
    check()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
