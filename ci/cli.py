"""``ci``: the functions of ``Ci`` as commands, without Docker. Prints, and maps exit codes.

Data goes to stdout, everything else to stderr. Exit codes are those of ``ci.exits``.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from importlib.metadata import version

from cyclopts import App, CycloptsError, UnknownCommandError

from ci import commands, engine_commands, exits, log, outline
from ci.errors import CiError, ConfigError, foremost
from ci.graph import nearest

__all__ = ["build", "main", "needs_sdk"]

#: What asks for the list of commands.
_LISTS: Sequence[Sequence[str]] = ([], ["--help"], ["-h"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit by its outcome. No traceback reaches the user."""
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    log.configure(verbose="--verbose" in tokens or "-v" in tokens)
    try:
        code = _run(tokens)
    except CiError as error:
        print(f"ci: {error}", file=sys.stderr)
        code = error.exit_code or exits.ERRORED
    except KeyboardInterrupt:
        print("ci: interrupted", file=sys.stderr)
        code = exits.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = exits.PASSED
    except Exception as error:  # noqa: BLE001 - the last resort: a bug of ours
        code = _unexpected(error)
    sys.exit(code)


def needs_sdk(tokens: Sequence[str]) -> bool:
    """A command line that is about the functions of ``Ci``, and more than what they are called."""
    return list(tokens) not in _LISTS and tokens[0] not in _without_sdk()


def build(tokens: Sequence[str] | None = None) -> App:
    """The application: a command for each function of ``Ci``, and those that need this machine.

    For ``tokens`` that need no SDK, it has no more than these take.
    """
    app = _without_sdk()
    if tokens is None or needs_sdk(tokens):
        from ci import derived  # noqa: PLC0415 - imports the SDK

        derived.register(app)
    elif list(tokens) in _LISTS:
        outline.register(app)
    app.register_install_completion_command()
    return app


def _without_sdk() -> App:
    """The application with the commands that import no SDK."""
    app = App(
        name="ci",
        help="Takes a commit to production: the stages of a pipeline, and the pipeline.",
        help_format="markdown",
        version=lambda: version("towpath"),
    )
    engine_commands.register(app)
    commands.register(app)
    return app


def _run(tokens: Sequence[str]) -> int:
    """The exit code of a command line."""
    try:
        result = build(tokens)(
            tokens, exit_on_error=False, print_error=False, result_action="return_value"
        )
    except CycloptsError as error:
        raise _misused(error) from None
    except BaseExceptionGroup as group:
        raise foremost(group, (KeyboardInterrupt, CiError)) from None
    return result if isinstance(result, int) else exits.PASSED


def _misused(error: CycloptsError) -> ConfigError:
    """A complaint of the command line's parser, in our words."""
    if isinstance(error, UnknownCommandError) and error.unused_tokens and error.app:
        token = error.unused_tokens[0]
        known = [name for name in error.app if not name.startswith("-")]
        near = nearest(token, known)
        return ConfigError(
            f"command {token}",
            got="no command of " + " ".join(["ci", *(error.command_chain or ())]),
            expected="one of " + ", ".join(sorted(known)),
            hint=f"did you mean {near}?" if near else "",
        )
    said = str(error).strip().splitlines()[0].rstrip(".").replace(", ...", "")
    chain = " ".join(["ci", *(error.command_chain or ())])
    return ConfigError(said[0].lower() + said[1:], hint=f"{chain} --help tells what there is")


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
    return exits.ERRORED
