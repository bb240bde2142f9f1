"""Variables, quotes and patterns in words, as a shell would have them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci.engine.dockerfile.expansion import BadSubstitution, Expander

SCOPE = {"A": "one", "EMPTY": "", "PATH": "/usr/bin:/bin", "FILE": "dir/name.tar.gz"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("$A", "one"),
        ("${A}", "one"),
        ("$A$A-${A}x", "oneone-onex"),
        ("$NONE|", "|"),
        ("a$", "a$"),
        ("$ A", "$ A"),
        ("\\$A", "$A"),
        ("'$A'", "$A"),
        ('"$A b"', "one b"),
        ('"\\$A \\" \\n"', '$A " \\n'),
        ("a\\ b", "a b"),
        ("\\\\", "\\"),
        ("${NONE:-x}", "x"),
        ("${EMPTY:-x}", "x"),
        ("${EMPTY-x}", ""),
        ("${NONE-x}", "x"),
        ("${A:-x}", "one"),
        ("${A:+x}", "x"),
        ("${EMPTY:+x}", ""),
        ("${EMPTY+x}", "x"),
        ("${NONE+x}", ""),
        ("${NONE:-${A}}", "one"),
        ("${NONE:-'a b'}", "a b"),
        ("${NONE:-a\\}b}", "a}b"),
        ("${A:?must be}", "one"),
        ("${FILE#*/}", "name.tar.gz"),
        ("${FILE#*.}", "tar.gz"),
        ("${FILE##*.}", "gz"),
        ("${FILE%.*}", "dir/name.tar"),
        ("${FILE%%.*}", "dir/name"),
        ("${FILE#nothing}", "dir/name.tar.gz"),
        ("${FILE%?}", "dir/name.tar.g"),
        ("${FILE/a/A}", "dir/nAme.tar.gz"),
        ("${FILE//a/A}", "dir/nAme.tAr.gz"),
        ("${FILE//./}", "dir/nametargz"),
        ("${FILE/\\//_}", "dir_name.tar.gz"),
        ("${FILE/n*r/-}", "dir/-.gz"),
        ("${NONE/a/b}", ""),
        ("$1", ""),
        ("$12x", "x"),
        ("$@", ""),
    ],
)
def test_a_word_is_expanded(text, expected):
    assert Expander(SCOPE).word(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("'open", "single quote"),
        ('"open', "double quote"),
        ("${A", "closing }"),
        ("${A:-x", "closing }"),
        ("${}", "bad substitution"),
        ("${:x}", "bad substitution"),
        ("${{A}}", "bad substitution"),
        ("${A~x}", "modifier"),
        ("${A:x}", "modifier"),
        ("${NONE:?give it}", "give it"),
        ("${EMPTY:?}", "empty"),
        ("${NONE?}", "unset"),
        ("${A/x", "closing /"),
        ("${A#\\z}", "escape"),
        ("${A:-" * 60 + "}" * 60, "substitutions"),
    ],
)
def test_what_is_not_closed_or_not_known_is_told(text, said):
    with pytest.raises(BadSubstitution, match=said):
        Expander(SCOPE).word(text)


def test_another_escape_leaves_backslashes_alone():
    assert Expander(SCOPE, escape="`").word("C:\\x`$A") == "C:\\x$A"


def test_in_a_document_quotes_mean_nothing():
    assert Expander(SCOPE, quotes=False).word("'$A' \"$A") == "'one' \"one"


def test_words_are_split_after_plain_variables_but_not_in_quotes():
    scope = {"PORTS": "80 443"}
    assert Expander(scope).words("$PORTS x") == ["80", "443", "x"]
    assert Expander(scope).words('"$PORTS" "a b"c') == ["80 443", "a bc"]


def test_unset_variables_can_be_left_as_they_are_written():
    keep = Expander({}, keep_unset=True)
    assert keep.word("$X ${X} ${X:-y}") == "$X ${X} ${X:-y}"


@given(st.text(alphabet="$A{}:-+?#%/*\\'\"` x", max_size=60))
def test_any_text_expands_or_is_told(text):
    for expander in (
        Expander(SCOPE),
        Expander(SCOPE, quotes=False),
        Expander(SCOPE, raw_quotes=True, raw_escapes=True),
    ):
        try:
            expander.word(text)
            expander.words(text)
        except BadSubstitution:
            pass


def test_patterns_take_no_exponential_time():
    text = "${V##" + "*a" * 40 + "b}"
    assert Expander({"V": "a" * 2000}).word(text) == "a" * 2000


@given(st.text(alphabet="ab.", max_size=8), st.text(alphabet="ab.*?", max_size=5))
def test_prefixes_and_suffixes_are_what_a_plain_search_finds(value, pattern):
    from fnmatch import fnmatchcase

    starts = [n for n in range(len(value) + 1) if fnmatchcase(value[:n], pattern)]
    ends = [n for n in range(len(value) + 1) if fnmatchcase(value[n:], pattern)]
    scope = Expander({"V": value})
    assert scope.word("${V#" + pattern + "}") == value[min(starts, default=0) :]
    assert scope.word("${V##" + pattern + "}") == value[max(starts, default=0) :]
    assert scope.word("${V%" + pattern + "}") == value[: max(ends, default=len(value))]
    assert scope.word("${V%%" + pattern + "}") == value[: min(ends, default=len(value))]
