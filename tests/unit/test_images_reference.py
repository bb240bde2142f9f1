"""References are parsed as Docker parses them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci.engine.images.reference import InvalidReferenceError, Reference

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "whole", "familiar"),
    [
        ("python", "docker.io/library/python:latest", "python:latest"),
        ("python:3.11-slim", "docker.io/library/python:3.11-slim", "python:3.11-slim"),
        ("aquasec/trivy:0.59", "docker.io/aquasec/trivy:0.59", "aquasec/trivy:0.59"),
        ("docker.io/python:3", "docker.io/library/python:3", "python:3"),
        ("index.docker.io/library/python", "docker.io/library/python:latest", "python:latest"),
        ("ghcr.io/a/b:c", "ghcr.io/a/b:c", "ghcr.io/a/b:c"),
        ("localhost/a", "localhost/a:latest", "localhost/a:latest"),
        ("localhost:5000/a/b", "localhost:5000/a/b:latest", "localhost:5000/a/b:latest"),
        ("127.0.0.1:5000/a:1", "127.0.0.1:5000/a:1", "127.0.0.1:5000/a:1"),
        ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
        (f"a@{DIGEST}", f"docker.io/library/a@{DIGEST}", f"a@{DIGEST}"),
        (f"a:1@{DIGEST}", f"docker.io/library/a:1@{DIGEST}", f"a:1@{DIGEST}"),
        ("a__b/c-d.e", "docker.io/a__b/c-d.e:latest", "a__b/c-d.e:latest"),
    ],
)
def test_a_reference_means_what_it_means_to_docker(text: str, whole: str, familiar: str) -> None:
    reference = Reference.parse(text)
    assert str(reference) == whole
    assert reference.familiar == familiar
    assert Reference.parse(whole) == reference


@pytest.mark.parametrize(
    "text",
    ["", ":", "a:", "Upper", "a/B", "a//b", "/a", "a/", "a b", "a:b:c", "a@sha256:12", "a@md5:x",
     "-a", "a-", "host.io/", "a:" + "x" * 129, "http://a/b", "../a", "a;rm"],
)  # fmt: skip
def test_what_names_no_image_is_refused_with_what_was_got(text: str) -> None:
    with pytest.raises(InvalidReferenceError) as caught:
        Reference.parse(text)
    assert repr(text) in str(caught.value)
    assert caught.value.exit_code == 64


@given(st.text(max_size=40))
def test_any_text_is_parsed_or_refused_and_what_is_parsed_is_stable(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except InvalidReferenceError:
        return
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.familiar) == reference
