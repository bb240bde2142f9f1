import io
from collections.abc import Iterator

import pytest
import structlog

from ci import log

DIGEST = "sha256:" + "1a2b3c4d5e6f7a8b" * 4


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    before = structlog.get_config()
    yield io.StringIO()
    structlog.configure(**before)


def test_a_warning_is_a_sentence(stream: io.StringIO):
    log.configure(stream=stream)
    structlog.get_logger().warning("image.stood_in", stand_in="A, in place of B", digest=DIGEST)
    assert (
        stream.getvalue()
        == "warning: image stood in: A, in place of B (digest=sha256:1a2b3c4d5e6f)\n"
    )


def test_a_hint_has_a_line_of_its_own(stream: io.StringIO):
    log.configure(stream=stream)
    structlog.get_logger().warning("store.damaged", error="a layer is gone\nhint: x", layer=7)
    structlog.get_logger().warning("limits.shared", hint="`ci doctor` says why")
    assert stream.getvalue() == (
        "warning: store damaged: a layer is gone (layer=7)\nhint: x\n"
        "warning: limits shared\nhint: `ci doctor` says why\n"
    )


def test_more_is_logged_with_the_time_where_it_is_asked_for(stream: io.StringIO):
    log.configure(stream=stream, verbose=True)
    structlog.get_logger().info("image.pulled", reference="debian")
    assert "[info" in stream.getvalue()
    assert "reference=debian" in stream.getvalue()
