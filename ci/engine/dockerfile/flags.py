"""Flags of an instruction: which there are, and what kind of value each takes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ci.engine.dockerfile.fault import nearest
from ci.engine.dockerfile.words import BadWords

__all__ = ["Flags", "parse_flags"]


@dataclass(frozen=True, kw_only=True)
class Flags:
    """The flags that an instruction was given."""

    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def text(self, name: str, default: str = "") -> str:
        """The value of a flag."""
        return self.values[name][0] if name in self.values else default

    def many(self, name: str) -> tuple[str, ...]:
        """The values of a flag that may be repeated."""
        return self.values.get(name, ())

    def switch(self, name: str) -> bool | None:
        """Whether a flag is on; None where it is not given."""
        return self.values[name][0] == "true" if name in self.values else None


def parse_flags(
    given: Sequence[str],
    *,
    texts: Sequence[str] = (),
    many: Sequence[str] = (),
    switches: Sequence[str] = (),
) -> Flags:
    """The flags by name.

    Raises:
        BadWords: one is not known, repeated, or has no value that fits; ``expected`` names the
            nearest one.
    """
    known = (*texts, *many, *switches)
    found: dict[str, tuple[str, ...]] = {}
    for word in given:
        name, separator, value = word.removeprefix("--").partition("=")
        if name not in known:
            near = nearest(name, known)
            flags = ", ".join(f"--{flag}" for flag in known) or "no flag"
            raise BadWords(f"the flag --{name}", flags + (f" ({near})" if near else ""))
        if name in found and name not in many:
            raise BadWords(f"the flag --{name} twice", "it once")
        if name in switches:
            value = value.lower() if separator else "true"
            if value not in ("true", "false"):
                raise BadWords(repr(word), f"--{name} or --{name}=false")
        elif not separator:
            raise BadWords(f"--{name} without a value", f"--{name}=...")
        found[name] = (*found.get(name, ()), value)
    return Flags(values=found)
