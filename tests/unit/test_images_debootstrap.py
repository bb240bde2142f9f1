"""Who can call mmdebstrap how."""

from __future__ import annotations

from pathlib import Path

import pytest

from ci.engine.bootstrap.builder import hint_for
from ci.engine.bootstrap.debootstrap import has_uid_range, mmdebstrap_command


def command(*, one_uid: bool) -> list[str]:
    return mmdebstrap_command(
        "/usr/bin/mmdebstrap", "bookworm", Path("/t.tar"), before="b", after="a", one_uid=one_uid
    )


def test_the_release_the_target_and_the_sources_come_last() -> None:
    assert command(one_uid=False)[-2:] == ["bookworm", "/t.tar"]


def test_nothing_becomes_another_user_where_there_is_only_one() -> None:
    assert {"--mode=root", "--skip=chroot/mount/dev", "--skip=cleanup/apt"} <= set(
        command(one_uid=True)
    )
    assert not any(option.startswith(("--mode", "--skip")) for option in command(one_uid=False))


@pytest.mark.parametrize(
    ("subuid", "subgid", "expected"),
    [
        ("ada:100000:65536\n", "ada:100000:65536\n", True),
        ("1001:100000:65536\n", "ada:100000:65536\n", True),
        ("ada:100000:65536\n", "bob:100000:65536\n", False),
        ("adam:100000:65536\n", "adam:100000:65536\n", False),
        ("", "", False),
    ],
)
def test_a_range_is_there_when_both_files_name_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subuid: str, subgid: str, *, expected: bool
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/subuid").write_text(subuid)
    (tmp_path / "etc/subgid").write_text(subgid)
    assert has_uid_range(root=tmp_path, user="ada", uid=1001) is expected


def test_without_newuidmap_there_is_no_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert has_uid_range(root=tmp_path, user="ada", uid=1001) is False


def test_a_full_disk_is_not_taken_for_a_fault_of_the_mirror() -> None:
    full = "W: creating tarball failed: E: cannot copy to /c/root.tar: No space left on device\n"
    assert "free some space" in hint_for(full)
    assert "TOWPATH_DEBIAN_MIRROR" in hint_for("E: Unable to locate package python3\n")
