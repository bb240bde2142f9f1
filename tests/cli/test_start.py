"""A quick start changes nothing but when the SDK's checks are compiled."""

from __future__ import annotations

import re
import subprocess
import sys

QUICK = """
import inspect, sys
from ci import start
with start._checks_on_first_call():
    from ci import cli
import beartype, dagger
"""


def python(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", QUICK + program], check=True, capture_output=True, text=True
    )
    return done.stdout


def test_a_wrong_argument_is_refused_as_by_the_sdk_itself():
    program = """
for wrong in (
    lambda c: c.with_exec(3),
    lambda c: c.with_new_file("a", contents=3),
    lambda c: c.directory(["a"]),
    lambda c: c.with_rootfs(c),
    lambda c: c.import_("a"),
    lambda _: object.__new__(dagger.Directory).with_directory("a", source=3),
    lambda _: object.__new__(dagger.Directory).diff("a"),
):
    try:
        wrong(object.__new__(dagger.Container))
    except TypeError as error:
        print(error)
"""
    refused = python(program).splitlines()
    assert len(refused) == 7
    plain = subprocess.run(
        [sys.executable, "-c", f"import dagger{program}"],
        check=True,
        capture_output=True,
        text=True,
    )
    # Beartype names a class by a reference to it where it is checked before the class is there.
    told = re.sub(r"<forwardref (\w+)\(.*?\)>", r"<class 'dagger.\1'>", plain.stdout)
    address = re.compile(" at 0x[0-9a-f]+")
    assert [address.sub("", each) for each in refused] == address.sub("", told).splitlines()


def test_functions_are_as_the_sdk_has_them():
    assert python("""
print(inspect.signature(dagger.Container.with_exec).parameters["use_entrypoint"].default)
print(dagger.Container.with_exec.__doc__.splitlines()[0])
print(inspect.iscoroutinefunction(dagger.Container.stdout))
print(inspect.iscoroutinefunction(dagger.Container.with_exec))
print(beartype.beartype.__module__.startswith("beartype"))
""").splitlines() == ["False", first_line_of_with_exec(), "True", "False", "True"]


def first_line_of_with_exec() -> str:
    import dagger

    return (dagger.Container.with_exec.__doc__ or "").splitlines()[0]
