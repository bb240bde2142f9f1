"""The command line of the sandbox is a pure function of its plan."""

from __future__ import annotations

import operator
import re
import struct

import pytest

from ci.engine.sandbox.argv import (
    Bind,
    Data,
    Descriptors,
    Mode,
    Overlay,
    Plan,
    Tmpfs,
    arguments,
    overlay_options_size,
)
from ci.engine.sandbox.confinement import Kernel, Restrictions, confinement
from ci.engine.sandbox.launcher import CODE, Call, candidates, image, table
from ci.engine.sandbox.seccomp import filter_program
from ci.engine.sandbox.syscalls import FILTERED
from ci.engine.trees.passwd import Identity

ROOT = Overlay(target="/", lower=("/l/1", "/l/2"), upper="/t/u", work="/t/w")
FDS = Descriptors(arguments=10, status=11, launcher=12)


def plan(**options) -> Plan:
    defaults = {"mode": Mode.ROOT, "root": ROOT, "args": ("echo", "hi")}
    return Plan(**{**defaults, **options})


def hidden(made: Plan, fds: Descriptors = FDS) -> str:
    return " ".join(arguments(made, fds)[1])


def test_the_command_is_visible_and_the_environment_is_not() -> None:
    visible, _ = arguments(plan(env=(("TOKEN", "secret"),)), FDS)
    assert visible == ["--args", "10", "--", "/proc/self/fd/12", "echo", "hi"]
    assert "--clearenv --setenv TOKEN secret" in hidden(plan(env=(("TOKEN", "secret"),)))


@pytest.mark.parametrize(
    "flag", ["--unshare-pid", "--die-with-parent", "--new-session", "--json-status-fd 11"]
)
@pytest.mark.parametrize("mode", list(Mode))
def test_every_sandbox_ends_with_its_parent(mode: Mode, flag: str) -> None:
    assert flag in hidden(plan(mode=mode))


def test_layers_are_stacked_lowest_first() -> None:
    assert "--overlay-src /l/1 --overlay-src /l/2 --overlay /t/u /t/w / --dev /dev" in hidden(
        plan()
    )


def test_mounts_follow_the_root_in_order() -> None:
    mounts = (
        Bind(target="/a", source="/host/a"),
        Bind(target="/a/b", source="/host/b", read_only=True),
        Tmpfs(target="/t", size_bytes=4096),
        Data(target="/s", descriptor=20, mode=0o440),
        Overlay(target="/ro", lower=("/l/3", "/l/4")),
        Overlay(target="/one", lower=("/l/5",)),
    )
    assert (
        "--bind /host/a /a --ro-bind /host/b /a/b --perms 1777 --size 4096 --tmpfs /t "
        "--perms 440 --ro-bind-data 20 /s --overlay-src /l/3 --overlay-src /l/4 --ro-overlay /ro "
        "--ro-bind /l/5 /one" in hidden(plan(mounts=mounts))
    )


def test_root_keeps_what_the_launcher_needs_to_take_away() -> None:
    assert "--cap-" not in hidden(plan())
    assert "--unshare-user" not in hidden(plan())


def test_one_uid_makes_a_user_namespace_whoever_the_command_runs_as() -> None:
    for user in (Identity(), Identity(uid=7, gid=8)):
        made = hidden(plan(mode=Mode.ONE_UID, user=user))
        assert "--unshare-user --uid 0 --gid 0 --cap-add ALL" in made


def test_a_joined_namespace_is_not_unshared_again() -> None:
    assert "--unshare-user" not in hidden(plan(mode=Mode.ONE_UID, joined=True))


def test_devices_of_the_machine_are_lent_only_where_the_launcher_makes_none() -> None:
    assert "--dev /dev" in hidden(plan())
    own = " ".join(arguments(plan(), FDS, lend_devices=False)[1])
    assert "--dev /dev" not in own
    assert "/sys" not in own


def test_a_missing_workdir_is_made_before_it_is_entered() -> None:
    made = hidden(plan(workdir="/w", make_workdir=True))
    assert "--perms 755 --dir /w --hostname towpath --chdir /w" in made
    assert "--dir" not in hidden(plan(workdir="/w"))


def test_the_size_of_overlay_options_counts_every_path() -> None:
    small = Overlay(target="/", lower=("/a",))
    large = Overlay(target="/", lower=("/a",) * 100)
    assert overlay_options_size(large) - overlay_options_size(small) == 99 * len("/oldroot/a:")


# -- the launcher --------------------------------------------------------------------------------


def test_commands_are_looked_for_as_execvp_does() -> None:
    assert candidates("sh", "/a:/b::/c") == ["/a/sh", "/b/sh", "./sh", "/c/sh"]
    assert candidates("./sh", "/a") == ["./sh"]


@pytest.mark.parametrize("machine", sorted(CODE))
def test_the_launcher_is_a_static_program_for_its_machine(machine: str) -> None:
    calls = table(machine, [Call(number=9, args=(-1, b"in memory"), purpose="do it")])
    made = image(machine, "tool", path="/bin", calls=calls)
    assert made[:4] == b"\x7fELF"
    kind, architecture = struct.unpack_from("<HH", made, 16)
    assert (kind, architecture) == (2, {"x86_64": 62, "aarch64": 183}[machine])
    offset, size = struct.unpack_from("<Q16xQ", made, 64 + 8)
    assert (offset, size) == (0, len(made))
    assert b"/bin/tool\0\0" in made
    number, optional, *_, first, second = struct.unpack_from(
        "<qQ2QqQ", made, calls.entry - 0x400000
    )
    assert (number, optional, first) == (9, 0, -1)
    assert made[second - 0x400000 :].startswith(b"in memory")


# -- seccomp -------------------------------------------------------------------------------------


def run_filter(program: bytes, arch: int, number: int, argument: int = 0) -> int:
    """What the kernel would answer: a tiny interpreter of the instructions that are used."""
    steps: list[tuple[int, int, int, int]] = list(struct.iter_unpack("<HBBI", program))
    at, loaded = 0, 0
    while True:
        code, if_true, if_false, value = steps[at]
        at += 1
        if code == 0x20:
            loaded = {0: number, 4: arch, 16: argument}[value]
        elif code == 0x05:
            at += value
        elif code in JUMPS:
            at += if_true if JUMPS[code](loaded, value) else if_false
        else:
            assert code == 0x06
            return value


JUMPS = {0x15: operator.eq, 0x35: operator.ge, 0x45: operator.and_}
ALLOW, PRETEND, REFUSE, UNKNOWN = 0x7FFF0000, 0x00050000, 0x00050001, 0x00050026
#: Machine, AUDIT_ARCH, column of the table of numbers.
ARCHES = [("x86_64", 0xC000003E, 0), ("x86_64", 0x40000003, 1), ("aarch64", 0xC00000B7, 2)]
OWNERSHIP = {name for name in FILTERED if "chown" in name or "setgroups" in name}
BY_ARGUMENT = {"clone", "personality", "socket", "unshare"}


@pytest.mark.parametrize("pretend", [False, True])
@pytest.mark.parametrize(("machine", "arch", "column"), ARCHES)
def test_the_filter_answers_each_call_as_its_table_says(machine, arch, column, pretend) -> None:
    program = filter_program(confined=True, pretend_ownership=pretend, machine=machine)
    assert program is not None
    expected = dict.fromkeys(range(459), ALLOW) | dict.fromkeys(range(462, 467), ALLOW)
    expected |= dict.fromkeys([459, 461, 467, 1000, 0x40000000, 0xFFFFFFFF], UNKNOWN)
    for name, numbers in FILTERED.items():
        if (number := numbers[column]) is None:
            continue
        if name in BY_ARGUMENT:
            del expected[number]
        else:
            owner = PRETEND if pretend else ALLOW
            expected[number] = owner if name in OWNERSHIP else REFUSE
    expected[435] = UNKNOWN  # clone3
    found = {number: run_filter(program, arch, number) for number in expected}
    assert found == expected


@pytest.mark.parametrize(("machine", "arch", "column"), ARCHES)
@pytest.mark.parametrize(
    ("name", "argument", "answer"),
    [
        ("clone", 0x11, ALLOW),  # SIGCHLD: a fork
        ("clone", 0x3D0F00, ALLOW),  # a thread
        ("clone", 0x10000000, REFUSE),  # CLONE_NEWUSER
        ("clone", 0x00020000, REFUSE),  # CLONE_NEWNS
        ("personality", 0, ALLOW),
        ("personality", 0xFFFFFFFF, ALLOW),
        ("personality", 0x40000, REFUSE),  # ADDR_NO_RANDOMIZE
        ("socket", 1, ALLOW),  # AF_UNIX
        ("socket", 40, REFUSE),  # AF_VSOCK
        ("unshare", 0x10000000, REFUSE),
    ],
)
def test_some_calls_are_judged_by_their_argument(
    machine, arch, column, name, argument, answer
) -> None:
    program = filter_program(confined=True, pretend_ownership=False, machine=machine)
    number = FILTERED[name][column]
    assert program is not None
    assert number is not None
    assert run_filter(program, arch, number, argument) == answer


def test_where_there_is_one_uid_a_user_namespace_is_the_way_to_another() -> None:
    program = filter_program(confined=True, pretend_ownership=True, machine="x86_64")
    assert program is not None
    answers = [run_filter(program, 0xC000003E, 272, flags) for flags in (0x10000000, 0x10020000)]
    assert answers == [ALLOW, REFUSE]


def test_the_first_filter_leaves_the_launcher_what_it_needs() -> None:
    program = filter_program(
        confined=True, pretend_ownership=False, machine="x86_64", mounting=True
    )
    assert program is not None

    def answer(name: str, argument: int = 0) -> int:
        return run_filter(program, 0xC000003E, FILTERED[name][0] or 0, argument)

    assert {answer("mount"), answer("mount_setattr"), answer("unshare", 0x02000000)} == {ALLOW}
    assert {answer("unshare", 0x10000000), answer("keyctl"), answer("move_mount")} == {REFUSE}


def test_a_call_of_another_kind_of_program_is_unknown() -> None:
    program = filter_program(confined=True, pretend_ownership=True, machine="x86_64")
    assert program is not None
    assert run_filter(program, 0xC00000B7, 0) == UNKNOWN


def test_a_sandbox_that_is_not_confined_only_pretends() -> None:
    program = filter_program(confined=False, pretend_ownership=True, machine="x86_64")
    assert program is not None
    mount, chown, new = 165, 92, 1000
    answers = [run_filter(program, 0xC000003E, number) for number in (mount, chown, new)]
    assert answers == [ALLOW, PRETEND, ALLOW]
    assert filter_program(confined=False, pretend_ownership=False) is None
    assert filter_program(confined=True, pretend_ownership=True, machine="vax") is None


# -- confinement ---------------------------------------------------------------------------------


KERNEL = Kernel(machine="x86_64", initial=True, last_capability=40)


def purposes(made: Plan, **options) -> set[str]:
    content = confinement(Restrictions.of(made, **options), KERNEL).content
    return set(re.findall(r"towpath: cannot (.*)\n", content.decode("latin-1")))


def test_what_a_confined_command_gives_up() -> None:
    lost = purposes(plan(mounts=(Overlay(target="/m", lower=("/l",)),)))
    assert {"restrict the mount /", "restrict the mount /m", "filter system calls"} <= lost
    kept = {0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31}
    dropped = {int(text.rpartition(" ")[2]) for text in lost if "capability" in text}
    assert dropped == set(range(41)) - kept


def test_a_command_with_all_capabilities_keeps_them() -> None:
    assert purposes(plan(confined=False)) == {"open /dev/null", "become uid 0, gid 0"}


def test_one_uid_maps_another_user_in_a_namespace_of_its_own() -> None:
    user = Identity(uid=7, gid=8)
    made = confinement(Restrictions.of(plan(mode=Mode.ONE_UID, user=user)), KERNEL).content
    assert b"7 0 1" in made
    assert b"8 0 1" in made


def test_a_command_with_input_does_not_read_dev_null() -> None:
    assert "open /dev/null" not in purposes(plan(), has_stdin=True)
