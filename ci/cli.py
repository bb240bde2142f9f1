"""``ci``: the functions of ``Ci`` as commands, without Docker. Prints, and maps exit codes.

Data goes to stdout, everything else to stderr. Exit codes: 0 passed, 1 the code is at fault, 2 the
tool or the machine is (or nothing can be said), 64 bad usage or configuration, 130 interrupted.
"""

from __future__ import annotations

import inspect
import os
import sys
import tempfile
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import anyio
import dagger
from cyclopts import App, CycloptsError, Parameter

from ci import commands, log, signature
from ci.errors import CiError, ConfigError
from ci.flow import NotPassedError
from ci.graph import nearest
from ci.module import Ci, RunNotPassed
from ci.results import check, follow, rendered, save
from ci.workspace import HostWorkspace

__all__ = ["main"]

#: What a shell gives a command that SIGINT ended: 128 and the signal's number.
INTERRUPTED = 130
ERRORED = 2

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


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit by its outcome. No traceback reaches the user."""
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    log.configure(verbose="--verbose" in tokens or "-v" in tokens)
    try:
        code = _run(tokens)
    except (NotPassedError, RunNotPassed) as error:  # the display has told why
        code = error.exit_code
    except CiError as error:
        print(f"ci: {error}", file=sys.stderr)
        code = error.exit_code or ERRORED
    except dagger.ExecError as error:
        print(f"ci: {error}\n{error.stdout}{error.stderr}", file=sys.stderr)
        code = ERRORED
    except dagger.DaggerError as error:
        print(f"ci: {error}", file=sys.stderr)
        code = ERRORED
    except KeyboardInterrupt:
        print("ci: interrupted", file=sys.stderr)
        code = INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:  # noqa: BLE001 - the last resort: a bug of ours
        code = _unexpected(error)
    sys.exit(code)


def build() -> App:
    """The application: a command for each function of ``Ci``, and those that need this machine."""
    app = App(
        name="ci",
        help="Takes a commit to production: the stages of a pipeline, and the pipeline.",
        help_format="markdown",
        version=lambda: version("towpath"),
    )
    for name, function in signature.functions(Ci):
        app.command(_derived(name, function), name=name)
    commands.register(app)
    app.register_install_completion_command()
    return app


def _run(tokens: Sequence[str]) -> int:
    """The exit code of a command line."""
    try:
        result = build()(
            tokens, exit_on_error=False, print_error=False, result_action="return_value"
        )
    except CycloptsError as error:
        raise _misused(error) from None
    except BaseExceptionGroup as group:
        raise _first(group) from None
    return result if isinstance(result, int) else 0


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
        return anyio.run(
            partial(commands.within_engine, work, source=source, json=json, plain=plain)
        )

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


def _misused(error: CycloptsError) -> ConfigError:
    """A complaint of the command line's parser, in our words."""
    said = str(error).strip().splitlines()[0].rstrip(".").replace(", ...", "")
    chain = " ".join(["ci", *(error.command_chain or ())])
    return ConfigError(said[0].lower() + said[1:], hint=f"{chain} --help tells what there is")


def _annotation(flag: signature.Flag) -> Any:  # noqa: ANN401 - a type
    typed = flag.typed if flag.required or flag.default is not None else flag.typed | None
    return Annotated[typed, Parameter(help=flag.doc, negative="")]


def _source(typed: Mapping[str, Any]) -> Path:
    """The folder to run on.

    Raises:
        ConfigError: it is none.
    """
    source = Path(typed.get("source") or ".")
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


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one that matters of several: an interruption, else an error of ours, else the first."""
    flat = [
        _first(error) if isinstance(error, BaseExceptionGroup) else error
        for error in group.exceptions
    ]
    for kind in (KeyboardInterrupt, CiError, dagger.DaggerError):
        for error in flat:
            if isinstance(error, kind):
                return error
    return flat[0]


def _unexpected(error: Exception) -> int:
    """Keep the traceback in a file and say where it is."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="towpath-", suffix=".traceback", delete=False
    ) as file:
        traceback.print_exception(error, file=file)
    print(
        f"ci: unexpected {type(error).__name__}: {error}\n"
        f"hint: this is a fault of Towpath; its traceback is in {file.name}",
        file=sys.stderr,
    )
    return ERRORED
