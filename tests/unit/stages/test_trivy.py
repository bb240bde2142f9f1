"""What Trivy says besides its findings decides whether "clean" is believed."""

from __future__ import annotations

import pytest

from ci.errors import StageErrored
from ci.stages.installed import Installed
from ci.stages.trivy import check_log

TIME = "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    "log",
    [
        "",
        f"{TIME}\tINFO\t[vuln] Vulnerability scanning is enabled\n",
        f"{TIME}\tWARN\t[pip] Unable to find site-packages. License detection is skipped.\terr=x\n",
        f"{TIME}\tWARN\tThird-party SBOM may lead to inaccurate vulnerability detection\n",
    ],
)
def test_what_leaves_nothing_out_is_passed(log):
    check_log("image", 0, log)


@pytest.mark.parametrize(
    ("code", "log"),
    [
        (0, f"{TIME}\tWARN\tThis OS version is no longer supported by the distribution\n"),
        (0, f"{TIME}\tERROR\t[javadb] The first run cannot skip downloading Java DB\n"),
        (1, f"{TIME}\tFATAL\tFatal error\tno such file\n"),
        (2, "panic: runtime error\n"),
    ],
)
def test_anything_else_is_errored_with_the_line(code, log):
    with pytest.raises(StageErrored) as caught:
        check_log("image", code, log)
    assert log.rpartition("\t")[2].strip() in str(caught.value)


def installed(**packages) -> Installed:
    nothing = {"identity": (), "dpkg": (), "apk": (), "python": ()}
    return Installed.model_validate(
        {"system": {"id": "debian", "version": "12"}, **nothing, **packages}
    )


@pytest.mark.parametrize("version", ["2.36-3", "2.36-3-9+deb12u1"])
def test_a_debian_package_is_seen_with_or_without_epoch_and_revision(version):
    made = installed(dpkg=[("libc6", "1:2.36-3-9+deb12u1")])
    made.check_seen([], of_system=[("libc6", version)], by="trivy")


@pytest.mark.parametrize("seen", [[], [("libc6", "2.35")], [("libc", "2.36")]])
def test_a_package_of_the_system_that_was_not_seen_is_errored(seen):
    with pytest.raises(StageErrored, match=r"left 1 of 1 packages out.*no word of libc6"):
        installed(dpkg=[("libc6", "2.36-9")]).check_seen([], of_system=seen, by="trivy")


def test_a_python_package_that_was_not_seen_is_errored():
    made = installed(python=[("Foo.Bar", "1"), ("baz", "2")])
    made.check_seen([("foo_bar", "1"), ("baz", "2"), ("more", "3")], of_system=[], by="trivy")
    with pytest.raises(StageErrored, match="no word of baz 2"):
        made.check_seen([("foo_bar", "1"), ("baz", "1")], of_system=[], by="trivy")
