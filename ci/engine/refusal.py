"""Refusal: what the API answers when a request cannot be met; becomes one GraphQL error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ci.errors import CiError

__all__ = ["Refusal", "Unsupported"]


class Refusal(CiError):
    """The request is wrong, or cannot be met; the message is Dagger's own where it has one."""

    #: Goes into the GraphQL error, as Dagger's SDKs expect it.
    extensions: Mapping[str, Any] = {}


class Unsupported(Refusal):
    """A field of Dagger's API that the embedded engine does not serve."""

    def __init__(self, field: str, reason: str = "") -> None:
        super().__init__(
            f"{field} is not supported by the embedded engine" + (f" ({reason})" if reason else ""),
            hint="run this pipeline on the Dagger engine (dagger call, dagger run)",
        )
