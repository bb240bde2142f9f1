"""Dagger's GraphQL API: ``schema.graphql``, and one file of resolvers for each type.

A resolver is a function named as its field (in snake case) and listed in its module's
``__all__``. It takes the object, the Context, and the field's arguments by keyword; null stands
for an argument's default. It returns a value, or an awaitable of one.
"""
