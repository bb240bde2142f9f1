"""Queries: GraphQL text in, a response that JSON can hold out; no traceback ever leaves."""

from __future__ import annotations

import errno
import sys
from collections import OrderedDict
from collections.abc import Mapping
from functools import cached_property
from hashlib import sha256
from traceback import format_exception
from typing import Any, Protocol

import structlog
from graphql import (
    DocumentNode,
    ExecutionResult,
    FieldNode,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    execute,
    execute_sync,
    specified_rules,
    validate,
)
from graphql import __version__ as graphql_version

from ci.engine.api.context import Context
from ci.engine.api.schema import SDL, UNSERVED, build, build_whole
from ci.engine.api.validation import field_count, is_plainly_valid
from ci.engine.parsing import DEPTH_LIMIT, parse
from ci.engine.refusal import Refusal
from ci.engine.vertices.execution import ExecFailed
from ci.errors import CiError

__all__ = ["FIELD_LIMIT", "OUTPUT_LIMIT", "Queries", "exec_error", "log_crash"]

#: What an error holds of each output stream, in bytes; the last of it, as Dagger does.
OUTPUT_LIMIT = 100 * 1024

#: graphql-core's parser and executor call themselves for each level.
_FRAMES_PER_LEVEL = 12

_DOCUMENTS_KEPT = 512
#: Longer queries are written for one file's content, and never asked again.
_KEPT_LENGTH = 1 << 16
_INTROSPECTIONS_KEPT = 16

#: Fields that a query may come to when its fragments are put in their places.
FIELD_LIMIT = 20_000

#: Not needed to execute safely, and slow, or (PossibleFragmentSpreads) stricter than Dagger's.
_SKIPPED_RULES = {"OverlappingFieldsCanBeMergedRule", "PossibleFragmentSpreadsRule"}

_log = structlog.get_logger()

_Fitting = tuple[GraphQLSchema, DocumentNode]


class Records(Protocol):
    """Where introspection answers are kept from session to session: the store."""

    def get(self, kind: str, key: str) -> dict[str, Any] | None:
        """The record, or None."""
        ...

    def put(self, kind: str, key: str, value: dict[str, Any]) -> None:
        """Keep a record."""
        ...


class Queries:
    """Executes GraphQL queries. Parsed documents and introspection answers are kept."""

    def __init__(self, records: Records | None = None) -> None:
        self._records = records
        sys.setrecursionlimit(max(sys.getrecursionlimit(), DEPTH_LIMIT * _FRAMES_PER_LEVEL))
        self.schema: GraphQLSchema = build()
        self._rules = [rule for rule in specified_rules if rule.__name__ not in _SKIPPED_RULES]
        self._documents: OrderedDict[str, _Fitting] = OrderedDict()
        self._introspections: OrderedDict[str, dict[str, Any]] = OrderedDict()

    async def execute(
        self,
        text: str,
        context: Context,
        *,
        variables: Mapping[str, Any] | None = None,
        operation: str | None = None,
    ) -> dict[str, Any]:
        """The response: ``data``, and ``errors`` where there are any."""
        try:
            schema, document = self._document(text)
        except GraphQLError as error:
            return {"data": None, "errors": [describe(error)]}
        except _Invalid as invalid:
            return {"data": None, "errors": [describe(error) for error in invalid.errors]}
        if _is_introspection(document):
            return self._introspect(text, document)
        result = execute(
            schema,
            document,
            context_value=context,
            variable_values=dict(variables or {}),
            operation_name=operation,
        )
        done = result if isinstance(result, ExecutionResult) else await result
        response: dict[str, Any] = {"data": done.data}
        if done.errors:
            response["errors"] = [describe(error) for error in done.errors]
        return response

    def _introspect(self, text: str, document: DocumentNode) -> dict[str, Any]:
        """The answer about the schema, which is the same each time."""
        if text not in self._introspections:
            sdl = SDL.read_text(encoding="utf-8") + UNSERVED.read_text(encoding="utf-8")
            key = sha256(f"{graphql_version}\x00{sdl}\x00{text}".encode()).hexdigest()
            kept = self._records.get("introspection", key) if self._records else None
            if kept is None:
                result = execute_sync(self._whole, document)
                if result.errors:
                    return {"data": None, "errors": [describe(error) for error in result.errors]}
                kept = {"data": result.data}
                if self._records:
                    self._records.put("introspection", key, kept)
            self._introspections[text] = kept
            if len(self._introspections) > _INTROSPECTIONS_KEPT:
                self._introspections.popitem(last=False)
        return self._introspections[text]

    @cached_property
    def _whole(self) -> GraphQLSchema:
        """With what SDKs know beside what is served: such a field answers by its name."""
        return build_whole()

    def _document(self, text: str) -> _Fitting:
        """The parsed and validated document, and the schema that it fits."""
        if known := self._documents.get(text):
            self._documents.move_to_end(text)
            return known
        schema, document = self.schema, parse(text)
        if not is_plainly_valid(schema, document):
            if field_count(document) > FIELD_LIMIT:
                raise GraphQLError(f"query: got more than {FIELD_LIMIT} fields")
            if self._errors(schema, document):
                schema = self._whole
                if errors := self._errors(schema, document):
                    raise _Invalid(errors)
        if len(text) <= _KEPT_LENGTH:
            self._documents[text] = schema, document
            if len(self._documents) > _DOCUMENTS_KEPT:
                self._documents.popitem(last=False)
        return schema, document

    def _errors(self, schema: GraphQLSchema, document: DocumentNode) -> list[GraphQLError]:
        return validate(schema, document, self._rules, max_errors=5)


class _Invalid(Exception):
    """The document does not fit the schema."""

    def __init__(self, errors: list[GraphQLError]) -> None:
        super().__init__(errors)
        self.errors = errors


def _is_introspection(document: DocumentNode) -> bool:
    """It asks of the schema only, so that its answer never changes."""
    operations = [d for d in document.definitions if isinstance(d, OperationDefinitionNode)]
    return len(operations) == 1 and all(
        isinstance(selection, FieldNode) and selection.name.value in ("__schema", "__type")
        for selection in operations[0].selection_set.selections
    )


# -- errors --------------------------------------------------------------------------------------


def describe(error: GraphQLError) -> dict[str, Any]:
    """The error as the response holds it."""
    described: dict[str, Any] = {"message": error.message}
    cause = _told(error.original_error)
    if isinstance(cause, ExecFailed):
        described |= exec_error(cause)
    elif isinstance(cause, CiError):
        described["message"] = str(cause)
        if isinstance(cause, Refusal) and cause.extensions:
            described["extensions"] = dict(cause.extensions)
    elif isinstance(cause, OSError) and cause.errno == errno.ENAMETOOLONG:
        described["message"] = str(Refusal("path", got="a name that is too long"))
    elif cause is not None and not isinstance(cause, GraphQLError):
        place = ".".join(map(str, error.path or ()))
        log_crash(cause, place)
        described["message"] = (
            f"internal error of the engine at {place}: {type(cause).__name__}: {cause}"
        )
    if error.path:
        described["path"] = list(error.path)
    if error.locations:
        described["locations"] = [location.formatted for location in error.locations]
    return described


def _told(cause: BaseException | None) -> BaseException | None:
    """Of a group of errors, the first that was raised on purpose; else the error itself."""
    if not isinstance(cause, BaseExceptionGroup):
        return cause
    on_purpose, _ = cause.split(CiError)
    found: BaseException | None = on_purpose
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found or cause


def log_crash(error: BaseException, place: str = "") -> None:
    """Log what nobody foresaw: the frames, never the values in them."""
    _log.error("query.crashed", path=place, traceback="".join(format_exception(error)))


def exec_error(failed: ExecFailed) -> dict[str, Any]:
    """Message and extensions of a failed exec, from which SDKs make their ExecError."""
    return {
        "message": failed.got,
        "extensions": {
            "_type": "EXEC_ERROR",
            "cmd": list(failed.cmd),
            "exitCode": failed.code,
            "stdout": capped(failed.stdout),
            "stderr": capped(failed.stderr),
        },
    }


def capped(output: str, limit: int = OUTPUT_LIMIT) -> str:
    """The end of an output, trimmed."""
    data = output.strip().encode("utf-8", "replace")
    if len(data) <= limit:
        return output.strip()
    return f"[omitting {len(data) - limit} bytes]..." + data[-limit:].decode("utf-8", "ignore")
