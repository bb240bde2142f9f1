"""Names of git repositories, and their URLs. Pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci.engine.git.refs import Ref, Refs
from ci.engine.git.url import GitURL
from ci.engine.refusal import Refusal

A, B, C = "a" * 40, "b" * 40, "c" * 40
LISTED = f"""\
ref: refs/heads/main\tHEAD
{A}\tHEAD
{A}\trefs/heads/main
{B}\trefs/heads/v1
{B}\trefs/tags/v1
{C}\trefs/tags/v1^{{}}
{A}\trefs/heads/feature/one
{B}\trefs/pull/7/head
warning: redirecting to elsewhere
"""
REFS = Refs.parse(LISTED)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("HEAD", Ref("refs/heads/main", A)),
        ("main", Ref("refs/heads/main", A)),
        ("heads/main", Ref("refs/heads/main", A)),
        ("refs/heads/v1", Ref("refs/heads/v1", B)),
        ("v1", Ref("refs/heads/v1", B)),
        ("refs/tags/v1", Ref("refs/tags/v1", C)),
        ("feature/one", Ref("refs/heads/feature/one", A)),
        ("refs/pull/7/head", Ref("refs/pull/7/head", B)),
        (C, Ref("", C)),
    ],
)
def test_a_name_is_found_as_git_checks_it_out(name, found):
    assert REFS.find(name) == found


@pytest.mark.parametrize("name", ["", "mai", "refs", "v1^{}x", "a" * 39, "../main"])
def test_a_name_that_is_not_there_is_refused(name):
    with pytest.raises(Refusal, match="does not contain ref"):
        REFS.find(name)


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        ((), ["main", "v1", "feature/one"]),
        (("main",), ["main"]),
        (("one",), ["feature/one"]),
        (("*",), ["main", "v1", "feature/one"]),
        (("refs/heads/v*", "mai?"), ["main", "v1"]),
        (("none",), []),
    ],
)
def test_branches_are_matched_from_the_end_of_their_names(patterns, found):
    assert REFS.branches(patterns) == found


def test_a_tag_is_listed_once():
    assert REFS.tags() == ["v1"]


@pytest.mark.parametrize(
    ("tags", "latest"),
    [
        (["v1.9.0", "v1.10.0", "v1.2.3"], "v1.10.0"),
        (["v1.0.0", "v1.0.0-rc.1"], "v1.0.0"),
        (["v1.0.0-rc.2", "v1.0.0-rc.10", "v1.0.0-alpha"], "v1.0.0-rc.10"),
        (["v2", "v1.9.9", "release-9", "v03.0.0"], "v2"),
    ],
)
def test_the_latest_version_is_the_highest(tags, latest):
    refs = Refs(tuple((f"refs/tags/{tag}", A) for tag in tags))
    assert refs.latest_version().name == f"refs/tags/{latest}"


def test_without_versions_there_is_no_latest():
    with pytest.raises(Refusal, match="no tag that is a version"):
        Refs().latest_version()


@given(st.text())
def test_any_text_can_be_read(text):
    refs = Refs.parse(text)
    assert all(len(commit) in (40, 64) for _, commit in refs.listed)


# -- URLs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_", "text", "scheme", "host", "port", "ref", "folder"),
    [
        ("https://h.com/o/r", "https://h.com/o/r", "https", "h.com", 443, "", ""),
        ("https://h.com:84/r#main", "https://h.com:84/r", "https", "h.com", 84, "main", ""),
        ("git@h.com:o/r.git#v1:sub/dir/", "git@h.com:o/r.git", "ssh", "h.com", 22, "v1", "sub/dir"),
        ("ssh://h.com:2222/r", "ssh://git@h.com:2222/r", "ssh", "h.com", 2222, "", ""),
        ("ssh://ada@h.com/r", "ssh://ada@h.com/r", "ssh", "h.com", 22, "", ""),
        ("git://h.com/r#:sub", "git://h.com/r", "git", "h.com", 9418, "", "sub"),
        ("github.com/o/r", "https://github.com/o/r", "https", "github.com", 443, "", ""),
    ],
)  # fmt: skip
def test_a_url_is_read(given_, text, scheme, host, port, ref, folder):
    assert GitURL.parse(given_) == GitURL(
        text=text, scheme=scheme, host=host, port=port, ref=ref, folder=folder
    )


@given(st.text())
def test_any_text_is_a_url_or_refused(text):
    try:
        url = GitURL.parse(text)
    except Refusal:
        return
    assert url.scheme in ("https", "http", "ssh", "git")
    assert not url.text.startswith("-")
    assert not any(char.isspace() for char in url.text)
