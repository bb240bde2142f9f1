"""A quick look at whether a query is valid, for the queries that SDKs send."""

from __future__ import annotations

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    get_named_type,
    is_leaf_type,
    is_required_argument,
)

__all__ = ["field_count", "is_plainly_valid"]


def is_plainly_valid(schema: GraphQLSchema, document: DocumentNode) -> bool:
    """One anonymous query of fields and inline fragments, and valid.

    False says nothing: the full validation, which takes ten times as long, must tell then.
    Values of arguments are not looked at; the executor checks them.
    """
    if len(document.definitions) != 1:
        return False
    operation = document.definitions[0]
    if (
        not isinstance(operation, OperationDefinitionNode)
        or operation.variable_definitions
        or operation.directives
        or schema.query_type is None
        or operation.operation.value != "query"
    ):
        return False
    pending: list[tuple[SelectionNode, GraphQLNamedType]] = [
        (selection, schema.query_type) for selection in operation.selection_set.selections
    ]
    while pending:
        selection, parent = pending.pop()
        inner = _inner(schema, selection, parent)
        if inner is None:
            return False
        chosen = getattr(selection, "selection_set", None)
        if is_leaf_type(inner) != (chosen is None):
            return False
        if chosen is not None:
            pending += [(below, inner) for below in chosen.selections]
    return True


def _inner(  # noqa: PLR0911 - each way of not being plain
    schema: GraphQLSchema, selection: SelectionNode, parent: GraphQLNamedType
) -> GraphQLNamedType | None:
    """The type within the selection; None where it cannot be said to be valid."""
    if selection.directives or not isinstance(parent, GraphQLObjectType | GraphQLInterfaceType):
        return None
    if isinstance(selection, InlineFragmentNode):
        condition = selection.type_condition
        found = schema.type_map.get(condition.name.value) if condition else parent
        return found if isinstance(found, GraphQLObjectType | GraphQLInterfaceType) else None
    if not isinstance(selection, FieldNode):
        return None
    field = parent.fields.get(selection.name.value)
    if field is None:
        return None
    given = {argument.name.value for argument in selection.arguments or ()}
    if len(given) != len(selection.arguments or ()) or not given <= field.args.keys():
        return None
    for name, argument in field.args.items():
        if name not in given and is_required_argument(argument):
            return None
    inner: GraphQLNamedType = get_named_type(field.type)
    return inner


def field_count(document: DocumentNode) -> int:
    """Fields of its operations, each fragment counted where it is spread.

    A few fragments that spread each other twice make billions. One that spreads itself is another
    error, and counts nothing here.
    """
    fragments = {
        each.name.value: each
        for each in document.definitions
        if isinstance(each, FragmentDefinitionNode)
    }
    known: dict[str, int] = {}

    def of_fragment(name: str) -> int:
        if name not in known:
            known[name] = 0
            known[name] = of(fragments[name].selection_set) if name in fragments else 0
        return known[name]

    def of(selections: SelectionSetNode | None) -> int:
        total = 0
        for each in selections.selections if selections else ():
            if isinstance(each, FragmentSpreadNode):
                total += of_fragment(each.name.value)
            elif isinstance(each, FieldNode | InlineFragmentNode):
                total += 1 + of(each.selection_set)
        return total

    return sum(
        of(each.selection_set)
        for each in document.definitions
        if isinstance(each, OperationDefinitionNode)
    )
