"""The image runs as an ordinary user and says what it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ci.gates.protocol import Reason, fold, unusable
from ci.values import Evidence, Outcome, Status, Verdict
from ci.values import Image as BuiltImage

__all__ = ["Image"]


@dataclass(frozen=True, kw_only=True)
class Image:
    """Judges built images by their configuration."""

    name: str = "image"
    #: Labels that must be there and not empty.
    labels: tuple[str, ...] = ()
    non_root: bool = True
    #: Stages that build an image: one that passed and names none is inconclusive.
    builds: tuple[str, ...] = ("build",)

    def judge(self, evidence: Sequence[Evidence]) -> Verdict:
        """Passed when every image keeps to the policy; inconclusive without an image."""
        return fold(self.name, self.reasons(evidence))

    def reasons(self, evidence: Sequence[Evidence]) -> Iterator[Reason]:
        """One for each image that keeps to the policy, and one for each thing that is wrong."""
        for item in evidence:
            if item.image is None and item.stage not in self.builds:
                continue
            if reason := unusable(item):
                yield reason
            elif item.image is not None:
                yield from self._reasons(item.stage, item.image)
            elif item.status == Status.PASSED:
                text = f"{item.stage}: passed, and does not say which image it built"
                yield Reason(Outcome.INCONCLUSIVE, text)

    def _reasons(self, stage: str, image: BuiltImage) -> Iterator[Reason]:
        faults = []
        if self.non_root and _is_root(image.user):
            said = f"user {image.user}" if image.user else "no user is set"
            faults.append(f"the image runs as root ({said}); set a USER that is not")
        present = {name for name, value in image.labels if value}
        faults += [f"the image lacks the label {n}" for n in self.labels if n not in present]
        yield from (Reason(Outcome.FAILED, f"{stage}: {fault}") for fault in faults)
        if not faults:
            user = f"runs as {image.user}" if self.non_root else "keeps to the policy"
            yield Reason(Outcome.PASSED, f"{stage}: the image {user}")


def _is_root(user: str) -> bool:
    name = user.partition(":")[0]
    return name in ("", "root") or (name.isdecimal() and int(name) == 0)
