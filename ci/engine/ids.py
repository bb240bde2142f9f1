"""IDs: opaque strings that stand for the immutable values of one session."""

from __future__ import annotations

from typing import TypeVar

from ci.engine.refusal import Refusal
from ci.engine.vertices.vertex import Vertex

__all__ = ["Objects"]

V = TypeVar("V", bound=Vertex)

#: GraphQL type of a value's class where the two names differ.
_NAMES = {
    "ContainerState": "Container",
    "DirectoryRef": "Directory",
    "ExposedPort": "Port",
    "FileRef": "File",
    "Healthcheck": "HealthcheckConfig",
    "SecretRef": "Secret",
    "ServiceState": "Service",
    "TunnelState": "Service",
}


def type_name(value: object) -> str:
    """The GraphQL type of a value."""
    name = type(value).__name__
    return _NAMES.get(name, name)


class Objects:
    """The values that were named by an ID in this session. Equal values have equal IDs."""

    def __init__(self) -> None:
        self._values: dict[str, Vertex] = {}

    def __len__(self) -> int:
        return len(self._values)

    def id(self, value: Vertex) -> str:
        """The value's ID; it can be looked up from now on."""
        name = f"{type_name(value)}:{value.digest}"
        self._values.setdefault(name, value)
        return name

    def find(self, name: str, type_: str = "") -> Vertex:
        """The value of an ID, which must be of that GraphQL type where one is named.

        Raises:
            Refusal: this session gave no such ID, or it is of something else.
        """
        value = self._values.get(name)
        if value is None:
            raise Refusal(
                "object ID",
                got=repr(name[:80]),
                expected="an ID that this session has given",
                hint="IDs are of one session: pass objects, or their IDs only within it",
            )
        if type_ and type_name(value) != type_:
            raise Refusal("object ID", got=f"a {type_name(value)}", expected=f"a {type_}")
        return value

    def get(self, name: str, kind: type[V]) -> V:
        """The value of an ID, which must be of that class.

        Raises:
            Refusal: this session gave no such ID, or it is of something else.
        """
        value = self.find(name)
        if not isinstance(value, kind):
            wanted = _NAMES.get(kind.__name__, kind.__name__)
            raise Refusal("object ID", got=f"a {type_name(value)}", expected=f"a {wanted}")
        return value
