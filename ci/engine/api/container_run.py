"""Fields of Container: running commands and services in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ci.engine.api.context import Context
from ci.engine.api.values import ServiceState
from ci.engine.refusal import Refusal, Unsupported
from ci.engine.vertices.container import ContainerState, Healthcheck
from ci.engine.vertices.duration import seconds
from ci.engine.vertices.execution import ExecResult
from ci.engine.vertices.health import DEFAULT_TIMING, HealthTiming
from ci.engine.vertices.vertex import Expect, ServiceSpec

__all__ = ["as_service", "combined_output", "exit_code", "stderr", "stdout", "sync", "with_exec"]


def with_exec(
    container: ContainerState,
    _: Context,
    *,
    args: Sequence[str],
    use_entrypoint: bool,
    stdin: str,
    redirect_stdin: str,
    redirect_stdout: str,
    redirect_stderr: str,
    expect: str,
    experimental_privileged_nesting: bool,
    insecure_root_capabilities: bool,
    expand: bool,
    no_init: bool,
) -> ContainerState:
    """The container after a command; it runs when something of it is asked for."""
    if experimental_privileged_nesting:
        raise Unsupported("Container.withExec(experimentalPrivilegedNesting:)")
    if stdin and redirect_stdin:
        raise Refusal("withExec", got="stdin and redirectStdin", expected="one of them")
    argv = container.command(
        [container.expand(arg) for arg in args] if expand else args,
        use_entrypoint=use_entrypoint,
    )

    def place(path: str) -> str:
        given = container.expand(path) if expand else path
        return container.resolve(given) if given else ""

    ran = container.exec(
        argv,
        stdin=stdin,
        redirect_stdin=place(redirect_stdin),
        redirect_stdout=place(redirect_stdout),
        redirect_stderr=place(redirect_stderr),
        expect=Expect(expect),
        insecure_root_capabilities=insecure_root_capabilities,
        no_init=no_init,
    )
    return container.after(ran)


async def _result(container: ContainerState, ctx: Context) -> ExecResult:
    """How the last exec ended.

    Raises:
        Refusal: there was none.
        ExecFailed: it, or one before it, failed.
    """
    if container.last_exec is None:
        raise Refusal("no command has been set")
    return await ctx.solver.run(container.last_exec)


async def stdout(container: ContainerState, ctx: Context) -> str:
    """What the last exec wrote to its standard output."""
    return (await _result(container, ctx)).stdout


async def stderr(container: ContainerState, ctx: Context) -> str:
    """What the last exec wrote to its standard error."""
    return (await _result(container, ctx)).stderr


async def combined_output(container: ContainerState, ctx: Context) -> str:
    """Both streams of the last exec, in the order in which they came."""
    return (await _result(container, ctx)).combined


async def exit_code(container: ContainerState, ctx: Context) -> int:
    """The exit code of the last exec."""
    return (await _result(container, ctx)).exit_code


async def sync(container: ContainerState, ctx: Context) -> str:
    """The container's ID, once all of it has been evaluated."""
    if container.last_exec is not None:
        await ctx.solver.run(container.last_exec)
    await ctx.solver.snapshot(container.root)
    return ctx.objects.id(container)


def _health_timing(check: Healthcheck) -> HealthTiming:
    """Its times in seconds; where one is not given, Docker's default."""
    given = {
        "interval": check.interval,
        "timeout": check.timeout,
        "start_period": check.start_period,
        "start_interval": check.start_interval,
    }
    times = {name: seconds(text) for name, text in given.items() if text}
    return replace(DEFAULT_TIMING, **times, retries=check.retries or DEFAULT_TIMING.retries)


def as_service(
    container: ContainerState,
    ctx: Context,
    *,
    args: Sequence[str],
    use_entrypoint: bool,
    experimental_privileged_nesting: bool,
    insecure_root_capabilities: bool,
    expand: bool,
    no_init: bool,
) -> ServiceState:
    """A service that runs the container's command."""
    del ctx
    if experimental_privileged_nesting:
        raise Unsupported("Container.asService(experimentalPrivilegedNesting:)")
    argv = container.service_command(
        [container.expand(arg) for arg in args] if expand else args,
        use_entrypoint=use_entrypoint,
    )
    runs = container.exec(
        argv, insecure_root_capabilities=insecure_root_capabilities, no_init=no_init
    )
    check = container.healthcheck
    spec = ServiceSpec(
        exec=runs,
        ports=tuple((p.port, p.protocol, not p.skip_healthcheck) for p in container.ports),
    )
    if check:
        shell = ("/bin/sh", "-c") if check.shell else ()
        spec = replace(spec, healthcheck=(*shell, *check.args), health_timing=_health_timing(check))
    return ServiceState(spec=spec, ports=container.ports)
