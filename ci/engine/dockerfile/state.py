"""StageState: what a stage is between two instructions. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ci.engine.dockerfile.expansion import Expander
from ci.engine.dockerfile.plan import Plan
from ci.engine.vertices.container import ContainerState
from ci.engine.vertices.vertex import DirectoryRef, SecretRef, Tree

__all__ = ["Request", "StageState", "Surroundings"]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a build is given beside its Dockerfile."""

    #: The build context, less what is ignored.
    context: DirectoryRef
    #: ``os/architecture[/variant]``
    platform: str
    #: By the id that ``--mount=type=secret,id=`` names.
    secrets: Mapping[str, SecretRef]
    no_init: bool = False


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What is around the instructions of one stage."""

    plan: Plan
    request: Request
    #: Roots of the stages and images that its instructions take from, by stage or reference.
    roots: Mapping[int | str, Tree]
    #: Number of the stage.
    index: int

    def root(self, reference: str, line: int) -> Tree:
        """The tree that ``--from=reference`` names."""
        return self.roots[self.plan.find(reference, before=self.index, line=line)]

    def origin(self, line: int) -> str:
        """A place, for messages."""
        return f"{self.plan.file}:{line}"


@dataclass(frozen=True, kw_only=True)
class StageState:
    """A container as far as it is built, and the variables that its next instruction sees."""

    container: ContainerState
    #: Variables of the image and arguments; the last one set wins.
    scope: Mapping[str, str]
    escape: str = "\\"
    #: This stage has a CMD.
    command_set: bool = False

    @property
    def workdir(self) -> str:
        """Absolute."""
        return self.container.workdir or "/"

    def expand(self, text: str) -> str:
        """The text with its variables replaced, quotes and escapes gone.

        Raises:
            BadSubstitution: it cannot be.
        """
        return Expander(self.scope, escape=self.escape).word(text)

    def words(self, text: str) -> list[str]:
        """The same, split into words."""
        return Expander(self.scope, escape=self.escape).words(text)

    def expand_document(self, text: str) -> str:
        """The same for a heredoc, in which quotes mean nothing."""
        return Expander(self.scope, quotes=False).word(text)

    def setting(self, **values: object) -> StageState:
        """The state with these values in its container."""
        return replace(self, container=replace(self.container, **values))  # type: ignore[arg-type]

    def with_variable(self, name: str, value: str) -> StageState:
        """A variable that later instructions see, and the image does not have."""
        return replace(self, scope={**self.scope, name: value})
