"""The command line of the sandbox is a pure function of its plan."""

from __future__ import annotations

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
from ci.engine.sandbox.launcher import CODE, Identity, candidates, image
from ci.engine.sandbox.seccomp import ownership_filter

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


def test_root_has_dockers_capabilities_unless_it_asks_for_all() -> None:
    limited = hidden(plan())
    assert "--cap-drop ALL --cap-add CAP_CHOWN" in limited
    assert "CAP_SYS_ADMIN" not in limited
    assert "CAP_MKNOD" not in limited
    assert "--cap-drop" not in hidden(plan(all_capabilities=True))


def test_one_uid_makes_a_user_namespace_of_that_uid() -> None:
    root = hidden(plan(mode=Mode.ONE_UID))
    assert "--unshare-user --uid 0 --gid 0" in root
    assert "--cap-add ALL" in root
    user = hidden(plan(mode=Mode.ONE_UID, user=Identity(uid=7, gid=8)))
    assert "--unshare-user --uid 7 --gid 8" in user
    assert "--cap-add" not in user


def test_a_joined_namespace_is_not_unshared_again_but_to_switch_the_user() -> None:
    assert "--unshare-user" not in hidden(plan(mode=Mode.ONE_UID, joined=True))
    user = Identity(uid=7, gid=8)
    assert "--unshare-user --uid 7" in hidden(plan(mode=Mode.ONE_UID, joined=True, user=user))


def test_a_missing_workdir_is_made_before_it_is_entered() -> None:
    made = hidden(plan(workdir="/w", make_workdir=True))
    assert "--perms 755 --dir /w --hostname towpath --chdir /w" in made
    assert "--dir" not in hidden(plan(workdir="/w"))


def test_the_size_of_overlay_options_counts_every_path() -> None:
    small = Overlay(target="/", lower=("/a",))
    large = Overlay(target="/", lower=("/a",) * 100)
    assert overlay_options_size(large) - overlay_options_size(small) == 99 * len("/oldroot/a:")


def test_a_guarded_sandbox_cannot_reach_the_kernels_settings() -> None:
    assert "--ro-bind-try /proc/sys /proc/sys" in hidden(plan())
    assert "--ro-bind /dev/null /proc/kcore" in hidden(plan(masked=("/proc/kcore",)))
    assert "/proc/sys" not in hidden(plan(guarded=False))


# -- the launcher --------------------------------------------------------------------------------


def test_commands_are_looked_for_as_execvp_does() -> None:
    assert candidates("sh", "/a:/b::/c") == ["/a/sh", "/b/sh", "./sh", "/c/sh"]
    assert candidates("./sh", "/a") == ["./sh"]


@pytest.mark.parametrize("machine", sorted(CODE))
def test_the_launcher_is_a_static_program_for_its_machine(machine: str) -> None:
    made = image(machine, "tool", path="/bin", switch_to=Identity(uid=5, gid=6, groups=(6, 7)))
    assert made[:4] == b"\x7fELF"
    kind, architecture = struct.unpack_from("<HH", made, 16)
    assert (kind, architecture) == (2, {"x86_64": 62, "aarch64": 183}[machine])
    offset, size = struct.unpack_from("<Q16xQ", made, 64 + 8)
    assert (offset, size) == (0, len(made))
    assert b"/bin/tool\0\0" in made
    assert struct.pack("<II", 6, 7) in made


# -- seccomp -------------------------------------------------------------------------------------


def run_filter(program: bytes, arch: int, number: int) -> int:
    """What the kernel would answer: a tiny interpreter of the instructions that are used."""
    steps: list[tuple[int, int, int, int]] = list(struct.iter_unpack("<HBBI", program))
    at, loaded = 0, 0
    while True:
        code, if_true, if_false, value = steps[at]
        at += 1
        if code == 0x20:
            loaded = {0: number, 4: arch}[value]
        elif code == 0x15:
            at += if_true if loaded == value else if_false
        else:
            assert code == 0x06
            return value


ALLOW, PRETEND = 0x7FFF0000, 0x00050000


@pytest.mark.parametrize(
    ("machine", "arch", "pretended", "allowed"),
    [
        ("x86_64", 0xC000003E, (92, 93, 94, 260, 116), (0, 59, 90, 105, 106, 117, 119)),
        ("aarch64", 0xC00000B7, (54, 55, 159), (52, 53, 146, 147, 221)),
    ],
)
def test_only_changes_of_ownership_are_pretended(
    machine: str, arch: int, pretended: tuple[int, ...], allowed: tuple[int, ...]
) -> None:
    program = ownership_filter(machine)
    assert program is not None
    assert {run_filter(program, arch, number) for number in pretended} == {PRETEND}
    assert {run_filter(program, arch, number) for number in allowed} == {ALLOW}
    assert {run_filter(program, 0x40000003, number) for number in pretended} == {ALLOW}
    assert ownership_filter("vax") is None
