"""From instructions to vertices and configuration, one function an instruction. Pure.

``RUN``, ``COPY`` and ``ADD`` are in modules of their own.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ci.engine.dockerfile.expansion import BadSubstitution
from ci.engine.dockerfile.fault import DockerfileError, nearest
from ci.engine.dockerfile.files import lower_copy
from ci.engine.dockerfile.instructions import (
    Arg,
    Cmd,
    CommandLine,
    Copy,
    Entrypoint,
    Env,
    Expose,
    HealthCheck,
    Instruction,
    Label,
    Maintainer,
    OnBuild,
    Run,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from ci.engine.dockerfile.ports import exposed
from ci.engine.dockerfile.running import lower_run, shell_of
from ci.engine.dockerfile.state import StageState, Surroundings
from ci.engine.dockerfile.words import BadWords
from ci.engine.vertices.container import ExposedPort, Healthcheck, join, put
from ci.engine.vertices.vertex import DockerCopy, Owner

__all__ = ["lower"]

_REAL_TIME = re.compile(r"RTM(IN(\+\d{1,2})?|AX(-\d{1,2})?)")


def lower(instruction: Instruction, state: StageState, around: Surroundings) -> StageState:
    """The stage after an instruction.

    Raises:
        DockerfileError: it cannot be done.
    """
    keyword = type(instruction).__name__.upper()
    if isinstance(instruction, Copy):
        keyword = instruction.keyword
    try:
        return _LOWER[type(instruction)](instruction, state, around)
    except BadWords as error:
        got, expected = error.got, error.expected
    except BadSubstitution as error:
        got, expected = str(error), ""
    raise DockerfileError(around.plan.file, instruction.line, keyword, got=got, expected=expected)


def _arg(one: Arg, state: StageState, around: Surroundings) -> StageState:
    plan = around.plan
    for name, default in one.names:
        value = plan.build_args.get(name)
        if value is None and default is not None:
            value = state.expand(default)
        if value is None:
            value = plan.global_args.get(name)
        if value is not None:
            state = state.with_variable(name, value)
    return state


def _env(one: Env, state: StageState, _: Surroundings) -> StageState:
    env, scope = state.container.env, dict(state.scope)
    for name, value in [(state.expand(n), state.expand(v)) for n, v in one.pairs]:
        if not name or "=" in name or "\0" in name + value:
            raise BadWords(f"the variable {name!r}", "a name without '='")
        env = put(env, name, value)
        scope[name] = value
    return replace(state.setting(env=env), scope=scope)


def _label(one: Label, state: StageState, _: Surroundings) -> StageState:
    labels = state.container.labels
    for name, value in one.pairs:
        labels = put(labels, state.expand(name), state.expand(value))
    return state.setting(labels=labels)


def _workdir(one: Workdir, state: StageState, around: Surroundings) -> StageState:
    path = join(state.workdir, state.expand(one.path))
    changed = state.setting(workdir=path)
    if path == "/":
        return changed
    user = state.container.user
    made = DockerCopy(
        tree=state.container.root,
        destination=path + "/",
        owner=Owner(spec=user) if user else None,
        origin=around.origin(one.line),
    )
    return changed.setting(root=made)


def _user(one: User, state: StageState, _: Surroundings) -> StageState:
    return state.setting(user=state.expand(one.name))


def _shell(one: Shell, state: StageState, _: Surroundings) -> StageState:
    return state.setting(shell=one.words)


def _expose(one: Expose, state: StageState, _: Surroundings) -> StageState:
    container = state.container
    for word in sorted(word for text in one.ports for word in state.words(text)):
        for port, protocol in exposed(word):
            container = container.with_port(
                ExposedPort(
                    port=port, protocol=protocol.upper(), skip_healthcheck=True, from_image=True
                )
            )
    return replace(state, container=container)


def _arguments(command: CommandLine, state: StageState) -> tuple[str, ...]:
    """The argv of a command that is not run now."""
    if command.shell_form:
        return (*shell_of(state), *command.words) if command.words else ()
    return command.words


def _entrypoint(one: Entrypoint, state: StageState, _: Surroundings) -> StageState:
    changed = state.setting(entrypoint=_arguments(one.command, state))
    return changed if state.command_set else changed.setting(default_args=())


def _cmd(one: Cmd, state: StageState, _: Surroundings) -> StageState:
    changed = state.setting(default_args=_arguments(one.command, state), args_escaped=True)
    return replace(changed, command_set=True)


def _healthcheck(one: HealthCheck, state: StageState, _: Surroundings) -> StageState:
    if one.command is None:
        return state.setting(healthcheck=None, no_healthcheck=True)
    check = Healthcheck(
        args=one.command.words,
        shell=one.command.shell_form,
        interval=one.interval,
        timeout=one.timeout,
        start_period=one.start_period,
        start_interval=one.start_interval,
        retries=one.retries,
    )
    return state.setting(healthcheck=check, no_healthcheck=False)


def _stop_signal(one: StopSignal, state: StageState, _: Surroundings) -> StageState:
    name = state.expand(one.signal)
    plain = name.upper().removeprefix("SIG")
    known = {found.name.removeprefix("SIG") for found in signal.Signals}
    is_number = name.isascii() and name.isdigit() and len(name) < 4 and 0 < int(name) <= 64
    if not is_number and plain not in known and not _REAL_TIME.fullmatch(plain):
        near = nearest(plain, known)
        raise BadWords(
            f"the signal {name!r}", "SIGTERM, SIGINT, 15 ..." + (f" ({near})" if near else "")
        )
    return state.setting(stop_signal=name)


def _volume(one: Volume, state: StageState, _: Surroundings) -> StageState:
    paths = [state.expand(path) for path in one.paths]
    if not all(paths):
        raise BadWords("an empty path", "a path")
    return state.setting(volumes=tuple(sorted({*state.container.volumes, *paths})))


def _on_build(one: OnBuild, state: StageState, _: Surroundings) -> StageState:
    return state.setting(on_build=(*state.container.on_build, one.trigger))


def _maintainer(one: Maintainer, state: StageState, _: Surroundings) -> StageState:
    return state.setting(author=one.name)


_LOWER: dict[type[Instruction], Callable[[Any, StageState, Surroundings], StageState]] = {
    Arg: _arg,
    Cmd: _cmd,
    Copy: lower_copy,
    Entrypoint: _entrypoint,
    Env: _env,
    Expose: _expose,
    HealthCheck: _healthcheck,
    Label: _label,
    Maintainer: _maintainer,
    OnBuild: _on_build,
    Run: lower_run,
    Shell: _shell,
    StopSignal: _stop_signal,
    User: _user,
    Volume: _volume,
    Workdir: _workdir,
}
