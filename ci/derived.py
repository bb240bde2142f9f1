"""The functions of ``Ci`` as commands: flags, docs and types of each, and what it comes to."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import anyio
import dagger
from cyclopts import App, Parameter

from ci import foreground, signature
from ci.errors import CiError, ConfigError, foremost
from ci.flow import NotPassedError
from ci.graph import nearest
from ci.module import Ci, RunNotPassed
from ci.results import check, follow, rendered, save
from ci.workspace import HostWorkspace

__all__ = ["register"]

Words = Annotated[
    str,
    Parameter(
        help="Fields and functions to select from the result, as `dagger call` does.",
        allow_leading_hyphen=True,
    ),
]
Output = Annotated[
    Path | None,
    Parameter(name=["--output", "-o"], help="Write the result to this path instead of printing."),
]
Json = Annotated[bool, Parameter(name="--json", negative="", help="Events as lines of JSON.")]
Plain = Annotated[bool, Parameter(name="--plain", negative="", help="Plain lines, no live tree.")]
Verbose = Annotated[bool, Parameter(name=["--verbose", "-v"], negative="", help="Log more.")]


class SdkError(CiError):
    """What the SDK, or the engine behind it, complains of."""

    def __init__(self, error: dagger.DaggerError) -> None:
        said = f"\n{error.stdout}{error.stderr}" if isinstance(error, dagger.ExecError) else ""
        super().__init__(f"{error}{said}")


def register(app: App) -> None:
    """Add a command for each function of ``Ci``."""
    for name, function in signature.functions(Ci):
        app.command(_derived(name, function), name=name)


def _derived(name: str, function: Callable[..., Awaitable[Any]]) -> Callable[..., int]:
    """A function of ``Ci`` as a command: its flags and docs, and ``--output`` and the like."""
    flags = signature.flags(function)

    def command(
        *words: str,
        output: Path | None = None,
        json: bool = False,
        plain: bool = False,
        verbose: bool = False,  # noqa: ARG001 - read by main, before any command
        **typed: Any,
    ) -> int:
        if words and words[0].startswith("-"):
            raise _unknown_option(words[0], [flag.name for flag in flags])
        check(inspect.signature(function, eval_str=True).return_annotation, words)
        source = _source(typed)
        work = partial(_call, function, typed, words, output)
        return _ran(partial(foreground.within_engine, work, source=source, json=json, plain=plain))

    command.__name__ = name
    command.__doc__ = signature.summary(function)
    fixed = [
        ("output", Output, None), ("json", Json, False), ("plain", Plain, False),
        ("verbose", Verbose, False),
    ]  # fmt: skip
    own = [(flag.name, _annotation(flag), flag.default) for flag in flags]
    words = inspect.Parameter("words", inspect.Parameter.VAR_POSITIONAL, annotation=Words)
    keywords = [
        inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, annotation=a, default=d)
        for n, a, d in (*own, *fixed)
    ]
    command.__signature__ = inspect.Signature([words, *keywords])  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in (words, *keywords)}
    return command


def _unknown_option(option: str, names: Sequence[str]) -> ConfigError:
    known = [f"--{name.replace('_', '-')}" for name in (*names, "output", "json", "plain")]
    near = nearest(option.partition("=")[0], known)
    return ConfigError(
        f"option {option}",
        got="no option of this command",
        expected="one of " + ", ".join(known),
        hint=f"did you mean {near}?" if near else "",
    )


def _ran(work: Callable[[], Awaitable[int]]) -> int:
    """The exit code of the work.

    Raises:
        CiError: it failed, or the SDK did.
    """
    try:
        return anyio.run(work)
    except (NotPassedError, RunNotPassed) as error:  # the display has told why
        return error.exit_code
    except dagger.DaggerError as error:
        raise SdkError(error) from None
    except BaseExceptionGroup as group:
        first = foremost(group, (KeyboardInterrupt, CiError, dagger.DaggerError))
        raise SdkError(first) if isinstance(first, dagger.DaggerError) else first from None


def _annotation(flag: signature.Flag) -> Any:  # noqa: ANN401 - a type
    typed = flag.typed if flag.required or flag.default is not None else flag.typed | None
    return Annotated[typed, Parameter(help=flag.doc, negative="")]


def _source(typed: Mapping[str, Any]) -> Path:
    """The folder to run on.

    Raises:
        ConfigError: it is none.
    """
    source = Path(typed.get(signature.SOURCE) or ".")
    if not source.is_dir():
        got = "a file" if source.exists() else "no such folder"
        raise ConfigError(f"--source={source}", got=got, expected="the folder of a repository")
    return source


async def _call(
    function: Callable[..., Awaitable[Any]],
    typed: Mapping[str, Any],
    words: Sequence[str],
    output: Path | None,
) -> str:
    """Call the function as ``dagger call`` would; write what it returns, or give it to print."""
    workspace = HostWorkspace()
    arguments = signature.bind(function, typed, workspace=workspace)
    value = function(Ci(), **arguments)
    value = await follow(await value if inspect.isawaitable(value) else value, words)
    if output is not None:
        await save(value, output)
        return ""
    return await rendered(value)
