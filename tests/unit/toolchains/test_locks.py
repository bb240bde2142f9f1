"""Which versions lock files pin, whoever wrote them."""

from __future__ import annotations

import pytest

from ci.errors import ConfigError
from ci.toolchains.locks import Pin, parse

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64

UV = f"""
version = 1
[[package]]
name = "shop"
version = "1.0"
source = {{ editable = "." }}
[[package]]
name = "NumPy"
version = "1.26.4"
resolution-markers = ["python_full_version < '3.12'", "sys_platform == 'win32'"]
source = {{ registry = "https://index.test/simple" }}
sdist = {{ url = "u", hash = "{B}" }}
wheels = [{{ url = "u", hash = "{A}" }}]
"""
POETRY = f"""
[[package]]
name = "six"
version = "1.16.0"
optional = false
files = [{{file = "six.whl", hash = "{A}"}}, {{file = "six.tar.gz", hash = "{B}"}}]
markers = "python_version >= '3'"
[[package]]
name = "forked"
version = "0.1"
[package.source]
type = "git"
url = "https://example.com/forked.git"
"""
PDM = f"""
[[package]]
name = "six"
version = "1.16.0"
files = [{{file = "six.whl", hash = "{A}"}}]
"""
PYLOCK = f"""
lock-version = "1.0"
[[packages]]
name = "six"
version = "1.16.0"
marker = "python_version >= '3'"
wheels = [{{url = "u", hashes = {{sha256 = "{"a" * 64}"}}}}]
[[packages]]
name = "shop"
version = "1"
directory = {{ path = "." }}
"""


@pytest.mark.parametrize(
    ("file", "text", "pin"),
    [
        (
            "uv.lock",
            UV,
            Pin(
                name="numpy",
                version="1.26.4",
                marker="(python_full_version < '3.12') or (sys_platform == 'win32')",
                hashes=(A, B),
            ),
        ),
        (
            "poetry.lock",
            POETRY,
            Pin(name="six", version="1.16.0", marker="python_version >= '3'", hashes=(A, B)),
        ),
        ("pdm.lock", PDM, Pin(name="six", version="1.16.0", hashes=(A,))),
        (
            "pylock.toml",
            PYLOCK,
            Pin(name="six", version="1.16.0", marker="python_version >= '3'", hashes=(A,)),
        ),
    ],
)
def test_a_lock_in_toml_pins_packages_of_registries_with_markers_and_hashes(file, text, pin):
    assert parse(file, text).pins == (pin,)


def test_a_requirements_file_is_read_as_pip_reads_it():
    lock = parse(
        "requirements.txt",
        f"""
# a comment
--index-url https://example.com
Foo_Bar[extra] == 1.2 ; python_version < "3.13"  # another
six==1.16.0 \\
    --hash={B} \\
    --hash={A}
-e .
flask>=2
a==1.*
b==1,<2
-r base.txt
--constraint=c.txt
""",
    )
    assert lock.pins == (
        Pin(name="foo-bar", version="1.2", marker='python_version < "3.13"'),
        Pin(name="six", version="1.16.0", hashes=(A, B)),
    )
    assert lock.unpinned == ("flask>=2", "a==1.*", "b==1,<2")
    assert lock.includes == ("base.txt", "c.txt")
    assert not lock.complete
    assert not lock.hashed


def test_a_url_and_what_is_no_requirement_are_not_pinned():
    lock = parse("requirements.txt", "https://example.com/a.whl\nx @ https://example.com/x.whl\n")
    assert len(lock.unpinned) == 2


def test_an_empty_file_is_no_complete_lock():
    lock = parse("requirements.txt", "\n# nothing\n")
    assert not lock.complete
    assert not lock.hashed


def test_constraints_have_hashes_only_where_all_have_them_and_they_are_asked_for():
    whole = parse("requirements.lock", f"six==1.16.0 --hash={A}\n")
    assert whole.constraints(hashed=True) == f"six==1.16.0 --hash={A}\n"
    assert whole.constraints(hashed=False) == "six==1.16.0\n"
    half = parse("requirements.lock", f"six==1.16.0 --hash={A}\ntoml==0.10.2\n")
    assert half.constraints(hashed=True) == "six==1.16.0\ntoml==0.10.2\n"


def test_a_version_is_told_only_where_it_is_the_only_one():
    lock = parse("requirements.txt", "a==1\nb==1 ; os_name=='nt'\nb==2 ; os_name!='nt'\n")
    assert (lock.version("A"), lock.version("b"), lock.version("c")) == ("1", "", "")


def test_what_a_lock_covers_is_asked_by_normalised_name():
    lock = parse("requirements.txt", "foo-bar==1\n")
    assert lock.covers(["Foo_Bar[x]>=0.5"])
    assert not lock.covers(["foo-bar", "other"])
    assert not lock.covers(["./local"])


@pytest.mark.parametrize("text", ["[[package]\n", "[[package]]\nversion = '1'\n", "package = 3\n"])
def test_a_broken_lock_is_named(text):
    with pytest.raises(ConfigError, match=r"^uv\.lock: got "):
        parse("uv.lock", text)
