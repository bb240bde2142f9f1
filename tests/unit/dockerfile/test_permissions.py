"""``--chmod`` gives what chmod(1) gives."""

from __future__ import annotations

import stat
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci.engine.dockerfile.permissions import apply, is_valid

CLAUSES = ["u+x", "go-w", "a=rX", "u=rwx,g=u,o=g", "+X", "=r", "ug+s", "+t", "o=", "u-s,g+w"]


@pytest.mark.parametrize("spec", [*CLAUSES, "a+rwx-x"])
def test_a_mode_is_what_chmod_makes_of_it(tmp_path, spec):
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.touch()
    folder.mkdir()
    for mode in (0o644, 0o4711, 0o2070):
        file.chmod(mode)
        folder.chmod(mode)
        subprocess.run(["chmod", "--", spec, file, folder], check=True, umask=0)
        assert apply(spec, mode, directory=False) == stat.S_IMODE(file.stat().st_mode)
        assert apply(spec, mode, directory=True) == stat.S_IMODE(folder.stat().st_mode)


@pytest.mark.parametrize("spec", ["644", "0755", "4755", *CLAUSES])
def test_what_is_a_mode_is_valid(spec):
    assert is_valid(spec)


def test_octal_permissions_stand_for_themselves():
    assert apply("0640", 0o4777, directory=True) == 0o640


@pytest.mark.parametrize("spec", ["", "8", "u", "u~x", "x+r", "77777", "u+q", "u+x,", ","])
def test_what_is_no_mode_is_not_valid(spec):
    assert not is_valid(spec)


@given(st.text(alphabet="ugoa+-=rwxXst,0127", max_size=12))
def test_what_is_valid_applies(spec):
    if is_valid(spec):
        assert 0 <= apply(spec, 0o644, directory=False) <= 0o7777
