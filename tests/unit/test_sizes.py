"""Sizes, read and told as people write them."""

from __future__ import annotations

import pytest

from ci import sizes


@pytest.mark.parametrize(
    ("text", "size"),
    [("512M", 512 << 20), ("2GiB", 2 << 30), ("1kb", 1024), ("7", 7), ("0", 0),
     (" 1.5 g ", 3 << 29), ("64m", 64 << 20), ("1T", 1 << 40), ("2pib", 2 << 50), ("7B", 7),
     ("9007199254740993", 2**53 + 1)],
)  # fmt: skip
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert sizes.parse(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1", "1.", ".5G", "1e3", "10%", "1 G G", "1x", "²"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="^" + text.replace(".", "[.]")):
        sizes.parse(text)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (1 << 10, "1 KiB"), (3 << 29, "1.5 GiB"), (1 << 30, "1 GiB")]
)
def test_sizes_are_told_as_people_write_them(size: int, text: str) -> None:
    assert sizes.readable(size) == text
    assert size < 1 << 10 or sizes.parse(text) == size
